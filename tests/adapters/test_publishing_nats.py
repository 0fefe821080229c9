"""Publishing to NATS JetStream, on a real server."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator

import jetstream
import pytest
from jetstream import OwnNats, fresh_place, managed, stored
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StreamConfig
from publishing import SOURCE, a_store, append, event_ids, in_order

from returnable.adapters.eventstore.memory import MemoryCheckpoints
from returnable.adapters.publishing.broker import CONTENT_TYPE, Broker, BrokerFailed, Message
from returnable.adapters.publishing.open import open_broker
from returnable.adapters.publishing.publisher import Publisher


@pytest.fixture
def place() -> str:
    return fresh_place()


@pytest.fixture
def broker(place: str) -> Iterator[Broker]:
    opened = open_broker(place, create=True)
    yield opened
    opened.close()


@pytest.fixture
def server() -> Iterator[OwnNats]:
    """A server that may be killed."""
    own = OwnNats()
    yield own
    own.stop()


def a_message(nth: int = 1, stream: str = "order/A-1", body: bytes = b"{}") -> Message:
    return Message(SOURCE, f"{stream}#{nth}", stream, "A-1", "Shipped", body)


def test_what_was_sent_is_in_the_stream_with_its_subject_its_key_and_its_type(place: str, broker: Broker) -> None:
    prefix = place.partition("subject=")[2]

    broker.send([a_message(body=b'{"id": 1}')])

    ((subject, headers, body),) = stored(place)
    assert subject == f"{prefix}.order.A-1.Shipped"
    assert headers["Nats-Msg-Id"] == a_message().key
    assert headers["Content-Type"] == CONTENT_TYPE
    assert body == b'{"id": 1}'


def test_what_is_sent_twice_is_there_once(place: str, broker: Broker) -> None:
    broker.send([a_message(1), a_message(2, "order/B")])
    broker.send([a_message(1), a_message(2, "order/B")])

    assert len(stored(place)) == 2


def published_ids(place: str) -> list[str]:
    return [json.loads(body)["id"] for _, _, body in stored(place)]


async def _purge(client: JetStreamContext, name: str) -> None:
    await client.purge_stream(name)


async def _purge_all_but_the_last(client: JetStreamContext, name: str) -> None:
    await client.purge_stream(name, keep=1)


async def _delete_one(client: JetStreamContext, name: str) -> None:
    await client.delete_msg(name, 2)


async def _make_again(client: JetStreamContext, name: str) -> None:
    info = await client.stream_info(name)
    await client.delete_stream(name)
    await client.add_stream(info.config)


async def _keep_three(client: JetStreamContext, name: str) -> None:
    info = await client.stream_info(name)
    config = info.config.evolve(max_msgs=3, discard=DiscardPolicy.OLD)
    await client.update_stream(config)
    await client.update_stream(config.evolve(max_msgs=-1))


@pytest.mark.parametrize("lose", [_purge, _purge_all_but_the_last, _delete_one, _make_again, _keep_three])
def test_what_the_stream_lost_is_published_again_although_the_server_remembers_it(
    place: str, broker: Broker, lose: Callable[[JetStreamContext, str], Awaitable[None]]
) -> None:
    # given: a published store whose events the stream lost, and whose ids it still knows
    store = a_store(("A", 4), ("B", 2), ("C", 1))
    Publisher(store, MemoryCheckpoints(), broker).once()
    managed(place, lose)

    for _ in range(2):
        # when: everything is published again, twice
        publisher = Publisher(store, MemoryCheckpoints(), broker, name="again")
        publisher.once()

        # then: each event is there, and behind those before it
        assert publisher.status().behind == 0
        ids = published_ids(place)
        assert set(ids) == set(event_ids(store))
        assert in_order(list(dict.fromkeys(reversed(ids)))[::-1])
    broker.close()
    again = open_broker(place)
    Publisher(store, MemoryCheckpoints(), again).once()
    assert published_ids(place) == ids
    again.close()


def test_a_stream_that_keeps_nothing_for_want_of_consumers_is_a_failure(place: str, broker: Broker) -> None:
    async def drop_what_nobody_wants(client: JetStreamContext, name: str) -> None:
        prefix = place.partition("subject=")[2]
        await client.add_stream(StreamConfig(name=name, subjects=[f"{prefix}.>"], retention=RetentionPolicy.INTEREST))

    async def want(client: JetStreamContext, name: str) -> None:
        await client.add_consumer(name, durable_name="one", ack_policy="explicit")

    managed(place, drop_what_nobody_wants)

    with pytest.raises(BrokerFailed, match="keeps messages only for its consumers, and has none"):
        broker.send([a_message()])

    managed(place, want)
    broker.send([a_message()])
    assert len(stored(place)) == 1


@pytest.mark.parametrize(
    "name", ["a.b", "*", ">", "a b", "ü/€", "%2E", ".", "a\u00a0b", "$JS.API", "x" * 128, "🛍" * 128]
)
def test_any_id_makes_a_subject_of_four_tokens(place: str, broker: Broker, name: str) -> None:
    broker.send([a_message(stream=f"return/{name}")])

    ((subject, _, _),) = stored(place)
    assert len(subject.split(".")) == 4


def test_a_thousand_messages_go_in_one_send(place: str, broker: Broker) -> None:
    broker.send([a_message(1, f"order/{n}") for n in range(1000)])

    assert len(stored(place)) == 1000


def test_a_stream_that_does_not_exist_is_made_only_when_asked_for(place: str) -> None:
    broker = open_broker(place)

    with pytest.raises(BrokerFailed, match=r"there is no stream 'TEST_\w+'; create it, or use --create"):
        broker.send([a_message()])

    broker.close()


def test_a_stream_without_our_subjects_is_an_error_and_not_a_loss(place: str, broker: Broker) -> None:
    broker.send([a_message()])
    elsewhere = open_broker(place.replace("subject=", "subject=other_"))

    with pytest.raises(BrokerFailed, match=r"no stream takes the subjects other_test_\w+\.>"):
        elsewhere.send([a_message()])

    elsewhere.close()


def test_subjects_of_another_stream_are_an_error_and_not_a_loss(place: str, broker: Broker) -> None:
    broker.send([a_message()])
    other = fresh_place()
    theirs = open_broker(other, create=True)
    theirs.send([a_message()])
    crossed = open_broker(f"{place.partition('&')[0]}&subject={other.partition('subject=')[2]}")

    with pytest.raises(BrokerFailed, match="expected stream does not match"):
        crossed.send([a_message(2)])

    assert len(stored(place)) == len(stored(other)) == 1
    theirs.close()
    crossed.close()


def test_a_server_without_jetstream_acknowledges_nothing(server: OwnNats) -> None:
    server.kill()
    server.start(jetstream=False)
    broker = open_broker(fresh_place(server.url), create=True)

    with pytest.raises(BrokerFailed, match="JetStream is not enabled"):
        broker.send([a_message()])

    broker.close()


def test_a_server_that_is_away_is_a_failure_and_is_found_again(server: OwnNats) -> None:
    place = fresh_place(server.url)
    broker = open_broker(place, create=True)
    broker.send([a_message(1)])
    server.kill()

    with pytest.raises(BrokerFailed, match=f"nats://127.0.0.1:{server.port}: "):
        broker.send([a_message(2)])
    with pytest.raises(BrokerFailed, match="Connect call failed"):
        broker.send([a_message(2)])
    server.start()
    broker.send([a_message(2)])

    assert len(stored(place)) == 2
    broker.close()


def test_of_several_servers_one_that_runs_is_found(server: OwnNats) -> None:
    place = fresh_place(f"nats://127.0.0.1:{jetstream.free_port()},127.0.0.1:{server.port}")
    broker = open_broker(place, create=True)

    broker.send([a_message()])

    assert len(stored(place.replace(place.partition(",")[0], "nats://").replace(",", ""))) == 1
    broker.close()


@pytest.mark.parametrize(
    ("options", "account"),
    [
        (("--user", "a@b", "--pass", "p:/% #ß"), "a%40b:p%3A%2F%25%20%23%C3%9F"),
        (("--auth", "to/k:en"), "to%2Fk%3Aen"),
    ],
)
def test_an_account_may_hold_any_character(options: tuple[str, ...], account: str) -> None:
    server = OwnNats(*options)
    try:
        broker = open_broker(server.url.replace("//", f"//{account}@"), create=True)
        broker.send([a_message()])
        broker.close()
    finally:
        server.stop()


def test_a_wrong_password_is_told_without_it() -> None:
    server = OwnNats("--user", "shop", "--pass", "right-one")
    try:
        broker = open_broker(fresh_place(f"nats://shop:wrong-secret@127.0.0.1:{server.port}"), create=True)

        with pytest.raises(BrokerFailed) as failed:
            broker.send([a_message()])

        assert "wrong-secret" not in str(failed.value)
        assert "authorization violation" in str(failed.value).lower()
        broker.close()
    finally:
        server.stop()


def test_a_message_that_is_too_big_is_an_error_and_the_next_one_goes_through(place: str, broker: Broker) -> None:
    with pytest.raises(BrokerFailed, match="maximum payload"):
        broker.send([a_message(1, body=b"x" * 2_000_000)])

    broker.send([a_message(2)])

    assert len(stored(place)) == 1


def test_a_store_is_published_in_order_and_published_again_it_is_there_once(place: str, broker: Broker) -> None:
    store = a_store(("A", 5), ("B", 5), ("C", 1))
    Publisher(store, MemoryCheckpoints(), broker).once()
    append(store, "A", "order/A")

    Publisher(store, MemoryCheckpoints(), broker).once()

    ids = [json.loads(body)["id"] for _, _, body in stored(place)]
    assert sorted(ids) == sorted(event_ids(store))
    assert in_order(ids)
