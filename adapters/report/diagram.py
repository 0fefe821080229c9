"""A lifecycle as a drawing: the states of its machine in layers, with the way that was taken.

The drawing follows from the machine alone and is never placed by hand. States stand in rows, each below those that lead
to it. Lines run between the rows only, and through a row in a lane of their own, so that no line crosses a box; lines
that lead to the same far state share a lane. The same machine and the same way give the same drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias
from xml.etree.ElementTree import Element

from returnable.adapters.report.markup import el
from returnable.domain.lifecycles import MACHINES, NOTHING
from returnable.projections.report import LifecyclePath, words

Place: TypeAlias = tuple[str, ...]
"""What stands in a row: ``("state", STATE)``, or a lane ``("to", TARGET, ROW)`` or ``("back", SOURCE, TARGET, ROW)``."""

Edge: TypeAlias = tuple[str, str]
"""From one state to another."""

Link: TypeAlias = tuple[Place, Place, str]
"""A piece of line between two neighbouring rows, from the upper to the lower; ``up`` where it is gone upwards."""

BOX_HEIGHT = 34.0
TALL_BOX_HEIGHT = 48.0
ROW_GAP = 46.0
BOX_GAP = 26.0
LANE_WIDTH = 4.0
MARGIN = 10.0
START_SIZE = 18.0
PORT_GAP = 16.0
SWEEPS = 24

# ---- the machine as a graph -----------------------------------------------------------------------------------------


def edges_of(lifecycle: str) -> dict[Edge, tuple[str, ...]]:
    """Which state leads to which other one, by which facts; facts that leave a state as it is are no edges."""
    found: dict[Edge, tuple[str, ...]] = {}
    for state in MACHINES[lifecycle].states:
        for transition in state.transitions:
            target = transition.target.id if transition.target is not None else state.id
            if target != state.id:
                known = found.get((state.id, target), ())
                found[state.id, target] = tuple(dict.fromkeys((*known, str(transition.event))))
    return found


def rows_of(states: Sequence[str], edges: Iterable[Edge]) -> tuple[dict[str, int], frozenset[Edge]]:
    """The row of each state, one below the lowest that leads to it; and the edges that lead back up."""
    following: dict[str, list[str]] = {state: [] for state in states}
    for source, target in edges:
        following[source].append(target)
    back, order = _back_edges(states, following)
    rows = dict.fromkeys(states, 0)
    for state in reversed(order):
        for target in following[state]:
            if (state, target) not in back:
                rows[target] = max(rows[target], rows[state] + 1)
    return rows, frozenset(back)


def _back_edges(states: Sequence[str], following: Mapping[str, Sequence[str]]) -> tuple[set[Edge], list[str]]:
    """The edges that close a circle on a walk from the first state, and the states in the order they were left."""
    back: set[Edge] = set()
    left: list[str] = []
    open_: list[str] = []

    def walk(state: str) -> None:
        open_.append(state)
        for target in following[state]:
            if target in open_:
                back.add((state, target))
            elif target not in left:
                walk(target)
        open_.pop()
        left.append(state)

    for state in states:
        if state not in left:
            walk(state)
    return back, left


# ---- rows, lanes and their order ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Plan:
    """The rows with what stands in them, and the pieces of line between them."""

    rows: list[list[Place]]
    links: dict[Link, list[Edge]]
    """Piece of line → the edges that run over it."""
    ways: dict[Edge, list[Link]]
    """Edge → its pieces, from the upper end to the lower."""
    back: frozenset[Edge]


def _planned(states: Sequence[str], edges: Sequence[Edge]) -> _Plan:
    row_of, back = rows_of(states, edges)
    rows: list[list[Place]] = [[] for _ in range(max(row_of.values()) + 1)]
    for state in states:
        rows[row_of[state]].append(("state", state))
    plan = _Plan(rows, {}, {}, back)
    for source, target in edges:
        upper, lower = (target, source) if (source, target) in back else (source, target)
        way: list[Place] = [("state", upper)]
        for row in range(row_of[upper] + 1, row_of[lower]):
            lane = ("back", source, target, str(row)) if (source, target) in back else ("to", target, str(row))
            if lane not in rows[row]:
                rows[row].append(lane)
            way.append(lane)
        way.append(("state", lower))
        sense = "up" if (source, target) in back else "down"
        plan.ways[source, target] = [(one, other, sense) for one, other in pairwise(way)]
        for link in plan.ways[source, target]:
            plan.links.setdefault(link, []).append((source, target))
    _put_in_order(plan)
    return plan


def _put_in_order(plan: _Plan) -> None:
    """Order each row so that few lines cross: by the mean place of the neighbours, down and up, the best of all."""
    best, fewest = [list(row) for row in plan.rows], _crossings(plan)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        numbers = range(1, len(plan.rows)) if down else range(len(plan.rows) - 2, -1, -1)
        for number in numbers:
            beside = plan.rows[number - 1 if down else number + 1]
            _sort_row(plan, number, {place: float(index) for index, place in enumerate(beside)}, down)
        count = _crossings(plan)
        if count < fewest:
            best, fewest = [list(row) for row in plan.rows], count
    plan.rows = best


def _sort_row(plan: _Plan, number: int, beside: Mapping[Place, float], down: bool) -> None:
    row = plan.rows[number]
    wanted: dict[Place, float] = {}
    for index, place in enumerate(row):
        others = [beside[o] for o in _neighbours(plan, place, down) if o in beside]
        wanted[place] = sum(others) / len(others) if others else float(index)
    row.sort(key=lambda place: wanted[place])


def _neighbours(plan: _Plan, place: Place, above: bool) -> list[Place]:
    if above:
        return [upper for upper, lower, _ in plan.links if lower == place]
    return [lower for upper, lower, _ in plan.links if upper == place]


def _crossings(plan: _Plan) -> int:
    index = {place: (number, at) for number, row in enumerate(plan.rows) for at, place in enumerate(row)}
    ends = [(index[upper], index[lower]) for upper, lower, _ in plan.links]
    return sum(
        1
        for count, ((row, a), (_, b)) in enumerate(ends)
        for (other, c), (_, d) in ends[:count]
        if row == other and (a - c) * (b - d) < 0
    )


# ---- places on the paper --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Box:
    """A state on the paper; ``x`` and ``y`` are the middle."""

    state: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of line: from (``x1``, ``y1``) down to (``x2``, ``y2``)."""

    link: Link
    x1: float
    y1: float
    x2: float
    y2: float

    def at(self, share: float) -> tuple[float, float]:
        """The point after that share of the curve."""
        rest, middle = 1 - share, (self.y1 + self.y2) / 2
        weights = (rest**3, 3 * rest**2 * share, 3 * rest * share**2, share**3)
        x = weights[0] * self.x1 + weights[1] * self.x1 + weights[2] * self.x2 + weights[3] * self.x2
        y = weights[0] * self.y1 + (weights[1] + weights[2]) * middle + weights[3] * self.y2
        return x, y


