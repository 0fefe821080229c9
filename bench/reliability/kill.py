"""``python -m bench.reliability.kill``: a process that plays a scenario is killed with SIGKILL, again and again.

The same file is then played again from the top, as a host repeats what it got no answer to. An outcome counts as
acknowledged when its whole line was read from the process. After every kill the files of the store are copied, and the
copy is opened and compared with a run that nothing interrupted; the next process finds the files as the kill left them.

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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from bench.measure import table
from bench.reliability.journeys import as_file, scenario
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.wiring import Parts, assemble
from returnable.domain.events import encode
from returnable.domain.ports import EventStore, Receipt, Recorded

SHOWN = 3
"""How many troubles of each kind are shown."""


@dataclass
class Tally:
    """What came of all kills."""

    kills: int = 0
    at_birth: int = 0
    """Kills within 20 ms of the moment the file of the store appeared."""
    while_writing: int = 0
    """Kills after which the store held more commands than before."""
    unacknowledged: int = 0
    """Kills that left a command committed whose outcome nobody read."""
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
            ("… while new commands were being written", self.while_writing),
            ("… that left a committed but unacknowledged command", self.unacknowledged),
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


class Reference:
    """What every play must come to: an uninterrupted run in memory."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self.lines = lines
        self.file = read_scenario(as_file(lines), "scenario")
        self.outcomes: dict[int, bytes] = {}
        self.receipts: list[Receipt] = []
        self.line_of: list[int] = []
        """The line of each receipt."""
        with_memory = assemble("memory:")
        for played in play(with_memory, self.file):
            self.outcomes[played.line] = outcome_line(played.as_dict())
            receipt = with_memory.store.receipt(lines[played.line - 1]["command_id"])
            if receipt is not None:
                self.receipts.append(receipt)
                self.line_of.append(played.line)
        self.facts = all_facts(with_memory.store)

    def facts_after(self, commands: int) -> int:
        """How many facts the first so many recorded commands leave."""
        return max((receipt.last for receipt in self.receipts[:commands]), default=0)


def outcome_line(outcome: dict[str, Any]) -> bytes:
    """As ``play`` prints it."""
    return to_json(outcome)


def all_facts(store: EventStore) -> list[tuple[object, ...]]:
    """Every fact in order of position, without it."""
    facts: list[tuple[object, ...]] = []
    after = 0
    while page := store.read(after):
        facts += [_without_position(recorded) for recorded in page]
        after = page[-1].position
    return facts


def _without_position(recorded: Recorded) -> tuple[object, ...]:
    place = (recorded.case_id, recorded.case_seq, recorded.stream, recorded.version)
    return (*place, *encode(recorded.fact))


# ---- the process that is killed -----------------------------------------------------------------------------------------


class Player:
    """A process that plays a scenario, and what was read from it."""

    def __init__(self, file: Path, store: Path) -> None:
        # Without a buffer of its own the process hands over every outcome before it takes up the next command.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (read after the process ended)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "returnable.adapters.cli.entry", "play", str(file), "--store", f"sqlite:///{store}"],
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
        """End it if it still runs; whether it did."""
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


# ---- rounds ---------------------------------------------------------------------------------------------------------------


