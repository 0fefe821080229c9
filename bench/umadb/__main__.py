"""Play scenarios on an UmaDB server of our own, and measure commands a second in turns with an SQLite file.

python examples/umadb/try_it.py SCENARIO.jsonl …
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median

import umadb

import returnable
from bench.lifecycle import go_through, numbered
from bench.measure import seconds
from bench.umadb.store import UmaDBCaseRecorder
from returnable.adapters.eventstore.store import FactStore
from returnable.adapters.scenario import play, policy_beside, read_scenario
from returnable.adapters.wiring import Parts, assemble, policy_book
from returnable.domain.desk import Desk


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """An UmaDB server with a log in that folder; its URL."""
    folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = str(Path(sys.executable).with_name("umadb"))
    with (folder / "said").open("wb") as said:
        running = subprocess.Popen(
            [program, "--listen", address, "--db-path", str(folder / "log")], stdout=said, stderr=said
        )
    try:
        for _ in range(100):
            try:
                umadb.Client(url=f"http://{address}").head()
                break
            except umadb.TransportError:
                time.sleep(0.1)
        yield f"http://{address}"
    finally:
        running.terminate()
        running.wait()


def parts_on(url: str, policy: Path | None = None) -> Parts:
    """A desk and its questions on an UmaDB server."""
    store = FactStore(UmaDBCaseRecorder(url))
    return Parts(store, Desk(store, policy_book(policy)))


def check(scenario: Path, folder: Path) -> tuple[int, int, bool]:
    """Lines with expectations, mismatches, and whether every answer is the one that memory gives."""
    lines = read_scenario(scenario.read_bytes(), scenario.name)
    policy = policy_beside(scenario)
    with server(folder) as url:
        played = list(play(parts_on(url, policy), lines))
    expected = list(play(assemble("memory:", policy), lines))
    same = [line.as_dict() for line in played] == [line.as_dict() for line in expected]
    return sum(line.expected for line in played), sum(len(line.mismatches) for line in played), same


def measure(folder: Path, blocks: int = 15, threads: int = 64) -> None:
    """Commands a second beside SQLite, in turns."""
    numbers = map(numbered, count())
    with server(folder) as url, returnable.open(f"sqlite:///{folder}/facts.db") as in_file:
        on_server = returnable.Desk(parts_on(url))
        for clients in (1, threads):
            pairs: list[tuple[float, float]] = []
            with ThreadPoolExecutor(clients) as pool:
                for _ in range(blocks + 1):
                    spent = []
                    for desk in (on_server, in_file):
                        lives = [next(numbers) for _ in range(max(clients, 10))]
                        spent.append(
                            seconds(lambda d=desk, ls=lives: list(pool.map(lambda n: list(go_through(d, n)), ls)))
                        )
                    pairs.append((spent[0], spent[1]))
            commands = 10 * max(clients, 10)
            uma, file = (median(pair[nth] for pair in pairs[1:]) for nth in (0, 1))
            ratio = median(of_file / of_uma for of_uma, of_file in pairs[1:])
            print(
                f"{clients} clients: UmaDB {commands / uma:,.0f}/s, SQLite {commands / file:,.0f}/s, ratio {ratio:.2f}"
            )
        on_server.close()


def main() -> None:
    """Check every scenario that is named, then measure."""
    with tempfile.TemporaryDirectory(prefix="umadb-trial-") as root:
        for nth, name in enumerate(sys.argv[1:]):
            expected, mismatches, same = check(Path(name), Path(root) / str(nth))
            print(f"{Path(name).name}: {expected} expected, {mismatches} mismatches, as in memory: {same}", flush=True)
        measure(Path(root) / "measured")


if __name__ == "__main__":
    main()
