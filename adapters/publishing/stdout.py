"""Standard output as a broker: JSON Lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from returnable.adapters.printable import json_text
from returnable.adapters.publishing.broker import Message


class StdoutBroker:
    """One CloudEvent a line. What was written and flushed counts as acknowledged; who reads it answers for the rest."""

    def send(self, messages: Sequence[Message]) -> None:
        """Write and flush; raises ``BrokenPipeError`` when nobody reads any more."""
        for message in messages:
            sys.stdout.write(json_text(message.body.decode()) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing to release."""
