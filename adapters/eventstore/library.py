"""What the ``eventsourcing`` library asks of a recorder, kept once for every store.

The library knows streams (``originator_id``, ``originator_version``) and one log of all of them. It knows no cases. So each
stream that it inserts is a case of its own, with the versions of the stream as places in the case.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, IntegrityError, Notification, StoredEvent, Subscription

from returnable.adapters.eventstore.appends import Row
from returnable.adapters.eventstore.follow import Following
from returnable.domain.errors import Stale
from returnable.domain.ports import Batch, CommandReceipt, Entry, ReservedId


class StoredEntry(NamedTuple):
    """An entry of a batch whose event is encoded already. Stores read no more of an entry than this."""

    stream: str
    version: int
    encoded: tuple[str, bytes]


class LibraryRecorder(ApplicationRecorder):
    """The library's contract for recorders, built on :meth:`append` and on queries for rows."""

    @abstractmethod
    def append(
        self,
        batches: Sequence[Batch],
        *,
        reserved_ids: Sequence[ReservedId] = (),
        receipt: CommandReceipt | None = None,
        pinned: str | None = None,
    ) -> Sequence[int]: ...

    @abstractmethod
    def rows(self, after: int, limit: int | None, upto: int | None = None, topics: Sequence[str] = ()) -> list[Row]:
        """At most ``limit`` rows with positions above ``after`` and at most ``upto``, in order of position."""

    @abstractmethod
    def case_rows(self, case_id: str, upto: int | None = None) -> list[Row]:
        """The rows of a case in order, with positions of at most ``upto``."""

    @abstractmethod
    def case_of_stream(self, stream: str) -> str | None:
        """The case in which a stream has its version 1."""

    @abstractmethod
    def followed(self, following: Following[Any]) -> None:
        """Wake an iterator at each append, and stop it when the store is closed."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        """Raises the library's ``IntegrityError`` unless each version follows the last one of its stream, and ``TypeError``
        for arguments that would otherwise be ignored, such as ``tracking``."""
        if kwargs:
            raise TypeError(f"insert_events() does not know {', '.join(sorted(kwargs))}")
        # The library numbers some streams from 0. Such a stream is a case that goes on behind -1.
        runs = groupby(
            enumerate(stored_events), key=lambda each: (each[1].originator_id, each[1].originator_version - each[0])
        )
        batches: list[Batch] = []
        for (originator_id, _), run in runs:
            stream = _stream_of(originator_id)
            entries = [StoredEntry(stream, event.originator_version, (event.topic, event.state)) for _, event in run]
            batches.append(Batch(stream, entries[0].version - 1, cast("tuple[Entry, ...]", tuple(entries))))
        try:
            return self.append(batches)
        except (Stale, ValueError) as error:
            raise IntegrityError(str(error)) from error

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        stream = _stream_of(originator_id)
        found = [
            StoredEvent(stream, version, topic, content)
            for _, _, _, of_stream, version, topic, content in self.case_rows(self.case_of_stream(stream) or stream)
            if of_stream == stream and (gt is None or version > gt) and (lte is None or version <= lte)
        ]
        return (found[::-1] if desc else found)[:limit]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = 0 if start is None else start - 1 if inclusive_of_start else start
        return [_notification(row) for row in self.rows(after, limit, stop, topics)]

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        subscription = _Subscription(self.rows, _notification, gt or 0, topics)
        self.followed(subscription)
        return subscription


class _Subscription(Following[Notification], Subscription[ApplicationRecorder]):
    """What the library calls an iterator that follows the log."""


def _notification(row: Row) -> Notification:
    position, _, _, stream, version, topic, content = row
    return Notification(stream, version, topic, content, position)


def _stream_of(originator_id: UUID | str) -> str:
    if isinstance(originator_id, str):
        return originator_id
    raise TypeError(f"a stream is named by text such as 'return/R-1', not by {originator_id!r}")
