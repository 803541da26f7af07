"""stg_products: what deliveries tell of products, one row a product and telling."""

import pandera.polars as pa
import polars as pl

from data_platform.contracts.contract import Contract, Instant, Money, column
from data_platform.contracts.rules import Rule, null_rate, sql_rule, unique


class ProductAttributes(pa.DataFrameModel):
    """What is known of a product, shared by its tellings and its versions."""

    product_id: str = column("Natural key of the product.", nullable=False, required=True, identifier=True)
    product_name: str = column("Name as the shop shows it.")
    category: str = column("Category of the assortment.")
    subcategory: str = column("Finer category.")
    brand: str = column("Brand or maker.")
    unit_price: Money = column("List price of one piece.")
    cost: Money = column("What one piece costs the shop; profit is taken against it.")


class ProductTelling(ProductAttributes):
    """A product as one delivery told it: typed, cleaned, without exact copies. Deletions are kept."""

    updated_at: Instant = column("When the source last changed the product; null where it does not say.")
    is_deleted: bool = column("True where the product has left the assortment.", nullable=False, default=False)


TRACKED = ("product_name", "category", "subcategory", "brand", "unit_price", "cost")

CONTRACT = Contract(
    table="stg_products",
    schema="lake",
    model=ProductTelling,
    key=("product_id",),
    rules=(
        Rule("unit_price_not_negative", "critical", "A list price is zero or more.", pl.col("unit_price") >= 0),
        Rule("cost_not_negative", "critical", "A cost is zero or more.", pl.col("cost") >= 0),
        sql_rule("cost_below_price", "cost <= unit_price", "warning", "A product costs less than it sells for."),
        Rule(
            "product_is_named",
            "info",
            "A product has a name.",
            pl.col("product_name").is_not_null() | pl.col("is_deleted"),
        ),
        unique("product_id", severity="info"),
    ),
    measures=(null_rate("cost", 0.5, "info"),),
)
