"""``python -m bench.proofs.put_back``: a store is put back to an older copy of itself while a desk is running.

A desk serves customers. Somebody takes a copy of the store, the desk goes on, and the copy is put back under it: by
``pg_restore``, by copying rows, or by SQLite's backup into the live file. From then on a new desk and the old one share the
work. What the old desk remembers never happened, and often other facts stand in its place by now. Each answer must be that of
a single new desk that is given the same commands after the same copy.

The control compares only the number of facts with what a desk remembers, and exits with 1.
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import psycopg

from bench.postgres import OwnServer
from bench.proofs.invariants import Found, no_more_goes_back_than_was_captured
from bench.proofs.journeys import Line, in_time, journey
from bench.proofs.mutants import Mutants
from bench.proofs.proof import Proof, Run, Tally, counted, main
from returnable.adapters.eventstore.open import open_store, path_of
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.eventstore.sql import SqlStore
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.case import fold
from returnable.domain.commands import parse_command
from returnable.domain.errors import Impossible
from returnable.domain.handler import CommandHandler
from returnable.domain.policy import bundled_policies
from returnable.domain.ports import Batch, Entry, EventStore, ReservedId
from returnable.projections.redecided import redecide_store

CUSTOMERS = 3


@dataclass
class PutBack(Tally):
    """What came of it."""

    rounds: int = counted("stores put back")
    forgotten: int = counted("commands that were undone with it")
    answers: int = counted("commands after that")
    by_the_old_desk: int = counted("… given to the desk that had been running")
    otherwise: int = counted("other answers")
    unclear: int = counted("unclear errors")
    overpaid: int = counted("overpaid")
    undecided: int = counted("undecided")


class InFile:
    """An SQLite file; the copy is put back by SQLite itself, page by page, as ``.restore`` does."""

    def __init__(self, url: str) -> None:
        self.url, self._path = url, Path(path_of(url))
        self._kept = self._path.with_suffix(".kept")

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

    def __init__(self, url: str, server: OwnServer, folder: Path) -> None:
        self.url, self._place, self._server, self._folder = url, place_of(url), server, folder
        self._schema = self._place.schema

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


Copier: TypeAlias = InFile | OnServer
"""Takes a copy of a store, and puts it back while the store is in use."""


def one_round(copier: Copier, seed: int, tally: PutBack) -> None:
    """Serve customers, put the store back in the middle, and compare what comes then."""
    dice = random.Random(seed)
    lines = _lines(dice, seed)
    before = dice.randrange(CUSTOMERS, len(lines))
    undone = dice.randrange(1, 9)
    book = bundled_policies()
    tally.rounds += 1
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(copier.url)))
        old = CommandHandler(store, book)
        for line in lines[:before]:
            _answer(old, line)
        copier.take()
        for line in _shuffled(dice, lines[before:])[:undone]:
            tally.forgotten += 1
            _answer(old, line)
        reference = _copy_in_memory(stack, copier, dice)
        new, single = (
            CommandHandler(stack.enter_context(closing(open_store(copier.url))), book),
            CommandHandler(reference, book),
        )
        for line in _shuffled(dice, lines[before:]):
            # The new desk often comes first, so that its facts stand where the old one believes its own.
            desk = old if dice.random() < 0.4 else new
            tally.answers += 1
            tally.by_the_old_desk += desk is old
            answer, right = _answer(desk, line), _answer(single, line)
            if answer != right:
                kind = "unclear" if answer.startswith("!") else "otherwise"
                tally.trouble(kind, f"seed {seed}, {line[1]['command']}: {answer} instead of {right}")
        _check(store, single, seed, tally)


def _lines(dice: random.Random, seed: int) -> list[Line]:
    customers = [dice.randrange(11) + 11 * (CUSTOMERS * seed + nth) for nth in range(CUSTOMERS)]
    return in_time(line for customer in customers for line in journey(customer))


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


def _answer(desk: CommandHandler, line: Line) -> str:
    at, fields = line
    try:
        outcome = desk.handle(parse_command(fields), at)
    except Impossible as error:
        return f"error {error.code}"
    except Exception as error:
        return f"! {type(error).__name__}: {error}"
    return f"{outcome.outcome} {[(stream, version, event) for stream, version, event in outcome.recorded_events]}"


def _copy_in_memory(stack: ExitStack, copier: Copier, dice: random.Random) -> CaseStore:
    """Put the copy back, and give a store in memory that holds the same."""
    copier.put_back(dice)
    memory = stack.enter_context(closing(open_store("memory:")))
    with closing(open_store(copier.url)) as store:
        for case_id, events in store.cases():
            memory.append([Batch(case_id, 0, tuple(Entry(each.stream, each.version, each.event) for each in events))])
            for entry in events:
                command_id, pins = entry.event.command_id, getattr(entry.event, "pins", None)
                known = None if command_id is None else store.receipt(command_id)
                if known is not None and memory.receipt(known.command_id) is None:
                    memory.append([], receipt=known)
                if pins is not None:
                    memory.keep_policy(pins.sha256, store.policy(pins.sha256) or "")
                for kind in ("return", "claim", "refund"):
                    name = getattr(entry.event, f"{kind}_id", None)
                    if name is not None and memory.case_of(kind, name) is None:
                        memory.append([], reserved_ids=_names(store, kind, name))
    return memory


def _names(store: EventStore, kind: Any, name: str) -> list[ReservedId]:
    case_id = store.case_of(kind, name)
    return [] if case_id is None else [ReservedId(kind, name, case_id)]


def _check(store: CaseStore, single: CommandHandler, seed: int, tally: PutBack) -> None:
    for case_id, events in store.cases():
        case = fold(case_id, events)
        found = Found(case, events, single.policy_of(case), events[-1].event.recorded_at)
        for what in no_more_goes_back_than_was_captured(found):
            tally.trouble("overpaid", f"seed {seed}, order {case_id}: {what}")
    for case in redecide_store(store, single.policy):
        for difference in case.differences:
            tally.trouble("undecided", f"seed {seed}, {difference.event}: {difference.differences}")


CONTROLS = Mutants()


@CONTROLS.replaces(SqlStore, "append")
def _only_counted(append: Any, self: CaseStore, batches: Sequence[Batch], **others: Any) -> Any:
    """A desk knows a history by the number of its facts alone."""
    return append(self, [replace(batch, tip=None) for batch in batches], **others)


def put_back(run: Run) -> PutBack:
    tally = PutBack()
    for seed in range(run.seed, run.seed + run.rounds):
        url = run.new_store(seed)
        one_round(InFile(url) if run.store == "sqlite" else OnServer(url, run.server, run.folder), seed, tally)
    return tally


if __name__ == "__main__":
    main(
        Proof(put_back, rounds=200, seed=0, of="stores are put back", controls=CONTROLS, stores=("postgres", "sqlite"))
    )
