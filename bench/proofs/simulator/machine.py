"""Machines that fail: a disk with a durable part and one that a power loss takes, and processes that die on it.

The disk keeps its facts in the library's own store, in memory or in SQLite files, so everything that is checked when facts
are appended is the library's. What is ours is what the library leaves to a database: who may write, what is seen when, and
what a power loss leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from bench.proofs.simulator.scheduler import MILLISECOND, MINUTE, SECOND, Scheduler
from returnable.adapters.eventstore.memory import MemoryStore
from returnable.adapters.eventstore.sqlite import SQLiteStore
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.errors import StoreBusy
from returnable.domain.handler import CommandHandler
from returnable.domain.policy import PolicyBook
from returnable.domain.ports import Batch, CommandReceipt, ReservedId, Timeline
from returnable.testing.behaviour import START

YieldPoint = Callable[[str], None]

WRITE_ATTEMPTS = 50
"""How many turns a writer waits for another one before the store is busy."""


class Killed(BaseException):
    """The process that does this is gone. Not an ``Exception``: no code of a dead process may handle it."""


class NoAnswer(Exception):
    """The connection broke: what was asked may have been done or not."""


@dataclass(frozen=True, slots=True)
class Troubles:
    """How likely each thing is to go wrong."""

    kills: float = 0.0
    """Of a call of the store: the process dies before it."""
    lost_answers: float = 0.0
    """Of an append: it is done, and nobody is told."""
    refusals: float = 0.0
    """Of an append: the store is busy."""
    stalls: float = 0.0
    """Of a call of the store: the process is slow there, up to minutes."""
    skew: float = 0.0
    """Of a process: its clock is wrong. A fifth as likely, at a moment: some clock is set."""
    power_losses: float = 0.0
    """Of a moment."""
    strikes: float = 0.0
    """Of a moment: some process is killed, wherever it is."""
    torn: float = 0.0
    """Of a batch of a projector: it dies between rows and position."""
    outside: float = 0.0
    """Of a call of the gateway, and of a notice."""

    @classmethod
    def of(cls, dice: Random) -> Troubles:
        """Some of all, each in half of the seeds: too much of everything would hide what needs a quiet stretch."""

        def often(probability: float) -> float:
            return probability * dice.random() if dice.random() < 0.5 else 0.0

        return cls(
            kills=often(0.02),
            lost_answers=often(0.2),
            refusals=often(0.1),
            stalls=often(0.03),
            skew=often(0.9),
            power_losses=often(0.3),
            strikes=often(0.6),
            torn=often(0.3),
            outside=often(0.6),
        )


CALM = Troubles()


@dataclass(frozen=True, slots=True)
class Append:
    """One transaction."""

    batches: Sequence[Batch]
    reserved_ids: Sequence[ReservedId]
    receipt: CommandReceipt | None
    pinned: str | None = None


class Disk:
    """What all processes share. What is ``durable`` is there after a power loss, and nothing else."""

    recorder: Callable[[], CaseStore] = MemoryStore

    def __init__(self, copied: Disk | None = None) -> None:
        self.durable: list[Append] = [] if copied is None else [*copied.durable]
        self.written: list[Append] = []
        """Seen by everybody, and not on the disk yet: nothing, after any call of a store that is right."""
        self.writer: object | None = None
        self._policies: dict[str, str] = {} if copied is None else {**copied._policies}
        self.store = self._opened()

    def append(self, append: Append, yield_point: YieldPoint) -> Sequence[int]:
        """One writer at a time; a transaction is seen when it is whole, and acknowledged when it is durable."""
        me = object()
        self._wait_for_the_lock(me, yield_point)
        try:
            yield_point("writes")
            return self.commit(append)
        finally:
            if self.writer is me:
                self.writer = None

    def commit(self, append: Append) -> Sequence[int]:
        """Check it, write it and flush it, all or nothing."""
        positions = self.store.append(
            append.batches, reserved_ids=append.reserved_ids, receipt=append.receipt, pinned=append.pinned
        )
        self.written.append(append)
        self.flush()
        return positions

    def flush(self) -> None:
        """From here on it is durable."""
        self.durable += self.written
        self.written.clear()

    def keep_policy(self, sha256: str, document: str) -> None:
        self._policies[sha256] = document
        self.store.keep_policy(sha256, document)

    def lose_power(self) -> None:
        self.written.clear()
        self.writer = None
        self.store = self._opened()

    def _wait_for_the_lock(self, me: object, yield_point: YieldPoint) -> None:
        for _ in range(WRITE_ATTEMPTS):
            if self.writer is None:
                self.writer = me
                return
            yield_point("waits for the writer")
        raise StoreBusy("another writer holds the store")

    def _opened(self) -> CaseStore:
        store = self.recorder()
        for sha256, document in self._policies.items():
            store.keep_policy(sha256, document)
        for each in self.durable:
            store.append(each.batches, reserved_ids=each.reserved_ids, receipt=each.receipt)
        return store


@contextmanager
def disks_in_sqlite() -> Iterator[None]:
    """While this lasts, disks keep their facts in SQLite files: a new one for each time the power comes back."""
    with TemporaryDirectory(prefix="returnable-simulate-") as folder, ExitStack() as opened:
        numbers = count()

        def recorder() -> SQLiteStore:
            # Nothing here depends on what the real disk does; what the model says is durable is written anew.
            new = SQLiteStore(f"{folder}/{next(numbers)}.db", synchronous="NORMAL")
            opened.callback(new.close)
            return new

        with patch.object(Disk, "recorder", staticmethod(recorder)):
            yield


class Process:
    """A desk and its caches, until it is killed; then another one, with nothing in memory."""

    def __init__(
        self, name: str, scheduler: Scheduler, disk: Disk, book: PolicyBook, dice: Random, troubles: Troubles
    ) -> None:
        self.name = name
        self.scheduler = scheduler
        self.disk = disk
        self.dice = dice
        self.troubles = troubles
        self._book = book
        self._begin()

    def kill(self) -> None:
        """Whatever it is doing ends at the next turn of whoever does it."""
        self.scheduler.note(f"{self.name} is killed")
        self._begin()

    def _begin(self) -> None:
        self.line = Line(self)
        self.desk = CommandHandler(self.line, self._book)  # type: ignore[arg-type]
        self.skew = 0
        if self.dice.random() < self.troubles.skew:
            self.set_clock()

    def set_clock(self) -> None:
        """Somebody sets the clock, forward or back: up to ten minutes wrong."""
        self.skew = self.dice.randint(-10 * MINUTE, 10 * MINUTE)
        self.scheduler.note(f"the clock of {self.name} is wrong by {self.skew}")

    def clock(self) -> datetime:
        return START + timedelta(microseconds=self.scheduler.now + self.skew)


def _call(name: str) -> Callable[..., Any]:
    def call(self: Line, *args: Any, **kwargs: Any) -> Any:
        self.yield_point(f"{name} {args[0] if args else ''}")
        return getattr(self.process.disk.store, name)(*args, **kwargs)

    return call


class DueLine:
    """The due table as one life of a process sees it. A power loss leaves none of it, and it is made anew."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._line.yield_point(f"due {name} {args[0] if args else ''}")
            return getattr(self._line.process.disk.store.due, name)(*args, **kwargs)

        return call


