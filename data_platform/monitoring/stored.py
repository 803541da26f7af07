"""What the warehouse says of how it is: checks, alerts, publishes, sizes. Reads only, and what it costs is bounded.

Nothing here counts rows of facts: `rows` are as Postgres estimates them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from data_platform.alerts.severity import OF_TODAY, severity_of
from data_platform.alerts.store import CheckRow
from data_platform.commands import figures
from data_platform.contracts import MARTS

SCHEMAS = ("warehouse", "marts", "platform")


@dataclass(frozen=True)
class TableSize:
    """A table with its indexes, partitions and long values. `rows` is an estimate; None where Postgres has none."""

    schema: str
    table: str
    bytes: int
    rows: int | None


@dataclass(frozen=True)
class OpenAlert:
    """An alert that is not over."""

    kind: str
    severity: str
    title: str
    opened_at: datetime


@dataclass(frozen=True)
class FailingCheck:
    """A check whose newest result failed; `severity` is how bad that is for a person (see alerts.checks)."""

    asset: str
    rule: str
    severity: str
    day: date | None
    note: str


@dataclass(frozen=True)
class Stored:
    """What a warehouse says. `publishes` and `rows_published` are of all time, by published asset."""

    published: Mapping[str, Mapping[date, str]] = field(default_factory=dict)
    stale_marts: Mapping[str, int] = field(default_factory=dict)
    last_load: figures.Load | None = None
    publishes: Mapping[str, int] = field(default_factory=dict)
    rows_published: Mapping[str, int] = field(default_factory=dict)
    judged: frozenset[str] = frozenset()
    failing: tuple[FailingCheck, ...] = ()
    alerts: tuple[OpenAlert, ...] = ()
    tables: tuple[TableSize, ...] = ()
    database_bytes: int = 0


def read_stored(connection: psycopg.Connection) -> Stored:
    """The figures of a warehouse that has its schema."""
    totals = connection.execute(
        "SELECT asset, count(*), sum(rows_staged)::bigint FROM platform.load_ledger GROUP BY asset"
    ).fetchall()
    newest = _newest_results(connection)
    return Stored(
        published=figures.published_days(connection),
        stale_marts=dict.fromkeys(MARTS, 0) | figures.stale_marts(connection),
        last_load=figures.last_load(connection),
        publishes={asset: count for asset, count, _ in totals},
        rows_published={asset: rows for asset, _, rows in totals},
        judged=frozenset(row.asset for row in newest),
        failing=tuple(_failing(row) for row in newest if not row.passed),
        alerts=_open_alerts(connection),
        tables=_table_sizes(connection),
        database_bytes=_database_bytes(connection),
    )


def failed_days(connection: psycopg.Connection, since: date) -> dict[str, set[date]]:
    """By asset, the partitions from `since` on whose newest result of a check failed, as badly as critical."""
    with connection.cursor(row_factory=class_row(CheckRow)) as cursor:
        cursor.execute(
            """
            SELECT result_id, asset, rule, severity, passed, day, value, threshold, rows_judged, rows_failed,
                note, run_id
            FROM (
                SELECT DISTINCT ON (asset, rule, partition_date) *, partition_date::text AS day
                FROM platform.check_results
                WHERE partition_date >= %s AND rule <> ALL(%s)
                ORDER BY asset, rule, partition_date, result_id DESC
            ) AS newest
            WHERE NOT passed
            """,
            [since, list(OF_TODAY)],
        )
        found: dict[str, set[date]] = {}
        for row in cursor:
            if severity_of(row) == "critical":
                found.setdefault(row.asset, set()).add(date.fromisoformat(row.day))
    return found


def _newest_results(connection: psycopg.Connection) -> list[CheckRow]:
    """The newest result of each check: of its newest partition, or of none, where that came later.

    Of what is about a table as it stands the last one counts. The index is skipped through, so that this costs a few
    look-ups for each check, however long the history is.
    """
    with connection.cursor(row_factory=class_row(CheckRow)) as cursor:
        cursor.execute(
            """
            WITH RECURSIVE checks AS (
                (SELECT asset, rule FROM platform.check_results ORDER BY asset, rule LIMIT 1)
                UNION ALL
                SELECT later.asset, later.rule
                FROM checks
                CROSS JOIN LATERAL (
                    SELECT asset, rule
                    FROM platform.check_results AS one
                    WHERE (one.asset, one.rule) > (checks.asset, checks.rule)
                    ORDER BY one.asset, one.rule
                    LIMIT 1
                ) AS later
            )
            SELECT found.result_id, found.asset, found.rule, found.severity, found.passed,
                coalesce(found.partition_date::text, '') AS day, found.value, found.threshold, found.rows_judged,
                found.rows_failed, found.note, found.run_id
            FROM checks
            INNER JOIN platform.check_results AS found ON found.result_id = CASE
                WHEN checks.rule = ANY(%(of_today)s) OR checks.asset = ANY(%(marts)s) THEN (
                    SELECT max(result_id)
                    FROM platform.check_results AS one
                    WHERE one.asset = checks.asset AND one.rule = checks.rule
                )
                ELSE greatest(
                    (
                        SELECT result_id
                        FROM platform.check_results AS one
                        WHERE one.asset = checks.asset AND one.rule = checks.rule AND partition_date IS NOT NULL
                        ORDER BY partition_date DESC, result_id DESC
                        LIMIT 1
                    ),
                    (
                        SELECT max(result_id)
                        FROM platform.check_results AS one
                        WHERE one.asset = checks.asset AND one.rule = checks.rule AND partition_date IS NULL
                    )
                )
            END
            ORDER BY found.asset, found.rule
            """,
            {"of_today": list(OF_TODAY), "marts": list(MARTS)},
        )
        return cursor.fetchall()


def _failing(row: CheckRow) -> FailingCheck:
    day = date.fromisoformat(row.day) if row.day else None
    return FailingCheck(row.asset, row.rule, severity_of(row), day, row.note)


def _open_alerts(connection: psycopg.Connection) -> tuple[OpenAlert, ...]:
    if not _has(connection, "platform.alerts"):
        return ()
    with connection.cursor(row_factory=class_row(OpenAlert)) as cursor:
        cursor.execute(
            "SELECT kind, severity, title, opened_at FROM platform.alerts WHERE closed_at IS NULL ORDER BY alert_id"
        )
        return tuple(cursor)


def _table_sizes(connection: psycopg.Connection) -> tuple[TableSize, ...]:
    rows = connection.execute(
        """
        WITH tables AS (
            SELECT c.oid, n.nspname, c.relname
            FROM pg_class AS c
            INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        )
        SELECT tables.nspname, tables.relname, coalesce(sum(pg_total_relation_size(parts.relid)), 0)::bigint,
            CASE WHEN bool_or(leaves.reltuples < 0) THEN NULL ELSE coalesce(sum(leaves.reltuples), 0)::bigint END
        FROM tables
        CROSS JOIN LATERAL (
            SELECT relid::oid FROM pg_partition_tree(tables.oid)
            UNION
            SELECT tables.oid
        ) AS parts
        LEFT JOIN pg_class AS leaves ON leaves.oid = parts.relid AND leaves.relkind = 'r'
        GROUP BY tables.nspname, tables.relname
        ORDER BY tables.nspname, tables.relname
        """,
        [list(SCHEMAS)],
    )
    return tuple(TableSize(*row) for row in rows)


def _database_bytes(connection: psycopg.Connection) -> int:
    return int(_one(connection, "SELECT pg_database_size(current_database())"))


def _has(connection: psycopg.Connection, table: str) -> bool:
    return _one(connection, f"SELECT to_regclass('{table}') IS NOT NULL") is True


def _one(connection: psycopg.Connection, query: Any) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]
