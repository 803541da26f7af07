"""What should be there and is not: days in, days and words out."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from data_platform.commands.status_shown import SIGNS
from data_platform.lake import Stamp
from data_platform.monitoring.lag import ENTITIES, coverage, held_days, lags, place_of, shown_months
from data_platform.monitoring.lake import assets
from data_platform.sources.config import Source

TODAY = date(2024, 1, 9)  # a Tuesday
BERLIN = ZoneInfo("Europe/Berlin")


def day(number: int) -> date:
    return date(2024, 1, number)


def stamps(**days: dict[int, Stamp]) -> dict[str, dict[date, Stamp]]:
    return {name: {day(number): stamp for number, stamp in days.get(name, {}).items()} for name in assets()}


def delivered(*numbers: int) -> dict[int, Stamp]:
    return {number: Stamp("x", rows_delivered=1) for number in numbers}


def every(*, closed_on: Iterable[str] = ()) -> dict[str, Source]:
    return {entity: Source(entity=entity, closed_on=tuple(closed_on)) for entity in ENTITIES}


def lag_of(asset: str, held: dict[str, list[date]], sources: dict[str, Source]) -> tuple[date | None, int]:
    found = {lag.asset: lag for lag in lags(held, sources, TODAY, BERLIN)}[asset]
    return found.newest, found.missing


def test_an_asset_is_behind_by_the_days_after_its_newest_that_should_be_there() -> None:
    held = {"raw_orders": [day(3), day(5)], "stg_orders": [day(3)], "fact_sales": []}
    assert lag_of("raw_orders", held, every()) == (day(5), 3)
    assert lag_of("stg_orders", held, every()) == (day(3), 5)
    # From the first delivery on: nobody expects a day before it.
    assert lag_of("fact_sales", held, every()) == (None, 6)
    # The 6th and 7th are a weekend.
    assert lag_of("raw_orders", held, every(closed_on=["sat", "sun"])) == (day(5), 1)
    assert [lag.asset for lag in lags(held, every(), TODAY, BERLIN)] == ["raw_orders", "stg_orders", "fact_sales"]


def test_what_is_missing_is_late_from_the_end_of_its_day_in_business_time() -> None:
    (lag,) = lags({"raw_orders": [day(6)]}, every(), TODAY, BERLIN)
    assert lag.due_since == datetime(2024, 1, 7, 23, tzinfo=UTC)
    assert lag.seconds(datetime(2024, 1, 8, 1, tzinfo=UTC)) == 7200
    (fresh,) = lags({"raw_orders": [day(8)]}, every(), TODAY, BERLIN)
    assert (fresh.missing, fresh.due_since, fresh.seconds(datetime(2024, 1, 9, tzinfo=UTC))) == (0, None, 0)


def test_a_day_that_was_run_without_a_delivery_is_not_held() -> None:
    undelivered = {**delivered(3), 4: Stamp("y", delivered=False)}
    found = stamps(raw_orders=undelivered, stg_orders=undelivered)
    held = held_days(found, {"fact_sales": {day(2): "archived", day(3): "x", day(4): "y"}})
    assert (held["raw_orders"], held["stg_orders"]) == ([day(3)], [day(3)])
    assert held["fact_sales"] == [day(2), day(3)]
    assert "fact_sales" not in held_days(found, None)


def test_each_day_is_told_by_the_worst_that_is_true_of_it() -> None:
    staged = {**delivered(2, 3, 4, 6), 5: Stamp("x", rows_delivered=0)}
    found = stamps(raw_orders=delivered(2, 3, 4, 5, 6, 8), stg_orders=staged)
    held = held_days(found, {"fact_sales": dict.fromkeys([day(2), day(3), day(5), day(6)], "x")})
    waiting = {"landed_not_taken": [day(9)], "raw_not_staged": [day(8)], "staged_not_published": [day(3), day(4)]}
    failed = {"stg_orders": [day(3)], "raw_products": [day(2)], "fact_sales": [day(6)]}
    source = Source(entity="orders", closed_on=("sun",))

    def cells(asset: str) -> str:
        told = coverage(asset, held, found, waiting, failed, source, day(10)).cells
        assert list(told) == [day(number) for number in range(2, 11)]
        return "".join(SIGNS[cell][0] for cell in told.values())

    assert cells("fact_sales") == "#!w0!-ww."
    assert cells("stg_orders") == "#!#0#-ww."
    assert cells("raw_orders") == "#####-#w."


def test_an_entity_that_never_delivered_has_no_days() -> None:
    assert coverage("fact_sales", {}, stamps(), {}, {}, Source(entity="orders"), TODAY).cells == {}
    assert lags({"raw_orders": []}, every(), TODAY, BERLIN) == []


@pytest.mark.parametrize(
    ("newest", "count", "months"),
    [
        (date(2024, 1, 8), 3, ["2023-11", "2023-12", "2024-01"]),
        (date(2023, 11, 30), 3, ["2023-11", "2023-12", "2024-01"]),
        (date(2023, 10, 31), 3, ["2023-08", "2023-09", "2023-10"]),
        (date(2021, 2, 1), 1, ["2021-02"]),
        (date(2024, 1, 8), 0, []),
    ],
)
def test_the_last_months_are_todays_or_the_last_that_have_anything(newest: date, count: int, months: list[str]) -> None:
    found = {"raw_orders": {date(2020, 1, 1): Stamp("x"), newest: Stamp("x")}}
    assert [f"{month:%Y-%m}" for month in shown_months(found, TODAY, count)] == months


def test_both_fact_tables_are_one_publish() -> None:
    assert place_of("fact_returns") == place_of("fact_sales") == ("orders", 2)
    assert place_of("raw_customers") == ("customers", 0)
    with pytest.raises(KeyError):
        place_of("dim_date")
