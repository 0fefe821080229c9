"""``python -m bench.reliability.same_bytes``: the same history gives the same bytes, wherever it is lived through.

Processes of several interpreters, with several hash seeds, under several time zones and locales, and with a store in
memory, in a file and on a server, live through the same customers. Of the answers, facts, lists, stored views, exports and
reports each prints the hashes; all must be equal.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.postgres import OwnServer, with_parameters
from bench.speed.measure import table

ROOT = Path(__file__).parents[2]

MINORS = range(11, 15)
"""The versions of CPython 3 that are looked for."""

SURROUNDINGS: tuple[dict[str, str], ...] = (
    {"PYTHONHASHSEED": "0"},
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "2", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8"},
    {"PYTHONHASHSEED": "4294967295", "TZ": "Pacific/Apia", "LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0"},
)
"""Hash seeds, time zones and locales, in turns."""


@dataclass(frozen=True)
class Lived:
    """One process: where it lived, and the hash of each kind of thing."""

    python: str
    store: str
    surroundings: dict[str, str]
    hashes: dict[str, str]


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
    needed = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    inside = str(folder / "bin" / "python")
    subprocess.run([inside, "-m", "pip", "install", "-q", "--disable-pip-version-check", *needed], check=True)
    return inside


def live(python: str, url: str, surroundings: dict[str, str], journeys: int, manner: str) -> dict[str, str]:
    """The hashes that a process prints. Raises ``RuntimeError`` when it fails."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG", "TZ"))
    }
    ran = subprocess.run(
        [python, "-m", "bench.reliability.same_bytes_worker", url, str(journeys), manner],
        cwd=ROOT,
        env=inherited | surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"{python}: {ran.stderr[-2000:]}")
    hashes: dict[str, str] = json.loads(ran.stdout)
    return hashes


def main(arguments: Sequence[str] | None = None) -> int:
    """Live everywhere, compare, print; exit status 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.same_bytes", description=__doc__)
    parser.add_argument("--journeys", type=int, default=44, help="how many customers there are")
    parser.add_argument(
        "--python", action="append", help="an interpreter, more than once for several (default: all found)"
    )
    parser.add_argument("--stores", default="memory,sqlite,postgres", help="with commas between them")
    parser.add_argument(
        "--seeds", type=int, default=len(SURROUNDINGS), help="how many hash seeds with their surroundings"
    )
    parser.add_argument("--in-turns", action="store_true", help="each store in one of the surroundings, not in all")
    parser.add_argument(
        "--control",
        action="store_true",
        help="processes in which a view comes out of a set: shows that a difference is found, exits 1",
    )
    options = parser.parse_args(arguments)
    pythons = options.python or interpreters()
    manner = "out-of-a-set" if options.control else "sound"
    lived: list[Lived] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="returnable-same-")))
        stores = options.stores.split(",")
        server = stack.enter_context(OwnServer()).url if "postgres" in stores else ""
        numbers = itertools.count(1)
        for python in pythons:
            version = ".".join(map(str, version_of(python)))
            print(f"CPython {version or '?'}: {python}", flush=True)
            inside = prepared(python, folder / f"venv-{version}")
            for turn, surroundings in enumerate(SURROUNDINGS[: options.seeds]):
                for store in [stores[turn % len(stores)]] if options.in_turns else stores:
                    nth = next(numbers)
                    url = {
                        "memory": "memory:",
                        "sqlite": f"sqlite:///{folder}/{nth}.db",
                        "postgres": with_parameters(server, schema=f"same_{nth}"),
                    }[store]
                    hashes = live(inside, url, surroundings, options.journeys, manner)
                    lived.append(Lived(version, store, surroundings, hashes))
    return show(lived)


def show(lived: Sequence[Lived]) -> int:
    """Print what is equal and what is not; the exit status."""
    first = lived[0].hashes
    rows = [
        (kind, found[:16], f"{sum(one.hashes.get(kind) != found for one in lived):,}") for kind, found in first.items()
    ]
    print(f"\n{table(('what', 'SHA-256', 'processes with another'), rows)}")
    differ = [
        (one, kind) for one in lived for kind in {**first, **one.hashes} if one.hashes.get(kind) != first.get(kind)
    ]
    print(
        table(
            ("what", "count"),
            [
                ("processes", f"{len(lived):,}"),
                ("interpreters", f"{len({one.python for one in lived}):,}"),
                ("kinds of things compared", f"{len(first):,}"),
                ("hashes that differ", f"{len(differ):,}"),
            ],
        )
    )
    for one, kind in differ[:5]:
        print(f"differs: {kind}: CPython {one.python}, {one.store}, {one.surroundings}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
