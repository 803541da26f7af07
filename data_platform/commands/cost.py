"""`data-platform cost …`: what was spent, and what another size would cost. Looks only: makes no server or schema."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from data_platform.commands import figures
from data_platform.commands.terminal import BadUsage, note, out, parse_day, print_json, say
from data_platform.errors import PlatformError
from data_platform.settings import Settings, settings

if TYPE_CHECKING:
    import psycopg

    from data_platform.costs.estimate import Estimate
    from data_platform.costs.prices import Prices
    from data_platform.costs.report import Line, Report

APPLICATION = "data-platform cost"
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
By = Literal["asset", "month", "layer", "run"]
NOTHING = "Nothing is measured yet: every run does so by itself, from the next one on."


def report(
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First day; else the first measured.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day; else today.")] = None,
    by: Annotated[By, typer.Option("--by", help="What the lines are by.")] = "asset",
    as_json: AsJson = False,
) -> None:
    """Show what was spent: time, CPU, rows, bytes, storage, and money by prices.yaml, the most expensive first."""
    chosen = settings()
    from data_platform.costs.prices import load_prices
    from data_platform.costs.report import cost_report
    from data_platform.costs.spending import read_spending

    prices = load_prices(chosen.prices_file)
    today = datetime.now(chosen.zone).date()
    end = min(parse_day(last, "--to"), today) if last else today
    begin = parse_day(first, "--from") if first else None
    if begin is not None and begin > end:
        raise BadUsage(f"--from {begin} is after {f'--to {end}' if last else f'today, {end}'}: write an earlier day.")
    with _measured(chosen) as connection:
        spending = read_spending(connection, chosen.timezone, first=begin or date.min, last=end)
    found = cost_report(spending, prices, first=begin or spending.first_day or end, last=end, by=by)
    if as_json:
        print_json(_as_json(found, prices, by))
        return
    _show(found, prices, by)
    for sentence in _remarks(found, prices, chosen):
        say(sentence)


def estimate(
    orders_per_day: Annotated[int, typer.Option("--orders-per-day", min=1, help="Orders of a day.")],
    years: Annotated[int, typer.Option("--years", min=1, max=100, help="For so many years.")],
    lines_per_order: Annotated[
        float | None, typer.Option("--lines-per-order", min=0.01, help="Order lines of an order; else as measured.")
    ] = None,
    products: Annotated[
        int | None, typer.Option("--products", min=1, help="Products in all; else as measured.")
    ] = None,
    customers: Annotated[
        int | None, typer.Option("--customers", min=1, help="Customers in all; else as measured.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Extrapolate what another size would take, from what was measured: time, storage, money by today's prices.

    It says what it assumes, and where it is a guess.
    """
    chosen = settings()
    from data_platform.costs import estimate as estimates
    from data_platform.costs.measured import measure
    from data_platform.costs.prices import load_prices
    from data_platform.lake import Lake

    prices = load_prices(chosen.prices_file)
    price = prices.at(datetime.now(chosen.zone).date()) if prices else None
    scenario = estimates.Scenario(orders_per_day, years, lines_per_order, products, customers)
    with _measured(chosen) as connection:
        found = estimates.estimate(measure(connection, Lake.of(chosen), chosen.timezone), scenario, price)
    currency = prices.currency if prices and price else None
    if as_json:
        print_json({"scenario": asdict(scenario), "currency": currency, **asdict(found)})
        return
    _show_estimate(found, currency)
    if currency is None:
        say(f"There is no money in it: {chosen.prices_file} holds no prices of today.")


def _show_estimate(found: "Estimate", currency: str | None) -> None:
    by_year = Table("Year", "CPU hours", "Seconds a day", "Lake", "Database", *([currency] if currency else []))
    for year in found.years:
        money = [f"{year.money:,.2f}"] if year.money is not None else []
        by_year.add_row(
            str(year.year), f"{year.cpu_hours:,.1f}", f"{year.seconds_per_day:,.1f}", size(Decimal(year.lake)),
            size(Decimal(year.database)), *money,
        )  # fmt: skip
    by_asset = Table("In the last year", "Rows a day", "Seconds a day", "CPU s a day", "Stored")
    for one in found.assets:
        by_asset.add_row(
            one.asset, f"{one.rows:,.0f}", f"{one.seconds:,.1f}", f"{one.cpu_seconds:,.1f}", size(Decimal(one.storage))
        )
    for table in (by_year, by_asset):
        for column in table.columns[1:]:
            column.justify = "right"
        out.print(table)
    say("It assumes:")
    for sentence in found.assumptions:
        say(f"- {sentence}")
    for sentence in found.warnings:
        note(f"A guess: {sentence}", style="yellow")


