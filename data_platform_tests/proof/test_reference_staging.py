"""The reference of staging: its rules by hand-written examples, then held against the platform on random deliveries."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_platform.lake import Lake
from data_platform_tests.proof.delivered import Delivered, Settled, Told
from data_platform_tests.proof.landing import Verdict, deliver, deliver_range, landed
from data_platform_tests.proof.reference_staging import COLUMNS, REQUIRED, nearest_full, settle
from data_platform_tests.reference import Delivery, Entity, Row, observe

DAY = date(2024, 1, 5)
LINE = {
    "order_id": "o1",
    "line_number": "1",
    "product_id": "p1",
    "quantity": "2",
    "unit_price": "1.50",
    "order_ts": "2024-01-05T10:00:00",
}


def line(**values: str | None) -> dict[str, str | None]:
    return LINE | values


def unnumbered(**values: str | None) -> dict[str, str | None]:
    return {column: value for column, value in line(**values).items() if column != "line_number"}


def delivery(*rows: dict[str, str | None], entity: Entity = "orders", day: date = DAY, **terms: Any) -> Delivered:
    """A delivery of one file whose columns are those that any of its rows has."""
    columns = dict.fromkeys([*REQUIRED[entity], *(column for row in rows for column in row)])
    told = tuple(Told("d.csv", number, row) for number, row in enumerate(rows, start=1))
    return Delivered(entity, day, tuple(columns), told, terms)


def settled(*rows: dict[str, str | None], timezone: str = "UTC", **options: Any) -> Delivery:
    result = settle(delivery(*rows, **options), timezone)
    assert result.delivery is not None, result.refusal
    return result.delivery


def only(*rows: dict[str, str | None], **options: Any) -> Row:
    [row] = settled(*rows, **options).rows
    return row


def is_taken(row: dict[str, str | None], **options: Any) -> bool:
    return bool(settled(row, **options).rows)


# Exact copies


def test_copies_are_told_by_all_delivered_columns_after_trimming() -> None:
    figures = settle(delivery(line(till="1"), line(till=" 1 "), line(till="2"), line(till="")), "UTC").figures
    assert figures == {"delivered": 4, "staged": 3, "quarantined": 0, "duplicate": 1}


def test_copies_are_told_before_anything_else_unless_they_are_kept() -> None:
    rows = [line(quantity="x")] * 3
    assert settle(delivery(*rows), "UTC").figures["quarantined"] == 1
    assert settle(delivery(*rows, exact_copies="keep"), "UTC").figures["quarantined"] == 3


def test_of_copies_the_first_file_in_byte_order_has_the_row() -> None:
    told = tuple(Told(file, 1, LINE) for file in ("é.csv", "a.csv", "B.csv"))
    result = settle(Delivered("orders", DAY, tuple(LINE), told), "UTC")
    assert result.delivery is not None
    assert [row["file"] for row in result.delivery.rows] == ["B.csv"]


def test_an_id_composed_otherwise_is_the_same_id_but_no_copy() -> None:
    result = settled(line(order_id="caf\u00e9"), line(order_id="cafe\u0301"))
    assert [row["order_id"] for row in result.rows] == ["caf\u00e9", "caf\u00e9"]


# Values


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("unit_price", "1.23450", Decimal("1.2345")),
        ("unit_price", "99999999999999.9999", Decimal("99999999999999.9999")),
        ("unit_price", "1e2", Decimal(100)),
        ("unit_price", "+.5", Decimal("0.5")),
        ("line_number", "5.0", 5),
        ("line_number", "5e2", 500),
        ("line_number", "-2147483648", -2147483648),
        ("customer_id", " \u2003c1\t", "c1"),
        ("customer_id", "x" * 200, "x" * 200),
        ("customer_id", "  ", None),
        ("status", " cafe\u0301 ", "cafe\u0301"),
        ("order_ts", "2024-01-05", datetime(2024, 1, 5)),
        ("order_ts", "2024-01-05 10:00:00.1234569", datetime(2024, 1, 5, 10, 0, 0, 123456)),
        ("updated_at", "2024-01-05T10:00+02:00", datetime(2024, 1, 5, 8, tzinfo=UTC)),
    ],
)
def test_a_value_is_read_exactly(column: str, text: str, value: object) -> None:
    assert only(line(quantity="1") | {column: text})[column] == value


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("unit_price", "1.23456"),
        ("unit_price", "100000000000000"),
        ("unit_price", "1,5"),
        ("unit_price", "1_000"),
        ("unit_price", "NaN"),
        ("unit_price", "1/2"),
        ("unit_price", "."),
        ("discount_amount", "none"),
        ("quantity", "2.5"),
        ("quantity", "2147483648"),
        ("line_number", "one"),
        ("line_number", ""),
        ("product_id", " "),
        ("product_id", "x" * 201),
        ("order_id", "a\0b"),
        ("status", "a\0b"),
        ("order_ts", "2024-02-30T10:00:00"),
        ("order_ts", "2024-01-05T24:00:00"),
        ("order_ts", "0000-01-05"),
        ("order_ts", "yesterday"),
        ("unit_price", "-0.01"),
    ],
)
def test_a_row_is_quarantined_for(column: str, text: str) -> None:
    assert not is_taken(line(**{column: text}))


@pytest.mark.parametrize(("text", "value"), [("TRUE", True), ("y", True), ("0", False), ("No", False), ("", False)])
def test_a_deletion_flag_is_read(text: str, value: bool) -> None:
    assert only({"customer_id": "c1", "is_deleted": text}, entity="customers")["deleted"] is value


def test_a_deletion_flag_that_cannot_be_read_is_no_default() -> None:
    assert not is_taken({"customer_id": "c1", "is_deleted": "perhaps"}, entity="customers")


def test_a_date_alone_is_that_date_and_of_a_time_the_date_in_business_time() -> None:
    rows = [{"customer_id": "c1", "created_date": text} for text in ("2022-03-27", "2024-01-05T23:30:00Z")]
    result = settled(*rows, entity="customers", timezone="Asia/Beirut")
    assert [row["created_date"] for row in result.rows] == [date(2022, 3, 27), date(2024, 1, 6)]


# Time


@pytest.mark.parametrize(
    ("timezone", "day", "text", "value"),
    [
        ("Europe/Amsterdam", date(2024, 10, 27), "2024-10-27T02:30:00", datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),
        ("America/New_York", date(2024, 11, 3), "2024-11-03T01:30:00", datetime(2024, 11, 3, 5, 30, tzinfo=UTC)),
        ("Europe/Amsterdam", date(2024, 3, 31), "2024-03-31T01:59:59", datetime(2024, 3, 31, 0, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_time_that_daylight_saving_repeats_is_the_earlier_one(
    timezone: str, day: date, text: str, value: datetime
) -> None:
    row = only(line(updated_at=text, order_ts=text), timezone=timezone, day=day)
    assert (row["updated_at"], row["order_ts"]) == (value, datetime.fromisoformat(text))


@pytest.mark.parametrize(
    ("timezone", "text"), [("Europe/Amsterdam", "2024-03-31T02:30:00"), ("America/New_York", "2024-03-10 02:00")]
)
def test_a_time_that_daylight_saving_skips_is_quarantined(timezone: str, text: str) -> None:
    assert not is_taken(line(order_ts=text), timezone=timezone, day=date(2024, 3, 31))
    assert is_taken(line(order_ts=text), timezone="UTC", day=date(2024, 3, 31))


@pytest.mark.parametrize(
    ("order_ts", "taken"),
    [
        ("2000-01-01", True),
        ("1999-12-31T23:59:59.999999", False),
        ("2024-01-06T23:59:59.999999", True),
        ("2024-01-07", False),
        ("2204-01-05", False),
    ],
)
def test_an_order_is_dated_from_the_floor_to_the_end_of_the_day_after(order_ts: str, taken: bool) -> None:
    assert is_taken(line(order_ts=order_ts)) is taken
    assert is_taken(line(order_ts="1850-01-01"), order_floor=date(1850, 1, 1))


@pytest.mark.parametrize(
    ("updated_at", "taken"), [("2024-01-07T04:59:59.999999Z", True), ("2024-01-07T05:00:00Z", False)]
)
@pytest.mark.parametrize("mode", ["changes", "full"])
def test_updated_at_may_be_up_to_the_end_of_the_day_after_the_delivery(updated_at: str, taken: bool, mode: str) -> None:
    row = {"customer_id": "c1", "updated_at": updated_at, "is_deleted": "true"}
    assert is_taken(row, entity="customers", timezone="America/New_York", mode=mode) is taken


# Tombstones and row rules


@pytest.mark.parametrize("status", ["cancelled", " DELETED "])
def test_a_tombstone_needs_only_its_key(status: str) -> None:
    nothing = dict.fromkeys(("product_id", "quantity", "unit_price", "order_ts"))
    row = only(line(**nothing, status=status))
    assert (row["deleted"], row["product_id"], row["discount_amount"]) == (True, None, 0)
    assert is_taken(line(unit_price="-1", order_ts="1850-01-01", status=status))
    assert not is_taken(line(line_number=None, status=status))
    assert not is_taken(line(quantity="x", status=status))


def test_quantity_zero_is_a_tombstone_under_unit_line_and_quarantined_under_unit_order() -> None:
    assert only(line(quantity="0"))["deleted"] is True
    assert not is_taken(line(quantity="0"), unit="order")
    assert only(line(quantity="0", status="cancelled"), unit="order")["deleted"] is True


def test_a_deleted_product_needs_no_sound_price() -> None:
    assert not is_taken({"product_id": "p1", "cost": "-1", "is_deleted": "no"}, entity="products")
    assert is_taken({"product_id": "p1", "cost": "-1", "is_deleted": "yes"}, entity="products")


@pytest.mark.parametrize(
    ("quantity", "discount", "taken"), [("1", "", True), ("2", "", False), ("-2", "", False), ("1", "-0.0001", False),
                                        ("2", "99999999999999.9999", True)],
)  # fmt: skip
def test_a_total_that_does_not_fit_is_quarantined(quantity: str, discount: str, taken: bool) -> None:
    row = line(quantity=quantity, unit_price="99999999999999.9999", discount_amount=discount)
    assert is_taken(row) is taken


def test_rows_that_declare_another_currency_are_quarantined_where_one_is_set() -> None:
    rows = [line(currency=text, line_number=str(n)) for n, text in enumerate((" EUR", "USD", "", "eur"))]
    assert [row["line_number"] for row in settled(*rows, currency="EUR").rows] == [0, 2]
    assert len(settled(*rows).rows) == 4


# Units, lines, columns


def test_the_unit_is_the_line_where_line_numbers_are_delivered_else_the_order() -> None:
    assert (settled(line()).unit, settled(unnumbered()).unit) == ("line", "order")
    assert settled(line(), unit="order").unit == "order"


def test_lines_are_numbered_as_delivered_counting_quarantined_rows_but_no_copies() -> None:
    result = settled(
        unnumbered(product_id="a"),
        unnumbered(order_id="o2"),
        unnumbered(product_id="b", quantity="?"),
        unnumbered(product_id="a"),
        unnumbered(product_id="c"),
    )
    assert [(row["order_id"], row["line_number"], row["row"]) for row in result.rows] == [
        ("o1", 1, 1), ("o2", 1, 2), ("o1", 3, 5)
    ]  # fmt: skip
    assert result.quarantined == [{"order_id": "o1", "line_number": 2, "file": "d.csv", "row": 3}]


def test_numbers_of_an_order_stand_if_all_its_lines_have_one() -> None:
    rows = [line(line_number="7"), line(line_number="3"), *(line(order_id="o2", line_number=n) for n in ("9", ""))]
    assert [row["line_number"] for row in settled(*rows, unit="order").rows] == [7, 3, 1, 2]


def test_columns_that_the_delivery_lacks_are_unknown_and_those_without_values_are_not() -> None:
    row = {"customer_id": "c1", "email": "", "effective_from": "2020-01-01"}
    result = settled(row, entity="customers")
    assert result.unknown == set(COLUMNS["customers"]) - {"customer_id", "email"}
    assert result.rows == [
        dict.fromkeys(set(COLUMNS["customers"]) - {"is_deleted"})
        | {"customer_id": "c1", "deleted": False, "file": "d.csv", "row": 1}
    ]


def test_a_header_only_is_an_empty_delivery() -> None:
    assert settle(delivery(), "UTC") == Settled(
        Delivery("orders", DAY, unit="order", unknown=frozenset(COLUMNS["orders"]) - frozenset(REQUIRED["orders"])),
        figures={"delivered": 0, "staged": 0, "quarantined": 0, "duplicate": 0},
    )


def test_the_key_of_a_quarantined_row_is_known_unless_it_cannot_be() -> None:
    rows = [line(quantity="x"), line(line_number="x"), line(order_id="a\0b"), line(order_id="", quantity="1")]
    keys = [(row["order_id"], row["line_number"]) for row in settled(*rows).quarantined]
    assert keys == [("o1", 1), ("o1", None), (None, 1), (None, 1)]


# Refusals


def with_bad_rows(good: int, bad: int) -> Delivered:
    return delivery(*(line(line_number=str(n) if n <= good else f"x{n}") for n in range(1, good + bad + 1)))


@pytest.mark.parametrize(
    ("good", "bad", "refusal"),
    [
        (0, 9, ""),
        (0, 10, "too many rejected rows"),
        (190, 10, ""),
        (189, 10, "too many rejected rows"),
        (300, 12, ""),
    ],
)
def test_more_than_5_percent_and_at_least_10_bad_rows_reject_the_delivery(good: int, bad: int, refusal: str) -> None:
    result = settle(with_bad_rows(good, bad), "UTC")
    assert result.refusal == refusal
    assert (result.delivery is None) == bool(refusal)
    assert result.figures == {"delivered": good + bad, "staged": good, "quarantined": bad, "duplicate": 0}


def full(day: date, *present: int, deleted: Sequence[int] = (), bad: Sequence[int] = (), **terms: Any) -> Delivered:
    rows = [{"customer_id": f"c{n}", "is_deleted": "1" if n in deleted else "0"} for n in present]
    rows += [{"customer_id": f"c{n}", "is_deleted": "?"} for n in bad]
    return delivery(*rows, entity="customers", day=day, mode="full", **terms)


BEFORE = full(date(2024, 1, 3), *range(50), deleted=range(45, 50))


@pytest.mark.parametrize(
    ("how", "refused"),
    [
        (full(DAY, *range(36)), False),  # 9 of 45: not ten
        (full(DAY, *range(35)), True),
        (full(DAY, *range(35), bad=[40]), False),  # quarantined is present
        (full(DAY, *range(36), deleted=range(36)), False),  # said to be deleted is present
        (full(DAY), False),
        (full(DAY, 1, accept_deletions=(DAY,)), False),
        (full(DAY, 1, accept_deletions=(date(2024, 1, 4),)), True),
        (full(DAY, *range(35), deletion_rows=11), False),
        (full(DAY, *range(35), deletion_share=0.25), False),
        (full(DAY, *range(36), deletion_share=0.2, deletion_rows=1), False),  # 9 of 45 are 20 %, and not more
        (delivery({"customer_id": "c1"}, entity="customers"), False),  # changes
    ],
)
def test_a_full_delivery_that_lacks_too_many_keys_of_the_one_before_is_refused(
    lake: Lake, how: Delivered, refused: bool
) -> None:
    expected = settle(how, "UTC", settle(BEFORE, "UTC").delivery)
    assert expected.refusal == ("too many deletions" if refused else "")
    assert settle(how, "UTC", None).refusal == ""
    # Random deliveries meet the guard now and then; here the platform's is met for certain.
    deliver(lake, BEFORE, "UTC")
    assert_same(deliver(lake, how, "UTC"), expected)
    assert landed(lake, "customers", DAY) == expected.delivery


def test_the_share_of_the_guard_is_the_one_that_is_written(lake: Lake) -> None:
    """In floats 0.29 of 100 are fewer than 29."""
    deliver(lake, full(date(2024, 1, 3), *range(100)), "UTC")
    assert deliver(lake, full(DAY, *range(71), deletion_share=0.29), "UTC").refusal == ""
    assert deliver(lake, full(DAY, *range(70), deletion_share=0.29), "UTC").refusal == "too many deletions"


def test_the_guard_compares_with_the_nearest_earlier_full_delivery_that_is_not_empty() -> None:
    def of(day: int, mode: Any, *rows: Row, entity: Entity = "customers") -> Delivery:
        return Delivery(entity, date(2024, 1, day), mode=mode, rows=list(rows))

    one = {"customer_id": "c1", "deleted": False}
    meant = of(2, "full", one)
    staged = [of(6, "full", one), of(1, "full", one), meant, of(3, "changes", one), of(4, "full")]
    assert nearest_full([*staged, of(4, "full", one, entity="products")], "customers", DAY) is meant
    assert nearest_full(staged, "customers", date(2024, 1, 1)) is None


# Random deliveries: what the platform stages is what the reference says

# Days on which clocks change in the zone, or in another.
CHANGES_OF_CLOCKS = (
    ("Europe/Amsterdam", date(2024, 10, 27)),
    ("America/New_York", date(2024, 11, 3)),
    ("Europe/Amsterdam", date(2024, 3, 31)),
    ("America/New_York", date(2024, 3, 10)),
    ("UTC", date(2024, 3, 31)),
)
EXTRA = ("till", "currency", "effective_from", "_id")
NOT_READABLE = ("x", "NaN", "1,5", "1_0", "--1", "1.2.3", "1e", ".", "½", "\0", "٣")
Rows: TypeAlias = Callable[[Entity, date, dict[str, Any]], st.SearchStrategy[Delivered]]
Run: TypeAlias = tuple[str, bool, list[Delivered]]
MET: Counter[str] = Counter()


def mostly(usual: st.SearchStrategy[Any], *odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Odd texts are rare in a row, so that rows are taken more often than not."""
    return st.integers(0, 11).flatmap(lambda die: st.one_of(*odd) if die == 11 else usual)


