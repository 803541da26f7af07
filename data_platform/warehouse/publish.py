"""The one way into the warehouse: lock, find what changed, derive, apply the difference, write the ledger, commit.

Everything happens in one transaction: a reader sees the tables before or after, and a run that dies leaves nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypeVar

import polars as pl
import psycopg

from data_platform.contracts import STAGED, WAREHOUSE
from data_platform.contracts.contract import Contract, judge
from data_platform.contracts.rules import Judged
from data_platform.errors import PlatformError, RuleBroken, SourceUnavailable
from data_platform.lake import Lake, Stamp
from data_platform.transforms.lines import CONTROLLED
from data_platform.warehouse import calendar, dimensions, facts, staged
from data_platform.warehouse.connection import connected
from data_platform.warehouse.differences import TableDifference, pending
from data_platform.warehouse.dimensions import DIMENSIONS
from data_platform.warehouse.ledger import Work, find_work, record, take_writer_lock
from data_platform.warehouse.rekeying import FACTS
from data_platform.warehouse.statistics import analyze_changed, count_at_commit

T = TypeVar("T")
ATTEMPTS = 3
# The name of the check that shows whether every row is accounted for.
BALANCE = "rows_balance"


@dataclass(frozen=True)
class Published:
    """What a publish did. `partitions` are those it took in; `counts` the ledger's classes over them.

    `rules` says per table how many of the rows written break each of its rules (none a critical one). `touched` are the
    ids of the members of which a version was written; of facts the date keys of those that were. `differences` are what
    `rebuild --verify` finds, row by row.
    """

    asset: str
    partitions: tuple[date, ...]
    path: str
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    rekeyed: int = 0
    stale_dates: int = 0
    rules: Mapping[str, Judged] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    stamps: Mapping[date, Stamp] = field(default_factory=dict)
    touched: pl.Series = field(default_factory=pl.Series, compare=False, repr=False)
    differences: tuple[TableDifference, ...] = ()

    @property
    def written(self) -> int:
        """Rows that were written, facts that were re-keyed included."""
        return self.inserted + self.updated + self.deleted + self.rekeyed

    @property
    def wrote(self) -> bool:
        """Whether any row of the table was touched."""
        return bool(self.written)


def publish(url: str, lake: Lake, asset: str, *, run_id: str, timezone: str, everything: bool = False) -> Published:
    """Bring `asset` (a dimension, or `fact_sales` for both fact tables) to what is staged now.

    Takes in every staged partition that differs from what the ledger has. Raises PublishRefused where the tables must
    not be touched, DatabaseUnavailable where Postgres fails; the tables then stay as they were.
    """
    _, staging = _contracts(asset)
    formers = lake.formers(staging.table)
    work, report = _written(
        url,
        f"data-platform {asset} (run {run_id[:8]})",
        lambda connection: publish_in(
            connection, lake, asset, run_id=run_id, timezone=timezone, everything=everything, new_years=False
        ),
    )
    staged.forget_formers(formers, work)
    analyze_changed(url, report.written)
    return report


def _written(url: str, application: str, write: Callable[[psycopg.Connection], T]) -> T:
    """What `write` returns, done in one transaction of the star's one writer; years that it misses are made before."""
    while True:
        try:
            with connected(url, application=application) as connection:
                take_writer_lock(connection)
                return write(connection)
        except facts.YearsMissing as missing:
            years = missing.years
        with connected(url, application=application) as connection:
            take_writer_lock(connection)
            facts.add_years(connection, years)


def publish_in(
    connection: psycopg.Connection,
    lake: Lake,
    asset: str,
    *,
    run_id: str,
    timezone: str,
    everything: bool = False,
    new_years: bool = True,
) -> tuple[Work, Published]:
    """`publish` inside a transaction of the caller, who holds the writer lock.

    Without `new_years` it raises YearsMissing where facts would need a partition beside those that readers know.
    """
    started = datetime.now(UTC)
    tables, staging = _contracts(asset)
    for _ in range(ATTEMPTS):
        work = find_work(connection, lake, asset=asset, staged=staging, contracts=tables, everything=everything)
        if not work.changed and not everything:
            return work, Published(asset, (), "nothing changed", stamps=work.staged)
        try:
            derived = _derive(connection, lake, work, timezone)
        except (PlatformError, pl.exceptions.PolarsError, OSError):
            # A file that is replaced while it is read may be anything but readable.
            if staged.unchanged_since(lake, work):
                lake.refuse_away(work.staged_asset, work.staged)
                raise
            continue
        if staged.unchanged_since(lake, work):
            break
    else:
        raise SourceUnavailable(f"{staging.table} was replaced again and again while it was read: run again.")
    refuse_imbalance(work, derived.classes)
    if isinstance(derived, facts.Derived):
        if not new_years:
            facts.refuse_missing_years(connection, derived)
        done = facts.apply(connection, derived)
        report = Published(
            asset, work.changed, derived.path, inserted=done.inserted, updated=done.replaced, deleted=done.removed,
            stale_dates=len(done.date_keys), rules=done.rules, counts=_counts(derived), stamps=work.staged,
            touched=done.date_keys,
        )  # fmt: skip
    else:
        dimension = DIMENSIONS[asset]
        change = dimensions.compare(connection, dimension, derived)
        written = pl.concat([change.inserted, change.updated], how="diagonal")
        rules = {asset: judge(written, dimension.contract)}
        moved, stale = dimensions.apply(connection, dimension, change)
        report = Published(
            asset, work.changed, derived.path, inserted=change.inserted.height, updated=change.updated.height,
            deleted=change.deleted.height, rekeyed=moved, stale_dates=stale.n_unique(),
            rules=rules, counts=_counts(derived), stamps=work.staged,
            touched=pl.concat([written.get_column(dimension.id), change.deleted.get_column(dimension.id)]).unique(),
        )  # fmt: skip
    record(
        connection,
        work,
        contracts=[*tables, staging],
        run_id=run_id,
        path=derived.path,
        classes=derived.classes,
        started=started,
    )
    if not everything:
        calendar.fit(connection, calendar.staged_days(lake))
    count_at_commit(connection, report.written)
    return work, report


