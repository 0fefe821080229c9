"""How stored views keep up with the facts: built case by case, then brought up to date in windows of the log.

After a batch up to a position, the rows of every case it touched are exactly what the facts of the case up to there make
of it, and the position is saved in the same transaction. A batch that was cut off left nothing; one that is done twice
leaves the same; of two projectors that do the same batch, one saves it and the other notices. So every fact is told exactly
once, whatever is killed and however many run.
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
"""Cases that are built in one transaction."""

POSITIONS_IN_BATCH = 2000
"""The width of a window of the log that is told in one transaction."""

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """How a view stands beside the store."""

    view: str
    mark: Mark | None
    """``None``: it was never begun."""
    head: int
    """The position of the store's last fact."""
    parked: tuple[Damage, ...]
    elsewhere: bool = False
    """Another fact stands in the store where the view has come to: it was made of another history."""

    @property
    def behind(self) -> int:
        """How many positions of the log it has not told: all of them until it is built."""
        return max(0, self.head - self.mark.position) if self.mark is not None and self.mark.built else self.head

    @property
    def state(self) -> Literal["missing", "being built", "behind", "up to date", "ahead"]:
        """Whether it can be read, and is worth it; ``ahead``: the store was put back to an older copy of itself."""
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
        """How each view stands."""
        return statuses(self.store, self.views, self.names)

    def rebuild(self, names: Sequence[str]) -> None:
        """Empty these views; the next batches build them anew. All of them at once may have been of another store."""
        if set(names) != set(VIEWS):
            self._check_store()
        self.views.begin(names, self._mark(self.store.head()), origin_of(self.store))

    def run(self, advance: Advance = lambda count: None, stopped: Callable[[], bool] = lambda: False) -> None:
        """Batch by batch until every view is up to date, or ``stopped`` says so between two batches.

        Cases that were parked are tried again first. ``advance`` is told how many positions of the log were covered.
        Raises ``StoreUnusable`` when the views belong to another store, or to a later state of this one.
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
        """Stay up to date until ``stopped`` says so; ``wait`` is called whenever there is nothing to do.

        Where another projector holds the views for long, this one waits, too.
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
        """One batch of the views that are furthest behind; ``False`` when there was nothing to do."""
        self._check_store()
        marks = self._marks()
        # Asked after the marks: another projector may be further than a head that was asked for earlier.
        head = self.store.head()
        missing = [name for name in self.names if name not in marks]
        if missing:
            self.views.begin(missing, self._mark(head), self._identity)
            return True
        ahead = [name for name, mark in marks.items() if mark.position > head or _elsewhere(mark, self.store)]
        if ahead:
            raise StoreUnusable(
                f"the stored views {', '.join(ahead)} tell of facts that the store does not hold: is it an older copy? "
                "Build them anew with --rebuild"
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
        # Up to the next view at most: from there on they go together.
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
                self._tell_again({name: mark}, mark, case_ids)

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
        case_ids, events, changes = self._told(group, cases)
        after = Mark(mark.position, case_ids[-1] if case_ids else None, mark.place)
        if self.views.save(group, after, changes, self._identity):
            advance(events * len(group))

    def _catch_up(self, group: Mapping[str, Mark], upto: int, advance: Advance) -> None:
        first = next(iter(group.values())).position
        if self._tell_again(group, self._mark(upto), self.store.changed_cases(first, upto)):
            advance((upto - first) * len(group))

    def _tell_again(self, group: Mapping[str, Mark], after: Mark, case_ids: Sequence[str]) -> bool:
        cases = ((case_id, *self.store.load_until_damage(case_id, after.position)) for case_id in case_ids)
        _, _, changes = self._told(group, cases)
        return self.views.save(group, after, changes, self._identity)

    def _told(
        self, group: Mapping[str, Mark], cases: Iterable[tuple[str, Sequence[Recorded], Damage | None]]
    ) -> tuple[Sequence[str], int, Changes]:
        """Which cases, how many facts, and what the views make of them."""
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
    """What views say of the store that they were made of: its identity, and the timeline that its file was on.

    After a restore hosts repeat what they had asked for, and other facts come to stand where those of the views stood. So
    views of an earlier timeline belong to another store.
    """
    identity = store.store_id()
    timelines = store.records.timelines()
    return None if identity is None else f"{identity}:{timelines[-1].cookie if timelines else ''}"


def _elsewhere(mark: Mark, store: EventStore) -> bool:
    """Whether another fact stands in the store where the view has come to."""
    return mark.place is not None and mark.place != store.fingerprint_at(mark.position)


def statuses(store: EventStore, views: ViewStore, names: Sequence[str] = tuple(VIEWS)) -> list[ViewStatus]:
    """How each view stands beside the store; raises ``StoreUnusable`` when it belongs to another one."""
    with views.reading() as reading:
        return [standing_of(name, store, reading) for name in names]


def standing_of(name: str, store: EventStore, reading: Reading) -> ViewStatus:
    """How a view stands beside the store; raises ``StoreUnusable`` when it belongs to another one."""
    reading.belongs_to(origin_of(store))
    mark = reading.marks().get(name)
    parked = tuple(damage for _, damage in reading.parked(name))
    # Asked after the marks: a store that grows in between makes a view look behind, never ahead.
    return ViewStatus(name, mark, store.head(), parked, mark is not None and _elsewhere(mark, store))
