"""The sources of a ruling: for every clause and every value it rests on, the recorded events behind it.

:data:`SOURCES` lists them clause by clause: place in the grounds of the clause → the rules that find its events. A rule
reads only the events that were recorded when the decision was made, with those of its own command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

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
    DeliveryTakenBack,
    EvidenceAdded,
    Inspected,
    InspectionCorrected,
    LabelIssued,
    LabelReceived,
    LabelVoided,
    ParcelLost,
    ParcelRejected,
    PaymentCaptured,
    PayoutNamed,
    Received,
    RefundFailed,
    RefundRecorded,
    RefundRequested,
    RefundReversed,
    RefundSettled,
    ReturnReduced,
    ReturnRequested,
    ReturnShipped,
    ReturnWithdrawn,
    SentBack,
    Shipped,
    UnitsCancelled,
)
from returnable.domain.fields import to_text
from returnable.domain.ids import StreamId
from returnable.domain.policy import Policy
from returnable.domain.ports import Recorded
from returnable.domain.reasons import localised
from returnable.domain.recorded_commands import RecordedCommand
from returnable.domain.returns.state import Return
from returnable.domain.ruling import ClauseResult
from returnable.projections.audit_models import EventSource

POLICY: Final = "policy"
"""The policy sets the value."""
ABSENCE: Final = "absence"
"""The value says that something is not recorded."""


class Record:
    """The record on which a command was decided: the events before it, its own events, and the policy that judged."""

    def __init__(self, before: Sequence[Recorded], command: RecordedCommand, policy: Policy) -> None:
        self.before = before
        self.request = command.entries[0]
        """The event that holds the request: the first of the command."""
        self.decision = command.decided
        """The event that carries the ruling."""
        self.policy = policy
        self.stream = self.request.stream
        self.case: Case = fold(self.request.case_id, before)
        """The case as it was judged."""

    @property
    def ret(self) -> Return | None:
        """The return that was judged, as it was before; ``None`` for an order, a claim, or the request of a return."""
        return self.case.way_back(self.stream)

    def of(self, *kinds: type[Any], stream: str | None = None, **fields: object) -> list[Recorded]:
        """The earlier events of these kinds, oldest first; only those of ``stream``, and with these values in ``fields``."""
        return [
            entry
            for entry in self.before
            if isinstance(entry.event, kinds)
            and stream in (None, entry.stream)
            and all(getattr(entry.event, name) == value for name, value in fields.items())
        ]

    @property
    def first_incomplete(self) -> list[Recorded]:
        """The earliest request for cancellation that lacked only the order reference."""
        asked = self.of(CancellationRequested, incomplete=True)
        return sorted(asked, key=lambda entry: entry.event.occurred_at)[:1]

    def own(self, *kinds: type[Any], **fields: object) -> list[Recorded]:
        """The same of the stream that was judged."""
        return self.of(*kinds, stream=self.stream, **fields)


Element = Mapping[str, Any]
"""The innermost structure of the grounds that holds the value."""
Rule = Callable[[Record, ClauseResult, Element], Iterable[Recorded | str]]


def _rule(find: Callable[[Record], Iterable[Recorded | str]]) -> Rule:
    """A rule that needs only the record, neither the grounds of the clause nor the place of the value in them."""
    return lambda record, result, element: find(record)


# ---- rules: the command itself and the order ------------------------------------------------------------------------

the_request = _rule(lambda record: [record.request])
"""The request that was judged."""
the_decision = _rule(lambda record: [record.decision])
"""The decision itself: its instant, and what it resolved."""
the_confirmation = _rule(lambda record: record.of(Confirmed)[:1])
"""What was bought, for how much, by whom, and until when it can be cancelled."""
the_cancellation = _rule(lambda record: record.of(Cancelled) or record.of(UnitsCancelled)[-1:])
"""The granted request, or the shop's cancellation of the last units."""
the_account = _rule(lambda record: (record.of(AccountLinked) or record.of(Confirmed))[-1:])
"""The account that was known last: linked, or given with the order."""
first_incomplete_request = _rule(lambda record: record.first_incomplete)
"""The earliest mail that lacked only the order reference."""