def blanks(texts: st.SearchStrategy[str | None]) -> st.SearchStrategy[str | None]:
    pad = st.sampled_from(["", "", "", " ", "\t", "\u2003", "\r\n"])
    return st.builds(lambda left, text, right: text and left + text + right, pad, texts, pad)


nothing = st.sampled_from([None, "", " \t"])
whole = mostly(
    st.sampled_from(["1", "2", "3", "-1", "0"]),
    st.sampled_from(
        ["5.0", "5e0", "+2", "007", "50e-1", "2147483647", "2147483648", "-2147483648", "2.5", "1e9", "-0"]
    ),
    st.sampled_from(NOT_READABLE),
    nothing,
)
fractional = st.builds(
    lambda sign, before, after, exponent: sign + before + after + exponent,
    st.sampled_from(["", "", "+", "-"]),
    st.text("0123456789", min_size=1, max_size=16),
    st.text("0123456789", max_size=6).map(lambda digits: digits and "." + digits),
    st.sampled_from(["", "", "", "e2", "E-2", "e+05", "e-99999", "e99999"]),
)
amount = mostly(
    st.sampled_from(["1.50", "0", "9.9900", "0.0001", "12"]),
    fractional,
    st.sampled_from(["99999999999999.9999", "99999999999999.99990", "100000000000000", "-1", ".5", "5.", "0.00001"]),
    st.sampled_from(NOT_READABLE),
    nothing,
)
identifier = mostly(
    st.sampled_from(["k1", "k2", "K1", "caf\u00e9", "cafe\u0301"]),
    st.sampled_from(["x" * 200, "x" * 201, "e\u0301" * 200, "a\0b", "🛒", 'k"1', "\\N", "\x1c"]),
    nothing,
)
text = mostly(st.sampled_from(["a", "b", None]), st.sampled_from(["a\0", "\x1f", "ÄÖ", "cafe\u0301"]), nothing)
boolean = mostly(st.sampled_from(["false", "0", "no", "1"]), st.sampled_from(["TRUE", "T", "Y", "2", "nein"]), nothing)
status = mostly(st.sampled_from(["new", "new", "cancelled"]), st.sampled_from(["Deleted", "DELETED.", "\0"]), nothing)
currency = st.sampled_from(["EUR", "EUR", " EUR", None, "USD"])


