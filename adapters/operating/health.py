"""Health over HTTP, for whatever watches over a process: ``GET /health`` answers 200 or 503, and says why in JSON."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic_core import to_json

Report = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Whether all is well, and what there is to say about it."""


@contextmanager
def health_at(host: str, port: int, report: Report) -> Iterator[int]:
    """Answer ``GET /health`` there for as long as the context lasts; the port, also where 0 asked for any that is free.

    Raises ``OSError`` when the address cannot be had.
    """

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/health":
                self.send_error(404)
                return
            well, said = report()
            body = to_json({"healthy": well, **said})
            self.send_response(200 if well else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Whoever asks every second is not worth a line."""

    server = ThreadingHTTPServer((host, port), Answers)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
