"""Makes a broker from a URL. The library of a broker is imported only when its URL is used."""

from __future__ import annotations

from urllib.parse import SplitResult, unquote, urlunsplit

from returnable.adapters.extras import extra
from returnable.adapters.publishing.broker import Broker, BrokerUnusable
from returnable.adapters.urls import ENCODE, bad_port, encoded, is_torn, masked, shown, split

UNDERSTOOD = (
    "nats://host:4222?stream=RETURNABLE&subject=returnable, amqp://user:password@host/vhost?exchange=returnable, "
    "kafka://host:9092/topic and stdout:"
)


def open_broker(url: str, *, create: bool = False) -> Broker:
    """The broker at a URL. It connects with the first message.

    With ``create`` the broker creates a stream (NATS) or an exchange (RabbitMQ) that does not exist.
    Raises :class:`BrokerUnusable` for a URL that cannot be understood, a library that is not installed, or parameters that
    the library does not accept.
    """
    try:
        return _opened(url, create)
    except BrokerUnusable as error:
        error.__context__ = None  # the error of a library may quote the URL
        raise


def _opened(url: str, create: bool) -> Broker:
    read = split(url)
    if read is None:
        raise _not_understood(url)
    parts, options = read
    repeated = len(dict(options)) < len(options)
    if is_torn(parts):
        raise BrokerUnusable(f"{parts.scheme}://…: {ENCODE}")
    if repeated or parts.fragment:
        raise _not_understood(url)
    if parts.scheme == "stdout" and not parts.netloc and not parts.path and not options:
        from returnable.adapters.publishing.stdout import StdoutBroker

        return StdoutBroker()
    known = _BROKERS.get(parts.scheme)
    if known is None or not parts.netloc.rpartition("@")[2]:
        raise _not_understood(url)
    if (port := bad_port(parts)) is not None:
        raise BrokerUnusable(f"{shown(parts)}: {port} is not a port")
    name, package, opener = known
    with extra(name, package, f"{shown(parts)}: this broker", BrokerUnusable):
        return opener(url, parts, dict(options), create)


def _nats(url: str, parts: SplitResult, options: dict[str, str], create: bool) -> Broker:
    from returnable.adapters.publishing.nats import NatsBroker, NatsPlace

    stream, prefix = options.pop("stream", "RETURNABLE"), options.pop("subject", "returnable")
    credentials = options.pop("credentials", None)
    account, _, hosts = parts.netloc.rpartition("@")
    tokens = prefix.split(".")
    if not stream or set(stream) & set(" .*>/\\\t"):
        raise BrokerUnusable(f"{shown(parts)}: {stream!r} is not the name of a stream")
    if not all(token and token.isascii() and token.isprintable() and not set(token) & set(" *>") for token in tokens):
        raise BrokerUnusable(f"{shown(parts)}: {prefix!r} is not a prefix of subjects")
    if options or parts.path.rstrip("/"):
        raise _not_understood(url)
    servers = tuple(f"{parts.scheme}://{host}" for host in hosts.split(","))
    name, colon, password = map(unquote, account.partition(":"))
    place = NatsPlace(
        servers,
        stream,
        prefix,
        shown(parts),
        user=name if colon else None,
        password=password if colon else None,
        token=None if colon else name or None,
        credentials=credentials,
    )
    return NatsBroker(place, create=create)


def _rabbitmq(url: str, parts: SplitResult, options: dict[str, str], create: bool) -> Broker:
    from returnable.adapters.publishing.rabbitmq import RabbitBroker, RabbitPlace

    exchange = options.pop("exchange", "returnable")
    if not 0 < len(exchange.encode()) < 256 or exchange.startswith("amq."):
        raise BrokerUnusable(f"{shown(parts)}: {exchange!r} is not the name of an exchange that a host may use")
    # The library reads an empty path as "/", the default virtual host, and a path of "/" as a virtual host without a name.
    path = "" if parts.path == "/" else parts.path
    rest = urlunsplit((parts.scheme, parts.netloc, path or "/%2F", encoded(tuple(options.items())), ""))
    return RabbitBroker(RabbitPlace(rest, exchange, shown(parts)), create=create)


def _kafka(url: str, parts: SplitResult, options: dict[str, str], create: bool) -> Broker:
    from returnable.adapters.publishing.kafka import KafkaBroker, KafkaPlace

    topic = unquote(parts.path.strip("/"))
    account, at, hosts = parts.netloc.rpartition("@")
    if not topic or "/" in topic:
        raise _not_understood(url)
    if create:
        raise BrokerUnusable(f"{shown(parts)}: a topic is not created from here: choose its partitions yourself")
    if at:
        user, _, password = account.partition(":")
        options |= {"sasl.username": unquote(user), "sasl.password": unquote(password)}
    return KafkaBroker(KafkaPlace(hosts, topic, shown(parts), options))


_BROKERS = {
    **dict.fromkeys(("nats", "tls"), ("nats", "nats-py", _nats)),
    **dict.fromkeys(("amqp", "amqps"), ("rabbitmq", "pika", _rabbitmq)),
    "kafka": ("kafka", "confluent-kafka", _kafka),
}
"""Scheme → the extra, the package that it installs, and the function that opens the broker."""


def _not_understood(url: str) -> BrokerUnusable:
    return BrokerUnusable(f"{masked(url)!r} names no broker; understood are {UNDERSTOOD}")
