"""Connections to the warehouse: where it is, that its schema is there, and what to say when it cannot be reached."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlencode

import psycopg
from psycopg import sql

from data_platform.errors import DatabaseUnavailable, PlatformError
from data_platform.settings import Settings, settings

# How long a statement waits for the locks of others (an ALTER by hand, a dump), in seconds. The wait for the star's
# writer lock has a limit of its own.
LOCK_TIMEOUT = 300
# Of what only looks: how long it waits for a lock, and works at one statement.
LOOKING_LOCK_TIMEOUT = "5s"
LOOKING_STATEMENT_TIMEOUT = "30s"
# What libpq takes from a URL's query and nobody else is to see.
SECRET_PARAMETERS = ("password", "sslpassword")


def warehouse_url(chosen: Settings | None = None) -> str:
    """The warehouse's URL, password included; starts the embedded server where no URL is set."""
    chosen = chosen or settings()
    if chosen.warehouse_url:
        return chosen.warehouse_url
    from data_platform.embedded_postgres import ensure_server

    return ensure_server(chosen.home).url("warehouse")


def redact(url: str) -> str:
    """`url` without its password and without its query, fit for a message."""
    return without_password(url).partition("?")[0]


def without_password(url: str) -> str:
    """`url` without its password, wherever it stands, and still a URL to connect by.

    Whatever is before the last @ may be of a password that nobody encoded.
    """
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    place, _, query = place.partition("?")
    kept = urlencode([(name, value) for name, value in parse_qsl(query) if name not in SECRET_PARAMETERS])
    return f"{scheme}://{credentials.partition(':')[0]}{at}{place}{'?' if kept else ''}{kept}"


@contextmanager
def connected(url: str, *, application: str = "data-platform", writes: bool = True) -> Iterator[psycopg.Connection]:
    """A connection to `url`, one transaction: committed at the end, rolled back on any error.

    Raises DatabaseUnavailable, in one sentence, where the server refuses, is down or goes away, and PlatformError for
    any other error of Postgres: never with its details, which quote rows. Where it `writes` they say what became of it.
    """
    try:
        connection = psycopg.connect(
            url,
            application_name=application,
            connect_timeout=10,
            client_encoding="UTF8",
            # A connection that a dead network holds must not hold the writer lock for ever.
            keepalives=1,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"The warehouse at {redact(url)} {_reason(error)}") from None
    except psycopg.ProgrammingError:
        raise PlatformError(
            "DATA_PLATFORM_WAREHOUSE_URL cannot be read as a URL: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
        ) from None
    # A role may have another default; a writer that waited for the lock must see what the one before it wrote.
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    try:
        with connection:
            connection.execute(_session(settings().statement_timeout))
            yield connection
    except psycopg.Error as error:
        outcome = ": nothing was published" if writes else ""
        raise _explained(error, url, outcome, gone=connection.broken) from None


def _session(statement_timeout: int) -> sql.Composed:
    """What holds in our transactions. Of the transaction, not of the session: pgbouncer shares sessions.

    The limit of a statement (in seconds) also holds for the pause between two, in which Polars derives what is written
    next: a process that hangs must not keep the writer lock for ever.
    """
    milliseconds = sql.Literal(statement_timeout * 1000)
    # Whatever zone the server, the role or the shell (PGTZ) has: instants come and go in UTC. No SELECT: a transaction
    # takes its isolation level before the first query.
    return sql.SQL(
        """
        SET LOCAL TimeZone = 'UTC';
        SET LOCAL lock_timeout = {lock};
        SET LOCAL statement_timeout = {limit};
        SET LOCAL idle_in_transaction_session_timeout = {limit}
        """
    ).format(lock=sql.Literal(LOCK_TIMEOUT * 1000), limit=milliseconds)


@contextmanager
def waiting_for(connection: psycopg.Connection, seconds: int) -> Iterator[None]:
    """Let a statement in here wait for a lock for that long, whatever the limits of statements are."""
    before = connection.execute(
        "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
    ).fetchone()
    _limit(connection, f"{seconds}s", "0")
    yield
    assert before is not None
    _limit(connection, *before)


def _limit(connection: psycopg.Connection, lock: str, statement: str) -> None:
    connection.execute(
        "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)", [lock, statement]
    )


@contextmanager
def looking(url: str, *, application: str) -> Iterator[psycopg.Connection]:
    """As `connected`, for what may hold up no run: it writes what is remembered at most, and can do without.

    Raises DatabaseUnavailable also where it waits for a lock, or works at one statement, for too long.
    """
    with connected(url, application=application, writes=False) as connection:
        _limit(connection, LOOKING_LOCK_TIMEOUT, LOOKING_STATEMENT_TIMEOUT)
        yield connection


def _explained(error: psycopg.Error, url: str, outcome: str, *, gone: bool) -> PlatformError:
    if isinstance(error, psycopg.errors.DiskFull) or "No space left" in str(error):
        return DatabaseUnavailable(
            f"The disk of the warehouse at {redact(url)} is full{outcome}; free space and run again."
        )
    if gone or isinstance(error, psycopg.errors.AdminShutdown):
        return DatabaseUnavailable(
            f"The warehouse at {redact(url)} went away in the middle of the work{outcome}; run again."
        )
    diagnosis = error.diag
    # Messages of this class name tables and roles; those of others may quote values, and details quote whole rows.
    told = diagnosis.message_primary if (error.sqlstate or "").startswith("42") else None
    about = [type(error).__name__, told, diagnosis.table_name, diagnosis.constraint_name]
    reason = ", ".join(part for part in about if part)
    sentence = f"The warehouse at {redact(url)} refused the work ({reason}){outcome}; "
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return PlatformError(sentence + "give the role what it lacks (it must own the platform's schemas).")
    if isinstance(error, psycopg.errors.QueryCanceled) and outcome:
        return DatabaseUnavailable(
            sentence + "run again, or raise DATA_PLATFORM_STATEMENT_TIMEOUT for a statement that needs longer."
        )
    if isinstance(error, (psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure,
                          psycopg.errors.DeadlockDetected, psycopg.errors.QueryCanceled)):  # fmt: skip
        return DatabaseUnavailable(sentence + "run again.")
    return PlatformError(sentence + "look for changes made by hand (`data-platform rebuild --verify` shows them).")


def _reason(error: psycopg.OperationalError) -> str:
    text = str(error).strip()
    if "password authentication failed" in text or "no password supplied" in text:
        return "refuses the user or the password: mend DATA_PLATFORM_WAREHOUSE_URL."
    if re.search(r'database ".*" does not exist', text):
        return "has no such database: create it (createdb), or mend DATA_PLATFORM_WAREHOUSE_URL."
    if "could not translate host name" in text or "failed to resolve host" in text:
        return "is on a host that nobody knows: mend the host in DATA_PLATFORM_WAREHOUSE_URL."
    if "refused" in text:
        return "does not answer (connection refused): start that Postgres, or mend DATA_PLATFORM_WAREHOUSE_URL."
    if "timeout" in text:
        return "does not answer (time out): check the network, or mend DATA_PLATFORM_WAREHOUSE_URL."
    if "starting up" in text or "shutting down" in text:
        return "is starting up or shutting down: run again in a moment."
    last = text.splitlines()[-1] if text else "no reason given"
    return f"cannot be used ({last}): mend DATA_PLATFORM_WAREHOUSE_URL or the server."
