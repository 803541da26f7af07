"""What a partition of staged rows looks like in figures: one small profile a day, made for many days in one pass.

A profile is kept for ever and shown to people: columns marked as personal data leave no more than a null rate and a
count of distinct values in it, and no identifier is told whole. Whether a day is unusual is for drift to judge.
"""

import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

from data_platform.contracts.contract import Column, Contract
from data_platform.quality.masking import masked
from data_platform.quality.profile_groups import orders_of, presence, unlike

# Of the form in which profiles are stored: what is stored in another one is not read, but made anew.
VERSION = 1
# Probabilities of a sketch: 0, 0.025 … 1. Distances between sketches are good to about 0.02, which is enough for drift.
QUANTILES = tuple(step / 40 for step in range(41))
HOURS = tuple(str(hour) for hour in range(24))
# How long before its delivery something happened, in calendar days.
AGES = ("later than the delivery", "same day", "1 day", "2 to 7 days", "8 to 31 days", "older")
_AGES_UNTIL = (-1, 0, 1, 7, 31)
# A text with more values than this on a day is no category, and its values are not kept.
MOST_CATEGORIES = 50
SHOWN_CATEGORIES = 20
OTHER = "(other)"
# When a row was changed says nothing of what it tells: a repeated row often has a new time.
_NOT_TOLD = ("updated_at",)
# What rows tell together, by the names of ColumnProfile.
_TOGETHER = ("gaps", "negative", "unlike", "present")
_LABEL_LENGTH = 40
# Of an id; enough to tell sources and number ranges apart, too little to tell whose it is.
_PREFIX_LENGTH = 2

Shares = Mapping[str, float]


@dataclass(frozen=True)
class Numbers:
    """The non-null numbers of a column on a day; `quantiles` belong to QUANTILES. In the column's own unit."""

    low: float
    high: float
    mean: float
    deviation: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class ColumnProfile:
    """A column on a day. Shares are of its non-null values and add up to 1.

    `distinct` counts values (without null). `hours` (by hour of the day) and `ages` (by AGES) are shares of distinct
    moments, of days where the column is a date. `shares`: by category (of ids beside the key: by prefix), the most
    frequent ones, the rest as OTHER. What does not apply to the column is None.

    Rows of one order hang together, so some figures are shares of orders (of what shares the first column of a key of
    several): `gaps` of those with any null, `negative` of those with any number below 0. `unlike`: by the name of an id
    column, the share of numbers that are far from the day's others of the same id. `present`: of ids beside the key,
    the bits that their hashes set, in base64.
    """

    nulls: float
    distinct: int
    numbers: Numbers | None = None
    hours: Shares | None = None
    ages: Shares | None = None
    shares: Shares | None = None
    gaps: float | None = None
    negative: float | None = None
    unlike: Shares | None = None
    present: str | None = None


@dataclass(frozen=True)
class Profile:
    """A partition: its rows, and its columns by name; `Profile(0)` is one without rows.

    `groups` counts orders (see ColumnProfile); where each row stands alone it is `rows`. `repeats` is the share of rows
    that tell the same as an earlier row under another key; None where the columns beside the key name nothing by an id,
    so that equal rows are no surprise.
    """

    rows: int
    repeats: float | None = None
    columns: Mapping[str, ColumnProfile] = field(default_factory=dict)
    groups: int = 0

    def to_json(self) -> str:
        """The profile as text for a jsonb column; less than 4 KB for a table of about twelve columns."""
        told: dict[str, Any] = {
            "version": VERSION,
            "rows": self.rows,
            "repeats": self.repeats,
            "groups": self.groups,
        }
        told["columns"] = {name: _told(column) for name, column in self.columns.items()}
        return json.dumps(told, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | Mapping[str, Any]) -> "Profile":
        """The profile that `to_json` of this VERSION wrote, from its text or from what a driver made of the jsonb."""
        told = json.loads(text) if isinstance(text, str) else text
        columns = {name: _heard(column) for name, column in told["columns"].items()}
        return cls(told["rows"], told["repeats"], columns, told["groups"])


def profile(rows: pl.DataFrame | pl.LazyFrame, contract: Contract, *, timezone: str = "UTC") -> dict[date, Profile]:
    """The profile of each day of which `rows` has any, by day.

    `rows`: staged rows with _partition and the contract's columns (others are ignored, absent ones are left out).
    `timezone`: the business time zone, in which instants are given hours and dates.
    """
    present = rows.collect_schema().names()
    columns = {name: column for name, column in contract.columns.items() if name in present}
    frame = rows.lazy().select("_partition", *(_plain(column, timezone) for column in columns.values())).collect()
    figures = [pl.len().alias("rows"), *_repeats(contract, columns)]
    for column in columns.values():
        figures += _figures(column, contract)
    days = {row["_partition"]: row for row in frame.group_by("_partition").agg(figures).iter_rows(named=True)}
    shares = {name: dict(_shares_of(frame, column, contract, days)) for name, column in columns.items()}
    together = _together(frame, columns, contract)
    return {
        day: Profile(
            row["rows"],
            _rate(row["repeats"]) if "repeats" in row else None,
            {name: _column(name, row, shares[name], together[day]) for name in columns},
            together[day]["groups"],
        )
        for day, row in sorted(days.items())
    }


