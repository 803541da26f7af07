"""Staging as the load engine reads it: tellings with the day they were delivered on."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import polars as pl

from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.errors import PlatformError, PublishRefused
from data_platform.lake import Lake, read_stamp
from data_platform.warehouse.ledger import Work

HIVE = {"dt": pl.Date}
LINEAGE = {"_moment": pl.Datetime("us", "UTC"), "_file": pl.String(), "_row": pl.Int64()}


def tellings(lake: Lake, work: Work, days: Sequence[date], ids: pl.Series | None = None) -> pl.LazyFrame:
    """The staged rows of `days` as a lazy scan, with _partition; of the keys `ids` alone where given."""
    paths = [lake.path(work.staged_asset, day) for day in days]
    rows = (
        # No glob: a folder may be named data[1].
        pl.scan_parquet(paths, hive_schema=HIVE, missing_columns="insert", extra_columns="ignore", glob=False)
        if paths
        else pl.LazyFrame(schema={**_contract(work).polars_schema, **LINEAGE, **HIVE})
    )
    return _of_keys(rows.rename({"dt": "_partition"}), work, ids)


def _contract(work: Work) -> Contract:
    return next(contract for contract in STAGED.values() if contract.table == work.staged_asset)


def _of_keys(rows: pl.LazyFrame, work: Work, ids: pl.Series | None) -> pl.LazyFrame:
    return rows if ids is None else rows.filter(pl.col(key_of(work)).is_in(ids.implode()))


def key_of(work: Work) -> str:
    """The natural key that the staged rows of `work` are re-derived by: a whole order, a member."""
    return _contract(work).key[0]


def presences(
    lake: Lake, work: Work, days: Sequence[date], columns: Sequence[str], ids: pl.Series | None = None
) -> pl.DataFrame:
    """The keys of quarantined rows (`columns`, _partition, _file, _row): they say nothing, yet count as present.

    Raises PublishRefused where the lake has lost them.
    """
    frames = []
    for day in days:
        if work.staged[day].rows_quarantined:
            path = lake.quarantine_path(work.staged_asset, day, work.staged[day])
            if not path.exists():
                raise PublishRefused(
                    f"The rejected rows of {work.staged_asset}, {day}, are gone from the lake ({path.parent}), and their "
                    f"keys decide what that delivery means: delete {lake.path(work.staged_asset, day)} and materialize "
                    f"{work.staged_asset} for that day again."
                )
            found = pl.read_parquet(path, columns=[*(f"_{name}" for name in columns), "_file", "_row"], glob=False)
            frames.append(found.rename({f"_{name}": name for name in columns}).with_columns(_partition=pl.lit(day)))
    if not frames:
        kinds = {name: _contract(work).columns[name].dtype for name in columns}
        return pl.DataFrame(schema={**kinds, "_file": pl.String(), "_row": pl.Int64(), "_partition": pl.Date()})
    rows = pl.concat(frames).drop_nulls(list(columns))
    return rows if ids is None else rows.filter(pl.col(columns[0]).is_in(ids.implode()))


def former_keys(lake: Lake, work: Work) -> pl.Series | None:
    """The keys that replaced partitions told of when they were published; None where it may be all of them.

    That is so where a replaced file is gone, and where it was a full delivery: those speak of absent keys, too.
    """
    key = key_of(work)
    keys = [pl.Series(key, [], dtype=pl.String)]
    for day in work.changed:
        entry = work.published.get(day)
        if entry is None:
            continue
        path = lake.former_path(work.staged_asset, day, entry.content)
        try:
            stamp = read_stamp(path)
        except PlatformError:
            return None  # broken is as good as gone
        if stamp is None or stamp.mode == "full":
            return None
        keys.append(pl.read_parquet(path, columns=[key], glob=False).to_series())
    return pl.concat(keys).unique()


def unchanged_since(lake: Lake, work: Work) -> bool:
    """Whether staging is still what `work` was found in: a staging run may have replaced a file while it was read."""
    return lake.stamps(work.staged_asset) == dict(work.staged)


def forget_formers(paths: Sequence[Path], work: Work) -> None:
    """Remove replaced files that the publish just committed has seen (`paths`, listed before it began)."""
    current = {stamp.content for stamp in work.staged.values()}
    for path in paths:
        if path.stem not in current:
            path.unlink(missing_ok=True)
