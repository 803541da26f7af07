"""Whether a stream met the cases of versions: told by what the publishes took in, and by the versions around them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise
from typing import TypeAlias

from data_platform_tests.cases import OVERWRITTEN, TRACKED
from data_platform_tests.proof.seen_record import (
    Observation,
    Record,
    Turn,
    covering,
    equal_payload,
    periods,
    tracked,
)
from data_platform_tests.reference import Entity, Row

Detector: TypeAlias = Callable[[Record], bool]


# One key after another


def new_key(record: Record) -> bool:
    """A publish gives a first version to a key of which nothing was published."""
    return any(not turn.before and turn.now for turn in record.arrived_members)


def update(record: Record) -> bool:
    """A publish ends the current version of a key on the day on which its new last version starts."""
    return any(
        turn.was
        and turn.was[-1]["is_current"]
        and len(turn.now) > 1
        and turn.now[-1]["effective_from"] > max(each.date for each in turn.before)
        and turn.now[-2]["effective_to"] == turn.now[-1]["effective_from"]
        for turn in record.arrived_members
    )


def unchanged_redelivery(record: Record) -> bool:
    """A row of a known key is published that repeats the version in force; all versions stay as they were."""
    return any(
        turn.was == turn.now and any(_repeats(observation, turn) for observation in turn.new_upserts)
        for turn in record.arrived_members
    )


def _repeats(observation: Observation, turn: Turn) -> bool:
    version = covering(turn.was, observation.date)
    return version is not None and all(
        observation.says(column) == version[column] for column in TRACKED[turn.entity] if observation.knows(column)
    )


def several_changes_in_one_delivery(record: Record) -> bool:
    """One delivery tells the rows at which two or more versions of a key start."""
    for turn in record.members:
        starts = {version["effective_from"] for version in turn.now}
        winners = {each.date: each for each in turn.after}
        days = [winners[start].day for start in starts if winners[start].row]
        if len(set(days)) < len(days):
            return True
    return False


def several_on_one_day(record: Record) -> bool:
    """A key has rows of different moments on one effective date that differ in their attributes or in being deleted."""
    return any(
        one.date == other.date
        and one.place[0] != other.place[0]
        and one.row
        and other.row
        and (one.deleted != other.deleted or not equal_payload(one, other, turn.entity))
        for turn in record.members
        for one, other in combinations(turn.after, 2)
    )


def insert_update_delete_reinsert(record: Record) -> bool:
    """One delivery tells of a key that does not exist: an upsert, another, a deletion and an upsert, in this order."""
    for turn in record.members:
        for delivery in {id(each.delivery): each.delivery for each in turn.new}.values():
            told = [each for each in turn.after if each.delivery is delivery]
            for one, two, three, four in combinations(told, 4):
                shape = [one.deleted, two.deleted, three.deleted, four.deleted] == [False, False, True, False]
                if shape and not equal_payload(one, two, turn.entity) and not _exists_before(one, turn.after):
                    return True
    return False


def _exists_before(observation: Observation, observations: Sequence[Observation]) -> bool:
    earlier = [each for each in observations if each.place < observation.place]
    return bool(earlier) and not earlier[-1].deleted


# Late


def late_before_all_history(record: Record) -> bool:
    """A row is published that starts a version before the first of the versions that stood."""
    return any(
        turn.was
        and turn.now
        and turn.now[0]["effective_from"] < turn.was[0]["effective_from"]
        and turn.now[0]["effective_from"] in {each.date for each in turn.new_upserts}
        for turn in record.arrived_members
    )


def inside_a_closed_version(record: Record) -> bool:
    """A row is published whose date lies in a version that had ended, and the key's versions change."""
    for turn in record.arrived_members:
        if periods(turn.was, turn.entity) != periods(turn.now, turn.entity):
            for observation in turn.new_upserts:
                version = covering(turn.was, observation.date)
                if version and version["effective_to"]:
                    return True
    return False


