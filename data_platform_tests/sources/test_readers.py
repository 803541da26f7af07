import base64
import gzip
import json
import re
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_platform.errors import DeliveryRejected
from data_platform.sources import columnar, readers
from data_platform.sources.config import Source
from data_platform.sources.readers import read_file

# Written by fastavro: id, nullable decimal(18,4), nullable timestamp-micros, date; then a map; then a union of three.
AVRO = base64.b64decode(
    "T2JqAQQUYXZyby5jb2RlYw5kZWZsYXRlFmF2cm8uc2NoZW1hoAV7InR5cGUiOiAicmVjb3JkIiwgIm5hbWUiOiAiciIsICJmaWVsZHMiOiBbeyJu"
    "YW1lIjogImYwIiwgInR5cGUiOiAic3RyaW5nIn0sIHsibmFtZSI6ICJmMSIsICJ0eXBlIjogWyJudWxsIiwgeyJsb2dpY2FsVHlwZSI6ICJkZWNp"
    "bWFsIiwgInByZWNpc2lvbiI6IDE4LCAic2NhbGUiOiA0LCAidHlwZSI6ICJieXRlcyJ9XX0sIHsibmFtZSI6ICJmMiIsICJ0eXBlIjogWyJudWxs"
    "IiwgeyJsb2dpY2FsVHlwZSI6ICJ0aW1lc3RhbXAtbWljcm9zIiwgInR5cGUiOiAibG9uZyJ9XX0sIHsibmFtZSI6ICJmMyIsICJ0eXBlIjogeyJs"
    "b2dpY2FsVHlwZSI6ICJkYXRlIiwgInR5cGUiOiAiaW50In19XX0AMDEyMzQ1Njc4OWFiY2RlZgZOY3E0ZGJjfMTB1PDm+LWerna2eVuYWByNmFj+"
    "NzCAmcYMyFIAfcgRMDEyMzQ1Njc4OWFiY2RlZg=="
)
AVRO_MAP = base64.b64decode(
    "T2JqAQQUYXZyby5jb2RlYwhudWxsFmF2cm8uc2NoZW1hzAF7InR5cGUiOiAicmVjb3JkIiwgIm5hbWUiOiAiciIsICJmaWVsZHMiOiBbeyJuYW1l"
    "IjogImYwIiwgInR5cGUiOiB7InR5cGUiOiAibWFwIiwgInZhbHVlcyI6ICJsb25nIn19XX0AMDEyMzQ1Njc4OWFiY2RlZgIKAgJrAgAwMTIzNDU2"
    "Nzg5YWJjZGVm"
)
AVRO_UNION = base64.b64decode(
    "T2JqAQQUYXZyby5jb2RlYwhudWxsFmF2cm8uc2NoZW1hvgF7InR5cGUiOiAicmVjb3JkIiwgIm5hbWUiOiAiciIsICJmaWVsZHMiOiBbeyJuYW1l"
    "IjogImYwIiwgInR5cGUiOiBbIm51bGwiLCAic3RyaW5nIiwgImxvbmciXX1dfQAwMTIzNDU2Nzg5YWJjZGVmAgYCAngwMTIzNDU2Nzg5YWJjZGVm"
)

Read = Callable[..., pl.DataFrame]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read bytes as the file `name` of a source with the given settings."""

    def read(content: bytes | str, name: str = "d.csv", **settings: object) -> pl.DataFrame:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_file(path, f"orders/{name}", Source.model_validate({"entity": "orders", **settings}))

    return read


def rejection(read: Read, content: bytes | str, name: str = "d.csv", **settings: object) -> str:
    """The sentence with which a file is rejected, which is one and holds none of the file's values."""
    with pytest.raises(DeliveryRejected) as caught:
        read(content, name, **settings)
    sentence = str(caught.value)
    assert f"orders/{name}" in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "SECRET" not in sentence
    assert caught.value.__cause__ is None
    return sentence


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, codec="zstd", asbytes=True)
    return packed


