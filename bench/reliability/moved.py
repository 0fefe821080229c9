"""``python -m bench.reliability.moved``: a store's files are removed, renamed or replaced while a desk writes to them.

In each round a process gives commands in several threads, and writes down which of them were acknowledged. At a random moment
the file, one of the two that SQLite keeps beside it, or the folder is moved. From then on the desk must refuse: what it
acknowledges must be in the file that the path leads to. Then the process closes the desk, opens another one and goes on.

The control leaves out that a desk looks whether its files are still there.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from unittest.mock import patch

import returnable
from bench.reliability.forks import ORDER, ends_here
from bench.speed.measure import table
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.sqlite_file import SQLiteFile
from returnable.domain.errors import StoreBusy, StoreUnusable

PATIENCE_SECONDS = 60.0

SHOWN = 5

TROUBLES = (
    "acknowledged orders that cannot be found",
    "unclear refusals",
    "desks that went on",
    "desks that could not go on",
)


def _replace(path: Path) -> None:
    other = path.with_name("other.db")
    returnable.open(f"sqlite:///{other}").close()
    for name in ("-wal", "-shm"):
        path.with_name(f"{path.name}{name}").unlink(missing_ok=True)
    other.rename(path)


def _point_elsewhere(path: Path) -> None:
    path.rename(path.with_name("real.db"))
    path.symlink_to(path.with_name("other.db"))


def _remove_all(path: Path) -> None:
    for name in ("", "-wal", "-shm"):
        path.with_name(f"{path.name}{name}").unlink(missing_ok=True)


KINDS: dict[str, Callable[[Path], object]] = {
    "file removed": lambda path: path.unlink(),
    "file and those beside it removed": _remove_all,
    "file renamed": lambda path: path.rename(path.with_name("renamed.db")),
    "file replaced": _replace,
    "file replaced by a link": _point_elsewhere,
    "folder renamed": lambda path: path.parent.rename(path.parent.with_name("renamed")),
    "-wal removed": lambda path: path.with_name(f"{path.name}-wal").unlink(),
    "-wal renamed": lambda path: path.with_name(f"{path.name}-wal").rename(path.with_name("wal")),
    "-shm removed": lambda path: path.with_name(f"{path.name}-shm").unlink(),
}


class Host:
    """The process that gives commands."""

    def __init__(self, path: Path, ledger: Path, threads: int) -> None:
        self.path, self.threads = path, threads
        self._stop = ledger.with_suffix(".stop")
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str) -> None:
        """Write a line to the ledger."""
        os.write(self._ledger, f"{what}\n".encode())

    def live(self) -> None:
        """Give commands until the desk refuses, then go on with another desk."""
        desk = returnable.open(f"sqlite:///{self.path}")
        threads = [threading.Thread(target=self._give, args=(desk, f"thread-{nth}")) for nth in range(self.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        desk.close()
        if self.path.parent.exists():
            try:
                with returnable.open(f"sqlite:///{self.path}") as desk:
                    for nth in range(3):
                        desk.confirm_order(order_id=f"again.{nth}", **ORDER)
                        self.note(f"acknowledged again {nth}")
            except Exception as error:
                self.note(f"stuck {type(error).__name__}: {error}")

    def _give(self, desk: returnable.Desk, name: str) -> None:
        number = 0
        while not self._stop.exists():
            number += 1
            try:
                desk.confirm_order(order_id=f"{name}.{number}", **ORDER)
                self.note(f"acknowledged {name} {number}")
                if number % 5 == 0:
                    desk.order(order_id=f"{name}.{number}")
            except StoreBusy:
                self.note("busy")
            except StoreUnusable as error:
                self.note("refused" if "removed, renamed or replaced" in str(error) else f"unclear {error}")
                return
            except Exception as error:
                self.note(f"unclear {type(error).__name__}: {error}")
                return
        self.note("went on")


def run(folder: Path, *, rounds: int, seed: int = 1, control: bool = False) -> tuple[Counter[str], list[str]]:
    """So many rounds, each kind in its turn; what was counted, and some troubles in words."""
    tally: Counter[str] = Counter()
    shown: list[str] = []
    with ExitStack() as stack:
        if control:
            for name in ("check", "check_before_opening"):
                stack.enter_context(patch.object(SQLiteFile, name, lambda self, *files: None))
        for nth in range(rounds):
            kind = [*KINDS][nth % len(KINDS)]
            place = folder / str(nth)
            _round(place, kind, random.Random(f"{seed}-{nth}"), tally, shown)
            shutil.rmtree(place)
    return tally, shown


def _round(place: Path, kind: str, dice: random.Random, tally: Counter[str], shown: list[str]) -> None:
    path, ledger, threads = place / "stores" / "shop.db", place / "ledger", dice.choice((1, 1, 3))
    path.parent.mkdir(parents=True)
    pid = os.fork()
    if pid == 0:
        with ends_here():
            Host(path, ledger, threads).live()
    _wait_until(lambda: _count(ledger) >= dice.randint(1, 40))
    kept = place / "kept"
    kept.mkdir()
    for name in ("shop.db", "shop.db-wal"):
        os.link(path.with_name(name), kept / name)
    with ledger.open("ab", buffering=0) as lines:
        KINDS[kind](path)
        lines.write(b"moved\n")
    before = _count(ledger)
    with suppress(TimeoutError):
        _wait_until(
            lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) or _count(ledger) > before + 40
        )
    ledger.with_suffix(".stop").touch()
    os.waitpid(pid, 0)
    tally[kind] += 1
    _look(path, kept, kind, ledger.read_text().splitlines(), tally, shown)


def _look(path: Path, kept: Path, kind: str, lines: list[str], tally: Counter[str], shown: list[str]) -> None:
    here = _orders(path)
    before = here if kind.startswith("-") else here | _orders(kept / "shop.db")
    moved, late = False, set[str]()
    for line in lines:
        what, _, rest = line.partition(" ")
        if what == "moved":
            moved = True
        elif what == "acknowledged":
            tally["acknowledged orders"] += 1
            name, _, number = rest.partition(" ")
            # The file may have been moved between the last look and the line in the ledger, once for each thread.
            found = here if moved and (name in late or name == "again") else before
            late |= {name} if moved else set()
            if f"{name}.{number}" not in found:
                tally["acknowledged orders that cannot be found"] += 1
                shown.append(f"{kind}: {name}.{number} was acknowledged and cannot be found")
        elif what == "refused":
            tally["refusals"] += 1
        elif what in {"unclear", "stuck", "went"}:
            tally[{"unclear": TROUBLES[1], "went": TROUBLES[2], "stuck": TROUBLES[3]}[what]] += 1
            shown.append(f"{kind}: {line}")


def _orders(path: Path) -> set[str]:
    if not path.exists():
        return set()
    with closing(open_store(f"sqlite:///{path}")) as store:
        return {case_id for case_id, _ in store.cases()}


def _count(ledger: Path) -> int:
    return ledger.read_bytes().count(b"acknowledged") if ledger.exists() else 0


def _wait_until(come: Callable[[], object]) -> None:
    for _ in range(int(PATIENCE_SECONDS / 0.005)):
        if come():
            return
        time.sleep(0.005)
    raise TimeoutError("the process that gives commands does nothing")


def main(arguments: Sequence[str] | None = None) -> int:
    """Move, compare, print; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.moved", description=__doc__)
    parser.add_argument("--rounds", type=int, default=270)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", action="store_true", help="with the look left out: must find trouble, exits 1")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="returnable-moved-") as folder:
        tally, shown = run(Path(folder), rounds=options.rounds, seed=options.seed, control=options.control)
    counts = {**dict(sorted(tally.items())), **{name: tally[name] for name in TROUBLES}}
    print(table(("What", "Count"), [(name, f"{count:,}") for name, count in counts.items()]))
    for line in shown[:SHOWN]:
        print(f"trouble: {line}")
    return 1 if any(tally[name] for name in TROUBLES) else 0


if __name__ == "__main__":
    sys.exit(main())
