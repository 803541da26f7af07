"""Whether a stream met the cases of facts: told by the tellings that publishes took in, and the facts around them."""

from collections.abc import Callable, Iterator
from datetime import date
from itertools import combinations
from typing import TypeAlias

from data_platform_tests.proof.seen_record import (
    Observation,
    Record,
    Step,
    equal_telling,
    fact_measures,
    key_of,
    measures,
)
from data_platform_tests.reference import INFERRED_FROM, Entity, LineKey, Row, Warehouse

Detector: TypeAlias = Callable[[Record], bool]

MEMBERS: dict[str, Entity] = {"customer": "customers", "product": "products"}


def _kept(record: Record) -> Iterator[tuple[Row, Row]]:
    """Facts of lines that stood before a publish and stand after it."""
    for publish in record.increments:
        before, after = record.facts(publish.before), record.facts(publish.after)
        for key in before.keys() & after.keys():
            yield before[key], after[key]


def _orders(step: Step) -> dict[str, list[Observation]]:
    """The observations of each order of which a publish heard anew, in order of truth."""
    heard = {row["order_id"] for delivery in step.fresh for row in delivery.rows}
    found: dict[str, list[Observation]] = {order: [] for order in heard}
    for (order, _), observations in step.told.items():
        if order in heard:
            found[order] += observations
    return {order: sorted(told, key=lambda each: each.place) for order, told in found.items()}


def _order_steps(record: Record) -> list[Step]:
    return [step for step in record.steps if step.entity == "orders" and step.told is not step.told_before]


def _line(observation: Observation) -> LineKey:
    return key_of(observation.row or {}, "orders")


# Members


def before_its_dimension_row(record: Record) -> bool:
    """A published line of an id without a version gets a first version that starts after the order."""
    return any(
        before[member]
        and before[member][1] == INFERRED_FROM
        and after[member]
        and after[member][0] == before[member][0]
        and after[member][1] > after["date"]
        for before, after in _kept(record)
        for member in MEMBERS
    )


def late_dimension_version(record: Record) -> bool:
    """A published line, told as before, moves to a version or a cost that only now becomes known."""
    dates: dict[tuple[int, Entity, str], set[date]] = {}
    for turn in record.arrived_members:
        dates[id(turn.step.publish), turn.entity, turn.key] = {each.date for each in turn.new_upserts}
    for publish in record.increments:
        before, after = record.facts(publish.before), record.facts(publish.after)
        for key in before.keys() & after.keys():
            was, now = before[key], after[key]
            if fact_measures(was) != fact_measures(now):
                continue
            for member, entity in MEMBERS.items():
                named = now[member]
                if (
                    named
                    and was[member][1] != INFERRED_FROM
                    and (was[member] != named or (member == "product" and was["profit"] != now["profit"]))
                    and named[1] in dates.get((id(publish), entity, named[0]), ())
                ):
                    return True
    return False


def _ended(record: Record, warehouse: Warehouse, member: str) -> Iterator[tuple[Row, list[Row]]]:
    """Facts that point at a version that ended on or before their order date, with the versions that start later."""
    versions = record.versions(warehouse, MEMBERS[member])
    for fact in record.facts(warehouse).values():
        if fact[member]:
            known = versions[fact[member][0]]
            [named] = [version for version in known if version["effective_from"] == fact[member][1]]
            if named["effective_to"] and named["effective_to"] <= fact["date"]:
                yield fact, [version for version in known if version["effective_from"] > fact["date"]]


def in_a_gap(record: Record) -> bool:
    """A fact's order date lies between two versions of its member, which was deleted and came back."""
    return any(
        later
        for publish in record.trace.publishes
        for member in MEMBERS
        for _, later in _ended(record, publish.after, member)
    )


def _inferred(record: Record) -> Iterator[tuple[bool | None, bool | None]]:
    """Of each id and publish: is it inferred before, and after; None where it has no member at all."""
    for publish in record.increments:
        for entity in MEMBERS.values():
            before, after = record.versions(publish.before, entity), record.versions(publish.after, entity)
            for key in before.keys() | after.keys():
                yield tuple(  # type: ignore[misc]
                    stood[key][0]["is_inferred"] if key in stood else None for stood in (before, after)
                )


def inferred_made(record: Record) -> bool:
    """A publish makes the inferred member of an id that had no member."""
    return (None, True) in _inferred(record)


def inferred_upgraded(record: Record) -> bool:
    """A publish gives a version to an id that had an inferred member."""
    return (True, False) in _inferred(record)


def inferred_restored(record: Record) -> bool:
    """A publish takes all versions of an id away, and the facts that name it get its inferred member."""
    return (False, True) in _inferred(record)


def inferred_gone(record: Record) -> bool:
    """A publish removes an inferred member and gives its id no version."""
    return (True, None) in _inferred(record)


def unknown_customer(record: Record) -> bool:
    """A fact names a customer without any version."""
    return any(
        fact["customer"] and fact["customer"][1] == INFERRED_FROM
        for publish in record.trace.publishes
        for fact in record.facts(publish.after).values()
    )


