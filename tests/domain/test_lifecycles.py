"""The compiled tables say what the machines of the library say, and the machines are well formed."""

from __future__ import annotations

from itertools import combinations, product
from types import SimpleNamespace
from typing import Any

import pytest
from statemachine.exceptions import TransitionNotAllowed

from returnable.domain import events
from returnable.domain.aggregate import allowed_commands
from returnable.domain.commands import COMMANDS
from returnable.domain.errors import HistoryBroken
from returnable.domain.lifecycles import (
    ARRIVAL,
    CLAIM,
    LABEL,
    MACHINES,
    NOTHING,
    ORDER,
    REFUND,
    RETURN,
    Lifecycle,
    Table,
    compile_table,
    drawing,
)

TABLES: dict[str, Table] = {
    "order": ORDER,
    "return": RETURN,
    "label": LABEL,
    "refund": REFUND,
    "claim": CLAIM,
    "arrival": ARRIVAL,
}


def states(name: str) -> list[str]:
    """The ids of the states of a machine."""
    return [state.id for state in MACHINES[name].states]


def event_ids(name: str) -> list[str]:
    """The ids of the events of a machine."""
    machine: Any = MACHINES[name]
    return [event.id for event in machine.events]


def guards(name: str) -> set[str]:
    """The names of the guards of a machine."""
    return {guard for move in TABLES[name].moves.values() for guard in move.guards}


def by_engine(machine: type[Lifecycle], state: str, event: str, model: Any) -> str | None:
    """Where the library's own engine goes; ``None``: it refuses."""
    running = machine(model, start_value=state)
    try:
        running.send(event)
    except TransitionNotAllowed:
        return None
    return next(iter(running.configuration)).id


ALL = [(name, state, event) for name in MACHINES for state, event in product(states(name), event_ids(name))]


SEVERAL = [
    (name, *key, holding)
    for name, table in TABLES.items()
    for key, move in table.moves.items()
    if len(move.guards) > 1
    for count in range(len(move.guards) + 1)
    for holding in combinations(move.guards, count)
]


@pytest.mark.parametrize(("name", "state", "event", "holding"), SEVERAL)
def test_engine_and_table_agree_on_an_event_with_several_guards(
    name: str, state: str, event: str, holding: tuple[str, ...]
) -> None:
    model = SimpleNamespace(state=None, **{guard: guard in holding for guard in guards(name)})

    assert TABLES[name].after(state, event, holding) == by_engine(MACHINES[name], state, event, model)


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize(("name", "state", "event"), ALL)
def test_engine_and_table_agree(name: str, state: str, event: str, holds: bool) -> None:
    model = SimpleNamespace(state=None, **dict.fromkeys(guards(name), holds))

    came = by_engine(MACHINES[name], state, event, model)

    table = TABLES[name]
    assert table.allows(state, event) == (came is not None)
    if came is None:
        with pytest.raises(HistoryBroken, match=f"{event} is not possible in state {state}"):
            table.after(state, event, holds)
    else:
        assert table.after(state, event, holds) == came


@pytest.mark.parametrize("name", MACHINES)
def test_the_tables_that_run_are_compiled_from_the_machines(name: str) -> None:
    table = compile_table(MACHINES[name])

    assert table.moves == TABLES[name].moves
    assert table.name == TABLES[name].name == name


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_can_be_reached_from_nothing(name: str) -> None:
    reached, ahead = {NOTHING}, [NOTHING]
    while ahead:
        here = ahead.pop()
        moves = [move for (state, _), move in TABLES[name].moves.items() if state == here]
        new = {there for move in moves for there in move.targets} - reached
        reached |= new
        ahead += new

    assert reached == set(states(name))


CONTRADICT = {
    ("return", "refunded", "RefundFailed"),
    ("return", "refunded", "RefundReversed"),
    ("refund", "refunded", "RefundReversed"),
    ("refund", "failed", "RefundSettled"),
    ("return", "refunded", "Inspected"),
    ("return", "refunded", "InspectionCorrected"),
    ("return", "withdrawn", "ReturnShipped"),
    ("return", "withdrawn", "Received"),
    ("return", "withdrawn", "ParcelRejected"),
    ("return", "withdrawn", "ParcelLost"),
    ("return", "withdrawn", "Inspected"),
    ("label", "used", "ReturnShipped"),
    ("label", "used", "Received"),
    ("label", "used", "LabelReceived"),
    ("label", "void_by_hand", "ReturnShipped"),
    ("label", "void_by_hand", "Received"),
    ("label", "void_by_hand", "LabelReceived"),
}
"""What contradicts what was known before, or comes on top of it: it leaves what was an end."""


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_comes_to_an_end(name: str) -> None:
    onward: dict[str, set[str]] = {state: set() for state in states(name)}
    for (state, event), move in TABLES[name].moves.items():
        if (name, state, event) not in CONTRADICT:
            onward[state] |= {there for there in move.targets if there != state}
    ends = {state for state, there in onward.items() if not there}

    for _ in onward:
        ends |= {state for state, there in onward.items() if there & ends}

    assert ends == set(states(name))


@pytest.mark.parametrize("name", MACHINES)
def test_no_state_has_the_name_of_an_event(name: str) -> None:
    # One that had would silently break the machine of the library.
    assert not set(states(name)) & set(event_ids(name))


@pytest.mark.parametrize("name", MACHINES)
def test_every_event_of_a_machine_is_a_fact(name: str) -> None:
    for event in event_ids(name):
        assert issubclass(getattr(events, event), events.Event)


@pytest.mark.parametrize("name", MACHINES)
def test_every_guard_has_two_answers(name: str) -> None:
    for (state, event), move in TABLES[name].moves.items():
        assert len(move.targets) == len(move.guards) + 1, f"{event} in {state}"
        assert len(set(move.targets)) == len(move.targets)


def test_an_event_says_whether_it_moves_its_subject() -> None:
    moving = {event for name in ("order", "return", "claim", "arrival") for event in event_ids(name)}

    assert {event.__name__ for event in events.EVENTS.values() if event.moves} == moving


def test_every_fact_says_the_command_that_records_it_or_the_facts_it_follows() -> None:
    by_the_clock = {events.ContactMissed, events.RefundOverdue}

    for event in events.EVENTS.values():
        assert event.of_command is None or event.of_command in COMMANDS, event
        assert event.of_command or event.follows or event in by_the_clock | {events.RefusalsCounted}, event


def test_a_fact_follows_only_facts_that_a_command_records_first() -> None:
    for event in events.EVENTS.values():
        assert all(first.of_command is not None for first in event.follows), event


@pytest.mark.parametrize("name", MACHINES)
def test_what_is_allowed_now_is_told_without_repetition(name: str) -> None:
    for state in states(name):
        allowed = allowed_commands(TABLES[name], state)
        assert len(set(allowed)) == len(allowed)
        assert set(allowed) <= set(COMMANDS)
        assert all(TABLES[name].allows(state, event) for event in TABLES[name].events(state))


@pytest.mark.parametrize("form", ["mermaid", "md"])
@pytest.mark.parametrize("name", MACHINES)
def test_a_drawing_shows_every_state_and_every_event_under_its_id_and_is_stable(name: str, form: str) -> None:
    drawn = drawing(MACHINES[name], form)

    assert drawn == drawing(MACHINES[name], form)
    assert all(event in drawn for event in event_ids(name))
    assert all(state in drawn or state.replace("_", " ").capitalize() in drawn for state in states(name))
