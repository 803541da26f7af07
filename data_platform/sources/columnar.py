"""Parquet and Avro files as frames with their own types; what they say of themselves is judged before it is read.

Polars trusts the counts in a file: what it cannot allocate ends the process.
"""

import io
import json
import zlib
from collections.abc import Iterator
from typing import NoReturn

import polars as pl
import pyarrow.parquet as pq

from data_platform.errors import DeliveryRejected
from data_platform.sources.bounds import MAX_COLUMNS, refuse_bomb, refuse_values, reject_columns

_CHUNK = 4 * 1024 * 1024
_AVRO_SYNC = 16  # bytes between the blocks of an avro file


def read_parquet(data: bytes, label: str) -> pl.DataFrame:
    """The rows of a Parquet file with its types; raises DeliveryRejected."""
    if len(data) < 12 or data[:4] != b"PAR1" or data[-4:] != b"PAR1":
        _reject_broken(label, "parquet")
    if (elements := _schema_elements(data)) > 4 * MAX_COLUMNS:
        # The footer alone would take gigabytes. A nested column has several elements: names are counted below.
        reject_columns(elements - 1, label)
    _check_parquet_size(data, label)
    try:
        return _plain(pl.read_parquet(io.BytesIO(data), hive_partitioning=False, glob=False), label)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
        _reject_broken(label, "parquet")


def _check_parquet_size(data: bytes, label: str) -> None:
    """Refuse a bomb by its footer: of bytes, or of runs (one value a billion times) that take next to none."""
    try:
        footer = pq.read_metadata(io.BytesIO(data))
    except NotImplementedError:
        return  # of a type that Arrow does not know; Polars may
    except (OSError, ValueError):
        _reject_broken(label, "parquet")
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    refuse_bomb(sum(group.total_byte_size for group in groups), len(data), label)
    refuse_values(footer.num_rows * footer.num_columns, len(data), label)
    values = (group.column(number).num_values for group in groups for number in range(group.num_columns))
    refuse_values(sum(values), len(data), label)  # a list has several a row


def _schema_elements(data: bytes) -> int:
    """The elements of a Parquet schema by the first bytes of the footer, 0 where those are written otherwise.

    Source: parquet.thrift (FileMetaData: 1 version, 2 schema), and Thrift's compact protocol.
    """
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    head = data[start : start + 16] if start >= 4 else b""
    # An i32 of one byte, then a list of structs, whose length of 15 and more follows as a varint.
    if len(head) < 10 or head[0] != 0x15 or head[1] > 0x7F or head[2] != 0x19 or head[3] & 0x0F != 0x0C:
        return 0
    if head[3] >> 4 < 15:
        return head[3] >> 4
    length = shift = 0
    for byte in head[4:10]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return length


def read_avro(data: bytes, label: str) -> pl.DataFrame:
    """The rows of an Avro file; raises DeliveryRejected.

    Decimals, time stamps, dates and nullable values come with their types (Polars reads them exactly).
    """
    _check_avro(data, label)
    try:
        return _plain(pl.read_avro(io.BytesIO(data)), label)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
        _reject_broken(label, "avro")


def _reject_broken(label: str, form: str) -> NoReturn:
    raise DeliveryRejected(f"{label} is not whole {form} data (broken or cut short): deliver it again.") from None


def _plain(frame: pl.DataFrame, label: str) -> pl.DataFrame:
    """Text for categories and for columns of nulls, whose types say nothing about the values."""
    if not frame.columns:
        raise DeliveryRejected(f"{label} names no column: deliver a day without rows with its columns.")
    return frame.with_columns(
        pl.col(name).cast(pl.String)
        for name, dtype in frame.schema.items()
        if isinstance(dtype, (pl.Null, pl.Categorical, pl.Enum))
    )


