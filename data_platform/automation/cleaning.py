"""The job that cleans up every night as `data-platform cleanup` does, and its schedule."""

from datetime import UTC, datetime

import dagster as dg

from data_platform.failures import explained, failure
from data_platform.partitions import DAILY
from data_platform.resources import Platform
from data_platform.retention.cleanup import cleanup
from data_platform.retention.config import load_retention

NAME = "cleanup"
HOUR = 4


@dg.op(name="clean_up", description="Removes what killed runs left, and what is older than retention.yaml keeps it.")
def clean_up(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Every step of the cleanup, each a line in the log. Fails where one failed; what the others did stands."""
    with explained():
        chosen = platform.settings
        cleaned = cleanup(
            chosen, platform.lake, load_retention(chosen), datetime.now(UTC), dry_run=False,
            tell=lambda one: context.log.info(one.in_words(dry_run=False)),
        )  # fmt: skip
    if cleaned.failures:
        raise failure(" ".join(cleaned.failures))


@dg.job(
    name=NAME,
    description="Leftovers of killed runs, Dagster's old log, raw and staging beyond their age, dead rows.",
    tags={"data_platform/job": NAME},
    owners=["team:data-platform"],
)
def cleaning() -> None:
    """One op: the steps follow one another, and what one cannot do keeps no other from its work."""
    clean_up()


cleaning_schedule = dg.ScheduleDefinition(
    name="cleanup_at_four",
    job=cleaning,
    cron_schedule=f"0 {HOUR} * * *",
    execution_timezone=DAILY.timezone,
    description=f"Runs cleanup at {HOUR}:00 business time ({DAILY.timezone}).",
)