@dataclass(slots=True)
class Drawing:
    """Everything placed: boxes, pieces of line between the rows, and lanes through the rows."""

    width: float
    height: float
    boxes: dict[str, Box]
    lines: dict[Link, Line]
    lanes: dict[Place, tuple[float, float, float]]
    """Lane → x, and y from and to."""
    plan: _Plan = field(repr=False)


def draw(lifecycle: str, widths: Mapping[str, float] | None = None, tall: Iterable[str] = ()) -> Drawing:
    """Place the states of a machine; ``widths``: of the boxes of its states, ``tall``: those with a second line."""
    states = [state.id for state in MACHINES[lifecycle].states]
    plan = _planned(states, list(edges_of(lifecycle)))
    wide = dict(widths or {})
    second = set(tall)

    def size(place: Place) -> float:
        if place[0] != "state":
            return LANE_WIDTH
        return START_SIZE if place[1] == NOTHING else wide.get(place[1], 96.0)

    middles = _middles(plan, size)
    left = min(middles[place] - size(place) / 2 for row in plan.rows for place in row)
    right = max(middles[place] + size(place) / 2 for row in plan.rows for place in row)
    boxes: dict[str, Box] = {}
    lanes: dict[Place, tuple[float, float, float]] = {}
    spans: list[tuple[float, float]] = []
    top = MARGIN
    for row in plan.rows:
        named = [place[1] for place in row if place[0] == "state"]
        height = max((_box_height(state, second) for state in named), default=BOX_HEIGHT)
        spans.append((top, top + height))
        for place in row:
            x = round(middles[place] - left + MARGIN, 1)
            if place[0] == "state":
                state = place[1]
                boxes[state] = Box(state, x, top + height / 2, size(place), _box_height(state, second))
            else:
                lanes[place] = (x, top, top + height)
        top += height + ROW_GAP
    lines = _lines(plan, boxes, lanes)
    return Drawing(right - left + 2 * MARGIN, spans[-1][1] + MARGIN, boxes, lines, lanes, plan)


