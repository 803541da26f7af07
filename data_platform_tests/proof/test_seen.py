"""The detectors against the table of cases: each sees its own case, and few see what is not theirs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from data_platform_tests.cases import (
    CASES,
    DESIGN_LIST,
    OVERWRITTEN,
    TRACKED,
    Case,
    customer,
    delivered,
    line,
    lines,
    product,
)
from data_platform_tests.proof.delivered import Arrival, Delivered, How, Publish, Settled, Told, Trace
from data_platform_tests.proof.reference_staging import COLUMNS, nearest_full, settle
from data_platform_tests.proof.seen import PARTS, SEEN, cases_met
from data_platform_tests.proof.seen_record import record_of
from data_platform_tests.reference import ID_COLUMNS, Delivery, Entity, Row, Warehouse, warehouse

ENTITIES: tuple[Entity, ...] = ("customers", "products", "orders")

# Cases that show what lies beside an entry, and so must not count as meeting it.
COUNTERPARTS = {
    "an attribute that stays null is no change": "neither way",
    "a day that is emptied takes its effects out again": "the day is replaced by another delivery, not played again",
    "a key that is first delivered on a later day is not deleted by an earlier full delivery without it": "no deletion",
    "a tombstone row in a full delivery deletes its key": "the key is there, as a tombstone",
    "a key that was only quarantined before is not known, so its absence deletes nothing": "no key is known",
    "a column that no delivery has is null": "it was never there to be dropped",
    "a type-1 column that a delivery lacks keeps the value it had": "the value stays",
    "far west of Greenwich a moment after midnight UTC is still the day before": "no clock changes in January",
    "an inferred member stays while a return still names it": "the member stays",
    "a line with quantity, price and discount is a sale with total and profit": "the plain case that others vary",
    "a rolling extract that corrects and reverts names the day of the reversion": "no two tellings in a row are equal",
    "an updated_at that equals the start of the delivery day is still another telling than none": "nor here",
    "a quarantined correction leaves the former row standing": "nothing is corrected",
    "a tombstone that arrives late and is older than a correction does nothing": "the line stands",
    "a tombstone of an unknown line does nothing": "no line to delete",
    "an order of tomorrow is taken": "tomorrow is not the far future",
    "a sign that an older correction changes late stays as it is": "the sign stays",
    "a product without a cost gives no profit": "the price is not zero",
    "a quarantined line between two equal tellings does not part them": "a quarantined line is held all the same",
    "a delivery in which all lines of an order were quarantined does not hold it": "no later delivery holds the order",
}
# What the quarantined rows of a case say, where that is the case; elsewhere one amount or date cannot be read.
TEXTS = {
    "a correction with five decimals is quarantined and leaves the former row standing": {"unit_price": "9.99999"},
    "a correction with a total that overflows is quarantined, and a later good one stands": {
        "quantity": "2000000000",
        "unit_price": "50000",
    },
    "a correction to the far future is quarantined and leaves the former row standing": {
        "order_ts": "2204-01-02T12:00:00"
    },
    "a correction to a date before the floor is quarantined and leaves the former row standing": {
        "order_ts": "1924-01-02T12:00:00"
    },
}
GOOD_LINE = {"product_id": "p1", "quantity": "1", "unit_price": "10", "order_ts": "2024-01-02T12:00:00"}
UNREADABLE: dict[Entity, dict[str, str]] = {
    "customers": {"created_date": "the 31st"},
    "products": {"cost": "six"},
    "orders": GOOD_LINE | {"unit_price": "ten"},
}


# From a case to a trace


@dataclass
class Stage:
    """A stream in the making: deliveries arrive and are published as a machine would have it."""

    timezone: str = "UTC"
    staged: dict[tuple[Entity, date], Delivery] = field(default_factory=dict)
    published: dict[tuple[Entity, date], Delivery] = field(default_factory=dict)
    stands: Warehouse = field(default_factory=lambda: Warehouse([], [], [], [], {}))

    def __post_init__(self) -> None:
        self.trace = Trace(self.timezone)

    def arrive(self, offered: Delivered) -> Settled:
        place = offered.entity, offered.day
        settled = settle(offered, self.timezone, nearest_full(self.staged.values(), *place))
        self.trace.arrivals.append(Arrival(offered, settled, self.staged.get(place)))
        if settled.delivery:
            self.staged[place] = settled.delivery
        return settled

    def publish(self, *entities: Entity, how: How = "one by one") -> None:
        entities = entities or ENTITIES
        self.published |= {place: each for place, each in self.staged.items() if place[0] in entities}
        published = list(self.published.values())
        after = warehouse(published, self.timezone, TRACKED, OVERWRITTEN)
        count = len(self.trace.arrivals)
        self.trace.publishes.append(Publish(entities, how, published, self.stands, after, count))
        self.stands = after


def offers(case: Case) -> Iterator[Delivered]:
    """What arrives in a case: what is not replaced, what is, what it is replaced by, what is refused."""
    replaced = {(each.entity, each.day) for each in case.formerly}
    others = [each for each in case.deliveries if (each.entity, each.day) not in replaced]
    last = [each for each in case.deliveries if (each.entity, each.day) in replaced]
    for delivery in [*others, *case.formerly, *last, *case.refused]:
        yield as_text(delivery, case.name, case.accept_deletions)


def trace_of(case: Case) -> Trace:
    """A case as a stream, each delivery published as it arrives; one about two writers by these, in the end."""
    stage = Stage(case.timezone)
    for offered in offers(case):
        stage.arrive(offered)
        if case.covers != "two writers at once":
            stage.publish()
    if case.covers == "two writers at once":
        stage.publish(how="at once")
    return stage.trace


def at_one_go(case: Case, how: How) -> Trace:
    """A case as a stream of one publish, after all has arrived."""
    stage = Stage(case.timezone)
    for offered in offers(case):
        stage.arrive(offered)
    stage.publish(how=how)
    return stage.trace


def as_text(delivery: Delivery, name: str = "", accept_deletions: tuple[date, ...] = ()) -> Delivered:
    """Typed rows as the texts of a source that would be staged as these."""
    entity = delivery.entity
    own = {column for row in delivery.rows for column in row} - set(COLUMNS[entity]) - {"deleted", "file", "row"}
    columns = [column for column in COLUMNS[entity] if column not in delivery.unknown] + sorted(own)
    rows = []
    for row in delivery.rows:
        texts = {column: text(row.get(column)) for column in columns}
        if entity in ID_COLUMNS:
            texts["is_deleted"] = text(row["deleted"])
        rows.append(Told(row["file"], row["row"], texts))
    for row in delivery.quarantined:
        key = {column: text(value) for column, value in row.items() if column in columns}
        says = GOOD_LINE | TEXTS[name] if name in TEXTS else UNREADABLE[entity]
        rows.append(Told(row["file"], row["row"], dict.fromkeys(columns) | says | key))
    terms: dict[str, Any] = {"mode": delivery.mode, "accept_deletions": accept_deletions}
    return Delivered(
        entity, delivery.day, tuple(columns), tuple(rows), {"unit": delivery.unit} if entity == "orders" else terms
    )


def text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    return None if value is None else str(value)


def stream(*deliveries: Delivery | Delivered) -> Trace:
    """Deliveries that are published as they arrive."""
    stage = Stage()
    for delivery in deliveries:
        stage.arrive(delivery if isinstance(delivery, Delivered) else as_text(delivery))
        stage.publish()
    return stage.trace


def rows_of(rows: Sequence[Row], columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """What rows say in some columns, by their places; of a tombstone of a line, its key and moment."""
    found = []
    for row in rows:
        matters = (
            ("order_id", "line_number", "updated_at", "deleted")
            if "order_id" in row and row.get("deleted")
            else columns
        )
        found.append((row["file"], row["row"], *(row.get(name) for name in columns if name in matters)))
    return sorted(found, key=lambda each: each[:2])


TRACES = {case.name: trace_of(case) for case in CASES}
MET = {name: cases_met(trace) for name, trace in TRACES.items()}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_entry = pytest.mark.parametrize("entry", DESIGN_LIST)


def test_there_is_a_detector_for_each_entry_and_for_no_other() -> None:
    assert list(SEEN) == list(DESIGN_LIST)
    assert set(PARTS) == set(DESIGN_LIST)
    assert [part.__name__ for parts in PARTS.values() for part in parts if not part.__doc__] == []


@each_case
def test_the_texts_of_a_case_are_staged_as_its_rows(case: Case) -> None:
    accepted = [arrival.settled.delivery for arrival in TRACES[case.name].arrivals if arrival.settled.delivery]
    staged = {(delivery.entity, delivery.day): delivery for delivery in accepted}
    assert set(staged) == {(delivery.entity, delivery.day) for delivery in case.deliveries}
    for delivery in case.deliveries:
        actual = staged[delivery.entity, delivery.day]
        columns = [column for column in COLUMNS[delivery.entity] if column not in {"is_deleted", *delivery.unknown}]
        assert rows_of(actual.rows, [*columns, "deleted"]) == rows_of(delivery.rows, [*columns, "deleted"])
        keys = ["order_id", "line_number", "customer_id", "product_id"]
        keys = keys[:2] if delivery.entity == "orders" else keys[2:]
        assert rows_of(actual.quarantined, keys) == rows_of(delivery.quarantined, keys)
        assert (actual.mode, actual.unit, actual.unknown) == (delivery.mode, delivery.unit, delivery.unknown)


@each_case
def test_a_case_meets_the_entry_that_it_covers(case: Case) -> None:
    record = record_of(TRACES[case.name])
    met = [part.__name__ for part in PARTS[case.covers] if part(record)]
    assert bool(met) == (case.name not in COUNTERPARTS), met


@each_entry
def test_each_thing_that_an_entry_names_is_met_by_a_case_of_it(entry: str) -> None:
    own = [record_of(TRACES[case.name]) for case in CASES if case.covers == entry]
    unmet = [part.__name__ for part in PARTS[entry] if not any(part(record) for record in own)]
    assert unmet == []


def test_the_counterparts_and_texts_are_of_cases() -> None:
    assert set(COUNTERPARTS) | set(TEXTS) <= set(TRACES)


# What every stream meets.
MET_BY_MOST = {"new key": "a stream that tells of anything tells of a key for the first time"}


def test_a_plain_delivery_of_each_entity_meets_next_to_nothing() -> None:
    assert cases_met(stream(*SHOP, lines(2, line("o1", 1)))) == {"new key"}


def test_what_is_not_published_meets_nothing_but_a_refusal() -> None:
    for case in CASES:
        stage = Stage(case.timezone)
        for offered in offers(case):
            stage.arrive(offered)
        assert cases_met(stage.trace) <= {"full delivery refused"}


@each_entry
def test_an_entry_is_not_met_by_most_cases_of_other_entries(entry: str) -> None:
    others = [case.name for case in CASES if case.covers != entry]
    share = sum(entry in MET[name] for name in others) / len(others)
    assert (share > 0.4) == (entry in MET_BY_MOST), share


# What only a publish that finds a standing table can meet.
OF_ARRIVAL = (
    "update",
    "unchanged re-delivery",
    "late event before all history",
    "inside a closed version",
    "inside an unchanged run (A B A)",
    "two late events splitting two versions at once",
    "late delete in a closed version",
    "upsert delivered later but earlier than a recorded delete",
    "days 3, 1, 2",
    "full delivery out of order",
    "type-1 column alone",
    "type-1 column late and older",
    "before its dimension row",
    "late dimension version",
    "inferred upgraded",
    "inferred restored",
    "inferred gone",
    "rolling extract",
    "correction",
    "an older correction after it",
    "date changed across a year's partition",
    "return before its sale",
    "sign changes both ways",
    "line dropped from a replaced delivery",
)


@pytest.mark.parametrize("entry", OF_ARRIVAL)
def test_what_is_of_the_order_of_arrival_is_not_met_by_one_publish_of_everything(entry: str) -> None:
    for case in CASES:
        record = record_of(at_one_go(case, "one by one"))
        assert not any(part(record) for part in PARTS[entry]), case.name


@pytest.mark.parametrize("entry", [*OF_ARRIVAL, "new key", "inferred made", "delete of an unknown key"])
def test_what_is_of_the_order_of_arrival_is_not_met_by_rebuilds(entry: str) -> None:
    for case in CASES:
        stage = Stage(case.timezone)
        for offered in offers(case):
            stage.arrive(offered)
            stage.publish(how="rebuild")
        record = record_of(stage.trace)
        assert not any(part(record) for part in PARTS[entry]), case.name


def test_days_that_come_in_their_order_are_not_late() -> None:
    case = next(case for case in CASES if case.covers == "days 3, 1, 2")
    met = cases_met(stream(*sorted(case.deliveries, key=lambda each: each.day)))
    assert not met & set(OF_ARRIVAL) - {"update"}


# Entries that name several things are met where all of them are

C1 = customer("c1", segment="a")
SHOP = [delivered("customers", 1, C1), delivered("products", 1, product("p1", cost="6"))]
WHOLE: dict[str, list[Delivery]] = {
    "null attributes both ways": [
        delivered("customers", 1, C1),
        delivered("customers", 2, customer("c1")),
        delivered("customers", 3, C1),
    ],
    "sign changes both ways": [
        *SHOP,
        lines(2, line("o1", 1)),
        lines(3, line("o1", 1, quantity=-1)),
        lines(4, line("o1", 1)),
    ],
    "duplicate within and across deliveries": [
        *SHOP,
        lines(2, line("o1", 1, quantity=2), line("o1", 1)),
        lines(3, line("o1", 1)),
    ],
}


@pytest.mark.parametrize("entry", WHOLE)
def test_an_entry_of_several_things_is_met_by_all_of_them_and_not_before(entry: str) -> None:
    assert entry in cases_met(stream(*WHOLE[entry]))
    assert entry not in cases_met(stream(*WHOLE[entry][:-1]))


@pytest.mark.parametrize("entry", [entry for entry, parts in PARTS.items() if len(parts) > 1])
def test_an_entry_of_several_things_has_a_stream_that_meets_them_all(entry: str) -> None:
    assert entry in WHOLE or any(entry in MET[case.name] for case in CASES if case.covers == entry)


# What only texts can show


def told(number: int, **texts: str | None) -> Told:
    return Told("a.csv", number, texts)


def orders(*rows: Told, unit: str = "line", **terms: Any) -> Delivered:
    columns = tuple(column for column in COLUMNS["orders"] if unit == "line" or column != "line_number")
    return Delivered("orders", date(2024, 1, 3), columns, rows, {"unit": unit, **terms})


def test_exact_copies_are_a_duplicate_within_a_delivery() -> None:
    good = GOOD_LINE | {"order_id": "o1", "line_number": "1"}
    twice = orders(told(1, **good), told(2, **good))
    [within, _] = PARTS["duplicate within and across deliveries"]
    assert within(record_of(stream(twice)))
    assert not within(record_of(stream(orders(told(1, **good)))))


def test_quantity_0_counts_quarantined_under_unit_order_as_well() -> None:
    nothing = GOOD_LINE | {"order_id": "o1", "quantity": "0"}
    assert SEEN["quantity 0"](stream(orders(told(1, **nothing), unit="order")))
    unreadable = nothing | {"line_number": "1", "unit_price": "ten"}
    assert not SEEN["quantity 0"](stream(orders(told(1, **unreadable))))


def test_rows_of_a_delivery_that_is_refused_for_them_count_as_quarantined() -> None:
    rows = [
        GOOD_LINE | {"order_id": "o1", "line_number": "1", "unit_price": "0.00001"},
        GOOD_LINE | {"order_id": "o2", "line_number": "1", "status": "cancelled", "order_ts": "2204-01-01"},
    ]
    trace = stream(orders(*(told(number, **row) for number, row in enumerate(rows)), reject_rows=1))
    assert trace.arrivals[0].settled.refusal == "too many rejected rows"
    assert cases_met(trace) == {"five decimals"}


def test_a_blank_id_is_a_null_key_and_an_unreadable_one_is_none() -> None:
    def of(key: str) -> Trace:
        columns = ("customer_id", "created_date")
        row = told(1, customer_id=key, created_date="2024-02-30")
        return stream(Delivered("customers", date(2024, 1, 3), columns, (row,)))

    assert SEEN["null key"](of(" \t"))
    assert not SEEN["null key"](of("c1"))


@pytest.mark.parametrize(
    ("ordered", "entry"),
    [
        ("2024-01-05T00:00", "order dated in the far future"),
        ("2204-01-05T00:00", "order dated in the far future"),
        ("1999-12-31T23:59:59", "order dated before the floor"),
    ],
)
def test_an_order_out_of_the_window_is_seen_by_its_side(ordered: str, entry: str) -> None:
    row = GOOD_LINE | {"order_id": "o1", "line_number": "1", "order_ts": ordered}
    assert cases_met(stream(orders(told(1, **row)))) == {entry}


def test_what_is_replaced_before_it_is_published_meets_nothing() -> None:
    stage = Stage()
    stage.arrive(as_text(delivered("customers", 1, customer("c1", effective_from="1999-01-01"))))
    stage.arrive(as_text(delivered("customers", 1, C1)))
    stage.publish()
    assert cases_met(stage.trace) == {"new key"}


def test_two_writers_who_have_nothing_to_write_do_not_meet() -> None:
    stage = Stage()
    stage.arrive(as_text(SHOP[0]))
    stage.publish(how="at once")
    stage.publish(how="at once")
    assert not SEEN["two writers at once"](stage.trace)
    stage.arrive(as_text(SHOP[1]))
    stage.arrive(as_text(lines(2, line("o1", 1))))
    stage.publish("products", "orders", how="at once")
    assert SEEN["two writers at once"](stage.trace)


def test_a_trace_that_goes_on_is_read_anew() -> None:
    trace = stream(delivered("customers", 1, C1))
    assert not SEEN["update"](trace)
    longer = stream(delivered("customers", 1, C1), delivered("customers", 2, customer("c1", segment="b")))
    trace.arrivals.append(longer.arrivals[-1])
    trace.publishes.append(longer.publishes[-1])
    assert SEEN["update"](trace)
