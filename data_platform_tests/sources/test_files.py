"""Files in object stores as sources: a real S3 server (moto's) and real folders, whole files, halves, links, bombs."""

import errno
import gzip
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest
from moto.server import ThreadedMotoServer

from data_platform.errors import DeliveryRejected, SettingsError, SourceUnavailable
from data_platform.sources import files as files_module
from data_platform.sources import object_store, unpack
from data_platform.sources import workbook as workbook_module
from data_platform.sources.config import Source, load_sources
from data_platform.sources.extraction import Extracted, window_of
from data_platform.sources.files import FilesSource, extract, listed
from data_platform.sources.landing import find_deliveries, read_delivery

DAY = date(2024, 1, 5)
PLACE = "customers.files"
CSV = b"customer_id,country\nc1,DE\nc2,FR\n"
KEY, SECRET = "a-key", "geheim/und+lang="


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "landing" / "customers" / DAY.isoformat()
    folder.mkdir(parents=True)
    return folder


def rows(into: Path) -> pl.DataFrame:
    """What the raw asset reads of it."""
    delivery = find_deliveries(str(into.parent.parent), "customers", [DAY])[DAY]
    assert not isinstance(delivery, Exception)
    return read_delivery(delivery, Source(entity="customers"))


def ids(into: Path) -> list[str]:
    return rows(into)["customer_id"].to_list()


def ask(into: Path, url: str, day: date = DAY, **more: Any) -> Extracted:
    config = FilesSource.model_validate({"url": url, **more})
    return extract(config, window_of(day, "UTC"), into, columns=[], place=PLACE)


# S3


