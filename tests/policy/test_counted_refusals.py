"""Identical refusals: the first twenty are recorded one by one, all further ones are counted in one event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres import fresh_store_url

import returnable
from returnable.adapters.cli.app import run
from returnable.adapters.scenario import play_fresh
from returnable.domain.errors import Impossible
from returnable.domain.events import RefusalsCounted
from returnable.domain.outcome import Outcome
from returnable.domain.policy import PolicyBook
from returnable.domain.refusals import RECORDED_SINGLY
from returnable.testing import a_policy

Fields = dict[str, Any]
Request = Callable[[int], Fields]
"""The ``n``-th attempt at a request, with a new id for what it would create."""

IN_TIME = datetime(2026, 3, 6, 15, 0, tzinfo=UTC)
LATE = datetime(2026, 5, 4, 15, 0, tzinfo=UTC)


class Shop:
    """A desk with one order, one return whose label is void, and one claim without evidence; the clock goes on by minutes."""

    def __init__(self, url: str) -> None:
        self.url, self.now = url, IN_TIME - timedelta(days=4)
        self.desk = returnable.open(url, clock=lambda: self.now)
        lines = [{"line_id": str(n), "sku": f"S-{n}", "unit_price": "100.00", "quantity": 2} for n in range(1, 4)]
        self.desk.confirm_order(
            order_id="A-1",
            currency="USD",
            customer={"customer_id": "c-1", "account_id": "acc-1"},
            lines=lines,
            payments=[{"payment_id": "p-1", "method": "card", "amount": "600.00"}],
        )
        self.desk.record_shipment(order_id="A-1", parcel_id="P-1", carrier="ups", tracking_number="T-1")
        self.now = IN_TIME - timedelta(hours=1)
        self.desk.record_delivery(order_id="A-1", parcel_id="P-1")
        self.now = IN_TIME
        self.ask(
            {"command": "request_return", "return_id": "R-0", "order_id": "A-1", "channel": "portal"} | of_line("1")
        )
        self.ask(label(0))
        self.ask(claim(0) | {"line_id": "2"})
        self.now = LATE

    def ask(self, fields: Fields) -> Outcome:
        self.now += timedelta(minutes=1)
        return self.desk.handle(fields)

    def ask_often(self, request: Request, times: int) -> list[Outcome]:
        return [self.ask(request(nth)) for nth in range(1, times + 1)]

    def of_type(self, name: str) -> list[Any]:
        return [entry.event for entry in self.desk.services.store.load("A-1") if entry.event.type == name]

    @property
    def events(self) -> int:
        return len(self.desk.services.store.load("A-1"))

    @property
    def counted(self) -> list[int]:
        """How often each counting event of the case counted, in order."""
        return [one.times for _, one in sorted(self.desk.services.store.refusals.of("A-1").items())]


def of_line(line_id: str, **more: Any) -> Fields:
    return {"lines": [{"line_id": line_id, "quantity": 1, **more}]}


def late_return(nth: int) -> Fields:
    return {"command": "request_return", "return_id": f"R-{nth}", "order_id": "A-1", "channel": "portal"} | of_line("3")


def cancellation(nth: int) -> Fields:
    return {"command": "request_cancellation", "order_id": "A-1", "channel": "email", "order_copy": True}


def label(nth: int) -> Fields:
    created = {"label_id": f"L-{nth}", "tracking_number": f"LT-{nth}"}
    return {"command": "issue_label", "return_id": "R-0", "carrier": "ups"} | created


def refund(nth: int) -> Fields:
    return {"command": "request_refund", "refund_id": f"F-{nth}", "return_id": "R-0"}


def claim(nth: int) -> Fields:
    fields = {"command": "report_wrong_item", "claim_id": f"C-{nth}", "order_id": "A-1", "line_id": "3"}
    return fields | {"channel": "email"}


def settlement(nth: int) -> Fields:
    return {"command": "resolve_claim", "claim_id": "C-0", "remedy": "refund"}


REQUESTS: list[Request] = [late_return, cancellation, label, refund, claim, settlement]


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop("memory:")
    yield shop
    shop.desk.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def any_shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    urls = {"memory": lambda: "memory:", "sqlite": lambda: f"sqlite:///{tmp_path}/s.db", "postgres": fresh_store_url}
    shop = Shop(urls[request.param]())
    yield shop
    shop.desk.close()


# ---- what is recorded, and what is answered ------------------------------------------------------------------------


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.__name__)
def test_from_the_twenty_first_on_one_event_stands_for_all_identical_refusals(shop: Shop, request_: Request) -> None:
    # given
    recorded = shop.ask_often(request_, RECORDED_SINGLY)
    before = shop.events

    # when
    further = shop.ask_often(lambda nth: request_(nth + RECORDED_SINGLY), 15)

    # then
    assert shop.events == before + 1
    assert shop.counted == [14]
    assert {outcome.outcome for outcome in (*recorded, *further)} == {"declined"}
    assert {outcome.failed for outcome in further} == {recorded[0].failed}
    assert {tuple(event.type for event in outcome.events) for outcome in further} == {("RefusalsCounted",)}
    assert all(event.type != "RefusalsCounted" for outcome in recorded for event in outcome.events)
    (event,) = shop.of_type("RefusalsCounted")
    assert event.command == request_(1)["command"]
    first = recorded[0].events[0]
    assert event.repeats == f"{first.stream}#{first.version}"
    assert shop.desk.redecide() == ()


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.__name__)
def test_a_counted_refusal_is_answered_with_its_own_full_ruling_also_when_it_is_repeated(
    any_shop: Shop, request_: Request
) -> None:
    # given
    shop = any_shop
    shop.ask_often(request_, RECORDED_SINGLY + 3)
    answers = [shop.ask(request_(100 + nth) | {"command_id": f"k-{nth}"}) for nth in range(3)]
    counted = shop.counted

    # when
    again = [shop.ask(request_(100 + nth) | {"command_id": f"k-{nth}"}) for nth in range(3)]

    # then
    assert [one.as_dict() for one in again] == [one.as_dict() for one in answers]
    assert all(one.replayed for one in again)
    assert all(one.ruling is not None and one.ruling.clauses for one in answers)
    assert shop.counted == counted == [5]


def test_a_counted_refusal_keeps_its_answer_after_the_case_moved_on(any_shop: Shop) -> None:
    # given
    shop = any_shop
    shop.ask_often(late_return, RECORDED_SINGLY + 1)
    answer = shop.ask(late_return(50) | {"command_id": "k-1"})
    overridden = {"subject": {"kind": "order", "id": "A-1"}, "clause": "returns.window"}
    shop.ask({"command": "override", "reason": "A good customer", "approved_by": "Ann"} | overridden)

    # when
    again = shop.ask(late_return(50) | {"command_id": "k-1"})
    fresh = shop.ask(late_return(51))

    # then
    assert again.as_dict() == answer.as_dict()
    assert fresh.accepted


def test_the_margin_in_the_ruling_is_that_of_the_refusal_and_not_of_the_event(shop: Shop) -> None:
    shop.ask_often(late_return, RECORDED_SINGLY + 1)

    one, other = shop.ask(late_return(30)), shop.ask(late_return(31))

    margins = [outcome.ruling.clauses[0].facts["margin_seconds"] for outcome in (one, other) if outcome.ruling]
    assert margins[0] - margins[1] == 60  # type: ignore[operator]


def test_another_body_under_the_id_of_a_counted_refusal_is_a_conflict(any_shop: Shop) -> None:
    shop = any_shop
    shop.ask_often(late_return, RECORDED_SINGLY + 1)
    shop.ask(late_return(30) | {"command_id": "k-1"})

    for other in (late_return(30) | of_line("2"), late_return(31), cancellation(1)):
        with pytest.raises(Impossible) as error:
            shop.ask(other | {"command_id": "k-1"})
        assert error.value.code == "command.conflict"
    assert shop.counted == [1]


# ---- what is identical -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"channel": "phone"},
        {"resolution": "exchange"},
        of_line("2"),
        {"lines": [{"line_id": "3", "quantity": 2}]},
        of_line("3", reason="too small"),
        {"actor": {"role": "care", "id": "kim"}},
    ],
    ids=["channel, another clause fails", "exchange, another clause fails", "line", "quantity", "reason", "actor"],
)
def test_a_request_that_differs_starts_a_count_of_its_own(shop: Shop, change: Fields) -> None:
    shop.ask_often(late_return, RECORDED_SINGLY + 5)

    others = shop.ask_often(lambda nth: late_return(100 + nth) | change, RECORDED_SINGLY + 3)

    assert [len(outcome.events) for outcome in others] == [2] * RECORDED_SINGLY + [1] * 3
    assert shop.counted == [4, 2]
    assert [event.repeats for event in shop.of_type("RefusalsCounted")] == ["return/R-1#1", "return/R-101#1"]


def test_the_same_request_that_fails_for_other_clauses_starts_a_count_of_its_own(shop: Shop) -> None:
    # given: an override leaves one of two clauses to fail
    shop.ask_often(lambda nth: late_return(nth) | {"channel": "phone"}, RECORDED_SINGLY + 2)
    shop.ask(
        {"command": "override", "subject": {"kind": "order", "id": "A-1"}, "clause": "returns.window"}
        | {"reason": "A good customer", "approved_by": "Ann"}
    )

    # when
    outcome = shop.ask(late_return(100) | {"channel": "phone"})

    # then
    assert [event.type for event in outcome.events] == ["ReturnRequested", "ReturnDeclined"]
    assert outcome.failed == ("returns.portal",)
    assert shop.counted == [1]


def test_times_and_command_ids_do_not_make_a_request_another_one(shop: Shop) -> None:
    asked = [
        shop.ask(late_return(nth) | {"command_id": f"k-{nth}", "requested_at": shop.now - timedelta(hours=nth)})
        for nth in range(1, RECORDED_SINGLY + 3)
    ]

    assert [len(outcome.events) for outcome in asked] == [2] * RECORDED_SINGLY + [1, 1]
    assert shop.desk.redecide() == ()


def test_an_accepted_request_is_never_counted(shop: Shop) -> None:
    shop.ask_often(refund, RECORDED_SINGLY + 5)
    shop.ask({"command": "record_return_shipment", "return_id": "R-0", "shipped_at": IN_TIME + timedelta(hours=1)})
    shop.ask({"command": "receive_return", "return_id": "R-0"})
    found = {"same_condition": True, "original_packaging": True, "tags_attached": True}
    shop.ask({"command": "inspect_return", "return_id": "R-0", "findings": [{"line_id": "1", "quantity": 1, **found}]})

    assert shop.ask(refund(99)).accepted


def test_an_incomplete_cancellation_that_came_before_all_others_is_recorded_and_counts_later(shop: Shop) -> None:
    # given: mails that do not say which order they mean, judged by the time of the first one
    story = Shop.__new__(Shop)
    story.now = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
    story.desk = returnable.open("memory:", clock=lambda: story.now)
    story.desk.confirm_order(
        order_id="A-1",
        currency="USD",
        customer={"customer_id": "c-1", "account_id": None},
        lines=[{"line_id": "1", "sku": "S", "unit_price": "1.00", "quantity": 1}],
        payments=[{"payment_id": "p", "method": "card", "amount": "1.00"}],
    )
    confirmed = story.now
    story.now += timedelta(hours=1)
    mail = {"command": "request_cancellation", "order_id": "A-1", "channel": "email"}
    story.ask_often(lambda _: mail, RECORDED_SINGLY + 5)

    # when: one is found that came before them
    earlier = story.ask(mail | {"requested_at": confirmed + timedelta(minutes=30)})
    complete = story.ask(mail | {"order_reference": "A-1"})

    # then
    assert [event.type for event in earlier.events] == ["CancellationRequested", "CancellationDeclined"]
    assert complete.accepted
    assert complete.ruling is not None
    first = complete.ruling.clauses[0].facts["first_incomplete_at"]
    assert datetime.fromisoformat(str(first)) == confirmed + timedelta(minutes=30)


def test_a_parcel_that_is_refused_at_the_dock_is_recorded_as_ever(shop: Shop) -> None:
    shop.ask({"command": "record_return_shipment", "return_id": "R-0", "label_id": "L-0"})

    outcome = shop.ask({"command": "receive_return", "return_id": "R-0"})

    assert (outcome.outcome, [event.type for event in outcome.events]) == ("declined", ["ParcelRejected"])


# ---- ids that a counted refusal does not take ------------------------------------------------------------------------


def test_no_return_comes_of_a_counted_refusal_and_its_id_stays_free(any_shop: Shop) -> None:
    # given
    shop = any_shop
    shop.ask_often(late_return, RECORDED_SINGLY + 2)

    # when
    with pytest.raises(Impossible) as unknown:
        shop.desk.ask({"query": "return", "return_id": f"R-{RECORDED_SINGLY + 1}"})
    shop.ask(
        {"command": "override", "subject": {"kind": "order", "id": "A-1"}, "clause": "returns.window"}
        | {"reason": "A good customer", "approved_by": "Ann"}
    )
    granted = shop.ask(late_return(RECORDED_SINGLY + 1))

    # then
    assert unknown.value.code == "return.unknown"
    assert granted.accepted


@pytest.mark.parametrize("further", [0, 3], ids=["the event is still to come", "the event is there"])
def test_an_id_that_another_order_has_is_refused_as_ever(any_shop: Shop, further: int) -> None:
    # given
    shop = any_shop
    shop.ask_often(late_return, RECORDED_SINGLY + further)
    shop.ask(
        {
            "command": "confirm_order",
            "order_id": "B-1",
            "currency": "USD",
            "customer": {"customer_id": "c-2", "account_id": "acc-2"},
            "lines": [{"line_id": "3", "sku": "S", "unit_price": "1.00", "quantity": 1}],
            "payments": [{"payment_id": "p", "method": "card", "amount": "1.00"}],
        }
    )
    shop.ask(late_return(77) | {"order_id": "B-1"})
    before = shop.events, shop.counted

    # when
    with pytest.raises(Impossible) as error:
        shop.ask(late_return(77))

    # then
    assert (error.value.code, error.value.field) == ("return.exists", "return_id")
    assert (shop.events, shop.counted) == before


# ---- what people see ----------------------------------------------------------------------------------------------------


def test_audit_and_report_say_how_often_and_when_the_last_time_was(any_shop: Shop) -> None:
    # given
    shop = any_shop
    times = 1234 if shop.url == "memory:" else 12
    shop.ask_often(late_return, RECORDED_SINGLY + 1)
    known_at = shop.now
    shop.ask_often(lambda nth: late_return(nth + 50), times)

    # when
    audit = shop.desk.audit(stream="order/A-1").entries[-1]
    then = shop.desk.audit(stream="order/A-1", known_at=known_at).entries[-1]
    (reported,) = [one for one in shop.desk.report("order/A-1").events if one.type == "RefusalsCounted"]

    # then
    assert audit.type == reported.type == then.type == "RefusalsCounted"
    assert audit.details["more_times"] == reported.details["more_times"] == times
    assert datetime.fromisoformat(str(audit.details["last_at"])) == shop.now
    assert f"and {times:,} more times, last on {shop.now:%a %Y-%m-%d}" in reported.title
    assert "more_times" not in then.details
    assert reported.outcome == "declined"


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.__name__)
def test_every_question_and_every_export_knows_the_event(
    request_: Request, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # given
    url = f"sqlite:///{tmp_path}/s.db"
    shop = Shop(url)
    shop.ask_often(request_, RECORDED_SINGLY + 4)
    (entry,) = [one for one in shop.desk.services.store.load("A-1") if isinstance(one.event, RefusalsCounted)]
    shop.desk.close()

    # when
    commands = [
        ["why", entry.event_id],
        ["replay", "order/A-1"],
        ["audit", entry.stream],
        ["report", "order/A-1", "-"],
        ["report", "order/A-1", "-", "--format", "text"],
        ["edges", "order/A-1"],
        ["redecide"],
        ["what-if", "--policy", "allu-usa-earlier"],
        ["statistics"],
        ["export", "-", "--format", "jsonl"],
        ["export", str(tmp_path / "case.scenario.jsonl"), "--format", "scenario"],
        ["record", "A-1", str(tmp_path / "redacted.scenario.jsonl")],
    ]
    said = {}
    for command in commands:
        status = run([*command, "--store", url])
        said[" ".join(command[:2])] = (status, capsys.readouterr())

    # then
    assert {name: status for name, (status, _) in said.items()} == dict.fromkeys(said, 0), said
    for name in ("case", "redacted"):
        content = (tmp_path / f"{name}.scenario.jsonl").read_bytes()
        assert not [played.mismatches for played in play_fresh(content, name, None) if played.mismatches]
        assert b"RefusalsCounted" in content


def test_statistics_and_what_if_take_the_event_for_one_more_decision(shop: Shop) -> None:
    shop.ask_often(late_return, RECORDED_SINGLY)
    (before,) = [row for row in shop.desk.statistics() if row.clause == "returns.window"]
    shop.ask_often(lambda nth: late_return(nth + 50), 10)

    (after,) = [row for row in shop.desk.statistics() if row.clause == "returns.window"]

    assert after.failed.decisions == before.failed.decisions + 1
    assert float(after.failed.amount) == float(before.failed.amount) + 100


def test_a_customer_who_is_refused_once_more_is_owed_a_notice_again(shop: Shop) -> None:
    shop.ask_often(cancellation, RECORDED_SINGLY)
    shop.ask({"command": "notify_customer", "subject": {"kind": "order", "id": "A-1"}, "notice": "No."})
    assert not shop.desk.worklist(kinds=["notify_customer"]).items

    shop.ask(cancellation(21))

    assert shop.desk.worklist(kinds=["notify_customer"]).items


def test_what_if_counts_what_the_candidate_refuses_identically(shop: Shop) -> None:
    # given: the same request failed two clauses at first and one later; under the candidate it fails one all the time
    shop.ask_often(lambda nth: late_return(nth) | {"channel": "phone"}, 15)
    shop.ask(
        {"command": "override", "subject": {"kind": "order", "id": "A-1"}, "clause": "returns.portal"}
        | {"reason": "The portal was down", "approved_by": "Ann"}
    )
    shop.ask_often(lambda nth: late_return(nth + 50) | {"channel": "phone"}, 15)
    candidate = a_policy({"returns.portal": {"channels": ["portal", "phone"]}})

    # when
    found = shop.desk.what_if(PolicyBook([candidate]), subject="order/A-1")

    # then
    assert not found.unreadable
    (returns,) = [row for row in found.commands if row.command == "request_return"]
    assert (returns.same, returns.accepted_to_declined, returns.declined_to_accepted) == (31, 0, 0)
