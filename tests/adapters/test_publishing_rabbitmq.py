"""Publishing to RabbitMQ: on a stand-in that speaks the protocol, and on a real server where one is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from amqp import Real, StandIn, real_url
from publishing import SOURCE, a_store, event_ids, first_times, in_order

from returnable.adapters.eventstore.memory import MemoryCheckpoints
from returnable.adapters.publishing import rabbitmq
from returnable.adapters.publishing.broker import CONTENT_TYPE, Broker, BrokerFailed, Message
from returnable.adapters.publishing.open import open_broker
from returnable.adapters.publishing.publisher import Publisher

SERVERS = ["stand-in", *(["real"] if real_url() else [])]


@dataclass
class Place:
    server: StandIn | Real
    exchange: str

    @property
    def url(self) -> str:
        return f"{self.server.url}?exchange={self.exchange}"


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An exchange with a queue behind it."""
    if request.param == "real":
        real = Real(real_url() or "")
        real.bind()
        yield Place(real, real.exchange)
        real.close()
    else:
        stand_in = StandIn("shop")
        yield Place(stand_in, "shop")
        stand_in.close()


@pytest.fixture(params=SERVERS)
def bare(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An exchange that does not exist."""
    server = Real(real_url() or "") if request.param == "real" else StandIn()
    yield Place(server, server.exchange if isinstance(server, Real) else "shop")
    server.close()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn("returnable")
    yield server
    server.close()


@pytest.fixture
def broker(stand_in: StandIn) -> Iterator[Broker]:
    opened = open_broker(stand_in.url)
    yield opened
    opened.close()


def a_message(nth: int = 1, stream: str = "order/A-1", body: bytes = b"{}") -> Message:
    return Message(SOURCE, f"{stream}#{nth}", stream, "A-1", "Shipped", body)


def test_what_was_sent_is_in_the_queue_persistent_with_its_type_and_its_key(place: Place) -> None:
    broker = open_broker(place.url)

    broker.send([a_message(body=b'{"id": 1}')])

    ((routing_key, properties, body),) = place.server.kept
    assert routing_key == "order.Shipped"
    assert (properties.content_type, properties.delivery_mode) == (CONTENT_TYPE, 2)
    assert properties.message_id == a_message().key
    assert properties.headers == {"partitionkey": "A-1"}
    assert body == b'{"id": 1}'
    broker.close()


def test_a_thousand_messages_go_in_one_send_and_then_another(place: Place) -> None:
    broker = open_broker(place.url)

    broker.send([a_message(n) for n in range(1000)])
    broker.send([a_message(1000)])

    assert len(place.server.kept) == 1001
    broker.close()


def test_a_long_message_arrives_whole(place: Place) -> None:
    broker = open_broker(place.url)

    broker.send([a_message(body=b"x" * 1_000_000)])

    ((_, _, body),) = place.server.kept
    assert len(body) == 1_000_000
    broker.close()


def test_an_exchange_that_does_not_exist_is_made_only_when_asked_for(bare: Place) -> None:
    broker = open_broker(bare.url)
    with pytest.raises(BrokerFailed, match=f"NOT_FOUND - no exchange '{bare.exchange}'.*--create"):
        broker.send([a_message()])
    broker.close()

    creating = open_broker(bare.url, create=True)
    with suppress(BrokerFailed):  # on a real server no queue takes it
        creating.send([a_message()])
    creating.close()

    if isinstance(bare.server, StandIn):
        broker.send([a_message()])
    else:
        with pytest.raises(BrokerFailed, match=r"no queue takes 'order\.Shipped'"):
            broker.send([a_message()])
    broker.close()


def test_a_store_is_published_in_order(place: Place) -> None:
    store, broker = a_store(("A", 5), ("B", 5), ("C", 1)), open_broker(place.url)

    Publisher(store, MemoryCheckpoints(), broker, source=SOURCE).once()

    ids = [json.loads(body)["id"] for _, _, body in place.server.kept]
    assert sorted(ids) == sorted(event_ids(store))
    assert in_order(ids)
    broker.close()


# ---- what a real server does not do when it is asked to ---------------------------------------------------------------


def test_every_message_is_mandatory(stand_in: StandIn, broker: Broker) -> None:
    broker.send([a_message(1), a_message(2)])

    assert stand_in.mandatory == [True, True]


def test_a_message_that_no_queue_takes_is_not_acknowledged(stand_in: StandIn, broker: Broker) -> None:
    stand_in.fate = lambda nth: "return" if nth == 2 else "ack"

    with pytest.raises(BrokerFailed, match="no queue takes 'order.Shipped': bind one to the exchange 'returnable'"):
        broker.send([a_message(1), a_message(2), a_message(3)])

    broker.send([a_message(2)])


@pytest.mark.parametrize(
    ("fate", "said"), [("nack", "refused 1 messages"), ("close", "PRECONDITION_FAILED"), ("cut", "amqp://127.0.0.1")]
)
def test_a_message_that_is_not_confirmed_is_a_failure_and_the_next_send_connects_anew(
    stand_in: StandIn, broker: Broker, fate: str, said: str
) -> None:
    stand_in.fate = lambda nth: fate if nth == 2 else "ack"

    with pytest.raises(BrokerFailed, match=said):
        broker.send([a_message(1), a_message(2)])
    broker.send([a_message(3)])

    assert stand_in.kept[-1][1].message_id == a_message(3).key


def test_a_broker_that_is_silent_is_a_failure_in_time(
    stand_in: StandIn, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq, "ACKNOWLEDGE_SECONDS", 0.2)
    stand_in.fate = lambda nth: "silence" if nth == 1 else "ack"

    with pytest.raises(BrokerFailed, match="no answer in time"):
        broker.send([a_message()])


def test_one_confirmation_may_be_for_many(stand_in: StandIn, broker: Broker) -> None:
    stand_in.confirm_together = True

    broker.send([a_message(n) for n in range(50)])

    assert len(stand_in.kept) == 50


def test_a_broker_that_is_not_there_is_a_failure_without_its_password() -> None:
    server = StandIn()
    server.close()
    broker = open_broker(f"amqp://shop:secret@127.0.0.1:{server.port}/")

    with pytest.raises(BrokerFailed) as failed:
        broker.send([a_message()])

    assert str(failed.value).startswith(f"amqp://127.0.0.1:{server.port}: ")
    assert "Connection refused" in str(failed.value)
    assert "secret" not in str(failed.value)
    broker.close()


def test_acknowledgements_that_are_lost_lose_nothing_and_keep_the_order(stand_in: StandIn, broker: Broker) -> None:
    store, checkpoints = a_store(("A", 9), ("B", 9)), MemoryCheckpoints()
    stand_in.fate = lambda nth: "cut" if nth % 4 == 0 else "ack"

    publisher = Publisher(store, checkpoints, broker, source=SOURCE, positions_in_batch=6)

    while checkpoints.checkpoint("publish/default") < store.head():
        with suppress(BrokerFailed):
            publisher.once()

    ids = [json.loads(body)["id"] for _, _, body in stand_in.kept]
    assert len(ids) > len(event_ids(store)), "some came twice"
    assert sorted(first_times(ids)) == sorted(event_ids(store))
    assert in_order(ids)
    assert len({(properties.message_id, body) for _, properties, body in stand_in.kept}) == len(set(ids))
