"""The archive of what sources answered: a day is there whole or not at all."""

import errno
import os
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from data_platform.errors import SourceUnavailable
from data_platform.sources.archive import LEFTOVER_AGE, Archive, Said
from data_platform.sources.extraction import Extracted

DAY = date(2024, 1, 5)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive", "orders")


def writes(text: str, rows: int | None = None, name: str = "0001.csv"):
    def extract(into: Path) -> Extracted:
        assert list(into.iterdir()) == []
        (into / name).write_text(text)
        return Extracted(rows, {"requests": 2})

    return extract


def held(archive: Archive, folder: Path | None = None) -> dict[str, str]:
    folder = folder or archive.folder(DAY)
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith("_")}


def leftovers(archive: Archive) -> list[Path]:
    return list((archive.root / "_aside").iterdir())


def test_a_day_holds_what_was_extracted_and_what_was_said_of_it(archive: Archive) -> None:
    assert archive.said(DAY) is None
    assert archive.take(DAY, "run", writes("a", 7))
    assert held(archive) == {"0001.csv": "a"}
    assert archive.said(DAY) == Said("run", 7, {"requests": 2})
    assert leftovers(archive) == []


def test_another_extraction_replaces_the_day_as_a_whole(archive: Archive) -> None:
    archive.take(DAY, "one", writes("a", name="0002.csv"))
    archive.take(DAY, "two", writes("b"))
    assert held(archive) == {"0001.csv": "b"}
    assert archive.said(DAY) == Said("two", None, {"requests": 2})
    assert leftovers(archive) == []


def test_what_stood_stands_where_an_extraction_fails_half_way(archive: Archive) -> None:
    archive.take(DAY, "one", writes("a"))

    def half(into: Path) -> Extracted:
        (into / "0001.csv").write_text("half")
        raise SourceUnavailable("The connection broke.")

    with pytest.raises(SourceUnavailable, match="broke"):
        archive.take(DAY, "two", half)
    assert held(archive) == {"0001.csv": "a"}
    assert archive.said(DAY) == Said("one", None, {"requests": 2})
    assert leftovers(archive) == []


def test_an_extraction_of_nothing_leaves_what_stood(archive: Archive) -> None:
    assert not archive.take(DAY, "one", writes("hidden", name="_responses.json"))
    assert archive.said(DAY) is None
    archive.take(DAY, "one", writes("a"))
    assert not archive.take(DAY, "two", lambda into: Extracted())
    assert held(archive) == {"0001.csv": "a"}
    assert leftovers(archive) == []


def test_an_archive_that_cannot_be_written_says_so(archive: Archive) -> None:
    archive.root.parent.mkdir(parents=True, exist_ok=True)
    archive.root.write_text("a file in the way")
    with pytest.raises(SourceUnavailable, match=r"^The archive \(.*\) cannot be written \(.*\): mend the rights"):
        archive.take(DAY, "run", writes("a"))


def test_what_an_extraction_said_is_forgotten_with_its_folder(archive: Archive) -> None:
    archive.take(DAY, "one", writes("a"))
    shutil.rmtree(archive.folder(DAY))
    assert archive.said(DAY) is None


