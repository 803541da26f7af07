"""Dimensions and facts as assets: rules judged before the commit, balances, one publish for both fact tables."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from data_platform.contracts.rules import Rule
from data_platform.warehouse import facts
from data_platform_tests.shop import Shop, checks, failures, open_shop

LINE = {
    "order_id": "A1",
    "line_number": 1,
    "product_id": "P1",
    "quantity": 2,
    "unit_price": "1.50",
    "order_ts": "2024-01-05 10:00:00",
}


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def test_rows_that_break_a_critical_rule_are_not_published_and_the_check_says_so(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.deliver("orders", LINE)
    assert shop.run().success
    name = "total_is_quantity_times_price_less_discount"
    strict = [
        replace(
            contract, rules=(*contract.rules[:1], Rule(name, "critical", "Nobody buys P2.", pl.col("quantity") < 9))
        )
        for contract in facts.CONTRACTS
    ]
    monkeypatch.setattr(facts, "CONTRACTS", tuple(strict))
    before = shop.places("warehouse")
    shop.deliver("orders", LINE | {"quantity": 9})
    failed = shop.run()
    assert not failed.success
    assert shop.places("warehouse") == before
    assert f"fact_sales: 1 rows would break the critical rule {name}" in failures(failed)["facts"]
    found = shop.instance.event_log_storage.get_asset_check_execution_history(
        check_key=dg.AssetCheckKey(dg.AssetKey("fact_sales"), name), limit=1
    )
    evaluation = found[0].event.dagster_event.asset_check_evaluation_data
    assert not evaluation.passed
    assert evaluation.metadata["rows_failed"].value == 1


def test_rules_and_balance_of_what_was_published_are_shown(shop: Shop) -> None:
    shop.deliver(
        "orders", LINE, LINE, LINE | {"line_number": 2, "quantity": -1}, LINE | {"line_number": 3, "quantity": 0}
    )
    done = shop.run()
    found = checks(done)
    balance = found["fact_sales", "rows_balance"]
    assert balance.passed
    assert balance.description == (
        "4 delivered = 3 staged + 0 quarantined + 1 duplicate; staged = 1 return + 1 sale + 1 tombstone"
    )
    sign = found["fact_returns", "quantity_has_the_sign_of_its_table"]
    assert sign.passed
    assert sign.metadata["rows_judged"].value == 2


def test_either_fact_table_alone_brings_both_right(shop: Shop) -> None:
    shop.deliver("orders", LINE, LINE | {"line_number": 2, "quantity": -1})
    assert shop.run("raw_orders,stg_orders,fact_returns").success
    assert shop.query("SELECT count(*) FROM warehouse.fact_sales") == [(1,)]
    assert shop.query("SELECT count(*) FROM warehouse.fact_returns") == [(1,)]
