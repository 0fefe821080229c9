"""Iterators that follow the log of a store and wait at its end for new events.

SQLite offers no notice from one process to another, so an iterator polls. Appends of its own process wake it at once. A store
that hears of other appends wakes it as well, and lets it poll less often.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Self, TypeVar

from returnable.adapters.eventstore.appends import Row
from returnable.adapters.eventstore.forks import in_children
from returnable.domain.errors import StoreUnusable

T = TypeVar("T", covariant=True)

POLL_SECONDS = 0.03
"""How long a write of another process may stay unnoticed."""

PAGE = 500
"""How many events are fetched at once."""


def _poll_seconds() -> float:
    return POLL_SECONDS


class Following(Iterator[T], Generic[T]):
    """A blocking iterator over the rows of a log, each made into a ``T`` by ``make``.

    It ends when its context is left, when the store is closed, or when any thread calls :meth:`stop`.

    No event is missed or repeated. A position is assigned under the store's only write lock, and a reader sees whole
    commits in the order of that lock. So a reader that sees position *n* sees every lower position that will ever exist;
    gaps were rolled back and stay empty. "Above the last position" is therefore a safe place to continue from.

    An error of the store, or of ``make``, is raised to the caller, who can then ask for the next event. Raises
    :class:`StoreUnusable` when the store was restored to an earlier state: new events would get positions that the iterator
    has already passed.
    """

    def __init__(
        self,
        fetch: Callable[[int, int], Sequence[Row]],
        make: Callable[[Row], T],
        after: int = 0,
        topics: Sequence[str] = (),
    ) -> None:
        """``fetch`` returns at most so many rows with positions above the first argument; ``topics``: only these types."""
        self._fetch = fetch
        self._make = make
        self._position = after
        self._last: Row | None = None
        """The row at that position, once it was fetched."""
        self._wanted = frozenset(topics)
        self._fetched: deque[Row] = deque()
        self._stopped = False
        self._start_afresh()
        in_children(self._start_afresh)
        self.pause: Callable[[], float] = _poll_seconds
        """How many seconds to wait before the next poll when nobody wakes the iterator."""

    def _start_afresh(self) -> None:
        self._woken = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object, **more: object) -> None:
        self.stop()

    def __next__(self) -> T:
        while not self._stopped:
            if self._fetched:
                return self._make(self._fetched.popleft())
            # Cleared before the poll: a write between the poll and the wait leaves the flag set.
            self._woken.clear()
            if not self._poll():
                # Event.wait passes its time-out to the operating system. Anything that compares clocks would wait for
                # ever under freezegun.
                self._woken.wait(self.pause())
        raise StopIteration

    def wake(self) -> None:
        """Poll now: this process has written something."""
        self._woken.set()

    def stop(self) -> None:
        """End the iteration, also for a thread that is blocked in it."""
        self._stopped = True
        self._woken.set()

    def _poll(self) -> bool:
        # The last row is fetched again and compared. Topics are filtered here, not in the query: unwanted rows are passed
        # once instead of being skipped at every poll.
        last = self._last
        known = 0 if last is None else 1
        found = self._fetch(self._position - known, PAGE + known)
        if known and (not found or found[0] != last):
            raise StoreUnusable(
                f"the store was put back to an earlier state: another event, or none, stands at position {self._position}, "
                "up to which it was followed; begin again with a position before it was put back"
            )
        found = found[known:]
        if found:
            self._last, self._position = found[-1], found[-1][0]
            self._fetched.extend(row for row in found if not self._wanted or row[5] in self._wanted)
        return bool(found)
