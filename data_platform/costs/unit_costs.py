"""What a step takes, as a fixed part and a part per row: a line through the measurements that outliers do not move."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

# Sizes must differ by as much, or a fixed part cannot be told from one per row.
LEAST_RANGE = 1.5
# The newest measurements; every pair of them is looked at.
MOST_POINTS = 400

Point = tuple[float, float]


@dataclass(frozen=True)
class UnitCost:
    """An amount (seconds, bytes) as `fixed` + `per_row` × rows, from `points` measurements.

    Not `separated`: the sizes were too much alike to tell the two parts, so all of it counts as per row.
    """

    fixed: float
    per_row: float
    points: int
    separated: bool

    def of(self, rows: float) -> float:
        """The amount for so many rows."""
        return self.fixed + self.per_row * rows


def fit(measured: Sequence[Point]) -> UnitCost:
    """The line through (rows, amount), the newest last; neither part is below zero.

    The slope is the median of the slopes of all pairs, each weighted by how far its sizes lie apart (after Theil and
    Sen): of many small runs and a large one the large one tells it, and a slow run among equals does not.
    """
    points = list(measured)[-MOST_POINTS:]
    if not points:
        return UnitCost(0.0, 0.0, 0, separated=False)
    sizes = [rows for rows, _ in points]
    typical = statistics.median(amount for _, amount in points)
    if max(sizes) == 0:
        return UnitCost(typical, 0.0, len(points), separated=True)
    if max(sizes) < LEAST_RANGE * min(sizes):
        return UnitCost(0.0, typical / statistics.median(sizes), len(points), separated=False)
    slope = _weighted_median(
        [((b[1] - a[1]) / (b[0] - a[0]), abs(b[0] - a[0])) for a, b in combinations(points, 2) if a[0] != b[0]]
    )
    fixed = statistics.median(amount - max(slope, 0.0) * rows for rows, amount in points)
    if fixed < 0:
        slope, fixed = _weighted_median([(amount / rows, rows) for rows, amount in points if rows]), 0.0
    return UnitCost(fixed, max(slope, 0.0), len(points), separated=True)


def _weighted_median(values: Sequence[tuple[float, float]]) -> float:
    ordered = sorted(values)
    half, reached = sum(weight for _, weight in ordered) / 2, 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return ordered[-1][0]
