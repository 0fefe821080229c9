"""Redaction: facts without the people in them, so that evidence can be given away.

Every field of every fact has a mark where it is defined. What identifies somebody is replaced by a pseudonym, what
somebody wrote is blanked, and the rest stays; an order reference that is the order's id stays, too. The same value has the
same pseudonym everywhere under one key, so that one customer with three orders stays one customer with three orders;
without the key nobody can tell which. Nothing that a decision rests on changes, so that a redacted history is decided as
the original was.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import replace

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from returnable.domain.events import Event, ExceptionRaised, Shipped, decode, encode
from returnable.domain.marks import Mark
from returnable.domain.ports import Recorded
from returnable.projections.marked import marks

BLANK = "[redacted]"
"""What stands for a text that was blanked."""


class Redaction:
    """Replaces what is personal in facts. ``key`` decides the pseudonyms: the same key gives the same ones."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def pseudonym(self, value: str) -> str:
        """What stands for a personal value: always the same under one key, and not to be turned back without it."""
        return f"anon-{hmac.new(self._key, value.encode(), hashlib.sha256).hexdigest()[:20]}"

    def of(self, entry: Recorded, case: Callable[[], Iterable[Recorded]]) -> Recorded:
        """The entry with a redacted fact; ``case`` gives the facts of its case as they are, where they are needed."""
        event = entry.event
        redacted: Event
        if isinstance(event, ExceptionRaised):
            shipped = [other.event for other in case() if isinstance(other.event, Shipped)]
            reasons = tuple(self._reason(reason, shipped) for reason in event.reasons)
            redacted = self._of_fields(event.model_copy(update={"reasons": reasons}), entry.case_id)
        else:
            redacted = self._of_fields(event, entry.case_id)
        return replace(entry, event=redacted)

    def _of_fields(self, event: Event, order_id: str) -> Event:
        stored_as, content = encode(event)
        return decode(stored_as, to_json(self._walk("", from_json(content), order_id)))

    def _walk(self, key: str, value: JsonValue, order_id: str) -> JsonValue:
        if isinstance(value, dict):
            named = ((name, f"{key}.id" if name == "id" else name, one) for name, one in value.items())
            return {name: self._walk(full_name, one, order_id) for name, full_name, one in named}
        if isinstance(value, list):
            return [self._walk(key, one, order_id) for one in value]
        mark = marks().get(key)
        if not isinstance(value, str) or mark in (Mark.HARMLESS, Mark.MONEY, Mark.DERIVED):
            return value
        if mark is Mark.PERSONAL:
            return self.pseudonym(value)
        # What has no mark is not let through.
        return value if key == "order_reference" and value == order_id else BLANK

    def _reason(self, reason: str, shipped: Iterable[Shipped]) -> str:
        pairs = {f" by {event.carrier} {event.tracking_number}": event for event in shipped}
        for said in sorted(pairs, key=len, reverse=True):
            event = pairs[said]
            reason = reason.replace(said, f" by {event.carrier} {self.pseudonym(event.tracking_number)}")
        for parcel_id in sorted({event.parcel_id for event in pairs.values()}, key=len, reverse=True):
            reason = reason.replace(f"parcel {parcel_id} ", f"parcel {self.pseudonym(parcel_id)} ")
        return reason
