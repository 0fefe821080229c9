"""Forks: work that must end before a process forks, and locks and connections that its child must make anew.

A child process gets the memory of its parent and one thread only, the one that forked. A lock that another thread held stays
locked there for ever, and so does a lock inside SQLite. SQLite also remembers which files it has locked, although the child
holds none of these locks. Therefore a fork waits until no other thread is :class:`AtWork`, then every store closes its SQLite
connections, and parent and child open new ones when they need them.

Code in C can fork without telling Python (uWSGI does). A child notices that by its process id, at its first :class:`AtWork`.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from os import getpid
from threading import get_ident
from typing import Any

import pydantic.main

from returnable.domain.errors import StoreUnusable

PATIENCE_SECONDS = 10.0
"""How long a fork waits for other threads."""

_LOOK_SECONDS = 0.002


class _State:
    """The threads of this process, as far as forks must know them."""

    def __init__(self) -> None:
        self.pid = getpid()
        self.at_work: list[tuple[int, object]] = []
        """Each thread that is at work, and the object it works with."""
        self.forking: list[int] = []
        """The thread that forks, and the threads that wait to fork after it. They do nothing else meanwhile."""
        self.noticed: dict[int, int] = {}
        """For each process id, the thread that noticed a fork of which Python knew nothing."""
        self.turn = threading.Lock()
        self.calm = True
        """Whether no thread forks, and no thread was cut off by the fork that made this process."""
        self.over = threading.Event()
        """Set when the fork is over."""
        self.building: Any = None
        """The lock of pydantic, while this process forks."""
        self.cut_off = False
        """Whether another thread was at work when this process was forked."""


_state = _State()

_Methods = dict[weakref.ref[Any], Callable[[Any], None]]
"""Objects, and a method of each."""

_before_forks: _Methods = {}
_in_children: _Methods = {}


class AtWork:
    """Says that this thread is at work with ``owner`` until it calls :meth:`end`. Forks of other threads wait for that.

    The constructor waits while another thread forks. It raises :class:`StoreUnusable` in a child process whose parent forked
    in the middle of another thread's work. Forks also wait for work without an owner, but it refuses nothing in the child.
    """

    __slots__ = ("_entry", "pid")

    def __init__(self, owner: object, *, for_others: bool = False) -> None:
        """``for_others``: other threads at work wait for this one. So it never waits for a fork, which waits for them."""
        state = _state
        if state.pid != getpid():
            notice()
        self.pid = state.pid
        """The id of the process that began the work."""
        self._entry: tuple[int, object] | None = (get_ident(), owner)
        state.at_work.append(self._entry)
        # Read after the entry was made: a fork reads the entries after it has set ``calm`` to ``False``.
        if not state.calm and not for_others:
            self._wait(self._entry)

    def end(self) -> None:
        """Let forks go on; harmless when repeated."""
        entry, self._entry = self._entry, None
        if entry is not None:
            try:  # noqa: SIM105 (twice in every command)
                _state.at_work.remove(entry)
            except ValueError:
                pass

    __del__ = end  # a signal may interrupt the owner before it calls end()

    def __enter__(self) -> AtWork:
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()

    def check_same_process(self) -> None:
        """Raise :class:`StoreUnusable` in a child process that was forked since the work began."""
        if self.pid != getpid():
            raise StoreUnusable(
                "this process was forked in the middle of a change: the change is the parent's, and nothing was recorded here"
            )

    def _wait(self, entry: tuple[int, object]) -> None:
        state, thread = _state, entry[0]
        while not state.calm:
            if state.cut_off:
                if entry[1] is None:
                    return
                self.end()
                raise StoreUnusable(
                    "this process was forked while another thread used a store, and cannot use stores: fork before such "
                    "threads begin, or start processes without forking"
                )
            # A thread that is in the middle of other work goes on: the fork waits for its end.
            if thread in state.forking or sum(each == thread for each, _ in state.at_work.copy()) > 1:
                return
            state.at_work.remove(entry)
            state.over.wait()
            state.at_work.append(entry)


class ForkSafeLock:
    """A re-entrant lock that no thread holds in a child process, unless the thread that forked holds it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._work: list[AtWork] = []

    def __enter__(self) -> None:
        work = AtWork(self)
        self._lock.acquire()
        self._work.append(work)

    def __exit__(self, *raised: object) -> None:
        work = self._work.pop()
        self._lock.release()
        work.end()


