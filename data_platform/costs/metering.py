"""What the step that runs in this process reads, writes and works on, counted where it happens.

A process works at one step at a time, whatever threads it uses for it: so there is one meter. Outside of a step nothing
is counted. Nothing of Dagster or Postgres belongs here: the lake and COPY call it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Lock


@dataclass
class Meter:
    """The figures of one step: bytes, files of the lake, the rows it worked on (`rows` by partition) and wrote."""

    bytes_read: int = 0
    bytes_written: int = 0
    files_written: int = 0
    rows: dict[date, int] = field(default_factory=dict)
    other_rows: int = 0
    rows_written: int = 0


_running: list[Meter] = []
_lock = Lock()


def begin() -> Meter:
    """A new meter, which counts from now on; one that still counts is forgotten."""
    meter = Meter()
    with _lock:
        _running[:] = [meter]
    return meter


def end() -> None:
    """Count no more."""
    with _lock:
        _running.clear()


def count_read(size: int) -> None:
    """So many bytes were read."""
    with _lock:
        for meter in _running:
            meter.bytes_read += size


def count_written(size: int) -> None:
    """So many bytes were written."""
    with _lock:
        for meter in _running:
            meter.bytes_written += size


def count_file_written(size: int) -> None:
    """A file of so many bytes was written."""
    with _lock:
        for meter in _running:
            meter.bytes_written += size
            meter.files_written += 1


def count_files_read(paths: Iterable[object]) -> None:
    """The files of `paths` are read; what is no local path, or not there, is left out."""
    if _running:
        count_read(sum(path.stat().st_size for path in paths if isinstance(path, Path) and path.exists()))


def count_rows(rows: Mapping[date, int], *, written: int) -> None:
    """So many rows were worked on, by partition; so many of the table's rows were written."""
    with _lock:
        for meter in _running:
            for day, count in rows.items():
                meter.rows[day] = meter.rows.get(day, 0) + count
            meter.rows_written += written


def count_other_rows(rows: int, *, written: int) -> None:
    """As `count_rows`, of what has no partitions."""
    with _lock:
        for meter in _running:
            meter.other_rows += rows
            meter.rows_written += written
