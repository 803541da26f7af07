"""Observations of a dimension's members → versions (SCD type 2, daily grain). Pure: frames in, frames out.

The rules are the section Dimensions of the warehouse semantics. An observation is one staged row, a deletion that
the absence from a full delivery tells, or a version that stands in the table and speaks for what made it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

# Some systems say "never" by the first instant there is: its day is no day in zones west of Greenwich, begins before
# time in those east of it, and marks the inferred members.
EARLIEST = date(1, 1, 2)
ORDER_OF_TRUTH = ("_moment", "_partition", "_file", "_row")


@dataclass(frozen=True)
class Versions:
    """`rows`: id, attributes, effective_from, effective_to, is_current. `classes`: one row per observation.

    `classes` has _partition and class: version (starts one), repeat, replaced (by a later one of the same day) or
    deletion.
    """

    rows: pl.DataFrame
    classes: pl.DataFrame


def versions_of(
    observations: pl.DataFrame,
    *,
    key: str,
    tracked: Sequence[str],
    overwritten: Sequence[str] = (),
    unknown: Mapping[str, Collection[date]],
    timezone: str,
) -> Versions:
    """The versions that `observations` make.

    Columns in: `key`, the attributes, is_deleted, _moment (UTC), _partition (date), _file, _row. `unknown` names for
    each attribute the partitions whose delivery lacked the column as a whole: there it is filled from the key's
    observations before, then after.
    """
    attributes = [*tracked, *overwritten]
    date_of_moment = pl.col("_moment").dt.convert_time_zone(timezone).dt.date()
    seen = observations.sort(key, *ORDER_OF_TRUTH).with_columns(
        _effective=pl.max_horizontal(date_of_moment, pl.lit(EARLIEST))
    )
    for name in attributes:
        if unknown.get(name):
            seen = _fill_unknown(seen, key, name, unknown[name])
    for name in overwritten:
        latest = pl.col(name).filter(~pl.col("is_deleted")).last().over(key)
        seen = seen.with_columns(latest.alias(name))

    next_is_same_day = (pl.col(key).shift(-1) == pl.col(key)) & (pl.col("_effective").shift(-1) == pl.col("_effective"))
    seen = seen.with_columns(_last_of_day=~next_is_same_day.fill_null(False)).with_row_index("_observation")
    daily = seen.filter("_last_of_day")
    follows = (pl.col(key) == pl.col(key).shift(1)).fill_null(False)
    after_deletion = pl.col("is_deleted").shift(1).fill_null(False)
    equal = pl.all_horizontal([pl.col(name).eq_missing(pl.col(name).shift(1)) for name in tracked] or [pl.lit(True)])
    daily = daily.with_columns(
        _starts=~pl.col("is_deleted") & (~follows | after_deletion | ~equal),
        _closes=pl.col("is_deleted") & follows & ~after_deletion,
    )
    bounds = daily.filter(pl.col("_starts") | pl.col("_closes"))
    next_bound = pl.when(pl.col(key).shift(-1) == pl.col(key)).then(pl.col("_effective").shift(-1))
    rows = (
        bounds.with_columns(effective_from=pl.col("_effective"), effective_to=next_bound)
        .filter("_starts")
        .with_columns(is_current=pl.col("effective_to").is_null())
        .select(key, *attributes, "effective_from", "effective_to", "is_current")
    )
    starting = daily.filter("_starts").get_column("_observation").implode()
    classes = seen.select(
        "_partition",
        pl.when("is_deleted")
        .then(pl.lit("deletion"))
        .when(~pl.col("_last_of_day"))
        .then(pl.lit("replaced"))
        .when(pl.col("_observation").is_in(starting))
        .then(pl.lit("version"))
        .otherwise(pl.lit("repeat"))
        .alias("class"),
        "_row",
    )
    return Versions(rows=rows, classes=classes)


def _fill_unknown(seen: pl.DataFrame, key: str, name: str, partitions: Collection[date]) -> pl.DataFrame:
    # A null that was delivered is a value, an unknown is not: the struct keeps the two apart while filling.
    known = ~pl.col("_partition").is_in(list(partitions)) & ~pl.col("is_deleted")
    told = pl.when(known).then(pl.struct(pl.col(name).alias("value")))
    filled = told.forward_fill().backward_fill().over(key)
    return seen.with_columns(filled.struct.field("value").alias(name))


def absences(present: pl.DataFrame, *, key: str, full_days: Sequence[date], every: bool) -> pl.DataFrame:
    """Deletions that full deliveries tell by leaving out a key known from an earlier day: `key`, _partition.

    `present`: `key`, _partition, observed (false: the row was quarantined and only counts as present). With `every`
    each full day without the key is told, which matters where other deliveries put observations between them;
    otherwise the first after each presence, the others repeat it.
    """
    days = pl.DataFrame({"_day": sorted(full_days)}, schema={"_day": pl.Date})
    known = present.filter("observed").group_by(key).agg(_known=pl.col("_partition").min())
    spans = (
        present.select(key, "_partition")
        .unique()
        .join(known, on=key)
        .filter(pl.col("_partition") >= pl.col("_known"))
        .sort(key, "_partition")
        .with_columns(
            _next=pl.when(pl.col(key).shift(-1) == pl.col(key)).then(pl.col("_partition").shift(-1)).otherwise(date.max)
        )
    )
    after = (pl.col("_day") > pl.col("_partition")) & (pl.col("_day") < pl.col("_next"))
    if every:
        told = spans.join_where(days, pl.col("_day") > pl.col("_partition"), pl.col("_day") < pl.col("_next"))
    else:
        told = (
            spans.with_columns(_after=pl.col("_partition") + pl.duration(days=1))
            .sort("_after")
            .join_asof(days.sort("_day"), left_on="_after", right_on="_day", strategy="forward", coalesce=False)
            .filter(after)
        )
    return told.select(key, pl.col("_day").alias("_partition"))


def told_again(
    fresh: pl.DataFrame, before: pl.DataFrame, *, key: str, attributes: Sequence[str]
) -> tuple[pl.Series, pl.Series]:
    """Which rows of two deliveries are their member's only ones in each, no deletions, and say the same: two masks."""
    columns = [key, *attributes, "is_deleted"]
    fresh, before = fresh.select(columns), before.select(columns)
    # Sources deliver in much the same order: most rows are found at their place of before, without a join.
    in_place = _told_in_place(fresh, before, key, attributes)
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_before")) for name in attributes)

    def single(rows: pl.DataFrame, name: str) -> pl.LazyFrame:
        # Before the join: thousands of rows may share a placeholder for an id.
        only = ~pl.col(key).is_duplicated() & ~pl.col("is_deleted")
        apart = rows.with_row_index(name).filter(~_mask(rows.height, in_place))
        return apart.lazy().filter(only).drop("is_deleted")

    pairs = (
        single(fresh, "_fresh")
        .join(single(before, "_before"), on=key, suffix="_before")
        .filter(same)
        .select("_fresh", "_before")
        .collect()
    )
    return (
        _mask(fresh.height, pl.concat([in_place, pairs["_fresh"]])),
        _mask(before.height, pl.concat([in_place, pairs["_before"]])),
    )


def _told_in_place(fresh: pl.DataFrame, before: pl.DataFrame, key: str, attributes: Sequence[str]) -> pl.Series:
    """The places at which both deliveries have the same row, of a member that has no other row in either."""
    places = min(fresh.height, before.height)
    here, there = fresh.head(places), before.head(places)
    same = ~here["is_deleted"] & ~there["is_deleted"]
    for name in (key, *attributes):
        same &= here[name].eq_missing(there[name])
    same = same.fill_null(False)
    keys = here.get_column(key).filter(same)
    others = [rows.get_column(key).filter(~_mask(rows.height, same.arg_true())) for rows in (fresh, before)]
    if keys.n_unique() < len(keys):
        others.append(keys.filter(keys.is_duplicated()))
    return same.arg_true().filter(~keys.is_in(pl.concat(others).implode()))


def _mask(height: int, positions: pl.Series) -> pl.Series:
    return pl.repeat(False, height, eager=True).scatter(positions, True)
