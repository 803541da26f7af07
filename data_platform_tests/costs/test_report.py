"""What was spent adds up, whatever it is listed by, and is what one gets by hand."""

import random
from datetime import date, timedelta
from decimal import Decimal
from typing import get_args

import pytest

from data_platform.costs.prices import Prices
from data_platform.costs.report import FIXED, STORED, By, Line, cost_report, size_by_day
from data_platform_tests.costs.made import GB, spending, step, stored

JANUARY, FEBRUARY = date(2026, 1, 1), date(2026, 2, 1)
LAST = date(2026, 1, 31)
PRICES = Prices.model_validate(
    {
        "currency": "EUR",
        "prices": [
            {
                "from": "2025-01-01", "cpu_hour": "0.08", "database_gb_month": "0.5", "lake_gb_month": "0.1",
                "gb_read": "0.01", "gb_written": "0.02", "fixed_month": "31",
            },
            {"from": "2026-02-01", "instance_hour": "1.5", "lake_gb_month": "0.2", "fixed_month": "56"},
        ],
    }
)  # fmt: skip
SUMS = (
    "steps", "failed", "seconds", "cpu_seconds", "rows", "rows_written", "bytes_read", "bytes_written",
    "storage_growth", "gb_months", "compute", "transfer", "storage", "fixed", "money",
)  # fmt: skip


def by_name(lines: list[Line]) -> dict[str, Line]:
    return {line.name: line for line in lines}


def test_a_month_by_hand() -> None:
    spent = spending(
        step("raw_orders"),
        step("fact_sales", run_id="run-2", outcome="failed", bytes_written=0),
        stored("raw_orders", {date(2025, 12, 1): 2 * GB, date(2026, 1, 17): 4 * GB}),
        stored("fact_sales", {date(2026, 1, 31): 31 * GB}),
    )
    report = cost_report(spent, PRICES, first=JANUARY, last=LAST, by="asset")
    lines = by_name(list(report.lines))
    raw, fact = lines["raw_orders"], lines["fact_sales"]
    # A quarter of an hour of CPU at 0.08; 2 GB read and 1 written.
    assert (raw.compute, raw.transfer) == (Decimal("0.02"), Decimal("0.04"))
    # 16 days of 2 GB and 15 of 4 GB, of 31.
    assert round(raw.gb_months, 9) == round(Decimal(92) / 31, 9)
    assert raw.storage == Decimal("0.296774")
    assert (fact.gb_months, fact.storage) == (1, Decimal("0.5"))
    assert (raw.failed, fact.failed) == (0, 1)
    assert lines[FIXED].fixed == 31
    assert report.total.money == sum((line.money for line in lines.values()), Decimal()) == Decimal("31.896774")
    assert report.unpriced == 0
    assert raw.per_million_rows(raw.money) == raw.money
    assert raw.per_million_rows(raw.seconds) == 3600
    assert lines[FIXED].per_million_rows(Decimal(31)) is None


def test_each_day_costs_what_it_did_then() -> None:
    spent = spending(step(day=LAST), step(day=FEBRUARY), stored("raw_orders", {JANUARY: 31 * 28 * GB}))
    report = cost_report(spent, PRICES, first=LAST, last=FEBRUARY, by="month")
    january, february = report.lines
    assert (january.name, february.name) == ("2026-01", "2026-02")
    assert (january.compute, january.transfer, january.fixed) == (Decimal("0.02"), Decimal("0.04"), 1)
    assert (february.compute, february.transfer, february.fixed) == (Decimal("1.5"), 0, 2)
    assert (january.storage, february.storage) == (Decimal("2.8"), Decimal("6.2"))


