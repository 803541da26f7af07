"""Platforms to erase a person from."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from data_platform_tests.conftest import throw_away
from data_platform_tests.erasure.world import World, fill


@pytest.fixture
def empty(server: str, warehouse_url: str, tmp_path: Path) -> Iterator[World]:
    """A platform without data."""
    with throw_away(server) as dagster:
        home = tmp_path / "home"
        home.mkdir()
        yield World(home, warehouse_url, dagster, {})


@pytest.fixture(scope="module")
def loaded(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A platform in which the person is everywhere; copied by `world`, since loading takes the longest."""
    with throw_away(server, template) as warehouse, throw_away(server) as dagster:
        full = World(tmp_path_factory.mktemp("loaded") / "home", warehouse, dagster, {})
        full.home.mkdir()
        fill(full)
        full.load()
        yield full


@pytest.fixture
def world(server: str, loaded: World, tmp_path: Path) -> Iterator[World]:
    """A platform of the test's own in which the person is everywhere."""
    home = tmp_path / "home"
    shutil.copytree(loaded.home, home)
    warehouse, dagster = (urlsplit(url).path[1:] for url in (loaded.warehouse, loaded.dagster))
    with throw_away(server, warehouse) as own, throw_away(server, dagster) as runs:
        yield replace(loaded, home=home, warehouse=own, dagster=runs)
