"""A run of Dagster's real daemon that loses its database and then its process, and comes to its end all the same."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from data_platform.warehouse.ledger import take_writer_lock
from data_platform_tests.conftest import throw_away

REPOSITORY = Path(__file__).resolve().parents[2]
DAY = "2024-01-05"
T = TypeVar("T")
PATIENCE_SECONDS = 150
QUEUE_SECONDS = 15  # the daemon looks at its queue every five
WAITING = """
    SELECT pid
    FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event = 'advisory' AND pid <> ALL (%s)
"""


@pytest.fixture
def environment(server: str, template: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))}
    with throw_away(server, template) as warehouse, throw_away(server) as dagster:
        yield clean | {
            "DAGSTER_HOME": str(REPOSITORY),
            "DATA_PLATFORM_HOME": str(tmp_path),
            "DATA_PLATFORM_WAREHOUSE_URL": warehouse,
            "DATA_PLATFORM_DAGSTER_URL": dagster,
            "DATA_PLATFORM_RETRY_DELAY": "1",
        }


@pytest.fixture
def daemon(environment: dict[str, str], tmp_path: Path) -> Iterator[None]:
    # Dagster's tables are made by one process before two need them.
    launch(environment, "instance", "info")
    with (tmp_path / "daemon.log").open("w") as log:
        # A group of its own: the code server and the runs go with it.
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-w", "workspace.yaml"],
            env=environment, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def launch(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dagster", *arguments],
        env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def wait_for(what: Callable[[], list[T]], log: Path) -> list[T]:
    """What `what` gives, once it is true."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (found := what()):
        assert time.monotonic() < until, log.read_text()[-3000:]
        time.sleep(0.5)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("daemon")
def test_a_step_that_loses_its_database_is_tried_again_a_killed_run_is_started_again_and_another_run_waits(
    environment: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "daemon.log"
    (tmp_path / "landing" / "orders").mkdir(parents=True)
    order = "order_id,line_number,product_id,quantity,unit_price,order_ts\no1,1,p1,1,2.50,2024-01-05 10:00:00\n"
    (tmp_path / "landing" / "orders" / f"{DAY}.csv").write_text(order)
    warehouse, dagster = environment["DATA_PLATFORM_WAREHOUSE_URL"], environment["DATA_PLATFORM_DAGSTER_URL"]
    tags = {"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": DAY}
    with (
        psycopg.connect(warehouse) as holder,
        psycopg.connect(warehouse, autocommit=True) as looking,
        psycopg.connect(dagster, autocommit=True) as events,
    ):
        take_writer_lock(holder)
        launch(environment, "job", "launch", "-w", "workspace.yaml", "-j", "daily_sales", "--tags", json.dumps(tags))
        first = wait_for(lambda: looking.execute(WAITING, [[]]).fetchall(), log)
        looking.execute("SELECT pg_terminate_backend(%s)", first[0])
        wait_for(lambda: looking.execute(WAITING, [[pid for (pid,) in first]]).fetchall(), log)
        retried = "SELECT step_key FROM event_logs WHERE dagster_event_type = 'STEP_UP_FOR_RETRY'"
        assert len(events.execute(retried).fetchall()) == 1

        launch(environment, "job", "launch", "-w", "workspace.yaml", "-j", "daily_sales", "--tags", json.dumps(tags))
        time.sleep(QUEUE_SECONDS)
        assert events.execute("SELECT status FROM runs ORDER BY id").fetchall() == [("STARTED",), ("QUEUED",)]

        told = events.execute("SELECT run_id, event FROM event_logs WHERE event LIKE '%(pid: %'").fetchall()
        [(run, pid)] = {(run, match[1]) for run, text in told if (match := re.search(r"\(pid: (\d+)\)", text))}
        os.kill(int(pid), signal.SIGKILL)
        holder.commit()

        def ended() -> list[tuple[str, ...]]:
            query = """
                SELECT run_id
                FROM runs JOIN run_tags USING (run_id)
                WHERE status = 'SUCCESS' AND key = 'dagster/parent_run_id' AND value = %s
            """
            return events.execute(query, [run]).fetchall()

        [(second,)] = wait_for(ended, log)
        assert events.execute("SELECT count(*) FROM runs").fetchone() == (3,)
        again = "SELECT count(*) FROM event_logs WHERE run_id = %s AND step_key = 'raw_orders'"
        assert events.execute(again, [second]).fetchone() == (0,)
        assert looking.execute("SELECT count(*) FROM warehouse.fact_sales").fetchone() == (1,)
        assert looking.execute("SELECT count(*) FROM platform.mart_stale").fetchone() == (0,)
