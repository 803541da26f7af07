"""One run of the job `daily_sales` over a range of days, in this process: its progress, and a report of it.

The run is an ordinary one of Dagster's instance, so it shows in the UI. What Dagster logs goes to the log file.
"""

import logging
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from data_platform.commands.terminal import BadUsage, err, first_line, log_file, note
from data_platform.errors import DatabaseUnavailable, SettingsError
from data_platform.settings import Settings, settings

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.events import DagsterEvent
    from dagster._core.events.log import EventLogEntry

JOB = "daily_sales"
# Without it the UI lists the run under all runs, but not on the page of its job.
CODE_LOCATION = {".dagster/repository": "__repository__@data_platform"}
ROWS = "dagster/partition_row_count"
WRITTEN = ("inserted", "updated", "deleted")

log = logging.getLogger("dagster.run")  # not ours: what our own modules warn of is shown, see `terminal.keep_log`


@dataclass
class AssetReport:
    """What a run made of one asset: rows of its partitions in the lake, or rows written to Postgres.

    What is written belongs to its step: both fact tables are one publish and show the same figures.
    """

    asset: str
    step: str
    partitions: int = 0
    rows: int | None = None
    inserted: int | None = None
    updated: int | None = None
    deleted: int | None = None
    seconds: float = 0.0

    def in_words(self) -> str:
        """What was done, for a line of progress."""
        if self.rows is not None:
            return f"{self.rows:,} rows"
        done = (f"{count:,} {name}" for name in WRITTEN if (count := getattr(self, name)))
        return ", ".join(done) or "nothing to write"


