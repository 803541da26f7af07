"""The lake in a bucket of a real S3 server (moto's): as a local one, with runs that meet, and what may fail."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import polars as pl
import pytest
from moto.server import ThreadedMotoServer

from data_platform import lake_s3
from data_platform.bucket import TAIL, Bucket
from data_platform.commands import figures
from data_platform.costs import metering
from data_platform.errors import PlatformError, SettingsError, SourceUnavailable
from data_platform.lake import Draft, Lake, Stamp
from data_platform.lake_s3 import S3Lake
from data_platform.monitoring.lake import LakeReader
from data_platform.quality.quarantine import all_described, rows_in_clear, waiting
from data_platform.quality.report.reading import read
from data_platform.resources import Platform
from data_platform.settings import read_settings
from data_platform.warehouse import publish
from data_platform_tests.shop import Shop, customer, failures, line, product

DAY, NEXT = date(2024, 1, 5), date(2024, 1, 6)
TABLE = "stg_products"
ROWS = pl.DataFrame({"product_id": ["p1", "p2"]})
REJECTED = pl.DataFrame({"product_id": ["?"], "_reasons": [["odd"]]})
SECRET = "geheim/und+lang="


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def aws(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    told = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": SECRET, "REGION": "us-east-1", "ENDPOINT_URL": endpoint}
    for name, value in {**told, "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture
def url(endpoint: str) -> str:
    bucket = f"lake-{uuid.uuid4().hex[:8]}"
    _client(endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/data [1]/lake"


@pytest.fixture
def lake(url: str, tmp_path: Path) -> S3Lake:
    return S3Lake(url, tmp_path / "drafts")


def _client(endpoint: str) -> Any:
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key=SECRET
    )


def stamp(content: str, **values: Any) -> Stamp:
    return Stamp(content=content * 64, **values)


def draft(lake: Lake, content: str, rejected: pl.DataFrame | None = None, day: date = DAY, asset: str = TABLE) -> Draft:
    written = stamp(content, rows_quarantined=0 if rejected is None else rejected.height)
    return lake.write_aside(asset, day, ROWS.with_columns(content=pl.lit(content)), written, rejected)


def keys(lake: S3Lake) -> list[str]:
    return [one.key.removeprefix(f"{lake.top.key}/") for one in lake.top.bucket.listed(lake.top.key)]


def local_files(lake: S3Lake) -> list[Path]:
    return [path for path in lake.root.rglob("*") if path.is_file()]


# As a local lake


def test_nothing_is_seen_of_a_draft_before_it_is_promoted(lake: S3Lake) -> None:
    drafted = draft(lake, "a", REJECTED)
    assert (keys(lake), lake.days(TABLE), lake.stamp(TABLE, DAY)) == ([], [], None)
    lake.promote([drafted])
    assert lake.days(TABLE) == [DAY]
    assert lake.read(TABLE, DAY)["content"].to_list() == ["a", "a"]
    assert lake.stamps(TABLE) == {DAY: drafted.stamp}
    assert pl.read_parquet(lake.quarantine_path(TABLE, DAY, drafted.stamp).read_bytes()).equals(REJECTED)
    assert local_files(lake) == []


def test_what_is_written_and_stored_is_counted_once(lake: S3Lake) -> None:
    first, second = draft(lake, "a", REJECTED), draft(lake, "b", day=NEXT)
    assert first.path is not None
    assert first.quarantine is not None
    kept, rejected = first.path.stat().st_size, first.quarantine.stat().st_size
    meter = metering.begin()
    lake.promote([first, second])
    assert lake.partition_sizes(TABLE)[DAY] == kept
    assert lake.stored_bytes(TABLE) == sum(lake.partition_sizes(TABLE).values()) + rejected
    assert (meter.bytes_written, meter.files_written) == (lake.stored_bytes(TABLE), 3)
    assert meter.rows.keys() == {DAY, NEXT}
    again = metering.begin()
    lake.promote([draft(lake, "a", REJECTED)])
    metering.end()
    assert (again.bytes_written, again.files_written) == (0, 0), "it stands already"
    assert again.bytes_read > 0


def test_partitions_are_scanned_with_their_day_and_read_in_order(lake: S3Lake) -> None:
    days = [date(2024, 1, number) for number in range(1, 29)]
    lake.promote([draft(lake, "a", day=day) for day in days])
    assert lake.scan(TABLE, [*days, date(2025, 1, 1)]).collect()["dt"].unique().sort().to_list() == days
    assert [frame.height for frame in lake.frames(TABLE, days)] == [2] * 28
    assert list(lake.stamps(TABLE, [date(2025, 1, 1), *days])) == days


def test_stamps_that_are_known_cost_one_listing(lake: S3Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.promote([draft(lake, "a", day=day) for day in (DAY, NEXT)])
    before = lake.stamps(TABLE)
    lake.promote([draft(lake, "b")])
    asked: list[str] = []
    get = Bucket.get
    monkeypatch.setattr(
        Bucket, "get", lambda self, key, **more: asked.append(key) or get(self, key, **more)  # type: ignore[func-returns-value]
    )  # fmt: skip
    assert lake.stamps(TABLE) == {DAY: stamp("b"), NEXT: before[NEXT]}
    assert asked == [lake.path(TABLE, DAY).key]
    lake.stamps(TABLE)
    assert len(asked) == 1


def test_a_lake_that_fills_its_bucket_and_many_pages_of_a_listing(endpoint: str, tmp_path: Path) -> None:
    _client(endpoint).create_bucket(Bucket="whole")
    lake = S3Lake("s3://whole", tmp_path)
    lake.promote([draft(lake, "a")])
    for number in range(1001):
        lake.top.bucket.put(f"{TABLE}/dt=1999-01-01/{number}", b"")
    assert lake.days(TABLE) == [DAY]
    assert lake.read(TABLE, DAY).height == 2


def test_its_files_are_as_many_and_as_large_as_those_of_a_local_lake(lake: S3Lake, tmp_path: Path) -> None:
    local = Lake(tmp_path / "lake")
    for one in (lake, local):
        one.promote([draft(one, "a", REJECTED), draft(one, "b", day=NEXT)])
        one.promote([draft(one, "c")])
    assert lake.sizes() == local.sizes()
    assert {folder: files for folder, (files, _) in local.sizes().items()} == {"stg_products": 2, "_former": 1}
    paths = list((local.root / TABLE).rglob("*.parquet"))
    assert local.sizes()[TABLE] == (2, sum(path.stat().st_size for path in paths))
    found = LakeReader().read(lake)
    assert found.stamps == LakeReader().read(local).stamps
    assert (found.files, found.bytes[TABLE]) == ({"_former": 1, TABLE: 2}, local.sizes()[TABLE][1])


def test_a_footer_longer_than_what_is_asked_for_first_is_read(lake: S3Lake) -> None:
    long = stamp("a", files=tuple(f"{number}.csv" for number in range(TAIL // 6)))
    lake.promote([lake.write_aside(TABLE, DAY, ROWS, long)])
    assert lake.stamp(TABLE, DAY) == long


def test_a_partition_that_is_not_there_is_named_with_its_mend(lake: S3Lake) -> None:
    with pytest.raises(PlatformError, match="stg_products has no partition 2024-01-05: materialize"):
        lake.read(TABLE, DAY)
    with pytest.raises(PlatformError, match="none of the partitions asked for"):
        lake.scan(TABLE, [DAY])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"half a file" * 20_000])
def test_a_broken_file_is_named_with_its_mend(lake: S3Lake, content: bytes) -> None:
    lake.top.bucket.put(lake.path(TABLE, DAY).key, content)
    with pytest.raises(PlatformError, match=r"part\.parquet of stg_products, dt=2024-01-05 is broken: delete it"):
        lake.stamps(TABLE)


def test_quarantine_is_written_before_its_staging_file(lake: S3Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    lake.promote([draft(lake, "a", REJECTED)])
    drafted = draft(lake, "b", REJECTED)
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "put_over", killed)
        with pytest.raises(KeyboardInterrupt):
            lake.promote([drafted])
    standing = lake.stamp(TABLE, DAY)
    assert standing == stamp("a", rows_quarantined=1)
    assert lake.quarantine_path(TABLE, DAY, standing).exists()
    assert lake.quarantine_path(TABLE, DAY, drafted.stamp).exists()


def test_what_is_replaced_waits_below_former_and_its_quarantine_goes(lake: S3Lake) -> None:
    lake.promote([draft(lake, "a", REJECTED)])
    lake.promote([draft(lake, "b")])
    (former,) = lake.formers(TABLE)
    assert former == lake.former_path(TABLE, DAY, "a" * 64)
    assert former.stem == "a" * 64
    assert pl.read_parquet(former.read_bytes())["content"].to_list() == ["a", "a"]
    assert not [key for key in keys(lake) if key.startswith("quarantine")]
    former.unlink(missing_ok=True)
    former.unlink(missing_ok=True)
    assert lake.formers(TABLE) == []


def test_raw_has_no_former_files_and_what_did_not_change_is_not_written(
    lake: S3Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.promote([draft(lake, "a", asset="raw_products")])
    lake.promote([draft(lake, "b", asset="raw_products")])
    assert keys(lake) == ["raw_products/dt=2024-01-05/part.parquet"]
    for method in ("put", "put_over", "copy", "delete"):
        monkeypatch.delattr(Bucket, method)
    lake.promote([draft(lake, "b", asset="raw_products")])
    assert local_files(lake) == []


def test_quarantine_that_a_killed_run_left_goes_after_a_day(lake: S3Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    drafted = draft(lake, "b", REJECTED)
    left = lake.quarantine_path(TABLE, DAY, stamp("a"))
    lake.top.bucket.put(left.key, b"left")
    lake.promote([drafted])
    assert left.exists()
    monkeypatch.setattr(lake_s3, "LEFTOVER_AGE", -3600)
    lake.promote([replace(drafted, path=None, quarantine=None)])
    assert not left.exists()
    assert lake.quarantine_path(TABLE, DAY, drafted.stamp).exists()


def test_drafts_that_fail_are_removed(lake: S3Lake) -> None:
    drafts = [draft(lake, "a", REJECTED)]
    with pytest.raises(ZeroDivisionError), lake.drafting(drafts):
        raise ZeroDivisionError
    assert local_files(lake) == []


# Runs that meet


def meeting(monkeypatch: pytest.MonkeyPatch, method: str, other: Callable[[], object], after: int = 0) -> None:
    """Before the next request of `method` (but for `after`), `other` happens, once."""
    original, todo = getattr(Bucket, method), [*[lambda: None] * after, other]

    def met(self: Bucket, *arguments: Any, **more: Any) -> Any:
        if todo:
            todo.pop(0)()
        return original(self, *arguments, **more)

    monkeypatch.setattr(Bucket, method, met)


# Before: the copy below _former, its reading, its writing, that of the quarantine, and that of the staging file.
@pytest.mark.parametrize(("method", "after"), [("copy", 0), ("get", 1), ("put", 1), ("put", 0), ("put_over", 0)])
def test_the_version_in_the_middle_of_two_runs_is_kept(
    lake: S3Lake, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, after: int
) -> None:
    other = S3Lake(url, tmp_path / "other")
    lake.promote([draft(lake, "a", REJECTED)])
    middle, last = draft(other, "b", REJECTED), draft(lake, "c", REJECTED)
    meeting(monkeypatch, method, lambda: other.promote([middle]), after)
    lake.promote([last])
    assert lake.stamp(TABLE, DAY) == last.stamp
    assert {path.stem[0] for path in lake.formers(TABLE)} == {"a", "b"}
    assert {pl.read_parquet(path.read_bytes())["content"][0] for path in lake.formers(TABLE)} == {"a", "b"}
    assert lake.quarantine_path(TABLE, DAY, last.stamp).exists()


def test_two_first_versions_are_told_apart(
    lake: S3Lake, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = S3Lake(url, tmp_path / "other")
    first, second = draft(other, "a"), draft(lake, "b")
    meeting(monkeypatch, "put_over", lambda: other.promote([first]))
    lake.promote([second])
    assert lake.stamp(TABLE, DAY) == second.stamp
    assert [path.stem[0] for path in lake.formers(TABLE)] == ["a"]


def test_a_put_whose_answer_got_lost_is_taken_for_done(lake: S3Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    drafted = draft(lake, "a", REJECTED)
    content = drafted.path.read_bytes() if drafted.path else b""
    meeting(monkeypatch, "put_over", lambda: lake.top.bucket.put(lake.path(TABLE, DAY).key, content))
    lake.promote([drafted])
    assert lake.stamp(TABLE, DAY) == drafted.stamp
    assert lake.formers(TABLE) == []


def test_a_partition_that_is_deleted_meanwhile_is_written(lake: S3Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.promote([draft(lake, "a")])
    meeting(monkeypatch, "put_over", lambda: lake.path(TABLE, DAY).unlink())
    lake.promote([draft(lake, "b")])
    assert lake.stamp(TABLE, DAY) == stamp("b")


def test_quarantine_that_a_slower_run_took_away_is_written_again(lake: S3Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    drafted = draft(lake, "a", REJECTED)
    rejected = lake.quarantine_path(TABLE, DAY, drafted.stamp)
    meeting(monkeypatch, "put_over", rejected.unlink)
    lake.promote([drafted])
    assert rejected.exists()


def test_a_partition_that_others_replace_without_end_is_given_up(lake: S3Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def always(*_: object) -> None:
        raise lake_s3.ObjectChanged

    monkeypatch.setattr(Bucket, "put_over", always)
    with pytest.raises(SourceUnavailable, match="stg_products 2024-01-05 was replaced again and again"):
        lake.promote([draft(lake, "a")])


# What may fail


def lake_of(url: str, tmp_path: Path) -> Lake:
    return Lake.of(replace(read_settings({"DATA_PLATFORM_LAKE_URL": url}), home=tmp_path))


def everything(lake: Lake) -> list[Callable[[], object]]:
    return [
        lambda: lake.stamps(TABLE),
        lambda: lake.stamp(TABLE, DAY),
        lambda: lake.read(TABLE, DAY),
        lambda: lake.formers(TABLE),
        lambda: lake.promote([draft(lake, "a", REJECTED)]),
    ]


def refused(lake: Lake, kind: type[PlatformError], sentence: str) -> None:
    for use in everything(lake):
        with pytest.raises(kind, match=sentence) as raised:
            use()
        assert SECRET not in str(raised.value)
        assert "\n" not in str(raised.value)
        assert raised.value.__cause__ is None


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(lake_of("s3://nowhere/lake", tmp_path), SettingsError, "bucket nowhere of .* is not there at 127.0.0.1")


def test_an_endpoint_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:{SECRET.replace('/', '')}@127.0.0.1:9")
    lake = lake_of("s3://bucket/lake", tmp_path)
    with pytest.raises(
        SourceUnavailable, match=r"bucket bucket .* does not answer as it should \(127.0.0.1:9, "
    ) as told:
        lake.days(TABLE)
    assert "geheim" not in str(told.value)
    assert told.value.transient


def test_missing_rights_are_named(lake: S3Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Bucket, *_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(Bucket, "_call", denied)
    with pytest.raises(
        SettingsError, match=r"may not be used .*: correct AWS_ACCESS_KEY_ID .* or give them the right to"
    ):
        lake.days(TABLE)


def test_missing_credentials_are_named(url: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from data_platform.lake_s3 import S3Lake\n"
        f"S3Lake({url!r}, Path({str(tmp_path)!r})).days('raw_orders')"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_ACCESS")}
    environ |= {"AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none"}
    environ.pop("AWS_SECRET_ACCESS_KEY")
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=120)
    assert "needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY." in done.stderr.splitlines()[-1]


def test_s3fs_that_is_not_installed_is_named(lake: S3Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("data_platform.bucket._filesystem", absent)
    with pytest.raises(SettingsError, match=r"s3fs is not installed: \.venv/bin/pip install -e '\.\[s3\]'"):
        lake.stamp(TABLE, DAY)


@pytest.mark.parametrize("url", ["s3://", f"s3://key:{SECRET}@bucket/lake", "s3:///lake"])
def test_a_url_that_says_something_else_is_refused_without_being_shown(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must be s3://BUCKET/PREFIX") as raised:
        S3Lake(url, tmp_path)
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["gs", "az", "s3a", "file"])
def test_other_stores_are_refused_in_a_sentence(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=f"begins with {scheme}://: the lake is a local folder or s3://BUCKET/PREFIX"
    ):
        lake_of(f"{scheme}://bucket/lake", tmp_path)


def test_a_local_lake_loads_nothing_of_s3() -> None:
    code = (
        "import sys, data_platform.lake, data_platform.warehouse.staged, data_platform.quality.balances\n"
        "assert not {'s3fs', 'botocore', 'fsspec', 'data_platform.bucket'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


# End to end


@dataclass(frozen=True)
class S3Shop(Shop):
    """A shop whose lake is in a bucket."""

    url: str = ""

    @property
    def lake(self) -> Lake:
        return Lake.of(self.platform.settings)

    @property
    def platform(self) -> Platform:
        return Platform.using(replace(super().platform.settings, lake_url=self.url or str(self.home / "lake")))


DAYS = ("2024-01-05", "2024-01-06", "2024-01-07")
FACTS = """
    SELECT f.order_id, f.line_number, f.date_key, c.customer_id, p.product_id, f.quantity, f.total_amount, f.profit,
        f.delivered_on
    FROM warehouse.fact_sales f
    JOIN warehouse.dim_customer c USING (customer_key)
    JOIN warehouse.dim_product p USING (product_key)
    ORDER BY 1, 2
