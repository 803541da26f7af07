"""The marts: aggregates that people and dashboards read. Their SELECTs are in sql/marts."""

import datetime

import pandera.polars as pa
import polars as pl

from data_platform.contracts.contract import BigInt, Contract, Int, Rule, WideMoney, column


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


MART_DAILY_SALES = Contract(
    table="mart_daily_sales",
    schema="marts",
    model=DailySales,
    key=("date_key",),
    rules=(
        Rule("a_day_has_lines", "critical", "A day is listed for its sales or returns.",
             pl.col("lines") + pl.col("return_lines") > 0),
        Rule("net_is_sales_and_returns", "critical", "net_sales = sales + returns.",
             pl.col("net_sales") == pl.col("sales") + pl.col("returns")),
        Rule("returns_below_sales", "warning", "A day sells more than it takes back.", pl.col("net_sales") >= 0),
    ),
)  # fmt: skip
MART_PRODUCT_PERFORMANCE = Contract(
    table="mart_product_performance",
    schema="marts",
    model=ProductPerformance,
    key=("month_start", "product_id"),
    rules=(
        Rule("net_is_sales_and_returns", "critical", "net_sales = sales + returns.",
             pl.col("net_sales") == pl.col("sales") + pl.col("returns")),
        Rule("margin_not_above_one", "warning", "A product earns no more than it sells for.", pl.col("margin") <= 1),
    ),
)  # fmt: skip
MART_CUSTOMER_VALUE = Contract(
    table="mart_customer_value",
    schema="marts",
    model=CustomerValue,
    key=("customer_id",),
    rules=(
        Rule("first_order_not_after_last", "critical", "The first order is not after the last.",
             pl.col("first_order_date") <= pl.col("last_order_date")),
        Rule("recency_not_negative", "critical", "Recency counts days back.", pl.col("recency_days") >= 0),
    ),
)  # fmt: skip
CONTRACTS = (MART_DAILY_SALES, MART_PRODUCT_PERFORMANCE, MART_CUSTOMER_VALUE)
