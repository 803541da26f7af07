"""What readers see: all tables with what may differ left out, and all files of the lake."""

import hashlib
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import polars as pl
import psycopg

from data_platform.lake import LEFTOVER_AGE, PART, content_hash, read_stamp

Rows: TypeAlias = Counter[tuple[str, str]]
# What the picture tells of the schema, beside the rows of the tables.
STRUCTURE = ("tables", "constraints")

# Keys are what a run may choose anew: facts are told by the versions that they point at.
_FACT = """
    SELECT '{table}', (
        to_jsonb(f) - '{{sale_key,customer_key,product_key,created_at}}'::text[]
        || jsonb_build_object('table', '{table}', 'customer', c.customer_id, 'customer_from', c.effective_from,
                              'product', p.product_id, 'product_from', p.effective_from)
    )::text
    FROM warehouse.{table} AS f
    LEFT JOIN warehouse.dim_customer AS c USING (customer_key)
    LEFT JOIN warehouse.dim_product AS p USING (product_key)
"""
_QUERY = " UNION ALL ".join(
    [
        "SELECT 'dim_date', to_jsonb(t)::text FROM warehouse.dim_date AS t",
        "SELECT 'dim_customer', (to_jsonb(t) - 'customer_key')::text FROM warehouse.dim_customer AS t",
        "SELECT 'dim_product', (to_jsonb(t) - 'product_key')::text FROM warehouse.dim_product AS t",
        _FACT.format(table="fact_sales"),
        _FACT.format(table="fact_returns"),
        *(
            f"SELECT '{name}', to_jsonb(t)::text FROM marts.{name} AS t"
            for name in ("mart_daily_sales", "mart_product_performance", "mart_customer_value")
        ),
        # A date may be marked more than once.
        "SELECT 'mart_stale', row::text FROM (SELECT DISTINCT mart, date_key FROM platform.mart_stale) AS row",
        "SELECT 'settings', (to_jsonb(t) - 'recorded_at')::text FROM platform.settings AS t",
        # Of a partition the newest entry counts.
        "SELECT 'load_ledger', entry FROM (SELECT DISTINCT ON (asset, partition_date) (to_jsonb(t)"
        " - '{load_id,run_id,started_at,finished_at}'::text[])::text AS entry"
        " FROM platform.load_ledger AS t ORDER BY asset, partition_date, load_id DESC) AS newest",
        # Partitions, indexes and constraints: no table half built, none unattached.
        "SELECT 'tables', concat_ws(' ', relnamespace::regnamespace, relname, relkind, relispartition,"
        " pg_get_expr(relpartbound, oid)) FROM pg_class"
        " WHERE relnamespace::regnamespace::text IN ('warehouse', 'marts', 'platform') AND relkind <> 't'",
        "SELECT 'constraints', concat_ws(' ', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))"
        " FROM pg_constraint WHERE connamespace::regnamespace::text IN ('warehouse', 'marts', 'platform')",
    ]
)


@dataclass(frozen=True)
class Picture:
    """The rows of all tables, the files of the lake by what they hold, and those written aside."""

    rows: Rows
    files: dict[str, str]
    aside: tuple[str, ...] = field(default=(), compare=False)


def rows_of(url: str) -> Rows:
    """All tables, in one snapshot."""
    with psycopg.connect(url, options="-c timezone=UTC -c search_path=pg_catalog") as connection:
        return Counter(connection.execute(_QUERY).fetchall())


