"""The lake: whole files or none, what stood before, what is left behind, and the sentences where it cannot be used."""

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data_platform.errors import PlatformError, SettingsError, SourceUnavailable
from data_platform.lake import Draft, Lake, Stamp, content_hash
from data_platform.settings import read_settings

DAY, NEXT = date(2024, 1, 5), date(2024, 1, 6)
ROWS = pl.DataFrame({"product_id": ["p1", "p2"]})
REJECTED = pl.DataFrame({"product_id": ["?"], "_reasons": [["odd"]]})


def stamp(content: str = "a" * 64, **values: Any) -> Stamp:
    return Stamp(content=content, **values)


def write(lake: Lake, content: str = "a" * 64, asset: str = "stg_products", frame: pl.DataFrame = ROWS) -> Stamp:
    written = stamp(content)
    lake.promote([lake.write_aside(asset, DAY, frame, written)])
    return written


def write_rejecting(lake: Lake, content: str, frame: pl.DataFrame = REJECTED, rejected: str = "r") -> Stamp:
    written = stamp(content, rows_quarantined=frame.height, rejected=rejected)
    lake.promote([lake.write_aside("stg_products", DAY, ROWS, written, frame)])
    return written


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def files(lake: Lake) -> list[str]:
    return sorted(path.relative_to(lake.root).as_posix() for path in lake.root.rglob("*.parquet"))


# Atomicity


def test_nothing_is_seen_of_what_is_written_aside_before_it_is_promoted(lake: Lake) -> None:
    draft = lake.write_aside("stg_products", DAY, ROWS, stamp(), REJECTED)
    assert lake.days("stg_products") == []
    assert lake.stamp("stg_products", DAY) is None
    lake.promote([draft])
    assert lake.days("stg_products") == [DAY]
    assert lake.read("stg_products", DAY).equals(ROWS)
    assert lake.stamp("stg_products", DAY) == stamp()
    assert list((lake.root / "_aside").iterdir()) == []


def test_a_stamp_comes_back_as_it_was_written(lake: Lake) -> None:
    full = stamp(
        "é" * 64, delivered=False, rows_delivered=4, rows_staged=1, rows_quarantined=2, rows_duplicate=1, mode="full",
        unit="order", unknown=("a", "b"), contract="c", first_moment="2024-01-01T00:00:00+00:00", totals={"x": "1.5"},
        files=("D/a.csv",), rejected="r",
    )  # fmt: skip
    lake.promote([lake.write_aside("raw_orders", DAY, pl.DataFrame(), full)])
    assert lake.stamps("raw_orders") == {DAY: full}


def test_a_stamp_of_before_the_quarantine_had_its_hash_is_read() -> None:
    assert Stamp.from_json('{"content": "a", "unknown": [], "files": []}') == stamp("a")


def test_a_reader_finds_the_former_rows_or_the_new_ones_while_a_partition_is_replaced(lake: Lake) -> None:
    write(lake)
    with lake.path("stg_products", DAY).open("rb") as reader:
        write(lake, "b" * 64, frame=ROWS[:1])
        assert pl.read_parquet(reader).height == 2
    assert lake.read("stg_products", DAY).height == 1