class Bucket:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="eu-central-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )
        self.client.create_bucket(Bucket="crm", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    def put(self, key: str, body: bytes = CSV) -> None:
        self.client.put_object(Bucket="crm", Key=key, Body=body)

    @property
    def options(self) -> dict[str, Any]:
        credentials = {"key": "CRM_KEY", "secret": "CRM_SECRET"}
        return {"endpoint": self.endpoint, "region": "eu-central-1", "credentials": credentials}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("CRM_KEY", KEY)
    monkeypatch.setenv("CRM_SECRET", SECRET)
    bucket = Bucket(server)
    yield bucket
    for one in bucket.client.list_objects_v2(Bucket="crm").get("Contents", []):
        bucket.client.delete_object(Bucket="crm", Key=one["Key"])
    bucket.client.delete_bucket(Bucket="crm")


def test_the_files_of_a_day_are_taken_in_the_order_of_their_names(bucket: Bucket, into: Path) -> None:
    bucket.put("exports/customers_20240105_b.csv", b"customer_id\nc3\n")
    bucket.put("exports/customers_20240105_a.csv.gz", gzip.compress(CSV))
    bucket.put("exports/customers_20240106_a.csv")
    bucket.put("exports/orders_20240105.csv")
    bucket.put("exports/old/customers_20240105_a.csv")
    found = ask(into, "s3://crm/exports/customers_{date:%Y%m%d}*.csv*", **bucket.options)
    assert ids(into) == ["c1", "c2", "c3"]
    assert (found.rows, found.figures["objects"]) == (None, 2)
    assert [path.name for path in sorted(into.iterdir())] == [
        "0001-customers_20240105_a.csv.gz", "0002-customers_20240105_b.csv"
    ]  # fmt: skip


def test_a_day_without_files_is_absent(bucket: Bucket, into: Path) -> None:
    bucket.put("exports/customers_20240106.csv")
    assert ask(into, "s3://crm/exports/customers_{date:%Y%m%d}.csv", **bucket.options) == Extracted()
    assert ask(into, "s3://crm/nowhere/{date}/*.csv", **bucket.options) == Extracted()
    assert list(into.iterdir()) == []


def test_a_bucket_that_is_not_there_is_told(bucket: Bucket, into: Path) -> None:
    with pytest.raises(SettingsError, match=r"^customers.files.url: s3://crn is not there: correct it"):
        ask(into, "s3://crn/{date}.csv", **bucket.options)


def test_a_store_that_does_not_answer_is_told_without_secrets(bucket: Bucket, into: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"^customers.files: s3://crm could not be read \(\w+: ") as raised:
        ask(into, "s3://crm/{date}.csv", **{**bucket.options, "endpoint": "http://127.0.0.1:9"})
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_secret_that_is_not_set_is_named(bucket: Bucket, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRM_SECRET")
    with pytest.raises(SettingsError, match=r"customers.files.credentials.secret names .* CRM_SECRET"):
        ask(into, "s3://crm/{date}.csv", **bucket.options)


def test_credentials_that_are_nowhere_are_a_setting(
    bucket: Bucket, into: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"^customers.files: s3://crm needs credentials that are not there"):
        ask(into, "s3://crm/{date}.csv", endpoint=bucket.endpoint)


@pytest.mark.parametrize("endpoint", ["minio.local", "http://h:99999", "http://"])
def test_an_endpoint_that_is_none_is_a_setting_wherever_it_is_set(endpoint: str) -> None:
    store = object_store.Store(
        "s3://crm/in", "LANDING", url_of="LANDING",
        options={"key": KEY, "secret": SECRET, "client_kwargs": {"endpoint_url": endpoint}},
    )  # fmt: skip
    with (
        pytest.raises(SettingsError, match=r"^LANDING: s3://crm/in cannot be asked for \(\w+: .*\): correct"),
        store.explained(),
    ):
        store.objects()


def test_a_bucket_that_can_be_none_is_a_setting(bucket: Bucket, into: Path) -> None:
    with pytest.raises(SettingsError, match=r"s3://c r m cannot be asked for .*Invalid bucket name"):
        ask(into, "s3://c r m/{date}.csv", **bucket.options)


def test_a_disk_that_is_full_is_no_fault_of_the_store(tmp_path: Path) -> None:
    store = object_store.Store(f"file://{tmp_path}", PLACE, url_of=PLACE, options={})
    with pytest.raises(SourceUnavailable, match=r"^customers.files: the disk that .* is full"), store.explained():
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("change", ["replaced", "gone"])
def test_an_object_that_changes_while_it_is_read_is_unfinished(
    bucket: Bucket, into: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("2024-01-05.csv")
    list_first = object_store.Store.objects

    def then_changed(store: Any) -> Any:
        found = list_first(store)
        if change == "gone":
            bucket.client.delete_object(Bucket="crm", Key="2024-01-05.csv")
        else:
            bucket.put("2024-01-05.csv", CSV.replace(b"FR", b"IT"))
        return found

    monkeypatch.setattr(object_store.Store, "objects", then_changed)
    said = "was listed and is gone" if change == "gone" else "changed while it was being read"
    with pytest.raises(DeliveryRejected, match=rf"^customers.files: '2024-01-05.csv' {said}"):
        ask(into, "s3://crm/{date}.csv", **bucket.options)


def test_a_name_that_is_a_path_stays_a_name(bucket: Bucket, into: Path) -> None:
    bucket.put("x/../../evil\t2024-01-05.csv")  # moto's routes take no \n
    ask(into, "s3://crm/x/*/*/*{date}.csv", **bucket.options)
    assert [path.name for path in into.iterdir()] == ["0001-evil_2024-01-05.csv"]


def test_many_days_are_found_by_one_listing(bucket: Bucket) -> None:
    days = [DAY + timedelta(days=number) for number in range(5)]
    for day in days[:4]:
        bucket.put(f"in/{day:%Y/%m}/customers-{day:%d}.csv")
    bucket.put("in/2024/01/readme.txt")
    config = FilesSource.model_validate({"url": "s3://crm/in/{date:%Y/%m}/customers-{date:%d}.csv", **bucket.options})
    found = listed(config, days, place=PLACE)
    assert list(found) == days[:4]
    assert listed(config, days, place=PLACE) == found
    bucket.put(f"in/{DAY:%Y/%m}/customers-{DAY:%d}.csv", CSV + b"c9,IT\n")
    changed = listed(config, days, place=PLACE)
    assert {day for day in days[:4] if changed[day] != found[day]} == {DAY}


# Completeness


@pytest.mark.parametrize("how", ["marker", "manifest"])
def test_files_without_their_marker_or_manifest_are_taken_later(bucket: Bucket, into: Path, how: str) -> None:
    bucket.put("in/2024-01-05-a.csv")
    asked = {**bucket.options, "complete": {how: "{date}.done"}}
    config = FilesSource.model_validate({"url": "s3://crm/in/{date}-*.csv", **asked})
    with pytest.raises(
        SourceUnavailable, match=r"'s3://crm/in/2024-01-05.done' is not there yet. They are taken later"
    ):
        ask(into, "s3://crm/in/{date}-*.csv", **asked)
    assert listed(config, [DAY], place=PLACE) == {}
    bucket.put("in/2024-01-05.done", b"" if how == "marker" else b'{"rows": 2}')
    assert ask(into, "s3://crm/in/{date}-*.csv", **asked).rows == (None if how == "marker" else 2)
    assert set(listed(config, [DAY], place=PLACE)) == {DAY}


def test_files_that_were_just_written_are_taken_later(bucket: Bucket, into: Path) -> None:
    bucket.put("2024-01-05.csv")
    with pytest.raises(SourceUnavailable, match="they changed within the last 1:00:00"):
        ask(into, "s3://crm/{date}.csv", **bucket.options, complete={"unchanged_for": "1h"})
    ask(into, "s3://crm/{date}.csv", **bucket.options, complete={"unchanged_for": "0s"})
    assert ids(into) == ["c1", "c2"]


Manifest = dict[str, Any]


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"files": {"2024-01-05-a.csv": {"sha256": "0" * 64}}}, "has another sha256 than its manifest says"),
        ({"files": {"2024-01-05-a.csv": {"md5": "0" * 32}}}, "has another md5 than its manifest says"),
        ({"files": {"2024-01-05-a.csv": {"crc": "1"}}}, "has no sha256 or md5 in the manifest"),
        ({"files": {"2024-01-05-b.csv": {}}}, r"differ \('2024-01-05-a.csv', '2024-01-05-b.csv'\)"),
        ([], "the manifest of 2024-01-05 is none"),
        ("{", "the manifest of 2024-01-05 is none .Invalid JSON"),
        ({"rows": "1"}, "the manifest of 2024-01-05 is none .'rows': Input should be a valid integer"),
        ({"rows": 1.5}, "the manifest of 2024-01-05 is none .'rows': "),
        ({"rows": True}, "the manifest of 2024-01-05 is none .'rows': "),
        ({"rows": -1}, "the manifest of 2024-01-05 is none .'rows': "),
        ({"files": ["2024-01-05-a.csv"]}, "the manifest of 2024-01-05 is none .'files': "),
        ({"files": {"2024-01-05-a.csv": "abc"}}, "the manifest of 2024-01-05 is none .'files.2024-01-05-a.csv': "),
        ({"files": {"2024-01-05-a.csv": {"md5": 5}}}, r"is none .'files.2024-01-05-a.csv.md5': .*: write \{"),
        ({"files": {"2024-01-05-a.csv": {"md5": "zz"}}}, "is none .'files.2024-01-05-a.csv.md5': "),
    ],
)
def test_a_delivery_that_is_not_what_its_manifest_says_is_rejected(
    bucket: Bucket, into: Path, manifest: Any, said: str
) -> None:
    bucket.put("2024-01-05-a.csv")
    bucket.put("2024-01-05.json", b"{" if manifest == "{" else json.dumps(manifest).encode())
    with pytest.raises(DeliveryRejected, match=said):
        ask(into, "s3://crm/{date}-*.csv", **bucket.options, complete={"manifest": "{date}.json"})


