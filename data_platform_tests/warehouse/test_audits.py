"""Audits and balances of the tables as they stand: sound after every case, and each fails on nonsense made by hand.

Also the shape that the tables enforce by themselves: where a constraint forbids the nonsense, it is dropped first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import psycopg
import pytest

from data_platform.contracts import MARTS
from data_platform.lake import Lake
from data_platform.quality.balances import Account, ledger_accounts, mart_accounts
from data_platform.warehouse import audits, marts
from data_platform.warehouse.audits import Verdict, audit_dimension, audit_facts, dates_of, snapshot
from data_platform.warehouse.dimensions import DIMENSIONS
from data_platform.warehouse.publish import Published, publish, publish_calendar, rebuild
from data_platform_tests.cases import CASES, Case, customer, day, delivered, full, line, lines, product
from data_platform_tests.conftest import throw_away
from data_platform_tests.reference import Delivery
from data_platform_tests.warehouse import harness
from data_platform_tests.warehouse.harness import Engine

ALL = ("dim_customer", "dim_product", "fact_sales")
DAYS = [day(n) for n in range(1, 6)]
# c2 leaves on the 3rd and is back on the 4th, c4 leaves for good; only facts know c9; p1 costs more from the 3rd.
SHOP = [
    delivered("customers", 1, customer("c1", segment="a", email="ada@secret.example"), customer("c2"), customer("c4")),
    delivered("customers", 2, customer("c1", segment="b")),
    delivered("customers", 3, customer("c2", deleted=True)),
    delivered("customers", 4, customer("c2"), customer("c4", deleted=True)),
    delivered("products", 1, product("p1", cost="6")),
    delivered("products", 3, product("p1", cost="7")),
    lines(
        2, line("o1", 1), line("o1", 2, quantity=-1), line("o2", 1, customer_id="c9"), line("o3", 1, customer_id=None)
    ),
    lines(4, line("o5", 1, order_ts=datetime(2024, 1, 4, 12))),
]


@dataclass(frozen=True)
class Sound:
    """A published shop, seen and changed in a transaction that nobody commits, and what its audits say."""

    url: str
    lake: Lake
    connection: psycopg.Connection
    timezone: str = "UTC"

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self.connection.execute(statement)

    def audit(self, table: str, *, ids: Sequence[str] = (), days: Sequence[date] = DAYS) -> dict[str, Verdict]:
        if table in DIMENSIONS:
            names = pl.Series(ids, dtype=pl.String)
            found = audit_dimension(
                self.connection, self.lake, DIMENSIONS[table], ids=names, days=days, timezone=self.timezone
            )
        else:
            found = audit_facts(self.connection, dates=dates_of(pl.Series([], dtype=pl.Int32), days))[table]
        return {verdict.audit: verdict for verdict in found}

    def ledger(self, asset: str) -> list[Account]:
        staged = {"dim_customer": "stg_customers", "dim_product": "stg_products", "fact_sales": "stg_orders"}[asset]
        return ledger_accounts(self.connection, asset, self.lake.stamps(staged), DAYS)

    def mart(self, name: str, scope: list[int] | list[date] | None = None) -> list[Account]:
        return mart_accounts(self.connection, name, scope)


def publish_all(url: str, lake: Lake, deliveries: Sequence[Delivery], timezone: str = "UTC") -> None:
    for delivery in deliveries:
        harness.stage(lake, delivery, timezone)
    for asset in ALL:
        publish(url, lake, asset, run_id="run", timezone=timezone)
    for mart in MARTS:
        marts.apply(url, marts.select_stale(url, mart))


@pytest.fixture(scope="module")
def published(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sound]:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    with throw_away(server, template) as url:
        publish_calendar(url, [], date(2024, 1, 1))
        publish_all(url, lake, SHOP)
        with psycopg.connect(url) as connection:
            yield Sound(url, lake, connection)


@pytest.fixture
def sound(published: Sound) -> Iterator[Sound]:
    yield published
    published.connection.rollback()


@pytest.fixture
def another(warehouse_url: str, lake: Lake) -> Iterator[Sound]:
    """A warehouse of the test's own, with nothing in it."""
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        yield Sound(warehouse_url, lake, connection)


def failed(verdicts: Mapping[str, Verdict]) -> dict[str, int]:
    return {name: verdict.failed for name, verdict in verdicts.items() if verdict.failed}


# Sound tables


