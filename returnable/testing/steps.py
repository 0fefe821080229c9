"""The steps of a test: commands with sensible defaults, each at an instant, and the usual beginnings made of them.

Every command of the desk has a function of its name here, which takes only what matters to the test::

    request_return(channel="phone", at="2026-03-09 12:00")

``an_order``, ``a_return`` and ``a_claim`` are whole beginnings. A step without an instant happens at the time of the step
before it. Times are as in :mod:`returnable.testing.instants`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Self

from returnable.testing.instants import When, resolved

__all__ = [
    "Step",
    "Steps",
    "a_claim",
    "a_return",
    "add_claim_evidence",
    "an_order",
    "assign_arrival",
    "cancel_order",
    "close_exception",
    "confirm_order",
    "correct_delivery",
    "correct_inspection",
    "declined",
    "deny_claim",
    "dismiss_arrival",
    "finding",
    "impossible",
    "inspect_return",
    "issue_label",
    "link_account",
    "name_payout",
    "notify_customer",
    "override",
    "receive_return",
    "record_arrival",
    "record_capture",
    "record_claim_contact",
    "record_delivery",
    "record_disposition",
    "record_label_received",
    "record_parcel_returned",
    "record_refund",
    "record_refund_result",
    "record_return_shipment",
    "record_send_back",
    "record_shipment",
    "reduce_return",
    "report_parcel_lost",
    "report_return_lost",
    "report_wrong_item",
    "request_cancellation",
    "request_refund",
    "request_return",
    "resolve_claim",
    "run_deadlines",
    "step",
    "void_label",
    "withdraw_return",
]

MONDAY_MORNING = "2026-03-02 10:00"
"""The first time of a clock: a Monday morning, in the policy's zone."""

Fields = Mapping[str, Any]
Units = Mapping[str, int] | int
"""Line → number of units; a number alone is for line ``1``."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and its instant (``None``: that of the step before it)."""

    fields: Fields
    """As on a line of a scenario, with ``command`` and without ``at``; times may be wall times."""
    when: When | None = None
    outcome: str = "accepted"
    """The outcome it must have as a part of ``given``: ``accepted``, ``declined`` or ``error``."""
    raw: bool = False
    """Whether the fields are sent exactly as they are, times too."""

    @property
    def command(self) -> str:
        """The name of the command."""
        return str(self.fields["command"])

    @property
    def arguments(self) -> dict[str, Any]:
        """The fields without the command, as arguments of a desk's method: ``desk.run_deadlines(**step.arguments)``."""
        return {name: value for name, value in self.fields.items() if name != "command"}

    def at(self, when: When) -> Self:
        """The same step at an instant."""
        return replace(self, when=when)

    def resolved(self, zone_name: str) -> dict[str, Any]:
        """The fields with every own time as an instant with an offset, unless they are raw."""
        if self.raw:
            return dict(self.fields)
        return {name: _time(name, value, zone_name) for name, value in self.fields.items()}


