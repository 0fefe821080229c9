"""A URL and a policy become a running desk. The only module that knows the concrete parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from returnable.adapters.eventstore.open import open_store
from returnable.domain.desk import Desk
from returnable.domain.policy import PolicyBook, bundled_policies, read_policies
from returnable.domain.ports import EventStore
from returnable.projections.questions import Questions


@dataclass(frozen=True, slots=True)
class Parts:
    """A store, the desk that writes to it, and the questions that read from it."""

    store: EventStore
    desk: Desk
    questions: Questions


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
    desk = Desk(store, book)
    return Parts(store, desk, Questions(store, desk.policy))
