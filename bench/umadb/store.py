"""A store of facts on an UmaDB server: a trial, not a part of the package.

UmaDB keeps one log of events with tags. An append may carry one condition, a list of tag queries and one position behind
which they look, and fails when anything matches. There is one position for all queries, so everything that must be unique
is a tag of its own, looked for in the whole log: the place in the case, the first fact of a stream, an id, a command.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal
from uuid import UUID, uuid4

import umadb
from eventsourcing.persistence import StoredEvent
from pydantic import TypeAdapter

from returnable.adapters.eventstore.bookkeeping import MemoryBookmarks, MemoryDueTable
from returnable.adapters.eventstore.recorder import (
    CaseRecorder,
    Placement,
    Row,
    check_next,
    conflict,
    refuse_unknown,
    stream_of,
)
from returnable.domain.calendar import plain
from returnable.domain.errors import Stale, StoreUnusable
from returnable.domain.ports import Name, Receipt

_RECEIPTS = TypeAdapter(Receipt)

FACT = "fact"
CASE = "case"


class UmaDBCaseRecorder(CaseRecorder):
    """Records on an UmaDB server. Bookmarks and the due table are kept in memory: the log has no place for them."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._client = umadb.Client(url=url)
        self.bookmarks = MemoryBookmarks()
        self.due = MemoryDueTable()
        self._closed = False
        self._known_cases: list[str] = []
        self._known_to = 0
        self._cases_lock = threading.Lock()

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        *,
        cases: Sequence[Placement] | None = None,
        names: Sequence[Name] = (),
        receipt: Receipt | None = None,
        **kwargs: Any,
    ) -> Sequence[int]:
        refuse_unknown(kwargs)
        self._check_open()
        try:
            return self._insert(stored_events, cases, names, receipt)
        except (umadb.IntegrityError, Stale) as error:
            raise self._conflict(cases, names, receipt, str(error)) from None

    def _insert(
        self,
        events: Sequence[StoredEvent],
        cases: Sequence[Placement] | None,
        names: Sequence[Name],
        receipt: Receipt | None,
    ) -> Sequence[int]:
        places = self._places(events, cases)
        unique: list[str] = []
        written: list[umadb.Event] = []
        for event, (case_id, case_seq) in zip(events, places, strict=True):
            stream = stream_of(event.originator_id)
            own = [f"seq:{case_seq}:{case_id}"]
            if event.originator_version == 1 or cases is None:
                own.append(f"version:{event.originator_version}:{stream}")
            unique += own
            tags = [FACT, f"case:{case_id}", f"stream:{stream}", *own, *([CASE] if case_seq == 1 else [])]
            place = {"case": case_id, "seq": str(case_seq), "stream": stream, "version": str(event.originator_version)}
            written.append(umadb.Event(event.topic, event.state, tags, uuid4(), place))
        unique += [f"seq:{case.after + 1}:{case.case_id}" for case in cases or () if not case.size]
        named = [f"{name.kind}:{name.name}" for name in names]
        if len(set(unique)) < len(unique) or len(set(named)) < len(named):
            # Within one append nothing is compared.
            raise umadb.IntegrityError("the same twice")
        unique += named
        if receipt is not None:
            unique.append(f"command:{receipt.command_id}")
            named.append(f"command:{receipt.command_id}")
        if named:
            size, last = {"facts": str(len(events))}, _RECEIPTS.dump_json(receipt) if receipt else b""
            owners = {f"{name.kind}:{name.name}": name.case_id for name in names}
            written.append(umadb.Event("append", last, named, uuid4(), size | owners))
        if not written:
            # An append of no events ends the server (0.7.8).
            if unique and self._any(*unique):
                raise umadb.IntegrityError("stale")
            return []
        last_position = self._client.append(written, _never(*unique))
        first = last_position - len(written) + 1
        self._wake_followers()
        return list(range(first, first + len(events)))

    def _places(self, events: Sequence[StoredEvent], cases: Sequence[Placement] | None) -> list[tuple[str, int]]:
        """The place of each event in its case; raises where a stream would have a gap, or a case is shorter than known.

        What is read here cannot change before the append: facts stay, and the next place is taken only once.
        """
        if cases is None:
            return [(stream_of(event.originator_id), event.originator_version) for event in events]
        places: list[tuple[str, int]] = []
        known: dict[str, dict[str, int]] = {}
        counts: dict[str, int] = {}
        nth = 0
        for case_id, after, size in cases:
            if case_id not in counts:
                last = self._last(f"case:{case_id}")
                counts[case_id] = last[2] if last else 0
                known[case_id] = {last[3]: last[4]} if last else {}
            if counts[case_id] != after:
                raise Stale(case_id)
            counts[case_id] += size
            for case_seq in range(after + 1, after + size + 1):
                event, nth = events[nth], nth + 1
                stream, version = stream_of(event.originator_id), event.originator_version
                stands_at = known[case_id].get(stream)
                if stands_at is None:
                    last = None if version == 1 else self._last(f"case:{case_id}", f"stream:{stream}")
                    stands_at = last[4] if last else 0
                check_next(stream, stands_at, version)
                known[case_id][stream] = version
                places.append((case_id, case_seq))
        return places

    def _conflict(
        self, cases: Sequence[Placement] | None, names: Sequence[Name], receipt: Receipt | None, cause: str
    ) -> Exception:
        seen = receipt is not None and self._any(f"command:{receipt.command_id}")
        taken = next((name for name in names if self._any(f"{name.kind}:{name.name}")), None)
        stale: str | None = None
        counts: dict[str, int] = {}
        for case_id, after, size in cases or ():
            if case_id not in counts:
                last = self._last(f"case:{case_id}")
                counts[case_id] = last[2] if last else 0
            if stale is None and counts[case_id] != after:
                stale = case_id
            counts[case_id] = after + size
        return conflict(seen=seen, taken=taken, stale=stale, receipt=receipt, cases=cases, names=names, cause=cause)

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        rows = self._rows(f"stream:{stream_of(originator_id)}", backwards=desc)
        wanted = (r for r in rows if (gt is None or r[4] > gt) and (lte is None or r[4] <= lte))
        return [StoredEvent(row[3], row[4], row[5], row[6]) for row in wanted][:limit]

    def rows(self, after: int, limit: int | None, upto: int | None = None, topics: Sequence[str] = ()) -> list[Row]:
        if limit == 0 or (upto is not None and upto <= after):
            return []
        query = umadb.Query([umadb.QueryItem(types=list(topics), tags=[FACT])])
        self._check_open()
        most = None if upto is None else upto - max(after, 0)
        limit = min((n for n in (limit, most) if n is not None), default=None)
        found = [_row(event) for event in self._client.read(query, start=max(after, 0) + 1, limit=limit)]
        return [row for row in found if upto is None or row[0] <= upto]

    def case_rows(self, case_id: str, upto: int | None = None) -> list[Row]:
        return [row for row in self._rows(f"case:{case_id}") if upto is None or row[0] <= upto]

    def last_row(self, upto: int) -> Row | None:
        return self._last(FACT, upto=upto) if upto > 0 else None

    def case_ids(self, after: str, limit: int) -> list[str]:
        known = self._case_ids()
        first = bisect_right(known, after)
        return known[first : first + limit]

    def _case_ids(self) -> list[str]:
        # There is no order but that of the log, so the ids are sorted here, and kept up from the log.
        self._check_open()
        with self._cases_lock:
            for event in self._client.read(_having(CASE), start=self._known_to + 1):
                insort(self._known_cases, event.event.metadata["case"])
                self._known_to = event.position
            return list(self._known_cases)

    def rows_of_cases(self, after: str, last: str, upto: int | None = None) -> list[Row]:
        these = [case_id for case_id in self._case_ids() if after < case_id <= last]
        return [row for case_id in these for row in self.case_rows(case_id, upto)]

    def touched(self, after: int, upto: int) -> list[str]:
        return sorted({row[1] for row in self.rows(after, None, upto)})

    def each_case(self) -> Iterator[tuple[str, list[Row]]]:
        head = self.max_notification_id() or 0
        for case_id in self._case_ids():
            rows = self.case_rows(case_id, head)
            for _, of_case in groupby(rows, key=itemgetter(1)):
                yield case_id, list(of_case)

    def max_notification_id(self) -> int | None:
        last = self._last(FACT)
        return None if last is None else last[0]

    def case_of(self, kind: Literal["return", "claim", "refund"], name: str) -> str | None:
        event = self._one(f"{kind}:{name}")
        return None if event is None else event.event.metadata[f"{kind}:{name}"]

    def receipt(self, command_id: str) -> Receipt | None:
        event = self._one(f"command:{command_id}")
        if event is None:
            return None
        kept = _RECEIPTS.validate_json(event.event.data)
        size = int(event.event.metadata["facts"])
        places = (event.position - size, event.position - 1) if size else (0, 0)
        return replace(kept, at=plain(kept.at.astimezone(UTC)), first=places[0], last=places[1])

    def keep_policy(self, sha256: str, document: str) -> None:
        tag = f"policy:{sha256}"
        self._check_open()
        if not self._any(tag):
            with suppress(umadb.IntegrityError):  # somebody else kept it
                self._client.append([umadb.Event("policy", document.encode(), [tag], uuid4())], _never(tag))

    def policy(self, sha256: str) -> str | None:
        event = self._one(f"policy:{sha256}")
        return None if event is None else bytes(event.event.data).decode()

    def close(self) -> None:
        self._closed = True
        super().close()

    def _rows(self, *tags: str, backwards: bool = False) -> list[Row]:
        self._check_open()
        return [_row(event) for event in self._client.read(_having(*tags), backwards=backwards)]

    def _last(self, *tags: str, upto: int | None = None) -> Row | None:
        self._check_open()
        # Read to the end, always: a client that leaves answers unread is cut off by the server.
        found = [_row(event) for event in self._client.read(_having(*tags), start=upto, backwards=True, limit=1)]
        return found[0] if found else None

    def _one(self, tag: str) -> umadb.SequencedEvent | None:
        self._check_open()
        found = list(self._client.read(_having(tag), limit=1))
        return found[0] if found else None

    def _any(self, *tags: str) -> bool:
        query = umadb.Query([umadb.QueryItem(tags=[tag]) for tag in tags])
        return bool(list(self._client.read(query, limit=1)))

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnusable("umadb: the store is closed")


def _having(*tags: str) -> umadb.Query:
    return umadb.Query([umadb.QueryItem(tags=list(tags))])


def _never(*tags: str) -> umadb.AppendCondition:
    return umadb.AppendCondition(umadb.Query([umadb.QueryItem(tags=[tag]) for tag in tags]))


def _row(event: umadb.SequencedEvent) -> Row:
    place, told = event.event.metadata, event.event
    seq, version = int(place["seq"]), int(place["version"])
    return event.position, place["case"], seq, place["stream"], version, told.event_type, bytes(told.data)
