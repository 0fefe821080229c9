"""A payment gateway for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from returnable.domain.effects.answers import KeyReused
from returnable.domain.effects.payments import (
    GatewayRefused,
    GatewayTimeout,
    PaymentGateway,
    PaymentNotice,
    RefundNotice,
    RefundReceipt,
)
from returnable.domain.fields import RefundKind
from returnable.domain.money import to_major, to_minor
from returnable.projections.views import LedgerEntry
from returnable.testing.fakes.script import NO_TIME, Fake, Next, Notice, Outside, Plan

_Result = Literal["succeeded", "failed", "pending"]


@dataclass(slots=True)
class _Refund:
    """A refund or a dispute in the gateway's books. One that the gateway pays in two parts is two."""

    key: str
    """Empty where nobody asked for it by a key."""
    payment_id: str
    asked: int
    currency: str
    asked_at: datetime
    kind: RefundKind = "elsewhere"
    """Of one without a key."""
    amount: int = field(init=False)
    """What is paid of it."""
    reference: str | None = None
    result: _Result = "pending"
    reason: str | None = None
    refused: bool = False
    settled_at: datetime | None = None
    ahead: list[tuple[datetime, _Result, str | None]] = field(default_factory=list)
    """What becomes of it later, and why."""

    def __post_init__(self) -> None:
        self.amount = self.asked

    @property
    def body(self) -> str:
        return f"{to_major(self.asked, self.currency)} {self.currency} to {self.payment_id}"

    @property
    def receipt(self) -> RefundReceipt:
        return RefundReceipt(
            self.key,
            self.payment_id,
            self.amount,
            self.currency,
            self.result,
            self.reference,
            self.reason,
            self.settled_at,
        )

    @property
    def told(self) -> str:
        paid = f"{to_major(self.amount, self.currency)} of it" if self.amount != self.asked else None
        parts = [self.result if not self.refused else "refused", paid, self.reference, self.reason]
        return ", ".join(part for part in parts if part)

    def notice(self, event_id: str, at: datetime) -> Notice:
        """The webhook about what became of it at that instant."""
        if self.key and self.result != "pending":
            return RefundNotice(
                event_id, self.key, self.result, at, self.reference, self.reason, self.amount, self.currency
            )
        return PaymentNotice(
            event_id,
            self.payment_id,
            self.kind,
            self.amount,
            self.currency,
            self.reference or "",
            self.asked_at,
            self.reason,
            self.settled_at if self.result == "failed" else None,
        )


