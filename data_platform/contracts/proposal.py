"""What a delivery brings that a contract lacks, as the lines to add: to the contract, and to the table in Postgres.

Types are proposed by the values of one delivery, the narrowest that takes all of them; a person decides.
"""

import keyword
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, count

import polars as pl

from data_platform.contracts.contract import Contract
from data_platform.quality.masking import masked
from data_platform.sources.config import Source
from data_platform.sources.mapping import (
    parse_boolean,
    parse_decimal,
    parse_instant,
    parse_integer,
    unknown_columns,
    without_blanks,
)

_SMALL = 2**31
LONGEST = 56  # Postgres cuts names at 63 bytes; a number may follow
# In words of the contracts and of Postgres.
_TYPES = {
    "bool": "boolean",
    "Int": "integer",
    "BigInt": "bigint",
    "Money": "numeric(18,4)",
    "datetime.date": "date",
    "Instant": "timestamptz",
    "str": "text",
}


@dataclass(frozen=True)
class Proposal:
    """A column to add. `delivered` is how the delivery calls it, `values` how many rows have one."""

    delivered: str
    name: str
    type: str
    values: int

    @property
    def line(self) -> str:
        """The line of the contract."""
        return f'    {self.name}: {self.type} = column("…")'

    def migration(self, table: str) -> str:
        """The statement that adds it to the table `table` of schema warehouse."""
        return f'ALTER TABLE warehouse.{table} ADD COLUMN "{self.name}" {_TYPES[self.type]};'


def proposals(
    raw: pl.DataFrame, source: Source, contract: Contract, columns: Sequence[str], reserved: Collection[str] = ()
) -> list[Proposal]:
    """A proposal for each delivered column that none of the canonical `columns` takes, and that is not ignored.

    `reserved` are names that the table in Postgres has already.
    """
    taken = {*contract.columns, *reserved}
    found = []
    for delivered in unknown_columns(raw.columns, source, columns):
        if delivered in source.ignore:
            continue
        name = _name(delivered, taken)
        taken.add(name)
        value = without_blanks(pl.col(delivered), dtype=raw.schema[delivered])
        given = raw.select(value).to_series().drop_nulls()
        found.append(Proposal(masked(delivered), name, _type_of(given), given.len()))
    return found


def _name(delivered: str, taken: set[str]) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", masked(delivered))
    plain = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_") or "column"
    name = plain if plain[0].isalpha() else f"column_{plain}"
    name = f"{name[:LONGEST]}_" if keyword.iskeyword(name) else name[:LONGEST]
    numbered = (f"{name}_{number}" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)


def _type_of(given: pl.Series) -> str:
    dtype = given.dtype
    if given.is_empty():
        return "str"

    def all_read(expr: pl.Expr) -> bool:
        return bool(given.to_frame("value").select(expr.is_not_null().all()).item())

    value = pl.col("value")
    if isinstance(dtype, pl.Boolean) or (isinstance(dtype, pl.String) and _only_words(given)):
        return "bool" if all_read(parse_boolean(value, dtype=dtype)) else "str"
    # What begins with a zero is a number of something, and no quantity: 007 is not 7.
    if isinstance(dtype, pl.String) and given.str.contains(r"^\s*[-+]?0\d").any():
        return "str"
    whole = parse_integer(value, dtype=dtype)
    if all_read(whole):
        largest = given.to_frame("value").select(whole.abs().max()).item()
        return "Int" if largest < _SMALL else "BigInt"
    if all_read(parse_decimal(value, dtype=dtype, precision=18, scale=4)):
        return "Money"
    moment = parse_instant(value, format=None, source_timezone="UTC", dtype=dtype)
    if isinstance(dtype, pl.Date) or all_read(pl.when(moment == moment.dt.truncate("1d")).then(moment)):
        return "datetime.date"
    return "Instant" if all_read(moment) else "str"


def _only_words(given: pl.Series) -> bool:
    return bool(given.str.contains(r"^\s*[A-Za-z]+\s*$").all())
