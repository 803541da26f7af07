"""What killed runs left behind: files that nothing will ever read, in the lake, in the archive of answers, in the home.

Only what is a day old: what is younger may be a run's that works now. In Postgres nothing can be left: what a publish
makes on the way are temporary tables that go with its transaction, or tables that are attached in the same one.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg

from data_platform.contracts import STAGED
from data_platform.lake import LEFTOVER_AGE, Lake, LakeFile, LakePath, Stamp, quarantine_name
from data_platform.retention.done import Done
from data_platform.retention.loaded import OF_ENTITY
from data_platform.settings import Settings
from data_platform.warehouse.ledger import entries

STEP = "leftovers"


def of_lake(lake: Lake, archives: Iterable[str], now: datetime, *, dry_run: bool) -> Iterator[Done]:
    """Remove drafts that were never promoted, and quarantine of deliveries that do not stand (any more).

    `archives` are folders, where a copy may have been cut short; an object in a bucket appears whole or not at all.
    """
    roots = {lake.root, *(Path(url) for url in archives if "://" not in url)}
    aside = [file for root in sorted(roots) for file in _listed(root / "_aside") if _is_old(file, now)]
    yield from _removed("Drafts that killed runs left beside the lake", aside, dry_run)
    strays = []
    for entity, contract in STAGED.items():
        kept = _quarantine_of(lake, contract.table, lake.stamps(contract.table))
        files = [file for file in lake.files(f"quarantine_{entity}") if _is_old(file, now)]
        found = [file for file in files if str(file.path) not in kept]
        strays += found
        for file in found if not dry_run else ():
            lake.forget_quarantine(contract.table, _day(file.path), file.path)
    if strays:
        yield _told("Rows in quarantine of deliveries that do not stand", strays)


def _quarantine_of(lake: Lake, table: str, standing: Mapping[date, Stamp]) -> set[str]:
    """The quarantine files that belong to what stands in the lake; of what was moved they are in the archive."""
    return {
        str(lake.file(quarantine_name(table, day, stamp)))
        for day, stamp in standing.items()
        if stamp.rows_quarantined and not stamp.moved
    }


def of_publishes(connection: psycopg.Connection, lake: Lake, now: datetime, *, dry_run: bool) -> Iterator[Done]:
    """Remove replaced staged files that no publish will ask for; the caller holds the writer lock.

    The next publish asks for what the warehouse was loaded from and staging has no more.
    """
    unasked = []
    for entity, contract in STAGED.items():
        formers = {str(path) for path in lake.formers(contract.table)}
        files = [file for file in lake.files(f"_former/{contract.table}") if str(file.path) in formers]
        if not files:
            continue
        standing, published = lake.stamps(contract.table), entries(connection, OF_ENTITY[entity])
        needed = {
            (day, entry.content)
            for day, entry in published.items()
            if day not in standing or standing[day].content != entry.content
        }
        unasked += [file for file in files if _is_old(file, now) and (_day(file.path), file.path.stem) not in needed]
    yield from _removed("Replaced staged files that no publish needs", unasked, dry_run)


def _day(path: LakePath) -> date:
    return date.fromisoformat(path.parent.name.removeprefix("dt="))


def of_home(settings: Settings, now: datetime, *, dry_run: bool) -> Iterator[Done]:
    """Remove what extractions, fetched deliveries and reports left half written below DATA_PLATFORM_HOME."""
    home = settings.home
    folders = [*(home / "archive" / "_aside").glob("*"), *(home / "fetched").glob("landing-*")]
    old = [folder for folder in folders if all(_is_old(file, now) for file in _listed(folder))]
    old = [folder for folder in old if _age(folder, now) > timedelta(seconds=LEFTOVER_AGE)]
    if old:
        held = [file for folder in old for file in _listed(folder)]
        for folder in old if not dry_run else ():
            shutil.rmtree(folder, ignore_errors=True)
        yield _told("Answers and landing files that killed runs fetched", held)
    pages = [file for file in _listed(home / "reports") if file.path.name.startswith(".") and _is_old(file, now)]
    yield from _removed("Reports that were left half written", pages, dry_run)


def _removed(what: str, files: Iterable[LakeFile], dry_run: bool) -> Iterator[Done]:
    files = list(files)
    if not files:
        return
    for file in files if not dry_run else ():
        file.path.unlink(missing_ok=True)
    yield _told(what, files)


def _told(what: str, files: Sequence[LakeFile]) -> Done:
    return Done(STEP, "removed", what, files=len(files), bytes=sum(file.size for file in files))


def _listed(folder: Path) -> list[LakeFile]:
    """The files of a local folder, which may not be there."""
    return Lake(folder).files(".") if folder.is_dir() else []


def _is_old(file: LakeFile, now: datetime) -> bool:
    return now - file.changed > timedelta(seconds=LEFTOVER_AGE)


def _age(path: Path, now: datetime) -> timedelta:
    with suppress(FileNotFoundError):
        return now - datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return timedelta(0)
