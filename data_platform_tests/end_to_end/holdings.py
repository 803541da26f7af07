"""What processes and Postgres hold (handles, memory, connections), and whether it grows. Linux: it reads /proc."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
from scipy.stats import linregress

MEGABYTE = 1024  # kilobytes, as /proc counts
PROC = Path("/proc")
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"


def held_by(process: int) -> dict[str, float]:
    """Open handles, threads, and the memory that is the process's own (in MB: pages of files are not counted)."""
    handles = len(list((PROC / str(process) / "fd").iterdir()))
    return {"handles": handles, "threads": int(_status(process)["Threads"]), "memory": _memory(process)}


def connections(url: str) -> int:
    """Connections of others to the server, whatever their database."""
    with psycopg.connect(url) as connection:
        [count] = connection.execute(_OTHERS).fetchone() or (0,)
    return int(count)


def memory_of_server(url: str) -> float:
    """The memory that all processes of a server on this machine hold as their own, in MB."""
    with psycopg.connect(url) as connection:
        own = connection.info.backend_pid
        postmaster, memory = _parent(own), 0.0
        for process in (postmaster, *_children(postmaster)):
            with suppress(FileNotFoundError, ProcessLookupError, KeyError):  # it ended meanwhile
                memory += _memory(process) if process != own else 0
    return memory


def growth(values: Sequence[float]) -> float:
    """By how much values rise from the first to the last, by the line that fits them best."""
    return float(linregress(range(len(values)), values).slope * (len(values) - 1))


def growths(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure that all samples have its growth."""
    names = [name for name in samples[0] if all(name in sample for sample in samples)]
    return {name: growth([sample[name] for sample in samples]) for name in names}


def _status(process: int) -> dict[str, str]:
    lines = (PROC / str(process) / "status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _memory(process: int) -> float:
    return int(_status(process)["RssAnon"].split()[0]) / MEGABYTE


def _parent(process: int) -> int:
    return int((PROC / str(process) / "stat").read_text().rpartition(")")[2].split()[1])


def _children(process: int) -> Iterator[int]:
    for place in PROC.iterdir():
        if place.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                if _parent(int(place.name)) == process:
                    yield int(place.name)
