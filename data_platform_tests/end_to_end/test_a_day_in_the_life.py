"""A day in the life: the real daemon and webserver through a late delivery, a source that fails, a broken rule.

What a team sees from six in the morning on, in a clock that the test moves. Every part is real: Dagster's processes,
Postgres, an HTTP API, a mail server and a webhook on localhost. Whoever reads it top down reads the day.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import psycopg
import pytest

from data_platform.datasets.demo_shop import Rates, ShopSize, generate
from data_platform.embedded_postgres import ensure_server
from data_platform_tests.alerts.receivers import PASSWORD, USER, Mailbox, Receiver, http_receiver, smtp_server
from data_platform_tests.conftest import TEST_URL, throw_away
from data_platform_tests.end_to_end.moved_clock import WHY_NOT, Clock, moved_clock
from data_platform_tests.end_to_end.processes import PATIENCE_SECONDS, Processes, Run, processes
from data_platform_tests.proof.fault_pictures import Rows, rows_of
from data_platform_tests.shop import failures, open_shop
from data_platform_tests.sources.rest_server import Api, Reply, serve

FIRST, YESTERDAY, TODAY = date(2024, 3, 10), date(2024, 3, 13), date(2024, 3, 14)
SIZE = ShopSize(customers=40, products=20, orders_per_day=40, days=4)
RATES = Rates(price_changes=0.05, moves=0.03, new_products=0.03, new_customers=0.03, late=0.1, corrections=0.05,
              returns=0.1, guests=0, dirt=0)  # fmt: skip
ADDRESS = "jane.doe@planted.example"
SCHEDULES = ("daily_sales_at_six", "quality_watch_at_nine", "cleanup_at_four")
SENSORS = ("landing_files", "missing_partitions", "alerts", "default_automation_condition_sensor")
TABLES = ("dim_", "fact_", "mart_d", "mart_p", "mart_c")
A_MINUTE = timedelta(seconds=65)
# Sensors look once a minute of the clock, which may pass as soon as nobody works.
HURRY_SECONDS = 8
T = TypeVar("T")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or ""),
    pytest.mark.skipif(TEST_URL in os.environ, reason=f"its Postgres is the embedded one: it runs without {TEST_URL}"),
]


@dataclass
class Day:
    """The platform and the world around it."""

    platform: Processes
    clock: Clock
    api: Api
    receiver: Receiver
    mailbox: Mailbox
    landing: Path
    aside: Path  # what is delivered in the course of the day
    seen: set[str] = field(default_factory=set)  # runs that were waited for

    @property
    def warehouse(self) -> str:
        return ensure_server(self.platform.home).url("warehouse")

    def at(self, hour: int, day: date = TODAY) -> None:
        """Let it be that hour, as soon as nobody works: how long a run may take to start is by the clock."""
        self.platform.wait_for("all runs", lambda: all(run.is_over for run in self.platform.runs()))
        self.clock.move_to(datetime.combine(day, time(hour), UTC))

    def deliver(self, frame: pl.DataFrame, entity: str) -> None:
        """Put the delivery of yesterday into the landing folder, in place of the one that is there."""
        path = self.landing / entity / f"{YESTERDAY}.parquet"
        aside = path.with_name(f".{path.name}")
        frame.write_parquet(aside)
        self.clock.stamp(aside)
        aside.replace(path)

    def aside_of(self, entity: str) -> pl.DataFrame:
        """What is to be delivered of yesterday."""
        return pl.read_parquet(self.aside / entity / f"{YESTERDAY}.parquet")

    def in_time(self, what: str, look: Callable[[], T]) -> T:
        """What `look` gives once it is true, while minutes pass whenever no run is at work."""
        polls = 0

        def looked() -> T:
            nonlocal polls
            polls += 1
            found = look()
            if not found and polls % (2 * HURRY_SECONDS) == 0 and all(run.is_over for run in self.platform.runs()):
                self.clock.forward(A_MINUTE)
            return found

        return self.platform.wait_for(what, looked, PATIENCE_SECONDS)

    def run_of(self, status: str, **tag: str) -> Run:
        """The next run of that schedule or sensor, when it is over; it must end with `status`."""
        wanted = {f"dagster/{name}": value for name, value in tag.items()}

        def ended() -> list[Run]:
            new = [run for run in self.platform.runs() if run.run_id not in self.seen]
            return [run for run in new if run.is_over and wanted.items() <= run.tags.items()]

        # The scheduler sleeps a minute of its own, whatever the clock does.
        wait = self.platform.wait_for if "schedule_name" in tag else self.in_time
        found = wait(f"a run of {tag}", ended)[0]
        self.seen.add(found.run_id)
        assert found.status == status, self.platform.tails()
        return found

    def told(self, event: str, *keys: str) -> list[dict[str, Any]]:
        """What the webhook was told, `event` of each of the `keys`, once it was told of all."""

        def found() -> list[dict[str, Any]]:
            ours = [one for one in self.receiver.posted if one["event"] == event and one["key"] in keys]
            return ours if {one["key"] for one in ours} == set(keys) else []

        return self.in_time(f"{event} of {keys}", found)

    def published(self) -> Rows:
        return published(self.warehouse)

    def events(self, run: Run, kind: str) -> list[str]:
        """The steps of a run that had an event of that kind, in order."""
        with psycopg.connect(ensure_server(self.platform.home).url("dagster")) as connection:
            query = "SELECT step_key FROM event_logs WHERE run_id = %s AND dagster_event_type = %s ORDER BY id"
            return [step for (step,) in connection.execute(query, [run.run_id, kind]).fetchall()]


def published(url: str) -> Rows:
    """All rows of dimensions, facts and marts, without surrogate keys and created_at."""
    rows = rows_of(url)
    return Rows({row: count for row, count in rows.items() if row[0].startswith(TABLES)})


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    """The shop at ten minutes to six: three days are loaded, nothing of yesterday has come."""
    home, aside = tmp_path / "home", tmp_path / "aside"
    landing = home / "landing"
    generate(aside, start=FIRST, size=SIZE, rates=RATES)
    for entity in ("orders", "products"):
        shutil.copytree(aside / entity, landing / entity)
        (landing / entity / f"{YESTERDAY}.parquet").unlink()
    with ExitStack() as stack:
        clock = stack.enter_context(moved_clock(datetime.combine(TODAY, time(5, 50), UTC)))
        for path in landing.rglob("*.parquet"):
            clock.stamp(path)
        receiver, mailbox = stack.enter_context(http_receiver()), stack.enter_context(smtp_server(tmp_path))
        api = stack.enter_context(serve(Api()))
        api.records = [customer for path in sorted((aside / "customers").iterdir()) for customer in told_by_api(path)]
        (home / "sources.yaml").write_text(sources(api.url))
        environment = clock.environment | {
            "DATA_PLATFORM_START_DATE": str(FIRST),
            "DATA_PLATFORM_SOURCES": str(home / "sources.yaml"),
            "DATA_PLATFORM_ALERTS": str(home / "alerts.yaml"),
            "DATA_PLATFORM_RETRY_DELAY": "1",
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
            "HOOK_URL": receiver.url,
            "SMTP_USER": USER,
            "SMTP_PASSWORD": PASSWORD,
        }
        platform = stack.enter_context(processes(home, environment))
        (home / "alerts.yaml").write_text(alerts(platform.url, mailbox.port))
        platform.command("backfill", "--from", str(FIRST), "--to", str(YESTERDAY - timedelta(days=1)))
        day = Day(platform, clock, api, receiver, mailbox, landing, aside)
        day.seen.update(run.run_id for run in platform.runs())
        platform.switch_on(schedules=SCHEDULES, sensors=SENSORS)
        for name in ("alerts", "landing_files"):
            day.in_time(f"the first look of {name}", lambda name=name: platform.ticks(name))  # type: ignore[misc]
        yield day


def told_by_api(path: Path) -> Iterator[dict[str, Any]]:
    """The customers of a day as the API tells them: they changed at noon."""
    for row in pl.read_parquet(path).iter_rows(named=True):
        yield {**{name: None if value is None else str(value) for name, value in row.items()},
               "updated_at": f"{path.stem}T12:00:00Z"}  # fmt: skip


def sources(api: str) -> str:
    return f"""
