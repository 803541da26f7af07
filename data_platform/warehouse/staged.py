"""Staging as the load engine reads it: tellings with the day they were delivered on."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.errors import PlatformError, PublishRefused
from data_platform.lake import Lake, LakePath, over_files, read_file, read_stamp, scan_files
from data_platform.warehouse.ledger import Work

LINEAGE = {"_moment": pl.Datetime("us", "UTC"), "_file": pl.String(), "_row": pl.Int64()}
# Where the day stands in the path of a partition, counted from its end.
DAY_AT = -len("YYYY-MM-DD/part.parquet")


def tellings(lake: Lake, work: Work, days: Sequence[date], ids: pl.Series | None = None) -> pl.LazyFrame:
    """The staged rows of `days` as a lazy scan, with _partition; of the keys `ids` alone where given."""
    paths = [lake.held(work.staged_asset, day, work.staged[day]) for day in days]
    if not paths:
        return pl.LazyFrame(schema={**_contract(work).polars_schema, **LINEAGE, "_partition": pl.Date()})
    # Neither glob nor hive: the lake may be below a folder named data[1] or a=b.
    rows = scan_files(
        paths,
        hive_partitioning=False,
        include_file_paths="_path",
        missing_columns="insert",
        extra_columns="ignore",
    )
    day = pl.col("_path").str.slice(DAY_AT, len("YYYY-MM-DD")).str.to_date("%Y-%m-%d")
    return _of_keys(rows.with_columns(_partition=day).drop("_path"), work, ids)


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

    def present(path: LakePath, day: date) -> pl.DataFrame:
        if not path.exists():
            raise PublishRefused(
                f"The rejected rows of {work.staged_asset}, {day}, are gone from the lake ({path.parent}), and "
                f"their keys decide what that delivery means: delete {lake.path(work.staged_asset, day)} and "
                f"materialize {work.staged_asset} for that day again."
            )
        found = read_file(path, [*(f"_{name}" for name in columns), "_file", "_row"])
        return found.rename({f"_{name}": name for name in columns}).with_columns(_partition=pl.lit(day))

    rejecting = [day for day in days if work.staged[day].rows_quarantined]
    paths = [lake.quarantine_path(work.staged_asset, day, work.staged[day]) for day in rejecting]
    frames = over_files(present, paths, rejecting)
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
        if stamp is None or stamp.content != entry.content or stamp.mode == "full":
            return None
        keys.append(read_file(path, [key]).to_series())
    return pl.concat(keys).unique()


def unchanged_since(lake: Lake, work: Work) -> bool:
    """Whether staging is still what `work` was found in: a staging run may have replaced a file while it was read."""
    return lake.stamps(work.staged_asset) == dict(work.staged)


def forget_formers(paths: Sequence[LakePath], work: Work) -> None:
    """Remove replaced files that the publish just committed has seen (`paths`, listed before it began)."""
    current = {stamp.content for stamp in work.staged.values()}
    seen = [path for path in paths if path.stem not in current]
    over_files(lambda path: path.unlink(missing_ok=True), seen)
