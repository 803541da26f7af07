"""`data-platform url`: where psql, a notebook or a BI tool connects."""

import signal
from enum import StrEnum
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

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
    address = _address(chosen, database)
    if no_password:
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
    _wait()


def without_password(address: str) -> str:
    """`address` without its password, wherever it stands."""
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name != "password"])
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query=query))


def _address(chosen: Settings, database: Database) -> str:
    if database == Database.warehouse:
        from data_platform.warehouse.connection import warehouse_url

        return warehouse_url(chosen)
    from data_platform.dagster_storage import storage_url

    return storage_url(chosen).replace("postgresql+psycopg2://", "postgresql://", 1)


def _wait() -> None:
    # A supervisor ends it by TERM: that is as good an end as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
