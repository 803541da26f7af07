"""Deliveries that change their columns: what is new, missing or of another type, and by what that is judged.

What may stop something goes by the contract and sources.yaml alone (`declared`), as every critical rule does; the
comparison with the delivery before (`changes`) only shows. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from data_platform.contracts.contract import Contract
from data_platform.errors import DeliveryRejected
from data_platform.quality.masking import masked
from data_platform.sources.config import Source
from data_platform.sources.mapping import find_delivered, unknown_columns

Kind = Literal["new", "missing", "retyped"]
NONE = "–"
SHOWN = 20


@dataclass(frozen=True)
class Change:
    """One column that is not as it was, or not as it is declared; types as Polars names them, NONE for no column."""

    column: str
    kind: Kind
    before: str
    after: str

    def in_words(self) -> str:
        """The change, as it follows a subject; a file without a header has a row of values where names should be."""
        if self.kind == "retyped":
            return f"{masked(self.column)} is {self.after} and not {self.before}"
        return f"{masked(self.column)} is {self.kind}"


def changes(before: Mapping[str, pl.DataType], after: Mapping[str, pl.DataType]) -> list[Change]:
    """How the delivered columns `after` differ from those `before`, new ones first; names of ours are left out."""
    had, has = _types(before), _types(after)
    return [
        *(Change(name, "new", NONE, kind) for name, kind in has.items() if name not in had),
        *(Change(name, "missing", kind, NONE) for name, kind in had.items() if name not in has),
        *(Change(name, "retyped", kind, has[name]) for name, kind in had.items() if has.get(name, kind) != kind),
    ]


def declared(
    schema: Mapping[str, pl.DataType], source: Source, contract: Contract, columns: Sequence[str]
) -> list[Change]:
    """How the delivered `schema` differs from what is declared for `columns`, the canonical ones that may be delivered.

    New is what has no place, is not in `ignore` and is no currency that is asked for; missing what sources.yaml maps
    and is not there; retyped what has a type of its own that is not the kind of the contract's (text never is: it is
    read).
    """
    delivered = [name for name in schema if not name.startswith("_")]
    wanted = {*source.ignore, find_delivered("currency", source, delivered) if source.currency else None}
    found = [
        Change(name, "new", NONE, str(schema[name]))
        for name in unknown_columns(delivered, source, columns)
        if name not in wanted
    ]
    for column in columns:
        spec, becomes = source.spec(column), contract.columns[column]
        name = find_delivered(column, source, delivered) if spec.constant is None else None
        if name is None:
            if spec.source is not None:
                found.append(Change(spec.source, "missing", becomes.type_name, NONE))
        elif not _alike(schema[name], becomes.dtype):
            found.append(Change(name, "retyped", becomes.type_name, str(schema[name])))
    return found


def refuse_undeclared(
    schema: Mapping[str, pl.DataType], source: Source, contract: Contract, columns: Sequence[str]
) -> None:
    """Raise DeliveryRejected for a delivery of other columns than the declared ones, where the source freezes them."""
    if source.schema_changes != "freeze":
        return
    found = declared(schema, source, contract, columns)
    if found:
        raise DeliveryRejected(
            f"its columns are not those that are declared, and {source.place} has `schema_changes: freeze`: "
            f"{'; '.join(change.in_words() for change in found[:SHOWN])}. Map them in sources.yaml, name new ones "
            "under `ignore`, or have them delivered as before."
        )


def _types(schema: Mapping[str, pl.DataType]) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in schema.items() if not name.startswith("_")}


def _alike(delivered: pl.DataType, becomes: pl.DataType) -> bool:
    if isinstance(delivered, (pl.String, pl.Null)):
        return True
    if becomes.is_numeric():
        return delivered.is_numeric()
    if becomes.is_temporal():
        return delivered.is_temporal()
    if isinstance(becomes, pl.Boolean):
        return isinstance(delivered, pl.Boolean) or delivered.is_integer()
    return delivered.is_integer()  # many ids are numbers; any other type is no text