@dataclass
class RunReport:
    """What became of a run. `warnings` and `failures` are sentences, in the order in which they came."""

    run_id: str
    succeeded: bool = False
    seconds: float = 0.0
    assets: dict[str, AssetReport] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The report for scripts."""
        return {
            "run_id": self.run_id,
            "succeeded": self.succeeded,
            "seconds": round(self.seconds, 3),
            "assets": [asdict(one) | {"seconds": round(one.seconds, 3)} for one in self.assets.values()],
            "warnings": self.warnings,
            "failures": self.failures,
        }


def run_days(
    title: str,
    first: date | None,
    last: date | None,
    select: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> RunReport:
    """Materialize the assets `select` names (Dagster's selection syntax; else all) for the days from first to last.

    `tags` are the run's, beside those that name its days.

    Without days only assets that are not partitioned can be selected. Shows progress on stderr. Raises BadUsage for
    a selection of nothing and PlatformError where the run cannot start; what fails in the run is in the report.
    """
    chosen = settings()
    if not chosen.dagster_home.is_dir():
        raise SettingsError(f"DAGSTER_HOME is {chosen.dagster_home}, which is no folder: set it to the clone's root.")
    with spinner("Loading the assets"):
        import dagster as dg

        from data_platform.definitions import defs

        job = defs.resolve_job_def(JOB)
        keys = sorted(_selected(select, defs), key=lambda key: key.to_user_string())
    note(title)
    tags = {**CODE_LOCATION, **(tags or {})}
    if first is not None and last is not None:
        tags |= {"dagster/asset_partition_range_start": first.isoformat()}
        tags |= {"dagster/asset_partition_range_end": last.isoformat()}
    report = RunReport(str(uuid.uuid4()))
    started = time.monotonic()
    with spinner("Opening Dagster's storage"):
        instance = dg.DagsterInstance.get()
    with instance, _Watcher(report, total=len(keys)) as watcher, _storage_explained():
        instance.add_event_listener(report.run_id, watcher.see)
        result = job.execute_in_process(
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            instance=instance,
            tags=tags,
            asset_selection=keys,
            run_id=report.run_id,
            raise_on_error=False,
        )
    if watcher.interrupted:
        raise KeyboardInterrupt
    report.succeeded = result.success
    report.seconds = time.monotonic() - started
    if not report.succeeded and not report.failures:
        report.failures.append(f"The run {report.run_id} failed without a reason: see {log_file(chosen)}.")
    return report


@contextmanager
def _storage_explained() -> Iterator[None]:
    """Dagster gives up on its own storage with an error of its driver, after retries."""
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (DagsterPostgresException, DBAPIError) as error:
        log.error("Dagster's storage failed.", exc_info=error)
        raise DatabaseUnavailable(
            "Dagster's Postgres went away in the middle of the run: what was published stands, nothing is half done; "
            "see that it is up, then run again."
        ) from None


def _selected(select: str | None, defs: "dg.Definitions") -> "set[dg.AssetKey]":
    import dagster as dg

    graph = defs.resolve_asset_graph()
    if select is None:
        return set(graph.executable_asset_keys)
    try:
        keys = dg.AssetSelection.from_coercible(select.split(",")).resolve(graph)
    except dg.DagsterError:
        keys = set()
    if not keys:
        known = ", ".join(sorted(key.to_user_string() for key in graph.executable_asset_keys))
        raise BadUsage(f"--select {select!r} names no asset: write names separated by commas, of {known}.")
    return set(keys)


class _Watcher:
    """Sees every event of a run: shows what happens and collects the report."""

    def __init__(self, report: RunReport, total: int) -> None:
        self.report = report
        self.seen: dict[str, AssetReport] = {}
        self.started: dict[str, float] = {}
        self.of_step: dict[str, list[str]] = {}
        self.errors: dict[str, list[str]] = {}
        self.interrupted = False
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=err, transient=True, disable=not err.is_terminal,
        )  # fmt: skip
        self.task = self.progress.add_task("Starting", total=total)

    def __enter__(self) -> "_Watcher":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def see(self, entry: "EventLogEntry") -> None:
        """One event; what it cannot make sense of must not end the run."""
        _keep(entry)
        if entry.dagster_event is not None:
            try:
                self._show(entry.dagster_event, entry.timestamp)
            except Exception:
                log.exception("An event of the run could not be shown.")

    def _show(self, event: "DagsterEvent", timestamp: float) -> None:
        kind, step = event.event_type_value, event.step_key or ""
        if kind == "STEP_START":
            self.started[step] = timestamp
            self.progress.update(self.task, description=step)
        elif kind == "ASSET_MATERIALIZATION":
            self._materialized(event, step)
        elif kind == "ASSET_CHECK_EVALUATION":
            self._checked(event.asset_check_evaluation_data, step)
        elif kind == "STEP_SUCCESS":
            self._finished(step, timestamp)
        elif kind == "STEP_FAILURE":
            self._failed(step, event)
        elif kind == "PIPELINE_FAILURE" and not self.report.failures and event.job_failure_data.error is not None:
            self.report.failures.append(_reason(event.job_failure_data.error))

    def _materialized(self, event: "DagsterEvent", step: str) -> None:
        materialization = event.step_materialization_data.materialization
        asset = materialization.asset_key.to_user_string()
        seen = self.seen.setdefault(asset, AssetReport(asset, step))
        seen.partitions += materialization.partition is not None
        figures: dict[str, Any] = {name: value.value for name, value in materialization.metadata.items()}
        if ROWS in figures:
            seen.rows = (seen.rows or 0) + figures[ROWS]
        for name in WRITTEN:
            # Of the whole run: Dagster copies it to every partition of a range.
            if f"rows_{name}" in figures:
                setattr(seen, name, figures[f"rows_{name}"])
        if asset not in self.of_step.setdefault(step, []):
            self.of_step[step].append(asset)

    def _finished(self, step: str, timestamp: float) -> None:
        self.report.warnings += self.errors.pop(step, [])
        names = self.of_step.get(step, [])
        for name in names:
            seen = self.report.assets[name] = self.seen[name]
            seen.seconds = timestamp - self.started.get(step, timestamp)
        self.progress.advance(self.task, len(names))
        if names:
            note(f"  {', '.join(names):<26}{seen.seconds:>7.1f} s   {seen.in_words()}")

    def _checked(self, check: Any, step: str) -> None:
        severity = check.metadata.get("severity")
        if check.passed or (severity is not None and severity.value == "info"):
            return
        failed = check.metadata.get("rows_failed")
        what = check.description or (f"{failed.value:,} rows fail." if failed is not None else "does not hold.")
        warning = f"{check.asset_key.to_user_string()}, {check.check_name}: {what}"
        if check.severity.value == "ERROR":
            # Where it stops the step the failure that follows tells of it; an audit comes after the publish.
            self.errors.setdefault(step, []).append(warning)
        else:
            self.report.warnings.append(warning)

    def _failed(self, step: str, event: "DagsterEvent") -> None:
        data = event.step_failure_data
        if data.error is not None and "Interrupt" in (data.error.cls_name or ""):
            self.interrupted = True  # by Ctrl-C: Dagster makes it a failure of the step
            return
        told = data.user_failure_data.description if data.user_failure_data else None
        sentence = told or f"{step} failed: {_reason(data.error)}"
        note(f"  {step:<26}   failed", style="red")
        if sentence not in self.report.failures:
            self.report.failures.append(sentence)
        # What stopped the step is in the sentence; what else was wrong is not.
        self.report.warnings += [told for told in self.errors.pop(step, []) if told.partition(": ")[2] not in sentence]


def _reason(error: Any) -> str:
    """The innermost of Dagster's chain of errors, in one line, without our own classes' names."""
    if error is None:
        return "no reason given."
    while error.cause is not None:
        error = error.cause
    return re.sub(r"^(data_platform|dagster)[\w.]*: ", "", first_line(error.message))


def _keep(entry: "EventLogEntry") -> None:
    event = entry.dagster_event
    failure = getattr(event, "event_specific_data", None) if event is not None and event.is_failure else None
    detail = getattr(failure, "error", None)
    text = f"{entry.step_key or entry.job_name}: {entry.user_message or entry.message}"
    log.log(int(entry.level), "%s", f"{text}\n{detail.to_string()}" if detail else text)


@contextmanager
def spinner(what: str) -> Iterator[None]:
    if not err.is_terminal:
        yield
        return
    with err.status(what):
        yield


def newest_day(chosen: Settings) -> date:
    """The last day that has a partition: yesterday in the business time zone."""
    from datetime import datetime, timedelta

    return datetime.now(chosen.zone).date() - timedelta(days=1)


def check_range(first: date, last: date, chosen: Settings, *, names: tuple[str, str] = ("--from", "--to")) -> None:
    """Raise BadUsage unless every day from first to last has a partition."""
    if first > last:
        raise BadUsage(f"{names[0]} {first} is after {names[1]} {last}: swap them.")
    if first < chosen.start_date:
        raise BadUsage(
            f"{names[0]} {first} is before the first partition, {chosen.start_date}: set "
            f"DATA_PLATFORM_START_DATE={first} to have partitions from then on."
        )
    newest = newest_day(chosen)
    if last > newest:
        raise BadUsage(
            f"{names[1]} {last} is later than the newest partition, {newest}: a day has one once it has ended "
            f"({chosen.timezone})."
        )
