"""The line through what was measured: exact where figures are, unmoved by outliers, honest of sizes alike."""

import random

import pytest

from data_platform.costs.unit_costs import fit


def test_exact_figures_give_the_exact_line() -> None:
    found = fit([(rows, 2.5 + 0.001 * rows) for rows in (100, 5_000, 800, 90_000, 100)])
    assert found.separated
    assert found.fixed == pytest.approx(2.5)
    assert found.per_row == pytest.approx(0.001)
    assert found.of(1_000_000) == pytest.approx(1002.5)
    assert found.points == 5


def test_a_slow_run_among_many_does_not_move_it() -> None:
    measured = [(rows, 2.0 + 0.001 * rows) for rows in range(1000, 3000, 100)]
    measured[7] = (measured[7][0], 500.0)
    found = fit(measured)
    assert found.fixed == pytest.approx(2.0, rel=0.01)
    assert found.per_row == pytest.approx(0.001, rel=0.01)


def test_one_large_run_tells_more_of_the_time_per_row_than_the_noise_of_small_ones() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    small = [(chance.randint(900, 1100), 2 + chance.uniform(-0.5, 0.5)) for _ in range(60)]
    found = fit([*small, (2_000_000, 42.0)])
    assert found.per_row == pytest.approx(40 / 2_000_000, rel=0.05)
    assert found.fixed == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("measured", [[(500, 3.0)], [(500, 3.0), (500, 3.2), (501, 2.8)], [(400, 2.4), (500, 3.0)]])
def test_of_sizes_that_are_alike_all_counts_as_per_row(measured: list[tuple[float, float]]) -> None:
    found = fit(measured)
    assert not found.separated
    assert found.fixed == 0
    assert found.of(500) == pytest.approx(3.0, rel=0.1)
    assert found.of(1000) == pytest.approx(2 * found.of(500))


def test_what_has_no_rows_is_fixed() -> None:
    assert fit([(0, 1.0), (0, 5.0), (0, 2.0)]).of(1_000_000) == 2.0


def test_neither_part_is_below_zero() -> None:
    faster = fit([(10, 5.0), (1000, 1.0)])
    assert faster.per_row == 0
    assert 1.0 <= faster.fixed <= 5.0
    steep = fit([(10, 0.001), (1000, 5.0), (2000, 20.0)])
    assert steep.fixed == 0
    assert steep.per_row > 0


def test_of_nothing_there_is_nothing() -> None:
    found = fit([])
    assert (found.of(100), found.points) == (0, 0)


def test_the_newest_measurements_count() -> None:
    old, new = [(rows, 9.0) for rows in range(500)], [(rows, 1.0) for rows in range(1, 401)]
    assert fit([*old, *new]).of(200) == 1.0
