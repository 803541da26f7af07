from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_platform.errors import DeliveryRejected
from data_platform.sources.config import Source
from data_platform.sources.mapping import (
    apply_mapping,
    money,
    parse_boolean,
    parse_date,
    parse_decimal,
    parse_instant,
    parse_integer,
    parse_text,
    parse_timestamp,
    unknown_columns,
    without_blanks,
)

VALUE = pl.col("value")
COLUMNS = ["order_id", "line_number", "unit_price", "order_ts", "status"]


def parsed(values: Sequence[object], expr: pl.Expr, dtype: pl.DataType | None = None) -> list[object]:
    series = pl.Series("value", values, dtype=dtype or pl.String())
    result = series.to_frame().select(expr.alias("parsed"))["parsed"]
    assert len(result) == len(values)
    return result.to_list()


def orders(**columns: object) -> Source:
    return Source.model_validate({"entity": "orders", "columns": columns})


def raw(**columns: Sequence[object]) -> pl.DataFrame:
    return pl.DataFrame(columns).with_columns(_file=pl.lit("2024-01-05.csv"), _row=pl.int_range(1, pl.len() + 1))


# -- columns ---------------------------------------------------------------------------------------------------------


def test_columns_that_are_delivered_come_in_canonical_order_with_their_values() -> None:
    frame = apply_mapping(raw(status=[" new "], order_id=["A1"], extra=["x"]), orders(), COLUMNS)
    assert frame.to_dicts() == [{"order_id": "A1", "status": " new ", "_file": "2024-01-05.csv", "_row": 1}]


def test_a_column_that_is_not_delivered_is_absent() -> None:
    frame = apply_mapping(raw(order_id=["A1"]), orders(line_number="Line"), COLUMNS)
    assert frame.columns == ["order_id", "_file", "_row"]


def test_a_mapping_renames_and_sets_constants() -> None:
    source = orders(order_id="Invoice", status={"constant": "completed"}, line_number={"constant": 1})
    frame = apply_mapping(raw(Invoice=["A1", "A2"], status=["x", "y"]), source, COLUMNS)
    assert frame.select("order_id", "line_number", "status").rows() == [
        ("A1", "1", "completed"),
        ("A2", "1", "completed"),
    ]


def test_names_match_exactly_first_and_else_without_capitals_and_blanks() -> None:
    frame = apply_mapping(raw(**{" Order_ID ": ["A1"], "Status": ["x"], "status": ["y"]}), orders(), COLUMNS)
    assert frame.select("order_id", "status").rows() == [("A1", "y")]


def test_two_names_that_match_equally_are_rejected() -> None:
    with pytest.raises(DeliveryRejected, match=r"several columns that could be 'status' \('Status', 'STATUS'\)"):
        apply_mapping(raw(Status=["x"], STATUS=["y"]), orders(), COLUMNS)


def test_a_prefix_goes_before_ids_without_their_blanks_and_before_no_blank_id() -> None:
    source = orders(order_id={"prefix": "till-"})
    frame = apply_mapping(raw(order_id=[" A1", "e\u0301", " ", "", None]), source, COLUMNS)
    assert frame["order_id"].to_list() == ["till-A1", "till-é", None, None, None]
    assert apply_mapping(raw(order_id=[7]), source, COLUMNS)["order_id"].to_list() == ["till-7"]


def test_a_prefix_may_go_before_a_constant() -> None:
    source = orders(order_id={"constant": "A1", "prefix": "till-"})
    assert apply_mapping(raw(status=["x", "y"]), source, COLUMNS)["order_id"].to_list() == ["till-A1", "till-A1"]


def test_an_empty_delivery_is_mapped_to_an_empty_frame() -> None:
    empty = pl.DataFrame(schema={"order_id": pl.String, "_file": pl.String, "_row": pl.Int64})
    frame = apply_mapping(empty, orders(status={"constant": "new"}), COLUMNS)
    assert (frame.columns, frame.height) == (["order_id", "status", "_file", "_row"], 0)


