"""Random deliveries as they are staged, for tests of rules that are pure functions: few keys, rows of every kind."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import strategies as st

from data_platform_tests import cases
from data_platform_tests.reference import Delivery, Entity, Row

ENTITIES: tuple[Entity, ...] = ("customers", "products", "orders")
TIMEZONES = ("UTC", "Europe/Amsterdam", "America/New_York", "Asia/Beirut")
# Over the turn of the year, and so over two partitions of the facts.
DAYS = tuple(date(2023, 12, 29) + timedelta(days=n) for n in range(7))
CUSTOMERS = ("c1", "c2", "c3", 'c"4\r\n')
PRODUCTS = ("p1", "p2", "p3", "p\\.4")
ORDERS = ("o1", "o2", "O1")
QUARANTINED = 1


@st.composite
def deliveries(draw: st.DrawFn, entity: Entity, day: date, mode: str, unit: str | None) -> Delivery:
    """One delivery of an entity for a day; often small, sometimes empty."""
    row = {"customers": customers, "products": products, "orders": lines}[entity]
    rows = draw(st.lists(row(day), max_size=5))
    quarantined = draw(st.lists(row(day), max_size=QUARANTINED))
    columns = ["updated_at"]
    if entity != "orders":
        columns += [*cases.TRACKED[entity][-2:], *cases.OVERWRITTEN[entity]]
    unknown = draw(st.one_of(st.just(frozenset[str]()), st.frozensets(st.sampled_from(columns), max_size=2)))
    for number, each in enumerate(draw(st.permutations(rows + quarantined)), start=1):
        each |= {"file": draw(st.sampled_from(("a.csv", "B.csv"))), "row": number}
        if "updated_at" in unknown:
            each["updated_at"] = None
    return Delivery(
        entity,
        day,
        mode="changes" if entity == "orders" else mode,  # type: ignore[arg-type]
        unit=unit or draw(st.sampled_from(("line", "order"))) if entity == "orders" else "line",  # type: ignore[arg-type]
        unknown=unknown,
        rows=rows,
        quarantined=quarantined,
    )


def moments(day: date) -> st.SearchStrategy[datetime | None]:
    """When a row says that it changed: mostly not at all, else late, on the day, or a day ahead at most."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    ahead = st.sampled_from([-72, -48, -30, -24, -5, -2, 0, 5, 9, 18, 23])
    return st.one_of(st.none(), ahead.map(lambda hours: midnight + timedelta(hours=hours)))


@st.composite
def customers(draw: st.DrawFn, day: date) -> Row:
    """A customer."""
    return cases.customer(
        draw(st.sampled_from(CUSTOMERS)),
        updated_at=draw(moments(day)),
        deleted=draw(st.integers(0, 4)) == 4,
        country=draw(st.sampled_from(("NL", "\\.", None))),
        email=draw(st.sampled_from(("x@x", "y@y", None))),
    )


@st.composite
def products(draw: st.DrawFn, day: date) -> Row:
    """A product."""
    return cases.product(
        draw(st.sampled_from(PRODUCTS)),
        updated_at=draw(moments(day)),
        deleted=draw(st.integers(0, 4)) == 4,
        cost=draw(st.sampled_from(("6", "7.0001", None))),
    )


@st.composite
def lines(draw: st.DrawFn, day: date) -> Row:
    """An order line, or its tombstone."""
    key = draw(st.sampled_from(ORDERS)), draw(st.integers(1, 2))
    moment = draw(moments(day))
    if draw(st.integers(0, 4)) == 4:
        return cases.tombstone(*key, updated_at=moment)
    return cases.line(
        *key,
        customer_id=draw(st.sampled_from((*CUSTOMERS[:2], CUSTOMERS[3], None))),
        product_id=draw(st.sampled_from((*PRODUCTS[:2], PRODUCTS[3]))),
        quantity=draw(st.sampled_from((1, 2, -1))),
        unit_price=draw(st.sampled_from((Decimal(10), Decimal("0.0001")))),
        order_ts=datetime(draw(st.sampled_from((2023, 2024))), 1, draw(st.sampled_from((1, 2))), 12)
        if draw(st.booleans())
        else datetime(2023, 12, draw(st.integers(29, 31)), 23),
        updated_at=moment,
    )
