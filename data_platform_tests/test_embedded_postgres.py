"""The embedded Postgres, with real servers and real processes: one server for all users, and none after the last."""

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from data_platform import embedded_postgres, embedded_postgres_process
from data_platform import embedded_postgres_watcher as watcher
from data_platform.embedded_postgres import ensure_server
from data_platform.errors import DatabaseUnavailable, SettingsError

DEADLINE_SECONDS = 30.0
REPOSITORY = Path(__file__).parent.parent

# A user: says what it was handed, and is there until its standard input is closed. "again" asks once more.
USER = """
import json, sys
from pathlib import Path
import psycopg
from data_platform.embedded_postgres import ensure_server
while True:
    server = ensure_server(Path(sys.argv[1]))
    with psycopg.connect(server.url("warehouse")) as connection:
        started = connection.execute("SELECT pg_postmaster_start_time()::text").fetchone()[0]
    print(json.dumps({"port": server.port, "url": server.url("warehouse"), "started": started}), flush=True)
    if not sys.stdin.readline():
        break
"""


class User:
    """A process that uses the server of a home."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=os.environ | environment,
        )

    def handed(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the user ended with {self.process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def again(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        return self.handed()

    def leave(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    if (home / "postgres").exists():
        stop_at_once(home)


@pytest.fixture
def new_user(home: Path) -> Iterator[Callable[..., User]]:
    users: list[User] = []

    def new_user(**environment: str) -> User:
        users.append(User(home, **environment))
        return users[-1]

    yield new_user
    for user in users:
        user.kill()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def stop_at_once(home: Path) -> None:
    """What the watcher does, without its pause for the next user."""
    with watcher.holding(home / "postgres" / watcher.START, fcntl.LOCK_EX):
        watcher.stop(home / "postgres", home / "postgres" / "data")


def postmaster(home: Path) -> int:
    return int((home / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])


def watcher_pid(home: Path) -> int:
    inode = (home / "postgres" / watcher.WATCHER).stat().st_ino
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return next(int(lock[4]) for lock in locks if lock[5].endswith(f":{inode}") and lock[1] == "FLOCK")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_processes_that_start_at_once_get_one_server_which_goes_after_the_last_was_killed(
    home: Path, new_user: Callable[..., User]
) -> None:
    users = [new_user() for _ in range(6)]
    assert len({(handed["port"], handed["started"]) for handed in (user.handed() for user in users)}) == 1

    for user in users[1:]:
        user.kill()
    with psycopg.connect(users[0].again()["url"]) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    users[0].kill()

    eventually(lambda: not watcher.is_alive(home / "postgres"))


def test_a_later_start_keeps_data_port_and_password(home: Path, new_user: Callable[..., User]) -> None:
    first = new_user()
    before = first.handed()
    with psycopg.connect(before["url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    first.leave()
    stop_at_once(home)

    after = new_user().handed()

    assert after["url"] == before["url"]
    assert after["started"] != before["started"]
    with psycopg.connect(after["url"]) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_no_directory_is_opened_to_others_and_the_port_is_on_loopback_only(
    tmp_path: Path, home: Path, new_user: Callable[..., User]
) -> None:
    tmp_path.chmod(0o700)
    handed = new_user().handed()

    assert mode(tmp_path) == 0o700
    assert mode(home / "postgres") == 0o700
    assert mode(home / "postgres" / "data") == 0o700
    assert mode(home / "postgres" / "password") == 0o600
    with psycopg.connect(handed["url"]) as connection:
        shown = {name: connection.execute(f"SHOW {name}").fetchone() for name in ("listen_addresses", "TimeZone")}
        assert shown == {"listen_addresses": ("127.0.0.1",), "TimeZone": ("UTC",)}
        assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(handed["url"].replace(":" + (home / "postgres" / "password").read_text() + "@", ":wrong@"))


def test_text_is_sorted_alike_on_every_machine_and_only_dagster_commits_asynchronously(
    home: Path, new_user: Callable[..., User]
) -> None:
    url = new_user(LC_ALL="de_DE.UTF-8", TZ="Asia/Tokyo").handed()["url"]
    with psycopg.connect(url) as connection:
        words = connection.execute("SELECT w FROM (VALUES ('é'), ('Z'), ('a'), ('B')) AS t (w) ORDER BY w").fetchall()
        assert [word for (word,) in words] == ["B", "Z", "a", "é"]
        assert connection.execute("SELECT lower('ÉCOLE')").fetchone() == ("école",)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    with psycopg.connect(url.removesuffix("warehouse") + "dagster") as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)


def test_a_killed_server_is_started_again_for_the_same_user(home: Path, new_user: Callable[..., User]) -> None:
    user = new_user()
    before = user.handed()
    os.kill(postmaster(home), signal.SIGKILL)
    # Its number is a living stranger's by now, as after a restart of a container.
    eventually(lambda: not watcher.is_alive(home / "postgres"))
    pid_file = home / "postgres" / "data" / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(pid_file.read_text().split("\n")[0], str(os.getpid()), 1))

    after = user.again()

    assert after["url"] == before["url"]
    assert after["started"] != before["started"]


def test_another_port_is_taken_where_the_remembered_one_is_a_strangers(
    home: Path, new_user: Callable[..., User]
) -> None:
    first = new_user()
    before = first.handed()
    first.leave()
    stop_at_once(home)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", before["port"]))
        stranger.listen()
        second = new_user()
        after = second.handed()
        assert after["port"] != before["port"]
        second.leave()
        stop_at_once(home)
    assert new_user().handed()["port"] == after["port"], "the new port is the remembered one"


@pytest.mark.skipif(sys.platform != "linux", reason="finds the watcher in /proc")
def test_a_killed_watcher_is_replaced_by_the_next_user(home: Path, new_user: Callable[..., User]) -> None:
    first = new_user()
    first.handed()
    os.kill(watcher_pid(home), signal.SIGKILL)
    first.leave()

    second = new_user()
    second.handed()
    second.kill()

    eventually(lambda: not watcher.is_alive(home / "postgres"))


def test_a_server_whose_stop_was_cut_short_is_not_handed_out(home: Path, new_user: Callable[..., User]) -> None:
    first = new_user()
    before = first.handed()
    (home / "postgres" / watcher.STOPPING).touch()  # as if its watcher had been killed at the signal

    after = new_user().handed()

    assert after["started"] != before["started"]
    assert not (home / "postgres" / watcher.STOPPING).exists()


def test_a_user_that_comes_while_the_server_is_being_stopped_gets_a_living_one(
    home: Path, new_user: Callable[..., User]
) -> None:
    directory = home / "postgres"
    new_user().handed()
    with watcher.holding(directory / watcher.START, fcntl.LOCK_EX):
        late = new_user()  # waits behind us, as behind the watcher
        watcher.stop(directory, directory / "data")
    handed = late.handed()
    with psycopg.connect(handed["url"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_starter_waits_for_the_end_of_what_a_killed_one_left_at_work(
    home: Path, new_user: Callable[..., User]
) -> None:
    directory = home / "postgres"
    directory.mkdir(parents=True)

    def somebody_starts() -> bool:
        with watcher.holding(directory / watcher.START, fcntl.LOCK_EX | fcntl.LOCK_NB) as free:
            return not free

    with watcher.holding(directory / watcher.SERVER, fcntl.LOCK_EX):  # as an initdb, or a backend, would
        user = new_user()
        eventually(somebody_starts)
        assert not (directory / "data").exists()
    assert user.handed()["port"] > 0


def test_root_runs_it_by_a_service_account_where_user_namespaces_are_refused(
    home: Path, new_user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root needs another account")
    monkeypatch.setattr(embedded_postgres_process, "_namespaces", lambda _: [])
    directory = home / "postgres"
    directory.mkdir(parents=True, mode=0o700)
    cluster = embedded_postgres_process.locate(directory)
    folder = cluster.data.parent
    try:
        first = new_user()
        handed = first.handed()
        with psycopg.connect(handed["url"]) as connection:
            assert connection.execute("SHOW data_directory").fetchone() == (str(cluster.data),)
        assert folder.stat().st_uid != 0
        assert (mode(folder), mode(folder.parent), mode(directory)) == (0o700, 0o755, 0o700)
        first.leave()
        with watcher.holding(directory / watcher.START, fcntl.LOCK_EX):
            watcher.stop(directory, cluster.data)
    finally:
        shutil.rmtree(folder)


def test_a_home_that_cannot_be_used_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"cannot use .*file.* DATA_PLATFORM_HOME"):
        ensure_server(tmp_path / "file")


def test_a_platform_without_binaries_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded_postgres_process._wheel_binaries.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"not installed for this platform.*DATA_PLATFORM_WAREHOUSE_URL"):
        ensure_server(tmp_path)
    monkeypatch.undo()
    embedded_postgres_process._wheel_binaries.cache_clear()


def test_a_server_that_does_not_start_is_told_with_the_last_line_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(embedded_postgres_process.SETTINGS, "shared_buffers", "much")
    with pytest.raises(DatabaseUnavailable, match=r"did not start .*server\.log.*FATAL: .*shared_buffers.*much"):
        ensure_server(tmp_path)


def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(embedded_postgres, "locate", lambda _: (_ for _ in ()).throw(full))
    with pytest.raises(DatabaseUnavailable, match="No space is left on the disk"):
        ensure_server(tmp_path)


def test_a_lost_password_is_told_in_one_sentence(home: Path, new_user: Callable[..., User]) -> None:
    user = new_user()
    user.handed()
    (home / "postgres" / "password").unlink()
    with pytest.raises(SettingsError, match=r"password is missing.*put it back"):
        ensure_server(home)
    with suppress(KeyError):
        os.close(embedded_postgres._users_locks.pop(home.absolute() / "postgres"))  # the test is a user no more


def test_importing_it_is_cheap_and_loads_no_driver() -> None:
    code = "import sys, data_platform.embedded_postgres; print([m for m in ('psycopg', 'psutil') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=REPOSITORY).strip() == "[]"
