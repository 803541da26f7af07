"""The warehouse's schema: numbered SQL in sql/migrations, applied by yoyo as the first step of any use.

All that is missing is one transaction: a warehouse has the schema of before or the newest, whatever fails or is killed.
"""

import hashlib
import logging
from collections.abc import Iterable
from contextlib import nullcontext
from functools import lru_cache

import psycopg
from psycopg import sql

from data_platform.contracts import published_contracts
from data_platform.contracts.contract import Contract
from data_platform.errors import DatabaseUnavailable, PlatformError, PublishRefused
from data_platform.settings import REPOSITORY, Settings, settings
from data_platform.warehouse import access
from data_platform.warehouse.connection import LOCK_TIMEOUT, connected, redact, warehouse_url

MIGRATIONS = REPOSITORY / "sql" / "migrations"
# Any number that no other program of the database uses for an advisory lock.
MIGRATION_LOCK = 5_207_114_902_001
# Part of 0002 by now; a warehouse of the days between has them as migrations of their own.
RETIRED = frozenset({"0004_total_check"})

log = logging.getLogger(__name__)


@lru_cache(maxsize=8)
def ready_warehouse(chosen: Settings | None = None) -> str:
    """The URL of a warehouse whose schema is up to date and whose recorded settings agree; once per process.

    Raises DatabaseUnavailable where it cannot be reached, PublishRefused where it belongs to another time zone or to a
    newer version of the platform, PlatformError where a migration fails; the schema then stays as it was.
    """
    chosen = chosen or settings()
    url = warehouse_url(chosen)
    with connected(url) as lock:
        # yoyo's own lock is a row that a killed process leaves behind for ever; this one goes with the transaction.
        lock.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        encoding = lock.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise PublishRefused(
                f"The warehouse's database holds text as {encoding}, where not every delivered character has a place: "
                "use a database made by createdb --encoding=UTF8 --template=template0."
            )
        if pending_migrations(lock):
            _check_rights(lock, url)
            _apply(url)
        if access.is_owner(lock):
            _comment(lock, published_contracts())
            access.grant(lock)
        record_settings(lock, chosen)
    return url


def pending_migrations(connection: psycopg.Connection) -> list[str]:
    """The names of the migrations that this warehouse has not had, in their order.

    Raises PublishRefused where it has had some that are not known here: a newer version of the platform was there.
    """
    known = sorted(path.stem for path in MIGRATIONS.glob("*.sql"))
    if connection.execute("SELECT to_regclass('public._yoyo_migration')").fetchone() == (None,):
        return known
    done = {row[0] for row in connection.execute("SELECT migration_id FROM public._yoyo_migration")}
    newer = sorted(done - set(known) - RETIRED)
    if newer:
        raise PublishRefused(
            f"This warehouse belongs to a newer version of the platform: its migration {newer[-1]} is not among "
            f"those of {MIGRATIONS}; run that version or a later one. Nothing was changed."
        )
    return [name for name in known if name not in done]


def _check_rights(connection: psycopg.Connection, url: str) -> None:
    made = connection.execute("SELECT to_regnamespace('warehouse') IS NOT NULL").fetchone()
    if made == (True,) and not access.is_owner(connection):
        raise PublishRefused(
            f"The warehouse at {redact(url)} has the schema of an older version, and this user may not change it: have "
            "its owner bring it up to date (`data-platform migrate`, with the owner in DATA_PLATFORM_WAREHOUSE_URL)."
        )
    rights = connection.execute(
        "SELECT has_database_privilege(current_database(), 'CREATE') AND has_schema_privilege('public', 'CREATE')"
    ).fetchone()
    if rights != (True,):
        raise PublishRefused(
            f"The user of the warehouse at {redact(url)} may not make schemas and tables there: grant it CREATE on the "
            "database and on schema public, or name another user in DATA_PLATFORM_WAREHOUSE_URL."
        )


