"""What the store in a file does for a disk that fails, left out by name: the proofs must notice each."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any
from unittest.mock import patch

from bench.proofs.mutants import Mutants
from returnable.adapters.eventstore.connections import Connections, _Held
from returnable.adapters.eventstore.sqlite import _Statements, _Tables
from returnable.adapters.eventstore.together import Together

MUTANTS = Mutants()


@MUTANTS.register
def _wal_trusted_when_opened(patches: ExitStack) -> None:
    """What a killed process wrote is told as done before it is durable."""
    patches.enter_context(patch.object(Connections, "_settle", lambda self, connection: None))


@MUTANTS.register
def _failed_writer_closed_first(patches: ExitStack) -> None:
    """A connection that failed is closed before there is another, and what it could not commit is not asked for."""
    recover = Connections.recover_writer

    def closed(self: Connections, error: BaseException) -> BaseException:
        error = recover(self, error)
        self._held.close_failed_writer()
        return error

    patches.enter_context(patch.object(Connections, "recover_writer", closed))


@MUTANTS.register
def _failed_commit_told_as_done(patches: ExitStack) -> None:
    """The error of a sync is taken for a warning."""

    def change(self: _Tables, work: Callable[[_Statements], Any]) -> Any:
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

    patches.enter_context(patch.object(_Tables, "change", change))


@MUTANTS.register
def _writer_kept_by_who_failed(patches: ExitStack) -> None:
    """Who fails to write does not let the others write."""
    recover = Connections.recover_writer

    def kept(self: Connections, error: BaseException) -> BaseException:
        error = recover(self, error)
        self._write_lock = threading.RLock()
        taking = threading.Thread(target=self._write_lock.acquire)
        taking.start()
        taking.join()
        return error

    patches.enter_context(patch.object(Connections, "recover_writer", kept))


@MUTANTS.register
def _failed_reader_used_again(patches: ExitStack) -> None:
    """A connection that could not be opened right is kept for the next question."""
    give_back = _Held.give_back

    def kept(self: _Held, reader: Any, sound: bool) -> None:
        if not sound:
            reader.close()
        give_back(self, reader, True)

    patches.enter_context(patch.object(_Held, "give_back", kept))


@MUTANTS.register
def _lead_not_handed_over(patches: ExitStack) -> None:
    """After a batch that failed its thread counts as at work for ever."""
    work_off, carry_out = Together.work_off, Together._carry_out_batch

    def kept(self: Any) -> None:
        failures: list[object] = []

        def noted(batch: Any) -> None:
            carry_out(self, batch)
            failures.extend(turn.failure for turn in batch if turn.failure is not None)

        self._carry_out_batch = noted
        work_off(self)
        if failures:
            self._at_work = self

    patches.enter_context(patch.object(Together, "work_off", kept))


@MUTANTS.register
def _batch_told_as_done(patches: ExitStack) -> None:
    """A batch that failed is told as done."""
    carry_out = Together._carry_out_batch

    def told(self: Any, batch: Any) -> None:
        carry_out(self, batch)
        for turn in batch:
            if turn.failure is not None:
                turn.failure, turn.result = None, range(1, 100)

    patches.enter_context(patch.object(Together, "_carry_out_batch", told))


@MUTANTS.register
def _errors_as_they_come(patches: ExitStack) -> None:
    """The errors of SQLite are not explained."""
    patches.enter_context(patch.object(Connections, "explain", lambda self, error: error))
