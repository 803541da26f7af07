"""The lake: one Parquet file per asset and partition, `ASSET/dt=YYYY-MM-DD/part.parquet`, whole or not there at all.

A file is written aside and renamed. A staged file that is replaced stays below `_former` until the next publish has
seen which keys it told of. What is known of a partition without reading it (`Stamp`) is in its Parquet footer. What
differs in an object store is in `lake_s3.py`.

Where retention has moved a partition to an archive, or deleted it, its stamp alone stands in its place, as JSON: the
partition is still there, its stamp is read as before, and its rows are read from the archive (`held`).
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import polars as pl

from data_platform.errors import PlatformError, SettingsError, SourceUnavailable
from data_platform.settings import Settings

if TYPE_CHECKING:
    from data_platform.bucket import ObjectPath

LakePath: TypeAlias = "Path | ObjectPath"
R = TypeVar("R")

FOOTER_KEY = "data_platform"
MAGIC = b"PAR1"  # a Parquet file begins and ends with it
ARCHIVE = "the archive of retention.yaml"  # as errors of its bucket call it
PART = "part.parquet"
LEFTOVER_AGE = 24 * 3600
# Files of an object store that are asked for together: each alone would cost a round trip.
AT_ONCE = 16
# In Stamp.moved: the rows are nowhere any more.
DELETED = "deleted"
POINTER_BEGINS = b"{"


@dataclass(frozen=True)
class Stamp:
    """What a lake file says of itself in its footer.

    `content` is the hash of what it holds. Of a staged delivery: how its rows were classed, how it is to be read
    (mode, unit), which columns it lacked as a whole, the contract it was staged by, its first and last moment, and in
    `rejected` the hash of its quarantine (empty where there is none). `moved` is no part of what it says: the root of
    the archive that holds the rows, or DELETED.
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
    moved: str = field(default="", compare=False)

    def to_json(self) -> str:
        """The stamp as it stands in the footer."""
        values = asdict(self)
        if not self.moved:
            del values["moved"]
        return json.dumps(values, sort_keys=True)

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


@dataclass(frozen=True)
class LakeFile:
    """A file of the lake in a listing; `changed` in UTC."""

    path: LakePath
    size: int
    changed: datetime


