"""The state that each fault begins with, made once by runs without a fault, and restored before each."""

import shutil
import tempfile
import uuid
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from data_platform.embedded_postgres_process import locate
from data_platform_tests.proof import fault_points as points
from data_platform_tests.proof import fault_scene as scene
from data_platform_tests.proof.fault_pictures import Gallery, Picture, Rows, rows_of
from data_platform_tests.proof.fault_places import CannotRun, Disk, Server
from data_platform_tests.proof.fault_victim import Nursery, Outcome, Request

# The disk of the lake has this room while no fault fills it.
LAKE_MEGABYTES = 16


@dataclass(frozen=True)
class Scene:
    """The state that an asset's run begins with, where it ends without a fault, the calls that it makes, and the sizes
    of the files that it writes into the lake."""

    asset: str
    database: str
    lake: Path
    before: Picture
    after: Picture
    points: tuple[str, ...]
    written: tuple[int, ...]

    @property
    def committing(self) -> range:
        """The calls from the first COPY to just after the commit of what is written; none where nothing is."""
        copies = [at for at, what in enumerate(self.points) if what.startswith("db COPY")]
        commits = [at for at, what in enumerate(self.points) if what == "db committed" and not self._only_read(at)]
        return range(copies[0], commits[-1] + 1) if copies and commits else range(0)

    def _only_read(self, commit: int) -> bool:
        begun = max(at for at, what in enumerate(self.points[:commit]) if what == "connect")
        return any("READ ONLY" in what for what in self.points[begun:commit])


class World:
    """A server, a lake, a nursery; the states to begin with are made when they are first asked for.

    With `disk` the own server's data lies on it. With `strict` the tables that a fault in a run of everything leaves
    are compared with all that the clean run commits.
    """

    def __init__(
        self,
        given: str | None = None,
        disk: Disk | None = None,
        *,
        nursery: Nursery | None = None,
        strict: bool = False,
    ) -> None:
        self.disk, self.strict = disk, strict
        self.folder = Path(tempfile.mkdtemp(prefix="faults-"))
        home = (disk.path if disk else self.folder) / "server"
        self.server = Server(given, home)
        if disk and locate(home / "postgres").data.stat().st_dev != disk.path.stat().st_dev:
            self.server.close()
            disk.close()
            raise CannotRun("the server's data cannot lie on a disk of ours here (root without user name spaces)")
        self._borrowed = nursery is not None
        self.nursery = nursery or Nursery()
        self.gallery = Gallery()
        self._prefix = f"fault_{uuid.uuid4().hex[:8]}"
        self._scenes: dict[str, Scene] = {}
        for name, deliver in (("history", scene.deliver_history), ("news", scene.deliver_news)):
            deliver(self.folder / name)

    # The state at hand

    @property
    def url(self) -> str:
        return self.server.url(f"{self._prefix}_work")

    @cached_property
    def lake(self) -> Path:
        return self.folder / "lake"

    @cached_property
    def small_disk(self) -> Disk:
        """A disk of its own for a lake. Raises CannotRun."""
        return Disk(LAKE_MEGABYTES)

    def restore(self, state: Scene, lake: Path | None = None) -> None:
        """The state before, in the database and in the lake (or in another folder in its stead)."""
        self._restore(state.database, state.lake, lake or self.lake)

    def _restore(self, database: str, saved: Path, lake: Path) -> None:
        self.server.copy(database, f"{self._prefix}_work")
        points.remove(lake)
        shutil.copytree(saved, lake)
        points.remove(self.folder / "temporary")
        (self.folder / "temporary").mkdir()

    def request(self, select: tuple[str, ...], lake: Path | None = None, landing: str = "news") -> Request:
        """A run over the days under fault."""
        return Request(
            url=self.url,
            lake=str(lake or self.lake),
            landing=str(self.folder / landing / "landing"),
            temporary=str(self.folder / "temporary"),
            select=select,
            days=(scene.FIRST, scene.LAST),
            server="" if self.server.given else str(self.server.home),
        )

    def run(self, request: Request) -> Outcome:
        return self.nursery.run(request)

    def picture(self, lake: Path | None = None) -> Picture:
        return self.gallery.take(self.url, lake or self.lake)

    # States to begin with

    def _run_clean(self, request: Request) -> Outcome:
        outcome = self.run(request)
        assert outcome.success, f"a run without a fault failed: {outcome.failures or outcome.signal}"
        return outcome

    def _save(self, name: str) -> tuple[str, Path]:
        database, lake = f"{self._prefix}_{name}", self.folder / "saved" / name
        self.server.copy(f"{self._prefix}_work", database)
        shutil.copytree(self.lake, lake)
        return database, lake

    @cached_property
    def history(self) -> tuple[str, Path]:
        """Some days published, the next ones not delivered yet."""
        self.server.copy(None, f"{self._prefix}_work")
        (self.folder / "temporary").mkdir(exist_ok=True)
        request = self.request(scene.everything(), landing="history")
        for days in ((scene.HISTORY[0], scene.HISTORY[1]), (scene.HISTORY[2], scene.HISTORY[2])):
            self._run_clean(replace(request, days=days))
        return self._save("history")

    @cached_property
    def clean(self) -> tuple[Picture, Outcome]:
        """What a run of everything without a fault leaves, and how it went."""
        self._restore(*self.history, self.lake)
        outcome = self._run_clean(self.request(scene.everything()))
        return self.picture(), outcome

    @cached_property
    def pace(self) -> float:
        """The seconds that a run of everything takes."""
        return self.clean[1].seconds

    def scene(self, asset: str) -> Scene:
        """The state just before the asset's run: all that it waits for has run. `*`: nothing has."""
        if asset not in self._scenes:
            self._restore(*self.history, self.lake)
            if asset == "*":
                (database, lake), before = self.history, self.picture()
                after, outcome = self.clean
            else:
                if scene.to_run_before(asset):
                    self._run_clean(self.request(scene.to_run_before(asset)))
                database, lake = self._save(asset)
                before = self.picture()
                self._restore(database, lake, self.lake)
                outcome = self._run_clean(self.request(scene.ASSETS[asset]))
                after = self.picture()
                assert before != after, f"{asset} has nothing to do, so nothing would be proved"
            written = tuple(
                (self.lake / name).stat().st_size
                for name, told in after.files.items()
                if told not in before.files.values()
            )
            self._scenes[asset] = Scene(asset, database, lake, before, after, outcome.points, written)
        return self._scenes[asset]

    @cached_property
    def committed(self) -> list[Rows]:
        """All that a reader may see of the tables during a run of everything: what stands after each of its commits."""
        state = self.scene("*")
        seen = [state.before.rows]
        for at, what in enumerate(state.points):
            if what == "db committed":
                self.restore(state)
                self.run(replace(self.request(scene.everything()), fault="sigkill", point=at))
                rows = rows_of(self.url)
                if rows != seen[-1]:
                    seen.append(rows)
        return seen

    def close(self) -> None:
        """Leave nothing behind."""
        if not self._borrowed:
            self.nursery.close()
        if self.server.given:
            for name in ("work", "history", *self._scenes):
                self.server.drop(f"{self._prefix}_{name}")
        self.server.close()
        for disk in (self.disk, self.__dict__.get("small_disk")):
            if disk:
                disk.close()
        points.remove(self.folder)
