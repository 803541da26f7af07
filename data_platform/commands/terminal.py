"""What a command says and where: results on stdout, progress and errors on stderr, everything else in a log file.

Every error of ours ends as one sentence; the traceback of one that nobody foresaw is in the log.
"""

import functools
import json
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from datetime import date
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from data_platform.errors import PlatformError
from data_platform.settings import Settings, settings

P = ParamSpec("P")
R = TypeVar("R")

LOG_BYTES = 5_000_000

out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)

_log_handlers: list[logging.Handler] = []
_debug: list[bool] = [False]


class BadUsage(PlatformError):
    """The command was called with something that cannot be meant: exit code 2."""


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap a command so that what it raises ends as one sentence on stderr, and exit code 1 (2 for BadUsage)."""

    @functools.wraps(command)
    def wrapper(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return command(*arguments, **options)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            say_error("Interrupted: what was published before stands, and nothing is half done; run it again.")
            raise typer.Exit(130) from None
        except Exception as error:
            if _debug[0]:
                raise
            foreseen = platform_error(error)
            if foreseen is None:
                logging.getLogger("data_platform").exception("The command failed.")
                what = f"{type(error).__name__}: {first_line(str(error))}"
                say_error(f"Something that nobody foresaw failed ({what}); the details: {_log_place()}")
                raise typer.Exit(1) from None
            say_error(str(foreseen))
            raise typer.Exit(2 if isinstance(foreseen, BadUsage) else 1) from None

    return wrapper


def platform_error(error: BaseException | None) -> PlatformError | None:
    """The PlatformError that `error` is or was raised from: Dagster wraps what its plug-ins raise."""
    while error is not None:
        if isinstance(error, PlatformError):
            return error
        error = error.__cause__ or error.__context__
    return None


def say_error(sentence: str) -> None:
    """One red sentence on stderr, on one line where nobody's terminal wraps it."""
    err.print(Text(sentence, style="red"), soft_wrap=True)


def say(sentence: str = "") -> None:
    """A line of the result, on stdout."""
    out.print(Text(sentence), soft_wrap=True)


def note(sentence: str, style: str = "") -> None:
    """A line of progress, on stderr."""
    err.print(Text(sentence, style=style), soft_wrap=True)


def print_json(value: Mapping[str, Any]) -> None:
    """`value` as JSON on stdout: dates as YYYY-MM-DD, decimals as text."""
    sys.stdout.write(json.dumps(value, indent=2, default=_as_text) + "\n")


def parse_day(text: str, option: str) -> date:
    """An option's value as a day; raises BadUsage."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadUsage(f"{option} is {text!r}, which is not a date: write it as YYYY-MM-DD.") from None


def local_landing(chosen: Settings) -> Path:
    """The landing folder; raises PlatformError where the landing is no folder of this machine."""
    if "://" in chosen.landing_url:
        raise PlatformError(
            f"DATA_PLATFORM_LANDING_URL is {chosen.landing_url}: deliveries are written to a local folder only; set it "
            f"to one."
        )
    return Path(chosen.landing_url)


def first_line(text: str) -> str:
    """The first line of a message that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")


def keep_log(*, debug: bool) -> None:
    """Send all logging and Python's warnings to $DATA_PLATFORM_HOME/logs; only what our own modules say is shown."""
    _debug[0] = debug
    root = logging.getLogger()
    for handler in _log_handlers:
        root.removeHandler(handler)
        handler.close()
    file = _LogFile(log_file(settings()), maxBytes=LOG_BYTES, backupCount=3, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    shown = _Shown()
    shown.addFilter(logging.Filter("data_platform"))
    _log_handlers[:] = [file, shown]
    for handler in _log_handlers:
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.simplefilter("default")


def log_file(chosen: Settings) -> Path:
    """Where the commands log."""
    return chosen.home / "logs" / "data-platform.log"


class _LogFile(RotatingFileHandler):
    """A log that is made with its first line, and that never gets in the way where it cannot be written."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Nothing: the command itself will soon say what is wrong with that folder."""


class _Shown(logging.Handler):
    """Shows what our modules say, each sentence once: for whom a run waits, which landing files are passed over."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = first_line(record.getMessage())
        if sentence not in self.said and not record.exc_info:
            self.said.add(sentence)
            note(sentence, style="yellow" if record.levelno >= logging.WARNING else "")


def _log_place() -> str:
    try:
        file = log_file(settings())
    except PlatformError:
        return "run it again with --debug"
    return str(file) if file.exists() else "run it again with --debug"


def _as_text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
