"""What looks at the platform as a whole: checks of completeness and of quarantine, and the quality report."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.storage.tags import SCHEDULE_NAME_TAG

from data_platform.assets.catalogue import OWNERS, SINGLE_RUN
from data_platform.contracts import MARTS, STAGED, WAREHOUSE
from data_platform.contracts.contract import Contract
from data_platform.costs.budget import WINDOW_DAYS as BUDGET_DAYS
from data_platform.costs.budget import Outlook, outlook
from data_platform.costs.prices import load_prices
from data_platform.costs.spending import read_spending
from data_platform.days import ONE_DAY
from data_platform.errors import PlatformError
from data_platform.failures import explained
from data_platform.quality.checks import listed, result, spec, unmade_results
from data_platform.quality.completeness import QUARANTINE_DAYS, WINDOW_DAYS, Completeness, completeness
from data_platform.quality.names import BUDGET, GAPS, REPORT, TRADING, WAITING, YESTERDAY
from data_platform.quality.recording import remembered
from data_platform.resources import Platform
from data_platform.warehouse.connection import looking

# The job that looks whether the others did their work.
WATCH = "quality_watch"


def as_of(run: dg.DagsterRun, platform: Platform, delivered: Iterable[date]) -> date:
    """The day as of which completeness is judged: today, in business time.

    In a run by hand, which may be of last year's days, it is the day after the newest of `delivered`: what is late
    today is for the runs of schedules, and of quality_watch, to say.
    """
    now = datetime.now(ZoneInfo(platform.settings.timezone)).date()
    return now if is_watch(run) else min(now, max(delivered, default=now) + timedelta(days=1))


def is_watch(run: dg.DagsterRun) -> bool:
    """Whether a run is to look at today: one of a schedule, or of quality_watch."""
    return run.job_name == WATCH or SCHEDULE_NAME_TAG in run.tags


def _completeness_checks(entity: str) -> dg.AssetChecksDefinition:
    table = f"raw_{entity}"

    @dg.multi_asset_check(
        name=f"{table}_is_complete",
        specs=[
            spec(
                table, YESTERDAY, "The newest delivery is yesterday's (or of the last day that is expected).", "warning"
            ),
            spec(table, GAPS, f"Each of the last {WINDOW_DAYS} days was run.", "warning"),
            spec(
                table, TRADING, f"On each of the last {WINDOW_DAYS} days, but for closed ones, it delivered.", "warning"
            ),
        ],
    )
    def complete(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterator[dg.AssetCheckResult]:
        run = context.run
        try:
            source, stamps = platform.sources[entity], platform.lake.stamps(table)
            now = as_of(run, platform, [day for day, stamp in stamps.items() if stamp.delivered])
            results = list(completeness_results(table, completeness(stamps, source, now), strict=is_watch(run)))
        except PlatformError as error:
            # One broken file, of whatever day, is no reason to stop a run of another.
            results = unmade_results(table, [YESTERDAY, GAPS, TRADING], str(error), "warning")
        yield from remembered(platform, run, results)

    checks: dg.AssetChecksDefinition = complete
    return checks


def completeness_results(table: str, found: Completeness, *, strict: bool) -> Iterator[dg.AssetCheckResult]:
    """The three checks of a raw table; `strict`: a source that never delivered fails, unless it is always closed."""
    never = not found.last and found.expected
    behind = "Nothing was ever delivered." if never else ""
    if found.behind:
        behind = f"Nothing was delivered since {found.last}: {found.behind} expected days up to {found.yesterday}."
    yield result(
        table, YESTERDAY, severity="warning", failed=found.behind or int(strict and never), judged=max(found.behind, 1),
        threshold="0 days",
        note=behind,
    )  # fmt: skip
    yield result(
        table, GAPS, severity="warning", failed=len(found.gaps), judged=found.judged, days=found.gaps,
        threshold="0 days",
        note=f"Not run: {listed(found.gaps)}; `data-platform backfill` runs them." if found.gaps else "",
    )  # fmt: skip
    missing = ""
    if found.undelivered:
        missing = (
            f"Without a delivery: {listed(found.undelivered)}; ask the source, or name the weekdays on which it is "
            "closed as `closed_on` in sources.yaml."
        )
    yield result(
        table, TRADING, severity="warning", failed=len(found.undelivered), judged=found.judged, days=found.undelivered,
        threshold="0 days", note=missing,
    )  # fmt: skip


def _quarantine_check(contract: Contract) -> dg.AssetChecksDefinition:
    table = contract.table

    @dg.multi_asset_check(
        name=f"{table}_quarantine",
        specs=[spec(table, WAITING, f"No rejected row waits for more than {QUARANTINE_DAYS} days.", "warning")],
    )
    def waiting(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterator[dg.AssetCheckResult]:
        try:
            stamps = platform.lake.stamps(table)
            rows = {day: stamp.rows_quarantined for day, stamp in stamps.items() if stamp.delivered}
            results = [quarantine_result(table, rows, as_of(context.run, platform, rows))]
        except PlatformError as error:
            results = unmade_results(table, [WAITING], str(error), "warning")
        yield from remembered(platform, context.run, results)

    checks: dg.AssetChecksDefinition = waiting
    return checks


def quarantine_result(table: str, rows: dict[date, int], now: date) -> dg.AssetCheckResult:
    """Whether any of the rejected `rows`, by partition, is too old; age counts from the day of the delivery."""
    waiting = {day: count for day, count in rows.items() if count}
    old = sorted(day for day in waiting if (now - day).days > QUARANTINE_DAYS)
    note = ""
    if waiting:
        oldest = min(waiting)
        note = (
            f"{sum(waiting.values())} rows of {len(waiting)} days wait, the oldest for {(now - oldest).days} days "
            f"(delivered on {oldest}): `data-platform quarantine show` says why."
        )
    return result(
        table, WAITING, severity="warning", failed=sum(waiting[day] for day in old), judged=sum(waiting.values()),
        days=old, threshold=f"at most {QUARANTINE_DAYS} days", note=note,
    )  # fmt: skip


@dg.multi_asset_check(
    name=f"{REPORT}_budget",
    specs=[
        spec(
            REPORT,
            BUDGET,
            "What the month costs, so far and as projected, is within the budget of prices.yaml.",
            "warning",
        )
    ],
)
def budget(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterator[dg.AssetCheckResult]:
    """Of today, whatever days the run is of; passed where no budget is set."""
    chosen = platform.settings
    today = datetime.now(chosen.zone).date()
    try:
        prices = load_prices(chosen.prices_file)
        found = None
        if prices is not None and prices.budget is not None:
            with looking(platform.warehouse_url, application="data-platform costs") as connection:
                first = min(today.replace(day=1), today - BUDGET_DAYS * ONE_DAY)
                found = outlook(read_spending(connection, chosen.timezone, first=first, last=today), prices, today)
        results = [budget_result(found)]
    except PlatformError as error:
        results = unmade_results(REPORT, [BUDGET], str(error), "warning")
    yield from remembered(platform, context.run, results)


def budget_result(found: Outlook | None) -> dg.AssetCheckResult:
    """Whether the month stays within its budget; None: there is none."""
    note = found.in_words() if found else "No budget is set in prices.yaml."
    return result(
        REPORT, BUDGET, severity="warning", failed=int(found is not None and not found.holds), judged=int(bool(found)),
        threshold=f"at most {found.limit:.2f} {found.currency} a month" if found else "", note=note,
    )  # fmt: skip


@dg.asset(
    name=REPORT,
    group_name="quality",
    kinds={"html"},
    owners=OWNERS,
    backfill_policy=SINGLE_RUN,
    deps=[*WAREHOUSE, *MARTS],
    description=(
        "One page about the quality of the data, to be read without the platform: what is wrong, tables × rules over "
        "the last 30 partitions, drift, quarantine, completeness, row accounting. In $DATA_PLATFORM_HOME/reports."
    ),
)
def quality_report(platform: Platform) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Written anew in each run, whole or not at all."""
    # Its libraries take half a second to load: definitions are to load without.
    from data_platform.quality.report import write_report

    with explained():
        chosen = platform.settings
        path = chosen.home / "reports" / "quality.html"
        report = write_report(
            platform.warehouse_url,
            platform.lake,
            chosen.landing_url,
            path,
            start_date=chosen.start_date,
            timezone=chosen.timezone,
        )
    return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(path), **asdict(report)})


QUALITY_ASSETS = [quality_report]
QUALITY_CHECKS = [
    *map(_completeness_checks, STAGED),
    *map(_quarantine_check, STAGED.values()),
    budget,
]
