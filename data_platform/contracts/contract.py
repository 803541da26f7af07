"""What a contract is, and what is derived from one.

A table's module declares a pandera model (columns, types, descriptions, marks) and its rules, once. Casts, column
schema metadata, asset checks, COMMENTs in Postgres and documentation all come from that declaration.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrorReason

from data_platform.errors import PlatformError, RuleBroken

Severity = Literal["critical", "warning", "info"]

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


@dataclass(frozen=True)
class Rule:
    """One rule of a table: `passes` is true (or null: nothing to judge) for each row that keeps it.

    A critical rule of a staging table sends the row to quarantine; one of a mart or warehouse table stops its publish.
    Tombstones and deletions are judged only where `tombstones` says so: they need no more than their key.
    """

    name: str
    severity: Severity
    description: str
    passes: pl.Expr
    tombstones: bool = False


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A table: its columns by the model, its key, its rules.

    For a dimension `tracked` columns make versions and `overwritten` ones show the latest value on every version.
    """

    table: str
    schema: Literal["lake", "warehouse", "marts"]
    model: type[pa.DataFrameModel]
    key: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    tracked: tuple[str, ...] = ()
    overwritten: tuple[str, ...] = ()

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


def judge(frame: pl.DataFrame, contract: Contract) -> dict[str, int]:
    """How many of the rows about to be written break each rule; raises RuleBroken where a critical one is broken."""
    failures = failing(frame, contract.rules)
    for rule in contract.rules:
        if rule.severity == "critical" and failures[rule.name]:
            raise RuleBroken(contract.table, rule.name, rule.description, failures[rule.name])
    return failures


def failing(frame: pl.DataFrame, rules: Sequence[Rule]) -> dict[str, int]:
    """How many rows of `frame` break each rule: all rules in one pass over the data."""
    if not rules:
        return {}
    counts = frame.lazy().select((~rule.passes).sum().alias(rule.name) for rule in rules).collect()
    return {name: int(value or 0) for name, value in counts.row(0, named=True).items()}
