"""Moves of orders: lines told, corrected, cancelled and moved, and the members that they name."""

from datetime import date, timedelta

from data_platform_tests.proof.delivered import Delivered
from data_platform_tests.proof.moves import (
    KEYS,
    MEMBERS,
    VALUE,
    VALUES,
    Dice,
    Shop,
    Texts,
    at,
    cancelled,
    gone,
    line,
    member,
    move,
    often,
)
from data_platform_tests.reference import ID_COLUMNS

ONE = timedelta(days=1)


def any_order(dice: Dice) -> tuple[str, int]:
    return dice.one_of(KEYS["orders"]), 1 + dice.below(2)


def correction(shop: Shop, dice: Dice, **columns: str | None) -> list[Delivered]:
    """A line, and on the next day the same with other `columns`."""
    key, (one, two) = any_order(dice), shop.days(2)
    return [shop.lines(one, line(*key, one)), shop.lines(two, line(*key, one, **columns))]


# Members that lines name


@move
def a_line_before_its_dimension_row(shop: Shop, dice: Dice) -> list[Delivered]:
    m = dice.one_of(MEMBERS)
    key, (one, two, three) = shop.unversioned(m, dice), shop.days(3)
    told = [
        shop.lines(one, line(*any_order(dice), one, **{ID_COLUMNS[m]: key})),
        shop.changes(m, two, member(m, key, 0)),
        shop.changes(m, three, member(m, key, 1)),
    ]
    return [told[1], told[0]] if dice.chance(3) else told


@move
def a_late_dimension_version(shop: Shop, dice: Dice) -> list[Delivered]:
    m = dice.one_of(MEMBERS)
    key, (one, two, three, four) = shop.key(m, dice), shop.days(4)
    named: Texts = {ID_COLUMNS[m]: key}
    return [
        shop.changes(m, one, member(m, key, 0)),
        shop.lines(three, line("o1", 1, one, **named), line("o2", 1, three, **named)),
        shop.changes(m, four, member(m, key, 1 + dice.below(2), updated_at=at(two, 8))),
    ]


@move
def a_line_in_the_gap_of_a_deletion(shop: Shop, dice: Dice) -> list[Delivered]:
    m = dice.one_of(MEMBERS)
    key, (one, two, three, four) = shop.key(m, dice), shop.days(4)
    return [
        shop.changes(m, one, member(m, key, 0)),
        shop.changes(m, two, gone(m, key)),
        shop.lines(three, line(*any_order(dice), three, **{ID_COLUMNS[m]: key})),
        shop.changes(m, four, member(m, key, dice.below(2))),
    ][: 3 + dice.below(2)]


@move
def an_inferred_member_is_made_and_upgraded(shop: Shop, dice: Dice) -> list[Delivered]:
    m = dice.one_of(MEMBERS)
    key, (one, two) = shop.unversioned(m, dice), shop.days(2)
    told = [
        shop.lines(one, line(*any_order(dice), one, **{ID_COLUMNS[m]: key})),
        shop.changes(m, two, member(m, key, dice.below(3))),
    ]
    return told[: 1 + dice.below(2)]


@often
def an_inferred_member_is_restored(shop: Shop, dice: Dice) -> list[Delivered]:
    m = dice.one_of(MEMBERS)
    key, (one, two) = shop.unversioned(m, dice), shop.days(2)
    told = [
        shop.lines(one, line("o1", 1, one, **{ID_COLUMNS[m]: key})),
        shop.changes(m, two, member(m, key, 0)),
        shop.changes(m, two),
    ]
    return [told[1], told[0], told[2]] if dice.chance(2) else told


@move
def an_inferred_member_is_gone(shop: Shop, dice: Dice) -> list[Delivered]:
    m = dice.one_of(MEMBERS)
    key, (one, two) = shop.unversioned(m, dice), shop.days(2)
    order = any_order(dice)
    last = cancelled(*order) if dice.chance(2) else line(*order, one)
    told = [shop.lines(one, line(*order, one, **{ID_COLUMNS[m]: key})), shop.lines(two, last)]
    if dice.chance(3):
        return [told[0], shop.lines(one)]
    return told


@often
def lines_of_an_unknown_a_missing_and_a_deleted_customer(shop: Shop, dice: Dice) -> list[Delivered]:
    key, unknown, (one, two, three) = shop.key("customers", dice), shop.unversioned("customers", dice), shop.days(3)
    return [
        shop.changes("customers", one, member("customers", key, 0)),
        shop.changes("customers", two, gone("customers", key)),
        shop.lines(
            three,
            line("o1", 1, three, customer_id=unknown),
            line("o2", 1, three, customer_id=None),
            line("o3", 1, three, customer_id=key),
        ),
    ]