def test_quarantine_is_there_before_its_staging_file(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = lake.write_aside("stg_products", DAY, ROWS, stamp(), REJECTED)
    rename, order = Path.replace, []

    def noted(self: Path, target: Path) -> Path:
        order.append(target.parent.parent.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    lake.promote([draft])
    assert order == ["quarantine_products", "stg_products"]


def test_a_crash_between_the_two_renames_leaves_the_former_staging_with_its_quarantine(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = write_rejecting(lake, "a" * 64)
    draft = lake.write_aside("stg_products", DAY, ROWS, stamp("b" * 64), REJECTED)
    rename = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target.name == "part.parquet":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        lake.promote([draft])
    assert lake.stamp("stg_products", DAY) == former
    assert lake.quarantine_path("stg_products", DAY, former).exists()


def test_quarantine_is_named_by_its_content_and_an_older_one_goes_with_its_staging(lake: Lake) -> None:
    write_rejecting(lake, "a" * 64)
    assert f"quarantine_products/dt=2024-01-05/{'a' * 16}.parquet" in files(lake)
    write_rejecting(lake, "b" * 64)
    kept = [name for name in files(lake) if name.startswith("quarantine_products")]
    assert kept == [f"quarantine_products/dt=2024-01-05/{'b' * 16}.parquet"]
    write(lake, "c" * 64)
    assert not [name for name in files(lake) if name.startswith("quarantine_products")]


def test_rejected_rows_that_say_something_else_replace_those_of_the_same_keys(lake: Lake) -> None:
    write_rejecting(lake, "a" * 64)
    other = REJECTED.with_columns(product_id=pl.lit("!"))
    written = write_rejecting(lake, "a" * 64, other, rejected="s")
    assert pl.read_parquet(lake.quarantine_path("stg_products", DAY, written)).equals(other)
    assert lake.formers("stg_products") == []


def test_a_quarantine_that_is_gone_is_written_again(lake: Lake) -> None:
    written = write_rejecting(lake, "a" * 64)
    path = lake.quarantine_path("stg_products", DAY, written)
    path.unlink()
    write_rejecting(lake, "a" * 64)
    assert path.exists()


# What is not written


def test_an_unchanged_partition_is_not_written_again(lake: Lake) -> None:
    written = write_rejecting(lake, "a" * 64)
    paths = [lake.path("stg_products", DAY), lake.quarantine_path("stg_products", DAY, written)]
    before = [identity(path) for path in paths]
    draft = lake.write_aside("stg_products", DAY, ROWS, written, REJECTED)
    assert draft.path is None
    lake.promote([draft])
    assert [identity(path) for path in paths] == before


def test_a_partition_is_written_again_when_only_its_figures_changed(lake: Lake) -> None:
    before = write(lake)
    after = replace(before, rows_duplicate=1, rows_delivered=1)
    lake.promote([lake.write_aside("stg_products", DAY, ROWS, after)])
    assert lake.stamp("stg_products", DAY) == after
    assert lake.formers("stg_products") == []


# Former files


def test_a_staged_file_that_is_replaced_waits_below_former(lake: Lake) -> None:
    write(lake)
    write(lake, "b" * 64, frame=ROWS[:1])
    assert lake.formers("stg_products") == [lake.former_path("stg_products", DAY, "a" * 64)]
    assert pl.read_parquet(lake.formers("stg_products")[0]).equals(ROWS)


def test_a_partition_that_goes_back_and_forth_keeps_one_former_of_each(lake: Lake) -> None:
    for content in ("a", "b", "a", "b"):
        write(lake, content * 64)
    assert [path.stem[0] for path in lake.formers("stg_products")] == ["a", "b"]


def test_raw_has_no_former_files(lake: Lake) -> None:
    write(lake, asset="raw_products")
    write(lake, "b" * 64, asset="raw_products")
    assert not (lake.root / "_former").exists()


def test_former_files_are_kept_where_the_file_system_has_no_hard_links(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    write(lake)
    write(lake, "b" * 64, frame=ROWS[:1])
    assert pl.read_parquet(lake.former_path("stg_products", DAY, "a" * 64)).equals(ROWS)
    assert lake.read("stg_products", DAY).height == 1


# Left-overs


def test_discarded_drafts_and_left_overs_of_a_day_ago_are_removed(lake: Lake) -> None:
    draft = lake.write_aside("stg_products", DAY, ROWS, stamp(), REJECTED)
    old, young = lake.root / "_aside" / "old.parquet", lake.root / "_aside" / "young.parquet"
    old.touch()
    young.touch()
    two_days_ago = old.stat().st_mtime - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    lake.discard([draft])
    assert list((lake.root / "_aside").iterdir()) == [young]


def test_drafts_go_when_the_work_on_further_ones_fails(lake: Lake) -> None:
    def fail_after_one(drafts: list[Draft]) -> None:
        with lake.drafting(drafts):
            drafts.append(lake.write_aside("stg_products", DAY, ROWS, stamp()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_one([])
    assert files(lake) == []


# What is there


def test_days_are_those_of_the_folders_that_hold_a_file(lake: Lake) -> None:
    write(lake)
    for name in ("dt=2024-02-30", "dt=20240107", "dt=2024-01-08", "other", "dt="):
        (lake.root / "stg_products" / name).mkdir()
    (lake.root / "stg_products" / "dt=20240107" / "part.parquet").touch()
    assert lake.days("stg_products") == [DAY]
    assert lake.days("stg_orders") == []


def test_a_partition_that_is_not_there_is_named_with_its_mend(lake: Lake) -> None:
    with pytest.raises(PlatformError, match="stg_products has no partition 2024-01-05: materialize stg_products for"):
        lake.read("stg_products", DAY)
    with pytest.raises(PlatformError, match="none of the partitions asked for"):
        lake.scan("stg_products", [DAY])


def test_a_lake_in_a_folder_with_odd_characters_is_read(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "data [1] * ü?")
    write(lake)
    assert lake.read("stg_products", DAY).equals(ROWS)
    assert lake.scan("stg_products", [DAY]).collect().equals(ROWS.with_columns(dt=pl.lit(DAY)))
    assert lake.stamps("stg_products", [DAY, NEXT]) == {DAY: stamp()}


def test_a_lake_on_another_object_store_is_refused_in_a_sentence() -> None:
    with pytest.raises(SettingsError, match="begins with gs://: the lake is a local folder or s3://BUCKET/PREFIX"):
        Lake.of(read_settings({"DATA_PLATFORM_LAKE_URL": "gs://bucket/lake"}))


# What is broken


def spoil(lake: Lake, content: Callable[[Path], object]) -> None:
    write(lake)
    content(lake.path("stg_products", DAY))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (half, "The lake file part.parquet of stg_products, dt=2024-01-05 is broken: delete it and materialize"),
        (lambda path: path.write_bytes(b""), "is broken: delete it and materialize"),
        (ROWS.write_parquet, "was not written by this platform: move it away"),
        (
            lambda path: ROWS.write_parquet(path, metadata={"data_platform": '{"colour": 1}'}),
            "was written by another version of this platform: move it away",
        ),
        (lambda path: ROWS.write_parquet(path, metadata={"data_platform": "?"}), "another version of this platform"),
    ],
)
def test_a_broken_or_foreign_file_is_named_with_its_mend(
    lake: Lake, content: Callable[[Path], object], sentence: str
) -> None:
    spoil(lake, content)
    with pytest.raises(PlatformError, match=sentence) as caught:
        lake.stamps("stg_products")
    assert "\n" not in str(caught.value)


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    pl.exceptions.ComputeError("parquet: File out of specification: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL, ids=["OSError", "ComputeError"])
def test_a_full_disk_is_one_sentence_and_leaves_what_stood(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    former = write(lake)

    def full(_: pl.DataFrame, path: Path, **options: Any) -> None:
        path.write_bytes(b"half a file")
        raise error

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(SourceUnavailable, match="is full: nothing was written; free space and run again") as caught:
        lake.write_aside("stg_products", DAY, ROWS, stamp("b" * 64))
    assert caught.value.transient
    assert files(lake) == ["stg_products/dt=2024-01-05/part.parquet"]
    assert lake.stamp("stg_products", DAY) == former


def test_a_disk_that_is_full_when_the_quarantine_is_written_leaves_no_half_draft(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet = pl.DataFrame.write_parquet

    def full(frame: pl.DataFrame, path: Path, **options: Any) -> None:
        if "_reasons" in frame.columns:
            raise FULL[0]
        write_parquet(frame, path, **options)

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(SourceUnavailable):
        lake.write_aside("stg_products", DAY, ROWS, stamp(), REJECTED)
    assert files(lake) == []


def test_a_lake_that_may_not_be_written_is_named(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(SourceUnavailable, match="cannot be written or read: mend the rights of that folder"):
        lake.write_aside("stg_products", DAY, ROWS, stamp())


def test_a_file_where_the_lake_should_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file")
    with pytest.raises(SourceUnavailable, match="every part of its path is a folder"):
        Lake(tmp_path / "lake").write_aside("stg_products", DAY, ROWS, stamp())


# Content


def test_content_does_not_depend_on_chunks_or_units_of_time_but_on_names_values_and_meaning() -> None:
    frame = pl.DataFrame({"a": ["x", None], "at": [None, DAY]}).with_columns(pl.col("at").cast(pl.Datetime("ms")))
    whole = content_hash([frame], {"day": DAY})
    assert content_hash([pl.concat([frame[:1], frame[1:]], rechunk=False)], {"day": DAY}) == whole
    assert content_hash([frame.with_columns(pl.col("at").dt.cast_time_unit("ns"))], {"day": DAY}) == whole
    others = [
        content_hash([frame.rename({"a": "b"})], {"day": DAY}),
        content_hash([frame.with_columns(a=pl.Series(["x", ""]))], {"day": DAY}),
        content_hash([frame], {"day": NEXT}),
        content_hash([frame[:1], frame[1:]], {"day": DAY}),
    ]
    assert len({whole, *others}) == 5


def test_content_is_the_same_in_every_version_of_the_platform() -> None:
    frame = pl.DataFrame({"id": ["é"], "at": [DAY], "n": [1]}).with_columns(m=pl.lit("1.5").cast(pl.Decimal(18, 4)))
    canonical = '{"engine": 1}' + "['id', 'at', 'n', 'm']" + "é,2024-01-05,1,1.5000\n"
    assert content_hash([frame], {"engine": 1}) == hashlib.sha256(canonical.encode()).hexdigest()


def test_content_of_nested_values_and_bytes_is_known() -> None:
    frame = pl.DataFrame({"tags": [["a"], ["b"]], "seal": [b"\xff", b"\x00"], "at": [{"x": DAY}, {"x": NEXT}]})
    assert content_hash([frame], {}) != content_hash([frame.reverse()], {})


def test_quarantine_that_a_killed_run_left_goes_with_the_next_promotion_of_the_same_content(lake: Lake) -> None:
    draft = lake.write_aside("stg_products", DAY, ROWS, stamp())
    lake.promote([draft])
    left = lake.quarantine_path("stg_products", DAY, stamp()).with_name("0123456789abcdef.parquet")
    left.parent.mkdir(parents=True, exist_ok=True)
    ROWS.write_parquet(left)
    again = lake.write_aside("stg_products", DAY, ROWS, stamp())
    assert again.path is None
    lake.promote([again])
    assert not left.exists()
