"""Connections to a PostgreSQL server: a small pool that repeats work whose connection was lost.

A lost connection is replaced and the work repeated, until ``patience_seconds`` are over. Waits are added up, not timed:
clocks may stand still in tests.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg import Connection, errors, pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row

from returnable.adapters.eventstore.forks import in_children, notice
from returnable.adapters.eventstore.postgres_place import Place
from returnable.adapters.eventstore.postgres_schema import check_version, version_of
from returnable.domain.errors import StoreBusy, StoreUnusable

T = TypeVar("T")

AnyConnection = Connection[Any]

PAUSES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds to wait before each attempt after a lost connection; the last value holds for all further attempts."""


class HostPool(Protocol):
    """A pool of the host, such as ``psycopg_pool.ConnectionPool``. The store never closes it."""

    def getconn(self, timeout: float | None = None) -> AnyConnection:
        """Take a connection."""
        ...

    def putconn(self, conn: AnyConnection) -> None:
        """Give a connection back, sound or closed."""
        ...


@dataclass(frozen=True)
class Limits:
    """The most connections, and the longest waits in seconds.

    ``busy_seconds``: for other writers, and for a free connection. ``statement_seconds``: for one statement. The server
    cancels it then; a client whose server does not answer gives up a little later. ``connect_seconds``: for a server to
    answer. ``opening_seconds``: for a server that is still starting when the store is opened. ``patience_seconds``: for a
    lost server to come back.
    """

    busy_seconds: float = 5.0
    statement_seconds: float = 30.0
    connect_seconds: float = 5.0
    opening_seconds: float = 1.0
    patience_seconds: float = 15.0
    connections: int = 8

    @property
    def vanished_seconds(self) -> int:
        """How long the server keeps the locks of a host that it cannot reach.

        Four fifths of ``busy_seconds``, in whole seconds and at least 4, so that waiting writers still get their turn.
        """
        return _PROBES * max(1, int(self.busy_seconds * 0.8 / _PROBES))

    @property
    def transaction_seconds(self) -> float:
        """The longest transaction. PostgreSQL ignores the limit of a statement that is not below the transaction's."""
        return self.statement_seconds + self.busy_seconds


_PROBES = 4
"""The server waits once, and then asks three times, each for the same number of whole seconds."""


class Lost(Exception):
    """The connection was lost; its work may or may not have been done."""


# Besides class 08: shutdown by an administrator, crash of another backend, server starting or stopping, idle too long.
_LOST = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04"})

# A serialization failure, a deadlock, a server with no room for another connection: nothing is lost, and the next attempt
# may succeed.
_NO_ROOM = "53300"
_AGAIN = frozenset({"40001", "40P01", _NO_ROOM})

_BAD_URL = "URL"  # no SQLSTATE: it never reached the server

_CAUSES = {
    "RT001": "events would not be durable or not be in order here",
    "25006": "it is read-only",
    "42501": "access is denied",
    "28000": "access is denied",
    "28P01": "the password is wrong",
    "3D000": "there is no such database",
    "53100": "the disk is full",
    "53200": "the server is out of memory",
    "42P01": "its tables are not there any more",
    "42883": "its tables are not there any more",
    "3F000": "its schema is not there any more",
    _BAD_URL: "libpq does not understand this URL",
    "26000": "it shares sessions: give a pool of your own, with prepare_threshold=None",
    "42P05": "it shares sessions: give a pool of your own, with prepare_threshold=None",
}

# The texts of a server, or of a pooler before it, that refuses a connection. A text in another language counts as a server
# that is away, and the attempt is repeated.
_SAID_AT_CONNECT = tuple(
    (re.compile(pattern), code)
    for pattern, code in (
        (r"password authentication failed|SASL authentication failed", "28P01"),
        (r"authentication failed|no password supplied|pg_hba\.conf|permission denied for database", "28000"),
        (r'role "[^"]*" (does not exist|is not permitted)|no such user', "28000"),
        (r'database "[^"]*" does not exist|no such database', "3D000"),
        (r"too many (clients|connections)|connection slots are reserved|no more connections allowed", _NO_ROOM),
        (r"connection is bad: invalid ", _BAD_URL),
    )
)

CLAIMED_TWICE, GAP = "RT002", "RT003"
WRONG_APPENDS = frozenset({CLAIMED_TWICE, GAP})
"""What the function ``append`` raises for wrong arguments."""

