"""Moves of customers and products: histories made, split, ended, resurrected, and told twice."""

from datetime import timedelta

from data_platform_tests.proof.delivered import Delivered
from data_platform_tests.proof.moves import Dice, Shop, at, gone, member, move, often

ONE = timedelta(days=1)


@move
def a_new_key(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    [day] = shop.days(1)
    return [shop.changes(m, day, member(m, shop.fresh(m, dice), dice.below(4)))]


@move
def an_update_and_its_repetition(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two, three) = shop.key(m, dice), shop.days(3)
    value = dice.below(4)
    return [
        shop.changes(m, one, member(m, key, value)),
        shop.changes(m, two, member(m, key, value + 1)),
        shop.changes(m, three, member(m, key, value + 1)),
    ]


@move
def several_changes_in_one_delivery(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, days = shop.key(m, dice), shop.days(3)
    rows = [member(m, key, value, updated_at=at(day)) for value, day in enumerate(days)]
    return [shop.changes(m, days[-1], *(rows[::-1] if dice.chance(2) else rows))]


@move
def several_changes_on_one_day(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two) = shop.key(m, dice), shop.days(2)
    evening, morning = (member(m, key, value, updated_at=at(one, hour)) for value, hour in ((1, 18), (2, 8)))
    if dice.chance(2):
        return [shop.changes(m, one, evening, morning)]
    return [shop.changes(m, one, evening), shop.changes(m, two, morning)]


@move
def a_whole_life_in_one_delivery(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two, three, four) = shop.unversioned(m, dice), shop.days(4)
    return [
        shop.changes(
            m,
            four,
            member(m, key, 0, updated_at=at(one)),
            member(m, key, 1, updated_at=at(two)),
            gone(m, key, updated_at=at(three)),
            member(m, key, dice.below(3), updated_at=at(four)),
        )
    ]


@move
def a_late_event_before_all_history(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two) = shop.key(m, dice), shop.days(2)
    value = dice.below(3)
    versions = [version for version in shop.versions(m, key) if not version["is_inferred"]]
    if versions:
        before = versions[0]["effective_from"] - ONE * (1 + dice.below(3))
        return [shop.changes(m, one, member(m, key, value, updated_at=at(before)))]
    return [
        shop.changes(m, two, member(m, key, 0)),
        shop.changes(m, two + ONE, member(m, key, value, updated_at=at(one))),
    ]


@move
def a_late_event_inside_a_closed_version(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    long = [
        version
        for version in shop.versions(m)
        if version["effective_to"] and (version["effective_to"] - version["effective_from"]).days > 1
    ]
    if long and dice.chance(2):
        [today] = shop.days(1)
        version = dice.one_of(long)
        inside = version["effective_from"] + ONE
        key = version["customer_id" if m == "customers" else "product_id"]
        return [shop.changes(m, today, member(m, key, dice.below(4), updated_at=at(inside)))]
    key, (one, two, three, four) = shop.key(m, dice), shop.days(4)
    return [
        shop.changes(m, one, member(m, key, 0)),
        shop.changes(m, three, member(m, key, 1)),
        shop.changes(m, four, member(m, key, 2 + dice.below(2), updated_at=at(two))),
    ]


@move
def a_late_event_inside_an_unchanged_run(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two, three, four) = shop.key(m, dice), shop.days(4)
    return [
        shop.changes(m, one, member(m, key, 0)),
        shop.changes(m, three, member(m, key, 0)),
        shop.changes(m, four, member(m, key, 1, updated_at=at(two))),
    ]


@often
def two_late_events_split_two_versions(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two, three, four, five) = shop.key(m, dice), shop.days(5)
    return [
        shop.changes(m, one, member(m, key, 0)),
        shop.changes(m, three, member(m, key, 1)),
        shop.changes(m, five, member(m, key, 0)),
        shop.changes(
            m, five + ONE, member(m, key, 2, updated_at=at(two)), member(m, key, 3, updated_at=at(four))
        ),
    ]  # fmt: skip


@move
def a_late_delete_in_a_closed_version(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two, three, four) = shop.key(m, dice), shop.days(4)
    return [
        shop.changes(m, one, member(m, key, 0)),
        shop.changes(m, three, member(m, key, 1)),
        shop.changes(m, four, gone(m, key, updated_at=at(two))),
    ]


@move
def a_delete_of_an_unknown_key(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    [day] = shop.days(1)
    return [shop.changes(m, day, gone(m, shop.fresh(m, dice)))]


@often
def an_upsert_older_than_a_recorded_delete(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two, three) = shop.key(m, dice), shop.days(3)
    return [
        shop.changes(m, two, gone(m, key)),
        shop.changes(m, three, member(m, key, dice.below(4), updated_at=at(one))),
    ]


@move
def a_resurrection_with_the_same_values(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two, three) = shop.key(m, dice), shop.days(3)
    return [
        shop.changes(m, one, member(m, key, 1)),
        shop.changes(m, two, gone(m, key)),
        shop.changes(m, three, member(m, key, 1)),
    ]


@often
def a_delete_that_is_told_twice(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two, three) = shop.key(m, dice), shop.days(3)
    again = gone(m, key, updated_at=at(one, 15)) if dice.chance(2) else gone(m, key)
    return [
        shop.changes(m, one, member(m, key, 2)),
        shop.changes(m, two, gone(m, key)),
        shop.changes(m, three, again),
    ]


@move
def a_value_that_reverts(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, days = shop.key(m, dice), shop.days(3)
    return [shop.changes(m, day, member(m, key, value)) for day, value in zip(days, (0, 1, 0), strict=True)]


@move
def a_value_that_becomes_null_and_returns(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, days = shop.key(m, dice), shop.days(3)
    return [shop.changes(m, day, member(m, key, value)) for day, value in zip(days, (0, None, 1), strict=True)]


@often
def two_tellings_of_one_moment(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two) = shop.key(m, dice), shop.days(2)
    other = dice.below(2)
    told = [
        shop.changes(m, one, member(m, key, 0, updated_at=at(one))),
        shop.changes(m, two, member(m, key, other, updated_at=at(one))),
    ]
    return told[::-1] if dice.chance(2) else told


@often
def days_three_one_two(shop: Shop, dice: Dice) -> list[Delivered]:
    m = shop.member(dice, "changes")
    key, (one, two, three) = shop.key(m, dice), shop.days(3)
    middle = gone(m, key) if dice.chance(2) else member(m, key, 1)
    return [
        shop.changes(m, three, member(m, key, 2)),
        shop.changes(m, one, member(m, key, 0)),
        shop.changes(m, two, middle),
    ]


@often
def an_overwritten_column(shop: Shop, dice: Dice) -> list[Delivered]:
    """It changes late and older, then alone, then with a deletion, and maybe a return."""
    key, (one, two, three, four, five, six) = shop.key("customers", dice), shop.days(6)
    late = member("customers", key, dice.below(2), email="late@x", updated_at=at(one))
    told = [
        shop.changes("customers", two, member("customers", key, 0, email="old@x")),
        shop.changes("customers", three, late),
        shop.changes("customers", four, member("customers", key, 0, email=dice.one_of(("new@x", None)))),
        shop.changes("customers", five, gone("customers", key, email="no@x")),
        shop.changes("customers", six, member("customers", key, 0, email="again@x")),
    ]
    return told[: 4 + dice.below(2)]
