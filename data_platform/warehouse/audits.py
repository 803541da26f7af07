"""Audits of dimensions and facts, after TPC-DI: what must hold, asked of the tables as they stand after a publish.

They share nothing with the frames that the engine computed, write nothing, and read in one snapshot. Whether the
tables hold *what staging tells* is another question: `data-platform rebuild --verify` answers that one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from data_platform.lake import Lake, Stamp
from data_platform.transforms.versions import EARLIEST
from data_platform.warehouse import staged
from data_platform.warehouse.connection import connected
from data_platform.warehouse.copying import copy_out
from data_platform.warehouse.dimensions import DIMENSIONS, Dimension
from data_platform.warehouse.ledger import Work, entries
from data_platform.warehouse.marts import date_key
from data_platform.warehouse.rekeying import FACTS

# From here on the whole table is asked: to look every member, or every order, up by an index takes longer.
MANY_MEMBERS, FEW_MEMBERS = 20_000, 1_000
MANY_DATES = 62
EXAMPLES = 10

CURRENT, OVERLAPS, GAPS = "one_current_version", "no_overlapping_versions", "gaps_only_at_deletions"
INFERRED, POINTING = "inferred_members_are_named", "facts_point_by_the_rule"
PROFIT, ONCE = "profit_follows_cost", "lines_stand_once"

DIMENSION_AUDITS = {
    CURRENT: "An id has one current version, or none where its last has ended; a version ends after it starts and is "
    "the only one of its id from that date",
    OVERLAPS: "No version begins before the one before it has ended",
    GAPS: "A version ends without a successor only on a day of which staging tells a deletion (of the members "
    "written, and the ends on the run's days)",
    INFERRED: "An inferred member is there while a fact names it and it has no version, with its id and nothing "
    "else; and the unknown member −1 is there",
    POINTING: "Facts of the members written point at the last version that starts on or before the order date, else "
    "at the first, and have the profit of its cost",
}
FACT_AUDITS = {
    POINTING: "A fact points at the last version of its customer and of its product that starts on or before its "
    "order date, else at the first; and its date_key is the day of order_ts (of the order dates written, and the "
    "run's days)",
    PROFIT: "profit = total_amount − quantity × cost of the version pointed at, null where cost is unknown",
    ONCE: "A line of an order stands once, over all dates and both fact tables",
    INFERRED: "The inferred members of both dimensions are those that a fact names and that have no version",
}


@dataclass(frozen=True)
class Verdict:
    """How an audit came out: rows that fail, of how many. `examples` name keys and dates, no attribute."""

    audit: str
    failed: int
    judged: int
    examples: Sequence[Mapping[str, str]] = ()
    note: str = ""


@contextmanager
def snapshot(url: str) -> Iterator[psycopg.Connection]:
    """A connection that sees the warehouse as of one moment and cannot write."""
    with connected(url, application="data-platform audit", writes=False) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Millions of facts against thousands of versions: the planner would sort the facts, on disk, for a merge.
        connection.execute("SET LOCAL enable_mergejoin = off")
        connection.execute("SET LOCAL work_mem = '128MB'")
        yield connection


# Dimensions


def audit_dimension(
    connection: psycopg.Connection,
    lake: Lake,
    dimension: Dimension,
    *,
    ids: pl.Series,
    days: Sequence[date],
    timezone: str,
) -> list[Verdict]:
    """Every audit of a dimension, over the whole table; gaps and facts of the members `ids` and of the run's `days`."""
    parts = _parts(dimension)
    spans = _audit_spans(connection, parts)
    many = len(ids) > MANY_MEMBERS or (len(ids) > FEW_MEMBERS and 4 * len(ids) > spans[0].judged)
    wanted = None if many else ids.drop_nulls().to_list()
    return [
        *spans,
        _audit_gaps(connection, lake, dimension, ids.drop_nulls(), days, timezone, scan=many),
        _audit_inferred(connection, parts),
        _audit_facts_of_members(connection, dimension, wanted, days),
    ]


def _parts(dimension: Dimension) -> dict[str, sql.Composable]:
    attributes = sql.SQL(", ").join(map(sql.Identifier, dimension.attributes))
    return {
        "table": sql.Identifier(dimension.contract.schema, dimension.contract.table),
        "key": sql.Identifier(dimension.key),
        "id": sql.Identifier(dimension.id),
        "attributes": attributes,
    }


