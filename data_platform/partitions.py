"""The daily partitions: one a delivery day, in the business time zone."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from data_platform.settings import settings

DAILY = dg.DailyPartitionsDefinition(start_date=settings().start_date.isoformat(), timezone=settings().timezone)


def days_of(keys: Sequence[str]) -> list[date]:
    """Partition keys as days."""
    return [date.fromisoformat(key) for key in keys]
