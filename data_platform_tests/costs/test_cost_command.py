"""`data-platform cost …` as a person calls it: figures, JSON, and one sentence for whatever is missing or wrong."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from data_platform.cli import app
from data_platform.costs.metering import Meter
from data_platform.costs.recording import Spent, record
from data_platform.settings import settings
from data_platform_tests.conftest import throw_away
from data_platform_tests.shop import Shop, customer, failures, line, open_shop, product

MOMENT = datetime(2026, 2, 3, 12, tzinfo=UTC)
SPENT = Spent("run-1", "raw_orders", "raw_orders", "raw", "succeeded", MOMENT, 3600.0, 900.0, 10**8, Meter(), ())
PRICES = "currency: EUR\nprices: [{from: 2026-02-01, instance_hour: 2, lake_gb_month: 28, fixed_month: 0.28}]\n"


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATA_PLATFORM_HOME", str(tmp_path))
    monkeypatch.setenv("DATA_PLATFORM_PRICES", str(tmp_path / "prices.yaml"))
    monkeypatch.setenv("COLUMNS", "200")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def warehouse(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", warehouse_url)
    settings.cache_clear()
    return warehouse_url


def cost(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["cost", *arguments], prog_name="data-platform")


def answer(*arguments: str) -> dict[str, Any]:
    result = cost(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def spend(url: str) -> None:
    meter = Meter(bytes_read=5, bytes_written=7, rows={}, other_rows=500_000, rows_written=3)
    record(
        url, [replace(SPENT, meter=meter, storage=10**9), replace(SPENT, step="other", asset="other", layer="other")]
    )


def test_a_report_with_prices_has_money_that_adds_up(warehouse: str, tmp_path: Path) -> None:
    spend(warehouse)
    (tmp_path / "prices.yaml").write_text(PRICES)
    found = answer("report", "--from", "2026-02-03", "--to", "2026-02-04")
    assert (found["from"], found["to"], found["currency"], found["days_without_prices"]) == (
        "2026-02-03",
        "2026-02-04",
        "EUR",
        0,
    )
    lines = {each["asset"]: each for each in found["lines"]}
    raw = lines["raw_orders"]
    assert [Decimal(raw[name]) for name in ("compute", "transfer", "storage", "money")] == [2, 0, 2, 4]
    assert [raw[name] for name in ("runs", "steps", "rows", "rows_written", "bytes_read", "bytes_written")] == [
        1, 1, 500_000, 3, 5, 7,
    ]  # fmt: skip
    assert (Decimal(raw["money_per_million_rows"]), Decimal(raw["seconds_per_million_rows"])) == (8, 7200)
    assert raw["storage_growth_bytes"] == 10**9
    assert Decimal(lines["(fixed)"]["fixed"]) == Decimal("0.02")
    assert sum(Decimal(each["money"]) for each in lines.values()) == Decimal(found["total"]["money"]) == Decimal("6.02")
    shown = cost("report", "--from", "2026-02-03", "--to", "2026-02-04").stdout
    assert "What was spent from 2026-02-03 to 2026-02-04" in shown
    assert "6.0200" in shown
    assert "EUR / M rows" in shown


@pytest.mark.parametrize("by", ["asset", "month", "layer", "run"])
def test_a_report_is_by_what_is_asked(by: str, warehouse: str) -> None:
    spend(warehouse)
    names = {each[by] for each in answer("report", "--by", by, "--to", "2026-02-03")["lines"]}
    expected = {"asset": {"raw_orders", "other"}, "month": {"2026-02"}, "layer": {"raw", "other"}}
    assert names == expected.get(by, {"run-1", "(storage)"})


def test_without_prices_it_says_where_to_put_them(warehouse: str, tmp_path: Path) -> None:
    spend(warehouse)
    result = cost("report")
    assert result.exit_code == 0
    assert f"There is no money in it: {tmp_path / 'prices.yaml'} holds no prices. `data-platform init` writes" in (
        result.stdout
    )
    assert answer("report")["total"]["money"] is None
    assert answer("report")["total"]["seconds"] == "7200.000"


def test_days_before_the_first_price_are_told(warehouse: str, tmp_path: Path) -> None:
    spend(warehouse)
    (tmp_path / "prices.yaml").write_text(PRICES.replace("2026-02-01", "2026-02-05"))
    result = cost("report", "--to", "2026-02-07")
    assert (
        "Of these days 2 came before 2026-02-05, the first that has prices: what was spent then counts as 0; add an "
        in (result.stdout)
    )


def test_of_a_warehouse_without_runs_it_says_so(warehouse: str) -> None:
    result = cost("report")
    assert result.exit_code == 0
    assert "Nothing is measured yet: every run does so by itself, from the next one on." in result.stdout
    estimate = cost("estimate", "--orders-per-day", "10", "--years", "1")
    assert estimate.exit_code == 1
    assert "Nothing is measured yet that an estimate could go by" in estimate.output


@pytest.mark.parametrize("arguments", [("report",), ("estimate", "--orders-per-day", "10", "--years", "1")])
def test_without_a_warehouse_or_its_schema_it_says_what_makes_one(
    arguments: tuple[str, ...], tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = cost(*arguments)
    assert (none.exit_code, none.output.count("\n")) == (1, 1)
    assert "There is no warehouse yet: `data-platform demo` or `data-platform backfill` makes it." in none.output
    assert not (tmp_path / "postgres").exists()
    with throw_away(server) as url:
        monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", url)
        settings.cache_clear()
        empty = cost(*arguments)
        assert empty.exit_code == 1
        assert "The warehouse is empty" in empty.output
        with psycopg.connect(url) as connection:
            connection.execute("CREATE SCHEMA platform")
            connection.execute("CREATE TABLE platform.load_ledger (asset text)")
        older = cost(*arguments)
        assert older.exit_code == 1
        assert "Nothing is measured yet" in older.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("report", "--from", "soon"), "--from is 'soon', which is not a date: write it as YYYY-MM-DD."),
        (("report", "--from", "2026-02-03", "--to", "2026-02-01"), "--from 2026-02-03 is after --to 2026-02-01"),
        (("report", "--from", "9998-01-01"), "--from 9998-01-01 is after today, "),
        (("report", "--by", "colour"), "--by"),
        (("estimate", "--orders-per-day", "0", "--years", "1"), "--orders-per-day"),
        (("estimate", "--orders-per-day", "5", "--years", "0"), "--years"),
        (("estimate", "--years", "1"), "--orders-per-day"),
    ],
)
def test_bad_usage_is_told(arguments: tuple[str, ...], said: str, warehouse: str) -> None:
    result = cost(*arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_prices_that_cannot_be_read_are_told(warehouse: str, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("currency: EUR\nprices: [{from: 2026-01-01, cpu_hours: 1}]\n")
    for arguments in (("report",), ("estimate", "--orders-per-day", "10", "--years", "1")):
        result = cost(*arguments)
        assert result.exit_code == 1
        assert "prices[1].cpu_hours is no known key (did you mean cpu_hour?)" in result.output


def test_an_estimate_of_a_real_run(warehouse: str, tmp_path: Path) -> None:
    with open_shop(tmp_path, warehouse) as shop:
        deliver(shop)
        done = shop.run("raw_orders,stg_orders,dim_date,fact_sales,mart_daily_sales")
        assert done.success, failures(done)
    (tmp_path / "prices.yaml").write_text(PRICES)
    found = answer("estimate", "--orders-per-day", "100", "--years", "2")
    assert found["scenario"]["orders_per_day"] == 100
    assert [year["year"] for year in found["years"]] == [1, 2]
    assert all(Decimal(year["money"]) > 0 for year in found["years"])
    assets = {each["asset"]: each for each in found["assets"]}
    assert assets["stg_orders"]["rows"] == 200, "two lines an order"
    assert found["assumptions"]
    assert any("Only 1 runs published facts" in sentence for sentence in found["warnings"])
    shown = cost("estimate", "--orders-per-day", "100", "--years", "2")
    assert shown.exit_code == 0
    assert "It assumes:" in shown.output
    assert "A guess: " in shown.output


def deliver(shop: Shop) -> None:
    shop.deliver("orders", *(line(f"o{n}", line_number=number) for n in range(9) for number in (1, 2)))
    shop.deliver("products", product())
    shop.deliver("customers", customer())
