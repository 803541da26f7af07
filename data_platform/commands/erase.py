"""`data-platform erase`: a person's right to be forgotten, through lake, quarantine, archive and warehouse."""

import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from data_platform.commands.backfill import end_with
from data_platform.commands.running import RunReport, run_days, spinner
from data_platform.commands.terminal import BadUsage, err, note, out, print_json, say, say_error
from data_platform.errors import PlatformError
from data_platform.settings import Settings, settings

if TYPE_CHECKING:
    from data_platform.erasure.person import Erasure
    from data_platform.erasure.register import Register
    from data_platform.sources.config import Source

MOST_NAMED = 20


def erase(
    customer: Annotated[str, typer.Option("--customer", metavar="ID", help="The customer's id, as delivered.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be erased.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: there is no way back.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Erase a person: their data goes from lake, archive and warehouse, their orders stay under a pseudonym.

    Landing files are only read: those that still name the person are listed, for their source to mend. They bring
    nobody back: the id is entered, hashed, in a register that every read of a delivery looks at. A run that was ended
    goes on where it was. Exit code 1 where anything but landing still tells of the person.
    """
    started = datetime.now(UTC)
    chosen = settings()
    customer_id = unicodedata.normalize("NFC", customer).strip()
    if not customer_id:
        raise BadUsage("--customer is blank: give the id of a customer, as the source delivers it.")
    with spinner("Looking for the person"):
        from data_platform.erasure import places
        from data_platform.erasure.register import PSEUDONYM

        job, register = _opened(chosen, customer_id)
        _refuse_running()
        job.find()
        counts = {place.name: place.find(job) for place in places.PLACES}
        landing = places.landing_files(job)
    known = register.among([customer_id])
    if PSEUDONYM in customer_id and customer_id in register.entries.values():
        raise PlatformError("That is a pseudonym, which stands for nobody any more: there is nothing to erase.")
    if not any(counts.values()) and not known and not landing:
        raise PlatformError("No delivery and no table names a customer of that id: see how the source spells it.")
    if dry_run:
        _tell(counts, landing, [], as_json=as_json, done=False)
        return
    _confirm(counts, yes=yes)
    marts, left = _carried_out(job, started, counts)
    _tell(counts, landing, left, as_json=as_json, done=True)
    if marts is not None:
        end_with(marts)
    if left:
        say_error("Something still tells of the person, see above: mend or delete it by hand, and call this again.")
        raise typer.Exit(1)


def _opened(chosen: Settings, customer_id: str) -> "tuple[Erasure, Register]":
    from data_platform.dagster_storage import storage_url
    from data_platform.erasure.person import Erasure
    from data_platform.erasure.register import PSEUDONYM, Register
    from data_platform.erasure.rows import ID, NAMING
    from data_platform.lake import Lake
    from data_platform.resources import Platform
    from data_platform.warehouse.migrations import ready_warehouse

    sources = Platform().sources
    for entity in NAMING:
        for part in _parts(sources[entity]):
            if part.spec(ID).constant == customer_id:
                raise PlatformError(
                    f"{chosen.sources_file} gives every row of {part.place} this customer: take it out there first."
                )
    lake = Lake.of(chosen)
    register = Register.of(lake)
    job = Erasure(
        settings=chosen,
        lake=lake,
        warehouse_url=ready_warehouse(chosen),
        dagster_url=storage_url(chosen).replace("postgresql+psycopg2://", "postgresql://", 1),
        sources=sources,
        customer_id=customer_id,
        pseudonym=register.among([customer_id]).get(customer_id, PSEUDONYM),
        run_id=str(uuid.uuid4()),
    )
    return job, register


def _parts(source: "Source") -> "list[Source]":
    return list(source.sources.values()) or [source]


def _refuse_running() -> None:
    """A run that has read the person before would write them after."""
    import dagster as dg
    from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

    under_way = [status for status in IN_PROGRESS_RUN_STATUSES if status != dg.DagsterRunStatus.QUEUED]
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs(filters=dg.RunsFilter(statuses=under_way), limit=1)
    if runs:
        raise PlatformError(
            f"The run {runs[0].run_id} is under way, and may write what it has read of the person: let it end, or "
            "cancel it in the UI, and call this again."
        )


def _confirm(counts: Mapping[str, int], *, yes: bool) -> None:
    if yes:
        return
    if not err.is_terminal:
        raise BadUsage("Nobody is there to be asked: call it with --yes, or see by --dry-run what would be erased.")
    note(", ".join(f"{name}: {count:,}" for name, count in counts.items() if count))
    typer.confirm("Erase the person? There is no way back", abort=True, err=True)


def _carried_out(job: "Erasure", started: datetime, counts: Mapping[str, int]) -> tuple[RunReport | None, list[str]]:
    """Do it, note that it was done; the run that refreshed the marts, and where the person is still told of."""
    from data_platform.erasure import archives, places, texts
    from data_platform.erasure.register import enter
    from data_platform.erasure.rows import ID

    prefixes = [part.spec(ID).prefix or "" for source in job.sources.values() for part in _parts(source)]
    # First of all: whatever is read from here on comes without the person.
    register = enter(job.lake, job.customer_id, prefixes)
    job = replace(job, pseudonym=register.among([job.customer_id])[job.customer_id])
    archives.remember(job)
    for place in places.PLACES:
        with spinner(f"Erasing: {place.name}"):
            place.clean(job)
    marts = _refreshed(job)
    # Nobody is noted as erased while an archive cannot be looked at.
    with spinner("Looking for what is left"):
        left = texts.leftovers(job)
    places.audit(job, register.digest(job.customer_id), dict(counts), started)
    if not left:
        archives.forget(job)
    return marts, left


def _refreshed(job: "Erasure") -> RunReport | None:
    from data_platform.commands.figures import stale_marts
    from data_platform.contracts import MARTS
    from data_platform.warehouse.connection import connected

    with connected(job.warehouse_url) as connection:
        stale = stale_marts(connection)
    return run_days("Refreshing the marts", None, None, ",".join(MARTS)) if stale else None


def _tell(counts: Mapping[str, int], landing: list[str], left: list[str], *, as_json: bool, done: bool) -> None:
    if as_json:
        print_json({"erased": done, "found": counts, "landing": landing, "left": left})
        return
    from data_platform.erasure.places import PLACES

    table = Table("Place", "Erased" if done else "Would be erased")
    table.columns[1].justify = "right"
    for place in PLACES:
        count = counts[place.name]
        table.add_row(place.name, f"{count:,} {place.unit}{'' if count == 1 else 's'}")
    out.print(table)
    _list(landing, "Landing still names the person, and is only read: have the source erase them there, too.")
    _list(left, "Still tells of the person:")


def _list(places: list[str], sentence: str) -> None:
    if not places:
        return
    say(sentence)
    for place in places[:MOST_NAMED]:
        say(f"  {place}")
    if len(places) > MOST_NAMED:
        say(f"  and {len(places) - MOST_NAMED} more")
