"""Whether a stream met the cases of whole deliveries: replayed, out of order, full, with other columns, at once."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import combinations, pairwise
from typing import TypeAlias

from data_platform_tests.proof.reference_staging import TERMS, deletes_too_much, nearest_full
from data_platform_tests.proof.seen_record import (
    ATTRIBUTES,
    Record,
    Step,
    covering,
    real,
    same,
)
from data_platform_tests.reference import ID_COLUMNS, Delivery, Entity, Row

Detector: TypeAlias = Callable[[Record], bool]


# Order of arrival


def replay_of_a_range(record: Record) -> bool:
    """Two or more days of an entity arrive again in a row as they were published, none between left out, and count."""
    trace = record.trace
    for entity in ID_COLUMNS:
        staged: dict[date, Delivery] = {}
        published: list[Delivery] = []
        replayed: set[date] = set()
        publishes = iter([*trace.publishes, None])
        publish = next(publishes)
        for number, arrival in enumerate(trace.arrivals):
            while publish and publish.arrivals <= number:
                published = list(publish.published)
                publish = next(publishes)
            delivery = arrival.settled.delivery
            if arrival.delivered.entity != entity:
                continue
            again = delivery is not None and bool(delivery.rows) and arrival.formerly == delivery
            if not again or not any(same(delivery, known) for known in published):  # type: ignore[arg-type]
                replayed = set()
            else:
                replayed.add(arrival.delivered.day)
                between = {day for day in staged if min(replayed) <= day <= max(replayed)}
                after = (each for each in trace.publishes if each.arrivals > number and entity in each.entities)
                if len(replayed) > 1 and between <= replayed and any(after):
                    return True
            if delivery is not None:
                staged[delivery.day] = delivery
    return False


def days_3_1_2(record: Record) -> bool:
    """Three publishes take in, one after another, the third, first and second of three days that tell of one key."""
    heard: dict[tuple[Entity, str], list[tuple[int, date]]] = {}
    for number, step in enumerate(record.steps):
        if step.entity == "orders" or not step.incremental:
            continue
        for delivery in step.fresh:
            if delivery.day not in step.before:
                for key in {row[ID_COLUMNS[step.entity]] for row in delivery.rows}:
                    heard.setdefault((step.entity, key), []).append((number, delivery.day))
    return any(
        one[0] < two[0] < three[0] and two[1] < three[1] < one[1]
        for days in heard.values()
        for one, two, three in combinations(days, 3)
    )


# Full deliveries


def _dimension_steps(record: Record) -> list[Step]:
    return [step for step in record.steps if step.entity != "orders" and step.fresh]


def full_missing(record: Record) -> bool:
    """Between two published full deliveries a day has none, and a version starts or ends on the later one's day."""
    for step in _dimension_steps(record):
        versions = record.versions(step.publish.after, step.entity).values()
        bounds = {v[bound] for each in versions for v in each for bound in ("effective_from", "effective_to")}
        for one, other in pairwise(step.in_order_of_days()):
            full = one.mode == other.mode == "full" and one.rows and other.rows
            if full and other.day - one.day > timedelta(days=1) and other.day in bounds:
                return True
    return False


def full_out_of_order(record: Record) -> bool:
    """A full delivery is published after one of a later day, and versions change."""
    for step in _dimension_steps(record):
        later = max((day for day, each in step.before.items() if each.mode == "full" and each.rows), default=date.min)
        late = any(
            each.mode == "full" and each.rows and each.day not in step.before and each.day < later
            for each in step.fresh
        )
        if step.incremental and late and _real(record, step, after=False) != _real(record, step, after=True):
            return True
    return False


def _real(record: Record, step: Step, *, after: bool) -> list[Row]:
    versions = record.versions(step.publish.after if after else step.publish.before, step.entity)
    return [version for each in versions.values() for version in real(each)]


def full_partial(record: Record) -> bool:
    """A full delivery with rows lacks a key that is known from an earlier day, and so deletes it."""
    return any(each.row is None for turn in record.members for each in turn.after)


def full_empty(record: Record) -> bool:
    """A full delivery of which no row is staged is published, and a version from before its day goes on over it."""
    for step in _dimension_steps(record):
        for delivery in step.fresh:
            if delivery.mode == "full" and not delivery.rows:
                standing = (covering([v], delivery.day) for v in _real(record, step, after=True))
                if any(version and version["effective_from"] < delivery.day for version in standing):
                    return True
    return False


def full_refused(record: Record) -> bool:
    """The guard rejects a full delivery for the keys that it lacks."""
    return any(
        arrival.settled.refusal == "too many deletions" and arrival.delivered.terms.get("mode") == "full"
        for arrival in record.trace.arrivals
    )


