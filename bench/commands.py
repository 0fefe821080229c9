"""Durable commands: one client, its slowest percent, and many threads on one desk."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter

import returnable
from bench.lifecycle import go_through, lifecycle, numbered, payload
from bench.measure import Row, Sizes, p99, seconds
from bench.raw import RawLog

_SEGMENT = 1_000
"""So many commands give one 99th percentile."""


def one_client(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Whole lifecycles through the desk beside inserts of the bytes they stored, in turns."""
    ours: list[float] = []
    raw: list[float] = []
    ratios: list[float] = []
    numbers = map(numbered, count())
    log = RawLog(folder / "raw.db")
    with returnable.open(f"sqlite:///{folder}/commands.db") as desk:
        for nth in range(sizes.command_blocks + 1):
            steps = [step for _ in range(sizes.lifecycles_in_block) for step in lifecycle(next(numbers))]
            outcomes = []
            of_ours: list[float] = []
            for at, fields in steps:
                begin = perf_counter()
                outcome = desk.handle(fields, at=at)
                of_ours.append(perf_counter() - begin)
                outcomes.append(outcome)
            payloads = [payload(outcome) for outcome in outcomes]
            of_raw = [seconds(lambda content=content: log.insert(content)) for content in payloads]  # type: ignore[misc]
            if nth:  # the first block warms up
                ours += of_ours
                raw += of_raw
                ratios.append(sum(of_raw) / sum(of_ours))
    log.close()
    raw_rate = f"{len(raw) / sum(raw):,.0f} commits/s"
    counted = f"{len(ours):,} commands in {len(ratios)} blocks"
    yield Row("commands, SQLite FULL, 1 client", ratios, "≥ 0.70", raw_rate, counted)
    segments = [slice(first, first + _SEGMENT) for first in range(0, max(1, len(ours) - _SEGMENT + 1), _SEGMENT)]
    yield Row(
        "p99 of a command, SQLite",
        [p99(ours[segment]) / p99(raw[segment]) for segment in segments],
        "≤ 2.5",
        f"p99 {median(p99(raw[segment]) for segment in segments) * 1e6:,.0f} µs",
        f"{len(segments)} × {min(len(ours), _SEGMENT):,} commands",
    )


def many_threads(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """As many lifecycles at once as there are threads, on one desk, beside one raw client."""
    ratios: list[float] = []
    raw_rates: list[float] = []
    numbers = map(numbered, count())
    log = RawLog(folder / "raw.db")
    with (
        returnable.open(f"sqlite:///{folder}/threads.db") as desk,
        ThreadPoolExecutor(sizes.threads) as threads,
    ):
        for nth in range(sizes.thread_blocks + 1):
            block = [next(numbers) for _ in range(sizes.threads)]
            begin = perf_counter()
            lives = list(threads.map(lambda number: list(go_through(desk, number)), block))
            of_ours = perf_counter() - begin
            payloads = [payload(outcome) for life in lives for outcome in life]
            of_raw = seconds(lambda payloads=payloads: log.insert_each(payloads))  # type: ignore[misc]
            if nth:
                ratios.append(of_raw / of_ours)
                raw_rates.append(len(payloads) / of_raw)
    log.close()
    yield Row(
        f"commands, {sizes.threads} threads, one desk, SQLite",
        ratios,
        "≥ 4",
        f"{median(raw_rates):,.0f} commits/s (one client)",
        f"{len(ratios) * sizes.threads * 10:,} commands in {len(ratios)} blocks",
    )
