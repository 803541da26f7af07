"""Rows of erased customers, as sources deliver them: ids as numbers, prefixes, several sources, other columns."""

from datetime import date

import polars as pl
import pytest

from data_platform.contracts import STAGED
from data_platform.erasure.register import DOCUMENT, Register, enter
from data_platform.erasure.rows import NAMING, erased_delivered, erased_staged
from data_platform.errors import PlatformError
from data_platform.lake import Lake
from data_platform.sources.config import Source
from data_platform.transforms.staging import stage_window

CUSTOMERS, ORDERS = STAGED["customers"], STAGED["orders"]


def among(*known: str, pseudonym: str = "erased-1"):  # type: ignore[no-untyped-def]
    return lambda ids: {one: pseudonym for one in ids if one in known}


def raw(**columns: list[object]) -> pl.DataFrame:
    height = len(next(iter(columns.values())))
    return pl.DataFrame(columns).with_columns(_file=pl.lit("a.csv"), _row=pl.int_range(1, height + 1))


def test_the_entities_that_name_a_customer_are_found_in_the_contracts() -> None:
    assert set(NAMING) == {"orders", "customers"}


@pytest.mark.parametrize("ids", [[" 17", "170"], [17, 170], [17.0, 170.0]])
def test_an_id_is_found_as_staging_reads_it_and_no_other_that_holds_it(ids: list[object]) -> None:
    frame = raw(customer_id=ids, email=["a@x", "b@x"])
    done = erased_delivered(frame, Source(entity="customers"), CUSTOMERS, among("17"))
    assert done.rows == 1
    assert done.frame["customer_id"].to_list() == ["erased-1", "170"]
    assert done.frame["email"].to_list() == [None, "b@x"]
    assert done.personal["email"] == {"a@x"}
    assert erased_delivered(frame, Source(entity="customers"), CUSTOMERS, among("7")).frame is frame


def test_what_a_mapping_calls_otherwise_and_what_has_no_place_goes_and_all_else_stays() -> None:
    source = Source(entity="customers", columns={"customer_id": "No", "email": "Mail", "segment": "Group"})
    frame = raw(No=["1", "2"], Mail=["a@x", "b@x"], Group=["peer", "peer"], country=["a@x", "GB"], phone=["007", "008"])
    done = erased_delivered(frame, source, CUSTOMERS, among("1")).frame
    assert done.drop("_file", "_row").rows() == [
        ("erased-1", None, "peer", None, None),
        ("2", "b@x", "peer", "GB", "008"),
    ]
    before = raw(customer_id=["1"], email=["a@x"])
    assert erased_delivered(before, source, CUSTOMERS, among("1")).rows == 1, "delivered before the mapping was"


def test_the_pseudonym_of_an_id_with_a_prefix_is_read_with_that_prefix() -> None:
    shop = Source.model_validate(
        {"entity": "customers", "sources": {"web": {"columns": {"customer_id": {"prefix": "w-"}}}, "till": {}}}
    )
    frame = pl.DataFrame(
        {"till.customer_id": ["w-1", None], "web.customer_id": [None, "1"], "web.email": [None, "a@x"],
         "_file": ["till/a.csv", "web/a.csv"], "_row": [1, 1]}
    )  # fmt: skip
    done = erased_delivered(frame, shop, CUSTOMERS, among("w-1", pseudonym="w-erased-1"))
    assert done.rows == 2
    assert done.frame["till.customer_id"].to_list() == ["w-erased-1", None]
    assert done.frame["web.customer_id"].to_list() == [None, "erased-1"]
    assert done.frame["web.email"].to_list() == [None, None]


def test_lines_that_only_an_unknown_column_tells_apart_stay_two_lines() -> None:
    frame = raw(order_id=["o", "o", "o"], customer_id=["1", "1", "1"], product_id=["p"] * 3, quantity=["1"] * 3,
                unit_price=["2.00"] * 3, order_ts=["2024-01-05T10:00:00"] * 3, gift=["Ada", "Bob", "Ada"])  # fmt: skip
    source = Source(entity="orders")
    done = erased_delivered(frame, source, ORDERS, among("1")).frame
    assert done["gift"].to_list() == ["erased-1", "erased-2", "erased-1"]
    day = date(2024, 1, 5)
    counts = []
    for rows in (frame, done):
        (staged,) = stage_window(rows.with_columns(_partition=pl.lit(day)), [day], contract=ORDERS, source=source,
                                 timezone="UTC")  # fmt: skip
        counts.append((staged.stamp.rows_staged, staged.stamp.rows_duplicate))
    assert counts == [(2, 1), (2, 1)]


def test_staged_rows_lose_what_is_personal_alone() -> None:
    known = {"customer_id": ["1", "2"], "email": ["a@x", "b@x"], "segment": ["peer", "a@x"]}
    rows = pl.DataFrame(known | {name: [None, None] for name in ("first_name", "last_name")})
    done = erased_staged(rows, CUSTOMERS, among("1"))
    assert done.frame.select(list(known)).rows() == [("erased-1", None, "peer"), ("2", "b@x", "a@x")]


def test_an_id_keeps_its_pseudonym_and_the_register_does_not_tell_it(lake: Lake) -> None:
    assert Register.of(lake).among(["ada"]) == {}
    first = enter(lake, "ada", [""]).among(["ada", "bob", None])
    assert set(first) == {"ada"}
    assert enter(lake, "ada", [""]).among(["ada"]) == first
    second = enter(lake, "shop-7", ["", "shop-"]).among(["shop-7", "ada"])
    assert second["ada"] == first["ada"]
    assert second["shop-7"].startswith("shop-erased-")
    content = lake.read_document(DOCUMENT) or b""
    assert b"ada" not in content
    (lake.root / DOCUMENT).write_bytes(content[:-9])
    with pytest.raises(PlatformError, match="says who was erased, cannot be read: restore it from a backup"):
        Register.of(lake)
