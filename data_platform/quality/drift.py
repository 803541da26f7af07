"""Whether a partition is like the ones before it: every figure of its profile against a training window.

Only earlier partitions count, so that a day is judged the same whenever it is judged. What is found is a warning: a
rule over history stops nothing. The statistics are in baselines, limits and sentences in anomalies.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from data_platform.quality.anomalies import LIMITS, Anomaly, Kind, Limit, compare, compare_share, exponential, gone
from data_platform.quality.baselines import growth, median, normal
from data_platform.quality.drift_values import Values
from data_platform.quality.profile_groups import present
from data_platform.quality.profiles import ColumnProfile, Profile

__all__ = ["LEAST_PARTITIONS", "LIMITS", "WINDOW_DAYS", "Anomaly", "Kind", "Limit", "enough_history", "judge"]

WINDOW_DAYS = 28
LEAST_PARTITIONS = 14
# Of the days, on which an id is to be there to be a regular one; and how many regulars tell more than chance.
_REGULAR = 0.8
_LEAST_REGULARS = 40
# A number belongs to an id where usually no larger share than this is unlike the others of the id.
_BELONGS = 0.05


def judge(
    history: Mapping[date, Profile],
    day: date,
    *,
    limits: Mapping[Kind, Limit] = LIMITS,
    window_days: int = WINDOW_DAYS,
    least: int = LEAST_PARTITIONS,
) -> list[Anomaly]:
    """What is unusual about the partition of `day`, the most unusual first; nothing where `history` lacks the day.

    Earlier partitions without rows say nothing. Fewer than `least` others: nothing is judged. The window are those of
    the last `window_days` days, or the last `least` where a break left fewer. A `day` without rows is unusual unless
    its weekday mostly is without. Kinds that `limits` lacks are not judged.
    """
    today = history.get(day)
    earlier = _earlier(history, day)
    if today is None or len(earlier) < least:
        return []
    recent = {known: found for known, found in earlier.items() if known >= day - timedelta(days=window_days)}
    past = recent if len(recent) >= least else dict(list(earlier.items())[-least:])
    if not today.rows and _mostly_closed(earlier, day):
        return []
    found = [one for one in _Judgement(day, today, past, limits).anomalies() if one is not None]
    return sorted(found, key=lambda one: -one.score)


def enough_history(history: Mapping[date, Profile], day: date, *, least: int = LEAST_PARTITIONS) -> bool:
    """Whether `judge` has enough earlier partitions to judge `day` by."""
    return len(_earlier(history, day)) >= least


def _earlier(history: Mapping[date, Profile], day: date) -> dict[date, Profile]:
    return {known: history[known] for known in sorted(history) if known < day and history[known].rows}


def _mostly_closed(earlier: Mapping[date, Profile], day: date) -> bool:
    weeks = [day - timedelta(weeks=week) for week in range(1, 5)]
    known = [week in earlier for week in weeks if week >= min(earlier)]
    return 2 * sum(known) < len(known)


@dataclass(frozen=True)
class _Judgement:
    """One day against its window: a method for each kind of figure."""

    day: date
    today: Profile
    past: Mapping[date, Profile]
    limits: Mapping[Kind, Limit]

    def anomalies(self) -> Iterator[Anomaly | None]:
        yield self._rows()
        if not self.today.rows:
            return
        yield self._repeats()
        for name, column in self.today.columns.items():
            past = {day: found.columns[name] for day, found in self.past.items() if name in found.columns}
            if 2 * len(past) >= len(self.past):  # a column that is new has no normal yet
                filled = {day: self.past[day].rows * (1 - found.nulls) for day, found in past.items()}
                yield self._nulls(name, column, past)
                yield self._gaps(name, column, past)
                yield self._distinct(name, column, past, filled)
                yield self._regulars(name, column, past)
                yield self._negative(name, column, past)
                yield from self._unlike(name, column, past)
                values = Values(name, self.day, self.today.rows * (1 - column.nulls), filled, self.limits)
                yield from values.anomalies(column, past)

    def _rows(self) -> Anomaly | None:
        expected = normal({day: float(np.log(found.rows)) for day, found in self.past.items()}, self.day)
        value = float(np.log(max(self.today.rows, 0.5)))
        noise = float(np.exp(-expected.centre / 2))
        return compare("rows", "rows", value, expected, self.limits, noise=noise, back=exponential)

    def _repeats(self) -> Anomaly | None:
        past = {day: found.repeats for day, found in self.past.items() if found.repeats is not None}
        if self.today.repeats is None or not past:
            return None
        metric, value = "share of repeated rows", self.today.repeats
        return compare_share("repeats", metric, value, past, self.day, self.today.rows, self.limits)

    def _nulls(self, name: str, column: ColumnProfile, past: Mapping[date, ColumnProfile]) -> Anomaly | None:
        rates = {day: found.nulls for day, found in past.items()}
        rows, metric = self.today.rows, f"null_rate of {name}"
        return compare_share("null_rate", metric, column.nulls, rates, self.day, rows, self.limits)

    def _gaps(self, name: str, column: ColumnProfile, past: Mapping[date, ColumnProfile]) -> Anomaly | None:
        rates = {day: found.gaps for day, found in past.items() if found.gaps is not None}
        if column.gaps is None or not rates:
            return None
        metric = f"orders with gaps in {name}"
        return compare_share("gaps", metric, column.gaps, rates, self.day, self.today.groups, self.limits)

    def _negative(self, name: str, column: ColumnProfile, past: Mapping[date, ColumnProfile]) -> Anomaly | None:
        rates = {day: found.negative for day, found in past.items() if found.negative is not None}
        if column.negative is None or not rates:
            return None
        metric, groups = f"share of negative {name}", self.today.groups
        none = gone("shares", metric, column.negative, rates, groups, self.limits)
        return none or compare_share("shares", metric, column.negative, rates, self.day, groups, self.limits)

    def _unlike(self, name: str, column: ColumnProfile, past: Mapping[date, ColumnProfile]) -> Iterator[Anomaly | None]:
        for other, share in (column.unlike or {}).items():
            shares = {day: found.unlike[other] for day, found in past.items() if found.unlike and other in found.unlike}
            if shares and median(np.array(list(shares.values()))) < _BELONGS:
                metric = f"{name} unlike that of the same {other}"
                yield compare_share("unlike", metric, share, shares, self.day, self.today.rows, self.limits)

    def _regulars(self, name: str, column: ColumnProfile, past: Mapping[date, ColumnProfile]) -> Anomaly | None:
        """How many of the ids that are there nearly every day are missing."""
        seen = {day: present(found.present) for day, found in past.items() if found.present}
        if column.present is None or len(seen) < LEAST_PARTITIONS // 2:
            return None
        days = np.array(list(seen.values()))
        # And lately as well: what leaves the assortment after a season is not missing.
        regular = (np.mean(days, axis=0) >= _REGULAR) & (np.mean(days[-7:], axis=0) >= 0.7)
        count = int(np.sum(regular))
        if count < _LEAST_REGULARS:
            return None
        # The fewer rows, the more are missing: past days as if they had as many as today.
        missing = np.arcsin(np.sqrt(1 - np.mean(days[:, regular], axis=1)))
        rows = np.log([self.past[day].rows for day in seen])
        missing = missing - min(growth(rows, missing), 0.0) * (rows - float(np.log(self.today.rows)))
        shares = np.sin(missing.clip(0, np.pi / 2)) ** 2
        today = 1 - float(np.mean(present(column.present)[regular]))
        metric = f"missing ones of the {count} regular {name}s"
        past_shares = dict(zip(seen, map(float, shares), strict=True))
        return compare_share("regulars", metric, today, past_shares, self.day, count, self.limits)

    def _distinct(
        self, name: str, column: ColumnProfile, past: Mapping[date, ColumnProfile], filled: Mapping[date, float]
    ) -> Anomaly | None:
        """Distinct values against as many as so many rows should have: they grow with rows, but more slowly."""
        days = [day for day, found in past.items() if found.distinct]
        rows = self.today.rows * (1 - column.nulls)
        if len(days) < LEAST_PARTITIONS // 2 or rows < 1:
            return None
        x = np.log([max(filled[day], 1.0) for day in days])
        y = np.log([past[day].distinct for day in days])
        at_these_rows = y - min(max(growth(x, y), 0.0), 1.0) * (x - float(np.log(rows)))
        expected = normal(dict(zip(days, map(float, at_these_rows), strict=True)), self.day)
        noise = float(np.exp(-expected.centre / 2)) / 2
        value = float(np.log(max(column.distinct, 0.5)))
        metric = f"distinct count of {name}"
        return compare("distinct", metric, value, expected, self.limits, noise=noise, back=exponential)
