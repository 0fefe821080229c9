"""Waiting for what must come, however slow or busy the machine is.

No test may depend on how fast the machine is. A test waits for the event it needs, with :func:`wait_until` or with a
time-out of :data:`GUARD_SECONDS`, which is no promise: it only ends a test that would otherwise hang.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

GUARD_SECONDS = 600

_LOOK_SECONDS = 0.01


def wait_until(true: Callable[[], bool]) -> None:
    """Look again and again until something is true.

    Pauses are counted, not timed: in some tests the clocks stand still.
    """
    for _ in range(int(GUARD_SECONDS / _LOOK_SECONDS)):
        if true():
            return
        threading.Event().wait(_LOOK_SECONDS)
    raise AssertionError(f"it did not come about within {GUARD_SECONDS} s")
