"""Sensors that ask for exactly the days of which something new has come (landing files, databases, APIs), or that no
run has looked at.

All ask for days that have ended, from the start date on, and note in their cursor what they asked for: a day whose
delivery was rejected, or whose run failed, is asked for again once what was delivered changes, not before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg

from data_platform.automation.asking import WIDTH, Cursor, Prints, ask
from data_platform.automation.jobs import WATCH_HOUR, daily_sales
from data_platform.days import ONE_DAY, in_words
from data_platform.errors import PlatformError
from data_platform.lake import Lake, Stamp
from data_platform.partitions import DAILY
from data_platform.quality.completeness import not_run
from data_platform.resources import Platform
from data_platform.sources.arrivals import Arrivals, Files, Reading, landed, listed_objects, short
from data_platform.sources.config import Source
from data_platform.sources.deliveries import place
from data_platform.sources.extraction import Window
from data_platform.sources.landing import MANIFEST
from data_platform.sources.landing_folder import Listed
from data_platform.sources.watermark import days_looked_back, is_watched, told
from data_platform.transforms.business_day import start_of

LANDING_SECONDS = 60
WATERMARK_SECONDS = 300
MISSING_SECONDS = 900
UNTOLD = "." * WIDTH


def now() -> datetime:
    """The time at which a tick looks."""
    return datetime.now(UTC)


@dg.sensor(
    name="landing_files",
    job=daily_sales,
    minimum_interval_seconds=LANDING_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Asks for the days whose files in the landing folder (or of `files` sources) are new or changed.",
)
def landing_files(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """Ask for each ended day whose files are complete and not those that were asked for, by one listing a source.

    A day that raw holds already, with the same files, is not asked for, nor one whose files were only touched or
    taken away. A place that cannot be listed is told, and asked the next time.
    """
    tick = _Tick(context, platform)
    reading, moment = Reading(), now()
    waiting: set[date] = set()

    def look(source: Source, known: Prints) -> Prints:
        if source.files is not None:
            return listed_objects(source, known, tick.days, place=place(source)).new
        found = _landed(platform, source, known, tick.days, moment, reading)
        known |= found.noted
        waiting.update(found.waiting)
        return found.new

    tick.over([one for one in tick.sources if one.asked is None or one.files is not None], look)
    return tick.result(f" Not complete yet: {in_words(waiting)}." if waiting else "")


@dg.sensor(
    name="source_watermarks",
    job=daily_sales,
    minimum_interval_seconds=WATERMARK_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Asks for the days since the last one asked for, once a database or an API has something of them.",
)
def source_watermarks(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """Ask for the ended days after a source's watermark, the last day asked for, once it has something of them.

    At first the watermark is the newest day that raw holds. Of the newest days asked for (as many as `lookback`
    reaches into, at least one) a day is asked for again where its figures moved: rows were committed late. A source
    that cannot be asked is told, and its watermark stays.
    """
    tick = _Tick(context, platform)
    tick.over(
        [one for one in tick.sources if is_watched(one)], lambda one, known: _moved(platform, one, known, tick.days)
    )
    return tick.result()


@dg.sensor(
    name="missing_partitions",
    job=daily_sales,
    minimum_interval_seconds=MISSING_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Asks, once, for the days that no run has looked at, such as those of an outage.",
)
def missing_partitions(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """Ask for each ended day that raw of any entity lacks, from its first partition on, unless it was asked for before.

    Yesterday is the schedule's, and is missing from the hour of the watch on. A day that was asked for and is still
    missing failed for a reason that another run does not mend: `data-platform gaps` tells of it.
    """
    tick = _Tick(context, platform)
    over = now().astimezone(platform.settings.zone).hour >= WATCH_HOUR
    ended = tick.days if over else tick.days[:-1]

    def look(source: Source, known: Prints) -> Prints:
        missing = not_run(platform.lake.days(f"raw_{source.entity}"), ended)
        for day in known.keys() - set(missing):
            del known[day]
        return {day: UNTOLD for day in missing if day not in known}

    tick.over(tick.sources, look)
    return tick.result()


class _Tick:
    """One look of a sensor at its sources."""

    def __init__(self, context: dg.SensorEvaluationContext, platform: Platform) -> None:
        self._context = context
        self._problems: list[str] = []
        self._wanted: dict[str, Prints] = {}
        self._cursor = Cursor()
        self.sources: list[Source] = []
        try:
            self._cursor = Cursor.from_json(context.cursor)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            context.log.warning(f"The cursor is not one of this sensor ({type(error).__name__}): it starts anew.")
        try:
            self.sources = list(_single(platform.sources))
        except PlatformError as error:
            self._problems.append(str(error))
        self.days = [date.fromisoformat(key) for key in DAILY.get_partition_keys(current_time=now())]

    def over(self, sources: Sequence[Source], look: Callable[[Source, Prints], Prints]) -> None:
        """Have `look` tell what each source has that is not known, by day; where it raises, nothing is noted."""
        before = self._cursor.sources
        if not self._problems:
            self._cursor.sources = {}  # a source that is no longer there is forgotten
        for source in sources:
            known = dict(before.get(source.place, {}))
            try:
                self._wanted[source.place] = look(source, known)
            except PlatformError as error:
                self._problems.append(str(error))
                known = dict(before.get(source.place, {}))
            if known:
                self._cursor.sources[source.place] = known

    def result(self, note: str = "") -> dg.SensorResult:
        """The runs to start and the new cursor, or why there are none."""
        requests = ask(self._cursor, self._wanted)
        for problem in self._problems:
            self._context.log.warning(problem)
        cursor = self._cursor.to_json()
        if requests:
            return dg.SensorResult(run_requests=requests, cursor=cursor)
        reason = " ".join(self._problems) or f"Nothing new.{note}"
        return dg.SensorResult(skip_reason=reason, cursor=cursor)


def _single(sources: Mapping[str, Source]) -> Iterator[Source]:
    """Each source by itself, also where several are one entity's."""
    for source in sources.values():
        yield from source.sources.values() if source.sources else (source,)


