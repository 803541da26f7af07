"""Sources that are asked for deliveries, run by the real assets: a Delta table in a folder, which knows its past."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from data_platform.definitions import build_defs
from data_platform.sources.archive import Archive
from data_platform.sources.deliveries import REPLAY
from data_platform_tests.shop import DAY, Shop, checks, failures, open_shop

NEXT = "2024-01-06"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as shop:
        (shop.home / "sources.yaml").write_text(f"customers: {{delta: {{url: {table(shop)}}}, mode: full}}\n")
        yield shop


def table(shop: Shop) -> Path:
    return shop.home / "crm"


def commit(shop: Shop, day: str, *ids: str) -> None:
    """A version of the table, committed at noon of `day`."""
    rows = pl.DataFrame({"customer_id": list(ids), "country": ["DE"] * len(ids)})
    rows.write_delta(str(table(shop)), mode="overwrite")
    log = max((table(shop) / "_delta_log").glob("*.json"))
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    noon = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(hours=12)
    for action in actions:
        if "commitInfo" in action:
            action["commitInfo"]["timestamp"] = int(noon.timestamp() * 1000)
    log.write_text("\n".join(map(json.dumps, actions)))


def archive(shop: Shop) -> Archive:
    return Archive(shop.home / "archive", "customers")


def staged(shop: Shop, day: str) -> list[str]:
    return shop.lake.read("stg_customers", date.fromisoformat(day)).get_column("customer_id").sort().to_list()


def again(shop: Shop, day: str, run_id: str | None = None, **tags: str) -> dg.ExecuteInProcessResult:
    defs = build_defs({"platform": shop.platform})
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        partition_key=day, asset_selection=[dg.AssetKey("raw_customers"), dg.AssetKey("stg_customers")],
        instance=shop.instance, raise_on_error=False, tags=tags, run_id=run_id,
    )  # fmt: skip


def test_each_day_is_what_the_source_was_when_it_ended_and_is_archived(shop: Shop) -> None:
    commit(shop, DAY, "c1", "c2")
    commit(shop, NEXT, "c1")
    result = shop.run("raw_customers,stg_customers", DAY, NEXT)
    assert result.success
    assert (staged(shop, DAY), staged(shop, NEXT)) == (["c1", "c2"], ["c1"])
    said = [archive(shop).said(date.fromisoformat(day)) for day in (DAY, NEXT)]
    assert [(one.rows, one.figures) for one in said if one] == [(2, {"version": 0}), (1, {"version": 1})]
    assert checks(result)["raw_customers", "manifest_agrees"].passed
    assert checks(result)["raw_customers", "rows_balance"].passed


def test_a_day_before_the_source_had_anything_is_an_empty_partition_with_a_warning(shop: Shop) -> None:
    commit(shop, NEXT, "c1")
    result = shop.run("raw_customers,stg_customers", DAY, NEXT)
    assert result.success
    found = checks(result)["raw_customers", "delivery_is_there"]
    assert (found.passed, found.description) == (False, "The source gave nothing for 1 of 2 days.")
    assert staged(shop, DAY) == []


def test_the_archive_is_what_a_run_with_the_tag_of_a_replay_takes(shop: Shop) -> None:
    commit(shop, DAY, "c1")
    assert again(shop, DAY).success
    for path in table(shop).rglob("*.parquet"):
        path.unlink()
    failed = again(shop, DAY)
    assert "customers.delta cannot be read" in failures(failed)["raw_customers"]
    assert staged(shop, DAY) == ["c1"]
    for path in shop.lake.root.rglob("part.parquet"):
        path.unlink()
    assert again(shop, DAY, **{REPLAY: "archived"}).success
    assert staged(shop, DAY) == ["c1"]


def test_a_source_that_fails_in_the_middle_of_a_range_leaves_what_stood_and_goes_on_where_it_ended(shop: Shop) -> None:
    commit(shop, DAY, "c1")
    commit(shop, NEXT, "c2")
    [of_next] = [
        path for path in table(shop).glob("*.parquet") if pl.read_parquet(path)["customer_id"].to_list() == ["c2"]
    ]
    aside = of_next.rename(shop.home / "aside")
    result = shop.run("raw_customers,stg_customers", DAY, NEXT)
    assert not result.success
    assert result.all_node_events
    assert shop.lake.days("raw_customers") == []
    taken = archive(shop).said(date.fromisoformat(DAY))
    assert taken is not None
    assert archive(shop).said(date.fromisoformat(NEXT)) is None
    aside.rename(of_next)
    assert shop.run("raw_customers,stg_customers", DAY, NEXT).success
    assert staged(shop, NEXT) == ["c2"]


def test_a_platform_without_the_variable_of_a_secret_says_which(shop: Shop) -> None:
    (shop.home / "sources.yaml").write_text(
        f"customers: {{delta: {{url: {table(shop)}, secrets: {{AWS_SECRET_ACCESS_KEY: NO_SUCH_VARIABLE}}}}}}\n"
    )
    result = shop.run("raw_customers")
    assert (
        "customers.delta.secrets.AWS_SECRET_ACCESS_KEY names the environment variable NO_SUCH_VARIABLE"
        in (failures(result)["raw_customers"])
    )
