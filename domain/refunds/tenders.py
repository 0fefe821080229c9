"""What of a refund is still to be paid, and how it splits over the payments of its order.

Clause: ``returns.original_tender``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from returnable.domain.errors import Impossible
from returnable.domain.events import Credit, RefundRecorded, Tender
from returnable.domain.money import split, to_major
from returnable.domain.order.state import Order
from returnable.domain.refunds.owed import Owed, tax_of_units
from returnable.domain.refunds.state import Answer, Refund, RefundSubject, due_by, going_back, on_its_way, unpaid
from returnable.domain.wording import listed, plural


@dataclass(frozen=True, slots=True)
class Payable:
    """What is owed, less what was paid already, in minor units.

    ``owed`` - ``settled_before`` - ``credits`` - ``voided`` = the sum of the tenders.
    """

    settled_before: int
    """What went back, or is on its way, by earlier attempts."""
    credits: tuple[Credit, ...]
    """What other refunds paid of it."""
    voided: int
    """What was authorised and never captured."""
    tenders: tuple[Tender, ...]

    @property
    def total(self) -> int:
        """What goes back now."""
        return sum(tender.amount for tender in self.tenders)


def payable(about: RefundSubject, owed: Owed, allocation: str) -> Payable:
    """What is still to be paid of what is owed, split over the order's payments (``returns.original_tender``).

    A further attempt asks for the same amounts of the tenders that failed, unless what is owed has changed since. Raises
    ``money.mismatch`` where less is left of what was captured.
    """
    order = about.order
    before = on_its_way(about.attempts)
    credits = _credits(about, owed, owed.total - before)
    total = max(0, owed.total - before - sum(credit.amount for credit in credits))
    left = left_for(about)
    captured = max(0, sum(left.values()))
    uncaptured = max(0, sum(payment.amount for payment in order.confirmed.payments) - sum(order.captured.values()))
    # What was captured paid for what was shipped. So a cancellation takes first what was not captured.
    voided = min(total, uncaptured) if about.subject is order else min(max(0, total - captured), uncaptured)
    total -= voided
    if total > captured:
        due, remains = to_major(total, order.currency), to_major(captured, order.currency)
        reason = f"{due} {order.currency} would go back, but of what was captured only {remains} is left"
        raise Impossible("money.mismatch", reason)
    failed = unpaid(about.attempts)
    if failed.total() == total and all(left.get(name, 0) >= amount for name, amount in failed.items()):
        shares: Mapping[str, int] = failed
    else:
        shares = _shares(total, left, allocation)
    tenders = tuple(
        Tender(
            payment_id=name,
            amount=shares[name],
            payout_id=order.payouts[name].payout_id if name in order.payouts else None,
        )
        for name in left
        if shares.get(name)
    )
    return Payable(before, credits, voided, tenders)


def _shares(total: int, left: Mapping[str, int], allocation: str) -> dict[str, int]:
    if allocation == "in_order":
        shares: list[int] = []
        for amount in left.values():
            shares.append(min(total - sum(shares), max(0, amount)))
    else:
        shares = split(total, [max(0, amount) for amount in left.values()])
    return dict(zip(left, shares, strict=True))


def left_for(about: RefundSubject) -> dict[str, int]:
    """What a refund may take of each payment: captured, less what went back, is on its way, or is kept for another refund."""
    left = dict(about.order.captured)
    for name, amount in going_back(about.refunds).items():
        left[name] = left.get(name, 0) - amount
    for attempts in about.others():  # what failed is kept for a later refund of the same subject
        for name, amount in unpaid(attempts).items():
            left[name] -= amount
    return left


# ---- credits: what other refunds paid already ---------------------------------------------------------------------------


def _credits(about: RefundSubject, owed: Owed, need: int) -> tuple[Credit, ...]:
    """What is owed less because it was paid already, up to ``need``.

    Paid already is a refund that the desk did not ask for, and what another refund paid too much.
    """
    used: Counter[str] = Counter()
    for attempts in about.others():
        for credit in attempts[-1].requested.credits:
            used[credit.refund_id] += credit.amount
    found: list[Credit] = []
    for refund_id, paid, share in _paid_already(about, owed):
        taken = min(need - sum(credit.amount for credit in found), paid - used[refund_id], share)
        if taken > 0:
            found.append(Credit(refund_id=refund_id, amount=taken))
    return tuple(found)


def _paid_already(about: RefundSubject, owed: Owed) -> Iterator[tuple[str, int, int]]:
    """The refund, what it paid, and what it paid for the units of this subject."""
    order = about.order
    cancelled = {name: _value(order, name, count) for name, count in order.cancelled_elsewhere.items()}
    bound = Counter({name: _value(order, name, count) for name, count in units_paid(about.others()).items()})
    elsewhere = [(refund, refund.elsewhere) for refund in about.refunds if refund.elsewhere is not None]
    # Money for named units is good for no others, so it counts first.
    for refund, paid in sorted(elsewhere, key=lambda each: not each[1].lines):
        yield refund.refund_id, *_for_these_units(order, refund, paid, owed, cancelled, bound)
    for attempts in about.others():
        too_much = on_its_way(attempts) - due_by(attempts)
        yield attempts[-1].refund_id, too_much, too_much


def units_paid(subjects: Iterable[Sequence[Refund]]) -> Counter[str]:
    """Line → the units for which the desk pays, by the attempts of some subjects."""
    paid = Counter[str]()
    for attempts in subjects:
        if on_its_way(attempts):
            for item in attempts[-1].requested.items:
                paid[item.line_id] += item.quantity
    return paid


def _for_these_units(
    order: Order,
    refund: Refund,
    paid: RefundRecorded,
    owed: Owed,
    cancelled: dict[str, int],
    bound: Counter[str],
) -> tuple[int, int]:
    """What a refund made elsewhere paid, and what of it for the units of a subject: all, unless it names other units.

    What it paid beyond the price and tax of the units that it names counts for all units. ``bound`` is what the desk and the
    refunds before it paid for each line; what it paid is added. Unless it is a gift, it first settles the units that were
    ``cancelled`` elsewhere, for which nothing is owed: what it takes of their value is no credit.
    """
    quantities = {units.line_id: units.quantity for units in paid.lines}
    values = [
        min(_value(order, name, count), _value(order, name, order.lines[name].quantity) - bound[name])
        for name, count in quantities.items()
    ]
    most = min(refund.settled, sum(values))
    parts = dict(zip(quantities, split(most, values), strict=True)) if most else {}
    returned = {item.line_id: item.quantity for item in owed.items}
    credit, free = refund.settled, refund.settled - most
    for name in parts or cancelled:
        part = parts.get(name, credit)
        settles = 0 if paid.kind == "goodwill" else min(part, cancelled.get(name, 0))
        if settles:
            cancelled[name] -= settles
            credit -= settles
        if parts:
            bound[name] += part
            common = min(quantities[name], returned.get(name, 0))
            free += min(part - settles, -(-part * common // quantities[name]))
    return credit, min(credit, free)


def _value(order: Order, line_id: str, count: int) -> int:
    line = order.lines[line_id]
    return line.unit_price * count + tax_of_units(line, 0, min(count, line.quantity))


# ---- what contradicts -----------------------------------------------------------------------------------------------------


def over_captured(order: Order, refunds: Iterable[Refund], payment_ids: Iterable[str]) -> list[str]:
    """For each of these payments of which more goes back than was captured: a sentence that says so."""
    going = going_back(refunds)
    return [
        f"of payment {name} {to_major(order.captured.get(name, 0), order.currency)} {order.currency} were captured, but "
        f"{to_major(going[name], order.currency)} went back or are on their way"
        for name in dict.fromkeys(payment_ids)
        if going[name] > order.captured.get(name, 0)
    ]


def told_before(refunds: Iterable[Refund], refund: Refund, paid: Answer) -> Iterator[str]:
    """A sentence for each other refund that paid the same amount to the same payment under the same reference.

    It is probably the same money, reported under two ids. Nothing shows whether it is.
    """
    for other in refunds:
        same = (known for known in other.answers if known[:5] == paid[:5])
        if paid.reference is not None and other.refund_id != refund.refund_id and other.settled and any(same):
            amount = f"{to_major(paid.amount, paid.currency)} {paid.currency}"
            yield (
                f"refund {refund.refund_id} paid {amount} to payment {paid.payment_id} under the reference {paid.reference}, "
                f"and so did refund {other.refund_id}"
            )


def overpaid(about: RefundSubject, attempts: Sequence[Refund], due: int | None = None) -> list[str]:
    """Whether more goes back for a subject than it is owed: a sentence that says so, with the amount.

    ``due``: what it is owed by now; without it, what it was owed when the last refund was asked for.
    """
    due, going = due_by(attempts) if due is None else max(0, due), on_its_way(attempts)
    if going <= due:
        return []
    currency = about.order.currency
    asked = plural(len(attempts), "refund", "refunds") + " " + listed([refund.refund_id for refund in attempts])
    return [
        f"{to_major(going, currency)} {currency} went back or are on their way for {about.subject.name} ({asked}), but "
        f"{to_major(due, currency)} are owed: {to_major(going - due, currency)} too much"
    ]
