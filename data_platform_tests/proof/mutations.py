"""The mutation check: the engine is broken on purpose, one rule at a time, and some test must notice.

    python -m data_platform_tests.proof.mutations [NAME…]     the mutations named, else all; --list names them

Each mutation is a few exact replacements of text. They are made in a copy of the repository in a temporary folder, and
the tests of that copy run there: first those of `look`, where the catch is expected, then, if these notice nothing, all
tests of the laws. The unmutated copy must pass them all. Prints which test caught each mutation; exit code 1 where one
survives, does not apply, or the unmutated copy fails. A mutation that survives is a test that is missing.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ("data_platform", "data_platform_tests", "sql", "pyproject.toml", "dagster.yaml", "workspace.yaml")
# Everything that speaks of the laws; the random streams of `test_laws` are among them.
LAWS = tuple(
    f"data_platform_tests/{part}"
    for part in ("warehouse", "test_reference.py", "test_marts.py", "transforms", "io_managers", "assets")
)
CAUGHT_BY, LIMIT_SECONDS = "DATA_PLATFORM_TEST_CAUGHT_BY", 1200


@dataclass(frozen=True)
class Edit:
    """Replace `old`, which stands exactly once in `file` (below data_platform/), by `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """One rule broken. `breaks` is the rule; `look` are pytest's arguments that should be enough to notice."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    look: str


V, L, P = "transforms/versions.py", "transforms/lines.py", "transforms/pointing.py"
D, F, R = "warehouse/dimensions.py", "warehouse/facts.py", "warehouse/rekeying.py"
G, U, S = "warehouse/ledger.py", "warehouse/publish.py", "warehouse/staged.py"
M, N, A = "warehouse/marts.py", "warehouse/connection.py", "quality/acceptance.py"
Q = "transforms/staging.py"
CASES, PUBLISHED = "data_platform_tests/warehouse/test_laws.py", "data_platform_tests/warehouse/test_publish.py"
ONE_WRITER = "data_platform_tests/warehouse/test_one_writer.py -k 'not two_writers'"
ONE_TRANSACTION = "data_platform_tests/warehouse/test_one_writer.py -k 'is_one_transaction or commit_fails'"
MARTS, GUARD = "data_platform_tests/test_marts.py", "data_platform_tests/assets/test_deletion_guard.py"
VERSIONS = "data_platform_tests/transforms/test_versions.py"
RAW, STAGING = "data_platform_tests/assets/test_raw_and_staging.py", "data_platform_tests/transforms/test_staging.py"


def mutation(name: str, breaks: str, look: str, *edits: tuple[str, str, str]) -> Mutation:
    return Mutation(name, breaks, tuple(Edit(*edit) for edit in edits), look)


NULL_SAFE = "comparison not NULL-safe"
BOUNDARY = "`<` for `<=` at effective_from"
REKEYING = "no re-keying"
PROFIT = "no profit on re-keying"
ARRIVAL = "arrival order instead of moments"
TOMBSTONE = "a tombstone forgotten"
INFERRED = "an inferred member not removed"
LOCK = "the lock released before the commit"
LEDGER = "the ledger outside of the transaction"
DELIVERED_ON = "delivered_on of the last instead of the first equal telling"
QUARANTINED = "quarantined keys counted absent"
SECOND_TABLE = "the second fact table not in the publish"

COMMIT = '{0}connection.execute("COMMIT")\n{0}connection.execute("BEGIN")\n'

MUTATIONS = (
    mutation(
        "versions-compared-by-equals", NULL_SAFE, f"{CASES} -k null",
        (V, "pl.col(name).eq_missing(pl.col(name).shift(1)) for name in tracked",
         "pl.col(name) == pl.col(name).shift(1) for name in tracked"),
    ),
    mutation(
        "members-in-the-table-compared-by-unequals", NULL_SAFE, f"{CASES} -k column",
        (D, 'differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_stands")) for name in compared)',
         'differs = pl.any_horizontal(pl.col(name) != pl.col(f"{name}_stands") for name in compared)'),
    ),
    mutation(
        "what-facts-show-compared-by-unequals", NULL_SAFE, f"{PUBLISHED} -k missing",
        (D, 'shows_other = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_stands")) for name in visible)',
         'shows_other = pl.any_horizontal(pl.col(name) != pl.col(f"{name}_stands") for name in visible)'),
    ),
    mutation(
        "tellings-compared-by-equals", NULL_SAFE, f"{CASES} -k 'telling or rolling'",
        (L, "equal = pl.all_horizontal([pl.col(name).eq_missing(pl.col(name).shift(1)) for name in TELLING])",
         "equal = pl.all_horizontal([pl.col(name) == pl.col(name).shift(1) for name in TELLING])"),
    ),
    mutation(
        "facts-in-the-table-compared-by-unequals", NULL_SAFE, f"{PUBLISHED} -k hands_emptied",
        (F, 'pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_stands")) for name in values)',
         'pl.any_horizontal(pl.col(name) != pl.col(f"{name}_stands") for name in values)'),
    ),
    mutation(
        "profit-compared-by-unequals", NULL_SAFE, f"{CASES} -k 'cost or inferred'",
        (R, 'pl.col("_profit").ne_missing(pl.col("profit"))', '(pl.col("_profit") != pl.col("profit"))'),
    ),
    mutation(
        "marts-compared-by-unequals", NULL_SAFE, MARTS,
        (M, "({}) IS DISTINCT FROM ({})", "({}) <> ({})"),
    ),
    mutation(
        "two-rows-of-a-member-in-a-full-delivery-pass-for-one", "full deliveries", f"{PUBLISHED} -k alike",
        (V, 'only = ~pl.col(key).is_duplicated() & ~pl.col("is_deleted")', 'only = ~pl.col("is_deleted")'),
    ),
    mutation(
        "a-deletion-in-a-full-delivery-passes-for-told-before", TOMBSTONE, f"{CASES} -k full",
        (V, 'only = ~pl.col(key).is_duplicated() & ~pl.col("is_deleted")', "only = ~pl.col(key).is_duplicated()"),
    ),
    mutation(
        "rows-of-a-member-beside-the-one-in-its-place-are-not-looked-at", "full deliveries", f"{PUBLISHED} -k alike",
        (V, ".filter(~keys.is_in(pl.concat(others).implode()))", ""),
    ),
    mutation(
        "a-deletion-in-its-place-in-a-full-delivery-passes-for-told-before", TOMBSTONE, VERSIONS,
        (V, 'same = ~here["is_deleted"] & ~there["is_deleted"]', "same = pl.repeat(True, places, eager=True)"),
    ),
    mutation(
        "changes-after-a-full-delivery-are-not-looked-at", "full deliveries", f"{PUBLISHED} -k alike",
        (D, 'return work.staged[latest].mode == "full" and moment is not None and moment == work.watermark',
         'return work.staged[latest].mode == "full" and moment is not None'),
    ),
    mutation(
        "a-version-counts-from-the-day-after-its-start", BOUNDARY, f"{CASES} -k line",
        (P, 'strategy="backward",', 'strategy="backward",\n            allow_exact_matches=False,'),
    ),
    mutation(
        "facts-of-the-first-day-are-not-re-keyed", BOUNDARY, f"{CASES} -k 'dimension and line'",
        (R, "WHERE f.date_key >= r.from_key", "WHERE f.date_key > r.from_key"),
    ),
    mutation(
        "what-concerns-the-first-version-does-not-reach-back", BOUNDARY, f"{CASES} {PUBLISHED} -k 'dimension or cost'",
        (D, 'pl.when(pl.col("from_date") > pl.col("_first"))', 'pl.when(pl.col("from_date") >= pl.col("_first"))'),
    ),
    mutation(
        "facts-stay-where-they-point", REKEYING, f"{CASES} -k 'dimension and line'",
        (R, "        if not changed.is_empty():\n", "        if False:\n"),
    ),
    mutation(
        "a-publish-of-customers-re-keys-nothing", REKEYING, f"{CASES} -k 'dimension or inferred or streams'",
        (R, "    moved, dates = 0, [pl.Series(\"date_key\", [], dtype=pl.Int32)]\n",
         "    moved, dates = 0, [pl.Series(\"date_key\", [], dtype=pl.Int32)]\n"
         '    if dimension == "dim_customer":\n        return 0, dates[0]\n'),
    ),
    mutation(
        "returns-stay-where-they-point", REKEYING, f"{CASES} -k 'inferred and backward'",
        (R, "    for table in FACTS:\n", "    for table in FACTS[:1]:\n"),
    ),
    mutation(
        "a-re-keyed-fact-keeps-its-profit", PROFIT, f"{CASES} -k 'dimension and line'",
        (R, "SET {key} = r._key, profit = r._profit", "SET {key} = r._key"),
    ),
    mutation(
        "a-cost-that-changes-in-place-moves-no-profit", PROFIT, f"{CASES} -k 'cost or dimension'",
        (R, '(pl.col("_key") != pl.col("key")) | pl.col("_profit").ne_missing(pl.col("profit"))',
         'pl.col("_key") != pl.col("key")'),
    ),
    mutation(
        "members-in-the-order-of-arrival", ARRIVAL, f"{CASES} -k 'late or moment'",
        (V, 'ORDER_OF_TRUTH = ("_moment", "_partition", "_file", "_row")',
         'ORDER_OF_TRUTH = ("_partition", "_moment", "_file", "_row")'),
    ),
    mutation(
        "versions-start-on-the-day-of-delivery", ARRIVAL, f"{CASES} -k 'late or updated_at'",
        (V, 'date_of_moment = pl.col("_moment").dt.convert_time_zone(timezone).dt.date()',
         'date_of_moment = pl.col("_partition")'),
    ),
    mutation(
        "lines-in-the-order-of-arrival", ARRIVAL, f"{CASES} -k older",
        (L, '.sort("order_id", "line_number", "_event_moment", "_partition", "_moment", "_file", "_row")',
         '.sort("order_id", "line_number", "_partition", "_event_moment", "_moment", "_file", "_row")'),
    ),
    mutation(
        "whole-orders-in-the-order-of-arrival", ARRIVAL, f"{CASES} -k 'whole'",
        (L, 'clock = ["order_id", "_event_moment", "_partition"]',
         'clock = ["order_id", "_partition", "_event_moment"]'),
    ),
    mutation(
        "late-members-take-the-fast-path", ARRIVAL, f"{CASES} -k 'late or moment'",
        (D, "later = work.watermark is None or first is None or first > work.watermark  # type: ignore[operator]",
         "later = True"),
    ),
    mutation(
        "late-lines-take-the-fast-path", ARRIVAL, f"{CASES} -k 'older or late'",
        (F, 'late = pl.col("_moment") <= work.watermark', "late = pl.lit(False)"),
    ),
    mutation(
        "late-deliveries-take-the-fast-path", ARRIVAL, f"{PUBLISHED} -k after_an_empty_later_one",
        (G, "all(day > latest for day in self.changed)", "all(day not in self.published for day in self.changed)"),
    ),
    mutation(
        "members-without-the-name-of-their-file", "order of truth", f"{CASES} -k file",
        (V, "seen = observations.sort(key, *ORDER_OF_TRUTH)",
         'seen = observations.sort(key, "_moment", "_partition", "_row")'),
    ),
    mutation(
        "effective-dates-in-utc", "order of truth", f"{CASES} -k 'Greenwich or spring or autumn'",
        (V, "dt.convert_time_zone(timezone).dt.date()", 'dt.convert_time_zone("UTC").dt.date()'),
    ),
    mutation(
        "a-tombstone-does-not-remove-the-line", TOMBSTONE, f"{CASES} -k 'cancelled or tombstone'",
        (L, 'spoken = lines.filter(~pl.col("_present_only"))',
         'spoken = lines.filter(~pl.col("_present_only") & ~pl.col("is_tombstone"))'),
    ),
    mutation(
        "a-tombstone-does-not-remove-the-whole-order", TOMBSTONE, f"{CASES} -k 'cancelled or tombstone'",
        (L, '_gone=pl.col("_unit_order") & pl.col("is_tombstone").cum_max(reverse=True).over(whole_delivery),',
         "_gone=pl.lit(False),"),
    ),
    mutation(
        "a-tombstone-does-not-break-a-run", TOMBSTONE, f"{CASES} -k 'reinstated or tombstone'",
        (L, '        & ~pl.col("is_tombstone").shift(1)\n        & equal\n', "        & equal\n"),
        (L, 'spoken = lines.filter(~pl.col("_present_only"))',
         'told = ~pl.col("_present_only")\n'
         '    last = told.cum_sum().over("_segment") == told.sum().over("_segment")\n'
         '    spoken = lines.filter(~pl.col("_present_only") & (~pl.col("is_tombstone") | last))'),
    ),
    mutation(
        "a-deletion-does-not-close", TOMBSTONE, f"{CASES} -k delete",
        (V, '_closes=pl.col("is_deleted") & follows & ~after_deletion,', "_closes=pl.lit(False),"),
    ),
    mutation(
        "a-deletion-in-the-table-is-forgotten-on-the-fast-path", TOMBSTONE, f"{CASES} -k 'delete or resurrect'",
        (D, 'pl.concat([observed(rows, "effective_from", False), observed(ends, "effective_to", True)])',
         'pl.concat([observed(rows, "effective_from", False), observed(ends, "effective_to", True).head(0)])'),
    ),
    mutation(
        "deletions-that-no-version-shows-are-forgotten", TOMBSTONE, f"{CASES} -k 'only_a_deletion_told_of'",
        (D, "one_mode = len({work.staged[day].mode for day in work.changed}) <= 1", "one_mode = True"),
    ),
    mutation(
        "the-last-fact-leaves-its-inferred-member", INFERRED, f"{CASES} -k inferred",
        (F, "        remove_unnamed_inferred(connection, dimension, dead.get_column(dimension.key).unique())\n",
         "        pass\n"),
    ),
    mutation(
        "a-member-without-facts-that-goes-leaves-an-inferred-one", INFERRED, f"{CASES} -k emptied",
        (D, "            WHERE EXISTS (SELECT FROM warehouse.fact_sales AS f WHERE f.{key} = g.{key})\n",
         "            WHERE true OR EXISTS (SELECT FROM warehouse.fact_sales AS f WHERE f.{key} = g.{key})\n"),
    ),
    mutation(
        "returns-do-not-keep-an-inferred-member", INFERRED, f"{CASES} -k inferred",
        (D, "            AND NOT EXISTS (SELECT FROM warehouse.fact_returns AS f WHERE f.{key} = d.{key})\n", ""),
    ),
    mutation(
        "returns-do-not-restore-an-inferred-member", INFERRED, f"{PUBLISHED} -k alone",
        (D, "            OR EXISTS (SELECT FROM warehouse.fact_returns AS f WHERE f.{key} = g.{key})\n", ""),
    ),
    mutation(
        "a-member-that-no-fact-names-is-removed-though-it-is-known", INFERRED, f"{CASES} -k 'dropped or leaves'",
        (D, "WHERE d.{key} = m.key AND d.is_inferred\n", "WHERE d.{key} = m.key\n"),
    ),
    mutation(
        "an-inferred-member-is-replaced-and-not-upgraded", "law 6: keys stay", f"{PUBLISHED} -k inferred",
        (D, 'match = pl.when(first & (pl.col("_was")', 'match = pl.when(pl.lit(False) & (pl.col("_was")'),
    ),
    mutation(
        "the-lock-is-given-back-just-before-the-commit", LOCK, ONE_WRITER,
        (U, "                take_writer_lock(connection)\n                return write(",
         "                with connected(url, application=application) as holder:\n"
         "                    take_writer_lock(holder)\n                    return write("),
    ),
    mutation(
        "the-lock-is-taken-in-a-transaction-of-its-own", LOCK, ONE_WRITER,
        (U, "                take_writer_lock(connection)\n                return write(",
         "                take_writer_lock(connection)\n                connection.commit()\n"
         "                return write("),
    ),
    mutation(
        "the-lock-is-taken-after-staging-is-read", LOCK, ONE_WRITER,
        (U, "                take_writer_lock(connection)\n                return write(",
         "                return write("),
        (U, "    refuse_imbalance(work, derived.classes)\n    if isinstance",
         "    take_writer_lock(connection)\n    refuse_imbalance(work, derived.classes)\n    if isinstance"),
    ),
    mutation(
        "a-year-comes-with-the-publish-that-fills-it", "law 2: a year is not missed", ONE_WRITER,
        (U, "everything=everything, new_years=False", "everything=everything, new_years=True"),
    ),
    mutation(
        "the-calendar-is-written-without-the-lock", LOCK, ONE_WRITER,
        (U, "        take_writer_lock(connection)\n        before = calendar.standing(connection)\n",
         "        before = calendar.standing(connection)\n"),
    ),
    mutation(
        "a-writer-that-waited-sees-what-stood-before", LOCK, ONE_WRITER,
        (N, "connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED",
         "connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ"),
    ),
    mutation(
        "the-ledger-is-written-by-another-connection", LEDGER, ONE_TRANSACTION,
        (U, "    record(\n        connection,\n", "    _record_apart(\n        connection,\n"),
        (U, "def _counts(",
         "def _record_apart(connection, work, **rest):\n"
         "    with psycopg.connect(connection.info.dsn, password=connection.info.password) as apart:\n"
         "        record(apart, work, **rest)\n\n\ndef _counts("),
    ),
    mutation(
        "the-ledger-is-written-after-the-commit", LEDGER, ONE_TRANSACTION,
        (U, "    record(\n        connection,\n", COMMIT.format("    ") + "    record(\n        connection,\n"),
    ),
    mutation(
        "marks-of-stale-marts-are-written-after-the-commit", "law 2: one transaction", ONE_TRANSACTION,
        (F, "    mark_stale(connection, date_keys, MARTS)\n",
         COMMIT.format("    ") + "    mark_stale(connection, date_keys, MARTS)\n"),
    ),
    mutation(
        "the-day-of-the-last-equal-telling", DELIVERED_ON, f"{CASES} -k 'rolling or telling'",
        (L, 'delivered_on=pl.col("_partition").first().over("_run"),',
         'delivered_on=pl.col("_partition").last().over("_run"),'),
    ),
    mutation(
        "the-day-of-the-last-equal-telling-on-the-fast-path", DELIVERED_ON, f"{PUBLISHED} -k repeats",
        (F, 'updated_at=pl.when(~(pl.lit(never_told) & (pl.col("updated_at") == start))).then("updated_at"),',
         'updated_at=pl.col("updated_at"),'),
    ),
    mutation(
        "the-moment-of-the-last-equal-telling", DELIVERED_ON, f"{CASES} -k 'rolling or telling'",
        (L, '_first_moment=pl.col("_moment").first().over("_run"),',
         '_first_moment=pl.col("_moment").last().over("_run"),'),
    ),
    mutation(
        "rejected-members-count-as-absent", QUARANTINED, f"{CASES} -k quarantined",
        (D, 'quarantined.select(dimension.id, "_partition", observed=pl.lit(False)),',
         'quarantined.head(0).select(dimension.id, "_partition", observed=pl.lit(False)),'),
    ),
    mutation(
        "rejected-lines-of-a-whole-order-count-as-dropped", QUARANTINED, f"{CASES} -k quarantined",
        (F, "whole = [day for day, is_order in units.items() if is_order]", "whole: list[date] = []"),
    ),
    mutation(
        "rejected-members-count-as-absent-in-the-guard", QUARANTINED, GUARD,
        (A, "pl.concat([staged.rows.get_column(self.key), *self._rejected_keys(staged)])",
         "staged.rows.get_column(self.key)"),
    ),
    mutation(
        "returns-are-left-out", SECOND_TABLE, f"{CASES} -k return",
        (F, "    _insert(connection, new)\n", '    _insert(connection, new.filter(pl.col("table") == "fact_sales"))\n'),
    ),
    mutation(
        "each-fact-table-is-a-transaction-of-its-own", SECOND_TABLE, ONE_TRANSACTION,
        (F, '        name = f"{table}_{year}"\n', COMMIT.format("        ") + '        name = f"{table}_{year}"\n'),
    ),
    mutation(
        "lines-that-go-are-removed-in-a-transaction-of-their-own", "law 2: one transaction", ONE_TRANSACTION,
        (F, "    _insert(connection, new)\n", COMMIT.format("    ") + "    _insert(connection, new)\n"),
    ),
    mutation(
        "each-dimension-of-a-rebuild-is-a-transaction-of-its-own", "law 2: one transaction", ONE_TRANSACTION,
        (U, "    if not everything:\n        calendar.fit(",
         COMMIT.format("    ") + "    if not everything:\n        calendar.fit("),
    ),
    mutation(
        "effective-to-is-the-last-day", "versions are [effective_from, effective_to)", f"{CASES} -k update",
        (V, "effective_to=next_bound)", "effective_to=next_bound - pl.duration(days=1))"),
    ),
    mutation(
        "a-resurrection-with-the-same-values-joins-the-version-before", "a deletion leaves a gap",
        f"{CASES} -k 'resurrect or delete or deletion'",
        (V, '_starts=~pl.col("is_deleted") & (~follows | after_deletion | ~equal),',
         '_starts=~pl.col("is_deleted") & (~follows | ~equal),'),
        (V, "    daily = seen.filter(\"_last_of_day\")\n",
         '    for name in tracked:\n'
         '        told = pl.when(~pl.col("is_deleted")).then(pl.struct(pl.col(name).alias("value")))\n'
         '        seen = seen.with_columns(told.forward_fill().over(key).struct.field("value").alias(name))\n'
         "    daily = seen.filter(\"_last_of_day\")\n"),
    ),
    mutation(
        "type-1-columns-only-on-their-own-version", "type 1 on all versions", f"{CASES} -k type",
        (V, 'latest = pl.col(name).filter(~pl.col("is_deleted")).last().over(key)', "latest = pl.col(name)"),
    ),
    mutation(
        "a-deletion-empties-type-1-columns", "type 1 on all versions", f"{CASES} -k type",
        (V, 'latest = pl.col(name).filter(~pl.col("is_deleted")).last().over(key)',
         "latest = pl.col(name).last().over(key)"),
    ),
    mutation(
        "an-unknown-column-is-null", "unknown is not null", f"{CASES} -k column",
        (D, "return {name: days for name, days in lacking.items() if 0 < len(days) < len(told)}", "return {}"),
    ),
    mutation(
        "an-unknown-column-takes-the-fast-path", "unknown is not null", f"{CASES} -k column",
        (D, "return work.only_appends and bool(later) and one_mode and not unknown",
         "return work.only_appends and bool(later) and one_mode"),
    ),
    mutation(
        "an-unknown-column-is-filled-forward-only", "unknown is not null", f"{CASES} -k column",
        (V, "filled = told.forward_fill().backward_fill().over(key)", "filled = told.forward_fill().over(key)"),
    ),
    mutation(
        "re-keying-leaves-no-stale-marks", "law 6: marts follow", f"{PUBLISHED} -k in_place",
        (D, "    mark_stale(connection, stale, MARTS)\n", ""),
    ),
    mutation(
        "facts-leave-no-stale-marks", "law 6: marts follow", MARTS,
        (F, "    mark_stale(connection, date_keys, MARTS)\n", ""),
    ),
    mutation(
        "an-attribute-that-changes-in-place-leaves-no-stale-marks", "law 6: marts follow", MARTS,
        (R, "        dates.append(_dates_showing(connection, table, key))\n", ""),
    ),
    mutation(
        "a-publish-catches-nothing-up", "law 1: catch-up", f"{CASES} -k 'one_publish_of_everything and delivery'",
        (G, "return Work(asset, staged.table, stamps, published, changed, everything)",
         "return Work(asset, staged.table, stamps, published, changed if everything else changed[-1:], everything)"),
    ),
    mutation(
        "a-replaced-delivery-goes-unnoticed", "law 1: replaced deliveries", f"{CASES} -k formerly",
        (G, "if everything or day not in published or published[day].content != stamp.content",
         "if everything or day not in published"),
    ),
    mutation(
        "keys-that-a-replaced-delivery-drops-are-forgotten", "law 1: replaced deliveries", f"{CASES} -k formerly",
        (S, "        keys.append(read_file(path, [key]).to_series())\n", ""),
    ),
    mutation(
        "keys-that-a-replaced-full-delivery-lacked-are-forgotten", "law 1: replaced deliveries",
        f"{PUBLISHED} -k take_that_deliverys_place",
        (S, ' or stamp.content != entry.content or stamp.mode == "full":', " or stamp.content != entry.content:"),
    ),
    mutation(
        "staging-that-is-replaced-while-it-is-read-is-taken", "law 1: a function of what is staged",
        f"{PUBLISHED} -k while_it_is_read",
        (U, "        if staged.unchanged_since(lake, work):\n            break\n", "        break\n"),
    ),
    mutation(
        "an-empty-full-delivery-deletes", "full deliveries", f"{CASES} -k full",
        (D, 'if work.staged[day].mode == "full" and work.staged[day].rows_staged]',
         'if work.staged[day].mode == "full"]'),
    ),
    mutation(
        "only-the-first-absence-counts-among-changes", "full deliveries", f"{PUBLISHED} -k between_two_full",
        (V, "    if every:\n", "    if False:\n"),
    ),
    mutation(
        "a-key-that-is-only-rejected-is-known", "full deliveries", f"{CASES} -k 'full or streams or quarantined'",
        (V, 'present.filter("observed").group_by(key)', "present.group_by(key)"),
    ),
    mutation(
        "full-deliveries-keep-their-updated-at", "full deliveries", f"{STAGING} -k full",
        (Q, 'pl.col("_day_start") if window.source.mode == "full" else pl.coalesce("updated_at", "_day_start")',
         'pl.coalesce("updated_at", "_day_start")'),
    ),
    mutation(
        "the-guard-is-ignored", "the guard of full deliveries", GUARD,
        (A, "(self.guard.judge(staged) if self.guard else None)", "None"),
    ),
    mutation(
        "too-many-rejected-rows-are-taken", "law 3: nothing unchecked", f"{RAW} -k reject",
        (A, "share > self.source.reject_share and stamp.rows_quarantined >= self.source.reject_rows", "False"),
    ),
    mutation(
        "exact-copies-are-kept", "law 4: duplicates", STAGING,
        (Q, 'kept = raw if source.exact_copies == "keep" else without_exact_copies(raw)', "kept = raw"),
    ),
    mutation(
        "rows-may-get-lost", "law 4: nothing is lost", f"{PUBLISHED} -k balance",
        (U, "    refuse_imbalance(work, derived.classes)\n    if isinstance", "    if isinstance"),
    ),
    mutation(
        "before-its-first-version-a-member-is-unknown", "the pointing rule", f"{CASES} -k 'dimension and line'",
        (P, 'pl.when(first).then(pl.lit(BEFORE_ALL)).otherwise("effective_from").alias("_from")',
         'pl.col("effective_from").alias("_from")'),
    ),
    mutation(
        "lines-that-a-whole-order-dropped-stay", "unit: order", f"{CASES} -k whole",
        (L, '_alive=(last_of_line.fill_null(True) & (pl.col("_so_far") == pl.col("_events"))).any().over("_segment")',
         "_alive=pl.lit(True)"),
    ),
    mutation(
        "the-former-row-of-a-correction-stays", "corrections replace", f"{CASES} -k correct",
        (F, "    _remove(connection, dead)\n", ""),
    ),
    mutation(
        "versions-that-overlap-are-published", "no overlap", PUBLISHED,
        (D, "    _refuse_overlaps(connection, dimension, change)\n", ""),
    ),
    mutation(
        "lines-that-stand-twice-are-published", "one row a line", PUBLISHED,
        (F, "        _refuse_doubles(connection, new)\n", "        pass\n"),
    ),
    mutation(
        "versions-open-before-others-close", "close before opening", f"{PUBLISHED} -k hands_opened",
        (D, "for current in (False, True):", "for current in (True, False):"),
    ),
    mutation(
        "members-are-rewritten-as-they-are", "law 5: nothing for nothing", f"{PUBLISHED} -k rebuild",
        (D, "updated=joined.filter(wanted & found & differs)", "updated=joined.filter(wanted & found)"),
    ),
    mutation(
        "facts-are-rewritten-as-they-are", "law 5: nothing for nothing", f"{PUBLISHED} -k 'rebuild or untouched'",
        (F, "    replaced = differs.select(\n", "    differs = both\n    replaced = differs.select(\n"),
    ),
    mutation(
        "marts-are-rewritten-as-they-are", "law 5: nothing for nothing", MARTS,
        (M, "WHERE {same} AND {differs}", "WHERE {same}"),
    ),
    mutation(
        "verify-writes", "rebuild --verify", f"{PUBLISHED} -k rebuild",
        (U, "        connection.rollback()\n", "        connection.commit()\n"),
    ),
)  # fmt: skip


@contextmanager
def copied(where: Path) -> Iterator[Path]:
    """A copy of what the tests need, without anything compiled: a stale .pyc would hide a mutation."""
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, where / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, where / name)
    yield where


def mutated(text: str, edit: Edit) -> str:
    """`text` with the edit made; raises ValueError where its old text does not stand exactly once."""
    found = text.count(edit.old)
    if found != 1:
        raise ValueError(f"data_platform/{edit.file} has this {found} times, not once:\n{edit.old}")
    return text.replace(edit.old, edit.new)


@contextmanager
def applied(mutation: Mutation, copy: Path) -> Iterator[None]:
    """The mutation in the copy for the length of the block."""
    before: dict[Path, str] = {}
    try:
        for edit in mutation.edits:
            path = copy / "data_platform" / edit.file
            text = path.read_text(encoding="utf8")
            before.setdefault(path, text)
            path.write_text(mutated(text, edit), encoding="utf8")
        yield
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="utf8")


@dataclass(frozen=True)
class Outcome:
    """`caught_by`: the first test that failed; None: all passed. `broken`: why pytest did not get to judge."""

    caught_by: str | None
    broken: str = ""


def run_tests(copy: Path, server: str, arguments: Sequence[str]) -> Outcome:
    """Run tests of the copy until one fails, on the data_platform of the copy and no other."""
    told = copy / "caught_by.txt"
    told.unlink(missing_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))},
        "DAGSTER_HOME": str(copy),
        "DATA_PLATFORM_TEST_URL": server,
        CAUGHT_BY: str(told),
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=line", "--timeout=300",
               "-p", "no:cacheprovider", "-p", "data_platform_tests.proof.mutations", "--rootdir", str(copy),
               "--basetemp", str(copy / "tmp"), *arguments]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome(None, f"no end after {LIMIT_SECONDS} s")
    if done.returncode == 0:
        return Outcome(None)
    if done.returncode == 5:  # nothing collected: the expected place has other names by now
        return Outcome(None)
    if done.returncode == 1 and told.exists():
        return Outcome(told.read_text(encoding="utf8"))
    return Outcome(None, (done.stdout + done.stderr)[-2000:])


# What follows up to `main` is a plugin of pytest within the copy (-p data_platform_tests.proof.mutations).


def pytest_runtest_logreport(report: object) -> None:
    """Keep the name of the first test that fails."""
    place = os.environ.get(CAUGHT_BY)
    if place and getattr(report, "failed", False) and not Path(place).exists():
        Path(place).write_text(report.nodeid, encoding="utf8")  # type: ignore[attr-defined]


def pytest_sessionfinish() -> None:
    """Every module under test came from the copy: else the checkout was judged, and a mutation would survive."""
    if os.environ.get(CAUGHT_BY):
        for name, module in list(sys.modules.items()):
            place = getattr(module, "__file__", None)
            if name.split(".")[0] in ("data_platform", "data_platform_tests") and place:
                assert Path(place).resolve().is_relative_to(Path.cwd().resolve()), f"{name} is that of {place}"


@contextmanager
def server_of_ones_own(home: Path) -> Iterator[str]:
    """A Postgres for all runs, so that not each has to make one: DATA_PLATFORM_TEST_URL's, else an embedded one."""
    given = os.environ.get("DATA_PLATFORM_TEST_URL")
    if given:
        yield given
        return
    from data_platform import embedded_postgres_watcher as watcher
    from data_platform.embedded_postgres import ensure_server

    url = ensure_server(home).url("warehouse")
    try:
        yield url
    finally:
        watcher.stop(home / "postgres", home / "postgres" / "data")


def judge(mutation: Mutation, copy: Path, server: str, *, look_only: bool = False) -> Outcome:
    """Which test catches the mutation: looked for where it should be, then everywhere."""
    try:
        with applied(mutation, copy):
            outcome = run_tests(copy, server, shlex.split(mutation.look))
            if outcome.caught_by or outcome.broken or look_only:
                return outcome
            return run_tests(copy, server, LAWS)
    except ValueError as error:
        return Outcome(None, f"it does not apply: {error}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutations and print the table."""
    parser = argparse.ArgumentParser(prog="python -m data_platform_tests.proof.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations; none: all")
    parser.add_argument("--list", action="store_true", help="name the mutations and end")
    parser.add_argument("--skip-unmutated", action="store_true", help="do not run the unmutated copy before")
    parser.add_argument("--look-only", action="store_true", help="look no further than where the catch is expected")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.names) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}; --list names them")
    mutations = [mutation for mutation in MUTATIONS if not chosen.names or mutation.name in chosen.names]
    if chosen.list:
        for mutation in mutations:
            print(f"{mutation.name}: {mutation.breaks}")
        return 0
    # A check that is stopped leaves no server and no copy behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bad = []
    with (
        tempfile.TemporaryDirectory(prefix="mutations-", ignore_cleanup_errors=True) as folder,
        server_of_ones_own(Path(folder) / "home") as server,
        copied(Path(folder) / "copy") as copy,
    ):
        if not chosen.skip_unmutated:
            outcome = run_tests(copy, server, LAWS)
            if outcome.caught_by or outcome.broken:
                print(f"The unmutated copy fails: {outcome.caught_by or outcome.broken}")
                return 1
            print("The unmutated copy passes.", flush=True)
        for mutation in mutations:
            start = time.monotonic()
            outcome = judge(mutation, copy, server, look_only=chosen.look_only)
            seconds = time.monotonic() - start
            verdict = outcome.caught_by or (f"BROKEN: {outcome.broken}" if outcome.broken else "SURVIVED")
            if not outcome.caught_by:
                bad.append(mutation.name)
            print(f"{seconds:5.0f} s | {mutation.breaks} | {mutation.name} | {verdict}", flush=True)
    not_caught = f"; not: {', '.join(bad)}" if bad else ""
    print(f"{len(mutations)} mutations, {len(mutations) - len(bad)} caught{not_caught}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
