"""The whole cleanup, as a command and a job: what a dry run tells is what is done, and one failure stops no other."""

import json
import logging
import os
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import dagster as dg
import psycopg
import pytest
from typer.testing import CliRunner, Result

from data_platform.cli import app
from data_platform.definitions import build_defs
from data_platform.lake import Lake, Stamp
from data_platform.resources import Platform
from data_platform.retention import vacuum
from data_platform.settings import settings
from data_platform.warehouse.publish import publish, rebuild
from data_platform_tests.cases import line, lines
from data_platform_tests.conftest import throw_away
from data_platform_tests.warehouse import harness

LONG_AGO = (datetime.now(UTC) - timedelta(days=3)).timestamp()
DAY = date(2024, 1, 1)


@pytest.fixture
def home(tmp_path: Path, server: str, warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A platform with a staged and published day of January 2024, a leftover, and nothing of Dagster's."""
    with throw_away(server) as dagster:
        told = {"HOME": tmp_path, "WAREHOUSE_URL": warehouse_url, "DAGSTER_URL": dagster,
                "RETENTION": tmp_path / "retention.yaml"}  # fmt: skip
        for name, value in told.items():
            monkeypatch.setenv(f"DATA_PLATFORM_{name}", str(value))
        settings.cache_clear()
        lake = Lake(tmp_path / "lake")
        harness.stage(lake, lines(1, line("o1", 1), line("o2", 1)))
        publish(warehouse_url, lake, "fact_sales", run_id="run", timezone="UTC")
        leftover(lake)
        (tmp_path / "cold").mkdir()
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        with warnings.catch_warnings():
            yield tmp_path
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)


def leftover(lake: Lake) -> Path:
    path = lake.root / "_aside" / "half.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def cleanup(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["cleanup", *arguments], prog_name="data-platform")


def told(*arguments: str) -> dict[str, Any]:
    result = cleanup("--json", *arguments)
    found: dict[str, Any] = json.loads(result.stdout)
    assert (result.exit_code == 1) == bool(found["failures"]), result.output
    return found


def test_without_a_file_only_leftovers_go_and_a_dry_run_tells_the_same_beforehand(home: Path) -> None:
    before = told("--dry-run")
    assert (home / "lake" / "_aside" / "half.parquet").exists()
    after = told()
    assert (before["dry_run"], after["dry_run"]) == (True, False)
    assert before["done"] == after["done"]
    assert [(one["step"], one["files"], one["bytes"]) for one in after["done"]] == [("leftovers", 1, 4)]
    assert not (home / "lake" / "_aside" / "half.parquet").exists()
    assert cleanup().output == "There is nothing to clean up.\n"


def test_people_are_told_in_sentences(home: Path) -> None:
    (home / "retention.yaml").write_text("staging: {keep_days: 30, archive: cold}".replace("cold", str(home / "cold")))
    sentence = "Drafts that killed runs left beside the lake (1 files, 4 bytes) {} removed.\n"
    assert sentence.format("would be") in cleanup("--dry-run").stdout
    said = cleanup().stdout
    assert sentence.format("were") in said
    assert "Deliveries of stg_orders of 2024-01-01 (1 files," in said
    assert f"2 rows) were moved to {home / 'cold'}.\n" in said
    url = os.environ["DATA_PLATFORM_WAREHOUSE_URL"]
    reports = rebuild(url, Lake(home / "lake"), run_id="verify", timezone="UTC", verify=True)
    assert all(not (one.inserted or one.updated or one.deleted) for report in reports for one in report.differences)


def test_an_archive_that_is_away_fails_its_step_and_no_other(home: Path) -> None:
    (home / "retention.yaml").write_text(
        f"staging: {{keep_days: 30, archive: {home / 'away'}}}\ndagster: {{keep_days: 30}}"
    )
    found = told()
    assert found["failures"] == [
        f"The archive of retention.yaml, {home / 'away'}, is no folder: mount its disk, or make it, then run again."
    ]
    assert [one["step"] for one in found["done"]] == ["leftovers"]
    assert "nothing to clean up" not in cleanup().stdout


def test_a_file_that_is_wrong_does_nothing_at_all(home: Path) -> None:
    (home / "retention.yaml").write_text("staging: {keep_days: -3, archive: /cold}")
    result = cleanup()
    assert (result.exit_code, "staging.keep_days is -3" in result.output) == (1, True)
    assert (home / "lake" / "_aside" / "half.parquet").exists()


