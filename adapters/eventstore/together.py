"""Group commit: what many threads want to append at the same time is appended, and made durable, together.

There is no thread of its own and no waiting for company. Who comes while nobody writes, writes at once. Who comes while
somebody does, waits; and when that is done, the first of those who wait writes for all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from threading import Lock, current_thread, main_thread
from typing import Generic, TypeVar

from returnable.adapters.eventstore.forks import in_children, notice

R = TypeVar("R")
T = TypeVar("T")

AT_ONCE = 128
"""How many requests are carried out together at most."""


class Waited(Exception):
    """Others wrote for so long that the turn did not come. Nothing was done."""


class Interrupted(Exception):
    """The thread that wrote for this one was interrupted. Nobody knows what became of it."""


class _Turn(Generic[R, T]):
    __slots__ = ("come", "failure", "is_done", "request", "result")

    def __init__(self, request: R) -> None:
        self.request = request
        self.come = Lock()
        self.is_done = False
        self.result: T | None = None
        self.failure: Exception | None = None


class Together(Generic[R, T]):
    """Carries requests of many threads out in batches.

    ``carry_out`` gets the requests of a batch in the order in which they came, and gives for each its result, or the error
    that is its own; what it raises is the error of them all. It is never called by two threads at once.
    ``patience_seconds``: how long a thread waits for its turn.

    What interrupts a thread may do so at any instruction: whoever leaves neither waits any more nor keeps the lead. Signals
    interrupt the main thread, which therefore writes for itself alone.
    """

    def __init__(self, carry_out: Callable[[Sequence[R]], Sequence[T | Exception]], patience_seconds: float) -> None:
        self._carry_out = carry_out
        self._patience_seconds = patience_seconds
        self._start_afresh()
        in_children(self._start_afresh)

    def _start_afresh(self) -> None:
        self._lock = Lock()
        self._waiting: deque[_Turn[R, T]] = deque()
        self._leader: _Turn[R, T] | None = None

    def do(self, request: R) -> T:
        """The result of a request; raises its error, :class:`Waited` when its turn did not come in time, and
        :class:`Interrupted`."""
        notice()
        turn: _Turn[R, T] = _Turn(request)
        try:
            with self._lock:
                if self._leader is None:
                    self._leader = turn
                else:
                    turn.come.acquire()
                    self._waiting.append(turn)
            if self._leader is not turn:
                self._wait(turn)
            if not turn.is_done:
                self._lead(turn)
        finally:
            if not turn.is_done:
                self._leave(turn)
        if turn.failure is not None:
            try:
                raise turn.failure
            finally:
                del turn  # an error and what it happened to would keep each other alive
        return turn.result  # type: ignore[return-value]

    def _wait(self, turn: _Turn[R, T]) -> None:
        lock = self._lock
        if turn.come.acquire(timeout=self._patience_seconds):
            return
        if self._lock is not lock:  # a handler of a signal forked, and this is the child: nobody will call this turn
            raise Interrupted
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                raise Waited
        # Somebody is just writing it, or handing the lead over.
        turn.come.acquire()

    def _lead(self, own: _Turn[R, T]) -> None:
        others: list[_Turn[R, T]] = []
        if current_thread() is not main_thread():
            with self._lock:
                others += [self._waiting.popleft() for _ in range(min(len(self._waiting), AT_ONCE - 1))]
        batch = [own, *others]
        for turn in others:
            turn.failure = Interrupted()  # until something else is known
        try:
            results = self._carry_out([turn.request for turn in batch])
            for turn, result in zip(batch, results, strict=True):
                turn.failure = result if isinstance(result, Exception) else None
                turn.result = None if isinstance(result, Exception) else result
        except Exception as error:
            own.failure = error
            for turn in others:
                turn.failure = _once_more(error)
        finally:
            self._leave(own)
            for turn in others:
                turn.is_done = True
                turn.come.release()
        own.is_done = True

    def _leave(self, turn: _Turn[R, T]) -> None:
        """Neither wait any more nor keep the lead: the first of those who wait has it now."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
            if self._leader is turn:
                self._leader = self._waiting.popleft() if self._waiting else None
                if self._leader is not None:
                    self._leader.come.release()


def _once_more(error: Exception) -> Exception:
    """The same error for another thread: what is raised in one must not gather the tracebacks of all."""
    try:
        again = copy(error)
    except Exception:
        return error
    again.__cause__ = error.__cause__
    return again
