"""What has an id of its own, and how it is named: ``order/A-1``, ``return/R-1``, ``claim/C-1``, ``refund/F-1``,
``arrival/D-1``."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from returnable.domain.errors import HistoryBroken, short

SubjectKind = Literal["order", "return", "claim"]
"""The kinds that the policy judges. Each has a stream of events in the case of its order."""
CaseKind = Literal["order", "return", "claim", "refund"]
"""The kinds that belong to an order."""
RegisteredKind = Literal["return", "claim", "refund", "arrival"]
"""The kinds whose ids are unique in the whole store."""
IndexedKind = Literal["return", "claim", "refund", "arrival", "tracking"]
"""What leads to cases: ids that are unique in the whole store, and tracking numbers."""
Kind = Literal["order", "return", "claim", "refund", "arrival"]
"""An arrival is a parcel that nobody announced. It has a stream of events, and is a case of its own."""

KINDS: tuple[Kind, ...] = get_args(Kind)


class StreamId(NamedTuple):
    """An order, return, claim or arrival, which has a stream of events; or a refund, whose events are in another's.

    >>> str(StreamId("order", "A-1")), StreamId.parse("return/R/1")
    ('order/A-1', StreamId(kind='return', id='R/1'))
    """

    kind: Kind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"

    @staticmethod
    def parse(text: str) -> StreamId:
        """The subject of a recorded name; raises :class:`HistoryBroken` for a name that cannot be."""
        found = StreamId.meant_by(text)
        if found is None:
            raise HistoryBroken(f"{short(text)} is not the name of a stream")
        return found

    @staticmethod
    @lru_cache(maxsize=4096)
    def meant_by(text: str) -> StreamId | None:
        """The subject that a caller names; ``None`` where the text is not such a name."""
        word, _, name = text.partition("/")
        for kind in KINDS:
            if kind == word and name:
                return StreamId(kind, name)
        return None
