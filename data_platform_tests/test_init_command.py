"""`data-platform init`: what it writes can be used as it is, and so can each example in it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

from data_platform.cli import app
from data_platform.commands.init import RETENTION, SCHEMA, TEMPLATE
from data_platform.contracts import STAGED
from data_platform.settings import settings
from data_platform.sources.config import KINDS, load_sources
from data_platform.sources.schema import json_schema
from data_platform.transforms.staging import delivered_columns

COLUMNS = {entity: delivered_columns(contract) for entity, contract in STAGED.items()}
BLOCKS = {
    title: re.sub(r"(?m)^#", "", body)
    for title, body in re.findall(r"(?m)^# -- (.+) --\n((?:#.+\n)+)", TEMPLATE.read_text(encoding="utf-8"))
}


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DATA_PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA_PLATFORM_SOURCES", str(tmp_path / "conf" / "sources.yaml"))
    monkeypatch.setenv("DATA_PLATFORM_RETENTION", str(tmp_path / "conf" / "retention.yaml"))
    settings.cache_clear()
    yield tmp_path / "conf" / "sources.yaml"
    settings.cache_clear()


def init(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", *arguments], prog_name="data-platform")


def test_it_writes_a_file_that_changes_nothing_and_its_schema(target: Path) -> None:
    result = init()
    assert result.exit_code == 0, result.output
    assert load_sources(target, COLUMNS) == load_sources(target.with_name("none.yaml"), COLUMNS)
    assert json.loads(target.with_name(SCHEMA).read_text()) == json_schema()
    assert target.read_text().splitlines()[0] == f"# yaml-language-server: $schema={SCHEMA}"


def test_it_replaces_no_file_that_is_there_unless_forced(target: Path) -> None:
    init()
    target.write_text("orders:\n  currency: EUR\n")
    refused = init()
    assert (refused.exit_code, "--force" in refused.output) == (2, True)
    assert target.read_text() == "orders:\n  currency: EUR\n"
    assert init("--force").exit_code == 0
    assert target.read_text() == TEMPLATE.read_text(encoding="utf-8")


def test_what_is_there_is_left_and_what_is_missing_is_written(target: Path) -> None:
    target.parent.mkdir()
    target.write_text("orders:\n  currency: EUR\n")
    result = init()
    assert (result.exit_code, target.read_text()) == (0, "orders:\n  currency: EUR\n")
    assert target.with_name("retention.yaml").read_text() == RETENTION.read_text(encoding="utf-8")
    assert f"{target} was there already" in result.output


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, target: Path) -> None:
    (tmp_path / "conf").write_text("a file")
    result = init()
    assert result.exit_code == 1
    assert "DATA_PLATFORM_SOURCES" in result.output


@pytest.mark.parametrize("title", BLOCKS)
def test_each_example_is_one_that_the_platform_and_the_schema_take(title: str, tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(BLOCKS[title])
    load_sources(path, COLUMNS)
    jsonschema.validate(yaml.safe_load(BLOCKS[title]), json_schema())


def test_the_examples_show_every_kind_of_source() -> None:
    def keys(value: Any) -> set[str]:
        return set(value) | {key for held in value.values() for key in keys(held)} if isinstance(value, dict) else set()

    shown = {key for block in BLOCKS.values() for key in keys(yaml.safe_load(block))}
    assert shown >= {*KINDS, "sources"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": {}},
        {"orders": {"delimeter": ";"}},
        {"orders": {"columns": {"order_no": "BelegNr"}}},
        {"orders": {"rest": {"url": "https://x.example", "pages": {"pages": "page"}}}},
        {"orders": {"sources": {"shop": {"mood": "full"}}}},
    ],
    ids=str,
)
def test_the_schema_refuses_keys_that_the_platform_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json_schema())
