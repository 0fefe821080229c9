"""Answers questions from the events of a store, as of any instant and as known at any instant. They record nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from returnable.domain.arrivals import UnannouncedArrival, tracking_key
from returnable.domain.case import Case, fold, fold_as_of, unknown
from returnable.domain.commands import (
    AskArrival,
    AskAudit,
    AskClaim,
    AskEligibility,
    AskOrder,
    AskRefund,
    AskReturn,
    AskWorklist,
    Question,
)
from returnable.domain.deciding import DecisionContext
from returnable.domain.errors import checked_text
from returnable.domain.fields import LONGEST_ID
from returnable.domain.policy import Policy, PolicyOf
from returnable.domain.ports import Damage, EventStore, Recorded
from returnable.domain.refunds.request import check_may_request
from returnable.projections.arrivals import arrival_view
from returnable.projections.audit import audit_view, refusals_counted
from returnable.projections.claims import claim_view
from returnable.projections.damage import pinned, up_to_damage
from returnable.projections.ledger import balance_values, balances
from returnable.projections.lists import LISTS, Values, limited
from returnable.projections.orders import eligibility_view, order_view
from returnable.projections.refunds import due_view, refund_view
from returnable.projections.returns import return_view
from returnable.projections.statistics import Tally, Weighed, weighed
from returnable.projections.subjects import case_at, every_loaded_case, policy_for
from returnable.projections.views import AnyView
from returnable.projections.worklist import refund_due, waiting_in, worklist_view


def ignore_damage(damage: Damage) -> None:
    """Ignore a damaged case: the default of lists."""


class Questions:
    """Answers questions on the events of a store; ``policy_of`` finds a pinned policy by its hash.

    A question about one subject raises ``HistoryBroken`` if an event of its case cannot be read. A list uses only the
    events before the damaged one, and calls ``damaged`` with the damage.
    """

    def __init__(
        self,
        store: EventStore,
        policy_of: PolicyOf,
        damaged: Callable[[Damage], None] = ignore_damage,
    ) -> None:
        self.store = store
        self.damaged = damaged
        self._policy_of = policy_of

    def answer(self, question: Question, at: datetime) -> AnyView:
        """The answer as of ``question.as_of``, or as of ``at`` (now, with any offset) if the question has no ``as_of``.

        Raises ``Impossible`` with the code ``order.unknown``, ``return.unknown`` and so on if the subject did not exist as of
        that instant, or was not known at ``question.known_at``.
        """
        moment = question.as_of or at.astimezone(UTC)
        if isinstance(question, AskWorklist):
            waiting = self._of_cases(
                lambda case, policy, events: [*waiting_in(case, policy)], question.as_of, question.known_at
            )
            return worklist_view(waiting, question.kinds, moment)
        case, policy = self._case(question)
        if isinstance(question, AskAudit):
            return self._audit(question, case.case_id, policy)
        if isinstance(question, AskOrder):
            return order_view(case, policy)
        if isinstance(question, AskEligibility):
            return eligibility_view(case, policy, DecisionContext(moment, policy))
        if isinstance(question, AskReturn):
            return return_view(case.returns[question.return_id], policy, moment)
        if isinstance(question, AskClaim):
            return claim_view(case.claims[question.claim_id], policy, moment)
        if isinstance(question, AskArrival) and case.arrival is not None:
            return arrival_view(case.arrival, policy, self._cases_meant_by(case.arrival, question))
        if isinstance(question, AskRefund):
            return self._refund(question, moment, case, policy)
        raise AssertionError(f"{question.query} is not a question")

    def _cases_meant_by(self, arrival: UnannouncedArrival, question: AskArrival) -> Iterator[Case]:
        """The cases that know the tracking number of a parcel, and that of the order which its slip names."""
        told = arrival.recorded
        names = [told.order_reference] if told.order_reference is not None else []
        if told.tracking_number is not None:
            names += self.store.cases_tracking(tracking_key(told.tracking_number))
        for name in dict.fromkeys(names):
            stored, damage = self.store.load_until_damage(name)
            if damage is not None:
                self.damaged(damage)
            case = fold_as_of(name, stored, question.as_of, question.known_at)
            if case.pins is not None and case.arrival is None:
                yield case

    def _refund(self, question: AskRefund, moment: datetime, case: Case, policy: Policy) -> AnyView:
        if question.refund_id is not None:
            return refund_view(case.refunds[question.refund_id], policy, moment)
        stream = str(question.target)
        subject = case.refund_subject(stream)
        # What was paid may be owed again, or more may be owed by now.
        if subject.attempts and not (subject.attempts[-1].status == "refunded" and refund_due(subject, moment, policy)):
            return refund_view(subject.attempts[-1], policy, moment)
        check_may_request(subject, "refund")
        return due_view(subject, policy, DecisionContext(moment, policy))

    def _audit(self, question: AskAudit, case_id: str, policy: Policy) -> AnyView:
        stored, as_of, known_at = self.store.load(case_id), question.as_of, question.known_at
        counted = refusals_counted(self.store, stored, as_of, known_at)
        return audit_view(question.stream, stored, policy, as_of, known_at, counted)

    # ---- the events that count -------------------------------------------------------------------------------------------

    def _case(self, question: Question) -> tuple[Case, Policy]:
        if question.target is None:
            raise AssertionError(f"{question.query} is about nothing")
        kind, name = question.target
        case_id = name if kind == "order" else self.store.case_of(kind, name)
        stored = self.store.load(case_id) if case_id is not None else ()
        if case_id is None or not stored:
            raise unknown(kind, name)
        as_of, known_at = question.as_of, question.known_at
        all_count = as_of is None and known_at is None
        case = fold(case_id, stored) if all_count else fold_as_of(case_id, stored, as_of, known_at)
        return case, policy_for(case, kind, name, self._policy_of)

    def _of_cases(
        self,
        build: Callable[[Case, Policy, Sequence[Recorded]], list[Any]],
        as_of: datetime | None,
        known_at: datetime | None,
        case_id: str | None = None,
    ) -> Iterator[Any]:
        """The results of ``build`` for each case, in order of case id; one case in memory at a time."""
        head = self.store.head()

        def built(events: Sequence[Recorded]) -> list[Any]:
            if not events:
                return []
            case, events = case_at(fold(events[0].case_id, events), events, as_of, known_at)
            policy = pinned(case, self._policy_of)
            return [] if policy is None else build(case, policy, events)

        if case_id is None:
            cases = every_loaded_case(self.store, head)
        else:
            cases = iter([(case_id, *self.store.load_until_damage(case_id, head))])
        for _, events, damage in cases:
            found, wrong = up_to_damage(events, damage, built)
            if wrong is not None:
                self.damaged(wrong)
            yield from found

    # ---- lists -----------------------------------------------------------------------------------------------------------

    def listed(
        self,
        name: str,
        at: datetime,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Values]:
        """``orders``, ``returns``, ``refunds`` or ``claims`` at ``at``, as JSON values in order of the order's id.

        Each is the answer to the single question about it. Raises ``command.invalid`` for an unknown status.
        """
        listed = LISTS[name]
        listed.check_status(status)
        moment = as_of or at.astimezone(UTC)
        values = self._of_cases(lambda case, policy, events: listed.of_case(case, policy), as_of, known_at)
        return limited((listed.at(one, moment) for one in values), status, limit)

    def ledger(
        self, order_id: str | None = None, as_of: datetime | None = None, known_at: datetime | None = None
    ) -> Iterator[Values]:
        """The payments of every order, or of one: captured, refunded, pending and remaining.

        Raises ``command.invalid`` for a text that cannot be the id of an order.
        """
        if order_id is not None:
            checked_text("order_id", order_id, LONGEST_ID)
        found: Iterator[Any] = self._of_cases(
            lambda case, policy, events: list(balances(case)), as_of, known_at, case_id=order_id
        )
        return (balance_values(balance) for balance in found)

    def statistics(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
    ) -> Iterator[Values]:
        """The statistics of each clause, over the decisions that occurred at ``since`` or later and before ``until``."""
        tally = Tally()
        found: Iterator[Weighed] = self._of_cases(
            lambda case, policy, events: list(weighed(case, events)), as_of, known_at
        )
        for one in found:
            if (since is None or one.occurred_at >= since) and (until is None or one.occurred_at < until):
                tally.add_weighed(one)
        return tally.values()
