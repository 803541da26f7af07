"""Sensors that ask for exactly the days of which something new has come (landing files, databases, APIs), or that no
run has looked at.

All ask for days that have ended, from the start date on, and note in their cursor what they asked for: a day whose
delivery was rejected is asked for again once what was delivered changes, not before. One of the newest days of which
something had come and that raw did not get for another reason (its run failed) is asked for again some times, at
growing distances.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from data_platform.assets.raw import ACCEPTED
from data_platform.automation.asking import STRETCH, WAITS, WIDTH, Cursor, Prints, Tries, ask
from data_platform.automation.jobs import WATCH_HOUR, daily_sales
from data_platform.days import ONE_DAY, in_words
from data_platform.errors import PlatformError
from data_platform.lake import Lake, Stamp
from data_platform.partitions import DAILY
from data_platform.quality.completeness import not_run
from data_platform.resources import Platform
from data_platform.sources.arrivals import Arrivals, Files, Reading, Sights, landed, listed_objects, short
from data_platform.sources.config import Source
from data_platform.sources.deliveries import place
from data_platform.sources.extraction import Window
from data_platform.sources.landing import MANIFEST
from data_platform.sources.landing_folder import Listed
from data_platform.sources.watermark import days_looked_back, is_watched, told
from data_platform.transforms.business_day import start_of
from data_platform.warehouse.connection import looking

LANDING_SECONDS = 60
WATERMARK_SECONDS = 300
MISSING_SECONDS = 900
UNTOLD = "." * WIDTH
UNASKED = "-" * WIDTH  # of a day that raw had before the sensor was there: no figures are these
RANGE_TAGS = (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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

    def look(source: Source, known: Prints, ahead: Sights) -> Arrivals:
        if source.files is not None:
            return listed_objects(source, known, tick.days, place=place(source))
        return _landed(platform, source, known, ahead, tick.days, moment, reading)

    tick.over([one for one in tick.sources if one.asked is None or one.files is not None], look)
    return tick.result()


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
    reaches into, at least one) a day is asked for again where its figures moved: rows were committed late. Of those
    that raw holds at first it is not known by what figures: they are asked for once. A source that cannot be asked is
    told, and its watermark stays.
    """
    tick = _Tick(context, platform)
    tick.over(
        [one for one in tick.sources if is_watched(one)], lambda one, known, _: _moved(platform, one, known, tick.days)
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

    def look(source: Source, known: Prints, _: Sights) -> Arrivals:
        missing = not_run(platform.lake.days(f"raw_{source.entity}"), ended)
        for day in known.keys() - set(missing):
            del known[day]
        return Arrivals(new={day: UNTOLD for day in missing if day not in known})

    tick.over(tick.sources, look)
    return tick.result()


class _Tick:
    """One look of a sensor at its sources."""

    def __init__(self, context: dg.SensorEvaluationContext, platform: Platform) -> None:
        self._context, self._platform = context, platform
        self._moment = int(now().timestamp())
        self._problems: list[str] = []
        self._wanted: dict[str, Prints] = {}
        self._waiting: set[date] = set()
        self._cursor = Cursor(self._moment)
        self.sources: list[Source] = []
        try:
            if context.cursor is not None:
                self._cursor = Cursor.from_json(context.cursor)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            context.log.warning(f"The cursor is not one of this sensor ({type(error).__name__}): it starts anew.")
        try:
            self.sources = list(_single(platform.sources))
        except PlatformError as error:
            self._problems.append(str(error))
        self.days = [date.fromisoformat(key) for key in DAILY.get_partition_keys(current_time=now())]

    def over(self, sources: Sequence[Source], look: Callable[[Source, Prints, Sights], Arrivals]) -> None:
        """Have `look` tell what each source has that is not known, by day; where it raises, nothing is noted."""
        before = self._cursor
        if not self._problems:
            self._cursor = Cursor(before.asked)  # a source that is no longer there is forgotten
        for source in sources:
            name = source.place
            known, ahead = dict(before.sources.get(name, {})), before.ahead.get(name, {})
            again = {day: told for day, told in before.again.get(name, {}).items() if day in self.days[-STRETCH:]}
            try:
                found = look(source, known, ahead)
            except PlatformError as error:
                self._problems.append(str(error))
                known = dict(before.sources.get(name, {}))
            else:
                known, ahead = known | found.noted, found.ahead
                self._waiting.update(found.waiting)
                self._wanted[name] = self._once_more(source, again, found.standing) | found.new
            if known:
                self._cursor.sources[name] = known
            self._cursor.again[name], self._cursor.ahead[name] = again, ahead

    def _once_more(self, source: Source, again: Tries, standing: Mapping[date, str]) -> Prints:
        """The days whose run seems to have failed: raw has them not, nor rejected them, and no run is to take them.

        `again` is rid of those that raw has or rejected. Where the lake or the warehouse does not answer a run would
        fail as well, and no try is wasted.
        """
        due = {day: at for day, (tries, at) in again.items() if day in standing and self._moment - at >= WAITS[tries]}
        try:
            for judged in (_in_raw, _rejected):
                for day in judged(self._platform, source, due) if due else ():
                    del again[day], due[day]
        except PlatformError as error:
            self._problems.append(str(error))
            return {}
        held = self._held_by_runs() if due else []
        return {day: standing[day] for day in due if not any(first <= str(day) <= last for first, last in held)}

    def _held_by_runs(self) -> list[tuple[str, str]]:
        """The first and the last day of each run that waits or works."""
        runs = self._context.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
        found = []
        for run in runs:
            day = run.tags.get(PARTITION_NAME_TAG, "")
            first, last = (run.tags.get(name, day) for name in RANGE_TAGS)
            found.append((first, last))
        return found

    def result(self) -> dg.SensorResult:
        """The runs to start and the new cursor, or why there are none."""
        requests = ask(self._cursor, self._wanted, at=self._moment)
        recent = self.days[-STRETCH:]
        for name, again in self._cursor.again.items():
            self._cursor.again[name] = {day: told for day, told in again.items() if day in recent}
        for problem in self._problems:
            self._context.log.warning(problem)
        cursor = self._cursor.to_json()
        if requests:
            return dg.SensorResult(run_requests=requests, cursor=cursor)
        reason = " ".join(self._problems) or "Nothing new."
        if self._waiting:
            reason += f" Not complete yet: {in_words(self._waiting)}."
        if ahead := {day for sights in self._cursor.ahead.values() for day in sights}:
            reason += (
                f" Of {in_words(ahead)} a file says that it changed in the future: the clock of its sender is ahead, "
                "and it waits from when it was first seen."
            )
        return dg.SensorResult(skip_reason=reason, cursor=cursor)


def _single(sources: Mapping[str, Source]) -> Iterator[Source]:
    """Each source by itself, also where several are one entity's."""
    for source in sources.values():
        yield from source.sources.values() if source.sources else (source,)


# What became of a day that was asked for


def _in_raw(platform: Platform, source: Source, days: Iterable[date]) -> list[date]:
    """Of `days` those that raw has; of several sources of an entity those of which it has a file of this one."""
    table, days = f"raw_{source.entity}", set(days)
    there = [day for day in platform.lake.days(table) if day in days]
    if not source.name:
        return there
    prefix = f"{source.name}/"
    stamps = platform.lake.stamps(table, there)
    return [day for day, stamp in stamps.items() if any(name.startswith(prefix) for name in stamp.files)]


def _rejected(platform: Platform, source: Source, asked: Mapping[date, int]) -> list[date]:
    """The days whose delivery raw rejected after it was asked for (at these seconds since 1970)."""
    with looking(platform.warehouse_url, application="data-platform sensor") as connection:
        found = connection.execute(
            """
            SELECT partition_date, extract(epoch FROM max(checked_at))
            FROM platform.check_results
            WHERE asset = %s AND rule = %s AND partition_date = ANY(%s) AND NOT passed
            GROUP BY partition_date
            """,
            [f"raw_{source.entity}", ACCEPTED, list(asked)],
        ).fetchall()
    return [day for day, at in found if at >= asked[day]]


# Landing files


def _landed(
    platform: Platform,
    source: Source,
    known: Prints,
    ahead: Sights,
    days: Sequence[date],
    moment: datetime,
    reading: Reading,
) -> Arrivals:
    def held(files: Files) -> list[date]:
        return _held(platform.lake, source, files)

    landing_url = platform.settings.landing_url
    return landed(landing_url, source, known, frozenset(days), now=moment, held=held, reading=reading, ahead=ahead)


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


def _moved(platform: Platform, source: Source, known: Prints, days: Sequence[date]) -> Arrivals:
    """The days to ask for; `known` is cut to the newest days, whose figures count, and begun where it is empty."""
    if not days:
        return Arrivals()
    timezone, looked_back = platform.settings.timezone, days_looked_back(source)

    def print_of(day: date) -> str:
        figures = told(source, _window(day, day, timezone)).figures
        return short(figures, WIDTH) if figures else UNTOLD

    if not known:
        known.update(dict.fromkeys(_in_raw(platform, source, days)[-looked_back:], UNASKED))
    for day in sorted(known)[:-looked_back]:
        del known[day]
    first = max(known) + ONE_DAY if known else days[0]
    wanted: Prints = {}
    for day, before in known.items():
        if before == UNTOLD:
            continue
        print_ = print_of(day)
        if before == UNASKED or print_ not in (before, UNTOLD):
            wanted[day] = print_
    if first <= days[-1] and told(source, _window(first, days[-1], timezone)).anything:
        recent = days[-looked_back:]
        wanted |= {day: print_of(day) if day in recent else UNTOLD for day in days if day >= first}
    standing = {day: known.get(day, UNTOLD) for day in days[-STRETCH:] if day not in wanted}
    return Arrivals(new=wanted, standing=standing)


def _window(first: date, last: date, timezone: str) -> Window:
    return Window(last, start_of(first, timezone), start_of(last + ONE_DAY, timezone), timezone)
