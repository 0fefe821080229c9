"""A payment gateway, a carrier and a mailbox for tests: they keep the ports of :mod:`returnable.domain.effects`, have books
of their own, and fail as they are told.

    world = FakeWorld(clock)
    world.gateway.captures("p-1", "750.00")
    world.gateway.next_refund().times_out_after_charging()
    ...
    assert world.gateway.refunded("p-1") == "530.00"
    assert not world.gateway.differences(desk.ledger())
    world.verify()

Nothing happens by itself and nothing waits: the only time is the clock given, and what comes from outside (webhooks, scans,
mails) comes out of ``world.due()`` once the clock has passed its instant. With ``FakeWorld(clock, seed=7, trouble=0.2)``
about every fifth call and message is in trouble; which one, and how, is a pure function of the seed, of the key, and of how
often it was tried. Safe to use from many threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from threading import RLock
from typing import Literal, TypeVar

from returnable.domain import calendar
from returnable.domain.effects import (
    Carrier,
    CarrierRefused,
    CarrierTimeout,
    GatewayRefused,
    GatewayTimeout,
    KeyReused,
    LabelBought,
    Mail,
    Mailbox,
    MailRefused,
    MailSent,
    MailTimeout,
    PaymentGateway,
    RefundNotice,
    RefundReceipt,
    Scan,
    ScanKind,
)
from returnable.domain.fields import parse_instant
from returnable.domain.money import to_major, to_minor
from returnable.domain.wording import instant_in_words
from returnable.projections.views import LedgerEntry

Delivery = RefundNotice | Scan | Mail
"""What comes in from outside."""

D = TypeVar("D", RefundNotice, Scan, Mail)

Ending = Literal["answered", "answer lost", "call lost", "call late", "refused", "pending", "fails"]

NO_TIME = timedelta()


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a call ends. ``wait``: until it lands, or until the money has moved."""

    ending: Ending = "answered"
    reason: str = ""
    wait: timedelta = NO_TIME


@dataclass(slots=True)
class _Script:
    """What a test said would happen, and whether it did. ``of``: the payment, return or address it is about."""

    sentence: str
    call: str = ""
    of: str | None = None
    plan: _Plan | None = None
    used: bool = False


@dataclass(frozen=True, slots=True)
class _Coming:
    """Something on its way in."""

    due: datetime
    number: int
    delivery: Delivery


class _Outside:
    """What the three have in common: the clock, what is on its way, what was scripted, and a diary."""

    def __init__(self, clock: Callable[[], datetime], seed: int | None, trouble: float) -> None:
        if not 0 <= trouble <= 1:
            raise ValueError(f"trouble is a probability from 0 to 1, not {trouble}")
        if trouble and seed is None:
            raise ValueError("trouble needs a seed, so that it can come again")
        self.lock = RLock()
        self.scripts: list[_Script] = []
        self._clock = clock
        self._seed = seed
        self._trouble = trouble
        self._tries: Counter[str] = Counter()
        self._diary: list[tuple[datetime, int, str, str]] = []
        self._coming: list[_Coming] = []
        self._numbers = 0

    def now(self) -> datetime:
        """What the clock says, in UTC; raises ``ValueError`` for a naive one."""
        return parse_instant(self._clock())

    def note(self, at: datetime, who: str, what: str) -> None:
        self._diary.append((at, len(self._diary), who, what))

    def diary(self) -> list[tuple[datetime, str, str]]:
        return [(at, who, what) for at, _, who, what in sorted(self._diary)]

    # ---- trouble ------------------------------------------------------------------------------------------------------

    def random(self, what: str) -> Random | None:
        """Dice for trouble with this very thing at this very try; ``None``: it goes well."""
        self._tries[what] += 1
        random = Random(f"{self._seed}/{what}/{self._tries[what]}")
        return random if random.random() < self._trouble else None

    def script(self, sentence: str, call: str, of: str | None) -> _Script:
        with self.lock:
            script = _Script(sentence, call, of)
            self.scripts.append(script)
            return script

    def scripted(self, call: str, of: str) -> _Plan | None:
        """What was said about the next call of its kind, if anything is left."""
        for script in self.scripts:
            if script.call == call and not script.used and script.of in (None, of):
                script.used = True
                if script.plan is None:
                    raise AssertionError(f"{script.sentence} does not say what happens then")
                return script.plan
        return None

    # ---- what comes in --------------------------------------------------------------------------------------------------

    def send(self, delivery: Delivery, due: datetime) -> None:
        self._numbers += 1
        self._coming.append(_Coming(due, self._numbers, delivery))

    def arrived(self, kind: type[D]) -> list[tuple[datetime, D]]:
        """Take out what is due, in the order in which it fell due."""
        now = self.now()
        ready = sorted(
            (each for each in self._coming if each.due <= now and isinstance(each.delivery, kind)),
            key=lambda each: (each.due, each.number),
        )
        self._coming = [each for each in self._coming if each not in ready]
        return [(each.due, each.delivery) for each in ready if isinstance(each.delivery, kind)]

    def on_the_way(self) -> list[datetime]:
        return [each.due for each in self._coming]


