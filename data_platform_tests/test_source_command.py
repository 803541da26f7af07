"""`data-platform source …` and `contract diff`, as people meet them: a source on trial writes nothing."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from typer.testing import CliRunner, Result

from data_platform.cli import app
from data_platform.settings import settings
from data_platform_tests.conftest import throw_away
from data_platform_tests.shop import DAY, Shop, customer, line

URL = "SHOP_DATABASE_URL"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DATA_PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA_PLATFORM_SOURCES", str(tmp_path / "sources.yaml"))
    settings.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="data-platform")


def declare(home: Path, text: str) -> None:
    (home.parent / "sources.yaml").write_text(text)


def deliver(home: Path, entity: str, *rows: dict[str, Any]) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        Shop(home, "", instance).deliver(entity, *rows)


def files(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file() and path.parent.name != "logs"}


def test_a_delivery_on_trial_is_mapped_typed_and_judged_and_nothing_is_written(home: Path) -> None:
    deliver(home, "orders", line("1"), line("2", quantity="many"))
    before = files(home)
    result = invoke("source", "test", "orders", "--date", DAY)
    assert result.exit_code == 0, result.output
    assert "1 × quantity cannot be read as integer" in result.output
    assert "1 would be staged, 1 quarantined" in result.output
    assert files(home) == before


def test_what_a_run_would_reject_is_rejected_on_trial(home: Path) -> None:
    declare(home, "orders: {schema_changes: freeze, ignore: [note]}\n")
    deliver(home, "orders", {**line("1"), "colour": "red", "note": "x"})
    result = invoke("source", "test", "orders", "--date", DAY, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["unknown"]) == (1, ["colour"])
    assert "colour is new" in told["refusal"]


def test_one_of_several_full_sources_is_not_judged_by_the_keys_of_all(home: Path) -> None:
    declare(home, "customers: {mode: full, deletion_rows: 1, sources: {shop: {}, club: {}}}\n")
    deliver(home, "customers/shop", customer("c1"))
    assert invoke("source", "test", "customers.shop", "--date", DAY).exit_code == 0
    assert invoke("source", "test", "customers", "--date", DAY).exit_code == 2


def test_a_source_without_a_window_is_not_asked_for_the_past(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = home.parent / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE products (product_id TEXT)")
    monkeypatch.setenv(URL, f"sqlite:///{database}")
    declare(home, f"products: {{sql: {{url: {URL}, table: products}}}}\n")
    result = invoke("source", "test", "products", "--date", DAY)
    assert result.exit_code == 1
    assert "products.sql has no window" in result.output
    assert invoke("source", "test", "products").exit_code == 0


def test_a_replay_of_landing_files_is_refused_with_what_to_do(home: Path) -> None:
    result = invoke("source", "replay", "orders", "--from", DAY, "--to", DAY)
    assert result.exit_code == 2
    assert "lies in the landing folder" in result.output


@pytest.mark.slow
def test_a_replay_reaches_the_facts(
    home: Path, warehouse_url: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = home.parent / "shop.db"
    row = line("1")
    with sqlite3.connect(source) as connection:
        connection.execute(f"CREATE TABLE lines ({', '.join(row)}, changed TEXT)")
        connection.execute(f"INSERT INTO lines VALUES ({'?, ' * len(row)}'{DAY} 12:00:00')", list(row.values()))
    monkeypatch.setenv(URL, f"sqlite:///{source}")
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", warehouse_url)
    declare(home, f"orders: {{sql: {{url: {URL}, table: lines, window: changed}}}}\n")
    with throw_away(server) as storage:
        monkeypatch.setenv("DATA_PLATFORM_DAGSTER_URL", storage)
        settings.cache_clear()
        result = invoke("backfill", "--from", DAY, "--to", DAY, "--select", "raw_orders")
        assert result.exit_code == 0, result.output
        source.unlink()
        result = invoke("source", "replay", "orders", "--from", DAY, "--to", DAY)
        assert result.exit_code == 0, result.output
    with psycopg.connect(warehouse_url) as connection:
        assert connection.execute("SELECT order_id FROM warehouse.fact_sales").fetchall() == [("1",)]


def test_what_contract_diff_prints_for_sources_yaml_is_yaml(home: Path) -> None:
    declare(home, "customers: {ignore: ['a: b']}\n")
    row = {**customer("c1"), "loyalty: tier": "x", "Order #": "2", "a: b": "y", "effective_from": "z", "a b": "1"}
    deliver(home, "customers", {**row, "a_b": "1", "a-b": "2"})
    result = invoke("contract", "diff", "customers", "--date", DAY)
    assert result.exit_code == 0, result.output
    told = {}
    for printed in result.stdout.splitlines():
        for key in ("columns", "ignore"):
            if f"at customers: {key}: " in printed:
                told |= yaml.safe_load(printed.partition("at customers: ")[2])
    assert told["columns"] == {
        "loyalty_tier": "loyalty: tier", "order": "Order #", "effective_from_2": "effective_from", "a_b_2": "a_b",
        "a_b_3": "a-b", "a_b": "a b",
    }  # fmt: skip
    assert told["ignore"] == ["a: b", "loyalty: tier", "Order #", "effective_from", "a b", "a_b", "a-b"]
    assert "--from DATE --to DATE" in result.stdout
