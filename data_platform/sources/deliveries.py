"""Where the deliveries of an entity come from: the landing folder, or a source that is asked and archived.

Both give the same: per day a `Delivery` of files, why there can be none, or None where nothing was delivered.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from data_platform.contracts.contract import Contract
from data_platform.errors import DeliveryRejected
from data_platform.settings import Settings
from data_platform.sources import files, lakehouse, rest, sql
from data_platform.sources.archive import Archive
from data_platform.sources.config import Asked as AskedConfig
from data_platform.sources.config import Source
from data_platform.sources.extraction import Extracted, Window, window_of
from data_platform.sources.landing import MANIFEST, Delivery, files_by_day, find_deliveries
from data_platform.sources.landing_store import Scratch, StoreFolder, is_url
from data_platform.sources.manifest import Manifest, parse_manifest, read_manifest

# A run with this tag takes what is archived: no source is asked for it again.
REPLAY = "data_platform/replay"

Found = Delivery | DeliveryRejected | None


class Deliveries(Protocol):
    """The deliveries of one entity."""

    absent: str  # what is said of days without one,
    counts: str  # of a delivery that is not what the source says of it,
    mend: str  # and what to do then

    def find(self, day: date) -> Found:
        """What was delivered for `day`; its files are there until the next call."""

    def manifest(self, day: date) -> Manifest | None:
        """The source's own count of that delivery; raises DeliveryRejected where it cannot be read."""

    def close(self) -> None:
        """Remove what was fetched for the while."""


class Landed:
    """Deliveries that somebody puts into the landing folder; it is listed once for all `days`."""

    absent = "Nothing is in the landing folder"
    counts = "the delivery is not what its manifest says"
    mend = f"It may be cut or mixed up: have it delivered again, or take the {MANIFEST} away."

    def __init__(self, landing_url: str, folder: str, days: Collection[date]) -> None:
        self._landing, self._folder = landing_url, folder
        self._found = find_deliveries(landing_url, folder, days)

    def find(self, day: date) -> Found:
        """What lies there for `day`."""
        return self._found.get(day)

    def manifest(self, day: date) -> Manifest | None:
        """The manifest beside the day's files."""
        return read_manifest(Path(self._landing), self._folder, day)

    def close(self) -> None:
        """Nothing was fetched."""


class LandedInStore:
    """The same of a landing in an object store: listed once, and fetched a day at a time to below `scratch`."""

    absent, counts, mend = Landed.absent, Landed.counts, Landed.mend

    def __init__(self, landing_url: str, folder: str, days: Collection[date], scratch: Path) -> None:
        self._folder, self._store = folder, StoreFolder(landing_url, folder)
        self._found = files_by_day(self._store, folder, days)
        self._scratch = Scratch(scratch)

    def find(self, day: date) -> Found:
        """What lies there for `day`, fetched; raises as StoreFolder does."""
        objects = self._found.get(day)
        if objects is None or isinstance(objects, DeliveryRejected):
            return objects
        try:
            return Delivery(self._folder, day, self._store.fetch(objects, self._scratch.emptied()))
        except DeliveryRejected as error:
            return error

    def manifest(self, day: date) -> Manifest | None:
        """The manifest beside the day's files."""
        name = f"{day}{MANIFEST}"
        content = self._store.read(name)
        return None if content is None else parse_manifest(content, f"{self._folder}/{name}")

    def close(self) -> None:
        """Remove what was fetched last."""
        self._scratch.close()


