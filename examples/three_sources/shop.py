"""A shop whose orders are behind an API, whose products are in a Postgres, and whose customers are CSV files on S3.

The data is the demo shop's: what lies in its landing files for a day is what each of the three tells of that day.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import psycopg

from data_platform.datasets.demo_shop import Rates, ShopSize, generate
from examples.three_sources import shop_api

REPOSITORY = Path(__file__).resolve().parents[2]
START, DAYS = date(2024, 1, 1), 7
CORRECTED_ON = START + timedelta(days=DAYS)
SIZE = ShopSize(customers=60, products=25, orders_per_day=60, days=DAYS)
# More happens than in a shop of that size, so that a week has some of everything.
RATES = Rates(price_changes=0.05, moves=0.02, new_products=0.02, new_customers=0.02, late=0.1, corrections=0.05,
              returns=0.1, dirt=0.01)  # fmt: skip
ENTITIES = ("orders", "products", "customers")
BUCKET, REGION = "crm", "eu-central-1"
SECRETS = {shop_api.VARIABLE: "a-token-of-the-shop", "CRM_KEY": "a-key", "CRM_SECRET": "a-secret"}
DATABASE = "SHOP_DATABASE_URL"

_SOURCES = """\
orders:
  ignore: [recorded_at]
  rest:
    url: {api}{path}
    auth: {{bearer: SHOP_API_TOKEN}}
    window: {{since: recorded_since, before: recorded_before}}
    pages: {{page: page, size: {{per_page: 50}}}}
    records: data
    count: meta.total
    retries: 8
    backoff: 0.2

products:
  ignore: [recorded_at]
  sql:
    url: SHOP_DATABASE_URL
    table: products
    window: recorded_at

customers:
  files:
    url: s3://crm/exports/{{date:%Y}}/customers-{{date:%Y%m%d}}.csv
    endpoint: {s3}
    region: eu-central-1
    credentials: {{key: CRM_KEY, secret: CRM_SECRET}}
"""

_PRODUCTS = """
    CREATE TABLE IF NOT EXISTS products (
        product_id text,
        product_name text,
        category text,
        subcategory text,
        brand text,
        unit_price numeric(18, 4),
        cost numeric(18, 4),
        updated_at timestamp,
        recorded_at timestamptz NOT NULL
    )
"""


def demo_days(landing: Path) -> dict[tuple[str, date], pl.DataFrame]:
    """A week of the demo shop, as landing files in `landing` and as frames by entity and day."""
    generate(landing, start=START, size=SIZE, rates=RATES)
    days = [START + timedelta(days=number) for number in range(DAYS)]
    return {(entity, day): pl.read_parquet(landing / entity / f"{day}.parquet") for entity in ENTITIES for day in days}


def corrections(days: Mapping[tuple[str, date], pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """What arrives on the day after: one more of an order line, a product dearer by a tenth, a customer who moved."""
    moment = pl.lit(CORRECTED_ON).cast(pl.Datetime("us")) + pl.duration(hours=9)
    line = days["orders", CORRECTED_ON - timedelta(days=1)].filter(pl.col("status") == "completed").head(1)
    product = days["products", START].filter(pl.col("product_id").is_not_null()).head(1)
    customer = days["customers", START].filter(pl.col("customer_id").is_not_null()).head(1)
    dearer = (pl.col("unit_price") * Decimal("1.1")).cast(pl.Decimal(18, 4))
    return {
        "orders": line.with_columns(quantity=pl.col("quantity") + 1, updated_at=moment),
        "products": product.with_columns(unit_price=dearer, updated_at=moment),
        "customers": customer.with_columns(country=pl.lit("Iceland"), updated_at=moment),
    }


@dataclass(frozen=True)
class Shop:
    """The three systems: the folder that the API serves and its address, a database, an S3 endpoint."""

    records: Path
    api: str
    database: str
    s3: str

    def prepare(self) -> None:
        """Make the table and the bucket."""
        self.records.mkdir(parents=True, exist_ok=True)
        with psycopg.connect(self.database) as connection:
            connection.execute(_PRODUCTS)
        self._client().create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    def sources(self) -> str:
        """The sources.yaml that reads them."""
        return _SOURCES.format(api=self.api, path=shop_api.PATH, s3=self.s3)

    def environment(self) -> dict[str, str]:
        """The variables that sources.yaml names."""
        return {**SECRETS, DATABASE: self.database}

    def record(self, entity: str, day: date, frame: pl.DataFrame) -> None:
        """Let the system of `entity` know, at noon of `day`, what the rows of `frame` tell."""
        if entity == "orders":
            rows = [{**row, "recorded_at": f"{day}T12:00:00Z"} for row in frame.iter_rows(named=True)]
            (self.records / f"{day}.jsonl").write_text("".join(f"{json.dumps(row, default=str)}\n" for row in rows))
        elif entity == "products":
            moment = f"{day}T12:00:00+00:00"
            with psycopg.connect(self.database) as connection, connection.cursor() as cursor:
                columns = sql_list([*frame.columns, "recorded_at"])
                with cursor.copy(f"COPY products ({columns}) FROM STDIN") as copy:
                    for row in frame.iter_rows():
                        copy.write_row((*row, moment))
        else:
            name = f"exports/{day:%Y}/customers-{day:%Y%m%d}.csv"
            self._client().put_object(Bucket=BUCKET, Key=name, Body=frame.write_csv().encode())

    def _client(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.s3, region_name=REGION, aws_access_key_id=SECRETS["CRM_KEY"],
            aws_secret_access_key=SECRETS["CRM_SECRET"],
        )  # fmt: skip


def sql_list(names: list[str]) -> str:
    """Names of columns, quoted."""
    return ", ".join(f'"{name}"' for name in names)


@contextmanager
def api_server(records: Path, log: Path, port: int = 0) -> Iterator[str]:
    """The API in a process of its own; gives its address. What it answers is written to `log`."""
    port = port or free_port()
    with _process(["examples.three_sources.shop_api", str(records), "--port", str(port)], port, log):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def s3_server(log: Path, port: int = 0) -> Iterator[str]:
    """An S3 (moto's) in a process of its own; gives its endpoint. What it holds ends with it."""
    port = port or free_port()
    with _process(["moto.server", "-p", str(port)], port, log):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _process(module: list[str], port: int, log: Path) -> Iterator[None]:
    if _listens(port):
        raise SystemExit(f"Something listens on port {port} already: end it first.")
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *module], cwd=REPOSITORY, env={**os.environ, **SECRETS}, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{module[0]} does not start on port {port}: see {log}.")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
