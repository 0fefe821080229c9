"""A case: an order with its returns, its claims and their refunds, or an arrival; loaded, judged and appended to as one.

States come from events here and nowhere else, live and in replay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from returnable.domain.arrivals import UnannouncedArrival, tracked, tracking_of
from returnable.domain.cached import cached_property
from returnable.domain.claims import Claim
from returnable.domain.errors import HistoryBroken, Impossible
from returnable.domain.events import (
    ArrivalRecorded,
    ClaimOpened,
    ClaimResolved,
    Event,
    Pins,
    RefundAnswer,
    RefundRecorded,
    RefundRequested,
    RefundSettled,
    ReturnRequested,
)
from returnable.domain.ids import Kind, RegisteredKind, StreamId
from returnable.domain.lifecycles import NOTHING
from returnable.domain.order.state import Held, Order, Replacement
from returnable.domain.ports import Recorded, ReservedId, Tip
from returnable.domain.refunds.state import Refund, RefundSubject, attempts_by_stream, credits_lost, due_by, on_its_way
from returnable.domain.refusals import REFUSALS, Refusal
from returnable.domain.returns.state import Return
from returnable.domain.ruling import Use


class Case:
    """An order with its returns, claims and refunds after ``seq`` events. It never changes once it is built.

    A parcel that nobody announced is a case without an order: only ``arrival`` is there.
    """

    __slots__ = (
        "__dict__",
        "arrival",
        "case_id",
        "claims",
        "last",
        "order",
        "refunds",
        "refusal",
        "returns",
        "seq",
        "tracking",
    )

    def __init__(self, case_id: str) -> None:
        self.case_id = case_id
        self.seq = 0
        self.order = Order(case_id)
        self.returns: dict[str, Return] = {}
        self.claims: dict[str, Claim] = {}
        self.refunds: dict[str, Refund] = {}
        self.arrival: UnannouncedArrival | None = None
        self.tracking: frozenset[str] = frozenset()
        """The keys of the tracking numbers of parcels that may come to the shop."""
        self.last: Recorded | None = None
        """The event that was recorded last."""
        self.refusal: Refusal | None = None
        """The refusal that was recorded last, with a link to those before it."""

    @property
    def tip(self) -> Tip | None:
        """The last event as the store holds it; ``None`` where it is not stored."""
        last = self.last
        return Tip(last.position, last.content) if last is not None and last.content else None

    @property
    def pins(self) -> Pins | None:
        """What judges the case: the policy in force when it began. ``None`` before its first event."""
        if self.arrival is not None:
            return self.arrival.recorded.pins
        return None if self.order.status == NOTHING else self.order.confirmed.pins

    @property
    def currency(self) -> str:
        """Of the order; empty where there is none."""
        return "" if self.order.status == NOTHING else self.order.currency

    def stream_of(self, stream: str) -> Order | Return | Claim:
        """The order, return or claim of that stream; raises ``HistoryBroken`` when it is not in this case."""
        kind, name = StreamId.parse(stream)
        if kind == "order" and name == self.case_id:
            return self.order
        found = self.returns.get(name) if kind == "return" else self.claims.get(name) if kind == "claim" else None
        if found is None:
            raise HistoryBroken(f"case {self.case_id!r} has no stream {stream!r}")
        return found

    def aggregate_of(self, stream: str) -> Order | Return | Claim | UnannouncedArrival:
        """The order, return, claim or arrival of that stream; raises ``HistoryBroken`` when it is not in this case."""
        if self.arrival is not None and self.arrival.stream == stream:
            return self.arrival
        return self.stream_of(stream)

    def stream_with(self, subject: StreamId) -> str:
        """The stream with the events of a subject. Those of a refund are in the stream of what it pays for."""
        return self.refunds[subject.id].stream if subject.kind == "refund" else str(subject)

    def version_of(self, stream: str) -> int:
        """How many events the stream has; 0 when it is not in this case."""
        try:
            return self.aggregate_of(stream).version
        except HistoryBroken:
            return 0

    def status_of(self, stream: str) -> str | None:
        """The state of the lifecycle of a stream; ``None`` before its first event."""
        try:
            status = self.aggregate_of(stream).status
        except HistoryBroken:
            return None
        return None if status == NOTHING else status

    def knows(self, kind: RegisteredKind, name: str) -> bool:
        """Whether a return, claim, refund or arrival of that id is in this case."""
        if kind == "arrival":
            return self.arrival is not None and self.arrival.arrival_id == name
        known: dict[RegisteredKind, Mapping[str, object]]
        known = {"return": self.returns, "claim": self.claims, "refund": self.refunds}
        return name in known[kind]

    @property
    def ways_back(self) -> Iterator[Return]:
        """What comes back: the returns, and the wrong items of claims."""
        yield from self.returns.values()
        for claim in self.claims.values():
            yield claim.way_back

    def way_back(self, stream: str) -> Return | None:
        """The return of that stream, or the wrong item of that claim."""
        return next((ret for ret in self.ways_back if ret.stream == stream), None)

    def open_returns(self) -> list[str]:
        """The ids of the returns that still hold units and are not paid."""
        return [
            ret.return_id
            for ret in self.returns.values()
            if ret.status != "refunded" and any(ret.held(line.line_id) for line in ret.lines)
        ]

    @cached_property
    def held(self) -> Mapping[str, Held]:
        """Line → the units that have got a remedy, or wait for one: the only place that says so.

        They are in a return that is neither declined nor withdrawn, settled by a claim, or cancelled.
        """
        return {line_id: self._held(line_id) for line_id in self.order.lines}

    def _held(self, line_id: str) -> Held:
        order, held = self.order, Held()
        for ret in self.returns.values():
            if not ret.cancelled:
                held.add(ret.held(line_id), ret.name)
        for claim in self.claims.values():
            if claim.line_id == line_id:
                held.add(claim.held(line_id), claim.name)
                held.add(order.given_away(claim.claim_id), claim.name)
        by_customer = order.cancelled_by_customer
        held.cancel(max(0, order.units(line_id) - held.total) if by_customer else order.cancelled(line_id))
        return held

    @cached_property
    def coming_back(self) -> Mapping[str, Held]:
        """Line → the cancelled units that come back in a return: nothing is owed for them."""
        found = {line_id: Held() for line_id in self.order.lines}
        for ret in self.returns.values():
            for line_id in ret.line_ids if ret.cancelled else ():
                found[line_id].add(ret.held(line_id), ret.name)
        return found

    def to_reship(self) -> list[str]:
        """The streams of the claims, and of the order, for which units are to be shipped again, or in the place of others."""
        order, found = self.order, dict[str, None]()
        for line_id in order.lines:
            settled = Held()
            for ret in self.returns.values():
                settled.add({} if ret.cancelled else ret.held(line_id), ret.name)
            for claim in self.claims.values():
                settled.add(claim.held(line_id), claim.name)
            for claim_id in order.to_reship(line_id, settled):
                found[order.stream if claim_id is None else self.claims[claim_id].stream] = None
        return list(found)

    def decisions_on(self, parcel_id: str) -> list[str]:
        """The ids of the decisions about units in that parcel: requests to return them, and reports of wrong items."""
        found = [
            f"{ret.stream}#2"
            for ret in self.returns.values()
            if any(parcel_id in ret.parcels_of(line.line_id) for line in ret.lines)
        ]
        claims = (claim for claim in self.claims.values() if parcel_id in claim.parcels_of(claim.line_id))
        return found + [f"{claim.stream}#1" for claim in claims]

    def refund_subject(self, stream: str) -> RefundSubject:
        """What a refund for that stream is decided on."""
        return RefundSubject(self.stream_of(stream), self.order, list(self.refunds.values()), self.held, self.returns)


def evolve(case: Case, recorded: Iterable[Recorded]) -> Case:
    """The case after more events; ``case`` itself does not change. Raises :class:`HistoryBroken` for an impossible event."""
    new = Case.__new__(Case)
    new.case_id, new.seq = case.case_id, case.seq
    new.order, new.returns = case.order, dict(case.returns)
    new.claims, new.refunds = dict(case.claims), dict(case.refunds)
    new.arrival, new.tracking = case.arrival, case.tracking
    new.last, new.refusal = case.last, case.refusal
    _apply_all(new, recorded, set())
    return new


def _apply_all(case: Case, recorded: Iterable[Recorded], owned: set[str]) -> None:
    """Apply events to a case that nobody else holds; ``owned`` names the streams that are not shared with another case."""
    for entry in recorded:
        _apply(case, entry.stream, entry.version, entry.event, owned)
        case.seq = entry.case_seq
        if type(entry.event) in REFUSALS:
            case.refusal = Refusal.of(entry, case.last, case.refusal)
        case.last = entry


def _apply(case: Case, stream: str, version: int, event: Event, owned: set[str]) -> None:
    kind, name = StreamId.parse(stream)
    if kind == "arrival":
        arrival = UnannouncedArrival(name) if case.arrival is None else case.arrival.clone()
        arrival.apply(event, version)
        case.arrival = arrival
        return
    key = tracking_of(event)
    if key is not None and key not in case.tracking:
        case.tracking |= {key}
    known: dict[str, Any] = case.returns if kind == "return" else case.claims
    subject: Order | Return | Claim | None = case.order if kind == "order" else known.get(name)
    if subject is None:
        subject = Return(name) if kind == "return" else Claim(name)
    elif stream not in owned:
        subject = subject.clone()
    refund_id = event.refund_id
    if refund_id is not None:
        _apply_to_refund(case, refund_id, stream, version, event, owned)
    subject.apply(event, version, isinstance(event, RefundAnswer) and _money_is_owed(case, stream, event))
    if isinstance(event, RefundAnswer) and case.refunds[event.refund_id].elsewhere is not None:
        _answer_for_credits(case, event, owned)
    if isinstance(subject, Order):
        case.order = subject
    else:
        known[name] = subject
    owned.add(stream)
    if isinstance(event, ClaimResolved) and event.remedy != "refund":
        _own_order(case, owned)
        claim = case.claims[name]
        granted = Replacement(claim.line_id, claim.settled_units, event.occurred_at, paid_back=event.remedy == "both")
        case.order.grant_replacement(name, granted)
    if (subject.overrides or case.order.overrides) and event.ruling and not event.declines:
        _use_overrides(case, subject, event, version, owned)


def _apply_to_refund(case: Case, refund_id: str, stream: str, version: int, event: Event, owned: set[str]) -> None:
    key = str(StreamId("refund", refund_id))
    refund = case.refunds.get(refund_id)
    if refund is None:
        refund = Refund(refund_id, stream)
    elif key not in owned:
        refund = refund.clone()
    refund.apply(event, version)
    case.refunds[refund_id] = refund
    owned.add(key)


def _money_is_owed(case: Case, stream: str, answer: RefundAnswer) -> bool:
    """Whether less went back for a subject than it is owed; before an answer that pays, what is pending does not count."""
    by_stream = attempts_by_stream(case.refunds.values())
    attempts = by_stream.get(stream, [])
    paid = sum(refund.settled for refund in attempts)
    due = due_by(attempts) + credits_lost(
        case.refunds, attempts, [each for each in by_stream.values() if each is not attempts]
    )
    return (paid if isinstance(answer, RefundSettled) else on_its_way(attempts)) < due


def _answer_for_credits(case: Case, answer: RefundAnswer, owned: set[str]) -> None:
    """A refund that was made elsewhere came back, or was paid again: so were the returns for which it counted."""
    for stream, attempts in attempts_by_stream(case.refunds.values()).items():
        kind, name = StreamId.parse(stream)
        if kind == "return" and any(credit.refund_id == answer.refund_id for credit in attempts[-1].requested.credits):
            ret = case.returns[name] if stream in owned else case.returns[name].clone()
            ret.move_by_answer(answer, _money_is_owed(case, stream, answer))
            case.returns[name] = ret
            owned.add(stream)


def _own_order(case: Case, owned: set[str]) -> None:
    if case.order.stream not in owned:
        case.order = case.order.clone()
        owned.add(case.order.stream)


def _use_overrides(case: Case, subject: Order | Return | Claim, event: Event, version: int, owned: set[str]) -> None:
    """Use up the overrides that an accepted decision cites: those of its subject, and those of the order."""
    grounds = [result.grounds.get("override") for result in event.ruling or ()]
    cited = [each.get("fact") for each in grounds if isinstance(each, dict)]
    if not cited:
        return
    _own_order(case, owned)
    use = Use(subject.stream, event.type, version)
    subject.use_overrides(cited, use)
    case.order.use_overrides(cited, use)


def fold(case_id: str, recorded: Sequence[Recorded]) -> Case:
    """The case after all its stored events."""
    case = Case(case_id)
    _apply_all(case, recorded, {case.order.stream})
    return case


@dataclass(frozen=True, slots=True)
class Step:
    """An event of a replay, and the state of its stream before (``None``: nothing yet) and after it."""

    entry: Recorded
    before: str | None
    after: str


def steps(case: Case, recorded: Iterable[Recorded]) -> Iterator[Step]:
    """Apply events one by one to a case that nobody else holds. Read ``case`` after each step, and keep nothing of it.

    Raises :class:`HistoryBroken` for an impossible event; ``case`` must not be used after that.
    """
    owned = {case.order.stream}
    for entry in recorded:
        before = case.status_of(entry.stream)
        _apply_all(case, (entry,), owned)
        case.__dict__.clear()  # what was computed after the step before
        yield Step(entry, before, case.status_of(entry.stream) or NOTHING)


def counts(entry: Recorded, as_of: datetime | None, known_at: datetime | None) -> bool:
    """Whether an event had occurred by ``as_of`` and was recorded by ``known_at``."""
    return (as_of is None or entry.event.occurred_at <= as_of) and (
        known_at is None or entry.event.recorded_at <= known_at
    )


def countable(
    case_id: str, recorded: Iterable[Recorded], as_of: datetime | None = None, known_at: datetime | None = None
) -> Iterator[tuple[Recorded, Case, Case]]:
    """The events that count, in the order of recording, each with the case before and after it.

    An inspection may be dated before the arrival. Such an event does not count until the event it builds on counts.
    """
    case = Case(case_id)
    for entry in recorded:
        if counts(entry, as_of, known_at):
            before = case
            try:
                case = evolve(case, (entry,))
            except HistoryBroken:
                continue
            yield entry, before, case


def fold_as_of(case_id: str, recorded: Iterable[Recorded], as_of: datetime | None, known_at: datetime | None) -> Case:
    """The case as it was in the world at ``as_of``, as far as it was recorded by ``known_at``."""
    after = Case(case_id)
    for _, _, case in countable(case_id, recorded, as_of, known_at):
        after = case
    return after


def reserved_ids_in(recorded: Iterable[Recorded]) -> Iterator[ReservedId]:
    """The ids of returns, claims, refunds and arrivals in these events, and the entries of their tracking numbers.

    Each must be unique in the whole store.
    """
    indexed: set[ReservedId] = set()
    for entry in recorded:
        event = entry.event
        key = tracking_of(event)
        if key is not None:
            indexed.add(tracked(entry.case_id, key))
        if isinstance(event, ReturnRequested):
            yield ReservedId("return", event.return_id, entry.case_id)
        elif isinstance(event, ClaimOpened):
            yield ReservedId("claim", event.claim_id, entry.case_id)
        elif isinstance(event, RefundRequested | RefundRecorded):
            yield ReservedId("refund", event.refund_id, entry.case_id)
        elif isinstance(event, ArrivalRecorded):
            yield ReservedId("arrival", event.arrival_id, entry.case_id)
    yield from sorted(indexed, key=lambda entry: entry.name)


def unknown(kind: Kind, name: str, field: str | None = None) -> Impossible:
    """``order.unknown``, ``return.unknown``, ``arrival.unknown`` and so on; ``field``: where it is named."""
    field = field or f"{kind}_id"
    return Impossible(f"{kind}.unknown", f"there is no {kind} {name!r}", field=field)  # type: ignore[arg-type]
