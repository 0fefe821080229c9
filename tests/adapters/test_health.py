"""Health over HTTP, beside clients that say nothing, that are slow, and that are many."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from patience import wait_until

from returnable.adapters.operating import health
from returnable.adapters.operating.health import MOST_CONNECTIONS, HealthServer

PATIENCE_SECONDS = 30


@contextmanager
def serving(report: health.Report = lambda: (True, {"behind": 0})) -> Iterator[HealthServer]:
    server = HealthServer(("127.0.0.1", 0), report)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(port: int, path: str = "/health") -> tuple[int, Any]:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        line.request("GET", path)
        answer = line.getresponse()
        return answer.status, json.loads(answer.read() or b"null") if path == "/health" else None
    finally:
        line.close()


def silent(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS))


def is_closed(line: socket.socket) -> bool:
    try:
        return line.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_silent_connections_are_few_and_hold_nobody_up(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    # given: no time-out helps
    monkeypatch.setattr(health._Answers, "timeout", PATIENCE_SECONDS)
    monkeypatch.setattr(health, "CONNECTION_SECONDS", PATIENCE_SECONDS)
    most = 0
    with ExitStack() as stack, serving() as server:
        for _ in range(3):
            # when: no more come than wait to be accepted
            for _ in range(MOST_CONNECTIONS - 1):
                silent(stack, server.server_address[1])
                most = max(most, len(server.connections))

            # then: all that came before are accepted
            assert ask(server.server_address[1]) == (200, {"healthy": True, "behind": 0})
            most = max(most, len(server.connections))
        assert MOST_CONNECTIONS <= most <= 2 * MOST_CONNECTIONS
        wait_until(lambda: threading.active_count() < 3 * MOST_CONNECTIONS)
    assert capfd.readouterr() == ("", "")


def test_who_has_asked_is_answered_although_others_come(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: as many as there may be have asked, and wait for the report
    monkeypatch.setattr(health, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(health, "CONNECTION_SECONDS", PATIENCE_SECONDS)
    may_report = threading.Event()

    def report() -> health.Said:
        assert may_report.wait(PATIENCE_SECONDS)
        return True, {}

    with ExitStack() as stack, serving(report) as server:
        lines = [silent(stack, server.server_address[1]) for _ in range(MOST_CONNECTIONS)]
        for line in lines:
            line.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        while sum(one.has_asked for one in list(server.connections.values())) < MOST_CONNECTIONS:
            time.sleep(0.001)

        # when
        closed = [is_closed(silent(stack, server.server_address[1])) for _ in range(3)]
        may_report.set()

        # then
        assert closed == [True] * 3
        assert all(line.recv(12) == b"HTTP/1.0 200" for line in lines)


def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health._Answers, "timeout", 0.05)

    with ExitStack() as stack, serving() as server:
        assert is_closed(silent(stack, server.server_address[1]))


def test_a_connection_that_never_finishes_its_question_is_closed(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(health, "CONNECTION_SECONDS", 0.1)

    with ExitStack() as stack, serving() as server:
        line = silent(stack, server.server_address[1])
        line.sendall(b"GET /health HTTP/1.1\r\nX: ")
        sent = 0
        with suppress(BrokenPipeError, ConnectionResetError):
            while sent < 60_000:  # a line of more is too long
                line.sendall(b"x")
                sent += 1
                time.sleep(0.001)
        assert sent < 60_000
    assert capfd.readouterr() == ("", "")


def test_a_connection_that_cannot_be_accepted_is_followed_by_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    pauses: list[float] = []
    monkeypatch.setattr(health.time, "sleep", pauses.append)

    class NoDescriptorLeft:
        def accept(self) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

    server = HealthServer(("127.0.0.1", 0), lambda: (True, {}))
    listening, server.socket = server.socket, NoDescriptorLeft()  # type: ignore[assignment]

    # when
    for _ in range(3):
        server._handle_request_noblock()  # type: ignore[attr-defined]

    # then
    assert pauses == [health.ACCEPT_PAUSE_SECONDS] * 3
    server.socket = listening
    server.server_close()


def test_a_process_with_few_descriptors_answers_beside_many_silent_clients() -> None:
    # given: a process that may open 80 files
    program = (
        "import resource, sys\n"
        "from returnable.adapters.operating.health import health_at\n"
        "with health_at('127.0.0.1', 0, lambda: (True, {})) as port:\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))\n"
        "    print(port, flush=True)\n"
        "    sys.stdin.read()\n"
        "    open('/dev/null').close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())

    # when
    with ExitStack() as stack:
        for _ in range(5):  # no more at a time than wait to be accepted
            for _ in range(MOST_CONNECTIONS - 1):
                silent(stack, port)

            # then
            assert ask(port)[0] == 200
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("path", ["/", "/healthy", "/" + "x" * 70_000])
def test_another_path_is_not_found_and_not_logged(path: str, capfd: Any) -> None:
    with serving() as server:
        assert ask(server.server_address[1], path)[0] in (404, 414)
    assert capfd.readouterr() == ("", "")
