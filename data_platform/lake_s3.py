"""The lake in an S3-compatible bucket: what differs there from a local folder.

A file appears by one PUT, so it is whole or not there. Nothing can be locked: a PUT bears the ETag of the version that
it replaces, and starts over where another run was faster, so that every version is kept for the next publish.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path

import polars as pl

from data_platform.bucket import Bucket, Listed, ObjectChanged, ObjectPath, bucket_of
from data_platform.errors import SettingsError, SourceUnavailable
from data_platform.lake import (
    AT_ONCE,
    DELETED,
    LEFTOVER_AGE,
    POINTER_BEGINS,
    Draft,
    Lake,
    LakeFile,
    LakePath,
    Stamp,
    count_promoted,
    former_name,
    missing,
    over_files,
    partition_name,
    quarantine_name,
    stamp_in,
    storage_folders,
)

ATTEMPTS = 20
# Bounds what is in memory before it is asked for.
AHEAD = 4

# Of each partition the version whose stamp was read last in this process: a listing tells that it is still that one.
_known: dict[ObjectPath, tuple[str, Stamp | None]] = {}


class S3Lake(Lake):
    """The lake below `url`, s3://BUCKET/PREFIX; drafts are written aside below the local folder `drafts`."""

    def __init__(self, url: str, drafts: Path, setting: str = "DATA_PLATFORM_LAKE_URL") -> None:
        super().__init__(drafts)
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket or "@" in bucket or ":" in bucket:
            raise SettingsError(
                f"{setting} must be s3://BUCKET/PREFIX without anything else: give credentials and the endpoint by "
                " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL."
            )
        self.top = ObjectPath(bucket_of(bucket, os.environ, setting), prefix.strip("/"))

    @property
    def _bucket(self) -> Bucket:
        return self.top.bucket

    def file(self, name: str) -> ObjectPath:
        return self.top / name

    def path(self, asset: str, day: date) -> ObjectPath:
        return self.file(partition_name(asset, day))

    def former_path(self, asset: str, day: date, content: str) -> ObjectPath:
        return self.top / former_name(asset, day, content)

    # Reading

    def days(self, asset: str) -> list[date]:
        return list(self._versions(asset))

    def partition_sizes(self, asset: str) -> dict[date, int]:
        return {day: one.size for day, one in self._listed(asset).items()}

    def _versions(self, asset: str) -> dict[date, str]:
        return {day: one.etag for day, one in self._listed(asset).items()}

    def _listed(self, asset: str) -> dict[date, Listed]:
        """Each partition that is there, by one listing."""
        found = {}
        for one in self._bucket.listed(f"{(self.top / asset).key}/dt="):
            with contextlib.suppress(ValueError, IndexError):
                day = date.fromisoformat(one.key.split("/")[-2].removeprefix("dt="))
                if one.key == self.path(asset, day).key:
                    found[day] = one
        return dict(sorted(found.items()))

    def stamps(self, asset: str, days: Iterable[date] | None = None) -> dict[date, Stamp]:
        versions = self._versions(asset)
        there = [day for day in (versions if days is None else days) if day in versions]
        paths = [self.path(asset, day) for day in there]
        found = over_files(_stamp_of, paths, [versions[day] for day in there])
        return {day: stamp for day, stamp in zip(there, found, strict=True) if stamp is not None}

    def sizes(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        top = f"{self.top.key}/" if self.top.key else ""
        for one in self._bucket.listed(top):
            folder, apart, _ = one.key.removeprefix(top).partition("/")
            if apart and one.key.endswith(".parquet"):
                files, size = found.get(folder, (0, 0))
                found[folder] = files + 1, size + one.size
        return found

    def read_document(self, name: str) -> bytes | None:
        found = self._bucket.get((self.top / name).key)
        return None if found is None else found[0]

    def update_document(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        key = (self.top / name).key
        for _ in range(ATTEMPTS):
            found = self._bucket.get(key)
            content, etag = found or (None, None)
            with contextlib.suppress(ObjectChanged):
                self._bucket.put_over(key, change(content), etag)
                return
        raise SourceUnavailable(f"{name} in the lake was replaced again and again by others: run again.")

    def read(self, asset: str, day: date) -> pl.DataFrame:
        try:
            # By one request, so of one version: Polars makes several.
            content = self.path(asset, day).read_bytes()
        except FileNotFoundError:
            raise missing(asset, day) from None
        if content.startswith(POINTER_BEGINS):
            return super().read(asset, day)
        return pl.read_parquet(BytesIO(content), hive_partitioning=False)

    def frames(self, asset: str, days: Iterable[date]) -> Iterator[pl.DataFrame]:
        waiting: deque[Future[pl.DataFrame]] = deque()
        with ThreadPoolExecutor(AHEAD) as pool:
            try:
                for day in days:
                    waiting.append(pool.submit(self.read, asset, day))
                    if len(waiting) > AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def formers(self, asset: str) -> list[ObjectPath]:
        found = self._bucket.listed(f"{(self.top / '_former' / asset).key}/dt=")
        return [ObjectPath(self._bucket, one.key) for one in found if one.key.endswith(".parquet")]

    def stored_bytes(self, asset: str) -> int:
        return sum(
            one.size
            for folder in storage_folders(asset)
            for one in self._bucket.listed(f"{(self.top / folder).key}/dt=")
        )

    def files(self, folder: str) -> list[LakeFile]:
        key = (self.top / folder if folder else self.top).key
        found = self._bucket.listed(f"{key}/" if key else "")
        return [LakeFile(ObjectPath(self._bucket, one.key), one.size, one.changed) for one in found]

    # Writing

    def _stands(self, asset: str, day: date, stamp: Stamp, rejected: bool) -> bool:  # noqa: ARG002
        """Left to `promote`, which sees many partitions at once."""
        return False

    def promote(self, drafts: Sequence[Draft]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._promote, drafts))
        for asset in {draft.asset for draft in drafts if draft.asset.startswith("stg_")}:
            self._forget_left_quarantine(asset, {draft.day for draft in drafts if draft.asset == asset})

    def _promote(self, draft: Draft) -> None:
        if draft.path is None:
            count_promoted(draft, written=False)
            return
        for _ in range(ATTEMPTS):
            with contextlib.suppress(ObjectChanged):
                count_promoted(draft, written=self._put(draft, draft.path))
                break
        else:
            raise SourceUnavailable(
                f"{draft.asset} {draft.day} was replaced again and again by other runs: let them end, then run again."
            )
        for path in (draft.path, draft.quarantine):
            if path is not None:
                path.unlink(missing_ok=True)

    def _put(self, draft: Draft, path: Path) -> bool:
        """Make a draft the partition, over the version that stands; raises ObjectChanged where that is replaced.

        False: it stood already.
        """
        target = self.path(draft.asset, draft.day)
        rejected = self.file(quarantine_name(draft.asset, draft.day, draft.stamp))
        found = target.footer_and_etag()
        standing, etag = (None, None) if found is None else (stamp_in(found[0], target), found[1])
        # It may be this very draft, by a PUT whose answer got lost.
        if (
            standing is not None
            and standing == draft.stamp
            and standing.moved != DELETED
            and (draft.quarantine is None or self.quarantine_path(draft.asset, draft.day, standing).exists())
        ):
            return False
        if draft.quarantine is not None:
            self._bucket.put(rejected.key, draft.quarantine.read_bytes())
        replaced = standing if standing is not None and standing.content != draft.stamp.content else None
        if replaced is not None and etag is not None and draft.asset.startswith("stg_"):
            former = self.former_path(draft.asset, draft.day, replaced.content).key
            if replaced.moved:
                self._bucket.put(former, self.archived(draft.asset, draft.day, replaced))
            else:
                self._bucket.copy(target.key, etag, former)
        self._bucket.put_over(target.key, path.read_bytes(), etag)
        # A run that replaced this content at the same time may have taken its quarantine away.
        if draft.quarantine is not None and not rejected.exists():
            self._bucket.put(rejected.key, draft.quarantine.read_bytes())
        if replaced is not None and replaced.rows_quarantined:
            left = self.file(quarantine_name(draft.asset, draft.day, replaced))
            self.forget_quarantine(draft.asset, draft.day, left)
        return True

    def put(self, name: str, content: bytes) -> None:
        self._bucket.put(self.file(name).key, content)

    def point(self, asset: str, day: date, stamp: Stamp) -> bool:
        target = self.path(asset, day)
        found = target.footer_and_etag()
        standing = None if found is None else stamp_in(found[0], target)
        if found is None or standing is None or standing != stamp or standing.moved:
            return False
        try:
            self._bucket.put_over(target.key, stamp.to_json().encode(), found[1])
        except ObjectChanged:
            return False
        return True

    def forget_quarantine(self, asset: str, day: date, path: LakePath) -> None:
        standing = self.stamp(asset, day)
        if standing is not None and path != self.quarantine_path(asset, day, standing):
            path.unlink()

    def _forget_left_quarantine(self, asset: str, days: set[date]) -> None:
        """Remove what killed runs left of `days`: not younger ones, whose staging file may be on its way."""
        young = datetime.now(UTC) - timedelta(seconds=LEFTOVER_AGE)
        folders = {(self.top / quarantine_name(asset, day, Stamp(""))).parent: day for day in days}
        for one in self._bucket.listed(f"{(self.top / asset.replace('stg_', 'quarantine_', 1)).key}/dt="):
            path = ObjectPath(self._bucket, one.key)
            if path.parent in folders and one.changed < young:
                self.forget_quarantine(asset, folders[path.parent], path)


def _stamp_of(path: ObjectPath, etag: str) -> Stamp | None:
    known = _known.get(path)
    if known is None or known[0] != etag:
        found = path.footer_and_etag()
        known = ("", None) if found is None else (found[1], stamp_in(found[0], path))
        _known[path] = known
    return known[1]
