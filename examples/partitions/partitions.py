"""Orders partitioned by id over several stores: a recipe to copy and adapt.

An order, its returns, its claims and their refunds are one case, and a case never leaves its partition. So each command and
each question about them goes to one store, which answers as a single store would. Your ids must meet one condition: each id
leads to its order. ``order_of`` says how.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from heapq import merge

from returnable.adapters.wiring import Services
from returnable.domain.commands import Command, Question, RunDeadlines
from returnable.domain.errors import Impossible
from returnable.domain.outcome import Outcome
from returnable.projections.views import AnyView, WorkItem, WorklistView

OrderOf = Callable[[str, str], str]
"""Returns the id of the order, given a kind (``order``, ``return``, ``claim`` or ``refund``) and an id of that kind.

It depends on the id alone: it returns the same order every time, also before the return exists. So an id that is taken
leads to the one partition that knows it. Use ids like ``A-1.R1``, or a table from which you assign ids.
"""


def before_the_dot(kind: str, name: str) -> str:
    """The order of an id that begins with the order's id: ``A-1.R1`` and ``A-1.F2`` belong to ``A-1``.

    >>> before_the_dot("return", "A-1.R1"), before_the_dot("order", "A-1")
    ('A-1', 'A-1')
    """
    return name if kind == "order" else name.partition(".")[0]


class Partitions:
    """Several stores that act as one. Their names decide where an order lives, so keep the name of a partition that moves."""

    def __init__(self, stores: Mapping[str, Services], order_of: OrderOf = before_the_dot) -> None:
        self._stores = dict(stores)
        self._order_of = order_of

    def name_of(self, order_id: str) -> str:
        """The partition of an order: the one whose name has the highest hash together with the id.

        A new partition takes its share of the ids from all others, and no id moves between the others.
        """
        return max(self._stores, key=lambda name: hashlib.sha256(f"{name}\0{order_id}".encode()).digest())

    def handle(self, command: Command, at: datetime) -> Outcome:
        """Carry out a command where its order lives. ``run_deadlines`` runs on every partition, each in its own transaction.

        Raises the errors of a desk, and ``command.invalid`` for ids of different orders.
        """
        if isinstance(command, RunDeadlines):
            return _merged([services.handler.handle(command, at) for services in self._stores.values()])
        return self._of(command).handler.handle(command, at)

    def ask(self, question: Question, at: datetime) -> AnyView:
        """Answer a question where its order lives. The worklist is that of all partitions, the most urgent first."""
        if question.query == "worklist":
            views = [services.questions.answer(question, at) for services in self._stores.values()]
            return WorklistView(items=tuple(merge(*(_items(view) for view in views), key=_urgency)))
        return self._of(question).questions.answer(question, at)

    def _of(self, asked: Command | Question) -> Services:
        orders = {self._order_of(kind, name) for kind, name in _ids(asked)}
        if len(orders) != 1:
            raise Impossible("command.invalid", f"ids of different orders: {', '.join(sorted(orders))}")
        return self._stores[self.name_of(orders.pop())]


def _ids(asked: Command | Question) -> Iterator[tuple[str, str]]:
    for kind in ("order", "return", "claim", "refund"):
        name = getattr(asked, f"{kind}_id", None)
        if name is not None:
            yield kind, name
    subject = getattr(asked, "subject", None)
    if subject is not None:
        yield subject.kind, subject.id
    stream = getattr(asked, "stream", None)
    if stream is not None:
        kind, _, name = stream.partition("/")
        yield kind, name


def _merged(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome for deadlines that several stores recorded, in the order in which they fell due."""
    recorded = (event for one in outcomes for event in one.recorded_events)
    events = sorted(recorded, key=lambda event: (event[2].occurred_at, event[0]))
    policy = next((one.policy for one in outcomes if one.recorded_events), outcomes[0].policy)
    first, replayed = outcomes[0], all(one.replayed for one in outcomes)
    return Outcome(first.command, first.at, "accepted", tuple(events), None, policy, replayed)


def _items(view: AnyView) -> Sequence[WorkItem]:
    assert isinstance(view, WorklistView)
    return view.items


def _urgency(item: WorkItem) -> tuple[bool, float, str, str, str]:
    due = item.due_at
    at = datetime.fromisoformat(due).timestamp() if due is not None else 0
    return due is None, at, item.kind, item.subject.kind, item.subject.id
