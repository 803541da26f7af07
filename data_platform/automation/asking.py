"""What a sensor has asked for, as its cursor, and the runs that ask for more.

The cursor is JSON: `{"version": 1, "asked": 1704888000, "sources": {"orders": {"2024-01-05": "…"}}, "again": {},
"ahead": {}}`. A day is a print of WIDTH characters; days that follow one another are one text under the first of them.
So five years of a source are 30 KB, in Dagster's database. `asked` counts the ticks that asked for something, so that
a file that goes back to what it was is asked for by another key than before; it begins with the clock, so that a
cursor that was lost, or reset, begins with no key that Dagster knows.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from data_platform.automation.jobs import TAGS
from data_platform.days import ONE_DAY, spans
from data_platform.sources.arrivals import Sights

VERSION = 1
WIDTH = 16
MOST_DAYS = 366  # of one run
MOST_RUNS = 20  # of one tick; what is left is asked for by the next
STRETCH = 31  # of the newest ended days, those that are asked for again where raw did not get them
# Seconds from one asking to the next of the same: for what failed meanwhile for a reason that passes.
WAITS = (600, 3600, 6 * 3600)
_PRINT = re.compile(rf"([A-Za-z0-9_.-]{{{WIDTH}}})+")

Prints = dict[date, str]
# How many times a day was asked for again, and when it was last asked for (seconds since 1970).
Tries = dict[date, tuple[int, int]]


@dataclass
class Cursor:
    """What is known by the name of a source in sources.yaml.

    `sources`: the print of each day that was asked for, or need not be. `again`: of the newest of them, those of
    which it has not been seen that raw got them. `ahead`: files that say that they changed in the future.
    """

    asked: int
    sources: dict[str, Prints] = field(default_factory=dict)
    again: dict[str, Tries] = field(default_factory=dict)
    ahead: dict[str, Sights] = field(default_factory=dict)

    def to_json(self) -> str:
        """The cursor as Dagster keeps it."""
        packed = {
            place: {days[0].isoformat(): "".join(prints[day] for day in days) for days in spans(prints)}
            for place, prints in self.sources.items()
        }
        document = {
            "version": VERSION,
            "asked": self.asked,
            "sources": packed,
            "again": {place: _by_text(days) for place, days in self.again.items() if days},
            "ahead": {place: _by_text(days) for place, days in self.ahead.items() if days},
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Cursor":
        """The cursor that `to_json` wrote. Raises ValueError for anything else, or what parsing that raises."""
        told = json.loads(text)
        if not isinstance(told, dict) or told.get("version") != VERSION:
            raise ValueError("another version")
        if not isinstance(told.get("asked"), int) or not isinstance(told.get("sources"), dict):
            raise ValueError("another shape")
        sources = {place: _unpacked(packed) for place, packed in told["sources"].items()}
        again: dict[str, Tries] = {
            place: {day: (range(len(WAITS)).index(tries), int(at)) for day, (tries, at) in _by_day(days)}
            for place, days in dict(told.get("again", {})).items()
        }
        ahead: dict[str, Sights] = {
            place: {day: (str(seen), int(since)) for day, (seen, since) in _by_day(days)}
            for place, days in dict(told.get("ahead", {})).items()
        }
        return cls(told["asked"], sources, again, ahead)


def _by_text(days: Mapping[date, object]) -> dict[str, object]:
    return {day.isoformat(): value for day, value in sorted(days.items())}


def _by_day(days: Any) -> Iterator[tuple[date, tuple[Any, Any]]]:
    for day, (first, second) in dict(days).items():
        yield date.fromisoformat(day), (first, second)


def _unpacked(packed: object) -> Prints:
    if not isinstance(packed, dict):
        raise ValueError("another shape")
    prints: Prints = {}
    for first, text in packed.items():
        if not isinstance(text, str) or not _PRINT.fullmatch(text):
            raise ValueError("another shape")
        day = date.fromisoformat(first)
        for start in range(0, len(text), WIDTH):
            prints[day + start // WIDTH * ONE_DAY] = text[start : start + WIDTH]
    return prints


def ask(cursor: Cursor, wanted: Mapping[str, Mapping[date, str]], *, at: int) -> list[dg.RunRequest]:
    """The runs that take in the `wanted` days (prints by source and day), oldest first, and note them in `cursor`.

    A day that is wanted by the print by which it was asked for before is one more try, of which there are as many as
    WAITS. Days that follow one another are one run of a range. The key of a run is a hash of what it asks for, so that
    Dagster starts no second one for a tick that it has to repeat.
    """
    days = {day for prints in wanted.values() for day in prints}
    chosen = spans(days, MOST_DAYS)[:MOST_RUNS]
    requests = [_request(span, cursor.asked, wanted) for span in chosen]
    for span in chosen:
        for place, prints in wanted.items():
            if noted := {day: prints[day] for day in span if day in prints}:
                known = cursor.sources.setdefault(place, {})
                _count(cursor.again.setdefault(place, {}), known, noted, at)
                known.update(noted)
    cursor.asked += bool(requests)
    return requests


def _count(again: Tries, known: Prints, noted: Prints, at: int) -> None:
    for day, print_ in noted.items():
        tries = again.pop(day)[0] + 1 if day in again and known.get(day, print_) == print_ else 0
        if tries < len(WAITS):
            again[day] = (tries, at)


def _request(days: list[date], number: int, wanted: Mapping[str, Mapping[date, str]]) -> dg.RunRequest:
    told = [(place, str(day), prints[day]) for place, prints in sorted(wanted.items()) for day in days if day in prints]
    first, last = days[0].isoformat(), days[-1].isoformat()
    digest = hashlib.sha256(json.dumps([number, told]).encode()).hexdigest()
    key = f"{first}…{last}:{digest[:24]}"
    if first == last:
        return dg.RunRequest(run_key=key, partition_key=first, tags=TAGS)
    tags = {**TAGS, "dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return dg.RunRequest(run_key=key, tags=tags)
