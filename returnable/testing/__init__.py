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

    from returnable.testing.around_edges import edges, turning_days
    from returnable.testing.clock import Clock, ClockTaken, FrozenClock, Moment
    from returnable.testing.policies import a_policy
    from returnable.testing.scenario import Scenario, event, given
    from returnable.testing.steps import (
        Step,
        Steps,
        a_claim,
        a_return,
        add_claim_evidence,
        an_order,
        confirm_order,
        declined,
        deny_claim,
        finding,
        impossible,
        inspect_return,
        issue_label,
        link_account,
        notify_customer,
        override,
        receive_return,
        record_claim_contact,
        record_delivery,
        record_label_received,
        record_refund_result,
        record_return_shipment,
        record_send_back,
        record_shipment,
        report_return_lost,
        report_wrong_item,
        request_cancellation,
        request_refund,
        request_return,
        resolve_claim,
        run_deadlines,
        step,
        void_label,
        withdraw_return,
    )

_HOMES = {
    "clock": ("Clock", "ClockTaken", "FrozenClock", "Moment"),
    "around_edges": ("edges", "turning_days"),
    "policies": ("a_policy",),
    "scenario": ("Scenario", "event", "given"),
    "steps": (
        *("Step", "Steps", "a_claim", "a_return", "add_claim_evidence", "an_order", "confirm_order", "declined"),
        *(
            "deny_claim",
            "finding",
            "impossible",
            "inspect_return",
            "issue_label",
            "link_account",
            "notify_customer",
            "override",
        ),
        *("receive_return", "record_claim_contact", "record_delivery", "record_label_received", "record_refund_result"),
        *("record_return_shipment", "record_send_back", "record_shipment", "report_return_lost", "report_wrong_item"),
        *("request_cancellation", "request_refund", "request_return", "resolve_claim", "run_deadlines", "step"),
        *("void_label", "withdraw_return"),
    ),
}
_HOME = {name: f"returnable.testing.{module}" for module, names in _HOMES.items() for name in names}

__all__ = [
    "Clock",
    "ClockTaken",
    "FrozenClock",
    "Moment",
    "Scenario",
    "Step",
    "Steps",
    "a_claim",
    "a_policy",
    "a_return",
    "add_claim_evidence",
    "an_order",
    "confirm_order",
    "declined",
    "deny_claim",
    "edges",
    "event",
    "finding",
    "given",
    "impossible",
    "inspect_return",
    "issue_label",
    "link_account",
    "notify_customer",
    "override",
    "receive_return",
    "record_claim_contact",
    "record_delivery",
    "record_label_received",
    "record_refund_result",
    "record_return_shipment",
    "record_send_back",
    "record_shipment",
    "report_return_lost",
    "report_wrong_item",
    "request_cancellation",
    "request_refund",
    "request_return",
    "resolve_claim",
    "run_deadlines",
    "step",
    "turning_days",
    "void_label",
    "withdraw_return",
]


if not TYPE_CHECKING:  # to type checkers there is nothing but the names above

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(import_module(_HOME[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
