"""Follows the events of a store and publishes them: at least once, in order for each stream, from a checkpoint on.

Events are sent in *waves*. A wave holds at most one event of each stream, and the next wave begins when the whole wave is
acknowledged. So a publisher sends the second event of a stream only after the first is acknowledged. Whatever fails, is
killed or runs twice, an event first arrives after its predecessors in the stream. Only one publisher of a name sends at a
time, under a lease on the checkpoint; that saves duplicates, and nothing else depends on it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Literal

from returnable.adapters.clock import system_clock
from returnable.adapters.publishing.broker import Broker, BrokerFailed, Message
from returnable.adapters.publishing.cloud_event import cloud_event, damaged_event, is_source, own_source
from returnable.domain.errors import HistoryBroken, StoreBusy, StoreUnusable
from returnable.domain.ports import Checkpoints, Damage, EventStore, Recorded
from returnable.projections.redaction import Redaction

POSITIONS_IN_BATCH = 500
"""The checkpoint moves after this many positions of the log, or at its end."""

HOLD_SECONDS = 30.0
"""The duration of the lease: how long a dead publisher keeps others waiting. A send ends well within it."""

POLL_SECONDS = 0.1
"""How often the publisher looks for new events."""

STANDBY_SECONDS = 1.0
"""How often a publisher that stands by tries to get the lease."""

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0

_logger = logging.getLogger("returnable.publisher")

State = Literal["holder", "standby", "failing", "stopped"]


@dataclass(frozen=True, slots=True)
class PublisherStatus:
    """The status of a publisher."""

    name: str
    state: State
    """``failing``: the broker or the store failed, and the publisher tries again. ``stopped``: it has ended or not begun."""
    position: int
    """All events up to this position are published."""
    head: int
    """The position of the store's last event."""
    published: int
    """Messages that the broker acknowledged to this process, duplicates included."""
    failures: int
    """Failures in a row."""
    last_error: str | None
    last_error_at: datetime | None
    parked: tuple[Damage, ...]
    """Cases that this process holds back, each before an event that cannot be read."""

    @property
    def behind(self) -> int:
        """How many positions of the log are not published yet."""
        return max(0, self.head - self.position)

    @property
    def healthy(self) -> bool:
        """Whether it publishes, or stands by for another publisher."""
        return self.state in ("holder", "standby")


