"""Each kind of rule on rows that keep it, rows that break it, no rows, nulls and a single row; and rules that raise."""

import math
from datetime import date
from typing import Any

import polars as pl
import pytest

from data_platform.contracts.rules import (
    Measure,
    Rule,
    Severity,
    WarehouseQuery,
    accepted_values,
    between,
    in_range,
    is_row_by_row,
    judged,
    marks,
    matches,
    measured,
    measured_each,
    not_null,
    null_rate,
    references,
    row_count,
    sql_rule,
    unique,
)

MONDAY, TUESDAY = date(2024, 1, 1), date(2024, 1, 2)
SCHEMA = {"_partition": pl.Date, "id": pl.String, "number": pl.Int64, "amount": pl.Decimal(18, 4), "alive": pl.Boolean}


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{"_partition": MONDAY} | row for row in rows], schema=SCHEMA)


# Of each kind: the rule, a row that keeps it, one that breaks it, and how many of two rows of nulls do.
ROW_RULES: dict[str, tuple[Rule, dict[str, Any], dict[str, Any], int]] = {
    "not null": (not_null("id"), {"id": "a"}, {"number": 1}, 2),
    "range": (in_range("number", 1, 5), {"number": 5}, {"number": 6}, 0),
    "lowest": (in_range("amount", low=0), {"amount": 0}, {"amount": -1}, 0),
    "highest": (in_range("number", high=5), {"number": -9}, {"number": 6}, 0),
    "accepted values": (accepted_values("id", ["a", "b"]), {"id": "b"}, {"id": "A"}, 0),
    "pattern": (
        matches("short", "id", "^.{1,3}$", "info", "Ids are short."),
        {"id": "abc"},
        {"id": "abcd"},
        0,
    ),
    "expression": (Rule("odd", "info", "Odd.", pl.col("number") % 2 == 1), {"number": 3}, {"number": 4}, 0),
    "SQL": (
        sql_rule("sql", "number >= 0 OR id = 'x'", "info", "…"),
        {"number": -1, "id": "x"},
        {"number": -1, "id": "y"},
        0,
    ),
}


@pytest.mark.parametrize("kind", ROW_RULES)
def test_a_rule_of_rows(kind: str) -> None:
    rule, kept, broken, of_nulls = ROW_RULES[kind]
    assert judged(frame(kept, broken, kept, broken), [rule]).failed == {rule.name: 2}
    assert marks(frame(kept, broken), [rule]).broken.get_column(rule.name).to_list() == [False, True]
    assert judged(frame(kept), [rule]).failed == {rule.name: 0}
    assert judged(frame(broken), [rule]).failed == {rule.name: 1}
    assert judged(frame(), [rule]).failed == {rule.name: 0}
    assert judged(frame({}, {}), [rule]).failed == {rule.name: of_nulls}
    assert judged(frame(kept), [rule]).errors == {}


def test_unique_counts_every_row_of_a_key_and_no_nulls() -> None:
    rule = unique("id", "number")
    double = {"id": "a", "number": 1}
    assert judged(frame(double, double, {"id": "a", "number": 2}), [rule]).failed == {rule.name: 2}
    assert judged(frame(double), [rule]).failed == {rule.name: 0}
    assert judged(frame(), [rule]).failed == {rule.name: 0}
    assert judged(frame({"id": "a"}, {"id": "a"}, {}, {}), [rule]).failed == {rule.name: 0}


def test_unique_does_not_count_a_line_against_its_own_tombstone() -> None:
    rows = frame({"id": "a", "number": 1, "alive": True}, {"id": "a", "number": 1, "alive": False})
    found = marks(rows, [unique("id", "number")], pl.col("alive"))
    assert found.broken.to_series().to_list() == [False, False]
    assert found.judged == {"id_and_number_is_unique": 1}


