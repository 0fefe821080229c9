"""Questions: answered from the facts of the store, as of any instant, as far as known at any instant. They record nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from returnable.domain.case import Case, replay, replay_as_of, unknown
from returnable.domain.commands import (
    AskAudit,
    AskClaim,
    AskEligibility,
    AskOrder,
    AskRefund,
    AskReturn,
    AskWorklist,
    Question,
)
from returnable.domain.deciding import Moment
from returnable.domain.lifecycles import NOTHING
from returnable.domain.policy import Policy
from returnable.domain.ports import EventStore, Recorded
from returnable.domain.refunds import of_subject
from returnable.projections.audit import audit_view
from returnable.projections.claims import claim_view
from returnable.projections.orders import eligibility_view, order_view
from returnable.projections.refunds import due_view, refund_view
from returnable.projections.returns import return_view
from returnable.projections.views import AnyView
from returnable.projections.worklist import worklist_view


class Questions:
    """Answers questions on the facts of a store; ``policy`` finds a pinned policy by its hash."""

    def __init__(self, store: EventStore, policy: Callable[[str], Policy]) -> None:
        self.store = store
        self._policy = policy

    def answer(self, question: Question, at: datetime) -> AnyView:
        """The answer at the clock ``at``; ``as_of`` and ``known_at`` of the question look back from there.

        Raises ``order.unknown`` and so on when the subject did not exist there and then.
        """
        moment = question.as_of or at.astimezone(UTC)
        if isinstance(question, AskWorklist):
            kinds = question.kinds if question.kinds is not None else None
            return worklist_view(self._cases(question), kinds, moment)
        if isinstance(question, AskAudit):
            return self._audit(question)
        if isinstance(question, AskOrder | AskEligibility):
            case, policy = self._case(question, "order", question.order_id)
            if isinstance(question, AskOrder):
                return order_view(case, policy)
            return eligibility_view(case, policy, Moment(moment, policy))
        if isinstance(question, AskReturn):
            case, policy = self._case(question, "return", question.return_id)
            return return_view(case.returns[question.return_id], policy, moment)
        if isinstance(question, AskClaim):
            case, policy = self._case(question, "claim", question.claim_id)
            return claim_view(case.claims[question.claim_id], policy, moment)
        if isinstance(question, AskRefund):
            return self._refund(question, moment)
        raise AssertionError(f"{question.query} is no question")

    def _refund(self, question: AskRefund, moment: datetime) -> AnyView:
        if question.refund_id is not None:
            case, policy = self._case(question, "refund", question.refund_id)
            return refund_view(case.refunds[question.refund_id], policy, moment)
        kind = next(k for k in ("return", "order", "claim") if getattr(question, f"{k}_id") is not None)
        name: str = getattr(question, f"{kind}_id")
        case, policy = self._case(question, kind, name)
        stream = f"{kind}/{name}"
        asked = of_subject(case.refunds.values(), stream)
        if asked:
            return refund_view(asked[-1], policy, moment)
        subject = case.refund_subject(stream)
        if subject.ret is None:
            subject.may_request("refund")
        return due_view(subject, policy, Moment(moment, policy))

    def _audit(self, question: AskAudit) -> AnyView:
        kind, _, name = question.stream.partition("/")
        case, policy = self._case(question, kind, name)
        stored = self.store.load(case.case_id)
        return audit_view(question.stream, case.case_id, stored, policy, lambda entry: _counts(entry, question))

    # ---- the facts that count --------------------------------------------------------------------------------------------

    def _case(self, question: Question, kind: str, name: str) -> tuple[Case, Policy]:
        case_id = name if kind == "order" else self.store.case_of(kind, name)  # type: ignore[arg-type]
        stored = self.store.load(case_id) if case_id is not None else ()
        if case_id is None or not stored:
            raise unknown(kind, name)
        case = _replayed(case_id, stored, question)
        if case.order.status == NOTHING or (kind != "order" and not case.knows(kind, name)):
            raise unknown(kind, name)
        return case, self._policy(case.order.confirmed.pins.sha256)

    def _cases(self, question: Question) -> Iterator[tuple[Case, Policy]]:
        for case_id, stored in self.store.cases():
            case = _replayed(case_id, stored, question)
            if case.order.status != NOTHING:
                yield case, self._policy(case.order.confirmed.pins.sha256)


def _counts(entry: Recorded, question: Question) -> bool:
    as_of, known_at = question.as_of, question.known_at
    return (as_of is None or entry.fact.occurred_at <= as_of) and (
        known_at is None or entry.fact.recorded_at <= known_at
    )


def _replayed(case_id: str, stored: Sequence[Recorded], question: Question) -> Case:
    if question.as_of is None and question.known_at is None:
        return replay(case_id, stored)
    return replay_as_of(case_id, stored, question.as_of, question.known_at)