_WRONG_CALLS = (psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError)


class Connections:
    """The connections of one store to its server, its own or those of the host's pool; safe to share between threads.

    Raises :class:`StoreUnusable` when the server cannot be reached, is not durable or holds no store of this version.
    ``only_reading``: the server may be a standby, or not durable.
    """

    def __init__(self, place: Place, limits: Limits, *, pool: HostPool | None, only_reading: bool) -> None:
        _check_url(place)
        self.place = place
        self.limits = limits
        self._host = pool
        self._only_reading = only_reading
        self._start_afresh()
        try:
            self.use(self._check, min(limits.opening_seconds, limits.patience_seconds))
        except BaseException:
            self.close()
            raise
        in_children(self._abandon)

    def _start_afresh(self) -> None:
        self._held = _Held()
        self._slots = _Slots(self.limits.connections)
        self._watch = _Watch(self.limits.transaction_seconds)
        self._sessions_are_ours = self._host is None
        # A store that nobody closed leaks nothing.
        self._finalizer = weakref.finalize(self, _release, self._held, self._watch)

    def use(self, work: Callable[[AnyConnection], T], patience: float | None = None) -> T:
        """Run work on a connection in autocommit mode and return its result; repeat it on another one when that is lost.

        Raises :class:`StoreUnusable` when the server did not come back in time, and :class:`StoreBusy` when it, or
        other threads, took too long.
        """
        patience = self.limits.patience_seconds if patience is None else patience
        waited, attempt = 0.0, 0
        while True:
            try:
                return self._do(work)
            except Lost as lost:
                if waited >= patience:
                    raise StoreUnusable(f"{self.place}: {_first_line(lost)}") from lost.__cause__
                # An attempt to connect that timed out has waited as well.
                pause = PAUSES[min(attempt, len(PAUSES) - 1)]
                waited += pause + (
                    self.limits.connect_seconds if isinstance(lost.__cause__, errors.ConnectionTimeout) else 0
                )
                attempt += 1
            if self._held.wait(pause):
                self.check_open()

    def check_open(self) -> None:
        """Raise :class:`StoreUnusable` once the store is closed."""
        notice()
        if self._held.closed:
            raise StoreUnusable(f"{self.place}: the store is closed")

    def bound(self, connection: AnyConnection) -> None:
        """Limit the transaction that has just begun, where the session is not ours and :meth:`_configured` set nothing.

        The settings end with the transaction. In a pipeline they cost no round trip.
        """
        if not self._sessions_are_ours:
            _set(connection, _against_vanishing(connection, self.limits), local=True)

    def connect(self) -> AnyConnection:
        """A new connection to the server, apart from every pool. Raises :class:`psycopg.Error`."""
        return connect(self.place, self.limits)

    def close(self) -> None:
        """Close the connections that are not in use now, and the others when they are given back."""
        _release(self._held, self._watch)
        self._finalizer.detach()

    def _abandon(self) -> None:
        # Nothing is sent to the server: the connections belong to the parent process.
        self._finalizer.detach()
        _ABANDONED.extend(self._held.idle)
        closed = self._held.closed
        self._start_afresh()
        self._held.closed = closed

    def _do(self, work: Callable[[AnyConnection], T]) -> T:
        # No context managers: this is the path of every command. A time limit may be raised in this thread after any call, so
        # ``use`` notes each thing that must be given back before it is taken.
        self.check_open()
        use = _Use()
        try:
            self._take(use)
            connection = use.connection
            assert connection is not None
            self._watch.begin(connection)
            if not use.autocommit:
                connection.autocommit = True
            result = work(connection)
        except psycopg.Error as error:
            explained = self._explain(error, use.connection)
            if explained is error:
                raise
            raise explained from error
        finally:
            # Twice, because the first attempt may be what is interrupted.
            try:
                self._give_back(use)
            finally:
                self._give_back(use)
        return result

    def _take(self, use: _Use) -> None:
        """A connection for this thread alone."""
        if self._host is not None:
            try:
                use.connection = self._host.getconn(self.limits.busy_seconds)
            except psycopg.OperationalError as error:
                raise Lost(f"the host's pool gives no connection ({_first_line(error)})") from error
            use.autocommit = use.connection.autocommit
            return
        if not self._slots.take(use, self.limits.busy_seconds):
            raise StoreBusy(f"{self.place}: other threads held all {self.limits.connections} connections")
        use.connection = self._held.take() or self._configured()

    def _give_back(self, use: _Use) -> None:
        """Give back what was taken; harmless when repeated."""
        connection = use.connection
        if connection is not None:
            self._watch.end(connection)
        if self._host is None:
            use.connection = None
            if connection is not None:
                self._held.give_back(connection)
            self._slots.leave(use)
        elif connection is not None:
            if not use.autocommit and not connection.closed:
                with suppress(psycopg.Error):
                    connection.autocommit = False
            use.connection = None
            self._host.putconn(connection)

    def _explain(self, error: psycopg.Error, connection: AnyConnection | None) -> Exception:
        code = _code_of(error, connection)
        if code is not None and code in _CAUSES:
            return StoreUnusable(f"{self.place}: {_CAUSES[code]} ({_first_line(error)})")
        if code == _NO_ROOM:
            return Lost(f"the server has no room for another connection ({_first_line(error)})")
        if code == "55P03":
            return StoreBusy(f"{self.place}: another writer held the store for {self.limits.busy_seconds:g} s")
        if code == "57014":
            return StoreBusy(f"{self.place}: the server took too long ({_first_line(error)})")
        silent = code is None and isinstance(error, psycopg.OperationalError)
        if silent or connection is None or connection.closed:
            self._held.forget()
            return Lost(f"the server cannot be reached ({_first_line(error)})")
        if code is not None and (code in _LOST or code[:2] == "08"):
            self._held.forget()
            return Lost(_first_line(error))
        if code in _AGAIN:
            return Lost(_first_line(error))
        if isinstance(error, _WRONG_CALLS) or code in WRONG_APPENDS:
            return error
        return StoreUnusable(f"{self.place}: PostgreSQL refuses ({_first_line(error)})")

    def _configured(self) -> AnyConnection:
        connection = self.connect()
        try:
            if is_pooled(connection):
                # Settings and prepared statements would be left to the next user of the session.
                self._sessions_are_ours = False
                connection.prepare_threshold = None
                return connection
            settings = {
                "statement_timeout": milliseconds(self.limits.statement_seconds),
                "lock_timeout": milliseconds(self.limits.busy_seconds),
                "default_transaction_isolation": "read committed",
                "default_transaction_read_only": "on" if self._only_reading else "off",
            }
            _set(connection, settings | _against_vanishing(connection, self.limits), local=False)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: AnyConnection) -> None:
        encoding, read_only, *durable = connection.cursor(row_factory=tuple_row).execute(
            "SELECT current_setting('server_encoding'), pg_is_in_recovery(), current_setting('fsync'),"
            " current_setting('synchronous_commit'), current_setting('full_page_writes')"
        ).fetchone() or ("", False)
        if encoding != "UTF8":
            raise StoreUnusable(f"{self.place}: the database must be encoded in UTF8, not in {encoding}")
        if not self._only_reading:
            if read_only:
                raise StoreUnusable(f"{self.place}: it is a standby and read-only")
            for name, value in zip(("fsync", "synchronous_commit", "full_page_writes"), durable, strict=True):
                if value == "off":
                    raise StoreUnusable(
                        f"{self.place}: {name} is off there: events that were acknowledged could be lost; switch it on"
                    )
        check_version(self.place, version_of(connection, self.place.schema))


