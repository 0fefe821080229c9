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
        "returnable.testing.steps": (
            "Step Steps a_claim a_return add_claim_evidence an_order confirm_order declined deny_claim finding "
            "impossible inspect_return issue_label link_account notify_customer override receive_return "
            "record_claim_contact record_delivery record_label_received record_refund_result "
            "record_return_shipment record_send_back record_shipment report_return_lost report_wrong_item "
            "request_cancellation request_refund request_return resolve_claim run_deadlines step void_label "
            "withdraw_return"
        ),
    },
)
