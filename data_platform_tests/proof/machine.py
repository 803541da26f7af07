"""A shop that hypothesis plays: deliveries by directed moves, published in random ways, compared after each publish.

What is compared: each delivery's verdict and figures with `settle`'s, the warehouse with the reference over what was
published, the ledger's classes with the reference's counts, keys with those of before (law 6), and the whereabouts of
every row where nothing is to be written (law 5).
"""

import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import psycopg
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from data_platform.lake import Lake
from data_platform.warehouse.publish import publish, rebuild
from data_platform_tests.cases import OVERWRITTEN, TRACKED
from data_platform_tests.proof import moves_of_deliveries, moves_of_members, moves_of_orders
from data_platform_tests.proof.delivered import Arrival, Delivered, How, Publish, Trace
from data_platform_tests.proof.landing import Verdict, deliver_range
from data_platform_tests.proof.moves import COLUMNS, ENTITIES, MOVES, Dice, Moments, Move, Shop
from data_platform_tests.proof.reference_staging import nearest_full, settle
from data_platform_tests.reference import Delivery, Entity, Row, Warehouse, warehouse
from data_platform_tests.warehouse import harness
from data_platform_tests.warehouse.harness import ASSETS, Engine

# Whose moves are drawn.
MODULES = (moves_of_members, moves_of_deliveries, moves_of_orders)
START = date(2024, 1, 1)
# Where Linux keeps files that need no disk: a lake asks for every file to be on the disk before it goes on.
IN_MEMORY = Path("/dev/shm")
TIMEZONES = ("UTC", "Europe/Amsterdam", "America/New_York", "Asia/Beirut")
# Over the turn of a year; and up to the changes of clocks that lie between March and April, October and November.
FIRST_DAYS = (date(2023, 12, 27), date(2023, 12, 15), date(2024, 3, 8), date(2024, 3, 28), date(2024, 10, 25))
MOMENTS: tuple[Moments, ...] = ("never", "sometimes", "always")
ORDERS_OF_PUBLISHING: tuple[tuple[Entity, ...], ...] = (
    ("customers", "products", "orders"),
    ("orders", "products", "customers"),
    ("products", "orders", "customers"),
    ("orders", "customers", "products"),
)


@dataclass
class Table:
    """Where streams are played: one database after another stream, and what is counted over all of them."""

    url: str
    connection: psycopg.Connection[Any]
    finished: Callable[[Trace], None]
    paths: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    failed: bool = False


