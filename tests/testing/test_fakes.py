"""The world outside, faked: a host's workers meet a gateway, a carrier and a mailbox that fail as they are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from freezegun import freeze_time
from hypothesis import given, settings
from hypothesis import strategies as st

import returnable
from returnable.domain.characters import NOT_IN_ID, why_refused
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
    MailTimeout,
    OutcomeUnknown,
    PaymentGateway,
    PaymentNotice,
    RefundNotice,
    RefundReceipt,
    Scan,
    refund_key,
    tender_of,
)
from returnable.domain.errors import Impossible
from returnable.domain.events import ExceptionRaised, RefundFailed, RefundRequested, RefundSettled, Tender
from returnable.domain.money import to_minor
from returnable.facade import Desk
from returnable.testing.clock import Clock
from returnable.testing.fakes.carrier import FakeCarrier
from returnable.testing.fakes.mailbox import FakeMailbox
from returnable.testing.fakes.payments import FakeGateway, NextRefund
from returnable.testing.fakes.script import Notice
from returnable.testing.fakes.world import FakeWorld
from returnable.testing.steps import (
    Step,
    a_claim,
    a_return,
    an_order,
    confirm_order,
    flat,
    record_shipment,
    request_refund,
    request_return,
)

# ---- what a host has -------------------------------------------------------------------------------------------------


class RefundWorker:
    """Pays what the facts ask for, as a host would write it: it remembers nothing, and can be killed anywhere."""

    def __init__(self, desk: Desk, gateway: PaymentGateway) -> None:
        self.desk = desk
        self.gateway = gateway

    def run(self) -> None:
        """Go once over the tenders that have no answer yet."""
        for key, (tender, currency) in self.unanswered().items():
            try:
                receipt = self.gateway.find(key) or self.pay(key, tender, currency)
            except GatewayTimeout:
                continue  # whatever became of it: the next run finds out
            except GatewayRefused as refused:
                receipt = refused.receipt
            self.record(receipt)

    def pay(self, key: str, tender: Tender, currency: str) -> RefundReceipt:
        """One call, under a key that the fact alone determines."""
        paid_to = tender.payout_id or tender.payment_id
        return self.gateway.refund(key=key, payment_id=paid_to, amount=tender.amount, currency=currency)

    def record(self, receipt: RefundReceipt) -> None:
        """Tell the desk."""
        for command in receipt.commands():
            self.desk.handle(command)

    def unanswered(self) -> dict[str, tuple[Tender, str]]:
        """The tenders that were asked for and have no answer for all of it, by their keys, from the facts."""
        asked: dict[str, tuple[Tender, str]] = {}
        answered = Counter[str]()
        for entry in self.desk.services.store.read(limit=100_000):
            event = entry.event
            if isinstance(event, RefundRequested):
                asked |= {
                    refund_key(event.refund_id, each.payment_id): (each, event.currency) for each in event.tenders
                }
            elif isinstance(event, RefundSettled | RefundFailed):
                answered[refund_key(event.refund_id, event.payment_id)] += event.amount
        return {key: each for key, each in asked.items() if answered[key] < each[0].amount}


def pay_refunds(desk: Desk, gateway: PaymentGateway) -> None:
    """The same over the desk's list of refunds, as the documentation has it."""
    for refund in desk.refunds(status="requested"):
        for tender in (each for each in refund.tenders if each.status == "requested"):
            key = refund_key(refund.refund_id or "", tender.payment_id)
            paid_to, amount = tender.payout_id or tender.payment_id, to_minor(tender.amount, refund.currency)
            try:
                receipt = gateway.find(key) or gateway.refund(
                    key=key, payment_id=paid_to, amount=amount, currency=refund.currency
                )
            except GatewayTimeout:
                continue  # whatever became of it: the next run finds out
            except GatewayRefused as refused:
                receipt = refused.receipt
            for command in receipt.commands():
                desk.handle(command)


class RekeyingWorker(RefundWorker):
    """One that thinks up a new key for every try, and asks nobody."""

    tries = 0

    def run(self) -> None:
        for key, (tender, currency) in self.unanswered().items():
            self.tries += 1
            try:
                self.pay(f"{key}-{self.tries}", tender, currency)
            except GatewayTimeout:
                continue
            self.desk.handle(RefundReceipt(key, tender.payment_id, tender.amount, currency, "succeeded").command())


class TrustingWorker(RefundWorker):
    """One that trusts in its key alone, and never asks what became of the first try."""

    def run(self) -> None:
        for key, (tender, currency) in self.unanswered().items():
            try:
                self.record(self.pay(key, tender, currency))
            except GatewayTimeout:
                continue


class Crash(Exception):
    """The process dies."""


class ForgetfulWorker(RefundWorker):
    """One that leaves it to the webhooks to tell the desk."""

    def record(self, receipt: RefundReceipt) -> None:
        pass


class DyingWorker(RefundWorker):
    """One that dies after the call, before it tells the desk."""

    def record(self, receipt: RefundReceipt) -> None:
        raise Crash


def hear(desk: Desk, notice: Notice) -> None:
    """Tell the desk of one webhook, as the documentation has it."""
    if isinstance(notice, RefundNotice):
        desk.handle(notice.command())
    else:
        order_id = next(each.order_id for each in desk.ledger() if each.payment_id == notice.payment_id)
        for command in notice.commands(order_id=order_id):
            desk.handle(command)


@dataclass
class Shop:
    """A desk and the world outside, on one clock."""

    desk: Desk
    world: FakeWorld
    clock: Clock

    @property
    def gateway(self) -> FakeGateway:
        return self.world.gateway

    def happens(self, *history: Step | Iterable[Step]) -> None:
        """Tell the desk a history."""
        for step in flat(history):
            if step.when is not None:
                self.clock.move_to(step.when)
            self.desk.handle(step.resolved(self.clock.zone_name))

    def webhooks_come(self) -> list[Notice]:
        """Tell the desk what the gateway tells by webhook."""
        notices = self.gateway.webhooks()
        for notice in notices:
            hear(self.desk, notice)
        return notices

    def exceptions(self) -> tuple[str, ...]:
        """The exceptions that the desk raised, a sentence each."""
        events = (entry.event for entry in self.desk.services.store.read(limit=100_000))
        return tuple("; ".join(event.reasons) for event in events if isinstance(event, ExceptionRaised))

    def agrees(self) -> bool:
        """Whether the gateway's books and the desk's say the same, to the cent."""
        return self.gateway.differences(self.desk.ledger()) == ()


