"""Counters and gauges for the host's own metrics.

The host passes a meter of OpenTelemetry (``opentelemetry.metrics.get_meter("shop")``), or any object with the same two
methods. Nothing here imports OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Attributes = Mapping[str, str]


class Meter(Protocol):
    """Makes counters and gauges, like a meter of OpenTelemetry."""

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Any:
        """A counter, with ``add(amount, attributes)``."""
        ...

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Any:
        """A gauge, with ``set(amount, attributes)``."""
        ...


class Unmeasured:
    """A meter, a counter and a gauge that do nothing, for hosts without metrics."""

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Unmeasured:
        """Return a counter that does nothing."""
        return self

    create_gauge = create_counter

    def add(self, amount: float, attributes: Attributes | None = None) -> None:
        """Do nothing."""

    set = add
