"""What went back or was cancelled before the desk becomes facts without a ruling, once, and nothing is paid again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from returnable.adapters.imports.mapping import MappingInvalid, read_mapping
from returnable.adapters.imports.planning import Planner
from returnable.adapters.imports.reading import read_orders
from returnable.adapters.imports.running import DryRun, Live, Refusal, Summary, run_import
from returnable.adapters.imports.values import Refused
from returnable.adapters.wiring import assemble
from returnable.domain.commands import CancelOrder, Command, RecordRefund, RequestReturn
from returnable.domain.events import (
    Confirmed,
    PaidElsewhere,
    RefundRecorded,
    RefundRequested,
    RefundReversed,
    RefundSettled,
    Tender,
)
from returnable.domain.policy import bundled_policies
from returnable.domain.ports import Recorded
from returnable.facade import Desk
from returnable.testing import Scenario, an_order

MORNING = datetime(2026, 3, 9, 15, 0, tzinfo=UTC)

ORDERS = """\
name = "shop"
rows = "lines"
[format]
times = ["%Y-%m-%d %H:%M"]
zone = "UTC"
{more}
[order]
order_id = "id"
confirmed_at = "paid"
currency = "currency"
[order.customer]
customer_id = "id"
[[order.lines]]
sku = "sku"
unit_price = {{ column = "price", divided_by = "n" }}
quantity = "n"
[[order.payments]]
method = {{ value = "card" }}
amount = "card"
[[order.payments]]
method = {{ value = "gift_card" }}
amount = "gift"
{sections}
"""
HEADER = "id,paid,currency,sku,price,n,card,gift,back,back_at,gone_at,back_n"

TOTAL = """
[[refunds]]
total = "back"
refunded_at = { columns = ["back_at", "gone_at"] }
"""
PAST = """
[[cancellations]]
cancelled_at = "gone_at"
"""

KNOWN = """\
name = "payouts"
rows = "lines"
order_id = "order"
[format]
times = ["%Y-%m-%d %H:%M"]
zone = "UTC"
"""


def written(folder: Path, mapping: str, *rows: str) -> tuple[Path, Path]:
    """A mapping and a table as files."""
    files = folder / "shop.toml", folder / "orders.csv"
    files[0].write_text(mapping, encoding="utf-8")
    files[1].write_text("\n".join((*rows, "")), encoding="utf-8")
    return files


def planned(folder: Path, mapping: str, *rows: str, known: Sequence[Recorded] = ()) -> list[Command]:
    """The commands that a table becomes, without those that confirm its orders."""
    files = written(folder, mapping, *rows)
    read = read_mapping(str(files[0]))
    planner = Planner(read)
    commands: list[Command] = []
    for order in read_orders(str(files[1]), read, planner):
        assert order.refused is None
        events = [entry for entry in known if entry.case_id == order.order_id]
        plan = planner.plan(order.order_id, order.rows, lambda _, events=events: events)
        commands += [one.command for one in plan.commands] if plan is not None else []
    return [one for one in commands if one.command != "confirm_order"]


def of_orders(folder: Path, sections: str, *rows: str, more: str = "", known: Sequence[Recorded] = ()) -> list[Any]:
    """The planned commands of a table of orders."""
    return planned(folder, ORDERS.format(sections=sections, more=more), HEADER, *rows, known=known)


def of_known(
    folder: Path, sections: str, header: str, *rows: str, known: Sequence[Recorded] = (), more: str = ""
) -> Any:
    """The planned commands of a table about orders in the store."""
    top, form = KNOWN.split("[format]")
    return planned(folder, f"{top}{more}\n[format]{form}{sections}", header, *rows, known=known or stored())


def stored(*payments: str, **order: Any) -> list[Recorded]:
    """The usual order, A-1, in a store."""
    if payments:
        order["payments"] = [
            {"payment_id": f"pay-{n}", "method": "card", "amount": amount} for n, amount in enumerate(payments, start=1)
        ]
    story = Scenario().given(an_order(**order))
    return list(story.services.store.read(0, 100))


def then(known: list[Recorded], *events: Any) -> list[Recorded]:
    """More events of that order."""
    last = known[-1]
    return known + [
        Recorded(last.position + n, last.case_id, last.case_seq + n, last.stream, last.version + n, event)
        for n, event in enumerate(events, start=1)
    ]


def paid_back(command: RecordRefund) -> list[tuple[str, str]]:
    return [(tender.payment_id, tender.amount) for tender in command.tenders]


# ---- refunds of a table of orders ------------------------------------------------------------------------------------


def test_what_went_back_in_all_is_one_refund_of_the_past(tmp_path: Path) -> None:
    (refund,) = of_orders(tmp_path, TOTAL, "A-1,2026-03-02 10:00,USD,HOOD,35.00,1,35.00,,10.60,2026-03-04 09:00,,")

    assert isinstance(refund, RecordRefund)
    assert (refund.refund_id, refund.order_id, refund.kind) == ("import/shop/A-1/refunded/10.60", "A-1", "past")
    assert paid_back(refund) == [("1", "10.60")]
    assert (refund.refunded_at, refund.lines, refund.reason) == (datetime(2026, 3, 4, 9, 0, tzinfo=UTC), None, None)
    assert refund.command_id == "import/shop/A-1/record_refund/10.60"


@pytest.mark.parametrize("back", ["", "0.00", "-0.00", "0"])
def test_nothing_went_back_where_the_amount_is_empty_or_zero(back: str, tmp_path: Path) -> None:
    assert of_orders(tmp_path, TOTAL, f"A-1,2026-03-02 10:00,USD,HOOD,35.00,1,35.00,,{back},,,") == []


@pytest.mark.parametrize(
    ("amount", "back", "expected"),
    [
        ('"back"', "-10.60", "column 'back': -10.6 is negative"),
        ('{ value = 0, minus = ["back"] }', "-10.60", "10.60"),
        ("{ column = 'back', match = '^-?(.*)$' }", "-10.60", "10.60"),
        ("{ column = 'back', match = '^-?(.*)$' }", "10.6", "10.60"),
        ('"back"', "$10.60", "10.60"),
        ('"back"', "€10.60", "column 'back': '€' is not of USD"),
        ('"back"', "10.605", "column 'back': 10.605 is not a whole amount of USD"),
    ],
)
def test_a_sign_of_money_and_a_minus_are_read_as_the_mapping_says(
    amount: str, back: str, expected: str, tmp_path: Path
) -> None:
    sections = TOTAL.replace('total = "back"', f"amount = {amount}")
    row = f"A-1,2026-03-02 10:00,USD,HOOD,35.00,1,35.00,,{back},2026-03-04 09:00,,"
    try:
        (refund,) = of_orders(tmp_path, sections, row)
    except Refused as refused:
        assert (refused.reason, refused.field, refused.command) == (expected, "amount", "record_refund")
    else:
        assert paid_back(refund) == [("1", expected)]


def test_a_refund_without_a_time_is_refused_and_never_dated_by_guess(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        of_orders(tmp_path, TOTAL, "A-1,2026-03-02 10:00,USD,HOOD,35.00,1,35.00,,10.60,,,")

    assert (caught.value.field, caught.value.reason) == ("refunded_at", "columns 'back_at' and 'gone_at' are empty")


@pytest.mark.parametrize(
    ("back", "expected"),
    [
        ("30.00", [("1", "20.00"), ("2", "10.00")]),
        ("0.01", [("1", "0.01")]),
        ("90.00", [("1", "60.00"), ("2", "30.00")]),
        ("100.00", [("1", "66.67"), ("2", "33.33")]),  # more than was paid: a fact all the same
    ],
)
def test_a_refund_goes_to_the_payments_by_their_amounts(
    back: str, expected: list[tuple[str, str]], tmp_path: Path
) -> None:
    row = f"A-1,2026-03-02 10:00,USD,HOOD,90.00,1,60.00,30.00,{back},2026-03-04 09:00,,"

    (refund,) = of_orders(tmp_path, TOTAL, row)

    assert paid_back(refund) == expected


@given(paid=st.lists(st.integers(1, 500), min_size=1, max_size=4), data=st.data())
def test_refunds_up_to_what_was_paid_take_no_payment_over_its_amount(
    paid: list[int], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    backs: list[int] = []
    while sum(backs) < sum(paid) and len(backs) < 6:
        backs.append(data.draw(st.integers(1, sum(paid) - sum(backs))))
    payments = "".join(
        f'[[order.payments]]\nmethod = {{ value = "card" }}\namount = "p{n}"\n' for n in range(len(paid))
    )
    refunds = "".join(f'[[refunds]]\namount = "b{n}"\nrefunded_at = "paid"\n' for n in range(len(backs)))
    text = ORDERS.format(sections=refunds, more="")
    start, end = text.index("[[order.payments]]"), text.index("[[refunds]]")
    cells = [f"{amount / 100:.2f}" for amount in (*paid, *backs)]
    header = ",".join([*(f"p{n}" for n in range(len(paid))), *(f"b{n}" for n in range(len(backs)))])
    row = f"A-1,2026-03-02 10:00,USD,HOOD,{sum(paid) / 100:.2f},1"

    refunds_planned: list[Any] = planned(
        tmp_path_factory.mktemp("past"),
        text[:start] + payments + text[end:],
        f"id,paid,currency,sku,price,n,{header}",
        f"{row},{','.join(cells)}",
    )

    gone = dict.fromkeys((str(n) for n in range(1, len(paid) + 1)), 0)
    for refund in refunds_planned:
        for name, amount in paid_back(refund):
            gone[name] += round(float(amount) * 100)
    assert [sum(round(float(a) * 100) for _, a in paid_back(one)) for one in refunds_planned] == backs
    assert all(amount <= paid[int(name) - 1] for name, amount in gone.items())


def test_several_columns_of_refunds_are_several_refunds(tmp_path: Path) -> None:
    sections = """