class Harness:
    """Plays, kills and checks until there were enough kills."""

    def __init__(self, folder: Path, seed: int, journeys: int, control: bool) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.control = control
        self.tally = Tally()
        self.reference = Reference(scenario(journeys))
        forgetful = [{k: v for k, v in line.items() if k != "command_id"} for line in self.reference.lines]
        self.first_file = self._write("scenario.jsonl", self.reference.lines)
        self.retry_lines = forgetful if control else self.reference.lines
        self.retry_file = self._write("retry.jsonl", self.retry_lines)
        self.whole_seconds, self.working_seconds = self._time_a_play()

    def _write(self, name: str, lines: list[dict[str, Any]]) -> Path:
        path = self.folder / name
        path.write_bytes(as_file(lines))
        return path

    def _time_a_play(self) -> tuple[float, float]:
        begin = time.monotonic()
        player = Player(self.first_file, self.folder / "timed.db")
        while not player.lines_read and player.process.poll() is None:
            time.sleep(0.0002)
        first = time.monotonic()
        if player.finish() or player.acknowledged() != list(self.reference.outcomes.values()):
            raise SystemExit(f"a play that nobody kills comes to something else: {player.errors()}")
        end = time.monotonic()
        return end - begin, end - first

    def run(self, kills: int) -> Tally:
        """Kill that often, on one store after another."""
        nth = 0
        while self.tally.kills < kills:
            nth += 1
            self._one_store(self.folder / f"store-{nth}.db", kills)
        return self.tally

    def _one_store(self, path: Path, kills: int) -> None:
        acknowledged: dict[int, bytes] = {}
        committed = plays = 0
        while True:
            player = Player(self.retry_file if plays else self.first_file, path)
            if self.tally.kills < kills:
                at_birth = self._wait_for_the_moment(player, path, committed)
                killed = player.kill()
            else:
                at_birth, killed = False, player.finish() < 0
            plays += 1
            self._read_outcomes(player, acknowledged)
            if killed:
                self.tally.kills += 1
                self.tally.at_birth += at_birth
            elif player.process.returncode:
                self.tally.trouble("damaged", f"{path.name} cannot be played on: {player.errors()}")
                return
            before, committed = committed, self._check_copy(path, acknowledged, committed)
            if killed and committed > before:
                self.tally.while_writing += 1
                last_line = self.reference.line_of[committed - 1]
                self.tally.unacknowledged += last_line not in acknowledged
            if not killed:
                self.tally.finished += 1
                self._check_end(path)
                return

    def _wait_for_the_moment(self, player: Player, path: Path, committed: int) -> bool:
        """Mostly while it writes what is new, sometimes anywhere in its run, sometimes just when it makes the file."""
        kind = 1.0 if self.control else self.chance.random()
        if kind < 0.2:
            time.sleep(self.chance.uniform(0, self.whole_seconds))
        elif kind < 0.6 and not path.exists():
            while not path.exists() and player.process.poll() is None:
                time.sleep(0.0002)
            time.sleep(self.chance.uniform(0, 0.02))
            return True
        else:
            old = self.reference.line_of[committed - 1] if committed else 0
            if self.control:  # there has to be something to tell again
                old = max(old, len(self.reference.lines) // 2)
            while player.lines_read <= old and player.process.poll() is None:
                time.sleep(0.0002)
            still_to_come = 1 - old / len(self.reference.lines)
            time.sleep(self.chance.uniform(0, self.working_seconds * still_to_come))
        return False

    def _read_outcomes(self, player: Player, acknowledged: dict[int, bytes]) -> None:
        for line in player.acknowledged():
            number = from_json(line)["line"]
            if line != self.reference.outcomes[number]:
                self.tally.trouble("changed", f"line {number} came to {line.decode()[:300]}")
            acknowledged.setdefault(number, line)

    # ---- checks -----------------------------------------------------------------------------------------------------------

    def _check_copy(self, path: Path, acknowledged: dict[int, bytes], before: int) -> int:
        """Check a store as the kill left it; how many commands it holds."""
        if not path.exists():
            self._look_for(acknowledged, 0)
            return 0
        with tempfile.TemporaryDirectory(dir=self.folder) as copied:
            for suffix in ("", "-wal", "-journal"):
                if os.path.exists(f"{path}{suffix}"):
                    shutil.copy(f"{path}{suffix}", copied)
            copy = Path(copied) / path.name
            try:
                parts = assemble(f"sqlite:///{copy}")
            except Exception as error:
                self.tally.trouble("damaged", f"{path.name} cannot be opened: {error!r}")
                return before
            try:
                committed = self._check_commands(parts.store)
                self._look_for(acknowledged, committed)
                self._retry(parts, committed)
            finally:
                parts.store.close()
            self._check_integrity(copy)
        return committed

    def _check_commands(self, store: EventStore) -> int:
        """The commands and facts must be those of an uninterrupted run, up to the end of some command."""
        expected = self.reference.receipts
        stored = [store.receipt(receipt.command_id) for receipt in expected]
        committed = next((nth for nth, receipt in enumerate(stored) if receipt is None), len(stored))
        if any(receipt is not None for receipt in stored[committed:]):
            self.tally.trouble("half", f"a later command is stored, but not {expected[committed].command_id}")
        for one, other in zip(stored[:committed], expected, strict=False):
            if one is None or _told(one) != _told(other):
                self.tally.trouble("half", f"the receipt {one} should be {other}")
        facts = all_facts(store)
        if facts != self.reference.facts[: self.reference.facts_after(committed)]:
            self.tally.trouble("half", f"{committed} commands, but {len(facts)} facts that do not belong to them")
        for receipt in stored[:committed]:
            if receipt is not None and receipt.last:
                own = store.read(receipt.first - 1, upto=receipt.last)
                if any(entry.fact.command_id != receipt.command_id for entry in own):
                    self.tally.trouble("half", f"the facts of {receipt.command_id} do not stand together")
        return committed

    def _look_for(self, acknowledged: dict[int, bytes], committed: int) -> None:
        stored = set(self.reference.line_of[:committed])
        recorded = [number for number in acknowledged if number in self.reference.line_of]
        self.tally.acknowledged += len(recorded)
        for number in recorded:
            if number not in stored:
                self.tally.trouble("lost", f"line {number} was acknowledged and is not stored")

    def _retry(self, parts: Parts, committed: int) -> None:
        """Everything that is stored is told again: the same outcomes, and not one fact more."""
        if not committed:
            return
        head = parts.store.head()
        told = read_scenario(as_file(self.retry_lines[: self.reference.line_of[committed - 1]]), "retry")
        for played in play(parts, told):
            if outcome_line(played.as_dict()) != self.reference.outcomes[played.line]:
                self.tally.trouble("changed", f"told again, line {played.line} came to {played.as_dict()}"[:400])
        if parts.store.head() != head:
            self.tally.trouble("added", f"telling {committed} commands again", parts.store.head() - head)

    def _check_end(self, path: Path) -> None:
        parts = assemble(f"sqlite:///{path}")
        try:
            committed = self._check_commands(parts.store)
            whole = committed == len(self.reference.receipts) and all_facts(parts.store) == self.reference.facts
            _check_names(parts.store)
        finally:
            parts.store.close()
        self._check_integrity(path)
        if whole:
            self.tally.stores += 1
        else:
            self.tally.trouble("half", f"{path.name} at its end is not what an uninterrupted run leaves")
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()

    def _check_integrity(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        answer = connection.execute("PRAGMA integrity_check").fetchall()
        connection.close()
        if answer != [("ok",)]:
            self.tally.trouble("damaged", f"{path.name}: {answer[:3]}")


def _told(receipt: Receipt) -> tuple[object, ...]:
    """A receipt without its positions."""
    count = receipt.last - receipt.first
    return receipt.command_id, receipt.digest, receipt.command, receipt.at, receipt.outcome, count


def _check_names(store: EventStore) -> None:
    for case_id, recorded in store.cases():
        for entry in recorded:
            if entry.fact.type in ("ReturnRequested", "ClaimOpened", "RefundRequested"):
                kind: Any = {"ReturnR": "return", "ClaimOp": "claim", "RefundR": "refund"}[entry.fact.type[:7]]
                name = getattr(entry.fact, f"{kind}_id")
                assert store.case_of(kind, name) == case_id, (kind, name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, check, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="how many kills")
    parser.add_argument("--journeys", type=int, default=44, help="how many customers the scenario tells of")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store-dir", type=Path, help="where the stores are made (default: the temporary folder)")
    parser.add_argument(
        "--control",
        action="store_true",
        help="retry without command ids: shows that the harness finds trouble, exits 1",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="returnable-kill-", dir=options.store_dir) as folder:
        harness = Harness(Path(folder), options.seed, options.journeys, options.control)
        print(f"{len(harness.reference.lines)} lines, {len(harness.reference.facts)} facts in a play\n", flush=True)
        tally = harness.run(options.rounds)
    print(tally.summary())
    for kind in ("lost", "half", "changed", "added", "damaged"):
        for trouble in [text for text in tally.troubles if text.startswith(f"{kind}: ")][:SHOWN]:
            print(f"trouble: {trouble}")
    return 1 if tally.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
