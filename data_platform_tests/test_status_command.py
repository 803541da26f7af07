"""`data-platform status` in a terminal: what it tells of days, checks and alerts, and how it reads."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import polars as pl
import psycopg
import pytest

from data_platform.lake import Lake, Stamp
from data_platform.quality.history import CheckRecord, remember
from data_platform.settings import settings
from data_platform_tests.conftest import throw_away
from data_platform_tests.test_cli import home as home  # the fixture
from data_platform_tests.test_cli import invoke

LEDGER = {"stg_orders": "fact_sales", "stg_products": "dim_product", "stg_customers": "dim_customer"}
ENTITIES = ("orders", "products", "customers")


@pytest.fixture
def shop(home: Path, warehouse_url: str, server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with an empty warehouse; Dagster has a database without tables."""
    with throw_away(server) as dagster:
        monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", warehouse_url)
        monkeypatch.setenv("DATA_PLATFORM_DAGSTER_URL", dagster)
        monkeypatch.setenv("COLUMNS", "80")
        yield home


def partition(home: Path, warehouse: str, asset: str, day: date, stamp: Stamp, *, published: bool = True) -> None:
    """A partition of the lake, and what was published from it."""
    lake = Lake(home / "lake")
    lake.promote([lake.write_aside(asset, day, pl.DataFrame(), stamp)])
    if asset in LEDGER and published:
        with psycopg.connect(warehouse) as connection:
            connection.execute(
                "INSERT INTO platform.load_ledger (asset, partition_date, run_id, content_hash, engine_path,"
                " rows_delivered, rows_staged, rows_quarantined, rows_duplicate, unknown_columns, started_at)"
                " VALUES (%s, %s, 'run', %s, 'bulk', 0, 0, 0, 0, '', now())",
                [LEDGER[asset], day, stamp.content],
            )


def fill(home: Path, warehouse: str, days: Mapping[date, str]) -> None:
    """Days of orders in the calendar's signs."""
    for day, sign in days.items():
        if sign == ".":
            continue
        stamp = Stamp(f"{day}", rows_delivered=int(sign != "0"))
        partition(home, warehouse, "raw_orders", day, stamp)
        partition(home, warehouse, "stg_orders", day, stamp, published=sign != "w")
        if sign == "!":
            remember(warehouse, "run", [CheckRecord("raw_orders", "delivery_is_accepted", "critical", False, day)])


def calendar(shown: str) -> list[str]:
    lines = shown.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("Calendar"))
    end = next(number for number, line in enumerate(lines[start:]) if not re.match(r"\S* +\d{4}-\d\d  |Calendar", line))
    return lines[start + 1 : start + end]


def days_of(month: str, signs: str) -> dict[date, str]:
    return {date.fromisoformat(f"{month}-{number:02}"): sign for number, sign in enumerate(signs, 1) if sign != " "}


def test_the_calendar_has_a_line_a_month_and_a_sign_a_day(shop: Path, warehouse_url: str) -> None:
    january, february = "  ####0!##w###.#######.########", "##0#"
    fill(shop, warehouse_url, days_of("2024-01", january) | days_of("2024-02", february))
    shown = invoke("status")
    assert shown.exit_code == 0, shown.stderr
    assert calendar(shown.stdout) == [
        f"orders       2024-01  {january}",
        f"             2024-02  {february}" + "." * 25,
    ]
    assert "# loaded  0 no rows  w waits  . missing  ! check failed\n" in shown.stdout
    assert max(map(len, shown.stdout.splitlines()[4:])) <= 80
    assert "\x1b" not in shown.stdout

    answer = json.loads(invoke("status", "--json").stdout)
    told = answer["coverage"]["fact_sales"]["2024-01"]
    assert (told["2024-01-03"], told["2024-01-07"], told["2024-01-08"]) == ("loaded", "empty", "failed")
    assert (told["2024-01-11"], told["2024-01-15"]) == ("waiting", "missing")
    assert "2024-01-02" not in told


def test_another_table_and_more_months_can_be_asked_for(shop: Path, warehouse_url: str) -> None:
    fill(shop, warehouse_url, days_of("2023-11", "##w#"))
    fill(shop, warehouse_url, days_of("2024-02", "#w"))
    lines = calendar(invoke("status", "--asset", "stg_orders", "--months", "2").stdout)
    assert [line[:22].split() for line in lines] == [["stg_orders", "2024-01"], ["2024-02"]]
    assert lines[1].endswith("##" + "." * 27)  # what waits for its publish is staged
    both = calendar(invoke("status", "--asset", "raw_orders", "--asset", "fact_returns", "--months", "1").stdout)
    assert [line.split()[0] for line in both] == ["raw_orders", "fact_returns"]
    assert both[1].split()[2] == "#w" + "." * 27
    assert "Calendar" not in invoke("status", "--months", "0").stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--asset", "dim_date"), "--asset 'dim_date' has no daily partitions: name one of raw_orders, stg_orders"),
        (("--months", "-1"), "--months"),
        (("--months", "many"), "--months"),
    ],
)
def test_what_cannot_be_shown_is_bad_usage(shop: Path, options: tuple[str, str], sentence: str) -> None:
    shown = invoke("status", *options)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert sentence in shown.stderr


