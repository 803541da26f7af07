"""Where a fault can strike: between any two calls by which the code under test touches the world.

The code under test knows nothing of it: the primitives that it calls (psycopg's, those of `os`, Polars' writing of
Parquet) are wrapped in the victim's process. Between two of them nothing changes outside of the process, so that
"before the n-th call" for every n, and "after the last", are all the states in which a run can be left behind.
"""

import builtins
import contextlib
import io
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import psycopg

connect = psycopg.connect
unlink = os.unlink
open_file = builtins.open

# No disk that is filled up is larger.
LARGEST_DISK = 1 << 30
# A call to the operating system that changes a folder, by the position of the path that it changes.
CALLS = {"replace": 1, "rename": 1, "link": 1, "unlink": 0, "remove": 0, "mkdir": 0, "rmdir": 0, "truncate": 0}


@dataclass
class Points:
    """The calls of this process so far, by what they are; the one numbered `at` (from 0) is preceded by `strike`.

    `places` are the folders whose files count: Dagster's own files are not the platform's.
    """

    places: tuple[Path, ...]
    at: int | None = None
    strike: Callable[[psycopg.Connection | None], None] | None = None
    seen: list[str] = field(default_factory=list)
    struck: str | None = None

    def reach(
        self, what: str, connection: psycopg.Connection | None = None, tear: Callable[[], None] | None = None
    ) -> None:
        """A call is about to be made. `tear` leaves it half done: it is called where the strike is to be here."""
        self.seen.append(("db " if connection is not None else "") + what)
        if len(self.seen) - 1 == self.at and self.strike is not None:
            self.struck = what
            if tear is not None:
                tear()
            self.strike(connection)

    def concerns(self, path: Any) -> bool:
        """Whether a file is one of the platform's."""
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        return any(text.startswith(str(place)) for place in self.places)

    def install(self) -> None:
        """Wrap the primitives, in this process and for good."""
        self._wrap_files()
        self._wrap_parquet()
        self._wrap_postgres()

    def _wrap_files(self) -> None:
        for name, position in CALLS.items():
            setattr(os, name, self._counted(name, getattr(os, name), position))
        fsync = os.fsync

        def synced(descriptor: Any) -> None:
            self.reach("fsync")
            fsync(descriptor)

        os.fsync = synced
        for module in (builtins, io):
            module.open = self._opened

    def _counted(self, name: str, original: Callable[..., Any], position: int) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            path: Any = arguments[position] if len(arguments) > position else ""
            if self.concerns(path):
                self.reach(f"{name} {_kind(Path(path))}")
            return original(*arguments, **named)

        return call

    def _opened(self, file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if not (set(mode) & set("wax+") and self.concerns(file)):
            return open_file(file, mode, *arguments, **named)
        self.reach(f"open {_kind(Path(file))} for writing")
        opened = open_file(file, mode, *arguments, **named)
        if "_locks" not in Path(file).parts:
            self.reach(f"{_kind(Path(file))} still empty")
        return opened

    def _wrap_parquet(self) -> None:
        write = pl.DataFrame.write_parquet

        def write_parquet(frame: pl.DataFrame, file: Any, *arguments: Any, **named: Any) -> None:
            self.reach("write Parquet")
            write(frame, file, *arguments, **named)
            self.reach("half of a Parquet file", tear=lambda: os.truncate(file, Path(file).stat().st_size // 2))

        pl.DataFrame.write_parquet = write_parquet  # type: ignore[method-assign,assignment]

    def _wrap_postgres(self) -> None:
        cursor, connection, copying = psycopg.Cursor, psycopg.Connection, psycopg.Copy
        commit, copy = connection.commit, cursor.copy

        def connected(*arguments: Any, **named: Any) -> Any:
            self.reach("connect")
            return connect(*arguments, **named)

        def committed(session: Any) -> None:
            self.reach("commit", session)
            commit(session)
            self.reach("committed", session)

        @contextlib.contextmanager
        def copied(session: psycopg.Cursor, statement: Any, *arguments: Any, **named: Any) -> Iterator[psycopg.Copy]:
            self.reach(_words(statement, session.connection), session.connection)
            with copy(session, statement, *arguments, **named) as rows:
                yield rows
                self.reach("end of COPY", session.connection)

        psycopg.connect = connected
        connection.commit = committed  # type: ignore[method-assign]
        cursor.copy = copied  # type: ignore[method-assign,assignment]
        for name in ("execute", "executemany"):
            setattr(cursor, name, self._told(getattr(cursor, name)))
        for name in ("write", "write_row"):
            setattr(copying, name, self._sent(getattr(copying, name)))

    def _told(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def execute(session: psycopg.Cursor, statement: Any, *arguments: Any, **named: Any) -> Any:
            self.reach(_words(statement, session.connection), session.connection)
            return original(session, statement, *arguments, **named)

        return execute

    def _sent(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def write(copy: psycopg.Copy, *arguments: Any, **named: Any) -> Any:
            self.reach("rows of COPY", copy.connection)
            return original(copy, *arguments, **named)

        return write


def _words(statement: Any, connection: psycopg.Connection) -> str:
    text = statement.as_string(connection) if hasattr(statement, "as_string") else str(statement)
    return " ".join(text.split())[:60]


def _kind(path: Path) -> str:
    """The name of a file without what differs from run to run."""
    return next((part for part in path.parts[::-1] if part.startswith(("_", "raw_", "stg_", "quarantine_"))), path.name)


# What can happen. Each is done by the victim itself, at the point, or by the process that started it, at some time.


def kill() -> None:
    """No handler, no finally, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def terminate(url: str, backend: int | None = None) -> int:
    """End a backend (else all of the database of `url`), and wait until it is gone; how many there were."""
    whose = "pid = %(pid)s" if backend else "datname = current_database() AND backend_type = 'client backend'"
    with connect(url, autocommit=True, application_name="fault") as other:
        ended = other.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            f" WHERE {whose} AND pid <> pg_backend_pid() AND application_name <> 'fault'",
            {"pid": backend},
        ).fetchall()
    return len(ended)


def stop(data: Path, alive: Callable[[], bool]) -> None:
    """Postgres gone at once, without a checkpoint (`pg_ctl -m immediate` sends the same signal), and wait for it."""
    with open_file(data / "postmaster.pid") as file:
        postmaster = int(file.readline())
    os.kill(postmaster, signal.SIGQUIT)
    while alive():
        time.sleep(0.01)


def fill(ballast: Path, leave: int = 0) -> None:
    """A file that leaves `leave` bytes of its file system, which must be a small one: never a machine's own disk."""
    space = os.statvfs(ballast.parent)
    assert space.f_frsize * space.f_blocks < LARGEST_DISK, "that is not a small disk of ours"
    with open_file(ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\1" * size) == size:
                    pass
    if leave:
        with open_file(ballast, "ab") as file:
            file.truncate(max(0, ballast.stat().st_size - leave))


def free(ballast: Path) -> None:
    """The space that `fill` took is free again."""
    with contextlib.suppress(FileNotFoundError):
        unlink(ballast)


def remove(folder: Path) -> None:
    """A folder gone, if it was there."""
    shutil.rmtree(folder, ignore_errors=True)