class ShopMachine(RuleBasedStateMachine):
    """One stream."""

    table: ClassVar[Table]

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
        self.engine = Engine(self.table.connection, Lake(Path(self.folder.name)))
        harness.empty(self.table.connection)
        self.shop = Shop()
        self.trace = Trace("UTC")
        self.published: dict[tuple[Entity, date], Delivery] = {}
        self.arrived: dict[tuple[Entity, date], int] = {}
        self.stands = self.reference()
        self.keys: dict[tuple[str, Any, date], int] = {}
        self.steps = 0

    # Rules

    @initialize(data=st.data())
    def opens(self, data: st.DataObject) -> None:
        dice = self.dice(data)
        timezone, first = dice.one_of(TIMEZONES), dice.one_of(FIRST_DAYS)
        modes = [{"mode": dice.one_of(("changes", "full"))} for _ in range(2)]
        unit = {} if dice.chance(2) else {"unit": "order"}
        ways = dict(zip(ENTITIES, [*modes, unit], strict=True))
        moments = {entity: dice.one_of(MOMENTS) for entity in ENTITIES}
        note(f"{timezone}, from {first}, {ways}, updated_at {moments}")
        self.shop = Shop(timezone, first, ways, moments, today=first - timedelta(days=1))
        self.trace = Trace(timezone)
        self.engine.timezone = timezone

    @rule(data=st.data())
    def tells_and_publishes_each(self, data: st.DataObject) -> None:
        """Each delivery is published when it comes."""
        for delivered in self.told(self.dice(data)):
            self.offer([delivered])
            self.publish([delivered.entity])

    @rule(data=st.data())
    def tells_and_publishes_all_each_time(self, data: st.DataObject) -> None:
        """The whole star is published whenever something comes."""
        dice = self.dice(data)
        for delivered in self.told(dice):
            self.offer([delivered])
            self.publish(dice.one_of(ORDERS_OF_PUBLISHING))

    @rule(data=st.data())
    def tells_and_publishes_once(self, data: st.DataObject) -> None:
        """A range: everything is staged, then published once; a second publish has nothing to do."""
        dice = self.dice(data)
        self.offer(self.told(dice))
        self.publish(dice.one_of(ORDERS_OF_PUBLISHING))
        self.assert_nothing_is_written()

    @rule(data=st.data())
    def tells_and_leaves_the_last_unpublished(self, data: st.DataObject) -> None:
        told = self.told(self.dice(data))
        for delivered in told[:-1]:
            self.offer([delivered])
            self.publish([delivered.entity])
        self.offer(told[-1:])

    @rule(data=st.data())
    def tells_and_two_publish_at_once(self, data: st.DataObject) -> None:
        dice = self.dice(data)
        told = self.told(dice), self.told(dice)
        for deliveries in told:
            self.offer(deliveries)
        waiting = [entity for entity in ENTITIES if self.waits(entity)]
        self.publish_at_once([*waiting, *(entity for entity in ENTITIES if entity not in waiting)][:2])

    @rule(data=st.data())
    def tells_and_rebuilds(self, data: st.DataObject) -> None:
        for delivered in self.told(self.dice(data)):
            self.offer([delivered])
            self.publish([delivered.entity])
        self.rebuild()

    def teardown(self) -> None:
        # In a `finally` of hypothesis: a stream that was cut short or failed has nothing more to show.
        broken = sys.exc_info()[0]
        try:
            if broken is None:
                self.publish(ENTITIES)
                self.assert_nothing_is_written()
                if not self.table.failed:
                    self.table.paths.update(dict.fromkeys(self.engine.paths, 1))
                    self.table.steps += self.steps
                    self.table.finished(self.trace)
            elif broken is not None and issubclass(broken, Exception):
                self.table.failed = True
        except Exception:
            self.table.failed = True
            raise
        finally:
            self.folder.cleanup()

    # What rules do

    def dice(self, data: st.DataObject) -> Dice:
        # Not data.draw, which would print each number: `note` tells what came of them.
        return Dice(lambda end: data.conjecture_data.draw(st.integers(0, end - 1)))

    def told(self, dice: Dice) -> list[Delivered]:
        self.steps += 1
        move: Move = dice.one_of(MOVES)
        note(f"{move.__name__}:")
        return move(self.shop, dice)

    def offer(self, deliveries: Sequence[Delivered]) -> None:
        """Stage deliveries, days in a row in one run; verdicts and figures are those that the rules give."""
        for run in runs_of(deliveries):
            verdicts = deliver_range(self.engine.lake, run, self.shop.timezone)
            for delivered, verdict in zip(run, verdicts, strict=True):
                note(f"  {shown(delivered)}")
                self.take(delivered, verdict)

    def take(self, delivered: Delivered, verdict: Verdict) -> None:
        shop, place = self.shop, (delivered.entity, delivered.day)
        expected = settle(delivered, shop.timezone, nearest_full(shop.staged.values(), *place))
        figures = {name: expected.figures[name] for name in verdict.figures}
        assert verdict.refusal == expected.refusal, f"refused for {verdict.refusal!r}, not for {expected.refusal!r}"
        assert verdict.figures == figures, f"staging counts {verdict.figures}, the rules {figures}"
        self.trace.arrivals.append(Arrival(delivered, expected, shop.staged.get(place)))
        shop.today = max(shop.today, delivered.day)
        if expected.delivery is not None:
            self.arrived[place] = len(self.trace.arrivals)
            shop.staged[place] = expected.delivery
            shop.told[place] = delivered

    def waits(self, entity: Entity) -> bool:
        """Whether anything is staged of it that is not published."""
        return any(
            self.published.get(place) != delivery for place, delivery in self.shop.staged.items() if place[0] == entity
        )

    def publish(self, entities: Sequence[Entity]) -> None:
        """Publish one after the other; after each the warehouse is what the rules say of what is published."""
        for entity in entities:
            [report] = self.engine.publish(entity)
            self.note_publish((entity,), "one by one")
            self.assert_counted({(entity, day) for day in report.partitions})

    def publish_at_once(self, entities: Sequence[Entity]) -> None:
        """Two writers in threads and transactions of their own."""
        with ThreadPoolExecutor(len(entities)) as pool:
            started = [
                pool.submit(
                    publish,
                    self.table.url,
                    self.engine.lake,
                    ASSETS[entity],
                    run_id=uuid.uuid4().hex,
                    timezone=self.shop.timezone,
                )
                for entity in entities
            ]
            reports = [each.result() for each in started]
        self.engine.paths.update(f"{report.asset}: {report.path}" for report in reports)
        self.note_publish(tuple(entities), "at once")

    def rebuild(self) -> None:
        rebuild(self.table.url, self.engine.lake, run_id=uuid.uuid4().hex, timezone=self.shop.timezone)
        self.note_publish(ENTITIES, "rebuild")
        self.assert_counted(set(self.shop.staged))
        self.assert_nothing_is_written()

    def note_publish(self, entities: tuple[Entity, ...], how: How) -> None:
        note(f"  published {', '.join(entities)} {how}")
        for place, delivery in self.shop.staged.items():
            if place[0] in entities:
                self.published[place] = delivery
        before, self.stands = self.stands, self.reference()
        published = sorted(self.published, key=lambda place: self.arrived[place])
        self.trace.publishes.append(
            Publish(
                entities,
                how,
                [self.published[place] for place in published],
                before,
                self.stands,
                len(self.trace.arrivals),
            )
        )
        self.assert_stands()

    def reference(self) -> Warehouse:
        return warehouse(list(self.published.values()), self.shop.timezone, TRACKED, OVERWRITTEN)

    # What must hold

    def assert_stands(self) -> None:
        actual = harness.contents(self.table.connection)
        for table in ("customers", "products", "sales", "returns"):
            stands, expected = getattr(actual, table), getattr(self.stands, table)
            assert stands == expected, difference(table, stands, expected)
        if self.published == self.shop.staged and self.published:
            needed = harness.years_needed(START, list(self.published.values()), self.stands)
            years = harness.years(self.table.connection)
            assert years == needed, f"dim_date has {years}, the rules {needed}"
        self.assert_keys_stay()

    def assert_keys_stay(self) -> None:
        """Law 6: a version keeps its key for as long as it exists, and no key is given to another member."""
        before, self.keys = self.keys, harness.keys(self.table.connection)
        for version in before.keys() & self.keys.keys():
            assert before[version] == self.keys[version], f"the key of {version} is another than before"
        owners = {(kind, key): identifier for (kind, identifier, _), key in before.items()}
        for (kind, identifier, _), key in self.keys.items():
            assert owners.get((kind, key), identifier) == identifier, f"{identifier} has the key of another {kind}"

    def assert_counted(self, places: set[tuple[Entity, date]]) -> None:
        """The ledger's figures of the partitions that a publish took in are those of the rules at that time."""
        ledger = harness.ledger_counts(self.table.connection)
        for place in places:
            expected = self.stands.counts[place]
            assert ledger[place] == expected, f"the ledger counts {ledger[place]} of {place}, the rules {expected}"

    def assert_nothing_is_written(self) -> None:
        """Law 5, where everything that is staged is published."""
        before = harness.fingerprints(self.table.connection)
        paths = [report.path for report in self.engine.publish(*ENTITIES)]
        assert paths == ["nothing changed"] * 3, f"a second publish takes the paths {paths}"
        assert harness.fingerprints(self.table.connection) == before, "rows were written for nothing"


def runs_of(deliveries: Sequence[Delivered]) -> Iterator[list[Delivered]]:
    """Deliveries that one run may stage: neighbours of one source in the order of days."""
    run: list[Delivered] = []
    for delivered in deliveries:
        last = run[-1] if run else delivered
        if run and ((delivered.entity, delivered.terms) != (last.entity, last.terms) or delivered.day <= last.day):
            yield run
            run = []
        run.append(delivered)
    if run:
        yield run


def difference(table: str, stands: list[Row], expected: list[Row]) -> str:
    """What is wrong with a table, in words."""
    added = [row for row in stands if row not in expected]
    lacking = [row for row in expected if row not in stands]
    return f"{table} differ from the rules.\n  There stands {added}\n  It lacks {lacking}"


def shown(delivered: Delivered) -> str:
    """A delivery in one line: what its source is like, what it lacks, what its rows say."""
    lacking = [column for column in COLUMNS[delivered.entity] if column not in delivered.columns]
    rows = [
        f"{told.file}:{told.row} { ({name: text for name, text in told.values.items() if text is not None}) }"
        for told in delivered.rows
    ]
    return f"{delivered.entity} {delivered.day} {dict(delivered.terms)} lacking {lacking}: {'; '.join(rows) or 'empty'}"
