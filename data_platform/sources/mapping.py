"""From delivered names and texts to canonical names and types: pure functions over frames and expressions.

What belongs here: which delivered column is which canonical one, and how a delivered value is read as a type. Every
`parse_…` gives null where a value cannot be read exactly; to tell those from values that were not there, compare with
`without_blanks` of the same column. Nothing is rounded, and no number passes through a float.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import polars as pl

from data_platform.errors import DeliveryRejected
from data_platform.sources.config import Source


def find_delivered(column: str, source: Source, delivered: Collection[str]) -> str | None:
    """The delivered name that holds a canonical column: the exact one, else one that differs in capitals or blanks.

    Raises DeliveryRejected where several differ from it only so.
    """
    name = source.spec(column).source or column
    if name in delivered:
        return name
    folded = name.strip().casefold()
    alike = [candidate for candidate in delivered if candidate.strip().casefold() == folded]
    if len(alike) > 1:
        raise DeliveryRejected(
            f"the delivery of {source.entity} has several columns that could be {name!r} "
            f"({', '.join(map(repr, alike))}): name the one that is meant in sources.yaml (`columns: {column}: NAME`)."
        )
    return alike[0] if alike else None


def apply_mapping(raw: pl.DataFrame, source: Source, entity_columns: Collection[str]) -> pl.DataFrame:
    """The canonical columns that are delivered or constant, in the order of `entity_columns`, values as delivered.

    Columns that begin with `_` are kept after them. A canonical column that is neither mapped nor delivered is
    absent: it is unknown, not null. Where a prefix is set, ids are text without surrounding blanks behind it, and
    blank ids stay as they are.
    """
    delivered = _delivered_names(raw.columns)
    chosen = []
    for column in entity_columns:
        spec = source.spec(column)
        if spec.constant is not None:
            value = pl.lit(spec.constant, dtype=pl.String)
        elif (name := find_delivered(column, source, delivered)) is not None:
            value = pl.col(name)
            dtype = raw.schema[name]
        else:
            continue
        if spec.prefix is not None:
            text = value if spec.constant is not None else parse_text(value, dtype=dtype)
            value = pl.when(text.is_not_null()).then(pl.lit(spec.prefix) + text)
        chosen.append(value.alias(column))
    return raw.select(*chosen, *(pl.col(column) for column in raw.columns if column.startswith("_")))


def unknown_columns(raw_columns: Sequence[str], source: Source, entity_columns: Collection[str]) -> list[str]:
    """The delivered columns that no canonical column is taken from, in the order delivered."""
    delivered = _delivered_names(raw_columns)
    used = {
        find_delivered(column, source, delivered) for column in entity_columns if source.spec(column).constant is None
    }
    return [column for column in delivered if column not in used]


def _delivered_names(columns: Sequence[str]) -> list[str]:
    return [column for column in columns if not column.startswith("_")]


# -- texts, numbers, truth -------------------------------------------------------------------------------------------


def without_blanks(expr: pl.Expr, *, dtype: pl.DataType = pl.String()) -> pl.Expr:
    """Text without surrounding blanks, '' as null; other types as they are. Null here means: nothing was delivered."""
    if not isinstance(dtype, pl.String):
        return expr
    return _let(expr.str.strip_chars(), lambda text: pl.when(text != "").then(text))


def parse_text(expr: pl.Expr, *, dtype: pl.DataType = pl.String()) -> pl.Expr:
    """String: NFC, without surrounding blanks, '' as null.

    Whole floats lose their `.0`: ids become floats only where a tool met a null among integers.
    """
    if isinstance(dtype, (pl.Float32, pl.Float64)):
        text = _let(
            expr, lambda number: pl.when(number.is_finite()).then(number.cast(pl.String).str.strip_suffix(".0"))
        )
    elif dtype.is_nested():
        return _null(expr, pl.String())
    else:
        text = _as_text(expr, dtype).str.normalize("NFC")
    return without_blanks(text)


def parse_integer(expr: pl.Expr, *, comma: bool = False, dtype: pl.DataType = pl.String()) -> pl.Expr:
    """Int64: every number whose exact value is whole (`5`, `+5`, `5.0`, `5e2`); `2.5` and what Int64 lacks are null."""
    if dtype.is_integer():
        return expr.cast(pl.Int64, strict=False)
    return parse_decimal(expr, comma=comma, dtype=dtype, precision=38, scale=0).cast(pl.Int64, strict=False)


def parse_decimal(
    expr: pl.Expr, *, comma: bool = False, dtype: pl.DataType = pl.String(), precision: int = 38, scale: int = 10
) -> pl.Expr:
    """Decimal(precision, scale) of exactly the delivered value, or null: it is never rounded.

    Texts are a sign, ASCII digits, one decimal mark (a point, or with `comma` a comma) and an exponent (`1e2` is 100,
    as in JSON); zeros at either end count for nothing, so `1.50000` has one decimal. There are no marks between
    thousands: `1,234` is either 1.234 or an error, never a guess. Floats are their shortest decimal text; NaN and
    infinities are null.
    """
    target = pl.Decimal(precision, scale)
    if isinstance(dtype, pl.Decimal):
        if dtype.scale <= scale and dtype.precision - dtype.scale <= precision - scale:
            return expr.cast(target)
        text = expr.cast(pl.String)
    elif dtype.is_integer() or dtype.is_float():
        text = expr.cast(pl.String)
    elif isinstance(dtype, (pl.String, pl.Binary)):
        text = _as_text(expr, dtype).str.strip_chars()
        if comma:
            text = _let(
                text,
                lambda held: pl.when(~held.str.contains(".", literal=True)).then(
                    held.str.replace(",", ".", literal=True)
                ),
            )
    else:
        return _null(expr, target)
    # Polars rounds decimals that it casts, so only texts that fit are handed to it. Most do as they stand.
    fits = rf"^[+-]?[0-9]{{1,{precision - scale}}}(?:\.[0-9]{{0,{scale}}})?$"
    steps = pl.struct(text.alias("text")).struct.with_fields(pl.field("text").str.contains(fits).alias("fits"))
    steps = steps.struct.with_fields(
        _plain_number(pl.when(~pl.field("fits")).then(pl.field("text")), precision - scale, scale).alias("rest")
    )
    fitting = pl.when(pl.field("fits")).then(pl.field("text")).otherwise(pl.field("rest"))
    return steps.struct.with_fields(fitting.cast(target, strict=False).alias("value")).struct.field("value")


def money(expr: pl.Expr, *, comma: bool = False, dtype: pl.DataType = pl.String()) -> tuple[pl.Expr, pl.Expr]:
    """(value, ok): the amount as Decimal(18, 4), and whether it is exactly what was delivered (or nothing was).

    Not ok are texts that are no number and numbers that do not fit numeric(18,4): their value is null.
    """
    value = parse_decimal(expr, comma=comma, dtype=dtype, precision=18, scale=4)
    return value, value.is_not_null() | without_blanks(expr, dtype=dtype).is_null()


def parse_boolean(expr: pl.Expr, *, dtype: pl.DataType = pl.String()) -> pl.Expr:
    """Boolean of true/false, t/f, yes/no, y/n, 1/0 in any capitals; numbers 1 and 0; anything else is null."""
    if isinstance(dtype, pl.Boolean):
        return expr
    if dtype.is_numeric():
        return pl.when(expr == 1).then(True).when(expr == 0).then(False)
    if not isinstance(dtype, (pl.String, pl.Binary)):
        return _null(expr, pl.Boolean())
    words = {
        "true": True,
        "t": True,
        "yes": True,
        "y": True,
        "1": True,
        "false": False,
        "f": False,
        "no": False,
        "n": False,
        "0": False,
    }
    text = _as_text(expr, dtype).str.strip_chars().str.to_lowercase()
    return text.replace_strict(words, default=None, return_dtype=pl.Boolean)


_NUMBER = r"^(?P<sign>[+-]?)(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?(?:[eE](?P<exponent>[+-]?[0-9]{1,5}))?$"


def _plain_number(text: pl.Expr, most_whole: int, most_fraction: int) -> pl.Expr:
    """The text of a number without exponent and needless zeros, null where it is none or has too many digits."""
    steps = text.str.extract_groups(_NUMBER)
    steps = steps.struct.with_fields(
        (pl.field("whole").fill_null("") + pl.field("fraction").fill_null("")).alias("written"),
        pl.field("exponent").cast(pl.Int64, strict=False).fill_null(0),
    )
    steps = steps.struct.with_fields(
        pl.field("written").str.strip_chars_start("0").alias("significant"),
        pl.field("written").str.strip_chars("0").alias("digits"),
    )
    # How many of the digits stand before the point; negative: zeros stand between the point and the first digit.
    before = _length("whole").fill_null(0) + pl.field("exponent") - _length("written") + _length("significant")
    steps = steps.struct.with_fields(pl.when(pl.field("digits") == "").then(0).otherwise(before).alias("before"))
    fits = (
        (pl.field("written") != "")
        & (pl.field("before") <= most_whole)
        & (_length("digits") - pl.field("before") <= most_fraction)
    )
    steps = steps.struct.with_fields(fits.alias("fits"))
    # Bounded before it is used as a length: an exponent may ask for a text of 99,999 zeros.
    steps = steps.struct.with_fields(pl.when(pl.field("fits")).then(pl.field("before")).otherwise(0).alias("before"))
    leading = _length("digits") - pl.field("before").clip(upper_bound=0)
    trailing = pl.field("before").clip(lower_bound=0)
    filled = pl.field("digits").str.pad_start(leading.cast(pl.UInt32), "0").str.pad_end(trailing.cast(pl.UInt32), "0")
    steps = steps.struct.with_fields(filled.alias("filled"), trailing.alias("point"))
    whole, fraction = pl.field("filled").str.head(pl.field("point")), pl.field("filled").str.slice(pl.field("point"))
    plain = pl.field("sign") + "0" + whole + "." + fraction
    return steps.struct.with_fields(pl.when(pl.field("fits")).then(plain).alias("plain")).struct.field("plain")


def _length(field: str) -> pl.Expr:
    return pl.field(field).str.len_bytes().cast(pl.Int64)


def _let(value: pl.Expr, then: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """`then(value)` with the value computed once: Polars computes an expression anew wherever it is mentioned.

    `then` may use nothing but its argument, since fields of an outer struct cannot be seen from an inner one.
    """
    steps = pl.struct(value.alias("value"))
    return steps.struct.with_fields(then(pl.field("value")).alias("result")).struct.field("result")


def _as_text(expr: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return expr.map_batches(_decoded, return_dtype=pl.String) if isinstance(dtype, pl.Binary) else expr.cast(pl.String)


def _decoded(values: pl.Series) -> pl.Series:
    """Bytes as UTF-8, null where they are none: Polars' cast fails for the whole column, strict or not."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series(values.name, [_decode(value) for value in values], dtype=pl.String)


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _null(expr: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A null for each row of `expr`: a bare literal would be a single row."""
    return pl.when(expr.is_null()).then(pl.lit(None, dtype=dtype))


# -- time ------------------------------------------------------------------------------------------------------------


def parse_timestamp(
    expr: pl.Expr, *, format: str | None, source_timezone: str, business_timezone: str, dtype: pl.DataType = pl.String()
) -> pl.Expr:
    """Datetime('us') in business time, without zone.

    Texts are ISO 8601: a date, then after T or a blank hh:mm[:ss[.fraction]], then Z or an offset; or as `format`
    (strftime) says. Fractions are cut to microseconds. Without offset the time is `source_timezone`'s: one that
    daylight saving repeats is the earlier one, one that it skips is null. Years other than 1 to 9999 are null.
    """
    instant = parse_instant(expr, format=format, source_timezone=source_timezone, dtype=dtype)
    local = instant.dt.convert_time_zone(business_timezone).dt.replace_time_zone(None)
    return _in_range(local)


def parse_instant(
    expr: pl.Expr, *, format: str | None, source_timezone: str, dtype: pl.DataType = pl.String()
) -> pl.Expr:
    """Datetime('us', 'UTC'), by the rules of `parse_timestamp`."""
    if isinstance(dtype, pl.Datetime):
        time = expr.dt.cast_time_unit("us")
        instant = time.dt.convert_time_zone("UTC") if dtype.time_zone is not None else _in_utc(time, source_timezone)
    elif isinstance(dtype, pl.Date):
        instant = _in_utc(expr.cast(pl.Datetime("us")), source_timezone)
    elif isinstance(dtype, (pl.String, pl.Binary)) or (format is not None and dtype.is_integer()):
        text = _as_text(expr, dtype).str.strip_chars()
        instant = (
            _iso_instant(text, source_timezone) if format is None else _formatted_instant(text, format, source_timezone)
        )
    else:
        return _null(expr, pl.Datetime("us", "UTC"))
    return _in_range(instant.dt.replace_time_zone(None)).dt.replace_time_zone("UTC")


def parse_date(
    expr: pl.Expr, *, format: str | None, source_timezone: str, business_timezone: str, dtype: pl.DataType = pl.String()
) -> pl.Expr:
    """Date: of a text YYYY-MM-DD, or as `format` says; of a time stamp, the date of that moment in business time."""
    if isinstance(dtype, pl.Date):
        day = expr
    elif isinstance(dtype, (pl.String, pl.Binary)) or (format is not None and dtype.is_integer()):
        text = _as_text(expr, dtype).str.strip_chars()
        if format is None:
            steps = pl.struct(text.alias("text")).struct.with_fields(
                pl.field("text").str.contains(_ISO_DAY).alias("alone")
            )
            alone = pl.when(pl.field("alone")).then(pl.field("text")).str.to_date("%Y-%m-%d", strict=False)
            timed = parse_timestamp(
                pl.when(~pl.field("alone")).then(pl.field("text")),
                format=None,
                source_timezone=source_timezone,
                business_timezone=business_timezone,
            ).dt.date()
            day = steps.struct.with_fields(alone.fill_null(timed).alias("day")).struct.field("day")
        elif _has_time(format):
            day = parse_timestamp(
                text, format=format, source_timezone=source_timezone, business_timezone=business_timezone
            ).dt.date()
        else:
            day = text.str.to_date(format, strict=False)
    else:
        day = parse_timestamp(
            expr, format=format, dtype=dtype, source_timezone=source_timezone, business_timezone=business_timezone
        ).dt.date()
    return _let(day, lambda held: pl.when(held.is_between(_FIRST.date(), _LAST.date())).then(held))


_FIRST = datetime(1, 1, 1)
_LAST = datetime(9999, 12, 31, 23, 59, 59, 999999)
_ISO_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_SECONDS = "%Y-%m-%dT%H:%M:%S"
_ISO = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<minutes>(?:[01][0-9]|2[0-3]):[0-5][0-9])(?::(?P<seconds>[0-5][0-9])(?:[.,](?P<fraction>[0-9]+))?)?"
    r" ?(?P<zone>[Zz]|[+-](?:0[0-9]|1[0-5])(?::?[0-5][0-9])?)?)?$"
)


def _iso_instant(text: pl.Expr, source_timezone: str) -> pl.Expr:
    # Most texts have this very form; only the others are picked apart, which costs many times as much.
    usual = pl.field("text").str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-5][0-9]$")
    steps = pl.struct(text.alias("text")).struct.with_fields(usual.alias("usual"))
    steps = steps.struct.with_fields(
        pl.when(pl.field("usual")).then(pl.field("text")).str.replace(" ", "T", literal=True).alias("plain"),
        _picked_apart(pl.when(~pl.field("usual")).then(pl.field("text"))).alias("picked"),
    )
    picked = pl.field("picked").struct
    local = pl.field("plain").str.to_datetime(_SECONDS, strict=False, time_unit="us").fill_null(picked.field("local"))
    steps = steps.struct.with_fields(local.alias("local"), picked.field("ahead").alias("ahead"))
    exact = (pl.field("local") - pl.field("ahead")).dt.replace_time_zone("UTC")
    instant = pl.when(pl.field("ahead").is_null()).then(_in_utc(pl.field("local"), source_timezone)).otherwise(exact)
    return steps.struct.with_fields(instant.alias("instant")).struct.field("instant")


def _picked_apart(text: pl.Expr) -> pl.Expr:
    """A struct of `local`, the time as written, and `ahead`, how far it is ahead of UTC where the text says so."""
    written = pl.concat_str(
        pl.field("date"),
        pl.lit("T"),
        pl.field("minutes").fill_null("00:00"),
        pl.lit(":"),
        pl.field("seconds").fill_null("00"),
    )
    fraction = pl.field("fraction").str.pad_end(6, "0").str.head(6).cast(pl.Int64).fill_null(0)
    local = written.str.to_datetime(_SECONDS, strict=False, time_unit="us") + pl.duration(microseconds=fraction)
    hours = pl.field("zone").str.slice(1, 2).cast(pl.Int64, strict=False).fill_null(0)
    minutes = pl.field("zone").str.slice(3).str.strip_chars(":").cast(pl.Int64, strict=False).fill_null(0)
    sign = pl.when(pl.field("zone").str.starts_with("-")).then(-1).otherwise(1)
    ahead = pl.when(pl.field("zone").is_not_null()).then(pl.duration(minutes=sign * (hours * 60 + minutes)))
    return text.str.extract_groups(_ISO).struct.with_fields(local.alias("local"), ahead.alias("ahead"))


def _formatted_instant(text: pl.Expr, format: str, source_timezone: str) -> pl.Expr:
    time = text.str.to_datetime(format, strict=False, time_unit="us")
    if _has_any(format, _OFFSETS):
        return time.dt.convert_time_zone("UTC")
    return _in_utc(time, "UTC" if _has_any(format, ("%s",)) else source_timezone)


_OFFSETS = ("%z", "%:z", "%::z", "%#z", "%+")
_TIMES = ("%H", "%I", "%k", "%l", "%M", "%S", "%T", "%R", "%r", "%c", "%X", "%s", *_OFFSETS)


def _has_any(format: str, directives: Sequence[str]) -> bool:
    plain = format.replace("%%", "")
    return any(directive in plain for directive in directives)


def _has_time(format: str) -> bool:
    return _has_any(format, _TIMES)


def _in_utc(local: pl.Expr, timezone: str) -> pl.Expr:
    return local.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _in_range(local: pl.Expr) -> pl.Expr:
    return _let(local, lambda time: pl.when(time.is_between(_FIRST, _LAST)).then(time))
