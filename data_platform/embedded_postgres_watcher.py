"""What outlives the users of the embedded Postgres: the locks they share, and the process that stops the server.

Run as a script, detached, by `embedded_postgres`; hence nothing but the standard library is imported here.

Every process that uses the server holds a shared lock on `users` from before it is told the port until it is gone;
the kernel drops it, whatever killed the process. Children that a user forks inherit the lock and count as users as
well, which is right: they inherited connections too. Programs that a user executes do not inherit it (close-on-exec).

| file | held by | means |
|---|---|---|
| start | a process while it starts, joins or stops the server | one at a time |
| users | each user, shared, for its life | the server is needed |
| server | the postmaster and its children, for their lives | something of the server lives: never start another |
| watcher | the watcher, for its life | somebody will stop the server |
"""

import contextlib
import errno
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

START, USERS, SERVER, WATCHER, STOPPING = "start.lock", "users.lock", "server.lock", "watcher.lock", "stopping"

# Commands often follow one another (make demo, a script): a stop and a start between each two would cost a second.
LINGER_SECONDS = 2.0
POLL_SECONDS = 0.03


def take(path: Path, operation: int) -> int | None:
    """A descriptor that holds the flock `operation` (fcntl.LOCK_…) on `path`; None where LOCK_NB finds it taken."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, operation)
            if is_current(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the folder was deleted and made anew while we waited: that lock guards nothing now


def is_current(descriptor: int, path: Path) -> bool:
    """Whether `path` still names the file that `descriptor` has open."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


@contextlib.contextmanager
def holding(path: Path, operation: int) -> Iterator[bool]:
    """Holds the lock within the block; yields False where LOCK_NB finds it taken."""
    descriptor = take(path, operation)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def is_alive(directory: Path) -> bool:
    """Whether any process of the server lives: the postmaster, or a backend that a killed postmaster left behind."""
    with holding(directory / SERVER, fcntl.LOCK_SH | fcntl.LOCK_NB) as free:
        return not free


def stop(directory: Path, data: Path) -> None:
    """Stops the server and waits until nothing of it lives. To be called with the lock `start` held.

    The mark `stopping` is there for the case that the caller is killed between the signal and the server's end:
    until Postgres has read the signal it still accepts connections, and no new user may be handed such a server.
    """
    mark = directory / STOPPING
    mark.touch(mode=0o600)
    while is_alive(directory):
        postmaster = _postmaster(data)
        if postmaster is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(postmaster, signal.SIGINT)  # "fast": ends sessions, writes a checkpoint. Repeating is harmless
        elif not data.exists():
            break  # deleted under the running server, which ends by itself within a minute; or an initdb left alone
        deadline = time.monotonic() + 1.0
        while is_alive(directory) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    mark.unlink(missing_ok=True)


def _postmaster(data: Path) -> int | None:
    """The postmaster's pid. A killed one leaves its pid file behind, and the number may be a stranger's by now."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else pid  # no /proc on macOS
    return pid if os.fsencode(data) in command else None


def watch(directory: Path, data: Path, own_lock: int) -> None:
    """Waits until the server has no user left, and stops it. `own_lock` is the lock `watcher`, inherited."""
    while True:
        with holding(directory / USERS, fcntl.LOCK_EX):
            pass  # nobody is left, at this moment
        time.sleep(LINGER_SECONDS)
        # Users register with `start` held. So nobody can come between the look at `users` and the end of the stop: who
        # came before it is seen, who comes later waits for `start`, finds the server gone and starts it again.
        # The order of locks is the same everywhere, `start` before `users`; above, `users` was released first.
        with (
            holding(directory / START, fcntl.LOCK_EX),
            holding(directory / USERS, fcntl.LOCK_EX | fcntl.LOCK_NB) as unused,
        ):
            if unused:
                stop(directory, data)
                os.close(own_lock)  # with `start` held: the next user must not take us for the watcher of its server
                return


if __name__ == "__main__":
    try:
        watch(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except OSError as error:
        if error.errno != errno.ENOENT:  # the whole folder was deleted: nothing is left to watch
            raise
