"""``python -m bench.reliability.power_loss``: what a power failure leaves, compared with what was acknowledged.

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

import argparse
import multiprocessing
import os
import pickle
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal
from unittest.mock import patch

from bench.reliability.disk import OK, kind_of, watching
from bench.reliability.disk_mutants import MISTAKES
from bench.reliability.images import Cut, Moment, Named, Recorder, Recording, Sync, Told, Write, same_as
from bench.reliability.journeys import journey, scenario
from bench.reliability.kill import SHOWN, Telling, names_that_are_free, without_positions
from bench.speed.measure import table
from returnable.adapters.eventstore import connections, viewstore
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.viewstore import SQLiteViews
from returnable.adapters.wiring import Parts, policy_book, projector, stored_views
from returnable.domain.desk import Desk
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.policy import PolicyBook
from returnable.projections.stored import VIEWS

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
    """The policies, read once."""
    return policy_book(None)


def opened(path: Path, durability: Durability = "FULL") -> Parts:
    """A desk on the store in a file."""
    store = open_store(f"sqlite:///{path}", synchronous=durability)
    return Parts(store, Desk(store, book()))


@contextmanager
def often_checkpointed() -> Iterator[None]:
    """While this lasts, the WAL of a store that is opened is copied into the file after a few commands."""
    with (
        patch.object(connections, "CHECKPOINT_PAGES", PAGES_TO_CHECKPOINT),
        patch.object(viewstore, "CHECKPOINT_PAGES", PAGES_TO_CHECKPOINT),
    ):
        yield


def side_by_side(journeys: int) -> list[dict[str, Any]]:
    """The lines of so many customers in order of time, each customer for himself: no command is about two of them."""
    lines = [line for nth in range(journeys) for line in journey(nth)]
    return sorted(lines, key=lambda line: datetime.fromisoformat(line["at"]))


def of_threads(reference: Telling, threads: int) -> list[list[int]]:
    """The numbers of the lines that each of so many threads tells: those of customers of its own."""
    customers = {number: int(reference.lines[number - 1]["command_id"].split("-")[1]) for number in reference.outcomes}
    return [[number for number, nth in customers.items() if nth % threads == thread] for thread in range(threads)]


# ---- what is recorded -------------------------------------------------------------------------------------------------


class Host:
    """Tells the lines of a scenario to a store and notes what it was told; repeats what it got no answer to."""

    def __init__(self, folder: Path, reference: Telling, recorder: Recorder, durability: Durability) -> None:
        self.path = folder / "shop.db"
        self.reference = reference
        self.recorder = recorder
        self.durability: Durability = durability

    def insist(self, ask: Callable[[], Any]) -> Any:
        """What comes of it, when it is tried until the store can be used."""
        for _ in range(TRIES):
            with suppress(StoreBusy, StoreUnusable):
                return ask()
        return ask()

    def open(self) -> Parts:
        """The store."""
        parts: Parts = self.insist(lambda: opened(self.path, self.durability))
        return parts

    def tell(self, parts: Parts, numbers: Sequence[int]) -> None:
        """These lines, in order."""
        for number in numbers:
            self.recorder.told(number, answered=False)
            came = self.insist(lambda: self.reference.tell(parts, number))  # noqa: B023
            if came != self.reference.outcomes[number]:
                raise RuntimeError(f"line {number} came to {came.decode()[:300]}")
            self.recorder.told(number, answered=True)

    def project(self, parts: Parts) -> None:
        """Bring the stored views up to date."""

        def project() -> None:
            views = stored_views(f"sqlite:///{self.path}")
            assert views is not None
            try:
                projector(parts, views).run()
            finally:
                views.close()

        self.insist(project)


def _in_turns(host: Host, dice: Random, numbers: Sequence[int]) -> None:
    """One thread; now and then the views are brought up to date, or the store is closed and opened again."""
    at = 0
    while at < len(numbers):
        parts = host.open()
        lap = dice.randint(25, 60)
        for number in numbers[at : at + lap]:
            host.tell(parts, [number])
            if dice.random() < 0.1:
                host.project(parts)
        at += lap
        parts.store.close()


def one_host(folder: Path, reference: Telling, dice: Random, durability: Durability) -> Recording:
    """A store from its birth on."""
    recorder = Recorder(folder)
    with watching(recorder):
        _in_turns(Host(folder, reference, recorder, durability), dice, [*reference.outcomes])
    return recorder.recording


def committing_together(folder: Path, reference: Telling, dice: Random, durability: Durability) -> Recording:
    """Threads on one desk, each with customers of its own, and one that reads for the stored views."""
    return _together(Recorder(folder), folder, reference, dice, durability)


def failing_together(folder: Path, reference: Telling, dice: Random, durability: Durability) -> Recording:
    """The same, on a disk whose syncs fail now and then."""
    return _together(_ForgetfulOfWals(folder, dice), folder, reference, dice, durability)


def _together(recorder: Recorder, folder: Path, reference: Telling, dice: Random, durability: Durability) -> Recording:
    host = Host(folder, reference, recorder, durability)
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    with watching(recorder):
        parts = host.open()
        work = [lambda own=own: host.tell(parts, own) for own in of_threads(reference, THREADS)]  # type: ignore[misc]
        threads = [threading.Thread(target=guarded, args=(each,)) for each in work]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            guarded(lambda: host.project(parts))
            time.sleep(0.05 * dice.random())
        parts.store.close()
    if failures:
        raise failures[0]
    return recorder.recording


def brought_up_to_date(folder: Path, reference: Telling, dice: Random, durability: Durability) -> Recording:
    """A store of the first version, with some commands in it."""
    numbers = [*reference.outcomes]
    before = numbers[: dice.randint(1, len(numbers) // 2)]
    parts = opened(folder / "shop.db")
    for number in before:
        reference.tell(parts, number)
    parts.store.close()
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.executescript("DROP TABLE due; DROP TABLE bookmarks; DROP TABLE timelines; PRAGMA user_version = 1")
    recorder = Recorder(folder)
    recorder.recording.told += before
    with watching(recorder):
        _in_turns(Host(folder, reference, recorder, durability), dice, numbers[len(before) :])
    return recorder.recording


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
        """Write down what is recorded."""
        self._leave_in.write_bytes(pickle.dumps(self.recording))


def _live_until_killed(
    folder: Path, reference: Telling, durability: Durability, kept: Path, seed: str, lives: int, mutant: str | None
) -> None:
    dice = Random(seed)
    recording: Recording = pickle.loads(kept.read_bytes())
    recorder = _Mortal(folder, dice, recording, kept, dice.randint(2, 14) if lives else 0)
    done = set(recording.answered())
    with MISTAKES.switched_on(mutant), often_checkpointed(), watching(recorder):
        host = Host(folder, reference, recorder, durability)
        _in_turns(host, dice, [number for number in reference.outcomes if number not in done])
    recorder.leave()


def killed_first(folder: Path, reference: Telling, dice: Random, durability: Durability) -> Recording:
    """Processes that are killed, each followed by one that repeats what was not answered."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        kept = Path(beside) / "recording"
        kept.write_bytes(pickle.dumps(Recording()))
        for lives in reversed(range(DEATHS + 1)):
            values = (folder, reference, durability, kept, f"{dice.random()}", lives, MISTAKES.active)
            process = multiprocessing.get_context("spawn").Process(target=_live_until_killed, args=values)
            process.start()
            process.join()
            if process.exitcode not in (0, 9):
                raise RuntimeError(f"a process that was to be killed ended with {process.exitcode}")
            if process.exitcode == 0:
                break
        recording: Recording = pickle.loads(kept.read_bytes())
        return recording


