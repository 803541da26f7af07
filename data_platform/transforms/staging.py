"""Raw rows → staged rows and quarantine, by the section Staging of the semantics. Pure: frames in, frames out.

A window is any number of deliveries whose raw columns agree in name and type; all of it is done in one pass, each
delivery as if it were alone. What a delivery means never depends on the others of its window.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from functools import reduce
from operator import or_

import polars as pl

from data_platform.contracts.contract import Column, Contract
from data_platform.contracts.orders import TOMBSTONE_STATUS
from data_platform.contracts.rules import is_row_by_row, marks, measured_each
from data_platform.lake import Stamp, content_hash, with_moments
from data_platform.quality.masking import masked
from data_platform.sources.config import Source
from data_platform.sources.evolution import declared
from data_platform.sources.mapping import (
    apply_mapping,
    find_delivered,
    parse_boolean,
    parse_date,
    parse_decimal,
    parse_instant,
    parse_integer,
    parse_text,
    parse_timestamp,
    without_blanks,
)
from data_platform.transforms.business_day import start_of

# Part of every content hash: a change of what staging or the load engine make of the same values.
ENGINE_VERSION = 1
ID_LENGTH = 200
EXAMPLES = 10
LINEAGE = ("_moment", "_file", "_row")
# What the platform adds to a raw row; any other column of a raw frame was delivered.
ADDED = ("_partition", "_file", "_row")
# What quarantine adds to a delivered row, beside the keys: all reasons, and who rejected it by which contract.
QUARANTINE = ("_reasons", "_run_id", "_contract")
# Of the staged columns, those that the platform derives and no source delivers.
DERIVED = {"stg_orders": ("is_tombstone", "total_amount"), "stg_products": (), "stg_customers": ()}

VALUES_CAN_BE_READ = "values_can_be_read"
REQUIRED_ARE_GIVEN = "required_values_are_given"
IDS_ARE_SOUND = "ids_are_sound"
NOT_FROM_THE_FUTURE = "updated_at_not_in_the_future"
ONE_CURRENCY = "one_currency"
DECLARED = "columns_are_declared"
GENERAL_CHECKS = {
    VALUES_CAN_BE_READ: "Every value can be read exactly as its column's type.",
    REQUIRED_ARE_GIVEN: "Required values are given.",
    IDS_ARE_SOUND: f"Ids have at most {ID_LENGTH} characters, and no text holds a NUL.",
    NOT_FROM_THE_FUTURE: "updated_at is not later than the end of the day after the delivery: it would win for ever.",
    ONE_CURRENCY: "Rows that declare a currency declare the platform's (where sources.yaml sets one).",
    DECLARED: "Under `schema_changes: quarantine` no row has a value in a column that is new or of another type, or "
    "lacks a mapped one.",
}


@dataclass(frozen=True)
class StagedDay:
    """One delivery after staging: its rows, its rejected rows, its stamp, and how each check came out.

    `failures` counts rows by check and `judged` those that each rule looked at; `measured` has the contract's measures,
    `errors` the rules that could not be judged. `refusal`: why it cannot be taken, whatever its rows are.
    """

    day: date
    rows: pl.DataFrame
    quarantined: pl.DataFrame
    stamp: Stamp
    failures: Mapping[str, int]
    examples: Mapping[str, list[dict[str, str]]]
    judged: Mapping[str, int] = field(default_factory=dict)
    measured: Mapping[str, float | None] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""


@dataclass(frozen=True)
class _Break:
    """A way to break a check: what is written into quarantine, and where it is the case."""

    check: str
    reason: str
    where: pl.Expr


def delivered_columns(contract: Contract) -> list[str]:
    """The canonical columns that a source may deliver."""
    return [name for name in contract.columns if name not in DERIVED[contract.table]]


def required_columns(contract: Contract) -> list[str]:
    """The canonical columns that a source must deliver."""
    return [name for name, column in contract.columns.items() if column.required]


def unit_of(source: Source, delivered: Sequence[str]) -> str:
    """How orders are told: as lines, or (by default where no line_number is delivered) as whole orders."""
    numbered = source.spec("line_number").constant is not None or find_delivered("line_number", source, delivered)
    return source.unit or ("line" if numbered else "order")


def stage_window(
    raw: pl.DataFrame, days: Sequence[date], *, contract: Contract, source: Source, timezone: str
) -> Iterator[StagedDay]:
    """Stage the deliveries of `days`: `raw` has their rows with _partition, _file and _row, in the order delivered."""
    window = _Window(contract, source, timezone, unit_of(source, _delivered(raw)), _delivered(raw))
    kept = raw if source.exact_copies == "keep" else without_exact_copies(raw)
    typed, breaks = _typed(kept, days, window)
    ruled = _ruled(typed, contract)
    broken = pl.concat(
        [
            typed.select(way.where.fill_null(False).alias(f"break_{n}") for n, way in enumerate(breaks)),
            ruled.broken.rename(lambda name: f"rule_{name}"),
        ],
        how="horizontal",
    )
    critical = [*breaks, *(
        _Break(rule.name, f"{rule.name}: {rule.description}", pl.lit(False))
        for rule in contract.rules if rule.severity == "critical"
    )]  # fmt: skip
    names = [f"break_{n}" for n in range(len(breaks))]
    names += [f"rule_{rule.name}" for rule in contract.rules if rule.severity == "critical"]
    rejected = broken.select(reduce(or_, (pl.col(name) for name in names))).to_series()
    staged = typed.filter(~rejected).select("_partition", *contract.columns, *LINEAGE)
    contract.validate(staged)
    reasons = pl.concat_list(
        [pl.when(name).then(pl.lit(way.reason)) for name, way in zip(names, critical, strict=True)]
    ).list.drop_nulls()  # fmt: skip
    keys = [_presence(contract.columns[name]).alias(f"_{name}") for name in contract.key]
    quarantined = pl.concat(
        [
            kept.filter(rejected).rename(_out_of_the_way(kept.columns, contract)),
            broken.filter(rejected).select(reasons.alias("_reasons")),
            typed.filter(rejected).select(keys),
        ],
        how="horizontal",
    )
    checks: dict[str, list[str]] = {way.check: [] for way in breaks}
    checks |= {rule.name: [f"rule_{rule.name}"] for rule in contract.rules}
    for n, way in enumerate(breaks):
        checks[way.check].append(f"break_{n}")
    verdicts = broken.select(reduce(or_, map(pl.col, columns)).alias(check) for check, columns in checks.items())
    # Of a column that is not delivered nothing is known: it is not a column of nulls.
    known = [one for one in contract.measures if not set(one.value.meta.root_names()) & set(window.unknown)]
    measures = measured_each(staged, days, known, alive(contract))
    for day in _by_day(raw, kept, typed, staged, quarantined, verdicts, days, window):
        values, errors = measures[day.day]
        yield replace(
            day,
            measured=values,
            judged=ruled.judged.get(day.day, {}),
            errors={**errors, **ruled.errors.get(day.day, {})},
        )


@dataclass(frozen=True)
class _Ruled:
    """Where rows break the contract's rules, a column each; by day how many rows each judged, and its errors."""

    broken: pl.DataFrame
    judged: Mapping[date, Mapping[str, int]]
    errors: Mapping[date, Mapping[str, str]]


