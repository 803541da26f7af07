"""Of every check that Dagster knows the test that has seen it fail: one that cannot fail proves nothing."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from data_platform.assets.quality import BUDGET, GAPS, TRADING, WAITING, YESTERDAY
from data_platform.assets.raw import ACCEPTED as READABLE
from data_platform.assets.raw import AGREES, AS_BEFORE, DELIVERED, KNOWN
from data_platform.assets.staging import ACCEPTED
from data_platform.contracts import STAGED
from data_platform.contracts.rules import Measure, measured
from data_platform.definitions import defs
from data_platform.quality.watch import RULES as DRIFT
from data_platform.transforms.staging import DECLARED, GENERAL_CHECKS
from data_platform.warehouse.publish import BALANCE
from data_platform_tests.assets import test_balances, test_evolution, test_raw_and_staging
from data_platform_tests.contracts.test_contracts import BREAKS, DOUBLES
from data_platform_tests.costs import test_budget
from data_platform_tests.quality import test_completeness, test_recording, test_watch
from data_platform_tests.sources import test_manifest
from data_platform_tests.transforms import test_staging
from data_platform_tests.warehouse import test_audits

CHECKS = sorted((key.asset_key.path[-1], key.name) for key in defs.resolve_asset_graph().asset_check_keys)
MEASURES = {(contract.table, one.name): one for contract in STAGED.values() for one in contract.measures}


def cases(test: Any) -> set[str]:
    """The audits that a parametrized test has a case for."""
    names, values = next(mark.args for mark in test.pytestmark if "audit" in mark.args[0])
    return {case.values[list(names).index("audit")] for case in values}


OF_DIMENSIONS, OF_FACTS = (
    test_audits.test_an_audit_of_a_dimension_fails_on,
    test_audits.test_an_audit_of_facts_fails_on,
)


# By check, or by table and check where tables differ.
SEEN: dict[Any, Callable[..., None]] = {
    READABLE: test_raw_and_staging.test_several_rejected_days_are_listed_and_each_reason_is_in_the_check,
    DELIVERED: test_raw_and_staging.test_a_day_that_was_never_delivered_is_an_empty_partition_with_a_warning,
    KNOWN: test_raw_and_staging.test_columns_without_a_place_stay_in_raw_and_are_reported,
    AGREES: test_manifest.test_a_delivery_that_is_not_is_rejected_and_what_stood_before_stands,
    YESTERDAY: test_completeness.test_gaps_are_days_that_were_left_out_and_not_those_after_the_newest,
    GAPS: test_completeness.test_gaps_are_days_that_were_left_out_and_not_those_after_the_newest,
    TRADING: test_completeness.test_days_without_a_delivery_are_told_but_for_closed_weekdays,
    WAITING: test_completeness.test_rejected_rows_are_told_by_age,
    BUDGET: test_budget.test_the_check_fails_over_the_budget_and_is_remembered,
    ACCEPTED: test_raw_and_staging.test_a_delivery_is_rejected_over_five_percent_and_from_ten_rows,
    "customer_id_is_known": test_recording.test_every_check_of_a_run_is_remembered_by_partition,
    "product_id_is_known": test_recording.test_a_query_that_fails_is_a_failed_rule_and_the_others_are_asked,
    AS_BEFORE: test_evolution.test_columns_that_are_not_as_before_are_shown_and_remembered,
    **dict.fromkeys(GENERAL_CHECKS, test_staging.test_each_general_check_fails),
    DECLARED: test_staging.test_under_quarantine_rows_with_a_value_in_an_undeclared_column_are_set_aside,
    **dict.fromkeys(DRIFT, test_watch.test_every_rule_can_fail),
    **dict.fromkeys(cases(OF_DIMENSIONS), OF_DIMENSIONS),
    **dict.fromkeys(cases(OF_FACTS), OF_FACTS),
    **{(f"raw_{entity}", BALANCE): test_balances.test_rows_that_raw_has_lost_are_found_by_raw_and_by_staging
       for entity in STAGED},
    **{(f"stg_{entity}", BALANCE): test_balances.test_a_staged_file_that_does_not_hold_what_was_staged_is_found
       for entity in STAGED},
    **{(table, BALANCE): test_audits.test_a_ledger_that_was_edited_does_not_balance
       for table in ("dim_customer", "dim_product", "fact_sales", "fact_returns")},
    **{(table, BALANCE): test_audits.test_a_mart_that_does_not_hold_what_the_facts_do_is_found
       for table in ("mart_daily_sales", "mart_product_performance", "mart_customer_value")},
}  # fmt: skip


@pytest.mark.parametrize(("table", "check"), CHECKS, ids="-".join)
def test_a_check_has_been_seen_to_fail(table: str, check: str) -> None:
    assert (table, check) in {*BREAKS, *DOUBLES, *MEASURES, *SEEN} or check in SEEN


def test_no_proof_is_of_a_check_that_is_gone() -> None:
    names = {name for _, name in CHECKS}
    assert {key for key in SEEN if isinstance(key, str)} <= names
    assert {key for key in (*SEEN, *BREAKS, *DOUBLES, *MEASURES) if isinstance(key, tuple)} <= set(CHECKS)


@pytest.mark.parametrize("key", MEASURES, ids="-".join)
def test_each_measure_fails_and_passes(key: tuple[str, str]) -> None:
    rule: Measure = MEASURES[key]
    [contract] = [one for one in STAGED.values() if one.table == key[0]]
    empty = contract.polars_schema.to_frame()
    nulls = pl.concat([empty, pl.DataFrame([{contract.key[0]: "a"}])], how="diagonal")
    full = nulls.with_columns(
        pl.lit("x" if dtype == pl.String else 1).cast(dtype).alias(name)
        for name, dtype in contract.polars_schema.items()
        if dtype == pl.String or dtype.is_numeric()
    )
    broken, kept = (empty, nulls) if rule.name == "row_count" else (nulls, full)
    assert not rule.holds(measured(broken, [rule])[0][rule.name])
    assert rule.holds(measured(kept, [rule])[0][rule.name])
