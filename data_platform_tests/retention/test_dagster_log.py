"""Dagster's log forgets what old runs said, and shows of every partition, check and run what it showed before."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.instance import DagsterInstance
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.test_utils import instance_for_test

from data_platform.errors import DatabaseUnavailable
from data_platform.retention import dagster_log
from data_platform.retention.dagster_log import files_of_runs, of_old_runs
from data_platform.retention.done import Done
from data_platform.settings import settings
from data_platform_tests.conftest import throw_away

STORAGE = {"storage": {"custom": {"module": "data_platform.dagster_storage", "class": "PlatformStorage", "config": {}}}}
DAYS = dg.DailyPartitionsDefinition("2024-01-01")
NOW = datetime(2024, 6, 1, tzinfo=UTC)
OLD = datetime(2024, 1, 20, tzinfo=UTC)
FAILS: set[str] = set()


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("first", asset="daily"), dg.AssetCheckSpec("second", asset="daily")],
)
def daily(context: dg.AssetExecutionContext) -> Any:
    """Fails for the days in FAILS."""
    yield dg.AssetCheckResult(check_name="first", passed=True)
    if FAILS & set(context.partition_keys):
        raise dg.Failure("as told")
    yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="second", passed=False)])


@dg.asset(deps=[daily])
def whole() -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Not partitioned."""
    return dg.MaterializeResult(data_version=dg.DataVersion("one"))


ASSETS = (daily, whole)
CHECKS = [dg.AssetCheckKey(dg.AssetKey("daily"), name) for name in ("first", "second")]


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with throw_away(server) as url:
        monkeypatch.setenv("DATA_PLATFORM_DAGSTER_URL", url)
        settings.cache_clear()
        yield url


@pytest.fixture
def instance(url: str) -> Iterator[DagsterInstance]:
    FAILS.clear()
    with instance_for_test(overrides=STORAGE) as instance:
        yield instance


def run(instance: DagsterInstance, first: str | None, last: str | None = None, ended: datetime = OLD) -> str:
    """Materialize both assets (`daily` for days), in a run that ended long ago."""
    tags = {}
    if first:
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
    selected = list(ASSETS) if first else [whole]
    job = dg.Definitions(assets=ASSETS).resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(
        instance=instance, tags=tags, raise_on_error=False, asset_selection=[asset.key for asset in selected]
    )
    with psycopg.connect(settings().dagster_url or "") as connection:
        connection.execute(
            "UPDATE runs SET start_time = %(at)s, end_time = %(at)s WHERE run_id = %(run)s",
            {"at": ended.timestamp(), "run": done.run_id},
        )
        connection.execute(
            "UPDATE event_logs SET timestamp = %s WHERE run_id = %s", [ended.replace(tzinfo=None), done.run_id]
        )
    return done.run_id


def state(instance: DagsterInstance) -> dict[str, Any]:
    """What Dagster derives from its log: of partitions, checks and freshness, as the UI and its daemons ask for it."""
    log, found = instance.event_log_storage, dict[str, Any]()
    kinds = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    for asset in ASSETS:
        key = asset.key
        with psycopg.connect(settings().dagster_url or "") as connection:
            connection.execute("UPDATE asset_keys SET cached_status_data = NULL")
        cached = get_and_update_asset_status_cache_value(instance, key, asset.partitions_def)
        record = instance.get_asset_records([key])[0]
        newest = record.asset_entry.last_materialization_record
        found[key.to_user_string()] = (
            instance.get_materialized_partitions(key),
            [log.get_latest_storage_id_by_partition(key, kind) for kind in kinds],
            log.get_latest_asset_partition_materialization_attempts_without_materializations(key),
            cached,
            (record.storage_id, record.asset_entry.last_run_id, newest and newest.storage_id),
            instance.get_latest_data_version_record(key),
            log.get_latest_planned_materialization_info(key),
        )
    found["checks"] = log.get_asset_check_summary_records(CHECKS), log.get_asset_check_partition_info(CHECKS)
    found["latest"] = log.get_latest_asset_check_execution_by_key(CHECKS)
    found["fresh"] = instance.get_freshness_state_records([asset.key for asset in ASSETS])
    newest_of_whole = instance.get_latest_materialization_events([whole.key])[whole.key]
    found["run"] = newest_of_whole and instance.get_run_by_id(newest_of_whole.run_id)
    return found


