"""SQL databases as sources: a table, or a query, read as Arrow in one statement and written as Parquet in chunks.

One statement is one snapshot, and memory holds a chunk, not the table. The rows come in the order of the database.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
from pydantic import BeforeValidator, Field, field_validator, model_validator

from data_platform.sources.extraction import Extracted, KindModel, Variable, Window, lookback_of, secret, write_empty
from data_platform.sources.sql_dialects import (
    Dialect,
    WindowType,
    asks_for_a_window,
    dialect_of,
    is_one_select,
    statement,
)
from data_platform.sources.sql_read import batches

FILE = "0001.parquet"


class SqlSource(KindModel):
    """A database. `url` is the NAME of an environment variable that holds its connection string.

    Either `table` (of which `window` names the column that says when a row changed; without it the table is read
    whole) or `query`, one SELECT in which :since and :before stand for the window. `window_type` says how that column
    tells time, `window_timezone` the zone of one that names none. `lookback` begins the window so much earlier, for
    rows that were committed late. `timeout`: seconds for the statement, where the database knows such a limit.
    """

    url: Variable
    table: str | None = Field(default=None, min_length=1)
    query: str | None = None
    window: str | None = Field(default=None, min_length=1)
    window_type: WindowType | None = None
    window_timezone: str = "UTC"
    lookback: Annotated[timedelta, BeforeValidator(lookback_of)] = timedelta()
    timeout: float = Field(default=1800, gt=0)

    @property
    def is_windowed(self) -> bool:
        """Whether it can be asked for a day that is past."""
        return self.window is not None or (self.query is not None and asks_for_a_window(self.query))

    @field_validator("query")
    @classmethod
    def _one_select(cls, value: str | None) -> str | None:
        if value is not None and not is_one_select(value):
            raise ValueError("it must be one SELECT (or WITH … SELECT), without a semicolon in the middle")
        return value

    @field_validator("window_timezone")
    @classmethod
    def _a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):  # unknown, a path, a folder of zones
            raise ValueError(f"{value!r} is no time zone: write one such as UTC or Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> "SqlSource":
        if (self.table is None) == (self.query is None):
            raise ValueError("it needs a `table` or a `query`, and not both")
        if self.query is not None and self.window is not None:
            raise ValueError("`window` goes with `table`: in a query write :since and :before")
        idle = self.model_fields_set & {"window_type", "window_timezone", "lookback"}
        if idle and not self.is_windowed:
            raise ValueError(
                f"`{min(idle)}` says nothing without a window: name its column as `window`, or write :since and "
                ":before in the query"
            )
        return self


def asked(config: SqlSource, window: Window, place: str) -> tuple[str, Dialect, str]:
    """The connection string (a secret), its dialect, and the SELECT that reads `window`. Raises SettingsError."""
    url = secret(config.url, f"{place}.url")
    dialect = dialect_of(url, place)
    text = statement(
        dialect,
        window,
        table=config.table,
        query=config.query,
        column=config.window,
        kind=config.window_type,
        zone=config.window_timezone,
        place=place,
    )
    return url, dialect, text


def extract(config: SqlSource, window: Window, into: Path, *, columns: Sequence[str], place: str) -> Extracted:
    """Write the rows of `window` to `into`, exactly as the database has them; without rows a file of its columns.

    Decimals become text, never floats. Raises SettingsError for what will never work (a name, a password),
    SourceUnavailable for what may pass (the network, a timeout).
    """
    url, dialect, text = asked(config, window, place)
    rows, writer = 0, None
    try:
        for batch in batches(dialect, url, text, place=place, timeout=config.timeout):
            # Dictionaries take more than half of the writing, and make ids and texts of numbers no smaller.
            writer = writer or pq.ParquetWriter(into / FILE, batch.schema, compression="lz4", use_dictionary=False)
            writer.write_table(batch)
            rows += batch.num_rows
        if writer is None:
            write_empty(into, columns)
    finally:
        if writer is not None:
            writer.close()
    return Extracted(None, {"rows": rows})