[[refunds]]
amount = "back"
refunded_at = "back_at"
kind = { value = "goodwill" }
reason = { value = "late" }
[[refunds]]
when = { column = "gone_at", empty = false }
refund_id = { template = "re_{id}" }
amount = "card"
refunded_at = "gone_at"
payment_id = { value = "1" }
reference = { value = "ch_9" }
"""
    row = "A-1,2026-03-02 10:00,USD,HOOD,90.00,1,60.00,30.00,3.00,2026-03-04 09:00,{},"
    first, second = of_orders(tmp_path, sections, row.format("2026-03-05 09:00"))

    assert (first.refund_id, first.kind, first.reason) == ("import/shop/A-1/refund/1", "goodwill", "late")
    assert (first.command_id, paid_back(first)) == (
        "import/shop/A-1/record_refund/1",
        [("1", "2.00"), ("2", "1.00")],
    )
    assert (second.refund_id, second.kind, paid_back(second)) == ("re_A-1", "past", [("1", "60.00")])
    assert (second.command_id, second.tenders[0].reference) == ("import/shop/A-1/record_refund/re_A-1", "ch_9")
    assert len(of_orders(tmp_path, sections, row.format(""))) == 1


def test_amounts_and_units_of_lines_make_one_refund(tmp_path: Path) -> None:
    sections = """