@pytest.mark.parametrize("by", get_args(By))
def test_parts_add_up_to_the_same_total_by_whatever_they_are_listed(by: By) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    assets = ["raw_orders", "stg_orders", "dim_product", "fact_sales", "mart_daily_sales", "quality_report"]
    spent = spending(
        *(
            step(
                chance.choice(assets), date(2025, 12, 20) + timedelta(days=chance.randrange(70)),
                run_id=f"run-{chance.randrange(9)}", seconds=Decimal(chance.randrange(10**6)) / 1000,
                cpu_seconds=Decimal(chance.randrange(10**6)) / 1000, rows=chance.randrange(10**6),
                bytes_read=chance.randrange(10**9), bytes_written=chance.randrange(10**9),
                growth=chance.randrange(-1000, 1000), outcome=chance.choice(["succeeded", "failed", "retried"]),
            )
            for _ in range(200)
        ),
        *(
            stored(
                asset,
                {date(2025, 12, 1) + timedelta(days=n): chance.randrange(10**10) for n in chance.sample(range(90), 9)},
            )
            for asset in assets
        ),
    )  # fmt: skip
    report = cost_report(spent, PRICES, first=date(2025, 12, 25), last=date(2026, 2, 20), by=by)
    for name in SUMS:
        assert sum((getattr(line, name) for line in report.lines), Decimal()) == getattr(report.total, name), name
    other = cost_report(spent, PRICES, first=date(2025, 12, 25), last=date(2026, 2, 20), by="asset").total
    assert [getattr(report.total, name) for name in SUMS] == [getattr(other, name) for name in SUMS]
    assert report.total.steps == sum(date(2025, 12, 25) <= one.day <= date(2026, 2, 20) for one in spent.steps)
    halves = [
        cost_report(spent, PRICES, first=first, last=last, by="month").total
        for first, last in ((date(2025, 12, 25), LAST), (FEBRUARY, date(2026, 2, 20)))
    ]
    assert sum(half.money for half in halves) == report.total.money


def test_the_most_expensive_come_first_and_without_prices_the_slowest() -> None:
    spent = spending(
        step("raw_orders", seconds=Decimal(1), cpu_seconds=Decimal(9)),
        step("stg_orders", seconds=Decimal(9), cpu_seconds=Decimal(1)),
        step("dim_date", seconds=Decimal(5), cpu_seconds=Decimal(5)),
    )

    def order(prices: Prices | None) -> list[str]:
        lines = cost_report(spent, prices, first=JANUARY, last=LAST, by="asset").lines
        return [line.name for line in lines if line.name != FIXED]

    assert order(PRICES) == ["raw_orders", "dim_date", "stg_orders"]
    assert order(None) == ["stg_orders", "dim_date", "raw_orders"]


def test_without_prices_there_are_figures_and_no_money() -> None:
    spent = spending(step(), stored("raw_orders", {JANUARY: 31 * GB}))
    total = cost_report(spent, None, first=JANUARY, last=LAST, by="asset").total
    assert (total.rows, total.gb_months, total.money) == (1_000_000, 31, 0)


def test_days_before_the_first_price_are_counted_and_cost_nothing() -> None:
    later = Prices.model_validate({"currency": "EUR", "prices": [{"from": "2026-01-11", "cpu_hour": 4}]})
    spent = spending(step(day=date(2026, 1, 10)), step(day=date(2026, 1, 11)))

    def unpriced(first: date, last: date) -> tuple[int, Decimal]:
        report = cost_report(spent, later, first=first, last=last, by="asset")
        return report.unpriced, report.total.money

    assert unpriced(JANUARY, LAST) == (10, 1)
    assert unpriced(date(2026, 1, 11), LAST) == (0, 1)
    assert unpriced(JANUARY, date(2026, 1, 10)) == (10, 0)


def test_storage_and_what_is_fixed_belong_to_no_run() -> None:
    spent = spending(step(), stored("raw_orders", {JANUARY: GB}))
    report = cost_report(spent, PRICES, first=JANUARY, last=LAST, by="run")
    assert {line.name for line in report.lines} == {"run-1", STORED, FIXED}
    assert by_name(list(report.lines))[STORED].storage == Decimal("0.1")
    assert len(report.total.run_ids) == 1


def test_of_a_day_without_a_measurement_the_last_one_holds() -> None:
    raw = stored("raw_orders", {date(2026, 1, 3): 5, date(2026, 1, 5): 2})
    days = [date(2026, 1, n) for n in range(1, 7)]
    assert list(size_by_day(raw, days)) == [(days[2], 5), (days[3], 5), (days[4], 2), (days[5], 2)]
    assert list(size_by_day(raw, days[5:])) == [(days[5], 2)]


def test_of_nothing_the_report_is_empty() -> None:
    report = cost_report(spending(), None, first=JANUARY, last=LAST, by="asset")
    assert list(report.lines) == []
    assert report.total.money == 0
