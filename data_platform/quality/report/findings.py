"""What is wrong with the data, in sentences, the worst first: for a person who has never seen it.

Every figure is of all that is remembered, not of the last partitions alone. Sentences are HTML.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from data_platform.assets.marts import MART_ASSETS
from data_platform.assets.quality import QUALITY_CHECKS
from data_platform.assets.raw import RAW
from data_platform.assets.staging import ACCEPTED, STAGING
from data_platform.assets.warehouse import WAREHOUSE_ASSETS
from data_platform.commands import figures
from data_platform.contracts import STAGED
from data_platform.quality.anomalies import plain
from data_platform.quality.checks import MEND
from data_platform.quality.profiles import Profile
from data_platform.quality.report.drift import DRIFT, drifted
from data_platform.quality.report.reading import Memory
from data_platform.quality.report.text import count, either, share, span, spans, text
from data_platform.transforms.staging import GENERAL_CHECKS
from data_platform.warehouse.publish import BALANCE

# Checks whose subject has sentences of its own here, which say more.
TOLD_APART = (
    "delivery_is_there",
    "partitions_have_no_gaps",
    "trading_days_are_delivered",
    "quarantine_is_young",
)
# A number so many times the usual 97.5 % quantile is told of: mostly a typing error, or a test.
EXTREME = 100
# Of tellings that change a member: more than this is no history, but a source that flickers.
CHURN = 0.2
# A source of changes alone tells of no member but to change it; one that repeats so much tells of them anyway.
REPEATING = 0.1
_RANKS = {"critical": 0, "warning": 3, "info": 6}
_FEW, _MANY = 0.01, 0.1
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `rank` is 0 for the worst kind, `weight` the share of what it concerns."""

    rank: int
    weight: float
    sentence: str
    severity: str


def findings(memory: Memory) -> list[Finding]:
    """All that is wrong, the worst first; nothing where nothing is."""
    found = [
        *_unpublished(memory),
        *_quarantined(memory),
        *_rules(memory),
        *_days(memory),
        *_duplicates(memory),
        *_drift(memory),
        *_extremes(memory),
        *_members(memory),
    ]
    return sorted(found, key=lambda one: (one.rank, -one.weight))


def described() -> dict[tuple[str, str], str]:
    """What each check of an asset asks for, by table and check: as its definition says, without severity and mend."""
    found = {}
    for definition in (*RAW, *STAGING, *WAREHOUSE_ASSETS, *MART_ASSETS, *QUALITY_CHECKS):
        for spec in definition.check_specs:
            asks = (spec.description or "").removesuffix(f" ({spec.metadata['severity']})")
            found[spec.asset_key.to_user_string(), spec.name] = asks.removesuffix(f" To mend: {MEND}")
    return found


def _unpublished(memory: Memory) -> Iterator[Finding]:
    steps = {
        "landed_not_taken": "landed, but not taken into raw",
        "raw_not_staged": "in raw, but not staged: their deliveries were rejected, or staging has not run",
        "staged_not_published": "staged, but not published: the warehouse does not show them as they are",
    }
    for entity, waiting in memory.waiting.items():
        for step, words in steps.items():
            days = waiting[step]
            if days:
                sentence = (
                    f"{count(len(days), 'day')} of {entity} ({span(days)}) {'is' if len(days) == 1 else 'are'} {words} "
                    f"({_see('completeness')})."
                )
                yield Finding(1, len(days), sentence, "critical")
    for mart, dates in memory.stale_marts.items():
        sentence = f"{mart} has yet to take in {count(dates, 'order date')} whose facts changed."
        yield Finding(4, dates, sentence, "warning")


def _quarantined(memory: Memory) -> Iterator[Finding]:
    for (entity,), rows in memory.quarantine.group_by("entity", maintain_order=True):
        delivered = sum(stamp.rows_delivered for stamp in memory.stamps[f"stg_{entity}"].values())
        reasons = rows.explode("reasons").group_by("reasons").len().sort("len", "reasons", descending=[True, False])
        oldest = rows.get_column("partition_date").min()
        assert isinstance(oldest, date)
        sentence = (
            f"{count(rows.height, 'delivered row')} of {entity} ({share(rows.height, delivered)} of "
            f"{count(delivered)}) could not be taken and {'waits' if rows.height == 1 else 'wait'} in quarantine since "
            f"{oldest}, mostly for “{text(reasons.item(0, 'reasons'))}” ({_see('quarantine')})."
        )
        # They are out of harm's way; a few rows are less of a loss than what is wrong with many that were published.
        weight = rows.height / max(delivered, 1)
        yield Finding(2 if weight > _FEW else 4, weight, sentence, "critical")


