"""One writer at a time, all or nothing: two writers at once, writers that are killed, commits that fail.

Nothing under test knows of it: writers are held up by locks that a test holds, by triggers of its own and by signals.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from data_platform.contracts import MARTS
from data_platform.errors import PlatformError
from data_platform.lake import Lake
from data_platform.warehouse import ledger
from data_platform.warehouse.calendar import staged_days
from data_platform.warehouse.publish import publish, publish_calendar, publish_in, rebuild
from data_platform_tests.cases import CASES, Case, business, customer, delivered, line, lines, product, tombstone
from data_platform_tests.conftest import throw_away
from data_platform_tests.reference import Delivery
from data_platform_tests.warehouse import harness

REPOSITORY = Path(__file__).resolve().parents[2]
START = date(2024, 1, 1)
DIMENSIONS, FACTS = ("dim_customer", "dim_product"), ("fact_sales",)
ALL = (*DIMENSIONS, *FACTS)
PATIENCE_SECONDS = 60
PLATFORM_TABLES = ("load_ledger", "mart_stale", "settings")


@pytest.fixture
def connection(warehouse_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def shared_url(server: str, template: str) -> Iterator[str]:
    with throw_away(server, template) as url:
        yield url


def publish_all(url: str, lake: Lake, assets: tuple[str, ...] = ALL, timezone: str = "UTC") -> None:
    for asset in assets:
        publish(url, lake, asset, run_id=asset, timezone=timezone)


def shop_of_yesterday() -> list[Delivery]:
    return [
        delivered("customers", 1, customer("c1", segment="a"), customer("c2")),
        delivered("products", 1, product("p1", cost="6")),
        lines(2, line("o1", 1), line("o2", 1, customer_id="c9"), line("o3", 1), line("o4", 1, quantity=-1)),
    ]


def shop_of_today(year: int = 2023) -> list[Delivery]:
    """Touches everything: a new version, a change in place, new members, a new year, both fact tables, removals."""
    return [
        delivered("customers", 2, customer("c1", segment="b"), customer("c2", deleted=True)),
        delivered("products", 1, product("p1", cost="7")),
        lines(2, line("o1", 1, quantity=2), line("o2", 1, customer_id="c8"), line("o4", 1, quantity=-2)),
        lines(3, line("o5", 1, order_ts=business(date(year, 6, 1))), tombstone("o3", 1)),
    ]


def everything(connection: psycopg.Connection) -> dict[str, list[Any]]:
    """Every row of every table that a publish may write, with its place and the transactions that made and ended it.

    xmax is left out: the rows that a fact points at bear the transactions that locked them.
    """
    names = [*(("warehouse", table) for table in harness.TABLES), *(("platform", table) for table in PLATFORM_TABLES)]
    found = {}
    for name in names:
        query = sql.SQL("SELECT t.tableoid::regclass::text, t.ctid::text, t.xmin::text, t.* FROM {} AS t")
        found[".".join(name)] = sorted(connection.execute(query.format(sql.Identifier(*name))), key=repr)
    return found


@contextmanager
def held_up(connection: psycopg.Connection) -> Iterator[None]:
    """A writer that has the writer lock gets no further than to the ledger, until the block ends."""
    with connection.transaction():
        connection.execute("LOCK TABLE platform.load_ledger IN ACCESS EXCLUSIVE MODE")
        yield


def wait_until(connection: psycopg.Connection, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def waiting(connection: psycopg.Connection, kind: str) -> int:
    """How many sessions of this database wait for a lock of this kind (advisory, relation)."""
    row = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = %s"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        [kind],
    ).fetchone()
    assert row is not None
    return row[0]


# Two writers at once


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_writers_at_once_give_the_expected_warehouse(case: Case, shared_url: str, lake: Lake) -> None:
    """One publishes the dimensions and the other the facts, in threads with connections of their own."""
    for delivery in case.deliveries:
        harness.stage(lake, delivery, case.timezone)
    both_are_there = threading.Barrier(2)

    def writer(assets: tuple[str, ...]) -> None:
        both_are_there.wait(timeout=PATIENCE_SECONDS)
        publish_all(shared_url, lake, assets, case.timezone)

    with harness.contracts_of_the_cases(), psycopg.connect(shared_url, autocommit=True) as connection:
        harness.empty(connection)
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(writer, assets) for assets in (DIMENSIONS, FACTS)]:
                done.result(timeout=PATIENCE_SECONDS)
        standing, expected = harness.contents(connection), case.expected
        assert standing.customers == expected.customers
        assert standing.products == expected.products
        assert standing.sales == expected.sales
        assert standing.returns == expected.returns
        assert harness.ledger_counts(connection) == expected.counts


def test_a_writer_that_waited_sees_what_the_one_before_it_wrote(
    connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    for delivery in (delivered("customers", 1, customer("c9", segment="a")), lines(2, line("o1", 1, customer_id="c9"))):
        harness.stage(lake, delivery)
    with psycopg.connect(warehouse_url) as first, ThreadPoolExecutor(1) as pool:
        ledger.take_writer_lock(first)
        second = pool.submit(publish_all, warehouse_url, lake, FACTS)
        wait_until(connection, lambda: waiting(connection, "advisory") == 1)
        publish_in(first, lake, "dim_customer", run_id="first", timezone="UTC")
        first.commit()
        second.result(timeout=PATIENCE_SECONDS)
    assert [fact["customer"] for fact in harness.contents(connection).sales] == [("c9", START)]
    assert len(harness.contents(connection).customers) == 1, "no inferred member beside the version"


def test_a_writer_that_waited_publishes_what_is_staged_when_its_turn_comes(
    connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    harness.stage(lake, lines(2, line("o1", 1)))
    with psycopg.connect(warehouse_url) as first, ThreadPoolExecutor(1) as pool:
        ledger.take_writer_lock(first)
        second = pool.submit(publish_all, warehouse_url, lake, FACTS)
        wait_until(connection, lambda: waiting(connection, "advisory") == 1)
        harness.stage(lake, lines(2, line("o1", 1, quantity=2)))
        first.rollback()
        second.result(timeout=PATIENCE_SECONDS)
    assert [fact["quantity"] for fact in harness.contents(connection).sales] == [2]
    assert publish(warehouse_url, lake, "fact_sales", run_id="again", timezone="UTC").path == "nothing changed"


# Two processes

WRITER = """
import logging, sys
from pathlib import Path
from data_platform.lake import Lake
from data_platform.warehouse.publish import publish
logging.basicConfig(level=logging.INFO, format="%(message)s")
url, lake, asset, run = sys.argv[1:]
publish(url, Lake(Path(lake)), asset, run_id=run, timezone="UTC")
"""


@contextmanager
def writer_process(url: str, lake: Lake, asset: str, run: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that publishes `asset`; it is gone when the block ends."""
    place = lake.path("stg_orders", START).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", WRITER, url, str(place), asset, run]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("fate", ["lives", "is killed"])