@pytest.mark.parametrize("table", [*DIMENSIONS, "fact_sales", "fact_returns"])
def test_every_audit_judges_rows_of_a_sound_shop_and_none_fails(sound: Sound, table: str) -> None:
    found = sound.audit(table)
    specs = audits.DIMENSION_AUDITS if table in DIMENSIONS else audits.FACT_AUDITS
    assert set(found) == set(specs)
    assert failed(found) == {}
    unjudged = {name for name, verdict in found.items() if not verdict.judged}
    assert unjudged == ({"gaps_only_at_deletions"} if table == "dim_product" else set())


@pytest.fixture(scope="module")
def connection(server: str, template: str) -> Iterator[psycopg.Connection]:
    hasty = "-c synchronous_commit=off"
    with throw_away(server, template) as url, psycopg.connect(url, autocommit=True, options=hasty) as connection:
        yield connection


def judged(engine: Engine, reports: Sequence[Published], days: Sequence[date]) -> list[str]:
    """What audits and balances find wrong after `reports`, for the run's `days` and all that was written."""
    wrong = []
    for report in reports:
        with engine.connection.transaction():
            engine.connection.execute("SET LOCAL TimeZone = 'UTC'")
            accounts = ledger_accounts(engine.connection, report.asset, report.stamps, list(report.stamps))
            wrong += [f"{report.asset} {account.day}: {account.reason}" for account in accounts if account.reason]
            if report.asset in DIMENSIONS:
                found = {
                    report.asset: audit_dimension(
                        engine.connection, engine.lake, DIMENSIONS[report.asset],
                        ids=report.touched, days=days, timezone=engine.timezone,
                    )
                }  # fmt: skip
            else:
                found = audit_facts(engine.connection, dates=dates_of(report.touched, days))
            for table, verdicts in found.items():
                wrong += [f"{table} {verdict}" for verdict in verdicts if verdict.failed or verdict.note]
    return wrong


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_after_every_publish_of_every_case_the_tables_are_sound(
    connection: psycopg.Connection, lake: Lake, case: Case
) -> None:
    harness.empty(connection)
    with harness.contracts_of_the_cases():
        engine = Engine(connection, lake, case.timezone)
        for delivery in [*case.formerly, *case.deliveries]:
            harness.stage(lake, delivery, case.timezone)
            reports = engine.publish()
            assert judged(engine, reports, [delivery.day]) == []
        every_day = sorted({delivery.day for delivery in case.deliveries})
        assert judged(engine, engine.publish(), every_day) == []


# Nonsense in dimensions

CUSTOMERS = "warehouse.dim_customer"
WITHOUT_CURRENT_IS_OPEN = f"ALTER TABLE {CUSTOMERS} DROP CONSTRAINT dim_customer_current_is_open"
WITHOUT_ONE_CURRENT = "DROP INDEX warehouse.dim_customer_one_current"
WITHOUT_VERSION = f"ALTER TABLE {CUSTOMERS} DROP CONSTRAINT dim_customer_version"


