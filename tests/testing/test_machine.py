"""The stateful test of a host: a faithful one passes, and one with a mistake is shown the shortest history of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import rule, run_state_machine_as_test

import returnable
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.wiring import assemble
from returnable.domain.errors import Impossible
from returnable.domain.policy import Policy, PolicyBook, bundled_policies
from returnable.testing.machine import Answer, ReturnsMachine
from returnable.testing.steps import (
    Step,
    a_return,
    an_order,
    confirm_order,
    request_cancellation,
    request_refund,
)

FEW = settings(max_examples=12, stateful_step_count=20)
SEARCH = settings(max_examples=2000, phases=[Phase.generate, Phase.shrink])


class Host(ReturnsMachine):
    """A shop that keeps a desk of its own."""

    host_policy: Policy | None = None

    def begin(self) -> None:
        book = None if self.host_policy is None else PolicyBook([self.host_policy])
        self.shop = returnable.open("memory:", policy=book)

    def teardown(self) -> None:
        if hasattr(self, "shop"):
            self.shop.close()

    def tell(self, step: Step, at: datetime) -> Answer:
        return self.shop.handle(step.fields, at=at)

    def ask(self, question: Mapping[str, Any], at: datetime) -> Mapping[str, Any] | None:
        return self.shop.ask(question, at=at).model_dump(mode="json", by_alias=True)


def shown(machine: type[ReturnsMachine], steps: int = 10) -> tuple[str, list[tuple[int, bytes]]]:
    """What a failing machine says, and the lines of the scenario in it. Of fewer steps it takes less to find the shortest."""
    with pytest.raises(AssertionError) as failure:
        run_state_machine_as_test(machine, settings=settings(SEARCH, stateful_step_count=steps))
    message, _, scenario = str(failure.value).partition("The history as a scenario:\n")
    return message, read_scenario(scenario.encode(), "shown")


def test_a_host_that_does_as_the_desk_does_passes() -> None:
    class Faithful(Host):
        pass

    run_state_machine_as_test(Faithful, settings=FEW)


def test_a_faithful_host_passes_whatever_impossible_things_it_is_told() -> None:
    class Faithful(Host):
        legal = False

    run_state_machine_as_test(Faithful, settings=FEW)


def test_a_machine_that_would_compare_nothing_is_refused() -> None:
    class Empty(ReturnsMachine):
        """Says nothing of the host."""

    class Beside(ReturnsMachine):
        def tell(self, step: Step, at: datetime) -> Mapping[str, Any]:
            return {"result": "declined"}

    with pytest.raises(TypeError, match="Empty.tell is not there"):
        run_state_machine_as_test(Empty, settings=FEW)
    with pytest.raises(TypeError, match="says nothing to compare: {'result': 'declined'}"):
        run_state_machine_as_test(Beside, settings=FEW)


def test_a_host_that_takes_a_return_on_day_15_is_shown_the_few_steps_to_it() -> None:
    bundled = bundled_policies().versions[-1]
    window = bundled.clauses.returns_window.model_copy(update={"days": 15})
    generous = bundled.model_copy(update={"clauses": bundled.clauses.model_copy(update={"returns_window": window})})

    class Generous(Host):
        host_policy = generous

        def begin(self) -> None:
            super().begin()
            for step in an_order(confirmed="2026-03-02 10:00", delivered=True):
                self.carry_out(step)

        def ask(self, question: Mapping[str, Any], at: datetime) -> None:
            return None

    message, lines = shown(Generous, steps=5)

    assert "request_return: the host says otherwise than the reference desk" in message
    assert "outcome: the host says 'accepted', the desk 'declined'" in message
    assert len(lines) in (4, 5), "shrinking is good, and not always perfect"
    assert json.loads(lines[-1][1])["command"] == "request_return"


def test_a_host_that_takes_the_end_of_a_label_for_its_last_instant_is_caught_at_that_instant() -> None:
    class Inclusive(Host):
        def begin(self) -> None:
            super().begin()
            for step in [*an_order(confirmed="2026-03-02 10:00", delivered=True), *a_return(labelled=True)]:
                self.carry_out(step)

        def tell(self, step: Step, at: datetime) -> Answer:
            if step.command == "record_return_shipment":
                ends = [label.void_at for ret in self.shop.returns() for label in ret.labels]
                if any(datetime.fromisoformat(str(end)) == at for end in ends):
                    at -= timedelta(microseconds=1)
            return self.shop.handle(step.fields, at=at)

        def ask(self, question: Mapping[str, Any], at: datetime) -> Mapping[str, Any] | None:
            name = question.get("return_id")
            return {"late": self.shop.return_(return_id=name).late} if name and question["query"] == "return" else None

    message, lines = shown(Inclusive, steps=5)

    assert "late: the host says False, the desk True" in message
    assert [json.loads(line).get("command") for _, line in lines[5:]] == ["record_return_shipment", None]
    assert json.loads(lines[5][1])["at"] == "2026-03-05T00:00:00-05:00"


def test_a_host_that_pays_a_refund_twice_is_caught_by_a_rule_of_its_own() -> None:
    class PaysTwice(Host):
        @rule()
        def the_refund_is_asked_for_once_more(self) -> None:
            self.carry_out(request_refund("F-2", order_id="A-1"))

        def begin(self) -> None:
            super().begin()
            for step in [confirm_order(), request_cancellation(), request_refund(order_id="A-1")]:
                self.carry_out(step)

        def tell(self, step: Step, at: datetime) -> Answer:
            try:
                return super().tell(step, at)
            except Impossible as error:
                if step.command == "request_refund" and error.code == "transition.not_allowed":
                    return "accepted"
                raise

    message, lines = shown(PaysTwice)

    assert "request_refund: the host says otherwise" in message
    assert len(lines) == 4


def test_the_scenario_that_a_failure_shows_is_a_test_that_passes_on_the_desk() -> None:
    class Mute(Host):
        def tell(self, step: Step, at: datetime) -> Answer:
            return {"outcome": "accepted", "events": []} if step.command == "record_delivery" else None

        def ask(self, question: Mapping[str, Any], at: datetime) -> None:
            return None

    _, lines = shown(Mute)

    played = list(play(assemble("memory:"), lines))
    assert [line.command for line in played] == ["confirm_order", "record_shipment", "record_delivery"]
    assert all(line.expected and not line.mismatches for line in played)


def test_what_a_host_leaves_out_is_not_compared() -> None:
    class Terse(Host):
        def tell(self, step: Step, at: datetime) -> Answer:
            outcome = super().tell(step, at)
            assert isinstance(outcome, returnable.Outcome)
            return outcome.outcome

        def ask(self, question: Mapping[str, Any], at: datetime) -> Mapping[str, Any] | None:
            answer = super().ask(question, at)
            return {"status": answer["status"]} if answer and "status" in answer else None

    run_state_machine_as_test(Terse, settings=FEW)


def test_another_policy_is_the_policy_of_the_reference_desk() -> None:
    bundled = bundled_policies().versions[-1]
    at_home = bundled.model_copy(update={"zone": "Europe/Berlin", "version": "here"})

    class Elsewhere(Host):
        policy = at_home
        host_policy = at_home

    run_state_machine_as_test(Elsewhere, settings=FEW)
