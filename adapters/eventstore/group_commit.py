"""Group commit: what many threads append at the same time is committed, and made durable, in one transaction.

A thread that comes while nobody writes, writes its own request at once, and no other. A thread that comes while somebody
writes leaves its request in a queue and waits. A thread of the store's own then writes the whole queue in one batch.

So no thread of the host ever writes for another one. A time limit, a signal or anything else that is raised in a host's
thread hits the command of that thread alone.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from returnable.adapters.eventstore.forks import AtWork, in_children
from returnable.domain.errors import ReturnableError

R = TypeVar("R")
T = TypeVar("T")

BATCH_MAX = 128
"""How many requests are carried out together at most."""

IDLE_SECONDS = 10.0
"""The store's own thread ends when nobody had to wait for so long. The next one who must wait starts another."""


class TurnTimedOut(Exception):
    """The turn did not come in time. Nothing was done. The text says why."""


class Interrupted(Exception):
    """Carrying a batch out broke off for no reason that the store knows. Nobody knows what became of the batch."""


class _Turn(Generic[R, T]):
    __slots__ = ("come", "failure", "request", "result")

    def __init__(self, request: R) -> None:
        self.request = request
        self.come = Lock()
        self.result: T | None = None
        self.failure: BaseException | None = None


class GroupCommit(Generic[R, T]):
    """Carries requests of many threads out in batches.

    ``carry_out`` gets the requests of a batch in the order in which they came, and gives for each its result, or the error
    that is its own. A :class:`ReturnableError` that it raises is the error of all of them. It is never called by two
    threads at once. ``patience_seconds``: how long a thread waits for its turn.

    An exception may be raised in a host's thread at any instruction. The thread then neither waits any more nor keeps
    others from writing.
    """

    def __init__(self, carry_out: Callable[[Sequence[R]], Sequence[T | Exception]], patience_seconds: float) -> None:
        self._carry_out = carry_out
        self._patience_seconds = patience_seconds
        self._start_afresh()
        in_children(self._start_afresh)

    def _start_afresh(self) -> None:
        """Forget those who wait, and the thread that writes for them: they belong to a parent process."""
        self._lock = Lock()
        self._waiting: deque[_Turn[R, T]] = deque()
        self._at_work: object = None
        """Who carries something out: the turn of one alone, or the batch of the store's own thread."""
        self._calls: SimpleQueue[None] = SimpleQueue()
        """Wakes the store's own thread. One call too many does no harm."""
        self._writer: Thread | None = None

    def do(self, request: R) -> T:
        """The result of a request; raises its error, :class:`TurnTimedOut` when its turn did not come in time, and
        :class:`Interrupted`."""
        turn: _Turn[R, T] = _Turn(request)
        try:
            # Nothing is called in this block once the turn is noted, and an exception is raised only where a call ends.
            with self._lock:
                if self._at_work is None and not self._waiting:
                    self._at_work = turn
            if self._at_work is turn:
                # No other name for it here: an error and a frame that knows it would keep each other alive.
                (turn.result,) = self._carry_out([request])  # type: ignore[assignment]
                if isinstance(turn.result, Exception):
                    turn.failure = turn.result
            else:
                self._wait(turn)
        finally:
            # Twice, because the first attempt may be what is interrupted.
            try:
                self._leave(turn)
            finally:
                self._leave(turn)
        if turn.failure is not None:
            try:
                raise turn.failure
            finally:
                del turn  # an error and what it happened to would keep each other alive
        return turn.result  # type: ignore[return-value]

    def _wait(self, turn: _Turn[R, T]) -> None:
        lock = self._lock
        turn.come.acquire()
        with self._lock:
            if self._writer is None or not self._writer.is_alive():
                self._start_writer()
            self._waiting.append(turn)
            if self._at_work is None:
                self._calls.put(None)
        if turn.come.acquire(timeout=self._patience_seconds):
            return
        if self._lock is not lock:  # a handler of a signal forked, and this is the child: nobody will call this turn
            raise Interrupted
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                raise TurnTimedOut(f"other threads held the store for {self._patience_seconds:g} s")
        # The batch it is in is being carried out.
        turn.come.acquire()

    def _leave(self, turn: _Turn[R, T]) -> None:
        """Neither write nor wait any more. To do it twice does no harm."""
        if self._at_work is turn:
            self._at_work = None
        else:
            with self._lock:
                if turn in self._waiting:
                    self._waiting.remove(turn)
        # Who came meanwhile saw somebody at work, and relies on being called for here.
        if self._waiting and self._at_work is None:
            self._calls.put(None)

    # ---- the store's own thread -------------------------------------------------------------------------------------

    def _start_writer(self) -> None:
        writer = Thread(target=_write, args=(weakref.ref(self), self._calls), name="returnable commits", daemon=True)
        try:
            writer.start()
        except RuntimeError as error:
            raise TurnTimedOut(
                f"other threads held the store, and no thread can be started to commit for all ({error})"
            ) from None
        self._writer = writer

    def work_off(self) -> None:
        """Carry out what waits, batch by batch, unless somebody else is at work."""
        while True:
            with self._lock:
                if self._at_work is not None or not self._waiting:
                    return
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
                self._at_work = batch
            try:
                with AtWork(None, for_others=True):
                    self._carry_out_batch(batch)
            finally:
                self._at_work = None
                for turn in batch:
                    turn.come.release()

    def _carry_out_batch(self, batch: list[_Turn[R, T]]) -> None:
        try:
            results = self._carry_out([turn.request for turn in batch])
            for turn, result in zip(batch, results, strict=True):
                turn.failure = result if isinstance(result, Exception) else None
                turn.result = None if isinstance(result, Exception) else result
        except ReturnableError as error:
            for turn in batch:
                turn.failure = _once_more(error)
        except BaseException as error:
            for turn in batch:
                turn.failure = Interrupted()
                turn.failure.__cause__ = error

    def end_if_idle(self) -> bool:
        """Whether nobody waits: then the thread that asks is forgotten, and has to end."""
        with self._lock:
            if self._waiting:
                return False
            self._writer = None
            return True


def _write(together: weakref.ref[GroupCommit[Any, Any]], calls: SimpleQueue[None]) -> None:
    # Between two batches the thread keeps no store alive.
    while True:
        try:
            calls.get(timeout=IDLE_SECONDS)
        except Empty:
            living = together()
            if living is None or living.end_if_idle():
                return
        else:
            living = together()
            if living is None:
                return
            living.work_off()
        del living


def _once_more(error: Exception) -> Exception:
    """The same error for another thread: what is raised in one must not gather the tracebacks of all."""
    try:
        again = copy(error)
    except Exception:
        return error
    again.__cause__ = error.__cause__
    return again
