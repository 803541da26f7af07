"""Which days of a source's files are new or changed, and complete: by one listing, against what was known before.

Of each day two short hashes are known, its print: of the listing (names, sizes, versions), and of the contents where
they can be read cheaply, so that a file that was only touched is no new delivery. No Dagster here.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from data_platform.sources import files
from data_platform.sources.config import LANDING_MANIFEST, Source
from data_platform.sources.files_config import Complete, FilesSource
from data_platform.sources.landing import MANIFEST, listing
from data_platform.sources.landing_folder import Folder, Listed, LocalFolder, is_seen
from data_platform.sources.landing_store import StoreFolder, is_url

HALF = 8  # characters of one hash: 48 bits
UNREAD = "." * HALF
SETTLE = timedelta(seconds=60)
MOST_READ = 256 * 1024 * 1024  # bytes of contents a tick
# What {date} means in the name of a marker is said there.
_NAMES = FilesSource(url="file:///{date}")

Files = Mapping[date, Sequence[Listed]]
Held = Callable[[Files], Collection[date]]
# Of days with a file that says that it changes in the future: the hash of the listing, and since when it is seen so.
Sights = dict[date, tuple[str, int]]


def short(value: object, characters: int = HALF) -> str:
    """A hash of `value`, as so many characters that JSON and tags take."""
    digest = hashlib.sha256(repr(value).encode()).digest()
    return urlsafe_b64encode(digest)[:characters].decode()


@dataclass
class Arrivals:
    """Prints by day: of the days that are `new` (or changed), and of those that are only to be `noted`.

    `waiting` are days that are new and not yet complete, `ahead` those of them with a file that says that it changed
    in the future, `standing` those that are as they were known.
    """

    new: dict[date, str] = field(default_factory=dict)
    noted: dict[date, str] = field(default_factory=dict)
    waiting: list[date] = field(default_factory=list)
    ahead: Sights = field(default_factory=dict)
    standing: dict[date, str] = field(default_factory=dict)


class Reading:
    """How many bytes of contents may still be read in this tick."""

    def __init__(self, left: int = MOST_READ) -> None:
        self.left = left


def landed(
    landing_url: str,
    source: Source,
    known: Mapping[date, str],
    days: Collection[date],
    *,
    now: datetime,
    held: Held,
    reading: Reading,
    ahead: Sights | None = None,
) -> Arrivals:
    """What is new among `days` in the landing folder of `source`; `held` tells of which days raw has these very files.

    A file that says that it changed in the future (the clock of who sends it is ahead) counts as changed when it was
    first seen: `ahead` is what the look before found of those. Files that were taken away are nothing new. Raises as
    `landing.listing`.
    """
    found = Arrivals()
    beside = _Beside(landing_url, source.folder)
    unknown: dict[date, Sequence[Listed]] = {}
    for day, listed in listing(landing_url, source.folder).items():
        if day not in days or all(file.name.endswith(MANIFEST) for file in listed):
            continue
        before = known.get(day, "")
        seen = short([(file.name, file.size, file.version) for file in listed])
        if before[:HALF] == seen:
            found.standing[day] = before
            continue
        changed = max(file.changed for file in listed)
        sight: tuple[str, int] | None = None
        if changed > now:
            former = (ahead or {}).get(day)
            sight = former if former is not None and former[0] == seen else (seen, int(now.timestamp()))
            changed = datetime.fromtimestamp(sight[1], UTC)
        if not _is_complete(source.complete or Complete(unchanged_for=SETTLE), day, listed, beside, now, changed):
            found.waiting.append(day)
            if sight is not None:
                found.ahead[day] = sight
            continue
        content = UNREAD if is_url(landing_url) else _contents(Path(landing_url, source.folder), listed, reading)
        touched = before[HALF:] == content != UNREAD
        (found.noted if touched else found.new)[day] = seen + content
        if not before:
            unknown[day] = listed
    for day in held(unknown) if unknown else ():
        found.noted[day] = found.new.pop(day)
    return found


def listed_objects(source: Source, known: Mapping[date, str], days: Sequence[date], *, place: str) -> Arrivals:
    """What is new of `days` among the complete files of a source of kind `files`. Raises as `files.listed`."""
    assert source.files is not None
    prints = {day: short(print_) + UNREAD for day, print_ in files.listed(source.files, days, place=place).items()}
    new = {day: print_ for day, print_ in prints.items() if known.get(day) != print_}
    return Arrivals(new=new, standing={day: print_ for day, print_ in prints.items() if day not in new})


def _is_complete(
    complete: Complete, day: date, listed: Sequence[Listed], beside: "_Beside", now: datetime, changed: datetime
) -> bool:
    """Whether the files of a day are all there; `changed` is when they changed last, which is not in the future."""
    if beside.has_unfinished(day, listed):
        return False
    if complete.unchanged_for is not None:
        return now - changed >= complete.unchanged_for
    files_ = [file for file in listed if not file.name.endswith(MANIFEST)]
    newest = max(file.changed for file in files_)
    if complete.marker is not None:
        folder = files_[0].name.rpartition("/")[0]
        name = _NAMES.beside(complete.marker, day)
        sign = beside.listed(f"{folder}/{name}" if folder else name)
    else:
        sign = next((file for file in listed if file.name == _NAMES.beside(LANDING_MANIFEST, day)), None)
    # One that is older than the files is of a former delivery, and does not say that this one is whole.
    return sign is not None and (sign.changed >= newest or now - min(newest, changed) >= SETTLE)


class _Beside:
    """What lies beside the files of a day and is no part of its delivery; looked at for new days alone."""

    def __init__(self, landing_url: str, folder: str) -> None:
        self._landing_url, self._folder = landing_url, folder
        self._opened: Folder[Any] | None = None

    def listed(self, name: str) -> Listed | None:
        """What is known of the file of that name; None where there is none."""
        if self._opened is None:
            kind = StoreFolder if is_url(self._landing_url) else LocalFolder
            self._opened = kind(self._landing_url, self._folder)
        try:
            return self._opened.listed(name)
        except KeyError:  # a store knows no names but those that it listed
            return None

    def has_unfinished(self, day: date, listed: Sequence[Listed]) -> bool:
        """Whether the folder of the day holds a file that is still being written under another name.

        An object of a store is there whole or not at all.
        """
        if is_url(self._landing_url) or not any("/" in file.name for file in listed):
            return False
        try:
            names = [path.name for path in Path(self._landing_url, self._folder, day.isoformat()).iterdir()]
        except OSError:
            return False
        return any(not is_seen(name) and not name.startswith((".", "_")) for name in names)


def _contents(folder: Path, listed: Sequence[Listed], reading: Reading) -> str:
    """A hash of the names and contents of local files; UNREAD where they are too many bytes, or cannot be read."""
    size = sum(file.size for file in listed)
    if size > reading.left:
        return UNREAD
    reading.left -= size
    digests = []
    for file in listed:
        try:
            with (folder / file.name).open("rb") as opened:
                digests.append((file.name, hashlib.file_digest(opened, "sha256").hexdigest()))
        except OSError:
            return UNREAD
    return short(digests)
