"""A day of deliveries every five minutes, compressed: what the platform's processes hold at the end of it, and whether
its tables are those of a clean run. Run: make soak (Linux, a C compiler; about 25 minutes).

The real daemon, sensors and runs on a clock that is moved: a delivery every few seconds of ours stands for five
minutes of it, and the clock follows as soon as the machine can bear it. A run takes longer than a few seconds, so one
takes in several deliveries. For the middle third a second daemon runs on the same instance, and runs by hand take in
the same day at the same time.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg

from data_platform.embedded_postgres import ensure_server
from data_platform_tests.alerts.receivers import Receiver, http_receiver
from data_platform_tests.end_to_end.busy_day import BusyDay
from data_platform_tests.end_to_end.holdings import connections, growths, held_by, memory_of_server
from data_platform_tests.end_to_end.moved_clock import WHY_NOT, Clock, moved_clock
from data_platform_tests.end_to_end.processes import Processes, processes
from data_platform_tests.proof.fault_pictures import rows_of

DAY = date(2024, 3, 13)
STARTS_AT = datetime(2024, 3, 14, 0, 0, 30, tzinfo=UTC)
EVERY = timedelta(minutes=5)
PER_HOUR = 12
PER_SAMPLE = 6
SENSORS = ("landing_files", "missing_partitions", "alerts", "default_automation_condition_sensor")
SCHEDULES = ("daily_sales_at_six", "quality_watch_at_nine")
# The clock moves by so much at once: runs and daemons have limits by it.
LONGEST_MOVE = timedelta(minutes=40)
AHEAD = 12  # deliveries that may wait for the clock
WARM = 1 / 4  # of the day, whose samples are left out
# What may be added from then to the end, by the line that fits the samples.
BOUNDS = {"connections": 5, "handles": 15, "threads": 5, "memory": 60}
TABLES = ("dim_", "fact_", "mart_d", "mart_p", "mart_c")
STARTING = "SELECT count(*) FROM runs WHERE status IN ('QUEUED', 'NOT_STARTED', 'STARTING')"
LONGEST_RUN = "SELECT coalesce(max(%s - start_time), 0) FROM runs WHERE status = 'STARTED'"
# But for the scheduler, which sleeps a minute of its own whatever the clock does.
OLDEST_BEAT = """
    SELECT extract(epoch FROM %s::timestamptz - min(timestamp AT TIME ZONE 'UTC'))
    FROM daemon_heartbeats
    WHERE daemon_type <> 'SCHEDULER'
