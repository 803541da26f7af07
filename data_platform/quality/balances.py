"""The row accounting of every hop (law 4): figures read back from where they were written, and whether they balance.

From landing files to raw, to staging, to the warehouse's ledger, to the marts. No Dagster here, and nothing is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pyarrow.parquet as pq
from psycopg import sql

from data_platform.lake import DELETED, Draft, Lake, LakePath, Stamp, footer_of, over_files, scan_files
from data_platform.sources.landing import Delivery
from data_platform.warehouse.ledger import classes_of

Figure = int | Decimal | None
TOTALS = ("quantity", "total_amount")


@dataclass(frozen=True)
class Account:
    """The figures of one hop for one period (a partition, an order date, a month), and what does not balance in it.

    `lost` counts the rows that are not accounted for, at least 1 where `reason` says what is wrong.
    """

    day: date
    figures: Mapping[str, Figure]
    reason: str = ""
    lost: int = 0


@dataclass
class _Books:
    """Collects what is wrong with one period."""

    day: date
    figures: dict[str, Figure] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    lost: int = 0

    def expect(self, left: Figure, right: Figure, what: str) -> None:
        if left != right:
            self.reasons.append(f"{what} ({_text(left)} against {_text(right)})")
            whole = isinstance(left, int) and isinstance(right, int)
            self.lost += max(1, abs(left - right) if whole else 1)  # type: ignore[operator]

    def closed(self) -> Account:
        return Account(self.day, self.figures, "; ".join(self.reasons), self.lost)


def _text(figure: Figure) -> str:
    return "none" if figure is None else f"{figure:,}"


# Landing files to raw


@dataclass(frozen=True)
class InFiles:
    """What the files of a delivery hold: `rows` is None where only reading them can tell."""

    rows: int | None
    bytes: int


def in_files(delivery: Delivery) -> InFiles:
    """Rows and bytes of the files as they lie there, the rows counted without the reader."""
    counts = [_records(file.path, file.size, file.mtime_ns) for file in delivery.files]
    rows = None if None in counts else sum(count or 0 for count in counts)
    return InFiles(rows, sum(file.size for file in delivery.files))


def raw_accounts(lake: Lake, drafts: Sequence[Draft], counted: Mapping[date, InFiles]) -> list[Account]:
    """Rows that the files of each day hold, that were read, and that the partition holds."""
    accounts = []
    there = lake.stamps(drafts[0].asset, [draft.day for draft in drafts]) if drafts else {}
    # What retention has deleted has no rows to be counted.
    deleted = {day for day, stamp in there.items() if stamp.moved == DELETED}
    kept = [draft for draft in drafts if draft.day not in deleted]
    rows = _held_by_path([_held(lake, draft, there) for draft in kept])
    for draft in drafts:
        held = None if draft.day in deleted else rows[str(_held(lake, draft, there))]
        books = _Books(draft.day)
        read, files = draft.stamp.rows_delivered, counted.get(draft.day)
        books.figures |= {
            "files": len(draft.stamp.files),
            "bytes": int(draft.stamp.totals.get("bytes", 0)),
            "in_files": files.rows if files else None,
            "read": read,
            "in_raw": held,
        }
        if files is not None:
            if files.rows is not None:
                books.expect(files.rows, read, "rows in the files and rows read differ")
            books.expect(
                files.bytes, int(draft.stamp.totals.get("bytes", 0)), "bytes of the files and bytes read differ"
            )
        # Another run may have brought a newer delivery since.
        if there.get(draft.day) == draft.stamp and draft.day not in deleted:
            books.expect(read, held, "rows read and rows in raw differ")
        accounts.append(books.closed())
    return accounts


def _records(path: Path, size: int, mtime_ns: int) -> int | None:
    """The rows of a landing file, counted without the reader; None where only reading it can tell.

    That is so for compressed files and avro, for csv with quotes or blank lines, and where the file is another by now.
    """
    kind = path.suffix.casefold()
    if kind not in (".parquet", ".jsonl", ".csv"):
        return None
    try:
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) != (size, mtime_ns):
            return None
        if kind == ".parquet":
            return int(pq.read_metadata(path).num_rows)
        data = path.read_bytes()
    except (OSError, ValueError):
        return None
    if kind == ".jsonl":
        return sum(1 for line in data.split(b"\n") if line.strip())
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    # Blank lines are no rows, quoted fields may go over lines, and other encodings have zero bytes.
    if b"\n\n" in data or b"\n\r\n" in data or b"\0" in data or data.startswith((b"\n", b"\r\n")):
        return None
    return None if b'"' in data or b"'" in data or data.count(b"\r") not in (0, data.count(b"\r\n")) else lines - 1


def _rows_held(path: LakePath) -> int | None:
    try:
        return int(pq.read_metadata(footer_of(path)).num_rows)
    except (OSError, ValueError):  # Arrow's errors are ValueErrors
        return None


# Raw to staging


def staging_accounts(lake: Lake, drafts: Sequence[Draft], raw: Mapping[date, Stamp]) -> list[Account]:
    """delivered = staged + quarantined + duplicate, against raw's own count and against what the lake holds."""
    if not drafts:
        return []
    standing = lake.stamps(drafts[0].asset, [draft.day for draft in drafts])
    sums = _held_totals([_held(lake, draft, standing) for draft in drafts if draft.stamp.totals])
    # Another run may have staged another delivery since: that one has its own books.
    own = [draft for draft in drafts if standing.get(draft.day) == draft.stamp]
    rows = _held_by_path([_held(lake, draft, standing) for draft in own])
    rejecting = [draft for draft in own if draft.stamp.rows_quarantined]
    rows |= _held_by_path(
        [lake.quarantine_path(draft.asset, draft.day, standing[draft.day]) for draft in rejecting]
    )  # fmt: skip
    accounts = []
    for draft in drafts:
        stamp, day = draft.stamp, draft.day
        books = _Books(day)
        in_raw = raw[day].rows_delivered if day in raw else None
        totals = {name: Decimal(stamp.totals[name]) for name in TOTALS if name in stamp.totals}
        books.figures |= {"in_raw": in_raw, **_of_stamp(stamp), **totals}
        books.expect(in_raw, stamp.rows_delivered, "rows in raw and rows delivered differ")
        _expect_sum(books, stamp.rows_delivered, stamp.rows_staged + stamp.rows_quarantined + stamp.rows_duplicate)
        if standing.get(day) == stamp:
            path = _held(lake, draft, standing)
            books.expect(stamp.rows_staged, rows[str(path)], "rows staged and rows in the file differ")
            rejected = 0
            if stamp.rows_quarantined:
                rejected = rows[str(lake.quarantine_path(draft.asset, day, standing[day]))] or 0
            books.expect(stamp.rows_quarantined, rejected, "rows quarantined and rows in quarantine differ")
            held = sums.get(str(path), {})
            for name, total in totals.items():
                books.expect(total, held.get(name, Decimal(0)), f"Σ {name} staged and in the file differ")
        accounts.append(books.closed())
    return accounts


