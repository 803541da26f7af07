"""Dagster's runs and event log, which grow for ever by themselves: what old runs logged goes, what they mean stays.

Kept, whatever its age, is what Dagster derives today's state from: of each asset and partition the newest event of each
kind (materialized, planned, observed, freshness …), of each check and partition the newest result and the newest that
came to an end, and every run that one of these belongs to. So partitions, checks and freshness show what they showed.
What goes are the lines of the log, and the events that newer ones have replaced.
"""

import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from data_platform.lake import Lake
from data_platform.retention.done import Done
from data_platform.warehouse.connection import connected

STEP = "dagster"
APPLICATION = "data-platform cleanup"
RUNS_AT_ONCE = 100
TABLES = ("event_logs", "asset_event_tags", "asset_check_executions", "runs", "run_tags")
YOUNG = timedelta(days=1)

# Not those that a backfill under way looks back at.
OLD_RUNS = """
    SELECT r.run_id
    FROM runs AS r
    LEFT JOIN bulk_actions AS b ON b.key = r.backfill_id
    WHERE r.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
        AND coalesce(r.end_time, extract(epoch FROM r.update_timestamp AT TIME ZONE 'UTC')) < %(before)s
        AND (b.status IS NULL OR b.status NOT IN ('REQUESTED', 'CANCELING', 'FAILING'))
    ORDER BY r.id
"""
# Events of no run (freshness, what people report in the UI), and of runs that are gone: Dagster deletes a run first.
# Their ids are found by jumps over an index: an event log has few runs and many events.
RUNLESS = """
    WITH RECURSIVE named AS (
        (SELECT run_id FROM event_logs ORDER BY run_id LIMIT 1)
        UNION ALL
        SELECT (SELECT e.run_id FROM event_logs AS e WHERE e.run_id > named.run_id ORDER BY e.run_id LIMIT 1)
        FROM named
        WHERE named.run_id IS NOT NULL
    )
    SELECT n.run_id
    FROM named AS n
    LEFT JOIN runs AS r USING (run_id)
    WHERE n.run_id IS NOT NULL AND r.run_id IS NULL
"""
# Of partitions apart, so that each finds its index.
REPLACED_EVENT = """
    e.asset_key IS NULL OR CASE
        WHEN e.partition IS NULL THEN EXISTS (
            SELECT FROM event_logs AS newer
            WHERE newer.asset_key = e.asset_key AND newer.dagster_event_type = e.dagster_event_type
                AND newer.partition IS NULL AND newer.id > e.id
        )
        ELSE EXISTS (
            SELECT FROM event_logs AS newer
            WHERE newer.asset_key = e.asset_key AND newer.dagster_event_type = e.dagster_event_type
                AND newer.partition = e.partition AND newer.id > e.id
        )
    END
"""
REPLACED_RESULT = """
    EXISTS (
        SELECT FROM asset_check_executions AS newer
        WHERE newer.asset_key = c.asset_key AND newer.check_name = c.check_name
            AND newer.partition IS NOT DISTINCT FROM c.partition AND newer.id > c.id
            AND (c.execution_status = 'PLANNED' OR newer.execution_status <> 'PLANNED')
    )
"""
COUNTED = " SELECT count(*) FROM gone"
OF_RUNS = "e.run_id = ANY(%(runs)s) AND (e.timestamp < %(before)s OR %(before)s IS NULL)"
COUNT_EVENTS = f"WITH gone AS (SELECT e.id FROM event_logs AS e WHERE {OF_RUNS} AND ({REPLACED_EVENT})) {COUNTED}"  # noqa: S608
DELETE_EVENTS = f"""
    WITH gone AS (DELETE FROM event_logs AS e WHERE {OF_RUNS} AND ({REPLACED_EVENT}) RETURNING e.id),
    tags AS (DELETE FROM asset_event_tags AS t USING gone WHERE t.event_id = gone.id)
    {COUNTED}
"""  # noqa: S608
COUNT_RESULTS = f"""
    WITH gone AS (SELECT c.id FROM asset_check_executions AS c WHERE c.run_id = ANY(%(runs)s) AND {REPLACED_RESULT})
    {COUNTED}
"""  # noqa: S608
DELETE_RESULTS = f"""
    WITH gone AS (
        DELETE FROM asset_check_executions AS c WHERE c.run_id = ANY(%(runs)s) AND {REPLACED_RESULT} RETURNING c.id
    )
    {COUNTED}
"""  # noqa: S608
NEEDED_RUNS = f"""
    SELECT e.run_id FROM event_logs AS e WHERE e.run_id = ANY(%(runs)s) AND NOT ({REPLACED_EVENT})
    UNION
    SELECT c.run_id FROM asset_check_executions AS c WHERE c.run_id = ANY(%(runs)s) AND NOT {REPLACED_RESULT}
"""  # noqa: S608
FAMILIES = """
    SELECT r.run_id, coalesce(t.value, r.run_id)
    FROM runs AS r
    LEFT JOIN run_tags AS t ON t.run_id = r.run_id AND t.key = 'dagster/root_run_id'
"""


