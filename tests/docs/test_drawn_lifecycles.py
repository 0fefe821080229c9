"""The layouts that reports draw lifecycles from hold what the machines say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from returnable.domain.lifecycles import MACHINES
from tools.draw_lifecycles import edges_of, laid_out, rows_of

LAYOUTS: dict[str, Any] = json.loads(laid_out())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_has_every_state_and_every_move_of_its_machine(layout: str) -> None:
    lifecycle = layout.removesuffix(" by the clock")

    assert [box["state"] for box in LAYOUTS[layout]["boxes"]] == [state.id for state in MACHINES[lifecycle].states]
    moves = {f"{source} to {target}" for source, target in edges_of(lifecycle)}
    assert {edge for line in LAYOUTS[layout]["lines"] for edge in line["edges"]} == moves


def test_every_machine_has_a_layout() -> None:
    assert LAYOUTS.keys() == {*MACHINES, "label by the clock"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrows_end_where_their_edges_end(layout: str) -> None:
    for line in LAYOUTS[layout]["lines"]:
        ends = {edge.split(" to ")[1] for edge in line["edges"]}
        end = line["upper"] if line["up"] else line["lower"]
        assert end is None or ends == {end}


def test_states_stand_below_those_that_lead_to_them_but_for_the_way_back() -> None:
    rows, back = rows_of(["nothing", "issued", "void"], [("nothing", "issued"), ("issued", "void"), ("void", "issued")])

    assert rows == {"nothing": 0, "issued": 1, "void": 2}
    assert back == {("void", "issued")}