def _rules(memory: Memory) -> Iterator[Finding]:
    """One sentence for each rule that failed, over all partitions; drift and what went to quarantine are told apart."""
    descriptions = described()
    staged = [contract.table for contract in STAGED.values()]
    to_quarantine = {
        (contract.table, rule.name)
        for contract in STAGED.values()
        for rule in contract.rules
        if rule.severity == "critical"
    } | {(table, name) for table in staged for name in GENERAL_CHECKS}
    told = memory.results.filter(~pl.col("rule").str.starts_with(DRIFT) & ~pl.col("rule").is_in(TOLD_APART))
    for (asset, rule, severity), rows in told.group_by("asset", "rule", "severity", maintain_order=True):
        failed = rows.filter(~pl.col("passed"))
        if failed.is_empty() or ((asset, rule) in to_quarantine and _only_quarantined(memory, str(asset), failed)):
            continue
        asks = descriptions.get((str(asset), str(rule)), "")
        name = f"{text(asset)}: {f'“{text(asks)}”' if asks else text(str(rule).replace('_', ' '))}"
        counted, judged = int(failed.get_column("rows_failed").sum()), int(rows.get_column("rows_judged").sum())
        of_deliveries = _judges_deliveries(str(asset), str(rule))
        judged_ones = count(judged, *(("delivery", "deliveries") if of_deliveries else ("row",)))
        what = (
            f"{count(counted)} of {judged_ones} ({share(counted, judged)}) break this"
            if counted and judged and not _speaks(failed)
            else "this does not hold"
        )
        sentence = f"{name} – {what}{_when(rows, failed)} (<code>{text(rule)}</code>, {severity}){_said(failed)}."
        weight = counted / judged if judged else failed.height / rows.height
        rank = 4 if severity == "info" and weight > _MANY else _RANKS[str(severity)]
        yield Finding(rank, weight, sentence, str(severity))


def _only_quarantined(memory: Memory, asset: str, failed: pl.DataFrame) -> bool:
    """Whether every delivery that broke the rule was taken, and so its bad rows are told of as quarantine."""
    stamps = memory.stamps[asset]
    days = failed.get_column("partition_date")
    return all(day in stamps and stamps[day].rows_quarantined for day in days)


def _when(rows: pl.DataFrame, failed: pl.DataFrame) -> str:
    days = failed.get_column("partition_date").drop_nulls().sort().to_list()
    if not days:
        return ""
    judged = rows.get_column("partition_date").drop_nulls().len()
    if len(days) == 1:
        return f", on {days[0]} alone" if judged > 1 else f", on {days[0]}"
    worst = failed.drop_nulls("partition_date").sort(
        "value", "partition_date", descending=[True, False], nulls_last=True
    )
    row = worst.row(0, named=True)
    at_worst = f", worst on {row['partition_date']}"
    if row["rows_failed"] and row["rows_judged"]:
        at_worst += f" ({count(row['rows_failed'])} of {count(row['rows_judged'])})"
    every = "every one" if len(days) == judged else count(len(days))
    return f", on {every} of {count(judged, 'partition')}, from {days[0]} to {days[-1]}{at_worst}"


def _judges_deliveries(asset: str, rule: str) -> bool:
    """Whether what is judged, and counted, are whole deliveries and not rows."""
    return asset.startswith("raw_") or rule == ACCEPTED


def _speaks(failed: pl.DataFrame) -> bool:
    """Whether its note tells better what was found last: of a balance, and where not the rows of a day are judged."""
    newest = failed.sort("checked_at").row(-1, named=True)
    of_rows = newest["partition_date"] and not _judges_deliveries(newest["asset"], newest["rule"])
    return bool(newest["note"]) and (newest["rule"] == BALANCE or not of_rows)


def _said(failed: pl.DataFrame) -> str:
    """What was found last, where the rows that fail do not tell it."""
    newest = failed.sort("checked_at").row(-1, named=True)
    if newest["rows_failed"] and not _speaks(failed):
        return ""
    told = newest["note"].rstrip(".") or measured(newest)
    return f": {text(told)}" if told else ""


