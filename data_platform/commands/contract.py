"""`data-platform contract …`: what a delivery brings that a contract lacks, and the lines to add."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

import typer
import yaml

from data_platform.commands.running import spinner
from data_platform.commands.source import AsJson, Name, chosen
from data_platform.commands.terminal import parse_day, print_json, say
from data_platform.settings import REPOSITORY, settings

# Of each entity the table in Postgres that takes its attributes; facts keep the columns of the star schema.
DIMENSIONS = {"products": "dim_product", "customers": "dim_customer"}


def diff(
    name: Name,
    day: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="The day to look at; else yesterday.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which columns a delivery brings that the contract lacks, and print the lines to add. Nothing is written."""
    wanted = parse_day(day, "--date") if day else datetime.now(settings().zone).date() - timedelta(days=1)
    with spinner(f"Fetching {name} of {wanted}"):
        from data_platform.contracts import STAGED, WAREHOUSE
        from data_platform.contracts.proposal import proposals
        from data_platform.quality.trial import fetched
        from data_platform.sources.evolution import declared
        from data_platform.transforms.staging import delivered_columns

        source = chosen(name)
        contract = STAGED[source.entity]
        columns = delivered_columns(contract)
        with fetched(source, contract, settings(), wanted) as found:
            raw = None if found is None else found.raw
    if raw is None:
        say(f"Nothing was delivered of {name} for {wanted}.")
        return
    table = DIMENSIONS.get(source.entity)
    proposed = proposals(raw, source, contract, columns, WAREHOUSE[table].columns if table else ())
    others = [change for change in declared(raw.schema, source, contract, columns) if change.kind != "new"]
    if as_json:
        print_json({
            "source": source.place, "day": wanted,
            "new": [
                asdict(one) | {"line": one.line.strip(), "migration": one.migration(table) if table else None}
                for one in proposed
            ],
            "changed": [asdict(one) for one in others],
        })  # fmt: skip
        return
    for change in others:
        say(f"{change.in_words()}.")
    if not proposed:
        say(f"The contract of {source.entity} has a place for every column that was delivered for {wanted}.")
        return
    for one in proposed:
        say(f"{one.delivered}: new, {one.values:,} of {raw.height:,} rows have a value.")
    say()
    say(f"To take them in, add to data_platform/contracts/{source.entity}.py" + (
        ", and the names to TRACKED there (a change makes a new version) or to the dimension's `overwritten`:"
        if table else ":"
    ))  # fmt: skip
    for one in proposed:
        say(one.line)
    if table:
        number = 1 + max(int(path.name[:4]) for path in (REPOSITORY / "sql" / "migrations").glob("[0-9]*.sql"))
        say(f"and as sql/migrations/{number:04}_{source.entity}.sql:")
        for one in proposed:
            say(f"    {one.migration(table)}")
    else:
        say("They are staged then; the facts keep the columns of the star schema.")
    mapped = {one.name: one.delivered for one in proposed if one.name != one.delivered}
    if mapped:
        say(f"and to sources.yaml, at {source.place}: {_in_yaml({'columns': mapped})}")
    say(
        f"Then stage all days anew (`data-platform backfill --select stg_{source.entity} --from DATE --to DATE`) and "
        "`data-platform rebuild`."
    )
    ignored = [*source.ignore, *(one.delivered for one in proposed)]
    say(f"What is not wanted is named in sources.yaml, at {source.place}: {_in_yaml({'ignore': ignored})}")


def _in_yaml(value: object) -> str:
    """`value` on one line, quoted where YAML needs it."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.strip().removeprefix("{").removesuffix("}")
