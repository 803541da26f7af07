"""The cleanup: every step after the other, each told in figures; one that fails keeps no other from its work."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from data_platform.commands.figures import is_set_up
from data_platform.dagster_storage import storage_url
from data_platform.errors import PlatformError
from data_platform.lake import Lake
from data_platform.retention import dagster_log, leftovers, raw, staging, vacuum
from data_platform.retention.config import Retention
from data_platform.retention.done import Done
from data_platform.settings import Settings
from data_platform.warehouse.connection import connected, warehouse_url
from data_platform.warehouse.ledger import take_writer_lock
from data_platform.warehouse.migrations import ready_warehouse

APPLICATION = "data-platform cleanup"
OURS = ("warehouse", "marts", "platform")


@dataclass(frozen=True)
class Cleaned:
    """What was done, in the order in which it was, and the sentences of the steps that failed."""

    done: tuple[Done, ...]
    failures: tuple[str, ...]


def cleanup(
    settings: Settings, lake: Lake, rules: Retention, now: datetime, *, dry_run: bool, tell: Callable[[Done], None]
) -> Cleaned:
    """Clean up by `rules`, or with `dry_run` only look what would go; `tell` is told of each thing as it is done.

    Where there is no warehouse yet only files are cleaned, and where none is to be reached that is a failure. A step
    whose storage fails ends with what it did, which stands; the next cleanup does the rest.
    """
    done: list[Done] = []
    failures: list[str] = []
    for step in _steps(settings, lake, rules, now, dry_run):
        try:
            for one in step():
                done.append(one)
                tell(one)
        except PlatformError as error:
            if str(error) not in failures:
                failures.append(str(error))
    return Cleaned(tuple(done), tuple(failures))


def _steps(
    settings: Settings, lake: Lake, rules: Retention, now: datetime, dry_run: bool
) -> Sequence[Callable[[], Iterator[Done]]]:
    archives = [block.archive for block in (rules.raw, rules.staging) if block is not None and block.archive]

    def of_files() -> Iterator[Done]:
        yield from leftovers.of_lake(lake, archives, now, dry_run=dry_run)
        yield from leftovers.of_home(settings, now, dry_run=dry_run)

    def of_warehouse() -> Iterator[Done]:
        url = warehouse_url(settings)
        today = now.astimezone(settings.zone).date()
        with connected(url, application=APPLICATION, writes=False) as connection:
            if not is_set_up(connection):
                return
        ready_warehouse(settings)
        with connected(url, application=APPLICATION, writes=False) as connection:
            if not dry_run:
                take_writer_lock(connection)
            yield from leftovers.of_publishes(connection, lake, now, dry_run=dry_run)
        if rules.raw is not None:
            yield from raw.beyond_age(url, lake, rules.raw, today, dry_run=dry_run)
        if rules.staging is not None:
            yield from staging.beyond_age(url, lake, rules.staging, today, dry_run=dry_run)

    def of_dagster() -> Iterator[Done]:
        url = storage_url(settings).replace("postgresql+psycopg2://", "postgresql://", 1)
        keep_days = rules.dagster.keep_days if rules.dagster else None
        with connected(url, application=APPLICATION, writes=False) as connection:
            if not dagster_log.is_there(connection):
                return
        yield from dagster_log.files_of_runs(url, settings.home / "dagster", keep_days, now, dry_run=dry_run)
        if keep_days is not None:
            yield from dagster_log.of_old_runs(url, keep_days, now, dry_run=dry_run)
        yield from vacuum.of_dead_rows(url, ["public"], dry_run=dry_run)

    def of_dead_rows() -> Iterator[Done]:
        yield from vacuum.of_dead_rows(warehouse_url(settings), OURS, dry_run=dry_run)

    if settings.warehouse_url is None and not (settings.home / "postgres").exists():
        return [of_files]  # the first run makes a server; there is nothing to look at
    return [of_files, of_warehouse, of_dagster, of_dead_rows]
