"""Lay the lifecycles out for drawings, once: where each state and each line of the five machines is on the paper.

``tools/render_docs.py`` writes the result to ``adapters/report/lifecycles.json``, which the report draws from. A layout
follows from its machine alone and is never placed by hand. States stand in rows, each below those that lead to it. Lines
run between the rows only, and through a row in a lane of their own, so that no line crosses a box; lines that lead to the
same far state share a lane.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from returnable.domain.lifecycles import MACHINES, NOTHING
from returnable.projections.report.wording import words

Place: TypeAlias = tuple[str, ...]
"""What stands in a row: ``("state", STATE)``, or a lane ``("to", TARGET, ROW)`` or ``("back", SOURCE, TARGET, ROW)``."""

Edge: TypeAlias = tuple[str, str]
"""From one state to another."""

Link: TypeAlias = tuple[Place, Place, str]
"""A piece of line between two neighbouring rows, from the upper to the lower; ``up`` where it is gone upwards."""

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

    def through(self, place: Place) -> list[Edge]:
        """The edges whose lines pass through that place."""
        return [edge for edge, way in self.ways.items() if any(place in link for link in way)]


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


def laid_out() -> str:
    """The layouts as JSON: those of all machines, and that of a label whose box "void" has to hold a longer text."""
    layouts = {name: layout(name) for name in MACHINES}
    layouts["label by the clock"] = layout("label", {"void": "now, by the clock"})
    # An object of the lists takes one line.
    return re.sub(r"\n {4,}|\n {3}(?=\})", " ", json.dumps(layouts, indent=1)) + "\n"


def layout(lifecycle: str, second_lines: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The layout of one machine: its width, and its boxes, lanes and pieces of line, with the rows they are in.

    ``second_lines``: of the boxes that must be wide enough for such a text, by state.
    """
    events, seconds = edges_of(lifecycle), second_lines or {}
    states = [state.id for state in MACHINES[lifecycle].states]
    plan = _planned(states, list(events))
    size = {place: _size(place, seconds) for row in plan.rows for place in row}
    middles = _middles(plan, size)
    left = min(middles[place] - size[place] / 2 for place in middles) - MARGIN
    right = max(middles[place] + size[place] / 2 for place in middles) + MARGIN
    at = {place: round(middle - left, 1) for place, middle in middles.items()}
    rows = {place: number for number, row in enumerate(plan.rows) for place in row}
    boxes = {state: ("state", state) for state in states}
    ends = _ends(plan, at, size)
    return {
        "width": round(right - left, 1),
        "boxes": [
            {"state": state, "row": rows[place], "x": at[place], "width": round(size[place], 1)}
            for state, place in boxes.items()
        ],
        "lanes": [
            {"row": row, "x": at[place], "edges": _named(plan.through(place))}
            for place, row in rows.items()
            if place[0] != "state"
        ],
        "lines": [
            {
                "row": rows[upper],
                "x1": round(ends[upper, lower, sense][0], 1),
                "x2": round(ends[upper, lower, sense][1], 1),
                "upper": upper[1] if upper[0] == "state" else None,
                "lower": lower[1] if lower[0] == "state" else None,
                "up": sense == "up",
                "edges": _named(edges),
                "title": "; ".join(f"{words(a)} to {words(b)}: {', '.join(events[a, b])}" for a, b in edges),
            }
            for (upper, lower, sense), edges in plan.links.items()
        ],
    }


def _named(edges: Iterable[Edge]) -> list[str]:
    return [f"{source} to {target}" for source, target in edges]


def _size(place: Place, seconds: Mapping[str, str]) -> float:
    """The width of what is placed: a lane, the mark of the start, or a box with the name of its state."""
    if place[0] != "state":
        return LANE_WIDTH
    state = place[1]
    return (
        START_SIZE
        if state == NOTHING
        else max(96.0, 24 + 7.6 * len(words(state)), 20 + 6.3 * len(seconds.get(state, "")))
    )


def _middles(plan: _Plan, size: Mapping[Place, float]) -> dict[Place, float]:
    """Where each place of a row is: as near to its neighbours as the order and the widths of the row let it."""
    middles: dict[Place, float] = {}
    for row in plan.rows:
        at = 0.0
        for place in row:
            middles[place] = at + size[place] / 2
            at += size[place] + BOX_GAP
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


def _settle(row: Sequence[Place], wanted: Sequence[float], size: Mapping[Place, float], at: dict[Place, float]) -> None:
    """Put the places of a row as near to where they want to be as their order and their sizes allow (in the sense of
    least squares: places that would overlap are moved together as one block)."""
    offsets = [0.0]
    for one, other in pairwise(row):
        offsets.append(offsets[-1] + (size[one] + size[other]) / 2 + BOX_GAP)
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


def _ends(plan: _Plan, at: Mapping[Place, float], size: Mapping[Place, float]) -> dict[Link, tuple[float, float]]:
    """Where each piece of line begins, above, and ends, below: lines that meet a box do so side by side."""
    starts: dict[Link, float] = {}
    stops: dict[Link, float] = {}
    for place in at:
        if place[0] == "state":
            below = sorted((link for link in plan.links if link[0] == place), key=lambda link: (at[link[1]], link[2]))
            above = sorted((link for link in plan.links if link[1] == place), key=lambda link: (at[link[0]], link[2]))
            starts.update(zip(below, _ports(place, at[place], size[place], len(below)), strict=True))
            stops.update(zip(above, _ports(place, at[place], size[place], len(above)), strict=True))
    return {link: (starts.get(link, at[link[0]]), stops.get(link, at[link[1]])) for link in plan.links}


def _ports(place: Place, middle: float, width: float, count: int) -> list[float]:
    """Where so many lines meet the edge of a box."""
    if place[1] == NOTHING or count < 2:
        return [middle] * count
    gap = min(PORT_GAP, (width - 20) / (count - 1))
    return [middle + (number - (count - 1) / 2) * gap for number in range(count)]