def test_checksums_that_agree_are_taken(bucket: Bucket, into: Path) -> None:
    bucket.put("2024-01-05-a.csv")
    told = {"sha256": hashlib.sha256(CSV).hexdigest().upper(), "md5": hashlib.md5(CSV).hexdigest()}
    bucket.put("2024-01-05.json", json.dumps({"rows": 2, "files": {"2024-01-05-a.csv": told}}).encode())
    found = ask(into, "s3://crm/{date}-*.csv", **bucket.options, complete={"manifest": "{date}.json"})
    assert found.rows == 2


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"rows": 5}, "tells of 5 rows, and no file is there: have it delivered, or take the manifest away"),
        ({"files": {"a.csv": {}}}, "tells of 1 files, and no file is there"),
        ([], "is none"),
        ({"rows": 0, "files": {}}, None),
    ],
)
def test_a_manifest_of_rows_without_files_is_no_day_without_files(
    bucket: Bucket, into: Path, manifest: Any, said: str | None
) -> None:
    bucket.put("in/x/2024-01-05/m.json", json.dumps(manifest).encode())
    asked = {**bucket.options, "complete": {"manifest": "m.json"}}
    if said is None:
        assert ask(into, "s3://crm/in/*/{date}/*.csv", **asked) == Extracted()
        return
    with pytest.raises(DeliveryRejected, match=f"^customers.files: the manifest of 2024-01-05 {said}"):
        ask(into, "s3://crm/in/*/{date}/*.csv", **asked)
    assert ask(into, "s3://crm/in/*/{date}/*.csv", DAY + timedelta(days=1), **asked) == Extracted()


