"""dim_customer and dim_product: versions of what staging tells, and dim_date: the calendar."""

import datetime

import pandera.polars as pa
import polars as pl

from data_platform.contracts import customers, products
from data_platform.contracts.contract import BigInt, Contract, Int, Rule, column


class Version(pa.DataFrameModel):
    """The span of days for which a version of a member held."""

    effective_from: datetime.date = column("First day of the version, business time.", nullable=False)
    effective_to: datetime.date = column("Day the version ended, exclusive; null while it is the last.")
    is_current: bool = column("True for the version that holds now.", nullable=False)
    is_inferred: bool = column("True for a member that facts name and no delivery has told of.", nullable=False)


class CustomerVersion(Version, customers.CustomerAttributes):
    """Customers with their history (SCD type 2, daily grain). Member −1 is the unknown customer."""

    customer_key: BigInt = column("Surrogate key of the version; −1 is the unknown customer.", nullable=False)


class ProductVersion(Version, products.ProductAttributes):
    """Products with their history (SCD type 2, daily grain). Member −1 is the unknown product."""

    product_key: BigInt = column("Surrogate key of the version; −1 is the unknown product.", nullable=False)


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


VERSION_RULES = (
    Rule("version_ends_after_it_starts", "critical", "A version lasts at least a day.",
         pl.col("effective_to") > pl.col("effective_from")),
    Rule("open_version_is_current", "critical", "The current version is the one without an end.",
         pl.col("is_current") == pl.col("effective_to").is_null()),
)  # fmt: skip

DIM_CUSTOMER = Contract(
    table="dim_customer",
    schema="warehouse",
    model=CustomerVersion,
    key=("customer_key",),
    tracked=customers.TRACKED,
    rules=VERSION_RULES,
)
DIM_PRODUCT = Contract(
    table="dim_product",
    schema="warehouse",
    model=ProductVersion,
    key=("product_key",),
    tracked=products.TRACKED,
    rules=VERSION_RULES,
)
DIM_DATE = Contract(table="dim_date", schema="warehouse", model=Day, key=("date_key",))