def _derive(
    connection: psycopg.Connection, lake: Lake, work: Work, timezone: str
) -> facts.Derived | dimensions.Derived:
    if work.asset == "fact_sales":
        return facts.derive(connection, lake, work, timezone)
    return dimensions.derive(connection, lake, DIMENSIONS[work.asset], work, timezone)


def refuse_imbalance(work: Work, classes: pl.DataFrame) -> None:
    """Law 4 for every changed partition: raises RuleBroken where rows or control totals went missing on a hop.

    `classes` has one row per staged row: _partition, class, and of order lines quantity and total_amount.
    """
    totals = [name for name in CONTROLLED if name in classes.columns]
    sums = [pl.col(name).cast(pl.Decimal(38, 4)).sum() for name in totals]
    read = {day: rest for day, *rest in classes.group_by("_partition").agg(pl.len(), *sums).iter_rows()}
    for day in work.changed:
        stamp = work.staged[day]
        rows, *found = read.get(day, [0] + [Decimal(0)] * len(totals))
        lost = abs(stamp.rows_delivered - stamp.rows_staged - stamp.rows_quarantined - stamp.rows_duplicate)
        lost += abs(stamp.rows_staged - rows)
        if not lost and [Decimal(stamp.totals.get(name, 0)) for name in totals] != [
            value or Decimal(0) for value in found
        ]:
            lost = rows  # as many rows, but not those that were staged
        if lost:
            raise RuleBroken(work.asset, BALANCE, f"of {work.staged_asset} {day} not every row is accounted for.", lost)


def _contracts(asset: str) -> tuple[list[Contract], Contract]:
    if asset == "fact_sales":
        return list(facts.CONTRACTS), facts.STAGED
    return [DIMENSIONS[asset].contract], DIMENSIONS[asset].staged


def _counts(derived: facts.Derived | dimensions.Derived) -> dict[str, int]:
    return dict(derived.classes.group_by("class").len().sort("class").iter_rows())


def publish_calendar(url: str, days: Iterable[date], start: date) -> int:
    """Bring dim_date to the whole years of `days`, of `start` and of all that is published; returns the rows written.

    `days` are the staged partitions (`calendar.staged_days`): what is not staged yet needs no year yet.
    """
    with connected(url, application="data-platform dim_date") as connection:
        take_writer_lock(connection)
        before = calendar.standing(connection)
        calendar.rewrite(connection, [*days, start])
        return sum(calendar.changes(before, calendar.standing(connection)))


def rebuild(url: str, lake: Lake, *, run_id: str, timezone: str, verify: bool = False) -> list[Published]:
    """Derive the whole star from staging, compare it with the tables, and apply the difference in one transaction.

    Takes what is staged now as the truth. With `verify` nothing is kept: the reports say what would have been done, and
    which rows differ.
    """
    formers = {contract.table: lake.formers(contract.table) for contract in STAGED.values()}
    works, reports = _written(
        url,
        f"data-platform rebuild (run {run_id[:8]})",
        lambda connection: _rebuild_in(connection, url, lake, run_id=run_id, timezone=timezone, verify=verify),
    )
    if not verify:
        for work in works:
            staged.forget_formers(formers[work.staged_asset], work)
        analyze_changed(url, sum(report.written for report in reports))
    return reports


def _rebuild_in(
    connection: psycopg.Connection, url: str, lake: Lake, *, run_id: str, timezone: str, verify: bool
) -> tuple[list[Work], list[Published]]:
    days = calendar.standing(connection)
    # Before the facts, which need every day that they name, and after them, when it is known which those are.
    calendar.rewrite(connection, calendar.staged_days(lake))
    done = [
        publish_in(connection, lake, asset, run_id=run_id, timezone=timezone, everything=True, new_years=verify)
        for asset in (*DIMENSIONS, "fact_sales")
    ]
    calendar.rewrite(connection, calendar.staged_days(lake))
    inserted, updated, deleted = calendar.changes(days, calendar.standing(connection))
    works, reports = [work for work, _ in done], [report for _, report in done]
    reports.append(Published("dim_date", (), "exact", inserted=inserted, updated=updated, deleted=deleted))
    if verify:
        found = _differences(connection, url)
        connection.rollback()
        reports = [replace(report, differences=tuple(found[table] for table in _tables(report))) for report in reports]
    return works, reports


def _differences(connection: psycopg.Connection, url: str) -> dict[str, TableDifference]:
    with connected(url, application="data-platform rebuild --verify") as apart:
        return {found.table: found for found in pending(connection, apart, WAREHOUSE.values())}


def _tables(report: Published) -> tuple[str, ...]:
    return FACTS if report.asset == "fact_sales" else (report.asset,)
