"""Delta Lake and Iceberg tables as sources: a delivery is the table as it was when the partition's day ended.

Both keep their former states, so a past day can be asked for as long as the table keeps it. With `window` only the
rows whose column lies within the day (and the lookback before it) are delivered, else all: `mode: full`.
"""

import importlib
import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import polars as pl
import pyarrow.parquet as pq
from pydantic import BeforeValidator, Field, field_validator

from data_platform.errors import DeliveryRejected, PlatformError, SettingsError, SourceUnavailable
from data_platform.sources.extraction import (
    Extracted,
    KindModel,
    Variable,
    Window,
    lookback_of,
    not_installed,
    secret,
    without_secrets,
)

FILE = "0001.parquet"
# The states of both have times in milliseconds.
_BEFORE = timedelta(milliseconds=1)

Options = dict[str, str]

# Names of options whose values are secrets, as delta-rs and PyIceberg name them; ids of keys, files and URLs are none.
_SECRET = re.compile(
    r"(secret|password|passwd|passphrase|token|credential|connection[._-]?string|sas|customer_key_base64"
    r"|(access|account|private|shared|storage|service|master|api|sas|encryption|client)[._-]?key)$|secret[._-]|password",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"://[^/\s]*:[^/\s]*@")


class _Lakehouse(KindModel):
    """What both kinds of tables have: options of the store, secret ones by the names of environment variables."""

    options: Options = Field(default_factory=dict)
    secrets: dict[str, Variable] = Field(default_factory=dict)
    window: str | None = Field(default=None, min_length=1)
    lookback: Annotated[timedelta, BeforeValidator(lookback_of)] = timedelta()

    @field_validator("options")
    @classmethod
    def _no_secrets(cls, value: Options) -> Options:
        for name, text in value.items():
            if _SECRET.search(name) or _PASSWORD_IN_URL.search(text):
                raise ValueError(
                    f"{name} is a secret: write it under `secrets:`, with the name of an environment variable that "
                    "holds it"
                )
        return value

    @property
    def is_windowed(self) -> bool:
        """Any day can be asked for: the table knows how it was."""
        return True

    def all_options(self, place: str) -> tuple[Options, list[str]]:
        """The options with the secret ones resolved, and the secrets; raises SettingsError."""
        resolved = {
            name: secret(variable, f"{place}.secrets.{name}", in_lines=True) for name, variable in self.secrets.items()
        }
        return {**self.options, **resolved}, list(resolved.values())


class DeltaSource(_Lakehouse):
    """A Delta Lake table. `url` is an absolute path or s3://…, gs://…, az://…; `options` are delta-rs' own.

    Sources: https://delta-io.github.io/delta-rs/.
    """

    url: str

    @field_validator("url")
    @classmethod
    def _anywhere(cls, value: str) -> str:
        if "://" not in value and not Path(value).is_absolute():
            raise ValueError(f"{value!r} is a path from nowhere: write an absolute one, or a URL such as s3://…")
        return value


class IcebergSource(_Lakehouse):
    """An Iceberg table. `table` is NAMESPACE.NAME in the catalogue that `options` describe, as PyIceberg takes them.

    Sources: https://py.iceberg.apache.org/configuration/.
    """

    table: str = Field(pattern=r"^[^.]+(\.[^.]+)+$")


def extract_delta(config: DeltaSource, window: Window, into: Path, *, place: str) -> Extracted:
    """Write the table as of the end of the window's day into `into`; nothing where it did not exist yet.

    Raises SettingsError, SourceUnavailable, and DeliveryRejected where the state is no longer kept.
    """
    options, secrets = config.all_options(place)
    deltalake = _needed("deltalake", "delta", place)
    with _Explained(place, secrets):
        try:
            table = deltalake.DeltaTable(config.url, storage_options=options or None)
        except deltalake.exceptions.TableNotFoundError:
            raise SettingsError(f"{place}.url names no Delta table ({config.url}): correct it.") from None
        version = _version_before(table, window, place)
        if version is None:
            return Extracted()
        table.load_as_version(version)
        rows = pl.scan_delta(table, storage_options=options or None)
        count = None
        if config.window is None and not table.protocol().reader_features:
            recorded = pl.DataFrame(table.get_add_actions(flatten=True)).get_column("num_records")
            count = None if recorded.null_count() else int(recorded.sum())
        _within(rows, config, window, place).sink_parquet(into / FILE, compression="zstd")
    return Extracted(count, {"version": table.version()})


