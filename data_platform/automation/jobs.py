"""The main job and its schedule."""

import dagster as dg

from data_platform.partitions import DAILY

HOUR = 6

# Retries and one run at a time go by this tag: see dagster.yaml.
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
