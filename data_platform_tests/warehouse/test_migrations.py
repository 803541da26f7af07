"""Upgrades that go wrong: a newer warehouse, a migration that fails, is killed, has to wait or has company."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from data_platform.errors import DatabaseUnavailable, PlatformError, PublishRefused
from data_platform.settings import read_settings
from data_platform.warehouse import migrations
from data_platform.warehouse.migrations import MIGRATIONS, ready_warehouse
from data_platform_tests.conftest import throw_away

APPLIED = "SELECT migration_id FROM public._yoyo_migration ORDER BY 1"
TABLES = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = 'platform' ORDER BY 1, 2"
UPGRADE = """
import sys
from dataclasses import replace
from pathlib import Path
from data_platform.settings import read_settings
from data_platform.warehouse import migrations
migrations.MIGRATIONS = Path(sys.argv[1])
migrations.ready_warehouse(replace(read_settings({}), warehouse_url=sys.argv[2]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations, which the test may add to."""
    copied = shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    monkeypatch.setattr(migrations, "MIGRATIONS", copied)
    return copied


def upgrade(url: str) -> None:
    ready_warehouse.__wrapped__(replace(read_settings({}), warehouse_url=url))


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


def standing(url: str) -> tuple[list[tuple[Any, ...]], ...]:
    return query(url, APPLIED), query(url, TABLES)


def upgrading(folder: Path, url: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DATA_PLATFORM_")}
    return subprocess.Popen(
        [sys.executable, "-c", UPGRADE, str(folder), url],
        env=clean, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait_until(url: str, question: str) -> None:
    until = time.monotonic() + 60
    while not query(url, question):
        assert time.monotonic() < until, question
        time.sleep(0.1)


def test_a_warehouse_of_a_newer_version_is_refused_and_left_alone(warehouse_url: str, folder: Path) -> None:
    (folder / "9001_of_next_year.sql").write_text("CREATE TABLE platform.of_next_year (id integer);\n")
    upgrade(warehouse_url)
    before = standing(warehouse_url)
    (folder / "9001_of_next_year.sql").unlink()
    (folder / "9002_of_today.sql").write_text("CREATE TABLE platform.of_today (id integer);\n")
    with pytest.raises(PublishRefused, match="newer version of the platform: its migration 9001_of_next_year"):
        upgrade(warehouse_url)
    assert standing(warehouse_url) == before


def test_a_migration_that_was_merged_into_another_is_no_sign_of_a_newer_version(warehouse_url: str) -> None:
    with psycopg.connect(warehouse_url) as connection:
        connection.execute(
            "INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc)"
            " VALUES ('x', '0004_total_check', now())"
        )
    upgrade(warehouse_url)


def test_a_migration_that_fails_names_itself_and_leaves_the_schema_of_before(warehouse_url: str, folder: Path) -> None:
    before = standing(warehouse_url)
    (folder / "9001_good.sql").write_text("CREATE TABLE platform.good (id integer);\n")
    bad = folder / "9002_bad.sql"
    bad.write_text("CREATE TABLE platform.half (id integer);\nALTER TABLE platform.nowhere ADD COLUMN x integer;\n")
    with pytest.raises(PlatformError, match=r"Migration 9002_bad .*\"platform.nowhere\" does not exist") as failed:
        upgrade(warehouse_url)
    assert not isinstance(failed.value, DatabaseUnavailable)
    assert standing(warehouse_url) == before
    bad.write_text("CREATE TABLE platform.half (id integer);\n")
    upgrade(warehouse_url)
    assert [name for (name,) in query(warehouse_url, APPLIED)][-2:] == ["9001_good", "9002_bad"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE UNIQUE INDEX ON warehouse.dim_customer (email)",
        "ALTER TABLE warehouse.dim_customer ALTER COLUMN email TYPE integer USING email::integer",
    ],
)
def test_a_migration_that_fails_on_rows_does_not_quote_them(warehouse_url: str, folder: Path, statement: str) -> None:
    with psycopg.connect(warehouse_url) as connection:
        connection.execute(
            "INSERT INTO warehouse.dim_customer"
            " SELECT n, 'c' || n, 'jane@example.org', null, null, null, null, null, '2024-01-01', null, true, false"
            " FROM generate_series(1, 2) AS n"
        )
    (folder / "9001_bad.sql").write_text(f"{statement};\n")
    with pytest.raises(PlatformError, match="Migration 9001_bad") as failed:
        upgrade(warehouse_url)
    assert "jane" not in str(failed.value)
    assert failed.value.__cause__ is None


def test_an_upgrade_that_is_killed_leaves_the_schema_of_before_and_the_next_one_succeeds(
    warehouse_url: str, folder: Path
) -> None:
    before = standing(warehouse_url)
    (folder / "9001_good.sql").write_text("CREATE TABLE platform.good (id integer);\n")
    slow = folder / "9002_slow.sql"
    slow.write_text("CREATE TABLE platform.slow (id integer);\nSELECT pg_sleep(600);\n")
    process = upgrading(folder, warehouse_url)
    sleeping = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    try:
        wait_until(warehouse_url, sleeping)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    query(warehouse_url, f"SELECT pg_terminate_backend(pid) FROM ({sleeping}) AS backend")
    wait_until(warehouse_url, f"SELECT 1 WHERE NOT EXISTS ({sleeping})")
    assert standing(warehouse_url) == before
    slow.write_text("CREATE TABLE platform.slow (id integer);\n")
    upgrade(warehouse_url)
    assert [name for (name,) in query(warehouse_url, APPLIED)][-2:] == ["9001_good", "9002_slow"]


def test_a_first_use_that_was_killed_holds_up_nobody(server: str) -> None:
    with throw_away(server) as url:
        with psycopg.connect(url) as connection:
            # What yoyo leaves that is killed while it makes its own tables.
            connection.execute(
                "CREATE TABLE yoyo_lock (locked INT DEFAULT 1, ctime TIMESTAMP, pid INT NOT NULL, PRIMARY KEY (locked))"
            )
            connection.execute("INSERT INTO yoyo_lock VALUES (1, now(), 1)")
        upgrade(url)
        assert query(url, APPLIED) == [(name,) for name in sorted(path.stem for path in MIGRATIONS.glob("*.sql"))]


def test_an_upgrade_waits_for_a_reader_and_says_so_when_it_has_waited_enough(
    warehouse_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", 1)
    (folder / "9001_wider.sql").write_text("ALTER TABLE warehouse.dim_date ADD COLUMN week text;\n")
    before = standing(warehouse_url)
    with psycopg.connect(warehouse_url) as reader:
        reader.execute("SELECT count(*) FROM warehouse.dim_date")
        with pytest.raises(DatabaseUnavailable, match=r"Migration 9001_wider .* holds a table for more than 1 s"):
            upgrade(warehouse_url)
        assert standing(warehouse_url) == before
    upgrade(warehouse_url)


def test_of_two_processes_that_upgrade_at_once_one_does_it_and_both_go_on(warehouse_url: str, folder: Path) -> None:
    (folder / "9001_slow.sql").write_text("CREATE TABLE platform.slow (id integer);\nSELECT pg_sleep(3);\n")
    processes = [upgrading(folder, warehouse_url) for _ in range(3)]
    for process in processes:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert query(warehouse_url, f"SELECT count(*) FROM ({APPLIED}) AS done WHERE migration_id = '9001_slow'") == [(1,)]
