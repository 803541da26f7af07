"""Frames to the lake and back: split by day, read by the type that is asked for, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import polars as pl
import pytest

from data_platform.io_managers import parquet
from data_platform.io_managers.parquet import LakeIOManager, LakePartitions
from data_platform.lake import Lake, Stamp
from data_platform.resources import Platform
from data_platform.settings import read_settings

DAILY = dg.DailyPartitionsDefinition("2024-01-01")
DAYS = [date(2024, 1, 5), date(2024, 1, 6), date(2024, 1, 7)]
RANGE = dg.PartitionKeyRange("2024-01-05", "2024-01-07")


@pytest.fixture
def manager(lake: Lake) -> LakeIOManager:
    return LakeIOManager(platform=Platform.using(replace(read_settings({}), lake_url=str(lake.root))))


def one(day: str = "2024-01-05") -> dg.PartitionKeyRange:
    return dg.PartitionKeyRange(day, day)


def write(manager: LakeIOManager, value: Any, span: dg.PartitionKeyRange = RANGE) -> None:
    about = {"asset_key": "visits", "asset_partitions_def": DAILY, "asset_partition_key_range": span}
    with dg.build_output_context(**about) as context:
        manager.handle_output(context, value)


def read(manager: LakeIOManager, kind: Any, span: dg.PartitionKeyRange = RANGE, asset: str = "visits") -> Any:
    wanted = dg.DagsterType(lambda _, __: True, name="Wanted", typing_type=kind)
    with dg.build_input_context(
        asset_key=dg.AssetKey(asset),
        asset_partitions_def=DAILY,
        asset_partition_key_range=span,
        dagster_type=wanted,
    ) as context:
        return manager.load_input(context)


def visits(*rows: tuple[date | None, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"dt": pl.Date, "visitors": pl.Int64}, orient="row")


# Writing


@pytest.mark.parametrize("lazy", [False, True], ids=["DataFrame", "LazyFrame"])
def test_a_range_is_split_by_day_and_a_day_without_rows_is_an_empty_file(
    manager: LakeIOManager, lake: Lake, lazy: bool
) -> None:
    frame = visits((DAYS[2], 3), (DAYS[0], 1), (DAYS[2], 4))
    write(manager, frame.lazy() if lazy else frame)
    assert lake.days("visits") == DAYS
    assert [lake.read("visits", day).to_dict(as_series=False) for day in DAYS] == [
        {"visitors": [1]},
        {"visitors": []},
        {"visitors": [3, 4]},
    ]
    assert [stamp.rows_delivered for stamp in lake.stamps("visits").values()] == [1, 0, 2]
    assert list((lake.root / "_aside").iterdir()) == []


def test_a_frame_of_one_day_needs_no_date_column(manager: LakeIOManager, lake: Lake) -> None:
    write(manager, pl.DataFrame({"visitors": [1]}), one())
    assert lake.read("visits", DAYS[0]).to_dict(as_series=False) == {"visitors": [1]}


def test_the_same_frame_again_leaves_the_files_as_they_are(manager: LakeIOManager, lake: Lake) -> None:
    write(manager, visits((DAYS[0], 1)))
    before = [lake.path("visits", day).stat() for day in DAYS]
    write(manager, visits((DAYS[0], 1)))
    after = [lake.path("visits", day).stat() for day in DAYS]
    assert [(one.st_ino, one.st_mtime_ns) for one in after] == [(one.st_ino, one.st_mtime_ns) for one in before]


def test_frames_with_nested_columns_are_written(manager: LakeIOManager, lake: Lake) -> None:
    write(manager, pl.DataFrame({"tags": [["a", "b"]], "at": [{"x": 1}]}), one())
    assert lake.read("visits", DAYS[0]).get_column("tags").to_list() == [["a", "b"]]


@pytest.mark.parametrize("stray", [date(2024, 1, 8), None], ids=["another day", "no day"])
def test_rows_outside_of_the_range_are_refused_and_nothing_is_written(
    manager: LakeIOManager, lake: Lake, stray: date | None
) -> None:
    with pytest.raises(dg.Failure) as caught:
        write(manager, visits((DAYS[0], 1), (stray, 2)))
    assert caught.value.description == (
        f"visits holds 1 rows of days outside of this run, such as {stray}: filter them out, or run those days as well."
    )
    assert caught.value.allow_retries is False
    assert lake.days("visits") == []


@pytest.mark.parametrize("frame", [
    pl.DataFrame({"visitors": [1]}), pl.DataFrame({"dt": ["2024-01-05"], "visitors": [1]}),
])  # fmt: skip
def test_a_range_needs_a_date_column(manager: LakeIOManager, frame: pl.DataFrame) -> None:
    with pytest.raises(dg.Failure, match="visits covers 3 days: give its frame a date column `dt` to be split by"):
        write(manager, frame)


@pytest.mark.parametrize("value", [None, 5, {"visitors": [1]}, pd.DataFrame({"visitors": [1]})])
def test_what_is_no_frame_of_polars_is_refused(manager: LakeIOManager, value: Any) -> None:
    with pytest.raises(dg.Failure, match=f"visits returned a {type(value).__name__}: the lake stores Polars frames"):
        write(manager, value)


# Reading


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame, pd.DataFrame, LakePartitions, Any])
def test_partitions_are_read_as_the_type_that_is_asked_for(manager: LakeIOManager, kind: Any) -> None:
    rows = visits((DAYS[0], 1), (DAYS[2], 3))
    write(manager, rows)
    found = read(manager, kind)
    assert isinstance(found, LakePartitions if kind is Any else kind)
    if isinstance(found, LakePartitions):
        found = found.scan()
    if isinstance(found, pd.DataFrame):
        found = pl.from_pandas(found).with_columns(pl.col("dt").cast(pl.Date))
    assert found.lazy().collect().select("dt", "visitors").equals(rows)


def test_only_the_partitions_that_are_asked_for_are_read(manager: LakeIOManager) -> None:
    write(manager, visits((DAYS[0], 1), (DAYS[2], 3)))
    assert read(manager, pl.DataFrame, one("2024-01-07")).get_column("visitors").to_list() == [3]


def test_a_partition_that_is_not_there_is_named_and_not_left_out(manager: LakeIOManager) -> None:
    write(manager, pl.DataFrame({"visitors": [1]}), one())
    with pytest.raises(dg.Failure, match="visits has no partition 2024-01-06: materialize visits for that day first"):
        read(manager, pl.DataFrame)


def deliver(lake: Lake, day: date, frame: pl.DataFrame, *, delivered: bool = True) -> None:
    stamp = Stamp(content=f"{day}{frame.columns}", delivered=delivered)
    lake.promote([lake.write_aside("raw_orders", day, frame, stamp)])


def test_days_without_a_delivery_are_no_obstacle_to_reading_a_range(manager: LakeIOManager, lake: Lake) -> None:
    deliver(lake, DAYS[0], pl.DataFrame(), delivered=False)
    deliver(lake, DAYS[1], pl.DataFrame({"order_id": ["o1"]}))
    deliver(lake, DAYS[2], pl.DataFrame(), delivered=False)
    found = read(manager, pl.DataFrame, asset="raw_orders")
    assert found.to_dict(as_series=False) == {"order_id": ["o1"], "dt": [DAYS[1]]}


def windows(lake: Lake, days: Sequence[date] = DAYS) -> list[tuple[list[date], dict[str, list[Any]]]]:
    partitions = LakePartitions(lake, "raw_orders", days)
    return [(found, frame.to_dict(as_series=False)) for found, frame in partitions.windows()]


def test_a_window_holds_neighbouring_deliveries_of_one_schema(lake: Lake) -> None:
    deliver(lake, DAYS[0], pl.DataFrame({"order_id": ["a"]}))
    deliver(lake, DAYS[1], pl.DataFrame({"order_id": ["b", "c"]}))
    deliver(lake, DAYS[2], pl.DataFrame({"order_id": [1]}))
    assert windows(lake) == [
        (DAYS[:2], {"order_id": ["a", "b", "c"], "_partition": [DAYS[0], DAYS[1], DAYS[1]]}),
        (DAYS[2:], {"order_id": [1], "_partition": [DAYS[2]]}),
    ]


def test_a_window_is_bounded_in_rows(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "WINDOW_ROWS", 3)
    for day in DAYS:
        deliver(lake, day, pl.DataFrame({"order_id": ["a", "b"]}))
    assert [days for days, _ in windows(lake)] == [[day] for day in DAYS]


def test_days_without_a_delivery_are_in_no_window_but_those_without_rows_are(lake: Lake) -> None:
    deliver(lake, DAYS[0], pl.DataFrame({"order_id": ["a"]}))
    deliver(lake, DAYS[1], pl.DataFrame(), delivered=False)
    deliver(lake, DAYS[2], pl.DataFrame(schema={"order_id": pl.String}))
    assert [days for days, _ in windows(lake)] == [[DAYS[0], DAYS[2]]]


# In runs


def test_assets_hand_frames_on_by_their_annotations_over_a_range(tmp_path: Path) -> None:
    platform = Platform.using(replace(read_settings({}), lake_url=str(tmp_path / "lake")))
    options: dict[str, Any] = {
        "io_manager_key": "lake", "partitions_def": DAILY, "backfill_policy": dg.BackfillPolicy.single_run()
    }  # fmt: skip

    @dg.asset(**options)
    def told() -> pl.DataFrame:
        return visits((DAYS[0], 1), (DAYS[2], 3))

    @dg.asset(**options)
    def doubled(told: pl.LazyFrame) -> pl.LazyFrame:
        return told.with_columns(pl.col("visitors") * 2)

    done = dg.materialize(
        [told, doubled],
        resources={"lake": LakeIOManager(platform=platform)},
        tags={"dagster/asset_partition_range_start": RANGE.start, "dagster/asset_partition_range_end": RANGE.end},
    )
    assert done.success
    assert platform.lake.scan("doubled", DAYS).collect().get_column("visitors").to_list() == [2, 6]
