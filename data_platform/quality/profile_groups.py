"""What rows tell together: the rows of one order, and the rows that name the same id. A part of a day's profile.

The lines of an order are no independent witnesses: one large order moves every share among lines, and none among
orders. Ids leave no more than bits and shares here.
"""

import base64
import math
import zlib
from collections.abc import Collection
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

# Of an id's presence no more is kept than one of so many bits, which several ids may share.
PRESENCE_BITS = 2048
# A number is unlike the others of its id when it is so many times their median, or so small a part of it.
_MUCH = math.log(3)
_LEAST_OF_AN_ID = 3


def orders_of(
    frame: pl.DataFrame, order: str | None, columns: Collection[str], numbers: Collection[str]
) -> dict[date, dict[str, Any]]:
    """By day: `groups`, how many orders; per column `NAME gaps`, the share of them with any null; per number
    `NAME negative`, the share of them with any below 0. `order` names the column that rows of one order share; None
    where each row stands alone."""
    marks = [(pl.col(name) < 0).any().alias(f"{name} negative") for name in numbers]
    if order is None:
        alone = [(pl.col(name) < 0).fill_null(False).alias(f"{name} negative") for name in numbers]
        orders = frame.lazy().select("_partition", *alone)
    else:
        marks += [pl.col(name).is_null().any().alias(f"{name} gaps") for name in columns if name != order]
        orders = frame.lazy().group_by("_partition", order).agg(marks).drop(order)
    shares = orders.group_by("_partition").agg(pl.len().alias("groups"), pl.all().exclude("_partition").mean())
    return {row.pop("_partition"): row for row in shares.collect().iter_rows(named=True)}


def unlike(
    frame: pl.DataFrame, numbers: Collection[str], ids: Collection[str]
) -> dict[date, dict[str, dict[str, float]]]:
    """By day, number and id column, the share of numbers above 0 that are three times the median of the day's rows of
    that id, or a third of it; among ids with at least three rows. A price that belongs to a product has hardly any."""
    found: dict[date, dict[str, dict[str, float]]] = {}
    pairs = [(number, name) for number in numbers for name in ids]
    # Each is work for one core.
    shares = pl.collect_all([_unlike(frame, number, name) for number, name in pairs])
    for (number, name), days in zip(pairs, shares, strict=True):
        for day, share in days.iter_rows():
            found.setdefault(day, {}).setdefault(number, {})[name] = share
    return found


def _unlike(frame: pl.DataFrame, number: str, name: str) -> pl.LazyFrame:
    by = ("_partition", name)
    far = (pl.col(number) / pl.col(number).median().over(by)).log().abs() > _MUCH
    return (
        frame.lazy()
        .select(*by, number)
        .filter((pl.col(number) > 0) & pl.col(name).is_not_null())
        .filter(pl.len().over(by) >= _LEAST_OF_AN_ID)
        .select("_partition", far=far)
        .group_by("_partition")
        .agg(pl.col("far").mean())
    )


def presence(frame: pl.DataFrame, name: str) -> dict[date, str]:
    """By day, the bits that the column's ids set, in base64. The hash is one that no library changes."""
    pairs = frame.lazy().select("_partition", name).drop_nulls().unique().collect()
    ids = pairs.get_column(name).unique()
    bits = {value: zlib.crc32(value.encode()) % PRESENCE_BITS for value in ids}
    places = pairs.with_columns(pl.col(name).replace_strict(bits, return_dtype=pl.Int64))
    found = {}
    for (day,), rows in places.partition_by("_partition", as_dict=True).items():
        set_bits = np.zeros(PRESENCE_BITS, dtype=bool)
        set_bits[rows.get_column(name).to_numpy()] = True
        found[day] = base64.b64encode(np.packbits(set_bits).tobytes()).decode()
    return found


def present(bits: str) -> NDArray[np.bool_]:
    """The bits that `presence` wrote."""
    return np.unpackbits(np.frombuffer(base64.b64decode(bits), dtype=np.uint8)).astype(bool)