SPANS = """
    SELECT
        {id}, effective_from, effective_to, is_current,
        lead(effective_from) OVER versions AS next_from
    FROM {table}
    WHERE {key} <> -1
    WINDOW versions AS (PARTITION BY {id} ORDER BY effective_from)
"""
BROKEN_SPANS = {
    CURRENT: """
        {id} IS NULL
        OR is_current IS DISTINCT FROM (effective_to IS NULL)
        OR (is_current AND next_from IS NOT NULL)
        OR next_from = effective_from
        OR effective_to <= effective_from
    """,
    OVERLAPS: "next_from < coalesce(effective_to, 'infinity')",
}


def _audit_spans(connection: psycopg.Connection, parts: dict[str, sql.Composable]) -> list[Verdict]:
    spans = sql.SQL(SPANS).format(**parts)
    broken = {name: sql.SQL(text).format(**parts) for name, text in BROKEN_SPANS.items()}
    counts = sql.SQL(", ").join(
        sql.SQL("count(*) FILTER (WHERE {})").format(condition) for condition in broken.values()
    )
    judged, *failed = _row(connection, sql.SQL("SELECT count(*), {} FROM ({}) AS spans").format(counts, spans))
    examples = sql.SQL("SELECT {id}, effective_from, effective_to FROM ({spans}) AS spans WHERE {condition}")
    return [
        Verdict(
            name,
            count,
            judged,
            _examples(connection, count, examples.format(**parts, spans=spans, condition=condition)),
        )
        for (name, condition), count in zip(broken.items(), failed, strict=True)
    ]


def _audit_inferred(connection: psycopg.Connection, parts: dict[str, sql.Composable]) -> Verdict:
    found = sql.SQL(
        """
        FROM {table} AS d
        WHERE d.is_inferred AND (
            num_nonnulls({attributes}) > 0
            OR EXISTS (SELECT FROM {table} AS v WHERE v.{id} = d.{id} AND v.{key} <> d.{key})
            OR NOT (
                EXISTS (SELECT FROM warehouse.fact_sales AS f WHERE f.{key} = d.{key})
                OR EXISTS (SELECT FROM warehouse.fact_returns AS f WHERE f.{key} = d.{key})
            )
        )
        """
    ).format(**parts)
    inferred, unknown = _row(
        connection,
        sql.SQL(
            "SELECT count(*) FILTER (WHERE is_inferred), count(*) FILTER (WHERE {key} = -1 AND {id} IS NULL)"
            " FROM {table}"
        ).format(**parts),
    )
    failed = _row(connection, sql.SQL("SELECT count(*) ") + found)[0] if inferred else 0
    examples = _examples(connection, failed, sql.SQL("SELECT d.{id}, d.effective_from ").format(**parts) + found)
    note = "" if unknown else "The unknown member (key −1, no id) is not there."
    return Verdict(INFERRED, failed + (1 - unknown), inferred + 1, examples, note)


def _audit_facts_of_members(
    connection: psycopg.Connection, dimension: Dimension, ids: list[str] | None, days: Sequence[date]
) -> Verdict:
    """What re-keying must have done: facts of the members written, and of those a version of which starts in `days`."""
    parts = _parts(dimension)
    only: sql.Composable = sql.SQL("")
    if ids is not None:
        only = sql.SQL(
            "AND {id} IN (SELECT unnest({ids}::text[])"
            " UNION SELECT {id} FROM {table} WHERE effective_from = ANY({days}::date[]))"
        ).format(**parts, ids=sql.Literal(ids), days=sql.Literal(list(days)))
    pointed = sql.SQL(" UNION ALL ").join(
        sql.SQL(
            """
            SELECT f.order_id, f.line_number, f.order_ts::date AS order_date, v.{id}, v.effective_from, {wrong} AS wrong
            FROM {fact} AS f
            JOIN versions AS v USING ({key})
            """
        ).format(
            **parts,
            fact=sql.Identifier("warehouse", fact),
            wrong=sql.SQL("NOT (f.order_ts >= v.from_ts AND f.order_ts < v.until_ts)" + _profit_wrong(dimension, "v")),
        )
        for fact in FACTS
    )
    versions = _pointed_spans(dimension, only)
    # Of all members: by one look at the facts, not by one look-up a version.
    connection.execute(sql.SQL("SET LOCAL enable_nestloop = {}").format(sql.Literal(ids is not None)))
    judged, failed = _row(
        connection,
        sql.SQL("WITH versions AS ({}) SELECT count(*), count(*) FILTER (WHERE wrong) FROM ({}) AS pointed").format(
            versions, pointed
        ),
    )
    query = sql.SQL(
        "WITH versions AS ({}) SELECT order_id, line_number, order_date, {}, effective_from FROM ({}) AS p WHERE wrong"
    ).format(versions, parts["id"], pointed)
    examples = _examples(connection, failed, query)
    connection.execute("SET LOCAL enable_nestloop = on")
    return Verdict(POINTING, failed, judged, examples)


