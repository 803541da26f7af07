"""What a contract is, and what is derived from one.

A table's module declares a pandera model (columns, types, descriptions, marks) and its rules, once. Casts, column
schema metadata, asset checks, COMMENTs in Postgres and documentation all come from that declaration.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrorReason

from data_platform.contracts.rules import Judged, Measure, Rule, WarehouseQuery, judged
from data_platform.errors import PlatformError, RuleBroken

Int = pl.Int32
BigInt = pl.Int64
Money = Annotated[pl.Decimal, 18, 4]
WideMoney = Annotated[pl.Decimal, 38, 4]
LocalTime = Annotated[pl.Datetime, "us", None]
Instant = Annotated[pl.Datetime, "us", "UTC"]


def column(
    description: str,
    *,
    nullable: bool = True,
    required: bool = False,
    identifier: bool = False,
    pii: bool = False,
    default: object = None,
) -> Any:
    """A column of a model.

    `required`: a delivery must bring it. `identifier`: compared as NFC text of at most 200 characters. `pii`: personal
    data, masked wherever an example is shown. `default`: what a null becomes in staging.
    """
    marks = {"required": required, "identifier": identifier, "pii": pii, "default": default}
    return pa.Field(nullable=nullable, description=description, metadata=marks)


@dataclass(frozen=True)
class Column:
    """One column as everything else sees it."""

    name: str
    dtype: pl.DataType
    description: str
    nullable: bool
    required: bool
    identifier: bool
    pii: bool
    default: object

    @property
    def type_name(self) -> str:
        """The column's type in the words of Postgres."""
        dtype = self.dtype
        if isinstance(dtype, pl.Decimal):
            return f"numeric({dtype.precision},{dtype.scale})"
        if isinstance(dtype, pl.Datetime):
            return "timestamptz" if dtype.time_zone else "timestamp"
        return {pl.String: "text", pl.Int32: "integer", pl.Int64: "bigint", pl.Date: "date", pl.Boolean: "boolean"}.get(
            type(dtype), str(dtype).lower()
        )


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A table: its columns by the model, its key, its rules (of rows, of deliveries, of what is published).

    For a dimension `tracked` columns make versions and `overwritten` ones show the latest value on every version.
    `drift` makes the drift checks of a staged table less sensitive by a factor, by kind; infinite switches one off.
    """

    table: str
    schema: Literal["lake", "warehouse", "marts"]
    model: type[pa.DataFrameModel]
    key: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    measures: tuple[Measure, ...] = ()
    queries: tuple[WarehouseQuery, ...] = ()
    drift: Mapping[str, float] = field(default_factory=dict)
    tracked: tuple[str, ...] = ()
    overwritten: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        names += [one.name for one in self.measures] + [one.name for one in self.queries]
        double = next((name for name in names if names.count(name) > 1), None)
        if double:
            raise ValueError(f"The contract of {self.table} has two rules {double}: give one of them another name.")
        if self.measures and self.schema != "lake":
            raise ValueError(
                f"The contract of {self.table} has measures: only staged tables have deliveries; make it a query."
            )
        if self.queries and self.schema != "warehouse":
            raise ValueError(
                f"The contract of {self.table} has queries: they come after the publish of a dimension or of facts; "
                "declare them there."
            )

    @property
    def description(self) -> str:
        """The model's docstring, one paragraph."""
        return " ".join((self.model.__doc__ or "").split())

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Every column by name, in the order of the table."""
        specs = {}
        for name, spec in self.model.to_schema().columns.items():
            marks = spec.metadata or {}
            specs[name] = Column(
                name=name,
                dtype=spec.dtype.type if isinstance(spec.dtype.type, pl.DataType) else spec.dtype.type(),
                description=spec.description or "",
                nullable=bool(spec.nullable),
                required=bool(marks.get("required")),
                identifier=bool(marks.get("identifier")),
                pii=bool(marks.get("pii")),
                default=marks.get("default"),
            )
        return specs

    @property
    def polars_schema(self) -> pl.Schema:
        """The columns as a Polars schema."""
        return pl.Schema({name: spec.dtype for name, spec in self.columns.items()})

    @property
    def pii_columns(self) -> tuple[str, ...]:
        """Columns that hold personal data."""
        return tuple(name for name, spec in self.columns.items() if spec.pii)

    def validate(self, frame: pl.DataFrame) -> None:
        """Check types and nulls of `frame` by pandera; raises PlatformError, which names columns and no values.

        The frame is eager on purpose: on a LazyFrame pandera checks the schema alone, silently.
        """
        try:
            self.model.to_schema().validate(frame, lazy=True)
        except pa.errors.SchemaErrors as error:
            found = {(str(one.reason_code and one.reason_code.name), _column_of(one)) for one in error.schema_errors}
            listed = ", ".join(sorted(f"{column} ({reason.lower()})" for reason, column in found))
            # pandera's own text shows values, which may be personal data.
            raise PlatformError(
                f"{self.table} would not be what its contract says: {listed}; nothing was written. Mend the contract, "
                "or what makes the rows."
            ) from None

    def fingerprint(self) -> str:
        """Changes when the contract's meaning does (columns, types, key, tracking), not when a text does."""
        meaning = {
            "table": self.table,
            "columns": sorted((name, spec.type_name, spec.nullable) for name, spec in self.columns.items()),
            "key": self.key,
            "tracked": self.tracked,
            "overwritten": self.overwritten,
        }
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]


def _column_of(error: pa.errors.SchemaError) -> str:
    if error.reason_code is SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME:
        return str(error.failure_cases)
    return str(error.column_name or getattr(error.schema, "name", None) or "the table")


def judge(frame: pl.DataFrame, contract: Contract) -> Judged:
    """How the rows about to be written keep the contract's rules; raises RuleBroken where a critical one is broken."""
    found = judged(frame, contract.rules)
    for rule in contract.rules:
        if rule.severity == "critical" and (found.failed[rule.name] or rule.name in found.errors):
            raise broken(contract, rule, found)
    return found


def broken(contract: Contract, rule: Rule, found: Judged) -> RuleBroken:
    """The error of a publish that a rule stops, because rows break it or because it cannot be judged."""
    if rule.name in found.errors:
        return RuleBroken(contract.table, rule.name, f"It cannot be judged: {found.errors[rule.name]}.", 0)
    return RuleBroken(contract.table, rule.name, rule.description, found.failed[rule.name])