def test_a_column_that_nothing_uses_is_unknown() -> None:
    source = orders(order_id="Invoice", status={"constant": "new"})
    delivered = ["Invoice", "order_id", "STATUS", "Unit_Price", "colour", "_file", "_row"]
    assert unknown_columns(delivered, source, COLUMNS) == ["order_id", "STATUS", "colour"]


# -- texts -----------------------------------------------------------------------------------------------------------


def test_texts_lose_blanks_and_are_composed() -> None:
    assert parsed([" a b ", "\u00a0x\t", "", "  ", None, "e\u0301"], parse_text(VALUE)) == [
        "a b",
        "x",
        None,
        None,
        None,
        "é",
    ]


@pytest.mark.parametrize(
    ("values", "dtype", "texts"),
    [
        ([1, None], pl.Int64(), ["1", None]),
        ([123.0, 1.5, float("nan")], pl.Float64(), ["123", "1.5", None]),
        ([True], pl.Boolean(), ["true"]),
        ([b"a", b"\xff"], pl.Binary(), ["a", None]),
        ([["a"]], pl.List(pl.String()), [None]),
    ],
)
def test_other_types_become_texts(values: list[object], dtype: pl.DataType, texts: list[str | None]) -> None:
    assert parsed(values, parse_text(VALUE, dtype=dtype), dtype) == texts


def test_what_was_not_delivered_can_be_told_from_what_cannot_be_read() -> None:
    assert parsed(["", " ", None, "x"], without_blanks(VALUE).is_null()) == [True, True, True, False]
    assert parsed([0, None], without_blanks(VALUE, dtype=pl.Int64()).is_null(), pl.Int64()) == [False, True]


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (["true", "TRUE", " t ", "Yes", "y", "1"], True),
        (["false", "False", "f", "no", "N", "0"], False),
        (["", "2", "nein", "on"], None),
    ],
)
def test_truth_is_read_in_many_words(texts: list[str], value: bool | None) -> None:
    assert parsed(texts, parse_boolean(VALUE)) == [value] * len(texts)


def test_truth_is_read_from_numbers() -> None:
    assert parsed([1, 0, 2, None], parse_boolean(VALUE, dtype=pl.Int64()), pl.Int64()) == [True, False, None, None]
    assert parsed([True], parse_boolean(VALUE, dtype=pl.Boolean()), pl.Boolean()) == [True]
    assert parsed([date(2024, 1, 5)], parse_boolean(VALUE, dtype=pl.Date()), pl.Date()) == [None]


# -- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "1"),
        ("-1.5", "-1.5"),
        ("+2", "2"),
        (" 7 ", "7"),
        (".5", "0.5"),
        ("5.", "5"),
        ("00012.3400", "12.34"),
        ("-0.0", "0"),
        ("1e2", "100"),
        ("1.5E-3", "0.0015"),
        ("0e99999", "0"),
        ("0.00001e1", "0.0001"),
        ("1.50000000000000000000", "1.5"),
        ("00000000000000000000000000000000000000000001", "1"),
        ("12345678901234567890e-10", "1234567890.1234567890"),
        ("9999999999999999999999999999.9999999999", "9999999999999999999999999999.9999999999"),
    ],
)
def test_a_text_that_is_a_number_is_exactly_that_number(text: str, value: str) -> None:
    assert parsed([text], parse_decimal(VALUE)) == [Decimal(value)]


@pytest.mark.parametrize(
    "text",
    [
        *("1e400", "1e-400", "1e999999", "NaN", "inf", "-Infinity", "1_000", "1,234.56", "1 000", "0x10", "٣", "½"),
        *("1e", "e5", ".", "+", "-", "--1", "1.2.3", "£5", "5-", "12345678901234567890123456789", "0.00000000001"),
    ],
)
def test_a_text_that_is_no_number_or_does_not_fit_is_null(text: str) -> None:
    assert parsed([text], parse_decimal(VALUE)) == [None]


