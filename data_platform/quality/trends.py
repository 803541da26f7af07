"""A small picture of one figure over time: what is normal, and the day that is not."""

import base64
from collections.abc import Sequence
from datetime import date

import dagster as dg

WIDTH, HEIGHT = 420, 120  # pixels, as the UI shows it
# A picture is the same in a light and in a dark UI: a card that brings its own ground.
_GROUND, _INK, _QUIET = "#fbfbf9", "#33373d", "#8a919a"
_LINE, _BAND, _ODD = "#2f6db3", "#cfe3f5", "#c8321f"
# Of the greatest to the least value; beyond it equal steps would show nothing but the odd day.
_SPAN_OF_LOGARITHMS = 20


def trend(days: Sequence[date], values: Sequence[float], low: float, high: float, judged: date) -> bytes:
    """A PNG (below 15 KB) of `values` by day, the band from `low` to `high` that is normal, and `judged` marked.

    `low` and `high` are in the unit of the values, and are those of the day `judged`, which is one of `days`.
    """
    # Both take a second to import, and most runs have nothing to show.
    import altair as alt
    import vl_convert

    positive = [value for value in (*values, low, high) if value > 0]
    spread = len(positive) == len(values) + 2 and max(positive) > _SPAN_OF_LOGARITHMS * min(positive)
    scale = alt.Scale(type="log", nice=False) if spread else alt.Scale(zero=False, nice=True)
    points = [
        {"day": day.isoformat(), "value": value, "odd": day == judged} for day, value in zip(days, values, strict=True)
    ]
    x = alt.X("day:T", title=None, axis=alt.Axis(format="%d %b", grid=False, tickCount=6, labelFlush=True))
    y = alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4, format=",.3~r", grid=False))
    band = alt.Chart(alt.InlineData(values=[{"low": low, "high": high}])).mark_rect(color=_BAND, opacity=0.7)
    line = alt.Chart(alt.InlineData(values=points)).encode(x=x, y=y)
    chart = (
        alt.layer(
            band.encode(y=alt.Y("low:Q", title=None, scale=scale), y2="high:Q"),
            line.mark_line(color=_LINE, strokeWidth=1.5),
            line.mark_point(color=_LINE, filled=True, size=10),
            line.transform_filter("datum.odd").mark_point(color=_ODD, filled=True, size=80, opacity=1),
        )
        .properties(width=WIDTH - 70, height=HEIGHT - 45, background=_GROUND, padding=10)
        .configure_view(stroke=None)
        .configure_axis(labelColor=_INK, domainColor=_QUIET, tickColor=_QUIET, labelFontSize=10)
    )
    png: bytes = vl_convert.vegalite_to_png(chart.to_dict(), scale=1)
    return png


def picture(png: bytes, text: str) -> dg.MarkdownMetadataValue:
    """The PNG as metadata that Dagster's UI shows; `text` is what is read out in its place."""
    said = text.replace("[", "(").replace("]", ")")
    return dg.MetadataValue.md(f"![{said}](data:image/png;base64,{base64.b64encode(png).decode()})")
