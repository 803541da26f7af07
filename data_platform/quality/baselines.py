"""What is normal for a figure on a day, told from its past; and how far two distributions are apart. Robust throughout.

Medians and median absolute deviations let single bad days of the past have no say. Nothing here knows of profiles.
scipy (its special functions, a tenth of its weight) is imported where it is used: definitions load without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Deviations of a rank test beyond which weekdays differ, or there is a trend (99 %): what is not there misleads.
_SURE = 2.58
_LEAST_FOR_TREND = 10
# Once the weekdays' own medians are taken out, less scatter is left than new days will have.
_LESS_SCATTER = 1.3
# Of a normal distribution, the standard deviation in median absolute deviations.
_DEVIATIONS = 1.4826
# Of as many partitions most at another level make that a new normal.
NEW_NORMAL = 3
# Chance that a sample of the usual distribution is as far off as the least distance that counts.
_BY_CHANCE = 1e-4
# What an empty bin counts as, so that a category that comes or goes makes no infinite PSI.
_LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class Normal:
    """The value to expect and the usual deviation from it (as of a standard deviation), from `days` days.

    `latest` are the last NEW_NORMAL values, weekday and trend taken out as for the expected value; `past` are the
    values by day as they were.
    """

    centre: float
    spread: float
    days: int
    by_weekday: bool = False
    latest: tuple[float, ...] = ()
    past: Mapping[date, float] = field(default_factory=dict)


def normal(past: Mapping[date, float], day: date) -> Normal:
    """What is normal on `day`, by the values of earlier days: median and MAD after weekdays and trend are taken out.

    Weekdays are told apart only where one stands out (rank sums), a trend is followed to `day` (Theil–Sen) only where
    it is sure (Mann–Kendall), so that a short and noisy past does not make up either.
    """
    values = np.fromiter(past.values(), dtype=np.float64)
    if values.size == 0:
        return Normal(float("nan"), 0.0, 0)
    if values.min() == values.max():
        return Normal(float(values[0]), 0.0, values.size, latest=tuple(values[-NEW_NORMAL:].tolist()), past=past)
    ordinals = np.fromiter(map(date.toordinal, past), dtype=np.int64)
    weekdays = (ordinals + 6) % 7
    effects = _weekday_effects(values, weekdays)
    if effects is not None:
        values = values - effects[weekdays] + effects[day.weekday()]
    distance = (ordinals - day.toordinal()).astype(np.float64)
    values = values - _trend(distance, values) * distance
    centre = median(values)
    spread = scatter(values, centre) * (1.0 if effects is None else _LESS_SCATTER)
    latest = values[np.argsort(distance)[-NEW_NORMAL:]].tolist()
    return Normal(centre, spread, values.size, effects is not None, tuple(latest), past)


def median(values: Floats) -> float:
    """The median of at least one value; numpy's own takes ten times as long for a month of values."""
    ordered, half = np.sort(values), values.size // 2
    return float(ordered[half]) if values.size % 2 else float(ordered[half - 1] + ordered[half]) / 2


def scatter(values: Floats, centre: float) -> float:
    """The standard deviation about `centre`, from median absolute deviations; half of the values may be anything.

    Of a month of values they are often too small by chance. Q_n (Rousseeuw and Croux, 1993), the quarter of all
    distances between two values, is as robust and twice as exact: the greater of both counts.
    """
    deviation = median(np.abs(values - centre)) * _DEVIATIONS
    rows, columns = _pairs(values.size)
    distances = np.abs(values[rows] - values[columns])
    half = values.size // 2 + 1
    place = half * (half - 1) // 2 - 1
    if not 0 <= place < distances.size:
        return deviation
    # The constant of a normal distribution, and for how few values it is too great.
    quarter = float(np.partition(distances, place)[place]) * 2.2219
    few = values.size / (values.size + (1.4 if values.size % 2 else 3.8))
    return max(deviation, quarter * few)