def measured(row: Mapping[str, Any]) -> str:
    """The value of a rule that measures a whole partition, and what it may be; empty where rows are judged."""
    if row["value"] is None or not row["threshold"]:
        return ""
    return f"{plain(row['value'])}, where {row['threshold']} is right"


def missing_days(memory: Memory, entity: str) -> list[date]:
    """Days from the first to the last delivery of an entity on which nothing was delivered, in order."""
    stamps = memory.stamps[f"stg_{entity}"]
    delivered = {day for day, stamp in stamps.items() if stamp.delivered}
    if not delivered:
        return []
    first, last = min(delivered), max(delivered)
    every = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [day for day in every if day not in delivered]


def closed_weekdays(memory: Memory, entity: str) -> list[int]:
    """Weekdays (Monday = 0) on which an entity never delivered in a month or more: no accident, but a habit."""
    missing = missing_days(memory, entity)
    stamps = memory.stamps[f"stg_{entity}"]
    open_on = {day.weekday() for day, stamp in stamps.items() if stamp.delivered}
    return [day for day in range(7) if day not in open_on and sum(one.weekday() == day for one in missing) >= 4]


def silences(memory: Memory) -> Iterator[tuple[list[str], list[date], list[str]]]:
    """Sources that were silent on the same days: the sources, those days, and in words which days they are.

    Weekdays on which nothing ever came are named as such, and no longer count as days that are missing.
    """
    alike: dict[tuple[date, ...], list[str]] = {}
    for entity in STAGED:
        alike.setdefault(tuple(missing_days(memory, entity)), []).append(entity)
    for missing, entities in alike.items():
        if not missing:
            continue
        closed = closed_weekdays(memory, entities[0])
        habits = [day for day in missing if day.weekday() in closed]
        delivered = {day for day, stamp in memory.stamps[f"stg_{entities[0]}"].items() if stamp.delivered}
        runs = figures.gaps(delivered | set(habits))
        words = [f"every {WEEKDAYS[day]} ({count(sum(one.weekday() == day for one in missing))})" for day in closed]
        if runs:
            others = len(missing) - len(habits)
            words.append(f"{count(others, 'other day' if closed else 'day')} ({spans(runs, most=12)})")
        yield entities, list(missing), words


def _days(memory: Memory) -> Iterator[Finding]:
    for entities, missing, words in silences(memory):
        delivered = [day for day, stamp in memory.stamps[f"stg_{entities[0]}"].items() if stamp.delivered]
        all_days = (max(delivered) - min(delivered)).days + 1
        closed = closed_weekdays(memory, entities[0])
        unusual = sum(day.weekday() not in closed for day in missing)
        sentence = (
            f"Nothing was delivered of {either(entities)} on {count(len(missing))} of {count(all_days, 'day')}: "
            f"{either(words)} ({_see('completeness')})."
        )
        yield Finding(4 if unusual else 6, unusual / all_days, sentence, "warning" if unusual else "info")


def _duplicates(memory: Memory) -> Iterator[Finding]:
    for entity in STAGED:
        stamps = memory.stamps[f"stg_{entity}"]
        copies = {day: stamp.rows_duplicate for day, stamp in stamps.items() if stamp.rows_duplicate}
        if not copies:
            continue
        delivered, total = sum(stamp.rows_delivered for stamp in stamps.values()), sum(copies.values())
        worst = max(copies, key=lambda day: copies[day])
        sentence = (
            f"{count(total, 'row')} of {entity} ({share(total, delivered)} of {count(delivered)}) repeat an earlier "
            f"row of their delivery to the last character and were left out, on {count(len(copies), 'day')}, most on "
            f"{worst} ({count(copies[worst])}) ({_see('accounting')})."
        )
        yield Finding(5, total / delivered, sentence, "warning")


def _drift(memory: Memory) -> Iterator[Finding]:
    for table in (contract.table for contract in STAGED.values()):
        metrics = {metric: days for metric, days in drifted(memory.results).items() if metric.table == table}
        days = sorted({day for said in metrics.values() for day in said})
        if not days:
            continue
        # A rule that had too little history has passed, of no row.
        of_drift = (pl.col("asset") == table) & pl.col("rule").str.starts_with(DRIFT)
        was_judged = (pl.col("rows_judged") > 0) | ~pl.col("passed")
        judged = memory.results.filter(of_drift & was_judged).get_column("partition_date").drop_nulls().n_unique()
        most = either(
            [f"{text(metric.title)} ({count(len(told), 'day')})" for metric, told in list(metrics.items())[:4]]
        )
        sentence = (
            f"{table} was unlike the days before it on {count(len(days))} of {count(judged, 'partition')}, last on "
            f"{days[-1]}: {'above all ' if len(metrics) > 4 else ''}{most} ({_see('drift')})."
        )
        yield Finding(5, len(days) / judged, sentence, "warning")


