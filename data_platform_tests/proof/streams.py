"""Random streams by the thousand: batches of a machine's runs, spread over processes, and what they met."""

import os
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test
from psycopg import sql

from data_platform.embedded_postgres import ensure_server
from data_platform.settings import read_settings
from data_platform.warehouse.migrations import ready_warehouse
from data_platform_tests.conftest import TEST_URL, throw_away
from data_platform_tests.proof.delivered import Trace
from data_platform_tests.proof.machine import ShopMachine, Table
from data_platform_tests.proof.seen import SEEN
from data_platform_tests.warehouse import harness

# A batch is one test of hypothesis, whose first few examples are simple ones: many small batches would be simple.
BATCH = 20
STEPS = 12
LEAST_STEPS = 8
LEAST_SHARE = 0.05
LEAST_SHARE_OF_PATHS = 0.10
THREADS = "POLARS_MAX_THREADS"
ASSETS = ("dim_customer", "dim_product", "fact_sales")
PATHS = ("first load", "append", "exact", "nothing changed")


@dataclass
class Outcome:
    """What some streams met. `failure` is empty, or how the batch `failed` (seed, size) failed: its minimal example."""

    seed: int
    streams: int = 0
    steps: int = 0
    met: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    failure: str = ""
    failed: tuple[int, int] = 0, 0

    def add(self, other: "Outcome") -> None:
        """Count a batch in."""
        self.streams += other.streams
        self.steps += other.steps
        self.met += other.met
        self.paths += other.paths
        if other.failure and not self.failure:
            self.failure, self.failed = other.failure, other.failed

    @property
    def seldom(self) -> list[str]:
        """The cases of the list that too few streams met."""
        return [case for case in SEEN if self.met[case] < LEAST_SHARE * self.streams]

    @property
    def seldom_taken(self) -> list[str]:
        """The engine's paths that too few streams took."""
        every = (f"{asset}: {path}" for asset in ASSETS for path in PATHS)
        return [path for path in every if self.paths[path] < LEAST_SHARE_OF_PATHS * self.streams]


def run_batch(seed: int, streams: int, *, server: str, template: str) -> Outcome:
    """Play so many streams to their end in a database of their own; stops at the first failure, made minimal."""
    outcome = Outcome(seed)

    def finished(trace: Trace) -> None:
        outcome.streams += 1
        outcome.met.update(case for case, met in SEEN.items() if met(trace))

    with throw_away(server, template) as url, harness.contracts_of_the_cases():
        name = urlsplit(url).path[1:]
        with psycopg.connect(url, autocommit=True) as connection:
            # Hundreds of small transactions: none of them needs to survive a power cut.
            hasty = sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name))
            connection.execute(hasty)
        with psycopg.connect(url, autocommit=True) as connection:
            table = Table(url, connection, finished)
            said = StringIO()
            try:
                with redirect_stdout(said):
                    # Examples that hypothesis gave up are not streams: others take their place.
                    for attempt in range(streams):
                        if outcome.streams < streams:
                            _play(table, seed + attempt, streams - outcome.streams)
            except Exception:
                outcome.failure = f"{said.getvalue()}\n{traceback.format_exc()}"
                outcome.failed = seed, streams
            outcome.steps, outcome.paths = table.steps, table.paths
    return outcome


def _play(table: Table, seed: int, streams: int) -> None:
    machine = seeded(seed)(type("ShopMachine", (ShopMachine,), {"table": table}))
    chosen = settings(
        max_examples=streams,
        stateful_step_count=STEPS,
        phases=(Phase.generate, Phase.shrink),
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen, _min_steps=LEAST_STEPS)


def run(streams: int, seed: int, workers: int = 2) -> Outcome:
    """Play so many streams; prints progress and, in the end, what they met."""
    with databases() as (server, template):
        outcome = run_on(server, template, streams, seed, workers)
    if not outcome.failure:
        print(report(outcome))
    return outcome


def run_on(server: str, template: str, streams: int, seed: int, workers: int) -> Outcome:
    """Play so many streams in batches, spread over processes; stops at the first batch that fails, and says so."""
    total, draws = Outcome(seed), Random(seed)
    sizes = [BATCH] * (streams // BATCH) + [streams % BATCH] * (streams % BATCH > 0)
    started = time.monotonic()
    with _single_threaded(), ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        batches = [pool.submit(_work, draws.getrandbits(32), size, server, template) for size in sizes]
        for batch in as_completed(batches):
            total.add(batch.result())
            print(f"{total.streams:,} of {streams:,} streams, {time.monotonic() - started:,.0f} s", flush=True)
            if total.failure:
                # Said at once: batches that have begun come to their end first.
                print(report(total), flush=True)
                pool.shutdown(cancel_futures=True)
                break
    return total


@contextmanager
def _single_threaded() -> Iterator[None]:
    """For the processes that are started meanwhile: frames have a few rows, threads would wait for each other."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[THREADS]
        if before is not None:
            os.environ[THREADS] = before


def _work(seed: int, streams: int, server: str, template: str) -> Outcome:
    """A batch in a process of its own, which sees nothing of what the shell had set."""
    for name in list(os.environ):
        if name.startswith("DATA_PLATFORM_"):
            del os.environ[name]
    return run_batch(seed, streams, server=server, template=template)


@contextmanager
def databases() -> Iterator[tuple[str, str]]:
    """A server where databases may be made, and the name of one with today's schema from which they are copied."""
    given = os.environ.get(TEST_URL)
    home = Path(tempfile.gettempdir()) / f"data-platform-streams-{os.getuid()}"
    server = given.replace("postgres://", "postgresql://", 1) if given else ensure_server(home).url("warehouse")
    with throw_away(server) as url:
        ready_warehouse(replace(read_settings({}), warehouse_url=url))
        yield server, urlsplit(url).path[1:]


def report(outcome: Outcome) -> str:
    """What streams met, case by case in the order of the design's list; or why they stopped."""
    if outcome.failure:
        seed, size = outcome.failed
        replay = f"make proof ARGS='--streams-seed {seed}{'' if size == BATCH else f' --streams {size}'}'"
        return f"{outcome.failure}\nA stream does not converge. Replay its batch with\n\n    {replay}\n"
    streams = max(outcome.streams, 1)
    lines = ["Case, and the share of streams that met it:"]
    for case in SEEN:
        mark = "  too seldom" if case in outcome.seldom else ""
        lines.append(f"  {outcome.met[case] / streams:6.1%}  {case}{mark}")
    lines.append("Path of the load engine, and the share of streams that took it:")
    for asset in ASSETS:
        shares = (f"{path} {outcome.paths[f'{asset}: {path}'] / streams:.1%}" for path in PATHS)
        lines.append(f"  {asset}: {', '.join(shares)}")
    lines.append(f"{outcome.streams:,} streams of {outcome.steps:,} steps converged, seed {outcome.seed}.")
    return "\n".join(lines)


def replay(seed: int, streams: int = BATCH) -> Outcome:
    """The batch that a failure named, again."""
    with databases() as (server, template):
        outcome = run_batch(seed, streams, server=server, template=template)
    print(report(outcome))
    return outcome