def _profit_wrong(dimension: Dimension, versions: str) -> str:
    if "cost" not in dimension.contract.columns:
        return ""
    return f" OR f.profit IS DISTINCT FROM f.total_amount - f.quantity * {versions}.cost"


def _pointed_spans(dimension: Dimension, only: sql.Composable) -> sql.Composable:
    """Versions with the time that facts of which point at them: from_ts to before until_ts."""
    return sql.SQL(
        """
        SELECT
            {key}, {id}, effective_from, {cost}
            CASE
                WHEN row_number() OVER versions = 1 THEN '-infinity'
                ELSE effective_from::timestamp
            END AS from_ts,
            coalesce(lead(effective_from) OVER versions, 'infinity')::timestamp AS until_ts
        FROM {table}
        WHERE {key} <> -1 {only}
        WINDOW versions AS (PARTITION BY {id} ORDER BY effective_from)
        """
    ).format(**_parts(dimension), cost=sql.SQL("cost," if "cost" in dimension.contract.columns else ""), only=only)


# Gaps


def _audit_gaps(
    connection: psycopg.Connection,
    lake: Lake,
    dimension: Dimension,
    ids: pl.Series,
    days: Sequence[date],
    timezone: str,
    *,
    scan: bool,
) -> Verdict:
    ended = _ended(connection, dimension, None if scan else ids.to_list(), days)
    if scan:
        # Ends of other members would have all staged partitions opened, however long ago they ended.
        ended = ended.filter(pl.col(dimension.id).is_in(ids.implode()) | pl.col("effective_to").is_in(list(days)))
    if ended.is_empty():
        return Verdict(GAPS, 0, 0)
    stamps, _ = _published(connection, lake, dimension)
    told = _deletions_told(lake, dimension, ended, stamps, timezone)
    untold = ended.join(told, on=[dimension.id, "effective_to"], how="anti", nulls_equal=True)
    if untold.is_empty():
        return Verdict(GAPS, 0, ended.height)
    # Asked after the reading: staging may have been replaced meanwhile.
    _, replaced = _published(connection, lake, dimension)
    excused = untold.filter(
        pl.any_horizontal(
            pl.lit(False), *(pl.col("effective_to").is_between(*_dates(span, timezone)) for span in replaced.values())
        )
    )
    failed = untold.join(excused, on=[dimension.id, "effective_to"], how="anti", nulls_equal=True)
    note = ""
    if failed.is_empty():
        note = (
            f"{excused.height} ends without a successor cannot be judged before the next publish: staging of "
            f"{len(replaced)} days (the first is {min(replaced)}) is not what was published."
        )
    judged = ended.height - excused.height
    return Verdict(GAPS, failed.height, judged, _shown(failed.head(EXAMPLES).rows(named=True)), note)


def _ended(
    connection: psycopg.Connection, dimension: Dimension, ids: list[str] | None, days: Sequence[date]
) -> pl.DataFrame:
    """Ends that no version follows on the same day, of the members `ids` (None: all) and those on `days`."""
    parts = _parts(dimension)
    scope: sql.Composable = sql.SQL("")
    if ids is not None:
        scope = sql.SQL(
            "AND (d.effective_to = ANY({days}::date[]) OR d.{id} IN (SELECT unnest({ids}::text[])))"
        ).format(**parts, days=sql.Literal(list(days)), ids=sql.Literal(ids))
    query = sql.SQL(
        """
        SELECT d.{id}, d.effective_to
        FROM {table} AS d
        WHERE d.{key} <> -1 AND d.effective_to IS NOT NULL {scope}
        AND NOT EXISTS (SELECT FROM {table} AS n WHERE n.{id} = d.{id} AND n.effective_from = d.effective_to)
        ORDER BY 1, 2
        """
    ).format(**parts, scope=scope)
    return copy_out(connection, query, pl.Schema({dimension.id: pl.String(), "effective_to": pl.Date()}))


def _published(
    connection: psycopg.Connection, lake: Lake, dimension: Dimension
) -> tuple[dict[date, Stamp], dict[date, tuple[datetime, datetime]]]:
    """The partitions that are staged as they were published; and of all others the moments that were published."""
    published = entries(connection, dimension.contract.table)
    stamps = lake.stamps(dimension.staged.table, published)
    same = {day: stamp for day, stamp in stamps.items() if stamp.content == published[day].content}
    others = {day: entry for day, entry in published.items() if day not in same}
    replaced = {
        day: (entry.first_moment, entry.last_moment)
        for day, entry in others.items()
        if entry.first_moment is not None and entry.last_moment is not None
    }
    return same, replaced


