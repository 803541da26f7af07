"""What is remembered of the checks of a run, whatever becomes of it; and that personal data stays out of it all."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from data_platform.cli import app
from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.contracts.rules import Rule, row_count
from data_platform.errors import DatabaseUnavailable
from data_platform.quality.history import CheckRecord, newest_results
from data_platform.quality.recording import QualityResult, bars
from data_platform.settings import settings
from data_platform.warehouse import facts
from data_platform.warehouse.connection import connected
from data_platform_tests.shop import DAY, Shop, checks, customer, failures, line, open_shop, product

NEXT = "2024-01-06"


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def remembered(shop: Shop, asset: str, rule: str) -> list[tuple[Any, ...]]:
    return shop.query(
        "SELECT partition_date::text, severity, passed, rows_judged, rows_failed FROM platform.check_results"
        f" WHERE asset = '{asset}' AND rule = '{rule}' ORDER BY result_id"
    )


def amended(monkeypatch: pytest.MonkeyPatch, entity: str, **changes: Any) -> Contract:
    """The contract of a staged table with other rules, wherever it is used."""
    contract = STAGED[entity]
    for name, value in changes.items():
        monkeypatch.setitem(contract.__dict__, name, value)
    return contract


# A record each check and partition


def test_every_check_of_a_run_is_remembered_by_partition(shop: Shop) -> None:
    shop.deliver("orders", line("o1"), line("o2", quantity="many"), line("o3", customer_id=""))
    shop.deliver("orders", line("o4"), day=NEXT)
    shop.deliver("products", product())
    result = shop.run(None, DAY, NEXT)
    assert result.success
    told = {(check.asset_key.path[-1], check.check_name) for check in result.get_asset_check_evaluations()}
    found = set(shop.query("SELECT DISTINCT asset, rule FROM platform.check_results"))
    assert found <= told
    # Of no return, of no customer and of no manifest there is nothing to judge.
    nothing = {name for asset, name in told - found if asset not in ("fact_returns", "stg_customers")}
    assert nothing == {"manifest_agrees"}
    assert remembered(shop, "stg_orders", "values_can_be_read") == [
        (DAY, "critical", False, 3, 1), (NEXT, "critical", True, 1, 0)
    ]  # fmt: skip
    assert remembered(shop, "stg_orders", "customer_is_named") == [
        (DAY, "info", False, 3, 1), (NEXT, "info", True, 1, 0)
    ]  # fmt: skip
    assert remembered(shop, "raw_products", "delivery_is_there") == [
        (DAY, "warning", True, 1, 0), (NEXT, "warning", False, 1, 1)
    ]  # fmt: skip
    assert remembered(shop, "fact_sales", "customer_id_is_known") == [
        (DAY, "info", False, 1, 1),
        (NEXT, "info", False, 1, 1),
    ]
    assert remembered(shop, "fact_sales", "product_id_is_known") == [
        (DAY, "warning", True, 2, 0),
        (NEXT, "warning", True, 1, 0),
    ]
    assert shop.query("SELECT value, threshold FROM platform.check_results WHERE rule = 'row_count' ORDER BY 1") == [
        (1.0, "1 or more"), (2.0, "1 or more")
    ]  # fmt: skip
    runs = shop.query("SELECT DISTINCT run_id FROM platform.check_results")
    assert runs == [(result.run_id,)]


def test_the_newest_result_of_a_partition_counts(shop: Shop) -> None:
    shop.deliver("orders", line("o1", unit_price="0"))
    shop.run("raw_orders,stg_orders")
    shop.deliver("orders", line("o1", unit_price="1"))
    shop.run("raw_orders,stg_orders")
    with connected(shop.warehouse) as connection:
        newest = newest_results(connection, asset="stg_orders", since=date.fromisoformat(DAY))
    of_rule = newest.filter(pl.col("rule") == "unit_price_above_zero")
    assert of_rule.select("partition_date", "passed").rows() == [(date.fromisoformat(DAY), True)]
    assert len(remembered(shop, "stg_orders", "unit_price_above_zero")) == 2


# Runs that fail


def test_a_rejected_delivery_is_remembered(shop: Shop) -> None:
    shop.deliver("orders", *(line(f"o{n}", unit_price="x") for n in range(12)))
    assert not shop.run("raw_orders,stg_orders").success
    assert remembered(shop, "stg_orders", "delivery_is_accepted") == [(DAY, "critical", False, 1, 1)]
    assert remembered(shop, "stg_orders", "values_can_be_read") == [(DAY, "critical", False, 12, 12)]


def test_a_broken_rule_that_stops_a_publish_is_remembered(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = Rule("nobody_buys", "critical", "Nobody buys.", pl.col("quantity") < 0)
    monkeypatch.setattr(facts, "CONTRACTS", tuple(replace(one, rules=(strict,)) for one in facts.CONTRACTS))
    shop.deliver("orders", line("o1"))
    assert not shop.run().success
    assert remembered(shop, "fact_sales", "nobody_buys") == [(DAY, "critical", False, 1, 1)]


def test_what_fails_for_one_day_is_not_forgotten_by_a_run_of_another(shop: Shop) -> None:
    shop.deliver("orders", line("o1"))
    shop.deliver("orders", line("o2", day=NEXT), day=NEXT)
    assert shop.run().success
    shop.execute("UPDATE warehouse.fact_sales SET profit = 1")
    assert not checks(shop.run())["fact_sales", "profit_follows_cost"].passed
    assert checks(shop.run(None, NEXT))["fact_sales", "profit_follows_cost"].passed
    with connected(shop.warehouse) as connection:
        newest = newest_results(connection, asset="fact_sales").filter(pl.col("rule") == "profit_follows_cost")
    assert newest.select(pl.col("partition_date").cast(pl.String), "passed").rows() == [(DAY, False), (NEXT, True)]


def test_a_history_that_cannot_be_written_stops_nothing_and_is_logged(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shop.deliver("orders", line("o1"))
    assert shop.run("raw_orders").success
    shop.execute("ALTER TABLE platform.check_results RENAME TO gone")
    with caplog.at_level(logging.WARNING):
        result = shop.run("raw_orders,stg_orders")
    assert result.success
    assert checks(result)["stg_orders", "values_can_be_read"].passed
    assert "The results of" in caplog.text
    assert "were not recorded: The warehouse at" in caplog.text


def test_staging_goes_on_where_the_warehouse_is_away(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.deliver("orders", line("o1"))

    def away(*_: object) -> str:
        raise DatabaseUnavailable("The warehouse does not answer.")

    monkeypatch.setattr("data_platform.resources.ready_warehouse", away)
    result = shop.run("raw_orders,stg_orders")
    assert result.success
    drift = checks(result)["stg_orders", "drift_row_count"]
    assert not drift.passed
    assert "does not answer" in (drift.description or "")


# Rules of deliveries, rules that raise, rules that ask the warehouse


def test_a_critical_measure_rejects_the_delivery_and_what_stood_before_stands(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.deliver("orders", line("o1"), line("o2"))
    assert shop.run("raw_orders,stg_orders").success
    amended(monkeypatch, "orders", measures=(row_count(2, severity="critical"),))
    shop.deliver("orders", line("o1"))
    result = shop.run("raw_orders,stg_orders")
    assert not result.success
    [said] = failures(result).values()
    assert "stg_orders 2024-01-05: row_count is 1, not 2 or more" in said
    check = checks(result)["stg_orders", "row_count"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.metadata["threshold"].value == "2 or more"
    assert shop.lake.read("stg_orders", date.fromisoformat(DAY)).height == 2


@pytest.mark.parametrize("broken", ["total_fits", "discount_has_sign_of_quantity"])
def test_a_rule_that_raises_is_a_failed_rule_and_no_crash(
    broken: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = STAGED["orders"]
    nonsense = pl.col("no such column") > 0
    critical = {rule.name for rule in contract.rules if rule.severity == "critical"}
    rules = tuple(replace(rule, passes=nonsense) if rule.name == broken else rule for rule in contract.rules)
    [rows, nulls] = contract.measures
    measures = (rows, replace(nulls, value=pl.col("no such column").sum()))
    amended(monkeypatch, "orders", rules=rules, measures=measures)
    shop.deliver("orders", line("o1"), line("o2", unit_price="0"))
    result = shop.run("raw_orders,stg_orders")
    assert result.success == (broken not in critical)
    found = checks(result)
    said = "It cannot be judged: the rule raised ColumnNotFoundError"
    for name in (broken, nulls.name):
        assert not found["stg_orders", name].passed
        assert (found["stg_orders", name].description or "").startswith(said)
    assert found["stg_orders", "unit_price_above_zero"].metadata["rows_failed"].value == 1, "the others are judged"
    assert found["stg_orders", "row_count"].passed
    if broken in critical:
        assert f"the critical rule {broken} cannot be judged" in "".join(failures(result).values())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT no_such_column FROM warehouse.fact_sales", "the query raised UndefinedColumn: column"),
        ("SELECT 'ada@example.org'::date, 1, 1", "the query raised InvalidDatetimeFormat."),
        ("SELECT 1", "the query raised ValueError."),
    ],
)
def test_a_query_that_fails_is_a_failed_rule_and_the_others_are_asked(
    query: str, said: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = facts.CONTRACTS[0]
    customers, products = contract.queries
    monkeypatch.setitem(contract.__dict__, "queries", (replace(customers, query=query), products))
    shop.deliver("orders", line("o1"))
    result = shop.run()
    assert result.success
    found = checks(result)
    assert (found["fact_sales", "customer_id_is_known"].description or "").startswith(f"It cannot be judged: {said}")
    assert "ada@" not in str(found["fact_sales", "customer_id_is_known"])
    assert found["fact_sales", "product_id_is_known"].metadata["rows_failed"].value == 1
    assert remembered(shop, "fact_sales", "customer_id_is_known") == [(None, "info", False, 0, 0)]


# What a run's result says of itself


def test_the_result_of_a_run_as_an_object() -> None:
    def record(rule: str, severity: Any, passed: bool) -> CheckRecord:
        return CheckRecord("stg_orders", rule, severity, passed)

    records = (record("a", "critical", True), record("b", "warning", False), record("c", "info", False))
    result = QualityResult(records)
    assert (result.passed, result.total, result.passed_checks) == (True, 3, 1)
    assert [one.rule for one in result.warnings] == ["b"]
    stopped = QualityResult((*records, record("d", "critical", False)))
    assert not stopped.passed
    assert [one.rule for one in stopped.critical_failures] == ["d"]


def test_bars_tell_a_trend() -> None:
    assert bars([0, 0.5, 1]) == "▁▅█"
    assert bars([0, 0]) == "▁▁"
    assert bars([]) == ""


def test_a_check_that_fails_shows_its_trend(shop: Shop) -> None:
    for day, price in ((DAY, "1"), (NEXT, "0")):
        shop.deliver("orders", line("o1", unit_price=price), day=day)
    found = checks(shop.run("raw_orders,stg_orders", DAY, NEXT))
    assert found["stg_orders", "unit_price_above_zero"].metadata["trend"].value == "▁█"


# Personal data

ADDRESS = "ada.lovelace@example.org"
NAMES = ("Adalbertina", "Lovelace-King")


def test_a_planted_address_and_a_name_leave_in_no_way(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Valid, in a row that is rejected, under a name that no contract knows, and in an address that breaks its rule."""
    person = {"email": ADDRESS, "first_name": NAMES[0], "last_name": NAMES[1]}
    shop.deliver(
        "customers",
        customer("c1", **person),
        customer("c2", **person, created_date="no date", contact=ADDRESS),
        customer("c3", **person | {"email": f"{ADDRESS} {ADDRESS}"}),
        customer("c4", segment=ADDRESS),
        customer(ADDRESS, **person | {"email": "none"}, segment=ADDRESS, updated_at="no time"),
        columns=["created_date", "contact", "updated_at", ADDRESS],
    )
    shop.deliver("orders", line("o1"), line("o2", customer_id="c2"))
    shop.deliver("products", product())
    with caplog.at_level(logging.DEBUG):
        result = shop.run()
    assert result.success
    found = checks(result)
    assert not found["stg_customers", "email_looks_like_one"].passed, "it was judged"
    assert not found["stg_customers", "values_can_be_read"].passed
    monkeypatch.setenv("DATA_PLATFORM_HOME", str(shop.home))
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", shop.warehouse)
    monkeypatch.setenv("DATA_PLATFORM_SOURCES", str(shop.home / "sources.yaml"))
    settings.cache_clear()
    try:
        shown = [CliRunner().invoke(app, ["quarantine", *words]) for words in (["list"], ["show"], ["show", "--json"])]
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert all(one.exit_code == 0 for one in shown)
    assert "created_date" in shown[1].output
    written = capfd.readouterr()
    places = {
        "log": caplog.text,
        "output": written.out + written.err,
        "events": "\n".join(entry.to_json() for entry in shop.instance.all_logs(result.run_id)),
        "history": str(shop.query("SELECT * FROM platform.check_results")),
        "profiles": str(shop.query("SELECT profile::text FROM platform.partition_profiles")),
        "ledger": str(shop.query("SELECT * FROM platform.load_ledger")),
        "report": (shop.home / "reports" / "quality.html").read_text(encoding="utf8"),
        "commands": "".join(one.output for one in shown),
        "stamps": json.dumps([vars(one) for one in shop.lake.stamps("stg_customers").values()], default=str),
    }
    for place, text in places.items():
        assert text, place
        for secret in (ADDRESS, *NAMES):
            assert secret not in text, place
    assert ADDRESS in str(shop.query("SELECT email FROM warehouse.dim_customer")), "where it belongs it is"
