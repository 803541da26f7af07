"""`data-platform quarantine …`: what was rejected and why, a file of it for the source's owners, and the replay."""

import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from data_platform.commands.backfill import say_warnings
from data_platform.commands.running import RunReport, check_range, run_days, spinner
from data_platform.commands.terminal import BadUsage, note, out, parse_day, print_json, say, say_error
from data_platform.errors import SourceUnavailable
from data_platform.settings import settings

if TYPE_CHECKING:
    import polars as pl

    from data_platform.quality.quarantine import Waiting
    from data_platform.sources.config import Source

SHOWN_CHARACTERS = 60
SHOWN_RUN = 8
# A run costs seconds, a day that is staged again to no effect next to nothing: so many of those may lie in a run.
BRIDGED_DAYS = 7


class Entity(StrEnum):
    """Of the rows."""

    orders = "orders"
    products = "products"
    customers = "customers"


OfEntity = Annotated[Entity | None, typer.Option("--entity", help="Only rows of this entity.")]
From = Annotated[str | None, typer.Option("--from", metavar="DATE", help="Only deliveries from this day on.")]
To = Annotated[str | None, typer.Option("--to", metavar="DATE", help="Only deliveries up to this day.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def list_waiting(entity: OfEntity = None, first: From = None, last: To = None, as_json: AsJson = False) -> None:
    """List the deliveries of which rows wait: how many, the most frequent reason, the run and the contract."""
    partitions = _waiting(entity, first, last)
    from data_platform.quality.quarantine import all_described

    today = datetime.now(settings().zone).date()
    with spinner("Reading quarantine"):
        told = zip(partitions, all_described(partitions), strict=True)
        found = [described | {"age_days": one.age(today)} for one, described in told]
    if as_json:
        print_json({"lake": settings().lake_url, "rows": _rows(partitions), "deliveries": found})
        return
    if not found:
        _say_nothing_waits(entity, first, last)
        return
    table = Table("Table", "Day", "Rows", "Most frequent reason", "Run", "Contract")
    table.columns[2].justify = "right"
    for one in found:
        more = f" (and {one['reasons'] - 1} more)" if one["reasons"] > 1 else ""
        reason = f"{one['rows_with_it']:,} × {one['most_frequent_reason']}{more}"
        table.add_row(
            one["table"], str(one["day"]), f"{one['rows']:,}", reason, one["run_id"][:SHOWN_RUN], one["contract"]
        )
    out.print(table)
    oldest = min(found, key=lambda one: str(one["day"]))
    say(f"{_rows(partitions):,} rows wait; the oldest were delivered on {oldest['day']}, {_ago(oldest['age_days'])}.")
    say("Why, with examples: `data-platform quarantine show`.")


def show(
    entity: OfEntity = None,
    first: From = None,
    last: To = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only reasons that hold this text, in any capitals.")
    ] = None,
    count: Annotated[int, typer.Option("--examples", metavar="N", min=0, help="Examples of each reason.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Show what waits by reason, with examples; what may be personal is masked.

    A row that has several reasons is counted under each of them.
    """
    partitions = _waiting(entity, first, last)
    from data_platform.quality.quarantine import by_reason, examples, masked_rows

    with spinner("Reading quarantine"):
        rows = masked_rows(partitions, _sources())
        groups = [
            group | {"examples": examples(rows, group["_table"], group["reason"], count)}
            for group in by_reason(rows).iter_rows(named=True)
            if reason is None or reason.casefold() in group["reason"].casefold()
        ]
    found = [{"table": group.pop("_table")} | group for group in groups]
    if as_json:
        print_json({"rows": _rows(partitions), "reasons": found})
        return
    if not partitions:
        _say_nothing_waits(entity, first, last)
    elif not found:
        say(f"No waiting row has a reason that holds {reason!r}: `data-platform quarantine show` names all reasons.")
    for one in found:
        days = f"{one['first_day']} to {one['last_day']}" if one["days"] > 1 else str(one["first_day"])
        say(f"{one['table']}: {one['reason']}")
        say(f"  {_counted(one['rows'], 'row')}, {_counted(one['days'], 'day')} ({days}), "
            f"{_counted(one['files'], 'file')}")  # fmt: skip
        for example in one["examples"]:
            say(f"    {example['day']}, {_printable(example['file'])}, row {example['row']}: "
                f"{_values(example['values'])}")  # fmt: skip
            others = [other for other in example["reasons"] if other != one["reason"]]
            if others:
                say(f"      also: {'; '.join(others)}")


def export(
    path: Annotated[Path, typer.Argument(metavar="PATH.csv", help="The file to write; only you can read it.")],
    entity: OfEntity = None,
    first: From = None,
    last: To = None,
    masked: Annotated[bool, typer.Option("--masked", help="Mask what may be personal, as `show` does.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the waiting rows to a csv file, for the people who own the source.

    The rows are as delivered and IN THE CLEAR, personal data included, since their owners must find them again: send
    the file to nobody else, or use --masked. A cell that a spreadsheet would take for a formula begins with an
    apostrophe. Nothing waiting gives a file with the header only.
    """
    _check_target(path, force=force)
    partitions = _waiting(entity, first, last)
    from data_platform.quality.quarantine import masked_rows, rows_in_clear, spreadsheet_csv

    with spinner("Writing the waiting rows"):
        rows = masked_rows(partitions, _sources()) if masked else rows_in_clear(partitions)
        _write(path, spreadsheet_csv(rows), force=force)
    if as_json:
        print_json({"path": str(path.absolute()), "rows": rows.height, "masked": masked})
        return
    say(f"{_counted(rows.height, 'row')} in {path}.")
    if not masked and rows.height:
        note("They are in the clear, personal data included: send the file to the source's owners only.", "yellow")


def replay(entity: OfEntity = None, first: From = None, last: To = None, as_json: AsJson = False) -> None:
    """Stage the deliveries that have waiting rows again, after the contract or sources.yaml was mended, and publish.

    Deliveries of up to a week between them are staged again with them, by what is mended as well: few runs do it all.
    What passes is published to its own day and leaves quarantine. Rows that still wait are told by reason and are no
    failure: the exit code is 0. It is 1 where a run failed.
    """
    partitions = _waiting(entity, first, last)
    if not partitions:
        if as_json:
            print_json({"tables": [], "waiting": [], "runs": []})
        else:
            _say_nothing_waits(entity, first, last)
        return
    days = [one.day for one in partitions]
    check_range(min(days), max(days), settings(), names=("The first waiting day", "The last waiting day"))
    from data_platform.lake import Lake
    from data_platform.quality.quarantine import masked_rows, standing

    with spinner("Reading quarantine"):
        before = masked_rows(partitions, _sources())
        spans = replay_spans(partitions, standing(Lake.of(settings()), {one.table for one in partitions}))
    reports = _stage_again(spans)
    staged = {(table, day) for start, end, tables in spans for table in tables for day in _days(start, end)}
    after = masked_rows([one for one in _waiting(entity, first, last) if (one.table, one.day) in staged], _sources())
    tables, reasons = _outcome(before, after)
    if as_json:
        print_json({"tables": tables, "waiting": reasons, "runs": [report.as_json() for report in reports]})
    else:
        for report in reports:
            say_warnings(report)
        _say_outcome(tables, reasons)
    failures = list(dict.fromkeys(sentence for report in reports for sentence in report.failures))
    for sentence in reversed(failures):
        say_error(sentence)
    if not all(report.succeeded for report in reports):
        note("What left quarantine may be staged without being published: `data-platform status` says what waits.")
        raise typer.Exit(1)


Span = tuple[date, date, tuple[str, ...]]


def replay_spans(partitions: "Sequence[Waiting]", standing: Mapping[str, Collection[date]]) -> list[Span]:
    """The runs that stage `partitions` again: first day, last day, the tables that wait on any of its days.

    A run goes on over up to BRIDGED_DAYS without waiting rows, yet only over days that are `standing` of all its
    tables: one that was rejected, or never staged, would fail the run, and nothing of it would be published.
    """
    spans: list[Span] = []
    for one in sorted(partitions, key=lambda one: one.day):
        if spans:
            first, last, tables = spans[-1]
            wider = tuple(dict.fromkeys((*tables, one.table)))
            near = (one.day - last).days <= BRIDGED_DAYS + 1
            if near and all(day in standing[table] for table in wider for day in _days(first, one.day)):
                spans[-1] = (first, one.day, wider)
                continue
        spans.append((one.day, one.day, (one.table,)))
    return spans


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _stage_again(spans: Sequence[Span]) -> list[RunReport]:
    """A run for each span: the staging of its tables, and all that follows."""
    reports = []
    for number, (start, end, tables) in enumerate(spans, start=1):
        of = f" (run {number} of {len(spans)})" if len(spans) > 1 else ""
        title = f"Staging {', '.join(tables)} again, {start} to {end}{of}"
        reports.append(run_days(title, start, end, ",".join(f"{table}*" for table in tables)))
    return reports


def _outcome(before: "pl.DataFrame", after: "pl.DataFrame") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Per table the rows that waited, left, wait still and wait anew; and the reasons of those that wait."""
    from data_platform.quality.quarantine import by_reason

    row = ["_table", "_partition", "_file", "_row"]
    tables = []
    for (table,), waited in before.group_by("_table", maintain_order=True):
        waits = after.filter(after["_table"] == table)
        still = waits.join(waited, on=row, how="semi").height
        tables.append({"table": table, "rows": waited.height, "left": waited.height - still, "still": still,
                       "new": waits.height - still})  # fmt: skip
    reasons = [
        {"table": group["_table"], "reason": group["reason"], "rows": group["rows"], "days": group["days"]}
        for group in by_reason(after).iter_rows(named=True)
    ]
    return tables, reasons


def _say_outcome(tables: Sequence[Mapping[str, Any]], reasons: Sequence[Mapping[str, Any]]) -> None:
    for table in tables:
        new = f", {table['new']:,} came in" if table["new"] else ""
        wait = "waits" if table["still"] == 1 else "wait"
        say(f"{table['table']}: {table['left']:,} of {_counted(table['rows'], 'row')} left quarantine, "
            f"{table['still']:,} still {wait}{new}.")  # fmt: skip
        for group in reasons:
            if group["table"] == table["table"]:
                say(f"  {_counted(group['rows'], 'row')}, {_counted(group['days'], 'day')}: {group['reason']}")


def _waiting(entity: Entity | None, first: str | None, last: str | None) -> "list[Waiting]":
    start = parse_day(first, "--from") if first is not None else None
    end = parse_day(last, "--to") if last is not None else None
    if start and end and start > end:
        raise BadUsage(f"--from {start} is after --to {end}: swap them.")
    from data_platform.lake import Lake
    from data_platform.quality.quarantine import waiting

    with spinner("Reading quarantine"):
        return waiting(Lake.of(settings()), entity=entity, first=start, last=end)


def _say_nothing_waits(entity: Entity | None, first: str | None, last: str | None) -> None:
    chosen = " of what was asked for" if entity or first or last else ""
    say(f"No rows{chosen} wait in the quarantine of {settings().lake_url}.")


def _sources() -> "dict[str, Source]":
    from data_platform.resources import Platform

    return Platform().sources


def _rows(partitions: "Sequence[Waiting]") -> int:
    return sum(one.rows for one in partitions)


def _ago(days: int) -> str:
    return "today" if days == 0 else f"{_counted(days, 'day')} ago"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _values(values: Mapping[str, str]) -> str:
    """Values of an example on one line: what a source delivered must not steer the terminal."""
    return ", ".join(f"{_printable(name)}={_printable(value)}" for name, value in values.items())


def _printable(text: str) -> str:
    shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in shown)


def _check_target(path: Path, *, force: bool) -> None:
    """Raise BadUsage where the file cannot be meant: before anything is read."""
    with _file_explained(path):
        if path.is_dir():
            raise BadUsage(f"{path} is a folder: name a file in it, such as {path / 'quarantine.csv'}.")
        if not path.parent.is_dir():
            raise BadUsage(f"{path.parent} is no folder: make it, or name a file elsewhere.")
        if path.exists() and not force:
            raise BadUsage(_in_the_way(path))


def _in_the_way(path: Path) -> str:
    return f"{path} is there already: name another file, or replace it by --force."


def _write(path: Path, text: str, *, force: bool) -> None:
    """The file whole or not at all, readable by its owner only; without `force` never in place of another."""
    target = path.with_name(f".{path.name}.{uuid.uuid4().hex}") if force else path
    with _file_explained(path):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
            if force:
                target.replace(path)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


@contextmanager
def _file_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise BadUsage(_in_the_way(path)) from None
    except OSError as error:
        raise SourceUnavailable(
            f"{path} cannot be written ({error.strerror}): mend the rights of its folder, or name a file elsewhere."
        ) from None