def what_counts_as_request(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded]:
    """The first incomplete mail if it counts, else the request."""
    return record.first_incomplete if "first_incomplete_at" in result.grounds else [record.request]


def when_it_was_judged(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded | str]:
    """The policy chooses: the decision, or the arrival of the request (or of the first incomplete one, if earlier)."""
    if record.policy.clauses.cancellation_not_shipped.judged == "when_decided":
        return POLICY, record.decision
    return POLICY, min([*record.first_incomplete, record.request], key=lambda entry: entry.event.occurred_at)


def shipment_of_the_parcel(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded]:
    """The first shipment of the parcel; later ones are conflicts."""
    return record.of(Shipped, Delivered, parcel_id=element["parcel_id"])[:1]


def delivery_of_the_parcel(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded]:
    """The first delivery of the parcel that was not taken back; later ones are conflicts."""
    return _deliveries(record, element.get("parcel_id"))


def _deliveries(record: Record, parcel_id: str | None) -> list[Recorded]:
    events = record.of(Delivered, DeliveryTakenBack, parcel_id=parcel_id)
    taken_back = [index for index, entry in enumerate(events) if isinstance(entry.event, DeliveryTakenBack)]
    return events[taken_back[-1] + 1 if taken_back else 0 :][:1]


def every_delivery(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded | str]:
    """All deliveries if everything was delivered; otherwise the absence of one."""
    if not element["delivered"]:
        return [ABSENCE]
    return [each for parcel_id in record.case.order.parcels for each in _deliveries(record, parcel_id)]