@pytest.mark.parametrize("tombstones", [False, True])
def test_tombstones_are_judged_only_where_a_rule_says_so(tombstones: bool) -> None:
    rule = not_null("id", tombstones=tombstones)
    rows = frame({"alive": True}, {"alive": False})
    assert marks(rows, [rule], pl.col("alive")).broken.get_column(rule.name).to_list() == [True, tombstones]


# Of each kind: the measure, rows that keep it and rows that break it; what it is of no rows and of rows of nulls.
MEASURES: dict[str, tuple[Measure, list[dict[str, Any]], list[dict[str, Any]], float | None]] = {
    "row count": (row_count(2, 3), [{}, {}], [{}], 2.0),
    "null rate": (null_rate("id", 0.5), [{"id": "a"}, {}], [{"id": "a"}, {}, {}], 1.0),
    "mean": (
        Measure("mean", "warning", "…", pl.col("number").mean(), 1, 2), [{"number": 1}, {"number": 3}], [{"number": 9}],
        None,
    ),
}  # fmt: skip


def value_of(rule: Measure, *rows: dict[str, Any]) -> float | None:
    values, errors = measured(frame(*rows), [rule])
    assert errors == {}
    return values[rule.name]


@pytest.mark.parametrize("kind", MEASURES)
def test_a_measure_of_a_delivery(kind: str) -> None:
    rule, kept, broken, of_nulls = MEASURES[kind]
    assert rule.holds(value_of(rule, *kept))
    assert not rule.holds(value_of(rule, *broken))
    assert value_of(rule) == (0 if kind == "row count" else None)
    assert value_of(rule, {}, {}) == of_nulls
    assert value_of(rule, broken[0]) is not None


def test_tombstones_count_in_no_share_but_as_rows() -> None:
    rows = frame({"id": "a", "alive": True}, {"alive": False}, {"alive": False})
    assert measured(rows, [null_rate("id", 0.5), row_count()], pl.col("alive"))[0] == {
        "id_null_rate": 0,
        "row_count": 3,
    }


# Of measures that can and that cannot be taken of many deliveries at once.
MANY_AT_ONCE = {
    "shares and counts": [null_rate("id", 0.5), row_count(), Measure("mean", "info", "…", pl.col("number").mean())],
    "a constant": [Measure("constant", "info", "…", pl.lit(7))],
    "rows, not one value": [Measure("rows", "info", "…", pl.col("number"))],
    "one that raises": [Measure("gone", "info", "…", pl.col("no such column").sum()), row_count()],
    "one that is no number": [Measure("odd", "info", "…", pl.col("number").sum() / 0.0), row_count()],
    "a window over deliveries": [Measure("over", "info", "…", pl.len().over("_partition").max())],
    "in Python": [
        Measure("python", "info", "…", pl.col("number").map_batches(lambda values: values.len(), returns_scalar=True))
    ],
}


@pytest.mark.parametrize("measures", MANY_AT_ONCE.values(), ids=MANY_AT_ONCE)
def test_each_of_many_deliveries_is_measured_as_if_it_were_alone(measures: list[Measure]) -> None:
    parts = {
        MONDAY: frame({"id": "a", "number": 1, "alive": True}, {"number": 4, "alive": False}, {"number": 2}),
        TUESDAY: frame({"alive": False, "number": 3}).with_columns(_partition=pl.lit(TUESDAY)),
        date(2024, 1, 3): frame(),
        date(2024, 1, 4): frame({"number": 8}, {"id": "b", "number": 0}).with_columns(_partition=date(2024, 1, 4)),
    }
    alive = pl.col("alive")
    found = measured_each(pl.concat(parts.values()), list(parts), measures, alive)
    assert found == {day: measured(part, measures, alive) for day, part in parts.items()}


@pytest.mark.parametrize("value", [pl.lit(math.nan), pl.lit(math.inf), pl.corr("number", "number")])
def test_a_value_that_is_no_number_is_an_error(value: pl.Expr) -> None:
    rule = Measure("odd", "info", "…", value)
    assert measured(frame({"number": 1}, {"number": 1}), [rule]) == ({"odd": None}, {"odd": "its value is no number"})