def failing_syncs(folder: Path, reference: Telling, dice: Random, durability: Durability) -> Recording:
    """One host that repeats what was refused."""
    recorder = _Forgetful(folder, dice)
    with watching(recorder):
        _in_turns(Host(folder, reference, recorder, durability), dice, [*reference.outcomes])
    return recorder.recording


Run = Callable[[Path, Telling, Random, Durability], Recording]

RUNS: tuple[Run, ...] = (
    one_host,
    committing_together,
    brought_up_to_date,
    killed_first,
    failing_syncs,
    failing_together,
)

TOGETHER = (committing_together, failing_together)


# ---- what an image must hold --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standard:
    """What a run came to: what was to be written, and where it stood at its end."""

    reference: Telling
    positions: dict[int, tuple[int, int]]
    """Of the line of each command on record: its first and last fact."""

    def troubles(self, moment: Moment, folder: Path, dice: Random) -> Iterator[tuple[str, str]]:
        """The kind of every trouble with an image, and what it is."""
        path = folder / "shop.db"
        try:
            parts = opened(path)
        except Exception as error:
            # At its birth, before anything was acknowledged, a disk that failed may leave what is no store.
            unborn = moment.failed and not moment.answered
            yield UNBORN if unborn else "damaged", f"it cannot be opened: {error!r}"
            return
        with closing(parts.store):
            stored: list[int] = []
            yield from self._commands(parts, moment.answered, moment.given, stored)
            head = parts.store.head()
            yield from self._again(parts, stored)
            if parts.store.head() != head:
                yield "added", f"{parts.store.head() - head} facts, by telling {len(stored)} commands again"
            rest = sorted((moment.given if dice.randrange(TO_THE_END) else set(self.reference.outcomes)) - {*stored})
            yield from self._again(parts, rest)
            anywhere = replace(self, positions={})  # told again, they stand where there is room
            yield from anywhere._commands(parts, {*stored, *rest}, {*stored, *rest}, [])
            for name in names_that_are_free(parts.store):
                yield "half", f"{name} is on record, and its name is free"
            yield from _views(parts, path, moment)
        for file in folder.glob("*.db"):
            with closing(sqlite3.connect(file)) as connection:
                answer = connection.execute("PRAGMA integrity_check").fetchall()
            if answer != [("ok",)]:
                yield "damaged", f"{file.name}: {answer[:3]}"

    def _commands(
        self, parts: Parts, answered: set[int], given: set[int], stored: list[int]
    ) -> Iterator[tuple[str, str]]:
        store, reference = parts.store, self.reference
        facts = reference.facts_in(store)
        counted = 0
        for line, expected in zip(reference.line_of, reference.receipts, strict=True):
            receipt = store.receipt(expected.command_id)
            if receipt is None:
                if line in answered:
                    yield "lost", f"{expected.command_id} {expected.command} was acknowledged"
                continue
            stored.append(line)
            if line not in given:
                yield "half", f"{expected.command_id} is stored, and nobody gave it"
            own = [] if not receipt.last else store.read(receipt.first - 1, 1000, receipt.last)
            counted += len(own)
            written = [fact for fact in facts if fact[:4] in {_place(one) for one in own}]
            due = reference.facts[expected.first - 1 : expected.last] if expected.last else []
            if without_positions(receipt) != without_positions(expected) or written != due:
                yield "half", f"{expected.command_id} {expected.command} is not what was told"
            elif line in answered and line in self.positions and (receipt.first, receipt.last) != self.positions[line]:
                yield "lost", f"{expected.command_id} stands elsewhere than where it was acknowledged"
        if counted != len(facts):
            yield "half", f"{len(facts) - counted} facts belong to no command"

    def _again(self, parts: Parts, numbers: Sequence[int]) -> Iterator[tuple[str, str]]:
        for number in numbers:
            if (came := self.reference.tell(parts, number)) != self.reference.outcomes[number]:
                yield "changed", f"told again, line {number} came to {came.decode()[:300]}"


