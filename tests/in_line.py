"""Threads whose appends come while another one writes, so that they are committed together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from patience import GUARD_SECONDS

from returnable.adapters.eventstore.group_commit import GroupCommit
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.events import AccountLinked
from returnable.domain.ports import Batch, CommandReceipt, Entry
from returnable.testing.behaviour import START

PATIENCE_SECONDS = GUARD_SECONDS


def batch(case_id: str, after: int, *accounts: str, gap: int = 0) -> Batch:
    events = (AccountLinked(occurred_at=START, recorded_at=START, account_id=account) for account in accounts)
    return Batch(case_id, after, tuple(Entry(f"order/{case_id}", after + n + gap, f) for n, f in enumerate(events, 1)))


def receipt(command_id: str) -> CommandReceipt:
    return CommandReceipt(command_id, "d" * 64, "link_account", START, "accepted")


class Line:
    """Threads that come one after the other while the first of them is at work."""

    def __init__(self, together: GroupCommit[Any, Any]) -> None:
        self._together = together
        self._carry_out = together._carry_out
        self._may_work = threading.Event()
        self._at_work = threading.Event()
        self._threads: list[threading.Thread] = []
        self.sizes: list[int] = []
        """How many requests were carried out at a time."""
        self.results: list[object] = []
        together._carry_out = self._first_wait

    def _first_wait(self, requests: Sequence[Any]) -> Any:
        self.sizes.append(len(requests))
        if len(self.sizes) == 1:
            self._at_work.set()
            assert self._may_work.wait(PATIENCE_SECONDS)
        return self._carry_out(requests)

    def come(self, work: Callable[[], object]) -> None:
        """Another one comes, and waits behind those that came before."""
        nth = len(self.results)
        self.results.append(None)

        def do() -> None:
            try:
                self.results[nth] = work()
            except BaseException as error:
                self.results[nth] = error

        before, began = len(self._together._waiting), self._at_work.is_set()
        thread = threading.Thread(target=do, daemon=True)
        self._threads.append(thread)
        thread.start()
        # It is at work, or waits, or has come to its end already.
        while len(self._together._waiting) == before and self._at_work.is_set() == began and thread.is_alive():
            thread.join(0.001)

    def go(self) -> list[object]:
        """The first may finish; what became of all."""
        self._may_work.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        return self.results


def together_of(store: CaseStore) -> GroupCommit[Any, Any]:
    found: GroupCommit[Any, Any] = store._group_commit  # type: ignore[attr-defined]
    return found
