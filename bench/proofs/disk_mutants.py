"""What the store in a file does for a disk that fails, left out by name: the proofs must notice each."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from typing import Any

from bench.proofs.mutants import Mutants
from returnable.adapters.eventstore.group_commit import GroupCommit
from returnable.adapters.eventstore.sqlite import _Statements, _Tables
from returnable.adapters.eventstore.sqlite_connections import Connections, _Held

MUTANTS = Mutants()


@MUTANTS.replaces(_Tables, "change")
def _failed_commit_told_as_done(change: Any, self: Any, work: Any) -> Any:
    """The error of a sync is taken for a warning."""
    cursor = self._connections.take_writer()
    try:
        cursor.execute("BEGIN IMMEDIATE")
        result = work(_Statements(cursor))
        with suppress(sqlite3.OperationalError):
            cursor.execute("COMMIT")
    except BaseException as error:
        failure = self._connections.recover_writer(error)
        raise failure from failure.__cause__
    finally:
        self._connections.release_writer()
    return result


@MUTANTS.replaces(Connections, "_settle")
def _wal_trusted_when_opened(settle: Any, self: Any, connection: Any) -> None:
    """What a killed process wrote is told as done before it is durable."""


@MUTANTS.replaces(Connections, "recover_writer")
def _failed_writer_closed_first(recover: Any, self: Any, error: BaseException) -> BaseException:
    """A connection that failed is closed before there is another, and what it could not commit is not asked for."""
    error = recover(self, error)
    self._held.close_failed_writer()
    return error


@MUTANTS.replaces(Connections, "recover_writer")
def _writer_kept_by_who_failed(recover: Any, self: Any, error: BaseException) -> BaseException:
    """Who fails to write does not let the others write."""
    error = recover(self, error)
    self._write_lock = threading.RLock()
    taking = threading.Thread(target=self._write_lock.acquire)
    taking.start()
    taking.join()
    return error


@MUTANTS.replaces(_Held, "give_back")
def _failed_reader_used_again(give_back: Any, self: Any, reader: Any, sound: bool) -> None:
    """A connection that could not be opened right is kept for the next question."""
    if not sound:
        reader.close()
    give_back(self, reader, True)


@MUTANTS.replaces(GroupCommit, "work_off")
def _lead_not_handed_over(work_off: Any, self: Any) -> None:
    """After a batch that failed its thread counts as at work for ever."""
    carry_out, failures = GroupCommit._carry_out_batch, list[object]()

    def noted(batch: Any) -> None:
        carry_out(self, batch)
        failures.extend(turn.failure for turn in batch if turn.failure is not None)

    self._carry_out_batch = noted
    work_off(self)
    if failures:
        self._at_work = self


@MUTANTS.replaces(GroupCommit, "_carry_out_batch")
def _batch_told_as_done(carry_out: Any, self: Any, batch: Any) -> None:
    """A batch that failed is told as done."""
    carry_out(self, batch)
    for turn in batch:
        if turn.failure is not None:
            turn.failure, turn.result = None, range(1, 100)


@MUTANTS.replaces(Connections, "explain")
def _errors_as_they_come(explain: Any, self: Any, error: BaseException) -> BaseException:
    """The errors of SQLite are not explained."""
    return error