# What is no data


@pytest.mark.parametrize("complete", [{"marker": "_SUCCESS"}, {"marker": "{date}.done"}, {"manifest": "all.json"}])
def test_what_lies_among_the_files_and_is_no_data_is_passed_over(
    bucket: Bucket, into: Path, complete: dict[str, str]
) -> None:
    (name,) = complete.values()
    bucket.put("in/2024-01-05/", b"")  # as the consoles of S3 make a folder
    bucket.put(f"in/2024-01-05/{name.replace('{date}', '2024-01-05')}", b'{"rows": 2}')
    for hidden in ("_tmp.csv", ".hid.csv", "_committed_1", "b.csv.part"):
        bucket.put(f"in/2024-01-05/{hidden}", b"customer_id\nwrong\n")
    asked = {**bucket.options, "complete": complete}
    if "marker" in complete:
        assert ask(into, "s3://crm/in/{date}/*", **asked) == Extracted()
    bucket.put("in/2024-01-05/a.csv")
    assert ask(into, "s3://crm/in/{date}/*", **asked).figures["objects"] == 1
    assert ids(into) == ["c1", "c2"]
    config = FilesSource.model_validate({"url": "s3://crm/in/{date}/*", **asked})
    before = listed(config, [DAY], place=PLACE)
    bucket.put("in/2024-01-05/_more.csv")
    assert listed(config, [DAY], place=PLACE) == before
    bucket.put("in/2024-01-05/b.csv")
    assert listed(config, [DAY], place=PLACE) != before


def test_hidden_folders_are_passed_over_and_hidden_names_that_are_asked_for_are_not(tmp_path: Path, into: Path) -> None:
    for name in ("2024-01-05/_temporary/a.csv", "2024-01-05/one/_a.csv"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(CSV)
    assert ask(into, f"file://{tmp_path}/in/{{date}}/*/*.csv") == Extracted()
    ask(into, f"file://{tmp_path}/in/{{date}}/*/_*.csv")
    assert ids(into) == ["c1", "c2"]


# Folders


def test_a_folder_is_read_like_a_store(tmp_path: Path, into: Path) -> None:
    (tmp_path / "in[1]").mkdir()
    (tmp_path / "in[1]" / "2024-01-05 a.csv").write_bytes(CSV)
    ask(into, f"file://{str(tmp_path).replace('[', '%5B')}/in%5B1%5D/{{date}}*.csv")
    assert ids(into) == ["c1", "c2"]


def test_a_link_that_leads_out_of_its_folder_is_refused(tmp_path: Path, into: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.csv").write_bytes(CSV)
    (tmp_path / "in" / "2024-01-05.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(DeliveryRejected, match="is a link that leads out of its folder"):
        ask(into, f"file://{tmp_path}/in/{{date}}.csv")
    assert list(into.iterdir()) == []


# Archives and workbooks


Make = Callable[[zipfile.ZipFile], None]


def zipped(make: Make) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        make(archive)
    return buffer.getvalue()


def folder_with(tmp_path: Path, name: str, data: bytes) -> str:
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "in" / name).write_bytes(data)
    return f"file://{tmp_path}/in/{{date}}*"


def test_a_zip_is_unpacked_and_no_member_leaves_the_folder(tmp_path: Path, into: Path) -> None:
    def make(archive: zipfile.ZipFile) -> None:
        archive.writestr("../../../evil.csv", CSV)
        archive.writestr("/etc/b.csv", b"customer_id\nc3\n")
        archive.writestr("__MACOSX/._b.csv", b"\0")
        link = zipfile.ZipInfo("c.csv")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, b"customer_id\n/etc/passwd\n")

    ask(into, folder_with(tmp_path, "2024-01-05.zip", zipped(make)))
    assert [path.name for path in sorted(into.iterdir())] == [
        "0001-2024-01-05-0001-evil.csv", "0001-2024-01-05-0002-b.csv", "0001-2024-01-05-0003-c.csv"
    ]  # fmt: skip
    assert all(not path.is_symlink() for path in into.iterdir())
    assert ids(into) == ["c1", "c2", "c3", "/etc/passwd"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda archive: archive.writestr("bomb.csv", b"0" * 300 * 1024 * 1024), "it may be a bomb"),
        (lambda archive: archive.writestr("inner.zip", zipped(lambda _: None)), "a zip within a zip is not"),
        (lambda archive: archive.writestr("readme.pdf", b"x"), "holds 'readme.pdf', which is no file that can be read"),
    ],
    ids=["bomb", "nested", "other"],
)
def test_a_zip_that_is_none_of_files_is_refused(tmp_path: Path, into: Path, make: Make, said: str) -> None:
    with pytest.raises(DeliveryRejected, match=rf"^customers.files: '2024-01-05.zip' .*{said}"):
        ask(into, folder_with(tmp_path, "2024-01-05.zip", zipped(make)))


