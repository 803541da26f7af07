"""The other half of the reference implementation: what must be staged of a delivery of texts, or why it is refused.

The section Staging of warehouse-semantics.md in plain Python, slow and obvious, sharing no code with the platform.
Columns bear their canonical names; a delivery that lacks a required one is rejected before it comes here.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from data_platform_tests.proof.delivered import Delivered, Settled, Told
from data_platform_tests.reference import ID_COLUMNS, Delivery, Entity, Row, start_of_day

Terms: TypeAlias = Mapping[str, Any]

COLUMNS: dict[Entity, dict[str, str]] = {
    "orders": {
        "order_id": "id", "line_number": "integer", "customer_id": "id", "product_id": "id", "quantity": "integer",
        "unit_price": "money", "discount_amount": "money", "order_ts": "local time", "status": "text",
        "updated_at": "instant",
    },
    "products": {
        "product_id": "id", "product_name": "text", "category": "text", "subcategory": "text", "brand": "text",
        "unit_price": "money", "cost": "money", "is_deleted": "boolean", "updated_at": "instant",
    },
    "customers": {
        "customer_id": "id", "email": "text", "first_name": "text", "last_name": "text", "segment": "text",
        "country": "text", "created_date": "date", "is_deleted": "boolean", "updated_at": "instant",
    },
}  # fmt: skip
KEYS: dict[Entity, tuple[str, ...]] = {
    "orders": ("order_id", "line_number"),
    "products": ("product_id",),
    "customers": ("customer_id",),
}
REQUIRED: dict[Entity, tuple[str, ...]] = {
    "orders": ("order_id", "product_id", "quantity", "unit_price", "order_ts"),
    "products": ("product_id",),
    "customers": ("customer_id",),
}
# What sources.yaml does not set.
TERMS: Terms = {
    "mode": "changes",
    "unit": None,
    "exact_copies": "drop",
    "reject_share": 0.05,
    "reject_rows": 10,
    "accept_deletions": (),
    "deletion_share": 0.20,
    "deletion_rows": 10,
    "order_floor": date(2000, 1, 1),
    "currency": None,
}


@dataclass
class Reading:
    """A delivered row as it is read: a column of `row` is None where nothing is given, or what is cannot be read."""

    told: Told
    row: Row = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)


def settle(delivered: Delivered, timezone: str, nearest_full: Delivery | None = None) -> Settled:
    """What staging must make of a delivery; `nearest_full` is what the guard of full deliveries compares it with."""
    entity, zone = delivered.entity, ZoneInfo(timezone)
    terms = {**TERMS, **delivered.terms}
    assert set(terms) == set(TERMS), "settings of reading files and names are not for here"
    assert set(REQUIRED[entity]) <= set(delivered.columns), "rejected before it is staged"
    delivery = Delivery(
        entity,
        delivered.day,
        mode=terms["mode"],
        unit=terms["unit"] or ("line" if entity != "orders" or "line_number" in delivered.columns else "order"),
        unknown=frozenset(COLUMNS[entity]) - frozenset(delivered.columns),
    )
    told = sorted(delivered.rows, key=lambda row: (row.file.encode(), row.row))
    kept = told if terms["exact_copies"] == "keep" else without_copies(told, delivered.columns)
    readings = [read(row, entity, zone) for row in kept]
    if entity == "orders" and delivery.unit == "order":
        number_lines(readings)
    for reading in readings:
        place = {"file": reading.told.file, "row": reading.told.row}
        if can_be_taken(reading, delivery, terms, zone):
            delivery.rows.append(finished(reading, delivery) | place)
        else:
            delivery.quarantined.append(key_of(reading, entity) | place)
    figures = Counter(
        delivered=len(told),
        staged=len(delivery.rows),
        quarantined=len(delivery.quarantined),
        duplicate=len(told) - len(kept),
    )
    if exceeds(len(delivery.quarantined), len(told), terms["reject_share"], terms["reject_rows"]):
        return Settled(None, "too many rejected rows", figures)
    if deletes_too_much(delivery, nearest_full, terms):
        return Settled(None, "too many deletions", figures)
    return Settled(delivery, "", figures)


# Rows


def without_copies(told: Sequence[Told], columns: Sequence[str]) -> list[Told]:
    """The rows without those that equal an earlier one in every delivered column, also in those nobody knows."""
    first: dict[tuple[str | None, ...], Told] = {}
    for row in told:
        first.setdefault(tuple(trimmed(row.values.get(column)) for column in columns), row)
    return list(first.values())


def read(told: Told, entity: Entity, zone: ZoneInfo) -> Reading:
    reading = Reading(told)
    for column, kind in COLUMNS[entity].items():
        reading.row[column] = None
        text = trimmed(told.values.get(column))
        if text is None:
            continue
        reading.given.add(column)
        try:
            reading.row[column] = READERS[kind](text, zone)
        except (ValueError, OverflowError):
            reading.unreadable.add(column)
    return reading


def number_lines(readings: Sequence[Reading]) -> None:
    """Lines are numbered as delivered, where the source has not numbered all lines of the order itself."""
    for order in {reading.row["order_id"] for reading in readings}:
        lines = [reading for reading in readings if reading.row["order_id"] == order]
        if not all("line_number" in line.given for line in lines):
            for number, line in enumerate(lines, start=1):
                line.row["line_number"] = number


def is_tombstone(row: Row, delivery: Delivery) -> bool:
    if delivery.entity != "orders":
        return bool(row["is_deleted"])
    named = (row["status"] or "").lower() in ("cancelled", "deleted")
    return named or (delivery.unit == "line" and row["quantity"] == 0)


def can_be_taken(reading: Reading, delivery: Delivery, terms: Terms, zone: ZoneInfo) -> bool:
    row, kinds = reading.row, COLUMNS[delivery.entity]
    texts = {column: row[column] for column, kind in kinds.items() if kind in ("id", "text") and row[column]}
    after_next = delivery.day + timedelta(days=2)
    if reading.unreadable or any(row[column] is None for column in KEYS[delivery.entity]):
        return False
    if any("\0" in text or (kinds[column] == "id" and len(text) > 200) for column, text in texts.items()):
        return False
    if row["updated_at"] and row["updated_at"] >= start_of_day(after_next, zone):
        return False
    currency = trimmed(reading.told.values.get("currency"))
    if terms["currency"] and currency and unicodedata.normalize("NFC", currency) != terms["currency"]:
        return False
    return is_tombstone(row, delivery) or keeps_row_rules(row, delivery, terms, after_next)


def keeps_row_rules(row: Row, delivery: Delivery, terms: Terms, after_next: date) -> bool:
    """The critical rules of the contracts, which a tombstone need not keep."""
    if any(row[column] is None for column in REQUIRED[delivery.entity]):
        return False
    if any(row.get(column) is not None and row[column] < 0 for column in ("unit_price", "cost")):
        return False
    if delivery.entity != "orders":
        return True
    first, end = (datetime.combine(day, time()) for day in (terms["order_floor"], after_next))
    total = row["quantity"] * Fraction(row["unit_price"]) - Fraction(row["discount_amount"] or 0)
    return bool(row["quantity"]) and first <= row["order_ts"] < end and abs(total) < 10**14


def finished(reading: Reading, delivery: Delivery) -> Row:
    """The row as the warehouse is made from it, nulls that mean something replaced."""
    row = {column: value for column, value in reading.row.items() if column != "is_deleted"}
    if delivery.entity == "orders" and row["discount_amount"] is None:
        row["discount_amount"] = Decimal(0)
    return row | {"deleted": is_tombstone(reading.row, delivery)}


def key_of(reading: Reading, entity: Entity) -> Row:
    """What is known of a quarantined row's key: a text that Postgres cannot hold is the key of nothing."""
    key = {column: reading.row[column] for column in KEYS[entity]}
    return {column: None if "\0" in str(value) else value for column, value in key.items()}


