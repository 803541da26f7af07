"""An S3-compatible bucket: the few requests that the lake makes of it, by s3fs, and sentences for what they raise.

Credentials, region and endpoint are those of the standard AWS_* variables. What belongs to the lake is in `lake_s3.py`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from data_platform.errors import PlatformError, SettingsError, SourceUnavailable

CONNECTIONS = 32
# Footers are a few kilobytes: nearly always one request, without asking for the size first.
TAIL = 64 * 1024
MAGIC = b"PAR1"
BODY_ATTEMPTS = 3
# A condition was not met: also where the object is gone, and where two requests met in the store (409).
CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")


class ObjectChanged(Exception):
    """The object is not the one any more that a request was made for."""


@dataclass(frozen=True)
class Listed:
    """An object in a listing."""

    key: str
    etag: str
    changed: datetime
    size: int


class Bucket:
    """A bucket; its methods may be called by several threads. They raise SettingsError and SourceUnavailable."""

    def __init__(self, name: str, endpoint: str | None, region: str | None, setting: str) -> None:
        self.name, self._endpoint, self._region, self._setting = name, endpoint, region, setting

    @property
    def storage_options(self) -> dict[str, str]:
        """What Polars is to be told of where the bucket is; it finds credentials itself."""
        endpoint = self._endpoint or ""
        told = {"aws_endpoint_url": endpoint, "aws_region": self._region or ""}
        if endpoint.startswith("http://"):
            told["aws_allow_http"] = "true"
        return {name: value for name, value in told.items() if value}

    def listed(self, prefix: str) -> list[Listed]:
        """The objects whose keys begin with `prefix`, in order of their keys."""
        found: list[Listed] = []
        more: dict[str, str] = {}
        with self._explained():
            while True:
                page = self._call("list_objects_v2", Prefix=prefix, **more)
                found += (
                    Listed(one["Key"], one["ETag"], one["LastModified"], one["Size"])
                    for one in page.get("Contents", [])
                )
                if not page.get("IsTruncated"):
                    return found
                more = {"ContinuationToken": page["NextContinuationToken"]}

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        with self._explained():
            try:
                self._call("head_object", Key=key)
            except FileNotFoundError:
                return False
        return True

    def get(self, key: str, last: int | None = None) -> tuple[bytes, str] | None:
        """The bytes of one version of an object (or its `last` ones), and its ETag; None where there is no such object.

        By one request, as a rule: what stands there may be replaced at any time.
        """
        from fsspec.asyn import sync

        with self._explained():
            try:
                fs = self._fs()
                part = {} if last is None else {"Range": f"bytes=-{last}"}
                content, etag = sync(fs.loop, _got, fs, Bucket=self.name, Key=key, **part)
            except OSError as error:
                code = _code(error)
                if code == "InvalidRange":  # of an object without any bytes
                    return b"", ""
                if code in ("NoSuchKey", "404"):
                    return None
                raise
        return content, etag

    def put(self, key: str, content: bytes) -> None:
        """Write an object, whatever stood there."""
        with self._explained():
            self._call("put_object", Key=key, Body=content)

    def put_over(self, key: str, content: bytes, etag: str | None) -> None:
        """Write an object over the version with `etag`; where that is None, only if there is none.

        Raises ObjectChanged where another version stands there: nothing was written, or this very content was, by a
        request whose answer got lost.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with self._explained():
            try:
                self._call("put_object", Key=key, Body=content, **condition)
            except OSError as error:
                if _code(error) in CHANGED:
                    raise ObjectChanged from None
                raise

    def copy(self, key: str, etag: str, target: str) -> None:
        """Copy the version with `etag` within the bucket; raises ObjectChanged where another one stands there.

        By way of this process: a copy made by the store has conditions, too, but not every store heeds them.
        """
        found = self.get(key)
        if found is None or found[1] != etag:
            raise ObjectChanged
        self.put(target, found[0])

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        with self._explained():
            self._call("delete_object", Key=key)

    def _call(self, method: str, **arguments: Any) -> Any:
        return self._fs().call_s3(method, Bucket=self.name, **arguments)

    def _fs(self) -> Any:
        return _filesystem(self._endpoint, self._region, os.getpid())

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (PlatformError, ObjectChanged):
            raise
        except ImportError:
            raise SettingsError(
                f"{self._setting} is on S3, for which s3fs is not installed: .venv/bin/pip install -e '.[s3]'."
            ) from None
        except Exception as error:
            raise self._sentence(error) from None

    def _sentence(self, error: Exception) -> PlatformError:
        code, kind = _code(error), type(error.__cause__ or error).__name__
        bucket = f"The bucket {self.name} of {self._setting}"
        if code == "NoSuchBucket":
            return SettingsError(f"{bucket} is not there at {self._place}: create it, or correct the URL.")
        if code in ("InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed"):
            return SettingsError(f"{bucket} is refused by {self._place} ({code}): correct its name, or set AWS_REGION.")
        if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
            return SettingsError(f"{bucket} needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
        if isinstance(error, PermissionError) or code in ("403", "AccessDenied", "SignatureDoesNotMatch"):
            return SettingsError(
                f"{bucket} may not be used ({code or kind}): correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "give them the right to list, read, write and delete there."
            )
        if isinstance(error, ValueError):  # of an endpoint that is no URL
            return SettingsError(f"{bucket} cannot be reached at {self._place}: correct AWS_ENDPOINT_URL.")
        return SourceUnavailable(
            f"{bucket} does not answer as it should ({self._place}, {code or kind}): see AWS_ENDPOINT_URL and the "
            "network, then run again."
        )

    @property
    def _place(self) -> str:
        # An endpoint may bear a password.
        return urlsplit(self._endpoint).netloc.rpartition("@")[2] if self._endpoint else "Amazon S3"


@dataclass(frozen=True)
class ObjectPath:
    """Where an object is or may be: what is used of a `Path` of the lake, and reads of one version each."""

    bucket: Bucket
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket.name}/{self.key}"

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.bucket, f"{self.key}/{name}" if self.key else name)

    @property
    def parent(self) -> "ObjectPath":
        """The path without its last name."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last name."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last name without its suffix."""
        return self.name.rpartition(".")[0] or self.name

    def exists(self) -> bool:
        """Whether there is such an object."""
        return self.bucket.exists(self.key)

    def unlink(self, missing_ok: bool = True) -> None:  # noqa: ARG002
        """Remove the object; one that is not there is no error to a store."""
        self.bucket.delete(self.key)

    def read_bytes(self) -> bytes:
        """The object whole, by one request; raises FileNotFoundError where there is none."""
        found = self.bucket.get(self.key)
        if found is None:
            raise FileNotFoundError(str(self))
        return found[0]

    def footer(self) -> BytesIO:
        """A Parquet file as far as its footer can be read from it; raises FileNotFoundError where there is none."""
        found = self.footer_and_etag()
        if found is None:
            raise FileNotFoundError(str(self))
        return found[0]

    def footer_and_etag(self) -> tuple[BytesIO, str] | None:
        """The footer of one version and its ETag; None where there is no such object."""
        found = self.bucket.get(self.key, last=TAIL)
        if found is None:
            return None
        tail, etag = found
        # What is no Parquet file may be the stamp of a partition that was moved, and of many files.
        needed = int.from_bytes(tail[-8:-4], "little") + 12 if tail.endswith(MAGIC) else len(tail) + 1
        if needed > len(tail) >= TAIL:
            found = self.bucket.get(self.key)
            return None if found is None else (BytesIO(found[0]), found[1])
        return BytesIO(MAGIC + tail if tail else b""), etag


