"""stg_orders, stg_products, stg_customers: typed, cleaned, deduplicated, contract-checked rows of a delivery."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from data_platform.assets.catalogue import OWNERS, SINGLE_RUN, catalogue
from data_platform.assets.raw import rejection
from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.contracts.rules import Measure, Severity
from data_platform.errors import PlatformError
from data_platform.failures import explained, failure
from data_platform.io_managers.parquet import LakePartitions
from data_platform.lake import Draft, Lake, Stamp
from data_platform.partitions import DAILY
from data_platform.quality.acceptance import Acceptance
from data_platform.quality.balances import staging_accounts
from data_platform.quality.checks import (
    balance_result,
    balance_spec,
    equation,
    result,
    rule_specs,
    spec,
)
from data_platform.quality.history import CheckRecord
from data_platform.quality.recording import NO_ROW, balance_records, keep, measure_record, rows_record, trends
from data_platform.quality.watch import drift_results, drift_specs, not_looked_at, watch
from data_platform.resources import Platform
from data_platform.sources.config import Source
from data_platform.transforms.parts import stage_deliveries
from data_platform.transforms.staging import GENERAL_CHECKS, StagedDay, delivered_columns, empty_day

ACCEPTED = "delivery_is_accepted"
SHOWN_EXAMPLES = 10
DERIVED_FROM = {"is_tombstone": ["status", "quantity"], "total_amount": ["quantity", "unit_price", "discount_amount"]}
ONLY_ORDERS = {"one_currency"}


def _general(contract: Contract) -> dict[str, str]:
    return {
        name: text for name, text in GENERAL_CHECKS.items() if contract.table == "stg_orders" or name not in ONLY_ORDERS
    }


def _specs(contract: Contract) -> list[dg.AssetCheckSpec]:
    accepted = (
        "Few enough rows are quarantined, and few enough members absent, to take the delivery (limits: sources.yaml); "
        "no critical measure stops it."
    )
    return [
        spec(contract.table, ACCEPTED, accepted, "critical"),
        *(spec(contract.table, name, text, "critical") for name, text in _general(contract).items()),
        *rule_specs(contract),
        balance_spec(
            contract.table,
            "delivered = staged + quarantined + duplicate, equal to raw's own count and to the rows and totals in the "
            "files.",
        ),
        *drift_specs(contract),
    ]


def _staging_asset(entity: str, contract: Contract) -> dg.AssetsDefinition:
    raw_table = f"raw_{entity}"
    lineage = {name: [(raw_table, name)] for name in delivered_columns(contract)}
    lineage |= {name: [(raw_table, column) for column in columns] for name, columns in DERIVED_FROM.items()}

    @dg.asset(
        name=contract.table,
        partitions_def=DAILY,
        backfill_policy=SINGLE_RUN,
        group_name="staging",
        kinds={"parquet", "polars"},
        owners=OWNERS,
        io_manager_key="lake",
        ins={"deliveries": dg.AssetIn(raw_table)},
        check_specs=_specs(contract),
        description=contract.description,
        metadata=catalogue(contract, lineage),
    )
    def staging(context: dg.AssetExecutionContext, platform: Platform, deliveries: LakePartitions) -> Iterator[Any]:
        with explained():
            judged = _Judgement(contract, platform.sources[entity], platform, context.run.run_id)
            judged.stage(context, deliveries)
        keep(platform, context.run.run_id, judged.records)
        yield from judged.results(trends(platform, contract.table, judged.failed))
        if not judged.rejected:
            yield dg.Output(judged.drafts)
            yield from judged.hindsight()
            return
        with explained():
            judged.lake.promote(judged.drafts)
        yield from judged.hindsight()
        for draft in judged.drafts:
            # As in raw: Dagster writes none for a step that fails.
            day = draft.day.isoformat()
            context.log_event(dg.AssetMaterialization(contract.table, partition=day, metadata=_figures(draft.stamp)))
        raise failure(rejection(contract.table, judged.rejected))

    return staging


class _Judgement:
    """The deliveries of one run of a staging asset: drafts of the accepted ones, why others are not, all counts."""

    def __init__(self, contract: Contract, source: Source, platform: Platform, run_id: str) -> None:
        self.contract, self.source, self.platform, self.run_id = contract, source, platform, run_id
        self.lake: Lake = platform.lake
        self.drafts: list[Draft] = []
        self.raw: dict[date, Stamp] = {}
        self.rejected: dict[date, str] = {}
        self.severities: dict[str, Severity] = dict.fromkeys(_general(contract), "critical")
        self.severities |= {rule.name: rule.severity for rule in contract.rules}
        self.records: list[CheckRecord] = []
        self.examples: dict[str, list[dict[str, str]]] = {}
        self.acceptance = Acceptance(contract, source, self.lake)

    def stage(self, context: dg.AssetExecutionContext, deliveries: LakePartitions) -> None:
        """Stage every delivery window by window and write the accepted ones aside."""
        self.raw = deliveries.stamps()
        zone = self.platform.settings.timezone
        with self.lake.drafting(self.drafts):
            for day, stamp in self.raw.items():
                if not stamp.delivered:
                    self._judge(context, empty_day(day, contract=self.contract, source=self.source))
            for days, raw in deliveries.windows():
                for staged in stage_deliveries(raw, days, contract=self.contract, source=self.source, timezone=zone):
                    self._judge(context, staged)

    def _judge(self, context: dg.AssetExecutionContext, staged: StagedDay) -> None:
        stamp = staged.stamp
        refusal = self.acceptance.judge(staged)
        self._record(staged, refusal)
        for check, rows in staged.examples.items():
            shown = self.examples.setdefault(check, [])
            shown += [{"day": staged.day.isoformat()} | row for row in rows[: SHOWN_EXAMPLES - len(shown)]]
        if refusal:
            self.rejected[staged.day] = refusal
            return
        rejected = staged.quarantined
        if not rejected.is_empty():
            rejected = rejected.with_columns(_run_id=pl.lit(self.run_id), _contract=pl.lit(stamp.contract))
        self.drafts.append(self.lake.write_aside(self.contract.table, staged.day, staged.rows, stamp, rejected))
        context.add_asset_metadata(_figures(stamp), partition_key=staged.day.isoformat())

    def _record(self, staged: StagedDay, refusal: str | None) -> None:
        contract, stamp, day = self.contract, staged.stamp, staged.day
        rows = partial(rows_record, contract.table, day=day)
        self.records.append(rows(ACCEPTED, "critical", failed=int(bool(refusal)), judged=1, note=refusal or ""))
        kept = stamp.rows_delivered - stamp.rows_duplicate
        for name, severity in self.severities.items():
            failed, error = staged.failures.get(name, 0), staged.errors.get(name, "")
            judged = staged.judged.get(name, kept)
            self.records.append(rows(name, severity, failed=failed, judged=judged, error=error))
        for rule in contract.measures:
            value, error = staged.measured.get(rule.name), staged.errors.get(rule.name, "")
            self.records.append(measure_record(contract, rule, value, judged=stamp.rows_staged, day=day, error=error))

    @property
    def failed(self) -> list[str]:
        """The rules that failed for any delivery."""
        return list(dict.fromkeys(record.rule for record in self.records if not record.passed))

    def results(self, trends: Mapping[str, str]) -> Iterator[dg.AssetCheckResult]:
        """How each rule came out over the run; a row rule stops nothing by itself, a rejected delivery does."""
        table = self.contract.table
        yield result(
            table, ACCEPTED, severity="critical", failed=len(self.rejected),
            judged=len(self.rejected) + len(self.drafts), error=True, days=list(self.rejected),
            note=" ".join(list(self.rejected.values())[:3]), trend=trends.get(ACCEPTED, ""),
        )  # fmt: skip
        by_rule: dict[str, list[CheckRecord]] = {}
        for record in self.records:
            by_rule.setdefault(record.rule, []).append(record)
        for name, severity in self.severities.items():
            found = by_rule.get(name, [])
            failed = sum(record.rows_failed for record in found)
            days = [record.partition_date for record in found if not record.passed and record.partition_date]
            yield result(
                table, name, severity=severity, failed=failed, judged=sum(record.rows_judged for record in found),
                days=days, error=severity == "critical" and bool(set(days) & set(self.rejected)),
                examples=self.examples.get(name, []), trend=trends.get(name, ""),
                note=self._whereabouts(failed) if failed and severity == "critical" else "",
                threshold=NO_ROW, unjudged=_error(found) if not failed else "",
            )  # fmt: skip
        for rule in self.contract.measures:
            yield self._measured(rule, by_rule.get(rule.name, []), trends.get(rule.name, ""))

    def _measured(self, rule: Measure, found: Sequence[CheckRecord], trend: str) -> dg.AssetCheckResult:
        failed = [record for record in found if not record.passed]
        odd = [f"{record.partition_date}: {record.value:.4g}" for record in failed if record.value is not None]
        more = f" and {len(odd) - SHOWN_EXAMPLES} more days" if len(odd) > SHOWN_EXAMPLES else ""
        days = [record.partition_date for record in failed if record.partition_date]
        return result(
            self.contract.table, rule.name, severity=rule.severity, failed=len(odd), judged=len(found), days=days,
            error=rule.severity == "critical", threshold=rule.threshold, trend=trend,
            note=f"{', '.join(odd[:SHOWN_EXAMPLES])}{more}; allowed is {rule.threshold}." if odd else "",
            unjudged=_error(failed) if not odd else "",
        )  # fmt: skip

    def hindsight(self) -> Iterator[dg.AssetCheckResult]:
        """The row accounting of what was accepted, read back from the lake: after the drafts were promoted."""
        with explained():
            accounts = staging_accounts(self.lake, self.drafts, self.raw)
        table = self.contract.table
        keep(self.platform, self.run_id, balance_records(table, accounts, of="delivered"))
        yield balance_result(table, accounts, of="delivered", note=equation(accounts))
        yield from self._drift()

    def _drift(self) -> list[dg.AssetCheckResult]:
        days = [draft.day for draft in self.drafts]
        try:
            url, zone = self.platform.warehouse_url, self.platform.settings.timezone
        except PlatformError as error:
            return drift_results(self.contract, not_looked_at(self.contract, str(error)))
        watched = watch(url, self.lake, self.contract, days, timezone=zone, run_id=self.run_id)
        keep(self.platform, self.run_id, watched.records)
        return drift_results(self.contract, watched)

    def _whereabouts(self, failed: int) -> str:
        if self.rejected:
            return f"{failed} rows cannot be taken: those of accepted deliveries are in quarantine."
        return f"{failed} rows went to quarantine."


def _error(records: Sequence[CheckRecord]) -> str:
    return next((record.note for record in records if not record.passed and record.note), "")


def _figures(stamp: Stamp) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": stamp.rows_staged,
        "rows_delivered": stamp.rows_delivered,
        "rows_quarantined": stamp.rows_quarantined,
        "rows_duplicate": stamp.rows_duplicate,
        **{f"sum_{name}": value for name, value in stamp.totals.items()},
        "content": stamp.content[:16],
    }


STAGING = [_staging_asset(entity, contract) for entity, contract in STAGED.items()]
