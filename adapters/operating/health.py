"""Health over HTTP, for a monitor: ``GET /health`` answers 200 or 503, with the status as JSON.

It answers in time even if the store does not, because a monitor would take silence for a dead process. Clients cannot harm
the process: the number and the duration of connections are limited, and a silent connection gives way to the next.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic_core import to_json

from returnable.domain.errors import ReturnableError

Health = tuple[bool, Mapping[str, Any]]
"""Whether the process is healthy, and its status."""

Report = Callable[[], Health]

PATIENCE_SECONDS = 1.0
"""How long a client waits for a report. A report may wait for an unreachable store."""

MOST_CONNECTIONS = 32
"""How many connections may be open at a time. The next one closes the oldest that has sent no request yet; if all have
sent one, the next one is closed itself."""

SILENCE_SECONDS = 2.0
"""A connection is closed after this time without a byte received or sent."""

CONNECTION_SECONDS = 5.0
"""A connection is closed after this time, however busy it is."""

ACCEPT_PAUSE_SECONDS = 0.1
"""The pause after a connection that could not be accepted, such as when the process has no file descriptor left."""


@contextmanager
def health_at(host: str, port: int, report: Report) -> Iterator[int]:
    """Answer ``GET /health`` at an address while the context lasts; yields the port, which for 0 is any free one.

    A report that raises or takes too long is answered 503 with ``last_error``. Raises ``OSError`` for an address that cannot
    be bound.
    """
    server = HealthServer((host, port), report)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class HealthServer(ThreadingHTTPServer):
    """Answers ``GET /health`` with a report, within the limits of this module."""

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], report: Report) -> None:
        self.asked = _Asked(report)
        self.connections: dict[socket.socket, _Connection] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Answers)

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection. Pauses before it raises ``OSError``, because the caller tries again at once, without end."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(ACCEPT_PAUSE_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Let a thread answer, unless there are too many connections."""
        with self._lock:
            silent = [one for one in self.connections.values() if not one.has_asked]
            # A closed connection counts until its thread has ended, so there are at most twice as many.
            room = len(self.connections) < MOST_CONNECTIONS or (silent and len(self.connections) < 2 * MOST_CONNECTIONS)
            if room:
                if len(self.connections) >= MOST_CONNECTIONS:
                    silent[0].close()
                self.connections[request] = _Connection(request)
        if room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self.connections.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close connections that have been open for too long. Called between two connections, and while there is none."""
        with self._lock:
            for one in self.connections.values():
                if time.monotonic() - one.since > CONNECTION_SECONDS:
                    one.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback for a client that goes away."""


class _Connection:
    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.since = time.monotonic()
        self.has_asked = False

    def close(self) -> None:
        self.has_asked = True  # so that it is not chosen twice
        # Its thread reads the end of the stream and releases the descriptor.
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)


class _Answers(BaseHTTPRequestHandler):
    timeout = SILENCE_SECONDS

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, HealthServer)
        connection = server.connections.get(self.connection)
        if connection is not None:
            connection.has_asked = True
        if self.path.partition("?")[0] != "/health":
            self.send_error(404)
            return
        healthy, status = server.asked.answer()
        body = to_json({"healthy": healthy, **status})
        self.send_response(200 if healthy else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a monitor may ask every second."""


class _Asked:
    """Makes one report at a time for all clients that ask meanwhile, so that many clients cost no more than one."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._under_way: Future[Health] | None = None

    def answer(self) -> Health:
        with self._lock:
            pending = self._under_way
            if pending is None or pending.done():
                pending = Future()
                threading.Thread(target=self._make, args=(pending,), name="returnable-health", daemon=True).start()
                self._under_way = pending  # only after start(): without a thread it would never be done
        try:
            return pending.result(PATIENCE_SECONDS)
        except TimeoutError:
            return False, {"last_error": f"the store has not answered for {PATIENCE_SECONDS:g} s"}

    def _make(self, pending: Future[Health]) -> None:
        try:
            pending.set_result(self._report())
        except ReturnableError as error:
            pending.set_result((False, {"last_error": str(error)}))
        except BaseException as error:  # an unforeseen error is only named: its text may hold private data
            pending.set_result((False, {"last_error": f"unexpected {type(error).__name__}"}))