def _ruled(typed: pl.DataFrame, contract: Contract) -> _Ruled:
    """The rules of rows. What one says of a delivery must not depend on which others are staged with it.

    So all deliveries are judged in one pass only by rules that look at each row alone, and raise nowhere.
    """
    living = alive(contract)
    at_once = [rule for rule in contract.rules if is_row_by_row(rule)]
    whole = marks(typed, at_once, living)
    if whole.errors:
        at_once = []
    apart = [rule for rule in contract.rules if rule not in at_once]
    days = typed.select("_partition", alive=living.fill_null(True)).group_by("_partition")
    rows = {day: (count, living) for day, count, living in days.agg(pl.len(), pl.col("alive").sum()).iter_rows()}
    judged = {
        day: {rule.name: count if rule.tombstones else living for rule in contract.rules}
        for day, (count, living) in rows.items()
    }
    found = {day: marks(part, apart, living) for day, part in _deliveries(typed)} if apart else {}
    parts = [one.broken for one in found.values()]
    names = [rule.name for rule in contract.rules]
    empty = pl.DataFrame(schema=dict.fromkeys((rule.name for rule in apart), pl.Boolean()))
    broken = pl.concat([*([whole.broken] if at_once else []), pl.concat([empty, *parts])], how="horizontal")
    return _Ruled(broken.select(names), judged, {day: one.errors for day, one in found.items()})