class Lake:
    """The lake below `root`, a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, settings: Settings) -> "Lake":
        """The lake that the settings name; raises SettingsError for a kind of URL that is not served."""
        return lake_at(settings.lake_url, settings.home / "lake_drafts", "DATA_PLATFORM_LAKE_URL")

    def file(self, name: str) -> LakePath:
        """The file of that name below the lake, such as `partition_name` gives."""
        return self.root / name

    def path(self, asset: str, day: date) -> LakePath:
        """Where the partition is kept: its rows, or where they are (`held`)."""
        return self.file(partition_name(asset, day))

    def held(self, asset: str, day: date, stamp: Stamp) -> LakePath:
        """Where the rows are of the partition that `stamp` was read of; raises PlatformError where they are deleted."""
        return self._of(asset, day, stamp).path(asset, day)

    def _of(self, asset: str, day: date, stamp: Stamp) -> "Lake":
        """The lake that holds the rows: this one, or the archive that they were moved to."""
        if not stamp.moved:
            return self
        if stamp.moved == DELETED:
            raise deleted(asset, [day])
        return lake_at(stamp.moved, self.root, ARCHIVE)

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
        standing = self.stamp(asset, day)
        if standing is None or standing != stamp or standing.moved == DELETED:
            return False
        return not rejected or self.quarantine_path(asset, day, standing).exists()

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
        return self._of(asset, day, stamp).file(quarantine_name(asset, day, stamp))

    def _keep_former(self, draft: Draft) -> None:
        if not draft.asset.startswith("stg_"):
            return
        existing = self.stamp(draft.asset, draft.day)
        if existing is None or existing.content == draft.stamp.content:
            return
        former = self.root / former_name(draft.asset, draft.day, existing.content)
        former.parent.mkdir(parents=True, exist_ok=True)
        if existing.moved:
            content = self.archived(draft.asset, draft.day, existing)
            self.put(former_name(draft.asset, draft.day, existing.content), content)
            return
        standing = self.root / partition_name(draft.asset, draft.day)
        try:
            os.link(standing, former)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            copy = self.root / "_aside" / f"{uuid.uuid4().hex}.parquet"
            shutil.copyfile(standing, copy)
            copy.replace(former)

    def archived(self, asset: str, day: date, stamp: Stamp) -> bytes:
        """The file that an archive holds of a partition; raises SourceUnavailable where the archive is away."""
        try:
            return self.held(asset, day, stamp).read_bytes()
        except FileNotFoundError:
            self.refuse_away(asset, {day: stamp})
            raise

    def put(self, name: str, content: bytes) -> None:
        """Write a file of that name below the lake, whatever stood there; on the disk when this returns."""
        target, aside = self.root / name, self.root / "_aside" / f"{uuid.uuid4().hex}.parquet"
        with _explained(self.root):
            try:
                for folder in (aside.parent, target.parent):
                    folder.mkdir(parents=True, exist_ok=True)
                with aside.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                aside.replace(target)
                _sync_folder(target.parent)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise

    def point(self, asset: str, day: date, stamp: Stamp) -> bool:
        """Have `stamp` alone, with what its `moved` says, stand for the partition whose stamp it is.

        False where another one stands there by now, or nothing does: then nothing is changed.
        """
        with _explained(self.root), self._locked(asset):
            standing = self.stamp(asset, day)
            if standing is None or standing != stamp or standing.moved:
                return False
            self.put(partition_name(asset, day), stamp.to_json().encode())
        return True

    def files(self, folder: str) -> list[LakeFile]:
        """All files below `folder` of the lake, in order of their names."""
        found = []
        with _explained(self.root):
            for path in sorted((self.root / folder).rglob("*")):
                with contextlib.suppress(FileNotFoundError):
                    told = path.stat()
                    if stat.S_ISREG(told.st_mode):
                        found.append(LakeFile(path, told.st_size, datetime.fromtimestamp(told.st_mtime, UTC)))
        return found

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

    def forget_quarantine(self, asset: str, day: date, path: LakePath) -> None:
        """Remove a file of rejected rows, unless it is of what stands here for the day."""
        with _explained(self.root), self._locked(asset):
            standing = self.stamp(asset, day)
            if standing is None or standing.moved or path != self.file(quarantine_name(asset, day, standing)):
                path.unlink(missing_ok=True)

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
        stamp = self.stamp(asset, day)
        if stamp is None:
            raise missing(asset, day)
        with _explained(self.root):
            try:
                return read_file(self.held(asset, day, stamp))
            except (pl.exceptions.PolarsError, FileNotFoundError):
                # It may have been moved, or replaced, since its stamp was read.
                now = self.stamp(asset, day)
                if now is None or now.moved == stamp.moved:
                    self.refuse_away(asset, {day: stamp})
                    raise
                return read_file(self.held(asset, day, now))

    def refuse_away(self, asset: str, stamps: Mapping[date, Stamp]) -> None:
        """Raise SourceUnavailable where an archive lacks what was moved there: of each it looks for one partition."""
        one_of = {stamp.moved: (day, stamp) for day, stamp in stamps.items() if stamp.moved not in ("", DELETED)}
        for root, (day, stamp) in one_of.items():
            if not self.held(asset, day, stamp).exists():
                raise SourceUnavailable(
                    f"The archive of retention.yaml, {root}, does not hold {asset} {day}, which was moved there: "
                    "mount its disk, or bring back what was there, then run again."
                )

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
        return [self.held(asset, day, stamp) for day, stamp in self.stamps(asset, days).items()]


def lake_at(url: str, drafts: Path, setting: str) -> Lake:
    """The lake at `url`, a local folder or s3://BUCKET/PREFIX, as errors name it by the `setting` that says so.

    Drafts of one in a bucket are written aside below `drafts`. Raises SettingsError for another kind of URL.
    """
    scheme, apart, _ = url.partition("://")
    if not apart:
        return Lake(Path(url))
    if scheme != "s3":
        raise SettingsError(f"{setting} begins with {scheme}://: the lake is a local folder or s3://BUCKET/PREFIX.")
    # Not before it is wanted: a local lake is to start without it.
    from data_platform.lake_s3 import S3Lake

    return S3Lake(url, drafts, setting)


def partition_name(asset: str, day: date) -> str:
    """Where a partition is, below the lake."""
    return f"{asset}/dt={day.isoformat()}/{PART}"


def quarantine_name(asset: str, day: date, stamp: Stamp) -> str:
    """Where the rejected rows of a staged partition are, below the lake."""
    return f"{asset.replace('stg_', 'quarantine_', 1)}/dt={day.isoformat()}/{stamp.content[:16]}.parquet"


def former_name(asset: str, day: date, content: str) -> str:
    """Where a staged file that was replaced is, below the lake."""
    return f"_former/{asset}/dt={day.isoformat()}/{content}.parquet"


def deleted(asset: str, days: Sequence[date]) -> PlatformError:
    """The error of partitions whose rows retention has deleted."""
    more = f" (and {len(days) - 1} more days)" if len(days) > 1 else ""
    return PlatformError(
        f"The rows of {asset} {days[0]}{more} were deleted, being older than retention.yaml keeps them: what was made "
        "of them stands, but cannot be made anew; leave those days out of the run, or have the source deliver them "
        "again."
    )


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
    if len(local) == len(paths):
        return pl.scan_parquet(local, glob=False, **options)
    remote = [path for path in paths if not isinstance(path, Path)]
    told = {name: value for path in remote for name, value in path.bucket.storage_options.items()}
    apart = pl.scan_parquet([str(path) for path in remote], glob=False, storage_options=told, **options)
    if not local:
        return apart
    # Polars scans one kind of storage at a time.
    return pl.concat([pl.scan_parquet(local, glob=False, **options), apart], how="diagonal")


def read_file(path: LakePath, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A file of the lake whole, or some of its columns; raises FileNotFoundError where it is not there."""
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
        if (pointer := _pointer_in(footer)) is not None:
            return pointer
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


def _pointer_in(file: Path | BytesIO) -> Stamp | None:
    """The stamp that stands for a partition which was moved; None where the file is none of these."""
    content = file.read_bytes() if isinstance(file, Path) else file.getvalue().removeprefix(MAGIC)
    if not content.startswith(POINTER_BEGINS):
        return None
    try:
        return Stamp.from_json(content.decode())
    except (ValueError, TypeError, KeyError):
        return None


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


def _sync_folder(folder: Path) -> None:
    """Have a rename within `folder` outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
