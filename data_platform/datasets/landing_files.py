"""Writing deliveries of a data set into a landing folder, as every data set of this package does it.

What belongs here: names of landing files, write-aside-and-rename, and the care not to touch another's deliveries.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Literal

import polars as pl

from data_platform.errors import PlatformError, SourceUnavailable

ENTITIES = ("orders", "products", "customers")
FileFormat = Literal["parquet", "csv"]

# Names the files of a landing folder that came from a data set: only these may a second run replace.
_MANIFEST = ".written-by-data-sets"


class LandingOccupied(PlatformError):
    """The landing folder holds deliveries that a data set must not replace or put a second file beside."""


def claim_landing(landing: Path, days: Collection[date], file_format: FileFormat) -> None:
    """Make LANDING/<entity>/ for each entity and see that the deliveries of `days` may be written there.

    Files that a data set wrote before may be replaced. Raises LandingOccupied, with nothing written, where a day
    has a delivery of another origin or form (two forms of one day would be rejected as ambiguous), and
    SourceUnavailable where the folder cannot be written.
    """
    wanted = {day.isoformat() for day in days}
    with _as_source_unavailable(landing):
        landing.mkdir(parents=True, exist_ok=True)
        manifest = landing / _MANIFEST
        ours = set(manifest.read_text().splitlines()) if manifest.exists() else set()
        for entity in ENTITIES:
            folder = landing / entity
            folder.mkdir(exist_ok=True)
            for entry in sorted(folder.iterdir()):
                day, _, form = entry.name.partition(".")
                if day not in wanted:
                    continue
                if f"{entity}/{entry.name}" not in ours:
                    raise LandingOccupied(
                        f"{entry} is a delivery of another origin: give a landing folder without deliveries of these "
                        f"days, or move it away."
                    )
                if form != file_format:
                    raise LandingOccupied(
                        f"{entry} is a delivery of the same day in another form than .{file_format}: remove it, or "
                        f"give another landing folder."
                    )
        ours |= {f"{entity}/{day}.{file_format}" for entity in ENTITIES for day in wanted}
        manifest.write_text("".join(f"{name}\n" for name in sorted(ours)))


def write_delivery(landing: Path, entity: str, day: date, frame: pl.DataFrame, file_format: FileFormat) -> Path:
    """Write LANDING/<entity>/<day>.<file_format> whole or not at all, and give its path.

    A frame without rows becomes a header only: a valid, empty delivery. Raises SourceUnavailable if the folder
    cannot be written or the disk is full.
    """
    target = landing / entity / f"{day.isoformat()}.{file_format}"
    aside = target.with_name(f".{target.name}.{os.getpid()}.writing")
    with _as_source_unavailable(target):
        try:
            if file_format == "parquet":
                frame.write_parquet(aside, compression="zstd")
            else:
                frame.write_csv(aside, datetime_format="%Y-%m-%d %H:%M:%S")
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    return target


@contextmanager
def _as_source_unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        # Polars gives no errno, and calls a full disk below a Parquet file a ComputeError.
        said = next((reason for reason in ("No space left", "Permission denied") if reason in str(error)), None)
        if said is None and not isinstance(error, OSError):
            raise
        reason = said or getattr(error, "strerror", None) or "the system refused it"
        raise SourceUnavailable(
            f"{path} cannot be written ({reason}): free the disk or the permission and run it again."
        ) from error
