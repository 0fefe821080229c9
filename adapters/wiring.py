"""A URL and a policy become a running desk. The only module that knows the concrete parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from returnable.adapters.eventstore.open import open_store
from returnable.domain.desk import Desk
from returnable.domain.policy import PolicyBook, bundled_policies, read_policies
from returnable.domain.ports import EventStore

if TYPE_CHECKING:
    from returnable.projections.questions import Questions


@dataclass(frozen=True)
class Parts:
    """A store, the desk that writes to it, and the questions that read from it."""

    store: EventStore
    desk: Desk

    @cached_property
    def questions(self) -> Questions:
        """Made when first asked for: a process that only writes needs no views."""
        from returnable.projections.questions import Questions

        return Questions(self.store, self.desk.policy)


def policy_book(policy: PolicyBook | str | Path | None) -> PolicyBook:
    """The policies meant: a book, a TOML file or a directory of versions; ``None``: the bundled one."""
    if policy is None:
        return bundled_policies()
    return policy if isinstance(policy, PolicyBook) else read_policies(policy)


def assemble(url: str, policy: PolicyBook | str | Path | None = None, *, create: bool = True) -> Parts:
    """Open the store at ``url`` and put a desk and its questions on it.

    Raises :class:`~returnable.domain.errors.PolicyInvalid` and :class:`~returnable.domain.errors.StoreUnusable`;
    without ``create`` a store that does not exist is unusable.
    """
    book = policy_book(policy)
    store = open_store(url, create=create)
    return Parts(store, Desk(store, book))