[[refunds]]
refunded_at = "back_at"
[[refunds.lines]]
quantity = "back_n"
amount = "back"
"""
    rows = (
        "A-1,2026-03-02 10:00,USD,HOOD,35.00,1,45.00,,35.00,2026-03-04 09:00,,1",
        "A-1,2026-03-02 10:00,USD,SOCK,10.00,3,,,3.34,,,1",
    )

    (refund,) = of_orders(tmp_path, sections, *rows)

    assert paid_back(refund) == [("1", "38.34")]
    assert [(line.line_id, line.quantity) for line in refund.lines] == [("1", 1), ("2", 1)]


def test_units_of_a_split_line_are_taken_from_both_parts_by_returns_and_refunds_alike(tmp_path: Path) -> None:
    sections = """
[[returns]]
return_id = { value = "R-1" }
requested_at = "back_at"
channel = { value = "portal" }
[[returns.lines]]
quantity = "back_n"
[[refunds]]
amount = "back"
refunded_at = "back_at"
[[refunds.lines]]
quantity = "back_n"
"""
    row = "A-1,2026-03-02 10:00,USD,SOCK,10.00,3,10.00,,10.00,2026-03-04 09:00,,3"

    asked, refund = of_orders(tmp_path, sections, row)

    assert [(line.line_id, line.quantity) for line in asked.lines] == [("1", 2), ("1/2", 1)]
    assert [(line.line_id, line.quantity) for line in refund.lines] == [("1", 2), ("1/2", 1)]


def test_an_order_without_payments_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        of_orders(tmp_path, TOTAL, "A-1,2026-03-02 10:00,USD,FREE,0.00,1,,,1.00,2026-03-04 09:00,,")

    assert (caught.value.field, caught.value.reason) == (
        "payment_id",
        "the order has no payments: name what was paid back",
    )


def test_the_longest_order_id_still_has_refunds_of_its_own(tmp_path: Path) -> None:
    order_id = "A" * 128
    row = f"{order_id},2026-03-02 10:00,USD,HOOD,35.00,1,35.00,,10.60,2026-03-04 09:00,,"

    (refund,) = of_orders(tmp_path, TOTAL, row)

    assert refund.refund_id.endswith("/10.60")
    assert len(refund.refund_id) <= 128
    assert refund.refund_id.split("~")[0] == f"import/shop/{'A' * 35}"


# ---- a total that is read again --------------------------------------------------------------------------------------

MINE = "import/shop/A-1/refunded/"


def recorded_refund(refund_id: str, amount: int) -> RefundRecorded:
    tenders = (PaidElsewhere(payment_id="pay-1", amount=amount),)
    return RefundRecorded(
        occurred_at=MORNING, recorded_at=MORNING, refund_id=refund_id, kind="past", currency="USD", tenders=tenders
    )


def asked(refund_id: str, amount: int) -> RefundRequested:
    return RefundRequested.model_construct(refund_id=refund_id, tenders=(Tender(payment_id="pay-1", amount=amount),))


def settled(refund_id: str, amount: int, kind: type[Any] = RefundSettled, currency: str = "USD") -> Any:
    return kind(
        occurred_at=MORNING,
        recorded_at=MORNING,
        refund_id=refund_id,
        payment_id="pay-1",
        amount=amount,
        currency=currency,
    )


@pytest.mark.parametrize(
    ("events", "back", "expected"),
    [
        ([recorded_refund(f"{MINE}10.60", 1060)], "10.60", None),
        ([recorded_refund(f"{MINE}10.60", 1060)], "35.00", "24.40"),
        ([recorded_refund(f"{MINE}10.60", 1060), recorded_refund(f"{MINE}12.00", 140)], "35.00", "23.00"),
        ([recorded_refund(f"{MINE}10.60", 1060)], "5.00", "5.00 went back, but 10.60 are on record"),
        ([recorded_refund(f"{MINE}10.60", 1060)], "", "0.00 went back, but 10.60 are on record"),
        # The desk paid back itself, or another recorded a refund: is it in the total?
        ([asked("F-1", 500), settled("F-1", 500)], "", None),
        ([asked("F-1", 500), settled("F-1", 500)], "5.00", None),
        ([recorded_refund(f"{MINE}10.60", 1060), asked("F-1", 500), settled("F-1", 500)], "15.60", None),
        ([recorded_refund(f"{MINE}10.60", 1060), asked("F-1", 500), settled("F-1", 500)], "10.60", None),
        (
            [recorded_refund(f"{MINE}10.60", 1060), asked("F-1", 500), settled("F-1", 500)],
            "20.00",
            "20.00 went back, on record are 15.60 with refund 'F-1', which is not of this import",
        ),
        (
            [asked("F-1", 500)],  # on its way
            "5.00",
            "5.00 went back, on record are 0.00 with refund 'F-1', which is not of this import",
        ),
        ([asked("F-1", 500), settled("F-1", 500), settled("F-1", 500, RefundReversed)], "", None),
        ([asked("F-1", 500), settled("F-1", 500, currency="EUR")], "0.00", None),
    ],
)
def test_of_a_total_that_grew_only_the_difference_is_recorded(
    events: list[Any], back: str, expected: str | None, tmp_path: Path
) -> None:
    row = f"A-1,2026-03-02 10:00,USD,HOOD,750.00,1,750.00,,{back},2026-03-04 09:00,,"
    try:
        refunds = of_orders(tmp_path, TOTAL, row, known=then(stored(), *events))
    except Refused as refused:
        assert (refused.reason, refused.code, refused.field) == (expected, "command.conflict", "total")
    else:
        assert [sum(float(tender.amount) for tender in one.tenders) for one in refunds] == (
            [] if expected is None else [float(expected)]
        )
        assert [one.refund_id for one in refunds] == ([] if expected is None else [f"{MINE}{back}"])


# ---- cancellations ---------------------------------------------------------------------------------------------------


def test_an_order_that_was_cancelled_and_refunded_is_told_so_without_a_request(tmp_path: Path) -> None:
    row = "A-1,2026-03-02 10:00,USD,BAG,250.00,1,250.00,,250.00,,2026-03-03 12:00,"

    cancelled, refund = of_orders(tmp_path, PAST + TOTAL, row)

    noon = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
    assert isinstance(cancelled, CancelOrder)
    assert (cancelled.elsewhere, cancelled.reason, cancelled.lines) == (True, "not stated", None)
    assert (cancelled.cancelled_at, cancelled.command_id) == (noon, "import/shop/A-1/cancel_order/1")
    assert (paid_back(refund), refund.refunded_at) == ([("1", "250.00")], noon)


def test_single_lines_of_an_order_may_be_cancelled(tmp_path: Path) -> None:
    sections = PAST + 'reason = { value = "out of stock" }\n[[cancellations.lines]]\nquantity = "back_n"\n'
    rows = (
        "A-1,2026-03-02 10:00,USD,HOOD,35.00,1,45.00,,,,2026-03-03 12:00,",
        "A-1,2026-03-02 10:00,USD,SOCK,10.00,2,,,,,,1",
    )

    (cancelled,) = of_orders(tmp_path, sections, *rows)

    assert (cancelled.reason, [(line.line_id, line.quantity) for line in cancelled.lines]) == (
        "out of stock",
        [("2", 1)],
    )
    assert of_orders(tmp_path, sections, rows[0]) == []  # a list without units is not the whole order


def test_a_request_and_a_cancellation_of_the_past_are_told_apart_by_conditions(tmp_path: Path) -> None:
    sections = """
