"""A gateway, a carrier and a mailbox together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from returnable.domain import calendar
from returnable.domain.wording import instant_in_words
from returnable.testing.fakes.carrier import FakeCarrier
from returnable.testing.fakes.mailbox import FakeMailbox
from returnable.testing.fakes.payments import FakeGateway
from returnable.testing.fakes.script import Delivery, Notice, Outside


class FakeWorld:
    """A gateway, a carrier and a mailbox on one clock: any function that returns an aware instant, such as the desk's.

    ``trouble`` is the probability with which a call or a message is in trouble, by the ``seed``; scripts come first.
    """

    def __init__(self, clock: Callable[[], datetime], *, seed: int | None = None, trouble: float = 0.0) -> None:
        self._outside = Outside(clock, seed, trouble)
        self.gateway = FakeGateway(self._outside)
        self.carrier = FakeCarrier(self._outside)
        self.mailbox = FakeMailbox(self._outside)

    def due(self) -> list[Delivery]:
        """What came in from all three since the last call, in order of time."""
        with self._outside.lock:
            notices = self.gateway.came()
            came: list[tuple[datetime, Delivery]] = [*notices, *self.carrier.came(), *self.mailbox.came()]
            came.sort(key=lambda each: each[0])
            # Reordered webhooks change places among themselves.
            in_turn = iter(notices)
            return [next(in_turn)[1] if isinstance(each, Notice) else each for _, each in came]

    def next_due(self) -> datetime | None:
        """The next instant (UTC) at which something happens or comes in; ``None``: nothing is on its way."""
        with self._outside.lock:
            return min([*self.gateway._to_happen(), *self._outside.on_the_way()], default=None)

    def timeline(self, zone: str = "UTC") -> str:
        """Everything that happened outside, a line each, in order of time, with the times of a zone."""
        tz = calendar.zone(zone)
        with self._outside.lock:
            self.gateway._catch_up()
            return "\n".join(f"{instant_in_words(at, tz)}  {who:<8} {what}" for at, who, what in self._outside.diary())

    def verify(self) -> None:
        """Raise ``AssertionError`` that names every script that never happened."""
        self.gateway.verify()
