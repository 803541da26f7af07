"""Dagster's own storage on the embedded Postgres: pooled, one row per check, and plain sentences where it fails."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.events.log import EventLogEntry
from dagster._core.instance import DagsterInstance
from dagster._core.storage.event_log import SqlEventLogStorageMetadata
from dagster._core.storage.runs import RunStorageSqlMetadata
from dagster._core.storage.schedules import ScheduleStorageSqlMetadata
from dagster._core.test_utils import instance_for_test

from data_platform import settings as settings_module
from data_platform.dagster_storage import PlatformEventLogStorage, PlatformStorage
from data_platform.embedded_postgres import Server, ensure_server
from data_platform.errors import DatabaseUnavailable, SettingsError

REPOSITORY = Path(__file__).parent.parent
OVERRIDES = {
    "storage": {"custom": {"module": "data_platform.dagster_storage", "class": "PlatformStorage", "config": {}}}
}
DAYS = dg.DailyPartitionsDefinition("2024-01-01")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def server(home: Path) -> Server:
    return ensure_server(home)


@pytest.fixture(autouse=True)
def environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in ("DATA_PLATFORM_WAREHOUSE_URL", "DATA_PLATFORM_DAGSTER_URL", "DATA_PLATFORM_TIMEZONE", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_PLATFORM_HOME", str(home))
    settings_module.settings.cache_clear()
    yield monkeypatch
    settings_module.settings.cache_clear()


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with instance_for_test(overrides=OVERRIDES) as instance:
        yield instance


def set_environment(environment: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    settings_module.settings.cache_clear()


def from_config() -> PlatformStorage:
    return PlatformStorage.from_config_value(None, {})


def asset_with_checks(name: str, partitioned_checks: bool) -> dg.AssetsDefinition:
    checks: dict[str, Any] = {"partitions_def": DAYS} if partitioned_checks else {}

    @dg.asset(
        name=name,
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec(check, asset=name, **checks) for check in ("first", "second")],
    )
    def asset() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(check_name="first", passed=True),
                dg.AssetCheckResult(check_name="second", passed=False, severity=dg.AssetCheckSeverity.WARN),
            ]
        )

    return asset


def materialize(instance: DagsterInstance, first: str, last: str | None = None) -> str:
    """The id of a run of both kinds of checks, as Dagster's command makes it: planned, with tags, then executed."""
    assets = [asset_with_checks("plain", False), asset_with_checks("parted", True)]
    job = dg.Definitions(assets=assets).resolve_implicit_global_asset_job_def()
    if last is None:
        return job.execute_in_process(instance=instance, partition_key=first).run_id
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return job.execute_in_process(instance=instance, tags=tags).run_id


def check_rows(server: Server, run_id: str) -> list[tuple[Any, ...]]:
    query = (
        "SELECT asset_key, check_name, partition, execution_status FROM asset_check_executions WHERE run_id = %s "
        "ORDER BY asset_key, check_name, partition"
    )
    with psycopg.connect(server.url("dagster")) as connection:
        return connection.execute(query, (run_id,)).fetchall()


def sessions(server: Server) -> int:
    with psycopg.connect(server.url("warehouse")) as connection:
        row = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = 'dagster'").fetchone()
    assert row is not None
    return int(row[0])


def test_the_storage_is_made_several_times_a_process_with_one_engine() -> None:
    first, second = from_config(), from_config()
    engines = {
        id(vars(storage)["_engine"])
        for made in (first, second)
        for storage in (made.run_storage, made.event_log_storage, made.schedule_storage)
    }
    assert len(engines) == 1
    assert first.postgres_url.startswith("postgresql+psycopg2://")
    assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "1000"


@pytest.mark.parametrize(
    ("first", "last", "partition"),
    [
        ("2024-01-05", None, "2024-01-05"),
        ("2024-01-01", "2024-12-31", None),
        (
            "2024-01-05",
            "2024-01-05",
            None,
        ),  # a range of one day: the stock storage plans the day, the result names none
    ],
)
def test_a_run_leaves_one_resolved_row_per_check(
    instance: DagsterInstance, server: Server, first: str, last: str | None, partition: str | None
) -> None:
    run_id = materialize(instance, first, last)
    assert check_rows(server, run_id) == [
        ('["parted"]', "first", partition, "SUCCEEDED"),
        ('["parted"]', "second", partition, "FAILED"),
        ('["plain"]', "first", None, "SUCCEEDED"),
        ('["plain"]', "second", None, "FAILED"),
    ]


def test_a_planned_check_of_a_range_is_one_row_until_it_is_judged(instance: DagsterInstance, server: Server) -> None:
    job = dg.Definitions(assets=[asset_with_checks("plain", False)]).resolve_implicit_global_asset_job_def()
    tags = {"dagster/asset_partition_range_start": "2024-01-01", "dagster/asset_partition_range_end": "2024-12-31"}
    run = instance.create_run_for_job(job_def=job, tags=tags, asset_selection=None)
    assert check_rows(server, run.run_id) == [
        ('["plain"]', "first", None, "PLANNED"),
        ('["plain"]', "second", None, "PLANNED"),
    ]


