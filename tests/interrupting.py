"""A time limit that is raised in a thread, wherever a function of the product begins."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar

T = TypeVar("T")


class TimeLimit(Exception):
    """What a host raises in a thread that takes too long."""


class Interrupted:
    """Work into which :class:`TimeLimit` is raised where the ``nth`` function begins, within :func:`interruptible`."""

    def __init__(self, work: Callable[[], T], nth: int) -> None:
        self._work, self._nth = work, nth
        self._places = 0
        self.came = False
        """Whether there was such a place."""

    def __call__(self) -> Any:
        """Do the work in this thread; its result, or the exception."""
        _here.work = self
        try:
            return self._work()
        finally:
            _here.work = None

    def function_begins(self) -> None:
        """Count one more place; raise the time limit where its turn has come."""
        self._places += 1
        if self._places == self._nth:
            self.came = True
            raise TimeLimit


class _Here(threading.local):
    work: Interrupted | None = None


_here = _Here()


@contextmanager
def interruptible(within: str) -> Iterator[None]:
    """Have :class:`Interrupted` work look for its place at every function and method of the modules named ``within…``.

    Functions are replaced rather than traced: an exception that a trace function raises breaks CPython 3.11 at times.
    """
    replaced: list[tuple[Any, str, object]] = []
    known: dict[FunctionType, Any] = {}

    def replacement(found: Any) -> Any:
        if isinstance(found, property):
            return property(*(each and replacement(each) for each in (found.fget, found.fset, found.fdel)))
        if isinstance(found, classmethod | staticmethod):
            return type(found)(replacement(found.__func__))
        if isinstance(found, FunctionType) and (found.__module__ or "").startswith(within):
            return known.setdefault(found, _announced(found))
        return found

    def replace_in(owner: Any, module: str) -> None:
        for name, found in list(vars(owner).items()):
            if isinstance(found, type):
                if found.__module__ == module and found is not owner:
                    replace_in(found, module)
            elif isinstance(found, property | classmethod | staticmethod | FunctionType):
                replaced.append((owner, name, found))
                setattr(owner, name, replacement(found))

    for name, module in list(sys.modules.items()):
        if name.startswith(within):
            replace_in(module, name)
    try:
        yield
    finally:
        for owner, name, found in reversed(replaced):
            setattr(owner, name, found)


def _announced(function: FunctionType) -> Callable[..., Any]:
    @wraps(function)
    def announced(*arguments: Any, **options: Any) -> Any:
        if _here.work is not None:
            _here.work.function_begins()
        return function(*arguments, **options)

    return announced
