"""dim_date, dim_customer, dim_product, fact_sales, fact_returns: the star schema in Postgres.

These assets say what is published; the load engine reads staging and history itself, so nothing is an input here.
Facts follow dimensions for order only: they are right in any order, this one is the cheapest.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from data_platform.assets.catalogue import OWNERS, SINGLE_RUN, catalogue, same_columns
from data_platform.contracts import STAGED, WAREHOUSE
from data_platform.contracts.contract import Contract
from data_platform.contracts.rules import Judged
from data_platform.errors import PlatformError
from data_platform.failures import failure
from data_platform.io_managers.postgres import Publication
from data_platform.partitions import DAILY, days_of
from data_platform.quality.balances import Account, ledger_accounts
from data_platform.quality.checks import (
    audit_results,
    audit_specs,
    balance_result,
    balance_spec,
    equation,
    rule_results,
    rule_specs,
    unmade_results,
)
from data_platform.quality.queries import Answer, ask, query_records, query_results
from data_platform.quality.recording import balance_records, keep, newest_day, record_of, remembered
from data_platform.resources import Platform
from data_platform.warehouse.audits import (
    DIMENSION_AUDITS,
    FACT_AUDITS,
    Verdict,
    audit_dimension,
    audit_facts,
    dates_of,
    snapshot,
)
from data_platform.warehouse.dimensions import DIMENSIONS
from data_platform.warehouse.ledger import classes_of
from data_platform.warehouse.publish import BALANCE

BALANCES = (
    "delivered = staged + quarantined + duplicate, every staged row has one class, and control totals agree: in the "
    "ledger as it stands, and with staging."
)


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
        check_specs=[balance_spec(table, BALANCES), *rule_specs(contract), *audit_specs(table, DIMENSION_AUDITS)],
        description=contract.description,
        metadata=catalogue(contract, _dimension_lineage(contract, upstream)),
    )
    def dimension(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
        publication = Publication(table)
        yield dg.Output(publication)
        hindsight = _Hindsight(platform, publication, days_of(context.partition_keys), [contract])
        yield from hindsight.results(contract, context.run)

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


class _Hindsight:
    """What the tables and the ledger say after a publish, read back in one snapshot.

    Made after the output, so after the commit: nothing of it can stop the publish, nor what follows it. Where a
    critical rule stops a publish, the IO manager tells the check. `days` are the run's.
    """

    def __init__(
        self, platform: Platform, publication: Publication, days: Sequence[date], contracts: Sequence[Contract]
    ) -> None:
        assert publication.report is not None
        self.platform, self.contracts = platform, contracts
        self.report = report = publication.report
        days = sorted({*days, *report.partitions})
        self.accounts: list[Account] = []
        self.verdicts: dict[str, list[Verdict]] = {}
        self.answers: dict[str, dict[str, Answer]] = {}
        self.unmade = ""
        try:
            self._look(days)
        except (PlatformError, pl.exceptions.PolarsError, OSError) as error:
            # An error of files names a path, and one of Polars may quote values.
            self.unmade = str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}."

    def _look(self, days: Sequence[date]) -> None:
        report, platform = self.report, self.platform
        with snapshot(platform.warehouse_url) as connection:
            self.accounts = ledger_accounts(connection, report.asset, report.stamps, days)
            if report.asset in DIMENSIONS:
                dimension, zone = DIMENSIONS[report.asset], platform.settings.timezone
                found = audit_dimension(
                    connection, platform.lake, dimension, ids=report.touched, days=days, timezone=zone
                )
                self.verdicts = {report.asset: found}
            else:
                self.verdicts = audit_facts(connection, dates=dates_of(report.touched, days))
            self.answers = {contract.table: ask(connection, contract, days) for contract in self.contracts}

    def results(self, contract: Contract, run: dg.DagsterRun) -> Iterator[dg.AssetCheckResult]:
        """The checks of one of the tables that were published, after they were written to the history."""
        written = self.report.inserted + self.report.updated
        table = contract.table
        found = rule_results(contract, self.report.rules.get(table, Judged({}, {})), written)
        audits = DIMENSION_AUDITS if table in DIMENSIONS else FACT_AUDITS
        if self.unmade:
            found += unmade_results(table, [BALANCE, *audits], self.unmade)
            for rule in contract.queries:
                found += unmade_results(table, [rule.name], self.unmade, rule.severity)
            yield from remembered(self.platform, run, found)
            return
        found += audit_results(table, self.verdicts[table])
        day = newest_day(run)
        records = [*(record_of(one, day) for one in found), *balance_records(table, self.accounts, of="delivered")]
        keep(self.platform, run.run_id, [*records, *query_records(contract, self.answers[table])])
        note = equation(self.accounts, list(classes_of(table)))
        yield balance_result(table, self.accounts, of="delivered", note=note)
        yield from found
        yield from query_results(contract, self.answers[table])


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
    check_specs=[
        check
        for contract in FACTS
        for check in (
            balance_spec(contract.table, BALANCES),
            *rule_specs(contract),
            *audit_specs(contract.table, FACT_AUDITS),
        )
    ],
)
def facts(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    """Both fact tables are one publish; whichever is asked for, both come right."""
    if not context.selected_asset_keys:
        raise failure("The checks of the facts are made after a publish: materialize fact_sales or fact_returns.")
    publication = Publication("fact_sales")
    hindsight = None
    for contract in FACTS:
        if dg.AssetKey(contract.table) in context.selected_asset_keys:
            yield dg.Output(publication, output_name=contract.table)
            hindsight = hindsight or _Hindsight(platform, publication, days_of(context.partition_keys), FACTS)
            yield from hindsight.results(contract, context.run)


WAREHOUSE_ASSETS = [dim_date, *DIMENSION_ASSETS, facts]
