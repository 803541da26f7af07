"""The kinds of rules that a contract declares, a line each, and how they are judged: all of a table's in one pass.

A `Rule` judges rows, a `Measure` a delivery as a whole: both see nothing but the delivery, so both may be critical. A
`WarehouseQuery` looks at what is published and comes after it: it can show and warn, and stops nothing.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

Severity = Literal["critical", "warning", "info"]
# A schema error names columns and types; the text of any other may quote values.
_TELLING = (pl.exceptions.ColumnNotFoundError, pl.exceptions.SchemaError, pl.exceptions.SchemaFieldNotFoundError)
_RAISED = (pl.exceptions.PolarsError, pl.exceptions.PanicException, ArithmeticError, LookupError, TypeError, ValueError)
PARTITION = "_partition"


@dataclass(frozen=True)
class Rule:
    """A rule of rows: `passes` is true (or null: nothing to judge) for each row that keeps it.

    A critical rule of a staging table sends the row to quarantine; one of a mart or warehouse table stops its publish.
    Tombstones and deletions are judged only where `tombstones` says so: they need no more than their key.
    """

    name: str
    severity: Severity
    description: str
    passes: pl.Expr
    tombstones: bool = False


@dataclass(frozen=True)
class Measure:
    """A rule of a whole delivery: the number `value` (an aggregation over its staged rows) lies from `low` to `high`.

    A null is nothing to judge. A critical one rejects the delivery: what stood before stands.
    """

    name: str
    severity: Severity
    description: str
    value: pl.Expr
    low: float = -math.inf
    high: float = math.inf

    @property
    def threshold(self) -> str:
        """What the value may be, in words."""
        return between(self.low, self.high)

    def holds(self, value: float | None) -> bool:
        """Whether `value` is allowed; None is nothing to judge, NaN is not allowed."""
        return value is None or self.low <= value <= self.high


@dataclass(frozen=True)
class WarehouseQuery:
    """A rule that Postgres judges after the publish: it may see more than the delivery, so it is never critical.

    `query` takes %(days)s, the run's partitions as a date array, and returns a row for each partition of which there is
    something to judge: partition date, rows judged, rows that fail.
    """

    name: str
    severity: Literal["warning", "info"]
    description: str
    query: str

    def __post_init__(self) -> None:
        if self.severity not in ("warning", "info"):
            raise ValueError(
                f"The rule {self.name} is {self.severity}: only rules that see the delivery alone may stop a publish; "
                "make it a warning."
            )


def not_null(column: str, severity: Severity = "critical", *, tombstones: bool = False) -> Rule:
    """Every row has a value in `column`."""
    return Rule(f"{column}_is_given", severity, f"Every row has a {column}.", pl.col(column).is_not_null(), tombstones)


def unique(*columns: str, severity: Severity = "critical") -> Rule:
    """No two rows of a delivery agree in all `columns`; rows with a null in any of them are not judged."""
    known = pl.all_horizontal(pl.col(column).is_not_null() for column in columns)
    alone = pl.len().over(*columns, PARTITION) == 1
    described = f"No two rows of a delivery have the same {' and '.join(columns)}."
    return Rule(f"{'_and_'.join(columns)}_is_unique", severity, described, pl.when(known).then(alone))


def in_range(
    column: str, low: float | None = None, high: float | None = None, severity: Severity = "critical", *, unit: str = ""
) -> Rule:
    """Values of `column` lie from `low` to `high`, both allowed; None is no bound."""
    if low is None and high is None:
        raise ValueError(f"in_range({column!r}) has no bound: give low, high or both.")
    bounds = [bound for bound in (low, high) if bound is not None]
    if any(math.isnan(bound) for bound in bounds) or (len(bounds) == 2 and bounds[0] > bounds[1]):
        raise ValueError(f"in_range({column!r}) from {low} to {high} lets nothing through.")
    value, passes = pl.col(column), pl.lit(True)
    if low is not None:
        passes = passes & (value >= low)
    if high is not None:
        passes = passes & (value <= high)
    lower, upper = -math.inf if low is None else low, math.inf if high is None else high
    described = f"{column} is {between(lower, upper)}{f' {unit}' if unit else ''}."
    return Rule(f"{column}_in_range", severity, described, passes)


def accepted_values(column: str, values: Collection[object], severity: Severity = "critical") -> Rule:
    """Values of `column` are among `values`."""
    if not values:
        raise ValueError(f"accepted_values({column!r}) accepts nothing: name at least one value.")
    listed = ", ".join(map(str, values))
    return Rule(f"{column}_is_accepted", severity, f"{column} is one of {listed}.", pl.col(column).is_in(list(values)))


def matches(name: str, column: str, pattern: str, severity: Severity, description: str) -> Rule:
    """Texts of `column` match the regular expression `pattern` (Rust's syntax, anywhere in the text: anchor it)."""
    return Rule(name, severity, description, pl.col(column).str.contains(pattern))


def sql_rule(name: str, condition: str, severity: Severity, description: str) -> Rule:
    """Rows keep a condition in SQL over the columns of the table, as Polars understands it: `cost <= unit_price`."""
    return Rule(name, severity, description, pl.sql_expr(condition))


def row_count(low: int = 1, high: float = math.inf, severity: Severity = "warning") -> Measure:
    """A delivery has from `low` to `high` rows that can be taken."""
    return Measure("row_count", severity, f"A delivery has {between(low, high)} rows.", pl.len(), low, high)


def null_rate(column: str, at_most: float, severity: Severity = "warning") -> Measure:
    """At most a share of `at_most` (0 to 1) of a delivery's rows has no `column`."""
    if not 0 <= at_most < 1:
        raise ValueError(f"null_rate({column!r}) allows a share of {at_most}: give one from 0 to below 1.")
    rate = pl.col(column).null_count() / pl.len()
    described = f"At most {100 * at_most:g} % of a delivery's rows have no {column}."
    return Measure(f"{column}_null_rate", severity, described, pl.when(pl.len() > 0).then(rate), high=at_most)


def references(table: str, column: str, dimension: str, severity: Literal["warning", "info"]) -> WarehouseQuery:
    """Lines of the fact `table` name members that a delivery has told of; others stand at inferred members."""
    key = column.replace("_id", "_key")
    return WarehouseQuery(
        f"{column}_is_known",
        severity,
        f"A delivery has told of every {column} that a line names; until then it stands at an inferred member.",
        # Names of contracts, not of anything delivered.
        f"SELECT f.delivered_on, count(*), count(*) FILTER (WHERE d.is_inferred) FROM warehouse.{table} AS f "  # noqa: S608
        f"JOIN warehouse.{dimension} AS d USING ({key}) "
        f"WHERE f.delivered_on = ANY(%(days)s) AND f.{key} <> -1 GROUP BY f.delivered_on",
    )


def between(low: float, high: float) -> str:
    """Bounds in words."""
    if low == high:
        return f"{_plain(low)}"
    if math.isinf(high):
        return "anything" if math.isinf(low) else f"{_plain(low)} or more"
    return f"at most {_plain(high)}" if math.isinf(low) else f"{_plain(low)} to {_plain(high)}"


def _plain(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) or number == int(number) else f"{number:.6g}"


@dataclass(frozen=True)
class Marks:
    """A boolean column per rule, true where a row breaks it, and the errors of rules that could not be judged."""

    broken: pl.DataFrame
    errors: Mapping[str, str]


def marks(frame: pl.DataFrame, rules: Sequence[Rule], alive: pl.Expr | None = None) -> Marks:
    """Where the rows of `frame` break each of `rules`, all in one pass; `alive` is false for tombstones.

    A rule that raises breaks no row: it has an error instead.
    """
    frame = frame if PARTITION in frame.columns else frame.with_columns(pl.lit(None, pl.Date).alias(PARTITION))
    broken = {
        rule.name: (~rule.passes if alive is None or rule.tombstones else ~rule.passes & alive)
        .fill_null(False)
        .cast(pl.Boolean)
        .alias(rule.name)
        for rule in rules
    }
    try:
        return Marks(frame.select(broken.values()), {})
    except _RAISED:
        pass
    # Only where one raises is each judged alone, to find out which.
    errors: dict[str, str] = {}
    columns = []
    for name, expr in broken.items():
        try:
            columns.append(frame.select(expr).to_series())
        except _RAISED as error:
            errors[name] = _told(error)
            columns.append(pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True).alias(name))
    return Marks(pl.DataFrame(columns), errors)


