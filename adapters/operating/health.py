"""Health over HTTP, for whatever watches over a process: ``GET /health`` answers 200 or 503, and says why in JSON.

It answers in time also when the store does not: whoever watches would take silence for death.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic_core import to_json

from returnable.domain.errors import ReturnableError

Said = tuple[bool, Mapping[str, Any]]

Report = Callable[[], Said]
"""Whether all is well, and what there is to say about it."""

PATIENCE_SECONDS = 1.0
"""How long who asks waits for a report, which may wait for a store that is away."""


@contextmanager
def health_at(host: str, port: int, report: Report) -> Iterator[int]:
    """Answer ``GET /health`` there for as long as the context lasts; the port, also where 0 asked for any that is free.

    A report that raises, or does not come in time, is 503 with ``last_error``. Raises ``OSError`` when the address cannot
    be had.
    """
    asked = _Asked(report)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/health":
                self.send_error(404)
                return
            well, said = asked.answer()
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
