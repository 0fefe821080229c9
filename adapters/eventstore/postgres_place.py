"""The database and the schema of a store on PostgreSQL, from its URL, and that URL without its password."""

from __future__ import annotations

import re
from dataclasses import dataclass

from returnable.adapters.urls import ENCODE, encoded, is_torn, shown, split
from returnable.domain.errors import StoreUnusable

DEFAULT_SCHEMA = "returnable"

SCHEMES = ("postgresql", "postgres")

_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z", re.ASCII)

# fmt: off
_SHOWN = frozenset(
    # The parameters that libpq knows and that are not secret. So a misspelt password is never shown.
    {
        "host", "hostaddr", "port", "dbname", "user", "passfile", "require_auth", "channel_binding",
        "connect_timeout", "client_encoding", "options", "application_name", "fallback_application_name",
        "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
        "gssencmode", "sslmode", "requiressl", "sslnegotiation", "sslcompression", "sslcert", "sslkey",
        "sslcertmode", "sslrootcert", "sslcrl", "sslcrldir", "sslsni", "requirepeer",
        "ssl_min_protocol_version", "ssl_max_protocol_version", "min_protocol_version", "max_protocol_version",
        "krbsrvname", "gsslib", "gssdelegation", "service", "target_session_attrs", "load_balance_hosts",
    }
)
# fmt: on
"""The parameters that may be shown."""


@dataclass(frozen=True)
class Place:
    """A database, as libpq's connection URI, and the schema in it.

    Its text is its URL without passwords, and without parameters that libpq does not know.
    """

    conninfo: str
    schema: str
    shown: str

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"Place({self.shown!r})"


def is_postgres(url: str) -> bool:
    """Whether a URL has the scheme of PostgreSQL."""
    return url.partition("://")[0] in SCHEMES and "://" in url


def place_of(url: str) -> Place:
    """The place in a URL of libpq with the additional parameter ``schema=NAME`` (``returnable`` where absent).

    >>> place_of("postgresql://shop:s3cret@db.example:5433/shop?sslmode=require&schema=returns")
    Place('postgresql://shop@db.example:5433/shop?sslmode=require&schema=returns')

    Raises :class:`StoreUnusable`.
    """
    read = split(url)
    if read is None:
        raise StoreUnusable("the URL of the PostgreSQL store cannot be read")
    parts, parameters = read
    user = parts.netloc.rpartition("@")[0]
    if is_torn(parts) or "@" in user:  # libpq takes the first "@" for the end of the password
        raise StoreUnusable(f"{parts.scheme}://…: {ENCODE}")
    named = [value for name, value in parameters if name == "schema"]
    kept = [(name, value) for name, value in parameters if name != "schema"]
    open_ = [(name, value) for name, value in kept if name in _SHOWN] + [("schema", value) for value in named]
    text = shown(parts, user=True, parameters=open_)
    if parts.fragment:
        raise StoreUnusable(f"{text}: a fragment (#…) means nothing here")
    if len(named) > 1:
        raise StoreUnusable(f"{text}: names more than one schema")
    schema = named[0] if named else DEFAULT_SCHEMA
    if not _SCHEMA_NAME.match(schema) or schema.startswith("pg_"):
        raise StoreUnusable(
            f"{text}: {schema!r} cannot be the schema of a store: small letters, digits and _, at most 63, not pg_…"
        )
    path = parts.path or "/"
    query = encoded(kept)
    return Place(f"postgresql://{parts.netloc}{path}{'?' if query else ''}{query}", schema, text)
