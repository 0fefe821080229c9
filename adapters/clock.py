"""The system's clock."""

from __future__ import annotations

import datetime as dt


def system_clock() -> dt.datetime:
    """The current instant in UTC. Each call looks up ``dt.datetime``, so ``freezegun`` works without configuration."""
    return dt.datetime.now(dt.UTC)
