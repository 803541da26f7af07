"""Which deliveries of a table have been loaded, and so may leave the lake: what waits, or was rejected, may not."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg

from data_platform.assets.staging import ACCEPTED
from data_platform.commands.figures import PUBLISHED
from data_platform.lake import Lake, Stamp
from data_platform.warehouse.ledger import entries

OF_ENTITY = {entity: asset for asset, entity in PUBLISHED.items()}


def loaded(connection: psycopg.Connection, entity: str, staged: Mapping[date, Stamp]) -> set[date]:
    """The staged deliveries that the newest ledger row of their day was loaded from."""
    published = entries(connection, OF_ENTITY[entity])
    return {day for day, stamp in staged.items() if day in published and published[day].content == stamp.content}


def staged_of_raw(
    connection: psycopg.Connection, lake: Lake, entity: str, raw: Mapping[date, Stamp], staged: Mapping[date, Stamp]
) -> set[date]:
    """The days whose staging is of the delivery that raw has: judged since it came, accepted, and of as many rows."""
    came = _written(lake, f"raw_{entity}")
    accepted = _accepted(connection, f"stg_{entity}", list(raw))
    return {
        day
        for day, stamp in raw.items()
        if day in staged
        and (stamp.delivered, stamp.rows_delivered) == (staged[day].delivered, staged[day].rows_delivered)
        and day in accepted
        and day in came
        and accepted[day] >= came[day]
    }


def _accepted(connection: psycopg.Connection, table: str, days: list[date]) -> dict[date, datetime]:
    """When the newest delivery of a day was judged, of those that were accepted."""
    rows = connection.execute(
        """
        SELECT DISTINCT ON (partition_date) partition_date, passed, checked_at
        FROM platform.check_results
        WHERE asset = %s AND rule = %s AND partition_date = ANY(%s)
        ORDER BY partition_date, result_id DESC
        """,
        [table, ACCEPTED, days],
    )
    return {day: at.astimezone(UTC) for day, passed, at in rows if passed}


def _written(lake: Lake, table: str) -> dict[date, datetime]:
    """When each partition was written."""
    found = {}
    for file in lake.files(table):
        path = file.path if isinstance(file.path, Path) else Path(file.path.key)
        try:
            found[date.fromisoformat(path.parent.name.removeprefix("dt="))] = file.changed
        except ValueError:
            continue  # no file of ours
    return found
