"""The reference against the table of cases, whose expected values were computed by hand."""

from collections import Counter
from dataclasses import replace

import pytest

from data_platform_tests.cases import CASES, OVERWRITTEN, TRACKED, Case
from data_platform_tests.reference import Delivery, Warehouse, warehouse

# The design's list (warehouse-semantics.md, "Cases"), entries with alternatives taken apart.
DESIGN_LIST = """
new key · update · unchanged re-delivery · several changes in one delivery · several on one day
insert, update, delete, reinsert in one delivery · late event before all history · inside a closed version
inside an unchanged run (A B A) · two late events splitting two versions at once · late delete in a closed version
delete of an unknown key · upsert delivered later but earlier than a recorded delete
delete and resurrect with the same values · delete delivered twice · value reverting to an old one · null key
null attributes both ways · key twice in one full delivery · same moment, same payload · same moment, other payload
replay of a whole range · days 3, 1, 2 · full delivery missing · full delivery out of order · full delivery partial
full delivery empty · full delivery refused · full delivery accepted · key absent then present with an old updated_at
absent but quarantined · column added · column dropped · column widened · column of a wrong type · type-1 column alone
type-1 column late and older · type-1 column with a deletion · a source column named effective_from
ids with quotes, blanks, capitals, emoji, 201 characters · daylight-saving days · two writers at once
before its dimension row · late dimension version · in a deletion's gap · inferred made · inferred upgraded
inferred restored · inferred gone · duplicate within and across deliveries · rolling extract · correction
an older correction after it · cancelled · deleted · reinstated · date changed across a year's partition
order dated in a year without a partition yet · order dated in the far future · order dated before the floor
return before its sale · sign changes both ways · quantity 0 · zero price · four decimals · five decimals
a total that overflows · unknown, missing and deleted customer · line dropped from a replaced delivery
order with fewer lines again (`unit: order`) · order in two deliveries
"""
NOT_A_MATTER_OF_WHAT_IS_STAGED = {"two writers at once"}


def warehouse_of(deliveries: list[Delivery], timezone: str) -> Warehouse:
    return warehouse(deliveries, timezone, TRACKED, OVERWRITTEN)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_reference_gives_what_was_computed_by_hand(case: Case) -> None:
    actual = warehouse_of(case.deliveries, case.timezone)
    assert actual.customers == case.expected.customers
    assert actual.products == case.expected.products
    assert actual.sales == case.expected.sales
    assert actual.returns == case.expected.returns
    assert actual.counts == case.expected.counts


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_order_of_arrival_and_of_rows_does_not_matter(case: Case) -> None:
    backward = [replace(d, rows=d.rows[::-1], quarantined=d.quarantined[::-1]) for d in case.deliveries[::-1]]
    assert warehouse_of(backward, case.timezone) == case.expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_classes_of_a_case_balance_with_its_staged_rows(case: Case) -> None:
    for delivery in case.deliveries:
        assert case.expected.counts[delivery.entity, delivery.day].total() == len(delivery.rows)
    classes: Counter[str] = sum(case.expected.counts.values(), Counter())
    assert classes["sale"] == len(case.expected.sales)
    assert classes["return"] == len(case.expected.returns)
    recorded = [v for v in case.expected.customers + case.expected.products if not v["is_inferred"]]
    assert classes["version"] == len(recorded)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_replaces_what_it_staged_formerly(case: Case) -> None:
    staged_in_the_end = {(delivery.entity, delivery.day) for delivery in case.deliveries}
    assert {(delivery.entity, delivery.day) for delivery in case.formerly} <= staged_in_the_end
    assert not {(delivery.entity, delivery.day) for delivery in case.refused} & staged_in_the_end


def test_every_entry_of_the_designs_list_has_a_case() -> None:
    entries = {entry.strip() for text in DESIGN_LIST.strip().splitlines() for entry in text.split("·")}
    assert {case.covers for case in CASES} == entries - NOT_A_MATTER_OF_WHAT_IS_STAGED


def test_the_names_of_the_cases_are_unique() -> None:
    assert [name for name, times in Counter(case.name for case in CASES).items() if times > 1] == []


def test_two_deliveries_of_one_entity_and_day_are_refused() -> None:
    case = CASES[0]
    with pytest.raises(AssertionError, match="one delivery a day"):
        warehouse_of(case.deliveries * 2, case.timezone)


def test_a_repeated_computation_leaves_its_input_as_it_was() -> None:
    for case in CASES:
        assert warehouse_of(case.deliveries, case.timezone) == warehouse_of(case.deliveries, case.timezone)
