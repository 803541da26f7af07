"""The sensor that looks every minute what is to be told, and tells it; it asks for no runs."""

from datetime import UTC, datetime

import dagster as dg

from data_platform.alerts.config import load_alerts
from data_platform.alerts.look import look
from data_platform.resources import Platform

SECONDS = 60


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Tells of failed runs and checks, missing deliveries, old quarantine, lost freshness and full disks.",
)
def alerts(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SkipReason:
    """Look once, by what alerts.yaml says; where there is no such file there is nobody to tell."""
    path = platform.settings.alerts_file
    chosen = load_alerts(path)
    if chosen is None:
        return dg.SkipReason(f"There is no {path}: nobody is told of anything.")
    looked = look(context.instance, platform, chosen, datetime.now(UTC))
    for problem in looked.problems:
        context.log.warning(problem)
    return dg.SkipReason(looked.in_words())
