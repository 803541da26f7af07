"""Steps that never ran, with figures that a test can add up by hand."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from data_platform.costs.spending import Spending, Step, Storage

GB = 10**9


def step(asset: str = "raw_orders", day: date = date(2026, 1, 10), **values: Any) -> Step:
    """An hour of wall clock, a quarter of an hour of CPU, over a million rows; its name is the asset's."""
    layers = {"raw": "raw", "stg": "staging", "mart": "marts"}
    figures: dict[str, Any] = {
        "run_id": "run-1",
        "step": asset,
        "asset": asset,
        "layer": layers.get(asset.partition("_")[0], "warehouse"),
        "outcome": "succeeded",
        "day": day,
        "seconds": Decimal(3600),
        "cpu_seconds": Decimal(900),
        "peak_memory": 10**8,
        "rows": 1_000_000,
        "rows_written": 1_000_000,
        "bytes_read": 2 * GB,
        "bytes_written": GB,
        "growth": 0,
        "partitions": 1,
    }
    return Step(**(figures | values))


def stored(asset: str, sizes: dict[date, int]) -> Storage:
    """What an asset takes up from each of the days on."""
    return Storage(asset, step(asset).layer, sizes)


def spending(*parts: Step | Storage) -> Spending:
    """All of it."""
    return Spending(
        [part for part in parts if isinstance(part, Step)], [part for part in parts if isinstance(part, Storage)]
    )


def noon(day: date) -> datetime:
    """A moment in UTC."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
