"""What Dagster's own database says, read without Dagster: the same as Dagster reads from it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from dagster import AssetKey, DagsterRun, DagsterRunStatus
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._daemon.types import DaemonHeartbeat
from dagster_postgres import DagsterPostgresStorage

from data_platform.errors import DatabaseUnavailable
from data_platform.monitoring.runs import Runs, dagster_url, read_runs
from data_platform_tests.conftest import throw_away
from data_platform_tests.monitoring.conftest import of_home
from data_platform_tests.test_cli import FIRST, LAST, Platform


def read(url: str, newest: int = 10) -> Runs:
    return read_runs(url, newest=newest, statement_timeout=5)


def storage_of(url: str, *, create: bool = False) -> DagsterPostgresStorage:
    return DagsterPostgresStorage(
        url.replace("postgresql://", "postgresql+psycopg2://", 1), should_autocreate_tables=create
    )


@pytest.fixture
def own(server: str) -> Iterator[tuple[str, DagsterPostgresStorage]]:
    """A database with Dagster's tables and no run."""
    with throw_away(server) as url:
        yield url, storage_of(url, create=True)


def test_runs_and_steps_are_those_that_dagster_reads(loaded: Platform) -> None:
    found, storage = read(loaded.dagster), storage_of(loaded.dagster)
    (record,) = storage.run_storage.get_run_records()
    (job,), (run,) = found.jobs, found.newest
    assert (job.name, job.counts, job.last_failure, job.oldest) == ("daily_sales", {"success": 1}, None, {})
    assert record.end_time is not None
    assert record.start_time is not None
    assert job.last_success == datetime.fromtimestamp(record.end_time, UTC)
    assert job.last_seconds == run.seconds == record.end_time - record.start_time
    assert (run.run_id, run.status) == (record.dagster_run.run_id, "success")
    assert (run.first, run.last) == (date.fromisoformat(FIRST), date.fromisoformat(LAST))

    asset_records = storage.event_log_storage.get_asset_records()
    events = {one.asset_entry.asset_key: one.asset_entry.last_materialization_record for one in asset_records}
    steps = {step.step_key: step for step in storage.event_log_storage.get_step_stats_for_run(run.run_id)}
    assets = {one.asset: one for one in found.assets}
    assert {AssetKey(name) for name in assets} == set(events)
    for key, event in events.items():
        assert event is not None
        one, metadata = assets[key.to_user_string()], event.asset_materialization.metadata  # type: ignore[union-attr]
        assert one.finished_at == datetime.fromtimestamp(event.timestamp, UTC)
        step = steps[event.event_log_entry.step_key]
        assert step.end_time is not None
        assert step.start_time is not None
        assert one.seconds == pytest.approx(step.end_time - step.start_time, abs=0.5)
        rows = metadata.get("dagster/partition_row_count")
        assert one.rows == (rows.value if rows else None)
        assert one.written.get("inserted") == (metadata["rows_inserted"].value if "rows_inserted" in metadata else None)
    assert assets["stg_orders"].rows
    assert assets["fact_sales"].written["inserted"] > 0
    assert found.database_bytes is not None


def test_runs_of_every_state_are_told_apart(own: tuple[str, DagsterPostgresStorage]) -> None:
    url, storage = own
    began = datetime.now(UTC)
    with psycopg.connect(url) as connection:
        for status in DagsterRunStatus:
            storage.run_storage.add_run(DagsterRun(job_name="daily_sales", run_id=status.value))
            connection.execute("UPDATE runs SET status = %s WHERE run_id = %s", [status.value, status.value])
    range_tags = {ASSET_PARTITION_RANGE_START_TAG: "2024-01-05", ASSET_PARTITION_RANGE_END_TAG: "2024-01-07"}
    storage.run_storage.add_run(DagsterRun(job_name="watch", run_id="ranged", tags=range_tags))
    storage.run_storage.add_run(DagsterRun(job_name="watch", run_id="odd", tags={"dagster/partition": "north"}))
    found = read(url, newest=2)
    jobs = {job.name: job for job in found.jobs}
    assert jobs["daily_sales"].counts == {status.value.lower(): 1 for status in DagsterRunStatus}
    assert jobs["watch"].counts == {"not_started": 2}
    assert set(jobs["daily_sales"].oldest) == {"queued", "starting", "started", "canceling"}
    assert all(abs((since - began).total_seconds()) < 60 for since in jobs["daily_sales"].oldest.values())
    assert jobs["daily_sales"].last_success is None  # it has no end
    assert [(run.run_id, run.first, run.last) for run in found.newest] == [
        ("odd", None, None),
        ("ranged", date(2024, 1, 5), date(2024, 1, 7)),
    ]


def test_a_heartbeat_is_when_it_was_whatever_the_zone_of_the_server(own: tuple[str, DagsterPostgresStorage]) -> None:
    url, storage = own
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {urlsplit(url).path[1:]} SET TimeZone = 'Asia/Tokyo'")
    storage.run_storage.add_daemon_heartbeat(
        DaemonHeartbeat(timestamp=1_700_000_000.0, daemon_type="SENSOR", daemon_id="x", errors=[])
    )
    assert read(url).heartbeats == {"sensor": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)}


def test_a_database_without_dagsters_tables_has_no_runs_and_gets_none(server: str) -> None:
    with throw_away(server) as url:
        assert read(url) == Runs()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    assert read(url) == Runs()  # it is gone
    with psycopg.connect(server) as connection:
        name = urlsplit(url).path[1:]
        assert connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None


def test_a_database_that_cannot_be_reached_is_one_sentence_without_the_password() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1/dagster cannot be reached") as told:
        read("postgresql://me:hunter2@127.0.0.1:1/dagster")
    assert "hunter2" not in str(told.value)


def test_dagsters_database_is_beside_the_warehouse_unless_it_is_named(tmp_path: Path) -> None:
    chosen = of_home(tmp_path, "postgresql://me@host:5433/shop?sslmode=require")
    assert dagster_url(chosen) == "postgresql://me@host:5433/dagster?sslmode=require"
