"""Alerts in Postgres: what is open, whom it is still to be told, up to where was looked.

One look at a time writes them, and one sender at a time serves a channel: both hold an advisory lock that goes with
their transaction, so that a kill leaves nothing locked.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg.rows import class_row, dict_row

from data_platform.alerts.events import MOST_TRIES, Alert, Event, Telling, pause_after

# Any numbers that no other program of the database uses for advisory locks.
LOOK_LOCK = 5_207_114_902_006
SEND_LOCK = 520_711
HOUR = timedelta(hours=1)
_COLUMNS = "key, kind, severity, title, detail, advice, run_id, places, times, opened_at, last_told_at, closed_at"


@dataclass(frozen=True)
class Waiting:
    """A message that is not sent yet."""

    message_id: int
    event: Event
    tries: int
    alert: Alert


def begin_look(connection: psycopg.Connection) -> bool:
    """Whether this transaction may look; another does where it may not."""
    found = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOOK_LOCK]).fetchone()
    return found == (True,)


def read_open(connection: psycopg.Connection) -> list[Alert]:
    """The open alerts, the oldest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(f"SELECT alert_id, {_COLUMNS} FROM platform.alerts WHERE closed_at IS NULL ORDER BY alert_id")  # noqa: S608
        return [Alert(**(row | {"places": frozenset(row["places"])})) for row in cursor]


def write(
    connection: psycopg.Connection, tellings: Iterable[Telling], channels: Mapping[str, Collection[str]], now: datetime
) -> None:
    """Write what became of alerts, and a message for each of the `channels` (by key of alert) that it concerns."""
    for one in tellings:
        alert_id = _write_alert(connection, one.alert)
        if one.event:
            connection.cursor().executemany(
                """
                INSERT INTO platform.alert_messages (alert_id, channel, event, created_at, next_try_at)
                VALUES (%s, %s, %s, %s, %s)
                """,
                [(alert_id, channel, one.event, now, now) for channel in channels.get(one.alert.key, ())],
            )


def _write_alert(connection: psycopg.Connection, alert: Alert) -> int:
    values = {**vars(alert), "places": sorted(alert.places)}
    if alert.alert_id is not None:
        connection.execute(
            """
            UPDATE platform.alerts
            SET severity = %(severity)s, title = %(title)s, detail = %(detail)s, advice = %(advice)s,
                run_id = %(run_id)s, places = %(places)s, times = %(times)s, last_told_at = %(last_told_at)s,
                closed_at = %(closed_at)s
            WHERE alert_id = %(alert_id)s
            """,
            values,
        )
        return alert.alert_id
    # The lock keeps other looks out, and the unique index whoever does not ask for it.
    made = connection.execute(
        f"""
        INSERT INTO platform.alerts ({_COLUMNS})
        VALUES (%(key)s, %(kind)s, %(severity)s, %(title)s, %(detail)s, %(advice)s, %(run_id)s, %(places)s, %(times)s,
            %(opened_at)s, %(last_told_at)s, %(closed_at)s)
        RETURNING alert_id
        """,  # noqa: S608
        values,
    ).fetchone()
    assert made is not None
    return int(made[0])


def read_cursors(connection: psycopg.Connection) -> dict[str, int]:
    """Up to where was looked, by name."""
    return dict(connection.execute("SELECT name, position FROM platform.alert_cursors").fetchall())


def write_cursors(connection: psycopg.Connection, positions: Mapping[str, int]) -> None:
    """Note up to where was looked."""
    connection.cursor().executemany(
        """
        INSERT INTO platform.alert_cursors (name, position)
        VALUES (%s, %s)
        ON CONFLICT (name) DO UPDATE SET position = excluded.position
        """,
        list(positions.items()),
    )


@dataclass(frozen=True)
class CheckRow:
    """A row of platform.check_results, as far as alerts need it."""

    result_id: int
    asset: str
    rule: str
    severity: str
    passed: bool
    day: str
    value: float | None
    threshold: str
    rows_judged: int
    rows_failed: int
    note: str
    run_id: str


def newest_result(connection: psycopg.Connection) -> int | None:
    """The id up to which every result is committed; None while somebody writes results.

    Ids are given before they are committed: a row may come to light below one that was read. Who took an id below the
    newest that is visible holds its lock on the table, or has let go of it, at the time of the second question.
    """
    newest = connection.execute("SELECT coalesce(max(result_id), 0) FROM platform.check_results").fetchone()
    writers = connection.execute(
        """
        SELECT count(*)
        FROM pg_locks
        WHERE relation = 'platform.check_results'::regclass
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND mode = 'RowExclusiveLock' AND granted AND pid <> pg_backend_pid()
        """
    ).fetchone()
    assert newest is not None
    return int(newest[0]) if writers == (0,) else None


