"""The laws of the warehouse: whatever is published in whatever order, what stands is what the rules say."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from hypothesis import given, settings

from data_platform.lake import Lake
from data_platform_tests.cases import CASES, OVERWRITTEN, TRACKED, Case, at, customer, customer_version, delivered
from data_platform_tests.conftest import throw_away
from data_platform_tests.reference import Delivery, Entity, Warehouse, warehouse
from data_platform_tests.warehouse import harness
from data_platform_tests.warehouse.harness import Engine
from data_platform_tests.warehouse.streams import ENTITIES, Step, last_of_each, streams

START = date(2024, 1, 1)
# About a second each.
STREAMS = int(os.environ.get("DATA_PLATFORM_TEST_STREAMS", "40"))
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


@pytest.fixture(scope="module")
def stream_engine(connection: psycopg.Connection) -> Iterator[Engine]:
    with harness.contracts_of_the_cases():
        yield Engine(connection, Lake(Path("nowhere")))


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


MET: Counter[str] = Counter()


@settings(max_examples=STREAMS)
@given(streams())
def test_random_streams_give_what_the_reference_gives(stream_engine: Engine, stream: tuple[str, list[Step]]) -> None:
    timezone, steps = stream
    with TemporaryDirectory() as folder:
        harness.empty(stream_engine.connection)
        engine = Engine(stream_engine.connection, Lake(Path(folder)), timezone, MET)
        staged: list[Delivery] = []
        for step in steps:
            for delivery in step.staged:
                harness.stage(engine.lake, delivery, timezone)
            staged = last_of_each([*staged, *step.staged])
            before = harness.keys(engine.connection)
            if step.published:
                engine.publish(*step.published)
            if len(step.published) == len(ENTITIES):
                assert_converged(engine, staged)
            assert_keys_stay(before, harness.keys(engine.connection))
        engine.publish()
        assert_converged(engine, staged)
        assert_nothing_is_written_again(engine)
    MET["streams"] += 1


def assert_converged(engine: Engine, staged: list[Delivery]) -> None:
    expected = reference(staged, engine.timezone)
    assert_stands(engine, expected)
    assert harness.years(engine.connection) == harness.years_needed(START, staged, expected)


def assert_keys_stay(before: dict[tuple[str, str, date], int], after: dict[tuple[str, str, date], int]) -> None:
    """Law 6: a version keeps its key for as long as it exists, and no key is given to another member."""
    assert {version: key for version, key in before.items() if version in after} == {
        version: after[version] for version in before if version in after
    }
    owners = {(member, key): identifier for (member, identifier, _), key in before.items()}
    for (member, identifier, _), key in after.items():
        assert owners.get((member, key), identifier) == identifier


def test_random_streams_took_every_path_of_the_engine() -> None:
    if not MET:
        pytest.skip("the streams did not run in this session: nothing to count")
    print(dict(MET))
    for asset in ("dim_customer", "dim_product", "fact_sales"):
        for path in ("first load", "append", "exact", "nothing changed"):
            assert MET[f"{asset}: {path}"] >= MET["streams"] // 10, f"{asset} took the path {path} too seldom: {MET}"
