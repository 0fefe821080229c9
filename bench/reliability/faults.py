"""``python -m bench.reliability.faults``: the disk fails and others hold locks, and the store must go on when that is over.

Hosts tell lifecycles to one desk, alone or several that commit together, while questions are asked. In every round something
is wrong from a random moment on: once, or until every host has been refused. Each refusal must be one clear error of the
library that names the file and what happened. Then the fault ends: the next write of every host must be accepted, within
five seconds; what was answered must be on record, what was refused must be there whole or not at all, and when it is told
again it must come to what an undisturbed run comes to, once. Between the rounds the store is sometimes closed and opened
again while the fault lasts.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.reliability.disk import OK, Watch, kind_of, watching
from bench.reliability.disk_mutants import MISTAKES
from bench.reliability.kill import SHOWN, Telling
from bench.reliability.power_loss import Standard, book, of_threads, often_checkpointed, side_by_side
from bench.speed.measure import table
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.wiring import Parts
from returnable.domain.desk import Desk
from returnable.domain.errors import StoreBusy, StoreUnusable

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
        self.end()

    def begin(self, calls: Sequence[tuple[str, str]], code: int, after: int, times: int, dice: random.Random) -> None:
        """These calls fail, so many times, after some that succeed; each with a kind of file, or ``*``."""
        with self._lock:
            self._calls, self._code, self._after, self._times = frozenset(calls), code, after, times
            self._dice, self.met = dice, 0

    def end(self) -> None:
        """Nothing fails."""
        self._calls: frozenset[tuple[str, str]] = frozenset()
        self._code = self._after = self._times = self.met = 0

    def answer(self, call: str, path: str) -> int:
        """The error, when it is its turn."""
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
    outside: Callable[[Round], Any] | None = None
    """A context in which it is so, for what is not an answer of the disk."""


@dataclass
class Round:
    """What a fault is given to work with."""

    path: Path
    holder: Holder


FAILED = "reading or writing failed"


class HolderEnded(Exception):
    """Another process could not do what it was to do."""


class Holder:
    """Another process that opens the file and holds a lock, or a snapshot."""

    SCRIPT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
for line in sys.stdin:
    for statement in line.strip().split(";"):
        connection.execute(statement).fetchall()
    print("done", flush=True)
"""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, statements: str) -> None:
        """Carry statements out, with patience."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{statements}\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            raise HolderEnded("the process that was to hold a lock does not get it")

    def end(self, kill: bool = False) -> None:
        """Have it close its connection, or die with it."""
        if kill:
            self._process.kill()
        self._process.communicate()


@contextmanager
def _write_lock(round_: Round) -> Iterator[None]:
    round_.holder.do("BEGIN IMMEDIATE")
    yield
    round_.holder.do("ROLLBACK")


@contextmanager
def _write_lock_of_a_process_that_is_killed(round_: Round) -> Iterator[None]:
    holder = Holder(round_.path)
    holder.do("BEGIN IMMEDIATE; CREATE TABLE half_done (id); INSERT INTO half_done VALUES (1)")
    yield
    holder.end(kill=True)


@contextmanager
def _snapshot(round_: Round) -> Iterator[None]:
    round_.holder.do("BEGIN; SELECT count(*) FROM facts")
    yield
    round_.holder.do("ROLLBACK")


@contextmanager
def _limited(what: int, limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


@contextmanager
def _no_room(round_: Round) -> Iterator[None]:
    with _limited(resource.RLIMIT_FSIZE, 512):
        yield


@contextmanager
def _no_descriptors(round_: Round) -> Iterator[None]:
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    with _limited(resource.RLIMIT_NOFILE, lowest):
        yield


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
    "file size limit": Fault(FAILED, outside=_no_room),
    "no descriptors": Fault("cannot be opened", outside=_no_descriptors),
    "write lock of another process": Fault("held the store", outside=_write_lock),
    "… that is killed": Fault("held the store", outside=_write_lock_of_a_process_that_is_killed),
    "reader that holds back checkpoints": Fault("nothing", outside=_snapshot),
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
class Tally:
    """What came of all rounds."""

    of_fault: dict[str, Count] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def trouble(self, kind: str, what: str) -> None:
        """Count what must not happen."""
        with self._lock:
            self.counts[f"trouble: {kind}"] += 1
            self.troubles.append(f"{kind}: {what}")

    def summary(self) -> str:
        """Two Markdown tables."""
        faults = [
            (name, f"{one.rounds:,}", f"{one.met:,}", f"{one.refused:,}", f"{one.again:,}", f"{one.slowest:.3f}")
            for name, one in self.of_fault.items()
        ]
        columns = ("fault", "rounds", "… in which it was met", "refusals", "refused after its end", "slowest write (s)")
        every = self.of_fault.values()
        rows = [
            ("rounds", sum(one.rounds for one in every)),
            ("… in which the fault was met", sum(one.met for one in every)),
            ("refusals of commands", sum(one.refused for one in every)),
            ("refusals of commands that were given after the fault", sum(one.again for one in every)),
        ]
        rows += [(name, self.counts[name]) for name in ("refusals to open", "refusals of questions")]
        rows += [("questions answered", self.counts["questions answered"])]
        rows += [(name, self.counts[name]) for name in ("commands answered", "stores told to the end")]
        rows += [(f"trouble: {kind}", self.counts[f"trouble: {kind}"]) for kind in KINDS_OF_TROUBLE]
        rows.append(
            ("slowest write after a fault, in ms", round(1000 * max((one.slowest for one in every), default=0)))
        )
        return table(columns, faults) + "\n" + table(("what", "count"), [(name, f"{count:,}") for name, count in rows])


KINDS_OF_TROUBLE = ("wedged", "slow", "unclear", "lost", "half", "changed", "damaged")


class Life:
    """One store, from its birth until every line is told."""

    def __init__(self, folder: Path, dice: random.Random, tally: Tally, journeys: int, threads: int) -> None:
        self.path = folder / "shop.db"
        self.dice = dice
        self.tally = tally
        self.reference = Telling(side_by_side(journeys))
        self.standard = Standard(self.reference, {})
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
        """Of the fault of this round."""
        return self.tally.of_fault.setdefault(self.now, Count())

    def live(self, rounds: Iterator[str]) -> bool:
        """Round after round until all is told; whether the store came through it."""
        with often_checkpointed(), watching(self.wrongs):
            parts = self._opened()
            holder = Holder(self.path)
            try:
                while any(self.hosts):
                    name = next(rounds, None)
                    if name is None:
                        break
                    self.now = name
                    if not self._round(parts, Round(self.path, holder)):
                        return False
                    parts = self._looked_at(parts)
            except (StoreBusy, StoreUnusable, HolderEnded) as error:
                self.tally.trouble("wedged", f"{self.now}: between two rounds: {error}")
                return False
            finally:
                holder.end()
            parts.store.close()
            self.tally.counts["stores told to the end"] += not any(self.hosts)
        return True

    def _opened(self) -> Parts:
        store = open_store(f"sqlite:///{self.path}", busy_timeout_seconds=BUSY_SECONDS)
        return Parts(store, Desk(store, book()))

    def _round(self, parts: Parts, round_: Round) -> bool:
        """One fault, until every host has got its next lines answered; whether they have."""
        if self.dice.random() < 0.6:
            _cold(parts)
        fault = FAULTS[self.now]
        self.count.rounds += 1
        self._over.clear()
        self._refused.clear()
        lasts = self.dice.random() < 0.6 or fault.outside is not None
        shares = [[own.pop(0) for _ in range(min(len(own), self.dice.randint(2, 4)))] for own in self.hosts]
        threads = [
            threading.Thread(target=self._host, args=(parts, nth, share), daemon=True)
            for nth, share in enumerate(shares)
            if share
        ]
        asking = threading.Thread(target=self._ask, args=(parts, self.dice.random()), daemon=True)

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
            with fault.outside(round_):
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

    def _host(self, parts: Parts, nth: int, numbers: Sequence[int]) -> None:
        try:
            for number in numbers:
                self._tell(parts, nth, number)
        except Exception as error:
            self.tally.trouble("unclear", f"{self.now}: {type(error).__name__}: {error}")
            self.hosts[nth][:0] = [each for each in numbers if each not in self.answered]
        finally:
            with self._moved:
                self._moved.notify_all()

    def _tell(self, parts: Parts, nth: int, number: int) -> None:
        self.given.add(number)
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            was_over = self._over.is_set()
            try:
                came = self.reference.tell(parts, number)
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
        self.tally.counts["commands answered"] += 1
        if came != self.reference.outcomes[number]:
            self.tally.trouble("changed", f"{self.now}: line {number} came to {came.decode()[:300]}")

    def _look_at(self, refusal: Exception) -> None:
        """One line that names the file and what happened."""
        said = str(refusal)
        expected = FAULTS[self.now].said
        if not said.startswith(f"{self.path}: ") or "\n" in said or not re.search(f"{expected}|held the store", said):
            self.tally.trouble("unclear", f"{self.now}: {type(refusal).__name__}: {said}")

    def _ask(self, parts: Parts, seed: float) -> None:
        """Questions all the time: about cases whose facts must be the first of those that are to come."""
        dice = random.Random(seed)
        due: dict[str, list[tuple[object, ...]]] = {}
        for fact in self.reference.facts:
            due.setdefault(str(fact[0]), []).append(fact)
        asked_after = 0
        while asked_after < 2:
            asked_after += self._over.is_set()
            case_id = dice.choice([*due])
            try:
                seen = [(one.case_id, one.case_seq, one.stream, one.version) for one in parts.store.load(case_id)]
            except (StoreBusy, StoreUnusable) as refusal:
                self._look_at(refusal)
                self.tally.counts["refusals of questions"] += 1
                if asked_after:
                    self.tally.trouble("wedged", f"{self.now}: a question after its end: {refusal}")
                time.sleep(0.002)
                continue
            except Exception as error:
                self.tally.trouble("unclear", f"{self.now}: a question: {type(error).__name__}: {error}")
                return
            self.tally.counts["questions answered"] += 1
            if seen != [fact[:4] for fact in due[case_id][: len(seen)]]:
                self.tally.trouble("half", f"{self.now}: the facts of {case_id} are not those that were told")
            time.sleep(0.001)

    def _looked_at(self, parts: Parts) -> Parts:
        """What is on record, seen by another store on the same file; then perhaps another opening, while the fault lasts."""
        with closing(self._opened().store) as other:
            for kind, what in self.standard._commands(
                Parts(other, parts.desk), set(self.answered), set(self.given), []
            ):
                self.tally.trouble(kind, f"{self.now}: {what}")
        with closing(sqlite3.connect(self.path)) as connection:
            if (answer := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                self.tally.trouble("damaged", f"{self.now}: {answer[:3]}")
        fault = FAULTS[self.now]
        if fault.calls and self.dice.random() < 0.3:
            self.wrongs.begin(fault.calls, fault.code, self.dice.choice((0, 0, 1, 5)), 1_000_000, self.dice)
            parts.store.close()
            opened = None
            try:
                opened = self._opened()
            except (StoreBusy, StoreUnusable) as refusal:
                self._look_at(refusal)
                self.tally.counts["refusals to open"] += 1
            except Exception as error:
                self.tally.trouble("unclear", f"{self.now}: on opening: {type(error).__name__}: {error}")
            self.wrongs.end()
            parts = opened or self._opened()
        return parts


def _cold(parts: Parts) -> None:
    """Have the store open its connections anew, as it does when others failed: or nothing would be opened any more."""
    store: Any = parts.store
    connections = store._recorder._connections
    while connections._held.readers:
        connections._held.readers.pop().close()
    connections.take_writer()
    connections.recover_writer(StoreUnusable("it is to be opened again"))
    connections.release_writer()


def main(arguments: Sequence[str] | None = None) -> int:
    """Disturb, look, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000, help="how many faults")
    parser.add_argument("--journeys", type=int, default=12, help="how many customers are told of in one store")
    parser.add_argument("--threads", type=int, help="how many hosts share a desk (default: one, or six)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=[*FAULTS], help="this fault alone")
    parser.add_argument("--store-dir", type=Path, help="where the stores are made (default: the temporary folder)")
    parser.add_argument("--mutant", choices=[*MISTAKES.by_name], help="with this left out of the store: exits 1")
    options = parser.parse_args(arguments)
    global PATIENCE_SECONDS
    if options.mutant:
        PATIENCE_SECONDS = 2.0  # what never comes need not be waited for
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    names = [options.only] if options.only else [*FAULTS]
    tally = Tally()
    rounds = iter([names[nth % len(names)] for nth in range(options.rounds)])
    nth = 0
    sound = True
    with MISTAKES.switched_on(options.mutant):
        while sound and sum(one.rounds for one in tally.of_fault.values()) < options.rounds:
            nth += 1
            dice = random.Random(f"{options.seed}-{nth}")
            with tempfile.TemporaryDirectory(
                prefix="returnable-faults-", dir=options.store_dir, ignore_cleanup_errors=True
            ) as folder:
                sound = Life(
                    Path(folder), dice, tally, options.journeys, options.threads or dice.choice((1, THREADS, THREADS))
                ).live(rounds)
    print(tally.summary())
    for kind in KINDS_OF_TROUBLE:
        for trouble in [text for text in tally.troubles if text.startswith(f"{kind}: ")][:SHOWN]:
            print(f"trouble: {trouble}")
    sys.stdout.flush()
    if not sound:
        os._exit(1)  # threads that nobody will ever answer
    return 1 if tally.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