def _deletions_told(
    lake: Lake, dimension: Dimension, ended: pl.DataFrame, stamps: Mapping[date, Stamp], timezone: str
) -> pl.DataFrame:
    """Which of the ends staging tells: by a tombstone of that date, or a full delivery of that day without the id."""
    ids, ends = ended.get_column(dimension.id).unique(), ended.get_column("effective_to").unique()
    effective = pl.max_horizontal(
        pl.col("_moment").dt.convert_time_zone(timezone).dt.date(), pl.lit(EARLIEST)
    ).alias("effective_to")  # fmt: skip
    work = Work(dimension.contract.table, dimension.staged.table, stamps, {}, (), everything=False)
    days = [day for day, stamp in sorted(stamps.items()) if _may_tell(stamp, ends, timezone)]
    rows = staged.tellings(lake, work, days, ids).filter("is_deleted")
    told = [rows.select(dimension.id, effective).unique().collect()]
    ends_on = set(ends)
    for day in days:
        if stamps[day].mode == "full" and day in ends_on:
            present = [
                staged.tellings(lake, work, [day], ids).select(dimension.id).collect(),
                staged.presences(lake, work, [day], [dimension.id], ids).select(dimension.id),
            ]
            here = ended.filter(pl.col("effective_to") == day)
            told.append(here.join(pl.concat(present), on=dimension.id, how="anti"))
    return pl.concat(told).unique()


def _dates(moments: tuple[datetime, datetime], timezone: str) -> tuple[date, date]:
    """The first and the last effective date of moments between these two."""
    # Before it is clipped a day may lie before the year 1, which Python has no date for.
    bounds = pl.Series(moments, dtype=pl.Datetime("us", "UTC"))
    first, last = bounds.dt.convert_time_zone(timezone).dt.date().clip(lower_bound=EARLIEST)
    return first, last


def _may_tell(stamp: Stamp, ends: pl.Series, timezone: str) -> bool:
    # The stamp bounds the moments of a partition: few of a year's files are opened.
    if not stamp.rows_staged or stamp.first_moment is None or stamp.last_moment is None:
        return False
    moments = datetime.fromisoformat(stamp.first_moment), datetime.fromisoformat(stamp.last_moment)
    return bool(ends.is_between(*_dates(moments, timezone)).any())


# Facts


def audit_facts(connection: psycopg.Connection, *, dates: Sequence[int]) -> dict[str, list[Verdict]]:
    """Every audit of the facts of the order dates `dates` (yyyymmdd), by fact table."""
    doubles = _audit_once(connection, dates)
    # Facts make and remove inferred members, of both dimensions.
    inferred = [_audit_inferred(connection, _parts(dimension)) for dimension in DIMENSIONS.values()]
    both = Verdict(
        INFERRED,
        sum(verdict.failed for verdict in inferred),
        sum(verdict.judged for verdict in inferred),
        [example for verdict in inferred for example in verdict.examples][:EXAMPLES],
        " ".join(verdict.note for verdict in inferred if verdict.note),
    )
    return {fact: [*_audit_lines(connection, fact, dates), doubles[fact], both] for fact in FACTS}


# Of facts whose dimension has a constraint removed the joins find nothing, and that is wrong as well.
WRONG_LINE = {
    POINTING: """
        (f.order_ts >= d.full_date AND f.order_ts < d.full_date + 1) IS NOT TRUE
        OR (f.customer_key <> -1 AND (f.order_ts >= c.from_ts AND f.order_ts < c.until_ts) IS NOT TRUE)
        OR (f.order_ts >= p.from_ts AND f.order_ts < p.until_ts) IS NOT TRUE
    """,
    PROFIT: "f.profit IS DISTINCT FROM f.total_amount - f.quantity * p.cost",
}


