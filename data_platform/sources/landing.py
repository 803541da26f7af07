"""Landing files: which deliveries lie there, and one delivery as a raw frame.

What belongs here: names of files and days, and what holds for a delivery as a whole. Reading one file of a format
is in `readers.py`, the meaning of columns in `mapping.py`, access to the files in `landing_folder.py` (a folder of this
machine) and `landing_store.py` (an object store).
"""

import difflib
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import polars as pl

from data_platform.costs import metering
from data_platform.errors import DeliveryRejected
from data_platform.quality.masking import masked
from data_platform.sources.config import Source
from data_platform.sources.landing_folder import DeliveredFile, Entry, Folder, Listed, LocalFolder, size_and_time
from data_platform.sources.landing_store import StoreFolder, is_url
from data_platform.sources.mapping import find_delivered
from data_platform.sources.readers import EXTENSIONS, extension_of, read_file

logger = logging.getLogger(__name__)

_MOST_NAMED = 10
# What a source says of its own delivery (manifest.py), beside the day's files.
MANIFEST = ".manifest.json"

File = TypeVar("File")


@dataclass(frozen=True)
class Delivery:
    """What one source handed over for one day. `files` are sorted by name in byte order."""

    entity: str
    day: date
    files: tuple[DeliveredFile, ...]


def find_deliveries(landing: str, entity: str, days: Collection[date]) -> dict[date, Delivery | DeliveryRejected]:
    """The deliveries of `days` in a local landing folder, in order of day; one that cannot be taken is the error.

    A day without files is absent. The entity's folder is listed once, whatever the number of days; a landing folder
    that does not exist holds nothing. Misnamed files are logged as a warning; hidden and unfinished ones are passed
    over. Raises SourceUnavailable where a folder may not be read.
    """
    found = files_by_day(LocalFolder(landing, entity), entity, days)
    return {
        day: files if isinstance(files, DeliveryRejected) else Delivery(entity, day, files)
        for day, files in found.items()
    }


def files_by_day(
    folder: Folder[File], entity: str, days: Collection[date]
) -> dict[date, tuple[File, ...] | DeliveryRejected]:
    """The files of the deliveries of `days`, in order of day and in byte order of their names.

    See `find_deliveries`.
    """
    wanted = frozenset(days)
    claims: dict[date, list[Entry]] = {}
    misnamed: list[str] = []
    for entry in folder.entries():
        day = _day_of(entry)
        if day is None:
            misnamed.append(entry.name)
        elif day in wanted:
            claims.setdefault(day, []).append(entry)
    _warn(folder.where, misnamed)
    found: dict[date, tuple[File, ...] | DeliveryRejected] = {}
    for day in sorted(claims):
        try:
            files = _files(folder, entity, day, claims[day])
        except DeliveryRejected as error:
            found[day] = error
        else:
            if files:
                found[day] = files
    return found


def landed_days(landing_url: str, entity: str) -> list[date]:
    """The days for which something lies in the entity's folder, in order, by names alone: no file is looked at.

    A day whose delivery will be rejected counts; a folder without a file of a known format does not. Raises as
    `find_deliveries` and `landing_store.StoreFolder` do, and logs nothing.
    """
    folder = _folder(landing_url, entity)
    days = set()
    for entry in folder.entries():
        day = _day_of(entry)
        if day is None or day in days:
            continue
        if entry.is_folder:
            landed = any(_is_part(part) for part in folder.entries(entry.name))
        else:
            landed = _is_single(entry)
        if landed:
            days.add(day)
    return sorted(days)


