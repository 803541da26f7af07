"""A full delivery of a million customers becoming history: `dbt snapshot` against ours, on one server in one run.

Three deliveries: the first load, one with 5 % of the customers changed, and one that repeats it. dbt is set up as its
documentation recommends for a table without a reliable updated_at: YAML snapshot of a source, strategy `check` over
the listed columns, unique_key; no index, which it advises from ten million rows on (--dbt-index adds one). Its default
`hard_deletes: ignore` does less than a full delivery of ours, which also looks for customers that left
(--dbt-hard-deletes invalidate has it look, too). Its source table is loaded, vacuumed and analysed before its time
begins; ours begins at the landing file. Two measures:

- publish: dbt's own time for the snapshot's node, against the publish of dim_customer from staged rows in a process
  that runs already. Both have their input ready; this is the history alone.
- command: `dbt snapshot` against `dagster asset materialize` of raw_customers, stg_customers and dim_customer, each
  from start to end of its process. Ours reads, checks and stages the file as well.

No time counts unless both sides hold the same versions. Quote ratios; seconds belong to a machine.
"""

import argparse
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import polars as pl
import psycopg
from psycopg import sql

from data_platform.contracts.customers import CONTRACT, TRACKED
from data_platform.embedded_postgres import ensure_server
from data_platform.lake import Lake
from data_platform.settings import REPOSITORY, read_settings
from data_platform.warehouse.copying import copy_in, copy_out
from data_platform.warehouse.migrations import ready_warehouse
from data_platform.warehouse.publish import publish

DBT = ("dbt-core>=1.10,<1.11", "dbt-postgres>=1.9,<1.10")
START = date(2024, 1, 1)
CASES = ("first load", "changed", "unchanged")
SEGMENTS = ["new", "regular", "gold", "lapsed", "business"]
COUNTRIES = ["Austria", "Brazil", "Canada", "Denmark", "France", "Germany", "India", "Japan", "Kenya", "Norway"]
COLUMNS = ["customer_id", *TRACKED]

Times = dict[tuple[str, str], dict[str, list[float]]]


class Disagreement(Exception):
    """The two sides hold other rows."""


