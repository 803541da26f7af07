"""stg_orders, stg_products, stg_customers: typed, cleaned, deduplicated, contract-checked rows of a delivery."""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from data_platform.assets.catalogue import OWNERS, SINGLE_RUN, catalogue
from data_platform.assets.raw import rejection
from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.failures import explained, failure
from data_platform.io_managers.parquet import LakePartitions
from data_platform.lake import Draft, Lake, Stamp
from data_platform.partitions import DAILY
from data_platform.quality.acceptance import Acceptance
from data_platform.quality.balances import staging_accounts
from data_platform.quality.checks import balance_result, balance_spec, equation, result, rule_specs, spec
from data_platform.resources import Platform
from data_platform.sources.config import Source
from data_platform.transforms.staging import GENERAL_CHECKS, StagedDay, delivered_columns, empty_day, stage_window

ACCEPTED = "delivery_is_accepted"
DERIVED_FROM = {"is_tombstone": ["status", "quantity"], "total_amount": ["quantity", "unit_price", "discount_amount"]}
ONLY_ORDERS = {"one_currency"}


def _general(contract: Contract) -> dict[str, str]:
    return {
        name: text for name, text in GENERAL_CHECKS.items() if contract.table == "stg_orders" or name not in ONLY_ORDERS
    }


def _specs(contract: Contract) -> list[dg.AssetCheckSpec]:
    accepted = "Few enough rows are quarantined to take the delivery (limits: sources.yaml)."
    return [
        spec(contract.table, ACCEPTED, accepted, "critical"),
        *(spec(contract.table, name, text, "critical") for name, text in _general(contract).items()),
        *rule_specs(contract),
        balance_spec(
            contract.table,
            "delivered = staged + quarantined + duplicate, equal to raw's own count and to the rows and totals in the "
            "files.",
        ),
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
            judged = _Judgement(contract, platform.sources[entity], platform.lake)
            judged.stage(context, deliveries, platform.settings.timezone)
        yield from judged.results()
        if not judged.rejected:
            yield dg.Output(judged.drafts)
            yield judged.balance()
            return
        with explained():
            judged.lake.promote(judged.drafts)
        yield judged.balance()
        for draft in judged.drafts:
            # As in raw: Dagster writes none for a step that fails.
            day = draft.day.isoformat()
            context.log_event(dg.AssetMaterialization(contract.table, partition=day, metadata=_figures(draft.stamp)))
        raise failure(rejection(contract.table, judged.rejected))

    return staging


class _Judgement:
    """The deliveries of one run of a staging asset: drafts of the accepted ones, why others are not, all counts."""

    def __init__(self, contract: Contract, source: Source, lake: Lake) -> None:
        self.contract, self.source, self.lake = contract, source, lake
        self.drafts: list[Draft] = []
        self.raw: dict[date, Stamp] = {}
        self.rejected: dict[date, str] = {}
        self.failures: Counter[str] = Counter()
        self.failed_days: dict[str, list[date]] = {}
        self.examples: dict[str, list[dict[str, str]]] = {}
        self.rows = 0
        self.acceptance = Acceptance(contract, source, lake)

    def stage(self, context: dg.AssetExecutionContext, deliveries: LakePartitions, timezone: str) -> None:
        """Stage every delivery window by window and write the accepted ones aside."""
        self.raw = deliveries.stamps()
        with self.lake.drafting(self.drafts):
            for day, stamp in self.raw.items():
                if not stamp.delivered:
                    self._judge(context, empty_day(day, contract=self.contract, source=self.source))
            for days, raw in deliveries.windows():
                for staged in stage_window(raw, days, contract=self.contract, source=self.source, timezone=timezone):
                    self._judge(context, staged)

    def _judge(self, context: dg.AssetExecutionContext, staged: StagedDay) -> None:
        stamp = staged.stamp
        self.rows += stamp.rows_delivered
        for check, count in staged.failures.items():
            self.failures[check] += count
            if count:
                self.failed_days.setdefault(check, []).append(staged.day)
                shown = self.examples.setdefault(check, [])
                shown += [{"day": staged.day.isoformat()} | row for row in staged.examples.get(check, [])]
        refusal = self.acceptance.judge(staged)
        if refusal:
            self.rejected[staged.day] = refusal
            return
        self.drafts.append(
            self.lake.write_aside(self.contract.table, staged.day, staged.rows, stamp, staged.quarantined)
        )
        context.add_asset_metadata(_figures(stamp), partition_key=staged.day.isoformat())

    def results(self) -> Iterator[dg.AssetCheckResult]:
        """How each rule came out over the run; a row rule stops nothing by itself, a rejected delivery does."""
        table = self.contract.table
        judged = len(self.rejected) + len(self.drafts)
        yield result(
            table, ACCEPTED, severity="critical", failed=len(self.rejected), judged=judged,
            error=True, days=list(self.rejected), note=" ".join(list(self.rejected.values())[:3]),
        )  # fmt: skip
        severities = dict.fromkeys(_general(self.contract), "critical")
        severities |= {rule.name: rule.severity for rule in self.contract.rules}
        for name, severity in severities.items():
            failed = self.failures[name]
            yield result(
                table, name, severity=severity, failed=failed, judged=self.rows, days=self.failed_days.get(name, []),
                error=severity == "critical" and bool(set(self.failed_days.get(name, [])) & set(self.rejected)),
                examples=self.examples.get(name, [])[:10],
                note=self._whereabouts(failed) if failed and severity == "critical" else "",
            )  # fmt: skip

    def balance(self) -> dg.AssetCheckResult:
        """The row accounting of what was accepted, read back from the lake: after the drafts were promoted."""
        with explained():
            accounts = staging_accounts(self.lake, self.drafts, self.raw)
        return balance_result(self.contract.table, accounts, of="delivered", note=equation(accounts))

    def _whereabouts(self, failed: int) -> str:
        if self.rejected:
            return f"{failed} rows cannot be taken: those of accepted deliveries are in quarantine."
        return f"{failed} rows went to quarantine."


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
