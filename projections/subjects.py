"""Finding what somebody asks about: ``order/A-1``, ``return/R-1``, ``claim/C-1``, ``refund/F-1``, or just ``R-1``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from returnable.domain.case import Case, counts, fold, fold_as_of, unknown
from returnable.domain.errors import HistoryBroken, Impossible, checked_text
from returnable.domain.ids import KINDS, Kind, StreamId
from returnable.domain.lifecycles import NOTHING
from returnable.domain.policy import Policy, PolicyOf
from returnable.domain.ports import Damage, EventStore, Recorded
from returnable.projections.damage import up_to_damage

LONGEST = len("return/") + 128
"""How long the name of a subject may be, with its kind."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An order, return, claim or refund, the case it is in, and the stream in which its facts stand."""

    kind: Kind
    name: str
    case_id: str
    case: Case
    policy: Policy
    """The policy pinned to the order."""
    events: Sequence[Recorded]
    """The facts of the whole case that count, in the order in which they were recorded."""
    history: Sequence[Recorded]
    """All facts of the case, also those left out by ``as_of`` and ``known_at``; of a damaged case those before the damage."""
    damage: Damage | None = None
    """Where the case stops because a fact cannot be read, or cannot have happened there."""

    @property
    def stream(self) -> str:
        """``order/ID``, ``return/ID`` or ``claim/ID``; a refund's facts stand with what it pays for."""
        return self.case.stream_with(StreamId(self.kind, self.name))

    def __str__(self) -> str:
        return str(StreamId(self.kind, self.name))

    def concerns(self, entry: Recorded) -> bool:
        """Whether a fact is about the subject: an order has those of its whole case, a refund those that name it."""
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
) -> Subject:
    """The subject meant by ``text``, as it stood in the world at ``as_of``, as far as recorded by ``known_at``.

    ``policy_of`` finds a pinned policy by its hash. An id without a kind is enough where only one kind of subject has it.
    Raises ``order.unknown`` and so on when there is none there and then, and ``command.invalid`` when several are meant.
    Of a case with a fact that cannot be read, or cannot have happened where it stands, all before that fact counts and
    ``damaged`` is told; without ``damaged`` raises :class:`HistoryBroken`.
    """
    kind, name, case_id = _find(store, checked_text("subject", text, LONGEST))
    stored, damage = store.load_until_damage(case_id)
    case, damage = up_to_damage(stored, damage, lambda these: fold(case_id, these))
    if damage is not None:
        if damaged is None:
            raise HistoryBroken(f"{damage.event_id}, of case {case_id!r}: {damage.reason}")
        damaged(damage)
        stored = stored[: case.seq]
    events = stored
    if as_of is not None or known_at is not None:
        events = [entry for entry in stored if counts(entry, as_of, known_at)]
        case = fold_as_of(case_id, events, None, None)
    if case.order.status == NOTHING or (kind != "order" and not case.knows(kind, name)):
        raise unknown(kind, name)
    pinned = policy_of(case.order.confirmed.pins.sha256)
    return Subject(kind, name, case_id, case, pinned, events, stored, damage)


def every_case(store: EventStore) -> Iterator[str]:
    """The ids of all cases of a store, in order, a page at a time."""
    after = ""
    while page := store.case_ids(after):
        yield from page
        after = page[-1]


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
        raise Impossible("order.unknown", f"there is no order, return, claim or refund {text!r}", field="subject")
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
