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

from bench.proofs.tailing_worker import MOMENT, batch
from returnable.adapters.eventstore import postgres, postgres_connections
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.store import FactStore

BOOKMARK = "the books"

THREADS = 8
"""So many threads append at the same time, so that some of their appends are committed together."""


def _vanish() -> None:
    print("here", flush=True)
    threading.Event().wait()


def _between_two_appends() -> None:
    execute = postgres._execute

    def vanish_after_one(connection: Any, append: Any) -> Any:
        cursor = execute(connection, append)
        if connection.pgconn.pipeline_status:
            _vanish()
        return cursor

    postgres._execute = vanish_after_one


def _before_the_commit() -> None:
    execute = psycopg.Connection.execute

    def vanish_before_commit(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if query == b"COMMIT":
            _vanish()
        return execute(self, query, *arguments, **options)

    psycopg.Connection.execute = vanish_before_commit  # type: ignore[method-assign]


def _in_the_books() -> None:
    execute = postgres._Statements.execute

    def vanish_after_one(self: Any, query: str, *values: Any) -> Any:
        found = execute(self, query, *values)
        if "bookmarks" in query:
            _vanish()
        return found

    postgres._Statements.execute = vanish_after_one  # type: ignore[assignment, method-assign]


POINTS = {
    "between two appends of a batch": _between_two_appends,
    "before the COMMIT of a batch": _before_the_commit,
    "in a transaction of the bookkeeping": _in_the_books,
}


def _write(store: FactStore, name: str) -> None:
    for nth in range(1_000_000):
        store.append([batch(name, nth, ["x"])])


def main(url: str, point: str, *control: str) -> None:
    if control:
        postgres_connections._against_vanishing = lambda connection, limits: {}
    with closing(open_store(url)) as store:
        store.bookmarks.hold(BOOKMARK, "before", now=MOMENT, until=MOMENT)
        POINTS[point]()
        if "bookkeeping" in point:
            store.bookmarks.hold(BOOKMARK, "vanishing", now=MOMENT, until=MOMENT + timedelta(seconds=1))
        for nth in range(THREADS):
            threading.Thread(target=_write, args=(store, f"vanishing-{os.getpid()}-{nth}"), daemon=True).start()
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
