"""Refusals that are only counted: the number is exact, and a look at the case stays as cheap as it was.

    python -m bench.proofs.refusals --store sqlite --rounds 20

In each round several processes ask for the same refused return at one store, each attempt under a command id of its own.
They race for the first twenty refusals, for the event that counts the others, and for its number. Each process is killed
at points that a seed chooses: before a refusal is counted, inside the transaction that counts it, and after the commit but
before the process writes down the answer. The next process repeats the attempt under the same command id. In the end the
store must hold twenty refusals, one event and a number that make as many refusals as there were attempts.

``--control`` keeps the receipt in one transaction and raises the number in another one, after reading it: the number must
come out wrong, and the exit status is 1.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import returnable
from bench.proofs.processes import Process
from bench.proofs.proof import FILE_OR_SERVER, Proof, Run, Tally, counted, main, option
from bench.speed.lifecycle import lifecycle
from bench.speed.measure import in_turns
from returnable.adapters.eventstore.sql import SqlRefusalCounts, Statements
from returnable.domain import refusals as domain_refusals

PROCESSES = 3
ATTEMPTS = 40
"""How many attempts each process of a round makes."""
DEATHS = 4
"""How often each of them is killed."""
POINTS = ("before", "within", "after")
LOOKS = 41

_LATE = datetime(2026, 5, 4, 15, 0, tzinfo=UTC)


def order(url: str) -> returnable.Desk:
    """A desk whose one order was delivered long ago."""
    with closing(returnable.open(url)) as desk:
        for at, fields in lifecycle("1")[:3]:
            desk.handle(fields, at=at)
    return returnable.open(url, clock=lambda: _LATE)


def ask(desk: returnable.Desk, attempt: str) -> returnable.Outcome:
    line = {"line_id": "1", "quantity": 1}
    return desk.request_return(
        return_id=f"R-{attempt}", order_id="A-1", lines=[line], channel="portal", command_id=f"k-{attempt}"
    )


def counts(desk: returnable.Desk) -> dict[str, int]:
    events = [entry.event.type for entry in desk.services.store.load("A-1")]
    return {
        "single": events.count("ReturnDeclined"),
        "events": events.count("RefusalsCounted"),
        "number": sum(one.times for one in desk.services.store.refusals.of("A-1").values()),
    }


# ---- a process that asks ----------------------------------------------------------------------------------------------


class Mortal:
    """Tables whose process dies inside a transaction when it is told to; ``split``: the seeded mistake."""

    def __init__(self, tables: Any, split: bool) -> None:
        self._tables = tables
        self._split = split
        self.dies_within = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    def change(self, work: Callable[[Statements], Any]) -> Any:
        """Carry work out, and die before its end if that was wished."""
        postponed: list[Sequence[Any]] = []

        def until_death(statements: Statements) -> Any:
            seen: Any = _Postponing(statements, postponed) if self._split else statements
            result = work(seen)
            if self.dies_within and not self._split:
                _die()
            return result

        result = self._tables.change(until_death)
        if self.dies_within:
            _die()
        for case_id, case_seq, last_at in postponed:
            name = f"{self._tables.prefix}refusals"
            place = (case_id, case_seq)
            read = f"SELECT times FROM {name} WHERE case_id = ? AND case_seq = ?"
            ((times,),) = self._tables.ask(read, place) or ((0,),)
            write = (
                f"INSERT INTO {name} (case_id, case_seq, times, last_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (case_id, case_seq) DO UPDATE SET times = excluded.times RETURNING times"
            )
            values = (*place, times + 1, last_at)
            self._tables.change(lambda statements, write=write, values=values: statements.execute(write, values))
        return result


class _Postponing:
    def __init__(self, statements: Statements, postponed: list[Sequence[Any]]) -> None:
        self._statements = statements
        self._postponed = postponed

    def execute(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Carry a statement out, unless it raises the number."""
        if "refusals AS r" in query:
            self._postponed.append(values)
            return []
        return self._statements.execute(query, values)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def serve(url: str, ledger: Path, nth: int, attempts: int, death: str, split: bool) -> None:
    """Make the attempts that are not in the ledger; die at ``death``, such as ``7:within``, if it is not empty."""
    number, _, point = death.partition(":")
    with closing(returnable.open(url, clock=lambda: _LATE)) as desk, ledger.open("ab", buffering=0) as answers:
        store: Any = desk.services.store
        recorder = store
        tables = Mortal(recorder.refusals._tables, split)
        recorder.refusals = SqlRefusalCounts(tables)
        for attempt in range(ledger.read_bytes().count(b"\n"), attempts):
            dies = str(attempt) == number
            if dies and point == "before":
                _die()
            tables.dies_within = dies and point == "within"
            outcome = ask(desk, f"{nth}-{attempt}")
            if dies:
                _die()
            answers.write(f"{outcome.outcome}\n".encode())


