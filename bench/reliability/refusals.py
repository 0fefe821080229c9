"""Refusals that are only counted: the number is exact, and a look at the case stays as cheap as it was.

    python -m bench.reliability.refusals --store sqlite --rounds 20

In each round several processes ask for the same refused return at one store, each attempt under a command id of its own.
They race for the first twenty refusals, for the event that counts the others, and for its number. Each process is killed
at points that a seed chooses: before a refusal is counted, inside the transaction that counts it, and after the commit but
before the process writes down the answer. The next process repeats the attempt under the same command id. In the end the
store must hold twenty refusals, one event and a number that make as many refusals as there were attempts.

``--control`` keeps the receipt in one transaction and raises the number in another one, after reading it: the number must
come out wrong, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest.mock import patch

import returnable
from bench.postgres import OwnServer, with_parameters
from bench.reliability.processes import ROOT
from bench.speed.measure import table
from returnable.adapters.eventstore.bookkeeping import SqlRefusalCounts, Statements
from returnable.adapters.eventstore.open import migrate_store
from returnable.domain import refusals

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
    now = _LATE - timedelta(days=60)
    with closing(returnable.open(url, clock=lambda: now)) as desk:
        desk.confirm_order(
            order_id="A-1",
            currency="USD",
            customer={"customer_id": "c-1", "account_id": "acc-1"},
            lines=[{"line_id": "1", "sku": "S", "unit_price": "1.00", "quantity": 1}],
            payments=[{"payment_id": "p-1", "method": "card", "amount": "1.00"}],
        )
        desk.record_shipment(order_id="A-1", parcel_id="P-1", carrier="ups", tracking_number="T-1")
        desk.record_delivery(order_id="A-1", parcel_id="P-1")
    return returnable.open(url, clock=lambda: _LATE)


def ask(desk: returnable.Desk, attempt: str) -> returnable.Outcome:
    """One more attempt at the return that is refused."""
    line = {"line_id": "1", "quantity": 1}
    return desk.request_return(
        return_id=f"R-{attempt}", order_id="A-1", lines=[line], channel="portal", command_id=f"k-{attempt}"
    )


def counts(desk: returnable.Desk) -> dict[str, int]:
    """What the store holds of the refusals."""
    facts = [entry.fact.type for entry in desk.parts.store.load("A-1")]
    return {
        "single": facts.count("ReturnDeclined"),
        "events": facts.count("RefusalsCounted"),
        "number": sum(one.times for one in desk.parts.store.refusals.of("A-1").values()),
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
            result = work(_Postponing(statements, postponed) if self._split else statements)
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
        store: Any = desk.parts.store
        recorder = store._recorder
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
    with ExitStack() as stack:
        running: dict[int, subprocess.Popen[bytes]] = {}

        def start(nth: int) -> None:
            death = deaths[nth].pop(0) if deaths[nth] else ""
            given = [url, str(folder / f"{nth}.ledger"), str(nth), str(ATTEMPTS), death, "split" if split else ""]
            process = subprocess.Popen([sys.executable, "-m", "bench.reliability.refusals", "serve", *given], cwd=ROOT)
            stack.callback(process.wait)
            stack.callback(process.kill)
            running[nth] = process

        for nth in range(PROCESSES):
            start(nth)
        while running:
            nth, process = next(iter(running.items()))
            status = process.wait()
            del running[nth]
            if status == -signal.SIGKILL:
                kills += 1
                start(nth)
            elif status:
                raise RuntimeError(f"a process ended with {status}")
    with closing(returnable.open(url)) as desk:
        return kills, counts(desk)


# ---- the cost of a look ---------------------------------------------------------------------------------------------


def cost_of_a_look(folder: Path, refused: int, singly: int) -> tuple[float, int]:
    """The time of a look after so many refusals, as a ratio to one after twenty; and the facts it reads."""
    with patch.object(refusals, "RECORDED_SINGLY", singly), ExitStack() as stack:
        desks = []
        for name, times in (("few", 20), ("many", refused)):
            desk = stack.enter_context(closing(order(f"sqlite:///{folder}/{name}.db")))
            for attempt in range(times):
                ask(desk, str(attempt))
            desks.append(desk)
        ratios = []
        for _ in range(LOOKS):
            times_taken = []
            for desk in desks:
                begun = perf_counter()
                desk.order(order_id="A-1")
                times_taken.append(perf_counter() - begun)
            ratios.append(times_taken[1] / times_taken[0])
        return median(ratios), len(desks[1].parts.store.load("A-1"))


# ---- the command ------------------------------------------------------------------------------------------------------


def _urls(store: str, folder: Path, stack: ExitStack) -> Iterator[str]:
    server = stack.enter_context(OwnServer()) if store == "postgres" else None
    nth = 0
    while True:
        nth += 1
        if server is None:
            yield f"sqlite:///{folder}/{nth}.db"
        else:
            url = with_parameters(server.url, schema=f"round_{nth}")
            migrate_store(url)
            yield url


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, kill, count, print; exit status 1 if a number is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.refusals", description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--refusals", type=int, default=5000, help="how many the cost of a look is measured after")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", action="store_true", help="the number is raised outside the transaction; exits 1")
    options = parser.parse_args(arguments)
    kills = recorded = wrong = 0
    troubles: list[str] = []
    with tempfile.TemporaryDirectory(prefix="returnable-refusals-") as name, ExitStack() as stack:
        urls = _urls(options.store, Path(name), stack)
        for nth in range(options.rounds):
            folder = Path(name) / f"round-{nth}"
            folder.mkdir()
            killed, found = play_round(next(urls), folder, random.Random(f"{options.seed}/{nth}"), options.control)
            kills += killed
            recorded += sum(found.values())
            if found != {"single": 20, "events": 1, "number": PROCESSES * ATTEMPTS - 21}:
                wrong += 1
                troubles.append(f"round {nth}: {found} of {PROCESSES * ATTEMPTS} attempts")
        singly = 10 * options.refusals if options.control else refusals.RECORDED_SINGLY
        ratio, facts = cost_of_a_look(Path(name), options.refusals, singly)
    if facts > 50:
        troubles.append(f"a look after {options.refusals:,} refusals reads {facts:,} facts")
    rows = [
        ("rounds", options.rounds),
        ("attempts", options.rounds * PROCESSES * ATTEMPTS),
        ("kills (SIGKILL)", kills),
        ("refusals recorded or counted", recorded),
        ("rounds whose number is wrong", wrong),
        (f"facts that a look reads after {options.refusals:,} refusals", facts),
    ]
    print(table(("what", "count"), [(what, f"{count:,}") for what, count in rows]))
    print(f"A look after {options.refusals:,} refusals takes {ratio:.2f} times as long as one after 20.")
    for trouble in troubles[:5]:
        print(trouble, file=sys.stderr)
    return 1 if troubles else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _url, _ledger, _nth, _attempts, _death, _split = sys.argv[2:]
        serve(_url, Path(_ledger), int(_nth), int(_attempts), _death, bool(_split))
    else:
        sys.exit(main())
