"""The kinds of rules that a contract declares, a line each, and how they are judged: all of a table's in one pass.

A second rule of one kind on one column needs a name of its own: `replace(in_range("quantity", -5, 5), name="…")`.
A `Rule` judges rows, a `Measure` a delivery as a whole: both see nothing but the delivery, so both may be critical. A
`WarehouseQuery` looks at what is published and comes after it: it can show and warn, and stops nothing.
"""

import json
import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias

import polars as pl

Severity = Literal["critical", "warning", "info"]
# A schema error names columns and types; the text of any other may quote values.
_TELLING = (pl.exceptions.ColumnNotFoundError, pl.exceptions.SchemaError, pl.exceptions.SchemaFieldNotFoundError)
_RAISED = (pl.exceptions.PolarsError, pl.exceptions.PanicException, ArithmeticError, LookupError, TypeError, ValueError)


# Of a staged row the day of its delivery; a table that is no delivery is one as a whole.
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

    A null is nothing to judge. A critical one rejects the delivery: what stood before stands. Tombstones and deletions
    count only where `tombstones` says so.
    """

    name: str
    severity: Severity
    description: str
    value: pl.Expr
    low: float = -math.inf
    high: float = math.inf
    tombstones: bool = False

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
    described = f"{column} lies within {between(lower, upper)}{f' {unit}' if unit else ''}."
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
    described = f"A delivery has {between(low, high)} rows, tombstones among them."
    return Measure("row_count", severity, described, pl.len(), low, high, tombstones=True)


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
        f"SELECT delivered_on, count(*), count(*) FILTER (WHERE {key} IN "  # noqa: S608
        f"(SELECT {key} FROM warehouse.{dimension} WHERE is_inferred)) FROM warehouse.{table} "
        f"WHERE delivered_on = ANY(%(days)s) AND {key} <> -1 GROUP BY delivered_on",
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
    """What the rules say of one delivery: a boolean column per rule, true where a row breaks it; and how many rows each
    judged. A rule that raises breaks no row: it has an error instead."""

    broken: pl.DataFrame
    judged: Mapping[str, int]
    errors: Mapping[str, str]


def marks(frame: pl.DataFrame, rules: Sequence[Rule], alive: pl.Expr | None = None) -> Marks:
    """Where the rows of one delivery, or of one table, break each of `rules`; `alive` is false for tombstones.

    A rule may compare rows with each other: it sees those of this delivery and no others.
    """
    if PARTITION not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.Date).alias(PARTITION))
    living = frame.select(_whole(alive)).to_series() if alive is not None else None
    broken: dict[str, pl.Series] = {}
    errors: dict[str, str] = {}
    judged: dict[str, int] = {}
    for of_all in (True, False):
        wanted = {rule.name: (~rule.passes).fill_null(False) for rule in rules if rule.tombstones == of_all}
        rows = frame if of_all or living is None or living.all() else frame.filter(living)
        found, raised = _each(rows, wanted, pl.Boolean())
        errors |= raised
        for name in wanted:
            series = found.get(name, pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True))
            judged[name] = rows.height
            if rows.height < frame.height and living is not None:
                series = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True).scatter(living.arg_true(), series)
            broken[name] = series.alias(name)
    return Marks(pl.DataFrame([broken[rule.name] for rule in rules]), judged, errors)


def is_row_by_row(rule: Rule) -> bool:
    """Whether the rule judges each row by that row alone, or counts rows within its delivery, so that many deliveries
    can be judged at once.

    Only what is known to do so counts: comparisons, arithmetic, casts, null checks, texts, `unique`. (Polars' own
    is_row_separable says so of a median, too.)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that the format may change: what is not known is judged apart
        try:
            return _row_by_row(json.loads(rule.passes.meta.serialize(format="json")))
        except (pl.exceptions.PolarsError, ValueError):  # such as a Python function
            return False


_PLAIN_FUNCTIONS = {"Sign", "Abs"}
_PLAIN_BOOLEANS = {"IsNull", "IsNotNull", "Not", "IsIn", "AnyHorizontal", "AllHorizontal"}
_PLAIN_TEXTS = {"Contains", "StartsWith", "EndsWith", "LenChars", "LenBytes"}
_OPERANDS = {
    "BinaryExpr": ("left", "right"),
    "Cast": ("expr",),
    "Ternary": ("predicate", "truthy", "falsy"),
}


def _row_by_row(node: Any) -> bool:
    if not isinstance(node, dict) or len(node) != 1:
        return False
    [(kind, held)] = node.items()
    if kind == "Column":
        return True
    if kind == "Literal":
        return set(held) <= {"Dyn", "Scalar"}
    if kind in _OPERANDS:
        return all(_row_by_row(held[name]) for name in _OPERANDS[kind])
    if kind == "Over":
        return held["function"] == "Len" and {"Column": PARTITION} in held["partition_by"]
    if kind == "Function":
        return _is_plain(held["function"]) and all(map(_row_by_row, held["input"]))
    return False


