"""How an error of ours ends a step: a retry where it may pass by itself, else one sentence, also at the prompt.

Retries are asked for here and not by a RetryPolicy, which retries what nobody foresaw (most likely a mistake, which
three more tries would only tell of later) and makes a retry of an interrupt: a run that is cancelled would wait
and go on.
"""

import atexit
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import dagster as dg

from data_platform.errors import PlatformError
from data_platform.settings import settings

RETRIES = 3
JITTER = 0.2  # of the delay, up or down: runs that one outage stopped must not come back at one moment


@contextmanager
def explained() -> Iterator[None]:
    """Turn a PlatformError into a Failure that bears its sentence, or a transient one into a retry of the step.

    Retried are the steps of runs that the webserver or the daemon started, RETRIES times, the first time after
    DATA_PLATFORM_RETRY_DELAY seconds and then after twice as long each time. At the prompt a person waits, and reads.
    """
    try:
        yield
    except PlatformError as error:
        seconds = _seconds_to_wait() if error.transient else None
        if seconds is None:
            raise failure(str(error), transient=error.transient) from None
        raise dg.RetryRequested(RETRIES, seconds) from dg.Failure(str(error))


def _seconds_to_wait() -> float | None:
    """How long the step that runs now is to wait before it is tried again; None where it is not."""
    try:
        context = dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None  # outside of a step
    # Only a run that came by way of the webserver or the daemon knows from which code location it came.
    attended = context.run.remote_job_origin is None
    delay, former = settings().retry_delay, context.retry_number
    if attended or not delay or former >= RETRIES:
        return None
    return float(delay * 2**former * random.uniform(1 - JITTER, 1 + JITTER))


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
