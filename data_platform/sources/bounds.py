"""How much a delivery may become: little on disk that is much in memory is refused before it is read."""

from typing import NoReturn

from data_platform.errors import DeliveryRejected

MAX_COLUMNS = 10_000
# Text shrinks to a twentieth, seldom to a hundredth; what grows beyond both bounds is a bomb.
MAX_RATIO = 200
HARMLESS_BYTES = 100 * 1024 * 1024
# Parquet and Avro hold a thousand equal or absent values in a few bytes, and often do: a table may be this large
# whatever its file has, and beyond it MAX_RATIO holds.
HARMLESS_VALUES = 250_000_000
_VALUE_BYTES = 8


def refuse_bomb(unpacked: int, packed: int, label: str) -> None:
    """Raise DeliveryRejected where so many bytes (counted, not told) have come out of so many."""
    if unpacked > HARMLESS_BYTES and unpacked > MAX_RATIO * packed:
        raise DeliveryRejected(
            f"{label} unpacks to more than {unpacked // 1024 // 1024} MB, far more than its own size, so it may be a "
            "bomb: deliver the files themselves."
        )


def refuse_values(values: int, packed: int, label: str) -> None:
    """Raise DeliveryRejected where a file of so many bytes says that it holds so many values."""
    if values > HARMLESS_VALUES and values * _VALUE_BYTES > MAX_RATIO * packed:
        raise DeliveryRejected(
            f"{label} says that it holds {values:,} values, far more than its own size, so it may be a bomb: deliver "
            "the day in parts, or without columns that hold nothing."
        )


def reject_columns(number: int, label: str) -> NoReturn:
    """Raise the DeliveryRejected for a file of so many columns."""
    raise DeliveryRejected(f"{label} has {number} columns, and {MAX_COLUMNS} are the most: deliver fewer.")
