"""A stream's record, read once for all detectors: what each publish took in, and what that made of each key.

Facts about the record alone; what counts as meeting a case stands in the modules of the detectors.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from data_platform_tests.cases import OVERWRITTEN, TRACKED
from data_platform_tests.proof.delivered import Arrival, Delivered, Publish, Told, Trace
from data_platform_tests.proof.reference_staging import (
    TERMS,
    Reading,
    can_be_taken,
    is_tombstone,
    number_lines,
    read,
)
from data_platform_tests.reference import (
    ID_COLUMNS,
    TOLD_COLUMNS,
    Delivery,
    Entity,
    LineKey,
    Row,
    Warehouse,
    start_of_day,
)

Key: TypeAlias = Any  # an id, or of an order line (order_id, line_number)
Place: TypeAlias = tuple[datetime, date, bytes, int]

ATTRIBUTES: dict[Entity, list[str]] = {entity: TRACKED[entity] + OVERWRITTEN[entity] for entity in ID_COLUMNS}
# What two tellings of a line must share to be a repetition of the same fact, moments aside.
MEASURES = tuple(column for column in TOLD_COLUMNS if column != "updated_at")


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """A staged row as a statement about its key, or (row None) the silence of a full delivery about a known key."""

    place: Place
    date: date
    deleted: bool
    row: Row | None
    delivery: Delivery

    @property
    def day(self) -> date:
        return self.delivery.day

    def says(self, column: str) -> Any:
        """The value told, None also where the delivery lacks the column."""
        return (self.row or {}).get(column)

    def knows(self, column: str) -> bool:
        return not self.deleted and column not in self.delivery.unknown


History: TypeAlias = dict[Key, list[Observation]]


@dataclass(eq=False)
class Step:
    """One entity in one publish: its published deliveries by day, and its keys' observations, before and after."""

    publish: Publish
    entity: Entity
    before: dict[date, Delivery]
    after: dict[date, Delivery]
    told_before: History
    told: History
    fresh: list[Delivery] = field(default_factory=list)

    @property
    def incremental(self) -> bool:
        """Whether the engine brought a standing table up to date; a rebuild computes it from nothing."""
        return self.publish.how != "rebuild"

    def in_order_of_days(self) -> list[Delivery]:
        return [self.after[day] for day in sorted(self.after)]


@dataclass(eq=False)
class Turn:
    """What one publish made of one key that it heard of: observations in order of truth, versions without inferred.

    `new` are the observations that were not published before. An order line has no versions.
    """

    step: Step
    key: Key
    before: list[Observation]
    after: list[Observation]
    new: list[Observation]
    was: list[Row] = field(default_factory=list)
    now: list[Row] = field(default_factory=list)

    @property
    def entity(self) -> Entity:
        return self.step.entity

    @property
    def new_upserts(self) -> list[Observation]:
        return [observation for observation in self.new if not observation.deleted]


@dataclass(frozen=True, eq=False)
class Bad:
    """A delivered row that staging did not take, with what can be read of it; row rules leave tombstones alone."""

    delivered: Delivered
    told: Told
    reading: Reading
    unit: str
    tombstone: bool