def test_a_packed_bomb_in_a_zip_is_refused_where_it_unpacks(tmp_path: Path, into: Path) -> None:
    bomb = gzip.compress(b"customer_id\n" + b"c1\n" * 100 * 1024 * 1024)
    ask(into, folder_with(tmp_path, "2024-01-05.zip", zipped(lambda archive: archive.writestr("a.csv.gz", bomb))))
    with pytest.raises(DeliveryRejected, match=r"unpacks to more than .* it may be a bomb"):
        rows(into)


@pytest.mark.parametrize("cut", [20, -20])
def test_a_broken_zip_is_refused(tmp_path: Path, into: Path, cut: int) -> None:
    whole = zipped(lambda archive: archive.writestr("a.csv", os.urandom(1000)))
    with pytest.raises(DeliveryRejected, match="is no whole zip that can be opened"):
        ask(into, folder_with(tmp_path, "2024-01-05.zip", whole[:cut]))


def test_the_bytes_of_a_day_are_bounded(tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = folder_with(tmp_path, "2024-01-05.csv", CSV)
    monkeypatch.setattr(files_module, "MAX_BYTES", 10)
    with pytest.raises(DeliveryRejected, match="has more than 10 bytes: split it"):
        ask(into, url)


def workbook(**sheets: pl.DataFrame) -> bytes:
    import xlsxwriter

    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        for name, frame in sheets.items():
            frame.write_excel(book, name)
    return buffer.getvalue()


def test_a_workbook_gives_the_text_of_its_first_or_its_named_sheet(tmp_path: Path, into: Path) -> None:
    first = pl.DataFrame({"customer_id": ["007", "c2"], "points": [40, None], "share": [0.5, 19.9],
                          "created_date": [date(2020, 2, 1), None]})  # fmt: skip
    data = workbook(one=first, two=pl.DataFrame({"customer_id": ["c9"]}))
    ask(into, folder_with(tmp_path, "2024-01-05.xlsx", data))
    assert rows(into).drop("_file", "_row").rows() == [
        ("007", "40", "0.5", "2020-02-01 00:00:00"), ("c2", None, "19.9", None)
    ]  # fmt: skip
    for path in into.iterdir():
        path.unlink()
    ask(into, f"file://{tmp_path}/in/{{date}}*", sheet="two")
    assert ids(into) == ["c9"]
    with pytest.raises(DeliveryRejected, match="has no sheet 'three'"):
        ask(into, f"file://{tmp_path}/in/{{date}}*", sheet="three")


def test_a_broken_workbook_is_refused(tmp_path: Path, into: Path) -> None:
    with pytest.raises(DeliveryRejected, match="is no whole Excel file"):
        ask(into, folder_with(tmp_path, "2024-01-05.xlsx", workbook(one=pl.DataFrame({"a": [1]}))[:100]))


HEAD = '<row r="1"><c r="A1" t="str"><v>id</v></c></row>'
FAR = f'{HEAD}<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'


def workbook_of(rows_of_it: str, place: str = "worksheets/sheet1.xml") -> bytes:
    """A workbook whose only sheet has those rows, as they are written there."""
    sheet = (
        '<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        f"<sheetData>{rows_of_it}</sheetData></worksheet>"
    )

    def make(archive: zipfile.ZipFile) -> None:
        with zipfile.ZipFile(io.BytesIO(workbook(one=pl.DataFrame({"id": [1]})))) as whole:
            for name in whole.namelist():
                content = whole.read(name).replace(b"worksheets/sheet1.xml", place.encode())
                if name == "xl/worksheets/sheet1.xml":
                    archive.writestr(f"xl/{place}", sheet)
                elif "tables" not in name and not name.endswith("sheet1.xml.rels"):
                    archive.writestr(name, content)

    return zipped(make)


@pytest.mark.parametrize(
    "data",
    [
        workbook_of(FAR),
        workbook_of(FAR.replace('"', "'")),
        workbook_of(FAR.replace("r=", "r = ")),
        workbook_of(FAR, "other/sheet1.xml"),
        workbook_of(f'{HEAD}<row r="1048576">{"<c><v>1</v></c>" * 5000}</row>'),
    ],
    ids=["corners", "quotes", "spaces", "elsewhere", "unnamed cells"],
)
def test_a_workbook_that_spans_more_than_memory_is_refused_and_the_run_goes_on(
    tmp_path: Path, into: Path, data: bytes
) -> None:
    said = r"'2024-01-05.xlsx' has a sheet that takes more than 4 GB of memory or 10 minutes to open: deliver it as csv"
    with pytest.raises(DeliveryRejected, match=said):
        ask(into, folder_with(tmp_path, "2024-01-05.xlsx", data))
    assert not list(into.glob("*.parquet"))


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("XFD2", "a sheet of 1 rows and 16,384 columns, more than is taken"),
        ("Z1000000", "a sheet of 999,999 rows and 26 columns, more than is taken"),
    ],
)
def test_a_sheet_of_too_many_cells_is_refused(tmp_path: Path, into: Path, last: str, said: str) -> None:
    number = last.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    data = workbook_of(f'{HEAD}<row r="{number}"><c r="{last}"><v>1</v></c></row>')
    with pytest.raises(DeliveryRejected, match=rf"^customers.files: '2024-01-05.xlsx' has {said}"):
        ask(into, folder_with(tmp_path, "2024-01-05.xlsx", data))
    assert not list(into.glob("*.parquet"))


