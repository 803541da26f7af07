"""Drift in production: staged partitions are profiled, kept, judged against those before them, and shown as checks.

Runs after a table's partitions were promoted. It only looks: what is found is a warning, and a warehouse that cannot
be reached leaves the checks unmade and stops nothing.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import dagster as dg
import polars as pl
import psycopg

from data_platform.contracts.contract import Contract
from data_platform.errors import PlatformError
from data_platform.io_managers.parquet import WINDOW_ROWS
from data_platform.lake import Lake, Stamp
from data_platform.quality.anomalies import percent, plain
from data_platform.quality.checks import result, spec
from data_platform.quality.drift import (
    LEAST_PARTITIONS,
    LIMITS,
    WINDOW_DAYS,
    Anomaly,
    Kind,
    Limit,
    enough_history,
    judge,
)
from data_platform.quality.history import CheckRecord, keep_profiles, profiled, read_profiles
from data_platform.quality.profiles import (
    QUANTILES,
    VERSION,
    ColumnProfile,
    Profile,
    has_numbers,
    profile,
    tells_of_others,
)
from data_platform.quality.trends import picture, trend
from data_platform.warehouse.connection import looking

log = logging.getLogger(__name__)

# Of a run's partitions the newest so many, a month as in the report, are judged, by those four weeks before them: what
# is older is history when it comes, and no baseline of anything. Chunks of a backfill are each judged.
JUDGED_AT_ONCE = 31
APPLICATION = "data-platform drift"
SHOWN_ANOMALIES = 10
SHOWN_VALUES = 3
# The check that shows the profile of the newest day.
PROFILE_AT = "drift_row_count"


@dataclass(frozen=True)
class DriftRule:
    """One asset check: the kinds of figures that it judges."""

    description: str
    kinds: tuple[Kind, ...]


RULES: Mapping[str, DriftRule] = {
    "drift_row_count": DriftRule("As many rows as partitions before it have.", ("rows",)),
    "drift_null_rate": DriftRule("Each column lacks values as often as before.", ("null_rate", "gaps")),
    "drift_distinct": DriftRule(
        "Each column has as many distinct values as so many rows usually have.", ("distinct", "regulars")
    ),
    "drift_mean": DriftRule("The mean of each number is where it was.", ("mean",)),
    "drift_quantiles": DriftRule("The median and the outer tenths of each number are where they were.", ("quantiles",)),
    "drift_shares": DriftRule(
        "Each category, and each age at delivery, has the share that it usually has.", ("shares", "ages")
    ),
    "drift_distribution": DriftRule(
        "Numbers, and hours of the day, are spread as before (Kolmogorov–Smirnov, PSI).",
        ("ks", "psi", "hours", "unlike"),
    ),
    "drift_repeats": DriftRule("No more rows than usual tell the same as another under a new key.", ("repeats",)),
}


@dataclass(frozen=True)
class Watched:
    """What was found of a run's partitions, by rule of the table and day, the most unusual first.

    `days` were judged; of `waiting` there is too little history; `passed_over` are older than the newest of the run.
    `unmade`: why nothing was judged at all.
    """

    records: list[CheckRecord] = field(default_factory=list)
    days: tuple[date, ...] = ()
    waiting: tuple[date, ...] = ()
    passed_over: tuple[date, ...] = ()
    anomalies: Mapping[str, Mapping[date, Sequence[Anomaly]]] = field(default_factory=dict)
    profile_table: dg.TableMetadataValue | None = None
    unmade: str = ""


def drift_rules(contract: Contract) -> dict[str, DriftRule]:
    """The drift rules that the columns of a table have figures for: the same for every run."""
    columns = contract.columns.values()
    lacking = set()
    if not any(has_numbers(column, contract) for column in columns):
        lacking |= {"drift_mean", "drift_quantiles"}
    if not tells_of_others(contract):
        lacking.add("drift_repeats")
    return {name: rule for name, rule in RULES.items() if name not in lacking}


def limits_of(contract: Contract) -> dict[Kind, Limit]:
    """The limits by kind of figure, each score times the contract's factor.

    Raises PlatformError where the contract names a kind that is none.
    """
    unknown = sorted(set(contract.drift) - set(LIMITS))
    if unknown:
        raise PlatformError(
            f"The contract of {contract.table} sets the drift of {', '.join(unknown)}: kinds are {', '.join(LIMITS)}."
        )
    return {kind: replace(limit, score=limit.score * contract.drift.get(kind, 1.0)) for kind, limit in LIMITS.items()}


def watch(url: str, lake: Lake, contract: Contract, days: Sequence[date], *, timezone: str, run_id: str) -> Watched:
    """Profile those of the staged partitions `days` that changed, keep the profiles, and judge the newest of `days`.

    Days that are not staged, or without a delivery, are left out: they are for completeness to tell of. `timezone`: the
    business time zone. Raises nothing, since what was promoted stands: what goes wrong is logged and `unmade`.
    """
    try:
        limits = limits_of(contract)
        stamps = {
            day: stamp
            for day, stamp in lake.stamps(contract.table, days).items()
            # What an older contract staged stands until it is staged anew, and is profiled then.
            if stamp.delivered and stamp.contract == contract.fingerprint()
        }
        with looking(url, application=APPLICATION) as connection:
            known = profiled(connection, contract.table, list(stamps))
        newest = sorted(stamps)[-JUDGED_AT_ONCE:]
        # What is judged, and what that is judged by; of older days only those whose profile is out of date.
        since = newest[0] - timedelta(days=WINDOW_DAYS) if newest else date.max
        wanted = {day for day in stamps if day >= since or day in known}
        changed = {day: stamp for day, stamp in stamps.items() if day in wanted and known.get(day) != stamp.content}
        for profiles in _profiles(lake, contract, changed, timezone):
            with looking(url, application=APPLICATION) as connection:
                keep_profiles(connection, contract.table, run_id, profiles)
        with looking(url, application=APPLICATION) as connection:
            history = _history(connection, contract.table, newest)
        watched = _judged(contract, history, newest, limits)
        # What is known of a day whose content changed is of its former content.
        passed_over = tuple(sorted(stamps.keys() - set(newest)))
        stale = [day for day in passed_over if day in changed]
        note = f"Not judged: only the newest {JUDGED_AT_ONCE} of a run are."
        records = [*watched.records, *_not_judged(contract, stale, note)]
        return replace(watched, records=records, passed_over=passed_over)
    except PlatformError as error:
        return not_looked_at(contract, str(error))
    # The texts of these may quote values.
    except (OSError, pl.exceptions.PolarsError) as error:
        return not_looked_at(contract, f"The staged files of {contract.table} cannot be read ({type(error).__name__}).")
    except (Exception, pl.exceptions.PanicException) as error:
        return not_looked_at(contract, f"Looking at {contract.table} raised {type(error).__name__}.")


def not_looked_at(contract: Contract, why: str) -> Watched:
    """What is told and remembered where nothing could be judged: a failed record of each rule, of no partition.

    `why`: a sentence without values of rows; it is logged.
    """
    log.warning("%s was not looked at for drift: %s", contract.table, why)
    records = [CheckRecord(contract.table, rule, "warning", False, note=why) for rule in drift_rules(contract)]
    return Watched(records=records, unmade=why)


def _profiles(
    lake: Lake, contract: Contract, stamps: Mapping[date, Stamp], timezone: str
) -> Iterator[dict[date, tuple[str, Profile]]]:
    """The profiles of staged partitions, each with its content's hash, in windows of bounded rows."""
    for days in _windows(stamps):
        rows = lake.scan(contract.table, days).rename({"dt": "_partition"})
        found = profile(rows, contract, timezone=timezone)
        yield {day: (stamps[day].content, found.get(day, Profile(0))) for day in days}