[cancellation]
when = { column = "back", empty = true }
requested_at = "gone_at"
channel = { value = "email" }
[[cancellations]]
when = { column = "back", empty = false }
cancelled_at = "gone_at"
"""
    rows = (
        "A-1,2026-03-02 10:00,USD,BAG,250.00,1,250.00,,,,2026-03-03 12:00,",
        "A-2,2026-03-02 10:00,USD,BAG,250.00,1,250.00,,250.00,,2026-03-03 12:00,",
    )

    commands = of_orders(tmp_path, sections, *rows)

    assert [(one.command, one.order_id) for one in commands] == [
        ("request_cancellation", "A-1"),
        ("cancel_order", "A-2"),
    ]


STATUS = """
[status]
column = "sku"
[status.means]
GONE = ["confirmed", "cancelled"]
BACK = ["confirmed", "refunded"]
MAYBE = ["confirmed", "cancelled?", "refunded?"]
NONE = ["confirmed"]
"""


@pytest.mark.parametrize(
    ("status", "cells", "expected"),
    [
        ("GONE", "10.60,2026-03-04 09:00,2026-03-03 12:00,", ["cancel_order"]),
        ("GONE", "10.60,2026-03-04 09:00,,", "cancelled_at: is empty, but the status says that it happened"),
        ("BACK", "10.60,2026-03-04 09:00,2026-03-03 12:00,", ["record_refund"]),
        ("BACK", "0.00,2026-03-04 09:00,2026-03-03 12:00,", "amount: is empty, but the status says that it happened"),
        ("MAYBE", "10.60,2026-03-04 09:00,2026-03-03 12:00,", ["cancel_order", "record_refund"]),
        ("MAYBE", ",,,", []),
        ("NONE", "10.60,2026-03-04 09:00,2026-03-03 12:00,", []),
    ],
)
def test_a_status_says_whether_money_went_back(
    status: str, cells: str, expected: list[str] | str, tmp_path: Path
) -> None:
    row = f"A-1,2026-03-02 10:00,USD,{status},35.00,1,35.00,,{cells}"
    try:
        assert [one.command for one in of_orders(tmp_path, PAST + TOTAL, row, more=STATUS)] == expected
    except Refused as refused:
        assert f"{refused.field}: {refused.reason}" == expected


# ---- orders that are known -------------------------------------------------------------------------------------------

REFUNDS = """
[[refunds]]
refund_id = "id"
amount = "amount"
refunded_at = "at"
"""
REFUND_HEADER = "order,id,amount,at"


def test_refunds_of_known_orders_need_no_order_in_the_table(tmp_path: Path) -> None:
    refunds = of_known(
        tmp_path,
        REFUNDS,
        REFUND_HEADER,
        "A-1,re_1,3.00,2026-03-10 09:00",
        "A-1,re_2,6.00,2026-03-11 09:00",
        known=stored("500.00", "250.00"),
    )

    assert [(one.refund_id, paid_back(one), one.command_id) for one in refunds] == [
        ("re_1", [("pay-1", "2.00"), ("pay-2", "1.00")], "import/payouts/A-1/record_refund/re_1"),
        ("re_2", [("pay-1", "4.00"), ("pay-2", "2.00")], "import/payouts/A-1/record_refund/re_2"),
    ]


def test_the_currency_of_a_known_order_reads_the_amount(tmp_path: Path) -> None:
    yen = stored("100", currency="JPY", lines=[{"line_id": "1", "sku": "S", "unit_price": "100", "quantity": 1}])

    (refund,) = of_known(tmp_path, REFUNDS, REFUND_HEADER, "A-1,re_1,¥40,2026-03-10 09:00", known=yen)
    reasons = []
    for amount in ("$40", "40.5"):
        with pytest.raises(Refused) as caught:
            of_known(tmp_path, REFUNDS, REFUND_HEADER, f"A-1,re_1,{amount},2026-03-10 09:00", known=yen)
        reasons.append(caught.value.reason)

    assert paid_back(refund) == [("pay-1", "40")]
    assert reasons == ["column 'amount': '$' is not of JPY", "column 'amount': 40.5 is not a whole amount of JPY"]


def test_an_order_that_is_not_known_is_a_refusal_of_its_rows(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        of_known(tmp_path, REFUNDS, REFUND_HEADER, "Z-9,re_1,3.00,2026-03-10 09:00")

    refused = caught.value
    assert (refused.row, refused.field, refused.code, refused.reason) == (
        2,
        "order_id",
        "order.unknown",
        "there is no order 'Z-9'",
    )


def test_rows_of_one_refund_are_added_up_and_rows_of_other_kinds_are_left_out(tmp_path: Path) -> None:
    sections = """
