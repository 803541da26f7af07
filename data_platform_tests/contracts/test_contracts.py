"""Contracts and what is derived from them: tables and COMMENTs in Postgres, marts' SELECTs, rules that judge."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import psycopg
import pytest
from psycopg import sql

from data_platform.contracts import MARTS, STAGED, WAREHOUSE, published_contracts
from data_platform.contracts.contract import Contract
from data_platform.contracts.rules import Rule, in_range, judged, row_count
from data_platform.errors import DatabaseUnavailable, PlatformError, PublishRefused
from data_platform.settings import Settings, read_settings
from data_platform.warehouse.marts import SELECTS, read_table
from data_platform.warehouse.migrations import MIGRATIONS, ready_warehouse
from data_platform_tests.conftest import throw_away

CONTRACTS: dict[str, Contract] = {**{one.table: one for one in STAGED.values()}, **WAREHOUSE, **MARTS}
PUBLISHED = [contract.table for contract in published_contracts()]


@pytest.fixture(scope="module")
def connection(server: str, template: str) -> Iterator[psycopg.Connection]:
    with throw_away(server, template) as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection


# In Postgres


@pytest.mark.parametrize("table", PUBLISHED)
def test_a_table_has_the_columns_types_and_nulls_of_its_contract(connection: psycopg.Connection, table: str) -> None:
    contract = CONTRACTS[table]
    found = connection.execute(
        """
        SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull
        FROM pg_attribute
        WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum
        """,
        [f"{contract.schema}.{table}"],
    ).fetchall()
    spelled = {"timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone"}
    # The unknown member alone has no id: a CHECK says so.
    absent = {"dim_customer": "customer_id", "dim_product": "product_id"}.get(table)
    assert found == [
        (name, spelled.get(column.type_name, column.type_name), column.nullable or name == absent)
        for name, column in contract.columns.items()
    ]


@pytest.mark.parametrize("table", PUBLISHED)
def test_comments_are_the_descriptions_of_the_contract(connection: psycopg.Connection, table: str) -> None:
    contract = CONTRACTS[table]
    found = connection.execute(
        "SELECT objsubid, description FROM pg_description"
        " WHERE objoid = %s::regclass AND classoid = 'pg_class'::regclass ORDER BY objsubid",
        [f"{contract.schema}.{table}"],
    ).fetchall()
    assert [text for _, text in found] == [
        contract.description,
        *(column.description for column in contract.columns.values()),
    ]


@pytest.mark.parametrize("table", MARTS)
def test_a_marts_select_gives_its_contracts_columns(connection: psycopg.Connection, table: str) -> None:
    text = (SELECTS / f"{table}.sql").read_text().replace(":first_date", "20240101").replace(":last_date", "20241231")
    cursor = connection.execute(text)  # type: ignore[call-overload]
    assert [column.name for column in cursor.description or []] == list(CONTRACTS[table].columns)
    sums = {"numeric"}  # a sum widens: COPY writes it, and the table's type holds it
    kinds = {column.name: connection.execute("SELECT format_type(%s, NULL)", [column.type_code]).fetchone()[0]  # type: ignore[index]
             for column in cursor.description or []}  # fmt: skip
    for name, column in CONTRACTS[table].columns.items():
        assert kinds[name] in {column.type_name.partition("(")[0], *(sums if column.dtype.is_numeric() else ())}, name


@pytest.mark.parametrize("table", PUBLISHED)
def test_an_empty_table_is_read_in_its_contracts_types(warehouse_url: str, table: str) -> None:
    rows = read_table(warehouse_url, CONTRACTS[table])
    assert rows.schema == CONTRACTS[table].polars_schema
    if not table.startswith("dim_"):
        CONTRACTS[table].validate(rows)


@pytest.mark.parametrize(
    ("table", "values"),
    [("fact_sales", "1, 1.50, 0, 1.51"), ("fact_returns", "-1, 1.50, 0, 1.50"),
     ("fact_sales", "-1, 1.50, 0, -1.50"), ("fact_returns", "1, 1.50, 0, 1.50")],
)  # fmt: skip
def test_a_fact_table_refuses_rows_that_break_its_rules(
    connection: psycopg.Connection, table: str, values: str
) -> None:
    parent, child = sql.Identifier("warehouse", table), sql.Identifier("warehouse", f"{table}_2024")
    make = sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM (20240000) TO (20250000)").format(child, parent)
    insert = sql.SQL(
        """
        INSERT INTO {} (sale_key, date_key, customer_key, product_key, order_id, line_number, order_ts, quantity,
            unit_price, discount_amount, total_amount, delivered_on, updated_at)
        VALUES (1, 20240105, -1, -1, 'o', 1, '2024-01-05', {}, '2024-01-05', '2024-01-05')
        """
    ).format(parent, sql.SQL(values))  # type: ignore[arg-type]
    with connection.transaction(force_rollback=True):
        connection.execute(make)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(insert)


# Migrations


def settings_of(url: str, **values: str) -> Settings:
    return replace(read_settings(values), warehouse_url=url)


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


def test_migrations_are_applied_once_and_all_of_them(server: str) -> None:
    with throw_away(server) as url:
        chosen = settings_of(url)
        assert ready_warehouse(chosen) == url
        applied = query(url, "SELECT migration_id, applied_at_utc FROM public._yoyo_migration ORDER BY 1")
        assert [name for name, _ in applied] == sorted(path.stem for path in MIGRATIONS.glob("*.sql"))
        recorded = query(url, "SELECT * FROM platform.settings ORDER BY 1")
        ready_warehouse.cache_clear()
        ready_warehouse(chosen)
        assert query(url, "SELECT migration_id, applied_at_utc FROM public._yoyo_migration ORDER BY 1") == applied
        assert query(url, "SELECT * FROM platform.settings ORDER BY 1") == recorded


def test_many_processes_may_be_first(server: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with throw_away(server) as url, ThreadPoolExecutor(6) as pool:
        chosen = settings_of(url)
        assert list(pool.map(lambda _: ready_warehouse.__wrapped__(chosen), range(6))) == [url] * 6


def test_a_description_that_changes_reaches_postgres_without_a_migration(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready_warehouse(settings_of(warehouse_url))
    monkeypatch.setattr(type(WAREHOUSE["dim_date"]), "description", property(lambda self: 'it\'s "new"'))
    ready_warehouse.cache_clear()
    ready_warehouse(settings_of(warehouse_url))
    assert query(warehouse_url, "SELECT obj_description('warehouse.dim_date'::regclass)") == [('it\'s "new"',)]


def test_another_time_zone_is_refused_and_a_later_start_is_a_warning(
    warehouse_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    ready_warehouse(settings_of(warehouse_url))
    with pytest.raises(
        PublishRefused, match="was loaded in UTC: its days mean other hours; set DATA_PLATFORM_TIMEZONE"
    ):
        ready_warehouse(settings_of(warehouse_url, DATA_PLATFORM_TIMEZONE="Asia/Tokyo"))
    assert caplog.text == ""
    ready_warehouse(settings_of(warehouse_url, DATA_PLATFORM_START_DATE="2024-06-01"))
    assert "this warehouse holds days from 2024-01-01" in caplog.text
    ready_warehouse(settings_of(warehouse_url, DATA_PLATFORM_START_DATE="2023-01-01"))
    assert query(warehouse_url, "SELECT value FROM platform.settings WHERE name = 'start_date'") == [("2023-01-01",)]


def test_a_user_who_may_not_make_schemas_is_told_so(server: str) -> None:
    from urllib.parse import urlsplit, urlunsplit

    with throw_away(server) as url, psycopg.connect(url, autocommit=True) as owner:
        may = owner.execute("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user").fetchone()
        if may != (True,):
            pytest.skip("the role of DATA_PLATFORM_TEST_URL may not make roles")
        owner.execute("DROP ROLE IF EXISTS test_reader_of_contracts")
        owner.execute("CREATE ROLE test_reader_of_contracts LOGIN PASSWORD 'se cret'")
        try:
            parts = urlsplit(url)
            host = parts.netloc.rpartition("@")[2]
            theirs = urlunsplit(parts._replace(netloc=f"test_reader_of_contracts:se%20cret@{host}"))
            with pytest.raises(PlatformError) as caught:
                ready_warehouse(settings_of(theirs))
            assert "may not make schemas and tables there: grant it CREATE" in str(caught.value)
            assert "cret" not in str(caught.value)
        finally:
            owner.execute("DROP ROLE test_reader_of_contracts")


def test_a_url_with_options_and_a_password_is_understood_by_the_migrations(server: str) -> None:
    with throw_away(server) as url:
        joined = "&" if "?" in url else "?"
        assert ready_warehouse(settings_of(f"{url}{joined}application_name=me&connect_timeout=5"))


def test_a_server_that_is_down_is_one_sentence() -> None:
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        ready_warehouse(settings_of("postgresql://me:secret@127.0.0.1:1/none"))


# Meaning


def test_a_fingerprint_changes_with_the_meaning_and_not_with_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = WAREHOUSE["dim_product"]
    prints = {contract.fingerprint(), replace(contract, tracked=contract.tracked[1:]).fingerprint()}
    prints |= {replace(contract, key=("product_id",)).fingerprint()}
    prints |= {replace(contract, overwritten=("brand",)).fingerprint()}
    prints |= {replace(contract, model=STAGED["products"].model).fingerprint()}
    assert len(prints) == 5
    assert replace(contract, rules=()).fingerprint() == contract.fingerprint()
    assert len({one.fingerprint() for one in CONTRACTS.values()}) == len(CONTRACTS)


def test_every_column_is_described_and_every_name_in_a_contract_is_a_column() -> None:
    for contract in CONTRACTS.values():
        assert all(column.description.endswith(".") for column in contract.columns.values())
        assert set(contract.key) | set(contract.tracked) | set(contract.overwritten) <= set(contract.columns)
        assert len({rule.name for rule in contract.rules}) == len(contract.rules)


def test_a_frame_that_breaks_a_contract_is_refused_without_showing_values() -> None:
    contract = STAGED["customers"]
    rows = pl.DataFrame({"customer_id": [None], "email": ["ada@example.org"]})
    frame = pl.concat([contract.polars_schema.to_frame(), rows], how="diagonal_relaxed")
    with pytest.raises(PlatformError) as caught:
        contract.validate(frame)
    assert "customer_id (series_contains_nulls)" in str(caught.value)
    assert "ada" not in str(caught.value)
    with pytest.raises(PlatformError, match=r"email \(column_not_in_dataframe\)"):
        contract.validate(contract.polars_schema.to_frame().drop("email"))
    with pytest.raises(PlatformError, match=r"email \(wrong_datatype\)"):
        contract.validate(contract.polars_schema.to_frame().with_columns(email=pl.lit(1)))


# Rules: of each a row that breaks it and one that keeps it

ORDER = {
    "quantity": 2,
    "unit_price": Decimal("1.5"),
    "discount_amount": Decimal(0),
    "total_amount": Decimal(3),
    "order_ts": datetime(2024, 1, 5),
    "_floor": datetime(2000, 1, 1),
    "_day_after_next": datetime(2024, 1, 7),
    "customer_id": "c1",
}
PRODUCT = {"product_name": "Cup", "unit_price": Decimal(2), "cost": Decimal(1), "is_deleted": False}
VERSION = {"effective_from": date(2024, 1, 1), "effective_to": date(2024, 1, 2), "is_current": False}
SALE = {name: ORDER[name] for name in ("quantity", "unit_price", "discount_amount", "total_amount")}
RETURN = SALE | {"quantity": -2, "total_amount": Decimal(-3)}
DAILY = {"lines": 1, "return_lines": 0, "sales": Decimal(3), "returns": Decimal(-1), "net_sales": Decimal(2)}
VALUE = {"first_order_date": date(2024, 1, 1), "last_order_date": date(2024, 1, 1), "recency_days": 0}

KEEPS: dict[str, dict[str, Any]] = {
    "stg_orders": ORDER,
    "stg_products": PRODUCT,
    "stg_customers": {"email": "ada@example.org"},
    "dim_customer": VERSION,
    "dim_product": VERSION,
    "fact_sales": SALE,
    "fact_returns": RETURN,
    "mart_daily_sales": DAILY,
    "mart_product_performance": {
        "net_sales": Decimal(2), "sales": Decimal(3), "returns": Decimal(-1), "margin": Decimal(1)
    },
    "mart_customer_value": VALUE,
}  # fmt: skip
BREAKS: dict[tuple[str, str], dict[str, Any]] = {
    ("stg_orders", "unit_price_not_negative"): {"unit_price": Decimal("-0.0001")},
    ("stg_orders", "quantity_not_zero"): {"quantity": 0},
    ("stg_orders", "order_date_in_window"): {"order_ts": datetime(2024, 1, 7)},
    ("stg_orders", "total_fits"): {"total_amount": None},
    ("stg_orders", "discount_has_sign_of_quantity"): {"discount_amount": Decimal("-0.01")},
    ("stg_orders", "unit_price_above_zero"): {"unit_price": Decimal(0)},
    ("stg_orders", "customer_is_named"): {"customer_id": None},
    ("stg_orders", "quantity_in_range"): {"quantity": -10_001},
    ("stg_products", "unit_price_not_negative"): {"unit_price": Decimal(-1)},
    ("stg_products", "cost_not_negative"): {"cost": Decimal(-1)},
    ("stg_products", "cost_below_price"): {"cost": Decimal("2.0001")},
    ("stg_products", "product_is_named"): {"product_name": None},
    ("stg_customers", "email_looks_like_one"): {"email": "ada at example.org"},
    ("dim_customer", "version_ends_after_it_starts"): {"effective_to": date(2024, 1, 1)},
    ("dim_customer", "open_version_is_current"): {"is_current": True},
    ("dim_product", "version_ends_after_it_starts"): {"effective_to": date(2023, 1, 1)},
    ("dim_product", "open_version_is_current"): {"effective_to": None},
    ("fact_sales", "quantity_has_the_sign_of_its_table"): {"quantity": -2},
    ("fact_sales", "total_is_quantity_times_price_less_discount"): {"total_amount": Decimal("3.0001")},
    ("fact_returns", "quantity_has_the_sign_of_its_table"): {"quantity": 2},
    ("fact_returns", "total_is_quantity_times_price_less_discount"): {"discount_amount": Decimal(1)},
    ("mart_daily_sales", "a_day_has_lines"): {"lines": 0},
    ("mart_daily_sales", "net_is_sales_and_returns"): {"net_sales": Decimal(3)},
    ("mart_daily_sales", "returns_below_sales"): {"net_sales": Decimal(-1)},
    ("mart_product_performance", "net_is_sales_and_returns"): {"returns": Decimal(0)},
    ("mart_product_performance", "margin_not_above_one"): {"margin": Decimal("1.0001")},
    ("mart_customer_value", "first_order_not_after_last"): {"first_order_date": date(2024, 1, 2)},
    ("mart_customer_value", "recency_not_negative"): {"recency_days": -1},
}
RULES = {(table, rule.name): rule for table, contract in CONTRACTS.items() for rule in contract.rules}
# Rules that no single row breaks: what two rows have in common that do.
DOUBLES = {
    ("stg_orders", "order_id_and_line_number_is_unique"): {"order_id": "o1", "line_number": 1},
    ("stg_products", "product_id_is_unique"): {"product_id": "p1"},
    ("stg_customers", "customer_id_is_unique"): {"customer_id": "c1"},
}
JUDGE_NULLS = {("stg_orders", "customer_is_named"), ("stg_products", "product_is_named")}
JUDGE_NULLS |= {(table, "open_version_is_current") for table in ("dim_customer", "dim_product")}
CONTEXT = {"_floor": pl.Datetime("us"), "_day_after_next": pl.Datetime("us")}


def frame_of(table: str, *rows: dict[str, Any]) -> pl.DataFrame:
    schema = {**CONTRACTS[table].polars_schema, **(CONTEXT if table == "stg_orders" else {})}
    return pl.DataFrame(rows, schema=schema)


def test_every_rule_is_tried_here() -> None:
    assert set(BREAKS) | set(DOUBLES) == set(RULES)


@pytest.mark.parametrize("rule", DOUBLES, ids=".".join)
def test_rows_of_one_key_in_a_delivery_break_a_rule_together(rule: tuple[str, str]) -> None:
    table, name = rule
    frame = frame_of(table, KEEPS[table] | DOUBLES[rule], KEEPS[table], KEEPS[table] | DOUBLES[rule])
    assert judged(frame, [RULES[rule]]).failed == {name: 2}
    assert judged(frame[:2], [RULES[rule]]).failed == {name: 0}


@pytest.mark.parametrize("rule", BREAKS, ids=".".join)
def test_a_rule_fails_and_passes(rule: tuple[str, str]) -> None:
    table, name = rule
    kept = KEEPS[table]
    counts = judged(frame_of(table, kept, kept | BREAKS[rule], kept), [RULES[rule]]).failed
    assert counts == {name: 1}
    assert judged(frame_of(table, kept), [RULES[rule]]).failed == {name: 0}


@pytest.mark.parametrize("rule", RULES, ids=".".join)
def test_a_rule_has_nothing_to_judge_in_nulls_and_in_no_rows(rule: tuple[str, str]) -> None:
    table, name = rule
    nulls = frame_of(table, {})
    if rule not in JUDGE_NULLS:
        assert judged(nulls, [RULES[rule]]).failed == {name: 0}
    assert judged(nulls.clear(), [RULES[rule]]).failed == {name: 0}


def test_all_rules_of_a_table_are_judged_in_one_pass() -> None:
    contract = CONTRACTS["mart_daily_sales"]
    rows = frame_of("mart_daily_sales", DAILY, DAILY | {"lines": 0, "net_sales": Decimal(-5)})
    assert judged(rows, contract.rules).failed == {
        "a_day_has_lines": 1, "net_is_sales_and_returns": 1, "returns_below_sales": 1
    }  # fmt: skip
    assert judged(rows, []).failed == {}


def test_severities_are_known_words() -> None:
    def severities(rules: tuple[Rule, ...]) -> set[str]:
        return {rule.severity for rule in rules}

    assert set().union(*(severities(one.rules) for one in CONTRACTS.values())) == {"critical", "warning", "info"}


def test_a_contract_refuses_rules_that_it_cannot_keep() -> None:
    staged, fact, mart = STAGED["orders"], CONTRACTS["fact_sales"], CONTRACTS["mart_daily_sales"]
    twice = (in_range("quantity", 0, 5), in_range("quantity", 0, 9, "warning"))
    with pytest.raises(ValueError, match="two rules quantity_in_range: give one of them another name"):
        replace(staged, rules=twice)
    assert len(replace(staged, rules=(twice[0], replace(twice[1], name="few"))).rules) == 2
    with pytest.raises(ValueError, match="fact_sales has measures"):
        replace(fact, measures=(row_count(),))
    for contract in (staged, mart):
        with pytest.raises(ValueError, match="has queries"):
            replace(contract, queries=fact.queries)
