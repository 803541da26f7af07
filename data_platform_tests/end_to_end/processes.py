"""A platform with the processes that it has in earnest: a code server, a webserver, a daemon, and the command line.

They are driven as a user drives them: by the webserver's GraphQL and by `data-platform`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

REPOSITORY = Path(__file__).resolve().parents[2]
LOCATION = "data_platform"
SELECTOR = {"repositoryName": "__repository__", "repositoryLocationName": LOCATION}
PATIENCE_SECONDS = 180.0
TAIL = 4000
T = TypeVar("T")

_WORKSPACE = """\
load_from:
  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: {location}}}
"""
_SWITCH_ON = {
    "schedule": """
        mutation ($selector: ScheduleSelector!) {
            startSchedule(scheduleSelector: $selector) { __typename ... on PythonError { message } }
        }
    """,
    "sensor": """
        mutation ($selector: SensorSelector!) {
            startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
        }
    """,
}
_RUNS = """
    query {
        runsOrError(limit: 1000) {
            ... on Runs { results { runId status jobName tags { key value } } }
            ... on PythonError { message }
        }
    }
"""
_TICKS = """
    query ($selector: SensorSelector!) {
        sensorOrError(sensorSelector: $selector) {
            ... on Sensor { sensorState { ticks(limit: 20) { status timestamp runIds skipReason error { message } } } }
        }
    }
"""


@dataclass(frozen=True)
class Run:
    """A run as the UI lists it."""

    run_id: str
    status: str
    job: str
    tags: Mapping[str, str]

    @property
    def day(self) -> str:
        """The partition, or the first of the range."""
        return self.tags.get("dagster/partition") or self.tags.get("dagster/asset_partition_range_start", "")

    @property
    def is_over(self) -> bool:
        return self.status in ("SUCCESS", "FAILURE", "CANCELED")


@dataclass
class Processes:
    """The processes by name, and where they log: `home`/logs/NAME.log."""

    home: Path
    environment: dict[str, str]
    url: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> None:
        """Start a program of .venv in a group of its own: what it starts ends with it."""
        log = self.home / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        program = Path(sys.executable).with_name(command[0])
        with log.open("ab") as output:
            self.running[name] = subprocess.Popen(
                [program, *command[1:]], env=self.environment, cwd=REPOSITORY,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def stop(self, name: str) -> None:
        """End it and all that it started; killed where a kind request is not heard."""
        process = self.running.pop(name)
        for number, patience in ((signal.SIGINT, 20), (signal.SIGKILL, 20)):
            try:
                os.killpg(process.pid, number)
                process.wait(timeout=patience)
            except ProcessLookupError:
                process.wait(timeout=patience)
            except subprocess.TimeoutExpired:
                continue
        # Children of a process that ended first.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def tails(self) -> str:
        """The last words of every process."""
        logs = sorted((self.home / "logs").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-TAIL:]}" for log in logs)

    def wait_for(self, what: str, look: Callable[[], T], patience: float = PATIENCE_SECONDS) -> T:
        """What `look` gives once it is true; fails with the logs' tails where that takes longer than `patience`."""
        until = time.monotonic() + patience
        while not (found := look()):
            gone = [name for name, process in self.running.items() if process.poll() is not None]
            assert not gone, f"{gone} ended\n{self.tails()}"
            assert time.monotonic() < until, f"waited {patience:.0f} s for {what}\n{self.tails()}"
            time.sleep(0.5)
        return found

    def command(self, *arguments: str, expect: int | None = 0) -> str:
        """What `data-platform …` prints; its exit code must be `expect` where that is not None."""
        done = subprocess.run(
            [Path(sys.executable).with_name("data-platform"), *arguments], env=self.environment, cwd=REPOSITORY,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        said = f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert expect is None or done.returncode == expect, said
        return done.stdout

    def graphql(self, query: str, **variables: object) -> Any:
        """The data of an answer of the webserver. Raises AssertionError for an error of GraphQL or of Dagster."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert "errors" not in told, told["errors"]
        [data] = told["data"].values()
        assert not isinstance(data, dict) or "message" not in data, data["message"]
        return data

    def switch_on(self, *, schedules: tuple[str, ...] = (), sensors: tuple[str, ...] = ()) -> None:
        """Switch them on, as the UI's switches do."""
        for kind, names in (("schedule", schedules), ("sensor", sensors)):
            for name in names:
                self.graphql(_SWITCH_ON[kind], selector={**SELECTOR, f"{kind}Name": name})

    def runs(self) -> list[Run]:
        """All runs, the oldest first."""
        found = self.graphql(_RUNS)["results"]
        return [
            Run(one["runId"], one["status"], one["jobName"], {tag["key"]: tag["value"] for tag in one["tags"]})
            for one in reversed(found)
        ]

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The newest ticks of a sensor, the newest first."""
        told = self.graphql(_TICKS, selector={**SELECTOR, "sensorName": sensor})
        found: list[dict[str, Any]] = told["sensorState"]["ticks"]
        return found

    def start_daemon(self, name: str = "daemon") -> None:
        """One more of Dagster's daemons on the instance."""
        self.start(name, "dagster-daemon", "run", "-w", str(self.home / "workspace.yaml"))


def clean_environment() -> dict[str, str]:
    """The environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER_"))}


@contextmanager
def processes(home: Path, environment: Mapping[str, str]) -> Iterator[Processes]:
    """A code server, a webserver and a daemon over the platform in `home`, ready to be used; ended at the end."""
    home.mkdir(parents=True, exist_ok=True)
    settings = {"DAGSTER_HOME": str(REPOSITORY), "DATA_PLATFORM_HOME": str(home)}
    code_port, port = free_ports(2)
    platform = Processes(home, {**clean_environment(), **settings, **environment}, f"http://127.0.0.1:{port}")
    workspace = home / "workspace.yaml"
    workspace.write_text(_WORKSPACE.format(port=code_port, location=LOCATION))
    with ExitStack() as stack:
        stack.callback(lambda: [platform.stop(name) for name in reversed(list(platform.running))])
        module = ("--module-name", "data_platform.definitions", "--location-name", LOCATION)
        platform.start("code", "dagster", "api", "grpc", "--host", "127.0.0.1", "--port", str(code_port), *module)
        platform.wait_for("the code server", lambda: _listens(code_port))
        platform.start("webserver", "dagster-webserver", "-h", "127.0.0.1", "-p", str(port), "-w", str(workspace))
        platform.start_daemon()
        platform.wait_for("the webserver", lambda: _answers(platform.url))
        yield platform


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
