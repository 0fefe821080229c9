"""Hosts that serve customers at one store in processes of their own, and what must be true of it all afterwards.

Every customer is then played once more in memory, where nothing interrupts: each answer in a ledger and each fact in the
store has to be the same.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.reliability.host_worker import Manner, answer_of, lines_of
from bench.reliability.processes import LOOK_SECONDS, Process, wait_until_begun
from bench.speed.measure import table
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.store import FactStore
from returnable.adapters.scenario import play
from returnable.adapters.wiring import Parts, assemble, policy_book
from returnable.domain.events import encode
from returnable.domain.policy import PolicyBook
from returnable.domain.ports import Recorded
from returnable.projections.redecided import redecide_store

SHOWN = 5
"""How many troubles are shown."""

MANNERS: tuple[Manner, ...] = ("patient", "asking-again", "without-ids")
"""How hosts bear an outage, in turns."""


@dataclass
class Tally:
    """What came of the hosts' work."""

    customers: int = 0
    commands: int = 0
    given_again: int = 0
    """Commands that a host had to give more than once."""
    answered_again: int = 0
    """Commands that were on record when they were given again: their first answer had been lost."""
    refunds: int = 0
    """Refunds that were acknowledged."""
    refunds_stored: int = 0
    redecided: int = 0
    lost: int = 0
    conflicts: int = 0
    changed: int = 0
    doubled: int = 0
    otherwise: int = 0
    undecided: int = 0
    troubles: list[str] = field(default_factory=list)

    def trouble(self, kind: str, what: str) -> None:
        """Count what must not happen."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.troubles.append(f"{kind}: {what}")

    def show(self, suffered: Sequence[tuple[str, int]]) -> int:
        """Print what the hosts suffered and what came of it; the exit status."""
        counts = [
            *suffered,
            ("customers served to the end", self.customers),
            ("commands answered", self.commands),
            ("… that a host gave more than once", self.given_again),
            ("… that were on record by then: the answer had been lost", self.answered_again),
            ("refunds acknowledged", self.refunds),
            ("refunds requested in the store", self.refunds_stored),
            ("recorded commands decided again", self.redecided),
            ("acknowledged facts that are not stored", self.lost),
            ("conflicts shown to a caller for what it did itself", self.conflicts),
            ("other answers that differ from an uninterrupted run", self.changed),
            ("refunds requested twice", self.doubled),
            ("cases that differ from an uninterrupted run", self.otherwise),
            ("decisions that come out otherwise when decided again", self.undecided),
        ]
        print(table(("what", "count"), [(name, f"{count:,}") for name, count in counts]))
        for trouble in self.troubles[:SHOWN]:
            print(trouble, file=sys.stderr)
        return 1 if self.troubles else 0


class Hosts:
    """Processes that serve customers at the store at ``url``, from the entrance of the context to :meth:`finish`.

    ``folder`` is for their ledgers. A control's hosts are all careless.
    """

    def __init__(self, url: str, folder: Path, hosts: int, *, control: bool = False) -> None:
        self._folder = folder
        self.manners: list[Manner] = ["careless" if control else MANNERS[nth % len(MANNERS)] for nth in range(hosts)]
        self._processes = [
            Process(
                folder / f"{nth}.out", "bench.reliability.host_worker", url, str(folder), str(nth), str(hosts), manner
            )
            for nth, manner in enumerate(self.manners)
        ]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._end)
            wait_until_begun(self._processes)
            self.check()
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process in self._processes:
            process.end()

    def check(self) -> None:
        """Raise ``RuntimeError`` when one of them has ended."""
        for process in self._processes:
            if not process.is_running:
                process.wait()
                raise RuntimeError(f"{process.output.name} ended before it was told to")

    def wait_for_an_answer(self) -> None:
        """Wait until a host has written down one more answer. Raises ``RuntimeError`` when one of them has ended."""
        before = self._written()
        while self._written() == before:
            self.check()
            time.sleep(LOOK_SECONDS)

    def _written(self) -> int:
        return sum(ledger.stat().st_size for ledger in self._folder.glob("*.ledger"))

    def finish(self) -> None:
        """Let them serve the customers they are at to the end."""
        (self._folder / "stop").touch()
        for process in self._processes:
            process.wait()

    def compare(self, url: str) -> Tally:
        """Compare ledgers, store and an uninterrupted run."""
        tally = Tally()
        book = policy_book(None)
        with closing(open_store(url)) as store:
            for nth, manner in enumerate(self.manners):
                for customer, answers in _customers(self._folder / f"{nth}.ledger"):
                    _compare(store, customer, answers, manner, book, tally)
            policy = assemble("memory:", book).desk.policy
            for case in redecide_store(store, policy):
                tally.redecided += case.commands
                for difference in case.differences:
                    tally.trouble("undecided", f"{difference.event}: {difference.differences}")
        return tally


def _customers(ledger: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    with ledger.open("rb") as lines:
        for customer, answers in groupby(map(json.loads, lines), key=lambda answer: answer["customer"]):
            yield customer, list(answers)


def _compare(
    store: FactStore,
    customer: int,
    answers: Sequence[dict[str, Any]],
    manner: Manner,
    book: PolicyBook,
    tally: Tally,
) -> None:
    reference: Parts = assemble("memory:", book)
    lines = enumerate(lines_of(customer, manner), start=1)
    expected = [answer_of(played) for played in play(reference, lines)]
    case_id = f"A-{customer:03}"
    stored, should = store.load(case_id), reference.store.load(case_id)
    there = {(one.stream, one.version, one.fact.type) for one in stored}
    assert [answer["number"] for answer in answers] == list(range(1, len(expected) + 1))
    tally.customers += 1
    tally.commands += len(answers)
    for answer, right in zip(answers, expected, strict=True):
        where = f"customer {customer}, line {answer['number']}, {answer['command']}"
        tally.given_again += answer["given"] > 1
        tally.answered_again += answer["again"]
        tally.refunds += answer["command"] == "request_refund" and answer["outcome"] == "accepted"
        for fact in answer["facts"]:
            if tuple(fact) not in there:
                tally.trouble("lost", f"{where}: {fact}")
        if answer["error"] is not None and right["error"] is None:
            tally.trouble("conflicts", f"{where}: {answer['error']}")
        elif answer["hash"] != right["hash"]:
            tally.trouble("changed", f"{where}: {answer}")
    requested, rightly = Counter(_refunds_of(stored)), Counter(_refunds_of(should))
    tally.refunds_stored += requested.total()
    for refund in (requested - rightly).elements():
        tally.trouble("doubled", f"customer {customer}: {refund}")
    if [_without_position(one) for one in stored] != [_without_position(one) for one in should]:
        tally.trouble("otherwise", f"customer {customer}: {len(stored)} facts, not the {len(should)} there should be")


def _refunds_of(facts: Sequence[Recorded]) -> Iterator[str]:
    for one in facts:
        fact: Any = one.fact
        if fact.type == "RefundRequested":
            yield fact.refund_id


def _without_position(one: Recorded) -> tuple[object, ...]:
    return (one.case_id, one.case_seq, one.stream, one.version, *encode(one.fact))