@contextmanager
def _measured(chosen: Settings) -> "Iterator[psycopg.Connection]":
    """A connection to a warehouse that has costs; raises PlatformError in a sentence where there is none."""
    from data_platform.costs.spending import is_measured
    from data_platform.warehouse.connection import connected, warehouse_url

    if chosen.warehouse_url is None and not (chosen.home / "postgres").exists():
        raise PlatformError("There is no warehouse yet: `data-platform demo` or `data-platform backfill` makes it.")
    with connected(warehouse_url(chosen), application=APPLICATION, writes=False) as connection:
        if not figures.is_set_up(connection):
            raise PlatformError(
                "The warehouse is empty: `data-platform demo` or `data-platform backfill` fills it, and measures."
            )
        if not is_measured(connection):
            raise PlatformError(NOTHING)
        yield connection


def _as_json(found: "Report", prices: "Prices | None", by: str) -> dict[str, Any]:
    return {
        "from": found.first,
        "to": found.last,
        "by": by,
        "currency": prices.currency if prices else None,
        "days_without_prices": found.unpriced,
        "lines": [{by: line.name, **_figures(line, prices)} for line in found.lines],
        "total": _figures(found.total, prices),
    }


def _figures(line: "Line", prices: "Prices | None") -> dict[str, Any]:
    money = {name: getattr(line, name) for name in ("compute", "transfer", "storage", "fixed", "money")}
    return {
        "runs": len(line.run_ids),
        "steps": line.steps,
        "failed_steps": line.failed,
        "seconds": line.seconds,
        "cpu_seconds": line.cpu_seconds,
        "rows": line.rows,
        "rows_written": line.rows_written,
        "bytes_read": line.bytes_read,
        "bytes_written": line.bytes_written,
        "storage_growth_bytes": line.storage_growth,
        "storage_gb_months": line.gb_months,
        "seconds_per_million_rows": _shortened(line.per_million_rows(line.seconds)),
        **(money if prices else dict.fromkeys(money)),
        "money_per_million_rows": _shortened(line.per_million_rows(line.money)) if prices else None,
    }


def _shortened(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else round(amount, 6)


def _show(found: "Report", prices: "Prices | None", by: str) -> None:
    say(f"What was spent from {found.first} to {found.last}")
    table = Table(
        by.capitalize(), "Runs", "Steps", "Seconds", "CPU s", "Rows", "Read", "Written", "Growth", "s / M rows"
    )
    if prices:
        for name in (prices.currency, f"{prices.currency} / M rows"):
            table.add_column(name)
    for column in table.columns[1:]:
        column.justify = "right"
    for line in (*found.lines, found.total):
        name = line.name[:8] if by == "run" and line is not found.total else line.name
        cells = [
            name, f"{len(line.run_ids):,}", f"{line.steps:,}" + (f" ({line.failed} failed)" if line.failed else ""),
            f"{line.seconds:,.1f}", f"{line.cpu_seconds:,.1f}", f"{line.rows:,}", size(line.bytes_read),
            size(line.bytes_written), size(line.storage_growth), _number(line.per_million_rows(line.seconds), 1),
        ]  # fmt: skip
        if prices:
            cells += [f"{line.money:,.4f}", _number(line.per_million_rows(line.money), 4)]
        if line is found.total:
            table.add_section()
        table.add_row(*cells)
    out.print(table)


def _number(amount: Decimal | None, digits: int) -> str:
    return "" if amount is None else f"{amount:,.{digits}f}"


def size(count: int | Decimal) -> str:
    """Bytes for people, by powers of 1,000."""
    amount = Decimal(count)
    for unit in ("B", "kB", "MB"):
        if abs(amount) < 1000:
            return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1000
    return f"{amount:,.2f} GB"


def _remarks(found: "Report", prices: "Prices | None", chosen: Settings) -> Sequence[str]:
    remarks = [] if found.total.steps else ["No step ran in these days." if found.total.gb_months else NOTHING]
    if prices is None:
        remarks.append(
            f"There is no money in it: {chosen.prices_file} holds no prices. `data-platform init` writes it, to be "
            "filled in."
        )
    elif found.unpriced:
        remarks.append(
            f"Of these days {found.unpriced} came before {prices.first_day}, the first that has prices: what was spent "
            f"then counts as 0; add an entry from {found.first} to {chosen.prices_file}."
        )
    return remarks
