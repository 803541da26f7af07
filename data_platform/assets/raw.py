"""raw_orders, raw_products, raw_customers: what a source delivered for a day, untouched."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from data_platform.assets.catalogue import OWNERS, SINGLE_RUN
from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.errors import DeliveryRejected
from data_platform.failures import explained, failure
from data_platform.lake import Draft, Lake, Stamp
from data_platform.partitions import DAILY, days_of
from data_platform.quality.balances import raw_accounts
from data_platform.quality.checks import balance_result, balance_spec, listed, result, spec
from data_platform.quality.history import CheckRecord
from data_platform.quality.masking import masked
from data_platform.quality.recording import balance_records, keep, rows_record
from data_platform.resources import Platform
from data_platform.sources.config import Source
from data_platform.sources.landing import Delivery, check_header, find_deliveries, read_delivery
from data_platform.sources.manifest import disagreement, read_manifest
from data_platform.sources.mapping import unknown_columns
from data_platform.transforms.staging import delivered_columns, required_columns

ACCEPTED = "delivery_can_be_read"
DELIVERED = "delivery_is_there"
KNOWN = "columns_are_known"
AGREES = "manifest_agrees"


def _specs(table: str) -> list[dg.AssetCheckSpec]:
    return [
        spec(table, ACCEPTED, "The delivery can be read whole and brings the required columns.", "critical"),
        spec(table, AGREES, "Rows and sums are those of the source's manifest, where it gives one.", "critical"),
        spec(table, DELIVERED, "Something was delivered for the day.", "warning"),
        spec(table, KNOWN, "Every delivered column has a place in the contract; others stay in raw.", "info"),
        balance_spec(table, "Rows in the landing files, rows read and rows in raw are equal; so are the bytes."),
    ]


def _raw_asset(entity: str, contract: Contract) -> dg.AssetsDefinition:
    table = f"raw_{entity}"

    @dg.asset(
        name=table,
        partitions_def=DAILY,
        backfill_policy=SINGLE_RUN,
        group_name="raw",
        kinds={"parquet", "polars"},
        owners=OWNERS,
        io_manager_key="lake",
        check_specs=_specs(table),
        description=(
            f"What the source delivered of {entity} for a day, untouched: values as delivered, with _file and _row "
            "saying where each row came from. A day without a delivery is an empty partition."
        ),
        metadata={"dagster/column_schema": _schema(contract)},
    )
    def raw(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
        with explained():
            intake = _Intake(table, entity, contract, platform)
            intake.take(context, days_of(context.partition_keys))
        keep(platform, context.run.run_id, list(intake.records()))
        yield from intake.results()
        if not intake.rejected:
            yield dg.Output(intake.drafts)
            yield intake.balance(context.run.run_id)
            return
        with explained():
            intake.lake.promote(intake.drafts)
        yield intake.balance(context.run.run_id)
        for draft in intake.drafts:
            # Dagster writes none for a step that fails, and these days did arrive.
            day = draft.day.isoformat()
            context.log_event(dg.AssetMaterialization(table, partition=day, metadata=_figures(draft)))
        taken = " The other days of the run are in raw: mend this and run the same days again." if intake.drafts else ""
        raise failure(rejection(table, intake.rejected) + taken)

    return raw


def rejection(table: str, rejected: Mapping[date, str]) -> str:
    """The sentence for a run with rejected deliveries: the reason of the first, and which others there are."""
    first, *others = sorted(rejected)
    more = f" ({len(others)} more rejected: {listed(others)}.)" if others else ""
    return f"{table} {first}: {rejected[first]}{more}"


def _schema(contract: Contract) -> dg.TableSchema:
    columns = [
        dg.TableColumn(
            name,
            "as delivered",
            contract.columns[name].description,
            constraints=dg.TableColumnConstraints(nullable=not contract.columns[name].required),
            tags={"pii": ""} if contract.columns[name].pii else {},
        )
        for name in delivered_columns(contract)
    ]
    columns.append(dg.TableColumn("_file", "text", "The file the row came from, below the entity's landing folder."))
    columns.append(dg.TableColumn("_row", "bigint", "The row's number in that file, from 1."))
    return dg.TableSchema(columns)


class _Intake:
    """The deliveries of one run of a raw asset: drafts of those that can be taken, the reasons of the others."""

    def __init__(self, table: str, entity: str, contract: Contract, platform: Platform) -> None:
        self.table, self.entity, self.contract, self.platform = table, entity, contract, platform
        self.lake: Lake = platform.lake
        self.landing = platform.settings.landing_url
        self.source: Source = platform.sources[entity]
        self.drafts: list[Draft] = []
        self.deliveries: dict[date, Delivery] = {}
        self.rejected: dict[date, str] = {}
        self.absent: list[date] = []
        self.standing: list[date] = []
        self.unknown: dict[date, list[str]] = {}
        self.manifests: dict[date, str] = {}

    def take(self, context: dg.AssetExecutionContext, days: Sequence[date]) -> None:
        """Read every delivery and write it aside, with the figures of each partition as its metadata."""
        found = find_deliveries(self.landing, self.entity, days)
        with self.lake.drafting(self.drafts):
            for day in days:
                draft = self._draft(day, found.get(day))
                if draft is not None:
                    self.drafts.append(draft)
                    context.add_asset_metadata(_figures(draft), partition_key=day.isoformat())

    def _draft(self, day: date, delivery: Delivery | DeliveryRejected | None) -> Draft | None:
        if delivery is None:
            try:
                self._refuse_promises(day)
            except DeliveryRejected as error:
                self.rejected[day] = str(error)
                return None
            return self._undelivered(day)
        if isinstance(delivery, DeliveryRejected):
            self.rejected[day] = str(delivery)
            return None
        return self._read(delivery)

    def _undelivered(self, day: date) -> Draft | None:
        stamp = self.lake.stamp(self.table, day)
        if stamp is not None and stamp.delivered:
            # The file is gone, what it delivered is not.
            self.standing.append(day)
            return Draft(self.table, day, stamp, None)
        self.absent.append(day)
        return self.lake.write_aside(self.table, day, pl.DataFrame(), Stamp(content="", delivered=False))

    def _read(self, delivery: Delivery) -> Draft | None:
        try:
            frame = read_delivery(delivery, self.source)
            self._check_columns(frame, delivery)
            self._check_manifest(frame, delivery.day)
        except DeliveryRejected as error:
            self.rejected[delivery.day] = str(error)
            return None
        unknown = unknown_columns(frame.columns, self.source, delivered_columns(self.contract))
        if unknown:
            # A file without a header has a row of values where its names should be.
            self.unknown[delivery.day] = [masked(column) for column in unknown]
        self.deliveries[delivery.day] = delivery
        stamp = Stamp(
            content=hashlib.sha256(repr(frame.schema).encode() + frame.hash_rows().to_numpy().tobytes()).hexdigest(),
            rows_delivered=frame.height,
            totals={"bytes": str(sum(file.size for file in delivery.files))},
            files=tuple(file.name for file in delivery.files),
        )
        return self.lake.write_aside(self.table, delivery.day, frame, stamp)

    def _check_columns(self, frame: pl.DataFrame, delivery: Delivery) -> None:
        required = required_columns(self.contract)
        if self.source.unit == "line":
            required.append("line_number")
        try:
            check_header(frame.columns, self.source, required)
        except DeliveryRejected as error:
            names = ", ".join(file.name for file in delivery.files[:3])
            raise DeliveryRejected(f"{self.entity}/{names}: {error}") from None

    def _check_manifest(self, frame: pl.DataFrame, day: date) -> None:
        manifest = read_manifest(Path(self.landing), self.entity, day)
        if manifest is None:
            return
        self.manifests[day] = disagreement(manifest, frame, self.source, self.contract) or ""
        if self.manifests[day]:
            raise DeliveryRejected(self.manifests[day])

    def _refuse_promises(self, day: date) -> None:
        """A manifest of rows without a file: they are not there yet, or were lost."""
        manifest = read_manifest(Path(self.landing), self.entity, day)
        if manifest is not None and manifest.rows:
            self.manifests[day] = (
                f"its manifest tells of {manifest.rows} rows, and no file is there: have it delivered, or take the "
                "manifest away."
            )
            raise DeliveryRejected(self.manifests[day])

    def results(self) -> Iterator[dg.AssetCheckResult]:
        """How the run's deliveries came out."""
        judged = len(self.drafts) + len(self.rejected)
        yield result(
            self.table, ACCEPTED, severity="critical", failed=len(self.rejected), judged=judged,
            error=True, days=list(self.rejected), note=" ".join(list(self.rejected.values())[:3]),
        )  # fmt: skip
        wrong = {day: reason for day, reason in self.manifests.items() if reason}
        yield result(
            self.table, AGREES, severity="critical", failed=len(wrong), judged=len(self.manifests),
            error=True, days=list(wrong), note=" ".join(list(wrong.values())[:3]),
        )  # fmt: skip
        missing = [*self.absent, *self.standing]
        note = ""
        if missing:
            note = f"Nothing is in the landing folder for {len(missing)} of {judged} days"
            note += f"; for {len(self.standing)} of them an earlier delivery stands." if self.standing else "."
        yield result(
            self.table, DELIVERED, severity="warning", failed=len(missing), judged=judged, days=missing, note=note
        )  # fmt: skip
        columns = sorted({column for unknown in self.unknown.values() for column in unknown})
        note = f"Columns without a place: {', '.join(columns)}." if columns else ""
        days = list(self.unknown)
        yield result(self.table, KNOWN, severity="info", failed=len(days), judged=judged, days=days, note=note)

    def records(self) -> Iterator[CheckRecord]:
        """The same, a record each day."""
        missing = {*self.absent, *self.standing}
        for day in sorted({*self.rejected, *(draft.day for draft in self.drafts)}):
            refusal = self.rejected.get(day, "")
            record = partial(rows_record, self.table, day=day, judged=1)
            yield record(ACCEPTED, "critical", failed=int(bool(refusal)), note=refusal)
            if day in self.manifests:
                yield record(AGREES, "critical", failed=int(bool(self.manifests[day])), note=self.manifests[day])
            yield record(DELIVERED, "warning", failed=int(day in missing))
            unknown = self.unknown.get(day, [])
            yield record(KNOWN, "info", failed=int(bool(unknown)), note=", ".join(unknown))

    def balance(self, run_id: str) -> dg.AssetCheckResult:
        """The row accounting of what was taken, read back from the lake: after the drafts were promoted."""
        with explained():
            accounts = raw_accounts(self.lake, self.drafts, self.deliveries)
        rows, files = (sum(int(account.figures[name] or 0) for account in accounts) for name in ("in_raw", "files"))
        keep(self.platform, run_id, balance_records(self.table, accounts, of="read"))
        return balance_result(self.table, accounts, of="read", note=f"{rows} rows of {files} files are in raw.")


def _figures(draft: Draft) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "dagster/partition_row_count": draft.stamp.rows_delivered,
        "delivered": draft.stamp.delivered,
    }
    if draft.stamp.files:
        figures["files"] = ", ".join(draft.stamp.files[:5])
        figures["bytes"] = int(draft.stamp.totals.get("bytes", 0))
    return figures


RAW = [_raw_asset(entity, contract) for entity, contract in STAGED.items()]
