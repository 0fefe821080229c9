"""SQLite files as the proofs look at them from outside, and ledgers of what processes were answered."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bench.speed.lifecycle import lifecycle
from returnable.adapters.eventstore.open import open_store

ORDER: dict[str, Any] = {
    name: value for name, value in lifecycle("1")[0][1].items() if name in ("customer", "currency", "lines", "payments")
}
"""An order, without its id."""


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """A copy of a file as it was left, so that the next process finds it unchanged."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for suffix in ("", "-wal", "-journal"):
            if os.path.exists(f"{path}{suffix}"):
                shutil.copy(f"{path}{suffix}", folder)
        yield Path(folder) / path.name


def damage_in(path: Path) -> str | None:
    """What SQLite finds wrong with a file; ``None`` for nothing."""
    with closing(sqlite3.connect(path)) as connection:
        answer = connection.execute("PRAGMA integrity_check").fetchall()
    return None if answer == [("ok",)] else f"{path.name}: {answer[:3]}"


def orders_in(path: Path) -> set[str]:
    """The ids of the orders in a file, if there is one."""
    if not path.exists():
        return set()
    with closing(open_store(f"sqlite:///{path}")) as store:
        return {case_id for case_id, _ in store.cases()}


class Ledger:
    """A file to which any number of processes write lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, what: str) -> None:
        """Add a line; other processes may add theirs at the same time."""
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{what}\n".encode())
        os.close(file)

    def lines(self) -> list[tuple[str, str]]:
        """The first word of every line, and the rest of it."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [(what, rest) for what, _, rest in (line.partition(" ") for line in lines)]

    def acknowledged(self) -> int:
        """How many lines say that a command was acknowledged."""
        return sum(what == "acknowledged" for what, _ in self.lines())
