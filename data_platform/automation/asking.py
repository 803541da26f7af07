"""What a sensor has asked for, as its cursor, and the runs that ask for more.

The cursor is JSON: `{"version": 1, "asked": 3, "sources": {"orders": {"2024-01-05": "…"}}}`. A day is a print of
WIDTH characters; days that follow one another are one text under the first of them. So five years of a source are
30 KB, in Dagster's database. `asked` counts the ticks that asked for something: a file that goes back to what it was
is asked for by another key than before.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import dagster as dg

from data_platform.automation.jobs import TAGS
from data_platform.days import ONE_DAY, spans

VERSION = 1
WIDTH = 16
MOST_DAYS = 366  # of one run
MOST_RUNS = 20  # of one tick; what is left is asked for by the next
_PRINT = re.compile(rf"([A-Za-z0-9_.-]{{{WIDTH}}})+")

Prints = dict[date, str]


@dataclass
class Cursor:
    """By the name of a source in sources.yaml, the print of each day that was asked for (or need not be)."""

    sources: dict[str, Prints] = field(default_factory=dict)
    asked: int = 0

    def to_json(self) -> str:
        """The cursor as Dagster keeps it."""
        packed = {
            place: {days[0].isoformat(): "".join(prints[day] for day in days) for days in spans(prints)}
            for place, prints in self.sources.items()
        }
        return json.dumps({"version": VERSION, "asked": self.asked, "sources": packed}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | None) -> "Cursor":
        """The cursor that `to_json` wrote; a new one for None. Raises ValueError for anything else."""
        if text is None:
            return cls()
        told = json.loads(text)
        if not isinstance(told, dict) or told.get("version") != VERSION:
            raise ValueError("another version")
        if not isinstance(told.get("asked"), int) or not isinstance(told.get("sources"), dict):
            raise ValueError("another shape")
        return cls({place: _unpacked(packed) for place, packed in told["sources"].items()}, told["asked"])


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


def ask(cursor: Cursor, wanted: Mapping[str, Mapping[date, str]]) -> list[dg.RunRequest]:
    """The runs that take in the `wanted` days (prints by source and day), oldest first, and note them in `cursor`.

    Days that follow one another are one run of a range. The key of a run is a hash of what it asks for, so that
    Dagster starts no second one for a tick that it has to repeat.
    """
    days = {day for prints in wanted.values() for day in prints}
    chosen = spans(days, MOST_DAYS)[:MOST_RUNS]
    requests = [_request(span, cursor.asked, wanted) for span in chosen]
    for span in chosen:
        for place, prints in wanted.items():
            if noted := {day: prints[day] for day in span if day in prints}:
                cursor.sources.setdefault(place, {}).update(noted)
    cursor.asked += bool(requests)
    return requests


def _request(days: list[date], number: int, wanted: Mapping[str, Mapping[date, str]]) -> dg.RunRequest:
    told = [(place, str(day), prints[day]) for place, prints in sorted(wanted.items()) for day in days if day in prints]
    first, last = days[0].isoformat(), days[-1].isoformat()
    digest = hashlib.sha256(json.dumps([number, told]).encode()).hexdigest()
    key = f"{first}…{last}:{digest[:24]}"
    if first == last:
        return dg.RunRequest(run_key=key, partition_key=first, tags=TAGS)
    tags = {**TAGS, "dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return dg.RunRequest(run_key=key, tags=tags)