def _is_plain(function: Any) -> bool:
    if isinstance(function, str):
        return function in _PLAIN_FUNCTIONS
    [(family, name)] = function.items()
    called = name if isinstance(name, str) else next(iter(name))
    return called in {"Boolean": _PLAIN_BOOLEANS, "StringExpr": _PLAIN_TEXTS}.get(family, set())


# The values of measures (None: nothing to judge), and the errors of those that raised; by name.
Measured: TypeAlias = tuple[dict[str, float | None], dict[str, str]]


def measured(frame: pl.DataFrame, measures: Sequence[Measure], alive: pl.Expr | None = None) -> Measured:
    """The value of each measure of one delivery (None: nothing to judge), and the errors of those that raise."""
    values: dict[str, float | None] = {}
    errors: dict[str, str] = {}
    for of_all in (True, False):
        wanted = {one.name: one.value.cast(pl.Float64) for one in measures if one.tombstones == of_all}
        rows = frame if of_all or alive is None else frame.filter(_whole(alive))
        found, raised = _each(rows, wanted, pl.Float64(), scalar=True)
        errors |= raised
        for name in wanted:
            series = found.get(name, pl.Series([None], dtype=pl.Float64))
            value = series.item() if len(series) == 1 else math.nan
            if value is not None and not math.isfinite(value):
                errors[name], value = "its value is no number", None
            values[name] = value
    return values, errors


def measured_each(
    rows: pl.DataFrame, days: Sequence[date], measures: Sequence[Measure], alive: pl.Expr | None = None
) -> dict[date, Measured]:
    """`measured` for each of the deliveries `days`, whose rows `rows` has with PARTITION: each as if it were alone.

    All at once where every measure can be read and none raises; else one after the other.
    """
    nothing = measured(rows.clear(), measures, alive)
    try:
        values = _grouped(rows, measures, alive)
    except (*_RAISED, _Apart):
        parts = {day: part for (day,), part in rows.partition_by(PARTITION, as_dict=True).items()}
        return {day: measured(parts[day], measures, alive) if day in parts else nothing for day in days}
    # A delivery of tombstones only has no row that some measures count.
    return {
        day: (
            {one.name: values[one.name].get(day, nothing[0][one.name]) for one in measures},
            {name: said for name, said in nothing[1].items() if day not in values[name]},
        )
        for day in days
    }


class _Apart(Exception):
    """The measures have to be taken of each delivery alone."""


def _grouped(
    rows: pl.DataFrame, measures: Sequence[Measure], alive: pl.Expr | None
) -> dict[str, dict[date, float | None]]:
    values: dict[str, dict[date, float | None]] = {}
    for of_all in (True, False):
        wanted = {one.name: one.value.cast(pl.Float64) for one in measures if one.tombstones == of_all}
        if not wanted:
            continue
        for expr in wanted.values():
            expr.meta.serialize(format="json")  # raises at a Python function, which might see more than its group
        counted = rows if of_all or alive is None else rows.filter(_whole(alive))
        found = counted.group_by(PARTITION).agg(expr.alias(f"_judged {name}") for name, expr in wanted.items())
        days = found.get_column(PARTITION).to_list()
        for name in wanted:
            series = found.get_column(f"_judged {name}")
            if series.dtype != pl.Float64 or not series.is_finite().fill_null(True).all():
                raise _Apart
            values[name] = dict(zip(days, series.to_list(), strict=True))
    return values


def _whole(alive: pl.Expr) -> pl.Expr:
    return alive.fill_null(True)


def _each(
    frame: pl.DataFrame, wanted: Mapping[str, pl.Expr], dtype: pl.DataType, *, scalar: bool = False
) -> tuple[dict[str, pl.Series], dict[str, str]]:
    """The series of each expression, all in one pass; where one raises each alone, to find out which."""

    def select(named: Mapping[str, pl.Expr]) -> dict[str, pl.Series]:
        # A name that no column has: a rule may be called like one.
        exprs = [expr.cast(dtype).alias(f"_judged {name}") for name, expr in named.items()]
        rows = frame.select(exprs) if scalar else frame.with_columns(exprs)
        return {name: rows.get_column(f"_judged {name}") for name in named}

    if not wanted:
        return {}, {}
    try:
        return select(wanted), {}
    except _RAISED:
        pass
    found: dict[str, pl.Series] = {}
    errors: dict[str, str] = {}
    for name, expr in wanted.items():
        try:
            found |= select({name: expr})
        except _RAISED as error:
            errors[name] = _told(error)
    return found, errors


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