def a_shop(*, seed: int | None = None, trouble: float = 0.0) -> Shop:
    clock = Clock()
    return Shop(returnable.open("memory:", clock=clock), FakeWorld(clock, seed=seed, trouble=trouble), clock)


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A shop to which one of two units of 600.00 comes back; 400.00 go to one card and 200.00 to another."""
    shop = a_shop()
    a_unit_comes_back(shop, 1)
    shop.happens(request_refund())
    with shop.desk:
        yield shop


def a_unit_comes_back(shop: Shop, number: int) -> None:
    first, second = f"p-{2 * number - 1}", f"p-{2 * number}"
    payments = [
        {"payment_id": first, "method": "card", "amount": "800.00"},
        {"payment_id": second, "method": "card", "amount": "400.00"},
    ]
    for payment in payments:
        shop.gateway.captures(payment["payment_id"], payment["amount"])
    sent = an_order(
        f"A-{number}", price="600.00", quantity=2, delivered="2026-03-05", parcel_id=f"P-{number}", payments=payments
    )
    back = a_return(
        f"R-{number}", order_id=f"A-{number}", label_id=f"L-{number}", requested="2026-03-09", inspected="2026-03-16"
    )
    shop.happens(sent, back)


def is_refunded_once(shop: Shop) -> bool:
    """Refunded at the desk, and at the gateway just what the desk says."""
    status = shop.desk.refund(return_id="R-1").status
    paid = (shop.gateway.refunded("p-1"), shop.gateway.refunded("p-2"))
    return status == "refunded" and paid == ("400.00", "200.00") and shop.agrees()


# ---- refunds, once ---------------------------------------------------------------------------------------------------


def test_a_refund_goes_out_once_and_both_books_agree(shop: Shop) -> None:
    worker = RefundWorker(shop.desk, shop.gateway)

    worker.run()
    worker.run()
    shop.webhooks_come()

    assert is_refunded_once(shop)
    assert shop.gateway.calls == (
        "find F-1/p-1: nothing",
        "refund F-1/p-1 of 400.00 USD to p-1: succeeded, re-1",
        "find F-1/p-2: nothing",
        "refund F-1/p-2 of 200.00 USD to p-2: succeeded, re-2",
    )


@pytest.mark.parametrize("of", ["p-1", "p-2"])
def test_a_call_that_times_out_after_charging_is_found_and_not_paid_again(shop: Shop, of: str) -> None:
    shop.gateway.next_refund(of).times_out_after_charging()
    worker = RefundWorker(shop.desk, shop.gateway)

    worker.run()
    unknown = shop.desk.refund(return_id="R-1")
    worker.run()

    assert unknown.status == "requested"
    assert is_refunded_once(shop)
    shop.world.verify()


def test_a_host_can_go_over_the_list_of_refunds_as_well(shop: Shop) -> None:
    shop.gateway.next_refund("p-1").times_out_after_charging()
    shop.gateway.next_refund("p-2").is_refused("the card is closed")

    pay_refunds(shop.desk, shop.gateway)
    pay_refunds(shop.desk, shop.gateway)
    shop.happens(request_refund("F-2"))
    pay_refunds(shop.desk, shop.gateway)

    assert is_refunded_once(shop)
    shop.world.verify()


def test_a_call_that_times_out_before_charging_is_made_again_under_the_same_key(shop: Shop) -> None:
    shop.gateway.next_refund().times_out_before_charging()
    worker = RefundWorker(shop.desk, shop.gateway)

    worker.run()
    paid_at_first = shop.gateway.refunded("p-1")
    worker.run()

    assert paid_at_first == "0.00"
    assert is_refunded_once(shop)


def test_a_call_that_arrives_after_it_was_made_again_moves_no_money(shop: Shop) -> None:
    shop.gateway.next_refund().times_out_and_charges_after(minutes=10)
    worker = RefundWorker(shop.desk, shop.gateway)

    worker.run()
    worker.run()  # finds nothing, and pays
    shop.clock.advance(minutes=10)

    assert is_refunded_once(shop)
    assert "refund F-1/p-1 arrives late: known already" in shop.world.timeline()


def test_a_call_that_arrives_late_is_found_when_nobody_made_it_again(shop: Shop) -> None:
    shop.gateway.next_refund().times_out_and_charges_after(minutes=10)
    worker = RefundWorker(shop.desk, shop.gateway)

    worker.run()
    shop.clock.advance(minutes=10)
    worker.run()

    assert is_refunded_once(shop)


def test_webhooks_that_come_twice_are_recorded_once(shop: Shop) -> None:
    shop.gateway.webhooks_are_duplicated()
    RefundWorker(shop.desk, shop.gateway).run()
    before = shop.desk.services.store.head()

    notices = shop.webhooks_come()

    assert [notice.event_id for notice in notices] == ["evt-1", "evt-1", "evt-2", "evt-2"]
    assert shop.desk.services.store.head() == before
    assert is_refunded_once(shop)
    shop.world.verify()


def test_webhooks_that_come_out_of_order_end_the_same_even_when_they_are_all_that_comes(shop: Shop) -> None:
    shop.gateway.webhooks_are_reordered()
    shop.gateway.webhooks_are_duplicated()
    shop.gateway.next_refund().times_out_after_charging()
    shop.gateway.next_refund().times_out_after_charging()
    RefundWorker(shop.desk, shop.gateway).run()

    notices = shop.webhooks_come()

    assert [notice.key for notice in notices] == ["F-1/p-2", "F-1/p-2", "F-1/p-1", "F-1/p-1"]
    assert is_refunded_once(shop)
    shop.world.verify()


def test_webhooks_that_are_lost_are_not_missed(shop: Shop) -> None:
    shop.gateway.webhooks_are_lost()
    shop.gateway.next_refund().answers_after(hours=3)
    worker = RefundWorker(shop.desk, shop.gateway)

    worker.run()
    shop.clock.advance(hours=3)
    notices = shop.webhooks_come()
    worker.run()

    assert notices == []
    assert is_refunded_once(shop)


def test_a_worker_that_dies_between_the_call_and_the_record_goes_on_after_it_is_started_again(shop: Shop) -> None:
    for _ in range(2):
        with pytest.raises(Crash):
            DyingWorker(shop.desk, shop.gateway).run()

    RefundWorker(shop.desk, shop.gateway).run()

    assert is_refunded_once(shop)


def test_a_definite_no_is_on_record_and_a_new_refund_pays_only_what_did_not_go_back(shop: Shop) -> None:
    shop.gateway.next_refund().is_refused("the card is closed")
    worker = RefundWorker(shop.desk, shop.gateway)

    worker.run()
    refused = shop.desk.refund(refund_id="F-1")
    shop.happens(request_refund("F-2"))
    worker.run()

    assert refused.status == "failed"
    assert [tender.status for tender in refused.tenders] == ["failed", "settled"]
    assert is_refunded_once(shop)
    assert [receipt.key for receipt in shop.gateway.refunds("p-1")] == ["F-1/p-1", "F-2/p-1"]


def test_an_answer_that_takes_hours_is_pending_until_then(shop: Shop) -> None:
    shop.gateway.next_refund("p-1").answers_after(hours=3)
    worker = RefundWorker(shop.desk, shop.gateway)

    worker.run()
    shop.clock.advance(hours=2, minutes=59)
    worker.run()
    too_early = (shop.gateway.refunded("p-1"), shop.gateway.pending("p-1"), shop.desk.refund(refund_id="F-1").status)
    shop.clock.advance(minutes=1)
    shop.webhooks_come()

    assert too_early == ("0.00", "400.00", "requested")
    assert shop.gateway.pending("p-1") == "0.00"
    assert is_refunded_once(shop)


def test_a_refund_that_fails_after_days_is_recorded_as_failed_with_its_reason(shop: Shop) -> None:
    shop.gateway.next_refund("p-1").fails_after("the account\nis closed", days=2)
    RefundWorker(shop.desk, shop.gateway).run()
    shop.clock.advance(hours=48)

    shop.webhooks_come()

    assert shop.desk.refund(refund_id="F-1").status == "failed"
    failed = next(entry.event for entry in shop.desk.services.store.read() if isinstance(entry.event, RefundFailed))
    assert failed.reason == "the account is closed"
    assert failed.actor is not None
    assert failed.actor.role == "payments"
    assert shop.agrees()


def test_a_tender_of_nothing_needs_no_call() -> None:
    shop = a_shop()
    shop.gateway.captures("p-1", "15.00")
    back = a_return(requested="2026-03-09", inspected="2026-03-16")
    shop.happens(an_order(price="15.00", delivered="2026-03-05"), back, request_refund())

    RefundWorker(shop.desk, shop.gateway).run()

    assert shop.desk.refund(refund_id="F-1").status == "refunded"
    assert shop.gateway.refunds() == ()
    assert shop.agrees()


def test_a_worker_that_thinks_up_a_new_key_pays_twice_and_the_books_tell(shop: Shop) -> None:
    shop.gateway.next_refund("p-1").times_out_after_charging()
    worker = RekeyingWorker(shop.desk, shop.gateway)

    worker.run()
    worker.run()

    assert shop.desk.refund(refund_id="F-1").status == "refunded"
    assert shop.gateway.differences(shop.desk.ledger()) == (
        "p-1: refunded 800.00 USD at the gateway, 400.00 USD at the desk",
    )


@pytest.mark.parametrize(("worker", "paid"), [(TrustingWorker, "800.00"), (RefundWorker, "400.00")])
def test_who_does_not_look_before_trying_again_pays_twice_once_the_gateway_forgets_the_key(
    shop: Shop, worker: type[RefundWorker], paid: str
) -> None:
    shop.gateway.forgets_keys(after=timedelta(hours=24))
    shop.gateway.next_refund("p-1").times_out_after_charging()

    worker(shop.desk, shop.gateway).run()
    shop.clock.advance(hours=24)
    worker(shop.desk, shop.gateway).run()

    assert shop.gateway.refunded("p-1") == paid
    assert shop.agrees()  # the receipt names both refunds under the key
    assert (
        shop.exceptions()
        == {
            "400.00": (),
            "800.00": (
                "400.00 USD of refund F-1 were paid for payment p-1, but only 0.00 of it was open; "
                "1000.00 USD went back or are on their way for return R-1 (refund F-1), but 600.00 are owed: 400.00 too much",
            ),
        }[paid]
    )


def test_a_refund_that_was_paid_and_not_recorded_is_a_difference(shop: Shop) -> None:
    shop.gateway.refund(key="F-1/p-1", payment_id="p-1", amount=40000, currency="USD")
    shop.gateway.captures("p-9", "1.00")

    differences = shop.gateway.differences(shop.desk.ledger())

    assert differences == (
        "p-1: refunded 400.00 USD at the gateway, 0.00 USD at the desk",
        "p-9: the desk does not know it",
    )
    assert FakeGateway(shop.clock).differences(shop.desk.ledger()) == (
        "p-1: the gateway never captured it",
        "p-2: the gateway never captured it",
    )


# ---- any trouble -----------------------------------------------------------------------------------------------------


class MortalWorker(RefundWorker):
    """One that dies now and then between the call and the record."""

    def __init__(self, desk: Desk, gateway: PaymentGateway, dice: Random) -> None:
        super().__init__(desk, gateway)
        self.dice = dice

    def record(self, receipt: RefundReceipt) -> None:
        if self.dice.random() < 0.2:
            raise Crash
        super().record(receipt)


def live_through(seed: int, trouble: float, orders: int = 2) -> Shop:
    """A shop that carries on, whatever happens, until nothing is left to do."""
    shop, dice = a_shop(seed=seed, trouble=trouble), Random(seed)
    if dice.random() < 0.5:
        shop.gateway.forgets_keys(after=timedelta(hours=24))
    for number in range(1, orders + 1):
        a_unit_comes_back(shop, number)
    attempts = 0

    def work(kind: str) -> list[str]:
        return [item.subject.id for item in shop.desk.worklist().items if item.kind == kind]

    for _ in range(300):
        for return_id in work("request_refund"):
            attempts += 1
            shop.desk.request_refund(refund_id=f"F-{attempts}", return_id=return_id)
        try:
            MortalWorker(shop.desk, shop.gateway, dice).run()
        except Crash:
            continue
        shop.webhooks_come()
        if (
            shop.world.next_due() is None
            and not work("request_refund")
            and not list(shop.desk.refunds(status="requested"))
        ):
            return shop
        shop.clock.advance(minutes=dice.randint(1, 12 * 60))
    raise AssertionError("something was forgotten:\n" + shop.world.timeline())


@given(st.integers(0, 1_000_000), st.sampled_from([0.0, 0.2, 0.5]))
def test_whatever_trouble_there_is_everything_is_refunded_once(seed: int, trouble: float) -> None:
    shop = live_through(seed, trouble)

    paid = {payment_id: shop.gateway.refunded(payment_id) for payment_id in ("p-1", "p-2", "p-3", "p-4")}
    assert paid == {"p-1": "400.00", "p-2": "200.00", "p-3": "400.00", "p-4": "200.00"}, shop.world.timeline()
    assert shop.gateway.differences(shop.desk.ledger()) == ()


def test_the_same_seed_makes_the_same_trouble_and_another_another() -> None:
    first, again, other = (live_through(seed, 0.5).world.timeline() for seed in (7, 7, 8))

    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "trouble",
    [
        "timed out after charging: succeeded",
        "timed out before charging",
        "under way for",
        "arrives late: succeeded",
        "arrives late: known already",
        "timed out; known already",
        "find F-1/p-1: timed out",
        "refused, the card is closed",
        "pending",
        "failed, re-1, the account is closed",
    ],
)
def test_every_kind_of_trouble_comes_by_some_seed(trouble: str) -> None:
    seeds = iter(range(200))

    found = next((seed for seed in seeds if trouble in trusting(seed).timeline()), None)

    assert found is not None


def trusting(seed: int) -> FakeWorld:
    """A world in which a call is simply made again and again, and asked for now and then."""
    clock = Clock()
    world = FakeWorld(clock, seed=seed, trouble=0.5)
    world.gateway.captures("p-1", "100.00")
    for call in range(6):
        with suppress(GatewayTimeout, GatewayRefused):
            pay(world.gateway)
        if call % 2:
            with suppress(GatewayTimeout):
                world.gateway.find("F-1/p-1")
        clock.advance(hours=2**call)
    return world


def test_in_trouble_a_rekeying_worker_is_caught() -> None:
    caught = 0
    for seed in range(80):
        shop = a_shop(seed=seed, trouble=0.5)
        a_unit_comes_back(shop, 1)
        shop.happens(request_refund())
        worker = RekeyingWorker(shop.desk, shop.gateway)
        for _ in range(10):
            try:
                worker.run()
            except GatewayRefused:
                continue
        caught += any("800.00" in told for told in shop.gateway.differences(shop.desk.ledger()))

    assert caught > 0


@pytest.mark.parametrize(("seed", "trouble", "why"), [(1, 1.5, "from 0 to 1"), (None, 0.2, "needs a seed")])
def test_trouble_that_makes_no_sense_is_refused(seed: int | None, trouble: float, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        FakeWorld(Clock(), seed=seed, trouble=trouble)


# ---- the gateway keeps its port --------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gateway(clock: Clock) -> FakeGateway:
    gateway = FakeGateway(clock)
    gateway.captures("p-1", "100.00")
    return gateway


def pay(gateway: PaymentGateway, key: str = "F-1/p-1", amount: int = 6000, **other: str) -> RefundReceipt:
    return gateway.refund(key=key, amount=amount, **({"payment_id": "p-1", "currency": "USD"} | other))


def test_the_same_key_with_the_same_body_gives_the_first_answer_again(gateway: FakeGateway) -> None:
    first = pay(gateway)

    again = pay(gateway)

    assert first == again == gateway.find("F-1/p-1")
    assert gateway.refunded("p-1") == "60.00"


def test_the_same_key_with_another_body_is_an_error_and_moves_nothing(gateway: FakeGateway) -> None:
    pay(gateway)

    with pytest.raises(KeyReused, match=r"'F-1/p-1' was used before for 60.00 USD to p-1, now for 60.01 USD to p-1"):
        pay(gateway, amount=6001)

    assert gateway.refunded("p-1") == "60.00"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount": 4001}, "only 40.00 of 100.00 USD is left"),
        ({"payment_id": "p-2"}, "there is no payment p-2"),
        ({"currency": "EUR"}, "the payment is in USD"),
    ],
)
def test_never_more_than_was_captured_goes_back(gateway: FakeGateway, change: dict[str, object], reason: str) -> None:
    gateway.next_refund().answers_after(hours=1)
    pay(gateway)  # what is pending is promised

    with pytest.raises(GatewayRefused) as refused:
        pay(gateway, "F-2/p-1", **({"amount": 4000} | change))  # type: ignore[arg-type]
    with pytest.raises(GatewayRefused) as again:
        pay(gateway, "F-2/p-1", **({"amount": 4000} | change))  # type: ignore[arg-type]

    assert refused.value.reason == reason
    assert gateway.find("F-2/p-1") == refused.value.receipt == again.value.receipt
    assert gateway.captured("p-1") == "100.00"


@pytest.mark.parametrize("amount", [0, -1, True, 1.5])
def test_an_amount_that_is_none_is_a_mistake_of_the_caller(gateway: FakeGateway, amount: int) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        pay(gateway, amount=amount)


def test_a_payment_is_captured_once_and_others_are_unknown(gateway: FakeGateway) -> None:
    with pytest.raises(ValueError, match="captured already"):
        gateway.captures("p-1", "1.00")
    with pytest.raises(LookupError, match="never captured a payment 'p-7'"):
        gateway.refunded("p-7")


def test_a_webhook_comes_late_and_says_when_it_was(gateway: FakeGateway, clock: Clock) -> None:
    gateway.webhooks_arrive_late(by=timedelta(days=2))
    paid_at = clock.now
    pay(gateway)

    clock.advance(hours=24)
    too_early = gateway.webhooks()
    clock.advance(hours=24)

    assert too_early == []
    assert gateway.webhooks() == [
        RefundNotice("evt-1", "F-1/p-1", "succeeded", paid_at, "re-1", amount=6000, currency="USD")
    ]
    assert gateway.webhooks() == []
    gateway.verify()


def test_a_script_that_never_came_to_pass_is_told(gateway: FakeGateway) -> None:
    gateway.next_refund("p-1").succeeds()
    gateway.next_refund("p-3").fails_after("the card is closed", hours=3)
    gateway.webhooks_are_duplicated()
    gateway.webhooks_are_reordered()
    pay(gateway)
    gateway.webhooks()

    with pytest.raises(AssertionError) as told:
        gateway.verify()

    assert str(told.value) == (
        "this was scripted and never happened: gateway.next_refund('p-3').fails_after('the card is closed', 3:00:00); "
        "gateway.webhooks_are_reordered()"
    )


def test_a_script_says_one_thing(gateway: FakeGateway) -> None:
    script = gateway.next_refund()
    script.times_out_before_charging()
    with pytest.raises(AssertionError, match="says already"):
        script.succeeds()
    with pytest.raises(GatewayTimeout):
        pay(gateway)
    gateway.next_refund()

    with pytest.raises(AssertionError, match="does not say what happens"):
        pay(gateway)


def test_a_hundred_threads_with_one_key_move_the_money_once(gateway: FakeGateway) -> None:
    with ThreadPoolExecutor(8) as threads:
        receipts = list(threads.map(lambda _: pay(gateway), range(100)))

    assert len(set(receipts)) == 1
    assert gateway.refunded("p-1") == "60.00"


def test_only_the_clock_given_counts(gateway: FakeGateway, clock: Clock) -> None:
    with freeze_time("2031-01-01"):
        gateway.next_refund().answers_after(hours=3)
        receipt = pay(gateway)
        clock.advance(hours=3)
        notice = gateway.webhooks()[0]

    assert receipt.result == "pending"
    assert notice.occurred_at == clock.now
    assert type(notice.occurred_at) is datetime


def test_a_naive_clock_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        FakeWorld(lambda: datetime(2026, 3, 2)).mailbox.receives("a@example.org", "Hello")


# ---- what gateways really do -----------------------------------------------------------------------------------------


def books(shop: Shop, payment_id: str = "p-1") -> tuple[str, str]:
    """What is refunded and pending at the gateway."""
    return shop.gateway.refunded(payment_id), shop.gateway.pending(payment_id)


def work(shop: Shop) -> list[tuple[str, str]]:
    """Kind and id of what is on the desk's worklist."""
    return [(item.kind, item.subject.id) for item in shop.desk.worklist().items]


