"""The shop of examples/three_sources: a failing API, a Postgres and an S3 give what the same data in files gives."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from data_platform_tests.conftest import throw_away
from data_platform_tests.proof.fault_pictures import rows_of
from data_platform_tests.shop import Shop, checks, failures, open_shop
from examples.three_sources import shop as example

FIRST, LAST = example.START.isoformat(), (example.CORRECTED_ON - timedelta(days=1)).isoformat()
LATER = example.CORRECTED_ON.isoformat()
TABLES = ("dim_", "fact_", "mart_d", "mart_p", "mart_c")

pytestmark = pytest.mark.slow


@dataclass
class Both:
    """One platform that asks the three sources, and one that has the same data as landing files."""

    asking: Shop
    landed: Shop
    example: example.Shop
    days: dict[tuple[str, date], pl.DataFrame]
    api_log: Path


@pytest.fixture(scope="module")
def both(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("three_sources")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        warehouses = [stack.enter_context(throw_away(server, template)) for _ in range(2)]
        database = stack.enter_context(throw_away(server))
        records = folder / "orders"
        api = stack.enter_context(example.api_server(records, folder / "api.log"))
        s3 = stack.enter_context(example.s3_server(folder / "s3.log"))
        shop = example.Shop(records, api, database, s3)
        shop.prepare()
        for name, value in shop.environment().items():
            environment.setenv(name, value)
        homes = [folder / "asking", folder / "landed"]
        asking, landed = (
            stack.enter_context(open_shop(home, url)) for home, url in zip(homes, warehouses, strict=True)
        )
        homes[0].mkdir()
        (homes[0] / "sources.yaml").write_text(shop.sources())
        days = example.demo_days(homes[1] / "landing")
        for (entity, day), frame in days.items():
            shop.record(entity, day, frame)
        for one in (asking, landed):
            result = one.run(first=FIRST, last=LAST)
            assert result.success, failures(result)
            if one is asking:
                for entity in example.ENTITIES:
                    assert checks(result)[f"raw_{entity}", "rows_balance"].passed
                    assert checks(result)[f"raw_{entity}", "columns_are_known"].passed
                assert checks(result)["raw_orders", "manifest_agrees"].passed
        yield Both(asking, landed, shop, days, folder / "api.log")


def published(shop: Shop) -> dict[str, list[str]]:
    """All rows of dimensions, facts and marts, without surrogate keys and created_at."""
    found: dict[str, list[str]] = {}
    for (table, row), count in sorted(rows_of(shop.warehouse).items()):
        if table.startswith(TABLES):
            found.setdefault(table, []).extend([row] * count)
    return found


def test_three_sources_give_the_tables_that_landing_files_give(both: Both) -> None:
    expected = published(both.landed)
    assert set(expected) == {
        "dim_date", "dim_customer", "dim_product", "fact_sales", "fact_returns", "mart_daily_sales",
        "mart_product_performance", "mart_customer_value",
    }  # fmt: skip
    assert published(both.asking) == expected
    counts = (
        "SELECT DISTINCT ON (asset, partition_date) asset, partition_date, rows_delivered, rows_staged,"
        " rows_quarantined, rows_duplicate FROM platform.load_ledger ORDER BY asset, partition_date, load_id DESC"
    )
    ledger = both.asking.query(counts)
    assert ledger == both.landed.query(counts)
    assert sum(row[4] for row in ledger) > 0
    assert sum(row[2] for row in ledger) == sum(len(frame) for frame in both.days.values())


def test_the_api_limited_failed_and_broke_off_meanwhile(both: Both) -> None:
    log = both.api_log.read_text()
    for answered in ('" 200 -', '" 429 -', '" 500 -', "broken off in the middle of the page"):
        assert answered in log


def test_a_second_run_writes_nothing_and_a_correction_of_each_source_arrives(both: Both) -> None:
    schemas = ("warehouse", "marts")
    places = [both.asking.places(schema) for schema in schemas]
    result = both.asking.run(first=FIRST, last=LAST)
    assert result.success, failures(result)
    assert [both.asking.places(schema) for schema in schemas] == places

    before = published(both.asking)
    for entity, frame in example.corrections(both.days).items():
        both.example.record(entity, example.CORRECTED_ON, frame)
        frame.write_parquet(both.landed.home / "landing" / entity / f"{LATER}.parquet")
    for shop in (both.asking, both.landed):
        result = shop.run(first=LATER)
        assert result.success, failures(result)
    after = published(both.asking)
    assert after == published(both.landed)
    changed = {table: len(set(rows) - set(before[table])) for table, rows in after.items()}
    # The corrected line; the closed and the new version of a member.
    assert (changed["fact_sales"], changed["dim_product"], changed["dim_customer"]) == (1, 2, 2)
