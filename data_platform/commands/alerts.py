"""`data-platform alerts …`: a test of every channel, and a look from outside of Dagster's daemon."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from data_platform.commands.running import spinner
from data_platform.commands.terminal import print_json, say, say_error
from data_platform.errors import PlatformError
from data_platform.settings import settings

if TYPE_CHECKING:
    from data_platform.alerts.config import Alerts

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def try_out(as_json: AsJson = False) -> None:
    """Send a test message to every channel of alerts.yaml and say which worked. Exit code 1: one did not."""
    chosen = _chosen()
    with spinner("Sending a test to every channel"):
        from data_platform.alerts.look import try_channels

        answers = try_channels(chosen)
    if as_json:
        print_json({"channels": [{"channel": name, "error": error or None} for name, error in answers.items()]})
    else:
        for name, error in answers.items():
            say(f"{name}: sent.") if not error else say_error(f"{name}: not sent. {error}")
    if any(answers.values()):
        raise typer.Exit(1)


def check(as_json: AsJson = False) -> None:
    """Look once, as the sensor `alerts` does: for cron, which notices also that Dagster's daemon is silent.

    Exit code 1: a message could not be sent (it is tried again by the next look).
    """
    chosen = _chosen()
    with spinner("Looking"):
        import dagster as dg

        from data_platform.alerts.look import look
        from data_platform.resources import Platform

        with dg.DagsterInstance.get() as instance:
            looked = look(instance, Platform(), chosen, datetime.now(UTC))
    if as_json:
        print_json(vars(looked))
    else:
        say(f"{looked.opened} alerts opened, {looked.closed} closed, {looked.sent} messages sent.")
        for problem in looked.problems:
            say_error(problem)
    if looked.problems:
        raise typer.Exit(1)


def _chosen() -> "Alerts":
    from data_platform.alerts.config import load_alerts

    path = settings().alerts_file
    chosen = load_alerts(path)
    if chosen is None:
        raise PlatformError(
            f"There is no {path}: write one (docs/alerts.md has an example), or set DATA_PLATFORM_ALERTS to its place."
        )
    return chosen