class NextRefund(Next):
    """What happens to the next refund that the gateway does not know yet. Call one method."""

    def succeeds(self) -> None:
        """The money moves and the gateway answers at once, as without a script."""
        self._say("succeeds()", Plan())

    def times_out_after_charging(self) -> None:
        """The money moves, but the answer is lost."""
        self._say("times_out_after_charging()", Plan("answer lost"))

    def times_out_before_charging(self) -> None:
        """The call is lost and never reaches the gateway."""
        self._say("times_out_before_charging()", Plan("call lost"))

    def times_out_and_charges_after(self, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        """The call reaches the gateway only after the caller gave up, perhaps after ``find`` returned ``None``."""
        wait = timedelta(days=days, hours=hours, minutes=minutes)
        self._say(f"times_out_and_charges_after({wait})", Plan("call late", wait=wait))

    def is_refused(self, reason: str) -> None:
        """A definite no, at once."""
        self._say(f"is_refused({reason!r})", Plan("refused", reason))

    def answers_after(self, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        """The answer is ``pending``; so much later ``find`` and a webhook say that it succeeded."""
        wait = timedelta(days=days, hours=hours, minutes=minutes)
        self._say(f"answers_after({wait})", Plan("pending", wait=wait))

    def fails_after(self, reason: str, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        """The answer is ``pending``; so much later ``find`` and a webhook say that it failed."""
        wait = timedelta(days=days, hours=hours, minutes=minutes)
        self._say(f"fails_after({reason!r}, {wait})", Plan("fails", reason, wait))

    def comes_back_after(self, reason: str, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        """It succeeds at once; so much later the bank sends the money back, and ``find`` and a webhook say that it failed."""
        wait = timedelta(days=days, hours=hours, minutes=minutes)
        self._say(f"comes_back_after({reason!r}, {wait})", Plan("comes back", reason, wait))

    def fails_and_succeeds_after(self, reason: str, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        """It fails at once; so much later ``find`` and a webhook say that it succeeded after all."""
        wait = timedelta(days=days, hours=hours, minutes=minutes)
        self._say(f"fails_and_succeeds_after({reason!r}, {wait})", Plan("fails first", reason, wait))

    def pays(self, amount: str) -> None:
        """It succeeds at once, but over less or more than was asked for (in major units). The rest is never paid."""
        self._say(f"pays({amount!r})", Plan("pays", amount=amount))

    def pays_in_parts(self, amount: str, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        """So much is paid at once (in major units), and the rest so much later, by a reference of its own."""
        wait = timedelta(days=days, hours=hours, minutes=minutes)
        self._say(f"pays_in_parts({amount!r}, {wait})", Plan("pays", wait=wait, amount=amount))


class FakeGateway(Fake[Notice], PaymentGateway):
    """A payment gateway with its own books. It refuses to pay back more than it captured."""

    _name = "gateway"
    _incoming = (RefundNotice, PaymentNotice)

    def __init__(
        self, clock: Callable[[], datetime] | Outside, *, seed: int | None = None, trouble: float = 0.0
    ) -> None:
        super().__init__(clock, seed=seed, trouble=trouble)
        self._authorised: dict[str, int] = {}
        self._captured: dict[str, tuple[int, str]] = {}
        self._payouts: dict[str, str] = {}
        self._closed: dict[str, str] = {}
        self._refunds: list[_Refund] = []
        self._under_way: list[tuple[datetime, _Refund, Plan]] = []
        self._keys_live: timedelta | None = None
        self._reordered = False
        self._notices = 0
        self._captures = 0

    # ---- the port -----------------------------------------------------------------------------------------------------

    def refund(self, *, key: str, payment_id: str, amount: int, currency: str) -> RefundReceipt:
        """See :meth:`~returnable.domain.effects.payments.PaymentGateway.refund`; ``ValueError`` for no amount."""
        if type(amount) is not int or amount <= 0:
            raise ValueError(f"a refund is of a whole number of minor units, more than 0, not {amount!r}")
        with self._outside.lock:
            now = self._catch_up()
            asked = _Refund(key, payment_id, amount, currency, now)
            call = f"refund {key} of {asked.body}"
            known = self._remembered(key, now)
            if known is not None:
                if known.body != asked.body:
                    self._called(call, f"the key was used before, for {known.body}")
                    raise KeyReused(key, known.body, asked.body)
                if self._outside.random(f"answer {key}") is not None:
                    self._called(call, f"timed out; known already: {known.told}")
                    raise GatewayTimeout(key, "refund")
                return self._answer(call, known, "known already: ")
            plan = self._outside.scripted("next_refund", payment_id) or self._random_plan(asked)
            if plan.ending == "call lost":
                self._called(call, "timed out before charging")
                raise GatewayTimeout(key, "refund")
            if plan.ending == "call late":
                self._under_way.append((now + plan.wait, asked, plan))
                self._called(call, f"timed out, under way for {plan.wait}")
                raise GatewayTimeout(key, "refund")
            self._charge(asked, plan, now)
            if plan.ending == "answer lost":
                self._called(call, f"timed out after charging: {asked.told}")
                raise GatewayTimeout(key, "refund")
            return self._answer(call, asked)

    def find(self, key: str) -> RefundReceipt | None:
        """See :meth:`~returnable.domain.effects.payments.PaymentGateway.find`."""
        with self._outside.lock:
            self._catch_up()
            if self._outside.random(f"find {key}") is not None:
                self._called(f"find {key}", "timed out")
                raise GatewayTimeout(key, "find")
            found = self._under(key)
            self._called(f"find {key}", "; ".join(refund.told for refund in found) or "nothing")
            return _receipt(found) if found else None

    # ---- scripts --------------------------------------------------------------------------------------------------------

    def authorises(self, payment_id: str, amount: str, currency: str = "USD") -> None:
        """Authorise a payment, and capture nothing yet. ``amount`` is in major units."""
        with self._outside.lock:
            self._new(payment_id)
            self._authorised[payment_id], self._captured[payment_id] = to_minor(amount, currency), (0, currency)
            self._note(f"authorised {amount} {currency} of {payment_id}")

    def captures(self, payment_id: str, amount: str, currency: str = "USD") -> None:
        """Capture a payment: so much can go back. ``amount`` is in major units.

        What was authorised can be captured in parts, each with a webhook. Any other payment is captured once.
        """
        with self._outside.lock:
            captured = to_minor(amount, currency)
            if payment_id not in self._authorised:
                self._new(payment_id)
            else:
                before, expected = self._captured[payment_id]
                left = self._authorised[payment_id] - before
                if currency != expected or captured > left:
                    raise ValueError(
                        f"{amount} {currency} of {payment_id} cannot be captured: {to_major(left, expected)} {expected} "
                        "are authorised and not captured"
                    )
                self._captures += 1
                reference, now = f"ca-{self._captures}", self._outside.now()
                self._send(
                    PaymentNotice(self._event_id(), payment_id, "capture", captured, currency, reference, now), now
                )
                captured += before
            self._captured[payment_id] = (captured, currency)
            self._note(f"captured {amount} {currency} from {payment_id}")

    def pays_out(self, payout_id: str, *, instead_of: str) -> None:
        """Let refunds to ``payout_id`` be paid from what was captured of a payment, whose card may be closed."""
        with self._outside.lock:
            self._payment(instead_of)
            self._payouts[payout_id] = instead_of

    def closes_card(self, payment_id: str, reason: str = "the card is closed") -> None:
        """Refuse every refund to that payment from now on."""
        self._stand("closes_card", of=payment_id)
        self._closed[payment_id] = reason

    def pays_back(
        self, payment_id: str, amount: str, *, kind: RefundKind = "elsewhere", reason: str | None = None
    ) -> str:
        """A person pays so much back (in major units) in the gateway's own pages; the result is the gateway's id of it."""
        with self._outside.lock:
            refund = self._outside_refund(payment_id, amount, kind, reason)
            refusal = self._refusal(refund)
            if refusal is not None:
                raise ValueError(f"{amount} cannot be paid back to {payment_id}: {refusal}")
            return self._take(refund, "re")

    def opens_dispute(self, payment_id: str, amount: str | None = None, *, reason: str = "fraudulent") -> str:
        """The customer's bank disputes a payment and takes so much (in major units) at once; without ``amount``, all of it.

        The result is the gateway's id of the dispute. Close it with :meth:`comes_back` or :meth:`loses_dispute`.
        """
        with self._outside.lock:
            whole = to_major(*self._payment(payment_id))
            return self._take(self._outside_refund(payment_id, amount or whole, "dispute", reason), "dp")

    def loses_dispute(self, dispute_id: str) -> None:
        """The dispute is lost: a further webhook says so, and the money stays away."""
        with self._outside.lock:
            now, refund = self._catch_up(), self._by_reference(dispute_id)
            self._note(f"dispute {dispute_id} is lost")
            self._send(refund.notice(self._event_id(), now), now)

    def comes_back(self, reference: str, reason: str | None = None) -> None:
        """The money of a refund or a dispute comes back to the shop: the bank sends it back, or the dispute is won."""
        with self._outside.lock:
            now, refund = self._catch_up(), self._by_reference(reference)
            if refund.result != "succeeded":
                raise ValueError(f"nothing of {reference} can come back: it is {refund.result}")
            self._becomes(refund, "failed", reason if refund.key else refund.reason, now)
            self._note(f"{reference} comes back: {refund.body}")

    def next_refund(self, of: str | None = None) -> NextRefund:
        """Script the next refund with a new key (``of``: of that payment). Several scripts are used in turn."""
        return NextRefund(self._next("next_refund", of))

    def forgets_keys(self, after: timedelta) -> None:
        """Forget idempotency keys after so long, as most gateways do; ``find`` knows the refund for ever."""
        self._stand("forgets_keys", after)
        self._keys_live = after

    def webhooks_are_duplicated(self) -> None:
        """Every webhook comes twice."""
        self._stand("webhooks_are_duplicated")

    def webhooks_are_reordered(self) -> None:
        """Webhooks that come together come in reverse order."""
        self._stand("webhooks_are_reordered")
        self._reordered = True

    def webhooks_are_lost(self) -> None:
        """No webhook comes."""
        self._stand("webhooks_are_lost")

    def webhooks_arrive_late(self, by: timedelta) -> None:
        """Every webhook comes so long after the refund ended."""
        self._stand("webhooks_arrive_late", by)
        self._late = by

    def webhooks(self) -> list[Notice]:
        """The webhooks that have come since the last time, in the order in which they came."""
        return [notice for _, notice in self.came()]

    # ---- the books ------------------------------------------------------------------------------------------------------

    def captured(self, payment_id: str) -> str:
        """What was captured of a payment, in major units."""
        with self._outside.lock:
            amount, currency = self._payment(payment_id)
            return to_major(amount, currency)

    def refunded(self, payment_id: str) -> str:
        """What has gone back to a payment by now, in major units, without what is pending."""
        with self._outside.lock:
            self._catch_up()
            return to_major(self._sum(payment_id, "succeeded"), self._payment(payment_id)[1])

    def pending(self, payment_id: str) -> str:
        """What is on its way back to a payment, in major units."""
        with self._outside.lock:
            self._catch_up()
            return to_major(self._sum(payment_id, "pending"), self._payment(payment_id)[1])

    def refunds(self, payment_id: str | None = None) -> tuple[RefundReceipt, ...]:
        """Every refund with a key, refused ones too, in the order in which they came; or those of one payment."""
        with self._outside.lock:
            self._catch_up()
            return tuple(each.receipt for each in self._refunds if each.key and payment_id in (None, each.payment_id))

    def differences(self, ledger: Iterable[LedgerEntry]) -> tuple[str, ...]:
        """The differences between these books and those of the desk (``desk.ledger()``), a sentence each.

        A refund that succeeded here and is unknown to the desk is a difference, as is the reverse.
        """
        with self._outside.lock:
            self._catch_up()
            found: list[str] = []
            entries = {entry.payment_id: entry for entry in ledger}
            for payment_id, (amount, currency) in self._captured.items():
                entry = entries.get(payment_id)
                if entry is None:
                    found.append(f"{payment_id}: the desk does not know it")
                    continue
                ours = {"captured": to_major(amount, currency), "refunded": self.refunded(payment_id)}
                for name, here in ours.items():
                    there = getattr(entry, name)
                    if to_minor(there, entry.currency) != to_minor(here, currency):
                        said_so = f"{name} {here} {currency} at the gateway, {there} {entry.currency} at the desk"
                        found.append(f"{payment_id}: {said_so}")
            found += [f"{name}: the gateway never captured it" for name in entries if name not in self._captured]
            return tuple(found)

    # ---- inside ---------------------------------------------------------------------------------------------------------

    def came(self) -> list[tuple[datetime, Notice]]:
        with self._outside.lock:
            self._catch_up()
            came = super().came()
            if self._reordered:
                came.reverse()
                if len({notice.event_id for _, notice in came}) > 1:
                    self._stands("webhooks_are_reordered")
            return came

    def _as_noted(self, incoming: Notice) -> str:
        if isinstance(incoming, RefundNotice):
            return f"webhook {incoming.event_id}: {incoming.key} {incoming.result}"
        back = ", came back" if incoming.returned_at is not None else ""
        return f"webhook {incoming.event_id}: {incoming.kind} {incoming.reference} of {incoming.payment_id}{back}"

    def _new(self, payment_id: str) -> None:
        if payment_id in self._captured:
            raise ValueError(f"payment {payment_id!r} was captured already")

    def _payment(self, payment_id: str) -> tuple[int, str]:
        try:
            return self._captured[payment_id]
        except KeyError:
            raise LookupError(f"the gateway never captured a payment {payment_id!r}") from None

    def _sum(self, payment_id: str, *results: _Result) -> int:
        ours = (each for each in self._refunds if self._payouts.get(each.payment_id, each.payment_id) == payment_id)
        return sum(each.amount for each in ours if each.result in results)

    def _under(self, key: str) -> list[_Refund]:
        """The refunds under a key, in their order; those that moved money come first."""
        found = [refund for refund in self._refunds if refund.key == key]
        return sorted(found, key=lambda refund: refund.result == "failed")

    def _by_reference(self, reference: str) -> _Refund:
        for refund in self._refunds:
            if refund.reference == reference:
                return refund
        raise LookupError(f"the gateway has no refund or dispute {reference!r}")

    def _remembered(self, key: str, now: datetime) -> _Refund | None:
        known = next((refund for refund in reversed(self._refunds) if refund.key == key), None)
        if known is not None and self._keys_live is not None and now - known.asked_at >= self._keys_live:
            return None if self._stands("forgets_keys") else known
        return known

    def _random_plan(self, asked: _Refund) -> Plan:
        random = self._outside.random(f"refund {asked.key}")
        if random is None:
            return Plan()
        wait = timedelta(minutes=random.randint(1, 6 * 60))
        part = to_major(random.randint(1, asked.asked), asked.currency)
        return random.choice(
            (
                Plan("answer lost"),
                Plan("call lost"),
                Plan("call late", wait=wait),
                Plan("refused", "the card is closed"),
                Plan("pending", wait=10 * wait),
                Plan("fails", "the account is closed", 10 * wait),
                Plan("comes back", "the bank sent it back", 20 * wait),
                Plan("pays", wait=10 * wait, amount=part),
            )
        )

    def _charge(self, refund: _Refund, plan: Plan, at: datetime) -> None:
        """A call reached the gateway."""
        refund.asked_at = at
        if plan.amount:
            refund.amount = to_minor(plan.amount, refund.currency)
        refusal = plan.reason if plan.ending == "refused" else self._refusal(refund)
        self._refunds.append(refund)
        if refusal is not None:
            refund.amount = refund.asked
            refund.result, refund.refused, refund.reason, refund.settled_at = "failed", True, refusal, at
            return
        refund.reference = self._reference("re")
        later = at + plan.wait
        if plan.ending in ("pending", "fails"):
            failure = plan.reason if plan.ending == "fails" else None
            refund.ahead.append((later, "succeeded" if failure is None else "failed", failure))
        elif plan.ending == "fails first":
            self._becomes(refund, "failed", plan.reason, at)
            refund.ahead.append((later, "succeeded", None))
        else:
            self._becomes(refund, "succeeded", None, at)
        if plan.ending == "comes back":
            refund.ahead.append((later, "failed", plan.reason))
        if plan.ending == "pays" and plan.wait and refund.amount < refund.asked:
            rest = replace(refund, reference=self._reference("re"), result="pending", settled_at=None, ahead=[])
            rest.amount = refund.asked - refund.amount
            rest.ahead.append((later, "succeeded", None))
            self._refunds.append(rest)

    def _refusal(self, refund: _Refund) -> str | None:
        payment_id = self._payouts.get(refund.payment_id, refund.payment_id)
        if payment_id not in self._captured:
            return f"there is no payment {refund.payment_id}"
        amount, currency = self._captured[payment_id]
        if refund.currency != currency:
            return f"the payment is in {currency}"
        if self._stands("closes_card", refund.payment_id):
            return self._closed[refund.payment_id]
        left = amount - self._sum(payment_id, "succeeded", "pending")
        if refund.amount > left:
            return f"only {to_major(left, currency)} of {to_major(amount, currency)} {currency} is left"
        return None

    def _outside_refund(self, payment_id: str, amount: str, kind: RefundKind, reason: str | None) -> _Refund:
        """A refund that nobody asked for by a key, not yet in the books."""
        now, currency = self._catch_up(), self._payment(payment_id)[1]
        refund = _Refund("", payment_id, to_minor(amount, currency), currency, now, kind)
        refund.reason = reason
        return refund

    def _take(self, refund: _Refund, letters: str) -> str:
        refund.reference = self._reference(letters)
        self._refunds.append(refund)
        self._becomes(refund, "succeeded", refund.reason, refund.asked_at)
        self._note(f"{refund.kind} {refund.body}: {refund.told}")
        return refund.reference

    def _reference(self, letters: str) -> str:
        return f"{letters}-{sum(each.reference is not None for each in self._refunds) + 1}"

    def _event_id(self) -> str:
        self._notices += 1
        return f"evt-{self._notices}"

    def _becomes(self, refund: _Refund, result: _Result, reason: str | None, at: datetime) -> None:
        """Something became of a refund, and a webhook says so."""
        # A host finds an answer that it waits for, and not one that takes an answer back: that webhook is not lost at random.
        found = refund.key and refund.result == "pending"
        refund.result, refund.reason, refund.settled_at = result, reason, at
        self._send(refund.notice(self._event_id(), at), at, ("lost",) if found else ())

    def _send(self, notice: Notice, at: datetime, more: tuple[str, ...] = ()) -> None:
        """Send a webhook, unless it is lost. ``more``: the random trouble that it may have beside the usual."""
        random = self._outside.random(f"webhook {notice.key if isinstance(notice, RefundNotice) else notice.reference}")
        trouble = random.choice(("twice", "late", "twice and late", *more)) if random else ""
        late = self._late + (
            timedelta(minutes=random.randint(1, 3 * 24 * 60)) if random and "late" in trouble else NO_TIME
        )
        self._stands("webhooks_arrive_late")
        if self._stands("webhooks_are_lost") or trouble == "lost":
            return
        self._outside.send(notice, at + late)
        if self._stands("webhooks_are_duplicated") or "twice" in trouble:
            self._outside.send(notice, at + 2 * late)

    def _catch_up(self) -> datetime:
        """Carry out everything that the clock has passed, in order of time."""
        now = self._outside.now()
        while (at := min(self._to_happen(), default=None)) is not None and at <= now:
            for landing in [each for each in self._under_way if each[0] == at]:
                self._under_way.remove(landing)
                self._land(landing[1], landing[2], at)
            for refund in [each for each in self._refunds if each.ahead and each.ahead[0][0] == at]:
                _, result, reason = refund.ahead.pop(0)
                self._becomes(refund, result, reason, at)
                self._note(f"refund {refund.key} of {refund.body}: {refund.told}", at)
        return now

    def _to_happen(self) -> list[datetime]:
        return [at for at, _, _ in self._under_way] + [each.ahead[0][0] for each in self._refunds if each.ahead]

    def _land(self, refund: _Refund, plan: Plan, at: datetime) -> None:
        if self._remembered(refund.key, at) is not None:
            self._note(f"refund {refund.key} arrives late: known already", at)
            return
        self._charge(refund, plan, at)
        self._note(f"refund {refund.key} of {refund.body} arrives late: {refund.told}", at)

    def _answer(self, call: str, refund: _Refund, known: str = "") -> RefundReceipt:
        self._called(call, known + refund.told)
        if refund.refused:
            raise GatewayRefused(refund.receipt)
        return _receipt(self._under(refund.key))


def _receipt(found: Sequence[_Refund]) -> RefundReceipt:
    """The receipt of the first, with the others under the same key."""
    return replace(found[0].receipt, others=tuple(each.receipt for each in found[1:]))