def _box_height(state: str, tall: Iterable[str]) -> float:
    if state == NOTHING:
        return START_SIZE
    return TALL_BOX_HEIGHT if state in tall else BOX_HEIGHT


def _middles(plan: _Plan, size: Callable[[Place], float]) -> dict[Place, float]:
    """Where each place of a row is: as near to its neighbours as the order and the widths of the row let it."""
    middles: dict[Place, float] = {}
    for row in plan.rows:
        at = 0.0
        for place in row:
            middles[place] = at + size(place) / 2
            at += size(place) + BOX_GAP
    for sweep in range(4 * SWEEPS):
        rows = plan.rows if sweep % 2 == 0 else plan.rows[::-1]
        for row in rows:
            wanted = []
            for place in row:
                near = [(n, _pull(place, n)) for above in (True, False) for n in _neighbours(plan, place, above)]
                weight = sum(pull for _, pull in near)
                wanted.append(sum(middles[n] * pull for n, pull in near) / weight)
            _settle(row, wanted, size, middles)
    return middles


def _pull(one: Place, other: Place) -> float:
    """How much two neighbours want to stand below each other: lanes are to be straight."""
    return {0: 1.0, 1: 2.0, 2: 8.0}[(one[0] != "state") + (other[0] != "state")]


def _settle(
    row: Sequence[Place], wanted: Sequence[float], size: Callable[[Place], float], at: dict[Place, float]
) -> None:
    """Put the places of a row as near to where they want to be as their order and their sizes allow (in the sense of
    least squares: places that would overlap are moved together as one block)."""
    offsets = [0.0]
    for one, other in pairwise(row):
        offsets.append(offsets[-1] + (size(one) + size(other)) / 2 + BOX_GAP)
    blocks: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        total, count = want - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before, number = blocks.pop()
            total, count = total + before, count + number
        blocks.append((total, count))
    places = iter(zip(row, offsets, strict=True))
    for total, count in blocks:
        for _ in range(count):
            place, offset = next(places)
            at[place] = total / count + offset


def _lines(
    plan: _Plan, boxes: Mapping[str, Box], lanes: Mapping[Place, tuple[float, float, float]]
) -> dict[Link, Line]:
    def middle(place: Place) -> float:
        return boxes[place[1]].x if place[0] == "state" else lanes[place][0]

    starts: dict[Link, float] = {}
    ends: dict[Link, float] = {}
    for state, box in boxes.items():
        place = ("state", state)
        below = sorted((link for link in plan.links if link[0] == place), key=lambda link: (middle(link[1]), link[2]))
        above = sorted((link for link in plan.links if link[1] == place), key=lambda link: (middle(link[0]), link[2]))
        starts.update(zip(below, _ports(box, len(below)), strict=True))
        ends.update(zip(above, _ports(box, len(above)), strict=True))
    lines = {}
    for link in plan.links:
        upper, lower, _ = link
        y1 = boxes[upper[1]].y + boxes[upper[1]].height / 2 if upper[0] == "state" else lanes[upper][2]
        y2 = boxes[lower[1]].y - boxes[lower[1]].height / 2 if lower[0] == "state" else lanes[lower][1]
        x1, x2 = starts.get(link, middle(upper)), ends.get(link, middle(lower))
        lines[link] = Line(link, round(x1, 1), round(y1, 1), round(x2, 1), round(y2, 1))
    return lines


