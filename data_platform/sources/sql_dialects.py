"""The SQL of each database that can be a source: how it writes names and moments, and which driver reads it.

No connection here: what is written can be tested for databases that are not at hand.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from data_platform.errors import SettingsError
from data_platform.sources.extraction import Window

WindowType = Literal["timestamptz", "timestamp", "date", "epoch", "epoch_ms", "text"]
Driver = Literal["postgres", "sqlite", "duckdb", "connectorx", "snowflake", "bigquery"]

_PLAIN = "%Y-%m-%d %H:%M:%S.%f"


def _aware(moment: datetime) -> str:
    return f"TIMESTAMP WITH TIME ZONE '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00:00'"


def _naive(moment: datetime) -> str:
    return f"TIMESTAMP '{moment:{_PLAIN}}'"


@dataclass(frozen=True)
class Dialect:
    """One kind of database. `url` is an example of its connection string, `extra` what has to be installed for it.

    `usual` is the type of a window column where sources.yaml names none; `aware` and `naive` write a moment with and
    without a zone, None where the database has no such type.
    """

    name: str
    url: str
    driver: Driver
    extra: str
    usual: WindowType = "timestamp"
    quotes: tuple[str, str] = ('"', '"')
    naive: Callable[[datetime], str] = _naive
    aware: Callable[[datetime], str] | None = _aware

    def identifier(self, name: str) -> str:
        """A name with its schema, each part quoted: `shop.orders`."""
        opening, closing = self.quotes
        parts = (part.replace(closing, closing * 2) for part in name.split("."))
        return ".".join(f"{opening}{part}{closing}" for part in parts)

    def moment(self, moment: datetime, kind: WindowType, zone: str, place: str) -> str:
        """`moment` (aware) as this database compares it with a column of `kind`; naive ones are in `zone`."""
        if kind == "epoch":
            return f"{moment.timestamp():.6f}".rstrip("0").rstrip(".")
        if kind == "epoch_ms":
            return str(round(moment.timestamp() * 1000))
        local = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        if kind == "date":
            return f"'{local:%Y-%m-%d}'" if self.name == "sqlite" else f"DATE '{local:%Y-%m-%d}'"
        if kind == "text":
            return f"'{local:%Y-%m-%d %H:%M:%S}'"
        if kind == "timestamp":
            return self.naive(local)
        if self.aware is None:
            raise SettingsError(f"{place}.window_type is timestamptz, which {self.name} has not: use timestamp.")
        return self.aware(moment)


DIALECTS: Mapping[str, Dialect] = {
    "postgresql": Dialect(
        "postgresql", "postgresql://USER:PASSWORD@HOST:5432/DATABASE", "postgres", "postgres", "timestamptz"
    ),
    "redshift": Dialect(
        "redshift", "redshift://USER:PASSWORD@CLUSTER.REGION.redshift.amazonaws.com:5439/DATABASE", "postgres",
        "postgres", "timestamp",
    ),
    "mysql": Dialect(
        "mysql", "mysql://USER:PASSWORD@HOST:3306/DATABASE", "connectorx", "mysql", quotes=("`", "`"), aware=None
    ),
    "sqlite": Dialect(
        "sqlite", "sqlite:////ABSOLUTE/PATH.db", "sqlite", "", "text", naive=lambda moment: f"'{moment:{_PLAIN}}'",
        aware=None,
    ),
    "duckdb": Dialect(
        "duckdb", "duckdb:////ABSOLUTE/PATH.duckdb", "duckdb", "duckdb",
        aware=lambda moment: f"TIMESTAMPTZ '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00:00'",
    ),
    "mssql": Dialect(
        "mssql", "mssql://USER:PASSWORD@HOST:1433/DATABASE", "connectorx", "mssql", quotes=("[", "]"),
        naive=lambda moment: f"CAST('{moment:%Y-%m-%dT%H:%M:%S.%f}' AS datetime2(6))",
        aware=lambda moment: f"CAST('{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}+00:00' AS datetimeoffset(6))",
    ),
    "clickhouse": Dialect(
        "clickhouse", "clickhouse://USER:PASSWORD@HOST:9004/DATABASE", "connectorx", "clickhouse", quotes=("`", "`"),
        naive=lambda moment: f"toDateTime64('{moment:{_PLAIN}}', 6)",
        aware=lambda moment: f"toDateTime64('{moment.astimezone(UTC):{_PLAIN}}', 6, 'UTC')",
    ),
    "snowflake": Dialect(
        "snowflake", "snowflake://USER:PASSWORD@ACCOUNT/DATABASE/SCHEMA?warehouse=WAREHOUSE", "snowflake", "snowflake",
        naive=lambda moment: f"'{moment:{_PLAIN}}'::timestamp_ntz",
        aware=lambda moment: f"'{moment.astimezone(UTC):{_PLAIN}} +0000'::timestamp_tz",
    ),
    "bigquery": Dialect(
        "bigquery", "bigquery://PROJECT/DATASET", "bigquery", "bigquery", "timestamptz", quotes=("`", "`"),
        naive=lambda moment: f"DATETIME '{moment:{_PLAIN}}'",
        aware=lambda moment: f"TIMESTAMP '{moment.astimezone(UTC):{_PLAIN}}+00:00'",
    ),
}  # fmt: skip
# Other names for the same.
_ALIASES = {"postgres": "postgresql", "mariadb": "mysql", "sqlserver": "mssql"}

_PLACEHOLDER = re.compile(r"(?<![:\w]):(since|before)\b")
_TEXTS_AND_COMMENTS = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)


def dialect_of(url: str, place: str) -> Dialect:
    """The dialect of a connection string, by its scheme; the string itself is a secret, and is not told."""
    scheme = url.partition("://")[0].partition("+")[0].casefold()
    found = DIALECTS.get(_ALIASES.get(scheme, scheme))
    if found is None or "://" not in url:
        raise SettingsError(
            f"{place}.url names a variable whose value begins with no database that is known here: use one of "
            f"{', '.join(f'{name}://' for name in DIALECTS)}."
        )
    return found


def statement(
    dialect: Dialect,
    window: Window,
    *,
    table: str | None,
    query: str | None,
    column: str | None,
    kind: WindowType | None,
    zone: str,
    place: str,
) -> str:
    """The SELECT that reads `window`: of `table` the rows whose `column` lies in it, or `query` with its bounds."""
    since, before = (
        dialect.moment(bound, kind or dialect.usual, zone, place) for bound in (window.since, window.before)
    )
    if query is not None:
        return _PLACEHOLDER.sub(lambda found: since if found[1] == "since" else before, query.strip().rstrip(";"))
    assert table is not None
    select = f"SELECT * FROM {dialect.identifier(table)}"  # noqa: S608 - quoted
    if column is None:
        return select
    name = dialect.identifier(column)
    if (kind or dialect.usual) == "date":
        # A date says nothing of the hour: the days that the window touches count.
        last = dialect.moment(window.before, "date", zone, place)
        ends_at_midnight = window.before.astimezone(ZoneInfo(zone)).time().isoformat() == "00:00:00"
        return f"{select} WHERE {name} >= {since} AND {name} {'<' if ends_at_midnight else '<='} {last}"
    return f"{select} WHERE {name} >= {since} AND {name} < {before}"


def is_one_select(query: str) -> bool:
    """Whether `query` is one statement that reads: it begins with SELECT or WITH, and nothing follows a semicolon."""
    bare = _TEXTS_AND_COMMENTS.sub(" ", query).strip().rstrip(";")
    return bool(re.match(r"(?i)(select|with)\b", bare)) and ";" not in bare


def asks_for_a_window(query: str) -> bool:
    """Whether `query` has the placeholders of a window."""
    return bool(_PLACEHOLDER.search(query))
