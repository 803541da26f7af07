"""The reference implementation: given everything that is staged now, what must the warehouse contain?

The rules of warehouse-semantics.md in plain Python over lists, slow and obvious, sharing no code with the load engine.
Casts, quarantine, exact copies, line numbering and the guard belong to staging and are settled before rows come here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import localcontext
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

Entity: TypeAlias = Literal["orders", "products", "customers"]
Row: TypeAlias = dict[str, Any]
LineKey: TypeAlias = tuple[str, int]

ID_COLUMNS: dict[Entity, str] = {"customers": "customer_id", "products": "product_id"}
TOLD_COLUMNS = ("customer_id", "product_id", "order_ts", "quantity", "unit_price", "discount_amount", "updated_at")
INFERRED_FROM = date(1, 1, 1)
UNKNOWN = object()


@dataclass(frozen=True)
class Delivery:
    """What one source handed over for one day, as it is staged now: at most one for each entity and day.

    A row has the canonical columns, typed: Decimal, int, str; order_ts naive business time; updated_at aware or None;
    deleted (bool: a tombstone); file (str) and row (int) where it stood. Of a quarantined row only the key matters.
    """

    entity: Entity
    day: date
    mode: Literal["changes", "full"] = "changes"
    unit: Literal["line", "order"] = "line"
    unknown: frozenset[str] = frozenset()
    rows: list[Row] = field(default_factory=list)
    quarantined: list[Row] = field(default_factory=list)


@dataclass
class Warehouse:
    """The star without member -1. Dimensions sorted by (id, effective_from), facts by (order_id, line_number).

    `counts` has the law-4 classes of the staged rows of each delivery, by (entity, day).
    """

    customers: list[Row]
    products: list[Row]
    sales: list[Row]
    returns: list[Row]
    counts: dict[tuple[Entity, date], Counter[str]]


@dataclass(eq=False)
class Observation:
    """One staged row as a statement about its key, or (row None) the deletion that a full delivery's silence means."""

    moment: datetime
    day: date
    file: bytes = b""
    row_number: int = 0
    row: Row | None = None
    deleted: bool = False
    attributes: Row = field(default_factory=dict)

    @property
    def place(self) -> tuple[datetime, date, bytes, int]:
        """The order of truth."""
        return self.moment, self.day, self.file, self.row_number


def warehouse(
    deliveries: Sequence[Delivery],
    timezone: str,
    tracked: dict[Entity, list[str]],
    overwritten: dict[Entity, list[str]],
) -> Warehouse:
    """The warehouse that these staged deliveries must give, whatever their order in the list."""
    zone = ZoneInfo(timezone)
    counts: dict[tuple[Entity, date], Counter[str]] = {(d.entity, d.day): Counter() for d in deliveries}
    assert len(counts) == len(deliveries), "an entity has one delivery a day"

    dimensions: dict[Entity, list[Row]] = {}
    standing = standing_lines(deliveries, zone, counts)
    for entity, id_column in ID_COLUMNS.items():
        columns = tracked.get(entity, []), overwritten.get(entity, [])
        versions = dimension(entity, deliveries, zone, *columns, counts)
        named = {told(run[-1])[id_column] for run in standing.values()} - {None}
        for missing in named - {version[id_column] for version in versions}:
            versions.append(
                {id_column: missing}
                | dict.fromkeys(columns[0] + columns[1])
                | {"effective_from": INFERRED_FROM, "effective_to": None, "is_current": True, "is_inferred": True}
            )
        dimensions[entity] = sorted(versions, key=lambda version: (version[id_column], version["effective_from"]))

    facts = [fact(key, run, dimensions) for key, run in sorted(standing.items())]
    return Warehouse(
        customers=dimensions["customers"],
        products=dimensions["products"],
        sales=[row for row in facts if row["quantity"] > 0],
        returns=[row for row in facts if row["quantity"] < 0],
        counts=counts,
    )


# Order of truth


