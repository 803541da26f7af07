"""`data-platform init`: a commented sources.yaml to begin with, and the schema by which an editor completes it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from data_platform.commands.terminal import BadUsage, say
from data_platform.errors import SettingsError
from data_platform.settings import settings

TEMPLATE = Path(__file__).resolve().parent.parent / "sources" / "template.yaml"
SCHEMA = "sources.schema.json"  # the template's first line names it


def init(
    force: Annotated[bool, typer.Option("--force", help="Replace a sources.yaml that is there.")] = False,
) -> None:
    """Write a commented sources.yaml (where DATA_PLATFORM_SOURCES says) with an example of each kind of source."""
    from data_platform.sources.schema import json_schema

    target = settings().sources_file
    if target.exists() and not force:
        raise BadUsage(f"{target} is there already: edit it, or replace it by `data-platform init --force`.")
    schema = target.with_name(SCHEMA)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")
        schema.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{target.parent} cannot be written ({error.strerror}): mend its rights, or name another place by "
            "DATA_PLATFORM_SOURCES."
        ) from None
    say(f"{target}: every example in it is a comment; take the # away from what you need.")
    say(f"{schema}: by it an editor completes and checks the file.")
    say("See what a source gives, without writing anything: data-platform source test orders")
