import logging
import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data_platform.errors import DeliveryRejected, SettingsError, SourceUnavailable
from data_platform.sources import landing
from data_platform.sources.config import Source
from data_platform.sources.landing import (
    Delivery,
    check_header,
    find_deliveries,
    landed_days,
    listing,
    read_delivery,
)
from data_platform.sources.readers import read_file

DAY = date(2024, 1, 5)
ORDERS = Source(entity="orders")


def deliver(root: Path, name: str, content: bytes | str = "a,b\n1,2\n") -> Path:
    path = root / "orders" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def found(root: Path, day: date = DAY) -> Delivery:
    delivery = find_deliveries(str(root), "orders", [day])[day]
    assert isinstance(delivery, Delivery)
    return delivery


def rejection(root: Path) -> str:
    error = find_deliveries(str(root), "orders", [DAY])[DAY]
    assert isinstance(error, DeliveryRejected)
    return str(error)


# -- finding ---------------------------------------------------------------------------------------------------------


def test_a_landing_folder_that_does_not_exist_holds_no_delivery(tmp_path: Path) -> None:
    assert find_deliveries(str(tmp_path / "absent"), "orders", [DAY]) == {}


def test_only_the_days_asked_for_are_found(tmp_path: Path) -> None:
    deliver(tmp_path, "2024-01-05.csv")
    deliver(tmp_path, "2024-01-06.csv")
    assert list(find_deliveries(str(tmp_path), "orders", [DAY, date(2024, 1, 7)])) == [DAY]


@pytest.mark.parametrize(
    "extension", ["csv", "csv.gz", "csv.zst", "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "avro", "CSV"]
)
def test_every_extension_is_a_delivery(tmp_path: Path, extension: str) -> None:
    path = deliver(tmp_path, f"2024-01-05.{extension}")
    (file,) = found(tmp_path).files
    assert (file.path, file.name, file.size) == (path, path.name, path.stat().st_size)


def test_the_files_of_a_folder_are_sorted_in_byte_order(tmp_path: Path) -> None:
    for name in ["b.csv", "a.csv", "B.csv", "é.csv", "a-2.csv", "10.csv", "9.csv"]:
        deliver(tmp_path, f"2024-01-05/{name}")
    names = [file.name for file in found(tmp_path).files]
    assert names == sorted(names, key=str.encode)
    assert names[0] == "2024-01-05/10.csv"


def test_the_folder_is_listed_once_for_any_number_of_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [DAY + timedelta(offset) for offset in range(50)]
    for day in days:
        deliver(tmp_path, f"{day}.csv")
    calls = []
    scandir = os.scandir

    def count(path: str) -> Iterator[os.DirEntry[str]]:
        calls.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", count)
    assert list(find_deliveries(str(tmp_path), "orders", days)) == days
    assert len(calls) == 1


@pytest.mark.parametrize(
    "second", ["2024-01-05.parquet", "2024-01-05.csv.gz", "2024-01-05/part.csv"], ids=["format", "packed", "folder"]
)
def test_a_day_that_is_delivered_twice_is_rejected_naming_both(tmp_path: Path, second: str) -> None:
    deliver(tmp_path, "2024-01-05.csv")
    deliver(tmp_path, second)
    sentence = rejection(tmp_path)
    assert "2024-01-05.csv" in sentence
    assert second.removesuffix("part.csv") in sentence
    assert "keep the one that is meant" in sentence


def test_a_rejected_day_leaves_the_others_alone(tmp_path: Path) -> None:
    deliver(tmp_path, "2024-01-05.csv")
    deliver(tmp_path, "2024-01-05.jsonl")
    deliver(tmp_path, "2024-01-06.csv")
    days = find_deliveries(str(tmp_path), "orders", [DAY, date(2024, 1, 6)])
    assert [type(value) for value in days.values()] == [DeliveryRejected, Delivery]


@pytest.mark.parametrize(
    "name", [".2024-01-05.csv", "_SUCCESS", "2024-01-05.csv.tmp", "2024-01-05.csv.part", "2024-01-05.csv.crdownload"]
)
def test_hidden_and_unfinished_files_are_passed_over_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    deliver(tmp_path, name)
    deliver(tmp_path, "2024-01-06/" + name)
    assert find_deliveries(str(tmp_path), "orders", [DAY, date(2024, 1, 6)]) == {}
    assert caplog.records == []


@pytest.mark.parametrize(
    "name",
    [
        "orders.csv",
        "2024-1-5.csv",
        "20240105.csv",
        "2024-02-30.csv",
        "2024-01-05.xlsx",
        "2024-01-05",
        "2024-01-05.final.csv",
        "2024-01-05/part.xlsx",
        "2024-01-05/deep/part.csv",
    ],
)
def test_misnamed_files_are_reported_and_make_no_delivery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    deliver(tmp_path, name)
    with caplog.at_level(logging.WARNING):
        assert find_deliveries(str(tmp_path), "orders", [DAY]) == {}
    (record,) = caplog.records
    assert (name.split("/")[1] if "/" in name else name) in record.getMessage()
    assert "YYYY-MM-DD.EXT" in record.getMessage()


def test_a_folder_without_permission_is_a_source_that_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)  # the tests may run as root, whom no mode keeps out
    with pytest.raises(SourceUnavailable, match=r"orders cannot be listed \(Permission denied\)"):
        find_deliveries(str(tmp_path), "orders", [DAY])


