"""A million order lines from Postgres into raw, against a bare ADBC read and Parquet write of them in the same run.

Bare is what no extraction avoids: the same statement by the same driver, each batch written to one zstd Parquet file.
Ours is the whole materialization of raw_orders for one day by Dagster, in this process: ask, archive, read back, check,
hash, write the file of the lake, promote it, balance the books. Rounds alternate, medians count. Quote the ratio:
seconds belong to a machine. Run: python -m benchmarks.sql_source [--rows N] [--rounds N] [--profile FILE]
"""

import argparse
import cProfile
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import dagster as dg
import psycopg
import pyarrow.parquet as pq

from data_platform.definitions import build_defs
from data_platform.embedded_postgres import ensure_server
from data_platform.resources import Platform
from data_platform.settings import read_settings
from data_platform.warehouse.migrations import ready_warehouse

DAY = date(2024, 1, 5)
DATABASE = "SHOP_DATABASE_URL"
# What the platform asks for: the same for both sides.
QUERY = (
    "SELECT * FROM orders WHERE updated_at >= TIMESTAMP WITH TIME ZONE '2024-01-05 00:00:00+00:00'"
    " AND updated_at < TIMESTAMP WITH TIME ZONE '2024-01-06 00:00:00+00:00'"
)
TABLE = """
    CREATE TABLE orders AS
    SELECT
        'O' || lpad((n / 3)::text, 9, '0') AS order_id,
        (n % 3 + 1)::integer AS line_number,
        'C' || lpad((n * 7919 % 20000)::text, 7, '0') AS customer_id,
        'P' || lpad((n * 104729 % 2000)::text, 6, '0') AS product_id,
        (n * 31 % 7 + 1)::integer AS quantity,
        (n * 7907 % 100000 / 100.0)::numeric(18, 4) AS unit_price,
        (n * 13 % 10 / 10.0)::numeric(18, 4) AS discount_amount,
        timestamptz '2024-01-05 00:00+00' + n * (interval '86399 seconds' / {rows}) AS order_ts,
        CASE WHEN n % 50 = 0 THEN 'cancelled' ELSE 'completed' END AS status,
        timestamptz '2024-01-05 00:00+00' + n * (interval '86399 seconds' / {rows}) AS updated_at
    FROM generate_series(0::bigint, {rows}::bigint - 1) AS n
"""


def main() -> int:
    """Print the figures, and with --json write them; 1 if a side has lost a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", type=Path, help="write a profile of one more round of ours here, for pstats")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        return _measure(home, options)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _measure(home: Path, options: argparse.Namespace) -> int:
    url = ensure_server(home).url("warehouse")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE.format(rows=options.rows))
        connection.execute("VACUUM ANALYZE orders")
    os.environ[DATABASE] = url
    sources = home / "sources.yaml"
    sources.write_text(f"orders: {{sql: {{url: {DATABASE}, table: orders, window: updated_at}}}}\n")
    chosen = replace(read_settings({}), home=home, warehouse_url=url, lake_url=str(home / "lake"), sources_file=sources)
    ready_warehouse(chosen)
    platform = Platform.using(chosen)
    bare_file, ours_file = home / "bare.parquet", platform.lake.path("raw_orders", DAY)
    bare, ours = [], []
    for _ in range(options.rounds):
        bare.append(_timed(lambda: _bare(url, bare_file)))
        shutil.rmtree(home / "lake", ignore_errors=True)
        shutil.rmtree(home / "archive", ignore_errors=True)
        ours.append(_timed(lambda: _ours(platform)))
        found = [pq.read_metadata(path).num_rows for path in (bare_file, ours_file)]
        if found != [options.rows] * 2:
            print(f"The files have {found} rows of {options.rows}: no time counts.", file=sys.stderr)
            return 1
    if options.profile:
        shutil.rmtree(home / "lake")
        with cProfile.Profile() as profile:
            _ours(platform)
        profile.dump_stats(options.profile)
    figures = {
        "rows": options.rows,
        "bare_seconds": round(statistics.median(bare), 2),
        "ours_seconds": round(statistics.median(ours), 2),
        "ratio": round(statistics.median(ours) / statistics.median(bare), 2),
        "ratio_of_best": round(min(ours) / min(bare), 2),
        "rows_per_second": round(options.rows / statistics.median(ours)),
    }
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:>12,}")
    print(f"rounds, bare: {_listed(bare)}; ours: {_listed(ours)}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _bare(url: str, target: Path) -> None:
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(QUERY)
        reader = cursor.fetch_record_batch()
        with pq.ParquetWriter(target, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)


def _ours(platform: Platform) -> None:
    job = build_defs({"platform": platform}).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(
            partition_key=DAY.isoformat(), asset_selection=[dg.AssetKey("raw_orders")], instance=instance
        )


def _timed(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _listed(seconds: list[float]) -> str:
    return ", ".join(f"{one:.2f}" for one in seconds)


if __name__ == "__main__":
    sys.exit(main())
