"""``python -m bench.proofs.determinism``: the same history says the same, wherever it is read or lived through.

``replay``: stores of whole customers are written, and read once: the answers to all commands, given again, every fact, every
question about every subject, every list, every stored view, and every decision, decided again. Then other processes read
them with other time zone databases, under another holiday calendar and under other policies. Where a time zone database says
another local time, instants are compared as instants, and prose that says local times is left out; everything else is
compared byte for byte.

``same-bytes``: processes of several interpreters, with several hash seeds, under several time zones and locales, and with a
store in memory, in a file and on a server, live through the same customers. Of the answers, facts, lists, stored views,
exports and reports each prints the hashes; all must be equal.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import tzdata

from bench.postgres import with_parameters
from bench.proofs.determinism_worker import journeys_later
from bench.proofs.journeys import as_file
from bench.proofs.processes import ROOT, Process
from bench.proofs.proof import Proof, Run, Tally, counted, counted_each, main, option
from bench.speed.measure import table
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.wiring import assemble

POLICIES = ROOT / "domain" / "policies"
BUNDLED = (POLICIES / "allu-usa.toml").read_text()
EARLIER = (POLICIES / "allu-usa-earlier.toml").read_text()

OTHER_TZDATA = "2020.1,2022.1,2024.1"
"""Releases of the package ``tzdata``. Until 2022.6 Mexico City still has daylight saving."""

ZONES = {"America/New_York": 0, "America/Mexico_City": 100}
"""Where the stores are, and how many days later than usual their customers live: in summer, in Mexico."""

MINORS = range(11, 15)
"""The versions of CPython 3 that are looked for."""

SURROUNDINGS: tuple[dict[str, str], ...] = (
    {"PYTHONHASHSEED": "0"},
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "2", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8"},
    {"PYTHONHASHSEED": "4294967295", "TZ": "Pacific/Apia", "LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0"},
)
"""Hash seeds, time zones and locales, in turns."""


def printed_by_a_worker(run: Run, *arguments: str, python: str = sys.executable, env: Mapping[str, str]) -> bytes:
    """What a worker prints. Raises ``RuntimeError`` when it fails."""
    output = run.folder / "worker.out"
    Process(output, "bench.proofs.determinism_worker", *arguments, python=python, env=env).finish()
    return output.read_bytes()


# ---- read in other surroundings -----------------------------------------------------------------------------------------


@dataclass
class Replays(Tally):
    """What the readers said."""

    answers: Counter[str] = counted_each("answers read: {}")
    local_times: int = counted("answers that say other local times")
    changed: int = counted("answers that changed")


@dataclass(frozen=True)
class Surroundings:
    """What a process finds around a store: a time zone database, and the policy in force, as text."""

    name: str
    tzdata: Path | None
    """The folder that holds another package ``tzdata``; ``None``: that which is installed."""
    policy: str
    other_local_times: bool = False


_INSTANT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_PROSE = re.compile(rb'"(?:because|message|said|margin|in_words|headline)":"(?:\\.|[^"\\])*"')


def as_instants(line: bytes) -> bytes:
    """A line with every instant in UTC, without prose."""
    line = line.replace(b'\\"', b'"') if line.startswith(b"stored ") else line
    return _INSTANT.sub(_in_utc, _PROSE.sub(b'""', line))


def _in_utc(found: re.Match[bytes]) -> bytes:
    return datetime.fromisoformat(found[0].decode()).astimezone(UTC).isoformat().encode()


def _write(run: Run, zone: str) -> Path:
    """A store under the policy of a place; in one a release of the time zone database moves deadlines by an hour."""
    path, shift = run.folder / f"{ZONES[zone]}.db", timedelta(days=ZONES[zone])
    services = assemble(f"sqlite:///{path}", _policy_file(run, zone, BUNDLED))
    for _ in play(services, read_scenario(as_file(journeys_later(run.journeys, shift)), "journeys")):
        pass
    services.store.close()
    return path


def _policy_file(run: Run, zone: str, text: str) -> Path:
    file = run.folder / "in-force.toml"
    file.write_text(text.replace('"America/New_York"', f'"{zone}"'))
    return file


def _read(run: Run, store: Path, zone: str, around: Surroundings, control: str | None = None) -> list[bytes]:
    """What a process in those surroundings says of a copy of the store."""
    copy = run.folder / "copy.db"
    for file in run.folder.glob("copy.db*"):
        file.unlink()
    shutil.copy(store, copy)
    policy = _policy_file(run, zone, around.policy)
    arguments = ("say", f"sqlite:///{copy}", control or "-", str(run.journeys), str(policy), str(ZONES[zone]))
    env = os.environ if around.tzdata is None else os.environ | {"PYTHONPATH": str(around.tzdata)}
    return printed_by_a_worker(run, *arguments, env=env).splitlines()


def other_surroundings(folder: Path, releases: Sequence[str]) -> Iterator[Surroundings]:
    """Time zone databases of other days and one that lies, other holidays, other policies."""
    for release in releases:
        yield Surroundings(f"tzdata {release}", fetched_tzdata(folder, release), BUNDLED, other_local_times=True)
    usual, lying = Path(str(resources.files(tzdata))), folder / "lying"
    shutil.copytree(usual, lying / "tzdata")
    for shown, really in (("New_York", "Halifax"), ("Mexico_City", "New_York")):
        america = Path("zoneinfo", "America")
        shutil.copy(usual / america / really, lying / "tzdata" / america / shown)
    (lying / "tzdata" / "__init__.py").write_text('IANA_VERSION = "lies"\n')
    yield Surroundings("tzdata that lies by an hour or two", lying, BUNDLED, other_local_times=True)
    next_version = BUNDLED.replace('version = "2026-01"', 'version = "2026-02"')
    days = ", ".join(f"2026-{month:02}-{day:02}" for month in range(3, 9) for day in (2, 3, 4, 5, 9, 10, 16, 17, 18))
    holidays = next_version.replace('version = "2026.1"', f'version = "2026.1"\nclosed_also = [{days}]')
    yield Surroundings("other holidays in force", None, holidays)
    stricter = re.sub(r"(?m)^(days|hours|business_days) = \d+", r"\1 = 1", next_version)
    yield Surroundings("a stricter policy in force", None, stricter)
    yield Surroundings("an earlier policy in force", None, EARLIER)


def fetched_tzdata(folder: Path, release: str) -> Path:
    """The folder with another release of the package ``tzdata``, which pip fetches."""
    target = folder / f"tzdata-{release}"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), f"tzdata=={release}"], check=True)
    return target


def replay(run: Run) -> Replays:
    """Read stores in other surroundings."""
    tally = Replays()
    usual = Surroundings("as written", None, BUNDLED)
    others = [usual, *other_surroundings(run.folder, [release for release in run.tzdata.split(",") if release])]
    for zone in [run.zone] if run.zone else ZONES:
        store = _write(run, zone)
        first = _read(run, store, zone, usual)
        for around in (each for each in others if run.around in each.name):
            where = f"{zone}, {around.name}"
            again = _read(run, store, zone, around, run.control)
            tally.answers[where] = len(again)
            if len(first) != len(again):
                tally.trouble("changed", f"{where}: {len(again)} answers, not {len(first)}")
            for one, other in zip(first, again, strict=False):
                tally.local_times += one != other
                if one != other and not (around.other_local_times and as_instants(one) == as_instants(other)):
                    tally.trouble("changed", f"{where}: {one[:400].decode()}\n  {other[:400].decode()}")
    return tally


# ---- lived through elsewhere --------------------------------------------------------------------------------------------


@dataclass
class SameBytes(Tally):
    """What the processes printed."""

    processes: int = counted("processes")
    interpreters: int = counted("interpreters")
    kinds: int = counted("kinds of things compared")
    differ: int = counted("hashes that differ")


def interpreters() -> list[str]:
    """Every CPython that can be found, one for each minor version; this one first."""
    found = {sys.version_info.minor: sys.executable}
    here = Path.home() / ".pyenv" / "versions"
    for minor in MINORS:
        name = f"python3.{minor}"
        installed = [str(path) for path in sorted(here.glob(f"3.{minor}.*/bin/{name}"))] if here.is_dir() else []
        for candidate in (*installed, shutil.which(name)):
            if candidate is not None and version_of(candidate)[:2] == (3, minor):
                found.setdefault(minor, candidate)
    return list(found.values())


def version_of(python: str) -> tuple[int, ...]:
    """The version of a CPython; empty for what is none, or does not run."""
    say = "import sys, venv, ensurepip; print(sys.implementation.name, *sys.version_info[:3])"
    ran = subprocess.run([python, "-c", say], capture_output=True, text=True, check=False)
    name, *numbers = ran.stdout.split() or [""]
    return tuple(map(int, numbers)) if name == "cpython" else ()


def prepared(python: str, folder: Path) -> str:
    """An interpreter with what the project depends on; this one has it."""
    if python == sys.executable:
        return python
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["postgres"], f"tzdata=={tzdata.__version__}"]
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    inside = str(folder / "bin" / "python")
    subprocess.run([inside, "-m", "pip", "install", "-q", "--disable-pip-version-check", *needed], check=True)
    return inside


def same_bytes(run: Run) -> SameBytes:
    """Live through the same customers in several interpreters and surroundings."""
    tally, first = SameBytes(), dict[str, str]()
    pythons, stores = run.python or interpreters(), run.stores.split(",")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG", "TZ"))
    }
    numbers = itertools.count(1)
    for python in pythons:
        version = ".".join(map(str, version_of(python)))
        print(f"CPython {version or '?'}: {python}", flush=True)
        inside = prepared(python, run.folder / f"venv-{version}")
        for turn, surroundings in enumerate(SURROUNDINGS[: run.rounds]):
            for store in [stores[turn % len(stores)]] if run.in_turns else stores:
                nth = next(numbers)
                url = f"sqlite:///{run.folder}/{nth}.db" if store == "sqlite" else "memory:"
                if store == "postgres":
                    url = with_parameters(run.server.url, schema=f"same_{nth}")
                arguments = ("hash", url, run.control or "-", str(run.journeys))
                hashes = json.loads(printed_by_a_worker(run, *arguments, python=inside, env=inherited | surroundings))
                first = first or hashes
                tally.processes += 1
                for kind in {**first, **hashes}:
                    if hashes.get(kind) != first.get(kind):
                        tally.trouble("differ", f"{kind}: CPython {version}, {store}, {surroundings}")
    tally.interpreters, tally.kinds = len(pythons), len(first)
    print(f"\n{table(('what', 'SHA-256'), [(kind, sha256[:16]) for kind, sha256 in first.items()])}\n")
    return tally


if __name__ == "__main__":
    main(
        Proof(
            replay,
            rounds=1,
            controls={"resolved-anew": "readers resolve deadlines anew from local time"},
            options=[
                option("--journeys", 110, "how many customers a store has"),
                option("--tzdata", OTHER_TZDATA, "releases to read with, with commas between them; pip fetches them"),
                option("--zone", None, "only the store of that place (default: both)", choices=ZONES),
                option("--around", "", "only the surroundings with this in their names (default: all)"),
            ],
        ),
        Proof(
            same_bytes,
            rounds=len(SURROUNDINGS),
            of="hash seeds with their surroundings",
            controls={"out-of-a-set": "a view comes out of a set"},
            options=[
                option("--journeys", 44, "how many customers there are"),
                option("--python", None, "an interpreter, more than once for several", action="append"),
                option("--stores", "memory,sqlite,postgres", "with commas between them"),
                option("--in-turns", False, "each store in one of the surroundings, not in all"),
            ],
        ),
    )
