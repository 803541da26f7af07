"""Connections: what is said when Postgres refuses, and what a server's or a shell's own defaults must not change."""

import threading
import time
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from data_platform.errors import DatabaseUnavailable, PlatformError, PublishRefused
from data_platform.lake import Lake
from data_platform.settings import read_settings, settings
from data_platform.warehouse.connection import connected, looking, redact, without_password
from data_platform.warehouse.ledger import take_writer_lock
from data_platform.warehouse.migrations import ready_warehouse
from data_platform.warehouse.publish import publish
from data_platform_tests.cases import line, whole_orders
from data_platform_tests.warehouse import harness


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h:1/db", "postgresql://u@h:1/db"),
        ("postgresql://u:p@ss@h:1/db?password=secret", "postgresql://u@h:1/db"),
        ("postgresql://u:a/b:c@h/db", "postgresql://u@h/db"),
        ("postgresql://h/db", "postgresql://h/db"),
    ],
)
def test_no_part_of_a_password_is_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pa/ss@h/db?sslmode=require&sslpassword=secret", "postgresql://u@h/db?sslmode=require"),
        ("postgresql://h/db?user=u&password=secret", "postgresql://h/db?user=u"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
    ],
)
def test_a_url_without_its_password_is_still_one_to_connect_by(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_an_error_of_postgres_names_the_constraint_and_quotes_no_row(warehouse_url: str) -> None:
    insert = (
        "INSERT INTO warehouse.dim_customer (customer_key, customer_id, email, effective_from, is_current, is_inferred)"
        " VALUES (1, 'c1', 'secret.person@example.com', '2024-01-05', false, false)"
    )
    with pytest.raises(PlatformError, match="dim_customer_current_is_open") as refused, connected(warehouse_url) as c:
        c.execute(insert)
    assert "secret.person" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert not isinstance(refused.value, DatabaseUnavailable)


def test_a_statement_that_hurries_may_be_tried_again(warehouse_url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="QueryCanceled"), connected(warehouse_url) as c:
        c.execute("SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)")


def limits(connection: psycopg.Connection) -> tuple[str, ...]:
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    row = connection.execute(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}").fetchone()
    assert row is not None
    return row


def test_statements_locks_and_pauses_have_limits_and_so_has_only_the_transaction(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(warehouse_url) as c:
        assert limits(c) == ("5min", "1h", "1h")
        c.commit()
        assert limits(c) == ("0", "0", "0")
    monkeypatch.setenv("DATA_PLATFORM_STATEMENT_TIMEOUT", "7200")
    settings.cache_clear()
    with connected(warehouse_url) as c:
        assert limits(c) == ("5min", "2h", "2h")
    with looking(warehouse_url, application="x") as c:
        assert limits(c) == ("5s", "30s", "2h")


def test_a_statement_that_takes_too_long_names_the_setting(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_PLATFORM_STATEMENT_TIMEOUT", "1")
    settings.cache_clear()
    with (
        pytest.raises(DatabaseUnavailable, match="DATA_PLATFORM_STATEMENT_TIMEOUT"),
        connected(warehouse_url) as c,
    ):
        c.execute("SELECT pg_sleep(30)")


def test_a_writer_that_hangs_loses_its_transaction(warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_PLATFORM_STATEMENT_TIMEOUT", "1")
    settings.cache_clear()

    def hang() -> None:
        with connected(warehouse_url) as c:
            take_writer_lock(c)
            time.sleep(2)
            c.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable, match="went away"):
        hang()


def test_the_wait_for_the_writer_lock_has_its_own_limit_and_leaves_the_others(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_PLATFORM_STATEMENT_TIMEOUT", "1")
    settings.cache_clear()
    with psycopg.connect(warehouse_url) as other:
        take_writer_lock(other)
        # The other one is not one of ours: it may pause for as long as it likes.
        release = threading.Timer(2.0, other.commit)
        release.start()
        with connected(warehouse_url) as c:
            take_writer_lock(c)
            assert limits(c) == ("5min", "1s", "1s")
        release.join()


def test_text_is_utf8_and_a_writer_sees_what_the_one_before_it_wrote(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_isolation=serializable")
    with connected(warehouse_url) as c:
        assert c.execute("SHOW client_encoding").fetchone() == ("UTF8",)
        assert c.execute("SHOW transaction_isolation").fetchone() == ("read committed",)


def test_a_database_without_place_for_every_character_is_refused(server: str, tmp_path: Path) -> None:
    name = sql.Identifier("test_latin_" + tmp_path.name[-8:].replace("-", "_"))
    with psycopg.connect(server, autocommit=True) as c:
        c.execute(
            sql.SQL("CREATE DATABASE {} ENCODING LATIN1 LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0").format(
                name
            )
        )
        try:
            url = urlsplit(server)._replace(path=f"/{name.as_string(c).strip(chr(34))}").geturl()
            chosen = read_settings({"DATA_PLATFORM_WAREHOUSE_URL": url, "DATA_PLATFORM_HOME": str(tmp_path)})
            with pytest.raises(PublishRefused, match="LATIN1"):
                ready_warehouse(chosen)
        finally:
            c.execute(sql.SQL("DROP DATABASE {}").format(name))


@pytest.mark.parametrize("zone", ["Etc/UTC", "Europe/Berlin", "America/New_York"])
def test_days_follow_each_other_whatever_time_zone_the_server_has(
    warehouse_url: str, lake: Lake, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTZ", zone)
    for day in (1, 2, 3):
        harness.stage(lake, whole_orders(day, line("o1", 1, quantity=day)), "UTC")
        publish(warehouse_url, lake, "fact_sales", run_id="x", timezone="UTC")
    with connected(warehouse_url) as c:
        rows = c.execute("SELECT quantity, delivered_on, updated_at FROM warehouse.fact_sales").fetchall()
    assert rows == [(3, date(2024, 1, 3), datetime(2024, 1, 3, tzinfo=UTC))]
