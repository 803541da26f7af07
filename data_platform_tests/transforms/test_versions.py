"""Observations → versions, without a database: random deliveries against the reference, and function by function."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_platform.contracts import STAGED
from data_platform.lake import Lake
from data_platform.transforms.versions import absences, told_again, versions_of
from data_platform.warehouse.dimensions import DIMENSIONS, derive
from data_platform.warehouse.ledger import Work
from data_platform_tests import reference
from data_platform_tests.cases import OVERWRITTEN, TRACKED
from data_platform_tests.reference import Delivery
from data_platform_tests.warehouse import harness
from data_platform_tests.warehouse.streams import DAYS, TIMEZONES, deliveries

UTC_MICROSECONDS = pl.Datetime("us", "UTC")


@st.composite
def customer_streams(draw: st.DrawFn) -> tuple[str, list[Delivery]]:
    days = draw(st.lists(st.sampled_from(DAYS), unique=True, min_size=1, max_size=6))
    modes = draw(st.sampled_from((("full",), ("changes",), ("full", "changes"))))
    staged = [draw(deliveries("customers", day, draw(st.sampled_from(modes)), None)) for day in days]
    return draw(st.sampled_from(TIMEZONES)), staged


@settings(max_examples=150)
@given(customer_streams())
def test_random_deliveries_give_the_versions_of_the_reference(stream: tuple[str, list[Delivery]]) -> None:
    timezone, staged = stream
    table = STAGED["customers"].table
    with TemporaryDirectory() as folder, harness.contracts_of_the_cases():
        lake = Lake(Path(folder))
        for delivery in staged:
            harness.stage(lake, delivery, timezone)
        stamps = lake.stamps(table)
        work = Work("dim_customer", table, stamps, {}, tuple(stamps), everything=False)
        nowhere: psycopg.Connection[Any] = None  # type: ignore[assignment]
        derived = derive(nowhere, lake, DIMENSIONS["dim_customer"], work, timezone)
    counts: dict[Any, Counter[str]] = {("customers", delivery.day): Counter() for delivery in staged}
    expected = reference.dimension(
        "customers", staged, ZoneInfo(timezone), TRACKED["customers"], OVERWRITTEN["customers"], counts
    )
    versions = derived.versions.with_columns(is_inferred=pl.lit(False)).sort("customer_id", "effective_from")
    names = list(expected[0]) if expected else []
    assert versions.select(names or versions.columns).to_dicts() == sorted(
        expected, key=lambda version: (version["customer_id"], version["effective_from"])
    )
    classes: dict[Any, Counter[str]] = {("customers", delivery.day): Counter() for delivery in staged}
    for day, kind in derived.classes.select("_partition", "class").iter_rows():
        classes["customers", day][kind] += 1
    assert classes == counts


def observations(*rows: tuple[str, str | None, int, bool]) -> pl.DataFrame:
    """Observations of (id, value, January day, deleted), each told on the day it is about."""
    return pl.DataFrame(
        [
            [key, value, deleted, datetime(2024, 1, day, tzinfo=UTC), date(2024, 1, day), "a.csv", number]
            for number, (key, value, day, deleted) in enumerate(rows)
        ],
        schema={
            "id": pl.String,
            "value": pl.String,
            "is_deleted": pl.Boolean,
            "_moment": UTC_MICROSECONDS,
            "_partition": pl.Date,
            "_file": pl.String,
            "_row": pl.Int64,
        },
        orient="row",
    )


def spans(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    return [
        (key, value, start.day, end and end.day)
        for key, value, start, end in rows.select("id", "value", "effective_from", "effective_to").iter_rows()
    ]


def test_versions_are_the_same_whatever_the_order_of_the_rows() -> None:
    seen = observations(("a", "x", 1, False), ("a", "y", 3, False), ("a", None, 5, True), ("b", None, 2, False))
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        made = versions_of(seen[order], key="id", tracked=["value"], unknown={}, timezone="UTC")
        assert spans(made.rows) == [("a", "x", 1, 3), ("a", "y", 3, 5), ("b", None, 2, None)]


def test_no_observation_makes_no_version() -> None:
    made = versions_of(observations(), key="id", tracked=["value"], unknown={}, timezone="UTC")
    assert (made.rows.height, made.classes.height) == (0, 0)


def test_an_unknown_value_is_filled_and_a_null_that_was_told_is_not() -> None:
    seen = observations(("a", None, 1, False), ("a", "x", 2, False), ("b", None, 1, False), ("b", "x", 2, False))
    filled = versions_of(seen, key="id", tracked=["value"], unknown={"value": [date(2024, 1, 1)]}, timezone="UTC")
    assert spans(filled.rows) == [("a", "x", 1, None), ("b", "x", 1, None)]
    told = versions_of(seen, key="id", tracked=["value"], unknown={}, timezone="UTC")
    assert spans(told.rows) == [("a", None, 1, 2), ("a", "x", 2, None), ("b", None, 1, 2), ("b", "x", 2, None)]


@pytest.mark.parametrize("every", [False, True])
def test_a_key_is_absent_from_full_days_after_it_is_known_and_until_it_is_there_again(every: bool) -> None:
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(5)]
    present = pl.DataFrame({"id": ["a", "a"], "_partition": [days[1], days[4]], "observed": [True, True]})
    left = absences(present, key="id", full_days=days, every=every)
    assert left.sort("_partition").rows() == [("a", day) for day in (days[2:4] if every else days[2:3])]


def test_a_key_that_was_only_quarantined_is_not_known() -> None:
    days = [date(2024, 1, 1), date(2024, 1, 2)]
    present = pl.DataFrame({"id": ["a"], "_partition": days[:1], "observed": [False]})
    assert absences(present, key="id", full_days=days, every=False).is_empty()


ROWS = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from(["x", "y", None]),
    st.sampled_from([None, date(2024, 1, 1)]),
    st.sampled_from([False, False, True]),
)


@settings(max_examples=500)
@given(st.data())
def test_what_two_deliveries_say_alike_is_found_wherever_it_stands(data: st.DataObject) -> None:
    before = data.draw(st.lists(ROWS, max_size=6))
    # Much of the first delivery comes again at its place, some elsewhere.
    again = [row if data.draw(st.booleans()) else data.draw(ROWS) for row in before]
    start = data.draw(st.integers(0, 2))
    fresh = again[start:] + data.draw(st.lists(ROWS, max_size=2))
    schema = {"id": pl.String(), "segment": pl.String(), "since": pl.Date(), "is_deleted": pl.Boolean()}
    frames = [pl.DataFrame(rows, schema=schema, orient="row") for rows in (fresh, before)]
    masks = told_again(*frames, key="id", attributes=["segment", "since"])

    def alone(rows: list[Any]) -> list[Any]:
        return [row for row in rows if [other[0] for other in rows].count(row[0]) == 1 and not row[3]]

    alike = [row for row in alone(fresh) if row in alone(before)]
    assert masks[0].to_list() == [row in alike for row in fresh]
    assert masks[1].to_list() == [row in alike for row in before]
