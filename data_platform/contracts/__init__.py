"""The contracts of all tables, by name."""

from data_platform.contracts import (
    customers,
    dim_customer,
    dim_date,
    dim_product,
    fact_returns,
    fact_sales,
    mart_customer_value,
    mart_daily_sales,
    mart_product_performance,
    orders,
    products,
)
from data_platform.contracts.contract import Contract

STAGED = {"orders": orders.CONTRACT, "products": products.CONTRACT, "customers": customers.CONTRACT}
WAREHOUSE = {
    module.CONTRACT.table: module.CONTRACT for module in (dim_date, dim_customer, dim_product, fact_sales, fact_returns)
}
MARTS = {
    module.CONTRACT.table: module.CONTRACT
    for module in (mart_daily_sales, mart_product_performance, mart_customer_value)
}


def published_contracts() -> list[Contract]:
    """The contracts of everything that lives in Postgres."""
    return [*WAREHOUSE.values(), *MARTS.values()]
