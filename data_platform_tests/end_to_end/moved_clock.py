"""The wall clock of a whole platform, moved by a test: of its processes, their children, and the embedded Postgres."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
WHY_NOT = (
    None
    if sys.platform == "linux" and shutil.which("cc")
    else "the clock of other processes is moved by a library of C: it needs Linux and cc (Debian: gcc, libc6-dev)"
)


class Clock:
    """What the processes that get `environment` take for now. This process keeps its own clock."""

    def __init__(self, folder: Path, starts_at: datetime) -> None:
        self._file, library = folder / "moved", folder / "moved_clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"], check=True)
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(self._file)}
        self._moved = 0
        self.move_to(starts_at)

    def now(self) -> datetime:
        """The time that they see, in UTC."""
        return datetime.fromtimestamp((time.time_ns() + self._moved) / 1e9, UTC)

    def forward(self, span: timedelta) -> None:
        """Let so much time pass at once."""
        self._move(self._moved + round(span.total_seconds() * 1e9))

    def move_to(self, moment: datetime) -> None:
        """Let it be `moment`."""
        self._move(round(moment.timestamp() * 1e9) - time.time_ns())

    def stamp(self, path: Path) -> None:
        """Have the file look as if it had been written now: time stamps of files are the kernel's."""
        os.utime(path, (self.now().timestamp(),) * 2)

    def _move(self, nanoseconds: int) -> None:
        self._moved = nanoseconds
        # In place: the processes have the file mapped.
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", nanoseconds))


@contextmanager
def moved_clock(starts_at: datetime) -> Iterator[Clock]:
    """A clock at `starts_at`; its folder is open to others, since Postgres may run as another account."""
    folder = Path(tempfile.mkdtemp(prefix="moved_clock"))
    folder.chmod(0o755)
    try:
        yield Clock(folder, starts_at)
    finally:
        shutil.rmtree(folder)
