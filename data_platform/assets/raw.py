"""raw_orders, raw_products, raw_customers: what a source delivered for a day, untouched."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from data_platform.assets.catalogue import OWNERS, SINGLE_RUN
from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.errors import DeliveryRejected
from data_platform.failures import explained, failure
from data_platform.lake import DELETED, Draft, Lake, Stamp, footer_of
from data_platform.partitions import DAILY, days_of
from data_platform.quality.balances import InFiles, in_files, raw_accounts
from data_platform.quality.checks import balance_result, balance_spec, listed, result, spec
from data_platform.quality.history import CheckRecord
from data_platform.quality.masking import masked
from data_platform.quality.recording import balance_records, keep, keep_changes, rows_record
from data_platform.resources import Platform
from data_platform.sources.config import Source
from data_platform.sources.deliveries import REPLAY, Deliveries, deliveries_of
from data_platform.sources.evolution import SHOWN, Change, changes, refuse_undeclared
from data_platform.sources.landing import Delivery, check_header, read_delivery
from data_platform.sources.manifest import disagreement
from data_platform.sources.mapping import unknown_columns
from data_platform.transforms.parts import as_part, in_words, part_of, together, undeclared
from data_platform.transforms.staging import delivered_columns, required_columns

ACCEPTED = "delivery_can_be_read"
DELIVERED = "delivery_is_there"
KNOWN = "columns_are_known"
AGREES = "manifest_agrees"
AS_BEFORE = "columns_are_as_before"
LOOKED_BACK = 31  # partitions, for the columns of a source that may have been silent


def _specs(table: str) -> list[dg.AssetCheckSpec]:
    return [
        spec(table, ACCEPTED, "The delivery can be read whole and brings the required columns.", "critical"),
        spec(table, AGREES, "Rows and sums are those of the source's manifest, where it gives one.", "critical"),
        spec(table, DELIVERED, "Something was delivered for the day.", "warning"),
        spec(table, KNOWN, "Every delivered column has a place in the contract; others stay in raw.", "info"),
        spec(table, AS_BEFORE, "The delivery has the columns and types of the one before it.", "warning"),
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
            days = days_of(context.partition_keys)
            with closing(_Intake(table, entity, contract, platform, context.run, days)) as intake:
                intake.take(context, days)
        keep(platform, context.run.run_id, list(intake.records()))
        keep_changes(platform, context.run.run_id, table, intake.changes)
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

    def __init__(
        self, table: str, entity: str, contract: Contract, platform: Platform, run: dg.DagsterRun, days: Sequence[date]
    ) -> None:
        self.table, self.entity, self.contract, self.platform = table, entity, contract, platform
        self.lake: Lake = platform.lake
        self.source: Source = platform.sources[entity]
        parts = [self.source.sources[name] for name in sorted(self.source.sources)] or [self.source]
        self.parts: list[tuple[Source, Deliveries]] = [
            (part, deliveries_of(part, contract, platform.settings, days, run_id=run.run_id, replay=REPLAY in run.tags))
            for part in parts
        ]
        self.drafts: list[Draft] = []
        self.counted: dict[date, InFiles] = {}
        self.rejected: dict[date, str] = {}
        self.absent: list[date] = []
        self.standing: list[date] = []
        self.unknown: dict[date, list[str]] = {}
        self.manifests: dict[date, str] = {}
        self.changes: dict[date, list[Change]] = {}
        self.lacking: dict[date, list[str]] = {}  # of several sources those that delivered nothing
        self.before: dict[str, Mapping[str, pl.DataType]] = {}  # the columns of each source's delivery before

    def take(self, context: dg.AssetExecutionContext, days: Sequence[date]) -> None:
        """Read every delivery and write it aside, with the figures of each partition as its metadata."""
        with self.lake.drafting(self.drafts):
            for day in days:
                try:
                    draft = self._draft(day)
                except DeliveryRejected as error:
                    self.rejected[day] = str(error)
                    continue
                self.drafts.append(draft)
                context.add_asset_metadata(_figures(draft), partition_key=day.isoformat())

    def close(self) -> None:
        """Remove what the sources fetched for the while."""
        for _, deliveries in self.parts:
            deliveries.close()

    def _draft(self, day: date) -> Draft:
        """What the sources delivered for `day`, written aside; raises DeliveryRejected."""
        found: list[tuple[Source, pl.DataFrame, Delivery]] = []
        missing: list[Source] = []
        unknown: list[str] = []
        for source, deliveries in self.parts:
            delivery = deliveries.find(day)
            if isinstance(delivery, DeliveryRejected):
                raise delivery
            if delivery is None:
                self._refuse_promises(day, deliveries)
                missing.append(source)
                continue
            frame = read_delivery(delivery, source)
            self._check_columns(frame, delivery, source)
            refuse_undeclared(frame.schema, source, self.contract, delivered_columns(self.contract))
            self._check_manifest(frame, day, source, deliveries)
            found.append((source, frame, delivery))
            names = unknown_columns(frame.columns, source, delivered_columns(self.contract))
            unknown += [name for name in names if name not in source.ignore]
        if not found:
            return self._undelivered(day)
        if unknown:
            # A file without a header has a row of values where its names should be.
            self.unknown[day] = [masked(column) for column in unknown]
        self._refuse_parts(found, missing)
        if missing:
            self.lacking[day] = [source.name for source in missing]
        return self._written(day, found, self._kept(day, missing))

    def _refuse_parts(self, found: Sequence[tuple[Source, pl.DataFrame, Delivery]], missing: Sequence[Source]) -> None:
        """Of several sources a full delivery is one of all: what one of them does not tell of would be deleted."""
        silent = [source.name for source in missing]
        silent += [source.name for source, frame, _ in found if source.name and frame.is_empty()]
        if silent and self.source.mode == "full" and len(silent) < len(self.parts):
            raise DeliveryRejected(
                f"{' and '.join(silent)} delivered no rows: a full delivery is one of all sources, what is absent "
                "would be deleted. Have it delivered and run the day again."
            )

    def _undelivered(self, day: date) -> Draft:
        stamp = self.lake.stamp(self.table, day)
        if stamp is not None and stamp.delivered:
            # The file is gone, what it delivered is not.
            self.standing.append(day)
            return Draft(self.table, day, stamp, None)
        self.absent.append(day)
        return self.lake.write_aside(self.table, day, pl.DataFrame(), Stamp(content="", delivered=False))

    def _kept(self, day: date, missing: Sequence[Source]) -> list[pl.DataFrame]:
        """What raw already has of those of several sources that deliver nothing (any more)."""
        stamp = self.lake.stamp(self.table, day) if missing else None
        if stamp is None or not stamp.delivered:
            return []
        standing = self.lake.read(self.table, day)
        if strangers := undeclared(standing, self.source):
            raise DeliveryRejected(
                f"raw has rows of {in_words(strangers[None])}, which sources.yaml does not declare, and "
                f"{' and '.join(source.name for source in missing)} delivered nothing that could stand in for them: "
                "declare it as it was, or have all sources deliver the day."
            )
        kept = [part_of(standing, source.name) for source in missing]
        return [frame for frame in kept if not frame.is_empty()]

    def _written(
        self, day: date, found: Sequence[tuple[Source, pl.DataFrame, Delivery]], kept: Sequence[pl.DataFrame]
    ) -> Draft:
        files = [
            (f"{source.name}/{file.name}" if source.name else file.name, file)
            for source, _, delivery in found
            for file in delivery.files
        ]
        if self.source.sources:
            frame = together([*(as_part(frame, source.name) for source, frame, _ in found), *kept])
        else:
            frame = found[0][1]
        for source, own, _ in found:
            self._compare(day, source.name, own)
        if not kept:  # what stands has no files any more to be balanced with
            # Now: what was fetched for this day goes with the next.
            self.counted[day] = in_files(Delivery(self.entity, day, tuple(file for _, file in files)))
        stamp = Stamp(
            content=hashlib.sha256(repr(frame.schema).encode() + frame.hash_rows().to_numpy().tobytes()).hexdigest(),
            rows_delivered=frame.height,
            totals={"bytes": str(sum(file.size for _, file in files))},
            files=tuple(name for name, _ in files),
        )
        return self.lake.write_aside(self.table, day, frame, stamp)

    def _check_columns(self, frame: pl.DataFrame, delivery: Delivery, source: Source) -> None:
        required = required_columns(self.contract)
        if source.unit == "line":
            required.append("line_number")
        try:
            check_header(frame.columns, source, required)
        except DeliveryRejected as error:
            names = ", ".join(file.name for file in delivery.files[:3])
            raise DeliveryRejected(f"{source.folder}/{names}: {error}") from None

    def _compare(self, day: date, name: str, frame: pl.DataFrame) -> None:
        """Note how a source's columns differ from those of its delivery before, of this run or in the lake."""
        before = self.before.get(name) or self._schema_before(day, name)
        if before is not None and (found := changes(before, frame.schema)):
            of = f"{name}." if name else ""
            named = (replace(change, column=f"{of}{change.column}") for change in found)
            self.changes[day] = [*self.changes.get(day, []), *named]
        self.before[name] = frame.schema

    def _schema_before(self, day: date, name: str) -> Mapping[str, pl.DataType] | None:
        of = f"{name}." if name else ""
        for known in [known for known in reversed(self.lake.days(self.table)) if known < day][:LOOKED_BACK]:
            stamp = self.lake.stamp(self.table, known)
            if stamp is None or stamp.moved == DELETED:
                continue
            if any(file.startswith(f"{name}/" if name else "") for file in stamp.files):
                schema = pl.read_parquet_schema(footer_of(self.lake.held(self.table, known, stamp)))
                return {column.removeprefix(of): kind for column, kind in schema.items() if column.startswith(of)}
        return None

    def _check_manifest(self, frame: pl.DataFrame, day: date, source: Source, deliveries: Deliveries) -> None:
        manifest = deliveries.manifest(day)
        if manifest is None:
            return
        differs = disagreement(manifest, frame, source, self.contract)
        if differs:
            self.manifests[day] = f"{deliveries.counts}: {differs}. {deliveries.mend}"
            raise DeliveryRejected(self.manifests[day])
        self.manifests.setdefault(day, "")

    def _refuse_promises(self, day: date, deliveries: Deliveries) -> None:
        """A manifest of rows without a file: they are not there yet, or were lost."""
        manifest = deliveries.manifest(day)
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
            note = f"{self.parts[0][1].absent} for {len(missing)} of {judged} days"
            note += f"; for {len(self.standing)} of them an earlier delivery stands." if self.standing else "."
        if self.lacking:
            names = sorted({name for lacking in self.lacking.values() for name in lacking})
            note = f"{note} Nothing of {', '.join(names)} for {len(self.lacking)} of {judged} days.".lstrip()
        missing = sorted({*missing, *self.lacking})
        yield result(
            self.table, DELIVERED, severity="warning", failed=len(missing), judged=judged, days=missing, note=note
        )  # fmt: skip
        yield self._compared(judged)
        columns = sorted({column for unknown in self.unknown.values() for column in unknown})
        note = f"Columns without a place: {', '.join(columns)}." if columns else ""
        days = list(self.unknown)
        yield result(self.table, KNOWN, severity="info", failed=len(days), judged=judged, days=days, note=note)

    def _compared(self, judged: int) -> dg.AssetCheckResult:
        rows = [
            {"day": day.isoformat(), "column": masked(one.column), "before": one.before, "after": one.after}
            for day, found in self.changes.items()
            for one in found
        ]
        said = [f"{day}: {'; '.join(one.in_words() for one in found[:SHOWN])}" for day, found in self.changes.items()]
        return result(
            self.table, AS_BEFORE, severity="warning", failed=len(self.changes), judged=judged, days=list(self.changes),
            examples=rows[:SHOWN], note=f"{'. '.join(said[:3])}." if said else "",
        )  # fmt: skip

    def records(self) -> Iterator[CheckRecord]:
        """The same, a record each day."""
        missing = {*self.absent, *self.standing}
        for day in sorted({*self.rejected, *(draft.day for draft in self.drafts)}):
            refusal = self.rejected.get(day, "")
            record = partial(rows_record, self.table, day=day, judged=1)
            yield record(ACCEPTED, "critical", failed=int(bool(refusal)), note=refusal)
            if day in self.manifests:
                yield record(AGREES, "critical", failed=int(bool(self.manifests[day])), note=self.manifests[day])
            lacking = ", ".join(self.lacking.get(day, []))
            yield record(
                DELIVERED, "warning", failed=int(day in missing or bool(lacking)),
                note=f"Nothing of {lacking}." if lacking else "",
            )  # fmt: skip
            changed = "; ".join(one.in_words() for one in self.changes.get(day, [])[:SHOWN])
            yield record(AS_BEFORE, "warning", failed=int(bool(changed)), note=changed)
            unknown = self.unknown.get(day, [])
            yield record(KNOWN, "info", failed=int(bool(unknown)), note=", ".join(unknown))

    def balance(self, run_id: str) -> dg.AssetCheckResult:
        """The row accounting of what was taken, read back from the lake: after the drafts were promoted."""
        with explained():
            accounts = raw_accounts(self.lake, self.drafts, self.counted)
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