def inside_an_unchanged_run(record: Record) -> bool:
    """A row is published that splits one version into A, B, A, of which the last starts with a row known before."""
    for turn in record.arrived_members:
        dates, known = {each.date for each in turn.new_upserts}, {each.date for each in turn.before}
        for first, second, third in zip(turn.now, turn.now[1:], turn.now[2:], strict=False):
            whole = covering(turn.was, first["effective_from"])
            if (
                whole is not None
                and whole is covering(turn.was, third["effective_from"])
                and second["effective_from"] in dates
                and third["effective_from"] in known
                and tracked(first, turn.entity) == tracked(third, turn.entity) != tracked(second, turn.entity)
            ):
                return True
    return False


def two_late_events(record: Record) -> bool:
    """One publish starts new versions inside two versions of a key, with rows delivered after their effective dates."""
    for turn in record.arrived_members:
        starts = {version["effective_from"] for version in turn.now}
        split = set()
        for observation in turn.new_upserts:
            version = covering(turn.was, observation.date)
            late = observation.date < observation.day and observation.date in starts
            if version and late and version["effective_from"] < observation.date:
                split.add(version["effective_from"])
        if len(split) > 1:
            return True
    return False


# Deletions


def late_delete(record: Record) -> bool:
    """A deletion is published that ends a version of which, or after which, a later row was published before."""
    for turn in record.arrived_members:
        ends = {version["effective_to"] for version in turn.now}
        for observation in turn.new:
            if observation.deleted and observation.row:
                version = covering(turn.was, observation.date)
                goes_on = any(each.date > observation.date for each in turn.before)
                if version and goes_on and version["effective_to"] != observation.date and observation.date in ends:
                    return True
    return False


def delete_of_an_unknown_key(record: Record) -> bool:
    """The first row ever published of a key is a deletion, and nothing of the key is earlier."""
    return any(
        not turn.before and turn.after[0].deleted and turn.after[0].row is not None for turn in record.arrived_members
    )


def upsert_before_a_recorded_delete(record: Record) -> bool:
    """An upsert is published after a deletion that is on a later date and directly follows it in the order of truth."""
    return any(
        one in turn.new and not one.deleted and later.deleted and later not in turn.new and one.date < later.date
        for turn in record.arrived_members
        for one, later in pairwise(turn.after)
    )


def resurrected_with_the_same_values(record: Record) -> bool:
    """Two versions in a row with the same tracked values and a gap between them."""
    return any(
        one["effective_to"] < other["effective_from"] and tracked(one, turn.entity) == tracked(other, turn.entity)
        for turn in record.members
        for one, other in pairwise(turn.now)
    )


def delete_delivered_twice(record: Record) -> bool:
    """Two deliveries tell the deletion of a key, with nothing between in the order of truth."""
    return any(
        one.deleted and other.deleted and one.row and other.row and one.day != other.day
        for turn in record.members
        for one, other in pairwise(turn.after)
    )


def value_reverting(record: Record) -> bool:
    """A version has the tracked values of an earlier one, with another between them."""
    for turn in record.members:
        values = [tracked(version, turn.entity) for version in turn.now]
        if any(one == three != two for one, two, three in combinations(values, 3)):
            return True
    return False


# Nulls and ties


def _null_change(record: Record, becomes_null: bool) -> bool:
    return any(
        (one[column] is None) != (other[column] is None) and (other[column] is None) == becomes_null
        for turn in record.members
        for one, other in pairwise(turn.now)
        for column in TRACKED[turn.entity]
    )


def attribute_becomes_null(record: Record) -> bool:
    """A version has null where the one before has a value."""
    return _null_change(record, becomes_null=True)


def null_becomes_a_value(record: Record) -> bool:
    """A version has a value where the one before has null."""
    return _null_change(record, becomes_null=False)


def key_twice_in_a_full_delivery(record: Record) -> bool:
    """A full delivery holds two rows of a key."""
    return any(
        one.delivery is other.delivery and one.delivery.mode == "full" and one.row and other.row
        for turn in record.members
        for one, other in combinations(turn.after, 2)
    )


