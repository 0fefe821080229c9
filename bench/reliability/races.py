"""``python -m bench.reliability.races``: two or three commands at once of which one may win, in every order there is.

A round begins with a case in which the race is about to start. Each runner tells its command through a desk that may share
its process with the others, and insists until it is answered; the baton goes round at every call of the store, and in some
rounds answers are lost and processes killed. Then the log must have one winner, the losers must have been told something
that was true, and one desk that is told the same commands one after the other must come to the same facts.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from random import Random
from typing import Any

from bench.reliability.baton import DAY, HOUR, MILLISECOND
from bench.reliability.history import hurrying
from bench.reliability.machine import Disk, Process, Troubles
from bench.reliability.mutants import MUTANTS, switched_on
from bench.reliability.oracles import (
    a_sequence_explains_it,
    acknowledged_is_on_record,
    commands_are_whole,
    deadlines_are_recorded_once,
    races_have_one_winner,
)
from bench.reliability.shop import Shop, Violation
from bench.speed.measure import table
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

ORDER: Fields = {
    "command": "confirm_order",
    "order_id": "A-1",
    "customer": {"customer_id": "c-1", "account_id": "acc-1"},
    "currency": "USD",
    "lines": [{"line_id": "1", "sku": "BAG", "unit_price": "300.00", "quantity": 2}],
    "payments": [
        {"payment_id": "p-1", "method": "card", "amount": "500.00"},
        {"payment_id": "p-2", "method": "gift_card", "amount": "100.00"},
    ],
}
PARCEL: Fields = {"order_id": "A-1", "parcel_id": "P-1"}
SHIPPED: Fields = {"command": "record_shipment", **PARCEL, "carrier": "ups", "tracking_number": "T-1"}
DELIVERED: Fields = {"command": "record_delivery", **PARCEL}
CANCEL: Fields = {"command": "request_cancellation", "order_id": "A-1", "channel": "email", "order_copy": True}
RETURN: Fields = {
    "command": "request_return",
    "return_id": "R-1",
    "order_id": "A-1",
    "lines": [{"line_id": "1", "quantity": 2}],
    "channel": "portal",
}
LABEL: Fields = {
    "command": "issue_label",
    "return_id": "R-1",
    "label_id": "L-1",
    "carrier": "fedex",
    "tracking_number": "RT-1",
}
SENT: Fields = {"command": "record_return_shipment", "return_id": "R-1", "label_id": "L-1"}
RECEIVED: Fields = {"command": "receive_return", "return_id": "R-1"}
FINDING = {"line_id": "1", "quantity": 2, "same_condition": True, "original_packaging": True, "tags_attached": True}
INSPECTED: Fields = {"command": "inspect_return", "return_id": "R-1", "findings": [FINDING]}
REFUND: Fields = {"command": "request_refund", "refund_id": "F-1", "return_id": "R-1"}
PAID: Fields = {"command": "record_refund_result", "refund_id": "F-1", "payment_id": "p-1", "result": "succeeded"}
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
        shop.baton.sleep(0 if nth == 1 else HOUR)
        shop.tell(shop.servers[0], command)
    return shop.disk, shop.baton.now + RACES[name].after


class Runner:
    """Tells its command until it is answered, through a process that may die of it."""

    def __init__(self, shop: Shop, command: Command, process: Process, dice: Random) -> None:
        self.shop = shop
        self.command = command
        self.process = process
        self.dice = dice

    def run(self) -> None:
        """Off, at once or a moment later."""
        self.shop.baton.sleep(self.dice.choice((0, 0, MILLISECOND, 3 * MILLISECOND)))
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
    shop.baton.now = now
    for nth in range(1, 1 + dice.choice((2, 2, 3))):
        command = parse_command({**kind.runners(nth), "command_id": "k" if kind.same else f"k-{nth}"})
        runner = Runner(shop, command, dice.choice(shop.servers), Random(f"{number} {nth}"))
        shop.baton.add(f"runner-{nth}", runner.run)
    try:
        shop.baton.run()
        shop.set_troubles(Troubles())
        violation = next(_violations(shop, kind, shop.disk.store.read(begun.store.head(), 1000)), None)
    except Exception as failure:  # whatever the library raises here, nobody expects it
        violation = f"{type(failure).__name__}: {failure}"
    return name, violation


def _violations(shop: Shop, kind: Race, facts: Sequence[Recorded]) -> Iterator[str]:
    winners = [entry.event for entry in facts if isinstance(entry.fact, kind.wins)]
    if len(winners) != 1:
        yield f"{len(winners)} winners: {', '.join(winners)}"
    if kind.wins == (Cancelled, CancellationDeclined) and not any(isinstance(entry.fact, Shipped) for entry in facts):
        yield "what the carrier did is not on record"
    yield from acknowledged_is_on_record(shop)
    yield from commands_are_whole(shop)
    yield from races_have_one_winner(shop)
    if kind.wins is LabelVoided:
        yield from deadlines_are_recorded_once(shop)
    yield from a_sequence_explains_it(shop)


def race_some(numbers: Sequence[int], mutant: str | None) -> list[tuple[int, str, str | None]]:
    """Several rounds."""
    gc.collect()
    with hurrying(), switched_on(mutant):
        return [(number, *race(number)) for number in numbers]


def main(arguments: Sequence[str] | None = None) -> int:
    """Race and print; exit status 1 if anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.races", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="ROUND", help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="in so many processes")
    parser.add_argument("--mutant", choices=[*MUTANTS], help="with this mistake in the code: exits 1")
    options = parser.parse_args(arguments)
    numbers = range(options.first, options.first + options.rounds)
    parcels = [numbers[at : at + ROUNDS_IN_PARCEL] for at in range(0, len(numbers), ROUNDS_IN_PARCEL)]
    rounds: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    begin = time.perf_counter()
    for came in _raced(parcels, options.mutant, options.jobs):
        for number, name, violation in came:
            rounds[name] += 1
            if violation is not None:
                bad[name] += 1
                if bad.total() <= 20:
                    print(f"round {number}, {name}: {violation[:300]}", flush=True)
    took = time.perf_counter() - begin
    print(table(("race", "rounds", "violations"), [(name, f"{rounds[name]:,}", f"{bad[name]:,}") for name in RACES]))
    print(f"{rounds.total() / took:,.0f} rounds a second")
    return 1 if bad else 0


def _raced(
    parcels: Sequence[Sequence[int]], mutant: str | None, jobs: int
) -> Iterator[list[tuple[int, str, str | None]]]:
    if jobs == 1:
        for parcel in parcels:
            yield race_some(parcel, mutant)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(partial(race_some, mutant=mutant), parcels)


if __name__ == "__main__":
    sys.exit(main())
