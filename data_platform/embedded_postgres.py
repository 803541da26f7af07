"""The embedded Postgres: a real server from a PyPI wheel, shared by every process that uses the same home.

The first user starts it, and it stops when the last one is gone, however that one died (`embedded_postgres_watcher`
has the locks and tells why no user is ever handed a server that is being stopped). How the binaries are run is in
`embedded_postgres_process`. Importing this starts nothing.
"""

import errno
import fcntl
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_platform import embedded_postgres_watcher as watcher
from data_platform.embedded_postgres_process import ELSEWHERE, USER, Cluster, initialise, launch, locate, start_failed
from data_platform.errors import DatabaseUnavailable, PlatformError, SettingsError

if TYPE_CHECKING:
    import psycopg

DATABASES = ("warehouse", "dagster")
DEADLINE_SECONDS = 300.0  # replaying the log of a busy hour after a power cut takes minutes on a slow disk
PASSING = ("starting up", "not yet accepting", "shutting down", "recovery", "terminating", "too many clients")
LOG_LIMIT_BYTES = 10_000_000
PORTS = range(15_432, 32_000)  # below what systems hand out for outgoing connections, so that ours stays free


@dataclass(frozen=True)
class Server:
    """A running server. `port` is on 127.0.0.1."""

    port: int
    password: str = field(repr=False)

    def url(self, database: str) -> str:
        """postgresql://USER:PASSWORD@127.0.0.1:PORT/DATABASE; it holds the password, so do not print it."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"


_users_locks: dict[Path, int] = {}  # descriptors, kept open and with it locked until this process is gone
_servers: dict[Path, Server] = {}
_one_thread = threading.Lock()


def ensure_server(home: Path) -> Server:
    """The server of the platform's home folder, started if need be, with the databases `warehouse` and `dagster`.

    From the first call on this process counts as a user until it ends. Later calls cost a few system calls, and
    start the server again if it died. Raises SettingsError (home or platform unfit) or DatabaseUnavailable (no disk
    space, a server that does not start), one sentence each.
    """
    directory = home.absolute() / "postgres"
    with _one_thread:
        try:
            if directory in _servers and _is_registered(directory) and watcher.is_alive(directory):
                return _servers[directory]
            import psycopg  # noqa: F401  here, as it is slow: many processes wait for the lock at once

            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _start_lock(directory):
                try:
                    # Registered before the server is looked at: from here on its watcher leaves it alone.
                    _register(directory)
                    _servers[directory] = _join(directory)
                finally:
                    _give_to_owner(directory)
            return _servers[directory]
        except OSError as error:
            raise _unusable(directory, error) from error


def _join(directory: Path) -> Server:
    """The running server, with a watcher."""
    cluster = locate(directory)
    if (directory / watcher.STOPPING).exists():
        watcher.stop(directory, cluster.data)  # somebody was killed while stopping it: finish that first
    password = _password(directory, cluster)
    _ensure_watcher(directory, cluster)  # before the server: if this process is killed, that one is not left alone
    return _start(directory, cluster, password)


def _start(directory: Path, cluster: Cluster, password: str) -> Server:
    """The server that runs already, else a new one."""
    log, taken = directory / "server.log", 0
    while True:
        lock = watcher.take(directory / watcher.SERVER, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is None:
            server = _running(directory, cluster, password)
            if server:
                return server
            continue
        try:
            _prepare(directory, cluster, password, lock)
            port = _choose_port(directory / "port")
            offset = log.stat().st_size if log.exists() else 0
            launch(cluster, port, log, lock)
        finally:
            os.close(lock)
        server = _running(directory, cluster, password)
        if server:
            return server
        if _is_free(port) or taken == 3:
            raise start_failed(log, offset)
        taken += 1  # somebody took the port after we had looked: choose another


def _prepare(directory: Path, cluster: Cluster, password: str, lock: int) -> None:
    """A data directory fit to be served. Nothing of a server lives: the caller holds its lock, `lock`."""
    if not cluster.data.exists():
        initialise(cluster, password, lock)
    if cluster.data.stat().st_mode & 0o077:
        cluster.data.chmod(0o700)  # unpacked from a backup, say; Postgres refuses a data directory open to others
    # Left by a kill or a power cut. Postgres would take it for a living server where its number is somebody's again.
    (cluster.data / "postmaster.pid").unlink(missing_ok=True)
    (directory / watcher.STOPPING).unlink(missing_ok=True)  # it was meant for the former server
    log = directory / "server.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.old"))


def _running(directory: Path, cluster: Cluster, password: str) -> Server | None:
    """The server once it accepts connections; None once nothing of it lives (it failed, or is at its end)."""
    import psycopg

    deadline, reason = time.monotonic() + DEADLINE_SECONDS, "it has no pid file"
    while watcher.is_alive(directory):
        port = _port_of(cluster.data)
        if port is not None:
            try:
                with _connect(port, password) as connection:
                    if _is_ours(connection, cluster):
                        _create_databases(connection)
                        return Server(port, password)
                reason = f"another server answers on port {port}"
            except psycopg.Error as error:
                reason = error.diag.message_primary or str(error).strip().splitlines()[-1]
                if "password authentication failed" in reason:
                    raise SettingsError(
                        f"The embedded Postgres does not accept the password in {directory / 'password'}: put the "
                        f"former file back, or remove {directory} to begin anew without its data."
                    ) from None
                refused = error.sqlstate is not None or "FATAL:" in reason
                if refused and not any(passing in reason for passing in PASSING):
                    raise DatabaseUnavailable(f"The embedded Postgres cannot be used: {reason}") from None
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"The embedded Postgres did not answer for {DEADLINE_SECONDS:.0f} s "
                f"(its log is {directory / 'server.log'}): {reason}"
            )
        time.sleep(watcher.POLL_SECONDS)
    return None


def _connect(port: int, password: str) -> "psycopg.Connection[tuple[Any, ...]]":
    import psycopg

    # require_auth: a stranger that holds the port must not be told the password.
    return psycopg.connect(
        host="127.0.0.1",
        port=port,
        user=USER,
        password=password,
        dbname="postgres",
        autocommit=True,
        connect_timeout=10,
        require_auth="scram-sha-256",
        sslmode="disable",
        gssencmode="disable",
    )


def _is_ours(connection: "psycopg.Connection[tuple[Any, ...]]", cluster: Cluster) -> bool:
    row = connection.execute("SHOW data_directory").fetchone()
    return row is not None and Path(row[0]).samefile(cluster.data)


def _create_databases(connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
    """Idempotent, and done at every joining: the first starter may have been killed before it came to this."""
    from psycopg import sql

    have = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
    for name in DATABASES:
        if name not in have:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    if "dagster" not in have:
        # A power cut may cost Dagster the last moments of its own log, never the warehouse anything.
        connection.execute("ALTER DATABASE dagster SET synchronous_commit = off")


def _port_of(data: Path) -> int | None:
    """The port that the postmaster wrote into its pid file, line 4; None while that is not there."""
    try:
        return int((data / "postmaster.pid").read_text().split("\n")[3])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _choose_port(remembered: Path) -> int:
    """The port used last if it is free, else a free one, which is remembered."""
    try:
        port = int(remembered.read_text())
    except (FileNotFoundError, ValueError):
        port = 0
    if port not in PORTS or not _is_free(port):
        port = next(port for port in random.sample(PORTS, len(PORTS)) if _is_free(port))
        remembered.write_text(f"{port}\n")
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Postgres does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _password(directory: Path, cluster: Cluster) -> str:
    """The password of the server, made at first use; the file is readable by its owner only."""
    file = directory / "password"
    if not file.exists():
        if cluster.data.exists():
            raise SettingsError(
                f"{file} is missing, and without it the embedded Postgres cannot be entered: put it back, or remove "
                f"{directory} to begin anew without its data."
            )
        new = directory / "password.tmp"
        new.unlink(missing_ok=True)
        new.touch(mode=0o600, exist_ok=False)
        new.write_text(secrets.token_urlsafe(24))
        new.rename(file)
    return file.read_text()


def _is_registered(directory: Path) -> bool:
    lock = _users_locks.get(directory)
    return lock is not None and watcher.is_current(lock, directory / watcher.USERS)


def _register(directory: Path) -> None:
    """Makes this process a user until it ends."""
    if not _is_registered(directory):
        stale = _users_locks.pop(directory, None)  # of a folder that was deleted and made anew
        if stale is not None:
            os.close(stale)
        # Waits for no more than the moment in which the watcher looks whether anybody is left.
        lock = watcher.take(directory / watcher.USERS, fcntl.LOCK_SH)
        assert lock is not None, "only LOCK_NB gives None"
        _users_locks[directory] = lock


@contextmanager
def _start_lock(directory: Path) -> Iterator[None]:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        with watcher.holding(directory / watcher.START, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
            if held:
                yield
                return
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"Another process has been starting or stopping the embedded Postgres for {DEADLINE_SECONDS:.0f} s: "
                f"see {directory / 'server.log'}."
            )
        time.sleep(watcher.POLL_SECONDS)


def _ensure_watcher(directory: Path, cluster: Cluster) -> None:
    """A watcher, unless one lives. It inherits its lock, so that there is no moment in which a second could start."""
    lock = watcher.take(directory / watcher.WATCHER, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if lock is None:
        return
    log_file = directory / "server.log"
    log_file.touch(mode=0o600)
    command = [sys.executable, "-I", "-S", watcher.__file__, str(directory), str(cluster.data), str(lock)]
    try:
        with log_file.open("ab") as log:
            result = subprocess.run(
                ["/bin/sh", "-c", 'test -x "$1" || exit 126; "$@" </dev/null &', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=[lock],
                start_new_session=True,
                check=False,
            )
    finally:
        os.close(lock)
    if result.returncode != 0:
        raise SettingsError(
            f"{sys.executable} cannot be executed by you, and without it nobody would stop the embedded Postgres: "
            f"install Python where you may run it, or {ELSEWHERE}."
        )


def _give_to_owner(directory: Path) -> None:
    """What root made in a user's folder must stay usable for that user."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for entry in directory.iterdir():
            if entry.lstat().st_uid == 0:
                os.chown(entry, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _unusable(directory: Path, error: OSError) -> PlatformError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DatabaseUnavailable(f"No space is left on the disk of {directory}: free some, then try again.")
    return SettingsError(
        f"The embedded Postgres cannot use {error.filename or directory} ({error.strerror}): make it readable and "
        f"writable for you, set DATA_PLATFORM_HOME to another folder, or {ELSEWHERE}."
    )
