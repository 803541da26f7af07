"""Which figures drifted, by what the drift rules noted, and how those figures went over the partitions."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from data_platform.quality.profiles import QUANTILES, ColumnProfile, Profile, Shares
from data_platform.quality.report.text import brief

DRIFT = "drift"
ROWS, REPEATS = "rows", "share of repeated rows"
# The sentence of an anomaly: the figure, a colon, at times the class that it is of, and what is normal.
_SENTENCE = re.compile(
    r"(?P<figure>[^\s:;.][^:;.]*?)(?: \((?:KS|PSI)\))?: (?:“(?P<class>[^”]*)” has )?.*?is normal", re.DOTALL
)


@dataclass(frozen=True)
class Metric:
    """A figure of a table's profiles, in the words of an anomaly; `label` names the class whose share it is."""

    table: str
    name: str
    label: str = ""

    @property
    def title(self) -> str:
        """What the figure is, for people."""
        column = self.name.partition(" of ")[2]
        return brief({
            REPEATS: "share of rows that tell the same as another",
            f"null_rate of {column}": f"share of rows without {column}",
            f"distinct count of {column}": f"distinct values of {column}",
            f"distribution of {column}": f"median of {column}",
            f"shares of {column}": f"share of “{self.label}” in {column}",
            f"age of {column}": f"share of “{self.label}” in the age of {column}",
            f"hours of {column}": f"hour before which half of {column} are",
            f"middle of {column}": f"hour before which half of {column} are",
            f"start of {column}": f"hour before which 5 % of {column} are",
            f"end of {column}": f"hour before which 95 % of {column} are",
        }.get(self.name, self.name))  # fmt: skip

    @property
    def is_share(self) -> bool:
        """Whether it goes from 0 to 1."""
        return bool(self.label) or self.name.startswith(("null_rate", "share of", "orders with gaps")) or (
            " unlike " in self.name
        )  # fmt: skip

    def values(self, profiles: Mapping[date, Profile]) -> dict[date, float]:
        """The figure of each partition that has one; none where profiles do not keep it as a figure."""
        found = {day: self._value(profile) for day, profile in sorted(profiles.items())}
        return {day: value for day, value in found.items() if value is not None}

    def _value(self, profile: Profile) -> float | None:
        if self.name == ROWS:
            return float(profile.rows)
        if self.name == REPEATS:
            return profile.repeats
        for pattern, figure in _FIGURES.items():
            match = re.fullmatch(pattern, self.name)
            column = profile.columns.get(match[1]) if match else None
            if match and column:
                return figure(column, match[2] if match.re.groups > 1 else self.label)
        return None


def _quantile(place: float) -> Callable[[ColumnProfile, str], float | None]:
    at = QUANTILES.index(place)
    return lambda column, _: column.numbers.quantiles[at] if column.numbers else None


def _share(shares: Shares | None, label: str) -> float | None:
    return None if shares is None else shares.get(label, 0.0)


def _hour(place: float) -> Callable[[ColumnProfile, str], float | None]:
    def before(column: ColumnProfile, _: str) -> float | None:
        if column.hours is None:
            return None
        return float(np.searchsorted(np.cumsum(list(column.hours.values())), place))

    return before


_FIGURES: Mapping[str, Callable[[ColumnProfile, str], float | None]] = {
    r"null_rate of (\w+)": lambda column, _: column.nulls,
    r"orders with gaps in (\w+)": lambda column, _: column.gaps,
    r"share of negative (\w+)": lambda column, _: column.negative,
    r"(\w+) unlike that of the same (\w+)": lambda column, other: _share(column.unlike, other),
    r"distinct count of (\w+)": lambda column, _: float(column.distinct),
    r"mean of (\w+)": lambda column, _: column.numbers.mean if column.numbers else None,
    r"(?:median|distribution) of (\w+)": _quantile(0.5),
    r"10 % quantile of (\w+)": _quantile(0.1),
    r"90 % quantile of (\w+)": _quantile(0.9),
    r"shares of (\w+)": lambda column, label: _share(column.shares, label),
    r"age of (\w+)": lambda column, label: _share(column.ages, label),
    r"(?:hours|middle) of (\w+)": _hour(0.5),
    r"start of (\w+)": _hour(0.05),
    r"end of (\w+)": _hour(0.95),
}


def drifted(results: pl.DataFrame) -> dict[Metric, dict[date, str]]:
    """Per figure the partitions on which it was unusual, each with what was said of it; those of most days first.

    A result that tells of no figure counts under its rule's name: none is lost.
    """
    found: dict[Metric, dict[date, str]] = {}
    failed = results.filter(
        pl.col("rule").str.starts_with(DRIFT) & ~pl.col("passed") & pl.col("partition_date").is_not_null()
    )
    columns = failed.select("asset", "partition_date", "rule", "note").sort("partition_date", "rule")
    for asset, day, rule, note in columns.iter_rows():
        told = list(_metrics(asset, note)) or [(Metric(asset, rule.replace("_", " ")), brief(note))]
        for metric, said in told:
            found.setdefault(metric, {}).setdefault(day, f"{day}: {said}")
    return dict(sorted(found.items(), key=lambda one: (-len(one[1]), one[0].table, one[0].title)))


def _metrics(table: str, note: str) -> Iterator[tuple[Metric, str]]:
    for match in _SENTENCE.finditer(note):
        yield Metric(table, match["figure"], match["class"] or ""), brief(match[0])
