"""`data-platform init`: commented YAML files to begin with, and the schema by which an editor completes one."""

import json
from pathlib import Path
from typing import Annotated

import typer

from data_platform.commands.terminal import BadUsage, say
from data_platform.errors import SettingsError
from data_platform.settings import settings

PACKAGE = Path(__file__).resolve().parent.parent
TEMPLATE = PACKAGE / "sources" / "template.yaml"
PRICES = PACKAGE / "costs" / "template.yaml"
RETENTION = PACKAGE / "retention" / "template.yaml"
SCHEMA = "sources.schema.json"  # the template's first line names it
TAKE = "every example in it is a comment; take the # away from what you need."


def init(
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a commented sources.yaml with an example of each kind of source, a prices.yaml and a retention.yaml.

    They go where DATA_PLATFORM_SOURCES, DATA_PLATFORM_PRICES and DATA_PLATFORM_RETENTION say; one that is there is left
    as it is.
    """
    chosen = settings()
    files = {
        chosen.sources_file: (TEMPLATE, "DATA_PLATFORM_SOURCES", TAKE),
        chosen.prices_file: (
            PRICES,
            "DATA_PLATFORM_PRICES",
            "set your own prices in it; its figures are placeholders.",
        ),
        chosen.retention_file: (RETENTION, "DATA_PLATFORM_RETENTION", TAKE),
    }
    wanted = [path for path in files if force or not path.exists()]
    if not wanted:
        there = ", ".join(map(str, files))
        raise BadUsage(f"{there} are there already: edit them, or replace them by `data-platform init --force`.")
    for path, (template, variable, advice) in files.items():
        if path not in wanted:
            say(f"{path} was there already and is left as it is.")
            continue
        _write(path, template, variable)
        say(f"{path}: {advice}")
        if template == TEMPLATE:
            say(f"{path.with_name(SCHEMA)}: by it an editor completes and checks the file.")
    say("See what a source gives, without writing anything: data-platform source test orders")
    say("See what is older than it need be kept: data-platform cleanup --dry-run")


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
