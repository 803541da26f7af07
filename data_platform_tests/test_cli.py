"""The command `data-platform`, as people and scripts meet it: what it prints where, and how it ends."""

import json
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
import typer
from typer.testing import CliRunner, Result

from data_platform.cli import app
from data_platform.commands import figures, gaps, terminal
from data_platform.errors import DeliveryRejected
from data_platform.lake import Lake, Stamp
from data_platform.settings import settings
from data_platform_tests.conftest import throw_away

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from data_platform.cli import main; main()"]
SHOP = ["--days", "8", "--customers", "40", "--products", "20", "--orders-per-day", "15", "--format", "csv"]
FIRST, LAST, NEXT = "2024-01-01", "2024-01-08", "2024-01-09"
HEAVY = ("polars", "dagster", "psycopg", "pandas", "numpy", "sqlalchemy", "pandera")
TABLES = [
    "dim_date", "dim_customer", "dim_product", "fact_sales", "fact_returns",
    "mart_daily_sales", "mart_product_performance", "mart_customer_value",
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that is not there yet; what a command does to this process's logging is undone."""
    home = tmp_path / "home"
    monkeypatch.setenv("DATA_PLATFORM_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(REPOSITORY))
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with warnings.catch_warnings():
        yield home
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="data-platform")


class Platform:
    """A platform with databases of its own; commands run in processes of their own, as people start them."""

    def __init__(self, home: Path, warehouse: str, dagster: str) -> None:
        self.home, self.warehouse, self.dagster = home, warehouse, dagster
        self.environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))
            },
            "DATA_PLATFORM_HOME": str(home),
            "DATA_PLATFORM_WAREHOUSE_URL": warehouse,
            "DATA_PLATFORM_DAGSTER_URL": dagster,
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], env=self.environment | environment, cwd="/", capture_output=True, text=True
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def deliver(self, day: str, content: str) -> Path:
        file = self.home / "landing" / "orders" / f"{day}.csv"
        file.write_text(content)
        return file

    def rows_written(self) -> list[Any]:
        """Where every row stands and who wrote it: equal if nothing was written between."""
        schemas = {table: "marts" if table.startswith("mart") else "warehouse" for table in TABLES}
        with psycopg.connect(self.warehouse) as connection:
            return [
                connection.execute(
                    f"SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM "
                    f"(SELECT tableoid, ctid, xmin, xmax FROM {schema}.{table}) AS t"
                ).fetchone()
                for table, schema in schemas.items()
            ]


