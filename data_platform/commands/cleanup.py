"""`data-platform cleanup`: what killed runs left and what is older than retention.yaml keeps it goes; or would go."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from data_platform.commands.running import spinner
from data_platform.commands.terminal import print_json, say, say_error
from data_platform.settings import settings

if TYPE_CHECKING:
    from data_platform.retention.done import Done


def cleanup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; nothing goes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Remove what killed runs left, and move or delete what is older than retention.yaml keeps it.

    Without that file only leftovers go, and tables are vacuumed. Exit code 1: a step failed; what was done stands.
    """
    chosen = settings()
    with spinner("Looking" if dry_run else "Cleaning up"):
        from data_platform.lake import Lake
        from data_platform.retention.cleanup import cleanup as clean
        from data_platform.retention.config import load_retention

        def tell(one: "Done") -> None:
            if not as_json:
                say(one.in_words(dry_run=dry_run))

        rules = load_retention(chosen)
        cleaned = clean(chosen, Lake.of(chosen), rules, datetime.now(UTC), dry_run=dry_run, tell=tell)
    if as_json:
        print_json({"dry_run": dry_run, "done": [asdict(one) for one in cleaned.done], "failures": cleaned.failures})
    elif not cleaned.done and not cleaned.failures:
        say("There is nothing to clean up.")
    for sentence in cleaned.failures:
        say_error(sentence)
    if cleaned.failures:
        raise typer.Exit(1)
