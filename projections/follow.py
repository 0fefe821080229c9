"""Keeps stored views up to date: builds them case by case, then updates them in windows of the log.

A batch computes the rows of each case that it touches from the events of the case up to a position, and saves rows and
position in one transaction. An interrupted batch leaves nothing. A repeated batch leaves the same rows. If two projectors
compute the same batch, one saves it and the other notices. So each event counts exactly once, whatever is killed and
however many projectors run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.policy import PolicyOf
from returnable.domain.ports import Damage, EventStore, Recorded
from returnable.projections.ports import Changes, Mark, Reading, ViewStore
from returnable.projections.stored import VIEWS, add_case, empty_changes

CASES_IN_BATCH = 500
"""The number of cases that are built in one transaction."""

POSITIONS_IN_BATCH = 2000
"""The number of positions of the log that are covered in one transaction."""

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """The state of a view, compared with its store."""

    view: str
    mark: Mark | None
    """``None`` if the view was never begun."""
    head: int
    """The position of the store's last event."""
    parked: tuple[Damage, ...]
    elsewhere: bool = False
    """Whether the store has another event at the view's position: the view was made of another history."""

    @property
    def behind(self) -> int:
        """How many positions of the log the view does not cover yet: all of them until it is built."""
        return max(0, self.head - self.mark.position) if self.mark is not None and self.mark.built else self.head

    @property
    def state(self) -> Literal["missing", "being built", "behind", "up to date", "ahead"]:
        """Whether the view can be used; ``ahead``: the store was restored to an older copy of itself."""
        if self.mark is None:
            return "missing"
        if self.mark.position > self.head or self.elsewhere:
            return "ahead"
        if not self.mark.built:
            return "being built"
        return "behind" if self.behind else "up to date"


