"""SQL databases as sources: what is asked of each, and what real ones give: Postgres, SQLite, DuckDB, MariaDB."""

import logging
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import duckdb
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_platform.errors import SettingsError, SourceUnavailable
from data_platform.sources.config import Source
from data_platform.sources.extraction import Extracted, Window, window_of
from data_platform.sources.landing import find_deliveries, read_delivery
from data_platform.sources.sql import SqlSource, extract
from data_platform.sources.sql_dialects import DIALECTS, dialect_of, is_one_select, statement
from data_platform.sources.sql_read import _without_money
from data_platform_tests.shop import failures, open_shop
from data_platform_tests.sources import databases

DAY = date(2024, 1, 5)
PLACE = "products.sql"
WINDOW = window_of(DAY, "Europe/Berlin")


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "landing" / "products" / DAY.isoformat()
    folder.mkdir(parents=True)
    return folder


Ask = Callable[..., Extracted]


@pytest.fixture
def ask(into: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Extracts from the database at a URL."""

    def asked(url: str, span: Window = WINDOW, **more: Any) -> Extracted:
        monkeypatch.setenv("SHOP_DATABASE", url)
        config = SqlSource.model_validate({"url": "SHOP_DATABASE", **more})
        return extract(config, span, into, columns=["product_id", "price"], place=PLACE)

    return asked


def rows(into: Path) -> pl.DataFrame:
    """What the raw asset reads of it."""
    delivery = find_deliveries(str(into.parent.parent), "products", [DAY])[DAY]
    assert not isinstance(delivery, Exception)
    return read_delivery(delivery, Source(entity="products")).drop("_file", "_row")


# What is asked, also of databases that are not here


BOUNDS = {
    "postgresql": """"changed" >= TIMESTAMP WITH TIME ZONE '2024-01-04 23:00:00.000000+00:00'""",
    "redshift": """"changed" >= TIMESTAMP '2024-01-04 23:00:00.000000'""",
    "mysql": "`changed` >= TIMESTAMP '2024-01-04 23:00:00.000000'",
    "sqlite": """CASE WHEN "changed" IS NULL OR rtrim("changed") = '' THEN 0""",
    "duckdb": """"changed" >= TIMESTAMP '2024-01-04 23:00:00.000000'""",
    "mssql": "[changed] >= CAST('2024-01-04T23:00:00.000000' AS datetime2(6))",
    "clickhouse": "`changed` >= toDateTime64('2024-01-04 23:00:00.000000', 6)",
    "snowflake": """"changed" >= '2024-01-04 23:00:00.000000'::timestamp_ntz""",
    "bigquery": "`changed` >= TIMESTAMP '2024-01-04 23:00:00.000000+00:00'",
}


def asked_of(name: str, **more: Any) -> str:
    wanted = {"table": "shop.products", "query": None, "column": "changed", "kind": None, "zone": "UTC", **more}
    return statement(DIALECTS[name], WINDOW, place=PLACE, **wanted)


@pytest.mark.parametrize("name", DIALECTS)
def test_each_database_is_asked_in_its_own_words(name: str) -> None:
    opening, closing = DIALECTS[name].quotes
    text = asked_of(name)
    assert text.startswith(f"SELECT * FROM {opening}shop{closing}.{opening}products{closing} WHERE {BOUNDS[name]} ")
    if name != "sqlite":
        assert text.count("2024-01-05") == 1
    assert asked_of(name, column=None) == f"SELECT * FROM {opening}shop{closing}.{opening}products{closing}"
    assert dialect_of(DIALECTS[name].url, PLACE) is DIALECTS[name]


@pytest.mark.parametrize("name", DIALECTS)
def test_a_name_with_quotes_stays_a_name(name: str) -> None:
    opening, closing = DIALECTS[name].quotes
    odd = f'a{closing}; DROP TABLE "x"'
    assert DIALECTS[name].identifier(odd) == f"{opening}{odd.replace(closing, closing * 2)}{closing}"


@pytest.mark.parametrize(
    ("kind", "zone", "since"),
    [
        ("epoch", "UTC", "1704409200"),
        ("epoch_ms", "UTC", "1704409200000"),
        ("date", "Europe/Berlin", "DATE '2024-01-05'"),
        ("timestamp", "Europe/Berlin", "TIMESTAMP '2024-01-05 00:00:00.000000'"),
        ("timestamp", "UTC", "TIMESTAMP '2024-01-04 23:00:00.000000'"),
    ],
)
def test_the_bounds_are_written_as_the_column_tells_time(kind: str, zone: str, since: str) -> None:
    assert f'"changed" >= {since} AND' in asked_of("postgresql", kind=kind, zone=zone)


def test_of_a_column_of_dates_the_days_that_the_window_touches_are_read() -> None:
    assert asked_of("postgresql", kind="date", zone="Europe/Berlin").endswith("AND \"changed\" < DATE '2024-01-06'")
    assert asked_of("postgresql", kind="date", zone="UTC").endswith("AND \"changed\" <= DATE '2024-01-05'")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("column_zone", ["UTC", "Europe/Berlin"])
def test_the_dates_of_a_query_are_those_of_the_business_day(zone: str, column_zone: str) -> None:
    def asked(lookback: timedelta) -> str:
        return statement(
            DIALECTS["postgresql"], window_of(DAY, zone, lookback), table=None, query="SELECT :since, :before",
            column=None, kind="date", zone=column_zone, place=PLACE,
        )  # fmt: skip

    assert asked(timedelta()) == "SELECT DATE '2024-01-05', DATE '2024-01-06'"
    assert asked(timedelta(hours=1)) == "SELECT DATE '2024-01-04', DATE '2024-01-06'"


def test_a_query_has_its_bounds_put_in() -> None:
    query = "SELECT a::text, ':since' FROM t WHERE c >= :since AND c < :before;"
    text = asked_of("duckdb", table=None, query=query, kind="epoch")
    assert text == "SELECT a::text, '1704409200' FROM t WHERE c >= 1704409200 AND c < 1704495600"


@pytest.mark.parametrize(
    ("query", "one"),
    [
        ("SELECT 1", True),
        ("  with x as (select 1) select * from x;", True),
        ("SELECT ';' -- ; a comment\n", True),
        ("SELECT 1; DROP TABLE t", False),
        ("DELETE FROM t", False),
        ("/* SELECT */ UPDATE t SET a = 1", False),
    ],
)
def test_a_query_is_one_select(query: str, one: bool) -> None:
    assert is_one_select(query) is one


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"table": "t", "query": "SELECT 1"}, "a `table` or a `query`, and not both"),
        ({}, "a `table` or a `query`, and not both"),
        ({"query": "SELECT 1; SELECT 2"}, "it must be one SELECT"),
        ({"query": "SELECT 1", "window": "c"}, "`window` goes with `table`"),
        ({"url": "postgresql://u:geheim@h/d", "table": "t"}, "the name of an environment variable"),
        ({"table": "t", "lookback": "15 minutes"}, "no span of time: write a number and s, m, h or d"),
        ({"table": "t", "window": "c", "window_timezone": "Europe/Berln"}, "'Europe/Berln' is no time zone"),
        ({"table": "t", "window": "c", "window_timezone": "../UTC"}, "'../UTC' is no time zone"),
        ({"table": "t", "window": "c", "window_timezone": "Europe"}, "'Europe' is no time zone"),
        ({"table": "t", "window_type": "date"}, "`window_type` says nothing without a window"),
        ({"table": "t", "lookback": "1h"}, "`lookback` says nothing without a window"),
        ({"query": "SELECT 1", "window_timezone": "UTC"}, "`window_timezone` says nothing without a window"),
    ],
)
def test_what_cannot_be_meant_is_refused(declared: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SqlSource.model_validate({"url": "SHOP", **declared})


def test_a_source_is_windowed_where_it_can_be_asked_for_a_past_day() -> None:
    found = [
        SqlSource(url="U", **more).is_windowed
        for more in (
            {"table": "t", "window": "c"}, {"query": "SELECT 1 WHERE a > :since"}, {"table": "t"}, {"query": "SELECT 1"}
        )
    ]  # fmt: skip
    assert found == [True, True, False, False]


# Postgres


@pytest.fixture
def shop(warehouse_url: str) -> Iterator[tuple[str, psycopg.Connection]]:
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
        connection.execute(
            'CREATE TABLE shop.products (product_id text, price numeric(18,4), "as Of" date, seen timestamp, '
            "code uuid, tags text[], info jsonb, gone boolean, changed timestamptz)"
        )
        yield warehouse_url, connection


def put(connection: psycopg.Connection, name: str, changed: str, price: str | None = "1.50") -> None:
    connection.execute(
        "INSERT INTO shop.products (product_id, price, changed) VALUES (%s, %s, %s)", [name, price, changed]
    )


def test_postgres_gives_the_rows_of_the_window_exactly(
    shop: tuple[str, psycopg.Connection], ask: Ask, into: Path
) -> None:
    url, connection = shop
    connection.execute(
        "INSERT INTO shop.products VALUES ('p1', 12345678901234.5678, '2024-01-05', '2024-01-05 01:02:03.123456', "
        "'66e52125-591c-40ac-823f-475e3fc6da07', '{a,b}', '{\"a\": 1}', true, '2024-01-05 00:00+01'), "
        "('p2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2024-01-05 23:59:59.999999+01'), "
        "('before', 1, NULL, NULL, NULL, NULL, NULL, NULL, '2024-01-04 23:59:59.999999+01'), "
        "('after', 1, NULL, NULL, NULL, NULL, NULL, NULL, '2024-01-06 00:00+01')"
    )
    assert ask(url, table="shop.products", window="changed") == Extracted(None, {"rows": 2})
    found = rows(into)
    assert found.row(0) == (
        "p1", "12345678901234.5678", date(2024, 1, 5), datetime(2024, 1, 5, 1, 2, 3, 123456),
        "66e52125-591c-40ac-823f-475e3fc6da07", '["a", "b"]', '{"a": 1}', True, datetime(2024, 1, 4, 23, tzinfo=UTC),
    )  # fmt: skip
    assert found.row(1)[:8] == ("p2", None, None, None, None, None, None, None)


def test_a_window_without_rows_is_an_empty_delivery_and_no_absent_one(
    shop: tuple[str, psycopg.Connection], ask: Ask, into: Path
) -> None:
    assert ask(shop[0], table="shop.products", window="changed") == Extracted(None, {"rows": 0})
    found = rows(into)
    assert (found.height, "product_id" in found.columns) == (0, True)


def test_a_row_that_was_committed_late_is_found_by_the_lookback(
    shop: tuple[str, psycopg.Connection], ask: Ask, into: Path
) -> None:
    url, connection = shop
    put(connection, "late", "2024-01-04 23:50+01")
    asked = SqlSource(url="U", table="shop.products", window="changed", lookback="15m")
    assert asked.lookback == timedelta(minutes=15)
    ask(url, window_of(DAY, "Europe/Berlin", asked.lookback), table="shop.products", window="changed")
    assert rows(into)["product_id"].to_list() == ["late"]


def test_a_table_larger_than_a_chunk_comes_in_several(
    shop: tuple[str, psycopg.Connection], ask: Ask, into: Path
) -> None:
    url, _ = shop
    query = "SELECT g AS product_id, repeat('x', 1000) AS product_name FROM generate_series(1, 60000) AS g"
    assert ask(url, query=query).figures == {"rows": 60_000}
    assert pq.ParquetFile(into / "0001.parquet").num_row_groups > 2
    assert rows(into)["product_id"].sum() == 1_800_030_000


def test_a_query_runs_in_a_transaction_that_only_reads(
    shop: tuple[str, psycopg.Connection], ask: Ask, into: Path
) -> None:
    url, connection = shop
    put(connection, "p1", "2024-01-05 10:00+01")
    ask(url, query="SELECT product_id AS id FROM shop.products WHERE changed >= :since AND changed < :before")
    assert rows(into)["id"].to_list() == ["p1"]
    with pytest.raises(SettingsError, match="read-only transaction"):
        ask(url, query="WITH gone AS (DELETE FROM shop.products RETURNING *) SELECT * FROM gone")
    assert connection.execute("SELECT count(*) FROM shop.products").fetchone() == (1,)


@pytest.mark.parametrize("value", ["12.34::money", "array[12.34::money]", "'12.34'::shop.price"])
def test_money_of_postgres_is_refused_since_nobody_tells_its_unit(
    shop: tuple[str, psycopg.Connection], ask: Ask, into: Path, value: str
) -> None:
    url, connection = shop
    connection.execute("CREATE DOMAIN shop.price AS money")
    with pytest.raises(SettingsError, match=r"^products.sql has the column 'cost' of the type money.* cost::numeric"):
        ask(url, query=f"SELECT {value} AS cost")
    assert list(into.iterdir()) == []
    ask(url, query="SELECT 12.34::money::numeric AS cost")
    assert rows(into)["cost"].to_list() == ["12.34"]


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.int64())])
def test_a_driver_that_cannot_tell_money_from_numbers_is_refused(kind: pa.DataType) -> None:
    with pytest.raises(SettingsError, match=r"^products.sql needs a newer driver of Postgres, .* \(of 'cost'\)"):
        _without_money(pa.schema([("name", pa.string()), ("cost", kind)]), PLACE)


def test_two_columns_of_one_name_are_refused(shop: tuple[str, psycopg.Connection], ask: Ask, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "shop.db").close()
    for url in (shop[0], f"sqlite:///{tmp_path}/shop.db"):
        with pytest.raises(
            SettingsError, match=r"^products.sql gives more than one column of the name 'id': name each"
        ):
            ask(url, query="SELECT 1 AS id, 2 AS name, 3 AS id")


def test_arrays_arrive_as_json_with_decimals_as_they_are(
    shop: tuple[str, psycopg.Connection], ask: Ask, into: Path
) -> None:
    ask(
        shop[0],
        query="SELECT array[1.10, 2, NULL, 'NaN']::numeric[] AS n,"
        " array['ä\"', NULL] AS t, array[date '2024-01-05'] AS d,"
        " array['{\"a\": 1.10}'::jsonb] AS j, array['66e52125-591c-40ac-823f-475e3fc6da07'::uuid] AS u, "
        "array[true] AS b, array[1.5::float8, 'Infinity'] AS f, NULL::int[] AS none",
    )
    assert rows(into).row(0) == (
        '[1.10, 2, null, "nan"]', '["ä\\"", null]', '["2024-01-05"]', '[{"a": 1.10}]',
        '["66e52125-591c-40ac-823f-475e3fc6da07"]', "[true]", '[1.5, "inf"]', None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"table": "shop.nothing"}, 'relation "shop.nothing" does not exist'),
        ({"table": "shop.products", "window": "altered"}, 'column "altered" does not exist'),
        ({"query": "SELECT FROM WHERE"}, "syntax error"),
    ],
)
def test_what_will_never_work_is_not_tried_again(
    shop: tuple[str, psycopg.Connection], ask: Ask, into: Path, more: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^products.sql cannot be read: postgresql says «.*{said}.*». Correct"):
        ask(shop[0], **more)
    assert list(into.iterdir()) == []


def test_a_renamed_column_of_the_window_is_named(shop: tuple[str, psycopg.Connection], ask: Ask) -> None:
    url, connection = shop
    connection.execute("ALTER TABLE shop.products RENAME changed TO changed_at")
    with pytest.raises(SettingsError, match='column "changed" does not exist'):
        ask(url, table="shop.products", window="changed")


def test_a_statement_that_takes_too_long_is_ended_and_may_be_tried_again(
    shop: tuple[str, psycopg.Connection], ask: Ask
) -> None:
    with pytest.raises(SourceUnavailable, match=r"^products.sql took longer than its `timeout` allows"):
        ask(shop[0], query="SELECT pg_sleep(30)", timeout=0.2)


def test_a_connection_that_drops_in_the_middle_leaves_nothing_that_counts(
    shop: tuple[str, psycopg.Connection], ask: Ask, into: Path
) -> None:
    url, connection = shop

    def kill() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            killed = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY (%slowly%' "
                "OR (query LIKE '%slowly%' AND pid <> pg_backend_pid() AND state = 'active')"
            ).fetchall()
            if killed:
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SourceUnavailable, match=r"^products.sql could not be read to the end"):
        ask(url, query="SELECT g, pg_sleep(0.001) AS slowly FROM generate_series(1, 100000) AS g")
    killer.join()


# A fault on the second day, seen by the real assets: nothing of it is archived, in raw or staged


Change = Callable[[psycopg.Connection], None]


def retyped(connection: psycopg.Connection) -> None:
    connection.execute("ALTER TABLE shop.products ALTER price TYPE text USING 'call us'")
    for number in range(20):
        put(connection, f"q{number}", "2024-01-06 11:00+00", "call us")


def locked(connection: psycopg.Connection) -> None:
    # Held by a transaction that stays open: the statement waits for it until its timeout.
    connection.autocommit = False
    connection.execute("LOCK TABLE shop.products")


def broken_off(connection: psycopg.Connection) -> None:
    connection.execute("ALTER TABLE shop.products RENAME TO stored")
    connection.execute(
        "CREATE VIEW shop.products AS SELECT s.* FROM shop.stored AS s UNION ALL SELECT p.* FROM shop.stored AS p"
        " WHERE pg_terminate_backend(pg_backend_pid())"
    )


def of_the_shop(statement: str) -> Change:
    return lambda connection: connection.execute(statement) and None


@pytest.mark.parametrize(
    ("change", "step", "said"),
    [
        (broken_off, "raw_products", "products.sql could not be read to the end"),
        (locked, "raw_products", "products.sql took longer than its `timeout` allows"),
        (of_the_shop("ALTER TABLE shop.products RENAME changed TO altered"), "raw_products",
         'column "changed" does not exist'),
        (of_the_shop("ALTER TABLE shop.products RENAME product_id TO id"), "raw_products",
         "lacks the required column 'product_id'"),
        (retyped, "stg_products", "unit_price"),
    ],
    ids=["dropped", "timeout", "window renamed", "key renamed", "retyped"],
)  # fmt: skip
def test_a_fault_of_the_database_leaves_what_stood(
    shop: tuple[str, psycopg.Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, step: str,
    said: str,
) -> None:  # fmt: skip
    url, connection = shop
    monkeypatch.setenv("SHOP_DATABASE", url)
    home = tmp_path / "home"
    home.mkdir()
    (home / "sources.yaml").write_text(
        "products: {columns: {unit_price: price}, sql: {url: SHOP_DATABASE, table: shop.products, window: changed, "
        "timeout: 2}}\n"
    )
    put(connection, "p1", "2024-01-06 10:00+00")
    with open_shop(home, url) as platform:

        def run() -> dg.ExecuteInProcessResult:
            return platform.run("raw_products,stg_products", "2024-01-06")

        def staged() -> list[Any]:
            return platform.lake.read("stg_products", date(2024, 1, 6)).select("product_id", "unit_price").rows()

        assert run().success
        stood = [("p1", Decimal("1.5000"))]
        assert staged() == stood
        change(connection)
        result = run()
        assert said in failures(result)[step]
        assert staged() == stood
        if step == "raw_products":
            assert platform.lake.read("raw_products", date(2024, 1, 6))["product_id"].to_list() == ["p1"]
        connection.rollback()


def test_a_password_is_never_told(
    warehouse_url: str, ask: Ask, into: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with psycopg.connect(warehouse_url) as connection:
        info = connection.info
        place = f"{info.host}:{info.port}/{info.dbname}"
    for url in (f"postgresql://nobody:geh%40im@{place}", "postgresql://nobody:geh%40im@127.0.0.1:9/none"):
        with pytest.raises((SettingsError, SourceUnavailable)) as raised:
            ask(url, table="t")
        assert raised.value.__cause__ is None
        for told in (str(raised.value), caplog.text, *capfd.readouterr()):
            assert "geh" not in told
            assert "im@" not in told


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:my@secretpw@127.0.0.1:1/db", "postgresql://u:my@secretpw@no host/db",
        "postgresql://u:my:secretpw@127.0.0.1:1/db", "postgresql://u:my/secretpw@127.0.0.1:1/db",
        "postgresql://u:my#secretpw@127.0.0.1:1/db", "postgresql://u:my?secretpw@127.0.0.1:1/db",
        "postgresql://u:my[secretpw@127.0.0.1:1/db", "postgresql://u:my%secretpw@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?password=my%secretpw", "mysql://u:my@secretpw@127.0.0.1:1/db",
        "mysql://u:my/secretpw@127.0.0.1:1/db", "mysql://u:my[secretpw@127.0.0.1:1/db",
    ],
)  # fmt: skip
def test_no_piece_of_a_password_is_told_however_it_is_written(ask: Ask, url: str) -> None:
    with pytest.raises((SettingsError, SourceUnavailable)) as raised:
        ask(url, table="t")
    assert "secretpw" not in str(raised.value)
    assert "my" not in re.findall(r"\w+", str(raised.value))


@pytest.mark.parametrize("rest", ["u:p@127.0.0.1:port/db", "u:p%zz@127.0.0.1/db", "127.0.0.1/db?foo=1", "h:99999/db"])
def test_a_malformed_url_is_not_tried_again(ask: Ask, rest: str) -> None:
    with pytest.raises(SettingsError, match=r"^products.sql cannot be read: postgresql says «.*invalid"):
        ask(f"postgresql://{rest}", table="t")


def test_a_database_that_is_not_known_is_told_without_its_url(ask: Ask) -> None:
    with pytest.raises(SettingsError, match=r"begins with no database that is known here: use one of postgresql://"):
        ask("oracle://shop:geheim@host/db", table="t")


def test_a_variable_that_is_not_set_is_named(into: Path) -> None:
    config = SqlSource(url="NO_SUCH_VARIABLE", table="t")
    with pytest.raises(SettingsError, match=r"^products.sql.url names .* NO_SUCH_VARIABLE, which is not set"):
        extract(config, WINDOW, into, columns=[], place=PLACE)


# SQLite, DuckDB


def test_sqlite_gives_text_as_it_writes_it(tmp_path: Path, ask: Ask, into: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE products (product_id, price, changed text)")
        connection.executemany(
            "INSERT INTO products VALUES (?, ?, ?)",
            [("p1", 19.9, "2024-01-05 10:00:00"), (2, "12,5", "2024-01-04 23:30:00"), ("old", None, "2024-01-01")],
        )
    url = f"sqlite:///{tmp_path}/shop.db"
    ask(url, table="products", window="changed")
    assert rows(into).rows() == [("p1", "19.9", "2024-01-05 10:00:00"), ("2", "12,5", "2024-01-04 23:30:00")]
    with pytest.raises(SettingsError, match="sqlite says «no such table: orders»"):
        ask(url, table="orders")
    with pytest.raises(SettingsError, match="unable to open database file"):
        ask(f"sqlite:///{tmp_path}/none.db", table="products")
    with pytest.raises(SettingsError, match="a path from nowhere: write four slashes, sqlite:////PATH"):
        ask("sqlite:///shop.db", table="products")


MOMENTS = {
    "midnight": "2024-01-05 00:00:00", "date": "2024-01-05", "T midnight": "2024-01-05T00:00:00",
    "short": "2024-01-05 00:00", "last": "2024-01-05 23:59:59.999999", "T last": "2024-01-05T23:59:59.9",
    "day before": "2024-01-04 23:59:59.999999", "date before": "2024-01-04", "T before": "2024-01-04T23:59:59",
    "next": "2024-01-06 00:00:00", "next date": "2024-01-06",
    "zoned": "2024-01-05T00:00:00+01:00", "zoned last": "2024-01-05 23:59:59.999+01:00", "zulu": "2024-01-04T23:00:00Z",
    "zulu last": "2024-01-05T22:59:59Z", "zulu next": "2024-01-05T23:00:00.000Z", "none": None, "blank": "",
}  # fmt: skip
IN_UTC = ["midnight", "date", "T midnight", "short", "last", "T last", "zulu last", "zulu next", "zoned last"]
IN_BERLIN = ["midnight", "date", "T midnight", "short", "last", "T last", "zoned", "zoned last", "zulu", "zulu last"]
AS_DATES = [
    "midnight",
    "date",
    "T midnight",
    "short",
    "last",
    "T last",
    "zoned",
    "zoned last",
    "zulu last",
    "zulu next",
]


@pytest.fixture
def moments(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE products (product_id text, changed)")
        connection.executemany("INSERT INTO products VALUES (?, ?)", MOMENTS.items())
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.mark.parametrize(
    ("zone", "more", "wanted"),
    [
        ("UTC", {}, IN_UTC),
        ("UTC", {"window_type": "timestamp"}, IN_UTC),
        ("UTC", {"window_type": "date"}, AS_DATES),
        ("Europe/Berlin", {"window_timezone": "Europe/Berlin"}, IN_BERLIN),
        ("Europe/Berlin", {"window_type": "date"}, AS_DATES),
    ],
)
def test_moments_of_sqlite_belong_to_their_day_however_they_are_written(
    moments: str, ask: Ask, into: Path, zone: str, more: dict[str, str], wanted: list[str]
) -> None:
    ask(moments, window_of(DAY, zone), table="products", window="changed", **more)
    assert sorted(rows(into)["product_id"]) == sorted(wanted)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("kind", ["text", "timestamp", "date"])
def test_each_moment_of_sqlite_is_of_one_day_and_a_date_of_its_own(
    moments: str, ask: Ask, into: Path, zone: str, kind: str
) -> None:
    found: dict[int, list[str]] = {}
    for day in range(2, 9):
        ask(moments, window_of(date(2024, 1, day), zone), table="products", window="changed", window_type=kind)
        found[day] = rows(into)["product_id"].to_list()
    assert sorted(name for names in found.values() for name in names) == sorted(MOMENTS.keys() - {"none", "blank"})
    assert ("date before" in found[4], "date" in found[5], "next date" in found[6]) == (True, True, True)


@pytest.mark.parametrize(
    "value", ["05.01.2024", "2024-01-05T00:00:00+0100", "2024-01-05 noon", 1704409200, b"2024-01-05"]
)
def test_what_sqlite_reads_no_time_from_is_told_and_not_lost(
    moments: str, tmp_path: Path, ask: Ask, into: Path, value: object
) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("INSERT INTO products VALUES ('odd', ?)", [value])
    with pytest.raises(
        SettingsError, match=r"^products.sql.window names a column with values that SQLite reads no time"
    ):
        ask(moments, table="products", window="changed")
    assert list(into.iterdir()) == []


def test_a_file_that_is_no_database_is_not_tried_again(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "shop.db").write_text("hello" * 1000)
    with pytest.raises(SettingsError, match="file is not a database"):
        ask(f"sqlite:///{tmp_path}/shop.db", table="products")


def test_duckdb_gives_its_own_types(tmp_path: Path, ask: Ask, into: Path) -> None:
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE products "
            "(product_id varchar, price decimal(18,4), size struct(w integer, h decimal(9, 2)), changed timestamptz)"
        )
        connection.execute(
            "INSERT INTO products VALUES ('p1', 1.5, {'w': 3, 'h': 1.10}, '2024-01-05 00:00:00+01'), "
            "('old', 1, NULL, '2024-01-04 23:59:59+01')"
        )
    url = f"duckdb:///{tmp_path}/shop.duckdb"
    ask(url, table="products", window="changed", window_type="timestamptz")
    assert rows(into).rows() == [("p1", Decimal("1.5000"), '{"w": 3, "h": 1.10}', datetime(2024, 1, 4, 23, tzinfo=UTC))]
    with pytest.raises(SettingsError, match="Table with name orders does not exist"):
        ask(url, table="orders")


# MariaDB, which is MySQL


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    if not databases.mariadb_is_here():
        pytest.skip("MariaDB is not installed here (Debian: apt-get install mariadb-server)")
    folder = tmp_path_factory.mktemp("m")
    with databases.mariadb(folder) as port:
        password = quote(databases.PASSWORD, safe="")
        yield folder, f"mysql://{databases.USER}:{password}@127.0.0.1:{port}/{databases.DATABASE}"


def test_mariadb_gives_the_rows_of_the_window(mariadb: tuple[Path, str], ask: Ask, into: Path) -> None:
    folder, url = mariadb
    databases.run(
        folder,
        "CREATE TABLE shop.products (product_id varchar(9), price decimal(18,4), made date, changed datetime(6)); "
        "INSERT INTO shop.products VALUES ('p1', 19.90, '2024-01-01', '2024-01-04 23:00:00'), "
        "('ä', NULL, NULL, '2024-01-05 22:59:59.999999'), ('old', 1, NULL, '2024-01-04 22:59:59.999999')",
    )
    assert ask(url, table="products", window="changed") == Extracted(None, {"rows": 2})
    assert rows(into).rows() == [
        ("p1", "19.9000", date(2024, 1, 1), datetime(2024, 1, 4, 23)),
        ("ä", None, None, datetime(2024, 1, 5, 22, 59, 59, 999999)),
    ]
    with pytest.raises(SettingsError, match=r"Table 'shop.orders' doesn't exist"):
        ask(url, table="orders")
    with pytest.raises(SettingsError, match="Unknown column 'altered'"):
        ask(url, table="products", window="altered")
    with pytest.raises(SettingsError, match="timestamptz, which mysql has not: use timestamp"):
        ask(url, table="products", window="changed", window_type="timestamptz")


def test_mariadb_gives_decimals_and_times_whole(mariadb: tuple[Path, str], ask: Ask, into: Path) -> None:
    folder, url = mariadb
    databases.run(
        folder,
        "CREATE TABLE shop.exact (product_id int, small decimal(20,15), big decimal(38,10), `a.b``` decimal(65,30), "
        "took time(3), changed datetime); INSERT INTO shop.exact VALUES (1, 0.123456789012345, "
        "1234567890123456789012345678.0123456789, -1.5, '-125:00:00.5', '2024-01-05 10:00:00'), "
        "(2, NULL, NULL, NULL, NULL, '2024-01-05 10:00:00')",
    )
    wanted = [
        ("0.123456789012345", "1234567890123456789012345678.0123456789", f"-1.5{'0' * 29}", "-125:00:00.500"),
        (None, None, None, None),
    ]
    for more in (
        {"table": "exact", "window": "changed"},
        {"query": "SELECT * FROM exact WHERE changed >= :since AND changed < :before ORDER BY product_id -- all"},
        {"query": "WITH e AS (SELECT * FROM exact) SELECT * FROM e ORDER BY product_id;"},
    ):
        ask(url, **more)
        assert rows(into).select("small", "big", "a.b`", "took").rows() == wanted
    ask(url, query="SELECT sum(small) * 3 AS s, 1.10 AS one, count(*) AS c FROM exact")
    assert rows(into).row(0) == ("0.370370367037035", "1.10", 2)


def test_a_value_that_the_driver_of_mariadb_cannot_read_is_a_sentence(
    mariadb: tuple[Path, str], ask: Ask, into: Path
) -> None:
    folder, url = mariadb
    databases.run(
        folder,
        "SET sql_mode = ''; CREATE TABLE shop.zero (product_id int, made date, seen datetime); "
        "INSERT INTO shop.zero VALUES (1, '0000-00-00', '2024-01-05')",
    )
    with pytest.raises(SettingsError, match=r"^products.sql has a value .* cannot read.*\(look at made, seen\): write"):
        ask(url, table="zero")
    with pytest.raises(SettingsError, match=r"^products.sql has a value .* cannot read, such as .* a bare NULL: write"):
        ask(url, query="SELECT NULL AS product_id")
    with pytest.raises(SettingsError, match="Duplicate column name 'product_id'"):
        ask(url, query="SELECT product_id, product_id FROM zero")
    (into / "0001.parquet").unlink(missing_ok=True)
    ask(url, query="SELECT CAST(made AS CHAR) AS made FROM zero")
    assert rows(into)["made"].to_list() == ["0000-00-00"]


def test_the_columns_of_a_query_are_learnt_without_running_it(mariadb: tuple[Path, str], ask: Ask) -> None:
    begun = time.monotonic()
    ask(mariadb[1], query="SELECT sleep(2) AS slept, 1.5 AS price")
    assert time.monotonic() - begun < 3.5


def test_decimals_that_a_driver_would_cut_are_refused_where_the_query_cannot_be_wrapped(
    monkeypatch: pytest.MonkeyPatch, ask: Ask, into: Path
) -> None:
    asked = []

    def read_sql(_url: str, text: str, **_more: Any) -> pa.RecordBatchReader:
        asked.append(text)
        kind = pa.string() if "CONVERT" in text else pa.decimal128(38, 10)
        return pa.table({"price": pa.array([None], kind)}).to_reader()

    monkeypatch.setattr("connectorx.read_sql", read_sql)
    with pytest.raises(SettingsError, match=r"decimals in the column 'price'.* CONVERT\(varchar\(60\), price, 2\)"):
        ask("mssql://u:p@h/d", query="SELECT price FROM t ORDER BY price")
    assert list(into.iterdir()) == []
    ask("mssql://u:p@h/d", table="t")
    assert asked[-2:] == [
        "SELECT TOP 0 * FROM (\nSELECT * FROM [t]\n) q",
        "SELECT CONVERT(varchar(60), [price], 2) AS [price] FROM (\nSELECT * FROM [t]\n) q",
    ]
