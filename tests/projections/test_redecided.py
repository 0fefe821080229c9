"""Every recorded decision, decided again from its pins, comes out as it is on record."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from importlib import resources
from pathlib import Path

import pytest
import tzdata
from hypothesis import given
from hypothesis import strategies as st
from usual import a_delivered_order, a_labelled_return, an_authorized_return, an_inspected_return

from returnable.adapters.export.tables import harmless
from returnable.adapters.printable import printable, visible
from returnable.adapters.wiring import Services, assemble
from returnable.domain import calendar, deadlines
from returnable.domain.events import Delivered, Event, LabelIssued, RefundRequested, ReturnDeclined
from returnable.domain.policy import bundled_policies
from returnable.domain.ports import Recorded
from returnable.projections.redecided import Redecided, redecide, redecide_store, redecide_stored
from returnable.testing import (
    Scenario,
    an_order,
    declined,
    record_delivery,
    record_refund_result,
    record_return_shipment,
    request_refund,
    request_return,
)
from returnable.testing.behaviour import World


def again(services: Services) -> list[Redecided]:
    """Every case of a store, decided again."""
    return list(redecide_store(services.store, services.handler.policy))


def spoilt(story: Scenario, event: type[Event], **changes: object) -> Redecided:
    """The case of order A-1 decided again after one of its facts was changed."""
    events = [_changed(entry, event, changes) for entry in story.services.store.load("A-1")]
    return redecide("A-1", events, story.services.handler.policy)


def _changed(entry: Recorded, event: type[Event], changes: dict[str, object]) -> Recorded:
    if not isinstance(entry.event, event):
        return entry
    return replace(entry, event=entry.event.model_copy(update=changes))


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60))
def test_any_history_comes_out_the_same(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)

    found = again(world.services)

    assert [case.differences for case in found] == [()] * len(found)
    assert sum(case.facts for case in found) == world.services.store.head()


def test_a_text_of_a_later_unicode_is_decided_again_and_exported_as_it_is() -> None:
    """Stands for a store that a newer Python wrote: this one knows none of these code points."""
    later = "Ann \u0378\U0001faff"
    assert not any(char.isprintable() for char in later[4:])
    line = {"line_id": "1", "sku": later, "unit_price": "10.00", "quantity": 1, "description": later}
    story = Scenario().given(an_order(lines=[line], customer={"customer_id": "c", "account_id": "a", "name": later}))

    (found,) = again(story.services)

    assert found.differences == ()
    assert harmless(later) == printable(later) == visible(later) == later


def other_holidays(patch: pytest.MonkeyPatch) -> None:
    """Every Monday is closed from now on."""
    days = bundled_policies().versions[0].days
    mondays = frozenset(range(date(2025, 1, 6).toordinal(), date(2035, 1, 1).toordinal(), 7))
    patch.setattr(days, "_closed", days._closed | mondays)
    patch.setattr(calendar, "_last_day", calendar._last_day.__wrapped__)


def other_zones(patch: pytest.MonkeyPatch) -> None:
    """The clocks of New York go like those of Phoenix from now on: hours behind, and with no daylight saving."""
    phoenix = calendar.zone("America/Phoenix")
    patch.setattr(calendar, "zone", lambda name: phoenix)
    patch.setattr(calendar, "first_instant", calendar.first_instant.__wrapped__)
    patch.setattr(deadlines, "first_instant", calendar.first_instant)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=20, max_size=60), st.sampled_from([other_holidays, other_zones]))
def test_no_holiday_table_and_no_time_zone_database_of_a_later_day_changes_a_decision(
    seeds: list[int], other: Callable[[pytest.MonkeyPatch], None]
) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)

    with pytest.MonkeyPatch.context() as patch:
        other(patch)
        found = again(world.services)

    assert [case.differences for case in found] == [()] * len(found)


@pytest.mark.parametrize("other", [other_holidays, other_zones])
def test_a_decision_made_now_would_be_another_one_then(
    monkeypatch: pytest.MonkeyPatch, other: Callable[[pytest.MonkeyPatch], None]
) -> None:
    before = Scenario().given(an_inspected_return(), request_refund())

    other(monkeypatch)
    after = Scenario().given(an_inspected_return(), request_refund())

    overdue_at = [
        next(e.event.overdue_at for e in story.services.store.load("A-1") if isinstance(e.event, RefundRequested))
        for story in (before, after)
    ]
    assert overdue_at[0] < overdue_at[1]


def copy_of_tzdata(folder: Path, version: str = "1999z") -> Path:
    """A package ``tzdata`` of the test's own, which says another version."""
    package = folder / "tzdata"
    shutil.copytree(str(resources.files(tzdata)), package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").write_text(f'IANA_VERSION = "{version}"\n', encoding="utf-8")
    return package


def test_another_time_zone_database_changes_no_decision(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    story = Scenario(assemble(url)).given(an_inspected_return(), request_refund())
    story.services.store.close()
    america = copy_of_tzdata(tmp_path) / "zoneinfo" / "America"
    # The clocks of New York are made to go like those of Phoenix, which knows no daylight saving.
    shutil.copy(america / "Phoenix", america / "New_York")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "returnable.adapters.cli.entry"]

    checked = subprocess.run(
        [*command, "redecide", "--all", "--store", url], env=environment, capture_output=True, text=True, check=False
    )
    # The control: asked in that process, New York is seven hours behind Greenwich, so what is decided now moves.
    shown = subprocess.run(
        [*command, "order", "A-1", "--json", "--store", url],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert (checked.returncode, checked.stderr) == (0, "")
    assert "no differences" in checked.stdout
    assert "-07:00" in shown.stdout


def test_a_deadline_that_was_tampered_with_shows_where_it_was_weighed() -> None:
    story = Scenario().given(an_authorized_return())

    found = spoilt(story, Delivered, return_before=story.services.store.load("A-1")[0].event.occurred_at)

    (difference,) = found.differences
    assert (difference.event, difference.type) == ("return/R-1#1", "ReturnRequested")
    assert any("ReturnAuthorized is recorded" in line for line in difference.differences)


def test_a_verdict_that_was_tampered_with_is_named_with_its_clause() -> None:
    story = Scenario().given(a_delivered_order(final_sale=True), declined(request_return()))
    refusal = next(e.event for e in story.services.store.load("A-1") if isinstance(e.event, ReturnDeclined))
    ruling = tuple(
        finding.model_copy(update={"verdict": "pass"}) if finding.clause == "returns.final_sale" else finding
        for finding in refusal.ruling
    )

    found = spoilt(story, ReturnDeclined, ruling=ruling)

    assert [d.differences for d in found.differences] == [
        ("ruling[returns.final_sale].verdict: recorded pass, now fail",)
    ]


def test_a_decision_of_another_engine_says_so() -> None:
    story = Scenario().given(a_labelled_return())
    issued = next(e.event for e in story.services.store.load("A-1") if isinstance(e.event, LabelIssued))

    found = spoilt(story, LabelIssued, pins=issued.pins.model_copy(update={"engine": "0"}))

    assert found.differences[0].differences == (
        "decided by engine 0; this is engine 1",
        "pins.engine: recorded 0, now 1",
    )


def test_another_release_of_the_zone_data_is_named_where_something_differs() -> None:
    story = Scenario().given(a_labelled_return())
    issued = next(e.event for e in story.services.store.load("A-1") if isinstance(e.event, LabelIssued))
    ruling = tuple(finding.model_copy(update={"verdict": "fail"}) for finding in issued.ruling)
    pins = issued.pins.model_copy(update={"tzdata": "1999z"})

    found = spoilt(story, LabelIssued, pins=pins, ruling=ruling)

    assert found.differences[0].differences[0] == (
        f"decided with the zone data of tzdata 1999z; this is tzdata {calendar.ZONE_DATA}"
    )


@pytest.mark.parametrize("release", ["1999z", None])
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60))
def test_another_release_alone_is_no_difference(release: str | None, seeds: list[int]) -> None:
    """Also where refusals are counted, which pin a release, too. ``None``: from before releases were pinned."""
    world = World()
    for seed in seeds:
        world.step(seed)
    policy, store = world.services.handler.policy, world.services.store

    for case_id in store.case_ids(limit=1000):
        events = [_judged_with(entry, release) for entry in store.load(case_id)]
        assert redecide(case_id, events, policy).differences == ()


