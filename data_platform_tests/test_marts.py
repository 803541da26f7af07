"""The marts' figures against those of a little shop computed by hand, and refreshes of what became stale alone."""

import shutil
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from data_platform.contracts import MARTS
from data_platform.warehouse import marts
from data_platform_tests.conftest import throw_away
from data_platform_tests.shop import Shop, customer, failures, line, open_shop, product

FIRST, SECOND, THIRD, FEBRUARY = "2024-01-05", "2024-01-06", "2024-01-07", "2024-02-02"


def money(text: str) -> Decimal:
    return Decimal(text)


@pytest.fixture(scope="module")
def first_run(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Four days of a shop with two customers, an unknown one, and a product that changes its name and price."""
    with throw_away(server, template) as url, open_shop(tmp_path_factory.mktemp("home"), url) as shop:
        shop.deliver("customers", customer("c1"), customer("c2", country="FR"), day=FIRST)
        shop.deliver("products", product("p1"), product("p2", cost=""), day=FIRST)
        shop.deliver("products", product("p1", product_name="Better p1", cost="5.00"), day=SECOND)
        shop.deliver(
            "orders",
            line("o1", "p1"),  # 20.00, profit 12.00
            line(
                "o1", "p2", line_number=2, quantity=1, unit_price="5.0000", discount_amount="0.5000"
            ),  # 4.50, no profit
            line("o2", "p1", customer_id="", quantity=1),  # 10.00, profit 6.00, nobody
            line("o3", "p9", customer_id="c9", quantity=3, unit_price="0.3333"),  # 0.9999: both unknown to dimensions
            day=FIRST,
        )
        shop.deliver(
            "orders",
            line("o4", "p1", day=SECOND, customer_id="c2", quantity=4),  # 40.00, profit 20.00 by the new cost
            line("r1", "p1", day=SECOND, quantity=-1),  # −10.00, profit −5.00
            day=SECOND,
        )
        # A day of returns alone, and a day of a month of its own.
        shop.deliver("orders", line("r2", "p2", day=THIRD, quantity=-2, unit_price="5.00"), day=THIRD)
        shop.deliver("orders", line("o5", "p2", day=FEBRUARY, customer_id="c2", quantity=1), day=FEBRUARY)
        for first, last in ((FIRST, THIRD), (FEBRUARY, FEBRUARY)):
            result = shop.run(None, first, last)
            assert result.success, failures(result)
        yield shop


@pytest.fixture
def shop(first_run: Shop, server: str, tmp_path: Path) -> Iterator[Shop]:
    shutil.copytree(first_run.home, tmp_path, dirs_exist_ok=True)
    with throw_away(server, urlsplit(first_run.warehouse).path[1:]) as url, open_shop(tmp_path, url) as shop:
        yield shop


def rows(shop: Shop, mart: str, *columns: str) -> list[tuple[Any, ...]]:
    key = ", ".join(MARTS[mart].key)
    return shop.query(f"SELECT {', '.join(columns) or '*'} FROM marts.{mart} ORDER BY {key}")


def from_nothing(shop: Shop, mart: str) -> list[tuple[Any, ...]]:
    """The mart as its SELECT gives it over everything."""
    text = (marts.SELECTS / f"{mart}.sql").read_text().replace(":first_date", "0").replace(":last_date", "99999999")
    keys = ", ".join(MARTS[mart].key)
    names = ", ".join(MARTS[mart].columns)
    return shop.query(f"SELECT {names} FROM ({text}) AS whole ORDER BY {keys}")


def assert_marts_are_right(shop: Shop) -> None:
    """The marts hold what a computation from nothing gives, and no mark is left."""
    assert shop.query("SELECT count(*) FROM platform.mart_stale") == [(0,)]
    for mart in MARTS:
        assert rows(shop, mart) == from_nothing(shop, mart), mart


def run(shop: Shop, day: str, entity: str = "orders") -> None:
    """Materialize what a delivery of `entity` concerns."""
    table = {"orders": "fact_sales", "products": "dim_product", "customers": "dim_customer"}[entity]
    result = shop.run(",".join([f"raw_{entity}", f"stg_{entity}", table, *MARTS]), day)
    assert result.success, failures(result)


# Figures


def test_daily_sales(first_run: Shop) -> None:
    found = rows(first_run, "mart_daily_sales")
    names = list(MARTS["mart_daily_sales"].columns)
    assert [dict(zip(names, row, strict=True)) for row in found] == [
        {
            "date_key": 20240105, "full_date": date(2024, 1, 5), "orders": 3, "lines": 4, "customers": 2, "quantity": 7,
            "gross_sales": money("35.9999"), "discounts": money("0.5"), "sales": money("35.4999"),
            "return_lines": 0, "returned_quantity": 0, "returns": 0, "net_sales": money("35.4999"),
            "profit": money("18"), "average_order_value": money("11.8333"),
        },
        {
            "date_key": 20240106, "full_date": date(2024, 1, 6), "orders": 1, "lines": 1, "customers": 1, "quantity": 4,
            "gross_sales": 40, "discounts": 0, "sales": 40, "return_lines": 1, "returned_quantity": -1,
            "returns": -10, "net_sales": 30, "profit": 15, "average_order_value": 40,
        },
        {
            "date_key": 20240107, "full_date": date(2024, 1, 7), "orders": 0, "lines": 0, "customers": 0, "quantity": 0,
            "gross_sales": 0, "discounts": 0, "sales": 0, "return_lines": 1, "returned_quantity": -2,
            "returns": -10, "net_sales": -10, "profit": None, "average_order_value": None,
        },
        {
            "date_key": 20240202, "full_date": date(2024, 2, 2), "orders": 1, "lines": 1, "customers": 1, "quantity": 1,
            "gross_sales": 10, "discounts": 0, "sales": 10, "return_lines": 0, "returned_quantity": 0,
            "returns": 0, "net_sales": 10, "profit": None, "average_order_value": 10,
        },
    ]  # fmt: skip


def test_product_performance(first_run: Shop) -> None:
    january, february = date(2024, 1, 1), date(2024, 2, 1)
    assert rows(first_run, "mart_product_performance") == [
        # Two versions in a month: the name of the latest that a line points at.
        (january, "p1", "Better p1", "things", None, 3, 7, 70, -1, -10, 60, 33, money("0.5500"), money("0.1429")),
        (january, "p2", "Thing p2", "things", None, 1, 1, money("4.5"), -2, -10, money("-5.5"), None, None, 2),
        (january, "p9", None, None, None, 1, 3, money("0.9999"), 0, 0, money("0.9999"), None, None, 0),
        (february, "p2", "Thing p2", "things", None, 1, 1, 10, 0, 0, 10, None, None, 0),
    ]


def test_customer_value(first_run: Shop) -> None:
    january = date(2024, 1, 1)
    assert rows(first_run, "mart_customer_value") == [
        # 24.50 sold in one order, 20.00 returned; four weeks before the latest order date of all.
        ("c1", "retail", "DE", date(2024, 1, 5), date(2024, 1, 5), january, 28, 1, money("4.5"), money("24.5")),
        ("c2", "retail", "FR", date(2024, 1, 6), date(2024, 2, 2), january, 0, 2, 50, 25),
        ("c9", None, None, date(2024, 1, 5), date(2024, 1, 5), january, 28, 1, money("0.9999"), money("0.9999")),
    ]


def test_a_customer_who_only_returned_is_worth_nothing_yet(shop: Shop) -> None:
    shop.deliver("orders", line("r9", day=THIRD, customer_id="c5", quantity=-1), day=THIRD)
    run(shop, THIRD)
    assert "c5" not in [row[0] for row in rows(shop, "mart_customer_value")]
    assert_marts_are_right(shop)


def test_what_is_computed_from_nothing_is_what_the_marts_hold(first_run: Shop) -> None:
    assert_marts_are_right(first_run)


# Refreshes


def test_nothing_is_written_when_nothing_is_stale(shop: Shop) -> None:
    before = shop.places("marts")
    run(shop, FIRST)
    run(shop, THIRD)
    assert shop.places("marts") == before


def test_only_rows_that_differ_are_written(shop: Shop) -> None:
    before = shop.places("marts")
    shop.execute("INSERT INTO platform.mart_stale (mart, date_key) SELECT mart, date_key FROM unnest(ARRAY"
                 "['mart_daily_sales', 'mart_product_performance', 'mart_customer_value']) AS mart,"
                 " unnest(ARRAY[20240105, 20240202, 20191231]) AS date_key")  # fmt: skip
    run(shop, FIRST)
    assert shop.places("marts") == before
    assert_marts_are_right(shop)


def correction(shop: Shop) -> str:
    shop.deliver("orders", line("o1", quantity=5, updated_at="2024-02-03T00:00:00"), day="2024-02-03")
    return "orders"


def tombstone(shop: Shop) -> str:
    shop.deliver("orders", line("o4", status="cancelled", updated_at="2024-02-03T00:00:00"), day="2024-02-03")
    return "orders"


def moved_date(shop: Shop) -> str:
    shop.deliver("orders", line("o5", "p2", day=THIRD, updated_at="2024-02-03T00:00:00"), day="2024-02-03")
    return "orders"


def moved_into_another_year(shop: Shop) -> str:
    moved = line("o1", day="2023-12-31", updated_at="2024-02-03T00:00:00")
    shop.deliver("orders", moved, line("o6", day="2001-02-28"), day="2024-02-03")
    return "orders"


def turned_into_a_return(shop: Shop) -> str:
    shop.deliver(
        "orders", line("o5", "p2", day=FEBRUARY, quantity=-1, updated_at="2024-02-03T00:00:00"), day="2024-02-03"
    )
    return "orders"


def renamed_product(shop: Shop) -> str:
    shop.deliver(
        "products", product("p2", product_name="Thing of old", cost="1.00", updated_at="2024-01-02T00:00:00"),
        product("p9", product_name="Known at last"), day="2024-02-03",
    )  # fmt: skip
    return "products"


def other_customer(shop: Shop) -> str:
    shop.deliver("customers", customer("c1", segment="wholesale", updated_at="2024-01-05T09:00:00"), day="2024-02-03")
    return "customers"


def deleted_product(shop: Shop) -> str:
    shop.deliver("products", product("p1", is_deleted="true", updated_at="2024-01-06T00:00:00"), day="2024-02-03")
    return "products"


CHANGES = [
    correction, tombstone, moved_date, moved_into_another_year, turned_into_a_return, renamed_product, other_customer,
    deleted_product,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_stale_dates_alone_give_what_a_full_refresh_gives(shop: Shop, change: Any) -> None:
    before = {mart: rows(shop, mart) for mart in MARTS}
    run(shop, "2024-02-03", change(shop))
    assert_marts_are_right(shop)
    assert {mart: rows(shop, mart) for mart in MARTS} != before


def test_the_same_correction_again_writes_nothing(shop: Shop) -> None:
    run(shop, "2024-02-03", correction(shop))
    before = shop.places("marts")
    run(shop, "2024-02-03")
    assert shop.places("marts") == before


def test_a_correction_leaves_the_rows_of_other_dates_untouched(shop: Shop) -> None:
    def untouched() -> list[tuple[Any, ...]]:
        return shop.query(
            "SELECT ctid, xmin, xmax FROM marts.mart_daily_sales WHERE date_key <> 20240105 ORDER BY date_key"
        )

    before = untouched()
    correction(shop)
    run(shop, "2024-02-03")
    assert untouched() == before


@pytest.mark.parametrize("day", [FIRST, THIRD, FEBRUARY])
def test_a_day_whose_facts_all_vanish_leaves_the_marts(shop: Shop, day: str) -> None:
    shop.deliver("orders", columns=list(line("o")), day=day)
    run(shop, day)
    key = int(day.replace("-", ""))
    assert key not in [row[0] for row in rows(shop, "mart_daily_sales")]
    assert_marts_are_right(shop)
    if day == FEBRUARY:
        assert {row[0] for row in rows(shop, "mart_product_performance")} == {date(2024, 1, 1)}


def test_all_facts_may_vanish(shop: Shop) -> None:
    for day in (FIRST, SECOND, THIRD, FEBRUARY):
        shop.deliver("orders", columns=list(line("o")), day=day)
        run(shop, day)
    assert [rows(shop, mart) for mart in MARTS] == [[], [], []]
    assert_marts_are_right(shop)


# Spans of dates


def test_stale_dates_far_apart_are_read_apart_and_near_ones_together() -> None:
    near = [date(2024, 1, 1), date(2024, 1, 20), date(2024, 2, 20)]
    assert marts._spans([*near, date(2024, 6, 1)]) == [(near[0], near[-1]), (date(2024, 6, 1), date(2024, 6, 1))]
    assert marts._spans([date.min, date.max]) == [(date.min, date.min), (date.max, date.max)]


@pytest.mark.parametrize("day", [date.min, date(999, 2, 28), date(2024, 2, 29), date.max])
def test_days_and_keys_of_all_years(day: date) -> None:
    assert marts._day(marts.date_key(day)) == day
    assert marts._last_day(day) >= day
    assert (marts._last_day(day).year, marts._last_day(day).month) == (day.year, day.month)


@pytest.mark.parametrize("key", [10101, 99991231])
def test_the_first_and_the_last_day_of_all_may_be_stale(shop: Shop, key: int) -> None:
    for mart in MARTS:
        shop.execute(f"INSERT INTO platform.mart_stale (mart, date_key) VALUES ('{mart}', {key})")
    run(shop, FIRST)
    assert_marts_are_right(shop)
