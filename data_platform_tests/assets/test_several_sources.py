"""Several sources of one entity in one partition, run by the real assets: a web shop and tills."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from data_platform_tests.shop import DAY, Shop, checks, customer, failures, line, open_shop

NEXT = "2024-01-06"
SOURCES = """
orders:
  columns: {status: {constant: completed}}
  sources:
    shop: {}
    tills:
      delimiter: ";"
      columns:
        order_id: {from: bon, prefix: "T-"}
        unit_price: {from: price, decimal: comma}
customers:
  sources:
    shop: {}
    club: {columns: {customer_id: {from: member, prefix: "C-"}}}
"""
TILLS = "bon;line_number;customer_id;product_id;quantity;price;order_ts"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as shop:
        (shop.home / "sources.yaml").write_text(SOURCES)
        yield shop


def tills(shop: Shop, *rows: str, day: str = DAY) -> Path:
    path = shop.home / "landing" / "orders" / "tills" / f"{day}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([TILLS, *rows, ""]))
    return path


def web(shop: Shop, *rows: dict[str, object], day: str = DAY) -> Path:
    return shop.deliver("orders/shop", *rows, day=day)


def staged(shop: Shop, table: str = "stg_orders") -> pl.DataFrame:
    return shop.lake.read(table, shop.lake.days(table)[0])


def outcome(result: dg.ExecuteInProcessResult, table: str, check: str) -> tuple[bool, int]:
    found = checks(result)[table, check]
    return found.passed, found.metadata["rows_failed"].value


def test_a_partition_holds_what_all_sources_delivered_each_by_its_own_mapping(shop: Shop) -> None:
    web(shop, line("1", unit_price="2.50"))
    tills(shop, "1;1;c1;p1;2;3,50;2024-01-05 10:00:00")
    result = shop.run("raw_orders,stg_orders")
    assert result.success
    rows = staged(shop)
    assert rows.select("order_id", "unit_price", "status", "_file").rows() == [
        ("1", pl.Series([2.5]).cast(pl.Decimal(18, 4))[0], "completed", f"shop/{DAY}.csv"),
        ("T-1", pl.Series([3.5]).cast(pl.Decimal(18, 4))[0], "completed", f"tills/{DAY}.csv"),
    ]
    raw = shop.lake.read("raw_orders", shop.lake.days("raw_orders")[0])
    assert raw.get_column("tills.price").to_list() == [None, "3,50"]
    assert outcome(result, "raw_orders", "rows_balance") == (True, 0)
    assert outcome(result, "stg_orders", "rows_balance") == (True, 0)
    stamp = shop.lake.stamps("raw_orders")
    assert [one.files for one in stamp.values()] == [(f"shop/{DAY}.csv", f"tills/{DAY}.csv")]


def test_copies_and_rejects_are_those_of_each_source(shop: Shop) -> None:
    web(shop, line("1"), line("1"), line("2", quantity="many"))
    tills(shop, "1;1;c1;p1;2;3,50;2024-01-05 10:00:00", "2;1;c1;p1;2;dear;2024-01-05 10:00:00")
    result = shop.run("raw_orders,stg_orders")
    [stamp] = shop.lake.stamps("stg_orders").values()
    assert (stamp.rows_delivered, stamp.rows_staged, stamp.rows_quarantined, stamp.rows_duplicate) == (5, 2, 2, 1)
    assert outcome(result, "stg_orders", "values_can_be_read") == (False, 2)
    assert outcome(result, "stg_orders", "rows_balance") == (True, 0)
    rejected = pl.read_parquet(shop.lake.quarantine_path("stg_orders", shop.lake.days("stg_orders")[0], stamp))
    assert rejected.select("_file", "shop.quantity", "tills.price").rows() == [
        (f"shop/{DAY}.csv", "many", None),
        (f"tills/{DAY}.csv", None, "dear"),
    ]


def test_the_same_again_writes_nothing_and_one_more_source_adds_its_rows(shop: Shop) -> None:
    web(shop, line("1"))
    assert shop.run("raw_orders,stg_orders").success
    assert staged(shop).get_column("order_id").to_list() == ["1"]
    first = shop.lake.stamps("stg_orders")
    assert shop.run("raw_orders,stg_orders").success
    assert shop.lake.stamps("stg_orders") == first
    tills(shop, "1;1;c1;p1;2;3,50;2024-01-05 10:00:00")
    assert shop.run("raw_orders,stg_orders").success
    assert staged(shop).get_column("order_id").to_list() == ["1", "T-1"]


def test_the_rows_of_a_source_whose_file_is_gone_stand(shop: Shop) -> None:
    web(shop, line("1"))
    path = tills(shop, "1;1;c1;p1;2;3,50;2024-01-05 10:00:00")
    shop.run("raw_orders,stg_orders")
    path.unlink()
    web(shop, line("1"), line("9"))
    result = shop.run("raw_orders,stg_orders")
    assert result.success
    assert staged(shop).get_column("order_id").to_list() == ["1", "9", "T-1"]
    assert outcome(result, "raw_orders", "rows_balance") == (True, 0)


def test_one_broken_source_rejects_the_day(shop: Shop) -> None:
    web(shop, line("1"))
    tills(shop).write_text("")
    result = shop.run("raw_orders,stg_orders")
    assert not result.success
    assert f"raw_orders {DAY}: orders/tills/{DAY}.csv is empty (zero bytes)" in failures(result)["raw_orders"]
    assert shop.lake.days("raw_orders") == []


def test_a_range_gives_what_single_days_give(shop: Shop) -> None:
    web(shop, line("1"))
    tills(shop, "7;1;c1;p1;2;3,50;2024-01-06 10:00:00", day=NEXT)
    assert shop.run("raw_orders,stg_orders", DAY, NEXT).success
    by_range = shop.lake.stamps("stg_orders")
    for path in shop.lake.root.rglob("part.parquet"):
        path.unlink()
    for day in (NEXT, DAY):
        assert shop.run("raw_orders,stg_orders", day).success
    assert shop.lake.stamps("stg_orders") == by_range
    assert [stamp.rows_staged for stamp in by_range.values()] == [1, 1]


def test_attributes_that_only_some_sources_bring_reject_the_delivery(shop: Shop) -> None:
    shop.deliver("customers/shop", customer("c1", email="a@example.org"))
    shop.deliver("customers/club", {"member": "1", "segment": "gold"})
    result = shop.run("raw_customers,stg_customers")
    assert not result.success
    assert "some of its sources bring" in failures(result)["stg_customers"]
    assert shop.lake.days("stg_customers") == []


def test_a_full_delivery_lacks_no_source(shop: Shop) -> None:
    (shop.home / "sources.yaml").write_text(SOURCES + "  mode: full\n")
    shop.deliver("customers/shop", customer("c1"))
    result = shop.run("raw_customers,stg_customers")
    assert not result.success
    assert "club delivered no rows: a full delivery is one of all sources" in failures(result)["raw_customers"]


def test_of_a_full_delivery_no_source_is_empty_unless_all_are(shop: Shop) -> None:
    (shop.home / "sources.yaml").write_text(SOURCES + "  mode: full\n")
    shop.deliver("customers/shop", customer("c1"))
    club = shop.home / "landing" / "customers" / "club" / f"{DAY}.csv"
    club.parent.mkdir(parents=True, exist_ok=True)
    club.write_text("member\n")
    result = shop.run("raw_customers,stg_customers")
    assert "club delivered no rows" in failures(result)["raw_customers"]
    (shop.home / "landing" / "customers" / "shop" / f"{DAY}.csv").write_text("customer_id\n")
    assert shop.run("raw_customers,stg_customers").success
    assert staged(shop, "stg_customers").is_empty()


def test_deliveries_with_headers_alone_are_empty_also_beside_others_of_a_range(shop: Shop) -> None:
    tills(shop)
    (shop.home / "landing" / "orders" / "shop").mkdir(parents=True)
    header = ",".join(line("1"))
    (shop.home / "landing" / "orders" / "shop" / f"{DAY}.csv").write_text(f"{header}\n")
    web(shop, line("2"), day=NEXT)
    tills(shop, day=NEXT)
    result = shop.run("raw_orders,stg_orders", DAY, NEXT)
    assert result.success
    assert [stamp.rows_staged for stamp in shop.lake.stamps("stg_orders").values()] == [0, 1]
    assert all(stamp.delivered for stamp in shop.lake.stamps("stg_orders").values())


def test_a_source_that_delivered_nothing_is_told_and_is_no_change_of_columns(shop: Shop) -> None:
    web(shop, line("1"))
    tills(shop, "1;1;c1;p1;2;3,50;2024-01-05 10:00:00")
    assert shop.run("raw_orders,stg_orders").success
    web(shop, line("2"), day=NEXT)
    result = shop.run("raw_orders,stg_orders", NEXT)
    assert outcome(result, "raw_orders", "delivery_is_there") == (False, 1)
    assert "Nothing of tills for 1 of 1 days." in checks(result)["raw_orders", "delivery_is_there"].description
    assert outcome(result, "raw_orders", "columns_are_as_before") == (True, 0)
    last = "2024-01-07"
    tills(shop, "1;1;c1;p1;2;3,50;2024-01-05 10:00:00;x", day=last).write_text(
        f"{TILLS};colour\n1;1;c1;p1;2;3,50;2024-01-05 10:00:00;red\n"
    )
    result = shop.run("raw_orders,stg_orders", last)
    assert "tills.colour is new" in checks(result)["raw_orders", "columns_are_as_before"].description


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("  sources: {shop: {}, tills: {}}", "  sources: {shop: {}, pos: {}}", "the source `tills`"),
        ("  sources: {shop: {}, tills: {}}", "  unit: line", "the source `shop`, `tills`"),
        ("  unit: line", "  sources: {shop: {}, tills: {}}", "no source of several"),
    ],
    ids=["renamed", "one again", "several now"],
)
def test_rows_of_a_source_that_is_not_declared_any_more_are_not_dropped(
    shop: Shop, before: str, after: str, named: str
) -> None:
    (shop.home / "sources.yaml").write_text(f"orders:\n{before}\n")
    for folder, order in (("orders", "0"), ("orders/shop", "1"), ("orders/tills", "2"), ("orders/pos", "3")):
        shop.deliver(folder, line(order))
    assert shop.run("raw_orders,stg_orders").success
    staged_before = shop.lake.stamps("stg_orders")
    (shop.home / "sources.yaml").write_text(f"orders:\n{after}\n")
    result = shop.run("stg_orders")
    assert f"raw has rows of {named}, which sources.yaml does not declare" in failures(result)["stg_orders"]
    assert shop.lake.stamps("stg_orders") == staged_before
    gone = {path: path.read_text() for path in (shop.home / "landing" / "orders" / "shop").iterdir()}
    if "sources" in after:
        for path in gone:
            path.unlink()
        assert f"raw has rows of {named}" in failures(shop.run("raw_orders"))["raw_orders"]
        for path, text in gone.items():
            path.write_text(text)
    assert shop.run("raw_orders,stg_orders").success  # all that is declared now has delivered the day
    assert outcome(shop.run("raw_orders,stg_orders"), "raw_orders", "rows_balance") == (True, 0)


def test_delivered_columns_that_begin_as_ours_do_may_differ_between_sources(shop: Shop) -> None:
    path = shop.home / "landing" / "orders" / "shop" / f"{DAY}.parquet"
    path.parent.mkdir(parents=True)
    rows = [{**line("1"), "_id": 1}, {**line("2", quantity="many"), "_id": 2}]
    pl.DataFrame(rows).write_parquet(path)
    tills(shop).write_text(f"{TILLS};_id\n1;1;c1;p1;2;dear;2024-01-05 10:00:00;a\n")
    assert shop.run("raw_orders,stg_orders").success
    [stamp] = shop.lake.stamps("stg_orders").values()
    rejected = pl.read_parquet(shop.lake.quarantine_path("stg_orders", shop.lake.days("stg_orders")[0], stamp))
    assert rejected.select("shop._id", "tills._id").rows() == [(2, None), (None, "a")]
