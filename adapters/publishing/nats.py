"""NATS JetStream: one stream, whose subjects hold kind, id and event: ``returnable.order.A-1.Shipped``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header, PubAck, RetentionPolicy, StorageType, StreamConfig

from returnable.adapters.publishing.broker import (
    ACKNOWLEDGE_SECONDS,
    CONNECT_SECONDS,
    CONTENT_TYPE,
    BrokerFailed,
    Message,
)
from returnable.adapters.publishing.event_loop import LoopBroker

DEDUPLICATION_SECONDS = 3600.0
"""How long a stream that we create remembers the ids of messages."""

_MOST_REMEMBERED = 10_000
_MOST_AGAIN = 100

_log = logging.getLogger("returnable.publisher")


@dataclass(frozen=True, slots=True)
class NatsPlace:
    """The stream to publish to. ``shown`` holds no password."""

    servers: tuple[str, ...]
    stream: str
    prefix: str
    shown: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials: str | None = None
    """A file with the credentials of a user."""


class NatsBroker(LoopBroker):
    """Publishes to a JetStream stream. The server acknowledges each message, and drops a duplicate by its id.

    The server also drops, and acknowledges as a duplicate, a message that the stream no longer holds: a purge, a deletion
    or a limit removes messages, but the stream still remembers their ids. Such a message is published again, under an id
    made of the first id and the number of the lost message.
    """

    def __init__(self, place: NatsPlace, *, create: bool) -> None:
        self._place = place
        self._create = create
        self._client: Client | None = None
        self._last: dict[str, tuple[int, int]] = {}
        """Stream → the last event sent: its number within the stream, and the number that JetStream gave to it."""

    def send(self, messages: Sequence[Message]) -> None:
        """Publish and wait for every acknowledgement of the stream; raises ``BrokerFailed``."""
        try:
            self._run(self._send(messages), CONNECT_SECONDS + ACKNOWLEDGE_SECONDS)
        except (nats.errors.Error, OSError, TimeoutError, EOFError, asyncio.CancelledError) as error:
            self._drop()
            raise BrokerFailed(f"{self._place.shown}: {self._reason(error)}") from None
        except BrokerFailed:
            self._drop()
            raise

    async def _send(self, messages: Sequence[Message]) -> None:
        stream = await self._connected()
        ids = {message.id: message.key for message in messages}
        sending = list(messages)
        for _ in range(_MOST_AGAIN):
            answers = await self._publish(stream, sending, ids)
            lacking = await self._lacking(stream, answers)
            for message, answer in answers:
                if message not in lacking:
                    self._last[message.stream] = (_nth(message), answer.seq)
                else:
                    ids[message.id] = f"{ids[message.id]}-{answer.seq}"
            sending = lacking
            if not sending:
                break
            _log.warning(
                "%s: %d events that the server calls duplicates are missing from the stream %r, or out of order there, as"
                " after a purge; they are published again",
                *(self._place.shown, len(sending), self._place.stream),
            )
        else:
            raise BrokerFailed(
                f"{self._place.shown}: the stream {self._place.stream!r} loses messages that it acknowledges: it was"
                " purged, or is too small for the messages of one batch"
            )
        if len(self._last) > _MOST_REMEMBERED:
            self._last.clear()

    async def _publish(
        self, stream: JetStreamContext, messages: Sequence[Message], ids: Mapping[str, str]
    ) -> list[tuple[Message, PubAck]]:
        sending = (self._publish_one(stream, message, ids[message.id]) for message in messages)
        # Wait for all of them before raising a failure: a message under way could arrive behind those that follow.
        answers = await asyncio.gather(*sending, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [(message, answer) for message, answer in zip(messages, answers, strict=True)]  # type: ignore[misc]

    async def _publish_one(self, stream: JetStreamContext, message: Message, message_id: str) -> PubAck:
        headers = {Header.MSG_ID.value: message_id, "Content-Type": CONTENT_TYPE}
        subject = subject_of(message, self._place.prefix)
        # It raises unless this very stream acknowledges the message.
        return await stream.publish(
            subject, message.body, timeout=ACKNOWLEDGE_SECONDS, stream=self._place.stream, headers=headers
        )

    async def _lacking(self, stream: JetStreamContext, answers: Sequence[tuple[Message, PubAck]]) -> list[Message]:
        """The messages that were dropped as duplicates although the stream does not hold them after their predecessors."""
        dropped = [(message, answer.seq) for message, answer in answers if answer.duplicate]
        if not dropped:
            return []
        state = (await stream.stream_info(self._place.stream)).state
        lacking = []
        for message, number in dropped:
            held = state.first_seq <= number <= state.last_seq
            if held and state.num_deleted:
                held = await self._holds(stream, number)
            nth, behind = self._last.get(message.stream, (0, 0))
            # If its predecessor was published again, this one must follow it, and be published again, too.
            if not held or (nth < _nth(message) and number < behind):
                lacking.append(message)
        return lacking

    async def _holds(self, stream: JetStreamContext, number: int) -> bool:
        try:
            await stream.get_msg(self._place.stream, number)
        except nats.js.errors.NotFoundError:
            return False
        return True

    async def _connected(self) -> JetStreamContext:
        if self._client is None or not self._client.is_connected:
            self._client = await self._connect()
            await self._ensure_stream(self._client.jetstream(timeout=CONNECT_SECONDS))
        return self._client.jetstream(timeout=ACKNOWLEDGE_SECONDS)

    async def _connect(self) -> Client:
        client = Client()
        errors: list[Exception] = []

        async def note(error: Exception) -> None:
            errors.append(error)

        try:
            await client.connect(
                list(self._place.servers),
                name="returnable publish",
                # A lost connection must fail here: the publisher then sends again, in order.
                allow_reconnect=False,
                # Retries of each server while connecting; the default is sixty.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=max(1, int(CONNECT_SECONDS / 2 / len(self._place.servers))),
                error_cb=note,
                user=self._place.user,
                password=self._place.password,
                token=self._place.token,
                user_credentials=self._place.credentials,
            )
        except BaseException as error:
            with suppress(Exception):
                await client.close()
            # The last server's error says more than the one that no server is left.
            raise errors[-1] if isinstance(error, nats.errors.NoServersError) and errors else error from None
        return client

    async def _ensure_stream(self, stream: JetStreamContext) -> None:
        name = self._place.stream
        try:
            found = await stream.stream_info(name)
        except nats.js.errors.NotFoundError:
            if not self._create:
                raise BrokerFailed(
                    f"{self._place.shown}: there is no stream {name!r}; create it, or use --create"
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
        else:
            if found.config.retention == RetentionPolicy.INTEREST and not found.state.consumer_count:
                raise BrokerFailed(
                    f"{self._place.shown}: the stream {name!r} keeps messages only for its consumers, and has none: it"
                    " would acknowledge every event and drop it"
                )

    def _reason(self, error: BaseException) -> str:
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


def _nth(message: Message) -> int:
    """The number of an event within its stream: 3 for ``order/A-1#3``."""
    nth = message.id.rpartition("#")[2].partition("/")[0]
    return int(nth) if nth.isdecimal() else 0


def subject_of(message: Message, prefix: str) -> str:
    """The subject of a message. An id may hold any printable character, so most of them are percent-encoded.

    >>> subject_of(Message("/a", "order/A.1 *#1", "order/A.1 *", "A.1 *", "Shipped", b""), "returnable")
    'returnable.order.A%2E1%20%2A.Shipped'
    """
    kind, _, name = message.stream.partition("/")
    return f"{prefix}.{kind}.{quote(name, safe='').replace('.', '%2E')}.{message.event}"
