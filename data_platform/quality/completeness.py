"""Whether what should have been delivered was: yesterday, no gap between partitions, every trading day.

A run of one day cannot see the days that nobody ran: these look at the lake as it stands.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from data_platform.lake import Stamp
from data_platform.sources.config import Source

# What is missing for longer is history: it would only hide what is new.
WINDOW_DAYS = 30
# Rejected rows that wait longer than this are nobody's.
QUARANTINE_DAYS = 7


@dataclass(frozen=True)
class Completeness:
    """What is missing of a source up to yesterday; days in business time.

    `expected`: the source delivers on any weekday at all. `judged` days are looked at, from the first delivery on, at
    most WINDOW_DAYS. `gaps`: those without a partition before the newest one. `undelivered`: those with a partition
    and no delivery, though the source is not closed. `behind`: expected days since the last delivery, however long
    ago; 0 where nothing was ever delivered.
    """

    last: date | None
    yesterday: date
    expected: bool = True
    judged: int = 0
    gaps: tuple[date, ...] = ()
    undelivered: tuple[date, ...] = ()
    behind: int = 0


def completeness(stamps: Mapping[date, Stamp], source: Source, today: date) -> Completeness:
    """Judge the partitions of a raw table, by the stamps of all of them. Future partitions are ignored."""
    yesterday = today - timedelta(days=1)
    delivered = sorted(day for day, stamp in stamps.items() if stamp.delivered and day <= yesterday)
    if not delivered:
        return Completeness(None, yesterday, any(map(source.is_expected, _last(7, today))))
    known = {day for day in stamps if day <= yesterday}
    newest, last, had = max(known), delivered[-1], set(delivered)
    first = max(delivered[0], today - timedelta(days=WINDOW_DAYS))
    days = [first + timedelta(days=n) for n in range((yesterday - first).days + 1)]
    since = (last + timedelta(days=n) for n in range(1, (yesterday - last).days + 1))
    return Completeness(
        last,
        yesterday,
        True,
        len(days),
        # After the newest partition the platform is behind as a whole; before it a day was left out.
        tuple(day for day in days if day not in known and day < newest),
        tuple(day for day in days if day in known and day not in had and source.is_expected(day)),
        sum(map(source.is_expected, since)),
    )


def not_run(held: Collection[date], ended: Iterable[date]) -> list[date]:
    """Of the days that have `ended` those without a partition of raw, of the days `held`: from the first of these on.

    What was there before the first run is a person's to ask for; of what nothing is held, nothing is missing.
    """
    first = min(held, default=date.max)
    return [day for day in ended if day > first and day not in held]


def _last(count: int, today: date) -> list[date]:
    return [today - timedelta(days=n) for n in range(1, count + 1)]