[[refunds]]
refund_id = "id"
refunded_at = "at"
[[refunds.lines]]
when = { column = "type", in = ["ItemPrice", "Promotion"] }
amount = { value = 0, minus = ["amount"] }
"""
    refunds = of_known(
        tmp_path,
        sections,
        "order,kind,id,type,amount,at",
        ",Fee,,Subscription,-39.99,2026-03-01 09:00",
        "A-1,Order,,ItemPrice,750.00,2026-03-02 09:00",
        "A-1,Refund,adj-1,ItemPrice,-42.00,2026-03-10 09:00",
        "A-1,Refund,adj-1,ItemPrice,-3.36,2026-03-10 09:00",
        "A-1,Refund,adj-1,Promotion,2.00,2026-03-10 09:00",
        "A-1,Refund,adj-1,ItemFees,6.30,2026-03-10 09:00",
        "A-1,Refund,adj-2,ItemPrice,-10.00,2026-03-12 09:00",
        more='only = [{ column = "kind", in = ["Refund"] }]',
        known=stored("750.00"),
    )

    assert [(one.refund_id, paid_back(one)) for one in refunds] == [
        ("adj-1", [("pay-1", "43.36")]),
        ("adj-2", [("pay-1", "10.00")]),
    ]


def test_a_row_without_an_order_is_refused_unless_the_mapping_leaves_it_out(tmp_path: Path) -> None:
    only = 'only = [{ column = "amount", not_in = ["0.00"] }]\n[format]'
    mapping = KNOWN.replace("[format]", only) + REFUNDS
    files = written(tmp_path, mapping, REFUND_HEADER, ",re_1,0.00,", ",re_2,3.00,2026-03-10 09:00")
    read = read_mapping(str(files[0]))

    orders = list(read_orders(str(files[1]), read, Planner(read)))

    assert [(one.refused and one.refused.row, one.refused and one.refused.reason) for one in orders] == [
        (None, None),
        (3, "is empty"),
    ]


RETURNS = """
[[returns]]
return_id = "id"
requested_at = "at"
channel = { value = "amazon" }
[[returns.lines]]
line_id = "line"
quantity = "n"
reason = "why"
"""


def test_several_returns_of_one_order_are_told_by_their_ids(tmp_path: Path) -> None:
    lines = [
        {"line_id": "MUG", "sku": "MUG", "unit_price": "20.00", "quantity": 2},
        {"line_id": "HAT", "sku": "HAT", "unit_price": "5.00", "quantity": 1},
    ]
    returns = of_known(
        tmp_path,
        RETURNS,
        "order,id,line,n,why,at",
        "A-1,R-1,MUG,1,broken,2026-03-10 09:00",
        "A-1,R-1,HAT,1,,2026-03-10 09:00",
        "A-1,R-2,MUG,1,late,2026-03-12 09:00",
        known=stored("45.00", lines=lines),
    )

    assert all(isinstance(one, RequestReturn) for one in returns)
    assert [(one.return_id, [(line.line_id, line.reason) for line in one.lines]) for one in returns] == [
        ("R-1", [("MUG", "broken"), ("HAT", None)]),
        ("R-2", [("MUG", "late")]),
    ]


def test_each_of_several_returns_needs_its_time(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        of_known(tmp_path, RETURNS, "order,id,line,n,why,at", "A-1,R-1,1,1,,2026-03-10 09:00", "A-1,R-2,1,1,,")

    assert (caught.value.row, caught.value.field, caught.value.reason) == (3, "requested_at", "column 'at' is empty")


def test_the_only_line_of_a_known_order_needs_no_name_also_where_it_was_split(tmp_path: Path) -> None:
    sections = REFUNDS + '[[refunds.lines]]\nquantity = "n"\n'
    half = {"line_id": "1", "sku": "BELT", "unit_price": "18.33", "quantity": 2}
    known = stored("55.00", lines=[half, half | {"line_id": "1/2", "unit_price": "18.34", "quantity": 1}])
    other = [half, half | {"line_id": "2", "unit_price": "18.34", "quantity": 1}]

    (refund,) = of_known(tmp_path, sections, f"{REFUND_HEADER},n", "A-1,re_1,55.00,2026-03-10 09:00,3", known=known)
    row = "A-1,re_1,55.00,2026-03-10 09:00,3"
    with pytest.raises(Refused) as caught:
        of_known(tmp_path, sections, f"{REFUND_HEADER},n", row, known=stored("55.00", lines=other))

    assert [(line.line_id, line.quantity) for line in refund.lines] == [("1", 2), ("1/2", 1)]
    assert caught.value.reason == "which line is meant? The row has 2"


def test_cancellations_and_parcels_of_known_orders_are_told_too(tmp_path: Path) -> None:
    sections = """
