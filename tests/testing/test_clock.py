"""The clock of a test: how it moves, and how times are said."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from returnable.domain.calendar import zone
from returnable.domain.wording import instant_in_words
from returnable.testing import Clock, a_policy, a_return, an_order, given
from returnable.testing.instants import ONE_TICK, instant, wall_time

NEW_YORK = "America/New_York"
INSTANTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 12, 1), timezones=st.just(UTC))
ZONES = st.sampled_from([NEW_YORK, "Europe/Zurich", "Asia/Kolkata", "Australia/Lord_Howe", "America/Havana", "UTC"])


# ---- times as a test says them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "meant"),
    [
        pytest.param("2026-03-05", "2026-03-05T00:00:00-05:00", id="a day is its first instant"),
        pytest.param(date(2026, 3, 5), "2026-03-05T00:00:00-05:00", id="a date, too"),
        pytest.param("2026-03-05 14:00", "2026-03-05T14:00:00-05:00", id="a time on the wall"),
        pytest.param("2026-07-05T14:00:30.25", None, id="a fraction that is no microsecond"),
        pytest.param("2026-07-05T14:00:30.250001", "2026-07-05T14:00:30.250001-04:00", id="to the microsecond"),
        pytest.param("2026-03-05T14:00:00+01:00", "2026-03-05T08:00:00-05:00", id="an offset is an offset"),
        pytest.param("2026-03-05T14:00:00Z", "2026-03-05T09:00:00-05:00", id="and so is Z"),
        pytest.param(datetime(2026, 3, 5, 14), "2026-03-05T14:00:00-05:00", id="a naive datetime is on the wall"),
        pytest.param(datetime(2026, 3, 5, 14, tzinfo=UTC), "2026-03-05T09:00:00-05:00", id="an aware one is not"),
        pytest.param("2026-11-01T01:30:00-05:00", "2026-11-01T01:30:00-05:00", id="the second of two"),
    ],
)
def test_a_time_is_said_as_people_say_it(when: datetime | date | str, meant: str | None) -> None:
    if meant is None:
        meant = "2026-07-05T14:00:30.250000-04:00"

    found = instant(when, NEW_YORK)

    assert found == datetime.fromisoformat(meant)
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("when", "zone_name", "says"),
    [
        ("2026-03-08 02:00", NEW_YORK, "does not exist in America/New_York: the clocks go forward from 02:00 to 03:00"),
        ("2026-03-08 02:59:59.999999", NEW_YORK, "does not exist"),
        ("2026-11-01 01:00", NEW_YORK, "say 2026-11-01T01:00:00-04:00 or 2026-11-01T01:00:00-05:00"),
        ("2026-10-04 02:15", "Australia/Lord_Howe", "does not exist in Australia/Lord_Howe: .* from 02:00 to 02:30"),
        ("2026-03-08 00:30", "America/Havana", "does not exist in America/Havana: .* from 00:00 to 01:00"),
        (datetime(2026, 11, 1, 1, 30), NEW_YORK, "2026-11-01 01:30 happens twice"),
        ("2026-02-30", NEW_YORK, "day is out of range"),
        ("2026-02-30 10:00", NEW_YORK, "day is out of range"),
        ("yesterday", NEW_YORK, "nor a time such as"),
        ("", NEW_YORK, "nor a time such as"),
        ("2026-03-05 14", NEW_YORK, "nor a time such as"),
    ],
)
def test_a_time_that_is_none_or_two_is_refused(when: datetime | str, zone_name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        instant(when, zone_name)


@for_all(INSTANTS, ZONES)
def test_what_the_wall_shows_is_that_instant_or_is_refused(at: datetime, zone_name: str) -> None:
    wall = at.astimezone(zone(zone_name)).replace(tzinfo=None, fold=0)

    try:
        found = instant(wall, zone_name)
    except ValueError as error:
        assert "happens twice" in str(error)
    else:
        assert found == at == wall_time(wall, zone_name)


def test_an_instant_is_told_to_the_second_and_further_only_where_it_has_more() -> None:
    at = datetime(2026, 3, 20, 4, 0, tzinfo=UTC)

    assert instant_in_words(at + timedelta(seconds=5), zone(NEW_YORK)) == "Fri 2026-03-20 00:00:05 EDT"
    assert instant_in_words(at - ONE_TICK, zone(NEW_YORK)) == "Thu 2026-03-19 23:59:59.999999 EDT"


# ---- moving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "days", "lands_on"),
    [
        pytest.param("2026-03-06 12:00", 3, "Mon 2026-03-09 12:00 EDT", id="over the missing hour"),
        pytest.param("2026-10-31 12:00", 1, "Sun 2026-11-01 12:00 EST", id="over the repeated hour"),
        pytest.param("2026-03-07 02:30", 1, "Sun 2026-03-08 03:30 EDT", id="into the missing hour"),
        pytest.param("2026-10-31 01:30", 1, "Sun 2026-11-01 01:30 EDT", id="into the repeated hour"),
        pytest.param("2024-02-28 23:59:59", 1, "Thu 2024-02-29 23:59:59 EST", id="into the leap day"),
        pytest.param("2026-12-31 10:00", 1, "Fri 2027-01-01 10:00 EST", id="over the year's end"),
    ],
)
def test_calendar_days_end_at_the_same_time_of_the_wall(start: str, days: int, lands_on: str) -> None:
    assert str(Clock(start).advance_days(days)) == lands_on


@pytest.mark.parametrize(
    ("start", "count", "lands_on"),
    [
        pytest.param("2026-11-25 13:00", 1, "Fri 2026-11-27 13:00 EST", id="over Thanksgiving"),
        pytest.param("2026-11-25 13:00", 2, "Mon 2026-11-30 13:00 EST", id="over Thanksgiving and a weekend"),
        pytest.param("2026-07-02 09:00", 1, "Mon 2026-07-06 09:00 EDT", id="4 July as observed on the 3rd"),
        pytest.param("2026-03-07 11:00", 1, "Mon 2026-03-09 11:00 EDT", id="from a Saturday"),
        pytest.param("2026-03-07 11:00", 0, "Sat 2026-03-07 11:00 EST", id="none at all"),
    ],
)
def test_business_days_are_those_of_the_policy(start: str, count: int, lands_on: str) -> None:
    assert str(Clock(start).advance_business_days(count)) == lands_on


def test_the_days_off_of_a_policy_count_and_its_zone_is_that_of_the_wall() -> None:
    clock = Clock("2026-03-03 10:00", policy=a_policy(zone="Europe/Zurich", closed_also=["2026-03-04"]))

    clock.advance_business_days(1)

    assert str(clock) == "Thu 2026-03-05 10:00 CET"
    assert clock.local.isoformat() == "2026-03-05T10:00:00+01:00"


def test_the_version_in_force_says_what_a_business_day_is() -> None:
    old = a_policy(effective="2026-01-01", version="1")
    new = a_policy(effective="2026-03-02", version="2", closed_also=["2026-02-03", "2026-03-03"])

    before = Clock("2026-02-02 10:00", policy=[old, new]).advance_business_days(1)
    after = Clock("2026-03-02 10:00", policy=[old, new]).advance_business_days(1)

    assert str(before) == "Tue 2026-02-03 10:00 EST"
    assert str(after) == "Wed 2026-03-04 10:00 EST"
    assert Clock("2025-01-01", policy=[old, new]).policy.version == "1"


def test_elapsed_time_is_elapsed_whatever_the_wall_shows() -> None:
    clock = Clock("2026-03-07 23:00")

    clock.advance(hours=4)

    assert str(clock) == "Sun 2026-03-08 04:00 EDT"
    assert str(clock.advance(timedelta(days=1))) == "Mon 2026-03-09 04:00 EDT"
    assert clock.tick(2).now == datetime(2026, 3, 9, 8, 0, 0, 2, tzinfo=UTC)


def test_time_goes_back_only_when_it_is_said() -> None:
    clock = Clock("2026-03-07 23:00")

    for back in (lambda: clock.advance(hours=-1), lambda: clock.advance_days(-1), lambda: clock.tick(-1)):
        with pytest.raises(ValueError, match=r"time does not go back; move_to\(\) does"):
            back()
    with pytest.raises(ValueError, match="time does not go back"):
        clock.advance_business_days(-1)

    assert str(clock) == "Sat 2026-03-07 23:00 EST"
    assert str(clock.move_to("2026-03-02")) == "Mon 2026-03-02 00:00 EST"


def test_no_days_at_all_keep_the_second_of_two_equal_times() -> None:
    clock = Clock("2026-11-01T01:30:00-05:00")

    assert clock.advance_days(0).advance_business_days(0).now == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)


def test_to_advance_says_by_what() -> None:
    with pytest.raises(TypeError, match="takes a timedelta, or its parts by name"):
        Clock().advance()


@for_all(INSTANTS, st.integers(0, 40))
def test_business_days_are_calendar_days_less_those_off(at: datetime, count: int) -> None:
    clock = Clock(at)
    start = clock.local.date()

    clock.advance_business_days(count)

    passed = [start + timedelta(days=day) for day in range(1, (clock.local.date() - start).days + 1)]
    assert sum(clock.calendar.is_business_day(day) for day in passed) == count


def test_an_instant_of_any_offset_is_kept_as_the_instant_it_is() -> None:
    at = datetime(2026, 3, 2, 12, 0, tzinfo=timezone(timedelta(hours=3)))

    assert Clock(at).now == at
    assert "2026-03-02 04:00 EST" in repr(Clock(at))


# ---- edges -----------------------------------------------------------------------------------------------------------


def test_the_clock_moves_from_edge_to_edge() -> None:
    clock = given(an_order(delivered="2026-03-05"), a_return(labelled="2026-03-09 12:00")).clock

    edges = [clock.to_next_edge() for _ in range(3)]

    assert [edge.what for edge in edges] == [
        "label L-1 voids by itself",
        "the time to report a wrong item in line 1 ends",
        "the return window of line 1 closes",
    ]
    assert clock.now == edges[-1].at
    with pytest.raises(LookupError, match="nothing about anything changes any more .* after Fri 2026-03-20 00:00 EDT"):
        clock.next_edge()


def test_the_edges_of_a_subject_are_its_own() -> None:
    clock = given(an_order(delivered="2026-03-05"), a_return(labelled="2026-03-09 12:00")).clock

    edge = clock.to_next_edge("return/R-1")

    assert (edge.what, str(clock)) == ("label L-1 voids by itself", "Thu 2026-03-12 00:00 EDT")
    with pytest.raises(LookupError, match="about return/R-1 changes"):
        clock.to_next_edge("return/R-1")


def test_the_clock_walks_around_every_edge_a_tick_before_it_and_a_tick_after_it() -> None:
    story = given(an_order())
    (edge,) = story.clock.edges()

    seen = [(m.side, m.at - edge.at, m.flipped, story.ask("eligibility/A-1")["cancellation"]["allowed"])
            for m in story.clock.around_edges()]  # fmt: skip

    assert seen == [
        ("before", -ONE_TICK, False, True),
        ("at", timedelta(0), True, False),
        ("after", ONE_TICK, True, False),
    ]


def test_a_walk_around_no_edges_is_refused() -> None:
    clock = given(an_order(delivered="2026-03-05")).at("2026-05-01").clock

    with pytest.raises(LookupError, match="nothing about order/A-1 changes any more"):
        next(clock.around_edges("order/A-1"))


def test_a_clock_without_a_desk_knows_no_edges() -> None:
    with pytest.raises(RuntimeError, match="has no desk"):
        Clock().edges()
