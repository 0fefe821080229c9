"""An event as a CloudEvent: CloudEvents 1.0 in the JSON format, with extensions for partitions, order and two times.

The content depends on the event and its position, not on a clock. If an event is published again, its bytes are the same.
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
"""The type of the CloudEvent that replaces an event that cannot be read."""

MOST_BYTES = 900_000
"""An event of more bytes is sent with ``dataref`` instead of its data, because a broker may accept at most a megabyte."""

_URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")


def cloud_event(entry: Recorded, source: str) -> Message:
    """The message of an event; ``source`` is a URI-reference that identifies the store."""
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
        # A broker would refuse the whole event at every attempt. A consumer that needs the data reads the event in the store.
        del event["data"], event["datacontenttype"]
        body = to_json(event | {"dataref": f"#{quote(entry.event_id, safe='/')}"})
    return Message(source, entry.event_id, entry.stream, entry.case_id, entry.event.type, body)


def damaged_event(damage: Damage, source: str) -> Message:
    """The message that reports an event that cannot be read. No event after it in its case is published.

    The message has an id of its own, because the damaged event may be repaired, and is then published under its own id.
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
        # Padded to the width of the largest position, so that strings compare like numbers.
        "sequence": f"{entry.position:019d}",
    }


def type_of(stored_as: str) -> str:
    """The type of a CloudEvent, from the stored name of the event.

    >>> type_of("order.Shipped/1")
    'returnable.order.Shipped.v1'
    """
    name, _, version = stored_as.rpartition("/")
    return f"returnable.{name}.v{version}"


def own_source(store: EventStore) -> str:
    """The default source of a store, derived from its first event.

    Stores with different first events have different sources. A copy of a store has the source of the store. Raises
    ``HistoryBroken`` if the first event cannot be read, and ``ValueError`` for an empty store.
    """
    identity = store.store_id()
    if identity is None:
        raise ValueError("an empty store has no source yet")
    if identity.endswith(":"):
        raise HistoryBroken("the first event cannot be read, so the store has no default source: name a source")
    return f"/returnable/stores/{hashlib.sha256(identity.encode()).hexdigest()[:32]}"


def is_source(text: str) -> bool:
    """Whether a text is a URI-reference (RFC 3986) and not empty.

    >>> is_source("https://shop.example/returns"), is_source("/returns/eu"), is_source("my shop")
    (True, True, False)
    """
    return _URI_REFERENCE.fullmatch(text) is not None
