"""What a landing folder must be able to tell of an entity's deliveries, and a local folder that can.

Which names make a day is in `landing.py`; a landing in an object store is `landing_store.py`.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Protocol, TypeVar

from data_platform.errors import DeliveryRejected, SettingsError, SourceUnavailable

_UNFINISHED = (".tmp", ".part", ".crdownload")

File = TypeVar("File", covariant=True)


@dataclass(frozen=True)
class Entry:
    """An entry of a folder, by its plain name; whether it is a folder is known from the listing, without a call."""

    name: str
    is_folder: bool


@dataclass(frozen=True)
class DeliveredFile:
    """A file as it was when its folder was listed. `name` is relative to LANDING/<entity>, with forward slashes."""

    path: Path
    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Listed:
    """What a listing tells of a file, unread. `name` as in DeliveredFile; another `version` is another content.

    `changed` is in UTC.
    """

    name: str
    size: int
    version: str
    changed: datetime


class Folder(Protocol[File]):
    """LANDING/<entity>, wherever it is. Names are relative to it, with forward slashes."""

    where: str  # how sentences call it

    def entries(self, below: str = "") -> Iterable[Entry]:
        """What is meant to be seen of the folder, or of the folder `below` it; nothing where there is none."""

    def file(self, name: str) -> File:
        """A file, to be read later; raises DeliveryRejected for one that may not be taken."""

    def listed(self, name: str) -> Listed | None:
        """What is known of a file without reading it; None where it is none (any more)."""


def is_seen(name: str) -> bool:
    """Whether an entry is looked at: hidden and unfinished ones are passed over."""
    return not name.startswith((".", "_")) and not name.endswith(_UNFINISHED)


class LocalFolder:
    """A folder of this machine. A landing folder that does not exist holds nothing.

    Raises SettingsError where the entity's folder is a link that leads out of the landing folder.
    """

    def __init__(self, landing: str, entity: str) -> None:
        self._root = Path(os.path.realpath(landing))
        self._entity, self._path = entity, self._root / entity
        self.where = str(self._path)
        if not self._path.resolve().is_relative_to(self._root):
            raise SettingsError(
                f"{self.where} is a link that leads out of the landing folder: point DATA_PLATFORM_LANDING_URL at the "
                f"folder that holds the files."
            )

    def entries(self, below: str = "") -> Iterator[Entry]:
        """See Folder; raises SourceUnavailable where a folder may not be listed."""
        folder = self._path / below
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_seen(entry.name):
                        yield Entry(entry.name, entry.is_dir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise SourceUnavailable(
                f"the folder {folder} cannot be listed ({error.strerror}): let this user read it, then materialize "
                f"again."
            ) from None

    def file(self, name: str) -> DeliveredFile:
        """See Folder; raises SourceUnavailable where the file may not be looked at."""
        label = f"{self._entity}/{name}"
        # A folder of parts may itself be a link: what counts is where the file really is.
        path = Path(os.path.realpath(self._path / name))
        if not path.is_relative_to(self._root):
            raise DeliveryRejected(
                f"{label} is a link that leads out of the landing folder: put the file itself there."
            )
        size, mtime_ns = size_and_time(path, label)
        return DeliveredFile(path, name, size, mtime_ns)

    def listed(self, name: str) -> Listed | None:
        """See Folder. A file that may not be looked at is none here: whoever reads it says so."""
        try:
            status = (self._path / name).stat()
        except OSError:
            return None
        if not S_ISREG(status.st_mode):
            return None
        changed = datetime.fromtimestamp(status.st_mtime, UTC)
        return Listed(name, status.st_size, str(status.st_mtime_ns), changed)


def size_and_time(path: Path, label: str) -> tuple[int, int]:
    """The size and mtime_ns of a regular file; raises DeliveryRejected for what is none, SourceUnavailable."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DeliveryRejected(f"{label} was listed and is gone, or is a link to nothing: deliver it again.") from None
    except OSError as error:
        raise SourceUnavailable(
            f"{label} cannot be looked at ({error.strerror}): let this user read its folder."
        ) from None
    if not S_ISREG(status.st_mode):
        raise DeliveryRejected(f"{label} is no regular file: put the file itself there.")
    return status.st_size, status.st_mtime_ns
