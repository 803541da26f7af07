"""The demo shop's dirt: rows that a source got wrong in one column and that the platform has to quarantine.

Only faults that the law of the warehouse quarantines for certain belong here.
"""

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from data_platform.datasets.landing_files import FileFormat

# A delivery is rejected above 5 % and from 10 rows on: where it has few rows, 9 may be dirty whatever their share.
_HIGHEST_SHARE = 0.04
_ALWAYS_TAKEN = 9


def _nothing(column: str) -> pl.Expr:
    return pl.lit(None).alias(column)


def _overlong(column: str) -> pl.Expr:
    return pl.col(column) + "X" * 200


def _far_ahead(column: str) -> pl.Expr:
    return pl.datetime(2204, 1, 1, 6).alias(column)


def _written(text: str, column: str) -> pl.Expr:
    return pl.lit(text).alias(column)


# Fault by fault what a typed file carries and, in the same place, what a text file carries, where all is text. The
# rows that are dirty are the same in both.
_TYPED_FAULTS = {
    "orders": (
        _nothing("order_id"),
        _overlong("order_id"),
        _nothing("line_number"),
        _nothing("product_id"),
        _nothing("quantity"),
        -pl.col("unit_price"),
        -pl.col("unit_price"),
        _far_ahead("order_ts"),
        _far_ahead("order_ts"),
        _far_ahead("updated_at"),
    ),
    "products": (
        _nothing("product_id"),
        _overlong("product_id"),
        _far_ahead("updated_at"),
        _far_ahead("updated_at"),
    ),
    "customers": (
        _nothing("customer_id"),
        _overlong("customer_id"),
        _far_ahead("updated_at"),
        _far_ahead("updated_at"),
    ),
}
_TEXT_FAULTS = {
    "orders": (
        _nothing("order_id"),
        _overlong("order_id"),
        _nothing("line_number"),
        _nothing("product_id"),
        _written("three", "quantity"),
        (pl.lit("-") + pl.col("unit_price")).alias("unit_price"),
        _written("12.9O", "unit_price"),
        _written("0000-00-00 00:00:00", "order_ts"),
        _written("2204-01-01 06:00:00", "order_ts"),
        _written("2204-01-01 06:00:00", "updated_at"),
    ),
    "products": (
        _nothing("product_id"),
        _overlong("product_id"),
        _written("on request", "unit_price"),
        _written("2204-01-01 06:00:00", "updated_at"),
    ),
    "customers": (
        _nothing("customer_id"),
        _overlong("customer_id"),
        _written("31.02.2023", "created_date"),
        _written("2204-01-01 06:00:00", "updated_at"),
    ),
}


def most_dirt(rows: int) -> int:
    """How many of a delivery's rows may be dirty without the delivery being rejected."""
    return max(_ALWAYS_TAKEN, int(rows * _HIGHEST_SHARE))


def pick_faults(rng: np.random.Generator, entity: str, rows: int) -> NDArray[np.int8]:
    """A fault for each of `rows` rows of the entity, counted from 1: 0 is for clean rows."""
    return rng.integers(1, len(_TYPED_FAULTS[entity]) + 1, rows, dtype=np.int8)


def soil(delivery: pl.DataFrame, entity: str, file_format: FileFormat) -> pl.DataFrame:
    """The delivery with the faults that its column `fault` names, and without that column; as text for a text file."""
    frame, faults = delivery, _TYPED_FAULTS[entity]
    if file_format == "csv":
        faults = _TEXT_FAULTS[entity]
        frame = frame.with_columns(
            cs.datetime().dt.strftime("%Y-%m-%d %H:%M:%S"), (cs.numeric() | cs.date()).exclude("fault").cast(pl.String)
        )
    columns: dict[str, pl.Expr] = {}
    for number in frame["fault"].unique().sort():
        if number > 0:
            broken = faults[number - 1]
            column = broken.meta.output_name()
            kept = columns.get(column, pl.col(column))
            columns[column] = pl.when(pl.col("fault") == number).then(broken).otherwise(kept)
    return frame.with_columns(**columns).drop("fault")
