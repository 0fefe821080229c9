"""Processes that ``kills`` kills.

``kills_worker URL CONTROL THREADS CUSTOMERS POINT NTH``: every thread gives the commands of its share of the customers, from
the top, and each answer is a line on stdout before the next command is given. At the ``NTH`` time it comes to ``POINT`` with
a command that was not on record when it came, the process ends by SIGKILL; ``-`` is no point. ``CONTROL`` is ``-``; or a
mistake that must be noticed: ``without-ids`` gives commands without ids, ``split`` appends in two transactions.

``kills_worker STORE VIEWS``: a projector that makes a mistake, in place of ``returnable project --follow``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from bench.proofs.journeys import journey
from bench.proofs.mutants import Mutants
from bench.proofs.processes import in_threads
from bench.proofs.reference import without_ids
from returnable.adapters.eventstore import sqlite
from returnable.adapters.eventstore.open import on_a_server
from returnable.adapters.eventstore.sql import SqlStore
from returnable.adapters.scenario import play
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import Services, assemble, projector
from returnable.domain.errors import CommandSeen, NameTaken
from returnable.domain.ports import Batch, CommandReceipt, ReservedId
from returnable.projections.ports import Changes, Mark

IN_A_FILE = ("decided", "inserted", "committing", "committed", "unanswered")
"""Points of an append to a file: nothing is written; facts are, in a transaction; it is complete, but not committed; it is
committed; the desk knows, and nobody else."""

ON_A_SERVER = ("decided", "sent", "committed", "unanswered")
"""The same on a server. ``sent``: one append alone is committed by then; in a batch, nobody knows."""


class Points:
    """Where the process dies."""

    def __init__(self, point: str, nth: int) -> None:
        self._point, self._left = point, nth
        self._lock = threading.Lock()
        self._armed = threading.Event()

    def arm(self) -> None:
        """From here on something new is written."""
        self._armed.set()

    def reach(self, point: str) -> None:
        """Die here, if this is the place and the time."""
        if point == self._point and self._armed.is_set():
            with self._lock:
                self._left -= 1
                if not self._left:
                    os.kill(os.getpid(), signal.SIGKILL)

    def after(self, point: str, done: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, after which the point is reached."""

        def and_reach(*values: Any, **named: Any) -> Any:
            result = done(*values, **named)
            self.reach(point)
            return result

        return and_reach


def set_points(points: Points, url: str) -> None:
    """Put the points into the library of this process."""
    append = SqlStore.append

    def watched(
        self: SqlStore, batches: Sequence[Batch], *, receipt: CommandReceipt | None = None, **others: Any
    ) -> Sequence[int]:
        if receipt is not None and self.receipt(receipt.command_id) is None:
            points.arm()
        points.reach("decided")
        positions = append(self, batches, receipt=receipt, **others)
        points.reach("unanswered")
        return positions

    replaced: Any = SqlStore
    replaced.append = watched
    if on_a_server(url):
        from returnable.adapters.eventstore import postgres

        recorder: Any = postgres
        recorder._execute = points.after("sent", recorder._execute)
        recorder.PostgresStore._append_all = points.after("committed", recorder.PostgresStore._append_all)
    else:
        recorder = sqlite
        change = recorder._Tables.change

        def watched_change(self: Any, work: Callable[[Any], Any]) -> Any:
            result = change(self, points.after("committing", work))
            points.reach("committed")
            return result

        recorder._insert = points.after("inserted", recorder._insert)
        recorder._Tables.change = watched_change


CONTROLS = Mutants()


@CONTROLS.replaces(SqlStore, "append")
def split(
    append: Any,
    self: SqlStore,
    batches: Sequence[Batch],
    *,
    reserved_ids: Sequence[ReservedId] = (),
    receipt: CommandReceipt | None = None,
    **others: Any,
) -> Sequence[int]:
    """The first fact of a command goes into a transaction of its own."""
    if len(batches) != 1 or len(batches[0].entries) < 2:
        positions: Sequence[int] = append(self, batches, reserved_ids=reserved_ids, receipt=receipt, **others)
        return positions
    if receipt is not None and self.receipt(receipt.command_id) is not None:
        raise CommandSeen(receipt.command_id)
    for name in reserved_ids:
        if self.case_of(name.kind, name.name) is not None:
            raise NameTaken(name.kind, name.name)
    (batch,) = batches
    begun = append(self, [Batch(batch.case_id, batch.after, batch.entries[:1])])
    rest = Batch(batch.case_id, batch.after + 1, batch.entries[1:])
    return [*begun, *append(self, [rest], reserved_ids=reserved_ids, receipt=receipt)]


def _serve(services: Services, customers: range, control: str) -> None:
    for customer in customers:
        lines = without_ids(journey(customer)) if control == "without-ids" else journey(customer)
        for number, line in enumerate(lines, start=1):
            (played,) = play(services, [(number, to_json(line))])
            # One call for a whole line: nobody else's comes in between.
            os.write(sys.stdout.fileno(), to_json({"customer": customer} | played.as_dict()) + b"\n")


def serve(url: str, control: str, threads: int, customers: int, point: str, nth: int) -> None:
    with CONTROLS.switched_on("split" if control == "split" else None):
        if point != "-":
            set_points(Points(point, nth), url)
        services = assemble(url)
        with closing(services.store):
            in_threads(partial(_serve, services, range(first, customers, threads), control) for first in range(threads))


class PositionFirst(SQLiteViews):
    """The mistake: the position is durable before its rows are."""

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


def follow(store: str, views: str) -> None:
    services = assemble(f"sqlite:///{store}", create=False)
    projector(services, PositionFirst(Path(views))).follow(lambda: time.sleep(0.01), lambda: False)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        follow(sys.argv[1], sys.argv[2])
    else:
        serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], int(sys.argv[6]))
