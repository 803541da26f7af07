"""fact_returns: returns, one row an order line."""

import polars as pl

from data_platform.contracts.contract import Contract
from data_platform.contracts.fact_line import Line, line_queries, line_rules


class Return(Line):
    """Returns: order lines with a negative quantity, partitioned by year of the order date."""


CONTRACT = Contract(
    table="fact_returns",
    schema="warehouse",
    model=Return,
    key=("order_id", "line_number"),
    rules=line_rules(pl.col("quantity") < 0),
    queries=line_queries("fact_returns"),
)
