"""``python -m bench.speed.scale``: what a store of many events costs, beside an empty one measured in the same run, in turns.

Stores of all sizes are built first, with a receipt for every command and one lifecycle in a hundred unfinished. Those on
SQLite are kept in ``--dir``, where there is one, and found again. A figure is a speed, divided by that of the store that was
empty when the run began: 1.00 is flat, 0.50 is half as fast.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeAlias

import psycopg

import returnable
from bench.postgres import OwnServer, with_parameters
from bench.speed.lifecycle import fill, go_through, lives, numbered, payload
from bench.speed.measure import figure, machine, say, seconds, table
from bench.speed.projecting import rebuild
from bench.speed.raw import RawLog, file_bytes
from returnable.adapters.eventstore.open import migrate_store
from returnable.adapters.eventstore.postgres import PostgresStore
from returnable.adapters.eventstore.postgres_place import place_of
from returnable.adapters.eventstore.sqlite import SQLiteStore
from returnable.adapters.wiring import Services, assemble, stored_views
from returnable.domain.handler import CommandHandler
from returnable.domain.policy import bundled_policies
from returnable.domain.ports import Batch
from returnable.projections.lists import StoredLists
from returnable.projections.stored import VIEWS
from returnable.projections.views import WorklistView

SIZES = (0, 100_000, 1_000_000)
UNFINISHED_EVERY = 100
LATER = datetime.fromisoformat("2026-04-01T12:00:00-04:00")
AS_OF = "2026-03-10T12:00:00-04:00"
BEFORE_ANYTHING_IS_DUE = datetime.fromisoformat("2026-03-10T09:00:00-04:00")

KeptReceipt: TypeAlias = tuple[str, str, str, str, str, int, int]


# ---- stores of any size -----------------------------------------------------------------------------------------------


def _receipts(batches: Sequence[Batch], positions: Sequence[int]) -> Iterator[KeptReceipt]:
    nth = 0
    for batch in batches:
        size = len(batch.entries)
        first, last = positions[nth], positions[nth + size - 1]
        nth += size
        digest = hashlib.sha256(f"{batch.case_id}{batch.after}".encode()).hexdigest()[:32]
        command = f"{batch.case_id}-{batch.after}"
        yield command, digest, "command", "2026-03-02T15:00:00Z", "accepted", first, last


class OnSQLite:
    """Files in a folder."""

    name = f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, size: int) -> str:
        """Make a file of so many events, unless it is there; its URL."""
        path = self._path(size)
        if size == 0:
            path.unlink(missing_ok=True)
        recorder = SQLiteStore(path, synchronous="NORMAL")
        if size:
            with sqlite3.connect(path) as connection:
                fill(recorder, size, 500, UNFINISHED_EVERY, partial(_keep_in_file, connection))
            connection.close()
        recorder.close()
        return f"sqlite:///{path}"

    def raw(self) -> Callable[[bytes], object]:
        """A file beside them."""
        path = self._folder / "raw.db"
        path.unlink(missing_ok=True)
        return RawLog(path).insert

    def weight(self, size: int) -> int:
        """The file, once its WAL is in it."""
        return file_bytes(self._path(size))

    def bring_to_memory(self, size: int) -> None:
        """Read the file once, so that the machine has it in memory."""
        with self._path(size).open("rb") as file:
            while file.read(1 << 24):
                pass

    def put_out_of_memory(self, size: int) -> None:
        """Let the machine forget the file; what the desk's own connection keeps (2 MB) stays."""
        with self._path(size).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def _path(self, size: int) -> Path:
        return self._folder / f"{size}.db"


def _keep_in_file(connection: sqlite3.Connection, batches: Sequence[Batch], positions: Sequence[int]) -> None:
    with connection:
        connection.executemany("INSERT INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, 0)", _receipts(batches, positions))