@st.composite
def times(draw: st.DrawFn, day: date) -> str:
    """A time near a day, by preference in the small hours; as a date alone, or with a fraction, or an offset."""
    at = datetime(day.year, day.month, day.day) + timedelta(days=draw(st.sampled_from([0, 0, 0, -1, 1, 2])))
    at += timedelta(minutes=30 * draw(st.one_of(st.integers(0, 8), st.integers(0, 47))))
    clock = draw(st.sampled_from(["", "T%H:%M", " %H:%M:%S", "T%H:%M:%S", "t%H:%M:%S"]))
    written = at.strftime("%Y-%m-%d" + clock)
    if "%S" in clock:
        written += draw(st.sampled_from(["", "", ".1", ",123456", ".1234569", ".999999999"]))
    return written + (
        draw(st.sampled_from(["", "", "", "", "Z", "+02:00", "-0500", " +01", "z", "+1530"])) if clock else ""
    )


def moments(day: date) -> st.SearchStrategy[str | None]:
    odd = ["1999-12-31T23:59:59.999999", "2000-01-01", "2204-01-05T10:00", "0000-00-00", "2024-02-30T10:00:00",
           "2024-01-05T24:00:00", "2024-01-05T23:60", "2024-01-05T10:00:60", "20240105", "9999-12-31T23:59:59-01:00",
           "0001-01-01T00:00:00+01:00", "2024-01-05T10:00:00+16:00", "2024-01-05T10", "noon"]  # fmt: skip
    return mostly(times(day), st.sampled_from(odd), nothing)


