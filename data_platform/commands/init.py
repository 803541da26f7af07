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
SCHEMA = "sources.schema.json"  # the template's first line names it


def init(
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a commented sources.yaml with an example of each kind of source, and a prices.yaml to fill in.

    They go where DATA_PLATFORM_SOURCES and DATA_PLATFORM_PRICES say; one that is there stays.
    """
    from data_platform.sources.schema import json_schema

    chosen = settings()
    sources, prices = chosen.sources_file, chosen.prices_file
    missing = [target for target in (sources, prices) if force or not target.exists()]
    if not missing:
        raise BadUsage(f"{sources} and {prices} are there already: edit them, or replace both by --force.")
    if sources in missing:
        schema = sources.with_name(SCHEMA)
        _write(sources, TEMPLATE.read_text(encoding="utf-8"), "DATA_PLATFORM_SOURCES")
        _write(schema, json.dumps(json_schema(), indent=2) + "\n", "DATA_PLATFORM_SOURCES")
        say(f"{sources}: every example in it is a comment; take the # away from what you need.")
        say(f"{schema}: by it an editor completes and checks the file.")
    if prices in missing:
        _write(prices, PRICES.read_text(encoding="utf-8"), "DATA_PLATFORM_PRICES")
        say(f"{prices}: set your own prices in it, for `data-platform cost report`; its figures are placeholders.")
    say("See what a source gives, without writing anything: data-platform source test orders")


def _write(target: Path, text: str, variable: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"{target.parent} cannot be written ({error.strerror}): mend its rights, or name another place by "
            f"{variable}."
        ) from None
