"""What every asset shows in the catalogue: column schema, column lineage, description, owner. All from contracts."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from data_platform.contracts.contract import Contract

OWNERS = ["team:data-platform"]
SINGLE_RUN = dg.BackfillPolicy.single_run()


def column_schema(contract: Contract) -> dg.TableSchema:
    """The contract's columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type_name,
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=contract.key == (column.name,)),
                tags={"pii": ""} if column.pii else {},
            )
            for column in contract.columns.values()
        ]
    )


def column_lineage(contract: Contract, sources: Mapping[str, list[tuple[str, str]]]) -> dg.TableColumnLineage:
    """Which upstream columns each column is made from; `sources` gives (table, column) pairs."""
    return dg.TableColumnLineage(
        deps_by_column={
            name: [dg.TableColumnDep(asset_key=table, column_name=column) for table, column in pairs]
            for name, pairs in sources.items()
            if name in contract.columns
        }
    )


def same_columns(contract: Contract, upstream: Contract) -> dict[str, list[tuple[str, str]]]:
    """Lineage of columns that bear the same name upstream."""
    return {name: [(upstream.table, name)] for name in contract.columns if name in upstream.columns}


def catalogue(contract: Contract, lineage: Mapping[str, list[tuple[str, str]]] | None = None) -> dict[str, Any]:
    """The metadata of a table's definition."""
    metadata: dict[str, Any] = {
        "dagster/column_schema": column_schema(contract),
        "dagster/table_name": _stored(contract),
    }
    if lineage:
        metadata["dagster/column_lineage"] = column_lineage(contract, lineage)
    return metadata


def _stored(contract: Contract) -> str:
    return contract.table if contract.schema == "lake" else f"{contract.schema}.{contract.table}"
