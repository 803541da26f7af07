"""`data-platform metrics …`: how the platform is, for Prometheus."""

import signal
import socket
from pathlib import Path
from typing import Annotated

import typer

from data_platform.commands.terminal import BadUsage, note, say_error
from data_platform.settings import settings

PORT = 9187


def serve(
    host: Annotated[str, typer.Option(help="The address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = PORT,
) -> None:
    """Serve the metrics on http://HOST:PORT/metrics until Ctrl-C or SIGTERM.

    The address is of this machine alone by default: who reads them needs no login.
    """
    from data_platform.commands.url import end_well
    from data_platform.monitoring.exporter import serving

    end_well()
    with serving(settings(), host, port) as bound:
        shown = f"[{host}]" if ":" in host else host
        note(f"The metrics are on http://{shown}:{bound}/metrics until you press Ctrl-C.")
        _wait_for_signals()


def _wait_for_signals() -> None:
    """Wait until a signal's handler ends this process."""
    # The kernel may hand a signal to any thread, and Python runs its handler in this one: which must wake to do so.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    while True:
        reader.recv(1)


def write(
    path: Annotated[Path, typer.Argument(metavar="PATH.prom", help="In node_exporter's textfile directory.")],
) -> None:
    """Write the metrics to a file for node_exporter's textfile collector: whole, or not at all.

    Exit code 1 where a part of the platform cannot be read: the file then says so, and holds the rest.
    """
    if path.suffix != ".prom":
        raise BadUsage(f"{path} does not end in .prom: node_exporter reads no other files.")
    from data_platform.monitoring.exporter import write as write_file

    problems = write_file(settings(), path)
    for sentence in problems:
        say_error(sentence)
    if problems:
        raise typer.Exit(1)
