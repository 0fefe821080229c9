"""What URLs of stores and brokers have in common: a password in them, which nobody may be shown."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

ENCODE = "the user, the password or the port in this URL cannot be read; in a password, percent-encode / ? # @ : and %"
"""What is said instead of such a URL."""

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_QUOTED = re.compile("""["'].*["'][)]*""")
_SECRET = re.compile("pass|pwd|key|secret|token|seed|cred", re.IGNORECASE)
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:\d*)?")


def split(url: str) -> tuple[SplitResult, list[tuple[str, str]]] | None:
    """The parts of a URL and its parameters; ``None`` where it cannot be read or written.

    Nothing is raised: the library's errors quote the URL, and an error that is raised because of one would carry it along.
    """
    try:
        url.encode()
        parts = urlsplit(url)
        return parts, parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return None


def told(url: str) -> str:
    """What may be shown of a URL that is not understood: nothing that may be a password, a token or a parameter.

    >>> [told(url) for url in ("mysql://u:s3cret@host/db?x=s3cret", "http://u:s3cret", "password=s3cret", "shop.db")]
    ['mysql://…@host/db', 'http://…', '…', 'shop.db']
    """
    scheme, colon, rest = url.partition("://")
    if scheme == "sqlite" and "@" not in url and not _SECRET.search(unquote(url)):
        return url  # a file has no account, and what is wrong is often behind the "?"
    _, at, rest = (rest if colon else url).rpartition("@")
    rest = re.split(r"[?#]", rest)[0]
    host, slash, path = rest.partition("/")
    if "=" in rest or not _HOST.fullmatch(host) or not rest.isprintable():
        host, slash, path = "…", "", ""
    return f"{f'{scheme}://' if colon else ''}{'…@' if at else ''}{host}{slash}{path}"


def is_torn(parts: SplitResult) -> bool:
    """Whether the part before the host seems to end too early or is not percent-encoded: then any part may be the password.

    >>> from urllib.parse import urlsplit
    >>> [is_torn(urlsplit(url)) for url in ("amqp://u:a%2Fb@h:1/x", "amqp://u:a/b@h/x", "amqp://u:a#b@h/x", "amqp://u:a%b@h/x")]
    [False, True, True, True]
    """
    account, _, hosts = parts.netloc.rpartition("@")
    if "@" in parts.path or "@" in parts.fragment or _BAD_PERCENT.search(account) is not None:
        return True
    return not all(_HOST.fullmatch(host) for host in hosts.split(","))


def without_quotes(text: str) -> str:
    """What a library says of a URL, without what it quotes of it.

    >>> without_quotes("Invalid heartbeat value 'x': ValueError('no number')")
    'Invalid heartbeat value …'
    """
    return _QUOTED.sub("…", " ".join(text.split()))


def bad_port(parts: SplitResult) -> str | None:
    """A port that none can be, of any of the hosts.

    >>> from urllib.parse import urlsplit
    >>> bad_port(urlsplit("nats://a:4222,b:65536")), bad_port(urlsplit("nats://a,b:4222"))
    ('65536', None)
    """
    ports = (host.rpartition("]")[2].partition(":")[2] for host in parts.netloc.rpartition("@")[2].split(","))
    return next((port for port in ports if port and not 0 < int(port) < 65536), None)
