"""What the warehouse and the lake hold, in figures, as `demo`, `status` and `rebuild` show them. Reads only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

    from data_platform.lake import Lake, Stamp

# What each publish takes in; both fact tables are one publish.
PUBLISHED = {"dim_customer": "customers", "dim_product": "products", "fact_sales": "orders"}


@dataclass(frozen=True)
class Month:
    """Sales and returns of a calendar month, by order date. Amounts are signed: returns are below 0."""

    month: str
    orders: int
    lines: int
    sales: Decimal
    returns: Decimal


@dataclass(frozen=True)
class Quality:
    """How the rows that an entity delivered were classed: delivered = staged + quarantined + duplicate."""

    entity: str
    delivered: int
    staged: int
    quarantined: int
    duplicate: int


@dataclass(frozen=True)
class Load:
    """A publish that the ledger knows of."""

    asset: str
    run_id: str
    finished_at: datetime


def is_set_up(connection: "psycopg.Connection") -> bool:
    """Whether the warehouse has its schema."""
    return connection.execute("SELECT to_regclass('platform.load_ledger') IS NOT NULL").fetchone() == (True,)


def rows_per_table(connection: "psycopg.Connection") -> dict[str, int]:
    """Rows of every table of the schemas warehouse and marts, unknown members included, in the order of the layers."""
    from psycopg import sql

    from data_platform.contracts import published_contracts

    counts = {}
    for contract in published_contracts():
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(contract.schema, contract.table))
        counts[contract.table] = _number(connection, query)
    return counts


def sales_by_month(connection: "psycopg.Connection") -> list[Month]:
    """Facts by the month of the order date."""
    rows = connection.execute(
        """
        WITH lines AS (
            SELECT date_key / 100 AS month, order_id, total_amount AS sales, 0 AS returns
            FROM warehouse.fact_sales
            UNION ALL
            SELECT date_key / 100, NULL, NULL, total_amount
            FROM warehouse.fact_returns
        )
        SELECT month, count(DISTINCT order_id), count(sales), coalesce(sum(sales), 0), sum(returns)
        FROM lines
        GROUP BY month
        ORDER BY month
        """
    )
    return [Month(f"{month // 100}-{month % 100:02}", *figures) for month, *figures in rows]


def quality(connection: "psycopg.Connection") -> list[Quality]:
    """Rows by class of all that is published, from the ledger."""
    rows = connection.execute(
        """
        SELECT asset, sum(rows_delivered), sum(rows_staged), sum(rows_quarantined), sum(rows_duplicate)
        FROM (
            SELECT DISTINCT ON (asset, partition_date) *
            FROM platform.load_ledger
            ORDER BY asset, partition_date, load_id DESC
        ) AS newest
        GROUP BY asset
        """
    )
    found = {asset: Quality(PUBLISHED.get(asset) or str(asset), *map(int, sums)) for asset, *sums in rows}
    return [found[asset] for asset in reversed(PUBLISHED) if asset in found]


def published_days(connection: "psycopg.Connection") -> dict[str, dict[date, str]]:
    """Per published asset, its days and the hash of the staged file that each was published from."""
    days: dict[str, dict[date, str]] = {asset: {} for asset in PUBLISHED}
    rows = connection.execute(
        """
        SELECT DISTINCT ON (asset, partition_date) asset, partition_date, content_hash
        FROM platform.load_ledger
        ORDER BY asset, partition_date, load_id DESC
        """
    )
    for asset, day, content in rows:
        if content:
            days.setdefault(asset, {})[day] = content
    return days


def last_load(connection: "psycopg.Connection") -> Load | None:
    """The newest publish."""
    row = connection.execute(
        "SELECT asset, run_id, finished_at FROM platform.load_ledger ORDER BY finished_at DESC LIMIT 1"
    ).fetchone()
    return Load(*row) if row else None


def stale_marts(connection: "psycopg.Connection") -> dict[str, int]:
    """Order dates that each mart has yet to take in."""
    rows = connection.execute(
        "SELECT mart, count(DISTINCT date_key) FROM platform.mart_stale GROUP BY mart ORDER BY mart"
    )
    return dict(rows.fetchall())


def lake_stamps(lake: "Lake") -> "dict[str, dict[date, Stamp]]":
    """What every partition of raw and staging says of itself, by asset."""
    from data_platform.contracts import STAGED

    return {f"{layer}_{entity}": lake.stamps(f"{layer}_{entity}") for layer in ("raw", "stg") for entity in STAGED}


def waiting(
    lake: "Mapping[str, Mapping[date, Stamp]]",
    landed: Mapping[str, Sequence[date]] | None,
    published: Mapping[str, Mapping[date, str]] | None,
    start: date,
) -> dict[str, dict[str, list[date] | None]]:
    """Per entity, the days that wait before each layer, in order; None where it cannot be known.

    `lake` is what `lake_stamps` gives, `landed` the days in the landing folder and `published` what `published_days`
    gives. An empty partition of raw, or of staging, does not stand for a delivery that arrived after it.
    """
    found: dict[str, dict[str, list[date] | None]] = {}
    for asset, entity in reversed(PUBLISHED.items()):
        staged = lake[f"stg_{entity}"]
        taken = {day for day, stamp in lake[f"raw_{entity}"].items() if stamp.delivered}
        judged = {day for day, stamp in staged.items() if stamp.delivered}
        known = None if published is None else published.get(asset, {})
        files = None if landed is None else landed[entity]
        found[entity] = {
            "landed_not_taken": None if files is None else [day for day in files if day >= start and day not in taken],
            "raw_not_staged": sorted(taken - judged),
            "staged_not_published": (
                None if known is None else sorted(day for day in staged if known.get(day) != staged[day].content)
            ),
            "before_start": None if files is None else [day for day in files if day < start],
        }
    return found


def gaps(days: Iterable[date]) -> list[tuple[date, date]]:
    """The spans of days that are missing between the first and the last."""
    ordered: Sequence[date] = sorted(days)
    one = timedelta(days=1)
    return [(a + one, b - one) for a, b in pairwise(ordered) if b - a > one]


def _number(connection: "psycopg.Connection", query: Any) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