def test_years_of_days_take_no_more_lines(shop: Path, warehouse_url: str) -> None:
    years = {date(year, month, 1): "#" for year in range(2020, 2024) for month in range(1, 13)}
    fill(shop, warehouse_url, years)
    shown = invoke("status")
    assert len(calendar(shown.stdout)) == 3
    assert len(shown.stdout.splitlines()) < 60
    assert [line[13:20] for line in calendar(shown.stdout)] == ["2023-10", "2023-11", "2023-12"]
    assert len(calendar(invoke("status", "--months", "48").stdout)) == 48


def test_what_is_wrong_is_in_the_last_line_and_nothing_else_is(shop: Path, warehouse_url: str) -> None:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=number) for number in range(1, 40)]
    for entity in ENTITIES:
        for day in days:
            stamp = Stamp(f"{entity} {day}", rows_delivered=1)
            partition(shop, warehouse_url, f"raw_{entity}", day, stamp)
            partition(shop, warehouse_url, f"stg_{entity}", day, stamp)
    well = invoke("status")
    assert well.stdout.splitlines()[-1] == "All is well."
    assert "Behind       nothing: the newest day that was expected is published\n" in well.stdout
    assert "Checks       none fails\n" in well.stdout
    assert "Alerts       none is open\n" in well.stdout
    answer = json.loads(invoke("status", "--json").stdout)
    assert (answer["well"], answer["problems"], answer["remarks"]) == (True, [], [])

    note = CheckRecord("fact_sales", "profit_follows_cost", "critical", False, days[0], note="It does not.")
    remember(warehouse_url, "run", [note, CheckRecord("stg_orders", "drift_nulls", "warning", False, days[0])])
    with psycopg.connect(warehouse_url) as connection:
        connection.execute(
            "INSERT INTO platform.alerts (key, kind, severity, title, detail, advice, run_id, places, times, opened_at,"
            " last_told_at) VALUES ('a', 'check_failed', 'critical', 'profit is odd', '', '', '', '{}', 1, now(),"
            " now())"
        )
        connection.execute("INSERT INTO platform.mart_stale (mart, date_key) VALUES ('mart_daily_sales', 20240105)")
    shown = invoke("status")
    assert shown.stdout.splitlines()[-1] == "Not well: 1 critical check fails; 1 critical alert is open."
    for line in (
        f"Checks       critical fact_sales, profit_follows_cost on {days[0]}",
        f"             warning  stg_orders, drift_nulls on {days[0]}",
        "Alerts       critical profit is odd, since ",
        "Remarks      1 warning check fails",
        "             1 mart is stale",
        "Stale        mart_daily_sales has yet to take in 1 order dates",
    ):
        assert f"\n{line}" in shown.stdout
    answer = json.loads(invoke("status", "--json").stdout)
    assert answer["failing_checks"][0]["note"] == "It does not."
    assert answer["open_alerts"][0]["title"] == "profit is odd"
    assert answer["stale_marts"] == {"mart_daily_sales": 1}
    assert not answer["well"]


def test_looking_makes_no_database_for_dagster(
    home: Path, warehouse_url: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_PLATFORM_WAREHOUSE_URL", warehouse_url)
    with throw_away(server) as gone:
        pass
    monkeypatch.setenv("DATA_PLATFORM_DAGSTER_URL", gone)
    shown = invoke("status")
    assert "Runs         none yet\n" in shown.stdout
    with psycopg.connect(server) as connection:
        name = urlsplit(gone).path[1:]
        assert connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None
    assert not home.exists()


def test_a_dagster_that_is_down_is_told_and_hides_nothing_else(
    shop: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = urlunsplit(urlsplit(server)._replace(netloc="me:hunter2@127.0.0.1:1"))
    monkeypatch.setenv("DATA_PLATFORM_DAGSTER_URL", down)
    settings.cache_clear()
    shown = invoke("status")
    assert shown.exit_code == 0
    assert "Runs         unknown: Dagster's database cannot be read\n" in shown.stdout
    assert "fact_sales" in shown.stdout
    assert shown.stdout.splitlines()[-1].startswith("Not well: Dagster's database at postgresql://me@127.0.0.1:1/")
    assert "hunter2" not in shown.output
    assert json.loads(invoke("status", "--json").stdout)["runs"] is None