@pytest.mark.parametrize(
    ("audit", "statements", "example"),
    [
        pytest.param(
            "one_current_version",
            [WITHOUT_CURRENT_IS_OPEN, f"UPDATE {CUSTOMERS} SET is_current = false WHERE customer_id = 'c1'"],
            {"customer_id": "c1", "effective_from": "2024-01-02", "effective_to": ""},
            id="an open version that is not current",
        ),
        pytest.param(
            "one_current_version",
            [
                WITHOUT_ONE_CURRENT,
                f"UPDATE {CUSTOMERS} SET is_current = true, effective_to = NULL WHERE customer_id = 'c1'",
            ],
            {"customer_id": "c1", "effective_from": "2024-01-01", "effective_to": ""},
            id="two current versions",
        ),
        pytest.param(
            "one_current_version",
            [
                WITHOUT_VERSION,
                WITHOUT_ONE_CURRENT,
                f"UPDATE {CUSTOMERS} SET effective_from = '2024-01-02', effective_to = '2024-01-03'"
                " WHERE customer_id = 'c1' AND NOT is_current",
            ],
            {"customer_id": "c1", "effective_from": "2024-01-02"},
            id="two versions from one date",
        ),
        pytest.param(
            "one_current_version",
            [
                f"ALTER TABLE {CUSTOMERS} DROP CONSTRAINT dim_customer_ends_after_start",
                f"UPDATE {CUSTOMERS} SET effective_to = effective_from WHERE customer_id = 'c4'",
            ],
            {"customer_id": "c4", "effective_from": "2024-01-01", "effective_to": "2024-01-01"},
            id="a version that ends where it starts",
        ),
        pytest.param(
            "one_current_version",
            [
                f"ALTER TABLE {CUSTOMERS} DROP CONSTRAINT dim_customer_only_unknown_has_no_id",
                f"UPDATE {CUSTOMERS} SET customer_id = NULL WHERE customer_id = 'c4'",
            ],
            {"customer_id": "", "effective_from": "2024-01-01", "effective_to": "2024-01-04"},
            id="a version without an id",
        ),
        pytest.param(
            "no_overlapping_versions",
            [f"UPDATE {CUSTOMERS} SET effective_to = '2024-01-05' WHERE customer_id = 'c1' AND NOT is_current"],
            {"customer_id": "c1", "effective_from": "2024-01-01", "effective_to": "2024-01-05"},
            id="a version that outlasts the start of the next",
        ),
        pytest.param(
            "gaps_only_at_deletions",
            [f"UPDATE {CUSTOMERS} SET effective_to = '2024-01-02' WHERE customer_id = 'c2' AND NOT is_current"],
            {"customer_id": "c2", "effective_to": "2024-01-02"},
            id="a gap that begins before the deletion",
        ),
        pytest.param(
            "gaps_only_at_deletions",
            [
                f"UPDATE {CUSTOMERS} SET effective_to = '2024-01-05', is_current = false"
                " WHERE customer_id = 'c1' AND is_current"
            ],
            {"customer_id": "c1", "effective_to": "2024-01-05"},
            id="an end that nobody told",
        ),
        pytest.param(
            "inferred_members_are_named",
            [
                f"INSERT INTO {CUSTOMERS} (customer_key, customer_id, effective_from, is_current, is_inferred)"
                " VALUES (999, 'c99', '0001-01-01', true, true)"
            ],
            {"customer_id": "c99", "effective_from": "0001-01-01"},
            id="an inferred member that no fact names",
        ),
        pytest.param(
            "inferred_members_are_named",
            [
                WITHOUT_ONE_CURRENT,
                f"INSERT INTO {CUSTOMERS} (customer_key, customer_id, effective_from, is_current, is_inferred)"
                " VALUES (999, 'c9', '2024-01-05', true, false)",
            ],
            {"customer_id": "c9", "effective_from": "0001-01-01"},
            id="an inferred member beside a version",
        ),
        pytest.param(
            "inferred_members_are_named",
            [f"UPDATE {CUSTOMERS} SET segment = 'x' WHERE is_inferred"],
            {"customer_id": "c9", "effective_from": "0001-01-01"},
            id="an inferred member with attributes",
        ),
        pytest.param(
            "facts_point_by_the_rule",
            [
                "UPDATE warehouse.fact_sales SET customer_key = (SELECT customer_key FROM warehouse.dim_customer"
                " WHERE customer_id = 'c1' AND NOT is_current) WHERE order_id = 'o1'"
            ],
            {
                "order_id": "o1",
                "line_number": "1",
                "order_date": "2024-01-02",
                "customer_id": "c1",
                "effective_from": "2024-01-01",
            },
            id="a fact that was not re-keyed",
        ),
    ],
)
def test_an_audit_of_a_dimension_fails_on(
    sound: Sound, audit: str, statements: list[str], example: dict[str, str]
) -> None:
    sound.execute(*statements)
    found = sound.audit("dim_customer")[audit]
    assert found.failed >= 1
    assert any(example.items() <= shown.items() for shown in found.examples)
    assert "secret" not in str(found)


def test_a_missing_unknown_member_is_found_by_dimension_and_facts(sound: Sound) -> None:
    sound.execute(
        "DELETE FROM warehouse.fact_sales WHERE customer_key = -1", f"DELETE FROM {CUSTOMERS} WHERE customer_key = -1"
    )
    for table in ("dim_customer", "fact_sales", "fact_returns"):
        verdict = sound.audit(table)["inferred_members_are_named"]
        assert (verdict.failed, verdict.note) == (1, "The unknown member (key −1, no id) is not there.")


def test_facts_that_do_not_follow_the_cost_of_their_version_are_found_from_the_dimension(sound: Sound) -> None:
    sound.execute("UPDATE warehouse.dim_product SET cost = 5 WHERE effective_from = '2024-01-01'")
    verdict = sound.audit("dim_product")["facts_point_by_the_rule"]
    assert (verdict.failed, verdict.judged) == (4, 5)


def test_gaps_and_facts_are_judged_of_the_members_written_and_of_the_days_of_the_run(sound: Sound) -> None:
    sound.execute(f"UPDATE {CUSTOMERS} SET effective_to = '2024-01-02' WHERE customer_id = 'c2' AND NOT is_current")

    def untold(**scope: Sequence[str] | Sequence[date]) -> tuple[int, int]:
        verdict = sound.audit("dim_customer", **scope)["gaps_only_at_deletions"]  # type: ignore[arg-type]
        return verdict.failed, verdict.judged

    assert untold(days=[day(5)]) == (0, 0)
    assert untold(days=[day(2)]) == (1, 1)
    assert untold(ids=["c2"], days=[]) == (1, 1)
    assert untold(ids=["c4"], days=[]) == (0, 1)
    judged = [
        sound.audit("dim_customer", ids=ids, days=days)["facts_point_by_the_rule"].judged
        for ids, days in (([], [day(5)]), (["c9"], []), (["c1", "c9"], []), ([], [day(2)]))
    ]
    assert judged == [0, 1, 4, 3]