@pytest.fixture(scope="module")
def platform(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that `demo` has filled; `demo` is what it printed."""
    with ExitStack() as databases:
        urls = [databases.enter_context(throw_away(server)) for _ in range(2)]
        yield Platform(tmp_path_factory.mktemp("cli") / "home", *urls)


@pytest.fixture(scope="module")
def demo(platform: Platform) -> dict[str, Any]:
    return platform.json("demo", *SHOP)


# -- help and usage ---------------------------------------------------------------------------------------------------


def test_help_waits_for_nothing_heavy() -> None:
    code = f"""
import sys
from data_platform.cli import app
try:
    app(["--help"])
except SystemExit as end:
    assert not end.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    for command in ("demo", "import", "backfill", "status", "gaps", "quarantine", "rebuild", "url"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("backfill --from 2024-01-05 --to 2024-01-04", "--from 2024-01-05 is after --to 2024-01-04"),
        ("backfill --from 2023-12-31 --to 2024-01-04", "DATA_PLATFORM_START_DATE=2023-12-31"),
        ("backfill --from 2024-01-05 --to 2199-01-04", "--to 2199-01-04 is later than the newest partition"),
        ("backfill --from 2024-02-30 --to 2024-03-01", "--from is '2024-02-30', which is not a date"),
        ("backfill --from yesterday --to 2024-03-01", "--from is 'yesterday', which is not a date"),
        ("demo --days 0", "--days is 0"),
        ("demo --days 99999999999", "beyond the calendar"),
        ("demo --start 2023-12-31", "--start 2023-12-31 is before the first partition, 2024-01-01"),
        ("demo --start 2190-12-31", "The demo's last day 2191-03-30 is later than the newest partition"),
        ("demo --customers 0", "customers is 0"),
        ("demo --seed -1", "seed is -1"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(home: Path, arguments: str, sentence: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 2
    assert sentence in result.stderr.splitlines()[-1]
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not (home / "landing").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "backfill --from 2024-01-05",
        "backfill --from 2024-01-05 --to 2024-01-06 --chunk 0",
        "backfil",
        "demo --format avro",
        "demo --days many",
        "url lake",
        "import",
        "",
    ],
)
def test_what_cannot_be_parsed_ends_in_exit_code_2(home: Path, arguments: str) -> None:
    assert invoke(*arguments.split()).exit_code == 2
    assert not home.exists()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATA_PLATFORM_TIMEZONE", "Mars/Olympus"),
        ("DATA_PLATFORM_START_DATE", "first of May"),
        ("DATA_PLATFORM_WAREHOUSE_URL", "mysql://somewhere"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_sentence_that_names_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    result = invoke("status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert variable in result.stderr
    assert len(result.stderr.splitlines()) == 1


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_that_nobody_foresaw_is_one_sentence_and_its_traceback_is_in_the_log(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.keep_log(debug=False)

    @terminal.told
    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    with pytest.raises(typer.Exit) as end:
        broken()
    log = home / "logs" / "data-platform.log"
    assert end.value.exit_code == 1
    assert capsys.readouterr().err == (
        f"Something that nobody foresaw failed (ZeroDivisionError: division by zero); the details: {log}\n"
    )
    assert "Traceback" in log.read_text()


def test_debug_lets_the_traceback_through(home: Path) -> None:
    terminal.keep_log(debug=True)

    @terminal.told
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()


def test_an_error_of_ours_is_found_below_those_that_dagster_wraps_around_it() -> None:
    rejected = DeliveryRejected("orders/2024-01-05.csv is empty: deliver it again.")
    wrapped = RuntimeError("Error occurred while executing op")
    wrapped.__cause__ = rejected
    assert terminal.platform_error(wrapped) is rejected
    assert terminal.platform_error(ValueError()) is None


def test_a_home_that_cannot_be_written_does_not_stop_a_command_from_telling_why(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_text("a file where the folder should be")
    result = invoke("demo", *SHOP)
    assert result.exit_code == 1
    assert str(home) in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


# -- status and url without a warehouse -------------------------------------------------------------------------------


def test_status_of_nothing_says_what_to_do_and_makes_nothing(home: Path) -> None:
    result = invoke("status")
    assert result.exit_code == 1
    assert result.stderr == "There is no warehouse yet: `data-platform demo` or `data-platform backfill` makes it.\n"
    assert not home.exists()


def test_status_tells_which_days_wait_at_which_step(
    home: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", warehouse_url)
    landing, lake = home / "landing", Lake(home / "lake")
    for name in (
        "orders/2023-12-30.csv", "orders/2023-12-31/a.parquet", "orders/2024-01-01.csv", "orders/2024-01-02.csv.gz",
        "orders/2024-01-03/part.jsonl", "orders/2024-01-04.csv.tmp", "orders/.2024-01-04.csv", "orders/notes.csv",
        "orders/2024-01-05/_SUCCESS", "products/2024-01-02.csv",
    ):  # fmt: skip
        (landing / name).parent.mkdir(parents=True, exist_ok=True)
        (landing / name).touch()
    for asset, day, delivered in (
        ("raw_orders", 1, True), ("raw_orders", 2, False), ("raw_products", 2, True), ("raw_customers", 1, True),
        ("stg_orders", 1, True), ("stg_products", 2, False), ("stg_customers", 1, True), ("stg_customers", 2, False),
    ):  # fmt: skip
        stamp = Stamp(content=f"{asset} {day}", delivered=delivered)
        lake.promote([lake.write_aside(asset, date(2024, 1, day), pl.DataFrame(), stamp)])
    with psycopg.connect(warehouse_url) as connection:
        for asset, day, content in (
            ("fact_sales", 1, "stg_orders 1"), ("dim_product", 2, "stg_products 2"),
            ("dim_customer", 1, "stg_customers 1"), ("dim_customer", 1, "another"),
        ):  # fmt: skip
            connection.execute(
                "INSERT INTO platform.load_ledger (asset, partition_date, run_id, content_hash, engine_path,"
                " rows_delivered, rows_staged, rows_quarantined, rows_duplicate, unknown_columns, started_at)"
                " VALUES (%s, %s, 'run', %s, 'bulk', 0, 0, 0, 0, '', now())",
                [asset, date(2024, 1, day), content],
            )
    nothing: dict[str, list[str]] = {
        "landed_not_taken": [], "raw_not_staged": [], "staged_not_published": [], "before_start": [],
    }  # fmt: skip
    assert json.loads(invoke("status", "--json").stdout)["waiting"] == {
        "orders": nothing
        | {"landed_not_taken": ["2024-01-02", "2024-01-03"], "before_start": ["2023-12-30", "2023-12-31"]},
        "products": nothing | {"raw_not_staged": ["2024-01-02"]},
        "customers": nothing | {"staged_not_published": ["2024-01-01", "2024-01-02"]},
    }
    shown = invoke("status")
    assert shown.exit_code == 0
    assert (
        """
Waiting      orders: 2 days, 2024-01-02 to 2024-01-03, landed, not taken into raw
             orders: 2 days, 2023-12-30 to 2023-12-31, landed, but before DATA_PLATFORM_START_DATE (2024-01-01): no run ever takes them
             products: 1 day, 2024-01-02, in raw, not staged
             customers: 2 days, 2024-01-01 to 2024-01-02, staged, not published
"""  # noqa: E501
        in shown.stdout
    )


def filled(home: Path, warehouse_url: str, stamps: dict[str, dict[int, bool]]) -> None:
    """A lake of partitions of January 2024, delivered or not, all that is staged published."""
    ledger = {"stg_orders": "fact_sales", "stg_products": "dim_product", "stg_customers": "dim_customer"}
    lake = Lake(home / "lake")
    with psycopg.connect(warehouse_url) as connection:
        for asset, days in stamps.items():
            for day, delivered in days.items():
                stamp = Stamp(content=f"{asset} {day}", delivered=delivered)
                lake.promote([lake.write_aside(asset, date(2024, 1, day), pl.DataFrame(), stamp)])
                if asset in ledger:
                    connection.execute(
                        "INSERT INTO platform.load_ledger (asset, partition_date, run_id, content_hash, engine_path,"
                        " rows_delivered, rows_staged, rows_quarantined, rows_duplicate, unknown_columns, started_at)"
                        " VALUES (%s, %s, 'run', %s, 'bulk', 0, 0, 0, 0, '', now())",
                        [ledger[asset], date(2024, 1, day), stamp.content],
                    )


@pytest.fixture
def tenth(monkeypatch: pytest.MonkeyPatch, home: Path, warehouse_url: str) -> Path:
    """A home on the tenth of January 2024, with a landing folder."""
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", warehouse_url)
    monkeypatch.setattr(gaps, "newest_day", lambda _: date(2024, 1, 9))
    (home / "landing" / "orders").mkdir(parents=True)
    return home


def test_gaps_tell_what_is_missing_where_and_the_runs_that_fill_it(tenth: Path, warehouse_url: str) -> None:
    every = dict.fromkeys(range(3, 10), True)
    holey = {3: True, 4: False, 5: True, 7: False, 9: True}
    filled(
        tenth, warehouse_url,
        {"raw_orders": holey, "stg_orders": holey, "raw_products": every, "stg_products": every,
         "raw_customers": every, "stg_customers": dict.fromkeys(range(3, 9), True)},
    )  # fmt: skip
    with psycopg.connect(warehouse_url) as connection:
        connection.execute("UPDATE platform.load_ledger SET content_hash = 'x' WHERE partition_date = '2024-01-03'")
    for day in ("2024-01-07", "2024-01-10"):
        (tenth / "landing" / "orders" / f"{day}.csv").touch()
    shown = invoke("gaps", "--json")
    assert shown.exit_code == 1
    answer = json.loads(shown.stdout)
    told = answer["gaps"].items()
    assert {entity: {step: days for step, days in steps.items() if days} for entity, steps in told} == {
        "orders": {
            "not_run": ["2024-01-06", "2024-01-08"], "landed_not_taken": ["2024-01-07"],
            "staged_not_published": ["2024-01-03"], "not_delivered": ["2024-01-04"],
        },
        "products": {"staged_not_published": ["2024-01-03"]},
        "customers": {"raw_not_staged": ["2024-01-09"], "staged_not_published": ["2024-01-03"]},
    }  # fmt: skip
    assert answer["fill"] == [
        "data-platform backfill --from 2024-01-03 --to 2024-01-03",
        "data-platform backfill --from 2024-01-06 --to 2024-01-09",
    ]
    shown = invoke("gaps")
    assert shown.exit_code == 1
    assert shown.stdout.splitlines()[0] == (
        "orders         2 days  no run has looked for a delivery: 2024-01-06, 2024-01-08"
    )
    assert "orders         1 day   run, and nothing was delivered: ask the source: 2024-01-04" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "data-platform backfill --from 2024-01-06 --to 2024-01-09"


def test_where_nothing_is_missing_gaps_end_with_0(
    tenth: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = dict.fromkeys(range(3, 10), True)
    without_sunday = every | {7: False}
    (tenth / "sources.yaml").write_text("orders: {closed_on: [sun]}\n")
    monkeypatch.setenv("DATA_PLATFORM_SOURCES", str(tenth / "sources.yaml"))
    filled(
        tenth, warehouse_url,
        {f"{layer}_{entity}": without_sunday if entity == "orders" else every
         for layer in ("raw", "stg") for entity in ("orders", "products", "customers")},
    )  # fmt: skip
    shown = invoke("gaps")
    assert (shown.exit_code, shown.stdout) == (0, "Nothing is missing.\n")


def test_gaps_that_cannot_be_known_are_no_success(home: Path) -> None:
    shown = invoke("gaps")
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert shown.stderr == "There is no warehouse yet: `data-platform demo` or `data-platform backfill` makes it.\n"
    assert not home.exists()


def test_status_says_in_one_line_that_nothing_waits_and_what_it_cannot_know(
    home: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", warehouse_url)
    shown = invoke("status")
    assert shown.exit_code == 0
    assert "\nWaiting      nothing: all that has landed is published\n" in shown.stdout

    monkeypatch.setenv("DATA_PLATFORM_LANDING_URL", "s3://shop/landing")
    settings.cache_clear()
    shown = invoke("status")
    assert shown.exit_code == 1
    assert "\nWaiting      unknown what has landed\n" in shown.stdout
    assert "DATA_PLATFORM_LANDING_URL" in shown.stderr


def test_status_of_a_warehouse_that_is_down_still_tells_of_the_lake(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", "postgresql://me:secret@127.0.0.1:1/shop")
    result = invoke("status", "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    assert answer["warehouse"] == {
        "url": "postgresql://me@127.0.0.1:1/shop", "embedded": False, "reachable": False, "set_up": False,
    }  # fmt: skip
    assert "does not answer" in answer["error"]
    assert [asset["asset"] for asset in answer["assets"]][:2] == ["raw_orders", "raw_products"]
    assert "secret" not in result.output


@pytest.mark.parametrize(
    ("address", "without"),
    [
        ("postgresql://me:secret@host:5432/shop", "postgresql://me@host:5432/shop"),
        ("postgresql://me@host/shop?sslmode=require", "postgresql://me@host/shop?sslmode=require"),
        (
            "postgresql://host/shop?user=me&password=secret&sslmode=require",
            "postgresql://host/shop?user=me&sslmode=require",
        ),
    ],
)
def test_url_prints_the_url_alone_and_leaves_out_only_the_password(
    home: Path, monkeypatch: pytest.MonkeyPatch, address: str, without: str
) -> None:
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", address)
    assert invoke("url").output == f"{address}\n"
    assert invoke("url", "--no-password").output == f"{without}\n"


def test_url_of_dagster_is_one_that_psql_takes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_PLATFORM_DAGSTER_URL", "postgresql://me:secret@host/runs")
    result = invoke("url", "dagster", "--json")
    assert json.loads(result.stdout) == {
        "database": "dagster", "url": "postgresql://me:secret@host/runs", "embedded": False,
    }  # fmt: skip


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_url_holds_the_embedded_postgres_until_it_is_ended(tmp_path: Path, end: signal.Signals) -> None:
    environment = os.environ | {"DATA_PLATFORM_HOME": str(tmp_path / "home")}
    held = subprocess.Popen(
        [*COMMAND, "url", "--hold"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert held.stdout is not None
    address = held.stdout.readline().strip()
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("warehouse",)
    held.send_signal(end)
    held.communicate(timeout=30)
    assert held.returncode == 0


# -- import -----------------------------------------------------------------------------------------------------------


def test_import_tells_the_settings_and_the_command_that_come_next(home: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "2010-12-01.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
    )
    result = invoke("import", "online-retail", str(source))
    assert result.exit_code == 0
    assert "  export DATA_PLATFORM_START_DATE=2010-12-01\n" in result.stdout
    assert result.stdout.endswith("  data-platform backfill --from 2010-12-01 --to 2010-12-01\n")
    assert (home / "landing" / "orders" / "2010-12-01.csv").exists()

    answer = json.loads(invoke("import", "online-retail", str(source), "--json").stdout)
    assert (answer["order_rows"], answer["settings_missing"]) == (1, True)


def test_import_of_a_folder_that_is_not_there_is_one_sentence(home: Path) -> None:
    result = invoke("import", "online-retail", "/not/there")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("/not/there does not exist")


# -- the whole platform -----------------------------------------------------------------------------------------------


def test_demo_ends_with_what_the_shop_sold(demo: dict[str, Any]) -> None:
    shop, rows = demo["shop"], demo["rows"]
    assert rows["fact_sales"] == shop["lines_sold"] - shop["dirty_lines"] - shop["cancelled_lines"]
    assert rows["fact_returns"] == shop["returns"]
    assert sum(Decimal(month["sales"]) for month in demo["months"]) == Decimal(shop["sales_amount"])
    assert sum(Decimal(month["returns"]) for month in demo["months"]) == Decimal(shop["returns_amount"])
    orders = next(entity for entity in demo["quality"] if entity["entity"] == "orders")
    assert (orders["delivered"], orders["quarantined"], orders["duplicate"]) == (
        shop["lines_delivered"], shop["dirty_lines"], shop["duplicates"],
    )  # fmt: skip
    assert list(rows) == TABLES
    assert demo["run"]["succeeded"]


def test_demo_again_writes_nothing_and_prints_the_same_summary(platform: Platform, demo: dict[str, Any]) -> None:
    before = platform.rows_written()
    done = platform.run("demo", *SHOP)
    assert done.returncode == 0, done.stderr
    assert platform.rows_written() == before
    sales = next(line for line in done.stdout.splitlines() if " fact_sales " in line)
    assert f" {demo['rows']['fact_sales']:,} " in sales
    assert "make ui" in done.stdout
    assert "nothing to write" in done.stderr


def test_another_demo_in_the_same_place_is_refused(platform: Platform, demo: dict[str, Any]) -> None:
    done = platform.run("demo", "--days", "3", "--format", "csv")
    assert done.returncode == 1
    assert "holds orders of 2024-01-04, which are not this demo's" in done.stderr.splitlines()[-1]


def test_a_range_is_one_run_of_the_job_in_dagsters_storage(platform: Platform, demo: dict[str, Any]) -> None:
    with psycopg.connect(platform.dagster) as connection:
        found = connection.execute(
            "SELECT pipeline_name, status FROM runs WHERE run_id = %s", [demo["run"]["run_id"]]
        ).fetchall()
        tags = dict(
            connection.execute("SELECT key, value FROM run_tags WHERE run_id = %s", [demo["run"]["run_id"]]).fetchall()
        )
    assert found == [("daily_sales", "SUCCESS")]
    assert tags["dagster/asset_partition_range_start"] == FIRST
    assert tags["dagster/asset_partition_range_end"] == LAST
    assert tags[".dagster/repository"] == "__repository__@data_platform"


def test_status_tells_days_rows_and_quarantine(platform: Platform, demo: dict[str, Any]) -> None:
    answer = platform.json("status")
    assets = {asset["asset"]: asset for asset in answer["assets"]}
    assert assets["fact_sales"] == {
        "asset": "fact_sales", "rows": demo["rows"]["fact_sales"], "days": 8, "first": FIRST, "last": LAST,
        "gaps": [], "days_to_publish": 0,
    }  # fmt: skip
    assert assets["raw_orders"]["rows"] == demo["shop"]["lines_delivered"]
    assert answer["quarantined_rows"]["orders"] == demo["shop"]["dirty_lines"]
    assert answer["stale_marts"] == {}
    assert answer["last_load"]["asset"] in figures.PUBLISHED
    assert answer["warehouse"]["reachable"]


def test_a_rejected_delivery_ends_in_its_sentence_and_leaves_the_warehouse_alone(
    platform: Platform, demo: dict[str, Any]
) -> None:
    before = platform.rows_written()
    delivery = platform.deliver(NEXT, "")
    done = platform.run("backfill", "--from", NEXT, "--to", NEXT)
    delivery.unlink()
    assert (done.returncode, done.stdout) == (1, "")
    assert f"orders/{NEXT}.csv is empty" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert platform.rows_written() == before


def test_chunks_are_a_run_each_and_a_failed_one_is_the_last(platform: Platform, demo: dict[str, Any]) -> None:
    chunks = ("--from", FIRST, "--to", LAST, "--chunk", "3", "--select", "raw_orders")
    before = platform.rows_written()
    answer = platform.json("backfill", *chunks)
    days = [(run["from"], run["to"]) for run in answer["runs"]]
    assert days == [("2024-01-01", "2024-01-03"), ("2024-01-04", "2024-01-06"), ("2024-01-07", "2024-01-08")]
    assert all(run["succeeded"] and run["assets"][0]["asset"] == "raw_orders" for run in answer["runs"])
    assert platform.rows_written() == before

    file = platform.home / "landing" / "orders" / "2024-01-05.csv"
    delivered = file.read_text()
    file.write_text("nothing,that,is,known\n1,2,3,4\n")
    done = platform.run("backfill", *chunks)
    file.write_text(delivered)
    assert done.returncode == 1
    assert "(2 of 3)" in done.stderr
    assert "(3 of 3)" not in done.stderr
    assert "What is before 2024-01-04 is done. The rest: --from 2024-01-04 --to 2024-01-08" in done.stderr


def test_ctrl_c_between_chunks_leaves_what_is_done(platform: Platform, demo: dict[str, Any]) -> None:
    chunks = ("--from", FIRST, "--to", LAST, "--chunk", "1", "--select", "raw_orders")
    running = subprocess.Popen(
        [*COMMAND, "backfill", *chunks],
        env=platform.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stderr is not None
    while "(2 of 8)" not in running.stderr.readline():
        pass
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.splitlines()[-2].startswith("What is before 2024-01-0")
    assert said.splitlines()[-1].startswith("Interrupted: ")


def test_backfill_of_chosen_assets_reports_them_and_sums_up_its_warnings(
    platform: Platform, demo: dict[str, Any]
) -> None:
    answer = platform.json("backfill", "--from", NEXT, "--to", "2024-01-11", "--select", "raw_products+")
    names = [asset["asset"] for asset in answer["assets"]]
    assert names[:2] == ["raw_products", "stg_products"]
    assert answer["assets"][0]["partitions"] == 3
    assert answer["warnings"] == ["raw_products, delivery_is_there: Nothing is in the landing folder for 3 of 3 days."]
    assert answer["failures"] == []


def test_backfill_of_an_unknown_asset_is_bad_usage(platform: Platform) -> None:
    done = platform.run("backfill", "--from", FIRST, "--to", LAST, "--select", "raw_invoices")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("--select 'raw_invoices' names no asset")


def test_an_audit_that_fails_after_the_publish_is_told(platform: Platform, demo: dict[str, Any]) -> None:
    change = "UPDATE warehouse.fact_sales SET profit = profit {} WHERE delivered_on = '{}' AND profit IS NOT NULL"
    with psycopg.connect(platform.warehouse) as connection:
        connection.execute(change.format("+ 1", LAST))
    try:
        answer = platform.json("backfill", "--from", LAST, "--to", LAST, "--select", "fact_sales")
    finally:
        with psycopg.connect(platform.warehouse) as connection:
            connection.execute(change.format("- 1", LAST))
    told = [warning for warning in answer["warnings"] if warning.startswith("fact_sales, profit_follows_cost")]
    assert len(told) == 1
    assert "data-platform rebuild" in told[0]


def test_rebuild_verify_tells_a_difference_and_rebuild_mends_it(platform: Platform, demo: dict[str, Any]) -> None:
    with psycopg.connect(platform.warehouse) as connection:
        (line,) = connection.execute("SELECT order_id FROM warehouse.fact_sales ORDER BY order_id LIMIT 1").fetchall()
        sold = connection.execute("SELECT sum(sales) FROM marts.mart_daily_sales").fetchone()
        connection.execute("DELETE FROM warehouse.fact_sales WHERE order_id = %s", line)

    differs = platform.run("rebuild", "--verify")
    assert differs.returncode == 1
    assert differs.stderr.splitlines()[-1].startswith("The tables differ from what staging gives")

    mended = platform.json("rebuild")
    facts = next(table for table in mended["tables"] if table["table"] == "fact_sales")
    assert mended["differs"]
    assert facts["inserted"] >= 1
    assert mended["marts"]["succeeded"]

    assert platform.run("rebuild", "--verify").returncode == 0
    with psycopg.connect(platform.warehouse) as connection:
        assert connection.execute("SELECT sum(sales) FROM marts.mart_daily_sales").fetchone() == sold


def test_a_database_that_is_down_is_one_sentence_without_the_password(platform: Platform) -> None:
    down = "postgresql://me:secret@127.0.0.1:1/shop"
    done = platform.run(
        "backfill", "--from", FIRST, "--to", FIRST,
        DATA_PLATFORM_WAREHOUSE_URL=down, DATA_PLATFORM_DAGSTER_URL=down,
    )  # fmt: skip
    assert done.returncode == 1
    assert "127.0.0.1:1/shop cannot be reached" in done.stderr.splitlines()[-1]
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_another_time_zone_is_refused_once(platform: Platform, demo: dict[str, Any]) -> None:
    done = platform.run("backfill", "--from", FIRST, "--to", FIRST, DATA_PLATFORM_TIMEZONE="Asia/Tokyo")
    said = [line for line in done.stderr.splitlines() if line.startswith("DATA_PLATFORM_TIMEZONE is Asia/Tokyo")]
    assert done.returncode == 1
    assert said == [done.stderr.splitlines()[-1]]


def test_ctrl_c_ends_a_run_with_130_and_one_sentence(platform: Platform, demo: dict[str, Any]) -> None:
    running = subprocess.Popen(
        [*COMMAND, "backfill", "--from", FIRST, "--to", LAST],
        env=platform.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stderr is not None
    running.stderr.readline()  # what it is about to run
    running.stderr.readline()  # its first asset
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.splitlines()[-1].startswith("Interrupted: ")
    assert "Traceback" not in said


# -- figures ----------------------------------------------------------------------------------------------------------


def test_gaps_are_the_spans_of_missing_days() -> None:
    days = [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 5), date(2024, 1, 7)]
    assert figures.gaps(reversed(days)) == [
        (date(2024, 1, 3), date(2024, 1, 4)),
        (date(2024, 1, 6), date(2024, 1, 6)),
    ]
    assert figures.gaps([]) == figures.gaps(days[:1]) == []
