"""What waits in quarantine: the rejected rows of the staged partitions, their reasons, and how they may be shown.

Reads only. Rows leave by a replay (`commands/quarantine.py`), which stages their partitions again. The rows of a
delivery that was rejected as a whole are not here: what stood before that delivery stands, with its own quarantine.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import polars as pl

from data_platform.contracts import STAGED
from data_platform.contracts.contract import Column, Contract
from data_platform.errors import DeliveryRejected, PlatformError, SourceUnavailable
from data_platform.lake import DELETED, Lake, LakePath, over_files, read_file, read_stamp
from data_platform.quality.masking import AT_SIGNS, MASK, masked_expr
from data_platform.sources.config import Source
from data_platform.sources.mapping import find_delivered, without_blanks
from data_platform.transforms.staging import delivered_columns

R = TypeVar("R")

# Of files that were written before the platform noted the run and the contract.
UNKNOWN = "unknown"
PLACE = ("_table", "_partition", "_file", "_row", "_reasons", "_run_id", "_contract")

# Spreadsheets run a cell that begins so, some also behind blanks or in the wide forms of East Asian keyboards.
_SIGNS = r"[=+\-@＝＋－＠]"
_FORMULA = rf"^[\s\x00]*{_SIGNS}|^[\t\r\n]"
# The same behind what a spreadsheet may split at: there it would begin a cell of its own.
_FORMULA_WITHIN = rf"""([;,|\t\r\n][\s\x00"]*)({_SIGNS})"""
# A sign before digits and decimal or thousands marks computes nothing, and must stay a number.
_NUMBER = r"^ *[+-](?:[0-9]+(?:[.,][0-9]+)*|[.,][0-9]+)(?:[eE][+-]?[0-9]+)? *$"
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class Waiting:
    """A staged partition of which `rows` were rejected; `path` is the file that has them."""

    entity: str
    day: date
    rows: int
    path: LakePath

    @property
    def contract(self) -> Contract:
        """The contract of the staged table."""
        return STAGED[self.entity]

    @property
    def table(self) -> str:
        """The staged table."""
        return self.contract.table

    def age(self, today: date) -> int:
        """Days since the delivery: the file's own time says only when it was last written."""
        return (today - self.day).days


def waiting(
    lake: Lake, *, entity: str | None = None, first: date | None = None, last: date | None = None
) -> list[Waiting]:
    """The partitions (of `entity`, of the days from first to last) that have rejected rows, by table and day."""
    found = []
    for name, contract in STAGED.items():
        if entity not in (None, name):
            continue
        days = [day for day in lake.days(contract.table) if (first or day) <= day <= (last or day)]
        for day, stamp in lake.stamps(contract.table, days).items():
            if stamp.rows_quarantined:
                path = lake.quarantine_path(contract.table, day, stamp)
                found.append(Waiting(name, day, stamp.rows_quarantined, path))
    return found


def standing(lake: Lake, tables: Collection[str]) -> dict[str, set[date]]:
    """Of each staged table the days whose staging is of what raw holds: to stage them again changes nothing by itself.

    Not among them are days that were never staged, those whose rows raw has no more, and those whose newest delivery
    was rejected: raw holds it, with another number of rows. One of as many rows cannot be told from what stands.
    """
    found = {}
    for table in tables:
        raw, staged = lake.stamps(f"raw_{table.removeprefix('stg_')}"), lake.stamps(table)
        found[table] = {
            day
            for day in raw.keys() & staged.keys()
            if raw[day].moved != DELETED
            and (raw[day].delivered, raw[day].rows_delivered) == (staged[day].delivered, staged[day].rows_delivered)
        }
    return found


def rows_in_clear(partitions: Sequence[Waiting]) -> pl.DataFrame:
    """The rejected rows with all their personal data: only for a file that goes to the source's owners.

    Columns: those of PLACE (`_partition` a date, `_reasons` a list of texts), then every delivered column as text,
    null where the row's file lacks it. Rows are in the order of table, day, file and row. Raises PlatformError for a
    file that is gone or broken.
    """
    return _together(_of_each(_read, partitions))


def masked_rows(partitions: Sequence[Waiting], sources: Mapping[str, Source]) -> pl.DataFrame:
    """As `rows_in_clear`, with MASK for every given value that is not known to be free of personal data.

    Clear are the columns that `sources` map to a column of the contract that is not marked pii. Of these, too, a value
    with an @ is masked, as is an address in the name of a file, and in a table with personal data one that cannot be
    read as its type: it may be a neighbour's.
    """
    return _together(_of_each(lambda one: _masked(_read(one), one, sources), partitions))


def all_described(partitions: Sequence[Waiting]) -> list[dict[str, Any]]:
    """`described` of each."""
    return _of_each(described, partitions)


def described(one: Waiting) -> dict[str, Any]:
    """One partition in figures: its most frequent reason with its rows, the run that staged it, its contract."""
    rows = _read(one)
    reasons = rows.explode("_reasons").group_by("_reasons").len().sort("len", "_reasons", descending=[True, False])
    reason, count = reasons.row(0)
    return {
        "entity": one.entity,
        "table": one.table,
        "day": one.day,
        "rows": one.rows,
        "reasons": reasons.height,
        "most_frequent_reason": reason,
        "rows_with_it": count,
        "run_id": rows.item(0, "_run_id"),
        "contract": rows.item(0, "_contract"),
    }


def by_reason(rows: pl.DataFrame) -> pl.DataFrame:
    """Of `rows_in_clear` or `masked_rows`: _table, reason, rows, days, first_day, last_day, files; the most rows first.

    A row with several reasons counts under each of them.
    """
    return (
        rows.explode("_reasons")
        .group_by("_table", reason="_reasons")
        .agg(
            rows=pl.len(),
            days=pl.col("_partition").n_unique(),
            first_day=pl.col("_partition").min(),
            last_day=pl.col("_partition").max(),
            files=pl.col("_file").n_unique(),
        )
        .sort("rows", "_table", "reason", descending=[True, False, False])
    )


def examples(rows: pl.DataFrame, table: str, reason: str, count: int) -> list[dict[str, Any]]:
    """The first rows of a table that have a reason: day, file, row, all reasons, and the values that are given."""
    chosen = rows.filter((pl.col("_table") == table) & pl.col("_reasons").list.contains(reason)).head(count)
    return [
        {
            "day": row["_partition"],
            "file": row["_file"],
            "row": row["_row"],
            "reasons": row["_reasons"],
            "values": {name: value for name, value in row.items() if name not in PLACE and value is not None},
        }
        for row in chosen.iter_rows(named=True)
    ]


def spreadsheet_csv(rows: pl.DataFrame) -> str:
    """`rows` as csv that no spreadsheet takes for formulas: before what begins one stands an apostrophe.

    So in headers as in values, at the start of a cell and behind a semicolon, comma, bar, tab or line break, where
    programs may split it. Negative numbers that are a whole cell, and dates, stay as they are. It begins with a byte
    order mark, without which Excel reads UTF-8 as something else; every cell is quoted; reasons are joined by ` | `.
    """
    names = pl.DataFrame({"name": rows.columns}).select(_harmless(pl.col("name"))).to_series().to_list()
    header = pl.DataFrame([names], schema=[str(n) for n in range(len(names))], orient="row")
    texts = rows.with_columns(pl.col("_reasons").list.join(" | "))
    texts = texts.with_columns(_harmless(pl.col(name)) for name, dtype in texts.schema.items() if dtype == pl.String)
    return _BYTE_ORDER_MARK + "".join(
        frame.write_csv(include_header=False, quote_style="always") for frame in (header, texts)
    )


def _harmless(text: pl.Expr) -> pl.Expr:
    formula = text.str.contains(_FORMULA) & ~text.str.contains(_NUMBER)
    within = text.str.replace_all(_FORMULA_WITHIN, "${1}'${2}")
    return pl.when(formula).then(pl.lit("'") + within).otherwise(within).name.keep()


def _of_each(function: Callable[[Waiting], R], partitions: Sequence[Waiting]) -> list[R]:
    return over_files(lambda _, one: function(one), [one.path for one in partitions], partitions)


def _read(one: Waiting) -> pl.DataFrame:
    """The rows of one partition by the columns of PLACE and every delivered one, as text and in the clear."""
    if read_stamp(one.path) is None:
        raise PlatformError(
            f"The rejected rows of {one.table} {one.day} are gone from the lake ({one.path}): `data-platform backfill "
            f"--from {one.day} --to {one.day} --select {one.table}` writes them again."
        )
    try:
        frame = read_file(one.path)
    except (OSError, pl.exceptions.ComputeError):
        raise SourceUnavailable(
            f"The rejected rows of {one.table} {one.day} cannot be read ({one.path}): see that the disk works; if the "
            "file is broken, delete it and materialize that partition again."
        ) from None
    keys = {f"_{name}" for name in one.contract.key}
    delivered = [name for name in frame.columns if name not in PLACE and name not in keys]
    if "_table" in frame.columns:  # the only name of PLACE that a source may have delivered
        delivered.append("_table")
    return frame.select(
        pl.lit(one.table).alias("_table"),
        pl.lit(one.day, pl.Date).alias("_partition"),
        "_file",
        "_row",
        "_reasons",
        *(_noted(name, frame) for name in ("_run_id", "_contract")),
        *(_as_text(name, frame.schema[name]).alias(_apart(name, frame.columns)) for name in delivered),
    )


def _noted(name: str, frame: pl.DataFrame) -> pl.Expr:
    noted = pl.col(name).fill_null(UNKNOWN) if name in frame.columns else pl.lit(UNKNOWN)
    return noted.alias(name)


def _apart(name: str, names: Collection[str]) -> str:
    """A delivered name that is ours as well, as one that nothing else bears."""
    if name not in PLACE:
        return name
    apart = f"delivered{name}"
    while apart in names:
        apart = f"{apart}_"
    return apart


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(name)
    if isinstance(dtype, pl.Binary):
        return value.map_elements(lambda held: held.decode(errors="replace"), return_dtype=pl.String)
    if isinstance(dtype, pl.Duration):
        return value.dt.to_string("iso")
    if dtype.is_nested():
        return pl.struct(value).struct.json_encode()
    return value.cast(pl.String)


def _together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    none = pl.DataFrame(
        schema=dict.fromkeys(PLACE, pl.String)
        | {"_partition": pl.Date, "_row": pl.Int64, "_reasons": pl.List(pl.String)}
    )
    return pl.concat([none, *frames], how="diagonal_relaxed")


def _masked(rows: pl.DataFrame, one: Waiting, sources: Mapping[str, Source]) -> pl.DataFrame:
    delivered = [name for name in rows.columns if name not in PLACE]
    clear = _free_of_personal_data(delivered, one, sources)
    return rows.with_columns(
        masked_expr(pl.col("_file")),
        *(
            pl.when(_given(name) & (_suspect(name, clear[name], one.contract) if name in clear else True))
            .then(pl.lit(MASK))
            .when(_given(name))
            .then(name)
            .alias(name)
            for name in delivered
        ),
    )


def _given(name: str) -> pl.Expr:
    return without_blanks(pl.col(name)).is_not_null()


def _suspect(name: str, column: Column, contract: Contract) -> pl.Expr:
    suspect = pl.col(name).str.contains(f"[{AT_SIGNS}]")
    if contract.pii_columns:
        # As staging words it; a test holds the two together.
        unread = f"{column.name} cannot be read as {column.type_name}"
        suspect = suspect | pl.col("_reasons").list.contains(unread)
    return suspect


def _free_of_personal_data(delivered: Sequence[str], one: Waiting, sources: Mapping[str, Source]) -> dict[str, Column]:
    """The delivered columns of which it is known that they hold no personal data, with the column that each becomes."""
    source = sources[one.entity]
    names = [name for name in delivered if not name.startswith("_")]  # others are never mapped
    personal = {
        _folded(name)
        for entity, contract in STAGED.items()
        for column in contract.pii_columns
        for part in (sources[entity], *sources[entity].sources.values())
        for name in (column, part.spec(column).source or column)
    }
    clear: dict[str, Column] = {}
    for prefix, part in {f"{name}.": part for name, part in source.sources.items()}.items() or [("", source)]:
        own = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        for column in delivered_columns(one.contract):
            if part.spec(column).constant is not None:
                continue
            try:
                found = find_delivered(column, part, own)
            except DeliveryRejected:
                continue  # the mapping of today cannot tell which of them is meant
            # A mapping that waits to be mended may call an e-mail address a segment.
            if found is not None and _folded(found) not in personal:
                clear[f"{prefix}{found}"] = one.contract.columns[column]
    return clear


def _folded(name: str) -> str:
    return name.strip().casefold()
