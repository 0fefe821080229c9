"""Publishing to Kafka, on the broker that the client library brings for tests.

It speaks the protocol over a socket: produce, idempotence, metadata and fetch. It keeps nothing on a disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from publishing import SOURCE, a_store, event_ids, in_order

from returnable.adapters.eventstore.memory import MemoryCheckpoints
from returnable.adapters.publishing import kafka
from returnable.adapters.publishing.broker import CONTENT_TYPE, BrokerFailed, Message
from returnable.adapters.publishing.open import open_broker
from returnable.adapters.publishing.publisher import Publisher


class Cluster:
    """Three brokers in this process, with the topic ``returns`` of four partitions."""

    def __init__(self) -> None:
        self._host: Producer | None = Producer({"test.mock.num.brokers": 3, "log_level": 0})
        self._host.list_topics("returns", timeout=10)
        brokers = self._host.list_topics(timeout=10).brokers.values()
        self.servers = ",".join(f"{one.host}:{one.port}" for one in brokers)

    def stored(self) -> dict[int, list[tuple[bytes, dict[str, bytes], bytes]]]:
        """Key, headers and body of each message, by partition and in order."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "test", "log_level": 0})
        found: dict[int, list[tuple[bytes, dict[str, bytes], bytes]]] = {}
        try:
            for number in range(4):
                place = TopicPartition("returns", number, 0)
                _, end = consumer.get_watermark_offsets(place, timeout=10)
                consumer.assign([place])
                rows = found[number] = []
                while len(rows) < end:
                    for one in consumer.consume(end - len(rows), timeout=10):
                        assert one.error() is None
                        rows.append((one.key(), dict(one.headers() or []), one.value()))
        finally:
            consumer.close()
        return found

    def stop(self) -> None:
        """All brokers are gone."""
        self._host = None


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    running = Cluster()
    yield running
    running.stop()


def a_message(nth: int = 1, case_id: str = "A-1", body: bytes = b"{}") -> Message:
    return Message(SOURCE, f"order/{case_id}#{nth}", f"order/{case_id}", case_id, "Shipped", body)


def test_what_was_sent_is_in_the_topic_under_its_case_with_its_type(cluster: Cluster) -> None:
    broker = open_broker(f"kafka://{cluster.servers}/returns")

    broker.send([a_message(body=b'{"id": 1}')])

    ((key, headers, body),) = [row for rows in cluster.stored().values() for row in rows]
    assert key == b"A-1"
    assert headers == {"content-type": CONTENT_TYPE.encode(), "returnable-key": a_message().key.encode()}
    assert body == b'{"id": 1}'
    broker.close()


def test_a_case_stays_in_one_partition_and_in_order(cluster: Cluster) -> None:
    store = a_store(*((f"C{n}", 5) for n in range(12)))
    broker = open_broker(f"kafka://{cluster.servers}/returns")

    Publisher(store, MemoryCheckpoints(), broker, source=SOURCE).once()

    partitions = cluster.stored()
    ids = [[json.loads(body)["id"] for _, _, body in rows] for rows in partitions.values()]
    assert sorted(one for rows in ids for one in rows) == sorted(event_ids(store))
    assert all(in_order(rows) for rows in ids)
    assert sum(bool(rows) for rows in ids) > 1
    keys = [{key for key, _, _ in rows} for rows in partitions.values()]
    assert sum(map(len, keys)) == 12, "no case is in two partitions"
    broker.close()


def test_a_topic_that_does_not_exist_is_a_failure_and_is_not_made(cluster: Cluster) -> None:
    broker = open_broker(f"kafka://{cluster.servers}/other")

    for _ in range(2):
        with pytest.raises(BrokerFailed, match="there is no topic 'other'"):
            broker.send([a_message()])

    broker.close()


def test_brokers_that_are_gone_are_a_failure_in_time(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        kafka, "ACKNOWLEDGE_SECONDS", 4.0
    )  # a producer keeps it; its first message has to arrive in time
    broker = open_broker(f"kafka://shop:secret@{cluster.servers}/returns?security.protocol=plaintext")
    broker.send([a_message(1)])
    cluster.stop()
    monkeypatch.setattr(kafka, "CONNECT_SECONDS", 0.5)

    for _ in range(2):
        with pytest.raises(BrokerFailed) as failed:
            broker.send([a_message(2)])
        assert str(failed.value).startswith(f"kafka://{cluster.servers}/returns: ")
        assert "secret" not in str(failed.value)

    broker.close()


def test_a_message_that_is_too_big_is_a_failure_and_the_next_one_goes_through(cluster: Cluster) -> None:
    broker = open_broker(f"kafka://{cluster.servers}/returns?message.max.bytes=2000")

    with pytest.raises(BrokerFailed, match="too large"):
        broker.send([a_message(1, body=b"x" * 3000)])
    broker.send([a_message(2)])

    assert sum(map(len, cluster.stored().values())) == 1
    broker.close()


def test_settings_are_the_urls_but_for_what_makes_it_safe() -> None:
    place = kafka.KafkaPlace(
        "k:9092", "t", "kafka://k:9092/t", {"acks": "0", "enable.idempotence": "false", "linger.ms": "9"}
    )

    settings = kafka.settings_of(place)

    assert (settings["acks"], settings["enable.idempotence"], settings["linger.ms"]) == ("all", True, "9")