class RecordsLine:
    """What the store keeps beside its facts. After a power loss the model writes another file, but it is the same store."""

    @staticmethod
    def timelines() -> Sequence[Timeline]:
        """None: the store is never copied or restored."""
        return ()


class Line:
    """The store as one life of a process sees it: the ``EventStore`` of the domain, with a turn at every call.

    Who goes on when the process has begun another life is :class:`Killed`.
    """

    load = _call("load")
    load_until_damage = _call("load_until_damage")
    load_page = _call("load_page")
    case_ids = _call("case_ids")
    changed_cases = _call("changed_cases")
    case_of = _call("case_of")
    receipt = _call("receipt")
    read = _call("read")
    fingerprint_at = _call("fingerprint_at")
    store_id = _call("store_id")
    head = _call("head")
    policy = _call("policy")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.due = DueLine(self)
        self.records = RecordsLine()

    def append(
        self,
        batches: Sequence[Batch],
        *,
        reserved_ids: Sequence[ReservedId] = (),
        receipt: CommandReceipt | None = None,
        pinned: str | None = None,
    ) -> Sequence[int]:
        """Append; may be refused before, and lose its answer after."""
        told = receipt.command_id if receipt is not None else "without an id"
        self.yield_point(f"append {told}")
        if self._chance(self.process.troubles.refusals):
            self.process.scheduler.note("is refused")
            raise StoreBusy("the store is busy")
        positions = self.process.disk.append(
            Append(tuple(batches), tuple(reserved_ids), receipt, pinned), self._yield_point
        )
        self.yield_point(f"appended {told} at {list(positions)}")
        if self._chance(self.process.troubles.lost_answers):
            self.process.scheduler.note("is not told")
            raise NoAnswer("the answer of the store was lost")
        return positions

    def keep_policy(self, sha256: str, document: str) -> None:
        self.yield_point("keep_policy")
        self.process.disk.keep_policy(sha256, document)

    def yield_point(self, what: str) -> None:
        """Let others go first; the process may be slow here, or die."""
        process = self.process
        if self._chance(process.troubles.stalls):
            process.scheduler.note("is slow")
            process.scheduler.sleep(process.dice.choice((50 * MILLISECOND, SECOND, 5 * MINUTE)))
        self._yield_point(what)
        if self._chance(process.troubles.kills):
            process.kill()
            raise Killed

    def _yield_point(self, what: str) -> None:
        self.process.scheduler.yield_point(what)
        if self.process.line is not self:
            raise Killed

    def _chance(self, probability: float) -> bool:
        return probability > 0 and self.process.dice.random() < probability


def lose_power(disk: Disk, processes: Iterable[Process]) -> None:
    for process in processes:
        process.kill()
    disk.lose_power()
