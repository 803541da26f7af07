"""A landing in S3 (moto's real server): what a folder gives, by the same rules, and nothing left on the disk."""

import gzip
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest
import requests
from moto.server import ThreadedMotoServer

from data_platform.contracts import STAGED
from data_platform.errors import DeliveryRejected, SettingsError, SourceUnavailable
from data_platform.quality.trial import fetched
from data_platform.resources import Platform
from data_platform.settings import Settings, read_settings
from data_platform.sources import landing_store, object_store
from data_platform.sources.config import Source
from data_platform.sources.deliveries import Deliveries, LandedInStore, landed
from data_platform.sources.landing import Delivery, landed_days, listing, read_delivery
from data_platform_tests.shop import DAY as FIRST
from data_platform_tests.shop import Shop, checks, failures, line, open_shop

DAY, NEXT = date(2024, 1, 5), date(2024, 1, 6)
ORDERS = Source(entity="orders")
CSV = b"a,b\n1,2\n"
LANDING = "s3://crm/landing"
SECRET = "geheim/und+lang="


class Bucket:
    """The bucket `crm`; names are below landing/orders."""

    def __init__(self, endpoint: str) -> None:
        self.client = boto3.client("s3", endpoint_url=endpoint)
        self.client.create_bucket(Bucket="crm", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    def put(self, name: str, body: bytes = CSV, *, below: str = "landing/orders/") -> None:
        self.client.put_object(Bucket="crm", Key=below + name, Body=body)

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket="crm", Key=f"landing/orders/{name}")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    # AWS_REGION alone is not read by boto3.
    for name, value in {"ENDPOINT_URL": endpoint, "REGION": "eu-central-1", "DEFAULT_REGION": "eu-central-1",
                        "ACCESS_KEY_ID": "a-key", "SECRET_ACCESS_KEY": SECRET}.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    bucket = Bucket(endpoint)
    yield bucket
    for one in bucket.client.list_objects_v2(Bucket="crm").get("Contents", []):
        bucket.client.delete_object(Bucket="crm", Key=one["Key"])
    bucket.client.delete_bucket(Bucket="crm")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(read_settings({}), home=tmp_path / "home", landing_url=LANDING)


def left(settings: Settings) -> list[Path]:
    return [path for path in (settings.home / "fetched").glob("*/*") if path.is_file()]


def found(deliveries: Deliveries, day: date = DAY) -> Delivery:
    delivery = deliveries.find(day)
    assert isinstance(delivery, Delivery), delivery
    return delivery


def rejection(settings: Settings, day: date = DAY) -> str:
    with closing(landed(settings, "orders", [day])) as deliveries:
        error = deliveries.find(day)
    assert isinstance(error, DeliveryRejected)
    assert left(settings) == []
    return str(error)


def names(settings: Settings, *days: date) -> dict[date, list[str]]:
    with closing(landed(settings, "orders", days)) as deliveries:
        return {day: [file.name for file in found(deliveries, day).files] for day in days if deliveries.find(day)}


# What is taken


def test_the_same_delivery_gives_the_same_frame_as_from_a_folder(
    bucket: Bucket, settings: Settings, tmp_path: Path
) -> None:
    pl.DataFrame({"a": ["5"], "c": [1.5]}).write_parquet(tmp_path / "c.parquet")
    contents = {"b.csv": CSV, "B.csv.gz": gzip.compress(b"a,b\n3,4\n"), "é ü+#?.jsonl": b'{"a": "x"}\n',
                "10.csv": b"a\n", "9.csv": b"a\n8\n", "c.parquet": (tmp_path / "c.parquet").read_bytes()}  # fmt: skip
    folder = tmp_path / "landing" / "orders" / "2024-01-05"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        bucket.put(f"2024-01-05/{name}", content)
        (folder / name).write_bytes(content)
    local = found(landed(replace(settings, landing_url=str(tmp_path / "landing")), "orders", [DAY]))
    with closing(landed(settings, "orders", [DAY])) as deliveries:
        delivery = found(deliveries)
        frame = read_delivery(delivery, ORDERS)
    assert frame.equals(read_delivery(local, ORDERS))
    assert frame.schema == read_delivery(local, ORDERS).schema
    assert [(file.name, file.size) for file in delivery.files] == [(file.name, file.size) for file in local.files]


