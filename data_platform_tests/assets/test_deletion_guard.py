"""Full deliveries that lack many keys: half a file must not delete half the members."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_platform_tests.shop import Shop, customer, failures, open_shop

FIRST, NEXT, THIRD = "2024-01-05", "2024-01-06", "2024-01-07"


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    (tmp_path / "sources.yaml").write_text("customers:\n  mode: full\n")
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def deliver(shop: Shop, day: str, *numbers: int, **values: str) -> None:
    shop.deliver(
        "customers", *(customer(f"c{number}", **values) for number in numbers), day=day, columns=["customer_id"]
    )


def current(shop: Shop) -> int:
    return shop.query("SELECT count(*) FROM warehouse.dim_customer WHERE is_current AND customer_key <> -1")[0][0]


def test_a_full_delivery_that_lacks_many_keys_is_rejected_and_nobody_is_deleted(shop: Shop) -> None:
    deliver(shop, FIRST, *range(50))
    deliver(shop, NEXT, *range(39))
    assert shop.run(first=FIRST).success
    failed = shop.run(first=NEXT)
    assert "11 of the 50 keys of the full delivery of 2024-01-05 are absent" in failures(failed)["stg_customers"]
    assert "`accept_deletions: [2024-01-06]`" in failures(failed)["stg_customers"]
    assert current(shop) == 50


def test_what_is_accepted_by_name_is_deleted(shop: Shop) -> None:
    deliver(shop, FIRST, *range(50))
    deliver(shop, NEXT, 1)
    (shop.home / "sources.yaml").write_text("customers:\n  mode: full\n  accept_deletions: [2024-01-06]\n")
    assert shop.run(first=FIRST, last=NEXT).success
    assert current(shop) == 1


@pytest.mark.parametrize(("told", "left"), [(range(41), 41), (range(40), 40)])
def test_a_few_absent_keys_are_deletions(shop: Shop, told: range, left: int) -> None:
    # Ten of fifty are a fifth, and no more.
    deliver(shop, FIRST, *range(50))
    deliver(shop, NEXT, *told)
    assert shop.run(first=FIRST, last=NEXT).success
    assert current(shop) == left


def test_within_a_range_each_day_is_judged_against_the_one_before_it(shop: Shop) -> None:
    deliver(shop, FIRST, *range(50))
    deliver(shop, NEXT, *range(42))
    deliver(shop, THIRD, *range(34))
    assert shop.run(first=FIRST, last=THIRD).success
    assert current(shop) == 34


def test_an_empty_full_delivery_deletes_nothing_and_is_not_compared_with(shop: Shop) -> None:
    deliver(shop, FIRST, *range(50))
    deliver(shop, NEXT)
    deliver(shop, THIRD, *range(20))
    assert shop.run(first=FIRST, last=NEXT).success
    assert current(shop) == 50
    assert "30 of the 50 keys of the full delivery of 2024-01-05" in failures(shop.run(first=THIRD))["stg_customers"]


def test_a_quarantined_key_is_present(shop: Shop) -> None:
    deliver(shop, FIRST, *range(300))
    assert shop.run(first=FIRST).success
    broken = [customer(f"c{number}", created_date="soon") for number in range(14)]
    shop.deliver("customers", *broken, *(customer(f"c{n}", created_date="") for n in range(14, 245)), day=NEXT)
    # 55 of 300 are absent, under a fifth; were the 14 quarantined counted absent as well, it would be 69.
    (shop.home / "sources.yaml").write_text("customers:\n  mode: full\n  reject_rows: 20\n")
    assert shop.run(first=NEXT).success
    assert current(shop) == 245
