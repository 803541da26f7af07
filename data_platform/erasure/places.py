"""Where a person may be, and how each place is rid of them. A new kind of storage gets a place of its own in PLACES.

The order is of value: what is known of the person is read from raw, staging and the dimension, so those come last, and
a run that was killed finds it there again.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

from data_platform.contracts import STAGED
from data_platform.erasure import archives, texts
from data_platform.erasure.person import Erasure, in_dimension
from data_platform.erasure.rows import NAMING, erased_staged
from data_platform.errors import DeliveryRejected, PlatformError
from data_platform.lake import content_hash, raw_content
from data_platform.sources.config import Source
from data_platform.sources.deliveries import archive_root, landed
from data_platform.sources.landing import Delivery, find_deliveries, landed_days, read_delivery
from data_platform.warehouse import publish
from data_platform.warehouse.connection import connected


@dataclass(frozen=True)
class Place:
    """`find` counts what tells of the person there; `clean` takes it out, as often as it is called."""

    name: str
    unit: str
    find: Callable[[Erasure], int]
    clean: Callable[[Erasure], None]


# -- archived answers of sources --------------------------------------------------------------------------------------


def _parts(job: Erasure) -> Iterator[tuple[str, Source]]:
    for entity in NAMING:
        for part in job.sources[entity].sources.values() or [job.sources[entity]]:
            yield entity, part


def _names(job: Erasure, delivery: Delivery, entity: str, part: Source) -> bool:
    """Whether a delivery names the person; one that cannot be read is left to the search."""
    try:
        # As one source alone: only raw and quarantine put the names of several before the columns.
        alone = replace(job, sources={**job.sources, entity: part})
        return bool(alone.delivered(read_delivery(delivery, part), entity).rows)
    except PlatformError:
        return False


def _archived(job: Erasure) -> Iterator[Path]:
    top = archive_root(job.settings)
    for entity, part in _parts(job):
        for root in (top, top / "_former"):
            for day in landed_days(str(root), part.folder):
                delivery = find_deliveries(str(root), part.folder, [day]).get(day)
                if isinstance(delivery, Delivery) and _names(job, delivery, entity, part):
                    yield root / part.folder / day.isoformat()


def _clean_archive(job: Erasure) -> None:
    # An answer in the source's own format cannot be mended; raw has its rows, and is.
    for folder in _archived(job):
        aside = archive_root(job.settings) / "_aside" / f"{folder.parent.name}-{folder.name}"
        aside.parent.mkdir(exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    shutil.rmtree(archive_root(job.settings) / "_aside", ignore_errors=True)


# -- the lake ---------------------------------------------------------------------------------------------------------


def _clean_raw(job: Erasure) -> None:
    for found in job.raw:
        done = job.delivered(job.lake.read(found.asset, found.day), found.asset.removeprefix("raw_"))
        stamp = job.lake.stamp(found.asset, found.day)
        assert stamp is not None
        stamp = replace(stamp, content=raw_content(done.frame), moved="")
        job.lake.promote([job.lake.write_aside(found.asset, found.day, done.frame, stamp)])


def _clean_staging(job: Erasure) -> None:
    for found in job.staged:
        _clean_staged(job, found.asset, found.day)


def _clean_staged(job: Erasure, asset: str, day: date) -> None:
    """Write a staged partition anew, quarantine and all: to a publish it is one that was staged again."""
    entity = asset.removeprefix("stg_")
    stamp = job.lake.stamp(asset, day)
    assert stamp is not None
    rows = erased_staged(job.lake.read(asset, day), STAGED[entity], job.among).frame
    rejected = job.rejected(asset, day, stamp)
    if rejected is not None:
        rejected = job.delivered(rejected, entity).frame
    content = content_hash([rows], {"without a person": stamp.content})
    told = stamp.rejected if rejected is None else content_hash([rejected], {})
    stamp = replace(stamp, content=content, rejected=told, moved="")
    job.lake.promote([job.lake.write_aside(asset, day, rows, stamp, rejected)])


# -- the warehouse ----------------------------------------------------------------------------------------------------


def _in_warehouse(job: Erasure) -> int:
    with connected(job.warehouse_url, writes=False) as connection:
        return sum(in_dimension(connection, job.customer_id))


def _publish(job: Erasure) -> None:
    # The dimension first: it takes the lines along to the pseudonym's versions, and the facts then let the old one go.
    for asset in ("dim_customer", "fact_sales"):
        publish.publish(job.warehouse_url, job.lake, asset, run_id=job.run_id, timezone=job.settings.timezone)
    # Statistics hold frequent and outermost values.
    with connected(job.warehouse_url) as connection:
        connection.execute("SELECT warehouse.analyze_table('dim_customer')")


PLACES = (
    Place("logs and reports", "file", lambda job: texts.clean_files(job, write=False),
          lambda job: void(texts.clean_files(job, write=True))),
    Place("what is remembered of runs", "text", lambda job: texts.clean_tables(job, write=False),
          lambda job: void(texts.clean_tables(job, write=True))),
    Place("archive", "day", lambda job: sum(1 for _ in _archived(job)), _clean_archive),
    Place("raw", "row", lambda job: sum(found.rows for found in job.raw), _clean_raw),
    Place("staging", "row", lambda job: sum(found.rows for found in job.staged), _clean_staging),
    Place("quarantine", "row", lambda job: sum(found.quarantined for found in job.staged), lambda _: None),
    # Not before the lake has those days itself: the person is found in one of the two.
    Place("copies in archives of retention", "file", lambda job: job.copies, archives.clean),
    Place("warehouse", "row", _in_warehouse, _publish),
)  # fmt: skip


def void(_: object) -> None:
    """Nothing, whatever came of it."""


def landing_files(job: Erasure) -> list[str]:
    """The landing files that name the person: they are only read, and their source must mend them."""
    named: list[str] = []
    for entity, part in _parts(job):
        if part.asked is not None:
            continue
        days = landed_days(job.settings.landing_url, part.folder)
        with closing(landed(job.settings, part.folder, days)) as deliveries:
            for day in days:
                delivery = deliveries.find(day)
                if delivery is None or isinstance(delivery, DeliveryRejected):
                    continue
                named += (
                    f"{part.folder}/{file.name}"
                    for file in delivery.files
                    if _names(job, replace(delivery, files=(file,)), entity, part)
                )
    return named


def audit(job: Erasure, id_hash: str, counts: dict[str, int], started: datetime) -> None:
    """Note that it was done."""
    with connected(job.warehouse_url) as connection:
        connection.execute(
            "INSERT INTO platform.erasures (run_id, id_hash, pseudonym, counts, started_at)"
            " VALUES (%s, %s, %s, %s, %s)",
            [job.run_id, id_hash, job.pseudonym, json.dumps(counts), started],
        )
