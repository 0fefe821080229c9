"""Ends that are counted in days: what the events recorded holds, and everything else is counted anew."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from usual import a_labelled_return

from returnable.domain.deadlines import Deadlines
from returnable.domain.policy import bundled_policies
from returnable.testing import Scenario

NOON = datetime(2026, 3, 10, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("type", "name", "recorded", "counted"),
    [
        ("Delivered", "return_before", "2026-03-20T04:00:00Z", "2026-03-25T04:00:00Z"),
        ("Delivered", "report_before", "2026-03-17T04:00:00Z", "2026-03-20T04:00:00Z"),
        ("LabelIssued", "void_at", "2026-03-12T04:00:00Z", "2026-03-13T04:00:00Z"),
    ],
)
def test_an_end_is_the_recorded_one_or_else_counted(type: str, name: str, recorded: str, counted: str) -> None:
    services = Scenario().given(a_labelled_return()).services
    events = {entry.event.type: entry.event for entry in services.store.load("A-1")}
    policy = bundled_policies().versions[-1]
    clauses = policy.clauses
    counting = {
        "return_before": clauses.returns_window,
        "report_before": clauses.wrong_item_window,
        "void_at": clauses.returns_ship_by,
    }

    def end(event: str | None) -> datetime:
        return Deadlines(policy, events[event] if event else None).end(counting[name], NOON, name)

    assert end(type) == datetime.fromisoformat(recorded)
    assert end(None) == end("Confirmed") == datetime.fromisoformat(counted)