def types(shop: Shop, last: int) -> list[str]:
    """The types of the last events."""
    return [type(entry.event).__name__ for entry in shop.desk.services.store.read(limit=100_000)][-last:]


def test_less_than_was_asked_for_settles_that_much_and_the_rest_stays_open(shop: Shop) -> None:
    shop.gateway.next_refund("p-1").pays("150.00")
    worker = RefundWorker(shop.desk, shop.gateway)

    worker.run()
    worker.run()
    shop.webhooks_come()

    (short, _) = shop.desk.refund(refund_id="F-1").tenders
    assert (short.amount, short.settled, short.status, short.reference) == ("400.00", "150.00", "requested", "re-1")
    assert books(shop) == ("150.00", "0.00")
    assert shop.gateway.calls[-1] == "find F-1/p-1: succeeded, 150.00 of it, re-1"
    assert work(shop) == [("refund_short", "F-1")]
    assert shop.agrees()
    shop.world.verify()


def test_more_than_was_asked_for_is_recorded_and_is_an_exception(shop: Shop) -> None:
    shop.gateway.next_refund("p-1").pays("450.00")

    RefundWorker(shop.desk, shop.gateway).run()
    shop.webhooks_come()

    assert books(shop) == ("450.00", "0.00")
    assert shop.agrees()
    assert shop.exceptions() == (
        "450.00 USD of refund F-1 were paid for payment p-1, but only 400.00 of it was open; "
        "650.00 USD went back or are on their way for return R-1 (refund F-1), but 600.00 are owed: 50.00 too much",
    )


