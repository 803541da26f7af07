"""The laws of the warehouse, on the table of cases: whatever the order of publishing, what stands is what was expected."""

from collections.abc import Iterator, Sequence
from datetime import date

import psycopg
import pytest

from data_platform.lake import Lake
from data_platform_tests.cases import CASES, OVERWRITTEN, TRACKED, Case
from data_platform_tests.reference import Delivery, Entity, Warehouse, warehouse
from data_platform_tests.warehouse import harness
from data_platform_tests.warehouse.harness import Engine

START = date(2024, 1, 1)
FACTS_FIRST: tuple[Entity, ...] = ("orders", "products", "customers")
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def connection(server: str, template: str) -> Iterator[psycopg.Connection]:
    from data_platform_tests.conftest import throw_away

    with throw_away(server, template) as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def engine(connection: psycopg.Connection, lake: Lake) -> Iterator[Engine]:
    harness.empty(connection)
    with harness.contracts_of_the_cases():
        yield Engine(connection, lake)


def reference(deliveries: Sequence[Delivery], timezone: str) -> Warehouse:
    return warehouse(deliveries, timezone, TRACKED, OVERWRITTEN)


def assert_stands(engine: Engine, expected: Warehouse) -> None:
    actual = harness.contents(engine.connection)
    assert actual.customers == expected.customers
    assert actual.products == expected.products
    assert actual.sales == expected.sales
    assert actual.returns == expected.returns


def assert_nothing_is_written_again(engine: Engine) -> None:
    before = harness.fingerprints(engine.connection)
    assert [report.path for report in engine.publish()] == ["nothing changed"] * 3
    assert harness.fingerprints(engine.connection) == before


def publish_one_by_one(engine: Engine, deliveries: Sequence[Delivery], order: tuple[Entity, ...] = ()) -> None:
    """Stage and publish each delivery in turn; after each the warehouse is what the reference makes of those so far."""
    for count, delivery in enumerate(deliveries, start=1):
        harness.stage(engine.lake, delivery, engine.timezone)
        engine.publish(*order)
        expected = reference(deliveries[:count], engine.timezone)
        assert_stands(engine, expected)
        assert harness.years(engine.connection) == harness.years_needed(START, deliveries[:count], expected)
        assert_nothing_is_written_again(engine)


@each_case
def test_deliveries_published_as_they_arrive_give_the_expected_warehouse(engine: Engine, case: Case) -> None:
    engine.timezone = case.timezone
    publish_one_by_one(engine, case.deliveries)
    assert_stands(engine, case.expected)


@each_case
def test_deliveries_published_backward_give_the_expected_warehouse(engine: Engine, case: Case) -> None:
    engine.timezone = case.timezone
    publish_one_by_one(engine, case.deliveries[::-1])
    assert_stands(engine, case.expected)


@each_case
def test_facts_published_before_dimensions_give_the_expected_warehouse(engine: Engine, case: Case) -> None:
    engine.timezone = case.timezone
    publish_one_by_one(engine, case.deliveries, FACTS_FIRST)
    assert_stands(engine, case.expected)


@each_case
def test_one_publish_of_everything_gives_the_expected_warehouse_and_counts(engine: Engine, case: Case) -> None:
    engine.timezone = case.timezone
    for delivery in case.deliveries:
        harness.stage(engine.lake, delivery, case.timezone)
    engine.publish()
    assert_stands(engine, case.expected)
    assert harness.ledger_counts(engine.connection) == case.expected.counts
    assert_nothing_is_written_again(engine)


@pytest.mark.parametrize("case", [case for case in CASES if case.formerly], ids=lambda case: case.name)
def test_what_was_formerly_staged_leaves_no_trace(engine: Engine, case: Case) -> None:
    engine.timezone = case.timezone
    replaced = {(delivery.entity, delivery.day) for delivery in case.formerly}
    others = [delivery for delivery in case.deliveries if (delivery.entity, delivery.day) not in replaced]
    for delivery in [*others, *case.formerly]:
        harness.stage(engine.lake, delivery, case.timezone)
    engine.publish()
    assert_stands(engine, reference([*others, *case.formerly], case.timezone))
    for delivery in case.deliveries:
        harness.stage(engine.lake, delivery, case.timezone)
    engine.publish()
    assert_stands(engine, case.expected)
    assert_nothing_is_written_again(engine)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.refused or case.accept_deletions], ids=lambda case: case.name
)
def test_the_guard_against_mass_deletion(case: Case) -> None:
    pytest.skip("the guard is judged at staging and comes with issue 3; what is accepted is published by the tests above")
