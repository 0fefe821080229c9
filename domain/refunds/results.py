"""The answers of the payment provider: paid, not paid, less, more, in another currency, or taken back days later."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from returnable.domain.commands import RecordRefundResult, minor_units
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.events import RefundAnswer, Refunded, RefundFailed, RefundReversed, RefundSettled
from returnable.domain.fields import to_text
from returnable.domain.money import to_major
from returnable.domain.refunds.state import Answer, Refund, RefundSubject
from returnable.domain.refunds.tenders import over_captured, overpaid, told_before
from returnable.domain.wording import listed


def record_result(
    about: RefundSubject, refund: Refund, command: RecordRefundResult, now: DecisionContext
) -> DecisionResult:
    """Record the payment provider's answer for one tender. When all are settled, the refund is complete.

    An answer is never refused: one that contradicts what is known is recorded with an exception.
    """
    order, name = about.order, command.payment_id
    currency = command.currency or order.currency
    asked = None if command.amount is None else minor_units("amount", command.amount, currency)
    same = (name, command.result, command.reference)
    if any(known[:3] == same and (asked is None or known[3:5] == (asked, currency)) for known in refund.answers):
        return DecisionResult()
    answered_at = command.settled_at or now.at
    later = refund.taken_back(name, command.result, command.reference, answered_at)
    kind, amount = _meant(refund, command, asked, answered_at, taken_back=later is not None)
    answer: dict[str, Any] = {
        "refund_id": refund.refund_id,
        "payment_id": name,
        "amount": amount,
        "currency": currency,
        "reference": command.reference,
    }
    if kind is not RefundSettled:
        answer["reason"] = command.reason
    event = kind(**now.envelope(answered_at), **answer)
    decided = now.fact(refund.stream, event)
    after = refund.clone()
    after.apply(event, about.subject.version + 1)
    if after.complete and after.status == "requested":
        settled_at = after.settled_at or answered_at
        decided.events.append((refund.stream, Refunded(**now.envelope(settled_at), refund_id=refund.refund_id)))
    twice = told_before(about.refunds, after, after.answers[-1]) if kind is RefundSettled and later is None else ()
    return decided.disputed(now, [*_surprises(refund, event, later), *twice, *_too_much(about, refund, after)])


def _meant(
    refund: Refund, command: RecordRefundResult, asked: int | None, answered_at: datetime, *, taken_back: bool
) -> tuple[type[RefundAnswer], int]:
    """What an answer records, and its amount. Without an amount it is about all that is open of the tender.

    ``taken_back``: the provider took this answer back before it was learnt.
    """
    name = command.payment_id
    if command.result == "succeeded":
        concerned = refund.concerned(name)
        open_ = sum(tender.pending for tender in concerned) or sum(tender.failed for tender in concerned)
        return RefundSettled, open_ if asked is None else asked
    named = refund.named(name)
    pending, settled = sum(tender.pending for tender in named), sum(tender.settled for tender in named)
    paid = [known for known in refund.answers if known[:3] == (name, "succeeded", command.reference)]
    if taken_back:
        return RefundFailed, paid[-1].amount if asked is None else asked
    if command.reference is not None and paid and settled:  # the provider takes back what it said of this payment
        return RefundReversed, min(paid[-1].amount, settled) if asked is None else asked
    # A failure from before anything was paid, such as a refusal, sends nothing back.
    paid_by_then = any(known.result == "succeeded" and known.at <= answered_at for known in refund.answers)
    if settled and paid_by_then and (not pending or (asked is not None and asked > pending)):
        return RefundReversed, settled if asked is None else asked
    return RefundFailed, pending if asked is None else asked


def _surprises(refund: Refund, event: RefundAnswer, later: Answer | None) -> Iterator[str]:
    """What of an answer contradicts the refund; ``later`` is the known answer by which the provider took it back."""
    name, of = event.payment_id, f"refund {refund.refund_id}"
    named = refund.named(name)
    payment, amount = f"payment {name}", f"{to_major(event.amount, event.currency)} {event.currency}"
    if not named:
        names = [f"payment {tender.payment_id}" for tender in refund.concerned(name)]
        more = [f"{len(names) - 3} more"] if len(names) > 4 else []
        open_ = listed([*names[: 3 if more else 4], *more])
        counted = f"; {amount} were counted for {open_}" if open_ and isinstance(event, RefundSettled) else ""
        yield f"{of} pays nothing to {payment}{counted}"
    if event.currency != refund.currency:
        yield f"{of} is in {refund.currency}, but the answer for {payment} is about {amount}: the tender is as before"
    elif later is not None:
        now = f"{later.result} at {to_text(later.at)}"
        result = "succeeded" if isinstance(event, RefundSettled) else "failed"
        yield f"{amount} of {of} {result} for {payment} at {to_text(event.occurred_at)}, but {now}: the later answer holds"
    elif named:
        yield from _failed_later(refund, event)
        settles, reverses = isinstance(event, RefundSettled), isinstance(event, RefundReversed)
        room = sum(t.asked - t.settled if settles else t.settled if reverses else t.pending for t in named)
        done = "were paid" if settles else "came back" if reverses else "failed"
        if settles and room <= 0 and not event.amount:
            yield f"{payment} of {of} was paid already, and now again without an amount (reference {event.reference})"
        elif event.amount > max(0, room):
            open_amount = to_major(max(0, room), event.currency)
            yield f"{amount} of {of} {done} for {payment}, but only {open_amount} of it was open"
    asked_at = (refund.elsewhere or refund.requested).occurred_at
    if event.occurred_at < asked_at:
        yield f"{of} was answered at {to_text(event.occurred_at)}, before it was asked for at {to_text(asked_at)}"


def _failed_later(refund: Refund, event: RefundAnswer) -> Iterator[str]:
    """What succeeded, but the provider said later that it failed, and of which payment it spoke is not known."""
    if not isinstance(event, RefundSettled):
        return
    payment, of = f"payment {event.payment_id}", f"refund {refund.refund_id}"
    for known in refund.answers:
        same = known.payment_id == event.payment_id and (known.reference is None or event.reference is None)
        if same and known.result == "failed" and known.at > event.occurred_at:
            amount = f"{to_major(event.amount, event.currency)} {event.currency}"
            paid = f"{amount} of {of} succeeded for {payment} at {to_text(event.occurred_at)}"
            yield f"{paid}, but it failed at {to_text(known.at)}: it counts as paid"
            return


def _too_much(about: RefundSubject, before: Refund, after: Refund) -> Iterator[str]:
    """The sentences for money beyond what is owed, or beyond what was captured, where the answer made it more."""
    if after.settled + after.pending <= before.settled + before.pending:
        return
    attempts = [after if refund.refund_id == after.refund_id else refund for refund in about.attempts]
    if after.elsewhere is None:
        yield from overpaid(about, attempts)
    refunds = [after if refund.refund_id == after.refund_id else refund for refund in about.refunds]
    yield from over_captured(about.order, refunds, after.tenders)
