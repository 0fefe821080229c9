"""Time zones come out of the package ``tzdata``, whatever the host has, and a decision says of which release."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import tzdata
from hypothesis import given
from hypothesis import strategies as st

from returnable.domain.calendar import ZONE_DATA, first_instant, zone
from returnable.domain.errors import CalendarInvalid
from returnable.domain.policy import bundled_policies
from returnable.testing import Scenario, an_order

ROOT = Path(__file__).parents[2]
NAMES = sorted(resources.files(tzdata).joinpath("zones").read_text(encoding="utf-8").split())
INSTANTS = st.datetimes(datetime(1990, 1, 1), datetime(2098, 1, 1)).map(lambda naive: naive.replace(tzinfo=UTC))


def of_the_package(name: str) -> ZoneInfo:
    """A zone read without the code that is tested."""
    folder = Path(str(resources.files(tzdata))) / "zoneinfo"
    with (folder / name).open("rb") as source:
        return ZoneInfo.from_file(source, key=name)


def test_every_name_of_the_package_is_a_zone_and_an_alias_tells_the_time_of_its_zone() -> None:
    assert [zone(name).key for name in NAMES] == NAMES
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    for alias, name in (("US/Pacific", "America/Los_Angeles"), ("Asia/Calcutta", "Asia/Kolkata"), ("Zulu", "UTC")):
        assert noon.astimezone(zone(alias)).isoformat() == noon.astimezone(zone(name)).isoformat()


@given(st.sampled_from(NAMES), INSTANTS)
def test_a_zone_tells_the_time_of_the_package(name: str, instant: datetime) -> None:
    there, expected = instant.astimezone(zone(name)), instant.astimezone(of_the_package(name))

    assert (there.isoformat(), there.tzname()) == (expected.isoformat(), expected.tzname())


@pytest.mark.parametrize(
    "name",
    ["", "America", "america/new_york", "/etc/localtime", "../zones", "America/../UTC", "zone.tab", "UTC\0", "\ud800",
     "__init__.py", "posix/UTC", "Mars/Olympus"],
)  # fmt: skip
def test_what_is_no_name_of_the_package_is_no_zone(name: str) -> None:
    with pytest.raises(CalendarInvalid, match="is not an IANA time zone"):
        zone(name)


@given(st.text(max_size=30))
def test_a_text_is_a_name_of_the_package_or_no_zone(name: str) -> None:
    if name in NAMES:
        assert zone(name).key == name
    else:
        with pytest.raises(CalendarInvalid):
            zone(name)


def test_a_zone_and_a_time_in_it_are_copied_and_pickled_by_the_name() -> None:
    there = datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=zone("America/New_York"))

    for again in (copy.copy(there), copy.deepcopy(there), pickle.loads(pickle.dumps(there))):
        assert again.tzinfo is there.tzinfo
        assert (again.isoformat(), again.fold) == ("2026-11-01T01:30:00-05:00", 1)
    assert copy.deepcopy(zone("Asia/Kolkata")) is zone("Asia/Kolkata")


def test_the_folders_of_the_host_are_not_read(tmp_path: Path) -> None:
    """New York goes like Halifax in them, and the machine is in India."""
    folder = tmp_path / "America"
    folder.mkdir()
    halifax = resources.files(tzdata).joinpath("zoneinfo", "America", "Halifax").read_bytes()
    (folder / "New_York").write_bytes(halifax)
    program = (
        "from datetime import UTC, date, datetime; from zoneinfo import ZoneInfo;"
        "from returnable.domain.calendar import zone;"
        "noon = datetime(2026, 1, 1, 12, tzinfo=UTC); name = 'America/New_York';"
        "print(noon.astimezone(zone(name)).hour, noon.astimezone(ZoneInfo(name)).hour)"
    )
    environment = os.environ | {"PYTHONTZPATH": str(tmp_path), "TZ": "Asia/Kolkata"}

    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert ran.stdout == "7 8\n", "the second is the control: the library of Python reads those folders"


def test_the_laws_of_2026_are_known() -> None:
    """Vancouver and Winnipeg kept summer time; the data of 2025 set their clocks back on 1 November 2026."""
    noon = datetime(2026, 12, 1, 12, tzinfo=UTC)

    assert noon.astimezone(zone("America/Vancouver")).isoformat() == "2026-12-01T05:00:00-07:00"
    assert noon.astimezone(zone("America/Winnipeg")).isoformat() == "2026-12-01T07:00:00-05:00"
    assert first_instant(date(2026, 12, 1), "America/Vancouver").isoformat() == "2026-12-01T07:00:00+00:00"


def test_a_decision_pins_the_release_of_the_package() -> None:
    story = Scenario().given(an_order())

    (confirmed,) = story.services.store.load("A-1")

    assert ZONE_DATA == tzdata.IANA_VERSION
    assert confirmed.event.pins is not None
    assert confirmed.event.pins.tzdata == ZONE_DATA == bundled_policies().versions[0].pins.tzdata


def test_nothing_asks_python_for_a_zone_by_its_name() -> None:
    """Only :func:`zone` makes zones, and it reads them out of the package; a doctest and an example are no exception."""
    asks = re.compile(r"\bZoneInfo\(|\bZoneInfo\.no_cache\(|\bgettz\(|\bpytz\.timezone\(|\bfrom_file\(")
    folders = ("domain", "projections", "adapters", "returnable", "bench", "examples", "docs", "tools")
    files = [
        file for folder in folders for kind in ("*.py", "*.md") for file in (ROOT / folder).rglob(kind)
    ] + [ROOT / "README.md"]  # fmt: skip

    found = [
        (file.relative_to(ROOT).as_posix(), line.strip())
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if asks.search(line) and not line.startswith("class ")
    ]

    assert len(files) > 200
    assert [place for place, line in found if not place.startswith("docs/adr/")] == ["domain/calendar.py"] * 2
