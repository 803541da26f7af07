"""What sources.yaml says of an HTTP API. No connection here."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from data_platform.sources.extraction import KindModel, Variable, Zone, lookback_of

# Formats that say which zone they are in; as text at their end, that is UTC.
_NAMES_ITS_ZONE = re.compile(r"%:?z|%Z|(?:Z|UTC|GMT|[+-]00:?00)$")


def web_address(value: str) -> SplitResult | None:
    """The parts of an address on the web; None for what is none."""
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises for one that is no number of a port
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


def _web_address(value: str) -> str:
    parts = web_address(value)
    if parts is None:
        # Without the value, in which a password may stand.
        raise ValueError("it is no address of an API: write https://HOST/PATH")
    if parts.username or parts.password:
        raise ValueError("it bears a password: take it out, and name environment variables under `auth: basic:`")
    return value


class RestWindow(KindModel):
    """The query parameters that ask for a window, and how moments are written.

    `format`: iso (in UTC), epoch, epoch_ms, or a strftime format: one that names a zone (%z, or a Z at its end) is
    written in UTC, one that names none, such as %Y-%m-%d, in `timezone`, else in the business time zone.
    """

    since: str = Field(min_length=1)
    before: str | None = Field(default=None, min_length=1)
    format: str = "iso"

    @property
    def names_its_zone(self) -> bool:
        """Whether what is written says which zone it is in."""
        return "%" not in self.format or _NAMES_ITS_ZONE.search(self.format) is not None

    def written(self, moment: datetime, timezone: str) -> str:
        """`moment` as the API reads it: in the zone `timezone` where the format names none."""
        moment = moment.astimezone(UTC if self.names_its_zone else ZoneInfo(timezone))
        if self.format == "iso":
            return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
        if self.format == "epoch":
            return str(int(moment.timestamp()))
        if self.format == "epoch_ms":
            return str(int(moment.timestamp() * 1000))
        return moment.strftime(self.format)

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ("iso", "epoch", "epoch_ms") and "%" not in value:
            raise ValueError(f"{value!r} is no format: use iso, epoch, epoch_ms or strftime's %Y-%m-%d …")
        if "%s" in value:
            raise ValueError("%s would count from this machine's time zone: use epoch")
        return value


class Pages(KindModel):
    """How the next page is asked for, one of: `page` (a parameter that counts from `first`), `offset` (one that counts
    records), `cursor` (its path in the body, sent as `param`), `next` (the path of the next page's address in the body)
    or `link` (its relation in the header Link). `size` are parameters that set how long a page is.
    """

    page: str | None = Field(default=None, min_length=1)
    first: int = 1
    offset: str | None = Field(default=None, min_length=1)
    cursor: str | None = Field(default=None, min_length=1)
    param: str | None = Field(default=None, min_length=1)
    next: str | None = Field(default=None, min_length=1)
    link: str | None = Field(default=None, min_length=1)
    size: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way(self) -> "Pages":
        ways = [name for name in ("page", "offset", "cursor", "next", "link") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError("it needs exactly one of page, offset, cursor, next and link")
        if (self.cursor is None) != (self.param is None):
            raise ValueError("`cursor` (its path in the body) and `param` (the parameter it is sent as) go together")
        return self


class Basic(KindModel):
    """HTTP basic authentication: names of environment variables."""

    user: Variable
    password: Variable


class OAuth2(KindModel):
    """OAuth2's client credentials: `client_id` and `client_secret` are names of environment variables."""

    token_url: Annotated[str, AfterValidator(_web_address)]
    client_id: Variable
    client_secret: Variable
    scope: str | None = None


class Auth(KindModel):
    """Who asks, one of: `bearer`, `api_key` (with the `header` or query `param` that it goes into), `basic`, `oauth2`.

    Tokens and keys are names of environment variables.
    """

    bearer: Variable | None = None
    api_key: Variable | None = None
    header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
    param: str | None = Field(default=None, min_length=1)
    basic: Basic | None = None
    oauth2: OAuth2 | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Auth":
        ways = [name for name in ("bearer", "api_key", "basic", "oauth2") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError("it needs exactly one of bearer, api_key, basic and oauth2")
        places = [name for name in ("header", "param") if getattr(self, name) is not None]
        if len(places) != (1 if self.api_key else 0):
            raise ValueError("`api_key` goes with `header` or with `param`: the name that the API expects it under")
        return self


class RestSource(KindModel):
    """An HTTP API that answers in JSON.

    `window` asks for what changed in the day; without it `until` names the field of a record (a time) by which pages,
    newest first, are read until the day is passed. `timezone` is the zone of moments and dates that name none, in
    either (default: the business time zone). `records` is the path of the list in the body (none: the body is
    the list), `lines` that of a list within each record, of which each element becomes a row beside the record's own
    fields, and `count` that of the number of records which the API states. Paths are names with points between them.
    A request takes `timeout` seconds at most, a failed one is tried `retries` times more, the first time after
    `backoff` seconds and then twice as long each time.
    """

    url: Annotated[str, AfterValidator(_web_address)]
    params: dict[str, str | int | bool] = Field(default_factory=dict)
    window: RestWindow | None = None
    until: str | None = Field(default=None, min_length=1)
    timezone: Zone | None = None
    lookback: Annotated[timedelta, BeforeValidator(lookback_of)] = timedelta()
    records: str | None = Field(default=None, min_length=1)
    lines: str | None = Field(default=None, min_length=1)
    count: str | None = Field(default=None, min_length=1)
    pages: Pages | None = None
    auth: Auth | None = None
    timeout: float = Field(default=60, gt=0)
    retries: int = Field(default=5, ge=0)
    backoff: float = Field(default=1, ge=0)
    requests_per_second: float | None = Field(default=None, gt=0)

    @property
    def is_windowed(self) -> bool:
        """Whether it can be asked for a day that is past."""
        return self.window is not None or self.until is not None

    @model_validator(mode="after")
    def _one_window(self) -> "RestSource":
        if self.window is not None and self.until is not None:
            raise ValueError("it has `window` and `until`: keep the one that the API knows")
        if self.lookback and not self.is_windowed:
            raise ValueError("`lookback` begins a window earlier, and it has none: add `window` or `until`")
        if self.timezone is not None and self.until is None and (self.window is None or self.window.names_its_zone):
            raise ValueError(
                "`timezone` is for moments that name no zone, by `until` or by `window: format:`, and it has none: "
                "take it out"
            )
        return self

    @model_validator(mode="after")
    def _can_be_passed(self) -> "RestSource":
        if self.until is not None and self.pages is None:
            raise ValueError("`until` reads page after page until the day is passed: say under `pages` how")
        if self.until is not None and self.count is not None:
            raise ValueError("`count` is of all records, and `until` reads no further than the day: take `count` out")
        return self