def _ports(box: Box, count: int) -> list[float]:
    """Where so many lines meet the edge of a box."""
    if box.state == NOTHING or count < 2:
        return [box.x] * count
    gap = min(PORT_GAP, (box.width - 20) / (count - 1))
    return [box.x + (number - (count - 1) / 2) * gap for number in range(count)]


# ---- the way that was taken -----------------------------------------------------------------------------------------


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
    """Numbers in order, with runs drawn together.

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


def _taken(path: LifecyclePath) -> tuple[dict[Edge, list[int]], dict[str, list[int]]]:
    """Edge → the numbers of the steps that took it; state → those that left it as it was."""
    moves: dict[Edge, list[int]] = {}
    stays: dict[str, list[int]] = {}
    for step in path.steps:
        before = step.before or NOTHING
        if before == step.after:
            stays.setdefault(before, []).append(step.number)
        else:
            moves.setdefault((before, step.after), []).append(step.number)
    return moves, stays


def _badges(drawing: Drawing, moves: Mapping[Edge, Sequence[int]]) -> list[Badge]:
    placed: list[Badge] = []
    for edge, numbers in moves.items():
        way = drawing.plan.ways[edge]
        # The piece at the source belongs to this edge alone; a lane may be shared.
        line = drawing.lines[way[-1] if edge in drawing.plan.back else way[0]]
        text = numbered(numbers)
        width = 10.0 + 7.5 * len(text)
        tries = [Badge(text, *_rounded(line.at(share)), width) for share in (0.5, 0.38, 0.62, 0.28, 0.72)]
        placed.append(next((one for one in tries if not any(one.overlaps(other) for other in placed)), tries[0]))
    return placed


def _rounded(point: tuple[float, float]) -> tuple[float, float]:
    return round(point[0], 1), round(point[1], 1)


def _second_line(path: LifecyclePath, state: str, stays: Mapping[str, Sequence[int]]) -> str:
    parts = []
    if state == (path.by_the_clock or path.state):
        parts.append("now, by the clock" if path.by_the_clock else "now")
    if state in stays:
        parts.append(f"↻ {numbered(stays[state])}")
    return " · ".join(parts)


# ---- as SVG ---------------------------------------------------------------------------------------------------------


def lifecycle_svg(path: LifecyclePath, number: int) -> Element:
    """The machine of a path with the way that was taken; ``number`` tells several drawings of one page apart."""
    moves, stays = _taken(path)
    states = [state.id for state in MACHINES[path.lifecycle].states]
    seconds = {state: _second_line(path, state, stays) for state in states}
    widths = {state: max(96.0, 24 + 7.6 * len(words(state)), 20 + 6.3 * len(seconds[state])) for state in states}
    drawing = draw(path.lifecycle, widths, [state for state in states if seconds[state]])
    width, height = _short(drawing.width), _short(drawing.height)
    of = f" of return {path.of}" if path.of is not None else ""
    return el(
        "svg",
        el("title", f"Lifecycle of {path.lifecycle} {path.name}{of}", id=f"lifecycle-{number}-title"),
        el("desc", _described(path), id=f"lifecycle-{number}-desc"),
        el("g", _all_lines(drawing, path.lifecycle, moves)),
        el("g", (_box(drawing.boxes[state], path, seconds[state]) for state in states)),
        el("g", (_badge(badge) for badge in _badges(drawing, moves))),
        class_="lifecycle",
        role="img",
        aria_labelledby=f"lifecycle-{number}-title lifecycle-{number}-desc",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )


def _described(path: LifecyclePath) -> str:
    """The way in words, for who cannot see the drawing."""
    steps = [
        f"{step.number}: {step.type}, {words(step.before) + ' to ' if step.before else ''}{words(step.after)}"
        for step in path.steps
    ]
    clock = f" By the clock it is {words(path.by_the_clock)}." if path.by_the_clock else ""
    return f"The way taken. {'; '.join(steps)}. Its state is {words(path.state)}.{clock}"


def _all_lines(drawing: Drawing, lifecycle: str, moves: Mapping[Edge, Sequence[int]]) -> Iterator[Element]:
    """The lines nobody took, and over them those that were taken."""
    events = edges_of(lifecycle)
    taken: set[Link] = {link for edge in moves for link in drawing.plan.ways[edge]}
    lanes_taken = {place for upper, lower, _ in taken for place in (upper, lower) if place[0] != "state"}
    yield el("g", (_lane(drawing, place) for place in drawing.lanes if place not in lanes_taken))
    yield el("g", (_line(drawing, link, events) for link in drawing.lines if link not in taken))
    yield el(
        "g",
        (_lane(drawing, place) for place in drawing.lanes if place in lanes_taken),
        (_line(drawing, link, events) for link in drawing.lines if link in taken),
        class_="taken",
    )


def _lane(drawing: Drawing, place: Place) -> Element:
    x, top, bottom = drawing.lanes[place]
    return el("path", class_="line", d=f"M{_short(x)} {_short(top)}V{_short(bottom)}")


def _line(drawing: Drawing, link: Link, events: Mapping[Edge, Sequence[str]]) -> Element:
    line, edges = drawing.lines[link], drawing.plan.links[link]
    middle = _short((line.y1 + line.y2) / 2)
    x1, y1, x2, y2 = (_short(value) for value in (line.x1, line.y1, line.x2, line.y2))
    upper, lower, sense = link
    tip = None
    if sense == "down" and lower[0] == "state":
        tip = _tip(line.x2, line.y2, -8)
    if sense == "up" and upper[0] == "state":
        tip = _tip(line.x1, line.y1, 8)
    said = "; ".join(f"{words(edge[0])} to {words(edge[1])}: {', '.join(events[edge])}" for edge in edges)
    return el(
        "g",
        el("title", said),
        el("path", class_="line", d=f"M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}"),
        tip,
    )


def _tip(x: float, y: float, back: float) -> Element:
    """The head of an arrow that ends there, coming from ``back`` further up or down."""
    base = _short(y + back)
    return el("path", class_="tip", d=f"M{_short(x)} {_short(y)}L{_short(x - 4.5)} {base}H{_short(x + 4.5)}Z")


def _box(box: Box, path: LifecyclePath, second: str) -> Element:
    if box.state == NOTHING:
        return el("circle", class_="start", cx=_short(box.x), cy=_short(box.y), r=_short(box.height / 2 - 2))
    visited = any(box.state in (step.before, step.after) for step in path.steps)
    by_the_clock = path.by_the_clock == box.state
    now = by_the_clock or (path.by_the_clock is None and path.state == box.state)
    marks = ["visited" if visited else "unvisited", "now" if now else "", "clock" if by_the_clock else ""]
    x, y = _short(box.x), box.y
    return el(
        "g",
        el(
            "rect",
            class_="box",
            x=_short(box.x - box.width / 2),
            y=_short(box.y - box.height / 2),
            width=_short(box.width),
            height=_short(box.height),
            rx=8,
        ),
        el("text", words(box.state), x=x, y=_short(y - 8 if second else y)),
        el("text", second, class_="second", x=x, y=_short(y + 10)) if second else None,
        class_=" ".join(mark for mark in marks if mark),
    )


def _badge(badge: Badge) -> Element:
    left, top = badge.x - badge.width / 2, badge.y - badge.height / 2
    return el(
        "g",
        el(
            "rect",
            x=_short(left),
            y=_short(top),
            width=_short(badge.width),
            height=_short(badge.height),
            rx=_short(badge.height / 2),
        ),
        el("text", badge.text, x=_short(badge.x), y=_short(badge.y)),
        class_="badge",
    )


def _short(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
