"""Whether the platform is well, in a few words each: what somebody should see to, and what is worth knowing. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from data_platform.days import days_between
from data_platform.monitoring.collect import Look
from data_platform.monitoring.lag import ENTITIES, Cell, Coverage, Lag
from data_platform.quality.completeness import QUARANTINE_DAYS, WINDOW_DAYS
from data_platform.settings import Settings

DAEMON_SILENT_AFTER = timedelta(minutes=5)
LEAST_FREE = 0.1  # of a disk


@dataclass(frozen=True)
class Verdict:
    """`problems` are for somebody to see to now, `remarks` are not; all is well without problems."""

    problems: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Whether there is nothing to see to."""
        return not self.problems


def judge(look: Look, chosen: Settings, lags: list[Lag], coverage: Mapping[str, Coverage], due: date) -> Verdict:
    """The verdict on a look. `lags` and `coverage` are as of `due`, the newest day that may be missed by now."""
    problems = [*look.problems, *_runs(look), *_days(lags, coverage, due), *_checks(look, "critical")]
    problems += [*_alerts(look, "critical"), *_daemon(look), *_disks(look)]
    remarks = [*_checks(look, "warning"), *_alerts(look, "warning"), *_quarantine(look, chosen), *_marts(look)]
    return Verdict(tuple(problems), tuple(remarks))


def _runs(look: Look) -> Iterator[str]:
    for job in look.dagster.found.jobs if look.dagster.found else ():
        if job.last_failure and (job.last_success is None or job.last_success < job.last_failure):
            yield f"the last run of {job.name} failed"


def _days(lags: list[Lag], coverage: Mapping[str, Coverage], due: date) -> Iterator[str]:
    behind = {lag.asset: lag.missing for lag in lags}
    recent = days_between(due - timedelta(days=WINDOW_DAYS - 1), due)
    lacking: dict[int, list[str]] = {}
    for entity, asset in ENTITIES.items():
        cells = coverage[asset].cells if asset in coverage else {}
        count = sum(cells.get(day) in (Cell.missing, Cell.waiting) for day in recent)
        lacking.setdefault(max(count, behind.get(asset, 0)), []).append(entity)
    for count, entities in lacking.items():
        if count:
            yield f"{in_a_row(entities)} lack {count:,} {'day' if count == 1 else 'days'} up to {due}"


def _checks(look: Look, severity: str) -> Iterator[str]:
    stored = look.stored_in.stored
    count = sum(one.severity == severity for one in stored.failing) if stored else 0
    if count:
        yield f"{count} {severity} {'check fails' if count == 1 else 'checks fail'}"


def _alerts(look: Look, severity: str) -> Iterator[str]:
    stored = look.stored_in.stored
    count = sum(one.severity == severity for one in stored.alerts) if stored else 0
    if count:
        yield f"{count} {severity} {'alert is' if count == 1 else 'alerts are'} open"


def _daemon(look: Look) -> Iterator[str]:
    beats = look.dagster.found.heartbeats if look.dagster.found else {}
    silent = [kind for kind, beat in beats.items() if look.at - beat > DAEMON_SILENT_AFTER]
    if silent:
        since = min(beats[kind] for kind in silent)
        yield f"Dagster's daemon is silent since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _disks(look: Look) -> Iterator[str]:
    for disk in look.disks.found or ():
        if disk.size and disk.free / disk.size < LEAST_FREE:
            yield f"the disk of the {disk.place} has only {disk.free / disk.size:.0%} free"


def _quarantine(look: Look, chosen: Settings) -> Iterator[str]:
    today = look.at.astimezone(chosen.zone).date()
    oldest = {entity: min(days) for entity in ENTITIES if (days := quarantined(look, entity))}
    old = [entity for entity, day in oldest.items() if (today - day).days > QUARANTINE_DAYS]
    if old:
        yield f"rejected rows of {in_a_row(old)} wait for more than {QUARANTINE_DAYS} days"


def _marts(look: Look) -> Iterator[str]:
    stored = look.stored_in.stored
    stale = [mart for mart, dates in stored.stale_marts.items() if dates] if stored else []
    if stale:
        yield f"{len(stale)} {'mart is' if len(stale) == 1 else 'marts are'} stale"


def in_a_row(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def quarantined(look: Look, entity: str) -> dict[date, int]:
    """The rejected rows of an entity that wait, by day; none where the lake cannot be read."""
    return look.lake.found.quarantined(entity) if look.lake.found else {}


def last_day_due(now: datetime, hour: int) -> date:
    """The newest day whose delivery may be missed at `now` (business time): yesterday, from `hour` on."""
    return now.date() - timedelta(days=1 if now.hour >= hour else 2)
