"""What Dagster's instance says: runs that ended, freshness, silent daemons, the examples of a check."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal, get_args

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.event_api import RunStatusChangeRecordsFilter
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)

from data_platform.alerts.events import NOWHERE, Failing, Passing
from data_platform.alerts.store import CheckRow
from data_platform.assets.marts import MART_ASSETS
from data_platform.assets.raw import RAW
from data_platform.assets.staging import STAGING
from data_platform.assets.warehouse import WAREHOUSE_ASSETS

MOST_EVENTS = 500
SHOWN_STEPS = 3
SHOWN_EXAMPLES = 3
SILENT_AFTER = timedelta(minutes=5)  # a daemon says every half minute that it lives
JOB = "daily_sales"
RUN, FRESHNESS, DAEMON = "run_failed", "freshness_lost", "daemon_silent"
_Ends = Literal[dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS]
_ENDS: tuple[_Ends, ...] = get_args(_Ends)


def newest_end(instance: dg.DagsterInstance) -> int:
    """The position of the newest end of a run; 0 where none ended."""
    newest = (instance.fetch_run_status_changes(kind, limit=1).records for kind in _ENDS)
    return max((record.storage_id for records in newest for record in records), default=0)


def ended_since(instance: dg.DagsterInstance, position: int) -> tuple[list[Failing | Passing], int]:
    """What the runs say that ended after `position`, in the order of their ends, and the position to go on from."""
    ends: list[tuple[int, dg.DagsterEventType, str]] = []
    horizon: int | None = None
    for kind in _ENDS:
        after = RunStatusChangeRecordsFilter(kind, after_storage_id=position)
        records = instance.fetch_run_status_changes(after, limit=MOST_EVENTS, ascending=True).records
        ends += [(record.storage_id, kind, record.run_id) for record in records]
        if len(records) == MOST_EVENTS:
            # What follows is not read yet: nothing of the other kind may be taken before it.
            horizon = min(horizon or records[-1].storage_id, records[-1].storage_id)
    ends = sorted(one for one in ends if horizon is None or one[0] <= horizon)
    found: list[Failing | Passing] = []
    for _, end, run_id in ends:
        run = instance.get_run_by_id(run_id)
        if run is None:
            continue  # deleted since
        if end == dg.DagsterEventType.RUN_SUCCESS:
            found.append(_succeeded(run))
        elif run.tags.get(WILL_RETRY_TAG) != "true":
            found.append(_failed(instance, run))
    return found, max((one[0] for one in ends), default=position)


def _succeeded(run: DagsterRun) -> Passing:
    """A run of everything makes good what failed of its days in any job; another, what failed of the same selection."""
    return Passing(RUN if _is_of_all(run) else _selection_key(run), _days(run))


def _failed(instance: dg.DagsterInstance, run: DagsterRun) -> Failing:
    days = _days(run)
    first, last = min(days), max(days)
    again = f"`data-platform backfill --from {first} --to {last}`" if first else "the same job"
    about = f" for {first}" + (f"…{last}" if last != first else "") if first else ""
    return Failing(
        f"{_selection_key(run)}/{first}…{last}",
        "run_failed",
        "critical",
        f"the run of {run.job_name}{about} failed",
        _reasons(instance, run),
        f"Open the run; mend what its first failed step says, then run {again} again.",
        run.run_id,
        days,
    )


def _selection_key(run: DagsterRun) -> str:
    selected = (
        "" if run.asset_selection is None else " ".join(sorted(key.to_user_string() for key in run.asset_selection))
    )
    selected += " ".join(sorted(str(key) for key in run.asset_check_selection or ()))
    return f"{RUN}/{run.job_name}/{hashlib.sha256(selected.encode()).hexdigest()[:8] if selected else 'all'}"


def _is_of_all(run: DagsterRun) -> bool:
    if run.asset_selection is None:
        return run.job_name == JOB
    return _tables() <= run.asset_selection


def _tables() -> set[dg.AssetKey]:
    return {key for assets in (*RAW, *STAGING, *WAREHOUSE_ASSETS, *MART_ASSETS) for key in assets.keys}


def _days(run: DagsterRun) -> frozenset[str]:
    first = run.tags.get(ASSET_PARTITION_RANGE_START_TAG) or run.tags.get(PARTITION_NAME_TAG)
    last = run.tags.get(ASSET_PARTITION_RANGE_END_TAG) or first
    if not first or not last:
        return NOWHERE
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return frozenset((start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1))


def _reasons(instance: dg.DagsterInstance, run: DagsterRun) -> str:
    records = instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=SHOWN_STEPS, ascending=True
    ).records
    lines = [line for record in records if (line := _reason(record.event_log_entry))]
    return "\n".join(lines) or "No step failed: it was killed, ran out of time or memory, or could not be started."


def _reason(entry: EventLogEntry) -> str:
    event = entry.dagster_event
    if event is None:
        return ""
    failure = event.step_failure_data
    told = failure.user_failure_data.description if failure.user_failure_data else None
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    # The text of an error that nobody foresaw may quote a row: only its class is told.
    return f"{event.step_key}: {told or (error.cls_name if error else None) or 'failed'}"


def freshness(instance: dg.DagsterInstance) -> Failing | Passing:
    """Which tables no run has touched for too long, by Dagster's freshness policies."""
    states = {
        key.to_user_string(): record.freshness_state
        for key, record in instance.get_freshness_state_records(list(instance.all_asset_keys())).items()
    }
    lost = {table: state for table, state in states.items() if state in (FreshnessState.WARN, FreshnessState.FAIL)}
    if not lost:
        return Passing(FRESHNESS)
    failed = FreshnessState.FAIL in lost.values()
    return Failing(
        FRESHNESS,
        "freshness_lost",
        "critical" if failed else "warning",
        "tables are no longer fresh",
        f"No run has brought {len(lost)} tables up to date in the time that their freshness policy allows.",
        "See in the UI under Automation that the schedule daily_sales_at_six is on, and under Runs why none succeeds.",
        places=frozenset(lost),
        lasting=True,
    )


