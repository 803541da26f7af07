"""What a demo shop is asked to be (size, rates of events) and what it came to be (exact counts)."""

from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal

from data_platform.errors import PlatformError

# A delivery with more than 5 % of quarantined rows may be rejected: the demo stays well below.
HIGHEST_DIRT = 0.03


class UnusableShop(PlatformError):
    """A size or a rate from which no shop can be made."""


@dataclass(frozen=True)
class ShopSize:
    """How large a shop is. The defaults make about 110,000 order lines in two months.

    customers, products: known on the first day; some more join later (see Rates). orders_per_day: the average over
    all days; `days * orders_per_day` orders are made exactly. lines_per_order: the mean, at least 1.
    """

    customers: int = 5_000
    products: int = 1_000
    orders_per_day: int = 600
    days: int = 60
    lines_per_order: float = 3.0

    def __post_init__(self) -> None:
        for name in ("customers", "products", "orders_per_day", "days"):
            if getattr(self, name) < 1:
                raise UnusableShop(f"{name} is {getattr(self, name)}: a shop needs at least 1.")
        if not 1 <= self.lines_per_order <= 100:
            raise UnusableShop(f"lines_per_order is {self.lines_per_order}: give a mean between 1 and 100.")

    @property
    def expected_sale_lines(self) -> int:
        """Lines of orders to expect, within about one in a hundred for 10,000 orders; events come on top."""
        return round(self.days * self.orders_per_day * self.lines_per_order)


@dataclass(frozen=True)
class Rates:
    """How often each kind of event happens, as shares between 0 and 1.

    Of the products or customers that are known, a day: price_changes, moves (another country or segment),
    new_products, new_customers. Of the orders: late (delivered 1 to 5 days after the order day), cancellations
    (tombstones, 1 to 3 days later), guests (no customer named). Of the lines of orders that are not cancelled, each
    line at most one: corrections (1 to 5 days later), returns (3 to 21 days later). dirt: of those lines and of the
    rows of the other deliveries. duplicates: of the rows of a delivery of orders. An event that would fall after the
    last day does not happen.
    """

    price_changes: float = 0.003
    moves: float = 0.0005
    new_products: float = 0.0003
    new_customers: float = 0.001
    late: float = 0.02
    cancellations: float = 0.015
    guests: float = 0.04
    corrections: float = 0.01
    returns: float = 0.03
    duplicates: float = 0.004
    dirt: float = 0.002

    def __post_init__(self) -> None:
        for field in fields(self):
            rate = getattr(self, field.name)
            if not 0 <= rate <= 1:
                raise UnusableShop(f"The rate of {field.name} is {rate}: give a share from 0 to 1.")
        if self.dirt > HIGHEST_DIRT:
            raise UnusableShop(f"The rate of dirt is {self.dirt}: above {HIGHEST_DIRT} deliveries would be rejected.")
        if self.corrections + self.returns + self.dirt > 1:
            raise UnusableShop("The rates of corrections, returns and dirt exceed 1 together: lower one of them.")


@dataclass(frozen=True)
class ShopSummary:
    """Exact counts of what was generated, to be compared with what the warehouse says once all days are loaded.

    Rows of deliveries: lines_delivered, product_rows, customer_rows; among them dirty_* (to be quarantined) and
    duplicates. Of the orders delivered: lines_sold is the lines of orders at their first telling, dirty ones
    included. late and cancelled are counted in orders and in lines; corrections, returns, duplicates in lines.
    sales_* and returns_* are the control totals of the facts; amounts are quantity × unit_price − discount_amount.
    """

    first_day: date
    last_day: date
    customers: int
    products: int
    moves: int
    price_changes: int
    customer_rows: int
    product_rows: int
    dirty_customer_rows: int
    dirty_product_rows: int
    orders: int
    lines_sold: int
    lines_delivered: int
    duplicates: int
    late_orders: int
    late_lines: int
    corrections: int
    cancellations: int
    cancelled_lines: int
    returns: int
    dirty_lines: int
    sales_quantity: int
    sales_amount: Decimal
    returns_quantity: int
    returns_amount: Decimal

    @property
    def dirty_rows(self) -> int:
        """Rows to be quarantined in all three entities."""
        return self.dirty_lines + self.dirty_product_rows + self.dirty_customer_rows

    @property
    def fact_sales_rows(self) -> int:
        """Rows of fact_sales: every line sold but for the dirty and the cancelled."""
        return self.lines_sold - self.dirty_lines - self.cancelled_lines

    @property
    def fact_returns_rows(self) -> int:
        """Rows of fact_returns."""
        return self.returns

    @property
    def superseded_lines(self) -> int:
        """Staged order rows that a correction or a tombstone replaced."""
        return self.corrections + self.cancelled_lines

    @property
    def product_versions(self) -> int:
        """Rows of dim_product that come from a delivery: without the unknown member."""
        return self.products + self.price_changes

    @property
    def customer_versions(self) -> int:
        """Rows of dim_customer that come from a delivery: without the unknown member."""
        return self.customers + self.moves