[[cancellations]]
when = { column = "what", in = ["cancelled"] }
cancelled_at = "at"
[[parcels]]
when = { column = "what", in = ["sent"] }
carrier = { value = "ups" }
tracking_number = "id"
shipped_at = "at"
"""
    rows = ("A-1,sent,1Z-1,2026-03-10 09:00",)

    commands = of_known(tmp_path, sections, "order,what,id,at", *rows)
    other = of_known(tmp_path, sections, "order,what,id,at", "A-1,cancelled,,2026-03-10 09:00")

    assert [one.command for one in (*commands, *other)] == ["record_shipment", "cancel_order"]


# ---- the mapping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (KNOWN + "[[refunds]]\nrefunded_at = 'a'", "refunds.0: needs exactly one of amount, total and lines.amount"),
        (KNOWN + "[[refunds]]\nrefunded_at = 'a'\namount = 'b'\ntotal = 'c'", "refunds.0: needs exactly one of"),
        (
            KNOWN + "[[refunds]]\nrefunded_at = 'a'\namount = 'b'\n[[refunds.lines]]\namount = 'c'",
            "refunds.0: needs exactly one of amount, total and lines.amount",
        ),
        (
            KNOWN + "[[refunds]]\nrefunded_at = 'a'\ntotal = 'b'\nrefund_id = 'c'",
            "refunds.0: total excludes refund_id",
        ),
        (KNOWN + "[[refunds]]\nrefunded_at = 'a'\namount = 'b'", "refunds.0: needs refund_id"),
        (KNOWN + "[[refunds]]\namount = 'b'\nrefund_id = 'c'", "refunds.0.refunded_at: is missing"),
        (
            KNOWN + "[[refunds]]\nrefunded_at = 'a'\ntotal = 'b'\n" * 2,
            "refunds: a total excludes other refunds",
        ),
        (KNOWN.replace('order_id = "order"', ""), "needs exactly one of order and order_id"),
        (ORDERS.format(more="", sections="").replace("rows =", "order_id = 'a'\nrows ="), "needs exactly one of order"),
        (
            KNOWN + "[status]\ncolumn = 'a'\nmeans = { x = ['confirmed'] }",
            "status.means: x: confirmed must have happened, but there is no [order]",
        ),
        (
            KNOWN + "[status]\ncolumn = 'a'\nmeans = { x = ['refunded'] }",
            "status.means: x: refunded must have happened, but there is no [[refunds]]",
        ),
        (
            KNOWN + "[status]\ncolumn = 'a'\nmeans = { x = ['cancelled'] }",
            "status.means: x: cancelled must have happened, but there is no [cancellation] or [[cancellations]]",
        ),
        (KNOWN + "[[refunds]]\nrefunded_at = 'a'\namount = { due = true }", "due is only for the amount of a payment"),
    ],
)
def test_a_mapping_of_the_past_that_contradicts_itself_is_an_error_naming_the_place(
    mapping: str, expected: str, tmp_path: Path
) -> None:
    files = written(tmp_path, mapping, "order")

    with pytest.raises(MappingInvalid) as caught:
        read_mapping(str(files[0]))

    assert expected in str(caught.value)


def test_the_usual_known_order_is_a_confirmed_one() -> None:
    assert isinstance(stored()[0].event, Confirmed)


# ---- in a store ------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


class Imported:
    """A store, a desk on it, and imports into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.services = assemble("memory:")
        self.desk = Desk(self.services, lambda: NOW)
        self.refusals: list[Refusal] = []

    def load(self, mapping: str, *rows: str) -> Summary:
        """Import a table, after a trial that must come to the same."""
        files = written(self.folder, mapping, *rows)
        read = read_mapping(str(files[0]))
        head = self.services.store.head()
        summaries: list[Summary] = []
        for sink in (DryRun(self.services.store, bundled_policies(), lambda: NOW), Live(self.services, lambda: NOW)):
            self.refusals = []
            assert self.services.store.head() == head
            planner = Planner(read)
            orders = read_orders(str(files[1]), read, planner)
            summaries.append(run_import(orders, planner, sink, self.refusals.append))
        assert summaries[0].as_dict() == summaries[1].as_dict()
        return summaries[1]

    def orders(self, sections: str, *rows: str) -> Summary:
        """Import a table of orders."""
        return self.load(ORDERS.format(sections=sections, more=""), HEADER, *rows)

    @property
    def refunded(self) -> list[tuple[str, str, str]]:
        """Payment, captured and refunded, from the ledger."""
        return [(one.payment_id, one.captured, one.refunded) for one in self.desk.ledger()]


