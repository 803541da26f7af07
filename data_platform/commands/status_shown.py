"""How `data-platform status` looks in a terminal: what it knows, in 80 columns, with or without colours."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from rich.table import Table
from rich.text import Text

from data_platform.commands.figures import PUBLISHED
from data_platform.commands.terminal import out, say
from data_platform.monitoring.lag import Cell

SHOWN_RUNS = 5
SHOWN_LINES = 5
SHOWN_TABLES = 2
TITLE = 13
WAITING = {
    "landed_not_taken": "landed, not taken into raw",
    "raw_not_staged": "in raw, not staged",
    "staged_not_published": "staged, not published",
    "before_start": "landed, but before DATA_PLATFORM_START_DATE ({start_date}): no run ever takes them",
}
# Each its own sign, since colours are not everywhere; ASCII, since a wide sign would shift the rest of its line.
SIGNS = {
    Cell.loaded: ("#", "green", "loaded"),
    Cell.empty: ("0", "green", "no rows"),
    Cell.waiting: ("w", "yellow", "waits"),
    Cell.missing: (".", "red", "missing"),
    Cell.failed: ("!", "bold red", "check failed"),
    Cell.closed: ("-", "dim", "closed"),
}
NO_CELL = " "


def show(answer: Mapping[str, Any]) -> None:
    """Print all of it; `answer` is what `status --json` prints."""
    warehouse = answer["warehouse"]
    kind = "embedded" if warehouse["embedded"] else "by DATA_PLATFORM_WAREHOUSE_URL"
    state = "reachable" if warehouse["reachable"] else "not reachable"
    say(f"Warehouse  {warehouse['url'] or 'none yet'} ({kind}, {state})")
    say(f"Lake       {answer['lake']}")
    say(f"Landing    {answer['landing']}")
    say(f"Days       from {answer['start_date']}, {answer['timezone']}")
    out.print(_tables(answer["assets"]))
    for line in _calendar(answer["coverage"]):
        out.print(line, soft_wrap=True)
    if answer["last_load"]:
        load = answer["last_load"]
        say(f"Last load    {load['asset']}, {_moment(load['finished_at'])}, run {load['run_id'][:8]}")
    _say("Runs", _runs(answer))
    _say("Quarantined", _quarantined(answer))
    _say("Waiting", _waiting(answer))
    _say("Behind", _lag(answer["lag"]))
    _say("Stale", [f"{mart} has yet to take in {dates:,} order dates" for mart, dates in answer["stale_marts"].items()])
    _say("Checks", _checks(answer["failing_checks"]))
    _say("Alerts", _alerts(answer["open_alerts"]))
    _say("Sizes", _sizes(answer["sizes"]))
    _say("Remarks", answer["remarks"])
    out.print(_verdict(answer), soft_wrap=True)


def _say(title: str, lines: Iterable[str]) -> None:
    for head, line in zip_longest([title], lines, fillvalue=""):
        if line:
            say(f"{head:<{TITLE}}{line}")


def _tables(assets: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("Table", "Rows", "Days", "First", "Last", "Gaps")
    for column in (1, 2, 5):
        table.columns[column].justify = "right"
    for asset in assets:
        days = [str(asset.get(name) or "") for name in ("days", "first", "last")]
        # How many: where they are is in the calendar, and in `data-platform gaps`.
        gaps = len(asset.get("gaps", ()))
        table.add_row(asset["asset"], f"{asset['rows']:,}", *days, f"{gaps:,}" if gaps else "")
    return table


def _calendar(coverage: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Iterator[Text]:
    """A month a line, a sign a day, table by table; months without any day of a table are left out."""
    met: set[Cell] = set()
    ruler = "".join(f"{day:<5}" for day in (1, 6, 11, 16, 21, 26, 31))
    lines = []
    for asset, months in coverage.items():
        title = PUBLISHED.get(asset, asset)
        for month, days in months.items():
            if not days:
                continue
            line = Text(f"{title:<{TITLE}}{month}  ")
            for number in range(1, 32):
                cell = days.get(f"{month}-{number:02}")
                sign, style, _ = SIGNS[Cell(cell)] if cell else (NO_CELL, "", "")
                line.append(sign, style)
                met |= {Cell(cell)} if cell else set()
            line.rstrip()
            lines.append(line)
            title = ""
    if lines:
        yield Text(f"{'Calendar':<{TITLE + 9}}{ruler}".rstrip())
        yield from lines
        yield Text(" " * TITLE).append(Text("  ").join(_legend([cell for cell in SIGNS if cell in met])))


def _legend(cells: Sequence[Cell]) -> Iterator[Text]:
    for cell in cells:
        sign, style, words = SIGNS[cell]
        yield Text.assemble((sign, style), f" {words}")


def _runs(answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["runs"] is None:
        yield "unknown: Dagster's database cannot be read"
        return
    for run in answer["runs"][:SHOWN_RUNS]:
        began = _moment(run["started_at"])[5:] if run["started_at"] else "not yet"
        took = _seconds(run["seconds"]) if run["seconds"] is not None else ""
        yield f"{began:<11}  {run['job']:<13} {run['status']:<9}{took:>7}  {_run_days(run)}".rstrip()
    if not answer["runs"]:
        yield "none yet"


def _run_days(run: Mapping[str, Any]) -> str:
    if not run["first"]:
        return ""
    count = (run["last"] - run["first"]).days + 1
    return str(run["first"]) if count == 1 else f"{count:,} days to {run['last']}"


def _quarantined(answer: Mapping[str, Any]) -> Iterator[str]:
    for entity, rows in answer["quarantined_rows"].items():
        if rows:
            age = answer["quarantine"][entity]["age_days"]
            yield f"{rows:,} of {entity}, the oldest for {age:,} {'day' if age == 1 else 'days'}"
    if not answer["quarantine"]:
        yield "none"


def _waiting(answer: Mapping[str, Any]) -> list[str]:
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


def _lag(lags: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    by_asset = {lag["asset"]: lag for lag in lags}
    behind = [lag for lag in lags if lag["missing_days"] and lag["asset"] in PUBLISHED]
    for lag in behind:
        count, entity = lag["missing_days"], PUBLISHED[lag["asset"]]
        line = f"{entity}: {count:,} {'day' if count == 1 else 'days'}"
        line += f", the newest is {lag['newest']}" if lag["newest"] else ", nothing is published"
        delivered = by_asset[f"raw_{entity}"]["newest"]
        yield line + (f" (delivered: {delivered})" if delivered != lag["newest"] else "")
    if not by_asset.keys() & PUBLISHED.keys():
        yield "unknown"
    elif not behind:
        yield "nothing: the newest day that was expected is published"


def _checks(failing: Sequence[Mapping[str, Any]] | None) -> Iterator[str]:
    if failing is None:
        yield "unknown"
        return
    told = sorted(
        (check for check in failing if check["severity"] != "info"),
        key=lambda check: (check["severity"] != "critical", check["asset"], check["rule"]),
    )
    for check in told[:SHOWN_LINES]:
        on = f" on {check['day']}" if check["day"] else ""
        yield f"{check['severity']:<8} {check['asset']}, {check['rule']}{on}"
    if len(told) > SHOWN_LINES:
        yield f"and {len(told) - SHOWN_LINES} more"
    if not told:
        yield "none fails"


def _alerts(alerts: Sequence[Mapping[str, Any]] | None) -> Iterator[str]:
    if alerts is None:
        yield "unknown"
        return
    for alert in alerts[:SHOWN_LINES]:
        yield f"{alert['severity']:<8} {alert['title']}, since {_moment(alert['opened_at'])}"
    if len(alerts) > SHOWN_LINES:
        yield f"and {len(alerts) - SHOWN_LINES} more"
    if not alerts:
        yield "none is open"


def _sizes(sizes: Mapping[str, Any]) -> Iterator[str]:
    lake = sizes["lake"].values()
    parts = {"lake": f"{_bytes(sum(one['bytes'] for one in lake))} in {sum(one['files'] for one in lake):,} files"}
    parts |= {name: _bytes(size) for name in ("warehouse", "dagster") if (size := sizes[f"{name}_bytes"]) is not None}
    yield ", ".join(f"{name} {size}" for name, size in parts.items())
    tables = sorted(sizes["tables"] or (), key=lambda table: -table["bytes"])[:SHOWN_TABLES]
    if tables:
        yield "largest: " + ", ".join(f"{table['table']} {_bytes(table['bytes'])}" for table in tables)
    for disk in sizes["disks"]:
        yield f"disk of the {disk['place']}: {_bytes(disk['free'])} of {_bytes(disk['size'])} free"


def _verdict(answer: Mapping[str, Any]) -> Text:
    if answer["well"]:
        return Text("All is well.", style="bold green")
    problems = [problem.rstrip(".") for problem in answer["problems"]]
    return Text.assemble(("Not well: ", "bold red"), (f"{'; '.join(problems)}.", "red"))


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _seconds(count: float) -> str:
    if count < 60:
        return f"{count:.1f} s"
    return f"{count / 60:.0f} min" if count < 5400 else f"{count / 3600:.1f} h"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC if moment.tzinfo is None else None).strftime("%Y-%m-%d %H:%M")
