"""What should be there and is not: how far each asset is behind, and each day of each asset in a word.

Pure: days in, days out. What should be there is a delivery on each day that its source is expected to deliver.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from zoneinfo import ZoneInfo

from data_platform.commands.figures import PUBLISHED
from data_platform.days import ONE_DAY, days_between
from data_platform.lake import Stamp
from data_platform.sources.config import Source

# The published table of each entity, orders first.
ENTITIES = {entity: asset for asset, entity in reversed(PUBLISHED.items())}
# Steps of `figures.waiting`, by the layers whose tables lack what waits there.
STEPS = {"landed_not_taken": 0, "raw_not_staged": 1, "staged_not_published": 2}


@dataclass(frozen=True)
class Lag:
    """How far an asset is behind at a moment.

    `newest` is its last day with a delivery, `missing` counts the days after it that should be there, `due_since` is
    when the first of these was over (UTC or any other zone); None where nothing is missing.
    """

    asset: str
    newest: date | None
    missing: int
    due_since: datetime | None

    def seconds(self, now: datetime) -> float:
        """How long the first day that is missing has been over."""
        return 0.0 if self.due_since is None else max((now - self.due_since).total_seconds(), 0.0)


class Cell(StrEnum):
    """What became of a day of an asset."""

    loaded = "loaded"
    empty = "empty"
    waiting = "waiting"
    missing = "missing"
    failed = "failed"
    closed = "closed"


@dataclass(frozen=True)
class Coverage:
    """The days of an asset from the first that it should have on, each in a word."""

    asset: str
    cells: Mapping[date, Cell]


def assets_of(entity: str) -> tuple[str, str, str]:
    """The tables that an entity's deliveries come by, in their order: raw, staging, and the published one."""
    return f"raw_{entity}", f"stg_{entity}", ENTITIES[entity]


def held_days(
    stamps: Mapping[str, Mapping[date, Stamp]], published: Mapping[str, Mapping[date, str]] | None
) -> dict[str, list[date]]:
    """By asset the days that hold a delivery, in order; without the published assets where theirs are unknown."""
    held = {}
    for entity in ENTITIES:
        raw, staging, table = assets_of(entity)
        for asset in (raw, staging):
            held[asset] = sorted(day for day, stamp in stamps[asset].items() if stamp.delivered)
        if published is not None:
            staged = stamps[staging]
            days = published.get(table, {})
            held[table] = sorted(day for day in days if day not in staged or staged[day].delivered)
    return held


def lags(held: Mapping[str, Sequence[date]], sources: Mapping[str, Source], today: date, zone: ZoneInfo) -> list[Lag]:
    """How far each asset in `held` is behind at the beginning of `today`, from its entity's first delivery on.

    Of an entity that never delivered nothing is said.
    """
    found = []
    for entity, source in sources.items():
        first = min((days[0] for asset in assets_of(entity) if (days := held.get(asset))), default=None)
        if first is None:
            continue
        for asset in assets_of(entity):
            days = held.get(asset)
            if days is None:
                continue
            newest = days[-1] if days else None
            after = first if newest is None else newest + ONE_DAY
            due = [day for day in days_between(after, today - ONE_DAY) if source.is_expected(day)]
            since = datetime.combine(due[0] + ONE_DAY, time(), zone) if due else None
            found.append(Lag(asset, newest, len(due), since))
    return found


def coverage(
    asset: str,
    held: Mapping[str, Sequence[date]],
    stamps: Mapping[str, Mapping[date, Stamp]],
    waiting: Mapping[str, Collection[date] | None],
    failed: Mapping[str, Collection[date]],
    source: Source,
    last: date,
) -> Coverage:
    """Each day of the asset up to `last`, in a word: the worst that is true of it on its way there.

    `waiting` is of the asset's entity, by step; `failed` are the days of failed checks, by asset. An empty day was
    delivered without a row.
    """
    entity, layer = place_of(asset)
    before = assets_of(entity)[: layer + 1]
    days = set(held.get(before[-1], ()))
    waits = {day for step, of in STEPS.items() if of <= layer for day in waiting.get(step) or ()}
    bad = {day for one in before for day in failed.get(one, ())}
    empty = {day for day in days if _is_empty(day, [stamps[one] for one in before[:2]])}
    first = min(days | waits, default=None)
    if first is None:
        return Coverage(asset, {})
    cells = {}
    for day in days_between(first, max(last, *days, *waits)):
        if day in bad:
            cells[day] = Cell.failed
        elif day in waits:
            cells[day] = Cell.waiting
        elif day in days:
            cells[day] = Cell.empty if day in empty else Cell.loaded
        else:
            cells[day] = Cell.missing if source.is_expected(day) else Cell.closed
    return Coverage(asset, cells)


def shown_months(stamps: Mapping[str, Mapping[date, Stamp]], today: date, count: int) -> list[date]:
    """The first days of the last `count` months, in order: up to today's, or to that of the newest partition.

    The latter where it is so long ago that nothing of it would be among them.
    """
    newest = max((day for of_asset in stamps.values() for day in of_asset), default=today)
    months = [_month(today, -n) for n in range(count)]
    if months and newest < months[-1]:
        months = [_month(newest, -n) for n in range(count)]
    return months[::-1]


def _month(day: date, offset: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + offset, 12)
    return date(year, month + 1, 1)


def place_of(asset: str) -> tuple[str, int]:
    """The entity of an asset of daily partitions and how many layers are before it; raises KeyError for others."""
    name = "fact_sales" if asset == "fact_returns" else asset
    return {one: (entity, layer) for entity in ENTITIES for layer, one in enumerate(assets_of(entity))}[name]


def _is_empty(day: date, stamps: Sequence[Mapping[date, Stamp]]) -> bool:
    return any(day in one and one[day].rows_delivered == 0 for one in stamps)
