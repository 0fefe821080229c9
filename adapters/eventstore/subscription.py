"""Following the log by asking again and again, which is all that SQLite offers between processes; a recorder that hears of
appends in another way wakes its followers and lets them ask less often."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from eventsourcing.persistence import ApplicationRecorder, Notification, Subscription

from returnable.adapters.eventstore.forks import in_children
from returnable.domain.errors import StoreUnusable

POLL_SECONDS = 0.03
"""How long a write of another process may stay unnoticed."""

PAGE = 500
"""How many events are fetched at once."""


def _poll_seconds() -> float:
    return POLL_SECONDS


class PollingSubscription(Subscription[ApplicationRecorder]):
    """A blocking iterator over the events of a recorder; :meth:`stop` ends it from any thread.

    No event is missed or repeated. A position is assigned under the store's only write lock and a reader sees whole
    commits in the order of that lock, so whoever sees position *n* sees every lower position that will ever exist;
    gaps were rolled back and stay empty. "Above the last position" is therefore a safe place to go on from.

    An error of the store is raised to the caller, and the iterator can be asked again. Raises :class:`StoreUnusable` when the
    store was put back to an earlier state of itself: what is recorded from then on would stand at positions that were passed.
    """

    def __init__(self, recorder: ApplicationRecorder, gt: int | None = None, topics: Sequence[str] = ()) -> None:
        super().__init__(recorder, gt, topics)
        self._position = gt or 0
        self._last: Notification | None = None
        """The event at that position, once it was fetched."""
        self._wanted = frozenset(topics)
        self._fetched: deque[Notification] = deque()
        self._start_afresh()
        in_children(self._start_afresh)
        self.pause: Callable[[], float] = _poll_seconds
        """How long to wait before looking again where nobody wakes us."""

    def _start_afresh(self) -> None:
        self._woken = threading.Event()

    def wake(self) -> None:
        """Look now: this process wrote something."""
        self._woken.set()

    def stop(self) -> None:
        """End the iteration, also of a thread that is blocked in it."""
        super().stop()
        self._woken.set()

    def __next__(self) -> Notification:
        while not self._has_been_stopped:
            if self._fetched:
                return self._fetched.popleft()
            # Cleared before looking: a write between the look and the wait leaves the flag set.
            self._woken.clear()
            if not self._fetch():
                # Event.wait hands its time-out to the operating system. Anything that compares clocks would wait for
                # ever under freezegun.
                self._woken.wait(self.pause())
        raise StopIteration

    def _fetch(self) -> bool:
        # Topics are filtered here, not in the query: unwanted events are passed once instead of being skipped over
        # at every look.
        last = self._last
        known = 0 if last is None else 1
        found = self._recorder.select_notifications(self._position, PAGE + known, inclusive_of_start=known == 1)
        if found[:known] != ([] if last is None else [last]):
            raise StoreUnusable(
                f"the store was put back to an earlier state: another event, or none, stands at position {self._position}, "
                "up to which it was followed; begin again with a position before it was put back"
            )
        found = found[known:]
        if found:
            self._last, self._position = found[-1], found[-1].id
            self._fetched.extend(n for n in found if not self._wanted or n.topic in self._wanted)
        return bool(found)
