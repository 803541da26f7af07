"""A warehouse that was made and filled by an older version comes to today's with every row of it, and goes on.

The rows are today's engine's: what it writes into the tables of the first version has not changed since. A migration
that changes one of those tables has to bring its own way of filling the old one.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from data_platform.contracts import MARTS
from data_platform.lake import Lake
from data_platform.settings import read_settings
from data_platform.warehouse import marts, migrations
from data_platform.warehouse.calendar import staged_days
from data_platform.warehouse.migrations import MIGRATIONS, ready_warehouse
from data_platform.warehouse.publish import publish, publish_calendar, rebuild
from data_platform_tests.conftest import throw_away
from data_platform_tests.end_to_end.test_unchanged_year import FIRST, year
from data_platform_tests.shop import customer, failures, line, open_shop, product
from data_platform_tests.warehouse import harness

NAMES = sorted(path.stem for path in MIGRATIONS.glob("*.sql"))
DAYS = 70
NEXT_DAY = "2024-03-20"
# The first version had the star and the marts by 0001 to 0003, without these; the next gave them a migration of their
# own; since the third they are part of 0002.
TOTALS = re.compile(r"^ +CONSTRAINT (fact_\w+_total) (CHECK .*),$", re.MULTILINE)
# Today's engine makes years by functions of 0009: an old warehouse has them while it is filled, and no longer.
BORROWED = re.findall(r"(?s)(CREATE FUNCTION (warehouse\.\w+)\(.*?\$\$;)", (MIGRATIONS / "0009_access.sql").read_text())
FIRST_VERSION, SECOND_VERSION = "first version", "second version"
VERSIONS = [FIRST_VERSION, SECOND_VERSION, *NAMES[2:-1]]

SHAPE = """
    SELECT 'column', table_schema || '.' || table_name, column_name,
        concat_ws(' ', data_type, numeric_precision, numeric_scale, is_nullable, column_default)
    FROM information_schema.columns
    WHERE table_schema IN ('warehouse', 'marts', 'platform')
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace::regnamespace::text IN ('warehouse', 'marts', 'platform') AND conparentid = 0 AND conislocal
    UNION ALL
    SELECT 'index', schemaname || '.' || tablename, indexname, indexdef
    FROM pg_indexes
    WHERE schemaname IN ('warehouse', 'marts', 'platform')
"""


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """The name of the newest migration of an old version, or one of the two before there was a fourth."""
    return str(request.param)


@pytest.fixture
def old(server: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a database as that version left it, without data."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    early = version in (FIRST_VERSION, SECOND_VERSION)
    for name in NAMES[: 3 if early else NAMES.index(version) + 1]:
        text = (MIGRATIONS / f"{name}.sql").read_text()
        (folder / f"{name}.sql").write_text(TOTALS.sub("", text) if early else text)
    if version == SECOND_VERSION:
        totals = TOTALS.findall((MIGRATIONS / "0002_star_schema.sql").read_text())
        assert len(totals) == 2
        (folder / "0004_total_check.sql").write_text(
            "\n".join(f"ALTER TABLE warehouse.{n[: -len('_total')]} ADD CONSTRAINT {n} {c};" for n, c in totals)
        )
    with throw_away(server) as url:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "MIGRATIONS", folder)
            ready_warehouse(settings_of(url))
        ready_warehouse.cache_clear()
        yield url


def settings_of(url: str) -> Any:
    return replace(read_settings({}), warehouse_url=url)


def fill(url: str, lake: Lake) -> None:
    """Two months of a shop in two runs, with versions, corrections, returns and tombstones."""
    deliveries = list(islice(year(), DAYS * 3))
    for part in (deliveries[: DAYS * 2], deliveries[DAYS * 2 :]):
        for delivery in part:
            harness.stage(lake, delivery)
        publish_calendar(url, staged_days(lake), FIRST)
        for asset in harness.ASSETS.values():
            publish(url, lake, asset, run_id="run", timezone="UTC")
        for mart in MARTS:
            marts.apply(url, marts.select_stale(url, mart))


def fill_by_borrowed_functions(url: str, lake: Lake, *, borrowed: bool) -> None:
    """`fill`, with the functions of 0009 for as long as that takes."""
    with psycopg.connect(url, autocommit=True) as connection:
        for definition, _ in BORROWED if borrowed else []:
            connection.execute(definition)
        fill(url, lake)
        for _, name in BORROWED if borrowed else []:
            connection.execute(f"DROP FUNCTION {name}")


def rows(url: str, columns: dict[str, list[str]] | None = None) -> dict[str, tuple[list[str], list[Any]]]:
    """Of every table (only those of `columns`, where given) its columns and its rows."""
    found = {}
    with psycopg.connect(url) as connection:
        if columns is None:
            listed = connection.execute(
                """
                SELECT table_schema || '.' || table_name, array_agg(column_name::text ORDER BY ordinal_position)
                FROM information_schema.columns
                JOIN information_schema.tables USING (table_schema, table_name)
                WHERE table_schema IN ('warehouse', 'marts', 'platform') AND table_type = 'BASE TABLE'
                GROUP BY 1
                """
            ).fetchall()
            columns = dict(listed)
        for table, names in columns.items():
            select = sql.SQL("SELECT {}::text FROM {} ORDER BY 1").format(
                sql.SQL("ROW({})").format(sql.SQL(", ").join(map(sql.Identifier, names))),
                sql.Identifier(*table.split(".")),
            )
            found[table] = (names, connection.execute(select).fetchall())
    return found


def shape(url: str) -> set[tuple[str, ...]]:
    with psycopg.connect(url) as connection:
        return {row for row in connection.execute(SHAPE).fetchall() if not re.search(r"fact_\w+_\d{4}", row[1])}


@pytest.mark.slow
def test_an_old_warehouse_comes_to_the_newest_version_with_every_row_and_goes_on(
    old: str, version: str, template: str, server: str, tmp_path: Path
) -> None:
    lake = Lake(tmp_path / "lake")
    fill_by_borrowed_functions(old, lake, borrowed=version in (FIRST_VERSION, SECOND_VERSION) or version < "0009")
    before = rows(old)
    for table in ("warehouse.fact_sales", "warehouse.fact_returns", "warehouse.dim_customer", "marts.mart_daily_sales"):
        assert len(before[table][1]) > 20, table
    assert len(before["platform.load_ledger"][1]) == DAYS * 3

    assert ready_warehouse(settings_of(old)) == old
    assert rows(old, {table: names for table, (names, _) in before.items()}) == before
    with throw_away(server, template) as fresh:
        missing = shape(fresh) - shape(old)
    # A warehouse of the very first version never gets what was added to 0002 after it.
    never = {name for _, _, name, _ in missing if version == FIRST_VERSION and name.endswith("_total")}
    assert {name for _, _, name, _ in missing} == never

    with open_shop(tmp_path, old) as shop:
        shop.deliver("products", product("p1"), product("new"), day=NEXT_DAY)
        shop.deliver("customers", customer("c1", segment="vip"), day=NEXT_DAY)
        shop.deliver("orders", line("late", day="2024-01-20"), line("o1", "new", day=NEXT_DAY), day=NEXT_DAY)
        done = shop.run(None, NEXT_DAY)
        assert done.success, failures(done)
        [(sold,)] = shop.query("SELECT count(*) FROM warehouse.fact_sales")
    assert sold == len(before["warehouse.fact_sales"][1]) + 2
    again = rebuild(old, lake, run_id="verify", timezone="UTC", verify=True)
    assert [report.asset for report in again if report.wrote] == []
