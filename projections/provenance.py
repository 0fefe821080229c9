"""Where the facts of a ruling come from: for every clause and every value it rests on, the recorded events behind it.

:data:`SOURCES` says it clause by clause: a place in the facts of the finding → the rules that find its events. A rule
looks only at what was on record when the decision was made, its own command included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from returnable.domain.case import Case, fold, steps
from returnable.domain.claims import Claim
from returnable.domain.events import (
    AccountLinked,
    CancellationRequested,
    Cancelled,
    ClaimOpened,
    ClaimResolved,
    Confirmed,
    Delivered,
    EvidenceAdded,
    Inspected,
    LabelIssued,
    LabelReceived,
    LabelVoided,
    ParcelLost,
    Received,
    RefundFailed,
    RefundRequested,
    RefundSettled,
    ReturnRequested,
    ReturnShipped,
    SentBack,
    Shipped,
)
from returnable.domain.ids import StreamId
from returnable.domain.policy import Policy
from returnable.domain.ports import Recorded
from returnable.domain.recorded_commands import RecordedCommand
from returnable.domain.returns.state import Return
from returnable.domain.ruling import ClauseResult

POLICY: Final = "policy"
"""The policy sets the value."""
ABSENCE: Final = "absence"
"""The value says that something is not on record."""


class Record:
    """What was on record when a command was decided: the facts before it, its own facts, and the policy it was judged by."""

    def __init__(self, before: Sequence[Recorded], past: RecordedCommand, policy: Policy) -> None:
        self.before = before
        self.past = past
        self.policy = policy
        self.stream = past.entries[0].stream
        self.case: Case = fold(past.entries[0].case_id, before)
        """The case as it was judged."""

    @property
    def request(self) -> Recorded:
        """The fact that says what was asked for: the first of the command."""
        return self.past.entries[0]

    @property
    def decision(self) -> Recorded:
        """The fact that carries the ruling."""
        return self.past.decided

    @property
    def ret(self) -> Return | None:
        """The return that was judged, as it was before; ``None`` for an order, a claim, or the request of a return."""
        return self.case.returns.get(StreamId.parse(self.stream).id) if self.stream.startswith("return/") else None

    def of(self, *kinds: type[Any], stream: str | None = None) -> Iterator[Recorded]:
        """The facts of these kinds that came before, oldest first; with ``stream`` only those of that stream."""
        for entry in self.before:
            if isinstance(entry.event, kinds) and stream in (None, entry.stream):
                yield entry


Element = Mapping[str, Any]
"""The innermost part of a finding's facts in which the value stands."""
Rule = Callable[[Record, ClauseResult, Element], Iterable[Recorded | str]]


# ---- rules: the command itself and the order ------------------------------------------------------------------------


def the_policy(record: Record, finding: ClauseResult, element: Element) -> Iterator[str]:
    """The policy says so."""
    yield POLICY


def nothing_on_record(record: Record, finding: ClauseResult, element: Element) -> Iterator[str]:
    """No fact says so, and that is what the value says."""
    yield ABSENCE


