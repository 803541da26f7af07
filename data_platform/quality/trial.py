"""A source on trial: one day's delivery is fetched, mapped, typed and judged as a run would, and nothing is written."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import polars as pl

from data_platform.contracts.contract import Contract
from data_platform.errors import DeliveryRejected, SettingsError
from data_platform.lake import Lake
from data_platform.quality.acceptance import Acceptance
from data_platform.quality.masking import MASK, masked
from data_platform.settings import Settings
from data_platform.sources.config import Source
from data_platform.sources.deliveries import Found, can_be_asked, extract, landed, place, wanted_columns
from data_platform.sources.evolution import refuse_undeclared
from data_platform.sources.extraction import Extracted, window_of
from data_platform.sources.landing import Delivery, check_header, find_deliveries, read_delivery
from data_platform.sources.manifest import Manifest, disagreement
from data_platform.sources.mapping import find_delivered, unknown_columns
from data_platform.transforms.staging import StagedDay, delivered_columns, required_columns, stage_window

EXAMPLE_LENGTH = 40


@dataclass(frozen=True)
class Column:
    """How one canonical column comes out. `delivered` is the name it comes under, None where it does not.

    `example` is the first staged value, masked where it is personal; `nulls` and `unreadable` count rows.
    """

    name: str
    delivered: str | None
    delivered_type: str
    becomes: str
    nulls: int
    unreadable: int
    example: str


@dataclass(frozen=True)
class Reject:
    """A reason for which rows would go to quarantine, and where some of them are: file, row and key."""

    reason: str
    rows: int
    examples: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Trial:
    """What a run would make of the delivery. `refusal`: why it would be rejected as a whole.

    Of one of several sources the limits of its entity are not judged: they are for what all of them deliver.
    """

    day: date
    files: Sequence[str]
    rows: int
    staged: int
    quarantined: int
    duplicates: int
    columns: Sequence[Column]
    unknown: Sequence[str]
    rejects: Sequence[Reject]
    refusal: str | None
    extracted: Extracted


def try_source(source: Source, contract: Contract, settings: Settings, day: date) -> Trial | None:
    """The trial of `day`; None where nothing was delivered for it.

    Raises DeliveryRejected where the delivery cannot be read, SourceUnavailable and SettingsError where the source
    cannot be asked.
    """
    with fetched(source, contract, settings, day) as found:
        return None if found is None else _judged(found, source, contract, settings)


@dataclass(frozen=True)
class Fetched:
    """A delivery, read; and what the source says of it."""

    delivery: Delivery
    raw: pl.DataFrame
    extracted: Extracted
    manifest: Manifest | None


@contextmanager
def fetched(source: Source, contract: Contract, settings: Settings, day: date) -> Iterator[Fetched | None]:
    """The delivery of `day`, from the landing folder or asked for and kept in a temporary folder meanwhile.

    None where nothing was delivered. Raises as `try_source`.
    """
    if source.asked is None:
        with closing(landed(settings, source.folder, [day])) as deliveries:
            manifest = deliveries.manifest(day)
            yield _read(deliveries.find(day), source, Extracted(), manifest)
        return
    if not can_be_asked(source.asked[1], day, datetime.now(settings.zone).date()):
        raise SettingsError(
            f"{place(source)} has no window: it tells how things are now, and is asked for today and yesterday alone."
        )
    with tempfile.TemporaryDirectory(prefix="data-platform-") as folder:
        into = Path(folder) / source.folder / day.isoformat()
        into.mkdir(parents=True)
        window = window_of(day, settings.timezone, source.asked[1].lookback)
        extracted = extract(source, window, into, columns=wanted_columns(source, contract))
        manifest = Manifest(rows=extracted.rows) if extracted.rows is not None else None
        yield _read(find_deliveries(folder, source.folder, [day]).get(day), source, extracted, manifest)


def _read(found: Found, source: Source, extracted: Extracted, manifest: Manifest | None) -> Fetched | None:
    if isinstance(found, DeliveryRejected):
        raise found
    return Fetched(found, read_delivery(found, source), extracted, manifest) if found else None


def _judged(found: Fetched, source: Source, contract: Contract, settings: Settings) -> Trial:
    delivery, raw, manifest = found.delivery, found.raw, found.manifest
    required = [*required_columns(contract), *(["line_number"] if source.unit == "line" else [])]
    check_header(raw.columns, source, required)
    frame = raw.with_columns(pl.lit(delivery.day).alias("_partition"))
    [staged] = stage_window(frame, [delivery.day], contract=contract, source=source, timezone=settings.timezone)
    differs = disagreement(manifest, raw, source, contract) if manifest else None
    refusal = f"what came is not what the source counts: {differs}." if differs else staged.refusal or None
    try:
        refuse_undeclared(raw.schema, source, contract, delivered_columns(contract))
    except DeliveryRejected as error:
        refusal = refusal or str(error)
    if not refusal and not source.name:  # limits and the guard judge what all sources of an entity delivered
        refusal = Acceptance(contract, source, Lake.of(settings)).judge(staged)
    return Trial(
        day=delivery.day,
        files=[file.name for file in delivery.files],
        rows=raw.height,
        staged=staged.stamp.rows_staged,
        quarantined=staged.stamp.rows_quarantined,
        duplicates=staged.stamp.rows_duplicate,
        columns=[_column(name, raw, staged, source, contract) for name in delivered_columns(contract)],
        unknown=[
            masked(name)
            for name in unknown_columns(raw.columns, source, delivered_columns(contract))
            if name not in source.ignore
        ],
        rejects=_rejects(staged),
        refusal=refusal,
        extracted=found.extracted,
    )


def _column(name: str, raw: pl.DataFrame, staged: StagedDay, source: Source, contract: Contract) -> Column:
    column, spec = contract.columns[name], source.spec(name)
    delivered = find_delivered(name, source, [known for known in raw.columns if not known.startswith("_")])
    values = staged.rows.get_column(name)
    given = values.drop_nulls()
    example = "" if given.is_empty() else MASK if column.pii else masked(str(given[0]))[:EXAMPLE_LENGTH]
    unread = f"{name} cannot be read as {column.type_name}"
    return Column(
        name,
        f"constant {spec.constant}" if spec.constant is not None else delivered,
        "" if delivered is None else str(raw.schema[delivered]),
        column.type_name,
        values.null_count(),
        _reasons(staged).filter(pl.col("_reasons") == unread).height,
        example,
    )


def _reasons(staged: StagedDay) -> pl.DataFrame:
    if staged.quarantined.is_empty():
        return pl.DataFrame(schema={"_reasons": pl.String, "_file": pl.String, "_row": pl.Int64})
    return staged.quarantined.select("_reasons", "_file", "_row").explode("_reasons")


def _rejects(staged: StagedDay) -> list[Reject]:
    """The reasons, the most frequent first, each with the places of its first rows."""
    found = []
    for (reason,), rows in _reasons(staged).group_by("_reasons", maintain_order=True):
        places = [{"file": masked(str(file)), "row": str(row)} for _, file, row in rows.head(3).iter_rows()]
        found.append(Reject(str(reason), rows.height, places))
    return sorted(found, key=lambda one: (-one.rows, one.reason))
