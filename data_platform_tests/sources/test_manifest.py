"""A source's own count of its delivery: agreement, disagreement in a sentence, and manifests that cannot be used."""

import logging
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from data_platform_tests.shop import DAY, Shop, checks, failures, line, open_shop

ROWS = [line("o1", quantity=2, unit_price="10.10"), line("o2", quantity=-1, unit_price="0.2")]


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def taken(shop: Shop, text: str, *rows: dict[str, Any]) -> dg.ExecuteInProcessResult:
    shop.deliver("orders", *(rows or ROWS))
    (shop.home / "landing" / "orders" / f"{DAY}.manifest.json").write_text(text, encoding="utf8")
    return shop.run("raw_orders")


@pytest.mark.parametrize(
    "text",
    [
        '{"rows": 2}',
        '{"rows": 2, "sums": {"quantity": 1, "unit_price": 10.30}}',
        '{"sums": {"unit_price": "10.3"}}',
        "{}",
    ],
)
def test_a_delivery_that_is_what_its_manifest_says_is_taken(
    text: str, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = taken(shop, text)
    assert result.success
    check = checks(result)["raw_orders", "manifest_agrees"]
    assert check.passed
    assert check.metadata["rows_judged"].value == 1
    assert "manifest" not in caplog.text, "it is no misnamed delivery"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"rows": 3}', "2 rows and not 3"),
        ('{"sums": {"quantity": 2}}', "quantity adds up to 1 and not to 2"),
        ('{"sums": {"unit_price": 10.3000001}}', "unit_price adds up to 10.3 and not to 10.3000001"),
        ('{"rows": 1, "sums": {"quantity": 7}}', "2 rows and not 1; quantity adds up to 1 and not to 7"),
    ],
)
def test_a_delivery_that_is_not_is_rejected_and_what_stood_before_stands(text: str, said: str, shop: Shop) -> None:
    shop.deliver("orders", line("o0"))
    assert shop.run("raw_orders").success
    result = taken(shop, text)
    assert not result.success
    [sentence] = failures(result).values()
    assert f"raw_orders {DAY}: the delivery is not what its manifest says: {said}." in sentence
    check = checks(result)["raw_orders", "manifest_agrees"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert shop.lake.read("raw_orders", date.fromisoformat(DAY)).height == 1
    recorded = (
        "SELECT passed, rows_failed FROM platform.check_results WHERE rule = 'manifest_agrees' ORDER BY result_id"
    )
    assert shop.query(recorded) == [(False, 1)]


def test_values_that_cannot_be_read_do_not_go_unnoticed(shop: Shop) -> None:
    result = taken(shop, '{"sums": {"quantity": 2}}', line("o1"), line("o2", quantity="many"), line("o3", quantity=""))
    [sentence] = failures(result).values()
    assert "quantity adds up to 2 (1 values cannot be read) and not to 2" in sentence
    assert "many" not in sentence


def test_sums_are_of_canonical_columns_read_as_the_source_writes_them(shop: Shop) -> None:
    (shop.home / "sources.yaml").write_text(
        "orders:\n  columns:\n    unit_price: {from: Preis, decimal: comma}\n", encoding="utf8"
    )
    rows = [{**row, "Preis": price} for row, price in zip(ROWS, ("1,5", "2,25"), strict=True)]
    for row in rows:
        del row["unit_price"]
    assert taken(shop, '{"rows": 2, "sums": {"unit_price": 3.75}}', *rows).success


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows: 2", "is no JSON in UTF-8"),
        ("[2]", "cannot be used"),
        ('{"rows": "2"}', "rows cannot be used"),
        ('{"rows": -1}', "rows cannot be used"),
        ('{"lines": 2}', "lines cannot be used"),
        ('{"sums": {"quantity": "many"}}', "sums.quantity cannot be used"),
        ('{"sums": {"quantity": true}}', "sums.quantity cannot be used"),
        ('{"sums": {"price": 1}}', "'price', which is no number column"),
        ('{"sums": {"customer_id": 1}}', "'customer_id', which is no number column"),
        ('{"sums": {"total_amount": 1}}', "'total_amount', which is not delivered"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_said_in_a_sentence(text: str, said: str, shop: Shop) -> None:
    result = taken(shop, text)
    assert not result.success
    [sentence] = failures(result).values()
    assert said in sentence


def test_without_a_manifest_there_is_nothing_to_judge(shop: Shop) -> None:
    shop.deliver("orders", *ROWS)
    check = checks(shop.run("raw_orders"))["raw_orders", "manifest_agrees"]
    assert check.passed
    assert check.metadata["rows_judged"].value == 0


def test_rows_that_are_promised_and_not_there_are_missed(shop: Shop) -> None:
    (shop.home / "landing" / "orders").mkdir(parents=True)
    manifest = shop.home / "landing" / "orders" / f"{DAY}.manifest.json"
    manifest.write_text('{"rows": 2}', encoding="utf8")
    result = shop.run("raw_orders")
    [sentence] = failures(result).values()
    assert f"raw_orders {DAY}: its manifest tells of 2 rows, and no file is there" in sentence
    assert not checks(result)["raw_orders", "manifest_agrees"].passed
    manifest.write_text('{"rows": 0}', encoding="utf8")
    assert shop.run("raw_orders").success
