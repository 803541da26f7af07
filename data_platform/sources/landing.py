"""Landing files: which deliveries lie there, and one delivery as a raw frame.

What belongs here: names of files and days, and what holds for a delivery as a whole. Reading one file of a format
is in `readers.py`, the meaning of columns in `mapping.py`.
"""

import difflib
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from stat import S_ISREG

import polars as pl

from data_platform.errors import DeliveryRejected, SettingsError, SourceUnavailable
from data_platform.sources.config import Source
from data_platform.sources.mapping import find_delivered
from data_platform.sources.readers import EXTENSIONS, extension_of, read_file

logger = logging.getLogger(__name__)

_UNFINISHED = (".tmp", ".part", ".crdownload")
_MOST_NAMED = 10
# What a source says of its own delivery (manifest.py), beside the day's files.
MANIFEST = ".manifest.json"


@dataclass(frozen=True)
class DeliveredFile:
    """A file as it was when its folder was listed. `name` is relative to LANDING/<entity>, with forward slashes."""

    path: Path
    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Delivery:
    """What one source handed over for one day. `files` are sorted by name in byte order."""

    entity: str
    day: date
    files: tuple[DeliveredFile, ...]


def find_deliveries(landing_url: str, entity: str, days: Collection[date]) -> dict[date, Delivery | DeliveryRejected]:
    """The deliveries of `days`, in order of day; a day without files is absent, one that cannot be taken is the error.

    The entity's folder is listed once, whatever the number of days; a landing folder that does not exist holds
    nothing. Misnamed files are logged as a warning; hidden and unfinished ones are passed over. Raises
    SourceUnavailable where a folder may not be read, SettingsError for a URL.
    """
    root = _root(landing_url)
    folder = _entity_folder(root, entity)
    wanted = frozenset(days)
    claims: dict[date, list[_Entry]] = {}
    misnamed: list[str] = []
    for entry in _list(folder):
        day = _day_of(entry)
        if day is None:
            misnamed.append(entry.name)
        elif day in wanted:
            claims.setdefault(day, []).append(entry)
    _warn(folder, misnamed)
    found: dict[date, Delivery | DeliveryRejected] = {}
    for day in sorted(claims):
        try:
            delivery = _delivery(root, entity, day, claims[day])
        except DeliveryRejected as error:
            found[day] = error
        else:
            if delivery is not None:
                found[day] = delivery
    return found


def landed_days(landing_url: str, entity: str) -> list[date]:
    """The days for which something lies in the entity's folder, in order, by names alone: no file is looked at.

    A day whose delivery will be rejected counts; a folder without a file of a known format does not. Raises as
    `find_deliveries` does, and logs nothing.
    """
    days = set()
    for entry in _list(_entity_folder(_root(landing_url), entity)):
        day = _day_of(entry)
        if day is None or day in days:
            continue
        if entry.is_folder:
            landed = any(not part.is_folder and extension_of(part.name) for part in _list(entry.path))
        else:
            landed = entry.name[11:].casefold() in EXTENSIONS
        if landed:
            days.add(day)
    return sorted(days)


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


@dataclass(frozen=True)
class _Entry:
    """An entry of a folder; whether it is a folder is known from the listing, without another call."""

    path: Path
    name: str
    is_folder: bool


def _day_of(entry: _Entry) -> date | None:
    """The day whose place an entry takes, None for a misnamed one. What follows the day is judged with its delivery."""
    stem, dot, _ = entry.name.partition(".")
    if entry.is_folder and dot:
        return None
    try:
        day = date.fromisoformat(stem)
    except ValueError:
        return None
    return day if day.isoformat() == stem else None  # 20240105 and 2024-W01-5 are ISO dates as well


