"""URLs of stores and brokers. A URL may hold a password: the functions here decide what of it may be shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

ENCODE = "the user, the password or the port in this URL cannot be read; in a password, percent-encode / ? # @ : and %"
"""Error text used in place of a URL that may contain a password."""

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_QUOTED = re.compile("""["'].*["'][)]*""")
_SECRET = re.compile("pass|pwd|key|secret|token|seed|cred", re.IGNORECASE)
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:\d*)?")


def split(url: str) -> tuple[SplitResult, list[tuple[str, str]]] | None:
    """The parts of a URL and its parameters, or ``None`` for a URL that cannot be parsed.

    It raises nothing: the errors of ``urllib`` quote the URL, and the traceback of an error raised from one would show it.
    """
    try:
        url.encode()
        parts = urlsplit(url)
        return parts, parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return None


def shown(parts: SplitResult, *, user: bool = False, parameters: Sequence[tuple[str, str]] = ()) -> str:
    """A URL as people may see it: without password, and with no parameters but these; without the user unless asked for.

    >>> from urllib.parse import urlsplit
    >>> shown(urlsplit("amqp://shop:secret@mq.example/returns?exchange=x"))
    'amqp://mq.example/returns'
    """
    account, _, hosts = parts.netloc.rpartition("@")
    name = account.partition(":")[0]
    query = f"?{encoded(parameters)}" if parameters else ""
    return f"{parts.scheme}://{f'{name}@' if user and name else ''}{hosts}{parts.path.rstrip('/')}{query}"


def encoded(parameters: Sequence[tuple[str, str]]) -> str:
    """The query of a URL. A space becomes ``%20``: libpq does not accept ``+``."""
    return urlencode(parameters, quote_via=quote, safe="/,:")


def masked(url: str) -> str:
    """A malformed URL as people may see it: nothing that may be a password, a token or a parameter.

    >>> [masked(url) for url in ("mysql://u:s3cret@host/db?x=s3cret", "http://u:s3cret", "password=s3cret", "shop.db")]
    ['mysql://…@host/db', 'http://…', '…', 'shop.db']
    """
    scheme, colon, rest = url.partition("://")
    if scheme == "sqlite" and "@" not in url and not _SECRET.search(unquote(url)):
        return url  # a file has no account, and the mistake is often behind the "?"
    _, at, rest = (rest if colon else url).rpartition("@")
    rest = re.split(r"[?#]", rest)[0]
    host, slash, path = rest.partition("/")
    if "=" in rest or not _HOST.fullmatch(host) or not rest.isprintable():
        host, slash, path = "…", "", ""
    return f"{f'{scheme}://' if colon else ''}{'…@' if at else ''}{host}{slash}{path}"


def is_torn(parts: SplitResult) -> bool:
    """Whether the user or the password seems to hold a character that must be percent-encoded: then any part of the URL may
    belong to the password.

    >>> from urllib.parse import urlsplit
    >>> [is_torn(urlsplit(url)) for url in ("amqp://u:a%2Fb@h:1/x", "amqp://u:a/b@h/x", "amqp://u:a#b@h/x", "amqp://u:a%b@h/x")]
    [False, True, True, True]
    """
    account, _, hosts = parts.netloc.rpartition("@")
    if "@" in parts.path or "@" in parts.fragment or _BAD_PERCENT.search(account) is not None:
        return True
    return not all(_HOST.fullmatch(host) for host in hosts.split(","))


def without_quotes(text: str) -> str:
    """A library's error about a URL, without the parts of the URL that it quotes.

    >>> without_quotes("Invalid heartbeat value 'x': ValueError('no number')")
    'Invalid heartbeat value …'
    """
    return _QUOTED.sub("…", " ".join(text.split()))


def bad_port(parts: SplitResult) -> str | None:
    """The first port of the hosts that is not between 1 and 65535, or ``None``.

    >>> from urllib.parse import urlsplit
    >>> bad_port(urlsplit("nats://a:4222,b:65536")), bad_port(urlsplit("nats://a,b:4222"))
    ('65536', None)
    """
    ports = (host.rpartition("]")[2].partition(":")[2] for host in parts.netloc.rpartition("@")[2].split(","))
    return next((port for port in ports if port and not 0 < int(port) < 65536), None)
