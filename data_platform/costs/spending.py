"""What platform.run_costs remembers: steps with what they took, and how much the assets took up on which day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import psycopg


@dataclass(frozen=True)
class Step:
    """One step of a run. `day` is the business day on which it started; `growth` is in bytes, as all sizes are."""

    run_id: str
    step: str
    asset: str
    layer: str
    outcome: str
    day: date
    seconds: Decimal
    cpu_seconds: Decimal
    peak_memory: int
    rows: int
    rows_written: int
    bytes_read: int
    bytes_written: int
    growth: int
    partitions: int


@dataclass(frozen=True)
class Storage:
    """What an asset takes up: at the end of each business day on which it was measured, in their order."""

    asset: str
    layer: str
    sizes: Mapping[date, int]


@dataclass(frozen=True)
class Spending:
    """All steps that started in a period, in their order, and all storage up to its end."""

    steps: Sequence[Step]
    storage: Sequence[Storage]

    @property
    def first_day(self) -> date | None:
        """The first day of which there is a step."""
        return min((step.day for step in self.steps), default=None)


def is_measured(connection: psycopg.Connection) -> bool:
    """Whether the warehouse has a place for costs: one that an older version made has none before the next run."""
    return connection.execute("SELECT to_regclass('platform.run_costs') IS NOT NULL").fetchone() == (True,)


def read_spending(
    connection: psycopg.Connection, timezone: str, *, first: date = date(1, 1, 1), last: date = date(9999, 1, 1)
) -> Spending:
    """What the steps from `first` to `last` took (business days), and what was stored up to `last`."""
    rows = connection.execute(
        """
        SELECT
            run_id, step, asset, layer, outcome, (started_at AT TIME ZONE %(zone)s)::date AS day, seconds, cpu_seconds,
            peak_memory_bytes, rows, rows_written, bytes_read, bytes_written, coalesce(storage_growth_bytes, 0),
            cardinality(partition_dates)
        FROM platform.run_costs
        WHERE (started_at AT TIME ZONE %(zone)s)::date BETWEEN %(first)s AND %(last)s
        ORDER BY cost_id
        """,
        {"zone": timezone, "first": first, "last": last},
    ).fetchall()
    sizes = connection.execute(
        """
        SELECT DISTINCT ON (asset, day) asset, layer, (started_at AT TIME ZONE %(zone)s)::date AS day, storage_bytes
        FROM platform.run_costs
        WHERE storage_bytes IS NOT NULL AND (started_at AT TIME ZONE %(zone)s)::date <= %(last)s
        ORDER BY asset, day, cost_id DESC
        """,
        {"zone": timezone, "last": last},
    ).fetchall()
    found: dict[tuple[str, str], dict[date, int]] = {}
    for asset, layer, day, size in sizes:
        found.setdefault((asset, layer), {})[day] = size
    return Spending([Step(*row) for row in rows], [Storage(*key, by_day) for key, by_day in found.items()])
