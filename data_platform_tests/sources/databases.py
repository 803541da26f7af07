"""Real databases for tests: a MariaDB of our own on a free port, where its server is installed."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER, PASSWORD, DATABASE = "shop", "geheim und lang/@", "shop"


def mariadb_is_here() -> bool:
    """Whether MariaDB's server is installed (Debian: mariadb-server)."""
    return all(shutil.which(name, path=_PATH) for name in ("mariadbd", "mariadb-install-db", "mariadb"))


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


@contextmanager
def mariadb(folder: Path) -> Iterator[int]:
    """A server with an empty database and a user of its own; gives its port, and ends it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    common = [f"--datadir={data}", "--user=root"] if os.geteuid() == 0 else [f"--datadir={data}"]
    programs = {name: shutil.which(name, path=_PATH) or name for name in ("mariadbd", "mariadb-install-db", "mariadb")}
    subprocess.run(
        [programs["mariadb-install-db"], *common, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True, capture_output=True,
    )  # fmt: skip
    socket_file = folder / "s"
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [programs["mariadbd"], "--no-defaults", *common, f"--port={port}", "--bind-address=127.0.0.1",
             f"--socket={socket_file}", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"],
            stdout=log, stderr=log,
        )  # fmt: skip
    client = [programs["mariadb"], "--no-defaults", "-uroot", f"--socket={socket_file}"]
    try:
        for _ in range(200):
            if subprocess.run([*client, "-e", "SELECT 1"], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        run(
            folder,
            f"CREATE DATABASE {DATABASE}; CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; "
            f"GRANT SELECT ON {DATABASE}.* TO '{USER}'@'127.0.0.1';",
        )
        yield port
    finally:
        server.terminate()
        server.wait(timeout=60)


def run(folder: Path, text: str) -> None:
    """Run SQL as the server's owner."""
    client = shutil.which("mariadb", path=_PATH) or "mariadb"
    subprocess.run(
        [client, "--no-defaults", "-uroot", f"--socket={folder / 's'}", "-e", text], check=True, capture_output=True
    )