def results_between(connection: psycopg.Connection, after: int, last: int, about: Collection[str]) -> list[CheckRow]:
    """The results with ids above `after`, up to `last`, that can open or close an alert, in their order.

    Those are the failed ones, and the passed ones of checks that fail among them or are in `about`, as TABLE/CHECK.
    """
    with connection.cursor(row_factory=class_row(CheckRow)) as cursor:
        cursor.execute(
            """
            WITH new AS (
                SELECT *
                FROM platform.check_results
                WHERE result_id > %(after)s AND result_id <= %(last)s
            )
            SELECT result_id, asset, rule, severity, passed, coalesce(partition_date::text, '') AS day, threshold,
                value, rows_judged, rows_failed, note, run_id
            FROM new
            WHERE NOT passed
            OR asset || '/' || rule = ANY(%(about)s)
            OR (asset, rule) IN (SELECT asset, rule FROM new WHERE NOT passed)
            ORDER BY result_id
            """,
            {"after": after, "last": last, "about": list(about)},
        )
        return cursor.fetchall()


def begin_sending(connection: psycopg.Connection, channel: str) -> bool:
    """Whether this transaction may send by the channel; another does where it may not."""
    found = connection.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", [SEND_LOCK, channel]).fetchone()
    return found == (True,)


def read_waiting(connection: psycopg.Connection, channel: str, due: datetime | None) -> list[Waiting]:
    """The messages for a channel that wait, the oldest first; of those that failed only what is `due` (None: all)."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            f"""
            SELECT message_id, event, tries, alert_id, {_COLUMNS}
            FROM platform.alert_messages
            JOIN platform.alerts USING (alert_id)
            WHERE channel = %(channel)s AND sent_at IS NULL AND given_up_at IS NULL
            AND (%(due)s::timestamptz IS NULL OR next_try_at <= %(due)s)
            ORDER BY message_id
            """,  # noqa: S608
            {"channel": channel, "due": due},
        )
        return [_waiting(row) for row in cursor]


def _waiting(row: dict[str, object]) -> Waiting:
    places = frozenset(row.pop("places"))  # type: ignore[call-overload]
    message = {name: row.pop(name) for name in ("message_id", "event", "tries")}
    return Waiting(**message, alert=Alert(**row, places=places))  # type: ignore[arg-type]


def sent_since(connection: psycopg.Connection, channel: str, since: datetime) -> int:
    """How many messages the channel had since then; those that were summed up together count as one."""
    found = connection.execute(
        """
        SELECT count(*) FILTER (WHERE NOT summed) + count(DISTINCT sent_at) FILTER (WHERE summed)
        FROM platform.alert_messages
        WHERE channel = %s AND sent_at > %s
        """,
        [channel, since],
    ).fetchone()
    assert found is not None
    return int(found[0])


def mark_sent(connection: psycopg.Connection, messages: Sequence[Waiting], now: datetime) -> None:
    """Note that they were sent, together where they are several."""
    connection.execute(
        "UPDATE platform.alert_messages SET sent_at = %s, summed = %s, tries = tries + 1 WHERE message_id = ANY(%s)",
        [now, len(messages) > 1, [one.message_id for one in messages]],
    )


def mark_failed(connection: psycopg.Connection, messages: Sequence[Waiting], now: datetime) -> list[Waiting]:
    """Note that they could not be sent; those that were tried MOST_TRIES times are given up, and returned."""
    lost = [one for one in messages if one.tries + 1 >= MOST_TRIES]
    connection.cursor().executemany(
        """
        UPDATE platform.alert_messages
        SET tries = tries + 1, next_try_at = %s, given_up_at = %s
        WHERE message_id = %s
        """,
        [(now + pause_after(one.tries + 1), now if one in lost else None, one.message_id) for one in messages],
    )
    return lost


def forget_channels(connection: psycopg.Connection, known: Collection[str], now: datetime) -> None:
    """Give up what waits for channels that are no longer there."""
    connection.execute(
        """
        UPDATE platform.alert_messages
        SET given_up_at = %s
        WHERE sent_at IS NULL AND given_up_at IS NULL AND channel <> ALL(%s)
        """,
        [now, list(known)],
    )
