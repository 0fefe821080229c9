"""``python -m bench.reliability.kill``: a process that gives commands is killed with SIGKILL, again and again.

The same is then told again from the top, as a host repeats what it got no answer to. An outcome counts as acknowledged when
its whole line was read from the process. After every kill the store is opened as the kill left it (of a file, a copy) and
compared with a run that nothing interrupts; then the next process goes on.

Stores take turns. At one, ``returnable play`` plays a scenario, command by command, and is killed at random moments. At the
other, threads serve customers at one desk, so that what they append is committed together, and the process is killed at
random moments and at named points of an append.

SIGKILL takes the process, not the machine: what a power failure does to the disk is shown by ``power_loss``.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import psycopg
from pydantic_core import from_json, to_json

from bench.postgres import OwnServer, with_parameters
from bench.reliability.journeys import as_file, journey, scenario
from bench.reliability.kill_worker import IN_A_FILE, ON_A_SERVER
from bench.speed.measure import table
from returnable.adapters.eventstore.open import migrate_store
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.wiring import Parts, assemble
from returnable.domain.events import encode
from returnable.domain.ports import EventStore, Receipt, Recorded

MOST_AT_ONE_STORE = 8
"""After so many kills a store is played to its end."""

SHOWN = 3
"""How many troubles of each kind are shown."""

Mistake: TypeAlias = Literal["without-ids", "split"]
"""What a control does wrong: commands without ids, or what came of a command in two transactions."""

Key: TypeAlias = tuple[int, int]
"""Which telling, and which line of it."""


@dataclass
class Tally:
    """What came of all kills."""

    kills: int = 0
    at_birth: int = 0
    """Kills within 20 ms of the moment the file of the store appeared."""
    among_threads: int = 0
    """Kills of a process whose threads append together."""
    points: Counter[str] = field(default_factory=Counter)
    """Kills at named points."""
    while_writing: int = 0
    """Kills after which the store held more commands than before."""
    unacknowledged: int = 0
    """Kills that left a command committed whose outcome nobody read."""
    several: int = 0
    """Kills that left more than one."""
    finished: int = 0
    """Plays that ended before their kill."""
    stores: int = 0
    acknowledged: int = 0
    """Outcomes read and, each after every later kill, looked for again."""
    lost: int = 0
    half: int = 0
    changed: int = 0
    added: int = 0
    damaged: int = 0
    troubles: list[str] = field(default_factory=list)

    def trouble(self, kind: str, what: str, count: int = 1) -> None:
        """Count what must not happen."""
        setattr(self, kind, getattr(self, kind) + count)
        self.troubles.append(f"{kind}: {what}")

    def summary(self) -> str:
        """A Markdown table."""
        rows = [
            ("kills (SIGKILL)", self.kills),
            ("… within 20 ms of the birth of the store", self.at_birth),
            ("… of a process whose threads append together", self.among_threads),
            *((f"… at the point: {point}", count) for point, count in sorted(self.points.items())),
            ("… while new commands were being written", self.while_writing),
            ("… that left a committed but unacknowledged command", self.unacknowledged),
            ("… that left several of them", self.several),
            ("plays that ended before their kill", self.finished),
            ("stores played to the end and equal to an uninterrupted run", self.stores),
            ("acknowledged outcomes looked for after kills", self.acknowledged),
            ("acknowledged and lost", self.lost),
            ("half commands, or facts that differ from an uninterrupted run", self.half),
            ("outcomes changed by a retry", self.changed),
            ("facts added by retries", self.added),
            ("stores damaged or unusable", self.damaged),
        ]
        return table(("what", "count"), [(name, f"{count:,}") for name, count in rows])


# ---- the run that nothing interrupts ------------------------------------------------------------------------------------


class Telling:
    """Lines that are told one after the other, and what they come to in an uninterrupted run in memory."""

    def __init__(self, lines: list[dict[str, Any]], case_id: str | None = None, **more: Any) -> None:
        """``case_id``: all of them are about that case, and others may be told of others meanwhile."""
        self.lines = lines
        self.case_id = case_id
        self.outcomes: dict[int, bytes] = {}
        self.receipts: list[Receipt] = []
        self.line_of: list[int] = []
        """The line of each receipt."""
        self._more = more
        self._file = read_scenario(as_file(lines), "scenario")
        with_memory = assemble("memory:")
        for number, outcome in self.play(with_memory, lines):
            self.outcomes[number] = outcome
            receipt = with_memory.store.receipt(lines[number - 1]["command_id"])
            if receipt is not None:
                self.receipts.append(receipt)
                self.line_of.append(number)
        self.facts = self.facts_in(with_memory.store)

    def play(self, parts: Parts, lines: list[dict[str, Any]]) -> Iterator[tuple[int, bytes]]:
        """The number of each line and its outcome, as a process prints it."""
        for played in play(parts, read_scenario(as_file(lines), "scenario")):
            yield played.line, to_json(self._more | played.as_dict())

    def tell(self, parts: Parts, number: int) -> bytes:
        """What one line comes to."""
        (played,) = play(parts, [self._file[number - 1]])
        return to_json(self._more | played.as_dict())

    def facts_after(self, commands: int) -> int:
        """How many facts the first so many recorded commands leave."""
        return max((receipt.last for receipt in self.receipts[:commands]), default=0)

    def facts_in(self, store: EventStore) -> list[tuple[object, ...]]:
        """The facts of a store that belong to it, in order, without their positions."""
        if self.case_id is not None:
            return [_without_position(recorded) for recorded in store.load(self.case_id)]
        facts: list[tuple[object, ...]] = []
        after = 0
        while page := store.read(after):
            facts += [_without_position(recorded) for recorded in page]
            after = page[-1].position
        return facts


def _without_position(recorded: Recorded) -> tuple[object, ...]:
    place = (recorded.case_id, recorded.case_seq, recorded.stream, recorded.version)
    return (*place, *encode(recorded.fact))


# ---- where the stores are -----------------------------------------------------------------------------------------------


class Place(Protocol):
    """Where a store is."""

    url: str

    def has_begun(self) -> bool:
        """Whether there is a store that can be looked at."""
        ...

    @contextmanager
    def as_left(self) -> Iterator[str]:
        """The URL of the store as the kill left it."""
        ...

    def check(self, url: str) -> str | None:
        """What is wrong with it below its tables."""
        ...

    def remove(self) -> None:
        """Take it away."""
        ...


class File:
    """An SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def has_begun(self) -> bool:
        return self.path.exists()

    @contextmanager
    def as_left(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory(dir=self.path.parent) as copied:
            for suffix in ("", "-wal", "-journal"):
                if os.path.exists(f"{self.path}{suffix}"):
                    shutil.copy(f"{self.path}{suffix}", copied)
            yield f"sqlite:///{Path(copied) / self.path.name}"

    def check(self, url: str) -> str | None:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            answer = connection.execute("PRAGMA integrity_check").fetchall()
        return None if answer == [("ok",)] else str(answer[:3])

    def remove(self) -> None:
        for file in self.path.parent.glob(f"{self.path.name}*"):
            file.unlink()


class Schema:
    """A schema on a PostgreSQL server, which nothing happens to."""

    def __init__(self, server: str, name: str) -> None:
        self._server, self._name = server, name
        self.url = with_parameters(server, schema=name)
        migrate_store(self.url)

    def has_begun(self) -> bool:
        return True

    @contextmanager
    def as_left(self) -> Iterator[str]:
        # What the process had sent may still be carried out, or committed, after its end.
        with psycopg.connect(self._server, autocommit=True) as connection:
            while connection.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'returnable'").fetchone():
                time.sleep(0.002)
        yield self.url

    def check(self, url: str) -> str | None:
        return None

    def remove(self) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {self._name} CASCADE".encode())


# ---- the process that is killed -----------------------------------------------------------------------------------------


class Player:
    """A process that gives commands, and what was read from it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        # Without a buffer of its own the process hands over every outcome before it takes up the next command.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (read after the process ended)
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self._output = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            while chunk := os.read(pipe.fileno(), 1 << 16):
                self._output += chunk

    def kill(self) -> bool:
        """End it if it still runs; whether it was killed, by this or by itself."""
        self.process.kill()
        return self.finish() < 0

    def finish(self) -> int:
        """Wait for its end; the exit status."""
        status = self.process.wait()
        self._reader.join()
        return status

    @property
    def lines_read(self) -> int:
        """How many outcomes came so far."""
        return self._output.count(b"\n")

    def acknowledged(self) -> list[bytes]:
        """The lines that were read to their end."""
        return bytes(self._output).split(b"\n")[:-1]

    def errors(self) -> str:
        """What it said on stderr."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")


