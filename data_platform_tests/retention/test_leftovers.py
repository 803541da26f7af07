"""What killed runs left goes once it is a day old, and nothing else does."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest

from data_platform.lake import Lake, Stamp
from data_platform.retention import leftovers
from data_platform.retention.done import Done
from data_platform.settings import Settings, read_settings
from data_platform.warehouse.publish import publish
from data_platform_tests.cases import day, line, lines, quarantined_line
from data_platform_tests.warehouse import harness

NOW = datetime.now(UTC)
ROWS = pl.DataFrame({"order_id": ["o1"]})
LONG_AGO = (NOW - timedelta(days=3)).timestamp()


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    return replace(read_settings({}), home=tmp_path)


def age(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (LONG_AGO, LONG_AGO))


def names(root: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (root / folder).rglob("*") if path.is_file())


def cleaned(step: Iterator[Done]) -> list[tuple[int, str]]:
    return [(one.files, one.what) for one in step]


def test_drafts_of_killed_runs_go_and_those_of_running_ones_stay(lake: Lake, tmp_path: Path) -> None:
    old, young = (lake.write_aside("stg_orders", day(n), ROWS, Stamp("a" * 64)) for n in (1, 2))
    assert old.path
    assert young.path
    copied = tmp_path / "cold" / "_aside" / "x.parquet"
    copied.parent.mkdir(parents=True)
    copied.write_bytes(b"half")
    age(old.path, copied)
    archives = [str(tmp_path / "cold"), "s3://elsewhere/cold"]
    told = cleaned(leftovers.of_lake(lake, archives, NOW, dry_run=True))
    assert told == [(2, "Drafts that killed runs left beside the lake")]
    assert old.path.exists()
    assert cleaned(leftovers.of_lake(lake, archives, NOW, dry_run=False)) == told
    assert (old.path.exists(), young.path.exists(), copied.exists()) == (False, True, False)
    assert cleaned(leftovers.of_lake(lake, archives, NOW, dry_run=False)) == []


def test_quarantine_that_belongs_to_no_staged_delivery_goes(lake: Lake) -> None:
    harness.stage(lake, lines(1, line("o1", 1), quarantined=(quarantined_line("o3", 1),)))
    [kept] = (lake.root / "quarantine_orders").rglob("*.parquet")
    stray, lonely = kept.with_name("0123456789abcdef.parquet"), kept.parents[1] / "dt=2023-12-31" / "f.parquet"
    lonely.parent.mkdir()
    for path in (stray, lonely):
        path.write_bytes(kept.read_bytes())
    young = kept.with_name("young.parquet")
    young.write_bytes(kept.read_bytes())
    age(kept, stray, lonely)
    told = cleaned(leftovers.of_lake(lake, [], NOW, dry_run=True))
    assert told == [(2, "Rows in quarantine of deliveries that do not stand")]
    assert cleaned(leftovers.of_lake(lake, [], NOW, dry_run=False)) == told
    assert {path.name for path in (lake.root / "quarantine_orders").rglob("*.parquet")} == {kept.name, young.name}


def test_replaced_files_stay_as_long_as_the_next_publish_asks_for_them(lake: Lake, warehouse_url: str) -> None:
    harness.stage(lake, lines(1, line("o1", 1)))
    publish(warehouse_url, lake, "fact_sales", run_id="run", timezone="UTC")
    for order in ("o2", "o3", "o4"):
        harness.stage(lake, lines(1, line(order, 1)))
    published, *never = [Path(str(path)) for path in lake.formers("stg_orders")]
    [asked] = [path for path in (published, *never) if pl.read_parquet(path)["order_id"].to_list() == ["o1"]]
    formers = [published, *never]
    assert len(formers) == 3
    age(*formers)

    def clean(dry_run: bool = False) -> list[tuple[int, str]]:
        with psycopg.connect(warehouse_url) as connection:
            return cleaned(leftovers.of_publishes(connection, lake, NOW, dry_run=dry_run))

    told = clean(dry_run=True)
    assert told == [(2, "Replaced staged files that no publish needs")]
    assert clean() == told
    assert lake.formers("stg_orders") == [asked]
    publish(warehouse_url, lake, "fact_sales", run_id="run", timezone="UTC")
    with psycopg.connect(warehouse_url) as connection:
        standing = connection.execute("SELECT order_id FROM warehouse.fact_sales").fetchall()
    assert (standing, lake.formers("stg_orders")) == ([("o4",)], [])


def test_half_answers_fetched_files_and_half_written_reports_go_from_the_home(chosen: Settings) -> None:
    home = chosen.home
    for place in ("archive/_aside/old/part.jsonl", "archive/_aside/young/part.jsonl", "fetched/landing-x/a.csv",
                  "fetched/by_hand/a.csv", "reports/.quality.html.abc", "reports/quality.html"):  # fmt: skip
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).write_text("text")
    age(home / "archive/_aside/old/part.jsonl", home / "archive/_aside/old", home / "fetched/landing-x/a.csv",
        home / "fetched/landing-x", home / "fetched/by_hand/a.csv", home / "fetched/by_hand",
        home / "reports/.quality.html.abc", home / "reports/quality.html")  # fmt: skip
    told = cleaned(leftovers.of_home(chosen, NOW, dry_run=True))
    assert told == [
        (2, "Answers and landing files that killed runs fetched"),
        (1, "Reports that were left half written"),
    ]
    assert cleaned(leftovers.of_home(chosen, NOW, dry_run=False)) == told
    assert [names(home, part) for part in ("archive", "fetched", "reports")] == [
        ["part.jsonl"],
        ["a.csv"],
        ["quality.html"],
    ]
    assert not (home / "archive/_aside/old").exists()
    assert cleaned(leftovers.of_home(chosen, NOW, dry_run=False)) == []


def test_a_home_without_anything_is_left_without_anything(chosen: Settings, tmp_path: Path) -> None:
    empty = replace(chosen, home=tmp_path / "none")
    assert cleaned(leftovers.of_home(empty, NOW, dry_run=False)) == []
    assert cleaned(leftovers.of_lake(Lake(tmp_path / "nothing"), [], NOW, dry_run=False)) == []
    assert list(tmp_path.iterdir()) == []
