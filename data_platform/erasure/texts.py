"""Texts that may tell of the person by the way: logs, reports, what Dagster and the platform remember of runs.

Nothing should name a person there. This is for what came in nevertheless, such as an id among the examples of a check.
"""

import gzip
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl
import psycopg
import pyarrow as pa
from psycopg import sql

from data_platform.contracts import STAGED
from data_platform.erasure import archives
from data_platform.erasure.person import Erasure
from data_platform.erasure.rows import ID
from data_platform.lake import POINTER_BEGINS, LakePath, read_file
from data_platform.warehouse.connection import connected

# Below DATA_PLATFORM_HOME: what is written for people to read.
FOLDERS = ("logs", "reports", "dagster")
# Of its databases the schemas whose tables hold texts about runs; the star itself is derived anew.
REMEMBERED = "platform"
DAGSTER = "public"
OTHER_IDS = frozenset(name for contract in STAGED.values() for name, column in contract.columns.items()
                      if column.identifier and name != ID)  # fmt: skip


def clean_files(job: Erasure, *, write: bool) -> int:
    """Texts below the home that tell of the person, written anew without; how many there are."""
    return sum(_clean_file(job, path, write=write) for folder in FOLDERS for path in _files(job, folder))


def _files(job: Erasure, folder: str) -> Iterator[Path]:
    for path in sorted((job.settings.home / folder).rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path


def _clean_file(job: Erasure, path: Path, *, write: bool) -> bool:
    try:
        before = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return False  # no text, or gone meanwhile; the search looks at the bytes
    after = job.cleaned(before)
    if after == before:
        return False
    if write:
        aside = path.with_name(f".{path.name}.erasing")
        aside.write_text(after, encoding="utf-8")
        aside.chmod(path.stat().st_mode)
        aside.replace(path)
    return True


def clean_tables(job: Erasure, *, write: bool) -> int:
    """Values of text columns that tell of the person, in the tables about runs; how many there are."""
    with connected(job.warehouse_url) as connection:
        found = _clean_schema(connection, REMEMBERED, job, write=write)
    with connected(job.dagster_url) as connection:
        return found + _clean_schema(connection, DAGSTER, job, write=write)


def _clean_schema(connection: psycopg.Connection, schema: str, job: Erasure, *, write: bool) -> int:
    count = 0
    for table, column, kind in text_columns(connection, [schema]):
        for place, text in _suspects(connection, table, column, job):
            after = job.cleaned(text)
            if after == text:
                continue
            count += 1
            if write:
                statement = sql.SQL("UPDATE {} SET {} = {}::{} WHERE ctid = {}::tid").format(
                    sql.Identifier(*table), sql.Identifier(column), sql.Placeholder(), sql.SQL(kind), sql.Placeholder()
                )
                connection.execute(statement, [after, place])
    return count


def _suspects(
    connection: psycopg.Connection, table: tuple[str, str], column: str, job: Erasure
) -> list[tuple[str, str]]:
    """Where a column holds any of what is looked for, as part of a longer word or not."""
    parts = [*job.needles, f'"{job.customer_id}']
    forms = {form for part in parts for form in (part, _escaped(part))}
    query = sql.SQL(
        "SELECT t.ctid::text, t.{0}::text FROM {1} AS t"
        " WHERE EXISTS (SELECT FROM unnest({2}::text[]) AS part WHERE strpos(t.{0}::text, part) > 0)"
    ).format(sql.Identifier(column), sql.Identifier(*table), sql.Literal(sorted(forms)))
    return connection.execute(query).fetchall()


def _escaped(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode().replace('"', '\\"')


def text_columns(connection: psycopg.Connection, schemas: list[str]) -> list[tuple[tuple[str, str], str, str]]:
    """The columns of the tables of `schemas` that can hold a text: table, column, type."""
    rows = connection.execute(
        """
        SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, NULL)
        FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY(%s) AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
            AND a.atttypid = ANY ('{text, varchar, json, jsonb, text[]}'::regtype[])
        ORDER BY 1, 2, a.attnum
        """,
        [schemas],
    ).fetchall()
    return [((schema, table), column, kind) for schema, table, column, kind in rows]


def leftovers(job: Erasure) -> list[str]:
    """Where anything that tells of the person still stands: places, never values. Landing is not looked at.

    A product or an order may bear the very id: columns of other ids are passed over. A file that cannot be read is
    told of, too. Raises SourceUnavailable where an archive of retention is away.
    """
    held = [file.path for file in job.lake.files("") if file.path.name.endswith(".parquet")]
    held += archives.parquet_files(job)
    found = [str(path) for path in held if _file_tells(job, path)]
    for folder in (*FOLDERS, "archive"):
        found += [str(path) for path in _files(job, folder) if _bytes_tell(job, path)]
    for url, schemas in ((job.warehouse_url, ["warehouse", "marts", REMEMBERED]), (job.dagster_url, [DAGSTER])):
        with connected(url, writes=False) as connection:
            for table, column, _ in text_columns(connection, schemas):
                suspects = [] if column in OTHER_IDS else _suspects(connection, table, column, job)
                if any(job.cleaned(text) != text for _, text in suspects):
                    found.append(f"{'.'.join(table)}.{column}")
    return found


def _file_tells(job: Erasure, path: LakePath) -> bool:
    try:
        frame = read_file(path)
    except FileNotFoundError:
        return False
    except pl.exceptions.PolarsError:
        # A pointer to an archive names files of a delivery, and nobody.
        return not path.read_bytes().startswith(POINTER_BEGINS)
    passed_over = {part.spec(name).source or name for source in job.sources.values()
                   for part in (source, *source.sources.values()) for name in OTHER_IDS}  # fmt: skip
    for name, dtype in frame.schema.items():
        if (dtype == pl.String or dtype.is_nested()) and name.rpartition(".")[2].lstrip("_") not in passed_over:
            text = frame.select(name).unique().write_ndjson()
            if job.cleaned(text) != text:
                return True
    return False


def _bytes_tell(job: Erasure, path: Path) -> bool:
    content = b""
    with suppress(OSError):
        content = path.read_bytes()
    if path.suffix == ".gz":
        with suppress(OSError, EOFError):
            content = gzip.decompress(content)
    if path.suffix == ".zst":
        with suppress(OSError, pa.ArrowException):
            content = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    if path.suffix == ".parquet":
        return _file_tells(job, path)
    text = content.decode(errors="replace")
    return job.cleaned(text) != text
