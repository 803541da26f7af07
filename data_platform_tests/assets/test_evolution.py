"""Deliveries that change their columns, run by the real assets: what is shown, remembered, refused, set aside."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import psycopg
import pytest

from data_platform_tests.shop import DAY, Shop, checks, failures, line, open_shop

NEXT, LAST = "2024-01-06", "2024-01-07"


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def remembered(shop: Shop) -> list[tuple[str, ...]]:
    with psycopg.connect(shop.warehouse) as connection:
        return connection.execute(
            "SELECT partition_date::text, column_name, kind, before, after FROM platform.schema_changes "
            "ORDER BY change_id"
        ).fetchall()


def as_before(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    return checks(result)["raw_orders", "columns_are_as_before"]


def parquet(shop: Shop, day: str, **columns: pl.Series) -> None:
    values = {name: pl.Series([str(value)]) for name, value in line("o1", day=day).items() if name not in columns}
    path = shop.home / "landing" / "orders" / f"{day}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({**values, **columns}).write_parquet(path)


def test_columns_that_are_not_as_before_are_shown_and_remembered(shop: Shop) -> None:
    shop.deliver("orders", line("o1", colour="red"))
    shop.deliver("orders", line("o2", weight="5"), day=NEXT)
    result = shop.run("raw_orders", DAY, NEXT)
    assert result.success
    found = as_before(result)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description == f"{NEXT}: weight is new; colour is missing."
    rows = [record.data for record in found.metadata["examples"].records]
    assert rows == [
        {"day": NEXT, "column": "weight", "before": "–", "after": "String"},
        {"day": NEXT, "column": "colour", "before": "String", "after": "–"},
    ]
    changed = [(NEXT, "weight", "new", "–", "String"), (NEXT, "colour", "missing", "String", "–")]
    assert remembered(shop) == changed
    # Singly and again: as the lake has it, and each change is remembered once.
    assert as_before(shop.run("raw_orders", NEXT)).description == found.description
    assert remembered(shop) == changed


def test_a_day_without_a_delivery_is_nothing_to_compare_with(shop: Shop) -> None:
    shop.deliver("orders", line("o1"))
    shop.deliver("orders", line("o2"), day=LAST)
    assert as_before(shop.run("raw_orders", DAY, LAST)).passed
    assert as_before(shop.run("raw_orders", LAST)).passed
    assert remembered(shop) == []


def test_a_column_of_another_type_is_told_with_both(shop: Shop) -> None:
    parquet(shop, DAY, quantity=pl.Series([2]))
    parquet(shop, NEXT, quantity=pl.Series(["2"]))
    found = as_before(shop.run("raw_orders", DAY, NEXT))
    assert found.description == f"{NEXT}: quantity is String and not Int64."


@pytest.mark.parametrize(
    ("settings", "extra", "said"),
    [
        ("{schema_changes: freeze}", {"colour": "red"}, "colour is new"),
        ("{schema_changes: freeze, columns: {updated_at: changed}}", {}, "changed is missing"),
        ("{schema_changes: freeze, columns: {updated_at: x}}", {"colour": "red"}, "colour is new; x is missing"),
    ],
)
def test_under_freeze_a_delivery_with_other_columns_is_rejected(
    shop: Shop, settings: str, extra: dict[str, str], said: str
) -> None:
    (shop.home / "sources.yaml").write_text(f"orders: {settings}\n")
    shop.deliver("orders", line("o1", **extra))
    result = shop.run("raw_orders,stg_orders")
    assert not result.success
    assert f"orders has `schema_changes: freeze`: {said}. Map them" in failures(result)["raw_orders"]
    assert shop.lake.days("raw_orders") == []


def test_under_freeze_types_count_where_a_file_has_them(shop: Shop) -> None:
    (shop.home / "sources.yaml").write_text("orders: {schema_changes: freeze}\n")
    parquet(shop, DAY, quantity=pl.Series([2]))
    assert shop.run("raw_orders").success
    parquet(shop, DAY, quantity=pl.Series([True]))
    assert "quantity is Boolean and not int" in failures(shop.run("raw_orders"))["raw_orders"]


def test_what_is_ignored_is_neither_new_nor_refused(shop: Shop) -> None:
    (shop.home / "sources.yaml").write_text("orders: {schema_changes: freeze, ignore: [colour]}\n")
    shop.deliver("orders", line("o1", colour="red"))
    result = shop.run("raw_orders,stg_orders")
    assert result.success
    assert checks(result)["stg_orders", "columns_are_declared"].passed
