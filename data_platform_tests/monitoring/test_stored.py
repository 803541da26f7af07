"""What the warehouse says of how it is, in a real Postgres."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import psycopg
import pytest

from data_platform.monitoring.stored import FailingCheck, failed_days, read_stored
from data_platform.quality.history import CheckRecord, remember
from data_platform.quality.names import UNMADE, WAITING, YESTERDAY
from data_platform.warehouse.connection import looking

ACCEPTED = "delivery_is_accepted"


@pytest.fixture
def connection(warehouse_url: str) -> Iterator[psycopg.Connection]:
    with looking(warehouse_url, application="tests") as connection:
        yield connection


def day(number: int) -> date:
    return date(2024, 1, number)


def told(url: str, *records: CheckRecord) -> None:
    """Remember results, one after the other."""
    for record in records:
        remember(url, "run", [record])


def failing(connection: psycopg.Connection) -> set[tuple[str, str, str]]:
    return {(one.asset, one.rule, one.severity) for one in read_stored(connection).failing}


def test_an_empty_warehouse_has_nothing_that_is_wrong(connection: psycopg.Connection) -> None:
    stored = read_stored(connection)
    assert (stored.failing, stored.alerts, stored.publishes, stored.last_load) == ((), (), {}, None)
    assert set(stored.stale_marts.values()) == {0}
    assert stored.judged == frozenset()


def test_a_check_fails_by_its_newest_partition_whatever_was_run_again_since(
    warehouse_url: str, connection: psycopg.Connection
) -> None:
    told(
        warehouse_url,
        CheckRecord("fact_sales", "few", "critical", False, day(2), note="Few."),
        CheckRecord("fact_sales", "few", "critical", True, day(1)),
        CheckRecord("fact_sales", "many", "critical", True, day(2)),
        CheckRecord("fact_sales", "many", "critical", False, day(1)),
        CheckRecord("dim_product", "mended", "critical", False, day(3)),
        CheckRecord("dim_product", "mended", "critical", True, day(3)),
    )
    assert read_stored(connection).failing == (FailingCheck("fact_sales", "few", "critical", day(2), "Few."),)
    assert read_stored(connection).judged == {"fact_sales", "dim_product"}


def test_a_result_of_no_partition_counts_until_there_is_a_later_one_of_any(
    warehouse_url: str, connection: psycopg.Connection
) -> None:
    told(
        warehouse_url,
        CheckRecord("fact_sales", "few", "warning", True, day(2)),
        CheckRecord("fact_sales", "few", "warning", False, note="It could not be read."),
    )
    assert failing(connection) == {("fact_sales", "few", "warning")}
    told(warehouse_url, CheckRecord("fact_sales", "few", "warning", True, day(1)))
    assert failing(connection) == {("fact_sales", "few", "warning")}  # its newest partition said nothing since
    told(warehouse_url, CheckRecord("fact_sales", "few", "warning", True, day(2)))
    assert failing(connection) == set()


def test_of_what_is_about_a_table_as_it_stands_the_last_result_counts(
    warehouse_url: str, connection: psycopg.Connection
) -> None:
    told(
        warehouse_url,
        CheckRecord("raw_orders", YESTERDAY, "warning", False, day(9)),
        CheckRecord("raw_orders", YESTERDAY, "warning", True, day(1)),
        CheckRecord("mart_daily_sales", "rows_balance", "critical", False, day(9)),
        CheckRecord("mart_daily_sales", "rows_balance", "critical", True, day(1)),
        CheckRecord("stg_orders", WAITING, "warning", True, day(9)),
        CheckRecord("stg_orders", WAITING, "warning", False, day(1)),
    )
    assert failing(connection) == {("stg_orders", WAITING, "warning")}


def test_a_check_is_as_bad_as_alerts_say(warehouse_url: str, connection: psycopg.Connection) -> None:
    told(
        warehouse_url,
        CheckRecord("raw_orders", YESTERDAY, "warning", False),
        CheckRecord("stg_orders", "unit_price_not_negative", "critical", False, day(1)),
        CheckRecord("stg_orders", ACCEPTED, "critical", False, day(2)),
        CheckRecord("fact_sales", "audit", "critical", False, note=f"{UNMADE}The lake is gone."),
    )
    assert failing(connection) == {
        ("raw_orders", YESTERDAY, "critical"),
        ("stg_orders", "unit_price_not_negative", "warning"),
        ("stg_orders", ACCEPTED, "critical"),
        ("fact_sales", "audit", "warning"),
    }
    assert failed_days(connection, day(1)) == {"stg_orders": {day(2)}}
    assert failed_days(connection, day(3)) == {}
    told(warehouse_url, CheckRecord("stg_orders", ACCEPTED, "critical", True, day(2)))
    assert failed_days(connection, day(1)) == {}


def test_open_alerts_are_those_that_are_not_over(warehouse_url: str, connection: psycopg.Connection) -> None:
    with psycopg.connect(warehouse_url) as other:
        other.execute(
            "INSERT INTO platform.alerts (key, kind, severity, title, detail, advice, run_id, places, times, opened_at,"
            " last_told_at, closed_at) SELECT key, 'run_failed', 'critical', 'It failed', '', '', '', '{}', 1, at, at,"
            " over FROM (VALUES ('a', timestamptz '2024-01-05 06:00Z', NULL), ('b', '2024-01-04 06:00Z', now()))"
            " AS alert (key, at, over)"
        )
    (alert,) = read_stored(connection).alerts
    assert (alert.kind, alert.severity, alert.title) == ("run_failed", "critical", "It failed")
    assert alert.opened_at == datetime(2024, 1, 5, 6, tzinfo=UTC)


def test_a_table_is_as_large_as_all_that_belongs_to_it(warehouse_url: str, connection: psycopg.Connection) -> None:
    with psycopg.connect(warehouse_url, autocommit=True) as other:
        other.execute(
            "CREATE TABLE warehouse.fact_sales_2024 PARTITION OF warehouse.fact_sales"
            " FOR VALUES FROM (20240101) TO (20250101)"
        )
        other.execute("INSERT INTO platform.mart_stale (mart, date_key) SELECT 'm', n FROM generate_series(1, 5000) n")
        other.execute("ANALYZE platform.mart_stale")
        (indexed,) = other.execute("SELECT pg_total_relation_size('warehouse.fact_sales_2024')").fetchone() or (0,)
    sizes = {(one.schema, one.table): one for one in read_stored(connection).tables}
    assert sizes["warehouse", "fact_sales"].bytes == indexed > 0
    assert ("warehouse", "fact_sales_2024") not in sizes
    assert sizes["warehouse", "fact_sales"].rows is None  # nobody has analysed it
    assert sizes["platform", "mart_stale"].rows == 5000
    assert {schema for schema, _ in sizes} == {"warehouse", "marts", "platform"}
    assert read_stored(connection).database_bytes > sizes["platform", "mart_stale"].bytes


def test_looking_writes_nothing(warehouse_url: str) -> None:
    with looking(warehouse_url, application="tests") as connection:
        before = connection.execute("SELECT count(*) FROM pg_class").fetchone()
        read_stored(connection)
        assert connection.execute("SELECT count(*) FROM pg_class").fetchone() == before
        assert connection.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() == (None,)
