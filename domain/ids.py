"""What has an id of its own, and how it is named: ``order/A-1``, ``return/R-1``, ``claim/C-1``, ``refund/F-1``."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from returnable.domain.errors import HistoryBroken, short

SubjectKind = Literal["order", "return", "claim"]
"""The kinds with a stream of events."""
RegisteredKind = Literal["return", "claim", "refund"]
"""The kinds whose ids are unique in the whole store."""
Kind = Literal["order", "return", "claim", "refund"]

KINDS: tuple[Kind, ...] = get_args(Kind)


class StreamId(NamedTuple):
    """An order, return or claim, which has a stream of events; or a refund, whose events are in the stream of another.

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
