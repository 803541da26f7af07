"""The metrics of a platform: those that are promised, and nothing invented."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import Metric

from data_platform.lake import Lake
from data_platform.monitoring.collect import Collector
from data_platform.monitoring.exporter import write
from data_platform.monitoring.metrics import METRICS, families
from data_platform.settings import Settings
from data_platform_tests.monitoring.conftest import of_home, program
from data_platform_tests.test_cli import Platform

REPOSITORY = Path(__file__).resolve().parents[2]
# A demo has no daemon, no run that failed, and none that is running.
NOT_IN_A_DEMO = {
    "daemon_last_heartbeat_timestamp_seconds",
    "run_last_failure_timestamp_seconds",
    "run_oldest_active_timestamp_seconds",
}
# What needs the warehouse, or Dagster's database.
STORED = {
    "table_bytes", "table_rows", "database_bytes", "failing_checks", "open_alerts", "stale_mart_dates", "publishes",
    "published_rows", "runs", "run_last_success_timestamp_seconds", "run_last_duration_seconds",
    "asset_last_materialization_timestamp_seconds", "asset_last_step_duration_seconds", "asset_last_partition_rows",
    "asset_last_written_rows",
}  # fmt: skip


def exposed(chosen: Settings) -> dict[str, Metric]:
    look = Collector(chosen).look()
    return {family.name.removeprefix("data_platform_"): family for family in families(look, chosen)}


def values(family: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_every_metric_is_exposed_with_its_labels_and_no_other(chosen: Settings) -> None:
    found = exposed(chosen)
    assert set(found) == {metric.name for metric in METRICS} - NOT_IN_A_DEMO
    for metric in METRICS:
        for sample in found[metric.name].samples if metric.name in found else ():
            assert tuple(sample.labels) == metric.labels


def test_the_figures_are_those_of_the_demo(chosen: Settings, loaded: Platform) -> None:
    found, status = exposed(chosen), loaded.json("status")
    assert values(found["up"]) == {(): 1}
    assert set(values(found["scrape_part_success"]).values()) == {1}
    assert values(found["runs"])["daily_sales", "success"] == 1
    assert values(found["runs"])["daily_sales", "queued"] == 0
    quarantined = {entity: rows for (entity,), rows in values(found["quarantined_rows"]).items()}
    assert quarantined == status["quarantined_rows"]
    assert sum(quarantined.values()) > 0
    assert values(found["publishes"]) == {("fact_sales",): 8, ("dim_product",): 8, ("dim_customer",): 8}
    missing = {lag["asset"]: lag["missing_days"] for lag in status["lag"]}
    assert {asset: days for (asset,), days in values(found["asset_missing_partitions"]).items()} == pytest.approx(
        missing, abs=1
    )
    assert all(days > 300 for days in missing.values())
    assert set(values(found["waiting_partitions"]).values()) == {0}
    sizes = values(found["lake_bytes"])
    for folder, files in values(found["lake_files"]).items():
        paths = list((loaded.home / "lake" / folder[0]).rglob("*.parquet"))
        assert (len(paths), sum(path.stat().st_size for path in paths)) == (files, sizes[folder])
    raw = Lake(loaded.home / "lake").stamps("raw_orders")
    assert values(found["asset_last_partition_rows"])["raw_orders",] == raw[max(raw)].rows_delivered


def test_no_label_is_a_day_a_run_or_a_person(chosen: Settings, loaded: Platform, tmp_path: Path) -> None:
    assert write(chosen, tmp_path / "platform.prom") == []
    text = (tmp_path / "platform.prom").read_text()
    (run_id,) = {run["run_id"] for run in loaded.json("status")["runs"]}
    assert run_id not in text
    assert not re.search(r"\d{4}-\d{2}-\d{2}|@|postgresql", text)
    assert max(len(family.samples) for family in exposed(chosen).values()) < 100


def test_names_follow_the_conventions(chosen: Settings, tmp_path: Path) -> None:
    promtool = program("promtool")
    write(chosen, tmp_path / "platform.prom")
    text = (tmp_path / "platform.prom").read_text()
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_of_a_warehouse_that_is_down_nothing_is_invented(chosen: Settings, tmp_path: Path) -> None:
    down = replace(chosen, warehouse_url="postgresql://me:hunter2@127.0.0.1:1/shop", dagster_url=None)
    found = exposed(down)
    assert values(found["up"]) == {(): 0}
    assert values(found["scrape_part_success"])["warehouse",] == 0
    assert values(found["scrape_part_success"])["dagster",] == 0
    assert not STORED & set(found)
    # What the files say is told all the same; what is published is unknown.
    assert set(values(found["waiting_partitions"])) == {
        (entity, step)
        for entity in ("orders", "products", "customers")
        for step in ("landed_not_taken", "raw_not_staged")
    }
    assert {asset for (asset,) in values(found["asset_lag_seconds"])} == {
        f"{layer}_{entity}" for layer in ("raw", "stg") for entity in ("orders", "products", "customers")
    }
    (why,) = write(down, tmp_path / "platform.prom")
    assert "does not answer (connection refused)" in why
    assert "hunter2" not in why + (tmp_path / "platform.prom").read_text()


def test_only_dagsters_database_may_be_down(chosen: Settings) -> None:
    found = exposed(replace(chosen, dagster_url="postgresql://me@127.0.0.1:1/dagster"))
    assert values(found["up"]) == {(): 1}
    assert values(found["scrape_part_success"])["dagster",] == 0
    assert "runs" not in found
    assert values(found["database_bytes"]).keys() == {("warehouse",)}


def test_a_file_of_the_lake_that_is_broken_hides_only_the_lake(warehouse_url: str, tmp_path: Path) -> None:
    chosen = of_home(tmp_path, warehouse_url)
    broken = tmp_path / "lake" / "raw_orders" / "dt=2024-01-05" / "part.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"PAR1")
    collector = Collector(chosen)
    look = collector.look()
    assert (look.lake.found, look.stored_in.why, look.waiting(chosen.start_date)) == (None, "", {})
    assert "raw_orders, dt=2024-01-05 is broken" in look.lake.why
    found = {family.name: family for family in families(look, chosen)}
    assert values(found["data_platform_scrape_part_success"])["lake",] == 0
    assert "data_platform_table_bytes" in found
    assert "data_platform_quarantined_rows" not in found


def test_a_source_file_that_cannot_be_used_hides_only_how_far_tables_are_behind(
    chosen: Settings, tmp_path: Path
) -> None:
    (tmp_path / "sources.yaml").write_text("orders: {delimeter: ';'}")
    found = exposed(replace(chosen, sources_file=tmp_path / "sources.yaml"))
    assert values(found["scrape_part_success"])["sources",] == 0
    assert "asset_lag_seconds" not in found
    assert "waiting_partitions" in found


def test_a_platform_that_is_not_there_is_down_and_stays_so(tmp_path: Path) -> None:
    chosen = replace(of_home(tmp_path / "home", ""), warehouse_url=None)
    found = exposed(chosen)
    assert values(found["up"]) == {(): 0}
    assert not STORED & set(found)
    assert not (tmp_path / "home").exists()


def test_a_file_that_stands_as_it_did_is_not_read_again(chosen: Settings, loaded: Platform, tmp_path: Path) -> None:
    collector = Collector(chosen)
    before = collector.look().lake.found
    assert before is not None
    path = loaded.home / "lake" / "raw_orders" / "dt=2024-01-02" / "part.parquet"
    content, stat = path.read_bytes(), path.stat()
    aside = tmp_path / "aside"
    aside.write_bytes(Lake(loaded.home / "lake").path("raw_orders", min(before.stamps["raw_orders"])).read_bytes())
    try:
        aside.replace(path)
        replaced = collector.look().lake.found
        assert replaced is not None
        first, second = sorted(replaced.stamps["raw_orders"])[:2]
        assert replaced.stamps["raw_orders"][second] == before.stamps["raw_orders"][first]
    finally:
        path.write_bytes(content)
    assert path.stat().st_size == stat.st_size


def test_the_documentation_lists_exactly_these_metrics() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", (REPOSITORY / "docs" / "monitoring.md").read_text(), re.M)
    names = {metric.full_name + ("_total" if metric.kind == "counter" else ""): metric for metric in METRICS}
    assert rows == [
        (name, ", ".join(f"`{label}`" for label in metric.labels), metric.help) for name, metric in names.items()
    ]
