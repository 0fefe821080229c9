"""Sums of money are exact, however large the amounts are that make them up."""

from __future__ import annotations

import json
from decimal import Decimal
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from terminal import returnable

from returnable.adapters.wiring import assemble
from returnable.domain.fields import MANY
from returnable.domain.money import MINOR_UNIT_DIGITS, split, sum_to_minor, to_major, to_minor
from returnable.testing import Scenario, a_return, an_order, request_cancellation

CURRENCIES = ("JPY", "USD", "IDR", "KWD", "CLF")
"""Currencies of no, two, three and four digits."""


def most(currency: str) -> int:
    """The largest amount that anybody can give, in minor units."""
    return 10 ** (12 + MINOR_UNIT_DIGITS[currency]) - 1


def payments(total: int, currency: str) -> list[dict[str, str]]:
    """As few payments as can pay a total."""
    largest = most(currency)
    count = -(-total // largest)
    assert count <= MANY
    return [
        {"payment_id": f"p-{nth}", "method": "card", "amount": to_major(share, currency)}
        for nth, share in enumerate(split(total, [1] * count), start=1)
    ]


def dear_order(order_id: str, currency: str, price: int, quantity: int) -> Any:
    """A delivered order of so many units at that price, in minor units."""
    return an_order(
        order_id,
        currency=currency,
        price=to_major(price, currency),
        quantity=quantity,
        tax=to_major(0, currency),
        shipping=to_major(0, currency),
        payments=payments(price * quantity, currency),
        delivered="2026-03-05 14:00",
    )


@st.composite
def dear(draw: st.DrawFn) -> tuple[str, int, int]:
    """A currency, a price in minor units and a quantity, so that few payments suffice."""
    currency = draw(st.sampled_from(CURRENCIES))
    price = draw(st.integers(most(currency) // 10**6, most(currency)))
    return currency, price, draw(st.integers(1, min(10**6, 3 * most(currency) // price)))


def shop_of(folder: str, currency: str, price: int, quantity: int) -> str:
    """A store with two such orders that came back and were refunded, and one that was cancelled."""
    url = f"sqlite:///{folder}/shop.db"
    story = Scenario(assemble(url))
    for nth in (1, 2):
        back = a_return(
            f"R-{nth}",
            units=quantity,
            order_id=f"A-{nth}",
            requested="2026-03-09 12:00",
            labelled="2026-03-09 12:30",
            inspected="2026-03-16 10:00",
            refunded=True,
            refund_id=f"F-{nth}",
        )
        story.given(dear_order(f"A-{nth}", currency, price, quantity), *back)
    cancelled = an_order(
        "A-3",
        confirmed="2026-04-01 10:00",
        currency=currency,
        price=to_major(price, currency),
        quantity=quantity,
        tax=to_major(0, currency),
        shipping=to_major(0, currency),
        payments=payments(price * quantity, currency),
    )
    story.given(cancelled, request_cancellation("A-3", order_reference="A-3", at="2026-04-01 11:00"))
    story.services.store.close()
    return url


LISTS = ("orders", "returns", "refunds", "claims", "ledger --json", "statistics", "statistics --json")
QUESTIONS = (
    "order A-3",
    "return R-1",
    "refund --order A-3",
    "eligibility A-3",
    "audit order/A-3",
    "worklist",
    "report A-3 --format json -",
    "report return/R-1 --format html -",
    "report F-1 --format text -",
    "why R-1",
    "replay order/A-1",
    "edges order/A-1",
    "redecide",
    "what-if --policy allu-usa-earlier",
    "export --format csv --view clauses -",
    "publish --to stdout: --once",
)


def asked(url: str, question: str) -> str:
    """What the command line answers."""
    status, out, err = returnable(*question.split(), "--store", url)
    assert status == 0, (question, err)
    return out


def lines(text: str) -> list[dict[str, Any]]:
    """JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


@settings(max_examples=3)
@given(dear())
@example(("IDR", 10**12, 1))
@example(("CLF", 9_000_000_000_000_001, 1000))
def test_every_answer_about_dear_orders_is_exact(order: tuple[str, int, int]) -> None:
    currency, price, quantity = order
    total = price * quantity
    whole = to_major(total, currency)
    with TemporaryDirectory() as folder:
        url = shop_of(folder, *order)

        told = {question: asked(url, question) for question in QUESTIONS}
        before = {question: asked(url, question) for question in LISTS}
        built = returnable("project", "--store", url)
        after = {question: asked(url, question) for question in LISTS}
        views = json.loads(asked(url, "project --status --json"))["views"]

        assert built[0] == 0, built
        assert not [view for view in views if view["parked"]], views
        assert after == before
        assert json.loads(asked(url, "refund F-1 --json"))["total"] == whole
        captured = [sum_to_minor(row["captured"], currency) for row in lines(after["ledger --json"])]
        assert sum(captured) == 3 * total
        counted = {row["clause"]: row for row in lines(after["statistics --json"])}
        assert counted["returns.window"]["passed"] == {"decisions": 2, "amount": to_major(2 * total, currency)}
        made = json.loads(asked(url, "report F-1 --json"))
        (sheet,) = made["money"]["sheets"]
        assert sheet["total"] == whole
        assert sum(sum_to_minor(row["amount"], currency) for row in sheet["rows"]) == total
        assert whole in told["report F-1 --format text -"]
        assert whole in told["report return/R-1 --format html -"]
        exports_are_exact(url, folder, currency, total)


def exports_are_exact(url: str, folder: str, currency: str, total: int) -> None:
    """Every table adds up to the same sums, and the scenario plays."""
    expected = Decimal(2 * total).scaleb(-MINOR_UNIT_DIGITS[currency])
    for form in ("csv", "jsonl", "parquet"):
        file = f"{folder}/facts.{form}"
        asked(url, f"export --format {form} {file}")
        table = f"read_csv('{file}', types = {{'amount': 'DECIMAL(24, 4)'}})" if form == "csv" else f"'{file}'"
        found = duckdb.sql(f"SELECT sum(amount::DECIMAL(24, 4)) FROM {table} WHERE type = 'RefundRequested'").fetchall()
        assert found == [(expected,)], form
    amounts = pq.read_table(f"{folder}/facts.parquet", columns=["amount"])["amount"].to_pylist()
    assert max(amount for amount in amounts if amount is not None) == expected / 2
    asked(url, f"export --format scenario {folder}/all.jsonl")
    status, out, err = returnable("play", "--check", f"{folder}/all.jsonl")
    assert status == 0, out + err


@given(st.integers(-(10**40), 10**40), st.sampled_from(sorted(MINOR_UNIT_DIGITS)))
def test_a_sum_survives_the_way_to_a_decimal_string_and_back(minor: int, currency: str) -> None:
    assert sum_to_minor(to_major(minor, currency), currency) == minor


def test_one_amount_still_has_its_bound() -> None:
    with pytest.raises(ValueError, match="decimal amount"):
        to_minor("1000000000000", "JPY")
