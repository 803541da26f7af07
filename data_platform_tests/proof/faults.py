"""Every kill point of every asset, and faults at random times: afterwards the tables are those of a run without."""

import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from data_platform_tests.proof import fault_kinds as kinds
from data_platform_tests.proof import fault_scene as scene
from data_platform_tests.proof.fault_kinds import Fault, Verdict, faults_of, inflict, sample_of
from data_platform_tests.proof.fault_places import CannotRun, Disk
from data_platform_tests.proof.fault_world import Scene, World

TEST_URL = "DATA_PLATFORM_TEST_URL"
DATABASE_MEGABYTES = 700
PROGRESS_SECONDS = 30.0
# After each fault its asset is run again and everything compared; after each of so many, all other assets as well:
# they see nothing but what was compared.
EVERYTHING_EACH = 5
# What is asked of which assets.
LAKE_KINDS = (kinds.KILL, kinds.CUT, kinds.LAKE_FULL)
POSTGRES_KINDS = (kinds.KILL, kinds.TERMINATE, kinds.STOP)
SAMPLE_RANDOM = 2
SAMPLED = {
    kinds.STOP: ("dim_customer",),
    kinds.TERMINATE: ("dim_product", "facts", "mart_customer_value"),
    kinds.CUT: ("raw_customers", "stg_orders"),
    kinds.LAKE_FULL: ("stg_orders",),
    kinds.DATABASE_FULL: ("facts",),
}


@dataclass
class FaultOutcome:
    """What came of all faults. `cannot_run`: kinds that this machine or server does not allow, with the reason."""

    seed: int
    verdicts: list[Verdict] = field(default_factory=list)
    cannot_run: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def injected(self) -> int:
        return sum(verdict.injected for verdict in self.verdicts)

    @property
    def rows_lost(self) -> int:
        return sum(verdict.rows_lost for verdict in self.verdicts)

    @property
    def failures(self) -> list[str]:
        """A line for each fault after which something was not as it must be, with the command that replays it."""
        return [
            f"{verdict.fault}: {'; '.join(verdict.reasons)} — make proof ARGS='--fault {verdict.fault}"
            f" --seed {self.seed}'"
            for verdict in self.verdicts
            if not verdict.converged
        ]

    def table(self) -> str:
        """Kinds × assets: faults injected, and after how many of them the tables came right."""
        assets = [*scene.ASSETS, "*"]
        injected, right = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for verdict in self.verdicts:
            at = (verdict.fault.asset, verdict.fault.kind)
            injected[at] += verdict.injected
            right[at] += verdict.injected and verdict.converged
        shown = [kind for kind in kinds.KINDS if any(injected[asset, kind] for asset in assets)]
        lines = ["".join(f"{name:>26}" if not at else f"{name:>16}" for at, name in enumerate(["", *shown]))]
        for asset in [*assets, "all"]:
            cells = []
            for kind in shown:
                these = assets if asset == "all" else [asset]
                count = sum(injected[name, kind] for name in these)
                cells.append(f"{sum(right[name, kind] for name in these)}/{count}" if count else "")
            name = "everything" if asset == "*" else asset
            lines.append(f"{name:>26}" + "".join(f"{cell:>16}" for cell in cells))
        return "\n".join(lines)


