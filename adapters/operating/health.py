"""Health over HTTP, for whatever watches over a process: ``GET /health`` answers 200 or 503, and says why in JSON.

It answers in time also when the store does not: whoever watches would take silence for death. Clients cannot harm the
process: a connection is closed after a while, there are few at a time, and a silent one gives way to the next.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic_core import to_json

from returnable.domain.errors import ReturnableError

Said = tuple[bool, Mapping[str, Any]]

Report = Callable[[], Said]
"""Whether all is well, and what there is to say about it."""

PATIENCE_SECONDS = 1.0
"""How long who asks waits for a report, which may wait for a store that is away."""

MOST_CONNECTIONS = 32
"""How many connections may be open at a time. One more closes the oldest that has not asked yet; where all have asked, it
is closed itself."""

SILENCE_SECONDS = 2.0
"""A connection is closed when nothing comes for so long, or nothing can be sent."""

CONNECTION_SECONDS = 5.0
"""A connection is closed after so long, however busy it is."""

ACCEPT_PAUSE_SECONDS = 0.1
"""How long to wait after a connection that could not be accepted, as when the process has no file descriptor left."""


@contextmanager
def health_at(host: str, port: int, report: Report) -> Iterator[int]:
    """Answer ``GET /health`` there for as long as the context lasts; the port, also where 0 asked for any that is free.

    A report that raises, or does not come in time, is 503 with ``last_error``. Raises ``OSError`` when the address cannot
    be had.
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
        """The next connection. Raises ``OSError`` after a pause: the caller would try again at once, and for ever."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(ACCEPT_PAUSE_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Let a thread answer, unless there are too many connections."""
        with self._lock:
            silent = [one for one in self.connections.values() if not one.has_asked]
            # Whoever was closed counts until its thread has ended. So there are twice as many at the very most.
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
        """Close the connections that are open for too long; called between two connections, and while there is none."""
        with self._lock:
            for one in self.connections.values():
                if time.monotonic() - one.since > CONNECTION_SECONDS:
                    one.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nobody reads a traceback for each client that goes away."""


class _Connection:
    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.since = time.monotonic()
        self.has_asked = False

    def close(self) -> None:
        self.has_asked = True  # it is not chosen twice
        # Its thread reads the end, and gives the descriptor back.
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
        well, said = server.asked.answer()
        body = to_json({"healthy": well, **said})
        self.send_response(200 if well else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Whoever asks every second is not worth a line."""


class _Asked:
    """One report at a time, whose answer all get who asked meanwhile: many that ask a store that is away cost no more."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._under_way: _Pending | None = None

    def answer(self) -> Said:
        with self._lock:
            pending = self._under_way
            if pending is None or pending.done.is_set():
                pending = _Pending()
                threading.Thread(target=pending.work, args=(self._report,), daemon=True).start()
                self._under_way = pending  # not before: where there was no thread for it, it would never be done
        if pending.done.wait(PATIENCE_SECONDS):
            return pending.said
        return False, {"last_error": f"the store has not answered for {PATIENCE_SECONDS:g} s"}


class _Pending:
    """A report that is being made."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.said: Said = (False, {})

    def work(self, report: Report) -> None:
        try:
            self.said = report()
        except ReturnableError as error:
            self.said = False, {"last_error": str(error)}
        except Exception as error:  # of what nobody thought of only the name is told to the network
            self.said = False, {"last_error": f"unexpected {type(error).__name__}"}
        finally:
            self.done.set()
