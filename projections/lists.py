"""Lists: the same answers from events, as of any instant, or from stored views, without folding."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from pydantic_core import from_json

from returnable.domain.case import Case
from returnable.domain.errors import Impossible, short
from returnable.domain.policy import Policy
from returnable.projections.claims import claim_at, claim_values
from returnable.projections.ledger import Balance, balance_values
from returnable.projections.orders import order_values
from returnable.projections.ports import Reading
from returnable.projections.refunds import refund_at, refund_values
from returnable.projections.returns import return_at, return_values
from returnable.projections.statistics import Tally
from returnable.projections.views import ClaimView, OrderView, RefundView, ReturnView, WorklistView
from returnable.projections.worklist import Waiting, worklist_view

Values = dict[str, Any]
ListName = Literal["orders", "returns", "refunds", "claims"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of subjects: the values of a case without a clock, and their form at an instant."""

    name: ListName
    view: type[OrderView] | type[ReturnView] | type[RefundView] | type[ClaimView]
    of_case: Callable[[Case, Policy], list[Values]]
    at: Callable[[Mapping[str, Any], datetime], Values]

    @property
    def key(self) -> str:
        """The name of the subject's id: ``order_id`` and so on."""
        return f"{self.name.removesuffix('s')}_id"

    @property
    def statuses(self) -> tuple[str, ...]:
        """The states that a subject on the list may be in."""
        return get_args(self.view.model_fields["status"].annotation)

    def check_status(self, status: str | None) -> None:
        """Raise ``command.invalid`` for a status that no subject on the list can have."""
        if status is not None and status not in self.statuses:
            raise Impossible(
                "command.invalid", f"{short(status)} is none of {', '.join(self.statuses)}", field="status"
            )


LISTS: Mapping[str, Listed] = {
    listed.name: listed
    for listed in (
        Listed(
            "orders",
            OrderView,
            lambda case, policy: [] if case.arrival is not None else [order_values(case, policy)],
            lambda values, moment: dict(values),
        ),
        Listed(
            "returns",
            ReturnView,
            lambda case, policy: [return_values(ret, policy) for ret in case.returns.values()],
            return_at,
        ),
        Listed(
            "refunds",
            RefundView,
            lambda case, policy: [refund_values(refund, policy) for refund in case.refunds.values()],
            refund_at,
        ),
        Listed(
            "claims",
            ClaimView,
            lambda case, policy: [claim_values(claim, policy) for claim in case.claims.values()],
            claim_at,
        ),
    )
}
"""The lists of subjects, by name."""


class StoredLists:
    """Answers from stored views as of one moment, at an instant of the reader's choice."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def listed(
        self, name: str, moment: datetime, status: str | None = None, limit: int | None = None
    ) -> Iterator[Values]:
        """The orders, returns, refunds or claims, in order of the order's id; raises ``command.invalid`` for a status."""
        listed = LISTS[name]
        listed.check_status(status)
        where = {} if status is None else {"status": status}
        rows = self.reading.rows(name, ("document",), where, limit)
        return (listed.at(from_json(document), moment) for (document,) in rows)

    def worklist(self, moment: datetime, kinds: Collection[str] | None = None) -> WorklistView:
        """The tasks that wait at ``moment``."""
        columns = ("kind", "subject", "name", "zone", "due_at", "shown_from", "shown_until", "overdue_from")
        return worklist_view((_waiting(row) for row in self.reading.rows("worklist", columns)), kinds, moment)

    def ledger(self, order_id: str | None = None) -> Iterator[Values]:
        """The payments of every order, or of one, in order of the order's id."""
        where = {} if order_id is None else {"order_id": order_id}
        rows = self.reading.rows("ledger", Balance._fields, where)
        return (balance_values(_balance(row)) for row in rows)

    def statistics(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Values]:
        """How often each clause decided, in the decisions from ``since`` on and before ``until``."""
        tally = Tally()
        for clause, currency, verdict, decisions, amount in self.reading.clause_counts(since, until):
            tally.add(clause, currency, verdict, decisions, amount)
        return tally.values()


def _balance(row: Sequence[Any]) -> Balance:
    order_id, payment_id, method, currency, *amounts = row
    return Balance(order_id, payment_id, method, currency, *map(int, amounts))


def _waiting(row: Sequence[Any]) -> Waiting:
    kind, subject, name, tz, *instants = row
    return Waiting(kind, subject, name, tz, *(None if at is None else datetime.fromisoformat(at) for at in instants))


def limited(values: Iterable[Values], status: str | None, limit: int | None) -> Iterator[Values]:
    """The first ``limit`` values with that status."""
    left = limit
    for one in values:
        if status is None or one["status"] == status:
            if left == 0:
                return
            yield one
            left = None if left is None else left - 1
