"""What sources.yaml says of files in an object store: where they are, for which day, and when they are complete."""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, field_validator, model_validator

from data_platform.sources.extraction import KindModel, lookback_of

_DATE = re.compile(r"\{date(?::([^{}]+))?\}")
_GLOB = re.compile(r"\*|\?|\[[^\]/]+\]")
_WIDTHS = {"%Y": r"\d{4}", "%m": r"\d{2}", "%d": r"\d{2}", "%y": r"\d{2}", "%j": r"\d{3}", "%%": "%"}
SCHEMES = ("s3", "gs", "az", "abfs", "file")


class Credentials(KindModel):
    """Names of environment variables: an access key and its secret (S3), an account and its key (Azure)."""

    key: str = Field(min_length=1)
    secret: str = Field(min_length=1)


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


class FilesSource(KindModel):
    """Files in S3 (or what speaks like it), Google Cloud Storage, Azure, or a folder.

    `url` holds the day as {date} (2024-01-05) or {date:FORMAT} (strftime), and * ? [] within a part of the path.
    `endpoint` is the address of an S3-compatible store. Without `credentials` the cloud's own chain of them counts;
    `anonymous` asks without any. `sheet` names the sheet of Excel files, else it is the first.
    """

    url: str
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    credentials: Credentials | None = None
    complete: Complete | None = None
    sheet: str | None = None
    lookback: timedelta = Field(default=timedelta(), init=False, exclude=True)

    @property
    def is_windowed(self) -> bool:
        """Whether it can be asked for a day that is past: its files are named by the day."""
        return True

    @field_validator("url")
    @classmethod
    def _a_place(cls, value: str) -> str:
        scheme, separator, path = value.partition("://")
        if not separator or scheme not in SCHEMES:
            raise ValueError(
                f"{value!r} is no place of files: begin with {', '.join(f'{name}://' for name in SCHEMES)}"
            )
        if scheme == "file" and not path.startswith("/"):
            raise ValueError(f"{value!r} is a path from nowhere: write an absolute one, with three slashes")
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
