"""Processes that write to a store and processes that follow it, for tests of what a follower sees.

``python tailing.py write URL NAME EVENTS`` appends facts to a case of its own, and now and then races for a case that all
writers share. ``python tailing.py tail URL NAME EVENTS`` follows until it saw so many facts, and prints a line for each.
"""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime
from typing import Any

from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.store import FactStore
from returnable.domain.errors import Stale
from returnable.domain.events import AccountLinked
from returnable.domain.ports import Batch, Entry

MOMENT = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
SHARED = "shared"


def _batch(case_id: str, after: int, texts: list[str]) -> Batch:
    facts = (AccountLinked(occurred_at=MOMENT, recorded_at=MOMENT, account_id=text) for text in texts)
    return Batch(case_id, after, tuple(Entry(f"order/{case_id}", after + n, fact) for n, fact in enumerate(facts, 1)))


def _opened(url: str) -> FactStore:
    store = open_store(url)
    print("opened", flush=True)
    return store


def write(url: str, name: str, events: int) -> None:
    """Write so many facts: each one says whose it is and the how many-th, so that none can hide or come twice."""
    chance = random.Random(name)
    store = _opened(url)
    own = told = 0
    while told < events:
        size = min(chance.randint(1, 9), events - told)
        texts = [f"{name}-{n}" for n in range(told, told + size)]
        if chance.random() < 0.1:
            while True:
                try:
                    store.append([_batch(SHARED, len(store.load(SHARED)), texts)])
                    break
                except Stale:
                    continue
        else:
            store.append([_batch(name, own, texts)])
            own += size
        told += size
    store.close()


def tail(url: str, events: int) -> None:
    """Print place, stream, version and text of each fact."""
    store = _opened(url)
    with store.follow() as facts:
        for nth, one in enumerate(facts, start=1):
            fact: Any = one.fact
            print(one.position, one.stream, one.version, fact.account_id)
            if nth == events:
                break
    store.close()


if __name__ == "__main__":
    what, where, whose, count = sys.argv[1:]
    if what == "write":
        write(where, whose, int(count))
    else:
        tail(where, int(count))
