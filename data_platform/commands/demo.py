"""`data-platform demo`: from nothing to a warehouse with data in it, by a shop that does not exist."""

from collections.abc import Collection
from dataclasses import asdict
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from data_platform.commands import figures
from data_platform.commands.backfill import end_with, say_warnings
from data_platform.commands.running import check_range, run_days
from data_platform.commands.terminal import BadUsage, err, local_landing, note, out, parse_day, print_json, say
from data_platform.errors import PlatformError
from data_platform.settings import Settings, settings


class Form(StrEnum):
    """Of the landing files."""

    parquet = "parquet"
    csv = "csv"


def demo(
    customers: Annotated[int, typer.Option(metavar="N", help="Customers known on the first day.")] = 5_000,
    products: Annotated[int, typer.Option(metavar="N", help="Products known on the first day.")] = 1_000,
    orders_per_day: Annotated[int, typer.Option(metavar="N", help="Orders a day, of three lines each.")] = 500,
    days: Annotated[int, typer.Option(metavar="N", help="Days of business.")] = 90,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same shop.")] = 7,
    start: Annotated[
        str | None, typer.Option(metavar="DATE", help="The first day (else DATA_PLATFORM_START_DATE).")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="Of the landing files.")] = Form.parquet,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make a demo shop, run the whole platform over its days, and show what the warehouse then holds.

    Doing it again with the same options changes nothing.
    """
    chosen = settings()
    landing = local_landing(chosen)
    first = parse_day(start, "--start") if start else chosen.start_date
    wanted = _days(first, days, chosen)
    from data_platform.datasets.demo_shop import ShopSize, UnusableShop, generate

    try:
        size = ShopSize(customers=customers, products=products, orders_per_day=orders_per_day, days=days)
        _refuse_other_data(chosen, landing, wanted, form)
        note(f"Making a demo shop: {first} to {wanted[-1]}, into {landing}")
        with _progress(days) as progress:
            task = progress.add_task("Days", total=days)
            shop = generate(
                landing,
                start=first,
                size=size,
                seed=seed,
                file_format=form.value,
                progress=lambda _: progress.advance(task),
            )
    except UnusableShop as error:
        raise BadUsage(str(error)) from None
    note(f"  {shop.orders:,} orders, {shop.lines_delivered:,} delivered lines, {shop.dirty_rows:,} dirty rows")
    report = run_days("Running the platform over these days", first, wanted[-1])
    if not as_json:
        say_warnings(report)
    if report.succeeded:
        summary = _summary(chosen)
        if as_json:
            print_json({"shop": asdict(shop), "run": report.as_json(), **summary})
        else:
            _show(summary)
            say(f"\nDone in {report.seconds:.1f} s. See it: `make ui`. Query it: `data-platform url --hold`.")
    elif as_json:
        print_json({"shop": asdict(shop), "run": report.as_json()})
    end_with(report)


def _days(first: date, count: int, chosen: Settings) -> list[date]:
    if count < 1:
        raise BadUsage(f"--days is {count}: give at least 1.")
    try:
        wanted = [first + timedelta(days=day) for day in range(count)]
    except OverflowError:
        raise BadUsage(f"--days is {count}: so many days after {first} are beyond the calendar.") from None
    check_range(first, wanted[-1], chosen, names=("--start", "The demo's last day"))
    return wanted


def _refuse_other_data(chosen: Settings, landing: Path, days: Collection[date], form: Form) -> None:
    """A demo must not mix with somebody's deliveries, also where their landing files are gone by now."""
    from data_platform.datasets.landing_files import ENTITIES
    from data_platform.lake import Lake

    lake, wanted = Lake.of(chosen), set(days)
    for entity in ENTITIES:
        for day, stamp in lake.stamps(f"raw_{entity}").items():
            if stamp.delivered and (day not in wanted or not (landing / entity / f"{day}.{form.value}").exists()):
                raise PlatformError(
                    f"The platform at {chosen.home} holds {entity} of {day}, which are not this demo's: set "
                    f"DATA_PLATFORM_HOME to a new folder for it (and DATA_PLATFORM_WAREHOUSE_URL, where set, to a new "
                    f"database)."
                )


def _progress(total: int) -> Progress:
    shown = err.is_terminal and total > 1
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        console=err, transient=True, disable=not shown,
    )  # fmt: skip


def _summary(chosen: Settings) -> dict[str, Any]:
    from data_platform.warehouse.connection import connected, redact, warehouse_url

    url = warehouse_url(chosen)
    with connected(url) as connection:
        return {
            "warehouse": redact(url),
            "rows": figures.rows_per_table(connection),
            "months": [asdict(month) for month in figures.sales_by_month(connection)],
            "quality": [asdict(entity) for entity in figures.quality(connection)],
        }


def _show(summary: dict[str, Any]) -> None:
    say(f"\nThe warehouse at {summary['warehouse']} holds:\n")
    out.print(_table(("Table", "Rows"), summary["rows"].items()))
    months = [
        (month["month"], month["orders"], month["lines"], month["sales"], month["returns"])
        for month in summary["months"]
    ]
    out.print(_table(("Month", "Orders", "Lines", "Sales", "Returns"), months))
    classed = [tuple(entity.values()) for entity in summary["quality"]]
    out.print(_table(("Data quality", "Delivered", "Staged", "Quarantined", "Duplicate"), classed))


def _table(heads: tuple[str, ...], rows: Collection[tuple[Any, ...]]) -> Table:
    table = Table(*heads, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