class Way:
    """How commands are given: all tellings, the program that tells them, and how long that takes."""

    tellings: list[Telling]
    among_threads: bool
    points: tuple[str, ...] = ()

    def __init__(self, mistake: Mistake | None) -> None:
        self.mistake = mistake
        self.whole_seconds = self.working_seconds = 0.0
        self.lines = sum(len(telling.lines) for telling in self.tellings)

    def retried(self, telling: Telling) -> list[dict[str, Any]]:
        """What is told when it is told again."""
        if self.mistake != "without-ids":
            return telling.lines
        return [{name: value for name, value in line.items() if name != "command_id"} for line in telling.lines]

    def program(self, url: str, again: bool, point: str = "-", nth: int = 1) -> list[str]:
        """The arguments of a process that tells everything from the top."""
        raise NotImplementedError

    def time_a_run(self, place: Place) -> None:
        """See how long it takes when nobody kills, and that it comes to what it should."""
        begin = time.monotonic()
        player = Player(self.program(place.url, again=False))
        while not player.lines_read and player.process.poll() is None:
            time.sleep(0.0002)
        first = time.monotonic()
        status = player.finish()
        expected = sorted(line for telling in self.tellings for line in telling.outcomes.values())
        if status or sorted(player.acknowledged()) != expected:
            raise SystemExit(f"a run that nobody kills comes to something else: {player.errors()}")
        end = time.monotonic()
        self.whole_seconds, self.working_seconds = end - begin, end - first


