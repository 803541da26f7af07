"""What sources that are asked have answered, as delivered: HOME/archive/<entity>/<YYYY-MM-DD>/, laid out like landing.

A day appears whole or not at all: it is written aside and renamed. What begins with `_` in a day's folder (responses
of an API, what the extraction says of itself) is no landing file.
"""

import errno
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

from data_platform.errors import SourceUnavailable
from data_platform.sources.extraction import Extracted

SAID = "_extraction.json"


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

    def said(self, day: date) -> Said | None:
        """What the extraction of a day said; None where there is none."""
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
            aside.mkdir(parents=True)
        try:
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

    def _replace(self, day: date, aside: Path) -> None:
        target, former = self.folder(day), aside.with_name(f"{aside.name}.former")
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if target.exists():
                target.rename(former)
            aside.rename(target)
        shutil.rmtree(former, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.root / "_locks" / self.entity
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise SourceUnavailable(
                    f"The disk of the archive ({self.root}) is full: nothing was taken; free space and run again."
                ) from None
            raise SourceUnavailable(
                f"The archive ({self.root}) cannot be written ({error.strerror}): mend the rights of that folder."
            ) from None


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
