"""RabbitMQ for tests: a stand-in that speaks the protocol and goes wrong as it is told, and a real one where it is given.

``RETURNABLE_TEST_RABBITMQ`` names a server (``amqp://guest:guest@localhost:5672/``); then every test that does not need a
broker to misbehave runs on it, too. The stand-in knows what the publisher uses: one exchange after another, confirmations,
returned messages. It keeps what it acknowledged.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pika import BlockingConnection, URLParameters, frame, spec

Fate = Callable[[int], str]
"""What becomes of the nth message: ``ack``, ``nack``, ``return``, ``silence``, ``cut`` (kept, not acknowledged, and cut
off), or ``close`` (the channel)."""

_NUMBERS = itertools.count(1)


def real_url() -> str | None:
    """A real server, where one is given."""
    return os.environ.get("RETURNABLE_TEST_RABBITMQ")


class StandIn:
    """A server of one connection at a time."""

    def __init__(self, *exchanges: str) -> None:
        self.exchanges = set(exchanges)
        self.kept: list[tuple[str, spec.BasicProperties, bytes]] = []
        """Routing key, properties and body of what it took."""
        self.mandatory: list[bool] = []
        self.fate: Fate = lambda nth: "ack"
        self.confirm_together = False
        """Whether one confirmation is for all up to there."""
        self._received = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut everything off."""
        for end in (self._listening, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        data = b""
        published: list[Any] = []
        tag = 0
        with suppress(OSError):
            while more := client.recv(65536):
                data += more
                if data.startswith(b"AMQP"):
                    data = data[8:]
                    able = {"publisher_confirms": True, "basic.nack": True}
                    self._say(client, 0, spec.Connection.Start(server_properties={"capabilities": able}))
                while data:
                    consumed, one = frame.decode_frame(data)
                    if one is None:
                        break
                    data = data[consumed:]
                    if isinstance(one, frame.Method) and isinstance(one.method, spec.Basic.Publish):
                        published = [one.method]
                    elif isinstance(one, frame.Header):
                        published += [one, b""]
                    elif isinstance(one, frame.Body):
                        published[2] += one.fragment
                    elif isinstance(one, frame.Method):
                        self._answer(client, one)
                    if len(published) == 3 and len(published[2]) == published[1].body_size:
                        tag += 1
                        self._take(client, tag, *published, more=bool(data))
                        published = []

    def _answer(self, client: socket.socket, one: Any) -> None:
        method = one.method
        if isinstance(method, spec.Connection.StartOk):
            self._say(client, 0, spec.Connection.Tune(channel_max=10, frame_max=131072, heartbeat=60))
        elif isinstance(method, spec.Connection.Open):
            self._say(client, 0, spec.Connection.OpenOk())
        elif isinstance(method, spec.Channel.Open):
            self._say(client, one.channel_number, spec.Channel.OpenOk())
        elif isinstance(method, spec.Exchange.Declare):
            if method.passive and method.exchange not in self.exchanges:
                text = f"NOT_FOUND - no exchange '{method.exchange}' in vhost '/'"
                self._say(client, one.channel_number, spec.Channel.Close(404, text, 40, 10))
            else:
                self.exchanges.add(method.exchange)
                self._say(client, one.channel_number, spec.Exchange.DeclareOk())
        elif isinstance(method, spec.Confirm.Select):
            self._say(client, one.channel_number, spec.Confirm.SelectOk())
        elif isinstance(method, spec.Channel.Close):
            self._say(client, one.channel_number, spec.Channel.CloseOk())
        elif isinstance(method, spec.Connection.Close):
            self._say(client, 0, spec.Connection.CloseOk())

    def _take(self, client: socket.socket, tag: int, method: Any, header: Any, body: bytes, *, more: bool) -> None:
        self._received += 1
        fate = self.fate(self._received)
        self.mandatory.append(method.mandatory)
        if fate in ("ack", "cut"):
            self.kept.append((method.routing_key, header.properties, body))
        if fate == "return":
            self._say(client, 1, spec.Basic.Return(312, "NO_ROUTE", method.exchange, method.routing_key))
            client.sendall(frame.Header(1, len(body), header.properties).marshal())
            client.sendall(frame.Body(1, body).marshal())
        if fate == "nack":
            self._say(client, 1, spec.Basic.Nack(tag))
        elif fate == "close":
            self._say(client, 1, spec.Channel.Close(406, "PRECONDITION_FAILED - as told", 60, 40))
        elif fate == "cut":
            client.shutdown(socket.SHUT_RDWR)
        elif fate != "silence" and not (self.confirm_together and more):
            self._say(client, 1, spec.Basic.Ack(tag, multiple=self.confirm_together))

    def _say(self, client: socket.socket, channel: int, method: Any) -> None:
        client.sendall(frame.Method(channel, method).marshal())


class Real:
    """An exchange of one's own on a real server, with a queue that takes all."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.exchange = f"returnable-test-{os.getpid()}-{next(_NUMBERS)}"
        self._connection = BlockingConnection(URLParameters(url))
        self._channel = self._connection.channel()
        self._queue: str | None = None

    def bind(self) -> None:
        """Make the exchange, and a queue behind it."""
        self._channel.exchange_declare(self.exchange, "topic", durable=True)
        self._queue = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.queue_bind(self._queue, self.exchange, "#")

    @property
    def kept(self) -> list[tuple[str, spec.BasicProperties, bytes]]:
        """What is in the queue; it is taken out."""
        found = []
        while True:
            method, properties, body = self._channel.basic_get(self._queue, auto_ack=True)
            if method is None:
                return found
            found.append((method.routing_key, properties, body))

    def close(self) -> None:
        """Take it away."""
        self._channel.exchange_delete(self.exchange)
        self._connection.close()
