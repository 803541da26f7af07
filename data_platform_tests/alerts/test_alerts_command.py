"""`data-platform alerts …` as people and cron start it: processes of their own, real receivers, real databases."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_platform.quality.history import CheckRecord, remember
from data_platform_tests.alerts.receivers import PASSWORD, USER, Mailbox, Receiver, http_receiver, smtp_server
from data_platform_tests.conftest import throw_away

COMMAND = [sys.executable, "-c", "from data_platform.cli import main; main()"]


class Commands:
    """Commands in an environment of their own."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))
        }
        self.environment = {
            **inherited,
            "DATA_PLATFORM_HOME": str(home / "home"),
            "DATA_PLATFORM_ALERTS": str(home / "alerts.yaml"),
            **environment,
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "alerts", *arguments], env=self.environment | environment, capture_output=True, text=True
        )

    def everything(self, done: subprocess.CompletedProcess[str]) -> str:
        """What it said, and what it logged."""
        logs = self.home.glob("home/logs/*")
        return done.stdout + done.stderr + "".join(path.read_text() for path in logs)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    with smtp_server(tmp_path) as box:
        yield box


@pytest.fixture
def commands(tmp_path: Path, receiver: Receiver, mailbox: Mailbox) -> Commands:
    (tmp_path / "alerts.yaml").write_text(
        f"""
channels:
  mail:
    email:
      host: 127.0.0.1
      port: {mailbox.port}
      user: SMTP_USER
      password: SMTP_PASSWORD
      sender: platform@example.com
      to: [on-call@example.com]
  chat:
    slack: {{url: CHAT_URL}}
  hook:
    webhook: {{url: CHAT_URL, headers: {{Authorization: TOKEN}}}}
    severity: warning
"""
    )
    secrets = {"SMTP_USER": USER, "SMTP_PASSWORD": PASSWORD, "CHAT_URL": receiver.url, "TOKEN": "Bearer hunter2"}
    return Commands(tmp_path, SSL_CERT_FILE=str(tmp_path / "ca.pem"), **secrets)


def test_a_test_reaches_every_channel(commands: Commands, receiver: Receiver, mailbox: Mailbox) -> None:
    done = commands.run("test")
    assert (done.returncode, done.stdout) == (0, "mail: sent.\nchat: sent.\nhook: sent.\n"), done.stderr
    assert mailbox.mails[0]["Subject"] == "[data platform] a test of alerts"
    assert "This is a test of the channel chat" in receiver.posted[0]["text"]
    assert receiver.posted[1]["event"] == "test"


def test_a_channel_that_does_not_work_is_told_and_stops_no_other(commands: Commands, receiver: Receiver) -> None:
    done = commands.run("test", SMTP_PASSWORD="wrong-hunter2")
    assert done.returncode == 1
    assert done.stdout == "chat: sent.\nhook: sent.\n"
    assert "mail: not sent. alerts.yaml: channels.mail.email: 127.0.0.1 refuses the user or the password" in done.stderr
    receiver.status = 500
    done = commands.run("test", "--json", TOKEN="")
    assert done.returncode == 1
    errors = {one["channel"]: one["error"] for one in json.loads(done.stdout)["channels"]}
    assert errors["mail"] is None
    assert "HTTP 500" in errors["chat"]
    assert "names the environment variable TOKEN, which is not set" in errors["hook"]
    told = commands.everything(done)
    assert not any(secret in told for secret in ("hunter2", PASSWORD, "sEcReT"))


def test_without_a_file_or_with_a_broken_one_it_says_so(tmp_path: Path) -> None:
    commands = Commands(tmp_path)
    done = commands.run("test")
    assert done.returncode == 1
    assert f"There is no {tmp_path / 'alerts.yaml'}: write one" in done.stderr
    (tmp_path / "alerts.yaml").write_text("channels: {a: {slack: {url: 'https://hooks.example.com/hunter2'}}}")
    done = commands.run("test")
    assert done.returncode == 1
    assert "channels.a.slack.url cannot be used: it must be the NAME of an environment variable" in done.stderr
    assert "hunter2" not in commands.everything(done)


def test_cron_looks_and_tells_once(
    commands: Commands, receiver: Receiver, mailbox: Mailbox, warehouse_url: str, server: str
) -> None:
    with throw_away(server) as dagster:
        commands.environment |= {"DATA_PLATFORM_WAREHOUSE_URL": warehouse_url, "DATA_PLATFORM_DAGSTER_URL": dagster}
        assert commands.run("check").returncode == 0
        record = CheckRecord("fact_sales", "few", "critical", False, rows_failed=1, rows_judged=2)
        remember(warehouse_url, "run-1", [record])
        receiver.status = 500
        done = commands.run("check", "--json")
        assert done.returncode == 1
        told = json.loads(done.stdout)
        assert (told["opened"], told["sent"], len(told["problems"])) == (1, 1, 2)
        receiver.status = 200
        done = commands.run("check")
        assert (done.returncode, done.stdout) == (0, "0 alerts opened, 0 closed, 2 messages sent.\n"), done.stderr
        assert "0 messages sent." in commands.run("check").stdout
        told_words = commands.everything(done)
    assert [mail["Subject"] for mail in mailbox.mails] == [
        "[data platform] fact_sales: the check few failed (critical)"
    ]
    assert not any(secret in told_words for secret in ("hunter2", PASSWORD, "sEcReT"))
