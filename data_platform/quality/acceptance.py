"""Whether a delivery may take the place of what stands: few enough rejected rows, few enough absent members.

A rejected delivery leaves the former staging, and so the warehouse, as it was. No Dagster here: frames and a lake.
"""

from datetime import date

import polars as pl

from data_platform.contracts.contract import Contract
from data_platform.contracts.rules import Measure, Rule
from data_platform.lake import Lake
from data_platform.sources.config import Source
from data_platform.transforms.staging import StagedDay


class Acceptance:
    """Judges the deliveries of one source for one staged table, in the order of their days."""

    def __init__(self, contract: Contract, source: Source, lake: Lake) -> None:
        self.contract, self.source = contract, source
        self.guard = DeletionGuard(contract, source, lake) if source.mode == "full" else None

    def judge(self, staged: StagedDay) -> str | None:
        """Why the delivery must be rejected, in a sentence that follows its name; None where it may be taken."""
        if staged.refusal:
            return staged.refusal
        stamp = staged.stamp
        share = stamp.rows_quarantined / max(stamp.rows_delivered, 1)
        if share > self.source.reject_share and stamp.rows_quarantined >= self.source.reject_rows:
            file, reason = _worst(staged.quarantined)
            return (
                f"{stamp.rows_quarantined} of {stamp.rows_delivered} rows cannot be taken, most often since {reason!r} "
                f"(in {file}); the delivery is rejected and what stood before stands: mend the file and run the day "
                "again, or raise reject_share in sources.yaml."
            )
        return self._unruly(staged) or (self.guard.judge(staged) if self.guard else None)

    def _unruly(self, staged: StagedDay) -> str | None:
        """The critical rule of the contract that stops the delivery as a whole, or that cannot be judged."""
        rules: tuple[Rule | Measure, ...] = (*self.contract.rules, *self.contract.measures)
        for rule in rules:
            if rule.severity != "critical":
                continue
            if rule.name in staged.errors:
                return (
                    f"the critical rule {rule.name} cannot be judged ({staged.errors[rule.name]}); the delivery is "
                    "rejected and what stood before stands: mend the rule in the contract and run the day again."
                )
            if isinstance(rule, Measure) and not rule.holds(staged.measured.get(rule.name)):
                return (
                    f"{rule.name} is {staged.measured[rule.name]:g}, not {rule.threshold} ({rule.description}); the "
                    "delivery is rejected and what stood before stands: mend the file and run the day again."
                )
        return None


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
            # Divided, not multiplied: 29 of 100 are 0.29, whereas 0.29 * 100 is less than 29.
            share = absent / max(len(known), 1)
            if share > self.source.deletion_share and absent >= self.source.deletion_rows:
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
