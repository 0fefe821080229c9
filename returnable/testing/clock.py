"""The time of a test. It stands still until the test moves it: by hours, by calendar or business days, or to an edge.

:class:`Clock` is only an instant that a desk reads, and costs nothing. :class:`FrozenClock` stops the time of the whole
process with ``freezegun``, for tests in which other code reads the clock, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from returnable.adapters.wiring import AnyPolicy, policy_book
from returnable.domain.calendar import Calendar, local_date, plain, zone
from returnable.domain.policy import Policy
from returnable.domain.wording import instant_in_words
from returnable.testing.instants import ONE_TICK, When, instant, wall_time
from returnable.testing.steps import MONDAY_MORNING

if TYPE_CHECKING:
    from returnable.facade import Desk
    from returnable.projections.edges import Edge


class ClockTaken(RuntimeError):
    """Something else froze the time in the test, so that the clock cannot move it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a test next to an edge: one tick (a microsecond) before it, at it, or one tick after it."""

    at: datetime
    """The instant, in UTC."""
    side: str
    """``before``, ``at`` or ``after``."""
    edge: Edge

    @property
    def flipped(self) -> bool:
        """Whether the answer is the new one: at the edge and after it."""
        return self.side != "before"

    @property
    def answer(self) -> str:
        """The answer of the edge at that instant."""
        return self.edge.after if self.flipped else self.edge.before

    def __str__(self) -> str:
        return f"{self.side} {self.edge.what}"


def moments(edges: Iterator[Edge] | tuple[Edge, ...]) -> Iterator[Moment]:
    """One tick before, at, and one tick after each edge."""
    for edge in edges:
        for side, step in (("before", -ONE_TICK), ("at", timedelta()), ("after", ONE_TICK)):
            yield Moment(edge.at + step, side, edge)


def all_edges(desk: Desk) -> tuple[Edge, ...]:
    """The edges of every case of a desk, in order of time."""
    from returnable.projections.edges import edges

    decider = desk.services.handler
    cases = [decider.case(case_id) for case_id in desk.services.store.case_ids(limit=1_000_000)]
    every = [edge for case in cases for edge in edges(case, decider.policy_of(case))]
    return tuple(sorted(every, key=lambda edge: (edge.at, edge.subject, edge.clause, edge.what)))


class Clock:
    """An instant that stands still. Call it to read it, as a desk does: ``returnable.open("memory:", clock=clock)``.

    Days and business days are those of the policy in force: its zone, its calendar.

    >>> clock = Clock("2026-11-25 13:00")
    >>> str(clock.advance_business_days(2))  # over Thanksgiving and a weekend
    'Mon 2026-11-30 13:00 EST'
    >>> str(clock.move_to("2026-03-07 23:00").advance(hours=4))  # in the night in which an hour is skipped
    'Sun 2026-03-08 04:00 EDT'
    """

    def __init__(self, at: When = MONDAY_MORNING, *, policy: AnyPolicy = None) -> None:
        self.policies = policy_book(policy)
        self.desk: Desk | None = None
        """The desk whose edges it can move to."""
        self._now = instant(at, self.zone_name)

    def __call__(self) -> datetime:
        return self._now

    def __str__(self) -> str:
        return instant_in_words(self.now, zone(self.zone_name))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    @property
    def now(self) -> datetime:
        """The instant, in UTC."""
        return self()

    @property
    def local(self) -> datetime:
        """The instant on the wall of the policy's zone."""
        return self.now.astimezone(zone(self.zone_name))

    @property
    def policy(self) -> Policy:
        """The version of the policy in force now (the first one, before that)."""
        for version in reversed(self.policies.versions):
            if version.effective <= local_date(self._now, version.zone):
                return version
        return self.policies.versions[0]

    @property
    def zone_name(self) -> str:
        """The zone of times without an offset: that of the newest version of the policy."""
        return self.policies.versions[-1].zone

    @property
    def calendar(self) -> Calendar:
        """The business days of the policy in force now."""
        return self.policy.days

    def instant(self, when: When) -> datetime:
        """The instant meant, in UTC; as in :mod:`returnable.testing.instants`."""
        return instant(when, self.zone_name)

    # ---- moving -------------------------------------------------------------------------------------------------------

    def move_to(self, when: When) -> Clock:
        """Move to an instant, also to an earlier one."""
        self._set(self.instant(when))
        return self

    def advance(self, by: timedelta | None = None, **elapsed: float) -> Clock:
        """Let time pass: ``advance(hours=2)``, or any ``timedelta``. Two hours are two hours, whatever the wall shows."""
        if (by is None) == (not elapsed):
            raise TypeError("advance() takes a timedelta, or its parts by name such as hours=2")
        if {"days", "weeks"} & set(elapsed):
            raise TypeError("a day is not always 24 hours: say hours=24, or advance_days(1)")
        return self._forward(self._now + (timedelta(**elapsed) if by is None else by))

    def tick(self, count: int = 1) -> Clock:
        """Let so many microseconds pass: the smallest steps there are."""
        if not isinstance(count, int):
            raise TypeError(f"tick() takes whole microseconds, not {count!r}")
        return self._forward(self._now + count * ONE_TICK)

    def advance_days(self, count: int) -> Clock:
        """To the same time on the wall, so many calendar days later."""
        if count == 0:
            return self  # if the wall shows this time twice, this may be the second time
        wall = self.local.replace(tzinfo=None) + timedelta(days=count)
        return self._forward(wall_time(wall, self.zone_name))

    def advance_business_days(self, count: int) -> Clock:
        """To the same time on the wall, so many business days later. Today is day 0, business day or not."""
        if count < 0:
            raise ValueError("time does not go back; move_to() does")
        wall = self.local.replace(tzinfo=None)
        if count == 0:
            return self
        day = self.calendar.add_business_days(wall.date(), count)
        return self._forward(wall_time(datetime.combine(day, wall.time()), self.zone_name))

    def _forward(self, to: datetime) -> Clock:
        if to < self._now:
            raise ValueError("time does not go back; move_to() does")
        self._set(to)
        return self

    def _set(self, to: datetime) -> None:
        self._now = plain(to)

    def check(self) -> None:
        """Raise :class:`ClockTaken` if this is no longer the time of the process."""

    # ---- edges --------------------------------------------------------------------------------------------------------

    def edges(self, subject: str | None = None) -> tuple[Edge, ...]:
        """Every past and future edge of a subject of the desk (``order/A-1``, …), or of all subjects, in order of time."""
        from returnable.projections.edges import edges_of
        from returnable.projections.subjects import find_subject

        if self.desk is None:
            raise RuntimeError("this clock has no desk, and so no edges; use the fixture desk, or set clock.desk")
        desk = self.desk.services.handler
        if subject is not None:
            return edges_of(find_subject(self.desk.services.store, desk.policy, subject))
        return all_edges(self.desk)

    def next_edge(self, subject: str | None = None) -> Edge:
        """The next edge; raises ``LookupError`` where there is none."""
        for edge in self.edges(subject):
            if edge.at > self.now:
                return edge
        raise LookupError(f"nothing about {subject or 'anything'} changes any more by the passing of time after {self}")

    def to_next_edge(self, subject: str | None = None) -> Edge:
        """Move to the next edge, and return it."""
        edge = self.next_edge(subject)
        self._set(edge.at)
        return edge

    def around_edges(self, subject: str | None = None) -> Iterator[Moment]:
        """Move through all future edges known now: one tick before each, to it, and one tick after it, in order of time.

        If edges are closer than a tick, some instants are visited twice. Raises ``LookupError`` where there is no edge,
        because a loop over nothing would pass silently.
        """
        start = self.next_edge(subject).at
        to_come = tuple(edge for edge in self.edges(subject) if edge.at >= start)
        for moment in sorted(moments(to_come), key=lambda each: each.at):
            self._set(moment.at)
            yield moment


