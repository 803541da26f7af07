"""`data-platform rebuild --verify` as people and scripts read it: which rows differ, and in what."""

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from data_platform.cli import app
from data_platform.lake import Lake
from data_platform.settings import settings
from data_platform.warehouse.calendar import staged_days
from data_platform.warehouse.publish import publish, publish_calendar
from data_platform_tests.cases import customer, day, delivered, line, lines, product
from data_platform_tests.warehouse import harness


@pytest.fixture
def connection(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """A published shop, which the commands of this test are told of."""
    lake = Lake(tmp_path / "lake")
    for delivery in (
        delivered("customers", 1, customer("c1", email="one@example.org"), customer("c2")),
        delivered("products", 1, product("p1", cost="6")),
        lines(2, *(line(f"o{number:02}", 1) for number in range(30)), line("r1", 1, quantity=-1)),
    ):
        harness.stage(lake, delivery)
    for asset in harness.ASSETS.values():
        publish(warehouse_url, lake, asset, run_id="run", timezone="UTC")
    publish_calendar(warehouse_url, staged_days(lake), day(1))
    for name, value in {"HOME": tmp_path, "WAREHOUSE_URL": warehouse_url, "LAKE_URL": tmp_path / "lake"}.items():
        monkeypatch.setenv(f"DATA_PLATFORM_{name}", str(value))
    monkeypatch.setenv("DATA_PLATFORM_START_DATE", "2024-01-01")
    settings.cache_clear()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with warnings.catch_warnings(), psycopg.connect(warehouse_url, autocommit=True) as connection:
        yield connection
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def verify(*options: str) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, ["rebuild", "--verify", *options], prog_name="data-platform")


def test_tables_that_are_what_staging_gives_are_said_to_be_so(connection: psycopg.Connection) -> None:
    done = verify()
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "The tables are what staging gives."
    answer = json.loads(verify("--json").stdout)
    assert not answer["differs"]
    assert [(one["table"], one["examples"]) for one in answer["differences"]] == [
        ("dim_customer", []),
        ("dim_product", []),
        ("fact_sales", []),
        ("fact_returns", []),
        ("dim_date", []),
    ]


def test_each_row_that_differs_is_named_with_its_columns_and_without_their_values(
    connection: psycopg.Connection,
) -> None:
    connection.execute("UPDATE warehouse.dim_customer SET email = 'me@example.org', segment = 'x' WHERE email <> ''")
    connection.execute("DELETE FROM warehouse.fact_sales")
    connection.execute("UPDATE warehouse.fact_returns SET line_number = 2")
    done = verify()
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        "The tables differ from what staging gives: `data-platform rebuild` brings them to it."
    )
    said = done.stdout.splitlines()
    assert "dim_customer: customer_id c1, effective_from 2024-01-01: differs in email, segment" in said
    assert "example.org" not in done.output
    assert "fact_sales: order_id o00, line_number 1: missing" in said
    assert "fact_sales: order_id o09, line_number 1: missing" in said
    assert "fact_sales: and 20 more: missing" in said
    assert "fact_returns: order_id r1, line_number 1: missing" in said
    assert "fact_returns: order_id r1, line_number 2: too many" in said
    counts = {
        cells[0]: cells[1:] for cells in ([cell.strip() for cell in row.split("│")[1:-1]] for row in said) if cells
    }
    assert counts["dim_customer"] == ["0", "1", "0"]
    assert counts["fact_sales"] == ["30", "0", "0"]
    assert counts["fact_returns"] == ["1", "0", "1"]

    answer = json.loads(verify("--json").stdout)
    assert answer["differs"]
    assert answer["differences"][0] == {
        "table": "dim_customer",
        "inserted": 0,
        "updated": 1,
        "deleted": 0,
        "examples": [
            {
                "change": "updated",
                "key": {"customer_id": "c1", "effective_from": "2024-01-01"},
                "columns": ["email", "segment"],
            }
        ],
    }
    assert connection.execute("SELECT count(*) FROM warehouse.fact_sales").fetchone() == (0,), "nothing is written"
