"""What is read of the history and written to it: the newest values of a rule, and no more; and that nobody waits."""

import logging
import math
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from data_platform.quality.history import CheckRecord, newest_values, remember
from data_platform.quality.recording import TREND_PARTITIONS, bars, trends
from data_platform.warehouse import connection as connection_module
from data_platform.warehouse.connection import connected
from data_platform_tests.shop import Shop, open_shop

DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(400)]


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def record(rule: str, day: date | None, value: float | None, asset: str = "stg_orders") -> CheckRecord:
    return CheckRecord(asset, rule, "warning", False, day, value)


def test_the_values_are_the_newest_of_each_partition_in_order(warehouse_url: str) -> None:
    remember(warehouse_url, "run 1", [record("a", day, 1.0) for day in reversed(DAYS[:5])])
    again = [record("a", DAYS[2], 7.0), record("a", DAYS[3], None), record("a", None, 9.0)]
    remember(warehouse_url, "run 2", [*again, record("b", DAYS[0], 5.0), record("a", DAYS[0], 3.0, "stg_products")])
    with connected(warehouse_url) as connection:
        found = newest_values(connection, "stg_orders", ["a", "c", "a"], partitions=3)
    assert found == {"a": [1.0, 7.0, 1.0]}


def test_values_that_are_not_finite_are_no_trend(shop: Shop) -> None:
    odd = [1.0, math.nan, math.inf, -math.inf, 2.0]
    remember(shop.warehouse, "run 1", [record("a", day, value) for day, value in zip(DAYS, odd, strict=False)])
    remember(shop.warehouse, "run 1", [record("b", DAYS[0], math.nan), record("b", DAYS[1], 1.0)])
    assert trends(shop.platform, "stg_orders", ["a", "b"]) == {"a": "▅█"}
    assert bars(odd) == "▅█"
    assert bars([math.nan]) == ""


def test_a_trend_reads_the_newest_results_of_its_rule_and_no_others(warehouse_url: str) -> None:
    # Of a table that fits into a few pages every planner reads the whole.
    rules = ["a", *(f"another {number}" for number in range(200))]
    for run in range(3):
        remember(warehouse_url, f"run {run}", [record(rule, day, 1.0) for day in DAYS for rule in rules])
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE platform.check_results")
    with connected(warehouse_url) as connection:
        found = newest_values(connection, "stg_orders", ["a"], partitions=TREND_PARTITIONS)
        read = connection.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'check_results'"
        ).fetchone()
    assert len(found["a"]) == TREND_PARTITIONS
    assert read is not None
    assert 0 < read[0] <= 3 * TREND_PARTITIONS + 10


def test_another_s_lock_on_the_history_holds_up_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    remember(shop.warehouse, "run 1", [record("a", day, 1.0) for day in DAYS[:3]])
    monkeypatch.setattr(connection_module, "LOOKING_LOCK_TIMEOUT", "200ms")
    with psycopg.connect(shop.warehouse) as other:
        # Were it waited for, the lock would be gone, and the trend read.
        other.execute("SET idle_in_transaction_session_timeout = '8s'")
        other.execute("LOCK TABLE platform.check_results IN ACCESS EXCLUSIVE MODE")
        assert trends(shop.platform, "stg_orders", ["a"]) == {}
        with caplog.at_level(logging.WARNING):
            remember(shop.warehouse, "run 2", [record("a", DAYS[3], 1.0)])
        other.rollback()
    assert "The results of 1 checks were not recorded: " in caplog.text
    assert "LockNotAvailable" in caplog.text
    assert trends(shop.platform, "stg_orders", ["a"]) == {"a": "███"}


def test_who_looks_waits_and_works_for_a_bounded_time_in_that_transaction(warehouse_url: str) -> None:
    with connection_module.looking(warehouse_url, application="test") as connection:
        limits = [connection.execute(f"SHOW {name}").fetchone() for name in ("lock_timeout", "statement_timeout")]
        assert limits == [("5s",), ("30s",)]
        connection.commit()
        assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)
