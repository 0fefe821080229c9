"""The interface of a broker: it takes messages and returns when they are durable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from returnable.domain.errors import ReturnableError

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
"""The content type of a message: a CloudEvent in the JSON format, attributes and data in one (structured mode)."""

CONNECT_SECONDS = 5.0
"""How long connecting to a broker may take."""

ACKNOWLEDGE_SECONDS = 10.0
"""How long a broker may take to acknowledge a wave."""


class BrokerUnusable(ReturnableError):
    """A URL does not name a broker that can be used here: it cannot be understood, or the library for it is missing."""


class BrokerFailed(ReturnableError):
    """A broker did not acknowledge every message; some may have arrived. The text never holds a password."""


@dataclass(frozen=True, slots=True)
class Message:
    """One event as sent. An event gives the same message, byte for byte, however often it is published."""

    source: str
    id: str
    """Unique within ``source``: ``order/A-1#3``."""
    stream: str
    """The stream whose order is kept: ``order/A-1``."""
    case_id: str
    """The id of the order's case."""
    event: str
    """The name of the event without its version: ``Shipped``."""
    body: bytes
    """The CloudEvent, UTF-8."""

    @property
    def key(self) -> str:
        """The key by which a broker or a consumer detects duplicates: a hash of source and id, 64 hexadecimal digits.

        >>> Message("/a", "order/A-1#3", "order/A-1", "A-1", "Shipped", b"{}").key[:12]
        '90aa5590d2d8'
        """
        return hashlib.sha256(f"{self.source}\n{self.id}".encode()).hexdigest()


class Broker(Protocol):
    """The destination of messages. One thread at a time uses it.

    It connects at the first send, and again after a failure. A host may write its own.
    """

    def send(self, messages: Sequence[Message]) -> None:
        """Send the messages, in any order, and return once every one is acknowledged as durable.

        Raises :class:`BrokerFailed` within a bounded time if one is not; then any of them may have arrived, or may yet
        arrive.
        """
        ...

    def close(self) -> None:
        """Release the connection."""
        ...