def test_a_decimal_comma_is_a_setting_and_thousands_have_no_mark() -> None:
    texts = ["1,5", "-,5", "1.5", "1.234,5", "1,2,3", "7", "1,5e1"]
    expected = [Decimal("1.5"), Decimal("-0.5"), None, None, None, Decimal(7), Decimal(15)]
    assert parsed(texts, parse_decimal(VALUE, comma=True)) == expected
    assert parsed(["1,5"], parse_decimal(VALUE)) == [None]


@pytest.mark.parametrize(
    ("text", "value", "ok"),
    [
        ("12.3456", "12.3456", True),
        ("12.34560", "12.3456", True),
        ("12.34567", None, False),
        ("99999999999999.9999", "99999999999999.9999", True),
        ("100000000000000", None, False),
        ("1e400", None, False),
        ("NaN", None, False),
        ("x", None, False),
        ("", None, True),
        (None, None, True),
    ],
)
def test_money_has_four_decimals_and_is_never_rounded(text: str | None, value: str | None, ok: bool) -> None:
    amount, fits = money(VALUE)
    assert parsed([text], amount) == [None if value is None else Decimal(value)]
    assert parsed([text], fits) == [ok]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, -5, 2**63 - 1], pl.Int64(), ["1", "-5", None]),
        ([2**64 - 1, 3], pl.UInt64(), [None, "3"]),
        ([0.1, 1e-5, 1e13, 1e16, float("nan"), float("inf"), -0.0], pl.Float64(), ["0.1", *[None] * 4, None, "0"]),
        ([0.1, 19.99], pl.Float32(), ["0.1", "19.99"]),
        ([Decimal("1.23456"), Decimal("1.23450")], pl.Decimal(20, 5), [None, "1.2345"]),
        ([Decimal("1.5")], pl.Decimal(10, 2), ["1.5"]),
        ([True], pl.Boolean(), [None]),
        ([None], pl.Null(), [None]),
        ([b"1.5", b"\xff"], pl.Binary(), ["1.5", None]),
    ],
)
def test_money_of_other_types_is_exact_or_null(
    values: list[object], dtype: pl.DataType, expected: list[str | None]
) -> None:
    if dtype == pl.Float64():
        expected[2] = "10000000000000"
    amounts = parsed(values, money(VALUE, dtype=dtype)[0], dtype)
    assert amounts == [None if text is None else Decimal(text) for text in expected]


exact_decimals = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**13), max_value=10**13)


@given(st.lists(exact_decimals, min_size=1))
def test_every_amount_comes_back_however_it_is_written(amounts: list[Decimal]) -> None:
    for written in ("{:f}", "{:E}", "+{:f}", "0{:f}0"):
        texts = [written.format(abs(amount)) for amount in amounts]
        assert parsed(texts, money(VALUE)[0]) == [abs(amount) for amount in amounts]
    with_comma = [f"{amount:f}".replace(".", ",") for amount in amounts]
    assert parsed(with_comma, money(VALUE, comma=True)[0]) == amounts


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_number_is_read_exactly_or_not_at_all(numbers: list[Decimal]) -> None:
    limit = Decimal(10) ** 14
    for number, read in zip(numbers, parsed([str(number) for number in numbers], money(VALUE)[0]), strict=True):
        # Comparing is exact in Python's decimals whatever the context; arithmetic is not.
        fits = abs(number) < limit and number == Decimal(f"{number:.4f}" if number.adjusted() < 20 else 0)
        assert read == (number if fits else None)


@given(st.lists(st.floats(min_value=-1e9, max_value=1e9), min_size=1))
def test_a_float_is_its_shortest_text(numbers: list[float]) -> None:
    expr = parse_decimal(VALUE, dtype=pl.Float64(), precision=38, scale=20)
    for number, read in zip(numbers, parsed(numbers, expr, pl.Float64()), strict=True):
        exact = Decimal(repr(number))
        exponent = exact.normalize().as_tuple().exponent
        assert isinstance(exponent, int)
        assert read == (exact if exponent >= -20 else None)


