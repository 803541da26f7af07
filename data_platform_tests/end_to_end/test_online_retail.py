"""A year of real sales, from landing files to marts by Dagster's own command, against figures computed apart."""

import csv
import html
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from data_platform.datasets.online_retail import import_online_retail
from data_platform_tests.conftest import throw_away

REPOSITORY = Path(__file__).resolve().parents[2]
# The data is no part of the repository: it lies beside the clone, or where the variable says.
DATA = Path(os.environ.get("DATA_PLATFORM_TEST_DATA") or REPOSITORY.parent / "shared" / "data") / "online_retail"
OURS = ("DATA_PLATFORM_", "DAGSTER_")
YEAR = ("2010-12-01", "2011-12-09")
MONTH = ("2011-03-01", "2011-03-31")

pytestmark = [
    pytest.mark.skipif(not DATA.exists(), reason=f"the Online Retail data is not at {DATA}"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("online_retail")
    with tarfile.open(DATA / "by_day.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    import_online_retail(folder, folder / "landing")
    return folder / "landing"


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return json.loads((DATA / "expected.json").read_text())


class Shop:
    """A platform of its own: a warehouse, a database for Dagster, a home; commands run in processes of their own."""

    def __init__(self, warehouse: str, dagster: str, home: Path, landing: Path) -> None:
        self.warehouse = warehouse
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
            "DAGSTER_HOME": str(REPOSITORY),
            "DATA_PLATFORM_HOME": str(home),
            "DATA_PLATFORM_LANDING_URL": str(landing),
            "DATA_PLATFORM_WAREHOUSE_URL": warehouse,
            "DATA_PLATFORM_DAGSTER_URL": dagster,
            "DATA_PLATFORM_START_DATE": YEAR[0],
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, env=self.environment, cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done

    def range(self, first: str, last: str) -> None:
        """One run over all days, by Dagster's own command."""
        span = f"{first}...{last}"
        module = ("-m", "data_platform.definitions")
        self.run("dagster", "asset", "materialize", *module, "--select", "*", "--partition-range", span)

    def days(self, first: str, last: str) -> None:
        """A run a day."""
        self.run("data_platform_tests.end_to_end.materialize_days", first, last)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.warehouse) as connection:
            return connection.execute(statement).fetchall()

    def versions_of_rows(self) -> dict[str, tuple[Any, ...]]:
        """Per table of warehouse and marts a digest of its rows' places and transactions: equal if none was written."""
        found = {}
        with psycopg.connect(self.warehouse) as connection:
            tables = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('warehouse', 'marts') ORDER BY 1, 2"
            ).fetchall()
            for schema, table in tables:
                digest = sql.SQL(
                    "SELECT count(*), md5(string_agg(concat_ws(' ', ctid, xmin, xmax), ',' ORDER BY ctid)) FROM ONLY {}"
                ).format(sql.Identifier(schema, table))
                found[table] = connection.execute(digest).fetchone() or ()
        return found

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that the star and the marts say, with versions named by their ids instead of surrogate keys."""
        line = "order_id, line_number, date_key, order_ts, quantity, f.unit_price, discount_amount, total_amount"
        members = "c.customer_id, c.effective_from, p.product_id, p.effective_from"
        versions = "effective_from, effective_to, is_current, is_inferred"

        def facts(table: str) -> str:
            return (
                f"SELECT {line}, profit, delivered_on, updated_at, {members} FROM warehouse.{table} AS f"
                " JOIN warehouse.dim_customer AS c USING (customer_key)"
                " JOIN warehouse.dim_product AS p USING (product_key) ORDER BY 1, 2"
            )

        statements = {
            "customers": "SELECT customer_id, email, first_name, last_name, segment, country, created_date,"
            f" {versions} FROM warehouse.dim_customer ORDER BY 1, 8",
            "products": "SELECT product_id, product_name, category, subcategory, brand, unit_price, cost,"
            f" {versions} FROM warehouse.dim_product ORDER BY 1, 8",
            "dates": "SELECT * FROM warehouse.dim_date ORDER BY date_key",
            "sales": facts("fact_sales"),
            "returns": facts("fact_returns"),
            "daily": "SELECT * FROM marts.mart_daily_sales ORDER BY 1",
            "performance": "SELECT * FROM marts.mart_product_performance ORDER BY 1, 2",
            "value": "SELECT * FROM marts.mart_customer_value ORDER BY 1",
        }
        return {name: self.query(statement) for name, statement in statements.items()}


@pytest.fixture(scope="module")
def new_shop(server: str, template: str, landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        def make() -> Shop:
            warehouse = stack.enter_context(throw_away(server))
            dagster = stack.enter_context(throw_away(server))
            return Shop(warehouse, dagster, tmp_path_factory.mktemp("home"), landing)

        yield make


@pytest.fixture(scope="module")
def year(new_shop: Any) -> Shop:
    shop: Shop = new_shop()
    shop.range(*YEAR)
    return shop


def test_the_year_has_the_expected_rows_by_class(year: Shop, expected: dict[str, Any]) -> None:
    figures = year.query(
        "SELECT sum(rows_delivered), sum(rows_duplicate), sum(rows_quarantined), sum(returns), sum(sales),"
        " sum(tombstones), sum(superseded) FROM platform.load_ledger WHERE asset = 'fact_sales'"
    )[0]
    by_class = expected["by_class"]
    classes = ("duplicate", "quarantined", "return", "sale")
    assert [int(figure) for figure in figures] == [expected["rows_read"], *(by_class[name] for name in classes), 0, 0]
    delivered = "SELECT count(*) FROM platform.load_ledger WHERE asset = 'fact_sales' AND rows_delivered > 0"
    assert year.query(delivered) == [(expected["deliveries"],)]


def test_the_year_has_the_expected_sales_by_month(year: Shop, expected: dict[str, Any]) -> None:
    months = year.query(
        "SELECT to_char(order_ts, 'YYYY-MM'), count(*), count(DISTINCT order_id), sum(quantity), sum(total_amount)"
        " FROM warehouse.fact_sales GROUP BY 1 ORDER BY 1"
    )
    assert months == [
        (month["month"], month["lines"], month["orders"], month["quantity"], Decimal(month["total_amount"]))
        for month in expected["sales_by_month"]
    ]
    sums = "sum(lines), sum(quantity), sum(sales), -sum(returned_quantity), -sum(returns)"
    sales, returns = expected["sales"], expected["returns"]
    assert year.query(f"SELECT {sums} FROM marts.mart_daily_sales") == [
        (int(sales["lines"]), int(sales["quantity"]), Decimal(sales["total_amount"]),
         -int(returns["quantity"]), -Decimal(returns["total_amount"]))
    ]  # fmt: skip


def test_the_year_has_the_expected_members_and_versions(year: Shop, expected: dict[str, Any]) -> None:
    counts = "SELECT count(DISTINCT {0}_id), count(*) FROM warehouse.dim_{0} WHERE {0}_key <> -1 AND NOT is_inferred"
    products, customers = expected["products"], expected["customers"]
    assert year.query(counts.format("product")) == [(products["products"], products["versions"])]
    assert year.query(counts.format("customer")) == [(customers["customers"], customers["versions"])]
    observed = "SELECT sum(rows_staged) FROM platform.load_ledger WHERE asset = 'dim_{}'"
    assert year.query(observed.format("product")) == [(products["observations"],)]
    assert year.query(observed.format("customer")) == [(customers["observations"],)]
    changes = (
        "SELECT count(*) FILTER (WHERE product_name IS DISTINCT FROM before_name),"
        " count(*) FILTER (WHERE unit_price IS DISTINCT FROM before_price) FROM (SELECT product_name, unit_price,"
        " lag(product_name) OVER w AS before_name, lag(unit_price) OVER w AS before_price, row_number() OVER w AS n"
        " FROM warehouse.dim_product WHERE product_key <> -1 AND NOT is_inferred"
        " WINDOW w AS (PARTITION BY product_id ORDER BY effective_from)) AS versions WHERE n > 1"
    )
    assert year.query(changes) == [(products["name_changes"], products["price_changes"])]


def test_facts_point_at_known_members(year: Shop, expected: dict[str, Any]) -> None:
    sales = expected["sales"]
    found = year.query(
        "SELECT count(*) FILTER (WHERE customer_key = -1), count(DISTINCT c.customer_id), count(DISTINCT p.product_id)"
        " FROM warehouse.fact_sales JOIN warehouse.dim_customer AS c USING (customer_key)"
        " JOIN warehouse.dim_product AS p USING (product_key)"
    )
    assert found == [(int(sales["lines_without_customer"]), int(sales["customers"]), int(sales["products"]))]


# What the checks and the report say, against figures that are counted here, from the files, without the platform


@pytest.fixture(scope="module")
def counted(landing: Path) -> dict[str, Any]:
    """Figures of the order lines without exact copies."""
    figures: dict[str, Any] = dict.fromkeys(("copies", "unnamed", "free", "huge", "negative"), 0)
    days = []
    for path in sorted((landing / "orders").glob("*.csv")):
        with path.open(encoding="utf8", newline="") as file:
            rows = [tuple(value.strip() for value in row.values()) for row in csv.DictReader(file)]
            names = list(csv.DictReader(path.open(encoding="utf8", newline="")).fieldnames or [])
        unique = [dict(zip(names, row, strict=True)) for row in dict.fromkeys(rows)]
        days.append(date.fromisoformat(path.stem))
        figures["copies"] += len(rows) - len(unique)
        figures["unnamed"] += sum(not row["customer_id"] for row in unique)
        figures["free"] += sum(Decimal(row["unit_price"]) <= 0 for row in unique)
        figures["negative"] += sum(Decimal(row["unit_price"]) < 0 for row in unique)
        figures["huge"] += sum(abs(int(row["quantity"])) > 10_000 for row in unique)
    calendar = {min(days) + timedelta(days=n) for n in range((max(days) - min(days)).days + 1)}
    figures["silent"] = sorted(calendar - set(days))
    return figures


def test_the_history_of_checks_has_what_the_files_have(year: Shop, counted: dict[str, Any]) -> None:
    found = dict(
        year.query(
            "SELECT rule, sum(rows_failed)::int FROM (SELECT DISTINCT ON (rule, partition_date) rule, rows_failed"
            " FROM platform.check_results WHERE asset = 'stg_orders' ORDER BY rule, partition_date, result_id DESC)"
            " AS newest GROUP BY rule"
        )
    )
    assert found["customer_is_named"] == counted["unnamed"]
    assert found["unit_price_above_zero"] == counted["free"]
    assert found["unit_price_not_negative"] == counted["negative"]
    assert found["quantity_in_range"] == counted["huge"]
    [(judged,)] = year.query(
        "SELECT sum(rows_judged)::int FROM platform.check_results WHERE asset = 'stg_orders'"
        " AND rule = 'customer_is_named' AND run_id = (SELECT min(run_id) FROM platform.check_results)"
    )
    assert judged == sum(rows for (rows,) in year.query("SELECT rows_delivered - rows_duplicate FROM"
                         " platform.load_ledger WHERE asset = 'fact_sales'"))  # fmt: skip


def test_the_report_tells_what_is_wrong_with_the_year(
    year: Shop, counted: dict[str, Any], expected: dict[str, Any]
) -> None:
    page = (Path(year.environment["DATA_PLATFORM_HOME"]) / "reports" / "quality.html").read_text(encoding="utf8")
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    by_class = expected["by_class"]
    assert counted["copies"] == by_class["duplicate"]
    for figure in (expected["rows_read"], *by_class.values(), counted["unnamed"], counted["free"]):
        assert f"{figure:,}" in text
    share = 100 * counted["unnamed"] / (expected["rows_read"] - counted["copies"])
    assert f"{counted['unnamed']:,} of {expected['rows_read'] - counted['copies']:,} rows ({share:.1f} %)" in text
    saturdays = [day for day in counted["silent"] if day.weekday() == 5]
    assert f"every Saturday ({len(saturdays)}) and {len(counted['silent']) - len(saturdays)} other days" in text
    assert "quantity reaches 80,995 on 2011-12-09" in text
    assert not re.search(r"<script|(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//", page)


def test_the_year_again_writes_nothing(year: Shop) -> None:
    before = year.versions_of_rows()
    year.range(*YEAR)
    assert year.versions_of_rows() == before


def test_single_days_give_what_a_range_gives(new_shop: Any) -> None:
    by_range, by_day = new_shop(), new_shop()
    by_range.range(*MONTH)
    by_day.days(*MONTH)
    expected, found = by_range.content(), by_day.content()
    for table, rows in expected.items():
        assert rows, table
        assert found[table] == rows, table
    before = by_day.versions_of_rows()
    by_day.range(*MONTH)
    assert by_day.versions_of_rows() == before