def _place(entry: Any) -> tuple[object, ...]:
    return entry.case_id, entry.case_seq, entry.stream, entry.version


def _views(parts: Parts, path: Path, moment: Moment) -> Iterator[tuple[str, str]]:
    try:
        views = stored_views(f"sqlite:///{path}")
    except StoreUnusable as error:
        if not moment.failed or "delete the file" not in str(error):
            raise
        yield UNBORN, f"{error}"
        for file in path.parent.glob("shop-views.db*"):
            file.unlink()
        views = stored_views(f"sqlite:///{path}")
    assert isinstance(views, SQLiteViews)
    anew = SQLiteViews(None)
    with closing(views), closing(anew):
        projector(parts, views).run()
        projector(parts, anew).run()
        with views.reading() as kept, anew.reading() as other:
            for view in VIEWS:
                if kept.digest(view) != other.digest(view) or kept.parked(view):
                    yield "views", f"the stored view {view} differs from a rebuild"


UNBORN = "thrown away after failed syncs, as the error says: views, or a store before its first acknowledgement"
"""No trouble: nothing is lost, and somebody is told."""

KINDS_OF_TROUBLE = ("lost", "half", "changed", "added", "damaged", "views")


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
    answers = [nth for nth, event in enumerate(events, start=1) if isinstance(event, Told) and event.answered]
    third = count // 3
    anywhere = [dice.randint(0, len(events)) for _ in range(count - 2 * third)]
    beside = [dice.choice(sharp) + dice.choice((-1, 0, 1, 2)) for _ in range(third)]
    after = [dice.choice(answers) for _ in range(third)]
    return sorted(min(max(0, cut), len(events)) for cut in (*anywhere, *beside, *after))


