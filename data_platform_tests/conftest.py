"""What all tests share: an environment without settings of ours, a Postgres, throw-away warehouses, a lake."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from psycopg import sql

from data_platform.embedded_postgres import ensure_server
from data_platform.lake import Lake
from data_platform.settings import read_settings, settings
from data_platform.warehouse.migrations import ready_warehouse

TEST_URL = "DATA_PLATFORM_TEST_URL"
DROP_ATTEMPTS = 60

# Random on every run: a failure prints the @reproduce_failure line that replays it, and stays in .hypothesis.
hypothesis_settings.register_profile(
    "ci", derandomize=False, print_blob=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Set here, so that the header can name it: hypothesis draws from it, and --hypothesis-seed=N replays it.
    if getattr(config.option, "hypothesis_seed", None) is None and hasattr(config.option, "hypothesis_seed"):
        config.option.hypothesis_seed = str(int.from_bytes(os.urandom(4)))


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Where the tests' Postgres is, and the seed of all that is random."""
    where = "set by DATA_PLATFORM_TEST_URL" if os.environ.get(TEST_URL) else "embedded"
    seed = getattr(config.option, "hypothesis_seed", None)
    return [f"postgres: {where}", f"random streams: replay with --hypothesis-seed={seed}"]


@contextmanager
def throw_away(server: str, template: str | None = None) -> Iterator[str]:
    """The URL of a new database, made from `template` where given; dropped at the end, whoever uses it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template:
        create += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(create)
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        drop_database(server, name)


def drop_database(server: str, name: str) -> None:
    """Drop the database, whoever uses it."""
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with psycopg.connect(server, autocommit=True) as connection:
        for attempt in range(DROP_ATTEMPTS):
            try:
                connection.execute(drop)
                return
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
                # An autovacuum worker is in there, which a role without superuser rights may not end: it soon leaves.
                if attempt == DROP_ATTEMPTS - 1:
                    raise
                time.sleep(0.5)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees what the shell that started it had set, nor what another test set."""
    for name in list(os.environ):
        if name.startswith("DATA_PLATFORM_") and not name.startswith("DATA_PLATFORM_TEST_"):
            monkeypatch.delenv(name)
    settings.cache_clear()
    ready_warehouse.cache_clear()
    yield
    settings.cache_clear()
    ready_warehouse.cache_clear()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a server where databases may be made: DATA_PLATFORM_TEST_URL's, else the embedded one's."""
    given = os.environ.get(TEST_URL)
    if given:
        return given.replace("postgres://", "postgresql://", 1)
    return ensure_server(tmp_path_factory.mktemp("pg")).url("warehouse")


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """The name of a database with the schema of today and no data, from which others are copied."""
    with throw_away(server) as url:
        ready_warehouse(replace(read_settings({}), warehouse_url=url))
        yield urlsplit(url).path[1:]


@pytest.fixture
def warehouse_url(server: str, template: str) -> Iterator[str]:
    """A warehouse of the test's own: up to date, empty, dropped afterwards."""
    with throw_away(server, template) as url:
        yield url


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(tmp_path / "lake")