@pytest.mark.parametrize("webhooks", [True, False])
def test_a_refund_that_is_paid_in_parts_is_known_by_its_webhooks_or_by_asking(shop: Shop, webhooks: bool) -> None:
    if not webhooks:
        shop.gateway.webhooks_are_lost()
    shop.gateway.next_refund("p-1").pays_in_parts("150.00", days=2)
    worker = RefundWorker(shop.desk, shop.gateway)

    with pytest.raises(Crash):
        DyingWorker(shop.desk, shop.gateway).run()
    on_the_way = books(shop)
    shop.clock.advance(hours=48)
    shop.webhooks_come()
    worker.run()

    assert on_the_way == ("150.00", "250.00")
    assert is_refunded_once(shop)
    assert shop.exceptions() == ()
    found = shop.gateway.find("F-1/p-1")
    assert found is not None
    told = [(each.amount, each.result, each.reference) for each in (found, *found.others)]
    assert told == [(15000, "succeeded", "re-1"), (25000, "succeeded", "re-2")]
    assert len({command.command_id for command in found.commands()}) == 2


def test_the_first_part_is_told_while_the_rest_is_pending(shop: Shop) -> None:
    shop.gateway.next_refund("p-1").pays_in_parts("150.00", days=2)

    RefundWorker(shop.desk, shop.gateway).run()

    assert shop.desk.refund(refund_id="F-1").tenders[0].settled == "150.00"


@pytest.mark.parametrize("recorded", [True, False])
def test_money_that_the_bank_sends_back_is_owed_again(shop: Shop, recorded: bool) -> None:
    shop.gateway.next_refund("p-1").comes_back_after("the account is closed", days=5)
    worker = RefundWorker(shop.desk, shop.gateway)
    if recorded:
        worker.run()
    else:
        with pytest.raises(Crash):
            DyingWorker(shop.desk, shop.gateway).run()
    paid = books(shop)
    shop.clock.advance(hours=5 * 24)

    worker.run()  # finds the failure, if it has not recorded the success
    webhooks = shop.webhooks_come()

    assert paid == ("400.00", "0.00")
    assert books(shop) == ("0.00", "0.00")
    assert [notice.result for notice in webhooks if isinstance(notice, RefundNotice) and notice.key == "F-1/p-1"] == [
        "succeeded",
        "failed",
    ]
    assert shop.desk.refund(refund_id="F-1").status == "failed"
    assert work(shop) == [*([] if recorded else [("exception", "R-1")]), ("request_refund", "R-1")]
    assert shop.agrees()

    shop.happens(request_refund("F-2"))
    worker.run()
    assert is_refunded_once(shop)
    shop.world.verify()


def test_find_says_of_money_that_came_back_that_it_failed_and_when(gateway: FakeGateway, clock: Clock) -> None:
    gateway.next_refund().comes_back_after("the account is closed", days=5)
    paid_at = clock.now
    first = pay(gateway)
    clock.advance(hours=5 * 24)

    found = gateway.find("F-1/p-1")

    assert (first.result, first.settled_at, first.reason) == ("succeeded", paid_at, None)
    assert found == pay(gateway)  # the same key asks what became of it
    assert found == RefundReceipt(
        "F-1/p-1", "p-1", 6000, "USD", "failed", "re-1", "the account is closed", paid_at + timedelta(days=5)
    )
    assert [notice.command() for notice in gateway.webhooks() if isinstance(notice, RefundNotice)] == [
        first.command(),
        found.command(),
    ]