@given(st.text(alphabet="0123456789+-.,eE _xNa", max_size=12))
def test_no_text_is_a_number_that_python_does_not_read_alike(text: str) -> None:
    (read,) = parsed([text], money(VALUE)[0])
    if read is not None:
        assert read == Decimal(text.strip())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("5", 5), ("+5", 5), ("-5", -5), (" 5 ", 5), ("5.0", 5), ("5e2", 500), ("007", 7)),
        *(("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)), ("9223372036854775808", None)),
        *(("2.5", None), ("1e400", None), ("NaN", None), ("", None), ("x", None), ("1,000", None), ("1_0", None)),
    ],
)
def test_an_integer_is_a_whole_number(text: str, value: int | None) -> None:
    assert parsed([text], parse_integer(VALUE)) == [value]


def test_integers_of_other_types_are_whole_as_well() -> None:
    assert parsed([2.0, 2.5, float("nan")], parse_integer(VALUE, dtype=pl.Float64()), pl.Float64()) == [2, None, None]
    assert parsed([2**64 - 1, 1], parse_integer(VALUE, dtype=pl.UInt64()), pl.UInt64()) == [None, 1]
    assert parsed([Decimal("3.00")], parse_integer(VALUE, dtype=pl.Decimal(9, 2)), pl.Decimal(9, 2)) == [3]
    assert parsed(["3,0"], parse_integer(VALUE, comma=True)) == [3]


# -- time ------------------------------------------------------------------------------------------------------------


def in_utc(format: str | None = None, source: str = "UTC", business: str = "UTC") -> pl.Expr:
    return parse_timestamp(VALUE, format=format, source_timezone=source, business_timezone=business)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-05T01:02:03", datetime(2024, 1, 5, 1, 2, 3)),
        (" 2024-01-05 01:02:03 ", datetime(2024, 1, 5, 1, 2, 3)),
        ("2024-01-05T01:02", datetime(2024, 1, 5, 1, 2)),
        ("2024-01-05", datetime(2024, 1, 5)),
        ("2024-01-05T01:02:03.1234569", datetime(2024, 1, 5, 1, 2, 3, 123456)),
        ("2024-01-05T01:02:03.999999999999", datetime(2024, 1, 5, 1, 2, 3, 999999)),
        ("2024-01-05T01:02:03,5", datetime(2024, 1, 5, 1, 2, 3, 500000)),
        ("2024-01-05T01:02:03Z", datetime(2024, 1, 5, 1, 2, 3)),
        ("2024-01-05 01:02:03.5 +02:00", datetime(2024, 1, 4, 23, 2, 3, 500000)),
        ("2024-01-05T01:02:03-0330", datetime(2024, 1, 5, 4, 32, 3)),
        ("2024-01-05T01:02+05", datetime(2024, 1, 4, 20, 2)),
        ("0001-01-01", datetime(1, 1, 1)),
        ("9999-12-31T23:59:59.999999", datetime(9999, 12, 31, 23, 59, 59, 999999)),
    ],
)
def test_iso_time_stamps_are_read(text: str, moment: datetime) -> None:
    assert parsed([text], in_utc()) == [moment]
    instant = parse_instant(VALUE, format=None, source_timezone="UTC")
    assert parsed([text], instant) == [moment.replace(tzinfo=UTC)]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "0000-00-00",
            "0000-00-00 00:00:00",
            "0000-01-01",
            "2024-02-30",
            "2023-02-29T00:00:00",
            "2024-1-5",
            "20240105",
        ),
        *(
            "2024-01-05T24:00:00",
            "2024-01-05T23:59:60",
            "2024-01-05T1:02:03",
            "2024-01-05T01:02:03+25:00",
            "05/01/2024",
        ),
        *("", "x", "1704412800", "2024-01-05T", "2024-01-05T01:02:03 Europe/Berlin", "9999-12-31T23:59:59-01:00"),
    ],
)
def test_a_text_that_is_no_iso_time_stamp_is_null(text: str) -> None:
    assert parsed([text], in_utc()) == [None]
    assert parsed([text], parse_date(VALUE, format=None, source_timezone="UTC", business_timezone="UTC")) == [None]


