"""`data-platform source …`: a source on trial, a replay of what was archived, the schema of sources.yaml."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from data_platform.commands.backfill import end_with, say_warnings
from data_platform.commands.quarantine import Entity
from data_platform.commands.running import check_range, run_days, spinner
from data_platform.commands.terminal import BadUsage, out, parse_day, print_json, say, say_error
from data_platform.settings import settings

if TYPE_CHECKING:
    from data_platform.sources.config import Source

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="orders, products or customers; of several sources orders.NAME.")
]
OfEntity = Annotated[Entity, typer.Argument(metavar="NAME", help="orders, products or customers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
SHOWN_REJECTS = 10


def try_out(
    name: Name,
    day: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="The day to ask for; else yesterday.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch one day from a source and show what a run would make of it; nothing is written. Exit code 1: rejected."""
    wanted = parse_day(day, "--date") if day else datetime.now(settings().zone).date() - timedelta(days=1)
    with spinner(f"Asking for {name} of {wanted}"):
        from data_platform.contracts import STAGED
        from data_platform.quality.trial import try_source

        source = chosen(name)
        trial = try_source(source, STAGED[source.entity], settings(), wanted)
    place = _place(source)
    if as_json:
        print_json({"source": place, "day": wanted, "delivered": trial is not None}
                   | (asdict(trial) if trial else {}))  # fmt: skip
    elif trial is None:
        say(f"{place} has nothing for {wanted}: the day would be an empty partition, with a warning.")
    else:
        columns = Table("Column", "Delivered as", "Type there", "Becomes", "Nulls", "Unreadable", "First value")
        for one in trial.columns:
            columns.add_row(
                one.name, one.delivered or "–", one.delivered_type, one.becomes, f"{one.nulls:,}",
                f"{one.unreadable:,}", one.example,
            )  # fmt: skip
        out.print(columns)
        if trial.unknown:
            say(f"Without a place in the contract: {', '.join(trial.unknown)}.")
        for reject in trial.rejects[:SHOWN_REJECTS]:
            places = ", ".join(f"{at['file']} row {at['row']}" for at in reject.examples)
            say(f"{reject.rows:,} × {reject.reason} (such as {places})")
        said = ", ".join(f"{value} {figure}" for figure, value in trial.extracted.figures.items())
        say(
            f"{trial.rows:,} rows in {len(trial.files)} files of {place} for {wanted}"
            f"{f' ({said})' if said else ''}: {trial.staged:,} would be staged, {trial.quarantined:,} quarantined, "
            f"{trial.duplicates:,} are copies. Nothing was written."
        )
    if trial is not None and trial.refusal:
        if not as_json:
            say_error(f"The delivery would be rejected: {trial.refusal}")
        raise typer.Exit(1)


def chosen(name: str) -> "Source":
    """The source that NAME names; raises BadUsage for one that is none, or for several."""
    from data_platform.resources import Platform

    entities = Platform().sources
    entity, _, part = name.partition(".")
    names = [
        known for entity, one in entities.items() for known in ([f"{entity}.{of}" for of in one.sources] or [entity])
    ]
    if name not in names:
        raise BadUsage(f"{name!r} names no source: use {', '.join(names)}.")
    return entities[entity].sources[part] if part else entities[entity]


def _place(source: "Source") -> str:
    return f"{source.place}.{source.asked[0]}" if source.asked else f"the landing folder of {source.folder}"


def replay(
    name: OfEntity,
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="The first day, as YYYY-MM-DD.")],
    last: Annotated[str, typer.Option("--to", metavar="DATE", help="The last day; the same as --from for one day.")],
    as_json: AsJson = False,
) -> None:
    """Take archived answers of a source in again, without asking it; days that were never archived are asked for."""
    from data_platform.resources import Platform
    from data_platform.sources.deliveries import REPLAY

    start, end = parse_day(first, "--from"), parse_day(last, "--to")
    check_range(start, end, settings())
    whole = Platform().sources[name.value]
    if not any(source.asked for source in (whole, *whole.sources.values())):
        raise BadUsage(
            f"{name.value} lies in the landing folder, where nothing is archived: use `data-platform backfill --select "
            f"'raw_{name.value}*' --from {start} --to {end}`."
        )
    report = run_days(
        f"Replaying {name.value}, {start} to {end}", start, end, f"raw_{name.value}*", tags={REPLAY: "archived"}
    )
    if as_json:
        print_json({"from": start, "to": end, **report.as_json()})
    else:
        say_warnings(report)
    end_with(report)
    if not as_json:
        say(f"Done in {report.seconds:.1f} s.")


def schema() -> None:
    """Print the JSON schema of sources.yaml: editors complete and check by it."""
    from data_platform.sources.schema import json_schema

    print_json(json_schema())
