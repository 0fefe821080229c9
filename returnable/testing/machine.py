"""A stateful test of a host's own integration: the host gets every command that the reference desk gets.

    class OurShop(ReturnsMachine):
        def begin(self):
            self.shop = Shop.in_memory()

        def tell(self, step, at):
            return self.shop.handle(step.fields, at)

        def ask(self, question, at):
            return self.shop.view(question, at)

    TestOurShop = OurShop.TestCase

Hypothesis lets people and carriers act, and time pass, until the two differ. Then it shows the shortest such history, as a
scenario that ``returnable play --check`` replays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from returnable.adapters.scenario import differences
from returnable.adapters.wiring import assemble
from returnable.domain.case import Case
from returnable.domain.commands import parse_command, parse_question
from returnable.domain.errors import Impossible
from returnable.domain.outcome import Outcome
from returnable.domain.policy import Policy, PolicyBook
from returnable.testing.behaviour import START, whole_minute
from returnable.testing.instants import ONE_TICK, instant
from returnable.testing.steps import Step
from returnable.testing.strategies import Situation, commands, told_at

Answer = Outcome | Impossible | Mapping[str, Any] | str | None
"""A host's answer to a command: an outcome or error of a desk; a mapping like a line of ``returnable play``, whose keys are
compared; ``"accepted"``, ``"declined"`` or ``"error"``; or nothing."""


class ReturnsMachine(RuleBasedStateMachine):
    """Rules for commands and for the passing of time. Subclass it for your system.

    Override :meth:`tell`, and :meth:`ask` if your system answers questions. :meth:`begin` and ``teardown`` set your system up
    and take it down. ``policy``: that of the reference desk (as for ``returnable.open``); ``None`` is the bundled one.
    ``legal``: only commands that are accepted or declined; else also impossible and malformed ones.

    A difference raises ``AssertionError`` with the history so far as a scenario, see :meth:`scenario`.
    """

    policy: ClassVar[PolicyBook | Policy | str | Path | None] = None
    legal: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        if type(self).tell is ReturnsMachine.tell:
            raise TypeError(f"{type(self).__name__}.tell is not there: say how your system carries a step out")
        self.services = assemble("memory:", self.policy)
        """The reference desk."""
        self.at = START
        """The clock, aware; steps never go back."""
        self.lines: list[dict[str, Any]] = []
        """The history so far, as lines of a scenario with the outcomes of the reference desk."""
        self._touched: str | None = None
        self._zone_name = self.services.handler.policies.versions[-1].zone

    # ---- what a host overrides ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Set up the host's system, empty. Called once, first.

        It may :meth:`carry_out` the first steps of every history.
        """

    def tell(self, step: Step, at: datetime) -> Answer:
        """Carry out a step in the host's system at an aware instant; its answer, or ``None`` for nothing to compare.

        The fields are ``step.fields``. An :class:`~returnable.domain.errors.Impossible` may be raised or returned.
        """
        return None

    def ask(self, question: Mapping[str, Any], at: datetime) -> Mapping[str, Any] | None:
        """The host's answer to a question (``{"query": "return", "return_id": "R-1"}``), or ``None`` for nothing to compare.

        Every key in the answer must equal that of the reference desk; missing keys are not compared.
        """
        return None

    # ---- the history --------------------------------------------------------------------------------------------------

    def scenario(self) -> str:
        """The history so far as a scenario in JSON Lines, with the outcomes of the reference desk as expectations.

        Save it as ``NAME.scenario.jsonl``, and it is a test.
        """
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines)

    def carry_out(self, step: Step) -> None:
        """Carry out a step on both sides, at its instant or at the clock if that is later, and compare the answers."""
        if step.when is not None:
            self.at = max(self.at, instant(step.when, self._zone_name))
        self._tell_both(Step(step.resolved(self._zone_name), told_at(self.at, self._zone_name)))

    def _tell_both(self, step: Step) -> None:
        if isinstance(step.when, datetime):
            self.at = step.when.astimezone(UTC)
        reference = self._decide(step)
        line = {"at": told_at(self.at, self._zone_name).isoformat(), **step.fields}
        self.lines.append(line | {"expect": _expected(reference)})
        try:
            told: Answer = self.tell(step, self.at)
        except Impossible as error:
            told = error
        different = list(_unlike(reference, told))
        if different:
            self._fail(f"{step.command}: the host says otherwise than the reference desk", different)
        if isinstance(reference, Outcome) and reference.events:
            entry = self.services.store.read(self.services.store.head() - 1, 1)[0]
            self._touched = entry.case_id

    def _decide(self, step: Step) -> Outcome | Impossible:
        try:
            return self.services.handler.handle(parse_command(step.fields), self.at)
        except Impossible as error:
            return error

    def _fail(self, what: str, different: list[str]) -> None:
        told = "\n".join(f"  {each}" for each in different)
        raise AssertionError(f"{what}\n{told}\nThe history as a scenario:\n{self.scenario()}")

    # ---- what happens -----------------------------------------------------------------------------------------------------

    @initialize(data=st.data())
    def the_first_step(self, data: st.DataObject) -> None:
        """Set up the host's system. Confirm an order, unless :meth:`begin` has carried out a step."""
        self.begin()
        if not self.lines:
            self._draw(data, legal=True, later=False)

    @rule(data=st.data())
    def the_next_step(self, data: st.DataObject) -> None:
        """Somebody gives a command."""
        self._draw(data, legal=self.legal, later=False)

    @rule(data=st.data())
    def a_later_step(self, data: st.DataObject) -> None:
        """Somebody gives a command, now or after some time."""
        self._draw(data, legal=self.legal, later=True)

    def _draw(self, data: st.DataObject, *, legal: bool, later: bool) -> None:
        step = data.draw(commands(self.services, legal=legal, at=self.at, later=later), label="step")
        self._tell_both(step)

    @precondition(lambda self: self.lines)
    @rule()
    def run_deadlines(self) -> None:
        """The worker records the deadlines that passed."""
        self._tell_both(Step({"command": "run_deadlines"}, told_at(self.at, self._zone_name)))

    # ---- time -----------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.lines)
    @rule(hours=st.sampled_from((1, 2, 24, 48, 24 * 7)))
    def wait(self, hours: int) -> None:
        """Time passes, to a whole minute."""
        self.at = whole_minute(self.at) + timedelta(hours=hours)

    @precondition(lambda self: self._edges())
    @rule(which=st.integers(0, 3), ticks=st.sampled_from((0, -1, 1)))
    def wait_for_edge(self, which: int, ticks: int) -> None:
        """Time passes to one of the next deadlines, or to one tick before or after it."""
        ahead = self._edges()
        self.at = ahead[min(which, len(ahead) - 1)] + ticks * ONE_TICK

    def _edges(self) -> list[datetime]:
        """The deadlines whose tick before is still to come."""
        return [at for at in Situation.of(self.services, self.at).behaviour.instants if at - ONE_TICK > self.at]

    # ---- views -------------------------------------------------------------------------------------------------------

    @invariant()
    def the_views_agree(self) -> None:
        """If the host answers questions, its answers equal those of the reference desk."""
        if type(self).ask is ReturnsMachine.ask or self._touched is None:
            return
        for question in _questions(self.services.handler.case(self._touched)):
            answer = self.ask(question, self.at)
            if answer is not None:
                self._compare_views(question, answer)

    def _compare_views(self, question: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        try:
            view = self.services.questions.answer(parse_question(question), self.at)
        except Impossible as error:
            self._fail(f"{dict(question)}: cannot be answered: {error.message}", [f"the host answers {dict(answer)}"])
            return
        ours = view.model_dump(mode="json", by_alias=True)
        different = _differ(answer, ours)
        if different:
            self.lines.append({"at": told_at(self.at, self._zone_name).isoformat(), **question, "expect": ours})
            self._fail(f"{dict(question)}: the host answers otherwise than the reference desk", different)


def _differ(answer: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Where the host's answer is not part of our view."""
    return [
        each.replace("expected", "the host says", 1).replace(", came", ", the desk", 1)
        for each in differences(answer, ours, "")
    ]


def _questions(case: Case) -> list[dict[str, Any]]:
    if case.arrival is not None:
        return [{"query": "arrival", "arrival_id": case.arrival.arrival_id}, {"query": "worklist"}]
    asked: list[dict[str, Any]] = [{"query": "order", "order_id": case.order.order_id}]
    asked += [{"query": "return", "return_id": name} for name in case.returns]
    asked += [{"query": "claim", "claim_id": name} for name in case.claims]
    asked += [{"query": "refund", "refund_id": name} for name in case.refunds]
    return [*asked, {"query": "worklist"}]


def _expected(came: Outcome | Impossible) -> dict[str, Any]:
    if isinstance(came, Impossible):
        return {"outcome": "error", "error": came.code}
    events = [event.type for _, _, event in came.recorded_events]
    failed = {"failed": sorted(set(came.failed))} if came.failed else {}
    return {"outcome": came.outcome, "events": events, **failed}


def _unlike(reference: Outcome | Impossible, told: Answer) -> list[str]:
    """Where the host's answer differs."""
    if told is None:
        return []
    ours = {"events": [], "failed": [], "error": None} | _expected(reference)
    theirs = _said(told)
    return [
        f"{name}: the host says {theirs[name]!r}, the desk {ours[name]!r}"
        for name in theirs
        if theirs[name] != ours[name]
    ]


def _said(told: Outcome | Impossible | Mapping[str, Any] | str) -> dict[str, Any]:
    """The host's answer, as far as it can be compared."""
    if isinstance(told, str):
        return {"outcome": told}
    if isinstance(told, Outcome | Impossible):
        return {"events": [], "failed": [], "error": None} | _expected(told)
    if not {"outcome", "events", "failed", "ruling", "error"} & set(told):
        raise TypeError(f"tell() gave a mapping that says nothing to compare: {dict(told)!r}; None says nothing, too")
    said: dict[str, Any] = {name: told[name] for name in ("outcome",) if name in told}
    if "events" in told:
        said["events"] = [each if isinstance(each, str) else each["type"] for each in told["events"]]
    if "failed" in told:
        said["failed"] = sorted(set(told["failed"]))
    elif told.get("ruling"):
        clauses = told["ruling"]["clauses"]
        said["failed"] = sorted({each["clause"] for each in clauses if each["verdict"] == "fail"})
    if "error" in told:
        error = told["error"]
        said["error"] = error["code"] if isinstance(error, Mapping) else error
    return said
