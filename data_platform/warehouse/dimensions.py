"""Publishing a dimension: versions from observations, compared with the table, the difference and no more applied.

In the same transaction the facts that point at another version now are re-keyed, and inferred members are made,
upgraded and restored. A surrogate key stays with its version (id, effective_from) for as long as that exists.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import psycopg
from psycopg import sql

from data_platform.contracts import MARTS, WAREHOUSE
from data_platform.contracts.contract import Contract
from data_platform.contracts.customers import CONTRACT as CUSTOMERS
from data_platform.contracts.products import CONTRACT as PRODUCTS
from data_platform.errors import PlatformError
from data_platform.lake import Lake
from data_platform.transforms.business_day import starts_of
from data_platform.transforms.pointing import BEFORE_ALL
from data_platform.transforms.versions import ORDER_OF_TRUTH, absences, told_again, versions_of
from data_platform.warehouse import staged
from data_platform.warehouse.copying import copy_in, copy_out, stage
from data_platform.warehouse.ledger import Work, mark_stale
from data_platform.warehouse.rekeying import rekey


@dataclass(frozen=True)
class Dimension:
    """A dimension table and the staging it is made from."""

    contract: Contract
    staged: Contract
    id: str
    key: str

    @property
    def attributes(self) -> list[str]:
        """Tracked and overwritten columns."""
        return [*self.contract.tracked, *self.contract.overwritten]

    @property
    def table(self) -> str:
        """schema.table."""
        return f"{self.contract.schema}.{self.contract.table}"

    @property
    def sequence(self) -> str:
        """The sequence that surrogate keys come from."""
        return f"{self.table}_key"


# New rows that change how Postgres should look for one, where they are a tenth of the table as well: this transaction's
# own queries are the next to ask.
WORTH_ANALYSING = 10_000

DIMENSIONS: Mapping[str, Dimension] = {
    "dim_customer": Dimension(WAREHOUSE["dim_customer"], CUSTOMERS, "customer_id", "customer_key"),
    "dim_product": Dimension(WAREHOUSE["dim_product"], PRODUCTS, "product_id", "product_key"),
}


@dataclass(frozen=True)
class Derived:
    """What staging says of some keys (`ids`; None: of all): their versions, and the classes of the changed rows.

    `stands` are the rows that the table has for these keys, where the derivation has read them already.
    """

    ids: pl.Series | None
    versions: pl.DataFrame
    classes: pl.DataFrame
    path: str
    stands: pl.DataFrame | None = None


@dataclass(frozen=True)
class _Seen:
    """All that says something about some keys (`ids`; None: about all): observations, and what columns were unknown.

    `repeats` are staged rows of other keys, which are known beforehand to change nothing.
    """

    ids: pl.Series | None
    observations: pl.DataFrame
    unknown: Mapping[str, list[date]]
    path: str
    stands: pl.DataFrame | None = None
    repeats: pl.DataFrame | None = None


def derive(connection: psycopg.Connection, lake: Lake, dimension: Dimension, work: Work, timezone: str) -> Derived:
    """The versions of every key whose observations changed."""
    fresh = _tellings(lake, work, dimension, work.changed, None)
    unknown = _unknown(work, dimension)
    if _may_go_fast(work, fresh, unknown):
        seen = _seen_in_the_table(connection, lake, dimension, work, fresh, timezone)
    else:
        seen = _seen_in_staging(lake, dimension, work, fresh, unknown, timezone)
    derived = versions_of(
        seen.observations,
        key=dimension.id,
        tracked=dimension.contract.tracked,
        overwritten=dimension.contract.overwritten,
        unknown=seen.unknown,
        timezone=timezone,
    )
    told = derived.classes.filter(pl.col("_row").is_not_null() & pl.col("_partition").is_in(list(work.changed)))
    if seen.repeats is not None:
        told = pl.concat([told, seen.repeats.select("_partition", pl.lit("repeat").alias("class"), "_row")])
    return Derived(seen.ids, derived.rows, told, seen.path, seen.stands)


def _tellings(
    lake: Lake, work: Work, dimension: Dimension, days: Sequence[date], ids: pl.Series | None
) -> pl.DataFrame:
    columns = [dimension.id, *dimension.attributes, "is_deleted", *ORDER_OF_TRUTH]
    return staged.tellings(lake, work, days, ids).select(columns).collect()


def _seen_in_the_table(
    connection: psycopg.Connection, lake: Lake, dimension: Dimension, work: Work, fresh: pl.DataFrame, timezone: str
) -> _Seen:
    """The fast path: versions that stand speak for what made them, and all that is new is later."""
    repeats = None
    if not _is_full(work, work.changed):
        ids = fresh.get_column(dimension.id).unique()
    elif _latest_is_full_state(work) and len(work.changed) == 1:
        ids, fresh, repeats = _without_repeats(lake, work, dimension, fresh)
    else:
        ids = None
    stands = existing(connection, dimension, ids)
    history = _standing_versions(stands, dimension, timezone)
    observations = pl.concat([history, fresh])
    full_days = _full_days(work, work.changed)
    if full_days:
        # Only what stands can be missing from a full delivery: a member that left stays away.
        before = pl.lit(max(work.published)).alias("_partition")
        known = history.select(dimension.id, before, observed=pl.lit(True)).unique()
        present = pl.concat([known, _presence(lake, work, dimension, fresh, work.changed)])
        left = absences(present, key=dimension.id, full_days=full_days, every=_is_mixed(work))
        observations = pl.concat([observations, _deletions(left, observations, dimension, timezone)])
    return _Seen(ids, observations, {}, "append", stands, repeats)


def _latest_is_full_state(work: Work) -> bool:
    """Whether the table shows what the last published delivery says, and nothing else: it is full and none is later."""
    latest = max(work.published)
    moment = work.published[latest].last_moment
    return work.staged[latest].mode == "full" and moment is not None and moment == work.watermark


def _without_repeats(
    lake: Lake, work: Work, dimension: Dimension, fresh: pl.DataFrame
) -> tuple[pl.Series, pl.DataFrame, pl.DataFrame]:
    """The keys for which a full delivery may say something else than the one before, their rows, and all other rows.

    Most of a full delivery says what the table shows. The one before says the same as the table, and is read from
    staging several times as fast. Whoever is in neither has left before.
    """
    latest = [max(work.published)]
    before = staged.tellings(lake, work, latest).select(dimension.id, *dimension.attributes, "is_deleted").collect()
    repeat, repeated = told_again(fresh, before, key=dimension.id, attributes=dimension.attributes)
    rejected = staged.presences(lake, work, latest, [dimension.id]).get_column(dimension.id)
    # Whoever is looked at is so with all its rows: a repeat that is left out would count as absent.
    repeat &= ~fresh.get_column(dimension.id).is_in(rejected.implode())
    rows, others = fresh.filter(~repeat), before.filter(~repeated)
    ids = pl.concat([rows.get_column(dimension.id), others.get_column(dimension.id), rejected]).unique()
    return ids, rows, fresh.filter(repeat)


def _seen_in_staging(
    lake: Lake,
    dimension: Dimension,
    work: Work,
    fresh: pl.DataFrame,
    unknown: Mapping[str, list[date]],
    timezone: str,
) -> _Seen:
    """The exact path: every staged telling of the keys that the changed partitions tell of, or told of before."""
    ids = None
    if not work.everything and not _is_full(work, work.staged):
        former = staged.former_keys(lake, work)
        ids = None if former is None else pl.concat([fresh.get_column(dimension.id), former]).unique()
    observations = pl.concat([_tellings(lake, work, dimension, work.unchanged, ids), fresh])
    full_days = _full_days(work, work.staged)
    if full_days:
        present = _presence(lake, work, dimension, observations, list(work.staged))
        left = absences(present, key=dimension.id, full_days=full_days, every=_is_mixed(work))
        observations = pl.concat([observations, _deletions(left, observations, dimension, timezone)])
    path = "exact" if work.published or work.everything else "first load"
    return _Seen(ids, observations, unknown, path)


def _may_go_fast(work: Work, fresh: pl.DataFrame, unknown: Mapping[str, list[date]]) -> bool:
    # The versions that stand speak for all observations only if those to come are later than each of them, and only
    # if no column was told by some deliveries and not by others (a version does not say which).
    if not work.published:
        return False
    first = fresh.get_column("_moment").min()
    later = work.watermark is None or first is None or first > work.watermark  # type: ignore[operator]
    # A full delivery deletes keys that only a deletion was told of, which no version shows: that matters where changes
    # that are delivered after it tell of the time before it.
    one_mode = len({work.staged[day].mode for day in work.changed}) <= 1
    return work.only_appends and bool(later) and one_mode and not unknown


def _unknown(work: Work, dimension: Dimension) -> dict[str, list[date]]:
    """Per attribute that some deliveries told and others lacked: the days that lacked it.

    A day without rows neither has nor lacks a column; what no delivery ever told is null, and needs no filling.
    """
    told = {day: stamp for day, stamp in work.staged.items() if stamp.rows_staged}
    lacking = {name: [day for day, stamp in told.items() if name in stamp.unknown] for name in dimension.attributes}
    return {name: days for name, days in lacking.items() if 0 < len(days) < len(told)}


def _is_full(work: Work, days: Iterable[date]) -> bool:
    return any(work.staged[day].mode == "full" for day in days)


def _is_mixed(work: Work) -> bool:
    # What changes tell may stand between two full deliveries that both lack the key.
    return any(stamp.mode != "full" for stamp in work.staged.values())


def _full_days(work: Work, days: Iterable[date]) -> list[date]:
    # An empty delivery deletes nothing.
    return [day for day in days if work.staged[day].mode == "full" and work.staged[day].rows_staged]


def _presence(lake: Lake, work: Work, dimension: Dimension, rows: pl.DataFrame, days: Sequence[date]) -> pl.DataFrame:
    quarantined = staged.presences(lake, work, days, [dimension.id])
    return pl.concat(
        [
            rows.select(dimension.id, "_partition", observed=pl.lit(True)),
            quarantined.select(dimension.id, "_partition", observed=pl.lit(False)),
        ]
    ).unique()


def _deletions(left: pl.DataFrame, like: pl.DataFrame, dimension: Dimension, timezone: str) -> pl.DataFrame:
    return left.select(
        dimension.id,
        *(pl.lit(None, like.schema[name]).alias(name) for name in dimension.attributes),
        is_deleted=pl.lit(True),
        _moment=starts_of(left.get_column("_partition"), timezone),
        _partition="_partition",
        _file=pl.lit(None, pl.String),
        _row=pl.lit(None, pl.Int64),
    ).select(like.columns)


def _standing_versions(stands: pl.DataFrame, dimension: Dimension, timezone: str) -> pl.DataFrame:
    """The versions in the table as observations: where each starts, and a deletion where one ends without a next."""
    rows = stands.filter(~pl.col("is_inferred")).sort(dimension.id, "effective_from")
    next_starts = pl.when(pl.col(dimension.id).shift(-1) == pl.col(dimension.id)).then(
        pl.col("effective_from").shift(-1)
    )
    ends = rows.filter(pl.col("effective_to").is_not_null() & ~pl.col("effective_to").eq_missing(next_starts))
    lineage = [
        pl.lit(None, pl.String).alias("_file"),
        pl.lit(None, pl.Int64).alias("_row"),
    ]

    def observed(frame: pl.DataFrame, day: str, deleted: bool) -> pl.DataFrame:
        return frame.select(
            dimension.id,
            *dimension.attributes,
            pl.lit(deleted).alias("is_deleted"),
            starts_of(frame.get_column(day), timezone).alias("_moment"),
            pl.col(day).alias("_partition"),
            *lineage,
        )

    return pl.concat([observed(rows, "effective_from", False), observed(ends, "effective_to", True)])


def existing(connection: psycopg.Connection, dimension: Dimension, ids: pl.Series | None) -> pl.DataFrame:
    """The rows of the dimension (of `ids`, else all), without the unknown member."""
    columns = [
        dimension.key,
        dimension.id,
        *dimension.attributes,
        "effective_from",
        "effective_to",
        "is_current",
        "is_inferred",
    ]
    if ids is not None:
        stage(connection, "wanted_ids", ids.alias("id").to_frame(), ["text"])
    only = sql.SQL("" if ids is None else "JOIN pg_temp.wanted_ids AS w ON w.id = d.{}")
    query = sql.SQL("SELECT {columns} FROM {table} AS d {only} WHERE d.{key} <> -1").format(
        columns=sql.SQL(", ").join(sql.Identifier("d", name) for name in columns),
        table=sql.Identifier(dimension.contract.schema, dimension.contract.table),
        only=only.format(sql.Identifier(dimension.id)),
        key=sql.Identifier(dimension.key),
    )
    return copy_out(connection, query, pl.Schema({name: dimension.contract.columns[name].dtype for name in columns}))


@dataclass(frozen=True)
class Difference:
    """What has to change in a dimension. `updated` says where from, and whether facts show something else by it.

    `starts` has the first effective_from (`_first`) of each member as it shall be.
    """

    inserted: pl.DataFrame
    updated: pl.DataFrame
    deleted: pl.DataFrame
    starts: pl.DataFrame

    @property
    def is_empty(self) -> bool:
        """Whether the table is right as it is."""
        return self.inserted.is_empty() and self.updated.is_empty() and self.deleted.is_empty()


def compare(connection: psycopg.Connection, dimension: Dimension, derived: Derived) -> Difference:
    """The difference between the derived versions and the table; keys of new versions are not given yet."""
    stands = existing(connection, dimension, derived.ids) if derived.stands is None else derived.stands
    values = [dimension.id, *dimension.attributes, "effective_from", "effective_to", "is_current", "is_inferred"]
    target = derived.versions.with_columns(is_inferred=pl.lit(False)).select(values)
    named = _named_by_facts(connection, dimension, stands, target)
    target = pl.concat([target, _inferred(named, target)])
    # A version is known by (id, effective_from). An inferred member becomes the first version and the first version
    # becomes the inferred member again under the same key, so that the facts need not move.
    first = pl.col("effective_from") == pl.col("effective_from").min().over(dimension.id)
    stands_only_inferred = stands.filter("is_inferred").select(dimension.id, _was=pl.lit(True))
    now_inferred = target.filter("is_inferred").select(dimension.id, _becomes=pl.lit(True))
    match = pl.when(first & (pl.col("_was").fill_null(False) | pl.col("_becomes").fill_null(False))).then(
        pl.lit(BEFORE_ALL)
    ).otherwise("effective_from").alias("_match")  # fmt: skip

    def matched(frame: pl.DataFrame) -> pl.DataFrame:
        marked = frame.join(stands_only_inferred, on=dimension.id, how="left").join(
            now_inferred, on=dimension.id, how="left"
        )
        return marked.with_columns(match).drop("_was", "_becomes")

    joined = matched(target).join(
        matched(stands), on=[dimension.id, "_match"], how="full", suffix="_stands", coalesce=True
    )  # fmt: skip
    found, wanted = pl.col(dimension.key).is_not_null(), pl.col("is_inferred").is_not_null()
    compared = [name for name in values if name != dimension.id]
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_stands")) for name in compared)
    # What a fact shows through its version: an end alone changes nothing for the facts.
    visible = [*dimension.attributes, "effective_from", "is_inferred"]
    shows_other = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_stands")) for name in visible)
    return Difference(
        inserted=joined.filter(wanted & ~found).select(values),
        updated=joined.filter(wanted & found & differs).select(
            dimension.key,
            *values,
            pl.col("effective_from_stands").alias("_from_before"),
            shows_other.alias("_shows_other"),
        ),
        deleted=joined.filter(found & ~wanted).select(
            dimension.key, dimension.id, pl.col("effective_from_stands").alias("effective_from")
        ),
        starts=target.group_by(dimension.id).agg(_first=pl.col("effective_from").min()),
    )


def _named_by_facts(
    connection: psycopg.Connection, dimension: Dimension, stands: pl.DataFrame, target: pl.DataFrame
) -> pl.Series:
    """Ids that have no version (any more) and that facts name: they need their inferred member."""
    gone = stands.join(target.select(dimension.id).unique(), on=dimension.id, how="anti")
    if gone.is_empty():
        return pl.Series(dimension.id, [], dtype=pl.String)
    stage(connection, "gone_members", gone.select(dimension.key, dimension.id), ["bigint", "text"])
    rows = connection.execute(
        sql.SQL(
            """
            SELECT DISTINCT g.{id}
            FROM pg_temp.gone_members AS g
            WHERE EXISTS (SELECT FROM warehouse.fact_sales AS f WHERE f.{key} = g.{key})
            OR EXISTS (SELECT FROM warehouse.fact_returns AS f WHERE f.{key} = g.{key})
            """
        ).format(id=sql.Identifier(dimension.id), key=sql.Identifier(dimension.key))
    ).fetchall()
    return pl.Series(dimension.id, [row[0] for row in rows], dtype=pl.String)


def _inferred(ids: pl.Series, like: pl.DataFrame) -> pl.DataFrame:
    members = {
        ids.name: ids,
        "effective_from": pl.Series([BEFORE_ALL] * len(ids), dtype=pl.Date),
        "is_current": pl.Series([True] * len(ids), dtype=pl.Boolean),
        "is_inferred": pl.Series([True] * len(ids), dtype=pl.Boolean),
    }
    return pl.DataFrame(
        [
            members[name].alias(name) if name in members else pl.Series(name, [None] * len(ids), dtype=kind)
            for name, kind in like.schema.items()
        ]
    )


def insert_members(connection: psycopg.Connection, dimension: Dimension, rows: pl.DataFrame) -> pl.DataFrame:
    """Insert `rows` (versions without keys) and return them with the keys they were given."""
    if rows.is_empty():
        return rows.with_columns(pl.lit(None, pl.Int64).alias(dimension.key))
    # In the order of the indexes: each of their pages is then written once.
    rows = rows.sort(dimension.id, "effective_from")
    keyed = rows.with_columns(next_keys(connection, dimension.sequence, rows.height).alias(dimension.key))
    copy_in(connection, dimension.table, keyed)
    if rows.height >= WORTH_ANALYSING and rows.height >= _rows_known(connection, dimension) / 10:
        connection.execute("SELECT warehouse.analyze_table(%s)", [dimension.contract.table])
    return keyed


def _rows_known(connection: psycopg.Connection, dimension: Dimension) -> float:
    """How many rows Postgres took the table to have when it last looked; −1 if it never did."""
    found = connection.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [dimension.table]).fetchone()
    assert found is not None
    return float(found[0])


def next_keys(connection: psycopg.Connection, sequence: str, count: int) -> pl.Series:
    """`count` new surrogate keys of `sequence`, in one step; the writer lock keeps others away from it."""
    last = connection.execute(
        "SELECT setval(%(name)s::regclass, nextval(%(name)s::regclass) + %(more)s)",
        {"name": sequence, "more": count - 1},
    ).fetchone()
    assert last is not None
    return pl.int_range(last[0] - count + 1, last[0] + 1, eager=True, dtype=pl.Int64)


def apply(connection: psycopg.Connection, dimension: Dimension, change: Difference) -> tuple[int, pl.Series]:
    """Bring the table to the derived versions and re-key the facts.

    Returns how many facts moved, and the date keys of those that show something else now.
    """
    if change.is_empty:
        return 0, pl.Series("date_key", [], dtype=pl.Int32)
    table = sql.Identifier(dimension.contract.schema, dimension.contract.table)
    key = sql.Identifier(dimension.key)
    columns = ["effective_from", "effective_to", "is_current", "is_inferred", *dimension.attributes]
    if not change.deleted.is_empty():
        # Facts still point at them: they are closed first, so that others can open, and removed at the end.
        stage(connection, "deleted_versions", change.deleted.select(dimension.key), ["bigint"])
        connection.execute(
            sql.SQL(
                """
                UPDATE {table} AS d
                SET effective_to = d.effective_from + 1, is_current = false, is_inferred = false
                FROM pg_temp.deleted_versions AS x
                WHERE d.{key} = x.{key}
                """
            ).format(table=table, key=key)
        )
    # The index that keeps one current version an id cannot be deferred: close before opening.
    for current in (False, True):
        rows = change.updated.filter(pl.col("is_current") == current)
        # Most of them only end, for another begins.
        _update(connection, dimension, rows.filter(~pl.col("_shows_other")), ["effective_to", "is_current"])
        _update(connection, dimension, rows.filter("_shows_other"), columns)
    insert_members(connection, dimension, change.inserted)
    moved, stale = rekey(
        connection,
        dimension.contract.table,
        reach=_reach(dimension, change),
        removed=change.deleted.get_column(dimension.key),
        shown=change.updated.filter("_shows_other").get_column(dimension.key),
    )
    if not change.deleted.is_empty():
        connection.execute(
            sql.SQL("DELETE FROM {table} AS d USING pg_temp.deleted_versions AS x WHERE d.{key} = x.{key}").format(
                table=table, key=key
            )
        )
    _refuse_overlaps(connection, dimension, change)
    mark_stale(connection, stale, MARTS)
    return moved, stale


def _update(connection: psycopg.Connection, dimension: Dimension, rows: pl.DataFrame, columns: Sequence[str]) -> None:
    """Set `columns` of the versions that stand to those of `rows`."""
    if rows.is_empty():
        return
    types = ["bigint", *(dimension.contract.columns[name].type_name for name in columns)]
    stage(connection, "updated_versions", rows.select(dimension.key, *columns), types)
    connection.execute(
        sql.SQL(
            """
            UPDATE {table} AS d
            SET {assignments}
            FROM pg_temp.updated_versions AS u
            WHERE d.{key} = u.{key}
            """
        ).format(
            table=sql.Identifier(dimension.contract.schema, dimension.contract.table),
            assignments=sql.SQL(", ").join(sql.SQL("{0} = u.{0}").format(sql.Identifier(name)) for name in columns),
            key=sql.Identifier(dimension.key),
        )
    )


def _reach(dimension: Dimension, change: Difference) -> pl.DataFrame:
    """Per id whose versions start elsewhere or show something else: the first order date that may be concerned.

    What concerns the first version concerns all dates before it.
    """
    shown = change.updated.filter("_shows_other")
    starts = [
        change.inserted.select(dimension.id, "effective_from"),
        shown.select(dimension.id, "effective_from"),
        shown.select(dimension.id, pl.col("_from_before").alias("effective_from")),
        change.deleted.select(dimension.id, "effective_from"),
    ]
    reach = pl.concat(starts).group_by(dimension.id).agg(from_date=pl.col("effective_from").min())
    return reach.join(change.starts, on=dimension.id, how="left").select(
        dimension.id,
        from_date=pl.when(pl.col("from_date") > pl.col("_first")).then("from_date").otherwise(pl.lit(BEFORE_ALL)),
    )


def _refuse_overlaps(connection: psycopg.Connection, dimension: Dimension, change: Difference) -> None:
    touched = pl.concat([frame.select(dimension.id) for frame in (change.inserted, change.updated, change.deleted)])
    stage(connection, "touched_ids", touched.unique(), ["text"])
    clash = connection.execute(
        sql.SQL(
            """
            SELECT count(*)
            FROM (
                SELECT
                    d.effective_to,
                    lead(d.effective_from) OVER (PARTITION BY d.{id} ORDER BY d.effective_from) AS next_from
                FROM {table} AS d
                JOIN pg_temp.touched_ids AS t USING ({id})
            ) AS spans
            WHERE next_from < coalesce(effective_to, 'infinity')
            """
        ).format(
            id=sql.Identifier(dimension.id), table=sql.Identifier(dimension.contract.schema, dimension.contract.table)
        )
    ).fetchone()
    assert clash is not None
    if clash[0]:
        raise PlatformError(
            f"{clash[0]} versions of {dimension.table} would overlap: nothing was published; run "
            "`data-platform rebuild --verify` and report what it says."
        )


def remove_unnamed_inferred(connection: psycopg.Connection, dimension: Dimension, keys: pl.Series) -> int:
    """Remove those of the members `keys` that are inferred and that no fact names any more."""
    if keys.is_empty():
        return 0
    stage(connection, "maybe_unnamed", keys.alias("key").to_frame(), ["bigint"])
    return connection.execute(
        sql.SQL(
            """
            DELETE FROM {table} AS d
            USING pg_temp.maybe_unnamed AS m
            WHERE d.{key} = m.key AND d.is_inferred
            AND NOT EXISTS (SELECT FROM warehouse.fact_sales AS f WHERE f.{key} = d.{key})
            AND NOT EXISTS (SELECT FROM warehouse.fact_returns AS f WHERE f.{key} = d.{key})
            """
        ).format(
            table=sql.Identifier(dimension.contract.schema, dimension.contract.table), key=sql.Identifier(dimension.key)
        )
    ).rowcount