class Record:
    """A trace with its publishes taken apart."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.zone = ZoneInfo(trace.timezone)
        self._told_by: dict[int, list[tuple[Key, Observation]]] = {}
        self._versions: dict[tuple[int, Entity], dict[str, list[Row]]] = {}
        self._facts: dict[int, dict[LineKey, Row]] = {}
        self._delivered = {
            id(arrival.settled.delivery): arrival.delivered for arrival in trace.arrivals if arrival.settled.delivery
        }
        self.steps = list(self._steps())
        turns = [turn for step in self.steps for turn in self._turns(step)]
        self.members = [turn for turn in turns if turn.entity != "orders"]
        self.lines = [turn for turn in turns if turn.entity == "orders"]
        self.arrived_members = [turn for turn in self.members if turn.step.incremental]
        self.arrived_lines = [turn for turn in self.lines if turn.step.incremental]
        self.increments = [publish for publish in trace.publishes if publish.how != "rebuild"]
        self.reached = [
            arrival for number, arrival in enumerate(trace.arrivals) if self._reached_a_publish(number, arrival)
        ]
        self.bad = list(self._bad())

    def versions(self, warehouse: Warehouse, entity: Entity) -> dict[str, list[Row]]:
        """The versions of each id in order, inferred members among them."""
        place = id(warehouse), entity
        if place not in self._versions:
            found: dict[str, list[Row]] = {}
            for version in warehouse.customers if entity == "customers" else warehouse.products:
                found.setdefault(version[ID_COLUMNS[entity]], []).append(version)
            self._versions[place] = found
        return self._versions[place]

    def facts(self, warehouse: Warehouse) -> dict[LineKey, Row]:
        """The facts of both tables."""
        if id(warehouse) not in self._facts:
            rows = warehouse.sales + warehouse.returns
            self._facts[id(warehouse)] = {(row["order_id"], row["line_number"]): row for row in rows}
        return self._facts[id(warehouse)]

    def texts(self, delivery: Delivery) -> Delivered | None:
        """What was delivered where `delivery` was staged of it."""
        if id(delivery) not in self._delivered:
            alike = [arrival.delivered for arrival in self.trace.arrivals if arrival.settled.delivery == delivery]
            self._delivered[id(delivery)] = alike[-1] if alike else None  # type: ignore[assignment]
        return self._delivered[id(delivery)]

    def _steps(self) -> Iterator[Step]:
        standing: dict[Entity, tuple[dict[date, Delivery], History]] = {}
        for publish in self.trace.publishes:
            for entity in publish.entities:
                before, told_before = standing.get(entity, ({}, {}))
                after = {delivery.day: delivery for delivery in publish.published if delivery.entity == entity}
                fresh = [delivery for day, delivery in after.items() if not same(delivery, before.get(day))]
                unchanged = not fresh and before.keys() == after.keys()
                told = told_before if unchanged else self._history(entity, after)
                standing[entity] = after, told
                yield Step(publish, entity, before, after, told_before, told, fresh)

    def _history(self, entity: Entity, deliveries: dict[date, Delivery]) -> History:
        """Every key's observations in order of truth, with the deletions that full deliveries mean by silence."""
        history: History = {}
        for day in sorted(deliveries):
            delivery = deliveries[day]
            rows = self._observations(entity, delivery)
            if delivery.mode == "full" and delivery.rows:
                column = ID_COLUMNS[entity]
                present = {row[column] for row in [*delivery.rows, *delivery.quarantined]}
                start = start_of_day(day, self.zone)
                place = start, day, b"", 0
                for key in history.keys() - present:
                    silence = Observation(place, start.astimezone(self.zone).date(), True, None, delivery)
                    history[key].append(silence)
            for key, observation in rows:
                history.setdefault(key, []).append(observation)
        for observations in history.values():
            observations.sort(key=lambda observation: observation.place)
        return history

    def _observations(self, entity: Entity, delivery: Delivery) -> list[tuple[Key, Observation]]:
        if id(delivery) not in self._told_by:
            found = []
            start = start_of_day(delivery.day, self.zone)
            for row in delivery.rows:
                told = row.get("updated_at") if delivery.mode == "changes" else None
                moment = told or start
                place = moment, delivery.day, row["file"].encode(), row["row"]
                key = key_of(row, entity)
                day = moment.astimezone(self.zone).date()
                found.append((key, Observation(place, day, row["deleted"], row, delivery)))
            self._told_by[id(delivery)] = found
        return self._told_by[id(delivery)]

    def _turns(self, step: Step) -> Iterator[Turn]:
        if step.told is step.told_before:
            return
        entity, publish = step.entity, step.publish
        heard = {key_of(row, entity) for delivery in step.fresh for row in delivery.rows}
        for key in step.told | step.told_before:
            before, after = step.told_before.get(key, []), step.told.get(key, [])
            if key not in heard and [each.place for each in before] == [each.place for each in after]:
                continue
            known = {each.place: each.row for each in before}
            new = [each for each in after if each.place not in known or known[each.place] != each.row]
            was, now = (
                [] if entity == "orders" else real(self.versions(stood, entity).get(key, ()))
                for stood in (publish.before, publish.after)
            )
            yield Turn(step, key, before, after, new, was, now)

    def _reached_a_publish(self, number: int, arrival: Arrival) -> bool:
        delivery, entity = arrival.settled.delivery, arrival.delivered.entity
        return delivery is not None and any(
            entity in publish.entities
            and publish.arrivals > number
            and any(same(delivery, published) for published in publish.published)
            for publish in self.trace.publishes
        )

    def _bad(self) -> Iterator[Bad]:
        """Quarantined rows of published deliveries, and those of deliveries that were refused for having too many."""
        for arrival in self.reached:
            delivery = arrival.settled.delivery
            places = {(row["file"], row["row"]) for row in delivery.quarantined} if delivery else set()
            if places:
                rows = read_again(arrival.delivered, self.zone)
                yield from (row for row, _ in rows if (row.told.file, row.told.row) in places)
        for arrival in self.trace.arrivals:
            if arrival.settled.refusal == "too many rejected rows":
                yield from (row for row, taken in read_again(arrival.delivered, self.zone) if not taken)


