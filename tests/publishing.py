"""What tests of publishing share: stores with known facts, bookmarks, and a broker that goes wrong as it is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from returnable.adapters.eventstore.open import open_store
from returnable.adapters.eventstore.store import CaseStore
from returnable.adapters.publishing.broker import BrokerFailed, Message
from returnable.domain.events import AccountLinked
from returnable.domain.ports import Batch, Entry

MOMENT = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
SOURCE = "/shops/test"


def append(store: CaseStore, case_id: str, *streams: str) -> None:
    """One fact for each stream named, in that order, to a case."""
    known = store.load(case_id)
    versions: dict[str, int] = {}
    for one in known:
        versions[one.stream] = one.version
    entries = []
    for stream in streams:
        versions[stream] = versions.get(stream, 0) + 1
        text = f"{stream}-{versions[stream]}"
        event = AccountLinked(occurred_at=MOMENT, recorded_at=MOMENT + timedelta(hours=1), account_id=text)
        entries.append(Entry(stream, versions[stream], event))
    store.append([Batch(case_id, len(known), tuple(entries))])


def a_store(*cases: tuple[str, int], url: str = "memory:") -> CaseStore:
    """A store in which each case has so many facts of its order, in turns: A#1 B#1 A#2 B#2 …"""
    store = open_store(url)
    for nth in range(max((count for _, count in cases), default=0)):
        for case_id, count in cases:
            if nth < count:
                append(store, case_id, f"order/{case_id}")
    return store


def damage(path: Path, stream: str, version: int, content: bytes = b"{}") -> bytes:
    """Overwrite what a fact says, behind the store's back; what it said before."""
    with closing(sqlite3.connect(path)) as connection, connection:
        key = (stream, version)
        where = "WHERE stream = ? AND version = ?"
        (before,) = connection.execute(f"SELECT content FROM facts {where}", key).fetchone()
        connection.execute(f"UPDATE facts SET content = ? {where}", (content, *key))
    return bytes(before)


class Clock:
    """A clock that stands where it was put."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The instant."""
        return self.now

    def pass_(self, seconds: float) -> None:
        """Time passes."""
        self.now += timedelta(seconds=seconds)


class Notebook:
    """A broker that writes down what arrives. ``trouble`` is asked before each send and may raise."""

    def __init__(self, trouble: Callable[[Sequence[Message]], object] = lambda messages: None) -> None:
        self.arrived: list[Message] = []
        self.sends: list[list[str]] = []
        self.trouble = trouble
        self.closed = False

    def send(self, messages: Sequence[Message]) -> None:
        """Write down, and acknowledge."""
        self.sends.append([message.id for message in messages])
        self.trouble(messages)
        self.arrived += messages

    def close(self) -> None:
        """Note that, too."""
        self.closed = True

    @property
    def ids(self) -> list[str]:
        """The ids in the order in which they arrived."""
        return [message.id for message in self.arrived]


def away(messages: Sequence[Message]) -> None:
    """The trouble of a broker that is not there."""
    raise BrokerFailed("notebook: is away")


def first_times(ids: Sequence[str]) -> list[str]:
    """Each id once, where it came first."""
    return list(dict.fromkeys(ids))


def in_order(ids: Sequence[str]) -> bool:
    """Whether the first occurrences of each stream are 1, 2, 3, …"""
    seen: dict[str, int] = {}
    for one in first_times(ids):
        stream, _, version = one.rpartition("#")
        if int(version) != seen.get(stream, 0) + 1:
            return False
        seen[stream] = int(version)
    return True


def event_ids(store: CaseStore) -> list[str]:
    """The ids of all facts of a store."""
    found: list[str] = []
    after = 0
    while page := store.read(after):
        found += [one.event_id for one in page]
        after = page[-1].position
    return found


def values(message: Message) -> dict[str, Any]:
    """What a message says."""
    import json

    loaded: dict[str, Any] = json.loads(message.body)
    return loaded
