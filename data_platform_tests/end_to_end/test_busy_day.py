"""Many small deliveries of one day through sensor, run and publish in one long-lived process: nothing is lost, nothing
grows. `make soak` is the same with the real daemon and a whole day of them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from random import randrange

import dagster as dg
import pytest

from data_platform.definitions import build_defs
from data_platform.resources import Platform
from data_platform.settings import REPOSITORY, settings
from data_platform_tests.conftest import throw_away
from data_platform_tests.end_to_end.busy_day import BusyDay
from data_platform_tests.end_to_end.holdings import connections, growths, held_by
from data_platform_tests.proof.fault_pictures import Rows, rows_of

DAY = date(2024, 1, 5)
DELIVERIES, WARM = 24, 8
TWICE = 12  # each so many deliveries a run by hand takes the day in at the same time
BOUNDS = {"connections": 3, "handles": 5, "threads": 4, "memory": 60}
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc: it needs Linux"),
]


@pytest.fixture
def environment(
    server: str, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    """The settings of a platform with two databases of its own."""
    with throw_away(server, template) as warehouse, throw_away(server) as dagster:
        monkeypatch.setenv("DAGSTER_HOME", str(REPOSITORY))
        monkeypatch.setenv("DATA_PLATFORM_HOME", str(tmp_path))
        monkeypatch.setenv("DATA_PLATFORM_SOURCES", str(tmp_path / "sources.yaml"))
        monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", warehouse)
        monkeypatch.setenv("DATA_PLATFORM_DAGSTER_URL", dagster)
        settings.cache_clear()
        yield monkeypatch


class Worker:
    """The job, its sensor and an instance on Postgres, in this process."""

    def __init__(self, instance: dg.DagsterInstance, platform: Platform) -> None:
        self._instance, self._platform = instance, platform
        self._definitions = build_defs({"platform": platform})
        self._cursor: str | None = None

    def tick(self) -> list[str]:
        """The days that the sensor asks for now."""
        context = dg.build_sensor_context(
            instance=self._instance, cursor=self._cursor, definitions=self._definitions,
            resources={"platform": self._platform},
        )  # fmt: skip
        told = self._definitions.resolve_sensor_def("landing_files").evaluate_tick(context)
        self._cursor = told.cursor
        return [request.partition_key or "" for request in told.run_requests or ()]

    def run(self, day: str) -> bool:
        """Whether a run of all tables for the day succeeds."""
        job = self._definitions.resolve_job_def("daily_sales")
        tags = dict.fromkeys(RANGE, day)
        return job.execute_in_process(instance=self._instance, tags=tags, raise_on_error=False).success


def by_hand() -> subprocess.Popen[bytes]:
    """A run of the day by another process (two runs in threads of one block each other in Dagster's logging)."""
    command = [Path(sys.executable).with_name("data-platform"), "backfill", "--from", str(DAY), "--to", str(DAY)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def tables(url: str) -> Rows:
    return Rows({row: count for row, count in rows_of(url).items() if row[0].startswith(("dim_", "fact_", "mart_"))})


def test_a_day_in_many_deliveries_is_that_of_one_run_and_nothing_grows(
    environment: pytest.MonkeyPatch, server: str, template: str, tmp_path: Path
) -> None:
    seed = randrange(10**9)
    print(f"seed {seed}")
    stream = BusyDay(tmp_path / "landing", DAY, seed)
    warehouse = settings().warehouse_url or ""
    samples = []
    with dg.DagsterInstance.get() as instance:
        worker = Worker(instance, Platform.using(settings()))
        for number in range(DELIVERIES):
            for path in stream.deliver(number):
                long_ago = time.time() - 3600 + number  # it has settled
                os.utime(path, (long_ago, long_ago))
            assert worker.tick() == [str(DAY)]
            beside = by_hand() if number % TWICE == TWICE - 1 else None
            assert worker.run(str(DAY))
            if beside is not None:
                assert beside.wait(300) == 0
            assert worker.tick() == []
            samples.append(held_by(os.getpid()) | {"connections": connections(warehouse)})
        assert instance.get_runs_count() == DELIVERIES + DELIVERIES // TWICE
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}

    grown = growths(samples[WARM:])
    assert {name: by for name, by in grown.items() if by > BOUNDS[name]} == {}, samples
    found = tables(warehouse)
    assert sum(count for (table, _), count in found.items() if table == "fact_sales") == stream.lines

    with throw_away(server, template) as clean, throw_away(server) as dagster:
        environment.setenv("DATA_PLATFORM_WAREHOUSE_URL", clean)
        environment.setenv("DATA_PLATFORM_DAGSTER_URL", dagster)
        environment.setenv("DATA_PLATFORM_LAKE_URL", str(tmp_path / "clean"))
        settings.cache_clear()
        with dg.DagsterInstance.get() as instance:
            assert Worker(instance, Platform.using(settings())).run(str(DAY))
        assert tables(clean) == found
