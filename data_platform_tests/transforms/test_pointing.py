"""The pointing rule: which version a fact points at."""

from datetime import date

import polars as pl
import pytest

from data_platform.transforms.pointing import point

VERSIONS = pl.DataFrame(
    {
        "id": ["a", "a", "b"],
        "effective_from": [date(2024, 1, 10), date(2024, 1, 20), date(1, 1, 1)],
        "key": [1, 2, 3],
    }
)


@pytest.mark.parametrize(
    ("identifier", "day", "key"),
    [
        ("a", date(2024, 1, 9), 1),
        ("a", date(1, 1, 1), 1),
        ("a", date(2024, 1, 10), 1),
        ("a", date(2024, 1, 19), 1),
        ("a", date(2024, 1, 20), 2),
        ("a", date(2999, 1, 1), 2),
        ("b", date(2024, 1, 1), 3),
        ("c", date(2024, 1, 1), None),
        (None, date(2024, 1, 1), None),
    ],
)
def test_a_fact_points_at_the_last_version_that_starts_on_or_before_its_date_else_at_the_first(
    identifier: str | None, day: date, key: int | None
) -> None:
    facts = pl.DataFrame({"id": [identifier], "_order_date": [day]}, schema={"id": pl.String, "_order_date": pl.Date})
    assert point(facts, VERSIONS, key="id").get_column("key").to_list() == [key]


def test_facts_keep_their_order_and_their_columns() -> None:
    facts = pl.DataFrame({"id": ["b", "a"], "_order_date": [date(2024, 2, 1), date(2024, 1, 1)], "more": [1, 2]})
    pointed = point(facts, VERSIONS, key="id")
    assert pointed.columns == ["id", "_order_date", "more", "key"]
    assert pointed.get_column("key").to_list() == [3, 1]


def test_no_facts_and_no_versions_give_what_they_must() -> None:
    facts = pl.DataFrame({"id": ["a"], "_order_date": [date(2024, 1, 1)]})
    assert point(facts.clear(), VERSIONS, key="id").is_empty()
    assert point(facts, VERSIONS.clear(), key="id").get_column("key").to_list() == [None]