def test_a_file_without_permission_is_a_source_that_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, "2024-01-05.csv")
    delivery = found(tmp_path)

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceUnavailable, match=r"orders/2024-01-05.csv cannot be read \(Permission denied\)"):
        read_delivery(delivery, ORDERS)


def test_a_url_with_a_scheme_that_is_not_read_is_refused() -> None:
    with pytest.raises(SettingsError, match="DATA_PLATFORM_LANDING_URL begins with ftp://, which is not read"):
        landed_days("ftp://host/landing", "orders")


def test_a_link_out_of_the_landing_folder_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "secret.csv"
    outside.write_text("a\n1\n")
    (tmp_path / "landing" / "orders").mkdir(parents=True)
    (tmp_path / "landing" / "orders" / "2024-01-05.csv").symlink_to(outside)
    assert "leads out of the landing folder" in rejection(tmp_path / "landing")


def test_a_linked_folder_of_a_day_is_refused_as_well(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "part.csv").write_text("a\n1\n")
    (tmp_path / "landing" / "orders").mkdir(parents=True)
    (tmp_path / "landing" / "orders" / "2024-01-05").symlink_to(tmp_path / "outside")
    assert "leads out of the landing folder" in rejection(tmp_path / "landing")


def test_an_entity_folder_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "landing" / "orders").symlink_to(tmp_path / "outside")
    with pytest.raises(SettingsError, match="leads out of the landing folder"):
        find_deliveries(str(tmp_path / "landing"), "orders", [DAY])


def test_a_link_within_the_landing_folder_is_followed(tmp_path: Path) -> None:
    path = deliver(tmp_path, "2024-01-05.csv")
    (tmp_path / "orders" / "2024-01-06.csv").symlink_to(path)
    (file,) = found(tmp_path, date(2024, 1, 6)).files
    assert (file.path, file.name) == (path, "2024-01-06.csv")


def test_a_link_to_nothing_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "2024-01-05.csv").symlink_to(tmp_path / "orders" / "gone.csv")
    assert "link to nothing" in rejection(tmp_path)


def test_a_landing_folder_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    deliver(tmp_path / "real", "2024-01-05.csv")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert found(tmp_path / "link").files[0].name == "2024-01-05.csv"


# -- listing ---------------------------------------------------------------------------------------------------------


