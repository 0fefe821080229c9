"""What must never be untrue of a case, whatever happens in whatever order.

Money and units are counted here a second time, from the stored events. Each invariant gives a sentence for everything that
breaks it. The tests of random histories, the proof of histories and the simulator share them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from itertools import islice, zip_longest
from typing import Any

from returnable.adapters.wiring import Services
from returnable.domain.aggregate import allowed_commands
from returnable.domain.calendar import A_MOMENT
from returnable.domain.case import Case, evolve
from returnable.domain.commands import AskArrival, parse_command
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.decisions import allowed, decide
from returnable.domain.errors import CalendarExhausted, Impossible
from returnable.domain.events import (
    ClaimOpened,
    ClaimResolved,
    Confirmed,
    Delivered,
    DeliveryTakenBack,
    ExceptionRaised,
    Inspected,
    LabelIssued,
    OutboundLost,
    ParcelLost,
    ParcelRejected,
    PaymentCaptured,
    PayoutNamed,
    Received,
    RefundAnswer,
    RefundRecorded,
    RefundRequested,
    RefundReversed,
    RefundSettled,
    ReturnedToSender,
    ReturnReduced,
    ReturnRequested,
    ReturnShipped,
    ReturnWithdrawn,
    SentBack,
    Shipped,
    UnitsCancelled,
)
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import NOTHING, Table
from returnable.domain.money import to_major, to_minor
from returnable.domain.policy import Policy
from returnable.domain.ports import Recorded
from returnable.domain.refunds.owed import owed, units_cancelled
from returnable.domain.returns.state import Return
from returnable.projections import ledger
from returnable.projections.orders import order_view
from returnable.projections.views import ArrivalView
from returnable.projections.worklist import Waiting, waiting_in
from returnable.testing.behaviour import Fields, next_ids
from returnable.testing.instants import ONE_TICK


@dataclass(frozen=True)
class Found:
    """A case as it is found at an instant: its events, the state that they lead to, and its policy."""

    case: Case
    events: Sequence[Recorded]
    policy: Policy
    at: datetime

    @property
    def currency(self) -> str:
        """Of the order."""
        return self.case.order.currency

    def major(self, amount: int) -> str:
        """An amount as sentences name it."""
        return to_major(amount, self.currency)

    @cached_property
    def requested(self) -> Mapping[str, Sequence[RefundRequested]]:
        """Stream → the requests for its refunds, oldest first."""
        found: defaultdict[str, list[RefundRequested]] = defaultdict(list)
        for entry in self.events:
            if isinstance(entry.event, RefundRequested):
                found[entry.stream].append(entry.event)
        return found

    @cached_property
    def going(self) -> Mapping[str, int]:
        """Refund → what went back by it or is pending, in minor units."""
        return {name: refund.settled + refund.pending for name, refund in self.case.refunds.items()}

    @cached_property
    def reasons(self) -> Sequence[str]:
        """The sentences of all exceptions."""
        return [
            reason
            for entry in self.events
            if isinstance(entry.event, ExceptionRaised)
            for reason in entry.event.reasons
        ]

    def said(self, pattern: str) -> int:
        """The greatest amount that an exception names in the place of ``AMOUNT`` in a sentence that begins so; 0: none."""
        sentence = re.compile(pattern.replace("AMOUNT", "([0-9.]+)"))
        amounts = [to_minor(match[1], self.currency) for match in map(sentence.match, self.reasons) if match]
        return max(amounts, default=0)

    @cached_property
    def waiting(self) -> Sequence[Waiting]:
        """What is on the worklist."""
        return [item for item in waiting_in(self.case, self.policy) if item.shown(self.at)]

    def waits(self, kind: str, stream: str) -> bool:
        """Whether such a task waits for a subject."""
        return any((item.kind, f"{item.subject}/{item.name}") == (kind, stream) for item in self.waiting)

    def decide(self, **fields: Any) -> DecisionResult:
        """What a command would come to now; raises :class:`Impossible`."""
        return decide(self.case, parse_command(fields), DecisionContext(self.at, self.policy))

    def accepted(self, ways: Iterable[Fields], new: bool = False) -> Fields | None:
        """The first of some commands that would be accepted now; ``new``: and would record something."""
        for fields in ways:
            try:
                decided = self.decide(**fields)
            except (Impossible, CalendarExhausted):
                continue
            if decided.outcome == "accepted" and (decided.events or not new):
                return fields
        return None

    @cached_property
    def new(self) -> Callable[[str], str]:
        """The next free id of a kind."""
        return next_ids([self.case])

    def on_way_back(self, stream: str) -> Return:
        """The return of that stream, or the wrong item of that claim."""
        return next(ret for ret in self.case.ways_back if ret.stream == stream)

    def after(self, decided: DecisionResult) -> Found:
        """The case once the events of a decision are recorded."""
        versions: Counter[str] = Counter()
        more: list[Recorded] = []
        for nth, (stream, event) in enumerate(decided.events, start=1):
            versions[stream] += 1
            version = self.case.version_of(stream) + versions[stream]
            more.append(Recorded(0, self.case.case_id, self.case.seq + nth, stream, version, event))
        return Found(evolve(self.case, more), [*self.events, *more], self.policy, self.at)


Invariant = Callable[[Found], Iterator[str]]


# ---- money -------------------------------------------------------------------------------------------------------------


def no_more_goes_back_than_was_captured(found: Found) -> Iterator[str]:
    """Per payment refunded + pending ≤ captured, unless an exception says so."""
    for balance in ledger.balances(found.case):
        name, going = balance.payment_id, balance.refunded + balance.pending
        said = found.said(f"of payment {name} [0-9.]+ [A-Z]+ were captured, but AMOUNT (?:[A-Z]+ )?went back")
        if going > balance.captured and said < going:
            of = f"{found.major(going)} of {found.major(balance.captured)}"
            yield f"{of} go back to payment {name}, and no exception says so"


def the_ledger_has_every_answer(found: Found) -> Iterator[str]:
    """What went back by a refund is the sum of what the provider said of it.

    No more of a tender is taken back than was paid. An answer that the provider took back before it was learnt moves nothing.
    Where the provider named a payment that the refund does not know, the tender that it meant is a guess, so what is taken
    back afterwards is not counted a second time.
    """
    went: defaultdict[str, Counter[str]] = defaultdict(Counter)
    guessed, taken_back = set[str](), set[str]()
    for entry in found.events:
        event = entry.event
        if isinstance(event, RefundRecorded):
            went[event.refund_id].update({tender.payment_id: tender.amount for tender in event.tenders})
        elif (
            isinstance(event, RefundAnswer)
            and event.currency == found.currency
            and not _taken_back(entry, found.events)
        ):
            tenders = found.case.refunds[event.refund_id].tenders.values()
            named = [t.payment_id for t in tenders if event.payment_id in (t.payment_id, t.payout_id)]
            name, of_refund = (named or [event.payment_id])[0], went[event.refund_id]
            if isinstance(event, RefundSettled):
                of_refund[name] += event.amount
            elif isinstance(event, RefundReversed):
                of_refund[name] -= min(event.amount, of_refund[name])
                taken_back.add(event.refund_id)
            if not named:
                guessed.add(event.refund_id)
    for refund_id, refund in found.case.refunds.items():
        there = went[refund_id].total()
        if refund.settled != there and refund_id not in guessed & taken_back:
            yield f"{found.major(there)} went back by refund {refund_id}; the ledger has {found.major(refund.settled)}"
        if any(tender.settled < 0 or tender.failed < 0 for tender in refund.tenders.values()):
            yield f"a tender of refund {refund_id} has a negative amount: {refund.tenders}"


def _taken_back(answer: Recorded, events: Sequence[Recorded]) -> bool:
    """Whether an earlier event holds the opposite answer about the same reference, which the provider gave later."""
    event: Any = answer.event
    settles = isinstance(event, RefundSettled)
    for entry in events[: answer.case_seq - 1]:
        known: Any = entry.event
        if known.refund_id != event.refund_id or known.occurred_at <= event.occurred_at or event.reference is None:
            continue
        paid = (
            [*known.tenders]
            if isinstance(known, RefundRecorded)
            else [known]
            if isinstance(known, RefundAnswer)
            else []
        )
        opposite = isinstance(known, RefundSettled | RefundRecorded) != settles
        if opposite and (event.payment_id, event.reference) in [(each.payment_id, each.reference) for each in paid]:
            return True
    return False


def the_ledger_has_every_capture(found: Found) -> Iterator[str]:
    """What was captured of a payment is what was captured at first and later."""
    captured: Counter[str] = Counter()
    for entry in found.events:
        if isinstance(entry.event, Confirmed):
            for payment in entry.event.payments:
                captured[payment.payment_id] += payment.amount if payment.captured is None else payment.captured
        elif isinstance(entry.event, PaymentCaptured):
            captured[entry.event.payment_id] += entry.event.amount
    for balance in ledger.balances(found.case):
        there = captured[balance.payment_id]
        if balance.captured != there:
            here = found.major(balance.captured)
            yield f"{found.major(there)} of {balance.payment_id} were captured; the ledger has {here}"


def a_refund_goes_where_it_should(found: Found) -> Iterator[str]:
    """A tender names the payout that stood for its payment when the refund was asked for."""
    payouts: dict[str, str] = {}
    for entry in found.events:
        event = entry.event
        if isinstance(event, PayoutNamed):
            payouts[event.payment_id] = event.payout_id
        elif isinstance(event, RefundRequested):
            for tender in event.tenders:
                if tender.payout_id != payouts.get(tender.payment_id):
                    yield f"refund {event.refund_id} pays {tender.payment_id} by {tender.payout_id}, not as a person said"


def a_refund_adds_up(found: Found) -> Iterator[str]:
    """What a refund asks for is what is owed, less what was paid, credited or voided, and never less than nothing."""
    for requests in found.requested.values():
        for event in requests:
            goods = sum(item.merchandise + item.tax for item in event.items) + event.shipping
            fees = sum(deduction.amount for deduction in event.deductions)
            credits = sum(credit.amount for credit in event.credits)
            rest = goods - fees - credits - event.voided - event.settled_before
            asked = sum(tender.amount for tender in event.tenders)
            if max(0, rest) != asked:
                yield f"refund {event.refund_id} asks for {found.major(asked)}, but {found.major(rest)} are left to pay"
            if sum(item.deducted for item in event.items) != fees:
                yield f"the deductions of refund {event.refund_id} are not those of its lines"
            if not all(0 <= item.deducted <= item.merchandise for item in event.items):
                yield f"refund {event.refund_id} deducts more of a line than its price"
            amounts = [event.settled_before, event.voided, *(credit.amount for credit in event.credits)]
            if min(amounts) < 0:
                yield f"refund {event.refund_id} has a negative amount"


def nobody_is_paid_twice(found: Found) -> Iterator[str]:
    """For a subject no more goes back than it is owed, unless an exception says so; money counts once for what it paid."""
    for stream, requests in found.requested.items():
        due, name = requests[-1].due, stream.replace("/", " ", 1)
        going = sum(found.going[event.refund_id] for event in requests)
        said = found.said(rf"AMOUNT [A-Z]+ went back or are on their way for {name} \(")
        if going > max(due, 0) and said < going:
            yield f"{found.major(going)} go back for {name}, which is owed {found.major(due)}, and no exception says so"
    yield from _credited_twice(found)
    yield from _paid_elsewhere_too(found)


def _credited_twice(found: Found) -> Iterator[str]:
    credited: Counter[str] = Counter()
    for requests in found.requested.values():
        for credit in requests[-1].credits:
            credited[credit.refund_id] += credit.amount
    for refund_id, amount in credited.items():
        refund = found.case.refunds[refund_id]
        most = sum(known.amount for known in refund.answers if known.result == "succeeded")
        if refund.elsewhere is not None and amount > most:
            yield f"{found.major(amount)} are credited for refund {refund_id}, which paid {found.major(most)}"


def _paid_elsewhere_too(found: Found) -> Iterator[str]:
    """At each request: what was paid elsewhere for its units, or for no unit in particular, is not paid again.

    What was cancelled elsewhere may have been paid by it; that part is no credit.
    """
    paid: Counter[str] = Counter()
    cancelled = 0
    lines: dict[str, Counter[str]] = {}
    latest: dict[str, RefundRequested] = {}
    for entry in found.events:
        event = entry.event
        if isinstance(event, RefundRecorded):
            paid[event.refund_id] = sum(tender.amount for tender in event.tenders)
            lines[event.refund_id] = Counter({units.line_id: units.quantity for units in event.lines})
        elif isinstance(event, UnitsCancelled) and event.elsewhere:
            for units in event.lines:
                line = found.case.order.lines[units.line_id]
                cancelled += line.unit_price * units.quantity + line.tax
        elif isinstance(event, RefundSettled | RefundReversed) and event.refund_id in paid:
            paid.pop(event.refund_id)  # disputed: what is left of it is another question
        elif isinstance(event, RefundRequested):
            latest.pop(entry.stream, None)
            ours = Counter({item.line_id: item.quantity for item in event.items})
            used = Counter[str]()
            for other in latest.values():
                used.update({credit.refund_id: credit.amount for credit in other.credits})
            free = sum(max(0, amount - used[name]) for name, amount in paid.items() if lines[name] <= ours)
            asked = sum(tender.amount for tender in event.tenders)
            credits = sum(credit.amount for credit in event.credits)
            if asked and credits < free - cancelled:
                yield (
                    f"refund {event.refund_id} asks for {found.major(asked)}, although {found.major(free)} were paid "
                    f"elsewhere, of which {found.major(credits)} are credited"
                )
            latest[entry.stream] = event


_ABOUT_MONEY = re.compile("refund|payment|paid|cancelled|another return or claim")
"""A word of an exception that may tell why money is not asked for."""


def nothing_owed_is_forgotten(found: Found) -> Iterator[str]:
    """What is owed and did not go back waits on the worklist, or an exception tells why it cannot."""
    case = found.case
    uncaptured = sum(p.amount - min(p.amount, case.order.captured[p.payment_id]) for p in case.order.confirmed.payments)
    for stream, due in _owed_now(found):
        attempts = found.requested.get(stream, ())
        elsewhere = Counter(
            {name: refund.settled for name, refund in case.refunds.items() if refund.elsewhere is not None}
        )
        voided = uncaptured
        for other, requests in found.requested.items():
            if other != stream:
                elsewhere.subtract({credit.refund_id: credit.amount for credit in requests[-1].credits})
                going = sum(found.going[event.refund_id] for event in requests)
                elsewhere[other] = max(0, going - requests[-1].due)
        going = sum(found.going[event.refund_id] for event in attempts)
        open_ = due - going - (+elsewhere).total() - voided
        if found.waits("request_refund", stream) or any(map(_ABOUT_MONEY.search, found.reasons)):
            continue
        if open_ > 0:
            yield f"{found.major(open_)} are owed for {stream} and forgotten"
        subject, _, name = stream.partition("/")
        try:
            found.decide(command="request_refund", refund_id="F-next", **{f"{subject}_id": name})
        except Impossible as error:
            if error.code == "money.mismatch":
                yield f"{stream} is owed money that is not there, and no exception says so: {error}"


def _owed_now(found: Found) -> Iterator[tuple[str, int]]:
    """The subjects for which a refund is due by the events alone, with what the policy owes for them."""
    case = found.case
    returns = (ret for ret in case.returns.values() if not ret.called_off)
    streams = [ret.stream for ret in returns if ret.inspected_at is not None and ret.anything_accepted()]
    streams += [claim.stream for claim in case.claims.values() if claim.remedy in ("refund", "both")]
    order = case.order
    if units_cancelled(case.refund_subject(order.stream)):
        streams.append(order.stream)
    for stream in streams:
        about = case.refund_subject(stream)
        weighing = about.weighing(DecisionContext(found.at, found.policy))
        due = owed(about, weighing)
        if weighing.allowed:
            yield stream, due.total


# ---- the worklist --------------------------------------------------------------------------------------------------------


def every_task_can_be_done(found: Found) -> Iterator[str]:
    """For every task on the worklist there is a command that is accepted, after which the task waits no longer."""
    for item in found.waiting:
        task = f"{item.kind} of {item.subject} {item.name}"
        try:
            done = found
            for fields in _what_does(item, found):
                decided = done.decide(**fields)
                if decided.outcome != "accepted":
                    yield f"{task} cannot be done: {fields} is declined"
                done = done.after(decided)
        except Impossible as error:
            yield f"{task} cannot be done: {error}"
            continue
        if done.waits(item.kind, f"{item.subject}/{item.name}"):
            yield f"{task} is still on the worklist once it is done"


def _what_does(item: Waiting, found: Found) -> Iterator[Fields]:
    """The commands that do a task."""
    case, name = found.case, item.name
    item_stream = f"{item.subject}/{name}"
    subject = {"kind": item.subject, "id": name}
    if item.kind == "notify_customer":
        yield {"command": "notify_customer", "subject": subject, "notice": "We have looked at it."}
    elif item.kind == "exception":
        yield {"command": "close_exception", "subject": subject, "reason": "We have looked at it."}
    elif item.kind == "assign_arrival":
        yield next(_ways("dismiss_arrival", item_stream, found))
    elif item.kind == "contact_customer":
        yield next(_ways("record_claim_contact", item_stream, found))
    elif item.kind == "void_label":
        for label in found.on_way_back(item_stream).labels.values():
            if label.status_at(found.at) == "issued":
                yield _on(item_stream, "void_label", label_id=label.label_id, reason="It is not used.")
    elif item.kind == "inspect":
        ret = case.returns[name]
        yield _on(
            item_stream, "inspect_return", findings=_findings({each: ret.uninspected(each) for each in ret.line_ids})
        )
    elif item.kind == "send_back":
        ret = case.returns[name]
        yield _on(
            item_stream, "record_send_back", lines=_units({each: ret.to_send_back(each) for each in ret.line_ids})
        )
    elif item.kind == "reship":
        order = case.order
        left = [line_id for line_id in order.lines for _ in range(order.to_ship(line_id))]
        for count, line_id in enumerate(left):  # one by one: the task must not stay until more than is owed is sent
            parcel = {"parcel_id": f"P-next-{count}", "carrier": "fedex", "tracking_number": "T-next"}
            yield _on(order.stream, "record_shipment", **parcel, lines=_units({line_id: 1}))
    elif item.kind == "request_refund":
        yield next(_ways("request_refund", item_stream, found))
    else:  # refund_short, refund_overdue
        for payment_id, tender in case.refunds[name].tenders.items():
            if tender.pending:
                yield _answer(name, payment_id)


def _on(stream: str, command: str, **fields: Any) -> Fields:
    """A command on an order, a return, a claim or a refund."""
    kind, name = StreamId.parse(stream)
    return {"command": command, f"{kind}_id": name, **fields}


def _units(counts: Mapping[str, int]) -> list[Fields]:
    return [{"line_id": line_id, "quantity": count} for line_id, count in counts.items() if count > 0]


def _findings(counts: Mapping[str, int], good: bool = True) -> list[Fields]:
    seen = dict.fromkeys(("same_condition", "original_packaging", "tags_attached"), good)
    return [{**units, **seen} for units in _units(counts)]


def _answer(refund_id: str, payment_id: str) -> Fields:
    return _on(
        f"refund/{refund_id}", "record_refund_result", payment_id=payment_id, result="succeeded", reference="re-next"
    )


# ---- what is allowed -----------------------------------------------------------------------------------------------------


def what_is_allowed_can_be_done(found: Found, streams: Iterable[str] | None = None) -> Iterator[str]:
    """A command is on the list of what is allowed on a subject if and only if it can be accepted now.

    On the list are only the commands that move them in some state. So these are not looked for: those that begin a return or
    a claim, answers about a refund, and what is possible in any state (overrides, notices, captures and the like). What was
    told already and is accepted again without an event need not be on the list.

    By default only the stream of the last event is asked.
    """
    for stream in [found.events[-1].stream] if streams is None else streams:
        listed = allowed(found.case, stream, DecisionContext(found.at, found.policy))
        subject = found.case.aggregate_of(stream)
        by_lifecycle = allowed_commands(subject.lifecycle, subject.status)
        for command in dict.fromkeys((*listed, *_moving(subject.lifecycle))):
            ways = islice(_ways(command, stream, found), None if command in by_lifecycle else 1)
            accepted = found.accepted(ways, new=command not in listed)
            if command in listed and accepted is None:
                yield f"{command} is allowed on {stream} ({subject.status}), but nothing of the kind is accepted"
            elif command not in listed and accepted is not None:
                yield f"{accepted} is accepted, but {command} is not allowed on {stream} ({subject.status})"


def what_an_error_allows_can_be_done(found: Found, stream: str, error: Impossible) -> Iterator[str]:
    """For each command that an error on that stream calls allowed there are arguments with which it is accepted."""
    refunds = [refund for refund in found.case.refunds.values() if refund.stream == stream]
    answers = [_answer(refund.refund_id, name) for refund in refunds for name in refund.tenders or ("p-1",)]
    for command in error.allowed or ():
        ways = answers if command == "record_refund_result" else _ways(command, stream, found)
        if found.accepted(ways) is None:
            yield f"{error}: no {command} is accepted"


@cache
def _moving(lifecycle: Table) -> Sequence[str]:
    states = dict.fromkeys(state for state, _ in lifecycle.moves if state != NOTHING)
    return [*dict.fromkeys(command for state in states for command in allowed_commands(lifecycle, state))]


def _ways(command: str, stream: str, found: Found) -> Iterator[Fields]:
    """A command on an order, a return or a claim with every choice of arguments that may matter, the likeliest first."""
    for fields in _WAYS[command](found, stream):
        yield _on(stream, command, **fields)
        times = _TIMES.get(command, lambda *_: {})(found, stream)
        yield from (_on(stream, command, **fields, **{name: at}) for name, earlier in times.items() for at in earlier)


_TIMES: Mapping[str, Callable[[Found, str], Mapping[str, Iterable[datetime]]]] = {
    "request_cancellation": lambda found, _: {
        "requested_at": [
            found.case.order.placed_at,
            *(e.event.occurred_at for e in found.events if isinstance(e.event, OutboundLost | ReturnedToSender)),
        ]
    },
    "void_label": lambda found, stream: {
        "voided_at": [label.issued.at for label in found.on_way_back(stream).labels.values()]
    },
    "receive_return": lambda found, stream: {
        "received_at": [
            found.on_way_back(stream).asked_at,
            *(label.void_at - ONE_TICK for label in found.on_way_back(stream).labels.values()),
        ]
    },
}
"""Command → its own time, where that matters: when it may have happened, besides just now."""


def _boxes(found: Found, stream: str) -> list[Fields]:
    ret = found.on_way_back(stream)
    known = dict.fromkeys([*ret.boxes, *(label.box_id for label in ret.labels.values())])
    return [{"box_id": box_id} for box_id in (None, *(box_id for box_id in known if box_id), "box-next")]


def _corrections(found: Found, stream: str) -> Iterator[Fields]:
    """Findings as they are, and with as many units of each line accepted, or rejected, as can be."""
    ret = found.on_way_back(stream)
    count = Counter({each: ret.quantity(each) for each in ret.line_ids})
    sent, paid = Counter(ret.sent_back), Counter(ret.refunded)
    tried: list[list[Fields]] = [[]]
    for good, bad in (
        (ret.accepted, ret.rejected),
        (count - sent, sent),
        (paid, count - paid),
        (count, {}),
        ({}, count),
    ):
        findings = _findings(good) + _findings(bad, good=False)
        if findings not in tried:
            tried.append(findings)
            yield {"findings": findings, "reason": "The boxes were mixed up."}


def _some_units(found: Found, stream: str) -> Iterator[Fields]:
    """One unit of a line, of each in turn."""
    yield from ({"lines": _units({line_id: 1})} for line_id in found.case.stream_of(stream).line_ids)


def _each_label(found: Found, stream: str) -> list[Fields]:
    return [{"label_id": label_id} for label_id in found.on_way_back(stream).labels]


def _each_parcel(found: Found, _: str) -> list[Fields]:
    return [{"parcel_id": parcel_id} for parcel_id in found.case.order.parcels]


_WAYS: Mapping[str, Callable[[Found, str], Iterable[Fields]]] = {
    "request_cancellation": lambda found, _: [
        {"channel": found.policy.clauses.cancellation_by_email.channels[0], "order_reference": "A", "order_copy": True}
    ],
    "cancel_order": lambda found, _: [{"reason": "Out of stock.", "elsewhere": each} for each in (False, True)],
    "record_shipment": lambda found, _: [{"parcel_id": found.new("P"), "carrier": "ups", "tracking_number": "T-1"}],
    "record_delivery": lambda found, _: [{"parcel_id": found.new("P")}],
    "correct_delivery": lambda found, _: [
        {"parcel_id": parcel_id, "reason": "The driver scanned another parcel."}
        for parcel_id in found.case.order.parcels
    ],
    "report_parcel_lost": _each_parcel,
    "record_parcel_returned": _each_parcel,
    "record_refund": lambda found, _: [
        {"refund_id": found.new("F"), "kind": "goodwill", "tenders": [{"payment_id": "p-1", "amount": "1"}]}
    ],
    "request_refund": lambda found, _: [{"refund_id": found.new("F")}],
    "issue_label": lambda found, stream: [
        {"label_id": found.new("L"), "carrier": "ups", "tracking_number": "RT-1", **box}
        for box in _boxes(found, stream)
    ],
    "record_label_received": _each_label,
    "void_label": lambda found, stream: [
        {**each, "reason": "The wrong carrier."} for each in _each_label(found, stream)
    ],
    "record_return_shipment": lambda found, stream: [{}],
    "receive_return": _boxes,
    "report_return_lost": lambda found, stream: [{}],
    "inspect_return": lambda found, stream: [
        {"findings": _findings({line_id: 1})} for line_id in found.case.stream_of(stream).line_ids
    ],
    "correct_inspection": _corrections,
    "record_send_back": _some_units,
    "reduce_return": _some_units,
    "withdraw_return": lambda found, stream: [{}],
    "add_claim_evidence": lambda found, stream: [{"attachments": ["item_picture"]}],
    "record_claim_contact": lambda found, stream: [{}],
    "resolve_claim": lambda found, stream: [
        {"remedy": remedy, "quantity": count}
        for count in range(1, found.case.claims[StreamId.parse(stream).id].quantity + 1)
        for remedy in ("refund", "replacement", "both")
    ],
    "deny_claim": lambda found, stream: [{"reason": "It is the right item."}],
    "assign_arrival": lambda found, stream: [{"return_id": "R-1"}],
    "dismiss_arrival": lambda found, stream: [{"reason": "It is for the neighbour."}],
}
"""Command → what may be said in it, besides its subject and its own time."""


def what_is_short_waits(found: Found) -> Iterator[str]:
    """A refund of which a tender was paid in part waits for the rest; one that is late waits as overdue."""
    for name, refund in found.case.refunds.items():
        if refund.elsewhere is None and refund.pending:
            short = any(tender.settled and tender.pending for tender in refund.tenders.values())
            late = found.at >= refund.requested.overdue_at
            kind = "refund_overdue" if late else "refund_short"
            if (late or short) and not found.waits(kind, f"refund/{name}"):
                yield f"refund {name} has {found.major(refund.pending)} pending, and no {kind} waits"


def who_waits_for_a_parcel_is_on_the_list(found: Found) -> Iterator[str]:
    """Who waits for a replacement, or for units that were lost or came back, is on the worklist, and nobody else.

    The last units of a line are those that are missing: the latest replacements first, and what was bought at the end.
    """
    order, case = found.case.order, found.case
    there_are, granted = Counter[str](), list[tuple[str, str, int]]()
    packed: dict[str, Mapping[str, int]] = {}
    gone, delivered = set[str](), set[str]()
    there_are.update({line.line_id: line.quantity for line in order.confirmed.lines})
    for entry in found.events:
        event = entry.event
        if isinstance(event, ClaimResolved) and event.remedy != "refund":
            line_id, count = (
                case.claims[StreamId.parse(entry.stream).id].line_id,
                sum(t.quantity for t in event.parcels),
            )
            granted.insert(0, (line_id, entry.stream, count))
            there_are[line_id] += count
        elif isinstance(event, Shipped):
            packed.setdefault(event.parcel_id, {units.line_id: units.quantity for units in event.lines})
        elif isinstance(event, Delivered):
            delivered.add(event.parcel_id)
        elif isinstance(event, DeliveryTakenBack):
            delivered.discard(event.parcel_id)
        elif isinstance(event, OutboundLost | ReturnedToSender):
            gone.add(event.parcel_id)
    gone -= delivered
    expected = set[str]()
    for line_id, count in there_are.items() if order.status != "cancelled" else ():
        # What is in a parcel that nobody shipped is a guess, so it is not counted a second time.
        there = sum(
            packed.get(each, order.parcels[each].units).get(line_id, 0) for each in {*packed, *delivered} - gone
        )
        remedied = [*(ret for ret in case.returns.values() if not ret.cancelled), *case.claims.values()]
        settled = Counter[str | None]()
        for each in remedied:
            settled.update(each.held(line_id))
        there += sum(settled[parcel_id] for parcel_id in gone)  # it got a remedy, so nobody ships it again
        missing = count - order.cancelled(line_id) - max(there, settled.total())
        for of_line, claim, replaced in granted:
            if of_line == line_id:
                expected |= {claim} if missing > 0 else set()
                missing -= replaced
        if missing > 0 and any(each not in packed or packed[each].get(line_id) for each in gone):
            expected.add(order.stream)
    waiting = {f"{item.subject}/{item.name}" for item in found.waiting if item.kind == "reship"}
    yield from (f"units are to be shipped for {stream}, and no task says so" for stream in sorted(expected - waiting))
    yield from (f"nothing is to be shipped for {stream}, but a task says so" for stream in sorted(waiting - expected))


# ---- units ---------------------------------------------------------------------------------------------------------------


def no_unit_is_paid_back_twice(found: Found) -> Iterator[str]:
    """No unit is paid back twice; the tax of a line goes back to the cent when all its units do."""
    units, tax = Counter[str](), Counter[str]()
    for requests in found.requested.values():
        for item in requests[-1].items:
            units[item.line_id] += item.quantity
            tax[item.line_id] += item.tax
    for line in found.case.order.confirmed.lines:
        count, paid = units[line.line_id], tax[line.line_id]
        if count > line.quantity:
            yield f"{count} of {line.quantity} units of line {line.line_id} are paid back"
        low, high = line.tax * count // line.quantity, -(-line.tax * count // line.quantity)
        share, more = divmod(line.tax, line.quantity)
        least, most = share * count + max(0, count - (line.quantity - more)), share * count + min(count, more)
        if not least <= paid <= most or (count == line.quantity and paid != line.tax):
            yield f"{found.major(paid)} of the tax {found.major(line.tax)} of line {line.line_id} go back for {count} units"
        if paid not in (low, high) and count <= line.quantity and paid != most:
            yield f"the tax of the first {count} units of line {line.line_id} is {found.major(paid)}"
    if sum(1 for requests in found.requested.values() if requests[-1].shipping) > 1:
        yield "outbound shipping is paid back twice"


def one_unit_gets_one_remedy(found: Found) -> Iterator[str]:
    """A unit, bought or granted in the place of another, is in one return, or settled by one claim.

    A claim settled by both keeps the replacement, too: no money is left in it. What turned up in a return that had given its
    units up may be elsewhere as well, and parcels may hold more than there is; then an exception says so.
    """
    there_are, held, packed = Counter[str](), Counter[str](), Counter[str]()
    claims: dict[str, ClaimOpened] = {}
    parcels: dict[str, Shipped] = {}
    there_are.update({line.line_id: line.quantity for line in found.case.order.confirmed.lines})
    for entry in found.events:
        event = entry.event
        if isinstance(event, ClaimOpened):
            claims[entry.stream] = event
        elif isinstance(event, ClaimResolved):
            line_id, count = claims[entry.stream].line_id, sum(taken.quantity for taken in event.parcels)
            if count > claims[entry.stream].quantity:
                yield f"{entry.stream} settles {count} units of line {line_id}, more than were reported"
            held[line_id] += count * (2 if event.remedy == "both" else 1)
            there_are[line_id] += 0 if event.remedy == "refund" else count
        elif isinstance(event, Shipped) and event.parcel_id not in parcels:
            parcels[event.parcel_id] = event
            packed.update({units.line_id: units.quantity for units in event.lines})
    for ret in found.case.returns.values():
        if not ret.cancelled:
            held.update({line_id: sum(ret.held(line_id).values()) for line_id in ret.line_ids})
    turned_up = any("in another return or claim as well" in reason for reason in found.reasons)
    for line_id, count in there_are.items():
        if held[line_id] > count and not turned_up:
            yield f"{held[line_id]} remedies for {count} units of line {line_id}"
        if packed[line_id] > count and not found.reasons:
            yield f"{packed[line_id]} of {count} units of line {line_id} are in parcels"


def what_goes_on_is_said(found: Found) -> Iterator[str]:
    """A withdrawn return that goes on, and more units sent back than a return has, are exceptions."""
    left: defaultdict[str, Counter[str]] = defaultdict(Counter)
    refused: defaultdict[str, Counter[str]] = defaultdict(Counter)
    """What was sent back of parcels that were refused at the dock: it may come once more."""
    withdrawn: set[str] = set()
    for entry, following in zip_longest(found.events, found.events[1:]):
        event = entry.event
        raised = following is not None and isinstance(following.event, ExceptionRaised)
        if isinstance(event, ReturnRequested):
            left[entry.stream].update({line.line_id: line.quantity for line in event.lines})
        elif isinstance(event, ReturnWithdrawn):
            withdrawn.add(entry.stream)
        elif isinstance(event, ReturnShipped | Received | ParcelRejected | ParcelLost | Inspected):
            if entry.stream in withdrawn and not raised:
                yield f"{entry.stream} was withdrawn and goes on, and no exception says so"
            withdrawn.discard(entry.stream)
            if isinstance(event, Received) and raised:
                left[entry.stream] += refused.pop(entry.stream, Counter())
        elif isinstance(event, SentBack | ReturnReduced):
            for line in event.lines:
                more = left[entry.stream][line.line_id] - line.quantity
                left[entry.stream][line.line_id] = max(0, more)
                if isinstance(event, SentBack):
                    refused[entry.stream][line.line_id] += line.quantity
                if more < 0 and not raised and isinstance(event, SentBack):
                    yield f"{entry.stream} sends back more of line {line.line_id} than it has"


def the_shop_cancels_what_is_there(found: Found) -> Iterator[str]:
    """The shop cancels here only what is not shipped; a contradiction is raised; the units left decide the status."""
    order = found.case.order
    bought = {line.line_id: line.quantity for line in order.confirmed.lines}
    gone, cancelled = Counter[str](), Counter[str]()
    parcels: dict[str, Counter[str]] = {}
    for entry, following in zip_longest(found.events, found.events[1:]):
        event = entry.event
        raised = following is not None and isinstance(following.event, ExceptionRaised)
        if isinstance(event, ClaimResolved) and event.remedy != "refund":
            bought[found.case.claims[StreamId.parse(entry.stream).id].line_id] += sum(t.quantity for t in event.parcels)
        if isinstance(event, UnitsCancelled) or (isinstance(event, Shipped) and event.parcel_id not in parcels):
            for line in event.lines:
                gone[line.line_id] += line.quantity
                may_exceed = raised and (isinstance(event, Shipped) or event.elsewhere)
                if gone[line.line_id] > bought[line.line_id] and not may_exceed:
                    yield f"{gone[line.line_id]} units of line {line.line_id} are shipped or cancelled"
        if isinstance(event, UnitsCancelled):
            cancelled.update({line.line_id: line.quantity for line in event.lines})
        elif isinstance(event, Shipped):
            parcels.setdefault(event.parcel_id, Counter({line.line_id: line.quantity for line in event.lines}))
        elif isinstance(event, OutboundLost | ReturnedToSender):  # to be shipped again
            gone.subtract(parcels.get(event.parcel_id, ()))
            parcels[event.parcel_id] = Counter()
    left = {line_id: count - min(count, cancelled[line_id]) for line_id, count in bought.items()}
    if {line_id: count - order.cancelled(line_id) for line_id, count in bought.items()} != left:
        yield f"the units left are {left}"
    status = order.status
    if any(left.values()):
        missing = any(order.delivered(line_id) < count for line_id, count in left.items())
        replaced = bool(order.replacements)  # one granted later leaves the order delivered
        if status in ("shipped", "delivered") and not replaced and status != ("shipped" if missing else "delivered"):
            yield f"the order is {status}, and the units left are {left}"
    elif status != "cancelled":
        yield f"every unit is cancelled, and the order is {status}"


def the_return_window_is_what_the_order_shows(found: Found) -> Iterator[str]:
    """A unit can be asked to be returned until just before the ``return_before`` of its line, and no longer; ``null``: never.

    That is so by the clause itself, with every override left aside, and for a line of which a unit is free.
    """
    order = found.case.order.clone()
    order.overrides = ()
    case = evolve(found.case, ())
    case.order = order
    for line in order_view(case, found.policy).lines:
        before = None if line.return_before is None else datetime.fromisoformat(line.return_before)
        late = [found.at, *(parcel.delivered.at for parcel in order.parcels.values() if parcel.delivered is not None)]
        for at in late if before is None else (before, before - A_MOMENT):
            asked = Found(case, found.events, found.policy, max(at, found.at))
            request = {"return_id": "R-next", "order_id": order.order_id, "channel": "portal", "requested_at": at}
            try:
                lines = [{"line_id": line.line_id, "quantity": 1}]
                ruling = asked.decide(command="request_return", **request, lines=lines).ruling or ()
            except Impossible:  # no unit is free
                continue
            verdict = next(finding.verdict for finding in ruling if finding.clause == "returns.window")
            in_time = before is not None and at < before
            if verdict != "not_applicable" and (verdict == "pass") != in_time:
                yield f"line {line.line_id} can be returned until {before}, but the window at {at} is {verdict}"


INVARIANTS: tuple[Invariant, ...] = (
    no_more_goes_back_than_was_captured,
    the_ledger_has_every_answer,
    the_ledger_has_every_capture,
    a_refund_goes_where_it_should,
    a_refund_adds_up,
    nobody_is_paid_twice,
    nothing_owed_is_forgotten,
    every_task_can_be_done,
    what_is_allowed_can_be_done,
    what_is_short_waits,
    who_waits_for_a_parcel_is_on_the_list,
    the_return_window_is_what_the_order_shows,
    no_unit_is_paid_back_twice,
    one_unit_gets_one_remedy,
    what_goes_on_is_said,
    the_shop_cancels_what_is_there,
)
"""What looks at one case."""


def a_parked_parcel_waits(found: Found) -> Iterator[str]:
    """A parcel that nobody announced is on the worklist as long as it is parked, and no longer."""
    arrival = found.case.arrival
    assert arrival is not None
    if found.waits("assign_arrival", arrival.stream) != (arrival.status == "parked"):
        yield f"{arrival.name} is {arrival.status}, and on the worklist: {[*found.waiting]}"


def arrivals_lead_somewhere(services: Services, arrivals: Iterable[Case], at: datetime) -> Iterator[str]:
    """What is assigned is recorded where it belongs; what travels on a number that somebody knows is found by it."""
    numbers: defaultdict[str, set[str]] = defaultdict(set)
    arrived: set[tuple[str, datetime]] = set()
    for _, events in services.store.cases():
        for entry in events:
            number = getattr(entry.event, "tracking_number", None)
            if isinstance(entry.event, Shipped | LabelIssued | ReturnShipped) and number is not None:
                numbers[number].add(entry.case_id)
            if isinstance(entry.event, Received | ParcelRejected | ReturnedToSender):
                arrived.add((entry.stream, entry.event.occurred_at))
    for case in arrivals:
        arrival = case.arrival
        assert arrival is not None
        view = services.questions.answer(AskArrival(arrival_id=arrival.arrival_id), at)
        assert isinstance(view, ArrivalView)
        told, assigned = arrival.recorded, arrival.assigned
        if assigned is not None:
            if (assigned.assigned_to, told.occurred_at) not in arrived:
                yield f"{arrival.name} is assigned to {assigned.assigned_to}, which knows nothing of it"
        elif told.tracking_number is not None:
            found = {each.order_id for each in view.candidates if "tracking_number" in each.found_by}
            if found != numbers[told.tracking_number]:
                yield f"{arrival.name} travelled on a number of {numbers[told.tracking_number]}, and is found in {found}"


OF_ARRIVALS: tuple[Callable[[Found], Iterator[str]], ...] = (
    a_parked_parcel_waits,
    every_task_can_be_done,
    what_is_allowed_can_be_done,
)
"""What looks at a parcel that nobody announced."""


def violations(case: Case, events: Sequence[Recorded], policy: Policy, at: datetime) -> Iterator[str]:
    """A sentence for everything in a case that must not be."""
    found = Found(case, events, policy, at)
    for invariant in OF_ARRIVALS if case.arrival is not None else INVARIANTS:
        for violation in invariant(found):
            yield f"{invariant.__name__}: {violation}"