def test_a_total_that_grows_is_in_the_ledger_once(tmp_path: Path) -> None:
    shop = Imported(tmp_path)
    row = "A-1,2026-03-02 10:00,USD,HOOD,90.00,1,60.00,30.00,{},2026-03-04 09:00,,"

    first = shop.orders(TOTAL, row.format("10.60"))
    again = shop.orders(TOTAL, row.format("10.60"))
    grown = shop.orders(TOTAL, row.format("90.00"))
    after = shop.orders(TOTAL, row.format("90.00"))
    less = shop.orders(TOTAL, row.format("9.00"))

    assert (dict(first.commands), first.exceptions) == ({"confirm_order": 1, "record_refund": 1}, 0)
    assert [dict(one.commands) for one in (again, grown, after, less)] == [{}, {"record_refund": 1}, {}, {}]
    assert (again.already, after.already, less.refused) == (1, 1, 1)
    assert less.reasons == {"command.conflict total": 1}
    assert shop.refunded == [("1", "60.00", "60.00"), ("2", "30.00", "30.00")]
    assert shop.desk.worklist().items == ()


def test_more_than_was_paid_is_recorded_with_an_exception(tmp_path: Path) -> None:
    shop = Imported(tmp_path)

    summary = shop.orders(TOTAL, "A-1,2026-03-02 10:00,USD,HOOD,90.00,1,60.00,30.00,100.00,2026-03-04 09:00,,")

    assert (summary.refused, summary.exceptions) == (0, 1)
    assert shop.refunded == [("1", "60.00", "66.67"), ("2", "30.00", "33.33")]


