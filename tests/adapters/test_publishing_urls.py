"""A URL becomes a broker, or one clear error that holds no password."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from returnable.adapters.publishing.broker import BrokerUnusable
from returnable.adapters.publishing.open import open_broker


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nats",
        "nats://",
        "nats://shop:secret@",
        "http://shop:secret@host/",
        "nats://shop:secret@host:4222/path",
        "nats://host?stream=A&stream=B",
        "nats://host?unknown=secret",
        "nats://host?secret",
        "kafka://shop:secret@host:9092",
        "kafka://host:9092/a/b",
        "amqp://shop:secret@[::1/",
        "stdout://secret@host",
        "stdout:?secret=1",
        "nats://host#secret",
        "amqp://shop:secret?more@host",
    ],
)
def test_what_is_no_broker_is_refused_without_what_may_be_secret(url: str) -> None:
    with pytest.raises(BrokerUnusable, match="names no broker; understood are nats://") as refused:
        open_broker(url)

    assert "secret" not in str(refused.value).replace("user:password", "")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nats://host?stream=a.b", "'a.b' is not the name of a stream"),
        ("nats://host?stream=", "'' is not the name of a stream"),
        ("nats://host?subject=a..b", "'a..b' is not a prefix of subjects"),
        ("nats://host?subject=a.*", r"'a\.\*' is not a prefix of subjects"),
        ("amqp://host/?exchange=", "'' is not the name of an exchange"),
        ("amqp://host/?exchange=amq.topic", "'amq.topic' is not the name of an exchange"),
    ],
)
def test_a_name_that_the_broker_cannot_have_is_told(url: str, said: str) -> None:
    with pytest.raises(BrokerUnusable, match=said):
        open_broker(url)


def test_a_topic_is_not_created_from_here() -> None:
    with pytest.raises(BrokerUnusable, match="a topic is not created from here"):
        open_broker("kafka://host:9092/topic", create=True)


@pytest.mark.parametrize(
    ("url", "module", "library", "extra"),
    [
        ("nats://shop:secret@host", "nats", "nats", "nats"),
        ("amqp://shop:secret@host/", "rabbitmq", "pika", "rabbitmq"),
        ("kafka://shop:secret@host/topic", "kafka", "confluent_kafka", "kafka"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, library: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"returnable.adapters.publishing.{module}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(BrokerUnusable, match=rf"pip install 'returnable\[{extra}\]'") as refused:
        open_broker(url)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("amqp://host", "amqp://host/%2F"),
        ("amqp://host/", "amqp://host/%2F"),
        ("amqps://u:p@host:5671/shop?exchange=x&heartbeat=30", "amqps://u:p@host:5671/shop?heartbeat=30"),
    ],
)
def test_what_the_rabbitmq_library_is_told(url: str, what: str) -> None:
    broker: Any = open_broker(url)

    assert broker._place.url == what


def test_several_servers_share_an_account_and_credentials_may_be_a_file() -> None:
    broker: Any = open_broker("nats://u:p@a:1,b:2?credentials=/etc/shop.creds")

    assert broker._place.servers == ("nats://a:1", "nats://b:2")
    assert (broker._place.user, broker._place.password, broker._place.token) == ("u", "p", None)
    assert broker._place.credentials == "/etc/shop.creds"
    assert broker._place.shown == "nats://a:1,b:2"


@pytest.mark.parametrize(
    ("account", "user", "password", "token"),
    [
        ("", None, None, None),
        ("us%40er:p%3A%2F%25%E2%82%AC@", "us@er", "p:/%€", None),
        ("user:@", "user", "", None),
        ("t%2Fo%3Aken@", None, None, "t/o:ken"),
    ],
)
def test_user_password_and_token_of_nats_are_decoded(
    account: str, user: str | None, password: str | None, token: str | None
) -> None:
    broker: Any = open_broker(f"nats://{account}a:1")

    assert broker._place.servers == ("nats://a:1",)
    assert (broker._place.user, broker._place.password, broker._place.token) == (user, password, token)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://u:secret@host/?heartbeat=secret", "Invalid heartbeat value"),
        ("amqp://u:secret@host/?secret=1", "Unknown URL parameter"),
        ("amqp://u:secret@host/?heartbeat=-1", "heartbeat"),
        ("amqps://u:secret@host/?ssl_options={secret", ""),
        ("kafka://host/topic?linger.ms=secret", "Invalid value for configuration property"),
        ("kafka://u:secret@host/topic?secret=1", "No such configuration property"),
        ("kafka://host/topic?security.protocol=SASL_SSL&sasl.mechanisms=PLAIN", "sasl.username and sasl.password"),
        ("amqp://u:secret@host:99999/", "99999 is not a port"),
        ("nats://u:secret@host:0", "0 is not a port"),
        ("nats://host:4222,host:65536", "65536 is not a port"),
        ("kafka://host:99999/topic", "99999 is not a port"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_told_before_anything_is_sent_and_not_its_value(url: str, said: str) -> None:
    with pytest.raises(BrokerUnusable, match=f"^(amqps?|nats|kafka)://host.*: .*{said}") as refused:
        open_broker(url)

    assert "secret" not in str(refused.value)


def test_an_account_of_kafka_and_settings_of_its_library_come_with_the_url() -> None:
    broker: Any = open_broker("kafka://u:p%40ss@a:1,b:2/my.topic?security.protocol=SASL_SSL&sasl.mechanisms=PLAIN")

    assert (broker._place.servers, broker._place.topic) == ("a:1,b:2", "my.topic")
    assert broker._place.settings == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "PLAIN",
        "sasl.username": "u",
        "sasl.password": "p@ss",
    }


@pytest.mark.parametrize(
    "url",
    [
        "amqp://shop:secret#more@host",
        "amqp://shop:12/secret@host",
        "amqp://shop:secret/x@host/returns",
        "amqp://shop:secret%x@host",
        "amqp://host:secret/returns",
        "kafka://shop:12/secret@host/topic",
        "nats://shop:secret/x@host:4222",
    ],
)
def test_a_url_whose_password_is_torn_apart_is_not_shown(url: str) -> None:
    with pytest.raises(BrokerUnusable, match="percent-encode") as refused:
        open_broker(url)

    assert "secret" not in str(refused.value)
