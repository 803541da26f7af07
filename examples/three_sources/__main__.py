"""Start the shop of the walkthrough (docs/walkthrough-sources.md), or let it correct itself.

`python -m examples.three_sources FOLDER` starts its API, its Postgres and its S3 with a week of data, writes
sources.yaml and env.sh into FOLDER and keeps all three up until Ctrl-C. With `--correct`, in another terminal: on the
day after the week, each of the three tells that something was different.
"""

import argparse
import contextlib
import json
import shlex
import signal
from pathlib import Path

import psycopg
import typer

from data_platform.embedded_postgres import ensure_server
from examples.three_sources.shop import (
    CORRECTED_ON,
    START,
    Shop,
    api_server,
    corrections,
    demo_days,
    s3_server,
)

API_PORT, S3_PORT = 8765, 8766


def start(folder: Path) -> None:
    """The three systems, until Ctrl-C."""
    folder.mkdir(parents=True, exist_ok=True)
    server = ensure_server(folder / "shop")
    with psycopg.connect(server.url("warehouse"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        connection.execute("CREATE DATABASE shop")
    records = folder / "shop" / "orders"
    for path in records.glob("*.jsonl"):
        path.unlink()
    with api_server(records, folder / "api.log", API_PORT) as api, s3_server(folder / "s3.log", S3_PORT) as s3:
        shop = Shop(records, api, server.url("shop"), s3)
        shop.prepare()
        days = demo_days(folder / "same_data_as_landing_files")
        for (entity, day), frame in days.items():
            shop.record(entity, day, frame)
        (folder / "sources.yaml").write_text(shop.sources())
        variables = {
            **shop.environment(),
            "DATA_PLATFORM_HOME": str(folder / "platform"),
            "DATA_PLATFORM_SOURCES": str(folder / "sources.yaml"),
            "DATA_PLATFORM_START_DATE": START.isoformat(),
        }
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        (folder / "env.sh").touch(mode=0o600)
        (folder / "env.sh").write_text("".join(lines))
        (folder / "shop.json").write_text(json.dumps([api, s3]))
        rows = {entity: sum(len(frame) for (of, _), frame in days.items() if of == entity) for entity, _ in days}
        typer.echo(f"orders     {rows['orders']:>5} lines, API at {api}")
        typer.echo(f"products   {rows['products']:>5} rows, Postgres, database shop")
        typer.echo(f"customers  {rows['customers']:>5} rows, CSV on S3 at {s3}")
        typer.echo(f"In another terminal: source {folder}/env.sh. Ctrl-C here ends the shop.")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


def correct(folder: Path) -> None:
    """The corrections, told by a shop that was started in another terminal."""
    api, s3 = json.loads((folder / "shop.json").read_text())
    shop = Shop(folder / "shop" / "orders", api, ensure_server(folder / "shop").url("shop"), s3)
    for entity, frame in corrections(demo_days(folder / "same_data_as_landing_files")).items():
        shop.record(entity, CORRECTED_ON, frame)
        typer.echo(f"{entity} tells on {CORRECTED_ON}: {frame.row(0, named=True)}")


def main() -> None:
    """What the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--correct", action="store_true")
    options = parser.parse_args()
    (correct if options.correct else start)(options.folder.resolve())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what ends it in any way ends its servers
    main()
