"""Given, when, then: what it accepts, what it refuses, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

import returnable
from returnable.adapters.scenario import play_file
from returnable.domain.commands import COMMANDS
from returnable.domain.errors import PolicyInvalid
from returnable.domain.events import Delivered
from returnable.testing import (
    Clock,
    Scenario,
    a_claim,
    a_policy,
    a_return,
    an_order,
    confirm_order,
    declined,
    event,
    given,
    impossible,
    inspect_return,
    issue_label,
    override,
    record_delivery,
    request_cancellation,
    request_return,
    run_deadlines,
    step,
    steps,
    withdraw_return,
)

DELIVERED = an_order(delivered="2026-03-05")


def message(action: Callable[[], object]) -> str:
    """What a failed expectation says."""
    with pytest.raises(AssertionError) as caught:
        action()
    return str(caught.value)


# ---- it holds --------------------------------------------------------------------------------------------------------


def test_a_story_reads_like_the_policy() -> None:
    (
        given(an_order(price="480.00", delivered="2026-03-05"), a_return(labelled="2026-03-09 12:00"))
        .then_view("return/R-1", status="labelled", labels=[{"status": "issued", "void_at": "2026-03-12"}])
        .at("2026-03-12")
        .when(run_deadlines())
        .then(event("LabelVoided", label_id="L-1", occurred_at="2026-03-12 00:00"))
        .when(issue_label("L-2"))
        .then("LabelDeclined")
        .then_declined("returns.ship_by")
        .when(override("returns.ship_by", "return/R-1"), issue_label("L-2"))
        .then("OverrideGranted", "LabelIssued")
        .then_accepted()
        .then_clause("returns.ship_by", "overridden")
    )


def test_later_is_said_in_calendar_days_business_days_and_hours() -> None:
    story = given(an_order(confirmed="2026-11-25 13:00"))

    assert str(story.after(hours=2).clock) == "Wed 2026-11-25 15:00 EST"
    assert str(story.after(days=1).clock) == "Thu 2026-11-26 15:00 EST"
    assert str(story.after(business_days=2, minutes=5).clock) == "Mon 2026-11-30 15:05 EST"


def test_a_call_into_the_code_under_test_is_what_happens_too() -> None:
    story = given(DELIVERED).at("2026-03-19")

    def portal() -> returnable.Outcome:
        return story.desk.request_return(
            return_id="R-1", order_id="A-1", lines=[{"line_id": "1", "quantity": 1}], channel="phone"
        )

    story.when(portal).then("ReturnRequested", "ReturnDeclined").then_declined("returns.portal")
    story.when(lambda: story.desk.withdraw_return(return_id="R-1")).then_error("transition.not_allowed")
    story.when(lambda: story.desk.run_deadlines()).then()


def test_a_call_that_says_no_outcome_is_judged_by_the_facts_it_left() -> None:
    story = given(DELIVERED).at("2026-03-20")

    def page() -> dict[str, str]:
        story.desk.handle(request_return().fields)
        return {"page": "Thank you."}

    story.when(page).then_declined("returns.window").then_clause("returns.window", "fail", deadline="2026-03-20")
    story.when(lambda: story.desk.handle(request_cancellation().fields) and None).then_declined()
    story.at("2026-03-10").when(lambda: story.desk.handle(request_return(return_id="R-2").fields) and 1).then_accepted()


def test_a_call_that_says_no_outcome_and_leaves_no_facts_is_neither_accepted_nor_declined() -> None:
    story = given(DELIVERED).when(lambda: None).then()

    for judge in (story.then_accepted, story.then_declined):
        assert "recorded nothing and returned no outcome of the desk" in message(judge)


def test_a_step_without_its_parentheses_is_not_taken_for_a_call() -> None:
    for forgotten in (request_return, an_order, run_deadlines):
        with pytest.raises(TypeError, match=rf"{forgotten.__name__} makes a step and does nothing"):
            given(DELIVERED).when(forgotten)


def test_a_fact_may_be_expected_in_a_stream() -> None:
    story = given(DELIVERED, a_return()).when(withdraw_return())

    story.then(event("ReturnWithdrawn", of="return/R-1"))
    assert "ReturnWithdrawn: expected in return/R-2, came in return/R-1" in message(
        lambda: story.then(event("ReturnWithdrawn", of="return/R-2"))
    )


def test_what_was_judged_is_not_judged_again_after_something_else_was_given() -> None:
    story = given(DELIVERED).when(request_return()).given(withdraw_return())

    with pytest.raises(RuntimeError, match=r"then comes after when\(\)"):
        story.then("ReturnRequested", "ReturnAuthorized")


def test_what_would_say_two_things_or_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="price is a part of lines"):
        an_order(lines=[], price="1.00")
    with pytest.raises(TypeError, match="account_id is a part of customer"):
        an_order(customer={"customer_id": "c-2"}, account_id="a")
    with pytest.raises(TypeError, match="compares what it is given"):
        given(DELIVERED).then_view("order/A-1")
    with pytest.raises(TypeError, match="whole microseconds"):
        Clock().tick(0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"say hours=24, or advance_days\(1\)"):
        Clock().advance(days=1)


def test_a_line_of_a_scenario_that_expects_a_refusal_is_one() -> None:
    line = request_return(channel="phone").fields | {"expect": {"outcome": "declined"}}

    given(DELIVERED, line).then_view("return/R-1", status="declined")


def test_an_error_that_nothing_expects_is_told_when_lines_are_played() -> None:
    told = message(lambda: Scenario().play([{"at": "2026-03-02T10:00:00Z", "command": "confirm_ordr"}]))

    assert "line 1: error that nothing expects: command.invalid" in told


def test_a_story_is_saved_as_a_test_with_the_policy_it_needs(tmp_path: Path) -> None:
    month = a_policy({"returns.window": {"days": 30}})
    given(DELIVERED, policy=month).at("2026-04-04").when(request_return()).save(tmp_path / "month.scenario.jsonl")
    given(DELIVERED).save(tmp_path / "usual.scenario.jsonl")

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "month.policies",
        "month.scenario.jsonl",
        "usual.scenario.jsonl",
    ]
    played = play_file(tmp_path / "month.scenario.jsonl")
    assert [line.problems for line in played] == [[]] * 4
    with pytest.raises(ValueError, match=r"ends in \.scenario\.jsonl"):
        given(DELIVERED).save(tmp_path / "month.jsonl")


def test_of_several_things_that_happen_the_facts_are_all_and_the_last_decides() -> None:
    story = given(DELIVERED).when(request_return(), withdraw_return(), request_return(return_id="R-2", channel="phone"))

    story.then("ReturnRequested", "ReturnAuthorized", "ReturnWithdrawn", "ReturnRequested", "ReturnDeclined")
    story.then_declined()
    assert (story.outcome, len(story.events)) == ("declined", 5)
    assert story.ruling is not None
    assert not story.ruling["allowed"]


def test_a_refusal_can_have_happened() -> None:
    given(DELIVERED, declined(request_return(channel="phone"))).then_view("return/R-1", status="declined")


def test_what_is_impossible_can_have_been_tried() -> None:
    story = given(DELIVERED, impossible(withdraw_return(), request_return(return_id="R-9", order_id="A-9")))

    story.then_view("order/A-1", returns=[])
    assert "given: withdraw_return was to be error" in message(
        lambda: given(DELIVERED, a_return(), impossible(withdraw_return()))
    )


def test_what_was_true_and_what_was_known_are_asked_in_wall_times() -> None:
    story = (
        given(an_order(shipped="2026-03-03")).at("2026-03-06").given(record_delivery(delivered_at="2026-03-05 14:00"))
    )

    assert story.ask("order/A-1", as_of="2026-03-05 14:00")["status"] == "delivered"
    assert story.ask("order/A-1", as_of="2026-03-05 13:59")["status"] == "shipped"
    story.then_view("order/A-1", {"known_at": "2026-03-05 15:00"}, status="shipped")
    assert story.ask_in_vain("order/A-1", known_at="2026-03-01")["code"] == "order.unknown"


def test_a_step_gives_its_fields_to_a_method_of_a_desk() -> None:
    story = Scenario()

    story.when(lambda: story.desk.confirm_order(**confirm_order().arguments)).then("Confirmed")


def test_a_policy_of_another_merchant_has_an_id_of_its_own() -> None:
    given(an_order(), policy=a_policy(id="boutique")).then_view("order/A-1", policy={"id": "boutique"})


def test_a_whole_fact_can_be_expected() -> None:
    story = given(an_order(shipped="2026-03-03")).at("2026-03-05").when(record_delivery())
    (came,) = story.events
    assert isinstance(came, Delivered)

    story.then(came)
    told = message(lambda: story.then(came.model_copy(update={"parcel_id": "P-9", "return_before": came.occurred_at})))

    assert "Delivered.parcel_id: expected 'P-9', came 'P-1'" in told
    assert "Delivered.return_before: expected '2026-03-05T00:00:00-05:00', came '2026-03-20T00:00:00-04:00'" in told


def test_policies_differ_by_what_is_said() -> None:
    month = a_policy({"returns.window": {"days": 30}, "returns.account": {"applies": False}})

    given(an_order(delivered="2026-03-05", account_id=None), policy=month).at("2026-04-04 23:59").when(
        request_return()
    ).then_accepted().then_clause("returns.window", deadline="2026-04-05").then_clause(
        "returns.account", "not_applicable"
    )


def test_a_policy_that_changes_in_between_binds_later_orders() -> None:
    book = [a_policy(), a_policy({"returns.window": {"days": 7}}, effective="2026-03-04", version="2026-03")]
    story = given(an_order("A-1", confirmed="2026-03-03"), an_order("A-2", confirmed="2026-03-04"), policy=book)

    story.then_view("order/A-1", policy={"version": "2026-01"}).then_view("order/A-2", policy={"version": "2026-03"})


@pytest.mark.parametrize(
    ("clauses", "says"),
    [
        ({"returns.windows": {"days": 3}}, "a_policy(): clauses.returns.windows: is not a known key"),
        ({"returns.window": {"day": 3}}, "a_policy(): clauses.returns.window.day: is not a known key"),
        ({"returns.window": {"days": -3}}, "a_policy(): clauses.returns.window.days: input should be greater than"),
    ],
)
def test_a_policy_has_no_clause_that_there_is_not(clauses: dict[str, dict[str, int]], says: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        a_policy(clauses)

    assert str(caught.value).startswith(says)


def test_a_subject_is_asked_by_its_name_and_a_question_by_its_fields() -> None:
    story = given(DELIVERED, a_return(inspected=True))

    assert story.ask("return/R-1") == story.ask("return", return_id="R-1")
    assert story.ask("refund", return_id="R-1")["status"] == "due"
    assert story.ask("audit/return/R-1")["stream"] == "return/R-1"
    assert story.ask("eligibility/A-1")["order_id"] == "A-1"
    assert [item["kind"] for item in story.ask("worklist")["items"]] == ["request_refund"]
    assert story.ask_in_vain("return/R-9")["code"] == "return.unknown"


def test_an_error_says_where_the_lifecycle_stands_and_what_it_allows() -> None:
    story = given(DELIVERED, a_return(received="2026-03-09")).when(withdraw_return())

    story.then_error(
        "transition.not_allowed",
        state="received",
        message="return R-1 is received",
        allowed=[
            "issue_label",
            "record_label_received",
            "record_return_shipment",
            "receive_return",
            "report_return_lost",
            "inspect_return",
            "record_send_back",
        ],
    )
    assert story.error is not None
    told = message(
        lambda: story.then_error("transition.not_allowed", state="lost", message="sunk", allowed=["run_deadlines"])
    )
    for each in (
        "state: expected 'lost', came 'received'",
        "message: expected 'sunk' in ",
        "allowed: expected run_deadlines, came ",
    ):
        assert each in told


def test_all_verdicts_of_a_ruling_are_compared_at_once() -> None:
    story = given(DELIVERED).at("2026-03-20").when(request_return(channel="phone"))
    every = {"returns.window": "fail", "returns.final_sale": "pass", "returns.account": "pass"}

    story.then_verdicts(every | {"returns.portal": "fail", "returns.no_exchanges": "pass"})
    told = message(lambda: story.then_verdicts(every | {"returns.portal": "pass", "returns.tracking": "pass"}))

    assert "returns.portal: expected pass, came fail" in told
    assert "returns.no_exchanges: expected not weighed, came pass" in told
    assert "returns.tracking: expected pass, came not weighed" in told


def test_a_command_that_is_repeated_under_its_id_leads_to_what_is_on_record() -> None:
    story = given(DELIVERED).when(request_return(command_id="c-1"))
    assert "then_replayed: something was recorded now" in message(lambda: story.then_replayed("ReturnRequested"))

    story.after(days=30).when(request_return(command_id="c-1"))

    story.then().then_replayed("ReturnRequested", "ReturnAuthorized").then_accepted()
    assert "other events are recorded" in message(lambda: story.then_replayed("ReturnRequested"))
    story.when(lambda: story.desk.handle(request_return(command_id="c-1").fields)).then_replayed(
        "ReturnRequested", "ReturnAuthorized"
    )


def test_a_question_may_have_further_fields() -> None:
    story = given(DELIVERED, a_return(inspected=True))

    story.then_view("refund", {"return_id": "R-1"}, status="due", total="750.00")
    story.then_view("worklist", {"kinds": ["send_back"]}, items=[])


def test_what_is_no_time_and_no_field_can_be_told_raw() -> None:
    story = given(DELIVERED)

    story.when(step("run_deadlines", raw=True, wings=2)).then_error("command.invalid", "wings")
    story.when(step("record_delivery", raw=True, order_id="A-1", parcel_id="P-1", delivered_at="2026-03-05 14:00"))
    story.then_error("command.invalid", "delivered_at")
    story.when(confirm_order("A-2", quantity="1")).then_error("command.invalid", "lines[0].quantity")


def test_just_before_is_a_tick_before() -> None:
    assert str(Scenario().just_before("2026-03-20").clock) == "Thu 2026-03-19 23:59:59.999999 EDT"


def test_another_policy_that_is_the_same_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing changes: allu-usa 2026-01 has .* already"):
        a_policy({"returns.window": {"days": 14}})


# ---- the beginnings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_a_step_of_its_name_that_needs_nothing_else(command: str) -> None:
    build = getattr(returnable.testing, command)
    made = build("returns.window") if command == "override" else build()

    model = COMMANDS[command].model_validate(made.resolved("America/New_York"))

    assert model.command == made.command == command
    assert made.at("2026-03-05").when == "2026-03-05"


def test_an_order_goes_as_far_as_it_is_told() -> None:
    def told(**stages: str | bool) -> list[tuple[str, object]]:
        return [(each.command, each.when) for each in an_order(**stages)]

    assert told() == [("confirm_order", None)]
    assert told(confirmed="2026-05-01") == [("confirm_order", "2026-05-01")]
    assert told(delivered="2026-03-05 14:00") == [
        ("confirm_order", "2026-03-02 10:00"),
        ("record_shipment", "2026-03-03 09:00"),
        ("record_delivery", "2026-03-05 14:00"),
    ]
    assert told(shipped="2026-03-05 14:00") == [
        ("confirm_order", "2026-03-04 10:00"),
        ("record_shipment", "2026-03-05 14:00"),
    ]
    assert told(confirmed="2026-03-04 10:00", delivered="2026-03-04 12:00")[1] == (
        "record_shipment",
        "2026-03-04 10:00",
    )
    assert [when for _, when in told(delivered=True)] == [None, None, None]
    assert [each.when for each in an_order(delivered=datetime.fromisoformat("2026-03-05T14:00:00-05:00"))][:2] == [
        "2026-03-02 10:00",
        "2026-03-03 09:00",
    ]


def test_a_return_goes_as_far_as_it_is_told_with_all_that_comes_before() -> None:
    def told(**stages: object) -> list[str]:
        return [each.command for each in a_return(**stages)]  # type: ignore[arg-type]

    assert told() == ["request_return"]
    assert told(labelled=True) == ["request_return", "issue_label"]
    assert told(received=True) == ["request_return", "issue_label", "record_return_shipment", "receive_return"]
    assert told(shipped=True, own_label=True) == ["request_return", "record_return_shipment"]
    assert told(refunded=True)[-3:] == ["inspect_return", "request_refund", "record_refund_result"]
    given(an_order(delivered="2026-03-05", quantity=3), a_return(units=3, rejected=1, refunded="2026-03-09")).then_view(
        "return/R-1", status="refunded", lines=[{"accepted": 2, "rejected": 1}]
    ).then_view("refund/F-1", total="1500.00")


def test_a_claim_goes_as_far_as_it_is_told() -> None:
    story = given(DELIVERED, a_claim(contacted="2026-03-05 12:00", resolved="2026-03-06", remedy="both"))

    story.then_view("claim/C-1", status="resolved", contacted_at="2026-03-05 12:00", remedy="both")


def test_a_history_is_made_of_steps_and_of_lines_of_a_scenario() -> None:
    line = {"at": "2026-03-02 12:00", "command": "request_cancellation", "order_id": "A-1"}

    given(an_order(), line | {"channel": "email", "order_copy": True}).then_view("order/A-1", status="cancelled")
    with pytest.raises(TypeError, match="made of commands; this has no 'command'"):
        given({"query": "worklist"})
    with pytest.raises(TypeError, match="made of steps such as an_order"):
        given("an order")
    with pytest.raises(TypeError, match="made of steps such as an_order"):
        given(7)  # type: ignore[arg-type]
    assert [each.command for each in an_order() + request_return()] == ["confirm_order", "request_return"]


def test_a_time_of_a_field_may_be_said_as_a_wall_time() -> None:
    story = given(an_order()).at("2026-03-05").when(request_cancellation(requested_at="2026-03-02 12:00"))

    story.then(event("CancellationRequested", occurred_at="2026-03-02 12:00", recorded_at="2026-03-05"), "Cancelled")
    with pytest.raises(ValueError, match="shipped_at: 2026-03-08 02:30 does not exist"):
        story.when(step("record_shipment", order_id="A-1", shipped_at="2026-03-08 02:30"))


# ---- it does not hold ------------------------------------------------------------------------------------------------


def test_a_failure_shows_the_history_the_clock_and_the_deadline_on_one_line_of_time() -> None:
    story = given(DELIVERED).at("2026-03-19 23:59")

    told = message(lambda: story.when(request_return()).then_declined("returns.window"))

    assert told == Path(__file__).with_name("golden").joinpath("a-failure.txt").read_text().rstrip("\n")


def test_what_was_given_and_did_not_happen_is_told_at_once() -> None:
    told = message(lambda: given(DELIVERED, a_return(requested="2026-03-20")))

    assert told.startswith("given: request_return was to be accepted\n\n    came declined by returns.window (")
    assert "fail           returns.window: Requested at Fri 2026-03-20 00:00 EDT" in told
    assert "> Fri 2026-03-20 00:00 EDT  the clock: request_return R-1 → declined" in told


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        pytest.param(
            lambda story: story.then("ReturnRequested", "ReturnDeclined"),
            ["expected ReturnRequested, ReturnDeclined", "came     ReturnRequested, ReturnAuthorized", "recorded was:"],
            id="other facts",
        ),
        pytest.param(
            lambda story: story.then(event("ReturnRequested", channel="email"), "ReturnAuthorized"),
            ["ReturnRequested.channel: expected 'email', came 'portal'"],
            id="another field",
        ),
        pytest.param(
            lambda story: story.then_declined(), ["then_declined: it was accepted", "expected declined"], id="accepted"
        ),
        pytest.param(
            lambda story: story.then_error("return.exists", "return_id"),
            ["expected return.exists", "came     accepted (ReturnRequested"],
            id="no error",
        ),
        pytest.param(
            lambda story: story.then_clause("returns.window", "fail", deadline="2026-03-21", because="too late"),
            [
                "verdict: expected fail, came pass",
                "because: expected 'too late' in 'Requested at ",
                "deadline: expected '2026-03-21T00:00:00-04:00', came '2026-03-20T00:00:00-04:00'",
            ],
            id="another deadline",
        ),
        pytest.param(
            lambda story: story.then_clause("returns.ship_by"),
            ["then_clause: returns.ship_by was not weighed", "weighed: returns.window, "],
            id="a clause that was not weighed",
        ),
        pytest.param(
            lambda story: story.then_view("return/R-1", status="labelled", labels=[{}], wings=2),
            [
                "status: expected 'labelled', came 'authorized'",
                "labels: expected 1 elements, came 0",
                "wings: expected 2, but there is no such key",
            ],
            id="another view",
        ),
        pytest.param(
            lambda story: story.then_view("return/R-9", status="labelled"),
            ["return/R-9 cannot be answered", "return.unknown: return_id: there is no return 'R-9'"],
            id="no view",
        ),
        pytest.param(
            lambda story: story.ask("claim/C-1"), ["claim/C-1 cannot be answered: claim.unknown"], id="no answer"
        ),
        pytest.param(
            lambda story: story.ask_in_vain("return/R-1"), ["was expected to be impossible"], id="an answer after all"
        ),
    ],
)
def test_every_expectation_can_fail_and_says_how(expect: Callable[[Scenario], object], says: list[str]) -> None:
    story = given(DELIVERED).at("2026-03-09").when(request_return())

    told = message(lambda: expect(story))

    for each in says:
        assert each in told


def test_of_refusals_the_clauses_that_fail_are_compared_as_a_set() -> None:
    story = given(DELIVERED).at("2026-03-20").when(request_return(channel="phone"))

    told = message(lambda: story.then_declined("returns.window", "returns.account"))

    assert "returns.account did not fail" in told
    assert "returns.portal failed, too" in told
    assert "then_accepted: it was not" in message(story.then_accepted)


def test_what_failed_is_compared_also_where_it_was_accepted() -> None:
    story = given(DELIVERED, a_return(received=True))

    story.when(inspect_return(0, rejected=1)).then_accepted().then_failed("returns.condition")
    assert "expected none\n    failed   returns.condition" in message(story.then_failed)
    given(DELIVERED).when(request_return()).then_failed()


def test_another_error_than_expected_names_the_field() -> None:
    story = given(DELIVERED).when(request_return(order_id="A-9"))

    assert "came     error order.unknown" in message(lambda: story.then_error("return.unknown"))
    assert "field: expected 'return_id', came 'order_id'" in message(
        lambda: story.then_error("order.unknown", "return_id")
    )
    story.then_error("order.unknown", "order_id").then()


def test_an_error_of_a_call_that_recorded_something_all_the_same_is_told() -> None:
    story = given(DELIVERED)

    def half_way() -> None:
        story.desk.run_deadlines()
        story.desk.handle(request_return().fields)
        story.desk.withdraw_return(return_id="R-2")

    told = message(lambda: story.when(half_way).then_error("return.unknown"))

    assert "something was recorded all the same" in told


def test_a_word_that_is_no_fact_is_told_with_the_one_that_is_meant() -> None:
    story = given(DELIVERED).when(request_return())

    with pytest.raises(ValueError, match=r"there is no event 'ReturnAuthorised'; ReturnAuthorized\?"):
        story.then("ReturnRequested", "ReturnAuthorised")
    with pytest.raises(ValueError, match="there is no event 'Xyz'$"):
        event("Xyz")
    assert repr(event("Shipped", parcel_id="P-1")) == "Shipped(parcel_id='P-1')"


def test_then_comes_after_when_and_when_needs_something() -> None:
    story = given(DELIVERED)

    for early in (story.then, story.then_accepted, story.then_declined, lambda: story.outcome):
        with pytest.raises(RuntimeError, match=r"comes after when\(\)"):
            early()
    with pytest.raises(TypeError, match="needs something that happens"):
        story.when()
    with pytest.raises(TypeError, match="no step to tell"):
        story.tell([])


def test_what_happens_at_one_instant_is_told_in_the_order_of_the_log() -> None:
    notices = [step("notify_customer", subject={"kind": "order", "id": "A-1"}, notice=f"No. {n}") for n in range(12)]

    told = given(an_order(), notices).timeline

    numbers = [int(line.split("#")[1].split()[0]) for line in told.splitlines() if "#" in line]
    assert numbers == sorted(numbers)
    assert ">" in told.splitlines()[13]


def test_a_name_that_ends_like_a_time_is_no_time() -> None:
    given(DELIVERED).when(override("returns.window", approved_by="Kim")).then(
        event("OverrideGranted", approved_by="Kim")
    )


def test_a_long_history_is_cut_and_a_late_fact_says_when_it_was_learnt() -> None:
    story = given(an_order())
    for number in range(25):
        story.when(step("notify_customer", subject={"kind": "order", "id": "A-1"}, notice=f"No. {number}"))
    story.at("2026-03-05").when(request_cancellation(requested_at="2026-03-02 11:00"))

    told = story.timeline

    assert told.splitlines()[0] == "    … 8 earlier events"
    assert "order/A-1#27 CancellationRequested  (learnt Thu 2026-03-05 00:00 EST)" in told


# ---- scenarios -------------------------------------------------------------------------------------------------------


def test_a_story_can_be_kept_as_a_scenario_that_passes(tmp_path: Path) -> None:
    story = given(DELIVERED).at("2026-03-20").when(request_return(channel="phone"), request_return(order_id="A-9"))
    story.then_view("return/R-1", status="declined")
    story.ask_in_vain("return/R-9")

    text = story.as_scenario()

    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[3]["expect"] == {
        "outcome": "declined",
        "events": ["ReturnRequested", "ReturnDeclined"],
        "failed": ["returns.portal", "returns.window"],
    }
    assert lines[4]["expect"] == {"outcome": "error", "error": "order.unknown"}
    assert lines[6]["expect"] == {"error": "return.unknown"}
    file = tmp_path / "story.scenario.jsonl"
    file.write_text(text)
    again = Scenario()
    assert len(again.play(file)) == 7
    assert again.now == story.now


def test_lines_are_played_on_the_desk_and_unmet_expectations_are_told() -> None:
    story = Scenario(clock=Clock("2026-03-01"))
    line = {"at": "2026-03-02T10:00:00-05:00"} | dict(confirm_order().fields)

    told = message(lambda: story.play([line | {"expect": {"outcome": "declined"}}]))

    assert "line 1: outcome: expected declined, came accepted" in told
    assert "order/A-1#1 Confirmed" in told
    assert str(story.clock) == "Mon 2026-03-02 10:00 EST"


def test_a_story_can_be_told_to_a_desk_that_there_is_already(tmp_path: Path) -> None:
    with returnable.open(f"sqlite:///{tmp_path}/shop.db") as desk:
        Scenario(desk).given(DELIVERED)

        assert Scenario(desk).ask("order/A-1", "2026-03-05 12:00")["status"] == "delivered"


def test_the_functions_of_the_kit_are_all_named() -> None:
    names = set(returnable.testing.__all__)

    for name in names:
        assert getattr(returnable.testing, name) is not None
    assert set(COMMANDS) <= names
    assert {each for each in vars(steps) if each.startswith(("a_", "an_"))} <= names
    with pytest.raises(AttributeError, match="no attribute 'dance'"):
        _ = returnable.testing.dance  # type: ignore[attr-defined]
