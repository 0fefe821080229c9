"""``python -m bench.proofs.outages``: a PostgreSQL server or the way to it fails while hosts give commands.

Hosts in processes of their own serve whole customers, refunds included, and write every answer they get to ledgers outside.
Every customer is then played once more in memory, where nothing interrupts: each answer in a ledger and each fact in the
store has to be the same. The control's hosts give commands again themselves, without command ids.

``crashes``: the server is restarted with ``pg_ctl restart -m immediate``, which is a crash and its recovery, again and again.
The server crashes, not the machine. ``lost-answers``: a proxy lets the first append of every command through to the server
and loses the answer with the connection.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.postgres import Proxy, with_parameters
from bench.proofs.outages_worker import RetryStrategy, answer_of, lines_of
from bench.proofs.processes import LOOK_SECONDS, Processes, wait_until_begun
from bench.proofs.proof import Proof, Run, Tally, counted, counted_each, main, option
from bench.proofs.reference import without_position
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.eventstore.store import CaseStore
from returnable.adapters.scenario import play
from returnable.adapters.wiring import Services, assemble, policy_book
from returnable.domain.policy import PolicyBook
from returnable.domain.ports import Recorded
from returnable.projections.redecided import redecide_store

LONGEST_CALM_SECONDS = 0.8
"""The longest the server runs between two crashes."""

ACTOR = rb'"([a-z_]+)-\d+-\d+"'
"""The actor of a command, as its facts say it: in no request but an append."""

STRATEGIES: tuple[RetryStrategy, ...] = ("store", "host", "store-without-ids")
"""Who repeats in an outage, in turns."""


@dataclass
class Outages(Tally):
    """What came of the hosts' work."""

    crashes: int = counted("crashes of the server")
    kinds: Counter[str] = counted_each("lost answers: {}")
    answers_lost: int = counted("answers to appends that were lost")
    customers: int = counted("customers served to the end")
    commands: int = counted("commands answered")
    given_again: int = counted("… that a host gave more than once")
    answered_again: int = counted("… that were on record by then: the answer had been lost")
    refunds: int = counted("refunds acknowledged")
    refunds_stored: int = counted("refunds requested in the store")
    redecided: int = counted("recorded commands decided again")
    lost: int = counted("acknowledged facts that are not stored")
    conflicts: int = counted("conflicts shown to a caller for what it did itself")
    changed: int = counted("other answers that differ from an uninterrupted run")
    doubled: int = counted("refunds requested twice")
    otherwise: int = counted("cases that differ from an uninterrupted run")
    undecided: int = counted("decisions that come out otherwise when decided again")


