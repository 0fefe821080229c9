"""A payment gateway for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from returnable.domain.effects.answers import KeyReused
from returnable.domain.effects.payments import (
    GatewayRefused,
    GatewayTimeout,
    PaymentGateway,
    RefundNotice,
    RefundReceipt,
)
from returnable.domain.money import to_major, to_minor
from returnable.projections.views import LedgerEntry
from returnable.testing.fakes.script import NO_TIME, Fake, Next, Outside, Plan


@dataclass(slots=True)
class _Refund:
    """A refund in the gateway's books."""

    key: str
    payment_id: str
    amount: int
    currency: str
    asked_at: datetime
    reference: str | None = None
    result: Literal["succeeded", "failed", "pending"] = "pending"
    reason: str | None = None
    refused: bool = False
    settles_at: datetime | None = None
    will_fail: str | None = None

    @property
    def body(self) -> str:
        return f"{to_major(self.amount, self.currency)} {self.currency} to {self.payment_id}"

    @property
    def receipt(self) -> RefundReceipt:
        return RefundReceipt(
            self.key, self.payment_id, self.amount, self.currency, self.result, self.reference, self.reason
        )

    @property
    def told(self) -> str:
        parts = [self.result if not self.refused else "refused", self.reference, self.reason]
        return ", ".join(part for part in parts if part)


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


class FakeGateway(Fake[RefundNotice], PaymentGateway):
    """A payment gateway with its own books. It refuses to pay back more than it captured."""

    _name = "gateway"
    _incoming = RefundNotice

    def __init__(
        self, clock: Callable[[], datetime] | Outside, *, seed: int | None = None, trouble: float = 0.0
    ) -> None:
        super().__init__(clock, seed=seed, trouble=trouble)
        self._captured: dict[str, tuple[int, str]] = {}
        self._refunds: list[_Refund] = []
        self._under_way: list[tuple[datetime, _Refund, Plan]] = []
        self._keys_live: timedelta | None = None
        self._reordered = False

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
            plan = self._outside.scripted("next_refund", payment_id) or self._trouble(f"refund {key}")
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
            found = [refund for refund in self._refunds if refund.key == key]
            # If a forgotten key was charged twice, the refund that moved money counts.
            best = min(found, key=lambda refund: refund.result == "failed", default=None)
            self._called(f"find {key}", best.told if best else "nothing")
            return best.receipt if best else None

    # ---- scripts --------------------------------------------------------------------------------------------------------

    def captures(self, payment_id: str, amount: str, currency: str = "USD") -> None:
        """Capture a payment, once: so much can go back. ``amount`` is in major units."""
        with self._outside.lock:
            if payment_id in self._captured:
                raise ValueError(f"payment {payment_id!r} was captured already")
            self._captured[payment_id] = (to_minor(amount, currency), currency)
            self._note(f"captured {amount} {currency} from {payment_id}")

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

    def webhooks(self) -> list[RefundNotice]:
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
        """Every refund in the books, refused ones too, in the order in which they came; or those of one payment."""
        with self._outside.lock:
            self._catch_up()
            return tuple(each.receipt for each in self._refunds if payment_id in (None, each.payment_id))

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

    def came(self) -> list[tuple[datetime, RefundNotice]]:
        with self._outside.lock:
            self._catch_up()
            came = super().came()
            if self._reordered:
                came.reverse()
                if len({notice.event_id for _, notice in came}) > 1:
                    self._stands("webhooks_are_reordered")
            return came

    def _as_noted(self, incoming: RefundNotice) -> str:
        return f"webhook {incoming.event_id}: {incoming.key} {incoming.result}"

    def _payment(self, payment_id: str) -> tuple[int, str]:
        try:
            return self._captured[payment_id]
        except KeyError:
            raise LookupError(f"the gateway never captured a payment {payment_id!r}") from None

    def _sum(self, payment_id: str, *results: str) -> int:
        return sum(each.amount for each in self._refunds if each.payment_id == payment_id and each.result in results)

    def _remembered(self, key: str, now: datetime) -> _Refund | None:
        known = next((refund for refund in reversed(self._refunds) if refund.key == key), None)
        if known is not None and self._keys_live is not None and now - known.asked_at >= self._keys_live:
            return None if self._stands("forgets_keys") else known
        return known

    def _trouble(self, what: str) -> Plan:
        random = self._outside.random(what)
        if random is None:
            return Plan()
        wait = timedelta(minutes=random.randint(1, 6 * 60))
        return random.choice(
            (
                Plan("answer lost"),
                Plan("call lost"),
                Plan("call late", wait=wait),
                Plan("refused", "the card is closed"),
                Plan("pending", wait=10 * wait),
                Plan("fails", "the account is closed", 10 * wait),
            )
        )

    def _charge(self, refund: _Refund, plan: Plan, at: datetime) -> None:
        """A call reached the gateway."""
        refund.asked_at = at
        self._refunds.append(refund)
        refusal = plan.reason if plan.ending == "refused" else self._refusal(refund)
        if refusal is not None:
            refund.result, refund.refused, refund.reason = "failed", True, refusal
            return
        refund.reference = f"re-{sum(not each.refused for each in self._refunds)}"
        if plan.ending in ("pending", "fails"):
            refund.settles_at = at + plan.wait
            refund.will_fail = plan.reason if plan.ending == "fails" else None
        else:
            self._settle(refund, at)

    def _refusal(self, refund: _Refund) -> str | None:
        if refund.payment_id not in self._captured:
            return f"there is no payment {refund.payment_id}"
        amount, currency = self._captured[refund.payment_id]
        if refund.currency != currency:
            return f"the payment is in {currency}"
        promised = self._sum(refund.payment_id, "succeeded", "pending") - refund.amount  # without this one
        left = amount - promised
        if refund.amount > left:
            return f"only {to_major(left, currency)} of {to_major(amount, currency)} {currency} is left"
        return None

    def _settle(self, refund: _Refund, at: datetime) -> None:
        refund.settles_at = None
        refund.result = "succeeded" if refund.will_fail is None else "failed"
        refund.reason = refund.will_fail
        number = sum(each.result != "pending" and not each.refused for each in self._refunds)
        event_id = f"evt-{number}"
        notice = RefundNotice(event_id, refund.key, refund.result, at, refund.reference, refund.reason)
        random = self._outside.random(f"webhook {refund.key}")
        trouble = random.choice(("twice", "late", "twice and late", "lost")) if random else ""
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
            for refund in [each for each in self._refunds if each.settles_at == at]:
                self._settle(refund, at)
                self._note(f"refund {refund.key} of {refund.body}: {refund.told}", at)
        return now

    def _to_happen(self) -> list[datetime]:
        settling = [each.settles_at for each in self._refunds if each.settles_at is not None]
        return [at for at, _, _ in self._under_way] + settling

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
        return refund.receipt
