"""mart_customer_value: what customers are worth. Its SELECT is sql/marts/mart_customer_value.sql."""

import datetime

import pandera.polars as pa
import polars as pl

from data_platform.contracts.contract import BigInt, Contract, Int, WideMoney, column
from data_platform.contracts.rules import Rule


class CustomerValue(pa.DataFrameModel):
    """Recency, frequency, monetary value and cohort of every customer who has bought."""

    customer_id: str = column("Natural key of the customer.", nullable=False)
    segment: str = column("Segment by the latest version that one of the lines points at.")
    country: str = column("Country by that version.")
    first_order_date: datetime.date = column("Date of the first sale.", nullable=False)
    last_order_date: datetime.date = column("Date of the last sale.", nullable=False)
    cohort_month: datetime.date = column("First day of the month of the first sale.", nullable=False)
    recency_days: Int = column("Days from the last sale to the latest order date of all facts.", nullable=False)
    frequency: BigInt = column("Orders with a sale.", nullable=False)
    monetary_value: WideMoney = column("Sales and returns together.", nullable=False)
    average_order_value: WideMoney = column("Sales per order.", nullable=False)


CONTRACT = Contract(
    table="mart_customer_value",
    schema="marts",
    model=CustomerValue,
    key=("customer_id",),
    rules=(
        Rule(
            "first_order_not_after_last",
            "critical",
            "The first order is not after the last.",
            pl.col("first_order_date") <= pl.col("last_order_date"),
        ),
        Rule("recency_not_negative", "critical", "Recency counts days back.", pl.col("recency_days") >= 0),
    ),
)
