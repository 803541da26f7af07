"""Publications and refreshes to Postgres and tables back, as the assets hand them over."""

import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pandas as pd
import polars as pl
import psycopg
import pytest

from data_platform.assets.marts import as_pandas
from data_platform.contracts import MARTS, WAREHOUSE
from data_platform.io_managers.parquet import LakeIOManager
from data_platform.io_managers.postgres import REFRESH, Publication, WarehouseIOManager
from data_platform.partitions import DAILY
from data_platform.warehouse import marts
from data_platform_tests.conftest import throw_away
from data_platform_tests.shop import DAY, Shop, checks, customer, failures, line, open_shop, product

NEXT = "2024-01-06"


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


@pytest.fixture(scope="module")
def first_run(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A sale on the first day, another and a return of the first on the next: run once, copied for each test."""
    with throw_away(server, template) as url, open_shop(tmp_path_factory.mktemp("home"), url) as shop:
        shop.deliver("products", product())
        shop.deliver("customers", customer())
        shop.deliver("orders", line("o1"))
        shop.deliver("orders", line("o2", day=NEXT), line("r1", quantity=-1, day=NEXT), day=NEXT)
        result = shop.run(None, DAY, NEXT)
        assert result.success, failures(result)
        yield shop


@pytest.fixture
def loaded(first_run: Shop, server: str, tmp_path: Path) -> Iterator[Shop]:
    shutil.copytree(first_run.home, tmp_path, dirs_exist_ok=True)
    with throw_away(server, urlsplit(first_run.warehouse).path[1:]) as url, open_shop(tmp_path, url) as shop:
        yield shop


def manager(shop: Shop) -> WarehouseIOManager:
    return WarehouseIOManager(platform=shop.platform)


def hand_over(shop: Shop, table: str, value: Any, days: str = DAY) -> dict[str, Any]:
    """What the IO manager says of an output."""
    about: dict[str, Any] = {"asset_key": table}
    if not table.startswith("mart_"):
        span = dg.PartitionKeyRange(days, days)
        about |= {"asset_partitions_def": DAILY, "asset_partition_key_range": span}
    with dg.build_output_context(run_id="run", **about) as context:
        manager(shop).handle_output(context, value)
        return {name: value.value for name, value in context.get_logged_metadata().items()}


def read(shop: Shop, table: str, kind: Any, first: str | None = None, last: str | None = None) -> Any:
    about: dict[str, Any] = {}
    if first:
        span = dg.PartitionKeyRange(first, last or first)
        about = {"asset_partitions_def": DAILY, "asset_partition_key_range": span}
    wanted = dg.DagsterType(lambda _, __: True, name="Wanted", typing_type=kind)
    with dg.build_input_context(asset_key=dg.AssetKey(table), dagster_type=wanted, **about) as context:
        return manager(shop).load_input(context)


def ledger(shop: Shop) -> list[Any]:
    return shop.query("SELECT asset, count(*)::integer FROM platform.load_ledger GROUP BY 1 ORDER BY 1")


# Publications


def test_both_fact_tables_are_one_publish(shop: Shop) -> None:
    shop.deliver("orders", line("o1"), line("r1", quantity=-1))
    result = shop.run("raw_orders,stg_orders,dim_date,fact_sales,fact_returns")
    assert result.success, failures(result)
    assert ledger(shop) == [("fact_sales", 1)]
    written = {
        str(event.asset_key.path[-1]): event.materialization.metadata["rows_inserted"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key and event.asset_key.path[-1].startswith("fact_")
    }
    assert written == {"fact_sales": 2, "fact_returns": 2}


@pytest.mark.parametrize("fact", ["fact_sales", "fact_returns"])
def test_either_fact_table_alone_brings_both_right(shop: Shop, fact: str) -> None:
    shop.deliver("orders", line("o1"), line("r1", quantity=-1))
    result = shop.run(f"raw_orders,stg_orders,dim_date,{fact}")
    assert result.success, failures(result)
    assert shop.query("SELECT (SELECT count(*) FROM warehouse.fact_sales), count(*) FROM warehouse.fact_returns") == [
        (1, 1)
    ]
    assert {table for table, _ in checks(result) if table.startswith("fact_")} == {fact}


def test_a_publication_says_what_it_did_and_nothing_is_published_twice(loaded: Shop) -> None:
    publication = Publication("fact_sales")
    said = hand_over(loaded, "fact_sales", publication)
    assert said["path"] == "nothing changed"
    assert (said["rows_inserted"], said["rows_updated"], said["rows_deleted"]) == (0, 0, 0)
    report = publication.report
    hand_over(loaded, "fact_returns", publication)
    assert publication.report is report
    assert ledger(loaded) == [("dim_customer", 2), ("dim_product", 2), ("fact_sales", 2)]


def test_the_balance_of_what_was_published_is_a_check(shop: Shop) -> None:
    shop.deliver("orders", line("o1"), line("o1"), line("o2", quantity="x"), line("r1", quantity=-1))
    result = shop.run("raw_orders,stg_orders,fact_sales")
    found = checks(result)["fact_sales", "rows_balance"]
    assert found.passed
    assert found.description == ("4 delivered = 2 staged + 1 quarantined + 1 duplicate; staged = 1 return + 1 sale")


def test_the_calendar_has_the_years_of_what_is_staged_and_is_written_once(shop: Shop) -> None:
    shop.deliver("orders", line("o1", day="2023-12-31"))
    shop.deliver("orders", line("o2", day="2025-03-01"), day="2025-03-01")
    for day in (DAY, "2025-03-01"):
        assert shop.run(None, day).success
    years = "SELECT DISTINCT year FROM warehouse.dim_date ORDER BY 1"
    assert shop.query(years) == [(2023,), (2024,), (2025,)]
    before = shop.places("warehouse")
    for day in (DAY, "2025-03-01"):
        assert shop.run("dim_date,fact_sales", day).success
    assert shop.places("warehouse") == before


@pytest.mark.parametrize("value", [None, 5, pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]})])
def test_anything_else_is_refused(shop: Shop, value: Any) -> None:
    with pytest.raises(
        dg.Failure, match=f"fact_sales returned a {type(value).__name__}: return a Publication or a Ref"
    ):
        hand_over(shop, "fact_sales", value)


def test_a_refused_publish_is_the_sentence_of_the_run_and_downstream_does_not_run(loaded: Shop) -> None:
    loaded.lake.path("stg_orders", loaded.lake.days("stg_orders")[0]).unlink()
    result = loaded.run("fact_sales,mart_daily_sales", NEXT)
    assert "stg_orders lacks 1 partitions that the warehouse was loaded from" in failures(result)["facts"]
    assert "mart_daily_sales" not in {event.step_key for event in result.all_node_events if event.is_step_start}


def test_a_warehouse_that_is_down_is_the_sentence_of_the_run_and_may_be_retried(tmp_path: Path) -> None:
    with open_shop(tmp_path, "postgresql://me:secret@127.0.0.1:1/none") as shop:
        result = shop.run("mart_daily_sales")
        assert "does not answer" in failures(result)["mart_daily_sales"]
        assert "secret" not in str(result.all_events)
        with pytest.raises(dg.Failure) as caught:
            hand_over(shop, "fact_sales", Publication("fact_sales"))
        assert caught.value.allow_retries


# Refreshes


def stale(shop: Shop, *keys: int, mart: str = "mart_daily_sales") -> None:
    for key in keys:
        shop.execute(f"INSERT INTO platform.mart_stale (mart, date_key) VALUES ('{mart}', {key})")


def test_a_refresh_is_applied_bare_or_carried_by_a_pandas_frame(loaded: Shop) -> None:
    loaded.execute("DELETE FROM marts.mart_customer_value")
    stale(loaded, 20240105, mart="mart_customer_value")
    refresh = marts.select_stale(loaded.warehouse, "mart_customer_value")
    frame = as_pandas(refresh.rows)
    frame.attrs[REFRESH] = refresh
    said = hand_over(loaded, "mart_customer_value", frame)
    assert said == {"rows_inserted": 1, "rows_updated": 0, "rows_deleted": 0, "superseded_by_another_run": False}
    assert loaded.query("SELECT count(*) FROM platform.mart_stale") == [(0,)]


def test_of_two_refreshes_of_the_same_marks_the_second_writes_nothing(loaded: Shop) -> None:
    loaded.execute("UPDATE marts.mart_daily_sales SET sales = 0")
    stale(loaded, 20240105, 20240106)
    one, other = (marts.select_stale(loaded.warehouse, "mart_daily_sales") for _ in range(2))
    assert hand_over(loaded, "mart_daily_sales", one)["rows_updated"] == 2
    before = loaded.places("marts")
    assert hand_over(loaded, "mart_daily_sales", other)["superseded_by_another_run"] is True
    assert loaded.places("marts") == before


def test_an_older_refresh_that_comes_after_a_newer_one_writes_nothing(loaded: Shop) -> None:
    stale(loaded, 20240105)
    older = marts.select_stale(loaded.warehouse, "mart_daily_sales")
    loaded.execute("UPDATE warehouse.fact_sales SET created_at = now()")
    stale(loaded, 20240106)
    newer = marts.select_stale(loaded.warehouse, "mart_daily_sales")
    assert not marts.apply(loaded.warehouse, newer).superseded
    assert marts.apply(loaded.warehouse, older).superseded


def test_a_newer_refresh_is_applied_though_an_older_one_has_worked_off_some_of_its_marks(loaded: Shop) -> None:
    stale(loaded, 20240105)
    older = marts.select_stale(loaded.warehouse, "mart_daily_sales")
    # What a publish does: the fact, and a mark of its date.
    loaded.execute("UPDATE warehouse.fact_sales SET quantity = 5, total_amount = 50 WHERE order_id = 'o2'")
    stale(loaded, 20240106)
    newer = marts.select_stale(loaded.warehouse, "mart_daily_sales")
    assert not marts.apply(loaded.warehouse, older).superseded
    assert marts.apply(loaded.warehouse, newer) == marts.Refreshed(updated=1)
    assert loaded.query("SELECT quantity FROM marts.mart_daily_sales ORDER BY date_key") == [(2,), (5,)]
    assert loaded.query("SELECT count(*) FROM platform.mart_stale") == [(0,)]


def test_a_publish_while_a_mart_is_refreshed_leaves_a_mark(loaded: Shop) -> None:
    stale(loaded, 20240105)
    refresh = marts.select_stale(loaded.warehouse, "mart_daily_sales")
    loaded.deliver("orders", line("o1", quantity=7))
    assert loaded.run("raw_orders,stg_orders,fact_sales").success
    marts.apply(loaded.warehouse, refresh)
    assert loaded.run("mart_daily_sales").success
    assert loaded.query("SELECT quantity FROM marts.mart_daily_sales WHERE date_key = 20240105") == [(7,)]


def test_readers_of_a_mart_are_not_held_up_by_a_refresh(loaded: Shop) -> None:
    stale(loaded, 20240105)
    refresh = marts.select_stale(loaded.warehouse, "mart_daily_sales")
    with psycopg.connect(loaded.warehouse) as reader:
        before = reader.execute("SELECT count(*) FROM marts.mart_daily_sales").fetchall()
        marts.apply(loaded.warehouse, refresh)
        assert reader.execute("SELECT count(*) FROM marts.mart_daily_sales").fetchall() == before


# Reading


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame, pd.DataFrame])
def test_tables_are_read_as_the_type_that_is_asked_for(loaded: Shop, kind: Any) -> None:
    found = read(loaded, "dim_product", kind, DAY)
    assert isinstance(found, kind)
    names = found.collect_schema().names() if isinstance(found, pl.LazyFrame) else list(found.columns)
    assert names == list(WAREHOUSE["dim_product"].columns)


def test_facts_are_those_delivered_on_the_partitions_that_are_asked_for(loaded: Shop) -> None:
    def orders(*days: str) -> list[str]:
        return read(loaded, "fact_sales", pl.DataFrame, *days).get_column("order_id").sort().to_list()

    assert orders(DAY) == ["o1"]
    assert orders(NEXT) == ["o2"]
    assert orders(DAY, NEXT) == ["o1", "o2"]
    assert orders("2024-02-01") == []
    assert orders() == ["o1", "o2"]


def test_marts_are_read_whole_and_exactly(loaded: Shop) -> None:
    rows = read(loaded, "mart_daily_sales", pl.DataFrame)
    assert rows.schema == MARTS["mart_daily_sales"].polars_schema
    assert rows.sort("date_key").select("sales", "returns").rows() == [
        (Decimal(20), Decimal(0)),
        (Decimal(20), Decimal(-10)),
    ]
    in_pandas = read(loaded, "mart_daily_sales", pd.DataFrame)
    assert sorted(in_pandas["lines"]) == [1, 1]


def test_an_asset_of_ones_own_reads_lake_and_warehouse(loaded: Shop) -> None:
    @dg.asset(partitions_def=DAILY, io_manager_key="lake")
    def basket(fact_sales: pl.DataFrame, stg_orders: pl.LazyFrame, mart_daily_sales: pd.DataFrame) -> pl.DataFrame:
        assert len(mart_daily_sales) == 2
        assert stg_orders.collect().height == 1
        return fact_sales.group_by("order_id").agg(pl.len())

    specs = [
        dg.AssetSpec("fact_sales", partitions_def=DAILY),
        dg.AssetSpec("stg_orders", partitions_def=DAILY),
        dg.AssetSpec("mart_daily_sales"),
    ]
    keys = {"fact_sales": "warehouse", "stg_orders": "lake", "mart_daily_sales": "warehouse"}
    specs = [spec.with_io_manager_key(keys[spec.key.path[-1]]) for spec in specs]
    resources = {"lake": LakeIOManager(platform=loaded.platform), "warehouse": manager(loaded)}
    assert dg.materialize([basket, *specs], selection=[basket], resources=resources, partition_key=DAY).success
    [day] = loaded.lake.days("basket")
    assert loaded.lake.read("basket", day).rows() == [("o1", 1)]


# Pandas


def test_the_pandas_mart_shows_its_summary_and_is_typed(loaded: Shop) -> None:
    result = loaded.run("mart_customer_value")
    assert result.success
    [event] = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert metadata["customers"].value == 1
    assert "| mean | 0.00 | 2.00 | 30.00 |" in str(metadata["summary"].value)


def test_a_pandas_mart_without_customers_is_accepted(shop: Shop) -> None:
    result = shop.run(None)
    assert result.success, failures(result)
    assert shop.query("SELECT count(*) FROM marts.mart_customer_value") == [(0,)]


def test_a_mart_that_breaks_a_critical_rule_stays_as_it_was(loaded: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = loaded.places("marts")
    loaded.execute("UPDATE warehouse.fact_sales SET quantity = 3, total_amount = 30")
    stale(loaded, 20240105)
    contract = MARTS["mart_daily_sales"]
    [rule] = [rule for rule in contract.rules if rule.name == "a_day_has_lines"]
    broken = type(rule)(rule.name, "critical", rule.description, pl.col("lines") > 5)
    monkeypatch.setitem(vars(contract), "rules", (broken,))
    result = loaded.run("mart_daily_sales")
    assert failures(result)["mart_daily_sales"].startswith(
        "mart_daily_sales: 1 rows would break the critical rule a_day_has_lines"
    )
    assert not checks(result)["mart_daily_sales", "a_day_has_lines"].passed
    assert loaded.places("marts") == before