class OneByOne(Way):
    """``returnable play``: whole customers side by side, and deadlines of all of them at once."""

    among_threads = False

    def __init__(self, folder: Path, journeys: int, mistake: Mistake | None) -> None:
        self.tellings = [Telling(scenario(journeys))]
        super().__init__(mistake)
        self._first, self._again = folder / "scenario.jsonl", folder / "retry.jsonl"
        self._first.write_bytes(as_file(self.tellings[0].lines))
        self._again.write_bytes(as_file(self.retried(self.tellings[0])))

    def program(self, url: str, again: bool, point: str = "-", nth: int = 1) -> list[str]:
        file = self._again if again else self._first
        return ["returnable.adapters.cli.entry", "play", str(file), "--store", url]


class Together(Way):
    """Threads that serve a customer each, at one desk."""

    among_threads = True

    def __init__(self, points: tuple[str, ...], threads: int, journeys: int, mistake: Mistake | None) -> None:
        self.tellings = [Telling(journey(nth), f"A-{nth:03}", customer=nth) for nth in range(journeys)]
        self.points = points
        self._threads, self._journeys = threads, journeys
        super().__init__(mistake)

    def program(self, url: str, again: bool, point: str = "-", nth: int = 1) -> list[str]:
        manner = "split" if self.mistake == "split" else "without-ids" if self.mistake and again else "with-ids"
        numbers = [str(self._threads), str(self._journeys)]
        return ["bench.reliability.kill_worker", url, manner, *numbers, point, str(nth)]


# ---- rounds ---------------------------------------------------------------------------------------------------------------