def bucket_of(name: str, environ: Mapping[str, str], setting: str) -> Bucket:
    """The bucket, at the endpoint and in the region that `environ` names; errors call it that of `setting`."""
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    return _bucket(
        name, endpoint or None, environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None, setting
    )


@lru_cache(maxsize=8)
def _bucket(name: str, endpoint: str | None, region: str | None, setting: str) -> Bucket:
    return Bucket(name, endpoint, region, setting)


@lru_cache(maxsize=8)
def _filesystem(endpoint: str | None, region: str | None, process: int) -> Any:  # noqa: ARG001
    """One for all threads of a process; what a fork inherits does not work there."""
    import fsspec

    told = {"endpoint_url": endpoint, "region_name": region}
    return fsspec.filesystem(
        "s3",
        skip_instance_cache=True,
        use_listings_cache=False,
        client_kwargs={name: value for name, value in told.items() if value},
        config_kwargs={
            "connect_timeout": 10,
            "read_timeout": 60,
            "retries": {"max_attempts": 3},
            "max_pool_connections": CONNECTIONS,
        },
    )


async def _got(fs: Any, **request: Any) -> tuple[bytes, str]:
    for attempt in range(BODY_ATTEMPTS):
        response = await fs._call_s3("get_object", **request)
        try:
            async with response["Body"] as body:
                content: bytes = await body.read()
        except Exception:  # s3fs repeats requests, not the reading of what they answer
            if attempt == BODY_ATTEMPTS - 1:
                raise
            continue
        return content, response["ETag"]
    raise AssertionError("unreachable")


def _code(error: BaseException) -> str:
    """What the store calls the error, such as NoSuchBucket; empty where it did not answer."""
    response = getattr(error.__cause__ or error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