def daemon(instance: dg.DagsterInstance, now: datetime) -> Failing | Passing:
    """Whether a part of Dagster's daemon that ran once is silent: then no schedule and no sensor runs."""
    needed = instance.get_required_daemon_types()
    beats = {kind: beat.timestamp for kind, beat in instance.get_daemon_heartbeats().items() if kind in needed}
    silent = {kind for kind, beat in beats.items() if now.timestamp() - beat > SILENT_AFTER.total_seconds()}
    if not silent:
        return Passing(DAEMON)
    since = datetime.fromtimestamp(min(beats[kind] for kind in silent), now.tzinfo)
    return Failing(
        DAEMON,
        "daemon_silent",
        "critical",
        "Dagster's daemon is silent",
        f"Nothing was heard of {', '.join(sorted(silent)).lower()} since {since:%Y-%m-%d %H:%M} UTC: schedules and "
        "sensors stand still.",
        "Start `dagster-daemon run` again (or `make ui`), and see its log for why it stopped.",
        lasting=True,
    )


def examples(instance: dg.DagsterInstance, row: CheckRow) -> list[str]:
    """The examples that a check showed in its run, which are masked; none where it showed none."""
    return [_in_words(record) for record in _shown(instance, row)[:SHOWN_EXAMPLES]]


def _shown(instance: dg.DagsterInstance, row: CheckRow) -> Sequence[Mapping[str, Any]]:
    for evaluation in _evaluations(instance, row):
        table = evaluation.metadata.get("examples")
        if isinstance(table, dg.TableMetadataValue):
            records = [dict(record.data) for record in table.records]
            of_the_day = [record for record in records if record.get("day") == row.day]
            return of_the_day or records
    return []


def _evaluations(instance: dg.DagsterInstance, row: CheckRow) -> Iterator[AssetCheckEvaluation]:
    key = dg.AssetCheckKey(dg.AssetKey(row.asset), row.rule)
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=10):
        event = record.event.dagster_event if record.event else None
        if record.run_id == row.run_id and event is not None:
            found = event.event_specific_data
            if isinstance(found, AssetCheckEvaluation):
                yield found


def _in_words(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in record.items())
