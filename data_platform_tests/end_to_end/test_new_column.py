"""A source begins to deliver one more attribute: what `contract diff` prints is added, and history stands."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from data_platform.settings import REPOSITORY

DAYS = ("2024-01-05", "2024-01-06", "2024-01-07")
HEADER = "customer_id,email,first_name,last_name,segment,country,created_date,is_deleted,updated_at"


class Clone:
    """The platform's code in a folder of its own, where a test may edit it, and data beside it."""

    def __init__(self, root: Path, warehouse: str) -> None:
        self.root, self.warehouse = root, warehouse
        for name in ("data_platform", "sql"):
            shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "dagster.yaml", root)

    def command(self, *arguments: str, fails: bool = False) -> str:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))
        } | {
            "PYTHONPATH": str(self.root),
            "DAGSTER_HOME": str(self.root),
            "DATA_PLATFORM_HOME": str(self.root / "home"),
            "DATA_PLATFORM_WAREHOUSE_URL": self.warehouse,
            "COLUMNS": "200",
        }
        code = "from data_platform.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, cwd=self.root, capture_output=True, text=True
        )
        assert done.returncode == int(fails), done.stderr[-2000:]
        return done.stderr if fails else done.stdout

    def deliver(self, day: str, header: str, *rows: str) -> None:
        path = self.root / "home" / "landing" / "customers" / f"{day}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *rows, ""]))

    def edit(self, name: str, before: str, after: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert text.count(before) == 1, name
        path.write_text(text.replace(before, after))

    def versions(self, *columns: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.warehouse) as connection:
            return connection.execute(
                f"SELECT customer_id, effective_from::text, {', '.join(columns)} FROM warehouse.dim_customer "
                "WHERE customer_key <> -1 ORDER BY 1, 2"
            ).fetchall()


@pytest.fixture
def clone(tmp_path: Path, warehouse_url: str) -> Clone:
    return Clone(tmp_path, warehouse_url)


@pytest.mark.slow
def test_one_more_attribute_makes_no_versions_and_old_partitions_stand(clone: Clone) -> None:
    clone.deliver(DAYS[0], HEADER, "c1,a@example.org,A,B,gold,DE,2020-01-01,,", "c2,b@example.org,C,D,gold,DE,,,")
    clone.deliver(DAYS[1], HEADER, "c1,a@example.org,A,B,silver,DE,2020-01-01,,")
    clone.deliver(
        DAYS[2], f"{HEADER},LoyaltyPoints", "c1,a@example.org,A,B,silver,DE,2020-01-01,,,40",
        "c2,b@example.org,C,D,gold,DE,,,,7", "c3,c@example.org,E,F,gold,FR,,,,",
    )  # fmt: skip
    assets = ("--select", "raw_customers,stg_customers,dim_customer")
    clone.command("backfill", "--from", DAYS[0], "--to", DAYS[1], *assets)
    before = clone.versions("segment")
    assert before == [("c1", DAYS[0], "gold"), ("c1", DAYS[1], "silver"), ("c2", DAYS[0], "gold")]

    [new] = json.loads(clone.command("contract", "diff", "customers", "--date", DAYS[2], "--json"))["new"]
    assert (new["delivered"], new["name"], new["values"]) == ("LoyaltyPoints", "loyalty_points", 2)
    assert new["migration"] == 'ALTER TABLE warehouse.dim_customer ADD COLUMN "loyalty_points" integer;'
    printed = clone.command("contract", "diff", "customers", "--date", DAYS[2])
    assert f"    {new['line']}\n" in printed
    assert f"    {new['migration']}\n" in printed

    contract, created = "data_platform/contracts/customers.py", '    created_date: datetime.date = column("Day'
    line = f"    {new['line']}".replace("…", "Points of the loyalty card.")
    clone.edit(contract, created, f"{line.replace('Int', 'pl.Int32')}\n{created}")
    clone.edit(contract, "import pandera.polars as pa\n", "import pandera.polars as pa\nimport polars as pl\n")
    clone.edit(contract, '"country", "created_date")', '"country", "created_date", "loyalty_points")')
    (clone.root / "sql" / "migrations" / "9000_customers.sql").write_text(new["migration"] + "\n")
    (clone.root / "sources.yaml").write_text("customers: {columns: {loyalty_points: LoyaltyPoints}}\n")

    # What an older contract staged is never mixed with what a newer one did: it says so, and what to do.
    said = clone.command("backfill", "--from", DAYS[2], "--to", DAYS[2], *assets, fails=True)
    assert "2 partitions of stg_customers (the first is 2024-01-05) were staged by another contract" in said
    assert clone.versions("segment") == before
    clone.command("backfill", "--from", DAYS[0], "--to", DAYS[2], "--select", "stg_customers")
    clone.command("rebuild")
    after = [
        ("c1", DAYS[0], "gold", 40),
        ("c1", DAYS[1], "silver", 40),
        ("c2", DAYS[0], "gold", 7),
        ("c3", DAYS[2], "gold", None),
    ]
    assert clone.versions("segment", "loyalty_points") == after
    told = json.loads(clone.command("contract", "diff", "customers", "--date", DAYS[2], "--json"))
    assert told["new"] == []
