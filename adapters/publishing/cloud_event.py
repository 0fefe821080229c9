"""A fact as a CloudEvent: CloudEvents 1.0 in the JSON format, with the extensions for partitions, order and two times.

Everything in it comes from the fact and where it stands, nothing from a clock: published again it is the same, byte for byte.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from returnable.adapters.publishing.broker import Message
from returnable.domain.errors import HistoryBroken
from returnable.domain.events import encode
from returnable.domain.ports import Damage, EventStore, Recorded

DAMAGED_TYPE = "returnable.store.FactDamaged.v1"
"""The type of the event that stands for a fact that cannot be read."""

MOST_BYTES = 900_000
"""An event that would be larger goes out without its data, and with ``dataref`` instead: brokers take a megabyte or less."""

_URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")


def cloud_event(entry: Recorded, source: str) -> Message:
    """The event of a fact; ``source`` is a URI-reference that tells this store from others."""
    stored_as, content = encode(entry.event)
    data = from_json(content)
    event: dict[str, JsonValue] = {
        **_attributes(entry, source, entry.event_id, type_of(stored_as)),
        "time": data["occurred_at"],
        "recordedtime": data["recorded_at"],
        "datacontenttype": "application/json",
        "data": data,
    }
    body = to_json(event)
    if len(body) > MOST_BYTES:
        # Brokers refuse it, and would for ever; whoever wants to know asks the store.
        del event["data"], event["datacontenttype"]
        body = to_json(event | {"dataref": f"#{quote(entry.event_id, safe='/')}"})
    return Message(source, entry.event_id, entry.stream, entry.case_id, entry.event.type, body)


def damaged_event(damage: Damage, source: str) -> Message:
    """The event that says that a fact cannot be read, so that nothing of its case is published from there on.

    Its id is its own: the fact may be mended, and is then published under the id it always had.
    """
    event = _attributes(damage, source, f"{damage.event_id}/damaged", DAMAGED_TYPE)
    return Message(source, f"{damage.event_id}/damaged", damage.stream, damage.case_id, "FactDamaged", to_json(event))


def _attributes(entry: Recorded | Damage, source: str, id_: str, type_: str) -> dict[str, JsonValue]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": source,
        "type": type_,
        "subject": entry.stream,
        "partitionkey": entry.case_id,
        # Strings that compare like the numbers: as wide as the widest position.
        "sequence": f"{entry.position:019d}",
    }


def type_of(stored_as: str) -> str:
    """The type of the event of a fact, from its stored name.

    >>> type_of("order.Shipped/1")
    'returnable.order.Shipped.v1'
    """
    name, _, version = stored_as.rpartition("/")
    return f"returnable.{name}.v{version}"


def own_source(store: EventStore) -> str:
    """The source of a store that was given none: made of its first fact, so that no two stores have the same.

    A copy of a store is the same store. Raises ``HistoryBroken`` when the first fact cannot be read, and ``ValueError``
    while there is none.
    """
    identity = store.store_id()
    if identity is None:
        raise ValueError("an empty store has no source yet")
    if identity.endswith(":"):
        raise HistoryBroken("the first fact cannot be read, so that the store has no source of its own: name one")
    return f"/returnable/stores/{hashlib.sha256(identity.encode()).hexdigest()[:32]}"


def is_source(text: str) -> bool:
    """Whether a text is a URI-reference that is not empty (RFC 3986).

    >>> is_source("https://shop.example/returns"), is_source("/returns/eu"), is_source("my shop")
    (True, True, False)
    """
    return _URI_REFERENCE.fullmatch(text) is not None
