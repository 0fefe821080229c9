"""Which cases have a deadline to record by an instant: the due table of a store, kept up to date with its events.

The table is only an index. A case that it names is loaded again, and its events decide.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from returnable.domain.case import Case, fold
from returnable.domain.errors import HistoryBroken
from returnable.domain.ports import Damage, DueCase, EventStore, Recorded
from returnable.domain.timetable import next_due

POSITIONS_AT_ONCE = 2000
"""How many positions of the log one transaction covers."""

CASES_AT_ONCE = 500

_log = logging.getLogger("returnable")


class DueCases:
    """Updates the due table of a store. Any number may do so at once: one succeeds, and the others notice."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.table = store.due

    def catch_up(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Process all events recorded by now, or until ``stopped`` returns true; returns the position of the table then."""
        head = self._store.head()
        while (position := self.table.position()) < head and not stopped():
            if position == 0:
                self._build(head, stopped)
            else:
                upto = min(position + POSITIONS_AT_ONCE, head)
                self._take_in(position, upto, self._store.changed_cases(position, upto))
        return position

    def retry_parked(self) -> None:
        """Load the parked cases again: a later version may be able to read them."""
        position = self.table.position()
        parked = self.table.parked()
        if parked:
            self._take_in(position, position, parked)

    def _build(self, head: int, stopped: Callable[[], bool]) -> None:
        # Case by case, because windows of the log would load every case again and again. A process that ends meanwhile begins
        # again: this happens once in the life of a store, and a million events take 13 s (docs/scale.md).
        after = ""
        due: list[DueCase] = []
        parked: list[str] = []
        while not stopped():
            last = None
            for last, events, damage in self._store.load_page(after, CASES_AT_ONCE, head):
                _look(last, events, damage, due, parked)
            if last is None:
                self.table.update(0, head, (), due, parked)
                return
            after = last

    def _take_in(self, position: int, upto: int, case_ids: Sequence[str]) -> None:
        due: list[DueCase] = []
        parked: list[str] = []
        for case_id in case_ids:
            _look(case_id, *self._store.load_until_damage(case_id), due, parked)
        self.table.update(position, upto, case_ids, due, parked)

    def sound_case(self, case_id: str) -> Case | None:
        """A case as it is now. A case with unreadable events is logged and parked: ``None``."""
        try:
            return _whole(case_id, *self._store.load_until_damage(case_id))
        except HistoryBroken as error:
            self.park(case_id, error)
            return None

    def park(self, case_id: str, why: Exception) -> None:
        """Park a case and log why, so that it does not block the others."""
        _log_left_out(case_id, why)
        self.table.park(case_id)


def _look(
    case_id: str, events: Sequence[Recorded], damage: Damage | None, due: list[DueCase], parked: list[str]
) -> None:
    try:
        at = next_due(_whole(case_id, events, damage))
    except HistoryBroken as error:
        _log_left_out(case_id, error)
        parked.append(case_id)
        return
    if at is not None:
        due.append(DueCase(case_id, at))


def _whole(case_id: str, events: Sequence[Recorded], damage: Damage | None) -> Case:
    if damage is not None:
        raise HistoryBroken(damage.reason)
    return fold(case_id, events)


def _log_left_out(case_id: str, why: Exception) -> None:
    _log.error("case %r was left out when deadlines were recorded: %s", case_id, why)