# Deliveries


def exceeds(count: int, whole: int, share: float, least: int) -> bool:
    """More than a share *and* at least so many; the share as it is written, for 0.07 of 100 is 7."""
    return count > Fraction(str(share)) * whole and count >= least


def deletes_too_much(delivery: Delivery, nearest_full: Delivery | None, terms: Terms) -> bool:
    """The guard: whether a full delivery lacks so much of the one before it that half a file is the likelier cause."""
    spared = delivery.mode != "full" or not delivery.rows or delivery.day in terms["accept_deletions"]
    if spared or nearest_full is None:
        return False
    id_column = ID_COLUMNS[delivery.entity]
    known = {row[id_column] for row in nearest_full.rows if not row["deleted"]}
    absent = known - {row[id_column] for row in [*delivery.rows, *delivery.quarantined]}
    return exceeds(len(absent), len(known), terms["deletion_share"], terms["deletion_rows"])


def nearest_full(staged: Iterable[Delivery], entity: Entity, day: date) -> Delivery | None:
    """Of what is staged now the nearest earlier full delivery that is not empty."""
    earlier = [d for d in staged if d.entity == entity and d.day < day and d.mode == "full" and d.rows]
    return max(earlier, key=lambda delivery: delivery.day, default=None)


# Values: a reader takes a text without surrounding blanks; ValueError or OverflowError: it cannot be read