@st.composite
def deliveries(draw: st.DrawFn, entity: Entity, day: date, terms: dict[str, Any]) -> Delivered:
    """One delivery of up to nine rows in up to three files, some of them copies of others but for blanks."""
    by_kind = {"id": identifier, "integer": whole, "money": amount, "text": text, "boolean": boolean,
               "date": moments(day), "instant": moments(day), "local time": moments(day)}  # fmt: skip
    values = {column: by_kind[kind] for column, kind in COLUMNS[entity].items()}
    values |= {"status": status} if entity == "orders" else {}
    values |= dict.fromkeys(EXTRA, text) | {"currency": currency}
    optional = [column for column in (*COLUMNS[entity], *EXTRA) if column not in REQUIRED[entity]]
    lacking = draw(st.frozensets(st.sampled_from(optional), max_size=4))
    columns = draw(st.permutations([*REQUIRED[entity], *(column for column in optional if column not in lacking)]))
    least = draw(st.sampled_from([4, 4, 4, 0]))
    row_of = st.fixed_dictionaries({column: values[column] for column in columns})
    distinct = draw(st.lists(row_of, min_size=least, max_size=7))
    copied = draw(st.lists(st.sampled_from(distinct), max_size=2)) if distinct else []
    padded = [{column: draw(blanks(st.just(value))) for column, value in row.items()} for row in copied]
    told = []
    for number, row in enumerate(draw(st.permutations(distinct + padded)), start=1):
        given_ = {column: value for column, value in row.items() if value is not None or draw(st.booleans())}
        told.append(Told(draw(st.sampled_from(["a.csv", "B.csv", "é.csv"])), number, given_))
    return Delivered(entity, day, tuple(columns), tuple(told), terms)


