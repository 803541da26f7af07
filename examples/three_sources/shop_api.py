"""A web shop's API for order lines: pages, a token, a limit of requests; and it fails now and then, as APIs do.

What it serves lies in a folder of JSON lines, a file a day. Run: python -m examples.three_sources.shop_api FOLDER
"""

import argparse
import json
import os
import random
import time
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

VARIABLE = "SHOP_API_TOKEN"  # of the environment, which holds the token
PATH = "/v1/order-lines"
REQUESTS_PER_SECOND = 5
SERVER_ERRORS, BROKEN_PAGES = 0.10, 0.06  # shares of the requests


class ShopApi(ThreadingHTTPServer):
    """The server. What fails is drawn from a fixed seed."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.folder = folder
        self._random, self._lock = random.Random(7), Lock()
        self._asked: deque[float] = deque()

    def is_too_fast(self) -> bool:
        """Whether the last second had its requests; those that are refused do not count."""
        with self._lock:
            now = time.monotonic()
            while self._asked and self._asked[0] < now - 1:
                self._asked.popleft()
            if len(self._asked) >= REQUESTS_PER_SECOND:
                return True
            self._asked.append(now)
            return False

    def chance(self) -> float:
        """A number from 0 to 1."""
        with self._lock:
            return self._random.random()

    def page(self, params: Mapping[str, str]) -> dict[str, Any]:
        """The records of a window, in the order in which they were recorded."""
        since, before = params.get("recorded_since", ""), params.get("recorded_before", "~")
        lines = (line for path in sorted(self.folder.glob("*.jsonl")) for line in path.read_text().splitlines())
        records = [record for line in lines if since <= (record := json.loads(line))["recorded_at"] < before]
        size, number = int(params.get("per_page", 100)), int(params.get("page", 1))
        return {"data": records[(number - 1) * size : number * size], "meta": {"total": len(records)}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ShopApi

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        chance = self.server.chance()
        if self.headers.get("Authorization") != f"Bearer {os.environ[VARIABLE]}":
            self._answer(401, {"error": "no such token"})
        elif parts.path != PATH:
            self._answer(404, {"error": "no such path"})
        elif self.server.is_too_fast():
            self._answer(429, {"error": "too many requests"}, {"Retry-After": "1"} if chance < 0.5 else {})
        elif chance < SERVER_ERRORS:
            self._answer(500, {"error": "something went wrong"})
        else:
            page = self.server.page({name: values[-1] for name, values in parse_qs(parts.query).items()})
            self._answer(200, page, is_broken=chance > 1 - BROKEN_PAGES)

    def _answer(
        self, status: int, body: object, headers: Mapping[str, str] | None = None, *, is_broken: bool = False
    ) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if is_broken else data)
        if is_broken:
            self.log_message("the connection is broken off in the middle of the page")
            self.close_connection = True


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    with ShopApi(options.folder, options.port) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