def test_one_listing_serves_all_days_and_one_day_at_a_time_lies_on_the_disk(
    bucket: Bucket, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [date(2024, 1, day) for day in range(1, 9)]
    for day in days:
        bucket.put(f"{day}.csv", f"a\n{day}\n".encode())
    calls = []
    objects = object_store.Store.objects
    monkeypatch.setattr(object_store.Store, "objects", lambda store: calls.append(store) or objects(store))
    with closing(landed(settings, "orders", days)) as deliveries:
        assert left(settings) == []
        for day in days:
            assert read_delivery(found(deliveries, day), ORDERS)["a"].to_list() == [day.isoformat()]
            assert len(left(settings)) == 1
        assert deliveries.find(date(2024, 2, 1)) is None
    assert len(calls) == 1
    assert left(settings) == []


def test_an_empty_landing_holds_nothing(bucket: Bucket, settings: Settings) -> None:
    assert landed_days(LANDING, "orders") == []
    assert names(settings, DAY) == {}
    assert not (settings.home / "fetched").exists()


def test_the_folder_marks_of_consoles_are_folders_and_no_files(bucket: Bucket, settings: Settings) -> None:
    for mark in ("", "2024-01-05/", "2024-01-06/"):
        bucket.put(mark, b"")
    bucket.put("2024-01-05/a.csv")
    assert names(settings, DAY, NEXT) == {DAY: ["2024-01-05/a.csv"]}
    bucket.put("2024-01-06.csv")
    assert "delivered twice" in rejection(settings, NEXT)  # as beside an empty folder of a disk


# The rules of names


def test_a_day_that_is_delivered_twice_is_rejected_and_the_others_are_not(bucket: Bucket, settings: Settings) -> None:
    bucket.put("2024-01-05.csv")
    bucket.put("2024-01-05/part.csv")
    bucket.put("2024-01-06.csv")
    assert "orders of 2024-01-05 is delivered twice, as 2024-01-05.csv and 2024-01-05/" in rejection(settings)
    assert names(settings, NEXT) == {NEXT: ["2024-01-06.csv"]}


def test_hidden_and_unfinished_names_are_passed_over_in_silence(
    bucket: Bucket, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".2024-01-05.csv", "_SUCCESS", "2024-01-05.csv.tmp", "2024-01-05/x.csv.part", "2024-01-05/_x/a.csv"):
        bucket.put(name)
    assert names(settings, DAY) == {}
    assert [record for record in caplog.records if record.name.startswith("data_platform")] == []


@pytest.mark.parametrize("name", ["orders.csv", "2024-01-05.xlsx", "2024-01-05/deep/part.csv", "2024-01-05/part.pdf"])
def test_misnamed_objects_are_told_by_their_url_and_not_fetched(
    bucket: Bucket, settings: Settings, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    bucket.put(name)
    with caplog.at_level(logging.WARNING, "data_platform"):
        assert names(settings, DAY) == {}
    (record,) = [record for record in caplog.records if record.name.startswith("data_platform")]
    assert record.getMessage().startswith("s3://crm/landing/orders")
    assert name.split("/")[-2 if "deep" in name else -1] in record.getMessage()
    assert landed_days(LANDING, "orders") == []


@pytest.mark.parametrize(
    "name",
    ["2024-01-05/../../../evil.csv", "2024-01-05/../evil.csv", "../../evil.csv", "/2024-01-05.csv", "//etc/evil.csv",
     "2024-01-05//evil.csv", "2024-01-05/./evil.csv", "2024-01-05/..csv"],
)  # fmt: skip
def test_a_name_that_is_a_path_is_no_delivery(bucket: Bucket, settings: Settings, name: str) -> None:
    bucket.put(name)
    assert names(settings, DAY) == {}
    assert landed_days(LANDING, "orders") == []
    assert left(settings) == []


@pytest.mark.parametrize("name", ["..\\..\\evil.csv", "%2e%2e%2f%2e%2e%2fevil.csv", "C:\\evil.csv", "~root.csv"])
def test_a_name_that_another_system_reads_as_a_path_never_becomes_one(
    bucket: Bucket, settings: Settings, name: str
) -> None:
    hidden = name.startswith(".")
    bucket.put(f"2024-01-05/{name}")
    with closing(landed(settings, "orders", [DAY])) as deliveries:
        delivery = deliveries.find(DAY)
        if hidden:
            assert delivery is None
        else:
            assert isinstance(delivery, Delivery)
            assert [path.name for path in left(settings)] == ["0001.csv"]
            assert [file.name for file in delivery.files] == [f"2024-01-05/{name}"]


def test_a_name_with_control_characters_is_rejected(bucket: Bucket, settings: Settings) -> None:
    bucket.put("2024-01-05/a\tb.csv")
    assert "orders/'2024-01-05/a\\tb.csv' has a name that is no plain text: rename it." in rejection(settings)


# Objects that change, and bounds


@pytest.mark.parametrize("change", ["replaced", "gone"])
def test_an_object_that_changes_after_it_was_listed_is_unfinished(
    bucket: Bucket, settings: Settings, change: str
) -> None:
    bucket.put("2024-01-05.csv")
    with closing(landed(settings, "orders", [DAY])) as deliveries:
        bucket.put("2024-01-05.csv", CSV.replace(b"1", b"7")) if change == "replaced" else bucket.delete(
            "2024-01-05.csv"
        )
        error = deliveries.find(DAY)
    said = "changed while it was being read" if change == "replaced" else "was listed and is gone"
    assert isinstance(error, DeliveryRejected)
    assert str(error).startswith(f"s3://crm/landing/orders/2024-01-05.csv {said}")
    assert left(settings) == []


def test_the_bytes_of_a_day_are_bounded(bucket: Bucket, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing_store, "MAX_BYTES", 15)
    bucket.put("2024-01-05/a.csv")
    assert names(settings, DAY) == {DAY: ["2024-01-05/a.csv"]}
    bucket.put("2024-01-05/b.csv")
    assert "s3://crm/landing/orders: the day's files have more than 15 bytes" in rejection(settings)


# The manifest


def test_the_manifest_beside_the_files_is_read(bucket: Bucket, settings: Settings) -> None:
    bucket.put("2024-01-05.manifest.json", b'\xef\xbb\xbf{"rows": 1, "sums": {"quantity": 0.1}}')
    bucket.put("2024-01-06.manifest.json", b"[")
    with closing(landed(settings, "orders", [DAY, NEXT])) as deliveries:
        manifest = deliveries.manifest(DAY)
        assert manifest is not None
        assert (manifest.rows, str(manifest.sums["quantity"])) == (1, "0.1")
        with pytest.raises(DeliveryRejected, match=r"orders/2024-01-06.manifest.json is no JSON"):
            deliveries.manifest(NEXT)
        assert deliveries.manifest(date(2024, 1, 7)) is None


def test_a_manifest_is_small(bucket: Bucket, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing_store, "MAX_MANIFEST_BYTES", 5)
    bucket.put("2024-01-05.manifest.json", b'{"rows": 1}')
    with pytest.raises(DeliveryRejected, match="has more than 5 bytes"):
        landed(settings, "orders", [DAY]).manifest(DAY)


# Listing


def test_days_and_files_are_listed_without_reading_one(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("2024-01-05.csv", "2024-01-05.manifest.json", "2024-01-06/b.csv", "2024-01-06/a.csv",
                 "2024-01-06/notes.txt", "orders.csv", "2024-01-07/_SUCCESS", "2024-01-08.manifest.json"):  # fmt: skip
        bucket.put(name)
    bucket.put("2024-02-01.csv", below="landing/orders_old/")
    monkeypatch.setattr(object_store.Store, "fetch", None)
    monkeypatch.setattr(object_store.Store, "read", None)
    assert landed_days(LANDING, "orders") == [DAY, NEXT]
    listed = listing(LANDING, "orders")
    assert {day.isoformat(): [file.name for file in files] for day, files in listed.items()} == {
        "2024-01-05": ["2024-01-05.csv", "2024-01-05.manifest.json"],
        "2024-01-06": ["2024-01-06/a.csv", "2024-01-06/b.csv"],
        "2024-01-08": ["2024-01-08.manifest.json"],
    }
    head = bucket.client.head_object(Bucket="crm", Key="landing/orders/2024-01-05.csv")
    file = listed[DAY][0]
    assert (file.size, file.version, file.changed) == (len(CSV), head["ETag"], head["LastModified"])
    bucket.put("2024-01-05.csv", CSV.replace(b"1", b"7"))
    assert listing(LANDING, "orders")[DAY][0].version != file.version


# What goes wrong


def test_a_bucket_that_is_not_there_is_told(bucket: Bucket) -> None:
    with pytest.raises(SettingsError, match=r"^DATA_PLATFORM_LANDING_URL: s3://crn/x/orders is not there: correct it"):
        landed_days("s3://crn/x", "orders")


def test_wrong_credentials_are_told_without_them(bucket: Bucket, endpoint: str) -> None:
    requests.post(f"{endpoint}/moto-api/reset-auth", data=b"0", timeout=10)
    try:
        with pytest.raises(SettingsError, match=r"s3://crm/landing/orders may not be read: correct the cred") as raised:
            landed_days(LANDING, "orders")
        assert SECRET not in str(raised.value)
    finally:
        requests.post(f"{endpoint}/moto-api/reset-auth", data=b"inf", timeout=10)


def test_a_store_that_does_not_answer_is_unavailable(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SourceUnavailable, match=r"^DATA_PLATFORM_LANDING_URL: s3://crm/landing/orders could not"):
        landed_days(LANDING, "orders")


def known_implementations() -> dict[str, Any]:
    """What fsspec has imported so far."""
    return sys.modules["fsspec.registry"]._registry


def test_a_library_that_is_not_installed_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(known_implementations(), "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(SettingsError, match=r"not installed: call .venv/bin/pip install -e '.\[s3\]' in the clone"):
        landed_days(LANDING, "orders")


# Temporary folders


def test_what_a_killed_run_left_is_removed_by_age(bucket: Bucket, settings: Settings) -> None:
    bucket.put("2024-01-05.csv")
    old, young, other = (settings.home / "fetched" / name for name in ("landing-old", "landing-young", "mine"))
    for folder in (old, young, other):
        folder.mkdir(parents=True)
        (folder / "0001.csv").write_bytes(CSV)
    long_ago = time.time() - landing_store.LEFTOVER_AFTER - 60
    os.utime(old, (long_ago, long_ago))
    os.utime(other, (long_ago, long_ago))
    assert names(settings, DAY) == {DAY: ["2024-01-05.csv"]}
    assert [folder.exists() for folder in (old, young, other)] == [False, True, True]


def test_a_folder_that_cannot_be_made_is_told(bucket: Bucket, settings: Settings) -> None:
    bucket.put("2024-01-05.csv")
    settings.home.mkdir()
    (settings.home / "fetched").write_text("in the way")
    with pytest.raises(SourceUnavailable, match="no temporary folder can be made in"):
        landed(settings, "orders", [DAY]).find(DAY)


def test_a_source_on_trial_is_fetched_and_nothing_stays(bucket: Bucket, settings: Settings) -> None:
    bucket.put("2024-01-05.csv", b"order_id\no1\n")
    with fetched(ORDERS, STAGED["orders"], settings, DAY) as trial:
        assert trial is not None
        assert trial.raw["order_id"].to_list() == ["o1"]
    assert left(settings) == []


# Real assets


class StoreShop(Shop):
    """A shop whose landing is the bucket."""

    @property
    def platform(self) -> Platform:
        return Platform.using(replace(super().platform.settings, landing_url=LANDING))

    def upload(self, bucket: Bucket, day: str, *rows: dict[str, Any]) -> None:
        bucket.put(f"{day}.csv", self.deliver("orders", *rows, day=day).read_bytes())


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[StoreShop]:
    with open_shop(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as shop:
        yield StoreShop(shop.home, shop.warehouse, shop.instance)


def test_days_of_a_landing_in_s3_are_materialized_and_balance(bucket: Bucket, shop: StoreShop) -> None:
    shop.upload(bucket, FIRST, line("o1"), line("o2"))
    shop.upload(bucket, "2024-01-07", line("o3", day="2024-01-07"))
    bucket.put(f"{FIRST}.manifest.json", b'{"rows": 2}')
    result = shop.run("raw_orders,stg_orders", FIRST, "2024-01-07")
    assert result.success, failures(result)
    found = checks(result)
    assert found["raw_orders", "rows_balance"].passed
    assert found["raw_orders", "rows_balance"].description == "3 rows of 2 files are in raw."
    assert found["raw_orders", "manifest_agrees"].metadata["rows_judged"].value == 1
    assert found["raw_orders", "delivery_is_there"].description == "Nothing is in the landing folder for 1 of 3 days."
    days = [date.fromisoformat(day) for day in (FIRST, "2024-01-07")]
    assert [shop.lake.read("raw_orders", day)["_file"].to_list() for day in days] == [
        [f"{FIRST}.csv"] * 2, ["2024-01-07.csv"]
    ]  # fmt: skip
    in_store = shop.lake.stamps("raw_orders")
    for path in shop.lake.root.rglob("part.parquet"):
        path.unlink()
    assert Shop(shop.home, shop.warehouse, shop.instance).run("raw_orders", FIRST, "2024-01-07").success
    assert shop.lake.stamps("raw_orders") == in_store
    assert left(shop.platform.settings) == []


def test_a_run_that_fails_leaves_no_fetched_file(
    bucket: Bucket, shop: StoreShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.upload(bucket, FIRST, line("o1"))
    bucket.put("2024-01-06.csv", b"")
    result = shop.run("raw_orders", FIRST, "2024-01-06")
    assert "2024-01-06.csv" in failures(result)["raw_orders"]
    assert checks(result)["raw_orders", "rows_balance"].passed
    assert left(shop.platform.settings) == []
    monkeypatch.setattr(LandedInStore, "manifest", lambda *_: 1 / 0)
    assert not shop.run("raw_orders", FIRST).success
    assert left(shop.platform.settings) == []