# ---- a round of them --------------------------------------------------------------------------------------------------


def play_round(url: str, folder: Path, chance: random.Random, split: bool) -> tuple[int, dict[str, int]]:
    """How many processes were killed, and what the store holds in the end."""
    deaths = {
        nth: [f"{at}:{chance.choice(POINTS)}" for at in sorted(chance.sample(range(ATTEMPTS), DEATHS))]
        for nth in range(PROCESSES)
    }
    order(url).close()
    kills = 0
    running: dict[int, Process] = {}

    def start(nth: int) -> None:
        death = deaths[nth].pop(0) if deaths[nth] else ""
        given = [url, str(folder / f"{nth}.ledger"), str(nth), str(ATTEMPTS), death, "split" if split else ""]
        running[nth] = Process(folder / f"{nth}.out", "bench.proofs.refusals", "serve", *given)

    for nth in range(PROCESSES):
        start(nth)
    while running:
        nth, process = next(iter(running.items()))
        if running.pop(nth).wait() == -signal.SIGKILL:
            kills += 1
            start(nth)
        else:
            process.finish()
    with closing(returnable.open(url)) as desk:
        return kills, counts(desk)


# ---- the cost of a look ---------------------------------------------------------------------------------------------


def cost_of_a_look(folder: Path, refused: int, singly: int) -> tuple[float, int]:
    """The time of a look after so many refusals, as a ratio to one after twenty; and the facts it reads."""
    with patch.object(domain_refusals, "RECORDED_SINGLY", singly), ExitStack() as stack:
        many, few = (stack.enter_context(closing(order(f"sqlite:///{folder}/{name}.db"))) for name in ("many", "few"))
        for desk, times in ((many, refused), (few, 20)):
            for attempt in range(times):
                ask(desk, str(attempt))
        taken = in_turns(LOOKS, lambda: many.order(order_id="A-1"), lambda: few.order(order_id="A-1"))
        return median(after_many / after_few for after_many, after_few in taken), len(many.services.store.load("A-1"))


@dataclass
class Refusals(Tally):
    """What came of it."""

    rounds: int = counted("rounds")
    attempts: int = counted("attempts")
    kills: int = counted("kills (SIGKILL)")
    recorded: int = counted("refusals recorded or counted")
    wrong: int = counted("rounds whose number is wrong")
    events: int = counted("facts that a look after many refusals reads")
    dear: int = counted("looks that read too many facts")


def refusals(run: Run) -> Refusals:
    tally = Refusals()
    for nth in range(run.rounds):
        with run.new_folder(f"round-{nth}") as folder:
            chance = random.Random(f"{run.seed}/{nth}")
            killed, found = play_round(run.new_store(nth), folder, chance, bool(run.control))
        tally.rounds += 1
        tally.attempts += PROCESSES * ATTEMPTS
        tally.kills += killed
        tally.recorded += sum(found.values())
        if found != {"single": 20, "events": 1, "number": PROCESSES * ATTEMPTS - 21}:
            tally.trouble("wrong", f"round {nth}: {found} of {PROCESSES * ATTEMPTS} attempts")
    singly = 10 * run.refusals if run.control else domain_refusals.RECORDED_SINGLY
    ratio, tally.events = cost_of_a_look(run.folder, run.refusals, singly)
    if tally.events > 50:
        tally.trouble("dear", f"a look after {run.refusals:,} refusals reads {tally.events:,} facts")
    print(f"A look after {run.refusals:,} refusals takes {ratio:.2f} times as long as one after 20.\n")
    return tally


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _url, _ledger, _nth, _attempts, _death, _split = sys.argv[2:]
        serve(_url, Path(_ledger), int(_nth), int(_attempts), _death, bool(_split))
    else:
        many = option("--refusals", 5000, "how many the cost of a look is measured after")
        controls = {"outside": "the number is raised outside the transaction"}
        main(Proof(refusals, rounds=20, controls=controls, stores=FILE_OR_SERVER, options=[many]))
