"""What every kind of source that is asked (an API, a database, an object store) shares: windows, results, secrets.

A kind's `extract` writes what the source answered for one day into a folder, as landing files of that day; all that
follows (reading, manifest, row accounting) is the same as for files that somebody put there.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from data_platform.errors import SettingsError
from data_platform.transforms.business_day import start_of

HIDDEN = "***"


class KindModel(BaseModel):
    """Base of what sources.yaml says of one kind of source: no unknown keys, nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


@dataclass(frozen=True)
class Window:
    """What is asked for one partition: changes from `since` to before `before`, both aware and in UTC."""

    day: date
    since: datetime
    before: datetime


def window_of(day: date, timezone: str, lookback: timedelta = timedelta()) -> Window:
    """The business day `day` of the zone `timezone`; `lookback` reaches back before its start, for late commits."""
    return Window(day, start_of(day, timezone) - lookback, start_of(day + timedelta(days=1), timezone))


@dataclass(frozen=True)
class Extracted:
    """What an extraction says of itself, beside the files that it wrote.

    `rows` is the source's own count of the window, a control total, None where it gives none; `figures` are told in
    the partition's metadata (requests, retries, chunks): no values of rows, no secrets.
    """

    rows: int | None = None
    figures: dict[str, int | str] = field(default_factory=dict)


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def lookback_of(value: object) -> object:
    """A span as people write it: `15m`, `2h`, `1d`; what is already one is left alone."""
    if not isinstance(value, str):
        return value
    number, unit = value.strip()[:-1], value.strip()[-1:]
    if not number.isdecimal() or unit not in _UNITS:
        raise ValueError(f"{value!r} is no span of time: write a number and s, m, h or d, such as 15m")
    return timedelta(**{_UNITS[unit]: int(number)})


def write_empty(into: Path, columns: Sequence[str]) -> None:
    """A delivery without rows, which takes the day's former rows out: a file that names `columns` alone."""
    schema = pa.schema([(name, pa.string()) for name in columns])
    pq.write_table(schema.empty_table(), into / "0001.parquet")


def secret(variable: str, place: str) -> str:
    """The value of the environment variable that a source names; `place` is where sources.yaml names it.

    Raises SettingsError where it is not set.
    """
    value = os.environ.get(variable, "")
    if not value:
        raise SettingsError(f"{place} names the environment variable {variable}, which is not set: set it.")
    return value


def not_installed(place: str, extra: str) -> SettingsError:
    """The error where `place` needs a library that is not installed: one of the extra of pyproject.toml."""
    return SettingsError(
        f"{place} needs a library that is not installed: call .venv/bin/pip install -e '.[{extra}]' in the clone."
    )


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """`text` with every one of `secrets`, also as a URL writes it, replaced by HIDDEN."""
    for value in sorted({form for one in secrets if one for form in (one, quote(one), quote(one, safe=""))}, key=len)[
        ::-1
    ]:
        text = text.replace(value, HIDDEN)
    return text
