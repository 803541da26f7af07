"""The lake: one Parquet file per asset and partition, `ASSET/dt=YYYY-MM-DD/part.parquet`, whole or not there at all.

A file is written aside and renamed. A staged file that is replaced stays below `_former` until the next publish has
seen which keys it told of. What is known of a partition without reading it (`Stamp`) is in its Parquet footer. What
differs in an object store is in `lake_s3.py`.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import polars as pl

from data_platform.costs import metering
from data_platform.errors import PlatformError, SettingsError, SourceUnavailable
from data_platform.settings import Settings

if TYPE_CHECKING:
    from data_platform.bucket import ObjectPath

LakePath: TypeAlias = "Path | ObjectPath"
R = TypeVar("R")

FOOTER_KEY = "data_platform"
PART = "part.parquet"
LEFTOVER_AGE = 24 * 3600
# Files of an object store that are asked for together: each alone would cost a round trip.
AT_ONCE = 16


@dataclass(frozen=True)
class Stamp:
    """What a lake file says of itself in its footer.

    `content` is the hash of what it holds. Of a staged delivery: how its rows were classed, how it is to be read
    (mode, unit), which columns it lacked as a whole, the contract it was staged by, its first and last moment, and in
    `rejected` the hash of its quarantine (empty where there is none).
    """

    content: str
    delivered: bool = True
    rows_delivered: int = 0
    rows_staged: int = 0
    rows_quarantined: int = 0
    rows_duplicate: int = 0
    mode: str = "changes"
    unit: str = "line"
    unknown: tuple[str, ...] = ()
    contract: str = ""
    first_moment: str | None = None
    last_moment: str | None = None
    totals: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    rejected: str = ""

    def to_json(self) -> str:
        """The stamp as it stands in the footer."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Stamp":
        """The stamp that `to_json` wrote."""
        values = json.loads(text)
        for name in ("unknown", "files"):
            values[name] = tuple(values[name])
        return cls(**values)


@dataclass(frozen=True)
class Draft:
    """A partition written aside, ready to be promoted; with its rejected rows, if there are any."""

    asset: str
    day: date
    stamp: Stamp
    path: Path | None
    quarantine: Path | None = None


