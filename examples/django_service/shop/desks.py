"""One desk for the process, with two faces: ``desk()`` for synchronous views, ``async_desk()`` for asynchronous ones.

The server opens it when it loads the application, so a process that cannot reach its store does not begin to serve. A server
may load it before it forks (``gunicorn --preload``), also with an SQLite store: each child makes connections and threads of
its own.
"""

from __future__ import annotations

from functools import cache

from django.conf import settings

import returnable
from returnable import AsyncDesk, Desk


@cache
def async_desk() -> AsyncDesk:
    """The desk to be awaited."""
    connections = settings.RETURNABLE_CONNECTIONS
    return AsyncDesk(returnable.open(settings.RETURNABLE_STORE, connections=connections), threads=connections)


def desk() -> Desk:
    """The desk for threads. It shares connections and caches with the other."""
    return async_desk().desk
