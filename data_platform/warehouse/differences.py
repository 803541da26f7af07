"""What a transaction that is not committed yet changes in the tables of the star, row by row, for people to look at.

Postgres tells by itself: a row that the transaction made bears its number as xmin, and a row that it ended still stands
for everybody else, with its number as xmax. So nothing has to be kept beside the tables to compare them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl
import psycopg
from psycopg import sql

from data_platform.contracts.contract import Contract
from data_platform.warehouse.copying import copy_out

EXAMPLES = 10
# Members are known to people by these; all else has its key.
SHOWN = {
    "dim_customer": ("customer_id", "effective_from"),
    "dim_product": ("product_id", "effective_from"),
    "dim_date": ("full_date",),
}


@dataclass(frozen=True)
class Example:
    """One row that changes: its natural key, and of an update the columns that differ. No values but the key's."""

    change: str
    key: Mapping[str, object]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableDifference:
    """Rows of a table that the transaction inserts, updates and deletes, with a few of each as examples."""

    table: str
    inserted: int
    updated: int
    deleted: int
    examples: tuple[Example, ...] = ()


def pending(
    connection: psycopg.Connection, apart: psycopg.Connection, contracts: Iterable[Contract]
) -> list[TableDifference]:
    """What `connection` has changed in these tables and not committed; `apart` sees them as they were.

    Rows are the same row if they have the contract's key; one that was written again as it was is no difference.
    """
    row = connection.execute("SELECT pg_current_xact_id_if_assigned()::xid::text").fetchone()
    number = row[0] if row else None
    return [
        TableDifference(contract.table, 0, 0, 0) if number is None else _pending(connection, apart, contract, number)
        for contract in contracts
    ]


def _pending(
    connection: psycopg.Connection, apart: psycopg.Connection, contract: Contract, number: str
) -> TableDifference:
    places = ["_table", "_place"]
    ended = _rows(apart, contract, "xmax", number)
    # A row that was locked for a fact that points at it bears the number as well, and stands.
    locked = _rows(connection, contract, "xmax", number).select(places)
    key = [*contract.key, "_nth"]
    before = _numbered(ended.join(locked, on=places, how="anti"), contract).drop(places)
    after = _numbered(_rows(connection, contract, "xmin", number), contract).drop(places)
    values = [name for name in contract.columns if name not in contract.key]
    both = after.join(before, on=key, how="inner", suffix="_before")
    differ = [pl.col(name).ne_missing(pl.col(f"{name}_before")).alias(name) for name in values]
    updated = both.filter(pl.any_horizontal(differ))
    inserted, deleted = after.join(before, on=key, how="anti"), before.join(after, on=key, how="anti")
    changed_columns = [
        tuple(name for name, differs in row.items() if differs)
        for row in _first(updated, contract).select(differ).iter_rows(named=True)
    ]
    return TableDifference(
        contract.table,
        inserted.height,
        updated.height,
        deleted.height,
        (
            *(Example("inserted", shown) for shown in _keys(inserted, contract)),
            *(
                Example("updated", shown, columns)
                for shown, columns in zip(_keys(updated, contract), changed_columns, strict=True)
            ),
            *(Example("deleted", shown) for shown in _keys(deleted, contract)),
        ),
    )


def _rows(connection: psycopg.Connection, contract: Contract, mark: str, number: str) -> pl.DataFrame:
    query = sql.SQL(
        "SELECT t.tableoid::text, t.ctid::text, {columns} FROM {table} AS t WHERE t.{mark} = {number}::xid"
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier("t", name) for name in contract.columns),
        table=sql.Identifier(contract.schema, contract.table),
        mark=sql.Identifier(mark),
        number=sql.Literal(number),
    )
    schema = pl.Schema({"_table": pl.String(), "_place": pl.String(), **contract.polars_schema})
    return copy_out(connection, query, schema)


def _numbered(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """A key that hands have made stand twice is told apart by a number."""
    ordered = rows.sort("_table", "_place")
    return ordered.with_columns(_nth=pl.int_range(pl.len()).over(contract.key))


def _first(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    return rows.sort(*_shown(contract), "_nth").head(EXAMPLES)


def _keys(rows: pl.DataFrame, contract: Contract) -> list[dict[str, object]]:
    return _first(rows, contract).select(_shown(contract)).to_dicts()


def _shown(contract: Contract) -> list[str]:
    names = SHOWN.get(contract.table, contract.key)
    return [name for name in names if name not in contract.pii_columns]
