"""`dagster …` with a clock on everything that checks do: python -m benchmarks.timed_checks OUT.json asset materialize …

Counted are the rules, measures and queries, audits and balances, profiles and drift, trends and plots, the history, the
completeness checks, the quality report, and Dagster's own events of check results. A call within another counts once.
"""

import importlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

# Where each is called, by kind of work.
CLOCKED = {
    "rules": [
        ("data_platform.transforms.staging", "marks", "measured_each", "_examples"),
        ("data_platform.warehouse.facts", "judge"),
        ("data_platform.warehouse.publish", "judge", "refuse_imbalance"),
        ("data_platform.assets.marts", "judged"),
    ],
    "balances of raw": [("data_platform.assets.raw", "raw_accounts")],
    "balances of staging": [("data_platform.assets.staging", "staging_accounts")],
    "balances, audits and queries of the star": [("data_platform.assets.warehouse", "_Hindsight")],
    "balances of marts": [("data_platform.assets.marts", "_balance")],
    "drift": [("data_platform.assets.staging", "watch", "drift_results")],
    "history": [
        ("data_platform.assets.raw", "keep"),
        ("data_platform.assets.staging", "keep", "trends"),
        ("data_platform.assets.warehouse", "keep", "remembered"),
        ("data_platform.assets.marts", "remembered"),
        ("data_platform.assets.quality", "remembered"),
    ],
    "completeness": [("data_platform.assets.quality", "completeness")],
    "report": [("data_platform.quality.report", "write_report")],
}
CHECK_EVENTS = ("ASSET_CHECK_EVALUATION", "ASSET_CHECK_EVALUATION_PLANNED")

seconds: dict[str, float] = defaultdict(float)
_inside: list[str] = []


def clocked(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, its time added to `kind` unless it is called by another that is clocked."""

    @wraps(function, updated=())
    def timed(*arguments: Any, **options: Any) -> Any:
        if _inside:
            return function(*arguments, **options)
        _inside.append(kind)
        begin = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[kind] += time.perf_counter() - begin
            _inside.pop()

    return timed


def main() -> None:
    """Run Dagster's command line with the clocks on, and write the seconds of each kind of work."""
    out, *arguments = sys.argv[1:]
    importlib.import_module("data_platform.definitions")
    # What only the report needs is loaded when it is made.
    clocked("report", importlib.import_module)("data_platform.quality.report")
    for kind, places in CLOCKED.items():
        for module_name, *names in places:
            module = importlib.import_module(module_name)
            for name in names:
                setattr(module, name, clocked(kind, getattr(module, name)))
    from dagster._core.instance import DagsterInstance

    handle = DagsterInstance.handle_new_event
    timed = clocked("Dagster's events of checks", handle)

    def told(instance: DagsterInstance, event: Any, *more: Any, **options: Any) -> Any:
        kind = event.dagster_event.event_type_value if event.dagster_event else ""
        return (timed if kind in CHECK_EVENTS else handle)(instance, event, *more, **options)

    DagsterInstance.handle_new_event = told  # type: ignore[method-assign]
    from dagster._cli import main as dagster

    sys.argv = ["dagster", *arguments]
    try:
        dagster()
    finally:
        Path(out).write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
