"""A shop's API on localhost, in a thread: pages, tokens, limits; and it fails on command."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    """What was asked."""

    path: str
    params: dict[str, str]
    headers: dict[str, str]
    form: dict[str, str] = field(default_factory=dict)


@dataclass
class Reply:
    """What is answered. `cut`: only so many bytes are sent, then the connection breaks; `slow`: seconds before;
    `drip`: seconds between its bytes."""

    body: bytes | str | Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    slow: float = 0.0
    drip: float = 0.0

    @property
    def data(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


Answer = Callable[[Request], Reply]


class Api:
    """Records are answered in pages; `instead` holds replies that are given before, in order."""

    def __init__(self) -> None:
        self.url = ""
        self.records: list[dict[str, Any]] = []
        self.requests: list[Request] = []
        self.instead: list[Reply | None] = []
        self.answer: Answer = self.paged

    def paged(self, request: Request) -> Reply:
        """A page of records of the window, by number, with what is needed for any other way of paging."""
        found = [
            record
            for record in self.records
            if request.params.get("updated_since", "") <= record.get("updated_at", "~")
            and (record.get("updated_at", "") < request.params.get("updated_before", "~"))
        ]
        size = int(request.params.get("per_page", 2))
        if "offset" in request.params:
            start = int(request.params["offset"])
        elif "cursor" in request.params:
            start = int(request.params["cursor"].removeprefix("after-"))
        else:
            start = (int(request.params.get("page", 1)) - 1) * size
        more = start + size < len(found)
        meta = {
            "total": len(found),
            "next_cursor": f"after-{start + size}" if more else None,
            "next": f"/orders?page={start // size + 2}&per_page={size}" if more else None,
        }
        link = f'<{self.url}/orders?page={start // size + 2}&per_page={size}>; rel="next"' if more else ""
        return Reply({"data": found[start : start + size], "meta": meta}, headers={"Link": link} if link else {})

    def reply(self, request: Request) -> Reply:
        self.requests.append(request)
        planned = self.instead.pop(0) if self.instead else None
        return planned or self.answer(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: Api

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        form = parse_qs(self.rfile.read(length).decode()) if length else {}
        reply = self.api.reply(
            Request(
                parts.path,
                {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()},
                {name.lower(): value for name, value in self.headers.items()},
                {name: values[-1] for name, values in form.items()},
            )
        )
        time.sleep(reply.slow)
        try:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.data)))
            self.end_headers()
            for number in range(len(reply.data) if reply.drip else 0):
                self.wfile.write(reply.data[number : number + 1])
                time.sleep(reply.drip)
            self.wfile.write(b"" if reply.drip else reply.data[: reply.cut])
        except OSError:
            pass
        if reply.cut is not None:
            self.close_connection = True

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(api: Api, certificate: Path | None = None) -> Iterator[Api]:
    """Answer on a free port, by TLS with the `certificate` (and its key in one file) where one is given."""
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    api.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