def test_a_refund_that_failed_and_succeeds_after_all_is_settled(shop: Shop) -> None:
    shop.gateway.next_refund("p-1").fails_and_succeeds_after("try again", days=1)
    RefundWorker(shop.desk, shop.gateway).run()
    failed = (shop.desk.refund(refund_id="F-1").status, books(shop), shop.agrees())

    shop.clock.advance(hours=24)
    shop.webhooks_come()

    assert failed == ("failed", ("0.00", "0.00"), True)
    assert is_refunded_once(shop)
    assert shop.exceptions() == ()


def test_a_refund_that_succeeds_after_another_was_asked_for_is_an_exception_that_names_the_overpayment(
    shop: Shop,
) -> None:
    shop.gateway.next_refund("p-1").fails_and_succeeds_after("try again", days=1)
    worker = RefundWorker(shop.desk, shop.gateway)
    worker.run()
    shop.happens(request_refund("F-2"))
    worker.run()

    shop.clock.advance(hours=24)
    shop.webhooks_come()

    assert books(shop) == ("800.00", "0.00")
    assert shop.agrees()
    assert shop.exceptions() == (
        "1000.00 USD went back or are on their way for return R-1 (refunds F-1 and F-2), but 600.00 are owed: "
        "400.00 too much",
    )


def test_a_refund_in_the_gateways_own_pages_is_told_once_and_owed_no_more() -> None:
    shop = a_shop()
    a_unit_comes_back(shop, 1)
    shop.gateway.webhooks_are_duplicated()
    reference = shop.gateway.pays_back("p-1", "100.00", kind="goodwill", reason="a scratch")

    notices = shop.webhooks_come()
    shop.happens(request_refund())
    RefundWorker(shop.desk, shop.gateway).run()

    assert reference == "re-1"
    assert notices == 2 * [PaymentNotice("evt-1", "p-1", "goodwill", 10000, "USD", "re-1", shop.clock.now, "a scratch")]
    told = shop.desk.refund(refund_id="gateway/re-1")
    assert (told.kind, told.status, told.total) == ("goodwill", "refunded", "100.00")
    assert shop.desk.refund(refund_id="F-1").total == "500.00"
    assert [each.key for each in shop.gateway.refunds()] == ["F-1/p-1", "F-1/p-2"]
    assert shop.agrees()


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1,)])
@pytest.mark.parametrize("won", [True, False])
def test_a_dispute_is_told_whatever_notice_comes_first(order: tuple[int, ...], won: bool) -> None:
    shop = a_shop()
    a_unit_comes_back(shop, 1)
    dispute = shop.gateway.opens_dispute("p-1")
    opened_at = shop.clock.now
    taken = books(shop)
    shop.clock.advance(hours=24)
    if won:
        shop.gateway.comes_back(dispute)
    else:
        shop.gateway.loses_dispute(dispute)

    notices = shop.gateway.webhooks()
    for index in order:
        hear(shop.desk, notices[index])

    assert dispute == "dp-1"
    assert taken == ("800.00", "0.00")
    assert books(shop) == (("0.00" if won else "800.00"), "0.00")
    told = shop.desk.refund(refund_id="gateway/dp-1")
    assert (told.kind, told.status) == ("dispute", "failed" if won else "refunded")
    assert told.issued_at == "2026-03-16T00:00:00-04:00"
    assert shop.agrees()
    assert shop.exceptions() == ()
    (_, closed) = notices
    assert isinstance(closed, PaymentNotice)
    assert (closed.occurred_at, closed.returned_at) == (opened_at, shop.clock.now if won else None)
    assert [command.command for command in closed.commands(order_id="A-1")] == [
        "record_refund",
        *(["record_refund_result"] if won else []),
    ]


def test_a_refund_or_a_dispute_comes_back_once() -> None:
    gateway = FakeGateway(Clock())
    gateway.captures("p-1", "100.00")
    gateway.pays_back("p-1", "60.00")
    with pytest.raises(ValueError, match=r"cannot be paid back to p-1: only 40.00 of 100.00 USD is left"):
        gateway.pays_back("p-1", "60.00")
    gateway.comes_back("re-1")

    with pytest.raises(ValueError, match="nothing of re-1 can come back: it is failed"):
        gateway.comes_back("re-1")
    with pytest.raises(LookupError, match="no refund or dispute 're-7'"):
        gateway.comes_back("re-7")
    assert gateway.refunded("p-1") == "0.00"


def test_what_is_authorised_is_captured_later_in_parts_and_the_rest_never() -> None:
    shop = a_shop()
    payments = [{"payment_id": "p-1", "method": "card", "amount": "750.00", "captured": "0.00"}]
    shop.gateway.authorises("p-1", "750.00")
    shop.happens(an_order(delivered="2026-03-05", payments=payments))
    at_first = (shop.gateway.captured("p-1"), shop.agrees())

    shop.gateway.webhooks_are_duplicated()
    shop.gateway.captures("p-1", "500.00")
    differs = shop.gateway.differences(shop.desk.ledger())
    shop.gateway.captures("p-1", "50.00")
    with pytest.raises(ValueError, match=r"200.01 USD of p-1 cannot be captured: 200.00 USD are authorised and not"):
        shop.gateway.captures("p-1", "200.01")
    notices = shop.webhooks_come()

    assert at_first == ("0.00", True)
    assert differs == ("p-1: captured 500.00 USD at the gateway, 0.00 USD at the desk",)
    assert [(each.reference, each.kind) for each in notices if isinstance(each, PaymentNotice)] == [
        ("ca-1", "capture"),
        ("ca-1", "capture"),
        ("ca-2", "capture"),
        ("ca-2", "capture"),
    ]
    assert [entry.captured for entry in shop.desk.ledger()] == ["550.00"]
    assert types(shop, 2) == ["PaymentCaptured", "PaymentCaptured"]
    assert shop.agrees()


def test_a_closed_card_refuses_every_refund_until_another_payout_stands_for_it(shop: Shop) -> None:
    shop.gateway.closes_card("p-1", "the card was stolen")
    worker = RefundWorker(shop.desk, shop.gateway)
    worker.run()
    shop.happens(request_refund("F-2"))
    worker.run()
    refused = [(each.key, each.result, each.reason) for each in shop.gateway.refunds("p-1")]

    shop.desk.name_payout(
        order_id="A-1",
        payment_id="p-1",
        payout_id="bank-1",
        method="bank_transfer",
        reason="card closed",
        approved_by="lee",
    )
    shop.gateway.pays_out("bank-1", instead_of="p-1")
    shop.happens(request_refund("F-3"))
    worker.run()
    shop.webhooks_come()

    assert refused == [
        ("F-1/p-1", "failed", "the card was stolen"),
        ("F-2/p-1", "failed", "the card was stolen"),
    ]
    assert [each.key for each in shop.gateway.refunds("bank-1")] == ["F-3/p-1"]
    assert books(shop) == ("400.00", "0.00")
    assert shop.agrees()
    shop.world.verify()


def test_answers_make_commands_with_amount_currency_and_time() -> None:
    at = datetime(2026, 3, 16, 12, tzinfo=UTC)
    receipt = RefundReceipt("F-1/p-1", "p-1", 12345, "usd", "succeeded", "re-1", settled_at=at)
    notice = RefundNotice("evt-1", "F-1/p-1", "succeeded", at, "re-1", amount=12345, currency="USD")
    told = receipt.command()

    assert told == notice.command()
    assert told.model_dump(exclude_none=True, exclude={"command_id"}) == {
        "command": "record_refund_result",
        "actor": {"role": "payments", "id": "gateway"},
        "refund_id": "F-1",
        "payment_id": "p-1",
        "result": "succeeded",
        "amount": "123.45",
        "currency": "USD",
        "settled_at": "2026-03-16T12:00:00Z",
        "reference": "re-1",
    }
    assert told.command_id == f"record_refund_result/F-1/p-1/{told.digest}"
    others = [
        replace(receipt, amount=12344),
        replace(receipt, currency="EUR"),
        replace(receipt, settled_at=at + timedelta(seconds=1)),
        replace(receipt, reference="re-2"),
        replace(receipt, result="failed"),
        replace(receipt, result="failed", reason="closed"),
    ]
    assert len({each.command().command_id for each in (receipt, *others)}) == 7
    assert replace(receipt, amount=500, currency="JPY").command().model_dump()["amount"] == "500"
    without = RefundNotice("evt-1", "F-1/p-1", "failed", at).command().model_dump(exclude_none=True)
    assert not {"amount", "currency", "reference"} & set(without)
    with pytest.raises(ValueError, match="an amount and its currency are given together"):
        RefundNotice("evt-1", "F-1/p-1", "failed", at, amount=1).command()


