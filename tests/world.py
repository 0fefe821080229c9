"""A small world in which things happen: orders, parcels, returns, claims, refunds, and a clock that likes deadlines.

Every step is one number: it seeds the dice that choose the next command, so that a failing history shrinks to the few
steps that matter. The commands are mostly sensible where the case stands, and sometimes not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from returnable.adapters.wiring import Parts, assemble
from returnable.domain.case import Case
from returnable.domain.commands import Command, parse_command
from returnable.domain.errors import Impossible
from returnable.domain.events import Confirmed
from returnable.domain.outcome import Outcome
from returnable.domain.policy import CLAUSE_IDS
from returnable.domain.ports import Recorded

START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
A_MOMENT = timedelta(microseconds=1)

Fields = dict[str, Any]


class World:
    """Desk, clock and a record of what was told; ``step`` lets one thing happen."""

    def __init__(self, parts: Parts | None = None) -> None:
        self.parts = parts or assemble("memory:")
        self.at = START
        self.told: list[tuple[datetime, Fields]] = []
        self.seen: Counter[str] = Counter()
        self.order_ids: list[str] = []
        self._numbers: Counter[str] = Counter()

    # ---- what there is ----------------------------------------------------------------------------------------------

    @property
    def cases(self) -> list[Case]:
        """The cases as the desk knows them."""
        return [self.parts.desk.case(order_id) for order_id in self.order_ids]

    def log(self) -> Sequence[Recorded]:
        """Every fact on record."""
        return self.parts.store.read(0, 1_000_000)

    def instants(self) -> list[datetime]:
        """Every deadline there is, and the turning points around it."""
        found: set[datetime] = set()
        for case in self.cases:
            found.add(case.order.confirmed.cancel_by)
            for parcel in case.order.parcels.values():
                found |= {at for at in (parcel.shipped_at, parcel.return_before, parcel.report_before) if at}
            found |= {label.void_at for ret in case.returns.values() for label in ret.labels.values()}
            found |= {claim.opened.contact_by for claim in case.claims.values()}
            found |= {refund.requested.overdue_at for refund in case.refunds.values()}
        return sorted(found)

    # ---- what happens -----------------------------------------------------------------------------------------------

    def step(self, seed: int) -> tuple[Fields, Command | None, Outcome | Impossible]:
        """Move the clock, choose a command, tell it: what was told, and what came."""
        dice = Random(seed)
        self.at = self._later(dice)
        fields = self._choose(dice)
        self.told.append((self.at, fields))
        try:
            command = parse_command(fields)
        except Impossible as error:
            self._count(fields, error)
            return fields, None, error
        try:
            came: Outcome | Impossible = self.parts.desk.handle(command, self.at)
        except Impossible as error:
            came = error
        self._count(fields, came)
        return fields, command, came

    def _count(self, fields: Fields, came: Outcome | Impossible) -> None:
        if isinstance(came, Impossible):
            self.seen[f"error {came.code}"] += 1
            return
        self.seen[f"{came.outcome} {fields['command']}"] += 1
        for _, _, fact in came.facts:
            self.seen[fact.type] += 1
            if isinstance(fact, Confirmed):
                self.order_ids.append(fact.order_id)

    def _later(self, dice: Random) -> datetime:
        how = dice.random()
        if how < 0.50:
            return self.at
        if how < 0.80:
            return self.at + timedelta(minutes=dice.randint(1, 150))
        if how < 0.90:
            return self.at + timedelta(hours=dice.randint(1, 30))
        near = [at + dice.choice((-1, 0, 1)) * A_MOMENT for at in self.instants()]
        ahead = [at for at in near if at >= self.at]
        if how < 0.98 and ahead:
            return dice.choice(ahead[:4])
        return self.at + timedelta(days=dice.randint(1, 5), seconds=dice.randint(0, 7200))

    def _own_time(self, dice: Random, name: str, earlier: float = 0.3) -> Fields:
        how = dice.random()
        if how > earlier:
            return {}
        past = [at for at in self.instants() if START <= at <= self.at]
        if how < earlier / 3 and past:
            at = dice.choice(past) + dice.choice((-1, 0, 1)) * A_MOMENT
        elif how < earlier * 0.98:
            at = self.at - timedelta(minutes=dice.choice((0, 1, 59, 121, 60 * 25, 60 * 24 * 3, 60 * 24 * 9)))
        else:
            at = self.at + A_MOMENT
        return {name: at}

    def _new(self, kind: str) -> str:
        self._numbers[kind] += 1
        return f"{kind}-{self._numbers[kind]}"

    def _choose(self, dice: Random) -> Fields:
        cases = self.cases
        if not cases or (len(cases) < 2 and dice.random() < 0.012):
            fields = self._order(dice)
        elif dice.random() < 0.08:
            fields = self._wild(dice, cases)
        else:
            likely = [choice for case in cases for choice in self._likely(dice, case)]
            likely += [(1.5, lambda: {"command": "run_deadlines"})]
            weights = [weight for weight, _ in likely]
            fields = dice.choices(likely, weights)[0][1]()
            if dice.random() < 0.07:
                fields = self._spoilt(dice, fields)
        if dice.random() < 0.7:
            fields["command_id"] = f"c-{len(self.told)}"
        if dice.random() < 0.3:
            fields["actor"] = {"role": dice.choice(("customer", "care", "warehouse", "system")), "id": "someone"}
        return fields

    # ---- the commands -----------------------------------------------------------------------------------------------

    def _order(self, dice: Random) -> Fields:
        lines, due = [], 0
        for number in range(dice.choice((1, 1, 1, 2, 3))):
            price = dice.choice((0, 1, 1999, 30000, 49999, 50000, 75000))
            quantity, tax = dice.choice((1, 2, 3, 5)), dice.choice((0, 1, 5, 100, 3333))
            due += price * quantity + tax
            lines.append(
                {
                    "line_id": str(number + 1),
                    "sku": f"SKU-{number}",
                    "unit_price": _major(price),
                    "quantity": quantity,
                    "tax": _major(tax),
                    "final_sale": dice.random() < 0.06,
                }
            )
        shipping, shipping_tax = dice.choice(((0, 0), (1500, 0), (1500, 133)))
        due += shipping + shipping_tax
        cuts = sorted(dice.randint(0, due) for _ in range(dice.choice((0, 0, 1, 2))))
        amounts = [end - begin for begin, end in zip([0, *cuts], [*cuts, due], strict=True)]
        if not due and dice.random() < 0.5:
            amounts = []
        return {
            "command": "confirm_order",
            "order_id": self._new("A"),
            "customer": {"customer_id": "cu-1", "account_id": "acc-1" if dice.random() < 0.8 else None},
            "currency": "USD" if dice.random() < 0.9 else "EUR",
            "lines": lines,
            "shipping": {"charged": _major(shipping), "tax": _major(shipping_tax)},
            "payments": [
                {"payment_id": f"p-{number}", "method": "card", "amount": _major(amount)}
                for number, amount in enumerate(amounts, start=1)
            ],
            **self._own_time(dice, "confirmed_at", 0.1),
        }

    def _likely(self, dice: Random, case: Case) -> Iterator[tuple[float, Callable[[], Fields]]]:
        order, order_id = case.order, case.order.order_id
        on_order = {"order_id": order_id}
        if any(order.in_parcels(line.line_id) < line.quantity for line in order.lines.values()):
            yield 10, lambda: self._shipment(dice, case)
        for parcel in order.parcels.values():
            on_parcel = {**on_order, "parcel_id": parcel.parcel_id}
            yield (
                (0.05 if parcel.delivered_at else 14),
                lambda on=on_parcel: {
                    "command": "record_delivery",
                    **on,
                    **self._own_time(dice, "delivered_at", 0.1),
                },
            )
            yield 0.05, lambda on=on_parcel: self._shipment(dice, case) | on
        pardoned = any(aside.clause == "cancellation.not_shipped" for aside in order.asides)
        yield (2.5 if order.status == "confirmed" or pardoned else 0.4), lambda: self._cancellation(dice, order_id)
        if order.status == "cancelled":
            yield (4 if _refundable(case, order.stream) else 0.2), lambda: self._refund(on_order)
        if order.account_id is None or dice.random() < 0.02:
            yield 1.5, lambda: {"command": "link_account", **on_order, "account_id": "acc-2"}
        if any(order.delivered(line_id) for line_id in order.lines):
            free = [line_id for line_id in order.lines if self._free(case, line_id)]
            in_time = any(self.at < (order.return_before(line_id) or self.at) for line_id in free)
            early = any(self.at < (order.report_before(line_id) or self.at) for line_id in free)
            if sum(ret.status != "declined" for ret in case.returns.values()) < 6:
                yield (6 if in_time else 0.2), lambda: self._return(dice, case)
            if sum(claim.status != "denied" for claim in case.claims.values()) < 4:
                yield (2 if early else 0.2), lambda: self._claim(dice, case)
        if order.notices_owed:
            subject = {"kind": "order", "id": order_id}
            yield 1, lambda: {"command": "notify_customer", "subject": subject, "notice": "We have decided."}
        yield 0.4, lambda: self._override(dice, "order", order_id)
        for return_id in case.returns:
            yield from self._likely_of_return(dice, case, return_id)
        for claim_id in case.claims:
            yield from self._likely_of_claim(dice, case, claim_id)
        for refund in case.refunds.values():
            for payment_id, status in refund.tenders.items():
                on_tender = {"refund_id": refund.refund_id, "payment_id": payment_id}
                yield (3 if status == "requested" else 0.1), lambda on=on_tender: self._result(dice, on)

    def _likely_of_return(
        self, dice: Random, case: Case, return_id: str
    ) -> Iterator[tuple[float, Callable[[], Fields]]]:
        ret, on_return = case.returns[return_id], {"return_id": return_id}
        status = ret.status
        open_ = status in ("authorized", "labelled", "in_transit", "received", "inspected", "rejected", "lost")
        yield (0.4 if open_ else 0.02), lambda: self._override(dice, "return", return_id)
        if status in ("authorized", "labelled"):
            yield (9 if status == "authorized" else 0.5), lambda: self._label(dice, return_id)
            yield (4 if status == "labelled" else 2), lambda: self._hand_over(dice, case, return_id)
            yield 0.6, lambda: {"command": "withdraw_return", **on_return}
        if status in ("authorized", "labelled", "in_transit", "lost"):
            weight = 4 if status in ("in_transit", "lost") else 1
            yield weight, lambda: {"command": "receive_return", **on_return, **self._own_time(dice, "received_at")}
        for label in ret.labels.values():
            on_label = {**on_return, "label_id": label.label_id}
            if label.received_at is None:
                yield (
                    3,
                    lambda on=on_label: {
                        "command": "record_label_received",
                        **on,
                        **self._own_time(dice, "received_at"),
                    },
                )
            if status == "labelled":
                yield 1, lambda on=on_label: {"command": "void_label", **on, "reason": "The wrong carrier."}
        if status == "in_transit":
            yield 2, lambda: {"command": "report_return_lost", **on_return, **self._own_time(dice, "reported_at")}
        if status in ("received", "inspected") and any(ret.uninspected(line.line_id) for line in ret.lines):
            yield 8, lambda: self._inspection(dice, case, return_id)
        if open_:
            pardoned = any(
                aside.clause == "returns.refund_after_inspection" for aside in (*case.order.asides, *ret.asides)
            )
            ripe = (status == "inspected" or pardoned) and _refundable(case, ret.stream)
            yield (6 if ripe else 0.4), lambda: self._refund(on_return)
        if ret.anything_to_send_back():
            yield 3, lambda: self._send_back(dice, case, return_id)

    def _likely_of_claim(self, dice: Random, case: Case, claim_id: str) -> Iterator[tuple[float, Callable[[], Fields]]]:
        claim, on_claim = case.claims[claim_id], {"claim_id": claim_id}
        if claim.status == "open":
            some = dice.choice((["order_confirmation"], ["item_picture"], ["item_picture", "order_confirmation"]))
            yield 3, lambda: {"command": "add_claim_evidence", **on_claim, "attachments": some}
            yield 2, lambda: {"command": "record_claim_contact", **on_claim, **self._own_time(dice, "contacted_at")}
            remedy = dice.choice(("refund", "refund", "replacement", "both"))
            yield 3, lambda: {"command": "resolve_claim", **on_claim, "remedy": remedy}
            yield 0.4, lambda: {"command": "deny_claim", **on_claim, "reason": "It is the right item."}
            yield 0.3, lambda: self._override(dice, "claim", claim_id)
        if claim.status == "resolved":
            owed = claim.remedy != "replacement" and _refundable(case, claim.stream)
            yield (4 if owed else 0.2), lambda: self._refund(on_claim)

    def _shipment(self, dice: Random, case: Case) -> Fields:
        order = case.order
        fields: Fields = {
            "command": "record_shipment",
            "order_id": order.order_id,
            "parcel_id": self._new("P"),
            "carrier": dice.choice(("fedex", "ups")),
            "tracking_number": "T-1",
            **self._own_time(dice, "shipped_at", 0.1),
        }
        left = {line.line_id: line.quantity - order.in_parcels(line.line_id) for line in order.lines.values()}
        some = {line_id: dice.randint(1, count) for line_id, count in left.items() if count and dice.random() < 0.6}
        if some and dice.random() < 0.3:
            fields["lines"] = [{"line_id": line_id, "quantity": count} for line_id, count in some.items()]
        return fields

    def _cancellation(self, dice: Random, order_id: str) -> Fields:
        shown = dice.choice(({"order_reference": order_id}, {"order_reference": order_id}, {"order_copy": True}, {}))
        return {
            "command": "request_cancellation",
            "order_id": order_id,
            "channel": "email" if dice.random() < 0.85 else "phone",
            **shown,
            **self._own_time(dice, "requested_at"),
        }

    def _free(self, case: Case, line_id: str) -> int:
        return max(0, case.order.delivered(line_id) - sum(case.held[line_id].values()))

    def _return(self, dice: Random, case: Case) -> Fields:
        lines = []
        for line in case.order.lines.values():
            free = self._free(case, line.line_id)
            if free > 0 and not (line.final_sale and dice.random() < 0.8) and dice.random() < 0.7:
                lines.append(
                    {"line_id": line.line_id, "quantity": dice.randint(1, min(free, 2)), "reason": "It is too small."}
                )
        return {
            "command": "request_return",
            "return_id": self._new("R"),
            "order_id": case.order.order_id,
            "lines": lines or [{"line_id": "1", "quantity": 1}],
            "channel": "portal" if dice.random() < 0.9 else "phone",
            "resolution": "refund" if dice.random() < 0.93 else "exchange",
            **self._own_time(dice, "requested_at"),
        }

    def _claim(self, dice: Random, case: Case) -> Fields:
        line = dice.choice(list(case.order.lines.values()))
        return {
            "command": "report_wrong_item",
            "claim_id": self._new("C"),
            "order_id": case.order.order_id,
            "line_id": line.line_id,
            "quantity": dice.randint(1, max(1, min(2, self._free(case, line.line_id)))),
            "channel": "email" if dice.random() < 0.9 else "portal",
            "attachments": dice.choice(([], ["item_picture"], ["order_confirmation", "item_picture"])),
            **self._own_time(dice, "reported_at", 0.4),
        }

    def _label(self, dice: Random, return_id: str) -> Fields:
        return {
            "command": "issue_label",
            "return_id": return_id,
            "label_id": self._new("L"),
            "carrier": "fedex",
            "tracking_number": "RT-1",
            **self._own_time(dice, "issued_at", 0.2),
            **self._own_time(dice, "received_at", 0.2),
        }

    def _hand_over(self, dice: Random, case: Case, return_id: str) -> Fields:
        labels = list(case.returns[return_id].labels)
        return {
            "command": "record_return_shipment",
            "return_id": return_id,
            **({"label_id": dice.choice(labels)} if labels and dice.random() < 0.8 else {}),
            **({"proof": dice.choice(("carrier_scan", "counter_receipt"))} if dice.random() < 0.5 else {}),
            **self._own_time(dice, "shipped_at", 0.4),
        }

    def _inspection(self, dice: Random, case: Case, return_id: str) -> Fields:
        ret = case.returns[return_id]
        findings = []
        for line in ret.lines:
            left = ret.uninspected(line.line_id)
            while left and dice.random() < 0.8:
                count = dice.randint(1, left)
                left -= count
                good = dice.random() < 0.65
                findings.append(
                    {
                        "line_id": line.line_id,
                        "quantity": count,
                        "same_condition": good,
                        "original_packaging": good or dice.random() < 0.5,
                        "tags_attached": True,
                    }
                )
        findings = findings or [
            {
                "line_id": ret.lines[0].line_id,
                "quantity": 1,
                "same_condition": True,
                "original_packaging": True,
                "tags_attached": True,
            }
        ]
        own = self._own_time(dice, "inspected_at", 0.2)
        return {"command": "inspect_return", "return_id": return_id, "findings": findings, **own}

    def _send_back(self, dice: Random, case: Case, return_id: str) -> Fields:
        ret = case.returns[return_id]
        left = {line.line_id: ret.to_send_back(line.line_id) for line in ret.lines}
        lines = [{"line_id": name, "quantity": dice.randint(1, count)} for name, count in left.items() if count > 0]
        own = self._own_time(dice, "sent_at", 0.2)
        return {"command": "record_send_back", "return_id": return_id, "lines": lines, **own}

    def _refund(self, subject: Fields) -> Fields:
        return {"command": "request_refund", "refund_id": self._new("F"), **subject}

    def _result(self, dice: Random, on_tender: Fields) -> Fields:
        if dice.random() < 0.75:
            return {"command": "record_refund_result", **on_tender, "result": "succeeded", "reference": "re-1"}
        return {"command": "record_refund_result", **on_tender, "result": "failed", "reason": "The card is closed."}

    def _override(self, dice: Random, kind: str, name: str) -> Fields:
        ours = [clause for clause in CLAUSE_IDS if clause.startswith(PREFIX_OF[kind])]
        mighty = [clause for clause in ours if clause in MIGHTY]
        clause = dice.choice(mighty if dice.random() < 0.7 else ours) if dice.random() < 0.97 else "returns.kindness"
        return {
            "command": "override",
            "subject": {"kind": kind, "id": name},
            "clause": clause,
            "reason": "A good customer.",
            "approved_by": "Ann",
        }

    def _spoilt(self, dice: Random, fields: Fields) -> Fields:
        key = dice.choice([key for key in fields if key != "command"] or ["order_id"])
        value = fields.get(key)
        if isinstance(value, str) and key.endswith("_id"):
            worse: Any = dice.choice((f"{value}x", "R-1", "A-1", "P-1", "C-1", "F-1", "L-1"))
        elif isinstance(value, list) and value and isinstance(value[0], dict) and "quantity" in value[0]:
            worse = [{**value[0], "quantity": value[0]["quantity"] + dice.choice((0, 1, 7))}, *value[1:]]
        else:
            worse = dice.choice((None, 7, "", "something else", [], "2026-03-05T10:00:00"))
        return {**fields, key: worse}

    def _wild(self, dice: Random, cases: Sequence[Case]) -> Fields:
        def one_of(names: list[str], unknown: str) -> str:
            return dice.choice(names) if names and dice.random() < 0.85 else unknown

        order_id = one_of([case.order.order_id for case in cases], "A-9")
        return_id = one_of([name for case in cases for name in case.returns], "R-9")
        claim_id = one_of([name for case in cases for name in case.claims], "C-9")
        refund_id = one_of([name for case in cases for name in case.refunds], "F-9")
        kind, name = dice.choice(
            (("order", order_id), ("return", return_id), ("claim", claim_id), ("refund", refund_id))
        )
        line = {"line_id": dice.choice(("1", "2", "9")), "quantity": dice.choice((1, 2))}
        findings = {"same_condition": True, "original_packaging": True, "tags_attached": True}
        choices: list[Fields] = [
            self._order(dice) | {"order_id": order_id},
            self._cancellation(dice, order_id),
            {"command": "record_delivery", "order_id": order_id, "parcel_id": "P-1"},
            {"command": "record_shipment", "order_id": order_id, "parcel_id": "P-1", "lines": [line]}
            | {"carrier": "dhl", "tracking_number": "T-9"},
            {"command": "request_return", "order_id": order_id, "return_id": return_id, "lines": [line]}
            | {"channel": "portal"},
            self._label(dice, return_id),
            {"command": "record_label_received", "return_id": return_id, "label_id": "L-1"},
            {"command": "void_label", "return_id": return_id, "label_id": "L-1", "reason": "Why not."},
            {"command": "record_return_shipment", "return_id": return_id},
            {"command": "receive_return", "return_id": return_id},
            {"command": "inspect_return", "return_id": return_id, "findings": [line | findings]},
            self._refund({"return_id": return_id}),
            self._refund({"order_id": order_id}),
            self._refund({"claim_id": claim_id}),
            self._refund({"claim_id": claim_id}) | {"refund_id": refund_id},
            self._result(dice, {"refund_id": refund_id, "payment_id": dice.choice(("p-1", "p-2", "p-9"))}),
            {"command": "record_send_back", "return_id": return_id, "lines": [line]},
            {"command": "report_return_lost", "return_id": return_id},
            {"command": "withdraw_return", "return_id": return_id},
            {"command": "report_wrong_item", "claim_id": claim_id, "order_id": order_id, "line_id": "1"}
            | {"channel": "email"},
            {"command": "add_claim_evidence", "claim_id": claim_id, "attachments": ["item_picture"]},
            {"command": "record_claim_contact", "claim_id": claim_id},
            {"command": "resolve_claim", "claim_id": claim_id, "remedy": "both"},
            {"command": "deny_claim", "claim_id": claim_id, "reason": "No."},
            {"command": "notify_customer", "subject": {"kind": kind, "id": name}, "notice": "Hello."},
            {"command": "tell_a_joke"},
        ]
        return dice.choice(choices)


MIGHTY = frozenset(
    {"cancellation.window", "cancellation.not_shipped", "returns.window", "returns.ship_by", "returns.condition"}
    | {"returns.label_fee", "returns.refund_after_inspection", "returns.shipping_non_refundable", "wrong_item.window"}
    | {"wrong_item.evidence"}
)
"""The clauses that change most when they are set aside."""

PREFIX_OF = {"order": ("cancellation.", "returns.", "wrong_item."), "return": ("returns.",), "claim": ("wrong_item.",)}


def _refundable(case: Case, stream: str) -> bool:
    asked = [refund for refund in case.refunds.values() if refund.stream == stream]
    return not asked or asked[-1].status == "failed"


def _major(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02}"
