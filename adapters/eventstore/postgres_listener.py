"""Wakes followers by PostgreSQL ``NOTIFY``, over a connection of its own. Where ``LISTEN`` is impossible (behind a pooler),
followers poll."""

from __future__ import annotations

import select
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from returnable.adapters.eventstore import follow
from returnable.adapters.eventstore.forks import in_children
from returnable.adapters.eventstore.postgres_connections import is_pooled

if TYPE_CHECKING:
    from returnable.adapters.eventstore.postgres_connections import AnyConnection, Connections

HEARING_POLL_SECONDS = 1.0
"""How long a follower waits before it polls while notices arrive. It never relies on a notice."""

DEAF_POLL_SECONDS = 0.1
"""How long a follower waits before it polls while there is no connection for notices."""

_AGAIN_SECONDS = 0.5


class Listener:
    """Wakes the followers of a store after any append to it. Its thread starts with the first follower."""

    def __init__(self, connections: Connections, channel: str, wake: Callable[[], None]) -> None:
        self._connections = connections
        self._channel = channel
        self._wake = weakref.WeakMethod(wake)
        self._ear: _Ear | None = None
        self._start_afresh()
        in_children(self._start_afresh)

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        ear, self._ear = self._ear, None
        if ear is not None:
            ear.release()

    def start(self) -> None:
        """Start the thread, unless it runs already."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._connections.check_open()
            self._ear = _Ear()
            self._thread = threading.Thread(
                target=_listen, args=(self._ear, self._connections.connect, self._channel, self._wake), daemon=True
            )
            self._thread.start()

    def pause(self) -> float:
        """How many seconds a follower may wait before it polls."""
        ear = self._ear
        hears = ear is not None and ear.hears and self._thread is not None and self._thread.is_alive()
        return HEARING_POLL_SECONDS if hears else max(DEAF_POLL_SECONDS, follow.POLL_SECONDS)

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            if self._ear is not None:
                self._ear.close()

    def __del__(self) -> None:
        ear = getattr(self, "_ear", None)
        if ear is not None:
            ear.close()


class _Ear:
    """The state that the thread and its owner share: whether notices arrive, and a socket that ends the thread."""

    def __init__(self) -> None:
        self.hears = False
        self.closed = threading.Event()
        self.receiver, self._sender = socket.socketpair()

    def release(self) -> None:
        """Close the socket in a child process, which would otherwise keep the parent's thread from ending."""
        for end in (self.receiver, self._sender):
            with suppress(OSError):
                end.close()

    def close(self) -> None:
        self.closed.set()
        with suppress(OSError):
            self._sender.close()


def _listen(
    ear: _Ear, connect: Callable[[], AnyConnection], channel: str, wake: weakref.WeakMethod[Callable[[], None]]
) -> None:
    try:
        while not ear.closed.is_set():
            # The followers poll in any case, so an error only ends this connection.
            with suppress(psycopg.Error, OSError), connect() as connection:
                if is_pooled(connection):
                    return  # notices would go to another user of the session
                connection.execute(f'LISTEN "{channel}"'.encode())
                ear.hears = True
                _hear(ear, connection, wake)
            ear.hears = False
            ear.closed.wait(_AGAIN_SECONDS)
    finally:
        ear.receiver.close()


def _hear(ear: _Ear, connection: AnyConnection, wake: weakref.WeakMethod[Callable[[], None]]) -> None:
    # Woken once at the beginning: there is no notice of appends before LISTEN took effect.
    told = True
    while not ear.closed.is_set():
        if told:
            awake = wake()
            if awake is None:
                return
            awake()
            del awake
        ready, _, _ = select.select([connection.fileno(), ear.receiver.fileno()], [], [])
        if ear.closed.is_set() or ear.receiver.fileno() in ready:
            return
        connection.pgconn.consume_input()
        told = False
        while connection.pgconn.notifies() is not None:
            told = True