def _deliveries(typed: pl.DataFrame) -> list[tuple[date, pl.DataFrame]]:
    """The rows of each delivery: those of a window come delivery by delivery."""
    runs = typed.select(pl.col("_partition").rle().alias("run")).unnest("run")
    ends = runs.get_column("len").cum_sum()
    return [
        (day, typed.slice(end - length, length))
        for day, length, end in zip(runs.get_column("value"), runs.get_column("len"), ends, strict=True)
    ]


@dataclass(frozen=True)
class _Window:
    contract: Contract
    source: Source
    timezone: str
    unit: str
    delivered: list[str]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Canonical columns that the deliveries lack as a whole."""
        return tuple(
            name
            for name in delivered_columns(self.contract)
            if self.source.spec(name).constant is None and find_delivered(name, self.source, self.delivered) is None
        )


def _delivered(raw: pl.DataFrame) -> list[str]:
    return [name for name in raw.columns if not name.startswith("_")]


def alive(contract: Contract) -> pl.Expr:
    """Which staged rows are no tombstones and no deletions."""
    tombstone = "is_tombstone" if "is_tombstone" in contract.columns else "is_deleted"
    return ~pl.col(tombstone).fill_null(False)


def _presence(key: Column) -> pl.Expr:
    """A rejected row's key, which counts as present; a text that Postgres cannot hold is the key of nothing."""
    value = pl.col(key.name)
    return pl.when(~value.str.contains("\0", literal=True)).then(value) if isinstance(key.dtype, pl.String) else value


def _out_of_the_way(columns: Sequence[str], contract: Contract) -> dict[str, str]:
    """New names for delivered columns that bear the name of one that quarantine adds."""
    names: dict[str, str] = {}
    for name in (*QUARANTINE, *(f"_{name}" for name in contract.key)):
        if name in columns:
            other = f"delivered{name}"
            while other in columns or other in names.values():
                other = f"delivered_{other}"
            names[name] = other
    return names


def without_exact_copies(raw: pl.DataFrame) -> pl.DataFrame:
    """`raw` without rows that equal an earlier one of the same delivery in every delivered column after trimming."""
    trimmed = raw.select(
        pl.struct(
            "_partition",
            *(
                without_blanks(pl.col(name), dtype=dtype).alias(name)
                for name, dtype in raw.schema.items()
                if name not in ADDED
            ),
        ).alias("row")
    )
    # Few rows are copies: hashes find who may be one, and only those are compared.
    suspects = trimmed.select(pl.col("row").hash().is_duplicated()).to_series().arg_true()
    if suspects.is_empty():
        return raw
    copies = suspects.filter(~trimmed[suspects].select(pl.col("row").is_first_distinct()).to_series())
    return raw.filter(~pl.int_range(pl.len(), dtype=pl.UInt32).is_in(copies.implode()))


