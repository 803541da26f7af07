"""The commands of the compose file, on localhost, on the files that the image holds and no others.

No container engine is needed, and none is tested: paths and ports of containers are replaced by those of the test.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from data_platform_tests.conftest import throw_away
from data_platform_tests.deployment.files import compose, copy_image, interpolated, stages

DAY = "2024-01-05"
PATIENCE_SECONDS = 180
LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""


@dataclass
class Machine:
    """A machine on which the image is unpacked below `root`; `user` None: whoever runs the tests."""

    root: Path
    prefix: Path
    user: int | None
    warehouse: str
    dagster: str
    ports: dict[str, str] = field(default_factory=lambda: {port: free_port() for port in ("3000", "4000")})
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def code(self) -> Path:
        return self.root / "opt" / "data-platform"

    def here(self, text: str) -> str:
        """A path, port or host of a container as it is here."""
        for path in ("/var/lib/data-platform", "/etc/data-platform", "/opt/data-platform", "/run/secrets", "/landing"):
            if text.startswith(path):
                return str(self.root) + text
        if text.startswith("/opt/venv"):
            return text.replace("/opt/venv", str(self.prefix))
        return (
            text.replace("127.0.0.1:3000", f"127.0.0.1:{self.ports['3000']}")
            if ":3000" in text
            else self.ports.get(text, text)
        )

    def environment(self, service: str) -> dict[str, str]:
        image = stages()[-1].environment
        told = interpolated(compose()["services"][service]["environment"], {})
        ours = {name: self.here(value) for name, value in (image | told).items() if name != "PATH"}
        path = ":".join(map(self.here, image["PATH"].split(":")))
        return ours | {
            "PATH": path,
            "PYTHONPATH": str(self.code),
            "TMPDIR": str(self.root / "tmp"),
            "DATA_PLATFORM_DAGSTER_URL": self.dagster,  # the databases of tests are several on one server
        }

    def start(self, service: str, command: list[str]) -> subprocess.Popen[bytes]:
        as_other = {"user": self.user, "group": self.user, "extra_groups": []} if self.user is not None else {}
        environment = self.environment(service)
        program = shutil.which(command[0], path=environment["PATH"])
        assert program, f"{service}: the image has no {command[0]}"
        with (self.root / f"{service}.log").open("ab") as log:
            return subprocess.Popen(
                [program, *map(self.here, command[1:])], env=environment, cwd=self.code,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **as_other,
            )  # fmt: skip

    def run(self, service: str, command: list[str]) -> int:
        return self.start(service, command).wait(120)

    def up(self, service: str) -> None:
        self.running[service] = self.start(service, compose()["services"][service]["command"])

    def is_healthy(self, service: str) -> bool:
        assert self.running[service].poll() is None, self.log(service)
        check = compose()["services"][service].get("healthcheck")
        return self.run(service, check["test"][1:] if check else stages()[-1].healthcheck) == 0

    def log(self, service: str) -> str:
        return (self.root / f"{service}.log").read_text()[-3000:]

    def down(self) -> dict[str, int | None]:
        """Ask every service to end, as `docker compose stop` does; what each one ended by."""
        for process in self.running.values():
            process.terminate()
        ended: dict[str, int | None] = {}
        for service, process in self.running.items():
            try:
                ended[service] = process.wait(60)
            except subprocess.TimeoutExpired:
                ended[service] = None
        for process in self.running.values():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return ended


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def open_to_others(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))


@pytest.fixture
def machine(server: str) -> Iterator[Machine]:
    user = int(stages()[-1].user.partition(":")[0])
    # The user of the image where it may be taken on and can reach Python (not one below /root), else the tests' own.
    reached = all(map(open_to_others, (Path(sys.prefix), Path(sys.executable).resolve(), Path(tempfile.gettempdir()))))
    root = Path(tempfile.mkdtemp(prefix="image-"))
    root.chmod(0o755)
    try:
        with throw_away(server) as warehouse, throw_away(server) as dagster:
            yield make_machine(
                root, Path(sys.prefix), user if os.geteuid() == 0 and reached else None, warehouse, dagster
            )
    finally:
        shutil.rmtree(root)


def make_machine(root: Path, prefix: Path, user: int | None, warehouse: str, dagster: str) -> Machine:
    machine = Machine(root, prefix, user, warehouse, dagster)
    copy_image(root)
    workspace = machine.code / "deploy" / "workspace.yaml"
    text = workspace.read_text()
    assert "host: code\n" in text
    workspace.write_text(text.replace("host: code\n", "host: 127.0.0.1\n").replace("4000", machine.ports["4000"]))
    for folder in ("landing/orders", "run/secrets", "etc/data-platform"):
        (root / folder).mkdir(parents=True)
    order = "order_id,line_number,product_id,quantity,unit_price,order_ts\no1,1,p1,1,2.50,2024-01-05 10:00:00\n"
    (root / "landing" / "orders" / f"{DAY}.csv").write_text(order)
    (root / "run" / "secrets" / "warehouse_url").write_text(warehouse + "\n")
    for folder in ("var/lib/data-platform", "tmp"):
        (root / folder).mkdir(parents=True)
        if user is not None:
            os.chown(root / folder, user, user)
    for path in machine.code.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    machine.code.chmod(0o555)
    return machine


def wait_for(what: Callable[[], bool], log: Callable[[], str]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < until, log()
        time.sleep(1)


def ask(machine: Machine, query: str, **variables: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{machine.ports['3000']}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


def launch(machine: Machine) -> str:
    """Launch daily_sales for the day, as the UI does; the run's id."""
    tags = {"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": DAY}
    job = {"repositoryLocationName": "data_platform", "repositoryName": "__repository__", "jobName": "daily_sales"}
    told = [{"key": key, "value": value} for key, value in tags.items()]
    answer = ask(machine, LAUNCH, params={"selector": job, "executionMetadata": {"tags": told}})["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


def status(machine: Machine, run: str) -> str:
    query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
    return str(ask(machine, query, id=run)["runOrError"]["status"])


@pytest.mark.slow
def test_the_services_of_the_compose_file_start_are_healthy_and_run_a_day(machine: Machine) -> None:
    walk(machine)


def walk(machine: Machine) -> None:
    """Every service from start to stop, and a run launched through them."""
    try:
        assert machine.run("migrate", compose()["services"]["migrate"]["command"]) == 0, machine.log("migrate")
        for service in ("code", "webserver", "daemon"):
            machine.up(service)
            wait_for(lambda service=service: machine.is_healthy(service), lambda service=service: machine.log(service))
        run = launch(machine)
        wait_for(
            lambda: status(machine, run) not in ("QUEUED", "NOT_STARTED", "STARTING", "STARTED"),
            lambda: machine.log("daemon") + machine.log("code"),
        )
        assert status(machine, run) == "SUCCESS", machine.log("code")
        with psycopg.connect(machine.warehouse) as connection:
            assert connection.execute("SELECT count(*) FROM warehouse.fact_sales").fetchone() == (1,)
        assert machine.run("code", ["data-platform", "status", "--json"]) == 0, machine.log("code")
        assert machine.run("code", ["data-platform", "rebuild", "--verify"]) == 0, machine.log("code")
    finally:
        ended = machine.down()
    assert None not in ended.values(), ended
    if machine.user is not None:
        written = [path for path in machine.code.rglob("*") if path.stat().st_uid == machine.user]
        assert written == [], written
