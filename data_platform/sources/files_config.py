"""What sources.yaml says of files in an object store: where they are, for which day, and when they are complete."""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from data_platform.sources.extraction import KindModel, Variable, lookback_of
from data_platform.sources.landing_folder import is_seen

_DATE = re.compile(r"\{date(?::([^{}]+))?\}")
_GLOB = re.compile(r"\*|\?|\[[^\]/]+\]")
_WIDTHS = {"%Y": r"\d{4}", "%m": r"\d{2}", "%d": r"\d{2}", "%y": r"\d{2}", "%j": r"\d{3}", "%%": "%"}
SCHEMES = ("s3", "gs", "az", "abfs", "file")


class Credentials(KindModel):
    """Names of environment variables: an access key and its secret (S3), an account and its key (Azure)."""

    key: Variable
    secret: Variable


class Complete(KindModel):
    """When a day's files may be read, one of: `marker` (an object that is there), `manifest` (one in JSON with the
    rows, and the sha256 or md5 of the files by name), `unchanged_for` (a span since the last of them changed).

    Marker and manifest lie beside the files and may hold {date}.
    """

    marker: str | None = Field(default=None, min_length=1)
    manifest: str | None = Field(default=None, min_length=1)
    unchanged_for: Annotated[timedelta | None, BeforeValidator(lookback_of)] = None

    @model_validator(mode="after")
    def _one_way(self) -> "Complete":
        if sum(value is not None for value in (self.marker, self.manifest, self.unchanged_for)) != 1:
            raise ValueError("it needs exactly one of marker, manifest and unchanged_for")
        for name in (self.marker, self.manifest):
            if name is not None and ("/" in name or _GLOB.search(name)):
                raise ValueError(f"{name!r} must be the name of one object beside the files")
        return self

    @property
    def name(self) -> str:
        """The name of the marker or manifest; empty where there is none."""
        return self.marker or self.manifest or ""


class FilesSource(KindModel):
    """Files in S3 (or what speaks like it), Google Cloud Storage, Azure, or a folder.

    `url` holds the day as {date} (2024-01-05) or {date:FORMAT} (strftime), and * ? [] within a part of the path.
    `endpoint` is the address of an S3-compatible store. Without `credentials` the cloud's own chain of them counts;
    `anonymous` asks without any. `sheet` names the sheet of Excel files, else it is the first.
    """

    # A URL may hold what does not belong there: no sentence about one quotes it.
    model_config = ConfigDict(hide_input_in_errors=True)

    url: str
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    credentials: Credentials | None = None
    complete: Complete | None = None
    sheet: str | None = None

    @property
    def lookback(self) -> timedelta:
        """Files are whole days: nothing of the day before is asked for."""
        return timedelta()

    @property
    def is_windowed(self) -> bool:
        """Whether it can be asked for a day that is past: its files are named by the day."""
        return True

    @field_validator("url")
    @classmethod
    def _a_place(cls, value: str) -> str:
        scheme, separator, path = value.partition("://")
        if not separator or scheme not in SCHEMES:
            raise ValueError(f"it is no place of files: begin with {', '.join(f'{name}://' for name in SCHEMES)}")
        if scheme != "file":
            _check_bucket(scheme, path)
        elif not path.startswith("/"):
            raise ValueError("it is a path from nowhere: write an absolute one, with three slashes")
        if "**" in path:
            raise ValueError("** would look into every folder: write the folders, with * within a name")
        if ".." in unquote(path).split("/"):
            raise ValueError(".. leads out of its folder: write the path itself")
        if not _DATE.search(path):
            raise ValueError("it holds no {date}: which day's files are they?")
        for found in _DATE.finditer(path):
            if found[1] is not None and "%" not in found[1]:
                raise ValueError(f"{found[0]} is no format of a date: write such as {{date:%Y%m%d}}")
        return value

    @field_validator("endpoint")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            address = urlsplit(value)
            is_whole = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            is_whole = False
        if "@" in value:
            raise ValueError(f"it holds credentials: {_NAME_THEM}")
        if not is_whole:
            raise ValueError("it is no address of a store: write such as https://minio.example.com:9000")
        return value

    @property
    def scheme(self) -> str:
        """What the files are in."""
        return self.url.partition("://")[0]

    @property
    def folder(self) -> str:
        """The path before the first part that differs by day or name, as URL: what is listed, and never left."""
        special = min(found.start() for found in (_DATE.search(self.url), _GLOB.search(self.url)) if found)
        return self.url[:special].rpartition("/")[0]

    def beside(self, template: str, day: date) -> str:
        """The name of a marker or manifest of `day`."""
        return _dated(template, day)

    def pattern(self, day: date) -> re.Pattern[str]:
        """What the paths of the files of `day` match, below `folder`."""
        return re.compile(_globbed(_dated(self.url, day)[len(self.folder) + 1 :]))

    def is_data(self, name: str, day: date) -> bool:
        """Whether a path that `pattern` matches is of data: no marker, manifest or folder's mark, nothing hidden.

        What begins with _ or . is hidden, as in the landing folder, unless the URL writes it so.
        """
        parts = name.split("/")
        told = self.url[len(self.folder) + 1 :].split("/")
        if not parts[-1] or (self.complete and parts[-1] == self.beside(self.complete.name, day)):
            return False
        return all(
            is_seen(part) or (part[0] in "_." and written.startswith(part[0]))
            for part, written in zip(parts, told, strict=False)
            if part not in ("", ".", "..")  # stores take them for names
        )

    def manifests(self, day: date) -> re.Pattern[str]:
        """What the path of a manifest of `day` matches, below `folder`, wherever its files would be."""
        folder = _dated(self.url, day)[len(self.folder) + 1 :].rpartition("/")[0]
        name = re.escape(self.beside(self.complete.name if self.complete else "", day))
        return re.compile(f"{_globbed(folder)}/{name}" if folder else name)

    def days_by_path(self, days: Sequence[date]) -> "Days":
        """By what the paths of files tell their day: for many days and files at once."""
        rest = self.url[len(self.folder) + 1 :]
        text, position = "", 0
        formats: list[str | None] = []
        for found in _DATE.finditer(rest):
            text += _globbed(rest[position : found.start()]) + f"(?P<d{len(formats)}>{_width(found[1])})"
            formats.append(found[1])
            position = found.end()
        pattern = re.compile(text + _globbed(rest[position:]))
        return Days(pattern, {tuple(_written(day, form) for form in formats): day for day in days})


