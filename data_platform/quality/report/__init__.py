"""The quality report: one HTML page, from what the platform remembers, that tells a person what is wrong with the data.

It needs no network and runs no script: the page itself forbids both, so that nothing in the data can do either.
"""

import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from string import Template

import polars as pl

from data_platform.contracts import STAGED
from data_platform.errors import SourceUnavailable
from data_platform.lake import Lake
from data_platform.quality.report.findings import findings, lead, missing_days
from data_platform.quality.report.reading import Memory, moment, read
from data_platform.quality.report.sections import SECTIONS, rules
from data_platform.quality.report.text import count, span, text


@dataclass(frozen=True)
class Report:
    """The figures of a report.

    `tables` and `rules` were judged in the reported partitions, `failed_critical` and `failed_warnings` of their newest
    results failed there (of each rule and partition, and of each rule of no single partition). `quarantined_rows` wait
    over all partitions. `missing_days`: between the first and the last delivery of a source, summed over sources.
    `bytes`: the size of the page.
    """

    tables: int
    rules: int
    failed_critical: int
    failed_warnings: int
    quarantined_rows: int
    missing_days: int
    bytes: int


def write_report(
    url: str, lake: Lake, landing_url: str, path: Path, *, start_date: date, timezone: str, days: int = 30
) -> Report:
    """Write the report to `path`, in place of a former one, and say what is in it.

    `url`: a warehouse whose schema is up to date. `timezone`: the business time zone. `days`: over how many of the last
    partitions the rules are shown. Raises DatabaseUnavailable where the warehouse cannot be read, SourceUnavailable
    where `path` cannot be written.
    """
    memory = read(url, lake, landing_url, start_date=start_date, timezone=timezone)
    page = _page(memory, days).encode()
    _write(path, page)
    shown = memory.partitions[-days:]
    results = memory.results.filter(pl.col("partition_date").is_null() | pl.col("partition_date").is_in(shown))
    failed = results.filter(~pl.col("passed"))
    return Report(
        tables=results.get_column("asset").n_unique(),
        rules=results.select("asset", "rule").n_unique(),
        failed_critical=failed.filter(pl.col("severity") == "critical").height,
        failed_warnings=failed.filter(pl.col("severity") == "warning").height,
        quarantined_rows=memory.quarantine.height,
        missing_days=sum(len(missing_days(memory, entity)) for entity in STAGED),
        bytes=len(page),
    )


def _page(memory: Memory, days: int) -> str:
    found = findings(memory)
    listed = "".join(f'<li class="{one.severity}">{one.sentence}</li>' for one in found)
    parts = {"rules": ("Tables × rules", rules(memory, days))}
    parts |= {name: (title, section(memory)) for name, (title, section) in SECTIONS.items()}
    own = files(__package__)
    return Template(own.joinpath("page.html").read_text("utf8")).substitute(
        style=own.joinpath("page.css").read_text("utf8"),
        made=text(moment(memory, memory.now)),
        about=_about(memory),
        lead=lead(memory, found),
        findings=f"<ol>{listed}</ol>" if listed else "",
        contents=" ".join(f'<a href="#{name}">{title}</a>' for name, (title, _) in parts.items()),
        sections="".join(
            f'<section id="{name}"><h2>{title}</h2>{inner}</section>' for name, (title, inner) in parts.items()
        ),
    )


def _about(memory: Memory) -> str:
    said = []
    if memory.partitions:
        said.append(f"of {count(len(memory.partitions), 'partition')}, {span(memory.partitions)}")
    if not memory.results.is_empty():
        newest = memory.results.sort("checked_at").row(-1, named=True)
        said.append(f"last checked by run {text(newest['run_id'][:8])}, {moment(memory, newest['checked_at'])}")
    if memory.last_load:
        load = memory.last_load
        said.append(
            f"last published by run {text(load.run_id[:8])} ({text(load.asset)}), {moment(memory, load.finished_at)}"
        )
    return "; ".join(said)


def _write(path: Path, page: bytes) -> None:
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(page)
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise SourceUnavailable(
            f"The quality report cannot be written to {path} ({error.strerror or type(error).__name__}): mend the "
            "rights or the space of that folder."
        ) from None
