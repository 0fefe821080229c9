"""A lifecycle as a drawing: the states of its machine in rows, with the path that was taken.

The layout depends on the machine alone. ``tools/draw_lifecycles.py`` computes it and writes ``lifecycles.json``. A report
adds the heights of the rows, the colours, and the numbers of the steps.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate
from typing import Any
from xml.etree.ElementTree import Element

from returnable.adapters.report.markup import el
from returnable.domain.lifecycles import NOTHING
from returnable.projections.report.model import LifecyclePath
from returnable.projections.report.wording import words

LAYOUTS: Mapping[str, Any] = json.loads(
    resources.files("returnable.adapters.report").joinpath("lifecycles.json").read_text(encoding="utf-8")
)
"""Name → width, boxes, lanes and lines of a layout. A line leads from its row to the row below, a lane through its row.
Both list the edges ("STATE to STATE") that they are a part of."""

BOX_HEIGHT = 34.0
TALL_BOX_HEIGHT = 48.0
ROW_GAP = 46.0
MARGIN = 10.0
START_SIZE = 18.0


@dataclass(frozen=True, slots=True)
class Box:
    """A state on the drawing; ``x`` and ``y`` are its middle."""

    state: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line from (``x1``, ``y1``) down to (``x2``, ``y2``): between two rows, or straight through a row in a lane."""

    x1: float
    y1: float
    x2: float
    y2: float
    edges: Sequence[str]
    title: str | None = None
    source: str | None = None
    """The state that the edges leave by this line."""
    tip: tuple[float, float, int] | None = None
    """The point of the arrowhead, and how far below it the head begins."""

    def at(self, share: float) -> tuple[float, float]:
        """The point after that share of the curve."""
        rest, middle = 1 - share, (self.y1 + self.y2) / 2
        a, b, c, d = rest**3, 3 * rest**2 * share, 3 * rest * share**2, share**3
        x = a * self.x1 + b * self.x1 + c * self.x2 + d * self.x2
        return round(x, 1), round(a * self.y1 + (b + c) * middle + d * self.y2, 1)


@dataclass(frozen=True, slots=True)
class Drawing:
    """All boxes and lines of a drawing."""

    width: float
    height: float
    boxes: Mapping[str, Box]
    lanes: Sequence[Line]
    lines: Sequence[Line]


def draw(layout: str, tall: Container[str] = ()) -> Drawing:
    """Place all boxes and lines; ``tall``: the states whose boxes hold a second line of text."""
    of = LAYOUTS[layout]
    rows: list[float] = [0.0] * (1 + max(box["row"] for box in of["boxes"]))
    heights = {}
    for box in of["boxes"]:
        state = box["state"]
        heights[state] = START_SIZE if state == NOTHING else TALL_BOX_HEIGHT if state in tall else BOX_HEIGHT
        rows[box["row"]] = max(rows[box["row"]], heights[state])
    tops = list(accumulate((height + ROW_GAP for height in rows), initial=MARGIN))
    boxes = {
        box["state"]: Box(
            box["state"], box["x"], tops[box["row"]] + rows[box["row"]] / 2, box["width"], heights[box["state"]]
        )
        for box in of["boxes"]
    }
    lanes = [
        Line(lane["x"], tops[lane["row"]], lane["x"], tops[lane["row"]] + rows[lane["row"]], lane["edges"])
        for lane in of["lanes"]
    ]
    lines = []
    for line in of["lines"]:
        row, upper, lower, up = line["row"], boxes.get(line["upper"]), boxes.get(line["lower"]), line["up"]
        x1, y1 = line["x1"], upper.y + upper.height / 2 if upper else tops[row] + rows[row]
        x2, y2 = line["x2"], lower.y - lower.height / 2 if lower else tops[row + 1]
        tip = (x1, y1, 8) if up and upper else (x2, y2, -8) if lower and not up else None
        lines.append(Line(x1, y1, x2, y2, line["edges"], line["title"], line["lower" if up else "upper"], tip))
    return Drawing(of["width"], tops[-1] - ROW_GAP + MARGIN, boxes, lanes, lines)


# ---- the path that was taken ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Badge:
    """The numbers of the steps that took an edge, on its line."""

    text: str
    x: float
    y: float
    width: float
    height: float = 18.0

    def overlaps(self, other: Badge) -> bool:
        """Whether the two would touch."""
        return (
            abs(self.x - other.x) < (self.width + other.width) / 2 + 2
            and abs(self.y - other.y) < (self.height + other.height) / 2 + 2
        )


def numbered(numbers: Sequence[int]) -> str:
    """Numbers in order, with runs contracted.

    >>> numbered([3, 5, 6, 7, 9, 10])
    '3, 5–7, 9, 10'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    shown = [f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in parts]
    return ", ".join(shown)


def _taken(path: LifecyclePath) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Edge → the numbers of the steps that took it; state → those that left it as it was."""
    moves: dict[str, list[int]] = {}
    stays: dict[str, list[int]] = {}
    for step in path.steps:
        before = step.before or NOTHING
        if before == step.after:
            stays.setdefault(before, []).append(step.number)
        else:
            moves.setdefault(f"{before} to {step.after}", []).append(step.number)
    return moves, stays


def _badges(drawing: Drawing, moves: Mapping[str, Sequence[int]]) -> list[Badge]:
    """The numbers of each edge, on the line by which it leaves its state: no other edge shares that line."""
    first = {edge: line for line in drawing.lines if line.source is not None for edge in line.edges}
    placed: list[Badge] = []
    for edge, numbers in moves.items():
        text = numbered(numbers)
        width = 10.0 + 7.5 * len(text)
        tries = [Badge(text, *first[edge].at(share), width) for share in (0.5, 0.38, 0.62, 0.28, 0.72)]
        placed.append(next((one for one in tries if not any(one.overlaps(other) for other in placed)), tries[0]))
    return placed