# -- csv -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a,b\n1,2\n", [("1", "2")]),
        ("a,b\n1,2", [("1", "2")]),
        ("a,b\r\n1,2\r\n", [("1", "2")]),
        ("a,b\r1,2\r", [("1", "2")]),
        ("\n\na,b\n\n1,2\n\n\n", [("1", "2")]),
        ("a,b\n 1 ,\t2\n", [(" 1 ", "\t2")]),
        ('a,b\n,""\n', [(None, "")]),
        ('a,b\n"x, ""y""\nz",2\n', [('x, "y"\nz', "2")]),
        ('a,b\n5" nail,2\n', [('5" nail', "2")]),
        ("a,b\nNA,null\n", [("NA", "null")]),
        ("a,b\n007,1e2\n", [("007", "1e2")]),
        ("\ufeffa,b\né,€\n", [("é", "€")]),
        ("a,b\n", []),
        ("a,b", []),
        ("a,b\n\n\n", []),
    ],
)
def test_csv_values_are_as_delivered(read: Read, content: str, rows: list[tuple[str | None, ...]]) -> None:
    frame = read(content)
    assert frame.schema == {"a": pl.String, "b": pl.String}
    assert frame.rows() == rows


def test_a_csv_of_one_column_skips_blank_lines(read: Read) -> None:
    assert read('a\n1\n\n""\n2\n').rows() == [("1",), ("",), ("2",)]


def test_a_quoted_header_may_hold_delimiters_and_line_breaks(read: Read) -> None:
    assert read('"a,\nb",c\n1,2\n').to_dicts() == [{"a,\nb": "1", "c": "2"}]


def test_delimiter_and_quote_are_settings(read: Read) -> None:
    assert read("a;b\n'x;y';2\n", delimiter=";", quote="'").rows() == [("x;y", "2")]
    assert read('a\tb\n"x\t2\n', delimiter="tab", quote="").rows() == [('"x', "2")]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_every_encoding_is_decoded(read: Read, encoding: str) -> None:
    assert read("ä,b\nCafé,1\n".encode(encoding), encoding=encoding).to_dicts() == [{"ä": "Café", "b": "1"}]


def test_an_encoding_is_decoded_across_the_pieces_in_which_a_file_is_read(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_CHUNK", 3)
    assert read("a,b\né€,😀\n".encode("utf-16"), encoding="utf-16").rows() == [("é€", "😀")]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a,b\n1,2\nSECRET\n", "line 3"),
        ("a,b\n1,2\nSECRET,2,3\n", "line 3"),
        ('a,b\n"x\ny",2\n\nSECRET\n', "line 5"),
        ("a,b\r\n1,2\r\nSECRET\r\n", "line 3"),
    ],
)
def test_a_row_with_too_few_or_too_many_fields_is_rejected_naming_its_line(read: Read, content: str, line: str) -> None:
    sentence = rejection(read, content)
    assert line in sentence
    assert "where the header has 2" in sentence


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('a,b\n1,2\n"SECRET,2\n3,4\n', "line 3"),
        ('a,b\n1,2\n3,"SECRET', "line 3"),
        ('a,b\n"SECRET"x,2\n', "line 2"),
    ],
)
def test_a_quote_that_is_left_open_is_rejected_naming_its_line(read: Read, content: str, line: str) -> None:
    sentence = rejection(read, content)
    assert line in sentence
    assert 'quote: ""' in sentence


def test_bytes_that_are_not_utf8_are_rejected_naming_line_and_encoding(read: Read) -> None:
    sentence = rejection(read, b"a,b\n1,2\nSECRET\xe9,2\n")
    assert "line 3 is not UTF-8" in sentence
    assert "`orders: encoding: latin-1`" in sentence
    assert "line 1 is not UTF-8" in rejection(read, b"\xe9,b\n1,2\n")
    assert "line 2 is not UTF-8" in rejection(read, b'{"a":1}\n{"a":"\xe9"}\n', "d.jsonl")


def test_utf16_without_the_setting_is_rejected_naming_it(read: Read) -> None:
    assert "encoding: utf-16" in rejection(read, "a,b\n1,2\n".encode("utf-16"))
    assert "encoding: utf-16" in rejection(read, "a,b\n1,2\n".encode("utf-16-le"))