def test_a_listing_tells_of_every_file_and_manifest_of_a_day_without_reading_one(tmp_path: Path) -> None:
    path = deliver(tmp_path, "2024-01-05.csv")
    for name in ("2024-01-05/b.csv", "2024-01-05/a.parquet", "2024-01-05.manifest.json"):
        deliver(tmp_path, name)
    for name in (
        "2024-01-05.csv.tmp",
        "2024-01-05/_SUCCESS",
        "2024-01-05/notes.txt",
        "orders.csv",
        "2024-01-06/.x.csv",
    ):
        deliver(tmp_path, name)
    (tmp_path / "orders" / "2024-01-07.csv").symlink_to(tmp_path / "gone")
    found = listing(str(tmp_path), "orders")
    assert {day.isoformat(): [file.name for file in files] for day, files in found.items()} == {
        "2024-01-05": ["2024-01-05.csv", "2024-01-05.manifest.json", "2024-01-05/a.parquet", "2024-01-05/b.csv"]
    }
    (file, *_) = found[DAY]
    assert (file.size, file.version) == (path.stat().st_size, str(path.stat().st_mtime_ns))
    assert file.changed.timestamp() == pytest.approx(path.stat().st_mtime, abs=0.001)
    assert listing(str(tmp_path), "orders") == found
    os.utime(path, ns=(0, 0))
    assert listing(str(tmp_path), "orders") != found
    assert listing(str(tmp_path / "nowhere"), "orders") == {}


# -- a delivery as a frame -------------------------------------------------------------------------------------------


def test_rows_know_their_file_and_their_number_in_it(tmp_path: Path) -> None:
    deliver(tmp_path, "2024-01-05/b.csv", "a,b\n5,6\n")
    deliver(tmp_path, "2024-01-05/a.csv", "a,b\n1,2\n3,4\n")
    frame = read_delivery(found(tmp_path), ORDERS)
    assert frame.schema == {"a": pl.String, "b": pl.String, "_file": pl.String, "_row": pl.Int64}
    assert frame.rows() == [
        ("1", "2", "2024-01-05/a.csv", 1),
        ("3", "4", "2024-01-05/a.csv", 2),
        ("5", "6", "2024-01-05/b.csv", 1),
    ]


def test_a_header_alone_is_an_empty_frame_with_its_columns(tmp_path: Path) -> None:
    deliver(tmp_path, "2024-01-05.csv", "a,b\n")
    frame = read_delivery(found(tmp_path), ORDERS)
    assert frame.schema == {"a": pl.String, "b": pl.String, "_file": pl.String, "_row": pl.Int64}
    assert frame.height == 0


def test_a_column_that_a_file_lacks_is_null_for_that_file(tmp_path: Path) -> None:
    deliver(tmp_path, "2024-01-05/a.csv", "a,b\n1,2\n")
    deliver(tmp_path, "2024-01-05/b.csv", "c,a\n3,4\n")
    frame = read_delivery(found(tmp_path), ORDERS)
    assert frame.select("a", "b", "c").rows() == [("1", "2", None), ("4", None, "3")]
    assert frame.columns[-2:] == ["_file", "_row"]


def test_a_column_of_two_types_is_text(tmp_path: Path) -> None:
    folder = tmp_path / "orders" / "2024-01-05"
    folder.mkdir(parents=True)
    moment = pl.lit("2024-01-05T01:02:03.5").str.to_datetime(time_unit="us")
    pl.select(id=1, price=pl.lit("1.50").cast(pl.Decimal(18, 2)), at=moment).write_parquet(folder / "a.parquet")
    pl.select(id=2.5, price=pl.lit("2"), at=moment.dt.replace_time_zone("Europe/Berlin")).write_parquet(
        folder / "b.parquet"
    )
    frame = read_delivery(found(tmp_path), ORDERS)
    assert frame.select("id", "price").rows() == [("1", "1.50"), ("2.5", "2")]
    assert frame["at"].to_list() == ["2024-01-05 01:02:03.500000", "2024-01-05T00:02:03.500Z"]


def test_nested_columns_of_two_types_are_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "orders" / "2024-01-05"
    folder.mkdir(parents=True)
    pl.DataFrame({"a": [[1]]}).write_parquet(folder / "a.parquet")
    pl.DataFrame({"a": ["x"]}).write_parquet(folder / "b.parquet")
    with pytest.raises(DeliveryRejected, match="disagree on the type of column 'a'"):
        read_delivery(found(tmp_path), ORDERS)


