"""Raw beyond its age: moved to the archive, from which it is still read, or given up."""

from collections.abc import Iterator
from datetime import date

from data_platform.contracts import STAGED
from data_platform.lake import DELETED, Lake, Stamp
from data_platform.retention import archiving
from data_platform.retention.archiving import Copied
from data_platform.retention.config import Raw
from data_platform.retention.done import Done
from data_platform.retention.loaded import loaded, staged_of_raw
from data_platform.warehouse.connection import connected

STEP = "raw"
APPLICATION = "data-platform cleanup"
GIVEN_UP = "These days can be staged anew no more, not by another contract or mapping either."


def beyond_age(url: str, lake: Lake, rule: Raw, today: date, *, dry_run: bool) -> Iterator[Done]:
    """Move or delete what is old and loaded, table by table.

    Raises SourceUnavailable where the archive cannot be reached: what was moved before stays so.
    """
    archive = archiving.archive_at(rule.archive, lake) if rule.archive else None
    for entity in STAGED:
        table = f"raw_{entity}"
        old = _old(url, lake, entity, rule, today)
        if not old:
            continue
        if dry_run:
            gone = archiving.measured(lake, table, old, rule.archive or "")
        elif archive is not None and rule.archive is not None:
            copied = (archiving.copy(lake, archive, rule.archive, table, day, stamp) for day, stamp in old.items())
            gone = [one for one in copied if one is not None and archiving.settle(lake, one)]
        else:
            sized = archiving.measured(lake, table, old, DELETED)
            gone = [one for one in sized if archiving.settle(lake, one)]
        if gone:
            yield _told(table, rule, gone)


def _old(url: str, lake: Lake, entity: str, rule: Raw, today: date) -> dict[date, Stamp]:
    """The deliveries of raw that may go: old, staged as they are, loaded, and without rows that wait."""
    raw = lake.stamps(f"raw_{entity}")
    raw = {day: raw[day] for day in archiving.older_than(list(raw), rule.keep_days, today) if not raw[day].moved}
    # A day without a delivery has nothing to be moved.
    raw = {day: stamp for day, stamp in raw.items() if stamp.delivered}
    if not raw:
        return {}
    staged = lake.stamps(f"stg_{entity}", raw)
    if not rule.with_quarantine:
        staged = {day: stamp for day, stamp in staged.items() if not stamp.rows_quarantined}
    with connected(url, application=APPLICATION, writes=False) as connection:
        may_go = loaded(connection, entity, staged) & staged_of_raw(connection, lake, entity, raw, staged)
    return {day: stamp for day, stamp in raw.items() if day in may_go}


def _told(table: str, rule: Raw, gone: list[Copied]) -> Done:
    return Done(
        STEP,
        "moved" if rule.archive else "deleted",
        f"Deliveries of {table}",
        days=tuple(one.day for one in gone),
        files=sum(one.files for one in gone),
        bytes=sum(one.bytes for one in gone),
        rows=sum(one.rows for one in gone),
        to=rule.archive or "",
        given_up="" if rule.archive else GIVEN_UP,
    )
