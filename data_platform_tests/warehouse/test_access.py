"""Real logins of every group on a real server: what each may and may not, at first and after loads and rebuilds."""

import json
import logging
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner, Result

from data_platform.cli import app
from data_platform.contracts import MARTS, WAREHOUSE
from data_platform.errors import PlatformError, PublishRefused
from data_platform.lake import Lake
from data_platform.settings import read_settings, settings
from data_platform.warehouse import access, marts
from data_platform.warehouse.connection import connected
from data_platform.warehouse.migrations import MIGRATIONS, ready_warehouse
from data_platform.warehouse.publish import publish, rebuild
from data_platform_tests.cases import customer, delivered, lines, product
from data_platform_tests.cases import line as order_line
from data_platform_tests.conftest import drop_database, throw_away
from data_platform_tests.warehouse import harness

PASSWORD = "of a test/+"


@dataclass
class Guarded:
    """A warehouse with its groups, and a login of each."""

    owner: str
    logins: Mapping[str, str]
    lake: Lake

    def load(self, url: str, day: int, order: str, **values: Any) -> None:
        for delivery in (
            delivered("customers", day, customer("c1", email=f"{day}@example.org"), customer("c2")),
            delivered("products", day, product("p1", cost="6")),
            lines(day, order_line(order, day, **values), order_line(f"r{order}", day, **values | {"quantity": -1})),
        ):
            harness.stage(self.lake, delivery)
        for asset in harness.ASSETS.values():
            publish(url, self.lake, asset, run_id="run", timezone="UTC")
        for mart in MARTS:
            marts.apply(url, marts.select_stale(url, mart))

    def may(self, login: str, statement: str) -> bool:
        with psycopg.connect(self.logins[login], autocommit=True) as connection:
            try:
                connection.execute(statement)  # type: ignore[arg-type]
            except psycopg.errors.InsufficientPrivilege:
                return False
        return True


@pytest.fixture
def guarded(server: str, template: str, tmp_path: Path) -> Iterator[Guarded]:
    roles: list[str] = []
    with throw_away(server, template) as warehouse_url:
        logins = _with_groups(warehouse_url, roles)
        yield Guarded(warehouse_url, logins, Lake(tmp_path / "lake"))
    with psycopg.connect(server, autocommit=True) as connection:
        for role in roles:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def _with_groups(warehouse_url: str, roles: list[str]) -> dict[str, str]:
    """The URLs of a login of each group; `roles` are told what was made."""
    with psycopg.connect(warehouse_url) as connection:
        if not access.may_create(connection):
            pytest.skip("the role of DATA_PLATFORM_TEST_URL may not make roles")
        names = access.group_names(connection.info.dbname)
        for statement in access.creation(names):
            connection.execute(statement)
        logins = {}
        for group, name in names.items():
            login = f"test_{uuid.uuid4().hex[:12]}"
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                    sql.Identifier(login), sql.Literal(PASSWORD), sql.Identifier(name)
                )
            )
            logins[group] = login
        access.grant(connection)
    roles += [*logins.values(), *names.values()]
    parts = urlsplit(warehouse_url)
    place = parts.netloc.rpartition("@")[2]
    return {
        group: urlunsplit(parts._replace(netloc=f"{login}:{quote(PASSWORD, safe='')}@{place}"))
        for group, login in logins.items()
    }


def assert_each_may_what_is_theirs(guarded: Guarded) -> None:
    pii = [(contract, name) for contract in WAREHOUSE.values() for name in contract.pii_columns]
    assert pii, "a test of nothing"
    for contract, name in pii:
        read = f"SELECT {name} FROM warehouse.{contract.table}"
        assert [login for login in guarded.logins if guarded.may(login, read)] == ["loader", "pii"], name
        assert not guarded.may("analyst", f"SELECT * FROM warehouse.{contract.table}")
        assert not guarded.may("analyst", f"SELECT t::text FROM warehouse.{contract.table} AS t")
        assert guarded.may("analyst", f"SELECT count(*) FROM warehouse.{contract.table}")
        assert guarded.may("analyst", f"SELECT * FROM warehouse.{access.MASKED_VIEWS[contract.table]}")
        plain = ", ".join(access.plain_columns(contract))
        assert guarded.may("analyst", f"SELECT {plain} FROM warehouse.{contract.table}")
    for table in ("dim_date", "dim_product", "fact_sales", "fact_returns"):
        may = [login for login in guarded.logins if guarded.may(login, f"SELECT * FROM warehouse.{table}")]
        assert may == ["loader", "analyst", "pii"], table
    for table in MARTS:
        assert all(guarded.may(login, f"SELECT * FROM marts.{table}") for login in guarded.logins), table
    for table in ("load_ledger", "partition_profiles", "alerts", "settings", "erasures"):
        assert [login for login in guarded.logins if guarded.may(login, f"SELECT * FROM platform.{table}")] == [
            "loader"
        ], table
    assert guarded.may("analyst", "SELECT * FROM platform.check_results")
    assert not guarded.may("reader", "SELECT * FROM platform.check_results")
    for login in ("analyst", "pii", "reader"):
        for statement in (
            "DELETE FROM marts.mart_daily_sales",
            "INSERT INTO platform.check_results DEFAULT VALUES",
            "UPDATE warehouse.dim_customer SET segment = 'x'",
            "SELECT warehouse.make_year('fact_sales', 2031)",
            "CREATE TABLE warehouse.mine (n integer)",
            "CREATE TABLE marts.mine (n integer)",
        ):
            assert not guarded.may(login, statement), (login, statement)
    assert not guarded.may("loader", "DROP TABLE warehouse.fact_sales")
    assert not guarded.may("loader", "ALTER TABLE warehouse.dim_customer ADD COLUMN more text")
    assert not guarded.may("loader", "CREATE TABLE warehouse.mine (n integer)")


