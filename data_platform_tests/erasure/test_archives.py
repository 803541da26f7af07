"""A person leaves the archives of retention, too: what is moved there, and what nothing points at any more."""

import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from data_platform.lake import DELETED, Lake, partition_name
from data_platform.retention import archiving
from data_platform_tests.erasure.world import DAYS, ID, World

LANDING = sorted(f"landing/{entity}/{day}.csv" for entity in ("customers", "orders") for day in DAYS)
FIRST, SECOND, THIRD = map(date.fromisoformat, DAYS)
# Once the person is found, and once more when the lake has been cleaned.
DIES = """
import os, signal, sys
from data_platform.cli import main
from data_platform.erasure import archives
search, calls = archives.copies, []
def copies(job):
    calls.append(job)
    if len(calls) == 2:
        {}
    return search(job)
archives.copies = copies
main()
"""


@pytest.fixture
def cold(world: World) -> Path:
    """An archive, which only stamps name: an archive of customers and orders whose every day has the person."""
    cold = world.home / "cold"
    cold.mkdir()
    lake = Lake(world.home / "lake")
    for asset, day in (("raw_customers", FIRST), ("raw_orders", SECOND), ("stg_orders", SECOND),
                       ("stg_customers", THIRD), ("stg_customers", FIRST)):  # fmt: skip
        stamp = lake.stamp(asset, day)
        assert stamp is not None
        copied = archiving.copy(lake, archiving.archive_at(str(cold), lake), str(cold), asset, day, stamp)
        assert copied is not None
        assert archiving.settle(lake, copied)
    return cold


def in_archive(world: World) -> list[str]:
    return [place for place in world.told() if place.startswith("cold/")]


def moved(world: World) -> list[str]:
    return [str(path) for path in (world.home / "lake").rglob("*.parquet") if path.read_bytes().startswith(b"{")]


def dying(world: World, by: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DIES.format(by), "erase", "--customer", ID, "--yes"],
        env=world.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_person_leaves_the_archive_with_its_stale_copies_and_deleted_days_are_passed_over(
    world: World, cold: Path
) -> None:
    folders = {"raw_customers", "raw_orders", "stg_customers", "stg_orders", "quarantine_orders"}
    assert {place.split("/")[1] for place in in_archive(world)} >= folders
    lake = Lake(world.home / "lake")
    # Brought back by copying; replaced, of which the copy of another quarantine is left; cut short; and deleted.
    lake.put(partition_name("stg_customers", FIRST), (cold / partition_name("stg_customers", FIRST)).read_bytes())
    (waiting,) = (cold / "quarantine_orders").glob("dt=*/*.parquet")
    shutil.copy(waiting, waiting.with_name("0123456789abcdef.parquet"))
    (cold / "_aside").mkdir(exist_ok=True)
    (cold / "_aside" / "cut.parquet").write_bytes(waiting.read_bytes()[:200])
    stamp = lake.stamp("raw_orders", FIRST)
    assert stamp is not None
    assert all(archiving.settle(lake, one) for one in archiving.measured(lake, "raw_orders", {FIRST: stamp}, DELETED))

    dry = world.answer("--dry-run")
    assert dry["found"]["copies in archives of retention"] == 2
    done = world.answer()
    assert (done["left"], done["found"]) == ([], dry["found"])
    assert sorted(world.told()) == LANDING
    # Of that day the person was in quarantine alone; the next cleanup writes over it.
    assert list(cold.rglob("*.parquet")) == [cold / partition_name("stg_customers", THIRD)]
    verified = world.run("rebuild", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert moved(world) == [str(lake.path("raw_orders", FIRST))]


def test_killed_between_lake_and_archive_the_next_call_searches_an_archive_that_nothing_names(
    world: World, cold: Path
) -> None:
    before = in_archive(world)
    assert before
    assert dying(world, "os.kill(os.getpid(), signal.SIGKILL)").returncode < 0
    assert moved(world) == []
    assert in_archive(world) == before
    cold.rename(world.home / "away")
    cold.mkdir()
    unmounted = world.erase()
    assert unmounted.returncode == 1
    assert unmounted.stderr.strip() == (
        f"The archive {cold}, which an erasure has not been through, is empty: mount its disk, then run again."
    )
    cold.rmdir()
    (world.home / "away").rename(cold)
    assert world.answer()["found"]["copies in archives of retention"] == len(before)
    assert sorted(world.told()) == LANDING
    cold.rename(world.home / "retired")
    assert world.answer()["left"] == [], "what is done with is not asked for again"


def test_nobody_is_called_erased_while_an_archive_is_away(world: World, cold: Path) -> None:
    away = world.home / "away"
    cold.rename(away)
    refused = world.erase()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.strip().startswith(f"The archive of retention.yaml, {cold}, does not hold ")
    away.rename(cold)
    gone = dying(world, f"os.rename({str(cold)!r}, {str(away)!r})")
    assert gone.returncode == 1
    assert f"The archive of retention.yaml, {cold}, is no folder: mount its disk" in gone.stderr
    assert "Erased" not in gone.stdout
    assert world.query("SELECT * FROM platform.erasures") == []
    away.rename(cold)
    assert in_archive(world)
    assert world.answer()["left"] == []
    assert sorted(world.told()) == LANDING
    assert len(world.query("SELECT * FROM platform.erasures")) == 1


def test_an_archive_that_retention_yaml_alone_names_is_searched(world: World) -> None:
    cold, file = world.home / "cold", world.home / "retention.yaml"
    stale = cold / partition_name("raw_customers", FIRST)
    stale.parent.mkdir(parents=True)
    shutil.copy(world.home / "lake" / partition_name("raw_customers", FIRST), stale)
    file.write_text(f"raw:\n  keep_days: 400\n  archive: {cold}\n")
    world = replace(world, more={"DATA_PLATFORM_RETENTION": str(file)})
    done = world.answer()
    assert (done["found"]["copies in archives of retention"], done["left"]) == (1, [])
    assert not stale.exists()


def test_a_copy_of_a_day_that_the_lake_has_lost_is_listed_and_stays(world: World, cold: Path) -> None:
    lost = cold / partition_name("stg_customers", date(2023, 12, 31))
    lost.parent.mkdir(parents=True)
    shutil.copy(cold / partition_name("stg_customers", FIRST), lost)
    done = world.erase()
    assert done.returncode == 1
    assert done.stdout.partition("Still tells of the person:\n")[2].split() == [str(lost)]
    assert in_archive(world) == [str(lost.relative_to(world.home))]