def _typed(kept: pl.DataFrame, days: Sequence[date], window: _Window) -> tuple[pl.DataFrame, list[_Break]]:
    """The rows with the contract's columns (null where a value cannot be read) and the context that rules look at."""
    contract, source = window.contract, window.source
    mapped = apply_mapping(kept, source, delivered_columns(contract))
    breaks: list[_Break] = []
    values = []
    for name in delivered_columns(contract):
        column = contract.columns[name]
        if name not in mapped.columns:
            values.append(pl.lit(None, dtype=column.dtype).alias(name))
            continue
        dtype = mapped.schema[name]
        value = _value(column, pl.col(name), dtype, window)
        values.append(value)
        given = f"_given_{name}"
        values.append(without_blanks(pl.col(name), dtype=dtype).is_not_null().alias(given))
        fault = f"{name} cannot be read as {column.type_name}"
        breaks.append(_Break(VALUES_CAN_BE_READ, fault, pl.col(given) & pl.col(name).is_null()))
        if isinstance(column.dtype, pl.String):
            breaks.append(_Break(IDS_ARE_SOUND, f"{name} holds a NUL", pl.col(name).str.contains("\0", literal=True)))
        if column.identifier:
            too_long = pl.col(name).str.len_chars() > ID_LENGTH
            breaks.append(_Break(IDS_ARE_SOUND, f"{name} has more than {ID_LENGTH} characters", too_long))
    context = [pl.col("_partition"), pl.col("_file"), pl.col("_row")]
    if source.currency is not None and (declared := find_delivered("currency", source, window.delivered)):
        currency = kept.select(parse_text(pl.col(declared), dtype=kept.schema[declared])).to_series()
        mapped = mapped.with_columns(currency.alias("_currency"))
        context.append(pl.col("_currency"))
        breaks.append(
            _Break(ONE_CURRENCY, f"currency is not {source.currency}", pl.col("_currency") != source.currency)
        )
    for number, (reason, where) in enumerate(_undeclared(kept, window)):
        mapped = mapped.with_columns(kept.select(where.alias(f"_undeclared_{number}")).to_series())
        context.append(pl.col(f"_undeclared_{number}"))
        breaks.append(_Break(DECLARED, reason, pl.col(f"_undeclared_{number}")))
    typed = mapped.select(*values, *context).join(
        _calendar(days, window), on="_partition", how="left", maintain_order="left"
    )
    typed = _finished_orders(typed, window) if contract.table == "stg_orders" else _finished_members(typed, window)
    for name, column in contract.columns.items():
        if name in contract.key:
            breaks.append(_Break(REQUIRED_ARE_GIVEN, f"{name} is not given", _missing(name, typed)))
        elif column.required:
            breaks.append(_Break(REQUIRED_ARE_GIVEN, f"{name} is not given", _missing(name, typed) & alive(contract)))
    late = pl.col("updated_at") >= pl.col("_after_next_utc")
    breaks.append(_Break(NOT_FROM_THE_FUTURE, "updated_at is in the future of the delivery", late))
    return typed, breaks


def _undeclared(kept: pl.DataFrame, window: _Window) -> list[tuple[str, pl.Expr]]:
    """Under `schema_changes: quarantine` the ways in which delivered columns are not declared, and in which rows."""
    if window.source.schema_changes != "quarantine":
        return []
    ways = []
    for change in declared(kept.schema, window.source, window.contract, delivered_columns(window.contract)):
        every = pl.repeat(True, pl.len(), dtype=pl.Boolean)
        given = without_blanks(pl.col(change.column), dtype=kept.schema.get(change.column, pl.String())).is_not_null()
        ways.append((f"the column {change.in_words()}", every if change.kind == "missing" else given))
    return ways


def _missing(name: str, typed: pl.DataFrame) -> pl.Expr:
    # A value that was given and cannot be read has a reason of its own.
    given = f"_given_{name}"
    missing = pl.col(name).is_null()
    return missing & ~pl.col(given) if given in typed.columns else missing