def _check_avro(data: bytes, label: str) -> None:
    """Refuse with a sentence what Polars cannot read, before it panics or takes a value for another."""
    avro = _Avro(data)
    try:
        metadata = avro.metadata()
        schema = json.loads(metadata["avro.schema"])
        codec = metadata.get("avro.codec", b"null").decode()
    except (KeyError, IndexError, ValueError, RecursionError):
        _reject_broken(label, "avro")
    if codec not in ("null", "deflate", "snappy"):
        raise DeliveryRejected(f"{label} is compressed with {codec!r}, which is not read: use null, deflate or snappy.")
    if not (isinstance(schema, dict) and schema.get("type") == "record" and isinstance(schema.get("fields"), list)):
        raise DeliveryRejected(f"{label} holds no records: deliver an avro file whose schema is a record.")
    if len(schema["fields"]) > MAX_COLUMNS:
        reject_columns(len(schema["fields"]), label)
    for field in schema["fields"]:
        if (kind := _unread(field.get("type"))) is not None:
            raise DeliveryRejected(
                f"{label} has a column {field.get('name')!r} of avro type {kind}, which is not read: deliver it as one "
                f"plain type such as string, nullable or not."
            )
    _check_avro_size(avro, len(schema["fields"]), codec, len(data), label)


_AVRO_PLAIN = frozenset({"boolean", "int", "long", "float", "double", "bytes", "string", "fixed"})
# Polars gives these as bare integers or bytes; types that the specification does not know count as what underlies them.
_AVRO_MISREAD = frozenset({"timestamp-nanos", "local-timestamp-nanos", "duration", "big-decimal"})


def _unread(kind: object) -> str | None:
    """What in an avro type is not read exactly, None where all of it is."""
    if isinstance(kind, list):
        others = [one for one in kind if one != "null"]
        if len(others) != 1 or len(kind) > 2:
            return "union of several types"
        if isinstance(others[0], dict) and others[0].get("type") == "enum":
            return "nullable enum"
        return _unread(others[0])
    if isinstance(kind, dict):
        if kind.get("logicalType") in _AVRO_MISREAD or (
            kind.get("logicalType") == "decimal" and kind.get("precision", 0) > 38
        ):
            return str(kind["logicalType"])
        if kind.get("type") == "record":
            return next((found for field in kind.get("fields", ()) if (found := _unread(field.get("type")))), None)
        if kind.get("type") == "array":
            return _unread(kind.get("items"))
        return None if kind.get("type") == "enum" else _unread(kind.get("type"))
    return None if kind in _AVRO_PLAIN else str(kind)


class _Avro:
    """The parts of an avro file, in their order. Source: Avro 1.12 specification, Object Container Files.

    What is broken raises ValueError or IndexError.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def metadata(self) -> dict[str, bytes]:
        """The map at the head of the file."""
        if self._data[:4] != b"Obj\x01":
            raise ValueError("no magic")
        self._position = 4
        found: dict[str, bytes] = {}
        while (count := self._number()) != 0:
            if count < 0:
                self._number()  # a negative count is followed by the block's size
            for _ in range(abs(count)):
                key = self._piece().decode()
                found[key] = self._piece()
        return found

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """After the head: of each block how many rows it says that it has, and its bytes, as they are packed."""
        self._position += _AVRO_SYNC
        while self._position < len(self._data):
            count = self._number()
            if count < 0:
                raise ValueError("a negative number of rows")
            yield count, self._piece()
            self._position += _AVRO_SYNC

    def _number(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._position]
            self._position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)

    def _piece(self) -> bytes:
        length = self._number()
        if not 0 <= length <= len(self._data) - self._position:
            raise ValueError("cut short")
        self._position += length
        return self._data[self._position - length : self._position]


def _check_avro_size(avro: _Avro, columns: int, codec: str, packed: int, label: str) -> None:
    """Refuse a bomb: by how many rows its blocks say that they have, and by the bytes that really come out."""
    rows = size = 0
    try:
        for count, block in avro.blocks():
            rows += count
            refuse_values(rows * columns, packed, label)
            if codec == "snappy":  # the length is told first, and allocated
                size += _varint(block)
                refuse_bomb(size, packed, label)
            elif codec == "deflate":
                unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
                while block and not unpacking.eof:
                    size += len(unpacking.decompress(block, _CHUNK))
                    block = unpacking.unconsumed_tail
                    refuse_bomb(size, packed, label)
    except (IndexError, ValueError, zlib.error):
        _reject_broken(label, "avro")


def _varint(data: bytes) -> int:
    value = 0
    for place, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value
    raise ValueError("no length")
