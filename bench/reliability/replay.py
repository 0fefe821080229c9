"""``python -m bench.reliability.replay``: a store is read in other surroundings, and must say the same.

Stores of whole customers are written, and read once: the answers to all commands, given again, every fact, every question
about every subject, every list, every stored view, and every decision, decided again. Then other processes read them with
other time zone databases, under another holiday calendar and under other policies.

Where a time zone database says another local time, instants are compared as instants, and prose that says local times is left
out; everything else is compared byte for byte.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

from bench.reliability.journeys import as_file
from bench.reliability.replay_reader import told
from bench.speed.measure import table
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.wiring import assemble

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "domain" / "policies"
BUNDLED = (POLICIES / "allu-usa.toml").read_text()
EARLIER = (POLICIES / "allu-usa-earlier.toml").read_text()

OTHER_TZDATA = ("2020.1", "2022.1", "2024.1")
"""Releases of the package ``tzdata``. Until 2022.6 Mexico City still has daylight saving."""

ZONES = {"America/New_York": 0, "America/Mexico_City": 100}
"""Where the stores are, and how many days later than usual their customers live: in summer, in Mexico."""

SHOWN = 3
"""How many changes are shown of each process."""


@dataclass(frozen=True)
class Written:
    """A store, the zone of the policy of its orders, and how much later than usual its customers live."""

    path: Path
    zone: str
    shift_days: int


@dataclass(frozen=True)
class Surroundings:
    """What a process finds around a store: time zones, the policy in force, as text, and whether its mistake is on."""

    name: str
    zones: Path
    policy: str
    manner: str = "sound"
    other_local_times: bool = False


# ---- what is compared ---------------------------------------------------------------------------------------------------

_INSTANT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_PROSE = re.compile(rb'"(?:because|message|said|margin|in_words|headline)":"(?:\\.|[^"\\])*"')


def as_instants(line: bytes) -> bytes:
    """A line with every instant in UTC, without prose."""
    line = line.replace(b'\\"', b'"') if line.startswith(b"stored ") else line
    return _INSTANT.sub(_in_utc, _PROSE.sub(b'""', line))


def _in_utc(found: re.Match[bytes]) -> bytes:
    return datetime.fromisoformat(found[0].decode()).astimezone(UTC).isoformat().encode()


# ---- writing and reading ------------------------------------------------------------------------------------------------


def write(folder: Path, journeys: int, zone: str | None) -> list[Written]:
    """Stores under policies of two places: in one a release of the time zone database moves deadlines by an hour."""
    stores = [Written(folder / f"{days}.db", name, days) for name, days in ZONES.items() if zone in (None, name)]
    for store in stores:
        file = _policy_file(folder, store, BUNDLED)
        parts = assemble(f"sqlite:///{store.path}", file)
        lines = told(journeys, timedelta(days=store.shift_days))
        for _ in play(parts, read_scenario(as_file(lines), "journeys")):
            pass
        parts.store.close()
    return stores


def _policy_file(folder: Path, store: Written, text: str) -> Path:
    """A policy of the place of a store."""
    file = folder / "in-force.toml"
    file.write_text(text.replace('"America/New_York"', f'"{store.zone}"'))
    return file


def read(store: Written, around: Surroundings, journeys: int, folder: Path) -> list[bytes]:
    """What a process in those surroundings says of a copy of the store. Raises ``RuntimeError`` when it fails."""
    copy = folder / "copy.db"
    for file in folder.glob("copy.db*"):
        file.unlink()
    shutil.copy(store.path, copy)
    policy = _policy_file(folder, store, around.policy)
    arguments = [f"sqlite:///{copy}", str(policy), around.manner, str(journeys), str(store.shift_days)]
    ran = subprocess.run(
        [sys.executable, "-m", "bench.reliability.replay_reader", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONTZPATH": str(around.zones)},
        capture_output=True,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"{around.name}: {ran.stderr.decode()[-2000:]}")
    return ran.stdout.splitlines()


def other_surroundings(folder: Path, releases: Sequence[str]) -> list[Surroundings]:
    """Time zone databases of other days and one that lies, other holidays, other policies."""
    usual = installed_zones()
    around = [
        Surroundings(f"tzdata {release}", fetched_zones(folder, release), BUNDLED, other_local_times=True)
        for release in releases
    ]
    lying = folder / "lying-zoneinfo"
    shutil.copytree(usual, lying)
    for told_as, really in (("New_York", "Halifax"), ("Mexico_City", "New_York")):
        shutil.copy(usual / "America" / really, lying / "America" / told_as)
    around.append(Surroundings("tzdata that lies by an hour or two", lying, BUNDLED, other_local_times=True))
    next_version = BUNDLED.replace('version = "2026-01"', 'version = "2026-02"')
    days = ", ".join(f"2026-{month:02}-{day:02}" for month in range(3, 9) for day in (2, 3, 4, 5, 9, 10, 16, 17, 18))
    holidays = next_version.replace('version = "2026.1"', f'version = "2026.1"\nclosed_also = [{days}]')
    around.append(Surroundings("other holidays in force", usual, holidays))
    stricter = re.sub(r"(?m)^(days|hours|business_days) = \d+", r"\1 = 1", next_version)
    around.append(Surroundings("a stricter policy in force", usual, stricter))
    around.append(Surroundings("an earlier policy in force", usual, EARLIER))
    return around


def installed_zones() -> Path:
    """The folder of the package ``tzdata`` that is installed."""
    return Path(str(resources.files("tzdata"))) / "zoneinfo"


def fetched_zones(folder: Path, release: str) -> Path:
    """That of another release, which pip fetches."""
    target = folder / f"tzdata-{release}"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), f"tzdata=={release}"], check=True)
    return target / "tzdata" / "zoneinfo"


@dataclass
class Compared:
    """What one process said, beside the first."""

    store: str
    around: str
    lines: int
    bytes_differ: int
    changed: list[str]


def compare(store: Written, around: Surroundings, first: list[bytes], again: list[bytes]) -> Compared:
    """Line by line."""
    changed = [] if len(first) == len(again) else [f"{len(again)} answers, not {len(first)}"]
    differ = 0
    for one, other in zip(first, again, strict=False):
        if one == other:
            continue
        differ += 1
        if not around.other_local_times or as_instants(one) != as_instants(other):
            changed.append(f"{one[:400].decode()}\n  {other[:400].decode()}")
    return Compared(store.zone, around.name, len(first), differ, changed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, read, compare, print; exit status 1 if anything changed."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.replay", description=__doc__)
    parser.add_argument("--journeys", type=int, default=110, help="how many customers a store has")
    parser.add_argument(
        "--tzdata",
        default=",".join(OTHER_TZDATA),
        help="releases to read with, with commas between them; pip fetches them",
    )
    parser.add_argument("--zone", choices=ZONES, help="only the store of that place (default: both)")
    parser.add_argument("--around", default="", help="only the surroundings with this in their names (default: all)")
    parser.add_argument(
        "--control",
        action="store_true",
        help="readers that resolve deadlines anew from local time: shows that the comparison finds trouble, exits 1",
    )
    options = parser.parse_args(arguments)
    releases = [release for release in options.tzdata.split(",") if release]
    with tempfile.TemporaryDirectory(prefix="returnable-replay-") as name:
        folder = Path(name)
        stores = write(folder, options.journeys, options.zone)
        usual = Surroundings("as written", installed_zones(), BUNDLED)
        others = other_surroundings(folder, releases)
        found = []
        for store in stores:
            first = read(store, usual, options.journeys, folder)
            for around in (each for each in [usual, *others] if options.around in each.name):
                reader = replace(around, manner="resolved-anew") if options.control else around
                found.append(compare(store, around, first, read(store, reader, options.journeys, folder)))
    rows = [
        (one.store, one.around, f"{one.lines:,}", f"{one.bytes_differ:,}", f"{len(one.changed):,}") for one in found
    ]
    print(table(("store", "read with", "answers", "other bytes", "changed"), rows))
    print(
        table(
            ("what", "count"),
            [
                ("answers compared", f"{sum(one.lines for one in found):,}"),
                ("answers that say other local times", f"{sum(one.bytes_differ for one in found):,}"),
                ("answers that changed", f"{sum(len(one.changed) for one in found):,}"),
            ],
        )
    )
    for one in found:
        for change in one.changed[:SHOWN]:
            print(f"changed: {one.store}, {one.around}: {change}")
    return 1 if any(one.changed for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
