"""Publishing the facts: both tables in one go, compared with what stands, the difference and no more applied.

While there are no facts each year is built beside the table, indexed and attached; later ones are attached empty before
the publish that fills them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl
import psycopg
from psycopg import sql

from data_platform.contracts import MARTS, WAREHOUSE
from data_platform.contracts.contract import judge
from data_platform.contracts.orders import CONTRACT as ORDERS
from data_platform.contracts.rules import Judged
from data_platform.errors import PlatformError
from data_platform.lake import Lake
from data_platform.transforms.business_day import starts_of
from data_platform.transforms.lines import columns_needed, standing_lines
from data_platform.transforms.pointing import BEFORE_ALL, point
from data_platform.warehouse import staged
from data_platform.warehouse.calendar import cover
from data_platform.warehouse.copying import copy_in, copy_out, stage
from data_platform.warehouse.dimensions import (
    DIMENSIONS,
    Dimension,
    insert_members,
    next_keys,
    remove_unnamed_inferred,
)
from data_platform.warehouse.ledger import Work, mark_stale
from data_platform.warehouse.rekeying import FACTS, date_key_of

CONTRACTS = (WAREHOUSE["fact_sales"], WAREHOUSE["fact_returns"])
COLUMNS = CONTRACTS[0].polars_schema
COMPARED = [name for name in COLUMNS if name not in ("sale_key", "created_at")]


@dataclass(frozen=True)
class Derived:
    """What staging says of some orders: their standing lines, and how the rows of changed partitions were classed."""

    orders: pl.Series | None
    lines: pl.DataFrame
    classes: pl.DataFrame
    path: str


@dataclass(frozen=True)
class Applied:
    """Rows written, the date keys whose facts changed, and per table how many written rows break each rule."""

    inserted: int
    removed: int
    replaced: int
    date_keys: pl.Series
    rules: Mapping[str, Judged]


class YearsMissing(Exception):
    """Facts would be the first of their year in their table: `years`, as (table, year), need a partition before."""

    def __init__(self, years: Collection[tuple[str, int]]) -> None:
        super().__init__(f"no partition of the facts for {sorted(years)}")
        self.years = frozenset(years)


def derive(connection: psycopg.Connection, lake: Lake, work: Work, timezone: str) -> Derived:
    """The standing lines of every order of which something changed; `orders` None means all orders."""
    fresh = _tellings(lake, work, work.changed, None)
    if not work.published and not work.everything:
        told = standing_lines(fresh)
        return Derived(None, told.lines, told.classes, "first load")
    former = staged.former_keys(lake, work)
    if work.everything or former is None:
        orders, late = None, None
    else:
        orders = pl.concat([fresh.get_column("order_id"), former]).unique()
        late = _late(work, fresh, orders)
    tellings = [fresh]
    path = "append"
    if late is None or not late.is_empty():
        path = "exact"
        tellings.append(_tellings(lake, work, work.unchanged, late))
    if orders is not None and late is not None and len(late) < len(orders):
        early = orders.filter(~orders.is_in(late.implode()))
        tellings.append(_standing_facts(connection, early, work, timezone))
    told = standing_lines(pl.concat(tellings))
    classes = told.classes.filter(pl.col("_partition").is_in(list(work.changed)))
    return Derived(orders, told.lines, classes, path)


def _late(work: Work, fresh: pl.DataFrame, orders: pl.Series) -> pl.Series:
    """The orders that the facts cannot speak for: all tellings of those are needed.

    A fact speaks for all tellings so far of its line if those to come are later than each of them. It does not say
    whether updated_at was told or taken from the day of delivery: where sources do both, its equals are uncertain.
    """
    if not work.only_appends:
        return orders
    if work.watermark is None:
        return orders.clear()
    late = pl.col("_moment") <= work.watermark
    uncertain = pl.lit(False) if _never_told(work, "updated_at") else pl.col("updated_at").is_null()
    return fresh.filter(late | uncertain).get_column("order_id").unique()


def _never_told(work: Work, column: str) -> bool:
    return all(column in stamp.unknown for stamp in work.staged.values() if stamp.rows_staged)


def _tellings(lake: Lake, work: Work, days: tuple[date, ...] | list[date], orders: pl.Series | None) -> pl.DataFrame:
    units = {day: work.staged[day].unit == "order" for day in days}
    rows = (
        staged.tellings(lake, work, days, orders)
        .select(columns_needed())
        .with_columns(_present_only=pl.lit(False))
        .collect()
        .with_columns(_unit_order=_by_day(units))
    )
    whole = [day for day, is_order in units.items() if is_order]
    present = staged.presences(lake, work, whole, ["order_id", "line_number"], orders)
    if present.is_empty():
        return rows
    blank = present.with_columns(
        is_tombstone=pl.lit(False), _present_only=pl.lit(True), _unit_order=pl.lit(True), _moment=pl.lit(None)
    )
    return pl.concat([rows, blank.select(pl.lit(None).alias(n) if n not in blank.columns else n for n in rows.columns)],
                     how="vertical_relaxed")  # fmt: skip


def _by_day(values: Mapping[date, bool]) -> pl.Expr:
    if len(set(values.values())) <= 1:
        return pl.lit(next(iter(values.values()), False))
    return pl.col("_partition").replace_strict(values, return_dtype=pl.Boolean)


def _standing_facts(connection: psycopg.Connection, orders: pl.Series, work: Work, timezone: str) -> pl.DataFrame:
    """The facts of `orders` as tellings: each stands for the last run of equal tellings of its line."""
    facts = existing(connection, orders)
    never_told = _never_told(work, "updated_at")
    start = starts_of(facts.get_column("delivered_on"), timezone)
    return facts.with_columns(
        is_tombstone=pl.lit(False),
        _moment=pl.col("updated_at"),
        _partition=pl.col("delivered_on"),
        _file=pl.lit(None, pl.String),
        _row=pl.lit(None, pl.Int64),
        _present_only=pl.lit(False),
        _unit_order=pl.lit(False),
        updated_at=pl.when(~(pl.lit(never_told) & (pl.col("updated_at") == start))).then("updated_at"),
    ).select(*columns_needed(), "_present_only", "_unit_order")


def existing(connection: psycopg.Connection, orders: pl.Series | None) -> pl.DataFrame:
    """The facts of `orders` (None: all) of both tables, with `table`, customer_id and product_id."""
    if orders is not None:
        stage(connection, "wanted_orders", orders.alias("order_id").to_frame(), ["text"])
    only = sql.SQL("" if orders is None else "JOIN pg_temp.wanted_orders USING (order_id)")
    columns = sql.SQL(", ").join(sql.Identifier("f", name) for name in COLUMNS)
    parts = [
        sql.SQL(
            "SELECT {name}, {columns}, c.customer_id, p.product_id FROM {table} AS f {only}"
            " JOIN warehouse.dim_customer AS c USING (customer_key) JOIN warehouse.dim_product AS p USING (product_key)"
        ).format(name=sql.Literal(table), columns=columns, table=sql.Identifier("warehouse", table), only=only)
        for table in FACTS
    ]
    schema = pl.Schema({"table": pl.String(), **COLUMNS, "customer_id": pl.String(), "product_id": pl.String()})
    return copy_out(connection, sql.SQL(" UNION ALL ").join(parts), schema)


def apply(connection: psycopg.Connection, derived: Derived) -> Applied:
    """Bring both fact tables to the derived lines: removes, replaces and inserts only what differs."""
    first = derived.path == "first load"
    stands = COLUMNS.to_frame().with_columns(table=pl.lit("")) if first else existing(connection, derived.orders)
    if not derived.lines.is_empty():
        first_order, last_order = derived.lines.select(
            first=pl.col("order_ts").min(), last=pl.col("order_ts").max()
        ).row(0)
        cover(connection, first_order.date(), last_order.date())
    wanted = _resolved(connection, derived.lines)
    if first:
        new, dead, replaced = wanted, stands, 0
    else:
        new, dead, replaced = _difference(wanted, stands)
    rules = {contract.table: judge(new.filter(pl.col("table") == contract.table), contract) for contract in CONTRACTS}
    _remove(connection, dead)
    _insert(connection, new)
    if not first and not new.is_empty():
        _refuse_doubles(connection, new)
    for dimension in DIMENSIONS.values():
        remove_unnamed_inferred(connection, dimension, dead.get_column(dimension.key).unique())
    date_keys = pl.concat([dead.get_column("date_key"), new.get_column("date_key")]).unique()
    mark_stale(connection, date_keys, MARTS)
    return Applied(new.height - replaced, dead.height - replaced, replaced, date_keys, rules)


def refuse_missing_years(connection: psycopg.Connection, derived: Derived) -> None:
    """Raises YearsMissing for lines of a year that readers would not be shown at once.

    Postgres lists the partitions of a table when it plans a statement, and takes the snapshot of READ COMMITTED when it
    runs it: one that is planned just before a commit does not see the years that this commit brings. Beside no other
    facts those that are not there are not missed.
    """
    attached = _partitions(connection)
    needed = derived.lines.select(_table(), pl.col("order_ts").dt.year().alias("year")).unique().rows()
    missing = [(table, year) for table, year in needed if f"{table}_{year}" not in attached]
    if attached and missing:
        raise YearsMissing(missing)


def add_years(connection: psycopg.Connection, years: Collection[tuple[str, int]]) -> None:
    """Attach an empty partition for each of `years`, as (table, year), that has none."""
    attached = _partitions(connection)
    for table, year in sorted(years):
        if f"{table}_{year}" not in attached:
            _build_beside(connection, table, year, COLUMNS.to_frame())


def _table() -> pl.Expr:
    return pl.when(pl.col("quantity") < 0).then(pl.lit("fact_returns")).otherwise(pl.lit("fact_sales")).alias("table")


def _difference(wanted: pl.DataFrame, stands: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    line = ["order_id", "line_number"]
    # Only a hand has made a line stand twice. The one with the older key is compared, the other is dead.
    twins = stands.filter(~stands.select(pl.struct(line).is_first_distinct()).to_series())
    if not twins.is_empty():
        stands = stands.sort("sale_key")
        first = stands.select(pl.struct(line).is_first_distinct()).to_series()
        stands, twins = stands.filter(first), stands.filter(~first)
    both = wanted.join(stands, on=line, how="inner", suffix="_stands")
    values = [name for name in (*COMPARED, "table") if name not in line]
    differs = both.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_stands")) for name in values))
    replaced = differs.select(
        *wanted.columns,
        pl.col("sale_key"),
        pl.col("created_at"),
    )
    inserted = wanted.join(stands, on=line, how="anti")
    dead = pl.concat(
        [stands.join(wanted, on=line, how="anti"), stands.join(differs, on=line, how="semi"), twins]
    )  # fmt: skip
    new = pl.concat([replaced, inserted], how="diagonal")
    return new, dead, replaced.height


def _resolved(connection: psycopg.Connection, lines: pl.DataFrame) -> pl.DataFrame:
    """Lines as facts: with their keys, date key, profit and the table they belong to."""
    facts = lines.with_columns(_order_date=pl.col("order_ts").dt.date())
    for dimension in DIMENSIONS.values():
        facts = point(facts, _members(connection, dimension, lines.get_column(dimension.id)), key=dimension.id)
    facts = facts.with_columns(
        date_key=date_key_of(pl.col("_order_date")),
        customer_key=pl.col("customer_key").fill_null(-1),
        product_key=pl.col("product_key").fill_null(-1),
        profit=pl.col("total_amount").cast(pl.Decimal(38, 4))
        - pl.col("cost").cast(pl.Decimal(38, 4)) * pl.col("quantity"),
        updated_at=pl.col("_moment"),
        table=_table(),
    )
    return facts.select("table", *COMPARED)


def _members(connection: psycopg.Connection, dimension: Dimension, ids: pl.Series) -> pl.DataFrame:
    """The versions of the members `ids`; those that have none get their inferred member."""
    named = ids.unique().drop_nulls()
    stage(connection, "named_members", named.alias("id").to_frame(), ["text"])
    extra = "d.cost" if dimension.key == "product_key" else "NULL::numeric"
    query = sql.SQL(
        """
        SELECT d.{id}, d.effective_from, d.{key}, {extra}
        FROM {table} AS d
        JOIN pg_temp.named_members AS n ON n.id = d.{id}
        """
    )
    cost = "cost" if dimension.key == "product_key" else "_no_cost"
    versions = copy_out(
        connection,
        query.format(
            id=sql.Identifier(dimension.id),
            key=sql.Identifier(dimension.key),
            extra=sql.SQL(extra),
            table=sql.Identifier(dimension.contract.schema, dimension.contract.table),
        ),
        pl.Schema(
            {dimension.id: pl.String(), "effective_from": pl.Date(), dimension.key: pl.Int64(), cost: pl.Decimal(18, 4)}
        ),
    )
    unknown = named.filter(~named.is_in(versions.get_column(dimension.id).implode()))
    inferred = pl.DataFrame({dimension.id: unknown}).with_columns(
        effective_from=pl.lit(BEFORE_ALL), is_current=pl.lit(True), is_inferred=pl.lit(True)
    )
    made = insert_members(connection, dimension, inferred).select(dimension.id, "effective_from", dimension.key)
    versions = pl.concat([versions, made], how="diagonal")
    return versions if cost == "cost" else versions.drop(cost)


def _remove(connection: psycopg.Connection, dead: pl.DataFrame) -> None:
    for table in FACTS:
        rows = dead.filter(pl.col("table") == table).select("order_id", "line_number", "date_key")
        if rows.is_empty():
            continue
        stage(connection, "dead_lines", rows, ["text", "integer", "integer"])
        connection.execute(
            sql.SQL(
                """
                DELETE FROM {} AS f
                USING pg_temp.dead_lines AS d
                WHERE f.order_id = d.order_id AND f.line_number = d.line_number AND f.date_key = d.date_key
                """
            ).format(sql.Identifier("warehouse", table))
        )


def _insert(connection: psycopg.Connection, new: pl.DataFrame) -> None:
    if new.is_empty():
        return
    if "sale_key" not in new.columns:
        new = new.with_columns(sale_key=pl.lit(None, pl.Int64), created_at=pl.lit(None, pl.Datetime("us", "UTC")))
    now = connection.execute("SELECT now()").fetchone()
    assert now is not None
    fresh = pl.col("sale_key").is_null()
    count = new.select(fresh.sum()).item()
    if count:
        first = next_keys(connection, "warehouse.sale_key", count)[0]
        new = new.with_columns(
            sale_key=pl.when(fresh).then(first + fresh.cum_sum() - 1).otherwise("sale_key").cast(pl.Int64),
            created_at=pl.when(fresh).then(pl.lit(now[0]).cast(pl.Datetime("us", "UTC"))).otherwise("created_at"),
        )
    attached = _partitions(connection)
    year_of = pl.col("date_key") // 10000
    # One year at a time, so that no more than one is held twice.
    for table, year in new.select("table", year_of).unique().sort(pl.all()).rows():
        name = f"{table}_{year}"
        facts = new.lazy().filter((pl.col("table") == table) & (year_of == year)).select(COLUMNS.names()).collect()
        if name in attached:
            copy_in(connection, f"warehouse.{name}", facts)
            if not attached[name]:
                # Without statistics the next publish would read the year whole to find a day's orders.
                connection.execute("SELECT warehouse.analyze_table(%s)", [name])
        else:
            _build_beside(connection, table, year, facts)


def _partitions(connection: psycopg.Connection) -> dict[str, bool]:
    """The years that are attached, as fact_sales_2024, and whether Postgres knows of rows in them."""
    rows = connection.execute(
        """
        SELECT c.relname, c.reltuples > 0
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('warehouse.fact_sales'::regclass, 'warehouse.fact_returns'::regclass)
        """
    )
    return dict(rows.fetchall())


def _build_beside(connection: psycopg.Connection, table: str, year: int, facts: pl.DataFrame) -> None:
    """A year's first load: a table alone, filled, indexed, then attached, which is cheap and locks no reader.

    The table brings no foreign keys of its own: ATTACH adds the parent's and validates them at once, without an
    exclusive lock on the dimensions. What takes the owner's rights is in functions of the warehouse (0009_access.sql).
    """
    connection.execute("SELECT warehouse.make_year(%s, %s)", [table, year])
    copy_in(connection, f"warehouse.{table}_{year}", facts)
    connection.execute("SELECT warehouse.attach_year(%s, %s)", [table, year])


def _refuse_doubles(connection: psycopg.Connection, new: pl.DataFrame) -> None:
    """A line has one row over all dates and both tables; Postgres can enforce that within a year of a table only."""
    stage(connection, "new_orders", new.select("order_id").unique(), ["text"])
    found = connection.execute(
        """
        SELECT count(*)
        FROM (
            SELECT order_id, line_number
            FROM (
                SELECT order_id, line_number FROM warehouse.fact_sales JOIN pg_temp.new_orders USING (order_id)
                UNION ALL
                SELECT order_id, line_number FROM warehouse.fact_returns JOIN pg_temp.new_orders USING (order_id)
            ) AS lines
            GROUP BY order_id, line_number
            HAVING count(*) > 1
        ) AS doubles
        """
    ).fetchone()
    assert found is not None
    if found[0]:
        raise PlatformError(
            f"{found[0]} order lines would stand twice in the facts: nothing was published; run "
            "`data-platform rebuild --verify` and report what it says."
        )


STAGED = ORDERS