def the_request(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """What was asked for."""
    yield record.request


def the_decision(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The decision itself: its instant, and what it resolved."""
    yield record.decision


def the_confirmation(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The confirmation of the order: what was bought, for how much, by whom, and until when it can be cancelled."""
    yield next(record.of(Confirmed))


def first_incomplete_request(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The earliest mail that lacked only the order reference."""
    asked = [e for e in record.of(CancellationRequested) if getattr(e.event, "incomplete", False)]
    yield from sorted(asked, key=lambda entry: entry.event.occurred_at)[:1]


def what_counts_as_request(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The first incomplete mail where it counts, else the request."""
    counted = "first_incomplete_at" in finding.grounds
    yield from (first_incomplete_request if counted else the_request)(record, finding, element)


def when_it_was_judged(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded | str]:
    """The policy chooses: the decision, or the arrival of the request (of the first incomplete one, if that was earlier)."""
    yield POLICY
    if record.policy.clauses.cancellation_not_shipped.judged == "when_decided":
        yield record.decision
        return
    first = [*first_incomplete_request(record, finding, element), record.request]
    yield min(first, key=lambda entry: entry.event.occurred_at)


def shipment_of_the_parcel(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The first telling of the parcel's shipment; later ones are conflicts."""
    yield from [e for e in record.of(Shipped) if getattr(e.event, "parcel_id", None) == element["parcel_id"]][:1]


def _delivery(record: Record, parcel_id: str | None) -> Iterator[Recorded]:
    yield from [e for e in record.of(Delivered) if getattr(e.event, "parcel_id", None) == parcel_id][:1]


def delivery_of_the_parcel(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The first telling of the parcel's delivery; later ones are conflicts."""
    yield from _delivery(record, element.get("parcel_id"))


def every_delivery(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded | str]:
    """All deliveries where everything was delivered; else nothing says so."""
    if not element["delivered"]:
        yield ABSENCE
        return
    for parcel_id in record.case.order.parcels:
        yield from _delivery(record, parcel_id)


def tightest_delivery(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The delivery that set the tightest deadline of the lines."""
    lines: list[dict[str, Any]] = finding.grounds["lines"]  # type: ignore[assignment]
    for line in lines:
        if line.get("return_before") == finding.grounds["deadline"]:
            yield from _delivery(record, line["parcel_id"])


def deliveries_of_the_line(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded | str]:
    """The deliveries of the parcels from which units of this line are to be taken."""
    asked: Any = record.request.event
    for line in asked.lines if isinstance(asked, ReturnRequested) else ():
        if line.line_id == element["line_id"]:
            for taken in line.parcels:
                yield from _delivery(record, taken.parcel_id)


def the_account(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The account as it was known last: linked, or given with the order."""
    yield ([*record.of(AccountLinked)] or [*record.of(Confirmed)])[-1]


def where_the_account_began(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The confirmation of an order that came with an account, else the first link."""
    confirmed = next(record.of(Confirmed))
    event: Any = confirmed.event
    yield confirmed if event.customer.account_id is not None else next(record.of(AccountLinked))


# ---- rules: labels and the way back ---------------------------------------------------------------------------------


def _label_facts(record: Record, label_id: object, *kinds: type[Any]) -> list[Recorded]:
    return [e for e in record.of(*kinds, stream=record.stream) if getattr(e.event, "label_id", None) == label_id]


def _label_deadline(record: Record, label_id: object) -> Iterator[Recorded]:
    yield from _label_facts(record, label_id, LabelIssued, LabelReceived)[-1:]


def the_voided_label(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The issue of the label that voided by itself, and the voiding where that is on record."""
    yield from _label_facts(record, element["voided_label_id"], LabelIssued, LabelVoided)


def deadline_of_the_label(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """What set the deadline: the receipt or the issue of the label that voided, else the issue of the new one."""
    if "voided_label_id" in finding.grounds:
        yield from _label_deadline(record, finding.grounds["voided_label_id"])
    elif "label_id" in finding.grounds:
        yield record.decision
    elif record.ret is not None and record.ret.labels:
        last = max(record.ret.labels.values(), key=lambda label: label.void_at)
        yield from _label_deadline(record, last.label_id)


def the_hand_over(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The hand-over, where one is on record, else the arrival."""
    yield ([*record.of(ReturnShipped, stream=record.stream)] or [record.decision])[-1]


def labels_that_were_used(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded | str]:
    """The issue of each label that was used, and what shows that it was; nothing where none was."""
    used = record.ret.labels_used() if record.ret is not None else []
    for label in used:
        yield from _label_facts(record, label.label_id, LabelIssued, LabelReceived, ReturnShipped)
        if record.ret is not None and record.ret.shipped is None:  # it came on the label without a recorded hand-over
            yield from record.of(Received, stream=record.stream)
    if not used:
        yield ABSENCE


# ---- rules: inspection and money ------------------------------------------------------------------------------------


def the_return_request(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """What was to come back."""
    yield from record.of(ReturnRequested, stream=record.stream)


def the_inspections(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded | str]:
    """All inspections of the return; where there is none, nothing says so."""
    found = [*record.of(Inspected, stream=record.stream)]
    yield from found
    if not found:
        yield ABSENCE


def the_last_inspection(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The inspection that came last."""
    yield from [*record.of(Inspected, stream=record.stream)][-1:]


def what_is_paid_for(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The units: what was asked for, found at inspection and sent back; of a claim, the report and its settlement."""
    kinds = (ReturnRequested, Inspected, SentBack, ClaimOpened, ClaimResolved, Cancelled)
    yield from record.of(*kinds, stream=record.stream)


def what_moved_it_last(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The fact that brought the return where it stands."""
    case = Case(record.case.case_id)
    moves = [step.entry for step in steps(case, record.before) if step.before != step.after]
    yield from [entry for entry in moves if entry.stream == record.stream][-1:]


def the_loss(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The last report that the parcel is lost."""
    yield from [*record.of(ParcelLost, stream=record.stream)][-1:]


def shipping_paid_back_elsewhere(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """Refunds of something else that paid outbound shipping back."""
    for entry in record.of(RefundRequested):
        event: Any = entry.event
        if entry.stream != record.stream and event.shipping:
            yield entry


def what_others_hold(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """Units that returns and claims hold, and that are not paid for here."""
    holders: list[Return | Claim] = [*record.case.returns.values(), *record.case.claims.values()]
    for holder in holders:
        if holder.stream != record.stream and any(sum(holder.held(line).values()) for line in record.case.order.lines):
            yield from record.of(ReturnRequested, SentBack, ClaimOpened, ClaimResolved, stream=holder.stream)


def refunds_so_far(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The refunds of the order before this one, and what the payment provider answered."""
    yield from record.of(RefundRequested, RefundSettled, RefundFailed)


# ---- rules: claims --------------------------------------------------------------------------------------------------


def the_evidence(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The report of the wrong item, and the evidence that followed."""
    if isinstance(record.request.event, ClaimOpened):
        yield record.request
    else:
        yield from record.of(ClaimOpened, EvidenceAdded, stream=record.stream)


def the_report(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The report of the wrong item."""
    yield from record.of(ClaimOpened, stream=record.stream)


def the_settlement(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The settlement of the claim, or the decision that is to settle it."""
    yield ([*record.of(ClaimResolved, stream=record.stream)] or [record.decision])[-1]


def the_cancellation(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The cancellation of the order."""
    yield from record.of(Cancelled)


def the_override(record: Record, finding: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The fact by which the clause was set aside."""
    yield from (e for e in record.before if e.event_id == element["fact"])


# ---- the table ------------------------------------------------------------------------------------------------------

Rules = tuple[Rule, ...]

_CHANNEL: dict[str, Rules] = {"channel": (the_request,), "channels": (the_policy,)}
_EVIDENCE: dict[str, Rules] = {
    "requires": (the_policy,),
    "given": (the_evidence,),
    "missing": (the_policy, the_evidence),
}
_PRICED = (the_confirmation, what_is_paid_for)
_TENDERS = (the_decision, the_confirmation, what_is_paid_for, refunds_so_far)

ANYWHERE: dict[str, Rules] = {
    "applies": (the_policy,),
    "override.approved_by": (the_override,),
    "override.reason": (the_override,),
    "override.granted_at": (the_override,),
    "override.fact": (the_override,),
}
"""What the facts of any clause may hold: a clause the merchant does not have, or an override that sets it aside."""

SOURCES: dict[str, dict[str, Rules]] = {
    "cancellation.window": {
        "confirmed_at": (the_confirmation,),
        "requested_at": (the_request,),
        "first_incomplete_at": (first_incomplete_request,),
        "deadline": (the_confirmation,),
        "margin_seconds": (the_confirmation, what_counts_as_request),
    },
    "cancellation.not_shipped": {
        "judged_at": (when_it_was_judged,),
        "parcels": (nothing_on_record,),
        "parcels[].parcel_id": (shipment_of_the_parcel,),
        "parcels[].shipped_at": (shipment_of_the_parcel,),
        "delivered": (every_delivery,),
    },
    "cancellation.by_email": {
        **_CHANNEL,
        "requires_one_of": (the_policy,),
        "given": (the_request,),
        "incomplete": (the_policy, the_request),
    },
    "cancellation.notice": {"owed": (the_policy, the_decision)},
    "cancellation.full_refund": {
        "cancelled_at": (the_cancellation,),
        "shipping": (the_policy, the_confirmation, shipping_paid_back_elsewhere),
        "amount": (*_PRICED, what_others_hold, refunds_so_far),
    },
    "returns.window": {
        "requested_at": (the_request,),
        "deadline": (tightest_delivery,),
        "margin_seconds": (tightest_delivery, the_request),
        "lines[].line_id": (the_request,),
        "lines[].quantity": (the_request,),
        "lines[].undelivered": (nothing_on_record,),
        "lines[].parcel_id": (delivery_of_the_parcel,),
        "lines[].delivered_at": (delivery_of_the_parcel,),
        "lines[].return_before": (delivery_of_the_parcel,),
        "lines[].margin_seconds": (delivery_of_the_parcel, the_request),
        "lines[].in_time": (deliveries_of_the_line, the_request),
    },
    "returns.final_sale": {"lines": (the_request,), "final_sale": (the_confirmation,)},
    "returns.account": {
        "requested_at": (the_request,),
        "account_id": (the_account,),
        "account_since_at": (where_the_account_began,),
    },
    "returns.portal": _CHANNEL,
    "returns.no_exchanges": {"resolution": (the_request,)},
    "returns.ship_by": {
        "label_id": (the_decision,),
        "voided_label_id": (the_voided_label,),
        "sent_at": (the_hand_over,),
        "proven_by": (the_hand_over,),
        "deadline": (deadline_of_the_label,),
        "margin_seconds": (deadline_of_the_label, the_hand_over),
    },
    "returns.tracking": {"sent_at": (the_hand_over,), "proven_by": (the_hand_over,)},
    "returns.own_label": {"own_label": (the_hand_over,)},
    "returns.condition": {
        "requires": (the_policy,),
        "units[].line_id": (the_decision,),
        "units[].quantity": (the_decision,),
        "units[].missing": (the_policy, the_decision),
        "accepted": (the_inspections,),
        "rejected": (the_inspections,),
    },
    "returns.label_fee": {
        "labels_used": (labels_that_were_used,),
        "threshold": (the_policy,),
        "fee": (the_policy,),
        "currency": (the_confirmation,),
        "stated_in": (the_policy,),
        "lines[].line_id": (the_return_request, the_inspections),
        "lines[].unit_price": (the_confirmation,),
        "lines[].below": (the_policy, the_confirmation),
        "amount": (the_policy, labels_that_were_used, *_PRICED),
    },
    "returns.shipping_non_refundable": {
        "shipping": (the_confirmation, shipping_paid_back_elsewhere),
        "kept": (the_policy, the_confirmation, shipping_paid_back_elsewhere),
    },
    "returns.refund_after_inspection": {
        "status": (what_moved_it_last,),
        "inspected": (the_inspections,),
        "inspected_at": (the_last_inspection,),
        "lost_at": (the_loss,),
    },
    "returns.original_tender": {
        "total": _TENDERS,
        "tenders": (the_confirmation,),
        "tenders[].payment_id": (the_confirmation, the_decision),
        "tenders[].amount": (the_policy, *_TENDERS),
    },
    "returns.refund_timing": {
        "issued_at": (the_decision,),
        "expected_from": (the_policy, the_decision),
        "expected_to": (the_policy, the_decision),
        "deadline": (the_decision,),
    },
    "returns.transit_risk": {"lost_at": (the_loss,)},
    "wrong_item.window": {
        "line_id": (the_request,),
        "reported_at": (the_request,),
        "undelivered": (nothing_on_record,),
        "parcel_id": (delivery_of_the_parcel,),
        "delivered_at": (delivery_of_the_parcel,),
        "deadline": (delivery_of_the_parcel,),
        "margin_seconds": (delivery_of_the_parcel, the_request),
    },
    "wrong_item.by_email": _CHANNEL,
    "wrong_item.evidence": _EVIDENCE,
    "wrong_item.contact": {"contact_by": (the_policy, the_request)},
    "wrong_item.remedy": {
        "remedy": (the_settlement,),
        "line_id": (the_report,),
        "quantity": (the_report,),
        "whole_order": (the_report, the_confirmation),
        "shipping": (the_policy, the_confirmation, shipping_paid_back_elsewhere),
        "amount": (*_PRICED, refunds_so_far),
    },
}
"""Clause id → place in the facts (``[]``: in each element of the list before it) → the rules that find its events."""

UNSAID: dict[str, tuple[str, ...]] = {
    "returns.window": ("deadline",),
    "returns.account": ("account_id",),
    "returns.ship_by": ("deadline",),
    "returns.refund_after_inspection": ("inspected_at",),
    "wrong_item.window": ("deadline",),
}
"""Clause id → the facts whose absence speaks: no delivery, no account, no label, no inspection is on record."""


@dataclass(frozen=True, slots=True)
class Sourced:
    """A value of a finding and what it comes from: event ids, :data:`POLICY`, :data:`ABSENCE`."""

    key: str
    value: JsonValue
    sources: tuple[str, ...]


def sourced(finding: ClauseResult, record: Record) -> Iterator[tuple[Sourced, tuple[Recorded, ...]]]:
    """Every value of a finding with its sources, and the events among them; then what its absence says."""
    if finding.grounds.get("applies") is False:
        yield from (_sourced("applies", "applies", False, finding.grounds, finding, record),)
        return
    for pattern, key, value, element in _leaves(finding.grounds):
        yield _sourced(pattern, key, value, element, finding, record)
    for key in UNSAID.get(finding.clause, ()):
        if key not in finding.grounds:
            yield Sourced(key, None, (ABSENCE,)), ()


def _sourced(
    pattern: str, key: str, value: JsonValue, element: Element, finding: ClauseResult, record: Record
) -> tuple[Sourced, tuple[Recorded, ...]]:
    rules = ANYWHERE.get(pattern) or SOURCES[finding.clause].get(pattern, ())
    found = [source for rule in rules for source in rule(record, finding, element)]
    events = {entry.case_seq: entry for entry in found if isinstance(entry, Recorded)}
    marks = dict.fromkeys(mark for mark in found if isinstance(mark, str))
    # "Nothing says so" is true only where nothing does: a rule that found events has the word.
    kept = [mark for mark in marks if mark != ABSENCE or not events]
    ordered = tuple(events[seq] for seq in sorted(events))
    return Sourced(key, value, (*(entry.event_id for entry in ordered), *kept)), ordered


def _leaves(grounds: Mapping[str, JsonValue]) -> Iterator[tuple[str, str, JsonValue, Element]]:
    """Pattern, place and value of everything that is no structure itself, and the structure it stands in."""
    for name, value in grounds.items():
        if isinstance(value, dict):
            for inner, entry in value.items():
                yield f"{name}.{inner}", f"{name}.{inner}", entry, value
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, element in enumerate(value):
                assert isinstance(element, dict)
                for inner, entry in element.items():
                    yield f"{name}[].{inner}", f"{name}[{index}].{inner}", entry, element
        else:
            yield name, name, value, grounds
