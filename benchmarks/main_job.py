"""Landing files to published facts for a year of a demo shop, against the machine's floor in the same run.

The floor is what no loader can avoid: read the same files with Polars, COPY the finished fact rows into an empty copy
of the table, build its indexes. Ours is the whole command `dagster asset materialize` over the range, with all checks,
dimensions, marts and Dagster's bookkeeping, on the embedded Postgres; of that the share that checks take is told apart.
Quote the ratio; seconds belong to a machine.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import psycopg
from psycopg import sql

from data_platform.contracts import WAREHOUSE
from data_platform.datasets.demo_shop import ShopSize, generate
from data_platform.embedded_postgres import ensure_server
from data_platform.settings import REPOSITORY
from data_platform.warehouse.copying import copy_in
from data_platform.warehouse.facts import COLUMNS
from data_platform.warehouse.marts import read_table

START = date(2024, 1, 1)
CHECKS = "checks.json"  # what benchmarks.timed_checks writes


def main() -> int:
    """Print the table, and with --json write it; 1 if the run failed or the rows do not agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2_000_000, help="order lines to generate")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--home", type=Path, help="keep data here and reuse the landing files that are there")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        return _measure(home, options)
    finally:
        if options.home is None:
            shutil.rmtree(home, ignore_errors=True)


def _measure(home: Path, options: argparse.Namespace) -> int:
    landing = home / "landing"
    orders_per_day = round(options.lines / 3 / options.days)
    size = ShopSize(customers=20_000, products=2_000, orders_per_day=orders_per_day, days=options.days)
    summary = generate(landing, start=START, size=size, seed=7)
    shutil.rmtree(home / "lake", ignore_errors=True)
    url = ensure_server(home).url("warehouse")
    _empty(url)
    ours, memory = _materialize(home, START + timedelta(days=options.days - 1))
    found = _count(url)
    wanted = (summary.fact_sales_rows, summary.fact_returns_rows)
    if found != wanted:
        print(f"The facts hold {found} rows, the generator says {wanted}: no time counts.", file=sys.stderr)
        return 1
    steps = _floor(url, landing)
    floor = sum(steps.values())
    checks = json.loads((home / CHECKS).read_text())
    figures = {
        "fact_rows": sum(found),
        "ours_seconds": round(ours, 2),
        "floor_seconds": round(floor, 2),
        **{f"floor_{name}_seconds": round(seconds, 2) for name, seconds in steps.items()},
        "ratio": round(ours / floor, 2),
        "rows_per_second": round(sum(found) / ours),
        "peak_memory_mib": round(memory / 1024),
        "checks_seconds": round(sum(checks.values()), 2),
        **{f"checks: {kind}": round(spent, 2) for kind, spent in sorted(checks.items())},
        "checks_share": round(sum(checks.values()) / ours, 3),
    }
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:>12,}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _empty(url: str) -> None:
    # A fresh start on a kept home: everything is dropped, the migrations make it anew.
    with psycopg.connect(url, autocommit=True) as connection:
        for schema in ("marts", "warehouse", "platform"):
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        connection.execute("DROP TABLE IF EXISTS _yoyo_migration, _yoyo_log, _yoyo_version, yoyo_lock")


def _materialize(home: Path, last: date) -> tuple[float, int]:
    """Wall seconds and peak memory (KiB, of the process alone) of the whole command."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))
    }
    environment |= {
        "DAGSTER_HOME": str(REPOSITORY),
        "DATA_PLATFORM_HOME": str(home),
        "DATA_PLATFORM_START_DATE": START.isoformat(),
    }
    span = f"{START}...{last}"
    command = [sys.executable, "-m", "benchmarks.timed_checks", str(home / CHECKS), "asset", "materialize",
               "-m", "data_platform.definitions", "--select", "*", "--partition-range", span]  # fmt: skip
    with (home / "run.log").open("w") as log:
        begin = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"The run failed: see {home / 'run.log'} (kept with --home).")
    return seconds, usage.ru_maxrss


def _count(url: str) -> tuple[int, int]:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM warehouse.fact_sales), (SELECT count(*) FROM warehouse.fact_returns)"
        ).fetchone()
    assert row is not None
    return row


def _floor(url: str, landing: Path) -> dict[str, float]:
    facts = {name: read_table(url, WAREHOUSE[name]).select(COLUMNS.names()) for name in ("fact_sales", "fact_returns")}
    files = [sorted((landing / entity).glob("*.parquet")) for entity in ("orders", "products", "customers")]
    steps = {"read": _timed(lambda: [pl.concat([pl.read_parquet(file) for file in paths]) for paths in files])}
    with psycopg.connect(url) as connection:
        for name in facts:
            connection.execute(
                f"CREATE TABLE warehouse.floor_{name} (LIKE warehouse.{name} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
            )

        def copy() -> None:
            for name, rows in facts.items():
                copy_in(connection, f"warehouse.floor_{name}", rows)

        def index() -> None:
            for name in facts:
                # As warehouse.attach_year does.
                table = sql.Identifier("warehouse", f"floor_{name}")
                key = sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (order_id, line_number, date_key)")
                connection.execute(key.format(table))
                for column in ("date_key", "customer_key", "product_key"):
                    connection.execute(sql.SQL("CREATE INDEX ON {} ({})").format(table, sql.Identifier(column)))
            connection.commit()

        steps |= {"copy": _timed(copy), "index": _timed(index)}
        for name in facts:
            connection.execute(f"DROP TABLE warehouse.floor_{name}")
    return steps


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