_newest: list[tuple[Trace, int, int, Record]] = []


def record_of(trace: Trace) -> Record:
    """The record of a trace; the newest one is kept, since every detector asks for it."""
    for known, arrivals, publishes, record in _newest:
        if known is trace and (arrivals, publishes) == (len(trace.arrivals), len(trace.publishes)):
            return record
    record = Record(trace)
    _newest[:] = [(trace, len(trace.arrivals), len(trace.publishes), record)]
    return record


def read_again(delivered: Delivered, zone: ZoneInfo) -> list[tuple[Bad, bool]]:
    """Every row as staging reads it, and whether it can be taken."""
    terms = {**TERMS, **delivered.terms}
    numbered = delivered.entity != "orders" or "line_number" in delivered.columns
    unit = terms["unit"] or ("line" if numbered else "order")
    shell = Delivery(delivered.entity, delivered.day, mode=terms["mode"], unit=unit)
    readings = [read(told, delivered.entity, zone) for told in delivered.rows]
    if delivered.entity == "orders" and unit == "order":
        number_lines(readings)
    return [
        (
            Bad(delivered, reading.told, reading, unit, is_tombstone(reading.row, shell)),
            can_be_taken(reading, shell, terms, zone),
        )
        for reading in readings
    ]


def same(one: Delivery, other: Delivery | None) -> bool:
    return one is other or one == other


def key_of(row: Row, entity: Entity) -> Key:
    return (row["order_id"], row["line_number"]) if entity == "orders" else row[ID_COLUMNS[entity]]


def real(versions: Iterable[Row]) -> list[Row]:
    """Without the inferred member."""
    return [version for version in versions if not version["is_inferred"]]


def covering(versions: Iterable[Row], day: date) -> Row | None:
    """The version in force on a day."""
    for version in versions:
        end = version["effective_to"]
        if version["effective_from"] <= day and (end is None or day < end):
            return version
    return None


def periods(versions: Iterable[Row], entity: Entity) -> list[tuple[Any, ...]]:
    """The versions without what is overwritten in place."""
    columns = ["effective_from", "effective_to", *TRACKED[entity]]
    return [tuple(version[column] for column in columns) for version in versions]


def tracked(version: Row, entity: Entity) -> list[Any]:
    return [version[column] for column in TRACKED[entity]]


def equal_payload(one: Observation, other: Observation, entity: Entity) -> bool:
    """Whether two rows tell the same attributes; a column that a delivery lacks is not told."""
    return all(
        one.says(column) == other.says(column) and one.knows(column) == other.knows(column)
        for column in ATTRIBUTES[entity]
    )


def equal_telling(one: Observation, other: Observation) -> bool:
    return all(one.says(column) == other.says(column) for column in TOLD_COLUMNS)


def measures(observation: Observation) -> tuple[Any, ...]:
    """What a telling of a line says, its moment aside."""
    return tuple(observation.says(column) for column in MEASURES)


def fact_measures(fact: Row) -> tuple[Any, ...]:
    """The same of a fact."""
    ids = {
        "customer_id": fact["customer"] and fact["customer"][0],
        "product_id": fact["product"] and fact["product"][0],
    }
    return tuple(ids[column] if column in ids else fact[column] for column in MEASURES)


@lru_cache(maxsize=1024)
def changes_clocks(day: date, zone: ZoneInfo) -> bool:
    """Whether the business day is longer or shorter than 24 hours."""
    return start_of_day(day + timedelta(days=1), zone) - start_of_day(day, zone) != timedelta(days=1)
