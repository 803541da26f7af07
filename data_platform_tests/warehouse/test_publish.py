"""Publishing as its callers see it: what is refused, what a rebuild mends, what odd texts and crashes do."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from psycopg import sql

from data_platform.errors import PlatformError, PublishRefused, RuleBroken, SourceUnavailable
from data_platform.lake import Lake
from data_platform.settings import settings
from data_platform.warehouse import dimensions, facts, ledger, staged
from data_platform.warehouse import publish as publishing
from data_platform.warehouse.calendar import staged_days
from data_platform.warehouse.copying import copy_in, copy_out
from data_platform.warehouse.publish import Published, publish, publish_calendar, rebuild
from data_platform_tests.cases import (
    INFERRED_FROM,
    at,
    business,
    customer,
    day,
    delivered,
    full,
    line,
    lines,
    product,
    tombstone,
    whole_orders,
)
from data_platform_tests.reference import Delivery
from data_platform_tests.warehouse import harness

START = date(2024, 1, 1)
ALL = ("dim_customer", "dim_product", "fact_sales")
NASTY = [
    '"',
    "''",
    "a,b",
    "back\\slash",
    "\\.",
    "\\N",
    "x\r\ny",
    "\r",
    "line\nfeed",
    "🛒 ÿ",
    "a;--",
    "%s {0}",
    "\t",
    "NULL",
]


@pytest.fixture
def connection(warehouse_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def shop(warehouse_url: str, lake: Lake) -> Callable[..., list[Published]]:
    """Stages deliveries and publishes `assets`, all by default."""

    def stage_and_publish(*deliveries: Delivery, assets: tuple[str, ...] = ALL) -> list[Published]:
        for delivery in deliveries:
            harness.stage(lake, delivery)
        return [publish(warehouse_url, lake, asset, run_id="run", timezone="UTC") for asset in assets]

    return stage_and_publish


def small_shop() -> list[Delivery]:
    return [
        delivered("customers", 1, customer("c1", segment="a"), customer("c2")),
        delivered("customers", 2, customer("c1", segment="b")),
        delivered("products", 1, product("p1", cost="6")),
        lines(
            2,
            line("o1", 1),
            line("o1", 2, quantity=-1),
            line("o2", 1, customer_id="c9", order_ts=business(date(2023, 12, 31))),
            line("o3", 1, customer_id=None),
        ),
        lines(3, tombstone("o4", 1), line("o5", 1, order_ts=business(1))),
    ]


def rebuilt(url: str, lake: Lake, *, verify: bool = False) -> dict[str, tuple[int, int, int]]:
    return rebuilt_in("UTC", url, lake, verify=verify)


def rebuilt_in(timezone: str, url: str, lake: Lake, *, verify: bool = False) -> dict[str, tuple[int, int, int]]:
    reports = rebuild(url, lake, run_id="rebuild", timezone=timezone, verify=verify)
    return {report.asset: (report.inserted, report.updated, report.deleted) for report in reports}


NO_DIFFERENCE = dict.fromkeys((*ALL, "dim_date"), (0, 0, 0))


# Texts and values


def test_copy_brings_every_text_and_value_there_and_back(connection: psycopg.Connection) -> None:
    texts = [*NASTY, "", " ", None]
    frame = pl.DataFrame(
        {
            "n": pl.Series(range(len(texts)), dtype=pl.Int32),
            "text": texts,
            "amount": pl.Series([Decimal("-0.0001"), Decimal("99999999999999.9999"), None] * 6)[: len(texts)].cast(
                pl.Decimal(18, 4)
            ),
            "day": pl.Series([date(1, 1, 1), date(9999, 12, 31), None] * 6)[: len(texts)],
            "local": pl.Series([datetime(2024, 1, 1, 0, 0, 0, 1), datetime(1999, 12, 31, 23), None] * 6)[: len(texts)],
            "instant": pl.Series([datetime(2024, 1, 1, 0, 0, 0, 1), None, datetime(1900, 1, 1)] * 6)[: len(texts)]
            .cast(pl.Datetime("us"))
            .dt.replace_time_zone("UTC"),
            "flag": pl.Series([True, False, None] * 6)[: len(texts)],
        }
    )
    with connection.transaction():
        connection.execute("SET LOCAL TimeZone = 'Asia/Kolkata'")
        connection.execute("SET LOCAL DateStyle = 'SQL, DMY'")
        connection.execute(
            "CREATE TEMP TABLE t (n integer, text text, amount numeric(18,4), day date, local timestamp,"
            " instant timestamptz, flag boolean)"
        )
        copy_in(connection, "pg_temp.t", frame)
        assert connection.execute("SELECT count(*) FROM t WHERE text IS NULL").fetchone() == (1,)
        back = copy_out(connection, sql.SQL("SELECT * FROM t ORDER BY n"), frame.schema)
    assert back.schema == frame.schema
    assert back.rows() == frame.rows()


def test_odd_texts_in_ids_and_attributes_stand_as_they_were_told(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, lake: Lake, warehouse_url: str
) -> None:
    texts = [text.strip() or "blank" for text in NASTY]
    shop(
        delivered("customers", 1, *(customer(text, segment=text) for text in texts)),
        lines(2, *(line(text, 1, customer_id=text, product_id=text) for text in texts)),
    )
    shop(lines(3, *(line(text, 1, customer_id=text, product_id=text, quantity=2) for text in texts)))
    standing = harness.contents(connection)
    assert {row["customer_id"]: row["segment"] for row in standing.customers} == {text: text for text in texts}
    assert {fact["order_id"] for fact in standing.sales} == set(texts)
    assert all(fact["customer"][0] == fact["product"][0] == fact["order_id"] for fact in standing.sales)
    assert all(fact["quantity"] == 2 for fact in standing.sales)
    assert rebuilt(warehouse_url, lake) == NO_DIFFERENCE


def test_a_lake_below_a_folder_with_odd_characters_is_read(
    warehouse_url: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    lake = Lake(tmp_path / "data[1] *?{x} a=b é")
    for delivery in small_shop():
        harness.stage(lake, delivery)
    for asset in ALL:
        publish(warehouse_url, lake, asset, run_id="run", timezone="UTC")
    harness.stage(lake, whole_orders(2, line("o1", 1), quarantined=({"order_id": "o1", "line_number": 2},)))
    publish(warehouse_url, lake, "fact_sales", run_id="run", timezone="UTC")
    assert [fact["order_id"] for fact in harness.contents(connection).sales] == ["o1", "o5"]


def test_tables_of_other_people_are_not_mistaken_for_temporary_ones(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    """Where a role's search_path names pg_temp last, an unqualified name finds public tables first."""
    names = ["wanted_ids", "gone_members", "reach", "rekeyed", "named_members", "dead_lines", "wanted_orders",
             "deleted_versions", "updated_versions", "touched_ids", "maybe_unnamed", "new_orders", "shown_versions",
             "changed_members", "removed_days", "changed_days"]  # fmt: skip
    database = connection.info.dbname
    connection.execute(sql.SQL("ALTER DATABASE {} SET search_path = public, pg_temp").format(sql.Identifier(database)))
    for name in names:
        connection.execute(sql.SQL("CREATE TABLE public.{} (untouched integer)").format(sql.Identifier(name)))
    shop(*small_shop())
    shop(delivered("customers", 2), delivered("products", 1), lines(2, line("o1", 1)), lines(3))
    assert rebuilt(warehouse_url, lake) == NO_DIFFERENCE
    for name in names:
        assert connection.execute(
            sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(name))
        ).fetchone() == (0,)


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Amsterdam", "America/New_York", "Pacific/Kiritimati"])
def test_a_source_that_says_never_by_the_first_instant_there_is_does_not_stop_the_warehouse(
    timezone: str, connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    never = datetime(1, 1, 1, tzinfo=UTC)
    for delivery in (
        lines(2, line("o1", 1, updated_at=never)),
        delivered("customers", 2, customer("c1", segment="a", updated_at=never)),
        delivered("customers", 3, customer("c1", segment="b"), customer("c2", updated_at=never)),
        delivered("customers", 4, customer("c1", segment="c")),
        lines(4, line("o1", 1, quantity=2)),
    ):
        harness.stage(lake, delivery, timezone)
        for asset in ALL:
            publish(warehouse_url, lake, asset, run_id="run", timezone=timezone)
    standing = harness.contents(connection)
    starts = [(row["customer_id"], row["effective_from"]) for row in standing.customers]
    first = date(1, 1, 2)
    assert starts == [("c1", first), ("c1", date(2024, 1, 3)), ("c1", date(2024, 1, 4)), ("c2", first)]
    assert [fact["customer"] for fact in standing.sales] == [("c1", first)]
    assert rebuilt_in(timezone, warehouse_url, lake) == NO_DIFFERENCE


# Nothing there


def test_nothing_staged_publishes_nothing_and_rebuilds_nothing(
    shop: Callable[..., list[Published]], warehouse_url: str, lake: Lake
) -> None:
    assert [report.path for report in shop()] == ["nothing changed"] * 3
    assert rebuilt(warehouse_url, lake, verify=True) == NO_DIFFERENCE | {"dim_date": (366, 0, 0)}


def test_empty_partitions_are_published_and_leave_the_tables_empty(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    reports = shop(delivered("customers", 1), delivered("products", 1), lines(1), lines(2))
    assert [report.path for report in reports] == ["first load"] * 3
    standing = harness.contents(connection)
    assert (standing.customers, standing.products, standing.sales, standing.returns) == ([], [], [], [])
    assert [report.path for report in shop()] == ["nothing changed"] * 3
    assert [report.path for report in shop(delivered("customers", 2), delivered("products", 2), lines(3))] == [
        "append"
    ] * 3


def test_everything_emptied_leaves_the_unknown_members_alone(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    before = connection.execute("SELECT ctid, * FROM warehouse.dim_customer WHERE customer_key = -1").fetchone()
    shop(*small_shop())
    shop(delivered("customers", 1), delivered("customers", 2), delivered("products", 1), lines(2), lines(3))
    standing = harness.contents(connection)
    assert (standing.customers, standing.products, standing.sales, standing.returns) == ([], [], [], [])
    after = connection.execute("SELECT ctid, * FROM warehouse.dim_customer").fetchall()
    assert after == [before]


# Refused


def test_a_staged_partition_that_is_gone_refuses_the_publish_and_a_rebuild_takes_what_is_left(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    shop(*small_shop())
    lake.path("stg_orders", date(2024, 1, 2)).unlink()
    with pytest.raises(PublishRefused, match=r"stg_orders lacks 1 partitions .*2024-01-02.*rebuild"):
        shop(assets=("fact_sales",))
    assert len(harness.contents(connection).sales) == 4
    assert rebuilt(warehouse_url, lake)["fact_sales"] == (0, 0, 4)
    assert [fact["order_id"] for fact in harness.contents(connection).sales] == ["o5"]
    assert [report.path for report in shop()] == ["nothing changed"] * 3


def test_rows_that_the_ledger_does_not_know_refuse_the_first_publish_and_a_rebuild_removes_them(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    connection.execute(
        "INSERT INTO warehouse.dim_product (product_key, product_id, effective_from, is_current, is_inferred)"
        " VALUES (7, 'p7', '2024-01-01', true, false)"
    )
    with pytest.raises(PublishRefused, match=r"dim_product holds rows that the ledger knows nothing of.*rebuild"):
        shop(*small_shop(), assets=("dim_product",))
    assert rebuilt(warehouse_url, lake)["dim_product"] == (1, 0, 1)
    assert [row["product_id"] for row in harness.contents(connection).products] == ["p1"]


def test_a_contract_that_changed_in_meaning_refuses_the_publish_until_a_rebuild(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    shop(*small_shop())
    harness.stage(lake, delivered("customers", 3, customer("c3")))
    with harness.contracts_of_the_cases():  # they overwrite what is tracked otherwise
        with pytest.raises(PublishRefused, match=r"contract of dim_customer has changed in meaning.*rebuild"):
            shop(assets=("dim_customer",))
        assert rebuilt(warehouse_url, lake)["dim_customer"] == (1, 0, 0)
        assert [report.path for report in shop(assets=("dim_customer",))] == ["nothing changed"]


def test_partitions_that_another_contract_staged_are_refused(
    shop: Callable[..., list[Published]], warehouse_url: str, lake: Lake
) -> None:
    harness.stage(lake, delivered("products", 1, product("p1")))
    day = date(2024, 1, 1)
    stamp = lake.stamp("stg_products", day)
    assert stamp is not None
    older = replace(stamp, contract="older", content="older")
    lake.promote([lake.write_aside("stg_products", day, lake.read("stg_products", day), older)])
    with pytest.raises(PublishRefused, match=r"1 partitions of stg_products .*2024-01-01.*materialize stg_products"):
        shop(assets=("dim_product",))
    with pytest.raises(PublishRefused, match="another contract"):
        rebuild(warehouse_url, lake, run_id="run", timezone="UTC")


def test_rejected_rows_that_are_lost_refuse_the_publish_that_needs_their_keys(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, lake: Lake
) -> None:
    first, second = (
        full(1, customer("c1"), customer("c2")),
        full(2, customer("c1"), quarantined=({"customer_id": "c2"},)),
    )
    shop(first)
    harness.stage(lake, second)
    stamp = lake.stamp("stg_customers", second.day)
    assert stamp is not None
    lake.quarantine_path("stg_customers", second.day, stamp).unlink()
    with pytest.raises(PublishRefused, match=r"rejected rows of stg_customers, 2024-01-02, are gone"):
        shop(assets=("dim_customer",))
    lake.path("stg_customers", second.day).unlink()  # as the message says
    shop(second)
    assert [row["is_current"] for row in harness.contents(connection).customers] == [True, True]


# Rebuild


def tampered(connection: psycopg.Connection) -> None:
    """What hands do to tables, one of each."""
    for statement in (
        "UPDATE warehouse.fact_sales SET customer_key = -1 WHERE order_id = 'o1'",
        "UPDATE warehouse.fact_sales SET profit = 0 WHERE order_id = 'o5'",
        "DELETE FROM warehouse.fact_sales WHERE order_id = 'o3'",
        # A line that stands twice, over both tables and over two dates.
        "INSERT INTO warehouse.fact_returns SELECT * FROM (SELECT sale_key + 100, date_key, customer_key, product_key,"
        " order_id, line_number, order_ts, -quantity, unit_price, discount_amount, -total_amount, profit, delivered_on,"
        " updated_at, created_at FROM warehouse.fact_sales WHERE order_id IN ('o1', 'o5')) AS doubled",
        "INSERT INTO warehouse.fact_sales SELECT sale_key + 200, 20240105, customer_key, product_key, order_id,"
        " line_number, order_ts, quantity, unit_price, discount_amount, total_amount, profit, delivered_on, updated_at,"
        " created_at FROM warehouse.fact_sales WHERE order_id = 'o5'",
        "UPDATE warehouse.dim_customer SET segment = '' WHERE customer_id = 'c1' AND is_current",
        "INSERT INTO warehouse.dim_customer (customer_key, customer_id, effective_from, effective_to, is_current,"
        " is_inferred) VALUES (900, 'c1', '2023-01-01', '2023-02-01', false, false),"
        " (901, 'c7', '2023-01-01', null, true, false)",
        "INSERT INTO warehouse.dim_product (product_key, product_id, effective_from, is_current, is_inferred)"
        " VALUES (902, 'p7', '0001-01-01', true, true)",
        "DELETE FROM warehouse.dim_date WHERE date_key = 20240704",
        "UPDATE warehouse.dim_date SET is_holiday = true, holiday_name = 'mine' WHERE date_key = 20240102",
    ):
        connection.execute(statement)


def rows_with_keys(connection: psycopg.Connection) -> dict[str, list[Any]]:
    return {
        table: sorted(
            connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("warehouse", table))), key=repr
        )
        for table in harness.TABLES
    }


def test_a_rebuild_mends_what_hands_did_and_keeps_keys_and_all_else(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    shop(*small_shop())
    right, before = harness.contents(connection), harness.keys(connection)
    calendar = rows_with_keys(connection)["dim_date"]
    tampered(connection)
    wrong = rows_with_keys(connection)

    verified = rebuilt(warehouse_url, lake, verify=True)
    assert rows_with_keys(connection) == wrong, "--verify keeps nothing"

    done = rebuilt(warehouse_url, lake)
    assert done == verified, "what --verify reports is what a rebuild does"
    assert done == {
        "dim_customer": (0, 1, 2),
        "dim_product": (0, 0, 1),
        # o3 again; o1 and o5 mended; the doubles of o1 and o5 (two) gone.
        "fact_sales": (1, 2, 3),
        "dim_date": (1, 1, 0),
    }
    assert harness.contents(connection) == right
    assert harness.keys(connection) == before
    assert rows_with_keys(connection)["dim_date"] == calendar
    untouched = harness.fingerprints(connection)
    assert rebuilt(warehouse_url, lake) == NO_DIFFERENCE
    assert harness.fingerprints(connection) == untouched, "a rebuild of what is right writes nothing"


def test_verify_tells_row_by_row_what_differs_by_natural_keys_and_names_of_columns(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    shop(*small_shop())
    assert differing(warehouse_url, lake) == {}
    tampered(connection)
    assert differing(warehouse_url, lake) == {
        "dim_date": {
            ("inserted", date(2024, 7, 4)): (),
            ("updated", date(2024, 1, 2)): ("is_holiday", "holiday_name"),
        },
        "dim_customer": {
            ("updated", "c1", date(2024, 1, 2)): ("segment",),
            ("deleted", "c1", date(2023, 1, 1)): (),
            ("deleted", "c7", date(2023, 1, 1)): (),
        },
        "dim_product": {("deleted", "p7", INFERRED_FROM): ()},
        "fact_sales": {
            ("inserted", "o3", 1): (),
            ("updated", "o1", 1): ("customer_key",),
            ("updated", "o5", 1): ("profit",),
            ("deleted", "o5", 1): (),
        },
        "fact_returns": {("deleted", "o1", 1): (), ("deleted", "o5", 1): ()},
    }
    rebuilt(warehouse_url, lake)
    assert differing(warehouse_url, lake) == {}


def test_verify_counts_all_and_shows_a_few_and_no_value_of_a_person(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    shop(delivered("customers", 1, *(customer(f"c{n:02}", email=f"{n}@example.org") for n in range(30))))
    connection.execute("UPDATE warehouse.dim_customer SET email = 'mine@example.org' WHERE customer_id LIKE 'c%'")
    found = rebuild(warehouse_url, lake, run_id="rebuild", timezone="UTC", verify=True)[0].differences
    assert [(one.table, one.inserted, one.updated, one.deleted) for one in found] == [("dim_customer", 0, 30, 0)]
    assert [example.key["customer_id"] for example in found[0].examples] == [f"c{n:02}" for n in range(10)]
    assert {example.columns for example in found[0].examples} == {("email",)}
    assert "example.org" not in repr(found)


def differing(url: str, lake: Lake) -> dict[str, dict[tuple[Any, ...], tuple[str, ...]]]:
    """The examples of `rebuild --verify` by table; there are as many as are counted."""
    found = {}
    for report in rebuild(url, lake, run_id="rebuild", timezone="UTC", verify=True):
        for one in report.differences:
            assert len(one.examples) == one.inserted + one.updated + one.deleted
            examples = {(example.change, *example.key.values()): example.columns for example in one.examples}
            found |= {one.table: examples} if examples else {}
    return found


@pytest.mark.parametrize(
    "emptied",
    [
        "fact_sales SET profit",
        "fact_returns SET profit",
        "dim_customer SET segment",
        "dim_product SET cost",
    ],
)
def test_a_rebuild_mends_what_hands_emptied(
    emptied: str,
    shop: Callable[..., list[Published]],
    connection: psycopg.Connection,
    warehouse_url: str,
    lake: Lake,
) -> None:
    """By a comparison that takes null for no value of its own it would pass for equal."""
    shop(*small_shop())
    right = harness.contents(connection)
    connection.execute(f"UPDATE warehouse.{emptied} = NULL")
    assert harness.contents(connection) != right
    rebuilt(warehouse_url, lake)
    assert harness.contents(connection) == right


def test_a_rebuild_closes_the_version_that_hands_opened_before_it_opens_the_one_that_they_closed(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    shop(*small_shop())
    right = harness.contents(connection)
    for current, end in (("false", "'2024-01-09'"), ("true", "NULL")):
        connection.execute(
            f"UPDATE warehouse.dim_customer SET is_current = {current}, effective_to = {end}"
            f" WHERE customer_id = 'c1' AND is_current <> {current}"
            f" AND effective_from = '{'2024-01-01' if end == 'NULL' else '2024-01-02'}'"
        )
    assert harness.contents(connection) != right
    assert rebuilt(warehouse_url, lake)["dim_customer"] == (0, 2, 0)
    assert harness.contents(connection) == right


def test_a_rebuild_mends_facts_that_name_a_member_by_mistake_and_leaves_no_inferred_member(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    shop(*small_shop())
    right = harness.contents(connection)
    connection.execute(
        "INSERT INTO warehouse.dim_product (product_key, product_id, effective_from, is_current, is_inferred)"
        " VALUES (902, 'p7', '2024-01-01', true, false)"
    )
    connection.execute("UPDATE warehouse.fact_sales SET product_key = 902")
    rebuilt(warehouse_url, lake)
    assert harness.contents(connection) == right


# Crashes


def test_a_publish_that_dies_before_its_commit_is_caught_up_by_the_next(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(*small_shop())
    before = rows_with_keys(connection), harness.ledger_counts(connection)

    def power_cut(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "record", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            shop(lines(2, line("o1", 1, quantity=5)), assets=("fact_sales",))
    assert (rows_with_keys(connection), harness.ledger_counts(connection)) == before
    assert shop(lines(4), assets=("fact_sales",))[0].partitions == (date(2024, 1, 2), date(2024, 1, 4))
    assert [(fact["order_id"], fact["quantity"]) for fact in harness.contents(connection).sales] == [
        ("o1", 5),
        ("o5", 1),
    ]


def test_a_crash_between_commit_and_tidying_leaves_files_that_the_next_publish_removes(
    shop: Callable[..., list[Published]], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(*small_shop())
    with monkeypatch.context() as patch:
        patch.setattr(staged, "forget_formers", lambda *_: None)
        shop(lines(2, line("o1", 1)))
    assert len(lake.formers("stg_orders")) == 1
    shop()
    assert lake.formers("stg_orders") == []


@pytest.mark.parametrize("harm", ["gone", "broken"])
def test_a_former_file_that_is_lost_costs_time_and_no_row(
    harm: str, shop: Callable[..., list[Published]], connection: psycopg.Connection, lake: Lake
) -> None:
    shop(*small_shop())
    for delivery in (lines(2, line("o1", 1)), delivered("customers", 2)):
        harness.stage(lake, delivery)
    for path in (*lake.formers("stg_orders"), *lake.formers("stg_customers")):
        if harm == "gone":
            path.unlink()
        else:
            path.unlink()
            path.write_bytes(b"PAR1")
    assert [report.path for report in shop()] == ["exact", "nothing changed", "exact"]
    standing = harness.contents(connection)
    assert [fact["order_id"] for fact in standing.sales] == ["o1", "o5"]
    assert [row["customer_id"] for row in standing.customers] == ["c1", "c2"], "the inferred member c9 is gone"


def test_a_file_replaced_twice_between_publishes_still_tells_which_keys_it_was_about(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, lake: Lake
) -> None:
    shop(*small_shop())
    harness.stage(lake, lines(2, line("o7", 1)))
    harness.stage(lake, lines(2, line("o8", 1)))
    assert shop(assets=("fact_sales",))[0].path == "exact"
    assert [fact["order_id"] for fact in harness.contents(connection).sales] == ["o5", "o8"]
    assert lake.formers("stg_orders") == []


@pytest.mark.parametrize("torn", [False, True], ids=["read as it was", "torn"])
def test_staging_that_is_replaced_while_it_is_read_is_read_again(
    torn: bool,
    shop: Callable[..., list[Published]],
    connection: psycopg.Connection,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop(*small_shop())
    derive, times = facts.derive, []

    def replaced_meanwhile(*arguments: Any) -> Any:
        derived = derive(*arguments)
        times.append(1)
        if len(times) == 1:
            harness.stage(lake, lines(4, line("o9", 1, quantity=2)))
            if torn:
                raise pl.exceptions.ComputeError("out of specification")
        return derived

    monkeypatch.setattr(facts, "derive", replaced_meanwhile)
    shop(lines(4, line("o9", 1)), assets=("fact_sales",))
    assert len(times) == 2
    assert [fact["quantity"] for fact in harness.contents(connection).sales if fact["order_id"] == "o9"] == [2]
    with monkeypatch.context() as patch:
        patch.setattr(facts, "derive", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shop(lines(5), assets=("fact_sales",))
    monkeypatch.setattr(staged, "unchanged_since", lambda *_: False)
    with pytest.raises(SourceUnavailable, match="replaced again and again"):
        shop(lines(5), assets=("fact_sales",))


# One writer, many readers


def test_a_second_writer_waits_and_says_for_whom(
    shop: Callable[..., list[Published]], warehouse_url: str, lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    harness.stage(lake, delivered("products", 1, product("p1")))
    with psycopg.connect(warehouse_url, application_name="the first writer") as first:
        ledger.take_writer_lock(first)
        with caplog.at_level(logging.INFO):
            second = threading.Thread(target=shop, kwargs={"assets": ("dim_product",)})
            second.start()
            second.join(timeout=1)
            assert second.is_alive(), "it waits"
        first.rollback()
        second.join(timeout=30)
        assert not second.is_alive()
    assert "being written by the first writer" in caplog.text
    assert [report.path for report in shop(assets=("dim_product",))] == ["nothing changed"]


def test_a_writer_that_waits_too_long_gives_up_in_one_sentence(
    shop: Callable[..., list[Published]], warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "WAIT_LIMIT_SECONDS", 0.1)
    with psycopg.connect(warehouse_url, application_name="the first writer") as first:
        ledger.take_writer_lock(first)
        with pytest.raises(PlatformError, match=r"being written by the first writer for more than .* run again"):
            shop(assets=("dim_product",))


def test_a_reader_in_an_older_snapshot_sees_the_tables_of_before(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    shop(*small_shop())
    with psycopg.connect(warehouse_url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT 1")  # opens the transaction that both looks are in
        before = harness.contents(reader)
        shop(
            delivered("customers", 1),
            delivered("products", 1, product("p1", cost="7")),
            lines(2, line("o1", 1, order_ts=business(date(2022, 6, 1)))),
        )
        connection.execute("UPDATE warehouse.fact_sales SET profit = 0")
        rebuilt(warehouse_url, lake)
        assert harness.contents(reader) == before
    assert harness.contents(connection) != before


# The last nets: whatever the rules in code make, nonsense is not committed


def test_versions_that_overlap_are_refused_before_the_commit(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(*small_shop())
    before = rows_with_keys(connection)
    versions_of = dimensions.versions_of

    def never_ending_but_for_the_last(*arguments: Any, **named: Any) -> Any:
        made = versions_of(*arguments, **named)
        late = pl.when(pl.col("effective_to").is_not_null()).then(pl.lit(date(2024, 12, 31)))
        return replace(made, rows=made.rows.with_columns(effective_to=late))

    monkeypatch.setattr(dimensions, "versions_of", never_ending_but_for_the_last)
    with pytest.raises(PlatformError, match=r"2 versions of warehouse\.dim_customer would overlap"):
        shop(delivered("customers", 3, customer("c1", segment="c")), assets=("dim_customer",))
    assert rows_with_keys(connection) == before


def test_lines_that_would_stand_twice_over_two_dates_or_in_both_tables_are_refused_before_the_commit(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(*small_shop())
    before = rows_with_keys(connection)
    standing_lines = facts.standing_lines

    def stand_twice(tellings: pl.DataFrame) -> Any:
        told = standing_lines(tellings)
        again = (
            told.lines.with_columns(-pl.col("quantity", "total_amount")),
            told.lines.with_columns(order_ts=pl.col("order_ts") - timedelta(days=1)),
        )
        return replace(told, lines=pl.concat([told.lines, again[told.lines.height % 2]]))

    monkeypatch.setattr(facts, "standing_lines", stand_twice)
    for count in (1, 2):
        new = [line(f"n{number}", 1) for number in range(count)]
        with pytest.raises(PlatformError, match=f"{count} order lines would stand twice in the facts"):
            shop(lines(4, *new), assets=("fact_sales",))
        assert rows_with_keys(connection) == before


# The calendar


def test_the_calendar_has_the_years_of_start_partitions_and_facts_whatever_came_before(
    shop: Callable[..., list[Published]], connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    def calendar(deliveries: list[Delivery]) -> list[int]:
        shop(*deliveries)
        return harness.years(connection)

    assert publish_calendar(warehouse_url, staged_days(lake), START) == 366
    assert harness.years(connection) == [2024]
    assert publish_calendar(warehouse_url, staged_days(lake), START) == 0
    assert calendar([delivered("customers", date(2026, 3, 1), customer("c1"))]) == [2024, 2025, 2026]
    typo = line("o1", 1, order_ts=business(date(2019, 5, 5)))
    assert calendar([lines(2, typo)]) == list(range(2019, 2027))
    assert calendar([lines(2, line("o1", 1))]) == [2024, 2025, 2026]
    assert publish_calendar(warehouse_url, staged_days(lake), START) == 0
    lake.path("stg_customers", date(2026, 3, 1)).unlink()
    rebuilt(warehouse_url, lake)
    assert harness.years(connection) == [2024]


def test_the_calendar_of_another_country_is_written_in_place(
    shop: Callable[..., list[Published]],
    connection: psycopg.Connection,
    warehouse_url: str,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop(*small_shop())
    query = "SELECT full_date FROM warehouse.dim_date WHERE is_holiday AND year = 2024 ORDER BY 1"
    assert (date(2024, 7, 4),) in connection.execute(query).fetchall()
    monkeypatch.setenv("DATA_PLATFORM_HOLIDAYS", "NL")
    settings.cache_clear()
    assert 0 < publish_calendar(warehouse_url, staged_days(lake), START) < 60
    holidays = connection.execute(query).fetchall()
    assert (date(2024, 4, 27),) in holidays
    assert (date(2024, 7, 4),) not in holidays


# What a publish reports


def test_a_publish_reports_what_it_wrote_and_the_ledger_balances(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    customers, products, orders = shop(*small_shop())
    assert (customers.inserted, customers.counts) == (3, {"version": 3})
    assert (products.inserted, products.counts) == (1, {"version": 1})
    assert (orders.inserted, orders.updated, orders.deleted) == (5, 0, 0)
    assert orders.counts == {"return": 1, "sale": 4, "tombstone": 1}
    assert orders.partitions == (date(2024, 1, 2), date(2024, 1, 3))
    (moved,) = shop(delivered("products", 1, product("p1", cost="7")), assets=("dim_product",))
    assert (moved.inserted, moved.updated, moved.rekeyed) == (0, 1, 5)
    assert moved.wrote
    assert moved.stale_dates == 3
    stale = connection.execute("SELECT DISTINCT date_key FROM platform.mart_stale ORDER BY 1").fetchall()
    assert stale == [(20231231,), (20240101,), (20240102,)]
    balance = connection.execute(
        "SELECT sum(rows_staged), sum(sales + returns + tombstones + superseded), sum(sum_quantity)"
        " FROM platform.load_ledger WHERE asset = 'fact_sales'"
    ).fetchone()
    assert balance == (6, 6, 3)


def test_an_inferred_member_keeps_its_key_when_it_becomes_the_first_version_and_back(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    def key() -> list[Any]:
        return connection.execute(
            "SELECT customer_key, is_inferred FROM warehouse.dim_customer WHERE customer_id = 'c9'"
            " ORDER BY effective_from"
        ).fetchall()

    shop(*small_shop())
    ((inferred, _),) = key()
    placed = harness.fingerprints(connection, ["fact_sales"])
    shop(delivered("customers", 4, customer("c9", segment="x")), delivered("customers", 5, customer("c9", segment="y")))
    assert key()[0] == (inferred, False)
    assert len(key()) == 2
    shop(delivered("customers", 4), delivered("customers", 5))
    assert key() == [(inferred, True)]
    assert harness.fingerprints(connection, ["fact_sales"]) == placed, "no fact had to move"


def test_a_cost_that_was_missing_and_is_told_in_place_gives_the_facts_their_profit_and_marks_their_dates(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    shop(delivered("products", 1, product("p1")), lines(2, line("o1", 1), line("o2", 1, quantity=-1)))
    connection.execute("DELETE FROM platform.mart_stale")
    shop(delivered("products", 1, product("p1", cost="6")))
    standing = harness.contents(connection)
    assert [fact["profit"] for fact in standing.sales + standing.returns] == [Decimal(4), Decimal(-4)]
    assert connection.execute("SELECT DISTINCT date_key FROM platform.mart_stale").fetchall() == [(20240102,)]


def test_an_attribute_that_is_told_in_place_marks_the_dates_of_the_facts_that_show_it(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    shop(delivered("customers", 1, customer("c1")), lines(2, line("o1", 1)))
    connection.execute("DELETE FROM platform.mart_stale")
    shop(delivered("customers", 1, customer("c1", segment="a")))
    assert connection.execute("SELECT DISTINCT date_key FROM platform.mart_stale").fetchall() == [(20240102,)]


def test_a_member_that_a_full_delivery_deleted_is_back_when_changes_take_that_deliverys_place(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    """What a full delivery lacked it has spoken of as well, though no row of it says so."""
    shop(delivered("customers", 1, customer("c1"), customer("c2")))
    shop(full(2, customer("c1")))
    assert [row["effective_to"] for row in harness.contents(connection).customers] == [None, day(2)]
    shop(delivered("customers", 2, customer("c1")))
    assert [row["effective_to"] for row in harness.contents(connection).customers] == [None, None]


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
def test_a_change_between_two_full_deliveries_that_lack_its_key_is_ended_by_the_second(
    at_once: bool, shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    told = (
        delivered("customers", 1, customer("c1", updated_at=at(2, 12))),
        full(2, customer("c2")),
        full(3, customer("c2")),
    )
    for deliveries in [told] if at_once else [(delivery,) for delivery in told]:
        shop(*deliveries)
    periods = [(row["effective_from"], row["effective_to"]) for row in harness.contents(connection).customers]
    assert periods == [(day(2), day(3)), (day(2), None)]


def test_a_source_that_never_tells_updated_at_repeats_itself_without_a_trace_on_the_fast_path(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    never = frozenset({"updated_at"})
    shop(lines(2, line("o1", 1), line("o2", 1, quantity=-1), unknown=never), assets=("fact_sales",))
    before = harness.contents(connection), harness.fingerprints(connection)
    again = [line("o1", 1), line("o2", 1, quantity=-1)]
    assert [report.path for report in shop(lines(3, *again, unknown=never), assets=("fact_sales",))] == ["append"]
    assert (harness.contents(connection), harness.fingerprints(connection)) == before
    shop(lines(4, line("o1", 1, quantity=2), again[1], unknown=never), assets=("fact_sales",))
    standing = harness.contents(connection)
    assert [fact["delivered_on"] for fact in standing.sales + standing.returns] == [day(4), day(2)]


def test_members_that_returns_alone_name_are_re_keyed_and_inferred_again(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    refund = line("o1", 1, customer_id="c9", product_id="p9", quantity=-1)
    told = delivered("customers", 1, customer("c9")), delivered("products", 1, product("p9", cost="6"))
    shop(*told, lines(2, refund))
    shop(delivered("customers", 2, customer("c9", segment="a")), delivered("products", 2, product("p9", cost="7")))
    (fact,) = harness.contents(connection).returns
    assert (fact["customer"], fact["product"], fact["profit"]) == (("c9", day(2)), ("p9", day(2)), Decimal(-3))
    shop(*(delivered(entity, n) for entity in ("customers", "products") for n in (1, 2)))
    (fact,) = harness.contents(connection).returns
    assert (fact["customer"], fact["product"], fact["profit"]) == (("c9", INFERRED_FROM), ("p9", INFERRED_FROM), None)
    shop(lines(2))
    assert (harness.contents(connection).customers, harness.contents(connection).products) == ([], [])


@pytest.mark.parametrize(
    ("deliveries", "expected"),
    [
        (
            [full(1, customer("c1", segment="a")), full(2, customer("c1", segment="b"), customer("c1", segment="a"))],
            [("a", day(1), None)],
        ),
        (
            [full(1, customer("c1", segment="b"), customer("c1", segment="a")), full(2, customer("c1", segment="b"))],
            [("a", day(1), day(2)), ("b", day(2), None)],
        ),
        (
            [
                delivered("customers", 1, customer("c1", segment="b", updated_at=at(2, 9))),
                full(2, customer("c1", segment="a")),
                full(3, customer("c1", segment="a")),
            ],
            [("b", day(2), day(3)), ("a", day(3), None)],
        ),
    ],
    ids=["twice in the later", "twice in the former", "a change of later that day between them"],
)
def test_what_two_full_deliveries_say_alike_is_no_repeat_where_more_was_said(
    deliveries: list[Delivery],
    expected: list[tuple[Any, ...]],
    shop: Callable[..., list[Published]],
    connection: psycopg.Connection,
) -> None:
    for delivery in deliveries:
        shop(delivery, assets=("dim_customer",))
    versions = harness.contents(connection).customers
    assert [(row["segment"], row["effective_from"], row["effective_to"]) for row in versions] == expected


def test_a_full_delivery_that_arrives_after_an_empty_later_one_deletes_what_it_lacks(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    """No row that is published has a later moment, and yet it is no append."""
    shop(full(1, customer("c1"), customer("c2")))
    shop(full(3))
    shop(full(2, customer("c1")))
    ends = [row["effective_to"] for row in harness.contents(connection).customers]
    assert ends == [None, date(2024, 1, 2)]


def test_whole_orders_and_their_quarantined_lines_are_published_from_the_lake(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    shop(whole_orders(2, line("o1", 1), line("o1", 2), line("o1", 3)))
    shop(whole_orders(3, line("o1", 1), quarantined=({"order_id": "o1", "line_number": 2},)))
    assert [fact["line_number"] for fact in harness.contents(connection).sales] == [1, 2]


def test_a_year_that_was_built_beside_the_table_has_statistics(
    shop: Callable[..., list[Published]], connection: psycopg.Connection
) -> None:
    """Without them the publish after a first load of two million lines took eight seconds to find a day's orders."""
    shop(*small_shop())
    query = "SELECT attname FROM pg_stats WHERE schemaname = 'warehouse' AND tablename = 'fact_sales_2024'"
    assert ("order_id",) in connection.execute(query).fetchall()


@pytest.mark.parametrize(
    "wrong", [{"rows_delivered": 9}, {"rows_staged": 2, "rows_delivered": 2}, {"totals": {"quantity": "99"}}]
)
def test_rows_and_control_totals_that_do_not_balance_stop_the_publish(
    shop: Callable[..., list[Published]], warehouse_url: str, lake: Lake, wrong: dict[str, Any]
) -> None:
    shop(lines(1, line("o1", 1)), assets=())
    stamp = lake.stamp("stg_orders", START)
    assert stamp is not None
    rows = lake.read("stg_orders", START)
    lake.promote([lake.write_aside("stg_orders", START, rows, replace(stamp, **wrong))])
    with pytest.raises(RuleBroken, match="not every row is accounted for"):
        publish(warehouse_url, lake, "fact_sales", run_id="x", timezone="UTC")