class Publisher:
    """Publishes a store under a name, from one thread; :meth:`status` may be called from any.

    ``source`` (a URI-reference) is the source of its events; the default is derived from the store's first event.
    ``redaction`` replaces personal data. ``clock`` returns the current instant, aware. The lease ends by this clock, so the
    clocks of two machines may differ by a few seconds at most.
    Raises ``ValueError`` for a source that is not a URI-reference.
    """

    def __init__(
        self,
        store: EventStore,
        checkpoints: Checkpoints,
        broker: Broker,
        *,
        name: str = "default",
        source: str | None = None,
        redaction: Redaction | None = None,
        clock: Callable[[], datetime] = system_clock,
        hold_seconds: float = HOLD_SECONDS,
        positions_in_batch: int = POSITIONS_IN_BATCH,
    ) -> None:
        if source is not None and not is_source(source):
            raise ValueError(f"the source {source!r} is not a URI-reference (RFC 3986)")
        self.name = name
        self._checkpoint = checkpoint_of(name)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"
        self._store = store
        self._checkpoints = checkpoints
        self._broker = broker
        self._source = source
        self._redaction = redaction
        self._clock = clock
        self._hold_for = timedelta(seconds=hold_seconds)
        self._positions_in_batch = positions_in_batch
        self._position = 0
        self._until: datetime | None = None
        """The end of the lease; ``None`` without a lease."""
        self._acknowledged: set[str] = set()
        """Acknowledged ids beyond the checkpoint. They are not sent again, so even a failing broker makes progress."""
        self._width = positions_in_batch
        """How many messages are sent at once: fewer after a failure, for a broker that cannot take more."""
        self._state: State = "stopped"
        self._published = 0
        self._failures = 0
        self._last_error: tuple[str, datetime] | None = None
        self._parked: dict[str, Damage] = {}

    # ---- for the host -------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Publish until ``stop`` is set; then finish the current batch and release the lease.

        While another publisher holds the lease, this one stands by. After a failure of the broker or the store it tries
        again, after pauses that grow to half a minute. It never skips an event.
        """
        try:
            while not stop.is_set():
                try:
                    waiting = self._turn()
                except (BrokerFailed, StoreBusy, StoreUnusable, HistoryBroken) as error:
                    waiting = self._failed(error)
                else:
                    self._recovered()
                if waiting:
                    stop.wait(waiting)
        finally:
            self._release()
            self._state = "stopped"

    def once(self, stop: threading.Event | None = None) -> bool:
        """Publish the events recorded so far, or until ``stop`` is set; ``False`` if another publisher holds the lease.

        Raises the errors after which :meth:`run` tries again: ``BrokerFailed``, ``StoreBusy``, ``StoreUnusable`` and
        ``HistoryBroken``.
        """
        head = self._store.head()
        try:
            while self._hold() and self._position < head and not (stop is not None and stop.is_set()):
                self._turn()
            return self._until is not None
        finally:
            self._release()
            self._state = "stopped"

    def begin_at(self, position: int) -> bool:
        """Continue with the event at a position (or the first one after it); ``False`` if another publisher holds the lease.

        Raises ``ValueError`` for a position that is already published: publish it again under another name. Also for a
        position beyond the next one, because the events before it would never be published.
        """
        head = self._store.head()
        if position > head + 1:
            raise ValueError(f"there is no position {position} yet: the last event is at {head}")
        if not self._hold():
            return False
        if self._position > position - 1:
            reached = self._position
            self._release()
            raise ValueError(f"the publisher {self.name!r} is at position {reached} already; choose another name")
        return self._move(position - 1)

    def status(self) -> PublisherStatus:
        """The position, the distance to the head, and the last error. Raises ``StoreBusy`` and ``StoreUnusable``."""
        error, at = self._last_error or (None, None)
        position = self._checkpoints.checkpoint(self._checkpoint)
        # The head is read last: if the store grows in between, the publisher seems behind, never ahead.
        head = self._store.head()
        parked = tuple(self._parked.values())
        state: State = "failing" if self._state == "holder" and self._failures else self._state
        return PublisherStatus(self.name, state, position, head, self._published, self._failures, error, at, parked)

    # ---- the lease on the checkpoint --------------------------------------------------------------------------------------

    def _hold(self) -> bool:
        """Get or keep the lease; whether it lasts long enough to send. ``_position`` is then the checkpoint."""
        now = self._clock()
        # If two thirds of the lease are left, a send ends before the lease does.
        if self._until is not None and now < self._until - self._hold_for * 2 / 3:
            return True
        until = now + self._hold_for
        position = self._checkpoints.acquire(self._checkpoint, self._holder, now=now, until=until)
        if position is None:
            if self._until is not None:
                self._lost()
            elif self._state != "standby":
                self._log(logging.INFO, "standing by: another publisher holds the lease")
            self._state = "standby"
            return False
        if position != self._position:
            self._acknowledged.clear()
        if self._until is None:
            self._log(logging.INFO, "publishing from position %d on", position + 1, position=position)
        self._position, self._until, self._state = position, until, "holder"
        return True

    def _move(self, position: int) -> bool:
        until = self._clock() + self._hold_for
        if not self._checkpoints.advance(self._checkpoint, self._holder, position, after=self._position, until=until):
            self._lost()
            return False
        self._position, self._until = position, until
        self._acknowledged.clear()
        return True

    def _lost(self) -> None:
        self._log(
            logging.WARNING, "the lease was taken over, or the store restored; standing by", position=self._position
        )
        self._until = None
        self._state = "standby"

    def _release(self) -> None:
        if self._until is None:
            return
        self._until = None
        try:
            self._checkpoints.release(self._checkpoint, self._holder)
        except (StoreBusy, StoreUnusable) as error:
            self._log(logging.WARNING, "the lease cannot be released and lasts for a while: %s", error)

    # ---- a batch ----------------------------------------------------------------------------------------------------------

    def _turn(self) -> float:
        """Send one batch, if the lease and new events allow it; return the seconds to wait before the next."""
        if not self._hold():
            return min(STANDBY_SECONDS, self._hold_for.total_seconds() / 3)
        head = self._store.head()
        if self._position >= head:
            return POLL_SECONDS
        begin, upto = self._position, min(self._position + self._positions_in_batch, head)
        for wave in waves(self._batch(begin, upto)):
            waiting = [message for message in wave if message.id not in self._acknowledged]
            while waiting:
                # Another publisher may have moved the checkpoint meanwhile: then this batch is not the next one any more.
                if not self._hold() or self._position != begin:
                    return 0.0
                now, waiting = waiting[: self._width], waiting[self._width :]
                self._broker.send(now)
                self._published += len(now)
                self._acknowledged.update(message.id for message in now)
                self._width = min(2 * self._width, self._positions_in_batch)
        self._move(upto)
        return 0.0

    def _batch(self, after: int, upto: int) -> list[Message]:
        """The messages of the positions above ``after`` and up to ``upto``, in order.

        A case is read whole: an event that cannot be read, even one passed long ago, ends the case. The message that
        reports it is sent again with each new event of the case.
        """
        found: list[tuple[int, Message]] = []
        case_ids = self._store.changed_cases(after, upto)
        if case_ids and self._source is None:
            self._source = own_source(self._store)
        source = self._source or ""
        for case_id in case_ids:
            events, damage = self._store.load_until_damage(case_id, upto)
            for entry in events:
                if entry.position > after:
                    found.append((entry.position, cloud_event(self._redacted(entry, events), source)))
            if damage is not None:
                found.append((damage.position, damaged_event(damage, source)))
            self._park(case_id, damage)
        found.sort(key=lambda one: one[0])
        return [message for _, message in found]

    def _redacted(self, entry: Recorded, case: Sequence[Recorded]) -> Recorded:
        return entry if self._redaction is None else self._redaction.of(entry, lambda: case)

    def _park(self, case_id: str, damage: Damage | None) -> None:
        known = self._parked.pop(case_id, None)
        if damage is None:
            return
        self._parked[case_id] = damage
        if known != damage:
            self._log(
                logging.ERROR,
                "parked: case %s stops before %s (position %d): %s",
                *(case_id, damage.event_id, damage.position, damage.reason),
                position=damage.position,
                case_id=case_id,
                event=damage.event_id,
            )

    # ---- failures -----------------------------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> float:
        """Record the failure, release the lease to others, and return the seconds to wait."""
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 30), LONGEST_PAUSE_SECONDS)
        self._failures += 1
        self._width = max(1, self._width // 2)
        self._last_error = (str(error), self._clock())
        self._log(
            logging.WARNING,
            "not published, trying again in %.1f s: %s",
            *(pause, error),
            position=self._position,
            failures=self._failures,
            error=str(error),
        )
        self._release()
        return pause

    def _recovered(self) -> None:
        if self._failures and self._until is not None:
            self._log(logging.INFO, "publishing again after %d failures", self._failures, position=self._position)
            self._failures = 0

    def _log(self, level: int, text: str, *values: object, **fields: object) -> None:
        _logger.log(level, f"%s: {text}", self.name, *values, extra={"publisher": self.name, **fields})


def checkpoint_of(name: str) -> str:
    """The name of the checkpoint of a publisher."""
    return f"publish/{name}"


def waves(messages: Sequence[Message]) -> list[list[Message]]:
    """The messages in waves: the first one of each stream, then the second one of each, and so on."""
    found: list[list[Message]] = []
    sent: dict[str, int] = {}
    for message in messages:
        nth = sent[message.stream] = sent.get(message.stream, 0) + 1
        if nth > len(found):
            found.append([])
        found[nth - 1].append(message)
    return found