def _value(column: Column, expr: pl.Expr, dtype: pl.DataType, window: _Window) -> pl.Expr:
    spec = window.source.spec(column.name)
    zone = spec.timezone or window.timezone
    comma = spec.decimal == "comma"
    target = column.dtype
    if isinstance(target, pl.String):
        value = parse_text(expr, dtype=dtype) if column.identifier else _plain_text(expr, dtype)
    elif isinstance(target, pl.Decimal):
        value = parse_decimal(expr, comma=comma, dtype=dtype, precision=target.precision or 38, scale=target.scale)
    elif target.is_integer():
        value = parse_integer(expr, comma=comma, dtype=dtype).cast(target, strict=False)
    elif isinstance(target, pl.Boolean):
        value = parse_boolean(expr, dtype=dtype)
    elif isinstance(target, pl.Date):
        value = parse_date(
            expr, format=spec.format, source_timezone=zone, business_timezone=window.timezone, dtype=dtype
        )
    elif isinstance(target, pl.Datetime) and target.time_zone:
        value = parse_instant(expr, format=spec.format, source_timezone=zone, dtype=dtype)
    else:
        value = parse_timestamp(
            expr, format=spec.format, source_timezone=zone, business_timezone=window.timezone, dtype=dtype
        )
    return value.alias(column.name)


