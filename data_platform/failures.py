"""How an error of ours ends a run: one sentence in the UI, and as the last line of Dagster's own commands."""

import atexit
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import dagster as dg

from data_platform.errors import PlatformError


@contextmanager
def explained() -> Iterator[None]:
    """Turn a PlatformError into a Failure that bears its sentence; only a transient one may be retried."""
    try:
        yield
    except PlatformError as error:
        raise failure(str(error), transient=error.transient) from None


def failure(sentence: str, *, transient: bool = False) -> dg.Failure:
    """A Failure with `sentence`, which also ends what `dagster …` prints in this process."""
    say_last(sentence)
    return dg.Failure(description=sentence, allow_retries=transient)


_last: list[str] = []


def say_last(sentence: str) -> None:
    """Have `sentence` printed to stderr when this process ends, if it is one of Dagster's own commands.

    `dagster asset materialize` ends with a stack trace and «Materialization failed.», where nobody finds the reason.
    """
    _last[:] = [sentence]
    program = Path(sys.argv[0])
    # `python -m dagster` runs …/dagster/__main__.py.
    if "dagster" in (program.stem, program.parent.name) or program.stem == "dg":
        _print_at_exit()


@cache
def _print_at_exit() -> None:
    atexit.register(lambda: print(f"\n{_last[0]}", file=sys.stderr))  # noqa: T201