class OnPostgres:
    """Schemas of one server."""

    def __init__(self, server: OwnServer) -> None:
        self._server = server
        self._connection = psycopg.connect(server.url, autocommit=True)
        self.name = f"PostgreSQL {self._connection.info.server_version // 10000}, as it comes"

    def build(self, size: int) -> str:
        """Make a schema of so many events; its URL."""
        schema = f"of_{size}"
        url = with_parameters(self._server.url, schema=schema)
        migrate_store(url)
        recorder = PostgresStore(place_of(url))
        if size:
            # The append looks through its batches for earlier ones of the same case: few at a time are faster.
            fill(recorder, size, 40, UNFINISHED_EVERY, partial(self._keep, schema))
            self._connection.execute(f"ANALYZE {schema}.facts, {schema}.names, {schema}.commands".encode())
        recorder.close()
        return url

    def _keep(self, schema: str, batches: Sequence[Batch], positions: Sequence[int]) -> None:
        with self._connection.cursor().copy(
            f"COPY {schema}.commands (command_id, digest, command, at, outcome, first, last) FROM STDIN".encode()
        ) as copy:
            for receipt in _receipts(batches, positions):
                copy.write_row(receipt)

    def raw(self) -> Callable[[bytes], object]:
        """A table beside them."""
        self._connection.execute("CREATE TABLE raw (position bigint GENERATED ALWAYS AS IDENTITY, payload bytea)")
        return lambda content: self._connection.execute("INSERT INTO raw (payload) VALUES (%b)", (content,))

    def weight(self, size: int) -> int:
        """The tables with their indexes."""
        tables = "FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'"
        query = f"SELECT sum(pg_total_relation_size(oid)) {tables}".encode()
        ((found,),) = self._connection.execute(query, (f"of_{size}",)).fetchall()
        return int(found)


# ---- what is measured -------------------------------------------------------------------------------------------------


@dataclass
class Sized:
    """A store of a size, a desk that remembers cases, and one that remembers next to nothing."""

    size: int
    url: str
    services: Services = field(init=False)
    desk: returnable.Desk = field(init=False)
    forgetful: returnable.Desk = field(init=False)
    events: int = field(init=False)
    numbers: Iterator[str] = field(init=False)
    known: list[str] = field(default_factory=list)
    """Lifecycles to ask about, where none were filled in."""

    def __post_init__(self) -> None:
        self.services = assemble(self.url, create=False)
        self.desk = returnable.Desk(self.services, url=self.url)
        handler = CommandHandler(self.services.store, bundled_policies(), 1)
        self.forgetful = returnable.Desk(Services(self.services.store, handler))
        self.events = self.services.store.head()
        # Above all that were filled in, and above those of an earlier run on the same store.
        self.numbers = map(numbered, count(50_000_000 + self.events))

    def any_known(self, chance: random.Random) -> str:
        """The number of a lifecycle that is on record."""
        if self.size == 0:
            return chance.choice(self.known)
        return numbered(chance.randrange(lives(self.size)))