class Projector:
    """Brings views up to date; any number may run on the same views, in one process or several."""

    def __init__(
        self,
        store: EventStore,
        views: ViewStore,
        policy_of: PolicyOf,
        names: Sequence[str] = tuple(VIEWS),
        *,
        cases_in_batch: int = CASES_IN_BATCH,
        positions_in_batch: int = POSITIONS_IN_BATCH,
    ) -> None:
        self.store = store
        self.views = views
        self.names = tuple(names)
        self._policy_of = policy_of
        self._cases_in_batch = cases_in_batch
        self._positions_in_batch = positions_in_batch
        self._identity: str | None = None

    def statuses(self) -> list[ViewStatus]:
        """The status of each view."""
        return statuses(self.store, self.views, self.names)

    def rebuild(self, names: Sequence[str]) -> None:
        """Empty these views; the next batches build them again. All views together may have been of another store."""
        if set(names) != set(VIEWS):
            self._check_store()
        self.views.begin(names, self._mark(self.store.head()), origin_of(self.store))

    def run(self, advance: Advance = lambda count: None, stopped: Callable[[], bool] = lambda: False) -> None:
        """Run batches until every view is up to date, or until ``stopped`` returns true between two batches.

        Parked cases are tried again first. ``advance`` is called with the number of positions covered. Raises
        ``StoreUnusable`` if the views belong to another store, or to a later state of this one.
        """
        self.retry_parked()
        while not stopped() and self.step(advance):
            pass

    def follow(
        self,
        wait: Callable[[], object],
        stopped: Callable[[], bool],
        advance: Advance = lambda count: None,
    ) -> None:
        """Keep the views up to date until ``stopped`` returns true; ``wait`` is called whenever there is nothing to do.

        If another projector holds the views for long, this one waits, too.
        """
        self.retry_parked()
        while not stopped():
            try:
                idle = not self.step(advance)
            except StoreBusy:
                idle = True
            if idle:
                wait()

    def step(self, advance: Advance = lambda count: None) -> bool:
        """Run one batch of the views that are furthest behind; returns ``False`` if there was nothing to do."""
        self._check_store()
        marks = self._marks()
        # The head is read after the marks: another projector may be further than a head that was read earlier.
        head = self.store.head()
        missing = [name for name in self.names if name not in marks]
        if missing:
            self.views.begin(missing, self._mark(head), self._identity)
            return True
        ahead = [name for name, mark in marks.items() if mark.position > head or _elsewhere(mark, self.store)]
        if ahead:
            raise StoreUnusable(
                f"the stored views {', '.join(ahead)} hold events that the store does not hold: is it an older copy? "
                "Build them again with --rebuild"
            )
        building = sorted(
            {mark for mark in marks.values() if not mark.built}, key=lambda m: (m.position, m.cursor or "")
        )
        if building:
            self._build({name: mark for name, mark in marks.items() if mark == building[0]}, building[0], advance)
            return True
        positions = sorted({mark.position for mark in marks.values()})
        first = positions[0]
        if first == head:
            return False
        # At most up to the next view: from there on they continue together.
        upto = min([first + self._positions_in_batch, head, *positions[1:2]])
        self._catch_up({name: mark for name, mark in marks.items() if mark.position == first}, upto, advance)
        return True

    def retry_parked(self) -> None:
        """Try the parked cases again: a later version may be able to read what stopped an earlier one."""
        self._check_store()
        marks = self._marks()
        for name in self.names:
            mark = marks.get(name)
            case_ids = sorted({damage.case_id for _, damage in self.views.parked(name)})
            if mark is not None and mark.built and case_ids:
                self._update({name: mark}, mark, case_ids)

    def _check_store(self) -> None:
        if self._identity is None:
            self._identity = origin_of(self.store)
            self.views.belongs_to(self._identity)

    def _mark(self, position: int) -> Mark:
        return Mark(position, place=self.store.fingerprint_at(position))

    def _marks(self) -> Mapping[str, Mark]:
        marks = self.views.marks()
        return {name: marks[name] for name in self.names if name in marks}

    def _build(self, group: Mapping[str, Mark], mark: Mark, advance: Advance) -> None:
        assert mark.cursor is not None
        cases = self.store.load_page(mark.cursor, self._cases_in_batch, mark.position)
        case_ids, events, changes = self._changes(group, cases)
        after = Mark(mark.position, case_ids[-1] if case_ids else None, mark.place)
        if self.views.save(group, after, changes, self._identity):
            advance(events * len(group))

    def _catch_up(self, group: Mapping[str, Mark], upto: int, advance: Advance) -> None:
        first = next(iter(group.values())).position
        if self._update(group, self._mark(upto), self.store.changed_cases(first, upto)):
            advance((upto - first) * len(group))

    def _update(self, group: Mapping[str, Mark], after: Mark, case_ids: Sequence[str]) -> bool:
        cases = ((case_id, *self.store.load_until_damage(case_id, after.position)) for case_id in case_ids)
        _, _, changes = self._changes(group, cases)
        return self.views.save(group, after, changes, self._identity)

    def _changes(
        self, group: Mapping[str, Mark], cases: Iterable[tuple[str, Sequence[Recorded], Damage | None]]
    ) -> tuple[Sequence[str], int, Changes]:
        """The ids of the cases, the number of their events, and their rows in the views."""
        views = [VIEWS[name] for name in group]
        case_ids: list[str] = []
        events = 0
        changes = empty_changes(views, case_ids)
        for case_id, recorded, damage in cases:
            case_ids.append(case_id)
            events += len(recorded)
            add_case(changes, views, case_id, recorded, damage, self._policy_of)
        return case_ids, events, changes


def origin_of(store: EventStore) -> str | None:
    """The identity of the store of which views were made, with the timeline of its file.

    After a restore hosts repeat commands, so that other events take the positions that the views had covered. Therefore
    views of an earlier timeline belong to another store.
    """
    identity = store.store_id()
    timelines = store.records.timelines()
    return None if identity is None else f"{identity}:{timelines[-1].cookie if timelines else ''}"


def _elsewhere(mark: Mark, store: EventStore) -> bool:
    """Whether the store has another event at the view's position."""
    return mark.place is not None and mark.place != store.fingerprint_at(mark.position)


def statuses(store: EventStore, views: ViewStore, names: Sequence[str] = tuple(VIEWS)) -> list[ViewStatus]:
    """The status of each view; raises ``StoreUnusable`` if it belongs to another store."""
    with views.reading() as reading:
        return [status_of(name, store, reading) for name in names]


def status_of(name: str, store: EventStore, reading: Reading) -> ViewStatus:
    """The status of a view; raises ``StoreUnusable`` if it belongs to another store."""
    reading.belongs_to(origin_of(store))
    mark = reading.marks().get(name)
    parked = tuple(damage for _, damage in reading.parked(name))
    # The head is read after the marks: a store that grows in between makes a view look behind, never ahead.
    return ViewStatus(name, mark, store.head(), parked, mark is not None and _elsewhere(mark, store))