def _version_before(table: Any, window: Window, place: str) -> int | None:
    """The last version of a Delta table that was committed before the window ends; None where it did not exist."""
    commits = [(entry["version"], entry["timestamp"]) for entry in table.history()]
    before = [version for version, moment in commits if moment < _milliseconds(window.before)]
    if not before and min(version for version, _ in commits) > 0:
        raise DeliveryRejected(
            f"{place}: the table's log does not reach back to {window.day} any more: its state of that day cannot be "
            "read; take the day from another source, or leave it as it is."
        )
    return max(before, default=None)


def extract_iceberg(config: IcebergSource, window: Window, into: Path, *, place: str) -> Extracted:
    """As `extract_delta`, for an Iceberg table: its last snapshot before the end of the window's day."""
    options, secrets = config.all_options(place)
    pyiceberg = _needed("pyiceberg.exceptions", "iceberg", place)
    catalogue = _needed("pyiceberg.catalog", "iceberg", place)
    with _Explained(place, secrets):
        try:
            table = catalogue.load_catalog("source", **options).load_table(config.table)
        except pyiceberg.NoSuchTableError:
            raise SettingsError(f"{place}.table names no Iceberg table ({config.table}): correct it.") from None
        snapshot = table.snapshot_as_of_timestamp(_milliseconds(window.before - _BEFORE))
        if snapshot is None:
            return Extracted()
        scan = table.scan(snapshot_id=snapshot.snapshot_id)
        summary = dict(snapshot.summary.additional_properties) if snapshot.summary else {}
        deletes = sum(int(summary.get(f"total-{kind}-deletes", 0)) for kind in ("position", "equality"))
        count = int(summary["total-records"]) if "total-records" in summary and not deletes else None
        aside = into / "_whole.parquet"
        with scan.to_arrow_batch_reader() as reader, pq.ParquetWriter(aside, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
        _within(pl.scan_parquet(aside, glob=False), config, window, place).sink_parquet(into / FILE, compression="zstd")
        aside.unlink()
    return Extracted(count if config.window is None else None, {"snapshot": str(snapshot.snapshot_id)})


def _within(rows: pl.LazyFrame, config: _Lakehouse, window: Window, place: str) -> pl.LazyFrame:
    if config.window is None:
        return rows
    dtype = rows.collect_schema().get(config.window)
    if dtype is None:
        raise SettingsError(f"{place}.window names the column {config.window!r}, which the table lacks: correct it.")
    changed = pl.col(config.window)
    if isinstance(dtype, pl.Date):
        # A date says nothing of the hour: days that the window touches count.
        return rows.filter(changed.is_between(window.since.date(), (window.before - _BEFORE).date()))
    if not isinstance(dtype, pl.Datetime):
        raise SettingsError(f"{place}.window names the column {config.window!r}, which is no time: name one that is.")
    if dtype.time_zone is None:
        changed = changed.dt.replace_time_zone("UTC")
    return rows.filter((changed >= window.since) & (changed < window.before))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _needed(module: str, extra: str, place: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise not_installed(place, extra) from None


class _Explained:
    """Turns what the libraries raise into a sentence without secrets; only what may pass by itself is transient."""

    def __init__(self, place: str, secrets: Sequence[str]) -> None:
        self._place, self._secrets = place, secrets

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, PlatformError) or not isinstance(error, Exception):
            return
        lines = without_secrets(str(error), self._secrets).strip().splitlines()
        said = lines[0][:200] if lines else "no reason given"
        if _is_permanent(error):
            raise SettingsError(
                f"{self._place} cannot be read ({type(error).__name__}: {said}): correct its `options` and `secrets`, "
                "or the rights of its user."
            ) from None
        raise SourceUnavailable(
            f"{self._place} cannot be read ({type(error).__name__}: {said}): see that the table's store can be reached."
        ) from None


# What the libraries below PyIceberg raise where something is named wrong, not installed or not allowed; by their names,
# since most of them are not installed everywhere.
_PERMANENT = {
    "ArgumentError", "NoSuchModuleError", "NotInstalledError", "NoSuchNamespaceError", "NoRegionError", "MissingSchema",
    "InvalidSchema", "InvalidURL", "UnauthorizedError", "ForbiddenError", "NoCredentialsError",
}  # fmt: skip


def _is_permanent(error: Exception) -> bool:
    """A value that cannot be used is as wrong the next time; what the network garbled, JSON or an OSError, is not."""
    if type(error).__name__ in _PERMANENT:
        return True
    return isinstance(error, ValueError) and not isinstance(error, OSError | json.JSONDecodeError)
