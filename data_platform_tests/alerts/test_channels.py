"""Channels against real receivers: mail with TLS and a login, webhooks; and that no error tells a secret."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_platform.alerts import channels
from data_platform.alerts.channels import NotSent, send
from data_platform.alerts.config import Channel
from data_platform.alerts.messages import Message
from data_platform_tests.alerts.receivers import PASSWORD, USER, Mailbox, Receiver, http_receiver, smtp_server

MESSAGE = Message("[data platform] it failed", "3 of 5 <rows> & more", "http://ui/runs/1", {"event": "opened"})
SECRETS = {"SMTP_USER": USER, "SMTP_PASSWORD": PASSWORD}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture(params=["starttls", "ssl"])
def security(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def mailbox(tmp_path: Path, security: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    with smtp_server(tmp_path, security=security) as box:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        yield box


def mail(box: Mailbox, security: str, *to: str) -> Channel:
    email = {
        "host": "127.0.0.1", "port": box.port, "security": security, "user": "SMTP_USER", "password": "SMTP_PASSWORD",
        "sender": "platform@example.com", "to": to or ("on-call@example.com",),
    }  # fmt: skip
    return Channel.model_validate({"email": email})


def refusal(channel: Channel, environ: dict[str, str]) -> str:
    with pytest.raises(NotSent) as raised:
        send("a", channel, MESSAGE, environ)
    said = str(raised.value)
    assert said.startswith("alerts.yaml: channels.a.")
    assert "\n" not in said
    for secret in environ.values():
        assert secret not in said
    error = raised.value
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__, "a traceback would show what the library says"
    return said


def test_a_mail_arrives_over_tls_with_a_login(mailbox: Mailbox, security: str) -> None:
    send("a", mail(mailbox, security, "on-call@example.com", "team@example.com"), MESSAGE, SECRETS)
    [got] = mailbox.mails
    assert got["Subject"] == "[data platform] it failed"
    assert (got["From"], got["To"]) == ("platform@example.com", "on-call@example.com, team@example.com")
    assert got["Auto-Submitted"] == "auto-generated"
    assert got.get_content().splitlines() == ["3 of 5 <rows> & more", "", "http://ui/runs/1"]


def test_a_wrong_password_is_told_and_not_repeated(mailbox: Mailbox, security: str) -> None:
    wrong = SECRETS | {"SMTP_PASSWORD": "not-the-password"}
    assert "refuses the user or the password" in refusal(mail(mailbox, security), wrong)
    assert mailbox.mails == []


def test_a_certificate_that_is_not_trusted_gets_no_password(
    mailbox: Mailbox, security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate that is not trusted" in refusal(mail(mailbox, security), SECRETS)


def test_nobody_who_is_refused_keeps_the_mail_from_others(
    mailbox: Mailbox, security: str, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox.refuses = "gone@example.com"
    send("a", mail(mailbox, security, "gone@example.com", "on-call@example.com"), MESSAGE, SECRETS)
    assert len(mailbox.mails) == 1
    assert "refuses 1 of those it is for" in caplog.text
    assert "gone@example.com" not in caplog.text
    assert "refuses the sender or who it is for" in refusal(mail(mailbox, security, "gone@example.com"), SECRETS)


def test_a_server_that_is_not_there_or_speaks_no_tls_is_told(receiver: Receiver) -> None:
    box = Mailbox()
    box.port = 1
    assert "127.0.0.1:1 cannot be used (ConnectionRefusedError)" in refusal(mail(box, "starttls"), SECRETS)
    box.port = receiver.port
    assert "speaks no TLS" in refusal(mail(box, "ssl"), SECRETS)


def test_a_variable_that_is_not_set_is_named() -> None:
    channel = Channel.model_validate({"webhook": {"url": "URL", "headers": {"X-Key": "TOKEN"}}})
    assert "headers.X-Key names the environment variable TOKEN, which is not set: set it." in refusal(channel, {})


def test_slack_gets_text_that_calls_nobody(receiver: Receiver) -> None:
    channel = Channel.model_validate({"slack": {"url": "CHAT_URL"}})
    message = Message("[data platform] <!channel> & co", MESSAGE.body, MESSAGE.link, {})
    send("a", channel, message, {"CHAT_URL": receiver.url})
    assert receiver.posted == [
        {
            "text": "*[data platform] &lt;!channel&gt; &amp; co*\n3 of 5 &lt;rows&gt; &amp; more\n"
            "<http://ui/runs/1|Open in Dagster>"
        }
    ]


def test_a_webhook_gets_json_and_its_headers(receiver: Receiver) -> None:
    channel = Channel.model_validate({"webhook": {"url": "URL", "headers": {"Authorization": "TOKEN"}}})
    send("a", channel, MESSAGE, {"URL": receiver.url, "TOKEN": "Bearer hunter2"})
    assert receiver.posted == [{"subject": MESSAGE.subject, "text": MESSAGE.body, "event": "opened"}]
    assert receiver.headers[0]["Authorization"] == "Bearer hunter2"


@pytest.mark.parametrize(("status", "said"), [(500, "HTTP 500"), (404, "HTTP 404"), (302, "HTTP 302")])
def test_what_a_receiver_refuses_is_told_without_its_address(receiver: Receiver, status: int, said: str) -> None:
    receiver.status = status
    channel = Channel.model_validate({"webhook": {"url": "URL", "headers": {"X-Key": "TOKEN"}}})
    told = refusal(channel, {"URL": receiver.url, "TOKEN": "hunter2"})
    assert said in told
    assert "127.0.0.1" not in told


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/sEcReT", "no-url-sEcReT", "ftp://x/sEcReT", "http://[sEcReT"])
def test_a_receiver_that_is_not_there_is_told_without_its_address(url: str) -> None:
    refusal(Channel.model_validate({"slack": {"url": "URL"}}), {"URL": url})


def test_a_header_that_would_begin_another_is_refused() -> None:
    channel = Channel.model_validate({"webhook": {"url": "URL", "headers": {"X-Key": "TOKEN"}}})
    assert "cannot be used" in refusal(channel, {"URL": "http://127.0.0.1:1/", "TOKEN": "a\r\nX-Other: hunter2"})


def test_a_receiver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert "does not answer" in refusal(Channel.model_validate({"slack": {"url": "URL"}}), {"URL": url})
