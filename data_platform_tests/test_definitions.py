"""What Dagster loads: names, catalogue, partitions, job and schedule; and that loading it touches nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest
import yaml

from data_platform.contracts import MARTS, STAGED, WAREHOUSE
from data_platform.contracts.contract import Contract
from data_platform.definitions import EXECUTORS, build_defs, defs
from data_platform.resources import Platform
from data_platform.settings import read_settings
from data_platform_tests.conftest import throw_away

REPOSITORY = Path(__file__).resolve().parents[1]
LAYERS = {
    "raw": {"raw_orders", "raw_products", "raw_customers"},
    "staging": {"stg_orders", "stg_products", "stg_customers"},
    "warehouse": {"dim_date", "dim_customer", "dim_product", "fact_sales", "fact_returns"},
    "marts": {"mart_daily_sales", "mart_product_performance", "mart_customer_value"},
}
ASSETS = sorted(set().union(*LAYERS.values()))
CONTRACTS: dict[str, Contract] = {**{c.table: c for c in STAGED.values()}, **WAREHOUSE, **MARTS}
REPORT = "quality_report"
ALL_SPECS = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
SPECS = {name: spec for name, spec in ALL_SPECS.items() if name != REPORT}
GRAPH = defs.resolve_asset_graph()


# Assets


def test_the_assets_are_the_tables_of_the_design() -> None:
    assert sorted(SPECS) == ASSETS
    assert {spec.key.path[-1] for spec in SPECS.values()} == set(SPECS)
    assert ALL_SPECS[REPORT].group_name == "quality"


@pytest.mark.parametrize("layer", LAYERS)
def test_groups_are_the_layers(layer: str) -> None:
    assert {name for name, spec in SPECS.items() if spec.group_name == layer} == LAYERS[layer]


@pytest.mark.parametrize("name", ASSETS)
def test_every_asset_has_what_the_catalogue_shows(name: str) -> None:
    spec = SPECS[name]
    assert spec.kinds == ({"parquet", "polars"} if spec.group_name in ("raw", "staging") else {"postgres", "table"})
    assert spec.owners == ["team:data-platform"]
    assert len(spec.description or "") > 10
    assert "\n" not in (spec.description or "")
    assert isinstance(spec.freshness_policy, dg.FreshnessPolicy)
    columns = spec.metadata["dagster/column_schema"].columns
    assert all(column.description and column.type for column in columns)
    if name in CONTRACTS:
        assert [column.name for column in columns] == list(CONTRACTS[name].columns)
        assert {column.name for column in columns if "pii" in column.tags} == set(CONTRACTS[name].pii_columns)
        nullable = {name for name, column in CONTRACTS[name].columns.items() if column.nullable}
        assert {column.name for column in columns if column.constraints.nullable} == nullable


def test_personal_data_is_marked_from_staging_to_the_dimension() -> None:
    marked = {
        name: {column.name for column in spec.metadata["dagster/column_schema"].columns if "pii" in column.tags}
        for name, spec in SPECS.items()
    }
    personal = {"email", "first_name", "last_name"}
    assert {name: columns for name, columns in marked.items() if columns} == {
        "raw_customers": personal,
        "stg_customers": personal,
        "dim_customer": personal,
    }


def columns_of(name: str) -> set[str]:
    return {column.name for column in SPECS[name].metadata["dagster/column_schema"].columns}


@pytest.mark.parametrize("name", [name for name in ASSETS if not name.startswith("raw_") and name != "dim_date"])
def test_column_lineage_leads_from_existing_columns_to_existing_columns(name: str) -> None:
    lineage = SPECS[name].metadata["dagster/column_lineage"].deps_by_column
    own = {"sale_key", "delivered_on", "created_at"}  # made by the platform
    assert set(lineage) == columns_of(name) - own
    upstream = {key.path[-1] for key in GRAPH.get(dg.AssetKey(name)).parent_keys}
    further = {"dim_customer": {"stg_orders"}, "dim_product": {"stg_orders"}}
    for sources in lineage.values():
        assert sources
        for source in sources:
            table = source.asset_key.path[-1]
            assert source.column_name in columns_of(table)
            assert table in upstream | further.get(name, set())


@pytest.mark.parametrize("name", ASSETS)
def test_all_but_marts_are_partitioned_by_day_and_everything_runs_in_a_single_run(name: str) -> None:
    node = GRAPH.get(dg.AssetKey(name))
    assert node.backfill_policy == dg.BackfillPolicy.single_run()
    if name in LAYERS["marts"]:
        assert node.partitions_def is None
    else:
        assert isinstance(node.partitions_def, dg.DailyPartitionsDefinition)
        assert node.partitions_def.get_first_partition_key() == "2024-01-01"
        assert node.partitions_def.timezone == "UTC"


def test_facts_follow_dimensions_and_staging_and_marts_follow_facts() -> None:
    assert upstream_of("stg_orders") == {"raw_orders"}
    assert upstream_of("dim_product") == {"stg_products"}
    for fact in ("fact_sales", "fact_returns"):
        assert upstream_of(fact) == {"stg_orders", "dim_date", "dim_customer", "dim_product"}
    for mart in LAYERS["marts"]:
        assert upstream_of(mart) == LAYERS["warehouse"]


def upstream_of(name: str) -> set[str]:
    return {key.path[-1] for key in GRAPH.get(dg.AssetKey(name)).parent_keys}


def test_every_rule_of_every_contract_is_a_check_of_its_table() -> None:
    found = {(key.asset_key.path[-1], key.name) for key in GRAPH.asset_check_keys}
    wanted = {
        (table, rule.name)
        for table, contract in CONTRACTS.items()
        for rule in (*contract.rules, *contract.measures, *contract.queries)
    }
    assert wanted <= found
    assert {table for table, _ in found} == set(SPECS) - {"dim_date"}


# Jobs and schedules


def test_the_watch_is_the_checks_of_the_whole_and_the_report() -> None:
    job = defs.resolve_job_def("quality_watch")
    assert {key.path[-1] for key in job.asset_layer.selected_asset_keys} == {REPORT}
    names = {(key.asset_key.path[-1], key.name) for key in job.asset_layer.asset_graph.asset_check_keys}
    whole = ("yesterday_is_delivered", "partitions_have_no_gaps", "trading_days_are_delivered")
    assert names == {
        *((f"raw_{entity}", name) for entity in STAGED for name in whole),
        *((f"stg_{entity}", "quarantine_is_young") for entity in STAGED),
    }
    schedule = defs.resolve_schedule_def("quality_watch_at_nine")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 9 * * *", "UTC")


def test_the_cleanup_runs_at_four_once_it_is_switched_on() -> None:
    schedule = defs.resolve_schedule_def("cleanup_at_four")
    assert (schedule.cron_schedule, schedule.execution_timezone, schedule.job_name) == ("0 4 * * *", "UTC", "cleanup")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert defs.resolve_job_def("cleanup").tags["data_platform/job"] == "cleanup"


def test_the_job_is_all_assets() -> None:
    job = defs.resolve_job_def("daily_sales")
    assert {key.path[-1] for key in job.asset_layer.selected_asset_keys} == {*ASSETS, REPORT}
    assert job.tags["data_platform/job"] == "daily_sales"
    assert isinstance(job.partitions_def, dg.DailyPartitionsDefinition)


def test_the_schedule_runs_at_six_for_the_day_before() -> None:
    schedule = defs.resolve_schedule_def("daily_sales_at_six")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 6 * * *", "UTC")
    with dg.DagsterInstance.ephemeral() as instance:
        for zone in ("UTC", "Asia/Tokyo"):
            context = dg.build_schedule_context(
                instance=instance,
                scheduled_execution_time=datetime(2024, 3, 1, 6, tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone)),
                repository_def=defs.get_repository_def(),
            )
            data = schedule.evaluate_tick(context)
            [request] = data.run_requests or []
            assert request.partition_key == "2024-02-29"
            assert request.tags["data_platform/job"] == "daily_sales"


def test_six_and_the_day_before_are_meant_in_business_time() -> None:
    code = """
