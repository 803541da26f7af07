"""A look at the platform as Prometheus' metrics: their names, and what each is of.

No label has more values than there are tables, jobs, rules' severities and the like: days and runs are in none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from importlib.metadata import version
from typing import Any, Literal

from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from data_platform.alerts.events import KINDS, SEVERITIES
from data_platform.monitoring.collect import Look, Part
from data_platform.monitoring.lag import STEPS
from data_platform.monitoring.lake import LakeFigures
from data_platform.monitoring.runs import ACTIVE, Runs
from data_platform.monitoring.stored import Stored
from data_platform.settings import Settings

Sample = tuple[str, tuple[str, ...], float]
# Of runs, in Dagster's words: all of them are given, so that a rule can tell none from unknown.
STATUSES = ("queued", "not_started", "starting", "started", "success", "failure", "canceling", "canceled")


@dataclass(frozen=True)
class Metric:
    """A metric; `name` without the prefix that all have. Where there is nothing to say there is no sample."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"

    @property
    def full_name(self) -> str:
        """As Prometheus has it."""
        return f"data_platform_{self.name}"


METRICS = (
    Metric("up", "1 where the warehouse was reached, has its schema and was read."),
    Metric("info", "1; the version and the business time zone are labels.", ("version", "timezone")),
    Metric("collected_timestamp_seconds", "When this was looked at: old where nobody writes the textfile any more."),
    Metric("scrape_duration_seconds", "How long the look took."),
    Metric("scrape_part_success", "1 where this part of the platform could be read, else 0.", ("part",)),
    Metric("scrape_part_duration_seconds", "How long reading this part took.", ("part",)),
    Metric("runs", "Runs in Dagster's storage, now, by status.", ("dagster_job", "status")),
    Metric("run_last_success_timestamp_seconds", "When a run of the job last succeeded.", ("dagster_job",)),
    Metric("run_last_failure_timestamp_seconds", "When a run of the job last failed.", ("dagster_job",)),
    Metric("run_last_duration_seconds", "How long the newest run took that has ended.", ("dagster_job",)),
    Metric(
        "run_oldest_active_timestamp_seconds", "Since when the oldest run waits or runs.", ("dagster_job", "status")
    ),
    Metric("daemon_last_heartbeat_timestamp_seconds", "When a part of Dagster's daemon last said so.", ("daemon",)),
    Metric("asset_last_materialization_timestamp_seconds", "When the table was last brought up to date.", ("asset",)),
    Metric("asset_last_step_duration_seconds", "How long that step took; tables of one step share it.", ("asset",)),
    Metric("asset_last_partition_rows", "Rows of the last partition that was written to the lake.", ("asset",)),
    Metric("asset_last_written_rows", "Rows that the last step changed in Postgres.", ("asset", "change")),
    Metric("asset_newest_partition_timestamp_seconds", "The start of the newest day with a delivery.", ("asset",)),
    Metric("asset_missing_partitions", "Days after it that should be there, up to yesterday.", ("asset",)),
    Metric("asset_lag_seconds", "How long the first of those days has been over; 0 where there is none.", ("asset",)),
    Metric("waiting_partitions", "Days that wait before a step.", ("entity", "step")),
    Metric("stale_mart_dates", "Order dates that the mart has yet to take in.", ("mart",)),
    Metric("publishes", "Partitions that were published, repetitions among them.", ("asset",), "counter"),
    Metric("published_rows", "Staged rows of those partitions.", ("asset",), "counter"),
    Metric("failing_checks", "Checks whose newest result failed.", ("asset", "severity")),
    Metric("open_alerts", "Alerts that are not over.", ("kind",)),
    Metric("quarantined_rows", "Rejected rows that wait.", ("entity",)),
    Metric("quarantine_oldest_timestamp_seconds", "The start of the day that the oldest came on.", ("entity",)),
    Metric("table_bytes", "A table's size, its indexes and partitions included.", ("schema", "table")),
    Metric("table_rows", "A table's rows, as Postgres estimates them.", ("schema", "table")),
    Metric("database_bytes", "A database's size.", ("database",)),
    Metric("lake_bytes", "Size of the Parquet files in a folder of the lake.", ("folder",)),
    Metric("lake_files", "Parquet files in a folder of the lake.", ("folder",)),
    Metric("disk_free_bytes", "What is free on the disk of DATA_PLATFORM_HOME, and of a lake elsewhere.", ("place",)),
    Metric("disk_size_bytes", "What that disk has for us in all.", ("place",)),
)  # fmt: skip


def families(look: Look, chosen: Settings) -> Iterator[Family]:
    """The metrics of a look, each with its samples; those without any are left out."""
    found: dict[str, list[tuple[tuple[str, ...], float]]] = {}
    for name, labels, value in samples(look, chosen):
        found.setdefault(name, []).append((labels, value))
    kinds: Mapping[str, Any] = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
    for metric in METRICS:
        if metric.name in found:
            family = kinds[metric.kind](metric.full_name, metric.help, labels=metric.labels)
            for labels, value in found[metric.name]:
                family.add_metric(labels, value)
            yield family


