"""``python -m bench.reliability.forks``: processes fork while they use a store in a file, and nothing acknowledged is lost.

Each round is a family of processes on one store. Every process does a random series of things: it gives commands, asks,
brings stored views up to date, closes its desk, opens another one, forks (by ``os.fork``, by ``multiprocessing`` or in C,
which tells Python nothing) and ends, often before its children. Threads may give commands and follow the facts meanwhile.
Every process writes the orders that were acknowledged to a ledger. When all have ended, each of them must be in the file.

The first family does what loses most: it forks while a thread reads, and its child gives commands after the parent has closed
the store. The control does this in every round. It leaves out that a fork waits for threads, that connections are closed
before it, and that a child process refuses what is still open: what the child was told is lost.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import random
import select
import signal
import sqlite3
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import returnable
from bench.speed.measure import table
from returnable.adapters.eventstore import forks, sqlite_file
from returnable.adapters.eventstore.connections import Connections
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.store import Following
from returnable.adapters.eventstore.viewstore import SQLiteViews
from returnable.domain.errors import StoreBusy, StoreUnusable

ORDER: dict[str, Any] = {
    "customer": {"customer_id": "c", "account_id": None},
    "currency": "USD",
    "lines": [{"line_id": "1", "sku": "s", "unit_price": "1.00", "quantity": 1}],
    "payments": [{"payment_id": "p", "method": "card", "amount": "1.00"}],
}

PATIENCE_SECONDS = 120.0
"""After how long a family that has not ended is taken for hung."""

DEEPEST = 2
"""Children have children, and those have none."""

SHOWN = 5

TROUBLES = ("acknowledged orders that are not in the file", "processes that hung", "damaged files", "unclear refusals")

_IN_C = ctypes.PyDLL(None).fork if hasattr(os, "fork") else None


class Member:
    """A process of a family."""

    def __init__(self, path: Path, dice: random.Random, name: str, depth: int, told_of_forks: bool = True) -> None:
        self.path, self.dice, self.name, self.depth = path, dice, name, depth
        self.told_of_forks = told_of_forks
        self.desk: returnable.Desk | None = None
        self.given = 0
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []
        self.following: Following | None = None

    def live(self) -> None:
        """Do things at random."""
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
        connections = self.desk.parts.store._recorder._connections  # type: ignore[attr-defined]

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
        with patch.object(forks, "PATIENCE_SECONDS", 0.1):  # in vain: the thread reads on
            pid = os.fork()
        if pid == 0:
            with ends_here():
                os.close(tell)
                os.read(wait, 1)  # until the parent closes its end
                child.give()
        os.close(wait)
        may_end.set()
        thread.join()
        self.close()
        os.close(tell)
        os.waitpid(pid, 0)

    def note(self, what: str) -> None:
        """Write a line to the ledger of the family."""
        line = f"{what}\n".encode()
        file = os.open(self.path.with_suffix(".ledger"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line)
        os.close(file)

    def attempt(self, work: Callable[[], object]) -> None:
        """Do something; a refusal is noted."""
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
        """Another desk on the file, perhaps by a link, perhaps beside the one that is open."""
        place = self.path if self.dice.random() < 0.7 else self.path.with_suffix(".link")

        def opened() -> None:
            self.desk = returnable.open(f"sqlite:///{place}")

        self.attempt(opened)

    def give(self) -> None:
        """Give some commands."""
        for _ in range(self.dice.randint(1, 6)):
            self.given += 1
            self.confirm(f"{self.name}.{self.given}")

    def confirm(self, order_id: str) -> None:
        """Give one command, and write down that it was acknowledged."""
        desk = self.desk
        if desk is None:
            return

        def confirmed() -> None:
            desk.confirm_order(order_id=order_id, command_id=order_id, **ORDER)
            self.note(f"acknowledged {order_id}")

        self.attempt(confirmed)

    def ask(self) -> None:
        """Ask for every order."""
        if (desk := self.desk) is not None:
            self.attempt(lambda: list(desk.orders()))

    def project(self) -> None:
        """Bring stored views up to date."""
        if (desk := self.desk) is not None:
            self.attempt(desk.project)

    def close(self) -> None:
        """Close the desk."""
        if (desk := self.desk) is not None:
            self.attempt(desk.close)

    def begin_threads(self) -> None:
        """Give commands and follow the facts in threads."""
        if self.desk is None:
            return
        self.following = self.desk.parts.store.follow()  # type: ignore[attr-defined]
        self.threads = [threading.Thread(target=self._give_on, args=(nth,), daemon=True) for nth in range(2)]
        self.threads.append(threading.Thread(target=self._follow, daemon=True))
        for thread in self.threads:
            thread.start()

    def end_threads(self) -> None:
        """Have them come to their end."""
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
        with suppress(StoreUnusable, StoreBusy), self.following as facts:
            for _ in facts:
                pass

    def fork(self) -> None:
        """Have a child, which does things of its own."""
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
        pid = os.fork() if how == "os" or _IN_C is None else _IN_C()
        if pid == 0:
            with ends_here():
                child.live()
        elif self.dice.random() < 0.3:
            os.waitpid(pid, 0)


class ends_here:  # noqa: N801
    """The process ends with the block, without what Python does at an end."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            sys.excepthook(kind or type(error), error, trace)
        os._exit(0 if error is None else 1)


