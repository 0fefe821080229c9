"""A time limit that is raised in a thread, at every instruction at which one can come."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

T = TypeVar("T")

_HERE_IT_COMES = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"}
"""After these instructions CPython looks whether something is to be raised in the thread."""


class TimeLimit(Exception):
    """What a host raises in a thread that takes too long."""


class Interrupted:
    """Work into which :class:`TimeLimit` is raised at the ``nth`` place within files whose path holds ``within``."""

    def __init__(self, work: Callable[[], T], nth: int, within: str) -> None:
        self._work, self._nth, self._within = work, nth, within
        self._places = 0
        self._last: dict[FrameType, int] = {}
        self.came = False
        """Whether there was such a place."""

    def __call__(self) -> Any:
        """Do the work in this thread; its result, or the exception."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return self._work()
        finally:
            sys.settrace(before)
            self._last.clear()

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        if self.came or self._within not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        return self._look

    def _look(self, frame: FrameType, event: str, argument: object) -> Any:
        if event != "opcode" or self.came:
            return self._look
        last = self._last.get(frame)
        self._last[frame] = frame.f_lasti
        if last is not None and _name(frame.f_code, last) in _HERE_IT_COMES:
            self._places += 1
            if self._places == self._nth:
                self.came = True
                raise TimeLimit
        return self._look


def _name(code: CodeType, offset: int) -> str:
    return dis.opname[code.co_code[offset]]