def main() -> int:
    """Print the table, and with --json write it; 1 if the rows do not agree."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.05, help="of the customers that change")
    parser.add_argument("--rounds", type=int, default=3, help="each on new databases; the medians are shown")
    parser.add_argument("--url", help="a server where databases may be made, instead of the embedded one")
    parser.add_argument("--home", type=Path, help="keep the embedded server here, and logs")
    parser.add_argument("--dbt-venv", type=Path, help="keep dbt's virtual environment here; made if it is not there")
    parser.add_argument("--dbt-hard-deletes", choices=("ignore", "invalidate"), default="ignore")
    parser.add_argument("--dbt-index", action="store_true", help="an index on the snapshot's customer_id")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        return _measure(options, folder)
    except Disagreement as reason:
        print(f"{reason} No time counts.", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(options: argparse.Namespace, folder: Path) -> int:
    home = options.home or folder / "home"
    admin = options.url or ensure_server(home).url("postgres")
    programs = _dbt(options.dbt_venv or folder / "dbt")
    first = customers(options.customers)
    second = changed(first, options.share)
    times: Times = defaultdict(lambda: {"dbt": [], "ours": []})
    for number in range(options.rounds):
        place = folder / f"round-{number}"
        with _databases(admin, "dbt", "command", "publish", "dagster") as urls:
            _round(place, urls, programs, [first, second, second], options, times)
        shutil.rmtree(place)
    figures = {
        "customers": options.customers,
        "changed": round(options.customers * options.share),
        "dbt": _versions(programs),
        "hard_deletes": options.dbt_hard_deletes,
        "seconds": [
            {"case": case, "measure": measure, **_medians(sides), "rounds": sides}
            for (case, measure), sides in times.items()
        ],
    }
    print(f"{options.customers:,} customers, {figures['changed']:,} changed; {figures['dbt']}; hard_deletes: "
          f"{options.dbt_hard_deletes}; medians of {options.rounds}")  # fmt: skip
    print(f"{'case':<12}{'measure':<10}{'dbt s':>8}{'ours s':>8}{'ratio':>8}")
    for row in figures["seconds"]:
        print(f"{row['case']:<12}{row['measure']:<10}{row['dbt']:>8.2f}{row['ours']:>8.2f}{row['ratio']:>8.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _medians(sides: Mapping[str, list[float]]) -> dict[str, float]:
    dbt, ours = statistics.median(sides["dbt"]), statistics.median(sides["ours"])
    return {"dbt": round(dbt, 2), "ours": round(ours, 2), "ratio": round(ours / dbt, 2)}


def customers(count: int) -> pl.DataFrame:
    """`count` customers as a source would deliver all of them, in no order of theirs."""
    number = pl.int_range(count, eager=True).sample(fraction=1, shuffle=True, seed=7)
    text = pl.col("number").cast(pl.String)
    return number.alias("number").to_frame().select(
        customer_id="C" + text.str.zfill(8),
        email="person" + text + "@example.com",
        first_name="First " + (pl.col("number") % 9973).cast(pl.String),
        last_name="Last " + (pl.col("number") % 7919).cast(pl.String),
        segment=_one_of(SEGMENTS, pl.col("number") % len(SEGMENTS)),
        country=_one_of(COUNTRIES, pl.col("number") // 7 % len(COUNTRIES)),
        created_date=pl.lit(date(2015, 1, 1)) + pl.duration(days=pl.col("number") % 3000),
    )  # fmt: skip


def changed(rows: pl.DataFrame, share: float) -> pl.DataFrame:
    """`rows` with another segment for a random `share` of the customers."""
    count = round(rows.height * share)
    chosen = (pl.int_range(rows.height, eager=True).sample(fraction=1, shuffle=True, seed=11) < count).alias("chosen")
    other = dict(zip(SEGMENTS, [*SEGMENTS[1:], SEGMENTS[0]], strict=True))
    moved = pl.when(chosen).then(pl.col("segment").replace_strict(other)).otherwise("segment")
    return rows.with_columns(segment=moved)


def _one_of(values: list[str], index: pl.Expr) -> pl.Expr:
    return index.replace_strict(dict(enumerate(values)), return_dtype=pl.String)


def _round(
    place: Path,
    urls: Mapping[str, str],
    programs: Path,
    deliveries: list[pl.DataFrame],
    options: argparse.Namespace,
    times: Times,
) -> None:
    """All three deliveries, each through dbt, through the command and through the publish alone."""
    project = _write_project(place / "dbt", urls["dbt"], options)
    environment = _environment(place, urls["command"], urls["dagster"])
    apart = Lake(place / "lake-of-publish")
    chosen = read_settings(environment | {"DATA_PLATFORM_WAREHOUSE_URL": urls["publish"]})
    ready_warehouse(chosen)
    landing = place / "landing" / "customers"
    landing.mkdir(parents=True)
    (place / "sources.yaml").write_text("customers:\n  mode: full\n")
    for number, (case, rows) in enumerate(zip(CASES, deliveries, strict=True)):
        day = START + timedelta(days=number)
        rows.write_parquet(landing / f"{day}.parquet")
        _load_source(urls["dbt"], rows)
        _settle(urls)
        command = [str(programs / "dbt"), "--quiet", "snapshot", "--project-dir", str(project),
                   "--profiles-dir", str(project)]  # fmt: skip
        secret = {"DBT_ENV_SECRET_PASSWORD": psycopg.conninfo.conninfo_to_dict(urls["dbt"]).get("password") or ""}
        times[case, "command"]["dbt"].append(_run(command, place, {**os.environ, **secret}, project))
        times[case, "publish"]["dbt"].append(_node_seconds(project))

        command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "data_platform.definitions",
                   "--select", "raw_customers,stg_customers,dim_customer", "--partition", day.isoformat()]  # fmt: skip
        times[case, "command"]["ours"].append(_run(command, place, environment, REPOSITORY))

        staged = Lake(place / "lake").path("stg_customers", day)
        target = apart.path("stg_customers", day)
        target.parent.mkdir(parents=True)
        shutil.copyfile(staged, target)
        _settle(urls)
        begin = time.perf_counter()
        publish(urls["publish"], apart, "dim_customer", run_id="benchmark", timezone=chosen.timezone)
        times[case, "publish"]["ours"].append(time.perf_counter() - begin)
    _compare(urls)


def _load_source(url: str, rows: pl.DataFrame) -> None:
    kinds = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(CONTRACT.columns[name].type_name)) for name in COLUMNS
    )
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS delivered")
        connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS delivered.customers ({})").format(kinds))
        connection.execute("TRUNCATE delivered.customers")
        copy_in(connection, "delivered.customers", rows)


def _settle(urls: Mapping[str, str]) -> None:
    # A day lies between two deliveries: vacuum, statistics and checkpoints are not anybody's work.
    for name in ("dbt", "command", "publish"):
        with psycopg.connect(urls[name], autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
            with suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute("CHECKPOINT")


def _environment(place: Path, warehouse: str, dagster: str) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))
    }
    return inherited | {
        "DAGSTER_HOME": str(REPOSITORY),
        "DATA_PLATFORM_HOME": str(place),
        "DATA_PLATFORM_WAREHOUSE_URL": warehouse,
        "DATA_PLATFORM_DAGSTER_URL": dagster,
        "DATA_PLATFORM_SOURCES": str(place / "sources.yaml"),
        "DATA_PLATFORM_START_DATE": START.isoformat(),
    }


def _run(command: list[str], place: Path, environment: Mapping[str, str], folder: Path) -> float:
    log = place / "command.log"
    with log.open("w") as out:
        begin = time.perf_counter()
        code = subprocess.run(
            command, env=dict(environment), cwd=folder, stdout=out, stderr=out, check=False
        ).returncode
        seconds = time.perf_counter() - begin
    if code:
        print(log.read_text()[-4000:], file=sys.stderr)
        raise SystemExit(f"{Path(command[0]).name} failed.")
    return seconds


# dbt


def _dbt(venv: Path) -> Path:
    """The folder of dbt's programs; makes the virtual environment where it is not there."""
    programs = venv / "bin"
    if not (programs / "dbt").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run(
            [str(programs / "python"), "-m", "pip", "--disable-pip-version-check", "-qq", "install", *DBT], check=True
        )
    return programs


