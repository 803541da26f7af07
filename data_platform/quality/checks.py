"""Rules, audits and balances as Dagster's asset checks: specs, results with counts and examples, tables of figures."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import reduce

import dagster as dg

from data_platform.contracts.contract import Contract
from data_platform.contracts.rules import Judged, Measure, Rule, Severity, WarehouseQuery
from data_platform.quality.balances import Account, Figure
from data_platform.quality.names import UNMADE
from data_platform.warehouse.audits import Verdict
from data_platform.warehouse.publish import BALANCE

SHOWN_DAYS = 10
# A table of figures has a row per day up to here, then one per month.
SHOWN_PARTITIONS = 31
MEND = "`data-platform rebuild` brings the tables to what is staged; with --verify it only says what differs."


def spec(table: str, name: str, description: str, severity: str) -> dg.AssetCheckSpec:
    """The spec of one rule as a check of its table."""
    return dg.AssetCheckSpec(
        name=name, asset=table, description=f"{description} ({severity})", metadata={"severity": severity}
    )


def rule_specs(contract: Contract) -> list[dg.AssetCheckSpec]:
    """The specs of a contract's rules: of rows, of deliveries, and of what is published."""
    rules: tuple[Rule | Measure | WarehouseQuery, ...] = (*contract.rules, *contract.measures, *contract.queries)
    return [spec(contract.table, rule.name, rule.description, rule.severity) for rule in rules]


def result(
    table: str,
    name: str,
    *,
    severity: str,
    failed: int,
    judged: int,
    error: bool = False,
    days: Sequence[date] = (),
    examples: Iterable[Mapping[str, str]] = (),
    note: str = "",
    figures: dg.TableMetadataValue | None = None,
    threshold: str = "",
    trend: str = "",
    unjudged: str = "",
) -> dg.AssetCheckResult:
    """What became of one rule in this run.

    Shown as an error only where it stops something, or a person must act (`error`); a critical row rule whose few rows
    went to quarantine is a warning. `days`: the partitions concerned, up to ten of them shown. `trend`: bars of its
    last partitions. `unjudged`: why the rule could not be judged, which is a failure.
    """
    metadata: dict[str, dg.MetadataValue] = {
        "severity": dg.MetadataValue.text(severity),
        "rows_failed": dg.MetadataValue.int(failed),
        "rows_judged": dg.MetadataValue.int(judged),
    }
    if threshold:
        metadata["threshold"] = dg.MetadataValue.text(threshold)
    if trend:
        metadata["trend"] = dg.MetadataValue.text(trend)
    if days:
        metadata["partitions"] = dg.MetadataValue.text(listed(days))
    rows = [dict(example) for example in examples]
    if rows:
        metadata["examples"] = dg.MetadataValue.table(records=[dg.TableRecord(row) for row in rows])
    if figures is not None:
        metadata["figures"] = figures
    return dg.AssetCheckResult(
        asset_key=table,
        check_name=name,
        passed=failed == 0 and not unjudged,
        severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
        description=(f"It cannot be judged: {unjudged}." if unjudged else note) or None,
        metadata=metadata,
    )


def rule_results(contract: Contract, found: Judged, judged: int) -> list[dg.AssetCheckResult]:
    """The results of a published table's rules of rows: there a critical one stops the publish."""
    return [
        result(
            contract.table,
            rule.name,
            severity=rule.severity,
            failed=found.failed.get(rule.name, 0),
            judged=judged,
            error=rule.severity == "critical",
            unjudged=found.errors.get(rule.name, ""),
        )
        for rule in contract.rules
    ]


def audit_specs(table: str, audits: Mapping[str, str]) -> list[dg.AssetCheckSpec]:
    """The specs of audits, by name and description; nothing is stopped any more, so a failure says how to mend it."""
    return [spec(table, name, f"{text}. To mend: {MEND}", "critical") for name, text in audits.items()]


def audit_results(table: str, verdicts: Iterable[Verdict]) -> list[dg.AssetCheckResult]:
    """The results of audits: errors, since what is published is wrong and a person must act."""
    return [
        result(
            table,
            verdict.audit,
            severity="critical",
            failed=verdict.failed,
            judged=verdict.judged,
            error=True,
            examples=verdict.examples,
            note=verdict.note or (f"{verdict.failed} of {verdict.judged} rows fail. {MEND}" if verdict.failed else ""),
        )
        for verdict in verdicts
    ]


