"""mart_daily_sales, mart_product_performance, mart_customer_value: what people and dashboards read."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pandas as pd
import polars as pl
from dagster_pandas import PandasColumn, create_dagster_pandas_dataframe_type

from data_platform.assets.catalogue import OWNERS, SINGLE_RUN, catalogue
from data_platform.contracts import MARTS
from data_platform.contracts.contract import Contract, failing
from data_platform.failures import explained, failure
from data_platform.io_managers.postgres import REFRESH
from data_platform.quality.checks import rule_results, rule_specs
from data_platform.resources import Platform
from data_platform.warehouse.marts import Refresh, read_table, select_stale

FACTS = ["fact_sales", "fact_returns"]


def _mart(contract: Contract) -> dict[str, Any]:
    return {
        "name": contract.table,
        "group_name": "marts",
        "kinds": {"postgres", "table"},
        "owners": OWNERS,
        "io_manager_key": "warehouse",
        "backfill_policy": SINGLE_RUN,
        "deps": FACTS,
        "check_specs": rule_specs(contract),
        "description": contract.description,
        "metadata": catalogue(contract),
    }


def _judged(contract: Contract, refresh: Refresh) -> tuple[list[dg.AssetCheckResult], str | None]:
    """The results of a mart's rules over its new rows, and the sentence if a critical one stops the refresh."""
    contract.validate(refresh.rows)
    failures = failing(refresh.rows, contract.rules)
    broken = [rule for rule in contract.rules if rule.severity == "critical" and failures[rule.name]]
    sentence = None
    if broken:
        rule = broken[0]
        sentence = (
            f"{contract.table}: {failures[rule.name]} rows break the critical rule {rule.name} "
            f"({rule.description}): the table stays as it was; see the check in the UI."
        )
    return rule_results(contract, failures, refresh.rows.height), sentence


def _plain_mart(contract: Contract) -> dg.AssetsDefinition:
    @dg.asset(**_mart(contract))
    def mart(platform: Platform) -> Iterator[Any]:
        with explained():
            refresh = select_stale(platform.warehouse_url, contract.table)
            results, stop = _judged(contract, refresh)
        yield from results
        if stop:
            raise failure(stop)
        yield dg.Output(refresh)

    return mart


CUSTOMER_VALUE = MARTS["mart_customer_value"]


def _pandas_column(contract: Contract, name: str) -> PandasColumn:
    column = contract.columns[name]
    nullable = {"non_nullable": not column.nullable}
    if isinstance(column.dtype, pl.Date):
        return PandasColumn.datetime_column(name, **nullable)
    if isinstance(column.dtype, pl.Decimal):
        return PandasColumn.float_column(name, **nullable)
    if column.dtype.is_integer():
        return PandasColumn.integer_column(name, min_value=0, **nullable)
    return PandasColumn.string_column(name, unique=contract.key == (name,), **nullable)


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
    head = "| | " + " | ".join(map(str, described.columns)) + " |\n|---" * 1 + "|---" * len(described.columns) + "|"
    rows = [f"| {name} | " + " | ".join(f"{value:,.2f}" for value in row) + " |" for name, row in zip(described.index, described.to_numpy(), strict=True)]  # fmt: skip
    return "\n".join([head, *rows])


CustomerValueFrame = create_dagster_pandas_dataframe_type(
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
def mart_customer_value(platform: Platform) -> Iterator[Any]:
    """Handed to analysts in pandas; what is written are the exact decimals that the frame carries along."""
    with explained():
        refresh = select_stale(platform.warehouse_url, CUSTOMER_VALUE.table)
        results, stop = _judged(CUSTOMER_VALUE, refresh)
        rows = refresh.rows if refresh.marks else read_table(platform.warehouse_url, CUSTOMER_VALUE)
    yield from results
    if stop:
        raise failure(stop)
    frame = as_pandas(rows)
    frame.attrs[REFRESH] = refresh
    yield dg.Output(frame, metadata=dict(_summary(frame)))


MART_ASSETS = [*(_plain_mart(contract) for name, contract in MARTS.items() if name != CUSTOMER_VALUE.table), mart_customer_value]