def _held(lake: Lake, draft: Draft, standing: Mapping[date, Stamp]) -> LakePath:
    """Where the rows of a promoted draft are; one that changed nothing may stand in an archive."""
    return lake.held(draft.asset, draft.day, standing.get(draft.day, draft.stamp))


def _of_stamp(stamp: Stamp) -> dict[str, Figure]:
    return {
        "delivered": stamp.rows_delivered,
        "staged": stamp.rows_staged,
        "quarantined": stamp.rows_quarantined,
        "duplicate": stamp.rows_duplicate,
    }


def _expect_sum(books: _Books, delivered: int, classed: int) -> None:
    books.expect(delivered, classed, "rows delivered and staged + quarantined + duplicate differ")


def _held_by_path(paths: Sequence[LakePath]) -> dict[str, int | None]:
    return dict(zip(map(str, paths), over_files(_rows_held, paths), strict=True))


def _held_totals(paths: Sequence[LakePath]) -> dict[str, dict[str, Decimal]]:
    """Σ of TOTALS per file, of the files that have rows."""
    there = [path for path, exists in zip(paths, over_files(_exists, paths), strict=True) if exists]
    if not there:
        return {}
    rows = scan_files(there, hive_partitioning=False, include_file_paths="_path")
    sums = rows.group_by("_path").agg(pl.col(name).cast(pl.Decimal(38, 4)).sum() for name in TOTALS)
    return {row.pop("_path"): row for row in sums.collect().iter_rows(named=True)}


def _exists(path: LakePath) -> bool:
    return path.exists()


# Staging to the warehouse


