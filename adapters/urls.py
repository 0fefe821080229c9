"""What URLs of stores and brokers have in common: a password in them, which nobody may be shown."""

from __future__ import annotations

import re
from urllib.parse import SplitResult

ENCODE = "the user, the password or the port in this URL cannot be read; in a password, percent-encode / ? # @ : and %"
"""What is said instead of such a URL."""

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:\d*)?")


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