def test_naive_times_are_the_sources_and_come_out_in_business_time() -> None:
    assert parsed(["2024-01-05T01:02:03"], in_utc(source="Europe/Berlin", business="America/New_York")) == [
        datetime(2024, 1, 4, 19, 2, 3)
    ]


def test_an_offset_is_believed_whatever_the_sources_zone() -> None:
    assert parsed(["2024-07-05T12:00:00Z"], in_utc(source="Asia/Tokyo", business="Europe/London")) == [
        datetime(2024, 7, 5, 13)
    ]


def test_a_time_that_daylight_saving_repeats_is_the_earlier_one_and_one_that_it_skips_is_null() -> None:
    texts = ["2024-10-27T02:30:00", "2024-03-31T02:30:00", "2024-10-27T02:30:00+01:00"]
    instants = parsed(texts, parse_instant(VALUE, format=None, source_timezone="Europe/Berlin"))
    assert instants == [datetime(2024, 10, 27, 0, 30, tzinfo=UTC), None, datetime(2024, 10, 27, 1, 30, tzinfo=UTC)]
    business = parsed(texts, in_utc(source="Europe/Berlin", business="Europe/Berlin"))
    assert business == [datetime(2024, 10, 27, 2, 30), None, datetime(2024, 10, 27, 2, 30)]


@pytest.mark.parametrize(
    ("format", "text", "moment"),
    [
        ("%d/%m/%Y %H:%M", "5/1/2024 8:05", datetime(2024, 1, 5, 8, 5)),
        ("%m/%d/%y %I:%M %p", "1/5/24 3:04 PM", datetime(2024, 1, 5, 15, 4)),
        ("%d.%m.%Y %H:%M:%S%.f", "05.01.2024 10:00:00.1239999", datetime(2024, 1, 5, 10, 0, 0, 123999)),
        ("%d/%m/%Y %H:%M %z", "05/01/2024 10:00 +0200", datetime(2024, 1, 5, 8)),
        ("%s", "1704412800", datetime(2024, 1, 5)),
        ("%Y%m%d", "20240105", datetime(2024, 1, 5)),
        ("%d/%m/%Y", "30/02/2024", None),
        ("%d/%m/%Y", "2024-01-05", None),
    ],
)
def test_a_format_is_the_sources_own(format: str, text: str, moment: datetime | None) -> None:
    assert parsed([text], in_utc(format)) == [moment]
    day = parse_date(VALUE, format=format, source_timezone="UTC", business_timezone="UTC")
    assert parsed([text], day) == [moment.date() if moment else None]


def test_a_format_reads_integers() -> None:
    day = parse_date(VALUE, format="%Y%m%d", source_timezone="UTC", business_timezone="UTC", dtype=pl.Int64())
    assert parsed([20240105, 20241305], day, pl.Int64()) == [date(2024, 1, 5), None]


@pytest.mark.parametrize(
    ("value", "dtype", "moment"),
    [
        (datetime(2024, 1, 5, 1), pl.Datetime("ms"), datetime(2024, 1, 5, 0)),
        (datetime(2024, 1, 5, 1, tzinfo=UTC), pl.Datetime("us", "UTC"), datetime(2024, 1, 5, 1)),
        (datetime(2024, 10, 27, 2, 30), pl.Datetime("us"), datetime(2024, 10, 27, 0, 30)),
        (datetime(2024, 3, 31, 2, 30), pl.Datetime("us"), None),
        (date(2024, 1, 5), pl.Date(), datetime(2024, 1, 4, 23)),
        (1704412800, pl.Int64(), None),
        (1.5, pl.Float64(), None),
        (None, pl.Null(), None),
    ],
)
def test_native_types_follow_the_same_rules(value: object, dtype: pl.DataType, moment: datetime | None) -> None:
    expr = parse_timestamp(VALUE, format=None, source_timezone="Europe/Berlin", business_timezone="UTC", dtype=dtype)
    assert parsed([value], expr, dtype) == [moment]


