"""``python -m bench.proofs.moved``: a store's files are removed, renamed or replaced while a desk writes to them.

In each round a process gives commands in several threads, and writes down which of them were acknowledged. At a random moment
the file, one of the two that SQLite keeps beside it, or the folder is moved. From then on the desk must refuse: what it
acknowledges must be in the file that the path leads to. Then the process closes the desk, opens another one and goes on.

The control leaves out that a desk looks whether its files are still there.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import returnable
from bench.proofs.files import ORDER, Ledger, orders_in
from bench.proofs.mutants import Mutants
from bench.proofs.processes import forked, in_threads
from bench.proofs.proof import Proof, Run, Tally, counted, counted_each, main
from returnable.adapters.eventstore.sqlite_file import SQLiteFile
from returnable.domain.errors import StoreBusy, StoreUnusable

PATIENCE_SECONDS = 60.0


@dataclass
class Moved(Tally):
    """What came of it."""

    kinds: Counter[str] = counted_each("{}")
    acknowledged: int = counted("acknowledged orders")
    refusals: int = counted("refusals")
    lost: int = counted("acknowledged orders that cannot be found")
    unclear: int = counted("unclear refusals")
    went: int = counted("desks that went on")
    stuck: int = counted("desks that could not go on")


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
    """The process that gives commands, until there is a file at ``stop``."""

    def __init__(self, path: Path, ledger: Ledger, stop: Path, threads: int) -> None:
        self.path, self.ledger, self.stop, self.threads = path, ledger, stop, threads

    def live(self) -> None:
        """Give commands until the desk refuses, then go on with another desk."""
        desk = returnable.open(f"sqlite:///{self.path}")
        in_threads(partial(self._give, desk, f"thread-{nth}") for nth in range(self.threads))
        desk.close()
        if self.path.parent.exists():
            try:
                with returnable.open(f"sqlite:///{self.path}") as desk:
                    for nth in range(3):
                        desk.confirm_order(order_id=f"again.{nth}", **ORDER)
                        self.ledger.note(f"acknowledged again {nth}")
            except Exception as error:
                self.ledger.note(f"stuck {type(error).__name__}: {error}")

    def _give(self, desk: returnable.Desk, name: str) -> None:
        number = 0
        while not self.stop.exists():
            number += 1
            try:
                desk.confirm_order(order_id=f"{name}.{number}", **ORDER)
                self.ledger.note(f"acknowledged {name} {number}")
                if number % 5 == 0:
                    desk.order(order_id=f"{name}.{number}")
            except StoreBusy:
                self.ledger.note("busy")
            except StoreUnusable as error:
                self.ledger.note("refused" if "removed, renamed or replaced" in str(error) else f"unclear {error}")
                return
            except Exception as error:
                self.ledger.note(f"unclear {type(error).__name__}: {error}")
                return
        self.ledger.note("went on")


def _round(run: Run, nth: int, tally: Moved) -> None:
    kind, dice = [*KINDS][nth % len(KINDS)], random.Random(f"{run.seed}-{nth}")
    with run.new_folder(nth) as place:
        path, ledger, stop = place / "stores" / "shop.db", Ledger(place / "ledger"), place / "stop"
        path.parent.mkdir(parents=True)
        pid = forked(Host(path, ledger, stop, dice.choice((1, 1, 3))).live)
        _wait_until(lambda: ledger.acknowledged() >= dice.randint(1, 40))
        kept = place / "kept"
        kept.mkdir()
        for name in ("shop.db", "shop.db-wal"):
            os.link(path.with_name(name), kept / name)
        KINDS[kind](path)
        ledger.note("moved")
        before = ledger.acknowledged()
        with suppress(TimeoutError):
            _wait_until(
                lambda: (
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    or ledger.acknowledged() > before + 40
                )
            )
        stop.touch()
        os.waitpid(pid, 0)
        tally.kinds[kind] += 1
        _look(path, kept, kind, ledger.lines(), tally)


def _look(path: Path, kept: Path, kind: str, lines: list[tuple[str, str]], tally: Moved) -> None:
    here = orders_in(path)
    before = here if kind.startswith("-") else here | orders_in(kept / "shop.db")
    moved, late = False, set[str]()
    for what, rest in lines:
        if what == "moved":
            moved = True
        elif what == "acknowledged":
            tally.acknowledged += 1
            name, _, number = rest.partition(" ")
            # The file may have been moved between the last look and the line in the ledger, once for each thread.
            found = here if moved and (name in late or name == "again") else before
            late |= {name} if moved else set()
            if f"{name}.{number}" not in found:
                tally.trouble("lost", f"{kind}: {name}.{number} was acknowledged and cannot be found")
        elif what == "refused":
            tally.refusals += 1
        elif what != "busy":
            tally.trouble(what, f"{kind}: {rest}")


def _wait_until(come: Callable[[], object]) -> None:
    for _ in range(int(PATIENCE_SECONDS / 0.005)):
        if come():
            return
        time.sleep(0.005)
    raise TimeoutError("the process that gives commands does nothing")


CONTROLS = Mutants()


@CONTROLS.register
def _not_looked_for(patches: ExitStack) -> None:
    """A desk does not look whether its files are still there."""
    for name in ("check", "check_before_opening"):
        patches.enter_context(patch.object(SQLiteFile, name, lambda self, *files: None))


def moved(run: Run) -> Moved:
    """Move files, in each way in turn."""
    tally = Moved()
    for nth in range(run.rounds):
        _round(run, nth, tally)
    return tally


if __name__ == "__main__":
    main(Proof(moved, rounds=270, controls=CONTROLS))
