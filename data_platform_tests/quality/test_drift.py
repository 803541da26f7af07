"""Whether a partition is like those before it: what is told, what is not, and what the past may not do."""

import base64
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from data_platform.quality import baselines
from data_platform.quality.anomalies import LIMITS, Limit, plain
from data_platform.quality.baselines import Distribution, normal
from data_platform.quality.drift import LEAST_PARTITIONS, Anomaly, judge
from data_platform.quality.profiles import AGES, HOURS, ColumnProfile, Numbers, Profile

START = date(2024, 1, 1)  # a Monday


def numbers(values: Any) -> Numbers:
    quantiles = tuple(map(float, np.quantile(values, np.linspace(0, 1, 41), method="nearest")))
    return Numbers(quantiles[0], quantiles[-1], float(np.mean(values)), float(np.std(values)), quantiles)


def day_profile(
    rng: np.random.Generator,
    rows: int = 1000,
    *,
    factor: float = 1.0,
    nulls: float = 0.05,
    shift: int = 0,
    **shares: float,
) -> Profile:
    """A day drawn at random: prices, customers with nulls, hours around noon, countries by `shares`."""
    shares = shares or {"France": 0.5, "Spain": 0.3, "Italy": 0.2}
    prices = rng.lognormal(3, 0.8, rows) * factor
    hours = np.bincount((rng.normal(13, 3, rows).clip(0, 23.9).astype(int) + shift) % 24, minlength=24) / rows
    drawn = rng.multinomial(rows, list(shares.values())) / rows
    countries = {name: float(share) for name, share in zip(shares, drawn, strict=True) if share}
    aged = dict.fromkeys(AGES, 0.0) | {"same day": 1.0}
    columns = {
        "unit_price": ColumnProfile(0.0, int(rows * 0.6), numbers(prices)),
        "customer_id": ColumnProfile(rng.binomial(rows, nulls) / rows, int(rows**0.9)),
        "country": ColumnProfile(0.0, len(countries), shares=countries),
        "order_ts": ColumnProfile(0.0, rows, hours=dict(zip(HOURS, map(float, hours), strict=True)), ages=aged),
    }
    return Profile(rows, 0.001, columns)


def days(
    count: int, rows: Callable[[int, np.random.Generator], float] = lambda number, rng: 1000, seed: int = 1
) -> dict[date, Profile]:
    """`count` days from START; rows vary by 4 % around `rows(number of the day, rng)`."""
    rng = np.random.default_rng(seed)
    return {
        START + timedelta(days=number): day_profile(rng, round(rows(number, rng) * rng.normal(1, 0.04)))
        for number in range(count)
    }


def told(history: dict[date, Profile], number: int, today: Profile | None = None) -> list[Anomaly]:
    day = START + timedelta(days=number)
    return judge(history | {day: today} if today else history, day)


def metrics(anomalies: list[Anomaly]) -> set[str]:
    return {one.metric for one in anomalies}


RNG = np.random.default_rng(99)
HISTORY = days(35)
NEXT = 35


def test_a_day_like_the_others_is_not_told_of() -> None:
    assert told(HISTORY, NEXT, day_profile(np.random.default_rng(5))) == []


@pytest.mark.parametrize(
    ("metric", "faulty"),
    [
        ("rows", {"rows": 500}),
        ("null_rate of customer_id", {"nulls": 0.15}),
        ("mean of unit_price", {"factor": 100}),
        ("median of unit_price", {"factor": 100}),
        ("distribution of unit_price (KS)", {"factor": 1.3}),
        ("distribution of unit_price (PSI)", {"factor": 2}),
        ("shares of country", {"France": 0.7, "Spain": 0.3}),
        ("hours of order_ts (PSI)", {"shift": 5}),
        ("middle of order_ts", {"shift": -3}),
    ],
)
def test_a_fault_is_told_of_under_its_name(metric: str, faulty: dict[str, Any]) -> None:
    assert metric in metrics(told(HISTORY, NEXT, day_profile(np.random.default_rng(5), **faulty)))


