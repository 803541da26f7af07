"""A shop in which a person is everywhere, commands as processes of their own, and a search that knows none of our code.

The search looks for values, as words, in every file below the home (what is packed is unpacked) and in every column of
every table of every schema of both databases, Postgres's own statistics among them.
"""

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

COMMAND = [sys.executable, "-c", "from data_platform.cli import main; main()"]
ID, MAIL, NEW_MAIL, LAST = "ada-1815", "ada@lovelace.example", "countess@lovelace.example", "Lovelace"
VALUES = (ID, MAIL, NEW_MAIL, LAST)
DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")


@dataclass(frozen=True)
class World:
    """A platform below `home`, its databases, and its environment."""

    home: Path
    warehouse: str
    dagster: str
    more: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items()
                     if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))}  # fmt: skip
        return inherited | {
            "DATA_PLATFORM_HOME": str(self.home),
            "DATA_PLATFORM_WAREHOUSE_URL": self.warehouse,
            "DATA_PLATFORM_DAGSTER_URL": self.dagster,
            "DATA_PLATFORM_SOURCES": str(self.home / "sources.yaml"),
            "DATA_PLATFORM_START_DATE": DAYS[0],
            "DATA_PLATFORM_HOLIDAYS": "DE",
            **self.more,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    def erase(self, *options: str, customer: str = ID) -> subprocess.CompletedProcess[str]:
        return self.run("erase", "--customer", customer, "--yes", *options)

    def answer(self, *options: str, customer: str = ID) -> dict[str, Any]:
        done = self.erase("--json", *options, customer=customer)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def load(self) -> None:
        done = self.run("backfill", "--from", DAYS[0], "--to", DAYS[-1])
        assert done.returncode == 0, done.stderr

    def deliver(self, entity: str, day: str, *rows: Mapping[str, Any]) -> None:
        path = self.home / "landing" / entity / f"{day}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.warehouse) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[arg-type]

    def told(self, values: Iterable[str] = VALUES) -> list[str]:
        """Where any of `values` stands."""
        words = words_of(values)
        found = [str(path.relative_to(self.home)) for path in sorted(self.home.rglob("*"))
                 if path.is_file() and words.search(_text_of(path.suffix, path.read_bytes()))]  # fmt: skip
        for url in (self.warehouse, self.dagster):
            found += _tables_that_tell(url, words)
        return found


def person(**values: Any) -> dict[str, Any]:
    row = {"customer_id": ID, "email": MAIL, "first_name": "Ada", "last_name": LAST, "segment": "retail",
           "country": "GB", "created_date": "2023-01-01", "notes": f"ask for Countess {LAST}"}  # fmt: skip
    return row | values


def line(order: str, **values: Any) -> dict[str, Any]:
    row = {"order_id": order, "line_number": 1, "customer_id": ID, "product_id": "p1", "quantity": 2,
           "unit_price": "10.00", "discount_amount": 0, "order_ts": "2024-01-01T10:00:00", "status": "",
           "ship_to": f"Ada {LAST}, London"}  # fmt: skip
    return row | values


def fill(world: World) -> None:
    """Three days of a person, of people whose names and ids are alike, and of a product whose id holds the person's."""
    charles = person(customer_id="b1", email="b@example.org", last_name="Babbage", notes="")
    others = [person(customer_id=f"{ID}5", email=f"{MAIL}.uk", last_name="Byron", notes="a namesake"), charles]
    world.deliver("customers", DAYS[0], person(), *others)
    world.deliver("customers", DAYS[1], person(email=NEW_MAIL, segment="peer"))
    world.deliver("customers", DAYS[2], person(created_date="soon"), charles | {"email": "b@example.com"})
    products = [{"product_id": "p1", "cost": "4.00"}, {"product_id": f"x{ID}", "cost": "1.00"}]
    world.deliver("products", DAYS[0], *products)
    world.deliver("orders", DAYS[0], line("o1"), line("o2", customer_id=f"{ID}5", ship_to="Byron"),
                  line("o3", product_id=f"x{ID}"))  # fmt: skip
    day = "2024-01-02T10:00:00"
    lines = [line("o4"), line("o5", quantity=-1), line("o6", quantity="two"), line("o7", customer_id=f" {ID} ")]
    world.deliver("orders", DAYS[1], *(one | {"order_ts": day} for one in lines))
    world.deliver("orders", DAYS[2], line("o8", order_ts="2024-01-03T10:00:00"), line("o4", order_ts=day, quantity=5))


def words_of(values: Iterable[str]) -> re.Pattern[str]:
    """Any of `values` as a word of its own."""
    return re.compile("|".join(rf"(?<!\w){re.escape(value)}(?!\w|\.\w)" for value in values))


def holds(suffix: str, content: bytes) -> bool:
    """Whether a file tells of the person."""
    return words_of(VALUES).search(_text_of(suffix, content)) is not None


def _text_of(suffix: str, content: bytes) -> str:
    if suffix == ".parquet" and not content.startswith(b"{"):
        frame = pl.read_parquet(io.BytesIO(content))
        return frame.write_ndjson() + str(pl.read_parquet_metadata(io.BytesIO(content)))
    if suffix == ".gz":
        content = gzip.decompress(content)
    return content.decode(errors="replace")


def _tables_that_tell(url: str, words: re.Pattern[str]) -> list[str]:
    found = []
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'm', 'v') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
            " ORDER BY 1, 2"
        ).fetchall()
        for schema, table in [*tables, ("pg_catalog", "pg_stats")]:
            rows = connection.execute(
                sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(schema, table))
            ).fetchall()
            if any(words.search(row) for (row,) in rows):
                found.append(f"{schema}.{table}")
    return found
