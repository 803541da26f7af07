"""From rows of platform.check_results to what is wrong or right again, in words, with what to do.

Checks that did not run, because something before them failed, have no rows there: nothing is said of them.
"""

from collections.abc import Callable, Iterable, Iterator

from data_platform.alerts.events import NOWHERE, Failing, Passing
from data_platform.alerts.severity import KINDS_OF_TODAY, OF_TODAY, kind_of, row_rules, severity_of
from data_platform.alerts.store import CheckRow
from data_platform.assets.staging import ACCEPTED
from data_platform.contracts import MARTS
from data_platform.quality.checks import MEND
from data_platform.quality.names import BUDGET, GAPS, REPORT, WAITING

_DRIFT = "drift_"


def evidence(
    rows: Iterable[CheckRow],
    passes_today: Callable[[CheckRow], bool],
    asks: Callable[[str, str], str],
    examples: Callable[[CheckRow], list[str]],
) -> Iterator[Failing | Passing]:
    """What `rows` say, in their order.

    `passes_today`: whether a passed row of OF_TODAY holds today as well, since a run by hand judges as of its newest
    delivery. `asks`: what a table's check asks for. `examples`: lines of masked examples; both are asked only for the
    last failure of each check, whose words stay.
    """
    found = list(rows)
    last = {(row.asset, row.rule): row for row in found if not row.passed}
    rejected = {(row.asset, row.day, row.run_id) for row in found if row.rule == ACCEPTED and not row.passed}
    for row in found:
        key, whole = key_of(row), is_whole(row)
        if row.passed:
            if row.rule not in OF_TODAY or passes_today(row):
                yield Passing(key, None if whole else frozenset({row.day}))
            continue
        told = row is last[row.asset, row.rule]
        yield Failing(
            key,
            kind_of(row.rule),
            severity_of(row),
            _title(row),
            _detail(row, asks(row.asset, row.rule), examples(row)) if told else "",
            advice(row, in_quarantine=(row.asset, row.day, row.run_id) not in rejected),
            row.run_id,
            NOWHERE if whole else frozenset({row.day}),
        )


def key_of(row: CheckRow) -> str:
    """What names the alert of a check: one for all its partitions."""
    return f"{kind_of(row.rule)}/{row.asset}/{row.rule}"


def is_whole(row: CheckRow) -> bool:
    """Whether the check is about its table as it stands, and not about the partition under which it is noted."""
    return row.rule in OF_TODAY or row.asset in (*MARTS, REPORT)


def _title(row: CheckRow) -> str:
    kind = kind_of(row.rule)
    if kind == "delivery_overdue":
        return f"{row.asset}: a delivery is overdue, by {row.rule}"
    if kind == "quarantine_old":
        return f"{row.asset}: rejected rows wait for too long"
    return f"{row.asset}: the check {row.rule} failed"


def _detail(row: CheckRow, asks: str, examples: list[str]) -> str:
    lines = [asks]
    if row.rows_failed:
        lines.append(f"It fails for {row.rows_failed:,} of {row.rows_judged:,}.")
    elif row.value is not None and row.threshold:
        lines.append(f"Found: {row.value:.4g}; allowed: {row.threshold}.")
    lines.append(row.note)
    if examples:
        lines += ["Examples, masked:", *(f"- {example}" for example in examples)]
    return "\n".join(line for line in lines if line)


def advice(row: CheckRow, *, in_quarantine: bool = True) -> str:
    """What to do about a failed check, with the command. The rows of a rejected delivery are not in quarantine."""
    layer, _, name = row.asset.partition("_")
    days = f" --from {row.day} --to {row.day}" if row.day else ""
    again = f"`data-platform backfill{days or ' --from DATE --to DATE'}`"
    if row.rule == WAITING:
        return (
            f"`data-platform quarantine show --entity {name}` says why they wait; mend the source or sources.yaml, "
            "then `data-platform quarantine replay`."
        )
    if row.rule == GAPS:
        return "`data-platform status` names the days that were not run, `data-platform backfill` runs them."
    if row.rule == BUDGET:
        return (
            "`data-platform cost report --by asset`, and --by run, say what costs most; a budget that is outgrown is "
            "raised in prices.yaml."
        )
    if row.rule in KINDS_OF_TODAY:
        return (
            f"Ask who owns the source of {name}; once it has delivered, {again} takes it in. Weekdays on which it is "
            "closed belong into `closed_on` of sources.yaml."
        )
    if layer not in ("raw", "stg"):
        return f"{MEND} Where a rule stopped the publish the table is as it was: mend what was delivered."
    if row.rule.startswith(_DRIFT):
        return "See the check's plot in the run, and ask who owns the source whether that day was really so unusual."
    if in_quarantine and row.severity == "critical" and row.rule in row_rules(row.asset):
        return (
            f"`data-platform quarantine show --entity {name}{days}` names the rows; mend the source or sources.yaml, "
            f"then `data-platform quarantine replay --entity {name}{days}`."
        )
    day = f" --date {row.day}" if row.day else ""
    return (
        f"`data-platform source test {name}{day}` shows what it delivers; mend the source or sources.yaml, then "
        f"{again}."
    )