_NAME_THEM = "name the environment variables that have them as `credentials`"


def _check_bucket(scheme: str, path: str) -> None:
    """Raise ValueError, without quoting it, for a bucket that differs by day or name, and for what is none."""
    bucket = _DATE.sub("{}", path).partition("/")[0]
    if "{}" in bucket or _GLOB.search(bucket):
        raise ValueError("its bucket differs by day or name: write one bucket, and {date} behind it")
    # Azure has CONTAINER@ACCOUNT; a secret with a slash in it ends what was meant to be the bucket.
    allowed = bucket.replace("@", "", 1) if scheme in ("az", "abfs") else bucket
    if "@" in allowed or (":" in allowed and not allowed.startswith("arn:")):
        raise ValueError(f"it holds credentials, or a bucket that is none: {_NAME_THEM}")
    if not bucket:
        raise ValueError(f"it names no bucket: write {scheme}://BUCKET/…")


class Days:
    """Finds the day of a path."""

    def __init__(self, pattern: re.Pattern[str], days: dict[tuple[str, ...], date]) -> None:
        self._pattern, self._days = pattern, days

    def of(self, path: str) -> date | None:
        """The day that a path (below the folder) tells of; None for one of no day, or of none that is asked for."""
        found = self._pattern.fullmatch(path)
        return self._days.get(found.groups()) if found else None


def _written(day: date, form: str | None) -> str:
    return day.strftime(form) if form else day.isoformat()


def _dated(text: str, day: date) -> str:
    return _DATE.sub(lambda found: _written(day, found[1]), text)


def _width(form: str | None) -> str:
    parts = re.findall(r"%.|[^%]+", form or "%Y-%m-%d")
    return "".join(_WIDTHS.get(part, "[^/]+?" if part.startswith("%") else re.escape(part)) for part in parts)


def _globbed(text: str) -> str:
    """A regular expression for a text with * ? []: none of them goes over a slash."""
    found, position = "", 0
    for glob in _GLOB.finditer(text):
        found += re.escape(text[position : glob.start()])
        found += {"*": "[^/]*", "?": "[^/]"}.get(glob[0], glob[0].replace("[!", "[^"))
        position = glob.end()
    return found + re.escape(text[position:])
