"""The same ten steps as others would write them, beside the same raw limit: tables of one's own, and the library alone.

Both only look whether the state allows the step. There is no policy, no deadline, no ruling, and a step that is repeated
happens twice: what is compared is what the ledger costs, not what it gives.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from bench.speed.lifecycle import Block, in_blocks, row_of
from bench.speed.measure import Measured, Row, Sizes, seconds, show
from bench.speed.raw import RawLog

_STEPS = (
    ("order", "nothing", "confirmed"),
    ("order", "confirmed", "shipped"),
    ("order", "shipped", "delivered"),
    ("return", "nothing", "authorized"),
    ("return", "authorized", "labelled"),
    ("return", "labelled", "in_transit"),
    ("return", "in_transit", "received"),
    ("return", "received", "inspected"),
    ("return", "inspected", "refund_requested"),
    ("return", "refund_requested", "refunded"),
)
"""Of what kind the subject is, the state the step needs, and the state it leads to."""

_DETAILS = {
    "customer": {"customer_id": "c-1", "account_id": "acc-1"},
    "lines": [{"line_id": "1", "sku": "SKU-1", "unit_price": "750.00", "quantity": 1, "tax": "66.56"}],
    "payments": [{"payment_id": "p-1", "method": "card", "amount": "816.56"}],
    "at": "2026-03-02T15:00:00Z",
}
"""About as much as a fact says on average."""


def others(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """One client, step by step, each durable when the next begins."""
    yield _measured(sizes, "tables of one's own with an audit table", _in_tables(folder / "tables.db"), folder)
    with Shop(env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "library.db")}) as shop:
        yield _measured(sizes, "`eventsourcing` as documented", shop.step, folder)


Step = Callable[[str, str, str, str], None]


def _measured(sizes: Sizes, name: str, step: Step, folder: Path) -> Row:
    payload = json.dumps(_DETAILS).encode()

    def take(numbers: list[str]) -> None:
        for number in numbers:
            for kind, before, after in _STEPS:
                step(kind, number, before, after)

    with closing(RawLog(folder / f"raw-{len(name)}.db")) as log:

        def block(numbers: list[str]) -> Block:
            payloads = [payload] * (len(numbers) * len(_STEPS))
            return [seconds(partial(take, numbers))], [seconds(partial(log.insert_each, payloads))]

        blocks = in_blocks(sizes.command_blocks, sizes.lifecycles_in_block, block)
    return row_of(f"for comparison: {name}, SQLite FULL, 1 client", "–", blocks, sizes.lifecycles_in_block)


# ---- tables of one's own ------------------------------------------------------------------------------------------------


def _in_tables(path: Path) -> Step:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE subjects (kind TEXT, id TEXT, status TEXT NOT NULL, details TEXT NOT NULL, PRIMARY KEY (kind, id))"
    )
    connection.execute(
        "CREATE TABLE audit (id INTEGER PRIMARY KEY, kind TEXT, subject TEXT, before TEXT, after TEXT, details TEXT)"
    )
    connection.execute("CREATE INDEX audit_by_subject ON audit (kind, subject)")
    execute = connection.execute

    def step(kind: str, number: str, before: str, after: str) -> None:
        details = json.dumps(_DETAILS)
        execute("BEGIN IMMEDIATE")
        row = execute("SELECT status FROM subjects WHERE kind = ? AND id = ?", (kind, number)).fetchone()
        assert (row[0] if row else "nothing") == before
        if row is None:
            execute("INSERT INTO subjects VALUES (?, ?, ?, ?)", (kind, number, after, details))
        else:
            execute("UPDATE subjects SET status = ? WHERE kind = ? AND id = ?", (after, kind, number))
        execute(
            "INSERT INTO audit (kind, subject, before, after, details) VALUES (?, ?, ?, ?, ?)",
            (kind, number, before, after, details),
        )
        execute("COMMIT")

    return step


# ---- the event store library alone ----------------------------------------------------------------------------------------


class Subject(Aggregate):
    """An order or a return, as the library's tutorial writes aggregates."""

    @event("Begun")
    def __init__(self, status: str, details: dict[str, object]) -> None:
        self.status = status
        self.details = details

    @event("Moved")
    def move(self, after: str, details: dict[str, object]) -> None:
        """Take the next step."""
        self.status = after
        self.details = details


class Shop(Application):
    """Loads, changes and saves aggregates."""

    def __init__(self, env: dict[str, str]) -> None:
        super().__init__(env)
        self._ids: dict[tuple[str, str], object] = {}

    def step(self, kind: str, number: str, before: str, after: str) -> None:
        """One durable step of one subject."""
        known = self._ids.get((kind, number))
        if known is None:
            subject = Subject(status=after, details=_DETAILS)
            self._ids[kind, number] = subject.id
        else:
            subject = self.repository.get(known)  # type: ignore[arg-type]
            assert subject.status == before
            subject.move(after=after, details=_DETAILS)
        self.save(subject)


ROWS: dict[str, Measured] = {"others": others}

if __name__ == "__main__":
    show("python -m bench.speed.beside", ROWS, __doc__)
