"""The deadline worker: records passed deadlines, case by case, together with any number of other workers.

No answer depends on it. By the clock alone a label becomes void, a contact missed and a refund overdue. The worker records
this as events, for the audit and for programs that follow the events.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from returnable.adapters.clock import system_clock
from returnable.adapters.operating.metrics import Meter, Unmeasured
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.events import Who
from returnable.domain.handler import CommandHandler

_log = logging.getLogger("returnable.worker")

AT_ONCE = 50
"""How many cases a worker claims at once."""

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds to wait after the first failure of the store, the second, and so on."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """The status of a worker and of the deadlines of its store, at an instant of its clock."""

    at: datetime
    last_pass_at: datetime | None
    """When it last finished a pass through all due cases without an error."""
    behind: int
    """Positions of the log that were not yet read for deadlines."""
    waiting: int
    """Cases with a deadline to record, now or later."""
    first_due_at: datetime | None
    late_seconds: float
    """For how long the first deadline has been due without being recorded; 0 if none is due."""
    parked: int
    """Cases that cannot be read; see the log."""
    recorded: int
    """Deadlines that this worker has recorded since it began."""
    failures: int
    last_error: str | None

    def healthy(self, patience_seconds: float) -> bool:
        """Whether the last pass is no older than this, and no deadline has been due for longer."""
        if self.last_pass_at is None:
            return False
        return max((self.at - self.last_pass_at).total_seconds(), self.late_seconds) <= patience_seconds


class DeadlineWorker:
    """Records the passed deadlines of a store, each once, however many workers there are.

    ``clock`` returns the instant (aware) by which a deadline is due; no other clock counts, not even the database's.
    ``every_seconds``: how long to wait while nothing is due. ``claim_seconds``: how long a worker keeps a claimed case. If a
    worker dies, its cases wait this long for another worker, and nothing is lost. ``meter`` is a meter of OpenTelemetry, or
    like it.
    """

    def __init__(
        self,
        handler: CommandHandler,
        clock: Callable[[], datetime] = system_clock,
        *,
        every_seconds: float = 1.0,
        claim_seconds: float = 60.0,
        name: str | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.handler = handler
        self.clock = clock
        self.every_seconds = every_seconds
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        """The id of the actor of every event that the worker records."""
        self._claim = timedelta(seconds=claim_seconds)
        self._counts: Counter[str] = Counter()
        self._last_pass_at: datetime | None = None
        self._last_error: str | None = None
        self._failed_in_a_row = 0
        self._measured = meter is not None
        measured: Any = meter or Unmeasured()
        named = "returnable.deadlines"
        self._recorded = measured.create_counter(f"{named}.recorded", description="Deadlines recorded.")
        self._failures = measured.create_counter(f"{named}.failures", description="Passes or cases that failed.")
        self._behind = measured.create_gauge(f"{named}.behind", description="Events not yet read for deadlines.")
        self._late = measured.create_gauge(f"{named}.late", "s", "How long the first unrecorded deadline has been due.")
        self._waiting = measured.create_gauge(
            f"{named}.waiting", description="Cases with a deadline to record, now or later."
        )
        self._parked = measured.create_gauge(f"{named}.parked", description="Cases that cannot be read.")

    def run(self, stop: threading.Event | None = None) -> None:
        """Work until ``stop`` is set (``None``: for ever); then finish the current case.

        After any error, such as a busy or unreachable store, the worker waits and tries again.
        """
        stop = stop or threading.Event()
        _log.info("worker %s begins", self.name, extra={"worker": self.name})
        begun = False
        while not stop.is_set():
            try:
                if not begun:
                    self.handler.due.retry_parked()
                    begun = True
                idle = not self.work(stop)
            except Exception as error:
                self._fail(str(error) or type(error).__name__)
                pause = PAUSES[min(self._failed_in_a_row, len(PAUSES)) - 1]
                unforeseen = not isinstance(error, StoreBusy | StoreUnusable)
                level = logging.ERROR if unforeseen else logging.WARNING
                about = {"worker": self.name}
                _log.log(level, "trying again in %g s: %s", pause, error, extra=about, exc_info=unforeseen)
                stop.wait(pause)
            else:
                if idle:
                    stop.wait(self.every_seconds)
        _log.info("worker %s ends", self.name, extra={"worker": self.name, "recorded": self._counts["recorded"]})

    def work(self, stop: threading.Event | None = None, now: datetime | None = None) -> int:
        """Record all deadlines due by ``now`` (default: the clock); return how many.

        Raises :class:`StoreBusy` and :class:`StoreUnusable`; the events recorded before that stay.
        """
        recorded = 0
        stopped = (stop or threading.Event()).is_set
        while not stopped():
            at = self.clock() if now is None else now
            self.handler.due.catch_up(stopped)
            until = at + self._claim
            claimed = self.handler.due.table.claim(at, until=until, limit=AT_ONCE)
            for nth, case in enumerate(claimed):
                if stopped():
                    self.handler.due.table.give_back(claimed[nth:], until=until)
                    break
                try:
                    recorded += self._record(case.case_id, at)
                except StoreUnusable:
                    with suppress(StoreBusy, StoreUnusable):  # else other workers would wait until the claim ends
                        self.handler.due.table.give_back(claimed[nth:], until=until)
                    raise
            if not claimed:
                self._last_pass_at, self._last_error, self._failed_in_a_row = at, None, 0
                break
        if self._measured:
            self._measure()
        return recorded

    def status(self) -> WorkerStatus:
        """The status; raises :class:`StoreBusy` and :class:`StoreUnusable`."""
        at = self.clock()
        table = self.handler.due.table.status()
        head = self.handler.store.head()
        late = 0.0 if table.first_at is None else max(0.0, (at - table.first_at).total_seconds())
        return WorkerStatus(
            at=at,
            last_pass_at=self._last_pass_at,
            behind=max(0, head - table.position),
            waiting=table.waiting,
            first_due_at=table.first_at,
            late_seconds=late,
            parked=table.parked,
            recorded=self._counts["recorded"],
            failures=self._counts["failures"],
            last_error=self._last_error,
        )

    def _record(self, case_id: str, at: datetime) -> int:
        try:
            outcome = self.handler.record_due(case_id, at, Who(role="system", id=self.name))
        except StoreBusy as error:  # the case stays claimed, and is tried again when the claim ends
            self._fail(str(error))
            _log.warning("case %r stays due: %s", case_id, error, extra={"worker": self.name, "case_id": case_id})
            return 0
        except StoreUnusable:
            raise
        except Exception as error:  # an error in one case must not block the others
            self._fail(str(error) or type(error).__name__)
            about = {"worker": self.name, "case_id": case_id}
            _log.error("case %r is parked: %s", case_id, error, extra=about, exc_info=True)
            self.handler.due.table.park(case_id)
            return 0
        events = () if outcome is None else outcome.recorded_events
        for stream, version, event in events:
            self._counts["recorded"] += 1
            self._recorded.add(1, {"fact": event.type})
            fields = {"worker": self.name, "case_id": case_id, "fact": event.type, "stream": stream, "version": version}
            _log.info("%s on %s", event.type, stream, extra=fields)
        return len(events)

    def _fail(self, error: str) -> None:
        self._failed_in_a_row += 1
        self._last_error = error
        self._counts["failures"] += 1
        self._failures.add(1)

    def _measure(self) -> None:
        status = self.status()
        self._behind.set(status.behind)
        self._late.set(status.late_seconds)
        self._waiting.set(status.waiting)
        self._parked.set(status.parked)
