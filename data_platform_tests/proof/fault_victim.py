"""The process that faults happen to: forked anew for each run from one that has everything imported.

`python -m data_platform_tests.proof.fault_victim` reads a request a line, forks, lets the child materialize assets by
the real definitions, and answers with a line on how the child ended. It has never run a Polars query itself: Polars'
threads do not survive a fork.
"""

import contextlib
import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from data_platform import embedded_postgres_watcher as watcher
from data_platform_tests.proof import fault_points as points

LIMIT_SECONDS = 120.0
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Request:
    """What a victim is to do, and what befalls it.

    `fault`: "" or one of sigkill, terminate, stop, fill, at the call numbered `point`, or `after` seconds.
    `file_limit`: no file of the victim grows beyond it. `server` is the home of a server of ours, `ballast` the file
    that fills a disk.
    """

    url: str
    lake: str
    landing: str
    temporary: str
    select: tuple[str, ...]
    days: tuple[str, str]
    fault: str = ""
    point: int | None = None
    after: float | None = None
    file_limit: int | None = None
    server: str = ""
    ballast: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a victim ended: by which signal (0: none), else whether its run succeeded and what it said of failures."""

    signal: int = 0
    success: bool = False
    failures: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    struck: str | None = None
    hung: bool = False
    seconds: float = 0.0


class Nursery:
    """Starts victims, one at a time, each in a process of its own that is there in milliseconds."""

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "DAGSTER"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "data_platform_tests.proof.fault_victim"],
            cwd=REPOSITORY,
            env=kept,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, request: Request) -> Outcome:
        """Let a victim run and wait for its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asdict(request)), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        for name in ("failures", "points"):
            answer[name] = tuple(answer[name])
        return Outcome(**answer)

    def close(self) -> None:
        self._process.communicate()


class _Assets:
    """The real definitions, with a platform whose settings are known only when a victim starts."""

    def __init__(self) -> None:
        import dagster as dg
        import hypothesis  # noqa: F401  pandera imports it late

        from data_platform.definitions import build_defs
        from data_platform.resources import Platform
        from data_platform.settings import Settings, read_settings

        self.defaults: Settings = read_settings({})
        self.chosen: Settings = self.defaults
        assets = self

        class Chosen(Platform):
            @property
            def settings(self) -> Settings:
                return assets.chosen

        self.dagster = dg
        self.definitions = build_defs({"platform": Chosen()})
        self.job = self.definitions.resolve_job_def("daily_sales")
        self._warm_up()
        # Made once: each victim inherits it as it is now, without runs.
        self._folder = tempfile.TemporaryDirectory(prefix="faults-")
        self.instance = dg.DagsterInstance.ephemeral(tempdir=self._folder.name)

    def _warm_up(self) -> None:
        """A run of nothing much, for all that Dagster imports late; and so with the calendar."""
        import holidays

        dg = self.dagster
        holidays.country_holidays(self.defaults.holidays_country, years=2024)

        @dg.asset
        def nothing() -> None: ...

        with (
            _quiet(),
            tempfile.TemporaryDirectory() as folder,
            dg.DagsterInstance.ephemeral(tempdir=folder) as instance,
        ):
            dg.materialize([nothing], instance=instance)

    def materialize(self, request: Request) -> tuple[bool, list[str]]:
        home = Path(request.temporary)
        self.chosen = replace(
            self.defaults,
            home=home,
            warehouse_url=request.url,
            lake_url=request.lake,
            landing_url=request.landing,
            sources_file=home / "sources.yaml",
            start_date=date(2024, 1, 1),
        )
        keys = [self.dagster.AssetKey(name) for name in request.select]
        first, last = request.days
        result = self.job.execute_in_process(
            instance=self.instance,
            asset_selection=keys,
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
            raise_on_error=False,
        )
        said = [event.step_failure_data for event in result.all_node_events if event.is_step_failure]
        return result.success, [str(failure.user_failure_data or failure.error)[:400] for failure in said]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing that is logged in the block is seen."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _strike(request: Request) -> Any:
    def strike(connection: Any = None) -> None:
        if request.fault == "sigkill":
            points.kill()
        elif request.fault == "terminate" and connection is not None:
            points.terminate(request.url, connection.info.backend_pid)
        elif request.fault == "stop":
            stop_server(Path(request.server))
        elif request.fault == "fill":
            points.fill(Path(request.ballast))

    return strike


def stop_server(home: Path) -> None:
    """The server of ours below `home` gone at once."""
    points.stop(home / "postgres" / "data", lambda: watcher.is_alive(home / "postgres"))


def _child(assets: _Assets, request: Request, answer: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    tempfile.tempdir = request.temporary
    if request.file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write is cut short and the next one fails
        resource.setrlimit(resource.RLIMIT_FSIZE, (request.file_limit, request.file_limit))
    watched = points.Points((Path(request.lake),), None if request.after else request.point, _strike(request))
    watched.install()
    success, failures = assets.materialize(request)
    told = {"success": success, "failures": failures, "points": watched.seen, "struck": watched.struck}
    with os.fdopen(answer, "w") as pipe:
        json.dump(told, pipe)


def _serve(assets: _Assets, request: Request) -> dict[str, Any]:
    answer, end = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(answer)
            _child(assets, request, end)
            status = 0
        finally:
            os._exit(status)
    os.close(end)
    told = b""
    struck, hung = None, False
    while True:
        at = started + (request.after if request.after and struck is None else LIMIT_SECONDS)
        ready, _, _ = select.select([answer], [], [], max(0.0, at - time.monotonic()))
        if ready:
            block = os.read(answer, 1 << 16)
            if not block:
                break
            told += block
        elif request.after and struck is None:
            struck = f"after {request.after:.3f} s"
            _strike_from_outside(request, pid)
        else:
            hung = True
            os.kill(pid, signal.SIGKILL)
    os.close(answer)
    _, status = os.waitpid(pid, 0)
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    # A child that was killed may have been in the middle of its answer.
    answered = json.loads(told) if told and not ended else {}
    result: dict[str, Any] = {"success": False, "failures": [], "points": [], "struck": None} | answered
    return result | {
        "signal": ended, "struck": struck or result["struck"], "hung": hung, "seconds": time.monotonic() - started,
    }  # fmt: skip


def _strike_from_outside(request: Request, pid: int) -> None:
    if request.fault == "sigkill":
        os.kill(pid, signal.SIGKILL)
    elif request.fault == "terminate":
        points.terminate(request.url)
    elif request.fault == "stop":
        stop_server(Path(request.server))


def main(lines: Sequence[str] | Any) -> None:
    """Serve requests until there are no more."""
    assets = _Assets()
    gc.freeze()
    assert threading.active_count() == 1, "a thread would not survive the fork"
    for line in lines:
        request = json.loads(line)
        request |= {"select": tuple(request["select"]), "days": tuple(request["days"])}
        print(json.dumps(_serve(assets, Request(**request))), flush=True)


if __name__ == "__main__":
    main(sys.stdin)