class _Fake:
    """A part of the outside world; alone, or one of a :class:`FakeWorld`."""

    _name = ""

    def __init__(
        self,
        clock: Callable[[], datetime] | _Outside,
        *,
        seed: int | None = None,
        trouble: float = 0.0,
    ) -> None:
        self._outside = clock if isinstance(clock, _Outside) else _Outside(clock, seed, trouble)
        self._calls: list[str] = []

    @property
    def calls(self) -> tuple[str, ...]:
        """Every call and how it ended, in order, for people: ``"refund F-1/p-1 of 530.00 USD to p-1: succeeded, re-1"``."""
        with self._outside.lock:
            return tuple(self._calls)

    def verify(self) -> None:
        """Raise ``AssertionError`` that names every script that never came to pass."""
        with self._outside.lock:
            unused = [script.sentence for script in self._outside.scripts if not script.used]
        if unused:
            raise AssertionError("this was scripted and never happened: " + "; ".join(unused))

    def _called(self, call: str, ended: str) -> None:
        self._calls.append(f"{call}: {ended}")
        self._outside.note(self._outside.now(), self._name, f"{call}: {ended}")


class _Next:
    """A script that waits to be told what happens."""

    def __init__(self, script: _Script) -> None:
        self._script = script

    def _say(self, what: str, plan: _Plan) -> None:
        if self._script.plan is not None:
            raise AssertionError(f"{self._script.sentence} says already what happens; say the next one after it")
        self._script.sentence += f".{what}"
        self._script.plan = plan


# ---- the gateway ----------------------------------------------------------------------------------------------------


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


