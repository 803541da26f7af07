"""What the quality report is made from: everything that the platform remembers, read once, judged nowhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import compress
from zoneinfo import ZoneInfo

import polars as pl
import psycopg
from psycopg import sql

from data_platform.commands import figures
from data_platform.contracts import STAGED
from data_platform.errors import PlatformError
from data_platform.lake import Lake, Stamp, over_files, scan_files
from data_platform.quality.history import MOMENTS, SCHEMA, newest_results, read_profiles
from data_platform.quality.profiles import Profile
from data_platform.sources.landing import landed_days
from data_platform.warehouse.connection import connected
from data_platform.warehouse.copying import copy_out
from data_platform.warehouse.ledger import LINE_CLASSES, TELLING_CLASSES

RESULTS = pl.Schema({**SCHEMA, **MOMENTS})
_COUNTED = ("rows_delivered", "rows_staged", "rows_quarantined", "rows_duplicate", *LINE_CLASSES.values(),
            *TELLING_CLASSES.values())  # fmt: skip
LEDGER = pl.Schema(
    {
        "asset": pl.String(),
        "partition_date": pl.Date(),
        "run_id": pl.String(),
        **dict.fromkeys(_COUNTED, pl.Int64()),
        "sum_quantity": pl.Decimal(38, 4),
        "sum_total_amount": pl.Decimal(38, 4),
        "finished_at": pl.Datetime("us", "UTC"),
    }
)
QUARANTINE = pl.Schema(
    {"entity": pl.String(), "partition_date": pl.Date(), "file": pl.String(), "reasons": pl.List(pl.String())}
)


@dataclass(frozen=True)
class Memory:
    """What is remembered at `now` (business time zone).

    `results`: RESULTS, the newest of each check and partition. `ledger`: LEDGER, the newest entry of each partition.
    `quarantine`: QUARANTINE, one row per rejected row that waits, without any of its values. `profiles` by table and
    day. `stamps` by lake asset and day. `landed`: the days in the landing folder by entity, None where it cannot be
    listed. `waiting`: as `figures.waiting`. `described`, `undescribed`: how many members of each dimension
    deliveries describe, and how many are known by facts alone.
    """

    now: datetime
    start: date
    results: pl.DataFrame
    ledger: pl.DataFrame
    quarantine: pl.DataFrame
    profiles: Mapping[str, Mapping[date, Profile]]
    stamps: Mapping[str, Mapping[date, Stamp]]
    waiting: Mapping[str, Mapping[str, Sequence[date] | None]]
    rows: Mapping[str, int]
    described: Mapping[str, int]
    undescribed: Mapping[str, int]
    stale_marts: Mapping[str, int]
    last_load: figures.Load | None

    @property
    def partitions(self) -> list[date]:
        """Every partition that is staged or was checked, in order."""
        days = {day for entity in STAGED for day in self.stamps[f"stg_{entity}"]}
        return sorted(days | set(self.results.get_column("partition_date").drop_nulls()))


def read(url: str, lake: Lake, landing_url: str, *, start_date: date, timezone: str) -> Memory:
    """Everything that is remembered, in one transaction. Raises DatabaseUnavailable or PlatformError."""
    stamps = figures.lake_stamps(lake)
    with connected(url, application="data-platform report", writes=False) as connection:
        # One picture: a publish that commits meanwhile is in all figures or in none.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return Memory(
            now=datetime.now(ZoneInfo(timezone)),
            start=start_date,
            results=newest_results(connection),
            ledger=_ledger(connection),
            quarantine=_quarantine(lake, stamps),
            profiles={contract.table: read_profiles(connection, contract.table) for contract in STAGED.values()},
            stamps=stamps,
            waiting=figures.waiting(stamps, _landed(landing_url), figures.published_days(connection), start_date),
            rows=figures.rows_per_table(connection),
            described=_members(connection, inferred=False),
            undescribed=_members(connection, inferred=True),
            stale_marts=figures.stale_marts(connection),
            last_load=figures.last_load(connection),
        )


def _ledger(connection: psycopg.Connection) -> pl.DataFrame:
    query = sql.SQL(
        """
        SELECT DISTINCT ON (asset, partition_date) {columns}
        FROM platform.load_ledger
        ORDER BY asset, partition_date, load_id DESC
        """
    )
    return copy_out(connection, query.format(columns=sql.SQL(", ").join(map(sql.Identifier, LEDGER))), LEDGER)


def _members(connection: psycopg.Connection, *, inferred: bool) -> dict[str, int]:
    rows = connection.execute(
        """
        SELECT 'dim_customer', count(DISTINCT customer_id)
        FROM warehouse.dim_customer
        WHERE is_inferred = %(inferred)s AND customer_key <> -1
        UNION ALL
        SELECT 'dim_product', count(DISTINCT product_id)
        FROM warehouse.dim_product
        WHERE is_inferred = %(inferred)s AND product_key <> -1
        """,
        {"inferred": inferred},
    )
    return dict(rows.fetchall())


def _landed(landing_url: str) -> dict[str, list[date]] | None:
    try:
        return {entity: landed_days(landing_url, entity) for entity in figures.PUBLISHED.values()}
    except PlatformError:
        return None


def _quarantine(lake: Lake, stamps: Mapping[str, Mapping[date, Stamp]]) -> pl.DataFrame:
    """Only where rows came from and why they wait: the columns as delivered are not even read."""
    found = [QUARANTINE.to_frame().lazy()]
    for entity, contract in STAGED.items():
        rejecting = [day for day, stamp in stamps[contract.table].items() if stamp.rows_quarantined]
        paths = [lake.quarantine_path(contract.table, day, stamps[contract.table][day]) for day in rejecting]
        there = over_files(lambda path: path.exists(), paths)
        for day, path in compress(zip(rejecting, paths, strict=True), there):
            rows = scan_files([path], hive_partitioning=False)
            found.append(
                rows.select(
                    entity=pl.lit(entity), partition_date=pl.lit(day), file=pl.col("_file"), reasons=pl.col("_reasons")
                )
            )
    return pl.concat(pl.collect_all(found))


def age(memory: Memory, day: date) -> int:
    """How many days ago `day` was, in the business time zone."""
    return (memory.now.date() - day).days


def moment(memory: Memory, instant: datetime) -> str:
    """An instant as people read it, in the business time zone."""
    return f"{instant.replace(tzinfo=instant.tzinfo or UTC).astimezone(memory.now.tzinfo):%Y-%m-%d %H:%M %Z}"
