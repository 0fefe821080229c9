"""Standard output as a broker: JSON Lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from returnable.adapters.printable import json_text
from returnable.adapters.publishing.broker import Message


class StdoutBroker:
    """Writes one CloudEvent a line. A flushed line counts as acknowledged; its reader is responsible for it."""

    def send(self, messages: Sequence[Message]) -> None:
        """Write and flush; raises ``BrokenPipeError`` if the reader has gone away."""
        for message in messages:
            sys.stdout.write(json_text(message.body.decode()) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing to release."""
