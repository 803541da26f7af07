"""Who may read and write what in the warehouse: group roles, their grants, and a look at what really holds.

Logins are a team's own: they are made members of these groups. Groups are of the whole server, so their names bear that
of the database. What is personal comes from the contracts; tables of which no contract knows are granted to nobody.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from data_platform.contracts import MARTS, WAREHOUSE
from data_platform.contracts.contract import Contract

# What each group is for. The owner is whoever made the schema, and no group.
GROUPS = {
    "loader": "loads: reads and writes all tables, and changes none",
    "analyst": "reads the star without personal data, the marts, the results of checks",
    "pii": "reads what an analyst reads, and personal data",
    "reader": "reads the marts",
}
READING = ("analyst", "pii", "reader")
# Personal data for SELECT * without it.
MASKED_VIEWS = {"dim_customer": "dim_customer_without_pii"}
FUNCTIONS = ("make_year", "attach_year", "analyze_table")
LONGEST_NAME = 63  # bytes, of Postgres

Statement = sql.Composed


@dataclass(frozen=True)
class Access:
    """What holds. `logins` are by group its members that can log in, `personal` who can read personal data.

    `problems` are sentences: what is missing, and what is too much.
    """

    owner: str
    groups: Mapping[str, str]
    logins: Mapping[str, Sequence[str]]
    personal: Sequence[str]
    problems: Sequence[str]


def group_names(database: str) -> dict[str, str]:
    """The names of the groups for a database, by what they are; a long name is cut and told apart by a hash."""
    names = {}
    for group in GROUPS:
        name = f"data_platform_{database}_{group}"
        if len(name.encode()) > LONGEST_NAME:
            digest = hashlib.sha256(database.encode()).hexdigest()[:12]
            name = f"data_platform_{digest}_{group}"
        names[group] = name
    return names


def creation(names: Mapping[str, str]) -> list[Statement]:
    """Statements that make the groups; for a role that may."""
    made = []
    for group, name in names.items():
        made.append(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
        comment = sql.SQL("COMMENT ON ROLE {} IS {}")
        made.append(comment.format(sql.Identifier(name), sql.Literal(f"data platform: {GROUPS[group]}")))
    return made


def missing_groups(connection: psycopg.Connection) -> dict[str, str]:
    """The groups of this database that are not there."""
    names = group_names(connection.info.dbname)
    found = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(names.values())])
    there = {row[0] for row in found}
    return {group: name for group, name in names.items() if name not in there}


def may_create(connection: psycopg.Connection) -> bool:
    """Whether this role may make roles."""
    found = connection.execute("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
    return found.fetchone() == (True,)


def is_owner(connection: psycopg.Connection) -> bool:
    """Whether this role owns the schema: it alone may change and grant."""
    found = connection.execute(
        "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'warehouse'"
    ).fetchone()
    return found == (True,)


def grants(database: str, names: Mapping[str, str]) -> list[Statement]:
    """Statements of the owner that give the groups exactly what is theirs, whatever they had. They may be repeated."""
    groups = {group: sql.Identifier(name) for group, name in names.items()}
    reading = sql.SQL(", ").join(groups[group] for group in READING if group in groups)
    given = []
    if any(group in groups for group in READING):
        # What a column that became personal was granted before goes with it.
        given.append(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA warehouse, marts, platform FROM {}").format(reading))
    # A dump that was restored without privileges has lost what the migration took from everybody.
    functions = sql.SQL(", ").join(sql.Identifier("warehouse", name) for name in FUNCTIONS)
    given.append(sql.SQL("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC").format(functions))
    for group, name in groups.items():
        given.append(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), name))
        if group == "loader":
            given += [sql.SQL(text).format(name) for text in _LOADING]
            continue
        schemas = ["marts"] if group == "reader" else ["marts", "warehouse", "platform"]
        given.append(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(_list(schemas), name))
        for target in _readable(group):
            given.append(sql.SQL("GRANT SELECT {} TO {}").format(target, name))
    return given


_LOADING = (
    "GRANT USAGE ON SCHEMA warehouse, marts, platform, public TO {}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA warehouse, marts, platform TO {}",
    "GRANT SELECT, USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA warehouse, marts, platform TO {}",
    "GRANT SELECT ON public._yoyo_migration TO {}",
    f"GRANT EXECUTE ON FUNCTION {', '.join(f'warehouse.{name}' for name in FUNCTIONS)} TO {{}}",
    # Of the owner: for the years that will be made, and the tables of later migrations.
    "ALTER DEFAULT PRIVILEGES IN SCHEMA warehouse, marts, platform"
    " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA warehouse, marts, platform GRANT SELECT, USAGE, UPDATE ON SEQUENCES TO {}",
)


def _readable(group: str) -> list[sql.Composed]:
    """What a group may select, as GRANT words it."""
    found = [sql.SQL("ON {}").format(_table(contract)) for contract in MARTS.values() if not contract.pii_columns]
    if group == "reader":
        return found
    found.append(sql.SQL("ON {}").format(sql.Identifier("platform", "check_results")))
    for contract in (*WAREHOUSE.values(), *(mart for mart in MARTS.values() if mart.pii_columns)):
        if not contract.pii_columns or group == "pii":
            found.append(sql.SQL("ON {}").format(_table(contract)))
        else:
            found.append(sql.SQL("({}) ON {}").format(_list(plain_columns(contract)), _table(contract)))
        if contract.table in MASKED_VIEWS:
            found.append(sql.SQL("ON {}").format(sql.Identifier(contract.schema, MASKED_VIEWS[contract.table])))
    return found


def plain_columns(contract: Contract) -> list[str]:
    """The columns of a table that hold no personal data."""
    return [name for name in contract.columns if name not in contract.pii_columns]


def _table(contract: Contract) -> sql.Identifier:
    return sql.Identifier(contract.schema, contract.table)


def _list(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def grant(connection: psycopg.Connection) -> bool:
    """Give the groups that are there what is theirs, where that has changed; whether anything was granted.

    Nothing where there are no groups, or where this role is not the owner.
    """
    names = group_names(connection.info.dbname)
    rows = connection.execute(
        "SELECT rolname, oid::bigint FROM pg_roles WHERE rolname = ANY(%s) ORDER BY 1", [list(names.values())]
    ).fetchall()
    there = [name for name, _ in rows]
    if not there or not is_owner(connection):
        return False
    groups = {group: name for group, name in names.items() if name in there}
    whole = sql.SQL("; ").join(grants(connection.info.dbname, groups))
    # With the numbers of the roles: one that was dropped and made anew has lost what it had.
    words = hashlib.sha256(f"{rows} {whole.as_string(connection)}".encode()).hexdigest()
    said = connection.execute("SELECT value FROM platform.settings WHERE name = 'access'").fetchone()
    if said == (words,):
        return False
    connection.execute(whole)
    connection.execute(
        "INSERT INTO platform.settings (name, value) VALUES ('access', %s)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value, recorded_at = now()",
        [words],
    )
    return True


def forget(connection: psycopg.Connection) -> None:
    """Have the next `grant` give everything anew: somebody may have revoked by hand."""
    connection.execute("DELETE FROM platform.settings WHERE name = 'access'")


def look(connection: psycopg.Connection) -> Access:
    """Who may what, as Postgres itself answers."""
    names = group_names(connection.info.dbname)
    missing = missing_groups(connection)
    there = {group: name for group, name in names.items() if group not in missing}
    problems = [f"The group {name} is not there: call `data-platform access grant`." for name in missing.values()]
    for group, name in there.items():
        problems += _problems(connection, group, name)
    owner = connection.execute("SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'warehouse'")
    return Access(
        owner=str((owner.fetchone() or ("",))[0]),
        groups=names,
        logins={group: _logins(connection, name) for group, name in there.items()},
        personal=_readers_of_personal(connection),
        problems=problems,
    )


def _logins(connection: psycopg.Connection, name: str) -> list[str]:
    rows = connection.execute(
        """
        SELECT rolname FROM pg_roles
        WHERE rolcanlogin AND NOT rolsuper AND pg_has_role(rolname, %s, 'MEMBER') AND rolname <> %s
        ORDER BY 1
        """,
        [name, name],
    )
    return [row[0] for row in rows]


def _problems(connection: psycopg.Connection, group: str, name: str) -> list[str]:
    found = []
    for contract in (*WAREHOUSE.values(), *MARTS.values()):
        for column in contract.columns.values():
            table = f"{contract.schema}.{contract.table}"
            may = _may_read(connection, name, contract.schema, table, column.name)
            should = group in ("loader", "pii") or (
                not column.pii and (contract.schema == "marts" or group == "analyst")
            )
            if may and not should:
                found.append(
                    f"{name} can read {table}.{column.name}, which is not for it: revoke what was given by hand (to it"
                    ", to PUBLIC, or to a role that it is a member of)."
                )
            if should and not may:
                found.append(f"{name} cannot read {table}.{column.name}: call `data-platform access grant`.")
    return found


def _may_read(connection: psycopg.Connection, role: str, schema: str, table: str, column: str) -> bool:
    row = connection.execute(
        "SELECT has_schema_privilege(%(role)s, %(schema)s, 'USAGE')"
        " AND has_column_privilege(%(role)s, %(table)s, %(column)s, 'SELECT')",
        {"role": role, "schema": schema, "table": table, "column": column},
    ).fetchone()
    return row == (True,)


def _readers_of_personal(connection: psycopg.Connection) -> list[str]:
    columns = [
        (f"{contract.schema}.{contract.table}", name)
        for contract in (*WAREHOUSE.values(), *MARTS.values())
        for name in contract.pii_columns
    ]
    rows = connection.execute(
        """
        SELECT DISTINCT r.rolname
        FROM pg_roles AS r, unnest(%s::text[], %s::text[]) AS c (table_name, column_name)
        WHERE r.rolcanlogin
            AND has_schema_privilege(r.rolname, split_part(c.table_name, '.', 1), 'USAGE')
            AND has_column_privilege(r.rolname, c.table_name, c.column_name, 'SELECT')
        ORDER BY 1
        """,
        [[table for table, _ in columns], [column for _, column in columns]],
    )
    return [row[0] for row in rows]
