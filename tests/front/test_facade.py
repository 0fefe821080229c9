"""The desk as a host service holds it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from freezegun import freeze_time
from usual import an_authorized_return, an_inspected_return

import returnable
from returnable import Desk, facade
from returnable.domain.commands import COMMANDS, QUESTIONS, LineQuantity, ReturnedLine
from returnable.domain.errors import Impossible
from returnable.testing import (
    an_order,
    confirm_order,
    declined,
    given,
    report_wrong_item,
    request_cancellation,
    request_refund,
)

MONDAY = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)


@pytest.mark.parametrize("name", [*COMMANDS, *QUESTIONS])
def test_every_command_and_question_has_a_method_with_its_fields(name: str) -> None:
    model = COMMANDS.get(name) or QUESTIONS[name]
    method = getattr(facade.Desk, "return_" if name == "return" else name)

    parameters = inspect.signature(method).parameters

    fields = {field: info for field, info in model.model_fields.items() if field not in ("command", "query")}
    # When to record deadlines is not in the command: it is the instant of the call.
    assert set(parameters) - {"self"} - ({"now"} if name == "run_deadlines" else set()) == set(fields)
    for field, info in fields.items():
        assert (parameters[field].default is inspect.Parameter.empty) == info.is_required(), field
    assert method.__doc__


def test_the_clock_is_the_systems_and_freezegun_stops_it_with_nothing_to_configure() -> None:
    with freeze_time("2026-03-02T15:00:00Z") as clock, returnable.open("memory:") as desk:
        desk.confirm_order(**confirm_order().arguments)
        clock.tick(timedelta(hours=2))
        in_time = desk.eligibility(order_id="A-1").cancellation.allowed
        clock.tick(timedelta(seconds=1))
        too_late = desk.request_cancellation(order_id="A-1", channel="email", order_reference="A-1")

    assert in_time
    assert not too_late.accepted
    assert too_late.failed == ("cancellation.window",)
    assert too_late.ruling is not None
    assert too_late.ruling.clauses[0].because.startswith("The request arrived at Mon 2026-03-02 12:00:01 EST; too late")


def test_a_library_first_imported_while_time_is_frozen_works_all_the_same() -> None:
    code = (
        "from freezegun import freeze_time\n"
        "with freeze_time('2026-03-02T15:00:00Z'):\n"
        "    import returnable\n"
        "    desk = returnable.open('memory:')\n"
        "    desk.confirm_order(order_id='A', customer={'customer_id': 'c', 'account_id': None}, currency='USD',\n"
        "        lines=[{'line_id': '1', 'sku': 's', 'unit_price': '1.00', 'quantity': 1}],\n"
        "        payments=[{'payment_id': 'p', 'method': 'card', 'amount': '1.00'}])\n"
        "print(desk.order(order_id='A').confirmed_at)\n"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "2026-03-02T10:00:00-05:00"


def test_a_clock_of_the_hosts_own_can_be_injected(tmp_path: Path) -> None:
    now = MONDAY
    with returnable.open(f"sqlite:///{tmp_path}/shop.db", clock=lambda: now) as desk:
        outcome = desk.confirm_order(**confirm_order().arguments)
        now += timedelta(hours=3)

        view = desk.order(order_id="A-1")

    assert outcome.at == MONDAY
    assert view.cancel_by == "2026-03-02T12:00:00-05:00"


def test_a_naive_clock_is_refused() -> None:
    with returnable.open("memory:", clock=lambda: datetime(2026, 3, 2)) as desk, pytest.raises(Impossible) as caught:
        desk.run_deadlines()

    assert (caught.value.code, caught.value.field) == ("command.invalid", "at")


def test_models_mappings_datetimes_and_decimals_are_all_understood() -> None:
    with returnable.open("memory:", clock=lambda: MONDAY + timedelta(days=9)) as desk:
        order = confirm_order(confirmed_at=MONDAY).arguments
        order["lines"][0]["unit_price"] = Decimal("750.00")
        desk.confirm_order(**order)
        desk.record_shipment(
            order_id="A-1",
            parcel_id="P-1",
            carrier="fedex",
            tracking_number="T",
            lines=[LineQuantity(line_id="1", quantity=1)],
            shipped_at="2026-03-03T09:00:00-05:00",
        )
        desk.record_delivery(order_id="A-1", parcel_id="P-1", delivered_at=MONDAY + timedelta(days=3))

        outcome = desk.request_return(
            return_id="R-1", order_id="A-1", lines=[ReturnedLine(line_id="1", quantity=1)], channel="portal"
        )

    assert outcome.accepted
    assert [event.type for event in outcome.events] == ["ReturnRequested", "ReturnAuthorized"]


def test_what_is_impossible_raises_one_specific_error_and_records_nothing(desk: Desk) -> None:
    desk.confirm_order(**confirm_order().arguments)

    with pytest.raises(Impossible) as caught:
        desk.correct_delivery(order_id="A-1", parcel_id="nope", reason="Wrong.")

    assert (caught.value.code, caught.value.field) == ("parcel.unknown", "parcel_id")
    assert len(desk.audit(stream="order/A-1").entries) == 1


@pytest.mark.at("2026-03-02 10:00")
def test_a_command_repeated_under_its_id_gives_the_stored_outcome_again(desk: Desk) -> None:
    first = desk.confirm_order(**confirm_order().arguments, command_id="cmd-1")
    again = desk.confirm_order(**confirm_order().arguments, command_id="cmd-1")

    assert (first.replayed, again.replayed) == (False, True)
    assert again.as_dict() == first.as_dict()


def test_threads_that_want_the_same_unit_have_one_winner(tmp_path: Path) -> None:
    with returnable.open(f"sqlite:///{tmp_path}/shop.db", clock=lambda: MONDAY + timedelta(days=4)) as desk:
        desk.confirm_order(**confirm_order().arguments, confirmed_at=MONDAY)
        desk.record_shipment(order_id="A-1", parcel_id="P", carrier="c", tracking_number="t")
        desk.record_delivery(order_id="A-1", parcel_id="P")
        results: list[str] = []

        def ask(number: int) -> None:
            try:
                line = {"line_id": "1", "quantity": 1}
                desk.request_return(return_id=f"R-{number}", order_id="A-1", lines=[line], channel="portal")
                results.append("accepted")
            except Impossible as error:
                results.append(error.code)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(results) == ["accepted"] + ["quantity.exceeded"] * 7


def test_importing_the_front_door_imports_nothing_heavy() -> None:
    code = "import sys, returnable; print(*sorted(m.split('.')[0] for m in sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "returnable" in loaded
    assert not {"pydantic", "statemachine", "eventsourcing", "click", "rich", "sqlite3", "freezegun"} & set(loaded)


def test_every_public_name_is_there_and_no_other() -> None:
    for name in returnable.__all__:
        assert getattr(returnable, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'dance'"):
        _ = returnable.dance  # type: ignore[attr-defined]


# ---- for auditors ------------------------------------------------------------------------------------------------------


def test_what_is_on_record_is_decided_again() -> None:
    desk = given(an_inspected_return()).desk

    assert desk.redecide() == ()
    assert desk.redecide("return/R-1") == ()


def test_history_is_told_again_under_a_candidate() -> None:
    desk = given(an_authorized_return()).desk

    refused = desk.what_if("allu-usa-earlier")
    kept = desk.what_if("allu-usa-earlier", subject="R-1", keep=["returns.portal"])

    assert [row.clause for row in refused.clauses] == ["returns.portal"]
    assert (kept.flipped, kept.cases) == (0, 1)


def test_an_auditor_asks_the_desk_why_what_happened_and_when_answers_flip() -> None:
    desk = given(an_inspected_return()).at("2026-03-16 11:00").desk

    why = desk.why("return/R-1", event=2)
    history = desk.replay("R-1", until=3)
    by_then = desk.replay("R-1", until="2026-03-10T16:00:00-04:00")
    edges = desk.edges("order/A-1", to_come=True)

    assert (why.type, why.clauses[0].clause) == ("ReturnAuthorized", "returns.final_sale")
    assert [step.type for step in history.steps] == ["ReturnRequested", "ReturnAuthorized", "LabelIssued"]
    assert [step.type for step in by_then.steps][-1] == "ReturnShipped"
    assert [(edge.clause, edge.at[:10]) for edge in edges.edges if edge.clause == "wrong_item.window"] == [
        ("wrong_item.window", "2026-03-17")
    ]


def test_a_report_is_made_of_a_subject() -> None:
    desk = given(an_authorized_return()).desk

    report = desk.report("return/R-1", known_at="2026-03-09T12:00:00-04:00")

    assert [event.type for event in report.events][-2:] == ["ReturnRequested", "ReturnAuthorized"]


def test_lists_look_back_as_single_questions_do() -> None:
    desk = given(
        an_authorized_return(quantity=2),
        declined(report_wrong_item(channel="phone", attachments=[])),
        an_order("A-2", confirmed="2026-03-09 12:00"),
        request_cancellation("A-2", order_reference="A-2"),
        request_refund(order_id="A-2"),
    ).desk
    then = "2026-03-04T12:00:00-05:00"

    assert [(order.order_id, order.status) for order in desk.orders()] == [("A-1", "delivered"), ("A-2", "cancelled")]
    assert [order.status for order in desk.orders(as_of=then)] == ["shipped"]
    assert list(desk.returns(known_at=then)) == []
    assert [ret.return_id for ret in desk.returns(status="authorized")] == ["R-1"]
    assert list(desk.returns()) == [desk.return_(return_id="R-1")]
    assert list(desk.claims()) == [desk.claim(claim_id="C-1")]
    assert list(desk.refunds(status="requested")) == [desk.refund(refund_id="F-1")]


def test_stored_views_are_brought_up_to_date_and_say_how_far_they_are_behind(tmp_path: Path) -> None:
    with returnable.open(f"sqlite:///{tmp_path}/shop.db", clock=lambda: MONDAY) as desk:
        desk.confirm_order(**confirm_order().arguments)
        before = desk.views_status()
        projected = desk.project()
        desk.confirm_order(**confirm_order("A-2").arguments)
        after = desk.views_status()

    assert before == ()
    assert {(status.view, status.behind) for status in projected} >= {
        ("orders", 0),
        ("ledger", 0),
        ("clauses", 0),
    }
    assert {status.behind for status in after} == {1}


def test_an_instant_that_is_none_names_its_parameter() -> None:
    story = given(an_order())

    with pytest.raises(Impossible) as error:
        story.desk.edges("A-1", as_of="yesterday")

    assert (error.value.code, error.value.field) == ("command.invalid", "as_of")


def test_the_ledger_adds_up_and_the_clauses_are_counted() -> None:
    desk = given(an_inspected_return(price="400.00"), request_refund()).desk

    (entry,) = desk.ledger(order_id="A-1")
    (before,) = desk.ledger(as_of="2026-03-05T12:00:00-05:00")
    fee = next(row for row in desk.statistics() if row.clause == "returns.label_fee")
    nothing = list(desk.statistics(until="2026-03-02T00:00:00-05:00"))

    assert (entry.captured, entry.refunded, entry.pending, entry.remaining) == ("400.00", "0.00", "380.00", "20.00")
    assert before.pending == "0.00"
    assert (fee.passed.decisions, fee.passed.amount) == (1, "20.00")
    assert nothing == []