def test_a_day_delivered_twice_is_told_of_by_its_repeats() -> None:
    today = replace(day_profile(np.random.default_rng(5)), repeats=0.5)
    assert metrics(told(HISTORY, NEXT, today)) == {"share of repeated rows"}


def test_fewer_distinct_values_than_so_many_rows_have_are_told_of() -> None:
    today = day_profile(np.random.default_rng(5))
    columns = {**today.columns, "customer_id": ColumnProfile(0.05, 200)}
    assert metrics(told(HISTORY, NEXT, replace(today, columns=columns))) == {"distinct count of customer_id"}


def with_column(found: Profile, name: str, **figures: Any) -> Profile:
    """`found` with other figures of a column, told of 100 orders."""
    column = replace(found.columns.get(name, ColumnProfile(0.0, 500)), **figures)
    return replace(found, groups=100, columns={**found.columns, name: column})


def in_each(name: str, figure: Callable[[int, np.random.Generator], dict[str, Any]]) -> dict[date, Profile]:
    rng = np.random.default_rng(8)
    return {day: with_column(found, name, **figure(number, rng)) for number, (day, found) in enumerate(HISTORY.items())}


def test_orders_with_gaps_are_told_of() -> None:
    history = in_each("customer_id", lambda number, rng: {"gaps": rng.binomial(100, 0.1) / 100})
    today = day_profile(np.random.default_rng(5))
    assert told(history, NEXT, with_column(today, "customer_id", gaps=0.12)) == []
    assert metrics(told(history, NEXT, with_column(today, "customer_id", gaps=0.6))) == {
        "orders with gaps in customer_id"
    }


def test_what_nearly_every_day_has_and_today_not_once_is_told_of() -> None:
    # Of a hundred orders 2 to 30 are returns: by deviations alone, none at all would be normal.
    history = in_each("quantity", lambda number, rng: {"negative": 0.02 + 0.04 * (number % 8)})
    today = day_profile(np.random.default_rng(5))
    assert told(history, NEXT, with_column(today, "quantity", negative=0.02)) == []
    (none,) = told(history, NEXT, with_column(today, "quantity", negative=0.0))
    assert none.sentence.startswith("share of negative quantity: none at all; ")
    often = in_each("quantity", lambda number, rng: {"negative": 0.04 * (number % 8)})
    assert told(often, NEXT, with_column(today, "quantity", negative=0.0)) == []
    off = {**LIMITS, "shares": Limit(float("inf"))}
    day = START + timedelta(days=NEXT)
    assert judge(history | {day: with_column(today, "quantity", negative=0.0)}, day, limits=off) == []


def test_a_number_unlike_that_of_the_same_id_is_told_of_where_it_belongs_to_the_id() -> None:
    history = in_each("unit_price", lambda number, rng: {"unlike": {"product_id": 0.001, "customer_id": 0.4}})
    today = day_profile(np.random.default_rng(5))
    odd = with_column(today, "unit_price", unlike={"product_id": 0.1, "customer_id": 0.6})
    assert metrics(told(history, NEXT, odd)) == {"unit_price unlike that of the same product_id"}
    assert told(history, NEXT, with_column(today, "unit_price", unlike={"product_id": 0.01})) == []


def test_regular_ids_that_are_missing_are_told_of() -> None:
    def bits(rng: np.random.Generator, gone: int = 0) -> str:
        # 300 products, each there on 95 of 100 days.
        there = (np.arange(2048) < 300) & (rng.random(2048) < 0.95) & (np.arange(2048) >= gone)
        return base64.b64encode(np.packbits(there).tobytes()).decode()

    history = in_each("product_id", lambda number, rng: {"present": bits(rng)})
    rng, today = np.random.default_rng(5), day_profile(np.random.default_rng(5))
    assert told(history, NEXT, with_column(today, "product_id", present=bits(rng))) == []
    (missing,) = told(history, NEXT, with_column(today, "product_id", present=bits(rng, gone=45)))
    assert missing.kind == "regulars"
    assert re.fullmatch("missing ones of the (29[0-9]|300) regular product_ids", missing.metric)


