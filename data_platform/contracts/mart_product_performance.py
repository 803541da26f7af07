"""mart_product_performance: what each product did per month. Its SELECT is sql/marts/mart_product_performance.sql."""

import datetime

import pandera.polars as pa
import polars as pl

from data_platform.contracts.contract import BigInt, Contract, WideMoney, column
from data_platform.contracts.rules import Rule


class ProductPerformance(pa.DataFrameModel):
    """What each product did per calendar month of the order date."""

    month_start: datetime.date = column("First day of the month.", nullable=False)
    product_id: str = column("Natural key of the product.", nullable=False)
    product_name: str = column("Name by the latest version that a line of the month points at.")
    category: str = column("Category by that version.")
    brand: str = column("Brand by that version.")
    orders: BigInt = column("Orders that the product was sold in.", nullable=False)
    quantity: BigInt = column("Pieces sold.", nullable=False)
    sales: WideMoney = column("Sales after discounts.", nullable=False)
    returned_quantity: BigInt = column("Pieces returned, negative.", nullable=False)
    returns: WideMoney = column("Value of the returns, negative.", nullable=False)
    net_sales: WideMoney = column("sales + returns.", nullable=False)
    profit: WideMoney = column("Profit where the cost is known; null where it is not.")
    margin: WideMoney = column("profit / net_sales.")
    return_rate: WideMoney = column("Pieces returned per piece sold.")


CONTRACT = Contract(
    table="mart_product_performance",
    schema="marts",
    model=ProductPerformance,
    key=("month_start", "product_id"),
    rules=(
        Rule(
            "net_is_sales_and_returns",
            "critical",
            "net_sales = sales + returns.",
            pl.col("net_sales") == pl.col("sales") + pl.col("returns"),
        ),
        Rule("margin_not_above_one", "warning", "A product earns no more than it sells for.", pl.col("margin") <= 1),
    ),
)
