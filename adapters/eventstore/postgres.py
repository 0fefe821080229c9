"""A store on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from returnable.adapters.eventstore.appends import Append, Row, check_next, conflict, receipt_values, span
from returnable.adapters.eventstore.follow import Following
from returnable.adapters.eventstore.postgres_connections import (
    CLAIMED_TWICE,
    GAP,
    AnyConnection,
    Connections,
    HostPool,
    Limits,
    connected,
    milliseconds,
)
from returnable.adapters.eventstore.postgres_listener import Listener
from returnable.adapters.eventstore.postgres_place import Place
from returnable.adapters.eventstore.postgres_schema import INDEXES, channel_of
from returnable.adapters.eventstore.postgres_schema import migrate as migrate_schema
from returnable.adapters.eventstore.sql import COLUMNS, SqlRecords, SqlStore, Statements
from returnable.domain.errors import (
    CommandSeen,
    NameTaken,
    PolicyMissing,
    ReturnableError,
    Stale,
    StoreBusy,
    StoreUnusable,
)

T = TypeVar("T")

SPELT_OUT = 8
"""Arrays up to this length get a placeholder for each element: the driver encodes a text in C, but a list in Python."""


class PostgresStore(SqlStore):
    """A store on a PostgreSQL server, in a schema of its own; any number of processes and machines share it.

    An append is one call of the function ``append`` and one round trip. A call whose answer was lost is made again. No two
    events get the same place, so if the second call is refused, the stored rows show whether the first call succeeded.
    """

    def __init__(
        self, place: Place, *, limits: Limits | None = None, pool: HostPool | None = None, only_reading: bool = False
    ) -> None:
        """Raises :class:`StoreUnusable` when the server cannot be reached or trusted, or holds no store."""
        limits = limits or Limits()
        self._connections = Connections(place, limits, pool=pool, only_reading=only_reading)
        tables = _Tables(self._connections)
        super().__init__(tables, limits.busy_seconds)
        self.records = _Records(tables)
        self._listener = Listener(self._connections, channel_of(place.schema), self._wake_followers)
        self._function = f"{tables.prefix}append"
        self._patience = milliseconds(limits.busy_seconds)

    def _prepare(self, append: Append) -> _Request:
        return _Request(append, *_call(self._function, append, self._patience))

    def _append_all(self, requests: Sequence[_Request], unanswered: int = 0) -> list[Sequence[int] | Exception]:
        """``unanswered``: how often the requests were sent before without an answer, so that they may be stored already.

        A single request is one round trip.
        """
        sent = 0

        def send(connection: AnyConnection) -> list[Any]:
            nonlocal sent
            sent += 1
            if len(requests) == 1:
                return [_execute(connection, requests[0]).fetchone()]
            return self._send_together(connection, requests)

        rows: list[Any]
        try:
            rows = self._connections.use(send)
        except StoreBusy as busy:
            # The last attempt stored nothing. Those before it may have stored the requests.
            unanswered += sent - 1
            if not unanswered:
                raise
            rows = [StoreUnusable(f"{busy}; an answer was lost before that, ask what is stored") for _ in requests]
        except ReturnableError:
            raise
        except (errors.Error, ValueError, TypeError, OverflowError) as error:
            # Any other exception, such as a time limit raised in this thread, may have come after the commit.
            unanswered += sent - 1
            if len(requests) > 1:  # one is refused, and nothing is written: now each alone
                return [self._append_alone(request, unanswered) for request in requests]
            rows = [_raised(error, requests[0].append, self._connections.place)]
        else:
            unanswered += sent - 1
        results: list[Sequence[int] | Exception] = []
        given: set[int] = set()
        for request, row in zip(requests, rows, strict=True):
            try:
                results.append(self._result(request.append, row, unanswered, given))
            except ReturnableError as error:  # the stored rows cannot be read
                results.append(error)
            given.update(() if isinstance(results[-1], Exception) else results[-1])
        self._wake_followers()
        return results

    def _send_together(self, connection: AnyConnection, requests: Sequence[_Request]) -> list[Any]:
        try:
            with connection.pipeline() as pipeline:
                # The COMMIT is sent before any answer is read: the server holds the writers' lock until then, and must not
                # wait for a host that may vanish.
                connection.execute(b"BEGIN")
                self._connections.bound(connection)
                cursors = [_execute(connection, request) for request in requests]
                connection.execute(b"COMMIT")
                pipeline.sync()  # of several errors the first is raised
        finally:
            # The server skipped the COMMIT, or it was never sent because a request could not be encoded.
            if connection.info.transaction_status in (TransactionStatus.INERROR, TransactionStatus.INTRANS):
                connection.rollback()
        return [cursor.fetchone() for cursor in cursors]

    def _append_alone(self, request: _Request, unanswered: int) -> Sequence[int] | Exception:
        try:
            (result,) = self._append_all([request], unanswered)
        except ReturnableError as error:
            return error
        return result

    def _result(self, append: Append, row: Any, unanswered: int, given: set[int]) -> Sequence[int] | Exception:
        """The positions of an append, or its error; ``given`` are the positions of other requests of the batch."""
        if isinstance(row, Exception):
            refused = row
        else:
            first, refusal, nth = row
            if refusal is None:
                return (
                    list(range(first, first + sum(len(batch.entries) for batch in append.batches)))
                    if first is not None
                    else []
                )
            refused = _refused(refusal, nth, append)
        if unanswered:
            # An earlier call may have succeeded without an answer: then this refusal is its effect.
            stored = self._stored_as_sent(append)
            if stored is not None and given.isdisjoint(stored):
                return stored
        return refused

    def _stored_as_sent(self, append: Append) -> Sequence[int] | None:
        """The positions of these events where all of the append is stored as it was sent; else ``None``."""
        wanted = list(append.rows())
        query = (
            f"SELECT {COLUMNS} FROM {self._facts} JOIN unnest(?::text[], ?::integer[]) AS wanted (case_id, case_seq)"
            " USING (case_id, case_seq) ORDER BY position"
        )
        rows: list[Row] = self._tables.ask(query, ([row[0] for row in wanted], [row[1] for row in wanted]))
        if [row[1:] for row in rows] != wanted:
            return None
        positions = [row[0] for row in rows]
        if positions and positions != list(range(positions[0], positions[0] + len(positions))):
            return None
        if any(self.case_of(name.kind, name.name) != name.case_id for name in append.reserved_ids):
            return None
        if append.receipt is not None:
            kept = self.receipt(append.receipt.command_id)
            if kept is None or receipt_values(kept) != receipt_values(append.receipt):
                return None
            if (kept.first, kept.last) != span(positions):
                return None
        return positions

    def followed(self, following: Following[Any]) -> None:
        super().followed(following)
        following.pause = self._listener.pause
        self._listener.start()

    def close(self) -> None:
        super().close()
        self._listener.close()
        self._connections.close()


class _Tables:
    by_case = ""
    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.name = str(connections.place)
        self.prefix = f"{connections.place.schema}."

    def ask(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        return self._connections.use(lambda connection: _Statements(connection).execute(query, values))

    def change(self, work: Callable[[Statements], T]) -> T:
        def in_transaction(connection: AnyConnection) -> T:
            with connection.transaction():
                self._connections.bound(connection)
                return work(_Statements(connection))

        return self._connections.use(in_transaction)


class _Records(SqlRecords):
    def damage(self) -> Iterator[str]:
        prefix = self._tables.prefix
        ((head,),) = self._tables.ask(f"SELECT coalesce(max(position), 0) FROM {prefix}facts")
        # Read after the events: others may append meanwhile. It may be ahead, because a conflict returns no position.
        ((given,),) = self._tables.ask(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {prefix}positions")
        if given < head:
            yield f"the last event is at position {head}, but the sequence has only come to {given}"
        schema = prefix.removesuffix(".")
        query = (
            "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = oid WHERE indisvalid AND relnamespace ="
            " ?::regnamespace"
        )
        kept = {index for (index,) in self._tables.ask(query, (schema,))}
        for index in sorted(INDEXES - kept):
            yield f"the index {index} is missing"
        query = (
            "SELECT tgname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal AND tgtype & 2 <> 0"
            " AND relnamespace = ?::regnamespace ORDER BY tgname"
        )
        for (trigger,) in self._tables.ask(query, (schema,)):
            yield f"a trigger, {trigger}, may change what is written"


class _Statements:
    def __init__(self, connection: AnyConnection) -> None:
        self._cursor = connection.cursor(binary=True, row_factory=tuple_row)

    def execute(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        return self._cursor.execute(_with_marks(query), values).fetchall()

    def executemany(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        self._cursor.executemany(_with_marks(query), rows)


def _with_marks(query: str) -> bytes:
    return query.replace("?", "%s").encode()


def migrate(place: Place, limits: Limits | None = None) -> tuple[int, int]:
    """Create the store at a place, or bring it up to date. Returns the version of its tables before (0: none) and after.

    Safe to run from many processes at once. Raises :class:`StoreUnusable`.
    """
    with connected(place, limits or Limits()) as connection:
        return migrate_schema(connection, place)


class _Request(NamedTuple):
    """An append, and the statement that carries it out."""

    append: Append
    statement: bytes
    values: list[object]


def _execute(connection: AnyConnection, request: _Request) -> Any:
    cursor = connection.cursor(binary=True, row_factory=tuple_row)
    # A host switches preparing off for a reason, such as a pooler between it and the server.
    prepare = None if connection.prepare_threshold is None else True
    return cursor.execute(request.statement, request.values, prepare=prepare)


def _call(function: str, append: Append, patience: str) -> tuple[bytes, list[object]]:
    """The statement that appends, and its values."""
    batches, reserved_ids, receipt, pinned = append
    entries = [entry for batch in batches for entry in batch.entries]
    arrays: list[tuple[Sequence[object] | None, str]] = [
        ([entry.encoded[0] for entry in entries], "text"),
        ([entry.encoded[1] for entry in entries], "bytea"),
        ([entry.stream for entry in entries], "text"),
        ([entry.version for entry in entries], "integer"),
        ([batch.case_id for batch in batches], "text"),
        ([batch.after for batch in batches], "integer"),
        ([len(batch.entries) for batch in batches], "integer"),
        ([batch.tip and batch.tip.digest for batch in batches], "text"),
        ([name.kind for name in reserved_ids], "text"),
        ([name.name for name in reserved_ids], "text"),
        ([name.case_id for name in reserved_ids], "text"),
        (None if receipt is None else receipt_values(receipt), "text"),
    ]
    values: list[object] = []
    spelt: list[str] = []
    for array, kind in arrays:
        mark = "%b" if kind == "bytea" else "%s"
        if array is None:
            spelt.append("NULL")
        elif not array:
            spelt.append("'{}'")
        elif len(array) <= SPELT_OUT:
            spelt.append(f"ARRAY[{', '.join([mark] * len(array))}]::{kind}[]")
            # As text, a number gives one prepared statement and not one for each of its sizes.
            values += map(str, array) if kind == "integer" else array
        else:
            spelt.append(f"{mark}::{kind}[]")
            values.append(array)
    values += [pinned, patience]
    return f"SELECT first, refusal, nth FROM {function}({', '.join(spelt)}, %s, %s)".encode(), values


def _refused(refusal: str, nth: int | None, append: Append) -> Exception:
    if refusal == "seen" and append.receipt is not None:
        return CommandSeen(append.receipt.command_id)
    if refusal == "taken" and nth is not None:
        return NameTaken(append.reserved_ids[nth - 1].kind, append.reserved_ids[nth - 1].name)
    if refusal == "stale" and nth is not None:
        return Stale(append.batches[nth - 1].case_id)
    if refusal == "policy":
        return PolicyMissing(f"the policy {append.pinned} is not kept")
    raise AssertionError(f"append() answered {refusal!r}")


def _raised(error: Exception, append: Append, place: Place) -> Exception:
    """Our error for an exception of the function."""
    if not isinstance(error, errors.DatabaseError):
        return error
    if isinstance(error, errors.SequenceGeneratorLimitExceeded | errors.NumericValueOutOfRange):
        return StoreUnusable(
            f"{place}: the sequence of positions has come to its end, so nothing was recorded; set it back to the last "
            f"position of an event ({error.diag.message_primary})"
        )
    if isinstance(error, errors.IntegrityError):
        return conflict(append, error.diag.message_detail or str(error))
    nth = error.diag.message_detail
    if error.sqlstate == CLAIMED_TWICE and nth is not None:
        name = append.reserved_ids[int(nth) - 1]
        return NameTaken(name.kind, name.name)
    if error.sqlstate == GAP and nth is not None:
        entry = [entry for batch in append.batches for entry in batch.entries][int(nth) - 1]
        try:
            check_next(entry.stream, int(error.diag.message_hint or 0), entry.version)
        except ValueError as gap:
            return gap
    return error