def test_the_same_answer_by_call_and_by_notice_is_recorded_once_even_if_one_knows_less(shop: Shop) -> None:
    receipt = RefundReceipt("F-1/p-1", "p-1", 40000, "USD", "succeeded", "re-1")
    shop.desk.handle(receipt.command())
    before = shop.desk.services.store.head()

    at = shop.clock.now
    shop.desk.handle(RefundNotice("evt-1", "F-1/p-1", "succeeded", at, "re-1").command())
    shop.desk.handle(replace(receipt, settled_at=at).command())

    assert shop.desk.services.store.head() == before


def test_an_answer_over_nothing_settles_nothing(shop: Shop) -> None:
    shop.desk.handle(RefundReceipt("F-1/p-1", "p-1", 0, "USD", "succeeded", "re-1").command())

    (tender, _) = shop.desk.refund(refund_id="F-1").tenders
    assert (tender.status, tender.settled) == ("requested", "0.00")


def test_an_answer_in_another_currency_settles_nothing_and_is_an_exception(shop: Shop) -> None:
    shop.desk.handle(RefundReceipt("F-1/p-1", "p-1", 40000, "EUR", "succeeded", "re-1").command())

    assert shop.desk.refund(refund_id="F-1").tenders[0].settled == "0.00"
    assert shop.exceptions() == (
        "refund F-1 is in USD, but the answer for payment p-1 is about 400.00 EUR: the tender is as before",
    )


# ---- every notice, in any order --------------------------------------------------------------------------------------

ANSWERS = st.one_of(
    st.just(lambda script: script.succeeds()),
    st.just(lambda script: script.times_out_after_charging()),
    st.just(lambda script: script.is_refused("the card is closed")),
    st.just(lambda script: script.answers_after(hours=30)),
    st.just(lambda script: script.fails_after("the account is closed", hours=30)),
    st.just(lambda script: script.comes_back_after("the account is closed", hours=30)),
    st.just(lambda script: script.fails_and_succeeds_after("try again", hours=30)),
    st.sampled_from(["0.01", "399.99", "400.00", "400.01", "700.00"]).map(
        lambda amount: lambda script: script.pays(amount)
    ),
    st.sampled_from(["0.01", "199.99", "500.00"]).map(
        lambda amount: lambda script: script.pays_in_parts(amount, hours=30)
    ),
)
ELSEWHERE = st.sampled_from(["goodwill", "dispute", "won dispute", "lost dispute", "sent back"])


def something_elsewhere(shop: Shop, what: str) -> None:
    """Money moves at the gateway, and the desk did not ask for it."""
    if "dispute" not in what:
        reference = shop.gateway.pays_back("p-1", "10.00", kind="goodwill")
    else:
        reference = shop.gateway.opens_dispute("p-2", "50.00")
    if what in ("won dispute", "sent back"):
        shop.clock.advance(minutes=7)
        shop.gateway.comes_back(reference)
    elif what == "lost dispute":
        shop.clock.advance(minutes=7)
        shop.gateway.loses_dispute(reference)


@settings(max_examples=150, deadline=None)
@given(
    answers=st.lists(ANSWERS, min_size=2, max_size=4),
    elsewhere=st.lists(ELSEWHERE, max_size=2),
    rounds=st.integers(1, 3),
    calls=st.booleans(),
    early=st.booleans(),
    data=st.data(),
)
def test_every_notice_in_any_order_and_any_number_leaves_no_difference(
    answers: list[Callable[[NextRefund], None]],
    elsewhere: list[str],
    rounds: int,
    calls: bool,
    early: bool,
    data: st.DataObject,
) -> None:
    shop = a_shop()
    a_unit_comes_back(shop, 1)
    for answer in answers:
        answer(shop.gateway.next_refund())
    waiting: list[Notice] = []
    for number in range(1, rounds + 1):
        if ("request_refund", "R-1") in work(shop):
            shop.desk.request_refund(refund_id=f"F-{number}", return_id="R-1")
        (RefundWorker if calls else ForgetfulWorker)(shop.desk, shop.gateway).run()
        for what in elsewhere[number - 1 : number]:
            with suppress(ValueError):  # nothing is left of the payment
                something_elsewhere(shop, what)
        shop.clock.advance(hours=data.draw(st.sampled_from([31, 1]), label="hours"))
        waiting += shop.gateway.webhooks()
        if early and waiting:
            hear(shop.desk, data.draw(st.sampled_from(waiting), label="early"))
    shop.clock.advance(hours=31)
    waiting += shop.gateway.webhooks()
    for notice in data.draw(st.permutations(waiting + waiting[::2]), label="all"):
        hear(shop.desk, notice)
    RefundWorker(shop.desk, shop.gateway).run()  # what was refused has no notice

    shop.webhooks_come()
    assert shop.agrees(), (shop.gateway.differences(shop.desk.ledger()), shop.world.timeline())
    gone = sum(float(shop.gateway.refunded(payment_id)) for payment_id in ("p-1", "p-2"))
    owed = ("request_refund", "R-1") in work(shop) or list(shop.desk.refunds(status="requested"))
    assert gone >= 600 or owed, shop.world.timeline()
    if any(float(entry.remaining) < 0 for entry in shop.desk.ledger()):
        assert shop.exceptions()


# ---- parcels ---------------------------------------------------------------------------------------------------------


def label_worker(desk: Desk, carrier: Carrier, return_id: str) -> LabelBought:
    """Buys a label for a return as a host would, and tells the desk."""
    key = f"{return_id}/label"
    label = carrier.find(key) or carrier.buy_label(key=key, return_id=return_id)
    desk.handle(label.command())
    return label


@pytest.fixture
def labelled() -> Iterator[tuple[Shop, LabelBought]]:
    """A return on the usual order, with a label bought on Monday morning: it voids at the end of Wednesday."""
    shop = a_shop()
    shop.happens(an_order(delivered="2026-03-05"), request_return(at="2026-03-09 10:00"))
    with shop.desk:
        yield shop, label_worker(shop.desk, shop.world.carrier, "R-1")


def test_a_late_scan_dated_before_the_labels_deadline_counts_as_in_time(labelled: tuple[Shop, LabelBought]) -> None:
    shop, label = labelled
    shop.world.carrier.scans_arrive_late(by=timedelta(days=2))
    shop.clock.move_to("2026-03-11 23:59")
    shop.world.carrier.accepts(label.tracking_number)
    shop.clock.move_to("2026-03-12 00:00")
    shop.desk.run_deadlines()
    voided = shop.desk.return_(return_id="R-1").labels[0].status

    shop.clock.move_to("2026-03-13 23:59")
    (scan,) = shop.world.due()
    assert isinstance(scan, Scan)
    shop.desk.handle(scan.hand_over(return_id="R-1", label_id=label.label_id))
    taken_in = shop.desk.receive_return(return_id="R-1")

    view = shop.desk.return_(return_id="R-1")
    assert voided == "void"
    assert taken_in.accepted
    assert (view.late, view.shipped_at) == (False, "2026-03-11T23:59:00-04:00")
    shop.world.verify()


def test_a_scan_of_the_next_day_is_late(labelled: tuple[Shop, LabelBought]) -> None:
    shop, label = labelled
    shop.clock.move_to("2026-03-12 00:00")
    shop.world.carrier.accepts(label.tracking_number)

    (scan,) = shop.world.carrier.scans()
    shop.desk.handle(scan.hand_over(return_id="R-1", label_id=label.label_id))

    assert shop.desk.return_(return_id="R-1").late