def _extremes(memory: Memory) -> Iterator[Finding]:
    for entity in STAGED:
        table = f"stg_{entity}"
        for name in STAGED[entity].columns:
            found = _extreme(memory.profiles[table], name)
            if found:
                day, value, usual = found
                sentence = (
                    f"{table}: <code>{text(name)}</code> reaches {plain(value)} on {day}, "
                    f"{plain(round(abs(value) / usual))} times what is large on a usual day ({plain(usual)}): "
                    f"a typing error, a test or a booking that is no sale ({_see('profiles')})."
                )
                yield Finding(5, 0.0, sentence, "warning")


def _extreme(profiles: Mapping[date, Profile], name: str) -> tuple[date, float, float] | None:
    """The day and value of the number farthest from 0, and the usual 97.5 % quantile; None where it is not far."""
    numbers = {
        day: found.columns[name].numbers
        for day, found in profiles.items()
        if name in found.columns and found.columns[name].numbers
    }
    known = {day: one for day, one in numbers.items() if one is not None}
    if not known:
        return None
    usual = float(np.median([one.quantiles[-2] for one in known.values()]))
    day, value = max(
        ((day, edge) for day, one in known.items() for edge in (one.high, one.low)), key=lambda pair: abs(pair[1])
    )
    return (day, value, usual) if usual > 0 and abs(value) > EXTREME * usual else None


def _members(memory: Memory) -> Iterator[Finding]:
    names = {"dim_customer": ("customer", "customers"), "dim_product": ("product", "products")}
    for dimension, (one, many) in names.items():
        lacking, known = memory.undescribed.get(dimension, 0), memory.rows.get(dimension, 0)
        if lacking:
            verb = "is" if lacking == 1 else "are"
            sentence = (
                f"{count(lacking, one, many)} that facts name {verb} described by no delivery (inferred members)."
            )
            yield Finding(5, lacking / max(known, 1), sentence, "warning")
        of_dimension = memory.ledger.filter(pl.col("asset") == dimension)
        staged, versions, repeats = (
            int(of_dimension.get_column(name).sum() or 0) for name in ("rows_staged", "versions", "repeats")
        )
        members = memory.described.get(dimension, 0)
        again, changes = staged - members, versions - members
        stamps = memory.stamps[f"stg_{figures.PUBLISHED[dimension]}"].values()
        tells_all = all(stamp.mode == "full" for stamp in stamps if stamp.delivered) or repeats > REPEATING * again
        if again > 0 and tells_all and changes / again > CHURN:
            sentence = (
                f"{count(changes)} of {count(again, 'telling')} of {many} that were known already "
                f"({share(changes, again)}) change something: prices or names that change this often are no history "
                f"({_see('accounting')})."
            )
            yield Finding(7, changes / again, sentence, "info")


def lead(memory: Memory, found: Sequence[Finding]) -> str:
    """The first sentence: how much is remembered, and how much is wrong with it."""
    delivered = {
        entity: sum(stamp.rows_delivered for stamp in memory.stamps[f"stg_{entity}"].values()) for entity in STAGED
    }
    days = memory.partitions
    if not days:
        return "Nothing has been delivered yet, so nothing can be said of the data."
    told = either([f"{count(rows)} rows of {entity}" for entity, rows in delivered.items()])
    about = f"The platform remembers {told}, delivered in {count(len(days), 'partition')} ({span(days)})."
    if not found:
        return f"Nothing is wrong with the data that any rule would tell of. {about}"
    by_severity = {name: sum(one.severity == name for one in found) for name in _RANKS}
    words = {"critical": "must be acted on", "warning": "should be looked at", "info": "is good to know"}
    many = {"critical": "must be acted on", "warning": "should be looked at", "info": "are good to know"}
    parts = [f"{number} {(words if number == 1 else many)[name]}" for name, number in by_severity.items() if number]
    wrong = f"{count(len(found), 'thing')} {'is' if len(found) == 1 else 'are'} wrong or odd: {either(parts)}."
    return f"{about} {wrong}"


def _see(section: str) -> str:
    return f'<a href="#{section}">{section}</a>'