def _judged_with(entry: Recorded, release: str | None) -> Recorded:
    if entry.event.pins is None:
        return entry
    pins = entry.event.pins.model_copy(update={"tzdata": release})
    return replace(entry, event=entry.event.model_copy(update={"pins": pins}))


def test_a_policy_that_was_not_kept_is_a_difference_and_not_the_end() -> None:
    story = Scenario().given(an_order())
    confirmed = story.services.store.load("A-1")[0].event

    pins = confirmed.pins.model_copy(update={"sha256": "0" * 64})  # type: ignore[attr-defined]
    found = spoilt(story, type(confirmed), pins=pins)

    assert "cannot be decided again" in found.differences[0].differences[0]


def test_a_fact_that_cannot_have_happened_is_named() -> None:
    story = Scenario().given(a_labelled_return(), record_return_shipment())
    events = [e for e in story.services.store.load("A-1") if e.event.type != "LabelIssued"]

    found = redecide("A-1", events, story.services.handler.policy)

    assert (found.differences[-1].event, found.differences[-1].type) == ("return/R-1#4", "ReturnShipped")
    assert "cannot have happened" in found.differences[-1].differences[0]


def test_facts_that_should_be_there_or_should_not_are_told() -> None:
    story = Scenario().given(
        a_delivered_order(), record_delivery(delivered_at="2026-03-05 15:00", at="2026-03-05 16:00")
    )
    events = list(story.services.store.load("A-1"))
    without_exception = [e for e in events if e.event.type != "ExceptionRaised"]

    missing = redecide("A-1", without_exception, story.services.handler.policy)

    assert missing.differences[0].differences == ("ExceptionRaised is decided now, but is not recorded",)


