"""What Dagster's own database says: runs by job, the last step of each asset, who of the daemon lives. Reads only.

Its tables are read as they are: an instance would make what is missing, and nothing may be made by looking. Instants
come from what Dagster wrote as numbers, since its columns without a zone hold the time of whatever zone a session had.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import psycopg

from data_platform.errors import DatabaseUnavailable
from data_platform.settings import Settings
from data_platform.warehouse.connection import redact, warehouse_url

DATABASE = "dagster"
ACTIVE = ("queued", "starting", "started", "canceling")
ROWS = "dagster/partition_row_count"
WRITTEN = ("inserted", "updated", "deleted")


@dataclass(frozen=True)
class Job:
    """The runs of a job. Instants are in UTC; `oldest` is since when the oldest of an ACTIVE status is in storage."""

    name: str
    counts: Mapping[str, int]
    last_success: datetime | None
    last_failure: datetime | None
    last_seconds: float | None
    oldest: Mapping[str, datetime]


@dataclass(frozen=True)
class Run:
    """A run; `first` and `last` are its days where it has any, `seconds` what it took where it has ended."""

    run_id: str
    job: str
    status: str
    started_at: datetime | None
    seconds: float | None
    first: date | None
    last: date | None


@dataclass(frozen=True)
class AssetRun:
    """The newest materialization of an asset: when, how long its step took, its rows in the lake or written."""

    asset: str
    finished_at: datetime
    seconds: float | None
    rows: int | None
    written: Mapping[str, int]


@dataclass(frozen=True)
class Runs:
    """What Dagster's database says; nothing at all where Dagster has not made its tables yet. Newest runs first."""

    jobs: tuple[Job, ...] = ()
    newest: tuple[Run, ...] = ()
    assets: tuple[AssetRun, ...] = ()
    heartbeats: Mapping[str, datetime] = field(default_factory=dict)
    database_bytes: int | None = None


def dagster_url(chosen: Settings) -> str:
    """Where Dagster's database is or would be; starts the embedded server where that is the one, and makes nothing."""
    if chosen.dagster_url is not None:
        return chosen.dagster_url
    if chosen.warehouse_url is not None:
        return urlunsplit(urlsplit(warehouse_url(chosen))._replace(path=f"/{DATABASE}"))
    from data_platform.embedded_postgres import ensure_server

    return ensure_server(chosen.home).url(DATABASE)


def read_runs(url: str, *, newest: int, statement_timeout: int) -> Runs:
    """The figures, with so many of the `newest` runs; a statement has `statement_timeout` seconds.

    Raises DatabaseUnavailable where the database cannot be read. One that does not exist yet has no runs.
    """
    with _connected(url, statement_timeout) as connection:
        if connection is None:
            return Runs()
        found = connection.execute("SELECT to_regclass('runs'), to_regclass('event_logs')").fetchone()
        if found is None or None in found:
            return Runs()
        size = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return Runs(
            jobs=_jobs(connection),
            newest=_newest(connection, newest),
            assets=tuple(_assets(connection)),
            heartbeats=_heartbeats(connection),
            database_bytes=size[0] if size else None,
        )


@contextmanager
def _connected(url: str, statement_timeout: int) -> Iterator[psycopg.Connection | None]:
    try:
        connection = psycopg.connect(url, application_name="data-platform monitoring", connect_timeout=5)
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        if "does not exist" in str(error) and "database" in str(error):
            yield None
            return
        raise DatabaseUnavailable(
            f"Dagster's database at {redact(url)} cannot be reached: start that Postgres, or mend "
            "DATA_PLATFORM_DAGSTER_URL or DATA_PLATFORM_WAREHOUSE_URL."
        ) from None
    try:
        with connection:
            connection.read_only = True
            # Of the transaction, not of the session: pgbouncer shares sessions.
            connection.execute(f"SET LOCAL statement_timeout = '{statement_timeout}s'; SET LOCAL lock_timeout = '5s'")
            yield connection
    except psycopg.Error as error:
        raise DatabaseUnavailable(
            f"Dagster's database at {redact(url)} cannot be read ({type(error).__name__}): look again in a moment."
        ) from None