def ledger_accounts(
    connection: psycopg.Connection, asset: str, stamps: Mapping[date, Stamp], days: Sequence[date]
) -> list[Account]:
    """What the ledger holds of `days`, against the stamps that the publish found.

    `asset` is as in the ledger: both fact tables are `fact_sales`. A partition that a later publish has taken in by
    other contents is judged within itself alone.
    """
    classes = classes_of(asset)
    columns = ["partition_date", "content_hash", "rows_delivered", "rows_staged", "rows_quarantined", "rows_duplicate"]
    query = sql.SQL(
        """
        SELECT DISTINCT ON (partition_date) {}
        FROM platform.load_ledger
        WHERE asset = {} AND partition_date = ANY({}::date[])
        ORDER BY partition_date, load_id DESC
        """
    ).format(
        sql.SQL(", ").join(map(sql.Identifier, [*columns, *classes.values(), *(f"sum_{name}" for name in TOTALS)])),
        sql.Literal(asset),
        sql.Literal(list(days)),
    )
    entries = {row[0]: row[1:] for row in connection.execute(query)}
    return [_ledger_account(day, entries.get(day), stamps[day], list(classes)) for day in days if day in stamps]


def _ledger_account(day: date, entry: tuple[Any, ...] | None, stamp: Stamp, classes: Sequence[str]) -> Account:
    books = _Books(day)
    if entry is None:
        books.figures |= dict.fromkeys(("delivered", "staged", "quarantined", "duplicate", *classes))
        books.expect(None, stamp.rows_delivered, "the ledger has no entry of rows that were staged")
        return books.closed()
    content, *rest = entry
    rows, counts, sums = rest[:4], rest[4 : 4 + len(classes)], rest[4 + len(classes) :]
    totals = {name: value for name, value in zip(TOTALS, sums, strict=True) if name in stamp.totals}
    books.figures |= dict(zip(("delivered", "staged", "quarantined", "duplicate"), rows, strict=True))
    books.figures |= dict(zip(classes, counts, strict=True)) | totals
    delivered, taken, quarantined, duplicate = rows
    _expect_sum(books, delivered, taken + quarantined + duplicate)
    books.expect(taken, sum(count or 0 for count in counts), f"rows staged and {' + '.join(classes)} differ")
    if content == stamp.content:
        for name, told in _of_stamp(stamp).items():
            books.expect(books.figures[name], told, f"rows {name} in the ledger and in staging differ")
        for name, value in totals.items():
            books.expect(value, Decimal(stamp.totals[name]), f"Σ {name} in the ledger and in staging differ")
    return books.closed()


# The warehouse to the marts

