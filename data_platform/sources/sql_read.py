"""Rows of a database as Arrow tables, by the driver of its dialect, and its errors as sentences without secrets."""

import importlib
import json
import math
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from data_platform.errors import PlatformError, SettingsError, SourceUnavailable
from data_platform.sources.extraction import HIDDEN, not_installed, without_secrets
from data_platform.sources.sql_dialects import NO_TIME, Dialect

CHUNK_ROWS = 100_000  # where the driver lets us choose; ADBC goes by bytes, 16 MB
# What will be as wrong the next time: a name, a password, rights, syntax. Postgres tells by SQLSTATE, others by words.
_PERMANENT_STATES = ("28", "3D", "42", "22", "0A", "25006")  # the last: it writes
_PERMANENT_WORDS = re.compile(
    r"no such (table|column)|does not exist|doesn't exist|unknown (column|database|table)|access denied|permission "
    r"denied|password authentication failed|invalid (column|object) name|syntax error|login failed|not found in "
    r"from|binder error|catalog error|unable to open database file|parser error|is not a database|duplicate column|"
    # A connection string that cannot be read.
    r"invalid (percent-encoded token|uri|port|integer value|connection option)|unexpected character .* in uri",
    re.IGNORECASE,
)


def batches(dialect: Dialect, url: str, text: str, *, place: str, timeout: float) -> Iterator[pa.Table]:
    """The rows of the statement `text` in tables of one schema, of types that Parquet and the reader of landing files
    take; of a result without rows one table without rows.

    Raises SettingsError and SourceUnavailable.
    """
    with _explained(place, url, dialect):
        if dialect.driver == "sqlite":
            yield from _of_sqlite(_file(url, place), text, place)
            return
        for batch in _arrow(dialect, url, text, place, timeout):
            _once_each(batch.schema.names, place)
            yield _plain(batch)


def _arrow(dialect: Dialect, url: str, text: str, place: str, timeout: float) -> Iterator[pa.RecordBatch | pa.Table]:
    if dialect.driver == "connectorx":
        yield from _of_connectorx(dialect, url, text, place)
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
        reader = cursor.fetch_record_batch()
        _without_money(reader.schema, place)
        yield from _all(reader)


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


def _of_connectorx(dialect: Dialect, url: str, text: str, place: str) -> Iterator[pa.RecordBatch | pa.Table]:
    """ConnectorX cuts decimals after ten places, and panics at large ones: the database makes them text before."""
    connectorx = _needed("connectorx", dialect, place)

    def read(statement: str) -> Any:
        options = {"return_type": "arrow_stream", "batch_size": CHUNK_ROWS}
        return connectorx.read_sql(_for_connectorx(url), statement, **options)

    moments: list[str] = []
    try:
        if dialect.name != "mssql" or not _NOT_WITHIN.search(text):  # which takes neither within another SELECT
            top, limit = ("TOP 0 ", "") if dialect.name == "mssql" else ("", " LIMIT 0")
            schema = read(f"SELECT {top}* FROM (\n{text}\n) q{limit}").schema  # noqa: S608 - the operator's own
            moments = [field.name for field in schema if pa.types.is_date(field.type) or _is_timestamp(field.type)]
            if any(_is_cut(field.type, dialect) for field in schema):
                columns = ", ".join(_exactly(field, dialect) for field in schema)
                text = f"SELECT {columns} FROM (\n{text}\n) q"  # noqa: S608 - names are quoted
        reader = read(text)
        for field in reader.schema:
            if pa.types.is_decimal(field.type):
                raise SettingsError(
                    f"{place} has decimals in the column {field.name!r}, which the driver of {dialect.name} cuts after "
                    f"ten places: make them text in the query, by {dialect.as_text.format(field.name)}."
                )
        yield from reader
    except BaseException as error:
        # A panic of Rust is no Exception. What it says may quote a value, and is not told.
        if type(error).__name__ != "PanicException" or not _UNREADABLE.search(str(error)):
            raise
        where = f" (look at {', '.join(moments)})" if moments else ""
        raise SettingsError(
            f"{place} has a value that the driver of {dialect.name} cannot read, such as the date 0000-00-00 or a bare "
            f"NULL{where}: write a `query` that leaves the column out, or makes it text, by "
            f"{dialect.as_text.format('…')}."
        ) from None


_NOT_WITHIN = re.compile(r"(?i)^\s*with\b|\border\s+by\b")
_UNREADABLE = re.compile(r"Couldn't convert|decimal scale|not implemented")
_is_timestamp = pa.types.is_timestamp


def _is_cut(kind: pa.DataType, dialect: Dialect) -> bool:
    # A TIME of MySQL is a span, of up to 838 hours and also below zero, which no time of a day can hold.
    return pa.types.is_decimal(kind) or (dialect.name == "mysql" and pa.types.is_time(kind))


def _exactly(field: pa.Field, dialect: Dialect) -> str:
    name = dialect.quoted(field.name)
    return f"{dialect.as_text.format(name)} AS {name}" if _is_cut(field.type, dialect) else name


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


def _once_each(names: Sequence[str], place: str) -> None:
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise SettingsError(
            f"{place} gives more than one column of the name {twice[0]!r}: name each differently in the query (… AS …)."
        )