def test_what_cannot_be_read_is_a_difference_and_the_rest_is_decided_again(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(
        a_delivered_order(), an_order("A-2", confirmed="2026-03-06 10:00")
    )
    connection = sqlite3.connect(path)
    connection.execute("UPDATE facts SET type = 'order.Teleported/1' WHERE case_id = 'A-1' AND version = 3")
    connection.commit()
    connection.close()

    first, second = again(story.services)

    assert (first.facts, first.differences[0].type, first.differences[0].event) == (
        2,
        "unreadable",
        "order/A-1#3",
    )
    assert "order.Teleported/1" in first.differences[0].differences[0]
    assert (second.facts, second.differences) == (1, ())
    story.services.store.close()


def test_one_stream_is_decided_again_on_the_whole_case() -> None:
    story = Scenario().given(an_inspected_return())

    found = redecide_stored(story.services.store, story.services.handler.policy, "A-1", "return/R-1")

    assert (found.commands, found.facts, found.differences) == (5, 6, ())


def tampered(tmp_path: Path, *statements: str) -> tuple[Redecided, ...]:
    """A store with a paid return, decided again after somebody edited its file."""
    path = tmp_path / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(
        an_inspected_return(), request_refund(), record_refund_result(), an_order("B-1", confirmed="2026-03-16 10:00")
    )
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    try:
        return tuple(again(story.services))
    finally:
        story.services.store.close()


@pytest.mark.parametrize(
    ("statements", "event", "says"),
    [
        (
            ["DELETE FROM facts WHERE stream = 'return/R-1' AND version = 4"],
            "return/R-1#5",
            "event 7 of the case is missing before it",
        ),
        (
            [
                "DELETE FROM facts WHERE stream = 'return/R-1' AND version = 4",
                "UPDATE facts SET case_seq = case_seq - 1 WHERE case_id = 'A-1' AND case_seq > 7",
            ],
            "return/R-1#5",
            "return/R-1#4 is missing before it",
        ),
        (["DELETE FROM facts WHERE stream = 'order/A-1' AND version = 1"], "order/A-1#2", "is missing before it"),
        (
            [
                "DELETE FROM facts WHERE type = 'refund.RefundRequested/1'",
                "UPDATE facts SET case_seq = case_seq - 1 WHERE case_id = 'A-1' AND case_seq > 10",
                "UPDATE facts SET version = version - 1 WHERE stream = 'return/R-1' AND version > 7",
            ],
            "return/R-1#7",
            "record_refund_result cannot be decided again",
        ),
        (
            ["UPDATE facts SET content = CAST(replace(content, '\"USD\"', '\"USX\"') AS BLOB) WHERE version = 1"],
            "order/A-1#1",
            "USX",
        ),
    ],
)
def test_a_fact_that_was_taken_out_or_edited_is_a_difference_and_not_the_end(
    tmp_path: Path, statements: list[str], event: str, says: str
) -> None:
    found = tampered(tmp_path, *statements)

    assert len(found) == 2
    (first, *_) = found[0].differences
    assert first.event == event
    assert says in " ".join(line for difference in found[0].differences for line in difference.differences)