def missing_customer(record: Record) -> bool:
    """A fact names no customer."""
    return any(
        fact["customer"] is None for publish in record.trace.publishes for fact in record.facts(publish.after).values()
    )


def deleted_customer(record: Record) -> bool:
    """A fact names a customer that was deleted on or before the order date."""
    return any(True for publish in record.trace.publishes for _ in _ended(record, publish.after, "customer"))


# Tellings


def duplicate_within(record: Record) -> bool:
    """A delivery tells a line twice: as two staged rows, or as exact copies that staging dropped."""
    twice = any(
        one.delivery is other.delivery and not one.deleted and not other.deleted
        for turn in record.lines
        for one, other in combinations(turn.after, 2)
    )
    return twice or any(
        arrival.delivered.entity == "orders" and arrival.settled.figures.get("duplicate", 0) > 0
        for arrival in record.reached
    )


def duplicate_across(record: Record) -> bool:
    """Deliveries of two days tell a line with equal values."""
    return any(
        one.day != other.day and not one.deleted and not other.deleted and equal_telling(one, other)
        for turn in record.lines
        for one, other in combinations(turn.after, 2)
    )


def rolling_extract(record: Record) -> bool:
    """A published line is told again equally by another day and keeps its run; its extract rolls on.

    That is: the day that repeats the line tells something new as well, or the line is now told by three days.
    """
    for turn in record.arrived_lines:
        publish = turn.step.publish
        was, now = (record.facts(stood).get(turn.key) for stood in (publish.before, publish.after))
        if not was or not now or fact_measures(was) != fact_measures(now):
            continue
        for repeat in turn.new_upserts:
            run = [
                each
                for each in turn.before
                if each.day != repeat.day and not each.deleted and equal_telling(each, repeat)
            ]
            stands = measures(repeat) == fact_measures(now) and run
            if stands and now["delivered_on"] < max(repeat.day, *(each.day for each in run)):
                days = {each.day for each in turn.after if not each.deleted}
                if len(days) > 2 or _tells_news(turn.step, repeat):
                    return True
    return False


def _tells_news(step: Step, repeat: Observation) -> bool:
    for row in repeat.delivery.rows:
        known = [each for each in step.told[key_of(row, "orders")] if each.delivery is not repeat.delivery]
        told = [each for each in step.told[key_of(row, "orders")] if each.row is row]
        if not any(equal_telling(each, one) for each in known for one in told):
            return True
    return False


def correction(record: Record) -> bool:
    """A published line gets other values by a telling that is later than the one that stood."""
    for turn in record.arrived_lines:
        publish = turn.step.publish
        was, now = (record.facts(stood).get(turn.key) for stood in (publish.before, publish.after))
        if was and now and fact_measures(was) != fact_measures(now):
            former = [each.place for each in turn.before if not each.deleted and measures(each) == fact_measures(was)]
            for observation in turn.new_upserts:
                if measures(observation) == fact_measures(now) and former and min(former) < observation.place:
                    return True
    return False


def older_correction(record: Record) -> bool:
    """After a correction a telling is published that lies before it and after what it corrected; the fact stays."""
    for turn in record.arrived_lines:
        publish = turn.step.publish
        was, now = (record.facts(stood).get(turn.key) for stood in (publish.before, publish.after))
        if not was or not now or fact_measures(was) != fact_measures(now):
            continue
        upserts = [each for each in turn.before if not each.deleted]
        for late in turn.new_upserts:
            original = [each for each in upserts if each.place < late.place and measures(each) != fact_measures(was)]
            newer = [each for each in upserts if each.place > late.place and measures(each) == fact_measures(was)]
            if original and newer and measures(late) != fact_measures(was):
                return True
    return False


def _removed(record: Record, status: str) -> bool:
    """Whether a tombstone of a status is the last word on a line that was told, and the line has no fact."""
    for step in _order_steps(record):
        facts = record.facts(step.publish.after)
        for told in _orders(step).values():
            for stone in told:
                if stone.deleted and (stone.says("status") or "").lower() == status:
                    whole = stone.delivery.unit == "order"
                    lines = {_line(each) for each in told} if whole else {_line(stone)}
                    for line in lines - facts.keys():
                        upserts = [each.place for each in step.told.get(line, ()) if not each.deleted]
                        if upserts and max(upserts) < stone.place:
                            return True
    return False


def cancelled(record: Record) -> bool:
    """A line that was told is out of the facts by a tombstone that says cancelled."""
    return _removed(record, "cancelled")


def deleted(record: Record) -> bool:
    """A line that was told is out of the facts by a tombstone that says deleted."""
    return _removed(record, "deleted")


def reinstated(record: Record) -> bool:
    """A line stands that is told after a tombstone of it (or of its whole order), before which it was told as well."""
    for step in _order_steps(record):
        facts = record.facts(step.publish.after)
        for told in _orders(step).values():
            for stone in told:
                if not stone.deleted:
                    continue
                reach = told if stone.delivery.unit == "order" else step.told[_line(stone)]
                before = any(not each.deleted and each.place < stone.place for each in reach)
                after = any(not each.deleted and each.place > stone.place and _line(each) in facts for each in reach)
                if before and after:
                    return True
    return False


