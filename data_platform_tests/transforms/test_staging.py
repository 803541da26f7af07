"""Every rule of the section Staging of the semantics, on deliveries of one to three rows."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_platform.contracts import STAGED
from data_platform.contracts.rules import Measure, Rule
from data_platform.sources.config import Source
from data_platform.transforms import staging
from data_platform.transforms.staging import StagedDay, empty_day, stage_window

DAY = date(2024, 1, 5)
NEXT = DAY + timedelta(days=1)
LINE = {
    "order_id": "o1",
    "line_number": "1",
    "product_id": "p1",
    "quantity": "2",
    "unit_price": "1.50",
    "order_ts": "2024-01-05T10:00:00",
}
TYPE_OF_ADDED = {"_partition": pl.Date, "_file": pl.String, "_row": pl.Int64}


def raw(*rows: dict[str, Any], day: date = DAY, file: str = "d.csv", columns: Any = ()) -> pl.DataFrame:
    """Rows of texts as a source delivers them; `columns` are there though no row may have them."""
    names = dict.fromkeys([*columns, *(name for row in rows for name in row if name not in TYPE_OF_ADDED)])
    numbered = [{"_partition": day, "_file": file, "_row": number} | row for number, row in enumerate(rows, start=1)]
    return pl.DataFrame(numbered, schema={**dict.fromkeys(names, pl.String), **TYPE_OF_ADDED})


def stage(
    frame: pl.DataFrame, *, entity: str = "orders", timezone: str = "UTC", days: list[date] | None = None, **source: Any
) -> dict[date, StagedDay]:
    settings_of_source = Source.model_validate({"entity": entity, **source})
    staged = stage_window(frame, days or [DAY], contract=STAGED[entity], source=settings_of_source, timezone=timezone)
    return {one.day: one for one in staged}


def staged(*rows: dict[str, Any], entity: str = "orders", timezone: str = "UTC", **source: Any) -> StagedDay:
    return stage(raw(*rows), entity=entity, timezone=timezone, **source)[DAY]


def line(**values: Any) -> dict[str, Any]:
    return LINE | values


def reasons(day: StagedDay) -> list[list[str]]:
    return day.quarantined.get_column("_reasons").to_list()


def only(day: StagedDay) -> dict[str, Any]:
    assert day.rows.height == 1, reasons(day)
    return day.rows.row(0, named=True)


def failed(day: StagedDay) -> dict[str, int]:
    return {check: count for check, count in day.failures.items() if count}


# Exact copies


def test_a_row_that_equals_an_earlier_one_after_trimming_is_a_duplicate() -> None:
    day = staged(line(status="new"), line(status=" new "), line(status="New"))
    assert (day.stamp.rows_delivered, day.stamp.rows_duplicate) == (3, 1)
    assert day.rows.get_column("_row").to_list() == [1, 3]


def test_blank_and_missing_values_are_equal_in_copies() -> None:
    assert staged(line(status=""), line(status=None), line(status="  ")).stamp.rows_duplicate == 2


def test_copies_are_found_across_the_files_of_a_delivery_and_the_first_file_has_it() -> None:
    frame = pl.concat([raw(LINE, file="D/a.csv"), raw(LINE, file="D/b.csv")])
    day = stage(frame)[DAY]
    assert day.stamp.rows_duplicate == 1
    assert only(day)["_file"] == "D/a.csv"


def test_copies_in_deliveries_of_different_days_are_no_duplicates() -> None:
    later = DAY + timedelta(days=1)
    days = stage(pl.concat([raw(LINE), raw(LINE, day=later)]), days=[DAY, later])
    assert [day.stamp.rows_duplicate for day in days.values()] == [0, 0]


@pytest.mark.parametrize("column", ["till", "_id", "_position", "result"])
def test_rows_that_differ_in_an_unknown_column_are_no_copies(column: str) -> None:
    assert staged(line(**{column: "1"}), line(**{column: "2"})).stamp.rows_duplicate == 0


def test_copies_of_a_row_that_cannot_be_taken_are_duplicates_first() -> None:
    day = staged(line(quantity="x"), line(quantity="x"))
    assert (day.stamp.rows_quarantined, day.stamp.rows_duplicate) == (1, 1)


def test_a_source_may_keep_its_copies() -> None:
    day = staged(LINE, LINE, exact_copies="keep")
    assert (day.stamp.rows_duplicate, day.rows.height) == (0, 2)


# Values that cannot be read


def test_a_row_goes_to_quarantine_as_delivered_with_all_its_reasons() -> None:
    day = staged(
        line(quantity="many", unit_price=" -1 ", order_ts="1999-01-01T00:00:00", till="7", product_id="p" * 201), LINE
    )
    assert only(day)["_row"] == 2
    assert reasons(day) == [
        [
            "product_id has more than 200 characters",
            "quantity cannot be read as integer",
            "unit_price_not_negative: A price is zero or more.",
            "order_date_in_window: An order is dated from the set floor to the end of the day after its delivery: "
            "a typo makes no partition.",
        ]
    ]
    rejected = day.quarantined.row(0, named=True)
    assert (rejected["unit_price"], rejected["till"], rejected["quantity"]) == (" -1 ", "7", "many")
    assert (rejected["_file"], rejected["_row"]) == ("d.csv", 1)
    assert (rejected["_order_id"], rejected["_line_number"]) == ("o1", 1)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("line_number", "one"),
        ("quantity", "2.5"),
        ("quantity", "3000000000"),
        ("unit_price", "1,5"),
        ("unit_price", "NaN"),
        ("unit_price", "1e400"),
        ("unit_price", "0.00001"),
        ("unit_price", "123456789012345.00"),
        ("discount_amount", "none"),
        ("order_ts", "0000-00-00"),
        ("order_ts", "2024-02-30T00:00:00"),
        ("updated_at", "yesterday"),
    ],
)
def test_a_value_that_cannot_be_read_exactly_is_quarantined(column: str, value: str) -> None:
    day = staged(line(**{column: value}))
    assert day.rows.is_empty()
    assert reasons(day) == [[f"{column} cannot be read as {STAGED['orders'].columns[column].type_name}"]]
    assert failed(day)["values_can_be_read"] == 1


def test_a_deletion_flag_that_cannot_be_read_is_no_default() -> None:
    day = staged({"customer_id": "c1", "is_deleted": "perhaps"}, entity="customers")
    assert reasons(day) == [["is_deleted cannot be read as boolean"]]


def test_a_required_value_that_is_not_given_is_quarantined_under_that_name() -> None:
    day = staged(line(product_id="", quantity=None))
    assert reasons(day) == [["product_id is not given", "quantity is not given"]]


def test_four_decimals_are_kept_and_a_fifth_is_quarantined() -> None:
    assert only(staged(line(unit_price="1.23450")))["unit_price"] == Decimal("1.2345")
    assert staged(line(unit_price="1.23456")).rows.is_empty()


def test_a_delivered_column_may_bear_a_name_that_quarantine_uses() -> None:
    day = staged(line(_reasons="mine", _order_id="mine", quantity="x"))
    assert reasons(day) == [["quantity cannot be read as integer"]]
    assert day.quarantined.get_column("_order_id").to_list() == ["o1"]
    assert day.quarantined.get_column("delivered_reasons").to_list() == ["mine"]
    both = staged(
        line(_reasons="mine", delivered_reasons="mine too", _run_id="no run of ours", quantity="x")
    ).quarantined
    assert both.select("delivered_reasons", "delivered_delivered_reasons", "delivered_run_id").rows() == [
        ("mine too", "mine", "no run of ours")
    ]


# Tombstones


@pytest.mark.parametrize("status", ["cancelled", "deleted", "Cancelled", " DELETED "])
def test_a_tombstone_needs_only_its_key(status: str) -> None:
    day = staged({"order_id": "o1", "line_number": "1", "status": status, "product_id": None, "quantity": "",
                  "unit_price": None, "order_ts": None})  # fmt: skip
    assert only(day)["is_tombstone"] is True
    assert not {"unit_price_not_negative", "order_date_in_window", "total_fits"} & set(failed(day))


def test_row_rules_do_not_judge_a_tombstone() -> None:
    row = line(status="cancelled", unit_price="-1", order_ts="1850-01-01T00:00:00", discount_amount="-1")
    assert failed(staged(row)) == {}


def test_a_tombstone_without_its_key_is_quarantined() -> None:
    assert reasons(staged(line(status="cancelled", line_number=""))) == [["line_number is not given"]]


def test_quantity_zero_is_a_tombstone_under_unit_line() -> None:
    assert only(staged(line(quantity="0")))["is_tombstone"] is True


def test_quantity_zero_is_quarantined_under_unit_order() -> None:
    assert "quantity_not_zero" in reasons(staged(line(quantity="0"), unit="order"))[0][0]


def test_quantity_zero_of_a_cancelled_order_is_a_tombstone_under_unit_order() -> None:
    assert only(staged(line(quantity="0", status="cancelled"), unit="order"))["is_tombstone"] is True


def test_a_deleted_member_needs_only_its_key() -> None:
    day = staged({"product_id": "p1", "is_deleted": "yes", "unit_price": "-1"}, entity="products")
    assert only(day)["is_deleted"] is True
    assert failed(day) == {}


# Units and line numbers


def without_number(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in line(**values).items() if name != "line_number"}


def test_the_unit_is_the_line_where_line_numbers_are_delivered_else_the_order() -> None:
    assert staged(LINE).stamp.unit == "line"
    assert staged(without_number()).stamp.unit == "order"
    assert staged(without_number(), columns={"line_number": {"constant": 1}}).stamp.unit == "line"
    assert staged(LINE | {"Line_Number ": "1"}).stamp.unit == "line"


def test_lines_of_an_order_are_numbered_as_delivered_counting_quarantined_rows_but_no_copies() -> None:
    day = staged(
        without_number(product_id="a"),
        without_number(order_id="o2", product_id="x"),
        without_number(product_id="b", quantity="?"),
        without_number(product_id="a"),
        without_number(product_id="c"),
    )
    numbers = day.rows.select("order_id", "line_number", "product_id").rows()
    assert numbers == [("o1", 1, "a"), ("o2", 1, "x"), ("o1", 3, "c")]
    assert day.quarantined.select("_order_id", "_line_number").rows() == [("o1", 2)]


def test_lines_are_numbered_over_the_files_of_a_delivery() -> None:
    frame = pl.concat([raw(without_number(), file="D/a.csv"), raw(without_number(product_id="p2"), file="D/b.csv")])
    assert stage(frame)[DAY].rows.get_column("line_number").to_list() == [1, 2]


def test_given_numbers_are_kept_under_unit_order() -> None:
    day = staged(line(line_number="7"), line(line_number="3"), unit="order")
    assert day.rows.get_column("line_number").to_list() == [7, 3]


def test_an_order_of_which_a_line_has_no_number_is_numbered_as_delivered() -> None:
    day = staged(line(line_number="2"), line(line_number=""), line(order_id="o2", line_number="9"), unit="order")
    assert day.rows.select("order_id", "line_number").rows() == [("o1", 1), ("o1", 2), ("o2", 9)]


def test_a_line_without_its_number_is_quarantined_under_unit_line() -> None:
    assert reasons(staged(line(line_number=""))) == [["line_number is not given"]]


def test_a_cancelled_order_without_line_number_is_a_tombstone_under_unit_order() -> None:
    assert only(staged(line(line_number=None, status="cancelled"), unit="order"))["is_tombstone"] is True


# Ids


def test_ids_are_nfc_without_surrounding_blanks() -> None:
    decomposed = "  Cafe\u0301 \t"
    assert only(staged(line(order_id=decomposed)))["order_id"] == "Caf\u00e9"


@pytest.mark.parametrize("name", ["o'1", 'o"1', "o;--", "🛒", "ÅÉ", "a\\b", "x" * 200, "🛒" * 200, "O1"])
def test_any_id_of_up_to_200_characters_is_kept_as_it_is(name: str) -> None:
    assert only(staged(line(order_id=name)))["order_id"] == name


@pytest.mark.parametrize("column", ["order_id", "product_id", "customer_id"])
def test_an_id_of_201_characters_is_quarantined(column: str) -> None:
    assert reasons(staged(line(**{column: "x" * 201}))) == [[f"{column} has more than 200 characters"]]


@pytest.mark.parametrize("column", ["order_id", "customer_id", "status"])
def test_a_text_with_a_nul_is_quarantined(column: str) -> None:
    day = staged(line(**{column: "a\0b"}))
    assert reasons(day) == [[f"{column} holds a NUL"]]


def test_a_rejected_id_that_postgres_cannot_hold_is_the_key_of_nothing() -> None:
    assert staged(line(order_id="a\0b")).quarantined.get_column("_order_id").to_list() == [None]


@pytest.mark.parametrize("blank", ["", "   ", "\t"])
def test_a_blank_id_is_null(blank: str) -> None:
    assert only(staged(line(customer_id=blank)))["customer_id"] is None
    assert reasons(staged(line(order_id=blank))) == [["order_id is not given"]]


# Time


def test_the_moment_is_updated_at_else_the_start_of_the_delivery_day_in_business_time() -> None:
    told = line(updated_at="2024-01-05T08:00:00+02:00")
    assert only(staged(told))["_moment"] == datetime(2024, 1, 5, 6, tzinfo=UTC)
    assert only(staged(LINE, timezone="America/New_York"))["_moment"] == datetime(2024, 1, 5, 5, tzinfo=UTC)


def test_the_rows_of_a_full_delivery_are_of_its_day_whatever_updated_at_says() -> None:
    row = {"customer_id": "c1", "updated_at": "2023-01-01T00:00:00"}
    day = staged(row, entity="customers", mode="full")
    assert only(day)["_moment"] == datetime(2024, 1, 5, tzinfo=UTC)
    assert only(day)["updated_at"] == datetime(2023, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("timezone", "last"),
    [("UTC", "2024-01-06T23:59:59.999999Z"), ("America/New_York", "2024-01-07T04:59:59.999999Z")],
)
def test_updated_at_may_be_up_to_the_end_of_the_day_after_the_delivery(timezone: str, last: str) -> None:
    assert staged(line(updated_at=last), timezone=timezone).rows.height == 1
    later = (datetime.fromisoformat(last) + timedelta(microseconds=1)).isoformat()
    day = staged(line(updated_at=later), timezone=timezone)
    assert reasons(day) == [["updated_at is in the future of the delivery"]]


def test_a_member_of_the_future_is_quarantined_also_when_it_is_deleted() -> None:
    row = {"customer_id": "c1", "is_deleted": "true", "updated_at": "2099-01-01T00:00:00"}
    assert failed(staged(row, entity="customers")) == {"updated_at_not_in_the_future": 1}


@pytest.mark.parametrize(("order_ts", "accepted"), [
    ("2000-01-01T00:00:00", True), ("1999-12-31T23:59:59.999999", False),
    ("2024-01-06T23:59:59.999999", True), ("2024-01-07T00:00:00", False), ("2204-01-05T10:00:00", False),
])  # fmt: skip
def test_an_order_is_dated_from_the_floor_to_the_end_of_the_day_after(order_ts: str, accepted: bool) -> None:
    assert staged(line(order_ts=order_ts)).rows.height == accepted


def test_the_floor_is_a_setting() -> None:
    assert staged(line(order_ts="1999-12-31T00:00:00"), order_floor="1999-12-31").rows.height == 1


def test_order_times_are_cut_to_microseconds() -> None:
    assert only(staged(line(order_ts="2024-01-05T10:00:00.1234569")))["order_ts"].microsecond == 123456


def test_an_order_time_with_an_offset_is_told_in_business_time() -> None:
    row = line(order_ts="2024-01-05T23:30:00Z")
    assert only(staged(row, timezone="Europe/Berlin"))["order_ts"] == datetime(2024, 1, 6, 0, 30)


def on(day: date, order_ts: str, timezone: str) -> StagedDay:
    return stage(raw(line(order_ts=order_ts), day=day), days=[day], timezone=timezone)[day]


@pytest.mark.parametrize(("timezone", "day", "skipped"), [
    ("Europe/Berlin", date(2024, 3, 31), "2024-03-31T02:30:00"),
    ("America/New_York", date(2024, 3, 10), "2024-03-10T02:30:00"),
    ("Asia/Beirut", date(2022, 3, 27), "2022-03-27T00:30:00"),
])  # fmt: skip
def test_a_time_that_daylight_saving_skips_is_quarantined(timezone: str, day: date, skipped: str) -> None:
    assert reasons(on(day, skipped, timezone)) == [["order_ts cannot be read as timestamp"]]
    assert on(day, skipped[:11] + "03:30:00", timezone).rows.height == 1


@pytest.mark.parametrize(("timezone", "day", "repeated"), [
    ("Europe/Berlin", date(2024, 10, 27), "2024-10-27T02:30:00"),
    ("America/New_York", date(2024, 11, 3), "2024-11-03T01:30:00"),
])  # fmt: skip
def test_a_time_that_daylight_saving_repeats_is_the_earlier_one(timezone: str, day: date, repeated: str) -> None:
    assert only(on(day, repeated, timezone))["order_ts"] == datetime.fromisoformat(repeated)
    told = stage(raw(line(updated_at=repeated), day=day), days=[day], timezone=timezone)[day]
    offset = {"Europe/Berlin": 2, "America/New_York": -4}[timezone]
    assert only(told)["_moment"] == (datetime.fromisoformat(repeated) - timedelta(hours=offset)).replace(tzinfo=UTC)


def test_a_day_whose_midnight_is_skipped_starts_at_its_first_moment() -> None:
    day = date(2022, 3, 27)
    row = only(on(day, "2022-03-27T12:00:00", "Asia/Beirut"))
    assert row["_moment"] == datetime(2022, 3, 26, 22, tzinfo=UTC)


# Money


def test_a_total_is_exact_and_its_discount_defaults_to_zero() -> None:
    row = only(staged(line(quantity="3", unit_price="0.3333", discount_amount="")))
    assert (row["total_amount"], row["discount_amount"]) == (Decimal("0.9999"), Decimal("0.0000"))
    assert only(staged(line(discount_amount="0.5")))["total_amount"] == Decimal("2.5")


@pytest.mark.parametrize(("row", "fits"), [
    (line(quantity="1", unit_price="99999999999999.9999"), True),
    (line(quantity="2", unit_price="99999999999999.9999"), False),
    (line(quantity="-2", unit_price="99999999999999.9999"), False),
    (line(quantity="2147483647", unit_price="99999999999999.9999"), False),
    (line(quantity="1", unit_price="99999999999999.9999", discount_amount="-0.0001"), False),
    (line(quantity="2", unit_price="99999999999999.9999", discount_amount="99999999999999.9999"), True),
])  # fmt: skip
def test_a_total_that_does_not_fit_is_quarantined(row: dict[str, str], fits: bool) -> None:
    day = staged(row)
    assert day.rows.height == fits
    if not fits:
        assert reasons(day) == [["total_fits: quantity × unit_price − discount_amount fits numeric(18,4)."]]


@pytest.mark.parametrize(("quantity", "discount", "warned"), [
    ("2", "1", False), ("-2", "-1", False), ("2", "-1", True), ("-2", "1", True), ("2", "0", False),
])  # fmt: skip
def test_a_discount_of_the_other_sign_is_a_warning(quantity: str, discount: str, warned: bool) -> None:
    day = staged(line(quantity=quantity, discount_amount=discount))
    assert day.rows.height == 1
    assert day.failures["discount_has_sign_of_quantity"] == warned


def test_rows_that_declare_another_currency_are_quarantined_where_one_is_set() -> None:
    rows = line(currency="EUR"), line(line_number="2", currency="USD"), line(line_number="3", currency="")
    day = staged(*rows, currency="EUR")
    assert reasons(day) == [["currency is not EUR"]]
    assert day.rows.get_column("line_number").to_list() == [1, 3]
    assert failed(day)["one_currency"] == 1
    assert staged(*rows).rows.height == 3


# Columns


def test_columns_that_a_delivery_lacks_as_a_whole_are_unknown_and_others_are_not() -> None:
    row = {"customer_id": "c1", "email": "", "Segment": "a"}
    day = staged(row, entity="customers", columns={"country": {"constant": "DE"}})
    assert day.stamp.unknown == ("first_name", "last_name", "created_date", "updated_at", "is_deleted")
    assert only(day)["country"] == "DE"
    assert only(day)["segment"] == "a"
    assert only(day)["is_deleted"] is False


def test_staged_rows_have_the_columns_of_the_contract_and_their_lineage() -> None:
    day = staged(line(till="1"))
    assert day.rows.columns == [*STAGED["orders"].columns, "_moment", "_file", "_row"]
    assert {name: day.rows.schema[name] for name in STAGED["orders"].columns} == STAGED["orders"].polars_schema


# Stamps and content


def content(frame: pl.DataFrame, **options: Any) -> str:
    return stage(frame, **options)[DAY].stamp.content


def test_the_stamp_balances_and_has_control_totals_and_moments() -> None:
    stamp = staged(LINE, LINE, line(line_number="2", quantity="-1"), line(line_number="3", quantity="x")).stamp
    assert (stamp.rows_delivered, stamp.rows_staged, stamp.rows_quarantined, stamp.rows_duplicate) == (4, 2, 1, 1)
    assert stamp.totals == {"quantity": "1", "total_amount": "1.5000"}
    assert (stamp.first_moment, stamp.last_moment) == ("2024-01-05T00:00:00+00:00",) * 2


def test_the_same_values_give_the_same_content_however_they_are_chunked() -> None:
    rows = [line(line_number=str(number)) for number in range(1, 5)]
    whole = raw(*rows)
    chunked = pl.concat([whole[:1], whole[1:3], whole[3:]], rechunk=False)
    assert chunked.n_chunks() == 3
    assert content(chunked) == content(whole)


OTHERS: dict[str, Any] = {
    "a value": lambda: content(raw(line(unit_price="1.51"))),
    "a null for a text": lambda: content(raw(line(customer_id="c1"))),
    "a tombstone": lambda: content(raw(line(status="cancelled"))),
    "the unit": lambda: content(raw(LINE), unit="order"),
    "the time zone": lambda: content(raw(LINE), timezone="Europe/Berlin"),
    "the file": lambda: content(raw(LINE, file="e.csv")),
    "a column that is there": lambda: content(raw(LINE, columns=["status"])),
    "a key in quarantine": lambda: content(raw(LINE, line(line_number="2", quantity="x"))),
}


@pytest.mark.parametrize("change", OTHERS)
def test_the_content_changes_with(change: str) -> None:
    assert OTHERS[change]() != content(raw(LINE))


def test_the_content_changes_with_the_mode_the_contract_and_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    customer = raw({"customer_id": "c1"})
    before = content(customer, entity="customers")
    assert content(customer, entity="customers", mode="full") != before
    monkeypatch.setattr(staging, "ENGINE_VERSION", 999)
    assert content(customer, entity="customers") != before
    monkeypatch.undo()
    monkeypatch.setattr(type(STAGED["customers"]), "fingerprint", lambda self: "other")
    assert content(customer, entity="customers") != before


def test_texts_do_not_run_into_each_other_in_the_content() -> None:
    def of(brand: str | None, category: str | None) -> str:
        return content(raw({"product_id": "p", "brand": brand, "category": category}), entity="products")

    pairs = [("a,b", "c"), ("a", "b,c"), ('a"', "b"), ("a", '"b'), (None, "a"), ("a", None), ("a\nb", "c")]
    assert len({of(*pair) for pair in pairs}) == len(pairs)


def test_what_a_rejected_row_says_is_in_the_stamp_but_not_in_the_content() -> None:
    one, other = staged(LINE, line(line_number="2", quantity="x")), staged(LINE, line(line_number="2", quantity="y"))
    assert one.stamp.content == other.stamp.content
    assert one.stamp.rejected != other.stamp.rejected
    assert staged(LINE).stamp.rejected == ""


# Days without rows


def test_a_header_only_is_a_valid_delivery_without_rows() -> None:
    day = stage(raw(columns=LINE))[DAY]
    assert day.stamp.delivered
    assert (day.rows.height, day.stamp.rows_delivered, day.stamp.totals["quantity"]) == (0, 0, "0")
    assert day.rows.schema == staged(LINE).rows.schema


def test_a_day_without_a_delivery_says_so_and_differs_from_a_header_only() -> None:
    empty = empty_day(DAY, contract=STAGED["orders"], source=Source(entity="orders"))
    assert not empty.stamp.delivered
    assert empty.rows.schema == staged(LINE).rows.schema
    assert empty.stamp.content != stage(raw(columns=LINE))[DAY].stamp.content
    next_day = empty_day(DAY + timedelta(days=1), contract=STAGED["orders"], source=Source(entity="orders"))
    assert next_day.stamp.content != empty.stamp.content


def test_a_header_only_between_other_days_of_a_window_takes_nothing_from_them() -> None:
    days = [DAY + timedelta(days=number) for number in range(3)]
    frame = pl.concat([raw(LINE, day=days[0]), raw(LINE, day=days[2])])
    assert [day.rows.height for day in stage(frame, days=days).values()] == [1, 0, 1]


# Types of their own


def test_types_of_their_own_give_the_rows_that_texts_give() -> None:
    texts = raw(
        LINE | {"order_id": "17", "customer_id": "4", "updated_at": "2024-01-05T09:00:00Z", "discount_amount": "0.5"}
    )
    own = texts.with_columns(
        order_id=pl.lit(17, pl.Int64),
        line_number=pl.lit(1, pl.UInt8),
        customer_id=pl.lit(4.0),
        quantity=pl.lit(2.0),
        unit_price=pl.lit(Decimal("1.5"), pl.Decimal(9, 2)),
        discount_amount=pl.lit(0.5),
        order_ts=pl.lit(datetime(2024, 1, 5, 10), pl.Datetime("ns")),
        updated_at=pl.lit(datetime(2024, 1, 5, 9)).dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"),
    )
    assert stage(own)[DAY].rows.rows() == stage(texts)[DAY].rows.rows()
    assert content(own) == content(texts)


def test_members_of_types_of_their_own_give_the_rows_that_texts_give() -> None:
    texts = raw({"customer_id": "5", "created_date": "2024-01-02", "is_deleted": "true", "segment": "a"})
    own = texts.with_columns(
        customer_id=pl.lit(5, pl.Int32), created_date=pl.lit(date(2024, 1, 2)), is_deleted=pl.lit(True),
        segment=pl.lit("a", pl.Categorical),
    )  # fmt: skip
    assert stage(own, entity="customers")[DAY].rows.rows() == stage(texts, entity="customers")[DAY].rows.rows()


def test_nested_and_binary_columns_stay_in_quarantine_and_are_compared_in_copies() -> None:
    frame = raw(*[line(quantity=quantity) for quantity in ("x", "x", "y")]).with_columns(
        tags=pl.Series([["a"], ["a"], ["b"]]), seal=pl.lit(b"\xff"), place=pl.struct(x=pl.lit(1.5), at=pl.lit(DAY))
    )
    day = stage(frame)[DAY]
    assert day.stamp.rows_duplicate == 1
    assert day.quarantined.get_column("tags").to_list() == [["a"], ["b"]]
    assert day.stamp.rejected


# Examples


def test_up_to_ten_examples_say_where_the_rows_are_and_show_no_personal_data() -> None:
    rows = [{"customer_id": f"c{number}", "email": f"ada{number} at example.org"} for number in range(12)]
    day = staged(*rows, entity="customers")
    shown = day.examples["email_looks_like_one"]
    assert shown[0] == {"file": "d.csv", "row": "1", "customer_id": "c0"}
    assert len(shown) == 10


# Properties

DAYS = [DAY + timedelta(days=number) for number in range(3)]
rows_of_orders = st.fixed_dictionaries(
    {
        "order_id": st.sampled_from(["o1", "o2", " o1", "", "\0"]),
        "line_number": st.sampled_from(["1", "2", "", "x"]),
        "product_id": st.sampled_from(["p1", None]),
        "quantity": st.sampled_from(["1", "-2", "0", "x"]),
        "unit_price": st.sampled_from(["1.5", "-1", "99999999999999.9999"]),
        "order_ts": st.sampled_from(["2024-01-05T10:00:00", "2024-01-06", "1990-01-01", "never"]),
        "status": st.sampled_from([None, "cancelled"]),
        "updated_at": st.sampled_from([None, "2024-01-05T00:00:00", "2024-01-07T12:00:00"]),
    }
)
options = st.fixed_dictionaries(
    {},
    optional={
        "unit": st.sampled_from(["line", "order"]),
        "exact_copies": st.sampled_from(["keep", "drop"]),
    },
)
deliveries = st.lists(st.lists(rows_of_orders, max_size=5), min_size=3, max_size=3)


@settings(max_examples=40)
@given(deliveries, options)
def test_every_row_has_one_class_and_a_window_gives_what_its_days_give(
    delivered: list[list[dict[str, Any]]], chosen: dict[str, Any]
) -> None:
    frames = [
        raw(*rows, day=day, columns=[*LINE, "status", "updated_at"]) for day, rows in zip(DAYS, delivered, strict=True)
    ]
    window = stage(pl.concat(frames), days=DAYS, **chosen)
    assert list(window) == DAYS
    for day, frame in zip(DAYS, frames, strict=True):
        stamp = window[day].stamp
        assert stamp.rows_delivered == frame.height
        assert stamp.rows_delivered == stamp.rows_staged + stamp.rows_quarantined + stamp.rows_duplicate
        assert (stamp.rows_staged, stamp.rows_quarantined) == (window[day].rows.height, window[day].quarantined.height)
        alone = stage(frame, days=[day], **chosen)[day]
        assert alone.stamp == stamp
        assert alone.rows.equals(window[day].rows)
        assert alone.quarantined.equals(window[day].quarantined)
        assert alone.failures == window[day].failures
        assert all(found for found in reasons(window[day]))


# Rules of a contract: what they say of a delivery must not depend on those that are staged with it


@pytest.mark.parametrize(
    "passes",
    [
        pl.col("unit_price") <= 3 * pl.col("unit_price").median(),
        pl.col("status").cast(pl.Int64) >= 0,
        pl.len().over("order_id") == 1,
    ],
)
def test_a_rule_says_the_same_of_a_delivery_alone_and_in_a_range(
    passes: pl.Expr, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = STAGED["orders"]
    rule = Rule("own", "critical", "…", passes)
    mean = Measure("mean", "warning", "…", pl.col("unit_price").mean(), 1, 5)
    monkeypatch.setitem(contract.__dict__, "rules", (rule,))
    monkeypatch.setitem(contract.__dict__, "measures", (mean,))
    monday = [line(unit_price="1", status="1"), line(order_id="o2", unit_price="2", status="2")]
    tuesday = [line(unit_price="1000", status="x"), line(unit_price="2000", status="3")]
    frames = [raw(*monday, day=DAY), raw(*tuesday, day=NEXT)]
    together = stage(pl.concat(frames), days=[DAY, NEXT])
    for day, frame in zip((DAY, NEXT), frames, strict=True):
        alone = stage(frame, days=[day])[day]
        for name in ("failures", "judged", "measured", "errors"):
            assert getattr(together[day], name) == getattr(alone, name), name
        assert together[day].stamp == alone.stamp


def test_what_is_not_delivered_is_no_column_of_nulls() -> None:
    assert "customer_id_null_rate" not in staged(line()).measured
    assert staged(line(customer_id=None)).measured["customer_id_null_rate"] == 1


@pytest.mark.parametrize(
    ("check", "row"),
    [
        ("values_can_be_read", {"quantity": "many"}),
        ("required_values_are_given", {"product_id": ""}),
        ("ids_are_sound", {"order_id": "o" * 201}),
        ("updated_at_not_in_the_future", {"updated_at": "2024-01-07T00:00:00"}),
        ("one_currency", {"currency": "USD"}),
    ],
)
def test_each_general_check_fails(check: str, row: dict[str, str]) -> None:
    assert failed(staged(line(customer_id="c1", **row), currency="EUR")) == {check: 1}
    assert set(staging.GENERAL_CHECKS) >= {check}


def test_under_quarantine_rows_with_a_value_in_an_undeclared_column_are_set_aside() -> None:
    undeclared = ({}, {"order_id": "o2", "colour": " "}, {"order_id": "o3", "colour": "red"})
    rows = [line(customer_id="c1", **values) for values in undeclared]
    assert failed(staged(*rows, schema_changes="evolve")) == {}
    day = staged(*rows, schema_changes="quarantine")
    assert failed(day) == {"columns_are_declared": 1}
    assert day.rows.get_column("order_id").to_list() == ["o1", "o2"]
    assert day.quarantined.select("_row", "_reasons").rows() == [(3, ["the column colour is new"])]
    assert failed(staged(*rows, schema_changes="quarantine", ignore=["colour"])) == {}


def test_under_quarantine_a_delivery_without_a_mapped_column_is_set_aside_whole() -> None:
    mapped = {"schema_changes": "quarantine", "columns": {"status": "state"}}
    rows = [line(customer_id="c1"), line(customer_id="c1", order_id="o2")]
    assert failed(staged(rows[0] | {"state": "open"}, **mapped)) == {}
    assert failed(staged(*rows, **mapped)) == {"columns_are_declared": 2}