# Unicode's white space; Python's own strip() would take the separators of files and records as well.
BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(E[+-]?[0-9]{1,5})?", re.IGNORECASE)
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
CLOCK = r"[0-2][0-9]:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
OFFSET = r"Z|[+-](0[0-9]|1[0-5])(:?[0-9]{2})?"
TIME = re.compile(rf"{DATE.pattern}([T ]{CLOCK}( ?({OFFSET}))?)?")
BOOLEANS = dict.fromkeys(("true", "t", "yes", "y", "1"), True) | dict.fromkeys(("false", "f", "no", "n", "0"), False)


def trimmed(text: str | None) -> str | None:
    """The text without surrounding blanks; '' is null."""
    return (text or "").strip(BLANKS) or None


def exactly(text: str, places: int, below: int) -> Fraction:
    """The number if it has so few decimals and is so small: nothing is rounded, and no float is made."""
    if not NUMBER.fullmatch(text):
        raise ValueError("no number")
    value = Fraction(text)
    if (value * 10**places).denominator != 1 or abs(value) >= below:
        raise ValueError("not this type's")
    return value


def money(text: str, zone: ZoneInfo) -> Decimal:
    return Decimal(int(exactly(text, 4, 10**14) * 10**4)).scaleb(-4)


def integer(text: str, zone: ZoneInfo) -> int:
    value = int(exactly(text, 0, 2**31 + 1))
    if value == 2**31:
        raise ValueError("one too many")
    return value


def moment(text: str, zone: ZoneInfo) -> datetime:
    """ISO 8601, cut to microseconds; without offset it is business time, a repeated one the earlier."""
    text = text.upper()
    if not TIME.fullmatch(text):
        raise ValueError("no time")
    written = datetime.fromisoformat(text[:10] + "T" + text[11:].replace(" ", "") if text[10:] else text)
    if written.tzinfo:
        return written.astimezone(UTC)
    instant = written.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != written:
        raise ValueError("skipped by daylight saving")
    return instant


def local_time(text: str, zone: ZoneInfo) -> datetime:
    return moment(text, zone).astimezone(zone).replace(tzinfo=None)


def day_of(text: str, zone: ZoneInfo) -> date:
    """A date alone is that date, also where its midnight is skipped; of a time it is the date in business time."""
    return date.fromisoformat(text) if DATE.fullmatch(text) else local_time(text, zone).date()


def boolean(text: str, zone: ZoneInfo) -> bool:
    if text.lower() not in BOOLEANS:
        raise ValueError("neither true nor false")
    return BOOLEANS[text.lower()]


READERS = {
    "id": lambda text, zone: unicodedata.normalize("NFC", text),
    "text": lambda text, zone: text,
    "money": money,
    "integer": integer,
    "boolean": boolean,
    "instant": moment,
    "local time": local_time,
    "date": day_of,
}