def test_a_run_opens_few_connections(instance: DagsterInstance, server: Server) -> None:
    materialize(instance, "2024-01-01")
    before = sessions(server)
    materialize(instance, "2024-01-01", "2024-12-31")
    assert sessions(server) - before <= 5


def test_events_are_notified_and_watched(instance: DagsterInstance, server: Server) -> None:
    seen = threading.Event()
    with psycopg.connect(server.url("dagster"), autocommit=True) as listener:
        listener.execute("LISTEN run_events")
        run_id = materialize(instance, "2024-01-07")
        notified = next(listener.notifies(timeout=20, stop_after=1))
    assert notified.payload.split("_")[0] == run_id

    def handler(_event: EventLogEntry, _cursor: str) -> None:
        seen.set()

    instance.event_log_storage.watch(run_id, None, handler)
    assert seen.wait(timeout=20)
    instance.event_log_storage.end_watch(run_id, handler)


def test_processes_that_come_first_at_once_make_the_tables_once(server: Server, home: Path) -> None:
    with psycopg.connect(server.url("warehouse"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE newborn")
    code = "from data_platform.dagster_storage import PlatformStorage as S; S.from_config_value(None, {})"
    environment = os.environ | {"DATA_PLATFORM_DAGSTER_URL": server.url("newborn")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert [process.communicate()[1] for process in processes] == ["", "", ""]
    assert [process.returncode for process in processes] == [0, 0, 0]
    expected = {
        table
        for metadata in (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata)
        for table in metadata.tables
    }
    with psycopg.connect(server.url("newborn")) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert {table for (table,) in tables} == expected | {"alembic_version"}
        assert len(connection.execute("SELECT * FROM alembic_version").fetchall()) == 1


def test_a_warehouse_of_ones_own_gets_a_database_for_dagster_beside_it(
    server: Server, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = ensure_server(tmp_path)
    with psycopg.connect(own.url("warehouse"), autocommit=True) as connection:
        connection.execute("DROP DATABASE dagster")
    set_environment(environment, DATA_PLATFORM_WAREHOUSE_URL=own.url("warehouse"))

    assert from_config().run_storage.get_runs_count() == 0

    with psycopg.connect(own.url("dagster")) as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)


def test_a_missing_database_that_may_not_be_created_is_told_in_one_sentence(
    server: Server, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = ensure_server(tmp_path)
    with psycopg.connect(own.url("warehouse"), autocommit=True) as connection:
        connection.execute("DROP DATABASE dagster")
        connection.execute("CREATE ROLE clerk LOGIN PASSWORD 'secret-word'")
    url = f"postgresql://clerk:secret-word@127.0.0.1:{own.port}/warehouse"
    set_environment(environment, DATA_PLATFORM_WAREHOUSE_URL=url)
    with pytest.raises(SettingsError, match="clerk may not create it: create it") as error:
        from_config()
    assert "secret-word" not in str(error.value)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DATA_PLATFORM_DAGSTER_URL", "postgresql://u:secret-word@127.0.0.1:1/d", "127.0.0.1:1/d cannot be reached"),
        ("DATA_PLATFORM_WAREHOUSE_URL", "postgresql://u:secret-word@127.0.0.1:1/d", "127.0.0.1:1/d cannot be reached"),
        ("DATA_PLATFORM_DAGSTER_URL", "postgresql://u:secret-word@127.0.0.1:x/d", "DAGSTER_URL cannot be read"),
        ("DATA_PLATFORM_TIMEZONE", "Mars/Olympus", "DATA_PLATFORM_TIMEZONE is 'Mars/Olympus'"),
    ],
)
def test_what_is_wrong_outside_is_told_in_one_sentence_without_retries(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, value: str, sentence: str
) -> None:
    set_environment(environment, **{variable: value})
    with pytest.raises((DatabaseUnavailable, SettingsError), match=sentence) as error:
        from_config()
    assert "secret-word" not in str(error.value)
    assert caplog.records == []


def test_dagster_yaml_puts_every_file_into_the_platforms_home(home: Path) -> None:
    with DagsterInstance.from_config(str(REPOSITORY)) as instance:
        assert isinstance(instance.event_log_storage, PlatformEventLogStorage)
        run_id = materialize(instance, "2024-01-09")
        assert instance.get_run_by_id(run_id) is not None
        assert Path(instance.storage_directory()).is_relative_to(home)
        assert instance.telemetry_enabled is False
        assert instance.nux_enabled is False
    assert (home / "dagster" / "compute_logs" / run_id).exists()


def test_a_step_that_is_tried_again_after_its_checks_has_one_result_of_each(
    server: Server, instance: DagsterInstance
) -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("first", asset="again")])
    def again(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield dg.AssetCheckResult(check_name="first", passed=context.retry_number > 0)
        if not context.retry_number:
            raise dg.RetryRequested(max_retries=1)
        yield dg.Output(None)

    job = dg.Definitions(assets=[again]).resolve_implicit_global_asset_job_def()
    run = job.execute_in_process(instance=instance)
    assert run.success
    assert check_rows(server, run.run_id) == [('["again"]', "first", None, "SUCCEEDED")]