def _jobs(connection: psycopg.Connection) -> tuple[Job, ...]:
    # The time of its creation is in the zone of Dagster's session, which is the server's as a rule, as is that of ours.
    rows = connection.execute(
        """
        SELECT pipeline_name, lower(status), count(*), max(end_time), min(start_time),
            extract(epoch FROM min(create_timestamp::timestamptz))::float
        FROM runs
        GROUP BY pipeline_name, status
        ORDER BY pipeline_name, status
        """
    ).fetchall()
    last: dict[str, float] = dict(
        connection.execute(
            """
            SELECT DISTINCT ON (pipeline_name) pipeline_name, end_time - start_time
            FROM runs
            WHERE start_time IS NOT NULL AND end_time IS NOT NULL
            ORDER BY pipeline_name, id DESC
            """
        ).fetchall()
    )
    jobs: dict[str, list[tuple[Any, ...]]] = {}
    for name, *row in rows:
        jobs.setdefault(name, []).append(tuple(row))
    return tuple(_job(name, found, last.get(name)) for name, found in jobs.items())


def _job(name: str, rows: list[tuple[Any, ...]], seconds: float | None) -> Job:
    ended = {status: _instant(end) for status, _, end, _, _ in rows}
    return Job(
        name,
        {status: count for status, count, *_ in rows},
        ended.get("success"),
        ended.get("failure"),
        seconds,
        {
            status: since
            for status, _, _, started, created in rows
            if status in ACTIVE and (since := _instant(created if started is None else started)) is not None
        },
    )


def _newest(connection: psycopg.Connection, count: int) -> tuple[Run, ...]:
    rows = connection.execute(
        """
        WITH newest AS (
            SELECT id, run_id, pipeline_name, lower(status) AS status, start_time, end_time
            FROM runs
            ORDER BY id DESC
            LIMIT %s
        )
        SELECT newest.run_id, pipeline_name, status, start_time, end_time,
            jsonb_object_agg(key, value) FILTER (WHERE key IS NOT NULL)
        FROM newest
        LEFT JOIN run_tags ON run_tags.run_id = newest.run_id AND key LIKE 'dagster/%%partition%%'
        GROUP BY newest.id, newest.run_id, pipeline_name, status, start_time, end_time
        ORDER BY newest.id DESC
        """,
        [count],
    ).fetchall()
    return tuple(_run(*row) for row in rows)


def _run(
    run_id: str, job: str, status: str, start: float | None, end: float | None, tags: Mapping[str, str] | None
) -> Run:
    told = tags or {}
    first = told.get("dagster/asset_partition_range_start") or told.get("dagster/partition")
    last = told.get("dagster/asset_partition_range_end") or first
    seconds = None if start is None or end is None else end - start
    return Run(run_id, job, status, _instant(start), seconds, _day(first), _day(last))


def _assets(connection: psycopg.Connection) -> Iterator[AssetRun]:
    # An index gives the newest event of an asset; its step's end is among the events of its run.
    rows = connection.execute(
        """
        SELECT newest.asset_key, newest.event, ended.event
        FROM asset_keys
        CROSS JOIN LATERAL (
            SELECT asset_key, run_id, step_key, event
            FROM event_logs
            WHERE event_logs.asset_key = asset_keys.asset_key AND dagster_event_type = 'ASSET_MATERIALIZATION'
            ORDER BY id DESC
            LIMIT 1
        ) AS newest
        LEFT JOIN LATERAL (
            SELECT event
            FROM event_logs
            WHERE event_logs.run_id = newest.run_id AND event_logs.step_key = newest.step_key
            AND dagster_event_type = 'STEP_SUCCESS'
            ORDER BY id DESC
            LIMIT 1
        ) AS ended ON true
        ORDER BY newest.asset_key
        """
    )
    for key, text, end in rows:
        event = json.loads(text)
        at, figures = _instant(event.get("timestamp")), _figures(event)
        took = json.loads(end)["dagster_event"]["event_specific_data"].get("duration_ms") if end else None
        written = {change: figures[f"rows_{change}"] for change in WRITTEN if f"rows_{change}" in figures}
        if at is not None:
            seconds = None if took is None else took / 1000
            yield AssetRun("/".join(json.loads(key)), at, seconds, figures.get(ROWS), written)


def _figures(event: Mapping[str, Any]) -> dict[str, int]:
    """The whole numbers among the metadata of a materialization."""
    made = event["dagster_event"]["event_specific_data"]["materialization"]
    return {
        entry["label"]: entry["entry_data"]["value"]
        for entry in made.get("metadata_entries", ())
        if entry["entry_data"]["__class__"] == "IntMetadataEntryData"
    }


def _heartbeats(connection: psycopg.Connection) -> dict[str, datetime]:
    rows = connection.execute("SELECT daemon_type, body FROM daemon_heartbeats WHERE body IS NOT NULL").fetchall()
    return {kind.lower(): cast("datetime", _instant(json.loads(body)["timestamp"])) for kind, body in rows}


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None  # of partitions that are not ours
