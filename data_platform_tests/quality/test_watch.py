"""Drift after staging: what is profiled, kept, judged, recorded and shown; and that it stops nothing."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import psycopg
import pytest

from data_platform.contracts import STAGED
from data_platform.contracts.contract import Contract
from data_platform.errors import PlatformError
from data_platform.lake import Lake
from data_platform.quality import watch as watching
from data_platform.quality.drift import LEAST_PARTITIONS, LIMITS, WINDOW_DAYS, judge
from data_platform.quality.history import newest_results, profiled, read_profiles, remember
from data_platform.quality.profiles import profile
from data_platform.quality.watch import RULES, Watched, drift_results, drift_rules, drift_specs, limits_of, watch
from data_platform.sources.config import Source
from data_platform.transforms.staging import empty_day, stage_window
from data_platform.warehouse import connection as connection_module
from data_platform.warehouse.connection import connected

ORDERS = STAGED["orders"]
START = date(2024, 1, 1)
DAYS = [START + timedelta(days=number) for number in range(20)]
SECRET = "ada.lovelace@example.com"


def lines(day: date, count: int = 60, *, price: float = 1.0, nulls: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(day.toordinal())
    rows = [
        {"order_id": f"{day}-{number}", "line_number": "1", "product_id": f"p{rng.integers(20)}", "quantity": "2",
         "customer_id": "" if rng.random() < nulls else f"c{rng.integers(30)}",
         "unit_price": f"{price * rng.lognormal(2, 0.5):.2f}", "order_ts": f"{day}T{rng.integers(8, 20):02d}:15:00",
         "status": "completed"}
        for number in range(count)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def customers(day: date, count: int = 40) -> pl.DataFrame:
    rows = [
        {"customer_id": f"{day}-{number}", "email": SECRET, "first_name": "Ada", "last_name": "Lovelace",
         "segment": "consumer", "country": "France", "created_date": str(day)}
        for number in range(count)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def put(lake: Lake, day: date, delivered: pl.DataFrame | None, entity: str = "orders") -> None:
    """Stage the delivery of a day as the asset does; None: none came."""
    contract, source = STAGED[entity], Source.model_validate({"entity": entity})
    if delivered is None:
        staged = [empty_day(day, contract=contract, source=source)]
    else:
        raw = delivered.with_columns(
            _partition=pl.lit(day), _file=pl.lit("a.csv"), _row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
        )
        staged = list(stage_window(raw, [day], contract=contract, source=source, timezone="UTC"))
    lake.promote([lake.write_aside(contract.table, one.day, one.rows, one.stamp) for one in staged])


def look(url: str, lake: Lake, days: Sequence[date], contract: Contract = ORDERS, run_id: str = "run 1") -> Watched:
    return watch(url, lake, contract, days, timezone="UTC", run_id=run_id)


@pytest.fixture
def staged(lake: Lake) -> Lake:
    """Twenty like days of orders."""
    for day in DAYS:
        put(lake, day, lines(day))
    return lake


def shown(contract: Contract, watched: Watched) -> dict[str | None, dg.AssetCheckResult]:
    return {one.check_name: one for one in drift_results(contract, watched)}


def stored(url: str, table: str = "stg_orders") -> dict[date, tuple[str, str]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT partition_date, content_hash, run_id FROM platform.partition_profiles WHERE asset = %s", [table]
        )
        return {day: (content, run) for day, content, run in rows}


def newest_failing(url: str) -> list[pl.DataFrame]:
    with connected(url) as connection:
        failing = newest_results(connection, asset="stg_orders").filter(
            ~pl.col("passed") & (pl.col("rule") == "drift_row_count")
        )
    return [] if failing.is_empty() else [failing]


def test_each_partition_is_profiled_once_and_again_when_its_content_changes(warehouse_url: str, staged: Lake) -> None:
    look(warehouse_url, staged, DAYS)
    with connected(warehouse_url) as connection:
        found = read_profiles(connection, "stg_orders")
        assert profiled(connection, "stg_orders", DAYS) == {
            day: stamp.content for day, stamp in staged.stamps("stg_orders").items()
        }
    for day in DAYS:
        rows = staged.read("stg_orders", day).with_columns(_partition=pl.lit(day))
        assert {day: found[day]} == profile(rows, ORDERS)
    put(staged, DAYS[3], lines(DAYS[3], count=50))
    look(warehouse_url, staged, DAYS, run_id="run 2")
    assert [day for day, (_, run) in stored(warehouse_url).items() if run == "run 2"] == [DAYS[3]]


def test_windows_of_few_rows_give_the_same_profiles(
    warehouse_url: str, staged: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(warehouse_url, staged, DAYS)
    with connected(warehouse_url) as connection:
        at_once = read_profiles(connection, "stg_orders")
        connection.execute("DELETE FROM platform.partition_profiles")
    monkeypatch.setattr(watching, "WINDOW_ROWS", 130)
    assert look(warehouse_url, staged, DAYS).days == tuple(DAYS[LEAST_PARTITIONS:])
    with connected(warehouse_url) as connection:
        assert read_profiles(connection, "stg_orders") == at_once


def test_of_a_long_range_the_newest_are_judged_and_all_are_profiled(
    warehouse_url: str, staged: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "JUDGED_AT_ONCE", 3)
    put(staged, DAYS[-4], lines(DAYS[-4], count=300))
    remember(warehouse_url, "run 0", look(warehouse_url, staged, DAYS[: len(DAYS) - 3]).records)
    put(staged, DAYS[-4], lines(DAYS[-4]))
    watched = look(warehouse_url, staged, DAYS)
    assert watched.days == tuple(DAYS[-3:])
    assert watched.passed_over == tuple(DAYS[:-3])
    assert stored(warehouse_url).keys() == set(DAYS)
    # Only of content that is new nothing is known: what was said of the other days stays.
    assert {record.partition_date for record in watched.records} == set(DAYS[-4:])
    anew = [record for record in watched.records if record.partition_date == DAYS[-4]]
    assert {record.rule for record in anew} == RULES.keys()
    assert {(record.passed, record.rows_judged, record.note) for record in anew} == {
        (True, 0, "Not judged: only the newest 3 of a run are.")
    }
    assert [failing.get_column("partition_date").to_list() for failing in newest_failing(warehouse_url)] == [[DAYS[-4]]]
    remember(warehouse_url, "run 1", watched.records)
    assert newest_failing(warehouse_url) == []
    for one in drift_results(ORDERS, watched):
        assert one.description is not None
        assert "Of 17 older partitions nothing is said: only the newest 3 of a run are judged" in one.description
        assert one.metadata["partitions_judged"].value == 3
        assert one.metadata["partitions_not_judged"].value == 17


def test_a_day_without_a_delivery_has_no_profile_and_no_record(warehouse_url: str, staged: Lake) -> None:
    never, empty = START + timedelta(days=20), START + timedelta(days=21)
    put(staged, never, None)
    put(staged, empty, lines(empty).clear())
    watched = look(warehouse_url, staged, [*DAYS, never, empty, START + timedelta(days=22)])
    assert {never, START + timedelta(days=22)}.isdisjoint(record.partition_date for record in watched.records)
    assert stored(warehouse_url).keys() == {*DAYS, empty}
    assert list(watched.anomalies["drift_row_count"]) == [empty]


def test_an_odd_day_is_told_of_under_its_rule(warehouse_url: str, staged: Lake) -> None:
    put(staged, DAYS[-1], lines(DAYS[-1], nulls=0.6))
    watched = look(warehouse_url, staged, DAYS)
    failed = [record for record in watched.records if not record.passed]
    assert [(one.rule, one.partition_date, one.severity, one.rows_judged) for one in failed if one.value] == [
        ("drift_null_rate", DAYS[-1], "warning", 60)
    ]
    assert failed[0].note.startswith("null_rate of customer_id: ")
    assert failed[0].threshold.startswith("0 to ")
    results = shown(ORDERS, watched)
    assert {name for name, one in results.items() if not one.passed} == {"drift_null_rate"}
    odd = results["drift_null_rate"]
    assert odd.severity is dg.AssetCheckSeverity.WARN
    assert odd.description is not None
    assert odd.description.startswith(f"{DAYS[-1]}: null_rate of customer_id")
    assert odd.metadata["partitions"].value == str(DAYS[-1])
    assert odd.metadata["partitions_failed"].value == 1
    assert odd.metadata["partitions_judged"].value == len(DAYS) - LEAST_PARTITIONS
    assert "data:image/png;base64,iVBOR" in str(odd.metadata["trend"].value)
    assert "trend" not in results["drift_row_count"].metadata
    band = str(odd.metadata["threshold"].value)
    assert band.startswith("0.0 % to ")
    assert band.endswith(f" % (null_rate of customer_id, {DAYS[-1]})")
    assert str(results["drift_row_count"].metadata["threshold"].value).endswith("at most: rows 7")


def test_every_rule_can_fail(warehouse_url: str, staged: Lake) -> None:
    odd = lines(DAYS[-1], count=100, price=100, nulls=0.7).with_columns(
        product_id=pl.lit("x1"), order_ts=pl.lit(f"{DAYS[-1]}T03:00:00"), status=pl.lit("returned")
    )
    odd = pl.concat([odd, odd.with_columns(order_id="again-" + pl.col("order_id"))])
    put(staged, DAYS[-1], odd)
    results = shown(ORDERS, look(warehouse_url, staged, DAYS))
    assert {name: one.passed for name, one in results.items()} == dict.fromkeys(RULES, False)


def test_one_record_for_each_rule_and_partition(warehouse_url: str, staged: Lake) -> None:
    watched = look(warehouse_url, staged, DAYS)
    assert len(watched.records) == len(RULES) * len(DAYS)
    assert watched.waiting == tuple(DAYS[:LEAST_PARTITIONS])
    waiting = [record for record in watched.records if record.partition_date in watched.waiting]
    assert all(record.passed and record.note.startswith("Not judged: ") for record in waiting)
    assert {record.rows_judged for record in waiting} == {0}
    counts = {one.partition_date: one.value for one in watched.records if one.rule == "drift_row_count"}
    assert counts[DAYS[-1]] == 60
    remember(warehouse_url, "run 1", watched.records)
    with psycopg.connect(warehouse_url) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT rule) FROM platform.check_results").fetchone()
    assert row == (len(RULES) * len(DAYS), len(RULES))


def test_without_history_nothing_is_judged_and_it_is_said(warehouse_url: str, staged: Lake) -> None:
    results = shown(ORDERS, look(warehouse_url, staged, DAYS[:5]))
    assert all(one.passed for one in results.values())
    assert {one.description for one in results.values()} == {"Not judged: it takes 14 earlier partitions with rows."}
    assert {one.metadata["partitions_not_judged"].value for one in results.values()} == {5}


def test_a_day_is_judged_by_stored_history_as_by_all_of_it(warehouse_url: str, lake: Lake) -> None:
    rng = np.random.default_rng(1)
    days = [START + timedelta(days=number) for number in range(80) if number % 3 or number > 30]
    for day in days:
        put(lake, day, lines(day, count=int(rng.integers(5, 120)), nulls=float(rng.random() < 0.1)))
    for first in range(0, len(days), watching.JUDGED_AT_ONCE):
        look(warehouse_url, lake, days[first : first + watching.JUDGED_AT_ONCE])
    with connected(warehouse_url) as connection:
        history = read_profiles(connection, "stg_orders")
    assert list(history) == days
    odd = 0
    for day in days[LEAST_PARTITIONS:]:
        alone = look(warehouse_url, lake, [day])
        told = [one.sentence for each in alone.anomalies.values() for one in each.get(day, [])]
        assert sorted(told) == sorted(one.sentence for one in judge(history, day))
        odd += bool(told)
    assert odd
    with connected(warehouse_url) as connection:
        read = watching._history(connection, "stg_orders", [days[-1]])
    assert len(read) <= WINDOW_DAYS + 2


def test_a_contract_sets_how_sensitive_its_checks_are(warehouse_url: str, staged: Lake) -> None:
    put(staged, DAYS[-1], lines(DAYS[-1], nulls=0.6))
    calm = replace(ORDERS, drift={"null_rate": float("inf"), "gaps": float("inf")})
    assert not shown(ORDERS, look(warehouse_url, staged, DAYS))["drift_null_rate"].passed
    assert shown(calm, look(warehouse_url, staged, DAYS, calm))["drift_null_rate"].passed
    assert limits_of(replace(ORDERS, drift={"rows": 2.0}))["rows"].score == 2 * LIMITS["rows"].score
    assert limits_of(replace(ORDERS, drift={"rows": 2.0}))["mean"] == LIMITS["mean"]
    with pytest.raises(PlatformError, match="stg_orders sets the drift of null_rates: kinds are rows, "):
        drift_specs(replace(ORDERS, drift={"null_rates": 2.0}))


def test_the_checks_of_a_table_are_those_its_columns_have_figures_for() -> None:
    assert {entity: drift_rules(contract).keys() ^ RULES.keys() for entity, contract in STAGED.items()} == {
        "orders": set(),
        "products": {"drift_repeats"},
        "customers": {"drift_repeats", "drift_mean", "drift_quantiles"},
    }
    specs = drift_specs(ORDERS)
    assert [one.name for one in specs] == list(RULES)
    assert {one.asset_key for one in specs} == {dg.AssetKey("stg_orders")}
    assert all(one.description and one.description.endswith("(warning)") for one in specs)


def test_every_kind_of_figure_belongs_to_one_rule() -> None:
    kinds = [kind for rule in RULES.values() for kind in rule.kinds]
    assert sorted(kinds) == sorted(LIMITS)


def test_the_newest_profile_is_shown_without_personal_data(warehouse_url: str, lake: Lake) -> None:
    contract = STAGED["customers"]
    for day in DAYS:
        put(lake, day, customers(day, 400 if day == DAYS[-1] else 40), "customers")
    watched = look(warehouse_url, lake, DAYS, contract)
    assert watched.anomalies["drift_row_count"].keys() == {DAYS[-1]}
    assert watched.profile_table is not None
    rows = {record.data["column"]: record.data for record in watched.profile_table.records}
    assert rows["email"] == {"column": "email", "nulls": "0.0 %", "distinct": 1, "min": "", "10 %": "", "median": "",
                             "90 %": "", "max": "", "most frequent": ""}  # fmt: skip
    assert rows["country"]["most frequent"] == "France 100.0 %"
    with psycopg.connect(warehouse_url) as connection:
        kept = connection.execute("SELECT profile::text FROM platform.partition_profiles").fetchall()
    told = [repr(watched), repr(drift_results(contract, watched)), json.dumps(kept)]
    assert not any(part in text for text in told for part in (SECRET, "Ada", "Lovelace"))


def test_a_warehouse_that_is_away_stops_nothing(staged: Lake, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        watched = look("postgresql://nobody@127.0.0.1:1/none", staged, DAYS)
    assert "stg_orders was not looked at for drift: " in caplog.text
    assert watched.profile_table is None
    assert {(one.rule, one.severity, one.passed, one.partition_date, one.rows_judged) for one in watched.records} == {
        (rule, "warning", False, None, 0) for rule in RULES
    }
    assert all("does not answer" in one.note for one in watched.records)
    results = shown(ORDERS, watched)
    assert results.keys() == RULES.keys()
    assert all(not one.passed and one.severity is dg.AssetCheckSeverity.WARN for one in results.values())
    assert all("does not answer" in str(one.description) for one in results.values())
    assert not any("published" in str(one.description) for one in results.values())


def test_what_could_not_be_judged_is_over_once_it_was(warehouse_url: str, staged: Lake) -> None:
    def newest() -> set[date | None]:
        with connected(warehouse_url) as connection:
            return set(newest_results(connection, since=DAYS[-1]).get_column("partition_date"))

    remember(warehouse_url, "run 1", look("postgresql://nobody@127.0.0.1:1/none", staged, DAYS).records)
    assert newest() == {None}
    remember(warehouse_url, "run 2", look(warehouse_url, staged, DAYS).records)
    assert newest() == {DAYS[-1]}
    remember(warehouse_url, "run 3", look("postgresql://nobody@127.0.0.1:1/none", staged, DAYS).records)
    assert newest() == {None, DAYS[-1]}


@pytest.mark.parametrize("broken", ["profile", "judge", "profile_table"])
def test_whatever_goes_wrong_stops_nothing_and_quotes_nothing(
    broken: str, warehouse_url: str, staged: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError(SECRET)

    monkeypatch.setattr(watching, broken, fail)
    with caplog.at_level(logging.WARNING):
        watched = look(warehouse_url, staged, DAYS)
    assert watched.unmade == "Looking at stg_orders raised KeyError."
    assert watched.unmade in caplog.text
    assert SECRET not in caplog.text + repr(watched)
    assert {one.note for one in watched.records} == {watched.unmade}


def test_a_contract_that_sets_what_is_no_kind_is_told_and_stops_nothing(warehouse_url: str, staged: Lake) -> None:
    watched = look(warehouse_url, staged, DAYS, replace(ORDERS, drift={"null_rates": 2.0}))
    assert "sets the drift of null_rates" in watched.unmade


def test_a_plot_that_cannot_be_drawn_is_left_out(
    warehouse_url: str, staged: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import vl_convert

    def fail(*_: object, **__: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(vl_convert, "vegalite_to_png", fail)
    put(staged, DAYS[-1], lines(DAYS[-1], nulls=0.6))
    odd = shown(ORDERS, look(warehouse_url, staged, DAYS))["drift_null_rate"]
    assert not odd.passed
    assert "examples" in odd.metadata
    assert "trend" not in odd.metadata
    assert "was not drawn (ValueError)" in caplog.text
    assert SECRET not in caplog.text


def test_another_s_lock_holds_up_no_run(warehouse_url: str, staged: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LOOKING_LOCK_TIMEOUT", "200ms")
    with psycopg.connect(warehouse_url) as other:
        # Were it waited for, the lock would be gone and the drift judged.
        other.execute("SET idle_in_transaction_session_timeout = '8s'")
        other.execute("LOCK TABLE platform.partition_profiles IN ACCESS EXCLUSIVE MODE")
        watched = look(warehouse_url, staged, DAYS)
        other.rollback()
    assert "LockNotAvailable" in watched.unmade


@pytest.mark.parametrize("version", [None, 0, "1", 99])
def test_profiles_of_another_form_are_made_anew(version: object, warehouse_url: str, staged: Lake) -> None:
    look(warehouse_url, staged, DAYS)
    with connected(warehouse_url) as connection:
        before = read_profiles(connection, "stg_orders")
    form: dict[str, object] = {"rows": "many"} if version is None else {"rows": "many", "version": version}
    with psycopg.connect(warehouse_url) as connection:
        connection.execute("UPDATE platform.partition_profiles SET profile = %s", [json.dumps(form)])
    with connected(warehouse_url) as connection:
        assert read_profiles(connection, "stg_orders") == {}
        assert profiled(connection, "stg_orders", DAYS) == {}
    # Of a day alone nothing can be said, as long as those before it are in another form.
    assert look(warehouse_url, staged, DAYS[-1:]).waiting == (DAYS[-1],)
    assert look(warehouse_url, staged, DAYS).days == tuple(DAYS[LEAST_PARTITIONS:])
    with connected(warehouse_url) as connection:
        assert read_profiles(connection, "stg_orders") == before


def test_what_an_older_contract_staged_waits_until_it_is_staged_anew(warehouse_url: str, staged: Lake) -> None:
    newer: Any = replace(ORDERS, key=("order_id",))
    assert newer.fingerprint() != ORDERS.fingerprint()
    assert look(warehouse_url, staged, DAYS, newer).records == []
    assert stored(warehouse_url) == {}