@pytest.mark.parametrize(
    ("content", "encoding", "byte"),
    [(b"a,b\n1,\x81\n", "cp1252", "byte 6"), ("a,b\n1,2\n".encode("utf-16") + b"x", "utf-16", "byte 18")],
)
def test_bytes_that_are_not_in_the_set_encoding_are_rejected_naming_the_byte(
    read: Read, content: bytes, encoding: str, byte: str
) -> None:
    sentence = rejection(read, content, encoding=encoding)
    assert f"is not {encoding} ({byte})" in sentence
    assert "sources.yaml" in sentence


@pytest.mark.parametrize(("delimiter", "shown"), [(";", ";"), ("\t", "\\t"), ("|", "|")])
def test_a_wrong_delimiter_is_rejected_naming_the_right_one(read: Read, delimiter: str, shown: str) -> None:
    content = f"a{delimiter}b\n1{delimiter}2\n"
    assert f'`orders: delimiter: "{shown}"`' in rejection(read, content)
    assert read(content, delimiter=shown).rows() == [("1", "2")]


def test_a_comma_under_another_delimiter_is_seen_as_well(read: Read) -> None:
    assert 'delimiter: ","' in rejection(read, "a,b\n1,2\n", delimiter=";")


def test_a_column_that_is_delivered_twice_is_rejected(read: Read) -> None:
    assert "more than one column 'a'" in rejection(read, "a,b,a\n1,2,3\n")


@pytest.mark.parametrize("name", ["_file", "_row", "_partition", "_row_number", "_FILE"])
def test_our_own_column_names_are_refused_in_every_format(read: Read, tmp_path: Path, name: str) -> None:
    assert name in rejection(read, f"a,{name}\n1,2\n")
    assert name in rejection(read, f'{{"{name}": 1}}\n', "d.jsonl")
    pl.DataFrame({name: [1]}).write_parquet(tmp_path / "made.parquet")
    assert name in rejection(read, (tmp_path / "made.parquet").read_bytes(), "d.parquet")


def test_too_many_columns_are_refused(read: Read) -> None:
    assert "10000 are the most" in rejection(read, ",".join(f"c{number}" for number in range(10_001)) + "\n")


def test_blank_lines_alone_are_no_header(read: Read) -> None:
    assert "blank lines only" in rejection(read, "\n\n")


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(text, text), max_size=8))
def test_whatever_is_quoted_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "d.csv"
    lines = [",".join('"' + value.replace('"', '""') + '"' for value in row) for row in [("a", "b"), *rows]]
    path.write_bytes("\r\n".join(lines).encode())
    assert read_file(path, "orders/d.csv", Source(entity="orders")).rows() == rows


# -- whatever is text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl", "d.parquet", "d.avro", "d.csv.gz", "d.csv.zst", "d.jsonl.gz"])
def test_zero_bytes_are_rejected_in_every_format(read: Read, name: str) -> None:
    assert "zero bytes" in rejection(read, b"", name)


def test_zero_bytes_in_a_wrapping_are_zero_bytes(read: Read) -> None:
    assert "zero bytes" in rejection(read, gzip.compress(b""), "d.csv.gz")
    assert "zero bytes" in rejection(read, zstd(b""), "d.csv.zst")


