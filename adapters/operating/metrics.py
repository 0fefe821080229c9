"""Counters and gauges, given to whatever the host measures with.

The host's meter is one of OpenTelemetry's (``opentelemetry.metrics.get_meter("shop")``), or anything with the same two
methods. Nothing here imports OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Attributes = Mapping[str, str]


class Counter(Protocol):
    """Counts up."""

    def add(self, amount: int, attributes: Attributes | None = None) -> None:
        """So many more."""
        ...


class Gauge(Protocol):
    """Shows what was set last."""

    def set(self, amount: float, attributes: Attributes | None = None) -> None:
        """It is so much now."""
        ...


class Meter(Protocol):
    """Makes counters and gauges, as a meter of OpenTelemetry does."""

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Any:
        """A :class:`Counter`."""
        ...

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Any:
        """A :class:`Gauge`."""
        ...


class Unmeasured:
    """A meter for hosts that measure nothing; a counter and a gauge as well."""

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Unmeasured:
        """Nothing is counted."""
        return self

    create_gauge = create_counter

    def add(self, amount: float, attributes: Attributes | None = None) -> None:
        """Nothing is counted."""

    set = add
