"""When a business day begins: the one place that knows, for staging and for the load engine."""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import polars as pl

INSTANT = pl.Datetime("us", "UTC")


def start_of(day: date, timezone: str) -> datetime:
    """When `day` begins in the zone, in UTC; where daylight saving skips midnight, at what it skips to."""
    return datetime.combine(day, time(), ZoneInfo(timezone)).astimezone(UTC)


def starts_of(days: pl.Series, timezone: str) -> pl.Series:
    """`start_of` each of `days`."""
    distinct = days.unique()
    known = pl.DataFrame(
        {"day": distinct, "start": pl.Series([start_of(day, timezone) for day in distinct], dtype=INSTANT)}
    )
    return days.alias("day").to_frame().join(known, on="day", how="left", maintain_order="left").get_column("start")
