"""``python -m bench.reliability.project_kill``: following projectors are killed with SIGKILL while facts come in.

A writer plays lifecycles side by side the whole time. In every round one or two processes of ``returnable project --follow``
are killed at a random instant, and the next round goes on with what they left; sometimes with ``--rebuild``, or with no views
to begin with. Now and then, and at the end, the views are brought up to date and must equal views that were built at once
from all the facts.

SIGKILL takes the process, not the machine: what a power failure does to the disk is not shown here.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import returnable
from bench.speed.lifecycle import fill, lifecycle, numbered
from bench.speed.measure import table
from returnable.adapters.eventstore.viewstore import SQLiteViews
from returnable.adapters.wiring import Parts, assemble, projector
from returnable.projections.ports import Changes, Mark
from returnable.projections.stored import VIEWS

OPEN_LIFECYCLES = 6
"""Lifecycles that are played side by side."""

FACTS_BEFORE = 4000
"""So many facts are there before the first projector starts, so that building takes long enough to be killed in."""

BREATH_SECONDS = 0.004
"""What the writer waits after every command."""


@dataclass
class Tally:
    """What came of all kills."""

    kills: int = 0
    pairs: int = 0
    moved: int = 0
    building: int = 0
    hot: int = 0
    checks: int = 0
    facts: int = 0
    troubles: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """A Markdown table."""
        rows = [
            ("kills (SIGKILL)", self.kills),
            ("… of rounds with two projectors at once", self.pairs),
            ("… after which some view was further than before", self.moved),
            ("… that left a view half built", self.building),
            ("… that left an unfinished transaction to be undone or a WAL to be read", self.hot),
            ("facts in the store at the end", self.facts),
            ("comparisons with views built at once", self.checks),
            ("troubles", len(self.troubles)),
        ]
        return table(("what", "count"), [(name, f"{count:,}") for name, count in rows])


class Writer:
    """Plays lifecycles until it is stopped."""

    def __init__(self, store: Path, seed: int, begun: int) -> None:
        self._store = store
        self._begun = begun
        self._chance = random.Random(seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._play)
        self.commands = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the command at hand."""
        self._stopped.set()
        self._thread.join()

    def _play(self) -> None:
        with returnable.open(f"sqlite:///{self._store}") as desk:
            running: list[list[tuple[object, dict[str, object]]]] = []
            while not self._stopped.wait(BREATH_SECONDS):
                if len(running) < OPEN_LIFECYCLES:
                    running.append([*reversed(lifecycle(numbered(self._begun)))])
                    self._begun += 1
                mine = self._chance.choice(running)
                at, fields = mine.pop()
                desk.handle(fields, at=at)  # type: ignore[arg-type]
                self.commands += 1
                if not mine:
                    running.remove(mine)


class Hasty(SQLiteViews):
    """The control: the position is durable before its rows are."""

    def save(
        self, before: Mapping[str, Mark], after: Mark, changes: Changes, store_identity: str | None = None
    ) -> bool:
        """The first of two transactions: the process is killed before it comes to the second."""
        with self._writing() as connection:
            for view in before:
                self._save_mark(connection, view, after)
        print("following", file=sys.stderr, flush=True)
        threading.Event().wait()
        raise AssertionError("it is killed here")


def follow_hastily(store: str, views: str) -> None:
    """What the control runs instead of ``returnable project --follow``."""
    parts = assemble(f"sqlite:///{store}", create=False)
    projector(parts, Hasty(views)).follow(lambda: time.sleep(0.01), lambda: False)


