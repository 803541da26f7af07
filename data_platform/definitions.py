"""Everything that Dagster loads."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from data_platform.assets.marts import MART_ASSETS
from data_platform.assets.quality import QUALITY_ASSETS, QUALITY_CHECKS
from data_platform.assets.raw import RAW
from data_platform.assets.staging import STAGING
from data_platform.assets.warehouse import WAREHOUSE_ASSETS
from data_platform.automation.alerting import alerts
from data_platform.automation.cleaning import cleaning, cleaning_schedule
from data_platform.automation.jobs import daily_sales, daily_sales_schedule, quality_watch, quality_watch_schedule
from data_platform.automation.sensors import landing_files, missing_partitions, source_watermarks
from data_platform.io_managers.parquet import LakeIOManager
from data_platform.io_managers.postgres import WarehouseIOManager
from data_platform.resources import Platform
from data_platform.settings import settings


def build_defs(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All definitions; tests override resources, such as `platform` by `Platform.using(settings)`."""
    overrides = dict(resource_overrides or {})
    platform = overrides.pop("platform", None) or Platform()
    return dg.Definitions(
        assets=dg.map_asset_specs(_fresh, [*RAW, *STAGING, *WAREHOUSE_ASSETS, *MART_ASSETS, *QUALITY_ASSETS]),
        asset_checks=QUALITY_CHECKS,
        jobs=[daily_sales, quality_watch, cleaning],
        schedules=[daily_sales_schedule, quality_watch_schedule, cleaning_schedule],
        sensors=[landing_files, source_watermarks, missing_partitions, alerts],
        resources={
            "platform": platform,
            "lake": LakeIOManager(platform=platform),
            "warehouse": WarehouseIOManager(platform=platform),
            **overrides,
        },
        # A process a step costs more than most of the steps do.
        executor=EXECUTORS[settings().executor],
    )


def _fresh(spec: dg.AssetSpec) -> dg.AssetSpec:
    fresh: dg.AssetSpec = dg.apply_freshness_policy(spec, FRESHNESS)
    return fresh


# The schedule runs once a day; whether yesterday's delivery is in it is for the checks of completeness to say.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=26))

EXECUTORS: dict[str, dg.ExecutorDefinition] = {
    "in_process": dg.in_process_executor,
    # Polars does not survive a fork.
    "multiprocess": dg.multiprocess_executor.configured({"start_method": {"forkserver": {}}}, name="multiprocess"),
}

defs = build_defs()
