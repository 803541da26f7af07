"""After a large load the planner knows of it at once, and a load that cannot be analysed is loaded all the same."""

import psycopg
import pytest

from data_platform.lake import Lake
from data_platform.warehouse import statistics
from data_platform.warehouse.publish import publish
from data_platform_tests.cases import line, lines
from data_platform_tests.warehouse import harness

MANY, FEW = 12_000, 200


@pytest.fixture
def loaded(warehouse_url: str, lake: Lake) -> Lake:
    """A warehouse with a few facts, which autovacuum leaves alone."""
    harness.stage(lake, lines(1, *(line(f"first{n}", 1) for n in range(FEW))))
    publish(warehouse_url, lake, "fact_sales", run_id="run", timezone="UTC")
    with psycopg.connect(warehouse_url) as connection:
        connection.execute("ALTER TABLE warehouse.fact_sales_2024 SET (autovacuum_enabled = false)")
    return lake


def known(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT reltuples FROM pg_class WHERE relname = 'fact_sales_2024'").fetchone()
    assert found is not None
    return int(found[0])


def test_a_partition_of_which_much_was_written_is_analysed(warehouse_url: str, loaded: Lake) -> None:
    harness.stage(loaded, lines(2, *(line(f"o{n}", 1) for n in range(MANY))))
    publish(warehouse_url, loaded, "fact_sales", run_id="run", timezone="UTC")
    assert known(warehouse_url) == FEW + MANY
    assert statistics.analyze_changed(warehouse_url, MANY) == []


def test_a_small_load_is_left_to_autovacuum(warehouse_url: str, loaded: Lake) -> None:
    harness.stage(loaded, lines(2, *(line(f"o{n}", 1) for n in range(FEW))))
    publish(warehouse_url, loaded, "fact_sales", run_id="run", timezone="UTC")
    assert known(warehouse_url) == FEW


def test_a_load_stands_where_its_table_cannot_be_analysed(
    warehouse_url: str, loaded: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(statistics, "CHANGED", "SELECT no_such_column, %(fewest)s, %(share)s")
    caplog.set_level("INFO")
    harness.stage(loaded, lines(2, *(line(f"o{n}", 1) for n in range(MANY))))
    assert publish(warehouse_url, loaded, "fact_sales", run_id="run", timezone="UTC").inserted == MANY
    assert "Tables were not analysed after a load" in caplog.text