class Gallery:
    """Takes pictures of a lake; a file whose bytes it has seen is not read again."""

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}

    def take(self, url: str, lake: Path) -> Picture:
        """Both sides. A file that cannot be read whole is told as broken."""
        files, aside = {}, []
        for path in sorted(lake.rglob("*")):
            name = path.relative_to(lake).as_posix()
            if path.is_file() and name.startswith("_aside/"):
                aside.append(name)
            elif path.is_file() and not name.startswith("_locks/"):
                files[name] = self._told(path)
        return Picture(rows_of(url), files, tuple(aside))

    def _told(self, path: Path) -> str:
        content = hashlib.sha256(path.read_bytes()).digest()
        if content not in self._known:
            try:
                stamp = read_stamp(path)
                assert stamp is not None
                frame = pl.read_parquet(path, hive_partitioning=False, glob=False)
                # Quarantine tells which run wrote it, and each run has a name of its own.
                frame = frame.drop("_run_id", strict=False)
                self._known[content] = f"{stamp.to_json()} {content_hash([frame], {})}"
            except Exception as error:
                return f"broken: {type(error).__name__}: {error}"
        return self._known[content]


def age_aside(lake: Path) -> None:
    """What killed runs left aside is swept up after a day: a day passes."""
    then = time.time() - LEFTOVER_AGE - 60
    for path in (lake / "_aside").glob("*"):
        os.utime(path, (then, then))


def between(found: Picture, before: Picture, after: Picture) -> list[str]:
    """Where readers see what is neither of before nor of after: sentences, none if all is well."""
    said = []
    # A publish attaches the years that it will need, empty, before it writes a row.
    with_years = _rows(before.rows) + _structure(after.rows)
    if found.rows not in (before.rows, after.rows, with_years):
        said.append(f"the tables are of neither state ({_differences(found.rows, before.rows)} from before)")
    for name, told in found.files.items():
        replaced = before.files.get(f"{name.removeprefix('_former/').rpartition('/')[0]}/{PART}")
        if name.startswith("_former/") and told == replaced:
            continue  # what is replaced waits there for the next publish
        if told not in (before.files.get(name), after.files.get(name)):
            said.append(f"{name} is of neither state: {told[:200]}")
    said += [f"{name} is gone" for name in before.files if name in after.files and name not in found.files]
    said += _without_quarantine(found)
    return said


def _structure(rows: Rows) -> Rows:
    return Counter({entry: count for entry, count in rows.items() if entry[0] in STRUCTURE})


def _rows(rows: Rows) -> Rows:
    return Counter({entry: count for entry, count in rows.items() if entry[0] not in STRUCTURE})


def _without_quarantine(found: Picture) -> list[str]:
    said = []
    for name, told in found.files.items():
        asset, _, rest = name.partition("/")
        if asset.startswith("stg_") and '"rows_quarantined": 0' not in told:
            content = told.partition('"content": "')[2][:16]
            folder = f"{asset.replace('stg_', 'quarantine_')}/{rest.partition('/')[0]}"
            if f"{folder}/{content}.parquet" not in found.files:
                said.append(f"{name} is there without its quarantine")
    return said


def lost(found: Picture, wanted: Picture) -> int:
    """Rows that are missing and rows that are too many."""
    return (wanted.rows - found.rows).total() + (found.rows - wanted.rows).total()


def unlike(found: Picture, wanted: Picture) -> list[str]:
    """How what was found differs from what was wanted: sentences, none where it is the same."""
    said = []
    if found.rows != wanted.rows:
        said.append(f"the re-run left other tables than a clean run ({_differences(found.rows, wanted.rows)})")
    return said + [
        f"the re-run left another {name} than a clean run: {found.files.get(name, 'gone')[:200]}"
        for name in sorted(found.files.keys() | wanted.files.keys())
        if found.files.get(name) != wanted.files.get(name)
    ]


def _differences(found: Rows, wanted: Rows) -> str:
    parts = []
    for table in sorted({name for name, _ in (found - wanted) + (wanted - found)}):
        missing = [row for name, row in (wanted - found).elements() if name == table]
        extra = [row for name, row in (found - wanted).elements() if name == table]
        example = f", such as {(missing or extra)[0][:160]}"
        parts.append(f"{table}: {len(missing)} missing, {len(extra)} too many{example}")
    return "; ".join(parts)