# Landing files


def _landed(
    platform: Platform, source: Source, known: Prints, days: Sequence[date], moment: datetime, reading: Reading
) -> Arrivals:
    def held(files: Files) -> list[date]:
        return _held(platform.lake, source, files)

    landing_url = platform.settings.landing_url
    return landed(landing_url, source, known, frozenset(days), now=moment, held=held, reading=reading)


def _held(lake: Lake, source: Source, files: Files) -> list[date]:
    """The days of which raw was made of these files: by their names and bytes, none of them younger than raw."""
    table = f"raw_{source.entity}"
    try:
        stamps = {day: stamp for day, stamp in lake.stamps(table, files).items() if stamp.delivered}
        written = _written(lake, table, list(stamps))
    except PlatformError:
        return []  # the run says what is wrong with the lake
    return [
        day
        for day, stamp in stamps.items()
        if day in written
        and _is_of(stamp, source, [file for file in files[day] if not file.name.endswith(MANIFEST)])
        and all(file.changed <= written[day] for file in files[day])
    ]


def _is_of(stamp: Stamp, source: Source, files: Sequence[Listed]) -> bool:
    prefix = f"{source.name}/" if source.name else ""
    if {name for name in stamp.files if name.startswith(prefix)} != {f"{prefix}{file.name}" for file in files}:
        return False
    # Of several sources raw counts the bytes of all together.
    return bool(source.name) or stamp.totals.get("bytes") == str(sum(file.size for file in files))


def _written(lake: Lake, table: str, days: Sequence[date]) -> dict[date, datetime]:
    """When the partitions were written, those of a store by one listing."""
    paths = {day: lake.path(table, day) for day in days}
    found: dict[date, datetime] = {}
    listed: dict[str, datetime] | None = None
    for day, path in paths.items():
        if isinstance(path, Path):
            with suppress(FileNotFoundError):
                found[day] = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            continue
        if listed is None:
            listed = {one.key: one.changed for one in path.bucket.listed(f"{path.key.rpartition('/dt=')[0]}/dt=")}
        if path.key in listed:
            found[day] = listed[path.key]
    return found


# Databases and APIs


def _moved(platform: Platform, source: Source, known: Prints, days: Sequence[date]) -> Prints:
    """The days to ask for; `known` is cut to the newest days, whose figures count, and begun where it is empty."""
    if not days:
        return {}
    timezone, looked_back = platform.settings.timezone, days_looked_back(source)

    def print_of(day: date) -> str:
        figures = told(source, _window(day, day, timezone)).figures
        return short(figures, WIDTH) if figures else UNTOLD

    if not known:
        held = [day for day in platform.lake.days(f"raw_{source.entity}") if days[0] <= day <= days[-1]]
        known.update((day, print_of(day)) for day in held[-looked_back:])
    for day in sorted(known)[:-looked_back]:
        del known[day]
    first = max(known) + ONE_DAY if known else days[0]
    wanted: Prints = {}
    for day, before in known.items():
        if before != UNTOLD and (print_ := print_of(day)) not in (before, UNTOLD):
            wanted[day] = print_
    if first <= days[-1] and told(source, _window(first, days[-1], timezone)).anything:
        recent = days[-looked_back:]
        wanted |= {day: print_of(day) if day in recent else UNTOLD for day in days if day >= first}
    return wanted


def _window(first: date, last: date, timezone: str) -> Window:
    return Window(last, start_of(first, timezone), start_of(last + ONE_DAY, timezone))