@st.composite
def states(draw: st.DrawFn, entity: Entity, day: date, terms: dict[str, Any]) -> Delivered:
    """A delivery of sound members but for a flag that cannot be read: enough of them to be missed in the next."""
    members = st.fixed_dictionaries(
        {REQUIRED[entity][0]: st.sampled_from(["k1", "k2", "k3", "k4", "k5", "k6"]),
         "is_deleted": st.sampled_from(["0", "0", "0", "0", "0", "0", "1", "?"])}
    )  # fmt: skip
    rows = draw(st.lists(members, min_size=2, max_size=6)) if draw(st.integers(0, 7)) else []
    return delivery(*rows, entity=entity, day=day, **terms)


def terms_of(entity: Entity, day: date) -> st.SearchStrategy[dict[str, Any]]:
    """Settings of a source, the limits low enough to be met by a handful of rows."""
    share, rows = st.sampled_from([0.0, 0.2, 0.25, 0.29]), st.integers(0, 2)
    seldom = {"exact_copies": st.just("keep"), "currency": st.just("EUR"), "reject_share": share, "reject_rows": rows}
    if entity == "orders":
        seldom |= {"unit": st.sampled_from(["line", "order"]), "order_floor": st.sampled_from([day, date(1990, 1, 1)])}
        return st.fixed_dictionaries({}, optional=seldom)
    mode = st.sampled_from(["changes", "full", "full"])
    members = {"mode": mode, "deletion_share": share, "deletion_rows": rows}
    return st.fixed_dictionaries(members, optional=seldom | {"accept_deletions": st.just((day,))})


