"""A time limit that is raised in a thread, wherever a function begins."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class TimeLimit(Exception):
    """What a host raises in a thread that takes too long."""


class Interrupted:
    """Work into which :class:`TimeLimit` is raised where the ``nth`` function begins in files whose path holds ``within``.

    Python also looks where a call has ended. An exception that a trace function raises there breaks CPython 3.11 at times.
    """

    def __init__(self, work: Callable[[], T], nth: int, within: str) -> None:
        self._work, self._nth, self._within = work, nth, within
        self._places = 0
        self.came = False
        """Whether there was such a place."""

    def __call__(self) -> Any:
        """Do the work in this thread; its result, or the exception."""
        before = sys.gettrace()
        sys.settrace(self._look)
        try:
            return self._work()
        finally:
            sys.settrace(before)

    def _look(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and not self.came and self._within in frame.f_code.co_filename:
            self._places += 1
            if self._places == self._nth:
                self.came = True
                raise TimeLimit