def test_each_group_may_what_is_its_own_at_first_and_after_loads_new_years_and_a_rebuild(guarded: Guarded) -> None:
    loader = guarded.logins["loader"]
    assert_each_may_what_is_theirs(guarded)
    guarded.load(loader, 5, "o1")
    assert_each_may_what_is_theirs(guarded)
    guarded.load(loader, 6, "o2", order_ts=datetime(2023, 6, 1))  # a year beside those that are attached
    guarded.load(loader, 5, "o1", quantity=3)
    with psycopg.connect(guarded.owner) as connection:
        assert connection.execute("SELECT count(*) FROM warehouse.fact_sales").fetchone() == (2,)
        connection.execute("DELETE FROM warehouse.fact_sales")
    rebuild(loader, guarded.lake, run_id="run", timezone="UTC")
    with psycopg.connect(guarded.logins["analyst"]) as connection:
        assert connection.execute("SELECT count(*) FROM warehouse.fact_sales").fetchone() == (2,)
        years = connection.execute("SELECT relname FROM pg_class WHERE relname LIKE 'fact_sales_2%' AND relkind = 'r'")
        assert sorted(years.fetchall()) == [("fact_sales_2023",), ("fact_sales_2024",)]
    assert_each_may_what_is_theirs(guarded)
    for group in ("analyst", "reader"):
        with psycopg.connect(guarded.logins[group]) as connection:
            told = connection.execute("SELECT s::text FROM pg_stats AS s").fetchall()
            assert not [row for (row,) in told if "example.org" in row]


def test_the_masked_view_has_the_columns_that_the_contract_calls_free_of_personal_data(warehouse_url: str) -> None:
    with_personal_data = {name for name, contract in WAREHOUSE.items() if contract.pii_columns}
    assert set(access.MASKED_VIEWS) == with_personal_data
    for table, view in access.MASKED_VIEWS.items():
        with psycopg.connect(warehouse_url) as connection:
            query = sql.SQL("SELECT * FROM warehouse.{} LIMIT 0").format(sql.Identifier(view))
            columns = [column.name for column in connection.execute(query).description or ()]
        assert columns == access.plain_columns(WAREHOUSE[table])
    assert not [name for name, contract in MARTS.items() if contract.pii_columns], "a reader could not see that mart"


def test_a_loader_is_told_when_the_schema_is_older_and_a_newer_text_does_not_stop_it(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = replace(read_settings({}), warehouse_url=guarded.logins["loader"])
    assert ready_warehouse(chosen) == chosen.warehouse_url
    with psycopg.connect(guarded.owner) as connection:
        connection.execute("UPDATE platform.settings SET value = 'older' WHERE name = 'comments'")
    ready_warehouse.cache_clear()
    assert ready_warehouse(chosen) == chosen.warehouse_url
    for path in MIGRATIONS.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "9999_newer.sql").write_text("SELECT 1;")
    monkeypatch.setattr("data_platform.warehouse.migrations.MIGRATIONS", tmp_path)
    ready_warehouse.cache_clear()
    with pytest.raises(PublishRefused, match="older version, and this user may not change it: have its owner bring"):
        ready_warehouse(chosen)
    for group in ("analyst", "reader"):
        ready_warehouse.cache_clear()
        with pytest.raises(PlatformError) as refused:
            ready_warehouse(replace(chosen, warehouse_url=guarded.logins[group]))
        assert PASSWORD not in str(refused.value)


