"""The control of the crash tests: a publisher that marks as published what it has yet to send.

``python early_publisher.py STORE FILE`` publishes to a file, as ``returnable publish --to stdout:`` would.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from returnable.adapters.eventstore.open import open_store
from returnable.adapters.publishing.broker import Message
from returnable.adapters.publishing.publisher import Publisher


class Early(Publisher):
    """Moves the bookmark first."""

    def _batch(self, after: int, upto: int) -> list[Message]:
        messages = super()._batch(after, upto)
        self._move(upto)
        self._position = after
        return messages


class ToFile:
    """A broker that is killed, with its publisher, before it has taken the last message of what it is sent first."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115

    def send(self, messages: Sequence[Message]) -> None:
        """Write all but the last, flush, and die."""
        for message in messages[:-1]:
            self._file.write(message.body.decode() + "\n")
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


if __name__ == "__main__":
    store = open_store(sys.argv[1])
    Early(store, store.checkpoints, ToFile(sys.argv[2]), hold_seconds=0.3).run(threading.Event())
