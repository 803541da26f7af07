"""`data-platform url`: where psql, a notebook or a BI tool connects."""

import signal
from enum import StrEnum
from typing import Annotated

import typer

from data_platform.commands.terminal import note, print_json, say
from data_platform.settings import Settings, settings


class Database(StrEnum):
    """What a URL is asked for."""

    warehouse = "warehouse"
    dagster = "dagster"


def url(
    database: Annotated[Database, typer.Argument(help="The warehouse, or Dagster's own storage.")] = Database.warehouse,
    no_password: Annotated[bool, typer.Option("--no-password", help="Leave the password out.")] = False,
    hold: Annotated[bool, typer.Option("--hold", help="Keep the embedded Postgres up until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Print the URL of the warehouse, for psql and BI tools.

    The embedded Postgres runs while something uses it (`make ui`, a run, a command): to connect by other programs,
    leave `data-platform url --hold` open in a terminal meanwhile.
    """
    chosen = settings()
    if hold:
        end_well()
    address = _address(chosen, database)
    if no_password:
        from data_platform.warehouse.connection import without_password

        address = without_password(address)
    embedded = chosen.warehouse_url is None and (database == Database.warehouse or chosen.dagster_url is None)
    if as_json:
        print_json({"database": database.value, "url": address, "embedded": embedded})
    else:
        say(address)
    if not hold:
        if embedded:
            note("The embedded Postgres stops once nothing uses it: keep it up by `data-platform url --hold`.")
        return
    if embedded:
        note("The embedded Postgres is up until you press Ctrl-C.")
    while True:
        signal.pause()


def _address(chosen: Settings, database: Database) -> str:
    if database == Database.warehouse:
        from data_platform.warehouse.connection import warehouse_url

        return warehouse_url(chosen)
    from data_platform.dagster_storage import storage_url

    return storage_url(chosen).replace("postgresql+psycopg2://", "postgresql://", 1)


def end_well() -> None:
    """End this process with exit code 0 at Ctrl-C and at SIGTERM."""

    def stop(*_: object) -> None:
        raise typer.Exit(0)

    # Both set: a shell starts what it puts into the background with Ctrl-C ignored, and a supervisor ends it by TERM.
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
