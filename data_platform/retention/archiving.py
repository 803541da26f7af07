"""A partition of the lake moved to an archive: copied, read back, and only then its place given to its stamp.

An archive is laid out as the lake is, so that whoever wants a day back copies it. Killed at any point, the rows are
whole in one of the two places at least, and the lake says in which: what is done twice ends the same.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from data_platform.errors import SettingsError, SourceUnavailable
from data_platform.lake import (
    ARCHIVE,
    Lake,
    LakePath,
    Stamp,
    lake_at,
    partition_name,
    quarantine_name,
    stamp_in,
)

# Two lakes with one archive would overwrite each other's days: each has a name, and the archive that of its lake.
LAKE_ID = "_lake_id"
ARCHIVE_OF = "_archive_of"


@dataclass(frozen=True)
class Copied:
    """A partition of which the archive has a whole copy: its stamp, with where the copy is, and its files."""

    asset: str
    day: date
    stamp: Stamp
    files: int
    bytes: int

    @property
    def rows(self) -> int:
        """The rows in them: of staging with those in quarantine, of raw all that were delivered."""
        if self.asset.startswith("stg_"):
            return self.stamp.rows_staged + self.stamp.rows_quarantined
        return self.stamp.rows_delivered


def archive_at(url: str, lake: Lake) -> Lake:
    """The archive; raises SettingsError or SourceUnavailable where it cannot be reached."""
    archive = lake_at(url, lake.root, ARCHIVE)
    if "://" in url:
        archive.files("_reached")
    elif not Path(url).is_dir():
        # Not made here: it would lie on the disk beneath a mount that is missing.
        raise SourceUnavailable(
            f"The archive of retention.yaml, {url}, is no folder: mount its disk, or make it, then run again."
        )
    theirs = _said(archive, ARCHIVE_OF)
    if theirs is not None and theirs != _said(lake, LAKE_ID):
        raise SettingsError(
            f"The archive of retention.yaml, {url}, holds the days of another lake, which this one's would replace: "
            "name a folder or prefix of its own."
        )
    return archive


def _claim(lake: Lake, archive: Lake) -> None:
    """Have the archive say whose it is, before anything of this lake is written there."""
    if _said(archive, ARCHIVE_OF) is not None:
        return
    mine = _said(lake, LAKE_ID)
    if mine is None:
        mine = uuid.uuid4().hex.encode()
        lake.put(LAKE_ID, mine)
    archive.put(ARCHIVE_OF, mine)


def _said(lake: Lake, name: str) -> bytes | None:
    try:
        return lake.file(name).read_bytes()
    except FileNotFoundError:
        return None


def measured(lake: Lake, asset: str, stamps: Mapping[date, Stamp], to: str) -> list[Copied]:
    """What `copy` would copy of the partitions that `stamps` were read of, by listings: no file is read."""
    folders = {asset, quarantine_name(asset, date.min, Stamp("")).partition("/")[0]}
    sizes = {str(file.path): file.size for folder in folders for file in lake.files(folder)}
    found = []
    for day, stamp in stamps.items():
        held = [sizes.get(str(lake.file(name)), 0) for name in _names(asset, day, stamp)]
        found.append(Copied(asset, day, replace(stamp, moved=to), len(held), sum(held)))
    return found


def copy(lake: Lake, archive: Lake, url: str, asset: str, day: date, stamp: Stamp) -> Copied | None:
    """Copy the partition that `stamp` was read of, quarantine first, and read it back; None where it is another by now.

    Raises SourceUnavailable where the copy is not what was written.
    """
    found = _contents(lake, asset, day, stamp)
    if found is not None:
        _claim(lake, archive)
    for name, content in found or ():
        target = archive.file(name)
        if _digest(target) != sha256(content).digest():
            archive.put(name, content)
            if _digest(target) != sha256(content).digest():
                raise SourceUnavailable(
                    f"The archive of retention.yaml, {url}, does not hold what was written to it ({name}): nothing was "
                    "taken out of the lake; see to that storage, then run again."
                )
    if found is None:
        return None
    return Copied(asset, day, replace(stamp, moved=url), len(found), sum(len(content) for _, content in found))


def settle(lake: Lake, copied: Copied) -> bool:
    """Have the lake say that the copy is the partition, or that it is DELETED, and remove what it stood for.

    False where the partition was replaced meanwhile: then it stays. For staging the caller holds the writer lock.
    """
    if not lake.point(copied.asset, copied.day, copied.stamp):
        return False
    if copied.stamp.rows_quarantined:
        lake.file(quarantine_name(copied.asset, copied.day, copied.stamp)).unlink(missing_ok=True)
    return True


def older_than(days: Sequence[date], keep_days: int, today: date) -> list[date]:
    """Those of `days` that are more than so many days ago."""
    return [day for day in days if day < today - timedelta(days=keep_days)]


def _contents(lake: Lake, asset: str, day: date, stamp: Stamp) -> list[tuple[str, bytes]] | None:
    """The names and contents of the files of a partition, quarantine first; None where it is another by now."""
    try:
        found = [(name, lake.file(name).read_bytes()) for name in _names(asset, day, stamp)]
        name, content = found[-1]
        standing = stamp_in(BytesIO(content), lake.file(name))
        return None if standing != stamp or standing.moved else found
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceUnavailable(
            f"A file of {asset} {day} cannot be read ({error.strerror}): mend its rights."
        ) from None


def _names(asset: str, day: date, stamp: Stamp) -> list[str]:
    """The files of a partition, quarantine first."""
    return [*([quarantine_name(asset, day, stamp)] if stamp.rows_quarantined else []), partition_name(asset, day)]


def _digest(path: LakePath) -> bytes | None:
    try:
        return sha256(path.read_bytes()).digest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceUnavailable(
            f"The archive of retention.yaml cannot be read ({error.strerror}): mend its rights."
        ) from None