class NextRefund(_Next):
    """What happens to the next refund that the gateway does not know yet. Say one thing of it."""

    def succeeds(self) -> None:
        """The money moves and the answer comes at once, as without a script."""
        self._say("succeeds()", _Plan())

    def times_out_after_charging(self) -> None:
        """The money moves, but the answer is lost."""
        self._say("times_out_after_charging()", _Plan("answer lost"))

    def times_out_before_charging(self) -> None:
        """The call is lost, and the gateway never hears of it."""
        self._say("times_out_before_charging()", _Plan("call lost"))

    def times_out_and_charges_after(self, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        """The caller gives up, and the call reaches the gateway later, when ``find`` may have said that there is none."""
        wait = timedelta(days=days, hours=hours, minutes=minutes)
        self._say(f"times_out_and_charges_after({wait})", _Plan("call late", wait=wait))

    def is_refused(self, reason: str) -> None:
        """A definite no, at once."""
        self._say(f"is_refused({reason!r})", _Plan("refused", reason))

    def answers_after(self, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        """The answer is ``pending``; that it succeeded is told by ``find`` and by a webhook so much later."""
        wait = timedelta(days=days, hours=hours, minutes=minutes)
        self._say(f"answers_after({wait})", _Plan("pending", wait=wait))

    def fails_after(self, reason: str, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        """The answer is ``pending``; that it failed is told by ``find`` and by a webhook so much later."""
        wait = timedelta(days=days, hours=hours, minutes=minutes)
        self._say(f"fails_after({reason!r}, {wait})", _Plan("fails", reason, wait))


class FakeGateway(_Fake, PaymentGateway):
    """A payment gateway with books of its own: it never pays back more than it captured, and refuses instead."""

    _name = "gateway"

    def __init__(
        self, clock: Callable[[], datetime] | _Outside, *, seed: int | None = None, trouble: float = 0.0
    ) -> None:
        super().__init__(clock, seed=seed, trouble=trouble)
        self._captured: dict[str, tuple[int, str]] = {}
        self._refunds: list[_Refund] = []
        self._under_way: list[tuple[datetime, _Refund, _Plan]] = []
        self._keys_live: timedelta | None = None
        self._late = NO_TIME
        self._standing: dict[str, _Script] = {}

    # ---- the port -----------------------------------------------------------------------------------------------------

    def refund(self, *, key: str, payment_id: str, amount: int, currency: str) -> RefundReceipt:
        """See :meth:`~returnable.domain.effects.PaymentGateway.refund`; ``ValueError`` for an amount of nothing or less."""
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
            plan = self._outside.scripted("refund", payment_id) or self._trouble(key)
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
        """See :meth:`~returnable.domain.effects.PaymentGateway.find`."""
        with self._outside.lock:
            self._catch_up()
            if self._outside.random(f"find {key}") is not None:
                self._called(f"find {key}", "timed out")
                raise GatewayTimeout(key, "find")
            found = [refund for refund in self._refunds if refund.key == key]
            # Where a forgotten key was charged twice, the one that moved money is the one to know of.
            best = min(found, key=lambda refund: refund.result == "failed", default=None)
            self._called(f"find {key}", best.told if best else "nothing")
            return best.receipt if best else None

    # ---- scripts --------------------------------------------------------------------------------------------------------

    def captures(self, payment_id: str, amount: str, currency: str = "USD") -> None:
        """The customer pays: so much can go back. ``amount`` in major units; a payment is captured once."""
        with self._outside.lock:
            if payment_id in self._captured:
                raise ValueError(f"payment {payment_id!r} was captured already")
            self._captured[payment_id] = (to_minor(amount, currency), currency)
            self._outside.note(self._outside.now(), self._name, f"captured {amount} {currency} from {payment_id}")

    def next_refund(self, of: str | None = None) -> NextRefund:
        """The next refund with a new key (``of``: of that payment), to say of it how it goes. Said in advance, in turn."""
        about = "" if of is None else repr(of)
        return NextRefund(self._outside.script(f"gateway.next_refund({about})", "refund", of))

    def forgets_keys(self, after: timedelta) -> None:
        """An idempotency key counts for so long only, as with most gateways; ``find`` knows the refund for ever."""
        self._stand(f"forgets_keys({after})", "forgets_keys()")
        self._keys_live = after

    def webhooks_are_duplicated(self) -> None:
        """Every webhook comes twice."""
        self._stand("webhooks_are_duplicated()")

    def webhooks_are_reordered(self) -> None:
        """Webhooks that come out together come last first."""
        self._stand("webhooks_are_reordered()")

    def webhooks_are_lost(self) -> None:
        """No webhook comes."""
        self._stand("webhooks_are_lost()")

    def webhooks_arrive_late(self, by: timedelta) -> None:
        """Every webhook comes so long after what it tells."""
        self._stand(f"webhooks_arrive_late({by})", "webhooks_arrive_late()")
        self._late = by

    def webhooks(self) -> list[RefundNotice]:
        """The webhooks that have come since the last time, in the order in which they came."""
        return [notice for _, notice in self._came()]

    # ---- the books ------------------------------------------------------------------------------------------------------

    def captured(self, payment_id: str) -> str:
        """What was captured of a payment, in major units."""
        with self._outside.lock:
            amount, currency = self._payment(payment_id)
            return to_major(amount, currency)

    def refunded(self, payment_id: str) -> str:
        """What has gone back to a payment by now, in major units; what is pending is not among it."""
        with self._outside.lock:
            self._catch_up()
            return to_major(self._sum(payment_id, "succeeded"), self._payment(payment_id)[1])

    def pending(self, payment_id: str) -> str:
        """What is on its way back to a payment, in major units."""
        with self._outside.lock:
            self._catch_up()
            return to_major(self._sum(payment_id, "pending"), self._payment(payment_id)[1])

    def refunds(self, payment_id: str | None = None) -> tuple[RefundReceipt, ...]:
        """Every refund in the books, refused ones included, in the order in which they came; or those of one payment."""
        with self._outside.lock:
            self._catch_up()
            return tuple(each.receipt for each in self._refunds if payment_id in (None, each.payment_id))

    def differences(self, ledger: Iterable[LedgerEntry]) -> tuple[str, ...]:
        """Where these books and the desk's (``desk.ledger()``) disagree, a sentence each; empty: they agree.

        A refund that succeeded here and is unknown to the desk is a difference, as is the reverse.
        """
        with self._outside.lock:
            self._catch_up()
            found: list[str] = []
            entries = {entry.payment_id: entry for entry in ledger}
            for payment_id, (amount, currency) in self._captured.items():
                entry = entries.get(payment_id)
                if entry is None:
                    found.append(f"{payment_id}: the desk knows nothing of it")
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

    def _came(self) -> list[tuple[datetime, RefundNotice]]:
        with self._outside.lock:
            self._catch_up()
            came = self._outside.arrived(RefundNotice)
            reordered = self._standing.get("webhooks_are_reordered()")
            if reordered is not None:
                reordered.used = reordered.used or len({notice.event_id for _, notice in came}) > 1
                came.reverse()
            for _, notice in came:
                said_so = f"webhook {notice.event_id}: {notice.key} {notice.result}"
                self._outside.note(self._outside.now(), self._name, said_so)
            return came

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
            self._standing["forgets_keys()"].used = True
            return None
        return known

    def _trouble(self, key: str) -> _Plan:
        random = self._outside.random(f"refund {key}")
        if random is None:
            return _Plan()
        wait = timedelta(minutes=random.randint(1, 6 * 60))
        return random.choice(
            (
                _Plan("answer lost"),
                _Plan("call lost"),
                _Plan("call late", wait=wait),
                _Plan("refused", "the card is closed"),
                _Plan("pending", wait=10 * wait),
                _Plan("fails", "the account is closed", 10 * wait),
            )
        )

    def _charge(self, refund: _Refund, plan: _Plan, at: datetime) -> None:
        """The call has reached the gateway."""
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
        promised = self._sum(refund.payment_id, "succeeded", "pending") - refund.amount  # this one is pending already
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
        if self._late:
            self._standing["webhooks_arrive_late()"].used = True
        if self._stands("webhooks_are_lost()") or trouble == "lost":
            return
        self._outside.send(notice, at + late)
        if self._stands("webhooks_are_duplicated()") or "twice" in trouble:
            self._outside.send(notice, at + 2 * late)

    def _catch_up(self) -> datetime:
        """Let happen what the clock has passed since the last look, in its order."""
        now = self._outside.now()
        while (at := min(self._to_happen(), default=None)) is not None and at <= now:
            for landing in [each for each in self._under_way if each[0] == at]:
                self._under_way.remove(landing)
                self._land(landing[1], landing[2], at)
            for refund in [each for each in self._refunds if each.settles_at == at]:
                self._settle(refund, at)
                self._outside.note(at, self._name, f"refund {refund.key} of {refund.body}: {refund.told}")
        return now

    def _to_happen(self) -> list[datetime]:
        settling = [each.settles_at for each in self._refunds if each.settles_at is not None]
        return [at for at, _, _ in self._under_way] + settling

    def _land(self, refund: _Refund, plan: _Plan, at: datetime) -> None:
        if self._remembered(refund.key, at) is not None:
            self._outside.note(at, self._name, f"refund {refund.key} arrives late: known already")
            return
        self._charge(refund, plan, at)
        self._outside.note(at, self._name, f"refund {refund.key} of {refund.body} arrives late: {refund.told}")

    def _answer(self, call: str, refund: _Refund, known: str = "") -> RefundReceipt:
        self._called(call, known + refund.told)
        if refund.refused:
            raise GatewayRefused(refund.receipt)
        return refund.receipt

    def _stand(self, sentence: str, name: str | None = None) -> None:
        self._standing[name or sentence] = self._outside.script(f"gateway.{sentence}", "", None)

    def _stands(self, name: str) -> bool:
        script = self._standing.get(name)
        if script is not None:
            script.used = True
        return script is not None


# ---- the carrier ----------------------------------------------------------------------------------------------------


class NextLabel(_Next):
    """What happens to the next label that is bought under a new key. Say one thing of it."""

    def times_out_after_buying(self) -> None:
        """The label is bought, but the answer is lost."""
        self._say("times_out_after_buying()", _Plan("answer lost"))

    def times_out_before_buying(self) -> None:
        """The call is lost, and the carrier never hears of it."""
        self._say("times_out_before_buying()", _Plan("call lost"))

    def is_refused(self, reason: str) -> None:
        """A definite no."""
        self._say(f"is_refused({reason!r})", _Plan("refused", reason))


@dataclass(slots=True)
class _Label:
    """A label in the carrier's books."""

    bought: LabelBought
    void: bool = False
    used: bool = False


class FakeCarrier(_Fake, Carrier):
    """A carrier that sells labels and scans parcels."""

    _name = "carrier"

    def __init__(
        self,
        clock: Callable[[], datetime] | _Outside,
        *,
        name: str = "fedex",
        seed: int | None = None,
        trouble: float = 0.0,
    ) -> None:
        super().__init__(clock, seed=seed, trouble=trouble)
        self.name = name
        self._labels: dict[str, _Label] = {}
        self._scans = 0
        self._late: _Script | None = None
        self._late_by = NO_TIME
        self._losing: dict[str, tuple[_Script, timedelta]] = {}

    # ---- the port -----------------------------------------------------------------------------------------------------

    def buy_label(self, *, key: str, return_id: str) -> LabelBought:
        """See :meth:`~returnable.domain.effects.Carrier.buy_label`."""
        with self._outside.lock:
            call = f"buy label {key} for {return_id}"
            known = self._labels.get(key)
            if known is not None:
                if known.bought.return_id != return_id:
                    self._called(call, f"the key was used before, for {known.bought.return_id}")
                    raise KeyReused(key, f"return {known.bought.return_id}", f"return {return_id}")
                self._called(call, f"known already: {known.bought.label_id}")
                return known.bought
            plan = self._outside.scripted("label", return_id) or self._trouble(f"label {key}")
            if plan.ending == "refused":
                self._called(call, f"refused, {plan.reason}")
                raise CarrierRefused(f"label {key!r}", plan.reason)
            if plan.ending == "call lost":
                self._called(call, "timed out before buying")
                raise CarrierTimeout(key, "buy_label")
            number = len(self._labels) + 1
            label = LabelBought(key, return_id, f"L-{number}", self.name, f"RT-{number}", self._outside.now())
            self._labels[key] = _Label(label)
            if plan.ending == "answer lost":
                self._called(call, f"timed out after buying {label.label_id}")
                raise CarrierTimeout(key, "buy_label")
            self._called(call, label.label_id)
            return label

    def find(self, key: str) -> LabelBought | None:
        """See :meth:`~returnable.domain.effects.Carrier.find`."""
        with self._outside.lock:
            label = self._labels.get(key)
            self._called(f"find {key}", label.bought.label_id if label else "nothing")
            return label.bought if label else None

    def void_label(self, label_id: str) -> None:
        """See :meth:`~returnable.domain.effects.Carrier.void_label`."""
        with self._outside.lock:
            label = next((each for each in self._labels.values() if each.bought.label_id == label_id), None)
            refusal = (
                "there is no such label" if label is None else "a parcel was scanned on it" if label.used else None
            )
            self._called(f"void label {label_id}", refusal or "void")
            if label is None or refusal is not None:
                raise CarrierRefused(f"label {label_id!r}", refusal or "")
            label.void = True

    # ---- scripts --------------------------------------------------------------------------------------------------------

    def next_label(self, of: str | None = None) -> NextLabel:
        """The next label under a new key (``of``: for that return), to say of it how it goes."""
        about = "" if of is None else repr(of)
        return NextLabel(self._outside.script(f"carrier.next_label({about})", "label", of))

    def scans_arrive_late(self, by: timedelta) -> None:
        """Every scan from now on is reported so long after it was made."""
        with self._outside.lock:
            self._late, self._late_by = self._outside.script(f"carrier.scans_arrive_late({by})", "", None), by

    def loses(self, tracking_number: str, *, found_out_after: timedelta = timedelta(days=10)) -> None:
        """After it is handed over a parcel is never scanned again, but as ``lost``, so long afterwards."""
        with self._outside.lock:
            script = self._outside.script(f"carrier.loses({tracking_number!r})", "", None)
            self._losing[tracking_number] = (script, found_out_after)

    def accepts(self, tracking_number: str, at: datetime | None = None) -> None:
        """The parcel is handed over now, or was at an earlier instant."""
        self.scan(tracking_number, "accepted", at)

    def delivers(self, tracking_number: str, at: datetime | None = None) -> None:
        """The parcel is delivered now, or was at an earlier instant."""
        self.scan(tracking_number, "delivered", at)

    def scan(self, tracking_number: str, kind: ScanKind, at: datetime | None = None) -> None:
        """The parcel is scanned now, or was at an earlier instant (aware); the scan comes out of :meth:`scans` when due."""
        with self._outside.lock:
            now = self._outside.now()
            occurred = now if at is None else parse_instant(at)
            if occurred > now:
                raise ValueError(f"a parcel cannot be scanned at {occurred.isoformat()}: it is {now.isoformat()}")
            losing = self._losing.get(tracking_number)
            if losing is not None and kind != "accepted":
                self._outside.note(now, self._name, f"{tracking_number} is lost: no scan {kind}")
                return
            for label in self._labels.values():
                label.used = label.used or label.bought.tracking_number == tracking_number
            self._report(tracking_number, kind, occurred, self._late_by)
            if losing is not None:
                script, after = losing
                script.used = True
                self._report(tracking_number, "lost", occurred + after, NO_TIME)

    def scans(self) -> list[Scan]:
        """The scans that have been reported since the last time, in the order in which they came."""
        return [scan for _, scan in self._came()]

    # ---- the books ------------------------------------------------------------------------------------------------------

    def labels(self, return_id: str | None = None) -> tuple[LabelBought, ...]:
        """Every label bought and not handed back, or those for one return."""
        with self._outside.lock:
            live = [label.bought for label in self._labels.values() if not label.void]
            return tuple(label for label in live if return_id in (None, label.return_id))

    # ---- inside ---------------------------------------------------------------------------------------------------------

    def _came(self) -> list[tuple[datetime, Scan]]:
        with self._outside.lock:
            came = self._outside.arrived(Scan)
            for _, scan in came:
                said_so = f"scan {scan.scan_id} is told: {scan.tracking_number} {scan.kind}"
                self._outside.note(self._outside.now(), self._name, said_so)
            return came

    def _report(self, tracking_number: str, kind: ScanKind, occurred: datetime, late: timedelta) -> None:
        self._scans += 1
        scan_id = f"scan-{self._scans}"
        random = self._outside.random(scan_id)
        if random is not None:
            late += timedelta(minutes=random.randint(1, 3 * 24 * 60))
        if self._late is not None:
            self._late.used = True
        # A scan of the past that is told only now comes now.
        due = max(occurred + late, self._outside.now())
        scan = Scan(scan_id, self.name, tracking_number, kind, occurred, due)
        self._outside.note(occurred, self._name, f"scan {scan_id}: {tracking_number} {kind}")
        self._outside.send(scan, due)
        if random is not None and random.random() < 0.5:
            self._outside.send(scan, due)

    def _trouble(self, what: str) -> _Plan:
        random = self._outside.random(what)
        if random is None:
            return _Plan()
        return random.choice((_Plan("answer lost"), _Plan("call lost")))


# ---- the mailbox ----------------------------------------------------------------------------------------------------


class NextMail(_Next):
    """What happens to the next mail that is sent under a new key. Say one thing of it."""

    def times_out_after_sending(self) -> None:
        """The mail goes out, but the answer is lost."""
        self._say("times_out_after_sending()", _Plan("answer lost"))

    def times_out_before_sending(self) -> None:
        """The call is lost, and the mail with it."""
        self._say("times_out_before_sending()", _Plan("call lost"))


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A mail in the mailbox's books."""

    sent: MailSent
    body: str


class FakeMailbox(_Fake, Mailbox):
    """A mailbox: what the shop sends, and what customers write."""

    _name = "mailbox"

    def __init__(
        self, clock: Callable[[], datetime] | _Outside, *, seed: int | None = None, trouble: float = 0.0
    ) -> None:
        super().__init__(clock, seed=seed, trouble=trouble)
        self._sent: dict[str, _Outgoing] = {}
        self._bounces: dict[str, tuple[_Script, str]] = {}
        self._mails = 0
        self._late: _Script | None = None
        self._late_by = NO_TIME

    # ---- the port -----------------------------------------------------------------------------------------------------

    def send(self, *, key: str, to: str, subject: str, body: str) -> MailSent:
        """See :meth:`~returnable.domain.effects.Mailbox.send`."""
        with self._outside.lock:
            call = f"send {key} to {to}"
            known = self._sent.get(key)
            if known is not None:
                if (known.sent.to, known.sent.subject, known.body) != (to, subject, body):
                    self._called(call, "the key was used before, for another mail")
                    raise KeyReused(key, f"a mail to {known.sent.to}", f"another mail to {to}")
                self._called(call, "known already")
                return known.sent
            if to in self._bounces:
                script, reason = self._bounces[to]
                script.used = True
                self._called(call, f"refused, {reason}")
                raise MailRefused(key, to, reason)
            plan = self._outside.scripted("mail", to) or self._trouble(f"mail {key}")
            if plan.ending == "call lost":
                self._called(call, "timed out before sending")
                raise MailTimeout(key, "send")
            sent = MailSent(key, to, subject, self._outside.now())
            self._sent[key] = _Outgoing(sent, body)
            if plan.ending == "answer lost":
                self._called(call, "timed out after sending")
                raise MailTimeout(key, "send")
            self._called(call, f"sent, {subject!r}")
            return sent

    def find(self, key: str) -> MailSent | None:
        """See :meth:`~returnable.domain.effects.Mailbox.find`."""
        with self._outside.lock:
            mail = self._sent.get(key)
            self._called(f"find {key}", "sent" if mail else "nothing")
            return mail.sent if mail else None

    # ---- scripts --------------------------------------------------------------------------------------------------------

    def next_mail(self, to: str | None = None) -> NextMail:
        """The next mail under a new key (``to``: to that address), to say of it how it goes."""
        about = "" if to is None else repr(to)
        return NextMail(self._outside.script(f"mailbox.next_mail({about})", "mail", to))

    def bounces(self, to: str, reason: str = "there is no such mailbox") -> None:
        """Mails to that address are refused from now on."""
        with self._outside.lock:
            self._bounces[to] = (self._outside.script(f"mailbox.bounces({to!r})", "", None), reason)

    def delays(self, by: timedelta) -> None:
        """From now on a mail is read so long after it arrived; it keeps the time of its arrival."""
        with self._outside.lock:
            self._late, self._late_by = self._outside.script(f"mailbox.delays({by})", "", None), by

    def receives(
        self, sender: str, subject: str, body: str = "", *, attachments: Sequence[str] = (), at: datetime | None = None
    ) -> None:
        """A customer's mail arrives now, or has at an earlier instant (aware); it comes out of :meth:`mails` when due."""
        with self._outside.lock:
            now = self._outside.now()
            arrived = now if at is None else parse_instant(at)
            if arrived > now:
                raise ValueError(f"a mail cannot have arrived at {arrived.isoformat()}: it is {now.isoformat()}")
            self._mails += 1
            mail = Mail(f"mail-{self._mails}", sender, arrived, subject, body, tuple(attachments))
            self._outside.note(arrived, self._name, f"{mail.mail_id} arrives from {sender}: {subject!r}")
            if self._late is not None:
                self._late.used = True
            random = self._outside.random(mail.mail_id)
            late = self._late_by + (timedelta(minutes=random.randint(1, 24 * 60)) if random else NO_TIME)
            due = max(arrived + late, now)
            self._outside.send(mail, due)
            if random is not None and random.random() < 0.5:
                self._outside.send(mail, due)

    def mails(self) -> list[Mail]:
        """The mails that can be read and have not been, in the order in which they came."""
        return [mail for _, mail in self._came()]

    # ---- the books ------------------------------------------------------------------------------------------------------

    def sent(self, to: str | None = None) -> tuple[MailSent, ...]:
        """Every mail that went out, or those to one address."""
        with self._outside.lock:
            return tuple(mail.sent for mail in self._sent.values() if to in (None, mail.sent.to))

    # ---- inside ---------------------------------------------------------------------------------------------------------

    def _came(self) -> list[tuple[datetime, Mail]]:
        with self._outside.lock:
            came = self._outside.arrived(Mail)
            for _, mail in came:
                self._outside.note(self._outside.now(), self._name, f"{mail.mail_id} is read")
            return came

    def _trouble(self, what: str) -> _Plan:
        random = self._outside.random(what)
        if random is None:
            return _Plan()
        return random.choice((_Plan("answer lost"), _Plan("call lost")))


# ---- all of it ------------------------------------------------------------------------------------------------------


class FakeWorld:
    """A gateway, a carrier and a mailbox on one clock: any function that returns an aware instant, such as the desk's.

    ``trouble`` is the probability with which a call or a message is in trouble, by the ``seed``; scripts come first.
    """

    def __init__(self, clock: Callable[[], datetime], *, seed: int | None = None, trouble: float = 0.0) -> None:
        self._outside = _Outside(clock, seed, trouble)
        self.gateway = FakeGateway(self._outside)
        self.carrier = FakeCarrier(self._outside)
        self.mailbox = FakeMailbox(self._outside)

    def due(self) -> list[Delivery]:
        """What has come in since the last time, of all three, in the order in which it came."""
        with self._outside.lock:
            notices = self.gateway._came()
            came: list[tuple[datetime, Delivery]] = [*notices, *self.carrier._came(), *self.mailbox._came()]
            came.sort(key=lambda each: each[0])
            # Webhooks that were told to come out of order do so among themselves.
            in_turn = iter(notices)
            return [next(in_turn)[1] if isinstance(each, RefundNotice) else each for _, each in came]

    def next_due(self) -> datetime | None:
        """The next instant (UTC) at which something happens or comes in by itself; ``None``: nothing is on its way."""
        with self._outside.lock:
            return min([*self.gateway._to_happen(), *self._outside.on_the_way()], default=None)

    def timeline(self, zone: str = "UTC") -> str:
        """Everything that happened outside, a line each, in order of time, on the wall of a zone."""
        tz = calendar.zone(zone)
        with self._outside.lock:
            self.gateway._catch_up()
            return "\n".join(f"{instant_in_words(at, tz)}  {who:<8} {what}" for at, who, what in self._outside.diary())

    def verify(self) -> None:
        """Raise ``AssertionError`` that names every script that never came to pass."""
        self.gateway.verify()