class Lake:
    """The lake below `root`, a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, settings: Settings) -> "Lake":
        """The lake that the settings name; raises SettingsError for a kind of URL that is not served."""
        scheme, apart, _ = settings.lake_url.partition("://")
        if not apart:
            return cls(Path(settings.lake_url))
        if scheme != "s3":
            raise SettingsError(
                f"DATA_PLATFORM_LAKE_URL begins with {scheme}://: the lake is a local folder or s3://BUCKET/PREFIX."
            )
        # Not before it is wanted: a local lake is to start without it.
        from data_platform.lake_s3 import S3Lake

        return S3Lake(settings.lake_url, settings.home / "lake_drafts")

    def path(self, asset: str, day: date) -> LakePath:
        """Where the partition is kept."""
        return self.root / partition_name(asset, day)

    def days(self, asset: str) -> list[date]:
        """The partitions that are there, in order."""
        days = []
        with _explained(self.root):
            for folder in (self.root / asset).glob("dt=*"):
                with contextlib.suppress(ValueError):
                    day = date.fromisoformat(folder.name[3:])
                    if (folder / PART).exists() and folder == (self.root / partition_name(asset, day)).parent:
                        days.append(day)
        return sorted(days)

    def stamp(self, asset: str, day: date) -> Stamp | None:
        """The footer's stamp of a partition; None where there is no such partition."""
        return read_stamp(self.path(asset, day))

    def stamps(self, asset: str, days: Iterable[date] | None = None) -> dict[date, Stamp]:
        """The stamps of the partitions that are there (of `days`, else all)."""
        found = ((day, self.stamp(asset, day)) for day in (self.days(asset) if days is None else days))
        return {day: stamp for day, stamp in found if stamp is not None}

    def write_aside(
        self, asset: str, day: date, frame: pl.DataFrame, stamp: Stamp, quarantined: pl.DataFrame | None = None
    ) -> Draft:
        """Write a partition aside. Nothing is visible before `promote`. Raises SourceUnavailable (disk, rights)."""
        rejected = quarantined if quarantined is not None and not quarantined.is_empty() else None
        if self._stands(asset, day, stamp, rejected is not None):
            return Draft(asset, day, stamp, None)
        path = self._write(frame, stamp)
        try:
            return Draft(asset, day, stamp, path, None if rejected is None else self._write(rejected, stamp))
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _stands(self, asset: str, day: date, stamp: Stamp, rejected: bool) -> bool:
        """Whether there is nothing to write."""
        return self.stamp(asset, day) == stamp and (not rejected or self.quarantine_path(asset, day, stamp).exists())

    def _write(self, frame: pl.DataFrame, stamp: Stamp) -> Path:
        path = self.root / "_aside" / f"{uuid.uuid4().hex}.parquet"
        with _explained(self.root):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                frame.write_parquet(path, compression="zstd", metadata={FOOTER_KEY: stamp.to_json()})
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            except BaseException:
                path.unlink(missing_ok=True)  # half a file must not stay on a disk that is full
                raise
        return path

    def promote(self, drafts: Sequence[Draft]) -> None:
        """Make drafts the partitions: quarantine first, then the file, each by one rename."""
        for draft in drafts:
            target = self.root / partition_name(draft.asset, draft.day)
            count_promoted(draft, written=draft.path is not None)
            # Two runs may promote the same day: what is three steps here must not mix with theirs.
            with _explained(self.root), self._locked(draft.asset):
                if draft.path is None:
                    self._forget_other_quarantine(draft)  # a run killed before it got there has left it
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                if draft.quarantine is not None:
                    rejected = self.root / quarantine_name(draft.asset, draft.day, draft.stamp)
                    rejected.parent.mkdir(parents=True, exist_ok=True)
                    draft.quarantine.replace(rejected)
                self._keep_former(draft)
                draft.path.replace(target)
                self._forget_other_quarantine(draft)

    @contextlib.contextmanager
    def _locked(self, asset: str) -> Iterator[None]:
        path = self.root / "_locks" / asset
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # the kernel drops it with the process, whatever ends that
            yield

    def quarantine_path(self, asset: str, day: date, stamp: Stamp) -> LakePath:
        """Where the rejected rows of a staged partition are: named by its content, so that the two never mix."""
        return self.root / quarantine_name(asset, day, stamp)

    def _keep_former(self, draft: Draft) -> None:
        if not draft.asset.startswith("stg_"):
            return
        existing = self.stamp(draft.asset, draft.day)
        if existing is None or existing.content == draft.stamp.content:
            return
        former = self.root / former_name(draft.asset, draft.day, existing.content)
        former.parent.mkdir(parents=True, exist_ok=True)
        standing = self.root / partition_name(draft.asset, draft.day)
        try:
            os.link(standing, former)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            copy = self.root / "_aside" / f"{uuid.uuid4().hex}.parquet"
            shutil.copyfile(standing, copy)
            copy.replace(former)

    def former_path(self, asset: str, day: date, content: str) -> LakePath:
        """Where a staged file that was replaced waits for the next publish."""
        return self.root / former_name(asset, day, content)

    def formers(self, asset: str) -> Sequence[LakePath]:
        """The replaced staged files that no publish has seen yet."""
        return sorted((self.root / "_former" / asset).glob("dt=*/*.parquet"))

    def _forget_other_quarantine(self, draft: Draft) -> None:
        if not draft.asset.startswith("stg_"):
            return
        standing = self.stamp(draft.asset, draft.day)
        if standing is None or standing.content != draft.stamp.content:
            return
        kept = self.root / quarantine_name(draft.asset, draft.day, draft.stamp)
        for path in kept.parent.glob("*.parquet"):
            if path != kept:
                path.unlink(missing_ok=True)

    def partition_sizes(self, asset: str) -> dict[date, int]:
        """The bytes of the file of each partition."""
        found = {}
        for day in self.days(asset):
            with contextlib.suppress(FileNotFoundError):
                found[day] = (self.root / partition_name(asset, day)).stat().st_size
        return found

    def stored_bytes(self, asset: str) -> int:
        """What the asset takes up: its partitions, of staging also quarantine; not what the next publish removes."""
        size = 0
        for folder in storage_folders(asset):
            for path in (self.root / folder).glob("dt=*/*.parquet"):
                with contextlib.suppress(FileNotFoundError):
                    size += path.stat().st_size
        return size

    @contextlib.contextmanager
    def drafting(self, drafts: list[Draft]) -> Iterator[None]:
        """Remove the drafts made so far if the work on further ones fails: the disk may be full of them."""
        try:
            yield
        except BaseException:
            self.discard(drafts)
            raise

    def discard(self, drafts: Iterable[Draft]) -> None:
        """Remove drafts that will not be promoted, and what killed runs left aside a day ago."""
        for draft in drafts:
            for path in (draft.path, draft.quarantine):
                if path is not None:
                    path.unlink(missing_ok=True)
        oldest = time.time() - LEFTOVER_AGE
        for path in (self.root / "_aside").glob("*.parquet"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def read(self, asset: str, day: date) -> pl.DataFrame:
        """One partition whole; raises PlatformError where it is not there."""
        path = self.root / partition_name(asset, day)
        if not path.exists():
            raise missing(asset, day)
        metering.count_files_read([path])
        with _explained(self.root):
            # No glob: a folder may be named data[1].
            return pl.read_parquet(path, hive_partitioning=False, glob=False)

    def frames(self, asset: str, days: Iterable[date]) -> Iterator[pl.DataFrame]:
        """As `read`, of each of `days` in order."""
        return (self.read(asset, day) for day in days)

    def scan(self, asset: str, days: Sequence[date]) -> pl.LazyFrame:
        """Partitions of one schema as one lazy scan, with the day as `dt`; days that are not there are left out."""
        paths = self._there(asset, days)
        if not paths:
            raise PlatformError(f"{asset} has none of the partitions asked for: materialize {asset} first.")
        return scan_files(paths, hive_partitioning=True, hive_schema={"dt": pl.Date})

    def _there(self, asset: str, days: Sequence[date]) -> Sequence[LakePath]:
        return [path for path in (self.path(asset, day) for day in days) if path.exists()]


def count_promoted(draft: Draft, *, written: bool) -> None:
    """Count what is promoted as worked on, and where it does not stand already as `written`."""
    rows = draft.stamp.rows_delivered
    metering.count_rows({draft.day: rows}, written=rows if written else 0)
    for path in (draft.path, draft.quarantine):
        if path is not None and written:
            metering.count_file_written(path.stat().st_size)


def partition_name(asset: str, day: date) -> str:
    """Where a partition is, below the lake."""
    return f"{asset}/dt={day.isoformat()}/{PART}"


def quarantine_name(asset: str, day: date, stamp: Stamp) -> str:
    """Where the rejected rows of a staged partition are, below the lake."""
    return f"{asset.replace('stg_', 'quarantine_', 1)}/dt={day.isoformat()}/{stamp.content[:16]}.parquet"


def storage_folders(asset: str) -> tuple[str, ...]:
    """The folders of an asset, below the lake."""
    if not asset.startswith("stg_"):
        return (asset,)
    return (asset, asset.replace("stg_", "quarantine_", 1))


def former_name(asset: str, day: date, content: str) -> str:
    """Where a staged file that was replaced is, below the lake."""
    return f"_former/{asset}/dt={day.isoformat()}/{content}.parquet"


def missing(asset: str, day: date) -> PlatformError:
    """The error of a partition that is not there."""
    return PlatformError(f"{asset} has no partition {day}: materialize {asset} for that day first.")


def over_files(function: Callable[..., R], paths: Sequence[LakePath], *more: Iterable[Any]) -> list[R]:
    """`map` over `paths` and `more`, in order; over files of an object store several at a time."""
    if all(isinstance(path, Path) for path in paths):
        return list(map(function, paths, *more))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, paths, *more))