def full_accepted(record: Record) -> bool:
    """A full delivery is published that the guard would reject, but for accept_deletions."""
    reached = {id(arrival) for arrival in record.reached}
    staged: dict[tuple[Entity, date], Delivery] = {}
    for arrival in record.trace.arrivals:
        delivery, terms = arrival.settled.delivery, {**TERMS, **arrival.delivered.terms}
        if delivery is None:
            continue
        if id(arrival) in reached and delivery.mode == "full" and delivery.day in terms["accept_deletions"]:
            former = nearest_full(staged.values(), delivery.entity, delivery.day)
            if deletes_too_much(delivery, former, {**terms, "accept_deletions": ()}):
                return True
        staged[delivery.entity, delivery.day] = delivery
    return False


def absent_then_present_with_an_old_moment(record: Record) -> bool:
    """A key that a full delivery lacked is told again by a later day's row, whose updated_at lies before that day."""
    for turn in record.members:
        absences = [each for each in turn.after if each.row is None]
        for observation in turn.after if absences else ():
            told = observation.says("updated_at")
            if told and not observation.deleted:
                day = told.astimezone(record.zone).date()
                if any(each.day < observation.day and day < each.day for each in absences):
                    return True
    return False


def absent_but_quarantined(record: Record) -> bool:
    """A full delivery holds a key that earlier days told of among its quarantined rows alone."""
    for step in _dimension_steps(record):
        column = ID_COLUMNS[step.entity]
        for delivery in step.fresh:
            if delivery.mode == "full" and delivery.rows:
                absent = {row[column] for row in delivery.quarantined} - {row[column] for row in delivery.rows}
                if any(each.row and each.day < delivery.day for key in absent for each in step.told.get(key, ())):
                    return True
    return False


# Columns


def _neighbours(record: Record) -> Iterator[tuple[Entity, Delivery, Delivery, set[str]]]:
    """Published deliveries of two days in a row, and the keys that both tell of."""
    for step in _dimension_steps(record):
        column = ID_COLUMNS[step.entity]
        for one, other in pairwise(each for each in step.in_order_of_days() if each.rows):
            shared = {row[column] for row in one.rows} & {row[column] for row in other.rows}
            if shared:
                yield step.entity, one, other, shared


def column_added(record: Record) -> bool:
    """An attribute that a delivery lacks is in the next one, and both tell of a key."""
    return any((one.unknown - other.unknown) & set(ATTRIBUTES[entity]) for entity, one, other, _ in _neighbours(record))


def column_dropped(record: Record) -> bool:
    """An attribute that a delivery has is lacking in the next one, and both tell of a key."""
    return any((other.unknown - one.unknown) & set(ATTRIBUTES[entity]) for entity, one, other, _ in _neighbours(record))


def column_widened(record: Record) -> bool:
    """A number of a product is delivered again with more written decimals and an equal value."""
    for entity, one, other, shared in _neighbours(record):
        if entity == "products":
            for column in ("unit_price", "cost"):
                former, later = (_written(record, each, column) for each in (one, other))
                for key in shared & former.keys() & later.keys():
                    (value, decimals), (value_after, decimals_after) = former[key], later[key]
                    if value is not None and value == value_after and decimals_after > decimals:
                        return True
    return False


def _written(record: Record, delivery: Delivery, column: str) -> dict[str, tuple[object, int]]:
    """Of each product the value of a column in its last row, and how many decimals its text has."""
    delivered = record.texts(delivery)
    told = {(each.file, each.row): each.values for each in delivered.rows} if delivered else {}
    found = {}
    for row in delivery.rows:
        text = told.get((row["file"], row["row"]), {}).get(column) or ""
        found[row["product_id"]] = row.get(column), len(text.strip().partition(".")[2])
    return found


# Writers


def two_writers(record: Record) -> bool:
    """A publish by two writers at once, two of whose entities had something new to take in."""
    return any(
        publish.how == "at once" and sum(bool(step.fresh) for step in record.steps if step.publish is publish) > 1
        for publish in record.trace.publishes
    )


DELIVERIES: dict[str, tuple[Detector, ...]] = {
    "replay of a whole range": (replay_of_a_range,),
    "days 3, 1, 2": (days_3_1_2,),
    "full delivery missing": (full_missing,),
    "full delivery out of order": (full_out_of_order,),
    "full delivery partial": (full_partial,),
    "full delivery empty": (full_empty,),
    "full delivery refused": (full_refused,),
    "full delivery accepted": (full_accepted,),
    "key absent then present with an old updated_at": (absent_then_present_with_an_old_moment,),
    "absent but quarantined": (absent_but_quarantined,),
    "column added": (column_added,),
    "column dropped": (column_dropped,),
    "column widened": (column_widened,),
    "two writers at once": (two_writers,),
}
