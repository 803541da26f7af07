"""The main job, the watch over what it did or did not do, and their schedules."""

import dagster as dg

from data_platform.assets.quality import QUALITY_ASSETS, QUALITY_CHECKS, WATCH
from data_platform.partitions import DAILY

HOUR = 6
WATCH_HOUR = 9

# One run at a time goes by this tag: see dagster.yaml.
TAGS = {"data_platform/job": "daily_sales"}

daily_sales = dg.define_asset_job(
    "daily_sales",
    selection=dg.AssetSelection.all(include_sources=False),
    description="Everything for a day, or for a range of days in one run: deliveries to marts.",
    tags=TAGS,
    owners=["team:data-platform"],
)

daily_sales_schedule = dg.build_schedule_from_partitioned_job(
    daily_sales,
    name="daily_sales_at_six",
    description=f"Runs daily_sales at {HOUR}:00 business time ({DAILY.timezone}) for the day before.",
    hour_of_day=HOUR,
    tags=TAGS,
)

# A job of its own: where the main job did not run there is no other to notice.
quality_watch = dg.define_asset_job(
    WATCH,
    selection=dg.AssetSelection.checks(*QUALITY_CHECKS) | dg.AssetSelection.assets(*QUALITY_ASSETS),
    description="Looks whether yesterday was delivered and what waits in quarantine, and writes the quality report.",
    tags={"data_platform/job": WATCH},
    owners=["team:data-platform"],
)

quality_watch_schedule = dg.ScheduleDefinition(
    name="quality_watch_at_nine",
    job=quality_watch,
    cron_schedule=f"0 {WATCH_HOUR} * * *",
    execution_timezone=DAILY.timezone,
    description=f"Runs quality_watch at {WATCH_HOUR}:00 business time ({DAILY.timezone}).",
)