def _without_money(schema: pa.Schema, place: str) -> None:
    """The driver gives money as a count of its smallest unit, and nobody is told how many of them are one."""
    for field in schema:
        told = (field.metadata or {}).get(b"POSTGRESQL:type")
        if told is None and pa.types.is_int64(getattr(field.type, "value_type", field.type)):
            raise SettingsError(
                f"{place} needs a newer driver of Postgres, which tells money from numbers (of {field.name!r}): call "
                ".venv/bin/pip install -U 'adbc-driver-postgresql>=1.13' in the clone."
            )
        if told in (b"money", b"_money"):
            raise SettingsError(
                f"{place} has the column {field.name!r} of the type money, whose unit is not told: write a `query` "
                f"that has it as {field.name}::numeric, or leaves it out."
            )


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
    if pa.types.is_nested(kind):
        write = _json_of(kind)
        return pa.array([None if value is None else write(value) for value in values.to_pylist()], pa.string())
    if pa.types.is_interval(kind) or pa.types.is_duration(kind) or pa.types.is_null(kind):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    return values


_JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def _json_of(kind: pa.DataType) -> Callable[[Any], str]:
    """What writes a value of `kind`, as Python has it, as JSON: decimals as numbers with the places that they have."""
    if isinstance(kind, pa.BaseExtensionType):
        if getattr(kind, "type_name", "") == "numeric":
            return lambda value: value if _JSON_NUMBER.fullmatch(value) else _json(value)
        return str if kind.extension_name == "arrow.json" else _json
    if pa.types.is_struct(kind):
        fields = [(field.name, _or_null(_json_of(field.type))) for field in kind]
        return lambda value: "{" + ", ".join(f"{_json(name)}: {write(value[name])}" for name, write in fields) + "}"
    if pa.types.is_map(kind):
        of_key, of_item = _json_of(kind.key_type), _or_null(_json_of(kind.item_type))
        if pa.types.is_string(kind.key_type):
            return lambda value: "{" + ", ".join(f"{of_key(key)}: {of_item(item)}" for key, item in value) + "}"
        return lambda value: "[" + ", ".join(f"[{of_key(key)}, {of_item(item)}]" for key, item in value) + "]"
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        of_each = _or_null(_json_of(kind.value_type))
        return lambda value: "[" + ", ".join(map(of_each, value)) + "]"
    if pa.types.is_decimal(kind):
        return lambda value: format(value, "f")
    return _json


def _or_null(write: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "null" if value is None else write(value)


def _json(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    elif isinstance(value, float) and not math.isfinite(value):
        value = str(value)  # JSON has no such numbers
    return json.dumps(value, ensure_ascii=False, default=str)


# SQLite


def _file(url: str, place: str) -> str:
    path = unquote(url.partition("://")[2].partition("?")[0]).removeprefix("/")
    if not path.startswith("/"):
        raise SettingsError(
            f"{place}.url names a file by a path from nowhere: write four slashes, {url.partition(':')[0]}:////PATH."
        )
    return path


def _of_sqlite(path: str, text: str, place: str) -> Iterator[pa.Table]:
    """SQLite has a type a value, not a column: what is told is text, numbers as SQLite writes them."""
    strange: list[bool] = []

    def no_time(_value: object) -> None:
        strange.append(True)
        raise ValueError

    with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
        connection.create_function(NO_TIME, 1, no_time)
        try:
            yield from _rows_of_sqlite(connection, text, place)
        except sqlite3.OperationalError:
            if not strange:
                raise
            # What SQLite says is only that a function of ours raised.
            raise SettingsError(
                f"{place}.window names a column with values that SQLite reads no time from: it knows 2024-01-05 and "
                "2024-01-05 10:00:00, with T for the blank, and Z or +01:00 after it. Name the window_type (epoch, "
                "epoch_ms), or write a `query` that compares them."
            ) from None


def _rows_of_sqlite(connection: sqlite3.Connection, text: str, place: str) -> Iterator[pa.Table]:
    with closing(connection.execute(text)) as cursor:
        names = [column[0] for column in cursor.description]
        _once_each(names, place)
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
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    hidden = _secret_pieces(url)
    text = without_secrets(text, (piece for piece in hidden if len(piece) >= _SHORT))
    for piece in hidden:
        # A short one stands in many words by chance: it is hidden where it stands alone.
        text = re.sub(rf"(?<!\w){re.escape(piece)}(?!\w)", HIDDEN, text)
    # Postgres quotes values only after these words.
    return re.split(r"(?i)\bDETAIL:|invalid input syntax", text)[0][:200]


_SHORT = 4
_SECRET_PARAMETER = re.compile(r"(?i)[?&;][^=&;]*(?:pass|pwd|secret|token|key)[^=&;]*=([^&;]+)")


def _secret_pieces(url: str) -> list[str]:
    """All of a connection string that may be its password, or a part of it, the longest first.

    A password with @ : / ? # in it, not written as %40, is read in pieces, of which a driver may take one for the host
    or the port and quote it. So every piece from the first colon to the last @ is one, at the price of hiding too much.
    """
    rest = url.partition("://")[2]
    password = rest.rpartition("@")[0].partition(":")[2]
    whole = [url, password, *_SECRET_PARAMETER.findall(rest)]
    found = {form for text in whole for form in (text, unquote(text))}
    found |= {piece for text in (password, unquote(password)) for piece in re.split(r"[@:/?#\[\]&=]", text)}
    return sorted((piece for piece in found if piece), key=len, reverse=True)
