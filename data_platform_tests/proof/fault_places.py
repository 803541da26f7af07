"""Where faults happen: a server whose databases are made anew for each, and disks that are soon full."""

import contextlib
import fcntl
import os
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from data_platform import embedded_postgres_watcher as watcher
from data_platform.embedded_postgres import ensure_server
from data_platform.embedded_postgres_process import locate
from data_platform_tests.conftest import drop_database

RECOVERY_SECONDS = 60.0


class CannotRun(Exception):
    """A kind of fault that cannot be done on this machine, with the reason."""


class Server:
    """A Postgres: of our own below `home`, or a given one, which is never stopped."""

    def __init__(self, given: str | None, home: Path) -> None:
        self.given, self.home = given, home
        self._url = given.replace("postgres://", "postgresql://", 1) if given else ""
        self.restart()

    def restart(self) -> None:
        """Have it running: recovered where it was stopped hard."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while not self.given:
            self._url = ensure_server(self.home).url("warehouse")
            try:
                psycopg.connect(self._url, connect_timeout=10).close()
                return
            except psycopg.OperationalError:  # it recovers, or is about to give up and to be started again
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def url(self, database: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def copy(self, source: str | None, target: str) -> None:
        """The database `target` anew, from another one or empty."""
        self.drop(target)
        create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(target))
        with psycopg.connect(self._url, autocommit=True) as connection:
            if source:
                create += sql.SQL(" TEMPLATE {}").format(sql.Identifier(source))
                if connection.info.server_version >= 150000:  # before, it was the only way
                    create += sql.SQL(" STRATEGY file_copy")
            connection.execute(create)

    def drop(self, name: str) -> None:
        drop_database(self._url, name)

    def close(self) -> None:
        """Stop it, if it is ours; its own watcher would, once this process is gone."""
        if not self.given:
            directory = self.home / "postgres"
            with watcher.holding(directory / watcher.START, fcntl.LOCK_EX):
                watcher.stop(directory, locate(directory).data)


class Disk:
    """A file system of a few megabytes, in memory."""

    def __init__(self, megabytes: int) -> None:
        self._holder: subprocess.Popen[str] | None = None
        self._mounted: Path | None = None
        self._folder = folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
        options = ["-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "none", str(folder)]
        if os.geteuid() == 0 and _works(["mount", *options]):
            self._mounted = self.path = folder
            return
        script = 'mount "$@" && echo mounted && cat'
        with contextlib.suppress(OSError):
            self._holder = subprocess.Popen(
                ["unshare", "-Urm", "sh", "-c", script, "sh", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            assert self._holder.stdout is not None
            if self._holder.stdout.readline().strip() == "mounted":
                # The name space of the holder is seen through its process, and gone with it.
                self.path = Path(f"/proc/{self._holder.pid}/root{folder}")
                with contextlib.suppress(OSError):
                    (self.path / "test").mkdir()
                    (self.path / "test").rmdir()
                    return
        self.close()
        raise CannotRun("this machine allows neither mount nor a name space of our own (unshare -Urm)")

    @property
    def ballast(self) -> Path:
        return self.path / "ballast"

    def close(self) -> None:
        if self._mounted and not _works(["umount", str(self._mounted)]):
            _works(["umount", "-l", str(self._mounted)])
        if self._holder:
            self._holder.communicate()
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
