"""What results of checks mean for a person: how bad it is, what is over when, and advice that can be followed."""

from dataclasses import replace

import pytest
import typer

from data_platform.alerts.checks import advice, evidence, key_of, severity_of
from data_platform.alerts.events import NOWHERE, Failing, Passing
from data_platform.alerts.store import CheckRow
from data_platform.cli import app
from data_platform.quality.names import UNMADE

ROW = CheckRow(1, "stg_orders", "few", "critical", False, "2024-01-05", None, "", 9, 1, "", "run 1")


def row(asset: str, rule: str, **values: object) -> CheckRow:
    return replace(ROW, asset=asset, rule=rule, **values)  # type: ignore[arg-type]


def seen(*rows: CheckRow, today: bool = True) -> list[Failing | Passing]:
    return list(evidence(rows, lambda _: today, lambda table, check: f"{table} {check} asks.", lambda _: ["a 1"]))


@pytest.mark.parametrize(
    ("one", "severity"),
    [
        (row("stg_orders", "delivery_is_accepted"), "critical"),
        (row("stg_orders", "values_can_be_read"), "warning"),  # its rows went to quarantine
        (row("stg_orders", "unit_price_not_negative"), "warning"),
        (row("fact_sales", "rows_balance"), "critical"),
        (row("fact_sales", "rows_balance", note=f"{UNMADE}Postgres went away."), "warning"),
        (row("stg_orders", "drift_mean", severity="warning"), "warning"),
        (row("stg_orders", "few_gifts", severity="info"), "info"),
        (row("raw_orders", "yesterday_is_delivered", severity="warning"), "critical"),
        (row("stg_orders", "quarantine_is_young", severity="warning"), "warning"),
        (row("quality_report", "cost_is_within_budget", severity="warning"), "warning"),
    ],
)
def test_how_bad_it_is(one: CheckRow, severity: str) -> None:
    assert severity_of(one) == severity


def test_what_is_about_a_table_as_it_stands_has_no_day() -> None:
    for one in (
        row("mart_daily_sales", "rows_balance"),
        row("raw_orders", "partitions_have_no_gaps"),
        row("quality_report", "cost_is_within_budget"),
    ):
        [failing, passing] = seen(one, replace(one, passed=True, day="2024-01-06"))
        assert isinstance(failing, Failing)
        assert failing.places == NOWHERE
        assert passing == Passing(key_of(one))
    [failing, passing] = seen(ROW, replace(ROW, passed=True))
    assert isinstance(failing, Failing)
    assert failing.places == {"2024-01-05"}
    assert passing == Passing(key_of(ROW), frozenset({"2024-01-05"}))


def test_a_pass_that_does_not_hold_today_is_none() -> None:
    assert seen(row("raw_orders", "yesterday_is_delivered", passed=True), today=False) == []
    assert seen(replace(ROW, passed=True), today=False) != [], "what is of a day needs no today"


def test_the_words_are_those_of_the_last_failure_of_each_check() -> None:
    first, last = seen(replace(ROW, note="First."), replace(ROW, note="Last.", day="2024-01-06"))
    assert isinstance(last, Failing)
    assert last.detail == "stg_orders few asks.\nIt fails for 1 of 9.\nLast.\nExamples, masked:\n- a 1"
    assert isinstance(first, Failing)
    assert first.detail == ""


def test_rows_of_a_rejected_delivery_are_not_looked_for_in_quarantine() -> None:
    rejected = seen(row("stg_orders", "delivery_is_accepted"), row("stg_orders", "values_can_be_read"))[1]
    kept = seen(row("stg_orders", "values_can_be_read"))[0]
    assert isinstance(rejected, Failing)
    assert isinstance(kept, Failing)
    assert "quarantine" not in rejected.advice
    assert "data-platform source test orders --date 2024-01-05" in rejected.advice
    assert "data-platform quarantine replay --entity orders --from 2024-01-05 --to 2024-01-05" in kept.advice


@pytest.mark.parametrize(
    "one",
    [
        row(asset, rule)
        for asset, rule in [
            ("raw_orders", "yesterday_is_delivered"), ("raw_orders", "partitions_have_no_gaps"),
            ("raw_orders", "delivery_is_accepted"), ("stg_orders", "quarantine_is_young"),
            ("stg_orders", "values_can_be_read"), ("stg_orders", "few"), ("fact_sales", "rows_balance"),
            ("quality_report", "cost_is_within_budget"),
        ]
    ],
)  # fmt: skip
def test_every_command_that_is_advised_is_there_with_its_options(one: CheckRow) -> None:
    commands = [part for part in advice(one).split("`")[1::2] if part.startswith("data-platform ")]
    assert commands
    root = typer.main.get_command(app)
    for command in commands:
        found, words = root, command.split()[1:]
        while words and words[0] in getattr(found, "commands", {}):
            found = found.commands[words.pop(0)]  # type: ignore[attr-defined]
        assert not hasattr(found, "commands"), command
        options = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, command