def listing(landing_url: str, entity: str) -> dict[date, list[Listed]]:
    """What lies in the entity's folder, by day: its files and manifests in byte order of their names, unread.

    Files that are no part of a day's delivery are left out in silence, a day that will be rejected is not. Raises as
    `landed_days`.
    """
    folder = _folder(landing_url, entity)
    found: dict[date, list[Listed]] = {}
    for entry in folder.entries():
        day = _day_of(entry)
        if day is None:
            continue
        if entry.is_folder:
            names = [f"{entry.name}/{part.name}" for part in folder.entries(entry.name) if _is_part(part)]
        else:
            names = [entry.name] if _is_single(entry) or entry.name == f"{day}{MANIFEST}" else []
        files = [file for file in map(folder.listed, names) if file is not None]
        if files:
            found.setdefault(day, []).extend(files)
    return {day: sorted(found[day], key=lambda file: os.fsencode(file.name)) for day in sorted(found)}


def read_delivery(delivery: Delivery, source: Source) -> pl.DataFrame:
    """The raw frame: every delivered column under its delivered name, with the values as delivered.

    csv and jsonl give text only, parquet and avro their own types; a column that the files of a folder type
    differently is text. `_file` (String) names the file and `_row` (Int64) the row's number in it, from 1. Raises
    DeliveryRejected in one sentence naming file and mend, and never a value.
    """
    frames = []
    for file in delivery.files:
        label = f"{delivery.entity}/{file.name}"
        _unchanged(file, label)
        frame = read_file(file.path, label, source)
        _unchanged(file, label)
        metering.count_read(file.size)
        frames.append(
            frame.with_columns(
                pl.lit(file.name, dtype=pl.String).alias("_file"),
                pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("_row"),
            )
        )
    return _together(frames, source, f"{delivery.entity}/{delivery.day}")


def check_header(columns: Collection[str], source: Source, required: Collection[str]) -> None:
    """Raise DeliveryRejected naming the first of the `required` canonical columns that is delivered under no name.

    `columns` are the raw frame's. A constant in the source's mapping counts as delivered.
    """
    delivered = [column for column in columns if not column.startswith("_")]
    for column in required:
        spec = source.spec(column)
        if spec.constant is not None or find_delivered(column, source, delivered) is not None:
            continue
        name = spec.source or column
        # A name that another column goes by is no misspelling of this one.
        near = _nearest(name, [candidate for candidate in delivered if candidate not in required])
        guess = f" (did {near!r} mean it?)" if near else ""
        raise DeliveryRejected(
            f"the delivery of {source.entity} lacks the required column {name!r}{guess}: deliver it, or name the "
            f"column that holds it in sources.yaml (`{source.entity}: columns: {column}: {near or 'NAME'}`)."
        )


def _nearest(name: str, delivered: Collection[str]) -> str | None:
    """The delivered name most like `name`, capitals and blanks aside."""
    by_folded = {column.strip().casefold(): column for column in delivered}
    near = difflib.get_close_matches(name.casefold(), list(by_folded), n=1)
    return by_folded[near[0]] if near else None


# -- which files make a day ------------------------------------------------------------------------------------------


def _folder(landing_url: str, entity: str) -> Folder[Any]:
    return StoreFolder(landing_url, entity) if is_url(landing_url) else LocalFolder(landing_url, entity)


def _day_of(entry: Entry) -> date | None:
    """The day whose place an entry takes, None for a misnamed one. What follows the day is judged with its delivery."""
    stem, dot, _ = entry.name.partition(".")
    if entry.is_folder and dot:
        return None
    try:
        day = date.fromisoformat(stem)
    except ValueError:
        return None
    return day if day.isoformat() == stem else None  # 20240105 and 2024-W01-5 are ISO dates as well


def _is_single(entry: Entry) -> bool:
    """Whether an entry that takes a day's place is a file that is the day's delivery."""
    return not entry.is_folder and entry.name[11:].casefold() in EXTENSIONS


def _is_part(entry: Entry) -> bool:
    """Whether an entry of a day's folder is a file of its delivery."""
    return not entry.is_folder and extension_of(entry.name) is not None


