"""Looks at a real platform: runs, checks, receivers on localhost, state in Postgres; what is told, once, to whom."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread
from typing import Any, NamedTuple

import dagster as dg
import psycopg
import pytest
from dagster._core.events import DagsterEvent
from dagster._daemon.types import DaemonHeartbeat

from data_platform.alerts import instance
from data_platform.alerts.config import Alerts
from data_platform.alerts.events import MOST_TRIES
from data_platform.alerts.look import Looked, look
from data_platform.assets.quality import WATCH
from data_platform.definitions import build_defs
from data_platform.quality.history import CheckRecord, remember
from data_platform_tests.alerts.receivers import Receiver, http_receiver
from data_platform_tests.shop import DAY, Shop, customer, line, open_shop, product

NOW = datetime(2024, 1, 6, 9, tzinfo=UTC)
HOOK = {"webhook": {"url": "HOOK_URL"}, "severity": "warning"}
ADDRESS = "jane.doe@planted.example"


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with http_receiver() as receiver:
        monkeypatch.setenv("HOOK_URL", receiver.url)
        yield receiver


class Eyes:
    """Looks at a shop, at minutes after NOW."""

    def __init__(self, shop: Shop, **channels: Mapping[str, Any]) -> None:
        self.shop = shop
        self.alerts = Alerts.model_validate({"channels": channels or {"hook": HOOK}, "ui": "http://ui:3000/"})

    def look(self, minute: float = 0) -> Looked:
        return look(self.shop.instance, self.shop.platform, self.alerts, NOW + timedelta(minutes=minute))


@pytest.fixture
def eyes(shop: Shop, receiver: Receiver) -> Eyes:
    eyes = Eyes(shop)
    assert eyes.look() == Looked()
    return eyes


def record(shop: Shop, rule: str, passed: bool, day: str | None = DAY, asset: str = "stg_orders", **of: Any) -> None:
    of = {"severity": "warning", "rows_failed": int(not passed), "rows_judged": 9} | of
    remember(
        shop.warehouse, "run-1",
        [CheckRecord(asset, rule, passed=passed, partition_date=date.fromisoformat(day) if day else None, **of)],
    )  # fmt: skip


# Checks


def test_a_failed_check_is_told_once_and_its_recovery_as_well(shop: Shop, eyes: Eyes, receiver: Receiver) -> None:
    record(shop, "few", False, severity="critical", note="Too few.")
    assert eyes.look(1) == Looked(opened=1, sent=1)
    record(shop, "few", False, "2024-01-06", severity="critical")
    assert eyes.look(2) == Looked()
    record(shop, "few", True, "2024-01-06", severity="critical")
    assert eyes.look(3) == Looked()
    record(shop, "few", True, severity="critical")
    assert eyes.look(4) == Looked(closed=1, sent=1)
    assert receiver.events() == [(event, "check_failed/stg_orders/few") for event in ("opened", "recovered")]
    opened = receiver.posted[0]
    assert opened["subject"] == "[data platform] stg_orders: the check few failed (critical)"
    assert "It fails for 1 of 9.\nToo few.\nWhere: 2024-01-05.\nSince 2024-01-06 09:01 UTC." in opened["text"]
    assert "What to do: `data-platform source test orders --date 2024-01-05`" in opened["text"]
    assert opened["url"] == "http://ui:3000/runs/run-1"
    assert eyes.look(5) == Looked()


def test_what_was_before_the_first_look_is_not_told(shop: Shop, receiver: Receiver) -> None:
    record(shop, "few", False)
    shop.run("stg_orders")
    eyes = Eyes(shop)
    assert (eyes.look(), eyes.look(1)) == (Looked(), Looked())


def test_a_channel_is_told_of_its_kinds_and_from_its_severity_on(shop: Shop, receiver: Receiver) -> None:
    eyes = Eyes(
        shop,
        loud={"webhook": {"url": "HOOK_URL"}},
        runs={**HOOK, "kinds": ["run_failed"]},
        all={**HOOK, "severity": "info"},
    )
    eyes.look()
    record(shop, "few", False)
    assert eyes.look(1).sent == 1
    record(shop, "many", False, severity="critical")
    assert eyes.look(2).sent == 2
    record(shop, "some", False, severity="info")
    assert eyes.look(3).sent == 1


def test_a_result_below_one_that_was_read_is_read_later(shop: Shop, eyes: Eyes) -> None:
    insert = (
        "INSERT INTO platform.check_results (asset, rule, severity, passed, run_id)"
        " VALUES ('stg_orders', 'slow', 'warning', false, 'run-2')"
    )
    with psycopg.connect(shop.warehouse) as slow:
        slow.execute(insert)
        record(shop, "few", False)
        assert eyes.look(1).opened == 0, "somebody writes"
    assert eyes.look(2).opened == 2


def test_who_is_overdue_is_over_as_of_today_and_not_as_of_a_run_by_hand(
    shop: Shop, eyes: Eyes, receiver: Receiver
) -> None:
    rule, asset = "yesterday_is_delivered", "raw_orders"
    shop.deliver("orders", line("o1"))
    shop.run("raw_orders")
    record(shop, rule, False, None, asset)
    assert eyes.look(1).opened == 1
    assert receiver.posted[0]["kind"] == "delivery_overdue"
    assert receiver.posted[0]["severity"] == "critical"
    record(shop, rule, True, "2024-01-03", asset)
    late = look(shop.instance, shop.platform, eyes.alerts, NOW + timedelta(days=2))
    assert late.closed == 0, "yesterday was the 7th of January"
    record(shop, rule, True, "2024-01-05", asset)
    assert eyes.look(3).closed == 1, "yesterday was the 5th of January, which is there"


def test_the_watch_is_believed_without_asking(shop: Shop, eyes: Eyes) -> None:
    record(shop, "quarantine_is_young", False, None)
    assert eyes.look(1).opened == 1
    run = dg.DagsterRun(job_name=WATCH)
    shop.instance.add_run(run)
    record_of = CheckRecord("stg_orders", "quarantine_is_young", "warning", True)
    remember(shop.warehouse, run.run_id, [record_of])
    assert eyes.look(2).closed == 1


# Runs of the real assets


def test_a_run_that_fails_is_told_with_its_reason_and_checks_that_did_not_run_are_not(
    shop: Shop, eyes: Eyes, receiver: Receiver
) -> None:
    shop.deliver("orders", *(line(f"o{n}", quantity="many", customer_id=ADDRESS) for n in range(20)))
    shop.deliver("products", product(product_name=ADDRESS))
    shop.deliver("customers", customer(email=ADDRESS, first_name="Janeplanted"))
    result = shop.run()
    assert not result.success
    eyes.look(1)
    told = {one["key"]: one for one in receiver.posted}
    failed = next(one for one in told.values() if one["kind"] == "run_failed")
    del told[failed["key"]]
    assert failed["run_id"] == result.run_id
    assert failed["where"] == [DAY]
    assert "stg_orders: " in failed["detail"]
    assert f"`data-platform backfill --from {DAY} --to {DAY}`" in failed["what_to_do"]
    rows = shop.query("SELECT DISTINCT asset || '/' || rule FROM platform.check_results WHERE NOT passed")
    assert {key.partition("/")[2] for key in told} <= {row[0] for row in rows}
    assert "check_failed/stg_orders/values_can_be_read" in told
    assert told["check_failed/stg_orders/values_can_be_read"]["severity"] == "warning"
    assert not any("fact_" in key or "mart_" in key for key in told), "they had no turn"
    assert "jane" not in receiver.texts().casefold()
    stored = json.dumps(shop.query("SELECT title, detail, advice FROM platform.alerts"))
    assert "jane" not in stored.casefold()

    shop.deliver("orders", line("o1"))
    assert shop.run().success
    receiver.posted.clear()
    eyes.look(2)
    closed = {one["key"] for one in receiver.posted if one["event"] == "recovered"}
    assert {failed["key"], "check_failed/stg_orders/values_can_be_read"} <= closed


def test_examples_are_those_of_the_check_and_masked(shop: Shop, eyes: Eyes, receiver: Receiver) -> None:
    rows = [line(f"o{n}") for n in range(30)]
    shop.deliver("orders", *rows, line("bad", quantity="many", customer_id=ADDRESS))
    shop.run("raw_orders,stg_orders")
    eyes.look(1)
    [told] = [one for one in receiver.posted if one["key"] == "check_failed/stg_orders/values_can_be_read"]
    assert "Examples, masked:\n- day 2024-01-05, " in told["detail"]
    assert "Every value can be read exactly as its column's type." in told["detail"]
    assert f"quarantine show --entity orders --from {DAY} --to {DAY}" in told["what_to_do"]
    assert "planted" not in receiver.texts()


@dg.asset
def breaks() -> None:
    raise ValueError("a row of Janeplanted, jane.doe@planted.example")


def test_an_error_that_nobody_foresaw_is_told_by_its_class_and_a_success_closes_it(
    shop: Shop, eyes: Eyes, receiver: Receiver
) -> None:
    shop_run(shop, breaks)
    eyes.look(1)
    [told] = receiver.posted
    assert told["detail"] == "breaks: ValueError"
    assert "janeplanted" not in receiver.texts().casefold()
    shop_run(shop, breaks)
    assert eyes.look(2).sent == 0

    @dg.asset(name="breaks")
    def mended() -> None:
        pass

    shop_run(shop, mended)
    assert eyes.look(3).closed == 1


def shop_run(shop: Shop, asset: dg.AssetsDefinition, **tags: str) -> None:
    dg.materialize([asset], instance=shop.instance, raise_on_error=False, tags=tags)


def test_a_run_that_is_tried_again_by_itself_is_not_told(shop: Shop, eyes: Eyes) -> None:
    shop_run(shop, breaks, **{"dagster/will_retry": "true"})
    assert eyes.look(1) == Looked()


def test_more_ends_of_runs_than_one_page_are_all_read_in_order(
    shop: Shop, eyes: Eyes, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "MOST_EVENTS", 2)

    @dg.asset(name="breaks")
    def mended() -> None:
        pass

    for asset in (breaks, breaks, breaks, mended, breaks):
        shop_run(shop, asset)
    for minute in range(1, 5):
        eyes.look(minute)
    assert [event for event, _ in receiver.events()] == ["opened", "recovered", "opened"]


def ended(shop: Shop, end: str, job: str = "daily_sales", tables: set[dg.AssetKey] | None = None, **tags: str) -> None:
    """A run that ended without a step."""
    run = dg.DagsterRun(job_name=job, asset_selection=frozenset(tables) if tables else None, tags=tags)
    shop.instance.add_run(run)
    event = DagsterEvent(event_type_value=end, job_name=job, message="killed")
    shop.instance.report_dagster_event(event, run.run_id)


FAILURE, SUCCESS = "PIPELINE_FAILURE", "PIPELINE_SUCCESS"


def test_a_failed_run_of_a_schedule_is_made_good_by_one_of_all_tables_over_its_days(
    shop: Shop, eyes: Eyes, receiver: Receiver
) -> None:
    tables = set(build_defs().resolve_asset_graph().materializable_asset_keys)
    a_range = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    ended(shop, FAILURE, **{"dagster/partition": DAY})
    ended(shop, FAILURE, job="quality_watch")
    assert eyes.look(1).opened == 2
    assert "No step failed: it was killed" in receiver.posted[0]["detail"]
    assert receiver.posted[0]["where"] == [DAY]
    ended(shop, SUCCESS, tables={dg.AssetKey("raw_orders")}, **{"dagster/partition": DAY})
    ended(shop, SUCCESS, tables=tables, **{"dagster/partition": "2024-01-04"})
    assert eyes.look(2) == Looked()
    ended(
        shop, SUCCESS, job="__ASSET_JOB", tables=tables, **dict(zip(a_range, ("2024-01-01", "2024-01-31"), strict=True))
    )
    assert eyes.look(3).closed == 1
    ended(shop, SUCCESS, job="quality_watch")
    assert eyes.look(4).closed == 1


# The machine


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_that_fills_up_is_told_and_does_not_flicker(
    eyes: Eyes, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute, percent in enumerate([80, 90, 95, 89, 91, 87]):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, used=percent: Usage(100, used, 100 - used))
        eyes.look(minute)
    assert receiver.events() == [("opened", "disk_filling"), ("recovered", "disk_filling")]
    assert "90 % full" in receiver.posted[0]["text"]


def test_a_daemon_that_is_silent_is_told_and_one_that_never_ran_is_not(
    shop: Shop, eyes: Eyes, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop.instance, "get_required_daemon_types", lambda: ["SENSOR", "SCHEDULER"], raising=False)
    beats: dict[str, DaemonHeartbeat] = {}
    monkeypatch.setattr(shop.instance, "get_daemon_heartbeats", lambda: beats)

    def beat(kind: str, minute: float) -> None:
        beats[kind] = DaemonHeartbeat((NOW + timedelta(minutes=minute)).timestamp(), kind, "1", None)

    eyes.look(1)
    beat("SENSOR", 1)
    beat("OLD", -99)
    eyes.look(5)
    eyes.look(10)
    beat("SENSOR", 11)
    eyes.look(11)
    assert receiver.events() == [("opened", "daemon_silent"), ("recovered", "daemon_silent")]


def test_lost_freshness_is_one_alert_with_its_tables(
    shop: Shop, eyes: Eyes, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.definitions.freshness import FreshnessState, FreshnessStateRecord, FreshnessStateRecordBody

    states = {"stg_orders": FreshnessState.WARN, "dim_date": FreshnessState.PASS}

    def records(_: object) -> dict[dg.AssetKey, FreshnessStateRecord]:
        return {
            dg.AssetKey(name): FreshnessStateRecord(
                entity_key=dg.AssetKey(name), freshness_state=state, updated_at=NOW,
                record_body=FreshnessStateRecordBody(metadata=None),
            )
            for name, state in states.items()
        }  # fmt: skip

    monkeypatch.setattr(shop.instance, "get_freshness_state_records", records)
    eyes.look(1)
    states |= {"stg_orders": FreshnessState.FAIL, "dim_date": FreshnessState.WARN}
    eyes.look(2)
    states |= dict.fromkeys(states, FreshnessState.PASS)
    eyes.look(3)
    assert [(one["event"], one["severity"], one["where"]) for one in receiver.posted] == [
        ("opened", "warning", ["stg_orders"]),
        ("opened", "critical", ["dim_date", "stg_orders"]),
        ("recovered", "critical", []),
    ]


# Sending


def test_a_receiver_that_was_down_is_told_all_when_it_is_up(
    shop: Shop, eyes: Eyes, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 503
    for number in range(3):
        record(shop, f"rule {number}", False)
    with caplog.at_level(logging.WARNING):
        looked = eyes.look(1)
    assert (looked.opened, looked.sent, len(looked.problems)) == (3, 0, 1)
    assert "HTTP 503" in looked.problems[0]
    assert "An alert waits for another try" in caplog.text
    assert "sEcReT" not in caplog.text + looked.in_words()
    receiver.status = 200
    assert eyes.look(2).sent == 3
    assert eyes.look(3).sent == 0
    assert [key[-1] for _, key in receiver.events()] == ["0", "1", "2"]


def test_what_can_never_be_sent_is_given_up_with_a_line_in_the_log(
    shop: Shop, eyes: Eyes, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 500
    record(shop, "few", False)
    for hour in range(3 * MOST_TRIES):
        eyes.look(1 + 61 * hour)
    assert f"An alert was given up after {MOST_TRIES} tries: stg_orders: the check few failed" in caplog.text
    receiver.status = 200
    assert eyes.look(10_000).sent == 0


def test_what_is_over_the_limit_of_an_hour_is_summed_up_in_one_message(shop: Shop, receiver: Receiver) -> None:
    eyes = Eyes(shop, hook={**HOOK, "per_hour": 4})
    eyes.look()
    for number in range(10):
        record(shop, f"rule {number}", False)
    assert eyes.look(1).sent == 4
    record(shop, "another", False)
    record(shop, "one more", False)
    assert eyes.look(2).sent == 0
    assert [event for event, _ in receiver.events()] == ["opened", "opened", "opened", "summary"]
    assert len(receiver.posted[-1]["alerts"]) == 7
    assert receiver.posted[-1]["subject"] == "[data platform] 7 alerts in one message, as there are many"
    assert "- stg_orders: the check rule 9 failed (warning)" in receiver.posted[-1]["text"]
    assert eyes.look(62).sent == 2
    assert receiver.posted[-1]["key"] == "check_failed/stg_orders/one more"


def test_many_lookers_at_once_tell_nothing_twice(shop: Shop, eyes: Eyes, receiver: Receiver) -> None:
    for number in range(8):
        record(shop, f"rule {number}", False)
    ready, looks, failures = Barrier(4), [], []

    def one() -> None:
        ready.wait()
        try:
            looks.append(eyes.look(1))
        except Exception as error:
            failures.append(error)

    threads = [Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    eyes.look(2)
    assert sum(looked.opened for looked in looks) == 8
    assert sorted(key for _, key in receiver.events()) == [f"check_failed/stg_orders/rule {n}" for n in range(8)]


def test_a_channel_that_is_taken_out_is_waited_for_no_longer(shop: Shop, receiver: Receiver) -> None:
    eyes = Eyes(shop)
    eyes.look()
    receiver.status = 500
    record(shop, "few", False)
    eyes.look(1)
    Eyes(shop, other=HOOK).look(2)
    receiver.status = 200
    assert Eyes(shop).look(3).sent == 0


# The sensor


def tick(shop: Shop, alerts_file: Path) -> str:
    chosen = replace(shop.platform.settings, alerts_file=alerts_file)
    platform = shop.platform.using(chosen)
    definitions = build_defs({"platform": platform})
    sensor = definitions.resolve_sensor_def("alerts")
    context = dg.build_sensor_context(instance=shop.instance, definitions=definitions, resources={"platform": platform})
    data = sensor.evaluate_tick(context)
    assert not data.run_requests
    return data.skip_message or ""


def test_the_sensor_looks_and_is_stopped_by_default(shop: Shop, receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    assert tick(shop, path) == f"There is no {path}: nobody is told of anything."
    path.write_text("channels: {hook: {severity: warning, webhook: {url: HOOK_URL}}}")
    assert "0 alerts opened" in tick(shop, path)
    record(shop, "few", False)
    assert tick(shop, path) == "1 alerts opened, 0 closed, 1 messages sent."
    sensor = build_defs({"platform": shop.platform}).resolve_sensor_def("alerts")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert sensor.minimum_interval_seconds == 60
