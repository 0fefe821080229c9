"""``python -m bench.speed.against COMMIT``: commands a second of this checkout, as a ratio to those of an earlier commit.

Both run in processes of their own that live as long as the measurement, each on a store of its own, and take turns block by
block. So whatever slows the machine down slows both. Above 1.00 this checkout is faster. A figure without a second run, or on
a busy machine, says little: the middle half is printed beside the median.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

HERE = Path(__file__).resolve().parents[2]

KINDS = ("sqlite", "sqlite-threads", "postgres", "postgres-threads")
THREADS = 64


def serve(url: str, threads: int) -> None:
    """Carry out the lifecycles that come in line by line, and say how many seconds that took.

    Nothing but the library itself is of the code that is measured: an earlier commit has other benches.
    """
    import returnable

    with returnable.open(url) as desk, ThreadPoolExecutor(threads) as pool:

        def go_through(steps: Sequence[tuple[datetime, dict[str, Any]]]) -> None:
            for at, fields in steps:
                assert desk.handle(fields, at=at).accepted

        print("ready", flush=True)
        for line in sys.stdin:
            block = [[(datetime.fromisoformat(at), fields) for at, fields in steps] for steps in json.loads(line)]
            wall, processor = perf_counter(), process_time()
            for _ in map(go_through, block) if threads == 1 else pool.map(go_through, block):
                pass
            print(json.dumps([perf_counter() - wall, process_time() - processor]), flush=True)


class Worker:
    """A process that serves by the code in a folder."""

    def __init__(self, code: Path, url: str, threads: int) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", url, str(threads)]
        environment = os.environ | {"PYTHONPATH": str(code)}
        self._process = subprocess.Popen(
            command, cwd=code, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._numbers = count()
        self._line()

    def seconds(self, lifecycles: int) -> tuple[float, float]:
        """How long so many lifecycles take: seconds on the clock, and of the processor."""
        assert self._process.stdin is not None
        from bench.speed.lifecycle import lifecycle, numbered  # not where the other code is served

        lives = [lifecycle(numbered(next(self._numbers))) for _ in range(lifecycles)]
        block = [[(at.isoformat(), fields) for at, fields in steps] for steps in lives]
        print(json.dumps(block), file=self._process.stdin, flush=True)
        wall, processor = json.loads(self._line())
        return wall, processor

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process that is measured has ended")
        return line

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def measure(
    kind: str, before: Path, folder: Path, server: Any, blocks: int, lifecycles: int
) -> list[tuple[float, float]]:
    """For each block the ratio of commands a second, and of processor time, of this checkout to the one before."""
    from bench.speed.measure import alternately

    threads = THREADS if kind.endswith("threads") else 1
    with ExitStack() as stack:
        ours, theirs = (
            stack.enter_context(closing(Worker(code, _fresh_store(kind, name, code, folder, server), threads)))
            for name, code in (("now", HERE), ("before", before))
        )
        turns = (partial(worker.seconds, lifecycles * threads) for worker in (ours, theirs))
        return [(then[0] / now[0], now[1] / then[1]) for now, then in alternately(blocks, *turns)]


def _fresh_store(kind: str, name: str, code: Path, folder: Path, server: Any) -> str:
    if kind.startswith("sqlite"):
        return f"sqlite:///{folder}/{kind}-{name}.db"
    from bench.postgres import with_parameters

    url = with_parameters(server.url, schema=f"{kind.replace('-', '_')}_{name}")
    migrate = [sys.executable, "-m", "returnable.adapters.cli.entry", "migrate", "--store", url]
    subprocess.run(migrate, cwd=code, env=os.environ | {"PYTHONPATH": str(code)}, check=True, capture_output=True)
    return str(url)


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the code of a commit."""
    archive = subprocess.run(["git", "archive", commit], cwd=HERE, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory(prefix="returnable-against-") as folder:
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    from bench.postgres import OwnServer
    from bench.speed.measure import figure, table

    parser = argparse.ArgumentParser(prog="python -m bench.speed.against", description=__doc__)
    parser.add_argument("commit", help="what this checkout is compared with")
    parser.add_argument("--only", action="append", choices=KINDS, help="one of these kinds of store and client")
    parser.add_argument("--blocks", type=int, default=40, help="how many turns each takes")
    parser.add_argument("--lifecycles", type=int, default=20, help="lifecycles of a client in a block")
    options = parser.parse_args(arguments)
    rows: list[tuple[str, ...]] = []
    with ExitStack() as stack:
        before = stack.enter_context(checked_out(options.commit))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="returnable-against-")))
        kinds = options.only or KINDS
        server = stack.enter_context(OwnServer()) if any(kind.startswith("postgres") for kind in kinds) else None
        for kind in kinds:
            each = max(1, options.lifecycles // 10) if kind.endswith("threads") else options.lifecycles
            ratios = measure(kind, before, folder, server, options.blocks, each)
            counted = f"{options.blocks} blocks"
            rows.append((f"commands/s, {kind}", figure([faster for faster, _ in ratios]), counted))
            rows.append((f"processor time, {kind}", figure([dearer for _, dearer in ratios]), counted))
    print(table(("row", f"ratio to {options.commit}", "n"), rows))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main())
