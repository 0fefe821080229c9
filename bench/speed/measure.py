"""Ratios of interleaved runs, and the table they are shown in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    command_blocks: int = 60
    lifecycles_in_block: int = 10
    thread_blocks: int = 10
    threads: int = 64
    replay_events: int = 100_000
    replay_rounds: int = 7
    question_events: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    questions: int = 600
    stored_lifecycles: int = 1_000
    processes: int = 30
    memory_events: int = 1_000_000

    def scaled(self, factor: float) -> Sizes:
        """So much more or less of everything."""

        def scale(value: int, least: int) -> int:
            return max(least, round(value * factor))

        return Sizes(
            scale(self.command_blocks, 2),
            scale(self.lifecycles_in_block, 1),
            scale(self.thread_blocks, 1),
            scale(self.threads, 2),
            scale(self.replay_events, 100),
            scale(self.replay_rounds, 1),
            tuple(scale(events, 50) for events in self.question_events),
            scale(self.questions, 5),
            scale(self.stored_lifecycles, 5),
            scale(self.processes, 2),
            scale(self.memory_events, 1000),
        )


QUICK = Sizes(
    command_blocks=20,
    thread_blocks=3,
    replay_rounds=3,
    question_events=(10_000, 100_000),
    questions=200,
    stored_lifecycles=300,
    processes=8,
    memory_events=100_000,
)


@dataclass(frozen=True)
class Row:
    """A line of the table: ratios to the raw limit of the same run."""

    name: str
    ratios: Sequence[float]
    goal: str
    raw: str
    """The raw figure of the same run."""
    n: str
    """What was counted."""

    def cells(self) -> tuple[str, ...]:
        """The columns: the figure is the median, with the middle half of the ratios where there are several."""
        figure = f"{median(self.ratios):.2f}"
        if len(self.ratios) >= 4:
            low, _, high = quantiles(self.ratios, n=4)
            figure += f" ({low:.2f}–{high:.2f})"
        return self.name, figure, self.goal, self.raw, self.n


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def seconds(action: Callable[[], object]) -> float:
    """How long it took."""
    begin = perf_counter()
    action()
    return perf_counter() - begin


def in_turns(rounds: int, ours: Callable[[], object], raw: Callable[[], object]) -> list[tuple[float, float]]:
    """Seconds of both for each round, ours first in every other one. A round before them is not counted."""
    ours()
    raw()
    pairs: list[tuple[float, float]] = []
    for nth in range(rounds):
        if nth % 2:
            of_raw = seconds(raw)
            pairs.append((seconds(ours), of_raw))
        else:
            of_ours = seconds(ours)
            pairs.append((of_ours, seconds(raw)))
    return pairs


def p99(latencies: Sequence[float]) -> float:
    """The latency that one in a hundred exceeds."""
    return sorted(latencies)[min(len(latencies) - 1, int(len(latencies) * 0.99))]
