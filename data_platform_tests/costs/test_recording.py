"""What every step took is remembered: what it did exactly, whatever became of it, and without any harm to the run."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from data_platform.costs import metering, recording
from data_platform.definitions import build_defs
from data_platform.resources import Platform
from data_platform.warehouse.migrations import ready_warehouse
from data_platform_tests.conftest import throw_away
from data_platform_tests.shop import DAY, Shop, customer, failures, line, open_shop, product

NEXT, THIRD = "2024-01-06", "2024-01-07"
# Without the report, which takes longer than all the rest.
TABLES = (
    "raw_orders,raw_products,stg_orders,stg_products,dim_date,dim_product,fact_sales,"
    "mart_daily_sales,mart_customer_value"
)


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def costs(shop: Shop, columns: str, condition: str = "true") -> list[tuple[Any, ...]]:
    return shop.query(f"SELECT {columns} FROM platform.run_costs WHERE {condition} ORDER BY cost_id")


def deliver(shop: Shop, day: str = DAY, lines: int = 2) -> None:
    shop.deliver("orders", *(line(f"{day}-{n}", day=day) for n in range(lines)), day=day, columns=list(line("none")))
    shop.deliver("products", product(), day=day)
    shop.deliver("customers", customer(), day=day)


def test_every_step_of_a_run_is_recorded_under_its_asset(shop: Shop) -> None:
    deliver(shop)
    result = shop.run()
    assert result.success, failures(result)
    found = costs(shop, "step, asset, layer, outcome, run_id")
    started = {event.step_key for event in result.all_node_events if event.event_type_value == "STEP_START"}
    assert {step for step, *_ in found} == started
    assert len(found) == len(started)
    assert {(outcome, run) for *_, outcome, run in found} == {("succeeded", result.run_id)}
    of_step = {step: (asset, layer) for step, asset, layer, *_ in found}
    assert of_step["raw_orders_is_complete"] == of_step["raw_orders"] == ("raw_orders", "raw")
    assert of_step["stg_products_quarantine"] == ("stg_products", "staging")
    assert of_step["facts"] == ("fact_sales", "warehouse")
    assert of_step["mart_daily_sales"] == ("mart_daily_sales", "marts")
    assert of_step["quality_report"] == of_step["quality_report_budget"] == ("quality_report", "quality")
    assert costs(shop, "step", "seconds <= 0 OR cpu_seconds <= 0 OR peak_memory_bytes < 10000000") == []


def test_rows_bytes_and_storage_are_those_of_the_files_and_tables(shop: Shop) -> None:
    deliver(shop, lines=3)
    assert shop.run(TABLES).success
    landed = shop.landing("orders").stat().st_size
    raw, staged = (
        shop.lake.path(name, shop.lake.days(name)[0]).stat().st_size for name in ("raw_orders", "stg_orders")
    )
    columns = "rows, rows_written, bytes_read, bytes_written, storage_bytes, storage_growth_bytes"
    [(rows, written, read, sent, storage, growth)] = costs(shop, columns, "step = 'raw_orders'")
    assert (rows, written, storage, growth) == (3, 3, raw, raw)
    assert (read, sent > raw) == (landed, True), "the results of its checks are written as well"
    [(rows, written, read, sent, storage, growth)] = costs(shop, columns, "step = 'stg_orders'")
    assert (rows, written, storage, growth) == (3, 3, staged, staged)
    assert read >= raw
    [(rows, written, read, _, storage, growth)] = costs(shop, columns, "step = 'facts'")
    assert (rows, written) == (3, 3)
    assert read >= staged
    leaves = "SELECT relid FROM pg_partition_tree('warehouse.fact_sales') UNION ALL SELECT relid FROM pg_partition_tree"
    [(size,)] = shop.query(f"SELECT sum(pg_total_relation_size(relid)) FROM ({leaves}('warehouse.fact_returns')) AS t")
    assert storage == growth == size
    assert costs(shop, "rows, rows_written", "step = 'mart_daily_sales'") == [(3, 1)]
    assert costs(shop, "rows, rows_written", "step = 'mart_customer_value'") == [(3, 1)]
    assert costs(shop, "storage_bytes", "step = 'raw_orders_is_complete'") == [(None,)]


def test_growth_adds_up_to_what_there_is(shop: Shop) -> None:
    for day, lines in ((DAY, 2), (NEXT, 40), (THIRD, 1)):
        deliver(shop, day, lines)
        assert shop.run(TABLES, day).success
    deliver(shop, NEXT, 1)
    assert shop.run(TABLES, NEXT).success
    newest = "(SELECT DISTINCT ON (asset) asset, storage_bytes FROM platform.run_costs WHERE storage_bytes IS NOT NULL"
    found = shop.query(
        f"SELECT asset, storage_bytes, (SELECT sum(storage_growth_bytes) FROM platform.run_costs AS c"
        f" WHERE c.asset = n.asset) FROM {newest} ORDER BY asset, cost_id DESC) AS n"
    )
    assert {asset for asset, *_ in found} >= {
        "raw_orders",
        "stg_orders",
        "fact_sales",
        "dim_product",
        "mart_daily_sales",
    }
    for asset, storage, growth in found:
        assert storage == growth, asset
        if asset.startswith(("raw_", "stg_")):
            assert storage == shop.lake.stored_bytes(asset)
    assert costs(shop, "storage_growth_bytes < 0", "step = 'raw_orders'")[-1] == (True,), (
        "a smaller delivery shrinks it"
    )


def test_quarantine_counts_as_staging(shop: Shop) -> None:
    shop.deliver("orders", line("o1"), line("o2", quantity="many"))
    assert shop.run("raw_orders,stg_orders").success
    [day] = shop.lake.days("stg_orders")
    file = shop.lake.path("stg_orders", day).stat().st_size
    assert shop.lake.partition_sizes("stg_orders") == {day: file}
    [(storage,)] = costs(shop, "storage_bytes", "step = 'stg_orders'")
    assert storage == shop.lake.stored_bytes("stg_orders") > file


def test_a_run_that_finds_nothing_new_writes_nothing_and_grows_nothing(shop: Shop) -> None:
    deliver(shop)
    first = shop.run(TABLES)
    again = shop.run(TABLES)
    assert first.success
    assert again.success
    found = costs(shop, "step, rows_written, coalesce(storage_growth_bytes, 0)", f"run_id = '{again.run_id}'")
    assert len(found) == len(costs(shop, "step", f"run_id = '{first.run_id}'"))
    assert {(written, growth) for _, written, growth in found} == {(0, 0)}
    # What is read again is worked on again; what is not published again is not.
    rows = dict(costs(shop, "step, rows", f"run_id = '{again.run_id}'"))
    assert (rows["stg_orders"], rows["facts"], rows["mart_daily_sales"]) == (2, 0, 0)


# By partition


def test_a_range_is_one_row_that_the_view_spreads_over_its_partitions_by_rows(shop: Shop) -> None:
    for day, lines in ((DAY, 1), (NEXT, 3), (THIRD, 0)):
        deliver(shop, day, lines)
    assert shop.run(TABLES, DAY, THIRD).success
    days = "partition_dates::text[], partition_rows"
    for step in ("raw_orders", "stg_orders", "facts"):
        assert costs(shop, days, f"step = '{step}'") == [([DAY, NEXT, THIRD], [1, 3, 0])], step
    assert costs(shop, "cardinality(partition_dates)", "step IN ('mart_daily_sales', 'raw_orders_is_complete')") == [
        (0,),
        (0,),
    ]
    view = "SELECT partition_date::text, rows, spread, share::float FROM platform.run_costs_by_partition WHERE step = "
    assert shop.query(f"{view} 'stg_orders' ORDER BY 1") == [
        (DAY, 1, True, 0.25),
        (NEXT, 3, True, 0.75),
        (THIRD, 0, True, 0.0),
    ]
    assert [round(share, 9) for *_, share in shop.query(f"{view} 'dim_date' ORDER BY 1")] == [round(1 / 3, 9)] * 3
    [(off,)] = shop.query(
        "SELECT max(abs(c.seconds - p.seconds) + abs(c.bytes_read - p.bytes_read)) FROM platform.run_costs AS c JOIN"
        " (SELECT cost_id, sum(seconds) AS seconds, sum(bytes_read) AS bytes_read FROM platform.run_costs_by_partition"
        " GROUP BY cost_id) AS p USING (cost_id)"
    )
    assert off < 0.001
    assert shop.run("raw_orders", DAY).success
    assert shop.query(f"{view} 'raw_orders' ORDER BY cost_id DESC LIMIT 1") == [(DAY, 1, False, 1.0)]


def test_days_that_a_publish_catches_up_are_among_its_partitions(shop: Shop) -> None:
    deliver(shop, DAY, 2)
    deliver(shop, NEXT, 5)
    assert shop.run("raw_orders,stg_orders", DAY, NEXT).success
    assert shop.run("dim_date,fact_sales", NEXT).success
    [(dates, rows)] = costs(shop, "partition_dates::text[], partition_rows", "step = 'facts'")
    assert (dates, rows) == ([DAY, NEXT], [2, 5])


# What goes wrong


def test_a_step_that_fails_costs_as_well(shop: Shop) -> None:
    shop.landing("orders").parent.mkdir(parents=True)
    shop.landing("orders").write_bytes(b"")
    shop.deliver("products", product())
    result = shop.run(TABLES)
    assert not result.success
    outcomes = dict(costs(shop, "step, outcome"))
    assert outcomes["raw_orders"] == "failed"
    assert outcomes["raw_products"] == outcomes["dim_product"] == "succeeded"
    assert "stg_orders" not in outcomes, "it did not run"
    assert costs(shop, "partition_dates::text[], seconds > 0", "step = 'raw_orders'") == [([DAY], True)]


def test_without_a_warehouse_a_run_goes_on_and_it_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_shop(tmp_path, "postgresql://nobody:secret@127.0.0.1:1/none") as shop:
        deliver(shop)
        with caplog.at_level(logging.WARNING, recording.__name__):
            assert shop.run("raw_orders").success
    [said] = [entry.getMessage() for entry in caplog.records if entry.name == recording.__name__]
    assert said.startswith("What 2 steps took was not recorded: The warehouse at postgresql://nobody@127.0.0.1:1/none")
    assert "secret" not in caplog.text


def test_whatever_goes_wrong_in_it_stops_no_run_and_quotes_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("ada@example.com")

    monkeypatch.setattr(recording, "_peak_memory", fail)
    deliver(shop)
    with caplog.at_level(logging.WARNING, recording.__name__):
        assert shop.run("raw_orders").success
    assert "What a step took was not recorded (KeyError)." in caplog.text
    assert "ada@example.com" not in caplog.text
    assert costs(shop, "step") == []


def test_a_lock_of_somebody_else_holds_up_no_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_platform.warehouse.connection.LOOKING_LOCK_TIMEOUT", "200ms")
    deliver(shop)
    with psycopg.connect(shop.warehouse) as other:
        other.execute("SET idle_in_transaction_session_timeout = '60s'")
        other.execute("LOCK TABLE platform.run_costs IN ACCESS EXCLUSIVE MODE")
        assert shop.run("raw_orders").success
        other.rollback()
    assert costs(shop, "step") == []


def test_a_run_that_is_killed_leaves_what_was_recorded_before(shop: Shop) -> None:
    deliver(shop)
    code = """