import datetime, zoneinfo
import dagster as dg
from data_platform.definitions import defs
schedule = defs.resolve_schedule_def("daily_sales_at_six")
six = datetime.datetime(2024, 3, 31, 6, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))  # summer time began
with dg.DagsterInstance.ephemeral() as instance:
    repository = defs.get_repository_def()
    context = dg.build_schedule_context(instance, scheduled_execution_time=six, repository_def=repository)
    requests = schedule.evaluate_tick(context).run_requests
print(schedule.execution_timezone, *[request.partition_key for request in requests])
"""
    done = in_a_process(code, DATA_PLATFORM_TIMEZONE="Europe/Berlin")
    assert done.stdout.split() == ["Europe/Berlin", "2024-03-30"], done.stderr


def test_what_dagster_yaml_says_of_runs() -> None:
    told = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    assert told["run_retries"] == {"enabled": True, "max_retries": 3, "retry_on_asset_or_op_failure": False}
    assert told["scheduler"]["config"] == {"max_catchup_runs": 1}
    assert told["run_monitoring"]["enabled"]
    assert told["run_monitoring"]["max_runtime_seconds"] == 2 * 60 * 60
    assert told["concurrency"]["runs"]["tag_concurrency_limits"] == [
        {"key": "data_platform/job", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
    ]


# Overrides


def test_resources_can_be_overridden(tmp_path: Path) -> None:
    platform = Platform.using(read_settings({"DATA_PLATFORM_HOME": str(tmp_path)}))
    resources = build_defs({"platform": platform, "lake": dg.mem_io_manager}).resources or {}
    assert resources["platform"] is platform
    assert resources["lake"] is dg.mem_io_manager
    assert resources["warehouse"].platform is platform


def test_a_platform_on_given_settings_is_that_platform_in_a_run(tmp_path: Path) -> None:
    chosen = read_settings({"DATA_PLATFORM_HOME": str(tmp_path)})
    seen = []

    @dg.op
    def look(platform: Platform) -> None:
        seen.append(platform.settings)
        assert set(platform.sources) == {"orders", "products", "customers"}

    @dg.job(resource_defs={"platform": Platform.using(chosen)})
    def looking() -> None:
        look()

    assert looking.execute_in_process().success
    assert seen == [chosen]


# Loading


def in_a_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))}
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env=clean | environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_loading_connects_to_nothing_writes_nothing_and_says_nothing(tmp_path: Path) -> None:
    code = """
