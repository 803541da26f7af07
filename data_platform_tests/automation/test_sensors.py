"""The sensors by their ticks: what they ask for, once, of real folders, a real S3, a real Postgres and a real API."""

import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import polars as pl
import psycopg
import pytest
from moto.server import ThreadedMotoServer

from data_platform.automation import asking, sensors
from data_platform.automation.asking import Cursor
from data_platform.days import spans
from data_platform.definitions import build_defs
from data_platform.lake import Stamp
from data_platform.resources import Platform
from data_platform.sources import arrivals
from data_platform.sources.arrivals import Reading, landed
from data_platform.sources.config import Source
from data_platform.sources.extraction import window_of
from data_platform.sources.landing import find_deliveries
from data_platform.sources.schema import json_schema
from data_platform.sources.watermark import told
from data_platform_tests.conftest import throw_away
from data_platform_tests.shop import Shop, customer, line, open_shop, product
from data_platform_tests.sources.rest_server import Api, Reply, serve

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)


class Clock:
    """What the sensors take for now; the days before it have ended."""

    def __init__(self) -> None:
        self.now = datetime(2024, 1, 10, 12, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sensors, "now", lambda: clock.now)
    return clock


@pytest.fixture
def shop(tmp_path: Path, clock: Clock) -> Iterator[Shop]:
    with open_shop(tmp_path, NOWHERE) as shop:
        yield shop


