"""The contracts of all tables, by name."""

from data_platform.contracts import customers, dimensions, facts, marts, orders, products
from data_platform.contracts.contract import Contract

STAGED = {"orders": orders.CONTRACT, "products": products.CONTRACT, "customers": customers.CONTRACT}
WAREHOUSE = {
    contract.table: contract
    for contract in (
        dimensions.DIM_DATE,
        dimensions.DIM_CUSTOMER,
        dimensions.DIM_PRODUCT,
        facts.FACT_SALES,
        facts.FACT_RETURNS,
    )
}
MARTS = {contract.table: contract for contract in marts.CONTRACTS}


def published_contracts() -> list[Contract]:
    """The contracts of everything that lives in Postgres."""
    return [*WAREHOUSE.values(), *MARTS.values()]
