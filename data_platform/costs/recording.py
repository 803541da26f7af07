"""From the steps of a run to rows of platform.run_costs: a listener to the run's events, in the process of its steps.

It stops nothing: what cannot be written is logged. What it takes is an INSERT after a step, of all that was measured
since the last one: at most one in BATCH_SECONDS, and one at the run's end, so a run that is killed loses no more.
"""

import json
import logging
import resource
import sys
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from data_platform.contracts import MARTS, STAGED, WAREHOUSE
from data_platform.costs.metering import Meter, begin, end
from data_platform.days import days_between
from data_platform.errors import PlatformError
from data_platform.warehouse.connection import looking

if TYPE_CHECKING:
    from data_platform.resources import Platform

APPLICATION = "data-platform costs"
BATCH_SECONDS = 5.0
# One number for the measuring and writing of an asset's storage: growth is from one measurement to the next.
STORAGE_LOCK = 5_207_114_902_008
LAYERS: dict[str, str] = {
    **{f"raw_{entity}": "raw" for entity in STAGED},
    **{contract.table: "staging" for contract in STAGED.values()},
    **dict.fromkeys(WAREHOUSE, "warehouse"),
    **dict.fromkeys(MARTS, "marts"),
    "quality_report": "quality",
}
# Both fact tables are one step, and one publish, which goes by the name that it has in the ledger.
FACTS_STEP, FACTS = "facts", ("fact_sales", "fact_returns")
_OUTCOMES = {"STEP_SUCCESS": "succeeded", "STEP_FAILURE": "failed", "STEP_UP_FOR_RETRY": "retried"}
_ENDS = ("PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_CANCELED")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spent:
    """What one step took. `layer` is one of the assets' groups; `storage` are bytes in the lake, where it has any."""

    run_id: str
    step: str
    asset: str
    layer: str
    outcome: str
    started_at: datetime
    seconds: float
    cpu_seconds: float
    peak_memory: int
    meter: Meter
    days: tuple[date, ...]
    storage: int | None = None

    @property
    def rows(self) -> int:
        """All rows that it worked on."""
        return sum(self.meter.rows.values()) + self.meter.other_rows

    @property
    def tables(self) -> list[str]:
        """The tables of Postgres whose size is the asset's, with their schema; none of a step of checks."""
        if self.step == FACTS_STEP:
            return [f"warehouse.{table}" for table in FACTS]
        return (
            [f"{self.layer}.{self.asset}"] if self.step == self.asset and self.layer in ("warehouse", "marts") else []
        )


def watch_run(platform: "Platform", context: dg.InitResourceContext) -> None:
    """Have the steps of the context's run recorded, once however often it is asked for; outside of a run nothing."""
    if context.run is None or context.instance is None:
        return
    run = context.run
    with _lock:
        if run.run_id in _watched:
            return
        _watched.add(run.run_id)
    context.instance.add_event_listener(run.run_id, _Book(platform, run).see)


_watched: set[str] = set()
_lock = Lock()


class _Book:
    """What the steps of one run took, as far as they run in this process."""

    def __init__(self, platform: "Platform", run: dg.DagsterRun) -> None:
        self._platform, self._run_id, self._days = platform, run.run_id, _days(run)
        self._waiting: list[Spent] = []
        # A step in a process of its own is the last one there.
        alone = platform.settings.executor == "multiprocess"
        self._batch_seconds, self._written = 0.0 if alone else BATCH_SECONDS, time.monotonic()
        self._started: tuple[str, datetime, float, float, Meter] | None = None

    def see(self, entry: Any) -> None:
        """One event of the run; nothing that goes wrong here may end it."""
        event = entry.dagster_event
        if event is None:
            return
        try:
            self._see(event.event_type_value, event.step_key or "")
        except Exception as error:
            # Whatever it is, it may quote what it met.
            log.warning("What a step took was not recorded (%s).", type(error).__name__)

    def _see(self, kind: str, step: str) -> None:
        if kind in ("STEP_START", "STEP_RESTARTED"):
            self._started = step, datetime.now(UTC), time.perf_counter(), time.process_time(), begin()
        elif kind in _OUTCOMES and self._started is not None and self._started[0] == step:
            self._finish(step, _OUTCOMES[kind])
            if time.monotonic() - self._written >= self._batch_seconds:
                self._write()
        elif kind in _ENDS:
            self._write()
            with _lock:
                _watched.discard(self._run_id)

    def _finish(self, step: str, outcome: str) -> None:
        assert self._started is not None
        _, started_at, clock, cpu, meter = self._started
        seconds, cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu
        end()
        self._started = None
        asset = asset_of(step)
        layer = LAYERS.get(asset, "other")
        partitioned = step in (asset, FACTS_STEP) and layer in ("raw", "staging", "warehouse")
        days = sorted({*(self._days if partitioned else ()), *meter.rows})
        self._waiting.append(
            Spent(
                self._run_id, step, asset, layer, outcome, started_at, seconds, cpu_seconds, _peak_memory(), meter,
                tuple(days), self._lake_storage(asset, layer) if meter.files_written else None,
            )
        )  # fmt: skip

    def _lake_storage(self, asset: str, layer: str) -> int | None:
        return self._platform.lake.stored_bytes(asset) if layer in ("raw", "staging") else None

    def _write(self) -> None:
        spent, self._waiting = self._waiting, []
        self._written = time.monotonic()
        if not spent:
            return
        try:
            record(self._platform.warehouse_url, spent)
        except PlatformError as error:
            log.warning("What %d steps took was not recorded: %s", len(spent), error)


