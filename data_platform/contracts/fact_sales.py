"""fact_sales: sales, one row an order line."""

import polars as pl

from data_platform.contracts.contract import Contract
from data_platform.contracts.fact_line import Line, line_queries, line_rules


class Sale(Line):
    """Sales: order lines with a positive quantity, partitioned by year of the order date."""


CONTRACT = Contract(
    table="fact_sales",
    schema="warehouse",
    model=Sale,
    key=("order_id", "line_number"),
    rules=line_rules(pl.col("quantity") > 0),
    queries=line_queries("fact_sales"),
)