@pytest.mark.parametrize(("extension", "pack"), [("gz", gzip.compress), ("zst", zstd)])
def test_compressed_text_is_read_and_refused_when_broken(
    read: Read, extension: str, pack: Callable[[bytes], bytes]
) -> None:
    rows = [(str(number), str(number * 7919 % 1000)) for number in range(2000)]
    packed = pack(b"a,b\n" + b"".join(f"{a},{b}\n".encode() for a, b in rows))
    assert read(packed, f"d.csv.{extension}").rows() == rows
    assert read(pack(b'{"a": 1}\n'), f"d.jsonl.{extension}").rows() == [("1",)]
    for broken in (packed[:-5], packed[: len(packed) // 2], packed[:9], packed[:1], b"a,b\n1,2\n"):
        assert f"not whole {extension} data" in rejection(read, broken, f"d.csv.{extension}")


def test_quotes_are_checked_across_the_pieces_in_which_they_are_looked_at(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = 'a,b\n"12","3""4"\n"","x,\ny"\n'
    for size in range(1, 12):
        monkeypatch.setattr(readers, "_CHUNK", size)
        assert readers._well_quoted(content.encode(), 4, Source(entity="orders"))
        assert not readers._well_quoted(content[:-2].encode(), 4, Source(entity="orders"))
        assert not readers._well_quoted(content.replace("12", '1"2"').encode(), 4, Source(entity="orders"))
        assert read(content).rows() == [("12", '3"4'), ("", "x,\ny")]


def test_members_of_a_packed_file_follow_each_other(read: Read) -> None:
    assert read(gzip.compress(b"a\n1\n") + gzip.compress(b"2\n"), "d.csv.gz").rows() == [("1",), ("2",)]
    assert read(zstd(b"a\n1\n") + zstd(b"2\n"), "d.csv.zst").rows() == [("1",), ("2",)]


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.jsonl"])
def test_a_line_of_200_mb_is_refused_without_being_read_whole(read: Read, name: str) -> None:
    content = b"a,b\n1," + b"x" * 200_000_000
    if name.endswith("gz"):
        content = gzip.compress(content, 1)
    tracemalloc.start()
    try:
        assert "a line of more than 16 MB" in rejection(read, content, name)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_a_long_line_counts_across_the_pieces_in_which_it_is_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_CHUNK", 7)
    monkeypatch.setattr(readers, "MAX_LINE", 20)
    assert read("a,b\n" + "123456789,123456789\n" * 3).height == 3
    assert "a line of more than" in rejection(read, "a,b\n1,2\n" + "1234567890,1234567890\n")


# -- jsonl -----------------------------------------------------------------------------------------------------------


def test_json_values_keep_the_text_in_which_they_were_written(read: Read) -> None:
    content = (
        '{"s": " x ", "i": 007, "n": 1}\n'.replace("007", "7")
        + '{"s": "", "i": 12345678901234567890123, "n": null, "f": 1.10}\r\n'
        + "\n"
        + '{"f": 1e400, "b": true, "o": {"a": [1.50, "x", false, null]}, "l": []}\n'
        + '{"f": NaN, "b": false, "s": "\\u00e9\\u2028\u2028"}'
    )
    frame = read(content, "d.jsonl")
    assert set(frame.dtypes) == {pl.String()}
    assert frame.to_dicts() == [
        {"s": " x ", "i": "7", "n": "1", "f": None, "b": None, "o": None, "l": None},
        {"s": "", "i": "12345678901234567890123", "n": None, "f": "1.10", "b": None, "o": None, "l": None},
        {"s": None, "i": None, "n": None, "f": "1e400", "b": "true", "o": '{"a":[1.50,"x",false,null]}', "l": "[]"},
        {"s": "é\u2028\u2028", "i": None, "n": None, "f": "NaN", "b": "false", "o": None, "l": None},
    ]


def test_jsonl_is_utf8_whatever_encoding_is_set_for_csv_and_may_begin_with_a_byte_order_mark(read: Read) -> None:
    assert read('\ufeff{"a": "é"}\n', "d.jsonl").rows() == [("é",)]
    assert read('{"a": "é"}\n', "d.jsonl", encoding="cp1252").rows() == [("é",)]
    with pytest.raises(DeliveryRejected, match="not UTF-8"):
        read('{"a": "é"}\n'.encode("latin-1"), "d.jsonl", encoding="latin-1")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"a": "SECRET"', "is not valid JSON"),
        ('{"a": 1}{"b": "SECRET"}', "is not valid JSON"),
        ('["SECRET"]', "is no JSON object"),
        ('"SECRET"', "is no JSON object"),
        ('{"a": "SECRET", "a": 2}', "names a key twice"),
        ('{"a": "SECRET\\ud800"}', "half a surrogate pair"),
        ("[" * 100_000, "is not valid JSON"),
    ],
)
def test_a_line_that_is_no_object_is_rejected_naming_it(read: Read, line: str, words: str) -> None:
    sentence = rejection(read, '{"a": 1}\n\n' + line + "\n", "d.jsonl")
    assert f"line 3 {words}" in sentence or f"line 3 holds {words}" in sentence


@pytest.mark.parametrize("content", ["\n", "{}\n{}\n"])
def test_jsonl_that_names_no_column_is_rejected(read: Read, content: str) -> None:
    assert "names no column" in rejection(read, content, "d.jsonl")


# -- parquet and avro ------------------------------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path: Path) -> bytes:
    frame = pl.DataFrame(
        {
            "price": [Decimal("1.5000"), None],
            "at": [datetime(2024, 1, 5, tzinfo=UTC), None],
            "kind": pl.Series(["a", "b"], dtype=pl.Categorical),
            "nothing": [None, None],
            "id": ["x", "y"],
        },
        schema_overrides={"price": pl.Decimal(18, 4)},
    )
    frame.write_parquet(tmp_path / "made.parquet")
    return (tmp_path / "made.parquet").read_bytes()


def test_parquet_keeps_its_types_but_for_categories_and_nulls(read: Read, parquet: bytes) -> None:
    frame = read(parquet, "d.parquet")
    assert frame.schema == {
        "price": pl.Decimal(18, 4),
        "at": pl.Datetime("us", "UTC"),
        "kind": pl.String,
        "nothing": pl.String,
        "id": pl.String,
    }
    assert frame.row(0) == (Decimal("1.5000"), datetime(2024, 1, 5, tzinfo=UTC), "a", None, "x")


def test_parquet_without_rows_is_an_empty_frame(read: Read, tmp_path: Path) -> None:
    pl.DataFrame(schema={"a": pl.Int64}).write_parquet(tmp_path / "made.parquet")
    frame = read((tmp_path / "made.parquet").read_bytes(), "d.parquet")
    assert frame.schema == {"a": pl.Int64}
    assert frame.height == 0


def test_parquet_that_is_broken_or_cut_short_is_rejected(read: Read, parquet: bytes) -> None:
    for broken in (parquet[:-1], parquet[:100], b"a,b\n1,2\n", b"PAR1PAR1PAR1", b"PAR1" + parquet[-200:]):
        assert "not whole parquet data" in rejection(read, broken, "d.parquet")


def test_avro_gives_decimals_time_stamps_and_nulls_exactly(read: Read) -> None:
    frame = read(AVRO, "d.avro")
    assert frame.dtypes == [pl.String, pl.Decimal(18, 4), pl.Datetime("us", "UTC"), pl.Date]
    moment = datetime(2024, 1, 5, 1, 2, 3, 123456, UTC)
    assert frame.rows() == [
        ("A1", Decimal("12.3400"), moment, date(2024, 1, 5)),
        ("A2", Decimal("-0.0128"), None, date(2024, 1, 5)),
        ("A3", None, moment, date(2024, 1, 5)),
    ]


def test_avro_without_rows_is_an_empty_frame(read: Read, tmp_path: Path) -> None:
    pl.DataFrame(schema={"a": pl.Int64}).write_avro(tmp_path / "made.avro")
    frame = read((tmp_path / "made.avro").read_bytes(), "d.avro")
    assert frame.schema == {"a": pl.Int64}
    assert frame.height == 0


def test_avro_that_is_broken_or_cut_short_is_rejected(read: Read) -> None:
    for broken in (AVRO[:-1], AVRO[:-20], AVRO[:200], AVRO[:3], b"a,b\n1,2\n", b"Obj\x01" + b"\xff" * 40):
        assert "not whole avro data" in rejection(read, broken, "d.avro")


@pytest.mark.parametrize(("content", "kind"), [(AVRO_MAP, "map"), (AVRO_UNION, "union of several types")])
def test_avro_types_that_are_not_read_are_refused_naming_the_column(read: Read, content: bytes, kind: str) -> None:
    assert f"column 'f0' of avro type {kind}" in rejection(read, content, "d.avro")


@pytest.mark.parametrize(
    ("kind", "unread"),
    [
        ("string", None),
        (["null", "string"], None),
        (["long", "null"], None),
        ({"type": "enum", "symbols": ["a"]}, None),
        ({"type": "string", "logicalType": "varchar"}, None),
        ({"type": "record", "fields": [{"name": "x", "type": ["null", "int"]}]}, None),
        ({"type": "array", "items": "string"}, None),
        (["null", {"type": "enum", "symbols": ["a"]}], "nullable enum"),
        ({"type": "long", "logicalType": "timestamp-nanos"}, "timestamp-nanos"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 50}, "decimal"),
        ({"type": "array", "items": {"type": "map", "values": "int"}}, "map"),
        ({"type": "record", "fields": [{"name": "x", "type": "null"}]}, "null"),
        ("shop.Money", "shop.Money"),
    ],
)
def test_what_avro_types_are_read_is_known(kind: object, unread: str | None) -> None:
    assert columnar._unread(kind) == unread


