"""Worker processes of the proofs: programs whose output goes to files, forked children, and pools."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[2]

LOOK_SECONDS = 0.05

PATIENCE_SECONDS = 900


class Process:
    """A module that runs as a program, from the moment it is made.

    ``within`` is the beginning of a command that runs the rest of it elsewhere, such as ``ip netns exec NAME``.
    """

    def __init__(
        self,
        output: Path,
        module: str,
        *arguments: str,
        within: Sequence[str] = (),
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.output = output
        self._errors = output.with_suffix(".err")
        command = [*within, python, "-m", module, *arguments]
        with output.open("wb") as printed, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=printed, stderr=errors
            )

    @property
    def has_begun(self) -> bool:
        """Whether it has printed something, as a worker does once it has opened what it needs; or ended."""
        return self.output.stat().st_size > 0 or not self.is_running

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def lines(self) -> list[bytes]:
        return self.output.read_bytes().split(b"\n")[:-1]

    def errors(self) -> str:
        return self._errors.read_text(errors="replace")

    def ask(self, line: str) -> bytes:
        """Send a line to its stdin; the line that it prints then. Raises ``RuntimeError`` if it ends instead."""
        assert self._process.stdin is not None
        before = len(self.lines())
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()
        while len(self.lines()) == before:
            if not self.is_running:
                raise RuntimeError(f"{self.output.name} ended with {self.wait()}: {self.errors()}")
            time.sleep(0.001)
        return self.lines()[-1]

    def wait(self) -> int:
        """Close its stdin and wait for its end, which is near; the exit status, negative for a signal."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            return self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self.output.name} does not end") from None

    def finish(self) -> None:
        """Wait for its end. Raises ``RuntimeError`` unless the status is 0 and stderr is empty."""
        status = self.wait()
        if status or self.errors():
            raise RuntimeError(f"{self.output.name} ended with {status}: {self.errors()[-2000:]}")

    def kill(self) -> int:
        """Kill it with SIGKILL if it still runs; the exit status."""
        self._process.kill()
        return self.wait()


class Processes(ExitStack):
    """Programs that are killed with the block."""

    def start(self, output: Path, module: str, *arguments: str) -> Process:
        """Start one."""
        process = Process(output, module, *arguments)
        self.callback(process.kill)
        return process


def wait_until_begun(processes: Sequence[Process]) -> None:
    """Wait until each of them has printed something or ended."""
    while not all(process.has_begun for process in processes):
        time.sleep(LOOK_SECONDS)


def forked(work: Callable[[], object], fork: Callable[[], int] = os.fork) -> int:
    """Fork a child that does the work and then ends without what Python does at an end; the id of the process."""
    pid = fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def in_threads(
    works: Iterable[Callable[[], object]], meanwhile: Callable[[], object] = lambda: time.sleep(0.01)
) -> None:
    """Do all of that at the same time, and something else again and again until it is done; raises the first failure."""
    with ThreadPoolExecutor(1000) as pool:
        running = [pool.submit(work) for work in works]
        while not all(work.done() for work in running):
            meanwhile()
    for work in running:
        work.result()


def in_parcels(work: Callable[[list[int]], T], numbers: Iterable[int], size: int, jobs: int) -> Iterator[T]:
    """What the work gives for each parcel of numbers, in order, in so many processes."""
    left = iter(numbers)
    parcels = iter(lambda: list(islice(left, size)), [])
    if jobs == 1:
        yield from map(work, parcels)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(work, parcels)
