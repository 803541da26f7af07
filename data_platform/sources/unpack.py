"""Archives and workbooks as landing files: within bounds, and with no name of a member used as a path."""

import io
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from data_platform.errors import DeliveryRejected
from data_platform.sources.extraction import not_installed
from data_platform.sources.readers import MAX_COLUMNS, extension_of, refuse_bomb

# What a sheet spans is laid out in memory, empty cells as well.
MAX_CELLS = 25_000_000
_CELL = re.compile(rb'\br="([A-Z]{1,3})([0-9]{1,7})"')
_LONGEST_CELL = 16
_CHUNK = 4 * 1024 * 1024


def unpack_zip(path: Path, label: str, most_bytes: int) -> int:
    """Put the members of a zip beside it, as NAME-0001-MEMBER, and remove it; the bytes that they have.

    Members that begin with _ or . are passed over. Raises DeliveryRejected for one that is no landing file, for a
    broken zip, and for one that grows beyond bounds.
    """
    written = 0
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                member for member in archive.infolist() if not member.is_dir() and not _is_hidden(member.filename)
            ]
            for number, member in enumerate(members, start=1):
                name = safe_name(PurePosixPath(member.filename.replace("\\", "/")).name)
                if extension_of(name) is None:
                    raise DeliveryRejected(
                        f"{label} holds {name!a}, which is no file that can be read (a zip within a zip is not): pack "
                        "csv, jsonl, parquet or avro files."
                    )
                target = path.with_name(f"{path.stem}-{number:04}-{name}")
                with archive.open(member) as source, target.open("wb") as file:
                    written += _copy(source, file, label, most_bytes - written, path.stat().st_size)
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
    be opened or lacks the sheet, SettingsError where the library is not installed.
    """
    try:
        import fastexcel
    except ImportError:
        raise not_installed(place, "excel") from None
    _refuse_large_sheets(path, label)
    try:
        book = fastexcel.read_excel(path.read_bytes())
        chosen = sheet if sheet is not None else book.sheet_names[0]
        if chosen not in book.sheet_names:
            raise DeliveryRejected(f"{label} has no sheet {chosen!r}: name one that it has as `sheet` in sources.yaml.")
        frame = book.load_sheet(chosen, dtypes="string").to_polars()
    except fastexcel.FastExcelError:
        raise DeliveryRejected(f"{label} is no whole Excel file (broken or cut short): deliver it again.") from None
    target = path.with_name(f"{path.stem}.parquet")
    with io.BytesIO() as buffer:
        frame.write_parquet(buffer)
        target.write_bytes(buffer.getvalue())
    path.unlink()
    return target


def _refuse_large_sheets(path: Path, label: str) -> None:
    """Raise DeliveryRejected for a workbook that is a bomb, or of which a sheet spans more than is taken.

    Two cells in opposite corners span 17 billion: the library would end the process.
    """
    packed, size = path.stat().st_size, 0
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                columns = rows = 0
                rest = b""
                with archive.open(member) as source:
                    while chunk := source.read(_CHUNK):
                        size += len(chunk)
                        refuse_bomb(size, packed, label)
                        if not member.filename.startswith("xl/worksheets/"):
                            continue
                        cells = set(_CELL.findall(rest + chunk))
                        columns = max([columns, *map(_column, {name for name, _ in cells})])
                        rows = max([rows, *(int(row) for _, row in cells)])
                        rest = chunk[-_LONGEST_CELL:]
                if columns > MAX_COLUMNS or columns * rows > MAX_CELLS:
                    raise DeliveryRejected(
                        f"{label} has a sheet of {rows:,} rows and {columns:,} columns, more than is taken: deliver "
                        "it as csv, or take out what lies far from the table."
                    )
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise DeliveryRejected(f"{label} is no whole Excel file (broken or cut short): deliver it again.") from None


def _column(name: bytes) -> int:
    """The number of a column by its letters: A is 1, XFD 16,384."""
    number = 0
    for letter in name:
        number = number * 26 + letter - ord("A") + 1
    return number
