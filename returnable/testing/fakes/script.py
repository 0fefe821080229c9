"""What the fakes share: the clock, what is on its way, what a test scripted, and a diary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from threading import RLock
from typing import Generic, Literal, TypeVar

from returnable.domain.effects.mails import Mail
from returnable.domain.effects.parcels import Scan
from returnable.domain.effects.payments import PaymentNotice, RefundNotice
from returnable.domain.fields import parse_instant

Notice = RefundNotice | PaymentNotice
"""A webhook of the gateway."""

Delivery = Notice | Scan | Mail
"""What comes in from outside."""

D = TypeVar("D", Notice, Scan, Mail)

Ending = Literal[
    "answered",
    "answer lost",
    "call lost",
    "call late",
    "refused",
    "pending",
    "fails",
    "comes back",
    "fails first",
    "pays",
]

NO_TIME = timedelta()


@dataclass(frozen=True, slots=True)
class Plan:
    """How a call ends. ``wait``: until the call arrives, or until the money moves, comes back, or is paid in full.

    ``amount``: what is paid in place of what was asked for, in major units. Without ``wait`` the rest is never paid.
    """

    ending: Ending = "answered"
    reason: str = ""
    wait: timedelta = NO_TIME
    amount: str = ""


@dataclass(slots=True)
class Script:
    """What a test scripted, and whether it happened. ``of``: the payment, return or address of the call."""

    sentence: str
    call: str = ""
    of: str | None = None
    plan: Plan | None = None
    used: bool = False


@dataclass(frozen=True, slots=True)
class _Coming:
    """Something on its way in."""

    due: datetime
    number: int
    delivery: Delivery


class Outside:
    """The world outside, which the fakes share."""

    def __init__(self, clock: Callable[[], datetime], seed: int | None, trouble: float) -> None:
        if not 0 <= trouble <= 1:
            raise ValueError(f"trouble is a probability from 0 to 1, not {trouble}")
        if trouble and seed is None:
            raise ValueError("trouble needs a seed, so that it can be repeated")
        self.lock = RLock()
        self.scripts: list[Script] = []
        self._clock = clock
        self._seed = seed
        self._trouble = trouble
        self._tries: Counter[str] = Counter()
        self._diary: list[tuple[datetime, int, str, str]] = []
        self._coming: list[_Coming] = []
        self._numbers = 0

    def now(self) -> datetime:
        """The time of the clock, in UTC; raises ``ValueError`` for a naive one."""
        return parse_instant(self._clock())

    def note(self, at: datetime, who: str, what: str) -> None:
        self._diary.append((at, len(self._diary), who, what))

    def diary(self) -> list[tuple[datetime, str, str]]:
        return [(at, who, what) for at, _, who, what in sorted(self._diary)]

    # ---- trouble ------------------------------------------------------------------------------------------------------

    def random(self, what: str) -> Random | None:
        """A random source for the trouble with this thing at this try; ``None`` where it goes well."""
        self._tries[what] += 1
        random = Random(f"{self._seed}/{what}/{self._tries[what]}")
        return random if random.random() < self._trouble else None

    def script(self, sentence: str, call: str, of: str | None) -> Script:
        with self.lock:
            script = Script(sentence, call, of)
            self.scripts.append(script)
            return script

    def scripted(self, call: str, of: str) -> Plan | None:
        """The first unused script for a call of that kind, if there is one."""
        for script in self.scripts:
            if script.call == call and not script.used and script.of in (None, of):
                script.used = True
                if script.plan is None:
                    raise AssertionError(f"{script.sentence} does not say what happens then")
                return script.plan
        return None

    # ---- what comes in --------------------------------------------------------------------------------------------------

    def send(self, delivery: Delivery, due: datetime) -> None:
        self._numbers += 1
        self._coming.append(_Coming(due, self._numbers, delivery))

    def arrived(self, kinds: tuple[type[D], ...]) -> list[tuple[datetime, D]]:
        """Remove and return what is due, in the order in which it fell due."""
        now = self.now()
        ready = sorted(
            (each for each in self._coming if each.due <= now and isinstance(each.delivery, kinds)),
            key=lambda each: (each.due, each.number),
        )
        self._coming = [each for each in self._coming if each not in ready]
        return [(each.due, each.delivery) for each in ready if isinstance(each.delivery, kinds)]

    def on_the_way(self) -> list[datetime]:
        return [each.due for each in self._coming]


class Fake(Generic[D]):
    """A part of the outside world; alone, or one of a ``FakeWorld``."""

    _name = ""
    _incoming: tuple[type[D], ...]
    """What comes in from it."""

    def __init__(
        self, clock: Callable[[], datetime] | Outside, *, seed: int | None = None, trouble: float = 0.0
    ) -> None:
        self._outside = clock if isinstance(clock, Outside) else Outside(clock, seed, trouble)
        self._calls: list[str] = []
        self._late = NO_TIME
        self._standing: dict[str, Script] = {}

    @property
    def calls(self) -> tuple[str, ...]:
        """Every call and how it ended, in order, for people: ``"refund F-1/p-1 of 530.00 USD to p-1: succeeded, re-1"``."""
        with self._outside.lock:
            return tuple(self._calls)

    def verify(self) -> None:
        """Raise ``AssertionError`` that names every script that never happened."""
        with self._outside.lock:
            unused = [script.sentence for script in self._outside.scripts if not script.used]
        if unused:
            raise AssertionError("this was scripted and never happened: " + "; ".join(unused))

    def _called(self, call: str, ended: str) -> None:
        self._calls.append(f"{call}: {ended}")
        self._note(f"{call}: {ended}")

    def _note(self, what: str, at: datetime | None = None) -> None:
        self._outside.note(at or self._outside.now(), self._name, what)

    def _next(self, call: str, of: str | None) -> Script:
        """The script of the next call of that kind."""
        return self._outside.script(f"{self._name}.{call}({'' if of is None else repr(of)})", call, of)

    def _stand(self, name: str, given: timedelta | None = None, of: str | None = None) -> None:
        """Script something that holds from now on, for everything or for one thing (``of``)."""
        about = "" if given is None and of is None else str(given or repr(of))
        self._standing[f"{name} {of}"] = self._outside.script(f"{self._name}.{name}({about})", "", None)

    def _stands(self, name: str, of: str | None = None) -> bool:
        """Whether that is scripted. If so, it has now happened."""
        script = self._standing.get(f"{name} {of}")
        if script is not None:
            script.used = True
        return script is not None

    def _trouble(self, what: str) -> Plan:
        random = self._outside.random(what)
        return random.choice((Plan("answer lost"), Plan("call lost"))) if random else Plan()

    def _occurred(self, at: datetime | None, what: str) -> datetime:
        """When something happened; raises ``ValueError`` for the future."""
        now = self._outside.now()
        occurred = now if at is None else parse_instant(at)
        if occurred > now:
            raise ValueError(f"{what} at {occurred.isoformat()}: it is {now.isoformat()}")
        return occurred

    def came(self) -> list[tuple[datetime, D]]:
        """What came in since the last call, each with its instant, in order of time."""
        with self._outside.lock:
            came = self._outside.arrived(self._incoming)
            for _, each in came:
                self._note(self._as_noted(each))
            return came

    def _as_noted(self, incoming: D) -> str:
        raise NotImplementedError


class Next:
    """A script whose test still has to say what happens."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def _say(self, what: str, plan: Plan) -> None:
        if self._script.plan is not None:
            raise AssertionError(f"{self._script.sentence} says already what happens; say the next one after it")
        self._script.sentence += f".{what}"
        self._script.plan = plan
