"""Row accounting and audits as checks of a run: figures in a table, and what is said where something was lost."""

import shutil
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import polars as pl
import pytest

from data_platform.definitions import build_defs
from data_platform.errors import DatabaseUnavailable
from data_platform.lake import FOOTER_KEY
from data_platform.quality.balances import Account
from data_platform.quality.checks import table_of
from data_platform.sources.landing import read_delivery
from data_platform.warehouse.audits import DIMENSION_AUDITS, FACT_AUDITS
from data_platform_tests.conftest import throw_away
from data_platform_tests.shop import DAY, Shop, checks, customer, failures, line, open_shop, product

NEXT = "2024-01-06"
HOPS = [f"{layer}_{entity}" for layer in ("raw", "stg") for entity in ("orders", "products", "customers")]
HOPS += ["dim_customer", "dim_product", "fact_sales", "fact_returns"]
HOPS += ["mart_daily_sales", "mart_product_performance", "mart_customer_value"]
AUDITED = {
    "dim_customer": 5,
    "dim_product": 5,
    "fact_sales": 4,
    "fact_returns": 4,
}


@pytest.fixture(scope="module")
def first_run(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with throw_away(server, template) as url, open_shop(tmp_path_factory.mktemp("home"), url) as shop:
        shop.deliver("products", product())
        shop.deliver("customers", customer(email="ada@secret.example"))
        shop.deliver("orders", line("o1"), line("o1"), line("o2", quantity="many"), line("r1", quantity=-1))
        shop.deliver("orders", line("o3", day=NEXT), line("o4", status="cancelled"), day=NEXT)
        result = shop.run(None, DAY, NEXT)
        assert result.success, failures(result)
        (shop.home / "run_id").write_text(result.run_id)
        yield shop


@pytest.fixture
def shop(first_run: Shop, server: str, tmp_path: Path) -> Iterator[Shop]:
    shutil.copytree(first_run.home, tmp_path, dirs_exist_ok=True)
    with throw_away(server, urlsplit(first_run.warehouse).path[1:]) as url, open_shop(tmp_path, url) as shop:
        yield shop


def evaluations(shop: Shop) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    """The checks of the first run as the instance, and so the UI, has them."""
    logs = shop.instance.all_logs(
        (shop.home / "run_id").read_text(), of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    found = [log.dagster_event.asset_check_evaluation_data for log in logs if log.dagster_event]
    return {(check.asset_key.path[-1], check.check_name): check for check in found}


def table(check: dg.AssetCheckEvaluation) -> list[dict[str, Any]]:
    figures = check.metadata["figures"]
    assert isinstance(figures, dg.TableMetadataValue)
    names = [column.name for column in figures.schema.columns]
    assert all(set(record.data) == set(names) for record in figures.records)
    return [{name: record.data[name] for name in names} for record in figures.records]


def failing(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], str]:
    assert result.success, failures(result)
    return {key: check.description or "" for key, check in checks(result).items() if not check.passed}


def column(rows: list[dict[str, Any]], *names: str) -> list[list[Any]]:
    return [[row[name] for name in names] for row in rows]


# A sound run


def test_every_hop_has_its_balance_and_its_table(first_run: Shop) -> None:
    found = evaluations(first_run)
    for hop in HOPS:
        check = found[hop, "rows_balance"]
        assert check.passed, check.description
        assert check.severity == dg.AssetCheckSeverity.ERROR
        rows = table(check)
        assert next(iter(rows[-1].values())) == "total"
        assert [row["balances"] for row in rows] == ["yes"] * len(rows)


def test_the_figures_of_each_hop(first_run: Shop) -> None:
    found = evaluations(first_run)
    landed, staged, facts = (table(found[name, "rows_balance"]) for name in ("raw_orders", "stg_orders", "fact_sales"))
    assert column(landed, "day", "files", "in_files", "read", "in_raw") == [
        [DAY, 1, 4, 4, 4],
        [NEXT, 1, 2, 2, 2],
        ["total", 2, 6, 6, 6],
    ]
    assert landed[0]["bytes"] == first_run.landing("orders").stat().st_size
    assert column(staged, "day", "in_raw", "delivered", "staged", "quarantined", "duplicate", "quantity") == [
        [DAY, 4, 4, 2, 1, 1, "1"],
        [NEXT, 2, 2, 2, 0, 0, "4"],
        ["total", 6, 6, 4, 1, 1, "5"],
    ]
    assert column(facts, "sale", "return", "tombstone", "superseded", "total_amount") == [
        [1, 1, 0, 0, "10.0000"],
        [1, 0, 1, 0, "40.0000"],
        [2, 1, 1, 0, "50.0000"],
    ]
    assert column(table(found["mart_daily_sales", "rows_balance"]), "day", "facts_lines", "mart_lines") == [
        [DAY, 2, 2],
        [NEXT, 1, 1],
        ["total", 3, 3],
    ]
    assert found["stg_orders", "rows_balance"].description == "6 delivered = 4 staged + 1 quarantined + 1 duplicate"
    assert found["raw_orders", "rows_balance"].description == "6 rows of 2 files are in raw."


def test_every_audit_of_every_published_table_is_a_check_that_passed(first_run: Shop) -> None:
    audits = {key: check for key, check in evaluations(first_run).items() if key[0] in AUDITED}
    names = ("one_", "no_overlap", "gaps_", "inferred_", "facts_point", "profit_f", "lines_stand")
    audits = {key: check for key, check in audits.items() if key[1].startswith(names)}
    assert {name: sum(table == name for table, _ in audits) for name in AUDITED} == AUDITED
    assert all(check.passed and check.severity == dg.AssetCheckSeverity.ERROR for check in audits.values())


def test_the_same_run_again_balances_and_writes_nothing(shop: Shop) -> None:
    def places() -> list[dict[str, Any]]:
        found = [shop.places(schema) for schema in ("warehouse", "marts", "platform")]
        for own in ("check_results", "run_costs"):  # each run has its own
            found[2].pop(own)
        return found

    before = places()
    result = shop.run(None, DAY, NEXT)
    assert {name for _, name in failing(result)} == {"values_can_be_read", "delivery_is_there"}
    assert places() == before
    assert len(table(checks(result)["fact_sales", "rows_balance"])) == 3
    assert checks(result)["fact_sales", "facts_point_by_the_rule"].metadata["rows_judged"].value == 2


# What was lost on the way


def rewrite(path: Path, change: Any) -> None:
    """Change the rows of a lake file and leave its stamp as it is."""
    stamp = pl.read_parquet_metadata(path)[FOOTER_KEY]
    change(pl.read_parquet(path, hive_partitioning=False)).write_parquet(path, metadata={FOOTER_KEY: stamp})


def test_a_reader_that_drops_a_row_is_found(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "data_platform.assets.raw.read_delivery", lambda delivery, source: read_delivery(delivery, source).head(-1)
    )
    assert failing(shop.run("raw_orders")) == {
        ("raw_orders", "rows_balance"): f"{DAY}: rows in the files and rows read differ (4 against 3)."
    }


@pytest.mark.parametrize(
    ("name", "text", "counted"),
    [
        (
            "2024-01-05.jsonl",
            '{"order_id": "o1", "product_id": "p1", "quantity": 1, "unit_price": 1, "order_ts": 1}\n',
            1,
        ),
        (
            "2024-01-05.jsonl",
            '{"order_id": "o1", "product_id": "p1", "quantity": 1, "unit_price": 1, "order_ts": 1}\n \n\n',
            1,
        ),
        ("2024-01-05.csv", "order_id;product_id;quantity;unit_price;order_ts\no1;p1;1;1;1\no2;p1;1;1;1", 2),
        ("2024-01-05.csv", "order_id;product_id;quantity;unit_price;order_ts\r\no1;p1;1;1;1\r\n", 1),
        ("2024-01-05.csv", "order_id;product_id;quantity;unit_price;order_ts\n", 0),
        ("2024-01-05.csv", 'order_id;product_id;quantity;unit_price;order_ts\n"o\n1";p1;1;1;1\n', None),
        ("2024-01-05.csv", "order_id;product_id;quantity;unit_price;order_ts\n\no1;p1;1;1;1\n", None),
    ],
)
def test_rows_in_landing_files_are_counted_without_the_reader_where_that_can_be_done(
    tmp_path: Path, name: str, text: str, counted: int | None
) -> None:
    with open_shop(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as shop:
        (shop.home / "sources.yaml").write_text('orders:\n  delimiter: ";"\n')
        path = shop.landing("orders").with_name(name)
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode())
        result = shop.run("raw_orders")
        assert failing(result) == {}
        [row, _] = table(checks(result)["raw_orders", "rows_balance"])
        assert row["in_files"] == counted
        assert row["in_raw"] == (1 if counted is None else counted)


def test_rows_in_parquet_files_are_counted_by_their_footers(tmp_path: Path) -> None:
    with open_shop(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as shop:
        folder = shop.landing("products").with_suffix("")
        folder.mkdir(parents=True)
        for number in range(2):
            pl.DataFrame([product(f"p{number}")]).write_parquet(folder / f"{number}.parquet")
        [row, _] = table(checks(shop.run("raw_products"))["raw_products", "rows_balance"])
        assert (row["files"], row["in_files"], row["in_raw"]) == (2, 2, 2)


def test_rows_that_raw_has_lost_are_found_by_raw_and_by_staging(shop: Shop) -> None:
    rewrite(shop.lake.path("raw_orders", date(2024, 1, 6)), lambda rows: rows.head(1))
    # The same delivery again, so that nothing is written over it.
    assert failing(shop.run("raw_orders", NEXT)) == {
        ("raw_orders", "rows_balance"): f"{NEXT}: rows read and rows in raw differ (2 against 1)."
    }
    result = shop.run("stg_orders", NEXT)
    assert failing(result) == {
        ("stg_orders", "rows_balance"): f"{NEXT}: rows in raw and rows delivered differ (2 against 1)."
    }
    check = checks(result)["stg_orders", "rows_balance"]
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert check.metadata["partitions"].value == NEXT
    assert check.metadata["rows_failed"].value == 1
    assert [row["balances"] for row in table(check)][-1] == "no, 1 periods do not"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.head(1), "rows staged and rows in the file differ (2 against 1); Σ quantity"),
        (
            lambda rows: rows.with_columns(pl.lit(7, pl.Int32).alias("quantity")),
            "Σ quantity staged and in the file differ (1 against 14.0000)",
        ),
    ],
)
def test_a_staged_file_that_does_not_hold_what_was_staged_is_found(shop: Shop, change: Any, said: str) -> None:
    rewrite(shop.lake.path("stg_orders", date(2024, 1, 5)), change)
    found = failing(shop.run("stg_orders"))
    assert found["stg_orders", "rows_balance"].startswith(f"{DAY}: {said}")


