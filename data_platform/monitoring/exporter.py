"""Metrics for Prometheus: served by HTTP, or written as a file for node_exporter on a host that only runs batches."""

import errno
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Metric, generate_latest, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from data_platform.errors import PlatformError, SettingsError, SourceUnavailable
from data_platform.monitoring.collect import Collector
from data_platform.monitoring.metrics import families
from data_platform.settings import Settings

# How long listings of the lake and the landing hold: scrapes come as often as every few seconds.
LISTING_SECONDS = 30.0
# A client that asks and then says nothing must not keep its thread.
CLIENT_SECONDS = 30.0


class Scraped:
    """What a registry of prometheus_client asks at each scrape: a look of its own."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would look at the platform when it is made."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics of a look."""
        yield from families(self._collector.look(), self._collector.chosen)


@contextmanager
def serving(chosen: Settings, host: str, port: int) -> Iterator[int]:
    """Serve the metrics at every path of http://host:port until the end; gives the port, a free one where that is 0.

    Raises SettingsError where the address cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(Scraped(Collector(chosen, listing_seconds=LISTING_SECONDS)))
    try:
        server = make_server(host, port, make_wsgi_app(registry), _server_class(host), handler_class=_Handler)
    except OverflowError:
        raise SettingsError(f"--port is {port}, which is no port: give one up to 65535.") from None
    except socket.gaierror:
        raise SettingsError(
            f"--host is {host!r}, which is no address of this machine: give one, such as 127.0.0.1."
        ) from None
    except OSError as error:
        raise _not_served(host, port, error) from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write(chosen: Settings, path: Path) -> list[str]:
    """Write the metrics of a look to `path`, aside and by a rename; gives why parts of them are not in it.

    Raises PlatformError where it cannot be written.
    """
    collector = Collector(chosen)
    look = collector.look()
    registry = CollectorRegistry()
    registry.register(_Looked(list(families(look, chosen))))
    aside = path.with_name(f".{path.name}.{os.getpid()}")  # node_exporter reads only names that end in .prom
    try:
        try:
            aside.write_bytes(generate_latest(registry))
            aside.replace(path)
        except BaseException:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SourceUnavailable(
            f"{path} cannot be written ({error.strerror}): name a file in a folder that is there and may be written."
        ) from None
    return look.problems


class _Looked:
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> list[Metric]:
        return self._found


def _server_class(host: str) -> type[ThreadingWSGIServer]:
    class Server(ThreadingWSGIServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        request_queue_size = 64

    return Server


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line for each scrape would fill a disk."""


def _not_served(host: str, port: int, error: OSError) -> PlatformError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(f"Port {port} of {host} is taken by another program: choose one by --port.")
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingsError(f"--host is {host}, which is no address of this machine: give one, such as 127.0.0.1.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return SettingsError(f"Port {port} may not be used by this user: choose one above 1023 by --port.")
    return SettingsError(f"{host}:{port} cannot be served ({error.strerror}): choose another by --host and --port.")
