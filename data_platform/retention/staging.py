"""Archived staging is staging: old deliveries, with their quarantine, moved to where they are read from as before."""

from collections.abc import Iterator
from datetime import date

from data_platform.contracts import STAGED
from data_platform.lake import Lake, Stamp
from data_platform.retention import archiving
from data_platform.retention.archiving import Copied
from data_platform.retention.config import Staging
from data_platform.retention.done import Done
from data_platform.retention.loaded import loaded
from data_platform.warehouse.connection import connected
from data_platform.warehouse.ledger import take_writer_lock

STEP = "staging"
APPLICATION = "data-platform cleanup"
# Copied before the writer lock is taken: under it so many names change, which takes a moment.
AT_ONCE = 31


def beyond_age(url: str, lake: Lake, rule: Staging, today: date, *, dry_run: bool) -> Iterator[Done]:
    """Move what is old and loaded, table by table; a publish that reads staging meanwhile is waited for.

    Raises SourceUnavailable where the archive cannot be reached: what was moved before stays so.
    """
    archive = archiving.archive_at(rule.archive, lake)
    for entity, contract in STAGED.items():
        table = contract.table
        old = _old(url, lake, entity, table, rule, today)
        if dry_run:
            gone = archiving.measured(lake, table, old, rule.archive) if old else []
        else:
            gone = []
            for some in _in_batches(old):
                copied = (archiving.copy(lake, archive, rule.archive, table, day, stamp) for day, stamp in some)
                gone += _settled(url, lake, [one for one in copied if one is not None])
        if gone:
            yield Done(
                STEP,
                "moved",
                f"Deliveries of {table}",
                days=tuple(one.day for one in gone),
                files=sum(one.files for one in gone),
                bytes=sum(one.bytes for one in gone),
                rows=sum(one.rows for one in gone),
                to=rule.archive,
            )


def _old(url: str, lake: Lake, entity: str, table: str, rule: Staging, today: date) -> dict[date, Stamp]:
    stamps = lake.stamps(table)
    days = archiving.older_than(list(stamps), rule.keep_days, today)
    # A day without a delivery has no rows to be moved, and what waits for its publish is read soon.
    stamps = {day: stamps[day] for day in days if stamps[day].delivered and not stamps[day].moved}
    if not stamps:
        return {}
    with connected(url, application=APPLICATION, writes=False) as connection:
        may_go = loaded(connection, entity, stamps)
    return {day: stamp for day, stamp in stamps.items() if day in may_go}


def _in_batches(old: dict[date, Stamp]) -> Iterator[list[tuple[date, Stamp]]]:
    days = list(old.items())
    for first in range(0, len(days), AT_ONCE):
        yield days[first : first + AT_ONCE]


def _settled(url: str, lake: Lake, copied: list[Copied]) -> list[Copied]:
    with connected(url, application=APPLICATION, writes=False) as connection:
        # A publish has the names of the files that it reads from before it reads them.
        take_writer_lock(connection)
        return [one for one in copied if archiving.settle(lake, one)]
