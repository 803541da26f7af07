"""What is remembered: of each check in platform.check_results, of each staged partition in platform.partition_profiles.

Written in transactions of their own, so also when the run they belong to fails.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import psycopg
from psycopg import sql

from data_platform.contracts.rules import Severity
from data_platform.errors import PlatformError
from data_platform.quality.masking import masked
from data_platform.quality.profiles import VERSION, Profile
from data_platform.sources.evolution import Change
from data_platform.warehouse.connection import looking
from data_platform.warehouse.copying import copy_in, copy_out, stage

log = logging.getLogger(__name__)

SCHEMA = pl.Schema(
    {
        "asset": pl.String(),
        "partition_date": pl.Date(),
        "rule": pl.String(),
        "severity": pl.String(),
        "passed": pl.Boolean(),
        "value": pl.Float64(),
        "threshold": pl.String(),
        "rows_judged": pl.Int64(),
        "rows_failed": pl.Int64(),
        "note": pl.String(),
        "run_id": pl.String(),
    }
)
MOMENTS = pl.Schema({"checked_at": pl.Datetime("us", "UTC")})


@dataclass(frozen=True)
class CheckRecord:
    """What one check said of one partition (None: of no single one); `note` bears no personal data.

    `value` is the figure that was judged, `threshold` in words what it may be.
    """

    asset: str
    rule: str
    severity: Severity
    passed: bool
    partition_date: date | None = None
    value: float | None = None
    threshold: str = ""
    rows_judged: int = 0
    rows_failed: int = 0
    note: str = ""


def remember(url: str, run_id: str, records: Iterable[CheckRecord]) -> None:
    """Append `records`. Where Postgres does not take them that is logged, and stops nothing: checks only look."""
    rows = [{**vars(record), "run_id": run_id} for record in records]
    if not rows:
        return
    try:
        with looking(url, application="data-platform checks") as connection:
            copy_in(connection, "platform.check_results", pl.DataFrame(rows, schema=SCHEMA))
    except PlatformError as error:
        log.warning("The results of %d checks were not recorded: %s", len(rows), error)


def remember_changes(url: str, run_id: str, asset: str, changes: Mapping[date, Sequence[Change]]) -> None:
    """Append how the columns of deliveries changed, once each; where Postgres does not take it that is logged."""
    rows = [
        (asset, day, masked(one.column), one.kind, one.before, one.after, run_id)
        for day, found in changes.items()
        for one in found
    ]
    try:
        with looking(url, application="data-platform checks") as connection:
            connection.cursor().executemany(
                """
                INSERT INTO platform.schema_changes (asset, partition_date, column_name, kind, before, after, run_id)
                VALUES (%s, %s, %s, %s, %s, %s, %s)
                ON CONFLICT DO NOTHING
                """,
                rows,
            )
    except PlatformError as error:
        log.warning("%d changes of columns were not recorded: %s", len(rows), error)


def newest_results(
    connection: psycopg.Connection, *, asset: str | None = None, since: date | None = None
) -> pl.DataFrame:
    """The newest result of each check and partition, with `checked_at` (UTC), by asset, rule and partition.

    `since` leaves out earlier partitions. A result of no single partition stays until its check is made of any: then
    what it said (that it could not be made, as a rule) is over.
    """
    return copy_out(
        connection,
        sql.SQL(
            """
            SELECT {columns}
            FROM (
                SELECT DISTINCT ON (asset, rule, partition_date) *
                FROM platform.check_results
                WHERE ({asset}::text IS NULL OR asset = {asset})
                AND ({since}::date IS NULL OR partition_date IS NULL OR partition_date >= {since})
                ORDER BY asset, rule, partition_date, result_id DESC
            ) AS newest
            WHERE partition_date IS NOT NULL
            OR NOT EXISTS (
                SELECT
                FROM platform.check_results AS later
                WHERE later.asset = newest.asset AND later.rule = newest.rule
                AND later.partition_date IS NOT NULL AND later.result_id > newest.result_id
            )
            ORDER BY asset, rule, partition_date
            """
        ).format(
            columns=sql.SQL(", ").join(map(sql.Identifier, [*SCHEMA, *MOMENTS])),
            asset=sql.Literal(asset),
            since=sql.Literal(since),
        ),
        pl.Schema({**SCHEMA, **MOMENTS}),
    )


def newest_values(
    connection: psycopg.Connection, asset: str, rules: Sequence[str], *, partitions: int
) -> dict[str, list[float]]:
    """By rule the values of its newest `partitions` that have a finite one, in the order of the partitions.

    Reads no more than that, however long the history is; a rule without any is left out.
    """
    found = connection.execute(
        """
        SELECT asked.rule, array_agg(last.value ORDER BY last.partition_date)
        FROM unnest(%(rules)s::text[]) AS asked (rule)
        CROSS JOIN LATERAL (
            SELECT partition_date, value
            FROM (
                SELECT DISTINCT ON (partition_date) partition_date, value
                FROM platform.check_results
                WHERE asset = %(asset)s AND rule = asked.rule AND partition_date IS NOT NULL
                ORDER BY partition_date DESC, result_id DESC
            ) AS newest
            WHERE value NOT IN ('NaN', 'Infinity', '-Infinity')
            ORDER BY partition_date DESC
            LIMIT %(partitions)s
        ) AS last
        GROUP BY asked.rule
        """,
        {"rules": list(dict.fromkeys(rules)), "asset": asset, "partitions": partitions},
    )
    return dict(found.fetchall())


def keep_profiles(
    connection: psycopg.Connection, asset: str, run_id: str, profiles: Mapping[date, tuple[str, Profile]]
) -> None:
    """Write the profiles of partitions, each with the hash of the content it is of, in place of former ones."""
    if not profiles:
        return
    rows = pl.DataFrame(
        [
            {"partition_date": day, "content_hash": content, "profile": profile.to_json()}
            for day, (content, profile) in profiles.items()
        ]
    )
    stage(connection, "new_profiles", rows, ["date", "text", "jsonb"])
    connection.execute(
        """
        INSERT INTO platform.partition_profiles AS p (asset, partition_date, content_hash, profile, run_id)
        SELECT %s, partition_date, content_hash, profile, %s
        FROM pg_temp.new_profiles
        ON CONFLICT (asset, partition_date) DO UPDATE
        SET content_hash = excluded.content_hash, profile = excluded.profile, run_id = excluded.run_id,
            profiled_at = now()
        WHERE p.content_hash <> excluded.content_hash OR p.profile <> excluded.profile
        """,
        [asset, run_id],
    )


def read_profiles(
    connection: psycopg.Connection, asset: str, *, first: date = date.min, last: date = date.max
) -> dict[date, Profile]:
    """The profiles of the staged partitions from `first` to `last`, by day in order.

    One of another version counts as none: it is made anew when its partition is staged again.
    """
    rows = connection.execute(
        "SELECT partition_date, profile FROM platform.partition_profiles"
        " WHERE asset = %s AND partition_date BETWEEN %s AND %s AND profile -> 'version' = to_jsonb(%s::int)"
        " ORDER BY partition_date",
        [asset, first, last, VERSION],
    )
    return {day: Profile.from_json(profile) for day, profile in rows}


def profiled(connection: psycopg.Connection, asset: str, days: Collection[date]) -> dict[date, str]:
    """Of `days`, those that have a profile of today's version, with the hash of the content it is of."""
    rows = connection.execute(
        "SELECT partition_date, content_hash FROM platform.partition_profiles"
        " WHERE asset = %s AND partition_date = ANY(%s) AND profile -> 'version' = to_jsonb(%s::int)",
        [asset, list(days), VERSION],
    )
    return dict(rows.fetchall())
