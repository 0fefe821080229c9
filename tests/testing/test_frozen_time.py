"""What goes wrong when the time of a process stands still, and does not go wrong here: each trap has a test."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import pickle
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import time_machine
from freezegun import freeze_time
from patience import GUARD_SECONDS
from pydantic import BaseModel, PastDatetime, TypeAdapter
from pydantic_core import to_json

import returnable
from returnable.adapters.eventstore.open import open_store
from returnable.adapters.wiring import Services
from returnable.domain.calendar import first_instant
from returnable.domain.errors import StoreBusy
from returnable.domain.fields import parse_instant
from returnable.domain.handler import CommandHandler
from returnable.domain.policy import bundled_policies
from returnable.facade import Desk
from returnable.testing import Clock, ClockTaken, FrozenClock, Scenario, an_order, confirm_order, request_return
from returnable.testing.steps import flat

PLAIN = {"datetime": dt.datetime}
"""The class itself: freezegun does not look inside."""


def in_time(desk: Desk) -> bool:
    return desk.eligibility(order_id="A-1").cancellation.allowed


# ---- other hands on the clock ----------------------------------------------------------------------------------------


def test_freeze_time_by_hand_moves_a_desk_without_the_fixture_clock(desk: Desk) -> None:
    with freeze_time("2026-03-02T15:00:00Z"):
        desk.handle(confirm_order().fields)
    with freeze_time("2026-03-02T17:00:00Z") as frozen:
        last = in_time(desk)
        frozen.tick(dt.timedelta(microseconds=1))
        late = in_time(desk)

    assert (last, late) == (True, False)


def test_freeze_time_by_hand_inside_a_frozen_test_has_its_way_and_ends_where_the_clock_was(
    desk: Desk, clock: FrozenClock
) -> None:
    desk.handle(confirm_order().fields)

    with freeze_time("2026-03-05T15:00:00Z"):
        inside = in_time(desk)
    outside = in_time(desk)

    assert (inside, outside) == (False, True)
    assert dt.datetime.now(dt.UTC) == clock.now


def test_the_clock_does_not_pretend_to_move_a_time_that_somebody_else_froze(clock: FrozenClock) -> None:
    before = clock.now

    with freeze_time("2026-03-05"), pytest.raises(ClockTaken, match=r"frozen a second time inside this test"):
        clock.advance(hours=1)

    assert clock.now == before == dt.datetime.now(dt.UTC)
    clock.advance(hours=1)
    assert clock.now == dt.datetime.now(dt.UTC)


def test_a_story_is_not_told_at_another_time_than_the_code_under_test_sees(scenario: Scenario) -> None:
    with freeze_time("2026-03-02T21:00:00Z"), pytest.raises(ClockTaken):
        scenario.given(an_order())

    scenario.given(an_order()).then_view("order/A-1", status="confirmed")


@freeze_time("2019-05-05T12:00:00Z")
def test_a_decorated_test_that_asks_for_the_clock_is_where_its_decorator_says(clock: FrozenClock) -> None:
    assert dt.datetime.now(dt.UTC) == dt.datetime(2019, 5, 5, 12, tzinfo=dt.UTC)
    with pytest.raises(ClockTaken):
        clock.tick()


def test_time_machine_moves_a_desk_too(desk: Desk) -> None:
    with time_machine.travel("2026-03-02T15:00:00Z", tick=False):
        desk.handle(confirm_order().fields)
    with time_machine.travel("2026-03-02T17:00:00Z", tick=False) as traveller:
        last = in_time(desk)
        traveller.shift(dt.timedelta(microseconds=1))
        late = in_time(desk)

    assert (last, late) == (True, False)


def test_a_clock_that_is_frozen_while_time_machine_travels_has_its_way(desk: Desk) -> None:
    clock = FrozenClock("2026-03-02 12:00")
    clock.desk = desk
    with time_machine.travel("2026-03-02T15:00:00Z", tick=False):
        desk.handle(confirm_order().fields)
        thaw = clock.freeze()
        last = in_time(desk)
        clock.tick()
        late = in_time(desk)
        thaw()
        travelled = dt.datetime.now(dt.UTC)

    assert (last, late) == (True, False)
    assert travelled == dt.datetime(2026, 3, 2, 15, tzinfo=dt.UTC)


def test_a_clock_that_is_not_frozen_goes_with_time_machine() -> None:
    clock = Clock("2026-03-02 12:00")

    with time_machine.travel(clock.now, tick=False):
        seen = dt.datetime.now(dt.UTC)

    assert seen == clock.now


# ---- pydantic models built while the time is frozen ------------------------------------------------------------------


def model_of_a_host() -> type[BaseModel]:
    class Parcel(BaseModel):
        scanned_at: dt.datetime
        day: dt.date
        seen: list[dt.datetime | None] = []

    return Parcel


def test_a_model_that_a_host_defines_while_the_time_is_frozen_is_as_good_as_any(clock: FrozenClock) -> None:
    parcel = model_of_a_host()

    made: Any = parcel(scanned_at=dt.datetime.now(dt.UTC), day=clock.now.date(), seen=[clock.now, None])
    read: Any = parcel.model_validate_json(made.model_dump_json())
    strict = parcel.model_validate(made.model_dump(), strict=True)

    assert made == read == strict
    assert read.scanned_at == clock.now
    assert made.model_dump(mode="json")["day"] == "2026-03-02"
    assert parcel.model_json_schema()["properties"]["scanned_at"]["format"] == "date-time"
    assert parcel.model_json_schema()["properties"]["day"]["format"] == "date"


def test_such_a_model_goes_on_when_the_time_does() -> None:
    with freeze_time("2026-03-02T15:00:00Z"):
        parcel = model_of_a_host()
        within: Any = parcel(scanned_at=dt.datetime.now(dt.UTC), day=dt.datetime.now(dt.UTC).date())

    after: Any = parcel(scanned_at=dt.datetime(2026, 3, 2, 15, tzinfo=dt.UTC), day=dt.date(2026, 3, 2))

    assert after == within
    with pytest.raises(ValueError, match="valid date"):
        parcel(scanned_at=dt.datetime.now(dt.UTC), day="someday")


def test_a_field_that_asks_for_the_past_can_be_read_while_the_time_is_frozen(clock: FrozenClock) -> None:
    past = TypeAdapter(PastDatetime)

    assert past.validate_python("2001-03-02T14:59:00Z").year == 2001
    assert time.localtime().tm_gmtoff == -time.timezone
    assert time.localtime(0).tm_year in (1969, 1970)


def test_an_adapter_of_a_frozen_annotation_knows_instants_from_dates(clock: FrozenClock) -> None:
    instants, days = TypeAdapter(dt.datetime), TypeAdapter(dt.date)

    assert instants.validate_python("2026-03-02T15:00:00Z") == clock.now
    assert days.validate_python("2026-03-02") == clock.now.date()
    with pytest.raises(ValueError, match="date"):
        days.validate_python("2026-03-02T15:00:01Z")


# ---- instants of a test's own kind in serialisers --------------------------------------------------------------------


def instants_in(value: Any) -> Iterator[dt.datetime]:
    if isinstance(value, PLAIN["datetime"]):
        yield value
    elif isinstance(value, BaseModel):
        yield from (found for _, each in value for found in instants_in(each))
    elif isinstance(value, tuple | list):
        yield from (found for each in value for found in instants_in(each))


@pytest.mark.parametrize("by_hand", [False, True])
def test_no_instant_of_a_frozen_clock_gets_into_facts_and_answers(
    request: pytest.FixtureRequest, by_hand: bool
) -> None:
    with freeze_time("2026-03-05T15:00:00Z") if by_hand else _clock(request):
        desk = returnable.open("memory:", policy=None)
        for step in flat([an_order(delivered="2026-03-05"), request_return()]):
            outcome = desk.handle(step.resolved("America/New_York"), at=dt.datetime.now(dt.UTC) + dt.timedelta(days=9))
        events = [entry.event for entry in desk.services.store.read(0, 100)]
        found = [outcome.at, *(each for event in events for each in instants_in(event)), desk.edges("order/A-1").at]

    assert len(found) > 10
    assert {type(each) for each in found if not isinstance(each, str)} == {PLAIN["datetime"]}
    assert orjson.loads(orjson.dumps(outcome.at)).startswith("2026-03-")
    assert to_json(events)
    assert pickle.loads(pickle.dumps(outcome.at)) == copy.deepcopy(outcome.at) == outcome.at


def _clock(request: pytest.FixtureRequest) -> Any:
    from contextlib import nullcontext

    return nullcontext(request.getfixturevalue("clock"))


def test_an_instant_of_another_library_s_own_kind_becomes_a_plain_one() -> None:
    class Moment(dt.datetime):
        """As pandas and pendulum have them."""

    given = Moment(2026, 3, 2, 10, 0, 0, 7, tzinfo=dt.timezone(dt.timedelta(hours=-5)))

    instant = parse_instant(given)

    assert type(instant) is dt.datetime
    assert instant == given


def test_what_is_remembered_while_the_time_is_frozen_is_plain_afterwards() -> None:
    with freeze_time("2026-03-05"):
        first_instant(dt.date(2031, 7, 1), "Europe/Zurich")

    assert type(first_instant(dt.date(2031, 7, 1), "Europe/Zurich")) is dt.datetime


def test_a_command_that_is_repeated_on_a_file_while_the_time_is_frozen_says_a_plain_instant(
    tmp_path: Path, clock: FrozenClock
) -> None:
    with returnable.open(f"sqlite:///{tmp_path}/shop.db") as desk:
        desk.handle(confirm_order(command_id="c-1").fields)
        again = desk.handle(confirm_order(command_id="c-1").fields)

    assert again.replayed
    assert type(again.at) is PLAIN["datetime"]


# ---- waits on a clock that stands still ------------------------------------------------------------------------------


def test_a_follower_of_a_store_wakes_up_although_the_time_stands_still(tmp_path: Path, clock: FrozenClock) -> None:
    seen: queue.Queue[str] = queue.Queue()
    url = f"sqlite:///{tmp_path}/shop.db"
    with returnable.open(url) as reading, returnable.open(url) as writing:

        def follow() -> None:
            with reading.services.store.follow() as events:
                seen.put(next(events).event.type)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        writing.handle(confirm_order().fields)
        told = seen.get(timeout=GUARD_SECONDS)
        follower.join(timeout=GUARD_SECONDS)

    assert told == "Confirmed"
    assert not follower.is_alive()


def test_a_store_that_is_held_by_another_writer_gives_up_although_the_time_stands_still(
    tmp_path: Path, clock: FrozenClock
) -> None:
    store = open_store(f"sqlite:///{tmp_path}/shop.db", busy_timeout_seconds=0.05)
    other = sqlite3.connect(tmp_path / "shop.db")
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreBusy):
        Desk(Services(store, CommandHandler(store, bundled_policies()))).handle(confirm_order().fields)

    other.close()
    store.close()


def test_a_coroutine_that_sleeps_wakes_up_although_the_time_stands_still(clock: FrozenClock) -> None:
    async def nap() -> str:
        await asyncio.wait_for(asyncio.sleep(0.01), timeout=GUARD_SECONDS)
        return str(clock)

    assert asyncio.run(nap()) == "Mon 2026-03-02 10:00 EST"


def test_the_monotonic_clock_of_the_host_stands_still_and_moves_with_the_clock(clock: FrozenClock) -> None:
    start = time.monotonic()
    still = time.monotonic() - start
    clock.advance(minutes=5)
    moved = time.monotonic() - start

    assert (still, round(moved)) == (0, 300)


def test_a_scenario_needs_no_frozen_time_and_leaves_the_time_alone() -> None:
    story = Scenario().given(an_order(delivered="2026-03-05"))

    assert dt.datetime is PLAIN["datetime"]
    assert str(story.clock) == "Thu 2026-03-05 00:00 EST"
