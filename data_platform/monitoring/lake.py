"""What the lake, the landing and the disks hold: by their listings, and footers that are read once.

A look costs a listing, however many partitions there are: of a file that stands as it did the stamp is known already.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from data_platform.contracts import STAGED
from data_platform.lake import Lake, Stamp
from data_platform.settings import Settings


@dataclass(frozen=True)
class LakeFigures:
    """`stamps` of every partition of raw and staging by asset; `files` and `bytes` by folder of the lake."""

    stamps: Mapping[str, Mapping[date, Stamp]]
    files: Mapping[str, int]
    bytes: Mapping[str, int]

    def quarantined(self, entity: str) -> dict[date, int]:
        """The rejected rows that wait, by day of their delivery."""
        staged = self.stamps[f"stg_{entity}"].items()
        return {day: stamp.rows_quarantined for day, stamp in staged if stamp.rows_quarantined}


@dataclass(frozen=True)
class Disk:
    """A disk that the platform writes to: bytes that are free for it, and all that it can use."""

    place: str
    free: int
    size: int


class LakeReader:
    """Reads a lake again and again. Not for several threads at once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], Stamp | None]] = {}

    def read(self, lake: Lake) -> LakeFigures:
        """The figures of the lake as it stands; raises PlatformError where it, or a file of it, cannot be read."""
        stamps = {name: self._stamps(lake, name) for name in assets()}
        sizes = lake.sizes()
        return LakeFigures(
            stamps,
            {folder: files for folder, (files, _) in sorted(sizes.items())},
            {folder: size for folder, (_, size) in sorted(sizes.items())},
        )

    def _stamps(self, lake: Lake, asset: str) -> dict[date, Stamp]:
        days = lake.days(asset)
        if not all(isinstance(lake.path(asset, day), Path) for day in days[:1]):
            return lake.stamps(asset)  # an object store's, which knows unchanged objects by their ETags
        found = {day: self._stamp(lake, asset, day) for day in days}
        return {day: stamp for day, stamp in found.items() if stamp is not None}

    def _stamp(self, lake: Lake, asset: str, day: date) -> Stamp | None:
        path = lake.path(asset, day)
        assert isinstance(path, Path)
        try:
            about = path.stat()
        except OSError:
            return lake.stamp(asset, day)  # which says why
        # Files are replaced by a rename, so another content is another file.
        identity = (about.st_ino, about.st_mtime_ns, about.st_size)
        known = self._known.get(path)
        if known is None or known[0] != identity:
            known = self._known[path] = (identity, lake.stamp(asset, day))
        return known[1]


def assets() -> list[str]:
    """The assets that the lake holds."""
    return [f"{layer}_{entity}" for layer in ("raw", "stg") for entity in STAGED]


def landed(chosen: Settings) -> dict[str, list[date]]:
    """The days in the landing folder by entity; raises PlatformError where they cannot be listed."""
    from data_platform.sources.landing import landed_days

    return {entity: landed_days(chosen.landing_url, entity) for entity in STAGED}


def disks(chosen: Settings) -> list[Disk]:
    """The disk of DATA_PLATFORM_HOME, and that of the lake where it is another one of this machine."""
    places = {"home": chosen.home}
    if "://" not in chosen.lake_url:
        places["lake"] = Path(chosen.lake_url)
    found: dict[int, Disk] = {}
    for name, path in places.items():
        standing = _standing(path)
        usage = shutil.disk_usage(standing)
        # What is kept back for the system's own user is no space for us.
        found.setdefault(standing.stat().st_dev, Disk(name, usage.free, usage.used + usage.free))
    return list(found.values())


def _standing(path: Path) -> Path:
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))
