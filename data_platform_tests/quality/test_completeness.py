"""Completeness: days that were left out, days without a delivery, and how far a source is behind."""

from datetime import date, timedelta

import dagster as dg
import pytest

from data_platform.assets.quality import (
    GAPS,
    TRADING,
    WAITING,
    WATCH,
    YESTERDAY,
    as_of,
    completeness_results,
    quarantine_result,
)
from data_platform.lake import Stamp
from data_platform.quality.completeness import QUARANTINE_DAYS, WINDOW_DAYS, Completeness, completeness
from data_platform.resources import Platform
from data_platform.settings import read_settings
from data_platform.sources.config import Source

FRIDAY = date(2024, 3, 1)
SOURCE = Source(entity="orders")
WEEKDAYS = Source(entity="orders", closed_on=("sat", "sun"))


def stamps(*days: int, undelivered: tuple[int, ...] = ()) -> dict[date, Stamp]:
    """Partitions so many days after the Friday."""
    return {
        FRIDAY + timedelta(days=n): Stamp(content="", delivered=n not in undelivered) for n in (*days, *undelivered)
    }


def on(n: int) -> date:
    return FRIDAY + timedelta(days=n)


def test_a_source_that_delivers_every_day_lacks_nothing() -> None:
    found = completeness(stamps(0, 1, 2, 3), SOURCE, on(4))
    assert found == Completeness(on(3), on(3), judged=4)
    assert all(result.passed for result in completeness_results("raw_orders", found, strict=False))


def test_a_source_that_never_delivered_fails_where_it_is_watched() -> None:
    for none in ({}, stamps(undelivered=(0, 1))):
        found = completeness(none, SOURCE, on(4))
        assert found == Completeness(None, on(3))
        never = {strict: next(completeness_results("raw_orders", found, strict=strict)) for strict in (False, True)}
        assert {result.description for result in never.values()} == {"Nothing was ever delivered."}
        assert (never[False].passed, never[True].passed) == (True, False), "a watch tells of a wrong landing folder"


def test_a_source_that_is_always_closed_is_not_missed() -> None:
    closed = Source(entity="customers", closed_on=("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
    found = completeness({}, closed, on(4))
    assert all(result.passed for result in completeness_results("raw_customers", found, strict=True))


def test_gaps_are_days_that_were_left_out_and_not_those_after_the_newest() -> None:
    found = completeness(stamps(0, 2, 5), SOURCE, on(8))
    assert found.gaps == (on(1), on(3), on(4))
    assert found.behind == 2
    results = {result.check_name: result for result in completeness_results("raw_orders", found, strict=False)}
    assert not results[GAPS].passed
    assert "2024-03-02, 2024-03-04, 2024-03-05" in (results[GAPS].description or "")
    assert not results[YESTERDAY].passed
    assert "since 2024-03-06: 2 expected days up to 2024-03-08" in (results[YESTERDAY].description or "")
    assert results[TRADING].passed


def test_days_without_a_delivery_are_told_but_for_closed_weekdays() -> None:
    days = stamps(0, 3, undelivered=(1, 2, 4))
    assert completeness(days, SOURCE, on(5)).undelivered == (on(1), on(2), on(4))
    weekdays = completeness(days, WEEKDAYS, on(5))
    assert weekdays.undelivered == (on(4),)
    results = completeness_results("raw_orders", weekdays, strict=False)
    assert [result.check_name for result in results if not result.passed] == [YESTERDAY, TRADING]


def test_a_weekend_does_not_put_a_source_behind_that_is_closed() -> None:
    assert completeness(stamps(0), WEEKDAYS, on(3)).behind == 0
    assert completeness(stamps(0), WEEKDAYS, on(4)).behind == 1
    assert completeness(stamps(0), SOURCE, on(3)).behind == 2


def test_what_is_missing_for_long_is_history_but_how_far_a_source_is_behind_counts() -> None:
    days = stamps(0, 2, WINDOW_DAYS + 10)
    found = completeness(days, SOURCE, on(WINDOW_DAYS + 12))
    assert on(1) not in found.gaps
    assert found.gaps[0] == on(12)
    assert found.judged == WINDOW_DAYS
    assert completeness(stamps(0), SOURCE, on(400)).behind == 399


def test_partitions_of_the_future_do_not_make_up_for_yesterday() -> None:
    assert completeness(stamps(0, 9), SOURCE, on(3)).behind == 2


@pytest.mark.parametrize(("age", "passed"), [(QUARANTINE_DAYS, True), (QUARANTINE_DAYS + 1, False)])
def test_rejected_rows_are_told_by_age(age: int, passed: bool) -> None:
    result = quarantine_result("stg_orders", {on(0): 3, on(1): 0}, on(age))
    assert (result.check_name, result.passed) == (WAITING, passed)
    assert result.description is not None
    assert f"3 rows of 1 days wait, the oldest for {age} days (delivered on 2024-03-01)" in result.description
    assert result.metadata["rows_failed"].value == (0 if passed else 3)


def test_nothing_in_quarantine_is_fine() -> None:
    result = quarantine_result("stg_orders", {on(0): 0}, on(100))
    assert result.passed
    assert result.description is None


def test_a_run_by_hand_is_judged_as_of_its_newest_delivery_and_one_of_a_schedule_as_of_today() -> None:
    platform = Platform.using(read_settings({}))
    by_hand = dg.DagsterRun(job_name="daily_sales")
    assert as_of(by_hand, platform, [on(0), on(4)]) == on(5)
    for run in (dg.DagsterRun(job_name=WATCH), dg.DagsterRun(job_name="x", tags={"dagster/schedule_name": "y"})):
        assert as_of(run, platform, [on(0)]) >= date(2026, 1, 1)
    assert as_of(by_hand, platform, []) >= date(2026, 1, 1)
    assert as_of(by_hand, platform, [date(9999, 1, 1)]) < date(9999, 1, 1)
