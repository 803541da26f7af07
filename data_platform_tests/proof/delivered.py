"""What a source hands over, as text, and the record of a stream: shared by machine, detectors and reference."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, TypeAlias

from data_platform_tests.reference import Delivery, Entity, Warehouse

How: TypeAlias = Literal["one by one", "at once", "rebuild"]


@dataclass(frozen=True)
class Told:
    """One delivered row: the file it stood in, its number in that file (from 1), its texts by delivered column name."""

    file: str
    row: int
    values: Mapping[str, str | None]


@dataclass(frozen=True)
class Delivered:
    """A delivery as it lies in the landing folder. `columns` are delivered even where no row has a value.

    `terms` are the settings of its source at the time (sources.yaml): mode, unit, exact_copies, reject_share, …
    """

    entity: Entity
    day: date
    columns: tuple[str, ...]
    rows: tuple[Told, ...] = ()
    terms: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settled:
    """What staging must make of a delivery: what is staged, or (None) why it is rejected; and the figures of law 4."""

    delivery: Delivery | None
    refusal: Literal["", "too many rejected rows", "too many deletions"] = ""
    figures: Mapping[str, int] = field(default_factory=Counter)  # delivered, staged, quarantined, duplicate


@dataclass(frozen=True)
class Arrival:
    """A delivery that was offered; `formerly` is what its entity and day had staged before, None where nothing."""

    delivered: Delivered
    settled: Settled
    formerly: Delivery | None


@dataclass(frozen=True)
class Publish:
    """A publish of some entities, and what the warehouse held (by the reference) before and after.

    `published` are the deliveries that the warehouse is made from afterwards, in the order of their arrival; `arrivals`
    counts the stream's arrivals so far.
    """

    entities: tuple[Entity, ...]
    how: How
    published: Sequence[Delivery]
    before: Warehouse
    after: Warehouse
    arrivals: int


@dataclass
class Trace:
    """All that happened in a stream, in order."""

    timezone: str
    arrivals: list[Arrival] = field(default_factory=list)
    publishes: list[Publish] = field(default_factory=list)