def _second_line(path: LifecyclePath, state: str, stays: Mapping[str, Sequence[int]]) -> str:
    parts = []
    if state == (path.by_the_clock or path.state):
        parts.append("now, by the clock" if path.by_the_clock else "now")
    if state in stays:
        parts.append(f"↻ {numbered(stays[state])}")
    return " · ".join(parts)


# ---- as SVG ---------------------------------------------------------------------------------------------------------


def lifecycle_svg(path: LifecyclePath, number: int) -> Element:
    """The machine with the path that was taken; ``number`` makes the ids of several drawings on a page unique."""
    moves, stays = _taken(path)
    layout = f"{path.lifecycle} by the clock" if path.by_the_clock else path.lifecycle
    seconds = {box["state"]: _second_line(path, box["state"], stays) for box in LAYOUTS[layout]["boxes"]}
    drawing = draw(layout, {state for state, second in seconds.items() if second})
    width, height = _short(drawing.width), _short(drawing.height)
    of = f" of {path.of}" if path.of is not None else ""
    return el(
        "svg",
        el("title", f"Lifecycle of {path.lifecycle} {path.name}{of}", id=f"lifecycle-{number}-title"),
        el("desc", _described(path), id=f"lifecycle-{number}-desc"),
        el("g", _all_lines(drawing, moves.keys())),
        el("g", (_box(box, path, seconds[box.state]) for box in drawing.boxes.values())),
        el("g", (_badge(badge) for badge in _badges(drawing, moves))),
        class_="lifecycle",
        role="img",
        aria_labelledby=f"lifecycle-{number}-title lifecycle-{number}-desc",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )


def _described(path: LifecyclePath) -> str:
    """A text alternative of the drawing, for screen readers."""
    steps = [
        f"{step.number}: {step.type}, {words(step.before) + ' to ' if step.before else ''}{words(step.after)}"
        for step in path.steps
    ]
    clock = f" By the clock it is {words(path.by_the_clock)}." if path.by_the_clock else ""
    return f"The path taken. {'; '.join(steps)}. Its state is {words(path.state)}.{clock}"


def _all_lines(drawing: Drawing, moves: Set[str]) -> Iterator[Element]:
    """The lines that no step took, and over them those that were taken."""
    lines = [*drawing.lanes, *drawing.lines]
    yield el("g", (_line(line) for line in drawing.lanes if moves.isdisjoint(line.edges)))
    yield el("g", (_line(line) for line in drawing.lines if moves.isdisjoint(line.edges)))
    yield el("g", (_line(line) for line in lines if not moves.isdisjoint(line.edges)), class_="taken")


def _line(line: Line) -> Element:
    x1, y1, x2, y2, middle = map(_short, (line.x1, line.y1, line.x2, line.y2, (line.y1 + line.y2) / 2))
    if line.title is None:
        return el("path", class_="line", d=f"M{x1} {y1}V{y2}")
    return el(
        "g",
        el("title", line.title),
        el("path", class_="line", d=f"M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}"),
        _tip(*line.tip) if line.tip else None,
    )


def _tip(x: float, y: float, below: float) -> Element:
    """An arrowhead: its point, and how far below that it begins."""
    return el(
        "path", class_="tip", d=f"M{_short(x)} {_short(y)}L{_short(x - 4.5)} {_short(y + below)}H{_short(x + 4.5)}Z"
    )


def _box(box: Box, path: LifecyclePath, second: str) -> Element:
    if box.state == NOTHING:
        return el("circle", class_="start", cx=_short(box.x), cy=_short(box.y), r=_short(box.height / 2 - 2))
    visited = any(box.state in (step.before, step.after) for step in path.steps)
    marks = ["visited" if visited else "unvisited"]
    if box.state == (path.by_the_clock or path.state):
        marks += ["now", "clock"] if path.by_the_clock else ["now"]
    shown = _cut(second, box.width)
    return el(
        "g",
        el("title", second) if shown != second else None,
        _rectangle(box, 8, class_="box"),
        _text(words(box.state), box.x, box.y - 8 if second else box.y),
        _text(shown, box.x, box.y + 10, class_="second") if second else None,
        class_=" ".join(marks),
    )


def _cut(text: str, width: float) -> str:
    """The part of a second line that fits into a box of that width.

    >>> _cut("now · ↻ 3–7, 9", 96), _cut("now · ↻ 3–7, 9, 11", 96)
    ('now · ↻ 3–7, 9', 'now · ↻ 3–7, …')
    """
    most = int((width - 7) / 6.3)
    return text if len(text) <= most else text[:most].rpartition(" ")[0] + " …"


def _badge(badge: Badge) -> Element:
    return el("g", _rectangle(badge, _short(badge.height / 2)), _text(badge.text, badge.x, badge.y), class_="badge")


def _rectangle(of: Box | Badge, rx: float | str, class_: str | None = None) -> Element:
    left, top, width, height = map(_short, (of.x - of.width / 2, of.y - of.height / 2, of.width, of.height))
    return el("rect", class_=class_, x=left, y=top, width=width, height=height, rx=rx)


def _text(text: str, x: float, y: float, class_: str | None = None) -> Element:
    return el("text", text, class_=class_, x=_short(x), y=_short(y))


def _short(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