def _windows(stamps: Mapping[date, Stamp]) -> Iterator[list[date]]:
    days: list[date] = []
    rows = 0
    for day in sorted(stamps):
        if days and rows + stamps[day].rows_staged > WINDOW_ROWS:
            yield days
            days, rows = [], 0
        days.append(day)
        rows += stamps[day].rows_staged
    if days:
        yield days


def _history(connection: psycopg.Connection, table: str, days: Sequence[date]) -> dict[date, Profile]:
    """The profiles by which `days` are judged, and their own: no more than `judge` looks at."""
    if not days:
        return {}
    row = connection.execute(
        """
        SELECT min(partition_date)
        FROM (
            (
                SELECT partition_date
                FROM platform.partition_profiles
                WHERE asset = %(table)s AND partition_date < %(first)s
                AND profile -> 'version' = to_jsonb(%(version)s::int) AND profile -> 'rows' > '0'
                ORDER BY partition_date DESC
                LIMIT %(least)s
            )
            UNION ALL
            (
                SELECT partition_date
                FROM platform.partition_profiles
                WHERE asset = %(table)s AND partition_date <= %(window)s
                AND profile -> 'version' = to_jsonb(%(version)s::int) AND profile -> 'rows' > '0'
                ORDER BY partition_date DESC
                LIMIT 1
            )
        ) AS earlier
        """,
        {
            "table": table,
            "version": VERSION,
            "first": min(days),
            "least": LEAST_PARTITIONS,
            "window": min(days) - timedelta(days=WINDOW_DAYS),
        },
    ).fetchone()
    earliest = row[0] if row and row[0] else min(days)
    return read_profiles(connection, table, first=earliest, last=max(days))