class Harness:
    """Kills and checks until there were enough kills."""

    def __init__(self, places: Iterator[Place], ways: Sequence[Way], seed: int) -> None:
        self._places = places
        self._ways = ways
        self.chance = random.Random(seed)
        self.tally = Tally()
        for way in ways:
            place = next(places)
            way.time_a_run(place)
            place.remove()

    def run(self, kills: int) -> Tally:
        """Kill that often, on one store after another."""
        nth = 0
        while self.tally.kills < kills:
            at_one = _AtOneStore(next(self._places), self._ways[nth % len(self._ways)], self.chance, self.tally)
            # Of a few kills each way has its share.
            at_one.run(min(kills, self.tally.kills + min(MOST_AT_ONE_STORE, max(1, kills // len(self._ways)))))
            nth += 1
        return self.tally


class _AtOneStore:
    """Plays at one store are killed until one of them ends."""

    def __init__(self, place: Place, way: Way, chance: random.Random, tally: Tally) -> None:
        self.place, self.way, self.chance, self.tally = place, way, chance, tally
        self.acknowledged: dict[Key, bytes] = {}
        self.committed = [0] * len(way.tellings)
        """How many commands of each telling the store held last."""

    def run(self, kills: int) -> None:
        """Kill until there were so many kills, of all stores together."""
        again = False
        while True:
            wanted = self.tally.kills < kills
            point = self._point() if wanted else "-"
            nth = self.chance.randint(1, 30)
            player = Player(self.way.program(self.place.url, again, point, nth))
            at_birth = False
            if wanted and point == "-":
                at_birth = self._wait_for_the_moment(player)
                killed = player.kill()
            else:
                killed = player.finish() < 0
            again = True
            self._read_outcomes(player)
            if killed:
                self.tally.kills += 1
                self.tally.at_birth += at_birth
                self.tally.among_threads += self.way.among_threads
                if point != "-":
                    self.tally.points[point] += 1
            elif player.process.returncode:
                self.tally.trouble("damaged", f"{self.place.url} cannot be used any more: {player.errors()}")
                return
            before = self.committed
            with self.place.as_left() as url:
                self.committed = self._check(url)
            if killed:
                self._count_new(before)
            else:
                self.tally.finished += 1
                self._check_end()
                return

    def _point(self) -> str:
        if self.way.mistake == "split":  # in between
            return "committed"
        return self.chance.choice(self.way.points) if self.way.points and self.chance.random() < 0.6 else "-"

    def _wait_for_the_moment(self, player: Player) -> bool:
        """Mostly while it writes what is new, sometimes anywhere in its run, sometimes just when it makes the file."""
        kind = 1.0 if self.way.mistake else self.chance.random()
        if kind < 0.2:
            time.sleep(self.chance.uniform(0, self.way.whole_seconds))
        elif kind < 0.6 and not self.place.has_begun():
            while not self.place.has_begun() and player.process.poll() is None:
                time.sleep(0.0002)
            time.sleep(self.chance.uniform(0, 0.02))
            return True
        else:
            old = self._lines_on_record()
            if self.way.mistake == "without-ids":  # there has to be something to tell again
                old = max(old, self.way.lines // 2)
            while player.lines_read <= old and player.process.poll() is None:
                time.sleep(0.0002)
            still_to_come = 1 - old / self.way.lines
            time.sleep(self.chance.uniform(0, self.way.working_seconds * still_to_come))
        return False

    def _lines_on_record(self) -> int:
        tellings = zip(self.way.tellings, self.committed, strict=True)
        return sum(telling.line_of[count - 1] for telling, count in tellings if count)

    def _read_outcomes(self, player: Player) -> None:
        for line in player.acknowledged():
            said = from_json(line)
            key = (said.get("customer", 0), said["line"])
            if line != self.way.tellings[key[0]].outcomes[key[1]]:
                self.tally.trouble("changed", f"line {key} came to {line.decode()[:300]}")
            self.acknowledged.setdefault(key, line)

    def _count_new(self, before: list[int]) -> None:
        self.tally.while_writing += sum(self.committed) > sum(before)
        unread = sum(
            (nth, line) not in self.acknowledged
            for nth, telling in enumerate(self.way.tellings)
            for line in telling.line_of[before[nth] : self.committed[nth]]
        )
        self.tally.unacknowledged += unread > 0
        self.tally.several += unread > 1

    # ---- checks -----------------------------------------------------------------------------------------------------------

    def _check(self, url: str) -> list[int]:
        """Check a store as the kill left it; how many commands of each telling it holds."""
        if not self.place.has_begun():
            self._look_for([0] * len(self.committed))
            return self.committed
        try:
            parts = assemble(url)
        except Exception as error:
            self.tally.trouble("damaged", f"{url} cannot be opened: {error!r}")
            return self.committed
        with closing(parts.store):
            committed = [self._check_commands(parts.store, telling) for telling in self.way.tellings]
            self._look_for(committed)
            for telling, count in zip(self.way.tellings, committed, strict=True):
                self._retry(parts, telling, count)
        self._check_below(url)
        return committed

    def _check_commands(self, store: EventStore, telling: Telling) -> int:
        """The commands and facts must be those of an uninterrupted run, up to the end of some command."""
        expected = telling.receipts
        stored = [store.receipt(receipt.command_id) for receipt in expected]
        committed = next((nth for nth, receipt in enumerate(stored) if receipt is None), len(stored))
        if any(receipt is not None for receipt in stored[committed:]):
            self.tally.trouble("half", f"a later command is stored, but not {expected[committed].command_id}")
        for one, other in zip(stored[:committed], expected, strict=False):
            if one is None or without_positions(one) != without_positions(other):
                self.tally.trouble("half", f"the receipt {one} should be {other}")
        facts = telling.facts_in(store)
        if facts != telling.facts[: telling.facts_after(committed)]:
            self.tally.trouble("half", f"{committed} commands, but {len(facts)} facts that do not belong to them")
        for receipt in stored[:committed]:
            if receipt is not None and receipt.last:
                own = store.read(receipt.first - 1, upto=receipt.last)
                if any(entry.fact.command_id != receipt.command_id for entry in own):
                    self.tally.trouble("half", f"the facts of {receipt.command_id} do not stand together")
        return committed

    def _look_for(self, committed: list[int]) -> None:
        for nth, (telling, count) in enumerate(zip(self.way.tellings, committed, strict=True)):
            stored = set(telling.line_of[:count])
            for line in telling.line_of:
                if (nth, line) in self.acknowledged:
                    self.tally.acknowledged += 1
                    if line not in stored:
                        self.tally.trouble("lost", f"line {nth, line} was acknowledged and is not stored")

    def _retry(self, parts: Parts, telling: Telling, committed: int) -> None:
        """Everything that is stored is told again: the same outcomes, and not one fact more."""
        if not committed:
            return
        head = parts.store.head()
        for line, outcome in telling.play(parts, self.way.retried(telling)[: telling.line_of[committed - 1]]):
            if outcome != telling.outcomes[line]:
                self.tally.trouble("changed", f"told again, line {line} came to {outcome.decode()}"[:400])
        if parts.store.head() != head:
            self.tally.trouble("added", f"telling {committed} commands again", parts.store.head() - head)

    def _check_end(self) -> None:
        with closing(assemble(self.place.url).store) as store:
            whole = all(
                self._check_commands(store, telling) == len(telling.receipts)
                and telling.facts_in(store) == telling.facts
                for telling in self.way.tellings
            )
            for name in names_that_are_free(store):
                self.tally.trouble("half", f"{name} is on record, and its name is free")
        self._check_below(self.place.url)
        if whole:
            self.tally.stores += 1
        else:
            self.tally.trouble("half", f"{self.place.url} at its end is not what an uninterrupted run leaves")
        self.place.remove()

    def _check_below(self, url: str) -> None:
        wrong = self.place.check(url)
        if wrong is not None:
            self.tally.trouble("damaged", f"{url}: {wrong}")


def names_that_are_free(store: EventStore) -> Iterator[str]:
    """Returns, claims and refunds that are on record and do not lead to their case."""
    for case_id, recorded in store.cases():
        for entry in recorded:
            if entry.fact.type in ("ReturnRequested", "ClaimOpened", "RefundRequested"):
                kind: Any = {"ReturnR": "return", "ClaimOp": "claim", "RefundR": "refund"}[entry.fact.type[:7]]
                name = getattr(entry.fact, f"{kind}_id")
                if store.case_of(kind, name) != case_id:
                    yield f"{kind} {name!r}"


def without_positions(receipt: Receipt) -> tuple[object, ...]:
    """What a receipt says but for where its facts stand: only how many they are."""
    count = receipt.last - receipt.first
    return receipt.command_id, receipt.digest, receipt.command, receipt.at, receipt.outcome, count


def _files(folder: Path) -> Iterator[Place]:
    nth = 0
    while True:
        nth += 1
        yield File(folder / f"store-{nth}.db")


def _schemas(server: str) -> Iterator[Place]:
    nth = 0
    while True:
        nth += 1
        yield Schema(server, f"store_{nth}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, check, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.kill", description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=200, help="how many kills")
    parser.add_argument("--journeys", type=int, default=44, help="how many customers there are at a store")
    parser.add_argument("--threads", type=int, default=8, help="how many threads append together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store-dir", type=Path, help="where files are made (default: the temporary folder)")
    parser.add_argument(
        "--control",
        nargs="?",
        const="without-ids",
        choices=("without-ids", "split"),
        help="retry without command ids, or append in two transactions: shows that the harness finds trouble, exits 1",
    )
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="returnable-kill-", dir=options.store_dir))
        )
        places: Iterator[Place] = _files(folder)
        points: tuple[str, ...] = IN_A_FILE
        if options.store == "postgres":
            places, points = _schemas(stack.enter_context(OwnServer()).url), ON_A_SERVER
        together = Together(points, options.threads, options.journeys, options.control)
        # "returnable play" cannot be told to append in two transactions.
        alone = [OneByOne(folder, options.journeys, options.control)] if options.control != "split" else []
        harness = Harness(places, [*alone, together], options.seed)
        print(f"{together.lines} lines of {options.journeys} customers in a play\n", flush=True)
        tally = harness.run(options.rounds)
    print(tally.summary())
    for kind in ("lost", "half", "changed", "added", "damaged"):
        for trouble in [text for text in tally.troubles if text.startswith(f"{kind}: ")][:SHOWN]:
            print(f"trouble: {trouble}")
    return 1 if tally.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