def test_the_sentence_says_what_how_much_and_against_which_normal() -> None:
    (anomaly,) = (one for one in told(HISTORY, NEXT, day_profile(RNG, rows=400)) if one.metric == "rows")
    assert anomaly.value == pytest.approx(400)
    assert anomaly.low < 1000 < anomaly.high
    assert anomaly.sentence.startswith("rows: 400; ")
    assert anomaly.sentence.endswith("is normal (by 28 earlier partitions).")
    (shares,) = (
        one for one in told(HISTORY, NEXT, day_profile(RNG, France=0.7, Spain=0.3)) if one.metric == "shares of country"
    )
    assert "“Italy” has 0.0 %" in shares.sentence


def test_the_most_unusual_comes_first() -> None:
    scores = [one.score for one in told(HISTORY, NEXT, day_profile(RNG, rows=300, factor=100, nulls=0.5))]
    assert scores == sorted(scores, reverse=True)


def test_nothing_is_told_before_enough_partitions_are_there() -> None:
    bad = Profile(1)
    assert told(days(LEAST_PARTITIONS - 1), LEAST_PARTITIONS - 1, bad) == []
    assert metrics(told(days(LEAST_PARTITIONS), LEAST_PARTITIONS, bad)) == {"rows"}


def test_a_day_without_a_profile_is_not_judged() -> None:
    assert told(HISTORY, NEXT) == []


def test_later_partitions_do_not_count() -> None:
    today = {START + timedelta(days=NEXT): day_profile(np.random.default_rng(5), rows=500)}
    later = {START + timedelta(days=NEXT + number): day_profile(RNG, rows=500) for number in range(1, 20)}
    assert told(HISTORY | today | later, NEXT) == told(HISTORY | today, NEXT) != []


def test_empty_days_are_no_part_of_the_baseline() -> None:
    empty = {START + timedelta(days=number): Profile(0) for number in range(3, 35, 3)}
    assert told(HISTORY | empty, NEXT, day_profile(np.random.default_rng(5))) == []
    half = {START + timedelta(days=number): Profile(0) for number in range(35) if number % 5 < 3}
    assert told(HISTORY | half, NEXT, day_profile(RNG, rows=500)) != []


def test_an_empty_day_is_told_of_unless_the_shop_is_closed_on_its_weekday() -> None:
    saturday = 40
    closed = {day: found for day, found in days(40).items() if day.weekday() != 5}
    assert (START + timedelta(days=saturday)).weekday() == 5
    assert metrics(told(days(40), saturday, Profile(0))) == {"rows"}
    assert told(closed, saturday, Profile(0)) == []
    assert metrics(told(closed, saturday + 2, Profile(0))) == {"rows"}


def test_after_a_break_the_last_partitions_are_the_window() -> None:
    rested = NEXT + 60
    assert told(HISTORY, rested, day_profile(np.random.default_rng(5))) == []
    assert "rows" in metrics(told(HISTORY, rested, day_profile(RNG, rows=400)))


def test_weekdays_are_compared_with_their_own() -> None:
    weekly = days(35, lambda number, rng: 400 if number % 7 == 6 else 1000)
    sunday, monday = 41, 35
    assert told(weekly, sunday, day_profile(np.random.default_rng(5), rows=410)) == []
    (anomaly,) = (one for one in told(weekly, sunday, day_profile(RNG, rows=1000)) if one.metric == "rows")
    assert "weekdays told apart" in anomaly.sentence
    assert "rows" in metrics(told(weekly, monday, day_profile(RNG, rows=400)))


