"""Whether a stream met the cases of single rows and columns: told by the texts delivered and by what staging took."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime, time, timedelta
from fractions import Fraction
from typing import TypeAlias

from data_platform_tests.proof.reference_staging import COLUMNS, NUMBER, TERMS, trimmed
from data_platform_tests.proof.seen_record import Bad, Record, changes_clocks
from data_platform_tests.reference import ID_COLUMNS

Detector: TypeAlias = Callable[[Record], bool]


def _bad_members(record: Record) -> Iterator[Bad]:
    return (bad for bad in record.bad if bad.delivered.entity != "orders")


def _bad_lines(record: Record) -> Iterator[Bad]:
    return (bad for bad in record.bad if bad.delivered.entity == "orders")


def _judged_lines(record: Record) -> Iterator[Bad]:
    """Without tombstones, which row rules leave alone: they are quarantined for something else."""
    return (bad for bad in _bad_lines(record) if not bad.tombstone)


# Dimensions


def null_key(record: Record) -> bool:
    """A quarantined row of a dimension has no id, or a blank one."""
    return any(trimmed(bad.told.values.get(ID_COLUMNS[bad.delivered.entity])) is None for bad in _bad_members(record))


def wrong_type(record: Record) -> bool:
    """A quarantined row of a dimension has a text that is no number, date, time or truth value where one belongs."""
    return any(
        _is_of_another_type(trimmed(bad.told.values.get(column)) or "", COLUMNS[bad.delivered.entity][column])
        for bad in _bad_members(record)
        for column in bad.reading.unreadable
    )


def _is_of_another_type(text: str, kind: str) -> bool:
    # Five decimals are a number all the same, and a time that daylight saving skips is a time.
    if kind in ("money", "integer"):
        return not NUMBER.fullmatch(text)
    if kind in ("instant", "local time"):
        try:
            datetime.fromisoformat(text)
        except ValueError:
            return True
        return False
    return True


def column_named_effective_from(record: Record) -> bool:
    """A published delivery of a dimension has a column effective_from of its own, with a value."""
    for arrival in record.reached:
        delivered = arrival.delivered
        own = [name for name in delivered.columns if name.strip().casefold() == "effective_from"]
        if delivered.entity != "orders" and any(row.values.get(name) for row in delivered.rows for name in own):
            return True
    return False


def _ids(record: Record) -> Iterator[str]:
    """The ids of published members."""
    return (turn.key for turn in record.members if turn.now)


def id_with_quotes(record: Record) -> bool:
    """A member's id holds a quote."""
    return any(re.search("['\"]", key) for key in _ids(record))


def id_with_blanks(record: Record) -> bool:
    """A member's id holds a blank."""
    return any(re.search(r"\s", key) for key in _ids(record))


def ids_apart_in_capitals(record: Record) -> bool:
    """Two members' ids differ in capitals alone."""
    found = {(turn.entity, turn.key) for turn in record.members if turn.now}
    return len({(entity, key.lower()) for entity, key in found}) < len(found)


def id_with_emoji(record: Record) -> bool:
    """A member's id holds a character outside of the basic plane."""
    return any(ord(letter) > 0xFFFF for key in _ids(record) for letter in key)


def id_of_201_characters(record: Record) -> bool:
    """A quarantined row of a dimension has an id of more than 200 characters."""
    return any(
        len(unicodedata.normalize("NFC", trimmed(bad.told.values.get(ID_COLUMNS[bad.delivered.entity])) or "")) > 200
        for bad in _bad_members(record)
    )


def daylight_saving_days(record: Record) -> bool:
    """A published row takes effect, or an order is placed, on a day of 23 or 25 hours in business time."""
    days = {each.date for turn in [*record.members, *record.lines] for each in turn.new}
    ordered = {each.says("order_ts") for turn in record.lines for each in turn.new} - {None}
    return any(changes_clocks(day, record.zone) for day in days | {moment.date() for moment in ordered})


# Facts


def far_future(record: Record) -> bool:
    """A quarantined line was ordered later than on the day after its delivery."""
    for bad in _judged_lines(record):
        ordered = bad.reading.row["order_ts"]
        if ordered and ordered >= datetime.combine(bad.delivered.day + timedelta(days=2), time()):
            return True
    return False


def before_the_floor(record: Record) -> bool:
    """A quarantined line was ordered before the floor that its source sets."""
    for bad in _judged_lines(record):
        ordered = bad.reading.row["order_ts"]
        if ordered and ordered.date() < {**TERMS, **bad.delivered.terms}["order_floor"]:
            return True
    return False


def quantity_0(record: Record) -> bool:
    """A published line has quantity 0: a tombstone under `unit: line`, quarantined under `unit: order`."""
    staged = any(each.deleted and each.says("quantity") == 0 for turn in record.lines for each in turn.new)
    return staged or any(bad.unit == "order" and bad.reading.row["quantity"] == 0 for bad in _judged_lines(record))


def five_decimals(record: Record) -> bool:
    """A quarantined line has an amount with more than four decimals that count."""
    return any(
        NUMBER.fullmatch(text) and (Fraction(text) * 10**4).denominator != 1
        for bad in _bad_lines(record)
        for column in ("unit_price", "discount_amount")
        if (text := trimmed(bad.told.values.get(column)))
    )


def total_overflows(record: Record) -> bool:
    """A quarantined line has amounts that can be read each and a total that does not fit numeric(18,4)."""
    for bad in _judged_lines(record):
        quantity, price = bad.reading.row["quantity"], bad.reading.row["unit_price"]
        if quantity is not None and price is not None and "discount_amount" not in bad.reading.unreadable:
            discount = Fraction(bad.reading.row["discount_amount"] or 0)
            if abs(quantity * Fraction(price) - discount) >= 10**14:
                return True
    return False


STAGING: dict[str, tuple[Detector, ...]] = {
    "null key": (null_key,),
    "column of a wrong type": (wrong_type,),
    "a source column named effective_from": (column_named_effective_from,),
    "ids with quotes, blanks, capitals, emoji, 201 characters": (
        id_with_quotes,
        id_with_blanks,
        ids_apart_in_capitals,
        id_with_emoji,
        id_of_201_characters,
    ),
    "daylight-saving days": (daylight_saving_days,),
    "order dated in the far future": (far_future,),
    "order dated before the floor": (before_the_floor,),
    "quantity 0": (quantity_0,),
    "five decimals": (five_decimals,),
    "a total that overflows": (total_overflows,),
}
