"""``python -m bench.proofs.power_loss``: what a power failure leaves, compared with what was acknowledged.

Lifecycles are played while everything that SQLite does to the files is recorded, together with the moments at which
commands were given and answered. The recording is cut somewhere, and an image made of what a power failure may leave there
(see ``images``). The store in it is opened: what was answered must be there exactly, no command by half, telling it again
must come to the same and add nothing, and views that were stored must come to what a rebuild makes.

Six runs take turns: one host; threads that commit together; a store of the first version that is brought up to date; a
process that is killed while it writes, before the power fails for the one that goes on; and both manners of host on a disk
whose syncs fail now and then, and then forget what they were to write. In all of them the store is checkpointed every few
commands, and in most it is born, closed and opened again. Where threads share the desk, only syncs of a WAL fail.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Literal
from unittest.mock import patch

from bench.proofs.disk import OK, kind_of, watching
from bench.proofs.disk_mutants import MUTANTS
from bench.proofs.files import damage_in
from bench.proofs.images import Cut, Exchange, Moment, Named, Recorder, Recording, Sync, Write, same_as
from bench.proofs.journeys import journey, scenario
from bench.proofs.processes import in_threads
from bench.proofs.proof import Proof, Run, Tally, counted, main, option
from bench.proofs.reference import Difference, Reference, unregistered_ids, views_unlike_a_rebuild
from returnable.adapters.eventstore import sqlite_connections
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.views import sqlite as views_file
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import Services, policy_book, projector, stored_views
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.handler import CommandHandler
from returnable.domain.policy import PolicyBook

Durability = Literal["FULL", "NORMAL"]

PAGES_TO_CHECKPOINT = 24
"""So few that every tenth command or so is followed by a checkpoint."""

THREADS = 5

DEATHS = 8
"""How often the process of one run is killed."""

TRIES = 100
"""How often a host repeats a command before it gives up."""

TO_THE_END = 8
"""Of so many images one is played on to the end of the scenario."""


@cache
def book() -> PolicyBook:
    return policy_book(None)


def opened(path: Path, durability: Durability = "FULL") -> Services:
    store = open_store(f"sqlite:///{path}", synchronous=durability)
    return Services(store, CommandHandler(store, book()))


@contextmanager
def often_checkpointed() -> Iterator[None]:
    """While this lasts, the WAL of a store that is opened is copied into the file after a few commands."""
    with (
        patch.object(sqlite_connections, "CHECKPOINT_PAGES", PAGES_TO_CHECKPOINT),
        patch.object(views_file, "CHECKPOINT_PAGES", PAGES_TO_CHECKPOINT),
    ):
        yield


def side_by_side(journeys: int) -> list[dict[str, Any]]:
    """The lines of so many customers in order of time, each customer for himself: no command is about two of them."""
    lines = [line for nth in range(journeys) for line in journey(nth)]
    return sorted(lines, key=lambda line: datetime.fromisoformat(line["at"]))


def of_threads(reference: Reference, threads: int) -> list[list[int]]:
    """The numbers of the lines that each of so many threads tells: those of customers of its own."""
    customers = {number: int(reference.lines[number - 1]["command_id"].split("-")[1]) for number in reference.outcomes}
    return [[number for number, nth in customers.items() if nth % threads == thread] for thread in range(threads)]


# ---- what is recorded -------------------------------------------------------------------------------------------------


class Host:
    """Gives the lines of a scenario to a store and notes what it was answered; repeats what it got no answer to."""

    recorder: Recorder

    def __init__(self, folder: Path, reference: Reference, dice: Random, durability: Durability) -> None:
        self.folder, self.path = folder, folder / "shop.db"
        self.reference, self.dice, self.durability = reference, dice, durability

    def one_by_one(self, recorder: Recorder, numbers: Sequence[int] | None = None) -> Recording:
        """One thread; now and then the views are brought up to date, or the store is closed and opened again."""
        self.recorder = recorder
        left = [*(self.reference.outcomes if numbers is None else numbers)]
        with watching(recorder):
            while left:
                services = self._insist(lambda: opened(self.path, self.durability))
                lap = self.dice.randint(25, 60)
                for number in left[:lap]:
                    self._give(services, [number])
                    if self.dice.random() < 0.1:
                        self._insist(lambda: self._project(services))  # noqa: B023
                del left[:lap]
                services.store.close()
        return recorder.recording

    def together(self, recorder: Recorder) -> Recording:
        """Threads on one desk, each with customers of its own, and one that reads for the stored views."""
        self.recorder = recorder
        with watching(recorder):
            services = self._insist(lambda: opened(self.path, self.durability))

            def project() -> None:
                self._insist(lambda: self._project(services))
                time.sleep(0.05 * self.dice.random())

            in_threads([partial(self._give, services, own) for own in of_threads(self.reference, THREADS)], project)
            services.store.close()
        return recorder.recording

    def _insist(self, ask: Callable[[], Any]) -> Any:
        """What comes of it, when it is tried until the store can be used."""
        for _ in range(TRIES):
            with suppress(StoreBusy, StoreUnusable):
                return ask()
        return ask()

    def _give(self, services: Services, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.recorder.told(number, answered=False)
            came = self._insist(lambda: self.reference.give(services, number))  # noqa: B023
            if came != self.reference.outcomes[number]:
                raise RuntimeError(f"line {number} came to {came.decode()[:300]}")
            self.recorder.told(number, answered=True)

    def _project(self, services: Services) -> None:
        views = stored_views(f"sqlite:///{self.path}")
        assert isinstance(views, SQLiteViews)
        with closing(views):
            projector(services, views).run()


class _Forgetful(Recorder):
    """Syncs fail now and then; what they were to write is forgotten."""

    def __init__(self, folder: Path, dice: Random, recording: Recording | None = None) -> None:
        super().__init__(folder, recording)
        self._dice = dice
        self._again = 0

    def answer(self, call: str, path: str) -> int:
        """Once, or several times in a row: what mends itself must not be the only case."""
        if call != "sync":
            return OK
        if not self._again and self._dice.random() < 0.06:
            self._again = self._dice.choice((1, 1, 2, 5))
        if self._again:
            self._again -= 1
            return sqlite3.SQLITE_IOERR_FSYNC
        return OK


class _ForgetfulOfWals(_Forgetful):
    """Only syncs of a WAL fail.

    While a reader looks on, SQLite copies a part of the WAL into the file without a sync, and never again: should the next
    sync of the file fail and forget that part, pages are lost that no store on SQLite can get back (see ADR 40).
    """

    def answer(self, call: str, path: str) -> int:
        return super().answer(call, path) if kind_of(path) == "wal" else OK


class _Mortal(_Forgetful):
    """The process dies before some sync, or in the trouble that follows one that fails, and leaves the recording."""

    def __init__(self, folder: Path, dice: Random, recording: Recording, leave_in: Path, dies_at: int) -> None:
        super().__init__(folder, dice, recording)
        self._leave_in = leave_in
        self._dies_at = dies_at

    def answer(self, call: str, path: str) -> int:
        """Syncs of the WAL count, for there a command is written and not durable."""
        if call == "sync" and kind_of(path) == "wal":
            self._dies_at -= 1
            if self._dies_at == 0:
                self.leave()
                os._exit(9)
        return super().answer(call, path)

    def leave(self) -> None:
        self._leave_in.write_bytes(pickle.dumps(self.recording))


def one_host(host: Host) -> Recording:
    return host.one_by_one(Recorder(host.folder))


def committing_together(host: Host) -> Recording:
    return host.together(Recorder(host.folder))


def failing_together(host: Host) -> Recording:
    return host.together(_ForgetfulOfWals(host.folder, host.dice))


def failing_syncs(host: Host) -> Recording:
    return host.one_by_one(_Forgetful(host.folder, host.dice))


def brought_up_to_date(host: Host) -> Recording:
    """A store of the first version, with some commands in it."""
    numbers = [*host.reference.outcomes]
    before = numbers[: host.dice.randint(1, len(numbers) // 2)]
    services = opened(host.path)
    for number in before:
        host.reference.give(services, number)
    services.store.close()
    with closing(sqlite3.connect(host.path)) as connection:
        connection.executescript("DROP TABLE due; DROP TABLE bookmarks; DROP TABLE timelines; PRAGMA user_version = 1")
    recorder = Recorder(host.folder)
    recorder.recording.told += before
    return host.one_by_one(recorder, numbers[len(before) :])


def _live_until_killed(host: Host, kept: Path, seed: str, lives: int, mutant: str | None) -> None:
    host.dice = Random(seed)
    recording: Recording = pickle.loads(kept.read_bytes())
    recorder = _Mortal(host.folder, host.dice, recording, kept, host.dice.randint(2, 14) if lives else 0)
    done = set(recording.answered())
    with MUTANTS.switched_on(mutant), often_checkpointed():
        host.one_by_one(recorder, [number for number in host.reference.outcomes if number not in done])
    recorder.leave()


def killed_first(host: Host) -> Recording:
    """Processes that are killed, each followed by one that repeats what was not answered."""
    with tempfile.TemporaryDirectory(dir=host.folder.parent) as beside:
        kept = Path(beside) / "recording"
        kept.write_bytes(pickle.dumps(Recording()))
        for lives in reversed(range(DEATHS + 1)):
            values = (host, kept, f"{host.dice.random()}", lives, MUTANTS.active)
            process = multiprocessing.get_context("spawn").Process(target=_live_until_killed, args=values)
            process.start()
            process.join()
            if process.exitcode not in (0, 9):
                raise RuntimeError(f"a process that was to be killed ended with {process.exitcode}")
            if process.exitcode == 0:
                break
        recording: Recording = pickle.loads(kept.read_bytes())
        return recording


STORIES = (one_host, committing_together, brought_up_to_date, killed_first, failing_syncs, failing_together)

TOGETHER = (committing_together, failing_together)


# ---- what an image must hold --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standard:
    """What a run came to: what was to be written, and where it stood at its end."""

    reference: Reference
    positions: dict[int, tuple[int, int]]
    """Of the line of each command on record: its first and last fact."""

    def troubles(self, moment: Moment, folder: Path, dice: Random) -> Iterator[Difference]:
        """The kind of every trouble with an image, and what it is."""
        path, reference, stored = folder / "shop.db", self.reference, list[int]()
        try:
            services = opened(path)
        except Exception as error:
            # At its birth, before anything was acknowledged, a disk that failed may leave what is no store.
            unborn = moment.failed and not moment.answered
            yield "unborn" if unborn else "damaged", f"it cannot be opened: {error!r}"
            return
        with closing(services.store):
            at = {"answered": moment.answered, "given": moment.given}
            yield from reference.compare(services.store, **at, stored=stored, positions=self.positions)
            head = services.store.head()
            yield from reference.repeat(services, stored)
            if services.store.head() != head:
                yield "added", f"{services.store.head() - head} facts, by giving {len(stored)} commands again"
            given = {*reference.outcomes} if not dice.randrange(TO_THE_END) else moment.given
            yield from reference.repeat(services, sorted(given - {*stored}))
            # Given again, they stand where there is room.
            given = given | {*stored}
            yield from reference.compare(services.store, answered=given, given=given, stored=[])
            yield from unregistered_ids(services.store)
            yield from _views(services, path, moment)
        for file in folder.glob("*.db"):
            if (damage := damage_in(file)) is not None:
                yield "damaged", damage


def _views(services: Services, path: Path, moment: Moment) -> Iterator[Difference]:
    try:
        views = stored_views(f"sqlite:///{path}")
    except StoreUnusable as error:
        if not moment.failed or "delete the file" not in str(error):
            raise
        yield "unborn", f"{error}"
        for file in path.parent.glob("shop-views.db*"):
            file.unlink()
        views = stored_views(f"sqlite:///{path}")
    assert isinstance(views, SQLiteViews)
    with closing(views):
        projector(services, views).run()
        for what in views_unlike_a_rebuild(services.store, services.handler.policy, views):
            yield "views", what


def cuts(recording: Recording, count: int, dice: Random) -> list[int]:
    """Where the power fails: anywhere, beside a sync, a checkpoint or what becomes of a name or a size, and just after an
    answer, a third each."""
    events = recording.events
    main = {number for name, number in recording.names.items() if name.endswith(".db")}
    sharp = [
        nth
        for nth, event in enumerate(events)
        if isinstance(event, Sync | Cut | Named) or (isinstance(event, Write) and event.file in main)
    ]
    answers = [nth for nth, event in enumerate(events, start=1) if isinstance(event, Exchange) and event.answered]
    third = count // 3
    anywhere = [dice.randint(0, len(events)) for _ in range(count - 2 * third)]
    beside = [dice.choice(sharp) + dice.choice((-1, 0, 1, 2)) for _ in range(third)]
    after = [dice.choice(answers) for _ in range(third)]
    return sorted(min(max(0, cut), len(events)) for cut in (*anywhere, *beside, *after))


# ---- the command --------------------------------------------------------------------------------------------------------


@dataclass
class PowerLoss(Tally):
    """What came of all images."""

    runs: int = counted("runs")
    answered: int = counted("commands answered in them")
    writes: int = counted("writes recorded")
    syncs: int = counted("syncs recorded")
    checkpoints: int = counted("… of a database file: checkpoints")
    failed: int = counted("… that failed")
    images: int = counted("images")
    together: int = counted("… cut within a run of threads that commit together")
    pending: int = counted("… with changes that were not durable")
    looked_for: int = counted("acknowledged commands looked for")
    unborn: int = counted(
        "thrown away after failed syncs, as the error says: views, or a store before its first answer"
    )
    """No trouble: nothing is lost, and somebody is told."""
    lost: int = counted("trouble: lost")
    half: int = counted("trouble: half")
    changed: int = counted("trouble: changed")
    added: int = counted("trouble: added")
    damaged: int = counted("trouble: damaged")
    views: int = counted("trouble: views")
    losing: int = counted("images with acknowledged commands lost")
    bad: int = counted("images with any trouble")

    def note_run(self, recording: Recording) -> None:
        main = {number for name, number in recording.names.items() if name.endswith(".db")}
        syncs = [event for event in recording.events if isinstance(event, Sync)]
        self.runs += 1
        self.answered += len(recording.answered())
        self.writes += sum(isinstance(event, Write) for event in recording.events)
        self.syncs += len(syncs)
        self.checkpoints += sum(event.file in main for event in syncs)
        self.failed += sum(event.failed for event in syncs)


def fail(run: Run, story: Callable[[Host], Recording], folder: Path, seed: str, images: int, tally: PowerLoss) -> None:
    """Record one story and look at so many images of it; only while it is recorded the control is at work."""
    dice = Random(seed)
    reference = Reference(side_by_side(run.journeys) if story in TOGETHER else scenario(run.journeys))
    place = folder / "run"
    place.mkdir()
    normal = run.control == SYNCHRONOUS_NORMAL
    try:
        with MUTANTS.switched_on(None if normal else run.control), often_checkpointed():
            recording = story(Host(place, reference, dice, "NORMAL" if normal else "FULL"))
    except RuntimeError as error:
        tally.trouble("changed", f"{story.__name__} {seed}: {error}")
        return
    if not same_as(recording, place):
        raise RuntimeError(f"{story.__name__}: the files are not what was recorded")
    tally.note_run(recording)
    with closing(opened(place / "shop.db").store) as store:
        found = [(line, store.receipt(reference.lines[line - 1]["command_id"])) for line in reference.line_of]
    standard = Standard(reference, {line: (one.first, one.last) for line, one in found if one is not None})
    moment = Moment(recording)
    for nth, cut in enumerate(cuts(recording, images, dice)):
        moment.go_to(cut)
        tally.images += 1
        tally.together += story in TOGETHER
        tally.pending += bool(moment.pending())
        tally.looked_for += len(moment.answered & {*reference.line_of})
        with tempfile.TemporaryDirectory(dir=folder) as made:
            for name, content in moment.image(dice).items():
                (Path(made) / name).write_bytes(content)
            if dice.random() < 0.3:
                (Path(made) / "shop.db-shm").write_bytes(dice.randbytes(dice.choice((100, 32768))))
            kinds: set[str] = set()
            for kind, what in _caught(standard.troubles(moment, Path(made), dice)):
                if kind == "unborn":
                    tally.unborn += 1
                    continue
                kinds.add(kind)
                tally.trouble(kind, f"{story.__name__} {seed}, image {nth} at event {cut}: {what}")
        tally.losing += "lost" in kinds
        tally.bad += bool(kinds)


def _caught(troubles: Iterator[tuple[str, str]]) -> Iterator[Difference]:
    try:
        yield from troubles
    except Exception as error:  # whatever is raised here, nobody expects it
        yield "damaged", f"{type(error).__name__}: {error}"


def power_loss(run: Run) -> PowerLoss:
    """Record stories and look at images of them."""
    tally = PowerLoss()
    stories = [story for story in STORIES if run.only in (None, story.__name__)]
    for nth, first in enumerate(range(0, run.rounds, run.per_run)):
        with run.new_folder(nth) as folder:
            images = min(run.per_run, run.rounds - first)
            fail(run, stories[nth % len(stories)], folder, f"{run.seed}-{nth + 1}", images, tally)
    print(f"{100 * tally.losing // (tally.images or 1)} % of the images have lost acknowledged commands\n")
    return tally


SYNCHRONOUS_NORMAL = "synchronous-normal"

if __name__ == "__main__":
    main(
        Proof(
            power_loss,
            rounds=2000,
            of="images",
            controls={SYNCHRONOUS_NORMAL: "the store uses synchronous=NORMAL", **MUTANTS.described()},
            options=[
                option("--per-run", 80, "how many images of one recording"),
                option("--journeys", 11, "how many customers a run tells of"),
                option("--only", None, "this run alone", choices=[story.__name__ for story in STORIES]),
            ],
        )
    )
