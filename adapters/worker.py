"""The deadline worker: records what falls due, case by case, beside any number of others.

No answer depends on it. A label is void, a contact missed and a refund overdue by the passing of time; the worker puts it on
record, so that the audit shows it and whoever follows the facts hears of it.
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
"""Seconds to wait after the store failed once, twice, and so on."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """How a worker, and the deadlines of its store, stand at an instant of its clock."""

    at: datetime
    last_pass_at: datetime | None
    """When it last looked through everything without trouble."""
    behind: int
    """Facts, counted in positions of the log, that were not looked at for deadlines."""
    waiting: int
    """Cases that will have a deadline to record, or have one now."""
    first_due_at: datetime | None
    late_seconds: float
    """For how long the first of them has been waiting to be recorded; 0 where none is."""
    parked: int
    """Cases that cannot be read; see the log."""
    recorded: int
    """Deadlines this worker put on record since it began."""
    failures: int
    last_error: str | None

    def healthy(self, patience_seconds: float) -> bool:
        """Whether it looked through everything lately, and nothing has been due for longer than that."""
        if self.last_pass_at is None:
            return False
        return max((self.at - self.last_pass_at).total_seconds(), self.late_seconds) <= patience_seconds


class DeadlineWorker:
    """Records what fell due in a desk's store, each once, however many workers there are.

    ``clock`` gives the instant (aware) by which things are due; no other clock counts, the database's neither.
    ``every_seconds``: how long to wait when nothing is due. ``claim_seconds``: how long a claimed case is left to its worker;
    one that died gives others this much delay, and takes nothing with it. ``meter`` is one of OpenTelemetry's, or like it.
    """

    def __init__(
        self,
        desk: CommandHandler,
        clock: Callable[[], datetime] = system_clock,
        *,
        every_seconds: float = 1.0,
        claim_seconds: float = 60.0,
        name: str | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.desk = desk
        self.clock = clock
        self.every_seconds = every_seconds
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        """Who did it: the id of the actor of every fact it records."""
        self._claim = timedelta(seconds=claim_seconds)
        self._counts: Counter[str] = Counter()
        self._last_pass_at: datetime | None = None
        self._last_error: str | None = None
        self._failed_in_a_row = 0
        self._measured = meter is not None
        measured: Any = meter or Unmeasured()
        named = "returnable.deadlines"
        self._recorded = measured.create_counter(f"{named}.recorded", description="Deadlines put on record.")
        self._failures = measured.create_counter(f"{named}.failures", description="Passes or cases that failed.")
        self._behind = measured.create_gauge(f"{named}.behind", description="Facts not looked at for deadlines.")
        self._late = measured.create_gauge(f"{named}.late", "s", "How long the first unrecorded deadline is past.")
        self._waiting = measured.create_gauge(
            f"{named}.waiting", description="Cases with a deadline to come or to record."
        )
        self._parked = measured.create_gauge(f"{named}.parked", description="Cases that cannot be read.")

    def run(self, stop: threading.Event | None = None) -> None:
        """Work until ``stop`` is set (``None``: for ever). The case at hand is finished first.

        A store that is busy or away is tried again, for as long as it takes, and so is whatever nobody thought of.
        """
        stop = stop or threading.Event()
        _log.info("worker %s begins", self.name, extra={"worker": self.name})
        begun = False
        while not stop.is_set():
            try:
                if not begun:
                    self.desk.due.retry_parked()
                    begun = True
                idle = not self.work(stop)
            except Exception as error:
                self._fail(str(error) or type(error).__name__)
                pause = PAUSES[min(self._failed_in_a_row, len(PAUSES)) - 1]
                unforeseen = not isinstance(error, StoreBusy | StoreUnusable)
                level = logging.ERROR if unforeseen else logging.WARNING
                told = {"worker": self.name}
                _log.log(level, "trying again in %g s: %s", pause, error, extra=told, exc_info=unforeseen)
                stop.wait(pause)
            else:
                if idle:
                    stop.wait(self.every_seconds)
        _log.info("worker %s ends", self.name, extra={"worker": self.name, "recorded": self._counts["recorded"]})

    def work(self, stop: threading.Event | None = None, now: datetime | None = None) -> int:
        """Record what is due by ``now`` (the clock's when absent) until nothing is; how many deadlines that were.

        Raises :class:`StoreBusy` and :class:`StoreUnusable`; what was recorded before stays.
        """
        recorded = 0
        stopped = (stop or threading.Event()).is_set
        while not stopped():
            at = self.clock() if now is None else now
            self.desk.due.catch_up(stopped)
            until = at + self._claim
            claimed = self.desk.due.table.claim(at, until=until, limit=AT_ONCE)
            for nth, case in enumerate(claimed):
                if stopped():
                    self.desk.due.table.give_back(claimed[nth:], until=until)
                    break
                try:
                    recorded += self._record(case.case_id, at)
                except StoreUnusable:
                    with suppress(StoreBusy, StoreUnusable):  # or others wait until the claim ends
                        self.desk.due.table.give_back(claimed[nth:], until=until)
                    raise
            if not claimed:
                self._last_pass_at, self._last_error, self._failed_in_a_row = at, None, 0
                break
        if self._measured:
            self._measure()
        return recorded

    def status(self) -> WorkerStatus:
        """How it stands; raises :class:`StoreBusy` and :class:`StoreUnusable`."""
        at = self.clock()
        table = self.desk.due.table.status()
        head = self.desk.store.head()
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
            outcome = self.desk.record_due(case_id, at, Who(role="system", id=self.name))
        except StoreBusy as error:  # it stays claimed, and is tried again when the claim ends
            self._fail(str(error))
            _log.warning("case %r stays due: %s", case_id, error, extra={"worker": self.name, "case_id": case_id})
            return 0
        except StoreUnusable:
            raise
        except Exception as error:  # whatever is wrong with one case must not hold up the others
            self._fail(str(error) or type(error).__name__)
            about = {"worker": self.name, "case_id": case_id}
            _log.error("case %r is parked: %s", case_id, error, extra=about, exc_info=True)
            self.desk.due.table.park(case_id)
            return 0
        events = () if outcome is None else outcome.recorded_events
        for stream, version, event in events:
            self._counts["recorded"] += 1
            self._recorded.add(1, {"fact": event.type})
            told = {"worker": self.name, "case_id": case_id, "fact": event.type, "stream": stream, "version": version}
            _log.info("%s on %s", event.type, stream, extra=told)
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