import os
from data_platform.costs import recording
from data_platform.warehouse import publish
from data_platform_tests.end_to_end.materialize_days import main
recording.BATCH_SECONDS = 0.0
publish.refuse_imbalance = lambda *_: os._exit(9)
main("2024-01-05", "2024-01-05")
"""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER"))
    }
    environment = inherited | {"DATA_PLATFORM_HOME": str(shop.home), "DATA_PLATFORM_WAREHOUSE_URL": shop.warehouse}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr[-2000:]
    steps = [step for (step,) in costs(shop, "step")]
    assert {"raw_orders", "raw_products", "raw_customers"} <= set(steps)
    assert {"dim_customer", "dim_product", "facts"}.isdisjoint(steps)


def test_of_a_step_that_is_tried_again_growth_counts_once(shop: Shop) -> None:
    deliver(shop)
    assert shop.run("raw_orders,stg_orders,dim_date,fact_sales").success
    now = datetime.now(UTC)
    tried = recording.Spent("r", "facts", "fact_sales", "warehouse", "retried", now, 1.0, 1.0, 1, metering.Meter(), ())
    shop.execute("DELETE FROM platform.run_costs")
    recording.record(shop.warehouse, [tried, replace(tried, outcome="succeeded")])
    [(first, _), (second, growth)] = costs(shop, "storage_bytes, storage_growth_bytes")
    assert (first, second) == (None, growth)
    assert growth > 0


# How it hooks in


def test_what_is_read_outside_of_a_step_is_not_counted(shop: Shop) -> None:
    deliver(shop)
    assert shop.run("raw_orders").success
    meter = metering.begin()
    metering.count_read(1)
    metering.end()
    shop.lake.read("raw_orders", shop.lake.days("raw_orders")[0])
    metering.count_read(1)
    assert meter.bytes_read == 1


def test_a_run_is_written_at_its_end_at_once_and_a_long_one_by_steps(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def count(url: str, spent: list[recording.Spent]) -> None:
        batches.append(len(spent))

    monkeypatch.setattr(recording, "record", count)
    monkeypatch.setattr(recording, "BATCH_SECONDS", 3600.0)
    deliver(shop)
    assert shop.run("raw_orders,stg_orders").success
    assert batches == [4]
    monkeypatch.setattr(recording, "BATCH_SECONDS", 0.0)
    assert shop.run("raw_orders,stg_orders").success
    assert batches == [4, 1, 1, 1, 1]


def test_a_run_is_watched_once_and_forgotten_at_its_end(shop: Shop) -> None:
    deliver(shop)
    assert shop.run("raw_orders").success
    assert shop.run("raw_orders").success
    assert len(costs(shop, "step", "step = 'raw_orders'")) == 2
    assert recording._watched == set()


def test_every_asset_has_its_layer() -> None:
    specs = build_defs({"platform": Platform()}).resolve_all_asset_specs()
    assert {spec.key.path[-1]: spec.group_name for spec in specs} == recording.LAYERS | {"quality_report": "quality"}


def test_a_role_that_is_no_superuser_records(server: str, shop: Shop) -> None:
    role = f"loader_{urlsplit(shop.warehouse).path[6:14]}"
    with psycopg.connect(server, autocommit=True) as owner, throw_away(server) as url:
        if owner.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() != (True,):
            pytest.skip("the role of this server is no superuser itself: all the other tests record by it")
        name = sql.Identifier(role)
        database = sql.Identifier(urlsplit(url).path[1:])
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'plain' NOSUPERUSER").format(name))
        try:
            owner.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, name))
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(name))
            parts = urlsplit(url)
            host = parts.netloc.rpartition("@")[2]
            theirs = urlunsplit(parts._replace(netloc=f"{role}:plain@{host}"))
            ready_warehouse(replace(shop.platform.settings, warehouse_url=theirs))
            other = replace(shop, warehouse=theirs)
            deliver(other)
            assert other.run(TABLES).success
            assert costs(other, "storage_bytes > 0", "step = 'facts'") == [(True,)]
        finally:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(name))
                connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(database))
            owner.execute(sql.SQL("DROP ROLE {}").format(name))
