"""A landing in an object store, `s3://bucket/prefix`: listed once, and fetched a day at a time into a temporary folder.

What makes a day is judged by names alone (`landing.py`), before anything is fetched. What is fetched is numbered: no
name of an object becomes a path. Credentials, region and endpoint are the environment's (AWS_…).
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_platform.errors import DeliveryRejected, SettingsError, SourceUnavailable
from data_platform.sources.landing_folder import DeliveredFile, Entry, Listed, is_seen
from data_platform.sources.object_store import Object, Store
from data_platform.sources.readers import extension_of

PLACE = "DATA_PLATFORM_LANDING_URL"
SCHEMES = ("s3", "gs", "az", "abfs")
MAX_BYTES = 10 * 1024**3  # of a day
MAX_MANIFEST_BYTES = 1024 * 1024
LEFTOVER_AFTER = 24 * 60 * 60  # seconds; a folder is of one day's delivery, which takes minutes
_PREFIX = "landing-"


def is_url(landing_url: str) -> bool:
    """Whether a landing is no folder of this machine."""
    return "://" in landing_url


class StoreFolder:
    """LANDING/<entity> in an object store; see `landing_folder.Folder`. It is listed once, when it is made.

    Raises SettingsError for a bucket that is not there or may not be read, a scheme that is not read and a library that
    is not installed, SourceUnavailable where the store does not answer.
    """

    def __init__(self, landing_url: str, entity: str) -> None:
        scheme = landing_url.partition("://")[0]
        if scheme not in SCHEMES:
            raise SettingsError(
                f"{PLACE} begins with {scheme}://, which is not read: set it to a local folder, or to a URL that "
                f"begins with {', '.join(f'{known}://' for known in SCHEMES)}."
            )
        self.where = f"{landing_url.rstrip('/')}/{entity}"
        secrets = [os.environ.get(name, "") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
        self._store = Store(self.where, PLACE, url_of=PLACE, options=_options(scheme), secrets=secrets)
        with self._store.explained():
            self._objects = {one.name: one for one in self._store.objects()}
        self._entries: dict[str, dict[Entry, None]] = {"": {}}
        for name in self._objects:
            self._enter(name)

    def _enter(self, name: str) -> None:
        """Note the folders and the file that a name tells of; one that ends in / is a folder's mark, no file."""
        *folders, last = name.split("/")
        # An empty part is a folder of its own that no day is called by: //2024-01-05.csv is not 2024-01-05.csv.
        parts = [Entry(part or "/", is_folder=True) for part in folders]
        if last:
            parts.append(Entry(last, is_folder=False))
        if parts and is_seen(parts[0].name):
            self._entries[""][parts[0]] = None
        if len(parts) > 1 and is_seen(parts[1].name):
            self._entries.setdefault(parts[0].name, {})[parts[1]] = None

    def entries(self, below: str = "") -> Iterable[Entry]:
        """See Folder: of the folder itself, and of those right below it."""
        return self._entries.get(below, {})

    def file(self, name: str) -> Object:
        """See Folder."""
        return self._objects[name]

    def listed(self, name: str) -> Listed | None:
        """See Folder."""
        one = self._objects[name]
        return Listed(name, one.size, one.version, one.changed or datetime.fromtimestamp(0, UTC))

    def fetch(self, objects: Sequence[Object], into: Path) -> tuple[DeliveredFile, ...]:
        """The objects as files of the empty folder `into`; raises DeliveryRejected for what is not as it was listed."""
        if sum(one.size for one in objects) > MAX_BYTES:
            raise DeliveryRejected(f"{self.where}: the day's files have more than {MAX_BYTES:,} bytes: split them.")
        files = []
        with self._store.explained():
            for number, one in enumerate(objects, start=1):
                path = into / f"{number:04}.{extension_of(one.name)}"
                self._store.fetch(one, path, f"{self.where}/{one.name}", MAX_BYTES, {})
                status = path.stat()
                files.append(DeliveredFile(path, one.name, status.st_size, status.st_mtime_ns))
        return tuple(files)

    def read(self, name: str) -> bytes | None:
        """A small file whole; None where there is none. Raises DeliveryRejected for one that is not small."""
        one = self._objects.get(name)
        if one is None:
            return None
        if one.size > MAX_MANIFEST_BYTES:
            raise DeliveryRejected(f"{self.where}/{name} has more than {MAX_MANIFEST_BYTES:,} bytes: write less.")
        with self._store.explained():
            try:
                return self._store.read(one)
            except FileNotFoundError:
                return None


def _options(scheme: str) -> dict[str, Any]:
    if scheme != "s3":
        return {}
    names = {
        "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "region_name": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    }
    told = {option: next(filter(None, map(os.environ.get, known)), None) for option, known in names.items()}
    return {"client_kwargs": {option: value for option, value in told.items() if value}}


class Scratch:
    """Temporary folders below `root`, one at a time; what killed runs left there is removed by its age."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def emptied(self) -> Path:
        """A new and empty folder; the one before is removed. Raises SourceUnavailable where none can be made."""
        self.close()
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            self._folder = tempfile.TemporaryDirectory(dir=self._root, prefix=_PREFIX, ignore_cleanup_errors=True)
        except OSError as error:
            raise SourceUnavailable(
                f"no temporary folder can be made in {self._root} ({error.strerror}): let this user write there."
            ) from None
        return Path(self._folder.name)

    def _remove_leftovers(self) -> None:
        for folder in self._root.glob(f"{_PREFIX}*"):
            with suppress(FileNotFoundError):  # another run's, done meanwhile
                if time.time() - folder.stat().st_mtime > LEFTOVER_AFTER:
                    shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