def _apply(url: str) -> None:
    import yoyo

    backend = yoyo.get_backend(url.replace("postgresql://", "postgresql+psycopg://", 1))
    # Steps would run on a connection of their own, and be noted as done after their commit: a kill between the two
    # would leave a migration that can be neither applied nor skipped.
    backend.copy = lambda: nullcontext(backend)
    try:
        if "yoyo_lock" in backend.list_tables():
            backend.break_lock()  # the row of a process that was killed: nobody else is in here
        missing = backend.to_apply(yoyo.read_migrations(str(MIGRATIONS)))
        with backend.transaction():
            backend.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'")
            for migration in missing:
                try:
                    backend.apply_one(migration)
                except psycopg.Error as error:
                    raise _failed(migration.id, url, error) from None
    finally:
        backend.connection.close()


def _failed(migration: str, url: str, error: psycopg.Error) -> PlatformError:
    stays = f"Migration {migration} of the warehouse at {redact(url)} failed"
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return DatabaseUnavailable(
            f"{stays}: another session holds a table for more than {LOCK_TIMEOUT} s. The schema stays as it was; end "
            f"that session (pg_stat_activity shows it) and run again."
        )
    # Messages of these classes name tables, columns and constraints; those of others may quote values.
    told = error.diag.message_primary if (error.sqlstate or "")[:2] in ("23", "42") else None
    reason = ", ".join(part for part in (type(error).__name__, told) if part)
    if error.sqlstate is None or error.sqlstate[:2] in ("08", "53", "57"):
        return DatabaseUnavailable(
            f"{stays} ({reason}): the schema stays as it was; see that Postgres is up, run again."
        )
    return PlatformError(
        f"{stays} ({reason}): the schema stays as it was, so the former version still runs on it; mend what stands in "
        f"its way, or the file {migration}.sql, and run again."
    )


def _comment(connection: psycopg.Connection, contracts: Iterable[Contract]) -> None:
    """Bring the COMMENTs to the contracts' words, where those have changed since."""
    # Postgres takes no parameters in COMMENT: the texts are our own contracts', composed as literals.
    statements = []
    for contract in contracts:
        table = sql.Identifier(contract.schema, contract.table)
        statements.append(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(contract.description)))
        for column in contract.columns.values():
            name = sql.Identifier(contract.schema, contract.table, column.name)
            text = sql.Literal(column.description)
            statements.append(sql.SQL("COMMENT ON COLUMN {} IS {}").format(name, text))
    whole = sql.SQL("; ").join(statements)
    words = hashlib.sha256(whole.as_string(connection).encode()).hexdigest()
    said = connection.execute("SELECT value FROM platform.settings WHERE name = 'comments'").fetchone()
    if said != (words,):
        connection.execute(whole)
        _record(connection, "comments", words)


def record_settings(connection: psycopg.Connection, chosen: Settings) -> None:
    """Record start date and time zone at first use; warn of a later start, refuse another time zone."""
    rows = connection.execute("SELECT name, value FROM platform.settings").fetchall()
    recorded: dict[str, str] = dict(rows)
    zone, start = recorded.get("timezone"), recorded.get("start_date")
    if zone is not None and zone != chosen.timezone:
        raise PublishRefused(
            f"DATA_PLATFORM_TIMEZONE is {chosen.timezone}, but this warehouse was loaded in {zone}: its days mean "
            f"other hours; set DATA_PLATFORM_TIMEZONE={zone}, or use another DATA_PLATFORM_HOME or warehouse."
        )
    if start is not None and start < chosen.start_date.isoformat():
        log.warning(
            "DATA_PLATFORM_START_DATE is %s, but this warehouse holds days from %s: those stay, out of the reach of "
            "runs and of the UI, until the start date is set back.",
            chosen.start_date,
            start,
        )
    values = {"timezone": chosen.timezone, "start_date": min(start or "9999", chosen.start_date.isoformat())}
    for name, value in values.items():
        if recorded.get(name) != value:
            _record(connection, name, value)


def _record(connection: psycopg.Connection, name: str, value: str) -> None:
    connection.execute(
        "INSERT INTO platform.settings (name, value) VALUES (%s, %s)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value, recorded_at = now()",
        [name, value],
    )