def samples(look: Look, chosen: Settings) -> Iterator[Sample]:
    """Every figure of a look, as name, labels and value. Of what could not be read there is none."""
    stored = look.stored_in.stored
    yield "up", (), float(stored is not None)
    yield "info", (version("data-platform"), chosen.timezone), 1
    yield "collected_timestamp_seconds", (), look.at.timestamp()
    yield "scrape_duration_seconds", (), look.seconds
    yield from _parts(look)
    if look.dagster.found is not None:
        yield from _of_runs(look.dagster.found)
    if stored is not None:
        yield from _of_warehouse(stored)
    if look.lake.found is not None:
        yield from _of_lake(look.lake.found, chosen)
    yield from _of_days(look, chosen)
    for disk in look.disks.found or ():
        yield "disk_free_bytes", (disk.place,), disk.free
        yield "disk_size_bytes", (disk.place,), disk.size


def _parts(look: Look) -> Iterator[Sample]:
    parts: dict[str, Part[Any]] = {
        "warehouse": replace(look.warehouse, why=look.stored_in.why),
        "dagster": look.dagster,
        "lake": look.lake,
        "landing": look.landing,
        "sources": look.sources,
        "disks": look.disks,
    }
    for name, part in parts.items():
        yield "scrape_part_success", (name,), float(not part.why)
        yield "scrape_part_duration_seconds", (name,), part.seconds


def _of_runs(runs: Runs) -> Iterator[Sample]:
    for job in runs.jobs:
        for status in dict.fromkeys((*STATUSES, *job.counts)):
            yield "runs", (job.name, status), job.counts.get(status, 0)
        if job.last_success:
            yield "run_last_success_timestamp_seconds", (job.name,), job.last_success.timestamp()
        if job.last_failure:
            yield "run_last_failure_timestamp_seconds", (job.name,), job.last_failure.timestamp()
        if job.last_seconds is not None:
            yield "run_last_duration_seconds", (job.name,), job.last_seconds
        for status in ACTIVE:
            if status in job.oldest:
                yield "run_oldest_active_timestamp_seconds", (job.name, status), job.oldest[status].timestamp()
    for daemon, beat in runs.heartbeats.items():
        yield "daemon_last_heartbeat_timestamp_seconds", (daemon,), beat.timestamp()
    for asset in runs.assets:
        yield "asset_last_materialization_timestamp_seconds", (asset.asset,), asset.finished_at.timestamp()
        if asset.seconds is not None:
            yield "asset_last_step_duration_seconds", (asset.asset,), asset.seconds
        if asset.rows is not None:
            yield "asset_last_partition_rows", (asset.asset,), asset.rows
        for change, rows in asset.written.items():
            yield "asset_last_written_rows", (asset.asset, change), rows
    if runs.database_bytes is not None:
        yield "database_bytes", ("dagster",), runs.database_bytes


def _of_warehouse(stored: Stored) -> Iterator[Sample]:
    for mart, dates in stored.stale_marts.items():
        yield "stale_mart_dates", (mart,), dates
    for asset, count in stored.publishes.items():
        yield "publishes", (asset,), count
        yield "published_rows", (asset,), stored.rows_published[asset]
    for asset in sorted(stored.judged):
        for severity in SEVERITIES:
            failing = sum((one.asset, one.severity) == (asset, severity) for one in stored.failing)
            yield "failing_checks", (asset, severity), failing
    for kind in KINDS:
        yield "open_alerts", (kind,), sum(alert.kind == kind for alert in stored.alerts)
    for table in stored.tables:
        yield "table_bytes", (table.schema, table.table), table.bytes
        if table.rows is not None:
            yield "table_rows", (table.schema, table.table), table.rows
    yield "database_bytes", ("warehouse",), stored.database_bytes


def _of_lake(lake: LakeFigures, chosen: Settings) -> Iterator[Sample]:
    for asset in lake.stamps:
        if not asset.startswith("stg_"):
            continue
        entity = asset.removeprefix("stg_")
        waiting = lake.quarantined(entity)
        yield "quarantined_rows", (entity,), sum(waiting.values())
        if waiting:
            yield "quarantine_oldest_timestamp_seconds", (entity,), _start(min(waiting), chosen)
    for folder, size in lake.bytes.items():
        yield "lake_bytes", (folder,), size
        yield "lake_files", (folder,), lake.files[folder]


def _of_days(look: Look, chosen: Settings) -> Iterator[Sample]:
    for entity, steps in look.waiting(chosen.start_date).items():
        for step in STEPS:
            days = steps[step]
            if days is not None:
                yield "waiting_partitions", (entity, step), len(days)
    for lag in look.lags(chosen, look.at.astimezone(chosen.zone).date()):
        if lag.newest is not None:
            yield "asset_newest_partition_timestamp_seconds", (lag.asset,), _start(lag.newest, chosen)
        yield "asset_missing_partitions", (lag.asset,), lag.missing
        yield "asset_lag_seconds", (lag.asset,), lag.seconds(look.at)


def _start(day: date, chosen: Settings) -> float:
    return datetime.combine(day, time(), chosen.zone).timestamp()
