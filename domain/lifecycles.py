"""The lifecycles: one explicit state machine each for orders, returns, labels, refunds and claims.

The machine *class* is the specification: diagrams come from it, and the library's own engine is the oracle in tests. What
runs, live and in replay, is the table compiled from it (:func:`compile_table`), because building a machine object for
every fact costs a thousand times a dictionary lookup.

Event ids equal the names of the facts. A guard names what must hold once the fact is applied; without it the second
target is taken. Facts that do not move an order, return or claim are not in their machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from statemachine import State, StateMachine

from returnable.domain.errors import HistoryBroken


class Lifecycle(StateMachine):
    """The base of the five machines: flat and strict.

    Ends are states that no fact leaves; some of them still take late facts, which the library would not allow a final
    state to do. That every state is reachable and comes to an end is a test of ours.
    """

    validate_final_reachability = False
    validate_trap_states = False


class OrderLifecycle(Lifecycle):
    """An order: confirmed, shipped once any unit is with the carrier, delivered once every unit is."""

    nothing = State(initial=True)
    confirmed = State()
    shipped = State()
    delivered = State()
    cancelled = State()

    Confirmed = nothing.to(confirmed)
    Shipped = confirmed.to(shipped) | shipped.to(shipped) | delivered.to(delivered) | cancelled.to(cancelled)
    Delivered = (
        shipped.to(delivered, cond="every_unit_delivered")
        | shipped.to(shipped)
        | delivered.to(delivered)
        | cancelled.to(cancelled)
    )
    CancellationRequested = confirmed.to(confirmed) | shipped.to(shipped) | delivered.to(delivered)
    CancellationDeclined = confirmed.to(confirmed) | shipped.to(shipped) | delivered.to(delivered)
    Cancelled = confirmed.to(cancelled) | shipped.to(cancelled) | delivered.to(cancelled)
    RefundRequested = cancelled.to(cancelled)
    Refunded = cancelled.to(cancelled)


class ReturnLifecycle(Lifecycle):
    """A return: asked for, authorized or declined, labelled, on its way, received, inspected, and settled."""

    nothing = State(initial=True)
    requested = State()
    declined = State()
    authorized = State()
    labelled = State()
    in_transit = State()
    received = State()
    inspected = State()
    refunded = State()
    rejected = State()
    sent_back = State()
    lost = State()
    withdrawn = State()

    ReturnRequested = nothing.to(requested)
    ReturnAuthorized = requested.to(authorized)
    ReturnDeclined = requested.to(declined)
    LabelIssued = authorized.to(labelled) | labelled.to(labelled)
    LabelDeclined = labelled.to(labelled)
    LabelReceived = labelled.to(labelled) | in_transit.to(in_transit) | lost.to(lost)
    LabelVoided = (
        labelled.to(labelled)
        | in_transit.to(in_transit)
        | received.to(received)
        | inspected.to(inspected)
        | refunded.to(refunded)
        | rejected.to(rejected)
        | sent_back.to(sent_back)
        | lost.to(lost)
        | withdrawn.to(withdrawn)
    )
    ReturnShipped = authorized.to(in_transit) | labelled.to(in_transit)
    Received = authorized.to(received) | labelled.to(received) | in_transit.to(received) | lost.to(received)
    ParcelRejected = labelled.to(rejected) | in_transit.to(rejected) | lost.to(rejected)
    ParcelLost = in_transit.to(lost)
    ReturnWithdrawn = authorized.to(withdrawn) | labelled.to(withdrawn)
    Inspected = received.to(inspected) | inspected.to(inspected)
    SentBack = (
        rejected.to(sent_back, cond="nothing_left_to_keep_or_send")
        | rejected.to(rejected)
        | inspected.to(sent_back, cond="nothing_left_to_keep_or_send")
        | inspected.to(inspected)
        | refunded.to(refunded)
    )
    RefundRequested = (
        authorized.to(authorized)
        | labelled.to(labelled)
        | in_transit.to(in_transit)
        | received.to(received)
        | inspected.to(inspected)
        | rejected.to(rejected)
        | lost.to(lost)
    )
    Refunded = (
        authorized.to(refunded)
        | labelled.to(refunded)
        | in_transit.to(refunded)
        | received.to(refunded)
        | inspected.to(refunded)
        | rejected.to(refunded)
        | lost.to(refunded)
        | sent_back.to(sent_back)
        | withdrawn.to(withdrawn)
    )


class LabelLifecycle(Lifecycle):
    """A prepaid label. No event is needed for it to be void after its deadline: ``issued`` means issued and not known to
    be used or voided, and the clock decides the rest."""

    nothing = State(initial=True)
    issued = State()
    used = State()
    void = State()
    void_by_hand = State()

    LabelIssued = nothing.to(issued)
    LabelReceived = (
        issued.to(used, cond="in_time")
        | issued.to(issued)
        | void.to(used, cond="in_time")
        | void.to(issued)
        | used.to(used)
    )
    LabelVoided = issued.to(void_by_hand, cond="by_hand") | issued.to(void)
    ReturnShipped = (
        issued.to(used, cond="in_time")
        | issued.to(issued)
        | void.to(used, cond="in_time")
        | void.to(void)
        | void_by_hand.to(used, cond="in_time")
        | void_by_hand.to(void_by_hand)
    )
    Received = issued.to(used, cond="in_time") | issued.to(issued) | void.to(used, cond="in_time") | void.to(void)


class RefundLifecycle(Lifecycle):
    """A refund: requested until every tender has an answer; refunded when all are settled."""

    nothing = State(initial=True)
    requested = State()
    refunded = State(final=True)
    failed = State(final=True)

    RefundRequested = nothing.to(requested)
    RefundSettled = requested.to(failed, cond="all_answered_and_one_failed") | requested.to(requested)
    RefundFailed = requested.to(failed, cond="all_answered_and_one_failed") | requested.to(requested)
    Refunded = requested.to(refunded)
    RefundOverdue = requested.to(requested)


class ClaimLifecycle(Lifecycle):
    """A wrong-item claim."""

    nothing = State(initial=True)
    open = State()
    resolved = State()
    denied = State(final=True)

    ClaimOpened = nothing.to(open)
    EvidenceAdded = open.to(open)
    ClaimContacted = open.to(open)
    ContactMissed = open.to(open) | resolved.to(resolved)
    ResolutionDeclined = open.to(open)
    ClaimResolved = open.to(resolved)
    ClaimDenied = open.to(denied)
    RefundRequested = resolved.to(resolved)
    Refunded = resolved.to(resolved)


NOTHING = "nothing"
"""The state before the first fact."""


@dataclass(frozen=True, slots=True)
class Move:
    """Where a fact leads: to ``then`` when the guard holds (or there is none), else to ``otherwise``."""

    then: str
    guard: str | None = None
    otherwise: str | None = None


class Table:
    """The compiled lifecycle: what runs, live and in replay."""

    def __init__(self, name: str, moves: Mapping[tuple[str, str], Move]) -> None:
        self.name = name
        self.moves = dict(moves)

    def allows(self, state: str, event: str) -> bool:
        """Whether the fact may be recorded in that state."""
        return (state, event) in self.moves

    def after(self, state: str, event: str, holds: bool = False) -> str:
        """The state after the fact; ``holds`` answers the move's guard.

        Raises :class:`HistoryBroken` where the lifecycle has no such move: decisions ask :meth:`allows` first, so this
        is a damaged history.
        """
        move = self.moves.get((state, event))
        if move is None:
            raise HistoryBroken(f"{self.name}: {event} is not possible in state {state}")
        if move.guard is None or holds:
            return move.then
        return move.otherwise or state

    def events(self, state: str) -> tuple[str, ...]:
        """The facts that may be recorded in that state, in the order of the specification."""
        return tuple(event for source, event in self.moves if source == state)


def compile_table(machine: type[Lifecycle]) -> Table:
    """The table of a machine class: (state, event) → move."""
    moves: dict[tuple[str, str], Move] = {}
    for state in machine.states:
        for transition in state.transitions:
            key = (state.id, str(transition.event))
            guard = next((str(spec.func) for spec in transition.cond), None)
            target = transition.target.id if transition.target is not None else state.id
            if key in moves:
                first = moves[key]
                moves[key] = Move(first.then, first.guard, target)
            else:
                moves[key] = Move(target, guard)
    return Table(machine.__name__.removesuffix("Lifecycle").lower(), moves)


MACHINES: dict[str, type[Lifecycle]] = {
    "order": OrderLifecycle,
    "return": ReturnLifecycle,
    "label": LabelLifecycle,
    "refund": RefundLifecycle,
    "claim": ClaimLifecycle,
}
"""The specifications, by name."""

ORDER, RETURN, LABEL, REFUND, CLAIM = (compile_table(machine) for machine in MACHINES.values())


def drawing(machine: type[Lifecycle], form: str) -> str:
    """The machine as ``mermaid`` text or as an ``md`` table, from the library."""
    renderable: Any = machine
    text = format(renderable, form)
    events: Any = machine.events
    for event in events:
        text = text.replace(event.name.ljust(len(event.id)), event.id)
    return text
