"""Whether the values of a column are spread as they were: quantiles, shares of classes, hours, KS and PSI."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeVar

import numpy as np

from data_platform.quality import baselines
from data_platform.quality.anomalies import (
    Anomaly,
    Kind,
    Limit,
    clock,
    compare,
    compare_ratio,
    compare_share,
    exceed,
    plain,
)
from data_platform.quality.baselines import Distribution, Floats, Normal
from data_platform.quality.profiles import QUANTILES, ColumnProfile, Numbers, Shares

# Distributions and shares of fewer values than this, and over fewer days, are too uncertain to be judged.
_LEAST_VALUES = 30
_LEAST_DAYS = 7
# A share that so many days went below, and so many above, is none that one or two bad days have made normal.
_SEVERAL = 3
_JUDGED_QUANTILES = {"10 % quantile": 0.1, "median": 0.5, "90 % quantile": 0.9}
# Of the moments of a day: when it begins and ends, but for a few; the last of all is less sure, by a factor.
_JUDGED_TIMES = {"start": (0.05, 1.0), "middle": (0.5, 1.0), "end": (0.95, 1.0), "last": (0.99, 1.3)}

_PLACES = np.array(QUANTILES)

T = TypeVar("T")
Past = Mapping[date, ColumnProfile]


@dataclass(frozen=True)
class Values:
    """The non-null values of the column `name`: `count` of them on `day`, `filled` of them on earlier days."""

    name: str
    day: date
    count: float
    filled: Mapping[date, float]
    limits: Mapping[Kind, Limit]

    def anomalies(self, today: ColumnProfile, past: Past) -> Iterator[Anomaly | None]:
        """What is unusual about how the values are spread."""
        if self.count < _LEAST_VALUES:
            return
        if today.numbers and (numbers := self._known(past, lambda column: column.numbers)):
            yield from self._numbers(today.numbers, numbers)
        if today.shares and (shares := self._known(past, lambda column: column.shares)):
            yield self._shares("shares", f"shares of {self.name}", today.shares, shares)
        # Ages and hours are counted in distinct moments.
        moments = replace(
            self,
            count=min(self.count, today.distinct),
            filled={day: min(count, past[day].distinct) for day, count in self.filled.items()},
        )
        if moments.count < _LEAST_VALUES:
            return
        if today.ages and (ages := moments._known(past, lambda column: column.ages)):
            yield moments._shares("ages", f"age of {self.name}", today.ages, ages)
        if today.hours and (hours := moments._known(past, lambda column: column.hours)):
            yield from moments._hours(today.hours, hours)

    def _known(self, past: Past, kind: Callable[[ColumnProfile], T | None]) -> dict[date, T]:
        """What is known of the days with values enough; nothing where those are few."""
        told = {day: kind(column) for day, column in past.items() if self.filled[day] >= _LEAST_VALUES}
        known = {day: found for day, found in told.items() if found is not None}
        return known if len(known) >= _LEAST_DAYS else {}

    def _numbers(self, today: Numbers, past: Mapping[date, Numbers]) -> Iterator[Anomaly | None]:
        # One huge value moves the mean by no more than its standard error: single values are for rules about rows.
        noise = today.deviation / self.count**0.5
        means = {day: numbers.mean for day, numbers in past.items()}
        yield self._ratio("mean", f"mean of {self.name}", today.mean, means, noise=noise)
        # A median that is a value of the column: between the 1 and 2 of whole numbers there is no 1.5.
        sketch: Floats = np.quantile([numbers.quantiles for numbers in past.values()], 0.5, axis=0, method="lower")
        for label, place in _JUDGED_QUANTILES.items():
            yield self._quantile(label, place, today, past, sketch)
        usual = Distribution.of_quantiles(sketch)
        mine = Distribution.of_quantiles(today.quantiles)
        others = {day: Distribution.of_quantiles(numbers.quantiles) for day, numbers in past.items()}
        metric = f"distribution of {self.name}"
        half = QUANTILES.index(0.5)
        what = f"Half of the values are up to {plain(today.quantiles[half])}, usually {plain(float(sketch[half]))}"
        yield self._ks(metric, mine, others, usual, what)
        edges = baselines.tenths(usual)
        bins = {day: baselines.binned(other, edges) for day, other in others.items()}
        yield self._psi(metric, baselines.binned(mine, edges), bins, baselines.binned(usual, edges), what)

    def _quantile(
        self, label: str, place: float, today: Numbers, past: Mapping[date, Numbers], sketch: Floats
    ) -> Anomaly | None:
        at = QUANTILES.index(place)
        limit = self.limits.get("quantiles")
        aside = limit.absolute if limit else 0.0
        low, high = np.interp((place - aside, place + aside), _PLACES, sketch).tolist()
        quantiles = {day: numbers.quantiles[at] for day, numbers in past.items()}
        return self._ratio("quantiles", f"{label} of {self.name}", today.quantiles[at], quantiles, between=(low, high))

    def _ratio(
        self,
        kind: Kind,
        metric: str,
        value: float,
        past: Mapping[date, float],
        *,
        noise: float = 0.0,
        between: tuple[float, float] | None = None,
    ) -> Anomaly | None:
        fewer = self._fewer(past)
        return compare_ratio(
            kind, metric, value, past, self.day, self.limits, noise=noise, between=between, fewer=fewer
        )

    def _shares(self, kind: Kind, metric: str, today: Shares, past: Mapping[date, Shares]) -> Anomaly | None:
        """The class whose share is most unusual."""
        limit = self.limits.get(kind)
        worst = None
        for label in dict.fromkeys(label for shares in (today, *past.values()) for label in shares):
            earlier = {day: shares.get(label, 0.0) for day, shares in past.items()}
            value = today.get(label, 0.0)
            ordered = sorted(earlier.values())
            # Most classes are where they have been on several days: what cannot be odd is not worth its statistics.
            seen = ordered[_SEVERAL - 1] <= value <= ordered[-_SEVERAL]
            if limit and not seen and max(value, ordered[-1]) > limit.absolute:
                fewer, what = self._fewer(earlier), f"“{label}” has "
                found = compare_share(
                    kind, metric, value, earlier, self.day, self.count, self.limits, fewer=fewer, what=what
                )
                if found and (worst is None or found.score > worst.score):
                    worst = found
        return worst

    def _hours(self, today: Shares, past: Mapping[date, Shares]) -> Iterator[Anomaly | None]:
        mine = np.array(list(today.values()))
        others = {day: np.array(list(shares.values())) for day, shares in past.items()}
        usual = np.median(list(others.values()), axis=0)
        # Where hours vary so much that the median of each is 0, the mean is all there is.
        usual = usual / usual.sum() if usual.sum() > 0 else np.mean(list(others.values()), axis=0)
        now, before = (clock(_time_of_day(0.5, shares)) for shares in (mine, usual))
        what = f"Half of the moments are before {now}, usually before {before}"
        for label, (place, unsure) in _JUDGED_TIMES.items():
            expected = self._normal({day: _time_of_day(place, other) for day, other in others.items()})
            expected = replace(expected, spread=expected.spread * unsure)
            value, quantile = _time_of_day(place, mine), f"{label} of {self.name}"
            yield compare("hours", quantile, value, expected, self.limits, show=clock)
        metric = f"hours of {self.name}"
        distributions = {day: Distribution.of_shares(other) for day, other in others.items()}
        yield self._ks(metric, Distribution.of_shares(mine), distributions, Distribution.of_shares(usual), what)
        yield self._psi(metric, mine, others, usual, what)

    def _ks(
        self, metric: str, today: Distribution, past: Mapping[date, Distribution], usual: Distribution, what: str
    ) -> Anomaly | None:
        expected = self._normal({day: baselines.ks_distance(one, usual) for day, one in past.items()})
        chance = baselines.ks_by_chance(self._sample(past))
        value = baselines.ks_distance(today, usual)
        return exceed("ks", f"{metric} (KS)", value, expected, self.limits, chance=chance, what=what)

    def _psi(self, metric: str, today: Floats, past: Mapping[date, Floats], usual: Floats, what: str) -> Anomaly | None:
        before = baselines.psi(np.array(list(past.values())), usual)
        expected = self._normal(dict(zip(past, map(float, before), strict=True)))
        chance = baselines.psi_by_chance(usual.size, self._sample(past))
        value = float(baselines.psi(today, usual))
        return exceed("psi", f"{metric} (PSI)", value, expected, self.limits, chance=chance, what=what)

    def _sample(self, past: Mapping[date, object]) -> float:
        """The size of one sample that is as uncertain as those of today and of the past are together."""
        return 1 / (1 / self.count + 1 / sum(self.filled[day] for day in past))

    def _normal(self, past: Mapping[date, float]) -> Normal:
        """What is normal for as few values as there are today: figures of fewer scatter more."""
        expected = baselines.normal(past, self.day)
        return replace(expected, spread=expected.spread * self._fewer(past))

    def _fewer(self, past: Mapping[date, object]) -> float:
        usual = float(np.median([self.filled[day] for day in past]))
        return math.sqrt(max(usual / self.count, 1.0))


def _time_of_day(place: float, shares: Floats) -> float:
    """Hours since midnight before which a share of `place` of the moments are."""
    until = np.cumsum(shares) / shares.sum()
    hour = int(np.searchsorted(until, place))
    before = float(until[hour - 1]) if hour else 0.0
    return hour + (place - before) / (float(until[hour]) - before)
