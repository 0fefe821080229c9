"""``python -m bench.proofs.forks``: processes fork while they use a store in a file, and nothing acknowledged is lost.

Each round is a family of processes on one store. Every process does a random series of things: it gives commands, asks,
brings stored views up to date, closes its desk, opens another one, forks (by ``os.fork``, by ``multiprocessing`` or in C,
which tells Python nothing) and ends, often before its children. Threads may give commands and follow the facts meanwhile.
Every process writes the orders that were acknowledged to a ledger. When all have ended, each of them must be in the file.

The first family does what loses most: it forks while a thread reads, and its child gives commands after the parent has closed
the store. The control does this in every round. It leaves out that a fork waits for threads, that connections are closed
before it, and that a child process refuses what is still open: what the child was told is lost.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import select
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import returnable
from bench.proofs.files import ORDER, Ledger, damage_in, orders_in
from bench.proofs.mutants import Mutants
from bench.proofs.processes import forked
from bench.proofs.proof import Proof, Run, Tally, counted, counted_each, main
from returnable.adapters.eventstore import forks as eventstore_forks
from returnable.adapters.eventstore import sqlite_file
from returnable.adapters.eventstore.sqlite_connections import Connections
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.domain.errors import StoreBusy, StoreUnusable

PATIENCE_SECONDS = 120.0
"""After how long a family that has not ended is taken for hung."""

DEEPEST = 2
"""Children have children, and those have none."""


@dataclass
class Forks(Tally):
    """What came of it."""

    families: int = counted("families")
    forks: Counter[str] = counted_each("forks {}")
    acknowledged: int = counted("acknowledged orders")
    answers: Counter[str] = counted_each("commands and questions {}")
    lost: int = counted("acknowledged orders that are not in the file")
    hung: int = counted("processes that hung")
    damaged: int = counted("damaged files")
    unclear: int = counted("unclear refusals")


_IN_C = ctypes.PyDLL(None).fork if hasattr(os, "fork") else None


class Member:
    """A process of a family."""

    def __init__(self, path: Path, dice: random.Random, name: str, depth: int, told_of_forks: bool = True) -> None:
        self.path, self.dice, self.name, self.depth = path, dice, name, depth
        self.note = Ledger(path.with_suffix(".ledger")).note
        self.told_of_forks = told_of_forks
        self.desk: returnable.Desk | None = None
        self.given = 0
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []
        self.following: Any = None

    def live(self) -> None:
        if self.depth == 0:
            self.open()
            if self.dice.random() < 0.4:
                self.begin_threads()
        for _ in range(self.dice.randint(3, 9)):
            self.dice.choices(
                (self.give, self.ask, self.project, self.close, self.open, self.fork), (5, 1, 1, 2, 2, 4)
            )[0]()
        if self.dice.random() < 0.5:
            self.end_threads()
            self.close()

    def race(self) -> None:
        """Fork while a thread reads, and have the child give commands once this process has closed the store."""
        self.desk = returnable.open(f"sqlite:///{self.path}")
        self.give()
        reads, may_end = threading.Event(), threading.Event()
        connections = self.desk.services.store._connections  # type: ignore[attr-defined]

        def read() -> None:
            with connections.reading() as connection:
                rows = connection.execute("SELECT position FROM facts")
                reads.set()
                may_end.wait()
                rows.fetchall()

        thread = threading.Thread(target=read)
        thread.start()
        reads.wait()
        child = Member(self.path, random.Random(self.dice.random()), f"{self.name}.child", DEEPEST, told_of_forks=False)
        child.desk = self.desk
        wait, tell = os.pipe()

        def outlive() -> None:
            os.close(tell)
            os.read(wait, 1)  # until the parent closes its end
            child.give()

        with patch.object(eventstore_forks, "PATIENCE_SECONDS", 0.1):  # in vain: the thread reads on
            pid = forked(outlive)
        os.close(wait)
        may_end.set()
        thread.join()
        self.close()
        os.close(tell)
        os.waitpid(pid, 0)

    def attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except StoreBusy:
            self.note("busy")
        except StoreUnusable as error:
            expected = "is closed" in str(error) or (not self.told_of_forks and "was forked" in str(error))
            self.note("refused" if expected else f"unclear {self.name}: {error}")
        except Exception as error:
            self.note(f"unclear {self.name}: {type(error).__name__}: {error}")

    def open(self) -> None:
        place = self.path if self.dice.random() < 0.7 else self.path.with_suffix(".link")

        def opened() -> None:
            self.desk = returnable.open(f"sqlite:///{place}")

        self.attempt(opened)

    def give(self) -> None:
        for _ in range(self.dice.randint(1, 6)):
            self.given += 1
            self.confirm(f"{self.name}.{self.given}")

    def confirm(self, order_id: str) -> None:
        desk = self.desk
        if desk is None:
            return

        def confirmed() -> None:
            desk.confirm_order(order_id=order_id, command_id=order_id, **ORDER)
            self.note(f"acknowledged {order_id}")

        self.attempt(confirmed)

    def ask(self) -> None:
        if (desk := self.desk) is not None:
            self.attempt(lambda: list(desk.orders()))

    def project(self) -> None:
        if (desk := self.desk) is not None:
            self.attempt(desk.project)

    def close(self) -> None:
        if (desk := self.desk) is not None:
            self.attempt(desk.close)

    def begin_threads(self) -> None:
        if self.desk is None:
            return
        self.following = self.desk.services.store.follow()
        self.threads = [threading.Thread(target=self._give_on, args=(nth,), daemon=True) for nth in range(2)]
        self.threads.append(threading.Thread(target=self._follow, daemon=True))
        for thread in self.threads:
            thread.start()

    def end_threads(self) -> None:
        self.stop.set()
        if self.following is not None:
            self.following.stop()
        for thread in self.threads:
            thread.join()
        self.threads = []

    def _give_on(self, nth: int) -> None:
        number = 0
        while not self.stop.wait(0.001):
            number += 1
            self.confirm(f"{self.name}.thread-{nth}.{number}")

    def _follow(self) -> None:
        assert self.following is not None
        with suppress(StoreUnusable, StoreBusy), self.following as events:
            for _ in events:
                pass

    def fork(self) -> None:
        if self.depth == DEEPEST:
            return
        self.given += 1
        # Beside threads Python itself does not bear a fork it is not told of.
        how = self.dice.choices(("os", "multiprocessing", "C"), (5, 3, 0 if self.threads else 1))[0]
        child = Member(self.path, random.Random(self.dice.random()), f"{self.name}.{self.given}", self.depth + 1)
        child.desk = self.desk
        child.told_of_forks = self.told_of_forks and how != "C"
        self.note(f"forked by {how}")
        if how == "multiprocessing":
            multiprocessing.get_context("fork").Process(target=child.live).start()
            return
        pid = forked(child.live, os.fork if how == "os" or _IN_C is None else _IN_C)
        if self.dice.random() < 0.3:
            os.waitpid(pid, 0)


CONTROLS = Mutants()


@CONTROLS.register
def _left_open(patches: ExitStack) -> None:
    """Connections stay open when the process forks, and the child uses the file all the same."""
    for kind in (Connections, SQLiteViews):
        patches.enter_context(patch.object(kind, "_close_before_fork", lambda self: None))
    patches.enter_context(patch.object(sqlite_file, "_check_not_inherited", lambda path: None))
    patches.enter_context(patch.object(eventstore_forks, "_others_at_work", lambda me, with_owner=False: False))


def _family(eldest: Member, live: Callable[[], None], tally: Forks) -> None:
    receiver, sender = os.pipe()

    def begin() -> None:
        os.close(receiver)
        os.setsid()
        live()

    pid = forked(begin)
    os.close(sender)
    # Every process of the family holds the other end: it is closed when the last of them has ended.
    ended, _, _ = select.select([receiver], [], [], PATIENCE_SECONDS)
    os.close(receiver)
    if not ended:
        tally.trouble("hung", f"{eldest.path.name}: the family has not ended")
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _look(path: Path, tally: Forks) -> None:
    found = orders_in(path)
    if (damage := damage_in(path)) is not None:
        tally.trouble("damaged", damage)
    for what, rest in Ledger(path.with_suffix(".ledger")).lines():
        if what == "acknowledged":
            tally.acknowledged += 1
            if rest not in found:
                tally.trouble("lost", f"{path.name}: {rest} was acknowledged and is not in the file")
        elif what == "forked":
            tally.forks[rest] += 1
        elif what == "unclear":
            tally.trouble("unclear", f"{path.name}: {rest}")
        else:
            tally.answers[what] += 1


def forks(run: Run) -> Forks:
    """Have families of processes live, one after the other."""
    tally = Forks()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        for nth in range(run.rounds):
            path = run.folder / f"{nth}.db"
            path.with_suffix(".link").symlink_to(path)
            member = Member(path, random.Random(f"{run.seed}-{nth}"), "order", 0)
            _family(member, member.race if run.control or nth == 0 else member.live, tally)
            _look(path, tally)
            tally.families += 1
    return tally


if __name__ == "__main__":
    main(Proof(forks, rounds=60, of="families of processes", controls=CONTROLS))
