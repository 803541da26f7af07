"""What is proposed for a delivered column that a contract lacks."""

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from data_platform.contracts import STAGED
from data_platform.contracts.proposal import Proposal, proposals
from data_platform.sources.config import Source
from data_platform.transforms.staging import delivered_columns


def proposed(raw: pl.DataFrame, **source: Any) -> list[Proposal]:
    contract = STAGED["customers"]
    settings = Source.model_validate({"entity": "customers", **source})
    return proposals(raw, settings, contract, delivered_columns(contract))


@pytest.mark.parametrize(
    ("values", "kind", "sql"),
    [
        (["1", " 2 ", None, ""], "Int", "integer"),
        (["1", "-3000000000"], "BigInt", "bigint"),
        (["1", "2.50"], "Money", "numeric(18,4)"),
        (["0.5", "0"], "Money", "numeric(18,4)"),
        (["1.23456"], "str", "text"),
        (["007", "12"], "str", "text"),
        (["yes", "No", None], "bool", "boolean"),
        (["yes", "maybe"], "str", "text"),
        (["1", "0"], "Int", "integer"),
        (["2024-01-05", "2023-12-31"], "datetime.date", "date"),
        (["2024-01-05", "2023-12-31T10:00:00Z"], "Instant", "timestamptz"),
        (["2024-01-05", "soon"], "str", "text"),
        ([None, " "], "str", "text"),
        ([1, 2], "Int", "integer"),
        ([1.5, 2.0], "Money", "numeric(18,4)"),
        ([True, None], "bool", "boolean"),
        ([date(2024, 1, 5)], "datetime.date", "date"),
        ([datetime(2024, 1, 5, 10)], "Instant", "timestamptz"),
    ],
)
def test_the_narrowest_type_that_takes_all_values(values: list[Any], kind: str, sql: str) -> None:
    [found] = proposed(pl.DataFrame({"customer_id": ["c"] * len(values), "more": values}, strict=False))
    assert (found.type, found.line) == (kind, f'    more: {kind} = column("…")')
    assert found.migration("dim_customer") == f'ALTER TABLE warehouse.dim_customer ADD COLUMN "more" {sql};'


@pytest.mark.parametrize(
    ("delivered", "name"),
    [("LoyaltyPoints", "loyalty_points"), ("Größe in cm", "gr_e_in_cm"), ("2nd phone", "column_2nd_phone"),
     ("e-mail 2", "e_mail_2"), ("country!", "country_2"), ("###", "column"), ("class", "class_")],
)  # fmt: skip
def test_a_name_that_python_and_postgres_take(delivered: str, name: str) -> None:
    [found] = proposed(pl.DataFrame({"customer_id": ["c"], "country": ["DE"], delivered: ["x"]}))
    assert (found.delivered, found.name) == (delivered, name)


def test_nothing_is_proposed_for_what_has_a_place_or_is_ignored() -> None:
    raw = pl.DataFrame({"customer_id": ["c"], "Land": ["DE"], "note": ["x"], "_file": ["f"], "_row": [1]})
    mapped = {"columns": {"country": "Land"}}
    assert [one.name for one in proposed(raw, **mapped)] == ["note"]
    assert proposed(raw, **mapped, ignore=["note"]) == []


def test_a_header_that_is_a_row_of_values_shows_no_address() -> None:
    [found] = proposed(pl.DataFrame({"customer_id": ["c"], "ada@example.org": ["x"]}))
    assert "ada" not in f"{found.delivered} {found.line} {found.migration('dim_customer')}"
