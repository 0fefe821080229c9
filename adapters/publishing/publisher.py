"""Follows the facts of a store and publishes them: at least once, in order for each stream, from where it left off.

Facts are sent in *waves*. A wave holds at most one event of each stream, and the next one begins when all of it is
acknowledged. So whoever sends the second event of a stream has seen the first one acknowledged, and whatever fails, is killed
or runs twice: an event first arrives after those before it in its stream. That only one publisher of a name sends at a time
saves duplicates; nothing else depends on it.
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
"""The bookmark moves after so many positions of the log, or at its end."""

HOLD_SECONDS = 30.0
"""How long a publisher that is gone keeps another from going on. A send ends well within it."""

POLL_SECONDS = 0.1
"""How long a new fact may stay unnoticed."""

STANDBY_SECONDS = 1.0
"""How often who stands by asks for the bookmark."""

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0

_log = logging.getLogger("returnable.publisher")

State = Literal["holder", "standby", "failing", "stopped"]


@dataclass(frozen=True, slots=True)
class PublisherStatus:
    """How a publisher stands."""

    name: str
    state: State
    """``failing``: the broker or the store failed last, and is tried again. ``stopped``: or not begun."""
    position: int
    """All up to there is published."""
    head: int
    """The position of the store's last fact."""
    published: int
    """Messages that were acknowledged to this process, duplicates included."""
    failures: int
    """Failures in a row."""
    last_error: str | None
    last_error_at: datetime | None
    parked: tuple[Damage, ...]
    """Cases this process holds back, each from a fact on that cannot be read."""

    @property
    def behind(self) -> int:
        """How many positions of the log are not published."""
        return max(0, self.head - self.position)

    @property
    def healthy(self) -> bool:
        """Whether it publishes, or stands by for one that may."""
        return self.state in ("holder", "standby")


