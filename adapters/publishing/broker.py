"""What publishing needs of a broker: take some messages, and say when they are safe."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from returnable.domain.errors import ReturnableError

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
"""What a message is: a CloudEvent in the JSON format, attributes and data in one (structured mode)."""

CONNECT_SECONDS = 5.0
"""How long a broker may take to be connected to."""

ACKNOWLEDGE_SECONDS = 10.0
"""How long a broker may take to acknowledge a wave."""


class BrokerUnusable(ReturnableError):
    """A URL names no broker that can be used here: it is not understood, or the library for it is missing."""


class BrokerFailed(ReturnableError):
    """A broker did not acknowledge everything it was given; some of it may have arrived. Never holds a password."""


@dataclass(frozen=True, slots=True)
class Message:
    """One event on its way. The same fact makes the same message, byte for byte, however often it is published."""

    source: str
    id: str
    """Unique within ``source``: ``order/A-1#3``."""
    stream: str
    """What keeps its order: ``order/A-1``."""
    case_id: str
    """The order it belongs to."""
    event: str
    """The name of the fact without its version: ``Shipped``."""
    body: bytes
    """The CloudEvent, UTF-8."""

    @property
    def key(self) -> str:
        """What a broker or a consumer tells duplicates by: a hash of source and id, 64 hexadecimal digits.

        >>> Message("/a", "order/A-1#3", "order/A-1", "A-1", "Shipped", b"{}").key[:12]
        '90aa5590d2d8'
        """
        return hashlib.sha256(f"{self.source}\n{self.id}".encode()).hexdigest()


class Broker(Protocol):
    """Where messages go. One thread at a time uses it.

    It connects when it is first needed and again after a failure. A host may bring its own.
    """

    def send(self, messages: Sequence[Message]) -> None:
        """Returns once every message is acknowledged as durable; their order among each other is left to it.

        Raises :class:`BrokerFailed` when one is not, within a bounded time; then any of them may have arrived, or may
        yet arrive.
        """
        ...

    def close(self) -> None:
        """Release the connection."""
        ...
