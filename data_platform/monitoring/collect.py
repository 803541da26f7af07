"""One look at the platform: each part of it for itself, so that one that cannot be read hides no other.

Looks only: makes no server, schema or folder. The embedded server is started where there is one.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from threading import Lock
from typing import Generic, TypeVar

from data_platform.commands import figures
from data_platform.contracts import STAGED
from data_platform.errors import PlatformError, SourceUnavailable
from data_platform.lake import Lake
from data_platform.monitoring.lag import Coverage, Lag, coverage, held_days, lags, place_of, shown_months
from data_platform.monitoring.lake import Disk, LakeFigures, LakeReader, disks, landed
from data_platform.monitoring.runs import Runs, dagster_url, read_runs
from data_platform.monitoring.stored import Stored, failed_days, read_stored
from data_platform.settings import Settings
from data_platform.sources.config import Source, load_sources
from data_platform.transforms.staging import delivered_columns
from data_platform.warehouse.connection import looking, redact, warehouse_url

APPLICATION = "data-platform monitoring"
# Of a statement, in seconds: a look must end before Prometheus gives it up, after ten.
STATEMENT_TIMEOUT = 5
SHOWN_RUNS = 10

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Part(Generic[T]):
    """A part of a look: what was found, or in one sentence why not; and how long it took, in seconds."""

    found: T | None
    why: str
    seconds: float


@dataclass(frozen=True)
class Warehouse:
    """The warehouse as it could be read. `stored` is None where it has no schema, or cannot be reached.

    `why` is the sentence for what is wrong; `rows` are exact counts where they were asked for, and `failed` the days of
    failed checks by asset.
    """

    url: str | None = None
    reachable: bool = False
    empty: bool = False
    stored: Stored | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, set[date]] = field(default_factory=dict)
    why: str = ""

    @property
    def published(self) -> Mapping[str, Mapping[date, str]] | None:
        """The published days; a warehouse that is not there yet has none, and of one that is down they are unknown."""
        return self.stored.published if self.stored else {} if self.empty else None


@dataclass(frozen=True)
class Look:
    """The platform at a moment `at` (UTC), which took `seconds`."""

    at: datetime
    seconds: float
    lake: Part[LakeFigures]
    landing: Part[Mapping[str, Sequence[date]]]
    sources: Part[Mapping[str, Source]]
    warehouse: Part[Warehouse]
    dagster: Part[Runs]
    disks: Part[list[Disk]]

    @property
    def stored_in(self) -> Warehouse:
        """The warehouse, also where reading it failed as nobody foresaw."""
        return self.warehouse.found or Warehouse(why=self.warehouse.why)

    @property
    def problems(self) -> list[str]:
        """A sentence for each thing that could not be read."""
        warehouse = self.stored_in.why
        parts = (self.dagster, self.lake, self.landing, self.sources, self.disks)
        return list(dict.fromkeys(why for why in (warehouse, *(part.why for part in parts)) if why))

    def waiting(self, start: date) -> dict[str, dict[str, list[date] | None]]:
        """What waits before each layer, as `figures.waiting`; nothing where the lake cannot be read."""
        if self.lake.found is None:
            return {}
        return figures.waiting(self.lake.found.stamps, self.landing.found, self.stored_in.published, start)

    def lags(self, chosen: Settings, today: date) -> list[Lag]:
        """How far each asset is behind at the beginning of `today`, as `lag.lags`; none where that is unknown."""
        if self.lake.found is None or self.sources.found is None:
            return []
        held = held_days(self.lake.found.stamps, self.stored_in.published)
        return lags(held, self.sources.found, today, chosen.zone)

    def coverage(self, chosen: Settings, assets: Iterable[str], last: date) -> dict[str, Coverage]:
        """The days of each of `assets` up to `last`, as `lag.coverage`; none where they are unknown.

        Of the days of failed checks only those are known that were asked for.
        """
        if self.lake.found is None or self.sources.found is None:
            return {}
        stamps, held = self.lake.found.stamps, held_days(self.lake.found.stamps, self.stored_in.published)
        waiting, failed = self.waiting(chosen.start_date), self.stored_in.failed
        found = {}
        for asset in assets:
            entity, _ = place_of(asset)
            found[asset] = coverage(asset, held, stamps, waiting[entity], failed, self.sources.found[entity], last)
        return found


class Collector:
    """Looks at a platform again and again. What files say is asked for anew after `listing_seconds`.

    Several threads may look at once: they then share one look.
    """

    def __init__(self, chosen: Settings, *, listing_seconds: float = 0.0) -> None:
        self.chosen = chosen
        self._listing_seconds = listing_seconds
        self._reader = LakeReader()
        self._listed: tuple[float, Part[LakeFigures], Part[Mapping[str, Sequence[date]]]] | None = None
        self._lock = Lock()
        self._last: tuple[float, Look] | None = None

    def look(self, *, months: int = 0, count_rows: bool = False) -> Look:
        """A look that began after this call did; with the failed days of `months` months (see `lag.shown_months`)."""
        asked = time.monotonic()
        with self._lock:
            # One that began while this one waited is as good.
            if self._last is not None and self._last[0] >= asked:
                return self._last[1]
            began = time.monotonic()
            look = self._look(began, months, count_rows)
            self._last = (began, look)
            return look

    def _look(self, began: float, months: int, count_rows: bool) -> Look:
        chosen = self.chosen
        lake, landing = self._list(began)
        sources = part(lambda: read_sources(chosen))
        shown = shown_months(lake.found.stamps if lake.found else {}, datetime.now(chosen.zone).date(), months)
        since = shown[0] if shown else None
        warehouse = part(lambda: read_warehouse(chosen, since=since, count_rows=count_rows))
        if warehouse.found is not None and not warehouse.found.reachable and chosen.dagster_url is None:
            # On the same server: there is no need to wait for it twice.
            why = "" if warehouse.found.empty else warehouse.found.why
            dagster: Part[Runs] = Part(None if why else Runs(), why, 0.0)
        else:
            dagster = part(
                lambda: read_runs(dagster_url(chosen), newest=SHOWN_RUNS, statement_timeout=STATEMENT_TIMEOUT)
            )
        found = part(lambda: disks(chosen))
        return Look(datetime.now(UTC), time.monotonic() - began, lake, landing, sources, warehouse, dagster, found)

    def _list(self, now: float) -> tuple[Part[LakeFigures], Part[Mapping[str, Sequence[date]]]]:
        if self._listed is None or now - self._listed[0] >= self._listing_seconds:
            lake = part(lambda: self._reader.read(Lake.of(self.chosen)))
            self._listed = (now, lake, part(lambda: landed(self.chosen)))
        return self._listed[1], self._listed[2]


def part(read: Callable[[], T]) -> Part[T]:
    """What `read` gives, or why it gives nothing; what nobody foresaw is logged, and told by its class alone."""
    began = time.monotonic()
    try:
        return Part(read(), "", time.monotonic() - began)
    except PlatformError as error:
        return Part(None, str(error), time.monotonic() - began)
    except OSError as error:
        sentence = str(SourceUnavailable(f"A folder of the platform cannot be read ({error.strerror}): mend it."))
        return Part(None, sentence, time.monotonic() - began)
    except Exception as error:
        log.exception("A part of the platform could not be looked at.")
        sentence = f"Something that nobody foresaw failed ({type(error).__name__}): see the log."
        return Part(None, sentence, time.monotonic() - began)


def read_sources(chosen: Settings) -> Mapping[str, Source]:
    """The sources by entity; raises SettingsError for a file that cannot be used."""
    columns = {entity: delivered_columns(contract) for entity, contract in STAGED.items()}
    return load_sources(chosen.sources_file, columns)


def read_warehouse(chosen: Settings, *, since: date | None = None, count_rows: bool = False) -> Warehouse:
    """The warehouse as it is, by one connection; what is wrong with it is in the answer.

    `count_rows` counts every row of every table, which takes seconds where there are many millions.
    """
    if chosen.warehouse_url is None and not (chosen.home / "postgres").exists():
        return Warehouse(
            empty=True, why="There is no warehouse yet: `data-platform demo` or `data-platform backfill` makes it."
        )
    url, shown, reachable = "", None, False
    try:
        url = warehouse_url(chosen)
        shown = redact(url)
        with looking(url, application=APPLICATION) as connection:
            reachable = True
            if not figures.is_set_up(connection):
                return Warehouse(
                    shown, True, True,
                    why="The warehouse is empty: `data-platform demo` or `data-platform backfill` fills it.",
                )  # fmt: skip
            rows = {}
            if count_rows:
                connection.execute(f"SET LOCAL statement_timeout = '{chosen.statement_timeout}s'")
                rows = figures.rows_per_table(connection)
            connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}s'")
            stored = read_stored(connection)
            failed = failed_days(connection, since) if since else {}
        return Warehouse(shown, True, False, stored, rows, failed)
    except PlatformError as error:
        return Warehouse(shown, reachable, why=str(error))
