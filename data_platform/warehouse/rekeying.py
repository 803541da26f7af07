"""Facts follow their versions: when those of a member change, the facts that point elsewhere now are re-keyed."""

import polars as pl
import psycopg
from psycopg import sql

from data_platform.transforms.pointing import point
from data_platform.warehouse.copying import copy_out, stage

FACTS = ("fact_sales", "fact_returns")


def rekey(
    connection: psycopg.Connection, dimension: str, *, reach: pl.DataFrame, removed: pl.Series, shown: pl.Series
) -> tuple[int, pl.Series]:
    """Re-key the facts of changed members; returns how many moved, and the date keys whose facts show something else.

    `reach`: id and from_date, the first date that may be concerned. `removed`: keys of versions about to be deleted.
    `shown`: keys of versions whose attributes changed in place. A product's cost decides profit, which goes along.
    """
    id_column, key = _names(dimension)
    moved, dates = 0, [pl.Series("date_key", [], dtype=pl.Int32)]
    limits = reach.select(pl.col(id_column).alias("id"), from_key=date_key_of(pl.col("from_date")))
    stage(connection, "reach", limits, ["text", "integer"])
    stage(connection, "shown_versions", shown.alias("key").to_frame(), ["bigint"])
    for table in FACTS:
        facts = _facts(connection, table, dimension)
        if facts.is_empty():
            continue
        # Of the members that changed few have facts that may be concerned: only their versions are read.
        versions = _versions(connection, dimension, facts.get_column("id").unique())
        pointed = point(facts, versions.filter(~pl.col("_key").is_in(removed.implode())), key="id")
        profit = (
            pl.col("total_amount").cast(pl.Decimal(38, 4)) - pl.col("cost").cast(pl.Decimal(38, 4)) * pl.col("quantity")
            if dimension == "dim_product"
            else pl.col("profit")
        )
        changed = pointed.with_columns(_profit=profit).filter(
            (pl.col("_key") != pl.col("key")) | pl.col("_profit").ne_missing(pl.col("profit"))
        )
        moved += changed.height
        dates.append(changed.get_column("date_key"))
        dates.append(_dates_showing(connection, table, key))
        if not changed.is_empty():
            rows = changed.select("order_id", "line_number", "date_key", "_key", "_profit")
            stage(connection, "rekeyed", rows, ["text", "integer", "integer", "bigint", "numeric(38,4)"])
            connection.execute(
                sql.SQL(
                    """
                    UPDATE {table} AS f
                    SET {key} = r._key, profit = r._profit
                    FROM pg_temp.rekeyed AS r
                    WHERE f.order_id = r.order_id AND f.line_number = r.line_number AND f.date_key = r.date_key
                    """
                ).format(table=sql.Identifier("warehouse", table), key=sql.Identifier(key))
            )
    return moved, pl.concat(dates)


def _names(dimension: str) -> tuple[str, str]:
    member = dimension.removeprefix("dim_")
    return f"{member}_id", f"{member}_key"


def _versions(connection: psycopg.Connection, dimension: str, ids: pl.Series) -> pl.DataFrame:
    id_column, key = _names(dimension)
    stage(connection, "changed_members", ids.alias("id").to_frame(), ["text"])
    cost = sql.SQL("d.cost" if dimension == "dim_product" else "NULL")
    query = sql.SQL(
        """
        SELECT d.{id}, d.effective_from, d.{key}, {cost}
        FROM {table} AS d
        JOIN pg_temp.changed_members AS c ON c.id = d.{id}
        """
    ).format(
        id=sql.Identifier(id_column), key=sql.Identifier(key), cost=cost, table=sql.Identifier("warehouse", dimension)
    )
    schema = {"id": pl.String(), "effective_from": pl.Date(), "_key": pl.Int64(), "cost": pl.Decimal(18, 4)}
    return copy_out(connection, query, pl.Schema(schema))


def _facts(connection: psycopg.Connection, table: str, dimension: str) -> pl.DataFrame:
    id_column, key = _names(dimension)
    query = sql.SQL(
        """
        SELECT r.id, f.order_id, f.line_number, f.date_key, f.{key}, f.quantity, f.total_amount, f.profit
        FROM pg_temp.reach AS r
        JOIN {dimension} AS d ON d.{id} = r.id
        JOIN {table} AS f ON f.{key} = d.{key}
        WHERE f.date_key >= r.from_key
        """
    ).format(
        key=sql.Identifier(key),
        id=sql.Identifier(id_column),
        dimension=sql.Identifier("warehouse", dimension),
        table=sql.Identifier("warehouse", table),
    )
    schema = {
        "id": pl.String(),
        "order_id": pl.String(),
        "line_number": pl.Int32(),
        "date_key": pl.Int32(),
        "key": pl.Int64(),
        "quantity": pl.Int32(),
        "total_amount": pl.Decimal(18, 4),
        "profit": pl.Decimal(38, 4),
    }
    rows = copy_out(connection, query, pl.Schema(schema))
    return rows.with_columns(_order_date=date_of(pl.col("date_key")))


def _dates_showing(connection: psycopg.Connection, table: str, key: str) -> pl.Series:
    query = sql.SQL("SELECT DISTINCT f.date_key FROM {} AS f JOIN pg_temp.shown_versions AS s ON s.key = f.{}").format(
        sql.Identifier("warehouse", table), sql.Identifier(key)
    )
    return copy_out(connection, query, pl.Schema({"date_key": pl.Int32()})).to_series()


def date_of(date_key: pl.Expr) -> pl.Expr:
    """The day of a date key (yyyymmdd)."""
    return pl.date(date_key // 10000, date_key // 100 % 100, date_key % 100)


def date_key_of(day: pl.Expr) -> pl.Expr:
    """The date key (yyyymmdd) of a day."""
    return day.dt.year().cast(pl.Int32) * 10000 + day.dt.month().cast(pl.Int32) * 100 + day.dt.day().cast(pl.Int32)
