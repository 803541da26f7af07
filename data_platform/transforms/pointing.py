"""Which version of a member a fact points at. Pure: frames in, frames out."""

from datetime import date

import polars as pl

BEFORE_ALL = date(1, 1, 1)


def point(facts: pl.DataFrame, versions: pl.DataFrame, *, key: str) -> pl.DataFrame:
    """`facts` with the columns of the version that each points at; no match gives nulls.

    A fact points at the last version of its `key` that starts on or before its `_order_date`, ended or not; else at
    the first version. `versions` has `key`, effective_from and what the caller wants to get.
    """
    first = pl.col("effective_from") == pl.col("effective_from").min().over(key)
    spans = versions.with_columns(pl.when(first).then(pl.lit(BEFORE_ALL)).otherwise("effective_from").alias("_from"))
    # Two narrow columns are sorted there and back, not the facts.
    pointed = (
        facts.select(key, "_order_date")
        .with_row_index("_position")
        .sort("_order_date")
        .join_asof(
            spans.drop("effective_from").sort("_from"),
            left_on="_order_date",
            right_on="_from",
            by=key,
            strategy="backward",
            check_sortedness=False,
        )
        .sort("_position")
        .drop("_position", "_from", key, "_order_date")
    )
    return facts.hstack(pointed)
