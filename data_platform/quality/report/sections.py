"""The sections of the report, each from what is remembered to HTML; an empty one says so in a sentence."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import polars as pl

from data_platform.commands import figures
from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.quality.anomalies import plain
from data_platform.quality.profiles import ColumnProfile, Profile
from data_platform.quality.report.charts import heat_map, series
from data_platform.quality.report.drift import DRIFT, ROWS, Metric, drifted
from data_platform.quality.report.findings import described, measured, silences
from data_platform.quality.report.reading import Memory, age
from data_platform.quality.report.tables import table
from data_platform.quality.report.text import brief, count, either, share, span, spans, text
from data_platform.warehouse.ledger import LINE_CLASSES, TELLING_CLASSES

SHOWN_PLOTS = 12
# Accounts have a row per day up to here, then one per month.
SHOWN_DAYS = 31
_SHOWN_CLASSES = 4
_KEY = """<p class="key"><span><i class="dot"></i>passed</span><span><i class="critical"></i>critical fails</span>
<span><i class="warning"></i>warning fails</span><span><i class="info"></i>info fails</span>
<span>fuller colour: a greater share of the rows</span><span>nothing: not judged</span></p>"""


def rules(memory: Memory, days: int) -> str:
    """Tables × rules over the last `days` partitions; rules that never failed in them are one line a table."""
    if memory.results.is_empty():
        return _empty("No check has been recorded yet: the first run that stages a delivery does.")
    shown = memory.partitions[-days:]
    within = memory.results.filter(pl.col("partition_date").is_null() | pl.col("partition_date").is_in(shown))
    tables = within.sort("asset", "rule").partition_by("asset", as_dict=True)
    # Tables of which something failed come first.
    ordered = sorted(tables.items(), key=lambda one: (one[1].get_column("passed").all(), one[0]))
    parts = [f"<p>{count(len(shown), 'partition')}, {span(shown)}.</p>" if shown else "", _KEY]
    parts += [_rules_of(str(asset), results, shown) for (asset,), results in ordered]
    return "".join(parts)


def _rules_of(asset: str, results: pl.DataFrame, shown: Sequence[date]) -> str:
    by_day, latest = (results.filter(pl.col("partition_date").is_null() == null) for null in (False, True))
    failing = by_day.filter(~pl.col("passed")).get_column("rule").unique().to_list()
    never = sorted(set(results.filter(pl.col("passed")).get_column("rule")) - set(failing)
                   - set(latest.filter(~pl.col("passed")).get_column("rule")))  # fmt: skip
    parts = [] if results.get_column("passed").all() else [f"<h3>{text(asset)}</h3>"]
    if failing:
        # Drift that could not be judged yet has passed, of no row.
        judged = ~(pl.col("rule").str.starts_with(DRIFT) & pl.col("passed") & (pl.col("rows_judged") == 0))
        cells = [_cell(row) for row in by_day.filter(pl.col("rule").is_in(failing) & judged).iter_rows(named=True)]
        parts.append(_scrolled(heat_map(pl.DataFrame(cells), shown)))
    broken = latest.filter(~pl.col("passed"))
    if not broken.is_empty():
        rows = [_latest(row) for row in broken.iter_rows(named=True)]
        headings = {"rule": "Latest, of no single partition", "severity": "Severity", "failed": "Rows that fail",
                    "judged": "of", "note": "What was found"}  # fmt: skip
        parts.append(_scrolled(table(rows, headings, integers=("failed", "judged"))))
    if never:
        told = descriptions_of(asset, never)
        said = f"{text(asset)}: {count(len(never), 'rule')} never failed"
        parts.append(f"<details><summary>{said}</summary><ul>{told}</ul></details>")
    return "".join(parts)


def descriptions_of(asset: str, names: Sequence[str]) -> str:
    """Rules as list items, each with what it asks for where a contract says so."""
    known = described()
    items = []
    for name in names:
        asks = known.get((asset, name))
        items.append(f"<li><code>{text(name)}</code>{f' – {text(asks)}' if asks else ''}</li>")
    return "".join(items)


def _cell(row: Mapping[str, Any]) -> dict[str, Any]:
    failed, judged = row["rows_failed"], row["rows_judged"]
    # Nothing keeps the counts of a query within 0 and what was judged.
    part = min(max(failed / judged, 0.0), 1.0) if failed and judged else 1.0
    says = f"{row['partition_date']} · {row['rule']} ({row['severity']}): "
    if row["passed"]:
        says += f"passed, {count(judged, 'row')} judged" if judged else "passed"
    elif failed and judged:
        says += f"{count(failed)} of {count(judged, 'row')} ({share(failed, judged)}) fail"
    else:
        says += row["note"] or measured(row) or "failed"
    return {
        "rule": brief(row["rule"]),
        "partition": row["partition_date"].isoformat(),
        "state": "passed" if row["passed"] else row["severity"],
        "weight": part**0.5,
        "says": says,
    }


def _latest(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "rule": row["rule"],
        "severity": row["severity"],
        "failed": row["rows_failed"],
        "judged": row["rows_judged"],
        "note": row["note"],
    }


def drift(memory: Memory) -> str:
    """Rows a partition of each table, and each figure that drifted, with the partitions on which it was unusual."""
    if not any(memory.profiles.values()):
        return _empty("No partition has a profile yet: without a history nothing can be called unusual.")
    found = drifted(memory.results)
    always: dict[Metric, Mapping[date, str]] = {
        Metric(table, ROWS): {} for table, profiles in memory.profiles.items() if profiles
    }
    drawn = {metric: told for metric, told in found.items() if metric.values(memory.profiles.get(metric.table, {}))}
    plotted = dict(list(drawn.items())[:SHOWN_PLOTS])
    plots = [_plot(memory, metric, told) for metric, told in {**always, **plotted}.items()]
    judged = not memory.results.filter(pl.col("rule").str.starts_with(DRIFT)).is_empty()
    said = "Marked are the partitions that were unlike those before them; point at one to read why."
    if not found:
        said = "No partition was unlike those before it." if judged else "No drift rule has been judged yet."
    parts = [f"<p>{said}</p>", f'<div class="plots">{"".join(plots)}</div>']
    rest = [(metric, told) for metric, told in found.items() if metric not in plotted]
    if rest:
        rows = [
            {
                "table": metric.table,
                "figure": metric.title,
                "days": len(told),
                "last": max(told),
                "said": told[max(told)].partition(": ")[2],
            }
            for metric, told in rest
        ]
        headings = {"table": "Table", "figure": "Figure", "days": "Partitions", "last": "Last",
                    "said": "What was said then"}  # fmt: skip
        shown = _scrolled(table(rows, headings, integers=("days",)))
        parts.append(f"<details><summary>{count(len(rest), 'more figure')}</summary>{shown}</details>")
    return "".join(parts)


def _plot(memory: Memory, metric: Metric, told: Mapping[date, str]) -> str:
    points = metric.values(memory.profiles[metric.table])
    drawn = series(points, told, percent=metric.is_share)
    when = f", {count(len(told), 'unusual partition')}" if told else ""
    return f"<figure><figcaption><b>{text(metric.table)}</b> {text(metric.title)}{when}</figcaption>{drawn}</figure>"


def quarantine(memory: Memory) -> str:
    """Rejected rows by reason: how many, of which files and days, how long they have waited. None of their values."""
    waiting = memory.quarantine
    if waiting.is_empty():
        return _empty("No row waits in quarantine: every row that was delivered and is no copy could be taken.")
    reasons = waiting.explode("reasons")
    grouped = reasons.group_by("entity", "reasons").agg(
        rows=pl.len(),
        days=pl.col("partition_date").unique().sort(),
        files=pl.col("file").unique().sort(),
    )
    rows = [
        {
            "entity": row["entity"],
            "reason": row["reasons"],
            "rows": row["rows"],
            "days": len(row["days"]),
            "first": row["days"][0],
            "last": row["days"][-1],
            "age": age(memory, row["days"][0]),
            "files": _few(row["files"]),
        }
        for row in grouped.sort("rows", "entity", "reasons", descending=[True, False, False]).iter_rows(named=True)
    ]
    oldest = waiting.get_column("partition_date").min()
    assert isinstance(oldest, date)
    headings = {"entity": "Source", "reason": "Reason", "rows": "Rows", "days": "Days", "first": "First",
                "last": "Last", "age": "Days since the first", "files": "Files"}  # fmt: skip
    several = "" if reasons.height == waiting.height else " Some have several reasons, and count under each."
    said = (
        f"<p>{count(waiting.height, 'row waits', 'rows wait')}, the oldest since {oldest} "
        f"({count(age(memory, oldest), 'day')}).{several} "
        "<code>data-platform quarantine show</code> shows them, with personal data brief.</p>"
    )
    return said + _scrolled(table(rows, headings, integers=("rows", "days", "age")))


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def completeness(memory: Memory) -> str:
    """Per table its partitions, the newest, gaps and what waits; then the days on which nothing was delivered."""
    if not any(memory.stamps.values()):
        return _empty("Nothing has been taken from the landing folder yet.")
    rows = [_state(memory, asset, days) for asset, days in _partitions(memory).items() if days]
    headings = {"asset": "Table", "days": "Partitions", "empty": "without delivery", "first": "First", "last": "Last",
                "age": "Days since", "gaps": "Gaps", "waits": "Waits"}  # fmt: skip
    parts = [_scrolled(table(rows, headings, integers=("days", "empty", "age")))]
    for entities, missing, words in silences(memory):
        parts.append(
            f"<p>Between its first and its last delivery nothing came of {either(entities)} on "
            f"{count(len(missing), 'day')}: {either(words)}.</p>"
        )
    return "".join(parts)


def _partitions(memory: Memory) -> dict[str, list[date]]:
    published = {
        str(asset): rows.get_column("partition_date").sort().to_list()
        for (asset,), rows in memory.ledger.group_by("asset", maintain_order=True)
    }
    return {**{asset: sorted(days) for asset, days in memory.stamps.items()}, **published}


_WAITS = {
    "raw": ("landed_not_taken", "landed, not taken"),
    "stg": ("raw_not_staged", "in raw, not staged"),
    "published": ("staged_not_published", "staged, not published"),
}


def _state(memory: Memory, asset: str, days: Sequence[date]) -> dict[str, Any]:
    layer = asset.partition("_")[0]
    entity = figures.PUBLISHED.get(asset) or asset.partition("_")[2]
    step, words = _WAITS.get(layer, _WAITS["published"])
    waits = memory.waiting[entity][step]
    stamps = memory.stamps.get(asset)
    return {
        "asset": asset,
        "days": len(days),
        "empty": None if stamps is None else sum(not stamp.delivered for stamp in stamps.values()),
        "first": days[0],
        "last": days[-1],
        "age": age(memory, days[-1]),
        "gaps": spans(figures.gaps(days)) or None,
        "waits": "unknown"
        if waits is None
        else f"{count(len(waits), 'day')} {words}, {span(waits)}"
        if waits
        else None,
    }


def accounting(memory: Memory) -> str:
    """From delivery to fact, per published table: totals, and by day or month, and whether each balances."""
    if memory.ledger.is_empty():
        return _empty("Nothing has been published yet, so there is nothing to account for.")
    parts = []
    for asset, entity in reversed(figures.PUBLISHED.items()):
        entries = memory.ledger.filter(pl.col("asset") == asset)
        if entries.is_empty():
            continue
        classes = LINE_CLASSES if asset.startswith("fact_") else TELLING_CLASSES
        parts.append(_account(asset, entity, entries, list(classes.values())))
    return "".join(parts)


def _account(asset: str, entity: str, entries: pl.DataFrame, classes: Sequence[str]) -> str:
    of_facts = asset.startswith("fact_")
    named = "fact_sales and fact_returns" if of_facts else asset
    rows = ["rows_delivered", "rows_staged", "rows_quarantined", "rows_duplicate"]
    sums = ["sum_quantity", "sum_total_amount"] if of_facts else []
    by_month = entries.height > SHOWN_DAYS
    periods = pl.col("partition_date").dt.strftime("%Y-%m" if by_month else "%Y-%m-%d")
    figure = [pl.col(name).sum() for name in (*rows, *classes, *sums)]
    grouped = entries.group_by(period=periods).agg(figure).sort("period")
    total = entries.select(pl.lit("total").alias("period"), *figure)
    shown = [_balanced(row, rows, classes) for row in pl.concat([grouped, total]).iter_rows(named=True)]
    last = shown[-1]
    equation = (
        f"{count(last[rows[0]])} delivered = {count(last[rows[1]])} staged + {count(last[rows[2]])} quarantined + "
        f"{count(last[rows[3]])} duplicate; {count(last[rows[1]])} staged = "
        + " + ".join(f"{count(last[name])} {name}" for name in classes)
    )
    headings = {"period": "Month" if by_month else "Day", "rows_delivered": "delivered", "rows_staged": "staged",
                "rows_quarantined": "quarantined", "rows_duplicate": "duplicate", **{name: name for name in classes},
                **dict(zip(sums, ("Σ quantity", "Σ total_amount"), strict=False)), "balances": "balances"}  # fmt: skip
    spanners = {"delivered = staged + quarantined + duplicate": rows, f"staged = {' + '.join(classes)}": classes}
    whole = [*rows, *classes, *sums[:1]]
    shown_table = table(shown, headings, integers=whole, decimals=sums[1:], spanners=spanners, totals=True)
    return f"<h3>{entity} to {named}</h3><p>{equation}.</p>{_scrolled(shown_table)}"


def _balanced(row: dict[str, Any], rows: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    delivered, *parts = (row[name] for name in rows)
    balances = delivered == sum(parts) and row["rows_staged"] == sum(row[name] for name in classes)
    amounts = {name: float(row[name]) for name in ("sum_quantity", "sum_total_amount") if row.get(name) is not None}
    return row | amounts | {"balances": "yes" if balances else "no"}


def profiles(memory: Memory) -> str:
    """Of each staged table the newest partition that has rows, a row a column."""
    parts = []
    for contract in STAGED.values():
        known = {day: found for day, found in memory.profiles[contract.table].items() if found.rows}
        if known:
            day = max(known)
            parts.append(_profile(contract, day, known[day]))
    return "".join(parts) or _empty("No partition has a profile yet: staging a delivery makes one.")


def _profile(contract: Contract, day: date, found: Profile) -> str:
    rows = [
        _column(name, found.columns[name], found.rows, column.pii)
        for name, column in contract.columns.items()
        if name in found.columns
    ]
    headings = {"column": "Column", "nulls": "Nulls", "distinct": "Distinct", "low": "Min", "median": "Median",
                "high": "Max", "mean": "Mean", "shares": "Most frequent"}  # fmt: skip
    repeats = "" if found.repeats is None else f", {share(found.repeats, 1)} tell the same as another"
    said = f"<p>Partition {day}: {count(found.rows, 'row')}{repeats}.</p>"
    return f"<h3>{contract.table}</h3>{said}{_scrolled(table(rows, headings, integers=('distinct',), right=_RIGHT))}"


_RIGHT = ("nulls", "low", "median", "high", "mean")


def _column(name: str, found: ColumnProfile, rows: int, personal: bool) -> dict[str, Any]:
    numbers, shares = found.numbers, found.shares or found.ages
    row: dict[str, Any] = {"column": name, "nulls": share(found.nulls * rows, rows), "distinct": found.distinct}
    if numbers:
        row |= {
            "low": plain(numbers.low),
            "median": plain(numbers.quantiles[len(numbers.quantiles) // 2]),
            "high": plain(numbers.high),
            "mean": plain(numbers.mean),
        }
    if personal:
        row["shares"] = "personal data: no values are kept"
    elif shares:
        most = sorted(shares.items(), key=lambda one: -one[1])
        row["shares"] = ", ".join(f"{label} {share(part, 1)}" for label, part in most[:_SHOWN_CLASSES] if part)
    return row


def _scrolled(inner: str) -> str:
    return f'<div class="wide">{inner}</div>'


def _empty(sentence: str) -> str:
    return f'<p class="empty">{sentence}</p>'


SECTIONS: Mapping[str, tuple[str, Callable[[Memory], str]]] = {
    "drift": ("Drift", drift),
    "quarantine": ("Quarantine", quarantine),
    "completeness": ("Freshness and completeness", completeness),
    "accounting": ("Row accounting, from delivery to fact", accounting),
    "profiles": ("What the newest partitions look like", profiles),
}
