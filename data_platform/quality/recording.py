"""From what checks found to what is remembered of it: a record per check and partition, whatever becomes of the run."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, PARTITION_NAME_TAG

from data_platform.contracts.contract import Contract
from data_platform.contracts.rules import Measure, Severity
from data_platform.errors import PlatformError
from data_platform.quality.balances import Account
from data_platform.quality.history import CheckRecord, newest_values, remember, remember_changes
from data_platform.resources import Platform
from data_platform.sources.evolution import Change
from data_platform.warehouse.connection import looking
from data_platform.warehouse.publish import BALANCE

NO_ROW = "no row fails"
TREND_PARTITIONS = 30
_BARS = "▁▂▃▄▅▆▇█"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QualityResult:
    """The result of a run's checks as an object: what passed, what did not, and how bad that is."""

    details: tuple[CheckRecord, ...]

    @property
    def passed(self) -> bool:
        """No critical check failed."""
        return not self.critical_failures

    @property
    def total(self) -> int:
        """How many checks there were."""
        return len(self.details)

    @property
    def passed_checks(self) -> int:
        """How many of them passed."""
        return sum(record.passed for record in self.details)

    @property
    def critical_failures(self) -> tuple[CheckRecord, ...]:
        """The failed checks that stop something."""
        return self._failed("critical")

    @property
    def warnings(self) -> tuple[CheckRecord, ...]:
        """The failed checks that a person should look at."""
        return self._failed("warning")

    def _failed(self, severity: Severity) -> tuple[CheckRecord, ...]:
        return tuple(one for one in self.details if not one.passed and one.severity == severity)


def rows_record(
    table: str, name: str, severity: Severity, *, failed: int, judged: int, day: date, note: str = "", error: str = ""
) -> CheckRecord:
    """The record of a check that counts rows (or deliveries): its value is the share that fails."""
    share = failed / judged if judged else 0.0
    return CheckRecord(
        table, name, severity, not failed and not error, day, share, NO_ROW, judged, failed, error or note
    )


def measure_record(
    contract: Contract, rule: Measure, value: float | None, *, judged: int, day: date, error: str = ""
) -> CheckRecord:
    """The record of a measure of a delivery."""
    passed = not error and rule.holds(value)
    return CheckRecord(contract.table, rule.name, rule.severity, passed, day, value, rule.threshold, judged, 0, error)


def balance_records(table: str, accounts: Iterable[Account], *, of: str) -> list[CheckRecord]:
    """The row accounting of a hop, a record each period."""
    return [
        CheckRecord(
            table, BALANCE, "critical", not account.reason, account.day, float(account.lost), "0 rows",
            int(account.figures.get(of) or 0), account.lost, account.reason,
        )
        for account in accounts
    ]  # fmt: skip


def record_of(result: dg.AssetCheckResult, day: date | None) -> CheckRecord:
    """The record of a check over a whole run, from what Dagster is told of it; `day` is the newest of the run."""
    assert result.asset_key is not None
    assert result.check_name is not None
    failed, judged = (_number(result, name) for name in ("rows_failed", "rows_judged"))
    severity: Severity = result.metadata["severity"].value  # type: ignore[assignment]
    return CheckRecord(
        result.asset_key.path[-1], result.check_name, severity, result.passed, day,
        failed / judged if judged else float(not result.passed), NO_ROW, judged, failed, result.description or "",
    )  # fmt: skip


def _number(result: dg.AssetCheckResult, name: str) -> int:
    found = result.metadata.get(name)
    return found.value or 0 if isinstance(found, dg.IntMetadataValue) else 0


def keep(platform: Platform, run_id: str, records: Sequence[CheckRecord]) -> None:
    """Write `records` to the history; one that cannot be written is logged and stops nothing: the checks were made."""
    try:
        url = platform.warehouse_url
    except PlatformError as error:
        log.warning("The results of %d checks were not recorded: %s", len(records), error)
    else:
        remember(url, run_id, records)


def keep_changes(platform: Platform, run_id: str, table: str, changes: Mapping[date, Sequence[Change]]) -> None:
    """Write how deliveries changed their columns to the history of schemas; as `keep`, it stops nothing."""
    if not changes:
        return
    try:
        url = platform.warehouse_url
    except PlatformError as error:
        log.warning("The changed columns of %s were not recorded: %s", table, error)
    else:
        remember_changes(url, run_id, table, changes)


def remembered(
    platform: Platform, run: dg.DagsterRun, results: Iterable[dg.AssetCheckResult]
) -> list[dg.AssetCheckResult]:
    """`results` over a whole run, after they were written to the history under the run's newest partition."""
    found = list(results)
    day = newest_day(run)
    keep(platform, run.run_id, [record_of(result, day) for result in found])
    return found


def newest_day(run: dg.DagsterRun) -> date | None:
    """The newest partition of a run; None of one without partitions."""
    key = run.tags.get(ASSET_PARTITION_RANGE_END_TAG) or run.tags.get(PARTITION_NAME_TAG)
    return date.fromisoformat(key) if key else None


def trends(platform: Platform, table: str, rules: Sequence[str]) -> dict[str, str]:
    """For each of `rules` its value over the last partitions as a line of bars, the newest last; none where unknown."""
    if not rules:
        return {}
    try:
        with looking(platform.warehouse_url, application="data-platform checks") as connection:
            found = newest_values(connection, table, rules, partitions=TREND_PARTITIONS)
    except PlatformError:
        return {}
    return {rule: bars(values) for rule, values in found.items() if len(values) > 1}


def bars(values: Sequence[float]) -> str:
    """Numbers as bars of eight heights, the greatest highest; 0 and below are the lowest, what is infinite has none."""
    finite = [value for value in values if math.isfinite(value)]
    highest = max(finite, default=0.0)
    if highest <= 0:
        return _BARS[0] * len(finite)
    return "".join(_BARS[min(int(max(value, 0.0) / highest * len(_BARS)), len(_BARS) - 1)] for value in finite)
