"""Rules that Postgres judges after a publish: asked, told to Dagster, remembered by partition."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
import psycopg

from data_platform.contracts.contract import Contract
from data_platform.quality.checks import result
from data_platform.quality.history import CheckRecord
from data_platform.quality.recording import NO_ROW, rows_record

LONGEST_SECONDS = 30


@dataclass(frozen=True)
class Answer:
    """What a query said: per partition the rows judged and those that fail; or why it could not be asked."""

    partitions: Sequence[tuple[date, int, int]] = ()
    error: str = ""


def ask(connection: psycopg.Connection, contract: Contract, days: Sequence[date]) -> dict[str, Answer]:
    """The answers to the contract's queries about the partitions `days`, by rule; one that fails stops no other.

    None takes longer than LONGEST_SECONDS. Raises psycopg.OperationalError where the connection is of no more use.
    """
    answers = {}
    for rule in contract.queries:
        try:
            # Rolled back, the limit is gone with whatever else the query set.
            with connection.transaction(force_rollback=True):
                connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{LONGEST_SECONDS}s"])
                answers[rule.name] = _answer(connection.execute(rule.query, {"days": list(days)}).fetchall())
        except psycopg.errors.QueryCanceled:
            answers[rule.name] = Answer(error=f"the query took longer than {LONGEST_SECONDS} seconds or was cancelled")
        except (psycopg.Error, ValueError, TypeError) as error:
            if isinstance(error, psycopg.OperationalError):
                raise
            # Of Postgres' errors only those about syntax and names are sure to quote no row.
            said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
            named = isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("42")
            answers[rule.name] = Answer(
                error=f"the query raised {type(error).__name__}" + (f": {said}" if named else "")
            )
    return answers


def _answer(rows: Sequence[tuple[Any, ...]]) -> Answer:
    counts = [(day, judged, failed) for day, judged, failed in rows]
    for day, judged, failed in counts:
        if type(day) is not date or type(judged) is not int or type(failed) is not int or not 0 <= failed <= judged:
            return Answer(
                error="the query must return a date, the rows judged and how many of them fail, both as whole numbers "
                "(cast a sum to bigint) and none null"
            )
    return Answer(counts)


def query_results(contract: Contract, answers: Mapping[str, Answer]) -> Iterator[dg.AssetCheckResult]:
    """The results of the contract's queries."""
    for rule in contract.queries:
        answer = answers[rule.name]
        yield result(
            contract.table,
            rule.name,
            severity=rule.severity,
            failed=sum(failed for _, _, failed in answer.partitions),
            judged=sum(judged for _, judged, _ in answer.partitions),
            days=[day for day, _, failed in answer.partitions if failed],
            threshold=NO_ROW,
            unjudged=answer.error,
        )


def query_records(contract: Contract, answers: Mapping[str, Answer]) -> Iterator[CheckRecord]:
    """The same to be remembered: a record each partition, one without any where the query raised."""
    for rule in contract.queries:
        answer = answers[rule.name]
        if answer.error:
            yield CheckRecord(contract.table, rule.name, rule.severity, False, threshold=NO_ROW, note=answer.error)
        for day, judged, failed in answer.partitions:
            yield rows_record(contract.table, rule.name, rule.severity, failed=failed, judged=judged, day=day)
