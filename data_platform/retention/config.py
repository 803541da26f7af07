"""What `retention.yaml` says: what is kept for how long, and where it goes then. Without the file nothing grows old."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data_platform.declared import ABSENT, read_yaml
from data_platform.errors import SettingsError
from data_platform.settings import Settings

# Alerts, sensors and retries look back hours; a week leaves a person the time to see why something failed.
FEWEST_DAYS = 7


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    keep_days: int = Field(ge=FEWEST_DAYS)


class DagsterLog(_Model):
    """Events and logs of runs that ended more than `keep_days` days ago."""


class Raw(_Model):
    """Deliveries of raw older than `keep_days` days: moved to `archive`, or deleted where `delete` says so."""

    archive: str | None = None
    delete: bool = False
    with_quarantine: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "Raw":
        if self.delete == (self.archive is not None):
            raise ValueError("it must have one of `archive: URL` and `delete: true`")
        return self

    _urls = field_validator("archive")(lambda value: _url(value))


class Staging(_Model):
    """Staged deliveries and their quarantine older than `keep_days` days: moved to `archive`."""

    archive: str

    _urls = field_validator("archive")(lambda value: _url(value))


class Retention(BaseModel):
    """The file as a whole. What has no block is kept for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dagster: DagsterLog | None = None
    raw: Raw | None = None
    staging: Staging | None = None


def _url(value: str | None) -> str | None:
    if value is None:
        return None
    scheme, apart, place = value.partition("://")
    if apart and (scheme != "s3" or not place.strip("/") or "@" in place):
        raise ValueError("it must be a folder, or s3://BUCKET/PREFIX without anything else")
    if not value.strip():
        raise ValueError("it is empty: name a folder, or s3://BUCKET/PREFIX")
    return value.rstrip("/") or value


def load_retention(settings: Settings) -> Retention:
    """What the file says, folders made absolute; all None where there is none.

    Raises SettingsError naming the file, the key and the mend.
    """
    path = settings.retention_file
    declared = read_yaml(path, without="keep everything")
    if declared is ABSENT or declared is None:
        return Retention()  # or every block of it is a comment
    if not isinstance(declared, dict):
        raise SettingsError(f"{path} must hold keys such as `raw:` at its left edge.")
    try:
        found = Retention.model_validate(declared)
    except ValidationError as error:
        raise SettingsError(_sentence(path, error)) from None
    return _placed(found, settings)


def _placed(found: Retention, settings: Settings) -> Retention:
    changed: dict[str, Any] = {}
    for name in ("raw", "staging"):
        block: Raw | Staging | None = getattr(found, name)
        if block is not None and block.archive is not None:
            archive = _absolute(block.archive, settings)
            _refuse_overlap(f"{settings.retention_file}: {name}.archive", archive, settings)
            changed[name] = block.model_copy(update={"archive": archive})
    return found.model_copy(update=changed)


def _absolute(archive: str, settings: Settings) -> str:
    if "://" in archive:
        return archive
    return str((settings.dagster_home / Path(archive).expanduser()).resolve())


def _refuse_overlap(key: str, archive: str, settings: Settings) -> None:
    """An archive within what it archives would be archived itself; and landing files are only read."""
    for what, other in (("the lake", settings.lake_url), ("the landing folder", settings.landing_url)):
        one, another = f"{_place(archive)}/", f"{_place(other)}/"
        if one.startswith(another) or another.startswith(one):
            raise SettingsError(f"{key} is {archive}, which overlaps {what} ({other}): name a place outside of it.")


def _place(url: str) -> str:
    """One spelling for a place: links followed, no slash twice."""
    scheme, apart, rest = url.partition("://")
    return f"{scheme}://{'/'.join(filter(None, rest.split('/')))}" if apart else str(Path(url).resolve())


def _sentence(path: Path, error: ValidationError) -> str:
    errors: list[Mapping[str, Any]] = [*error.errors(include_url=False)]
    # A key that is misspelt is missing as well: the misspelling is the mistake.
    first = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        allowed = sorted(_model_at(location[:-1]).model_fields)
        near = difflib.get_close_matches(location[-1], allowed, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        known = f"{', '.join(allowed[:-1])} or {allowed[-1]}" if len(allowed) > 1 else allowed[0]
        return f"{path}: {key} is no known key{meant}: use {known}."
    if first["type"] == "missing":
        return f"{path}: {key} is missing: add it."
    if location[-1] == "keep_days":
        return f"{path}: {key} is {first['input']!r}: write a whole number of days, at least {FEWEST_DAYS}."
    if first["type"] == "value_error":
        return f"{path}: {key} cannot be used: {first['ctx']['error']}."
    return f"{path}: {key} cannot be used: {str(first['msg'])[0].lower()}{str(first['msg'])[1:]}."


def _model_at(location: list[str]) -> type[BaseModel]:
    if not location:
        return Retention
    blocks = {name: get_args(told.annotation)[0] for name, told in Retention.model_fields.items()}
    block: type[BaseModel] = blocks[location[0]]
    return block
