"""A few faults of each kind on each run of the tests; `make proof` does every kill point of every asset."""

import json
import random
from collections import Counter

import pytest

from data_platform_tests.proof import fault_kinds as kinds
from data_platform_tests.proof import fault_scene as scene
from data_platform_tests.proof import faults
from data_platform_tests.proof.fault_pictures import Picture, between, lost, unlike


@pytest.fixture(scope="module")
def outcome() -> faults.FaultOutcome:
    return faults.run(random.randrange(1 << 31), sample=True)


def test_a_re_run_after_a_fault_leaves_what_a_run_without_leaves_and_readers_saw_nothing_between(
    outcome: faults.FaultOutcome,
) -> None:
    assert outcome.failures == []
    assert outcome.rows_lost == 0


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_faults_of_each_kind_took_place(outcome: faults.FaultOutcome, kind: str) -> None:
    if kind in outcome.cannot_run:
        pytest.skip(outcome.cannot_run[kind])
    assert any(verdict.injected for verdict in outcome.verdicts if verdict.fault.kind == kind)


def test_every_asset_was_killed(outcome: faults.FaultOutcome) -> None:
    killed = {verdict.fault.asset for verdict in outcome.verdicts if verdict.injected}
    assert set(scene.ASSETS) <= killed


def picture(**files: str) -> Picture:
    return Picture(Counter({("fact_sales", "a"): 1, ("fact_sales", "b"): 1}), files)


BEFORE = picture(raw_orders="old")
AFTER = Picture(Counter({("fact_sales", "a"): 1, ("fact_returns", "b"): 1}), {"raw_orders": "new"})


def test_a_state_between_is_seen() -> None:
    assert between(BEFORE, BEFORE, AFTER) == []
    assert between(AFTER, BEFORE, AFTER) == []
    half = Picture(Counter({("fact_sales", "a"): 1}), {"raw_orders": "new"})
    assert "of neither state (fact_sales: 1 missing" in between(half, BEFORE, AFTER)[0]
    broken = Picture(AFTER.rows, {"raw_orders": "broken: OSError"})
    assert between(broken, BEFORE, AFTER) == ["raw_orders is of neither state: broken: OSError"]
    assert between(Picture(AFTER.rows, {}), BEFORE, AFTER) == ["raw_orders is gone"]


def test_years_that_are_attached_before_they_are_filled_are_no_state_between() -> None:
    filled = Picture(AFTER.rows + Counter({("tables", "fact_sales_2023"): 1}), AFTER.files)
    assert (
        between(Picture(BEFORE.rows + Counter({("tables", "fact_sales_2023"): 1}), BEFORE.files), BEFORE, filled) == []
    )
    other = Picture(BEFORE.rows + Counter({("tables", "fact_sales_2022"): 1}), BEFORE.files)
    assert "tables: 0 missing, 1 too many" in between(other, BEFORE, filled)[0]
    assert between(AFTER, BEFORE, filled) != [], "rows without the year that they are in"


def test_a_staged_file_without_its_quarantine_is_seen() -> None:
    told = json.dumps({"content": "c" * 64, "rows_quarantined": 1})
    name = "stg_orders/dt=2024-12-29/part.parquet"
    staged = Picture(Counter(), {name: told})
    assert between(staged, staged, staged) == [f"{name} is there without its quarantine"]


def test_rows_that_are_missing_and_rows_that_are_too_many_both_count_as_lost() -> None:
    assert lost(AFTER, AFTER) == 0
    assert lost(BEFORE, AFTER) == 2
    assert len(unlike(BEFORE, AFTER)) == 2
