"""The exporter and the textfile, as Prometheus and cron meet them."""

import http.client
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from typer.testing import CliRunner

from data_platform.cli import app
from data_platform.errors import SettingsError
from data_platform.monitoring.collect import APPLICATION, Collector
from data_platform.monitoring.exporter import serving, write
from data_platform.settings import Settings
from data_platform_tests.conftest import drop_database, throw_away
from data_platform_tests.test_cli import COMMAND, Platform

SCRAPES, AT_ONCE = 500, 8


def scrape(port: int, host: str = "127.0.0.1") -> str:
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    assert (answer.getheader("Content-Type") or "").startswith("text/plain; version=")
    text = answer.read().decode()
    connection.close()
    return text


def value(text: str, name: str) -> float:
    found = re.search(rf"^data_platform_{name} (\S+)$", text, re.M)
    assert found, text
    return float(found[1])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def connections(url: str) -> int:
    """How many connections of looks there are on the whole server."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()",
            [APPLICATION],
        ).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def served(platform: Platform, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and what it said first."""
    process = subprocess.Popen(
        [*COMMAND, "metrics", "serve", *options], env=platform.environment | environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        yield process, process.stderr.readline()
    finally:
        process.kill()
        process.communicate()


def test_five_hundred_scrapes_leave_nothing_behind(chosen: Settings, loaded: Platform) -> None:
    seen = []
    with serving(chosen, "127.0.0.1", 0) as port:
        scrape(port)
        files, threads = open_files(), threading.active_count()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for number, text in enumerate(pool.map(lambda _: scrape(port), range(SCRAPES))):
                assert value(text, "up") == 1
                if number % 50 == 0:
                    seen.append(connections(loaded.warehouse))
        # Looks are taken one at a time: those who ask meanwhile share the next.
        assert max(seen) <= 1
        assert connections(loaded.warehouse) == 0
        assert open_files() <= files + 2
        assert threading.active_count() <= threads + 2


def test_those_who_ask_at_once_share_a_look_that_began_after_they_asked(chosen: Settings) -> None:
    collector = Collector(chosen)
    started, looks = threading.Barrier(AT_ONCE), []

    def ask() -> None:
        started.wait()
        looks.append(collector.look())

    threads = [threading.Thread(target=ask) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looks) == AT_ONCE
    assert len({id(look) for look in looks}) < AT_ONCE
    assert collector.look() not in looks


def test_a_warehouse_that_comes_back_is_seen(chosen: Settings, server: str, template: str) -> None:
    with throw_away(server, template) as url:
        pass  # it is gone
    with serving(replace(chosen, warehouse_url=url), "127.0.0.1", 0) as port:
        text = scrape(port)
        assert value(text, "up") == 0
        assert "data_platform_table_bytes" not in text
        assert 'data_platform_scrape_part_success{part="lake"} 1.0' in text
        name = urlsplit(url).path[1:]
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            assert value(scrape(port), "up") == 1
        finally:
            drop_database(server, name)


def test_a_lock_on_a_table_costs_a_scrape_no_more_than_its_limits(chosen: Settings, server: str, template: str) -> None:
    with throw_away(server, template) as url, psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE platform.load_ledger IN ACCESS EXCLUSIVE MODE")
        with serving(replace(chosen, warehouse_url=url), "127.0.0.1", 0) as port:
            assert value(scrape(port), "up") == 0
            holder.rollback()
            assert value(scrape(port), "up") == 1


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_this_machine_until_it_is_ended(loaded: Platform, end: signal.Signals) -> None:
    with served(loaded, "--port", "0") as (process, said):
        found = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", said)
        assert found, said
        assert value(scrape(int(found[1])), "up") == 1
        hanging = socket.create_connection(("127.0.0.1", int(found[1])))  # a client that says nothing
        process.send_signal(end)
        out, err = process.communicate(timeout=30)
        hanging.close()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_port_that_is_taken_is_one_sentence(loaded: Platform) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with served(loaded, "--port", str(port)) as (process, said):
            assert process.wait(timeout=60) == 1
    assert said == f"Port {port} of 127.0.0.1 is taken by another program: choose one by --port.\n"


@pytest.mark.parametrize("host", ["8.8.8.8", "nowhere.invalid"])
def test_an_address_that_is_not_of_this_machine_is_one_sentence(chosen: Settings, host: str) -> None:
    with pytest.raises(SettingsError, match="no address of this machine"), serving(chosen, host, 0):
        pass


def test_a_textfile_is_replaced_whole_or_stays_as_it_is(chosen: Settings, tmp_path: Path) -> None:
    path = tmp_path / "platform.prom"
    path.write_text("data_platform_up 0\n")
    reader = path.open()
    assert write(chosen, path) == []
    assert reader.read() == "data_platform_up 0\n"
    reader.close()
    assert value(path.read_text(), "up") == 1
    assert list(tmp_path.iterdir()) == [path]
    blocked = tmp_path / "folder.prom"
    blocked.mkdir()
    runner = CliRunner()
    told = runner.invoke(app, ["metrics", "write", str(blocked)])
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.splitlines()[-1].startswith(f"{blocked} cannot be written (Is a directory)")
    assert sorted(tmp_path.iterdir()) == [blocked, path]


def test_cron_is_told_what_the_file_lacks(loaded: Platform, tmp_path: Path) -> None:
    path = tmp_path / "platform.prom"
    done = loaded.run("metrics", "write", str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    parts = urlsplit(loaded.warehouse)
    elsewhere = urlunsplit(parts._replace(netloc="me:hunter2@127.0.0.1:1"))
    done = loaded.run("metrics", "write", str(path), DATA_PLATFORM_WAREHOUSE_URL=elsewhere)
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not answer (connection refused)" in done.stderr
    assert "hunter2" not in done.stderr
    assert value(path.read_text(), "up") == 0

    done = loaded.run("metrics", "write", str(tmp_path / "platform.txt"))
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path / 'platform.txt'} does not end in .prom: node_exporter reads no other files.\n"
    done = loaded.run("metrics", "write", str(tmp_path / "nowhere" / "platform.prom"))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
