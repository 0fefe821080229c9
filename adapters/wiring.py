"""Makes a running desk from a URL and a policy. The only module that knows the concrete parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from returnable.adapters.eventstore.forks import AtWork
from returnable.adapters.eventstore.open import migrate_store, on_a_server, open_store
from returnable.domain.cached import cached_property
from returnable.domain.errors import StoreUnusable
from returnable.domain.handler import CommandHandler
from returnable.domain.policy import BUNDLED, Policy, PolicyBook, bundled_policies, read_policies
from returnable.domain.ports import EventStore

if TYPE_CHECKING:
    from returnable.adapters.eventstore.postgres_connections import HostPool
    from returnable.adapters.publishing.broker import Broker
    from returnable.adapters.publishing.publisher import Publisher
    from returnable.projections.follow import Projector
    from returnable.projections.ports import ViewStore
    from returnable.projections.questions import Questions
    from returnable.projections.redaction import Redaction

__all__ = [
    "Services",
    "assemble",
    "migrate_store",
    "policy_book",
    "projector",
    "published",
    "publisher",
    "stored_views",
]


@dataclass(frozen=True)
class Services:
    """A store, the desk that writes to it, and the questions that read from it."""

    store: EventStore
    handler: CommandHandler

    @cached_property
    def questions(self) -> Questions:
        """Made at the first use: a process that only writes needs no views."""
        with AtWork(self):  # a child that is forked in the middle of an import could never complete it
            from returnable.projections.questions import Questions

        return Questions(self.store, self.handler.policy)


AnyPolicy = PolicyBook | Policy | Sequence[Policy] | str | Path | None
"""A policy, several versions of one, a book of them, a file, a directory of versions, or the name of a bundled one.

``None``: the bundled one in force."""


def policy_book(policy: AnyPolicy) -> PolicyBook:
    """The policies that the argument names. A file or directory precedes a bundled policy of the same name."""
    if policy is None:
        return bundled_policies()
    if isinstance(policy, PolicyBook):
        return policy
    if isinstance(policy, Policy):
        return PolicyBook([policy])
    if not isinstance(policy, str | Path):
        return PolicyBook(policy)
    if policy in BUNDLED and not Path(str(policy)).exists():
        return bundled_policies(str(policy))
    return read_policies(policy)


def assemble(
    url: str,
    policy: AnyPolicy = None,
    *,
    create: bool = True,
    only_reading: bool = False,
    pool: HostPool | None = None,
    connections: int = 8,
) -> Services:
    """Open the store at ``url`` and put a desk and its questions on it.

    Raises :class:`~returnable.domain.errors.PolicyInvalid` and :class:`~returnable.domain.errors.StoreUnusable`;
    without ``create`` a store that does not exist is unusable. With ``only_reading`` it may be write-protected.
    ``pool`` and ``connections`` are for a store on a server: the host's own pool, or how many connections to have at most.
    """
    book = policy_book(policy)
    store = open_store(url, create=create, only_reading=only_reading, pool=pool, connections=connections)
    return Services(store, CommandHandler(store, book))


def stored_views(
    store_url: str, views_url: str | None = None, *, create: bool = True, anew: bool = False
) -> ViewStore | None:
    """The stored views of the store at ``store_url``: beside it (``shop.db`` → ``shop-views.db``), or at ``views_url``.

    A store on a server has stored views only at a ``views_url``. Without ``create``: ``None`` where there are none. ``anew``
    drops stored views of another version first. Raises :class:`~returnable.domain.errors.StoreUnusable` for a file of another
    application or of another version.
    """
    from returnable.adapters.views.sqlite import open_views, views_url_of

    if views_url is None and on_a_server(store_url):
        if not create:
            return None
        raise StoreUnusable("stored views of a store on a server need a file: name one, such as sqlite:///views.db")
    if views_url is None:
        views_url = views_url_of(store_url)
    elif views_url == store_url != "memory:":
        raise StoreUnusable(f"{views_url}: this is the store itself; stored views need a file of their own")
    return open_views(views_url, create=create, anew=anew)


def projector(services: Services, views: ViewStore, names: Sequence[str] | None = None) -> Projector:
    """Brings stored views (``None``: all of them) up to date with the events."""
    from returnable.projections.follow import Projector
    from returnable.projections.stored import VIEWS

    return Projector(services.store, views, services.handler.policy, tuple(VIEWS) if names is None else names)


def publisher(
    services: Services,
    broker: Broker,
    *,
    name: str = "default",
    source: str | None = None,
    redaction: Redaction | None = None,
    hold_seconds: float = 30.0,
) -> Publisher:
    """Publishes the events to a broker; its checkpoint is kept in the store under ``name``."""
    from returnable.adapters.publishing.publisher import Publisher

    return Publisher(
        services.store,
        services.store.checkpoints,
        broker,
        name=name,
        source=source,
        redaction=redaction,
        hold_seconds=hold_seconds,
    )


def published(services: Services) -> dict[str, int]:
    """The names of the publishers that ever ran, and the position up to which each has published."""
    from returnable.adapters.publishing.publisher import checkpoint_of

    prefix = checkpoint_of("")
    begun = services.store.checkpoints.begun()
    return {name.removeprefix(prefix): position for name, position in begun.items() if name.startswith(prefix)}
