"""No password reaches what people or programs read: one of its own in every setting that takes one, and failures.

Looked through are standard output and error, every file below the home (logs, what steps print, archives), and every
table of Dagster's and of the platform's database, for each password as it is, as URLs, JSON and HTTP write it.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit

import psycopg
import pytest
from psycopg import sql

from data_platform_tests.conftest import throw_away
from data_platform_tests.shop import customer, line, open_shop, product

COMMAND = [sys.executable, "-c", "from data_platform.cli import main; main()"]
NOWHERE = "127.0.0.1:1"
DAY = "2024-01-05"
RUN = ("backfill", "--from", DAY, "--to", DAY)


def secret(name: str) -> str:
    """A password that must be encoded to stand in a URL."""
    return f"geh/eim {name}+w@rt%ü"


def forms(password: str) -> set[bytes]:
    """How a password may be written."""
    texts = {password, quote(password), quote(password, safe=""), quote_plus(password), json.dumps(password)[1:-1]}
    texts |= {text.lower() for text in texts} | {repr(password)[1:-1]}
    texts |= {password.partition("@")[2]} - {""}  # what is behind an @ may be taken for the host
    return {text.encode() for text in texts} | {base64.b64encode(password.encode()), password.encode("latin-1")}


def url(name: str, place: str, user: str = "loader") -> str:
    return f"postgresql://{user}:{quote(secret(name), safe='')}@{place}"


class Planted:
    """A platform whose settings hold passwords, real databases, and what its commands have said."""

    def __init__(self, home: Path, warehouse: str, dagster: str) -> None:
        self.home, self.warehouse, self.dagster, self.said = home, warehouse, dagster, ""
        inherited = {name: value for name, value in os.environ.items()
                     if not name.startswith(("DATA_PLATFORM_", "DAGSTER_", "AWS_"))}  # fmt: skip
        self.environment = inherited | {
            "DATA_PLATFORM_HOME": str(home),
            "DATA_PLATFORM_SOURCES": str(home / "sources.yaml"),
            "DATA_PLATFORM_ALERTS": str(home / "alerts.yaml"),
            "DATA_PLATFORM_WAREHOUSE_URL": warehouse,
            "DATA_PLATFORM_DAGSTER_URL": dagster,
            "DATA_PLATFORM_RETRY_DELAY": "0",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.planted = ["w", "d", "key", "endpoint", "api", "sql", "smtp", "hook"]

    def fails(self, *arguments: str, **environment: str) -> None:
        done = subprocess.run(
            [*COMMAND, *arguments], env=self.environment | environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode in (1, 2), (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, (arguments, done.stderr)
        self.said += done.stdout + done.stderr

    def leaks(self) -> list[str]:
        """The places that hold a password, and whose."""
        passwords = {name: secret(name) for name in self.planted}
        passwords |= {"the server's": urlsplit(self.warehouse).password or "-"}
        texts = {"said": self.said.encode()}
        configured = {self.home / name for name in ("sources.yaml", "alerts.yaml")}
        texts |= {str(path): path.read_bytes() for path in self.home.rglob("*")
                  if path.is_file() and path not in configured}  # fmt: skip
        for place in (self.warehouse, self.dagster):
            texts |= tables(place)
        return [f"{where}: {name}" for where, text in texts.items() for name, password in passwords.items()
                if len(password) > 1 and any(form in text for form in forms(password))]  # fmt: skip


def tables(place: str) -> dict[str, bytes]:
    with psycopg.connect(place) as connection:
        names = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('platform', 'public')"
        ).fetchall()
        return {
            f"{schema}.{table}": "\n".join(
                row
                for (row,) in connection.execute(
                    sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(schema, table))
                )
            ).encode()
            for schema, table in names
        }


@pytest.fixture
def planted(server: str, warehouse_url: str, tmp_path: Path) -> Iterator[Planted]:
    with throw_away(server) as dagster, open_shop(tmp_path / "home", warehouse_url) as shop:
        shop.deliver("orders", line("o1"))
        shop.deliver("products", product())
        shop.deliver("customers", customer())
        yield Planted(shop.home, warehouse_url, dagster)


def test_a_planted_password_is_found_where_it_is(planted: Planted) -> None:
    (planted.home / "leak.log").write_text(f"cannot connect to {url('w', NOWHERE)}")
    planted.said = f"bad {json.dumps(secret('api'))}"
    assert planted.leaks() == ["said: api", f"{planted.home / 'leak.log'}: w"]


def test_no_password_of_a_database_is_told_whatever_is_wrong_with_it(planted: Planted) -> None:
    place = urlsplit(planted.warehouse).netloc.rpartition("@")[2]
    for wrong in (
        url("w", f"{NOWHERE}/shop"),
        url("w", f"{place}/postgres", user="nobody"),
        f"postgresql://loader:{secret('w')}@{NOWHERE}/shop",
        f"postgresql://{NOWHERE}/shop?user=loader&password={quote(secret('w'), safe='')}",
    ):
        planted.fails("status", DATA_PLATFORM_WAREHOUSE_URL=wrong)
    planted.fails(*RUN, DATA_PLATFORM_WAREHOUSE_URL=url("w", f"{NOWHERE}/shop"))
    planted.fails("alerts", "check", DATA_PLATFORM_WAREHOUSE_URL=url("w", f"{NOWHERE}/shop"))
    for wrong in (
        url("d", f"{NOWHERE}/dagster"),
        f"postgresql://loader:{secret('d')}@{NOWHERE}/dagster",
        f"postgresql://{NOWHERE}/dagster?user=loader&password={quote(secret('d'), safe='')}",
    ):
        planted.fails(*RUN, DATA_PLATFORM_DAGSTER_URL=wrong)
    assert planted.leaks() == []


def test_no_key_of_a_bucket_is_told_when_it_cannot_be_reached(planted: Planted) -> None:
    endpoint = f"http://user:{quote(secret('endpoint'), safe='')}@{NOWHERE}"
    aws = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": secret("key"), "AWS_ENDPOINT_URL": endpoint}
    planted.fails(*RUN, DATA_PLATFORM_LAKE_URL="s3://lake/data", **aws)
    planted.fails(*RUN, DATA_PLATFORM_LANDING_URL="s3://landing", **aws)
    password = quote(secret("key"), safe="")
    planted.fails(*RUN, DATA_PLATFORM_LAKE_URL=f"s3://key:{password}@lake/data", **aws)
    planted.fails(
        "source", "test", "orders", "--date", DAY, DATA_PLATFORM_LANDING_URL=f"s3://key:{password}@landing", **aws
    )
    assert planted.leaks() == []


def test_no_password_of_a_source_is_told_when_it_cannot_be_asked(planted: Planted) -> None:
    (planted.home / "sources.yaml").write_text(
        f"orders:\n  rest: {{url: 'http://{NOWHERE}/orders', auth: {{bearer: API_TOKEN}}, retries: 0}}\n"
        "customers:\n  sql: {url: SHOP_URL, table: customers, window: updated_at}\n"
    )
    token = secret("api").replace("ü", "u")
    planted.environment |= {"API_TOKEN": token, "SHOP_URL": url("sql", f"{NOWHERE}/shop")}
    planted.fails(*RUN)
    place = urlsplit(planted.warehouse).netloc.rpartition("@")[2]
    planted.fails(*RUN, SHOP_URL=url("sql", f"{place}/postgres", user="nobody"))
    unencoded = f"postgresql://me:{secret('sql')}@{NOWHERE}/shop"
    planted.fails("source", "test", "customers", "--date", DAY, SHOP_URL=unencoded)
    assert planted.leaks() == []


def test_no_password_of_a_channel_is_told_when_it_cannot_be_reached(planted: Planted) -> None:
    (planted.home / "alerts.yaml").write_text(
        "channels:\n"
        "  mail:\n    email: {host: 127.0.0.1, port: 1, security: none, user: SMTP_USER, password: SMTP_PASSWORD,\n"
        "      sender: a@example.org, to: [b@example.org]}\n"
        "  chat: {slack: {url: CHAT_URL}}\n"
        "  hook: {webhook: {url: CHAT_URL, headers: {Authorization: TOKEN}}}\n"
    )
    planted.environment |= {
        "SMTP_USER": "me",
        "SMTP_PASSWORD": secret("smtp"),
        "CHAT_URL": f"http://{NOWHERE}/{quote(secret('hook'), safe='')}",
        "TOKEN": secret("hook").replace("ü", "u"),
    }
    planted.fails("alerts", "test")
    assert planted.leaks() == []