def test_what_is_missing_and_what_is_too_much_is_found_and_granting_anew_mends_what_is_ours(guarded: Guarded) -> None:
    def problems() -> list[str]:
        with connected(guarded.owner) as connection:
            return list(access.look(connection).problems)

    assert problems() == []
    names = access.group_names(urlsplit(guarded.owner).path[1:])
    analyst, reader = names["analyst"], names["reader"]
    with psycopg.connect(guarded.owner) as connection:
        connection.execute(f'GRANT SELECT (email) ON warehouse.dim_customer TO "{analyst}"')
        connection.execute(f'REVOKE SELECT ON marts.mart_daily_sales FROM "{reader}"')
    found = problems()
    assert found[0].startswith(f"{analyst} can read warehouse.dim_customer.email, which is not for it")
    assert f"{reader} cannot read marts.mart_daily_sales.sales: call `data-platform access grant`." in found
    with connected(guarded.owner) as connection:
        assert not access.grant(connection), "nothing that it knows of has changed"
        access.forget(connection)
        assert access.grant(connection)
    assert problems() == []
    with psycopg.connect(guarded.owner) as connection:
        connection.execute("GRANT USAGE ON SCHEMA warehouse TO PUBLIC")
        connection.execute("GRANT SELECT ON warehouse.dim_customer TO PUBLIC")
    assert {one.split(" can read ")[0] for one in problems()} == {analyst, reader}
    with connected(guarded.owner) as connection:
        logins = set(access.look(connection).personal)
    assert {urlsplit(url).username for url in guarded.logins.values()} <= logins


def test_the_groups_of_two_warehouses_on_one_server_have_nothing_to_do_with_each_other(
    guarded: Guarded, server: str, template: str
) -> None:
    with throw_away(server, template) as other:
        with psycopg.connect(other) as connection:
            assert set(access.missing_groups(connection)) == set(access.GROUPS)
        parts = urlsplit(guarded.logins["loader"])._replace(path=urlsplit(other).path)
        with psycopg.connect(urlunsplit(parts)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM marts.mart_daily_sales")
    long = access.group_names("w" * 60)
    assert all(len(name) <= 63 for name in long.values())
    assert not set(long.values()) & set(access.group_names("w" * 59).values())


def test_a_year_is_made_of_a_fact_table_and_of_nothing_else(warehouse_url: str) -> None:
    for fact, year in (("dim_customer", 2024), ("fact_sales; DROP TABLE warehouse.dim_date", 2024), ("fact_sales", 0)):
        with psycopg.connect(warehouse_url) as connection, pytest.raises(psycopg.errors.InvalidParameterValue):
            connection.execute("SELECT warehouse.make_year(%s, %s)", [fact, year])
        with psycopg.connect(warehouse_url) as connection, pytest.raises(psycopg.errors.InvalidParameterValue):
            connection.execute("SELECT warehouse.attach_year(%s, %s)", [fact, year])


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def modest(server: str) -> Iterator[str]:
    """An empty database whose owner may make no roles; what it is called by `access` is dropped afterwards."""
    login = f"test_{uuid.uuid4().hex[:12]}"
    role = sql.Identifier(login)
    with psycopg.connect(server, autocommit=True) as connection:
        if not access.may_create(connection):
            pytest.skip("the role of DATA_PLATFORM_TEST_URL may not make roles")
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(login)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(role))
    parts = urlsplit(server)
    own = urlunsplit(parts._replace(path=f"/{login}"))
    with psycopg.connect(own, autocommit=True) as connection:
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(role, role))
        connection.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(role))
    yield urlunsplit(parts._replace(netloc=f"{login}:{login}@{parts.netloc.rpartition('@')[2]}", path=f"/{login}"))
    drop_database(server, login)
    with psycopg.connect(server, autocommit=True) as connection:
        for name in (*access.group_names(login).values(), login):
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


@pytest.mark.usefixtures("_logging_as_before")
def test_an_owner_that_may_make_no_roles_has_an_admin_run_the_sql(
    modest: str, server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATA_PLATFORM_HOME", str(tmp_path))
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", modest)

    def called(*arguments: str) -> Result:
        settings.cache_clear()
        ready_warehouse.cache_clear()
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["access", *arguments], prog_name="data-platform")

    refused = called("grant")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("This role may not make roles: have an admin run what `data-platform access sql`")
    found = called("check", "--json")
    assert found.exit_code == 1
    assert len(json.loads(found.stdout)["problems"]) == len(access.GROUPS)
    script = called("sql").stdout
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(script)  # type: ignore[call-overload]
    assert called("check").exit_code == 0, "granted by the start of the very command"
    assert called("grant").exit_code == 0
    assert "-- The groups are there." in called("sql").stdout
    assert "test_" in called("check").stdout
