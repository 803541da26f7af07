"""`data-platform rebuild`: derive the whole star from staging anew, and apply only what differs."""

import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from data_platform.commands.backfill import end_with
from data_platform.commands.figures import stale_marts
from data_platform.commands.running import run_days, spinner
from data_platform.commands.terminal import out, print_json, say, say_error
from data_platform.settings import settings

if TYPE_CHECKING:
    from data_platform.warehouse.differences import TableDifference
    from data_platform.warehouse.publish import Published

# What --verify calls a row that a rebuild would insert, update or delete.
IN_WORDS = {"inserted": "missing", "updated": "differs", "deleted": "too many"}


def rebuild(
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Only compare, row by row, and write nothing; exit code 1 where the tables differ."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Derive the whole star schema from staging, compare it with the tables, and apply the difference.

    What is staged now is taken as the truth. Keys stay, readers see the tables before or after, marts are refreshed.
    """
    chosen = settings()
    run_id = str(uuid.uuid4())
    with spinner("Deriving the star schema from staging"):
        from data_platform.contracts import MARTS
        from data_platform.lake import Lake
        from data_platform.warehouse import publish
        from data_platform.warehouse.connection import connected
        from data_platform.warehouse.migrations import ready_warehouse

        url = ready_warehouse(chosen)
        reports = publish.rebuild(url, Lake.of(chosen), run_id=run_id, timezone=chosen.timezone, verify=verify)
    differs = any(report.wrote for report in reports)
    with connected(url) as connection:
        stale = stale_marts(connection)
    refreshed = None
    if stale and not verify:
        refreshed = run_days("Refreshing the marts", None, None, ",".join(MARTS))
    differences = [difference for report in reports for difference in report.differences]
    if as_json:
        tables: list[dict[str, Any]] = [
            {
                "table": report.asset,
                "partitions": len(report.partitions),
                "inserted": report.inserted,
                "updated": report.updated,
                "deleted": report.deleted,
                "facts_rekeyed": report.rekeyed,
            }
            for report in reports
        ]
        marts = refreshed.as_json() if refreshed else None
        answer = {"verify": verify, "differs": differs, "run_id": run_id, "tables": tables, "marts": marts}
        print_json(answer | ({"differences": [_as_json(one) for one in differences]} if verify else {}))
    elif verify:
        out.print(_compared(differences))
        _say_examples(differences)
    else:
        out.print(_table(reports))
    if refreshed is not None:
        end_with(refreshed)
    if verify and differs:
        say_error("The tables differ from what staging gives: `data-platform rebuild` brings them to it.")
        raise typer.Exit(1)
    if not as_json:
        say("The tables are what staging gives." if not differs else "The difference was applied.")


def _table(reports: "list[Published]") -> Table:
    table = Table("Table", "Days", "Inserted", "Updated", "Deleted", "Facts re-keyed")
    for column in table.columns[1:]:
        column.justify = "right"
    for report in reports:
        name = "fact_sales, fact_returns" if report.asset == "fact_sales" else report.asset
        counts = (len(report.partitions), report.inserted, report.updated, report.deleted, report.rekeyed)
        table.add_row(name, *(f"{count:,}" for count in counts))
    return table


def _compared(differences: "list[TableDifference]") -> Table:
    table = Table("Table", *(f"Rows {'that ' if word == 'differs' else ''}{word}" for word in IN_WORDS.values()))
    for column in table.columns[1:]:
        column.justify = "right"
    for one in differences:
        table.add_row(one.table, *(f"{getattr(one, change):,}" for change in IN_WORDS))
    return table


def _say_examples(differences: "list[TableDifference]") -> None:
    """A few rows of each kind, by natural key; of those that differ also which columns, and never their values."""
    for one in differences:
        for change, word in IN_WORDS.items():
            examples = [example for example in one.examples if example.change == change]
            for example in examples:
                key = ", ".join(f"{name} {value}" for name, value in example.key.items())
                columns = f" in {', '.join(example.columns)}" if example.columns else ""
                say(f"{one.table}: {key}: {word}{columns}")
            more = getattr(one, change) - len(examples)
            if more:
                say(f"{one.table}: and {more:,} more: {word}")


def _as_json(one: "TableDifference") -> dict[str, Any]:
    return {
        "table": one.table,
        "inserted": one.inserted,
        "updated": one.updated,
        "deleted": one.deleted,
        "examples": [
            {"change": example.change, "key": dict(example.key), "columns": list(example.columns)}
            for example in one.examples
        ],
    }
