"""Object stores, by fsspec: one folder listed at once, and objects fetched whole or not at all.

S3 and what speaks like it, Google Cloud Storage, Azure, and a folder of this machine. What is asked for, and whether
it is complete, is the caller's.
"""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from data_platform.errors import DeliveryRejected, PlatformError, SettingsError, SourceUnavailable
from data_platform.sources.extraction import not_installed, without_secrets

_CHUNK = 8 * 1024 * 1024
_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure", "abfs": "azure"}
# What the libraries raise where no time mends it, by name: they may not be installed.
_NO_CREDENTIALS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound",
     "DefaultCredentialsError", "ClientAuthenticationError"}
)  # fmt: skip
_NO_ADDRESS = frozenset(
    {"InvalidRegionError", "NoRegionError", "ParamValidationError", "EndpointResolutionError", "UnknownEndpointError"}
)
_NO_ADDRESS_CODES = frozenset({"InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed"})
_S3 = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}


@dataclass(frozen=True)
class Object:
    """An object as it was listed. `path` is how the store calls it, `name` its path below the listed folder."""

    path: str
    name: str
    size: int
    version: str
    changed: datetime | None


class Store:
    """The objects below the folder `url`. Sentences begin with `place`; `url_of` is where that URL was set.

    `options` are fsspec's for the scheme, `secrets` what no sentence may hold. Raises SettingsError where a library is
    missing.
    """

    def __init__(
        self, url: str, place: str, *, url_of: str, options: Mapping[str, Any], secrets: Sequence[str] = ()
    ) -> None:
        self.url, self.place = url, place
        self._scheme, self._url_of, self._secrets = url.partition("://")[0], url_of, secrets
        with self.explained():
            self._fs = self._opened(options)
        self._root: str = self._fs._strip_protocol(unquote(url) if self._scheme == "file" else url)
        self._objects: list[Object] | None = None

    def _opened(self, options: Mapping[str, Any]) -> Any:
        import fsspec

        own = {"config_kwargs": _S3} if self._scheme == "s3" else {}
        try:
            return fsspec.filesystem(self._scheme, use_listings_cache=False, skip_instance_cache=True, **own, **options)
        except ImportError:
            raise not_installed(self.place, _EXTRAS[self._scheme]) from None

    def objects(self) -> list[Object]:
        """Everything below the listed folder, by one listing."""
        if self._objects is None:
            try:
                infos = self._fs.find(self._root, withdirs=False, detail=True)
            except FileNotFoundError:
                if self._scheme == "s3":  # where only a bucket can be missing: a prefix without objects is empty
                    raise
                infos = {}
            self._objects = [self._object(path, info) for path, info in infos.items()]
        return self._objects

    def _object(self, path: str, info: Mapping[str, Any]) -> Object:
        changed = info.get("LastModified") or info.get("updated") or info.get("last_modified") or info.get("mtime")
        if isinstance(changed, str):
            changed = datetime.fromisoformat(changed)
        elif isinstance(changed, (int, float)):
            changed = datetime.fromtimestamp(changed, UTC)
        version = str(info.get("ETag") or info.get("etag") or info.get("mtime") or changed)
        return Object(path, path[len(self._root) :].removeprefix("/"), int(info["size"] or 0), version, changed)

    def read(self, one: Object) -> bytes:
        """A small object whole."""
        content: bytes = self._fs.cat_file(one.path)
        return content

    def fetch(self, one: Object, target: Path, label: str, most_bytes: int, checksums: Mapping[str, str]) -> int:
        """Write an object to `target`, and give its size.

        Raises DeliveryRejected where it is not what was listed or promised (`checksums` by algorithm), or is larger
        than `most_bytes`.
        """
        self._refuse_outside(one, label)
        digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in checksums}
        size = 0
        try:
            with (
                self._fs.open(one.path, "rb", cache_type="readahead", block_size=_CHUNK) as source,
                target.open("wb") as file,
            ):
                while chunk := source.read(_CHUNK):
                    size += len(chunk)
                    if size > most_bytes:
                        raise DeliveryRejected(f"{label} has more than {most_bytes:,} bytes: split it.")
                    for digest in digests.values():
                        digest.update(chunk)
                    file.write(chunk)
            now = self._object(one.path, self._fs.info(one.path))
        except FileNotFoundError:
            raise DeliveryRejected(f"{label} was listed and is gone: deliver it again.") from None
        if (size, now.size, now.version) != (one.size, one.size, one.version):
            raise DeliveryRejected(
                f"{label} changed while it was being read, so it is unfinished: run the day again once it is complete."
            )
        for kind, digest in digests.items():
            if digest.hexdigest() != checksums[kind]:
                raise DeliveryRejected(f"{label} has another {kind} than its manifest says: have it delivered again.")
        return size

    def _refuse_outside(self, one: Object, label: str) -> None:
        if self._scheme == "file":
            root = Path(os.path.realpath(self._root))
            if not Path(os.path.realpath(one.path)).is_relative_to(root):
                raise DeliveryRejected(f"{label} is a link that leads out of its folder: put the file itself there.")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the stores raise into sentences without secrets."""
        try:
            yield
        except PlatformError:
            raise
        except PermissionError:
            raise SettingsError(
                f"{self.place}: {self.url} may not be read: correct the credentials, or give them the right to list "
                "and to read."
            ) from None
        except FileNotFoundError:
            raise SettingsError(f"{self._url_of}: {self.url} is not there: correct it.") from None
        except Exception as error:
            raise self._sentence(error) from None

    def _sentence(self, error: Exception) -> PlatformError:
        """What is to be done about an error of the libraries, and whether it may pass by itself."""
        reason = " ".join(without_secrets(str(error), self._secrets).split())
        said = f"{type(error).__name__}: {reason[:160] or 'no reason given'}"
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return SourceUnavailable(
                f"{self.place}: the disk that {self.url} is fetched to is full: nothing was taken; free space and run "
                "again."
            )
        known = {type(one).__name__ for one in (error, error.__cause__) if one is not None}
        if known & _NO_CREDENTIALS:
            return SettingsError(
                f"{self.place}: {self.url} needs credentials that are not there, or not whole ({said}): set them."
            )
        # ValueError: of an endpoint that is no URL.
        if known & _NO_ADDRESS or _code(error) in _NO_ADDRESS_CODES or "ValueError" in known:
            return SettingsError(
                f"{self.place}: {self.url} cannot be asked for ({said}): correct its name, the endpoint or the region."
            )
        return SourceUnavailable(f"{self.place}: {self.url} could not be read ({said}). Nothing was taken.")


def _code(error: Exception) -> str:
    """S3's own code of an error, where it has one."""
    response = getattr(error.__cause__ or error, "response", None)
    found = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
    return str(found)
