"""`data-platform quarantine` as people and scripts meet it, from real deliveries to the facts of a replay."""

import csv
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from data_platform.cli import app
from data_platform.commands.quarantine import replay_spans
from data_platform.contracts import STAGED
from data_platform.quality.quarantine import Waiting
from data_platform.settings import settings
from data_platform_tests.conftest import throw_away
from data_platform_tests.shop import DAY, Shop, customer, line, open_shop, product

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from data_platform.cli import main; main()"]
NEXT, BETWEEN, LAST = "2024-01-06", "2024-01-07", "2024-01-08"
UNREAD = "quantity cannot be read as integer"
NEGATIVE = "unit_price_not_negative: A price is zero or more."
PLANTED = "ada.lovelace@secret.example"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A platform of which the commands of this test are told; a warehouse that nobody answers for: none is needed."""
    nobody = "postgresql://nobody@127.0.0.1:1/none"
    told = {"HOME": tmp_path, "SOURCES": tmp_path / "sources.yaml", "WAREHOUSE_URL": nobody, "DAGSTER_URL": nobody}
    for name, value in told.items():
        monkeypatch.setenv(f"DATA_PLATFORM_{name}", str(value))
    monkeypatch.setenv("DAGSTER_HOME", str(REPOSITORY))
    settings.cache_clear()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with warnings.catch_warnings(), open_shop(tmp_path, nobody) as shop:
        yield shop
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def waiting(shop: Shop) -> Shop:
    """Two days of orders of which three rows wait."""
    shop.deliver("orders", line("o1"), line("o2", quantity="two", unit_price="-1"), line("o3", quantity="two"))
    shop.deliver("orders", line("o4", quantity="two"), day=NEXT)
    assert shop.run("raw_orders,stg_orders", DAY, NEXT).success
    return shop


@pytest.fixture
def personal(shop: Shop) -> Shop:
    """Rejected customers whose address lies in a mapped column, an unknown one, a clear one, and cannot be read."""
    shop.home.joinpath("sources.yaml").write_text("customers:\n  columns:\n    email: Mail\n")
    shop.deliver(
        "customers",
        customer("c1", Mail=PLANTED, notes=f"write to {PLANTED}", created_date="soon"),
        customer("c2", Mail=f"{PLANTED}\0", created_date=PLANTED),
        customer("c3", country=PLANTED, created_date="soon"),
    )
    assert shop.run("raw_customers,stg_customers").success
    return shop


def quarantine(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, ["quarantine", *arguments], prog_name="data-platform")


def answer(*arguments: str) -> dict[str, Any]:
    done = quarantine(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(done: Result) -> list[list[str]]:
    """The cells of a printed table."""
    return [[cell.strip() for cell in row.split("│")[1:-1]] for row in done.stdout.splitlines() if "│" in row]


def exported(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


# -- list -------------------------------------------------------------------------------------------------------------


def test_list_tells_per_delivery_how_much_waits_and_why(waiting: Shop) -> None:
    done = quarantine("list")
    assert done.exit_code == 0, done.output
    first, second = table(done)
    assert first[:4] == ["stg_orders", DAY, "2", f"2 × {UNREAD} (and 1 more)"]
    assert second[:4] == ["stg_orders", NEXT, "1", f"1 × {UNREAD}"]
    assert "3 rows wait; the oldest were delivered on 2024-01-05, " in done.stdout
    [run] = waiting.instance.get_runs()
    assert first[4:] == [run.run_id[:8], STAGED["orders"].fingerprint()]

    found = answer("list")
    assert (found["rows"], [one["day"] for one in found["deliveries"]]) == (3, [DAY, NEXT])
    assert (found["deliveries"][0]["entity"], found["deliveries"][0]["most_frequent_reason"]) == ("orders", UNREAD)
    assert found["deliveries"][0]["age_days"] == found["deliveries"][1]["age_days"] + 1
    assert answer("list", "--from", NEXT)["rows"] == 1
    assert answer("list", "--to", DAY)["rows"] == 2
    assert answer("list", "--entity", "products") == {"lake": str(waiting.home / "lake"), "rows": 0, "deliveries": []}


def test_a_quarantine_file_that_is_gone_comes_back_by_the_mend_that_is_named(waiting: Shop) -> None:
    for path in waiting.lake.root.glob(f"quarantine_orders/dt={DAY}/*.parquet"):
        path.unlink()
    for command in ("list", "show", "replay"):
        done = quarantine(command)
        assert done.exit_code == 1
        assert f"`data-platform backfill --from {DAY} --to {DAY} --select stg_orders` writes them" in done.stderr
    assert waiting.run("stg_orders").success
    assert answer("list")["rows"] == 3


@pytest.mark.parametrize("command", ["list", "show", "replay"])
def test_without_any_quarantine_it_says_so_and_makes_nothing(shop: Shop, command: str) -> None:
    done = quarantine(command)
    assert (done.exit_code, done.stdout) == (0, f"No rows wait in the quarantine of {shop.home / 'lake'}.\n")
    assert list(answer(command).values())[-1] == []
    assert not shop.lake.root.exists()


def test_a_filter_that_leaves_nothing_says_so(waiting: Shop) -> None:
    for command in ("list", "show", "replay"):
        done = quarantine(command, "--entity", "products")
        assert (done.exit_code, done.stdout[:35]) == (0, "No rows of what was asked for wait ")


def test_an_export_of_nothing_is_a_file_with_the_header_only(shop: Shop, tmp_path: Path) -> None:
    done = quarantine("export", str(tmp_path / "out.csv"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out.csv").read_text("utf-8-sig").splitlines() == [
        '"_table","_partition","_file","_row","_reasons","_run_id","_contract"'
    ]


# -- show -------------------------------------------------------------------------------------------------------------


def test_show_groups_by_reason_with_examples(waiting: Shop) -> None:
    done = quarantine("show", "--examples", "2")
    assert done.exit_code == 0, done.output
    said = done.stdout.splitlines()
    assert said[0] == f"stg_orders: {UNREAD}"
    assert said[1] == f"  3 rows, 2 days ({DAY} to {NEXT}), 2 files"
    assert said[2].startswith(f"    {DAY}, {DAY}.csv, row 2: order_id=o2, line_number=1, customer_id=c1, ")
    assert "quantity=two, unit_price=-1," in said[2]
    assert said[3] == f"      also: {NEGATIVE}"
    assert said[4].startswith(f"    {DAY}, {DAY}.csv, row 3: order_id=o3")
    assert said[5:7] == [f"stg_orders: {NEGATIVE}", f"  1 row, 1 day ({DAY}), 1 file"]

    reasons = answer("show")["reasons"]
    assert [(one["reason"], one["rows"], one["days"], one["files"]) for one in reasons] == [
        (UNREAD, 3, 2, 2), (NEGATIVE, 1, 1, 1),
    ]  # fmt: skip
    assert reasons[1]["examples"][0]["reasons"] == [UNREAD, NEGATIVE]
    assert [one["reason"] for one in answer("show", "--reason", "PRICE")["reasons"]] == [NEGATIVE]
    assert answer("show", "--from", NEXT)["reasons"][0]["rows"] == 1
    assert answer("show", "--examples", "0")["reasons"][0]["examples"] == []
    assert "No waiting row has a reason that holds 'nothing of the kind'" in (
        quarantine("show", "--reason", "nothing of the kind").stdout
    )


def test_what_was_delivered_does_not_steer_the_terminal(shop: Shop) -> None:
    shop.deliver("orders", line("\x1b[2Jo1", quantity="a\nb" + "x" * 100))
    shop.run("raw_orders,stg_orders")
    shown = quarantine("show").stdout
    assert "\x1b" not in shown
    assert "order_id=\\u001b[2Jo1" in shown
    assert f"quantity=a\\u000ab{'x' * 57}…" in shown


def test_a_planted_address_is_nowhere_but_in_the_export_in_the_clear(personal: Shop, tmp_path: Path) -> None:
    clear, masked = tmp_path / "clear.csv", tmp_path / "masked.csv"
    outputs = {
        " ".join(arguments): quarantine(*arguments)
        for command in (["list"], ["show", "--examples", "9"], ["export", str(masked), "--masked", "--force"])
        for arguments in (command, [*command, "--json"])
    }
    for arguments, done in outputs.items():
        assert done.exit_code == 0, done.output
        for word in ("lovelace", "secret", "@"):
            assert word not in done.output, arguments
    assert "Mail=•••" in outputs["show --examples 9"].stdout
    assert "notes=•••" in outputs["show --examples 9"].stdout
    assert "lovelace" not in masked.read_text("utf8")
    assert [(row["customer_id"], row["Mail"], row["notes"]) for row in exported(masked)] == [
        ("c1", "•••", "•••"), ("c2", "•••", ""), ("c3", "", ""),
    ]  # fmt: skip
    told = quarantine("export", str(clear))
    assert "They are in the clear, personal data included" in told.stderr
    assert clear.read_text("utf8").count(PLANTED) == 5
    log = personal.home / "logs" / "data-platform.log"
    assert not log.exists() or "lovelace" not in log.read_text()


# -- export -----------------------------------------------------------------------------------------------------------


def test_the_export_has_the_rows_as_delivered_with_all_that_finds_them_again(waiting: Shop, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    done = quarantine("export", str(path))
    assert (done.exit_code, done.stdout) == (0, f"3 rows in {path}.\n")
    assert path.stat().st_mode & 0o777 == 0o600
    first, _, third = exported(path)
    deliveries = answer("list")["deliveries"]
    assert first == {name: str(value) for name, value in line("o2", quantity="two", unit_price="-1").items()} | {
        "_table": "stg_orders",
        "_partition": DAY,
        "_file": f"{DAY}.csv",
        "_row": "2",
        "_reasons": f"{UNREAD} | {NEGATIVE}",
        "_run_id": deliveries[0]["run_id"],
        "_contract": deliveries[0]["contract"],
    }
    assert (third["_partition"], third["order_id"]) == (NEXT, "o4")
    found = answer("export", str(path), "--entity", "orders", "--to", DAY, "--force")
    assert found == {"path": str(path), "rows": 2, "masked": False}


def test_a_file_that_is_there_is_replaced_only_by_force(waiting: Shop, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("mine")
    path.chmod(0o644)
    done = quarantine("export", str(path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"{path} is there already: name another file, or replace it by --force.\n"
    assert path.read_text() == "mine"
    assert quarantine("export", str(path), "--force").exit_code == 0
    assert len(exported(path)) == 3
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(found.name for found in tmp_path.glob("*out*")) == ["out.csv"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("list --from 2024-01-06 --to 2024-01-05", 2, "--from 2024-01-06 is after --to 2024-01-05: swap them."),
        ("show --from soon", 2, "--from is 'soon', which is not a date: write it as YYYY-MM-DD."),
        ("replay --to 2024-02-30", 2, "--to is '2024-02-30', which is not a date"),
        ("list --from ", 2, "--from is '', which is not a date"),
        ("export {home}", 2, "{home} is a folder: name a file in it"),
        ("export {home}/nowhere/out.csv", 2, "{home}/nowhere is no folder: make it"),
        ("export /proc/out.csv", 1, "/proc/out.csv cannot be written (No such file or directory)"),
        ("list --entity suppliers", 2, ""),
        ("show --examples -1", 2, ""),
        ("export", 2, ""),
        ("release", 2, ""),
        ("", 2, ""),
    ],
)
def test_wrong_use_is_one_sentence_and_an_exit_code(waiting: Shop, arguments: str, code: int, sentence: str) -> None:
    done = quarantine(
        *[part.format(home=waiting.home) for part in arguments.split(" ") if part or "from " in arguments]
    )
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    if sentence:
        assert sentence.format(home=waiting.home) in done.stderr
        assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)


def test_days_before_the_first_partition_cannot_be_replayed(waiting: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_PLATFORM_START_DATE", NEXT)
    settings.cache_clear()
    done = quarantine("replay")
    assert done.exit_code == 2
    assert f"The first waiting day {DAY} is before the first partition, {NEXT}" in done.stderr


# -- replay -----------------------------------------------------------------------------------------------------------


class Platform:
    """A shop with databases of its own; commands run in processes of their own, as people start them."""

    def __init__(self, shop: Shop, dagster: str) -> None:
        self.shop = shop
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))}
        self.environment = kept | {
            "DATA_PLATFORM_HOME": str(shop.home),
            "DATA_PLATFORM_SOURCES": str(shop.home / "sources.yaml"),
            "DATA_PLATFORM_WAREHOUSE_URL": shop.warehouse,
            "DATA_PLATFORM_DAGSTER_URL": dagster,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *arguments], env=self.environment, cwd="/", capture_output=True, text=True)

    def json(self, *arguments: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def platform(server: str, warehouse_url: str, tmp_path: Path) -> Iterator[Platform]:
    """Four days of a shop: orders of the 5th, 6th and 8th wait, customers of the 8th, since mappings are wrong."""
    with throw_away(server) as dagster, open_shop(tmp_path, warehouse_url) as shop:
        platform = Platform(shop, dagster)
        comma = {"unit_price": "12,50"}
        shop.deliver("products", product())
        shop.deliver("orders", line("o1", **comma), line("o2", **comma))
        shop.deliver("orders", line("o3", **comma), day=NEXT)
        shop.deliver("orders", line("o4", unit_price="10"), day=BETWEEN)
        shop.deliver("orders", line("o5", **comma), line("o6", quantity="two", **comma), day=LAST)
        shop.deliver("customers", customer(created_date="05.01.2024"), day=LAST)
        platform.json("backfill", "--from", DAY, "--to", LAST)
        yield platform


def mend(shop: Shop, more: str = "") -> None:
    shop.home.joinpath("sources.yaml").write_text(
        "orders:\n  columns:\n    unit_price: {decimal: comma}\n"
        f"{more}customers:\n  columns:\n    created_date: {{format: '%d.%m.%Y'}}\n"
    )


FACTS = "SELECT order_id, delivered_on::text, total_amount::text FROM warehouse.fact_sales ORDER BY 1"


def test_what_a_mended_mapping_can_read_is_published_to_its_own_day_and_leaves_quarantine(platform: Platform) -> None:
    shop = platform.shop
    assert shop.query(FACTS) == [("o4", "2024-01-07", "20.0000")]
    untouched = lake_files(shop)[f"stg_orders/dt={BETWEEN}/part.parquet"]
    mend(shop)
    done = platform.run("quarantine", "replay")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "stg_orders: 4 of 5 rows left quarantine, 1 still waits.",
        "  1 row, 1 day: quantity cannot be read as integer",
        "stg_customers: 1 of 1 row left quarantine, 0 still wait.",
    ]
    # The day between, of which no row waits, is staged again to no effect.
    progress = [row for row in done.stderr.splitlines() if row.startswith("Staging")]
    assert progress == [f"Staging stg_orders, stg_customers again, {DAY} to {LAST}"]
    assert lake_files(shop)[f"stg_orders/dt={BETWEEN}/part.parquet"] == untouched
    assert shop.query(FACTS) == [
        ("o1", DAY, "25.0000"),
        ("o2", DAY, "25.0000"),
        ("o3", NEXT, "25.0000"),
        ("o4", "2024-01-07", "20.0000"),
        ("o5", LAST, "25.0000"),
    ]
    assert shop.query("SELECT customer_id, created_date::text FROM warehouse.dim_customer WHERE customer_key > 0") == [
        ("c1", "2024-01-05")
    ]
    assert shop.query("SELECT count(*), sum(net_sales)::text FROM marts.mart_daily_sales") == [(1, "120.0000")]

    schemas = ("warehouse", "marts")
    places = [shop.places(schema) for schema in schemas]
    files = lake_files(shop)
    again = platform.json("quarantine", "replay")
    assert again["tables"] == [{"table": "stg_orders", "rows": 1, "left": 0, "still": 1, "new": 0}]
    assert again["waiting"] == [{"table": "stg_orders", "reason": UNREAD, "rows": 1, "days": 1}]
    assert [run["succeeded"] for run in again["runs"]] == [True]
    assert [shop.places(schema) for schema in schemas] == places, "a second replay writes nothing"
    assert lake_files(shop) == files

    shop.home.joinpath("sources.yaml").write_text(
        "orders:\n  columns:\n    unit_price: {decimal: comma}\n    quantity: {constant: 2}\n"
    )
    assert platform.json("quarantine", "replay", "--entity", "orders")["waiting"] == []
    assert shop.query(FACTS)[-1] == ("o6", LAST, "25.0000")
    assert not list(shop.lake.root.glob("quarantine_*/*/*.parquet"))
    assert platform.json("quarantine", "list")["rows"] == 0


def test_a_replay_whose_delivery_is_rejected_fails_and_leaves_all_as_it_was(platform: Platform) -> None:
    shop = platform.shop
    mend(shop, more="  reject_rows: 1\n")
    before = shop.places("warehouse")
    done = platform.run("quarantine", "replay", "--from", LAST, "--entity", "orders")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "stg_orders: 0 of 2 rows left quarantine, 2 still wait."
    sentences = done.stderr.splitlines()[-2:]
    assert sentences[0].startswith(f"stg_orders {LAST}: 1 of 2 rows cannot be taken")
    assert sentences[1].startswith("What left quarantine may be staged without being published")
    assert shop.places("warehouse") == before


def test_a_mend_that_makes_it_worse_is_told(platform: Platform) -> None:
    shop = platform.shop
    shop.deliver("orders", line("o1", unit_price="12,50"), line("o2"))
    platform.json("backfill", "--from", DAY, "--to", DAY)
    mend(shop)
    found = platform.json("quarantine", "replay", "--to", DAY)
    assert found["tables"] == [{"table": "stg_orders", "rows": 1, "left": 1, "still": 0, "new": 1}]
    assert [one["rows"] for one in found["waiting"]] == [1]


def test_what_the_mend_makes_worse_on_a_day_between_is_told(platform: Platform) -> None:
    shop = platform.shop
    shop.deliver("orders", line("o4"), day=BETWEEN)  # 10.00, where the mended mapping reads commas
    platform.json("backfill", "--from", BETWEEN, "--to", BETWEEN)
    mend(shop)
    found = platform.json("quarantine", "replay", "--entity", "orders")
    assert found["tables"] == [{"table": "stg_orders", "rows": 5, "left": 4, "still": 1, "new": 1}]
    assert {one["reason"]: one["rows"] for one in found["waiting"]} == {
        UNREAD: 1, "unit_price cannot be read as numeric(18,4)": 1,
    }  # fmt: skip


def test_a_rejected_delivery_between_does_not_keep_the_others_from_being_published(platform: Platform) -> None:
    shop = platform.shop
    lines = [line(f"n{number}", quantity="two") for number in range(20)]
    shop.deliver("orders", *lines, day=BETWEEN)
    rejected = platform.run("backfill", "--from", BETWEEN, "--to", BETWEEN)
    assert "20 of 20 rows cannot be taken" in rejected.stderr
    mend(shop)
    found = platform.json("quarantine", "replay", "--entity", "orders")
    assert [run["succeeded"] for run in found["runs"]] == [True, True]
    assert [order for order, _, _ in shop.query(FACTS)] == ["o1", "o2", "o3", "o4", "o5"]


# Runs of a replay

YEAR = [date(2024, 1, 1) + timedelta(days=number) for number in range(365)]
EVERY_DAY = {contract.table: set(YEAR) for contract in STAGED.values()}


def spans(
    waits: Mapping[str, Collection[date]], standing: Mapping[str, Collection[date]] = EVERY_DAY
) -> list[tuple[date, date, tuple[str, ...]]]:
    partitions = [Waiting(entity, day, 1, Path("none")) for entity, days in waits.items() for day in days]
    return replay_spans(partitions, standing)


def test_a_year_of_tables_that_wait_on_different_days_is_one_run() -> None:
    both = ("stg_orders", "stg_customers")
    assert spans({"orders": YEAR, "customers": YEAR[::2]}) == [(YEAR[0], YEAR[-1], both)]
    assert spans({"orders": YEAR[::8], "customers": YEAR[2::8]}) == [(YEAR[0], YEAR[362], both)]


def test_a_run_goes_on_over_a_week_and_no_further() -> None:
    assert spans({"orders": [YEAR[0], YEAR[8]]}) == [(YEAR[0], YEAR[8], ("stg_orders",))]
    assert spans({"orders": [YEAR[0]], "products": [YEAR[9]]}) == [
        (YEAR[0], YEAR[0], ("stg_orders",)), (YEAR[9], YEAR[9], ("stg_products",)),
    ]  # fmt: skip


def test_a_run_does_not_go_over_a_day_that_does_not_stand_in_one_of_its_tables() -> None:
    standing = EVERY_DAY | {"stg_orders": set(YEAR) - {YEAR[2]}, "stg_customers": set(YEAR) - {YEAR[6]}}
    waits = {"orders": [YEAR[1], YEAR[3], YEAR[5], YEAR[7]], "customers": [YEAR[7]]}
    assert spans(waits, standing) == [
        (YEAR[1], YEAR[1], ("stg_orders",)),
        (YEAR[3], YEAR[7], ("stg_orders",)),
        (YEAR[7], YEAR[7], ("stg_customers",)),
    ]


def test_a_day_that_waits_and_does_not_stand_is_a_run_of_its_own() -> None:
    standing = EVERY_DAY | {"stg_orders": set(YEAR) - {YEAR[1]}}
    assert [span[:2] for span in spans({"orders": YEAR[:3]}, standing)] == [(day, day) for day in YEAR[:3]]


def lake_files(shop: Shop) -> dict[str, tuple[int, int]]:
    """Every file of the lake with its inode and time: equal if nothing was written."""
    return {
        path.relative_to(shop.lake.root).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in shop.lake.root.rglob("*.parquet")
    }