@dataclass
class Figures:
    """Seconds by what was done and the size of the store, round by round, and how much was done in a round."""

    spent: defaultdict[str, defaultdict[int, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    amounts: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, size: int, spent: float, amount: float) -> None:
        """Add what a round took."""
        self.spent[what][size].append(spent)
        self.amounts[what] = amount

    def rows(self, sizes: Sequence[int]) -> Iterator[tuple[str, ...]]:
        """The table: the speed of the empty store, and what the others reach of it."""
        for what, of_size in self.spent.items():
            base = of_size[0]
            cells = [f"{self.amounts[what] / median(base):,.0f}/s"]
            for size in sizes:
                cells.append(figure([of_empty / spent for of_empty, spent in zip(base, of_size[size], strict=False)]))
            yield what, *cells, str(len(base))


Turn: TypeAlias = Callable[[Sized, random.Random], Iterable[tuple[str, float, int]]]
"""What was done at a store, in how many seconds, and how much of it."""


def in_turns(stores: Sequence[Sized], rounds: int, figures: Figures, turn: Turn) -> None:
    """Every store has its turn in each round, in any order. A round before them is not counted: it warms up."""
    chance = random.Random(1)
    for nth in range(rounds + 1):
        for sized in chance.sample(stores, len(stores)):
            for what, spent, amount in turn(sized, chance):
                if nth:
                    figures.add(what, sized.size, spent, amount)


def commands(raw: Callable[[bytes], object]) -> Turn:
    """Ten lifecycles of one client; the same bytes raw; one command each on ten old orders that the desk has to load."""

    def turn(sized: Sized, chance: random.Random) -> Iterator[tuple[str, float, int]]:
        block = [*islice(sized.numbers, 10)]
        outcomes: list[returnable.Outcome] = []
        spent = seconds(lambda: outcomes.extend(chain(*(go_through(sized.desk, number) for number in block))))
        yield "commands, one client", spent, len(outcomes)
        sized.known = (sized.known + block)[-2000:]
        old = [sized.any_known(chance) for _ in range(10)]
        yield "commands on old orders, one client", seconds(lambda: [_link(sized.forgetful, n) for n in old]), len(old)
        if not sized.size:
            payloads = [*map(payload, outcomes)]
            yield "raw: one row, one commit", seconds(lambda: [*map(raw, payloads)]), len(payloads)

    return turn


def _link(desk: returnable.Desk, number: str) -> returnable.Outcome:
    outcome = desk.link_account(order_id=f"A-{number}", account_id=f"acc-{random.random()}")
    assert outcome.accepted
    return outcome


def threads(pool: ThreadPoolExecutor, clients: int) -> Turn:
    """A lifecycle for each of many threads on one desk."""

    def turn(sized: Sized, chance: random.Random) -> Iterator[tuple[str, float, int]]:
        block = [*islice(sized.numbers, clients)]
        spent = seconds(lambda: [*pool.map(lambda number: [*go_through(sized.desk, number)], block)])
        yield f"commands, {clients} threads", spent, 10 * clients

    return turn


QUESTIONS: dict[str, Callable[[returnable.Desk, str], object]] = {
    "one order by id": lambda desk, n: desk.ask({"query": "order", "order_id": f"A-{n}"}, at=LATER),
    "one return by id": lambda desk, n: desk.ask({"query": "return", "return_id": f"R-{n}"}, at=LATER),
    "one return by id, as of and known at an instant": lambda desk, n: desk.ask(
        {"query": "return", "return_id": f"R-{n}", "as_of": AS_OF, "known_at": AS_OF}, at=LATER
    ),
}


def questions(sized: Sized, chance: random.Random) -> Iterator[tuple[str, float, int]]:
    """Blocks of ten questions by id, each about any of the orders on record."""
    for what, ask in QUESTIONS.items():
        block = [sized.any_known(chance) for _ in range(10)]
        yield what, seconds(lambda: [ask(sized.desk, number) for number in block]), 10  # noqa: B023


def from_the_disk(forget: Callable[[int], None]) -> Turn:
    """One question and one command, each on an order that has to come from the disk."""

    def turn(sized: Sized, chance: random.Random) -> Iterator[tuple[str, float, int]]:
        for what, do, desk in (
            ("one order by id, from the disk", QUESTIONS["one order by id"], sized.desk),
            ("a command on an old order, from the disk", _link, sized.forgetful),
        ):
            number = sized.any_known(chance)
            forget(sized.size)
            yield what, seconds(partial(do, desk, number)), 1

    return turn


def due_made_anew(stores: Sequence[Sized]) -> Iterator[str]:
    """The due table made from all facts."""
    for sized in stores:
        due = sized.services.handler.due
        is_new = due.table.position() == 0
        spent = seconds(due.catch_up)
        if sized.size and is_new:
            yield f"due table of {sized.events:,} events, made anew: {sized.events / spent:,.0f} events/s"


def deadlines(sized: Sized, chance: random.Random) -> Iterator[tuple[str, float, int]]:
    """``run_deadlines``, each time with ten lifecycles to take in."""
    for number in islice(sized.numbers, 10):
        list(go_through(sized.desk, number))
    spent = seconds(lambda: sized.desk.handle({"command": "run_deadlines"}, at=BEFORE_ANYTHING_IS_DUE))
    yield "run_deadlines, 120 facts to take in, nothing due", spent, 1


def whole(stores: Sequence[Sized], folder: Path) -> Iterator[str]:
    """What reads everything: stored views made anew, the worklist from the facts and from the stored view."""
    for sized in stores:
        events = sized.services.store.head()
        views = f"sqlite:///{folder}/views-{sized.size}.db"
        spent = seconds(lambda s=sized, v=views: rebuild(s.url, tuple(VIEWS), v))  # type: ignore[misc]
        yield f"all eight views of {events:,} events, made anew: {events / spent:,.0f} events/s"
        begin = perf_counter()
        told = sized.desk.ask({"query": "worklist"}, at=LATER)
        spent = perf_counter() - begin
        assert isinstance(told, WorklistView)
        said = len(told.items)
        kept = stored_views(sized.url, views)
        assert kept is not None
        with kept.reading() as reading:
            lists = StoredLists(reading)
            assert lists.worklist(LATER) == told
            stored = median(seconds(lambda of=lists: of.worklist(LATER)) for _ in range(5))  # type: ignore[misc]
        kept.close()
        yield (
            f"worklist ({said:,} items) of {events:,} events: {spent:,.2f} s from the facts ({events / spent:,.0f} events/s),"
            f" {stored * 1e3:,.1f} ms from the stored view"
        )


def main() -> None:
    """Build, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed.scale", description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="events, 0 first, such as 0,100000,1000000")
    parser.add_argument("--rounds", type=int, default=40, help="how often every store has its turn")
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--whole-up-to", type=int, default=1_000_000, help="stores whose views are made anew")
    parser.add_argument("--dir", type=Path, help="where SQLite stores are kept (default: a temporary folder)")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    if sizes[0] != 0:
        parser.error("the first size is 0: everything is a ratio to it")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="returnable-scale-")))
        if options.store == "sqlite":
            kept = options.dir or folder
            kept.mkdir(parents=True, exist_ok=True)
            kind: OnSQLite | OnPostgres = OnSQLite(kept)
        else:
            kind = OnPostgres(stack.enter_context(OwnServer()))
        stores = []
        for size in sizes:
            say(f"building: {size:,} events")
            url = kind.build(size)
            stores.append(Sized(size, url))
            if isinstance(kind, OnSQLite):
                kind.bring_to_memory(size)
        weights = [(sized, kind.weight(sized.size)) for sized in stores if sized.size]
        figures = Figures()
        said: list[str] = [
            f"{sized.events:,} events: {weight:,} bytes, {weight / sized.events:,.0f} an event, all told"
            for sized, weight in weights
        ]
        rounds = options.rounds
        say("measuring: commands")
        in_turns(stores, rounds, figures, commands(kind.raw()))
        say("measuring: threads")
        with ThreadPoolExecutor(options.threads) as pool:
            in_turns(stores, max(5, rounds // 4), figures, threads(pool, options.threads))
        say("measuring: questions")
        in_turns(stores, rounds * 2, figures, questions)
        say("measuring: deadlines")
        said += due_made_anew(stores)
        in_turns(stores, rounds, figures, deadlines)
        if isinstance(kind, OnSQLite):
            say("measuring: from the disk")
            in_turns(stores, rounds * 2, figures, from_the_disk(kind.put_out_of_memory))
        print(
            f"{machine(kind.name)}, load {os.getloadavg()[1]:.0f}. "
            "Speeds, as fractions of the empty store's; medians (middle half).\n"
        )
        header = ("what", "empty store", *(f"{sized.events:,} events" for sized in stores[1:]), "rounds")
        print(table(header, list(figures.rows(sizes[1:]))), flush=True)
        print()
        for line in said:
            print(f"- {line}")
        say("measuring: what reads everything")
        for line in whole([sized for sized in stores if 0 < sized.size <= options.whole_up_to], folder):
            print(f"- {line}", flush=True)
        for sized in stores:
            sized.desk.close()


if __name__ == "__main__":
    main()
