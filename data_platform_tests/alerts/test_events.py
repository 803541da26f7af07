"""The core of alerts: what opens, what closes, what is told once, and what goes into which sending."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from data_platform.alerts.events import (
    MOST_TRIES,
    REMINDED_AFTER,
    Alert,
    Failing,
    Passing,
    concerns,
    judge,
    next_sending,
    pause_after,
)

NOW = datetime(2024, 1, 5, 6, tzinfo=UTC)
KEY = "check_failed/stg_orders/few"


def failing(key: str = KEY, *days: str, **values: object) -> Failing:
    one = Failing(key, "check_failed", "warning", "it failed", "3 of 5", "mend it", "run 1", frozenset(days or [""]))
    return replace(one, **values)  # type: ignore[arg-type]


def passing(key: str = KEY, *days: str) -> Passing:
    return Passing(key, frozenset(days) if days else None)


def after(standing: list[Alert], *seen: Failing | Passing, now: datetime = NOW) -> tuple[list[Alert], list[str]]:
    """The alerts that are open then, and what was told."""
    tellings = judge(standing, seen, now)
    alerts = {alert.key: alert for alert in standing}
    for one in tellings:
        alerts.pop(one.alert.key, None)
        if one.alert.closed_at is None:
            alerts[one.alert.key] = one.alert
    return list(alerts.values()), [f"{one.event} {one.alert.key}" for one in tellings if one.event]


def test_what_fails_is_told_once_and_what_is_right_again_as_well() -> None:
    standing, told = after([], failing(KEY, "2024-01-04"))
    assert told == [f"opened {KEY}"]
    standing, told = after(standing, failing(KEY, "2024-01-05"), now=NOW + timedelta(hours=1))
    assert told == []
    assert standing[0].places == {"2024-01-04", "2024-01-05"}
    assert standing[0].times == 2
    standing, told = after(standing, passing(KEY, "2024-01-05"))
    assert told == [], "the other day still fails"
    standing, told = after(standing, passing(KEY, "2024-01-04"))
    assert (standing, told) == ([], [f"recovered {KEY}"])
    assert after(standing, passing(KEY, "2024-01-04")) == ([], []), "what was not open is not over"


def test_who_is_told_again_is_told_once_a_day_and_when_it_gets_worse() -> None:
    standing, _ = after([], failing())
    standing, told = after(standing, failing(), now=NOW + REMINDED_AFTER)
    assert told == [f"still {KEY}"]
    standing, told = after(standing, failing(), now=NOW + REMINDED_AFTER + timedelta(hours=1))
    assert told == []
    standing, told = after(standing, failing(severity="critical"), now=NOW + REMINDED_AFTER + timedelta(hours=2))
    assert told == [f"opened {KEY}"]
    standing, told = after(standing, failing(severity="warning"), now=NOW + REMINDED_AFTER + timedelta(hours=3))
    assert told == []
    assert standing[0].severity == "critical", "who was told of the worst is told when it is over"


def test_what_failed_and_passed_between_two_looks_is_told_to_nobody() -> None:
    assert after([], failing(KEY, "a"), passing(KEY, "a")) == ([], [])
    standing, told = after([], failing(KEY, "a"), passing(KEY, "a"), failing(KEY, "b"))
    assert told == [f"opened {KEY}"]
    standing, told = after(standing, passing(KEY, "b"), failing(KEY, "c"))
    assert told == [f"recovered {KEY}", f"opened {KEY}"]


def test_a_result_of_no_day_is_over_with_any_of_the_same_check() -> None:
    standing, _ = after([], failing())
    assert after(standing, passing(KEY, "2024-01-05")) == ([], [f"recovered {KEY}"])


def test_a_prefix_closes_what_begins_by_it_and_only_at_its_places() -> None:
    standing, _ = after([], failing("run_failed/daily/all/1", "1"), failing("run_failed/daily/x/2", "2"),
                        failing("run_failed/dailyish/all/1", "1"), failing("run_failed/watch/all/"))  # fmt: skip
    standing, told = after(standing, passing("run_failed/daily", "1", "3"))
    assert told == ["recovered run_failed/daily/all/1"]
    standing, told = after(standing, passing("run_failed", "1", "2"))
    assert set(told) == {"recovered run_failed/daily/x/2", "recovered run_failed/dailyish/all/1"}
    assert [alert.key for alert in standing] == ["run_failed/watch/all/"], "it is of no day"


def test_what_lasts_is_one_alert_however_often_it_is_seen() -> None:
    lasting = failing("disk_filling", lasting=True)
    standing, told = after([], lasting)
    for minute in range(1, 60):
        standing, more = after(standing, lasting, now=NOW + timedelta(minutes=minute))
        told += more
    assert told == ["opened disk_filling"]
    assert standing[0].times == 1


def test_nothing_is_written_where_nothing_changed() -> None:
    standing, _ = after([], failing("disk_filling", lasting=True))
    assert judge(standing, [failing("disk_filling", lasting=True)], NOW + timedelta(minutes=1)) == []


@pytest.mark.parametrize(
    ("severity", "kinds", "told"),
    [("warning", ["check_failed"], True), ("critical", ["check_failed"], False), ("info", ["run_failed"], False)],
)
def test_a_channel_is_told_of_its_kinds_from_its_severity_on(severity: str, kinds: list[str], told: bool) -> None:
    [alert], _ = after([], failing())
    assert concerns(alert, severity, kinds) == told  # type: ignore[arg-type]


def test_into_the_last_place_of_the_hour_goes_all_that_is_left() -> None:
    assert next_sending([1, 2, 3], 0, 20) == [1]
    assert next_sending([1, 2, 3], 18, 20) == [1]
    assert next_sending([2, 3], 19, 20) == [2, 3]
    assert next_sending([3], 19, 20) == [3]
    assert next_sending([4], 20, 20) == []
    assert next_sending([], 0, 20) == []


def test_pauses_grow_from_the_next_look_to_an_hour_and_last_a_night() -> None:
    pauses = [pause_after(tries) for tries in range(1, MOST_TRIES)]
    assert pauses[0] == timedelta()
    assert pauses == sorted(pauses)
    assert max(pauses) == timedelta(hours=1)
    assert timedelta(hours=8) < sum(pauses, timedelta()) < timedelta(hours=12)