def test_a_quarantine_that_lacks_rows_is_found(shop: Shop) -> None:
    [(day, stamp)] = shop.lake.stamps("stg_orders", [date(2024, 1, 5)]).items()
    rewrite(shop.lake.quarantine_path("stg_orders", day, stamp), lambda rows: rows.clear())
    said = failing(shop.run("stg_orders"))["stg_orders", "rows_balance"]
    assert said == f"{DAY}: rows quarantined and rows in quarantine differ (1 against 0)."


def test_days_that_were_taken_are_accounted_for_where_others_are_rejected(shop: Shop) -> None:
    shop.deliver("orders", *(line(f"o{number}", quantity="many") for number in range(20)), day=NEXT)
    result = shop.run("raw_orders,stg_orders", DAY, NEXT)
    assert not result.success
    check = checks(result)["stg_orders", "rows_balance"]
    assert check.passed
    assert column(table(check), "day", "delivered") == [[DAY, 4], ["total", 4]]


def test_a_ledger_that_was_edited_fails_the_check_and_not_the_run(shop: Shop) -> None:
    shop.execute(
        "UPDATE platform.load_ledger SET sum_total_amount = 11"
        " WHERE asset = 'fact_sales' AND partition_date = '2024-01-05'"
    )
    said = "Σ total_amount in the ledger and in staging differ (11 against 10.0000)."
    assert failing(shop.run("fact_sales,fact_returns")) == {
        (fact, "rows_balance"): f"{DAY}: {said}" for fact in ("fact_sales", "fact_returns")
    }
    assert failing(shop.run("fact_sales", NEXT)) == {}


