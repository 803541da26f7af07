"""HTTP APIs as sources: the pages of a window, archived as they came, and their records as rows of landing files.

Numbers stay as the API wrote them, and fields within fields get dotted names (`customer.id`).
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from data_platform.errors import DeliveryRejected
from data_platform.sources.archive import SAID
from data_platform.sources.extraction import Extracted, Window, write_empty
from data_platform.sources.rest_client import Answer, Client, joined
from data_platform.sources.rest_config import RestSource

__all__ = ["RestSource", "extract", "replay"]

RESPONSES = "_responses"
WINDOW = "window.json"  # among the responses
_WIDTH = "08"  # of the numbers of pages, whose files are read in the order of their names


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
    _note(window, into)
    window = _in_its_zone(window, config)
    with Client(config, place) as client:
        for answer, document in _pages(config, window, client):
            seen.pages += 1
            _write(into / RESPONSES / f"{seen.pages:{_WIDTH}}.json.zst", answer.body)
            _take(document, config, window, into, seen, place)
            if config.count is not None and seen.count is not None and seen.records >= seen.count:
                break
        figures: dict[str, int | str] = {"requests": client.requests, "retries": client.retried}
    return _finished(config, into, columns, seen, figures, place)


def replay(config: RestSource, folder: Path, into: Path, *, columns: Sequence[str], place: str) -> Extracted:
    """Write the rows of the bodies that an extraction archived in `folder`, as `config` now reads them.

    What another kind of source archived has no bodies, and is taken as it is.
    """
    if not (folder / RESPONSES).is_dir():
        return _as_archived(folder, into)
    seen = _Seen()
    (into / RESPONSES).mkdir()
    since, before, *zone = json.loads((folder / RESPONSES / WINDOW).read_text())
    window = Window(date.min, datetime.fromisoformat(since), datetime.fromisoformat(before), *zone)
    _note(window, into)
    window = _in_its_zone(window, config)
    # By number: archives of before have shorter names.
    for path in sorted((folder / RESPONSES).glob("*.json.zst"), key=lambda path: int(path.name.partition(".")[0])):
        with pa.input_stream(path, compression="zstd") as stream:
            body = stream.read()
        seen.pages += 1
        _write(into / RESPONSES / f"{seen.pages:{_WIDTH}}.json.zst", body)
        _take(_parsed(body, seen.pages, place), config, window, into, seen, place)
    return _finished(config, into, columns, seen, {}, place)


def _as_archived(folder: Path, into: Path) -> Extracted:
    said = json.loads((folder / SAID).read_text(encoding="utf-8"))
    shutil.copytree(folder, into, dirs_exist_ok=True)
    return Extracted(said["rows"], said["figures"])


def _note(window: Window, into: Path) -> None:
    """Keep beside the bodies what was asked for, to read them anew by it."""
    told = [window.since.isoformat(), window.before.isoformat(), window.timezone]
    (into / RESPONSES / WINDOW).write_text(json.dumps(told))


def _in_its_zone(window: Window, config: RestSource) -> Window:
    """`window` with the zone of moments that name none."""
    return replace(window, timezone=config.timezone or window.timezone)


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
        params[config.window.since] = config.window.written(window.since, window.timezone)
        if config.window.before is not None:
            params[config.window.before] = config.window.written(window.before, window.timezone)
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
        following = _following(pages.cursor or pages.next, pages.link, document, answer, number, client.place)
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
            address = joined(url, following)
            if address is None:
                raise DeliveryRejected(
                    f"{client.place}: page {number} leads on to what is no address: mend `pages` in sources.yaml, or "
                    "have the API mended."
                )
            url, params = client.same_origin(address), {}


def _following(path: str | None, relation: str | None, document: Any, answer: Answer, number: int, place: str) -> str:
    """The cursor or address of the page after page `number`; empty where there is none."""
    if relation is not None:
        return answer.links.get(relation, "")
    found = _at(document, path)
    if found is None or found is False:
        return ""
    if not isinstance(found, str):
        raise DeliveryRejected(
            f"{place}: page {number} has no text and no number at `{path}`, by which `pages` goes on: correct it."
        )
    return str(found)


def _is_passed(records: Sequence[Mapping[str, Any]], field: str, window: Window) -> bool:
    """Whether the last of the records, which come newest first, is older than the window."""
    moments = _moments(records, field, window)
    return bool(moments) and moments[-1] < window.since


def _moments(records: Sequence[Mapping[str, Any]], field: str, window: Window) -> list[datetime]:
    """The moments that can be read, of the records that have one."""
    found = (_moment(_at(record, field), window.timezone) for record in records)
    return [moment for moment in found if moment is not None]


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
        if seen.count not in (None, int(count)):
            # Pages moved meanwhile, and what moved from one that was to come to one that was read is on none of them.
            raise DeliveryRejected(
                f"{place} counts {int(count)} records on page {seen.pages} and {seen.count} on the page before: they "
                "changed while they were read, and some may have been skipped. Run the day again."
            )
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
        if records and not _moments(records, config.until, window):
            raise DeliveryRejected(
                f"{place}: page {seen.pages} has no moment that can be read at `until: {config.until}`, so that "
                "nothing tells which records are of the day: correct it; moments are to be in ISO 8601, or seconds or "
                "milliseconds since 1970."
            )
        records = [record for record in records if _is_within(record, config.until, window)]
    rows = [row for record in records for row in _rows(record, config.lines)]
    if rows:
        seen.rows += len(rows)
        _write(into / f"{seen.pages:{_WIDTH}}.jsonl.zst", "".join(f"{_json(row)}\n" for row in rows).encode())


def _is_within(record: Mapping[str, Any], field: str, window: Window) -> bool:
    moment = _moment(_at(record, field), window.timezone)
    # What does not say when it changed is taken: staging tells what is wrong with it.
    return moment is None or window.since <= moment < window.before


def _moment(value: Any, timezone: str) -> datetime | None:
    """A moment in ISO 8601, a date, or a number since 1970, be it text or not; in the zone where it names none."""
    if not isinstance(value, str):
        return None
    try:
        # Eight digits are a date, such as 20240105.
        if (isinstance(value, _Number) or value.isdecimal()) and len(value) != 8:
            seconds = float(value)
            return datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(timezone))).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


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
