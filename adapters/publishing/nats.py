"""NATS JetStream: one stream, whose subjects tell kind, id and fact: ``returnable.order.A-1.Shipped``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header, StorageType, StreamConfig

from returnable.adapters.publishing.broker import (
    ACKNOWLEDGE_SECONDS,
    CONNECT_SECONDS,
    CONTENT_TYPE,
    BrokerFailed,
    Message,
)
from returnable.adapters.publishing.event_loop import EventLoop

DEDUPLICATION_SECONDS = 3600.0
"""How long a stream that we create remembers the ids it has seen."""


@dataclass(frozen=True, slots=True)
class NatsPlace:
    """Where to publish. ``shown`` is what may be told."""

    servers: tuple[str, ...]
    stream: str
    prefix: str
    shown: str
    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials: str | None = None
    """A file with the credentials of a user."""


class NatsBroker:
    """Publishes to a JetStream stream; the server's acknowledgement counts, and drops what it has seen before by its id."""

    def __init__(self, place: NatsPlace, *, create: bool) -> None:
        self._place = place
        self._create = create
        self._loop: EventLoop | None = None
        self._client: Client | None = None

    def send(self, messages: Sequence[Message]) -> None:
        """Publish and wait for every acknowledgement of the stream; raises ``BrokerFailed``."""
        self._loop = self._loop or EventLoop()
        try:
            self._loop.run(self._send(messages), CONNECT_SECONDS + ACKNOWLEDGE_SECONDS)
        except (nats.errors.Error, OSError, TimeoutError, EOFError, asyncio.CancelledError) as error:
            self._drop()
            raise BrokerFailed(f"{self._place.shown}: {self._said(error)}") from None
        except BrokerFailed:
            self._drop()
            raise

    def close(self) -> None:
        """Close the connection and end its thread."""
        self._drop()
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    async def _send(self, messages: Sequence[Message]) -> None:
        stream = await self._connected()
        sending = (self._publish(stream, message) for message in messages)
        # All of them come to an end before one's failure is told: what is still on its way would come behind what follows.
        for came in await asyncio.gather(*sending, return_exceptions=True):
            if came is not None:
                raise came

    async def _publish(self, stream: JetStreamContext, message: Message) -> None:
        headers = {Header.MSG_ID.value: message.key, "Content-Type": CONTENT_TYPE}
        subject = subject_of(message, self._place.prefix)
        # Without an acknowledgement of this very stream it raises.
        await stream.publish(
            subject, message.body, timeout=ACKNOWLEDGE_SECONDS, stream=self._place.stream, headers=headers
        )

    async def _connected(self) -> JetStreamContext:
        if self._client is None or not self._client.is_connected:
            self._client = await self._connect()
            await self._see_to_stream(self._client.jetstream(timeout=CONNECT_SECONDS))
        return self._client.jetstream(timeout=ACKNOWLEDGE_SECONDS)

    async def _connect(self) -> Client:
        client = Client()
        heard: list[Exception] = []

        async def hear(error: Exception) -> None:
            heard.append(error)

        try:
            await client.connect(
                list(self._place.servers),
                name="returnable publish",
                # A lost connection is a failure to be seen; the publisher tries again, and in order.
                allow_reconnect=False,
                # How often each server is asked again at the beginning; without it, sixty times.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=max(1, int(CONNECT_SECONDS / 2 / len(self._place.servers))),
                error_cb=hear,
                user=self._place.user,
                password=self._place.password,
                token=self._place.token,
                user_credentials=self._place.credentials,
            )
        except BaseException as error:
            with suppress(Exception):
                await client.close()
            # That no server is left says less than why the last one was not.
            raise heard[-1] if isinstance(error, nats.errors.NoServersError) and heard else error from None
        return client

    async def _see_to_stream(self, stream: JetStreamContext) -> None:
        name = self._place.stream
        try:
            await stream.stream_info(name)
        except nats.js.errors.NotFoundError:
            if not self._create:
                raise BrokerFailed(
                    f"{self._place.shown}: there is no stream {name!r}; create it, or ask for it with --create"
                ) from None
            await stream.add_stream(
                StreamConfig(
                    name=name,
                    subjects=[f"{self._place.prefix}.>"],
                    storage=StorageType.FILE,
                    discard=DiscardPolicy.NEW,
                    duplicate_window=DEDUPLICATION_SECONDS,
                )
            )
        except (nats.errors.NoRespondersError, nats.js.errors.ServiceUnavailableError):
            raise BrokerFailed(f"{self._place.shown}: JetStream is not enabled on this server") from None

    def _said(self, error: BaseException) -> str:
        if isinstance(error, nats.js.errors.NoStreamResponseError):
            return f"no stream takes the subjects {self._place.prefix}.>: {self._place.stream!r} must have them"
        if isinstance(error, nats.errors.TimeoutError | TimeoutError):
            return "no answer in time"
        return str(error) or type(error).__name__

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._loop is not None:
            with suppress(Exception):
                self._loop.run(client.close(), CONNECT_SECONDS)


def subject_of(message: Message, prefix: str) -> str:
    """The subject of a message; an id may hold any printable character, so that all but a few are percent-encoded.

    >>> subject_of(Message("/a", "order/A.1 *#1", "order/A.1 *", "A.1 *", "Shipped", b""), "returnable")
    'returnable.order.A%2E1%20%2A.Shipped'
    """
    kind, _, name = message.stream.partition("/")
    return f"{prefix}.{kind}.{quote(name, safe='').replace('.', '%2E')}.{message.fact}"