def asset_of(step: str) -> str:
    """The asset of a step: its own name as a rule, of checks beside an asset that of the table they are of."""
    if step == FACTS_STEP:
        return FACTS[0]
    return max((table for table in LAYERS if step.startswith(table)), key=len, default=step)


def _days(run: dg.DagsterRun) -> list[date]:
    key = run.tags.get(PARTITION_NAME_TAG)
    first, last = (run.tags.get(tag, key) for tag in (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG))
    if first is None or last is None:
        return []
    return list(days_between(date.fromisoformat(first), date.fromisoformat(last)))


def _peak_memory() -> int:
    """The most bytes that this process held at a time."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def record(url: str, spent: list[Spent]) -> None:
    """Append what steps took, with what their tables take up now; raises PlatformError where Postgres does not.

    Of several steps of an asset the last one has its storage, so that growth is not counted twice.
    """
    last = {one.asset: number for number, one in enumerate(spent) if one.tables or one.storage is not None}
    rows = [
        {
            "number": number,
            "run_id": one.run_id,
            "step": one.step,
            "asset": one.asset,
            "layer": one.layer,
            "outcome": one.outcome,
            "started_at": one.started_at.isoformat(),
            "seconds": one.seconds,
            "cpu_seconds": one.cpu_seconds,
            "peak_memory_bytes": one.peak_memory,
            "rows": one.rows,
            "rows_written": one.meter.rows_written,
            "bytes_read": one.meter.bytes_read,
            "bytes_written": one.meter.bytes_written,
            "partition_dates": [day.isoformat() for day in one.days],
            "partition_rows": [one.meter.rows.get(day, 0) for day in one.days],
            "tables": one.tables if last.get(one.asset) == number else [],
            "storage": one.storage if last.get(one.asset) == number else None,
        }
        for number, one in enumerate(spent)
    ]
    with looking(url, application=APPLICATION) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [STORAGE_LOCK])
        connection.execute(_INSERT, [json.dumps(rows)])


# One statement, whatever the number of steps. A partitioned table has its size in its partitions; pg_partition_tree
# knows nothing of one that is not partitioned.
_INSERT = """
    INSERT INTO platform.run_costs (
        run_id, step, asset, layer, outcome, started_at, seconds, cpu_seconds, peak_memory_bytes,
        rows, rows_written, bytes_read, bytes_written, storage_bytes, storage_growth_bytes,
        partition_dates, partition_rows
    )
    SELECT
        s.run_id, s.step, s.asset, s.layer, s.outcome, s.started_at, s.seconds, s.cpu_seconds, s.peak_memory_bytes,
        s.rows, s.rows_written, s.bytes_read, s.bytes_written,
        now.bytes,
        now.bytes - coalesce(
            (
                SELECT former.storage_bytes
                FROM platform.run_costs AS former
                WHERE former.asset = s.asset AND former.storage_bytes IS NOT NULL
                ORDER BY former.cost_id DESC
                LIMIT 1
            ),
            0
        ),
        s.partition_dates, s.partition_rows
    FROM jsonb_to_recordset(%s) AS s (
        number integer, run_id text, step text, asset text, layer text, outcome text, started_at timestamptz,
        seconds numeric, cpu_seconds numeric, peak_memory_bytes bigint, rows bigint, rows_written bigint,
        bytes_read bigint, bytes_written bigint, partition_dates date [], partition_rows bigint [], tables text [],
        storage bigint
    )
    CROSS JOIN LATERAL (
        SELECT coalesce(
            s.storage,
            (
                SELECT sum(
                    pg_total_relation_size(name::regclass) + coalesce(
                        (
                            SELECT sum(pg_total_relation_size(relid))
                            FROM pg_partition_tree(name::regclass)
                            WHERE level > 0
                        ),
                        0
                    )
                )::bigint
                FROM unnest(s.tables) AS name
            )
        ) AS bytes
    ) AS now
    ORDER BY s.number
    """
