"""`data-platform import …`: public data sets into the landing folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from data_platform.commands.running import newest_day
from data_platform.commands.terminal import err, local_landing, note, print_json, say
from data_platform.settings import settings


def online_retail(
    path: Annotated[Path, typer.Argument(help="The folder with the daily files (by-day), or the one that holds it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Bring UCI Online Retail (D. Chen, UCI Machine Learning Repository) into the landing folder."""
    chosen = settings()
    landing = local_landing(chosen)
    from data_platform.datasets.online_retail import daily_files, import_online_retail

    count = len(daily_files(path))
    note(f"Importing {count} daily files into {landing}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("Days", total=count)
        summary = import_online_retail(path, landing, progress=lambda _: progress.advance(task))
    backfill = f"data-platform backfill --from {summary.first_day} --to {min(summary.last_day, newest_day(chosen))}"
    missing = chosen.start_date > summary.first_day
    if as_json:
        needed = list(summary.settings_needed)
        print_json({**asdict(summary), "settings_needed": needed, "settings_missing": missing, "next": backfill})
        return
    say(
        f"{summary.days} days from {summary.first_day} to {summary.last_day}: {summary.order_rows:,} rows of orders, "
        f"{summary.product_rows:,} of products, {summary.customer_rows:,} of customers."
    )
    say(f"Their dates need: {' '.join(summary.settings_needed)}")
    if missing:
        note(f"DATA_PLATFORM_START_DATE is {chosen.start_date}, later than their first day. Set it first:", "yellow")
        for line in summary.settings_needed:
            say(f"  export {line}")
    say("Take them in:")
    say(f"  {backfill}")