class FrozenClock(Clock):
    """A clock that is the clock of the whole process while it is frozen; see :meth:`freeze`."""

    def __init__(self, at: When = MONDAY_MORNING, *, policy: AnyPolicy = None) -> None:
        super().__init__(at, policy=policy)
        self._factory: Any = None
        """What freezegun moves, while the time is frozen."""

    def freeze(self) -> Callable[[], None]:
        """Stop the time of the process here; returns the function that lets it run again.

        Freezing searches every loaded module, which takes milliseconds; moving the frozen clock does not. The event loops of
        asyncio keep running in real time, so that sleeping tasks wake up.
        """
        from freezegun import api, freeze_time

        from returnable.testing import frozen

        frozen.prepare()
        freezer = freeze_time(self._now, real_asyncio=True)
        ours = self._factory = freezer.start()

        def thaw() -> None:
            left = api.freeze_factories[api.freeze_factories.index(ours) + 1 :]
            for _ in left:  # started by hand in the test and never stopped; the next test must find the real time
                for stack in (api.freeze_factories, api.ignore_lists, api.tick_flags, api.tz_offsets):
                    stack.pop()
            self._factory = None
            freezer.stop()
            if left:
                raise ClockTaken("a freeze_time().start() of this test was never stopped")

        return thaw

    def check(self) -> None:
        """Raise :class:`ClockTaken` if other code froze the time as well, so that code sees another time than the clock."""
        if self._factory is not None:
            from freezegun import api

            if api.freeze_factories[-1] is not self._factory:
                raise ClockTaken(
                    "the time is frozen a second time inside this test, by freeze_time(): leave that, then use the clock"
                )

    def _set(self, to: datetime) -> None:
        self.check()
        if self._factory is not None:
            self._factory.move_to(to)
        super()._set(to)