# Facts and mart by period, and the figures that must agree. What is marked stale is left out: a publish has changed it
# since the mart was refreshed.
MART_FIGURES = {
    "mart_daily_sales": ("lines", "quantity", "net_sales", "profit"),
    "mart_product_performance": ("products", "quantity", "net_sales", "profit"),
    "mart_customer_value": ("customers", "net_sales"),
}
MART_SIDES = {
    "mart_daily_sales": (
        """
        SELECT
            make_date(date_key / 10000, date_key / 100 % 100, date_key % 100) AS period,
            lines,
            quantity,
            net_sales,
            profit
        FROM (
            SELECT
                date_key,
                count(*) AS lines,
                sum(quantity) AS quantity,
                sum(total_amount) AS net_sales,
                sum(profit) AS profit
            FROM lines
            GROUP BY date_key
        ) AS v
        WHERE date_key NOT IN (SELECT date_key FROM stale)
        """,
        """
        SELECT
            full_date AS period,
            lines + return_lines AS lines,
            quantity + returned_quantity AS quantity,
            net_sales,
            profit
        FROM marts.mart_daily_sales
        WHERE {scope} AND date_key NOT IN (SELECT date_key FROM stale)
        """,
    ),
    "mart_product_performance": (
        """
        SELECT
            make_date(v.month / 100, v.month % 100, 1) AS period,
            count(DISTINCT p.product_id) AS products,
            sum(v.quantity)::bigint AS quantity,
            sum(v.net_sales) AS net_sales,
            sum(v.profit) AS profit
        FROM (
            SELECT
                date_key / 100 AS month,
                product_key,
                sum(quantity) AS quantity,
                sum(total_amount) AS net_sales,
                sum(profit) AS profit
            FROM lines
            GROUP BY 1, 2
        ) AS v
        JOIN warehouse.dim_product AS p USING (product_key)
        WHERE p.product_id IS NOT NULL AND v.month NOT IN (SELECT date_key / 100 FROM stale)
        GROUP BY v.month
        """,
        """
        SELECT
            month_start AS period,
            count(*) AS products,
            sum(quantity + returned_quantity)::bigint AS quantity,
            sum(net_sales) AS net_sales,
            sum(profit) AS profit
        FROM marts.mart_product_performance
        WHERE {scope} AND to_char(month_start, 'YYYYMM')::integer NOT IN (SELECT date_key / 100 FROM stale)
        GROUP BY month_start
        """,
    ),
    # By the month of a customer's first order; as a whole it is stale, or it is not.
    "mart_customer_value": (
        """
        SELECT
            make_date(first_date_key / 10000, first_date_key / 100 % 100, 1) AS period,
            count(*) AS customers,
            sum(net_sales) AS net_sales
        FROM (
            SELECT c.customer_id, min(v.first_date_key) AS first_date_key, sum(v.net_sales) AS net_sales
            FROM (
                SELECT
                    customer_key,
                    min(date_key) FILTER (WHERE quantity > 0) AS first_date_key,
                    sum(total_amount) AS net_sales
                FROM lines
                GROUP BY customer_key
            ) AS v
            JOIN warehouse.dim_customer AS c USING (customer_key)
            WHERE c.customer_id IS NOT NULL
            GROUP BY c.customer_id
        ) AS customers
        WHERE first_date_key IS NOT NULL AND NOT EXISTS (SELECT FROM stale)
        GROUP BY 1
        """,
        """
        SELECT
            cohort_month AS period,
            count(*) AS customers,
            sum(monetary_value) AS net_sales
        FROM marts.mart_customer_value
        WHERE {scope} AND NOT EXISTS (SELECT FROM stale)
        GROUP BY cohort_month
        """,
    ),
}
BALANCE_OF_A_MART = """
    WITH stale AS (SELECT date_key FROM platform.mart_stale WHERE mart = {name}),
    lines AS NOT MATERIALIZED (
        SELECT date_key, customer_key, product_key, quantity, total_amount, profit
        FROM warehouse.fact_sales
        WHERE {fact_scope}
        UNION ALL
        SELECT date_key, customer_key, product_key, quantity, total_amount, profit
        FROM warehouse.fact_returns
        WHERE {fact_scope}
    ),
    facts AS ({facts}),
    mart AS ({mart})
    SELECT period, {figures}
    FROM facts
    FULL JOIN mart USING (period)
    ORDER BY period
"""


def mart_accounts(
    connection: psycopg.Connection, mart: str, scope: Sequence[int] | Sequence[date] | None
) -> list[Account]:
    """Totals of the facts against those of the mart, by period, for what a refresh had in `scope` (None: all).

    `scope` has date keys for mart_daily_sales and first days of months for mart_product_performance.
    """
    names = MART_FIGURES[mart]
    facts, rows = MART_SIDES[mart]
    fact_scope, mart_scope = _scopes(mart, scope)
    pairs = [sql.SQL("facts.{0}, mart.{0}").format(sql.Identifier(name)) for name in names]
    query = sql.SQL(BALANCE_OF_A_MART).format(
        name=sql.Literal(mart),
        fact_scope=fact_scope,
        facts=sql.SQL(facts),
        mart=sql.SQL(rows).format(scope=mart_scope),
        figures=sql.SQL(", ").join(pairs),
    )
    accounts = []
    for period, *figures in connection.execute(query):
        books = _Books(period)
        for name, told, shown in zip(names, figures[::2], figures[1::2], strict=True):
            books.figures |= {f"facts_{name}": told, f"mart_{name}": shown}
            books.expect(told, shown, f"{name} of the facts and of the mart differ")
        accounts.append(books.closed())
    return accounts


def _scopes(mart: str, scope: Sequence[int] | Sequence[date] | None) -> tuple[sql.Composable, sql.Composable]:
    if scope is None or mart == "mart_customer_value":
        return sql.SQL("true"), sql.SQL("true")
    if mart == "mart_daily_sales":
        keys = sql.SQL("date_key = ANY({}::integer[])").format(sql.Literal(list(scope)))
        return keys, keys
    months = sorted(month for month in scope if isinstance(month, date))
    spans = [
        sql.SQL("date_key BETWEEN {} AND {}").format(sql.Literal(first), sql.Literal(first + 99))
        for first in (month.year * 10000 + month.month * 100 for month in months)
    ]
    within = sql.SQL("({})").format(sql.SQL(" OR ").join(spans)) if spans else sql.SQL("false")
    return within, sql.SQL("month_start = ANY({}::date[])").format(sql.Literal(months))
