"""Tellings of order lines → standing lines, without a database: random deliveries against the reference."""

from collections import Counter
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from data_platform.contracts import STAGED
from data_platform.transforms.lines import TELLING, standing_lines
from data_platform_tests import reference
from data_platform_tests.cases import line, lines, tombstone, whole_orders
from data_platform_tests.reference import Delivery
from data_platform_tests.warehouse.streams import DAYS, TIMEZONES, deliveries

SCHEMA = STAGED["orders"].polars_schema
FLAGS = ("_unit_order", "_present_only")
COLUMNS: dict[str, Any] = {
    **{name: SCHEMA[name] for name in ("order_id", "line_number", *TELLING, "total_amount", "is_tombstone")},
    "_moment": pl.Datetime("us", "UTC"),
    "_partition": pl.Date,
    "_file": pl.String,
    "_row": pl.Int64,
    "_unit_order": pl.Boolean,
    "_present_only": pl.Boolean,
}


def tellings(staged: list[Delivery], timezone: str) -> pl.DataFrame:
    """What the engine hands to `standing_lines`: staged rows, and the keys of quarantined ones under unit: order."""
    rows: list[dict[str, Any]] = []
    for delivery in staged:
        start = datetime.combine(delivery.day, time(), ZoneInfo(timezone)).astimezone(UTC)
        lineage = {"_partition": delivery.day, "_unit_order": delivery.unit == "order"}
        rows += [
            {name: row.get(name) for name in SCHEMA if name in COLUMNS}
            | lineage
            | {"is_tombstone": row["deleted"], "_moment": row["updated_at"] or start, "_present_only": False}
            | {"_file": row["file"], "_row": row["row"]}
            for row in delivery.rows
        ]
        if delivery.unit == "order":
            rows += [
                {"order_id": row["order_id"], "line_number": row["line_number"], "is_tombstone": False}
                | lineage
                | {"_present_only": True, "_file": row["file"], "_row": row["row"]}
                for row in delivery.quarantined
            ]
    return pl.DataFrame(rows, schema=COLUMNS)


def standing(staged: list[Delivery], timezone: str = "UTC") -> tuple[dict[Any, Any], dict[date, Counter[str]]]:
    told = standing_lines(tellings(staged, timezone))
    found = {
        (row["order_id"], row["line_number"]): tuple(row[name] for name in (*TELLING, "delivered_on", "_moment"))
        for row in told.lines.iter_rows(named=True)
    }
    assert len(found) == told.lines.height, "a line stands once"
    classes: dict[date, Counter[str]] = {delivery.day: Counter() for delivery in staged}
    for day, kind in told.classes.select("_partition", "class").iter_rows():
        classes[day][kind] += 1
    return found, classes


def expected(staged: list[Delivery], timezone: str = "UTC") -> tuple[dict[Any, Any], dict[date, Counter[str]]]:
    counts: dict[Any, Counter[str]] = {("orders", delivery.day): Counter() for delivery in staged}
    runs = reference.standing_lines(staged, ZoneInfo(timezone), counts)
    found = {
        key: (*(reference.told(run[-1])[name] for name in TELLING), run[0].day, run[0].moment)
        for key, run in runs.items()
    }
    return found, {day: counter for (_, day), counter in counts.items()}


@st.composite
def order_streams(draw: st.DrawFn) -> tuple[str, list[Delivery]]:
    days = draw(st.lists(st.sampled_from(DAYS), unique=True, min_size=1, max_size=5))
    units: st.SearchStrategy[str | None] = st.sampled_from(("line", "order", None))
    unit = draw(units)
    return draw(st.sampled_from(TIMEZONES)), [draw(deliveries("orders", day, "changes", unit)) for day in days]


@settings(max_examples=400)
@given(order_streams())
def test_random_tellings_stand_as_the_reference_says(stream: tuple[str, list[Delivery]]) -> None:
    timezone, staged = stream
    assert standing(staged, timezone) == expected(staged, timezone)


def test_orders_told_once_take_the_short_cut_with_the_same_result() -> None:
    easy = lines(2, line("o1", 1), line("o1", 2, quantity=-1))
    hard = lines(3, line("o2", 1), line("o2", 1))
    found, classes = standing([easy, hard])
    assert found == expected([easy, hard])[0]
    assert classes == {
        date(2024, 1, 2): Counter(sale=1, **{"return": 1}),
        date(2024, 1, 3): Counter(sale=1, superseded=1),
    }


def test_a_tombstone_of_a_whole_order_ends_its_quarantined_lines_and_what_follows_is_told_anew() -> None:
    staged = [
        whole_orders(2, line("o1", 1), line("o1", 2), line("o1", 3)),
        whole_orders(3, tombstone("o1", 1), line("o1", 3), quarantined=({"order_id": "o1", "line_number": 2},)),
    ]
    found, _ = standing(staged)
    assert {key: values[-2] for key, values in found.items()} == {("o1", 3): date(2024, 1, 3)}


def test_nothing_told_gives_nothing() -> None:
    assert standing([]) == ({}, {})
