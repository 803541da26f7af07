"""Where and how a table of Postgres is written and read: staged by COPY, compared, the difference committed."""

from typing import Any

import dagster as dg
import pandas as pd
import polars as pl
from dagster._core.events import DagsterEvent
from psycopg import sql

from data_platform.contracts import MARTS, WAREHOUSE
from data_platform.costs import metering
from data_platform.errors import PlatformError, RuleBroken
from data_platform.failures import explained
from data_platform.partitions import days_of
from data_platform.quality.history import CheckRecord
from data_platform.quality.recording import keep
from data_platform.resources import Platform
from data_platform.warehouse import marts
from data_platform.warehouse.calendar import staged_days
from data_platform.warehouse.publish import Published, publish, publish_calendar

REFRESH = "refresh"


class Publication:
    """What a dimension or fact asset hands over: publish `table` from staging. Afterwards `report` says what it did.

    Both fact tables are one publish: they hand over the same publication, which is published once.
    """

    def __init__(self, table: str) -> None:
        self.table = table
        self.report: Published | None = None


class WarehouseIOManager(dg.ConfigurableIOManager):
    """Publishes dimensions and facts from staging, refreshes marts, and reads tables as Polars or pandas frames.

    A publish is one transaction with its ledger rows, whatever the number of partitions in the run. What it wrote is
    the output's metadata.
    """

    platform: dg.ResourceDependency[Platform]

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish a Publication, or write a mart's Refresh (bare, or carried by a frame of pandas)."""
        with explained():
            table = context.asset_key.path[-1]
            if isinstance(obj, Publication):
                self._publish(context, obj)
            elif isinstance(obj, marts.Refresh):
                self._refresh(context, obj)
            elif isinstance(obj, pd.DataFrame) and isinstance(obj.attrs.get(REFRESH), marts.Refresh):
                self._refresh(context, obj.attrs[REFRESH])
            else:
                raise PlatformError(f"{table} returned a {type(obj).__name__}: return a Publication or a Refresh.")

    def _publish(self, context: dg.OutputContext, publication: Publication) -> None:
        settings = self.platform.settings
        if publication.table == "dim_date":
            days = staged_days(self.platform.lake)
            written = publish_calendar(self.platform.warehouse_url, days, settings.start_date)
            metering.count_other_rows(written, written=written)
            context.add_output_metadata({"rows_inserted": written})
            return
        if publication.report is None:
            try:
                publication.report = publish(
                    self.platform.warehouse_url,
                    self.platform.lake,
                    publication.table,
                    run_id=context.run_id,
                    timezone=settings.timezone,
                )
            except RuleBroken as broken:
                self._show(context, broken)
                raise
            metering.count_rows(publication.report.rows, written=publication.report.written)
        report = publication.report
        context.add_output_metadata(
            {
                "path": report.path,
                "partitions_published": len(report.partitions),
                "rows_inserted": report.inserted,
                "rows_updated": report.updated,
                "rows_deleted": report.deleted,
                "facts_rekeyed": report.rekeyed,
                **{f"rows_{name}": count for name, count in report.counts.items()},
            }
        )

    def _show(self, context: dg.OutputContext, broken: RuleBroken) -> None:
        # The step ends here, so it cannot yield the result of the rule that stopped it.
        day = max(days_of(context.asset_partition_keys)) if context.has_asset_partitions else None
        record = CheckRecord(
            broken.table, broken.rule, "critical", False, day, rows_judged=broken.rows, rows_failed=broken.rows,
            note=str(broken),
        )  # fmt: skip
        keep(self.platform, context.run_id, [record])
        evaluation = dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(broken.table),
            check_name=broken.rule,
            passed=False,
            metadata={"rows_failed": dg.MetadataValue.int(broken.rows)},
            severity=dg.AssetCheckSeverity.ERROR,
            description=str(broken),
        )
        DagsterEvent.asset_check_evaluation(context.step_context, evaluation)

    def _refresh(self, context: dg.OutputContext, refresh: marts.Refresh) -> None:
        done = marts.apply(self.platform.warehouse_url, refresh)
        metering.count_other_rows(marts.rows_behind(refresh), written=done.inserted + done.updated + done.deleted)
        context.add_output_metadata(
            {
                "rows_inserted": done.inserted,
                "rows_updated": done.updated,
                "rows_deleted": done.deleted,
                "superseded_by_another_run": done.superseded,
            }
        )

    def load_input(self, context: dg.InputContext) -> Any:
        """A table as pl.DataFrame, or as pl.LazyFrame or pd.DataFrame where the input is annotated so.

        Dimensions and marts whole; facts those delivered on the partitions asked for (delivered_on).
        """
        with explained():
            table = context.asset_key.path[-1]
            contract = WAREHOUSE.get(table) or MARTS[table]
            condition = None
            if "delivered_on" in contract.columns and context.has_asset_partitions:
                condition = sql.SQL("delivered_on = ANY({})").format(sql.Literal(days_of(context.asset_partition_keys)))
            frame = marts.read_table(self.platform.warehouse_url, contract, condition)
            wanted = context.dagster_type.typing_type
            if wanted is pd.DataFrame:
                return frame.to_pandas()
            return frame.lazy() if wanted is pl.LazyFrame else frame
