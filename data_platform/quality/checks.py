"""Rules as Dagster's asset checks: their specs, and results with counts, severity and masked examples."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import dagster as dg

from data_platform.contracts.contract import Contract

SHOWN_DAYS = 10


def spec(table: str, name: str, description: str, severity: str) -> dg.AssetCheckSpec:
    """The spec of one rule as a check of its table."""
    return dg.AssetCheckSpec(
        name=name, asset=table, description=f"{description} ({severity})", metadata={"severity": severity}
    )


def rule_specs(contract: Contract) -> list[dg.AssetCheckSpec]:
    """The specs of a contract's rules."""
    return [spec(contract.table, rule.name, rule.description, rule.severity) for rule in contract.rules]


def result(
    table: str,
    name: str,
    *,
    severity: str,
    failed: int,
    judged: int,
    blocking: bool = False,
    days: Sequence[date] = (),
    examples: Iterable[Mapping[str, str]] = (),
    note: str = "",
) -> dg.AssetCheckResult:
    """What became of one rule in this run.

    Shown as an error only where it stops something (`blocking`); a critical row rule whose few rows went to quarantine
    is a warning. `days`: the partitions concerned, up to ten of them shown.
    """
    metadata: dict[str, dg.MetadataValue] = {
        "severity": dg.MetadataValue.text(severity),
        "rows_failed": dg.MetadataValue.int(failed),
        "rows_judged": dg.MetadataValue.int(judged),
    }
    if days:
        metadata["partitions"] = dg.MetadataValue.text(listed(days))
    rows = [dict(example) for example in examples]
    if rows:
        metadata["examples"] = dg.MetadataValue.table(records=[dg.TableRecord(row) for row in rows])
    return dg.AssetCheckResult(
        asset_key=table,
        check_name=name,
        passed=failed == 0,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        description=note or None,
        metadata=metadata,
    )


def rule_results(contract: Contract, failures: Mapping[str, int], judged: int) -> list[dg.AssetCheckResult]:
    """The results of a published table's rules: there a critical one stops the publish."""
    return [
        result(
            contract.table,
            rule.name,
            severity=rule.severity,
            failed=failures.get(rule.name, 0),
            judged=judged,
            blocking=rule.severity == "critical",
        )
        for rule in contract.rules
    ]


def listed(days: Sequence[date]) -> str:
    """Up to ten days, and how many more."""
    shown = ", ".join(day.isoformat() for day in sorted(days)[:SHOWN_DAYS])
    more = len(days) - SHOWN_DAYS
    return f"{shown} and {more} more" if more > 0 else shown