def test_a_measure_that_is_null_is_nothing_to_judge_and_one_that_is_no_number_fails() -> None:
    rule = row_count(2)
    assert rule.holds(None)
    assert not rule.holds(math.nan)
    assert not rule.holds(1)


def test_a_rule_that_raises_fails_with_its_error_and_the_others_are_judged() -> None:
    gone = Rule("gone", "critical", "…", pl.col("no such column") > 0)
    wrong = Rule("wrong", "warning", "…", pl.col("id").str.strptime(pl.Date, "%Y", strict=True).is_not_null())
    found = judged(frame({"id": "ada@example.org", "number": 9}), [gone, in_range("number", 1, 5), wrong])
    assert found.failed == {"gone": 0, "number_in_range": 1, "wrong": 0}
    assert set(found.errors) == {"gone", "wrong"}
    assert "no such column" in found.errors["gone"]
    assert found.errors["wrong"] == "the rule raised InvalidOperationError"
    assert "ada" not in str(found.errors)


def test_a_measure_that_raises_has_an_error_and_the_others_a_value() -> None:
    gone = Measure("gone", "critical", "…", pl.col("no such column").sum())
    values, errors = measured(frame({"id": "a"}, {}), [gone, row_count()])
    assert values == {"gone": None, "row_count": 2.0}
    assert set(errors) == {"gone"}


def test_a_rule_about_all_rows_judges_each_of_them_also_beside_one_that_raises() -> None:
    whole = Rule("whole", "info", "…", pl.col("number").is_unique().all())
    gone = Rule("gone", "info", "…", pl.col("no such column") > 0)
    found = judged(frame({"number": 1}, {"number": 1}, {"number": 2}), [whole, gone])
    assert found.failed == {"whole": 3, "gone": 0}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: in_range("number"), "has no bound"),
        (lambda: in_range("number", 5, 1), "lets nothing through"),
        (lambda: in_range("number", math.nan), "lets nothing through"),
        (lambda: accepted_values("id", []), "accepts nothing"),
        (lambda: null_rate("id", 1.5), "share of 1.5"),
        (lambda: WarehouseQuery("late", "critical", "…", "SELECT 1"), "make it a warning"),  # type: ignore[arg-type]
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1, math.inf, "1 or more"),
        (-math.inf, 0.5, "at most 0.5"),
        (-10_000, 10_000, "-10,000 to 10,000"),
        (3, 3, "3"),
        (-math.inf, math.inf, "anything"),
    ],
)
def test_bounds_in_words(low: float, high: float, words: str) -> None:
    assert between(low, high) == words


def test_references_are_never_critical() -> None:
    severity: Severity = references("fact_sales", "product_id", "dim_product", "warning").severity
    assert severity == "warning"


@pytest.mark.parametrize(
    ("passes", "alone"),
    [
        (pl.col("number") >= 0, True),
        (pl.sql_expr("number <= amount OR id = 'x'"), True),
        (pl.col("id").str.contains("x") & ~pl.col("id").is_in(["a"]), True),
        (pl.when(pl.col("number") > 1).then(pl.col("amount").cast(pl.Float64) > 2), True),
        (pl.col("number") <= 3 * pl.col("number").median(), False),
        (pl.col("number").is_unique(), False),
        (pl.col("number").shift() > 1, False),
        (pl.len().over("id") == 1, False),
        (unique("id", "number").passes, True),
        (pl.col("number") > pl.lit(pl.Series([1, 2])), False),
        (pl.col("number").map_elements(lambda value: value > 0, return_dtype=pl.Boolean), False),
    ],
)
def test_only_what_looks_at_a_row_alone_is_judged_for_many_deliveries_at_once(passes: pl.Expr, alone: bool) -> None:
    assert is_row_by_row(Rule("own", "info", "…", passes)) is alone
