"""Kafka: one topic, by an idempotent producer that waits for all replicas in sync; the key is the id of the case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from returnable.adapters.publishing.broker import (
    ACKNOWLEDGE_SECONDS,
    CONNECT_SECONDS,
    CONTENT_TYPE,
    BrokerFailed,
    BrokerUnusable,
    Message,
)
from returnable.adapters.urls import without_quotes


@dataclass(frozen=True, slots=True)
class KafkaPlace:
    """The topic to publish to. ``settings`` are those of librdkafka and may hold passwords; ``shown`` holds none."""

    servers: str
    topic: str
    shown: str
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)


class KafkaBroker:
    """Publishes to a topic that exists. Raises :class:`BrokerUnusable` for settings that the library does not accept."""

    def __init__(self, place: KafkaPlace) -> None:
        self._place = place
        try:
            # Without servers it checks the settings and does not connect.
            Producer({name: value for name, value in settings_of(place).items() if name != "bootstrap.servers"})
        except KafkaException as error:
            raise BrokerUnusable(f"{place.shown}: {without_quotes(_reason(error))}") from None
        self._producer: Producer | None = None

    def send(self, messages: Sequence[Message]) -> None:
        """Produce and wait until every message is delivered; raises ``BrokerFailed``."""
        failed: list[KafkaError] = []
        delivered = 0

        def delivered_or_failed(error: KafkaError | None, _: Delivered) -> None:
            nonlocal delivered
            if error is not None:
                failed.append(error)
            else:
                delivered += 1

        try:
            producer = self._connected()
            for message in messages:
                producer.produce(
                    self._place.topic,
                    value=message.body,
                    key=message.case_id.encode(),
                    headers=[("content-type", CONTENT_TYPE.encode()), ("returnable-key", message.key.encode())],
                    on_delivery=delivered_or_failed,
                )
            # The library delivers or fails each message within delivery.timeout.ms, so none is under way when flush returns.
            producer.flush(ACKNOWLEDGE_SECONDS + 5)
        except (KafkaException, BufferError) as error:
            self.close()
            raise BrokerFailed(f"{self._place.shown}: {_reason(error)}") from None
        if failed or delivered < len(messages):
            self.close()
            raise BrokerFailed(f"{self._place.shown}: {failed[0].str() if failed else 'no answer in time'}")

    def close(self) -> None:
        """Drop the messages under way and release the connections."""
        if self._producer is not None:
            self._producer.purge()
            self._producer = None

    def _connected(self) -> Producer:
        if self._producer is None:
            producer = Producer({**settings_of(self._place), "error_cb": _ignore})
            topics = producer.list_topics(timeout=CONNECT_SECONDS).topics
            if self._place.topic not in topics:
                raise BrokerFailed(f"{self._place.shown}: there is no topic {self._place.topic!r}")
            self._producer = producer
        return self._producer


def settings_of(place: KafkaPlace) -> dict[str, str | int | bool]:
    """The settings of the library: those of the URL, except where they could make publishing unsafe."""
    return {
        # The partitioner of Java clients, so that a Java service finds the partition of a case.
        "partitioner": "murmur2_random",
        "linger.ms": 1,
        "log_level": 0,  # the calls return the errors
        **place.settings,
        "bootstrap.servers": place.servers,
        "client.id": "returnable-publish",
        "enable.idempotence": True,
        "acks": "all",
        "delivery.timeout.ms": int(ACKNOWLEDGE_SECONDS * 1000),
    }


def _ignore(error: KafkaError) -> None:
    """The library reconnects by itself, and reports each message that was not delivered."""


def _reason(error: KafkaException | BufferError) -> str:
    first = error.args[0] if error.args else None
    return first.str() if isinstance(first, KafkaError) else str(error)
