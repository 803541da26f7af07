"""What a day's delivery can be, run by the real assets: what is taken or rejected, what stands and what is said."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from data_platform_tests.shop import DAY, Shop, checks, customer, failures, line, open_shop, product

NEXT, LAST = "2024-01-06", "2024-01-07"
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    # Nothing here needs a warehouse: a URL that nobody answers proves it.
    with open_shop(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as shop:
        yield shop


def outcome(result: dg.ExecuteInProcessResult, table: str, check: str) -> tuple[bool, Any, int]:
    found = checks(result)[table, check]
    return found.passed, found.severity, found.metadata["rows_failed"].value


def description(result: dg.ExecuteInProcessResult, table: str, check: str) -> str:
    return checks(result)[table, check].description or ""


def lake_files(shop: Shop) -> dict[str, tuple[int, int]]:
    """Every file of the lake with its inode and time: equal if nothing was written."""
    return {
        path.relative_to(shop.lake.root).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in shop.lake.root.rglob("*.parquet")
    }


def staged(shop: Shop, table: str = "stg_orders", day: str = DAY) -> list[Any]:
    [found] = [found for found in shop.lake.days(table) if found.isoformat() == day]
    return shop.lake.read(table, found).get_column("order_id").to_list()


def ran(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.step_key for event in result.all_node_events if event.is_step_start and event.step_key}


def materialized(shop: Shop, result: dg.ExecuteInProcessResult, table: str) -> dict[str, dict[str, Any]]:
    """The metadata of each partition that the run materialized, as the UI finds it."""
    found = {}
    for entry in shop.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        if entry.asset_materialization and entry.asset_materialization.asset_key == dg.AssetKey(table):
            metadata = entry.asset_materialization.metadata
            found[str(entry.asset_materialization.partition)] = {name: value.value for name, value in metadata.items()}
    return found


# A delivery that is taken


def test_a_delivery_is_kept_as_delivered_in_raw_and_typed_in_staging(shop: Shop) -> None:
    shop.deliver("orders", line("o1", status=" New "), line("o1", status="new", line_number=2, quantity="many"))
    result = shop.run("raw_orders,stg_orders")
    assert result.success
    raw = shop.lake.read("raw_orders", shop.lake.days("raw_orders")[0])
    assert raw.get_column("status").to_list() == [" New ", "new"]
    assert raw.select("_file", "_row").rows() == [(f"{DAY}.csv", 1), (f"{DAY}.csv", 2)]
    assert staged(shop) == ["o1"]
    assert outcome(result, "stg_orders", "values_can_be_read") == (False, WARN, 1)
    assert description(result, "stg_orders", "values_can_be_read") == "1 rows went to quarantine."
    assert outcome(result, "stg_orders", "delivery_is_accepted") == (True, ERROR, 0)


def test_each_partition_of_a_range_has_figures_of_its_own(shop: Shop) -> None:
    shop.deliver("orders", line("o1"), line("o1"), line("o2", quantity="x"))
    shop.deliver("orders", line("o3", quantity=3), day=NEXT)
    result = shop.run("raw_orders,stg_orders", DAY, LAST)
    figures = materialized(shop, result, "stg_orders")
    names = ("rows_delivered", "dagster/partition_row_count", "rows_quarantined", "rows_duplicate", "sum_total_amount")
    assert {day: [found[name] for name in names] for day, found in figures.items()} == {
        DAY: [3, 1, 1, 1, "20.0000"],
        NEXT: [1, 1, 0, 0, "30.0000"],
        LAST: [0, 0, 0, 0, "0"],
    }
    raw = materialized(shop, result, "raw_orders")
    assert [found["dagster/partition_row_count"] for found in raw.values()] == [3, 1, 0]
    assert raw[DAY]["files"] == f"{DAY}.csv"
    assert [found["delivered"] for found in raw.values()] == [True, True, False]


def test_the_same_delivery_again_writes_nothing(shop: Shop) -> None:
    shop.deliver("orders", line("o1"), line("o2", quantity="x"))
    shop.run("raw_orders,stg_orders", DAY, NEXT)
    before = lake_files(shop)
    assert shop.run("raw_orders,stg_orders", DAY, NEXT).success
    assert lake_files(shop) == before


def test_a_range_gives_what_single_days_give(shop: Shop, tmp_path: Path) -> None:
    for number, day in enumerate((DAY, NEXT, LAST)):
        rows = [line(f"o{number}{row}", day=day) for row in range(number)]
        shop.deliver("orders", *rows, day=day, columns=list(line("o")))
    shop.run("raw_orders,stg_orders", DAY, LAST)
    by_range = shop.lake.stamps("stg_orders")
    for path in shop.lake.root.rglob("part.parquet"):
        path.unlink()
    for day in (LAST, DAY, NEXT):
        assert shop.run("raw_orders,stg_orders", day).success
    assert shop.lake.stamps("stg_orders") == by_range


def test_columns_without_a_place_stay_in_raw_and_are_reported(shop: Shop) -> None:
    shop.deliver("products", product(colour="red", weight="5"))
    result = shop.run("raw_products,stg_products")
    assert outcome(result, "raw_products", "columns_are_known") == (False, WARN, 1)
    assert description(result, "raw_products", "columns_are_known") == "Columns without a place: colour, weight."
    assert "colour" in shop.lake.read("raw_products", shop.lake.days("raw_products")[0]).columns


def test_a_replaced_delivery_takes_the_place_of_the_former_one(shop: Shop) -> None:
    shop.deliver("orders", line("o1"))
    shop.run("raw_orders,stg_orders")
    shop.deliver("orders", line("o2"))
    assert shop.run("raw_orders,stg_orders").success
    assert staged(shop) == ["o2"]
    assert [path.parent.name for path in shop.lake.formers("stg_orders")] == [f"dt={DAY}"]


# Days without rows


def test_a_day_that_was_never_delivered_is_an_empty_partition_with_a_warning(shop: Shop) -> None:
    result = shop.run("raw_orders,stg_orders", DAY, NEXT)
    assert result.success
    assert outcome(result, "raw_orders", "delivery_is_there") == (False, WARN, 2)
    assert description(result, "raw_orders", "delivery_is_there") == "Nothing is in the landing folder for 2 of 2 days."
    assert [stamp.delivered for stamp in shop.lake.stamps("stg_orders").values()] == [False, False]
    assert staged(shop) == []


def test_a_delivery_may_come_after_its_day_was_found_empty(shop: Shop) -> None:
    shop.run("raw_orders,stg_orders")
    shop.deliver("orders", line("o1"))
    assert shop.run("raw_orders,stg_orders").success
    assert staged(shop) == ["o1"]
    assert shop.lake.stamps("raw_orders")[shop.lake.days("raw_orders")[0]].delivered


def test_raw_stands_with_a_warning_when_the_file_of_its_day_is_gone(shop: Shop) -> None:
    shop.deliver("orders", line("o1"))
    shop.run("raw_orders,stg_orders")
    before = lake_files(shop)
    shop.landing("orders").unlink()
    result = shop.run("raw_orders,stg_orders")
    assert result.success
    assert outcome(result, "raw_orders", "delivery_is_there") == (False, WARN, 1)
    assert description(result, "raw_orders", "delivery_is_there") == (
        "Nothing is in the landing folder for 1 of 1 days; for 1 of them an earlier delivery stands."
    )
    assert materialized(shop, result, "raw_orders")[DAY]["dagster/partition_row_count"] == 1
    assert lake_files(shop) == before


def test_a_header_only_is_a_valid_delivery_that_takes_former_rows_out(shop: Shop) -> None:
    shop.deliver("orders", line("o1"))
    shop.run("raw_orders,stg_orders")
    shop.deliver("orders", columns=list(line("o1")))
    result = shop.run("raw_orders,stg_orders")
    assert result.success
    assert staged(shop) == []
    assert outcome(result, "raw_orders", "delivery_is_there") == (True, WARN, 0)
    assert [stamp.delivered for stamp in shop.lake.stamps("stg_orders").values()] == [True]


# Deliveries that are rejected


def zero_bytes(shop: Shop, day: str) -> None:
    shop.landing("orders", day).write_bytes(b"")


def no_price(shop: Shop, day: str) -> None:
    rows = [{name: value for name, value in line("o9").items() if name != "unit_price"} | {"price": 1}]
    shop.deliver("orders", *rows, day=day)


def twice(shop: Shop, day: str) -> None:
    shop.deliver("orders", line("o9"), day=day)
    folder = shop.landing("orders", day).with_suffix("")
    folder.mkdir()
    (folder / "a.csv").write_text("order_id\n")


def broken(shop: Shop, day: str) -> None:
    shop.landing("orders", day).unlink(missing_ok=True)
    shop.landing("orders", day).with_suffix(".parquet").write_bytes(b"PAR1 and no more")


BAD = {
    zero_bytes: f"orders/{NEXT}.csv",
    no_price: (
        f"orders/{NEXT}.csv: the delivery of orders lacks the required column 'unit_price' (did 'price' mean it?)"
    ),
    twice: f"orders of {NEXT} is delivered twice, as {NEXT}.csv and {NEXT}/",
    broken: f"orders/{NEXT}.parquet",
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_a_delivery_that_cannot_be_read_is_rejected_and_the_others_of_its_range_are_taken(shop: Shop, bad: Any) -> None:
    for day, order in ((DAY, "o1"), (NEXT, "o2"), (LAST, "o3")):
        shop.deliver("orders", line(order), day=day)
    shop.run("raw_orders,stg_orders", DAY, LAST)
    before = lake_files(shop)
    bad(shop, NEXT)
    shop.deliver("orders", line("o4"), day=LAST)
    result = shop.run("raw_orders,stg_orders,fact_sales", DAY, LAST)
    assert not result.success
    # Said in one sentence.
    assert list(failures(result)) == ["raw_orders"]
    sentence = failures(result)["raw_orders"]
    assert sentence.startswith(f"raw_orders {NEXT}: {BAD[bad]}")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    # Seen in the UI.
    assert outcome(result, "raw_orders", "delivery_can_be_read") == (False, ERROR, 1)
    assert BAD[bad] in description(result, "raw_orders", "delivery_can_be_read")
    assert checks(result)["raw_orders", "delivery_can_be_read"].metadata["partitions"].value == NEXT
    # Nothing of it was written, the other days were, and nothing downstream ran.
    after = lake_files(shop)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {f"raw_orders/dt={LAST}/part.parquet"}
    assert sorted(materialized(shop, result, "raw_orders")) == [DAY, LAST]
    assert materialized(shop, result, "raw_orders")[LAST]["dagster/partition_row_count"] == 1
    assert ran(result) == {"raw_orders"}


def test_several_rejected_days_are_listed_and_each_reason_is_in_the_check(shop: Shop) -> None:
    for day in (NEXT, LAST):
        shop.deliver("orders", line("o1"), day=day)
        zero_bytes(shop, day)
    result = shop.run("raw_orders", DAY, LAST)
    more = f" (1 more rejected: {LAST}.) The other days of the run are in raw: mend this and run the same days again."
    assert failures(result)["raw_orders"].endswith(more)
    said = description(result, "raw_orders", "delivery_can_be_read")
    assert f"orders/{NEXT}.csv" in said
    assert f"orders/{LAST}.csv" in said


def test_a_source_that_declares_unit_line_must_bring_line_numbers(shop: Shop) -> None:
    (shop.home / "sources.yaml").write_text("orders:\n  unit: line\n")
    shop.deliver("orders", {name: value for name, value in line("o1").items() if name != "line_number"})
    assert "lacks the required column 'line_number'" in failures(shop.run("raw_orders"))["raw_orders"]


def test_a_mistake_in_sources_yaml_is_the_sentence_of_the_run(shop: Shop) -> None:
    (shop.home / "sources.yaml").write_text("orders:\n  units: line\n")
    assert "did you mean unit?" in failures(shop.run("raw_orders"))["raw_orders"]


def test_a_missing_raw_partition_is_named(shop: Shop) -> None:
    result = shop.run("stg_orders")
    assert "raw_orders has no partition 2024-01-05: materialize raw_orders for that day first." in str(failures(result))


# The limit of quarantine: more than 5 % and at least 10 rows


def rows_of_which(bad: int, total: int) -> list[dict[str, Any]]:
    return [line(f"o{number}", quantity="many" if number < bad else 1) for number in range(total)]


@pytest.mark.parametrize(
    ("bad", "total", "accepted"), [(9, 9, True), (10, 10, False), (10, 200, True), (10, 199, False), (11, 220, True)]
)
def test_a_delivery_is_rejected_over_five_percent_and_from_ten_rows(
    shop: Shop, bad: int, total: int, accepted: bool
) -> None:
    shop.deliver("orders", line("before"))
    shop.run("raw_orders,stg_orders")
    shop.deliver("orders", *rows_of_which(bad, total))
    result = shop.run("raw_orders,stg_orders,fact_sales" if not accepted else "raw_orders,stg_orders")
    assert result.success is accepted
    if accepted:
        assert len(staged(shop)) == total - bad
        return
    assert staged(shop) == ["before"]
    assert failures(result)["stg_orders"] == (
        f"stg_orders {DAY}: {bad} of {total} rows cannot be taken, most often since 'quantity cannot be read as "
        f"integer' (in {DAY}.csv); the delivery is rejected and what stood before stands: mend the file and run the "
        "day again, or raise reject_share in sources.yaml."
    )
    assert outcome(result, "stg_orders", "delivery_is_accepted") == (False, ERROR, 1)
    assert outcome(result, "stg_orders", "values_can_be_read") == (False, ERROR, bad)
    assert outcome(result, "stg_orders", "one_currency") == (True, WARN, 0)
    assert "fact_sales" not in ran(result)
    assert list((shop.lake.root / "_aside").iterdir()) == []


def test_the_limits_are_settings(shop: Shop) -> None:
    (shop.home / "sources.yaml").write_text("orders:\n  reject_share: 0\n  reject_rows: 1\n")
    shop.deliver("orders", *rows_of_which(1, 100))
    assert not shop.run("raw_orders,stg_orders").success


def test_other_days_of_a_range_are_staged_when_one_is_rejected(shop: Shop) -> None:
    shop.deliver("orders", line("o1"))
    shop.deliver("orders", *rows_of_which(10, 10), day=NEXT)
    shop.deliver("orders", line("o3"), day=LAST)
    result = shop.run("raw_orders,stg_orders", DAY, LAST)
    assert not result.success
    assert [day.isoformat() for day in shop.lake.days("stg_orders")] == [DAY, LAST]
    assert sorted(materialized(shop, result, "stg_orders")) == [DAY, LAST]
    assert materialized(shop, result, "stg_orders")[LAST]["rows_delivered"] == 1


def test_rejected_rows_can_be_read_with_their_reasons(shop: Shop) -> None:
    shop.deliver("orders", line("o1"), line("o2", quantity="many"))
    shop.run("raw_orders,stg_orders")
    [(day, stamp)] = shop.lake.stamps("stg_orders").items()
    rejected = pl.read_parquet(shop.lake.quarantine_path("stg_orders", day, stamp))
    assert rejected.select("order_id", "quantity", "_reasons").rows() == [
        ("o2", "many", ["quantity cannot be read as integer"])
    ]


# Personal data


def test_no_personal_data_is_in_checks_logs_or_sentences(
    shop: Shop, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "ada.lovelace at secret.example"
    bad = [
        customer(f"c{number}", email=secret, first_name="Lovelace\0", last_name="Byron", created_date="Byron")
        for number in range(12)
    ]
    shop.deliver("customers", *bad)
    with caplog.at_level(logging.DEBUG):
        result = shop.run("raw_customers,stg_customers")
    assert not result.success
    examples = checks(result)["stg_customers", "ids_are_sound"].metadata["examples"].value.records
    assert len(examples) == 10
    assert dict(examples[0].data) == {"day": DAY, "file": f"{DAY}.csv", "row": "1", "customer_id": "c0"}
    events = "".join(str(entry) for entry in shop.instance.all_logs(result.run_id))
    printed = "".join(capfd.readouterr())
    for place in (events, str(result.all_events), caplog.text, printed, str(failures(result))):
        assert "c0" in events
        for personal in ("secret.example", "Lovelace", "Byron"):
            assert personal not in place


def test_a_full_disk_ends_the_run_in_a_sentence_and_leaves_no_drafts(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (DAY, NEXT):
        shop.deliver("orders", line("o1"), day=day)
    write_parquet, calls = pl.DataFrame.write_parquet, []

    def full_at_the_second(frame: pl.DataFrame, path: Path, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        write_parquet(frame, path, **options)

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full_at_the_second)
    result = shop.run("raw_orders,stg_orders", DAY, NEXT)
    assert failures(result)["raw_orders"].endswith("is full: nothing was written; free space and run again.")
    assert lake_files(shop) == {}