def has_numbers(column: Column, contract: Contract) -> bool:
    """Whether a profile has figures of the column's numbers: not of keys, nor of personal data."""
    return column.dtype.is_numeric() and not column.pii and column.name not in contract.key


def tells_of_others(contract: Contract) -> bool:
    """Whether rows name others by an id beside the key, so that equal rows are a surprise."""
    return any(column.identifier for name, column in contract.columns.items() if name not in contract.key)


def _is_moment(column: Column) -> bool:
    return isinstance(column.dtype, pl.Datetime | pl.Date) and not column.pii


def _is_category(column: Column) -> bool:
    return isinstance(column.dtype, pl.String | pl.Boolean) and not (column.pii or column.identifier)


def _has_prefixes(column: Column, contract: Contract) -> bool:
    # The prefixes of a key are those of a counter: they move on by themselves.
    return column.identifier and not column.pii and column.name not in contract.key


def _plain(column: Column, timezone: str) -> pl.Expr:
    value = pl.col(column.name)
    if column.dtype.is_numeric():
        number = value.cast(pl.Float64)
        return pl.when(number.is_finite()).then(number).alias(column.name)
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
        return value.dt.convert_time_zone(timezone).dt.replace_time_zone(None, ambiguous="earliest")
    return value


def _repeats(contract: Contract, columns: Mapping[str, Column]) -> list[pl.Expr]:
    told = [name for name in columns if name not in (*contract.key, *_NOT_TOLD)]
    if not any(columns[name].identifier for name in told):
        return []
    return [(1 - pl.struct(told).hash().n_unique() / pl.len()).alias("repeats")]


def _figures(column: Column, contract: Contract) -> Iterator[pl.Expr]:
    name, value = column.name, pl.col(column.name)
    yield (value.null_count() / pl.len()).alias(f"{name} nulls")
    yield value.drop_nulls().n_unique().alias(f"{name} distinct")
    if has_numbers(column, contract):
        yield value.mean().alias(f"{name} mean")
        yield value.std(ddof=0).alias(f"{name} deviation")
        places = (pl.lit(pl.Series(QUANTILES)) * (value.count().cast(pl.Int64) - 1)).round().clip(0).cast(pl.UInt32)
        # All quantiles by one sort; a column without a value gives nulls.
        yield value.sort(nulls_last=True).gather(places).alias(f"{name} quantiles")


def _together(frame: pl.DataFrame, columns: Mapping[str, Column], contract: Contract) -> dict[date, dict[str, Any]]:
    """By day, what rows tell together; see ColumnProfile."""
    numbers = [name for name, column in columns.items() if has_numbers(column, contract)]
    ids = [name for name, column in columns.items() if _has_prefixes(column, contract)]
    order = contract.key[0] if len(contract.key) > 1 and contract.key[0] in columns else None
    found = orders_of(frame, order, columns, numbers)
    told: dict[str, Mapping[date, Any]] = {f"{name} present": presence(frame, name) for name in ids}
    for day, far in unlike(frame, numbers, ids).items():
        found[day] |= {f"{name} unlike": shares for name, shares in far.items()}
    for name, days in told.items():
        for day, figure in days.items():
            found[day][name] = figure
    return found


def _shares_of(
    frame: pl.DataFrame, column: Column, contract: Contract, days: Mapping[date, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[date, Shares]]]:
    """Shares by day, for each kind of shares that the column has."""
    name = column.name
    if _is_category(column):
        few = [day for day, row in days.items() if row[f"{name} distinct"] <= MOST_CATEGORIES]
        counts = _counts(frame.filter(pl.col("_partition").is_in(few)), pl.col(name), _category)
        yield "shares", {day: _top(found) for day, found in counts.items()}
    if _has_prefixes(column, contract):
        prefixes = _counts(frame, pl.col(name).str.slice(0, _PREFIX_LENGTH), lambda prefix: f"{prefix}…")
        yield "shares", {day: _top(found) for day, found in prefixes.items()}
    if _is_moment(column):
        timed = isinstance(column.dtype, pl.Datetime)
        # The lines of an order happen at once: a moment counts once, or one large order would be the day's rush hour.
        moments = frame.select("_partition", name).unique() if timed else frame
        age = (pl.col("_partition") - pl.col(name).cast(pl.Date)).dt.total_days()
        yield "ages", _complete(_counts(moments, age, _age), AGES)
        if timed:
            yield "hours", _complete(_counts(moments, pl.col(name).dt.hour(), str), HOURS)


