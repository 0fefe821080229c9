"""A process that writes to a store, or one that follows it, for proofs of what a follower sees.

``write URL NAME EVENTS RACES`` appends so many facts to cases of its own, a few at a time. With the probability ``RACES``
it appends to a case that all writers share and has to race for. ``tail URL`` prints a line for each fact until the last.
``write-unordered PATH NAME EVENTS`` writes to an SQLite file without its order: see :mod:`bench.proofs.unordered`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from bench.proofs.unordered import UnorderedFile
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.errors import Stale
from returnable.domain.events import AccountLinked
from returnable.domain.ports import Batch, Entry, Recorded

MOMENT = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)

CASE_SIZE = 200
"""After about so many facts a new case begins: no order has more, and what is loaded to race for one stays small."""

MOST_AT_ONCE = 9

LAST = "last"
"""The case that ends the following."""


def batch(case_id: str, after: int, texts: list[str]) -> Batch:
    """The next facts of a case."""
    events = (AccountLinked(occurred_at=MOMENT, recorded_at=MOMENT, account_id=text) for text in texts)
    return Batch(
        case_id, after, tuple(Entry(f"order/{case_id}", after + n, event) for n, event in enumerate(events, 1))
    )


def line_of(one: Recorded) -> str:
    """What is printed of a fact: its position, stream, version and text."""
    event: Any = one.event
    return f"{one.position} {one.stream} {one.version} {event.account_id}"


def told(name: str, events: int, chance: random.Random) -> Iterator[list[str]]:
    """The texts of each append: each one says whose it is and the how many-th, so that none can hide or come twice."""
    nth = 0
    while nth < events:
        size = min(chance.randint(1, MOST_AT_ONCE), events - nth)
        yield [f"{name}-{n}" for n in range(nth, nth + size)]
        nth += size


def _write(url: str, name: str, events: int, races: float) -> None:
    chance = random.Random(name)
    with closing(_opened(url)) as store:
        own, known, shared = 1, 0, 1
        for texts in told(name, events, chance):
            if chance.random() < races:
                shared = _race(store, shared, texts)
                continue
            store.append([batch(f"{name}-{own}", known, texts)])
            known += len(texts)
            if known >= CASE_SIZE:
                own, known = own + 1, 0


def _race(store: CaseStore, nth: int, texts: list[str]) -> int:
    """Append to the shared case; which one that was."""
    while True:
        known = len(store.load(f"shared-{nth}"))
        if known >= CASE_SIZE:
            nth += 1
            continue
        try:
            store.append([batch(f"shared-{nth}", known, texts)])
        except Stale:
            continue
        return nth


def _write_unordered(path: str, name: str, events: int) -> None:
    with closing(UnorderedFile(path)) as file:
        print("opened", flush=True)
        for nth, texts in enumerate(told(name, events, random.Random(name)), start=1):
            file.append(batch(f"{name}-{nth}", 0, texts))


def _tail(url: str) -> None:
    with closing(_opened(url)) as store, store.follow() as events:
        for one in events:
            if one.case_id == LAST:
                break
            print(line_of(one))


def _opened(url: str) -> CaseStore:
    store = open_store(url)
    print("opened", flush=True)
    return store


def main(what: str, where: str, *more: str) -> None:
    if what == "tail":
        _tail(where)
    elif what == "write":
        name, events, races = more
        _write(where, name, int(events), float(races))
    else:
        name, events = more
        _write_unordered(where, name, int(events))


if __name__ == "__main__":
    main(*sys.argv[1:])