# Dates, signs, amounts


def date_across_years(record: Record) -> bool:
    """A published line moves to an order date of another year."""
    return any(before["date"].year != after["date"].year for before, after in _kept(record))


def year_without_a_partition(record: Record) -> bool:
    """A fact is dated in a year in which no fact was before, and of which no published delivery is."""
    years: set[int] = set()
    for publish in record.trace.publishes:
        expected = years | {delivery.day.year for delivery in publish.published}
        found = {fact["date"].year for fact in record.facts(publish.after).values()}
        if publish.how != "rebuild" and found - expected:
            return True
        years |= found
    return False


def return_before_its_sale(record: Record) -> bool:
    """A return stands without a sale of that product in its order, and a later publish brings the sale."""
    for publish in record.increments:
        alone, sold = ({_bought(row) for row in rows} for rows in (publish.before.returns, publish.before.sales))
        paired = {_bought(row) for row in publish.after.returns} & {_bought(row) for row in publish.after.sales}
        if (alone - sold) & paired:
            return True
    return False


def _bought(fact: Row) -> tuple[str, str | None]:
    return fact["order_id"], fact["product"] and fact["product"][0]


def sale_becomes_a_return(record: Record) -> bool:
    """A published line moves from the sales to the returns."""
    return any(before["quantity"] > 0 > after["quantity"] for before, after in _kept(record))


def return_becomes_a_sale(record: Record) -> bool:
    """A published line moves from the returns to the sales."""
    return any(before["quantity"] < 0 < after["quantity"] for before, after in _kept(record))


def _any_fact(record: Record, holds: Callable[[Row], bool]) -> bool:
    return any(holds(fact) for publish in record.trace.publishes for fact in record.facts(publish.after).values())


def zero_price(record: Record) -> bool:
    """A fact has a price of zero."""
    return _any_fact(record, lambda fact: fact["unit_price"] == 0)


def four_decimals(record: Record) -> bool:
    """A fact has a price or a discount with four decimals, the last of them no zero."""
    return _any_fact(
        record, lambda fact: any((fact[column] * 10**4) % 10 != 0 for column in ("unit_price", "discount_amount"))
    )


# Whole orders and replaced deliveries


def line_dropped(record: Record) -> bool:
    """A published delivery is replaced by one without a line of it, and the line's fact becomes another or none."""
    for step in _order_steps(record):
        publish = step.publish
        before, after = record.facts(publish.before), record.facts(publish.after)
        for delivery in step.fresh if step.incremental else ():
            former = step.before.get(delivery.day)
            held = {key_of(row, "orders") for row in [*delivery.rows, *delivery.quarantined]}
            for key in {key_of(row, "orders") for row in former.rows} - held if former else ():
                was, now = before.get(key), after.get(key)
                if (was and (fact_measures(was), was["delivered_on"])) != (
                    now and (fact_measures(now), now["delivered_on"])
                ):
                    return True
    return False


def fewer_lines(record: Record) -> bool:
    """The last delivery of a whole order lacks lines that an earlier one had, and these have no facts."""
    for step in _order_steps(record):
        facts = record.facts(step.publish.after)
        for order, told in _orders(step).items():
            last = told[-1].delivery
            if last.unit == "order" and not any(each.deleted for each in told):
                held = {key_of(row, "orders") for row in [*last.rows, *last.quarantined] if row["order_id"] == order}
                if {_line(each) for each in told} - held - facts.keys():
                    return True
    return False


def order_in_two_deliveries(record: Record) -> bool:
    """Deliveries of two days hold rows of one order."""
    return any(len({each.day for each in told}) > 1 for step in _order_steps(record) for told in _orders(step).values())


FACTS: dict[str, tuple[Detector, ...]] = {
    "before its dimension row": (before_its_dimension_row,),
    "late dimension version": (late_dimension_version,),
    "in a deletion's gap": (in_a_gap,),
    "inferred made": (inferred_made,),
    "inferred upgraded": (inferred_upgraded,),
    "inferred restored": (inferred_restored,),
    "inferred gone": (inferred_gone,),
    "duplicate within and across deliveries": (duplicate_within, duplicate_across),
    "rolling extract": (rolling_extract,),
    "correction": (correction,),
    "an older correction after it": (older_correction,),
    "cancelled": (cancelled,),
    "deleted": (deleted,),
    "reinstated": (reinstated,),
    "date changed across a year's partition": (date_across_years,),
    "order dated in a year without a partition yet": (year_without_a_partition,),
    "return before its sale": (return_before_its_sale,),
    "sign changes both ways": (sale_becomes_a_return, return_becomes_a_sale),
    "zero price": (zero_price,),
    "four decimals": (four_decimals,),
    "unknown, missing and deleted customer": (unknown_customer, missing_customer, deleted_customer),
    "line dropped from a replaced delivery": (line_dropped,),
    "order with fewer lines again (`unit: order`)": (fewer_lines,),
    "order in two deliveries": (order_in_two_deliveries,),
}
