"""Several sources of one entity in one partition: raw keeps them apart, staging makes one of them.

In raw the columns of a source bear its name before them (`tills.price`), and its rows have `_file` below that name:
what two sources call alike need not be the same, nor of one type. Pure: frames in, frames out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal

import polars as pl

from data_platform.contracts.contract import Contract
from data_platform.contracts.rules import Measured, measured_each
from data_platform.lake import Stamp, content_hash
from data_platform.sources.config import Source
from data_platform.transforms.staging import (
    ADDED,
    EXAMPLES,
    QUARANTINE,
    StagedDay,
    alive,
    empty_day,
    stage_window,
)

_SPELLED = ("_file", "_row")
# A file's name begins with the day; where there are several sources, with the name of its source.
_NAME_OF_SOURCE = r"^([a-z][a-z0-9_]*)/"


def as_part(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The raw frame of one of several sources as the partition keeps it."""
    return frame.rename(lambda column: column if column in _SPELLED else f"{name}.{column}").with_columns(
        pl.format("{}/{}", pl.lit(name), "_file").alias("_file")
    )


def part_of(raw: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows of one source of a raw partition, still as the partition keeps them."""
    return raw.filter(pl.col("_file").str.starts_with(f"{name}/")).select(_columns_of(raw, name))


def together(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One raw frame of the frames of several sources."""
    whole = pl.concat(parts, how="diagonal")
    return whole.select([*(column for column in whole.columns if column not in _SPELLED), *_SPELLED])


def undeclared(raw: pl.DataFrame, source: Source) -> dict[date | None, list[str]]:
    """By day (None where raw has no _partition) the sources that its rows are of and `source` does not declare.

    '' stands for rows of the time before `sources` were declared.
    """
    day = pl.col("_partition") if "_partition" in raw.columns else pl.lit(None, pl.Date).alias("_partition")
    name = pl.col("_file").str.extract(_NAME_OF_SOURCE).fill_null("")
    found: dict[date | None, list[str]] = {}
    told = (
        raw.select(day, "_file").unique().select("_partition", name.alias("name")).unique().sort("_partition", "name")
    )
    for of, stranger in told.iter_rows():
        if stranger not in (source.sources or {""}):
            found.setdefault(of, []).append(stranger)
    return found


def in_words(strangers: Sequence[str]) -> str:
    """Undeclared sources, as a sentence names them."""
    named = ", ".join(f"`{name}`" for name in strangers if name)
    return " and ".join(part for part in (f"the source {named}" if named else "",
                                          "no source of several" if "" in strangers else "") if part)  # fmt: skip


def _columns_of(raw: pl.DataFrame, name: str) -> list[str]:
    return [column for column in raw.columns if column in ADDED or column.startswith(f"{name}.")]


def stage_deliveries(
    raw: pl.DataFrame, days: Sequence[date], *, contract: Contract, source: Source, timezone: str
) -> Iterator[StagedDay]:
    """As `stage_window`, for one source or several.

    Each source is staged by its own mapping as if it were alone, then what is staged of a day is put together, in the
    order of the sources' names; a day whose sources do not go together has a `refusal`.
    """
    strangers = undeclared(raw, source)
    for staged in _staged(raw, days, contract=contract, source=source, timezone=timezone):
        if staged.day not in strangers:
            yield staged
            continue
        refusal = (
            f"raw has rows of {in_words(strangers[staged.day])}, which sources.yaml does not declare: declare it as it "
            "was, or materialize raw for the day once all that is declared has delivered it."
        )
        yield replace(staged, refusal=refusal)


def _staged(
    raw: pl.DataFrame, days: Sequence[date], *, contract: Contract, source: Source, timezone: str
) -> Iterator[StagedDay]:
    if not source.sources:
        yield from stage_window(raw, days, contract=contract, source=source, timezone=timezone)
        return
    found: dict[date, list[tuple[str, StagedDay]]] = {day: [] for day in days}
    for name in sorted(source.sources):
        part = part_of(raw, name)
        delivered = part.rename(lambda column, of=f"{name}.": column.removeprefix(of))  # type: ignore[misc]
        # The days of a window agree in their columns, and so in their sources; one may have delivered no rows.
        if len(delivered.columns) > len(ADDED):
            for staged in stage_window(
                delivered, days, contract=contract, source=source.sources[name], timezone=timezone
            ):
                found[staged.day].append((name, staged))
    for day, parts in found.items():
        yield _one(day, parts, contract) if parts else empty_day(day, contract=contract, source=source)


def _one(day: date, parts: Sequence[tuple[str, StagedDay]], contract: Contract) -> StagedDay:
    staged = [part for _, part in parts]
    rows = pl.concat(part.rows for part in staged)
    rejected = pl.concat([_named(part.quarantined, name, contract) for name, part in parts], how="diagonal")
    values, errors = _measured(rows, day, staged, contract)
    examples: dict[str, list[dict[str, str]]] = {}
    for part in staged:
        for check, shown in part.examples.items():
            examples[check] = [*examples.get(check, []), *shown][:EXAMPLES]
    return StagedDay(
        day,
        rows,
        rejected,
        _stamp([part.stamp for part in staged], rows, rejected),
        _summed([part.failures for part in staged]),
        examples,
        _summed([part.judged for part in staged]),
        values,
        {**errors, **{name: said for part in staged for name, said in part.errors.items() if name not in values}},
        _refusal([part.stamp for part in staged], contract),
    )


def _refusal(stamps: Sequence[Stamp], contract: Contract) -> str:
    """Why the sources of a day do not go together: a partition has one unit, and knows a column or does not."""
    if len({stamp.unit for stamp in stamps}) > 1:
        return (
            "some of its sources deliver line_number and others do not: set `unit: line` or `unit: order` for the "
            "entity in sources.yaml."
        )
    unknown = [set(stamp.unknown) for stamp in stamps]
    lacking = sorted(name for name in set[str]().union(*unknown) if not all(name in each for each in unknown))
    if lacking and contract.table != "stg_orders":
        return (
            f"some of its sources bring {', '.join(lacking)} and others do not, and what is not brought is unknown, "
            "not empty: map it for each of them in sources.yaml, to a column or a constant, or for none."
        )
    return ""


def _measured(rows: pl.DataFrame, day: date, staged: Sequence[StagedDay], contract: Contract) -> Measured:
    # What no source knows is not measured; that of one alone is measured over its own rows by the rest being null.
    known = [one for one in contract.measures if any(one.name in part.measured for part in staged)]
    frame = rows.with_columns(pl.lit(day).alias("_partition"))
    return measured_each(frame, [day], known, alive(contract))[day]


def _named(quarantined: pl.DataFrame, name: str, contract: Contract) -> pl.DataFrame:
    """Rejected rows with the names of raw again."""
    ours = {*ADDED, *QUARANTINE, *(f"_{key}" for key in contract.key)}
    return quarantined.rename(lambda column: column if column in ours else f"{name}.{column}")


def _stamp(stamps: Sequence[Stamp], rows: pl.DataFrame, rejected: pl.DataFrame) -> Stamp:
    first = [stamp.first_moment for stamp in stamps if stamp.first_moment]
    last = [stamp.last_moment for stamp in stamps if stamp.last_moment]
    names = dict.fromkeys(name for stamp in stamps for name in stamp.totals)
    return replace(
        stamps[0],
        content=content_hash([], {"parts": [stamp.content for stamp in stamps]}),
        rows_delivered=sum(stamp.rows_delivered for stamp in stamps),
        rows_staged=rows.height,
        rows_quarantined=rejected.height,
        rows_duplicate=sum(stamp.rows_duplicate for stamp in stamps),
        unknown=tuple(name for name in stamps[0].unknown if all(name in stamp.unknown for stamp in stamps)),
        first_moment=min(first, default=None),
        last_moment=max(last, default=None),
        totals={name: str(sum(Decimal(stamp.totals.get(name, "0")) for stamp in stamps)) for name in names},
        rejected="" if rejected.is_empty() else content_hash([], {"parts": [stamp.rejected for stamp in stamps]}),
    )


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for one in counts for name in one)
    return {name: sum(one.get(name, 0) for one in counts) for name in names}