@st.composite
def runs(draw: st.DrawFn, entities: Sequence[Entity], rows: Rows) -> Run:
    """A time zone, whether it is one run, and its deliveries: in order of days, else in any order and on any terms."""
    entity = draw(st.sampled_from(entities))
    timezone, middle = draw(st.sampled_from(CHANGES_OF_CLOCKS))
    days = [middle + timedelta(days=n) for n in (0, 1, -1)]
    as_range = draw(st.booleans())
    chosen = draw(st.lists(st.sampled_from(days), min_size=1, max_size=3, unique=as_range))
    same = draw(terms_of(entity, middle))
    terms = [same if as_range else draw(terms_of(entity, middle)) for _ in chosen]
    offered = [draw(rows(entity, day, own)) for day, own in zip(chosen, terms, strict=True)]
    return timezone, as_range, sorted(offered, key=lambda d: d.day) if as_range else offered


@settings(max_examples=150)
@given(st.one_of(runs(("orders", "orders", "products", "customers"), deliveries), runs(("customers",), states)))
def test_random_deliveries_are_staged_as_the_reference_says(run: Run) -> None:
    timezone, as_range, offered = run
    staged: dict[date, Delivery] = {}
    with TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        verdicts = deliver_range(lake, offered, timezone) if as_range else []
        for number, delivered in enumerate(offered):
            verdict = verdicts[number] if as_range else deliver(lake, delivered, timezone)
            before = nearest_full(staged.values(), delivered.entity, delivered.day)
            expected = settle(delivered, timezone, before)
            assert_same(verdict, expected)
            if expected.delivery is not None:
                staged[delivered.day] = expected.delivery
                assert_rows_carry_their_moment_and_total(verdict, expected.delivery, timezone)
            if not as_range:
                assert landed(lake, delivered.entity, delivered.day) == staged.get(delivered.day)
            MET.update([expected.refusal or "accepted", *(name for name, count in expected.figures.items() if count)])
        for day in {delivered.day for delivered in offered}:
            assert landed(lake, offered[0].entity, day) == staged.get(day)


def assert_same(verdict: Verdict, expected: Settled) -> None:
    assert verdict.figures == expected.figures, verdict.staged.quarantined.to_dicts()
    assert verdict.refusal == expected.refusal


def assert_rows_carry_their_moment_and_total(verdict: Verdict, expected: Delivery, timezone: str) -> None:
    zone = ZoneInfo(timezone)
    frame = verdict.staged.rows
    assert frame.get_column("_moment").to_list() == [observe(expected, row, zone).moment for row in expected.rows]
    if expected.entity == "orders":
        assert frame.get_column("total_amount").to_list() == [total(row) for row in expected.rows]


def total(row: Row) -> Decimal | None:
    """Null where a tombstone does not say, or says what does not fit."""
    if row["quantity"] is None or row["unit_price"] is None:
        return None
    amount = row["quantity"] * row["unit_price"] - row["discount_amount"]
    return amount if abs(amount) < 10**14 else None


def test_random_deliveries_met_every_verdict_and_every_class_of_rows() -> None:
    if not MET:
        pytest.skip("the random deliveries did not run in this session: nothing to count")
    print(dict(MET))
    for what in ("accepted", "too many rejected rows", "staged", "quarantined", "duplicate"):
        assert MET[what], f"{what} was never met: {MET}"
