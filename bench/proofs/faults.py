"""``python -m bench.proofs.faults``: the disk fails and others hold locks, and the store must go on when that is over.

Hosts tell lifecycles to one desk, alone or several that commit together, while questions are asked. In every round something
is wrong from a random moment on: once, or until every host has been refused. Each refusal must be one clear error of the
library that names the file and what happened. Then the fault ends: the next write of every host must be accepted, within
five seconds; what was answered must be on record, what was refused must be there whole or not at all, and when it is told
again it must come to what an undisturbed run comes to, once. Between the rounds the store is sometimes closed and opened
again while the fault lasts.
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.proofs.disk import OK, Watch, kind_of, watching
from bench.proofs.disk_mutants import MUTANTS
from bench.proofs.files import damage_in
from bench.proofs.power_loss import book, of_threads, often_checkpointed, side_by_side
from bench.proofs.processes import Process
from bench.proofs.proof import Proof, Run, Tally, counted, main, option
from bench.proofs.reference import Reference
from bench.speed.measure import table
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.wiring import Services
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.handler import CommandHandler

PROMISED_SECONDS = 5.0
"""Within which a write is accepted, once nothing is wrong any more."""

PATIENCE_SECONDS = 30.0
"""After which a host that has not been answered is given up: the store is wedged."""

BUSY_SECONDS = 0.05
"""How long a write waits for others, in these stores."""

THREADS = 6

REFUSALS = 2
"""So often each host is refused by a fault that lasts, before it ends; or this often is what it does done in spite of it."""


class Wrongs(Watch):
    """A disk with a fault that can be switched on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dice = random.Random(0)
        self._calls: frozenset[tuple[str, str]]
        self.end()

    def begin(self, calls: Sequence[tuple[str, str]], code: int, after: int, times: int, dice: random.Random) -> None:
        """These calls fail, so many times, after some that succeed; each with a kind of file, or ``*``."""
        with self._lock:
            self._calls, self._code, self._after, self._times = frozenset(calls), code, after, times
            self._dice, self.met = dice, 0

    def end(self) -> None:
        self._calls = frozenset()
        self._code = self._after = self._times = self.met = 0

    def answer(self, call: str, path: str) -> int:
        if not self._calls or not {(call, kind_of(path)), (call, "*")} & self._calls:
            return OK
        with self._lock:
            if self._after > 0:
                self._after -= 1
                return OK
            if self._times <= 0:
                return OK
            self._times -= 1
            self.met += 1
            return self._code

    def part_of(self, path: str, size: int) -> int:
        """What fails to be written is written by half."""
        return self._dice.choice((0, 0, size // 2, size // 512 * 512))


# ---- what goes wrong ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something that can be wrong, and what must be said of it."""

    said: str
    """Part of what a refusal says (a pattern)."""
    calls: tuple[tuple[str, str], ...] = ()
    code: int = OK
    outside: Callable[[Life], Any] | None = None
    """A context in which it is so, for what is not an answer of the disk."""


FAILED = "reading or writing failed"


def lock_holder(path: Path, name: str) -> Process:
    return Process(path.with_name(f"{name}.out"), "bench.proofs.lock_holder", str(path))


def _held(begin: str) -> Callable[[Life], Any]:
    """Another process has begun a transaction with those statements."""

    @contextmanager
    def held(life: Life) -> Iterator[None]:
        life.holder.ask(begin)
        yield
        life.holder.ask("ROLLBACK")

    return held


@contextmanager
def _write_lock_of_a_process_that_is_killed(life: Life) -> Iterator[None]:
    holder = lock_holder(life.path, "killed")
    holder.ask("BEGIN IMMEDIATE; CREATE TABLE half_done (id); INSERT INTO half_done VALUES (1)")
    yield
    holder.kill()


@contextmanager
def _limited(what: int, limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


def _no_descriptors(life: Life) -> AbstractContextManager[None]:
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    return _limited(resource.RLIMIT_NOFILE, lowest)


FAULTS: dict[str, Fault] = {
    "disk full": Fault("the disk is full", (("write", "*"),), sqlite3.SQLITE_FULL),
    "disk full, WAL": Fault("the disk is full", (("write", "wal"),), sqlite3.SQLITE_FULL),
    "disk full, file": Fault("the disk is full", (("write", "db"),), sqlite3.SQLITE_FULL),
    "EIO on write": Fault(FAILED, (("write", "*"),), sqlite3.SQLITE_IOERR_WRITE),
    "EIO on fsync": Fault(FAILED, (("sync", "*"),), sqlite3.SQLITE_IOERR_FSYNC),
    "EIO on fsync, file": Fault(FAILED, (("sync", "db"),), sqlite3.SQLITE_IOERR_FSYNC),
    "EIO on read": Fault(FAILED, (("read", "*"),), sqlite3.SQLITE_IOERR_READ),
    "EIO on truncate": Fault(FAILED, (("cut", "*"),), sqlite3.SQLITE_IOERR_TRUNCATE),
    "EIO on size": Fault(FAILED, (("size", "*"),), sqlite3.SQLITE_IOERR_FSTAT),
    "EIO on delete": Fault(FAILED, (("delete", "*"),), sqlite3.SQLITE_IOERR_DELETE),
    "EIO on access": Fault(FAILED, (("access", "*"),), sqlite3.SQLITE_IOERR_ACCESS),
    "EIO on lock": Fault(FAILED, (("lock", "*"),), sqlite3.SQLITE_IOERR_LOCK),
    "EIO on shared memory": Fault(FAILED, (("map", "*"),), sqlite3.SQLITE_IOERR_SHMMAP),
    "EIO on shared lock": Fault(FAILED, (("lock-shared", "*"),), sqlite3.SQLITE_IOERR_SHMLOCK),
    "EIO on all": Fault(
        FAILED, tuple((call, "*") for call in ("read", "write", "sync", "cut", "size")), sqlite3.SQLITE_IOERR
    ),
    "read-only": Fault("read-only", (("write", "*"), ("cut", "*")), sqlite3.SQLITE_READONLY),
    "cannot be opened": Fault("cannot be opened", (("open", "*"),), sqlite3.SQLITE_CANTOPEN),
    "file size limit": Fault(FAILED, outside=lambda life: _limited(resource.RLIMIT_FSIZE, 512)),
    "no descriptors": Fault("cannot be opened", outside=_no_descriptors),
    "write lock of another process": Fault("held the store", outside=_held("BEGIN IMMEDIATE")),
    "… that is killed": Fault("held the store", outside=_write_lock_of_a_process_that_is_killed),
    "reader that holds back checkpoints": Fault("nothing", outside=_held("BEGIN; SELECT count(*) FROM facts")),
}
"""By name. Those without calls are real: limits of the process, and another process."""


# ---- hosts --------------------------------------------------------------------------------------------------------------


@dataclass
class Count:
    """What came of one fault."""

    rounds: int = 0
    met: int = 0
    refused: int = 0
    slowest: float = 0.0
    """Seconds from the end of the fault to the next write that was accepted."""
    again: int = 0
    """Refusals of writes that began after the end of the fault."""


@dataclass
class Faults(Tally):
    """What came of all rounds."""

    of_fault: dict[str, Count] = field(default_factory=dict)
    rounds: int = counted("rounds")
    met: int = counted("… in which the fault was met")
    refused: int = counted("refusals of commands")
    again: int = counted("refusals of commands that were given after the fault")
    opening: int = counted("refusals to open")
    questions: int = counted("refusals of questions")
    asked: int = counted("questions answered")
    answered: int = counted("commands answered")
    finished: int = counted("stores told to the end")
    wedged: int = counted("trouble: wedged")
    slow: int = counted("trouble: slow")
    unclear: int = counted("trouble: unclear")
    lost: int = counted("trouble: lost")
    half: int = counted("trouble: half")
    changed: int = counted("trouble: changed")
    damaged: int = counted("trouble: damaged")
    slowest_ms: int = counted("slowest write after a fault, in ms")

    def sum_up(self) -> None:
        """Print what came of each fault, and add it up."""
        rows = [
            (name, f"{one.rounds:,}", f"{one.met:,}", f"{one.refused:,}", f"{one.again:,}", f"{one.slowest:.3f}")
            for name, one in self.of_fault.items()
        ]
        columns = ("fault", "rounds", "… in which it was met", "refusals", "refused after its end", "slowest write (s)")
        print(f"{table(columns, rows)}\n")
        for name in ("rounds", "met", "refused", "again"):
            setattr(self, name, sum(getattr(one, name) for one in self.of_fault.values()))
        self.slowest_ms = round(1000 * max((one.slowest for one in self.of_fault.values()), default=0))


class Life:
    """One store, from its birth until every line is told."""

    def __init__(self, folder: Path, dice: random.Random, tally: Faults, journeys: int, threads: int) -> None:
        self.path = folder / "shop.db"
        self.dice = dice
        self.tally = tally
        self.reference = Reference(side_by_side(journeys))
        self.hosts = of_threads(self.reference, threads)
        self.wrongs = Wrongs()
        self.given: set[int] = set()
        self.answered: set[int] = set()
        self.now = ""
        """The fault of this round."""
        self._moved = threading.Condition()
        self._over = threading.Event()
        self._over_at = 0.0
        self._refused: Counter[int] = Counter()

    @property
    def count(self) -> Count:
        return self.tally.of_fault.setdefault(self.now, Count())

    def live(self, rounds: Iterator[str]) -> bool:
        """Round after round until all is told; whether the store came through it."""
        with often_checkpointed(), watching(self.wrongs):
            services = self._opened()
            self.holder = lock_holder(self.path, "holder")
            try:
                while any(self.hosts):
                    name = next(rounds, None)
                    if name is None:
                        break
                    self.now = name
                    if not self._round(services):
                        return False
                    services = self._looked_at(services)
            except (StoreBusy, StoreUnusable, RuntimeError) as error:
                self.tally.trouble("wedged", f"{self.now}: between two rounds: {error}")
                return False
            finally:
                self.holder.wait()
            services.store.close()
            self.tally.finished += not any(self.hosts)
        return True

    def _opened(self) -> Services:
        store = open_store(f"sqlite:///{self.path}", busy_timeout_seconds=BUSY_SECONDS)
        return Services(store, CommandHandler(store, book()))

    def _round(self, services: Services) -> bool:
        """One fault, until every host has got its next lines answered; whether they have."""
        if self.dice.random() < 0.6:
            _cold(services)
        fault = FAULTS[self.now]
        self.count.rounds += 1
        self._over.clear()
        self._refused.clear()
        lasts = self.dice.random() < 0.6 or fault.outside is not None
        shares = [[own.pop(0) for _ in range(min(len(own), self.dice.randint(2, 4)))] for own in self.hosts]
        threads = [
            threading.Thread(target=self._host, args=(services, nth, share), daemon=True)
            for nth, share in enumerate(shares)
            if share
        ]
        asking = threading.Thread(target=self._ask, args=(services, self.dice.random()), daemon=True)

        def run() -> None:
            asking.start()
            for thread in threads:
                thread.start()
            if lasts:
                with self._moved:
                    self._moved.wait_for(lambda: self._all_refused(threads), PATIENCE_SECONDS)

        def after() -> None:
            self._over_at = time.monotonic()
            self._over.set()

        if fault.outside is not None:
            with fault.outside(self):
                run()
            self.count.met += bool(self._refused) or self.now.startswith("reader")
            after()
        else:
            begun, times = self.dice.choice((0, 1, 3, 10, 40)), 1_000_000 if lasts else self.dice.choice((1, 1, 2, 5))
            self.wrongs.begin(fault.calls, fault.code, begun, times, self.dice)
            run()
            if not lasts:
                for thread in threads:
                    thread.join(0.01 * self.dice.random())
            self.count.met += bool(self.wrongs.met)
            self.wrongs.end()
            after()
        for thread in (*threads, asking):
            thread.join(PATIENCE_SECONDS)
        if any(thread.is_alive() for thread in (*threads, asking)):
            self.tally.trouble("wedged", f"{self.now}: a host or a question is not answered")
            return False
        return True

    def _all_refused(self, threads: Sequence[threading.Thread]) -> bool:
        return not any(thread.is_alive() for thread in threads) or (
            sum(times >= REFUSALS for times in self._refused.values()) >= sum(each.is_alive() for each in threads)
        )

    def _host(self, services: Services, nth: int, numbers: Sequence[int]) -> None:
        try:
            for number in numbers:
                self._tell(services, nth, number)
        except Exception as error:
            self.tally.trouble("unclear", f"{self.now}: {type(error).__name__}: {error}")
            self.hosts[nth][:0] = [each for each in numbers if each not in self.answered]
        finally:
            with self._moved:
                self._moved.notify_all()

    def _tell(self, services: Services, nth: int, number: int) -> None:
        self.given.add(number)
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            was_over = self._over.is_set()
            try:
                came = self.reference.give(services, number)
                break
            except (StoreBusy, StoreUnusable) as refusal:
                self._look_at(refusal)
                if was_over and isinstance(refusal, StoreUnusable):
                    self.tally.trouble("wedged", f"{self.now}: line {number}, given after its end: {refusal}")
                with self._moved:
                    self.count.refused += 1
                    self.count.again += was_over
                    self._refused[nth] += 1
                    self._moved.notify_all()
                if self._refused[nth] >= REFUSALS:
                    self._over.wait(PATIENCE_SECONDS)
                if time.monotonic() > give_up:
                    self.tally.trouble("wedged", f"{self.now}: line {number}: {refusal}")
                    self.hosts[nth].insert(0, number)
                    return
        if self._over.is_set():
            waited = time.monotonic() - self._over_at
            self.count.slowest = max(self.count.slowest, waited if self._refused[nth] else 0.0)
            if self._refused[nth] and waited > PROMISED_SECONDS:
                self.tally.trouble("slow", f"{self.now}: line {number} took {waited:.1f} s")
            self._refused[nth] = 0
        self.answered.add(number)
        self.tally.answered += 1
        if came != self.reference.outcomes[number]:
            self.tally.trouble("changed", f"{self.now}: line {number} came to {came.decode()[:300]}")

    def _look_at(self, refusal: Exception) -> None:
        """One line that names the file and what happened."""
        said = str(refusal)
        expected = FAULTS[self.now].said
        if not said.startswith(f"{self.path}: ") or "\n" in said or not re.search(f"{expected}|held the store", said):
            self.tally.trouble("unclear", f"{self.now}: {type(refusal).__name__}: {said}")

    def _ask(self, services: Services, seed: float) -> None:
        """Questions all the time: about cases whose facts must be the first of those that are to come."""
        dice = random.Random(seed)
        due: dict[str, list[tuple[object, ...]]] = {}
        for event in self.reference.events:
            due.setdefault(str(event[0]), []).append(event)
        asked_after = 0
        while asked_after < 2:
            asked_after += self._over.is_set()
            case_id = dice.choice([*due])
            try:
                seen = [(one.case_id, one.case_seq, one.stream, one.version) for one in services.store.load(case_id)]
            except (StoreBusy, StoreUnusable) as refusal:
                self._look_at(refusal)
                self.tally.questions += 1
                if asked_after:
                    self.tally.trouble("wedged", f"{self.now}: a question after its end: {refusal}")
                time.sleep(0.002)
                continue
            except Exception as error:
                self.tally.trouble("unclear", f"{self.now}: a question: {type(error).__name__}: {error}")
                return
            self.tally.asked += 1
            if seen != [event[:4] for event in due[case_id][: len(seen)]]:
                self.tally.trouble("half", f"{self.now}: the facts of {case_id} are not those that were told")
            time.sleep(0.001)

    def _looked_at(self, services: Services) -> Services:
        """What is on record, seen by another store on the same file; then perhaps another opening, while the fault lasts."""
        with closing(self._opened().store) as other:
            answered, given = {*self.answered}, {*self.given}
            for kind, what in self.reference.compare(other, answered=answered, given=given, stored=[]):
                self.tally.trouble(kind, f"{self.now}: {what}")
        if (damage := damage_in(self.path)) is not None:
            self.tally.trouble("damaged", f"{self.now}: {damage}")
        fault = FAULTS[self.now]
        if fault.calls and self.dice.random() < 0.3:
            self.wrongs.begin(fault.calls, fault.code, self.dice.choice((0, 0, 1, 5)), 1_000_000, self.dice)
            services.store.close()
            opened = None
            try:
                opened = self._opened()
            except (StoreBusy, StoreUnusable) as refusal:
                self._look_at(refusal)
                self.tally.opening += 1
            except Exception as error:
                self.tally.trouble("unclear", f"{self.now}: on opening: {type(error).__name__}: {error}")
            self.wrongs.end()
            services = opened or self._opened()
        return services


def _cold(services: Services) -> None:
    """Have the store open its connections anew, as it does when others failed: or nothing would be opened any more."""
    store: Any = services.store
    connections = store._connections
    while connections._held.readers:
        connections._held.readers.pop().close()
    connections.take_writer()
    connections.recover_writer(StoreUnusable("it is to be opened again"))
    connections.release_writer()


def faults(run: Run) -> Faults:
    """Disturb stores, one fault after the other."""
    global PATIENCE_SECONDS
    if run.control:
        PATIENCE_SECONDS = 2.0  # what never comes need not be waited for
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    names = [run.only] if run.only else [*FAULTS]
    tally = Faults()
    rounds = iter([names[nth % len(names)] for nth in range(run.rounds)])
    nth, sound = 0, True
    while sound and sum(one.rounds for one in tally.of_fault.values()) < run.rounds:
        nth += 1
        dice = random.Random(f"{run.seed}-{nth}")
        with run.new_folder(nth) as folder:
            threads = run.threads or dice.choice((1, THREADS, THREADS))
            sound = Life(folder, dice, tally, run.journeys, threads).live(rounds)
    tally.sum_up()
    return tally


if __name__ == "__main__":
    main(
        Proof(
            faults,
            rounds=2000,
            of="faults",
            controls=MUTANTS,
            options=[
                option("--journeys", 12, "how many customers are told of in one store"),
                option("--threads", 0, "how many hosts share a desk (default: one, or six)"),
                option("--only", None, "this fault alone", choices=[*FAULTS]),
            ],
        )
    )
