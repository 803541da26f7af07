"""One landing file as a frame: csv, jsonl, parquet and avro, also compressed, with the values as delivered.

What belongs here: bytes to frame, and the sentence for each way in which a file can be broken. No sentence repeats
a value: it may be personal data. What rows and columns mean is decided elsewhere.
"""

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv

from data_platform.errors import DeliveryRejected, SourceUnavailable
from data_platform.sources.bounds import MAX_COLUMNS, refuse_bomb, reject_columns
from data_platform.sources.columnar import read_avro, read_parquet
from data_platform.sources.config import Source

MAX_LINE = 16 * 1024 * 1024
EXTENSIONS = ("csv", "csv.gz", "csv.zst", "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "avro")

_RESERVED = ("_file", "_row", "_partition")
_CHUNK = 4 * 1024 * 1024
_UTF8_BOM = codecs.BOM_UTF8
_DELIMITERS = (";", "\t", "|", ",")


def extension_of(name: str) -> str | None:
    """The extension by which a file is read (`csv.gz` for one ending in `.CSV.gz`), None for one that is not."""
    folded = name.casefold()
    return next((extension for extension in EXTENSIONS if folded.endswith("." + extension)), None)


def read_file(path: Path, label: str, source: Source) -> pl.DataFrame:
    """The rows of one file in its order; `label` is how sentences call it.

    csv and jsonl: every column String; parquet and avro: their own types, but text for categories and for columns
    of nulls only. Raises DeliveryRejected for what is broken, SourceUnavailable for what cannot be read now.
    """
    extension = extension_of(path.name) or extension_of(label)
    assert extension is not None, f"{label} was listed as a delivery"
    with _open(path, label) as file:
        if extension.startswith("jsonl"):
            source = source.model_copy(update={"encoding": "utf8"})  # JSON is UTF-8; the setting is for csv
        data = _whole(file, label) if extension in ("parquet", "avro") else _text(file, extension, label, source)
    if extension.startswith("csv"):
        frame = _read_csv(data, label, source)
    elif extension.startswith("jsonl"):
        frame = _read_jsonl(data, label, source)
    elif extension == "parquet":
        frame = read_parquet(data, label)
    else:
        frame = read_avro(data, label)
    _check_names(frame.columns, label)
    return frame


def _check_names(columns: list[str], label: str) -> None:
    if len(columns) > MAX_COLUMNS:
        reject_columns(len(columns), label)
    for column in columns:
        if column.casefold().startswith(_RESERVED):
            raise DeliveryRejected(
                f"{label} has a column {column!r}, but names that begin with {', '.join(_RESERVED)} are the platform's "
                f"own: deliver it under another name."
            )
        if "\0" in column:
            raise DeliveryRejected(
                f"{label} has NUL bytes in its header: deliver UTF-8, or set `encoding: utf-16` in sources.yaml."
            )


# -- access to files: what fsspec can be put under -------------------------------------------------------------------


@contextmanager
def _open(path: Path, label: str) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise DeliveryRejected(f"{label} was listed and is gone: deliver it again.") from None
    except OSError as error:
        raise SourceUnavailable(
            f"{label} cannot be read ({error.strerror or 'input error'}): let this user read it, and try again."
        ) from None


def _whole(file: IO[bytes], label: str) -> bytes:
    data = file.read()
    if not data:
        _reject_empty(label)
    return data


def _reject_empty(label: str) -> NoReturn:
    raise DeliveryRejected(
        f"{label} is empty (zero bytes): deliver it again, a day without rows as a csv of its header alone."
    )


# -- text: decompressed, decoded, and refused while it streams -------------------------------------------------------


def _text(file: IO[bytes], extension: str, label: str, source: Source) -> bytes:
    """The whole text as UTF-8 without byte order mark. A line that is too long ends the reading where it is met."""
    chunks = _decompressed(file, extension.rpartition(".")[2], label)
    pieces = []
    open_line = 0
    for piece in _as_utf8(chunks, label, source):
        first = piece.find(b"\n")
        if open_line + (len(piece) if first < 0 else first) > MAX_LINE:
            raise DeliveryRejected(
                f"{label} holds a line of more than {MAX_LINE // 1024 // 1024} MB, so it is no text of one row a line: "
                f"deliver it again with a line break after each row."
            )
        open_line = open_line + len(piece) if first < 0 else len(piece) - 1 - piece.rfind(b"\n")
        pieces.append(piece)
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if not data:
        _reject_empty(label)
    return data.removeprefix(_UTF8_BOM)


def _decompressed(file: IO[bytes], extension: str, label: str) -> Iterator[bytes]:
    if extension not in ("gz", "zst"):
        yield from iter(lambda: file.read(_CHUNK), b"")
        return
    packed = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        if extension == "gz":
            with gzip.GzipFile(fileobj=file) as stream:
                yield from _bounded(stream.read, packed, label)
        else:
            with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
                yield from _bounded(stream.read, packed, label)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DeliveryRejected(
            f"{label} is not whole {extension} data (broken or cut short): deliver it again."
        ) from None


def _bounded(read: Callable[[int], bytes], packed: int, label: str) -> Iterator[bytes]:
    size = 0
    while chunk := read(_CHUNK):
        size += len(chunk)
        refuse_bomb(size, packed, label)
        yield chunk


def _as_utf8(chunks: Iterable[bytes], label: str, source: Source) -> Iterator[bytes]:
    if codecs.lookup(source.encoding).name in ("utf-8", "utf-8-sig"):
        # Checked by the parser, which is many times faster than a decoder here; a fault is found again for its place.
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(source.encoding)("strict")
    done = 0
    for chunk in _with_end(chunks):
        try:
            kept = len(decoder.getstate()[0])
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            offset = done - kept + getattr(error, "start", 0)
            raise DeliveryRejected(
                f"{label} is not {source.encoding} (byte {offset}): set the `encoding` of {source.entity} in "
                f"sources.yaml to what it is written in, such as utf8, latin-1, cp1252 or utf-16."
            ) from None
        done += len(chunk)
        yield text.encode()


def _with_end(chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield from chunks
    yield b""


def _reject_bytes(data: bytes, position: int, label: str, source: Source) -> NoReturn:
    """The sentence for UTF-8 that is none, with the line of the first wrong byte."""
    likely = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "latin-1"
    line = data.count(b"\n", 0, position) + 1
    raise DeliveryRejected(
        f"{label}, line {line} is not UTF-8: set `{source.entity}: encoding: {likely}` (or cp1252, or whatever it "
        f"is written in) in sources.yaml."
    )


# -- csv -------------------------------------------------------------------------------------------------------------


def _read_csv(data: bytes, label: str, source: Source) -> pl.DataFrame:
    """Blank lines are no rows. An empty field is null, a quoted empty one is ''; nothing is trimmed."""
    names, start = _csv_header(data, label, source)
    if not data[start : start + 64].strip() and not data[start:].strip():
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    if not _well_quoted(data, start, source):
        _check_csv_rows(data, start, len(names), label, source)
    try:
        # Polars fills rows that are too short with nulls in silence; Arrow refuses them, at the same speed.
        table = pacsv.read_csv(
            pa.BufferReader(pa.py_buffer(data).slice(start)),
            read_options=pacsv.ReadOptions(column_names=names, block_size=2 * MAX_LINE),
            parse_options=pacsv.ParseOptions(
                delimiter=source.delimiter,
                quote_char=source.quote or False,
                newlines_in_values=source.quote is not None,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        # Arrow's sentence quotes the row, and numbers rows instead of lines.
        _check_csv_rows(data, start, len(names), label, source)
        raise DeliveryRejected(f"{label} cannot be read as csv: check its delimiter, quotes and line breaks.") from None
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _csv_header(data: bytes, label: str, source: Source) -> tuple[list[str], int]:
    """The names in the header, and where the rows begin."""
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for match in _LINE.finditer(data):
            end = match.end()
            try:
                line = match[0].decode()
            except UnicodeDecodeError as error:
                _reject_bytes(data, match.start() + error.start, label, source)
            if line.strip():
                yield line

    try:
        names = next(csv.reader(lines(), strict=True, **_dialect(source)), [])
    except csv.Error as error:
        raise DeliveryRejected(
            f"{label} has a broken header ({error}): deliver it again, or set `quote` in sources.yaml."
        ) from None
    if not names:
        raise DeliveryRejected(
            f"{label} holds blank lines only: deliver it again, a day without rows as its header alone."
        )
    if len(names) == 1:
        for other in _DELIMITERS:
            if other in names[0] and other != source.delimiter:
                shown = r"\t" if other == "\t" else other
                raise DeliveryRejected(
                    f"{label} has a single column, whose name holds {other!r}: set "
                    f'`{source.entity}: delimiter: "{shown}"` in sources.yaml.'
                )
    _check_names(names, label)
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise DeliveryRejected(f"{label} has more than one column {twice!r}: deliver each column once.")
    return names, end


_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


def _dialect(source: Source) -> dict[str, Any]:
    if source.quote is None:
        return {"delimiter": source.delimiter, "quoting": csv.QUOTE_NONE}
    return {"delimiter": source.delimiter, "quotechar": source.quote}


def _well_quoted(data: bytes, start: int, source: Source) -> bool:
    """Whether quotes only open, close and double: False asks for the slow check, it does not mean broken.

    Arrow takes a quote that the end of the file leaves open for a closed one, and drops the quotes of `"x"y`.
    """
    if source.quote is None or data.find(source.quote.encode(), start) < 0:
        return True
    text = np.frombuffer(data, dtype=np.uint8, offset=start)
    # A quote may stand beside an opening or closing one; it also stands for the start and the end of the text below.
    neighbour = np.zeros(256, dtype=np.bool_)
    neighbour[[ord(source.delimiter), ord(source.quote), ord("\r"), ord("\n")]] = True
    is_open = 0
    for begin in range(0, len(text), _CHUNK):
        quotes = np.flatnonzero(text[begin : begin + _CHUNK] == ord(source.quote)) + begin
        before = np.maximum(quotes[is_open::2] - 1, 0)
        after = np.minimum(quotes[1 - is_open :: 2] + 1, len(text) - 1)
        if not (neighbour[text[before]].all() and neighbour[text[after]].all()):
            return False
        is_open = (is_open + len(quotes)) % 2
    return not is_open


def _check_csv_rows(data: bytes, start: int, width: int, label: str, source: Source) -> None:
    """Read row by row, slowly, to raise DeliveryRejected for the first line that is broken; return if none is."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        _reject_bytes(data, error.start, label, source)
    first = len(_LINE.findall(data, 0, start)) + 1
    limit = csv.field_size_limit(2 * MAX_LINE)
    line = first
    try:
        reader = csv.reader(io.StringIO(data[start:].decode(), newline=""), strict=True, **_dialect(source))
        for row in reader:
            if row and len(row) != width:
                raise DeliveryRejected(
                    f"{label}, line {line} has {_count(len(row), 'field')} where the header has {width}: deliver it "
                    f"again with as many as the header, and with quotes around values that hold the delimiter."
                )
            line = first + reader.line_num
    except csv.Error as error:
        raise DeliveryRejected(
            f"{label}, line {line} has a quote that is not closed or not doubled ({error}): deliver it again, or set "
            f'`{source.entity}: quote: ""` in sources.yaml where quotes are plain characters.'
        ) from None
    finally:
        csv.field_size_limit(limit)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# -- jsonl -----------------------------------------------------------------------------------------------------------


def _read_jsonl(data: bytes, label: str, source: Source) -> pl.DataFrame:
    """Numbers keep the text in which they were written, nested values are JSON text, blank lines are no rows.

    NaN and Infinity, which are no JSON but often written, are kept as text: the row is judged, not the delivery.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        _reject_bytes(data, error.start, label, source)
    rows: list[dict[str, object]] = []
    places: list[int] = []
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            continue
        try:
            row = _decode_row(line)
        except (ValueError, RecursionError) as error:
            what = "names a key twice" if isinstance(error, _KeyTwice) else "is not valid JSON"
            raise DeliveryRejected(
                f"{label}, line {number} {what}: deliver it again with one JSON object a line."
            ) from None
        if type(row) is not dict:
            raise DeliveryRejected(
                f"{label}, line {number} is no JSON object: deliver it again with one JSON object a line."
            )
        rows.append(row)
        places.append(number)
    columns = list(dict.fromkeys(key for keys in dict.fromkeys(map(tuple, rows)) for key in keys))
    if not columns:
        raise DeliveryRejected(f"{label} names no column: deliver a day without rows as a csv of its header alone.")
    _check_names(columns, label)
    return pl.DataFrame([_jsonl_column(column, rows, places, lines, label) for column in columns])


def _jsonl_column(
    column: str, rows: list[dict[str, object]], places: list[int], lines: list[str], label: str
) -> pl.Series:
    values = [row.get(column) for row in rows]
    if not {str, type(None)}.issuperset(map(type, values)):
        for index, value in enumerate(values):
            if isinstance(value, bool):
                values[index] = "true" if value else "false"
            elif isinstance(value, (dict, list)):
                values[index] = _json_text(_decode_exactly(lines[places[index] - 1])[column])
    try:
        return pl.Series(column, values, dtype=pl.String)
    except UnicodeEncodeError:
        for value, number in zip(values, places, strict=True):
            if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
                raise DeliveryRejected(
                    f"{label}, line {number} holds half a surrogate pair, which is no character: write it as UTF-8."
                ) from None
        raise


class _KeyTwice(ValueError):
    pass


class _Literal(str):
    """A number inside a nested value, in the text in which it was written."""


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise _KeyTwice
    return row


def _decoder(number: Callable[[str], str]) -> Callable[[str], Any]:
    return json.JSONDecoder(
        object_pairs_hook=_unique_keys, parse_float=number, parse_int=number, parse_constant=number
    ).decode


_decode_row = _decoder(str)
_decode_exactly = _decoder(_Literal)


def _json_text(value: object) -> str:
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_json_text(held)}" for key, held in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(_json_text, value)) + "]"
    return str(value) if isinstance(value, _Literal) else json.dumps(value, ensure_ascii=False)
