"""The laws of the warehouse: whatever is published in whatever order, what stands is what the rules say."""

from collections.abc import Iterator, Sequence
from datetime import date

import psycopg
import pytest

from data_platform.lake import Lake
from data_platform_tests.cases import CASES, OVERWRITTEN, TRACKED, Case, at, customer, customer_version, delivered
from data_platform_tests.conftest import throw_away
from data_platform_tests.reference import Delivery, Entity, Warehouse, warehouse
from data_platform_tests.warehouse import harness
from data_platform_tests.warehouse.harness import Engine

START = date(2024, 1, 1)
FACTS_FIRST: tuple[Entity, ...] = ("orders", "products", "customers")
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def connection(server: str, template: str) -> Iterator[psycopg.Connection]:
    # Hundreds of small transactions: none of them needs to survive a power cut.
    hasty = "-c synchronous_commit=off"
    with throw_away(server, template) as url, psycopg.connect(url, autocommit=True, options=hasty) as connection:
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
def test_deliveries_published_backward_and_facts_first_give_the_expected_warehouse(engine: Engine, case: Case) -> None:
    engine.timezone = case.timezone
    publish_one_by_one(engine, case.deliveries[::-1], FACTS_FIRST)
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


def test_a_member_that_only_a_deletion_told_of_is_known_to_a_full_delivery_that_lacks_it(engine: Engine) -> None:
    """Nothing in the table shows the deleted member, so versions cannot speak for it."""
    changes = delivered("customers", 1, customer("c1", deleted=True), customer("c2"))
    later = [
        delivered("customers", 5, customer("c2"), mode="full"),
        delivered(
            "customers", 6, customer("c1", segment="a", updated_at=at(4, 9)), customer("c3", updated_at=at(5, 9))
        ),
    ]
    harness.stage(engine.lake, changes)
    engine.publish()
    for delivery in later:
        harness.stage(engine.lake, delivery)
    engine.publish()
    assert_stands(engine, reference([changes, *later], "UTC"))
    versions = [row for row in harness.contents(engine.connection).customers if row["customer_id"] == "c1"]
    assert versions == [customer_version("c1", 4, 5, segment="a")]


def test_a_member_of_which_one_row_was_rejected_and_one_taken_stays_when_the_next_full_delivery_repeats_it(
    engine: Engine,
) -> None:
    """Found by a random stream: the repeated row was spared the comparison, and the member then taken for absent."""
    first = delivered("customers", 1, customer("c1", segment="a"), quarantined=({"customer_id": "c1"},), mode="full")
    second = delivered("customers", 2, customer("c1", segment="a"), customer("c2"), mode="full")
    publish_one_by_one(engine, [first, second])
    assert harness.contents(engine.connection).customers == [
        customer_version("c1", 1, segment="a"),
        customer_version("c2", 2),
    ]