class _Run:
    """The work of some threads, each with a server, a lake and a nursery of its own."""

    def __init__(self, seed: int, *, sample: bool) -> None:
        self.given = os.environ.get(TEST_URL)
        self.sample = sample
        self.outcome = FaultOutcome(seed)
        self._lock = threading.Lock()
        self._local = threading.local()
        self._worlds: list[World] = []
        self._stopped = False
        self._told = self._began = time.monotonic()
        if self.given:
            for kind in (kinds.STOP, kinds.DATABASE_FULL):
                self.outcome.cannot_run[kind] = f"{TEST_URL} is set, and that server is not ours to stop or to fill"

    def groups(self) -> list[tuple[str, tuple[str, ...]]]:
        """Portions of the work, the longest first: an asset ("*": all at once) and kinds of faults."""
        portions: list[tuple[str, tuple[str, ...]]] = [] if self.given else [("+", (kinds.DATABASE_FULL,))]
        portions.append(("*", (kinds.RANDOM,)))
        portions += [(asset, POSTGRES_KINDS) for asset in scene.IN_POSTGRES[::-1]]
        portions.sort(key=lambda portion: portion[0] not in ("+", "*", "facts"))
        return portions + [(asset, LAKE_KINDS) for asset in scene.IN_LAKE]

    def work(self, portion: tuple[str, tuple[str, ...]]) -> None:
        """Do a portion."""
        asset, wanted = portion
        if wanted == (kinds.DATABASE_FULL,):
            self._fill_databases()
            return
        world = self._world()
        if wanted == (kinds.RANDOM,):
            self._at_random(world)
            return
        faults: list[Fault] = []
        for kind in wanted:
            if kind not in self.outcome.cannot_run and self._wanted(kind, asset):
                faults += self._faults(world, kind, asset)
        self._inflict(world, faults)

    def _faults(self, world: World, kind: str, asset: str) -> list[Fault]:
        if kind == kinds.LAKE_FULL:
            try:
                world.small_disk  # noqa: B018
            except CannotRun as reason:
                self._cannot(kind, reason)
                return []
        return self._chosen(kind, world.scene(asset))

    def _chosen(self, kind: str, state: Scene) -> list[Fault]:
        return sample_of(kind, state, self.outcome.seed) if self.sample else faults_of(kind, state)

    def _at_random(self, world: World) -> None:
        """As many as are wanted: one whose time comes when the run has ended already is none."""
        wanted = SAMPLE_RANDOM if self.sample else kinds.RANDOM_FAULTS
        number = done = 0
        while done < wanted and number < 3 * wanted and not self._stopped:
            self._inflict(world, [Fault(kinds.RANDOM, "*", number)])
            number += 1
            with self._lock:
                done = sum(verdict.injected for verdict in self.outcome.verdicts if verdict.fault.kind == kinds.RANDOM)

    def _wanted(self, kind: str, asset: str) -> bool:
        return not self.sample or asset in SAMPLED.get(kind, (asset,))

    def _fill_databases(self) -> None:
        try:
            world = World(disk=Disk(DATABASE_MEGABYTES), nursery=self._world().nursery)
        except CannotRun as reason:
            self._cannot(kinds.DATABASE_FULL, reason)
            return
        try:
            for asset in scene.IN_POSTGRES:
                if self._wanted(kinds.DATABASE_FULL, asset):
                    self._inflict(world, self._chosen(kinds.DATABASE_FULL, world.scene(asset)))
        finally:
            world.close()

    def _inflict(self, world: World, faults: Sequence[Fault]) -> None:
        for number, fault in enumerate(faults):
            if self._stopped:
                return
            verdict = inflict(world, fault, self.outcome.seed, everything=number % EVERYTHING_EACH == 0)
            with self._lock:
                self.outcome.verdicts.append(verdict)
                if not verdict.converged:
                    print(self.outcome.failures[-1], flush=True)
                if time.monotonic() - self._told > PROGRESS_SECONDS:
                    self._told = time.monotonic()
                    print(
                        f"  {self._told - self._began:4.0f} s: {self.outcome.injected} faults injected, "
                        f"{len(self.outcome.failures)} without a happy end, at {fault}",
                        flush=True,
                    )

    def _cannot(self, kind: str, reason: Exception) -> None:
        with self._lock:
            self.outcome.cannot_run[kind] = str(reason)

    def _world(self) -> World:
        if not hasattr(self._local, "world"):
            self._local.world = World(self.given, strict=not self.sample)
            self._worlds.append(self._local.world)
        world: World = self._local.world
        return world

    def report(self) -> None:
        """The table, what could not run, and the figures, last."""
        outcome = self.outcome
        outcome.seconds = time.monotonic() - self._began
        print(f"Faults (seed {outcome.seed}): came right / injected, of each kind and asset.")
        print(outcome.table())
        for kind, reason in outcome.cannot_run.items():
            print(f"{kinds.KINDS[kind]}: not run, since {reason}.")
        print(
            f"{outcome.injected} faults injected in {outcome.seconds:.0f} s, {outcome.rows_lost} rows lost, "
            f"{len(outcome.failures)} without a happy end.",
            flush=True,
        )

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopped = True

    def close(self) -> None:
        for world in self._worlds:
            world.close()


def run(seed: int, workers: int = 2, *, sample: bool = False) -> FaultOutcome:
    """All faults, or a sample of them, and the table; the table of what was done so far where it is interrupted."""
    whole = _Run(seed, sample=sample)
    try:
        with ThreadPoolExecutor(workers) as pool:
            try:
                under_way = {pool.submit(whole.work, portion) for portion in whole.groups()}
                while under_way:
                    # Ctrl-C is noticed only between two waits: another library's thread may take the signal.
                    done, under_way = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
                    for portion in done:
                        portion.result()
            except BaseException:
                whole.stop()
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        whole.close()
        whole.report()
    return whole.outcome


def run_one(kind: str, asset: str, point: int, seed: int) -> Verdict:
    """One fault again, as a failure's line names it."""
    given = os.environ.get(TEST_URL)
    disk = Disk(DATABASE_MEGABYTES) if kind == kinds.DATABASE_FULL else None
    world = World(None if disk else given, disk, strict=True)
    try:
        verdict = inflict(world, Fault(kind, asset, point), seed, everything=True)
    finally:
        world.close()
    print(f"{verdict.fault}: {'; '.join(verdict.reasons) or 'came right'}")
    return verdict