def tightest_delivery(record: Record, result: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The delivery that set the tightest deadline of the lines."""
    lines: list[dict[str, Any]] = result.grounds["lines"]  # type: ignore[assignment]
    for line in lines:
        if line.get("return_before") == result.grounds["deadline"]:
            yield from delivery_of_the_parcel(record, result, line)


def deliveries_of_the_line(record: Record, result: ClauseResult, element: Element) -> Iterator[Recorded]:
    """The deliveries of the parcels from which units of this line are to be taken."""
    asked = record.request.event
    for line in asked.lines if isinstance(asked, ReturnRequested) else ():
        if line.line_id == element["line_id"]:
            for taken in line.parcels:
                yield from _deliveries(record, taken.parcel_id)


def where_the_account_began(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded]:
    """The event of the earliest account: the confirmation of an order that came with one, or a link."""
    given = record.case.order.confirmed.customer.account_id is not None
    links = record.of(Confirmed, AccountLinked) if given else record.of(AccountLinked)
    return sorted(links, key=lambda entry: entry.event.occurred_at)[:1]


# ---- rules: labels and the way back ---------------------------------------------------------------------------------


def the_hand_over(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded]:
    """The hand-over that counts if one is recorded, else the first arrival; an impossible one counts when it was told."""
    sent_at = result.grounds.get("sent_at")
    if result.grounds.get("proven_by") != "arrival":
        told = [entry for entry in record.own(ReturnShipped) if to_text(entry.event.occurred_at) == sent_at]
    else:
        arrivals = record.own(Received, ParcelRejected)
        told = [one for one in arrivals if sent_at in (to_text(one.event.occurred_at), to_text(one.event.recorded_at))]
    return (told or [record.decision])[-1:]


def _of_label(record: Record, result: ClauseResult) -> str:
    """The stream of the return whose label is meant: this one, or an earlier one for the same units."""
    earlier = result.grounds.get("voided_return_id")
    return record.stream if earlier is None else str(StreamId("return", str(earlier)))


def the_voided_label(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded]:
    """The issue of the label that voided by itself, and its voiding if that is recorded."""
    label_id = element["voided_label_id"]
    return record.of(LabelIssued, LabelVoided, stream=_of_label(record, result), label_id=label_id)


def the_end_of_the_earlier_return(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded]:
    """What freed the units of the return whose label voided by itself."""
    return record.of(ReturnWithdrawn, ReturnReduced, SentBack, stream=_of_label(record, result))


def deadline_of_the_label(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded]:
    """The event that set the deadline: receipt or issue of the label that voided, else the issue of the new one."""
    if "voided_label_id" not in result.grounds and "label_id" in result.grounds:
        return [record.decision]
    issued = record.of(LabelIssued, LabelReceived, stream=_of_label(record, result))
    deadline = result.grounds.get("deadline")
    return [entry for entry in issued if to_text(_void_at(entry)) == deadline][-1:]


def _void_at(entry: Recorded) -> datetime:
    event = entry.event
    if not isinstance(event, LabelIssued | LabelReceived):
        raise AssertionError(f"{event.type} sets no deadline of a label")
    return event.void_at


def labels_that_were_used(record: Record, result: ClauseResult, element: Element) -> Iterator[Recorded | str]:
    """The issue of each label that was used, and what proves its use; absence if none was used."""
    ret = record.ret
    used = ret.labels_used() if ret is not None else []
    for label in used:
        yield from record.own(LabelIssued, LabelReceived, ReturnShipped, label_id=label.label_id)
        if ret is not None and ret.shipped is None:  # it came on the label without a recorded hand-over
            yield from record.own(Received)
    if not used:
        yield ABSENCE


# ---- rules: inspection and money ------------------------------------------------------------------------------------

the_return_request = _rule(lambda record: record.own(ReturnRequested))
the_inspections = _rule(lambda record: record.own(Inspected, InspectionCorrected) or [ABSENCE])
the_last_inspection = _rule(lambda record: record.own(Inspected)[-1:])
the_arrivals = _rule(lambda record: record.own(ParcelRejected) or [ABSENCE])
the_loss = _rule(lambda record: record.own(ParcelLost)[-1:])
_UNITS = (ReturnRequested, ReturnReduced, Inspected, InspectionCorrected, SentBack)
what_is_paid_for = _rule(lambda record: record.own(*_UNITS, ClaimOpened, ClaimResolved, Cancelled, UnitsCancelled))
"""The units: requested, inspected and sent back; of a claim, its report and its settlement."""
refunds_so_far = _rule(
    lambda record: record.of(
        RefundRequested, RefundRecorded, RefundSettled, RefundFailed, RefundReversed, PaymentCaptured
    )
)
"""The earlier refunds of the order, the answers of the payment provider, and what was captured later."""
the_named_payout = _rule(lambda record: record.of(PayoutNamed))


def what_moved_it_last(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded]:
    """The event that brought the return to its state."""
    walked = steps(Case(record.case.case_id), record.before)
    return [step.entry for step in walked if step.before != step.after and step.entry.stream == record.stream][-1:]


def shipping_paid_back_elsewhere(record: Record, result: ClauseResult, element: Element) -> Iterator[Recorded]:
    """Refunds for other streams that paid outbound shipping back."""
    for entry in record.of(RefundRequested):
        if isinstance(entry.event, RefundRequested) and entry.event.shipping and entry.stream != record.stream:
            yield entry


def what_others_hold(record: Record, result: ClauseResult, element: Element) -> Iterator[Recorded]:
    """Units that other returns and claims hold, and that are not paid for here."""
    holders: list[Return | Claim] = [*record.case.returns.values(), *record.case.claims.values()]
    for holder in holders:
        if holder.stream != record.stream and any(sum(holder.held(line).values()) for line in record.case.order.lines):
            yield from record.of(ReturnRequested, SentBack, ClaimOpened, ClaimResolved, stream=holder.stream)


# ---- rules: claims and overrides ------------------------------------------------------------------------------------

the_report = _rule(lambda record: record.own(ClaimOpened))
the_evidence = _rule(
    lambda record: (
        [record.request] if isinstance(record.request.event, ClaimOpened) else record.own(ClaimOpened, EvidenceAdded)
    )
)
"""The report of the wrong item, and the evidence that followed."""
the_settlement = _rule(lambda record: (record.own(ClaimResolved) or [record.decision])[-1:])
"""The settlement of the claim, or the decision that is to settle it."""


def the_override(record: Record, result: ClauseResult, element: Element) -> Iterable[Recorded]:
    """The event that set the clause aside."""
    return [entry for entry in record.before if entry.event_id == element["fact"]]


# ---- the table ------------------------------------------------------------------------------------------------------

Rules = tuple[Rule | str, ...]

_CHANNEL: dict[str, Rules] = {"channel": (the_request,), "channels": (POLICY,)}
_EVIDENCE: dict[str, Rules] = {
    "requires": (POLICY,),
    "given": (the_evidence,),
    "missing": (POLICY, the_evidence),
}
_PRICED = (the_confirmation, what_is_paid_for)
_TENDERS = (the_decision, the_confirmation, what_is_paid_for, refunds_so_far)

_OVERRIDE = ("approved_by", "reason", "granted_at", "fact", "lines", "expires_at", "once")

ANYWHERE: dict[str, Rules] = {
    "applies": (POLICY,),
    "cancelled": (the_cancellation,),
    "wrong_item": (the_report,),
    **{f"override.{name}": (the_override,) for name in _OVERRIDE},
}
"""Values of any clause: one that the merchant does not have, goods that come back without a refund, or an override."""

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
        "parcels": (ABSENCE,),
        "parcels[].parcel_id": (shipment_of_the_parcel,),
        "parcels[].shipped_at": (shipment_of_the_parcel,),
        "delivered": (every_delivery,),
    },
    "cancellation.by_email": {
        **_CHANNEL,
        "requires_one_of": (POLICY,),
        "given": (the_request,),
        "incomplete": (POLICY, the_request),
    },
    "cancellation.notice": {"owed": (POLICY, the_decision)},
    "cancellation.full_refund": {
        "cancelled_at": (the_cancellation,),
        "shipping": (POLICY, the_confirmation, shipping_paid_back_elsewhere),
        "amount": (*_PRICED, what_others_hold, refunds_so_far),
    },
    "returns.window": {
        "requested_at": (the_request,),
        "deadline": (tightest_delivery,),
        "margin_seconds": (tightest_delivery, the_request),
        "lines[].line_id": (the_request,),
        "lines[].quantity": (the_request,),
        "lines[].undelivered": (ABSENCE,),
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
        "voided_return_id": (the_end_of_the_earlier_return,),
        "sent_at": (the_hand_over,),
        "proven_by": (the_hand_over,),
        "deadline": (deadline_of_the_label,),
        "margin_seconds": (deadline_of_the_label, the_hand_over),
    },
    "returns.tracking": {"sent_at": (the_hand_over,), "proven_by": (the_hand_over,)},
    "returns.own_label": {"own_label": (the_hand_over,)},
    "returns.condition": {
        "requires": (POLICY,),
        "units[].line_id": (the_decision,),
        "units[].quantity": (the_decision,),
        "units[].missing": (POLICY, the_decision),
        "accepted": (the_inspections,),
        "rejected": (the_inspections,),
    },
    "returns.label_fee": {
        "labels_used": (labels_that_were_used,),
        "labels_charged": (labels_that_were_used, refunds_so_far),
        "threshold": (POLICY,),
        "fee": (POLICY,),
        "currency": (the_confirmation,),
        "stated_in": (POLICY,),
        "lines[].line_id": (the_return_request, the_inspections),
        "lines[].unit_price": (the_confirmation,),
        "lines[].below": (POLICY, the_confirmation),
        "amount": (POLICY, labels_that_were_used, *_PRICED, refunds_so_far),
    },
    "returns.shipping_non_refundable": {
        "shipping": (the_confirmation, shipping_paid_back_elsewhere),
        "kept": (POLICY, the_confirmation, shipping_paid_back_elsewhere, refunds_so_far),
    },
    "returns.refund_after_inspection": {
        "status": (what_moved_it_last,),
        "inspected": (the_inspections,),
        "inspected_at": (the_last_inspection,),
        "taken_in": (the_arrivals,),
        "lost_at": (the_loss,),
    },
    "returns.original_tender": {
        "total": _TENDERS,
        "tenders": (the_confirmation,),
        "tenders[].payment_id": (the_confirmation, the_decision),
        "tenders[].payout_id": (the_named_payout,),
        "tenders[].amount": (POLICY, *_TENDERS),
    },
    "returns.refund_timing": {
        "issued_at": (the_decision,),
        "expected_from": (POLICY, the_decision),
        "expected_to": (POLICY, the_decision),
        "deadline": (the_decision,),
    },
    "returns.transit_risk": {"lost_at": (the_loss,)},
    "wrong_item.window": {
        "line_id": (the_request,),
        "reported_at": (the_request,),
        "undelivered": (ABSENCE,),
        "parcel_id": (delivery_of_the_parcel,),
        "delivered_at": (delivery_of_the_parcel,),
        "deadline": (delivery_of_the_parcel,),
        "margin_seconds": (delivery_of_the_parcel, the_request),
    },
    "wrong_item.by_email": _CHANNEL,
    "wrong_item.evidence": _EVIDENCE,
    "wrong_item.contact": {"contact_by": (POLICY, the_request)},
    "wrong_item.remedy": {
        "remedy": (the_settlement,),
        "line_id": (the_report,),
        "quantity": (the_report,),
        "whole_order": (the_report, the_confirmation, refunds_so_far),
        "shipping": (POLICY, the_confirmation, shipping_paid_back_elsewhere),
        "amount": (*_PRICED, refunds_so_far),
    },
}
"""Clause id → place in the grounds (``[]``: in each element of the list before it) → the sources: rules, or :data:`POLICY`,
or :data:`ABSENCE`."""

UNSAID: dict[str, tuple[str, ...]] = {
    "returns.window": ("deadline",),
    "returns.account": ("account_id",),
    "returns.ship_by": ("deadline",),
    "returns.refund_after_inspection": ("inspected_at",),
    "wrong_item.window": ("deadline",),
}
"""Clause id → the values whose absence is evidence: no delivery, no account, no label, no inspection is recorded."""


def sourced(result: ClauseResult, record: Record, tz: ZoneInfo) -> Iterator[tuple[EventSource, tuple[Recorded, ...]]]:
    """Every value of a clause with its sources, and the events among them; then the values that are absent."""
    if result.grounds.get("applies") is False:
        yield EventSource(key="applies", value=False, sources=(POLICY,)), ()
        return
    for pattern, key, value, element in _leaves(result.grounds):
        rules = ANYWHERE.get(pattern) or SOURCES[result.clause].get(pattern, ())
        found = [
            each for rule in rules for each in ((rule,) if isinstance(rule, str) else rule(record, result, element))
        ]
        by_place = {entry.case_seq: entry for entry in found if isinstance(entry, Recorded)}
        events = tuple(by_place[seq] for seq in sorted(by_place))
        # A value rests on absence only if no rule found an event.
        marks = dict.fromkeys(mark for mark in found if isinstance(mark, str) and (mark != ABSENCE or not events))
        name = key.rpartition(".")[2]
        sources = (*(entry.event_id for entry in events), *marks)
        yield EventSource(key=key, value=localised({name: value}, tz)[name], sources=sources), events
    for key in UNSAID.get(result.clause, ()):
        if key not in result.grounds:
            yield EventSource(key=key, value=None, sources=(ABSENCE,)), ()


def _leaves(grounds: Mapping[str, JsonValue]) -> Iterator[tuple[str, str, JsonValue, Element]]:
    """Pattern, place and value of everything that is not a structure, and the structure that holds it."""
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
