"""What tests of monitoring share: a platform that `data-platform demo` has filled, and Prometheus' programs."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from data_platform.settings import Settings, read_settings
from data_platform_tests.conftest import throw_away
from data_platform_tests.test_cli import Platform

# Large enough for a few rows to be rejected.
SHOP = ("--days", "8", "--customers", "40", "--products", "20", "--orders-per-day", "100", "--format", "csv")


@pytest.fixture(scope="session")
def loaded(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of eight days, with rejected rows; nothing may change it."""
    with ExitStack() as databases:
        urls = [databases.enter_context(throw_away(server)) for _ in range(2)]
        platform = Platform(tmp_path_factory.mktemp("monitored") / "home", *urls)
        platform.json("demo", *SHOP)
        yield platform


@pytest.fixture
def chosen(loaded: Platform) -> Settings:
    """The settings of the loaded platform."""
    return of_platform(loaded)


def of_platform(platform: Platform) -> Settings:
    """The settings by which a Platform's commands run."""
    return replace(of_home(platform.home, platform.warehouse), dagster_url=platform.dagster)


def of_home(home: Path, warehouse: str) -> Settings:
    """Settings of a platform below `home`, with its warehouse there."""
    return replace(
        read_settings({}), home=home, warehouse_url=warehouse, lake_url=str(home / "lake"),
        landing_url=str(home / "landing"), sources_file=home / "sources.yaml",
    )  # fmt: skip


def program(name: str) -> str:
    """A program of Prometheus; the test is skipped where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt install prometheus)")
    return found
