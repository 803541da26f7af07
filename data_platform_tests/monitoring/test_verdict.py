"""Whether the platform is well: by looks that are made up, since each has one thing that is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from data_platform.lake import Stamp
from data_platform.monitoring.collect import Look, Part, Warehouse
from data_platform.monitoring.lag import ENTITIES, assets_of
from data_platform.monitoring.lake import Disk, LakeFigures
from data_platform.monitoring.runs import Job, Runs
from data_platform.monitoring.stored import FailingCheck, OpenAlert, Stored
from data_platform.monitoring.verdict import Verdict, judge, last_day_due
from data_platform.settings import Settings
from data_platform.sources.config import Source
from data_platform_tests.monitoring.conftest import of_home

NOW = datetime(2024, 1, 10, 12, tzinfo=UTC)
DAYS = [date(2024, 1, number) for number in range(1, 10)]


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    return of_home(tmp_path, "postgresql://me@host/shop")


def look(days: Mapping[str, Sequence[date]] | None = None, **stored: Any) -> Look:
    """A look at noon of the 10th of January at a platform on which all is well, but for what is given."""
    held = dict.fromkeys(ENTITIES, DAYS) | dict(days or {})
    stamps = {
        f"{layer}_{entity}": {day: Stamp(f"{entity} {day}", rows_delivered=1) for day in held[entity]}
        for layer in ("raw", "stg") for entity in ENTITIES
    }  # fmt: skip
    published = {assets_of(entity)[2]: {day: f"{entity} {day}" for day in held[entity]} for entity in ENTITIES}
    return Look(
        at=NOW,
        seconds=0.0,
        lake=Part(LakeFigures(stamps, {}, {}), "", 0.0),
        landing=Part(held, "", 0.0),
        sources=Part({entity: Source(entity=entity) for entity in ENTITIES}, "", 0.0),
        warehouse=Part(Warehouse("…", True, False, Stored(**({"published": published} | stored))), "", 0.0),
        dagster=Part(Runs(heartbeats={"sensor": NOW - timedelta(seconds=30)}), "", 0.0),
        disks=Part([Disk("home", 11, 100)], "", 0.0),
    )


def verdict(seen: Look, chosen: Settings) -> Verdict:
    due = last_day_due(seen.at, 9)
    lags = seen.lags(chosen, due + timedelta(days=1))
    return judge(seen, chosen, lags, seen.coverage(chosen, ENTITIES.values(), due), due)


def with_runs(seen: Look, **figures: Any) -> Look:
    return replace(seen, dagster=Part(Runs(**figures), "", 0.0))


def test_all_is_well_where_nothing_is_wrong(chosen: Settings) -> None:
    assert verdict(look(), chosen) == Verdict((), ())
    assert verdict(look(), chosen).well


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (replace(look(), landing=Part(None, "The landing is gone.", 0.0)), "The landing is gone."),
        (replace(look(), warehouse=Part(Warehouse(why="It is down."), "", 0.0)), "It is down."),
        (look({"orders": DAYS[:-1], "products": DAYS[:-1]}), "orders and products lack 1 day up to 2024-01-09"),
        (look({"orders": [*DAYS[:4], *DAYS[6:]]}), "orders lack 2 days up to 2024-01-09"),
        (look({"orders": DAYS[:1]}), "orders lack 8 days up to 2024-01-09"),
        (look(failing=(FailingCheck("fact_sales", "few", "critical", None, ""),)), "1 critical check fails"),
        (look(alerts=(OpenAlert("run_failed", "critical", "It failed", NOW),) * 2), "2 critical alerts are open"),
        (
            with_runs(look(), jobs=(Job("daily_sales", {}, NOW, NOW + timedelta(seconds=1), None, {}),)),
            "the last run of daily_sales failed",
        ),
        (
            with_runs(look(), heartbeats={"sensor": NOW, "scheduler": NOW - timedelta(minutes=6)}),
            "Dagster's daemon is silent since 2024-01-10 11:54 UTC",
        ),
        (replace(look(), disks=Part([Disk("lake", 9, 100)], "", 0.0)), "the disk of the lake has only 9% free"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_one_thing_that_is_wrong_is_said(chosen: Settings, seen: Look, problem: str) -> None:
    found = verdict(seen, chosen)
    assert problem in found.problems
    assert not found.well


def test_days_that_wait_lack_as_those_that_are_missing_do(chosen: Settings) -> None:
    seen = look()
    published = {asset: dict(days) for asset, days in (seen.stored_in.published or {}).items()}
    del published["fact_sales"][DAYS[3]]
    waits = replace(seen, warehouse=Part(Warehouse("…", True, False, Stored(published=published)), "", 0.0))
    assert verdict(waits, chosen).problems == ("orders lack 1 day up to 2024-01-09",)


def test_yesterday_is_not_missed_before_the_watch_looks_for_it(chosen: Settings) -> None:
    early = look(dict.fromkeys(ENTITIES, DAYS[:-1]))
    assert not verdict(early, chosen).well
    assert verdict(replace(early, at=NOW.replace(hour=8), dagster=Part(Runs(), "", 0.0)), chosen).well


def test_what_only_deserves_a_look_is_a_remark(chosen: Settings) -> None:
    seen = look(
        failing=(FailingCheck("stg_orders", "odd", "warning", None, ""), FailingCheck("x", "y", "info", None, "")),
        alerts=(OpenAlert("quarantine_old", "warning", "It waits", NOW),),
        stale_marts={"mart_daily_sales": 3, "mart_customer_value": 0},
    )
    lake = seen.lake.found
    assert lake is not None
    rejected = {DAYS[0]: Stamp("x", rows_delivered=2, rows_quarantined=1)}
    stamps = {**lake.stamps, "stg_orders": {**lake.stamps["stg_orders"], **rejected}}
    published = {**(seen.stored_in.published or {})}
    published["fact_sales"] = {**published["fact_sales"], DAYS[0]: "x"}
    stored = replace(seen.stored_in.stored or Stored(), published=published)
    seen = replace(
        seen,
        lake=Part(LakeFigures(stamps, {}, {}), "", 0.0),
        warehouse=Part(Warehouse("…", True, False, stored), "", 0.0),
    )
    assert verdict(seen, chosen) == Verdict(
        (),
        (
            "1 warning check fails",
            "1 warning alert is open",
            "rejected rows of orders wait for more than 7 days",
            "1 mart is stale",
        ),
    )