# Bombs: little that becomes much


@pytest.mark.parametrize("extension", ["gz", "zst"])
def test_text_that_unpacks_to_far_more_than_its_size_is_refused_while_it_unpacks(
    tmp_path: Path, extension: str
) -> None:
    path = tmp_path / f"d.csv.{extension}"
    with pa.output_stream(path, compression={"gz": "gzip", "zst": "zstd"}[extension]) as file:
        file.write(b"a,b\n")
        for _ in range(250):
            file.write(b"1,2\n" * 256 * 1024)  # 1 MB
    assert path.stat().st_size < 1024 * 1024
    with pytest.raises(
        DeliveryRejected, match=r"^orders/d.* unpacks to more than 1?\d\d MB, .*it may be a bomb"
    ) as told:
        read_file(path, f"orders/{path.name}", Source(entity="orders"))
    assert int(re.findall(r"(\d+) MB", str(told.value))[0]) < 250


def test_a_bomb_in_a_packing_unpacks_no_further(tmp_path: Path) -> None:
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(gzip.compress(b"a,b\n" + b"1,2\n" * 1024 * 1024)))
    with pytest.raises(DeliveryRejected, match="is not UTF-8"):
        read_file(path, "orders/d.csv.gz", Source(entity="orders"))


def a_million_columns(kind: str) -> bytes:
    names = [f"c{number}" for number in range(1_000_000)]
    header = (",".join(names) + "\n").encode()
    if kind == "csv":
        return header
    if kind == "csv.gz":
        return gzip.compress(header, 1)
    if kind == "jsonl":
        return json.dumps(dict.fromkeys(names, 1)).encode()
    if kind == "avro":
        fields = [{"name": name, "type": "int"} for name in names]
        schema = json.dumps({"type": "record", "name": "r", "fields": fields}).encode()
        return b"Obj\x01" + b"\x02" + b"\x16avro.schema" + zigzag(len(schema)) + schema + b"\x00" + b"s" * 16
    # The footer of a Parquet file as Thrift writes it; the elements of its schema follow, and are never looked at.
    footer = b"\x15\x04\x19" + b"\xfc" + varint(len(names) + 1) + b"\x48\x01a\x00" * len(names)
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def zigzag(number: int) -> bytes:
    return varint(number * 2 if number >= 0 else -number * 2 - 1)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "avro", "parquet"])