def before_forks(close: Callable[[], None]) -> None:
    """Call a method in the parent before every fork, unless a thread is at work with its object."""
    _keep(_before_forks, close)


def in_children(start_afresh: Callable[[], None]) -> None:
    """Call a method in every child process, before anything else uses its object there.

    Methods are called in the order of registration. An object that is gone is forgotten.
    """
    _keep(_in_children, start_afresh)


def notice() -> None:
    """Handle a fork of which Python knew nothing; does nothing otherwise."""
    pid = getpid()
    if _state.pid == pid:
        return
    # The first of several threads does it. No lock is used: it may have been inherited in a locked state.
    if _state.noticed.setdefault(pid, get_ident()) == get_ident():
        _after_in_child()
    while _state.pid != pid:
        time.sleep(_LOOK_SECONDS)


def _before() -> None:
    notice()
    state, me = _state, get_ident()
    state.forking.append(me)
    turn_came = False
    try:
        turn_came = state.turn.acquire(timeout=PATIENCE_SECONDS)
    finally:
        if not turn_came:
            state.forking.remove(me)  # this fork closes nothing, and its child refuses what is open
    if not turn_came:
        return
    state.over = threading.Event()
    state.calm = False
    # Attempts are counted, not timed: clocks may stand still in tests.
    for _ in range(int(PATIENCE_SECONDS / _LOOK_SECONDS)):
        if not _others_at_work(me):
            break
        time.sleep(_LOOK_SECONDS)
    busy = [owner for _, owner in state.at_work.copy()]
    for owner, close in _living(_before_forks):
        if not any(owner is each for each in busy):
            close(owner)
    # Our models are built when they are first used. Pydantic holds a lock meanwhile, which it does not free in a child.
    building = getattr(pydantic.main, "_rebuild_lock", None)
    if building is not None and building.acquire(timeout=PATIENCE_SECONDS):
        state.building = building


def _after_in_parent() -> None:
    state, me = _state, get_ident()
    if me in state.forking:
        _let_models_be_built()
        state.calm = True
        state.forking.remove(me)
        state.over.set()
        state.turn.release()


def _after_in_child() -> None:
    state, me = _state, get_ident()
    _let_models_be_built()
    state.cut_off = state.cut_off or _others_at_work(me, with_owner=True)
    state.calm = not state.cut_off
    state.at_work = [entry for entry in state.at_work if entry[0] == me]
    state.forking = []
    state.turn = threading.Lock()
    state.over = threading.Event()
    for owner, start_afresh in _living(_in_children):
        start_afresh(owner)
    state.pid = getpid()


def _let_models_be_built() -> None:
    building, _state.building = _state.building, None
    if building is not None:
        building.release()


def _others_at_work(me: int, *, with_owner: bool = False) -> bool:
    return any(
        thread != me and thread not in _state.forking and not (with_owner and owner is None)
        for thread, owner in _state.at_work.copy()
    )


def _keep(methods: _Methods, method: Any) -> None:
    forget = methods.pop  # bound here: at the end of the interpreter names of the module may be gone
    methods[weakref.ref(method.__self__, lambda owner: forget(owner, None))] = method.__func__


def _living(methods: _Methods) -> list[tuple[Any, Callable[[Any], None]]]:
    # Copied at once: another thread may add one.
    return [
        (owner, method)
        for owner, method in ((each(), method) for each, method in methods.copy().items())
        if owner is not None
    ]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
