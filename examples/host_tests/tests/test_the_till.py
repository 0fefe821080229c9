"""Money is refunded once, whatever the gateway does: with the fakes."""

import pytest
from boutique.till import Till

from returnable.testing import a_return, an_order, request_refund
from returnable.testing.fakes.payments import FakeGateway

INSPECTED = (an_order(price="150.00", delivered="2026-11-02"), a_return(inspected="2026-11-09"))


@pytest.fixture
def gateway(clock):
    gateway = FakeGateway(clock)
    gateway.captures("p-1", "150.00")
    return gateway


@pytest.fixture
def till(desk, gateway, scenario):
    scenario.given(*INSPECTED, request_refund())
    return Till(desk, gateway)


def test_the_fee_for_the_label_is_kept(till, gateway, scenario):
    till.work()

    assert gateway.refunded("p-1") == "142.00"
    scenario.then_view("refund/F-1", status="refunded", total="142.00")


def test_a_time_out_after_charging_is_not_paid_twice(till, gateway, scenario, clock):
    gateway.next_refund().times_out_after_charging()

    till.work()
    scenario.then_view("refund/F-1", status="requested")
    clock.advance(hours=1)
    till.work()

    assert gateway.refunded("p-1") == "142.00"
    scenario.then_view("refund/F-1", status="refunded")


def test_a_time_out_before_charging_is_tried_again(till, gateway, clock):
    gateway.next_refund().times_out_before_charging()

    till.work()
    clock.advance(hours=1)
    till.work()

    assert gateway.refunded("p-1") == "142.00"


def test_a_refusal_is_on_record_and_can_be_followed_by_another_try(till, gateway, scenario):
    gateway.next_refund().is_refused("The card is closed.")

    till.work()
    scenario.then_view("refund/F-1", status="failed")
    scenario.when(request_refund("F-2")).then("RefundRequested")
    till.work()

    assert gateway.refunded("p-1") == "142.00"


def test_a_webhook_that_comes_twice_is_recorded_once(till, gateway, desk, clock):
    gateway.webhooks_are_duplicated()
    gateway.next_refund().answers_after(hours=3)
    till.work()
    clock.advance(hours=4)

    before = len(desk.audit(stream="return/R-1").entries)
    notices = gateway.webhooks()
    for notice in notices:
        till.hear(notice)

    assert [notice.event_id for notice in notices] == ["evt-1", "evt-1"]
    assert len(desk.audit(stream="return/R-1").entries) == before + 2  # RefundSettled, Refunded
    assert desk.refund(refund_id="F-1").status == "refunded"


def test_less_than_was_asked_for_leaves_the_rest_on_the_worklist(till, gateway, scenario, desk):
    gateway.next_refund().pays("100.00")

    till.work()

    scenario.then_view("refund/F-1", status="requested", tenders=[{"amount": "142.00", "settled": "100.00"}])
    scenario.then_view("worklist", items=[{"kind": "refund_short"}])
    assert not gateway.differences(desk.ledger())


def test_money_that_the_bank_sends_back_is_paid_again(till, gateway, scenario, desk, clock):
    gateway.next_refund().comes_back_after("The account is closed.", days=5)
    till.work()
    clock.advance_days(5)

    for notice in gateway.webhooks():
        till.hear(notice)
    scenario.then_view("refund/F-1", status="failed")
    scenario.when(request_refund("F-2")).then("RefundRequested")
    till.work()

    assert gateway.refunded("p-1") == "142.00"
    assert not gateway.differences(desk.ledger())


def test_what_was_paid_in_the_gateways_own_pages_is_in_the_books(till, gateway, desk):
    till.work()
    gateway.pays_back("p-1", "5.00", kind="goodwill")

    for notice in gateway.webhooks():
        till.hear(notice)

    assert [entry.refunded for entry in desk.ledger()] == ["147.00"]
    assert not gateway.differences(desk.ledger())
