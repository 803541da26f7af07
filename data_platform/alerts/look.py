"""A look: what is wrong now is written down with what is to be told of it, then told. And a test of all channels."""

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path

import dagster as dg
import psycopg

from data_platform.alerts import checks, instance, store
from data_platform.alerts.channels import NotSent, send
from data_platform.alerts.config import Alerts, Channel
from data_platform.alerts.events import Failing, Passing, concerns, judge, next_sending
from data_platform.alerts.messages import message_of, summary_of, test_message
from data_platform.assets.quality import completeness_results, is_watch, quarantine_result
from data_platform.errors import PlatformError
from data_platform.quality.completeness import completeness
from data_platform.quality.masking import masked
from data_platform.quality.names import WAITING
from data_platform.resources import Platform
from data_platform.warehouse.connection import looking

APPLICATION = "data-platform alerts"
RESULTS, ENDS = "check_results", "run_ends"
DISK = "disk_filling"
# A disk about its limit would open and close an alert every minute.
SLACK_POINTS = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Looked:
    """What a look did: alerts that it opened and closed, messages that were sent, and why others were not."""

    opened: int = 0
    closed: int = 0
    sent: int = 0
    problems: tuple[str, ...] = ()

    def in_words(self) -> str:
        """One line for the log of a tick."""
        done = f"{self.opened} alerts opened, {self.closed} closed, {self.sent} messages sent."
        return " ".join([done, *self.problems])


def look(dagster: dg.DagsterInstance, platform: Platform, alerts: Alerts, now: datetime) -> Looked:
    """Look at all that happened since the last look, and tell it. The first look of all tells nothing of the past.

    Where another process looks at this moment, only what waits is sent. Raises PlatformError where the warehouse
    cannot be reached: alerts are remembered there.
    """
    url = platform.warehouse_url
    opened = closed = 0
    with looking(url, application=APPLICATION) as connection:
        if store.begin_look(connection):
            standing = store.read_open(connection)
            cursors = store.read_cursors(connection)
            about = {alert.key.partition("/")[2] for alert in standing}
            seen = [*_results(connection, dagster, platform, cursors, about, now), *_ends(dagster, cursors)]
            seen += [instance.freshness(dagster), instance.daemon(dagster, now)]
            seen += _disk(platform.settings.home, alerts.disk_percent, {alert.key for alert in standing})
            tellings = judge(standing, map(_masked, seen), now)
            told_to = {
                one.alert.key: [
                    name for name, way in alerts.channels.items() if concerns(one.alert, way.severity, way.kinds)
                ]
                for one in tellings
            }
            store.write(connection, tellings, told_to, now)
            store.write_cursors(connection, cursors)
            store.forget_channels(connection, list(alerts.channels), now)
            opened = sum(one.alert.alert_id is None and one.alert.closed_at is None for one in tellings)
            closed = sum(one.event == "recovered" for one in tellings)
    sent, problems = 0, []
    for name, channel in alerts.channels.items():
        count, problem = _send_waiting(url, name, channel, alerts.ui, now)
        sent += count
        problems += [problem] if problem else []
    return Looked(opened, closed, sent, tuple(problems))


def try_channels(alerts: Alerts) -> dict[str, str]:
    """Send a test to every channel: why it could not be sent by name of the channel, or nothing where it was."""
    answers = {}
    for name, channel in alerts.channels.items():
        try:
            send(name, channel, test_message(name, alerts.ui), os.environ)
            answers[name] = ""
        except NotSent as error:
            answers[name] = str(error)
    return answers


