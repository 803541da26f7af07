"""The command `data-platform`. What each command does is in `data_platform.commands`."""

import os
from typing import Annotated

import typer

from data_platform.commands import (
    alerts,
    backfill,
    cleanup,
    contract,
    demo,
    gaps,
    importing,
    init,
    quarantine,
    rebuild,
    source,
    status,
    url,
)
from data_platform.commands.terminal import keep_log, told
from data_platform.settings import settings

app = typer.Typer(
    help="The data platform: from deliveries of orders, products and customers to a star schema in Postgres.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad usage. The environment's settings: README.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
imports = typer.Typer(help="Bring a public data set into the landing folder.", no_args_is_help=True)
app.add_typer(imports, name="import")
waiting = typer.Typer(help="Rows that were rejected: what waits, why, a file of it, a replay.", no_args_is_help=True)
app.add_typer(waiting, name="quarantine")
sources = typer.Typer(
    help="Where deliveries come from: a source on trial, a replay of its answers.", no_args_is_help=True
)
app.add_typer(sources, name="source")
contracts = typer.Typer(help="What deliveries bring, beside what contracts have a place for.", no_args_is_help=True)
app.add_typer(contracts, name="contract")
telling = typer.Typer(help="Who is told of what goes wrong: a test, a look.", no_args_is_help=True)
app.add_typer(telling, name="alerts")

app.command("demo")(told(demo.demo))
app.command("init")(told(init.init))
imports.command("online-retail")(told(importing.online_retail))
app.command("backfill")(told(backfill.backfill))
app.command("status")(told(status.status))
app.command("gaps")(told(gaps.gaps))
waiting.command("list")(told(quarantine.list_waiting))
waiting.command("show")(told(quarantine.show))
waiting.command("export")(told(quarantine.export))
waiting.command("replay")(told(quarantine.replay))
sources.command("test")(told(source.try_out))
sources.command("replay")(told(source.replay))
contracts.command("diff")(told(contract.diff))
sources.command("schema")(told(source.schema))
telling.command("test")(told(alerts.try_out))
telling.command("check")(told(alerts.check))
app.command("cleanup")(told(cleanup.cleanup))
app.command("rebuild")(told(rebuild.rebuild))
app.command("url")(told(url.url))


@app.callback()
@told
def prepare(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    """The data platform: from deliveries of orders, products and customers to a star schema in Postgres."""
    # Dagster wants an absolute path; the settings resolve a relative one against the repository's root.
    os.environ["DAGSTER_HOME"] = str(settings().dagster_home)
    keep_log(debug=debug)


def main() -> None:
    """The entry point."""
    app(prog_name="data-platform")
