"""A whole platform in this process: landing files of a few lines, runs of the real assets, and what came of them."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
from psycopg import sql

from data_platform.definitions import build_defs
from data_platform.lake import Lake
from data_platform.resources import Platform
from data_platform.settings import read_settings

DAY = "2024-01-05"


@dataclass(frozen=True)
class Shop:
    """A platform of its own below `home`; each run is one of an ephemeral Dagster instance."""

    home: Path
    warehouse: str
    instance: dg.DagsterInstance

    @property
    def lake(self) -> Lake:
        return Lake(self.home / "lake")

    @property
    def platform(self) -> Platform:
        chosen = replace(
            read_settings({}),
            home=self.home,
            warehouse_url=self.warehouse,
            lake_url=str(self.home / "lake"),
            landing_url=str(self.home / "landing"),
            sources_file=self.home / "sources.yaml",
            retention_file=self.home / "retention.yaml",
        )
        return Platform.using(chosen)

    def landing(self, entity: str, day: str = DAY) -> Path:
        """Where the day's csv file lies."""
        return self.home / "landing" / entity / f"{day}.csv"

    def deliver(self, entity: str, *rows: Mapping[str, Any], day: str = DAY, columns: Sequence[str] = ()) -> Path:
        """Put the day's delivery into the landing folder, in place of the one that is there."""
        path = self.landing(entity, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
        with path.open("w", newline="", encoding="utf8") as file:
            writer = csv.DictWriter(file, list(names))
            writer.writeheader()
            writer.writerows(rows)
        return path

    def run(self, select: str | None = None, first: str = DAY, last: str | None = None) -> dg.ExecuteInProcessResult:
        """Materialize `select` (names and Dagster's selection syntax, comma-separated; else all) over the days."""
        definitions = build_defs({"platform": self.platform})
        graph = definitions.resolve_asset_graph()
        wanted = dg.AssetSelection.from_coercible(select.split(",") if select else "*")
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        return definitions.resolve_job_def("daily_sales").execute_in_process(
            instance=self.instance,
            asset_selection=sorted(wanted.resolve(graph), key=str),
            tags=tags,
            raise_on_error=False,
        )

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.warehouse) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[arg-type]

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.warehouse) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def places(self, schema: str) -> dict[str, list[tuple[Any, ...]]]:
        """Of every row of a schema's tables its place and the transactions that made and touched it."""
        tables = self.query(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' ORDER BY 1")
        found = {}
        with psycopg.connect(self.warehouse) as connection:
            for (table,) in tables:
                query = sql.SQL("SELECT tableoid, ctid, xmin, xmax FROM {} ORDER BY 1, 2")
                found[table] = connection.execute(query.format(sql.Identifier(schema, table))).fetchall()
        return found


@contextmanager
def open_shop(home: Path, warehouse: str) -> Iterator[Shop]:
    """A shop with nothing in it."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Shop(home, warehouse, instance)


def line(order: str, product: str = "p1", **values: Any) -> dict[str, Any]:
    """An order line of 2 × 10.00 on the 5th of January 2024; `day` is its order date."""
    row = {
        "order_id": order,
        "line_number": 1,
        "customer_id": "c1",
        "product_id": product,
        "quantity": 2,
        "unit_price": "10.00",
        "discount_amount": "0",
        "order_ts": f"{values.pop('day', DAY)}T10:00:00",
        "status": "",
    }
    return row | values


def product(product_id: str = "p1", **values: Any) -> dict[str, Any]:
    """A product that costs 4.00."""
    return {
        "product_id": product_id,
        "product_name": f"Thing {product_id}",
        "category": "things",
        "cost": "4.00",
    } | values


def customer(customer_id: str = "c1", **values: Any) -> dict[str, Any]:
    """A customer."""
    return {"customer_id": customer_id, "segment": "retail", "country": "DE"} | values


def checks(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    """Every check result of a run, by table and check."""
    found = result.get_asset_check_evaluations()
    return {(check.asset_key.path[-1], check.check_name): check for check in found}


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Of each step that failed the sentence."""
    return {
        event.step_key: (event.step_failure_data.user_failure_data.description or "")
        if event.step_failure_data.user_failure_data
        else str(event.step_failure_data.error)
        for event in result.all_node_events
        if event.is_step_failure and event.step_key
    }
