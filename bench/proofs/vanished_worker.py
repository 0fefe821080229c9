"""A host that is about to vanish: ``URL POINT`` works on a store until it is at that point, says so, and waits for its end.

``control`` behind them leaves the server's end of its connections as PostgreSQL sets it by itself.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg

from bench.proofs.mutants import Mutants
from bench.proofs.tailing_worker import MOMENT, batch
from returnable.adapters.eventstore import postgres, postgres_connections
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.store import CaseStore

BOOKMARK = "the books"

THREADS = 8
"""So many threads append at the same time, so that some of their appends are committed together."""


def _vanish() -> None:
    print("here", flush=True)
    threading.Event().wait()


POINTS = Mutants()
"""Where a host vanishes."""


@POINTS.replaces(postgres, "_execute")
def between_two_appends(execute: Any, connection: Any, append: Any) -> Any:
    cursor = execute(connection, append)
    if connection.pgconn.pipeline_status:
        _vanish()
    return cursor


@POINTS.replaces(psycopg.Connection, "execute")
def before_the_commit(execute: Any, self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
    if query == b"COMMIT":
        _vanish()
    return execute(self, query, *arguments, **options)


@POINTS.replaces(postgres._Statements, "execute")
def in_the_bookkeeping(execute: Any, self: Any, query: str, *values: Any) -> Any:
    found = execute(self, query, *values)
    if "bookmarks" in query:
        _vanish()
    return found


def _write(store: CaseStore, name: str) -> None:
    for nth in range(1_000_000):
        store.append([batch(name, nth, ["x"])])


def main(url: str, point: str, *control: str) -> None:
    if control:
        postgres_connections._against_vanishing = lambda connection, limits: {}
    with closing(open_store(url)) as store:
        store.checkpoints.acquire(BOOKMARK, "before", now=MOMENT, until=MOMENT)
        with POINTS.switched_on(point):
            if point == "in-the-bookkeeping":
                store.checkpoints.acquire(BOOKMARK, "vanishing", now=MOMENT, until=MOMENT + timedelta(seconds=1))
            for nth in range(THREADS):
                threading.Thread(target=_write, args=(store, f"vanishing-{os.getpid()}-{nth}"), daemon=True).start()
            threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
