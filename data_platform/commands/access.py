"""`data-platform access …`: the groups of who may read and write what in the warehouse."""

from typing import Annotated

import typer
from rich.table import Table

from data_platform.commands.terminal import note, out, print_json, say, say_error
from data_platform.errors import PlatformError
from data_platform.settings import settings

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def grant() -> None:
    """Make the groups of this warehouse, where this role may make roles, and give them exactly what is theirs.

    From then on every migration and every change of a contract is followed by itself. Call it as the owner.
    """
    from data_platform.warehouse import access
    from data_platform.warehouse.connection import connected
    from data_platform.warehouse.migrations import ready_warehouse

    with connected(ready_warehouse(settings()), writes=False) as connection:
        if not access.is_owner(connection):
            raise PlatformError("This role does not own the warehouse: call it as the role that made the schema.")
        missing = access.missing_groups(connection)
        if missing and not access.may_create(connection):
            raise PlatformError(
                "This role may not make roles: have an admin run what `data-platform access sql` prints, then call "
                "this again."
            )
        for statement in access.creation(missing):
            connection.execute(statement)
        access.forget(connection)
        access.grant(connection)
        names = access.group_names(connection.info.dbname)
    for group, name in names.items():
        say(f"{name}: {access.GROUPS[group]}")
    note("Give a login its rights by GRANT <group> TO <login>.")


def print_sql() -> None:
    """Print the SQL that makes the groups, for an admin of the server; the owner then calls `access grant`."""
    from psycopg import sql

    from data_platform.warehouse import access
    from data_platform.warehouse.connection import connected
    from data_platform.warehouse.migrations import ready_warehouse

    with connected(ready_warehouse(settings()), writes=False) as connection:
        missing = access.missing_groups(connection)
        statements = [statement.as_string(connection) for statement in access.creation(missing)]
        names = access.group_names(connection.info.dbname)
        analyst = sql.Identifier(names["analyst"]).as_string(connection)
    for statement in statements:
        say(f"{statement};")
    if not statements:
        say("-- The groups are there.")
    say(f"-- A login: CREATE ROLE ada LOGIN; \\password ada; GRANT {analyst} TO ada;")


def check(as_json: AsJson = False) -> None:
    """Show who may what, as Postgres answers; exit code 1 where something is missing, or too much."""
    from data_platform.warehouse import access
    from data_platform.warehouse.connection import connected
    from data_platform.warehouse.migrations import ready_warehouse

    with connected(ready_warehouse(settings()), writes=False) as connection:
        found = access.look(connection)
    if as_json:
        print_json(
            {
                "owner": found.owner,
                "groups": {
                    group: {"role": name, "logins": list(found.logins.get(group, []))}
                    for group, name in found.groups.items()
                },
                "personal_data_can_be_read_by": list(found.personal),
                "problems": list(found.problems),
            }
        )
    else:
        table = Table("Group", "May", "Logins")
        for group, name in found.groups.items():
            table.add_row(name, access.GROUPS[group], ", ".join(found.logins.get(group, [])))
        out.print(table)
        say(f"The owner is {found.owner}. Logins that can read personal data: {', '.join(found.personal)}.")
    for problem in found.problems:
        say_error(problem)
    if found.problems:
        raise typer.Exit(1)