def _audit_lines(connection: psycopg.Connection, fact: str, dates: Sequence[int]) -> list[Verdict]:
    table = sql.Identifier("warehouse", fact)
    scope = sql.SQL("f.date_key = ANY({}::integer[])").format(sql.Literal(list(dates)))

    def spans(dimension: Dimension) -> sql.Composable:
        if len(dates) > MANY_DATES:
            return _pointed_spans(dimension, sql.SQL(""))
        named = sql.SQL(
            "AND {id} IN (SELECT d.{id} FROM {table} AS d"
            " WHERE d.{key} IN (SELECT f.{key} FROM {fact} AS f WHERE {scope}))"
        ).format(**_parts(dimension), fact=table, scope=scope)
        return _pointed_spans(dimension, named)

    ctes = sql.SQL("WITH c AS ({}), p AS ({}) ").format(
        spans(DIMENSIONS["dim_customer"]), spans(DIMENSIONS["dim_product"])
    )
    source = sql.SQL(
        """
        FROM {fact} AS f
        LEFT JOIN warehouse.dim_date AS d USING (date_key)
        LEFT JOIN c USING (customer_key)
        LEFT JOIN p USING (product_key)
        WHERE {scope}
        """
    ).format(fact=table, scope=scope)
    counts = sql.SQL(", ").join(sql.SQL(f"count(*) FILTER (WHERE {wrong})") for wrong in WRONG_LINE.values())
    judged, *failed = _row(connection, ctes + sql.SQL("SELECT count(*), {} ").format(counts) + source)
    columns = sql.SQL(
        "SELECT f.order_id, f.line_number, f.date_key, c.customer_id, c.effective_from AS customer_from,"
        " p.product_id, p.effective_from AS product_from "
    )
    return [
        Verdict(
            name,
            count,
            judged,
            _examples(connection, count, ctes + columns + source + sql.SQL(f"AND ({wrong})")),
        )
        for (name, wrong), count in zip(WRONG_LINE.items(), failed, strict=True)
    ]


def _audit_once(connection: psycopg.Connection, dates: Sequence[int]) -> dict[str, Verdict]:
    scope: sql.Composable = sql.SQL("true")
    if len(dates) <= MANY_DATES:
        scope = sql.SQL(
            """
            order_id IN (
                SELECT order_id FROM warehouse.fact_sales WHERE date_key = ANY({dates}::integer[])
                UNION
                SELECT order_id FROM warehouse.fact_returns WHERE date_key = ANY({dates}::integer[])
            )
            """
        ).format(dates=sql.Literal(list(dates)))
    lines = sql.SQL(" UNION ALL ").join(
        sql.SQL(
            "SELECT {number} AS fact, order_id, line_number, date_key,"
            " hashtextextended(order_id, line_number) AS line FROM {fact} WHERE {scope}"
        ).format(number=sql.Literal(number), fact=sql.Identifier("warehouse", fact), scope=scope)
        for number, fact in enumerate(FACTS)
    )
    # To count distinct numbers takes a quarter of the time of grouping by order and line. Equal counts are proof; with
    # others, which two lines of one hash could cause, the lines themselves are compared.
    counts = sql.SQL(", ").join(sql.SQL(f"count(*) FILTER (WHERE fact = {number})") for number in range(len(FACTS)))
    *judged, distinct = _row(
        connection, sql.SQL("SELECT {}, count(DISTINCT line) FROM ({}) AS lines").format(counts, lines)
    )
    if distinct == sum(judged):
        return {fact: Verdict(ONCE, 0, rows) for fact, rows in zip(FACTS, judged, strict=True)}
    doubles = sql.SQL(
        """
        FROM (
            SELECT *, count(*) OVER (PARTITION BY order_id, line_number) AS times
            FROM ({}) AS lines
        ) AS counted
        WHERE times > 1 AND fact = {}
        """
    )
    verdicts = {}
    for number, (fact, rows) in enumerate(zip(FACTS, judged, strict=True)):
        found = doubles.format(lines, sql.Literal(number))
        count = _row(connection, sql.SQL("SELECT count(*) ") + found)[0]
        shown = _examples(connection, count, sql.SQL("SELECT order_id, line_number, date_key ") + found)
        verdicts[fact] = Verdict(ONCE, count, rows, shown)
    return verdicts


def dates_of(keys: pl.Series, days: Sequence[date]) -> list[int]:
    """Date keys of written facts and of the run's days, together and in order."""
    return sorted({*keys.to_list(), *map(date_key, days)})


# Asking


def _row(connection: psycopg.Connection, query: sql.Composable) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(sql.Composed([query])).fetchone()
    assert row is not None
    return row


def _examples(connection: psycopg.Connection, failed: int, query: sql.Composable) -> list[dict[str, str]]:
    if not failed:
        return []
    cursor = connection.execute(sql.Composed([query, sql.SQL(" ORDER BY 1, 2 LIMIT {}").format(sql.Literal(EXAMPLES))]))
    names = [column.name for column in cursor.description or ()]
    return _shown([dict(zip(names, row, strict=True)) for row in cursor])


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    # As in staging's examples: an id is shown up to 60 characters.
    return [{name: "" if value is None else str(value)[:60] for name, value in row.items()} for row in rows]