def test_one_bad_day_does_not_poison_the_baseline() -> None:
    before = START + timedelta(days=NEXT - 1)
    for bad in (day_profile(RNG, rows=20_000), day_profile(RNG, factor=100), day_profile(RNG, rows=50, nulls=1.0)):
        poisoned = HISTORY | {before: bad}
        assert told(poisoned, NEXT, day_profile(np.random.default_rng(5))) == []
        faulty = day_profile(np.random.default_rng(6), rows=500, factor=1.6, nulls=0.15)
        expected = {"rows", "null_rate of customer_id", "distribution of unit_price (KS)"}
        assert expected <= metrics(told(poisoned, NEXT, faulty))


def test_a_trend_is_followed() -> None:
    growing = days(35, lambda number, rng: 600 * 1.04**number)
    assert told(growing, NEXT, day_profile(RNG, rows=round(600 * 1.04**NEXT))) == []
    assert "rows" in metrics(told(growing, NEXT, day_profile(RNG, rows=800)))


def test_a_level_that_lasts_is_told_of_twice_and_what_is_worse_again() -> None:
    history, found = dict(HISTORY), []
    rng = np.random.default_rng(5)
    for number in range(NEXT, NEXT + 20):
        history |= {START + timedelta(days=number): day_profile(rng, rows=2000)}
        found.append("rows" in metrics(told(history, number)))
    assert found == [True] * 2 + [False] * 18
    worse = {START + timedelta(days=NEXT + 3): day_profile(rng, rows=20_000)}
    assert "rows" in metrics(told(history | worse, NEXT + 3))


def test_small_changes_are_ignored_however_steady_the_past() -> None:
    steady = day_profile(np.random.default_rng(1))
    history = {START + timedelta(days=number): steady for number in range(35)}
    price = steady.columns["unit_price"]
    assert price.numbers is not None
    dearer = replace(price.numbers, mean=price.numbers.mean * 1.02)
    columns = {**steady.columns, "unit_price": replace(price, numbers=dearer)}
    columns["customer_id"] = replace(steady.columns["customer_id"], nulls=steady.columns["customer_id"].nulls + 0.015)
    assert told(history, NEXT, steady) == []
    assert told(history, NEXT, replace(steady, rows=1100, columns=columns)) == []
    assert metrics(told(history, NEXT, replace(steady, rows=1900))) >= {"rows"}


def test_constant_and_empty_columns_are_no_trouble() -> None:
    def same(number: int, value: float = 5.0) -> Profile:
        columns = {"fee": ColumnProfile(0.0, 1, numbers([value])), "note": ColumnProfile(1.0, 0)}
        return Profile(100 + number % 2, 0.0, columns)

    history = {START + timedelta(days=number): same(number) for number in range(30)}
    assert told(history, 30, same(0)) == []
    assert {"mean of fee", "distribution of fee (KS)"} <= metrics(told(history, 30, same(0, 50.0)))
    filled = replace(same(0), columns={**same(0).columns, "note": ColumnProfile(0.5, 3, shares={"a": 1.0})})
    assert metrics(told(history, 30, filled)) == {"null_rate of note"}


def test_a_few_rows_are_judged_by_their_number_alone() -> None:
    few = days(35, lambda number, rng: 8, seed=3)
    assert told(few, NEXT, day_profile(RNG, rows=5, factor=100)) == []
    assert "rows" in metrics(told(few, NEXT, day_profile(RNG, rows=900)))


def test_a_new_column_has_no_normal_yet() -> None:
    today = day_profile(np.random.default_rng(5))
    assert told(HISTORY, NEXT, replace(today, columns={**today.columns, "new": ColumnProfile(0.5, 900)})) == []


