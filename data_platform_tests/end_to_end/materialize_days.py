"""Materialize everything day by day in one process: what as many `dagster asset materialize` would do, in less time."""

import sys
from datetime import date, timedelta

import dagster as dg

from data_platform.definitions import defs


def main(first: str, last: str) -> int:
    """Run daily_sales for each day from `first` to `last`; 1 as soon as one fails."""
    job = defs.resolve_job_def("daily_sales")
    day = date.fromisoformat(first)
    with dg.DagsterInstance.ephemeral() as instance:
        while day <= date.fromisoformat(last):
            key = day.isoformat()
            if not job.execute_in_process(partition_key=key, instance=instance, raise_on_error=False).success:
                return 1
            day += timedelta(days=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
