"""The core of alerts, without Dagster, Postgres or networks: what opens, what closes, what is told and sent now."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar, get_args

from data_platform.contracts.rules import Severity

Kind = Literal[
    "run_failed",
    "check_failed",
    "delivery_overdue",
    "quarantine_old",
    "freshness_lost",
    "disk_filling",
    "daemon_silent",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")  # the worst last
Event = Literal["opened", "still", "recovered"]

# Less than a day: what a daily schedule finds again is told again, though it began a little earlier.
REMINDED_AFTER = timedelta(hours=20)
# With the growing pauses between them these take a night.
MOST_TRIES = 15
LONGEST_PAUSE = timedelta(minutes=60)
# Of a thing that is about no single day or table.
NOWHERE = frozenset({""})

M = TypeVar("M")


@dataclass(frozen=True)
class Failing:
    """Something is wrong at `places`. `key` names what; `lasting`: it is seen at each look, as long as it lasts."""

    key: str
    kind: Kind
    severity: Severity
    title: str
    detail: str
    advice: str
    run_id: str = ""
    places: frozenset[str] = NOWHERE
    lasting: bool = False


@dataclass(frozen=True)
class Passing:
    """It is right again at `places` (None: wherever), for the alert `key` and all whose key begins by it and a /."""

    key: str
    places: frozenset[str] | None = None


@dataclass(frozen=True)
class Alert:
    """What stands in platform.alerts; `alert_id` is None until it is written. `severity` is the worst so far."""

    key: str
    kind: Kind
    severity: Severity
    title: str
    detail: str
    advice: str
    run_id: str
    places: frozenset[str]
    times: int
    opened_at: datetime
    last_told_at: datetime
    closed_at: datetime | None = None
    alert_id: int | None = None


@dataclass(frozen=True)
class Telling:
    """An alert as it is to be written, and what is to be said of it: nothing where `event` is None."""

    alert: Alert
    event: Event | None


def judge(standing: Iterable[Alert], seen: Iterable[Failing | Passing], now: datetime) -> list[Telling]:
    """What becomes of the open alerts, and of new ones, by what was `seen`, in its order.

    An alert is told when it opens, when it gets worse, when it is seen again after REMINDED_AFTER, and when it is over
    at its last place. One that opened and closed within one look is told to nobody.
    """
    alerts = {alert.key: alert for alert in standing}
    before = dict(alerts)
    events: dict[str, Event] = {}
    over: list[Telling] = []
    for one in seen:
        if isinstance(one, Failing):
            alert = alerts.get(one.key)
            event: Event | None = "opened" if alert is None or _worse(one, alert) else None
            if alert is not None and event is None and now - alert.last_told_at >= REMINDED_AFTER:
                event = "still"
            alerts[one.key] = _seen_again(alert, one) if alert else _opened(one, now)
            if event:
                alerts[one.key] = replace(alerts[one.key], last_told_at=now)
                events.setdefault(one.key, event)
            continue
        for key in [key for key in alerts if key == one.key or key.startswith(f"{one.key}/")]:
            # A result of no single place is over as soon as there is any other of the same.
            right = one.places if one.places is None or key != one.key else one.places | NOWHERE
            places = frozenset() if right is None else alerts[key].places - right
            alerts[key] = replace(alerts[key], places=places)
            if not places:
                known = key in before
                over.append(Telling(replace(alerts.pop(key), closed_at=now), "recovered" if known else None))
                events.pop(key, None)
                before.pop(key, None)
    changed = [Telling(alert, events.get(key)) for key, alert in alerts.items() if alert != before.get(key)]
    return over + changed


def _worse(one: Failing, alert: Alert) -> bool:
    return SEVERITIES.index(one.severity) > SEVERITIES.index(alert.severity)


def _opened(one: Failing, now: datetime) -> Alert:
    return Alert(
        one.key, one.kind, one.severity, one.title, one.detail, one.advice, one.run_id, one.places, 1, now, now
    )


def _seen_again(alert: Alert, one: Failing) -> Alert:
    return replace(
        alert,
        severity=max(alert.severity, one.severity, key=SEVERITIES.index),
        title=one.title,
        detail=one.detail,
        advice=one.advice,
        run_id=one.run_id,
        places=one.places if one.lasting else alert.places | one.places,
        times=alert.times + (not one.lasting),
    )


def concerns(alert: Alert, severity: Severity, kinds: Sequence[Kind]) -> bool:
    """Whether a channel that takes `kinds`, of at least `severity`, is told of the alert."""
    return alert.kind in kinds and SEVERITIES.index(alert.severity) >= SEVERITIES.index(severity)


def next_sending(waiting: Sequence[M], sent_in_the_hour: int, per_hour: int) -> list[M]:
    """Of the messages of a channel those that go into its next sending, none where the hour's limit is reached.

    One by one, as long as the limit has room for all; into the last place of the hour go all that are left, in one.
    """
    room = per_hour - sent_in_the_hour
    if room <= 0:
        return []
    return list(waiting[:1]) if room > 1 or len(waiting) == 1 else list(waiting)


def pause_after(tries: int) -> timedelta:
    """How long a message waits that could not be sent for so many times: at first only until the next look."""
    return min(timedelta(minutes=2 ** (tries - 1) - 1), LONGEST_PAUSE)
