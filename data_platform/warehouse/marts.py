"""Refreshing marts: for the order dates that publishing marked as stale, and no more is written than differs."""

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import polars as pl
import psycopg
from psycopg import sql

from data_platform.contracts import MARTS
from data_platform.contracts.contract import Contract
from data_platform.settings import REPOSITORY
from data_platform.warehouse.connection import connected
from data_platform.warehouse.copying import copy_out, stage

SELECTS = REPOSITORY / "sql" / "marts"
# The column whose values a stale date concerns; a mart without one is compared as a whole.
SCOPE = {"mart_daily_sales": "date_key", "mart_product_performance": "month_start"}
# What a mart's rows say of the order lines (of a customer: of the orders) that they were computed from.
BEHIND = {
    "mart_daily_sales": ("lines", "return_lines"),
    "mart_product_performance": ("orders",),
    "mart_customer_value": ("frequency",),
}
# Stale dates closer than this are read in one go.
GAP_DAYS = 31


@dataclass(frozen=True)
class Refresh:
    """New rows of a mart, for all of `scope` (values of its scope column; None: the whole table).

    `marks` are the stale marks that it works off; none: there is nothing to do.
    """

    mart: str
    rows: pl.DataFrame
    marks: list[int] = field(default_factory=list)
    scope: list[int] | list[date] | None = None


@dataclass(frozen=True)
class Refreshed:
    """Rows that a refresh wrote. `superseded`: another run had worked off its marks, so it wrote nothing."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    superseded: bool = False


def select_stale(url: str, mart: str) -> Refresh:
    """Compute the rows of `mart` that stale dates concern, in one snapshot. Writes nothing."""
    contract = MARTS[mart]
    with connected(url, application=f"data-platform {mart}") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        marks = connection.execute(
            "SELECT mark_id, date_key FROM platform.mart_stale WHERE mart = %s", [mart]
        ).fetchall()
        if not marks:
            return Refresh(mart, contract.polars_schema.to_frame())
        dates = sorted({_day(key) for _, key in marks})
        column = SCOPE.get(mart)
        ids = [mark for mark, _ in marks]
        if column is None:
            return Refresh(mart, _select(connection, contract, date.min, date.max), ids)
        if column == "month_start":
            scope = sorted({day.replace(day=1) for day in dates})
            spans = _spans([day for month in scope for day in (month, _last_day(month))])
            rows = pl.concat([_select(connection, contract, *span) for span in spans])
            return Refresh(mart, rows.filter(pl.col(column).is_in(scope)), ids, scope)
        keys = [date_key(day) for day in dates]
        rows = pl.concat([_select(connection, contract, *span) for span in _spans(dates)])
        return Refresh(mart, rows.filter(pl.col(column).is_in(keys)), ids, keys)


def rows_behind(refresh: Refresh) -> int:
    """Of how many order lines (of mart_customer_value: orders) the rows of a refresh were computed."""
    return int(sum(refresh.rows.get_column(name).sum() for name in BEHIND[refresh.mart]))


def _select(connection: psycopg.Connection, contract: Contract, first: date, last: date) -> pl.DataFrame:
    text = (SELECTS / f"{contract.table}.sql").read_text(encoding="utf8")
    bounds = {":first_date": str(date_key(first)), ":last_date": str(date_key(last))}
    for name, value in bounds.items():
        text = text.replace(name, value)
    columns = sql.SQL(", ").join(map(sql.Identifier, contract.columns))
    query = sql.SQL("SELECT {} FROM ({}) AS mart").format(columns, sql.SQL(_bare(text)))
    return copy_out(connection, query, contract.polars_schema)


def _bare(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))


def _spans(days: Sequence[date]) -> list[tuple[date, date]]:
    """The days, in order, as few spans without wide gaps."""
    spans = [(days[0], days[0])]
    for day in days[1:]:
        first, last = spans[-1]
        if day - last <= timedelta(days=GAP_DAYS):
            spans[-1] = (first, day)
        else:
            spans.append((day, day))
    return spans


def date_key(day: date) -> int:
    """The date key (yyyymmdd) of a day."""
    return day.year * 10000 + day.month * 100 + day.day


def _day(key: int) -> date:
    return date(key // 10000, key // 100 % 100, key % 100)


def _last_day(month: date) -> date:
    return month.replace(day=monthrange(month.year, month.month)[1])


def apply(url: str, refresh: Refresh) -> Refreshed:
    """Stage the rows by COPY, compare, write what differs and remove the marks, in one transaction.

    Where another run has worked off all of the marks its rows are as new, or newer, and nothing is written. Where one
    is left, no newer refresh has come before: it would have taken that mark along.
    """
    if not refresh.marks:
        return Refreshed()
    contract = MARTS[refresh.mart]
    table = sql.Identifier(contract.schema, contract.table)
    with connected(url, application=f"data-platform {refresh.mart}") as connection:
        # One refresh of a mart at a time; readers are not held up.
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table))
        gone = connection.execute("DELETE FROM platform.mart_stale WHERE mark_id = ANY(%s)", [refresh.marks]).rowcount
        if not gone:
            return Refreshed(superseded=True)
        names = list(contract.columns)
        stage(connection, "new_rows", refresh.rows.select(names), [contract.columns[name].type_name for name in names])
        values = [name for name in names if name not in contract.key]
        parts = {
            "table": table,
            "same": _all_equal(contract.key, "m", "n"),
            "differs": sql.SQL("({}) IS DISTINCT FROM ({})").format(_list(values, "m"), _list(values, "n")),
            "set": sql.SQL(", ").join(sql.SQL("{0} = n.{0}").format(sql.Identifier(name)) for name in values),
            "columns": sql.SQL(", ").join(map(sql.Identifier, names)),
            "new": _list(names, "n"),
            "scope": sql.SQL("true")
            if refresh.scope is None
            else sql.SQL("m.{} = ANY({})").format(sql.Identifier(SCOPE[refresh.mart]), sql.Literal(refresh.scope)),
        }
        deleted = connection.execute(
            sql.SQL(
                "DELETE FROM {table} AS m WHERE {scope} AND NOT EXISTS (SELECT FROM new_rows AS n WHERE {same})"
            ).format(**parts)
        ).rowcount
        updated = connection.execute(
            sql.SQL("UPDATE {table} AS m SET {set} FROM new_rows AS n WHERE {same} AND {differs}").format(**parts)
        ).rowcount
        inserted = connection.execute(
            sql.SQL(
                "INSERT INTO {table} ({columns}) SELECT {new} FROM new_rows AS n"
                " WHERE NOT EXISTS (SELECT FROM {table} AS m WHERE {same})"
            ).format(**parts)
        ).rowcount
    return Refreshed(inserted, updated, deleted)


def _list(names: Sequence[str], alias: str) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(alias, name) for name in names)


def _all_equal(names: Sequence[str], left: str, right: str) -> sql.Composable:
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(left, name), sql.Identifier(right, name)) for name in names
    )


def read_table(url: str, contract: Contract, condition: sql.Composable | None = None) -> pl.DataFrame:
    """The rows of a warehouse or mart table, all or those of `condition`."""
    with connected(url, application=f"data-platform read {contract.table}") as connection:
        query = sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(map(sql.Identifier, contract.columns)), sql.Identifier(contract.schema, contract.table)
        )
        if condition is not None:
            query += sql.SQL(" WHERE ") + condition
        return copy_out(connection, query, contract.polars_schema)
