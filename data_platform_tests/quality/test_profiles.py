"""Profiles of staged rows: figures that are right, little, and free of personal data."""

import json
import zlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from data_platform.contracts import STAGED
from data_platform.quality.profile_groups import present
from data_platform.quality.profiles import OTHER, QUANTILES, VERSION, Profile, profile

DAY = date(2024, 1, 5)
LINE: dict[str, Any] = {
    "_partition": DAY,
    "order_id": "o1",
    "line_number": 1,
    "customer_id": "c1",
    "product_id": "p1",
    "quantity": 2,
    "unit_price": Decimal("1.50"),
    "discount_amount": Decimal(0),
    "order_ts": datetime(2024, 1, 5, 10),
    "status": "completed",
    "updated_at": datetime(2024, 1, 5, 10, tzinfo=UTC),
    "is_tombstone": False,
    "total_amount": Decimal("3.00"),
}
CUSTOMER = {"_partition": DAY, "customer_id": "c1", "email": "ada@example.com", "first_name": "Ada",
            "last_name": "Adams", "segment": "consumer", "country": "France", "created_date": date(2024, 1, 1),
            "updated_at": datetime(2024, 1, 5, tzinfo=UTC), "is_deleted": False}  # fmt: skip


def orders(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = {"_partition": pl.Date(), **STAGED["orders"].polars_schema}
    return pl.DataFrame([LINE | row for row in rows], schema=schema)


def only(*rows: dict[str, Any]) -> Profile:
    return profile(orders(*rows), STAGED["orders"])[DAY]


def customers(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = {"_partition": pl.Date(), **STAGED["customers"].polars_schema}
    return pl.DataFrame([CUSTOMER | row for row in rows], schema=schema)


def many(count: int, days: int = 1, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    prices = [Decimal(int(cents)) / 100 for cents in rng.lognormal(7, 1, count)]
    rows = [
        {"_partition": DAY + timedelta(days=number % days), "order_id": f"o{number // 3}", "line_number": number % 3,
         "customer_id": f"c{rng.integers(900)}", "product_id": f"p{rng.integers(300)}", "unit_price": prices[number],
         "order_ts": datetime(2024, 1, 5) + timedelta(seconds=int(rng.integers(86400))),
         "quantity": int(rng.integers(1, 9))}
        for number in range(count)
    ]  # fmt: skip
    return orders(*rows)


def test_no_rows_give_no_profile() -> None:
    assert profile(orders().clear(), STAGED["orders"]) == {}


def test_one_row_is_a_profile() -> None:
    found = only({})
    price = found.columns["unit_price"]
    assert (found.rows, found.repeats, price.nulls, price.distinct) == (1, 0.0, 0.0, 1)
    assert price.numbers is not None
    assert (price.numbers.low, price.numbers.high, price.numbers.mean, price.numbers.deviation) == (1.5, 1.5, 1.5, 0.0)
    assert set(price.numbers.quantiles) == {1.5}


def test_a_column_of_nulls_has_a_null_rate_of_one_and_no_figures() -> None:
    found = only({"status": None, "discount_amount": None, "order_ts": None}, {"status": None,
                 "discount_amount": None, "order_ts": None, "line_number": 2})  # fmt: skip
    for name in ("status", "discount_amount", "order_ts"):
        column = found.columns[name]
        assert (column.nulls, column.distinct) == (1.0, 0)
        assert {column.numbers, column.shares, column.hours, column.ages} == {None}


def test_nulls_count_neither_as_a_value_nor_in_figures() -> None:
    found = only({"unit_price": None}, {"unit_price": Decimal(2)}, {"unit_price": Decimal(4)}, {"unit_price": None})
    price = found.columns["unit_price"]
    assert (price.nulls, price.distinct, price.numbers and price.numbers.mean) == (0.5, 2, 3.0)


def test_quantiles_are_those_of_the_values() -> None:
    rows = many(2000)
    found = profile(rows, STAGED["orders"])[DAY].columns["unit_price"].numbers
    assert found is not None
    exact = np.quantile(rows.get_column("unit_price").cast(pl.Float64).to_numpy(), QUANTILES, method="nearest")
    assert found.quantiles == pytest.approx(exact, rel=1e-2)


def test_a_frame_of_many_days_gives_what_each_day_alone_gives() -> None:
    rows = many(600, days=5)
    together = profile(rows.lazy(), STAGED["orders"])
    assert list(together) == [DAY + timedelta(days=number) for number in range(5)]
    for day, found in together.items():
        assert profile(rows.filter(pl.col("_partition") == day), STAGED["orders"]) == {day: found}


def test_the_lines_of_an_order_are_one_moment() -> None:
    large = [{"line_number": number, "order_ts": datetime(2024, 1, 5, 23)} for number in range(1, 10)]
    found = only({"order_id": "o2"}, *large).columns["order_ts"]
    assert found.hours is not None
    assert (found.hours["10"], found.hours["23"]) == (0.5, 0.5)


def test_hours_and_ages_of_instants_are_those_of_the_business_time_zone() -> None:
    late = orders({"updated_at": datetime(2024, 1, 4, 23, 30, tzinfo=UTC)})
    utc = profile(late, STAGED["orders"])[DAY].columns["updated_at"]
    berlin = profile(late, STAGED["orders"], timezone="Europe/Berlin")[DAY].columns["updated_at"]
    assert utc.hours is not None
    assert utc.ages is not None
    assert berlin.hours is not None
    assert berlin.ages is not None
    assert (utc.hours["23"], utc.ages["1 day"]) == (1.0, 1.0)
    assert (berlin.hours["0"], berlin.ages["same day"]) == (1.0, 1.0)


def test_ages_tell_how_long_before_the_delivery() -> None:
    moments = [
        datetime(2024, 1, 6),
        datetime(2024, 1, 5),
        datetime(2024, 1, 4),
        datetime(2024, 1, 1),
        datetime(2023, 1, 1),
    ]
    ages = only(*({"order_ts": moment} for moment in moments)).columns["order_ts"].ages
    assert ages == {"later than the delivery": 0.2, "same day": 0.2, "1 day": 0.2, "2 to 7 days": 0.2,
                    "8 to 31 days": 0.0, "older": 0.2}  # fmt: skip


def test_the_most_frequent_categories_are_named_and_the_rest_is_other() -> None:
    statuses = ["usual"] * 20 + [f"s{number:02d}" for number in range(30)]
    shares = only(*({"status": status, "line_number": n} for n, status in enumerate(statuses))).columns["status"].shares
    assert shares is not None
    assert (shares["usual"], len(shares)) == (0.4, 21)
    assert shares[OTHER] == pytest.approx(11 / 50)


def test_a_text_with_many_values_is_no_category() -> None:
    statuses = [f"s{number}" for number in range(51)]
    assert only(*({"status": status} for status in statuses)).columns["status"].shares is None


def test_booleans_are_categories() -> None:
    assert only({}, {"is_tombstone": True}).columns["is_tombstone"].shares == {"false": 0.5, "true": 0.5}


def test_ids_beside_the_key_leave_their_prefix_and_the_key_nothing() -> None:
    found = only({"product_id": "GB-1"}, {"product_id": "GB-2"}, {"product_id": "DE-1"}, {"product_id": None})
    assert found.columns["product_id"].shares == pytest.approx({"GB…": 2 / 3, "DE…": 1 / 3}, abs=1e-4)
    assert found.columns["order_id"].shares is None
    assert found.columns["line_number"].numbers is None


def test_rows_that_tell_the_same_under_another_key_are_repeats() -> None:
    assert only({}, {"order_id": "o2"}, {"order_id": "o3", "quantity": 3}, {"product_id": "p2"}).repeats == 0.25
    assert only({}, {"order_id": "o2", "updated_at": None}).repeats == 0.5


def test_members_have_no_repeats() -> None:
    assert profile(customers({}, {"customer_id": "c2"}), STAGED["customers"])[DAY].repeats is None


def test_personal_data_leaves_no_value() -> None:
    found = profile(customers({}, {"customer_id": "c2", "email": None}), STAGED["customers"])[DAY]
    text = found.to_json()
    assert not any(secret in text for secret in ("ada", "Ada", "Adams", "example"))
    email = found.columns["email"]
    assert (email.nulls, email.distinct) == (0.5, 1)
    for name in STAGED["customers"].pii_columns:
        column = found.columns[name]
        assert {column.numbers, column.shares, column.hours, column.ages} == {None}
    assert found.columns["country"].shares == {"France": 1.0}


def test_orders_count_once_however_many_lines_they_have() -> None:
    large = [{"order_id": "large", "line_number": line, "customer_id": None} for line in range(1, 9)]
    small = [{"order_id": f"o{number}"} for number in range(2, 5)]
    found = only(*large, *small, {"order_id": "o4", "line_number": 2, "quantity": -1, "customer_id": None})
    customer, quantity = found.columns["customer_id"], found.columns["quantity"]
    assert found.groups == 4
    assert (customer.nulls, customer.gaps) == (0.75, 0.5)
    assert (quantity.gaps, quantity.negative) == (0.0, 0.25)
    assert found.columns["order_id"].gaps is None


def test_members_stand_alone() -> None:
    found = profile(customers({}, {"customer_id": "c2", "country": None}), STAGED["customers"])[DAY]
    assert found.groups == 2
    assert found.columns["country"].gaps is None


def test_a_price_unlike_the_others_of_its_product_is_counted() -> None:
    prices = [Decimal(price) for price in ("2", "2", "2.50", "20")]
    rows = [{"line_number": number, "unit_price": price} for number, price in enumerate(prices)]
    # Two rows of a product do not say which of them is odd.
    rows += [{"line_number": 9, "product_id": "p2", "unit_price": price} for price in (Decimal(1), Decimal(50))]
    unlike = only(*rows).columns["unit_price"].unlike
    assert unlike is not None
    assert unlike["product_id"] == 0.25
    assert only({"unit_price": Decimal(1)}).columns["unit_price"].unlike is None


def test_of_ids_no_more_than_bits_of_their_presence_is_kept() -> None:
    secret = {"product_id": "secret-7"}
    one, both, same = only({}), only({}, secret), only(secret, {}, {})
    bits = [found.columns["product_id"].present for found in (one, both, same)]
    assert all(text is not None for text in bits)
    assert [int(present(str(text)).sum()) for text in bits] == [1, 2, 2]
    assert bits[1] == bits[2]
    assert "secret" not in both.to_json()
    assert only({"customer_id": None}).columns["customer_id"].present is None
    # A history of years is read by whatever library there will be.
    assert np.flatnonzero(present(str(bits[0]))).tolist() == [zlib.crc32(b"p1") % 2048]


def test_json_gives_the_same_profile_back() -> None:
    found = [*profile(many(500, days=3), STAGED["orders"]).values(), only({"status": None}), Profile(0)]
    found += profile(customers({}, {"customer_id": "ü", "country": '"Österreich"'}), STAGED["customers"]).values()
    for one in found:
        assert Profile.from_json(one.to_json()) == one
        assert json.loads(one.to_json())["version"] == VERSION


def test_a_profile_is_small() -> None:
    found = profile(many(3000), STAGED["orders"])[DAY]
    assert len(found.to_json().encode()) < 4096


def test_columns_beside_the_contract_are_ignored() -> None:
    rows = orders({}).with_columns(_file=pl.lit("a.csv"), note=pl.lit("secret"))
    assert profile(rows, STAGED["orders"]) == profile(orders({}), STAGED["orders"])
    assert "status" not in profile(rows.drop("status"), STAGED["orders"])[DAY].columns