def test_a_lost_parcel_is_found_out_and_closes_without_refund(labelled: tuple[Shop, LabelBought]) -> None:
    shop, label = labelled
    shop.world.carrier.loses(label.tracking_number)
    shop.world.carrier.accepts(label.tracking_number)
    shop.world.carrier.delivers(label.tracking_number)
    (taken,) = shop.world.carrier.scans()
    shop.desk.handle(taken.hand_over(return_id="R-1", label_id=label.label_id))

    found_out = shop.world.next_due()
    assert found_out is not None
    assert found_out - taken.occurred_at == timedelta(days=10)
    shop.clock.move_to(found_out)
    (lost,) = shop.world.carrier.scans()
    shop.desk.handle(lost.loss(return_id="R-1"))
    shop.desk.handle(lost.loss(return_id="R-1"))

    assert lost.kind == "lost"
    assert shop.desk.return_(return_id="R-1").status == "lost"
    shop.world.verify()


def test_a_scan_told_twice_is_recorded_once_and_dates_the_delivery() -> None:
    shop = a_shop()
    shop.happens(an_order(shipped="2026-03-03"))
    shop.world.carrier.scans_arrive_late(by=timedelta(hours=5))
    shop.clock.move_to("2026-03-05 14:00")
    shop.world.carrier.delivers("T-P-1", at=shop.clock.now - timedelta(hours=1))
    shop.clock.advance(hours=4)

    (scan,) = shop.world.carrier.scans()
    outcomes = [shop.desk.handle(scan.delivery(order_id="A-1", parcel_id="P-1")) for _ in range(2)]

    assert [outcome.replayed for outcome in outcomes] == [False, True]
    assert shop.desk.order(order_id="A-1").parcels[0].delivered_at == "2026-03-05T13:00:00-05:00"
    assert scan.reported_at - scan.occurred_at == timedelta(hours=5)


def test_a_scan_makes_only_the_command_it_tells_of(clock: Clock) -> None:
    carrier = FakeCarrier(clock)
    carrier.scan("T-1", "in_transit")
    (scan,) = carrier.scans()

    with pytest.raises(ValueError, match="says in_transit, not delivered"):
        scan.delivery(order_id="A-1", parcel_id="P-1")
    with pytest.raises(ValueError, match="says in_transit, not accepted"):
        scan.hand_over(return_id="R-1")
    with pytest.raises(ValueError, match="says in_transit, not lost"):
        scan.loss(return_id="R-1")
    with pytest.raises(ValueError, match="cannot be scanned"):
        carrier.delivers("T-1", at=clock.now + timedelta(seconds=1))


def test_outbound_parcels_are_lost_or_come_back_to_the_sender() -> None:
    shop = a_shop()
    shop.happens(
        confirm_order(quantity=2, at="2026-03-02 10:00"),
        record_shipment(units=1, at="2026-03-03 10:00"),
        record_shipment("P-2", at="2026-03-03 10:00"),
    )
    shop.world.carrier.brings_back("T-P-2")
    shop.world.carrier.scan("T-P-1", "lost")

    back, lost = shop.world.carrier.scans()
    shop.desk.handle(back.way_back(order_id="A-1", parcel_id="P-2"))
    shop.desk.handle(lost.loss(order_id="A-1", parcel_id="P-1"))

    parcels = shop.desk.order(order_id="A-1").parcels
    assert {parcel.parcel_id: parcel.status for parcel in parcels} == {"P-1": "lost", "P-2": "returned_to_sender"}
    with pytest.raises(ValueError, match="says lost, not returned"):
        lost.way_back(order_id="A-1", parcel_id="P-1")


def test_the_carrier_delivers_a_parcel_that_nobody_announced(labelled: tuple[Shop, LabelBought]) -> None:
    shop, label = labelled
    shop.world.carrier.delivers(label.tracking_number)

    (scan,) = shop.world.carrier.scans()
    outcomes = [shop.desk.handle(scan.arrival(arrival_id="D-1")) for _ in range(2)]

    assert [outcome.replayed for outcome in outcomes] == [False, True]
    assert [each.id for each in shop.desk.arrival(arrival_id="D-1").candidates] == ["R-1"]
    assert shop.desk.assign_arrival(arrival_id="D-1", return_id="R-1").accepted


def test_a_label_for_a_claim_and_one_for_each_box() -> None:
    shop = a_shop()
    shop.happens(an_order(quantity=2, delivered="2026-03-05"), request_return(2, at="2026-03-09 10:00"), a_claim())
    carrier = shop.world.carrier
    boxes = [carrier.buy_label(key=f"k-{box}", return_id="R-1", box_id=box) for box in ("1", "2")]
    of_claim = carrier.buy_label(key="k-3", claim_id="C-1")

    for label in (*boxes, of_claim):
        shop.desk.handle(label.command())
    carrier.accepts(boxes[1].tracking_number)
    carrier.accepts(of_claim.tracking_number)
    box, wrong_item = carrier.scans()
    shop.desk.handle(box.hand_over(return_id="R-1", box_id="2", label_id=boxes[1].label_id))
    shop.desk.handle(wrong_item.hand_over(claim_id="C-1", label_id=of_claim.label_id))

    assert shop.desk.return_(return_id="R-1").status == "in_transit"
    assert shop.desk.claim(claim_id="C-1").shipped_at is not None
    with pytest.raises(KeyReused, match="box 1 of return R-1, now for claim C-1"):
        carrier.buy_label(key="k-1", claim_id="C-1")
    with pytest.raises(ValueError, match="name one of them"):
        carrier.buy_label(key="k-9")


@pytest.mark.parametrize("charged", [True, False])
def test_a_label_whose_answer_is_lost_is_bought_once(charged: bool) -> None:
    shop = a_shop()
    shop.happens(an_order(delivered="2026-03-05"), request_return(at="2026-03-09 10:00"))
    script = shop.world.carrier.next_label()
    if charged:
        script.times_out_after_buying()
    else:
        script.times_out_before_buying()

    with pytest.raises(CarrierTimeout):
        label_worker(shop.desk, shop.world.carrier, "R-1")
    label_worker(shop.desk, shop.world.carrier, "R-1")
    label_worker(shop.desk, shop.world.carrier, "R-1")

    assert [label.label_id for label in shop.world.carrier.labels("R-1")] == ["L-1"]
    assert [label.label_id for label in shop.desk.return_(return_id="R-1").labels] == ["L-1"]


def test_the_carrier_keeps_its_port(clock: Clock) -> None:
    carrier = FakeCarrier(clock, name="ups")
    carrier.next_label(of="R-9").is_refused("we do not go there")
    first = carrier.buy_label(key="k-1", return_id="R-1")

    assert carrier.buy_label(key="k-1", return_id="R-1") == first
    with pytest.raises(KeyReused, match="return R-1, now for return R-2"):
        carrier.buy_label(key="k-1", return_id="R-2")
    with pytest.raises(CarrierRefused, match="we do not go there"):
        carrier.buy_label(key="k-9", return_id="R-9")
    assert carrier.find("k-9") is None
    carrier.void_label("L-1")
    carrier.void_label("L-1")
    assert carrier.labels() == ()
    second = carrier.buy_label(key="k-2", return_id="R-1")
    carrier.accepts(second.tracking_number)
    for label_id, reason in (("L-7", "there is no such label"), (second.label_id, "a parcel was scanned on it")):
        with pytest.raises(CarrierRefused, match=reason):
            carrier.void_label(label_id)
    carrier.verify()


# ---- mails -----------------------------------------------------------------------------------------------------------


def test_a_mail_that_arrived_in_time_cancels_however_late_it_is_read() -> None:
    shop = a_shop()
    shop.gateway.captures("p-1", "750.00")
    shop.happens(an_order(confirmed="2026-03-02 10:00"))
    shop.world.mailbox.delays(by=timedelta(hours=6))
    shop.clock.move_to("2026-03-02 12:00")
    shop.world.mailbox.receives("kim@example.org", "Please cancel A-1")
    too_early = shop.world.due()

    shop.clock.advance(hours=6)
    (mail,) = shop.world.due()
    assert isinstance(mail, Mail)
    outcome = shop.desk.handle(mail.cancellation(order_id="A-1", order_reference="A-1"))
    shop.happens(request_refund(order_id="A-1"))
    RefundWorker(shop.desk, shop.gateway).run()

    assert too_early == []
    assert outcome.accepted
    assert shop.gateway.refunded("p-1") == "750.00"
    assert shop.agrees()
    shop.world.verify()


