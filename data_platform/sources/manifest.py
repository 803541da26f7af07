"""A source's own count of a delivery: `LANDING/<entity>/<YYYY-MM-DD>.manifest.json`, beside the day's files.

`{"rows": 1200, "sums": {"quantity": 3480, "unit_price": "10411.75"}}`: the rows of all files of the day, and sums of
canonical number columns over those rows. Either may be left out.
"""

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from data_platform.contracts.contract import Contract
from data_platform.errors import DeliveryRejected
from data_platform.sources.config import Source
from data_platform.sources.landing import MANIFEST
from data_platform.sources.mapping import find_delivered, parse_decimal


def _exact(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("it must be a number")
    return str(value)


class Manifest(BaseModel):
    """What the source says that it delivered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int | None = Field(default=None, ge=0, strict=True)
    sums: dict[str, Annotated[Decimal, BeforeValidator(_exact)]] = Field(default_factory=dict)


@dataclass(frozen=True)
class _Sum:
    """A sum over the delivered rows, and how many values could not be read as numbers."""

    total: Decimal
    unreadable: int


def read_manifest(landing: Path, entity: str, day: date) -> Manifest | None:
    """The day's manifest in a local landing folder; None where there is none.

    Raises DeliveryRejected for one that cannot be read.
    """
    path = landing / entity / f"{day}{MANIFEST}"
    label = f"{entity}/{path.name}"
    try:
        return parse_manifest(path.read_bytes(), label)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeliveryRejected(f"{label} cannot be read ({error.strerror}): make it a file that may be read.") from None


def parse_manifest(content: bytes, label: str) -> Manifest:
    """A manifest of what its file holds; raises DeliveryRejected, which calls it `label`, where it is none."""
    try:
        # Numbers as they are written: 0.1 is no float.
        return Manifest.model_validate(json.loads(content.decode("utf-8-sig"), parse_float=str))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DeliveryRejected(
            f"{label}: {where} cannot be used ({first['msg']}): write rows (a number) and sums (columns and numbers)."
        ) from None
    except ValueError:
        raise DeliveryRejected(f"{label} is no JSON in UTF-8: mend it, or take it away.") from None


def disagreement(manifest: Manifest, frame: pl.DataFrame, source: Source, contract: Contract) -> str | None:
    """What of the raw `frame` differs from what the source says of it, in words; None where they agree."""
    said = [] if manifest.rows in (None, frame.height) else [f"{frame.height} rows and not {manifest.rows}"]
    for column, wanted in manifest.sums.items():
        found = _sum(column, frame, source, contract)
        if found.total != wanted or found.unreadable:
            unread = f" ({found.unreadable} values cannot be read)" if found.unreadable else ""
            said.append(f"{column} adds up to {found.total.normalize():f}{unread} and not to {wanted:f}")
    return "; ".join(said) or None


def _sum(column: str, frame: pl.DataFrame, source: Source, contract: Contract) -> _Sum:
    known = contract.columns.get(column)
    if known is None or not known.dtype.is_numeric() or known.pii:
        raise DeliveryRejected(f"the manifest's sums name {column!r}, which is no number column: take it out.")
    name = find_delivered(column, source, [name for name in frame.columns if not name.startswith("_")])
    if name is None:
        raise DeliveryRejected(f"the manifest's sums name {column!r}, which is not delivered: take it out.")
    comma = source.spec(column).decimal == "comma"
    dtype = frame.schema[name]
    value = parse_decimal(pl.col(name), comma=comma, dtype=dtype)
    given = pl.col(name).is_not_null()
    if dtype == pl.String:
        given = given & (pl.col(name).str.strip_chars() != "")
    total, unreadable = frame.select(total=value.sum(), unreadable=(given & value.is_null()).sum()).row(0)
    return _Sum(total or Decimal(0), unreadable)