def _delivery(root: Path, entity: str, day: date, entries: list[_Entry]) -> Delivery | None:
    usable = [entry for entry in entries if entry.is_folder or entry.name[11:].casefold() in EXTENSIONS]
    folders = [entry for entry in usable if entry.is_folder]
    misnamed = [entry.name for entry in entries if entry not in usable and not entry.name.endswith(MANIFEST)]
    _warn(root / entity, misnamed)
    inside = [(folder, entry) for folder in folders for entry in _list(folder.path)]
    parts = [(folder, entry) for folder, entry in inside if not entry.is_folder and extension_of(entry.name)]
    _warn(root / entity / day.isoformat(), [entry.name for pair in inside if pair not in parts for entry in pair[1:]])
    singles = [entry for entry in usable if not entry.is_folder]
    if len(singles) + bool(folders and (parts or singles)) > 1:
        names = sorted([entry.name for entry in singles] + [f"{folder.name}/" for folder in folders])
        raise DeliveryRejected(
            f"{entity} of {day} is delivered twice, as {' and '.join(names[:_MOST_NAMED])}: keep the one that is "
            f"meant and take the other away."
        )
    named = [(entry, entry.name) for entry in singles] + [
        (entry, f"{folder.name}/{entry.name}") for folder, entry in parts
    ]
    # UTF-8 keeps the order of code points, so that this is the byte order that the semantics ask for.
    named.sort(key=lambda pair: os.fsencode(pair[1]))
    files = tuple(_delivered(root, entity, entry, name) for entry, name in named)
    return Delivery(entity, day, files) if files else None


def _delivered(root: Path, entity: str, entry: _Entry, name: str) -> DeliveredFile:
    label = f"{entity}/{name}"
    if not name.isprintable():
        raise DeliveryRejected(f"{entity}/{name!a} has a name that is no plain text: rename it.")
    # A folder of parts may itself be a link: what counts is where the file really is.
    path = Path(os.path.realpath(entry.path))
    if not path.is_relative_to(root):
        raise DeliveryRejected(f"{label} is a link that leads out of the landing folder: put the file itself there.")
    size, mtime_ns = _stat(path, label)
    return DeliveredFile(path, name, size, mtime_ns)


def _unchanged(file: DeliveredFile, label: str) -> None:
    if _stat(file.path, label) != (file.size, file.mtime_ns):
        raise DeliveryRejected(
            f"{label} changed while it was being read, so it is unfinished: materialize the day again once it is "
            f"complete (best written under another name and renamed)."
        )


def _warn(folder: Path, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        logger.warning(
            "%s holds entries that are no deliveries and are passed over: %s%s; name files YYYY-MM-DD.EXT or "
            "YYYY-MM-DD/NAME.EXT, with EXT one of %s.",
            folder,
            ", ".join(sorted(names)[:_MOST_NAMED]),
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


# -- access to files: what fsspec can be put under -------------------------------------------------------------------


def _root(landing_url: str) -> Path:
    if "://" in landing_url:
        scheme = landing_url.partition("://")[0]
        raise SettingsError(
            f"DATA_PLATFORM_LANDING_URL begins with {scheme}://, which is not read yet: set it to a local folder."
        )
    return Path(os.path.realpath(landing_url))


def _entity_folder(root: Path, entity: str) -> Path:
    folder = root / entity
    if not folder.resolve().is_relative_to(root):
        raise SettingsError(
            f"{folder} is a link that leads out of the landing folder: point DATA_PLATFORM_LANDING_URL at the folder "
            f"that holds the files."
        )
    return folder


def _list(folder: Path) -> Iterator[_Entry]:
    """The entries of a folder that are meant to be seen; nothing where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith((".", "_")) and not entry.name.endswith(_UNFINISHED):
                    yield _Entry(Path(entry.path), entry.name, entry.is_dir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise SourceUnavailable(
            f"the folder {folder} cannot be listed ({error.strerror}): let this user read it, then materialize again."
        ) from None


def _stat(path: Path, label: str) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DeliveryRejected(f"{label} was listed and is gone, or is a link to nothing: deliver it again.") from None
    except OSError as error:
        raise SourceUnavailable(
            f"{label} cannot be looked at ({error.strerror}): let this user read its folder."
        ) from None
    if not S_ISREG(status.st_mode):
        raise DeliveryRejected(f"{label} is no regular file: put the file itself there.")
    return status.st_size, status.st_mtime_ns
