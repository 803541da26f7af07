"""Whether a database or an API has something of a window, and what it says of it, without reading the rows.

A database counts (and names its newest change) in one statement, an API is asked for one page. No Dagster here.
"""

import json
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_platform.sources import rest
from data_platform.sources.config import Source
from data_platform.sources.deliveries import place
from data_platform.sources.extraction import Window
from data_platform.sources.rest_config import Pages, RestSource
from data_platform.sources.sql import SqlSource, asked
from data_platform.sources.sql_read import batches

# Seconds: a tick of a sensor asks several sources, and is ended by Dagster after 60.
LONGEST = 15
_END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Told:
    """What a source says of a window: whether there is `anything`, and `figures` that move when it does.

    `figures` are empty where a source tells none: then it cannot be seen that something was added later.
    """

    anything: bool
    figures: str = ""


def is_watched(source: Source) -> bool:
    """Whether the source can be asked what is newer: a database or an API, with a window."""
    asked = source.sql or source.rest
    return asked is not None and asked.is_windowed


def days_looked_back(source: Source) -> int:
    """How many of the newest days may still get rows: the newest itself, and those that `lookback` reaches."""
    asked = source.sql or source.rest
    assert asked is not None
    return 1 + ceil(asked.lookback.total_seconds() / 86400)


def told(source: Source, window: Window) -> Told:
    """What the source says of `window`. Raises SettingsError, SourceUnavailable and DeliveryRejected, without secrets.

    Of a `table` the number of rows and the newest value of its window column, of a `query` the number of rows.
    Of an API whether one page (of one record, where the length of a page is known) has any; and the number that
    it states under `count`, where the window ends on both sides.
    """
    if source.sql is not None:
        return _of_database(source.sql, window, place(source))
    assert source.rest is not None
    return _of_api(source.rest, window, place(source))


def _of_database(config: SqlSource, window: Window, place_: str) -> Told:
    url, dialect, rows = asked(config, window, place_)
    newest = f", max({dialect.identifier(config.window)})" if config.window else ""
    text = f"SELECT count(*){newest} FROM (\n{rows}\n) q"  # noqa: S608 - names are quoted, the query is the operator's
    [row] = [
        [values[number].as_py() for number in range(len(values))]
        for batch in batches(dialect, url, text, place=place_, timeout=min(config.timeout, LONGEST))
        for values in zip(*batch.columns, strict=True)
    ]
    return Told(int(row[0]) > 0, " ".join(map(str, row)))


def _of_api(config: RestSource, window: Window, place_: str) -> Told:
    ends = config.window is not None and config.window.before is not None
    if not ends:
        # Newest first: where the first record is of today, what is before it cannot be seen.
        window = replace(window, before=_END)
    with tempfile.TemporaryDirectory(prefix="watermark-") as folder:
        rest.extract(_one_page(config), window, Path(folder), columns=[], place=place_)
        anything = any(Path(folder).glob("*.jsonl.zst"))
        count = _counted(Path(folder), config.count) if ends and config.count else None
    return Told(anything, "" if count is None else str(count))


def _one_page(config: RestSource) -> RestSource:
    first: dict[str, Any] = {}
    pages: Pages | None = config.pages
    if pages is not None:
        first = dict.fromkeys(pages.size, 1)
        if pages.page is not None:
            first[pages.page] = pages.first
        if pages.offset is not None:
            first[pages.offset] = 0
    return config.model_copy(
        update={
            "params": {**config.params, **first},
            "pages": None,
            "count": None,
            "retries": 0,  # the next tick is the next try
            "timeout": min(config.timeout, LONGEST),
        }
    )


def _counted(folder: Path, path: str) -> Any:
    """What the body says at a dotted path."""
    [body] = (folder / rest.RESPONSES).glob("*.json.zst")
    with pa.input_stream(body, compression="zstd") as stream:
        document: Any = json.loads(stream.read())
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document
