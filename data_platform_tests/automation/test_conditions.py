"""What follows by itself what is published: marts, once, and nothing else."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from data_platform.contracts import MARTS
from data_platform.definitions import build_defs
from data_platform_tests.shop import Shop, customer, line, open_shop, product

NOW = datetime(2024, 1, 20, 12, tzinfo=UTC)
MART_NAMES = ",".join(MARTS)


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


class Daemon:
    """The evaluations of Dagster's automation sensor, one after the other."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.definitions = build_defs({"platform": shop.platform})
        self.cursor: Any = None

    def look(self) -> set[str]:
        """The assets that are asked for."""
        result = dg.evaluate_automation_conditions(
            defs=self.definitions, instance=self.shop.instance, cursor=self.cursor, evaluation_time=NOW
        )
        self.cursor = result.cursor
        return {one.key.to_user_string() for one in result.results if not one.true_subset.is_empty}


def test_marts_follow_what_is_published_outside_of_the_job_once(shop: Shop) -> None:
    daemon = Daemon(shop)
    assert daemon.look() == set()
    shop.deliver("orders", line("o1"))
    shop.deliver("products", product())
    shop.deliver("customers", customer())
    assert shop.run().success
    assert daemon.look() == set()  # the job itself has refreshed them

    shop.deliver("orders", line("o1", quantity=5))
    assert shop.run("raw_orders,stg_orders").success
    assert daemon.look() == set()  # nothing is published yet
    assert shop.run("fact_sales,fact_returns").success
    assert daemon.look() == set(MARTS)
    assert daemon.look() == set()  # asked for, not run yet
    assert shop.query("SELECT quantity FROM marts.mart_daily_sales") == [(2,)]
    assert shop.run(MART_NAMES).success
    assert shop.query("SELECT quantity FROM marts.mart_daily_sales") == [(5,)]
    for _ in range(3):
        assert daemon.look() == set()

    shop.deliver("orders", line("o1", quantity=6))
    assert shop.run("raw_orders,stg_orders,fact_sales,dim_product").success
    assert daemon.look() == set(MARTS)
    shop.execute("ALTER TABLE marts.mart_daily_sales RENAME COLUMN quantity TO pieces")
    assert not shop.run(MART_NAMES).success
    for _ in range(3):
        assert daemon.look() == set()  # what failed waits for the next publish


def test_nothing_but_marts_runs_by_itself() -> None:
    specs = build_defs().resolve_all_asset_specs()
    assert {spec.key.to_user_string() for spec in specs if spec.automation_condition} == set(MARTS)
