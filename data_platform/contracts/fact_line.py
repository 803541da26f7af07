"""What fact_sales and fact_returns share: an order line, the last telling of it, and the rules that it keeps."""

import datetime

import pandera.polars as pa
import polars as pl

from data_platform.contracts.contract import BigInt, Instant, Int, LocalTime, Money, WideMoney, column
from data_platform.contracts.rules import Rule, WarehouseQuery, references


class Line(pa.DataFrameModel):
    """One row per order line: the last telling of it."""

    sale_key: BigInt = column("Surrogate key of the line, unique over sales and returns.", nullable=False)
    date_key: Int = column("Order date as yyyymmdd; points at dim_date.", nullable=False)
    customer_key: BigInt = column("The customer's version on the order date; −1 where none was named.", nullable=False)
    product_key: BigInt = column("The product's version on the order date.", nullable=False)
    order_id: str = column("Order number.", nullable=False)
    line_number: Int = column("Number of the line within its order.", nullable=False)
    order_ts: LocalTime = column("When the order was placed, business time.", nullable=False)
    quantity: Int = column("Pieces; negative for a return.", nullable=False)
    unit_price: Money = column("Price of one piece.", nullable=False)
    discount_amount: Money = column("Discount on the line, with the sign of quantity.", nullable=False)
    total_amount: Money = column("quantity × unit_price − discount_amount.", nullable=False)
    profit: WideMoney = column("total_amount − quantity × cost of the product version; null where cost is unknown.")
    delivered_on: datetime.date = column(
        "Day of the delivery that first told the line as it stands (first of the last run of equal tellings).",
        nullable=False,
    )
    updated_at: Instant = column(
        "Moment of that telling: the source's updated_at, else the start of delivered_on.", nullable=False
    )
    created_at: Instant = column("When the platform first wrote the line.", nullable=False)


def line_rules(sign: pl.Expr) -> tuple[Rule, ...]:
    """The rules of a fact table whose quantities keep `sign`."""
    return (
        Rule("quantity_has_the_sign_of_its_table", "critical", "Sales are positive, returns negative.", sign),
        Rule(
            "total_is_quantity_times_price_less_discount",
            "critical",
            "total_amount = quantity × unit_price − discount_amount.",
            pl.col("total_amount") == pl.col("unit_price") * pl.col("quantity") - pl.col("discount_amount"),
        ),
    )


def line_queries(table: str) -> tuple[WarehouseQuery, ...]:
    """The rules of a fact table that need the dimensions: lines may come before their members, so they only show."""
    return (
        references(table, "customer_id", "dim_customer", "info"),
        references(table, "product_id", "dim_product", "warning"),
    )
