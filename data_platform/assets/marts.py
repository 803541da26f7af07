"""mart_daily_sales, mart_product_performance, mart_customer_value: what people and dashboards read."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import dagster_pandas
import pandas as pd
import polars as pl

from data_platform.assets.catalogue import OWNERS, SINGLE_RUN, catalogue
from data_platform.contracts import MARTS, WAREHOUSE
from data_platform.contracts.contract import Contract, broken
from data_platform.contracts.rules import judged
from data_platform.errors import PlatformError
from data_platform.failures import explained, failure
from data_platform.io_managers.postgres import REFRESH
from data_platform.quality.balances import MART_FIGURES, mart_accounts
from data_platform.quality.checks import balance_result, balance_spec, rule_results, rule_specs, unmade_results
from data_platform.quality.recording import remembered
from data_platform.resources import Platform
from data_platform.warehouse.audits import snapshot
from data_platform.warehouse.marts import Refresh, read_table, select_stale
from data_platform.warehouse.publish import BALANCE

FACTS = ["fact_sales", "fact_returns"]


# What is compared are the periods that the run refreshed, all of them where it refreshed none.
BALANCES = {
    "mart_daily_sales": "Per order date lines, quantity, net sales and profit are those of the facts.",
    "mart_product_performance": "Per month products, quantity, net sales and profit are those of the facts.",
    "mart_customer_value": "Per month of the first order customers and net sales are those of the facts.",
}


def _of(table: str, *columns: str) -> list[tuple[str, str]]:
    return [(table, column) for column in columns]


def _of_facts(*columns: str) -> list[tuple[str, str]]:
    return [pair for table in FACTS for pair in _of(table, *columns)]


# What each SELECT in sql/marts takes its columns from.
LINEAGE = {
    "mart_daily_sales": {
        "date_key": _of_facts("date_key"),
        "full_date": _of("dim_date", "full_date"),
        "orders": _of("fact_sales", "order_id"),
        "lines": _of("fact_sales", "order_id", "line_number"),
        "customers": _of("fact_sales", "customer_key"),
        "quantity": _of("fact_sales", "quantity"),
        "gross_sales": _of("fact_sales", "total_amount", "discount_amount"),
        "discounts": _of("fact_sales", "discount_amount"),
        "sales": _of("fact_sales", "total_amount"),
        "return_lines": _of("fact_returns", "order_id", "line_number"),
        "returned_quantity": _of("fact_returns", "quantity"),
        "returns": _of("fact_returns", "total_amount"),
        "net_sales": _of_facts("total_amount"),
        "profit": _of_facts("profit"),
        "average_order_value": _of("fact_sales", "total_amount", "order_id"),
    },
    "mart_product_performance": {
        "month_start": _of_facts("date_key"),
        "product_id": _of("dim_product", "product_id"),
        "product_name": _of("dim_product", "product_name"),
        "category": _of("dim_product", "category"),
        "brand": _of("dim_product", "brand"),
        "orders": _of("fact_sales", "order_id"),
        "quantity": _of("fact_sales", "quantity"),
        "sales": _of("fact_sales", "total_amount"),
        "returned_quantity": _of("fact_returns", "quantity"),
        "returns": _of("fact_returns", "total_amount"),
        "net_sales": _of_facts("total_amount"),
        "profit": _of_facts("profit"),
        "margin": _of_facts("profit", "total_amount"),
        "return_rate": _of_facts("quantity"),
    },
    "mart_customer_value": {
        "customer_id": _of("dim_customer", "customer_id"),
        "segment": _of("dim_customer", "segment"),
        "country": _of("dim_customer", "country"),
        "first_order_date": _of("fact_sales", "date_key"),
        "last_order_date": _of("fact_sales", "date_key"),
        "cohort_month": _of("fact_sales", "date_key"),
        "recency_days": _of_facts("date_key"),
        "frequency": _of("fact_sales", "order_id"),
        "monetary_value": _of_facts("total_amount"),
        "average_order_value": _of("fact_sales", "total_amount", "order_id"),
    },
}


# Once something upstream was published since the mart was refreshed or asked for, and nothing of it is running: not
# eager(), which waits until every partition upstream is there. A refresh that fails is not asked for again before the
# next publish.
FOLLOWS = (
    dg.AutomationCondition.any_deps_updated().since(
        dg.AutomationCondition.newly_updated() | dg.AutomationCondition.newly_requested()
    )
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("follows_what_is_published")


def _mart(contract: Contract) -> dict[str, Any]:
    return {
        "name": contract.table,
        "group_name": "marts",
        "kinds": {"postgres", "table"},
        "owners": OWNERS,
        "io_manager_key": "warehouse",
        "backfill_policy": SINGLE_RUN,
        "automation_condition": FOLLOWS,
        # A dimension that splits a version re-keys facts: a run without the facts refreshes marts after it as well.
        "deps": list(WAREHOUSE),
        "check_specs": [*rule_specs(contract), balance_spec(contract.table, BALANCES[contract.table])],
        "description": contract.description,
        "metadata": catalogue(contract, LINEAGE[contract.table]),
    }


def _judged(contract: Contract, refresh: Refresh) -> tuple[list[dg.AssetCheckResult], str | None]:
    """The results of a mart's rules over its new rows, and the sentence if a critical one stops the refresh."""
    contract.validate(refresh.rows)
    found = judged(refresh.rows, contract.rules)
    stops = [
        rule for rule in contract.rules
        if rule.severity == "critical" and (found.failed[rule.name] or rule.name in found.errors)
    ]  # fmt: skip
    return rule_results(contract, found, refresh.rows.height), str(broken(contract, stops[0], found)) if stops else None