# Tellings


@move
def a_line_is_told_twice(shop: Shop, dice: Dice) -> list[Delivered]:
    key, (one, two) = any_order(dice), shop.days(2)
    row = line(*key, one)
    other = row | {"status": "paid"} if dice.chance(2) else row | {"quantity": "2"}
    again = row if dice.chance(2) else row | {"status": "shipped"}
    return [
        shop.lines(one, row, *([row] if dice.chance(2) else []), other, unit="line"),
        shop.lines(two, again, unit="line"),
    ]


@often
def a_rolling_extract(shop: Shop, dice: Dice) -> list[Delivered]:
    (order, number), (one, two, three) = any_order(dice), shop.days(3)
    # The moment is told again as it was, also by a source whose other rows are of their day.
    first = line(order, number, one, updated_at=at(one) if shop.moments.get("orders") == "always" else None)
    other = line(dice.one_of(KEYS["orders"]), 3, two)
    corrected = first | {"quantity": "2"} if dice.chance(4) else first
    told = [shop.lines(one, first), shop.lines(two, corrected, other), shop.lines(three, first, other)]
    return told[::-1] if dice.chance(4) else told


@move
def a_correction(shop: Shop, dice: Dice) -> list[Delivered]:
    columns = ({"quantity": "3"}, {"unit_price": "9", "discount_amount": "1"}, {"customer_id": None})
    return correction(shop, dice, **dice.one_of(columns))


@often
def an_older_correction_after_a_newer(shop: Shop, dice: Dice) -> list[Delivered]:
    key, (one, two, three) = any_order(dice), shop.days(3)
    return [
        shop.lines(one, line(*key, one, updated_at=at(one))),
        shop.lines(two, line(*key, one, quantity="3", updated_at=at(two))),
        shop.lines(three, line(*key, one, quantity="2", updated_at=at(one, 20))),
    ]


@move
def lines_are_cancelled_deleted_and_reinstated(shop: Shop, dice: Dice) -> list[Delivered]:
    one_order, other, (one, two, three) = dice.one_of(KEYS["orders"]), dice.one_of(KEYS["orders"]), shop.days(3)
    told = [
        shop.lines(one, line(one_order, 1, one), line(other, 2, one)),
        shop.lines(two, cancelled(one_order, 1), cancelled(other, 2, dice.one_of(("deleted", "Deleted")))),
        shop.lines(three, line(one_order, 1, one)),
    ]
    if dice.chance(5):
        return [told[0], told[2], told[1]]
    return told[: 2 + dice.below(2)]


@move
def a_tombstone_before_its_line(shop: Shop, dice: Dice) -> list[Delivered]:
    key, (one, two) = any_order(dice), shop.days(2)
    return [
        shop.lines(two, cancelled(*key, status=dice.one_of(("deleted", "cancelled")))),
        shop.lines(two + ONE, line(*key, one, updated_at=at(one))),
    ]


@move
def a_date_is_changed_across_the_year(shop: Shop, dice: Dice) -> list[Delivered]:
    key, (one, two) = any_order(dice), shop.days(2)
    last, first = date(one.year - 1, 12, 31), date(one.year, 1, 1)
    if dice.chance(2):
        last, first = first, last
    return [shop.lines(one, line(*key, last)), shop.lines(two, line(*key, first))]


@move
def an_order_of_a_year_without_a_partition(shop: Shop, dice: Dice) -> list[Delivered]:
    [day] = shop.days(1)
    return [shop.lines(day, line(*any_order(dice), date(2016 + dice.below(5), 2, 28)))]


@often
def orders_of_impossible_dates(shop: Shop, dice: Dice) -> list[Delivered]:
    order, (one, two) = dice.one_of(KEYS["orders"]), shop.days(2)
    late = dice.one_of((date(2204, 1, 1), two + 2 * ONE))
    early = dice.one_of((date(1999, 12, 31), date(1970, 1, 1)))
    return [
        shop.lines(one, line(order, 1, one), line(order, 2, one)),
        shop.lines(two, line(order, 1, late, order_ts=at(late, 0)), line(order, 2, early, order_ts=at(early, 23, 59))),
    ]


@move
def an_order_of_tomorrow(shop: Shop, dice: Dice) -> list[Delivered]:
    [day] = shop.days(1)
    return [shop.lines(day, line(*any_order(dice), day, order_ts=at(day + ONE, 23, 59)))]


