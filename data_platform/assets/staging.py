"""stg_orders, stg_products, stg_customers: typed, cleaned, deduplicated, contract-checked rows of a delivery."""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from data_platform.assets.catalogue import OWNERS, SINGLE_RUN, catalogue
from data_platform.assets.raw import rejection
from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.failures import explained, failure
from data_platform.io_managers.parquet import LakePartitions
from data_platform.lake import Draft, Lake, Stamp
from data_platform.partitions import DAILY
from data_platform.quality.checks import result, rule_specs, spec
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
            return
        with explained():
            judged.lake.promote(judged.drafts)
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
        self.rejected: dict[date, str] = {}
        self.failures: Counter[str] = Counter()
        self.failed_days: dict[str, list[date]] = {}
        self.examples: dict[str, list[dict[str, str]]] = {}
        self.rows = 0
        self.guard = DeletionGuard(contract, source, lake) if source.mode == "full" else None

    def stage(self, context: dg.AssetExecutionContext, deliveries: LakePartitions, timezone: str) -> None:
        """Stage every delivery window by window and write the accepted ones aside."""
        with self.lake.drafting(self.drafts):
            for day, stamp in deliveries.stamps().items():
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
        share = stamp.rows_quarantined / max(stamp.rows_delivered, 1)
        if share > self.source.reject_share and stamp.rows_quarantined >= self.source.reject_rows:
            file, reason = _worst(staged.quarantined)
            self.rejected[staged.day] = (
                f"{stamp.rows_quarantined} of {stamp.rows_delivered} rows cannot be taken, most often since {reason!r} "
                f"(in {file}); the delivery is rejected and what stood before stands: mend the file and run the day "
                "again, or raise reject_share in sources.yaml."
            )
            return
        refusal = self.guard.judge(staged) if self.guard else None
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
            blocking=True, days=list(self.rejected), note=" ".join(list(self.rejected.values())[:3]),
        )  # fmt: skip
        severities = dict.fromkeys(_general(self.contract), "critical")
        severities |= {rule.name: rule.severity for rule in self.contract.rules}
        for name, severity in severities.items():
            failed = self.failures[name]
            yield result(
                table, name, severity=severity, failed=failed, judged=self.rows, days=self.failed_days.get(name, []),
                blocking=severity == "critical" and bool(set(self.failed_days.get(name, [])) & set(self.rejected)),
                examples=self.examples.get(name, [])[:10],
                note=self._whereabouts(failed) if failed and severity == "critical" else "",
            )  # fmt: skip

    def _whereabouts(self, failed: int) -> str:
        if self.rejected:
            return f"{failed} rows cannot be taken: those of accepted deliveries are in quarantine."
        return f"{failed} rows went to quarantine."


class DeletionGuard:
    """Judges full deliveries, in the order of their days, against the nearest earlier staged one.

    What a full delivery lacks is deleted: half a file would delete half the members.
    """

    def __init__(self, contract: Contract, source: Source, lake: Lake) -> None:
        self.source, self.lake, self.table, self.key = source, lake, contract.table, contract.key[0]
        self.standing = lake.stamps(contract.table)
        self.accepted: dict[date, pl.Series | None] = {}

    def judge(self, staged: StagedDay) -> str | None:
        """Why the delivery must be rejected; None where it may be taken."""
        alive = staged.rows.filter(~pl.col("is_deleted")).get_column(self.key).unique()
        before = self._nearest(staged.day)
        if before is not None and staged.stamp.rows_staged and staged.day not in self.source.accept_deletions:
            day, known = before
            present = pl.concat([staged.rows.get_column(self.key), *self._rejected_keys(staged)])
            absent = len(known) - known.is_in(present.implode()).sum()
            if absent > self.source.deletion_share * len(known) and absent >= self.source.deletion_rows:
                return (
                    f"{absent} of the {len(known)} keys of the full delivery of {day} are absent, and would be "
                    "deleted; the delivery is rejected and what stood before stands: deliver the day whole, or let it "
                    f"through by `accept_deletions: [{staged.day}]` in sources.yaml."
                )
        # An empty delivery deletes nothing, and is nothing to compare with.
        self.accepted[staged.day] = alive if staged.stamp.rows_staged else None
        for day in sorted(day for day, keys in self.accepted.items() if keys is not None)[:-1]:
            self.accepted[day] = None  # only the nearest is looked at: a year of keys need not stay in memory
        return None

    def _nearest(self, day: date) -> tuple[date, pl.Series] | None:
        in_run = max((known for known, keys in self.accepted.items() if keys is not None), default=date.min)
        in_lake = max(
            (
                known
                for known, stamp in self.standing.items()
                if known < day and known not in self.accepted and stamp.mode == "full" and stamp.rows_staged
            ),
            default=date.min,
        )
        keys = self.accepted.get(in_run)
        if in_run > in_lake and keys is not None:
            return in_run, keys
        if in_lake == date.min:
            return None
        rows = self.lake.read(self.table, in_lake)
        return in_lake, rows.filter(~pl.col("is_deleted")).get_column(self.key).unique()

    def _rejected_keys(self, staged: StagedDay) -> list[pl.Series]:
        # A key whose row was quarantined counts as present.
        name = f"_{self.key}"
        rejected = staged.quarantined
        return [rejected.get_column(name).alias(self.key)] if name in rejected.columns else []


def _worst(quarantined: pl.DataFrame) -> tuple[str, str]:
    """The reason that rejected most rows, and the file with most of those."""
    reasons = quarantined.select("_file", "_reasons").explode("_reasons")
    reason = reasons.group_by("_reasons").len().sort("len", "_reasons", descending=[True, False]).item(0, "_reasons")
    files = reasons.filter(pl.col("_reasons") == reason).group_by("_file").len()
    return files.sort("len", "_file", descending=[True, False]).item(0, "_file"), reason


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
