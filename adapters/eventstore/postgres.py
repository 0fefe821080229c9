"""A recorder on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from eventsourcing.persistence import StoredEvent
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from returnable.adapters.eventstore.bookkeeping import (
    RECEIPT_COLUMNS,
    SqlBookmarks,
    SqlDueTable,
    SqlRecords,
    SqlRefusalCounts,
    Statements,
    receipt_of,
)
from returnable.adapters.eventstore.group_commit import GroupCommit, Interrupted, TurnTimedOut
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
from returnable.adapters.eventstore.recorder import (
    CaseRecorder,
    Insert,
    Placement,
    Row,
    check_next,
    conflict,
    refuse_unknown,
    stream_of,
)
from returnable.adapters.eventstore.subscription import PollingSubscription
from returnable.domain.errors import (
    CommandSeen,
    NameTaken,
    PolicyMissing,
    ReturnableError,
    Stale,
    StoreBusy,
    StoreUnusable,
)
from returnable.domain.fields import to_text
from returnable.domain.ids import RegisteredKind
from returnable.domain.ports import CommandReceipt, ReservedId

T = TypeVar("T")

_COLUMNS = "position, case_id, case_seq, stream, version, type, content"

PAGE = 2000
"""How many rows of a visit to every case are fetched at once."""

SPELT_OUT = 8
"""Arrays up to this length are written out with a placeholder for each element: the driver turns a text into bytes in C, and
a list in Python."""

_NO_LIMIT = 2**63 - 1


class PostgresCaseRecorder(CaseRecorder):
    """Records on a PostgreSQL server, in a schema of its own; one store for any number of processes and machines.

    An append is one call of the function ``append`` and one round trip. A call whose answer was lost is made again: no
    fact finds the same place twice, so when it is refused, what is stored tells whether the first call went through.
    """

    def __init__(
        self,
        place: Place,
        *,
        limits: Limits | None = None,
        pool: HostPool | None = None,
        only_reading: bool = False,
    ) -> None:
        """Raises :class:`StoreUnusable` when the server cannot be reached or trusted, or holds no store."""
        super().__init__()
        self._limits = limits or Limits()
        self._connections = Connections(place, self._limits, pool=pool, only_reading=only_reading)
        self._listener = Listener(self._connections, channel_of(place.schema), self._wake_followers)
        schema = place.schema
        self._facts, self._reserved_ids, self._commands = f"{schema}.facts", f"{schema}.names", f"{schema}.commands"
        self._policies = f"{schema}.policies"
        self._append = f"{schema}.append"
        self._together: GroupCommit[_Append, Sequence[int]] = GroupCommit(self._append_all, self._limits.busy_seconds)
        tables = _Tables(self._connections, f"{schema}.")
        self.checkpoints = SqlBookmarks(tables)
        self.due = SqlDueTable(tables)
        self.records = _Records(tables)
        self.refusals = SqlRefusalCounts(tables)

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        *,
        cases: Sequence[Placement] | None = None,
        reserved_ids: Sequence[ReservedId] = (),
        receipt: CommandReceipt | None = None,
        pinned: str | None = None,
        **kwargs: Any,
    ) -> Sequence[int]:
        refuse_unknown(kwargs)
        insert = Insert(stored_events, cases, reserved_ids, receipt, pinned)
        place = self._connections.place
        try:
            return self._together.do(
                _Append(insert, *_call(self._append, *insert, milliseconds(self._limits.busy_seconds)))
            )
        except TurnTimedOut as waited:
            raise StoreBusy(f"{place}: {waited}") from None
        except Interrupted as interrupted:
            raise StoreUnusable(
                f"{place}: a write for several threads broke off; ask what is stored"
            ) from interrupted.__cause__

    def _append_all(self, appends: Sequence[_Append], unanswered: int = 0) -> list[Sequence[int] | Exception]:
        """One transaction, and one wait for the disk, for all that came together; one alone is one round trip.

        ``unanswered``: how often they were sent before and nobody knows what came of it.
        """
        sent = 0

        def send(connection: AnyConnection) -> list[Any]:
            nonlocal sent
            sent += 1
            if len(appends) == 1:
                return [_execute(connection, appends[0]).fetchone()]
            return self._send_together(connection, appends)

        rows: list[Any]
        try:
            rows = self._connections.use(send)
        except StoreBusy as busy:
            # Nothing came of the last attempt. What came of those before it is stored, or may still be.
            unanswered += sent - 1
            if not unanswered:
                raise
            rows = [StoreUnusable(f"{busy}; an answer was lost before that, ask what is stored") for _ in appends]
        except ReturnableError:
            raise
        except (errors.Error, ValueError, TypeError, OverflowError) as error:
            # Anything else, such as a time limit raised in this thread, may have come after the commit.
            unanswered += sent - 1
            if len(appends) > 1:  # one of them is wrong, and nothing is written: each for itself, then
                return [self._append_alone(append, unanswered) for append in appends]
            rows = [_raised(error, appends[0].insert, self._connections.place)]
        else:
            unanswered += sent - 1
        results: list[Sequence[int] | Exception] = []
        given: set[int] = set()
        for append, row in zip(appends, rows, strict=True):
            try:
                results.append(self._result(append.insert, row, unanswered, given))
            except ReturnableError as error:  # it cannot be asked what is stored
                results.append(error)
            given.update(() if isinstance(results[-1], Exception) else results[-1])
        self._wake_followers()
        return results

    def _send_together(self, connection: AnyConnection, appends: Sequence[_Append]) -> list[Any]:
        try:
            with connection.pipeline() as pipeline:
                # The COMMIT is on its way before any answer is waited for: the server, which holds the writers' lock
                # until then, must not wait for a host that may vanish.
                connection.execute(b"BEGIN")
                self._connections.bound(connection)
                cursors = [_execute(connection, append) for append in appends]
                connection.execute(b"COMMIT")
                pipeline.sync()  # of several errors the first is raised
        finally:
            # The COMMIT was skipped, or never sent because an append could not even be encoded.
            if connection.info.transaction_status in (TransactionStatus.INERROR, TransactionStatus.INTRANS):
                connection.rollback()
        return [cursor.fetchone() for cursor in cursors]

    def _append_alone(self, append: _Append, unanswered: int) -> Sequence[int] | Exception:
        try:
            (result,) = self._append_all([append], unanswered)
        except ReturnableError as error:
            return error
        return result

    def _result(self, insert: Insert, row: Any, unanswered: int, given: set[int]) -> Sequence[int] | Exception:
        """The positions that were given, or why there are none; ``given`` are those of others in the batch."""
        if isinstance(row, Exception):
            refused = row
        else:
            first, refusal, nth = row
            if refusal is None:
                return list(range(first, first + len(insert.events))) if first is not None else []
            refused = _refused(refusal, nth, insert)
        if unanswered:
            # An earlier call may have gone through and its answer been lost: then this refusal is our own doing.
            stored = self._stored_as_sent(*insert)
            if stored is not None and given.isdisjoint(stored):
                return stored
        return refused

    def _stored_as_sent(
        self,
        events: Sequence[StoredEvent],
        cases: Sequence[Placement] | None,
        reserved_ids: Sequence[ReservedId],
        receipt: CommandReceipt | None,
        pinned: str | None,
    ) -> Sequence[int] | None:
        """The positions of these facts where all of it is stored just so; else ``None``."""
        places: list[tuple[str, int]] = []
        if cases is None:
            places = [(stream_of(event.originator_id), event.originator_version) for event in events]
        else:
            for case_id, after, size, _ in cases:
                places += [(case_id, seq) for seq in range(after + 1, after + size + 1)]
        query = (
            f"SELECT position, f.case_id, f.case_seq, stream, version, type, content FROM {self._facts} f JOIN"
            " unnest(%s::text[], %s::integer[]) AS wanted (case_id, case_seq) USING (case_id, case_seq) ORDER BY position"
        )
        rows: list[Row] = self._all(query, [case_id for case_id, _ in places], [seq for _, seq in places])
        wanted = [
            (case_id, seq, stream_of(event.originator_id), event.originator_version, event.topic, event.state)
            for (case_id, seq), event in zip(places, events, strict=True)
        ]
        if [row[1:] for row in rows] != wanted:
            return None
        positions = [row[0] for row in rows]
        if positions and positions != list(range(positions[0], positions[0] + len(positions))):
            return None
        if any(self.case_of(name.kind, name.name) != name.case_id for name in reserved_ids):
            return None
        if receipt is not None:
            kept = self.receipt(receipt.command_id)
            if kept is None or _receipt_values(kept) != _receipt_values(receipt):
                return None
            if (kept.first, kept.last) != ((positions[0], positions[-1]) if positions else (0, 0)):
                return None
        return positions

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        stream = stream_of(originator_id)
        query = (
            f"SELECT stream, version, type, content FROM {self._facts} WHERE stream = %s AND case_id ="
            f" coalesce((SELECT case_id FROM {self._facts} WHERE stream = %s AND version = 1), %s)"
            f" AND version > %s AND version <= %s ORDER BY version {'DESC' if desc else 'ASC'} LIMIT %s"
        )
        bounds = (-1 if gt is None else gt, _NO_LIMIT if lte is None else lte, limit)
        return [StoredEvent(*row) for row in self._all(query, stream, stream, stream, *bounds)]

    def rows(self, after: int, limit: int | None, upto: int | None = None, topics: Sequence[str] = ()) -> list[Row]:
        wanted = " AND type = ANY(%s)" if topics else ""
        query = f"SELECT {_COLUMNS} FROM {self._facts} WHERE position > %s AND position <= %s{wanted}"
        bounds = (after, _NO_LIMIT if upto is None else upto, *([list(topics)] if topics else ()))
        return self._all(f"{query} ORDER BY position LIMIT %s", *bounds, limit)

    def case_rows(self, case_id: str, upto: int | None = None) -> list[Row]:
        query = f"SELECT {_COLUMNS} FROM {self._facts} WHERE case_id = %s AND position <= %s ORDER BY case_seq"
        return self._all(query, case_id, _NO_LIMIT if upto is None else upto)

    def last_row(self, upto: int) -> Row | None:
        query = f"SELECT {_COLUMNS} FROM {self._facts} WHERE position <= %s ORDER BY position DESC LIMIT 1"
        return next(iter(self._all(query, upto)), None)

    def case_ids(self, after: str, limit: int) -> list[str]:
        query = f"SELECT DISTINCT case_id FROM {self._facts} WHERE case_id > %s ORDER BY case_id LIMIT %s"
        return [case_id for (case_id,) in self._all(query, after, limit)]

    def rows_of_cases(self, after: str, last: str, upto: int | None = None) -> list[Row]:
        query = (
            f"SELECT {_COLUMNS} FROM {self._facts} WHERE case_id > %s AND case_id <= %s AND position <= %s"
            " ORDER BY case_id, case_seq"
        )
        return self._all(query, after, last, _NO_LIMIT if upto is None else upto)

    def changed_cases(self, after: int, upto: int) -> list[str]:
        query = f"SELECT DISTINCT case_id FROM {self._facts} WHERE position > %s AND position <= %s ORDER BY case_id"
        return [case_id for (case_id,) in self._all(query, after, upto)]

    def max_notification_id(self) -> int | None:
        ((head,),) = self._all(f"SELECT max(position) FROM {self._facts}")
        assert head is None or isinstance(head, int)
        return head

    def case_of(self, kind: RegisteredKind, name: str) -> str | None:
        found = self._all(f"SELECT case_id FROM {self._reserved_ids} WHERE kind = %s AND name = %s", kind, name)
        return next((case_id for (case_id,) in found), None)

    def receipt(self, command_id: str) -> CommandReceipt | None:
        rows = self._all(f"SELECT {RECEIPT_COLUMNS} FROM {self._commands} WHERE command_id = %s", command_id)
        return next((receipt_of(row) for row in rows), None)

    def keep_policy(self, sha256: str, document: str) -> None:
        query = f"INSERT INTO {self._policies} (sha256, document) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        self._connections.use(lambda connection: connection.execute(query.encode(), (sha256, document)))

    def policy(self, sha256: str) -> str | None:
        found = self._all(f"SELECT document FROM {self._policies} WHERE sha256 = %s", sha256)
        return next((document for (document,) in found), None)

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> PollingSubscription:
        subscription = super().subscribe(gt, topics)
        subscription.pause = self._listener.pause
        self._listener.start()
        return subscription

    def close(self) -> None:
        super().close()
        self._listener.close()
        self._connections.close()

    def _all(self, query: str, *values: object) -> list[Any]:
        def ask(connection: AnyConnection) -> list[Any]:
            cursor = connection.cursor(binary=True, row_factory=tuple_row)
            return cursor.execute(query.encode(), values).fetchall()

        return self._connections.use(ask)


class _Tables:
    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, connections: Connections, prefix: str) -> None:
        self._connections = connections
        self.prefix = prefix

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
        # Asked after the facts: others may append meanwhile. It may be ahead, because a conflict gives no position back.
        ((given,),) = self._tables.ask(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {prefix}positions")
        if given < head:
            yield f"the last fact stands at position {head}, but the sequence has only come to {given}"
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
        self._cursor = connection.cursor(row_factory=tuple_row)

    def execute(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        return self._cursor.execute(_with_marks(query), values).fetchall()

    def executemany(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        self._cursor.executemany(_with_marks(query), rows)


def _with_marks(query: str) -> bytes:
    return query.replace("?", "%s").encode()


def migrate(place: Place, limits: Limits | None = None) -> tuple[int, int]:
    """Create the store at a place, or bring it up to date; the version of its tables before (0: none) and after.

    Safe to run from many processes at once. Raises :class:`StoreUnusable`.
    """
    with connected(place, limits or Limits()) as connection:
        return migrate_schema(connection, place)


class _Append(NamedTuple):
    """An insert, and the statement that carries it out."""

    insert: Insert
    statement: bytes
    values: list[object]


def _execute(connection: AnyConnection, append: _Append) -> Any:
    cursor = connection.cursor(binary=True, row_factory=tuple_row)
    return cursor.execute(append.statement, append.values, prepare=_prepare(connection))


def _prepare(connection: AnyConnection) -> bool | None:
    # A host that switched preparing off has a reason, such as a pooler between it and the server.
    return None if connection.prepare_threshold is None else True


def _call(
    function: str,
    events: Sequence[StoredEvent],
    cases: Sequence[Placement] | None,
    reserved_ids: Sequence[ReservedId],
    receipt: CommandReceipt | None,
    pinned: str | None,
    patience: str,
) -> tuple[bytes, list[object]]:
    """The statement that appends, and its values."""
    arrays: list[tuple[Sequence[object] | None, str]] = [
        ([event.topic for event in events], "text"),
        ([event.state for event in events], "bytea"),
        ([stream_of(event.originator_id) for event in events], "text"),
        ([event.originator_version for event in events], "integer"),
        (None if cases is None else [case.case_id for case in cases], "text"),
        (None if cases is None else [case.after for case in cases], "integer"),
        (None if cases is None else [case.size for case in cases], "integer"),
        (None if cases is None else [case.tip and case.tip.digest for case in cases], "text"),
        ([name.kind for name in reserved_ids], "text"),
        ([name.name for name in reserved_ids], "text"),
        ([name.case_id for name in reserved_ids], "text"),
        (None if receipt is None else _receipt_values(receipt), "text"),
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


def _receipt_values(receipt: CommandReceipt) -> list[str]:
    at = to_text(receipt.at if receipt.at.tzinfo is UTC else receipt.at.astimezone(UTC))
    return [receipt.command_id, receipt.digest, receipt.command, at, receipt.outcome]


def _refused(refusal: str, nth: int | None, insert: Insert) -> Exception:
    if refusal == "seen" and insert.receipt is not None:
        return CommandSeen(insert.receipt.command_id)
    if refusal == "taken" and nth is not None:
        return NameTaken(insert.reserved_ids[nth - 1].kind, insert.reserved_ids[nth - 1].name)
    if refusal == "stale" and nth is not None and insert.cases is not None:
        return Stale(insert.cases[nth - 1].case_id)
    if refusal == "policy":
        return PolicyMissing(f"the policy {insert.pinned} is not kept")
    raise AssertionError(f"append() answered {refusal!r}")


def _raised(error: Exception, insert: Insert, place: Place) -> Exception:
    """What the function raised, as our error."""
    if not isinstance(error, errors.DatabaseError):
        return error
    if isinstance(error, errors.SequenceGeneratorLimitExceeded | errors.NumericValueOutOfRange):
        return StoreUnusable(
            f"{place}: the sequence of positions has come to its end, so nothing was recorded; set it back to the last "
            f"position of a fact ({error.diag.message_primary})"
        )
    if isinstance(error, errors.IntegrityError):
        cases, reserved_ids = insert.cases, insert.reserved_ids
        return conflict(
            seen=False,
            taken=None,
            stale=None,
            receipt=None,
            cases=cases,
            reserved_ids=reserved_ids,
            cause=_cause(error),
        )
    nth = error.diag.message_detail
    if error.sqlstate == CLAIMED_TWICE and nth is not None:
        name = insert.reserved_ids[int(nth) - 1]
        return NameTaken(name.kind, name.name)
    if error.sqlstate == GAP and nth is not None:
        event = insert.events[int(nth) - 1]
        try:
            check_next(stream_of(event.originator_id), int(error.diag.message_hint or 0), event.originator_version)
        except ValueError as gap:
            return gap
    return error


def _cause(error: errors.IntegrityError) -> str:
    return error.diag.message_detail or str(error)