def _files(folder: Folder[File], entity: str, day: date, entries: list[Entry]) -> tuple[File, ...]:
    folders = [entry for entry in entries if entry.is_folder]
    singles = [entry for entry in entries if _is_single(entry)]
    others = [entry.name for entry in entries if not entry.is_folder and not _is_single(entry)]
    _warn(folder.where, [name for name in others if not name.endswith(MANIFEST)])
    inside = [entry for _ in folders for entry in folder.entries(day.isoformat())]
    parts = [entry for entry in inside if _is_part(entry)]
    _warn(f"{folder.where}/{day}", [entry.name for entry in inside if not _is_part(entry)])
    if len(singles) + bool(folders and (parts or singles)) > 1:
        names = sorted([entry.name for entry in singles] + [f"{entry.name}/" for entry in folders])
        raise DeliveryRejected(
            f"{entity} of {day} is delivered twice, as {' and '.join(names[:_MOST_NAMED])}: keep the one that is "
            f"meant and take the other away."
        )
    names = [entry.name for entry in singles] + [f"{day}/{entry.name}" for entry in parts]
    for name in names:
        if not name.isprintable():
            raise DeliveryRejected(f"{entity}/{name!a} has a name that is no plain text: rename it.")
    # UTF-8 keeps the order of code points, so that this is the byte order that the semantics ask for.
    return tuple(folder.file(name) for name in sorted(names, key=os.fsencode))


def _unchanged(file: DeliveredFile, label: str) -> None:
    if size_and_time(file.path, label) != (file.size, file.mtime_ns):
        raise DeliveryRejected(
            f"{label} changed while it was being read, so it is unfinished: materialize the day again once it is "
            f"complete (best written under another name and renamed)."
        )


def _warn(folder: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        logger.warning(
            "%s holds entries that are no deliveries and are passed over: %s%s; name files YYYY-MM-DD.EXT or "
            "YYYY-MM-DD/NAME.EXT, with EXT one of %s.",
            folder,
            ", ".join(map(masked, sorted(names)[:_MOST_NAMED])),
            more,
            ", ".join(EXTENSIONS),
        )


# -- one frame of several files --------------------------------------------------------------------------------------


def _together(frames: list[pl.DataFrame], source: Source, label: str) -> pl.DataFrame:
    if len(frames) == 1:
        return frames[0]
    types: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for column, dtype in frame.schema.items():
            types.setdefault(column, set()).add(dtype)
    mixed = [column for column, found in types.items() if len(found) > 1]
    for column in mixed:
        _refuse_two_notations(column, source, label)
    frames = [_as_text(frame, [column for column in mixed if column in frame.columns], label) for frame in frames]
    whole = pl.concat(frames, how="diagonal")
    ours = ["_file", "_row"]
    return whole.select([*(column for column in whole.columns if column not in ours), *ours])


def _refuse_two_notations(column: str, source: Source, label: str) -> None:
    """A column that is text in one file and typed in another becomes text, in the notation of ISO and the point.

    Where the mapping says that its texts are in another notation, one of the two would be misread.
    """
    for name, spec in source.columns.items():
        if (spec.source or name) == column and (spec.format is not None or spec.decimal == "comma"):
            raise DeliveryRejected(
                f"{label}: the files of this folder disagree on the type of column {column!r}, and sources.yaml says "
                f"how its texts are written: deliver the day's files in one kind (all csv, or all parquet)."
            )


def _as_text(frame: pl.DataFrame, columns: list[str], label: str) -> pl.DataFrame:
    expressions = []
    for column in columns:
        dtype = frame.schema[column]
        if dtype.is_nested():
            raise DeliveryRejected(
                f"{label}: the files of this folder disagree on the type of column {column!r}, which is nested in one "
                f"of them: deliver one type."
            )
        text = pl.col(column)
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            # A plain cast would write the zone's name, which no other file of text would.
            text = text.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            expressions.append((text.dt.to_string("%Y-%m-%dT%H:%M:%S%.f") + "Z").alias(column))
        else:
            expressions.append(text.cast(pl.String))
    return frame.with_columns(expressions)