def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a business day. Where midnight is skipped or repeated: the earliest."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def observe(delivery: Delivery, row: Row, zone: ZoneInfo) -> Observation:
    moment = row.get("updated_at") if delivery.mode == "changes" else None
    return Observation(
        moment=moment.astimezone(UTC) if moment else start_of_day(delivery.day, zone),
        day=delivery.day,
        file=row["file"].encode(),
        row_number=row["row"],
        row=row,
        deleted=row["deleted"],
    )


def in_order(observations: Iterable[Observation]) -> list[Observation]:
    return sorted(observations, key=lambda observation: observation.place)


def told(observation: Observation) -> Row:
    assert observation.row is not None
    return observation.row


# Dimensions


def dimension(
    entity: Entity,
    deliveries: Sequence[Delivery],
    zone: ZoneInfo,
    tracked: list[str],
    overwritten: list[str],
    counts: dict[tuple[Entity, date], Counter[str]],
) -> list[Row]:
    """All versions of all keys of a dimension, inferred members aside; notes the classes of its rows in `counts`."""
    id_column = ID_COLUMNS[entity]
    deliveries = sorted((d for d in deliveries if d.entity == entity), key=lambda delivery: delivery.day)
    dimension_versions = []
    for key in {row[id_column] for delivery in deliveries for row in delivery.rows}:
        observations = observations_of(key, id_column, deliveries, zone, tracked + overwritten)
        fill_unknown(observations, tracked + overwritten)
        dates = [observation.moment.astimezone(zone).date() for observation in observations]
        last_of_date = dict(zip(dates, observations, strict=True))

        versions: list[Row] = []
        current: Row | None = None
        for effective_date, observation in last_of_date.items():
            if current and (observation.deleted or any(current[c] != observation.attributes[c] for c in tracked)):
                current["effective_to"], current["is_current"] = effective_date, False
                current = None
            if not current and not observation.deleted:
                current = {id_column: key} | observation.attributes
                current |= {"effective_from": effective_date, "effective_to": None}
                current |= {"is_current": True, "is_inferred": False}
                versions.append(current)

        told_last = [observation for observation in observations if not observation.deleted][-1:]
        for version in versions:
            version.update({column: told_last[0].attributes[column] for column in overwritten})
        dimension_versions += versions

        starts = {version["effective_from"] for version in versions}
        for effective_date, observation in zip(dates, observations, strict=True):
            if observation.row is None:
                continue
            if observation.deleted:
                row_class = "deletion"
            elif observation is not last_of_date[effective_date]:
                row_class = "replaced"
            else:
                row_class = "version" if effective_date in starts else "repeat"
            counts[entity, observation.day][row_class] += 1
    return dimension_versions


def observations_of(
    key: str, id_column: str, deliveries: Sequence[Delivery], zone: ZoneInfo, columns: list[str]
) -> list[Observation]:
    """A key's observations in order, with the deletions that full deliveries mean by leaving it out."""
    observations: list[Observation] = []
    known_from_an_earlier_day = False
    for delivery in deliveries:
        rows = [row for row in delivery.rows if row[id_column] == key]
        for row in rows:
            observation = observe(delivery, row, zone)
            for column in columns:
                unknown = observation.deleted or column in delivery.unknown
                observation.attributes[column] = UNKNOWN if unknown else row.get(column)
            observations.append(observation)
        absent = not rows and key not in {row.get(id_column) for row in delivery.quarantined}
        if delivery.mode == "full" and delivery.rows and absent and known_from_an_earlier_day:
            nothing = dict.fromkeys(columns, UNKNOWN)
            moment = start_of_day(delivery.day, zone)
            observations.append(Observation(moment, delivery.day, deleted=True, attributes=nothing))
        known_from_an_earlier_day = known_from_an_earlier_day or bool(rows)
    return in_order(observations)


def fill_unknown(observations: list[Observation], columns: list[str]) -> None:
    """Fill what a delivery lacked or a deletion leaves open: forward, then backward, then null."""
    for column in columns:
        for direction in (observations, observations[::-1]):
            value: Any = UNKNOWN
            for observation in direction:
                if observation.attributes[column] is UNKNOWN:
                    observation.attributes[column] = value
                value = observation.attributes[column]
        for observation in observations:
            if observation.attributes[column] is UNKNOWN:
                observation.attributes[column] = None


