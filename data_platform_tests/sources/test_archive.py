"""The archive of what sources answered: a day is there whole or not at all."""

import shutil
from datetime import date
from pathlib import Path

import pytest

from data_platform.errors import SourceUnavailable
from data_platform.sources.archive import Archive, Said
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


def held(archive: Archive) -> dict[str, str]:
    folder = archive.folder(DAY)
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