def _plain_text(expr: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return without_blanks(expr, dtype=dtype) if isinstance(dtype, pl.String) else parse_text(expr, dtype=dtype)


def _calendar(days: Sequence[date], window: _Window) -> pl.DataFrame:
    two = timedelta(days=2)
    return pl.DataFrame(
        {
            "_partition": list(days),
            "_day_start": [start_of(day, window.timezone) for day in days],
            "_after_next_utc": [start_of(day + two, window.timezone) for day in days],
            "_day_after_next": [datetime.combine(day + two, time()) for day in days],
        },
        schema={
            "_partition": pl.Date,
            "_day_start": pl.Datetime("us", "UTC"),
            "_after_next_utc": pl.Datetime("us", "UTC"),
            "_day_after_next": pl.Datetime("us"),
        },
    )


def _finished_orders(typed: pl.DataFrame, window: _Window) -> pl.DataFrame:
    whole = window.unit == "order"
    if whole:
        typed = typed.with_columns(line_number=_line_number(typed))
    dead = pl.col("status").str.to_lowercase().is_in(TOMBSTONE_STATUS).fill_null(False)
    if not whole:
        dead = dead | (pl.col("quantity") == 0).fill_null(False)
    floor = datetime.combine(window.source.order_floor, time())
    return typed.with_columns(
        discount_amount=_default("discount_amount", window.contract, typed),
        is_tombstone=dead,
        _moment=pl.coalesce("updated_at", "_day_start"),
        _floor=pl.lit(floor, dtype=pl.Datetime("us")),
    ).with_columns(total_amount=_total())


def _line_number(typed: pl.DataFrame) -> pl.Expr:
    """Lines numbered as delivered (quarantined rows count, exact copies are gone), unless all of an order have one."""
    order = ("_partition", "order_id")
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over(order)
    if "_given_line_number" not in typed.columns:
        return number
    return pl.when(pl.col("_given_line_number").all().over(order)).then("line_number").otherwise(number)


def _default(name: str, contract: Contract, typed: pl.DataFrame) -> pl.Expr:
    """The column with its default for null: what was given and cannot be read stays null, and is no default."""
    column = contract.columns[name]
    return pl.when(~_missing(name, typed)).then(name).otherwise(pl.lit(column.default, dtype=column.dtype))


def _total() -> pl.Expr:
    gross = pl.col("unit_price").cast(pl.Decimal(38, 4)) * pl.col("quantity")
    return (gross - pl.col("discount_amount")).cast(pl.Decimal(18, 4), strict=False)


def _finished_members(typed: pl.DataFrame, window: _Window) -> pl.DataFrame:
    # The rows of a full delivery tell the state of its day, whatever they say of when they changed.
    moment = pl.col("_day_start") if window.source.mode == "full" else pl.coalesce("updated_at", "_day_start")
    return typed.with_columns(is_deleted=_default("is_deleted", window.contract, typed), _moment=moment)


def _by_day(
    raw: pl.DataFrame,
    kept: pl.DataFrame,
    typed: pl.DataFrame,
    staged: pl.DataFrame,
    quarantined: pl.DataFrame,
    verdicts: pl.DataFrame,
    days: Sequence[date],
    window: _Window,
) -> Iterator[StagedDay]:
    contract = window.contract
    delivered = dict(raw.group_by("_partition").len().iter_rows())
    unique = dict(kept.group_by("_partition").len().iter_rows())
    failures = {
        row.pop("_partition"): row
        for row in pl.concat([typed.select("_partition"), verdicts], how="horizontal")
        .group_by("_partition")
        .sum()
        .iter_rows(named=True)
    }
    examples = _examples(typed, verdicts, window)
    staged_by_day = staged.partition_by("_partition", as_dict=True, include_key=False)
    rejected_by_day = quarantined.partition_by("_partition", as_dict=True, include_key=False)
    meaning = {"contract": contract.fingerprint(), "mode": window.source.mode, "unit": window.unit,
               "unknown": window.unknown, "engine": ENGINE_VERSION, "timezone": window.timezone}  # fmt: skip
    key_names = [f"_{name}" for name in contract.key]
    for day in days:
        rows = staged_by_day.get((day,), staged.clear().drop("_partition"))
        rejected = rejected_by_day.get((day,), quarantined.clear().drop("_partition"))
        first, last = rows.select(first=pl.col("_moment").min(), last=pl.col("_moment").max()).row(0)
        stamp = Stamp(
            content=content_hash([rows, rejected.select("_file", "_row", *key_names)], meaning | {"day": day}),
            rows_delivered=delivered.get(day, 0),
            rows_staged=rows.height,
            rows_quarantined=rejected.height,
            rows_duplicate=delivered.get(day, 0) - unique.get(day, 0),
            mode=window.source.mode,
            unit=window.unit,
            unknown=window.unknown,
            contract=contract.fingerprint(),
            totals=control_totals(rows),
            # Apart from the content: what a rejected row says changes nothing that is published.
            rejected="" if rejected.is_empty() else content_hash([rejected], {}),
        )
        yield StagedDay(
            day,
            rows,
            rejected,
            with_moments(stamp, first, last),
            failures.get(day, dict.fromkeys(verdicts.columns, 0)),
            examples.get(day, {}),
        )


def empty_day(day: date, *, contract: Contract, source: Source) -> StagedDay:
    """A day for which nothing was delivered: no rows, and it says so."""
    rows = contract.polars_schema.to_frame().with_columns(
        _moment=pl.lit(None, pl.Datetime("us", "UTC")), _file=pl.lit(None, pl.String), _row=pl.lit(None, pl.Int64)
    )
    stamp = Stamp(
        content=content_hash([], {"never delivered": day, "engine": ENGINE_VERSION}),
        delivered=False,
        mode=source.mode,
        unit=source.unit or "line",
        contract=contract.fingerprint(),
    )
    return StagedDay(day, rows, pl.DataFrame(), replace(stamp, totals=control_totals(rows)), {}, {})


def control_totals(rows: pl.DataFrame) -> dict[str, str]:
    """Σ quantity and Σ total_amount of order lines, exact, as text; nothing for other tables."""
    if "total_amount" not in rows.columns:
        return {}
    totals = rows.select(
        quantity=pl.col("quantity").cast(pl.Int64).sum(),
        total_amount=pl.col("total_amount").cast(pl.Decimal(38, 4)).sum(),
    ).row(0, named=True)
    return {name: str(value or 0) for name, value in totals.items()}


def _examples(
    typed: pl.DataFrame, verdicts: pl.DataFrame, window: _Window
) -> dict[date, dict[str, list[dict[str, str]]]]:
    """Per day and check up to ten of the rows that break it: where they are, their key, masked where personal."""
    found: dict[date, dict[str, list[dict[str, str]]]] = {}
    key = [name for name in window.contract.key if not window.contract.columns[name].pii]
    for check in verdicts.columns:
        positions = verdicts.select(pl.col(check).arg_true().head(EXAMPLES)).to_series()
        for row in typed[positions].select("_partition", "_file", "_row", *key).iter_rows(named=True):
            day = row.pop("_partition")
            # Many a shop's ids are e-mail addresses.
            shown = {name.lstrip("_"): masked(str(value))[:60] for name, value in row.items()}
            found.setdefault(day, {}).setdefault(check, []).append(shown)
    return found