def _judged(
    contract: Contract, history: Mapping[date, Profile], days: Sequence[date], limits: Mapping[Kind, Limit]
) -> Watched:
    rules = drift_rules(contract)
    anomalies: dict[str, dict[date, list[Anomaly]]] = {name: {} for name in rules}
    judged = [day for day in days if enough_history(history, day)]
    for day in judged:
        for anomaly in judge(history, day, limits=limits):
            rule = next(name for name, rule in rules.items() if anomaly.kind in rule.kinds)
            anomalies[rule].setdefault(day, []).append(anomaly)
    waiting = tuple(day for day in days if day not in set(judged))
    return Watched(
        records=[
            *(
                _record(contract, name, day, history[day], anomalies[name].get(day, []))
                for day in judged
                for name in rules
            ),
            *_not_judged(contract, waiting, f"Not judged: fewer than {LEAST_PARTITIONS} earlier partitions have rows."),
        ],
        days=tuple(judged),
        waiting=waiting,
        anomalies=anomalies,
        profile_table=profile_table(history[days[-1]]) if days else None,
    )


def _record(contract: Contract, rule: str, day: date, today: Profile, found: Sequence[Anomaly]) -> CheckRecord:
    record = CheckRecord(contract.table, rule, "warning", not found, day, rows_judged=today.rows)
    if not found:
        return replace(record, value=float(today.rows)) if rule == "drift_row_count" else record
    worst = found[0]
    others = f" And {len(found) - 1} more." if len(found) > 1 else ""
    return replace(
        record,
        value=worst.value,
        threshold=f"{plain(worst.low)} to {plain(worst.high)}",
        note=f"{worst.sentence}{others}",
    )


def _not_judged(contract: Contract, days: Sequence[date], note: str) -> list[CheckRecord]:
    # They replace what was said of these partitions before; rows_judged tells them from a pass.
    return [
        CheckRecord(contract.table, rule, "warning", True, day, note=note)
        for day in days
        for rule in drift_rules(contract)
    ]


def profile_table(found: Profile) -> dg.TableMetadataValue:
    """A partition's profile by column; of personal data its nulls and the count of distinct values alone."""
    records = [dg.TableRecord(_profile_row(name, column)) for name, column in found.columns.items()]
    names = ("column", "nulls", "distinct", "min", "10 %", "median", "90 %", "max", "most frequent")
    types = {"distinct": "int"}
    schema = dg.TableSchema([dg.TableColumn(name, types.get(name, "string")) for name in names])
    return dg.MetadataValue.table(records=records, schema=schema)


