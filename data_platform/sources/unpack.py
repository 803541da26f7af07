"""Archives and workbooks as landing files: within bounds, and with no name of a member used as a path."""

import importlib.util
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn

from data_platform.errors import DeliveryRejected, SourceUnavailable
from data_platform.sources import workbook
from data_platform.sources.bounds import MAX_COLUMNS, refuse_bomb
from data_platform.sources.extraction import not_installed
from data_platform.sources.readers import extension_of

_AS_CSV = "deliver it as csv, or take out what lies far from the table"
_CHUNK = 4 * 1024 * 1024


def unpack_zip(path: Path, label: str, most_bytes: int, sheet: str | None, place: str) -> int:
    """Put the members of a zip beside it, as NAME-0001-MEMBER, and remove it; the bytes that they have.

    Members that begin with _ or . are passed over, workbooks become what `workbook_to_parquet` makes of them.
    Raises DeliveryRejected for one that is no landing file, for a broken zip, and for one that grows beyond bounds.
    """
    written = 0
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                member for member in archive.infolist() if not member.is_dir() and not _is_hidden(member.filename)
            ]
            for number, member in enumerate(members, start=1):
                name = safe_name(PurePosixPath(member.filename.replace("\\", "/")).name)
                is_workbook = name.casefold().endswith(".xlsx")
                if extension_of(name) is None and not is_workbook:
                    raise DeliveryRejected(
                        f"{label} holds {name!a}, which is no file that can be read (a zip within a zip is not): pack "
                        "csv, jsonl, parquet, avro or xlsx files."
                    )
                target = path.with_name(f"{path.stem}-{number:04}-{name}")
                with archive.open(member) as source, target.open("wb") as file:
                    written += _copy(source, file, label, most_bytes - written, path.stat().st_size)
                if is_workbook:
                    workbook_to_parquet(target, f"{label}, {name!a}", sheet, place)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise DeliveryRejected(
            f"{label} is no whole zip that can be opened (broken, cut short or encrypted): deliver it again."
        ) from None
    path.unlink()
    return written


def _is_hidden(name: str) -> bool:
    return any(part.startswith(("_", ".")) and part not in ("..", ".") for part in PurePosixPath(name).parts)


def _copy(source: IO[bytes], file: IO[bytes], label: str, most: int, packed: int) -> int:
    """Copy, counting what comes out and not what the archive says of itself; bombs and too many bytes are refused."""
    size = 0
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        refuse_bomb(size, packed, label)
        if size > most:
            raise DeliveryRejected(f"{label} unpacks to more bytes than a day may have: split it.")
        file.write(chunk)
    return size


def safe_name(name: str) -> str:
    """A name of a file made of plain characters alone."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[-120:].lstrip("._") or "file"


def workbook_to_parquet(path: Path, label: str, sheet: str | None, place: str) -> Path:
    """A sheet of an Excel file, its values as text, written beside it in place of the file.

    Numbers are the shortest text of what Excel holds, dates and times ISO 8601. Raises DeliveryRejected where it cannot
    be opened, takes more memory than is given or lacks the sheet, SettingsError where the library is not installed.
    """
    if importlib.util.find_spec("fastexcel") is None:
        raise not_installed(place, "excel")
    _refuse_packed_bomb(path, label)
    target = path.with_name(f"{path.stem}.parquet")
    try:
        said = workbook.converted(path, target, sheet)
    except workbook.TooMuch:
        target.unlink(missing_ok=True)
        raise DeliveryRejected(
            f"{label} has a sheet that takes more than {workbook.MAX_MEMORY // 1024**3} GB of memory or "
            f"{workbook.MAX_SECONDS // 60} minutes to open: {_AS_CSV}."
        ) from None
    except workbook.NotOpened as error:
        raise SourceUnavailable(f"{label} was not opened ({error}): run the day again.") from None
    if said.get("no") == "sheet":
        raise DeliveryRejected(f"{label} has no sheet {sheet!r}: name one that it has as `sheet` in sources.yaml.")
    if "no" in said:
        _reject_workbook(label)
    rows, columns = said["size"]
    if "large" in said or columns > MAX_COLUMNS:
        target.unlink(missing_ok=True)
        raise DeliveryRejected(
            f"{label} has a sheet of {rows:,} rows and {columns:,} columns, more than is taken: {_AS_CSV}."
        )
    path.unlink()
    return target


def _refuse_packed_bomb(path: Path, label: str) -> None:
    """Raise DeliveryRejected for a workbook (a zip) that unpacks to far more than its own size."""
    size = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as source:
                    while chunk := source.read(_CHUNK):
                        size += len(chunk)
                        refuse_bomb(size, path.stat().st_size, label)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        _reject_workbook(label)


def _reject_workbook(label: str) -> NoReturn:
    raise DeliveryRejected(f"{label} is no whole Excel file (broken or cut short): deliver it again.") from None