# Facts


def standing_lines(
    deliveries: Sequence[Delivery], zone: ZoneInfo, counts: dict[tuple[Entity, date], Counter[str]]
) -> dict[LineKey, list[Observation]]:
    """For each line that exists its last run of equal tellings; notes the classes of all orders rows in `counts`."""
    tellings = [
        (delivery, telling)
        for delivery in deliveries
        if delivery.entity == "orders"
        for telling in tellings_of(delivery, zone)
    ]
    standing: dict[LineKey, list[Observation]] = {}
    # The last row of a telling has its greatest moment.
    for delivery, telling in sorted(tellings, key=lambda pair: pair[1][-1].place):
        order = told(telling[0])["order_id"]
        if delivery.unit == "order":
            held = {line_key(told(observation)) for observation in telling}
            held |= {line_key(row) for row in delivery.quarantined}
            end(standing, [key for key in standing if key[0] == order and key not in held])
        for observation in telling:
            key = line_key(told(observation))
            if observation.deleted:
                whole = [other for other in standing if other[0] == order]
                end(standing, whole if delivery.unit == "order" else [key])
            elif key in standing and equal_tellings(standing[key][-1], observation):
                standing[key].append(observation)
            else:
                standing[key] = [observation]

    stands = {run[-1] for run in standing.values()}
    for _, telling in tellings:
        for observation in telling:
            if observation.deleted:
                row_class = "tombstone"
            elif observation not in stands:
                row_class = "superseded"
            else:
                row_class = "sale" if told(observation)["quantity"] > 0 else "return"
            counts["orders", observation.day][row_class] += 1
    return standing


def tellings_of(delivery: Delivery, zone: ZoneInfo) -> list[list[Observation]]:
    """What takes effect as one: under `unit: line` each row, under `unit: order` all staged rows of an order."""
    observations = in_order(observe(delivery, row, zone) for row in delivery.rows)
    if delivery.unit == "line":
        return [[observation] for observation in observations]
    orders = {told(observation)["order_id"] for observation in observations}
    return [[each for each in observations if told(each)["order_id"] == order] for order in orders]


def line_key(row: Row) -> LineKey:
    return row["order_id"], row["line_number"]


def end(standing: dict[LineKey, list[Observation]], keys: list[LineKey]) -> None:
    for key in keys:
        standing.pop(key, None)


def equal_tellings(one: Observation, other: Observation) -> bool:
    return all(told(one).get(column) == told(other).get(column) for column in TOLD_COLUMNS)


def fact(key: LineKey, run: list[Observation], dimensions: dict[Entity, list[Row]]) -> Row:
    first, row = run[0], told(run[-1])
    order_date = row["order_ts"].date()
    customer = point(row["customer_id"], "customers", order_date, dimensions)
    product = point(row["product_id"], "products", order_date, dimensions)
    cost = product.get("cost") if product else None
    with localcontext(prec=60):
        total_amount = row["quantity"] * row["unit_price"] - row["discount_amount"]
        profit = None if cost is None else total_amount - row["quantity"] * cost
    return {
        "order_id": key[0],
        "line_number": key[1],
        "date": order_date,
        "order_ts": row["order_ts"],
        "customer": customer and (customer["customer_id"], customer["effective_from"]),
        "product": product and (product["product_id"], product["effective_from"]),
        "quantity": row["quantity"],
        "unit_price": row["unit_price"],
        "discount_amount": row["discount_amount"],
        "total_amount": total_amount,
        "profit": profit,
        "delivered_on": first.day,
        "updated_at": first.moment,
    }


def point(identifier: str | None, entity: Entity, day: date, dimensions: dict[Entity, list[Row]]) -> Row | None:
    """The pointing rule: the last version that starts on or before the day, else the first; None is member -1."""
    versions = [version for version in dimensions[entity] if version[ID_COLUMNS[entity]] == identifier]
    started = [version for version in versions if version["effective_from"] <= day]
    if started:
        return started[-1]
    return versions[0] if versions else None
