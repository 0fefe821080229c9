"""The returns page of the shop: its text for customers, and its buttons."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import returnable


class Counter:
    """Shows answers to customers; the desk decides."""

    def __init__(self, desk: returnable.Desk) -> None:
        self.desk = desk

    def page(self, order_id: str, line_id: str = "1") -> str:
        """The text about a line on the page of an order."""
        (line,) = [each for each in self.desk.eligibility(order_id=order_id).lines if each.line_id == line_id]
        if line.return_.allowed and line.return_.return_before is not None:
            # The deadline is the first instant that is too late: the last day is the one before it.
            last_day = datetime.fromisoformat(line.return_.return_before) - timedelta(microseconds=1)
            return f"You can return this until the end of {last_day:%A, %-d %B}."
        failed = [clause.clause for clause in line.return_.clauses if clause.verdict == "fail"]
        if "returns.window" in failed and line.return_.return_before is None:
            return "You can return this once it has arrived."
        return "This cannot be returned any more." if "returns.window" in failed else "This cannot be returned."

    def send_back(self, order_id: str, return_id: str, line_id: str = "1") -> str:
        """The button "Return": requests a return and gives the text for the customer."""
        outcome = self.desk.request_return(
            return_id=return_id,
            order_id=order_id,
            lines=[{"line_id": line_id, "quantity": 1}],
            channel="portal",
            command_id=f"page-{return_id}",
        )
        if outcome.accepted:
            return "We will send you a label."
        assert outcome.ruling is not None
        return " ".join(clause.because for clause in outcome.ruling.clauses if clause.verdict == "fail")


def handle(desk: returnable.Desk, body: Mapping[str, Any]) -> dict[str, Any]:
    """The endpoint of the shop's API: takes a command as JSON values and returns the outcome."""
    try:
        outcome = desk.handle(body)
    except returnable.Impossible as error:
        return {"outcome": "error", "error": {"code": error.code}}
    return outcome.view().model_dump(mode="json")
