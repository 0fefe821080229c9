"""The test kit: time travel for tests about cancellations, returns and refunds.

    from returnable.testing import an_order, given, request_return

    def test_two_weeks_are_two_weeks():
        given(an_order(delivered="2026-03-05")).at("2026-03-20").when(request_return()).then_declined("returns.window")

The pytest plugin brings the fixtures ``desk``, ``clock`` and ``scenario`` and the marker ``at``, with nothing to configure.
The guide is ``docs/testing.md``. Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for True; importing typing would be most of the cost of importing us
if TYPE_CHECKING:
    from typing import Any

    from returnable.testing import steps
    from returnable.testing.around_edges import edges, turning_days
    from returnable.testing.clock import Clock, ClockTaken, FrozenClock, Moment
    from returnable.testing.policies import a_policy
    from returnable.testing.scenario import Scenario, event, given
    from returnable.testing.steps import *  # noqa: F403

    __all__ = [
        "Clock",
        "ClockTaken",
        "FrozenClock",
        "Moment",
        "Scenario",
        "a_policy",
        "edges",
        "event",
        "given",
        "turning_days",
    ]
    __all__ += steps.__all__

_HOMES = {
    "clock": ("Clock", "ClockTaken", "FrozenClock", "Moment"),
    "around_edges": ("edges", "turning_days"),
    "policies": ("a_policy",),
    "scenario": ("Scenario", "event", "given"),
}
_HOME = {name: f"returnable.testing.{module}" for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # to type checkers there is nothing but the names above

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(import_module(_HOME[name]), name)
        if name == "__all__" or not name.startswith("_"):
            steps = import_module("returnable.testing.steps")
            if name == "__all__":
                return [*_HOME, *steps.__all__]
            if name in steps.__all__:
                return getattr(steps, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
