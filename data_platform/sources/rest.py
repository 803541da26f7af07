"""HTTP APIs as sources: the pages of a window, archived as they came, and their records as rows of landing files.

Numbers stay as the API wrote them, and fields within fields get dotted names (`customer.id`).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pyarrow as pa

from data_platform.errors import DeliveryRejected
from data_platform.sources.extraction import Extracted, Window, write_empty
from data_platform.sources.rest_client import Answer, Client
from data_platform.sources.rest_config import RestSource

__all__ = ["RestSource", "extract", "replay"]

RESPONSES = "_responses"


class _Number(str):
    """A number of a body, as it was written there."""

    __slots__ = ()


@dataclass
class _Seen:
    """What was read of the pages so far."""

    pages: int = 0
    records: int = 0
    rows: int = 0
    count: int | None = None
    digests: dict[str, int] = field(default_factory=dict)


def extract(config: RestSource, window: Window, into: Path, *, columns: Sequence[str], place: str) -> Extracted:
    """Ask for all pages of `window` and write them to `into`: rows as jsonl, a file a page, and the bodies themselves.

    Raises DeliveryRejected where the pages do not make a whole, and as `Client.get`.
    """
    seen = _Seen()
    (into / RESPONSES).mkdir()
    with Client(config, place) as client:
        for answer, document in _pages(config, window, client):
            seen.pages += 1
            _write(into / RESPONSES / f"{seen.pages:04}.json.zst", answer.body)
            _take(document, config, window, into, seen, place)
            if config.count is not None and seen.count is not None and seen.records >= seen.count:
                break
        figures: dict[str, int | str] = {"requests": client.requests, "retries": client.retried}
    (into / RESPONSES / "window.json").write_text(json.dumps([window.since.isoformat(), window.before.isoformat()]))
    return _finished(config, into, columns, seen, figures, place)


def replay(config: RestSource, folder: Path, into: Path, *, columns: Sequence[str], place: str) -> Extracted:
    """Write the rows of the bodies that an extraction archived in `folder`, as `config` now reads them."""
    seen = _Seen()
    (into / RESPONSES).mkdir()
    since, before = json.loads((folder / RESPONSES / "window.json").read_text())
    window = Window(date.min, datetime.fromisoformat(since), datetime.fromisoformat(before))
    for path in sorted((folder / RESPONSES).glob("*.json.zst")):
        with pa.input_stream(path, compression="zstd") as stream:
            body = stream.read()
        seen.pages += 1
        _write(into / RESPONSES / path.name, body)
        _take(_parsed(body, seen.pages, place), config, window, into, seen, place)
    (into / RESPONSES / "window.json").write_text(json.dumps([since, before]))
    return _finished(config, into, columns, seen, {}, place)


def _finished(
    config: RestSource, into: Path, columns: Sequence[str], seen: _Seen, figures: dict[str, int | str], place: str
) -> Extracted:
    if seen.count is not None and seen.records != seen.count:
        raise DeliveryRejected(
            f"{place} counts {seen.count} records and gave {seen.records} on {seen.pages} pages: some were skipped or "
            "came twice, as records changed while they were read. Run the day again."
        )
    if not seen.rows:
        write_empty(into, columns)
    # Of records that became lines, or were left out, the count is no number of rows.
    plain = config.lines is None and config.until is None
    return Extracted(seen.count if plain else None, {"pages": seen.pages, "records": seen.records, **figures})


# Pages


def _pages(config: RestSource, window: Window, client: Client) -> Iterator[tuple[Answer, Any]]:
    """The answers and their documents, one after the other, until there is no next page."""
    pages, url = config.pages, config.url
    params: dict[str, Any] = {name: str(value).lower() if isinstance(value, bool) else value
                              for name, value in config.params.items()}  # fmt: skip
    if config.window is not None:
        params[config.window.since] = config.window.written(window.since)
        if config.window.before is not None:
            params[config.window.before] = config.window.written(window.before)
    if pages is not None:
        params |= pages.size
    number, records, cursors = 0, 0, set()
    while True:
        counted = {}
        if pages is not None and pages.page is not None:
            counted = {pages.page: pages.first + number}
        elif pages is not None and pages.offset is not None:
            counted = {pages.offset: records}
        answer = client.get(url, params | counted)
        number += 1
        document = _parsed(answer.body, number, client.place)
        found = _records(document, config, number, client.place)
        records += len(found)
        yield answer, document
        if pages is None or (config.until is not None and _is_passed(found, config.until, window)):
            return
        if pages.page is not None or pages.offset is not None:
            if not found:  # a page may be shorter than was asked for, and is not the last
                return
            continue
        following = _following(pages.cursor or pages.next, pages.link, document, answer)
        if not following:
            return
        if following in cursors:
            raise DeliveryRejected(
                f"{client.place}: page {number} leads to one that was read already: the API goes in circles; mend "
                "`pages` in sources.yaml, or have the API mended."
            )
        cursors.add(following)
        if pages.cursor is not None:
            params[str(pages.param)] = following
        else:
            url, params = client.same_origin(urljoin(url, following)), {}


def _following(path: str | None, relation: str | None, document: Any, answer: Answer) -> str:
    if relation is not None:
        return answer.links.get(relation, "")
    found = _at(document, path)
    return "" if found is None or found is False else str(found)


def _is_passed(records: Sequence[Mapping[str, Any]], field: str, window: Window) -> bool:
    """Whether the last of the records, which come newest first, is older than the window."""
    moments = [moment for record in records if (moment := _moment(_at(record, field))) is not None]
    return bool(moments) and moments[-1] < window.since


# Documents


def _parsed(body: bytes, number: int, place: str) -> Any:
    try:
        return json.loads(body, parse_float=_Number, parse_int=_Number)
    except (ValueError, RecursionError):
        raise DeliveryRejected(
            f"{place}: page {number} is no JSON (cut off, or a page for people): nothing was taken; run the day again, "
            "and see what the API answers."
        ) from None


def _at(document: Any, path: str | None) -> Any:
    """What is at a dotted path; None where nothing is."""
    for name in path.split(".") if path else ():
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _records(document: Any, config: RestSource, number: int, place: str) -> list[dict[str, Any]]:
    found = _at(document, config.records)
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        where = f"at `records: {config.records}`" if config.records else "as the whole body"
        raise DeliveryRejected(
            f"{place}: page {number} has no list of records {where}: correct `records` in sources.yaml, or see what "
            "the API answers."
        )
    return found


def _take(document: Any, config: RestSource, window: Window, into: Path, seen: _Seen, place: str) -> None:
    """The rows of one page, written; raises DeliveryRejected for a page that came before."""
    records = _records(document, config, seen.pages, place)
    if config.count is not None:
        count = _at(document, config.count)
        if not isinstance(count, _Number) or not count.isdecimal():
            raise DeliveryRejected(f"{place}: page {seen.pages} has no number at `count: {config.count}`: correct it.")
        seen.count = int(count)
    if records:
        digest = hashlib.sha256(_json(records).encode()).hexdigest()
        if digest in seen.digests:
            raise DeliveryRejected(
                f"{place}: page {seen.pages} is page {seen.digests[digest]} once more: the API does not go on; mend "
                "`pages` in sources.yaml, or have the API mended."
            )
        seen.digests[digest] = seen.pages
    seen.records += len(records)
    if config.until is not None:
        records = [record for record in records if _is_within(record, config.until, window)]
    rows = [row for record in records for row in _rows(record, config.lines)]
    if rows:
        seen.rows += len(rows)
        _write(into / f"{seen.pages:04}.jsonl.zst", "".join(f"{_json(row)}\n" for row in rows).encode())


def _is_within(record: Mapping[str, Any], field: str, window: Window) -> bool:
    moment = _moment(_at(record, field))
    # What does not say when it changed is taken: staging tells what is wrong with it.
    return moment is None or window.since <= moment < window.before


def _moment(value: Any) -> datetime | None:
    try:
        if isinstance(value, _Number):
            seconds = float(value)
            return datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
        moment = datetime.fromisoformat(value)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _rows(record: dict[str, Any], lines: str | None) -> Iterator[dict[str, Any]]:
    """A record as a row, or as a row a line: a record without lines is a row of its own fields."""
    if lines is None:
        yield _flat(record)
        return
    elements = _at(record, lines)
    own = {name: value for name, value in _flat(record).items() if name != lines}
    if not isinstance(elements, list) or not elements:
        yield own
        return
    for element in elements:
        inner = _flat(element, f"{lines}.") if isinstance(element, dict) else {lines: element}
        yield {**own, **inner}


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = _json(value) if isinstance(value, list) else value
    return flat


def _json(value: Any) -> str:
    """`value` as JSON, with its numbers as they were written."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {_json(held)}" for name, held in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return json.dumps(value)


def _write(path: Path, data: bytes) -> None:
    with pa.output_stream(path, compression="zstd") as stream:
        stream.write(data)
