"""What people read: an alert in words, several of them in one message, a test. Nothing here connects to anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from data_platform.alerts.events import NOWHERE, Alert, Event
from data_platform.quality.masking import masked

SHOWN_PLACES = 5
SHOWN_ALERTS = 50
_WORDS: dict[Event, str] = {"opened": "", "still": "still: ", "recovered": "recovered: "}


@dataclass(frozen=True)
class Message:
    """A message for any channel: plain texts, a link (or none), and the same as `data` for programs."""

    subject: str
    body: str
    link: str
    data: dict[str, Any]


def message_of(alert: Alert, event: Event, ui: str) -> Message:
    """One alert: what it is, where and since when, what to do (unless it is over), and the run."""
    subject = f"{_WORDS[event]}{alert.title} ({alert.severity})"
    link = f"{ui.rstrip('/')}/runs/{alert.run_id}" if alert.run_id else ""
    lines = [] if event == "recovered" else [alert.detail, _where(alert)]
    times = f", seen {alert.times} times" if alert.times > 1 else ""
    until = f" until {alert.closed_at:%Y-%m-%d %H:%M}" if event == "recovered" and alert.closed_at else ""
    lines.append(f"Since {alert.opened_at:%Y-%m-%d %H:%M}{until} UTC{times}.")
    if event != "recovered":
        lines.append(f"What to do: {alert.advice}")
    data = {
        "event": event,
        "key": alert.key,
        "kind": alert.kind,
        "severity": alert.severity,
        "title": alert.title,
        "detail": alert.detail,
        "what_to_do": alert.advice,
        "where": sorted(alert.places - NOWHERE),
        "times": alert.times,
        "opened_at": alert.opened_at.isoformat(),
        "closed_at": alert.closed_at.isoformat() if alert.closed_at else None,
        "run_id": alert.run_id or None,
        "url": link or None,
    }
    return _clean(subject, "\n".join(line for line in lines if line), link, data)


def summary_of(told: Sequence[tuple[Alert, Event]], ui: str) -> Message:
    """Several alerts in one message: what would be more than a channel's limit."""
    lines = [f"- {_WORDS[event]}{alert.title} ({alert.severity})" for alert, event in told[:SHOWN_ALERTS]]
    if len(told) > SHOWN_ALERTS:
        lines.append(f"- and {len(told) - SHOWN_ALERTS} more, which platform.alerts lists")
    data = {"event": "summary", "alerts": [message_of(alert, event, ui).data for alert, event in told]}
    return _clean(f"{len(told)} alerts in one message, as there are many", "\n".join(lines), f"{ui.rstrip('/')}", data)


def test_message(channel: str, ui: str) -> Message:
    """What `data-platform alerts test` sends."""
    text = f"This is a test of the channel {channel}: alerts of the data platform arrive here. Nothing is wrong."
    return _clean("a test of alerts", text, ui.rstrip("/"), {"event": "test", "channel": channel, "detail": text})


def _where(alert: Alert) -> str:
    spans: list[list[str]] = []
    for place in sorted(alert.places - NOWHERE):
        if spans and _follows(place, spans[-1][-1]):
            spans[-1].append(place)
        else:
            spans.append([place])
    shown = [f"{span[0]}…{span[-1]}" if len(span) > 1 else span[0] for span in spans[:SHOWN_PLACES]]
    more = f" and {len(spans) - SHOWN_PLACES} more" if len(spans) > SHOWN_PLACES else ""
    return f"Where: {', '.join(shown)}{more}." if spans else ""


def _follows(place: str, before: str) -> bool:
    """Whether both are days, one after the other."""
    try:
        return date.fromisoformat(place) - date.fromisoformat(before) == timedelta(days=1)
    except ValueError:
        return False


def _clean(subject: str, body: str, link: str, data: dict[str, Any]) -> Message:
    # One line: a line break in a subject would begin a header of its own.
    return Message(f"[data platform] {' '.join(masked(subject).split())}", masked(body), link, _masked(data))


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {name: _masked(one) for name, one in value.items()}
    return [_masked(one) for one in value] if isinstance(value, list) else value
