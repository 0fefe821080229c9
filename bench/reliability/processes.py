"""Processes of this clone whose output goes to files."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]

LOOK_SECONDS = 0.05

PATIENCE_SECONDS = 240


class Process:
    """A module that runs as a program, from the moment it is made; what it says is in ``output``.

    The module prints something once it has opened what it needs. ``within`` is the beginning of a command that runs the
    rest of it elsewhere, such as ``ip netns exec NAME``.
    """

    def __init__(self, output: Path, module: str, *arguments: str, within: Sequence[str] = ()) -> None:
        self.output = output
        self._errors = output.with_suffix(".err")
        with output.open("wb") as said, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*within, sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=said, stderr=errors
            )

    @property
    def has_begun(self) -> bool:
        """Whether it has opened what it needs, or ended."""
        return self.output.stat().st_size > 0 or not self.is_running

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(self) -> None:
        """Wait for its end, which is near. Raises ``RuntimeError`` when that was not a good one, or does not come."""
        try:
            status = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self.output.name} does not end") from None
        said = self._errors.read_text()
        if status or said:
            raise RuntimeError(f"{self.output.name} ended with {status}: {said}")

    def end(self) -> None:
        """Kill it if it still runs."""
        self._process.kill()
        self._process.wait()


def wait_until_begun(processes: Sequence[Process]) -> None:
    """Until then the server must be sound: one that is away when a store is opened is another matter."""
    while not all(process.has_begun for process in processes):
        time.sleep(LOOK_SECONDS)
