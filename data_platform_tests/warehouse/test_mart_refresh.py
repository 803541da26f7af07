"""Refreshing a mart while others publish and refresh: the last figures win, whoever is slow."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_platform.warehouse import marts
from data_platform_tests.shop import Shop, line, open_shop

STAR = "raw_orders,stg_orders,dim_date,dim_customer,dim_product,fact_sales,fact_returns"


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def quantity(shop: Shop) -> int:
    return shop.query("SELECT quantity FROM marts.mart_daily_sales")[0][0]


def test_a_publish_between_reading_and_writing_is_not_lost(shop: Shop) -> None:
    shop.deliver("orders", line("o1", quantity=1))
    assert shop.run(STAR).success
    slow = marts.select_stale(shop.warehouse, "mart_daily_sales")
    shop.deliver("orders", line("o1", quantity=7))
    assert shop.run(STAR).success
    marts.apply(shop.warehouse, slow)
    marts.apply(shop.warehouse, marts.select_stale(shop.warehouse, "mart_daily_sales"))
    assert quantity(shop) == 7


def test_an_older_refresh_that_comes_later_writes_nothing(shop: Shop) -> None:
    shop.deliver("orders", line("o1", quantity=1))
    assert shop.run(STAR).success
    slow = marts.select_stale(shop.warehouse, "mart_daily_sales")
    shop.deliver("orders", line("o1", quantity=7))
    assert shop.run(STAR).success
    marts.apply(shop.warehouse, marts.select_stale(shop.warehouse, "mart_daily_sales"))
    assert marts.apply(shop.warehouse, slow).superseded
    assert quantity(shop) == 7