class Publisher:
    """Publishes a store under a name, from one thread; :meth:`status` may be asked from any.

    ``source`` (a URI-reference) is the source of its events; made of the store's first fact when absent. With
    ``redaction`` personal data is replaced. ``clock`` returns the current instant, aware; the holder of the
    bookmark is found by it, so that the clocks of two machines may differ by a few seconds.
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
        self._bookmark = checkpoint_of(name)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"
        self._store = store
        self._bookmarks = checkpoints
        self._broker = broker
        self._source = source
        self._redaction = redaction
        self._clock = clock
        self._hold_for = timedelta(seconds=hold_seconds)
        self._positions_in_batch = positions_in_batch
        self._position = 0
        self._until: datetime | None = None
        """Until when the bookmark is held; ``None``: it is not."""
        self._acknowledged: set[str] = set()
        """Ids beyond the bookmark that need not be sent again, so that a broker that fails often is got through, too."""
        self._width = positions_in_batch
        """How many messages are sent at once: fewer after a failure, for a broker that can take no more."""
        self._state: State = "stopped"
        self._published = 0
        self._failures = 0
        self._last_error: tuple[str, datetime] | None = None
        self._parked: dict[str, Damage] = {}

    # ---- for the host -------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Publish until ``stop`` is set: then the batch at hand is finished, and the bookmark is free for another.

        While another publisher holds the bookmark this one stands by. When the broker or the store fails it tries again,
        after pauses that grow to half a minute; no event is ever skipped.
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
            self._let_go()
            self._state = "stopped"

    def once(self, stop: threading.Event | None = None) -> bool:
        """Publish what is there now, or until ``stop`` is set; ``False`` when another publisher holds the bookmark.

        Raises what :meth:`run` tries again after: ``BrokerFailed``, ``StoreBusy``, ``StoreUnusable``, ``HistoryBroken``.
        """
        head = self._store.head()
        try:
            while self._hold() and self._position < head and not (stop is not None and stop.is_set()):
                self._turn()
            return self._until is not None
        finally:
            self._let_go()
            self._state = "stopped"

    def begin_at(self, position: int) -> bool:
        """Go on with the fact at that position (or the first one after it); ``False`` when another holds the bookmark.

        Raises ``ValueError`` when it is past that: what was published is published again under another name; and for a
        position that is not there yet, because what comes before it would never be published.
        """
        head = self._store.head()
        if position > head + 1:
            raise ValueError(f"there is no position {position} yet: the last fact is at {head}")
        if not self._hold():
            return False
        if self._position > position - 1:
            came = self._position
            self._let_go()
            raise ValueError(f"the publisher {self.name!r} is at position {came} already; choose another name")
        return self._move(position - 1)

    def status(self) -> PublisherStatus:
        """How far it is, how far behind, and what went wrong. Reads the store; raises ``StoreBusy``, ``StoreUnusable``."""
        error, at = self._last_error or (None, None)
        position = self._bookmarks.checkpoint(self._bookmark)
        # Asked after the bookmark: a store that grows in between makes us look behind, never ahead.
        head = self._store.head()
        parked = tuple(self._parked.values())
        state: State = "failing" if self._state == "holder" and self._failures else self._state
        return PublisherStatus(self.name, state, position, head, self._published, self._failures, error, at, parked)

    # ---- holding the bookmark -------------------------------------------------------------------------------------------

    def _hold(self) -> bool:
        """Whether the bookmark is ours for long enough to send something; ``_position`` is where it stands."""
        now = self._clock()
        # Two thirds of the time are left: a send ends before the hold does.
        if self._until is not None and now < self._until - self._hold_for * 2 / 3:
            return True
        until = now + self._hold_for
        position = self._bookmarks.acquire(self._bookmark, self._holder, now=now, until=until)
        if position is None:
            if self._until is not None:
                self._lost()
            elif self._state != "standby":
                self._say(logging.INFO, "standing by: another publisher holds the bookmark")
            self._state = "standby"
            return False
        if position != self._position:
            self._acknowledged.clear()
        if self._until is None:
            self._say(logging.INFO, "publishing from position %d on", position + 1, position=position)
        self._position, self._until, self._state = position, until, "holder"
        return True

    def _move(self, position: int) -> bool:
        until = self._clock() + self._hold_for
        if not self._bookmarks.advance(self._bookmark, self._holder, position, after=self._position, until=until):
            self._lost()
            return False
        self._position, self._until = position, until
        self._acknowledged.clear()
        return True

    def _lost(self) -> None:
        self._say(logging.WARNING, "the bookmark was taken over or put back; standing by", position=self._position)
        self._until = None
        self._state = "standby"

    def _let_go(self) -> None:
        if self._until is None:
            return
        self._until = None
        try:
            self._bookmarks.release(self._bookmark, self._holder)
        except (StoreBusy, StoreUnusable) as error:
            self._say(logging.WARNING, "the bookmark stays held for a while: %s", error)

    # ---- a batch ----------------------------------------------------------------------------------------------------------

    def _turn(self) -> float:
        """One batch, where we may and there is one; how many seconds to wait before the next."""
        if not self._hold():
            return min(STANDBY_SECONDS, self._hold_for.total_seconds() / 3)
        head = self._store.head()
        if self._position >= head:
            return POLL_SECONDS
        begin, upto = self._position, min(self._position + self._positions_in_batch, head)
        for wave in waves(self._batch(begin, upto)):
            waiting = [message for message in wave if message.id not in self._acknowledged]
            while waiting:
                # Another may have moved it meanwhile, and we hold it again: then the batch is not the next one any more.
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

        A case is read whole, because nothing of it counts from a fact on that cannot be read, also when that was passed
        long ago. The event that says so comes again whenever the case is touched.
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
            self._say(
                logging.ERROR,
                "parked: case %s stops before %s (position %d): %s",
                *(case_id, damage.event_id, damage.position, damage.reason),
                position=damage.position,
                case_id=case_id,
                event=damage.event_id,
            )

    # ---- failures -----------------------------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> float:
        """Take note, free the bookmark for one who may have more luck, and say how many seconds to wait."""
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 30), LONGEST_PAUSE_SECONDS)
        self._failures += 1
        self._width = max(1, self._width // 2)
        self._last_error = (str(error), self._clock())
        self._say(
            logging.WARNING,
            "not published, trying again in %.1f s: %s",
            *(pause, error),
            position=self._position,
            failures=self._failures,
            error=str(error),
        )
        self._let_go()
        return pause

    def _recovered(self) -> None:
        if self._failures and self._until is not None:
            self._say(logging.INFO, "publishing again after %d failures", self._failures, position=self._position)
            self._failures = 0

    def _say(self, level: int, text: str, *values: object, **fields: object) -> None:
        _log.log(level, f"%s: {text}", self.name, *values, extra={"publisher": self.name, **fields})


def checkpoint_of(name: str) -> str:
    """The name of the bookmark of a publisher."""
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