class _Use:
    """One use of a connection: all that has to be given back."""

    __slots__ = ("autocommit", "calls", "connection")

    def __init__(self) -> None:
        self.connection: AnyConnection | None = None
        self.autocommit = True
        """Whether the connection was in that mode already."""
        self.calls: SimpleQueue[None] | None = None
        """Wakes a thread that waits for a slot."""


class _Slots:
    """A fixed number of slots for connections; threads that find none free wait in turn.

    Each slot is noted for its use, and each use leaves in the end. So no slot is lost with a thread that is interrupted,
    wherever that happens.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()
        self._users: dict[_Use, None] = {}
        self._waiting: deque[_Use] = deque()

    def take(self, use: _Use, seconds: float) -> bool:
        """Wait for a slot; whether one came in time. In both cases :meth:`leave` has to follow."""
        with self._lock:
            if len(self._users) < self._number:
                self._users[use] = None
                return True
            use.calls = SimpleQueue()
            self._waiting.append(use)
        try:
            use.calls.get(timeout=seconds)
        except Empty:
            return use in self._users
        return True

    def leave(self, use: _Use) -> None:
        """Give up the slot or the wait for one; harmless when repeated."""
        with self._lock:
            self._users.pop(use, None)
            if use.calls is not None and use in self._waiting:
                self._waiting.remove(use)
            # The first in the queue stays there until it was called: this loop may be interrupted, and is then repeated.
            while self._waiting and (self._waiting[0] in self._users or len(self._users) < self._number):
                first = self._waiting[0]
                self._users[first] = None
                if first.calls is not None:
                    first.calls.put(None)
                self._waiting.popleft()


class _Held:
    """The connections that are open and not in use."""

    def __init__(self) -> None:
        self.idle: list[AnyConnection] = []
        self.closed = False
        self._lock = threading.Lock()
        self._end = threading.Event()

    def take(self) -> AnyConnection | None:
        with self._lock:
            return self.idle.pop() if self.idle else None

    def give_back(self, connection: AnyConnection) -> None:
        if not connection.closed and connection.info.transaction_status == pq.TransactionStatus.IDLE:
            with self._lock:
                if not self.closed:
                    self.idle.append(connection)
                    return
        with suppress(psycopg.Error):
            connection.close()

    def forget(self) -> None:
        """Close these connections: where one connection was lost, the others probably are as well."""
        with self._lock:
            idle, self.idle = self.idle, []
        for connection in idle:
            with suppress(psycopg.Error):
                connection.close()

    def close(self) -> None:
        with self._lock:
            self.closed = True
        self._end.set()
        self.forget()

    def wait(self, seconds: float) -> bool:
        """Wait; whether the store was closed meanwhile."""
        return self._end.wait(seconds)


class _Watch:
    """Cuts a connection off whose server does not answer. An endless wait then becomes a lost connection.

    The time-outs of the server come first; this one is for a server, or a network, that fell silent. Beats are counted
    because the clock may stand still.
    """

    def __init__(self, limit_seconds: float) -> None:
        self._beat_seconds = min(1.0, limit_seconds / 4)
        self._beats = max(2, round(limit_seconds / self._beat_seconds))
        self._at_work: dict[int, list[Any]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._end = threading.Event()

    def begin(self, connection: AnyConnection) -> None:
        self._at_work[id(connection)] = [connection, 0]
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._end.is_set():
                # The thread must not keep a forgotten store from being released.
                what = (weakref.ref(self), self._end, self._beat_seconds)
                self._thread = threading.Thread(target=_beat, args=what, daemon=True)
                self._thread.start()

    def end(self, connection: AnyConnection) -> None:
        if self._at_work.pop(id(connection), None) is None:
            with self._lock:  # it is being cut off: its descriptor must not be reused before that is done
                pass

    def look(self) -> None:
        with self._lock:
            for key, entry in list(self._at_work.items()):
                entry[1] += 1
                if entry[1] > self._beats and self._at_work.pop(key, None) is not None:
                    _cut_off(entry[0])

    def close(self) -> None:
        self._end.set()


def _beat(watch: weakref.ref[_Watch], end: threading.Event, seconds: float) -> None:
    while not end.wait(seconds):
        living = watch()
        if living is None:
            return
        living.look()
        del living


def _cut_off(connection: AnyConnection) -> None:
    with suppress(OSError, psycopg.Error):
        line = socket.socket(fileno=os.dup(connection.fileno()))
        try:
            line.shutdown(socket.SHUT_RDWR)
        finally:
            line.close()


def _release(held: _Held, watch: _Watch) -> None:
    held.close()
    watch.close()


_ABANDONED: list[AnyConnection] = []
"""Connections of a parent process. They are kept so that Python does not close them."""


def connect(place: Place, limits: Limits) -> AnyConnection:
    """A connection in autocommit mode. Raises :class:`psycopg.Error`."""
    return psycopg.connect(
        place.conninfo,
        autocommit=True,
        client_encoding="UTF8",
        # libpq takes whole seconds, at least 2. Arguments here override the URL, so they are given only where the URL says
        # nothing.
        **{name: value for name, value in _line(limits).items() if f"{name}=" not in place.conninfo},
    )


def _check_url(place: Place) -> None:
    """Raise :class:`StoreUnusable` for a URL that libpq does not take. The error of libpq itself would quote passwords."""
    try:
        conninfo_to_dict(place.conninfo)
        return
    except UnicodeError:
        why = "a percent-encoded text in it is not UTF-8"
    except psycopg.ProgrammingError as error:
        why = _first_line(error)
    raise StoreUnusable(f"{place}: {_CAUSES[_BAD_URL]} ({why})")


def is_pooled(connection: AnyConnection) -> bool:
    """Whether a pooler such as PgBouncer is between: it invents a number for the server's process."""
    ((pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
    return bool(pid != connection.info.backend_pid)


def _line(limits: Limits) -> dict[str, Any]:
    return {
        "connect_timeout": max(2, round(limits.connect_seconds)),
        "keepalives": 1,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        # Where this is set, Linux does not count unanswered keep-alives: it alone decides when the server is given up.
        "tcp_user_timeout": 1000 * (5 + 3 * 2),
        "application_name": "returnable",
    }


def _against_vanishing(connection: AnyConnection, limits: Limits) -> dict[str, str]:
    """Settings of a session that end its transaction, and free its locks, when its host vanished or stopped.

    While the server waits for the rest of a pipeline it counts as active, so that neither the limit for idle transactions
    nor the one for statements fires. Keep-alives end the session of a host that is not reached. The limit for transactions,
    which PostgreSQL has from version 17 on, also ends that of a host that is reached but sends nothing.
    """
    probe = str(limits.vanished_seconds // _PROBES)
    settings = {
        "tcp_keepalives_idle": probe,
        "tcp_keepalives_interval": probe,
        "tcp_keepalives_count": str(_PROBES - 1),
        # An answer that is not acknowledged holds the keep-alives back; this bounds that wait.
        "tcp_user_timeout": milliseconds(limits.vanished_seconds),
        "idle_in_transaction_session_timeout": milliseconds(limits.statement_seconds),
    }
    if connection.info.server_version >= 170000:
        settings["transaction_timeout"] = milliseconds(limits.transaction_seconds)
    return settings


def _set(connection: AnyConnection, settings: Mapping[str, str], *, local: bool) -> None:
    calls = ", ".join(["set_config(%s, %s, %s)"] * len(settings))
    values = [value for name, setting in settings.items() for value in (name, setting, local)]
    connection.execute(f"SELECT {calls}".encode(), values)


@contextmanager
def connected(place: Place, limits: Limits) -> Iterator[AnyConnection]:
    """A connection for work that is done once. Raises :class:`StoreUnusable`."""
    _check_url(place)
    connection = None
    try:
        with connect(place, limits) as connection:
            if not is_pooled(connection):
                # Such work may take long, but a host that vanished meanwhile must not keep its locks.
                alive = _against_vanishing(connection, limits)
                _set(connection, {name: alive[name] for name in alive if name.startswith("tcp_")}, local=False)
            yield connection
    except psycopg.Error as error:
        code = _code_of(error, connection)
        cause = "it cannot be used" if code else "it cannot be reached"
        cause = "the server has no room for another connection" if code == _NO_ROOM else _CAUSES.get(code or "", cause)
        raise StoreUnusable(f"{place}: {cause} ({_first_line(error)})") from error


def _code_of(error: psycopg.Error, connection: AnyConnection | None) -> str | None:
    """The SQLSTATE of an error. For a connection that failed to open, libpq gives only a text."""
    if error.sqlstate is not None or connection is not None:
        return error.sqlstate
    if isinstance(error, psycopg.ProgrammingError):
        return _BAD_URL
    text = str(error)
    # One line for each host where there are several: as long as one of them may come back, nothing is certain.
    failures = [line for line in text.splitlines() if line.startswith("- host: ")] or [text]
    codes = [next((code for said, code in _SAID_AT_CONNECT if said.search(one)), None) for one in failures]
    if None in codes:
        return None
    return _NO_ROOM if _NO_ROOM in codes else codes[0]


def milliseconds(seconds: float) -> str:
    """A time-out as PostgreSQL takes it; never 0, which would switch it off."""
    return str(max(1, round(1000 * seconds)))


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    # libpq quotes a part of a URL that it does not understand, and that part may be the password.
    at_connect = isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None
    return line.partition('"')[0].rstrip(" :") if at_connect else line