def _time(name: str, value: Any, zone_name: str) -> Any:
    if not name.endswith("_at"):
        return value
    try:
        return resolved(value, zone_name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


@dataclass(frozen=True, slots=True)
class Steps:
    """Several steps, one after the other."""

    steps: tuple[Step, ...] = field(default=())

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __add__(self, other: Step | Steps) -> Steps:
        return Steps((*self.steps, *flat([other])))


def flat(history: Iterable[Any]) -> Iterator[Step]:
    """The steps of a history of steps, beginnings, and lines of a scenario as mappings."""
    for part in history:
        if isinstance(part, Step):
            yield part
        elif isinstance(part, Mapping):
            fields = {name: value for name, value in part.items() if name not in ("at", "expect")}
            if "command" not in fields:
                raise TypeError(f"a history is made of commands; this has no 'command': {dict(part)!r}")
            expected = part.get("expect") or {}
            yield Step(fields, part.get("at"), expected.get("outcome", "accepted"))
        elif isinstance(part, str) or not isinstance(part, Iterable):
            raise TypeError(f"a history is made of steps such as an_order() and request_return(), not of {part!r}")
        else:
            yield from flat(part)


def declined(*history: Step | Iterable[Step] | Fields) -> Steps:
    """The same steps, all declined by the policy: ``given(an_order(), declined(request_return()))``."""
    return Steps(tuple(replace(each, outcome="declined") for each in flat(history)))


def impossible(*history: Step | Iterable[Step] | Fields) -> Steps:
    """The same steps, all impossible: each is an error and records nothing."""
    return Steps(tuple(replace(each, outcome="error") for each in flat(history)))


def step(command: str, at: When | None = None, *, raw: bool = False, **fields: Any) -> Step:
    """Any command by its name and fields; ``raw``: exactly as they are, even if they are not valid."""
    return Step({"command": command} | fields, at, raw=raw)


def _step(command: str, at: When | None, fields: Mapping[str, Any]) -> Step:
    return Step({"command": command} | dict(fields), at)


# ---- one command each --------------------------------------------------------------------------------------------------


def confirm_order(order_id: str = "A-1", *, at: When | None = None, **changes: Any) -> Step:
    """An order of one line, one unit of 750.00 USD, paid by one card.

    ``price``, ``quantity``, ``tax`` and ``final_sale`` change its one line; ``account_id`` the customer; ``shipping`` is what
    was charged, or the whole field. Any field can be given. One card pays the total unless ``payments`` is given.
    """
    for whole, parts in (("lines", ("price", "quantity", "tax", "final_sale")), ("customer", ("account_id",))):
        for part in parts:
            if whole in changes and part in changes:
                raise TypeError(f"{part} is a part of {whole}: give one of them")
    line = {
        "line_id": "1",
        "sku": "SKU-1",
        "unit_price": str(changes.pop("price", "750.00")),
        "quantity": changes.pop("quantity", 1),
        "tax": str(changes.pop("tax", "0.00")),
        "final_sale": changes.pop("final_sale", False),
    }
    lines: Sequence[Mapping[str, Any]] = changes.pop("lines", [line])
    shipping: Any = changes.pop("shipping", "0.00")
    if not isinstance(shipping, Mapping):
        shipping = {"charged": str(shipping)}
    fields = {
        "order_id": order_id,
        "customer": {"customer_id": "c-1", "account_id": changes.pop("account_id", "acc-1")},
        "currency": "USD",
        "lines": lines,
        "shipping": shipping,
    } | changes
    if "payments" not in fields:
        fields["payments"] = [{"payment_id": "p-1", "method": "card", "amount": _due(lines, shipping)}]
    return _step("confirm_order", at, fields)


def _due(lines: Iterable[Mapping[str, Any]], shipping: Mapping[str, Any]) -> str:
    """The total; zero where it cannot be computed, so that a wrong order can be sent, too."""
    try:
        goods = [Decimal(line["unit_price"]) * line["quantity"] + Decimal(line.get("tax", "0")) for line in lines]
        return str(sum(goods, Decimal(0)) + Decimal(shipping["charged"]) + Decimal(shipping.get("tax", "0")))
    except (TypeError, KeyError, ArithmeticError):
        return "0.00"


def request_cancellation(order_id: str = "A-1", *, at: When | None = None, **fields: Any) -> Step:
    """A complete mail that asks for a cancellation; ``order_copy=False`` makes it incomplete."""
    shown = {} if "order_reference" in fields else {"order_copy": True}
    return _step("request_cancellation", at, {"order_id": order_id, "channel": "email"} | shown | fields)


def record_shipment(
    parcel_id: str = "P-1", units: Units | None = None, *, order_id: str = "A-1", at: When | None = None, **fields: Any
) -> Step:
    """The carrier took a parcel; without ``units`` it holds all that are not shipped or cancelled."""
    given = {"order_id": order_id, "parcel_id": parcel_id, "carrier": "fedex", "tracking_number": f"T-{parcel_id}"}
    lines = {} if units is None else {"lines": _lines(units)}
    return _step("record_shipment", at, given | lines | fields)


def record_delivery(parcel_id: str = "P-1", *, order_id: str = "A-1", at: When | None = None, **fields: Any) -> Step:
    """A parcel reached the customer."""
    return _step("record_delivery", at, {"order_id": order_id, "parcel_id": parcel_id} | fields)


def cancel_order(units: Units | None = None, *, order_id: str = "A-1", at: When | None = None, **fields: Any) -> Step:
    """The shop cancels units; without ``units`` all that are not shipped."""
    lines = {} if units is None else {"lines": _lines(units)}
    return _step("cancel_order", at, {"order_id": order_id, "reason": "Out of stock."} | lines | fields)


def link_account(order_id: str = "A-1", *, at: When | None = None, **fields: Any) -> Step:
    """The customer has the account ``acc-2``."""
    return _step("link_account", at, {"order_id": order_id, "account_id": "acc-2"} | fields)


def request_return(
    units: Units = 1, *, return_id: str = "R-1", order_id: str = "A-1", at: When | None = None, **fields: Any
) -> Step:
    """The customer asks through the portal to return units."""
    given = {"return_id": return_id, "order_id": order_id, "lines": _lines(units), "channel": "portal"}
    return _step("request_return", at, given | fields)


def issue_label(label_id: str = "L-1", *, return_id: str = "R-1", at: When | None = None, **fields: Any) -> Step:
    """A prepaid label is issued."""
    given = {"label_id": label_id, "carrier": "fedex", "tracking_number": f"RT-{label_id}"}
    return _step("issue_label", at, _of(return_id, fields) | given | fields)


def record_label_received(
    label_id: str = "L-1", *, return_id: str = "R-1", at: When | None = None, **fields: Any
) -> Step:
    """The customer received the label: its clock runs from here."""
    return _step("record_label_received", at, _of(return_id, fields) | {"label_id": label_id} | fields)


def void_label(label_id: str = "L-1", *, return_id: str = "R-1", at: When | None = None, **fields: Any) -> Step:
    """A label is voided by hand."""
    given = {"label_id": label_id, "reason": "The wrong carrier."}
    return _step("void_label", at, _of(return_id, fields) | given | fields)


def record_return_shipment(
    label_id: str | None = "L-1", *, return_id: str = "R-1", at: When | None = None, **fields: Any
) -> Step:
    """The customer hands the parcel over, on a prepaid label or (``label_id=None``) on a label of their own."""
    used = {} if label_id is None else {"label_id": label_id}
    return _step("record_return_shipment", at, _of(return_id, fields) | used | fields)


def receive_return(return_id: str = "R-1", *, at: When | None = None, **fields: Any) -> Step:
    """The parcel is at the dock."""
    return _step("receive_return", at, _of(return_id, fields) | fields)


def inspect_return(
    units: Units = 1,
    *,
    rejected: Units | None = None,
    return_id: str = "R-1",
    at: When | None = None,
    **fields: Any,
) -> Step:
    """Units are inspected and accepted; those in ``rejected`` lack their tags."""
    found = _findings(units, rejected)
    return _step("inspect_return", at, {"return_id": return_id, "findings": found} | fields)


def correct_inspection(
    units: Units = 1,
    *,
    rejected: Units | None = None,
    return_id: str = "R-1",
    reason: str = "The boxes were mixed up.",
    at: When | None = None,
    **fields: Any,
) -> Step:
    """All findings are replaced: ``units`` are accepted, those in ``rejected`` lack their tags."""
    given = {"return_id": return_id, "findings": _findings(units, rejected), "reason": reason}
    return _step("correct_inspection", at, given | fields)


def _findings(units: Units, rejected: Units | None) -> list[dict[str, Any]]:
    findings = [finding(line_id, count) for line_id, count in _by_line(units).items() if count]
    return findings + [
        finding(line_id, count, tags_attached=False) for line_id, count in _by_line(rejected or {}).items() if count
    ]


def request_refund(refund_id: str = "F-1", *, at: When | None = None, **fields: Any) -> Step:
    """A refund is requested for return ``R-1``, or for the ``return_id``, ``order_id`` or ``claim_id`` given."""
    named = {"return_id", "order_id", "claim_id"} & set(fields)
    subject = {} if named else {"return_id": "R-1"}
    return _step("request_refund", at, {"refund_id": refund_id} | subject | fields)


def record_refund_result(
    payment_id: str = "p-1", result: str = "succeeded", *, refund_id: str = "F-1", at: When | None = None, **fields: Any
) -> Step:
    """The payment provider answered for one payment."""
    answer = {"reference": f"re-{payment_id}"} if result == "succeeded" else {"reason": "The card is closed."}
    given = {"refund_id": refund_id, "payment_id": payment_id, "result": result}
    return _step("record_refund_result", at, given | answer | fields)


def correct_delivery(
    parcel_id: str = "P-1",
    *,
    delivered_at: When | None = None,
    order_id: str = "A-1",
    reason: str = "The carrier took the scan back.",
    at: When | None = None,
    **fields: Any,
) -> Step:
    """A delivery is moved to ``delivered_at``, or taken back without it."""
    given = {"order_id": order_id, "parcel_id": parcel_id, "reason": reason}
    moved = {} if delivered_at is None else {"delivered_at": delivered_at}
    return _step("correct_delivery", at, given | moved | fields)


def report_parcel_lost(parcel_id: str = "P-1", *, order_id: str = "A-1", at: When | None = None, **fields: Any) -> Step:
    """A parcel is lost on its way to the customer."""
    return _step("report_parcel_lost", at, {"order_id": order_id, "parcel_id": parcel_id} | fields)


def record_parcel_returned(
    parcel_id: str = "P-1", *, order_id: str = "A-1", at: When | None = None, **fields: Any
) -> Step:
    """The carrier brings a parcel back to the sender."""
    return _step("record_parcel_returned", at, {"order_id": order_id, "parcel_id": parcel_id} | fields)


def record_refund(
    amount: str = "100.00",
    *,
    payment_id: str = "p-1",
    kind: str = "goodwill",
    refund_id: str = "G-1",
    order_id: str = "A-1",
    at: When | None = None,
    **fields: Any,
) -> Step:
    """Money goes back to one payment that the desk did not ask for."""
    given = {"refund_id": refund_id, "order_id": order_id, "kind": kind}
    return _step("record_refund", at, given | {"tenders": [{"payment_id": payment_id, "amount": amount}]} | fields)


def record_capture(payment_id: str = "p-1", *, order_id: str = "A-1", at: When | None = None, **fields: Any) -> Step:
    """The payment provider takes money that was authorised."""
    return _step("record_capture", at, {"order_id": order_id, "payment_id": payment_id} | fields)


def name_payout(
    payment_id: str = "p-1",
    payout_id: str = "bank-transfer",
    *,
    order_id: str = "A-1",
    method: str = "bank_transfer",
    reason: str = "The card is closed.",
    approved_by: str = "head of care",
    at: When | None = None,
    **fields: Any,
) -> Step:
    """A person names another way to pay back a payment."""
    given = {"order_id": order_id, "payment_id": payment_id, "payout_id": payout_id, "method": method}
    return _step("name_payout", at, given | {"reason": reason, "approved_by": approved_by} | fields)


def record_send_back(units: Units = 1, *, return_id: str = "R-1", at: When | None = None, **fields: Any) -> Step:
    """Rejected units go back to the customer."""
    return _step("record_send_back", at, {"return_id": return_id, "lines": _lines(units)} | fields)


def record_disposition(
    units: Units = 1, disposition: str = "restock", *, return_id: str = "R-1", at: When | None = None, **fields: Any
) -> Step:
    """The warehouse tells what becomes of units."""
    lines = [line | {"disposition": disposition} for line in _lines(units)]
    return _step("record_disposition", at, _of(return_id, fields) | {"lines": lines} | fields)


def report_return_lost(return_id: str = "R-1", *, at: When | None = None, **fields: Any) -> Step:
    """The parcel is lost on its way back."""
    return _step("report_return_lost", at, {"return_id": return_id} | fields)


def reduce_return(units: Units = 1, *, return_id: str = "R-1", at: When | None = None, **fields: Any) -> Step:
    """The customer keeps these units after all."""
    return _step("reduce_return", at, {"return_id": return_id, "lines": _lines(units)} | fields)


def withdraw_return(return_id: str = "R-1", *, at: When | None = None, **fields: Any) -> Step:
    """The customer keeps the goods after all."""
    return _step("withdraw_return", at, {"return_id": return_id} | fields)


def report_wrong_item(
    claim_id: str = "C-1", *, order_id: str = "A-1", line_id: str = "1", at: When | None = None, **fields: Any
) -> Step:
    """A complete mail that the wrong item came; ``attachments=[]`` is without evidence."""
    given = {"claim_id": claim_id, "order_id": order_id, "line_id": line_id, "channel": "email"}
    return _step("report_wrong_item", at, given | {"attachments": ["order_confirmation", "item_picture"]} | fields)


def add_claim_evidence(claim_id: str = "C-1", *, at: When | None = None, **fields: Any) -> Step:
    """The evidence comes later."""
    given = {"claim_id": claim_id, "attachments": ["order_confirmation", "item_picture"]}
    return _step("add_claim_evidence", at, given | fields)


def record_claim_contact(claim_id: str = "C-1", *, at: When | None = None, **fields: Any) -> Step:
    """Customer care calls the customer."""
    return _step("record_claim_contact", at, {"claim_id": claim_id} | fields)


def resolve_claim(claim_id: str = "C-1", remedy: str = "refund", *, at: When | None = None, **fields: Any) -> Step:
    """The claim is settled."""
    return _step("resolve_claim", at, {"claim_id": claim_id, "remedy": remedy} | fields)


def deny_claim(claim_id: str = "C-1", *, at: When | None = None, **fields: Any) -> Step:
    """The claim is denied by hand."""
    return _step("deny_claim", at, {"claim_id": claim_id, "reason": "It is the right item."} | fields)


def record_arrival(arrival_id: str = "D-1", *, at: When | None = None, **fields: Any) -> Step:
    """A parcel that nobody announced is at the dock."""
    return _step("record_arrival", at, {"arrival_id": arrival_id} | fields)


def assign_arrival(arrival_id: str = "D-1", *, at: When | None = None, **fields: Any) -> Step:
    """A person finds out what the parcel is for: by default ``return_id="R-1"``."""
    given = {} if fields.keys() & {"claim_id", "order_id"} else {"return_id": "R-1"}
    return _step("assign_arrival", at, {"arrival_id": arrival_id} | given | fields)


def dismiss_arrival(arrival_id: str = "D-1", *, at: When | None = None, **fields: Any) -> Step:
    """The parcel is not for the shop."""
    return _step("dismiss_arrival", at, {"arrival_id": arrival_id, "reason": "It is for the neighbour."} | fields)


def notify_customer(subject: str = "order/A-1", *, at: When | None = None, **fields: Any) -> Step:
    """A notice goes to the customer; ``subject`` is ``order/A-1``, ``return/R-1`` or ``claim/C-1``."""
    return _step("notify_customer", at, {"subject": _subject(subject), "notice": "We have decided."} | fields)


def close_exception(subject: str = "return/R-1", *, at: When | None = None, **fields: Any) -> Step:
    """A person closes the exceptions of ``order/A-1``, ``return/R-1`` or ``claim/C-1``."""
    given = {"subject": _subject(subject), "reason": "The warehouse was asked."}
    return _step("close_exception", at, given | fields)


def override(clause: str, subject: str = "order/A-1", *, at: When | None = None, **fields: Any) -> Step:
    """A person with authority sets a clause aside for ``order/A-1``, ``return/R-1`` or ``claim/C-1``."""
    given = {"subject": _subject(subject), "clause": clause, "reason": "A good customer.", "approved_by": "Ann"}
    return _step("override", at, given | fields)


def run_deadlines(*, at: When | None = None, **fields: Any) -> Step:
    """The deadlines that passed are recorded."""
    return _step("run_deadlines", at, fields)


def finding(line_id: str = "1", quantity: int = 1, **changes: bool) -> dict[str, Any]:
    """The findings on accepted units; any of the three can be changed."""
    return {
        "line_id": line_id,
        "quantity": quantity,
        "same_condition": True,
        "original_packaging": True,
        "tags_attached": True,
    } | changes


def _of(return_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The return, unless the fields name the claim whose wrong item comes back."""
    return {} if "claim_id" in fields else {"return_id": return_id}


def _by_line(units: Units) -> Mapping[str, int]:
    return {"1": units} if isinstance(units, int) else units


def _lines(units: Units) -> list[dict[str, Any]]:
    return [{"line_id": line_id, "quantity": count} for line_id, count in _by_line(units).items()]


def _subject(text: str) -> dict[str, str]:
    kind, _, name = text.partition("/")
    return {"kind": kind, "id": name}


# ---- the usual beginnings ----------------------------------------------------------------------------------------------

Stage = When | bool | None
"""When a stage is reached; ``True``: at the time of the stage before it."""


def an_order(
    order_id: str = "A-1",
    *,
    confirmed: When | None = None,
    shipped: Stage = None,
    delivered: Stage = None,
    parcel_id: str = "P-1",
    **changes: Any,
) -> Steps:
    """An order up to the last stage given: ``an_order(price="750.00", delivered="2026-03-05")``.

    Without ``confirmed`` it was confirmed the morning before the shipment, or three days before the delivery; without any
    time, at the time of the step before it. The rest is as in :func:`confirm_order`.
    """
    if confirmed is None and not isinstance(shipped, bool | None):
        confirmed = _morning(shipped, 1, 10)
    elif confirmed is None and not isinstance(delivered, bool | None):
        confirmed = _morning(delivered, 3, 10)
    if shipped is None and delivered:
        shipped = True if delivered is True or confirmed is None else _between(confirmed, delivered)
    steps = [confirm_order(order_id, at=confirmed, **changes)]
    if shipped:
        steps.append(record_shipment(parcel_id, order_id=order_id, at=_when(shipped)))
    if delivered:
        steps.append(record_delivery(parcel_id, order_id=order_id, at=_when(delivered)))
    return Steps(tuple(steps))


def _morning(when: When, days: int, hour: int) -> str:
    """The morning so many days before, as a wall time; it exists in every zone."""
    return f"{_day(when) - timedelta(days=days)} {hour:02}:00"


def _between(confirmed: When, delivered: When) -> When:
    """When the parcel was shipped: a day after the confirmation if that is before the delivery, else with it."""
    later = _day(confirmed) + timedelta(days=1)
    return f"{later} 09:00" if later < _day(delivered) else confirmed


def _day(when: When) -> date:
    if isinstance(when, datetime):
        return when.date()
    return when if isinstance(when, date) else date.fromisoformat(when[:10])


def _when(stage: Stage) -> When | None:
    return None if isinstance(stage, bool) else stage


def a_return(
    return_id: str = "R-1",
    units: Units = 1,
    *,
    order_id: str = "A-1",
    requested: When | None = None,
    labelled: Stage = None,
    shipped: Stage = None,
    received: Stage = None,
    inspected: Stage = None,
    refunded: Stage = None,
    rejected: Units | None = None,
    own_label: bool = False,
    label_id: str = "L-1",
    refund_id: str = "F-1",
    payments: Sequence[str] = ("p-1",),
    **fields: Any,
) -> Steps:
    """A return of an order up to the last stage given, with all stages before it.

    ``own_label``: no prepaid label is issued. ``rejected``: those of ``units`` that the inspection rejects. ``refunded``: the
    refund is requested, and succeeds for all ``payments``. ``fields`` are those of the request.
    """
    stages = [labelled, shipped, received, inspected, refunded]
    reached = [any(stages[index:]) for index in range(len(stages))]
    steps = [request_return(units, return_id=return_id, order_id=order_id, at=requested, **fields)]
    if (reached[0] and not own_label) or labelled:
        steps.append(issue_label(label_id, return_id=return_id, at=_when(labelled)))
    if reached[1]:
        used = None if own_label else label_id
        steps.append(record_return_shipment(used, return_id=return_id, at=_when(shipped)))
    if reached[2]:
        steps.append(receive_return(return_id, at=_when(received)))
    if reached[3]:
        refused = _by_line(rejected or {})
        good = {line_id: count - refused.get(line_id, 0) for line_id, count in _by_line(units).items()}
        steps.append(inspect_return(good, rejected=refused, return_id=return_id, at=_when(inspected)))
    if reached[4]:
        steps.append(request_refund(refund_id, return_id=return_id, at=_when(refunded)))
        steps += [record_refund_result(payment_id, refund_id=refund_id) for payment_id in payments]
    return Steps(tuple(steps))


def a_claim(
    claim_id: str = "C-1",
    *,
    order_id: str = "A-1",
    line_id: str = "1",
    reported: When | None = None,
    contacted: Stage = None,
    resolved: Stage = None,
    remedy: str = "refund",
    **fields: Any,
) -> Steps:
    """A wrong-item claim with its evidence, up to the last stage given."""
    steps = [report_wrong_item(claim_id, order_id=order_id, line_id=line_id, at=reported, **fields)]
    if contacted:
        steps.append(record_claim_contact(claim_id, at=_when(contacted)))
    if resolved:
        steps.append(resolve_claim(claim_id, remedy, at=_when(resolved)))
    return Steps(tuple(steps))
