"""The archives of retention: copies of the person there that nothing points at, or does no more.

A partition that was moved is read from its archive and promoted without the person into the lake. From then on no
pointer names the archived files, as none names the copies of days that were delivered again: archives are searched.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from data_platform.contracts import STAGED
from data_platform.erasure.rows import NAMING, Erased, erased_staged
from data_platform.errors import SourceUnavailable
from data_platform.lake import (
    DELETED,
    Lake,
    LakePath,
    Stamp,
    partition_name,
    quarantine_name,
    read_file,
    storage_folders,
)
from data_platform.retention.archiving import archive_at
from data_platform.retention.config import load_retention
from data_platform.settings import Settings

if TYPE_CHECKING:
    from data_platform.erasure.person import Erasure

# Of an erasure under way: a pointer that was the last to name an archive may be gone before the copy there is.
DOCUMENT = "_erased/archives.json"


@dataclass(frozen=True)
class Copy:
    """A file of an archive that names the person and that the lake does not point at."""

    path: LakePath
    found: Erased


def named_archives(settings: Settings, lake: Lake) -> dict[str, Lake]:
    """By root the archives that stamps or retention.yaml name, or that an erasure which was killed had to look at.

    Raises SourceUnavailable where one of them is away.
    """
    rules = load_retention(settings)
    roots = {block.archive for block in (rules.raw, rules.staging) if block is not None and block.archive}
    noted = json.loads(lake.read_document(DOCUMENT) or b"[]")
    for root in noted:
        if _is_empty(root):
            raise SourceUnavailable(
                f"The archive {root}, which an erasure has not been through, is empty: mount its disk, then run again."
            )
    roots |= set(noted)
    for entity, contract in STAGED.items():
        for asset in (f"raw_{entity}", contract.table):
            stamps = lake.stamps(asset)
            roots |= {stamp.moved for stamp in stamps.values() if stamp.moved not in ("", DELETED)}
            # The folder that a missing disk is mounted on is there, and empty.
            lake.refuse_away(asset, stamps)
    return {root: archive_at(root, lake) for root in sorted(map(_canonical, roots))}


def remember(job: "Erasure") -> None:
    """Note the archives that hold anything in the lake, before the first pointer goes."""
    if held := [root for root in sorted(job.archives) if not _is_empty(root)]:
        job.lake.update_document(DOCUMENT, lambda _: json.dumps(held).encode())


def forget(job: "Erasure") -> None:
    """Nothing is left there that no pointer names."""
    if job.archives:
        job.lake.update_document(DOCUMENT, lambda _: b"[]")


def copies(job: "Erasure") -> Iterator[Copy]:
    """The copies in archives that name the person and that the lake does not point at."""
    for root, archive in job.archives.items():
        for entity, contract in NAMING.items():
            for asset in (f"raw_{entity}", contract.table):
                yield from _of_asset(job, root, archive, entity, asset)


def clean(job: "Erasure") -> None:
    """Remove the copies, once the lake has the day without the person; and what cleanups that were killed left there.

    A copy of a day that the lake has lost stays, and is listed by the search: nothing else has its other rows.
    """
    for root, archive in job.archives.items():
        with _explained(root):
            for file in archive.files("_aside"):
                file.path.unlink(missing_ok=True)
    for copy in list(copies(job)):
        with _explained(str(copy.path)):
            copy.path.unlink(missing_ok=True)


def parquet_files(job: "Erasure") -> Iterator[LakePath]:
    """All Parquet files of the archives; raises SourceUnavailable where one is away."""
    for archive in named_archives(job.settings, job.lake).values():
        yield from (file.path for file in archive.files("") if file.path.name.endswith(".parquet"))


def _of_asset(job: "Erasure", root: str, archive: Lake, entity: str, asset: str) -> Iterator[Copy]:
    found = [(file.path, day) for folder in storage_folders(asset) for file in archive.files(folder)
             if file.path.name.endswith(".parquet") and (day := _day(file.path)) is not None]  # fmt: skip
    stamps = job.lake.stamps(asset, sorted({day for _, day in found}))
    held = {str(archive.file(name)) for day, stamp in stamps.items()
            if stamp.moved not in ("", DELETED) and _canonical(stamp.moved) == root
            for name in _names(asset, day, stamp)}  # fmt: skip
    for path, day in found:
        if day in stamps and str(path) not in held:
            done = _without(job, path, entity, staged=path.parent.parent.name == NAMING[entity].table)
            if done.rows:
                yield Copy(path, done)


def _without(job: "Erasure", path: LakePath, entity: str, *, staged: bool) -> Erased:
    with _explained(str(path)):
        try:
            frame = read_file(path)
        except (pl.exceptions.PolarsError, FileNotFoundError):
            return Erased(pl.DataFrame())  # the search tells of what cannot be read
    return erased_staged(frame, NAMING[entity], job.among) if staged else job.delivered(frame, entity)


def _names(asset: str, day: date, stamp: Stamp) -> Iterable[str]:
    return partition_name(asset, day), quarantine_name(asset, day, stamp)


def _day(path: LakePath) -> date | None:
    try:
        return date.fromisoformat(path.parent.name.removeprefix("dt="))
    except ValueError:
        return None


def _is_empty(root: str) -> bool:
    """Whether a folder is there with nothing in it: of what was removed the folders stay."""
    return "://" not in root and Path(root).is_dir() and not any(Path(root).iterdir())


def _canonical(root: str) -> str:
    """One archive is not to be taken for two, of which the one does not know what points at the other."""
    return root.rstrip("/") if "://" in root else str(Path(root).resolve())


@contextmanager
def _explained(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceUnavailable(
            f"The archived copies in {place} cannot be read or removed ({error.strerror}): mend the rights there, then "
            "call this again."
        ) from None