class Asked:
    """Deliveries of a source that is asked for each day (`rest`, `sql`, `files` … in sources.yaml), and then archived.

    A day that this run has archived is not asked for again: a retried step goes on where it ended. A source without a
    window tells how things are now: of days before yesterday it is not asked, their archive counts. `replay`: nothing
    is asked for that is archived; what an API answered is read anew, as sources.yaml now says.
    """

    absent = "The source gave nothing"
    counts = "what came is not what the source counts"
    mend = "Something is missing or came twice: run the day again."

    def __init__(
        self,
        source: Source,
        contract: Contract,
        archive: Archive,
        *,
        timezone: str,
        today: date,
        run_id: str,
        replay: bool = False,
    ) -> None:
        assert source.asked is not None
        self._kind, self._config = source.asked
        self._columns = wanted_columns(source, contract)
        self._source, self._archive, self._timezone, self._today = source, archive, timezone, today
        self._run_id, self._replay = run_id, replay

    def find(self, day: date) -> Found:
        """What the source answers of `day`; raises SourceUnavailable, and SettingsError for what can never be asked."""
        try:
            self._ask(day)
        except DeliveryRejected as error:
            return error
        return find_deliveries(str(self._archive.root), self._source.folder, [day]).get(day)

    def manifest(self, day: date) -> Manifest | None:
        """The source's own count, where it gave one."""
        said = self._archive.said(day)
        return Manifest(rows=said.rows) if said and said.rows is not None else None

    def close(self) -> None:
        """What was fetched is archived."""

    def _ask(self, day: date) -> None:
        said = self._archive.said(day)
        if said is not None and (self._replay or said.run_id == self._run_id):
            responses = self._archive.folder(day)
            if self._replay and self._kind == "rest":
                self._archive.take(day, self._run_id, partial(self._again, responses))
            return
        if not can_be_asked(self._config, day, self._today):
            return
        window = window_of(day, self._timezone, self._config.lookback)
        self._archive.take(day, self._run_id, partial(self.extract, window))

    def extract(self, window: Window, into: Path) -> Extracted:
        """Ask the source for `window`, and write what it answers into the empty folder `into`."""
        return extract(self._source, window, into, columns=self._columns)

    def _again(self, responses: Path, into: Path) -> Extracted:
        assert self._source.rest is not None
        return rest.replay(self._source.rest, responses, into, columns=self._columns, place=place(self._source))


def extract(source: Source, window: Window, into: Path, *, columns: Sequence[str]) -> Extracted:
    """Ask `source` for `window`, and write what it answers as landing files into the empty folder `into`."""
    told = place(source)
    if source.rest is not None:
        return rest.extract(source.rest, window, into, columns=columns, place=told)
    if source.sql is not None:
        return sql.extract(source.sql, window, into, columns=columns, place=told)
    if source.delta is not None:
        return lakehouse.extract_delta(source.delta, window, into, place=told)
    if source.iceberg is not None:
        return lakehouse.extract_iceberg(source.iceberg, window, into, place=told)
    assert source.files is not None
    return files.extract(source.files, window, into, columns=columns, place=told)


def can_be_asked(config: AskedConfig, day: date, today: date) -> bool:
    """Whether a source can tell of `day`: without a window it tells how things are now."""
    return config.is_windowed or day >= today - timedelta(days=1)


def place(source: Source) -> str:
    """How sources.yaml calls what is asked: `orders.rest`."""
    assert source.asked is not None
    return f"{source.place}.{source.asked[0]}"


def wanted_columns(source: Source, contract: Contract) -> list[str]:
    """The names, as delivered, that a delivery without rows is given: of required and of mapped columns.

    Not of all: whether line_number is delivered says what a delivery means.
    """
    names = [name for name, column in contract.columns.items() if column.required or name in source.columns]
    if source.unit == "line" and "line_number" not in names:
        names.append("line_number")
    specs = [(name, source.spec(name)) for name in names]
    return [spec.source or name for name, spec in specs if spec.constant is None]


def deliveries_of(
    source: Source, contract: Contract, settings: Settings, days: Collection[date], *, run_id: str, replay: bool = False
) -> Deliveries:
    """The deliveries of `days` of one source, from wherever sources.yaml says that they come."""
    if source.asked is None:
        return landed(settings, source.folder, days)
    return Asked(
        source,
        contract,
        Archive(archive_root(settings), source.folder),
        timezone=settings.timezone,
        today=datetime.now(settings.zone).date(),
        run_id=run_id,
        replay=replay,
    )


def landed(settings: Settings, folder: str, days: Collection[date]) -> Deliveries:
    """The deliveries of `days` in a folder of the landing, be it a folder or in an object store."""
    if is_url(settings.landing_url):
        return LandedInStore(settings.landing_url, folder, days, settings.home / "fetched")
    return Landed(settings.landing_url, folder, days)


def archive_root(settings: Settings) -> Path:
    """Where answers are archived."""
    return settings.home / "archive"
