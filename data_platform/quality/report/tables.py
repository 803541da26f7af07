"""Tables of the report, made by great-tables; how they look is the page's style, which knows light and dark."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

import polars as pl
from great_tables import GT, loc, style

from data_platform.quality.report.text import brief, code

# Of each table a style sheet of 8 KB and ids that would collide in one page.
_OWN_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)
_IDS = re.compile(r' (?:id|headers)="[^"]*"(?=[^<>]*>)')


def table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    integers: Collection[str] = (),
    decimals: Collection[str] = (),
    right: Collection[str] = (),
    spanners: Mapping[str, Sequence[str]] | None = None,
    totals: bool = False,
) -> str:
    """`rows` as an HTML table with `columns` (name → heading): cells are escaped, null is empty, numbers to the right.

    `right`: texts that are figures, and so are to the right as well. `spanners`: headings over several columns.
    `totals`: the last row sums up the others.
    """
    numbers = {*integers, *decimals}
    frame = pl.DataFrame(
        {
            name: pl.Series(
                [row.get(name) if name in numbers or row.get(name) is None else brief(row[name]) for row in rows],
                dtype=pl.Int64 if name in integers else pl.Float64 if name in decimals else pl.String,
                strict=False,
            )
            for name in columns
        }
    )
    made = GT(frame, id="t").cols_label(dict(columns)).sub_missing(missing_text="")
    if integers:
        made = made.fmt_integer(columns=list(integers))
    if decimals:
        made = made.fmt_number(columns=list(decimals), decimals=2)
    if right:
        made = made.cols_align("right", columns=list(right))
    days = [name for name in columns if any(isinstance(row.get(name), date) for row in rows)]
    if days:
        made = made.tab_style(style.css("white-space: nowrap"), loc.body(columns=days))
    for label, names in (spanners or {}).items():
        made = made.tab_spanner(label, columns=list(names))
    if totals:
        made = made.tab_style(style.text(weight="bold"), loc.body(rows=[len(rows) - 1]))
    return code(_IDS.sub("", _OWN_STYLE.sub("", made.as_raw_html())))