@pytest.mark.parametrize("moment", ["before", "while"])
def test_a_file_that_changes_after_it_was_listed_is_rejected_as_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = deliver(tmp_path, "2024-01-05.csv")
    delivery = found(tmp_path)

    def read_and_grow(*args: Any) -> pl.DataFrame:
        frame = read_file(*args)
        path.write_text("a,b\n1,2\n3,4\n")
        return frame

    if moment == "before":
        path.write_text("a,b\n1,2\n3,4\n")
    else:
        monkeypatch.setattr(landing, "read_file", read_and_grow)
    with pytest.raises(DeliveryRejected, match=r"orders/2024-01-05.csv changed while it was being read.*unfinished"):
        read_delivery(delivery, ORDERS)


def test_a_file_of_the_same_size_but_another_time_has_changed(tmp_path: Path) -> None:
    path = deliver(tmp_path, "2024-01-05.csv")
    delivery = found(tmp_path)
    os.utime(path, ns=(0, 0))
    with pytest.raises(DeliveryRejected, match="unfinished"):
        read_delivery(delivery, ORDERS)


def test_a_file_that_is_gone_is_rejected(tmp_path: Path) -> None:
    path = deliver(tmp_path, "2024-01-05.csv")
    delivery = found(tmp_path)
    path.unlink()
    with pytest.raises(DeliveryRejected, match="is gone"):
        read_delivery(delivery, ORDERS)


# -- the header ------------------------------------------------------------------------------------------------------


def test_a_missing_required_column_is_named_with_the_nearest_delivered_one() -> None:
    with pytest.raises(DeliveryRejected) as caught:
        check_header(["order_id", "Product Id", "qty", "_file", "_row"], ORDERS, ["order_id", "product_id"])
    sentence = str(caught.value)
    assert "orders lacks the required column 'product_id'" in sentence
    assert "`orders: columns: product_id: Product Id`" in sentence


def test_a_mapped_column_is_missed_under_the_name_that_was_promised() -> None:
    source = Source.model_validate({"entity": "orders", "columns": {"order_id": "InvoiceNo"}})
    with pytest.raises(DeliveryRejected, match="lacks the required column 'InvoiceNo'"):
        check_header(["order_id"], source, ["order_id"])


def test_a_header_passes_by_name_by_mapping_by_capitals_and_by_constant() -> None:
    source = Source.model_validate(
        {"entity": "orders", "columns": {"order_id": "Invoice", "status": {"constant": "new"}}}
    )
    check_header(["Invoice", " Product_ID ", "quantity"], source, ["order_id", "product_id", "quantity", "status"])


def test_our_own_columns_do_not_count_as_delivered() -> None:
    with pytest.raises(DeliveryRejected):
        check_header(["_row"], ORDERS, ["_row"])


@pytest.mark.parametrize("spec", [{"decimal": "comma"}, {"format": "%d.%m.%Y"}])
def test_a_folder_whose_files_write_a_mapped_column_in_two_notations_is_rejected(
    tmp_path: Path, spec: dict[str, str]
) -> None:
    deliver(tmp_path, "2024-01-05/a.csv", "Preis\n1\n")
    pl.DataFrame({"Preis": [1.5]}).write_parquet(tmp_path / "orders" / "2024-01-05" / "b.parquet")
    source = Source.model_validate({"entity": "orders", "columns": {"unit_price": {"from": "Preis"} | spec}})
    with pytest.raises(DeliveryRejected, match=r"disagree on the type of column 'Preis'.*in one kind"):
        read_delivery(found(tmp_path), source)


def test_a_name_that_another_column_goes_by_is_not_proposed_for_a_missing_one() -> None:
    with pytest.raises(DeliveryRejected) as refused:
        check_header(["order_id", "product_id"], ORDERS, ["order_id", "product_id", "order_ts"])
    assert "did" not in str(refused.value)
