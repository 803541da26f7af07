"""What was published from which staging: the ledger, the writer lock, and what a publish must take in."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl
import psycopg
from psycopg import sql

from data_platform.contracts.contract import Contract
from data_platform.errors import DatabaseUnavailable, PublishRefused
from data_platform.lake import Lake, Stamp
from data_platform.warehouse.connection import waiting_for

# One lock for the whole star: facts write inferred members, dimensions re-key facts. Any number nobody else uses.
WRITER_LOCK = 5_207_114_902_002
WAIT_LIMIT_SECONDS = 1800

# The classes of staged rows (law 4), and the columns of the ledger that count them.
LINE_CLASSES = {"sale": "sales", "return": "returns", "tombstone": "tombstones", "superseded": "superseded"}
TELLING_CLASSES = {"version": "versions", "repeat": "repeats", "replaced": "replaced", "deletion": "deletions"}

log = logging.getLogger(__name__)


def classes_of(table: str) -> Mapping[str, str]:
    """The classes that the staged rows of a fact table or of a dimension fall into, with their columns."""
    return LINE_CLASSES if table.startswith("fact_") else TELLING_CLASSES


@dataclass(frozen=True)
class Entry:
    """The newest ledger row of a partition."""

    content: str
    first_moment: datetime | None
    last_moment: datetime | None


@dataclass(frozen=True)
class Work:
    """What a publish finds: everything staged now, what the ledger says was published, and where the two differ."""

    asset: str
    staged_asset: str
    staged: Mapping[date, Stamp]
    published: Mapping[date, Entry]
    changed: tuple[date, ...]
    everything: bool

    @property
    def unchanged(self) -> list[date]:
        """Staged partitions that the warehouse already shows."""
        changed = set(self.changed)
        return [day for day in self.staged if day not in changed]

    @property
    def only_appends(self) -> bool:
        """Every changed partition is new and later than all that was published before."""
        latest = max(self.published, default=date.min)
        return not self.everything and all(day > latest for day in self.changed)

    @property
    def watermark(self) -> datetime | None:
        """The last moment that any published row has."""
        return max((entry.last_moment for entry in self.published.values() if entry.last_moment), default=None)


def take_writer_lock(connection: psycopg.Connection) -> None:
    """Become the star's one writer until this transaction ends; waits, saying for whom, up to half an hour."""
    if connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [WRITER_LOCK]).fetchone() == (True,):
        return
    holder = connection.execute(
        """
        SELECT a.application_name
        FROM pg_locks AS l
        JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.database = (
            SELECT oid FROM pg_database WHERE datname = current_database()
        ) AND (l.classid::bigint << 32) + l.objid::bigint = %s
        """,
        [WRITER_LOCK],
    ).fetchone()
    name = holder[0] if holder else "a writer that has just finished"
    log.info("The warehouse is being written by %s: waiting for it.", name)
    try:
        with waiting_for(connection, WAIT_LIMIT_SECONDS):
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [WRITER_LOCK])
    except psycopg.errors.LockNotAvailable:
        raise DatabaseUnavailable(
            f"The warehouse was being written by {name} for more than {WAIT_LIMIT_SECONDS // 60} minutes: nothing was "
            "published; see whether that run hangs, then run again."
        ) from None


def find_work(
    connection: psycopg.Connection,
    lake: Lake,
    *,
    asset: str,
    staged: Contract,
    contracts: Iterable[Contract],
    everything: bool,
) -> Work:
    """Compare staging with the ledger. Raises PublishRefused where the tables must not be touched.

    With `everything` (a rebuild) all that is staged counts as changed, and what is staged now is taken as the truth.
    """
    stamps = lake.stamps(staged.table)
    published = entries(connection, asset)
    _refuse_other_staging(staged, stamps)
    if not everything:
        _refuse_missing(staged.table, stamps, published)
        _refuse_other_contract(connection, staged, contracts, published)
        if not published:
            _refuse_unknown_rows(connection, contracts)
    changed = tuple(
        day
        for day, stamp in stamps.items()
        if everything or day not in published or published[day].content != stamp.content
    )
    return Work(asset, staged.table, stamps, published, changed, everything)


def entries(connection: psycopg.Connection, asset: str) -> dict[date, Entry]:
    """The newest entry of each partition that was published; moments in UTC."""
    rows = connection.execute(
        """
        SELECT DISTINCT ON (partition_date) partition_date, content_hash, first_moment, last_moment
        FROM platform.load_ledger
        WHERE asset = %s
        ORDER BY partition_date, load_id DESC
        """,
        [asset],
    )
    return {
        day: Entry(content, first and first.astimezone(UTC), last and last.astimezone(UTC))
        for day, content, first, last in rows
        if content
    }


