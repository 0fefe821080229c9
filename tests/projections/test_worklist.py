"""The worklist: what waits because of a deadline, and when."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from returnable.domain.calendar import A_MOMENT
from returnable.domain.deadlines import Deadline
from returnable.domain.timetable import deadlines_of
from returnable.projections import worklist
from returnable.projections.subjects import find_subject
from returnable.projections.worklist import waiting_in, worklist_view
from returnable.testing import Scenario, an_order


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({"task_waits": "before"}, [[False], []]),
        ({"task_waits": "after"}, [[], [True]]),
        ({"task_waits": "throughout"}, [[False], [True]]),
        ({"open": False}, [[], []]),
        ({"task": None}, [[], []]),
    ],
)
def test_a_deadline_says_which_task_waits_and_when(changed: dict[str, object], seen: list[list[bool]]) -> None:
    services = Scenario().given(an_order()).services
    subject = find_subject(services.store, services.handler.policy, "A-1")
    (closing,) = deadlines_of(subject.case)
    deadline: Deadline = closing._replace(**{"task": "exception", **changed})

    with patch.object(worklist, "promises_of", lambda case: [deadline]):
        waiting = [*waiting_in(subject.case, subject.policy)]

    moments = (deadline.passes_at - A_MOMENT, deadline.passes_at)
    found = [worklist_view(waiting, None, moment).items for moment in moments]
    assert [[item.overdue for item in items] for items in found] == seen
    assert {(item.kind, item.subject.id, item.due_at) for items in found for item in items} <= {
        ("exception", "A-1", "2026-03-02T12:00:00-05:00")
    }
