"""stg_orders: the lines of orders as deliveries tell them, one row a line and telling."""

import pandera.polars as pa
import polars as pl

from data_platform.contracts.contract import Contract, Instant, Int, LocalTime, Money, column
from data_platform.contracts.rules import Rule, in_range, null_rate, row_count, unique


class OrderLine(pa.DataFrameModel):
    """One line of an order as one delivery told it: typed, cleaned, without exact copies. Tombstones are kept."""

    order_id: str = column("Order number, unique over all sources.", nullable=False, required=True, identifier=True)
    line_number: Int = column("Number of the line within its order, from 1.", nullable=False)
    customer_id: str = column("Who bought; null where no customer is named.", identifier=True)
    product_id: str = column("What was bought.", required=True, identifier=True)
    quantity: Int = column("Pieces; negative for a return.", required=True)
    unit_price: Money = column("Price of one piece, in the one currency of the platform.", required=True)
    discount_amount: Money = column("Discount on the whole line, with the sign of quantity.", default=0)
    order_ts: LocalTime = column("When the order was placed, in business time.", required=True)
    status: str = column("State of the line in the source; cancelled and deleted make a tombstone.")
    updated_at: Instant = column("When the source last changed the line; null where it does not say.")
    is_tombstone: bool = column("True where this telling removes the line from the facts.", nullable=False)
    total_amount: Money = column("quantity × unit_price − discount_amount.")


TOMBSTONE_STATUS = ("cancelled", "deleted")

CONTRACT = Contract(
    table="stg_orders",
    schema="lake",
    model=OrderLine,
    key=("order_id", "line_number"),
    rules=(
        Rule("unit_price_not_negative", "critical", "A price is zero or more.", pl.col("unit_price") >= 0),
        Rule(
            "quantity_not_zero",
            "critical",
            "Under unit: order a line has a quantity (under unit: line, zero is a tombstone).",
            pl.col("quantity") != 0,
        ),
        Rule(
            "order_date_in_window",
            "critical",
            "An order is dated from the set floor to the end of the day after its delivery: a typo makes no partition.",
            (pl.col("order_ts") >= pl.col("_floor")) & (pl.col("order_ts") < pl.col("_day_after_next")),
        ),
        Rule(
            "total_fits",
            "critical",
            "quantity × unit_price − discount_amount fits numeric(18,4).",
            pl.col("total_amount").is_not_null()
            | pl.any_horizontal(pl.col("quantity", "unit_price", "discount_amount").is_null()),
        ),
        Rule(
            "discount_has_sign_of_quantity",
            "warning",
            "A discount lowers a sale and lessens a return: it bears the sign of quantity.",
            pl.col("discount_amount").sign().cast(pl.Int32) * pl.col("quantity").sign() >= 0,
        ),
        Rule(
            "unit_price_above_zero",
            "info",
            "A line has a price above zero: few are given away.",
            pl.col("unit_price") > 0,
        ),
        in_range("quantity", -10_000, 10_000, "warning", unit="pieces"),
        Rule("customer_is_named", "info", "A line names its customer.", pl.col("customer_id").is_not_null()),
        unique("order_id", "line_number", severity="info"),
    ),
    measures=(row_count(1), null_rate("customer_id", 0.5)),
)
