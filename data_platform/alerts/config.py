"""What `alerts.yaml` says: who is told of what, by which channel. Secrets are in it by the names of variables alone."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data_platform.alerts.events import KINDS, Kind
from data_platform.contracts.rules import Severity
from data_platform.declared import ABSENT, read_yaml
from data_platform.errors import SettingsError


def _a_name(value: object) -> object:
    # What is no name may be the secret itself: it is not quoted.
    if not isinstance(value, str) or not value.isidentifier() or not value.isascii() or value != value.upper():
        raise ValueError("it must be the NAME of an environment variable, in capitals, that holds the value")
    return value


class _Model(BaseModel):
    # An error must not quote what was given: somebody may have put the secret there.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Email(_Model):
    """Mail by SMTP. `user` and `password` are names of environment variables; neither where nobody logs in."""

    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "ssl", "none"] = "starttls"
    user: str | None = None
    password: str | None = None
    sender: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    to: tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")], ...] = Field(min_length=1)

    _names = field_validator("user", "password", mode="before")(_a_name)

    @model_validator(mode="after")
    def _login(self) -> "Email":
        if (self.user is None) != (self.password is None):
            raise ValueError("it has one of `user` and `password`: give both, or neither")
        if self.password is not None and self.security == "none":
            raise ValueError("`security: none` would send the password in clear: use starttls or ssl")
        return self


class Slack(_Model):
    """An incoming webhook of Slack, or of what takes the same (Mattermost, Rocket.Chat). `url` names a variable."""

    url: str

    _names = field_validator("url", mode="before")(_a_name)


class Webhook(_Model):
    """Any receiver of JSON. `url` and the values of `headers` are names of environment variables."""

    url: str
    headers: dict[str, str] = Field(default_factory=dict)

    _names = field_validator("url", mode="before")(_a_name)

    @field_validator("headers", mode="after")
    @classmethod
    def _header_names(cls, value: dict[str, str]) -> dict[str, str]:
        for variable in value.values():
            _a_name(variable)
        return value


class Channel(_Model):
    """One way to tell somebody: of `kinds`, at least as bad as `severity`, in at most `per_hour` messages an hour."""

    email: Email | None = None
    slack: Slack | None = None
    webhook: Webhook | None = None
    severity: Severity = "critical"
    kinds: tuple[Kind, ...] = KINDS
    per_hour: int = Field(default=20, ge=1)

    @property
    def way(self) -> Email | Slack | Webhook:
        """The one of the three that is given."""
        way = self.email or self.slack or self.webhook
        assert way is not None
        return way

    @model_validator(mode="after")
    def _one_way(self) -> "Channel":
        if sum(way is not None for way in (self.email, self.slack, self.webhook)) != 1:
            raise ValueError("it must have exactly one of `email`, `slack` and `webhook`")
        return self


class Alerts(_Model):
    """The file as a whole. `ui` is where people open Dagster's UI; `disk_percent`: how full its disk may be."""

    ui: str = Field(default="http://127.0.0.1:3000", pattern=r"^https?://")
    disk_percent: float = Field(default=90, gt=0, lt=100)
    channels: dict[str, Channel] = Field(min_length=1)


def load_alerts(path: Path) -> Alerts | None:
    """What the file says; None where there is none. Raises SettingsError naming the file, the key and the mend."""
    declared = read_yaml(path, without="have no alerts")
    if declared is ABSENT:
        return None
    if not isinstance(declared, dict):
        raise SettingsError(f"{path} must hold keys such as `channels:` at its left edge.")
    try:
        return Alerts.model_validate(declared)
    except ValidationError as error:
        raise SettingsError(_sentence(path, error)) from None


def _sentence(path: Path, error: ValidationError) -> str:
    errors: list[Mapping[str, Any]] = [*error.errors(include_url=False, include_input=False)]
    # A key that is misspelt is missing as well: the misspelling is the mistake.
    first = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        allowed = sorted(_model_at(location[:-1]).model_fields)
        near = difflib.get_close_matches(location[-1], allowed, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        return f"{path}: {key} is no known key{meant}: use {', '.join(allowed[:-1])} or {allowed[-1]}."
    if first["type"] == "missing":
        return f"{path}: {key} is missing: add it."
    if first["type"] == "value_error":
        return f"{path}: {key} cannot be used: {first['ctx']['error']}."
    return f"{path}: {key} cannot be used: {str(first['msg'])[0].lower()}{str(first['msg'])[1:]}."


def _model_at(location: list[str]) -> type[BaseModel]:
    """The model whose keys stand at `location`: channels.NAME.WAY, channels.NAME, or the file."""
    ways: dict[str, type[BaseModel]] = {"email": Email, "slack": Slack, "webhook": Webhook}
    return ways[location[2]] if len(location) > 2 else Channel if len(location) > 1 else Alerts
