"""dim_date: whole years, as many as partitions and facts need, with the public holidays of a set country.

Which years is a function of the start date, the staged partitions and the facts, whatever was published in which order:
a year that only a corrected typo had needed goes again.
"""

from collections.abc import Iterable, Sequence
from datetime import date

import polars as pl
import psycopg
from psycopg import sql

from data_platform.contracts import STAGED, WAREHOUSE
from data_platform.lake import Lake
from data_platform.settings import settings
from data_platform.warehouse.copying import copy_in, copy_out, stage
from data_platform.warehouse.rekeying import date_key_of

TABLE = WAREHOUSE["dim_date"]
COLUMNS = TABLE.polars_schema
VALUES = [name for name in COLUMNS if name != "date_key"]


def days_of(first_year: int, last_year: int, country: str) -> pl.DataFrame:
    """The calendar's rows for whole years, both included; `country` is an ISO 3166 code."""
    import holidays

    days = pl.date_range(date(first_year, 1, 1), date(last_year, 12, 31), eager=True).alias("full_date")
    try:
        known = holidays.country_holidays(country, years=range(first_year, last_year + 1), language="en_US")
    except NotImplementedError:
        known = holidays.HolidayBase()
    names = pl.DataFrame(
        {"full_date": list(known.keys()), "holiday_name": list(known.values())},
        schema={"full_date": pl.Date, "holiday_name": pl.String},
    )
    day = pl.col("full_date")
    return (
        days.to_frame()
        .join(names, on="full_date", how="left", maintain_order="left")
        .select(
            date_key=date_key_of(day),
            full_date=day,
            day_of_week=day.dt.weekday().cast(pl.Int32),
            day_name=day.dt.strftime("%A"),
            day_of_month=day.dt.day().cast(pl.Int32),
            day_of_year=day.dt.ordinal_day().cast(pl.Int32),
            week_of_year=day.dt.week().cast(pl.Int32),
            month=day.dt.month().cast(pl.Int32),
            month_name=day.dt.strftime("%B"),
            quarter=day.dt.quarter().cast(pl.Int32),
            year=day.dt.year().cast(pl.Int32),
            is_weekend=day.dt.weekday() > 5,
            is_holiday=pl.col("holiday_name").is_not_null(),
            holiday_name="holiday_name",
        )
    )


def staged_days(lake: Lake) -> list[date]:
    """The partitions that are staged, of all entities."""
    return sorted({day for contract in STAGED.values() for day in lake.days(contract.table)})


def cover(connection: psycopg.Connection, first: date, last: date) -> None:
    """See that facts of these order dates find their days: adds missing years, and those between."""
    standing_years = _years(connection)
    years = {first.year, last.year, *standing_years}
    _add(connection, range(min(years), max(years) + 1), standing_years)


def fit(connection: psycopg.Connection, days: Iterable[date]) -> None:
    """Bring dim_date to the years that `days`, published partitions and facts need: whatever came before, no others."""
    needed, standing_years = _needed(connection, days), _years(connection)
    if any(year not in needed for year in standing_years):
        connection.execute("DELETE FROM warehouse.dim_date WHERE year < %s OR year >= %s", [needed.start, needed.stop])
    _add(connection, needed, standing_years)


def standing(connection: psycopg.Connection) -> pl.DataFrame:
    """dim_date as it is."""
    names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    return copy_out(connection, sql.SQL("SELECT {} FROM warehouse.dim_date").format(names), COLUMNS)


def rewrite(connection: psycopg.Connection, days: Iterable[date]) -> None:
    """`fit`, and every row as it has to be: for a country or a list of holidays that changed, and rows that did."""
    needed = _needed(connection, days)
    wanted = days_of(needed.start, needed.stop - 1, settings().holidays_country)
    added, changed, removed = _difference(standing(connection), wanted)
    if not removed.is_empty():
        stage(connection, "removed_days", removed.select("date_key"), ["integer"])
        connection.execute(
            "DELETE FROM warehouse.dim_date AS d USING pg_temp.removed_days AS r WHERE d.date_key = r.date_key"
        )
    if not changed.is_empty():
        # In place: facts point at these rows.
        stage(connection, "changed_days", changed, [column.type_name for column in TABLE.columns.values()])
        assignments = sql.SQL(", ").join(sql.SQL("{0} = c.{0}").format(sql.Identifier(name)) for name in VALUES)
        connection.execute(
            sql.SQL(
                "UPDATE warehouse.dim_date AS d SET {} FROM pg_temp.changed_days AS c WHERE d.date_key = c.date_key"
            ).format(assignments)
        )
    copy_in(connection, "warehouse.dim_date", added)


def changes(before: pl.DataFrame, after: pl.DataFrame) -> tuple[int, int, int]:
    """How many days were added, changed and removed from `before` to `after`."""
    added, changed, removed = _difference(before, after)
    return added.height, changed.height, removed.height


def _difference(stands: pl.DataFrame, wanted: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    joined = wanted.join(stands, on="date_key", how="inner", suffix="_stands")
    other = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_stands")) for name in VALUES)
    return (
        wanted.join(stands, on="date_key", how="anti"),
        joined.filter(other).select(COLUMNS.names()),
        stands.join(wanted, on="date_key", how="anti"),
    )


def _needed(connection: psycopg.Connection, days: Iterable[date]) -> range:
    """The years from the first to the last of the start date, `days`, published partitions and order dates."""
    found = connection.execute(
        """
        SELECT min(year), max(year)
        FROM (
            SELECT extract(year FROM partition_date)::integer FROM platform.load_ledger
            UNION ALL
            SELECT unnest(ARRAY[min(date_key), max(date_key)]) / 10000 FROM warehouse.fact_sales
            UNION ALL
            SELECT unnest(ARRAY[min(date_key), max(date_key)]) / 10000 FROM warehouse.fact_returns
        ) AS years (year)
        """
    ).fetchone()
    years = {day.year for day in days} | {settings().start_date.year} | {year for year in found or () if year}
    return range(min(years), max(years) + 1)


def _years(connection: psycopg.Connection) -> list[int]:
    """The first and the last year of the calendar; none where it is empty."""
    rows = connection.execute("SELECT min(year), max(year) FROM warehouse.dim_date HAVING count(*) > 0").fetchall()
    return [year for row in rows for year in row]


def _add(connection: psycopg.Connection, years: range, standing_years: Sequence[int]) -> None:
    missing = [year for year in years if not standing_years or not standing_years[0] <= year <= standing_years[-1]]
    if missing:
        wanted = days_of(missing[0], missing[-1], settings().holidays_country)
        copy_in(connection, "warehouse.dim_date", wanted.filter(pl.col("year").is_in(missing)))