def _profile_row(name: str, column: ColumnProfile) -> dict[str, str | int]:
    row: dict[str, str | int] = {"column": name, "nulls": percent(column.nulls), "distinct": column.distinct}
    quantiles = column.numbers.quantiles if column.numbers else ()
    for label, place in (("min", 0.0), ("10 %", 0.1), ("median", 0.5), ("90 %", 0.9), ("max", 1.0)):
        row[label] = plain(quantiles[QUANTILES.index(place)]) if quantiles else ""
    shares = sorted((column.shares or {}).items(), key=lambda found: -found[1])[:SHOWN_VALUES]
    row["most frequent"] = ", ".join(f"{value} {percent(share)}" for value, share in shares)
    return row


def drift_specs(contract: Contract) -> list[dg.AssetCheckSpec]:
    """The specs of a table's drift checks; raises PlatformError where the contract's drift names what is no kind."""
    limits_of(contract)
    return [spec(contract.table, name, rule.description, "warning") for name, rule in drift_rules(contract).items()]


def drift_results(contract: Contract, watched: Watched) -> list[dg.AssetCheckResult]:
    """A result for each of `drift_specs`: the odd days with their sentences, a plot of the oddest figure."""
    if watched.unmade:
        return [_unmade(contract, name, watched.unmade) for name in drift_rules(contract)]
    return [_result(contract, name, watched) for name in drift_rules(contract)]


def _unmade(contract: Contract, rule: str, why: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=contract.table,
        check_name=rule,
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"What was staged stands; it could not be looked at for drift: {why} Materialize {contract.table} "
        "again to have it judged.",
        metadata={"severity": dg.MetadataValue.text("warning")},
    )


def _result(contract: Contract, rule: str, watched: Watched) -> dg.AssetCheckResult:
    by_day = watched.anomalies.get(rule, {})
    found = sorted(((day, one) for day, each in by_day.items() for one in each), key=lambda odd: -odd[1].score)
    note, threshold = "", _allowed(contract, rule)
    if found:
        day, worst = found[0]
        note, threshold = f"{day}: {worst.sentence}", f"{worst.band} ({worst.metric}, {day})"
    elif not watched.days:
        note = f"Not judged: it takes {LEAST_PARTITIONS} earlier partitions with rows."
    if watched.passed_over:
        older = (
            f"Of {len(watched.passed_over)} older partitions nothing is said: only the newest {JUDGED_AT_ONCE} of a "
        )
        note = f"{note} {older}run are judged ({len(watched.days)} were).".lstrip()
    made = result(
        contract.table,
        rule,
        severity="warning",
        failed=len(by_day),
        judged=len(watched.days),
        days=list(by_day),
        examples=[{"day": day.isoformat(), "finding": one.sentence} for day, one in found[:SHOWN_ANOMALIES]],
        note=note,
        threshold=threshold,
    )
    not_judged = len(watched.waiting) + len(watched.passed_over)
    more: dict[str, dg.MetadataValue] = {"partitions_not_judged": dg.MetadataValue.int(not_judged)}
    if found and found[0][1].past and (drawn := _trend(*found[0])):
        more["trend"] = drawn
    if rule == PROFILE_AT and watched.profile_table is not None:
        more["profile"] = watched.profile_table
    return _with(made, more)


def _allowed(contract: Contract, rule: str) -> str:
    limits = limits_of(contract)
    scores = ", ".join(f"{kind} {limits[kind].score:g}" for kind in RULES[rule].kinds)
    return f"usual deviations from what earlier partitions have, at most: {scores}"


def _trend(day: date, odd: Anomaly) -> dg.MarkdownMetadataValue | None:
    values = dict(sorted({**odd.past, day: odd.value}.items()))
    try:
        png = trend(list(values), list(values.values()), odd.low, odd.high, day)
    except Exception as error:  # of a renderer in another language: of no type that is known here
        log.warning("The plot of %s was not drawn (%s).", odd.metric, type(error).__name__)
        return None
    return picture(png, f"{odd.metric} until {day}")


def _with(made: dg.AssetCheckResult, more: Mapping[str, dg.MetadataValue]) -> dg.AssetCheckResult:
    """The result with more metadata; what a drift check counts are partitions and not rows."""
    named = {"rows_failed": "partitions_failed", "rows_judged": "partitions_judged"}
    metadata = {named.get(name, name): value for name, value in made.metadata.items()}
    return made._replace(metadata={**metadata, **more})
