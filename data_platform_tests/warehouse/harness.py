"""From the deliveries of the reference to a lake, and from the warehouse back to the rows of the reference.

What belongs here: staging typed rows as the platform does, publishing them, and reading what stands. No expectation.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from data_platform.contracts import STAGED
from data_platform.lake import Lake, Stamp, content_hash, with_moments
from data_platform.transforms.staging import control_totals
from data_platform.warehouse.dimensions import DIMENSIONS
from data_platform.warehouse.ledger import take_writer_lock
from data_platform.warehouse.publish import Published, publish_in
from data_platform.warehouse.staged import forget_formers
from data_platform_tests.cases import OVERWRITTEN, TRACKED
from data_platform_tests.reference import Delivery, Entity, Row, Warehouse

ASSETS: dict[Entity, str] = {"customers": "dim_customer", "products": "dim_product", "orders": "fact_sales"}
TABLES = ("dim_date", "dim_customer", "dim_product", "fact_sales", "fact_returns")
TOMBSTONES: dict[Entity, str] = {"orders": "is_tombstone", "products": "is_deleted", "customers": "is_deleted"}
CLASSES = {
    "sales": "sale",
    "returns": "return",
    "tombstones": "tombstone",
    "superseded": "superseded",
    "versions": "version",
    "repeats": "repeat",
    "replaced": "replaced",
    "deletions": "deletion",
}


# Staging


def stage(lake: Lake, delivery: Delivery, timezone: str = "UTC") -> None:
    """Put a delivery into the lake as staging would, in place of what its entity and day had."""
    contract = STAGED[delivery.entity]
    tombstone = TOMBSTONES[delivery.entity]
    start = datetime.combine(delivery.day, time(), ZoneInfo(timezone)).astimezone(UTC)
    rows = []
    for row in delivery.rows:
        told = {name: row.get(name) for name in contract.columns} | {tombstone: row["deleted"]}
        if delivery.entity == "orders":
            told["total_amount"] = total(row)
        for name in delivery.unknown:
            told[name] = None
        moment = row.get("updated_at") if delivery.mode == "changes" else None
        rows.append([*told.values(), moment or start, row["file"], row["row"]])
    schema = contract.polars_schema | {
        "_moment": pl.Datetime("us", "UTC"),
        "_file": pl.String(),
        "_row": pl.Int64(),
    }
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    keys = {f"_{name}": contract.columns[name].dtype for name in contract.key}
    rejected = pl.DataFrame(
        [[row["file"], row["row"], *(row.get(name[1:]) for name in keys)] for row in delivery.quarantined],
        schema={"_file": pl.String(), "_row": pl.Int64(), **keys},
        orient="row",
    )
    meaning = {
        "day": delivery.day,
        "mode": delivery.mode,
        "unit": delivery.unit,
        "unknown": sorted(delivery.unknown),
        "timezone": timezone,
    }
    stamp = Stamp(
        content=content_hash([frame, rejected], meaning),
        rows_delivered=len(rows) + len(delivery.quarantined),
        rows_staged=len(rows),
        rows_quarantined=len(delivery.quarantined),
        mode=delivery.mode,
        unit=delivery.unit,
        unknown=tuple(sorted(delivery.unknown)),
        contract=contract.fingerprint(),
        totals=control_totals(frame),
    )
    moments = frame.get_column("_moment")
    stamp = with_moments(stamp, moments.min(), moments.max())  # type: ignore[arg-type]
    lake.promote([lake.write_aside(contract.table, delivery.day, frame, stamp, rejected)])


def total(row: Row) -> Decimal | None:
    """quantity × unit_price − discount_amount, null where one of them is."""
    amounts = row.get("quantity"), row.get("unit_price"), row.get("discount_amount")
    if None in amounts:
        return None
    quantity, price, discount = amounts
    return Decimal(quantity) * price - discount  # type: ignore[arg-type,operator]


# The engine


@dataclass
class Engine:
    """The load engine over one lake and one connection; every publish is a transaction of its own."""

    connection: psycopg.Connection[Any]
    lake: Lake
    timezone: str = "UTC"
    paths: Counter[str] = field(default_factory=Counter)

    def publish(self, *entities: Entity) -> list[Published]:
        """Publish the assets of `entities` (none: all of which anything is staged) one by one, in that order."""
        reports = []
        for entity in entities or ASSETS:
            asset = ASSETS[entity]
            formers = self.lake.formers(STAGED[entity].table)
            with self.connection.transaction():
                take_writer_lock(self.connection)
                work, report = publish_in(self.connection, self.lake, asset, run_id="test", timezone=self.timezone)
            forget_formers(formers, work)
            self.paths[f"{asset}: {report.path}"] += 1
            reports.append(report)
        return reports


@contextmanager
def contracts_of_the_cases() -> Iterator[None]:
    """Let e-mail be overwritten, as the cases have it, so that columns of both kinds are tried."""
    before = dict(DIMENSIONS)
    for entity, asset in (("customers", "dim_customer"), ("products", "dim_product")):
        dimension = before[asset]
        contract = replace(
            dimension.contract,
            tracked=tuple(TRACKED[entity]),  # type: ignore[index]
            overwritten=tuple(OVERWRITTEN[entity]),  # type: ignore[index]
        )
        DIMENSIONS[asset] = replace(dimension, contract=contract)  # type: ignore[index]
    try:
        yield
    finally:
        DIMENSIONS.update(before)  # type: ignore[attr-defined]


def empty(connection: psycopg.Connection[Any]) -> None:
    """Bring the database to what a new warehouse is, years of the facts included."""
    with connection.transaction():
        children = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN"
            " ('warehouse.fact_sales'::regclass, 'warehouse.fact_returns'::regclass)"
        ).fetchall()
        if children:
            connection.execute(sql.SQL("DROP TABLE " + ", ".join(child[0] for child in children)))
        for statement in (
            "DELETE FROM warehouse.dim_customer WHERE customer_key <> -1",
            "DELETE FROM warehouse.dim_product WHERE product_key <> -1",
            "DELETE FROM warehouse.dim_date",
            "DELETE FROM platform.load_ledger",
            "DELETE FROM platform.mart_stale",
            "DELETE FROM platform.settings WHERE name LIKE 'contract:%'",
        ):
            connection.execute(statement)


# What stands


def contents(connection: psycopg.Connection[Any]) -> Warehouse:
    """The warehouse as the reference would give it, without the counts."""
    with connection.transaction():
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        return Warehouse(
            _versions(connection, "customers", "customer"),
            _versions(connection, "products", "product"),
            _facts(connection, "fact_sales"),
            _facts(connection, "fact_returns"),
            {},
        )


def _versions(connection: psycopg.Connection[Any], entity: Entity, member: str) -> list[Row]:
    columns = [f"{member}_id", *TRACKED[entity], *OVERWRITTEN[entity]]
    columns += ["effective_from", "effective_to", "is_current", "is_inferred"]
    query = sql.SQL("SELECT {} FROM {} WHERE {} <> -1").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier("warehouse", f"dim_{member}"),
        sql.Identifier(f"{member}_key"),
    )
    rows = connection.cursor(row_factory=dict_row).execute(query).fetchall()
    return sorted(rows, key=lambda row: (row[f"{member}_id"], row["effective_from"]))


def _facts(connection: psycopg.Connection[Any], table: str) -> list[Row]:
    query = sql.SQL(
        """
        SELECT
            f.order_id, f.line_number, d.full_date AS date, f.order_ts,
            c.customer_key, c.customer_id, c.effective_from AS customer_from,
            p.product_key, p.product_id, p.effective_from AS product_from,
            f.quantity, f.unit_price, f.discount_amount, f.total_amount, f.profit, f.delivered_on, f.updated_at
        FROM {} AS f
        JOIN warehouse.dim_date AS d USING (date_key)
        JOIN warehouse.dim_customer AS c USING (customer_key)
        JOIN warehouse.dim_product AS p USING (product_key)
        """
    ).format(sql.Identifier("warehouse", table))
    facts = []
    for row in connection.cursor(row_factory=dict_row).execute(query):
        fact: Row = {}
        for name, value in row.items():
            if name in ("customer_key", "product_key"):
                member = name.removesuffix("_key")
                named = row[f"{member}_id"], row[f"{member}_from"]
                fact[member] = None if value == -1 else named
            elif name not in ("customer_id", "customer_from", "product_id", "product_from"):
                fact[name] = value
        facts.append(fact)
    return sorted(facts, key=lambda fact: (fact["order_id"], fact["line_number"]))


def ledger_counts(connection: psycopg.Connection[Any]) -> dict[tuple[Entity, date], Counter[str]]:
    """The classes that the newest ledger row of each partition has, by (entity, day)."""
    entities = {asset: entity for entity, asset in ASSETS.items()}
    query = "SELECT DISTINCT ON (asset, partition_date) * FROM platform.load_ledger ORDER BY 2, 3, load_id DESC"
    query = query.replace("2, 3", "asset, partition_date")
    counts = {}
    for row in connection.cursor(row_factory=dict_row).execute(query):
        classes = {kind: row[name] for name, kind in CLASSES.items() if row[name]}
        counts[entities[row["asset"]], row["partition_date"]] = Counter(classes)
    return counts


def fingerprints(connection: psycopg.Connection[Any], tables: Iterable[str] = TABLES) -> set[tuple[Any, ...]]:
    """Where every row of the warehouse is and which transactions made and touched it: law 5 says these stay."""
    found: set[tuple[Any, ...]] = set()
    for table in tables:
        query = sql.SQL("SELECT tableoid, ctid, xmin, xmax FROM {}").format(sql.Identifier("warehouse", table))
        found |= set(connection.execute(query).fetchall())
    return found


def keys(connection: psycopg.Connection[Any]) -> dict[tuple[str, Any, date], int]:
    """The surrogate key of every version, by dimension, id and effective_from."""
    found: dict[tuple[str, Any, date], int] = {}
    for member in ("customer", "product"):
        query = sql.SQL("SELECT {}, effective_from, {} FROM {}").format(
            sql.Identifier(f"{member}_id"),
            sql.Identifier(f"{member}_key"),
            sql.Identifier("warehouse", f"dim_{member}"),
        )
        found |= {(member, row[0], row[1]): row[2] for row in connection.execute(query)}
    return found


def years(connection: psycopg.Connection[Any]) -> list[int]:
    """The years of dim_date."""
    return [row[0] for row in connection.execute("SELECT DISTINCT year FROM warehouse.dim_date ORDER BY year")]


def years_needed(start: date, deliveries: Sequence[Delivery], standing: Warehouse) -> list[int]:
    """The years that dim_date must have: from the first to the last that start, partitions or facts lie in."""
    needed: Collection[date] = [
        start,
        *(delivery.day for delivery in deliveries),
        *(fact["date"] for fact in standing.sales + standing.returns),
    ]
    return list(range(min(needed).year, max(needed).year + 1))
