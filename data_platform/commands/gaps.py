"""`data-platform gaps`: the days that are missing between the sources and the warehouse, and what fills them."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from data_platform.commands import figures
from data_platform.commands.running import newest_day
from data_platform.commands.terminal import print_json, say, say_error
from data_platform.days import days_between, in_words, spans
from data_platform.settings import Settings, settings

if TYPE_CHECKING:
    from data_platform.lake import Stamp

# By a run, in the order in which a day comes by them.
FILLED = {
    "not_run": "no run has looked for a delivery",
    "landed_not_taken": "landed, not taken into raw",
    "raw_not_staged": "in raw, not staged",
    "staged_not_published": "staged, not published",
}
# By nobody but the source.
UNDELIVERED = "not_delivered"

Gaps = dict[str, dict[str, list[date]]]


def gaps(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the days that are missing, and the commands that fill them. Exit code 1 where any is, or cannot be known."""
    chosen = settings()
    from data_platform.lake import Lake
    from data_platform.monitoring.collect import part, read_warehouse
    from data_platform.monitoring.lake import landed

    lake = figures.lake_stamps(Lake.of(chosen))
    warehouse = read_warehouse(chosen)
    landing = part(lambda: landed(chosen))
    failures = [sentence for sentence in (landing.why, warehouse.why) if sentence]
    found = _gaps(chosen, lake, landing.found or {}, warehouse.published)
    missing = sorted({day for steps in found.values() for step in FILLED for day in steps[step]})
    fill = [f"data-platform backfill --from {span[0]} --to {span[-1]}" for span in spans(missing)]
    if as_json:
        print_json({"gaps": found, "fill": fill, "error": " ".join(failures) or None})
    else:
        _show(found, fill, complete=not failures)
    for sentence in failures:
        say_error(sentence)
    if failures or any(days for steps in found.values() for days in steps.values()):
        raise typer.Exit(1)


def _gaps(
    chosen: Settings,
    lake: "Mapping[str, Mapping[date, Stamp]]",
    landed: Mapping[str, Sequence[date]],
    published: Mapping[str, Mapping[date, str]] | None,
) -> Gaps:
    """By entity and step, the days that have ended and are missing there."""
    from data_platform.contracts import STAGED
    from data_platform.quality.completeness import not_run
    from data_platform.sources.config import load_sources
    from data_platform.transforms.staging import delivered_columns

    columns = {entity: delivered_columns(contract) for entity, contract in STAGED.items()}
    sources = load_sources(chosen.sources_file, columns)
    last = newest_day(chosen)
    ended = days_between(chosen.start_date, last)
    files: Mapping[str, Sequence[date]] = {entity: landed.get(entity, ()) for entity in STAGED}
    waiting = figures.waiting(lake, files, published, chosen.start_date)
    found: Gaps = {}
    for entity, steps in waiting.items():
        raw, lies = lake[f"raw_{entity}"], set(files[entity])
        delivered = [day for day, stamp in raw.items() if stamp.delivered]
        first = min(delivered, default=date.max)
        found[entity] = {
            "not_run": [day for day in not_run(raw, ended) if day not in lies],
            # A day that has not ended has no partition yet.
            **{step: [day for day in steps[step] or () if day <= last] for step in list(FILLED)[1:]},
            UNDELIVERED: [
                day
                for day, stamp in sorted(raw.items())
                if day > first and not stamp.delivered and day not in lies and sources[entity].is_expected(day)
            ],
        }
    return found


def _show(found: Gaps, fill: Sequence[str], *, complete: bool) -> None:
    for entity, steps in found.items():
        for step, days in steps.items():
            if days:
                what = FILLED.get(step, "run, and nothing was delivered: ask the source")
                say(f"{entity:<10} {len(days):>5,} {'day ' if len(days) == 1 else 'days'}  {what}: {in_words(days)}")
    if fill:
        say()
        for command in fill:
            say(command)
    elif complete and not any(days for steps in found.values() for days in steps.values()):
        say("Nothing is missing.")
