"""``python -m bench.proofs.races``: two or three commands at once of which one may win, in every order there is.

A round begins with a case in which the race is about to start. Each runner gives its command through a desk that may share
its process with the others, and repeats it until it is answered. The scheduler may switch at every call of the store, and in
some rounds answers are lost and processes killed. Then the log must have one winner, the losers must have been answered
something that was true, and one desk that gets the same commands one after the other must come to the same facts.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from random import Random
from typing import Any

from bench.proofs.processes import in_parcels
from bench.proofs.proof import Proof, Run, Tally, counted, counted_each, main, option
from bench.proofs.simulator.history import hurrying
from bench.proofs.simulator.machine import Disk, Process, Troubles
from bench.proofs.simulator.mutants import MUTANTS
from bench.proofs.simulator.oracles import (
    a_sequence_explains_it,
    acknowledged_is_on_record,
    commands_are_whole,
    deadlines_are_recorded_once,
    races_have_one_winner,
)
from bench.proofs.simulator.scheduler import DAY, HOUR, MILLISECOND
from bench.proofs.simulator.shop import Shop, Violation
from bench.speed.lifecycle import lifecycle
from returnable.domain.commands import Command, ConfirmOrder, parse_command
from returnable.domain.events import (
    CancellationDeclined,
    Cancelled,
    LabelIssued,
    LabelVoided,
    RefundRequested,
    RefundSettled,
    ReturnAuthorized,
    Shipped,
)
from returnable.domain.ports import Recorded

ROUNDS_IN_PARCEL = 250

MOST_TRIES = 60

Fields = dict[str, Any]

ORDER, SHIPPED, DELIVERED, RETURN, LABEL, SENT, RECEIVED, INSPECTED, REFUND, PAID = (
    fields for _, fields in lifecycle("1")
)
ORDER = ORDER | {
    "payments": [
        {"payment_id": "p-1", "method": "card", "amount": "716.56"},
        {"payment_id": "p-2", "method": "gift_card", "amount": "100.00"},
    ]
}
"""Paid in two ways, so that a refund has two tenders."""
CANCEL: Fields = {"command": "request_cancellation", "order_id": "A-1", "channel": "email", "order_copy": True}
RUN: Fields = {"command": "run_deadlines"}

TO_INSPECTED = (ORDER, SHIPPED, DELIVERED, RETURN, LABEL, SENT, RECEIVED, INSPECTED)


@dataclass(frozen=True, slots=True)
class Race:
    """``before`` is what has happened; ``runners`` make the commands that are told at once."""

    before: tuple[Fields, ...]
    runners: Callable[[int], Fields]
    wins: type | tuple[type, ...]
    """The facts of which exactly one may come."""
    after: int = HOUR
    """Virtual time between what has happened and the race."""
    same: bool = False
    """Whether the runners tell one command, under one id: a double click."""


RACES: dict[str, Race] = {
    "refund/refund": Race(TO_INSPECTED, lambda nth: REFUND | {"refund_id": f"F-{nth}"}, RefundRequested),
    "cancel/ship": Race((ORDER,), lambda nth: CANCEL if nth == 1 else SHIPPED, (Cancelled, CancellationDeclined)),
    "label/label": Race((ORDER, SHIPPED, DELIVERED, RETURN), lambda nth: LABEL | {"label_id": f"L-{nth}"}, LabelIssued),
    "timer/timer": Race((ORDER, SHIPPED, DELIVERED, RETURN, LABEL), lambda nth: RUN, LabelVoided, 10 * DAY),
    "return/return": Race(
        (ORDER, SHIPPED, DELIVERED), lambda nth: RETURN | {"return_id": f"R-{nth}"}, ReturnAuthorized
    ),
    "answer/webhook": Race((*TO_INSPECTED, REFUND), lambda nth: PAID, RefundSettled, same=True),
    "the same twice": Race(TO_INSPECTED, lambda nth: REFUND, RefundRequested, same=True),
}
"""The four of the promise, and three more."""


@cache
def prepared(name: str) -> tuple[Disk, int]:
    """A disk on which a race is about to start, and when."""
    shop = Shop(f"before {name}", Troubles(), servers=1)
    for nth, fields in enumerate(RACES[name].before, start=1):
        command = parse_command({**fields, "command_id": f"before-{nth}"})
        if isinstance(command, ConfirmOrder):
            shop.capture(command)
        shop.scheduler.sleep(0 if nth == 1 else HOUR)
        shop.tell(shop.servers[0], command)
    return shop.disk, shop.scheduler.now + RACES[name].after


class Runner:
    """Tells its command until it is answered, through a process that may die of it."""

    def __init__(self, shop: Shop, command: Command, process: Process, dice: Random) -> None:
        self.shop = shop
        self.command = command
        self.process = process
        self.dice = dice

    def run(self) -> None:
        self.shop.scheduler.sleep(self.dice.choice((0, 0, MILLISECOND, 3 * MILLISECOND)))
        if self.dice.random() < 0.3:
            self._look()
        for _ in range(MOST_TRIES):
            if self.shop.tell(self.process, self.command) is not None:
                return
            self.process = self.dice.choice(self.shop.servers)
        raise Violation(f"{self.command.command_id} is never answered")

    def _look(self) -> None:
        """Warm the cache of the process, so that what is decided first is decided on what was."""
        if not self.shop.disk.writer:
            self.process.desk._cases.keep("A-1", self.shop.stored_case("A-1"))


def race(number: int) -> tuple[str, str | None]:
    """One round: which race it was, and what was violated, if anything."""
    name = [*RACES][number % len(RACES)]
    kind, (begun, now) = RACES[name], prepared(name)
    dice = Random(f"race {number}")
    troubled = dice.random() < 0.5
    troubles = Troubles(kills=0.02, lost_answers=0.1, refusals=0.05) if troubled else Troubles()
    shop = Shop(f"race {number}", troubles, servers=dice.choice((1, 2, 3)), begun=begun)
    shop.scheduler.now = now
    for nth in range(1, 1 + dice.choice((2, 2, 3))):
        command = parse_command({**kind.runners(nth), "command_id": "k" if kind.same else f"k-{nth}"})
        runner = Runner(shop, command, dice.choice(shop.servers), Random(f"{number} {nth}"))
        shop.scheduler.add(f"runner-{nth}", runner.run)
    try:
        shop.scheduler.run()
        shop.set_troubles(Troubles())
        violation = next(_violations(shop, kind, shop.disk.store.read(begun.store.head(), 1000)), None)
    except Exception as failure:  # whatever the library raises here, nobody expects it
        violation = f"{type(failure).__name__}: {failure}"
    return name, violation


def _violations(shop: Shop, kind: Race, events: Sequence[Recorded]) -> Iterator[str]:
    winners = [entry.event_id for entry in events if isinstance(entry.event, kind.wins)]
    if len(winners) != 1:
        yield f"{len(winners)} winners: {', '.join(winners)}"
    if kind.wins == (Cancelled, CancellationDeclined) and not any(isinstance(entry.event, Shipped) for entry in events):
        yield "what the carrier did is not on record"
    yield from acknowledged_is_on_record(shop)
    yield from commands_are_whole(shop)
    yield from races_have_one_winner(shop)
    if kind.wins is LabelVoided:
        yield from deadlines_are_recorded_once(shop)
    yield from a_sequence_explains_it(shop)


@dataclass
class Races(Tally):
    """What came of all rounds."""

    rounds: Counter[str] = counted_each("{}")
    violations: int = counted("violations")


def race_some(numbers: Sequence[int], mutant: str | None) -> list[tuple[int, str, str | None]]:
    gc.collect()
    with hurrying(), MUTANTS.switched_on(mutant):
        return [(number, *race(number)) for number in numbers]


def races(run: Run) -> Races:
    tally, begin = Races(), time.perf_counter()
    numbers = range(run.seed, run.seed + run.rounds)
    for outcomes in in_parcels(partial(race_some, mutant=run.control), numbers, ROUNDS_IN_PARCEL, run.jobs):
        for number, name, violation in outcomes:
            tally.rounds[name] += 1
            if violation is not None:
                tally.trouble("violations", f"round {number}, {name}: {violation}")
    print(f"{tally.rounds.total() / (time.perf_counter() - begin):,.0f} rounds a second\n")
    return tally


if __name__ == "__main__":
    main(
        Proof(
            races,
            rounds=2000,
            seed=0,
            controls=MUTANTS.described(),
            options=[option("--jobs", 1, "in so many processes")],
        )
    )
