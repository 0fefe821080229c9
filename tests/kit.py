"""A story told in commands and questions, each at its own instant: how the tests speak to the desk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from returnable.adapters.scenario import play
from returnable.adapters.wiring import Parts, assemble
from returnable.domain.policy import PolicyBook

MONDAY_MORNING = "2026-03-02T10:00:00-05:00"
"""The usual instant of confirmation: a Monday morning in New York, winter time."""


class Story:
    """Plays lines against a desk; the clock stays where the last line left it.

    ``tell`` gives the outcome of a command, ``ask`` the answer of a question, both as the JSON values that ``returnable
    play`` prints. An impossible command is an outcome ``error``; an impossible question raises ``AssertionError``.
    """

    def __init__(self, parts: Parts | None = None, policy: PolicyBook | None = None) -> None:
        self.parts = parts or assemble("memory:", policy)
        self.at = MONDAY_MORNING
        self.lines: list[dict[str, Any]] = []

    def tell(self, command: str, at: str | None = None, **fields: Any) -> dict[str, Any]:
        """Carry out a command at an instant (default: the last one)."""
        return self._play({"command": command, **fields}, at)

    def ask(self, query: str, at: str | None = None, **fields: Any) -> Any:
        """Answer a question at an instant (default: the last one)."""
        result = self._play({"query": query, **fields}, at)
        assert result["error"] is None, result["error"]
        return result["answer"]

    def ask_in_vain(self, query: str, at: str | None = None, **fields: Any) -> dict[str, Any]:
        """The error of a question that cannot be answered."""
        result = self._play({"query": query, **fields}, at)
        assert result["error"] is not None, result["answer"]
        return dict(result["error"])

    def _play(self, fields: Mapping[str, Any], at: str | None) -> dict[str, Any]:
        from pydantic_core import to_json

        self.at = at or self.at
        line = {"at": self.at, **fields}
        self.lines.append(line)
        (played,) = play(self.parts, [(len(self.lines), to_json(line))])
        return played.as_dict()

    # ---- the usual beginnings ---------------------------------------------------------------------------------------

    def confirmed(self, order_id: str = "A-1", at: str = MONDAY_MORNING, **changes: Any) -> dict[str, Any]:
        """An order of one line, one unit of 750.00 USD, paid by one card; fields can be changed."""
        order = an_order(order_id, **changes)
        outcome = self.tell("confirm_order", at, **order)
        assert outcome["outcome"] == "accepted", outcome["error"]
        return outcome

    def delivered(
        self,
        order_id: str = "A-1",
        shipped: str = "2026-03-03T09:00:00-05:00",
        delivered: str = "2026-03-05T14:00:00-05:00",
        **changes: Any,
    ) -> None:
        """The usual order, confirmed, shipped in parcel ``P-1`` and delivered on Thursday, 5 March 2026."""
        self.confirmed(order_id, **changes)
        self.tell(
            "record_shipment", shipped, order_id=order_id, parcel_id="P-1", carrier="fedex", tracking_number="T-1"
        )
        self.tell("record_delivery", delivered, order_id=order_id, parcel_id="P-1")

    def authorized(self, return_id: str = "R-1", at: str = "2026-03-09T12:00:00-04:00", **changes: Any) -> None:
        """The usual order delivered, and a return of its line authorized on Monday, 9 March 2026."""
        quantity = changes.pop("return_quantity", 1)
        self.delivered(**changes)
        outcome = self.tell(
            "request_return",
            at,
            return_id=return_id,
            order_id="A-1",
            lines=[{"line_id": "1", "quantity": quantity}],
            channel="portal",
        )
        assert outcome["outcome"] == "accepted", outcome

    def labelled(self, return_id: str = "R-1", at: str = "2026-03-09T12:30:00-04:00", **changes: Any) -> None:
        """The usual return with label ``L-1`` issued on Monday, 9 March 2026 (void on Thursday, 00:00)."""
        self.authorized(return_id, **changes)
        outcome = self.tell(
            "issue_label", at, return_id=return_id, label_id="L-1", carrier="fedex", tracking_number="RT-1"
        )
        assert outcome["outcome"] == "accepted", outcome

    def inspected(self, return_id: str = "R-1", good: bool = True, **changes: Any) -> None:
        """The usual return handed over on its label in time, received, and inspected on Monday, 16 March 2026."""
        quantity = changes.get("return_quantity", 1)
        self.labelled(return_id, **changes)
        self.tell("record_return_shipment", "2026-03-10T16:00:00-04:00", return_id=return_id, label_id="L-1")
        self.tell("receive_return", "2026-03-13T11:00:00-04:00", return_id=return_id)
        outcome = self.tell(
            "inspect_return",
            "2026-03-16T10:00:00-04:00",
            return_id=return_id,
            findings=[finding(quantity=quantity, same_condition=good)],
        )
        assert outcome["outcome"] == "accepted", outcome


def an_order(order_id: str = "A-1", **changes: Any) -> dict[str, Any]:
    """The fields of ``confirm_order``; ``price``, ``quantity``, ``tax``, ``final_sale`` change its one line.

    ``shipping`` is what was charged, or the whole field; one card pays what ``lines`` and ``shipping`` come to.
    """
    from decimal import Decimal

    line = {
        "line_id": "1",
        "sku": "SKU-1",
        "unit_price": str(changes.pop("price", "750.00")),
        "quantity": int(changes.pop("quantity", 1)),
        "tax": str(changes.pop("tax", "0.00")),
        "final_sale": changes.pop("final_sale", False),
    }
    lines: list[dict[str, Any]] = changes.pop("lines", [line])
    shipping: Any = changes.pop("shipping", "0.00")
    if not isinstance(shipping, Mapping):
        shipping = {"charged": str(shipping)}
    goods = sum(
        (Decimal(one["unit_price"]) * one["quantity"] + Decimal(one.get("tax", "0")) for one in lines), Decimal(0)
    )
    total = goods + Decimal(shipping["charged"]) + Decimal(shipping.get("tax", "0"))
    return {
        "order_id": order_id,
        "customer": {"customer_id": "c-1", "account_id": changes.pop("account_id", "acc-1")},
        "currency": "USD",
        "lines": lines,
        "shipping": shipping,
        "payments": [{"payment_id": "p-1", "method": "card", "amount": str(total)}],
    } | changes


def finding(line_id: str = "1", quantity: int = 1, **changes: bool) -> dict[str, Any]:
    """The findings on units that are as they should be; any of the three can be changed."""
    return {
        "line_id": line_id,
        "quantity": quantity,
        "same_condition": True,
        "original_packaging": True,
        "tags_attached": True,
    } | changes


def types(outcome: Mapping[str, Any]) -> list[str]:
    """The type names of an outcome's events."""
    return [event["type"] for event in outcome["events"]]