def test_a_warehouse_that_does_not_answer_is_told_and_files_are_cleaned(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = Lake(home / "lake").former_path("stg_orders", DAY, "a" * 64)
    assert isinstance(former, Path)
    former.parent.mkdir(parents=True)
    former.write_bytes(b"former")
    os.utime(former, (LONG_AGO, LONG_AGO))
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", "postgresql://nobody@127.0.0.1:9/none")
    settings.cache_clear()
    found = told()
    assert len(found["failures"]) == 1
    assert "does not answer" in found["failures"][0]
    assert [one["what"] for one in found["done"]] == ["Drafts that killed runs left beside the lake"]
    assert former.exists()


def test_before_the_first_run_there_is_nothing_to_clean_up_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA_PLATFORM_RETENTION", str(tmp_path / "retention.yaml"))
    settings.cache_clear()
    (tmp_path / "retention.yaml").write_text(
        f"staging: {{keep_days: 30, archive: {tmp_path / 'cold'}}}\ndagster: {{keep_days: 30}}"
    )
    result = cleanup()
    assert (result.exit_code, result.stdout) == (0, "There is nothing to clean up.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["retention.yaml"]


def test_an_empty_warehouse_has_nothing_to_clean_up(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with throw_away(server) as empty:
        for name, value in {"HOME": tmp_path, "WAREHOUSE_URL": empty, "DAGSTER_URL": empty}.items():
            monkeypatch.setenv(f"DATA_PLATFORM_{name}", str(value))
        monkeypatch.setenv("DATA_PLATFORM_RETENTION", str(tmp_path / "none.yaml"))
        settings.cache_clear()
        assert told()["done"] == []
        with psycopg.connect(empty) as connection:
            assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_the_job_does_the_same_and_fails_with_the_sentence(home: Path) -> None:
    platform = Platform.using(replace(settings()))
    job = build_defs({"platform": platform}).resolve_job_def("cleanup")
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance).success
        assert not (home / "lake" / "_aside" / "half.parquet").exists()
        (home / "retention.yaml").write_text(f"raw: {{keep_days: 30, archive: {home / 'away'}}}")
        failed = job.execute_in_process(instance=instance, raise_on_error=False)
    [event] = [event for event in failed.all_node_events if event.is_step_failure]
    said = event.step_failure_data.user_failure_data
    assert said is not None
    assert "is no folder: mount its disk" in (said.description or "")


@pytest.fixture
def owner(warehouse_url: str) -> Iterator[str]:
    """The URL of the warehouse for a role that owns one of two tables full of dead rows, and is nobody else."""
    name = f"owner_{uuid.uuid4().hex[:8]}"
    parts = urlsplit(warehouse_url)
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")  # type: ignore[arg-type]
        # Who is no superuser gives tables to a role, and takes them away, as its member.
        connection.execute(f"GRANT {name} TO CURRENT_USER")  # type: ignore[arg-type]
        try:
            connection.execute(f"GRANT USAGE, CREATE ON SCHEMA marts TO {name}")  # type: ignore[arg-type]
            for table in ("mine", "theirs"):
                connection.execute(f"CREATE TABLE marts.{table} AS SELECT generate_series(1, 5000) AS n")  # type: ignore[arg-type]
                connection.execute(f"ALTER TABLE marts.{table} SET (autovacuum_enabled = false)")  # type: ignore[arg-type]
                connection.execute(f"UPDATE marts.{table} SET n = n + 1")  # type: ignore[arg-type]
            connection.execute(f"ALTER TABLE marts.mine OWNER TO {name}")  # type: ignore[arg-type]
            connection.execute("SELECT pg_stat_force_next_flush()")
            yield urlunsplit(parts._replace(netloc=f"{name}:secret@{parts.netloc.rpartition('@')[2]}"))
        finally:
            connection.execute(f"DROP OWNED BY {name}")  # type: ignore[arg-type]
            connection.execute(f"DROP ROLE {name}")  # type: ignore[arg-type]


def test_tables_with_many_dead_rows_are_vacuumed_by_who_owns_them(owner: str) -> None:
    before = list(vacuum.of_dead_rows(owner, ["marts"], dry_run=True))
    assert [(one.what, one.rows) for one in before] == [("Dead rows of marts.mine", 5000)]
    assert list(vacuum.of_dead_rows(owner, ["marts"], dry_run=False)) == before
    assert list(vacuum.of_dead_rows(owner, ["marts"], dry_run=False)) == []


def test_a_vacuum_that_cannot_be_made_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert list(vacuum.of_dead_rows("postgresql://nobody@127.0.0.1:9/none", ["marts"], dry_run=False)) == []
    assert "Not every table was vacuumed (OperationalError)" in caplog.text


def test_a_draft_of_a_run_that_works_now_is_not_touched(home: Path) -> None:
    lake = Lake(home / "lake")
    draft = lake.write_aside("stg_orders", DAY, lake.read("stg_orders", DAY), Stamp("b" * 64))
    told()
    lake.promote([draft])
    assert lake.stamp("stg_orders", DAY) == draft.stamp
