"""Money is exact: amounts round-trip, and a sum splits to the cent."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from returnable.domain.events import BoughtLine
from returnable.domain.money import (
    MINOR_UNIT_DIGITS,
    MoneyInvalid,
    decimal_to_minor,
    minor_unit_digits,
    split,
    to_major,
    to_minor,
)
from returnable.domain.refunds.owed import tax_of_units

CURRENCIES = st.sampled_from(sorted(MINOR_UNIT_DIGITS))
WEIGHTS = st.lists(st.integers(0, 10**12), min_size=1, max_size=12)


@given(st.integers(0, 10**12 - 1), CURRENCIES)
def test_an_amount_survives_the_way_to_a_decimal_string_and_back(minor: int, currency: str) -> None:
    text = to_major(minor, currency)

    assert to_minor(text, currency) == minor
    assert Decimal(text) == Decimal(minor) / 10 ** minor_unit_digits(currency)


@given(st.integers(1, 10**15), CURRENCIES)
def test_a_negative_amount_is_the_positive_one_with_a_sign(minor: int, currency: str) -> None:
    assert to_major(-minor, currency) == f"-{to_major(minor, currency)}"


@given(st.decimals(0, 10**9, places=2))
def test_a_decimal_of_the_policy_means_the_same_in_minor_units(amount: Decimal) -> None:
    assert decimal_to_minor(amount, "USD") == amount * 100


@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", "+1", "1.", ".5", "01", "00", "1e3", "1,000.00", "1_000", "0x1", "NaN", "Infinity", "٣", "1.00 ",
     "1.00\n", "1000000000000", "-0.01", "--0", "0." + "0" * 39, "½"],
)  # fmt: skip
def test_what_is_not_a_plain_decimal_amount_is_refused(text: str) -> None:
    with pytest.raises(MoneyInvalid):
        to_minor(text, "USD")


@pytest.mark.parametrize(
    ("text", "currency"), [("0.001", "USD"), ("0.5", "JPY"), ("1.0001", "BHD"), ("3299.05", "JPY")]
)
def test_more_digits_than_the_currency_has_are_refused(text: str, currency: str) -> None:
    with pytest.raises(MoneyInvalid, match="decimal places"):
        to_minor(text, currency)


def test_a_refused_amount_is_not_echoed_at_length() -> None:
    with pytest.raises(MoneyInvalid) as refused:
        to_minor("9" * 1_000_000, "USD")

    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("currency", ["", "usd", "US", "USDX", "XXX", "BTC"])
def test_a_currency_is_one_of_the_iso_codes(currency: str) -> None:
    with pytest.raises(MoneyInvalid, match="ISO 4217"):
        minor_unit_digits(currency)


@given(st.integers(0, 10**12), WEIGHTS)
def test_a_split_adds_up_and_every_share_is_within_a_cent_of_its_proportion(total: int, weights: list[int]) -> None:
    assume(sum(weights))

    shares = split(total, weights)

    assert sum(shares) == total
    assert len(shares) == len(weights)
    for share, weight in zip(shares, weights, strict=True):
        exact = total * weight
        assert exact // sum(weights) <= share <= exact // sum(weights) + 1
        assert share == 0 or weight > 0


@given(WEIGHTS, st.data())
def test_no_share_exceeds_its_weight_while_the_total_does_not_exceed_the_sum(
    weights: list[int], data: st.DataObject
) -> None:
    total = data.draw(st.integers(0, sum(weights)))

    shares = split(total, weights)

    assert all(share <= weight for share, weight in zip(shares, weights, strict=True))


@given(st.integers(0, 10**9), st.integers(1, 10**6), st.integers(1, 12))
def test_ties_go_to_the_earlier_share(total: int, weight: int, count: int) -> None:
    shares = split(total, [weight] * count)

    assert shares == sorted(shares, reverse=True)
    assert shares[0] - shares[-1] <= 1


@given(st.integers(0, 10**9), WEIGHTS)
def test_a_heavier_share_is_never_smaller(total: int, weights: list[int]) -> None:
    assume(sum(weights))

    shares = split(total, weights)

    by_weight = sorted(zip(weights, shares, strict=True))
    for (light, less), (heavy, more) in zip(by_weight, by_weight[1:], strict=False):
        assert less <= more or light == heavy


def test_nothing_splits_over_nothing_and_something_does_not() -> None:
    assert split(0, [0, 0]) == [0, 0]
    assert split(0, []) == []
    with pytest.raises(ValueError, match="nothing to split over"):
        split(1, [0, 0])


@pytest.mark.parametrize(("total", "weights"), [(-1, [1]), (1, [2, -1])])
def test_only_amounts_that_are_not_negative_are_split(total: int, weights: list[int]) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        split(total, weights)


@given(st.integers(0, 10**7), st.integers(1, 50), st.data())
def test_the_tax_of_a_line_spreads_over_its_units_in_however_many_steps(
    tax: int, quantity: int, data: st.DataObject
) -> None:
    line = BoughtLine(line_id="1", sku="S", unit_price=1, quantity=quantity, tax=tax)
    cuts = sorted(data.draw(st.sets(st.integers(0, quantity)))) or [0]
    steps = list(zip([0, *cuts], [*cuts, quantity], strict=True))

    shares = [tax_of_units(line, begin, end - begin) for begin, end in steps]

    assert sum(shares) == tax
    assert [tax_of_units(line, unit, 1) for unit in range(quantity)] == split(tax, [1] * quantity)
