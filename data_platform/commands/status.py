"""`data-platform status`: how the platform is, at a glance. Looks only: makes no server, schema or folder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_platform.commands import figures
from data_platform.commands.terminal import BadUsage, print_json, say_error
from data_platform.errors import PlatformError
from data_platform.settings import Settings, settings

if TYPE_CHECKING:
    from data_platform.monitoring.collect import Look, Warehouse
    from data_platform.monitoring.lag import Coverage

MOST_MONTHS = 120
# From this hour on yesterday's delivery may be missed: when quality_watch looks for it.
DUE_HOUR = 9


def status(
    months: Annotated[
        int, typer.Option(metavar="N", min=0, max=MOST_MONTHS, help="Months in the calendar of days; 0 leaves it out.")
    ] = 3,
    asset: Annotated[
        list[str] | None, typer.Option(help="A table to show the days of, in place of the published ones; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show which days are loaded, what waits, what runs, what fails, what it takes, and whether all is well.

    Exit code 1 without a warehouse or landing.
    """
    chosen = settings()
    from data_platform.commands import status_shown
    from data_platform.monitoring.collect import Collector

    wanted = _wanted(asset)
    look = Collector(chosen).look(months=months, count_rows=True)
    if look.lake.found is None:
        raise PlatformError(look.lake.why)
    answer = _answer(look, chosen, wanted, months)
    failures = [sentence for sentence in (look.landing.why, look.stored_in.why) if sentence]
    if as_json:
        print_json(answer | {"error": " ".join(failures) or None})
    else:
        status_shown.show(answer)
    for sentence in failures:
        say_error(sentence)
    if failures:
        raise typer.Exit(1)


def _wanted(chosen: Sequence[str] | None) -> list[str]:
    from data_platform.monitoring.lag import ENTITIES, assets_of, place_of

    for name in chosen or ():
        try:
            place_of(name)
        except KeyError:
            known = [one for entity in ENTITIES for one in assets_of(entity)]
            raise BadUsage(f"--asset {name!r} has no daily partitions: name one of {', '.join(known)}.") from None
    return list(dict.fromkeys(chosen or ENTITIES.values()))


def _answer(look: "Look", chosen: Settings, wanted: list[str], months: int) -> dict[str, Any]:
    """All that status knows, for scripts; what cannot be known is None, or is not there."""
    from data_platform.contracts import STAGED
    from data_platform.monitoring.lag import ENTITIES, shown_months
    from data_platform.monitoring.verdict import judge, last_day_due

    warehouse, lake = look.stored_in, look.lake.found
    assert lake is not None
    today = look.at.astimezone(chosen.zone).date()
    due = last_day_due(look.at.astimezone(chosen.zone), DUE_HOUR)
    lags = look.lags(chosen, due + timedelta(days=1))
    coverage = look.coverage(chosen, dict.fromkeys([*wanted, *ENTITIES.values()]), due)
    shown = shown_months(lake.stamps, today, months)
    verdict = judge(look, chosen, lags, coverage, due)
    stored = warehouse.stored
    runs = look.dagster.found
    return {
        "home": str(chosen.home),
        "landing": chosen.landing_url,
        "lake": chosen.lake_url,
        "start_date": chosen.start_date,
        "timezone": chosen.timezone,
        "warehouse": {
            "url": warehouse.url, "embedded": chosen.warehouse_url is None, "reachable": warehouse.reachable,
            "set_up": stored is not None,
        },
        "assets": list(_assets(look, warehouse)),
        "waiting": look.waiting(chosen.start_date),
        "last_load": asdict(stored.last_load) if stored and stored.last_load else None,
        "stale_marts": {mart: dates for mart, dates in stored.stale_marts.items() if dates} if stored else {},
        "quarantined_rows": {entity: sum(lake.quarantined(entity).values()) for entity in figures.PUBLISHED.values()},
        "coverage": {name: _days(coverage[name], shown) for name in wanted if name in coverage},
        "lag": [
            {"asset": lag.asset, "newest": lag.newest, "missing_days": lag.missing, "seconds": lag.seconds(look.at)}
            for lag in lags
        ],
        "jobs": [asdict(job) for job in runs.jobs] if runs else None,
        "runs": [asdict(run) for run in runs.newest] if runs else None,
        "failing_checks": [asdict(check) for check in stored.failing] if stored else None,
        "quarantine": {
            entity: {"rows": sum(days.values()), "oldest": min(days), "age_days": (today - min(days)).days}
            for entity in STAGED if (days := lake.quarantined(entity))
        },
        "open_alerts": [asdict(alert) for alert in stored.alerts] if stored else None,
        "sizes": _sizes(look, warehouse),
        "well": verdict.well,
        "problems": verdict.problems,
        "remarks": verdict.remarks,
    }  # fmt: skip


def _assets(look: "Look", warehouse: "Warehouse") -> Iterator[dict[str, Any]]:
    """Every table: its days where it has days, its rows, and the staged days that are not published as they are."""
    lake = look.lake.found
    assert lake is not None
    for name, stamps in lake.stamps.items():
        rows = sum(stamp.rows_staged if name.startswith("stg_") else stamp.rows_delivered for stamp in stamps.values())
        empty = sum(not stamp.delivered for stamp in stamps.values())
        yield {"asset": name, "rows": rows, **_span(list(stamps)), "days_without_delivery": empty}
    for name, rows in warehouse.rows.items():
        ledger = "fact_sales" if name == "fact_returns" else name
        published = (warehouse.published or {}).get(ledger)
        if published is None:
            yield {"asset": name, "rows": rows}
            continue
        staged = lake.stamps[f"stg_{figures.PUBLISHED[ledger]}"]
        waiting = sum(published.get(day) != stamp.content for day, stamp in staged.items())
        yield {"asset": name, "rows": rows, **_span(list(published)), "days_to_publish": waiting}


def _span(days: list[date]) -> dict[str, Any]:
    first, last = min(days, default=None), max(days, default=None)
    return {"days": len(days), "first": first, "last": last, "gaps": figures.gaps(days)}


def _days(coverage: "Coverage", months: Sequence[date]) -> dict[str, dict[str, str]]:
    """By month what became of its days."""
    return {
        f"{month:%Y-%m}": {
            str(day): str(cell)
            for day, cell in coverage.cells.items()
            if (day.year, day.month) == (month.year, month.month)
        }
        for month in months
    }


def _sizes(look: "Look", warehouse: "Warehouse") -> Mapping[str, Any]:
    lake, runs, stored = look.lake.found, look.dagster.found, warehouse.stored
    assert lake is not None
    return {
        "warehouse_bytes": stored.database_bytes if stored else None,
        "tables": [asdict(table) for table in stored.tables] if stored else None,
        "dagster_bytes": runs.database_bytes if runs else None,
        "lake": {folder: {"files": lake.files[folder], "bytes": size} for folder, size in lake.bytes.items()},
        "disks": [asdict(disk) for disk in look.disks.found or ()],
    }
