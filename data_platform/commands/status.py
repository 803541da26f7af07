"""`data-platform status`: what the platform holds, at a glance. Looks only: makes no server, schema or folder."""

from dataclasses import asdict
from datetime import date, datetime
from itertools import zip_longest
from typing import Annotated, Any

import typer
from rich.table import Table

from data_platform.commands import figures
from data_platform.commands.terminal import note, out, print_json, say, say_error
from data_platform.errors import PlatformError
from data_platform.settings import Settings, settings

SHOWN_GAPS = 3
WAITING = {
    "landed_not_taken": "landed, not taken into raw",
    "raw_not_staged": "in raw, not staged",
    "staged_not_published": "staged, not published",
    "before_start": "landed, but before DATA_PLATFORM_START_DATE ({start_date}): no run ever takes them",
}


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show where the platform is, which days are loaded, and what waits. Exit code 1 without a warehouse or landing."""
    chosen = settings()
    from data_platform.lake import Lake

    lake = figures.lake_stamps(Lake.of(chosen))
    warehouse, failure = look_at_warehouse(chosen)
    landed, unlisted = look_at_landing(chosen)
    failures = [sentence for sentence in (unlisted, failure) if sentence]
    answer = {
        "home": str(chosen.home),
        "landing": chosen.landing_url,
        "lake": chosen.lake_url,
        "start_date": chosen.start_date,
        "timezone": chosen.timezone,
        "warehouse": {name: warehouse.get(name) for name in ("url", "embedded", "reachable", "set_up")},
        "assets": _assets(lake, warehouse),
        "waiting": figures.waiting(lake, landed, warehouse.get("published"), chosen.start_date),
        "last_load": warehouse.get("last_load"),
        "stale_marts": warehouse.get("stale_marts", {}),
        "quarantined_rows": {
            entity: sum(stamp.rows_quarantined for stamp in lake[f"stg_{entity}"].values())
            for entity in figures.PUBLISHED.values()
        },
    }
    if as_json:
        print_json(answer | {"error": " ".join(failures) or None})
    else:
        _show(answer)
    for sentence in failures:
        say_error(sentence)
    if failures:
        raise typer.Exit(1)


def look_at_landing(chosen: Settings) -> tuple[dict[str, list[date]] | None, str | None]:
    """The days in the landing folder by entity, and the sentence that tells why they cannot be listed."""
    from data_platform.sources.landing import landed_days

    try:
        return {entity: landed_days(chosen.landing_url, entity) for entity in figures.PUBLISHED.values()}, None
    except PlatformError as error:
        return None, str(error)


def look_at_warehouse(chosen: Settings) -> tuple[dict[str, Any], str | None]:
    """What the warehouse says of itself, and the sentence that tells why it cannot.

    Without `published` it is unknown what is published; a warehouse that is not there yet has published nothing.
    """
    from data_platform.warehouse.connection import connected, redact, warehouse_url

    found: dict[str, Any] = {"url": None, "embedded": chosen.warehouse_url is None, "reachable": False, "set_up": False}
    if chosen.warehouse_url is None and not (chosen.home / "postgres").exists():
        found["published"] = {}
        return found, "There is no warehouse yet: `data-platform demo` or `data-platform backfill` makes it."
    try:
        url = warehouse_url(chosen)
        found["url"] = redact(url)
        with connected(url) as connection:
            found["reachable"] = True
            if not figures.is_set_up(connection):
                found["published"] = {}
                return found, "The warehouse is empty: `data-platform demo` or `data-platform backfill` fills it."
            load = figures.last_load(connection)
            found |= {
                "set_up": True,
                "rows": figures.rows_per_table(connection),
                "published": figures.published_days(connection),
                "last_load": asdict(load) if load else None,
                "stale_marts": figures.stale_marts(connection),
            }
    except PlatformError as error:
        return found, str(error)
    return found, None


def _assets(lake: dict[str, Any], warehouse: dict[str, Any]) -> list[dict[str, Any]]:
    """Every table: its days where it has days, its rows, and the staged days that are not published as they are."""
    assets = []
    for name, stamps in lake.items():
        rows = sum(stamp.rows_staged if name.startswith("stg_") else stamp.rows_delivered for stamp in stamps.values())
        empty = sum(not stamp.delivered for stamp in stamps.values())
        assets.append({"asset": name, "rows": rows, **_span(list(stamps)), "days_without_delivery": empty})
    for name, rows in warehouse.get("rows", {}).items():
        ledger = "fact_sales" if name == "fact_returns" else name
        published = warehouse["published"].get(ledger)
        if published is None:
            assets.append({"asset": name, "rows": rows})
            continue
        staged = lake[f"stg_{figures.PUBLISHED[ledger]}"]
        waiting = sum(published.get(day) != stamp.content for day, stamp in staged.items())
        assets.append({"asset": name, "rows": rows, **_span(list(published)), "days_to_publish": waiting})
    return assets


def _span(days: list[date]) -> dict[str, Any]:
    first, last = min(days, default=None), max(days, default=None)
    return {"days": len(days), "first": first, "last": last, "gaps": figures.gaps(days)}


def _show(answer: dict[str, Any]) -> None:
    warehouse = answer["warehouse"]
    kind = "embedded" if warehouse["embedded"] else "by DATA_PLATFORM_WAREHOUSE_URL"
    state = "reachable" if warehouse["reachable"] else "not reachable"
    say(f"Warehouse  {warehouse['url'] or 'none yet'} ({kind}, {state})")
    say(f"Lake       {answer['lake']}")
    say(f"Landing    {answer['landing']}")
    say(f"Days       from {answer['start_date']}, {answer['timezone']}")
    table = Table("Table", "Rows", "Days", "First", "Last", "Gaps")
    for column in (1, 2):
        table.columns[column].justify = "right"
    for asset in answer["assets"]:
        days = [str(asset.get(name) or "") for name in ("days", "first", "last")]
        table.add_row(asset["asset"], f"{asset['rows']:,}", *days, _gaps(asset.get("gaps", [])))
    out.print(table)
    if answer["last_load"]:
        load = answer["last_load"]
        say(f"Last load    {load['asset']}, {_moment(load['finished_at'])}, run {load['run_id'][:8]}")
    quarantined = ", ".join(f"{rows:,} of {entity}" for entity, rows in answer["quarantined_rows"].items() if rows)
    say(f"Quarantined  {quarantined or 'none'}")
    for title, line in zip_longest(["Waiting"], _waiting(answer), fillvalue=""):
        say(f"{title:<13}{line}")
    for mart, dates in answer["stale_marts"].items():
        note(f"{mart} has yet to take in {dates:,} order dates: the next run does.", style="yellow")


def _waiting(answer: dict[str, Any]) -> list[str]:
    """What waits, a line for each entity and step; one line where nothing does."""
    lines = []
    unknown = set()
    for entity, steps in answer["waiting"].items():
        for step, days in steps.items():
            if days is None:
                unknown.add(step)
            elif days:
                span = str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"
                count = f"{len(days):,} {'day' if len(days) == 1 else 'days'}"
                lines.append(f"{entity}: {count}, {span}, {WAITING[step].format(start_date=answer['start_date'])}")
    if "landed_not_taken" in unknown:
        lines.append("unknown what has landed")
    if "staged_not_published" in unknown:
        lines.append("unknown what is published")
    return lines or ["nothing: all that has landed is published"]


def _gaps(spans: list[tuple[date, date]]) -> str:
    shown = [str(first) if first == last else f"{first} to {last}" for first, last in spans[:SHOWN_GAPS]]
    if len(spans) > SHOWN_GAPS:
        shown.append(f"{len(spans) - SHOWN_GAPS} more")
    return "\n".join(shown)


def _moment(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
