"""Finds the subject of a question: ``order/A-1``, ``return/R-1``, ``claim/C-1``, ``refund/F-1``, or just ``R-1``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from returnable.domain.case import Case, counts, fold, fold_as_of, unknown
from returnable.domain.errors import HistoryBroken, Impossible, checked_text
from returnable.domain.fields import LONGEST_ID
from returnable.domain.ids import KINDS, Kind, StreamId
from returnable.domain.lifecycles import NOTHING
from returnable.domain.policy import Policy, PolicyOf
from returnable.domain.ports import Damage, EventStore, Recorded
from returnable.projections.damage import up_to_damage

LONGEST = len("arrival/") + LONGEST_ID
"""The longest name of a subject, with its kind."""
CASES_IN_PAGE = 500


@dataclass(frozen=True, slots=True)
class Subject:
    """An order, return, claim, refund or arrival, its case, and the events of that case."""

    kind: Kind
    name: str
    case_id: str
    case: Case
    policy: Policy
    """The policy pinned to the case."""
    events: Sequence[Recorded]
    """The events of the whole case that count, in the order in which they were recorded."""
    history: Sequence[Recorded]
    """All events of the case, with those that do not count; of a damaged case those before the damage."""
    damage: Damage | None = None
    """The first event that cannot be read, or cannot have happened there; it and all later events are left out."""

    @property
    def stream(self) -> str:
        """``order/ID``, ``return/ID`` or ``claim/ID``; the events of a refund are in the stream of what it pays for."""
        return self.case.stream_with(StreamId(self.kind, self.name))

    def __str__(self) -> str:
        return str(StreamId(self.kind, self.name))

    def concerns(self, entry: Recorded) -> bool:
        """Whether an event is about the subject: an order has those of its whole case, a refund those that name it."""
        if self.kind == "order":
            return entry.case_id == self.case_id
        named = self.kind != "refund" or entry.event.refund_id == self.name
        return named and entry.stream == self.stream

    def owns(self, other: str) -> bool:
        """Whether another subject (``refund/F-1``) is this one or belongs to it: an order has all, a return its refunds."""
        if self.kind == "order" or other == str(self):
            return True
        kind, name = StreamId.parse(other)
        return kind == "refund" and self.case.refunds[name].stream == str(self)


def find_subject(
    store: EventStore,
    policy_of: PolicyOf,
    text: str,
    as_of: datetime | None = None,
    known_at: datetime | None = None,
    damaged: Callable[[Damage], None] | None = None,
    *,
    arrivals: bool = False,
) -> Subject:
    """The subject named by ``text``, as it was in the world at ``as_of``, as far as recorded by ``known_at``.

    ``policy_of`` finds a pinned policy by its hash. An id without a kind is enough if only one kind of subject has it.
    Raises ``order.unknown`` and so on if there is no such subject there and then, and ``command.invalid`` if there are
    several, or for a parcel that nobody announced, unless ``arrivals``. If an event of the case cannot be read, or cannot
    have happened there, only the events before it count, and ``damaged`` is called; without ``damaged`` raises
    :class:`HistoryBroken`.
    """
    kind, name, case_id = _find(store, checked_text("subject", text, LONGEST))
    if kind == "arrival" and not arrivals:
        why = f"{kind} {name} is a parcel that nobody announced. No decision was made on it; `audit` shows its history"
        raise Impossible("command.invalid", why, field="subject")
    stored, damage = store.load_until_damage(case_id)
    case, damage = up_to_damage(stored, damage, lambda these: fold(case_id, these))
    if damage is not None:
        if damaged is None:
            raise HistoryBroken(f"{damage.event_id}, of case {case_id!r}: {damage.reason}")
        damaged(damage)
        stored = stored[: case.seq]
    case, events = case_at(case, stored, as_of, known_at)
    return Subject(kind, name, case_id, case, policy_for(case, kind, name, policy_of), events, stored, damage)


def case_at(
    case: Case, events: Sequence[Recorded], as_of: datetime | None, known_at: datetime | None
) -> tuple[Case, Sequence[Recorded]]:
    """A case as it was in the world at ``as_of``, as far as recorded by ``known_at``, and its events that count then.

    ``events``: all events of ``case``, which is returned if neither instant is given.
    """
    if as_of is None and known_at is None:
        return case, events
    counting = [entry for entry in events if counts(entry, as_of, known_at)]
    return fold_as_of(case.case_id, counting, None, None), counting


def policy_for(case: Case, kind: Kind, name: str, policy_of: PolicyOf) -> Policy:
    """The policy pinned to a case; raises ``order.unknown`` and so on if the subject is not in the case."""
    known = case.order.status != NOTHING if kind == "order" else case.knows(kind, name)
    if case.pins is None or not known:
        raise unknown(kind, name)
    return policy_of(case.pins.sha256)


def every_case(store: EventStore) -> Iterator[str]:
    """The ids of all cases of a store, in order; read a page at a time."""
    after = ""
    while page := store.case_ids(after):
        yield from page
        after = page[-1]


def every_loaded_case(store: EventStore, upto: int) -> Iterator[tuple[str, Sequence[Recorded], Damage | None]]:
    """Every case of a store with its events up to a position, and its damage, as :meth:`EventStore.load_page` has them."""
    last: str | None = ""
    while last is not None:
        page, last = store.load_page(last, CASES_IN_PAGE, upto), None
        for last, events, damage in page:
            yield last, events, damage


def _find(store: EventStore, text: str) -> tuple[Kind, str, str]:
    meant = StreamId.meant_by(text)
    if meant is not None:
        kind, name = meant
        case_id = _case_of(store, kind, name)
        if case_id is None:
            raise unknown(kind, name)
        return kind, name, case_id
    hits: list[tuple[Kind, str]] = [
        (each, case_id) for each in KINDS if (case_id := _case_of(store, each, text)) is not None
    ]
    if not hits:
        raise Impossible(
            "order.unknown", f"there is no order, return, claim, refund or arrival {text!r}", field="subject"
        )
    if len(hits) > 1:
        these = " and ".join(f"{each}/{text}" for each, _ in hits)
        raise Impossible("command.invalid", f"{text!r} may be {these}; say which", field="subject")
    ((kind, case_id),) = hits
    return kind, text, case_id


def _case_of(store: EventStore, kind: Kind, name: str) -> str | None:
    if kind != "order":
        return store.case_of(kind, name)
    events, damage = store.load_until_damage(name)
    return name if events or damage is not None else None