def test_sensitivity_is_set_for_each_rule() -> None:
    day = START + timedelta(days=NEXT)
    history = HISTORY | {day: day_profile(np.random.default_rng(5), rows=500, nulls=0.3)}
    assert {one.kind for one in judge(history, day, limits={"null_rate": LIMITS["null_rate"]})} == {"null_rate"}
    assert judge(history, day, limits={"null_rate": Limit(float("inf"))}) == []
    assert judge(history, day, limits={"null_rate": Limit(3, absolute=0.3)}) == []


def test_the_least_sensitive_limits_and_the_widest_past_are_within_what_numbers_can_hold() -> None:
    day = START + timedelta(days=NEXT)
    wide = {
        known: replace(found, columns={"unit_price": ColumnProfile(0.0, 900, numbers([10.0 ** (number % 12 - 5)] * 3))})
        for number, (known, found) in enumerate(HISTORY.items())
    }
    today = replace(HISTORY[START], columns={"unit_price": ColumnProfile(0.0, 900, numbers([1e9, 1e9, 1e9]))})
    calm = {kind: replace(limit, score=10 * limit.score) for kind, limit in LIMITS.items()}
    assert {"mean", "quantiles"}.isdisjoint(one.kind for one in judge(wide | {day: today}, day, limits=calm))


def test_numbers_for_people_are_short() -> None:
    assert [plain(value) for value in (0.12345, 7.0, 12345.6, 1e300, float("inf"), float("nan"))] == [
        "0.1235", "7", "12,346", "1e+300", "inf", "nan"
    ]  # fmt: skip


def test_days_of_the_same_distribution_are_seldom_told_of() -> None:
    flagged = judged = 0
    for seed in range(4):
        history = days(74, lambda number, rng: 700 * (1.3 if number % 7 == 4 else 1.0), seed=seed)
        for number in range(LEAST_PARTITIONS, 74):
            judged += 1
            flagged += bool(told(history, number))
    assert judged == 240
    assert flagged <= 4


def test_normal_is_the_median_and_not_the_mean() -> None:
    past = {START + timedelta(days=number): 10.0 + number % 2 for number in range(20)} | {START: 1e9}
    found = normal(past, START + timedelta(days=20))
    assert 10 <= found.centre <= 11
    assert found.spread < 2
    assert normal({}, START).days == 0


def test_scatter_is_a_standard_deviation_that_a_third_of_bad_values_cannot_move_far() -> None:
    rng = np.random.default_rng(4)
    months = rng.normal(10, 2, (400, 28))
    found = [baselines.scatter(month, float(np.median(month))) for month in months]
    assert np.mean(found) == pytest.approx(2, rel=0.15)
    months[:, :9] = 1e6
    assert max(baselines.scatter(month, float(np.median(month))) for month in months) < 12
    assert baselines.scatter(np.array([3.0, 3.0]), 3.0) == 0.0
    assert baselines.scatter(np.array([3.0]), 3.0) == 0.0


def test_distances_are_those_of_the_definitions() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    one, other = rng.lognormal(3, 1, 4000), rng.lognormal(3.4, 1, 4000)
    sketches = [Distribution.of_quantiles(np.quantile(values, np.linspace(0, 1, 41))) for values in (one, other)]
    assert baselines.ks_distance(*sketches) == pytest.approx(scipy_stats.ks_2samp(one, other).statistic, abs=0.02)
    assert baselines.ks_distance(sketches[0], sketches[0]) == 0.0
    shares = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    assert baselines.psi(*shares) == pytest.approx(0.1 * np.log(0.5 / 0.4) + 0.1 * np.log(0.4 / 0.3), rel=0.01)


def test_values_that_many_rows_have_are_no_distance() -> None:
    usual = Distribution.of_quantiles([-1.0] + [1.0] * 22 + [2.0] * 18)
    today = Distribution.of_quantiles([-14.0] + [1.0] * 22 + [2.0] * 18)
    assert baselines.ks_distance(today, usual) < 0.05


def test_definitions_do_not_wait_for_scipy() -> None:
    code = "import sys, data_platform.quality.drift; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
