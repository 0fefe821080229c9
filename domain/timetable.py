"""The timetable of a case: every deadline there is or was, what set it, and how it ended.

Only this module knows which deadlines there are. Everything that records, explains, reports, lists or replays deadlines maps
them from here. The instant itself is in the event that set it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Literal

from returnable.domain.case import Case
from returnable.domain.claims import Claim
from returnable.domain.deadlines import Anchor, Deadline, Happened, Settlement, passed
from returnable.domain.deciding import DecisionContext
from returnable.domain.events import ContactMissed, Event, LabelVoided, RefundOverdue
from returnable.domain.fields import WorkKind
from returnable.domain.ids import StreamId
from returnable.domain.order.state import Order, Parcel
from returnable.domain.refunds.state import Refund
from returnable.domain.returns.state import Label, Return


def deadlines_of(case: Case, stream: str | None = None) -> Iterator[Deadline]:
    """Every deadline of a case in a steady order; with the ``stream`` of a return or claim, only those it depends on.

    A window of a line is open while a unit of the line in that parcel is in no return and no claim, and the line is not
    cancelled; a label until it is used
    or voided by hand; the promise of contact until it is kept or the claim settled; a refund until it has its answers. A
    moved deadline comes before the one it was moved to, as lifted.
    """
    if case.arrival is not None:
        return
    if stream is None:
        yield _cancel_by(case.order)
    for parcel in case.order.parcels.values():
        if parcel.delivered is not None:
            yield from _windows(case, parcel, parcel.delivered, stream)
    yield from promises_of(case, stream)


def promises_of(case: Case, stream: str | None = None, unrecorded: bool = False) -> Iterator[Deadline]:
    """The deadlines of :func:`deadlines_of` whose passing is recorded; ``unrecorded``: only those still to be recorded.

    The handler needs these after every change of a case, so nothing is computed for the others.
    """
    for ret in case.ways_back:
        if stream is None or stream == ret.stream:
            for label in ret.labels.values():
                if label.received is not None and label.first_void_at != label.void_at and not unrecorded:
                    yield _moved(ret, label, label.received)
                if label.may_lapse or not unrecorded:
                    yield _ship_by(ret, label)
            if ret.authorized is not None and ret.remind_at is not None and not unrecorded:
                yield _unsent(ret, ret.authorized, ret.remind_at)
    for claim in case.claims.values():
        if (claim.may_lapse or not unrecorded) and (stream is None or stream == claim.stream):
            yield _contact(claim)
    for refund in case.refunds.values():
        wanted = refund.elsewhere is None and (stream is None or stream == refund.stream)
        if wanted and (refund.may_lapse or not unrecorded):
            yield _overdue(refund)


def due_events(case: Case, now: DecisionContext) -> list[tuple[str, Event]]:
    """The events for the deadlines of a case that passed and are not recorded; each *occurs* at its deadline."""
    return [
        (deadline.stream, deadline.lapse(**now.envelope(deadline.at)))
        for deadline in promises_of(case, unrecorded=True)
        if deadline.lapse is not None and deadline.passed(now.at)
    ]


def next_due(case: Case) -> datetime | None:
    """The first instant at which :func:`due_events` finds something, if nothing else happens; ``None``: never."""
    return min(
        (deadline.passes_at for deadline in promises_of(case, unrecorded=True) if deadline.lapse is not None),
        default=None,
    )


# ---- windows --------------------------------------------------------------------------------------------------------


def _cancel_by(order: Order) -> Deadline:
    clause, stream, at = "cancellation.window", order.stream, order.confirmed.cancel_by
    anchors = (Anchor(f"{stream}#1", order.confirmed.occurred_at, "the confirmation"),)
    title, awaited, waits = "Cancellation closes", "asked for", order.status != "cancelled"
    settled = _done(clause, at, stream, order.cancellation_asked, awaited)
    return Deadline(clause, "cancel_by", stream, "", at, anchors, title, awaited, waits, settled, optional=True)


def _windows(case: Case, parcel: Parcel, delivered: Happened, stream: str | None) -> Iterator[Deadline]:
    order, parcel_id = case.order, parcel.parcel_id
    delivery = Anchor(f"{order.stream}#{delivered.version}", delivered.at, f"the delivery of parcel {parcel_id}")
    windows: tuple[tuple[str, str, datetime | None, str, str, Iterable[Return | Claim]], ...] = (
        ("returns.window", "return_before", parcel.return_before, "Return", "asked for", case.returns.values()),
        ("wrong_item.window", "report_before", parcel.report_before, "Wrong-item", "reported", case.claims.values()),
    )
    for line_id, count in parcel.units.items():
        part = f"line {line_id} in parcel {parcel_id}"
        cancelled = order.status == "cancelled" or order.all_cancelled(line_id)
        waits = not cancelled and case.held[line_id].get(parcel_id, 0) < count
        for clause, name, at, kind, awaited, every in windows:
            askers = [each for each in every if stream in (None, each.stream) and each.parcels_of(line_id)]
            if at is not None and (askers or stream is None):
                title = f"{kind} window of parcel {parcel_id} closes"
                asked = (each for each in askers if parcel_id in each.parcels_of(line_id))
                settled = _first_of(clause, at, asked, awaited)
                yield Deadline(
                    clause, name, order.stream, part, at, (delivery,), title, awaited, waits, settled, optional=True
                )


def _first_of(clause: str, end: datetime, asked: Iterable[Return | Claim], what: str) -> Settlement | None:
    """The first request for the units, and whether it was refused."""
    first = min(asked, key=lambda each: (each.asked_at, each.stream), default=None)
    if first is None:
        return None
    refused = first.status in ("declined", "denied")
    return _done(clause, end, first.stream, Happened(first.asked_at, 1), what, refused)


# ---- promises -------------------------------------------------------------------------------------------------------


def _ship_by(ret: Return, label: Label) -> Deadline:
    clause, stream, name, at = "returns.ship_by", ret.stream, label.label_id, label.void_at
    lapsed, voided, awaited = label.lapsed, label.voided, "handed over"
    if voided is not None:
        settled: Settlement | None = Settlement(
            voided.at, f"{stream}#{voided.version}", "lifted", "voided by hand before"
        )
    else:
        settled = _done(clause, at, stream, ret.sent_with(label), awaited)
        if settled is None or settled.how == "missed":
            settled = _lifted(clause, at, stream, ret.withdrawn, "the return was withdrawn before") or settled
    part, title, anchors = f"label {name}", f"Label {name} voids by itself", _anchors(stream, label)
    waits = label.status in ("issued", "void")  # a void label may turn out to have been used in time
    lapse = partial(LabelVoided, label_id=name, cause="deadline") if label.may_lapse else None
    by = f"{stream}#{lapsed.version}" if lapsed is not None and lapsed.at == at else None
    task: WorkKind | None = "void_label" if by is None else None
    return Deadline(
        clause, "void_at", stream, part, at, anchors, title, awaited, waits, settled, lapse, by, task, "before"
    )


def _unsent(ret: Return, authorized: Happened, at: datetime) -> Deadline:
    stream, awaited = ret.stream, "handed over"
    anchors = (Anchor(f"{stream}#{authorized.version}", authorized.at, "the authorization"),)
    sent = ret.shipped or ret.received
    settled = None if sent is None else _done("returns.ship_by", at, stream, Happened(sent.at, sent.version), awaited)
    settled = settled or _lifted("returns.ship_by", at, stream, ret.withdrawn, "the return was withdrawn before")
    title, waits = f"Return {ret.return_id} was authorized and never sent", ret.status in ("authorized", "labelled")
    task: WorkKind = "unsent_return"
    return Deadline(
        "returns.ship_by",
        "remind_at",
        stream,
        "",
        at,
        anchors,
        title,
        awaited,
        waits,
        settled,
        None,
        None,
        task,
        "after",
    )


def _moved(ret: Return, label: Label, received: Happened) -> Deadline:
    """The deadline of a label before its receipt moved it."""
    issue, receipt = _anchors(ret.stream, label)
    settled = Settlement(received.at, receipt.event, "lifted", "the clock runs from its receipt")
    return _ship_by(ret, label)._replace(
        at=label.first_void_at, anchors=(issue,), open=False, settled=settled, lapse=None, lapsed_by=None
    )


def _anchors(stream: str, label: Label) -> tuple[Anchor, ...]:
    issued, received = label.issued, label.received
    issue = Anchor(f"{stream}#{issued.version}", issued.at, f"the issue of label {label.label_id}")
    if received is None:
        return (issue,)
    receipt = f"the customer's receipt of label {label.label_id}"
    return issue, Anchor(f"{stream}#{received.version}", received.at, receipt)


def _contact(claim: Claim) -> Deadline:
    clause, stream, opened, missed = "wrong_item.contact", claim.stream, claim.opened, claim.contact_missed
    at, anchors = opened.contact_by, (Anchor(f"{stream}#1", opened.occurred_at, "the first notice"),)
    done = [(each, what) for each, what in ((claim.contacted, "contacted"), (claim.resolved, "settled")) if each]
    settled = _done(clause, at, stream, *min(done)) if done else None
    if settled is None or settled.how == "missed":
        settled = _lifted(clause, at, stream, claim.denied, "the claim was denied before") or settled
    title, awaited = f"Customer of claim {claim.claim_id} to be contacted", "contacted"
    waits = claim.status == "open" and claim.contacted is None
    lapse, by = ContactMissed if claim.may_lapse else None, None if missed is None else f"{stream}#{missed.version}"
    task: WorkKind = "contact_customer"
    return Deadline(clause, "contact_by", stream, "", at, anchors, title, awaited, waits, settled, lapse, by, task)


def _overdue(refund: Refund) -> Deadline:
    clause, stream, name, at = "returns.refund_timing", refund.stream, refund.refund_id, refund.requested.overdue_at
    anchors = (Anchor(f"{stream}#{refund.requested_by}", refund.requested.occurred_at, "the issue of the refund"),)
    title, awaited, waits = f"Refund {name} is overdue unless settled", "settled", refund.status == "requested"
    settled = _done(clause, at, stream, refund.ended, awaited) if refund.completed else None
    if refund.status == "failed" and not refund.completed:
        settled = _lifted(clause, at, stream, refund.ended, "the refund failed before")
    lapse = partial(RefundOverdue, refund_id=name) if refund.may_lapse else None
    by = None if refund.overdue_by is None else f"{stream}#{refund.overdue_by}"
    subject = str(StreamId("refund", name))
    task: WorkKind = "refund_overdue"
    return Deadline(
        clause, "overdue_at", subject, "", at, anchors, title, awaited, waits, settled, lapse, by, task, "after"
    )


def _done(
    clause: str, end: datetime, stream: str, done: Happened | None, what: str, refused: bool = False
) -> Settlement | None:
    """What the deadline waits for was done, in time or not."""
    if done is None:
        return None
    how: Literal["met", "missed"] = "missed" if passed(clause, end, done.at) else "met"
    return Settlement(done.at, f"{stream}#{done.version}", how, what, refused)


def _lifted(clause: str, end: datetime, stream: str, by: Happened | None, what: str) -> Settlement | None:
    """The deadline no longer applied, if that was so before it came."""
    if by is None or passed(clause, end, by.at):
        return None
    return Settlement(by.at, f"{stream}#{by.version}", "lifted", what)
