"""The environment, read and checked once. Nothing else in the platform reads an environment variable of ours."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from data_platform.errors import SettingsError

REPOSITORY = Path(__file__).resolve().parent.parent
RETRY_DELAY = 300
STATEMENT_TIMEOUT = 3600


@dataclass(frozen=True)
class Settings:
    """What the environment says. Paths are absolute; a lake or landing URL is a local path, or s3://BUCKET/PREFIX.

    warehouse_url and dagster_url are None where the embedded Postgres is to be used; passwords stay inside
    them, so neither is ever printed whole (see `warehouse.connection.redact`). retry_delay and statement_timeout are
    seconds; 0 stands for no retries, and for no limit.
    """

    dagster_home: Path
    home: Path
    warehouse_url: str | None
    dagster_url: str | None
    lake_url: str
    landing_url: str
    sources_file: Path
    start_date: date
    timezone: str
    holidays_country: str
    alerts_file: Path
    retention_file: Path
    executor: str = "in_process"
    retry_delay: float = RETRY_DELAY
    statement_timeout: int = STATEMENT_TIMEOUT

    @property
    def zone(self) -> ZoneInfo:
        """The business time zone."""
        return ZoneInfo(self.timezone)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`; raises SettingsError in one sentence naming the variable and the mend."""
    dagster_home = Path(environ.get("DAGSTER_HOME") or REPOSITORY).expanduser()
    root = dagster_home if dagster_home.is_absolute() else REPOSITORY / dagster_home

    def path(name: str, default: Path) -> Path:
        value = environ.get(name)
        return (root / Path(value).expanduser()).resolve() if value else default

    def location(name: str, default: Path) -> str:
        value = environ.get(name)
        return value.rstrip("/") if value and "://" in value else str(path(name, default))

    home = path("DATA_PLATFORM_HOME", (root / ".data_platform").resolve())
    return Settings(
        dagster_home=root,
        home=home,
        warehouse_url=_postgres_url(environ, "DATA_PLATFORM_WAREHOUSE_URL"),
        dagster_url=_postgres_url(environ, "DATA_PLATFORM_DAGSTER_URL"),
        lake_url=location("DATA_PLATFORM_LAKE_URL", home / "lake"),
        landing_url=location("DATA_PLATFORM_LANDING_URL", home / "landing"),
        sources_file=path("DATA_PLATFORM_SOURCES", root / "sources.yaml"),
        start_date=_date(environ, "DATA_PLATFORM_START_DATE", "2024-01-01"),
        timezone=_timezone(environ, "DATA_PLATFORM_TIMEZONE", "UTC"),
        holidays_country=_country(environ, "DATA_PLATFORM_HOLIDAYS", "US"),
        executor=_executor(environ, "DATA_PLATFORM_EXECUTOR", "in_process"),
        alerts_file=path("DATA_PLATFORM_ALERTS", root / "alerts.yaml"),
        retention_file=path("DATA_PLATFORM_RETENTION", root / "retention.yaml"),
        retry_delay=_seconds(environ, "DATA_PLATFORM_RETRY_DELAY", RETRY_DELAY),
        statement_timeout=_seconds(environ, "DATA_PLATFORM_STATEMENT_TIMEOUT", STATEMENT_TIMEOUT),
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process."""
    return read_settings(os.environ)


def _postgres_url(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name)
    if not value:
        return None
    scheme = value.partition("://")[0]
    if scheme not in ("postgresql", "postgres"):
        raise SettingsError(
            f"{name} must begin with postgresql:// (its value begins otherwise): set it to postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
        )
    return "postgresql://" + value.partition("://")[2]


def _date(environ: Mapping[str, str], name: str, default: str) -> date:
    value = environ.get(name) or default
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise SettingsError(
            f"{name} is {value!r}, which is not a date: write it as YYYY-MM-DD, such as {default}."
        ) from None


def _timezone(environ: Mapping[str, str], name: str, default: str) -> str:
    value = environ.get(name) or default
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise SettingsError(
            f"{name} is {value!r}, which is no time zone known here: use an IANA name such as Europe/London."
        ) from None
    return value


def _country(environ: Mapping[str, str], name: str, default: str) -> str:
    value = environ.get(name) or default
    if not (len(value) == 2 and value.isalpha() and value.isupper()):
        raise SettingsError(
            f"{name} is {value!r}, which is not a country: use a two-letter ISO code such as {default}."
        )
    return value


EXECUTORS = ("in_process", "multiprocess")


def _executor(environ: Mapping[str, str], name: str, default: str) -> str:
    value = environ.get(name) or default
    if value not in EXECUTORS:
        raise SettingsError(f"{name} is {value!r}, which is no executor known here: use {' or '.join(EXECUTORS)}.")
    return value


# Of Postgres, which takes milliseconds as an integer of 32 bits.
MOST_SECONDS = 2_000_000


def _seconds(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name) or str(default)
    if not (value.isascii() and value.isdigit() and int(value) <= MOST_SECONDS):
        raise SettingsError(
            f"{name} is {value!r}, which is no number of seconds: write a whole one such as {default}, or 0 for none."
        )
    return int(value)
