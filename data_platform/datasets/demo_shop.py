"""A demo shop: deliveries of orders, products and customers for any number of days, the same for the same seed.

What belongs here is the run over the days. Size, rates and counts are in demo_size, members and their changes in
demo_catalogue, orders and what becomes of them in demo_sales, broken rows in demo_dirt.
"""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np

from data_platform.datasets.demo_catalogue import Customers, Products
from data_platform.datasets.demo_dirt import soil
from data_platform.datasets.demo_sales import Sales
from data_platform.datasets.demo_size import Rates, ShopSize, ShopSummary, UnusableShop
from data_platform.datasets.landing_files import FileFormat, claim_landing, write_delivery

__all__ = ["FileFormat", "Rates", "ShopSize", "ShopSummary", "UnusableShop", "generate"]

# Dirty rows are dated in 2204: the shop's own days must be well before.
_LAST_YEAR = 2150


def generate(
    landing: Path,
    *,
    start: date,
    size: ShopSize,
    rates: Rates = Rates(),
    seed: int = 7,
    file_format: FileFormat = "parquet",
    progress: Callable[[date], None] | None = None,
) -> ShopSummary:
    """Write LANDING/<entity>/<YYYY-MM-DD>.<file_format> for `size.days` days from `start`, and count what was written.

    Orders (one row a line), products and customers bear the canonical columns; times are naive business time, money
    is decimal(18,4). Products and customers deliver changes: all on the first day, then the new and the changed;
    every day has a file, on some with a header only. The same arguments give the same values; the two formats differ
    only in what a dirty row carries, since a typed column has no place for text. `progress` is called with each day
    once its deliveries stand. Raises UnusableShop, LandingOccupied (nothing written) or SourceUnavailable.
    """
    if seed < 0:
        raise UnusableShop(f"The seed is {seed}: give a whole number from 0 up.")
    if start.year > _LAST_YEAR or (date.max - start).days <= size.days or start.year + size.days // 365 > _LAST_YEAR:
        raise UnusableShop(f"{size.days} days from {start} reach beyond {_LAST_YEAR}: begin earlier.")
    days = [start + timedelta(days=day) for day in range(size.days)]
    claim_landing(landing, days, file_format)

    # A stream of random numbers each, so that more of one thing does not change the others.
    streams = [np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(3)]
    products = Products(size, rates, streams[0])
    customers = Customers(size, rates, start, streams[1])
    sales = Sales(size, rates, start, streams[2])
    for day, on in enumerate(days):
        deliveries = {"products": products.delivery(day, on), "customers": customers.delivery(day, on)}
        sales.sell(day, products, customers)
        deliveries["orders"] = sales.delivery(day, products, customers)
        for entity, frame in deliveries.items():
            write_delivery(landing, entity, on, soil(frame, entity, file_format), file_format)
        if progress:
            progress(on)
    return _summary(days, products, customers, sales)


def _summary(days: list[date], products: Products, customers: Customers, sales: Sales) -> ShopSummary:
    count = sales.counts
    return ShopSummary(
        first_day=days[0],
        last_day=days[-1],
        customers=int(customers.known[-1]),
        products=int(products.known[-1]),
        moves=customers.moves,
        price_changes=products.price_changes,
        customer_rows=customers.rows,
        product_rows=products.rows,
        dirty_customer_rows=customers.dirty_rows,
        dirty_product_rows=products.dirty_rows,
        orders=count["orders"],
        lines_sold=count["lines_sold"],
        lines_delivered=count["lines_delivered"],
        duplicates=count["duplicates"],
        late_orders=count["late_orders"],
        late_lines=count["late_lines"],
        corrections=count["corrections"],
        cancellations=count["cancellations"],
        cancelled_lines=count["cancelled_lines"],
        returns=count["returns"],
        dirty_lines=count["dirty_lines"],
        sales_quantity=count["sales_quantity"],
        sales_amount=Decimal(count["sales_cents"]).scaleb(-2),
        returns_quantity=count["returns_quantity"],
        returns_amount=Decimal(count["returns_cents"]).scaleb(-2),
    )
