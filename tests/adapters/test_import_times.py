"""Times in cells: the zone that a cell names is read or refused, and the machine has no say."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from returnable.adapters.imports.mapping import FormatSection, Value
from returnable.adapters.imports.times import AMERICAN, UNIVERSAL
from returnable.adapters.imports.values import Refused, SourceRow, Values
from returnable.domain.calendar import zone

LOS_ANGELES = "America/Los_Angeles"
NAMED = "%Y-%m-%d %H:%M:%S %Z"


def read(text: str, *times: str, zone: str | None = LOS_ANGELES, **form: str) -> str:
    """The instant of a cell as text, or why it is refused."""
    section = FormatSection.model_validate({"times": times or (NAMED,), "zone": zone, **form})
    try:
        at = Values(section).instant(Value(column="t"), [SourceRow(2, {"t": text})], "t")
    except Refused as refused:
        return refused.reason
    assert at is not None
    assert at.tzinfo is UTC
    return at.isoformat().removesuffix("+00:00")


@pytest.mark.parametrize("name", ["UTC", "GMT", "UT", "Z", "utc", "gmt", "z"])
@pytest.mark.parametrize("where", [None, LOS_ANGELES, "Europe/London", "Asia/Kolkata"])
def test_the_universal_names_are_no_offset_everywhere_and_all_year(name: str, where: str | None) -> None:
    assert read(f"2026-03-02 09:00:00 {name}", zone=where) == "2026-03-02T09:00:00"
    assert read(f"2026-07-02 09:00:00 {name}", zone=where) == "2026-07-02T09:00:00"


@pytest.mark.parametrize(
    ("cell", "where", "expected"),
    [
        ("2026-03-02 09:00:00 PST", LOS_ANGELES, "2026-03-02T17:00:00"),
        ("2026-07-02 09:00:00 pdt", LOS_ANGELES, "2026-07-02T16:00:00"),
        ("2026-03-02 09:00:00 EST", LOS_ANGELES, "2026-03-02T14:00:00"),
        ("2026-07-02 09:00:00 EDT", None, "2026-07-02T13:00:00"),
        ("2026-03-02 09:00:00 MST", "Europe/Berlin", "2026-03-02T16:00:00"),
        ("2026-03-02 09:00:00 CST", LOS_ANGELES, "2026-03-02T15:00:00"),
        ("2026-07-02 09:00:00 CDT", None, "2026-07-02T14:00:00"),
        # the zone of the mapping comes before RFC 5322
        ("2026-07-02 09:00:00 MST", "America/Phoenix", "2026-07-02T16:00:00"),
        ("2026-07-02 09:00:00 EST", "America/Panama", "2026-07-02T14:00:00"),
        ("2026-03-02 09:00:00 PST", "Asia/Manila", "2026-03-02T01:00:00"),
        ("2026-03-02 09:00:00 CST", "America/Chicago", "2026-03-02T15:00:00"),
        ("2026-03-02 09:00:00 CST", "Asia/Shanghai", "2026-03-02T01:00:00"),
        ("2026-03-02 09:00:00 CST", "America/Havana", "2026-03-02T14:00:00"),
        ("2026-03-02 09:00:00 IST", "Asia/Kolkata", "2026-03-02T03:30:00"),
        ("2026-03-02 09:00:00 IST", "Asia/Jerusalem", "2026-03-02T07:00:00"),
        ("2026-07-02 09:00:00 IST", "Europe/Dublin", "2026-07-02T08:00:00"),
        ("2026-07-02 09:00:00 BST", "Europe/London", "2026-07-02T08:00:00"),
        ("2026-07-02 09:00:00 CEST", "Europe/Berlin", "2026-07-02T07:00:00"),
        ("2026-07-02 09:00:00 Europe/Paris", LOS_ANGELES, "2026-07-02T07:00:00"),
        # the clocks are set back, and the name says which of the two is meant
        ("2026-11-01 01:30:00 PDT", LOS_ANGELES, "2026-11-01T08:30:00"),
        ("2026-11-01 01:30:00 PST", LOS_ANGELES, "2026-11-01T09:30:00"),
        ("2026-11-01 01:30:00 EST", LOS_ANGELES, "2026-11-01T06:30:00"),
        # the clocks are set forward, and the name says the offset
        ("2026-03-08 02:30:00 PST", LOS_ANGELES, "2026-03-08T10:30:00"),
        ("2026-03-08 02:30:00 PDT", LOS_ANGELES, "2026-03-08T09:30:00"),
    ],
)
def test_the_name_of_a_zone_is_read(cell: str, where: str | None, expected: str) -> None:
    assert read(cell, zone=where) == expected
    assert read(cell, zone=where, ambiguous="refuse") == expected


@pytest.mark.parametrize(
    ("cell", "where", "expected"),
    [
        *(
            (f"2026-03-02 09:00:00 {name}", where, f"{name!r} names several time zones, or none; write an offset")
            for name in ("IST", "BST", "CET", "AEST", "A", "XYZ", "America/Atlantis", "europe/paris")
            for where in (None, LOS_ANGELES)
        ),
        ("2026-07-02 09:00:00 PST", LOS_ANGELES, "the clocks of America/Los_Angeles do not show PST then"),
        ("2026-07-02 09:00:00 EST", LOS_ANGELES, "the clocks of America/New_York do not show EST then"),
        ("2026-03-02 09:00:00 BST", "Europe/London", "the clocks of Europe/London do not show BST then"),
        ("1850-03-02 09:00:00 PST", LOS_ANGELES, "is outside the years this library knows"),
        ("2026-03-02 09:00:00", LOS_ANGELES, "is not a time in the format"),
    ],
)
def test_a_name_that_says_no_one_zone_for_certain_is_refused(cell: str, where: str | None, expected: str) -> None:
    assert expected in read(cell, zone=where)


def test_a_skipped_time_with_a_name_is_refused_where_the_mapping_says_so() -> None:
    assert "does not exist in America/Los_Angeles" in read("2026-03-08 02:30:00 PST", nonexistent="refuse")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2026-03-02 09:00:00 +0000 UTC", "2026-03-02T09:00:00"),
        ("2026-03-02 09:00:00 -0800 PST", "2026-03-02T17:00:00"),
        ("2026-03-02 09:00:00 +0800 CST", "2026-03-02T01:00:00"),
        ("2026-11-01 01:30:00 -0800 PST", "2026-11-01T09:30:00"),
        ("2026-11-01 01:30:00 -0800 America/Los_Angeles", "2026-11-01T09:30:00"),
        ("2026-11-01 01:30:00 -0900 America/Los_Angeles", "the offset is not that of 'America/Los_Angeles'"),
        ("2026-03-02 09:00:00 -0700 PST", "the offset is not that of 'PST'"),
        ("2026-03-02 09:00:00 +0100 UTC", "the offset is not that of 'UTC'"),
        ("2026-07-02 09:00:00 -0700 PST", "do not show PST then"),
    ],
)
def test_an_offset_beside_a_name_decides_or_contradicts_it(cell: str, expected: str) -> None:
    assert expected in read(cell, "%Y-%m-%d %H:%M:%S %z %Z")


@pytest.mark.parametrize(
    ("cell", "form", "expected"),
    [
        ("2026-03-02 09:00:00 (UTC)", "%Y-%m-%d %H:%M:%S (%Z)", "2026-03-02T09:00:00"),
        ("2026-03-02 09:00:00+00", "%Y-%m-%d %H:%M:%S%z", "2026-03-02T09:00:00"),
        ("2026-03-02 09:00:00.25 -05:00", "%Y-%m-%d %H:%M:%S.%f %z", "2026-03-02T14:00:00.250000"),
        ("Mon Mar 02 2026 09:00:00 GMT+0100 (CET)", "%a %b %d %Y %H:%M:%S GMT%z (%Z)", "2026-03-02T08:00:00"),
        ("march 2, 2026 9:05\u202fp.m.", "%B %d, %Y %I:%M %p", "2026-03-03T05:05:00"),
        ("12:05 AM 02.03.26", "%I:%M %p %d.%m.%y", "2026-03-02T08:05:00"),
        ("2026-061", "%Y-%j", "2026-03-02T08:00:00"),
        ("2025-366", "%Y-%j", "is not a time"),
        ("2026-W10-1", "%G-W%V-%u", "2026-03-02T08:00:00"),
        ("Tue 2026-03-02", "%a %Y-%m-%d", "names another day of the week than its date"),
        ("2026-03-02 24:00", "%Y-%m-%d %H:%M", "is not a time"),
        ("٢٠٢٦-03-02", "%Y-%m-%d", "is not a time"),
        ("2 März 2026", "%d %B %Y", "is not a time"),
        ("02/03/99", "%d/%m/%y", "1999-03-02T08:00:00"),
    ],
)
def test_a_format_is_read_as_the_page_says(cell: str, form: str, expected: str) -> None:
    assert expected in read(cell, form)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("%Y-%m-%d %H:%M %p", "has %p without %I"),
        ("%Y-%m-%d %I:%M", "has %I without %p"),
        ("%Y-%m-%d %H %I %p", "says the hour twice"),
        ("%Y-%m-%d %Y", "says the year twice"),
        ("%Y-%m-%d %j", "says the month twice"),
        ("%Y-%m-%d %b", "says the month twice"),
        ("%m-%d %H:%M", "says no year"),
        ("%Y-%m", "says no day"),
        ("%Y %d", "says no month"),
        ("%Y-%V-%u", "mixes a day of a week"),
        ("%Y-%m-%d %M", "has %M without the larger part"),
        ("%Y-%m-%d %H:%S", "has %S without the larger part"),
        ("%Y-%m-%d %z %z", "has a directive twice"),
        *((f"%Y-%m-%d {one}", "is not a directive") for one in ("%c", "%x", "%X", "%U", "%w", "%s", "%", "%Q")),
        *(
            (f"%Y-%m-%d %H:%M{one}", "is a time zone: write %Z for a name and %z for an offset")
            for one in ("Z", " UTC", " gmt", " PST", " +0000", "-05:00", " (CET)")
        ),
        ("%Y-%m-%d %H:%M PM", "'PM' is half of a day"),
    ],
)
def test_a_format_that_loses_something_is_an_error_of_the_mapping(form: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason.replace("(", r"\(")):
        FormatSection(times=(form,))


def test_two_formats_that_swap_day_and_month_are_an_error_of_the_mapping() -> None:
    with pytest.raises(ValidationError, match="read 03/02 in two ways"):
        FormatSection(times=("%d/%m/%Y %H:%M", "%Y-%m-%d", "%m/%d/%Y %H:%M"))
    FormatSection(times=("%d/%m/%Y %H:%M", "%m/%d/%Y", "%d.%m. at %H:%M, %Y"))


NUMBERS = "%Y-%m-%d %H:%M:%S.%f %z"


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2098, 1, 1)),
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_numbers_are_read_as_the_library_of_python_reads_them(local: datetime, offset: timezone) -> None:
    cell = local.replace(tzinfo=offset).strftime(NUMBERS)
    expected = datetime.strptime(cell, NUMBERS).astimezone(UTC)

    assert read(cell, NUMBERS) == expected.isoformat().removesuffix("+00:00")


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)).map(lambda at: at.replace(second=0, microsecond=0)),
    st.sampled_from(["America/Los_Angeles", "America/Chicago", "Europe/London", "Europe/Berlin", "Australia/Sydney"]),
)
def test_a_zone_reads_what_it_shows_also_in_the_repeated_hour(instant: datetime, where: str) -> None:
    there = instant.replace(tzinfo=UTC).astimezone(zone(where))

    assert read(there.strftime(NAMED), zone=where, ambiguous="refuse") == instant.isoformat()


@given(st.from_regex(r"[A-Za-z]{1,5}", fullmatch=True), st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)))
def test_a_name_is_read_as_a_zone_that_shows_it_or_refused(name: str, local: datetime) -> None:
    """In a mapping without a zone there are the names of RFC 5322, and no others."""
    came = read(f"{local:%Y-%m-%d %H:%M:%S} {name}", zone=None)

    if name.upper() in UNIVERSAL:
        assert came == local.replace(microsecond=0).isoformat()
    elif name.upper() not in AMERICAN:
        assert "names several time zones, or none" in came


def test_the_machine_has_no_say(tmp_path: Path) -> None:
    """In India, with a folder of false zones, in another language: the same instants, and India's name is refused."""
    (tmp_path / "America").mkdir()
    (tmp_path / "America" / "Los_Angeles").write_bytes(b"TZif")
    program = (
        "import contextlib, locale, sys; sys.path.insert(0, 'tests/adapters')\n"
        "with contextlib.suppress(locale.Error): locale.setlocale(locale.LC_ALL, '')\n"
        "from test_import_times import read\n"
        "for cell in ('2026-03-02 09:00:00 UTC', '2026-03-02 09:00:00 PST', '2026-03-02 09:00:00 IST'):\n"
        "    print(read(cell))\n"
        "print(read('Mon 02 Mar 2026 09:00 PM', '%a %d %b %Y %I:%M %p'))"
    )
    environment = os.environ | {"TZ": "Asia/Kolkata", "PYTHONTZPATH": str(tmp_path), "LC_ALL": "C.UTF-8"}

    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert ran.stdout.splitlines() == [
        "2026-03-02T09:00:00",
        "2026-03-02T17:00:00",
        "'2026-03-02 09:00:00 IST': 'IST' names several time zones, or none; write an offset",
        "2026-03-03T05:00:00",
    ]