"""


def deliver(shop: Shop) -> None:
    for day in DAYS:
        shop.deliver("products", product(cost=f"{day[-1]}.00"), day=day)
        shop.deliver("customers", customer(), day=day)
        lines = [line(f"o{day[-1]}{number}", day=day) for number in range(3)]
        shop.deliver("orders", *lines, line("bad", quantity="many", day=day), day=day)


def run(shop: Shop) -> None:
    done = shop.run(first=DAYS[0], last=DAYS[-1])
    assert done.success, failures(done)


def objects(shop: Shop) -> dict[str, tuple[str, Any]]:
    assert isinstance(shop.lake, S3Lake)
    top = shop.lake.top
    return {one.key: (one.etag, one.changed) for one in top.bucket.listed(top.key)}


def test_a_warehouse_of_a_lake_on_s3_is_that_of_a_local_one(
    url: str, tmp_path: Path, warehouse_url: str, server: str, template: str
) -> None:
    from data_platform_tests.conftest import throw_away

    with throw_away(server, template) as local_url, dg.DagsterInstance.ephemeral() as instance:
        local = Shop(tmp_path / "local", local_url, instance)
        shop = S3Shop(tmp_path / "s3", warehouse_url, instance, url)
        for one in (local, shop):
            deliver(one)
            run(one)
        assert len(shop.query(FACTS)) == 9
        assert shop.query(FACTS) == local.query(FACTS)
        assert {table: shop.lake.stamps(table) for table in ("raw_orders", "stg_orders", "stg_products")} == {
            table: local.lake.stamps(table) for table in ("raw_orders", "stg_orders", "stg_products")
        }
        assert not (shop.home / "lake").exists()

        # A second run writes nothing.
        before, places = objects(shop), shop.places("warehouse")
        run(shop)
        assert (objects(shop), shop.places("warehouse")) == (before, places)

        # A delivery is replaced: what it told of is taken back, and nothing is left of the former file.
        for one in (local, shop):
            one.deliver("orders", line("o60", quantity=5, day=DAYS[1]), day=DAYS[1])
            run(one)
        assert len(shop.query(FACTS)) == 7
        assert shop.query(FACTS) == local.query(FACTS)
        assert shop.lake.formers("stg_orders") == []

        # Quarantine, status, the report and `rebuild --verify` see it all.
        partitions = waiting(shop.lake)
        assert [(one.table, str(one.day), one.rows) for one in partitions] == [
            ("stg_orders", DAYS[0], 1), ("stg_orders", DAYS[2], 1)
        ]  # fmt: skip
        assert rows_in_clear(partitions)["order_id"].to_list() == ["bad", "bad"]
        assert [one["rows"] for one in all_described(partitions)] == [1, 1]
        assert len(figures.lake_stamps(shop.lake)["stg_orders"]) == 3
        memory = read(warehouse_url, shop.lake, str(shop.home / "landing"), start_date=date(2024, 1, 1), timezone="UTC")
        assert memory.quarantine.height == 2
        reports = publish.rebuild(warehouse_url, shop.lake, run_id="verify", timezone="UTC", verify=True)
        assert not any(report.wrote for report in reports)