def _balance(platform: Platform, refresh: Refresh) -> dg.AssetCheckResult:
    """The facts' totals against the mart's, read back after the refresh was committed."""
    try:
        with snapshot(platform.warehouse_url) as connection:
            accounts = mart_accounts(connection, refresh.mart, refresh.scope if refresh.marks else None)
    except PlatformError as error:
        return unmade_results(refresh.mart, [BALANCE], str(error))[0]
    counted = f"facts_{MART_FIGURES[refresh.mart][0]}"
    note = f"{len(accounts)} periods balance." if accounts else "There is nothing to compare."
    return balance_result(refresh.mart, accounts, of=counted, note=note)


def _plain_mart(contract: Contract) -> dg.AssetsDefinition:
    @dg.asset(**_mart(contract))
    def mart(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
        with explained():
            refresh = select_stale(platform.warehouse_url, contract.table)
            results, stop = _judged(contract, refresh)
        yield from remembered(platform, context.run, results)
        if stop:
            raise failure(stop)
        yield dg.Output(refresh)
        yield from remembered(platform, context.run, [_balance(platform, refresh)])

    plain: dg.AssetsDefinition = mart
    return plain


CUSTOMER_VALUE = MARTS["mart_customer_value"]
PANDAS: Any = dagster_pandas  # it has no types


def _pandas_column(contract: Contract, name: str) -> Any:
    column = contract.columns[name]
    nullable = {"non_nullable": not column.nullable}
    if isinstance(column.dtype, pl.Date):
        return PANDAS.PandasColumn.datetime_column(name, **nullable)
    if isinstance(column.dtype, pl.Decimal):
        return PANDAS.PandasColumn.float_column(name, **nullable)
    if column.dtype.is_integer():
        return PANDAS.PandasColumn.integer_column(name, min_value=0, **nullable)
    return PANDAS.PandasColumn.string_column(name, unique=contract.key == (name,), **nullable)


def _summary(frame: pd.DataFrame) -> Mapping[str, dg.MetadataValue]:
    if frame.empty:
        return {"customers": dg.MetadataValue.int(0)}
    described = frame[["recency_days", "frequency", "monetary_value"]].describe().round(2)
    return {
        "customers": dg.MetadataValue.int(len(frame)),
        "summary": dg.MetadataValue.md(_table(described)),
        "cohorts": dg.MetadataValue.int(int(frame["cohort_month"].nunique())),
    }


def _table(described: pd.DataFrame) -> str:
    lines = [["", *described.columns], ["---"] * (1 + len(described.columns))]
    for name, row in zip(described.index, described.to_numpy(), strict=True):
        lines.append([str(name), *(f"{value:,.2f}" for value in row)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


CustomerValueFrame = PANDAS.create_dagster_pandas_dataframe_type(
    name="CustomerValueFrame",
    description="mart_customer_value as analysts get it in pandas: money as float64, dates as datetime64.",
    columns=[_pandas_column(CUSTOMER_VALUE, name) for name in CUSTOMER_VALUE.columns],
    metadata_fn=_summary,
)


def as_pandas(rows: pl.DataFrame) -> pd.DataFrame:
    """A mart's rows as analysts get them: money as float64, dates as datetime64[ns]."""
    return rows.with_columns(
        pl.col(pl.Decimal).cast(pl.Float64),
        pl.col(pl.Date).cast(pl.Datetime("ns")),
    ).to_pandas()


@dg.asset(**_mart(CUSTOMER_VALUE), dagster_type=CustomerValueFrame)
def mart_customer_value(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    """Handed to analysts in pandas; what is written are the exact decimals that the frame carries along."""
    with explained():
        refresh = select_stale(platform.warehouse_url, CUSTOMER_VALUE.table)
        results, stop = _judged(CUSTOMER_VALUE, refresh)
        rows = refresh.rows if refresh.marks else read_table(platform.warehouse_url, CUSTOMER_VALUE)
    yield from remembered(platform, context.run, results)
    if stop:
        raise failure(stop)
    frame = as_pandas(rows)
    frame.attrs[REFRESH] = refresh
    yield dg.Output(frame, metadata=dict(_summary(frame)))
    yield from remembered(platform, context.run, [_balance(platform, refresh)])


PLAIN = [contract for name, contract in MARTS.items() if name != CUSTOMER_VALUE.table]
MART_ASSETS = [*map(_plain_mart, PLAIN), mart_customer_value]