def run(folder: Path, *, rounds: int, seed: int = 1, control: bool = False) -> tuple[Counter[str], list[str]]:
    """So many families; what was counted, and some troubles in words. ``control``: with the mend left out."""
    tally: Counter[str] = Counter()
    shown: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        if control:
            leave_the_mend_out(stack)
        for nth in range(rounds):
            path = folder / f"{nth}.db"
            path.with_suffix(".link").symlink_to(path)
            member = Member(path, random.Random(f"{seed}-{nth}"), "order", 0)
            _family(member, member.race if control or nth == 0 else member.live, tally, shown)
            _look(path, tally, shown)
            tally["families"] += 1
    return tally, shown


def leave_the_mend_out(stack: ExitStack) -> None:
    """Connections stay open when the process forks, and the child uses the file all the same."""
    for kind in (Connections, SQLiteViews):
        stack.enter_context(patch.object(kind, "_close_before_fork", lambda self: None))
    stack.enter_context(patch.object(sqlite_file, "_check_not_inherited", lambda path: None))
    stack.enter_context(patch.object(forks, "_others_at_work", lambda me, with_owner=False: False))


def _family(eldest: Member, live: Callable[[], None], tally: Counter[str], shown: list[str]) -> None:
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receiver)
        os.setsid()
        with ends_here():
            live()
    os.close(sender)
    # Every process of the family holds the other end: it is closed when the last of them has ended.
    ended, _, _ = select.select([receiver], [], [], PATIENCE_SECONDS)
    os.close(receiver)
    if not ended:
        tally["processes that hung"] += 1
        shown.append(f"{eldest.path.name}: the family has not ended")
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _look(path: Path, tally: Counter[str], shown: list[str]) -> None:
    ledger = path.with_suffix(".ledger")
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    with closing(open_store(f"sqlite:///{path}")) as store:
        found = {case_id for case_id, _ in store.cases()}
    with closing(sqlite3.connect(path)) as connection:
        tally["damaged files"] += connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    for what, _, rest in (line.partition(" ") for line in lines):
        if what == "acknowledged":
            tally["acknowledged orders"] += 1
            if rest not in found:
                tally["acknowledged orders that are not in the file"] += 1
                shown.append(f"{path.name}: {rest} was acknowledged and is not in the file")
        elif what == "forked":
            tally[f"forks {rest}"] += 1
        elif what == "unclear":
            tally["unclear refusals"] += 1
            shown.append(f"{path.name}: {rest}")
        else:
            tally[f"commands and questions {what}"] += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Fork, compare, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.forks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="how many families of processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", action="store_true", help="with the mend left out: exits 1")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="returnable-forks-") as folder:
        tally, shown = run(Path(folder), rounds=options.rounds, seed=options.seed, control=options.control)
    counts = {**dict(sorted(tally.items())), **{name: tally[name] for name in TROUBLES}}
    print(table(("What", "Count"), [(name, f"{count:,}") for name, count in counts.items()]))
    for line in shown[:SHOWN]:
        print(f"trouble: {line}")
    return 1 if any(tally[name] for name in TROUBLES) else 0


if __name__ == "__main__":
    sys.exit(main())
