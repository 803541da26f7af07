"""Files in object stores as sources: the objects of a day, as they are, once they are complete.

Any store that fsspec knows how to reach: S3 and what speaks like it, Google Cloud Storage, Azure, a folder.
"""

import hashlib
import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from data_platform.errors import DeliveryRejected, SourceUnavailable
from data_platform.sources.extraction import Extracted, Window, secret
from data_platform.sources.files_config import FilesSource
from data_platform.sources.files_manifest import MAX_BYTES as MAX_MANIFEST_BYTES
from data_platform.sources.files_manifest import FilesManifest, parse_files_manifest
from data_platform.sources.object_store import Object, Store
from data_platform.sources.readers import EXTENSIONS, extension_of
from data_platform.sources.unpack import safe_name, unpack_zip, workbook_to_parquet

__all__ = ["FilesSource", "extract", "listed"]

MAX_BYTES = 10 * 1024**3  # of a day, unpacked
_READABLE = (*EXTENSIONS, "zip", "xlsx")


def extract(config: FilesSource, window: Window, into: Path, *, columns: Sequence[str], place: str) -> Extracted:
    """Fetch the objects of the window's day into `into`, in the order of their names; none is no delivery.

    Raises SourceUnavailable while they are not complete, DeliveryRejected for what is not what was told or cannot be
    taken, SettingsError for what will never work.
    """
    del columns  # a day without files is absent, not empty
    store = _store(config, place)
    with store.explained():
        pattern = config.pattern(window.day)
        found = [one for one in store.objects() if pattern.fullmatch(one.name) and config.is_data(one.name, window.day)]
        if not found:
            _refuse_promises(config, window.day, store)
            return Extracted()
        manifest = _complete(config, window.day, found, store)
        total = 0
        for number, one in enumerate(sorted(found, key=lambda one: os.fsencode(one.name)), start=1):
            label = f"{place}: {PurePosixPath(one.name).name!a}"
            extension = _extension(one.name)
            if extension is None:
                raise DeliveryRejected(f"{label} is no kind of file that is read: use {', '.join(_READABLE)}.")
            target = into / f"{number:04}-{safe_name(PurePosixPath(one.name).name)}"
            total += store.fetch(one, target, label, MAX_BYTES, manifest.checksums(one.name, label))
            if total > MAX_BYTES:
                raise DeliveryRejected(
                    f"{place}: the files of {window.day} have more than {MAX_BYTES:,} bytes: split them."
                )
            if extension == "zip":
                total += unpack_zip(target, label, MAX_BYTES - total, config.sheet, place)
            elif extension == "xlsx":
                workbook_to_parquet(target, label, config.sheet, place)
    return Extracted(manifest.rows, {"objects": len(found), "bytes": total})


def listed(config: FilesSource, days: Sequence[date], *, place: str) -> dict[date, str]:
    """Of `days` those whose files are there and complete, each with a fingerprint of them: by one listing for all.

    Raises as `extract`.
    """
    store = _store(config, place)
    with store.explained():
        by_day: dict[date, list[Object]] = {}
        finder = config.days_by_path(days)
        everything = list(store.objects())
        for one in everything:
            if (day := finder.of(one.name)) is not None and config.is_data(one.name, day):
                by_day.setdefault(day, []).append(one)
        found = {}
        for day, objects in sorted(by_day.items()):
            if _is_complete(config, day, objects, {one.name for one in everything}):
                told = [(one.name, one.size, one.version) for one in sorted(objects, key=lambda one: one.name)]
                found[day] = hashlib.sha256(repr(told).encode()).hexdigest()
        return found


def _store(config: FilesSource, place: str) -> Store:
    options: dict[str, Any] = {}
    secrets: list[str] = []
    if config.credentials is not None:
        is_azure = config.scheme in ("az", "abfs")
        secrets = [
            secret(config.credentials.key, f"{place}.credentials.key"),
            secret(config.credentials.secret, f"{place}.credentials.secret"),
        ]
        options |= dict(zip(("account_name", "account_key") if is_azure else ("key", "secret"), secrets, strict=True))
    if config.scheme == "s3":
        told = {"endpoint_url": config.endpoint, "region_name": config.region}
        options["client_kwargs"] = {name: value for name, value in told.items() if value}
    if config.anonymous:
        options |= {"anon": True} if config.scheme == "s3" else {"token": "anon"}
    return Store(config.folder, place, url_of=f"{place}.url", options=options, secrets=secrets)


def _extension(name: str) -> str | None:
    folded = name.casefold()
    return extension_of(name) or next((kind for kind in ("zip", "xlsx") if folded.endswith(f".{kind}")), None)


# Completeness


def _is_complete(config: FilesSource, day: date, found: Sequence[Object], names: set[str]) -> bool:
    complete = config.complete
    if complete is None:
        return True
    if complete.unchanged_for is not None:
        newest = max((one.changed for one in found if one.changed), default=None)
        return newest is not None and datetime.now(UTC) - newest >= complete.unchanged_for
    return _beside(config, day, found) in names


def _beside(config: FilesSource, day: date, found: Sequence[Object]) -> str:
    assert config.complete is not None
    name = config.beside(config.complete.name, day)
    folder = found[0].name.rpartition("/")[0]
    return f"{folder}/{name}" if folder else name


def _complete(config: FilesSource, day: date, found: Sequence[Object], store: Store) -> FilesManifest:
    """The day's manifest, if that is what completes it; raises SourceUnavailable while the files are not complete."""
    complete = config.complete
    if complete is None:
        return FilesManifest()
    names = {one.name: one for one in store.objects()}
    if not _is_complete(config, day, found, set(names)):
        waits = (
            f"they changed within the last {complete.unchanged_for}" if complete.unchanged_for is not None
            else f"{f'{store.url}/{_beside(config, day, found)}'!a} is not there yet"
        )  # fmt: skip
        raise SourceUnavailable(f"{store.place}: the files of {day} are not complete: {waits}. They are taken later.")
    if complete.manifest is None:
        return FilesManifest()
    manifest = _read_manifest(names[_beside(config, day, found)], day, store)
    told, there = set(manifest.files), {PurePosixPath(one.name).name for one in found}
    if told and told != there:
        odd = sorted(told ^ there)[:3]
        raise DeliveryRejected(
            f"{store.place}: the manifest of {day} and the files there differ ({', '.join(map(ascii, odd))}): have "
            "what is missing delivered."
        )
    return manifest


def _refuse_promises(config: FilesSource, day: date, store: Store) -> None:
    """Raise DeliveryRejected for a manifest of rows or files where no file is there."""
    if config.complete is not None and config.complete.manifest is not None:
        pattern = config.manifests(day)
        for one in store.objects():
            if pattern.fullmatch(one.name):
                _read_manifest(one, day, store).refuse_unfulfilled(store.place, day)


def _read_manifest(one: Object, day: date, store: Store) -> FilesManifest:
    if one.size > MAX_MANIFEST_BYTES:
        raise DeliveryRejected(f"{store.place}: the manifest of {day} has more than {MAX_MANIFEST_BYTES:,} bytes.")
    return parse_files_manifest(store.read(one), store.place, day)