import socket, subprocess, sys
import dagster, dagster_pandas, pandera.polars, polars  # what they say of themselves is not ours

def refused(*_, **__):
    raise AssertionError("loading reached out")

socket.socket.connect = socket.create_connection = subprocess.Popen.__init__ = refused
print("ours:", file=sys.stderr)
from data_platform.definitions import defs
defs.resolve_asset_graph()
defs.resolve_job_def("daily_sales")
assert "psycopg2" not in sys.modules
"""
    home = tmp_path / "home"
    done = in_a_process(
        code, DATA_PLATFORM_HOME=str(home), DATA_PLATFORM_WAREHOUSE_URL="postgresql://nobody@nowhere.invalid:1/none"
    )
    assert done.returncode == 0, done.stderr
    said = done.stderr.split("ours:")[1]
    ours = [line for line in said.splitlines() if "Warning" in line and "site-packages" not in line]
    assert ours == []
    assert not home.exists()


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "DATA_PLATFORM_RETRY_DELAY",
            "5m",
            "DATA_PLATFORM_RETRY_DELAY is '5m', which is no number of seconds: write a whole one such as 300",
        ),
        (
            "DATA_PLATFORM_EXECUTOR",
            "threads",
            "DATA_PLATFORM_EXECUTOR is 'threads', which is no executor known here: use in_process or multiprocess.",
        ),
        ("DATA_PLATFORM_TIMEZONE", "Mars/Olympus", "DATA_PLATFORM_TIMEZONE is 'Mars/Olympus', which is no time zone"),
        ("DATA_PLATFORM_START_DATE", "1.1.2024", "DATA_PLATFORM_START_DATE is '1.1.2024', which is not a date"),
    ],
)
def test_a_variable_that_cannot_be_used_is_the_last_line(variable: str, value: str, sentence: str) -> None:
    done = in_a_process("import data_platform.definitions", **{variable: value})
    assert done.returncode == 1
    assert sentence in done.stderr.splitlines()[-1]


def test_the_executor_is_a_setting() -> None:
    assert read_settings({}).executor == "in_process"
    assert read_settings({"DATA_PLATFORM_EXECUTOR": "multiprocess"}).executor == "multiprocess"
    assert set(EXECUTORS) == {"in_process", "multiprocess"}


@pytest.fixture
def environment(server: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    with throw_away(server) as warehouse, throw_away(server) as dagster:
        yield {
            "DAGSTER_HOME": str(REPOSITORY),
            "DATA_PLATFORM_HOME": str(tmp_path),
            "DATA_PLATFORM_WAREHOUSE_URL": warehouse,
            "DATA_PLATFORM_DAGSTER_URL": dagster,
        }


@pytest.mark.slow
def test_the_multiprocess_executor_runs_from_landing_files_to_facts(environment: dict[str, str]) -> None:
    code = """
import sys
from dagster._cli import main
sys.argv = ["dagster", "asset", "materialize", "-m", "data_platform.definitions", "--select",
            "raw_orders,stg_orders,fact_sales", "--partition-range", "2024-01-05...2024-01-06"]
main()
"""
    done = in_a_process(code, DATA_PLATFORM_EXECUTOR="multiprocess", **environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "Multiprocess executor" in done.stdout + done.stderr
    lake = Path(environment["DATA_PLATFORM_HOME"]) / "lake"
    assert len(list(lake.glob("stg_*/dt=*/part.parquet"))) == 2
    with psycopg.connect(environment["DATA_PLATFORM_WAREHOUSE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM platform.load_ledger").fetchone() == (2,)
