"""Days are counted on the wall of the policy's zone, business days by a frozen table that has not drifted."""

from __future__ import annotations

import importlib.util
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from types import ModuleType

import holidays
import pytest
from freezegun import freeze_time
from hypothesis import example, given
from hypothesis import strategies as st

from returnable.domain.calendar import (
    Calendar,
    Counting,
    bundled_calendar,
    elapsed_end,
    first_instant,
    last_day,
    local_date,
    window_end,
    zone,
)
from returnable.domain.errors import CalendarExhausted, CalendarInvalid

FEDERAL = bundled_calendar("us-federal", "2026.1")
A_MOMENT = timedelta(microseconds=1)
ONE_DAY = timedelta(days=1)

DAYS = st.dates(date(1990, 1, 1), date(2099, 11, 1))
INSTANTS = st.datetimes(datetime(1991, 1, 1), datetime(2098, 12, 31), timezones=st.just(UTC))
ZONES = st.sampled_from(
    [
        "America/New_York",
        "America/Sao_Paulo",
        "Asia/Kolkata",
        "Pacific/Apia",
        "Australia/Lord_Howe",
        "Europe/Dublin",
        "UTC",
    ]
)
COUNTINGS = st.sampled_from(["calendar", "business"])


@cache
def freezer() -> ModuleType:
    """The tool that freezes the calendar."""
    path = Path(__file__).parents[2] / "tools" / "freeze_us_federal.py"
    spec = importlib.util.spec_from_file_location("freeze_us_federal", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def of_the_library() -> frozenset[date]:
    """The federal holidays as observed, as the ``holidays`` library says today."""
    return frozenset(holidays.country_holidays("US", years=range(1989, 2101), observed=True))


def naive_business_day(day: date, count: int) -> date:
    """The ``count``-th business day after ``day``, counted day by day on the library's table."""
    while count:
        day += ONE_DAY
        if day.isoweekday() <= 5 and day not in of_the_library():
            count -= 1
    return day


# ---- business days --------------------------------------------------------------------------------------------------


@given(DAYS)
@example(date(2021, 12, 31))
@example(date(2010, 12, 31))
@example(date(2022, 6, 20))
@example(date(2020, 6, 19))
@example(date(2026, 7, 3))
@example(date(2028, 2, 29))
def test_a_business_day_is_a_weekday_that_is_no_federal_holiday_as_observed(day: date) -> None:
    assert FEDERAL.is_business_day(day) == (day.isoweekday() <= 5 and day not in of_the_library())


def test_new_year_observed_in_the_old_year_is_a_holiday() -> None:
    assert not FEDERAL.is_business_day(date(2021, 12, 31))
    assert FEDERAL.add_business_days(date(2021, 12, 30), 1) == date(2022, 1, 3)


@given(st.dates(date(1990, 1, 1), date(2098, 1, 1)), st.integers(0, 60))
def test_business_days_are_counted_like_on_a_wall_calendar(day: date, count: int) -> None:
    assert FEDERAL.add_business_days(day, count) == naive_business_day(day, count)


@given(st.dates(date(1990, 1, 1), date(2098, 1, 1)), st.integers(0, 20), st.integers(0, 20))
def test_business_days_add_up(day: date, some: int, more: int) -> None:
    there = FEDERAL.add_business_days(FEDERAL.add_business_days(day, some), more)

    assert there == FEDERAL.add_business_days(day, some + more)


@given(DAYS.filter(lambda day: day < date(2098, 1, 1)), st.integers(1, 20))
def test_a_later_day_never_comes_to_an_earlier_one(day: date, count: int) -> None:
    assert FEDERAL.add_business_days(day, count) <= FEDERAL.add_business_days(day + ONE_DAY, count)


def test_the_frozen_table_has_not_drifted_from_the_library_it_was_frozen_from() -> None:
    frozen = freezer().frozen("2026.1")

    assert sorted(day.isoformat() for day in FEDERAL.holidays) == frozen["holidays"]
    assert (FEDERAL.name, FEDERAL.version) == (frozen["name"], frozen["version"])
    assert (FEDERAL.first.isoformat(), FEDERAL.last.isoformat()) == (frozen["first"], frozen["last"])


def test_the_committed_table_is_pinned() -> None:
    # Decisions pin this calendar by name and version. A different table is a new version, in a new file.
    assert FEDERAL.sha256 == "9a0e7b37cf4daf58394f9ed2cd7d34b30e085a102ed31d5b23efcb85afa34ff9"


def test_no_holiday_of_the_frozen_table_is_on_a_weekend() -> None:
    assert all(day.weekday() < 5 for day in FEDERAL.holidays)


@pytest.mark.parametrize("day", [date(1989, 12, 31), date(2100, 1, 1)])
def test_a_day_outside_the_table_is_an_error_and_no_guess(day: date) -> None:
    with pytest.raises(CalendarExhausted, match="us-federal 2026.1"):
        FEDERAL.is_business_day(day)
    with pytest.raises(CalendarExhausted):
        FEDERAL.add_business_days(day, 0)


def test_counting_past_the_end_of_the_table_is_an_error() -> None:
    with pytest.raises(CalendarExhausted):
        FEDERAL.add_business_days(date(2099, 12, 30), 3)


def test_a_merchant_may_be_closed_on_more_days_under_a_name_of_their_own() -> None:
    also = FEDERAL.closed_also("ours", "1", [date(2026, 3, 3)])

    assert not also.is_business_day(date(2026, 3, 3))
    assert FEDERAL.is_business_day(date(2026, 3, 3))
    assert also.add_business_days(date(2026, 3, 2), 1) == date(2026, 3, 4)
    assert also.sha256 != FEDERAL.sha256
    assert (also.name, also.version) == ("ours", "1")
    assert FEDERAL.holidays < also.holidays


def test_a_calendar_may_have_another_weekend_but_not_seven_days_of_it() -> None:
    friday_and_saturday = Calendar(
        name="gulf", version="1", first=date(2026, 1, 1), last=date(2026, 12, 31), holidays=[], weekend=(4, 5)
    )

    assert friday_and_saturday.add_business_days(date(2026, 3, 5), 1) == date(2026, 3, 8)
    with pytest.raises(CalendarInvalid, match="no business day"):
        Calendar(
            name="never", version="1", first=date(2026, 1, 1), last=date(2026, 12, 31), holidays=[], weekend=range(7)
        )


@pytest.mark.parametrize(
    ("name", "version"), [("us-federal", "1"), ("mars", "2026.1"), ("../policies/x", "1"), ("a\0", "1")]
)
def test_a_calendar_that_is_not_bundled_is_refused(name: str, version: str) -> None:
    with pytest.raises(CalendarInvalid):
        bundled_calendar(name, version)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "America/new_york/", "../UTC", "/etc/passwd", "a\0b", "America"])
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(CalendarInvalid):
        zone(name)


