"""A sheet of an Excel file as Parquet, in a process of its own: what a sheet says of itself decides what it allocates.

Two cells in opposite corners span 17 billion, and the library ends the process that cannot hold them. So this one has
a limit of memory and of time, and imports nothing of the platform: `python workbook.py WORKBOOK TARGET [SHEET]` prints
what came of it as JSON.
"""

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

MAX_MEMORY = 4 * 1024**3  # of address space; a sheet of 24 million numbers takes 2.5 GB
MAX_SECONDS = 600
MAX_CELLS = 25_000_000


_ENDED_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class TooMuch(Exception):
    """A sheet took more memory or time than it is given."""


class NotOpened(Exception):
    """The process ended by itself, and said nothing: nothing is known of the workbook."""


def converted(workbook: Path, target: Path, sheet: str | None) -> dict[str, Any]:
    """Have a sheet (the first, if none is named) written to `target`, its values as text; what came of it.

    `{"size": [rows, columns]}`: written; with `"large": true` not, for that is more than is taken. `{"no": "sheet"}`:
    it has no such sheet, `{"no": "workbook"}`: it is none. Raises TooMuch, NotOpened, and OSError where nothing can be
    written or no process started.
    """
    command = [sys.executable, "-I", __file__, str(workbook), str(target), *([] if sheet is None else [sheet])]
    try:
        # One thread: each one takes address space, and the sheet is parsed by one anyway.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=MAX_SECONDS, check=False,
            env={**os.environ, "POLARS_MAX_THREADS": "1", "RUST_BACKTRACE": "0"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TooMuch from None
    if (
        done.returncode < 0 and -done.returncode not in _ENDED_FROM_OUTSIDE
    ):  # the library's own (no memory), or the system's
        raise TooMuch
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise NotOpened(f"the process that opens workbooks ended with {done.returncode}") from None
    if "errno" in said:
        raise OSError(said["errno"], os.strerror(said["errno"]))
    if said.get("no") == "memory":
        raise TooMuch
    return said


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A process whose starter was killed ends as well.
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit, or a lower one is set
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def _convert(workbook: Path, target: Path, sheet: str | None) -> dict[str, Any]:
    import fastexcel
    import polars.exceptions

    _limit()
    try:
        book = fastexcel.read_excel(workbook.read_bytes())
        chosen = sheet if sheet is not None else book.sheet_names[0]
        if chosen not in book.sheet_names:
            return {"no": "sheet"}
        loaded = book.load_sheet(chosen, dtypes="string")
        size = [loaded.height, loaded.width]
        if loaded.height * loaded.width > MAX_CELLS:
            return {"size": size, "large": True}
        with io.BytesIO() as buffer:
            loaded.to_polars().write_parquet(buffer)
            target.write_bytes(buffer.getvalue())
    except MemoryError:
        return {"no": "memory"}
    except OSError as error:
        return {"errno": error.errno} if error.errno else {"no": "workbook"}
    except (Exception, polars.exceptions.PanicException):
        return {"no": "workbook"}
    return {"size": size}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    said = _convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
    sys.stdout.write(json.dumps(said))