@often
def a_return_before_its_sale(shop: Shop, dice: Dice) -> list[Delivered]:
    order, product, (one, two) = shop.fresh("orders", dice), dice.one_of(KEYS["products"]), shop.days(2)
    back = line(order, 2, two, product_id=product, quantity="-1", discount_amount="-0.5")
    sale = line(order, 1, one, product_id=product, quantity="2")
    return [shop.lines(one, back, unit="line"), shop.lines(two, sale, unit="line")]


@often
def signs_change_both_ways(shop: Shop, dice: Dice) -> list[Delivered]:
    order, (one, two) = dice.one_of(KEYS["orders"]), shop.days(2)
    return [
        shop.lines(day, line(order, 1, one, quantity=sign), line(order, 2, one, quantity=other))
        for day, sign, other in ((one, "2", "-1"), (two, "-2", "1"))
    ]


# Numbers


@move
def a_quantity_of_zero(shop: Shop, dice: Dice) -> list[Delivered]:
    return correction(shop, dice, quantity="0")


@often
def a_price_of_zero(shop: Shop, dice: Dice) -> list[Delivered]:
    return correction(shop, dice, unit_price="0", quantity="2")


@move
def prices_of_four_and_five_decimals(shop: Shop, dice: Dice) -> list[Delivered]:
    order, [day] = dice.one_of(KEYS["orders"]), shop.days(1)
    four = line(order, 1, day, unit_price="0.3333", quantity="3", discount_amount=dice.one_of(("0", "0.0001")))
    five = line(order, 2, day, unit_price=dice.one_of(("0.33333", "7.00001")))
    return [shop.lines(day, four, five)]


@move
def a_total_that_overflows(shop: Shop, dice: Dice) -> list[Delivered]:
    product = shop.key("products", dice)
    told = correction(shop, dice, product_id=product, quantity=str(2**31 - 1), unit_price="99999999999999")
    cost = {VALUE["products"]: dice.one_of(("99999999999999.9999", VALUES["products"][0]))}
    # A profit may have more digits than a total.
    return [shop.changes("products", told[0].day, member("products", product, 0, **cost)), *told]


# Orders as a whole


@often
def a_line_is_dropped_from_a_replaced_delivery(shop: Shop, dice: Dice) -> list[Delivered]:
    (order, number), (one, two) = any_order(dice), shop.days(2)
    other = line(dice.one_of(KEYS["orders"]), 3, two)
    last = cancelled(order, number) if dice.chance(3) else line(order, number, one, quantity="2")
    return [
        shop.lines(one, line(order, number, one)),
        shop.lines(two, last, other),
        shop.lines(two, *([other] if dice.chance(2) else [])),
    ]


@move
def an_order_comes_again_with_fewer_lines(shop: Shop, dice: Dice) -> list[Delivered]:
    order, (one, two, three) = dice.one_of(KEYS["orders"]), shop.days(3)
    rows = [line(order, number, one, quantity=str(number)) for number in (1, 2, 3)]
    fewer = dice.one_of((rows[:1], rows[1:], [rows[0], rows[1] | {"quantity": "many"}]))
    told = [shop.lines(one, *rows, unit="order"), shop.lines(two, *fewer, unit="order")]
    return [*told, shop.lines(three, *rows[:2], unit="order")] if dice.chance(2) else told


@move
def an_order_in_two_deliveries(shop: Shop, dice: Dice) -> list[Delivered]:
    order, (one, two) = dice.one_of(KEYS["orders"]), shop.days(2)
    unit = dice.one_of((shop.unit(), "line", "order"))
    first = shop.lines(one, line(order, 1, one), line(order, 2, one), unit=shop.unit())
    second = shop.lines(two, line(order, 1, one, quantity="3"), line(order, 3, two), unit=unit)
    return [second, first] if dice.chance(2) else [first, second]


@move
def a_whole_order_is_cancelled(shop: Shop, dice: Dice) -> list[Delivered]:
    order, (one, two, three) = dice.one_of(KEYS["orders"]), shop.days(3)
    rows = [line(order, number, one) for number in (1, 2)]
    told = [
        shop.lines(one, *rows, unit="order"),
        shop.lines(two, *(rows[:1] if dice.chance(2) else []), cancelled(order, 1), unit="order"),
        shop.lines(three, *rows, unit="order"),
    ]
    return told[: 2 + dice.below(2)]
