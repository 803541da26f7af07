"""dim_product: versions of what staging tells of products."""

import pandera.polars as pa

from data_platform.contracts.contract import BigInt, Contract, column
from data_platform.contracts.products import TRACKED, ProductAttributes
from data_platform.contracts.version import VERSION_RULES, Version


class ProductKey(pa.DataFrameModel):
    """What facts point at."""

    product_key: BigInt = column("Surrogate key of the version; −1 is the unknown product.", nullable=False)


class ProductVersion(Version, ProductAttributes, ProductKey):
    """Products with their history (SCD type 2, daily grain). Member −1 is the unknown product."""


CONTRACT = Contract(
    table="dim_product",
    schema="warehouse",
    model=ProductVersion,
    key=("product_key",),
    tracked=TRACKED,
    rules=VERSION_RULES,
)