def _ties(record: Record) -> Iterator[tuple[Turn, Observation, Observation]]:
    for turn in record.members:
        for one, other in pairwise(turn.after):
            if one.place[0] == other.place[0] and not one.deleted and not other.deleted:
                yield turn, one, other


def same_moment_same_payload(record: Record) -> bool:
    """Two upserts of a key at one moment tell the same attributes."""
    return any(equal_payload(one, other, turn.entity) for turn, one, other in _ties(record))


def same_moment_other_payload(record: Record) -> bool:
    """Two upserts of a key at one moment tell different attributes."""
    return any(not equal_payload(one, other, turn.entity) for turn, one, other in _ties(record))


# What is overwritten


def _shown(versions: Sequence[Row], entity: Entity) -> list[list[object]]:
    return [[version[column] for column in OVERWRITTEN[entity]] for version in versions]


def type_1_alone(record: Record) -> bool:
    """A publish changes what is overwritten on the versions of a key, and nothing else of them."""
    return any(
        turn.was
        and periods(turn.was, turn.entity) == periods(turn.now, turn.entity)
        and _shown(turn.was, turn.entity) != _shown(turn.now, turn.entity)
        for turn in record.arrived_members
    )


def type_1_late_and_older(record: Record) -> bool:
    """A row with another value of an overwritten column is published after a later one, whose value stays."""
    for turn in record.arrived_members:
        if not turn.was or not turn.now:
            continue
        for column in OVERWRITTEN[turn.entity]:
            shown = turn.was[-1][column]
            last = max((each.place for each in turn.before if each.knows(column)), default=None)
            older = (each for each in turn.new_upserts if last and each.place < last and each.knows(column))
            if turn.now[-1][column] == shown and any(each.says(column) != shown for each in older):
                return True
    return False


def type_1_with_a_deletion(record: Record) -> bool:
    """A key with a value to overwrite is deleted, and stays so or comes back with another value for all versions."""
    for turn in record.members:
        for column in OVERWRITTEN[turn.entity] if turn.now else ():
            value = None
            deleted = False
            for observation in turn.after:
                if observation.deleted:
                    deleted = deleted or value is not None
                elif observation.knows(column):
                    if deleted and observation.says(column) != value:
                        return True
                    value, deleted = observation.says(column), False
            if deleted:
                return True
    return False


DIMENSIONS: dict[str, tuple[Detector, ...]] = {
    "new key": (new_key,),
    "update": (update,),
    "unchanged re-delivery": (unchanged_redelivery,),
    "several changes in one delivery": (several_changes_in_one_delivery,),
    "several on one day": (several_on_one_day,),
    "insert, update, delete, reinsert in one delivery": (insert_update_delete_reinsert,),
    "late event before all history": (late_before_all_history,),
    "inside a closed version": (inside_a_closed_version,),
    "inside an unchanged run (A B A)": (inside_an_unchanged_run,),
    "two late events splitting two versions at once": (two_late_events,),
    "late delete in a closed version": (late_delete,),
    "delete of an unknown key": (delete_of_an_unknown_key,),
    "upsert delivered later but earlier than a recorded delete": (upsert_before_a_recorded_delete,),
    "delete and resurrect with the same values": (resurrected_with_the_same_values,),
    "delete delivered twice": (delete_delivered_twice,),
    "value reverting to an old one": (value_reverting,),
    "null attributes both ways": (attribute_becomes_null, null_becomes_a_value),
    "key twice in one full delivery": (key_twice_in_a_full_delivery,),
    "same moment, same payload": (same_moment_same_payload,),
    "same moment, other payload": (same_moment_other_payload,),
    "type-1 column alone": (type_1_alone,),
    "type-1 column late and older": (type_1_late_and_older,),
    "type-1 column with a deletion": (type_1_with_a_deletion,),
}