def _counts(frame: pl.DataFrame, value: pl.Expr, label: Callable[[Any], str]) -> dict[date, Counter[str]]:
    """How many rows have which label, by day; labels are made of what was counted, since rows are many."""
    counted = frame.lazy().select("_partition", value=value).drop_nulls().group_by("_partition", "value").len()
    found: dict[date, Counter[str]] = {}
    for day, counted_value, count in counted.sort("_partition", "value").collect().iter_rows():
        found.setdefault(day, Counter())[label(counted_value)] += count
    return found


def _category(value: object) -> str:
    # Columns shift: an address may stand where a segment should.
    return str(value).lower() if isinstance(value, bool) else masked(str(value))[:_LABEL_LENGTH]


def _age(days: int) -> str:
    return AGES[bisect_left(_AGES_UNTIL, days)]


def _top(counts: Mapping[str, int]) -> Shares:
    total = sum(counts.values())
    ranked = sorted(counts.items(), key=lambda found: (-found[1], found[0]))
    shares = {value: _rate(count / total) for value, count in ranked[:SHOWN_CATEGORIES]}
    rest = sum(count for _, count in ranked[SHOWN_CATEGORIES:])
    return shares | {OTHER: _rate(rest / total)} if rest else shares


def _complete(days: Mapping[date, Mapping[str, int]], labels: Sequence[str]) -> dict[date, Shares]:
    return {
        day: {label: _rate(counts.get(label, 0) / sum(counts.values())) for label in labels}
        for day, counts in days.items()
    }


def _column(
    name: str, row: Mapping[str, Any], shares: Mapping[str, Mapping[date, Shares]], together: Mapping[str, Any]
) -> ColumnProfile:
    numbers = None
    if row.get(f"{name} mean") is not None:
        quantiles = tuple(_short(value) for value in row[f"{name} quantiles"])
        mean, deviation = _short(row[f"{name} mean"]), _short(row[f"{name} deviation"])
        numbers = Numbers(quantiles[0], quantiles[-1], mean, deviation, quantiles)
    kinds: dict[str, Any] = {kind: days.get(row["_partition"]) for kind, days in shares.items()}
    more: dict[str, Any] = {kind: _rounded(together.get(f"{name} {kind}")) for kind in _TOGETHER}
    return ColumnProfile(_rate(row[f"{name} nulls"]), row[f"{name} distinct"], numbers, **kinds, **more)


def _rounded(figure: Any) -> Any:
    if isinstance(figure, Mapping):
        return {name: _rate(value) for name, value in figure.items()}
    return _rate(figure) if isinstance(figure, float) else figure


def _rate(value: float) -> float:
    return round(value, 5)


def _short(value: float) -> float:
    """Five digits: more would be noise, and the profile is stored for every day."""
    return float(f"{value:.5g}")


def _told(column: ColumnProfile) -> dict[str, Any]:
    told: dict[str, Any] = {"nulls": _lean(column.nulls), "distinct": column.distinct}
    if column.numbers:
        numbers = column.numbers
        told["numbers"] = [_lean(value) for value in (numbers.mean, numbers.deviation, *numbers.quantiles)]
    for kind in ("shares", *_TOGETHER):
        figure = getattr(column, kind)
        if figure is not None:
            told[kind] = _lean(figure) if isinstance(figure, float) else figure
    for kind, labels in (("hours", HOURS), ("ages", AGES)):
        shares: Shares | None = getattr(column, kind)
        if shares is not None:
            told[kind] = [_lean(shares[label]) for label in labels]
    return told


def _heard(told: Mapping[str, Any]) -> ColumnProfile:
    numbers = None
    if "numbers" in told:
        mean, deviation, *quantiles = map(float, told["numbers"])
        numbers = Numbers(quantiles[0], quantiles[-1], mean, deviation, tuple(quantiles))
    listed: dict[str, Any] = {
        kind: dict(zip(labels, map(float, told[kind]), strict=True))
        for kind, labels in (("hours", HOURS), ("ages", AGES))
        if kind in told
    }
    plain: dict[str, Any] = {kind: told.get(kind) for kind in ("shares", *_TOGETHER)}
    return ColumnProfile(float(told["nulls"]), told["distinct"], numbers, **plain, **listed)


def _lean(value: float) -> float:
    return int(value) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else value