def failed(outcome: Mapping[str, Any]) -> list[str]:
    """The clauses of an outcome that failed, sorted."""
    ruling = outcome["ruling"] or {"clauses": []}
    return sorted(clause["clause"] for clause in ruling["clauses"] if clause["verdict"] == "fail")


def clause(outcome: Mapping[str, Any], clause_id: str) -> dict[str, Any]:
    """The one finding on a clause: in an outcome's ruling, or in a part of an eligibility answer."""
    ruling = outcome.get("ruling", outcome)
    (found,) = [finding for finding in ruling["clauses"] if finding["clause"] == clause_id]
    return dict(found)


def verdicts(outcome: Mapping[str, Any]) -> dict[str, str]:
    """Clause id → verdict of an outcome's ruling."""
    return {finding["clause"]: finding["verdict"] for finding in outcome["ruling"]["clauses"]}


def code(outcome: Mapping[str, Any]) -> str | None:
    """The error code of an outcome, which then recorded nothing."""
    if outcome["error"] is None:
        return None
    assert outcome["outcome"] == "error"
    assert outcome["events"] == []
    return str(outcome["error"]["code"])


def policy_where(*changes: tuple[str, str]) -> PolicyBook:
    """The bundled policy with pieces of its text replaced, each of which stands there exactly once."""
    from pathlib import Path

    from returnable.domain import policy as module

    text = (Path(module.__file__).parent / "policies" / "allu-usa.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands there {text.count(old)} times"
        text = text.replace(old, new)
    return PolicyBook([module.parse_policy(text, "variant.toml")])


def without(clause_id: str) -> PolicyBook:
    """The bundled policy of a merchant who has no such clause."""
    head = f'[clauses."{clause_id}"]\n'
    return policy_where((head, f"{head}applies = false\n"))


def ship(
    story: Story, parcel_id: str, at: str, units: Mapping[str, int] | None = None, **fields: Any
) -> dict[str, Any]:
    """A parcel of order ``A-1`` is with the carrier; ``units``: line → how many (default: all that are left)."""
    lines = {"lines": [{"line_id": name, "quantity": count} for name, count in units.items()]} if units else {}
    given = {"order_id": "A-1", "parcel_id": parcel_id, "carrier": "fedex", "tracking_number": f"T-{parcel_id}"}
    return story.tell("record_shipment", at, **(given | lines | fields))


def ask_return(story: Story, at: str, units: Mapping[str, int] | int = 1, **fields: Any) -> dict[str, Any]:
    """Units of order ``A-1`` (a number: of line ``1``) are to go back as return ``R-1`` through the portal."""
    wanted = {"1": units} if isinstance(units, int) else units
    lines = [{"line_id": name, "quantity": count} for name, count in wanted.items()]
    given = {"return_id": "R-1", "order_id": "A-1", "lines": lines, "channel": "portal"}
    return story.tell("request_return", at, **(given | fields))


def issue(story: Story, label_id: str, at: str | None = None, **fields: Any) -> dict[str, Any]:
    """A prepaid label for return ``R-1``."""
    given = {"return_id": "R-1", "label_id": label_id, "carrier": "fedex", "tracking_number": f"RT-{label_id}"}
    return story.tell("issue_label", at, **(given | fields))


def brought_back(
    story: Story, units: Mapping[str, int], return_id: str = "R-1", own_label: bool = False, **rejected: int
) -> None:
    """Units of the delivered order ``A-1`` come back within a day and are inspected; ``rejected``: line → how many."""
    steps = [ask_return(story, story.at, units, return_id=return_id)]
    if not own_label:
        steps.append(issue(story, f"L-{return_id}", return_id=return_id))
    used = {} if own_label else {"label_id": f"L-{return_id}"}
    steps.append(story.tell("record_return_shipment", return_id=return_id, **used))
    steps.append(story.tell("receive_return", return_id=return_id))
    findings = [
        finding(name, count - rejected.get(name, 0)) for name, count in units.items() if count > rejected.get(name, 0)
    ]
    findings += [finding(name, count, tags_attached=False) for name, count in rejected.items()]
    steps.append(story.tell("inspect_return", return_id=return_id, findings=findings))
    assert [step["outcome"] for step in steps] == ["accepted"] * len(steps), steps
