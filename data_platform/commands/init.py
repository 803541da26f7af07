"""`data-platform init`: commented files to begin with, and the schema by which an editor completes sources.yaml."""

import json
from pathlib import Path
from typing import Annotated

import typer

from data_platform.commands.terminal import BadUsage, say
from data_platform.errors import SettingsError
from data_platform.settings import Settings, settings

PACKAGE = Path(__file__).resolve().parent.parent
TEMPLATE = PACKAGE / "sources" / "template.yaml"
RETENTION = PACKAGE / "retention" / "template.yaml"
SCHEMA = "sources.schema.json"  # the template's first line names it


def init(
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a commented sources.yaml with an example of each kind of source, and a commented retention.yaml.

    They go where DATA_PLATFORM_SOURCES and DATA_PLATFORM_RETENTION say; one that is there is left as it is.
    """
    files = _files(settings())
    wanted = [path for path in files if force or not path.exists()]
    if not wanted:
        there = " and ".join(str(path) for path in files)
        raise BadUsage(f"{there} are there already: edit them, or replace them by `data-platform init --force`.")
    sources = settings().sources_file
    for path in wanted:
        _write(path, *files[path])
        say(f"{path}: every example in it is a comment; take the # away from what you need.")
        if path == sources:
            schema = path.with_name(SCHEMA)
            say(f"{schema}: by it an editor completes and checks the file.")
    for path in files:
        if path not in wanted:
            say(f"{path} was there already and is left as it is.")
    say("See what a source gives, without writing anything: data-platform source test orders")
    say("See what is older than it need be kept: data-platform cleanup --dry-run")


def _files(chosen: Settings) -> dict[Path, tuple[Path, str]]:
    """What is written where: its template, and the variable that names its place."""
    return {
        chosen.sources_file: (TEMPLATE, "DATA_PLATFORM_SOURCES"),
        chosen.retention_file: (RETENTION, "DATA_PLATFORM_RETENTION"),
    }


def _write(target: Path, template: Path, variable: str) -> None:
    from data_platform.sources.schema import json_schema

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
        if template == TEMPLATE:
            text = json.dumps(json_schema(), indent=2) + "\n"
            target.with_name(SCHEMA).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{target.parent} cannot be written ({error.strerror}): mend its rights, or name another place by "
            f"{variable}."
        ) from None
