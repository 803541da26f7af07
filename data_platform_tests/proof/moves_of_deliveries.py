"""Moves of whole deliveries: full states, columns that come and go, replays, and days on which clocks are changed."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from data_platform_tests.proof.delivered import Delivered, Told
from data_platform_tests.proof.moves import (
    ENTITIES,
    KEYS,
    MEMBERS,
    UNREADABLE,
    Dice,
    Shop,
    Texts,
    at,
    gone,
    line,
    member,
    move,
    often,
)
from data_platform_tests.reference import ID_COLUMNS, Entity

ONE = timedelta(days=1)
REPLAYED_AT_MOST = 6
# Attributes that a source may leave out, of both kinds.
OPTIONAL: dict[Entity, tuple[str, ...]] = {
    "customers": ("country", "email", "segment"),
    "products": ("brand", "cost"),
    "orders": ("discount_amount", "status", "updated_at", "customer_id"),
}


# Full states


@often
def all_is_well(shop: Shop, dice: Dice) -> list[Delivered]:
    """Each source goes on in its way: the next day, something new."""
    [day] = shop.days(1)
    told = []
    for m in MEMBERS:
        row = member(m, shop.key(m, dice), dice.below(4))
        if shop.mode(m) == "full":
            told.append(shop.full(m, day, *shop.current(m, but=row[ID_COLUMNS[m]]), row))
        else:
            told.append(shop.changes(m, day, row))
    return [*told, shop.lines(day, line(dice.one_of(KEYS["orders"]), 1, day))]


@often
def a_full_delivery_is_missing_or_comes_later(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "full")
    key, other, (one, two, three) = shop.key(m, dice), shop.key(m, dice), shop.days(3)
    rest = shop.current(m, but=key)
    told = [
        shop.full(m, one, *rest, member(m, key, 0)),
        shop.full(m, three, *rest, member(m, key, dice.below(2))),
        shop.full(m, two, *(rest or [member(m, other, 1)]), *([member(m, key, 1)] if dice.chance(2) else [])),
    ]
    return told[:2] if dice.chance(3) else told


@often
def a_full_delivery_lacks_a_key(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "full")
    key, other, (one, two, three) = shop.key(m, dice), dice.one_of(KEYS[m]), shop.days(3)
    rest = shop.current(m, but=key) or [member(m, other, 2)]
    told = [
        shop.full(m, one, *rest, member(m, key, 0)),
        shop.full(m, two, *rest),
        # Back again, with an updated_at that says nothing happened.
        shop.full(m, three, *rest, member(m, key, 0, updated_at=at(one))),
    ]
    return told if dice.chance(2) else told[:2]


@move
def a_full_delivery_is_empty(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "full")
    key, (one, two) = shop.key(m, dice), shop.days(2)
    rows = (*shop.current(m, but=key), member(m, key, 0))
    if dice.chance(3):
        return [shop.full(m, one, *rows), shop.full(m, two, member(m, key, 0, **UNREADABLE[m]))]
    return [shop.full(m, one, *rows), shop.full(m, two)]


@often
def a_full_delivery_lacks_too_much(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "full")
    key, (one, two) = dice.one_of(KEYS[m]), shop.days(2)
    accepted = {"accept_deletions": (two,)} if dice.chance(2) else {}
    return [
        shop.full(m, one, *(member(m, each, 0) for each in KEYS[m][:4])),
        shop.full(m, two, member(m, key, 1), deletion_rows=2, **accepted),
    ]


@often
def a_key_is_absent_but_quarantined(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "full")
    key, other, (one, two) = shop.key(m, dice), dice.one_of(KEYS[m]), shop.days(2)
    rest = shop.current(m, but=key) or [member(m, other, 2)]
    return [
        shop.full(m, one, *rest, member(m, key, 0)),
        shop.full(m, two, *rest, member(m, key, 1, **UNREADABLE[m])),
    ]


@move
def a_key_stands_twice_in_a_full_delivery(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "full")
    key, [day] = shop.key(m, dice), shop.days(1)
    last = gone(m, key) if dice.chance(3) else member(m, key, 2)
    return [shop.full(m, day, *shop.current(m, but=key), member(m, key, 1, updated_at=at(day, 18)), last)]


# Columns


@often
def a_column_is_added_or_dropped(shop: Shop, dice: Dice) -> list[Delivered]:
    m = dice.one_of(MEMBERS)
    column = dice.one_of(OPTIONAL[m])
    key, (one, two, three) = shop.key(m, dice), shop.days(3)
    filled = {column: "3" if m == "products" else "x"}
    told = [
        shop.changes(m, one, member(m, key, 0) | filled, without=() if dice.chance(2) else [column]),
        shop.changes(m, two, member(m, key, 0) | filled, without=[column]),
        shop.changes(m, three, member(m, key, dice.below(2)) | filled),
    ]
    return told[:2] if dice.chance(3) else told


@move
def a_column_is_widened(shop: Shop, dice: Dice) -> list[Delivered]:
    key, days = shop.key("products", dice), shop.days(3)
    costs = (("5", "5.0000", "5.0001"), ("0", "-0.0", "0.000"))[dice.below(2)]
    return [
        shop.changes("products", day, member("products", key, cost=cost))
        for day, cost in zip(days, costs, strict=True)
    ]  # fmt: skip


@move
def a_column_is_of_a_wrong_type(shop: Shop, dice: Dice) -> list[Delivered]:
    entity = dice.one_of(ENTITIES)
    one, two = shop.days(2)
    key = shop.key(entity, dice)
    if entity == "orders":
        return [
            shop.lines(one, line(key, 1, one)),
            shop.lines(two, line(key, 1, two, **UNREADABLE["orders"]), line(key, 2, two)),
        ]
    return [
        shop.changes(entity, one, member(entity, key, 0)),
        shop.changes(entity, two, member(entity, key, 1, **UNREADABLE[entity])),
    ]


@move
def a_source_has_an_effective_from_of_its_own(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two) = shop.key(m, dice), shop.days(2)
    return [
        shop.changes(m, day, member(m, key, 0, effective_from=f"{year}-01-01"), extra=["effective_from"])
        for day, year in ((one, 1999), (two, 2001))
    ]


@move
def ids_of_all_kinds(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    [day] = shop.days(1)
    ids = [f"  {KEYS[m][0]}\t", KEYS[m][3], KEYS[m][4], 'O\'Brien "x"', "a  b", "🛒", "x" * 201, None]
    order = line(dice.one_of(KEYS["orders"]), 1, day, **{ID_COLUMNS[m]: dice.one_of(ids[:6])})
    return [shop.changes(m, day, *(member(m, key, 1) for key in ids)), shop.lines(day, order)]


@move
def a_key_is_not_given(shop: Shop, dice: Dice) -> list[Delivered]:
    m, [day] = dice.one_of(MEMBERS), shop.days(1)
    key = shop.key(m, dice)
    return [shop.deliver(m, day, *shop.current(m, but=key), member(m, key, 1), member(m, dice.one_of((None, " ")), 1))]


# Deliveries again


def again(shop: Shop, dice: Dice, most: int = 1) -> list[tuple[Entity, date]]:
    """Some days in a row of which one entity told something; none where nobody did yet."""
    told = {place for place, delivered in shop.told.items() if delivered.rows}
    entities = [entity for entity in ENTITIES if any(of == entity for of, _ in told)]
    if not entities:
        return []
    entity = dice.one_of(entities)
    days = sorted(day for of, day in told if of == entity)
    start = dice.below(max(len(days) - 1, 1))
    return [(entity, day) for day in days[start : start + most]]


@often
def a_range_is_told_again(shop: Shop, dice: Dice) -> list[Delivered]:
    return [shop.told[told] for told in again(shop, dice, REPLAYED_AT_MOST)]


@move
def a_day_is_emptied(shop: Shop, dice: Dice) -> list[Delivered]:
    return [
        Delivered(entity, day, shop.told[entity, day].columns, (), shop.told[entity, day].terms)
        for entity, day in again(shop, dice, 1 + dice.below(2))
    ]


@move
def a_day_loses_a_row(shop: Shop, dice: Dice) -> list[Delivered]:
    told = []
    for entity, day in again(shop, dice):
        former = shop.told[entity, day]
        lost = dice.below(len(former.rows))
        rows = tuple(row for number, row in enumerate(former.rows) if number != lost)
        told.append(Delivered(entity, day, former.columns, rows, former.terms))
    return told


# Clocks


@cache
def clock_changes(timezone: str) -> Sequence[date]:
    """The days of 2023 and 2024 that are not 24 hours long."""
    zone = ZoneInfo(timezone)
    days = [date(2023, 1, 1) + n * ONE for n in range(730)]
    return [day for day in days if _offset(day, zone) != _offset(day + ONE, zone)]


def _offset(day: date, zone: ZoneInfo) -> timedelta | None:
    return datetime.combine(day, time(), zone).utcoffset()


@move
def a_day_on_which_clocks_are_changed(shop: Shop, dice: Dice) -> list[Delivered]:
    changes = clock_changes(shop.timezone)
    if not changes:
        return all_is_well(shop, dice)
    m, day = shop.member(dice, "changes"), dice.one_of(changes)
    key, order = shop.key(m, dice), dice.one_of(KEYS["orders"])
    # 22 to 2 o'clock around the change, in business time and in UTC, times among them that are skipped or repeated.
    hours = [at(day - ONE, 23, 30), at(day, 0, 30), at(day, 2, 30), at(day, 3), at(day, 23, 30), at(day + ONE, 0)]
    hours += [f"{hour}Z" for hour in hours]
    rows = [member(m, key, n, updated_at=dice.one_of(hours)) for n in range(3)]
    told = shop.changes(m, day, *rows, member(m, dice.one_of(KEYS[m]), 0))
    return [told, shop.lines(day, line(order, 1, day) | {"order_ts": dice.one_of(hours[:5])})]


# Anything


@move
def anything(shop: Shop, dice: Dice) -> list[Delivered]:
    """A delivery with neither plan nor manners."""
    entity = dice.one_of(ENTITIES)
    [day] = shop.days(1)
    if not dice.below(3):
        day = shop.first + ONE * dice.below(max((shop.today - shop.first).days, 0) + 1)
    count = dice.below(6)
    if entity == "orders":
        rows = [_any_line(dice, day) for _ in range(count)]
    else:
        rows = [_any_member(entity, dice, day) for _ in range(count)]
    without = [dice.one_of(OPTIONAL[entity])] if dice.chance(6) else []
    settings: dict[str, object] = {"exact_copies": "keep"} if dice.chance(8) else {}
    if dice.chance(8):
        settings |= {"unit": "order"} if entity == "orders" else {"mode": "full"}
    if dice.chance(8):
        settings |= {"reject_rows": 2}
    told = shop.deliver(entity, day, *rows, without=without, **settings)
    if dice.chance(3):
        return [told]
    # Two files, of which the one with the smaller name in bytes was written last.
    files = [dice.one_of(("a.csv", "B.csv")) for _ in told.rows]
    numbers = [files[: n + 1].count(file) for n, file in enumerate(files)]
    rows_of_two = tuple(
        Told(file, number, row.values) for row, file, number in zip(told.rows, files, numbers, strict=True)
    )
    return [Delivered(entity, day, told.columns, rows_of_two, told.terms)]


def _moment(dice: Dice, day: date) -> str | None:
    if dice.below(2) == 0:
        return None
    return at(day - ONE * dice.one_of((0, 1, 2, 4, -1, -2)), dice.one_of((0, 2, 9, 23))) + dice.one_of(("", "Z"))


def _any_member(entity: Entity, dice: Dice, day: date) -> Texts:
    key = dice.one_of(KEYS[entity])
    if dice.chance(5):
        return gone(entity, key, updated_at=_moment(dice, day))
    row = member(entity, key, dice.one_of((0, 1, 2, None)), updated_at=_moment(dice, day))
    if entity == "customers":
        row |= {"email": dice.one_of(("x@x", "y@y", None)), "country": dice.one_of(("NL", "\\.", None))}
    return row | UNREADABLE[entity] if dice.chance(8) else row


def _any_line(dice: Dice, day: date) -> Texts:
    order, number = dice.one_of(KEYS["orders"]), 1 + dice.below(2)
    if dice.chance(5):
        status = dice.one_of(("cancelled", "Deleted"))
        return {"order_id": order, "line_number": str(number), "status": status, "updated_at": _moment(dice, day)}
    row = line(
        order,
        number,
        day - ONE * dice.one_of((0, 1, 5, 30, 400, -1)),
        customer_id=dice.one_of((*KEYS["customers"], None)),
        product_id=dice.one_of(KEYS["products"]),
        quantity=dice.one_of(("1", "2", "-1", "0")),
        unit_price=dice.one_of(("10", "0.0001", "0")),
        updated_at=_moment(dice, day),
    )
    return row | UNREADABLE["orders"] if dice.chance(8) else row
