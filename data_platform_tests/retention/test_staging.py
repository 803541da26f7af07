"""Archived staging is staging: read, published, verified and replaced as if it had never been moved."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import psycopg
import pytest
from moto.server import ThreadedMotoServer

from data_platform.bucket import Bucket
from data_platform.contracts import STAGED
from data_platform.errors import SettingsError, SourceUnavailable
from data_platform.lake import DELETED, Lake, Stamp, read_file
from data_platform.lake_s3 import S3Lake
from data_platform.quality.quarantine import waiting
from data_platform.retention.config import Staging
from data_platform.retention.done import Done
from data_platform.retention.staging import beyond_age
from data_platform.warehouse.publish import Published, publish, rebuild
from data_platform_tests.cases import (
    at,
    business,
    customer,
    day,
    delivered,
    line,
    lines,
    product,
    quarantined_line,
    tombstone,
    whole_orders,
)
from data_platform_tests.reference import Delivery
from data_platform_tests.warehouse import harness

# Of every kind that the engine reads back: versions, full states, whole orders, presences in quarantine, late rows.
DELIVERIES = (
    delivered("customers", 1, customer("c1", segment="a"), customer("c2")),
    delivered("products", 1, product("p1", cost="6"), product("p2"), mode="full"),
    lines(1, line("o1", 1), line("o2", 1), quarantined=(quarantined_line("o3", 1),)),
    delivered("customers", 2, customer("c1", segment="b")),
    delivered("products", 2, product("p1", cost="7"), product("p2"), mode="full"),
    lines(2, line("o1", 1, quantity=9), line("o4", 1), line("o4", 2)),
    whole_orders(3, line("o5", 1), line("o5", 2), quarantined=(quarantined_line("o5", 3),)),
    lines(4, tombstone("o2", 1)),
)
LATER = (
    lines(5, line("o1", 1, quantity=3), line("o6", 1)),
    delivered("customers", 5, customer("c1", segment="c", updated_at=at(1, 5)), customer("c3")),
    delivered("products", 5, product("p1", cost="8"), mode="full"),
)
TODAY = day(3) + timedelta(days=7)  # days 1 and 2 are more than a week old, 3 is not
WEEK = 7


class World:
    """A lake, its warehouse and an archive."""

    def __init__(self, url: str, lake: Lake, archive: str) -> None:
        self.url, self.lake, self.archive = url, lake, archive

    def stage(self, *deliveries: Delivery) -> None:
        for delivery in deliveries:
            harness.stage(self.lake, delivery)

    def publish(self) -> list[Published]:
        return [publish(self.url, self.lake, asset, run_id="run", timezone="UTC") for asset in harness.ASSETS.values()]

    def move(self, *, today: date = TODAY, dry_run: bool = False) -> list[Done]:
        rule = Staging(keep_days=WEEK, archive=self.archive)
        return list(beyond_age(self.url, self.lake, rule, today, dry_run=dry_run))

    def differences(self) -> list[Any]:
        reports = rebuild(self.url, self.lake, run_id="verify", timezone="UTC", verify=True)
        found = [found for report in reports for found in report.differences]
        return [one for one in found if one.inserted or one.updated or one.deleted]

    def holds(self) -> Any:
        with psycopg.connect(self.url) as connection:
            return harness.contents(connection)

    def shown(self) -> dict[str, Any]:
        """All that staging and quarantine say, by whatever way they are asked."""
        found: dict[str, Any] = {}
        for contract in STAGED.values():
            table = contract.table
            stamps = self.lake.stamps(table)
            assert list(stamps) == self.lake.days(table)
            frames = dict(zip(stamps, self.lake.frames(table, stamps), strict=True))
            scanned = self.lake.scan(table, list(stamps)).collect()
            assert {one: scanned.filter(dt=one).height for one in stamps} == {
                one: frame.height for one, frame in frames.items()
            }
            found[table] = stamps, {one: frame.to_dicts() for one, frame in frames.items()}
        found["waiting"] = [(one.day, read_file(one.path).to_dicts()) for one in waiting(self.lake)]
        return found


@pytest.fixture
def world(warehouse_url: str, tmp_path: Path) -> World:
    (tmp_path / "cold").mkdir()
    world = World(warehouse_url, Lake(tmp_path / "lake"), str(tmp_path / "cold"))
    world.stage(*DELIVERIES)
    world.publish()
    return world


def moved(lake: Lake) -> list[tuple[str, date]]:
    return [
        (contract.table, one)
        for contract in STAGED.values()
        for one, stamp in lake.stamps(contract.table).items()
        if stamp.moved
    ]


OLD = [("stg_orders", day(1)), ("stg_orders", day(2)), ("stg_products", day(1)), ("stg_products", day(2)),
       ("stg_customers", day(1)), ("stg_customers", day(2))]  # fmt: skip


def test_what_is_old_moves_with_its_quarantine_and_is_read_as_before(world: World, tmp_path: Path) -> None:
    before = world.shown()
    told = world.move(dry_run=True)
    assert moved(world.lake) == []
    assert world.move() == told
    assert sorted(moved(world.lake)) == sorted(OLD)
    assert world.shown() == before
    orders = next(one for one in told if "stg_orders" in one.what)
    assert (orders.days, orders.files, orders.rows) == ((day(1), day(2)), 3, 6)
    left = list((tmp_path / "lake" / "quarantine_orders").rglob("*.parquet"))
    assert [path.parent.name for path in left] == [f"dt={day(3)}"]
    assert world.move() == []


def test_the_warehouse_is_still_the_function_of_what_is_staged(world: World, tmp_path: Path) -> None:
    world.move()
    assert world.differences() == []
    assert [report.path for report in world.publish()] == ["nothing changed"] * 3
    other = World(world.url, Lake(tmp_path / "hot"), "")
    other.stage(*DELIVERIES, *LATER)
    world.stage(*LATER)
    published = world.publish()
    assert "exact" in [report.path for report in published]
    assert world.differences() == []
    assert other.differences() == []  # which knows of no archive


def test_a_delivery_that_is_replaced_takes_the_place_of_the_archived_one(world: World) -> None:
    world.move()
    world.stage(lines(1, line("o1", 1), line("o9", 1)))
    assert ("stg_orders", day(1)) not in moved(world.lake)
    formers = [str(path) for path in world.lake.formers("stg_orders")]
    assert len(formers) == 1
    assert next(report for report in world.publish() if report.asset == "fact_sales").partitions == (day(1),)
    assert world.differences() == []
    assert world.lake.formers("stg_orders") == []
    shown = world.shown()
    world.move()
    assert sorted(moved(world.lake)) == sorted(OLD)
    assert world.shown() == shown


def test_an_archived_delivery_that_is_staged_as_it_was_stays_where_it_is(world: World) -> None:
    world.move()
    world.stage(*DELIVERIES)
    assert sorted(moved(world.lake)) == sorted(OLD)
    assert world.publish()[0].path == "nothing changed"


def test_what_waits_for_its_publish_stays(world: World) -> None:
    world.stage(lines(1, line("o1", 1), line("o9", 1)), lines(2, line("o10", 1)))
    world.publish()
    world.stage(lines(2, line("o11", 1)))
    world.move()
    assert ("stg_orders", day(1)) in moved(world.lake)
    assert ("stg_orders", day(2)) not in moved(world.lake)


Step = Callable[..., Any]
PLACES: list[tuple[type, str]] = [(Lake, "put"), (Lake, "point"), (Lake, "file")]


def _dying(step: Step, stop: int, *, after: bool) -> Step:
    """`step`, in which the process dies once, before or after it was done `stop` times."""
    calls = count()

    def dies(*arguments: Any, **how: Any) -> Any:
        dead = next(calls) == stop
        if dead and not after:
            raise KeyboardInterrupt
        done = step(*arguments, **how)
        if dead:
            raise KeyboardInterrupt
        return done

    return dies


@pytest.mark.parametrize(("owner", "name"), PLACES, ids=[name for _, name in PLACES])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_step_a_whole_copy_is_left_and_the_next_cleanup_ends_it(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, after: bool
) -> None:
    before, step = world.shown(), getattr(owner, name)
    for stop in range(100):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _dying(step, stop, after=after))
            try:
                world.move()
            except KeyboardInterrupt:
                assert world.shown() == before
            else:
                break
    assert stop
    world.move()
    assert sorted(moved(world.lake)) == sorted(OLD)
    assert world.shown() == before
    assert world.differences() == []


def test_a_delivery_that_comes_while_the_old_one_is_copied_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = Lake.point

    def late(lake: Lake, asset: str, at_day: date, stamp: Stamp) -> bool:
        if (asset, at_day) == ("stg_orders", day(1)):
            world.stage(lines(1, line("new", 1)))
        return point(lake, asset, at_day, stamp)

    monkeypatch.setattr(Lake, "point", late)
    world.move()
    assert world.lake.read("stg_orders", day(1))["order_id"].to_list() == ["new"]
    assert ("stg_orders", day(1)) not in moved(world.lake)


def test_a_copy_that_is_not_what_was_written_takes_nothing_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Lake.put
    monkeypatch.setattr(Lake, "put", lambda lake, name, content: put(lake, name, content[:-1]))
    with pytest.raises(SourceUnavailable, match="does not hold what was written to it"):
        world.move()
    assert moved(world.lake) == []


def test_a_missing_archive_is_told_and_not_made(world: World, tmp_path: Path) -> None:
    (tmp_path / "cold").rmdir()
    for dry_run in (True, False):
        with pytest.raises(SourceUnavailable, match=r"cold, is no folder: mount its disk, or make it"):
            world.move(dry_run=dry_run)
    assert not (tmp_path / "cold").exists()


def test_the_archive_of_another_lake_is_refused_and_keeps_what_it_has(world: World, tmp_path: Path) -> None:
    world.move()
    held = {path: path.read_bytes() for path in (tmp_path / "cold").rglob("*") if path.is_file()}
    other = World(world.url, Lake(tmp_path / "another lake"), world.archive)
    other.stage(*DELIVERIES)
    for dry_run in (True, False):
        with pytest.raises(SettingsError, match="holds the days of another lake"):
            other.move(dry_run=dry_run)
    assert {path: path.read_bytes() for path in (tmp_path / "cold").rglob("*") if path.is_file()} == held
    assert moved(other.lake) == []


def test_an_archive_that_is_away_is_told_by_who_reads_from_it_and_loads_go_on(world: World, tmp_path: Path) -> None:
    world.move()
    (tmp_path / "cold").rename(tmp_path / "away")
    world.stage(lines(5, line("o8", 1, order_ts=business(5), updated_at=at(5, 13))))
    assert next(one for one in world.publish() if one.asset == "fact_sales").path == "append"
    with pytest.raises(SourceUnavailable, match="does not hold stg_orders 2024-01-01, which was moved there: mount"):
        world.lake.read("stg_orders", day(1))
    with pytest.raises(SourceUnavailable, match="does not hold stg_customers"):
        world.differences()
    with pytest.raises(SourceUnavailable, match="does not hold stg_orders 2024-01-01"):
        world.stage(lines(1, line("other", 1)))
    (tmp_path / "away").rename(tmp_path / "cold")
    assert world.differences() == []


def test_days_that_are_copied_back_are_taken_from_the_lake_again(world: World, tmp_path: Path) -> None:
    before = world.shown()
    world.move()
    shutil.copytree(tmp_path / "cold", tmp_path / "lake", dirs_exist_ok=True, ignore=lambda *_: ["_aside"])
    shutil.rmtree(tmp_path / "cold")
    assert moved(world.lake) == []
    assert world.shown() == before


def test_the_writer_is_waited_for_while_names_change_and_not_while_files_are_copied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[str, bool]] = []
    put, point = Lake.put, Lake.point

    def seen(name: str) -> None:
        with psycopg.connect(world.url) as other:
            free = other.execute("SELECT pg_try_advisory_xact_lock(5207114902002)").fetchone()
        held.append((name, free == (False,)))

    def put_seen(lake: Lake, name: str, content: bytes) -> None:
        if lake.root.name == "cold":
            seen("put")
        put(lake, name, content)

    def point_seen(lake: Lake, *arguments: Any) -> bool:
        seen("point")
        return point(lake, *arguments)

    monkeypatch.setattr(Lake, "put", put_seen)
    monkeypatch.setattr(Lake, "point", point_seen)
    world.move()
    assert set(held) == {("put", False), ("point", True)}


# An archive in a bucket


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    told = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1", "ENDPOINT_URL": endpoint}
    for name, value in {**told, "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    name = f"cold-{uuid.uuid4().hex[:8]}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.mark.parametrize("lake_too", [False, True], ids=["folder to bucket", "bucket to bucket"])
def test_an_archive_in_a_bucket_is_staging_as_well(
    warehouse_url: str, tmp_path: Path, bucket: str, lake_too: bool
) -> None:
    lake = S3Lake(f"{bucket}/lake", tmp_path / "drafts") if lake_too else Lake(tmp_path / "lake")
    world = World(warehouse_url, lake, f"{bucket}/cold")
    world.stage(*DELIVERIES)
    world.publish()
    before, told = world.shown(), world.move(dry_run=True)
    assert world.move() == told
    assert sorted(moved(lake)) == sorted(OLD)
    assert world.shown() == before
    assert world.differences() == []
    world.stage(*DELIVERIES[:3])
    assert sorted(moved(lake)) == sorted(OLD)
    world.stage(lines(1, line("o1", 1), line("o9", 1)), *LATER)
    assert "exact" in [report.path for report in world.publish()]
    assert world.differences() == []
    shown = world.shown()
    world.move()
    assert world.shown() == shown
    assert sorted(moved(lake)) == sorted(OLD)


def test_the_stamp_of_a_partition_of_very_many_files_is_read_whole(tmp_path: Path, bucket: str) -> None:
    lake = S3Lake(f"{bucket}/lake", tmp_path / "drafts")
    stamp = Stamp("a" * 64, files=tuple(f"a-rather-long-name-of-a-file-{n:05}.csv" for n in range(4000)))
    lake.promote([lake.write_aside("raw_orders", day(1), pl.DataFrame({"a": [1]}), stamp)])
    assert lake.point("raw_orders", day(1), replace(stamp, moved=DELETED))
    found = lake.stamp("raw_orders", day(1))
    assert found == stamp
    assert (found.moved, lake.stamps("raw_orders")[day(1)].moved) == (DELETED, DELETED)


def test_a_bucket_that_is_not_there_is_told_as_the_archives(world: World, bucket: str) -> None:
    world.archive = f"{bucket}-none/cold"
    with pytest.raises(SettingsError, match=r"The bucket cold-.*-none of the archive of retention.yaml is not there"):
        world.move()
    assert moved(world.lake) == []


def test_a_delivery_that_comes_meanwhile_to_a_lake_in_a_bucket_is_not_lost(
    warehouse_url: str, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(warehouse_url, S3Lake(f"{bucket}/lake", tmp_path / "drafts"), f"{bucket}/cold")
    world.stage(*DELIVERIES)
    world.publish()
    put_over = Bucket.put_over

    def late(store: Bucket, key: str, content: bytes, etag: str | None) -> None:
        monkeypatch.setattr(Bucket, "put_over", put_over)
        world.stage(lines(1, line("new", 1)))
        put_over(store, key, content, etag)

    monkeypatch.setattr(Bucket, "put_over", late)
    world.move()
    assert world.lake.read("stg_orders", day(1))["order_id"].to_list() == ["new"]
