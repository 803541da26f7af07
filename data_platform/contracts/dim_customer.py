"""dim_customer: versions of what staging tells of customers."""

import pandera.polars as pa

from data_platform.contracts.contract import BigInt, Contract, column
from data_platform.contracts.customers import TRACKED, CustomerAttributes
from data_platform.contracts.version import VERSION_RULES, Version


class CustomerKey(pa.DataFrameModel):
    """What facts point at."""

    customer_key: BigInt = column("Surrogate key of the version; −1 is the unknown customer.", nullable=False)


class CustomerVersion(Version, CustomerAttributes, CustomerKey):
    """Customers with their history (SCD type 2, daily grain). Member −1 is the unknown customer."""


CONTRACT = Contract(
    table="dim_customer",
    schema="warehouse",
    model=CustomerVersion,
    key=("customer_key",),
    tracked=TRACKED,
    rules=VERSION_RULES,
)