class Watch:
    """A sensor, tick by tick, with its cursor in between."""

    def __init__(self, shop: Shop, name: str) -> None:
        self.definitions = build_defs({"platform": shop.platform})
        self.sensor = self.definitions.resolve_sensor_def(name)
        self.instance, self.resources = shop.instance, {"platform": shop.platform}
        self.cursor: str | None = None
        self.said = ""
        self.requests: list[dg.RunRequest] = []

    def tick(self) -> list[tuple[str, str]]:
        """The first and the last day of each run that is asked for."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=self.definitions, resources=self.resources
        )
        data = self.sensor.evaluate_tick(context)
        self.cursor, self.said, self.requests = data.cursor, data.skip_message or "", list(data.run_requests or [])
        return [self.days(request) for request in self.requests]

    @staticmethod
    def days(request: dg.RunRequest) -> tuple[str, str]:
        if request.partition_key:
            return request.partition_key, request.partition_key
        first, last = (request.tags[name] for name in RANGE)
        return first, last


@pytest.fixture
def watch(shop: Shop) -> Watch:
    return Watch(shop, "landing_files")


def put(shop: Shop, name: str, text: str = "customer_id\nc1\n", changed: datetime = LONG_AGO) -> Path:
    path = shop.home / "landing" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (changed.timestamp(), changed.timestamp()))
    return path


def configure(shop: Shop, text: str) -> None:
    (shop.home / "sources.yaml").write_text(text)


# Landing files: what is asked for


def test_days_that_follow_one_another_are_one_run_with_the_tags_of_the_schedule(shop: Shop, watch: Watch) -> None:
    for name in (
        "orders/2024-01-03.csv",
        "customers/2024-01-04.csv",
        "orders/2024-01-05/a.csv",
        "orders/2024-01-08.csv",
    ):
        put(shop, name)
    assert watch.tick() == [("2024-01-03", "2024-01-05"), ("2024-01-08", "2024-01-08")]
    assert {request.tags["data_platform/job"] for request in watch.requests} == {"daily_sales"}
    assert len({request.run_key for request in watch.requests}) == 2
    assert watch.tick() == []
    assert watch.said == "Nothing new."


def test_a_day_is_asked_for_again_when_its_files_change(shop: Shop, watch: Watch) -> None:
    put(shop, "customers/2024-01-04.csv")
    put(shop, "customers/2024-01-05/a.csv")
    assert watch.tick() == [("2024-01-04", "2024-01-05")]
    put(shop, "customers/2024-01-04.csv", "customer_id\nc2\n", LONG_AGO + timedelta(hours=1))
    assert watch.tick() == [("2024-01-04", "2024-01-04")]
    put(shop, "customers/2024-01-05/b.csv")
    assert watch.tick() == [("2024-01-05", "2024-01-05")]
    assert watch.tick() == []


def test_a_file_that_goes_back_to_what_it_was_is_asked_for_by_another_key(shop: Shop, watch: Watch) -> None:
    keys: list[str | None] = []
    for text in ("customer_id\nc1\n", "customer_id\nc2\n", "customer_id\nc1\n"):
        put(shop, "customers/2024-01-04.csv", text, LONG_AGO + timedelta(hours=len(keys)))
        assert watch.tick() == [("2024-01-04", "2024-01-04")]
        keys += [request.run_key for request in watch.requests]
    assert len(set(keys)) == 3


def test_a_touched_file_and_one_that_is_taken_away_and_put_back_are_nothing_new(shop: Shop, watch: Watch) -> None:
    path = put(shop, "customers/2024-01-04.csv")
    assert len(watch.tick()) == 1
    os.utime(path, (LONG_AGO.timestamp() + 60, LONG_AGO.timestamp() + 60))
    assert watch.tick() == []
    noted = watch.cursor
    path.rename(shop.home / "aside.csv")
    assert watch.tick() == []
    (shop.home / "aside.csv").rename(path)
    assert watch.tick() == []
    assert watch.cursor == noted


def test_contents_are_read_of_changed_days_alone_and_up_to_a_limit(shop: Shop) -> None:
    put(shop, "customers/2024-01-04.csv", "x" * 60)
    put(shop, "customers/2024-01-05.csv", "x" * 60)
    source, days = Source(entity="customers"), {date(2024, 1, 4), date(2024, 1, 5)}

    def look(known: dict[date, str], reading: Reading) -> dict[date, str]:
        found = landed(
            str(shop.home / "landing"), source, known, days, now=datetime.now(UTC),
            held=lambda files: [], reading=reading,
        )  # fmt: skip
        return found.new

    reading = Reading(100)
    known = look({}, reading)
    assert [print_.endswith(arrivals.UNREAD) for print_ in known.values()] == [False, True]
    assert reading.left == 40
    assert look(known, reading) == {}
    assert reading.left == 40


def test_only_days_that_have_a_partition_are_asked_for(shop: Shop, watch: Watch, clock: Clock) -> None:
    for day in ("2023-12-31", "2024-01-09", "2024-01-10", "2024-01-11"):
        put(shop, f"customers/{day}.csv")
    assert watch.tick() == [("2024-01-09", "2024-01-09")]
    assert watch.tick() == []
    clock.now += timedelta(days=1)
    assert watch.tick() == [("2024-01-10", "2024-01-10")]


def test_what_raw_holds_already_is_not_asked_for(shop: Shop, watch: Watch, clock: Clock) -> None:
    path = put(shop, "customers/2024-01-04.csv")
    for day in ("2024-01-05", "2024-01-06"):
        put(shop, f"customers/{day}.csv")
    assert shop.run("raw_customers", "2024-01-04", "2024-01-05").success
    put(shop, "customers/2024-01-05.csv", "customer_id\nc2\n", datetime.now(UTC))  # as long as before, and younger
    clock.now = datetime.now(UTC) + timedelta(hours=1)
    assert watch.tick() == [("2024-01-05", "2024-01-06")]
    os.utime(path)
    clock.now += timedelta(hours=1)
    assert watch.tick() == []


def test_several_sources_of_one_entity_are_looked_at_each(shop: Shop, watch: Watch) -> None:
    configure(shop, "customers: {sources: {web: {}, tills: {}}}\n")
    put(shop, "customers/web/2024-01-04.csv")
    put(shop, "customers/tills/2024-01-06.csv")
    assert watch.tick() == [("2024-01-04", "2024-01-04"), ("2024-01-06", "2024-01-06")]
    assert set(json.loads(str(watch.cursor))["sources"]) == {"customers.sources.web", "customers.sources.tills"}
    assert watch.tick() == []


# Landing files: when they are complete


def test_files_wait_until_they_have_been_unchanged_for_a_minute_or_as_long_as_is_said(
    shop: Shop, watch: Watch, clock: Clock
) -> None:
    put(shop, "customers/2024-01-04.csv", changed=clock.now - timedelta(seconds=50))
    assert watch.tick() == []
    assert watch.said == "Nothing new. Not complete yet: 2024-01-04."
    clock.now += timedelta(seconds=10)
    assert watch.tick() == [("2024-01-04", "2024-01-04")]
    configure(shop, "customers: {complete: {unchanged_for: 2h}}\n")
    put(shop, "customers/2024-01-05.csv", changed=clock.now - timedelta(hours=1))
    assert watch.tick() == []
    clock.now += timedelta(hours=1)
    assert watch.tick() == [("2024-01-05", "2024-01-05")]


@pytest.mark.parametrize("name", ["b.csv.tmp", "b.csv.part", "b.csv.crdownload"])
def test_a_folder_with_an_unfinished_file_is_not_complete(shop: Shop, watch: Watch, name: str) -> None:
    put(shop, "customers/2024-01-04/a.csv")
    unfinished = put(shop, f"customers/2024-01-04/{name}")
    assert watch.tick() == []
    assert "Not complete yet: 2024-01-04." in watch.said
    unfinished.rename(unfinished.with_name("b.csv"))
    assert watch.tick() == [("2024-01-04", "2024-01-04")]


def test_a_file_that_is_itself_unfinished_is_none(shop: Shop, watch: Watch) -> None:
    put(shop, "customers/2024-01-04.csv.part")
    assert watch.tick() == []


@pytest.mark.parametrize(
    ("file", "marker", "there"),
    [
        ("2024-01-04.csv", "{date}.done", "2024-01-04.done"),
        ("2024-01-04/a.csv", "_SUCCESS", "2024-01-04/_SUCCESS"),
        ("2024-01-04/a.csv", "{date:%Y%m%d}.ok", "2024-01-04/20240104.ok"),
    ],
)
def test_files_wait_for_their_marker(shop: Shop, watch: Watch, file: str, marker: str, there: str) -> None:
    configure(shop, f'customers: {{complete: {{marker: "{marker}"}}}}\n')
    put(shop, f"customers/{file}")
    put(shop, f"customers/{there}.not")
    assert watch.tick() == []
    put(shop, f"customers/{there}", "")
    assert watch.tick() == [("2024-01-04", "2024-01-04")]
    assert watch.tick() == []


def test_a_marker_of_a_former_delivery_does_not_complete_the_next(shop: Shop, watch: Watch, clock: Clock) -> None:
    configure(shop, 'customers: {complete: {marker: "{date}.done"}}\n')
    put(shop, "customers/2024-01-04.csv", changed=clock.now)
    put(shop, "customers/2024-01-04.done", changed=clock.now)
    assert watch.tick() == [("2024-01-04", "2024-01-04")]
    clock.now += timedelta(seconds=30)
    put(shop, "customers/2024-01-04.csv", "customer_id\nc2\n", clock.now)
    assert watch.tick() == []
    put(shop, "customers/2024-01-04.done", changed=clock.now)
    assert watch.tick() == [("2024-01-04", "2024-01-04")]
    put(shop, "customers/2024-01-04.csv", "customer_id\nc3\n", clock.now + timedelta(seconds=1))
    clock.now += timedelta(seconds=61)
    assert watch.tick() == [("2024-01-04", "2024-01-04")]


def test_files_wait_for_their_manifest_and_another_manifest_is_a_change(shop: Shop, watch: Watch) -> None:
    configure(shop, 'customers: {complete: {manifest: "{date}.manifest.json"}}\n')
    put(shop, "customers/2024-01-04/a.csv")
    assert watch.tick() == []
    put(shop, "customers/2024-01-05.manifest.json", '{"rows": 1}')
    put(shop, "customers/2024-01-04.manifest.json", '{"rows": 2}')
    assert watch.tick() == [("2024-01-04", "2024-01-04")]
    put(shop, "customers/2024-01-04.manifest.json", '{"rows": 1}', LONG_AGO + timedelta(hours=1))
    assert watch.tick() == [("2024-01-04", "2024-01-04")]


def test_a_file_of_a_sender_whose_clock_is_ahead_waits_from_when_it_was_first_seen(
    shop: Shop, watch: Watch, clock: Clock
) -> None:
    ahead = clock.now + timedelta(hours=1)
    put(shop, "customers/2024-01-04.csv", changed=ahead)
    assert watch.tick() == []
    assert watch.said == (
        "Nothing new. Not complete yet: 2024-01-04. Of 2024-01-04 a file says that it changed in the future: the clock "
        "of its sender is ahead, and it waits from when it was first seen."
    )
    clock.now += timedelta(seconds=50)
    put(shop, "customers/2024-01-04.csv", "customer_id\nc1\nc2\n", ahead)  # it was not whole
    assert watch.tick() == []
    clock.now += timedelta(seconds=50)
    assert watch.tick() == []
    clock.now += timedelta(seconds=10)
    assert watch.tick() == [("2024-01-04", "2024-01-04")]
    assert json.loads(str(watch.cursor))["ahead"] == {}
    assert watch.tick() == []
    assert watch.said == "Nothing new."


def test_a_clock_that_is_ahead_does_not_shorten_what_is_said_nor_hold_up_a_marker(
    shop: Shop, watch: Watch, clock: Clock
) -> None:
    ahead = clock.now + timedelta(days=1)
    configure(shop, 'customers: {complete: {unchanged_for: 2h}}\norders: {complete: {marker: "{date}.done"}}\n')
    put(shop, "customers/2024-01-04.csv", changed=ahead)
    put(shop, "orders/2024-01-06.csv", changed=ahead)
    put(shop, "orders/2024-01-06.done", "", clock.now)  # of the clock of another sender
    assert watch.tick() == []
    clock.now += timedelta(minutes=1)
    assert watch.tick() == [("2024-01-06", "2024-01-06")]
    clock.now += timedelta(minutes=118)
    assert watch.tick() == []
    clock.now += timedelta(minutes=1)
    assert watch.tick() == [("2024-01-04", "2024-01-04")]


def test_an_address_in_the_name_of_a_file_that_is_passed_over_is_not_shown(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    put(shop, "customers/anna@example.com.csv")
    put(shop, "customers/2024-01-04/anna@example.com.txt")
    find_deliveries(str(shop.home / "landing"), "customers", [date(2024, 1, 4)])
    assert caplog.text.count("passed over: •••;") == 2
    assert "anna" not in caplog.text


# Landing files: many, broken, rejected


def test_five_thousand_days_of_files_are_listed_once_a_tick_and_remembered_in_little(
    shop: Shop, watch: Watch, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(5_000)]
    for day in days:
        put(shop, f"orders/{day}.csv")
    clock.now = datetime(2040, 1, 1, tzinfo=UTC)
    listed: list[str] = []
    scandir = os.scandir

    def counted(path: Any) -> Any:
        listed.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    asked = watch.tick()
    assert (asked[0], asked[-1], len(asked)) == (("2024-01-01", "2024-12-31"), ("2037-01-10", "2037-09-08"), 14)
    assert sorted(listed) == ["customers", "orders", "products"]
    assert len(str(watch.cursor)) < 100_000
    assert Cursor.from_json(watch.cursor).to_json() == watch.cursor
    put(shop, f"orders/{days[70]}.csv", "order_id\n")
    assert watch.tick() == [(str(days[70]), str(days[70]))]
    assert len(listed) == 6


def test_a_tick_asks_for_some_runs_and_the_next_for_the_others(
    shop: Shop, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MOST_RUNS", 2)
    monkeypatch.setattr(asking, "MOST_DAYS", 2)
    for day in (2, 3, 4, 6, 8):
        put(shop, f"orders/2024-01-0{day}.csv")
    assert watch.tick() == [("2024-01-02", "2024-01-03"), ("2024-01-04", "2024-01-04")]
    assert watch.tick() == [("2024-01-06", "2024-01-06"), ("2024-01-08", "2024-01-08")]
    assert watch.tick() == []


def test_a_tick_that_is_repeated_asks_by_the_same_keys(shop: Shop, watch: Watch) -> None:
    put(shop, "orders/2024-01-04.csv")
    assert len(watch.tick()) == 1
    put(shop, "orders/2024-01-06.csv")
    before = watch.cursor
    assert len(watch.tick()) == 1
    [first], watch.cursor = watch.requests, before
    assert len(watch.tick()) == 1
    assert watch.requests[0].run_key == first.run_key


@pytest.mark.parametrize("lost", [None, "", '{"version": 0}'])
def test_a_cursor_that_was_lost_asks_by_keys_that_are_new(
    shop: Shop, watch: Watch, clock: Clock, lost: str | None
) -> None:
    put(shop, "orders/2024-01-04.csv")
    assert len(watch.tick()) == 1
    [first], watch.cursor = watch.requests, lost
    clock.now += timedelta(seconds=60)
    assert len(watch.tick()) == 1
    assert watch.requests[0].run_key != first.run_key


@pytest.mark.parametrize(
    "cursor",
    ["", "2024-01-04", "[]", "{}", '{"version": 2}', '{"version":1,"asked":0,"sources":{"orders":{"2024-01-04":"x"}}}',
     '{"version":1,"asked":0,"sources":{"orders":{"then":"0123456789abcdef"}}}',
     '{"version":1,"asked":0,"sources":[]}', "[" * 100_000,
     '{"version":1,"asked":0,"sources":{},"again":{"orders":{"2024-01-04":[1]}}}',
     '{"version":1,"asked":0,"sources":{},"again":{"orders":7}}',
     '{"version":1,"asked":0,"sources":{},"again":{"orders":{"2024-01-04":[3,1]}}}',
     '{"version":1,"asked":0,"sources":{},"ahead":{"orders":{"then":["x",1]}}}',
     '{"version":1,"asked":0,"sources":{"orders":{"9999-12-31":"0123456789abcdef0123456789abcdef"}}}'],
)  # fmt: skip
@pytest.mark.parametrize("name", ["landing_files", "source_watermarks"])
def test_a_broken_cursor_starts_anew(shop: Shop, cursor: str, name: str) -> None:
    watch = Watch(shop, name)
    put(shop, "orders/2024-01-04.csv")
    watch.cursor = cursor
    assert watch.tick() == ([("2024-01-04", "2024-01-04")] if name == "landing_files" else [])
    assert json.loads(str(watch.cursor))["version"] == 1


def test_a_rejected_delivery_is_asked_for_again_once_it_changes(shop: Shop, watch: Watch) -> None:
    put(shop, "customers/2024-01-04.csv", "nothing\nc1\n")
    assert watch.tick() == [("2024-01-04", "2024-01-04")]
    assert not shop.run("raw_customers", "2024-01-04").success
    assert watch.tick() == []
    put(shop, "customers/2024-01-04.csv", changed=LONG_AGO + timedelta(hours=1))
    assert watch.tick() == [("2024-01-04", "2024-01-04")]


def test_a_folder_that_cannot_be_listed_is_told_and_asked_the_next_time(shop: Shop, watch: Watch) -> None:
    put(shop, "orders/2024-01-04.csv")
    assert len(watch.tick()) == 1
    noted = watch.cursor
    (shop.home / "landing").rename(shop.home / "aside")
    (shop.home / "landing").mkdir()
    for entity in ("orders", "products"):
        (shop.home / "landing" / entity).write_text("no folder")
    assert watch.tick() == []
    assert "orders cannot be listed" in watch.said
    assert watch.cursor == noted
    for entity in ("orders", "products"):
        (shop.home / "landing" / entity).unlink()
    (shop.home / "landing").rmdir()
    (shop.home / "aside").rename(shop.home / "landing")
    put(shop, "orders/2024-01-05.csv")
    assert watch.tick() == [("2024-01-05", "2024-01-05")]


def test_one_place_that_cannot_be_listed_holds_up_no_other(shop: Shop, watch: Watch) -> None:
    put(shop, "orders/2024-01-04.csv")
    (shop.home / "landing" / "products").write_text("no folder")
    assert watch.tick() == [("2024-01-04", "2024-01-04")]


def test_sources_that_cannot_be_read_leave_the_cursor_and_count_again_once_they_are_mended(
    shop: Shop, watch: Watch
) -> None:
    put(shop, "orders/2024-01-04.csv")
    assert len(watch.tick()) == 1
    noted = watch.cursor
    configure(shop, "order: {}\n")
    assert watch.tick() == []
    assert "'order' is no entity" in watch.said
    configure(shop, "")
    assert watch.tick() == []
    assert watch.cursor == noted


# S3


KEY, SECRET = "a-key", "geheim/und+lang="


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "CRM_KEY": KEY, "CRM_SECRET": SECRET,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="eu-central-1", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="crm", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield f"http://{host}:{port}", client
    for one in client.list_objects_v2(Bucket="crm").get("Contents", []):
        client.delete_object(Bucket="crm", Key=one["Key"])
    client.delete_bucket(Bucket="crm")
    server.stop()


def test_files_of_an_object_store_are_asked_for_once(shop: Shop, watch: Watch, bucket: tuple[str, Any]) -> None:
    endpoint, client = bucket
    configure(
        shop,
        'customers: {files: {url: "s3://crm/in/{date}.csv", complete: {marker: "{date}.done"}, region: eu-central-1, '
        f"endpoint: {endpoint}, credentials: {{key: CRM_KEY, secret: CRM_SECRET}}}}}}\n",
    )
    for name in ("in/2024-01-04.csv", "in/2024-01-05.csv", "in/2024-01-04.done"):
        client.put_object(Bucket="crm", Key=name, Body=b"customer_id\nc1\n")
    assert watch.tick() == [("2024-01-04", "2024-01-04")]
    client.put_object(Bucket="crm", Key="in/2024-01-05.done", Body=b"")
    client.put_object(Bucket="crm", Key="in/2024-01-04.csv", Body=b"customer_id\nc1\n")  # once more the same
    assert watch.tick() == [("2024-01-05", "2024-01-05")]
    client.put_object(Bucket="crm", Key="in/2024-01-04.csv", Body=b"customer_id\nc2\n")
    assert watch.tick() == [("2024-01-04", "2024-01-04")]
    assert SECRET not in str(watch.cursor)


def test_a_store_that_cannot_be_reached_is_told_without_secrets(
    shop: Shop, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_KEY", KEY)
    monkeypatch.setenv("CRM_SECRET", SECRET)
    configure(
        shop,
        'customers: {files: {url: "s3://crm/in/{date}.csv", region: eu-central-1, endpoint: "http://127.0.0.1:1", '
        "credentials: {key: CRM_KEY, secret: CRM_SECRET}}}\n",
    )
    assert watch.tick() == []
    assert watch.said.startswith("customers.files: s3://crm/in could not be read")
    assert SECRET not in watch.said


def test_a_landing_folder_and_a_lake_in_an_object_store_are_watched(
    tmp_path: Path, clock: Clock, bucket: tuple[str, Any]
) -> None:
    class Stored(Shop):
        @property
        def platform(self) -> Platform:
            return Platform.using(
                replace(super().platform.settings, landing_url="s3://crm/landing", lake_url="s3://crm/lake")
            )

    _, client = bucket
    clock.now = datetime.now(UTC) + timedelta(hours=1)
    with dg.DagsterInstance.ephemeral() as instance:
        shop = Stored(tmp_path, NOWHERE, instance)
        watch = Watch(shop, "landing_files")
        client.put_object(Bucket="crm", Key="landing/customers/2024-01-04.csv", Body=b"customer_id\nc1\n")
        assert watch.tick() == [("2024-01-04", "2024-01-04")]
        client.put_object(Bucket="crm", Key="landing/customers/2024-01-04.csv", Body=b"customer_id\nc1\n")
        assert watch.tick() == []
        configure(shop, "customers: {complete: {marker: _SUCCESS}}\n")
        client.put_object(Bucket="crm", Key="landing/customers/2024-01-05/a.csv", Body=b"customer_id\nc1\n")
        assert watch.tick() == []
        client.put_object(Bucket="crm", Key="landing/customers/2024-01-05/_SUCCESS", Body=b"")
        assert watch.tick() == [("2024-01-05", "2024-01-05")]
        assert shop.run("raw_customers", "2024-01-05").success
        watch.cursor = None
        configure(shop, "")
        assert watch.tick() == [("2024-01-04", "2024-01-04")]  # of the other raw holds what lies there


# Databases


@pytest.fixture
def watermarks(shop: Shop) -> Watch:
    return Watch(shop, "source_watermarks")


@pytest.fixture
def database(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with throw_away(server) as url:
        monkeypatch.setenv("SHOP_DATABASE", url)
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE crm (customer_id text, changed timestamptz)")
        yield url


def changed(url: str, *moments: str) -> None:
    with psycopg.connect(url) as connection:
        for moment in moments:
            connection.execute("INSERT INTO crm VALUES (%s, %s)", [moment, moment])


TABLE = "customers: {sql: {url: SHOP_DATABASE, table: crm, window: changed, lookback: 15m}}\n"
QUERY = (
    'customers: {sql: {url: SHOP_DATABASE, query: "WITH c AS (SELECT * FROM crm) SELECT * FROM c WHERE '
    'changed >= :since AND changed < :before -- and no more"}}\n'
)


@pytest.mark.parametrize("declared", [TABLE, QUERY], ids=["table", "query"])
def test_the_days_since_the_watermark_are_asked_for_once_something_is_there(
    shop: Shop, watermarks: Watch, database: str, clock: Clock, declared: str
) -> None:
    configure(shop, declared)
    assert watermarks.tick() == []
    changed(database, "2024-01-10T09:00Z")  # of the day that has not ended
    assert watermarks.tick() == []
    changed(database, "2024-01-04T09:00Z")
    assert watermarks.tick() == [("2024-01-01", "2024-01-09")]
    assert watermarks.requests[0].tags["data_platform/job"] == "daily_sales"
    assert watermarks.tick() == []
    clock.now += timedelta(days=1)
    assert watermarks.tick() == [("2024-01-10", "2024-01-10")]
    clock.now += timedelta(days=3)
    assert watermarks.tick() == []
    changed(database, "2024-01-12T09:00Z")
    assert watermarks.tick() == [("2024-01-11", "2024-01-13")]


def test_rows_that_are_committed_late_ask_for_their_day_again(shop: Shop, watermarks: Watch, database: str) -> None:
    configure(shop, TABLE)
    changed(database, "2024-01-09T09:00Z")
    assert len(watermarks.tick()) == 1
    changed(database, "2024-01-09T23:59Z")
    assert watermarks.tick() == [("2024-01-09", "2024-01-09")]
    changed(database, "2024-01-08T23:50Z")  # of a day that the 15 minutes reach into
    assert watermarks.tick() == [("2024-01-08", "2024-01-08")]
    changed(database, "2024-01-05T09:00Z")
    assert watermarks.tick() == []


def test_at_first_the_watermark_is_what_raw_holds(shop: Shop, watermarks: Watch, database: str) -> None:
    configure(shop, TABLE)
    changed(database, "2024-01-02T09:00Z", "2024-01-07T09:00Z", "2024-01-08T09:00Z")
    assert shop.run("raw_customers", "2024-01-06", "2024-01-07").success
    assert watermarks.tick() == [("2024-01-06", "2024-01-09")]
    assert watermarks.tick() == []


def test_rows_that_were_committed_before_the_first_tick_are_asked_for(
    shop: Shop, watermarks: Watch, database: str
) -> None:
    configure(shop, TABLE)
    changed(database, "2024-01-09T09:00Z")
    assert shop.run("raw_customers", "2024-01-07", "2024-01-09").success
    changed(database, "2024-01-09T23:59Z")
    assert watermarks.tick() == [("2024-01-08", "2024-01-09")]  # two days: the lookback reaches into the other
    assert watermarks.tick() == []
    changed(database, "2024-01-09T23:58Z")
    assert watermarks.tick() == [("2024-01-09", "2024-01-09")]


def test_of_several_sources_the_watermark_is_what_raw_holds_of_each(
    shop: Shop, watermarks: Watch, database: str
) -> None:
    configure(shop, "customers: {sources: {tills: {}}}\n")
    put(shop, "customers/tills/2024-01-07.csv", "customer_id,segment,country\nc1,retail,DE\n")
    assert shop.run("raw_customers", "2024-01-07").success
    configure(
        shop,
        "customers: {sources: {tills: {}, crm: {sql: {url: SHOP_DATABASE, table: crm, window: changed}}}}\n",
    )
    changed(database, "2024-01-05T09:00Z")
    assert watermarks.tick() == [("2024-01-01", "2024-01-09")]


def test_days_are_those_of_the_business_time_zone(tmp_path: Path, database: str) -> None:
    source = Source.model_validate(
        {"entity": "customers", "sql": {"url": "SHOP_DATABASE", "table": "crm", "window": "changed"}}
    )
    changed(database, "2024-01-04T23:30Z")
    assert not told(source, window_of(date(2024, 1, 4), "Europe/Berlin")).anything
    assert told(source, window_of(date(2024, 1, 5), "Europe/Berlin")).anything


def test_a_database_of_texts_is_asked_as_well(shop: Shop, watermarks: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shop.home / "crm.db"
    monkeypatch.setenv("SHOP_DATABASE", f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE crm (customer_id, changed)")
        connection.execute("INSERT INTO crm VALUES ('c1', '2024-01-09 10:00:00')")
    connection.close()
    configure(shop, TABLE)
    assert watermarks.tick() == [("2024-01-01", "2024-01-09")]
    assert watermarks.tick() == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            f"postgresql://shop:{SECRET.replace('/', '%2F')}@127.0.0.1:1/shop",
            "customers.sql could not be read to the end",
        ),
        ("", "names the environment variable SHOP_DATABASE, which is not set"),
    ],
)
def test_a_database_that_cannot_be_reached_is_told_without_secrets_and_the_watermark_stays(
    shop: Shop, watermarks: Watch, database: str, monkeypatch: pytest.MonkeyPatch, url: str, said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    configure(shop, TABLE)
    changed(database, "2024-01-09T09:00Z")
    assert len(watermarks.tick()) == 1
    noted = watermarks.cursor
    monkeypatch.setenv("SHOP_DATABASE", url)
    caplog.set_level(logging.DEBUG)
    assert watermarks.tick() == []
    assert said in watermarks.said
    assert watermarks.cursor == noted
    for text in (watermarks.said, str(watermarks.cursor), caplog.text):
        assert "geheim" not in text


# APIs


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    with serve(Api()) as api:
        yield api


def of_api(api: Api, **more: Any) -> str:
    rest = {"url": f"{api.url}/orders", "records": "data", "pages": {"page": "page", "size": {"per_page": 100}},
            "window": {"since": "updated_since", "before": "updated_before"},
            "auth": {"bearer": "SHOP_TOKEN"}}  # fmt: skip
    return json.dumps({"customers": {"rest": {name: value for name, value in {**rest, **more}.items() if value}}})


def test_an_api_is_asked_for_one_record_of_what_is_after_the_watermark(
    shop: Shop, watermarks: Watch, api: Api, clock: Clock
) -> None:
    configure(shop, of_api(api))
    api.records = [{"customer_id": "c9", "updated_at": "2024-01-10T09:00:00Z"}]
    assert watermarks.tick() == []
    [request] = api.requests
    assert request.params == {
        "page": "1", "per_page": "1", "updated_since": "2024-01-01T00:00:00Z", "updated_before": "2024-01-10T00:00:00Z"
    }  # fmt: skip
    api.records.append({"customer_id": "c1", "updated_at": "2024-01-05T09:00:00Z"})
    assert watermarks.tick() == [("2024-01-01", "2024-01-09")]
    assert watermarks.tick() == []
    clock.now += timedelta(days=1)
    assert watermarks.tick() == [("2024-01-10", "2024-01-10")]
    assert "geheim" not in str(watermarks.cursor)


def test_an_api_that_counts_tells_of_late_records(shop: Shop, watermarks: Watch, api: Api) -> None:
    configure(shop, of_api(api, count="meta.total"))
    api.records = [{"customer_id": "c1", "updated_at": "2024-01-09T09:00:00Z"}]
    assert len(watermarks.tick()) == 1
    api.records.append({"customer_id": "c2", "updated_at": "2024-01-09T23:00:00Z"})
    assert watermarks.tick() == [("2024-01-09", "2024-01-09")]
    assert watermarks.tick() == []


def test_an_api_that_tells_the_newest_first_is_asked_for_the_newest(
    shop: Shop, watermarks: Watch, api: Api, clock: Clock
) -> None:
    configure(shop, of_api(api, window=None, until="updated_at"))
    api.records = [{"customer_id": "c1", "updated_at": "2023-12-05T09:00:00Z"}]
    assert watermarks.tick() == []
    api.records.insert(0, {"customer_id": "c2", "updated_at": "2024-01-10T09:00:00Z"})
    assert watermarks.tick() == [("2024-01-01", "2024-01-09")]
    assert watermarks.tick() == []
    clock.now += timedelta(days=1)
    assert watermarks.tick() == [("2024-01-10", "2024-01-10")]


def test_an_api_that_does_not_answer_is_told_and_asked_once_a_tick(shop: Shop, watermarks: Watch, api: Api) -> None:
    configure(shop, of_api(api))
    api.instead = [Reply(status=503)]
    assert watermarks.tick() == []
    assert "answers 503" in watermarks.said
    assert len(api.requests) == 1


def test_a_source_without_a_window_has_no_watermark(shop: Shop, watermarks: Watch, api: Api) -> None:
    configure(shop, of_api(api, window=None))
    assert watermarks.tick() == []
    assert api.requests == []


# What is asked for is run


def test_the_run_that_is_asked_for_brings_the_rows_into_the_warehouse(
    tmp_path: Path, warehouse_url: str, clock: Clock
) -> None:
    with open_shop(tmp_path, warehouse_url) as shop:
        old = (LONG_AGO.timestamp(), LONG_AGO.timestamp())
        for day in ("2024-01-04", "2024-01-05"):
            for path in (
                shop.deliver("orders", line(f"o-{day}", day=day), day=day),
                shop.deliver("products", product(), day=day),
                shop.deliver("customers", customer(), day=day),
            ):
                os.utime(path, old)
        watch = Watch(shop, "landing_files")
        assert watch.tick() == [("2024-01-04", "2024-01-05")]
        [request] = watch.requests
        job = watch.definitions.resolve_job_def("daily_sales")
        result = job.execute_in_process(instance=shop.instance, tags=dict(request.tags), raise_on_error=False)
        assert result.success
        assert shop.query("SELECT order_id FROM warehouse.fact_sales ORDER BY 1") == [
            ("o-2024-01-04",),
            ("o-2024-01-05",),
        ]
        assert watch.tick() == []
        # A cursor that was lost: raw holds all of it. (The files are older than raw.)
        watch.cursor = None
        assert watch.tick() == []


# What was asked for and did not come


@pytest.fixture
def kept(tmp_path: Path, warehouse_url: str, clock: Clock) -> Iterator[Shop]:
    """A shop whose warehouse is there."""
    with open_shop(tmp_path, warehouse_url) as shop:
        yield shop


def asked_after(watch: Watch, clock: Clock, *minutes: int) -> list[list[tuple[str, str]]]:
    """What is asked for by ticks that are so many minutes apart."""
    found = []
    for number in minutes:
        clock.now += timedelta(minutes=number)
        found.append(watch.tick())
    return found


FOURTH = [("2024-01-04", "2024-01-04")]


def test_a_day_that_did_not_come_into_raw_is_asked_for_again_three_times(kept: Shop, clock: Clock) -> None:
    watch = Watch(kept, "landing_files")
    put(kept, "customers/2024-01-04.csv")
    keys = []
    assert watch.tick() == FOURTH
    keys += [request.run_key for request in watch.requests]
    for early, late in ((9, 1), (59, 1), (359, 1)):
        assert asked_after(watch, clock, early, late) == [[], FOURTH]
        keys += [request.run_key for request in watch.requests]
    assert asked_after(watch, clock, 9, 60, 360, 1440, 14400) == [[]] * 5
    assert len(set(keys)) == 4
    assert json.loads(str(watch.cursor))["again"] == {}
    put(kept, "customers/2024-01-04.csv", "customer_id\nc2\n", LONG_AGO + timedelta(hours=1))
    assert watch.tick() == FOURTH
    assert asked_after(watch, clock, 10) == [FOURTH]


def test_a_day_whose_run_failed_is_asked_for_again_until_raw_has_it(kept: Shop, clock: Clock) -> None:
    watch = Watch(kept, "landing_files")
    put(kept, "customers/2024-01-04.csv", "customer_id,segment,country\nc1,retail,DE\n")
    put(kept, "customers/2024-01-06.csv", "customer_id,segment,country\nc1,retail,DE\n")
    assert watch.tick() == [*FOURTH, ("2024-01-06", "2024-01-06")]
    (kept.home / "lake").write_text("no folder")  # the lake is away
    assert not kept.run("raw_customers", "2024-01-04").success
    (kept.home / "lake").unlink()
    assert kept.run("raw_customers", "2024-01-06").success
    assert asked_after(watch, clock, 10) == [FOURTH]
    assert kept.run("raw_customers", "2024-01-04").success
    assert asked_after(watch, clock, 60, 360) == [[], []]
    assert json.loads(str(watch.cursor))["again"] == {}


def test_a_rejected_day_is_not_asked_for_again_before_it_changes(kept: Shop, clock: Clock) -> None:
    watch = Watch(kept, "landing_files")
    put(kept, "customers/2024-01-04.csv", "nothing\nc1\n")
    assert watch.tick() == FOURTH
    assert not kept.run("raw_customers", "2024-01-04").success
    assert asked_after(watch, clock, 10, 60, 360) == [[], [], []]
    assert json.loads(str(watch.cursor))["again"] == {}


@pytest.mark.parametrize("ranged", [False, True])
def test_a_day_that_a_run_is_to_take_is_not_asked_for_again(kept: Shop, clock: Clock, ranged: bool) -> None:
    watch = Watch(kept, "landing_files")
    put(kept, "customers/2024-01-04.csv")
    assert watch.tick() == FOURTH
    job = watch.definitions.resolve_job_def("daily_sales")
    tags = (
        dict(zip(RANGE, ("2024-01-03", "2024-01-05"), strict=True)) if ranged else {"dagster/partition": "2024-01-04"}
    )
    run = kept.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    assert asked_after(watch, clock, 10, 60) == [[], []]
    kept.instance.report_run_failed(run)
    assert asked_after(watch, clock, 1) == [FOURTH]


def test_no_try_is_wasted_while_the_warehouse_does_not_answer(shop: Shop, watch: Watch, clock: Clock) -> None:
    put(shop, "customers/2024-01-04.csv")
    assert watch.tick() == FOURTH
    noted = watch.cursor
    assert asked_after(watch, clock, 10) == [[]]
    assert "warehouse" in watch.said.lower()
    assert watch.cursor == noted


def test_files_that_were_taken_away_are_not_asked_for_again(kept: Shop, clock: Clock) -> None:
    watch = Watch(kept, "landing_files")
    path = put(kept, "customers/2024-01-04.csv")
    assert watch.tick() == FOURTH
    path.rename(kept.home / "aside.csv")
    assert asked_after(watch, clock, 10) == [[]]
    (kept.home / "aside.csv").rename(path)
    assert asked_after(watch, clock, 1) == [FOURTH]


def test_only_of_the_newest_days_is_one_asked_for_again(kept: Shop, clock: Clock) -> None:
    watch = Watch(kept, "landing_files")
    clock.now = datetime(2024, 3, 1, 12, tzinfo=UTC)
    for day in ("2024-01-04", "2024-01-30", "2024-01-31"):
        put(kept, f"orders/{day}.csv")
    assert watch.tick() == [*FOURTH, ("2024-01-30", "2024-01-31")]
    assert asked_after(watch, clock, 10) == [[("2024-01-30", "2024-01-31")]]
    clock.now += timedelta(days=1)
    assert watch.tick() == [("2024-01-31", "2024-01-31")]


def test_a_day_of_a_database_whose_run_failed_is_asked_for_again(kept: Shop, clock: Clock, database: str) -> None:
    watch = Watch(kept, "source_watermarks")
    configure(kept, TABLE)
    changed(database, "2024-01-05T09:00Z", "2024-01-09T09:00Z")
    assert watch.tick() == [("2024-01-01", "2024-01-09")]
    assert kept.run("raw_customers", "2024-01-01", "2024-01-04").success
    assert kept.run("raw_customers", "2024-01-06", "2024-01-07").success
    missed = [("2024-01-05", "2024-01-05"), ("2024-01-08", "2024-01-09")]
    assert asked_after(watch, clock, 9, 1, 59, 1, 360, 1) == [[], missed, [], missed, missed, []]
    clock.now += timedelta(days=1)
    assert watch.tick() == []
    changed(database, "2024-01-10T09:00Z")
    assert watch.tick() == [("2024-01-10", "2024-01-10")]


# What is declared


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"complete": {}}, "exactly one of marker, manifest and unchanged_for"),
        ({"complete": {"marker": "a/b"}}, "must be the name of one object beside the files"),
        ({"complete": {"manifest": "m.json"}}, r"the manifest of landing files is \{date\}.manifest.json"),
        ({"complete": {"marker": "x"}, "sql": {"url": "A", "table": "t"}}, "and `sql` is asked: take it out"),
        ({"complete": {"marker": "x"}, "files": {"url": "s3://b/{date}"}}, "put it under `files:`"),
        ({"complete": {"marker": "x"}, "sources": {"a": {"sql": {"url": "A", "table": "t"}}}}, "`sources` is asked"),
    ],
)
def test_completeness_that_cannot_be_meant_is_refused(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Source.model_validate({"entity": "customers", **declared})


def test_completeness_of_an_entity_holds_for_those_of_its_sources_that_land() -> None:
    source = Source.model_validate(
        {
            "entity": "customers",
            "complete": {"marker": "x"},
            "sources": {"a": {}, "b": {"sql": {"url": "A", "table": "t"}}},
        }
    )
    assert [part.complete is not None for part in source.sources.values()] == [True, False]


def test_completeness_is_in_the_schema_of_the_file() -> None:
    assert "Complete" in json_schema()["$defs"]
    assert "complete" in json_schema()["properties"]["orders"]["properties"]


def test_spans_are_days_that_follow_one_another() -> None:
    def of(*numbers: int) -> list[date]:
        return [date(2024, 1, number) for number in numbers]

    assert spans(of(5, 1, 2, 3, 7)) == [of(1, 2, 3), of(5), of(7)]
    assert spans(of(1, 2, 3), most=2) == [of(1, 2), of(3)]
    assert spans([]) == []


# Missing partitions


def held(shop: Shop, entity: str, *days: int) -> None:
    for day in days:
        stamp = Stamp(content=f"{day}")
        shop.lake.promote([shop.lake.write_aside(f"raw_{entity}", date(2024, 1, day), pl.DataFrame(), stamp)])


def test_days_that_no_run_looked_at_are_asked_for_once(shop: Shop, clock: Clock) -> None:
    watch = Watch(shop, "missing_partitions")
    assert watch.sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert watch.tick() == []  # what never ran is a person's to begin
    held(shop, "orders", 2, 3, 6, 8)
    held(shop, "customers", 4, 5, 6, 7, 8)
    assert watch.tick() == [("2024-01-04", "2024-01-05"), ("2024-01-07", "2024-01-07"), ("2024-01-09", "2024-01-09")]
    assert {request.tags["data_platform/job"] for request in watch.requests} == {"daily_sales"}
    assert watch.tick() == []
    held(shop, "orders", 4, 5)
    assert watch.tick() == []
    shop.lake.path("raw_orders", date(2024, 1, 4)).unlink()  # type: ignore[union-attr]
    assert watch.tick() == [("2024-01-04", "2024-01-04")]


def test_yesterday_is_the_schedules_until_the_watch_misses_it(shop: Shop, clock: Clock) -> None:
    watch = Watch(shop, "missing_partitions")
    held(shop, "orders", 7)
    clock.now = datetime(2024, 1, 10, 8, 59, tzinfo=UTC)
    assert watch.tick() == [("2024-01-08", "2024-01-08")]
    clock.now = datetime(2024, 1, 10, 9, tzinfo=UTC)
    assert watch.tick() == [("2024-01-09", "2024-01-09")]


def test_a_tick_asks_for_some_missing_days_and_the_next_for_the_others(
    shop: Shop, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MOST_RUNS", 1)
    monkeypatch.setattr(asking, "MOST_DAYS", 3)
    watch = Watch(shop, "missing_partitions")
    held(shop, "orders", 2)
    assert watch.tick() == [("2024-01-03", "2024-01-05")]
    assert watch.tick() == [("2024-01-06", "2024-01-08")]
    assert watch.tick() == [("2024-01-09", "2024-01-09")]
    assert watch.tick() == []
