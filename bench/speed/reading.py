"""Reading back: replay of everything, one question by id, and what a lifecycle weighs on disk."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median

import orjson

import returnable
from bench.speed.lifecycle import filled, go_through, lifecycle, lives, numbered
from bench.speed.measure import Measured, Row, Sizes, in_turns, seconds, show
from bench.speed.raw import RawLog, file_bytes, stream_copy
from returnable.domain.case import fold
from returnable.domain.events import encode

LATER = datetime.fromisoformat("2026-04-01T12:00:00-04:00")


def replay_everything(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Fold every stream of a store beside a plain read of the same rows with every content decoded."""
    path = folder / "replay.db"
    events = filled(path, sizes.replay_events)
    with returnable.open(f"sqlite:///{path}") as desk:
        store = desk.services.store
        connection = sqlite3.connect(path)

        def ours() -> None:
            folded = sum(fold(case_id, recorded).seq for case_id, recorded in store.cases())
            assert folded == events

        def raw() -> None:
            decode = orjson.loads
            rows = connection.execute("SELECT position, stream, version, type, content FROM facts ORDER BY position")
            assert sum(1 for row in rows if decode(row[4])) == events

        pairs = in_turns(sizes.replay_rounds, ours, raw)
        connection.close()
    yield Row(
        "replay: every stream of a store",
        [of_raw / of_ours for of_ours, of_raw in pairs],
        "≥ 0.60",
        f"{events / median(of_raw for _, of_raw in pairs):,.0f} events/s",
        f"{events:,} events, {len(pairs)} rounds",
    )


@dataclass
class _Asked:
    """A store to ask, and its facts in a plain table."""

    desk: returnable.Desk
    copies: int
    raw: sqlite3.Connection
    events: int


def questions(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """One order or return by id, in stores of several sizes, beside select and decode of its one stream."""
    stores: list[_Asked] = []
    for size in sizes.question_events:
        path = folder / f"{size}.db"
        events, desk = filled(path, size), returnable.open(f"sqlite:///{path}")
        stores.append(_Asked(desk, lives(size), stream_copy(path, folder / f"{size}-raw.db"), events))
    pairs: defaultdict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    chance = random.Random(1)
    for nth in range(sizes.questions):
        for asked in stores:
            number = numbered(chance.randrange(asked.copies))
            for kind, ask in _QUESTIONS.items():
                first = seconds(partial(ask, asked.desk, number))
                stream = f"{kind}/{kind[0].upper() if kind == 'return' else 'A'}-{number}"
                second = seconds(partial(_select, asked.raw, stream))
                if nth >= sizes.questions // 10:  # what is asked first warms up
                    pairs[kind, asked.events].append((first, second))
    for (kind, events), taken in sorted(pairs.items()):
        yield Row(
            f"one `{kind}` question by id, {events:,} events",
            [ours / raw for ours, raw in taken],
            "≤ 5",
            f"{median(raw for _, raw in taken) * 1e6:,.0f} µs",
            f"{len(taken):,} questions",
        )
    smallest, largest = stores[0].events, stores[-1].events
    for kind in _QUESTIONS:
        small, large = (tuple(map(median, zip(*pairs[kind, events], strict=True))) for events in (smallest, largest))
        yield Row(
            f"… `{kind}`, {largest:,} events ÷ {smallest:,}",
            [large[0] / small[0]],
            "flat",
            f"{large[1] / small[1]:.2f} (raw, the same quotient)",
            f"{len(pairs[kind, largest]):,} questions",
        )
    for asked in stores:
        asked.raw.close()
        asked.desk.close()


_QUESTIONS = {
    "order": lambda desk, number: desk.ask({"query": "order", "order_id": f"A-{number}"}, at=LATER),
    "return": lambda desk, number: desk.ask({"query": "return", "return_id": f"R-{number}"}, at=LATER),
}


def _select(connection: sqlite3.Connection, stream: str) -> None:
    rows = connection.execute("SELECT content FROM log WHERE stream = ? ORDER BY version", (stream,)).fetchall()
    assert [orjson.loads(row[0]) for row in rows]


def bytes_on_disk(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """The store after real commands, checkpointed, beside tables of position and payload (checkpointed, too)."""
    path = folder / "bytes.db"
    asked: list[bytes] = []
    events: list[bytes] = []
    with returnable.open(f"sqlite:///{path}") as desk:
        for number in map(numbered, range(sizes.stored_lifecycles)):
            asked += [json.dumps({"at": at.isoformat()} | fields).encode() for at, fields in lifecycle(number)]
            events += [
                encode(event)[1] for outcome in go_through(desk, number) for _, _, event in outcome.recorded_events
            ]
    ours = file_bytes(path)
    for name, goal, payloads in (
        ("bytes per lifecycle ÷ its ten commands as JSON", "≤ 4", asked),
        ("bytes per lifecycle ÷ its facts as stored", "–", events),
    ):
        raw_path = folder / f"raw-{goal}.db"
        log = RawLog(raw_path)
        log.insert_all(payloads)
        log.close()
        raw = file_bytes(raw_path)
        yield Row(
            name,
            [ours / raw],
            goal,
            f"{raw / sizes.stored_lifecycles:,.0f} B of {ours / sizes.stored_lifecycles:,.0f} B a lifecycle",
            f"{sizes.stored_lifecycles:,} lifecycles",
        )


ROWS: dict[str, Measured] = {"replay": replay_everything, "question": questions, "bytes": bytes_on_disk}

if __name__ == "__main__":
    show("python -m bench.speed.reading", ROWS, __doc__)
