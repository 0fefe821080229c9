"""The system's clock."""

from __future__ import annotations

import datetime as dt


def system_clock() -> dt.datetime:
    """Now, in UTC. The class is looked up when called, so that ``freezegun`` works with nothing to configure."""
    return dt.datetime.now(dt.UTC)