def _refuse_missing(table: str, stamps: Mapping[date, Stamp], published: Mapping[date, Entry]) -> None:
    missing = sorted(set(published) - set(stamps))
    if missing:
        raise PublishRefused(
            f"{table} lacks {len(missing)} partitions that the warehouse was loaded from (the first is {missing[0]}): "
            "check DATA_PLATFORM_LAKE_URL, materialize them again, or run `data-platform rebuild` to take what is "
            "staged now as the truth."
        )


def _refuse_other_staging(staged: Contract, stamps: Mapping[date, Stamp]) -> None:
    other = [day for day, stamp in stamps.items() if stamp.contract != staged.fingerprint()]
    if other:
        raise PublishRefused(
            f"{len(other)} partitions of {staged.table} (the first is {other[0]}) were staged by another contract than "
            f"today's: materialize {staged.table} for them again."
        )


def _refuse_other_contract(
    connection: psycopg.Connection, staged: Contract, contracts: Iterable[Contract], published: Mapping[date, Entry]
) -> None:
    recorded: dict[str, str] = dict(
        connection.execute("SELECT name, value FROM platform.settings WHERE name LIKE 'contract:%'").fetchall()
    )
    for contract in (staged, *contracts):
        known = recorded.get(f"contract:{contract.table}")
        if published and known is not None and known != contract.fingerprint():
            raise PublishRefused(
                f"The contract of {contract.table} has changed in meaning since it was published: run "
                "`data-platform rebuild` (after materializing staging again where columns or types changed)."
            )


def _refuse_unknown_rows(connection: psycopg.Connection, contracts: Iterable[Contract]) -> None:
    for contract in contracts:
        # A dimension holds the unknown member and inferred members before its first publish.
        condition = "WHERE effective_from > '0001-01-01'" if contract.table.startswith("dim_") else ""
        found = connection.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {} {})").format(
                sql.Identifier(contract.schema, contract.table), sql.SQL(condition)
            )
        ).fetchone()
        if found == (True,):
            raise PublishRefused(
                f"{contract.schema}.{contract.table} holds rows that the ledger knows nothing of: empty it, or run "
                "`data-platform rebuild` to bring it to what is staged."
            )


def record(
    connection: psycopg.Connection,
    work: Work,
    *,
    contracts: Iterable[Contract],
    run_id: str,
    path: str,
    classes: pl.DataFrame,
    started: datetime,
) -> None:
    """Write the ledger rows of the changed partitions, in the transaction that publishes them.

    `classes` has one row per staged row: _partition and class.
    """
    names = classes_of(work.asset)
    counted: dict[date, dict[str, int]] = {day: dict.fromkeys(names.values(), 0) for day in work.changed}
    for day, kind, count in classes.group_by("_partition", "class").len().iter_rows():
        if day in counted:
            counted[day][names[kind]] = count
    columns = ["asset", "partition_date", "run_id", "content_hash", "engine_path", "rows_delivered", "rows_staged",
               "rows_quarantined", "rows_duplicate", "sum_quantity", "sum_total_amount", "first_moment", "last_moment",
               "unknown_columns", "started_at", *names.values()]  # fmt: skip
    statement = sql.SQL("COPY platform.load_ledger ({}) FROM STDIN").format(
        sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor().copy(statement) as copy:
        for day in work.changed:
            stamp = work.staged[day]
            copy.write_row(
                [
                    work.asset,
                    day,
                    run_id,
                    stamp.content,
                    path,
                    stamp.rows_delivered,
                    stamp.rows_staged,
                    stamp.rows_quarantined,
                    stamp.rows_duplicate,
                    stamp.totals.get("quantity"),
                    stamp.totals.get("total_amount"),
                    stamp.first_moment,
                    stamp.last_moment,
                    ",".join(stamp.unknown),
                    started,
                    *counted[day].values(),
                ]
            )
    if work.everything:
        gone = sorted(set(work.published) - set(work.staged))
        connection.execute(
            "DELETE FROM platform.load_ledger WHERE asset = %s AND partition_date = ANY(%s)", [work.asset, gone]
        )
    for contract in contracts:
        connection.execute(
            "INSERT INTO platform.settings (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE"
            " SET value = excluded.value, recorded_at = now() WHERE settings.value <> excluded.value",
            [f"contract:{contract.table}", contract.fingerprint()],
        )


def mark_stale(connection: psycopg.Connection, date_keys: pl.Series, marts: Iterable[str]) -> None:
    """Note for every mart that the facts of these order dates (yyyymmdd) changed.

    Always by new marks: a refresh that is under way works off those that it has read, and may have read too early.
    """
    dates = date_keys.unique().drop_nulls().sort().to_list()
    for mart in marts:
        connection.execute(
            """
            INSERT INTO platform.mart_stale (mart, date_key)
            SELECT %(mart)s, date_key FROM unnest(%(dates)s::integer[]) AS date_key
            """,
            {"mart": mart, "dates": dates},
        )
