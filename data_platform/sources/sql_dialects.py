"""The SQL of each database that can be a source: how it writes names and moments, and which driver reads it.

No connection here: what is written can be tested for databases that are not at hand.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
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
    without a zone, None where the database has no such type. `as_text` turns a number into text exactly, for a driver
    that cuts decimals.
    """

    name: str
    url: str
    driver: Driver
    extra: str
    usual: WindowType = "timestamp"
    quotes: tuple[str, str] = ('"', '"')
    naive: Callable[[datetime], str] = _naive
    aware: Callable[[datetime], str] | None = _aware
    as_text: str = "CAST({} AS CHAR)"

    def identifier(self, name: str) -> str:
        """A name with its schema, each part quoted: `shop.orders`."""
        return ".".join(map(self.quoted, name.split(".")))

    def quoted(self, name: str) -> str:
        """One name as it is, dots and all."""
        opening, closing = self.quotes
        return f"{opening}{name.replace(closing, closing * 2)}{closing}"

    def date(self, day: date) -> str:
        """A date as this database compares it with a column of dates."""
        return f"'{day:%Y-%m-%d}'" if self.name == "sqlite" else f"DATE '{day:%Y-%m-%d}'"

    def moment(self, moment: datetime, kind: WindowType, zone: str, place: str) -> str:
        """`moment` (aware) as this database compares it with a column of `kind`; naive ones are in `zone`."""
        if kind == "epoch":
            return f"{moment.timestamp():.6f}".rstrip("0").rstrip(".")
        if kind == "epoch_ms":
            return str(round(moment.timestamp() * 1000))
        local = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        if kind == "date":
            return self.date(local.date())
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
        as_text="CONVERT(varchar(60), {}, 2)",  # style 2: money keeps its four places
    ),
    "clickhouse": Dialect(
        "clickhouse", "clickhouse://USER:PASSWORD@HOST:9004/DATABASE", "connectorx", "clickhouse", quotes=("`", "`"),
        naive=lambda moment: f"toDateTime64('{moment:{_PLAIN}}', 6)",
        aware=lambda moment: f"toDateTime64('{moment.astimezone(UTC):{_PLAIN}}', 6, 'UTC')",
        as_text="toString({})",
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
    kind = kind or dialect.usual
    since, before = (dialect.moment(bound, kind, zone, place) for bound in (window.since, window.before))
    if query is not None:
        if kind == "date":
            since, before = map(dialect.date, _dates(window))
        return _PLACEHOLDER.sub(lambda found: since if found[1] == "since" else before, query.strip().rstrip(";"))
    assert table is not None
    select = f"SELECT * FROM {dialect.identifier(table)}"  # noqa: S608 - quoted
    if column is None:
        return select
    name = dialect.identifier(column)
    if dialect.name == "sqlite" and kind in ("text", "timestamp", "date"):
        return f"{select} WHERE {_within_texts(name, window, kind, zone)}"
    if kind == "date":
        # A date says nothing of the hour: the days that the window touches count.
        last = dialect.moment(window.before, "date", zone, place)
        ends_at_midnight = window.before.astimezone(ZoneInfo(zone)).time().isoformat() == "00:00:00"
        return f"{select} WHERE {name} >= {since} AND {name} {'<' if ends_at_midnight else '<='} {last}"
    return f"{select} WHERE {name} >= {since} AND {name} < {before}"


def _dates(window: Window) -> tuple[date, date]:
    """The business days that `window` reaches from, with its lookback, and up to, as people name them."""
    return window.since.astimezone(ZoneInfo(window.timezone)).date(), window.day + timedelta(days=1)


# What SQLite calls for a value of the window's column that is no time to it; made by the reader, and raises.
NO_TIME = "data_platform_no_time"
_DATE_GLOB = "-".join(("[0-9]" * 4, "[0-9]" * 2, "[0-9]" * 2))


def _within_texts(name: str, window: Window, kind: WindowType, zone: str) -> str:
    """The condition of SQLite, whose moments are texts of several forms, that do not sort together as texts.

    A date alone belongs to that business day; a moment that names its zone is compared in UTC, any other in `zone`. A
    text that SQLite reads no time from may belong to any day: it ends the statement, so that no row is lost unseen.
    """
    text, moment, a_date = f"rtrim({name})", f"datetime({name})", f"substr({name}, 1, 10)"
    first, after = _dates(window)
    local, utc = (
        " AND ".join(
            f"{moment} {sign} '{bound.astimezone(ZoneInfo(of)):%Y-%m-%d %H:%M:%S}'"
            for sign, bound in ((">=", window.since), ("<", window.before))
        )
        for of in (zone, "UTC")
    )
    on_days = f"{a_date} >= '{first}' AND {a_date} < '{after}'"
    cases = [f"{name} IS NULL OR {text} = '' THEN 0"]
    cases += [f"typeof({name}) <> 'text' OR {name} NOT GLOB '{_DATE_GLOB}*' THEN {NO_TIME}({name})"]
    if kind == "date":
        return f"CASE WHEN {' WHEN '.join(cases)} ELSE {on_days} END"
    cases += [f"length({text}) = 10 THEN {on_days}", f"{moment} IS NULL THEN {NO_TIME}({name})"]
    cases += [f"{text} LIKE '%Z' OR substr({text}, -6, 1) IN ('+', '-') THEN {utc}"]
    return f"CASE WHEN {' WHEN '.join(cases)} ELSE {local} END"


def is_one_select(query: str) -> bool:
    """Whether `query` is one statement that reads: it begins with SELECT or WITH, and nothing follows a semicolon."""
    bare = _TEXTS_AND_COMMENTS.sub(" ", query).strip().rstrip(";")
    return bool(re.match(r"(?i)(select|with)\b", bare)) and ";" not in bare


def asks_for_a_window(query: str) -> bool:
    """Whether `query` has the placeholders of a window."""
    return bool(_PLACEHOLDER.search(query))