def is_there(connection: psycopg.Connection) -> bool:
    """Whether this database has Dagster's tables."""
    found = connection.execute(
        "SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest(%s::text[]) AS name", [list(TABLES)]
    )
    return found.fetchone() == (True,)


def of_old_runs(url: str, keep_days: int, now: datetime, *, dry_run: bool) -> Iterator[Done]:
    """Delete what runs logged that ended more than `keep_days` days before `now`, some runs a transaction.

    Raises DatabaseUnavailable where Dagster's Postgres fails; what was deleted before is, and the rest goes next time.
    """
    before = now - timedelta(days=keep_days)
    with connected(url, application=APPLICATION, writes=False) as connection:
        old = _ids(connection, OLD_RUNS, {"before": before.timestamp()})
        runless = _ids(connection, RUNLESS, {})
        unneeded = _unneeded(connection, old)
    # Told apart before anything goes: what is kept does not depend on what went.
    at = before.astimezone(UTC).replace(tzinfo=None)
    events = sum(_run(url, COUNT_EVENTS if dry_run else DELETE_EVENTS, runs, None) for runs in _some(old))
    events += sum(_run(url, COUNT_EVENTS if dry_run else DELETE_EVENTS, runs, at) for runs in _some(runless))
    results = sum(_run(url, COUNT_RESULTS if dry_run else DELETE_RESULTS, runs, None) for runs in _some(old))
    if events:
        yield Done(STEP, "deleted", "Lines of Dagster's log, and events that newer ones replaced", rows=events)
    if results:
        yield Done(STEP, "deleted", "Check results in Dagster that newer ones replaced", rows=results)
    if unneeded:
        for runs in _some(unneeded) if not dry_run else ():
            with connected(url, application=APPLICATION, writes=False) as connection:
                connection.execute("DELETE FROM runs WHERE run_id = ANY(%s)", [runs])
        yield Done(STEP, "deleted", "Runs that nothing shown today is of", rows=len(unneeded))


def files_of_runs(url: str, folder: Path, keep_days: int | None, now: datetime, *, dry_run: bool) -> Iterator[Done]:
    """Remove what runs printed or stored below `folder`: of runs that are gone, and of those older than `keep_days`."""
    folders = [path for part in ("compute_logs", "storage") for path in (folder / part).glob("*") if _is_run(path)]
    if not folders:
        return
    with connected(url, application=APPLICATION, writes=False) as connection:
        known = set(_ids(connection, "SELECT run_id FROM runs", {}))
        before = (now - timedelta(days=keep_days)).timestamp() if keep_days is not None else 0
        old = set(_ids(connection, OLD_RUNS, {"before": before}))
    gone = [path for path in folders if path.name in old or (path.name not in known and not _is_young(path, now))]
    if gone:
        held = [file for path in gone for file in Lake(path).files(".")]
        for path in gone if not dry_run else ():
            shutil.rmtree(path, ignore_errors=True)
        size = sum(file.size for file in held)
        yield Done(STEP, "removed", "What old runs printed or stored", files=len(held), bytes=size)


def _unneeded(connection: psycopg.Connection, old: Sequence[str]) -> list[str]:
    """Of old runs those that nothing kept is of; a run and its retries together, as the UI shows one by the other."""
    needed = {run for runs in _some(old) for run in _ids(connection, NEEDED_RUNS, {"runs": runs})}
    families: dict[str, str] = dict(connection.execute(FAMILIES).fetchall())
    going = set(old) - needed
    staying = {root for run, root in families.items() if run not in going}
    return [run for run in old if run in going and families[run] not in staying]


def _run(url: str, statement: str, runs: Collection[str], before: datetime | None) -> int:
    with connected(url, application=APPLICATION, writes=False) as connection:
        row = connection.execute(statement, {"runs": runs, "before": before}).fetchone()
    assert row is not None
    return int(row[0])


def _ids(connection: psycopg.Connection, statement: str, values: dict[str, Any]) -> list[str]:
    return [row[0] for row in connection.execute(statement, values)]


def _some(runs: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(runs), RUNS_AT_ONCE):
        yield list(runs[first : first + RUNS_AT_ONCE])


def _is_run(path: Path) -> bool:
    try:
        return str(uuid.UUID(path.name)) == path.name and path.is_dir()
    except ValueError:
        return False


def _is_young(path: Path, now: datetime) -> bool:
    try:
        return now - datetime.fromtimestamp(path.stat().st_mtime, UTC) < YOUNG
    except FileNotFoundError:
        return True
