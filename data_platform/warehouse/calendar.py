"""dim_date: whole years, as many as partitions and facts need, with the public holidays of a set country."""

from datetime import date

import polars as pl
import psycopg

from data_platform.contracts import WAREHOUSE
from data_platform.settings import settings
from data_platform.warehouse.copying import copy_in
from data_platform.warehouse.ledger import Work
from data_platform.warehouse.rekeying import date_key_of

TABLE = WAREHOUSE["dim_date"]


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


def cover(connection: psycopg.Connection, work: Work, order_times: pl.Series) -> None:
    """See that dim_date has the years of the staged partitions of `work` and of `order_times`."""
    days = [*work.staged, settings().start_date]
    if not order_times.is_empty():
        days += [order_times.min().date(), order_times.max().date()]  # type: ignore[union-attr]
    cover_years(connection, min(days).year, max(days).year)


def cover_years(connection: psycopg.Connection, first: int, last: int) -> int:
    """Add the missing ones of the years from `first` to `last` and those between them and the calendar; rows added."""
    found = connection.execute("SELECT min(year), max(year) FROM warehouse.dim_date").fetchone()
    assert found is not None
    low, high = found
    wanted = days_of(min(first, low or first), max(last, high or last), settings().holidays_country)
    if low is not None:
        wanted = wanted.filter((pl.col("year") < low) | (pl.col("year") > high))
    copy_in(connection, "warehouse.dim_date", wanted)
    return wanted.height