class Harness:
    """Kills projectors and compares."""

    def __init__(self, folder: Path, seed: int, control: bool) -> None:
        self.store, self.views = folder / "shop.db", folder / "shop-views.db"
        self.folder = folder
        self.chance = random.Random(seed)
        self.control = control
        self.tally = Tally()
        self.starting_seconds = 0.0
        """How long a projector needs until it has caught up for the first time."""

    def run(self, rounds: int, check_every: int) -> Tally:
        """Kill that often; at least once for each round."""
        with returnable.open(f"sqlite:///{self.store}") as desk:
            copies = fill(desk.parts.store, FACTS_BEFORE)
        writer = Writer(self.store, self.chance.getrandbits(32), copies)
        writer.start()
        try:
            while self.tally.kills < rounds:
                before = self.tally.kills
                self._round()
                if self.tally.kills // check_every > before // check_every:
                    self._compare_copy()
        finally:
            writer.stop()
        parts = assemble(f"sqlite:///{self.store}", create=False)
        self.tally.facts = parts.store.head()
        self._compare(parts, self.views, "at the end")
        parts.store.close()
        return self.tally

    def _round(self) -> None:
        at_birth = self.chance.random() < 0.35 and not self.control
        if at_birth:
            for file in self.folder.glob("shop-views.db*"):
                file.unlink()
        before = self._marks()
        count = 2 if self.chance.random() < 0.25 and not self.control else 1
        processes = [self._start() for _ in range(count)]
        self._wait_for_the_moment(processes[0], at_birth)
        for process in processes:
            if process.poll() is not None:
                said = process.stderr.read() if process.stderr is not None else ""
                self.tally.troubles.append(f"a projector ended by itself with {process.returncode}: {said}")
            process.kill()
            process.communicate()
        self.tally.kills += count
        self.tally.pairs += count if count > 1 else 0
        self.tally.hot += self.views.with_name(f"{self.views.name}-wal").exists()
        after = self._marks()
        self.tally.moved += after != before
        self.tally.building += any(not mark.built for mark in after.values())

    def _wait_for_the_moment(self, process: subprocess.Popen[str], at_birth: bool) -> None:
        """While it builds the first views of all, while it keeps up, or anywhere between start and catching up."""
        assert process.stderr is not None
        begin = time.monotonic()
        if at_birth and self.starting_seconds:
            while not self.views.exists() and process.poll() is None:
                time.sleep(0.001)
            time.sleep(self.chance.uniform(0, 0.4))
        elif not self.starting_seconds or self.chance.random() < 0.5:
            said = process.stderr.readline()
            if not said.startswith("following"):
                self.tally.troubles.append(f"a projector said {said!r}")
            self.starting_seconds = self.starting_seconds or time.monotonic() - begin
            time.sleep(self.chance.uniform(0, 0.5))
        else:
            time.sleep(self.chance.uniform(0.4, 1.2) * self.starting_seconds)

    def _start(self) -> subprocess.Popen[str]:
        if self.control:
            command = [sys.executable, "-m", "bench.reliability.project_kill", "--hasty", str(self.store)]
            command.append(str(self.views))
        else:
            command = [sys.executable, "-m", "returnable.adapters.cli.entry", "project", "--follow"]
            command += ["--store", f"sqlite:///{self.store}"]
            if self.chance.random() < 0.3:
                command += ["--rebuild", self.chance.choice(tuple(VIEWS))]
        return subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _marks(self) -> Mapping[str, Mark]:
        with self._copied() as copy, closing(SQLiteViews(copy)) as views:
            return views.marks()

    def _compare_copy(self) -> None:
        parts = assemble(f"sqlite:///{self.store}", create=False)
        with self._copied() as copy:
            self._compare(parts, copy, f"after {self.tally.kills} kills")
        parts.store.close()

    @contextmanager
    def _copied(self) -> Iterator[Path]:
        """A copy of what the kill left, so that the next process finds it as it was."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for suffix in ("", "-wal"):
                if self.views.with_name(self.views.name + suffix).exists():
                    shutil.copy(f"{self.views}{suffix}", f"{folder}/views.db{suffix}")
            yield Path(folder) / "views.db"

    def _compare(self, parts: Parts, path: Path, when: str) -> None:
        """Views brought up to date, and views built at once, up to the same fact: the writer goes on meanwhile."""
        with closing(SQLiteViews(path)) as kept, closing(SQLiteViews(None)) as anew:
            projector(parts, kept).run()
            positions = {mark.position for mark in kept.marks().values()}
            head = max(positions)
            frozen = parts.store.head
            parts.store.head = lambda: head  # type: ignore[method-assign]
            try:
                projector(parts, kept).run()
                projector(parts, anew).run()
            finally:
                parts.store.head = frozen  # type: ignore[method-assign]
            with kept.reading() as one, anew.reading() as other:
                for view in VIEWS:
                    if one.digest(view) != other.digest(view):
                        self.tally.troubles.append(f"{when}: the view {view} differs from one that is built at once")
        with closing(sqlite3.connect(path)) as connection:
            answer = connection.execute("PRAGMA integrity_check").fetchall()
        if answer != [("ok",)]:
            self.tally.troubles.append(f"{when}: {answer[:3]}")
        self.tally.checks += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, compare, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.project_kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="how many kills")
    parser.add_argument("--check-every", type=int, default=10, help="compare after so many kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store-dir", type=Path, help="where the stores are made (default: the temporary folder)")
    parser.add_argument(
        "--control",
        action="store_true",
        help="save positions before their rows: shows that the harness finds trouble, exits 1",
    )
    parser.add_argument("--hasty", nargs=2, metavar=("STORE", "VIEWS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.hasty:
        follow_hastily(*options.hasty)
        return 0
    with tempfile.TemporaryDirectory(prefix="returnable-project-kill-", dir=options.store_dir) as folder:
        tally = Harness(Path(folder), options.seed, options.control).run(options.rounds, options.check_every)
    print(tally.summary())
    for trouble in tally.troubles[:8]:
        print(f"trouble: {trouble}")
    return 1 if tally.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
