"""`data-platform migrate`: both databases brought to this version, before anything uses them."""

from typing import Annotated

import typer

from data_platform.commands.running import spinner
from data_platform.commands.terminal import print_json, say
from data_platform.settings import settings


def migrate(as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False) -> None:
    """Bring the warehouse and Dagster's own database to this version; data is kept, there is no way back.

    Any other command does the same to the warehouse as its first step. Doing it again changes nothing.
    """
    chosen = settings()
    with spinner("Bringing the databases up to date"):
        from data_platform.warehouse.connection import connected, warehouse_url
        from data_platform.warehouse.migrations import pending_migrations, ready_warehouse

        with connected(warehouse_url(chosen), writes=False) as connection:
            applied = pending_migrations(connection)
        ready_warehouse(chosen)
        import dagster as dg

        told: list[str] = []
        with dg.DagsterInstance.get() as instance:
            instance.upgrade(told.append)
    if as_json:
        print_json({"applied": applied, "dagster": told})
        return
    say(f"The warehouse is up to date; applied: {', '.join(applied)}." if applied else "The warehouse was up to date.")
    say("Dagster's own database is up to date.")
