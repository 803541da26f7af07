"""alerts.yaml: what it takes, and the sentence for each mistake, which quotes no secret."""

from pathlib import Path

import pytest

from data_platform.alerts.config import Email, load_alerts
from data_platform.alerts.events import KINDS
from data_platform.errors import SettingsError
from data_platform.settings import REPOSITORY, read_settings

CHAT = "channels:\n  chat:\n    slack: {url: CHAT_URL}\n"


def test_without_a_file_there_are_no_alerts(tmp_path: Path) -> None:
    assert load_alerts(tmp_path / "alerts.yaml") is None


def test_a_channel_takes_every_kind_of_what_is_critical(tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(CHAT)
    alerts = load_alerts(tmp_path / "alerts.yaml")
    assert alerts is not None
    chat = alerts.channels["chat"]
    assert (chat.severity, chat.kinds, chat.per_hour) == ("critical", KINDS, 20)
    assert (alerts.ui, alerts.disk_percent) == ("http://127.0.0.1:3000", 90)


def test_the_example_of_the_documentation_is_taken(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "alerts.md").read_text()
    (tmp_path / "alerts.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    alerts = load_alerts(tmp_path / "alerts.yaml")
    assert alerts is not None
    assert isinstance(alerts.channels["on_call"].way, Email)
    for kind in KINDS:
        assert f"`{kind}`" in text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must hold keys such as `channels:`"),
        ("ui: http://x", "channels is missing: add it."),
        ("channels: {}", "channels cannot be used: "),
        (CHAT + "chanels: 1", "chanels is no known key (did you mean channels?): use channels, disk_percent or ui."),
        (CHAT + "    kinds: [run_fails]", "channels.chat.kinds.0 cannot be used: input should be 'run_failed'"),
        (CHAT + "    severity: error", "channels.chat.severity cannot be used: input should be 'critical'"),
        (CHAT + "    sevrity: info", "channels.chat.sevrity is no known key (did you mean severity?)"),
        (CHAT + "    webhook: {url: X}", "channels.chat cannot be used: it must have exactly one of `email`"),
        (CHAT + "    per_hour: 0", "channels.chat.per_hour cannot be used: input should be greater than"),
        (CHAT + "  chat: {}", "line 2 is not valid YAML (a key is given twice)"),
        ("ui: dagster.example.com\n" + CHAT, "ui cannot be used: string should match pattern"),
        ("disk_percent: 100\n" + CHAT, "disk_percent cannot be used: input should be less than 100"),
        ("channels: {a: {email: {host: h, sender: a@b, to: []}}}", "channels.a.email.to cannot be used"),
        ("channels: {a: {email: {host: h, sender: a@b, to: [c@d], user: U}}}", "has one of `user` and `password`"),
        (
            "channels: {a: {email: {host: h, sender: a@b, to: [c@d], user: U, password: P, security: none}}}",
            "`security: none` would send the password in clear",
        ),
        ("channels: {a: {email: {hots: h}}}", "hots is no known key (did you mean host?)"),
        ("channels: [", "is not valid YAML"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_file_and_key(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        load_alerts(path)
    said = str(raised.value)
    assert said.startswith(str(path))
    assert sentence in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "channel",
    [
        "slack: {url: 'https://hooks.example.com/T0/hunter2'}",
        "webhook: {url: U, headers: {Authorization: 'Bearer hunter2'}}",
        "email: {host: h, sender: a@b, to: [c@d], user: U, password: hunter2}",
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, channel: str) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(f"channels: {{a: {{{channel}}}}}")
    with pytest.raises(SettingsError, match="must be the NAME of an environment variable") as raised:
        load_alerts(path)
    assert "hunter2" not in str(raised.value)


def test_the_file_is_where_the_environment_says(tmp_path: Path) -> None:
    assert read_settings({}).alerts_file == REPOSITORY / "alerts.yaml"
    assert read_settings({"DATA_PLATFORM_ALERTS": str(tmp_path / "a.yaml")}).alerts_file == tmp_path / "a.yaml"