def test_nonsense_in_a_dimension_fails_its_audit_with_examples_and_the_mend(shop: Shop) -> None:
    shop.execute("UPDATE warehouse.dim_customer SET effective_to = '2024-01-06', is_current = false"
                 " WHERE customer_id = 'c1'")  # fmt: skip
    result = shop.run("dim_customer", NEXT)
    assert list(failing(result)) == [("dim_customer", "gaps_only_at_deletions")]
    check = checks(result)["dim_customer", "gaps_only_at_deletions"]
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert check.description == (
        "1 of 1 rows fail. `data-platform rebuild` brings the tables to what is staged; with --verify it only says "
        "what differs."
    )
    examples = check.metadata["examples"]
    assert isinstance(examples, dg.TableMetadataValue)
    assert [dict(record.data) for record in examples.records] == [{"customer_id": "c1", "effective_to": NEXT}]
    assert "secret" not in str(shop.instance.all_logs(result.run_id))


def test_a_publish_that_cannot_be_audited_stands_and_what_follows_it_runs(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("The warehouse went away in the middle of the work; run again.")

    monkeypatch.setattr("data_platform.assets.warehouse.ledger_accounts", gone)
    result = shop.run("dim_customer,fact_sales,fact_returns,mart_daily_sales")
    assert result.success
    told = failing(result)
    assert set(told) == {
        *(("dim_customer", name) for name in ["rows_balance", *DIMENSION_AUDITS]),
        *(
            (fact, name)
            for fact in ("fact_sales", "fact_returns")
            for name in ["rows_balance", *FACT_AUDITS, "customer_id_is_known", "product_id_is_known"]
        ),
    }
    assert told["fact_sales", "rows_balance"].startswith("It could not be checked: The warehouse went away")
    assert {check.severity for check in checks(result).values() if not check.passed} == {dg.AssetCheckSeverity.WARN}


def test_the_checks_of_the_facts_alone_say_that_they_need_a_publish(shop: Shop) -> None:
    definitions = build_defs({"platform": shop.platform})
    only = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("fact_returns"), "lines_stand_once"))
    job = dg.define_asset_job("checks_alone", selection=only)
    done = (
        dg.Definitions(assets=definitions.assets, jobs=[job], resources=definitions.resources)
        .resolve_job_def("checks_alone")
        .execute_in_process(instance=shop.instance, raise_on_error=False)
    )
    assert not done.success
    assert "materialize fact_sales or fact_returns" in next(iter(failures(done).values()))


