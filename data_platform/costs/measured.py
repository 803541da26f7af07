"""What an estimate goes by: what the steps took, and how much each table and partition takes up for its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import sql

from data_platform.contracts import MARTS, STAGED, WAREHOUSE
from data_platform.costs.spending import Step, read_spending
from data_platform.costs.unit_costs import Point, UnitCost, fit
from data_platform.lake import Lake

MEMBERS = {"customers": ("dim_customer", "customer_id"), "products": ("dim_product", "product_id")}


@dataclass(frozen=True)
class TableSize:
    """A table: its rows, its bytes with indexes and partitions, and how many of those it takes up without a row."""

    rows: int
    size: int
    empty: int

    @property
    def per_row(self) -> float:
        """Bytes that a row takes up; 0 where there is none."""
        return max(self.size - self.empty, 0) / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Measured:
    """All of it. `files`: of each asset of the lake the size of a partition by its rows. `deliveries`: rows by day.

    `extra` is what quarantine takes up for each byte of an asset's partitions. `members`: of
    customers and products how many there are. `bookkeeping`: what schema platform takes up for each staged day.
    """

    steps: Sequence[Step]
    tables: Mapping[str, TableSize]
    files: Mapping[str, UnitCost]
    extra: Mapping[str, float]
    deliveries: Mapping[str, Mapping[date, int]]
    members: Mapping[str, int]
    orders: int
    months: int
    bookkeeping: float

    @property
    def lines_per_order(self) -> float:
        """Order lines in the facts for each order; 0 where there are none."""
        return self.facts / self.orders if self.orders else 0.0

    @property
    def facts(self) -> int:
        """Rows of both fact tables."""
        return self.tables["fact_sales"].rows + self.tables["fact_returns"].rows


def measure(connection: psycopg.Connection, lake: Lake, timezone: str) -> Measured:
    """Read what was recorded, and look how large things are. Raises PlatformError where a lake file is broken."""
    steps = [step for step in read_spending(connection, timezone).steps if step.outcome == "succeeded"]
    files, extra, deliveries = {}, {}, {}
    for entity, contract in STAGED.items():
        for asset in (f"raw_{entity}", contract.table):
            stamps = {day: stamp for day, stamp in lake.stamps(asset).items() if stamp.delivered}
            sizes = lake.partition_sizes(asset)
            points: list[Point] = [
                (stamp.rows_delivered if asset.startswith("raw_") else stamp.rows_staged, sizes[day])
                for day, stamp in stamps.items()
                if day in sizes and not stamp.moved  # of what was moved a pointer is left
            ]
            files[asset] = fit(points)
            kept = sum(sizes.values())
            extra[asset] = lake.stored_bytes(asset) / kept - 1 if kept else 0.0
            if asset.startswith("raw_"):
                deliveries[entity] = {day: stamp.rows_delivered for day, stamp in stamps.items()}
    tables = {
        contract.table: _table(connection, contract.schema, contract.table)
        for contract in (*WAREHOUSE.values(), *MARTS.values())
    }
    days = max((len(by_day) for by_day in deliveries.values()), default=0)
    return Measured(
        steps, tables, files, extra, deliveries,
        members={entity: _members(connection, *names) for entity, names in MEMBERS.items()},
        orders=_number(connection, "SELECT count(DISTINCT order_id) FROM warehouse.fact_sales"),
        months=_number(connection, "SELECT count(DISTINCT month_start) FROM marts.mart_product_performance"),
        bookkeeping=_number(connection, _BOOKKEEPING) / days if days else 0.0,
    )  # fmt: skip


# Of each relation the bytes that it has with and without rows: a page for the table and for each index, TOAST's too.
_SIZES = """
    FROM pg_class AS c
    CROSS JOIN LATERAL (
        SELECT 8192 * (1 + count(*) + 2 * (c.reltoastrelid <> 0)::int) AS bytes
        FROM pg_index AS i
        WHERE i.indrelid = c.oid
    ) AS empty
"""
_BOOKKEEPING = f"""
    SELECT coalesce(sum(greatest(pg_total_relation_size(c.oid) - empty.bytes, 0)), 0)::bigint
    {_SIZES}
    WHERE c.relkind = 'r' AND c.relnamespace = 'platform'::regnamespace
"""


def _table(connection: psycopg.Connection, schema: str, table: str) -> TableSize:
    name = sql.Identifier(schema, table)
    rows = _number(connection, sql.SQL("SELECT count(*) FROM {}").format(name))
    found = connection.execute(
        sql.SQL(
            """
            SELECT sum(pg_total_relation_size(c.oid))::bigint, sum(empty.bytes)::bigint
            {sizes}
            WHERE c.oid = {name}::regclass
            OR c.oid IN (SELECT relid FROM pg_partition_tree({name}::regclass) WHERE isleaf)
            """
        ).format(sizes=sql.SQL(_SIZES), name=sql.Literal(f"{schema}.{table}"))
    ).fetchone()
    assert found is not None
    return TableSize(rows, *found)


def _members(connection: psycopg.Connection, table: str, key: str) -> int:
    query = sql.SQL("SELECT count(DISTINCT {}) FROM {} WHERE NOT is_inferred").format(
        sql.Identifier(key), sql.Identifier("warehouse", table)
    )
    return _number(connection, query)


def _number(connection: psycopg.Connection, query: str | sql.Composable) -> int:
    row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])
