"""Tellings of order lines → the lines that stand. Pure: frames in, frames out.

The rules are the section Facts of the warehouse semantics. Most orders are told once, by one delivery; they take a
short cut that costs two hashes a row. All others go through `_standing`, which knows every rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

ORDER_OF_TRUTH = ("_moment", "_partition", "_file", "_row")
# What makes two tellings of a line equal: what its fact shows.
TELLING = (
    "customer_id",
    "product_id",
    "quantity",
    "unit_price",
    "discount_amount",
    "order_ts",
    "updated_at",
)

# What control totals are taken of.
CONTROLLED = ("quantity", "total_amount")


@dataclass(frozen=True)
class Standing:
    """`lines`: the last telling of each line that stands, with delivered_on and the moment of that telling.

    `classes`: _partition, class (sale, return, tombstone, superseded) and CONTROLLED, one row per telling, presences
    left out.
    """

    lines: pl.DataFrame
    classes: pl.DataFrame


def standing_lines(tellings: pl.DataFrame) -> Standing:
    """The lines that stand after `tellings`, which must hold every telling of each order in it.

    Columns in: order_id, line_number, TELLING, total_amount, is_tombstone, _moment (UTC), _partition (date), _file,
    _row, _unit_order (told as a whole order), _present_only (a quarantined line: it counts as there, and says nothing).
    """
    hard = _needs_the_rules(tellings)
    if hard is None:
        easy, rest = tellings, tellings.clear()
    else:
        easy, rest = tellings.filter(~hard), tellings.filter(hard)
    simple = _finish(easy.with_columns(delivered_on=pl.col("_partition")))
    if rest.is_empty():
        return Standing(lines=simple, classes=_classes(simple))
    told = _standing(rest)
    lines = pl.concat([simple, _finish(told.filter("_stands"))])
    superseded_or_removed = (
        rest.filter(~pl.col("_present_only"))
        .join(
            told.filter("_stands").select("_partition", "_file", "_row"), on=["_partition", "_file", "_row"], how="anti"
        )
        .select(
            "_partition",
            pl.when("is_tombstone").then(pl.lit("tombstone")).otherwise(pl.lit("superseded")).alias("class"),
            *CONTROLLED,
        )
    )
    return Standing(lines=lines, classes=pl.concat([_classes(lines), superseded_or_removed]))


def _needs_the_rules(tellings: pl.DataFrame) -> pl.Series | None:
    # Hashes only sort the easy from the hard: a collision makes an easy order hard, which costs time and nothing else.
    # One window at a time: a window over a window is evaluated group by group, a thousand times slower.
    marks = (
        tellings.select(
            _order=pl.col("order_id").hash(),
            _line=pl.struct("order_id", "line_number").hash(),
            _partition=pl.col("_partition").cast(pl.Int32),
            _odd=pl.col("is_tombstone") | pl.col("_present_only"),
        )
        .with_columns(_odd=pl.col("_odd") | (pl.len().over("_line") > 1))
        .select(
            _odd=pl.col("_odd").max().over("_order"),
            _first=pl.col("_partition").min().over("_order"),
            _last=pl.col("_partition").max().over("_order"),
        )
        .select(hard=pl.col("_odd") | (pl.col("_first") != pl.col("_last")))
    )
    hard = marks.get_column("hard")
    return hard if hard.any() else None


def _finish(lines: pl.DataFrame) -> pl.DataFrame:
    return lines.select(
        "order_id", "line_number", *TELLING, "total_amount", "delivered_on", "_moment", "_partition"
    )  # fmt: skip


def _classes(lines: pl.DataFrame) -> pl.DataFrame:
    kind = pl.when(pl.col("quantity") < 0).then(pl.lit("return")).otherwise(pl.lit("sale"))
    return lines.select("_partition", kind.alias("class"), *CONTROLLED)


def _standing(tellings: pl.DataFrame) -> pl.DataFrame:
    """Every telling by the rules, with _stands for those that the facts show, and their delivered_on and _moment."""
    tellings = tellings.with_columns(
        # Under unit: order the observation is the order: all its rows in a delivery share the latest moment.
        _event_moment=pl.when(pl.col("_unit_order") & ~pl.col("_present_only"))
        .then(pl.col("_moment").filter(~pl.col("_present_only")).max().over("order_id", "_partition"))
        .otherwise("_moment")
    )
    events = tellings.filter(pl.col("_unit_order") & ~pl.col("_present_only")).select(
        "order_id", "_partition", "_event_moment"
    ).unique()  # fmt: skip
    # A quarantined line is present at the event of its order's delivery; where the delivery holds no more of the
    # order than quarantined lines, it says nothing of the order.
    present = (
        tellings.filter("_present_only")
        .drop("_event_moment")
        .join(events, on=["order_id", "_partition"])
        .select(tellings.columns)
    )
    rows = pl.concat([tellings.filter(~pl.col("_present_only")), present])
    # A tombstone of a whole order ends all that was told of it: before its delivery, earlier in its delivery (with the
    # quarantined lines, which sort first) and itself. What comes after it in its delivery is told anew.
    whole_delivery = ["order_id", "_partition"]
    rows = (
        rows.sort(*whole_delivery, "_moment", "_file", "_row")
        .with_columns(
            _gone=pl.col("_unit_order") & pl.col("is_tombstone").cum_max(reverse=True).over(whole_delivery),
            _anew=pl.col("_unit_order") & pl.col("is_tombstone").any().over(whole_delivery),
        )
        .filter(~pl.col("_gone"))
        .drop("_gone")
    )
    lines = _with_events_so_far(rows, events)
    total = events.group_by("order_id").agg(_events=pl.len())
    lines = (
        lines.join(total, on="order_id", how="left")
        .with_columns(pl.col("_events").fill_null(0))
        .sort("order_id", "line_number", "_event_moment", "_partition", "_moment", "_file", "_row")
    )
    same = (pl.col("order_id") == pl.col("order_id").shift(1)) & (
        pl.col("line_number") == pl.col("line_number").shift(1)
    )
    # Between two tellings of a line its order may have been told without it: then the line was gone in between.
    whole = pl.col("_unit_order").cast(pl.Int64)
    directly_after = pl.col("_so_far") - whole == pl.col("_so_far").shift(1)
    same_telling = pl.col("_unit_order") & (pl.col("_so_far") == pl.col("_so_far").shift(1))
    unbroken = (directly_after & ~pl.col("_anew")) | same_telling
    lines = lines.with_columns(_segment=(~(same & unbroken).fill_null(False)).cum_sum())
    last_of_line = (pl.col("order_id").shift(-1) != pl.col("order_id")) | (
        pl.col("line_number").shift(-1) != pl.col("line_number")
    )
    lines = lines.with_columns(
        _alive=(last_of_line.fill_null(True) & (pl.col("_so_far") == pl.col("_events"))).any().over("_segment")
    )
    spoken = lines.filter(~pl.col("_present_only"))
    equal = pl.all_horizontal([pl.col(name).eq_missing(pl.col(name).shift(1)) for name in TELLING])
    repeats = (
        (pl.col("_segment") == pl.col("_segment").shift(1))
        & ~pl.col("is_tombstone")
        & ~pl.col("is_tombstone").shift(1)
        & equal
    )
    spoken = spoken.with_columns(_run=(~repeats.fill_null(False)).cum_sum())
    last_telling = (pl.col("_segment") != pl.col("_segment").shift(-1)).fill_null(True)
    return spoken.with_columns(
        delivered_on=pl.col("_partition").first().over("_run"),
        _first_moment=pl.col("_moment").first().over("_run"),
        _stands=last_telling & pl.col("_alive") & ~pl.col("is_tombstone"),
    ).with_columns(_moment=pl.col("_first_moment"))


def _with_events_so_far(rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """`rows` with _so_far: how many tellings of the whole order stand at or before the row in the order of truth."""
    clock = ["order_id", "_event_moment", "_partition"]
    marks = pl.concat(
        [
            events.select(*clock, _is_event=pl.lit(1), _position=pl.lit(None, pl.UInt32)),
            rows.with_row_index("_position").select(*clock, pl.lit(0).alias("_is_event"), "_position"),
        ]
    ).sort(*clock, "_is_event", descending=[False, False, False, True])
    counted = marks.with_columns(_so_far=pl.col("_is_event").cum_sum().over("order_id")).filter(
        pl.col("_position").is_not_null()
    )
    return rows.with_row_index("_position").join(
        counted.select("_position", pl.col("_so_far").cast(pl.Int64)), on="_position"
    ).drop("_position")  # fmt: skip


def columns_needed() -> Sequence[str]:
    """Columns of a staged telling that the rules look at."""
    return ("order_id", "line_number", *TELLING, "total_amount", "is_tombstone", *ORDER_OF_TRUTH)
