"""Deliveries of texts through the platform's real staging, without Dagster: from raw frames to the lake, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Literal, TypeAlias

import polars as pl

from data_platform.contracts import STAGED
from data_platform.lake import Lake
from data_platform.quality.acceptance import Acceptance
from data_platform.sources.config import Source
from data_platform.transforms.staging import StagedDay, delivered_columns, stage_window
from data_platform_tests.proof.delivered import Delivered
from data_platform_tests.reference import Delivery, Entity

Refusal: TypeAlias = Literal["", "too many rejected rows", "too many deletions"]


@dataclass(frozen=True)
class Verdict:
    """What the platform made of a delivery, to be held against `Settled`: the refusal, and the figures of law 4."""

    refusal: Refusal
    figures: Mapping[str, int]
    staged: StagedDay


def deliver(lake: Lake, delivered: Delivered, timezone: str) -> Verdict:
    """Stage a delivery in place of what its day had; one that is refused leaves that as it is."""
    [verdict] = deliver_range(lake, [delivered], timezone)
    return verdict


def deliver_range(lake: Lake, deliveries: Sequence[Delivered], timezone: str) -> list[Verdict]:
    """Stage deliveries of one source for different days in one run, as the assets do; verdicts in the order of days.

    About 30 ms for each window (neighbouring days that agree in their columns), few more for each of its days.
    """
    entity, terms = deliveries[0].entity, deliveries[0].terms
    assert all((delivered.entity, delivered.terms) == (entity, terms) for delivered in deliveries)
    contract = STAGED[entity]
    source = Source.model_validate({**terms, "entity": entity})
    acceptance = Acceptance(contract, source, lake)
    verdicts, drafts = [], []
    in_order = sorted(deliveries, key=lambda delivered: delivered.day)
    for _, neighbours in groupby(in_order, key=lambda delivered: delivered.columns):
        window = list(neighbours)
        frame = pl.concat([raw(delivered) for delivered in window])
        days = [delivered.day for delivered in window]
        for staged in stage_window(frame, days, contract=contract, source=source, timezone=timezone):
            reason = acceptance.judge(staged)
            if reason is None:
                drafts.append(
                    lake.write_aside(contract.table, staged.day, staged.rows, staged.stamp, staged.quarantined)
                )
            verdicts.append(Verdict(_kind(reason), _figures(staged), staged))
    lake.promote(drafts)
    return verdicts


def raw(delivered: Delivered) -> pl.DataFrame:
    """The delivery as raw holds it: its files in byte order, their rows in order, every value the text it was."""
    rows = sorted(delivered.rows, key=lambda told: (told.file.encode(), told.row))
    columns: dict[str, pl.Series] = {
        name: pl.Series([told.values.get(name) for told in rows], dtype=pl.String) for name in delivered.columns
    }
    columns["_file"] = pl.Series([told.file for told in rows], dtype=pl.String)
    columns["_row"] = pl.Series([told.row for told in rows], dtype=pl.Int64)
    columns["_partition"] = pl.Series([delivered.day] * len(rows), dtype=pl.Date)
    return pl.DataFrame(columns)


def _figures(staged: StagedDay) -> dict[str, int]:
    stamp = staged.stamp
    return {
        "delivered": stamp.rows_delivered,
        "staged": stamp.rows_staged,
        "quarantined": stamp.rows_quarantined,
        "duplicate": stamp.rows_duplicate,
    }


def _kind(reason: str | None) -> Refusal:
    if reason is None:
        return ""
    # Each sentence names the setting that lets the delivery through.
    return "too many deletions" if "accept_deletions" in reason else "too many rejected rows"


def landed(lake: Lake, entity: Entity, day: date) -> Delivery | None:
    """What the lake holds for a day, as the reference would have it; None where it holds nothing."""
    contract = STAGED[entity]
    stamp = lake.stamp(contract.table, day)
    if stamp is None:
        return None
    tombstone = "is_tombstone" if entity == "orders" else "is_deleted"
    lineage = {tombstone: "deleted", "_file": "file", "_row": "row"}
    columns = [*(name for name in delivered_columns(contract) if name != "is_deleted"), *lineage]
    rows = lake.read(contract.table, day).select(columns).rename(lineage)
    quarantined = []
    path = lake.quarantine_path(contract.table, day, stamp)
    if path.exists():
        keys = {f"_{name}": name for name in contract.key} | {"_file": "file", "_row": "row"}
        quarantined = pl.read_parquet(path, columns=list(keys)).rename(keys).to_dicts()
    return Delivery(
        entity,
        day,
        mode=stamp.mode,  # type: ignore[arg-type]
        unit=stamp.unit if entity == "orders" else "line",  # type: ignore[arg-type]
        unknown=frozenset(stamp.unknown),
        rows=rows.to_dicts(),
        quarantined=quarantined,
    )