def counts(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        found = {}
        for table in dagster_log.TABLES:
            row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
            found[table] = row[0] if row else 0
        return found


def clean(url: str, *, dry_run: bool = False) -> list[Done]:
    return list(of_old_runs(url, 30, NOW, dry_run=dry_run))


def busy(instance: DagsterInstance) -> list[str]:
    """Days singly and as a range, again, one that failed and one that failed after it had succeeded."""
    runs = [run(instance, "2024-01-01"), run(instance, "2024-01-02", "2024-01-04"), run(instance, "2024-01-01")]
    FAILS.update(["2024-01-03", "2024-01-06"])
    runs += [run(instance, "2024-01-06"), run(instance, "2024-01-03")]
    FAILS.clear()
    for state_now in (FreshnessState.WARN, FreshnessState.FAIL):
        change = FreshnessStateChange(
            key=whole.key, new_state=state_now, previous_state=FreshnessState.PASS, state_change_timestamp=1.0
        )
        instance._report_runless_asset_event(change)
    instance.report_runless_asset_event(dg.AssetMaterialization("daily", partition="2024-01-09"))
    return runs


def test_what_dagster_shows_is_what_it_showed_and_a_second_time_nothing_goes(
    url: str, instance: DagsterInstance
) -> None:
    busy(instance)
    before, rows = state(instance), counts(url)
    assert before["daily"][0] == {"2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-09"}
    told, told_rows = clean(url, dry_run=True), counts(url)
    assert told_rows == rows
    done = clean(url)
    assert done == told
    assert state(instance) == before
    left = counts(url)
    assert left["event_logs"] < rows["event_logs"] / 3
    assert rows["event_logs"] - left["event_logs"] == done[0].rows
    assert rows["runs"] - left["runs"] == done[-1].rows
    assert clean(url) == []
    assert counts(url) == left


def test_a_deletion_that_is_cut_short_anywhere_is_finished_by_the_next(
    url: str, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(instance)
    before = state(instance)
    monkeypatch.setattr(dagster_log, "RUNS_AT_ONCE", 1)
    whole_work = sum(one.rows for one in clean(url, dry_run=True))
    statement, gone = dagster_log._run, 0
    for stop in range(4):
        calls = iter(range(stop + 1))

        def killed(*arguments: Any, calls: Iterator[int] = calls) -> int:
            done = statement(*arguments)
            if next(calls) == stop:  # noqa: B023
                raise KeyboardInterrupt
            return done

        rows = sum(counts(url).values())
        monkeypatch.setattr(dagster_log, "_run", killed)
        with pytest.raises(KeyboardInterrupt):
            clean(url)
        gone += rows - sum(counts(url).values())
        assert state(instance) == before
    monkeypatch.setattr(dagster_log, "_run", statement)
    assert gone > 0
    left = sum(one.rows for one in clean(url))
    assert 0 < left < whole_work
    assert state(instance) == before
    assert clean(url) == []


def test_events_of_a_run_whose_own_deletion_was_cut_short_go(url: str, instance: DagsterInstance) -> None:
    first, second = run(instance, "2024-01-01"), run(instance, "2024-01-01")
    instance.run_storage.delete_run(first)  # Dagster deletes the events after it
    clean(url)
    with psycopg.connect(url) as connection:
        left = {row[0] for row in connection.execute("SELECT DISTINCT run_id FROM event_logs")}
    assert left == {second}


def test_young_runs_and_those_of_a_backfill_under_way_stay_whole(url: str, instance: DagsterInstance) -> None:
    young = run(instance, "2024-01-01", ended=NOW - timedelta(days=30, seconds=-1))
    backfilled = run(instance, "2024-01-02")
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE runs SET backfill_id = 'under_way' WHERE run_id = %s", [backfilled])
        connection.execute(
            "INSERT INTO bulk_actions (key, status, timestamp, body) VALUES ('under_way', 'REQUESTED', now(), '')"
        )
    rows = counts(url)
    assert clean(url) == []
    assert counts(url) == rows
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE bulk_actions SET status = 'COMPLETED_SUCCESS'")
    clean(url)
    assert len(instance.all_logs(backfilled)) < len(instance.all_logs(young))


def test_a_run_stays_as_long_as_a_retry_of_it_stays(url: str, instance: DagsterInstance) -> None:
    first = run(instance, None)
    retry = run(instance, None, ended=NOW)
    instance.add_run_tags(retry, {"dagster/root_run_id": first, "dagster/parent_run_id": first})
    clean(url)
    assert instance.get_run_by_id(first) is not None
    run(instance, None, ended=NOW)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE runs SET end_time = %s WHERE run_id = %s", [OLD.timestamp(), retry])
    clean(url)
    assert [instance.get_run_by_id(one) for one in (first, retry)] == [None, None]


def test_what_runs_printed_goes_with_them_and_foreign_folders_stay(
    url: str, instance: DagsterInstance, tmp_path: Path
) -> None:
    old, young, gone = run(instance, None), run(instance, None, ended=NOW), str(uuid.uuid4())
    for name in (old, young, gone, "by_hand"):
        folder = tmp_path / "compute_logs" / name / "compute_logs"
        folder.mkdir(parents=True)
        (folder / "step.err").write_text("said")

    def cleaned(keep_days: int | None, now: datetime, dry_run: bool = False) -> tuple[list[Done], set[str]]:
        done = list(files_of_runs(url, tmp_path, keep_days, now, dry_run=dry_run))
        return done, {path.name for path in (tmp_path / "compute_logs").iterdir()}

    assert cleaned(None, datetime.now(UTC)) == ([], {old, young, gone, "by_hand"})
    later = datetime.now(UTC) + timedelta(days=2)
    told, there = cleaned(None, later, dry_run=True)
    assert ([(one.files, one.bytes) for one in told], there) == ([(1, 4)], {old, young, gone, "by_hand"})
    assert cleaned(None, later) == (told, {old, young, "by_hand"})
    assert cleaned(30, NOW)[1] == {young, "by_hand"}
    assert cleaned(30, NOW)[0] == []


def test_the_cleanup_finds_the_tables_of_dagster_where_they_are(url: str, instance: DagsterInstance) -> None:
    with psycopg.connect(url) as connection:
        assert dagster_log.is_there(connection)
        connection.execute("DROP TABLE asset_event_tags")
        assert not dagster_log.is_there(connection)
        connection.rollback()


def test_a_database_that_does_not_answer_is_told(url: str) -> None:
    gone = url.rsplit("/", 1)[0] + "/gone"
    with pytest.raises(DatabaseUnavailable, match="has no such database"):
        list(of_old_runs(gone, 30, NOW, dry_run=False))
