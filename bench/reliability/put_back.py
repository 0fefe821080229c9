"""``python -m bench.reliability.put_back``: a store is put back to an older copy of itself while a desk is running.

A desk serves customers. Somebody takes a copy of the store, the desk goes on, and the copy is put back under it: by
``pg_restore``, by copying rows, or by SQLite's backup into the live file. From then on a new desk and the old one share the
work. What the old desk remembers never happened, and often other facts stand in its place by now. Each answer must be that of
a single new desk that is given the same commands after the same copy.

The control compares only the number of facts with what a desk remembers, and exits with 1.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import psycopg

from bench.postgres import OwnServer, with_parameters
from bench.reliability.journeys import journey
from bench.speed.measure import table
from returnable.adapters.eventstore.open import migrate_store, open_store
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.eventstore.store import FactStore
from returnable.domain.commands import parse_command
from returnable.domain.desk import Desk
from returnable.domain.errors import Impossible
from returnable.domain.policy import bundled_policies
from returnable.domain.ports import Batch, Entry, EventStore, Name
from returnable.projections.redecided import redecide_store

CUSTOMERS = 3
SHOWN = 5

Line = tuple[datetime, dict[str, Any]]


@dataclass
class Tally:
    """What came of it."""

    rounds: int = 0
    forgotten: int = 0
    """Commands that were answered and then undone with the store."""
    answers: int = 0
    by_the_old_desk: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    def trouble(self, kind: str, what: str) -> None:
        """Count what must not happen."""
        self.troubles[kind] += 1
        self.shown.append(f"{kind}: {what}"[:300])

    def show(self) -> int:
        """Print it; the exit status."""
        counts = [
            ("stores put back", self.rounds),
            ("commands that were undone with it", self.forgotten),
            ("commands after that", self.answers),
            ("… given to the desk that had been running", self.by_the_old_desk),
            *((kind, self.troubles[kind]) for kind in ("other answers", "unclear errors", "overpaid", "undecided")),
        ]
        print(table(("what", "count"), [(name, f"{count:,}") for name, count in counts]))
        for trouble in self.shown[:SHOWN]:
            print(trouble, file=sys.stderr)
        return 1 if self.troubles else 0


class Copier(Protocol):
    """Takes a copy of a store, and puts it back."""

    url: str

    def take(self) -> None:
        """Copy the store as it is."""
        ...

    def put_back(self, dice: random.Random) -> None:
        """Put the copy in the place of the store, while it is in use."""
        ...


class InFile:
    """An SQLite file; the copy is put back by SQLite itself, page by page, as ``.restore`` does."""

    def __init__(self, folder: Path, nth: int) -> None:
        self._path, self._kept = folder / f"{nth}.db", folder / f"{nth}.kept"
        self.url = f"sqlite:///{self._path}"

    def take(self) -> None:
        self._copy(self._path, self._kept)

    def put_back(self, dice: random.Random) -> None:
        self._copy(self._kept, self._path)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
            read.backup(written)


class OnServer:
    """A schema on a PostgreSQL server; the copy is put back by ``pg_restore``, or row by row."""

    TABLES = ("facts", "names", "commands", "policies", "bookmarks", "due")

    def __init__(self, server: OwnServer, folder: Path, nth: int) -> None:
        self._schema, self._folder, self._server = f"store_{nth}", folder, server
        self.url = with_parameters(server.url, schema=self._schema)
        migrate_store(self.url)
        self._place = place_of(self.url)

    def take(self) -> None:
        self._run("pg_dump", "-Fc", "-n", self._schema, "-f", str(self._dump))
        with self._connected() as connection:
            for name in self.TABLES:
                connection.execute(f"CREATE TABLE public.{self._schema}_{name} AS TABLE {self._schema}.{name}".encode())

    def put_back(self, dice: random.Random) -> None:
        if dice.random() < 0.3:
            self._run("pg_restore", "--clean", "-d", "postgres", str(self._dump))
            return
        with self._connected() as connection, connection.transaction():
            for name in self.TABLES:
                connection.execute(f"TRUNCATE {self._schema}.{name}".encode())
                rows = f"INSERT INTO {self._schema}.{name} SELECT * FROM public.{self._schema}_{name}"
                connection.execute(rows.encode())
            # The sequence as it was, or as logical replication leaves it: at its beginning.
            head = "1" if dice.random() < 0.5 else f"(SELECT max(position) FROM {self._schema}.facts)"
            connection.execute(f"SELECT setval('{self._schema}.positions', {head})".encode())

    @property
    def _dump(self) -> Path:
        return self._folder / f"{self._schema}.dump"

    def _connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._place.conninfo, autocommit=True)

    def _run(self, program: str, *arguments: str) -> None:
        where = ["-h", self._server.socket_folder, "-U", "postgres"]
        subprocess.run([self._server.program(program), *where, *arguments], check=True, capture_output=True)


def one_round(copier: Copier, seed: int, tally: Tally) -> None:
    """Serve customers, put the store back in the middle, and compare what comes then."""
    dice = random.Random(seed)
    lines = _lines(dice, seed)
    before = dice.randrange(CUSTOMERS, len(lines))
    undone = dice.randrange(1, 9)
    book = bundled_policies()
    tally.rounds += 1
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(copier.url)))
        old = Desk(store, book)
        for line in lines[:before]:
            _answer(old, line)
        copier.take()
        for line in _shuffled(dice, lines[before:])[:undone]:
            tally.forgotten += 1
            _answer(old, line)
        reference = _copy_in_memory(stack, copier, dice)
        new, single = Desk(stack.enter_context(closing(open_store(copier.url))), book), Desk(reference, book)
        for line in _shuffled(dice, lines[before:]):
            # The new desk often comes first, so that its facts stand where the old one believes its own.
            desk = old if dice.random() < 0.4 else new
            tally.answers += 1
            tally.by_the_old_desk += desk is old
            answer, right = _answer(desk, line), _answer(single, line)
            if answer != right:
                kind = "unclear errors" if answer.startswith("!") else "other answers"
                tally.trouble(kind, f"seed {seed}, {line[1]['command']}: {answer} instead of {right}")
        _check(store, single, seed, tally)


def _lines(dice: random.Random, seed: int) -> list[Line]:
    lines = [line for nth in range(CUSTOMERS) for line in journey(dice.randrange(11) + 11 * (CUSTOMERS * seed + nth))]
    told = [(datetime.fromisoformat(line.pop("at")), line) for line in lines]
    return sorted(told, key=lambda line: line[0])


def _shuffled(dice: random.Random, lines: Sequence[Line]) -> list[Line]:
    """The same lines, some left out and some notices put in, each under an id of its own: another way for things to go."""
    kept: list[Line] = []
    for at, fields in lines:
        if dice.random() < 0.8:
            kept.append((at, fields | {"command_id": f"{fields['command_id']}-{dice.randrange(10**9)}"}))
        if "order_id" in fields and dice.random() < 0.5:
            subject = {"kind": "order", "id": fields["order_id"]}
            notice = {"command": "notify_customer", "subject": subject, "notice": f"note {dice.randrange(10**9)}"}
            kept.append((at, notice))
    return kept


def _answer(desk: Desk, line: Line) -> str:
    at, fields = line
    try:
        outcome = desk.handle(parse_command(fields), at)
    except Impossible as error:
        return f"error {error.code}"
    except Exception as error:
        return f"! {type(error).__name__}: {error}"
    return f"{outcome.outcome} {[(stream, version, fact) for stream, version, fact in outcome.facts]}"


def _copy_in_memory(stack: ExitStack, copier: Copier, dice: random.Random) -> FactStore:
    """Put the copy back, and give a store in memory that holds the same."""
    copier.put_back(dice)
    memory = stack.enter_context(closing(open_store("memory:")))
    with closing(open_store(copier.url)) as store:
        for case_id, facts in store.cases():
            memory.append([Batch(case_id, 0, tuple(Entry(each.stream, each.version, each.fact) for each in facts))])
            for entry in facts:
                command_id, pins = entry.fact.command_id, getattr(entry.fact, "pins", None)
                known = None if command_id is None else store.receipt(command_id)
                if known is not None and memory.receipt(known.command_id) is None:
                    memory.append([], receipt=known)
                if pins is not None:
                    memory.keep_policy(pins.sha256, store.policy(pins.sha256) or "")
                for kind in ("return", "claim", "refund"):
                    name = getattr(entry.fact, f"{kind}_id", None)
                    if name is not None and memory.case_of(kind, name) is None:
                        memory.append([], names=_names(store, kind, name))
    return memory


def _names(store: EventStore, kind: Any, name: str) -> list[Name]:
    case_id = store.case_of(kind, name)
    return [] if case_id is None else [Name(kind, name, case_id)]


def _check(store: FactStore, single: Desk, seed: int, tally: Tally) -> None:
    for case_id, facts in store.cases():
        facts_of: list[Any] = [entry.fact for entry in facts]
        captured = sum(payment.amount for payment in facts_of[0].payments)
        failed = {(fact.refund_id, fact.payment_id) for fact in facts_of if fact.type == "RefundFailed"}
        paid = sum(
            tender.amount
            for fact in facts_of
            if fact.type == "RefundRequested"
            for tender in fact.tenders
            if (fact.refund_id, tender.payment_id) not in failed
        )
        if paid > captured:
            tally.trouble("overpaid", f"seed {seed}, order {case_id}: {paid} of {captured}")
    for case in redecide_store(store, single.policy):
        for difference in case.differences:
            tally.trouble("undecided", f"seed {seed}, {difference.event}: {difference.differences}")


@contextmanager
def only_counted() -> Iterator[None]:
    """While this lasts, a desk knows a history by the number of its facts alone."""
    append: Callable[..., Sequence[int]] = FactStore.append

    def unmarked(self: FactStore, batches: Sequence[Batch], **others: Any) -> Sequence[int]:
        return append(self, [replace(batch, tip=None) for batch in batches], **others)

    with patch.object(FactStore, "append", unmarked):
        yield


def run(copier_of: Callable[[int], Copier], rounds: int, seed: int, *, control: bool = False) -> Tally:
    """So many stores, each put back once."""
    tally = Tally()
    with only_counted() if control else ExitStack():
        for nth in range(seed, seed + rounds):
            one_round(copier_of(nth), nth, tally)
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve, put back, compare, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.put_back", description=__doc__)
    parser.add_argument("--store", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument("--rounds", type=int, default=200, help="how many stores are put back")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--control", action="store_true", help="compare only the number of facts: exits 1")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="returnable-put-back-")))
        if options.store == "sqlite":
            tally = run(lambda nth: InFile(folder, nth), options.rounds, options.seed, control=options.control)
        else:
            server = stack.enter_context(OwnServer())
            tally = run(lambda n: OnServer(server, folder, n), options.rounds, options.seed, control=options.control)
    return tally.show()


if __name__ == "__main__":
    sys.exit(main())
