"""Where and how a table of the lake is written and read: one Parquet file a partition, any number in one run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
import pandas as pd
import polars as pl

from data_platform.errors import PlatformError
from data_platform.failures import explained
from data_platform.lake import DELETED, Draft, Lake, Stamp, content_hash, deleted
from data_platform.partitions import days_of
from data_platform.resources import Platform

# Bounds the memory of a long range: a window's rows are in memory at a time, whatever the number of days.
WINDOW_ROWS = 500_000


@dataclass(frozen=True)
class LakePartitions:
    """The partitions of an upstream table that a run asks for, not yet read."""

    lake: Lake
    asset: str
    days: Sequence[date]

    def stamps(self) -> dict[date, Stamp]:
        """What each partition says of itself; raises PlatformError where one is not there, or its rows are deleted."""
        stamps = self.lake.stamps(self.asset, self.days)
        for day in self.days:
            if day not in stamps:
                raise PlatformError(
                    f"{self.asset} has no partition {day}: materialize {self.asset} for that day first."
                )
        if gone := [day for day, stamp in stamps.items() if stamp.moved == DELETED and stamp.delivered]:
            raise deleted(self.asset, gone)
        return stamps

    def scan(self) -> pl.LazyFrame:
        """All partitions as one lazy scan, with the day as `dt`; they must agree in their columns.

        Raises PlatformError where a partition is not there. Days without a delivery have no rows, in raw no columns.
        """
        delivered = [day for day, stamp in self.stamps().items() if stamp.delivered]
        return self.lake.scan(self.asset, delivered or self.days)

    def windows(self) -> Iterator[tuple[list[date], pl.DataFrame]]:
        """Neighbouring partitions that agree in columns and types, as one frame with _partition, bounded in rows."""
        stamps = self.stamps()
        days: list[date] = []
        frames: list[pl.DataFrame] = []
        rows = 0
        delivered = [day for day in self.days if stamps[day].delivered]
        for day, frame in zip(delivered, self.lake.frames(self.asset, delivered), strict=True):
            if frames and (rows + frame.height > WINDOW_ROWS or frame.schema != frames[0].schema):
                yield days, _window(days, frames)
                days, frames, rows = [], [], 0
            days.append(day)
            frames.append(frame)
            rows += frame.height
        if frames:
            yield days, _window(days, frames)


def _window(days: Sequence[date], frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(
        [frame.with_columns(_partition=pl.lit(day, pl.Date)) for day, frame in zip(days, frames, strict=True)]
    )


class LakeIOManager(dg.ConfigurableIOManager):
    """Writes drafts (partitions written aside and judged) or plain frames; reads partitions by the asked type.

    A frame of a single partition is written as it is. A frame of a range has a date column `dt` and is split by it: a
    day without rows becomes an empty file, a row outside of the range is refused.
    """

    platform: dg.ResourceDependency[Platform]

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Promote drafts, or write a frame; see the class."""
        with explained():
            lake = self.platform.lake
            drafts = obj if isinstance(obj, list) else self._drafts(context, obj, lake)
            lake.promote(drafts)
            lake.discard([])

    def _drafts(self, context: dg.OutputContext, obj: Any, lake: Lake) -> list[Draft]:
        if not isinstance(obj, pl.DataFrame | pl.LazyFrame):
            raise PlatformError(
                f"{context.asset_key.path[-1]} returned a {type(obj).__name__}: the lake stores Polars frames."
            )
        frame = obj.collect() if isinstance(obj, pl.LazyFrame) else obj
        asset, days = context.asset_key.path[-1], days_of(context.asset_partition_keys)
        if len(days) == 1 and "dt" not in frame.columns:
            frame = frame.with_columns(dt=pl.lit(days[0], pl.Date))
        if frame.schema.get("dt") != pl.Date:
            raise PlatformError(f"{asset} covers {len(days)} days: give its frame a date column `dt` to be split by.")
        strays = frame.filter(~pl.col("dt").is_in(days).fill_null(False))
        if not strays.is_empty():
            raise PlatformError(
                f"{asset} holds {strays.height} rows of days outside of this run, such as {strays.item(0, 'dt')}: "
                "filter them out, or run those days as well."
            )
        parts = frame.partition_by("dt", as_dict=True, include_key=False)
        drafts = []
        for day in days:
            rows = parts.get((day,), frame.clear().drop("dt"))
            stamp = Stamp(content=content_hash([rows], {"asset": asset}), rows_delivered=rows.height)
            drafts.append(lake.write_aside(asset, day, rows, stamp))
        return drafts

    def load_input(self, context: dg.InputContext) -> Any:
        """The asked partitions as LakePartitions, or frames of Polars (also lazy) or pandas, by the annotation."""
        with explained():
            partitions = LakePartitions(
                self.platform.lake, context.asset_key.path[-1], days_of(context.asset_partition_keys)
            )
            wanted = context.dagster_type.typing_type
            if wanted is pl.LazyFrame:
                return partitions.scan()
            if wanted is pl.DataFrame:
                return partitions.scan().collect()
            if wanted is pd.DataFrame:
                return partitions.scan().collect().to_pandas()
            return partitions