def test_nanoseconds_are_cut_not_rounded() -> None:
    expr = parse_timestamp(VALUE, format=None, source_timezone="UTC", business_timezone="UTC", dtype=pl.Datetime("ns"))
    assert parsed([1_999], expr, pl.Datetime("ns")) == [datetime(1970, 1, 1, 0, 0, 0, 1)]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2024-01-05", date(2024, 1, 5)),
        (" 2024-01-05 ", date(2024, 1, 5)),
        ("2024-01-05T00:00:00", date(2024, 1, 5)),
        ("2024-01-05T23:30:00Z", date(2024, 1, 6)),
        ("0001-01-01", date(1, 1, 1)),
    ],
)
def test_a_date_may_come_as_a_time_stamp(text: str, day: date) -> None:
    expr = parse_date(VALUE, format=None, source_timezone="Europe/Berlin", business_timezone="Europe/Berlin")
    assert parsed([text], expr) == [day]


def test_a_date_stays_a_date() -> None:
    expr = parse_date(VALUE, format=None, source_timezone="UTC", business_timezone="UTC", dtype=pl.Date())
    assert parsed([date(2024, 1, 5), None], expr, pl.Date()) == [date(2024, 1, 5), None]


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"]
moments = st.datetimes(min_value=datetime(1980, 1, 1), max_value=datetime(2037, 12, 31))
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.lists(moments, min_size=1), st.sampled_from(ZONES), st.sampled_from(ZONES), st.sampled_from(["T", " "]))
def test_every_naive_time_is_what_python_makes_of_it(
    times: list[datetime], source: str, business: str, separator: str
) -> None:
    expected = []
    for time in times:
        # A text does not say which of two equal times of a night is meant: it is the earlier one.
        instant = time.replace(tzinfo=ZoneInfo(source), fold=0).astimezone(UTC)
        skipped = instant.astimezone(ZoneInfo(source)).replace(tzinfo=None) != time
        expected.append(None if skipped else instant.astimezone(ZoneInfo(business)).replace(tzinfo=None))
    assert parsed([time.isoformat(separator) for time in times], in_utc(None, source, business)) == expected


@given(st.lists(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=offsets), min_size=1))
def test_every_time_with_an_offset_comes_back(times: list[datetime]) -> None:
    expr = parse_instant(VALUE, format=None, source_timezone="Europe/Berlin")
    assert parsed([time.isoformat() for time in times], expr) == [time.astimezone(UTC) for time in times]


@given(st.lists(st.dates(), min_size=1))
def test_every_date_comes_back(days: list[date]) -> None:
    expr = parse_date(VALUE, format=None, source_timezone="UTC", business_timezone="Europe/Berlin")
    assert parsed([day.isoformat() for day in days], expr) == days


@pytest.mark.parametrize("dtype", [pl.String(), pl.Int64(), pl.Float64(), pl.Boolean(), pl.Null(), pl.Decimal(9, 2)])
def test_an_empty_column_of_any_type_can_be_parsed(dtype: pl.DataType) -> None:
    zones = {"source_timezone": "UTC", "business_timezone": "UTC"}
    frame = pl.DataFrame(schema={"value": dtype}).select(
        text=parse_text(VALUE, dtype=dtype),
        integer=parse_integer(VALUE, dtype=dtype),
        decimal=parse_decimal(VALUE, dtype=dtype),
        amount=money(VALUE, dtype=dtype)[0],
        truth=parse_boolean(VALUE, dtype=dtype),
        time=parse_timestamp(VALUE, format=None, dtype=dtype, **zones),
        instant=parse_instant(VALUE, format=None, source_timezone="UTC", dtype=dtype),
        day=parse_date(VALUE, format=None, dtype=dtype, **zones),
    )
    assert frame.height == 0
    assert frame.schema == {
        "text": pl.String,
        "integer": pl.Int64,
        "decimal": pl.Decimal(38, 10),
        "amount": pl.Decimal(18, 4),
        "truth": pl.Boolean,
        "time": pl.Datetime("us"),
        "instant": pl.Datetime("us", "UTC"),
        "day": pl.Date,
    }