def test_a_workbook_that_takes_too_long_is_refused(tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook_module, "MAX_SECONDS", 0.01)
    with pytest.raises(DeliveryRejected, match="has a sheet that takes more than"):
        ask(into, folder_with(tmp_path, "2024-01-05.xlsx", workbook(one=pl.DataFrame({"a": [1]}))))


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        ("raise SystemExit(3)", SourceUnavailable, "was not opened .* ended with 3.: run the day again"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", SourceUnavailable, "was not opened .*-15"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", DeliveryRejected, "takes more than 4 GB"),
        ("print('{\"errno\": 28}')", SourceUnavailable, "the disk that .* is full"),
        ('print(\'{"no": "memory"}\')', DeliveryRejected, "takes more than 4 GB"),
    ],
    ids=["ended", "stopped", "killed", "disk", "memory"],
)
def test_how_the_process_that_opens_a_workbook_ends_is_told(
    tmp_path: Path, into: Path, script: str, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.py").write_text(script)
    monkeypatch.setattr(workbook_module, "__file__", str(tmp_path / "other.py"))
    with pytest.raises(error, match=said):
        ask(into, folder_with(tmp_path, "2024-01-05.xlsx", workbook(one=pl.DataFrame({"a": [1]}))))


def test_a_workbook_in_a_zip_is_read_like_one_beside_it(tmp_path: Path, into: Path) -> None:
    book = workbook(one=pl.DataFrame({"customer_id": ["c1"]}), two=pl.DataFrame({"customer_id": ["007"]}))

    def make(archive: zipfile.ZipFile) -> None:
        archive.writestr("b.csv", b"customer_id\nc2\n")
        archive.writestr("in/A.XLSX", book)

    ask(into, folder_with(tmp_path, "2024-01-05.zip", zipped(make)), sheet="two")
    assert ids(into) == ["c2", "007"]
    for path in into.iterdir():
        path.unlink()
    broken = zipped(lambda archive: archive.writestr("a.xlsx", book[:100]))
    with pytest.raises(DeliveryRejected, match=r"'2024-01-05.zip', 'a.xlsx' is no whole Excel file"):
        ask(into, folder_with(tmp_path, "2024-01-05.zip", broken))


def test_a_workbook_that_is_a_bomb_is_refused(tmp_path: Path, into: Path) -> None:
    def make(archive: zipfile.ZipFile) -> None:
        archive.writestr("xl/worksheets/sheet1.xml", b"<c/>" * 75 * 1024 * 1024)

    with pytest.raises(DeliveryRejected, match=r"'2024-01-05.xlsx' unpacks to more than 1\d\d MB, .* a bomb"):
        ask(into, folder_with(tmp_path, "2024-01-05.xlsx", zipped(make)))


def test_a_kind_of_file_that_is_not_read_is_told(tmp_path: Path, into: Path) -> None:
    with pytest.raises(DeliveryRejected, match=r"'2024-01-05.pdf' is no kind of file that is read: use csv, "):
        ask(into, folder_with(tmp_path, "2024-01-05.pdf", b"x"))


def test_names_of_members_are_plain() -> None:
    assert unpack.safe_name("../a b\n.csv") == "a_b_.csv"
    assert unpack.safe_name("...") == "file"


# What is declared


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"url": "crm/{date}.csv"}, "is no place of files: begin with s3://"),
        ({"url": "ftp://h/{date}.csv"}, "is no place of files"),
        ({"url": "s3://b/customers.csv"}, "it holds no {date}"),
        ({"url": "s3://b/**/{date}.csv"}, r"\*\* would look into every folder"),
        ({"url": "s3://b/../{date}.csv"}, r"\.\. leads out of its folder"),
        ({"url": "file:///in/%2e%2e/{date}.csv"}, r"\.\. leads out of its folder"),
        ({"url": "file://in/{date}.csv"}, "is a path from nowhere"),
        ({"url": "s3://b/{date:YYYY}.csv"}, "is no format of a date"),
        ({"url": "s3://{date}-b/x.csv"}, "its bucket differs by day or name"),
        ({"url": "s3://{date:%Y/%m}-b/{date}.csv"}, "its bucket differs by day or name"),
        ({"url": "gs://b*/{date}.csv"}, "its bucket differs by day or name"),
        ({"url": "s3:///{date}.csv"}, "it names no bucket"),
        ({"endpoint": "minio.local"}, "it is no address of a store"),
        ({"endpoint": "http://h:99999"}, "it is no address of a store"),
        ({"endpoint": "http://[x"}, "it is no address of a store"),
        ({"lookback": 900}, "lookback\n  Extra inputs are not permitted"),
        ({"complete": {}}, "exactly one of marker, manifest and unchanged_for"),
        ({"complete": {"marker": "../x"}}, "must be the name of one object beside the files"),
    ],
)
def test_what_cannot_be_meant_is_refused(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FilesSource.model_validate({"url": "s3://b/{date}.csv", **declared})


@pytest.mark.parametrize(
    "declared",
    [
        {"url": "s3://KEY:geheim@b/{date}.csv"},
        {"url": "s3://KEY:ge/geheim@b/{date}.csv"},
        {"url": "gs://geheim@b/{date}.csv"},
        {"url": "az://c:geheim@account/{date}.csv"},
        {"url": "S3://KEY:geheim@b/{date}.csv"},
        {"url": "KEY:geheim@b/{date}.csv"},
        {"url": "file://KEY:geheim@b/{date}.csv"},
        {"endpoint": "https://KEY:geheim@minio.example.com"},
        {"endpoint": "KEY:geheim@minio.example.com"},
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(declared: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds credentials|no place of files|path from nowhere") as raised:
        FilesSource.model_validate({"url": "s3://b/{date}.csv", **declared})
    assert "geheim" not in str(raised.value)
    path = tmp_path / "sources.yaml"
    path.write_text(json.dumps({"customers": {"files": {"url": "s3://b/{date}.csv", **declared}}}))
    with pytest.raises(SettingsError) as told:
        load_sources(path)
    assert "geheim" not in str(told.value)


@pytest.mark.parametrize(
    "url",
    [
        "abfs://container@account.dfs.core.windows.net/in/{date}.csv",
        "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/crm/{date}.csv",
        "s3://crm/a@b:c/{date}.csv",
    ],
)
def test_what_only_looks_like_credentials_is_taken(url: str) -> None:
    assert FilesSource.model_validate({"url": url}).url == url


def test_files_have_no_lookback() -> None:
    assert FilesSource(url="s3://b/{date}.csv").lookback == timedelta()