# ---- local days -----------------------------------------------------------------------------------------------------


@given(st.dates(date(1991, 1, 1), date(2098, 1, 1)), ZONES)
@example(date(2017, 10, 15), "America/Sao_Paulo")  # midnight did not exist
@example(date(2018, 11, 4), "America/Sao_Paulo")
@example(date(2011, 12, 29), "Pacific/Apia")  # the day before the day that did not exist
@example(date(2011, 12, 31), "Pacific/Apia")
@example(date(2026, 3, 8), "America/New_York")
@example(date(2026, 11, 1), "America/New_York")
def test_a_local_day_begins_with_its_first_instant(day: date, name: str) -> None:
    begins = first_instant(day, name)

    assert begins.tzinfo is UTC
    if (day, name) != (date(2011, 12, 30), "Pacific/Apia"):
        assert local_date(begins, name) == day
        assert local_date(begins - A_MOMENT, name) < day


def test_where_midnight_is_skipped_the_day_begins_at_one() -> None:
    begins = first_instant(date(2017, 10, 15), "America/Sao_Paulo")

    assert begins.astimezone(zone("America/Sao_Paulo")).isoformat() == "2017-10-15T01:00:00-02:00"


def test_where_midnight_comes_twice_the_day_begins_with_the_first() -> None:
    begins = first_instant(date(2026, 11, 1), "America/Havana")

    assert local_date(begins, "America/Havana") == date(2026, 11, 1)
    assert local_date(begins - A_MOMENT, "America/Havana") == date(2026, 10, 31)
    assert begins == datetime(2026, 11, 1, 4, 0, tzinfo=UTC)


def test_a_day_that_never_was_begins_where_the_next_one_does() -> None:
    assert first_instant(date(2011, 12, 30), "Pacific/Apia") == datetime(2011, 12, 30, 10, 0, tzinfo=UTC)
    assert first_instant(date(2011, 12, 31), "Pacific/Apia") == datetime(2011, 12, 30, 10, 0, tzinfo=UTC)


# ---- windows --------------------------------------------------------------------------------------------------------