def test_a_mail_that_arrived_too_late_does_not_cancel_and_one_read_twice_asks_once() -> None:
    shop = a_shop()
    shop.happens(an_order(confirmed="2026-03-02 10:00"))
    shop.clock.move_to("2026-03-02 12:01")
    shop.world.mailbox.receives("kim@example.org", "Please cancel", attachments=["order.pdf"])

    (mail,) = shop.world.mailbox.mails()
    outcomes = [shop.desk.handle(mail.cancellation(order_id="A-1", order_copy=True)) for _ in range(2)]

    assert [outcome.failed for outcome in outcomes] == [("cancellation.window",)] * 2
    assert [outcome.replayed for outcome in outcomes] == [False, True]


def test_a_mail_reports_the_wrong_item_as_of_its_arrival() -> None:
    shop = a_shop()
    shop.happens(an_order(delivered="2026-03-05"))
    shop.clock.move_to("2026-03-16 23:59")
    shop.world.mailbox.receives("kim@example.org", "Wrong bag", attachments=["order.pdf", "bag.jpg"])
    shop.clock.move_to("2026-03-18 09:00")

    (mail,) = shop.world.mailbox.mails()
    evidence: tuple[str, ...] = ("order_confirmation", "item_picture")
    outcome = shop.desk.handle(mail.wrong_item(claim_id="C-1", order_id="A-1", line_id="1", evidence=evidence))  # type: ignore[arg-type]

    assert outcome.accepted
    assert shop.desk.claim(claim_id="C-1").reported_at == "2026-03-16T23:59:00-04:00"


@pytest.mark.parametrize("went_out", [True, False])
def test_a_notice_whose_answer_is_lost_reaches_the_customer_once(clock: Clock, went_out: bool) -> None:
    mailbox = FakeMailbox(clock)
    script = mailbox.next_mail("kim@example.org")
    if went_out:
        script.times_out_after_sending()
    else:
        script.times_out_before_sending()

    def notify(mailbox: Mailbox) -> None:
        notice = {"to": "kim@example.org", "subject": "Cancelled", "body": "We have cancelled A-1."}
        if mailbox.find("A-1/notice") is None:
            mailbox.send(key="A-1/notice", **notice)

    with pytest.raises(MailTimeout):
        notify(mailbox)
    notify(mailbox)

    assert [mail.subject for mail in mailbox.sent("kim@example.org")] == ["Cancelled"]
    mailbox.verify()


def test_the_mailbox_keeps_its_port(clock: Clock) -> None:
    mailbox = FakeMailbox(clock)
    mailbox.bounces("gone@example.org")
    first = mailbox.send(key="k-1", to="kim@example.org", subject="Hello", body="…")

    assert mailbox.send(key="k-1", to="kim@example.org", subject="Hello", body="…") == first
    with pytest.raises(KeyReused):
        mailbox.send(key="k-1", to="kim@example.org", subject="Hello", body="Another.")
    with pytest.raises(MailRefused, match="there is no such mailbox"):
        mailbox.send(key="k-2", to="gone@example.org", subject="Hello", body="…")
    with pytest.raises(ValueError, match="cannot have arrived"):
        mailbox.receives("kim@example.org", "Hello", at=clock.now + timedelta(seconds=1))
    assert mailbox.sent() == (first,)
    assert mailbox.calls[-1] == "send k-2 to gone@example.org: refused, there is no such mailbox"


# ---- all of it -------------------------------------------------------------------------------------------------------


def test_all_that_comes_in_comes_in_order_and_the_timeline_tells_it(clock: Clock) -> None:
    world = FakeWorld(clock)
    world.gateway.captures("p-1", "100.00")
    world.gateway.next_refund().answers_after(hours=2)
    world.mailbox.delays(by=timedelta(hours=1))
    pay(world.gateway)
    world.mailbox.receives("kim@example.org", "Where is my money?")
    world.carrier.accepts("T-1")

    clock.advance(hours=2)
    came = world.due()

    assert world.next_due() is None
    assert [type(each) for each in came] == [Scan, Mail, RefundNotice]
    assert world.timeline("America/New_York") == (
        "Mon 2026-03-02 10:00 EST  gateway  captured 100.00 USD from p-1\n"
        "Mon 2026-03-02 10:00 EST  gateway  refund F-1/p-1 of 60.00 USD to p-1: pending, re-1\n"
        "Mon 2026-03-02 10:00 EST  mailbox  mail-1 arrives from kim@example.org: 'Where is my money?'\n"
        "Mon 2026-03-02 10:00 EST  carrier  scan scan-1: T-1 accepted\n"
        "Mon 2026-03-02 12:00 EST  gateway  refund F-1/p-1 of 60.00 USD to p-1: succeeded, re-1\n"
        "Mon 2026-03-02 12:00 EST  gateway  webhook evt-1: F-1/p-1 succeeded\n"
        "Mon 2026-03-02 12:00 EST  carrier  scan scan-1 is reported: T-1 accepted\n"
        "Mon 2026-03-02 12:00 EST  mailbox  mail-1 is read"
    )


@given(st.integers(0, 1_000_000))
def test_in_trouble_scans_and_mails_come_late_or_twice_but_never_not_at_all(seed: int) -> None:
    clock = Clock()
    world = FakeWorld(clock, seed=seed, trouble=0.5)
    for number in range(5):
        world.carrier.accepts(f"T-{number}")
        world.mailbox.receives("kim@example.org", f"Mail {number}")
        for call in (
            lambda number=number: world.carrier.buy_label(key=f"k-{number}", return_id="R-1"),
            lambda number=number: world.mailbox.send(key=f"k-{number}", to="a@example.org", subject="s", body="b"),
        ):
            until_answered(call)

    came = world.due()
    while (ahead := world.next_due()) is not None:
        clock.move_to(ahead)
        came += world.due()

    assert {each.tracking_number for each in came if isinstance(each, Scan)} == {f"T-{n}" for n in range(5)}
    assert {each.subject for each in came if isinstance(each, Mail)} == {f"Mail {n}" for n in range(5)}
    assert len(world.carrier.labels()) == len(world.mailbox.sent()) == 5


def until_answered(call: Callable[[], object]) -> None:
    for _ in range(50):
        try:
            call()
        except OutcomeUnknown:
            continue
        return
    raise AssertionError("it never answered")


# ---- what is told to the desk ----------------------------------------------------------------------------------------

ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=128).filter(
    lambda text: why_refused(text, NOT_IN_ID) is None
)


@given(ids, ids)
def test_a_key_leads_back_to_its_refund_and_payment_and_makes_a_command(refund_id: str, payment_id: str) -> None:
    key = refund_key(refund_id, payment_id)

    command = RefundReceipt(key, payment_id, 1, "USD", "failed", reason="no\tmore\n\n").command()

    assert tender_of(key) == (refund_id, payment_id)
    assert (command.refund_id, command.payment_id, command.reason) == (refund_id, payment_id, "no more")  # type: ignore[attr-defined]
    assert command.command_id


@pytest.mark.parametrize("key", ["F-1", "F-1/p-1/2", "%/p", ""])
def test_any_other_key_is_told(key: str) -> None:
    with pytest.raises(ValueError, match="is not a key of a refund"):
        RefundNotice("evt-1", key, "succeeded", datetime(2026, 3, 2, tzinfo=UTC)).command()


def test_a_pending_refund_is_no_result_and_what_is_malformed_is_an_error() -> None:
    with pytest.raises(ValueError, match="is pending"):
        RefundReceipt("F-1/p-1", "p-1", 1, "USD", "pending").command()
    with pytest.raises(Impossible, match="requested_at: is naive"):
        Mail("m", "a@example.org", datetime(2026, 3, 2), "s").cancellation(order_id="A-1")
