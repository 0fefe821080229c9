"""RabbitMQ: persistent messages to a durable topic exchange. The broker must confirm each, and route it to a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pika import BasicProperties, URLParameters
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.exceptions import AMQPError

from returnable.adapters.publishing.broker import (
    ACKNOWLEDGE_SECONDS,
    CONNECT_SECONDS,
    CONTENT_TYPE,
    BrokerFailed,
    BrokerUnusable,
    Message,
)
from returnable.adapters.publishing.event_loop import LoopBroker
from returnable.adapters.urls import without_quotes

PERSISTENT = 2


@dataclass(frozen=True, slots=True)
class RabbitPlace:
    """The exchange to publish to. ``url`` may hold a password; ``shown`` holds none."""

    url: str = field(repr=False)
    exchange: str
    shown: str


class RabbitBroker(LoopBroker):
    """Publishes to an exchange. A message that the broker cannot route to a queue counts as not acknowledged.

    Raises :class:`BrokerUnusable` for parameters that the library does not accept.
    """

    def __init__(self, place: RabbitPlace, *, create: bool) -> None:
        self._place = place
        try:
            self._parameters = URLParameters(place.url)
        except (ValueError, TypeError, LookupError, SyntaxError, OSError) as error:
            raise BrokerUnusable(f"{place.shown}: {without_quotes(str(error))}") from None
        self._parameters.socket_timeout = CONNECT_SECONDS
        self._create = create
        self._line: _Line | None = None

    def send(self, messages: Sequence[Message]) -> None:
        """Publish and wait for every confirmation; raises ``BrokerFailed``."""
        try:
            if self._line is None or self._line.lost is not None:
                self._drop()
                self._line = _Line(self._place.exchange)
                self._run(self._line.open(self._parameters, self._create), CONNECT_SECONDS)
            self._run(self._line.publish(messages), ACKNOWLEDGE_SECONDS)
        except (_Refused, AMQPError, OSError, TimeoutError) as error:
            self._drop()
            reason = "no answer in time" if isinstance(error, TimeoutError) else _reason(error)
            if reason.startswith("NOT_FOUND - no exchange"):
                reason = f"{reason}; create it, or use --create"
            raise BrokerFailed(f"{self._place.shown}: {reason}") from None

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None and self._loop is not None:
            try:
                self._loop.run(line.close(), CONNECT_SECONDS)
            except (AMQPError, OSError, TimeoutError):
                return


class _Refused(Exception):
    """The broker refused a message or the connection."""


class _Line:
    """One connection with one channel in confirm mode. After the first failure it cannot be used again."""

    def __init__(self, exchange: str) -> None:
        self.lost: BaseException | None = None
        self._exchange = exchange
        self._connection: AsyncioConnection | None = None
        self._channel: Channel | None = None
        self._answer: asyncio.Future[Any] | None = None
        self._sent = 0
        self._unconfirmed: set[int] = set()
        self._returned: str | None = None
        self._refused = 0
        self._closed = asyncio.Event()

    async def open(self, parameters: URLParameters, create: bool) -> None:
        """Connect, check or create the exchange, and turn confirmations on."""

        def connect(opened: Callable[[Any], None]) -> None:
            self._connection = AsyncioConnection(
                parameters,
                on_open_callback=opened,
                on_open_error_callback=lambda _, error: self._lose(error),
                on_close_callback=self._connection_closed,
                custom_ioloop=asyncio.get_running_loop(),
            )

        connection: AsyncioConnection = await self._answered(connect)
        channel: Channel = await self._answered(lambda opened: connection.channel(on_open_callback=opened))
        self._channel = channel
        channel.add_on_close_callback(lambda _, error: self._lose(error))
        channel.add_on_return_callback(self._note_returned)
        await self._answered(
            lambda declared: channel.exchange_declare(
                self._exchange, "topic", passive=not create, durable=True, callback=declared
            )
        )
        await self._answered(lambda selected: channel.confirm_delivery(self._confirmed, callback=selected))

    async def publish(self, messages: Sequence[Message]) -> None:
        """Send all messages to the broker, and wait until it has confirmed each."""
        channel = self._channel
        if channel is None or self.lost is not None:
            raise _Refused(f"the connection was lost: {self.lost}")

        def send(_: Callable[[Any], None]) -> None:
            for message in messages:
                self._sent += 1
                self._unconfirmed.add(self._sent)
                channel.basic_publish(
                    self._exchange, routing_key(message), message.body, properties_of(message), mandatory=True
                )

        await self._answered(send)

    async def close(self) -> None:
        """Close the connection and wait until it is closed."""
        connection = self._connection
        if connection is not None and connection.is_open:
            connection.close()
            await self._closed.wait()

    async def _answered(self, ask: Callable[[Callable[[Any], None]], object]) -> Any:
        """Return the broker's answer; raise its refusal, or the reason of a lost connection."""
        answer = self._answer = asyncio.get_running_loop().create_future()

        def take(value: Any) -> None:
            if not answer.done():
                answer.set_result(value)

        ask(take)
        return await answer

    def _note_returned(self, _: Channel, method: Any, properties: BasicProperties, body: bytes) -> None:
        self._returned = f"no queue takes {method.routing_key!r}: bind one to the exchange {self._exchange!r}"

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        tag: int = method.delivery_tag
        settled = {one for one in self._unconfirmed if one <= tag} if method.multiple else {tag}
        self._unconfirmed -= settled
        if method.NAME != "Basic.Ack":
            self._refused += len(settled)
        if self._unconfirmed or self._answer is None or self._answer.done():
            return
        if self._returned is not None:
            self._answer.set_exception(_Refused(self._returned))
        elif self._refused:
            self._answer.set_exception(_Refused(f"the broker refused {self._refused} messages"))
        else:
            self._answer.set_result(None)

    def _connection_closed(self, _: Any, error: BaseException) -> None:
        self._lose(error)
        self._closed.set()

    def _lose(self, error: BaseException) -> None:
        self.lost = self.lost or error
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_Refused(_reason(error)))


def _reason(error: BaseException) -> str:
    """The reason in an error: the broker's text, or the library's, whose errors often hold it only in their ``repr``."""
    return str(getattr(error, "reply_text", None) or str(error) or repr(error))


def routing_key(message: Message) -> str:
    """The routing key for the bindings of consumers: the kind of the stream and the event, such as ``order.Shipped``.

    >>> routing_key(Message("/a", "return/R-1#1", "return/R-1", "A-1", "ReturnRequested", b""))
    'return.ReturnRequested'
    """
    return f"{message.stream.partition('/')[0]}.{message.event}"


def properties_of(message: Message) -> BasicProperties:
    """Persistent; consumers detect duplicates by the message id, and hashing exchanges use the header ``partitionkey``."""
    return BasicProperties(
        content_type=CONTENT_TYPE,
        delivery_mode=PERSISTENT,
        message_id=message.key,
        type=message.event,
        app_id="returnable",
        headers={"partitionkey": message.case_id},
    )
