"""Law 5: what is unchanged is not written, not even with the same values. A year of deliveries, and a month by Dagster.

Dagster keeps some twenty events for every day of an asset, which takes minutes for a year: the year goes without it.
"""

import random
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from data_platform.contracts import MARTS
from data_platform.datasets.demo_shop import Rates, ShopSize, generate
from data_platform.lake import Lake
from data_platform.warehouse import marts
from data_platform.warehouse.calendar import staged_days
from data_platform.warehouse.publish import publish, publish_calendar
from data_platform_tests.cases import customer, delivered, line, product, tombstone
from data_platform_tests.reference import Delivery, Row
from data_platform_tests.shop import Shop, failures, open_shop
from data_platform_tests.warehouse import harness

FIRST, DAYS = date(2024, 1, 1), 366
STAR = ("dim_date", "dim_customer", "dim_product", "fact_sales", "fact_returns")


def year() -> Iterator[Delivery]:
    """Every day of a shop: orders of known and unknown members, late ones, corrections, returns and tombstones."""
    chance = random.Random(7)
    sold: list[Row] = []
    for number in range(DAYS):
        day = FIRST + timedelta(days=number)
        members = range(20) if number == 0 else chance.sample(range(25), 2)
        yield delivered(
            "customers",
            day,
            *(customer(f"c{n}", segment=chance.choice("ab"), deleted=chance.random() < 0.1) for n in members),
        )
        yield delivered("products", day, *(product(f"p{n}", cost=str(chance.randint(1, 9))) for n in members))
        rows = []
        for n in range(4):
            on = datetime.combine(day - timedelta(days=chance.choice([0, 0, 0, 5])), time(12))
            who, what = f"c{chance.randrange(30)}" if chance.random() < 0.9 else None, f"p{chance.randrange(27)}"
            rows.append(line(f"o{number}-{n}", 1, customer_id=who, product_id=what, order_ts=on))
        for row in chance.sample(sold, min(len(sold), 2)):
            change = chance.choice([{"quantity": 2}, {"quantity": -1}, {"unit_price": Decimal("9.5")}, {}])
            rows.append(row | change)
        if sold and chance.random() < 0.3:
            rows.append(tombstone(chance.choice(sold)["order_id"], 1))
        sold += rows[:4]
        yield delivered("orders", day, *rows, unit="line")


def materialize(url: str, lake: Lake) -> None:
    """What a run over the year does: stage all of it, publish the star, refresh the marts."""
    for delivery in year():
        harness.stage(lake, delivery)
    publish_calendar(url, staged_days(lake), FIRST)
    for asset in harness.ASSETS.values():
        publish(url, lake, asset, run_id="run", timezone="UTC")
    for mart in MARTS:
        marts.apply(url, marts.select_stale(url, mart))


def places(shop: Shop) -> dict[str, dict[str, list[object]]]:
    return {schema: dict(shop.places(schema)) for schema in ("warehouse", "marts")}


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def assert_filled(shop: Shop) -> None:
    for schema, tables in {"warehouse": STAR, "marts": tuple(MARTS)}.items():
        for table in tables:
            assert shop.query(f"SELECT count(*) FROM {schema}.{table}")[0][0] > 20, table


def test_an_unchanged_year_again_leaves_every_row_of_warehouse_and_marts_as_it_was(shop: Shop) -> None:
    materialize(shop.warehouse, shop.lake)
    assert_filled(shop)
    assert shop.query("SELECT count(*) > 1000 FROM warehouse.fact_sales") == [(True,)]
    before, ledger = places(shop), shop.query("SELECT * FROM platform.load_ledger ORDER BY load_id")
    materialize(shop.warehouse, shop.lake)
    assert places(shop) == before
    assert shop.query("SELECT * FROM platform.load_ledger ORDER BY load_id") == ledger


def test_a_correction_of_one_day_of_a_year_leaves_all_other_rows_as_they_were(shop: Shop) -> None:
    materialize(shop.warehouse, shop.lake)
    before = places(shop)
    last = list(year())[-1]
    harness.stage(shop.lake, delivered("orders", last.day, *last.rows[1:], unit="line"))
    publish(shop.warehouse, shop.lake, "fact_sales", run_id="run", timezone="UTC")
    for mart in MARTS:
        marts.apply(shop.warehouse, marts.select_stale(shop.warehouse, mart))
    gone = {
        table: len(set(rows) - set(after[table]))
        for schema, after in places(shop).items()
        for table, rows in before[schema].items()
    }
    assert gone["fact_sales"] == 1
    assert all(gone[table] == 0 for table in ("dim_date", "dim_customer", "dim_product", "fact_returns"))
    assert all(gone[mart] <= 1 for mart in MARTS)


def test_an_unchanged_month_again_by_dagster_leaves_every_row_of_warehouse_and_marts_as_it_was(shop: Shop) -> None:
    size = ShopSize(customers=40, products=40, orders_per_day=20, days=31, lines_per_order=2.0)
    often = Rates(price_changes=0.02, moves=0.02, late=0.1, cancellations=0.05, guests=0.05, returns=0.2, dirt=0.01)
    generate(shop.home / "landing", start=FIRST, size=size, rates=often, file_format="csv")
    first, last = FIRST.isoformat(), (FIRST + timedelta(days=30)).isoformat()
    for again in (False, True):
        done = shop.run(None, first, last)
        assert done.success, failures(done)
        if not again:
            assert_filled(shop)
            before = places(shop)
    assert places(shop) == before
