"""What counts as an anomaly, and the sentence that tells people of one.

A figure is compared with what is normal for it; how far it may be off is set for each kind of figure.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from types import MappingProxyType
from typing import Literal

import numpy as np

from data_platform.quality.baselines import NEW_NORMAL, Normal, median, normal

Kind = Literal[
    "rows", "repeats", "null_rate", "gaps", "distinct", "regulars", "mean", "quantiles", "shares", "unlike", "ages",
    "hours", "ks", "psi",
]  # fmt: skip

# Of what a float can hold; what is normal may reach beyond it.
_GREATEST_LOGARITHM = 700.0
# More deviations than this say no more, and JSON knows no infinity.
_GREATEST_SCORE = 999.0
# More digits than a float knows.
_MANY_DIGITS = 1e15
# Of a distance between distributions: profiles do not tell them more exactly.
_LEAST_SPREAD = 0.003
# What nearly every day has is lacking on no larger share of days.
_SELDOM = 0.05


@dataclass(frozen=True)
class Limit:
    """How far a figure may be from normal: an anomaly exceeds all three.

    `score`: usual deviations. `absolute`: in the figure's own unit (of a share 0.05 is five in a hundred; of a quantile
    it is the share of rows between, so that steps between prices do not count). `relative`: as a share of the normal
    value. A greater score makes a rule less sensitive; infinite switches it off.
    """

    score: float
    absolute: float = 0.0
    relative: float = 0.0


LIMITS: Mapping[Kind, Limit] = MappingProxyType(
    {
        "rows": Limit(7, absolute=10, relative=0.25),
        "repeats": Limit(6, absolute=0.05),
        "null_rate": Limit(5.5, absolute=0.02),
        "gaps": Limit(4.5, absolute=0.03),
        "distinct": Limit(8, absolute=5, relative=0.05),
        "regulars": Limit(5, absolute=0.05),
        "mean": Limit(6.5, relative=0.25),
        "quantiles": Limit(12, absolute=0.1, relative=0.75),
        "shares": Limit(6.3, absolute=0.02),
        "unlike": Limit(4, absolute=0.03),
        "ages": Limit(6, absolute=0.05),
        "hours": Limit(5, absolute=1.0),
        "ks": Limit(6, absolute=0.1),
        "psi": Limit(12, absolute=0.2),
    }
)


@dataclass(frozen=True)
class Anomaly:
    """A figure that is not normal. `low` and `high` bound what is; `score` counts usual deviations from the middle.

    `band` says these bounds as the sentence does. `past`: the figure on the days of the training window, for a plot.
    """

    kind: Kind
    metric: str
    value: float
    low: float
    high: float
    score: float
    sentence: str
    band: str
    past: Mapping[date, float] = field(default_factory=dict)


def plain(value: float) -> str:
    """A number for people: thousands apart, four digits that count."""
    if not math.isfinite(value) or abs(value) >= _MANY_DIGITS:
        return f"{value:.4g}"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def percent(value: float) -> str:
    """A share for people."""
    return f"{100 * value:.1f} %"


def clock(hours: float) -> str:
    """Hours since midnight as a time of day."""
    minutes = round(60 * hours)
    return f"{minutes // 60}:{minutes % 60:02d}"


def exponential(logarithm: float) -> float:
    """The number of a logarithm, within what a float can hold."""
    return math.exp(min(logarithm, _GREATEST_LOGARITHM))


def _same(value: float) -> float:
    return value


def compare(
    kind: Kind,
    metric: str,
    value: float,
    expected: Normal,
    limits: Mapping[Kind, Limit],
    *,
    noise: float = 0.0,
    between: tuple[float, float] | None = None,
    back: Callable[[float], float] = _same,
    show: Callable[[float], str] = plain,
    what: str = "",
) -> Anomaly | None:
    """The anomaly that `value` is; None where it is none, or where `limits` do not name the kind.

    `noise`: the deviation that chance alone would give, the least that counts. `between`: what is normal in any case.
    `back` makes the figure's unit of the scale on which `value` and `expected` are; `what` is put before the figure.
    """
    limit = limits.get(kind)
    if limit is None or math.isinf(limit.score) or not expected.days:
        return None
    spread = max(expected.spread, noise)
    off = abs(value - expected.centre)
    usual, shown = back(expected.centre), back(value)
    room = max(limit.absolute if between is None else 0.0, limit.relative * abs(usual))
    low = min(back(expected.centre - limit.score * spread), usual - room, *(between or ()))
    high = max(back(expected.centre + limit.score * spread), usual + room, *(between or ()))
    if low <= shown <= high or not off:
        return None
    if _new_normal(shown, [back(one) for one in expected.latest], low, high, high - low):
        return None
    if kind not in ("mean", "quantiles"):
        low = max(low, 0.0)  # counts, shares and times of day: to say that −2 rows are normal would be odd
    score = min(off / spread if spread > 0 else _GREATEST_SCORE, _GREATEST_SCORE)
    band = f"{show(low)} to {show(high)}"
    sentence = f"{metric}: {what}{show(shown)}; {band} is normal ({_against(expected)})."
    past = {day: back(one) for day, one in expected.past.items()}
    return Anomaly(kind, metric, shown, low, high, score, sentence, band, past)


def _new_normal(value: float, latest: Sequence[float], low: float, high: float, room: float) -> bool:
    """Whether most of the `latest` values were on the same side of normal as `value`, and not much nearer to it.

    A level that lasts has been told of; until the window's median follows, telling it every day would hide what is new.
    """
    lasting = [one for one in latest if (one > high if value > high else one < low)]
    return 2 * len(lasting) > NEW_NORMAL and min(lasting) - room <= value <= max(lasting) + room


def compare_share(
    kind: Kind,
    metric: str,
    value: float,
    past: Mapping[date, float],
    day: date,
    count: float,
    limits: Mapping[Kind, Limit],
    *,
    fewer: float = 1.0,
    what: str = "",
) -> Anomaly | None:
    """As `compare`, for a share among `count` values; its spread is taken `fewer` times.

    Shares are compared as arcs (arcsine of the root): there chance is the same for all shares, and none is below 0.
    """
    expected = normal({known: _arc(share) for known, share in past.items()}, day)
    expected = replace(expected, spread=expected.spread * fewer)
    chance = 0.5 / math.sqrt(max(count, 1.0))
    return compare(
        kind, metric, _arc(value), expected, limits, noise=chance, back=_share_of_arc, show=percent, what=what
    )


def gone(
    kind: Kind, metric: str, value: float, past: Mapping[date, float], count: float, limits: Mapping[Kind, Limit]
) -> Anomaly | None:
    """What nearly every day has and today not a single time, though the limit's score of them were to be expected.

    Where days differ so much that a low share is normal, none at all may yet be none: by chance once in exp(score).
    """
    limit = limits.get(kind)
    usual = median(np.fromiter(past.values(), dtype=np.float64))
    without = sum(share == 0 for share in past.values())
    if limit is None or value or without > _SELDOM * len(past) or usual * count < limit.score:
        return None
    sentence = f"{metric}: none at all; {percent(usual)} is usual (by {len(past)} earlier partitions)."
    low, high = min(past.values()), max(past.values())
    band = f"{percent(low)} to {percent(high)}"
    return Anomaly(kind, metric, 0.0, low, high, usual * count, sentence, band, past)


def _arc(share: float) -> float:
    return math.asin(math.sqrt(min(max(share, 0.0), 1.0)))


def _share_of_arc(arc: float) -> float:
    return math.sin(min(max(arc, 0.0), math.pi / 2)) ** 2


def compare_ratio(
    kind: Kind,
    metric: str,
    value: float,
    past: Mapping[date, float],
    day: date,
    limits: Mapping[Kind, Limit],
    *,
    noise: float = 0.0,
    between: tuple[float, float] | None = None,
    fewer: float = 1.0,
) -> Anomaly | None:
    """As `compare`, in ratios where all are above 0; `noise` is in the unit, the spread is taken `fewer` times."""
    in_ratios = min(value, *past.values()) > 0
    scale, back, unit = (math.log, exponential, 1 / value) if in_ratios else (float, float, 1.0)
    expected = normal({known: scale(one) for known, one in past.items()}, day)
    expected = replace(expected, spread=expected.spread * fewer)
    return compare(kind, metric, scale(value), expected, limits, noise=noise * unit, between=between, back=back)


def exceed(
    kind: Kind, metric: str, value: float, expected: Normal, limits: Mapping[Kind, Limit], *, chance: float, what: str
) -> Anomaly | None:
    """As `compare`, for a distance from the usual distribution; `chance`: the distance that chance alone may give."""
    limit = limits.get(kind)
    if limit is None or math.isinf(limit.score) or not expected.days:
        return None
    spread = max(expected.spread, _LEAST_SPREAD)
    high = max(expected.centre + limit.score * spread, chance, limit.absolute)
    if value <= high or _new_normal(value, expected.latest, 0.0, high, high - expected.centre):
        return None
    score = min((value - expected.centre) / spread, _GREATEST_SCORE)
    band = f"up to {high:.2f}"
    sentence = (
        f"{metric}: {value:.2f} away from the usual distribution; {band} is normal ({_against(expected)}). {what}."
    )
    return Anomaly(kind, metric, value, 0.0, high, score, sentence, band, expected.past)


def _against(expected: Normal) -> str:
    days = f"by {expected.days} earlier partitions"
    return f"{days}, weekdays told apart" if expected.by_weekday else days