def test_a_file_of_a_million_columns_is_refused_in_seconds_and_in_little_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"d.{kind}"
    path.write_bytes(a_million_columns(kind))
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from data_platform.errors import DeliveryRejected\n"
        "from data_platform.sources.config import Source\n"
        "from data_platform.sources.readers import read_file\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    read_file(Path(sys.argv[1]), 'orders/d', Source(entity='orders'))\n"
        "except DeliveryRejected as error:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)\n"
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    grown, _, said = done.stdout.partition(" ")
    assert said == "orders/d has 1000000 columns, and 10000 are the most: deliver fewer.\n", done.stderr[-500:]
    assert time.monotonic() - begin < 60
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(grown) * unit < 1024**3


@pytest.mark.parametrize("columns", [1, 13, 14, 15, 200, 10_000])
def test_parquet_of_any_number_of_columns_that_is_taken_is_read(read: Read, tmp_path: Path, columns: int) -> None:
    path = tmp_path / "d.parquet"
    pl.DataFrame({f"c{number}": [1] for number in range(columns)}).write_parquet(path)
    assert read_file(path, "orders/d.parquet", Source(entity="orders")).width == columns
    pq.write_table(pa.table({f"c{number}": [1] for number in range(columns)}), path)
    assert columnar._schema_elements(path.read_bytes()) == columns + 1


