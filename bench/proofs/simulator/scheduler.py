"""A deterministic scheduler: one actor runs at a time, and a seeded random source decides who goes on.

Every actor is a thread, so that library code that knows nothing of the scheduler can be interrupted in the middle of a
call. Only one thread runs; the others wait. An actor lets others run at a ``yield_point``, when it sleeps and when it rests.
So a run is a function of its seed, and so is its trace.

The scheduler also keeps the virtual time: it advances a little at every yield point, and to the next sleeper when all sleep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from threading import Lock, Thread

MILLISECOND = 1000
"""In microseconds, as all virtual times are."""

SECOND = 1000 * MILLISECOND
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

NEVER = 10**18

MOST_YIELD_POINTS = 200_000
"""An actor that still runs after so many yield points waits for something that does not come."""


class Ended(BaseException):
    """The run is over because some actor failed: raised in all the others, through whatever they are in."""


class Endless(Exception):
    """The actors do not come to an end."""


def _taken() -> Lock:
    lock = Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class Actor:
    """Somebody who acts; ``wakes_at`` is the virtual time before which nothing wakes it."""

    name: str
    play: Callable[[], None]
    wakes_at: int = 0
    may_run: Lock = field(default_factory=_taken)


class Scheduler:
    """Runs actors in turns. ``switch_probability``: how likely another actor goes on at a yield point."""

    def __init__(self, dice: Random, switch_probability: float) -> None:
        self.now = 0
        self.trace: list[str] = []
        self.running: Actor | None = None
        self._dice = dice
        self._switch_probability = switch_probability
        self._actors: list[Actor] = []
        self._failure: BaseException | None = None
        self._over = _taken()

    # ---- what an actor calls --------------------------------------------------------------------------------------------

    def yield_point(self, what: str) -> None:
        """The running actor is about to do that; whoever the dice name goes first."""
        self.note(what)
        self.now += MILLISECOND
        if self.running is not None and self._dice.random() < self._switch_probability:
            self._pass_on(self.running)

    def sleep(self, microseconds: int) -> None:
        if self.running is None:
            self.now += microseconds
            return
        self.running.wakes_at = self.now + microseconds
        self._pass_on(self.running)

    def rest(self) -> None:
        """Go on when somebody wakes this actor; raises :class:`Endless` when nobody is left who could."""
        self.sleep(NEVER)

    def wake(self, later: Callable[[], int]) -> None:
        """Wake everybody who rests, each so many microseconds from now."""
        for actor in self._actors:
            if actor.wakes_at >= NEVER:
                actor.wakes_at = self.now + later()

    def note(self, what: str) -> None:
        self.trace.append(f"{self.now} {self.running.name if self.running else '-'} {what}")

    # ---- the run ----------------------------------------------------------------------------------------------------------

    def add(self, name: str, play: Callable[[], None]) -> None:
        self._actors.append(Actor(name, play))

    def run(self) -> None:
        """Let everybody act to the end; raises what the first of them raised who failed."""
        threads = [Thread(target=self._act, args=(actor,), daemon=True) for actor in self._actors]
        for thread in threads:
            thread.start()
        self._give(self._next())
        self._over.acquire()
        for thread in threads:
            thread.join()
        self.running = None
        if self._failure is not None:
            raise self._failure

    def _act(self, actor: Actor) -> None:
        actor.may_run.acquire()
        try:
            if self._failure is None:
                actor.play()
        except Ended:
            pass
        except BaseException as failure:
            self._failure = self._failure or failure
        self._actors.remove(actor)
        if self._actors:
            self._give(self._next())
        else:
            self._over.release()

    def _pass_on(self, me: Actor) -> None:
        other = self._next()
        if other is not me:
            self._give(other)
            me.may_run.acquire()
        if self._failure is not None:
            raise Ended

    def _give(self, actor: Actor) -> None:
        self.running = actor
        actor.may_run.release()

    def _next(self) -> Actor:
        if self._failure is not None:
            return self._actors[0]
        if len(self.trace) > MOST_YIELD_POINTS:
            self._failure = Endless(f"{MOST_YIELD_POINTS} yield points and no end")
        ready = [actor for actor in self._actors if actor.wakes_at <= self.now]
        if not ready:
            first = min(actor.wakes_at for actor in self._actors)
            if first >= NEVER:
                self._failure = Endless("everybody rests, and nobody is left who could wake them")
                return self._actors[0]
            self.now = first
            ready = [actor for actor in self._actors if actor.wakes_at <= first]
        return ready[0] if len(ready) == 1 else self._dice.choice(ready)