def _send_waiting(url: str, name: str, channel: Channel, ui: str, now: datetime) -> tuple[int, str]:
    """How many messages were sent by a channel, and why the next one was not; each in a transaction of its own."""
    sent = 0
    while True:
        with looking(url, application=APPLICATION) as connection:
            if not store.begin_sending(connection, name):
                return sent, ""
            # Once one went through, those that wait for another try need not wait.
            waiting = store.read_waiting(connection, name, None if sent else now)
            in_the_hour = store.sent_since(connection, name, now - store.HOUR)
            batch = next_sending(waiting, in_the_hour, channel.per_hour)
            if not batch:
                return sent, ""
            told = [(one.alert, one.event) for one in batch]
            message = summary_of(told, ui) if len(told) > 1 else message_of(*told[0], ui)
            try:
                send(name, channel, message, os.environ)
            except NotSent as error:
                log.warning("An alert waits for another try: %s", error)
                for lost in store.mark_failed(connection, batch, now):
                    log.error("An alert was given up after %d tries: %s", lost.tries + 1, lost.alert.title)
                return sent, str(error)
            store.mark_sent(connection, batch, now)
            sent += 1


def _masked(one: Failing | Passing) -> Failing | Passing:
    """No address is written down, whatever a table, a source or an error is called."""
    return replace(one, title=masked(one.title), detail=masked(one.detail)) if isinstance(one, Failing) else one


def _results(
    connection: psycopg.Connection,
    dagster: dg.DagsterInstance,
    platform: Platform,
    cursors: dict[str, int],
    about: set[str],
    now: datetime,
) -> Iterator[Failing | Passing]:
    newest = store.newest_result(connection)
    if newest is None:
        return  # somebody writes: the next look reads
    rows = store.results_between(connection, cursors.get(RESULTS, newest), newest, about)
    cursors[RESULTS] = newest

    @cache
    def passes_today(row: store.CheckRow) -> bool:
        return f"{row.asset}/{row.rule}" in about and _passes_today(dagster, platform, row, now)

    yield from checks.evidence(rows, passes_today, _asks, lambda row: instance.examples(dagster, row))


def _asks(table: str, check: str) -> str:
    # Its package draws charts: half a second, which a look without a failure can spare.
    from data_platform.quality.report.findings import described

    return described().get((table, check), "")


def _passes_today(dagster: dg.DagsterInstance, platform: Platform, row: store.CheckRow, now: datetime) -> bool:
    """Whether a passed result of completeness or quarantine holds as of today, which a run by hand does not ask."""
    run = dagster.get_run_by_id(row.run_id)
    if run is not None and is_watch(run):
        return True
    today = now.astimezone(platform.settings.zone).date()
    try:
        stamps = platform.lake.stamps(row.asset)
        if row.rule == WAITING:
            rows = {day: stamp.rows_quarantined for day, stamp in stamps.items() if stamp.delivered}
            return bool(quarantine_result(row.asset, rows, today).passed)
        source = platform.sources[row.asset.removeprefix("raw_")]
        results = completeness_results(row.asset, completeness(stamps, source, today), strict=True)
    except PlatformError:
        return False  # it is not known
    return any(result.passed for result in results if result.check_name == row.rule)


def _ends(dagster: dg.DagsterInstance, cursors: dict[str, int]) -> list[Failing | Passing]:
    position = cursors.get(ENDS)
    if position is None:
        cursors[ENDS] = instance.newest_end(dagster)
        return []
    found, cursors[ENDS] = instance.ended_since(dagster, position)
    return found


def _disk(home: Path, limit: float, open_keys: set[str]) -> list[Failing | Passing]:
    place = next((path for path in (home, *home.parents) if path.exists()), Path("/"))
    usage = shutil.disk_usage(place)
    full = 100 * usage.used / (usage.used + usage.free) if usage.total else 0.0
    if full < limit - (SLACK_POINTS if DISK in open_keys else 0):
        return [Passing(DISK)]
    free = usage.free / 1e9
    return [
        Failing(
            DISK,
            "disk_filling",
            "critical",
            "the disk of the platform fills up",
            f"{home} lies on a disk that is {full:.0f} % full ({free:.1f} GB are free); the limit is {limit:g} %.",
            "Free space there, or give it a greater disk: a full one stops every run, and nothing is lost.",
            lasting=True,
        )
    ]
