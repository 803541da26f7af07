"""The reference against the table of cases, whose expected values were computed by hand."""

from collections import Counter
from dataclasses import replace

import pytest

from data_platform_tests.cases import CASES, DESIGN_LIST, OVERWRITTEN, TRACKED, Case
from data_platform_tests.reference import Delivery, Warehouse, warehouse


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
    assert {case.covers for case in CASES} == set(DESIGN_LIST)


def test_the_names_of_the_cases_are_unique() -> None:
    assert [name for name, times in Counter(case.name for case in CASES).items() if times > 1] == []


def test_two_deliveries_of_one_entity_and_day_are_refused() -> None:
    case = CASES[0]
    with pytest.raises(AssertionError, match="one delivery a day"):
        warehouse_of(case.deliveries * 2, case.timezone)


def test_a_repeated_computation_leaves_its_input_as_it_was() -> None:
    for case in CASES:
        assert warehouse_of(case.deliveries, case.timezone) == warehouse_of(case.deliveries, case.timezone)