def test_nonsense_in_facts_fails_the_audit_of_its_table(shop: Shop) -> None:
    shop.execute("UPDATE warehouse.fact_returns SET profit = 0")
    result = shop.run("fact_sales,fact_returns")
    assert list(failing(result)) == [("fact_returns", "profit_follows_cost")]


def test_a_mart_that_was_edited_is_found_when_nothing_is_refreshed(shop: Shop) -> None:
    shop.execute("UPDATE marts.mart_daily_sales SET net_sales = net_sales + 1 WHERE date_key = 20240105")
    shop.execute("UPDATE marts.mart_customer_value SET monetary_value = 0")
    assert failing(shop.run("mart_daily_sales,mart_product_performance,mart_customer_value")) == {
        ("mart_daily_sales", "rows_balance"): (
            f"{DAY}: net_sales of the facts and of the mart differ (10.0000 against 11.0000)."
        ),
        ("mart_customer_value", "rows_balance"): (
            "2024-01-01: net_sales of the facts and of the mart differ (30.0000 against 0.0000)."
        ),
    }


def test_a_refresh_that_loses_something_on_the_way_is_found(shop: Shop) -> None:
    shop.execute(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.lines := 0; RETURN NEW; END';"
        "CREATE TRIGGER lose BEFORE INSERT OR UPDATE ON marts.mart_daily_sales FOR EACH ROW EXECUTE FUNCTION lose()"
    )
    shop.deliver("orders", line("o3", day=NEXT, quantity=3), day=NEXT)
    result = shop.run("raw_orders,stg_orders,fact_sales,mart_daily_sales", NEXT)
    assert failing(result)["mart_daily_sales", "rows_balance"].startswith(
        f"{NEXT}: lines of the facts and of the mart differ (1 against 0)"
    )


# Tables of figures


def test_up_to_31_days_are_shown_and_then_months() -> None:
    def shown(days: int) -> list[dict[str, Any]]:
        start = date(2024, 1, 1).toordinal()
        accounts = [Account(date.fromordinal(start + n), {"rows": 2, "amount": Decimal("0.10")}) for n in range(days)]
        found = table_of(accounts)
        assert found is not None
        return [dict(record.data) for record in found.records]

    assert len(shown(31)) == 32
    assert shown(31)[-1] == {"day": "total", "rows": 62, "amount": "3.10", "balances": "yes"}
    assert shown(33) == [
        {"month": "2024-01", "rows": 62, "amount": "3.10", "balances": "yes"},
        {"month": "2024-02", "rows": 4, "amount": "0.20", "balances": "yes"},
        {"month": "total", "rows": 66, "amount": "3.30", "balances": "yes"},
    ]


def test_a_month_with_a_day_that_does_not_balance_says_why_and_unknown_figures_stay_unknown() -> None:
    accounts = [Account(date(2024, 1, n), {"rows": None}) for n in range(1, 32)]
    found = table_of([*accounts, Account(date(2024, 2, 1), {"rows": 1}, "one is lost", 1)])
    assert found is not None
    assert [dict(record.data) for record in found.records] == [
        {"month": "2024-01", "rows": None, "balances": "yes"},
        {"month": "2024-02", "rows": 1, "balances": "one is lost"},
        {"month": "total", "rows": 1, "balances": "no, 1 periods do not"},
    ]
    assert table_of([]) is None
