"""What sources that are asked have answered, as delivered: HOME/archive/<entity>/<YYYY-MM-DD>/, laid out like landing.

A day appears whole or not at all: it is written aside and renamed. What begins with `_` in a day's folder (responses
of an API, what the extraction says of itself) is no landing file.

The answer that another one replaced is kept, one of a day: `_former/<entity>/<YYYY-MM-DD>/`. Nothing reads it; whoever
finds that a source answered wrongly (all at once nothing) moves it back and replays the day.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

from data_platform.errors import SourceUnavailable
from data_platform.sources.extraction import Extracted

SAID = "_extraction.json"
LEFTOVER_AGE = 24 * 60 * 60  # seconds without a new file; what is aside is of one day's extraction


@dataclass(frozen=True)
class Said:
    """What an extraction said of itself: see `Extracted`; and the run that made it."""

    run_id: str
    rows: int | None = None
    figures: dict[str, int | str] = field(default_factory=dict)


class Archive:
    """The archived days of one entity. `root` is a landing root of its own."""

    def __init__(self, root: Path, entity: str) -> None:
        self.root, self.entity = root, entity

    def folder(self, day: date) -> Path:
        """Where the files of a day are."""
        return self.root / self.entity / day.isoformat()

    def former(self, day: date) -> Path:
        """Where the files are that those of a day replaced."""
        return self.root / "_former" / self.entity / day.isoformat()

    def said(self, day: date) -> Said | None:
        """What the extraction of a day said; None where there is none. It is asked before a day's files are read.

        Raises SourceUnavailable where what a killed run left half replaced cannot be put back.
        """
        with self._explained():
            self._recover(day)
        try:
            return Said(**json.loads((self.folder(day) / SAID).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def take(self, day: date, run_id: str, extract: Callable[[Path], Extracted]) -> bool:
        """Have `extract` write the files of `day` into a folder, which then replaces what stood; whether it wrote any.

        Where it raises or writes nothing, what stood stands. Raises what `extract` raises, and SourceUnavailable where
        the archive cannot be written.
        """
        aside = self.root / "_aside" / uuid.uuid4().hex
        with self._explained():
            self._remove_leftovers()
            aside.mkdir(parents=True)
        try:
            with self._explained(full_only=True):
                extracted = extract(aside)
            with self._explained():
                if not any(not path.name.startswith("_") for path in aside.iterdir()):
                    return False
                said = Said(run_id, extracted.rows, extracted.figures)
                (aside / SAID).write_text(json.dumps(asdict(said)), encoding="utf-8")
                _sync(aside)
                self._replace(day, aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return True

    # Between its two renames a day is away, under a name that tells which day it is: whoever looks next puts it back.

    def _replaced(self, day: date) -> Path:
        former = self.former(day)
        return former.with_name(f"{former.name}.replaced")

    def _replace(self, day: date, aside: Path) -> None:
        target, replaced = self.folder(day), self._replaced(day)
        target.parent.mkdir(parents=True, exist_ok=True)
        replaced.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._settle(day)
            try:
                if target.exists():
                    target.rename(replaced)
                aside.rename(target)
            finally:
                self._settle(day)

    def _recover(self, day: date) -> None:
        if self._replaced(day).exists():
            with self._locked():
                self._settle(day)

    def _settle(self, day: date) -> None:
        """Make what was replaced the former answer, or the answer again where none took its place."""
        target, replaced, former = self.folder(day), self._replaced(day), self.former(day)
        if not replaced.exists():
            return
        if not target.exists():
            replaced.rename(target)
        elif former.exists() and _same(replaced, target):
            # The same answer twice is no reason to forget the one that it first replaced.
            self._discard(replaced)
        else:
            if former.exists():
                self._discard(former)
            replaced.rename(former)

    def _discard(self, folder: Path) -> None:
        # Out of its place first: half a folder would be taken for an answer.
        aside = self.root / "_aside" / uuid.uuid4().hex
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """Remove what killed runs left aside a day ago."""
        for folder in (self.root / "_aside").glob("*"):
            with suppress(FileNotFoundError):  # another run's, done meanwhile
                newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
                if time.time() - newest > LEFTOVER_AGE:
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # One name for orders, another for orders/shop: the one is no folder of the other.
        path = self.root / "_locks" / f"{self.entity.replace('/', '.')}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _explained(self, *, full_only: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SourceUnavailable(
                    f"The disk of the archive ({self.root}) is full: nothing was taken; free space and run again."
                ) from None
            if full_only:
                raise
            raise SourceUnavailable(
                f"The archive ({self.root}) cannot be written ({error.strerror}): mend the rights of that folder."
            ) from None


def _same(one: Path, other: Path) -> bool:
    """Whether two answers deliver the same, whatever their extractions said."""
    return _delivered(one) == _delivered(other)


def _delivered(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.iterdir():
        if not path.name.startswith("_"):
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").digest()
    return found


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