def test_of_two_processes_the_second_waits_and_says_for_whom_whether_the_first_lives_or_is_killed(
    fate: str, connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    for delivery in shop_of_yesterday():
        harness.stage(lake, delivery)
    with writer_process(warehouse_url, lake, "dim_customer", "first") as first:
        with held_up(connection):
            # It has the lock when it waits for the ledger; then its process stands still, and its backend goes on.
            wait_until(connection, lambda: waiting(connection, "relation") == 1)
            first.send_signal(signal.SIGSTOP)
        with writer_process(warehouse_url, lake, "fact_sales", "second") as second:
            wait_until(connection, lambda: waiting(connection, "advisory") == 1)
            assert second.poll() is None
            assert harness.contents(connection).sales == []
            first.send_signal(signal.SIGCONT if fate == "lives" else signal.SIGKILL)
            said = second.communicate(timeout=PATIENCE_SECONDS)[1]
            assert second.returncode == 0, said
            assert "being written by data-platform dim_customer (run first): waiting for it" in said
        assert first.wait(timeout=PATIENCE_SECONDS) == (0 if fate == "lives" else -signal.SIGKILL)
    standing = harness.contents(connection)
    assert [fact["order_id"] for fact in standing.sales] == ["o1", "o2", "o3"]
    assert [row["is_inferred"] for row in standing.customers] == (
        [False, False, True] if fate == "lives" else [True, True]
    )
    publish_all(warehouse_url, lake)
    assert [(row["customer_id"], row["is_inferred"]) for row in harness.contents(connection).customers] == [
        ("c1", False),
        ("c2", False),
        ("c9", True),
    ]


# Until the commit


def at_commit(connection: psycopg.Connection, table: str, body: str) -> None:
    """Have Postgres run `body` (PL/pgSQL) in every commit of a transaction that wrote to `table`."""
    name = f"at_commit_{table.replace('.', '_')}"
    connection.execute(
        f"CREATE FUNCTION public.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
    )
    connection.execute(
        f"CREATE CONSTRAINT TRIGGER {name} AFTER INSERT OR UPDATE OR DELETE ON {table}"
        f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.{name}()"
    )


def test_whoever_writes_to_the_star_has_the_lock_until_the_commit(
    connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    held = f"""
        IF NOT EXISTS (
            SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()
            AND (classid::bigint << 32) + objid::bigint = {ledger.WRITER_LOCK}
        ) THEN RAISE EXCEPTION 'a commit without the writer lock'; END IF;
    """
    for table in ("platform.load_ledger", "warehouse.dim_date", "warehouse.dim_customer", "warehouse.dim_product"):
        at_commit(connection, table, held)
    with pytest.raises(psycopg.errors.RaiseException, match="without the writer lock"):
        connection.execute("UPDATE warehouse.dim_customer SET segment = 'x'")
    publish_calendar(warehouse_url, staged_days(lake), START)
    for deliveries in (shop_of_yesterday(), shop_of_today()):
        for delivery in deliveries:
            harness.stage(lake, delivery)
        publish_all(warehouse_url, lake)
    rebuild(warehouse_url, lake, run_id="rebuild", timezone="UTC")


def test_all_that_a_publish_writes_is_one_transaction(
    connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    """Both fact tables, inferred members, the years, the marks of stale marts and the ledger bear the same number."""
    for delivery in shop_of_yesterday():
        harness.stage(lake, delivery)
    publish_all(warehouse_url, lake)
    for delivery in shop_of_today():
        harness.stage(lake, delivery)
    for asset in ALL:
        before = everything(connection)
        publish(warehouse_url, lake, asset, run_id="run", timezone="UTC")
        written = {
            table: {row[2] for row in rows if row not in before[table]}
            for table, rows in everything(connection).items()
        }
        touched = {"platform.load_ledger", "platform.mart_stale"}
        touched |= {f"warehouse.{asset}"} if asset in DIMENSIONS else {"warehouse.fact_returns", "warehouse.dim_date"}
        touched |= {"warehouse.fact_sales", "warehouse.dim_customer"} if asset != "dim_product" else set()
        assert {table for table, numbers in written.items() if numbers} >= touched
        assert len(set().union(*written.values())) == 1, written
    assert set(MARTS) == {row[0] for row in connection.execute("SELECT DISTINCT mart FROM platform.mart_stale")}


@pytest.mark.parametrize("asset", ALL)
def test_a_publish_whose_commit_fails_leaves_everything_as_it_was(
    asset: str, connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    for delivery in shop_of_yesterday():
        harness.stage(lake, delivery)
    publish_all(warehouse_url, lake)
    for delivery in shop_of_today():
        harness.stage(lake, delivery)
    before, formers = everything(connection), len(lake.formers("stg_orders"))
    at_commit(connection, "platform.load_ledger", "RAISE EXCEPTION 'the power fails';")
    with pytest.raises(PlatformError, match="nothing was published"):
        publish(warehouse_url, lake, asset, run_id="run", timezone="UTC")
    assert everything(connection) == before
    assert len(lake.formers("stg_orders")) == formers
    connection.execute("DROP TRIGGER at_commit_platform_load_ledger ON platform.load_ledger")
    publish_all(warehouse_url, lake)
    sales = harness.contents(connection).sales
    assert [(fact["order_id"], fact["quantity"]) for fact in sales] == [("o1", 2), ("o2", 1), ("o5", 1)]


def test_a_rebuild_whose_commit_fails_leaves_everything_as_it_was(
    connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    for delivery in shop_of_yesterday():
        harness.stage(lake, delivery)
    publish_all(warehouse_url, lake)
    for delivery in shop_of_today():
        harness.stage(lake, delivery)
    before = everything(connection)
    # By the last of its assets alone: were the others committed apart, they would stay.
    at_commit(
        connection,
        "platform.load_ledger",
        "IF NEW.asset = 'fact_sales' THEN RAISE EXCEPTION 'the power fails'; END IF;",
    )
    with pytest.raises(PlatformError, match="nothing was published"):
        rebuild(warehouse_url, lake, run_id="rebuild", timezone="UTC")
    assert everything(connection) == before


# Readers of a rebuild

LOOK = " UNION ALL ".join(
    f"SELECT '{table}', count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM warehouse.{table} AS t"
    for table in harness.TABLES
)
PAUSE = 5_207_114_902_003
# Where the rebuild stands still: once rows of the table were written, and at the very end.
PAUSES = (*harness.TABLES, "commit")


def pause_at(connection: psycopg.Connection, place: str) -> None:
    """Have every writer wait, after it has written to a table or within its commit, while PAUSE is held."""
    wait = f"PERFORM pg_advisory_xact_lock({PAUSE});"
    if place == "commit":
        at_commit(connection, "platform.load_ledger", wait)
        return
    connection.execute(
        f"CREATE FUNCTION public.pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {wait} RETURN NULL; END $$"
    )
    # Of facts the trigger is that of every year: they are copied into the year, not into the parent.
    connection.execute(
        f"CREATE TRIGGER pause AFTER INSERT OR UPDATE OR DELETE ON warehouse.{place}"
        " FOR EACH ROW EXECUTE FUNCTION public.pause()"
    )


@pytest.mark.parametrize(
    ("place", "year"), [*((place, 2023) for place in PAUSES), ("dim_customer", 2024), ("commit", 2024)]
)
def test_readers_of_a_rebuild_see_the_tables_of_before_until_it_is_committed_and_never_wait(
    place: str, year: int, connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    for delivery in shop_of_yesterday():
        harness.stage(lake, delivery)
    publish_all(warehouse_url, lake)
    publish_calendar(warehouse_url, staged_days(lake), START)
    before = connection.execute(LOOK).fetchall()
    for delivery in shop_of_today(year):
        harness.stage(lake, delivery)
    pause_at(connection, place)
    seen: set[tuple[Any, ...]] = set()
    ended = threading.Event()

    def look_again_and_again() -> None:
        with psycopg.connect(warehouse_url, autocommit=True, options="-c lock_timeout=2s") as reader:
            while not ended.is_set():
                seen.add(tuple(reader.execute(LOOK).fetchall()))

    impatient = "-c lock_timeout=2s"
    with (
        psycopg.connect(warehouse_url, options=impatient) as old,
        psycopg.connect(warehouse_url, options=impatient) as young,
        psycopg.connect(warehouse_url, options=impatient, autocommit=True) as plain,
        ThreadPoolExecutor(2) as pool,
    ):
        for reader in (old, young):
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert old.execute(LOOK).fetchall() == before
        connection.execute("SELECT pg_advisory_lock(%s)", [PAUSE])
        looking = pool.submit(look_again_and_again)
        try:
            rebuilding = pool.submit(rebuild, warehouse_url, lake, run_id="rebuild", timezone="UTC")
            wait_until(connection, lambda: waiting(connection, "advisory") == 1 or rebuilding.done())
            assert not rebuilding.done(), "it stands still"
            for reader in (old, young, plain):
                assert reader.execute(LOOK).fetchall() == before
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", [PAUSE])
        reports = {report.asset: report for report in rebuilding.result(timeout=PATIENCE_SECONDS)}
        after = plain.execute(LOOK).fetchall()
        for reader in (old, young):
            assert reader.execute(LOOK).fetchall() == before
        ended.set()
        looking.result(timeout=PATIENCE_SECONDS)
    assert seen <= {tuple(before), tuple(after)}
    unchanged = {table for (table, *now), (_, *then) in zip(after, before, strict=True) if now == then}
    assert unchanged == ({"dim_date"} if year == START.year else set()), "all other tables have changed"
    assert all(reports[asset].wrote for asset in ALL)
    years = connection.execute("SELECT relname FROM pg_class WHERE relname ~ '^fact_sales_[0-9]+$' ORDER BY 1")
    assert [name for (name,) in years] == [f"fact_sales_{number}" for number in sorted({year, START.year})]
    gone = connection.execute("SELECT count(*) FROM warehouse.dim_customer WHERE customer_id = 'c9'").fetchone()
    assert gone == (0,), "a member went"


def test_a_statement_that_was_planned_before_the_commit_sees_the_year_that_the_commit_brings(
    connection: psycopg.Connection, warehouse_url: str, lake: Lake
) -> None:
    """Postgres lists the partitions when it plans, and a READ COMMITTED statement takes its snapshot when it runs."""
    for delivery in shop_of_yesterday():
        harness.stage(lake, delivery)
    publish_all(warehouse_url, lake)
    for delivery in shop_of_today(2023):
        harness.stage(lake, delivery)
    pause_at(connection, "commit")
    # IMMUTABLE: it is called when the outer statement is planned, after the inner one.
    connection.execute(
        "CREATE FUNCTION public.planned() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
        f" PERFORM pg_advisory_xact_lock({PAUSE + 1}); RETURN 'run'; END $$"
    )
    look = (
        "SELECT (SELECT count(*) FROM warehouse.fact_sales WHERE order_id = 'o5'), count(*)"
        " FROM platform.load_ledger WHERE asset = 'fact_sales' AND run_id = public.planned()"
    )
    with psycopg.connect(warehouse_url, autocommit=True) as reader, ThreadPoolExecutor(2) as pool:
        connection.execute("SELECT pg_advisory_lock(%s), pg_advisory_lock(%s)", [PAUSE, PAUSE + 1])
        publishing = pool.submit(publish, warehouse_url, lake, "fact_sales", run_id="run", timezone="UTC")
        try:
            wait_until(connection, lambda: waiting(connection, "advisory") == 1 or publishing.done())
            looking = pool.submit(lambda: reader.execute(look).fetchone())
            wait_until(connection, lambda: waiting(connection, "advisory") == 2 or looking.done())
            connection.execute("SELECT pg_advisory_unlock(%s)", [PAUSE])
            publishing.result(timeout=PATIENCE_SECONDS)
            assert not looking.done(), "it is being planned"
        finally:
            connection.execute("SELECT pg_advisory_unlock_all()")
        assert looking.result(timeout=PATIENCE_SECONDS) == (1, 2)
