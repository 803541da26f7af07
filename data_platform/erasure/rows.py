"""What becomes of the rows of erased customers, as delivered and as staged. Pure: frames in, frames out.

The id gives way to its pseudonym, what is or may be personal goes, and all else stays: history without the person.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.errors import DeliveryRejected
from data_platform.quality.masking import AT_SIGNS
from data_platform.sources.config import Source
from data_platform.sources.mapping import find_delivered, parse_text
from data_platform.transforms.staging import delivered_columns

ID = "customer_id"
# The entities whose rows name a customer, with the contracts of their staged tables.
NAMING: dict[str, Contract] = {entity: contract for entity, contract in STAGED.items() if ID in contract.columns}

# Of ids (as the warehouse has them) those that were erased, with their pseudonyms.
Among = Callable[[Iterable[str | None]], Mapping[str, str]]


@dataclass(frozen=True)
class Erased:
    """A frame without the persons. `rows` counts theirs; `personal` has by column what stood there of them."""

    frame: pl.DataFrame
    rows: int = 0
    personal: Mapping[str, frozenset[str]] = field(default_factory=dict)


def erased_staged(rows: pl.DataFrame, contract: Contract, among: Among) -> Erased:
    """Staged rows, or those of a published table with the contract's columns."""
    pseudonyms = among(rows.get_column(ID).unique())
    if not pseudonyms:
        return Erased(rows)
    hit = rows.get_column(ID).is_in(list(pseudonyms))
    cleaned = [
        _without(name, dtype, hit, blank=name in contract.pii_columns)
        for name, dtype in rows.schema.items()
        if name in contract.columns and name != ID and (name in contract.pii_columns or contract.pii_columns)
    ]
    frame = rows.with_columns(pl.col(ID).replace(pseudonyms), *(one for one in cleaned if one is not None))
    personal = {name: _texts(rows.filter(hit).get_column(name)) for name in contract.pii_columns}
    return Erased(frame, int(hit.sum()), personal)


def erased_delivered(frame: pl.DataFrame, source: Source, contract: Contract, among: Among) -> Erased:
    """Rows of one source or of several, as raw keeps them, or as quarantine does (there nothing but the keys stays)."""
    total, personal = 0, dict[str, frozenset[str]]()
    for part in source.sources.values() or [source]:
        done = _erased_part(frame, part, contract, among, several=bool(source.sources))
        frame, total = done.frame, total + done.rows
        personal = {name: personal.get(name, frozenset()) | done.personal.get(name, frozenset())
                    for name in {*personal, *done.personal}}  # fmt: skip
    return Erased(frame, total, personal)


def _erased_part(frame: pl.DataFrame, part: Source, contract: Contract, among: Among, *, several: bool) -> Erased:
    before = f"{part.name}." if several else ""
    own = {name.removeprefix(before): name for name in frame.columns if name.startswith(before) and name[0] != "_"}
    named = _named(part, contract, own)
    if ID not in named:
        return Erased(frame)
    column = own[named[ID]]
    prefix = part.spec(ID).prefix or ""
    ids = frame.select(prefix + parse_text(pl.col(column), dtype=frame.schema[column])).to_series()
    if several:
        ids = frame.select(pl.when(pl.col("_file").str.starts_with(f"{part.name}/")).then(ids)).to_series()
    pseudonyms = among(ids.unique())
    if not pseudonyms:
        return Erased(frame)
    hit = ids.is_in(list(pseudonyms)).fill_null(False)
    waits = "_reasons" in frame.columns
    canonical = {delivered: name for name, delivered in named.items()}
    changed = [_pseudonymous(frame, column, ids, hit, pseudonyms, prefix)]
    for delivered, name in own.items():
        if name == column:
            continue
        known = None if waits else canonical.get(delivered)
        dtype = frame.schema[name]
        if known is None and contract.table != STAGED["customers"].table:
            # Rows that nothing else tells apart would become exact copies, and be dropped.
            changed.append(_numbered(name, dtype, hit))
        elif (one := _without(name, dtype, hit, blank=known is None or known in contract.pii_columns)) is not None:
            changed.append(one)
    if f"_{ID}" in frame.columns:
        changed.append(pl.when(hit).then(pl.col(f"_{ID}").replace(pseudonyms)).otherwise(f"_{ID}").alias(f"_{ID}"))
    theirs = frame.filter(hit)
    personal = {name: _texts(theirs.get_column(own[named[name]])) for name in contract.pii_columns if name in named}
    return Erased(frame.with_columns(changed), int(hit.sum()), personal)


def _named(part: Source, contract: Contract, own: Iterable[str]) -> dict[str, str]:
    """By canonical column the delivered one, as far as today's mapping and the canonical names tell."""
    delivered = list(own)
    found = {}
    for name in delivered_columns(contract):
        try:
            column = None if part.spec(name).constant is not None else find_delivered(name, part, delivered)
        except DeliveryRejected:
            column = None
        # What was delivered before a mapping was declared has the canonical name.
        column = column or (name if name in delivered else None)
        if column is not None:
            found[name] = column
    return found


def _pseudonymous(
    frame: pl.DataFrame, column: str, ids: pl.Series, hit: pl.Series, pseudonyms: Mapping[str, str], prefix: str
) -> pl.Expr:
    instead = {one: pseudonym.removeprefix(prefix) for one, pseudonym in pseudonyms.items()}
    dtype = frame.schema[column]
    kept = pl.col(column) if dtype == pl.String else parse_text(pl.col(column), dtype=dtype)
    return pl.when(hit).then(ids.replace(instead)).otherwise(kept).alias(column)


def _without(name: str, dtype: pl.DataType, hit: pl.Series, *, blank: bool) -> pl.Expr | None:
    """The column without what is personal in it; None where there is nothing to do."""
    if blank:
        return pl.when(~hit).then(pl.col(name)).alias(name)
    if dtype != pl.String:
        return None
    # Columns shift: an address may stand where a segment should.
    return pl.when(~(hit & pl.col(name).str.contains(f"[{AT_SIGNS}]").fill_null(False))).then(pl.col(name)).alias(name)


def _numbered(name: str, dtype: pl.DataType, hit: pl.Series) -> pl.Expr:
    """The column with numbers in place of the values, which only say which of them are equal."""
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return pl.when(~hit).then(pl.col(name)).alias(name)
    if dtype == pl.Boolean:
        return pl.col(name)
    number = pl.when(hit).then(pl.col(name)).rank("dense")
    token = pl.format("erased-{}", number) if dtype == pl.String else number.cast(pl.Int32).cast(dtype, strict=False)
    return pl.when(hit).then(token).otherwise(pl.col(name)).alias(name)


def _texts(values: pl.Series) -> frozenset[str]:
    texts = pl.DataFrame({"value": values}).select(parse_text(pl.col("value"), dtype=values.dtype)).to_series()
    return frozenset(texts.drop_nulls())