customers:
  rest:
    url: {api}/customers
    window: {{since: updated_since, before: updated_before}}
    pages: {{page: page, size: {{per_page: 100}}}}
    records: data
    retries: 0
"""


def alerts(ui: str, port: int) -> str:
    return f"""
ui: {ui}
channels:
  hook: {{webhook: {{url: HOOK_URL}}, severity: warning}}
  on_call:
    email: {{host: 127.0.0.1, port: {port}, user: SMTP_USER, password: SMTP_PASSWORD,
            sender: platform@shop.example, to: [on-call@shop.example]}}
    severity: warning
"""


def test_a_day_in_the_life(day: Day, server: str, template: str, tmp_path: Path) -> None:
    platform, orders = day.platform, day.aside_of("orders")
    with psycopg.connect(day.warehouse) as connection:
        [moment] = connection.execute("SELECT now()").fetchone() or [None]
    assert abs(moment - day.clock.now()) < timedelta(minutes=1), "Postgres lives in the same time"

    # Six o'clock: the schedule fires. No file has come, and the customers' API fails twice.
    asked = len(day.api.requests)
    day.api.instead += [Reply({"error": "something went wrong"}, status=500)] * 2
    day.at(6)
    morning = day.run_of("SUCCESS", schedule_name="daily_sales_at_six")
    assert (morning.job, morning.day) == ("daily_sales", str(YESTERDAY))
    assert day.events(morning, "STEP_UP_FOR_RETRY") == ["raw_customers"] * 2
    assert len(day.api.requests) - asked >= 3
    assert not [one for one in day.receiver.posted if one["kind"] == "run_failed"], "what passed by itself is not told"

    # Nine o'clock: the watch misses yesterday's orders, and says so.
    day.at(9)
    day.run_of("SUCCESS", schedule_name="quality_watch_at_nine")
    overdue = "delivery_overdue/raw_orders/yesterday_is_delivered"
    [message] = day.told("opened", overdue)
    assert message["severity"] == "critical"

    # Ten o'clock: the files arrive late, and the sensor runs what arrived. With them the overdue delivery is over.
    day.at(10)
    day.deliver(day.aside_of("products"), "products")
    day.deliver(orders, "orders")
    day.clock.forward(A_MINUTE)
    late = day.run_of("SUCCESS", sensor_name="landing_files")
    assert late.day == str(YESTERDAY)
    before = day.published()
    assert facts_of(day.warehouse, YESTERDAY) > 0
    day.told("recovered", overdue)

    # Noon: the file is replaced by one in which a third of the prices break a critical rule. It is rejected as a
    # whole, what was published stands, and who is on call is told by webhook and by mail.
    day.at(12)
    day.deliver(broken(orders), "orders")
    day.clock.forward(A_MINUTE)
    bad = day.run_of("FAILURE", sensor_name="landing_files")
    rule = "check_failed/stg_orders/unit_price_not_negative"
    told = {one["kind"]: one for one in day.in_time("what broke", lambda: broke(day, bad, rule))}
    assert "Examples, masked:" in told["check_failed"]["detail"]
    assert str(YESTERDAY) in told["check_failed"]["where"]
    assert told["run_failed"]["url"] == f"{platform.url}/runs/{bad.run_id}"
    mails = day.in_time("the mails", lambda: [mail for mail in day.mailbox.mails if bad.run_id in mail.get_content()])
    said = day.receiver.texts() + "".join(mail.as_string() + mail.get_content() for mail in mails)
    assert "jane.doe" not in said
    assert "planted" not in said
    assert day.published() == before
    failed = told["run_failed"]["key"]

    # Two o'clock: the mended file, with a correction, replays. All that was told is told to be over.
    day.at(14)
    day.deliver(corrected(orders), "orders")
    day.clock.forward(A_MINUTE)
    day.run_of("SUCCESS", sensor_name="landing_files")
    day.told("recovered", failed, rule)
    changed = day.published() - before
    assert sum(count for (table, _), count in changed.items() if table == "fact_sales") == 1

    # In the evening nothing is missing. At night it is cleaned up: what people read stays as it is.
    assert json.loads(platform.command("gaps", "--json"))["fill"] == []
    before = day.published()
    day.at(4, TODAY + timedelta(days=1))
    day.run_of("SUCCESS", schedule_name="cleanup_at_four")
    assert day.published() == before

    # And all is well: nothing is open, nothing waits, nothing failed but what was told.
    day.in_time("all alerts to be over", lambda: not open_alerts(day.warehouse))
    waiting = json.loads(platform.command("status", "--json"))["waiting"]
    assert not any(days for steps in waiting.values() for days in steps.values()), waiting
    assert all(run.status == "SUCCESS" for run in platform.runs() if run.run_id != bad.run_id)

    # And the tables are those of one clean run over the same deliveries.
    with throw_away(server, template) as url, open_shop(tmp_path / "clean", url) as clean:
        shutil.copytree(day.landing, clean.home / "landing")
        (clean.home / "sources.yaml").write_text(sources(day.api.url))
        result = clean.run(first=str(FIRST), last=str(YESTERDAY))
        assert result.success, failures(result)
        assert day.published() == published(url)


def broke(day: Day, run: Run, rule: str) -> list[dict[str, Any]]:
    """The failed run and the failed rule, as they were told; empty until both are."""
    opened = [one for one in day.receiver.posted if one["event"] == "opened"]
    found = [one for one in opened if one["key"] == rule]
    found += [one for one in opened if one["kind"] == "run_failed" and one["run_id"] == run.run_id]
    return found if {one["kind"] for one in found} == {"run_failed", "check_failed"} else []


def broken(orders: pl.DataFrame) -> pl.DataFrame:
    """A third of the prices are below zero, in lines of a customer whose id is an address."""
    third = pl.int_range(pl.len()) % 3 == 0
    return orders.with_columns(
        unit_price=pl.when(third).then(-pl.col("unit_price")).otherwise("unit_price").cast(orders.schema["unit_price"]),
        customer_id=pl.when(third).then(pl.lit(ADDRESS)).otherwise("customer_id"),
    )


def corrected(orders: pl.DataFrame) -> pl.DataFrame:
    """One more of the first line that was sold."""
    sold = (pl.col("quantity") > 0) & (pl.col("status") == "completed")
    first = pl.int_range(pl.len()) == orders.select(sold.arg_max()).item()
    return orders.with_columns(quantity=pl.when(first).then(pl.col("quantity") + 1).otherwise("quantity"))


def facts_of(url: str, day: date) -> int:
    with psycopg.connect(url) as connection:
        query = "SELECT count(*) FROM warehouse.fact_sales WHERE delivered_on = %s"
        found = connection.execute(query, [day]).fetchone()
    assert found is not None
    return int(found[0])


def open_alerts(url: str) -> list[tuple[str]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT key FROM platform.alerts WHERE closed_at IS NULL").fetchall()