def measure(frame: pl.DataFrame, measures: Sequence[Measure]) -> tuple[pl.DataFrame, Mapping[str, str]]:
    """The value of each measure by _partition (one row each, those with rows in `frame`), and errors by measure."""
    found: dict[str, pl.DataFrame] = {}
    errors: dict[str, str] = {}
    values = {one.name: one.value.cast(pl.Float64) for one in measures}
    try:
        return frame.group_by(PARTITION).agg(value.alias(name) for name, value in values.items()), errors
    except _RAISED:
        for name, value in values.items():
            try:
                found[name] = frame.group_by(PARTITION).agg(value.alias(name))
            except _RAISED as error:
                errors[name] = _told(error)
    joined = frame.select(PARTITION).unique()
    for values_of_one in found.values():
        joined = joined.join(values_of_one, on=PARTITION, how="left", nulls_equal=True)
    return joined.with_columns(pl.lit(None, pl.Float64).alias(name) for name in errors), errors


def measure_of_no_row(frame: pl.DataFrame, measures: Sequence[Measure]) -> dict[str, float | None]:
    """What each measure is of a delivery with the columns of `frame` and without a row; None where it raises."""
    found: dict[str, float | None] = {}
    for one in measures:
        try:
            found[one.name] = frame.clear().select(one.value.cast(pl.Float64)).item()
        except _RAISED:
            found[one.name] = None
    return found


def _told(error: BaseException) -> str:
    text = f": {str(error).splitlines()[0]}" if isinstance(error, _TELLING) and str(error) else ""
    return f"the rule raised {type(error).__name__}{text}"


@dataclass(frozen=True)
class Judged:
    """How many rows break each rule, and the errors of rules that could not be judged; by rule."""

    failed: Mapping[str, int]
    errors: Mapping[str, str]


def judged(frame: pl.DataFrame, rules: Sequence[Rule]) -> Judged:
    """How the rows of `frame` keep `rules`: all rules in one pass over the data."""
    found = marks(frame, rules)
    return Judged({name: int(found.broken.get_column(name).sum()) for name in found.broken.columns}, found.errors)
