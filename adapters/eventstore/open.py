"""A URL becomes a store."""

from __future__ import annotations

import os
from typing import Literal
from urllib.parse import unquote

from returnable.adapters.eventstore.store import FactStore
from returnable.domain.errors import StoreUnusable

UNDERSTOOD = "memory:, sqlite:///relative.db and sqlite:////absolute/path.db"


def open_store(
    url: str,
    *,
    create: bool = True,
    only_reading: bool = False,
    synchronous: Literal["FULL", "EXTRA", "NORMAL"] = "FULL",
    busy_timeout_seconds: float = 5.0,
) -> FactStore:
    """The store at a URL: ``memory:`` (a fresh one), ``sqlite:///relative.db`` or ``sqlite:////absolute/path.db``.

    The path of a file is percent-decoded; a file that does not exist is created, or without ``create`` refused. With
    ``only_reading`` a write-protected file will do, and is left exactly as it is.
    ``NORMAL`` gives durability away: a power failure may lose acknowledged facts. ``busy_timeout_seconds`` is how long a
    write waits for other writers.
    Raises :class:`StoreUnusable` when the URL is not understood or the file cannot be used.
    """
    if url == "memory:":
        from returnable.adapters.eventstore.memory import MemoryCaseRecorder

        return FactStore(MemoryCaseRecorder())
    from returnable.adapters.eventstore.sqlite import SQLiteCaseRecorder

    path = path_of(url)
    if not create and not os.path.exists(path):
        raise StoreUnusable(f"{path}: there is no store here")
    recorder = SQLiteCaseRecorder(
        path, synchronous=synchronous, busy_timeout_seconds=busy_timeout_seconds, only_reading=only_reading
    )
    return FactStore(recorder)


def path_of(url: str) -> str:
    """The path a URL of an SQLite file names; raises :class:`StoreUnusable` when it names none."""
    scheme, colon, rest = url.partition("://")
    # A "?" or "#" that is part of a file name comes percent-encoded; options are not taken from a URL.
    if scheme != "sqlite" or not colon or not rest.startswith("/") or "?" in rest or "#" in rest:
        raise _not_understood(url)
    path = unquote(rest[1:], errors="surrogateescape")
    if not path or "\0" in path or path == ":memory:":
        raise _not_understood(url)
    return path


def _not_understood(url: str) -> StoreUnusable:
    return StoreUnusable(f"{url!r} names no store; understood are {UNDERSTOOD}")