def _versions(programs: Path) -> str:
    script = (
        "from importlib.metadata import version; print(*(f'{n} {version(n)}' for n in ('dbt-core', 'dbt-postgres')))"
    )
    return subprocess.run(
        [str(programs / "python"), "-c", script], check=True, capture_output=True, text=True
    ).stdout.strip()


def _write_project(project: Path, url: str, options: argparse.Namespace) -> Path:
    known = psycopg.conninfo.conninfo_to_dict(url)
    config = {
        "schema": "history",
        "unique_key": "customer_id",
        "strategy": "check",
        "check_cols": list(TRACKED),
        "hard_deletes": options.dbt_hard_deletes,
    }
    if options.dbt_index:
        config["indexes"] = [{"columns": ["customer_id"]}]
    relation = "source('delivered', 'customers')"
    # JSON is YAML.
    files = {
        "dbt_project.yml": {
            "name": "snapshot",
            "version": "1.0",
            "profile": "snapshot",
            "flags": {"send_anonymous_usage_stats": False},
        },
        "profiles.yml": {
            "snapshot": {
                "target": "bench",
                "outputs": {
                    "bench": {
                        "type": "postgres",
                        "host": known.get("host", "localhost"),
                        "port": int(known.get("port", 5432)),
                        "user": known.get("user"),
                        "password": "{{ env_var('DBT_ENV_SECRET_PASSWORD') }}",
                        "dbname": known["dbname"],
                        "schema": "history",
                        "threads": 1,
                    }
                },
            }
        },
        "models/sources.yml": {"sources": [{"name": "delivered", "tables": [{"name": "customers"}]}]},
        "snapshots/customers.yml": {
            "snapshots": [{"name": "customer_history", "relation": relation, "config": config}]
        },
        "macros/generate_schema_name.sql": "{% macro generate_schema_name(custom, node) %}{{ custom }}{% endmacro %}",
    }
    for name, content in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
    return project


def _node_seconds(project: Path) -> float:
    (node,) = json.loads((project / "target" / "run_results.json").read_text())["results"]
    return float(node["execution_time"])


# Databases


@contextmanager
def _databases(admin: str, *names: str) -> Iterator[dict[str, str]]:
    """New databases on the server of `admin`, by name; dropped at the end."""
    mark = secrets.token_hex(4)
    made = {name: f"bench_{name}_{mark}" for name in names}
    parts = urlsplit(admin)
    try:
        with psycopg.connect(admin, autocommit=True) as connection:
            for database in made.values():
                connection.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(database))
                )
        yield {name: urlunsplit(parts._replace(path=f"/{database}")) for name, database in made.items()}
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            for database in made.values():
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


@dataclass(frozen=True)
class History:
    """What a side holds: its current rows, and how many versions each customer has."""

    current: pl.DataFrame
    versions: pl.DataFrame


def _history(url: str, table: str, end: str, *, only: str = "true") -> History:
    schema = pl.Schema({name: CONTRACT.columns[name].dtype for name in COLUMNS})
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    with psycopg.connect(url) as connection:
        rows = copy_out(
            connection,
            sql.SQL("SELECT {}, {} IS NULL FROM {} WHERE {}").format(
                columns, sql.Identifier(end), sql.Identifier(*table.split(".")), sql.SQL(only)
            ),
            pl.Schema({**schema, "current": pl.Boolean()}),
        )
    return History(
        rows.filter("current").select(COLUMNS).sort("customer_id"),
        rows.group_by("customer_id").len().sort("customer_id"),
    )


def _compare(urls: Mapping[str, str]) -> None:
    theirs = _history(urls["dbt"], "history.customer_history", "dbt_valid_to")
    for side in ("command", "publish"):
        ours = _history(urls[side], "warehouse.dim_customer", "effective_to", only="customer_key <> -1")
        if not ours.current.equals(theirs.current):
            raise Disagreement(f"The current rows of dbt and of our {side} differ.")
        if not ours.versions.equals(theirs.versions):
            raise Disagreement(f"dbt and our {side} have other customers changed, or other numbers of versions.")


if __name__ == "__main__":
    sys.exit(main())
