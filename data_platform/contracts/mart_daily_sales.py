"""mart_daily_sales: sales and returns per order date. Its SELECT is sql/marts/mart_daily_sales.sql."""

import datetime

import pandera.polars as pa
import polars as pl

from data_platform.contracts.contract import BigInt, Contract, Int, WideMoney, column
from data_platform.contracts.rules import Rule


class DailySales(pa.DataFrameModel):
    """Sales and returns per order date."""

    date_key: Int = column("Order date as yyyymmdd.", nullable=False)
    full_date: datetime.date = column("Order date.", nullable=False)
    orders: BigInt = column("Orders with at least one sale.", nullable=False)
    lines: BigInt = column("Lines sold.", nullable=False)
    customers: BigInt = column("Named customers who bought.", nullable=False)
    quantity: BigInt = column("Pieces sold.", nullable=False)
    gross_sales: WideMoney = column("Sales before discounts.", nullable=False)
    discounts: WideMoney = column("Discounts given on sales.", nullable=False)
    sales: WideMoney = column("Sales after discounts.", nullable=False)
    return_lines: BigInt = column("Lines returned.", nullable=False)
    returned_quantity: BigInt = column("Pieces returned, negative.", nullable=False)
    returns: WideMoney = column("Value of the returns, negative.", nullable=False)
    net_sales: WideMoney = column("sales + returns.", nullable=False)
    profit: WideMoney = column("Profit of sales and returns whose product's cost is known; null where none is.")
    average_order_value: WideMoney = column("sales / orders; null on a day without sales.")


CONTRACT = Contract(
    table="mart_daily_sales",
    schema="marts",
    model=DailySales,
    key=("date_key",),
    rules=(
        Rule(
            "a_day_has_lines",
            "critical",
            "A day is listed for its sales or returns.",
            pl.col("lines") + pl.col("return_lines") > 0,
        ),
        Rule(
            "net_is_sales_and_returns",
            "critical",
            "net_sales = sales + returns.",
            pl.col("net_sales") == pl.col("sales") + pl.col("returns"),
        ),
        Rule("returns_below_sales", "warning", "A day sells more than it takes back.", pl.col("net_sales") >= 0),
    ),
)
