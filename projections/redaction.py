"""Redaction: events without personal data, so that evidence can be given away.

Every field of every event has a mark in its definition. A value that identifies a person is replaced by a pseudonym. Free
text is blanked. Everything else stays, also an order reference that is the order's id. Under one key the same value always
has the same pseudonym, so that one customer with three orders stays one customer with three orders; without the key nobody
can find out which customer. No value on which a decision rests changes, so that redacted events lead to the same decisions.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from returnable.domain.events import Event, ExceptionRaised, decode, encode
from returnable.domain.marks import Mark
from returnable.domain.ports import Recorded
from returnable.projections.marked import marks

BLANK = "[redacted]"
"""The replacement of a text that was blanked."""


class Redaction:
    """Replaces personal data in events. ``key`` decides the pseudonyms: the same key gives the same ones."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def pseudonym(self, value: str) -> str:
        """The replacement of a personal value: the same under one key, and irreversible without it."""
        return f"anon-{hmac.new(self._key, value.encode(), hashlib.sha256).hexdigest()[:20]}"

    def of(self, entry: Recorded, case: Callable[[], Iterable[Recorded]]) -> Recorded:
        """The entry with its event redacted; ``case`` is called for the original events of its case if they are needed."""
        event = entry.event
        redacted: Event
        if isinstance(event, ExceptionRaised):
            named = _named_in(case())
            reasons = tuple(self._reason(reason, named) for reason in event.reasons)
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
        # A value without a mark is blanked.
        return value if key == "order_reference" and value == order_id else BLANK

    def _reason(self, reason: str, named: Iterable[tuple[str, str]]) -> str:
        for before, value in named:
            reason = re.sub(f"(?<={re.escape(before)}){re.escape(value)}(?![^ ,;:.)])", self.pseudonym(value), reason)
        return reason


_WORDS = {
    "parcel_id": "parcel ",
    "label_id": "label ",
    "box_id": "box ",
    "payment_id": "payment ",
    "payout_id": "payment ",
    "reference": "reference ",
}
"""Personal field → the word before its value in the reasons of an exception."""


def _named_in(case: Iterable[Recorded]) -> list[tuple[str, str]]:
    """What the reasons of exceptions may name of a case: the word before a personal value, and the value; longest first."""
    found: set[tuple[str, str]] = set()

    def walk(value: JsonValue) -> None:
        if isinstance(value, dict):
            found.update(
                (_WORDS[name], each) for name, each in value.items() if name in _WORDS and isinstance(each, str)
            )
            if isinstance(value.get("tracking_number"), str) and isinstance(value.get("carrier"), str):
                found.add((f" by {value['carrier']} ", str(value["tracking_number"])))
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(each)

    for entry in case:
        walk(from_json(encode(entry.event)[1]))
    return sorted(found, key=lambda pair: (-len(pair[1]), pair))