@lru_cache(maxsize=64)
def _pairs(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of all pairs among `count` values."""
    return np.triu_indices(count, 1)


def growth(x: Floats, y: Floats) -> float:
    """How much `y` grows with `x`: the median of the slopes between all pairs (Theil–Sen); 0 where `x` is constant."""
    # scipy.stats has these tests as well, at fifty times the cost for a month of values; it is called a hundred times
    # for each partition. The distributions that the tests need are scipy's.
    rows, columns = _pairs(x.size)
    run = x[columns] - x[rows]
    some = run != 0
    return median((y[columns] - y[rows])[some] / run[some]) if some.any() else 0.0


def _trend(distance: Floats, values: Floats) -> float:
    count = values.size
    if count < _LEAST_FOR_TREND:
        return 0.0
    rows, columns = _pairs(count)
    rising = np.sum(np.sign(values[columns] - values[rows]) * np.sign(distance[columns] - distance[rows]))
    sure = abs(rising) > _SURE * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return growth(distance, values) if sure else 0.0


def _weekday_effects(values: Floats, weekdays: NDArray[np.int64]) -> Floats | None:
    """How much each weekday is above the median; None where none stands out from the others, or was seen twice."""
    seen = np.bincount(weekdays, minlength=7)
    several = np.flatnonzero(seen > 1)
    if several.size < 2:
        return None
    # A rank sum test of each weekday against the others: over all seven at once a single odd Sunday would be lost.
    ordered = np.sort(values)
    ranks = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2
    count, each = values.size, seen[several]
    off = np.bincount(weekdays, weights=ranks, minlength=7)[several] / each - (count + 1) / 2
    chance = np.sqrt((count + 1) * (count - each) / (12 * each))
    if np.max(np.abs(off) / np.maximum(chance, 1e-9)) < _SURE:
        return None
    effects, all_days = np.zeros(7), median(values)
    for weekday in several:
        # The fewer days, the less of the difference is believed.
        believed = seen[weekday] / (seen[weekday] + 0.5)
        effects[weekday] = (median(values[weekdays == weekday]) - all_days) * believed
    return effects


@lru_cache(maxsize=8)
def _steps(count: int) -> Floats:
    return np.linspace(0, 1, count)


@dataclass(frozen=True)
class Distribution:
    """A cumulative distribution: the share of values up to each of `points` (ascending).

    A point that is there several times is a value that many have: the shares of its first and last place are those
    below it and up to it.
    """

    points: Floats
    until: Floats

    @classmethod
    def of_quantiles(cls, quantiles: Sequence[float] | Floats) -> "Distribution":
        """From quantiles at equal steps from the least to the greatest value."""
        values = np.asarray(quantiles, dtype=np.float64)
        return cls(values, _steps(values.size))

    @classmethod
    def of_shares(cls, shares: Sequence[float] | Floats) -> "Distribution":
        """From the shares of classes 0, 1, 2 …"""
        until = np.cumsum(np.asarray(shares, dtype=np.float64))
        return cls(np.arange(until.size, dtype=np.float64), until / until[-1])

    def at(self, points: Floats) -> Floats:
        """The share of values up to each of `points`."""
        found: Floats = np.interp(points, self.points, self.until, left=0.0)
        return found


def ks_distance(one: Distribution, other: Distribution) -> float:
    """Kolmogorov–Smirnov: the greatest difference between the two cumulative distributions, 0 to 1."""
    points = np.concatenate([one.points, other.points])
    return float(np.max(np.abs(one.at(points) - other.at(points))))


def ks_by_chance(rows: float) -> float:
    """The distance that a sample of `rows` values of the same distribution exceeds once in ten thousand times."""
    from scipy import special

    return float(special.kolmogi(_BY_CHANCE) / np.sqrt(rows))


def psi(shares: Floats, usual: Floats) -> Floats:
    """Population stability index of lists of shares (one, or one a row) and `usual`, over the same bins; 0 for equal.

    It is the sum of both relative entropies. By custom 0.1 is a moderate change and 0.25 a great one.
    """
    from scipy import special

    mine, theirs = shares + _LEAST_SHARE, usual + _LEAST_SHARE
    found: Floats = np.sum(special.rel_entr(mine, theirs) + special.rel_entr(theirs, mine), axis=-1)
    return found


def psi_by_chance(bins: int, rows: float) -> float:
    """The PSI that a sample of `rows` values of the same distribution exceeds once in ten thousand times."""
    from scipy import special

    return float(special.chdtri(max(bins - 1, 1), _BY_CHANCE) / rows)


def tenths(usual: Distribution) -> Floats:
    """The inner edges of bins that hold about a tenth each; fewer where one value has more than a tenth."""
    places = np.searchsorted(usual.until, np.arange(1, 10) / 10)
    return np.unique(usual.points[np.minimum(places, usual.points.size - 1)])


def binned(distribution: Distribution, edges: Floats) -> Floats:
    """The shares of `distribution` between `edges`, from below the first to above the last."""
    until = np.concatenate([[0.0], distribution.at(edges), [1.0]])
    shares: Floats = np.diff(until).clip(0)
    return shares
