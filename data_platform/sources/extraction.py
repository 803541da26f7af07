"""What every kind of source that is asked (an API, a database, an object store) shares: windows, results, secrets.

A kind's `extract` writes what the source answered for one day into a folder, as landing files of that day; all that
follows (reading, manifest, row accounting) is the same as for files that somebody put there.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from data_platform.errors import SettingsError
from data_platform.transforms.business_day import start_of

HIDDEN = "***"


class KindModel(BaseModel):
    """Base of what sources.yaml says of one kind of source: no unknown keys, nothing changes, no error shows values."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _holds_keys(cls, declared: Any) -> Any:
        if not isinstance(declared, (dict, cls)):
            keys = " or ".join(f"`{name}:`" for name in list(cls.model_fields)[:2])
            raise ValueError(f"it must hold keys, such as {keys}")
        return declared


_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_USUAL_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def _variable(value: str) -> str:
    if not re.fullmatch(_VARIABLE, value):
        # Without the value: who writes something else here has written the secret itself.
        raise ValueError(
            "it must be the name of an environment variable (letters, digits and _) that holds the value, not the "
            "value itself"
        )
    return value


Variable = Annotated[str, AfterValidator(_variable), Field(json_schema_extra={"pattern": f"^{_VARIABLE}$"})]
"""The name of an environment variable that holds what sources.yaml must not."""


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{value!r} is no time zone known here: use an IANA name such as Europe/London") from None
    return value


Zone = Annotated[str, AfterValidator(_zone)]
"""A time zone, by its IANA name."""


@dataclass(frozen=True)
class Window:
    """What is asked for one partition: changes from `since` to before `before`, both aware and in UTC.

    `timezone` is the zone of the business day: of dates, and of moments that name none.
    """

    day: date
    since: datetime
    before: datetime
    timezone: str = "UTC"


def window_of(day: date, timezone: str, lookback: timedelta = timedelta()) -> Window:
    """The business day `day` of the zone `timezone`; `lookback` reaches back before its start, for late commits."""
    return Window(day, start_of(day, timezone) - lookback, start_of(day + timedelta(days=1), timezone), timezone)


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
    """A span as people write it: `15m`, `2h`, `1d`; what is already one (or a number of seconds) is left alone.

    Raises ValueError for what is none, and for one below zero, which would leave a part of the day out.
    """
    if isinstance(value, timedelta):
        is_negative = value < timedelta()
    else:
        is_negative = isinstance(value, (int, float)) and value < 0
    if is_negative:
        raise ValueError("it is below zero, and would leave a part of the day out: write one such as 15m")
    if not isinstance(value, str):
        return value
    number, unit = value.strip()[:-1], value.strip()[-1:]
    if not number.isdecimal() or unit not in _UNITS:
        raise ValueError(f"{value!r} is no span of time: write a number and s, m, h or d, such as 15m")
    try:
        return timedelta(**{_UNITS[unit]: int(number)})
    except OverflowError:
        raise ValueError(f"{value!r} is longer than time itself: write one such as 15m") from None


def write_empty(into: Path, columns: Sequence[str]) -> None:
    """A delivery without rows, which takes the day's former rows out: a file that names `columns` alone."""
    schema = pa.schema([(name, pa.string()) for name in columns])
    pq.write_table(schema.empty_table(), into / "0001.parquet")


def secret(variable: str, place: str, *, in_header: bool = False, in_lines: bool = False) -> str:
    """The value of the environment variable that a source names; `place` is where sources.yaml names it.

    Raises SettingsError, without the value, where it is not set or cannot be meant: with control characters (such as
    the line break at the end of a file), which only keys of several lines have (`in_lines`), or with what no header of
    HTTP can hold, if it goes into one (`in_header`). Libraries quote such values in their errors.
    """
    # A token may look like a name: only what is written as names of variables are is told.
    named = f"the environment variable {variable}" if _USUAL_VARIABLE.fullmatch(variable) else "an environment variable"
    value = os.environ.get(variable, "")
    if not value:
        raise SettingsError(f"{place} names {named}, which is not set: set it.")
    if not _is_plain(value.translate(_LINES) if in_lines else value):
        raise SettingsError(
            f"{place} names {named}, whose value holds a line break or another control character: set it without (one "
            "often comes with the end of a file)."
        )
    if in_header and not fits_header(value):
        raise SettingsError(
            f"{place} names {named}, whose value holds a character that no header of HTTP can: set it as it was issued."
        )
    return value


_LINES = dict.fromkeys(map(ord, "\n\r\t"))


def _is_plain(value: str) -> bool:
    return not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in value)


def fits_header(value: str) -> bool:
    """Whether a header of HTTP can hold `value`."""
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return _is_plain(value)


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
