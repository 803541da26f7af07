"""The case list of warehouse-semantics.md as data: what is staged, and what the warehouse must then hold, by hand.

A number n stands for 2024-01-n. No expected value is computed by the reference, so that it is tested by them as well.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeAlias

from data_platform_tests.reference import Delivery, Entity, Row, Warehouse

Day: TypeAlias = int | date
Classes: TypeAlias = dict[Day, str]

TRACKED: dict[Entity, list[str]] = {
    "customers": ["first_name", "last_name", "segment", "country", "created_date"],
    "products": ["product_name", "category", "subcategory", "brand", "unit_price", "cost"],
}
OVERWRITTEN: dict[Entity, list[str]] = {"customers": ["email"], "products": []}

# The design's list (warehouse-semantics.md, "Cases"), entries with alternatives taken apart.
DESIGN_LIST = (
    "new key",
    "update",
    "unchanged re-delivery",
    "several changes in one delivery",
    "several on one day",
    "insert, update, delete, reinsert in one delivery",
    "late event before all history",
    "inside a closed version",
    "inside an unchanged run (A B A)",
    "two late events splitting two versions at once",
    "late delete in a closed version",
    "delete of an unknown key",
    "upsert delivered later but earlier than a recorded delete",
    "delete and resurrect with the same values",
    "delete delivered twice",
    "value reverting to an old one",
    "null key",
    "null attributes both ways",
    "key twice in one full delivery",
    "same moment, same payload",
    "same moment, other payload",
    "replay of a whole range",
    "days 3, 1, 2",
    "full delivery missing",
    "full delivery out of order",
    "full delivery partial",
    "full delivery empty",
    "full delivery refused",
    "full delivery accepted",
    "key absent then present with an old updated_at",
    "absent but quarantined",
    "column added",
    "column dropped",
    "column widened",
    "column of a wrong type",
    "type-1 column alone",
    "type-1 column late and older",
    "type-1 column with a deletion",
    "a source column named effective_from",
    "ids with quotes, blanks, capitals, emoji, 201 characters",
    "daylight-saving days",
    "two writers at once",
    "before its dimension row",
    "late dimension version",
    "in a deletion's gap",
    "inferred made",
    "inferred upgraded",
    "inferred restored",
    "inferred gone",
    "duplicate within and across deliveries",
    "rolling extract",
    "correction",
    "an older correction after it",
    "cancelled",
    "deleted",
    "reinstated",
    "date changed across a year's partition",
    "order dated in a year without a partition yet",
    "order dated in the far future",
    "order dated before the floor",
    "return before its sale",
    "sign changes both ways",
    "quantity 0",
    "zero price",
    "four decimals",
    "five decimals",
    "a total that overflows",
    "unknown, missing and deleted customer",
    "line dropped from a replaced delivery",
    "order with fewer lines again (`unit: order`)",
    "order in two deliveries",
)


@dataclass(frozen=True)
class Case:
    """One case. `deliveries` are what is staged in the end, in the order in which they arrive.

    `covers` names the entry of the design's list. For the load engine only: `formerly` is staged and published before,
    then replaced by the delivery of the same entity and day; `refused` is offered last and rejected by the guard;
    `accept_deletions` is the setting of that name.
    """

    name: str
    covers: str
    deliveries: list[Delivery]
    expected: Warehouse
    timezone: str = "UTC"
    formerly: list[Delivery] = field(default_factory=list)
    refused: list[Delivery] = field(default_factory=list)
    accept_deletions: tuple[date, ...] = ()


# What is staged


def day(n: Day) -> date:
    return n if isinstance(n, date) else date(2024, 1, n)


def at(n: Day, hour: int = 0, minute: int = 0) -> datetime:
    """A moment in UTC."""
    return datetime(day(n).year, day(n).month, day(n).day, hour, minute, tzinfo=UTC)


def business(n: Day, hour: int = 12) -> datetime:
    """A business time, naive, as in order_ts."""
    return datetime(day(n).year, day(n).month, day(n).day, hour)


def delivered(entity: Entity, n: Day, *rows: Row, quarantined: tuple[Row, ...] = (), **how: Any) -> Delivery:
    """A delivery of one file; its quarantined rows stand last, unless a row says where it stood."""
    numbered = [{"file": "a.csv", "row": i} | row for i, row in enumerate((*rows, *quarantined), start=1)]
    return Delivery(entity, day(n), rows=numbered[: len(rows)], quarantined=numbered[len(rows) :], **how)


def customer(customer_id: str, *, updated_at: datetime | None = None, deleted: bool = False, **columns: Any) -> Row:
    attributes = dict.fromkeys(TRACKED["customers"] + OVERWRITTEN["customers"]) | columns
    return {"customer_id": customer_id, **attributes, "updated_at": updated_at, "deleted": deleted}


def product(product_id: str, *, updated_at: datetime | None = None, deleted: bool = False, **columns: Any) -> Row:
    attributes = dict.fromkeys(TRACKED["products"] + OVERWRITTEN["products"]) | money(columns)
    return {"product_id": product_id, **attributes, "updated_at": updated_at, "deleted": deleted}


def line(order_id: str, line_number: int, **columns: Any) -> Row:
    """An order line of c1 for one p1 at 10, ordered at noon of the 2nd, where `columns` does not say otherwise."""
    standard = {
        "order_id": order_id,
        "line_number": line_number,
        "customer_id": "c1",
        "product_id": "p1",
        "quantity": 1,
        "unit_price": Decimal(10),
        "discount_amount": Decimal(0),
        "order_ts": business(2),
        "status": None,
        "updated_at": None,
        "deleted": False,
    }
    return standard | money(columns)


def tombstone(order_id: str, line_number: int, status: str = "cancelled", updated_at: datetime | None = None) -> Row:
    nothing = dict.fromkeys(["customer_id", "product_id", "quantity", "unit_price", "discount_amount", "order_ts"])
    key = {"order_id": order_id, "line_number": line_number}
    return key | nothing | {"status": status, "updated_at": updated_at, "deleted": True}


def money(columns: Row) -> Row:
    amounts = ("unit_price", "discount_amount", "cost", "total_amount", "profit")
    return {name: Decimal(value) if name in amounts and value else value for name, value in columns.items()}


# What is expected


def customer_version(customer_id: str, start: Day, end: Day | None = None, **columns: Any) -> Row:
    attributes = dict.fromkeys(TRACKED["customers"] + OVERWRITTEN["customers"]) | columns
    return {"customer_id": customer_id, **attributes, **period(start, end)}


def product_version(product_id: str, start: Day, end: Day | None = None, **columns: Any) -> Row:
    attributes = dict.fromkeys(TRACKED["products"] + OVERWRITTEN["products"]) | money(columns)
    return {"product_id": product_id, **attributes, **period(start, end)}


def period(start: Day, end: Day | None) -> Row:
    return {
        "effective_from": day(start),
        "effective_to": day(end) if end else None,
        "is_current": end is None,
        "is_inferred": False,
    }


INFERRED_FROM = date(1, 1, 1)


def inferred(version: Row) -> Row:
    return version | {"effective_from": INFERRED_FROM, "is_inferred": True}


def fact(order_id: str, line_number: int, on: Day, **columns: Any) -> Row:
    """The fact of `line` with the same defaults, delivered on a day; updated_at is midnight of that day in UTC."""
    order_ts = columns.get("order_ts", business(2))
    standard = {
        "order_id": order_id,
        "line_number": line_number,
        "date": order_ts.date(),
        "order_ts": order_ts,
        "customer": ("c1", day(1)),
        "product": ("p1", day(1)),
        "quantity": 1,
        "unit_price": Decimal(10),
        "discount_amount": Decimal(0),
        "total_amount": Decimal(10),
        "profit": Decimal(4),
        "delivered_on": day(on),
        "updated_at": at(on),
    }
    return standard | money(columns)


def counted(entity: Entity, classes: Classes) -> dict[tuple[Entity, date], Counter[str]]:
    return {(entity, day(n)): Counter(words.split()) for n, words in classes.items()}


def customer_case(
    name: str, covers: str, deliveries: list[Delivery], versions: list[Row], classes: Classes, **more: Any
) -> Case:
    """A case in which only customers are delivered. `classes` has the class of each staged row, by day."""
    return Case(name, covers, deliveries, Warehouse(versions, [], [], [], counted("customers", classes)), **more)


def order_case(
    name: str,
    covers: str,
    deliveries: list[Delivery],
    classes: Classes,
    *,
    sales: tuple[Row, ...] = (),
    returns: tuple[Row, ...] = (),
    more_customers: tuple[Row, ...] = (),
    more_products: tuple[Row, ...] = (),
    customer_classes: Classes | None = None,
    product_classes: Classes | None = None,
    **more: Any,
) -> Case:
    """A case in a shop that knows c1 and p1 (cost 6) from the 1st. `classes` has the class of each orders row, by day.

    `more_*` are the further versions that are expected, `*_classes` the classes of the rows that they come from.
    """
    shop = [
        delivered("customers", 1, customer("c1", segment="retail")),
        delivered("products", 1, product("p1", cost="6")),
    ]
    counts = counted("customers", {1: "version", **(customer_classes or {})})
    counts |= counted("products", {1: "version", **(product_classes or {})})
    counts |= counted("orders", classes)
    return Case(
        name,
        covers,
        shop + deliveries,
        Warehouse(
            [customer_version("c1", 1, segment="retail"), *more_customers],
            [product_version("p1", 1, cost="6"), *more_products],
            list(sales),
            list(returns),
            counts,
        ),
        **more,
    )


def changes(n: Day, *rows: Row, **how: Any) -> Delivery:
    return delivered("customers", n, *rows, **how)


def full(n: Day, *rows: Row, **how: Any) -> Delivery:
    return delivered("customers", n, *rows, mode="full", **how)


def lines(n: Day, *rows: Row, **how: Any) -> Delivery:
    return delivered("orders", n, *rows, unit="line", **how)


def whole_orders(n: Day, *rows: Row, **how: Any) -> Delivery:
    return delivered("orders", n, *rows, unit="order", **how)


def quarantined_customer(customer_id: str | None) -> Row:
    return {"customer_id": customer_id}


def quarantined_line(order_id: str, line_number: int | None) -> Row:
    return {"order_id": order_id, "line_number": line_number}


# Dimensions

# Long names in the tables below would hide the days and the values.
c, v = customer, customer_version

DIMENSION_CASES = [
    customer_case(
        "a new key starts a version on the day of its delivery",
        "new key",
        [changes(1, c("c1", segment="a", country="NL"))],
        [v("c1", 1, segment="a", country="NL")],
        {1: "version"},
    ),
    customer_case(
        "a new key with updated_at starts a version on the date of updated_at",
        "new key",
        [changes(3, c("c1", segment="a", updated_at=at(2, 23, 59)))],
        [v("c1", 2, segment="a")],
        {3: "version"},
    ),
    customer_case(
        "an update closes the version and opens the next on the same date",
        "update",
        [changes(1, c("c1", segment="a")), changes(3, c("c1", segment="b"))],
        [v("c1", 1, 3, segment="a"), v("c1", 3, segment="b")],
        {1: "version", 3: "version"},
    ),
    customer_case(
        "an unchanged re-delivery makes no version",
        "unchanged re-delivery",
        [changes(1, c("c1", segment="a")), changes(2, c("c1", segment="a"))],
        [v("c1", 1, segment="a")],
        {1: "version", 2: "repeat"},
    ),
    customer_case(
        "several changes in one delivery give a version for each effective date",
        "several changes in one delivery",
        [
            changes(
                4,
                c("c1", segment="c", updated_at=at(4, 9)),
                c("c1", segment="a", updated_at=at(2, 9)),
                c("c1", segment="b", updated_at=at(3, 9)),
            )
        ],
        [v("c1", 2, 3, segment="a"), v("c1", 3, 4, segment="b"), v("c1", 4, segment="c")],
        {4: "version version version"},
    ),
    customer_case(
        "of several changes on one day the last moment is kept",
        "several on one day",
        [
            changes(
                2,
                c("c1", segment="b", updated_at=at(2, 18)),
                c("c1", segment="a", updated_at=at(2, 9)),
            )
        ],
        [v("c1", 2, segment="b")],
        {2: "version replaced"},
    ),
    customer_case(
        "of several changes on one day in two deliveries the last moment is kept, whichever arrived last",
        "several on one day",
        [
            changes(2, c("c1", segment="b", updated_at=at(2, 18))),
            changes(3, c("c1", segment="a", updated_at=at(2, 9))),
        ],
        [v("c1", 2, segment="b")],
        {2: "version", 3: "replaced"},
    ),
    customer_case(
        "a change there and back on one day is no change",
        "several on one day",
        [
            changes(1, c("c1", segment="a")),
            changes(2, c("c1", segment="b", updated_at=at(2, 9)), c("c1", segment="a", updated_at=at(2, 10))),
        ],
        [v("c1", 1, segment="a")],
        {1: "version", 2: "replaced repeat"},
    ),
    customer_case(
        "a delete and a reinsert on one day with equal attributes leave no trace",
        "several on one day",
        [
            changes(1, c("c1", segment="a")),
            changes(2, c("c1", deleted=True, updated_at=at(2, 9)), c("c1", segment="a", updated_at=at(2, 10))),
        ],
        [v("c1", 1, segment="a")],
        {1: "version", 2: "deletion repeat"},
    ),
    customer_case(
        "an insert and a delete on one day make no version",
        "several on one day",
        [changes(2, c("c1", segment="a", updated_at=at(2, 9)), c("c1", deleted=True, updated_at=at(2, 10)))],
        [],
        {2: "replaced deletion"},
    ),
    customer_case(
        "insert, update, delete and reinsert in one delivery leave two versions, a gap and a version",
        "insert, update, delete, reinsert in one delivery",
        [
            changes(
                6,
                c("c1", segment="a", updated_at=at(2, 9)),
                c("c1", segment="b", updated_at=at(3, 9)),
                c("c1", deleted=True, updated_at=at(4, 9)),
                c("c1", segment="c", updated_at=at(6, 9)),
            )
        ],
        [v("c1", 2, 3, segment="a"), v("c1", 3, 4, segment="b"), v("c1", 6, segment="c")],
        {6: "version version deletion version"},
    ),
    customer_case(
        "insert, update, delete and reinsert in one delivery without moments leave the last row",
        "insert, update, delete, reinsert in one delivery",
        [changes(2, c("c1", segment="a"), c("c1", segment="b"), c("c1", deleted=True), c("c1", segment="c"))],
        [v("c1", 2, segment="c")],
        {2: "replaced replaced deletion version"},
    ),
    customer_case(
        "a late event before all history becomes the first version",
        "late event before all history",
        [changes(5, c("c1", segment="b")), changes(6, c("c1", segment="a", updated_at=at(2, 9)))],
        [v("c1", 2, 5, segment="a"), v("c1", 5, segment="b")],
        {5: "version", 6: "version"},
    ),
    customer_case(
        "a late event before all history with the first version's attributes moves its start",
        "late event before all history",
        [changes(5, c("c1", segment="a")), changes(6, c("c1", segment="a", updated_at=at(2, 9)))],
        [v("c1", 2, segment="a")],
        {5: "repeat", 6: "version"},
    ),
    customer_case(
        "a late event inside a closed version splits it",
        "inside a closed version",
        [
            changes(1, c("c1", segment="a")),
            changes(5, c("c1", segment="c")),
            changes(6, c("c1", segment="b", updated_at=at(3, 9))),
        ],
        [v("c1", 1, 3, segment="a"), v("c1", 3, 5, segment="b"), v("c1", 5, segment="c")],
        {1: "version", 5: "version", 6: "version"},
    ),
    customer_case(
        "a late event on a version's first day replaces that version's attributes",
        "inside a closed version",
        [
            changes(1, c("c1", segment="a")),
            changes(3, c("c1", segment="b")),
            changes(5, c("c1", segment="c")),
            changes(6, c("c1", segment="x", updated_at=at(3, 9))),
        ],
        [v("c1", 1, 3, segment="a"), v("c1", 3, 5, segment="x"), v("c1", 5, segment="c")],
        {1: "version", 3: "replaced", 5: "version", 6: "version"},
    ),
    customer_case(
        "a late event with the next version's attributes moves the boundary back",
        "inside a closed version",
        [
            changes(1, c("c1", segment="a")),
            changes(5, c("c1", segment="b")),
            changes(6, c("c1", segment="b", updated_at=at(3, 9))),
        ],
        [v("c1", 1, 3, segment="a"), v("c1", 3, segment="b")],
        {1: "version", 5: "repeat", 6: "version"},
    ),
    customer_case(
        "a late event inside an unchanged run splits it in three",
        "inside an unchanged run (A B A)",
        [
            changes(1, c("c1", segment="a")),
            changes(4, c("c1", segment="a")),
            changes(5, c("c1", segment="b", updated_at=at(3, 9))),
        ],
        [v("c1", 1, 3, segment="a"), v("c1", 3, 4, segment="b"), v("c1", 4, segment="a")],
        {1: "version", 4: "version", 5: "version"},
    ),
    customer_case(
        "two late events in one delivery split two versions at once",
        "two late events splitting two versions at once",
        [
            changes(1, c("c1", segment="a")),
            changes(5, c("c1", segment="b")),
            changes(9, c("c1", segment="x", updated_at=at(3, 9)), c("c1", segment="y", updated_at=at(7, 9))),
        ],
        [
            v("c1", 1, 3, segment="a"),
            v("c1", 3, 5, segment="x"),
            v("c1", 5, 7, segment="b"),
            v("c1", 7, segment="y"),
        ],
        {1: "version", 5: "version", 9: "version version"},
    ),
    customer_case(
        "a late delete in a closed version ends it early and leaves a gap",
        "late delete in a closed version",
        [
            changes(1, c("c1", segment="a")),
            changes(5, c("c1", segment="b")),
            changes(6, c("c1", deleted=True, updated_at=at(3, 9))),
        ],
        [v("c1", 1, 3, segment="a"), v("c1", 5, segment="b")],
        {1: "version", 5: "version", 6: "deletion"},
    ),
    customer_case(
        "a late delete inside an unchanged run lets the repeated row open a version anew",
        "late delete in a closed version",
        [
            changes(1, c("c1", segment="a")),
            changes(5, c("c1", segment="a")),
            changes(6, c("c1", deleted=True, updated_at=at(3, 9))),
        ],
        [v("c1", 1, 3, segment="a"), v("c1", 5, segment="a")],
        {1: "version", 5: "version", 6: "deletion"},
    ),
    customer_case(
        "a delete of an unknown key makes no version",
        "delete of an unknown key",
        [changes(1, c("c1", deleted=True)), changes(2, c("c2", segment="a"))],
        [v("c2", 2, segment="a")],
        {1: "deletion", 2: "version"},
    ),
    customer_case(
        "an upsert delivered after a delete but earlier than it is ended by the delete",
        "upsert delivered later but earlier than a recorded delete",
        [
            changes(1, c("c1", segment="a")),
            changes(5, c("c1", deleted=True)),
            changes(6, c("c1", segment="b", updated_at=at(3, 9))),
        ],
        [v("c1", 1, 3, segment="a"), v("c1", 3, 5, segment="b")],
        {1: "version", 5: "deletion", 6: "version"},
    ),
    customer_case(
        "an upsert delivered after the delete of a key that was unknown is ended by it as well",
        "upsert delivered later but earlier than a recorded delete",
        [changes(5, c("c1", deleted=True)), changes(6, c("c1", segment="b", updated_at=at(3, 9)))],
        [v("c1", 3, 5, segment="b")],
        {5: "deletion", 6: "version"},
    ),
    customer_case(
        "a key that is deleted and resurrected with the same values has two versions and a gap",
        "delete and resurrect with the same values",
        [changes(1, c("c1", segment="a")), changes(3, c("c1", deleted=True)), changes(5, c("c1", segment="a"))],
        [v("c1", 1, 3, segment="a"), v("c1", 5, segment="a")],
        {1: "version", 3: "deletion", 5: "version"},
    ),
    customer_case(
        "a delete that is delivered twice takes effect at the first",
        "delete delivered twice",
        [changes(1, c("c1", segment="a")), changes(3, c("c1", deleted=True)), changes(5, c("c1", deleted=True))],
        [v("c1", 1, 3, segment="a")],
        {1: "version", 3: "deletion", 5: "deletion"},
    ),
    customer_case(
        "a delete that is delivered again with an earlier moment moves the end back",
        "delete delivered twice",
        [
            changes(1, c("c1", segment="a")),
            changes(5, c("c1", deleted=True)),
            changes(6, c("c1", deleted=True, updated_at=at(3, 9))),
        ],
        [v("c1", 1, 3, segment="a")],
        {1: "version", 5: "deletion", 6: "deletion"},
    ),
    customer_case(
        "a value that reverts to an old one is a third version",
        "value reverting to an old one",
        [changes(1, c("c1", segment="a")), changes(2, c("c1", segment="b")), changes(3, c("c1", segment="a"))],
        [v("c1", 1, 2, segment="a"), v("c1", 2, 3, segment="b"), v("c1", 3, segment="a")],
        {1: "version", 2: "version", 3: "version"},
    ),
    customer_case(
        "a quarantined null key says nothing about any key",
        "null key",
        [
            full(1, c("c1", segment="a"), c("c2", segment="a")),
            full(2, c("c1", segment="a"), quarantined=(quarantined_customer(None),)),
        ],
        [v("c1", 1, segment="a"), v("c2", 1, 2, segment="a")],
        {1: "version version", 2: "repeat"},
    ),
    customer_case(
        "an attribute that becomes null is a change",
        "null attributes both ways",
        [changes(1, c("c1", segment="a", country="NL")), changes(2, c("c1", segment=None, country="NL"))],
        [v("c1", 1, 2, segment="a", country="NL"), v("c1", 2, segment=None, country="NL")],
        {1: "version", 2: "version"},
    ),
    customer_case(
        "an attribute that was null and gets a value is a change",
        "null attributes both ways",
        [changes(1, c("c1", segment=None, country="NL")), changes(2, c("c1", segment="a", country="NL"))],
        [v("c1", 1, 2, segment=None, country="NL"), v("c1", 2, segment="a", country="NL")],
        {1: "version", 2: "version"},
    ),
    customer_case(
        "an attribute that stays null is no change",
        "null attributes both ways",
        [changes(1, c("c1", segment=None)), changes(2, c("c1", segment=None))],
        [v("c1", 1, segment=None)],
        {1: "version", 2: "repeat"},
    ),
    customer_case(
        "values that read the same when they are joined are different values",
        "null attributes both ways",
        [
            changes(1, c("c1", first_name="a", last_name="bc")),
            changes(2, c("c1", first_name="ab", last_name="c")),
            changes(3, c("c1", first_name="abc", last_name=None)),
            changes(4, c("c1", first_name=None, last_name="abc")),
        ],
        [
            v("c1", 1, 2, first_name="a", last_name="bc"),
            v("c1", 2, 3, first_name="ab", last_name="c"),
            v("c1", 3, 4, first_name="abc", last_name=None),
            v("c1", 4, first_name=None, last_name="abc"),
        ],
        {1: "version", 2: "version", 3: "version", 4: "version"},
    ),
    customer_case(
        "a key that stands twice in one full delivery is its last row",
        "key twice in one full delivery",
        [
            full(
                2,
                c("c1", segment="a", updated_at=at(2, 18)),
                c("c1", segment="b", updated_at=at(1, 9)),
            )
        ],
        [v("c1", 2, segment="b")],
        {2: "replaced version"},
    ),
    customer_case(
        "the same payload at the same moment in two deliveries is one version",
        "same moment, same payload",
        [
            changes(2, c("c1", segment="a", updated_at=at(2, 9))),
            changes(3, c("c1", segment="a", updated_at=at(2, 9))),
        ],
        [v("c1", 2, segment="a")],
        {2: "replaced", 3: "version"},
    ),
    customer_case(
        "of two payloads at the same moment the later delivery day wins, though it arrived first",
        "same moment, other payload",
        [
            changes(3, c("c1", segment="b", updated_at=at(2, 9))),
            changes(2, c("c1", segment="a", updated_at=at(2, 9))),
        ],
        [v("c1", 2, segment="b")],
        {2: "replaced", 3: "version"},
    ),
    customer_case(
        "of two payloads at the same moment in one delivery the last file in byte order wins",
        "same moment, other payload",
        [
            changes(
                2,
                c("c1", segment="lower") | {"file": "a.csv", "row": 1},
                c("c1", segment="upper") | {"file": "B.csv", "row": 2},
            )
        ],
        [v("c1", 2, segment="lower")],
        {2: "version replaced"},
    ),
    customer_case(
        "of two payloads at the same moment in one file the last row wins, by number and not by text",
        "same moment, other payload",
        [
            changes(
                2,
                c("c1", segment="tenth") | {"file": "a.csv", "row": 10},
                c("c1", segment="ninth") | {"file": "a.csv", "row": 9},
            )
        ],
        [v("c1", 2, segment="tenth")],
        {2: "version replaced"},
    ),
    customer_case(
        "a replay of a whole range changes nothing",
        "replay of a whole range",
        [
            changes(1, c("c1", segment="a")),
            changes(2, c("c1", segment="b")),
            changes(3, c("c1", deleted=True)),
        ],
        [v("c1", 1, 2, segment="a"), v("c1", 2, 3, segment="b")],
        {1: "version", 2: "version", 3: "deletion"},
        formerly=[
            changes(1, c("c1", segment="a")),
            changes(2, c("c1", segment="b")),
            changes(3, c("c1", deleted=True)),
        ],
    ),
    customer_case(
        "a day that is emptied takes its effects out again",
        "replay of a whole range",
        [changes(1, c("c1", segment="a")), changes(2), changes(3, c("c1", segment="a"))],
        [v("c1", 1, segment="a")],
        {1: "version", 2: "", 3: "repeat"},
        formerly=[changes(2, c("c1", segment="b"), c("c2", segment="b"))],
    ),
    customer_case(
        "days that arrive as 3, 1, 2 give the history of 1, 2, 3",
        "days 3, 1, 2",
        [
            changes(3, c("c1", segment="c"), c("c2", segment="a")),
            changes(1, c("c1", segment="a"), c("c2", segment="a")),
            changes(2, c("c1", segment="b"), c("c2", deleted=True)),
        ],
        [
            v("c1", 1, 2, segment="a"),
            v("c1", 2, 3, segment="b"),
            v("c1", 3, segment="c"),
            v("c2", 1, 2, segment="a"),
            v("c2", 3, segment="a"),
        ],
        {1: "version version", 2: "version deletion", 3: "version version"},
    ),
    customer_case(
        "a full delivery that is missing says nothing, and the next one says it later",
        "full delivery missing",
        [full(1, c("c1", segment="a"), c("c2", segment="a")), full(4, c("c1", segment="b"))],
        [v("c1", 1, 4, segment="a"), v("c1", 4, segment="b"), v("c2", 1, 4, segment="a")],
        {1: "version version", 4: "version"},
    ),
    customer_case(
        "a full delivery that arrives out of order takes effect on its day",
        "full delivery out of order",
        [
            full(1, c("c1", segment="a"), c("c2", segment="a")),
            full(3, c("c1", segment="a"), c("c2", segment="a")),
            full(2, c("c1", segment="b")),
        ],
        [
            v("c1", 1, 2, segment="a"),
            v("c1", 2, 3, segment="b"),
            v("c1", 3, segment="a"),
            v("c2", 1, 2, segment="a"),
            v("c2", 3, segment="a"),
        ],
        {1: "version version", 2: "version", 3: "version version"},
    ),
    customer_case(
        "a first full delivery that arrives last lets a later one delete what that lacks",
        "full delivery out of order",
        [full(3, c("c1", segment="a")), full(1, c("c1", segment="a"), c("c2", segment="a"))],
        [v("c1", 1, segment="a"), v("c2", 1, 3, segment="a")],
        {1: "version version", 3: "repeat"},
    ),
    customer_case(
        "a key that is absent from a full delivery is deleted on that day",
        "full delivery partial",
        [full(1, c("c1", segment="a"), c("c2", segment="a")), full(2, c("c2", segment="a"))],
        [v("c1", 1, 2, segment="a"), v("c2", 1, segment="a")],
        {1: "version version", 2: "repeat"},
    ),
    customer_case(
        "a key that only changes told of is deleted by a full delivery without it",
        "full delivery partial",
        [changes(1, c("c1", segment="a")), full(2, c("c2", segment="a"))],
        [v("c1", 1, 2, segment="a"), v("c2", 2, segment="a")],
        {1: "version", 2: "version"},
    ),
    customer_case(
        "a key that is first delivered on a later day is not deleted by an earlier full delivery without it",
        "full delivery partial",
        [full(3, c("c1", segment="a")), changes(4, c("c2", segment="a", updated_at=at(2, 9)))],
        [v("c1", 3, segment="a"), v("c2", 2, segment="a")],
        {3: "version", 4: "version"},
    ),
    customer_case(
        "a deletion by absence is at the start of the day, so a change of that day outlives it",
        "full delivery partial",
        [
            changes(1, c("c1", segment="a"), c("c1", segment="b", updated_at=at(2, 15))),
            full(2, c("c2", segment="a")),
        ],
        [v("c1", 1, 2, segment="a"), v("c1", 2, segment="b"), v("c2", 2, segment="a")],
        {1: "version version", 2: "version"},
    ),
    customer_case(
        "changes between full deliveries are told in one history with them",
        "full delivery partial",
        [
            full(1, c("c1", segment="a"), c("c2", segment="a")),
            changes(2, c("c1", segment="b")),
            full(3, c("c1", segment="b")),
        ],
        [v("c1", 1, 2, segment="a"), v("c1", 2, segment="b"), v("c2", 1, 3, segment="a")],
        {1: "version version", 2: "version", 3: "repeat"},
    ),
    customer_case(
        "a tombstone row in a full delivery deletes its key",
        "full delivery partial",
        [
            full(1, c("c1", segment="a"), c("c2", segment="a")),
            full(2, c("c1", segment="a"), c("c2", segment="a", deleted=True)),
        ],
        [v("c1", 1, segment="a"), v("c2", 1, 2, segment="a")],
        {1: "version version", 2: "repeat deletion"},
    ),
    customer_case(
        "an empty full delivery deletes nothing",
        "full delivery empty",
        [full(1, c("c1", segment="a")), full(2)],
        [v("c1", 1, segment="a")],
        {1: "version", 2: ""},
    ),
    customer_case(
        "a full delivery whose rows were all quarantined deletes nothing",
        "full delivery empty",
        [
            full(1, c("c1", segment="a"), c("c2", segment="a")),
            full(2, quarantined=(quarantined_customer("c1"),)),
        ],
        [v("c1", 1, segment="a"), v("c2", 1, segment="a")],
        {1: "version version", 2: ""},
    ),
    customer_case(
        "a full delivery that is emptied afterwards takes its deletions out again",
        "full delivery empty",
        [full(1, c("c1", segment="a"), c("c2", segment="a")), full(2)],
        [v("c1", 1, segment="a"), v("c2", 1, segment="a")],
        {1: "version version", 2: ""},
        formerly=[full(2, c("c1", segment="b"))],
    ),
    customer_case(
        "a full delivery that lacks too many keys is refused and deletes nothing",
        "full delivery refused",
        [full(1, *(c(f"c{n}", segment="a") for n in range(10, 22)))],
        [v(f"c{n}", 1, segment="a") for n in range(10, 22)],
        {1: "version " * 12},
        refused=[full(2, c("c10", segment="b"), c("c11", segment="b"))],
    ),
    customer_case(
        "a full delivery that lacks many keys and is accepted deletes them",
        "full delivery accepted",
        [full(1, *(c(f"c{n}", segment="a") for n in range(10, 22))), full(2, c("c10", segment="b"))],
        [
            v("c10", 1, 2, segment="a"),
            v("c10", 2, segment="b"),
            *(v(f"c{n}", 1, 2, segment="a") for n in range(11, 22)),
        ],
        {1: "version " * 12, 2: "version"},
        accept_deletions=(day(2),),
    ),
    customer_case(
        "a key absent, then present with an old updated_at opens anew on the day of the full delivery",
        "key absent then present with an old updated_at",
        [
            full(1, c("c1", segment="a", updated_at=at(1, 9)), c("c2", segment="a")),
            full(2, c("c2", segment="a")),
            full(4, c("c1", segment="a", updated_at=at(1, 9)), c("c2", segment="a")),
        ],
        [v("c1", 1, 2, segment="a"), v("c1", 4, segment="a"), v("c2", 1, segment="a")],
        {1: "version version", 2: "repeat", 4: "version repeat"},
    ),
    customer_case(
        "a key absent from a full delivery, then present in changes with an old updated_at stays deleted",
        "key absent then present with an old updated_at",
        [
            full(1, c("c1", segment="a"), c("c2", segment="a")),
            full(4, c("c2", segment="a")),
            changes(5, c("c1", segment="b", updated_at=at(3, 9))),
        ],
        [v("c1", 1, 3, segment="a"), v("c1", 3, 4, segment="b"), v("c2", 1, segment="a")],
        {1: "version version", 4: "repeat", 5: "version"},
    ),
    customer_case(
        "a key that is absent but quarantined is not deleted",
        "absent but quarantined",
        [
            full(1, c("c1", segment="a"), c("c2", segment="a"), c("c3", segment="a")),
            full(2, c("c1", segment="a"), quarantined=(quarantined_customer("c2"),)),
        ],
        [v("c1", 1, segment="a"), v("c2", 1, segment="a"), v("c3", 1, 2, segment="a")],
        {1: "version version version", 2: "repeat"},
    ),
    customer_case(
        "a key that was only quarantined before is not known, so its absence deletes nothing",
        "absent but quarantined",
        [
            full(1, c("c1", segment="a"), quarantined=(quarantined_customer("c2"),)),
            full(2, c("c1", segment="a")),
            changes(3, c("c2", segment="a", updated_at=at(1, 9))),
        ],
        [v("c1", 1, segment="a"), v("c2", 1, segment="a")],
        {1: "version", 2: "repeat", 3: "version"},
    ),
    customer_case(
        "a column that is added is filled backward and makes no version",
        "column added",
        [
            changes(1, c("c1", segment="a"), unknown=frozenset({"country"})),
            changes(2, c("c1", segment="b"), unknown=frozenset({"country"})),
            changes(3, c("c1", segment="b", country="NL")),
        ],
        [v("c1", 1, 2, segment="a", country="NL"), v("c1", 2, segment="b", country="NL")],
        {1: "version", 2: "version", 3: "repeat"},
    ),
    customer_case(
        "a column that is added and delivered as null is null and makes no version",
        "column added",
        [
            changes(1, c("c1", segment="a"), unknown=frozenset({"country"})),
            changes(2, c("c1", segment="a", country=None)),
            changes(3, c("c1", segment="a", country="NL")),
        ],
        [v("c1", 1, 3, segment="a", country=None), v("c1", 3, segment="a", country="NL")],
        {1: "version", 2: "repeat", 3: "version"},
    ),
    customer_case(
        "a column that is dropped is filled forward and makes no version",
        "column dropped",
        [
            changes(1, c("c1", segment="a", country="NL"), c("c2", segment="a")),
            changes(2, c("c1", segment="b"), c("c2", segment="a"), unknown=frozenset({"country"})),
        ],
        [
            v("c1", 1, 2, segment="a", country="NL"),
            v("c1", 2, segment="b", country="NL"),
            v("c2", 1, segment="a"),
        ],
        {1: "version version", 2: "version repeat"},
    ),
    customer_case(
        "a column that comes and goes is filled in the order of moments, not of arrival",
        "column dropped",
        [
            changes(1, c("c1", segment="a", country="NL")),
            changes(4, c("c1", segment="a", country="BE")),
            changes(5, c("c1", segment="b", updated_at=at(3, 9)), unknown=frozenset({"country"})),
        ],
        [
            v("c1", 1, 3, segment="a", country="NL"),
            v("c1", 3, 4, segment="b", country="NL"),
            v("c1", 4, segment="a", country="BE"),
        ],
        {1: "version", 4: "version", 5: "version"},
    ),
    customer_case(
        "a dropped column is filled from an earlier row of the same day",
        "column dropped",
        [
            changes(1, c("c1", segment="a", country="NL")),
            changes(2, c("c1", segment="a", country="BE", updated_at=at(2, 9))),
            changes(3, c("c1", segment="b", updated_at=at(2, 18)), unknown=frozenset({"country"})),
        ],
        [v("c1", 1, 2, segment="a", country="NL"), v("c1", 2, segment="b", country="BE")],
        {1: "version", 2: "replaced", 3: "version"},
    ),
    customer_case(
        "a dropped column is filled across a deletion, whose own attributes say nothing",
        "column dropped",
        [
            changes(1, c("c1", segment="a", country="NL")),
            changes(2, c("c1", segment="x", country="XX", deleted=True)),
            changes(3, c("c1", segment="a"), unknown=frozenset({"country"})),
        ],
        [v("c1", 1, 2, segment="a", country="NL"), v("c1", 3, segment="a", country="NL")],
        {1: "version", 2: "deletion", 3: "version"},
    ),
    customer_case(
        "a column that no delivery has is null",
        "column dropped",
        [changes(1, c("c1", segment="a", country="NL"), unknown=frozenset({"country"}))],
        [v("c1", 1, segment="a", country=None)],
        {1: "version"},
    ),
    Case(
        "a column that is widened to more decimals makes no version where the values are equal",
        "column widened",
        [
            delivered("products", 1, product("p1", cost="5"), product("p2", cost="-0.0")),
            delivered("products", 2, product("p1", cost="5.0000"), product("p2", cost="0.0")),
            delivered("products", 3, product("p1", cost="5.0001"), product("p2", cost="0")),
        ],
        Warehouse(
            [],
            [
                product_version("p1", 1, 3, cost="5"),
                product_version("p1", 3, cost="5.0001"),
                product_version("p2", 1, cost="0"),
            ],
            [],
            [],
            counted("products", {1: "version version", 2: "repeat repeat", 3: "version repeat"}),
        ),
    ),
    customer_case(
        "a row with a column of a wrong type is quarantined and leaves the version standing",
        "column of a wrong type",
        [
            changes(1, c("c1", created_date=date(2020, 2, 29))),
            changes(2, c("c2", created_date=date(2020, 3, 1)), quarantined=(quarantined_customer("c1"),)),
        ],
        [v("c1", 1, created_date=date(2020, 2, 29)), v("c2", 2, created_date=date(2020, 3, 1))],
        {1: "version", 2: "version"},
    ),
    customer_case(
        "a type-1 column that changes alone is overwritten in place",
        "type-1 column alone",
        [changes(1, c("c1", segment="a", email="old@x")), changes(2, c("c1", segment="a", email="new@x"))],
        [v("c1", 1, segment="a", email="new@x")],
        {1: "version", 2: "repeat"},
    ),
    customer_case(
        "a type-1 column that changes is overwritten on closed versions as well",
        "type-1 column alone",
        [
            changes(1, c("c1", segment="a", email="old@x")),
            changes(2, c("c1", segment="b", email="old@x")),
            changes(3, c("c1", segment="b", email=None)),
        ],
        [v("c1", 1, 2, segment="a", email=None), v("c1", 2, segment="b", email=None)],
        {1: "version", 2: "version", 3: "repeat"},
    ),
    customer_case(
        "a type-1 column that is late and older changes nothing",
        "type-1 column late and older",
        [
            changes(1, c("c1", segment="a", email="first@x")),
            changes(4, c("c1", segment="a", email="last@x")),
            changes(5, c("c1", segment="b", email="late@x", updated_at=at(3, 9))),
        ],
        [
            v("c1", 1, 3, segment="a", email="last@x"),
            v("c1", 3, 4, segment="b", email="last@x"),
            v("c1", 4, segment="a", email="last@x"),
        ],
        {1: "version", 4: "version", 5: "version"},
    ),
    customer_case(
        "a type-1 column keeps its value before a deletion, and a resurrection gives it to all versions",
        "type-1 column with a deletion",
        [
            changes(1, c("c1", segment="a", email="old@x"), c("c2", segment="a", email="old@x")),
            changes(2, c("c1", deleted=True, email="no@x"), c("c2", deleted=True)),
            changes(3, c("c2", segment="a", email="new@x")),
        ],
        [
            v("c1", 1, 2, segment="a", email="old@x"),
            v("c2", 1, 2, segment="a", email="new@x"),
            v("c2", 3, segment="a", email="new@x"),
        ],
        {1: "version version", 2: "deletion deletion", 3: "version"},
    ),
    customer_case(
        "a type-1 column that a delivery lacks keeps the value it had",
        "type-1 column alone",
        [
            changes(1, c("c1", segment="a", email="old@x")),
            changes(2, c("c1", segment="b"), unknown=frozenset({"email"})),
        ],
        [v("c1", 1, 2, segment="a", email="old@x"), v("c1", 2, segment="b", email="old@x")],
        {1: "version", 2: "version"},
    ),
    customer_case(
        "a type-1 column takes the last moment of a day on which an earlier moment arrived later",
        "type-1 column late and older",
        [
            changes(2, c("c1", segment="a", email="evening@x", updated_at=at(2, 18))),
            changes(3, c("c1", segment="a", email="morning@x", updated_at=at(2, 9))),
        ],
        [v("c1", 2, segment="a", email="evening@x")],
        {2: "version", 3: "replaced"},
    ),
    customer_case(
        "a source's own column named effective_from is not taken for the warehouse's",
        "a source column named effective_from",
        [
            changes(1, c("c1", segment="a", effective_from="1999-01-01")),
            changes(2, c("c1", segment="a", effective_from="2001-01-01")),
        ],
        [v("c1", 1, segment="a")],
        {1: "version", 2: "repeat"},
    ),
    customer_case(
        "ids with quotes, inner blanks, capitals and emoji are different ids",
        "ids with quotes, blanks, capitals, emoji, 201 characters",
        [
            changes(
                1,
                c('O\'Brien "x"', segment="a"),
                c("a b", segment="b"),
                c("a  b", segment="c"),
                c("A b", segment="d"),
                c("🛒", segment="e"),
                c("x" * 200, segment="f"),
                c("back\\slash;--", segment="g"),
                quarantined=(quarantined_customer("x" * 201),),
            ),
            changes(2, c("A b", segment="z")),
        ],
        [
            v("A b", 1, 2, segment="d"),
            v("A b", 2, segment="z"),
            v('O\'Brien "x"', 1, segment="a"),
            v("a  b", 1, segment="c"),
            v("a b", 1, segment="b"),
            v("back\\slash;--", 1, segment="g"),
            v("x" * 200, 1, segment="f"),
            v("🛒", 1, segment="e"),
        ],
        {1: "version " * 7, 2: "version"},
    ),
    customer_case(
        "on the short day of spring the effective date is the date in the business time zone",
        "daylight-saving days",
        [
            changes(
                date(2024, 4, 1),
                c("c1", segment="a", updated_at=at(date(2024, 3, 30), 22, 59)),
                c("c1", segment="b", updated_at=at(date(2024, 3, 30), 23, 0)),
                c("c1", segment="c", updated_at=at(date(2024, 3, 31), 21, 59)),
                c("c1", segment="d", updated_at=at(date(2024, 3, 31), 22, 0)),
            )
        ],
        [
            v("c1", date(2024, 3, 30), date(2024, 3, 31), segment="a"),
            v("c1", date(2024, 3, 31), date(2024, 4, 1), segment="c"),
            v("c1", date(2024, 4, 1), segment="d"),
        ],
        {date(2024, 4, 1): "version replaced version version"},
        timezone="Europe/Amsterdam",
    ),
    customer_case(
        "on the long day of autumn the effective date is the date in the business time zone",
        "daylight-saving days",
        [
            changes(
                date(2024, 10, 28),
                c("c1", segment="a", updated_at=at(date(2024, 10, 26), 21, 59)),
                c("c1", segment="b", updated_at=at(date(2024, 10, 26), 22, 0)),
                c("c1", segment="c", updated_at=at(date(2024, 10, 27), 0, 30)),
                c("c1", segment="d", updated_at=at(date(2024, 10, 27), 1, 30)),
                c("c1", segment="e", updated_at=at(date(2024, 10, 27), 22, 59)),
                c("c1", segment="f", updated_at=at(date(2024, 10, 27), 23, 0)),
            )
        ],
        [
            v("c1", date(2024, 10, 26), date(2024, 10, 27), segment="a"),
            v("c1", date(2024, 10, 27), date(2024, 10, 28), segment="e"),
            v("c1", date(2024, 10, 28), segment="f"),
        ],
        {date(2024, 10, 28): "version replaced replaced replaced version version"},
        timezone="Europe/Amsterdam",
    ),
    customer_case(
        "in the repeated hour of autumn the later instant wins",
        "daylight-saving days",
        [
            changes(
                date(2024, 10, 27),
                c("c1", segment="second 02:10", updated_at=at(date(2024, 10, 27), 1, 10)),
                c("c1", segment="first 02:50", updated_at=at(date(2024, 10, 27), 0, 50)),
            )
        ],
        [v("c1", date(2024, 10, 27), segment="second 02:10")],
        {date(2024, 10, 27): "version replaced"},
        timezone="Europe/Amsterdam",
    ),
    customer_case(
        "a row without a moment is at the first instant of its day, also where midnight is skipped",
        "daylight-saving days",
        [
            changes(
                date(2024, 3, 31),
                c("c1", segment="start"),
                c("c1", segment="before", updated_at=at(date(2024, 3, 30), 21, 59)),
                c("c2", segment="start"),
                c("c2", segment="after", updated_at=at(date(2024, 3, 30), 22, 1)),
            )
        ],
        [
            v("c1", date(2024, 3, 30), date(2024, 3, 31), segment="before"),
            v("c1", date(2024, 3, 31), segment="start"),
            v("c2", date(2024, 3, 31), segment="after"),
        ],
        {date(2024, 3, 31): "version version replaced version"},
        timezone="Asia/Beirut",
    ),
    customer_case(
        "far west of Greenwich a moment after midnight UTC is still the day before",
        "daylight-saving days",
        [changes(3, c("c1", segment="a", updated_at=at(3, 4, 59)), c("c2", segment="a", updated_at=at(3, 5)))],
        [v("c1", 2, segment="a"), v("c2", 3, segment="a")],
        {3: "version version"},
        timezone="America/New_York",
    ),
]

# Facts

FACT_CASES = [
    order_case(
        "a line with quantity, price and discount is a sale with total and profit",
        "duplicate within and across deliveries",
        [lines(2, line("o1", 1, quantity=3, discount_amount="2.50"))],
        {2: "sale"},
        sales=(fact("o1", 1, 2, quantity=3, discount_amount="2.50", total_amount="27.50", profit="9.50"),),
    ),
    order_case(
        "a line before its dimension rows points at their first versions",
        "before its dimension row",
        [
            lines(2, line("o1", 1, customer_id="c2", product_id="p2")),
            delivered("customers", 4, customer("c2", segment="a")),
            delivered("customers", 5, customer("c2", segment="b")),
            delivered("products", 4, product("p2", cost="7")),
            delivered("products", 5, product("p2", cost="8")),
        ],
        {2: "sale"},
        sales=(fact("o1", 1, 2, customer=("c2", day(4)), product=("p2", day(4)), profit="3"),),
        more_customers=(customer_version("c2", 4, 5, segment="a"), customer_version("c2", 5, segment="b")),
        more_products=(product_version("p2", 4, 5, cost="7"), product_version("p2", 5, cost="8")),
        customer_classes={4: "version", 5: "version"},
        product_classes={4: "version", 5: "version"},
    ),
    order_case(
        "a late dimension row on a version's first day gives the lines its cost",
        "late dimension version",
        [
            delivered("products", 2, product("p2", cost="5")),
            lines(3, line("o1", 1, product_id="p2", order_ts=business(2))),
            delivered("products", 4, product("p2", cost="7", updated_at=at(2, 13))),
        ],
        {3: "sale"},
        sales=(fact("o1", 1, 3, product=("p2", day(2)), order_ts=business(2), profit="3"),),
        more_products=(product_version("p2", 2, cost="7"),),
        product_classes={2: "replaced", 4: "version"},
    ),
    order_case(
        "a late dimension version before the first one takes over lines that pointed at that for want of a better",
        "late dimension version",
        [
            lines(3, line("o1", 1, product_id="p2", order_ts=business(2)), line("o2", 1, customer_id="c2")),
            delivered("products", 5, product("p2", cost="5")),
            delivered("products", 6, product("p2", cost="7", updated_at=at(4, 9))),
            delivered("customers", 5, customer("c2", segment="b")),
            delivered("customers", 6, customer("c2", segment="a", updated_at=at(2, 23))),
        ],
        {3: "sale sale"},
        sales=(
            fact("o1", 1, 3, product=("p2", day(4)), order_ts=business(2), profit="3"),
            fact("o2", 1, 3, customer=("c2", day(2))),
        ),
        more_customers=(customer_version("c2", 2, 5, segment="a"), customer_version("c2", 5, segment="b")),
        more_products=(product_version("p2", 4, 5, cost="7"), product_version("p2", 5, cost="5")),
        customer_classes={5: "version", 6: "version"},
        product_classes={5: "version", 6: "version"},
    ),
    order_case(
        "a late dimension version moves only the lines from its first day on",
        "late dimension version",
        [
            delivered("products", 2, product("p2", cost="5")),
            lines(
                6,
                line("o1", 1, product_id="p2", order_ts=business(3)),
                line("o2", 1, product_id="p2", order_ts=business(4, 0)),
                line("o3", 1, product_id="p2", order_ts=business(5)),
            ),
            delivered("products", 7, product("p2", cost="7", updated_at=at(4, 23))),
        ],
        {6: "sale sale sale"},
        sales=(
            fact("o1", 1, 6, product=("p2", day(2)), order_ts=business(3), profit="5"),
            fact("o2", 1, 6, product=("p2", day(4)), order_ts=business(4, 0), profit="3"),
            fact("o3", 1, 6, product=("p2", day(4)), order_ts=business(5), profit="3"),
        ),
        more_products=(product_version("p2", 2, 4, cost="5"), product_version("p2", 4, cost="7")),
        product_classes={2: "version", 7: "version"},
    ),
    order_case(
        "a line in a deletion's gap points at the version that ended before",
        "in a deletion's gap",
        [
            delivered("products", 2, product("p2", cost="5")),
            delivered("products", 3, product("p2", deleted=True)),
            delivered("products", 6, product("p2", cost="7")),
            lines(
                7,
                line("o1", 1, product_id="p2", order_ts=business(5)),
                line("o2", 1, product_id="p2", order_ts=business(6)),
            ),
        ],
        {7: "sale sale"},
        sales=(
            fact("o1", 1, 7, product=("p2", day(2)), order_ts=business(5), profit="5"),
            fact("o2", 1, 7, product=("p2", day(6)), order_ts=business(6), profit="3"),
        ),
        more_products=(product_version("p2", 2, 3, cost="5"), product_version("p2", 6, cost="7")),
        product_classes={2: "version", 3: "deletion", 6: "version"},
    ),
    order_case(
        "a line of an id without any version makes its inferred member and has no profit",
        "inferred made",
        [lines(2, line("o1", 1, customer_id="c9", product_id="p9"))],
        {2: "sale"},
        sales=(fact("o1", 1, 2, customer=("c9", INFERRED_FROM), product=("p9", INFERRED_FROM), profit=None),),
        more_customers=(inferred(customer_version("c9", 1)),),
        more_products=(inferred(product_version("p9", 1)),),
    ),
    order_case(
        "an inferred member is upgraded when its id gets a version",
        "inferred upgraded",
        [
            lines(2, line("o1", 1, customer_id="c9", product_id="p9")),
            delivered("customers", 3, customer("c9", segment="a")),
            delivered("products", 3, product("p9", cost="7")),
        ],
        {2: "sale"},
        sales=(fact("o1", 1, 2, customer=("c9", day(3)), product=("p9", day(3)), profit="3"),),
        more_customers=(customer_version("c9", 3, segment="a"),),
        more_products=(product_version("p9", 3, cost="7"),),
        customer_classes={3: "version"},
        product_classes={3: "version"},
    ),
    order_case(
        "an inferred member is restored when the only delivery of its id is emptied",
        "inferred restored",
        [
            lines(2, line("o1", 1, customer_id="c9", product_id="p9")),
            delivered("customers", 3),
            delivered("products", 3),
        ],
        {2: "sale"},
        sales=(fact("o1", 1, 2, customer=("c9", INFERRED_FROM), product=("p9", INFERRED_FROM), profit=None),),
        more_customers=(inferred(customer_version("c9", 1)),),
        more_products=(inferred(product_version("p9", 1)),),
        formerly=[
            delivered("customers", 3, customer("c9", segment="a")),
            delivered("products", 3, product("p9", cost="7")),
        ],
        customer_classes={3: ""},
        product_classes={3: ""},
    ),
    order_case(
        "an inferred member is gone with the last line that names it",
        "inferred gone",
        [
            lines(2, line("o1", 1, customer_id="c9"), line("o2", 1, product_id="p9")),
            lines(3, tombstone("o1", 1), line("o2", 1, product_id="p1")),
        ],
        {2: "superseded superseded", 3: "tombstone sale"},
        sales=(fact("o2", 1, 3),),
    ),
    order_case(
        "an inferred member stays while a return still names it",
        "inferred gone",
        [
            lines(2, line("o1", 1, customer_id="c9"), line("o1", 2, customer_id="c9", quantity=-1)),
            lines(3, tombstone("o1", 1)),
        ],
        {2: "superseded return", 3: "tombstone"},
        returns=(fact("o1", 2, 2, customer=("c9", INFERRED_FROM), quantity=-1, total_amount="-10", profit="-4"),),
        more_customers=(inferred(customer_version("c9", 1)),),
    ),
    order_case(
        "an id whose only dimension row is a delete has an inferred member",
        "inferred made",
        [
            delivered("customers", 2, customer("c9", deleted=True)),
            lines(3, line("o1", 1, customer_id="c9")),
        ],
        {3: "sale"},
        sales=(fact("o1", 1, 3, customer=("c9", INFERRED_FROM)),),
        more_customers=(inferred(customer_version("c9", 1)),),
        customer_classes={2: "deletion"},
    ),
    order_case(
        "a member that one writer infers while another gives it its versions is one member",
        "two writers at once",
        [
            lines(2, line("o1", 1, customer_id="c9", product_id="p9")),
            delivered("customers", 2, customer("c9", segment="a")),
            delivered("products", 2, product("p9", cost="7")),
            lines(
                3,
                line("o2", 1, customer_id="c9", product_id="p9", order_ts=business(3)),
                line("o3", 1, customer_id="c8", order_ts=business(3)),
            ),
            delivered("customers", 3, customer("c9", segment="b")),
            delivered("products", 3, product("p9", cost="8", updated_at=at(2, 13))),
        ],
        {2: "sale", 3: "sale sale"},
        sales=(
            fact("o1", 1, 2, customer=("c9", day(2)), product=("p9", day(2)), profit="2"),
            fact("o2", 1, 3, customer=("c9", day(3)), product=("p9", day(2)), order_ts=business(3), profit="2"),
            fact("o3", 1, 3, customer=("c8", INFERRED_FROM), order_ts=business(3)),
        ),
        more_customers=(
            inferred(customer_version("c8", 1)),
            customer_version("c9", 2, 3, segment="a"),
            customer_version("c9", 3, segment="b"),
        ),
        more_products=(product_version("p9", 2, cost="8"),),
        customer_classes={2: "version", 3: "version"},
        product_classes={2: "replaced", 3: "version"},
    ),
    order_case(
        "of two rows of one line in one delivery the last stands",
        "duplicate within and across deliveries",
        [lines(2, line("o1", 1, quantity=2), line("o1", 1, quantity=3))],
        {2: "superseded sale"},
        sales=(fact("o1", 1, 2, quantity=3, total_amount="30", profit="12"),),
    ),
    order_case(
        "a line that is delivered again unchanged stands by its last row and keeps its first day",
        "duplicate within and across deliveries",
        [lines(2, line("o1", 1)), lines(3, line("o1", 1))],
        {2: "superseded", 3: "sale"},
        sales=(fact("o1", 1, 2),),
    ),
    order_case(
        "a new status alone is an equal telling",
        "duplicate within and across deliveries",
        [lines(2, line("o1", 1, status="paid")), lines(3, line("o1", 1, status="shipped"))],
        {2: "superseded", 3: "sale"},
        sales=(fact("o1", 1, 2),),
    ),
    order_case(
        "a rolling extract that repeats itself keeps the day of the first telling",
        "rolling extract",
        [
            lines(2, line("o1", 1, updated_at=at(2, 9))),
            lines(3, line("o1", 1, updated_at=at(2, 9)), line("o2", 1, updated_at=at(3, 9))),
            lines(4, line("o1", 1, updated_at=at(2, 9)), line("o2", 1, updated_at=at(3, 9))),
        ],
        {2: "superseded", 3: "superseded superseded", 4: "sale sale"},
        sales=(
            fact("o1", 1, 2, updated_at=at(2, 9)),
            fact("o2", 1, 3, updated_at=at(3, 9)),
        ),
    ),
    order_case(
        "a rolling extract with a correction names the day of the correction",
        "rolling extract",
        [lines(2, line("o1", 1)), lines(3, line("o1", 1, quantity=2)), lines(4, line("o1", 1, quantity=2))],
        {2: "superseded", 3: "superseded", 4: "sale"},
        sales=(fact("o1", 1, 3, quantity=2, total_amount="20", profit="8"),),
    ),
    order_case(
        "a rolling extract that corrects and reverts names the day of the reversion",
        "rolling extract",
        [lines(2, line("o1", 1)), lines(3, line("o1", 1, quantity=2)), lines(4, line("o1", 1))],
        {2: "superseded", 3: "superseded", 4: "sale"},
        sales=(fact("o1", 1, 4),),
    ),
    order_case(
        "a rolling extract that arrives backward keeps the day of the first telling",
        "rolling extract",
        [lines(4, line("o1", 1)), lines(3, line("o1", 1)), lines(2, line("o1", 1))],
        {2: "superseded", 3: "superseded", 4: "sale"},
        sales=(fact("o1", 1, 2),),
    ),
    order_case(
        "a telling that differs in updated_at alone is a new telling",
        "rolling extract",
        [
            lines(2, line("o1", 1, updated_at=at(2, 9))),
            lines(3, line("o1", 1, updated_at=at(3, 9))),
            lines(4, line("o1", 1, updated_at=at(3, 9))),
        ],
        {2: "superseded", 3: "superseded", 4: "sale"},
        sales=(fact("o1", 1, 3, updated_at=at(3, 9)),),
    ),
    order_case(
        "an updated_at that equals the start of the delivery day is still another telling than none",
        "rolling extract",
        [lines(2, line("o1", 1)), lines(3, line("o1", 1, updated_at=at(2)))],
        {2: "superseded", 3: "sale"},
        sales=(fact("o1", 1, 3, updated_at=at(2)),),
    ),
    order_case(
        "a telling that differs in a null customer is a new telling",
        "rolling extract",
        [
            lines(2, line("o1", 1, customer_id=None), line("o2", 1), line("o3", 1, customer_id=None)),
            lines(3, line("o1", 1), line("o2", 1, customer_id=None), line("o3", 1, customer_id=None)),
        ],
        {2: "superseded superseded superseded", 3: "sale sale sale"},
        sales=(fact("o1", 1, 3), fact("o2", 1, 3, customer=None), fact("o3", 1, 2, customer=None)),
    ),
    order_case(
        "a correction replaces the line",
        "correction",
        [
            lines(2, line("o1", 1)),
            lines(
                3,
                line("o1", 1, customer_id=None, quantity=2, unit_price="9", discount_amount="1", order_ts=business(1)),
            ),
        ],
        {2: "superseded", 3: "sale"},
        sales=(
            fact(
                "o1",
                1,
                3,
                customer=None,
                quantity=2,
                unit_price="9",
                discount_amount="1",
                total_amount="17",
                profit="5",
                order_ts=business(1),
            ),
        ),
    ),
    order_case(
        "an older correction that arrives after a newer one does nothing",
        "an older correction after it",
        [
            lines(2, line("o1", 1, updated_at=at(2, 9))),
            lines(3, line("o1", 1, quantity=3, updated_at=at(3, 9))),
            lines(4, line("o1", 1, quantity=2, updated_at=at(2, 20))),
        ],
        {2: "superseded", 3: "sale", 4: "superseded"},
        sales=(fact("o1", 1, 3, quantity=3, total_amount="30", profit="12", updated_at=at(3, 9)),),
    ),
    order_case(
        "a correction without a moment is older than a telling of later that day",
        "an older correction after it",
        [
            lines(2, line("o1", 1, updated_at=at(3, 9))),
            lines(3, line("o1", 1, quantity=2)),
            lines(4, line("o1", 1, quantity=3)),
            lines(5, line("o1", 1, quantity=5, updated_at=at(3, 23))),
        ],
        {2: "superseded", 3: "superseded", 4: "sale", 5: "superseded"},
        sales=(fact("o1", 1, 4, quantity=3, total_amount="30", profit="12"),),
    ),
    order_case(
        "a quarantined correction leaves the former row standing",
        "correction",
        [lines(2, line("o1", 1)), lines(3, line("o2", 1), quarantined=(quarantined_line("o1", 1),))],
        {2: "sale", 3: "sale"},
        sales=(fact("o1", 1, 2), fact("o2", 1, 3)),
    ),
    order_case(
        "a cancelled line leaves the facts and its sister stays",
        "cancelled",
        [lines(2, line("o1", 1), line("o1", 2)), lines(3, tombstone("o1", 1, "cancelled"))],
        {2: "superseded sale", 3: "tombstone"},
        sales=(fact("o1", 2, 2),),
    ),
    order_case(
        "a deleted return leaves the facts",
        "deleted",
        [lines(2, line("o1", 1, quantity=-1)), lines(3, tombstone("o1", 1, "deleted"))],
        {2: "superseded", 3: "tombstone"},
    ),
    order_case(
        "a line that arrives after its tombstone but is older stays away",
        "cancelled",
        [lines(3, tombstone("o1", 1)), lines(4, line("o1", 1, updated_at=at(2, 9)))],
        {3: "tombstone", 4: "superseded"},
    ),
    order_case(
        "a tombstone that arrives late and is older than a correction does nothing",
        "cancelled",
        [
            lines(2, line("o1", 1, updated_at=at(2, 9))),
            lines(4, line("o1", 1, quantity=2, updated_at=at(4, 9))),
            lines(5, tombstone("o1", 1, updated_at=at(3, 9))),
        ],
        {2: "superseded", 4: "sale", 5: "tombstone"},
        sales=(fact("o1", 1, 4, quantity=2, total_amount="20", profit="8", updated_at=at(4, 9)),),
    ),
    order_case(
        "a tombstone of an unknown line does nothing",
        "deleted",
        [lines(2, tombstone("o1", 1, "deleted"), line("o2", 1))],
        {2: "tombstone sale"},
        sales=(fact("o2", 1, 2),),
    ),
    order_case(
        "a line that is reinstated with the same values is a new telling",
        "reinstated",
        [lines(2, line("o1", 1)), lines(3, tombstone("o1", 1)), lines(4, line("o1", 1))],
        {2: "superseded", 3: "tombstone", 4: "sale"},
        sales=(fact("o1", 1, 4),),
    ),
    order_case(
        "a tombstone that arrives late breaks the run of equal tellings",
        "reinstated",
        [lines(2, line("o1", 1)), lines(4, line("o1", 1)), lines(3, tombstone("o1", 1))],
        {2: "superseded", 3: "tombstone", 4: "sale"},
        sales=(fact("o1", 1, 4),),
    ),
    order_case(
        "a tombstone and a reinstatement in one delivery take effect in their order",
        "reinstated",
        [
            lines(2, line("o1", 1), line("o2", 1)),
            lines(3, tombstone("o1", 1), line("o1", 1), line("o2", 1), tombstone("o2", 1)),
        ],
        {2: "superseded superseded", 3: "tombstone sale superseded tombstone"},
        sales=(fact("o1", 1, 3),),
    ),
    order_case(
        "an order date that is corrected across the year moves the row to the other year",
        "date changed across a year's partition",
        [
            lines(2, line("o1", 1, order_ts=business(1, 0)), line("o2", 1, order_ts=business(date(2023, 12, 31)))),
            lines(
                3,
                line("o1", 1, order_ts=business(date(2023, 12, 31), 23)),
                line("o2", 1, order_ts=business(1)),
            ),
        ],
        {2: "superseded superseded", 3: "sale sale"},
        sales=(
            fact("o1", 1, 3, order_ts=business(date(2023, 12, 31), 23)),
            fact("o2", 1, 3, order_ts=business(1)),
        ),
    ),
    order_case(
        "an order dated in a year without a partition yet finds its place",
        "order dated in a year without a partition yet",
        [lines(2, line("o1", 1, order_ts=business(date(2016, 2, 29))))],
        {2: "sale"},
        sales=(fact("o1", 1, 2, order_ts=business(date(2016, 2, 29))),),
    ),
    order_case(
        "an order of tomorrow is taken",
        "order dated in the far future",
        [lines(2, line("o1", 1, order_ts=business(3, 23)))],
        {2: "sale"},
        sales=(fact("o1", 1, 2, order_ts=business(3, 23)),),
    ),
    order_case(
        "a correction to the far future is quarantined and leaves the former row standing",
        "order dated in the far future",
        [lines(2, line("o1", 1)), lines(3, quarantined=(quarantined_line("o1", 1),))],
        {2: "sale", 3: ""},
        sales=(fact("o1", 1, 2),),
    ),
    order_case(
        "a correction to a date before the floor is quarantined and leaves the former row standing",
        "order dated before the floor",
        [lines(2, line("o1", 1)), lines(3, line("o2", 1), quarantined=(quarantined_line("o1", 1),))],
        {2: "sale", 3: "sale"},
        sales=(fact("o1", 1, 2), fact("o2", 1, 3)),
    ),
    order_case(
        "a return before its sale stands by itself, and the sale beside it later",
        "return before its sale",
        [
            lines(2, line("o1", 2, quantity=-1, order_ts=business(2))),
            lines(3, line("o1", 1, quantity=2, order_ts=business(1))),
        ],
        {2: "return", 3: "sale"},
        sales=(fact("o1", 1, 3, quantity=2, total_amount="20", profit="8", order_ts=business(1)),),
        returns=(fact("o1", 2, 2, quantity=-1, total_amount="-10", profit="-4"),),
    ),
    order_case(
        "a sale corrected to a negative quantity moves to the returns, discount with its sign",
        "sign changes both ways",
        [lines(2, line("o1", 1, quantity=2)), lines(3, line("o1", 1, quantity=-2, discount_amount="-1"))],
        {2: "superseded", 3: "return"},
        returns=(fact("o1", 1, 3, quantity=-2, discount_amount="-1", total_amount="-19", profit="-7"),),
    ),
    order_case(
        "a return corrected to a positive quantity moves to the sales",
        "sign changes both ways",
        [lines(2, line("o1", 1, quantity=-2)), lines(3, line("o1", 1, quantity=2))],
        {2: "superseded", 3: "sale"},
        sales=(fact("o1", 1, 3, quantity=2, total_amount="20", profit="8"),),
    ),
    order_case(
        "a sign that an older correction changes late stays as it is",
        "sign changes both ways",
        [
            lines(3, line("o1", 1, quantity=2, updated_at=at(3, 9))),
            lines(4, line("o1", 1, quantity=-2, updated_at=at(2, 9))),
        ],
        {3: "sale", 4: "superseded"},
        sales=(fact("o1", 1, 3, quantity=2, total_amount="20", profit="8", updated_at=at(3, 9)),),
    ),
    order_case(
        "quantity 0 takes the line out",
        "quantity 0",
        [lines(2, line("o1", 1), line("o2", 1)), lines(3, line("o1", 1, quantity=0, deleted=True))],
        {2: "superseded sale", 3: "tombstone"},
        sales=(fact("o2", 1, 2),),
    ),
    order_case(
        "a zero price is a sale at a loss",
        "zero price",
        [lines(2, line("o1", 1, quantity=2, unit_price=Decimal(0)))],
        {2: "sale"},
        sales=(fact("o1", 1, 2, quantity=2, unit_price=Decimal(0), total_amount=Decimal(0), profit="-12"),),
    ),
    order_case(
        "four decimals are kept exactly",
        "four decimals",
        [
            delivered("products", 2, product("p2", cost="0.1111")),
            lines(2, line("o1", 1, product_id="p2", quantity=3, unit_price="0.3333", discount_amount="0.0001")),
        ],
        {2: "sale"},
        sales=(
            fact(
                "o1",
                1,
                2,
                product=("p2", day(2)),
                quantity=3,
                unit_price="0.3333",
                discount_amount="0.0001",
                total_amount="0.9998",
                profit="0.6665",
            ),
        ),
        more_products=(product_version("p2", 2, cost="0.1111"),),
        product_classes={2: "version"},
    ),
    order_case(
        "a profit of 28 digits is exact",
        "four decimals",
        [
            delivered("products", 2, product("p2", cost="99999999999999.9999")),
            lines(2, line("o1", 1, product_id="p2", quantity=2147483647, unit_price="0.0001")),
        ],
        {2: "sale"},
        sales=(
            fact(
                "o1",
                1,
                2,
                product=("p2", day(2)),
                quantity=2147483647,
                unit_price="0.0001",
                total_amount="214748.3647",
                profit="-214748364699999999570503.2706",
            ),
        ),
        more_products=(product_version("p2", 2, cost="99999999999999.9999"),),
        product_classes={2: "version"},
    ),
    order_case(
        "a correction with five decimals is quarantined and leaves the former row standing",
        "five decimals",
        [lines(2, line("o1", 1, quantity=-1)), lines(3, quarantined=(quarantined_line("o1", 1),))],
        {2: "return", 3: ""},
        returns=(fact("o1", 1, 2, quantity=-1, total_amount="-10", profit="-4"),),
    ),
    order_case(
        "a correction with a total that overflows is quarantined, and a later good one stands",
        "a total that overflows",
        [
            lines(2, line("o1", 1)),
            lines(3, quarantined=(quarantined_line("o1", 1),)),
            lines(4, line("o1", 1, quantity=2)),
        ],
        {2: "superseded", 3: "", 4: "sale"},
        sales=(fact("o1", 1, 4, quantity=2, total_amount="20", profit="8"),),
    ),
    order_case(
        "a product without a cost gives no profit",
        "zero price",
        [delivered("products", 2, product("p2", brand="x")), lines(2, line("o1", 1, product_id="p2"))],
        {2: "sale"},
        sales=(fact("o1", 1, 2, product=("p2", day(2)), profit=None),),
        more_products=(product_version("p2", 2, brand="x"),),
        product_classes={2: "version"},
    ),
    order_case(
        "a line of an unknown customer, of none, and of a deleted one point at three kinds of member",
        "unknown, missing and deleted customer",
        [
            delivered("customers", 2, customer("c2", segment="a")),
            delivered("customers", 3, customer("c2", deleted=True)),
            lines(
                4,
                line("o1", 1, customer_id="c9", order_ts=business(4)),
                line("o2", 1, customer_id=None, order_ts=business(4)),
                line("o3", 1, customer_id="c2", order_ts=business(4)),
            ),
        ],
        {4: "sale sale sale"},
        sales=(
            fact("o1", 1, 4, order_ts=business(4), customer=("c9", INFERRED_FROM)),
            fact("o2", 1, 4, order_ts=business(4), customer=None),
            fact("o3", 1, 4, order_ts=business(4), customer=("c2", day(2))),
        ),
        more_customers=(customer_version("c2", 2, 3, segment="a"), inferred(customer_version("c9", 1))),
        customer_classes={2: "version", 3: "deletion"},
    ),
    order_case(
        "a line that is dropped from a replaced delivery gives way to the next best telling of it",
        "line dropped from a replaced delivery",
        [lines(2, line("o1", 1)), lines(3, line("o2", 1))],
        {2: "sale", 3: "sale"},
        sales=(fact("o1", 1, 2), fact("o2", 1, 3)),
        formerly=[lines(3, line("o1", 1, quantity=2), line("o2", 1))],
    ),
    order_case(
        "a line that is dropped from its only delivery is gone",
        "line dropped from a replaced delivery",
        [lines(2, line("o2", 1))],
        {2: "sale"},
        sales=(fact("o2", 1, 2),),
        formerly=[lines(2, line("o1", 1, customer_id="c9"), line("o2", 1))],
    ),
    order_case(
        "a tombstone that is dropped from a replaced delivery gives the line back",
        "line dropped from a replaced delivery",
        [lines(2, line("o1", 1)), lines(3)],
        {2: "sale", 3: ""},
        sales=(fact("o1", 1, 2),),
        formerly=[lines(3, tombstone("o1", 1))],
    ),
    order_case(
        "a first telling that is dropped gives delivered_on to the next equal one",
        "line dropped from a replaced delivery",
        [lines(2), lines(3, line("o1", 1)), lines(4, line("o1", 1))],
        {2: "", 3: "superseded", 4: "sale"},
        sales=(fact("o1", 1, 3),),
        formerly=[lines(2, line("o1", 1))],
    ),
    order_case(
        "a line whose delivery lacks it under `unit: line` stays",
        "order in two deliveries",
        [lines(2, line("o1", 1), line("o1", 2)), lines(3, line("o1", 1))],
        {2: "superseded sale", 3: "sale"},
        sales=(fact("o1", 1, 2), fact("o1", 2, 2)),
    ),
    order_case(
        "a whole order that comes again with fewer lines loses the others",
        "order with fewer lines again (`unit: order`)",
        [
            whole_orders(2, line("o1", 1), line("o1", 2), line("o1", 3), line("o2", 1)),
            whole_orders(3, line("o1", 1), line("o1", 2, quantity=2)),
        ],
        {2: "superseded superseded superseded sale", 3: "sale sale"},
        sales=(
            fact("o1", 1, 2),
            fact("o1", 2, 3, quantity=2, total_amount="20", profit="8"),
            fact("o2", 1, 2),
        ),
    ),
    order_case(
        "a whole order that loses a line and regains it tells that line anew",
        "order with fewer lines again (`unit: order`)",
        [
            whole_orders(2, line("o1", 1), line("o1", 2)),
            whole_orders(3, line("o1", 1)),
            whole_orders(4, line("o1", 1), line("o1", 2)),
        ],
        {2: "superseded superseded", 3: "superseded", 4: "sale sale"},
        sales=(fact("o1", 1, 2), fact("o1", 2, 4)),
    ),
    order_case(
        "a quarantined line of a whole order leaves its former row standing",
        "order with fewer lines again (`unit: order`)",
        [
            whole_orders(2, line("o1", 1), line("o1", 2), line("o1", 3)),
            whole_orders(3, line("o1", 1, quantity=2), quarantined=(quarantined_line("o1", 2),)),
        ],
        {2: "superseded sale superseded", 3: "sale"},
        sales=(
            fact("o1", 1, 3, quantity=2, total_amount="20", profit="8"),
            fact("o1", 2, 2),
        ),
    ),
    order_case(
        "a quarantined line between two equal tellings does not part them",
        "order with fewer lines again (`unit: order`)",
        [
            whole_orders(2, line("o1", 1), line("o1", 2)),
            whole_orders(3, line("o1", 1), quarantined=(quarantined_line("o1", 2),)),
            whole_orders(4, line("o1", 1), line("o1", 2)),
        ],
        {2: "superseded superseded", 3: "superseded", 4: "sale sale"},
        sales=(fact("o1", 1, 2), fact("o1", 2, 2)),
    ),
    order_case(
        "a quarantined line that did not stand before stays away",
        "order with fewer lines again (`unit: order`)",
        [
            whole_orders(2, line("o1", 1), line("o1", 2)),
            whole_orders(3, line("o1", 1)),
            whole_orders(4, line("o1", 1), quarantined=(quarantined_line("o1", 2),)),
        ],
        {2: "superseded superseded", 3: "superseded", 4: "sale"},
        sales=(fact("o1", 1, 2),),
    ),
    order_case(
        "a delivery in which all lines of an order were quarantined does not hold it",
        "order with fewer lines again (`unit: order`)",
        [
            whole_orders(2, line("o1", 1), line("o1", 2)),
            whole_orders(3, line("o2", 1), quarantined=(quarantined_line("o1", 1),)),
        ],
        {2: "sale sale", 3: "sale"},
        sales=(fact("o1", 1, 2), fact("o1", 2, 2), fact("o2", 1, 3)),
    ),
    order_case(
        "a whole order in two deliveries is what the later one holds",
        "order in two deliveries",
        [
            whole_orders(3, line("o1", 1, quantity=3)),
            whole_orders(2, line("o1", 1), line("o1", 2)),
        ],
        {2: "superseded superseded", 3: "sale"},
        sales=(fact("o1", 1, 3, quantity=3, total_amount="30", profit="12"),),
    ),
    order_case(
        "a whole order that arrives later with older moments does nothing",
        "order in two deliveries",
        [
            whole_orders(2, line("o1", 1, updated_at=at(2, 9)), line("o1", 2, updated_at=at(2, 9))),
            whole_orders(3, line("o1", 1, quantity=3, updated_at=at(2, 8))),
        ],
        {2: "sale sale", 3: "superseded"},
        sales=(fact("o1", 1, 2, updated_at=at(2, 9)), fact("o1", 2, 2, updated_at=at(2, 9))),
    ),
    order_case(
        "the moment of a whole order is the greatest of its rows",
        "order in two deliveries",
        [
            whole_orders(2, line("o1", 1, updated_at=at(2, 8)), line("o1", 2, updated_at=at(2, 20))),
            whole_orders(3, line("o1", 1, quantity=3, updated_at=at(2, 12))),
        ],
        {2: "sale sale", 3: "superseded"},
        sales=(fact("o1", 1, 2, updated_at=at(2, 8)), fact("o1", 2, 2, updated_at=at(2, 20))),
    ),
    order_case(
        "of two whole orders at the same moment the later delivery day wins",
        "order in two deliveries",
        [
            whole_orders(3, line("o1", 1, quantity=3, updated_at=at(2, 9))),
            whole_orders(2, line("o1", 1, updated_at=at(2, 9)), line("o1", 2, updated_at=at(2, 8))),
        ],
        {2: "superseded superseded", 3: "sale"},
        sales=(fact("o1", 1, 3, quantity=3, total_amount="30", profit="12", updated_at=at(2, 9)),),
    ),
    order_case(
        "a whole order that is dropped from a replaced delivery gives way to its former telling",
        "order in two deliveries",
        [whole_orders(2, line("o1", 1), line("o1", 2)), whole_orders(3)],
        {2: "sale sale", 3: ""},
        sales=(fact("o1", 1, 2), fact("o1", 2, 2)),
        formerly=[whole_orders(3, line("o1", 1, quantity=3))],
    ),
    order_case(
        "a tombstone removes the whole order",
        "cancelled",
        [
            whole_orders(2, line("o1", 1), line("o1", 2), line("o2", 1)),
            whole_orders(3, tombstone("o1", 1)),
        ],
        {2: "superseded superseded sale", 3: "tombstone"},
        sales=(fact("o2", 1, 2),),
    ),
    order_case(
        "a whole order that was cancelled and comes back tells all its lines anew",
        "reinstated",
        [
            whole_orders(2, line("o1", 1)),
            whole_orders(3, tombstone("o1", 1)),
            whole_orders(4, line("o1", 1)),
        ],
        {2: "superseded", 3: "tombstone", 4: "sale"},
        sales=(fact("o1", 1, 4),),
    ),
    order_case(
        "of a whole order with a tombstone the rows after it stand",
        "reinstated",
        [
            whole_orders(2, line("o1", 1), line("o1", 3)),
            whole_orders(3, line("o1", 1), tombstone("o1", 2), line("o1", 3)),
        ],
        {2: "superseded superseded", 3: "superseded tombstone sale"},
        sales=(fact("o1", 3, 3),),
    ),
    order_case(
        "of a whole order the rows after a tombstone are those of later moments, wherever they stand",
        "reinstated",
        [
            whole_orders(
                3,
                line("o1", 1, updated_at=at(3, 10)),
                tombstone("o1", 2, updated_at=at(3, 9)),
                line("o1", 3, updated_at=at(3, 8)),
            ),
        ],
        {3: "sale tombstone superseded"},
        sales=(fact("o1", 1, 3, updated_at=at(3, 10)),),
    ),
    order_case(
        "a tombstone removes the whole order, quarantined lines with it",
        "cancelled",
        [
            whole_orders(2, line("o1", 1), line("o1", 2)),
            whole_orders(3, tombstone("o1", 1), quarantined=(quarantined_line("o1", 2),)),
        ],
        {2: "superseded superseded", 3: "tombstone"},
    ),
    order_case(
        "a whole order ends the lines that single lines told of, and later single lines apply on top",
        "order in two deliveries",
        [
            lines(2, line("o1", 1), line("o1", 2), line("o1", 3)),
            whole_orders(3, line("o1", 1), line("o1", 2)),
            lines(4, line("o1", 2, quantity=2), line("o1", 4)),
        ],
        {2: "superseded superseded superseded", 3: "sale superseded", 4: "sale sale"},
        sales=(
            fact("o1", 1, 2),
            fact("o1", 2, 4, quantity=2, total_amount="20", profit="8"),
            fact("o1", 4, 4),
        ),
    ),
    order_case(
        "a single line that arrives after a whole order but is older does nothing",
        "order in two deliveries",
        [
            whole_orders(3, line("o1", 1, updated_at=at(3, 9))),
            lines(4, line("o1", 1, quantity=2, updated_at=at(2, 9)), line("o1", 2, updated_at=at(2, 9))),
        ],
        {3: "sale", 4: "superseded superseded"},
        sales=(fact("o1", 1, 3, updated_at=at(3, 9)),),
    ),
    order_case(
        "the start of the delivery day is that of the business time zone, in summer as in winter",
        "daylight-saving days",
        [
            lines(date(2024, 3, 31), line("o1", 1, order_ts=business(date(2024, 3, 31)))),
            lines(date(2024, 4, 1), line("o2", 1, order_ts=business(date(2024, 3, 31), 23))),
        ],
        {date(2024, 3, 31): "sale", date(2024, 4, 1): "sale"},
        sales=(
            fact(
                "o1",
                1,
                date(2024, 3, 31),
                order_ts=business(date(2024, 3, 31)),
                updated_at=at(date(2024, 3, 30), 23),
            ),
            fact(
                "o2",
                1,
                date(2024, 4, 1),
                order_ts=business(date(2024, 3, 31), 23),
                updated_at=at(date(2024, 3, 31), 22),
            ),
        ),
        timezone="Europe/Amsterdam",
    ),
]

CASES = DIMENSION_CASES + FACT_CASES
