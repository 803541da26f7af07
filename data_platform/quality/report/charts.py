"""Charts of the report, made by altair, drawn by vl-convert as SVG that stands in the page.

Not with embedded vega: its bundle is 0.9 MB of JavaScript in every report, and a page that runs scripts cannot forbid
those that data may hold. As SVG a chart takes its colours from the page, light or dark, needs no script, prints, and
shows its figures as the browser's own tooltips.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from data_platform.quality.report.text import brief

STATES = ("passed", "info", "warning", "critical")
_CELL = 18
_LABELS = 210
_WIDTH, _HEIGHT = 380, 110
# Up to so many partitions have a dot each, which bears the day's figure; more could not be told apart.
_DOTS = 100
_NEEDLESS = re.compile(r' (?:xmlns(?::xlink)?|aria-roledescription|role|class|font-family)="[^"]*"')
_MARK = re.compile(r'<path aria-label="([^"]*)" ([^>]*?)/>')
_INK, _FAINT, _LINE, _BAD = "currentColor", "var(--faint)", "var(--series)", "var(--critical)"


def heat_map(cells: pl.DataFrame, partitions: Sequence[date]) -> str:
    """A row a rule, a column a partition: a small mark where it passed, a square where it failed, more the fuller.

    `cells`: rule, partition (ISO date), state (of STATES), weight (0 to 1), says (the tooltip).
    """
    order = [day.isoformat() for day in partitions]
    rules = cells.get_column("rule").unique(maintain_order=True).to_list()
    columns = (
        alt.X("partition:O").scale(domain=order).title(None).axis(labelAngle=-90, labelExpr="slice(datum.label, 5)")
    )
    rows = alt.Y("rule:N").scale(domain=rules).title(None).axis(minExtent=_LABELS, maxExtent=_LABELS)
    base = alt.Chart(_values(cells)).encode(x=columns, y=rows, description="says:N")
    passed = base.transform_filter("datum.state == 'passed'").mark_point(
        shape="circle", filled=True, size=18, color="var(--passed)", opacity=1
    )
    colours = [f"var(--{state})" for state in STATES]
    failed = (
        base.transform_filter("datum.state != 'passed'")
        .mark_rect(cornerRadius=2, stroke="var(--page)", strokeWidth=1)
        .encode(
            color=alt.Color("state:N").scale(domain=list(STATES), range=colours).legend(None),
            fillOpacity=alt.FillOpacity("weight:Q").scale(domain=[0, 1], range=[0.3, 1]).legend(None),
        )
    )
    return _svg((passed + failed).properties(width=_CELL * len(order), height=_CELL * len(rules)))


def series(points: Mapping[date, float], told: Mapping[date, str], *, percent: bool = False, zero: bool = True) -> str:
    """A figure over the partitions, with a mark on those of which `told` has something to say."""
    rows = [
        {"day": day.isoformat(), "value": value, "says": told.get(day, f"{day}: {value:,.4g}"), "odd": day in told}
        for day, value in points.items()
    ]
    frame = pl.DataFrame(rows, schema={"day": pl.String, "value": pl.Float64, "says": pl.String, "odd": pl.Boolean})
    days = alt.X("day:T").title(None).axis(format="%Y-%m-%d", tickCount=4, labelOverlap=True)
    values = alt.Y("value:Q").title(None).scale(zero=zero).axis(format=".0%" if percent else "~s", tickCount=4)
    base = alt.Chart(_values(frame)).encode(x=days, y=values)
    line = base.mark_line(color=_LINE, strokeWidth=1.2, interpolate="linear")
    odd = base.transform_filter("datum.odd").mark_circle(color=_BAD, size=42, opacity=1).encode(description="says:N")
    if len(rows) > _DOTS:
        return _svg((line + odd).properties(width=_WIDTH, height=_HEIGHT))
    usual = (
        base.transform_filter("!datum.odd").mark_circle(color=_LINE, size=20, opacity=1).encode(description="says:N")
    )
    return _svg((line + usual + odd).properties(width=_WIDTH, height=_HEIGHT))


def _values(frame: pl.DataFrame) -> alt.InlineData:
    rows = [
        {name: brief(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in frame.iter_rows(named=True)
    ]
    return alt.InlineData(values=rows)


def _svg(chart: Any) -> str:
    """The chart without anything that names a host, its tooltips as titles, its text in the page's own colour."""
    themed = (
        chart.configure(background="transparent", font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_INK, domainColor=_FAINT, tickColor=_FAINT, gridColor=_FAINT, gridOpacity=0.35, labelFontSize=11,
            labelLimit=_LABELS - 10,
        )
    )  # fmt: skip
    drawn = vl_convert.vegalite_to_svg(themed.to_dict())
    drawn = _NEEDLESS.sub("", drawn)
    return _MARK.sub(r"<path \2><title>\1</title></path>", drawn)
