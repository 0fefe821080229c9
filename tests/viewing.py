"""Worlds whose facts are projected, what can be wrong with them, and how stored views are compared."""

from __future__ import annotations

from random import Random
from typing import Any

from returnable.adapters.eventstore.library import StoredEntry
from returnable.adapters.eventstore.store import CaseStore
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import Services
from returnable.domain.events import encode
from returnable.domain.ports import Batch
from returnable.projections.follow import Projector
from returnable.projections.stored import VIEWS
from returnable.testing.behaviour import World


def lived(world: World, dice: Random, steps: int) -> World:
    """The world after so many more steps."""
    for _ in range(steps):
        world.step(dice.getrandbits(32))
    return world


def append_raw(store: Any, case_id: str, stream: str, stored_as: str, content: bytes) -> None:
    """Append a row as no version of this library would have written it."""
    assert isinstance(store, CaseStore)
    rows = store.case_rows(case_id)
    versions = [version for _, _, _, name, version, _, _ in rows if name == stream]
    entry: Any = StoredEntry(stream, max(versions, default=0) + 1, (stored_as, content))
    store.append([Batch(case_id, len(rows), (entry,))])


def poison(services: Services, case_id: str, kind: str = "unreadable") -> None:
    """A fact of a case that cannot be read (``unreadable``), or cannot have happened where it stands (``impossible``)."""
    store, stream = services.store, f"order/{case_id}"
    if kind == "unreadable":
        append_raw(store, case_id, stream, "order.Enchanted/1", b'{"by": "a witch"}')
    else:
        confirmed = store.load_until_damage(case_id)[0][0].event
        append_raw(store, case_id, stream, *encode(confirmed))


def digests(views: SQLiteViews) -> dict[str, str]:
    """View → hash of its rows and parked places."""
    with views.reading() as reading:
        return {name: reading.digest(name) for name in VIEWS}


def projector(services: Services, views: SQLiteViews, names: tuple[str, ...] = tuple(VIEWS), **sizes: int) -> Projector:
    """A projector of a store onto views."""
    return Projector(services.store, views, services.handler.policy, names, **sizes)


def built_anew(services: Services) -> dict[str, str]:
    """The hashes of views that are built at once from all the facts."""
    views = SQLiteViews(None)
    projector(services, views).run()
    found = digests(views)
    views.close()
    return found
