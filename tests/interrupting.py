"""A time limit that is raised in a thread, at every place at which one can come."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class TimeLimit(Exception):
    """What a host raises in a thread that takes too long."""


@cache
def after_calls(code: CodeType) -> frozenset[int]:
    """Where an interrupt may come in the middle of a function: before the instruction that follows a call."""
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "PRECALL")]
    return frozenset(then.offset for call, then in pairwise(steps) if call.opname.startswith("CALL"))


class Interrupted:
    """Work into which :class:`TimeLimit` is raised at the ``nth`` place within files whose path holds ``within``.

    A place is where a function begins, or where a call has ended: there Python looks whether something is to be raised.
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

    def _look(self, frame: FrameType, event: str, argument: object) -> Any:
        if self.came or self._within not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "call" or (event == "opcode" and frame.f_lasti in after_calls(frame.f_code)):
            self._places += 1
            if self._places == self._nth:
                self.came = True
                raise TimeLimit
        return self._look
