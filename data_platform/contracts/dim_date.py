"""dim_date: the calendar."""

import datetime

import pandera.polars as pa

from data_platform.contracts.contract import Contract, Int, column


class Day(pa.DataFrameModel):
    """The calendar: one row a day, for whole years."""

    date_key: Int = column("The day as the number yyyymmdd.", nullable=False)
    full_date: datetime.date = column("The day.", nullable=False)
    day_of_week: Int = column("ISO day of the week, Monday = 1.", nullable=False)
    day_name: str = column("Name of the day of the week, in English.", nullable=False)
    day_of_month: Int = column("Day of the month, from 1.", nullable=False)
    day_of_year: Int = column("Day of the year, from 1.", nullable=False)
    week_of_year: Int = column("ISO week of the year, from 1.", nullable=False)
    month: Int = column("Month, from 1.", nullable=False)
    month_name: str = column("Name of the month, in English.", nullable=False)
    quarter: Int = column("Quarter, from 1.", nullable=False)
    year: Int = column("Calendar year.", nullable=False)
    is_weekend: bool = column("True on Saturday and Sunday.", nullable=False)
    is_holiday: bool = column("True on a public holiday of the set country.", nullable=False)
    holiday_name: str = column("Name of the public holiday, in English where known; null on other days.")


CONTRACT = Contract(table="dim_date", schema="warehouse", model=Day, key=("date_key",))
