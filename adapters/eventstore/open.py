"""Opens the store at a URL."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from returnable.adapters.eventstore.postgres_place import is_postgres, place_of
from returnable.adapters.eventstore.store import CaseStore
from returnable.adapters.extras import extra
from returnable.adapters.urls import masked
from returnable.domain.errors import StoreUnusable

if TYPE_CHECKING:
    from returnable.adapters.eventstore.postgres_connections import HostPool

UNDERSTOOD = "memory:, sqlite:///relative.db, sqlite:////absolute/path.db and postgresql://…"


def open_store(
    url: str,
    *,
    create: bool = True,
    only_reading: bool = False,
    synchronous: Literal["FULL", "EXTRA", "NORMAL"] = "FULL",
    busy_timeout_seconds: float = 5.0,
    pool: HostPool | None = None,
    connections: int = 8,
) -> CaseStore:
    """The store at a URL: ``memory:`` (a fresh one), ``sqlite:///relative.db``, ``sqlite:////absolute/path.db`` or
    ``postgresql://user@host/database?schema=returnable``.

    The path of a file is percent-decoded; a file that does not exist is created, or without ``create`` refused. With
    ``only_reading`` the file may be write-protected, and it is left as it is, also if it is of an older version.
    ``NORMAL`` gives durability away: a power failure may lose acknowledged events. ``busy_timeout_seconds`` is how long a
    write waits for other writers.
    A store on PostgreSQL is created by :func:`migrate_store` and never here. It opens at most ``connections``, or takes those
    of the host's ``pool`` (such as a ``psycopg_pool.ConnectionPool``), and one more for each store that is followed.
    Raises :class:`StoreUnusable` when the URL is not understood or the file cannot be used.
    """
    if url == "memory:":
        from returnable.adapters.eventstore.memory import MemoryStore

        return MemoryStore()
    if is_postgres(url):
        place = place_of(url)
        with extra("postgres", "psycopg", f"{place.shown}: PostgreSQL", StoreUnusable):
            from returnable.adapters.eventstore.postgres import PostgresStore
            from returnable.adapters.eventstore.postgres_connections import Limits

        limits = Limits(busy_seconds=busy_timeout_seconds, connections=connections)
        return PostgresStore(place, limits=limits, pool=pool, only_reading=only_reading)
    from returnable.adapters.eventstore.sqlite import SQLiteStore

    path = path_of(url)
    if not create and not os.path.exists(path):
        raise StoreUnusable(f"{path}: there is no store here")
    return SQLiteStore(
        path, synchronous=synchronous, busy_timeout_seconds=busy_timeout_seconds, only_reading=only_reading
    )


def copy_store(url: str, target: str | os.PathLike[str]) -> None:
    """Copy a store in an SQLite file into another, empty file, page by page, as of one moment.

    Damage is copied as well, so that it can be found in the copy. Raises :class:`StoreUnusable`.
    """
    from returnable.adapters.eventstore.sqlite_connections import reading_connections

    path = path_of(url)
    if not os.path.exists(path):
        raise StoreUnusable(f"{path}: there is no store here")
    connections = reading_connections(path)
    try:
        connections.copy_into(os.fspath(target))
    finally:
        connections.close()


def on_a_server(url: str) -> bool:
    """Whether the store at a URL is on a server, not in a file or in memory."""
    return is_postgres(url)


def migrate_store(url: str) -> tuple[int, int]:
    """Create the store at a URL or bring its tables up to date. Returns their version before (0: none) and after.

    Safe to run from many processes at once. Raises :class:`StoreUnusable`, also for a store that a newer version made. A
    file is created, or brought up to date, whenever it is opened for writing.
    """
    if not is_postgres(url):
        from returnable.adapters.eventstore.sqlite_schema import SCHEMA_VERSION, version_of_file

        before = 0 if url == "memory:" else version_of_file(path_of(url))
        open_store(url).close()
        return before, SCHEMA_VERSION
    place = place_of(url)
    with extra("postgres", "psycopg", f"{place.shown}: PostgreSQL", StoreUnusable):
        from returnable.adapters.eventstore.postgres import migrate

    return migrate(place)


def path_of(url: str) -> str:
    """The path in a URL of an SQLite file. Raises :class:`StoreUnusable` where the URL has none."""
    scheme, colon, rest = url.partition("://")
    # A "?" or "#" that is part of a file name comes percent-encoded; options are not taken from a URL.
    if scheme != "sqlite" or not colon or not rest.startswith("/") or "?" in rest or "#" in rest:
        raise _not_understood(url)
    path = unquote(rest[1:], errors="surrogateescape")
    if not path or "\0" in path or path == ":memory:":
        raise _not_understood(url)
    return path


def _not_understood(url: str) -> StoreUnusable:
    return StoreUnusable(f"{masked(url)!r} names no store; understood are {UNDERSTOOD}")