class Hosts(Processes):
    """Processes that serve customers at the store at ``url`` until :meth:`finish`.

    ``folder`` is for their ledgers. A control's hosts give commands again without ids.
    """

    def __init__(self, url: str, folder: Path, hosts: int, *, control: bool = False) -> None:
        super().__init__()
        self._folder = folder
        self.strategies = ["host-without-ids" if control else STRATEGIES[n % len(STRATEGIES)] for n in range(hosts)]
        self._processes = [
            self.start(
                folder / f"{n}.out", "bench.proofs.outages_worker", url, str(folder), str(n), str(hosts), strategy
            )
            for n, strategy in enumerate(self.strategies)
        ]

    def begin(self) -> None:
        """Wait until all serve. Until then the server must be sound."""
        wait_until_begun(self._processes)
        self.check()

    def check(self) -> None:
        for process in self._processes:
            if not process.is_running:
                process.finish()
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
            process.finish()

    def compare(self, url: str, tally: Outages) -> Outages:
        book = policy_book(None)
        with closing(open_store(url)) as store:
            for nth, strategy in enumerate(self.strategies):
                for customer, answers in _customers(self._folder / f"{nth}.ledger"):
                    _compare(store, customer, answers, strategy, book, tally)
            policy = assemble("memory:", book).handler.policy
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
    store: CaseStore,
    customer: int,
    answers: Sequence[dict[str, Any]],
    strategy: RetryStrategy,
    book: PolicyBook,
    tally: Outages,
) -> None:
    reference: Services = assemble("memory:", book)
    lines = enumerate(lines_of(customer, strategy), start=1)
    expected = [answer_of(played) for played in play(reference, lines)]
    case_id = f"A-{customer:03}"
    stored, should = store.load(case_id), reference.store.load(case_id)
    there = {(one.stream, one.version, one.event.type) for one in stored}
    assert [answer["number"] for answer in answers] == list(range(1, len(expected) + 1))
    tally.customers += 1
    tally.commands += len(answers)
    for answer, right in zip(answers, expected, strict=True):
        where = f"customer {customer}, line {answer['number']}, {answer['command']}"
        tally.given_again += answer["given"] > 1
        tally.answered_again += answer["again"]
        tally.refunds += answer["command"] == "request_refund" and answer["outcome"] == "accepted"
        for event in answer["facts"]:
            if tuple(event) not in there:
                tally.trouble("lost", f"{where}: {event}")
        if answer["error"] is not None and right["error"] is None:
            tally.trouble("conflicts", f"{where}: {answer['error']}")
        elif answer["hash"] != right["hash"]:
            tally.trouble("changed", f"{where}: {answer}")
    requested, rightly = Counter(_refunds_of(stored)), Counter(_refunds_of(should))
    tally.refunds_stored += requested.total()
    for refund in (requested - rightly).elements():
        tally.trouble("doubled", f"customer {customer}: {refund}")
    if [without_position(one) for one in stored] != [without_position(one) for one in should]:
        tally.trouble("otherwise", f"customer {customer}: {len(stored)} facts, not the {len(should)} there should be")


def _refunds_of(events: Sequence[Recorded]) -> Iterator[str]:
    for one in events:
        event: Any = one.event
        if event.type == "RefundRequested":
            yield event.refund_id


def lose_answers(url: str, folder: Path, *, replies: int, hosts: int, control: bool = False) -> Outages:
    """Lose so many answers of the empty store at a PostgreSQL URL. ``folder`` is for ledgers."""
    place, tally = place_of(url), Outages()
    with (
        closing(Proxy(place.conninfo)) as proxy,
        Hosts(with_parameters(proxy.url, schema=place.schema), folder, hosts, control=control) as at_work,
    ):
        at_work.begin()
        proxy.lose_answers_to(ACTOR, replies, but=b"stale")
        while proxy.lost < replies:
            time.sleep(LOOK_SECONDS)
            at_work.check()
        at_work.finish()
        tally.kinds.update(text.decode().partition("-")[0].strip('"') for text in proxy.found)
        tally.answers_lost = tally.kinds.total()
        return at_work.compare(url, tally)


def crashes(run: Run) -> Outages:
    """Crash the server again and again."""
    chance, tally, url = random.Random(run.seed), Outages(), run.new_store("crashing")
    with Hosts(url, run.folder, run.hosts, control=bool(run.control)) as at_work:
        at_work.begin()
        for _ in range(run.rounds):
            at_work.wait_for_an_answer()
            time.sleep(chance.uniform(0, LONGEST_CALM_SECONDS))
            run.server.control("restart", "-m", "immediate")
            tally.crashes += 1
            at_work.check()
        at_work.finish()
        return at_work.compare(url, tally)


def lost_answers(run: Run) -> Outages:
    """Lose the answers to appends, one after the other."""
    url = run.new_store("answering")
    return lose_answers(url, run.folder, replies=run.rounds, hosts=run.hosts, control=bool(run.control))


if __name__ == "__main__":
    controls = {"without-ids": "hosts give commands again themselves, without command ids"}
    hosts = [option("--hosts", 4, "how many processes give commands")]
    main(
        Proof(crashes, rounds=50, of="crashes", controls=controls, stores=["postgres"], options=hosts),
        Proof(lost_answers, rounds=200, of="answers", controls=controls, stores=["postgres"], options=hosts),
    )
