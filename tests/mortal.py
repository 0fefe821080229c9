"""A command line that kills itself with SIGKILL at a named point of its ``NTH`` append.

``python tests/mortal.py before|after NTH COMMAND …`` runs ``returnable COMMAND …``. At ``before``, what the append was to
write is decided (and a deadline claimed), but not written; at ``after``, it is durable, and nobody was told.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from returnable.adapters.cli.app import run
from returnable.adapters.eventstore.sql import SqlStore


def main(point: str, number: str, *command: str) -> None:
    """Run the command, and die."""
    left, append = int(number), SqlStore.append

    def last(store: SqlStore, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if not left and point == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        positions = append(store, *args, **kwargs)
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return positions

    SqlStore.append = last  # type: ignore[method-assign]
    sys.exit(run(command))


if __name__ == "__main__":
    main(*sys.argv[1:])