def avro(codec: str, fields: list[str], *blocks: tuple[int, bytes]) -> bytes:
    """An avro file of longs and strings: the blocks are how many rows they tell of, and what they hold."""
    kinds = [{"name": name, "type": "string" if name.startswith("s") else "long"} for name in fields]
    schema = json.dumps({"type": "record", "name": "r", "fields": kinds}).encode()
    told = {b"avro.schema": schema, b"avro.codec": codec.encode()}
    head = b"".join(zigzag(len(piece)) + piece for pair in told.items() for piece in pair)
    body = b"".join(zigzag(count) + zigzag(len(content)) + content + b"s" * 16 for count, content in blocks)
    return b"Obj\x01" + zigzag(len(told)) + head + b"\x00" + b"s" * 16 + body


def deflated(content: bytes) -> bytes:
    packing = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packing.compress(content) + packing.flush()


def test_avro_of_these_tests_is_read(read: Read) -> None:
    content = avro("deflate", ["a", "s"], (2, deflated(b"\x02\x02x\x04\x02y")), (1, deflated(b"\x06\x02z")))
    assert read(content, "d.avro").drop("_file", "_row", strict=False).rows() == [(1, "x"), (2, "y"), (3, "z")]
    assert read(avro("null", ["a"], (2, b"\x02\x04")), "d.avro").rows() == [(1,), (2,)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (avro("deflate", ["s"], (1, deflated(zigzag(300 * 1024**2) + bytes(300 * 1024**2)))), "unpacks to more than"),
        (avro("deflate", ["a"], (300_000_000, deflated(bytes(1000)))), "says that it holds 300,000,000 values"),
        (avro("null", ["a", "b"], (2**40, bytes(1000))), "says that it holds 2,199,023,255,552 values"),
        (avro("null", ["a"], *[(200_000_000, bytes(10))] * 2), "says that it holds 400,000,000 values"),
        (avro("snappy", ["s"], (1, varint(2**31) + bytes(1000))), "unpacks to more than 2048 MB"),
        (avro("null", ["a"], (-1, bytes(10))), "is not whole avro data"),
        (avro("deflate", ["a"], (1, b"none")), "is not whole avro data"),
        (avro("null", ["a"], (1, b"\x02"))[:-18], "is not whole avro data"),
    ],
    ids=["text", "rows", "lie", "blocks", "snappy", "negative", "broken", "cut"],
)
def test_avro_that_would_be_far_more_than_its_size_is_refused_before_it_is_read(
    read: Read, content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "read_avro", None)
    assert said in rejection(read, content, "d.avro")


def test_parquet_of_runs_that_would_be_far_more_than_its_size_is_refused_before_it_is_read(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "read_parquet", None)
    path = tmp_path / "d.parquet"
    zeros = pa.array(np.zeros(10_000_000, dtype=np.int64))
    table = pa.table({f"c{number}": zeros for number in range(30)})
    pq.write_table(table, path, row_group_size=10_000_000)
    assert path.stat().st_size < 2 * 1024**2
    assert "says that it holds 300,000,000 values" in rejection(read, path.read_bytes(), "d.parquet")
    lists = pa.ListArray.from_arrays(pa.array([0, 10_000_000], pa.int32()), zeros)
    pq.write_table(pa.table({f"c{number}": lists for number in range(30)}), path)
    assert "says that it holds 300,000,000 values" in rejection(read, path.read_bytes(), "d.parquet")


def test_parquet_whose_pages_unpack_to_far_more_is_refused_before_it_is_read(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl, "read_parquet", None)
    path = tmp_path / "d.parquet"
    text = pa.array(["0" * 1024**2] * 200)
    pq.write_table(pa.table({"s": text}), path, compression="zstd", use_dictionary=False, write_statistics=False)
    assert path.stat().st_size < 1024**2
    assert "it may be a bomb" in rejection(read, path.read_bytes(), "d.parquet")


def test_a_table_that_is_mostly_empty_is_no_bomb(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pl.DataFrame({"a": range(100_000)}).with_columns(
        pl.lit(None, pl.Int64).alias(f"c{number}") for number in range(200)
    ).write_parquet(path)
    assert read(path.read_bytes(), "d.parquet").shape == (100_000, 201)
