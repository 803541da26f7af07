"""Rules that Postgres judges: an answer that is none is told as an error, and what takes too long is stopped."""

from dataclasses import replace
from datetime import date

import psycopg
import pytest

from data_platform.contracts import WAREHOUSE
from data_platform.contracts.contract import Contract
from data_platform.contracts.rules import WarehouseQuery
from data_platform.quality import queries
from data_platform.quality.queries import LONGEST_SECONDS, Answer, ask, query_records, query_results
from data_platform.warehouse.audits import snapshot

DAY = date(2024, 1, 5)
SECRET = "ada.lovelace@example.com"


def contract(*statements: str) -> Contract:
    asked = tuple(WarehouseQuery(f"rule_{n}", "warning", "A rule.", text) for n, text in enumerate(statements, 1))
    return replace(WAREHOUSE["fact_sales"], queries=asked)


def answers(url: str, *statements: str) -> list[Answer]:
    with snapshot(url) as connection:
        return list(ask(connection, contract(*statements), [DAY]).values())


def test_an_answer_is_by_partition(warehouse_url: str) -> None:
    found = answers(warehouse_url, "SELECT unnest(%(days)s), 5, 2", "SELECT %(days)s, 1, 1 WHERE false")
    assert found == [Answer([(DAY, 5, 2)]), Answer([])]


@pytest.mark.parametrize(
    "row",
    [
        "NULL::date, 1, 0",
        "DATE '2024-01-05', NULL::int, 0",
        "DATE '2024-01-05', 1, NULL::int",
        "TIMESTAMP '2024-01-05', 1, 0",
        f"'{SECRET}', 1, 0",
        "DATE '2024-01-05', 2.7, 0",
        "DATE '2024-01-05', 1, true",
        "DATE '2024-01-05', 1, 2",
        "DATE '2024-01-05', 1, -1",
        "DATE '2024-01-05', 'NaN'::float8, 0",
    ],
)
def test_an_answer_of_another_kind_is_an_error_and_others_are_asked(row: str, warehouse_url: str) -> None:
    odd, good = answers(warehouse_url, f"SELECT {row}", "SELECT unnest(%(days)s), 1, 1")
    assert odd.error.startswith("the query must return a date, the rows judged and how many of them fail")
    assert odd.partitions == ()
    assert good == Answer([(DAY, 1, 1)])
    asked = contract("SELECT", "SELECT")
    told = {"rule_1": odd, "rule_2": good}
    [result, _] = query_results(asked, told)
    assert not result.passed
    assert [(one.rule, one.passed, one.partition_date) for one in query_records(asked, told)] == [
        ("rule_1", False, None), ("rule_2", False, DAY)
    ]  # fmt: skip
    assert SECRET not in repr(told) + repr(result)


def test_a_query_that_takes_too_long_is_stopped_and_the_others_are_asked(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "LONGEST_SECONDS", 1)
    slow, good = answers(
        warehouse_url, "SELECT d, 1, 1 FROM unnest(%(days)s) AS d, pg_sleep(20)", "SELECT unnest(%(days)s), 1, 1"
    )
    assert slow == Answer(error="the query took longer than 1 seconds or was cancelled")
    assert good == Answer([(DAY, 1, 1)])


def test_the_limit_of_a_query_is_none_of_what_is_asked_later(warehouse_url: str) -> None:
    with snapshot(warehouse_url) as connection:
        before = connection.execute("SHOW statement_timeout").fetchone()
        ask(connection, contract("SELECT unnest(%(days)s), 1, 1"), [DAY])
        assert connection.execute("SHOW statement_timeout").fetchone() == before != (f"{LONGEST_SECONDS}s",)


def test_a_connection_that_is_gone_is_no_answer(warehouse_url: str) -> None:
    with psycopg.connect(warehouse_url) as connection, pytest.raises(psycopg.OperationalError):
        ask(connection, contract("SELECT unnest(%(days)s), 1, pg_terminate_backend(pg_backend_pid())::int"), [DAY])