# ---- the command --------------------------------------------------------------------------------------------------------


class Tally:
    """What came of all images."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()
        """Images with each kind of trouble."""
        self.shown: list[str] = []

    def note(self, kind: str, what: str) -> None:
        """Count what must not happen."""
        self.counts[kind] += 1
        self.shown.append(f"{kind}: {what}")

    def summary(self) -> str:
        """A Markdown table."""
        of_images = ("images with acknowledged commands lost", "images with any trouble")
        names = (
            "runs",
            "commands answered in them",
            "writes recorded",
            "syncs recorded",
            "… of a database file: checkpoints",
            "… that failed",
            "images",
            "… cut within a run of threads that commit together",
            "… with changes that were not durable",
            "acknowledged commands looked for",
            UNBORN,
        )
        rows = [(name, f"{self.counts[name]:,}") for name in names]
        rows += [(f"trouble: {kind}", f"{self.counts[kind]:,}") for kind in KINDS_OF_TROUBLE]
        rows += [(name, f"{self.bad[name]:,}") for name in of_images]
        images = self.counts["images"] or 1
        rows.append(("… percent", f"{100 * self.bad[of_images[0]] // images:,}"))
        return table(("what", "count"), rows)


def _note_run(tally: Tally, recording: Recording) -> None:
    events = recording.events
    main = {number for name, number in recording.names.items() if name.endswith(".db")}
    syncs = [event for event in events if isinstance(event, Sync)]
    tally.counts["runs"] += 1
    tally.counts["commands answered in them"] += len(recording.answered())
    tally.counts["writes recorded"] += sum(isinstance(event, Write) for event in events)
    tally.counts["syncs recorded"] += len(syncs)
    tally.counts["… of a database file: checkpoints"] += sum(event.file in main for event in syncs)
    tally.counts["… that failed"] += sum(event.failed for event in syncs)


def fail(
    run: Run,
    folder: Path,
    seed: str,
    images: int,
    tally: Tally,
    *,
    journeys: int,
    durability: Durability = "FULL",
    mutant: str | None = None,
) -> None:
    """Record one run and look at so many images of it; only while it is recorded the mutant is at work."""
    dice = Random(seed)
    lines = side_by_side(journeys) if run in TOGETHER else scenario(journeys)
    reference = Telling(lines)
    place = folder / "run"
    place.mkdir()
    try:
        with MISTAKES.switched_on(mutant), often_checkpointed():
            recording = run(place, reference, dice, durability)
    except RuntimeError as error:
        tally.note("changed", f"{run.__name__} {seed}: {error}")
        return
    if not same_as(recording, place):
        raise RuntimeError(f"{run.__name__}: the files are not what was recorded")
    _note_run(tally, recording)
    with closing(opened(place / "shop.db").store) as store:
        receipts = {
            line: store.receipt(one.command_id) for line, one in zip(reference.line_of, reference.receipts, strict=True)
        }
    standard = Standard(reference, {line: (one.first, one.last) for line, one in receipts.items() if one is not None})
    moment = Moment(recording)
    for nth, cut in enumerate(cuts(recording, images, dice)):
        moment.go_to(cut)
        tally.counts["images"] += 1
        tally.counts["… cut within a run of threads that commit together"] += run in TOGETHER
        tally.counts["… with changes that were not durable"] += bool(moment.pending())
        tally.counts["acknowledged commands looked for"] += len(moment.answered & receipts.keys())
        with tempfile.TemporaryDirectory(dir=folder) as made:
            for name, content in moment.image(dice).items():
                (Path(made) / name).write_bytes(content)
            if dice.random() < 0.3:
                (Path(made) / "shop.db-shm").write_bytes(dice.randbytes(dice.choice((100, 32768))))
            kinds: set[str] = set()
            for kind, what in _caught(standard.troubles(moment, Path(made), dice)):
                if kind == UNBORN:
                    tally.counts[UNBORN] += 1
                    continue
                kinds.add(kind)
                tally.note(kind, f"{run.__name__} {seed}, image {nth} at event {cut}: {what}")
        tally.bad["images with acknowledged commands lost"] += "lost" in kinds
        tally.bad["images with any trouble"] += bool(kinds)


def _caught(troubles: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    try:
        yield from troubles
    except Exception as error:  # whatever is raised here, nobody expects it
        yield "damaged", f"{type(error).__name__}: {error}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fail, look, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.power_loss", description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="how many images")
    parser.add_argument("--per-run", type=int, default=80, help="how many of them of one recording")
    parser.add_argument("--journeys", type=int, default=11, help="how many customers a run tells of")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=[run.__name__ for run in RUNS], help="this run alone")
    parser.add_argument("--store-dir", type=Path, help="where the files are made (default: the temporary folder)")
    parser.add_argument(
        "--control", action="store_true", help="with synchronous=NORMAL: shows that losses are found, exits 1"
    )
    parser.add_argument("--mutant", choices=[*MISTAKES.by_name], help="with this left out of the store: exits 1")
    options = parser.parse_args(arguments)
    runs = [run for run in RUNS if options.only in (None, run.__name__)]
    tally = Tally()
    nth = 0
    while nth * options.per_run < options.images:
        run = runs[nth % len(runs)]
        images = min(options.per_run, options.images - nth * options.per_run)
        nth += 1
        with tempfile.TemporaryDirectory(prefix="returnable-power-", dir=options.store_dir) as folder:
            durability: Durability = "NORMAL" if options.control else "FULL"
            fail(
                run,
                Path(folder),
                f"{options.seed}-{nth}",
                images,
                tally,
                journeys=options.journeys,
                durability=durability,
                mutant=options.mutant,
            )
    print(tally.summary())
    for kind in KINDS_OF_TROUBLE:
        for trouble in [text for text in tally.shown if text.startswith(f"{kind}: ")][:SHOWN]:
            print(f"trouble: {trouble}")
    return 1 if tally.shown else 0


if __name__ == "__main__":
    sys.exit(main())
