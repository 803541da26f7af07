"""The budget: what the month has cost, what it seems to come to, and who is told of it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from data_platform.assets.quality import BUDGET, REPORT, budget_result
from data_platform.costs.budget import LEAST_DAYS, outlook
from data_platform.costs.metering import Meter
from data_platform.costs.prices import Prices
from data_platform.costs.recording import Spent, record
from data_platform_tests.costs.made import GB, spending, step, stored
from data_platform_tests.shop import Shop, checks, open_shop

TODAY = date(2026, 4, 20)  # ten days are left


def prices(month: str | None, **values: Any) -> Prices:
    told = {"currency": "EUR", "prices": [{"from": "2026-01-01", "instance_hour": 1, **values}]}
    return Prices.model_validate(told | ({"budget": {"month": month, "warn_percent": 80}} if month else {}))


def daily(first: date, days: int) -> list[Any]:
    """An hour, so one euro, on each day."""
    return [step(day=first + timedelta(days=n)) for n in range(days)]


def test_the_rest_of_the_month_costs_what_usual_days_did() -> None:
    spent = spending(*daily(date(2026, 3, 1), 51))  # up to today
    found = outlook(spent, prices("40"), TODAY)
    assert found is not None
    assert (found.so_far, found.projected, found.limit) == (20, 30, 32)
    assert found.holds
    assert found.in_words() == (
        "2026-04 has cost 20.00 EUR up to 2026-04-20, and it seems to come to 30.00; its budget is 40.00, told of from "
        "32.00 on."
    )


def test_a_backfill_counts_and_is_not_expected_again() -> None:
    spent = spending(*daily(date(2026, 3, 1), 51), step(day=date(2026, 4, 3), seconds=Decimal(3600 * 50)))
    found = outlook(spent, prices("200"), TODAY)
    assert found is not None
    assert (found.so_far, found.projected) == (70, 80)


def test_what_is_stored_and_fixed_goes_on_to_the_end_of_the_month() -> None:
    spent = spending(*daily(date(2026, 3, 1), 51), stored("fact_sales", {date(2026, 3, 1): 3 * GB}))
    found = outlook(spent, prices("200", database_gb_month=10, fixed_month=60), TODAY)
    assert found is not None
    assert (found.so_far, found.projected) == (20 + 20 + 40, 30 + 30 + 60)


@pytest.mark.parametrize(("month", "holds"), [("37.5", True), ("37.4", False), ("20", False)])
def test_it_fails_once_the_share_of_the_budget_is_passed(month: str, holds: bool) -> None:
    found = outlook(spending(*daily(date(2026, 3, 1), 51)), prices(month), TODAY)
    assert found is not None
    assert found.holds is holds
    result = budget_result(found)
    assert (result.passed, result.check_name, result.description) == (holds, BUDGET, found.in_words())


def test_what_was_spent_alone_can_pass_the_budget() -> None:
    found = outlook(spending(step(day=TODAY, seconds=Decimal(3600 * 50))), prices("40"), TODAY)
    assert found is not None
    assert (found.so_far, found.projected, found.holds) == (50, None, False)


def test_with_few_days_nothing_is_projected() -> None:
    for days, known in ((LEAST_DAYS - 1, False), (LEAST_DAYS, True)):
        found = outlook(spending(*daily(TODAY - timedelta(days=days), days)), prices("400"), TODAY)
        assert found is not None
        assert (found.projected is not None) is known
    short = outlook(spending(step(day=TODAY)), prices("400"), TODAY)
    assert short is not None
    assert "what it comes to is not known before 7 days are measured" in short.in_words()


def test_without_a_budget_the_check_passes_and_says_so() -> None:
    assert outlook(spending(step(day=TODAY)), prices(None), TODAY) is None
    result = budget_result(None)
    assert result.passed
    assert result.description == "No budget is set in prices.yaml."


# In Dagster


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def watch(shop: Shop) -> Any:
    return checks(shop.run(REPORT))[REPORT, BUDGET]


def test_the_check_fails_over_the_budget_and_is_remembered(shop: Shop) -> None:
    hour = Spent(
        "run-1", "facts", "fact_sales", "warehouse", "succeeded", datetime.now(UTC), 3600.0, 1.0, 1, Meter(), ()
    )
    record(shop.warehouse, [hour] * 3)
    path = shop.home / "prices.yaml"
    assert watch(shop).passed
    path.write_text("currency: EUR\nbudget: {month: 4}\nprices: [{from: 2024-01-01, instance_hour: 1}]\n")
    assert watch(shop).passed
    path.write_text("currency: EUR\nbudget: {month: 2}\nprices: [{from: 2024-01-01, instance_hour: 1}]\n")
    failed = watch(shop)
    assert not failed.passed
    assert "has cost 3.0" in (failed.description or "")
    kept = shop.query(
        f"SELECT passed, severity, note FROM platform.check_results WHERE rule = '{BUDGET}' ORDER BY result_id"
    )
    assert [(passed, severity) for passed, severity, _ in kept] == [
        (True, "warning"),
        (True, "warning"),
        (False, "warning"),
    ]
    assert kept[0][2] == "No budget is set in prices.yaml."


def test_prices_that_cannot_be_read_are_told_by_the_check_and_stop_nothing(shop: Shop) -> None:
    (shop.home / "prices.yaml").write_text("currency: EUR\nprices: [{from: 2024-01-01, cpu_hour: -1}]\n")
    failed = watch(shop)
    assert not failed.passed
    assert "prices[1].cpu_hour cannot be used: it is -1" in (failed.description or "")
