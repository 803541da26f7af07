"""Rows of a database as Arrow tables, by the driver of its dialect, and its errors as sentences without secrets."""

import importlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from data_platform.errors import PlatformError, SettingsError, SourceUnavailable
from data_platform.sources.extraction import not_installed, without_secrets
from data_platform.sources.sql_dialects import Dialect

CHUNK_ROWS = 100_000  # where the driver lets us choose; ADBC goes by bytes, 16 MB
# What will be as wrong the next time: a name, a password, rights, syntax. Postgres tells by SQLSTATE, others by words.
_PERMANENT_STATES = ("28", "3D", "42", "22", "0A")
_PERMANENT_WORDS = re.compile(
    r"no such (table|column)|does not exist|doesn't exist|unknown (column|database|table)|access denied|permission "
    r"denied|password authentication failed|invalid (column|object) name|syntax error|login failed|not found in "
    r"from|binder error|catalog error|unable to open database file|parser error",
    re.IGNORECASE,
)


def batches(dialect: Dialect, url: str, text: str, *, place: str, timeout: float) -> Iterator[pa.Table]:
    """The rows of the statement `text` in tables of one schema, of types that Parquet and the reader of landing files
    take; of a result without rows one table without rows.

    Raises SettingsError and SourceUnavailable.
    """
    with _explained(place, url, dialect):
        if dialect.driver == "sqlite":
            yield from _of_sqlite(_file(url, place), text)
            return
        for batch in _arrow(dialect, url, text, place, timeout):
            yield _plain(batch)


def _arrow(dialect: Dialect, url: str, text: str, place: str, timeout: float) -> Iterator[pa.RecordBatch | pa.Table]:
    if dialect.driver == "connectorx":
        connectorx = _needed("connectorx", dialect, place)
        options = {"return_type": "arrow_stream", "batch_size": CHUNK_ROWS}
        yield from connectorx.read_sql(_for_connectorx(url), text, **options)
        return
    if dialect.driver == "duckdb":
        duckdb = _needed("duckdb", dialect, place)
        with closing(duckdb.connect(_file(url, place), read_only=True)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield from _all(connection.sql(text).to_arrow_reader(CHUNK_ROWS))
        return
    driver = _needed(f"adbc_driver_{_ADBC[dialect.driver]}.dbapi", dialect, place)
    with closing(_connect(driver, dialect, url)) as connection, closing(connection.cursor()) as cursor:
        if dialect.driver == "postgres":
            if dialect.name == "postgresql":
                cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(f"SET statement_timeout = {round(timeout * 1000)}")
        cursor.execute(text)
        yield from _all(cursor.fetch_record_batch())


_ADBC = {"postgres": "postgresql", "snowflake": "snowflake", "bigquery": "bigquery"}


def _connect(driver: Any, dialect: Dialect, url: str) -> Any:
    rest = url.partition("://")[2]
    if dialect.driver == "postgres":
        return driver.connect(f"postgresql://{rest}")
    if dialect.driver == "snowflake":
        return driver.connect(rest)
    project, _, dataset = rest.partition("/")
    options = {"adbc.bigquery.sql.project_id": project, "adbc.bigquery.sql.dataset_id": dataset}
    return driver.connect(db_kwargs={name: value for name, value in options.items() if value})


def _for_connectorx(url: str) -> str:
    scheme, _, rest = url.partition("://")
    known = {"mariadb": "mysql", "clickhouse": "mysql", "sqlserver": "mssql"}.get(scheme.partition("+")[0])
    return f"{known or scheme.partition('+')[0]}://{rest}"


def _all(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch | pa.Table]:
    empty = True
    for batch in reader:
        empty = False
        yield batch
    if empty:
        yield reader.schema.empty_table()


def _needed(module: str, dialect: Dialect, place: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise not_installed(place, dialect.extra) from None


# Types


def _plain(batch: pa.RecordBatch | pa.Table) -> pa.Table:
    columns = [_plain_column(batch.column(number)) for number in range(batch.num_columns)]
    return pa.table(columns, names=batch.schema.names)


def _plain_column(values: Any) -> Any:
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        if pa.types.is_fixed_size_binary(kind.storage_type):  # a UUID
            return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
        if isinstance(values, pa.ChunkedArray):
            return _plain_column(pa.chunked_array([chunk.storage for chunk in values.chunks], kind.storage_type))
        return _plain_column(values.storage)
    if pa.types.is_decimal256(kind) or pa.types.is_dictionary(kind):
        return pc.cast(values, pa.string())
    if pa.types.is_nested(kind) or pa.types.is_interval(kind) or pa.types.is_duration(kind) or pa.types.is_null(kind):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    return values


# SQLite


def _file(url: str, place: str) -> str:
    path = unquote(url.partition("://")[2].partition("?")[0]).removeprefix("/")
    if not path.startswith("/"):
        raise SettingsError(
            f"{place}.url names a file by a path from nowhere: write four slashes, {url.partition(':')[0]}:////PATH."
        )
    return path


def _of_sqlite(path: str, text: str) -> Iterator[pa.Table]:
    """SQLite has a type a value, not a column: what is told is text, numbers as SQLite writes them."""
    with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
        cursor = connection.execute(text)
        names = [column[0] for column in cursor.description]
        schema = pa.schema([(name, pa.string()) for name in names])
        empty = True
        while rows := cursor.fetchmany(CHUNK_ROWS):
            empty = False
            columns = [pa.array(map(_text, values), pa.string()) for values in zip(*rows, strict=True)]
            yield pa.table(columns, schema=schema)
        if empty:
            yield schema.empty_table()


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)


# Errors


@contextmanager
def _explained(place: str, url: str, dialect: Dialect) -> Iterator[None]:
    try:
        yield
    except PlatformError:
        raise
    except (Exception, pa.lib.ArrowException) as error:
        said = _said(error, url)
        state = str(getattr(error, "sqlstate", "") or "")
        if state.startswith(_PERMANENT_STATES) or (not state and _PERMANENT_WORDS.search(said)):
            raise SettingsError(
                f"{place} cannot be read: {dialect.name} says «{said}». Correct sources.yaml, the connection string or "
                "the rights of its user."
            ) from None
        if state == "57014" or "timeout" in said.casefold():
            raise SourceUnavailable(
                f"{place} took longer than its `timeout` allows, or was cancelled ({dialect.name} says «{said}»): "
                "narrow the window, give the window's column an index, or raise `timeout`."
            ) from None
        raise SourceUnavailable(
            f"{place} could not be read to the end: {dialect.name} says «{said}». Nothing of it was taken; it is "
            "tried again."
        ) from None


def _said(error: BaseException, url: str) -> str:
    """What the database says, in its first line: without the connection string, its password, and values of rows."""
    parts = urlsplit(url)
    hidden = [url, *(part for part in (parts.password, parts.netloc) if part)]
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = without_secrets(lines[0] if lines else type(error).__name__, hidden)
    # Postgres quotes values only after these words.
    return re.split(r"(?i)\bDETAIL:|invalid input syntax", text)[0][:200]
