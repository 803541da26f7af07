"""dim_date, dim_customer, dim_product, fact_sales, fact_returns: the star schema in Postgres.

These assets say what is published; the load engine reads staging and history itself, so nothing is an input here.
Facts follow dimensions for order only: they are right in any order, this one is the cheapest.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from data_platform.assets.catalogue import OWNERS, SINGLE_RUN, catalogue, same_columns
from data_platform.contracts import STAGED, WAREHOUSE
from data_platform.contracts.contract import Contract
from data_platform.io_managers.postgres import Publication
from data_platform.partitions import DAILY
from data_platform.quality.checks import result, rule_results, rule_specs, spec
from data_platform.warehouse.publish import BALANCE, Published


def _balance_spec(table: str) -> dg.AssetCheckSpec:
    text = "delivered = staged + quarantined + duplicate, every staged row has one class, and control totals agree."
    return spec(table, BALANCE, text, "critical")


def _balance(table: str, report: Published) -> dg.AssetCheckResult:
    """Law 4 over the partitions that the run published; had it not held, `publish` would have refused them."""
    stamps = [report.stamps[day] for day in report.partitions]
    delivered = sum(stamp.rows_delivered for stamp in stamps)
    staged = sum(stamp.rows_staged for stamp in stamps)
    quarantined = sum(stamp.rows_quarantined for stamp in stamps)
    duplicate = sum(stamp.rows_duplicate for stamp in stamps)
    note = f"{delivered} delivered = {staged} staged + {quarantined} quarantined + {duplicate} duplicate; staged = "
    note += " + ".join(f"{count} {name}" for name, count in report.counts.items()) or "0"
    return result(table, BALANCE, severity="critical", failed=0, judged=delivered, blocking=True, note=note)


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=SINGLE_RUN,
    group_name="warehouse",
    kinds={"postgres", "table"},
    owners=OWNERS,
    io_manager_key="warehouse",
    description=WAREHOUSE["dim_date"].description,
    metadata=catalogue(WAREHOUSE["dim_date"]),
)
def dim_date() -> Publication:
    """The calendar, whole years, as far as partitions and facts need it."""
    return Publication("dim_date")


def _dimension(table: str, upstream: Contract) -> dg.AssetsDefinition:
    contract = WAREHOUSE[table]

    @dg.asset(
        name=table,
        partitions_def=DAILY,
        backfill_policy=SINGLE_RUN,
        group_name="warehouse",
        kinds={"postgres", "table"},
        owners=OWNERS,
        io_manager_key="warehouse",
        deps=[upstream.table],
        check_specs=[_balance_spec(table), *rule_specs(contract)],
        description=contract.description,
        metadata=catalogue(contract, _dimension_lineage(contract, upstream)),
    )
    def dimension() -> Iterator[Any]:
        publication = Publication(table)
        yield dg.Output(publication)
        yield from _verdicts(contract, publication)

    return dimension


def _dimension_lineage(contract: Contract, upstream: Contract) -> dict[str, list[tuple[str, str]]]:
    moment = (upstream.table, "updated_at")
    identifier, deleted = (upstream.table, upstream.key[0]), (upstream.table, "is_deleted")
    return same_columns(contract, upstream) | {
        contract.key[0]: [identifier, moment],
        "effective_from": [moment],
        "effective_to": [moment, deleted],
        "is_current": [moment, deleted],
        "is_inferred": [identifier, ("stg_orders", identifier[1])],
    }


def _verdicts(contract: Contract, publication: Publication) -> Iterator[dg.AssetCheckResult]:
    # Yielded after the output, so after the publish. Where a critical rule stops it, the IO manager tells the check.
    report = publication.report
    assert report is not None
    yield _balance(contract.table, report)
    yield from rule_results(contract, report.rules.get(contract.table, {}), report.inserted + report.updated)


DIMENSION_ASSETS = [_dimension("dim_customer", STAGED["customers"]), _dimension("dim_product", STAGED["products"])]
FACTS = (WAREHOUSE["fact_sales"], WAREHOUSE["fact_returns"])
FACT_LINEAGE = same_columns(FACTS[0], STAGED["orders"]) | {
    "date_key": [("stg_orders", "order_ts")],
    "customer_key": [("stg_orders", "customer_id"), ("dim_customer", "customer_key")],
    "product_key": [("stg_orders", "product_id"), ("dim_product", "product_key")],
    "profit": [("stg_orders", "total_amount"), ("stg_orders", "quantity"), ("dim_product", "cost")],
}


@dg.multi_asset(
    name="facts",
    partitions_def=DAILY,
    backfill_policy=SINGLE_RUN,
    can_subset=True,
    specs=None,
    outs={
        contract.table: dg.AssetOut(
            io_manager_key="warehouse",
            is_required=False,
            group_name="warehouse",
            kinds={"postgres", "table"},
            owners=OWNERS,
            description=contract.description,
            metadata=catalogue(contract, FACT_LINEAGE),
        )
        for contract in FACTS
    },
    deps=["stg_orders", "dim_date", "dim_customer", "dim_product"],
    check_specs=[check for contract in FACTS for check in (_balance_spec(contract.table), *rule_specs(contract))],
)
def facts(context: dg.AssetExecutionContext) -> Iterator[Any]:
    """Both fact tables are one publish; whichever is asked for, both come right."""
    publication = Publication("fact_sales")
    for contract in FACTS:
        if dg.AssetKey(contract.table) in context.selected_asset_keys:
            yield dg.Output(publication, output_name=contract.table)
            yield from _verdicts(contract, publication)


WAREHOUSE_ASSETS = [dim_date, *DIMENSION_ASSETS, facts]