def test_whole_dimensions_are_judged_as_scoped_ones_are(sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    sound.execute(f"UPDATE {CUSTOMERS} SET effective_to = '2024-01-02' WHERE customer_id = 'c2' AND NOT is_current")
    monkeypatch.setattr(audits, "MANY_MEMBERS", 0)
    found = sound.audit("dim_customer", ids=["c2"], days=[])
    assert failed(found) == {"gaps_only_at_deletions": 1}
    assert (found["gaps_only_at_deletions"].judged, found["facts_point_by_the_rule"].judged) == (1, 4)


def test_a_gap_is_not_judged_where_staging_is_not_what_was_published(sound: Sound, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for delivery in [*(d for d in SHOP if d.day != day(3)), delivered("customers", 3)]:
        harness.stage(lake, delivery)
    found = replace(sound, lake=lake).audit("dim_customer")["gaps_only_at_deletions"]
    assert (found.failed, found.judged) == (0, 1)
    assert found.note.startswith("1 ends without a successor cannot be judged before the next publish: staging of 1")


@pytest.mark.parametrize("quarantined", [False, True])
def test_the_day_of_a_full_delivery_without_the_id_is_a_deletion(another: Sound, quarantined: bool) -> None:
    rejected = ({"customer_id": "c2"},) if quarantined else ()
    publish_all(
        another.url,
        another.lake,
        [full(1, customer("c1"), customer("c2")), full(2, customer("c1"), quarantined=rejected)],
    )
    assert failed(another.audit("dim_customer")) == {}
    ended = "effective_to = '2024-01-02', is_current = false"
    another.execute(f"UPDATE {CUSTOMERS} SET {ended} WHERE customer_id LIKE 'c_'")
    untold = another.audit("dim_customer")["gaps_only_at_deletions"]
    # A quarantined key counts as present: its end is told no more than that of c1.
    assert [example["customer_id"] for example in untold.examples] == (["c1", "c2"] if quarantined else ["c1"])


# Nonsense in facts


def unconstrained(table: str) -> list[str]:
    return [
        f"ALTER TABLE warehouse.{table} DROP CONSTRAINT {table}_{name}_key_fkey" for name in ("customer", "product")
    ]


COPY_OF_O1 = (
    "INSERT INTO warehouse.{table} SELECT 999, {date_key}, customer_key, product_key, order_id, line_number,"
    " '{order_ts}', {sign} * quantity, unit_price, 0, {sign} * total_amount, {sign} * profit, delivered_on, updated_at"
    " FROM warehouse.fact_sales WHERE order_id = 'o1'"
)


@pytest.mark.parametrize(
    ("table", "audit", "statements", "keys"),
    [
        pytest.param(
            "fact_sales",
            "facts_point_by_the_rule",
            ["UPDATE warehouse.fact_sales SET date_key = 20240103 WHERE order_id = 'o1'"],
            ["o1"],
            id="a date_key that is not the day of order_ts",
        ),
        pytest.param(
            "fact_sales",
            "facts_point_by_the_rule",
            ["UPDATE warehouse.fact_sales SET product_key = p.product_key FROM warehouse.dim_product AS p"
             " WHERE p.effective_from = '2024-01-03' AND order_id = 'o1'"],
            ["o1"],
            id="a later version of the product",
        ),
        pytest.param(
            "fact_sales",
            "facts_point_by_the_rule",
            ["UPDATE warehouse.fact_sales SET product_key = p.product_key FROM warehouse.dim_product AS p"
             " WHERE p.effective_from = '2024-01-01' AND order_id = 'o5'"],
            ["o5"],
            id="an earlier version of the product",
        ),
        pytest.param(
            "fact_returns",
            "facts_point_by_the_rule",
            ["UPDATE warehouse.fact_returns SET customer_key = c.customer_key FROM warehouse.dim_customer AS c"
             " WHERE c.customer_id = 'c1' AND NOT c.is_current"],
            ["o1"],
            id="a return at an earlier version of the customer",
        ),
        pytest.param(
            "fact_sales",
            "facts_point_by_the_rule",
            [*unconstrained("fact_sales"), "UPDATE warehouse.fact_sales SET customer_key = 999 WHERE order_id = 'o1'"],
            ["o1"],
            id="a customer that is not there",
        ),
        pytest.param(
            "fact_sales",
            "facts_point_by_the_rule",
            ["UPDATE warehouse.fact_sales SET product_key = -1, profit = NULL WHERE order_id = 'o1'"],
            ["o1"],
            id="a line without a product",
        ),
        pytest.param(
            "fact_sales",
            "profit_follows_cost",
            ["UPDATE warehouse.fact_sales SET profit = profit + 0.0001 WHERE order_id = 'o1'"],
            ["o1"],
            id="another profit",
        ),
        pytest.param(
            "fact_returns",
            "profit_follows_cost",
            ["UPDATE warehouse.fact_returns SET profit = NULL"],
            ["o1"],
            id="no profit though the cost is known",
        ),
        pytest.param(
            "fact_sales",
            "profit_follows_cost",
            ["UPDATE warehouse.dim_product SET cost = NULL WHERE effective_from = '2024-01-03'"],
            ["o5"],
            id="a profit though the cost is unknown",
        ),
        pytest.param(
            "fact_sales",
            "lines_stand_once",
            [COPY_OF_O1.format(table="fact_sales", date_key=20240104, order_ts="2024-01-04", sign=1)],
            ["o1", "o1"],
            id="a line on two dates",
        ),
        pytest.param(
            "fact_sales",
            "lines_stand_once",
            [COPY_OF_O1.format(table="fact_returns", date_key=20240102, order_ts="2024-01-02", sign=-1)],
            ["o1"],
            id="a line in both tables, seen from the sales",
        ),
        pytest.param(
            "fact_returns",
            "lines_stand_once",
            [COPY_OF_O1.format(table="fact_returns", date_key=20240102, order_ts="2024-01-02", sign=-1)],
            ["o1"],
            id="a line in both tables, seen from the returns",
        ),
        pytest.param(
            "fact_sales",
            "inferred_members_are_named",
            ["DELETE FROM warehouse.fact_sales WHERE order_id = 'o2'"],
            [],
            id="an inferred member whose last fact is gone",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("many_dates", [audits.MANY_DATES, 0])
def test_an_audit_of_facts_fails_on(
    sound: Sound, table: str, audit: str, statements: list[str], keys: list[str], many_dates: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(audits, "MANY_DATES", many_dates)
    sound.execute(*statements)
    found = sound.audit(table)[audit]
    assert found.failed == max(1, len(keys))
    assert [example["order_id"] for example in found.examples if "order_id" in example] == keys


def test_facts_are_judged_of_the_order_dates_written_and_of_the_days_of_the_run(sound: Sound) -> None:
    sound.execute("UPDATE warehouse.fact_sales SET profit = 0 WHERE order_id = 'o5'")
    assert failed(sound.audit("fact_sales", days=[day(2)])) == {}
    assert failed(sound.audit("fact_sales", days=[day(4)])) == {"profit_follows_cost": 1}
    assert dates_of(pl.Series([20231231, 20240102], dtype=pl.Int32), [day(2), day(1)]) == [20231231, 20240101, 20240102]


def test_up_to_ten_examples_are_shown(sound: Sound) -> None:
    sound.execute(
        f"INSERT INTO {CUSTOMERS} (customer_key, customer_id, effective_from, is_current, is_inferred)"
        " SELECT 1000 + n, 'x' || n, '0001-01-01', true, true FROM generate_series(1, 30) AS n"
    )
    found = sound.audit("dim_customer")["inferred_members_are_named"]
    assert (found.failed, len(found.examples)) == (30, 10)


def test_audits_cannot_write(sound: Sound) -> None:
    with snapshot(sound.url) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM platform.mart_stale")


def test_a_rebuild_mends_what_audits_find(another: Sound) -> None:
    publish_all(another.url, another.lake, SHOP)
    another.execute(
        f"UPDATE {CUSTOMERS} SET effective_to = '2024-01-02' WHERE customer_id = 'c2' AND NOT is_current",
        "UPDATE warehouse.fact_sales SET profit = 0 WHERE order_id = 'o5'",
        "UPDATE platform.load_ledger SET sales = sales - 1, superseded = superseded + 1 WHERE asset = 'fact_sales'"
        " AND partition_date = '2024-01-04'",
    )
    rebuild(another.url, another.lake, run_id="rebuild", timezone="UTC")
    for table in (*DIMENSIONS, "fact_sales", "fact_returns"):
        assert failed(another.audit(table)) == {}
    assert [account.reason for account in another.ledger("fact_sales")] == ["", ""]


# The ledger


def test_the_ledger_of_a_sound_shop_balances_with_its_figures(sound: Sound) -> None:
    customers, orders = sound.ledger("dim_customer"), sound.ledger("fact_sales")
    assert [account.reason for account in (*customers, *orders)] == [""] * 6
    assert customers[0].figures == {
        "delivered": 3, "staged": 3, "quarantined": 0, "duplicate": 0,
        "version": 3, "repeat": 0, "replaced": 0, "deletion": 0,
    }  # fmt: skip
    assert orders[0].figures == {
        "delivered": 4, "staged": 4, "quarantined": 0, "duplicate": 0,
        "sale": 3, "return": 1, "tombstone": 0, "superseded": 0, "quantity": 2, "total_amount": 20,
    }  # fmt: skip


WITHOUT_BALANCES = [
    f"ALTER TABLE platform.load_ledger DROP CONSTRAINT {name}"
    for name in ("delivery_balances", "lines_balance", "tellings_balance")
]


@pytest.mark.parametrize(
    ("asset", "change", "reason", "lost"),
    [
        (
            "fact_sales",
            "rows_delivered = 3, rows_staged = 3, sales = 2",
            "rows delivered in the ledger and in staging differ (3 against 4); "
            "rows staged in the ledger and in staging differ (3 against 4)",
            2,
        ),
        ("fact_sales", "sum_quantity = 3", "Σ quantity in the ledger and in staging differ (3 against 2)", 1),
        (
            "fact_sales",
            "sum_total_amount = NULL",
            "Σ total_amount in the ledger and in staging differ (none against",
            1,
        ),
        ("fact_sales", "sales = 1", "rows staged and sale + return + tombstone + superseded differ (4 against 2)", 2),
        ("fact_sales", "rows_duplicate = 5", "rows delivered and staged + quarantined + duplicate differ (4 again", 10),
        ("dim_customer", "versions = 0", "rows staged and version + repeat + replaced + deletion differ (1 against", 1),
    ],
)
def test_a_ledger_that_was_edited_does_not_balance(
    sound: Sound, asset: str, change: str, reason: str, lost: int
) -> None:
    where = f"WHERE asset = '{asset}' AND partition_date = '2024-01-02'"
    sound.execute(*WITHOUT_BALANCES, f"UPDATE platform.load_ledger SET {change} {where}")
    wrong = [account for account in sound.ledger(asset) if account.reason]
    assert [account.day for account in wrong] == [day(2)]
    assert wrong[0].reason.startswith(reason)
    assert wrong[0].lost == lost


def test_an_entry_that_is_gone_is_missed(sound: Sound) -> None:
    sound.execute("DELETE FROM platform.load_ledger WHERE asset = 'dim_product' AND partition_date = '2024-01-03'")
    [_, gone] = sound.ledger("dim_product")
    assert gone.reason == "the ledger has no entry of rows that were staged (none against 1)"


def test_what_a_later_publish_has_taken_in_is_judged_within_itself(sound: Sound) -> None:
    sound.execute(
        "UPDATE platform.load_ledger SET content_hash = 'another', sum_quantity = 9 WHERE asset = 'fact_sales'"
    )
    assert [account.reason for account in sound.ledger("fact_sales")] == ["", ""]


# Marts


def test_the_marts_of_a_sound_shop_balance_with_the_facts(sound: Sound) -> None:
    daily = sound.mart("mart_daily_sales")
    assert [(account.day, account.figures["facts_lines"], account.figures["mart_lines"]) for account in daily] == [
        (day(2), 4, 4),
        (day(4), 1, 1),
    ]
    for name in MARTS:
        accounts = sound.mart(name)
        assert accounts
        assert [account.reason for account in accounts if account.reason] == []


@pytest.mark.parametrize(
    ("mart", "change", "reason"),
    [
        (
            "mart_daily_sales",
            "UPDATE marts.mart_daily_sales SET net_sales = net_sales + 1 WHERE date_key = 20240102",
            "net_sales of the facts and of the mart differ (20.0000 against 21.0000)",
        ),
        (
            "mart_daily_sales",
            "DELETE FROM marts.mart_daily_sales WHERE date_key = 20240102",
            "lines of the facts and of the mart differ (4 against none)",
        ),
        (
            "mart_daily_sales",
            "DELETE FROM warehouse.fact_returns",
            "lines of the facts and of the mart differ (3 against 4)",
        ),
        (
            "mart_product_performance",
            "UPDATE marts.mart_product_performance SET profit = NULL",
            "profit of the facts and of the mart differ (11.0000 against none)",
        ),
        (
            "mart_product_performance",
            "INSERT INTO marts.mart_product_performance SELECT month_start, 'p9', product_name, category, brand,"
            " orders, 0, 0, 0, 0, 0, 0 FROM marts.mart_product_performance",
            "products of the facts and of the mart differ (1 against 2)",
        ),
        (
            "mart_customer_value",
            "DELETE FROM marts.mart_customer_value WHERE customer_id = 'c9'",
            "customers of the facts and of the mart differ (2 against 1)",
        ),
        (
            "mart_customer_value",
            "UPDATE marts.mart_customer_value SET monetary_value = 0 WHERE customer_id = 'c1'",
            "net_sales of the facts and of the mart differ (20.0000 against 10.0000)",
        ),
    ],
)
def test_a_mart_that_does_not_hold_what_the_facts_do_is_found(
    sound: Sound, mart: str, change: str, reason: str
) -> None:
    sound.execute(change)
    wrong = [account for account in sound.mart(mart) if account.reason]
    assert len(wrong) == 1
    assert wrong[0].reason.startswith(reason)
    assert wrong[0].lost >= 1


def test_only_what_was_refreshed_is_compared_and_what_is_stale_again_is_left_out(sound: Sound) -> None:
    sound.execute(
        "UPDATE marts.mart_daily_sales SET lines = 7",
        "UPDATE marts.mart_product_performance SET quantity = 7",
        "UPDATE marts.mart_customer_value SET monetary_value = 7",
    )

    def wrong() -> list[list[bool]]:
        scopes: dict[str, list[int] | list[date] | None] = {
            "mart_daily_sales": [20240104],
            "mart_product_performance": [date(2024, 1, 1)],
            "mart_customer_value": None,
        }
        return [[bool(account.reason) for account in sound.mart(mart, scope)] for mart, scope in scopes.items()]

    assert wrong() == [[True], [True], [True]]
    assert sound.mart("mart_product_performance", [date(2024, 2, 1)]) == []
    sound.execute(
        "INSERT INTO platform.mart_stale (mart, date_key) SELECT mart, 20240104 FROM unnest(ARRAY"
        "['mart_daily_sales', 'mart_product_performance', 'mart_customer_value']) AS mart"
    )
    assert wrong() == [[], [], []]


# The shape that the tables enforce by themselves


def version(**values: str) -> str:
    told = {"customer_key": "999", "customer_id": "'new'", "effective_from": "'2024-01-01'", "effective_to": "NULL",
            "is_current": "true", "is_inferred": "false"} | values  # fmt: skip
    return f"INSERT INTO {CUSTOMERS} ({', '.join(told)}) VALUES ({', '.join(told.values())})"


def sale(table: str = "fact_sales", **values: str) -> str:
    told = {"sale_key": "999", "date_key": "20240102", "customer_key": "-1", "product_key": "-1", "order_id": "'new'",
            "line_number": "1", "order_ts": "'2024-01-02'", "quantity": "1", "unit_price": "10", "discount_amount": "0",
            "total_amount": "10", "delivered_on": "'2024-01-02'", "updated_at": "now()"} | values  # fmt: skip
    return f"INSERT INTO warehouse.{table} ({', '.join(told)}) VALUES ({', '.join(told.values())})"


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (version(customer_id="'c1'", effective_to="'2024-01-02'", is_current="false"), "dim_customer_version"),
        (version(customer_id="'c1'", effective_from="'2024-01-09'"), "dim_customer_one_current"),
        (version(effective_to="'2024-01-01'", is_current="false"), "dim_customer_ends_after_start"),
        (version(effective_to="'2023-01-01'", is_current="false"), "dim_customer_ends_after_start"),
        (version(effective_to="'2024-01-02'"), "dim_customer_current_is_open"),
        (version(is_current="false"), "dim_customer_current_is_open"),
        (version(customer_id="NULL"), "dim_customer_only_unknown_has_no_id"),
        (version(is_inferred="true"), "dim_customer_inferred_spans_all"),
        (version(customer_key="1"), "dim_customer_pkey"),
        (f"DELETE FROM {CUSTOMERS} WHERE customer_id = 'c9'", "fact_sales_customer_key_fkey"),
        ("DELETE FROM warehouse.dim_product WHERE product_id = 'p1'", "fact_sales_product_key_fkey"),
        ("DELETE FROM warehouse.dim_date WHERE date_key = 20240104", "fact_sales_date_key_fkey"),
        (sale(customer_key="999"), "fact_sales_customer_key_fkey"),
        (sale(product_key="999"), "fact_sales_product_key_fkey"),
        (sale(date_key="20241332"), "fact_sales_date_key_fkey"),
        (sale(quantity="0", total_amount="0"), "fact_sales_quantity_positive"),
        (sale(quantity="-1", total_amount="-10"), "fact_sales_quantity_positive"),
        (sale("fact_returns"), "fact_returns_quantity_negative"),
        (sale(total_amount="11"), "fact_sales_total"),
        (sale("fact_returns", quantity="-1", total_amount="10"), "fact_returns_total"),
        (sale(order_id="'o1'"), "fact_sales_2024_pkey"),
        ("UPDATE platform.load_ledger SET rows_delivered = 9", "delivery_balances"),
        ("UPDATE platform.load_ledger SET sales = 9 WHERE asset = 'fact_sales'", "lines_balance"),
        ("UPDATE platform.load_ledger SET versions = 9 WHERE asset = 'dim_product'", "tellings_balance"),
    ],
)
def test_the_tables_refuse_nonsense(sound: Sound, statement: str, constraint: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityError) as refused:
        sound.execute(statement)
    named = refused.value.diag.constraint_name or ""
    # Postgres numbers the copies of a foreign key that a year's partition has.
    assert named.startswith(constraint)


def test_what_the_refused_statements_are_made_from_is_accepted(sound: Sound) -> None:
    sound.execute(version(), sale(), sale("fact_returns", quantity="-1", total_amount="-10"))


@pytest.mark.parametrize("member", ["customer", "product"])
def test_both_dimensions_have_the_same_constraints(sound: Sound, member: str) -> None:
    names = sound.connection.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype <> 'n'"
        " UNION SELECT indexrelid::regclass::text FROM pg_index"
        " WHERE indrelid = %s::regclass AND indpred IS NOT NULL",
        [f"warehouse.dim_{member}"] * 2,
    ).fetchall()
    assert {name.removeprefix("warehouse.").removeprefix(f"dim_{member}_") for (name,) in names} == {
        "pkey", "version", "ends_after_start", "current_is_open", "only_unknown_has_no_id", "inferred_spans_all",
        "one_current",
    }  # fmt: skip


def test_audits_and_balances_leave_every_row_where_it_was(sound: Sound) -> None:
    before = harness.fingerprints(sound.connection)
    for table in (*DIMENSIONS, "fact_sales"):
        sound.audit(table)
    for mart in MARTS:
        sound.mart(mart)
    assert harness.fingerprints(sound.connection) == before


def deliveries_at(moment: datetime) -> list[Delivery]:
    return [
        delivered("customers", 1, customer("c1", segment="a")),
        delivered("customers", 9, customer("c1", deleted=True, updated_at=moment)),
    ]


@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Kiritimati", "America/New_York"])
def test_a_deletion_counts_on_the_business_day_of_its_moment(another: Sound, timezone: str) -> None:
    publish_all(another.url, another.lake, deliveries_at(datetime(2024, 1, 5, 4, tzinfo=UTC)), timezone)
    found = audit_dimension(
        another.connection, another.lake, DIMENSIONS["dim_customer"], ids=pl.Series(["c1"]), days=[], timezone=timezone
    )
    gaps = {verdict.audit: verdict for verdict in found}["gaps_only_at_deletions"]
    assert (gaps.failed, gaps.judged) == (0, 1)


# What a reviewer found


def test_a_moment_before_the_year_1_of_the_business_zone_is_audited(another: Sound) -> None:
    first_instant = datetime(1, 1, 1, tzinfo=UTC)
    deliveries = [
        delivered("products", 1, product("p1", updated_at=first_instant), product("p2")),
        delivered("products", 2, product("p2", deleted=True)),
    ]
    zone = "America/New_York"
    publish_all(another.url, another.lake, deliveries, zone)
    found = replace(another, timezone=zone).audit("dim_product")
    assert failed(found) == {}
    assert found["gaps_only_at_deletions"].judged == 1


def test_an_end_is_excused_only_by_a_replaced_day_that_told_of_its_time(another: Sound) -> None:
    publish_all(
        another.url,
        another.lake,
        [delivered("products", 1, product("p1"), product("p2")), delivered("products", 9, product("p3"))],
    )
    ended = (
        "UPDATE warehouse.dim_product SET effective_to = '2024-01-{:02}', is_current = false WHERE product_id = '{}'"
    )
    another.execute(ended.format(7, "p1"))
    another.execute(ended.format(9, "p2"))
    harness.stage(another.lake, delivered("products", 9, product("p3", category="other")))
    found = another.audit("dim_product", ids=["p1", "p2"])["gaps_only_at_deletions"]
    assert (found.failed, found.judged) == (1, 1)
    assert [example["product_id"] for example in found.examples] == ["p1"]
