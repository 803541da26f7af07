"""Frames to and from Postgres by COPY: the fastest way there is, and exact in both directions."""

from collections.abc import Sequence
from io import BytesIO

import polars as pl
import psycopg
from psycopg import sql

from data_platform.costs import metering

SLICE = 100_000
# Postgres up to 17 takes \\. on a line of its own for the end of the data, also within quotes; and a writer may leave a
# carriage return unquoted. Rows with either go by psycopg's own, slower encoder.
ODD = r"\\\.|\r"


def table(name: str) -> sql.Identifier:
    """`schema.table`, or a temporary table's name, as an identifier."""
    return sql.Identifier(*name.split("."))


def copy_in(connection: psycopg.Connection, name: str, frame: pl.DataFrame) -> None:
    """Append `frame` to the table `name`, column by name. Nulls are nulls; texts keep every character."""
    if frame.is_empty():
        return
    into = sql.SQL("COPY {} ({}) FROM STDIN").format(
        table(name), sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    )
    texts = [pl.col(column).str.contains(ODD) for column, dtype in frame.schema.items() if dtype == pl.String]
    odd = frame.select(pl.any_horizontal(texts).fill_null(False)).to_series() if texts else None
    if odd is not None and odd.any():
        with connection.cursor().copy(into) as copy:
            for row in frame.filter(odd).iter_rows():
                copy.write_row(row)
        frame = frame.filter(~odd)
    with connection.cursor().copy(into + sql.SQL(" (FORMAT csv)")) as copy:
        for rows in frame.iter_slices(SLICE):
            text = rows.write_csv(include_header=False).encode()
            metering.count_written(len(text))
            copy.write(text)


def stage(connection: psycopg.Connection, name: str, frame: pl.DataFrame, types: Sequence[str]) -> None:
    """`frame` as the temporary table pg_temp.`name` (dropped at commit), of the Postgres `types`, analysed.

    Name it with its schema: a search_path may put tables of the same name before it.
    """
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind))
        for column, kind in zip(frame.columns, types, strict=True)
    )
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("pg_temp", name)))
    connection.execute(sql.SQL("CREATE TEMP TABLE {} ({}) ON COMMIT DROP").format(sql.Identifier(name), columns))
    copy_in(connection, f"pg_temp.{name}", frame)
    connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier("pg_temp", name)))


def copy_out(connection: psycopg.Connection, query: sql.Composable, schema: pl.Schema) -> pl.DataFrame:
    """The rows of `query` as a frame of `schema`, its columns in the query's order.

    Time stamps must come out of the query in UTC: the session's time zone is set for it.
    """
    connection.execute("SET LOCAL TimeZone = 'UTC'")
    connection.execute("SET LOCAL DateStyle = 'ISO'")
    buffer = BytesIO()
    with connection.cursor().copy(sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query)) as copy:
        for block in copy:
            buffer.write(block)
    if not buffer.tell():
        return schema.to_frame()
    metering.count_read(buffer.tell())
    buffer.seek(0)
    texts = pl.read_csv(
        buffer,
        has_header=False,
        new_columns=list(schema),
        schema=dict.fromkeys(schema, pl.String),
    )
    return texts.select(_cast(pl.col(name), dtype) for name, dtype in schema.items())


def _cast(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone:
            return text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", time_unit="us", time_zone="UTC")
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us")
    if dtype == pl.Date:
        return text.str.to_date("%Y-%m-%d")
    if dtype == pl.Boolean:
        return text == "t"
    if isinstance(dtype, pl.Decimal):
        return text.str.to_decimal(scale=dtype.scale).cast(dtype)
    return text.cast(dtype)
