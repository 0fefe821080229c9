"""The lifecycles: one explicit state machine each for orders, returns, labels, refunds, claims and arrivals.

The machine *class* is the specification: diagrams come from it, and the library's own engine is the oracle in tests. The
table compiled from it runs, live and in replay (:func:`compile_table`), because a machine object for every event would cost
a thousand times a dictionary lookup.

Event ids equal the names of the events. A guard names what must hold once the event is applied; where it does not hold, the
event leads to the next target. Events that do not move an order, return or claim are not in their machines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from statemachine import State, StateMachine
from statemachine.transition_list import TransitionList

from returnable.domain.errors import HistoryBroken


def _stay(*states: State) -> TransitionList:
    """The event leaves each of these states as it is."""
    return _joined(state.to(state) for state in states)


def _move(target: State, *sources: State, cond: str | None = None) -> TransitionList:
    """The event leads from each of the sources to the target."""
    return _joined(source.to(target, cond=cond) for source in sources)


def _joined(transitions: Iterable[TransitionList]) -> TransitionList:
    return reduce(or_, transitions)


class Lifecycle(StateMachine):
    """The base of the six machines: flat and strict.

    An end is a state that no event leaves, besides an answer that contradicts an earlier one. Ends still accept late events,
    which the library would not allow a final state to do. A test of ours checks that every state is reachable and leads to an
    end.
    """

    validate_final_reachability = False
    validate_trap_states = False


def _did_not_arrive(confirmed: State, shipped: State, delivered: State, cancelled: State) -> TransitionList:
    """A parcel was lost or came back: what a parcel of unknown contents holds depends on what the others hold."""
    all_there = _move(delivered, shipped, delivered, cond="every_unit_delivered")
    return _joined((all_there, _move(shipped, delivered), _stay(confirmed, shipped, cancelled)))


class OrderLifecycle(Lifecycle):
    """An order: confirmed, shipped once any unit is with the carrier, delivered once every unit is.

    Neither units that the shop cancelled count, nor replacements. An order of which every unit is cancelled is cancelled.
    """

    nothing = State(initial=True)
    confirmed = State()
    shipped = State()
    delivered = State()
    cancelled = State()

    Confirmed = nothing.to(confirmed)
    Shipped = (
        _move(delivered, shipped, delivered, cond="every_unit_delivered")
        | _move(shipped, confirmed, shipped, delivered)
        | _stay(cancelled)
    )
    Delivered = (
        _move(delivered, confirmed, shipped, cond="every_unit_delivered")
        | confirmed.to(shipped)
        | _stay(shipped, delivered, cancelled)
    )
    DeliveryTakenBack = (
        delivered.to(delivered, cond="every_unit_delivered")
        | delivered.to(shipped)
        | _stay(confirmed, shipped, cancelled)
    )
    OutboundLost = _did_not_arrive(confirmed, shipped, delivered, cancelled)
    ReturnedToSender = _did_not_arrive(confirmed, shipped, delivered, cancelled)
    CancellationRequested = _stay(confirmed, shipped, delivered)
    CancellationDeclined = _stay(confirmed, shipped, delivered)
    Cancelled = _move(cancelled, confirmed, shipped, delivered)
    UnitsCancelled = (
        _move(cancelled, confirmed, shipped, delivered, cond="every_unit_cancelled")
        | _move(delivered, shipped, cond="every_unit_delivered")
        | _stay(confirmed, shipped, delivered, cancelled)
    )
    _any = (confirmed, shipped, delivered, cancelled)
    RefundRequested = _stay(*_any)
    RefundRecorded = _stay(*_any)
    RefundSettled = _stay(*_any)
    RefundFailed = _stay(*_any)
    RefundReversed = _stay(*_any)
    Refunded = _stay(*_any)


class ReturnLifecycle(Lifecycle):
    """A return: asked for, authorized or declined, labelled, on its way, received, inspected, and settled.

    What a carrier or a warehouse tells is possible in every state after the decision; it moves the return only where it says
    more than is known.
    """

    nothing = State(initial=True)
    requested = State()
    declined = State()
    authorized = State()
    labelled = State()
    in_transit = State()
    received = State()
    inspected = State()
    refunded = State()
    refund_failed = State()
    rejected = State()
    sent_back = State()
    lost = State()
    withdrawn = State()

    ReturnRequested = nothing.to(requested)
    ReturnAuthorized = requested.to(authorized)
    ReturnDeclined = requested.to(declined)
    LabelIssued = _move(labelled, authorized, labelled) | _stay(in_transit, received, inspected)
    LabelDeclined = _stay(authorized, labelled, in_transit, received, inspected)
    _settled = (inspected, refunded, refund_failed, sent_back)
    _sent = (in_transit, received, *_settled, rejected, lost)
    LabelReceived = _stay(labelled, *_sent, withdrawn)
    LabelVoided = _stay(labelled, *_sent, withdrawn)
    ReturnShipped = _move(in_transit, authorized, labelled, withdrawn) | _stay(*_sent, declined)
    Received = (
        _move(received, authorized, labelled, in_transit, lost, withdrawn)
        | _move(inspected, rejected, cond="some_unit_is_inspected")
        | rejected.to(received)
        | sent_back.to(received, cond="a_refused_parcel_is_taken_in")
        | _stay(received, *_settled, declined)
    )
    ParcelRejected = (
        _move(rejected, authorized, labelled, in_transit, lost, withdrawn)
        | inspected.to(rejected, cond="nothing_is_taken_in")
        | _stay(received, *_settled, rejected)
    )
    ParcelLost = _move(lost, authorized, labelled, in_transit, withdrawn) | _stay(
        *_settled, received, rejected, lost, declined
    )
    ReturnWithdrawn = _move(withdrawn, authorized, labelled)
    ReturnReduced = inspected.to(sent_back, cond="nothing_left_to_keep_or_send") | _stay(
        authorized, labelled, in_transit, received, inspected, refunded, refund_failed
    )
    Inspected = (
        _move(inspected, authorized, labelled, in_transit, lost, withdrawn, received, inspected)
        | _move(inspected, refunded, refund_failed, cond="more_is_accepted")
        | _stay(refunded, refund_failed, rejected, sent_back, declined)
    )
    InspectionCorrected = _move(inspected, refunded, refund_failed, cond="more_is_accepted") | _stay(
        inspected, refunded, refund_failed, rejected
    )
    SentBack = _move(sent_back, rejected, inspected, cond="nothing_left_to_keep_or_send") | _stay(
        authorized, labelled, in_transit, received, lost, withdrawn, *_settled, rejected, declined
    )
    _asked = (authorized, labelled, in_transit, received, inspected, rejected, lost)
    RefundRequested = _stay(*_asked, refunded, refund_failed)
    RefundSettled = _move(refunded, refund_failed, cond="nothing_is_owed") | _stay(
        *_asked, refunded, refund_failed, sent_back, withdrawn
    )
    RefundFailed = _move(refund_failed, refunded, cond="money_is_owed") | _stay(
        *_asked, refunded, refund_failed, sent_back, withdrawn
    )
    RefundReversed = _move(refund_failed, refunded, cond="money_is_owed") | _stay(
        *_asked, refunded, refund_failed, sent_back, withdrawn
    )
    Refunded = (
        inspected.to(inspected, cond="more_is_accepted")
        | _move(refunded, *_asked, refund_failed)
        | _stay(refunded, sent_back, withdrawn)
    )


class LabelLifecycle(Lifecycle):
    """A prepaid label. No event is needed for it to be void after its deadline: ``issued`` means issued and not known to
    be used or voided, and the clock decides the rest. That it was voided by hand before may be learnt later."""

    nothing = State(initial=True)
    issued = State()
    used = State()
    void = State()
    void_by_hand = State()

    LabelIssued = nothing.to(issued)
    _any = (issued, void, void_by_hand, used)
    LabelReceived = _move(used, *_any, cond="used_in_time") | _stay(issued, void_by_hand) | _move(issued, void, used)
    LabelVoided = _move(void_by_hand, issued, void, cond="by_hand") | _move(void, issued, void)
    ReturnShipped = _move(used, *_any, cond="used_in_time") | _stay(issued, void, void_by_hand) | used.to(issued)
    Received = _move(used, *_any, cond="used_in_time") | _stay(issued, void, void_by_hand) | used.to(issued)


class RefundLifecycle(Lifecycle):
    """A refund: requested until every tender is answered in full; refunded when all are settled.

    An answer may contradict an earlier one: a bank sends money back, or a payment that failed went through after all.
    """

    nothing = State(initial=True)
    requested = State()
    refunded = State()
    failed = State()

    RefundRequested = nothing.to(requested)
    RefundRecorded = nothing.to(refunded)
    RefundSettled = (
        _move(failed, requested, failed, cond="all_answered_and_one_failed")
        | _move(requested, requested, failed)
        | _stay(refunded)
    )
    RefundFailed = requested.to(failed, cond="all_answered_and_one_failed") | _stay(requested, refunded, failed)
    RefundReversed = _move(failed, requested, refunded, cond="all_answered_and_one_failed") | _stay(
        requested, refunded, failed
    )
    Refunded = requested.to(refunded)
    RefundOverdue = _stay(requested)


class ClaimLifecycle(Lifecycle):
    """A wrong-item claim. What happens to the wrong item on its way back does not move the claim."""

    nothing = State(initial=True)
    open = State()
    resolved = State()
    denied = State()

    ClaimOpened = nothing.to(open)
    EvidenceAdded = _stay(open)
    ClaimContacted = _stay(open)
    ContactMissed = _stay(open, resolved)
    ResolutionDeclined = _stay(open)
    ClaimResolved = open.to(resolved)
    ClaimDenied = open.to(denied)
    _reported = (open, resolved, denied)
    LabelIssued = _stay(open, resolved)
    LabelReceived = _stay(*_reported)
    LabelVoided = _stay(*_reported)
    ReturnShipped = _stay(*_reported)
    Received = _stay(*_reported)
    RefundRequested = _stay(resolved)
    RefundSettled = _stay(resolved)
    RefundFailed = _stay(resolved)
    RefundReversed = _stay(resolved)
    Refunded = _stay(resolved)


class ArrivalLifecycle(Lifecycle):
    """A parcel that nobody announced: parked until a person assigns it, or sends it away."""

    nothing = State(initial=True)
    parked = State()
    assigned = State()
    dismissed = State()

    ArrivalRecorded = nothing.to(parked)
    ArrivalAssigned = _move(assigned, parked, dismissed)
    ArrivalDismissed = parked.to(dismissed)


NOTHING = "nothing"
"""The state before the first event."""


@dataclass(frozen=True, slots=True)
class Move:
    """Where an event leads: to ``then`` when the guard holds (or there is none), else to ``otherwise``, or as that says."""

    then: str
    guard: str | None = None
    otherwise: str | Move | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """Every state to which the event may lead."""
        others = self.otherwise.targets if isinstance(self.otherwise, Move) else (self.otherwise,)
        return self.then, *(state for state in others if state is not None)

    @property
    def guards(self) -> tuple[str, ...]:
        """The guards in the order in which they are asked."""
        own = () if self.guard is None else (self.guard,)
        return own + (self.otherwise.guards if isinstance(self.otherwise, Move) else ())


class Table:
    """A compiled lifecycle."""

    def __init__(self, name: str, moves: Mapping[tuple[str, str], Move]) -> None:
        self.name = name
        self.moves = dict(moves)

    def allows(self, state: str, event: str) -> bool:
        """Whether the event may be recorded in that state."""
        return (state, event) in self.moves

    def after(self, state: str, event: str, holds: bool | Collection[str] = False) -> str:
        """The state after the event; ``holds`` says whether the guard of the move holds, or which of several guards do.

        Raises :class:`HistoryBroken` where the lifecycle has no such move. Decisions ask :meth:`allows` first, so the history
        is then damaged.
        """
        move = self.moves.get((state, event))
        if move is None:
            raise HistoryBroken(f"{self.name}: {event} is not possible in state {state}")
        while not (move.guard is None or (holds if isinstance(holds, bool) else move.guard in holds)):
            if not isinstance(move.otherwise, Move):
                return move.otherwise or state
            move = move.otherwise
        return move.then

    def leads_to(self, state: str, event: str) -> bool:
        """Whether the event may be recorded in that state, or in one that events lead to from there."""
        reached, waiting = {state}, [state]
        while waiting:
            source = waiting.pop()
            if self.allows(source, event):
                return True
            moves = (move for (begin, _), move in self.moves.items() if begin == source)
            new = {target for move in moves for target in move.targets} - reached
            reached |= new
            waiting += new
        return False

    def events(self, state: str) -> tuple[str, ...]:
        """The events that may be recorded in that state, in the order of the specification."""
        return tuple(event for source, event in self.moves if source == state)


def compile_table(machine: type[Lifecycle]) -> Table:
    """The table of a machine class: (state, event) → move."""
    ways: dict[tuple[str, str], list[tuple[str, str | None]]] = {}
    for state in machine.states:
        for transition in state.transitions:
            guard = next((str(spec.func) for spec in transition.cond), None)
            target = transition.target.id if transition.target is not None else state.id
            ways.setdefault((state.id, str(transition.event)), []).append((target, guard))
    moves = {key: _chained(*targets) for key, targets in ways.items()}
    return Table(machine.__name__.removesuffix("Lifecycle").lower(), moves)


def _chained(first: tuple[str, str | None], *others: tuple[str, str | None]) -> Move:
    if not others:
        return Move(*first)
    rest = _chained(*others)
    return Move(*first, rest if rest.guard is not None else rest.then)


MACHINES: dict[str, type[Lifecycle]] = {
    "order": OrderLifecycle,
    "return": ReturnLifecycle,
    "label": LabelLifecycle,
    "refund": RefundLifecycle,
    "claim": ClaimLifecycle,
    "arrival": ArrivalLifecycle,
}
"""The specifications, by name."""

ORDER, RETURN, LABEL, REFUND, CLAIM, ARRIVAL = (compile_table(machine) for machine in MACHINES.values())


def drawing(machine: type[Lifecycle], form: str) -> str:
    """The machine as ``mermaid`` text or as an ``md`` table, from the library."""
    renderable: Any = machine
    text = format(renderable, form)
    events: Any = machine.events
    for event in events:
        text = text.replace(event.name.ljust(len(event.id)), event.id)
    return text
