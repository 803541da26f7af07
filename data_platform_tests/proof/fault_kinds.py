"""The kinds of faults: which there are for an asset, how one is done, and what must hold afterwards."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_platform_tests.proof import fault_points as points
from data_platform_tests.proof import fault_scene as scene
from data_platform_tests.proof.fault_pictures import Picture, age_aside, between, lost, unlike
from data_platform_tests.proof.fault_scene import IN_LAKE
from data_platform_tests.proof.fault_victim import Outcome, Request
from data_platform_tests.proof.fault_world import Scene, World

KILL, TERMINATE, STOP, CUT = "sigkill", "terminate", "stop", "cut-short"
LAKE_FULL, DATABASE_FULL, RANDOM = "lake-full", "database-full", "random"
KINDS = {
    KILL: "SIGKILL of the process",
    TERMINATE: "termination of its backend",
    STOP: "Postgres stopped hard",
    CUT: "a write cut short",
    LAKE_FULL: "disk of the lake full",
    DATABASE_FULL: "disk of the database full",
    RANDOM: "any of the first three, at a random time",
}
RANDOM_FAULTS = 100
BLOCK = 4096


@dataclass(frozen=True)
class Fault:
    """A kind, the asset that runs (`*`: all), and the point.

    That is a call (sigkill, terminate, stop, database-full), the largest size of a file (cut-short), the kilobytes that
    are left (lake-full), or the number of a random fault.
    """

    kind: str
    asset: str
    point: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.asset}:{self.point}"


@dataclass(frozen=True)
class Verdict:
    """What came of a fault. `injected`: it took place (a limit that was never met is none)."""

    fault: Fault
    injected: bool
    rows_lost: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        return not self.reasons and not self.rows_lost


def faults_of(kind: str, state: Scene) -> list[Fault]:
    """All faults of a kind for an asset."""
    found: Sequence[int] = []
    if kind == KILL:
        found = range(len(state.points))
    elif kind in (TERMINATE, STOP):
        found = [at for at in state.committing if state.points[at].startswith("db ")]
    elif kind == DATABASE_FULL:
        found = _telling(state)
    elif kind == CUT:
        found = _limits(state)
    elif kind == LAKE_FULL:
        found = range(0, _needed(state), BLOCK // 1024)
    return [Fault(kind, state.asset, point) for point in found]


def sample_of(kind: str, state: Scene, seed: int) -> list[Fault]:
    """A few of them, spread over the run; which, the seed says.

    In Postgres: at the first COPY, in the middle, just before the commit and just after it. In the lake: among the
    writes and around the renames.
    """
    chance = random.Random(f"{seed}:{kind}:{state.asset}")
    window = state.committing
    if kind == KILL and state.asset not in IN_LAKE:
        telling = [window[0], window[len(window) // 2], window[-2], window[-1]]
        chosen = telling if state.asset == "facts" else chance.sample(telling, 2)
    elif kind == KILL:
        written = [at for at, what in enumerate(state.points) if what == "half of a Parquet file"]
        renamed = [at for at, what in enumerate(state.points) if what.startswith("replace")]
        chosen = [chance.choice(written), chance.choice([*renamed, *(at + 1 for at in renamed[:-1])])]
    else:
        among = faults_of(kind, state)
        if kind in (TERMINATE, STOP, DATABASE_FULL):
            among = [fault for fault in among if fault.point in window]
        chosen = [chance.choice(among).point]
    return [Fault(kind, state.asset, point) for point in sorted(chosen)]


def _telling(state: Scene) -> list[int]:
    """Every third call of the publish and those around its commit: what a full disk meets is between them the same."""
    window = state.committing
    return sorted({*window[::3], *window[-4:]})


def _limits(state: Scene) -> list[int]:
    """Sizes at which the asset's files are cut short: nothing, the head, half, all but the last byte."""
    return sorted({0, 4, 512, *(size // 2 for size in state.written), *(size - 1 for size in state.written)})


def _needed(state: Scene) -> int:
    """The kilobytes that the asset's run writes."""
    return sum(-(-size // BLOCK) * BLOCK for size in state.written) // 1024


def inflict(world: World, fault: Fault, seed: int, *, everything: bool) -> Verdict:
    """Restore the state before, run with the fault, look, run again, compare; then all the rest, and compare."""
    state = world.scene(fault.asset)
    whole = fault.asset == "*"
    chosen = scene.everything() if whole else scene.ASSETS[fault.asset]
    disk = world.small_disk if fault.kind == LAKE_FULL else world.disk
    lake = disk.path / "lake" if disk and fault.kind == LAKE_FULL else world.lake
    world.restore(state, lake)
    request = _with_fault(world, fault, world.request(chosen, lake), seed)
    if disk and fault.kind == LAKE_FULL:
        points.fill(disk.ballast, leave=fault.point * 1024)
    outcome = world.run(request)
    if fault.kind == RANDOM and not _took_place(fault, outcome):
        world.pace = outcome.seconds  # the machine has become faster: it is less busy
    if disk:
        points.free(disk.ballast)
    world.server.restart()  # where it was stopped, it recovers; else nothing happens

    reasons = _told(world, fault, state, outcome, world.picture(lake))
    age_aside(lake)
    found, missed = _run_again(world, chosen, lake, state.after)
    if found.aside and (whole or fault.asset in IN_LAKE):
        missed.append(f"the re-run, a day later, left {len(found.aside)} files aside")
    rows_lost = lost(found, state.after)
    if everything and not whole:
        final, _ = world.clean
        found, later = _run_again(world, scene.everything(), lake, final)
        missed += later
        rows_lost += lost(found, final)
    return Verdict(fault, _took_place(fault, outcome), rows_lost, (*reasons, *missed))


def _run_again(world: World, select: tuple[str, ...], lake: Path, wanted: Picture) -> tuple[Picture, list[str]]:
    """What a run without a fault makes of the state at hand, and how that differs from what is wanted."""
    rerun = world.run(world.request(select, lake))
    missed = [] if rerun.success else [f"the re-run failed: {'; '.join(rerun.failures) or rerun.signal}"]
    found = world.picture(lake)
    return found, missed + unlike(found, wanted)


def _with_fault(world: World, fault: Fault, request: Request, seed: int) -> Request:
    if fault.kind == CUT:
        return replace(request, file_limit=fault.point)
    if fault.kind == LAKE_FULL:
        return request
    if fault.kind == DATABASE_FULL and world.disk:
        return replace(request, fault="fill", point=fault.point, ballast=str(world.disk.ballast))
    if fault.kind == RANDOM:
        kind, share = _at_random(fault.point, seed, stoppable=not world.server.given)
        return replace(request, fault=kind, after=max(0.001, share * world.pace))
    return replace(request, fault=fault.kind, point=fault.point)


def _at_random(number: int, seed: int, *, stoppable: bool) -> tuple[str, float]:
    """What the random fault `number` of a seed is, and when: as a share of the time that a run takes."""
    chance = random.Random(f"{seed}:{number}")
    kind = chance.choices((KILL, TERMINATE, STOP), (6, 2, 2))[0]
    share = chance.uniform(0.05, 1.0)
    return (kind if stoppable or kind != STOP else KILL), share


def _told(world: World, fault: Fault, state: Scene, outcome: Outcome, found: Picture) -> list[str]:
    """What must hold right after the fault."""
    reasons = []
    if outcome.hung:
        reasons.append("the run hung")
    if fault.asset == "*":
        # A run whose backend was ended goes on with assets that do not wait for the one that failed.
        if world.strict and outcome.signal and found.rows not in world.committed:
            reasons.append("the tables are of no state that a run without a fault commits")
        found = replace(found, rows=state.before.rows)
    reasons += between(found, state.before, state.after)
    if outcome.success and fault.asset != "*" and found != state.after:
        reasons.append("the run told of success, but its result is not there")
    if found.aside and fault.kind in (CUT, LAKE_FULL):
        reasons.append(f"a run that failed left {len(found.aside)} files aside")
    return reasons


def _took_place(fault: Fault, outcome: Outcome) -> bool:
    if fault.kind == KILL:
        return outcome.signal == 9
    if fault.kind in (CUT, LAKE_FULL):
        return not outcome.success
    return outcome.struck is not None
