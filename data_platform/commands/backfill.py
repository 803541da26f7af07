"""`data-platform backfill`: the whole platform over a range of days, as one run or as several."""

from datetime import date
from typing import Annotated, Any

import typer

from data_platform.commands.running import RunReport, check_range, run_days
from data_platform.commands.terminal import note, parse_day, print_json, say, say_error
from data_platform.days import days_between, spans
from data_platform.settings import settings

SHOWN_WARNINGS = 12


def backfill(
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="The first day, as YYYY-MM-DD.")],
    last: Annotated[str, typer.Option("--to", metavar="DATE", help="The last day; the same as --from for one day.")],
    select: Annotated[
        str | None,
        typer.Option(metavar="ASSETS", help="Only these assets, such as 'raw_orders,stg_orders' or 'dim_product*'."),
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option(metavar="DAYS", min=1, help="A run for each so many days, one after the other, instead of one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Take in the deliveries of a range of days, as one run; doing it twice writes nothing the second time."""
    start, end = parse_day(first, "--from"), parse_day(last, "--to")
    check_range(start, end, settings())
    if chunk is not None:
        _in_chunks(spans(days_between(start, end), chunk), select, as_json=as_json)
        return
    report = run_days(f"Running {select or 'the whole platform'}, {start} to {end}", start, end, select)
    if as_json:
        print_json({"from": start, "to": end, **report.as_json()})
    else:
        say_warnings(report)
    end_with(report)
    if not as_json:
        say(f"Done in {report.seconds:.1f} s. In the UI (`make ui`) it is run {report.run_id[:8]}.")


def _in_chunks(chunks: list[list[date]], select: str | None, *, as_json: bool) -> None:
    """A run each, until one fails or Ctrl-C is pressed: what was done before it stands."""
    runs: list[dict[str, Any]] = []
    for number, days in enumerate(chunks, 1):
        title = f"Running {select or 'the whole platform'}, {days[0]} to {days[-1]} ({number} of {len(chunks)})"
        try:
            report = run_days(title, days[0], days[-1], select)
        except KeyboardInterrupt:
            _note_rest(days[0], chunks)
            raise
        runs.append({"from": days[0], "to": days[-1], **report.as_json()})
        if not as_json:
            say_warnings(report)
        if not report.succeeded:
            break
    if as_json:
        print_json({"from": chunks[0][0], "to": chunks[-1][-1], "succeeded": report.succeeded, "runs": runs})
    if not report.succeeded:
        _note_rest(days[0], chunks)
    end_with(report)
    if not as_json:
        say(f"Done in {sum(run['seconds'] for run in runs):.1f} s, in {len(runs)} runs.")


def _note_rest(first: date, chunks: list[list[date]]) -> None:
    if first > chunks[0][0]:
        note(f"What is before {first} is done. The rest: --from {first} --to {chunks[-1][-1]}", style="yellow")


def say_warnings(report: RunReport) -> None:
    """What the run's checks found, without stopping it."""
    if not report.warnings:
        return
    note(f"Warnings ({len(report.warnings)}):", style="yellow")
    for warning in report.warnings[:SHOWN_WARNINGS]:
        note(f"  {warning}", style="yellow")
    if len(report.warnings) > SHOWN_WARNINGS:
        note(f"  and {len(report.warnings) - SHOWN_WARNINGS} more, in the UI.", style="yellow")


def end_with(report: RunReport) -> None:
    """Nothing for a run that succeeded; else its failures, the first one last, and exit code 1."""
    if report.succeeded:
        return
    # What failed first is most likely the cause, and last lines are what people read.
    for sentence in reversed(report.failures):
        say_error(sentence)
    raise typer.Exit(1)