def unmade_results(
    table: str, names: Iterable[str], why: str, severity: Severity = "critical"
) -> list[dg.AssetCheckResult]:
    """The results of checks that were to look at what stands and could not: shown as warnings, as nothing is known."""
    note = f"{UNMADE}{why} What was written stands; materialize {table} again to have it checked."
    return [
        dg.AssetCheckResult(
            asset_key=table,
            check_name=name,
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=note,
            metadata={"severity": dg.MetadataValue.text(severity)},
        )
        for name in names
    ]


def balance_spec(table: str, text: str) -> dg.AssetCheckSpec:
    """The spec of a hop's row accounting; `text` says what must be equal."""
    return spec(table, BALANCE, text, "critical")


def balance_result(table: str, accounts: Sequence[Account], *, of: str, note: str = "") -> dg.AssetCheckResult:
    """The row accounting of a hop, with a table of its figures. `of`: which figure counts the rows that were judged.

    `note` is said where everything balances; else what is wrong, and on which days.
    """
    wrong = [account for account in accounts if account.reason]
    if wrong:
        note = f"{wrong[0].day}: {wrong[0].reason}."
        note += f" {len(wrong)} periods do not balance." if len(wrong) > 1 else ""
    judged = [account.figures.get(of) for account in accounts]
    return result(
        table,
        BALANCE,
        severity="critical",
        failed=sum(account.lost for account in wrong),
        judged=sum(int(count) for count in judged if count is not None),
        error=True,
        days=[account.day for account in wrong],
        note=note,
        figures=table_of(accounts),
    )


def equation(accounts: Sequence[Account], classes: Sequence[str] = ()) -> str:
    """Law 4 in figures: how delivered rows were classed, and staged ones where `classes` are given."""

    def total(name: str) -> int:
        return sum(int(account.figures.get(name) or 0) for account in accounts)

    parts = " + ".join(f"{total(name)} {name}" for name in ("staged", "quarantined", "duplicate"))
    said = f"{total('delivered')} delivered = {parts}"
    if classes:
        said += "; staged = " + (" + ".join(f"{total(name)} {name}" for name in sorted(classes) if total(name)) or "0")
    return said


def table_of(accounts: Sequence[Account]) -> dg.TableMetadataValue | None:
    """Figures by day, or by month where there are many days, and in total; None where there is nothing to show."""
    if not accounts:
        return None
    by_month = len(accounts) > SHOWN_PARTITIONS
    period = "month" if by_month else "day"
    rows: dict[str, list[Account]] = {}
    for account in accounts:
        rows.setdefault(account.day.isoformat()[: 7 if by_month else 10], []).append(account)
    rows["total"] = list(accounts)
    names = list(dict.fromkeys(name for account in accounts for name in account.figures))
    records = []
    for label, group in rows.items():
        figures = {name: _shown(_sum(account.figures.get(name) for account in group)) for name in names}
        reasons = [account.reason for account in group if account.reason]
        balances = "yes" if not reasons else reasons[0] if label != "total" else f"no, {len(reasons)} periods do not"
        records.append(dg.TableRecord({period: label, **figures, "balances": balances}))
    amounts = {name for account in accounts for name, figure in account.figures.items() if isinstance(figure, Decimal)}
    columns = [
        dg.TableColumn(period, "string"),
        # Exact amounts are text: a number would be rounded on its way to the browser.
        *(dg.TableColumn(name, "string" if name in amounts else "int") for name in names),
        dg.TableColumn("balances", "string"),
    ]
    return dg.MetadataValue.table(records=records, schema=dg.TableSchema(columns=columns))


def _sum(figures: Iterable[Figure]) -> Figure:
    known = [figure for figure in figures if figure is not None]
    return reduce(lambda left, right: left + right, known) if known else None


def _shown(figure: Figure) -> str | int | None:
    return str(figure) if isinstance(figure, Decimal) else figure


def listed(days: Sequence[date]) -> str:
    """Up to ten days, and how many more."""
    shown = ", ".join(day.isoformat() for day in sorted(days)[:SHOWN_DAYS])
    more = len(days) - SHOWN_DAYS
    return f"{shown} and {more} more" if more > 0 else shown
