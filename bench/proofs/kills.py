"""``python -m bench.proofs.kills``: processes are killed with SIGKILL, again and again.

``commands``: a process that gives commands. The same commands are then given again from the top, as a host repeats what it
got no answer to. An outcome counts as acknowledged when its whole line was read from the process. After every kill the store
is opened as the kill left it (of a file, a copy) and compared with a run that nothing interrupts; then the next process goes
on. Stores take turns. At one, ``returnable play`` plays a scenario, command by command, and is killed at random moments. At
the other, threads serve customers at one desk, so that what they append is committed together, and the process is killed at
random moments and at named points of an append.

``projectors``: processes of ``returnable project --follow``, while facts come in. The next process goes on with what the kill
left; sometimes with ``--rebuild``, or with no views to begin with. Now and then, and at the end, the views are brought up to
date and must equal views that are built at once from all the facts.

SIGKILL takes the process, not the machine: what a power failure does to the disk is shown by ``power_loss``.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import psycopg
from pydantic_core import from_json

import returnable
from bench.proofs.files import copied, damage_in
from bench.proofs.journeys import as_file, journey, scenario
from bench.proofs.kills_worker import IN_A_FILE, ON_A_SERVER
from bench.proofs.processes import Process
from bench.proofs.proof import FILE_OR_SERVER, Proof, Run, Tally, counted, counted_each, main, option
from bench.proofs.reference import Reference, unregistered_ids, views_unlike_a_rebuild, without_ids
from bench.speed.lifecycle import fill, lifecycle, numbered
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import Services, assemble, projector
from returnable.projections.ports import Mark
from returnable.projections.stored import VIEWS

MOST_AT_ONE_STORE = 8
"""After so many kills a store is played to its end."""

CLI = "returnable.adapters.cli.entry"

Key: TypeAlias = tuple[int, int]
"""Which reference, and which line of it."""


@dataclass
class Kills(Tally):
    """What came of all kills of processes that give commands."""

    kills: int = counted("kills (SIGKILL)")
    at_birth: int = counted("… within 20 ms of the birth of the store")
    among_threads: int = counted("… of a process whose threads append together")
    points: Counter[str] = counted_each("… at the point: {}")
    while_writing: int = counted("… while new commands were being written")
    unacknowledged: int = counted("… that left a committed but unacknowledged command")
    several: int = counted("… that left several of them")
    finished: int = counted("plays that ended before their kill")
    stores: int = counted("stores played to the end and equal to an uninterrupted run")
    acknowledged: int = counted("acknowledged outcomes looked for after kills")
    lost: int = counted("acknowledged and lost")
    half: int = counted("half commands, or facts that differ from an uninterrupted run")
    changed: int = counted("outcomes changed by a retry")
    added: int = counted("facts added by retries")
    damaged: int = counted("stores damaged or unusable")


# ---- where the stores are -----------------------------------------------------------------------------------------------


class OnServer:
    """A store that nothing happens to but what the process does."""

    def __init__(self, url: str) -> None:
        self.url = url

    def has_begun(self) -> bool:
        """Whether there is a store that can be looked at."""
        return True

    @contextmanager
    def as_left(self) -> Iterator[str]:
        """The URL of the store as the kill left it."""
        # What the process had sent may still be carried out, or committed, after its end.
        with psycopg.connect(self.url.partition("&schema")[0], autocommit=True) as connection:
            while connection.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'returnable'").fetchone():
                time.sleep(0.002)
        yield self.url

    def damage(self, url: str) -> str | None:
        """What is wrong with it below its tables."""
        return None


class InFile(OnServer):
    """A store that does not exist until the process makes it, and may be damaged."""

    @property
    def _path(self) -> Path:
        return Path(self.url.removeprefix("sqlite:///"))

    def has_begun(self) -> bool:
        return self._path.exists()

    @contextmanager
    def as_left(self) -> Iterator[str]:
        with copied(self._path) as copy:
            yield f"sqlite:///{copy}"

    def damage(self, url: str) -> str | None:
        return damage_in(Path(url.removeprefix("sqlite:///")))


# ---- how commands are given ---------------------------------------------------------------------------------------------


class Way:
    """All references, the program that gives their commands, and how long that takes."""

    among_threads = False
    points: tuple[str, ...] = ()

    def __init__(self, run: Run, references: list[Reference]) -> None:
        self.run, self.references, self.control = run, references, run.control
        for reference in references:
            reference.repeats_without_ids = run.control == "without-ids"
        self.whole_seconds = self.working_seconds = 0.0
        self.lines = sum(len(reference.lines) for reference in references)

    def program(self, url: str, again: bool, point: str, nth: int) -> list[str]:
        """A process that gives everything from the top: its module and arguments."""
        raise NotImplementedError

    def start(self, url: str, again: bool, point: str = "-", nth: int = 1) -> Process:
        # Without a buffer of its own the process hands over every outcome before it takes up the next command.
        unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
        return Process(self.run.folder / "player.out", *self.program(url, again, point, nth), env=unbuffered)

    def time_a_run(self, place: OnServer) -> None:
        """See how long it takes when nobody kills, and that it comes to what it should."""
        begin = time.monotonic()
        player = self.start(place.url, again=False)
        while not player.has_begun:
            time.sleep(0.0002)
        first = time.monotonic()
        status = player.wait()
        expected = sorted(line for reference in self.references for line in reference.outcomes.values())
        if status or sorted(player.lines()) != expected:
            raise SystemExit(f"a run that nobody kills comes to something else: {player.errors()}")
        end = time.monotonic()
        self.whole_seconds, self.working_seconds = end - begin, end - first


class OneByOne(Way):
    """``returnable play``: whole customers side by side, and deadlines of all of them at once."""

    def __init__(self, run: Run) -> None:
        super().__init__(run, [Reference(scenario(run.journeys))])
        lines = self.references[0].lines
        self._first, self._again = run.folder / "scenario.jsonl", run.folder / "retry.jsonl"
        self._first.write_bytes(as_file(lines))
        self._again.write_bytes(as_file(without_ids(lines) if self.control else lines))

    def program(self, url: str, again: bool, point: str, nth: int) -> list[str]:
        return [CLI, "play", str(self._again if again else self._first), "--store", url]


class GroupCommit(Way):
    """Threads that serve a customer each, at one desk."""

    among_threads = True

    def __init__(self, run: Run) -> None:
        super().__init__(run, [Reference(journey(n), f"A-{n:03}", customer=n) for n in range(run.journeys)])
        self.points = IN_A_FILE if run.store == "sqlite" else ON_A_SERVER

    def program(self, url: str, again: bool, point: str, nth: int) -> list[str]:
        control = self.control if again or self.control == "split" else None
        numbers = (self.run.threads, self.run.journeys)
        return ["bench.proofs.kills_worker", url, control or "-", *map(str, numbers), point, str(nth)]


class AtOneStore:
    """Plays at one store are killed until one of them ends."""

    def __init__(self, place: OnServer, way: Way, chance: random.Random, tally: Kills) -> None:
        self.place, self.way, self.chance, self.tally = place, way, chance, tally
        self.acknowledged: dict[Key, bytes] = {}
        self.committed = [0] * len(way.references)
        """How many commands of each reference the store held last."""

    def run(self, kills: int) -> None:
        """Kill until there were so many kills, of all stores together."""
        again = False
        while True:
            wanted = self.tally.kills < kills
            point = self._point() if wanted else "-"
            player = self.way.start(self.place.url, again, point, self.chance.randint(1, 30))
            at_birth = wanted and point == "-" and self._wait_for_the_moment(player)
            status = player.kill() if wanted and point == "-" else player.wait()
            again = True
            self._read_outcomes(player)
            if status > 0:
                self.tally.trouble("damaged", f"{self.place.url} cannot be used any more: {player.errors()}")
                return
            before = self.committed
            with self.place.as_left() as url:
                self.committed = self._check(url)
            if status == 0:
                self.tally.finished += 1
                self._check_end()
                return
            self.tally.kills += 1
            self.tally.at_birth += at_birth
            self.tally.among_threads += self.way.among_threads
            if point != "-":
                self.tally.points[point] += 1
            self._count_new(before)

    def _point(self) -> str:
        if self.way.control == "split":  # in between
            return "committed"
        return self.chance.choice(self.way.points) if self.way.points and self.chance.random() < 0.6 else "-"

    def _wait_for_the_moment(self, player: Process) -> bool:
        """Mostly while it writes what is new, sometimes anywhere in its run, sometimes just when it makes the file."""
        kind = 1.0 if self.way.control else self.chance.random()
        if kind < 0.2:
            time.sleep(self.chance.uniform(0, self.way.whole_seconds))
        elif kind < 0.6 and not self.place.has_begun():
            while not self.place.has_begun() and player.is_running:
                time.sleep(0.0002)
            time.sleep(self.chance.uniform(0, 0.02))
            return True
        else:
            old = self._lines_on_record()
            if self.way.control == "without-ids":  # there has to be something to give again
                old = max(old, self.way.lines // 2)
            while len(player.lines()) <= old and player.is_running:
                time.sleep(0.0005)
            still_to_come = 1 - old / self.way.lines
            time.sleep(self.chance.uniform(0, self.way.working_seconds * still_to_come))
        return False

    def _lines_on_record(self) -> int:
        references = zip(self.way.references, self.committed, strict=True)
        return sum(reference.line_of[count - 1] for reference, count in references if count)

    def _read_outcomes(self, player: Process) -> None:
        for line in player.lines():
            said = from_json(line)
            key = (said.get("customer", 0), said["line"])
            if line != self.way.references[key[0]].outcomes[key[1]]:
                self.tally.trouble("changed", f"line {key} came to {line.decode()[:300]}")
            self.acknowledged.setdefault(key, line)

    def _count_new(self, before: list[int]) -> None:
        self.tally.while_writing += sum(self.committed) > sum(before)
        unread = sum(
            (nth, line) not in self.acknowledged
            for nth, reference in enumerate(self.way.references)
            for line in reference.line_of[before[nth] : self.committed[nth]]
        )
        self.tally.unacknowledged += unread > 0
        self.tally.several += unread > 1

    def _check(self, url: str) -> list[int]:
        """Check a store as the kill left it, and give its commands again; how many of each reference it holds."""
        if not self.place.has_begun():
            for key in self.acknowledged:
                self.tally.trouble("lost", f"line {key} was acknowledged, and there is no store")
            return self.committed
        try:
            services = assemble(url)
        except Exception as error:
            self.tally.trouble("damaged", f"{url} cannot be opened: {error!r}")
            return self.committed
        with closing(services.store):
            committed = [self._stored(services, nth) for nth in range(len(self.way.references))]
            for reference, count in zip(self.way.references, committed, strict=True):
                head = services.store.head()
                for kind, what in reference.repeat(
                    services, range(1, reference.line_of[count - 1] + 1 if count else 1)
                ):
                    self.tally.trouble(kind, what)
                if services.store.head() != head:
                    self.tally.trouble("added", f"giving {count} commands again", services.store.head() - head)
        self._check_below(url)
        return committed

    def _stored(self, services: Services, nth: int) -> int:
        """How many commands of a reference are stored; they must be the first ones."""
        reference, stored = self.way.references[nth], list[int]()
        answered = {line for line in reference.line_of if (nth, line) in self.acknowledged}
        self.tally.acknowledged += len(answered)
        for kind, what in reference.compare(
            services.store, answered=answered, given=reference.outcomes.keys(), stored=stored
        ):
            self.tally.trouble(kind, what)
        if stored != reference.line_of[: len(stored)]:
            self.tally.trouble("half", f"a later command is stored, but not an earlier one: {stored}")
        return len(stored)

    def _check_end(self) -> None:
        with closing(assemble(self.place.url).store) as store:
            for kind, what in unregistered_ids(store):
                self.tally.trouble(kind, what)
            whole = all(reference.facts_in(store) == reference.events for reference in self.way.references)
        whole = whole and self.committed == [len(reference.receipts) for reference in self.way.references]
        self._check_below(self.place.url)
        self.tally.stores += whole
        if not whole:
            self.tally.trouble("half", f"{self.place.url} at its end is not what an uninterrupted run leaves")

    def _check_below(self, url: str) -> None:
        if (wrong := self.place.damage(url)) is not None:
            self.tally.trouble("damaged", f"{url}: {wrong}")


def commands(run: Run) -> Kills:
    """Kill processes that give commands, at a file or at a server."""
    tally, chance = Kills(), random.Random(run.seed)
    # "returnable play" cannot be told to append in two transactions.
    ways: list[Way] = [*([] if run.control == "split" else [OneByOne(run)]), GroupCommit(run)]
    place = InFile if run.store == "sqlite" else OnServer
    for nth, way in enumerate(ways):
        way.time_a_run(place(run.new_store(f"whole_{nth}")))
    print(f"{ways[-1].lines} lines of {run.journeys} customers in a play\n", flush=True)
    nth = 0
    while tally.kills < run.rounds:
        way = ways[nth % len(ways)]
        # Of a few kills each way has its share.
        kills = min(run.rounds, tally.kills + min(MOST_AT_ONE_STORE, max(1, run.rounds // len(ways))))
        AtOneStore(place(run.new_store(nth)), way, chance, tally).run(kills)
        nth += 1
    return tally


# ---- projectors ---------------------------------------------------------------------------------------------------------

OPEN_LIFECYCLES = 6
"""Lifecycles that are played side by side."""

FACTS_BEFORE = 4000
"""So many facts are there before the first projector starts, so that building takes long enough to be killed in."""

BREATH_SECONDS = 0.004
"""What the writer waits after every command."""


@dataclass
class ProjectorKills(Tally):
    """What came of all kills of projectors."""

    kills: int = counted("kills (SIGKILL)")
    pairs: int = counted("… of rounds with two projectors at once")
    moved: int = counted("… after which some view was further than before")
    building: int = counted("… that left a view half built")
    hot: int = counted("… that left an unfinished transaction to be undone or a WAL to be read")
    events: int = counted("facts in the store at the end")
    checks: int = counted("comparisons with views built at once")
    differ: int = counted("views that differ from views built at once")
    damaged: int = counted("files that are damaged")
    ended: int = counted("projectors that ended by themselves, or did not follow")


@contextmanager
def writing(store: Path, chance: random.Random, begun: int) -> Iterator[None]:
    """While this lasts, a thread plays lifecycles side by side."""
    stopped = threading.Event()

    def play() -> None:
        numbers = iter(range(begun, 10**8))
        with returnable.open(f"sqlite:///{store}") as desk:
            running = [[*reversed(lifecycle(numbered(next(numbers))))] for _ in range(OPEN_LIFECYCLES)]
            while not stopped.wait(BREATH_SECONDS):
                mine = chance.choice(running)
                at, fields = mine.pop()
                desk.handle(fields, at=at)
                if not mine:
                    mine += reversed(lifecycle(numbered(next(numbers))))

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@dataclass
class ProjectorKiller:
    """Kills projectors and compares what they leave."""

    run: Run
    tally: ProjectorKills = field(default_factory=ProjectorKills)
    starting_seconds: float = 0.0
    """How long a projector needs until it has caught up for the first time."""

    def __post_init__(self) -> None:
        self.store, self.views = self.run.folder / "shop.db", self.run.folder / "shop-views.db"
        self.chance = random.Random(self.run.seed)

    def kill(self) -> ProjectorKills:
        with returnable.open(f"sqlite:///{self.store}") as desk:
            begun = fill(desk.services.store, FACTS_BEFORE)
        with writing(self.store, random.Random(self.chance.getrandbits(32)), begun):
            while self.tally.kills < self.run.rounds:
                before = self.tally.kills
                self._round()
                if self.tally.kills // self.run.check_every > before // self.run.check_every:
                    with copied(self.views) as copy:
                        self._compare(copy, f"after {self.tally.kills} kills")
        self._compare(self.views, "at the end")
        return self.tally

    def _round(self) -> None:
        at_birth = self.chance.random() < 0.35 and not self.run.control
        if at_birth:
            for file in self.run.folder.glob("shop-views.db*"):
                file.unlink()
        before = self._marks()
        count = 2 if self.chance.random() < 0.25 and not self.run.control else 1
        processes = [self._start(nth) for nth in range(count)]
        self._wait_for_the_moment(processes[0], at_birth)
        for process in processes:
            if (status := process.kill()) >= 0:
                self.tally.trouble("ended", f"a projector ended by itself with {status}: {process.errors()}")
        self.tally.kills += count
        self.tally.pairs += count if count > 1 else 0
        self.tally.hot += self.views.with_name(f"{self.views.name}-wal").exists()
        after = self._marks()
        self.tally.moved += after != before
        self.tally.building += any(not mark.built for mark in after.values())

    def _wait_for_the_moment(self, process: Process, at_birth: bool) -> None:
        """While it builds the first views of all, while it keeps up, or anywhere between start and catching up."""
        begin = time.monotonic()
        if at_birth and self.starting_seconds:
            while not self.views.exists() and process.is_running:
                time.sleep(0.001)
            time.sleep(self.chance.uniform(0, 0.4))
        elif not self.starting_seconds or self.chance.random() < 0.5:
            while not process.errors().count("\n") and process.is_running:
                time.sleep(0.001)
            if not process.errors().startswith("following"):
                self.tally.trouble("ended", f"a projector said {process.errors()!r}")
            self.starting_seconds = self.starting_seconds or time.monotonic() - begin
            time.sleep(self.chance.uniform(0, 0.5))
        else:
            time.sleep(self.chance.uniform(0.4, 1.2) * self.starting_seconds)

    def _start(self, nth: int) -> Process:
        output = self.run.folder / f"projector-{nth}.out"
        if self.run.control:
            return Process(output, "bench.proofs.kills_worker", str(self.store), str(self.views))
        rebuilt = ["--rebuild", self.chance.choice(tuple(VIEWS))] if self.chance.random() < 0.3 else []
        return Process(output, CLI, "project", "--follow", "--store", f"sqlite:///{self.store}", *rebuilt)

    def _marks(self) -> Mapping[str, Mark]:
        with copied(self.views) as copy, closing(SQLiteViews(copy)) as views:
            return views.marks()

    def _compare(self, path: Path, when: str) -> None:
        """Views brought up to date, and views built at once, up to the same fact: the writer goes on meanwhile."""
        services = assemble(f"sqlite:///{self.store}", create=False)
        with closing(services.store), closing(SQLiteViews(path)) as kept:
            projector(services, kept).run()
            head = max(mark.position for mark in kept.marks().values())
            services.store.head = lambda: head  # type: ignore[method-assign]
            projector(services, kept).run()
            for what in views_unlike_a_rebuild(services.store, services.handler.policy, kept):
                self.tally.trouble("differ", f"{when}: {what}")
        if (damage := damage_in(path)) is not None:
            self.tally.trouble("damaged", f"{when}: {damage}")
        self.tally.events = head
        self.tally.checks += 1


def projectors(run: Run) -> ProjectorKills:
    """Kill projectors that follow a store in a file."""
    return ProjectorKiller(run).kill()


if __name__ == "__main__":
    main(
        Proof(
            commands,
            rounds=200,
            of="kills",
            controls={
                "without-ids": "commands are given again without their ids",
                "split": "what came of a command is appended in two transactions",
            },
            stores=FILE_OR_SERVER,
            options=[
                option("--journeys", 44, "how many customers there are at a store"),
                option("--threads", 8, "how many threads append together"),
            ],
        ),
        Proof(
            projectors,
            rounds=100,
            of="kills",
            controls={"position-first": "a view's position is durable before its rows"},
            options=[option("--check-every", 10, "compare after so many kills")],
        ),
    )