@pytest.mark.parametrize("names", [("orders", "orders/shop"), ("orders/shop", "orders")])
def test_an_entity_that_becomes_several_sources_or_one_is_archived_on(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        archive = Archive(tmp_path, name)
        assert archive.take(DAY, "one", writes(name))
        assert archive.take(DAY, "two", writes(f"{name} anew"))
    for name in names:
        assert held(Archive(tmp_path, name)) == {"0001.csv": f"{name} anew"}
        assert held(Archive(tmp_path, name), Archive(tmp_path, name).former(DAY)) == {"0001.csv": name}


# What stood, and what is between


KILLED = """
import os, sys
from datetime import date
from pathlib import Path
from data_platform.sources.archive import Archive
from data_platform.sources.extraction import Extracted
rename, left = Path.rename, [int(sys.argv[2])]
def then_killed(path, target):
    if left[0] == 0:
        os._exit(9)
    left[0] -= 1
    return rename(path, target)
Path.rename = then_killed
def extract(into):
    (into / "0001.csv").write_text("new")
    return Extracted()
Archive(Path(sys.argv[1]), "orders").take(date(2024, 1, 5), "new", extract)
"""


@pytest.mark.parametrize(("renames", "now", "before"), [
    (0, "old", "older"), (1, "old", "older"), (2, "new", "old"), (3, "new", "old"), (4, "new", "old"),
])  # fmt: skip
def test_a_day_is_there_wherever_a_run_is_killed(archive: Archive, renames: int, now: str, before: str) -> None:
    archive.take(DAY, "older", writes("older"))
    archive.take(DAY, "old", writes("old"))
    done = subprocess.run([sys.executable, "-c", KILLED, str(archive.root), str(renames)], check=False)
    assert done.returncode == (9 if renames < 4 else 0)
    said = archive.said(DAY)
    assert said is not None
    assert said.run_id == now
    assert held(archive) == {"0001.csv": now}
    assert held(archive, archive.former(DAY)) == {"0001.csv": before}
    archive.take(DAY, "next", writes("next"))
    assert held(archive, archive.former(DAY)) == {"0001.csv": now}
    assert [path.name for path in archive.former(DAY).parent.iterdir()] == [DAY.isoformat()]


def test_what_stood_stands_where_the_disk_fails_between_the_renames(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.take(DAY, "one", writes("a"))
    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if target == archive.folder(DAY) and path.parent.name == "_aside":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(SourceUnavailable, match="cannot be written"):
        archive.take(DAY, "two", writes("b"))
    assert archive.folder(DAY).exists()
    assert held(archive) == {"0001.csv": "a"}
    assert leftovers(archive) == []


def test_what_killed_runs_left_aside_is_removed_a_day_later(archive: Archive) -> None:
    old, new = archive.root / "_aside" / "old", archive.root / "_aside" / "new"
    for folder in (old, new):
        (folder / "_responses").mkdir(parents=True)
        (folder / "_responses" / "1").write_text("x")
    past = time.time() - LEFTOVER_AGE - 60
    for path in (old, old / "_responses", old / "_responses" / "1"):
        os.utime(path, (past, past))
    os.utime(new, (past, past))  # its files are being written
    archive.take(DAY, "run", writes("a"))
    assert leftovers(archive) == [new]


def test_the_answer_that_was_replaced_is_kept_and_can_be_moved_back(archive: Archive) -> None:
    archive.take(DAY, "good", writes("rows", 3))
    archive.take(DAY, "empty", writes("", 0))
    assert held(archive, archive.former(DAY)) == {"0001.csv": "rows"}
    shutil.rmtree(archive.folder(DAY))
    archive.former(DAY).rename(archive.folder(DAY))
    assert archive.said(DAY) == Said("good", 3, {"requests": 2})
    assert held(archive) == {"0001.csv": "rows"}


def test_the_same_answer_again_does_not_take_the_place_of_the_former_one(archive: Archive) -> None:
    archive.take(DAY, "good", writes("rows"))
    for run in ("empty", "again", "and again"):
        archive.take(DAY, run, writes(""))
    assert held(archive, archive.former(DAY)) == {"0001.csv": "rows"}
    assert archive.said(DAY) == Said("and again", None, {"requests": 2})
    archive.take(DAY, "other", writes("other"))
    assert held(archive, archive.former(DAY)) == {"0001.csv": ""}
    assert leftovers(archive) == []


def test_a_disk_that_is_full_while_it_is_extracted_says_so(archive: Archive) -> None:
    def full(into: Path) -> Extracted:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SourceUnavailable, match=r"^The disk of the archive \(.*\) is full: nothing was taken"):
        archive.take(DAY, "run", full)

    def other(into: Path) -> Extracted:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):  # the archive is not to blame
        archive.take(DAY, "run", other)
