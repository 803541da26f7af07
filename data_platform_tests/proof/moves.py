"""Directed moves: small functions that look at a shop and give deliveries that bring about a case of the design's list.

What belongs here: the shop as a move sees it, and how rows of text are written. The moves themselves stand in
moves_of_members, moves_of_deliveries and moves_of_orders. None is asked whether it met its case: seen.py finds out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal, TypeAlias, TypeVar

from data_platform_tests.cases import OVERWRITTEN, TRACKED
from data_platform_tests.proof.delivered import Delivered, Told
from data_platform_tests.reference import ID_COLUMNS, Delivery, Entity, Row, Warehouse, warehouse

Texts: TypeAlias = dict[str, str | None]
Moments: TypeAlias = Literal["never", "sometimes", "always"]
T = TypeVar("T")

ENTITIES: tuple[Entity, ...] = ("customers", "products", "orders")
MEMBERS: tuple[Entity, ...] = ("customers", "products")
# Few, so that deliveries meet each other. The last of each is hard to quote, and the fourth differs in capitals alone.
KEYS: dict[Entity, tuple[str, ...]] = {
    "customers": ("c1", "c2", "c3", "C1", "c\"5' 🛒"),
    "products": ("p1", "p2", "p3", "P1", "p\\.\r\n5;--"),
    "orders": ("o1", "o2", "o3", "O1", "o\t5"),
}
COLUMNS: dict[Entity, tuple[str, ...]] = {
    "customers": ("customer_id", "email", "first_name", "last_name", "segment", "country", "created_date",
                  "updated_at", "is_deleted"),
    "products": ("product_id", "product_name", "category", "subcategory", "brand", "unit_price", "cost",
                 "updated_at", "is_deleted"),
    "orders": ("order_id", "line_number", "customer_id", "product_id", "quantity", "unit_price", "discount_amount",
               "order_ts", "status", "updated_at"),
}  # fmt: skip
# The tracked column in which members change; costs, so that profits change with them.
VALUE: dict[Entity, str] = {"customers": "segment", "products": "cost"}
VALUES: dict[Entity, tuple[str, ...]] = {"customers": ("a", "b", "c", "d"), "products": ("6", "7.25", "8.0001", "9")}
# A row that no source setting lets through.
UNREADABLE: dict[Entity, Texts] = {
    "customers": {"created_date": "yesterday"},
    "products": {"unit_price": "ten"},
    "orders": {"quantity": "many"},
}


class Dice:
    """What a move leaves to chance, drawn by hypothesis so that it shrinks and replays."""

    def __init__(self, draw: Callable[[int], int]) -> None:
        self._below = draw

    def below(self, end: int) -> int:
        """A number from 0 to end − 1; 0 is the simplest."""
        return self._below(end)

    def one_of(self, choices: Sequence[T]) -> T:
        """One of them; the first is the simplest."""
        return choices[self.below(len(choices))]

    def chance(self, of: int) -> bool:
        """True once in so many times."""
        return self.below(of) == of - 1


@dataclass
class Shop:
    """A shop's sources: what they are like, what they told, and what is staged of that now.

    `ways` are their settings; `moments` says whether their rows have an updated_at. Sources mostly keep their ways.
    """

    timezone: str = "UTC"
    first: date = date(2023, 12, 27)
    ways: Mapping[Entity, Mapping[str, Any]] = field(default_factory=dict)
    moments: Mapping[Entity, Moments] = field(default_factory=dict)
    staged: dict[tuple[Entity, date], Delivery] = field(default_factory=dict)
    told: dict[tuple[Entity, date], Delivered] = field(default_factory=dict)
    today: date = date(2023, 12, 26)

    def days(self, count: int) -> list[date]:
        """So many days, later than all that was told."""
        return [self.today + timedelta(days=n) for n in range(1, count + 1)]

    def mode(self, entity: Entity) -> str:
        """Whether a source delivers changes or full states."""
        return self.ways.get(entity, {}).get("mode", "changes")

    def unit(self) -> str:
        """Whether orders are told as lines or whole."""
        return self.ways.get("orders", {}).get("unit", "line")

    def member(self, dice: Dice, mode: str) -> Entity:
        """A dimension, if possible one whose source is of that mode."""
        return dice.one_of([entity for entity in MEMBERS if self.mode(entity) == mode] or MEMBERS)

    def known(self, entity: Entity) -> list[str]:
        """The keys that any staged delivery tells of, in the order of KEYS."""
        name = ID_COLUMNS.get(entity, "order_id")
        told = {row[name] for (of, _), delivery in self.staged.items() if of == entity for row in delivery.rows}
        return [key for key in KEYS[entity] if key in told]

    def key(self, entity: Entity, dice: Dice) -> str:
        """A key, one that is known more often than not, so that unknown ones last."""
        known = self.known(entity)
        return dice.one_of(known) if len(known) > 1 and not dice.chance(8) else dice.one_of(KEYS[entity])

    def fresh(self, entity: Entity, dice: Dice) -> str:
        """A key that nobody told of, while there is any."""
        known = self.known(entity)
        return next((key for key in KEYS[entity] if key not in known), None) or dice.one_of(KEYS[entity])

    def unversioned(self, entity: Entity, dice: Dice) -> str:
        """A key without a version, while there is any."""
        having = {row[ID_COLUMNS[entity]] for row in self.versions(entity) if not row["is_inferred"]}
        return next((key for key in KEYS[entity] if key not in having), None) or dice.one_of(KEYS[entity])

    def standing(self) -> Warehouse:
        """What the rules make of all that is staged."""
        return warehouse(list(self.staged.values()), self.timezone, TRACKED, OVERWRITTEN)

    def versions(self, entity: Entity, key: str | None = None) -> list[Row]:
        """The versions of a dimension, or of one of its keys."""
        stands = self.standing()
        rows = stands.customers if entity == "customers" else stands.products
        return [row for row in rows if key is None or row[ID_COLUMNS[entity]] == key]

    def current(self, entity: Entity, but: str | None = None) -> list[Texts]:
        """The rows that a full delivery holds if nothing happened: current members, without the key `but`."""
        name = ID_COLUMNS[entity]
        return [
            {column: None if row.get(column) is None else str(row[column]) for column in COLUMNS[entity][:-2]}
            for row in self.versions(entity)
            if row["is_current"] and not row["is_inferred"] and row[name] != but
        ]

    def deliver(
        self,
        entity: Entity,
        day: date,
        *rows: Texts,
        without: Sequence[str] = (),
        extra: Sequence[str] = (),
        **terms: Any,
    ) -> Delivered:
        """A delivery of one file in the way of its source, where `terms` do not say otherwise.

        Whole orders come without line numbers.
        """
        terms = {**self.ways.get(entity, {}), **terms}
        if terms.get("unit") == "order":
            without = [*without, "line_number"]
        if self.moments.get(entity) == "always":
            rows = tuple({"updated_at": at(day, 10), **row} for row in rows)
        elif self.moments.get(entity) == "never" and not any(row.get("updated_at") for row in rows):
            without = [*without, "updated_at"]
        columns = (*(column for column in COLUMNS[entity] if column not in without), *extra)
        told = tuple(
            Told("a.csv", number, {column: row.get(column) for column in columns})
            for number, row in enumerate(rows, start=1)
        )
        return Delivered(entity, day, columns, told, terms)

    def changes(self, entity: Entity, day: date, *rows: Texts, **how: Any) -> Delivered:
        """Changed members."""
        return self.deliver(entity, day, *rows, **{"mode": "changes", **how})

    def full(self, entity: Entity, day: date, *rows: Texts, **how: Any) -> Delivered:
        """All members."""
        return self.deliver(entity, day, *rows, **{"mode": "full", **how})

    def lines(self, day: date, *rows: Texts, **how: Any) -> Delivered:
        """Order lines, or whole orders where the source tells such."""
        return self.deliver("orders", day, *rows, **how)


def at(day: date, hour: int = 9, minute: int = 0) -> str:
    """A business time."""
    return f"{datetime(day.year, day.month, day.day, hour, minute).isoformat()}"


def member(entity: Entity, key: str | None, value: int | None = 0, **columns: str | None) -> Texts:
    """A row of a member with the so-manieth of VALUES."""
    values = VALUES[entity]
    row: Texts = {ID_COLUMNS[entity]: key, VALUE[entity]: None if value is None else values[value % len(values)]}
    return row | columns


def gone(entity: Entity, key: str, **columns: str | None) -> Texts:
    """A row that deletes a member."""
    return {ID_COLUMNS[entity]: key, "is_deleted": "true", **columns}


def line(order: str, number: int, ordered: date, **columns: str | None) -> Texts:
    """A line of one p1 for c1 at 10, ordered at noon."""
    standard: Texts = {
        "order_id": order,
        "line_number": str(number),
        "customer_id": KEYS["customers"][0],
        "product_id": KEYS["products"][0],
        "quantity": "1",
        "unit_price": "10",
        "order_ts": at(ordered, 12),
    }
    return standard | columns


def cancelled(order: str, number: int, status: str = "cancelled", **columns: str | None) -> Texts:
    """A tombstone of a line, or of its whole order."""
    return {"order_id": order, "line_number": str(number), "status": status, **columns}


Move: TypeAlias = Callable[[Shop, Dice], list[Delivered]]
MOVES: list[Move] = []


def move(function: Move) -> Move:
    """Enter a move into the list that streams draw from."""
    MOVES.append(function)
    return function


def often(function: Move) -> Move:
    """Enter a move twice: its case needs more luck than others."""
    return move(move(function))
