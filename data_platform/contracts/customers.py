"""stg_customers: what deliveries tell of customers, one row a customer and telling."""

import datetime

import pandera.polars as pa

from data_platform.contracts.contract import Contract, Instant, column
from data_platform.contracts.rules import matches, null_rate, unique


class CustomerAttributes(pa.DataFrameModel):
    """What is known of a customer, shared by its tellings and its versions."""

    customer_id: str = column("Natural key of the customer.", nullable=False, required=True, identifier=True)
    email: str = column("E-mail address.", pii=True)
    first_name: str = column("First name.", pii=True)
    last_name: str = column("Last name.", pii=True)
    segment: str = column("Segment that marketing gave the customer.")
    country: str = column("Country the customer lives in, as delivered.")
    created_date: datetime.date = column("Day the customer registered, business time.")


class CustomerTelling(CustomerAttributes):
    """A customer as one delivery told it: typed, cleaned, without exact copies. Deletions are kept."""

    updated_at: Instant = column("When the source last changed the customer; null where it does not say.")
    is_deleted: bool = column("True where the customer has left.", nullable=False, default=False)


TRACKED = ("email", "first_name", "last_name", "segment", "country", "created_date")

CONTRACT = Contract(
    table="stg_customers",
    schema="lake",
    model=CustomerTelling,
    key=("customer_id",),
    rules=(
        matches(
            "email_looks_like_one",
            "email",
            r"^[^@\s]+@[^@\s]+$",
            "warning",
            "An e-mail address has one @ with text on both sides.",
        ),
        unique("customer_id", severity="info"),
    ),
    measures=(null_rate("country", 0.5), null_rate("segment", 0.5, "info")),
)