def scan_files(paths: Sequence[LakePath], **options: Any) -> pl.LazyFrame:
    """`pl.scan_parquet` of files of the lake, with its `options`."""
    local = [path for path in paths if isinstance(path, Path)]
    metering.count_files_read(local)
    if len(local) == len(paths):
        return pl.scan_parquet(local, glob=False, **options)
    told = {
        name: value
        for path in paths
        if not isinstance(path, Path)
        for name, value in path.bucket.storage_options.items()
    }
    return pl.scan_parquet([str(path) for path in paths], glob=False, storage_options=told, **options)


def read_file(path: LakePath, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A file of the lake whole, or some of its columns; raises FileNotFoundError where it is not there."""
    metering.count_files_read([path])
    # Of an object store by one request, so of one version: Polars makes several.
    source = path if isinstance(path, Path) else BytesIO(path.read_bytes())
    return pl.read_parquet(
        source, columns=None if columns is None else list(columns), glob=False, hive_partitioning=False
    )


def footer_of(path: LakePath) -> Path | BytesIO:
    """What a Parquet file's footer can be read from; raises FileNotFoundError for an object that is not there."""
    return path if isinstance(path, Path) else path.footer()


def read_stamp(path: LakePath) -> Stamp | None:
    """The stamp in a Parquet file's footer; None where there is no file. Raises PlatformError for a foreign file."""
    try:
        return stamp_in(footer_of(path), path)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise SourceUnavailable(f"The lake file {path} cannot be read: mend the rights of its folders.") from None
    except OSError:
        raise SourceUnavailable(
            f"The lake file {path} cannot be read: see that every part of its path is a folder, on a disk that works."
        ) from None


def stamp_in(footer: Path | BytesIO, path: LakePath) -> Stamp:
    """The stamp in what `footer_of` gives of `path`; raises PlatformError where it is none of ours, and OSError."""
    try:
        text = pl.read_parquet_metadata(footer).get(FOOTER_KEY)
    except pl.exceptions.ComputeError:
        raise PlatformError(f"The lake file {path.name} of {path.parent.parent.name}, {path.parent.name} is broken: "
                            "delete it and materialize that partition again.") from None  # fmt: skip
    if text is None:
        raise PlatformError(f"{path} was not written by this platform: move it away and materialize that partition.")
    try:
        return Stamp.from_json(text)
    except (ValueError, TypeError, KeyError):
        raise PlatformError(
            f"{path} was written by another version of this platform: move it away and materialize that partition."
        ) from None


def content_hash(frames: Iterable[pl.DataFrame], meaning: dict[str, Any]) -> str:
    """SHA-256 over the canonical values of `frames` and over `meaning` (what else decides how they are read).

    Canonical is the text of each value in csv, time stamps as microseconds: not the bytes of a file format, nor a hash
    that a library may change.
    """
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True, default=str).encode())
    for frame in frames:
        digest.update(repr(frame.columns).encode())
        canonical = frame.select(_canonical(name, dtype) for name, dtype in frame.schema.items())
        digest.update(canonical.write_csv(include_header=False).encode())
    return digest.hexdigest()


def _canonical(name: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        return value.dt.cast_time_unit("us").cast(pl.Int64)
    if isinstance(dtype, pl.Binary):
        return value.bin.encode("hex")
    if isinstance(dtype, pl.Duration):
        return value.cast(pl.Int64)
    # csv holds no nested values.
    return pl.struct(value).struct.json_encode().alias(name) if dtype.is_nested() else value


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        # Polars gives no errno, and calls a full disk below a Parquet file a ComputeError.
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise SourceUnavailable(
                f"The disk of the lake ({root}) is full: nothing was written; free space and run again."
            ) from None
        if not isinstance(error, OSError):
            raise
        if isinstance(error, PermissionError):
            raise SourceUnavailable(
                f"The lake ({root}) cannot be written or read: mend the rights of that folder."
            ) from None
        reason = error.strerror or type(error).__name__
        raise SourceUnavailable(f"The lake ({root}) cannot be used ({reason}).") from None


def with_moments(stamp: Stamp, first: datetime | None, last: datetime | None) -> Stamp:
    """`stamp` with the first and last moment of its rows (UTC)."""
    return replace(
        stamp,
        first_moment=first.isoformat() if first else None,
        last_moment=last.isoformat() if last else None,
    )