@given(INSTANTS, st.integers(0, 30), COUNTINGS, ZONES)
def test_a_window_runs_through_the_end_of_its_last_local_day(
    trigger: datetime, days: int, counting: Counting, name: str
) -> None:
    end = window_end(trigger, days, counting, name, FEDERAL)
    last = last_day(trigger, days, counting, name, FEDERAL)

    assert trigger < end
    assert local_date(end - A_MOMENT, name) == last or name == "Pacific/Apia"
    assert local_date(end, name) > last
    if counting == "calendar":
        assert last == local_date(trigger, name) + timedelta(days=days)
    else:
        assert last == naive_business_day(local_date(trigger, name), days)


@given(INSTANTS.filter(lambda at: at.year < 2098), st.integers(1, 15), ZONES)
def test_what_was_counted_before_is_only_the_answer_to_the_same_question(
    trigger: datetime, days: int, name: str
) -> None:
    federal = window_end(trigger, days, "business", name, FEDERAL)
    its_last = last_day(trigger, days, "business", name, FEDERAL)
    closed_then = FEDERAL.closed_also("ours", "1", [its_last])

    assert window_end(trigger, days, "business", name, closed_then) > federal
    assert last_day(trigger, days, "calendar", name, FEDERAL) <= its_last
    assert window_end(trigger, days + 1, "business", name, FEDERAL) > federal
    assert window_end(trigger, days, "business", name, FEDERAL) == federal


def test_a_day_that_was_counted_under_a_frozen_clock_is_a_plain_one_afterwards() -> None:
    with freeze_time("2031-05-05T12:00:00Z"):
        trigger = datetime.now(UTC)
        last_day(trigger, 7, "business", "UTC", FEDERAL)

    last = last_day(datetime(2031, 5, 5, 12, tzinfo=UTC), 7, "business", "UTC", FEDERAL)

    assert last == date(2031, 5, 14)
    assert type(last) is date


@given(INSTANTS, st.timedeltas(timedelta(0), timedelta(days=10)), st.integers(0, 15), COUNTINGS, ZONES)
def test_a_later_trigger_never_has_an_earlier_deadline(
    trigger: datetime, later: timedelta, days: int, counting: Counting, name: str
) -> None:
    first = window_end(trigger, days, counting, name, FEDERAL)

    assert first <= window_end(trigger + later, days, counting, name, FEDERAL)


@given(INSTANTS, st.integers(0, 15), COUNTINGS, ZONES)
def test_the_hour_of_the_trigger_does_not_matter_only_its_local_date(
    trigger: datetime, days: int, counting: Counting, name: str
) -> None:
    begins = first_instant(local_date(trigger, name), name)

    assert window_end(begins, days, counting, name, FEDERAL) == window_end(trigger, days, counting, name, FEDERAL)


@given(INSTANTS, st.integers(0, 48), ZONES)
def test_elapsed_hours_are_hours_whatever_the_clocks_on_the_wall_do(trigger: datetime, hours: int, name: str) -> None:
    end = elapsed_end(trigger.astimezone(zone(name)).astimezone(UTC), hours)

    assert (end - trigger).total_seconds() == hours * 3600


def test_two_hours_over_the_change_of_the_clocks_are_two_hours() -> None:
    before = datetime.fromisoformat("2026-03-08T01:30:00-05:00").astimezone(UTC)

    assert elapsed_end(before, 2) == datetime.fromisoformat("2026-03-08T04:30:00-04:00")


@pytest.mark.parametrize(
    ("trigger", "days", "counting", "end"),
    [
        ("2026-03-05T14:00:00-05:00", 14, "calendar", "2026-03-20T00:00:00-04:00"),
        ("2026-03-05T00:00:00-05:00", 14, "calendar", "2026-03-20T00:00:00-04:00"),
        ("2026-03-05T23:59:59.999999-05:00", 14, "calendar", "2026-03-20T00:00:00-04:00"),
        ("2026-03-06T00:00:00-05:00", 14, "calendar", "2026-03-21T00:00:00-04:00"),
        ("2026-10-25T12:00:00-04:00", 7, "calendar", "2026-11-02T00:00:00-05:00"),
        ("2026-03-07T10:00:00-05:00", 2, "business", "2026-03-11T00:00:00-04:00"),
        ("2026-11-25T10:00:00-05:00", 2, "business", "2026-12-01T00:00:00-05:00"),
        ("2026-07-02T10:00:00-04:00", 1, "business", "2026-07-07T00:00:00-04:00"),
        ("2026-03-07T10:00:00-05:00", 0, "business", "2026-03-08T00:00:00-05:00"),
    ],
)
def test_deadlines_in_new_york(trigger: str, days: int, counting: Counting, end: str) -> None:
    came = window_end(datetime.fromisoformat(trigger).astimezone(UTC), days, counting, "America/New_York", FEDERAL)

    assert came == datetime.fromisoformat(end)
