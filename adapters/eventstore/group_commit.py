"""Group commit: the appends of many threads are committed, and made durable, in one transaction.

A thread that arrives while the store is idle writes its own request immediately, and no other. A thread that arrives during a
write leaves its request in a queue and waits. A thread of the store then writes the whole queue in one batch.

So a thread of the host never writes for another thread. A time limit, a signal or any other exception that is raised in a
thread of the host affects the command of that thread alone.
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
"""The most requests in one batch."""

IDLE_SECONDS = 10.0
"""The store's thread ends when no thread had to wait for so long. The next thread that must wait starts another."""


class TurnTimedOut(Exception):
    """The turn of a request did not come in time. Nothing was done. The text says why."""


class Interrupted(Exception):
    """A batch was broken off by an exception that the store does not know. It may have been committed or not."""


class _Turn(Generic[R, T]):
    __slots__ = ("come", "failure", "request", "result")

    def __init__(self, request: R) -> None:
        self.request = request
        self.come = Lock()
        self.result: T | None = None
        self.failure: BaseException | None = None


class GroupCommit(Generic[R, T]):
    """Carries out the requests of many threads in batches.

    ``carry_out`` gets the requests of a batch in the order of arrival, and returns for each its result or its error. A
    :class:`ReturnableError` that it raises is the error of all of them. Two threads never call it at once.
    ``patience_seconds``: how long a thread waits for its turn.

    An exception may be raised in a thread of the host at any instruction. The thread then waits no longer, and does not keep
    others from writing.
    """

    def __init__(self, carry_out: Callable[[Sequence[R]], Sequence[T | Exception]], patience_seconds: float) -> None:
        self._carry_out = carry_out
        self._patience_seconds = patience_seconds
        self._start_afresh()
        in_children(self._start_afresh)

    def _start_afresh(self) -> None:
        """Forget the queue and the thread that writes for it: they belong to a parent process."""
        self._lock = Lock()
        self._waiting: deque[_Turn[R, T]] = deque()
        self._at_work: object = None
        """The turn or the batch that is being carried out."""
        self._calls: SimpleQueue[None] = SimpleQueue()
        """Wakes the store's thread. One call too many does no harm."""
        self._writer: Thread | None = None

    def do(self, request: R) -> T:
        """Carry out a request and return its result.

        Raises the error of the request, :class:`TurnTimedOut` when its turn did not come in time, and :class:`Interrupted`.
        """
        turn: _Turn[R, T] = _Turn(request)
        try:
            # Once the turn is noted, nothing is called in this block: Python raises foreign exceptions only after calls.
            with self._lock:
                if self._at_work is None and not self._waiting:
                    self._at_work = turn
            if self._at_work is turn:
                # No local name refers to it: an error and a frame that refers to it would keep each other alive.
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
                del turn  # an error and its request would keep each other alive
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
        if self._lock is not lock:  # a signal handler forked, and this is the child: the turn will never come
            raise Interrupted
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                raise TurnTimedOut(f"other threads held the store for {self._patience_seconds:g} s")
        # Its batch is being carried out.
        turn.come.acquire()

    def _leave(self, turn: _Turn[R, T]) -> None:
        """Neither write nor wait any longer; harmless when repeated."""
        if self._at_work is turn:
            self._at_work = None
        else:
            with self._lock:
                if turn in self._waiting:
                    self._waiting.remove(turn)
        # A thread that arrived meanwhile saw a turn at work, and relies on this call.
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
        """Carry out the queue, batch by batch, unless another turn is at work."""
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
        """Whether the queue is empty. Then the calling thread is forgotten, and has to end."""
        with self._lock:
            if self._waiting:
                return False
            self._writer = None
            return True


def _write(together: weakref.ref[GroupCommit[Any, Any]], calls: SimpleQueue[None]) -> None:
    # Between two batches the thread does not keep the store alive.
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
    """A copy of an error for another thread: one error must not collect the tracebacks of all threads."""
    try:
        again = copy(error)
    except Exception:
        return error
    again.__cause__ = error.__cause__
    return again