def test_the_desk_pays_only_what_the_past_has_left(tmp_path: Path) -> None:
    shop = Imported(tmp_path)
    request = '[cancellation]\nrequested_at = "gone_at"\nchannel = { value = "email" }\norder_reference = "id"\n'

    shop.orders(
        request + TOTAL, "A-1,2026-03-02 10:00,USD,BAG,300.00,1,300.00,,50.00,2026-03-02 10:10,2026-03-02 11:00,"
    )
    shop.desk.request_refund(refund_id="F-1", order_id="A-1")

    assert shop.desk.refund(refund_id="F-1").total == "250.00"


def test_an_order_of_the_past_that_was_cancelled_and_refunded_is_over(tmp_path: Path) -> None:
    shop = Imported(tmp_path)
    row = "A-1,2026-03-02 10:00,USD,BAG,250.00,1,250.00,,250.00,,2026-03-03 12:00,"

    summary = shop.orders(PAST + TOTAL, row)
    again = shop.orders(PAST + TOTAL, row)

    assert dict(summary.commands) == {"confirm_order": 1, "cancel_order": 1, "record_refund": 1}
    assert (summary.exceptions, again.commands_on_record, dict(again.commands)) == (0, 2, {})
    assert shop.desk.order(order_id="A-1").status == "cancelled"
    assert shop.refunded == [("1", "250.00", "250.00")]
    assert shop.desk.worklist().items == ()


def test_tables_about_known_orders_follow_the_table_of_orders(tmp_path: Path) -> None:
    shop = Imported(tmp_path)
    shop.orders("", *(f"A-{n},2026-03-02 10:00,USD,HOOD,90.00,1,90.00,,,,," for n in (1, 2)))
    rows = [
        "A-1,re_1,10.00,2026-03-10 09:00",
        "A-1,re_2,5.00,2026-03-11 09:00",
        "A-2,re_1,5.00,2026-03-11 09:00",
        "Z-9,re_4,5.00,2026-03-11 09:00",
    ]

    first = shop.load(KNOWN + REFUNDS, REFUND_HEADER, *rows)
    refusals = [(one.row, one.order_id, one.command, one.field, one.code) for one in shop.refusals]
    second = shop.load(KNOWN + REFUNDS, REFUND_HEADER, *rows)

    assert (first.imported, first.refused, dict(first.commands)) == (1, 2, {"record_refund": 2})
    assert refusals == [
        (4, "A-2", "record_refund", "refund_id", "refund.exists"),
        (5, "Z-9", "", "order_id", "order.unknown"),
    ]
    assert (second.already, second.commands_on_record, dict(second.commands)) == (1, 2, {})
    assert shop.refunded == [("1", "90.00", "15.00"), ("1", "90.00", "0.00")]