"""
OPEN_ALERTS = "SELECT key FROM platform.alerts WHERE closed_at IS NULL"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=288, help="(default: %(default)s, one each five minutes)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of ours between two (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9), help="of the deliveries")
    parser.add_argument("--home", type=Path, help="a new folder that is kept (default: one that is removed)")
    options = parser.parse_args()
    if WHY_NOT:
        print(WHY_NOT, file=sys.stderr)
        return 2
    print(f"seed {options.seed}", flush=True)
    home = options.home or Path(tempfile.mkdtemp(prefix="soak"))
    started = time.monotonic()
    try:
        with moved_clock(STARTS_AT) as clock, http_receiver() as receiver:
            said = Soak(home.resolve(), clock, receiver, options.seed).run(options.deliveries, options.seconds)
    finally:
        if options.home is None:
            shutil.rmtree(home, ignore_errors=True)
    print(f"{(time.monotonic() - started) / 60:.0f} minutes")
    for sentence in said:
        print(f"FAILED: {sentence}")
    return int(bool(said))


class Soak:
    """The platform under the stream of deliveries, and the samples of what it holds."""

    def __init__(self, home: Path, clock: Clock, receiver: Receiver, seed: int) -> None:
        self._home, self._clock, self._receiver = home, clock, receiver
        self._stream = BusyDay(home / "landing", DAY, seed)
        self._samples: list[dict[str, float]] = []
        (home / "alerts.yaml").write_text(
            "channels: {hook: {webhook: {url: HOOK_URL}, severity: warning, per_hour: 1000}}\n"
        )
        self._environment = clock.environment | {
            "DATA_PLATFORM_ALERTS": str(home / "alerts.yaml"),
            "DATA_PLATFORM_SOURCES": str(home / "sources.yaml"),
            "DATA_PLATFORM_START_DATE": DAY.isoformat(),
            "HOOK_URL": receiver.url,
        }

    def run(self, deliveries: int, seconds: float) -> list[str]:
        """All of it; sentences of what is not as it should be."""
        with processes(self._home, self._environment) as platform:
            server = ensure_server(self._home)
            self._warehouse, self._dagster = server.url("warehouse"), server.url("dagster")
            platform.switch_on(schedules=SCHEDULES, sensors=SENSORS)
            by_hand: list[subprocess.Popen[bytes]] = []
            third = deliveries // 3
            for number in range(deliveries):
                until = time.monotonic() + seconds
                if number == third:
                    platform.start_daemon("daemon_2")
                if number == 2 * third:
                    platform.stop("daemon_2")
                for path in self._stream.deliver(number):
                    self._clock.stamp(path)
                if third <= number < 2 * third and number % PER_HOUR == 0:
                    by_hand.append(self._by_hand(platform, len(by_hand)))
                if number % PER_SAMPLE == PER_SAMPLE - 1:
                    self._sample(platform)
                while time.monotonic() < until or self._clock.now() < STARTS_AT + (number - AHEAD) * EVERY:
                    self._follow(number + 1)
                    time.sleep(0.5)
            platform.wait_for("the clock to follow", lambda: self._follow(deliveries), 600)
            said = [f"a run by hand ended with {code}" for code in (one.wait(600) for one in by_hand) if code]
            self._drain(platform)
            return said + self._grown() + self._judged(platform, len(by_hand), server.url("clean"))

    def _follow(self, deliveries: int) -> bool:
        """Move the clock to where so many deliveries are made, if it may move; whether it is there."""
        aim = STARTS_AT + deliveries * EVERY
        if self._clock.now() < aim and self._may_move():
            self._clock.move_to(min(aim, self._clock.now() + LONGEST_MOVE))
        return self._clock.now() >= aim

    def _may_move(self) -> bool:
        """Whether what is at work bears that: how long a run may start and work, and a daemon be silent, is by it."""
        now = self._clock.now()
        with psycopg.connect(self._dagster, options="-c timezone=UTC") as connection:
            figures = [
                float(connection.execute(query, values).fetchone()[0] or 0)  # type: ignore[index]
                for query, values in ((STARTING, []), (LONGEST_RUN, [now.timestamp()]), (OLDEST_BEAT, [now]))
            ]
        return figures[0] == 0 and figures[1] < 3600 and figures[2] < 600

    def _by_hand(self, platform: Processes, number: int) -> subprocess.Popen[bytes]:
        command = Path(sys.executable).with_name("data-platform")
        with (self._home / "logs" / f"by_hand_{number}.log").open("wb") as log:
            return subprocess.Popen(
                [command, "backfill", "--from", str(DAY), "--to", str(DAY)],
                env=platform.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _sample(self, platform: Processes) -> None:
        sample = {
            "postgres connections": float(connections(self._dagster)),
            "postgres memory": memory_of_server(self._dagster),
        }
        for name, process in platform.running.items():
            sample |= {f"{name} {what}": value for what, value in held_by(process.pid).items()}
        self._samples.append(sample)
        runs = Counter(run.status for run in platform.runs())
        told = ", ".join(f"{name} {value:.0f}" for name, value in sample.items())
        load = os.getloadavg()[0]
        when = f"{self._clock.now():%H:%M} {dict(runs)}, {self._stream.lines} lines"
        print(f"{when}: {told}; load {load:.1f}", flush=True)

    def _drain(self, platform: Processes) -> None:
        """Until the sensor has seen the last delivery and all runs are over."""
        since = self._clock.now().timestamp()
        self._clock.forward(timedelta(seconds=90))

        def quiet() -> bool:
            ticks = platform.ticks("landing_files")
            is_seen = any(tick["timestamp"] > since + 60 and tick["status"] == "SKIPPED" for tick in ticks)
            if not is_seen:
                self._clock.forward(timedelta(seconds=5))
            return is_seen and all(run.is_over for run in platform.runs())

        platform.wait_for("the last delivery", quiet, 600)
        with psycopg.connect(self._warehouse, autocommit=True) as connection:
            platform.wait_for("all alerts to be closed", lambda: not connection.execute(OPEN_ALERTS).fetchall(), 300)

    def _grown(self) -> list[str]:
        warm = self._samples[round(len(self._samples) * WARM) :]
        said = []
        for name, grown in growths(warm).items():
            bound = BOUNDS[name.rpartition(" ")[2]]
            print(f"{name}: {warm[0][name]:.0f} to {warm[-1][name]:.0f}, growth {grown:+.1f} (at most {bound})")
            said += [f"{name} grew by {grown:.1f}"] if grown > bound else []
        return said

    def _judged(self, platform: Processes, by_hand: int, clean: str) -> list[str]:
        """What is not as after one clean run over the files as they now lie."""
        runs = platform.runs()
        statuses = Counter((run.job, run.status) for run in runs)
        messages = Counter((one["event"], one.get("kind")) for one in self._receiver.posted)
        print(f"runs {dict(statuses)}, {by_hand} of them by hand; told {dict(messages)}")
        with psycopg.connect(self._warehouse, autocommit=True) as connection:
            connection.execute("CREATE DATABASE clean")
        with self._clean_home(clean) as environment:
            done = Processes(environment[0], platform.environment | environment[1], "")
            done.command("backfill", "--from", str(DAY), "--to", str(DAY))
        found, wanted = (
            Counter({row: count for row, count in rows_of(url).items() if row[0].startswith(TABLES)})
            for url in (self._warehouse, clean)
        )
        facts = sum(count for (table, _), count in found.items() if table == "fact_sales")
        print(f"{self._stream.lines} lines delivered, {facts} facts")
        said = []
        if found != wanted:
            unlike = (found - wanted).total(), (wanted - found).total()
            said.append("tables differ from a clean run: {} rows too many, {} missing".format(*unlike))
        if facts != self._stream.lines:
            said.append(f"{self._stream.lines - facts} lines are lost")
        waiting = platform.command("status", "--json")
        return said + ([f"something waits: {waiting}"] if '"2024-03-13"' in waiting.partition('"waiting"')[2] else [])

    @contextmanager
    def _clean_home(self, url: str) -> Iterator[tuple[Path, dict[str, str]]]:
        """A home without a past, and the settings with which it takes the same landing files into another database."""
        home = self._home / "clean"
        home.mkdir()
        yield (
            home,
            {
                "DATA_PLATFORM_HOME": str(home),
                "DATA_PLATFORM_WAREHOUSE_URL": url,
                "DATA_PLATFORM_DAGSTER_URL": self._dagster,
                "DATA_PLATFORM_LANDING_URL": str(self._home / "landing"),
            },
        )


if __name__ == "__main__":
    sys.exit(main())
