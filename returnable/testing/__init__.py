"""The test kit: time travel for tests about cancellations, returns and refunds.

    from returnable.testing import an_order, given, request_return

    def test_two_weeks_are_two_weeks():
        given(an_order(delivered="2026-03-05")).at("2026-03-20").when(request_return()).then_declined("returns.window")

The pytest plugin brings the fixtures ``desk``, ``clock`` and ``scenario`` and the marker ``at``, with nothing to configure.
The guide is ``docs/testing.md``. Nothing heavy is imported until it is used.
"""

from returnable.lazy import lazy

lazy(
    globals(),
    {
        "returnable.testing.around_edges": "edges turning_days",
        "returnable.testing.clock": "Clock ClockTaken FrozenClock Moment",
        "returnable.testing.policies": "a_policy",
        "returnable.testing.scenario": "Scenario event given",
    },
    rest="returnable.testing.steps",
)
