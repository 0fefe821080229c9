"""Names, texts, ids, instants and amounts as people and programs write them. No test asks the Unicode table of Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from returnable.adapters.printable import identifier, printable, visible
from returnable.domain.characters import NOT_IN_ID, NOT_IN_LINE, NOT_IN_TEXT, is_unseen, why_refused
from returnable.domain.commands import parse_command, parse_question
from returnable.domain.errors import Impossible
from returnable.domain.fields import parse_instant, to_text
from returnable.domain.money import MINOR_UNIT_DIGITS, MoneyInvalid, to_major, to_minor

NAMES = [
    "Jean\u00a0Dupont",
    "山田\u3000太郎",
    "Ann \U0001fae8",
    "Zoë O’Brien-Ångström",
    "Nguyễn Thị Ánh",
    "e\u0301 o\u0302\u0301",
    "12\u202f000",
    "thin\u2009space, ogham\u1680space, em\u2003space",
    "می\u200cخواهم",
    "ශ්\u200dරී ලංකා",
    "क्\u200dष",
    "שלום\u200f עולם",
    "\u061cمحمد\u200e",
    "👩\u200d👩\u200d👧 🏳\ufe0f\u200d🌈 👍🏽 1\ufe0f\u20e3",
    "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
    "葛\U000e0100城",
    "홍\u3164길동 \u115f\u1160",
    "Haar\u00adband, Mug\u200b, a\u2060b, \ufeffBOM",
    "Apple \uf8ff \U000f0000 \U00100000",
    "ᠮᠣᠩᠭᠣᠯ\u180e\u180b",
    "\u2800x",
    "\u0600١٢ ۝",
    "Z̷̛͖a͖l͖g͖o",
    "not assigned yet: \u0378 \U0001faff \U000e1000",
]
"""Each stands for a way in which people are called, or write."""

NEVER = ["\x00", "\x07", "\t", "\x0b", "\x0c", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9b", "\x9f"]
NEVER += ["\ud800", "\udbff", "\udc00", "\udfff"]
NEVER += ["\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069", "\u206a", "\u206f"]
NEVER += ["\ufdd0", "\ufdef", "\ufffe", "\uffff", "\U0001fffe", "\U0010ffff"]
LINE_BREAKS = ["\n", "\r", "\r\n", "\u2028", "\u2029"]
NOT_SEEN = list(
    "\u00a0\u1680\u2000\u2007\u200a\u202f\u205f\u3000\u00ad\u034f\u061c\u115f\u1160\u17b4\u180b\u180e\u200b\u200c\u200d\u200e\u200f"
)
NOT_SEEN += list(
    "\u2060\u2064\u2065\u2800\u3164\ufe00\ufe0f\ufeff\uffa0\ufff0\ufff9\U0001d159\U0001d173\U000e0001\U000e0041\U000e007f"
)
NOT_SEEN += list("\U000e0100\U000e0fff\ue000\uf8ff\U000f0000\U0010fffd")


def order(**changes: Any) -> dict[str, Any]:
    """A ``confirm_order`` of one piece."""
    line = {"line_id": "1", "sku": "S", "unit_price": "60.00", "quantity": 1}
    payment = {"payment_id": "p", "method": "card", "amount": changes.pop("amount", "60.00")}
    customer = {"customer_id": "c", "account_id": None, "name": changes.pop("name", "Ann")}
    line |= {name: changes.pop(name) for name in ("sku", "unit_price", "description") if name in changes}
    usual = {"command": "confirm_order", "order_id": "A-1", "currency": "USD"}
    return {**usual, "customer": customer, "lines": [line], "payments": [payment], **changes}


# ---- texts and ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_people_are_called_is_accepted_as_a_name_and_in_a_text(name: str) -> None:
    command: Any = parse_command(order(name=name, description=f"{name}\r\n{name}"))

    assert command.customer.name == name
    assert command.lines[0].description == f"{name}\r\n{name}"


@pytest.mark.parametrize("char", NEVER)
def test_what_no_text_may_hold_is_named_with_its_place(char: str) -> None:
    for field in ("name", "description", "sku", "order_id"):
        with pytest.raises(Impossible) as refused:
            parse_command(order(**{field: f"Ann{char}"}))

        assert refused.value.field is not None
        assert refused.value.field.endswith(field)
        assert refused.value.reason.endswith(f": character 4 is U+{ord(char):04X}")
        assert char not in refused.value.message


@pytest.mark.parametrize("br", LINE_BREAKS)
def test_a_line_break_belongs_in_a_text_but_in_no_name_and_no_id(br: str) -> None:
    parse_command(order(description=f"too small{br}please refund"))
    for field in ("name", "sku"):
        with pytest.raises(Impossible, match=rf"must not contain line breaks: character 2 is U\+{ord(br[0]):04X}$"):
            parse_command(order(**{field: f"a{br}b"}))


@pytest.mark.parametrize("char", NOT_SEEN)
def test_what_cannot_be_seen_belongs_in_a_text_but_in_no_id(char: str) -> None:
    parse_command(order(name=f"a{char}b", description=f"a{char}b"))
    with pytest.raises(Impossible, match=rf"must not contain .*: character 2 is U\+{ord(char):04X}$"):
        parse_command(order(sku=f"a{char}b"))


@pytest.mark.parametrize(
    "sku", ["Zoë/鞄 #7", "Mug \U0001fae8", "שלום", "مرحبا", "e\u0301", "Ａ－１", "A-1 \u0378", "½″ pipe", "№ 7"]
)
def test_what_can_be_seen_may_stand_in_an_id(sku: str) -> None:
    assert parse_command(order(sku=sku, order_id=sku))


@pytest.mark.parametrize("text", [" ", "\u3000", "\u00a0\u200b", "\u3164", "\n\u2028", "\ufeff", "\U000e0041"])
def test_a_text_of_which_nothing_is_seen_is_blank(text: str) -> None:
    with pytest.raises(Impossible, match=r"description: must not be blank"):
        parse_command(order(description=text))


def test_a_question_may_name_an_id_that_no_command_may_give() -> None:
    earlier = "A-1\u3164"
    with pytest.raises(Impossible):
        parse_command(order(order_id=earlier))

    assert parse_question({"query": "order", "order_id": earlier})


CODE_POINTS = st.integers(0, 0x10FFFF).map(chr)


def is_never(code: int) -> bool:
    """The rule once more, written out as numbers."""
    return (
        (code < 0x20 and code not in (0x0A, 0x0D))
        or 0x7F <= code <= 0x9F
        or 0xD800 <= code <= 0xDFFF
        or 0x202A <= code <= 0x202E
        or 0x2066 <= code <= 0x206F
        or 0xFDD0 <= code <= 0xFDEF
        or code & 0xFFFE == 0xFFFE
    )


def test_the_rule_is_the_same_for_every_code_point_on_every_python() -> None:
    every = [chr(code) for code in range(0x110000)]

    in_text, in_line, in_id = (
        {one for one in every if rule.match(one)} for rule in (NOT_IN_TEXT, NOT_IN_LINE, NOT_IN_ID)
    )

    assert in_text == {one for one in every if is_never(ord(one))}
    assert in_line - in_text == set("\n\r\u2028\u2029")
    assert in_id > in_line
    private = {
        one for one in every if 0xE000 <= ord(one) <= 0xF8FF or (ord(one) >= 0xF0000 and ord(one) & 0xFFFE != 0xFFFE)
    }
    assert in_id > private
    assert len(in_id - in_line - private) == 16 + 4183  # spaces, and what is invisible
    assert not {one for one in in_id if 0x20 <= ord(one) < 0x7F}


@given(st.text(CODE_POINTS, min_size=1, max_size=30))
def test_a_text_is_accepted_exactly_when_the_rule_allows_it_and_nobody_can_forge_with_it(text: str) -> None:
    wrong = next((at for at, one in enumerate(text) if is_never(ord(one))), None)
    try:
        parse_command(order(description=text))
        accepted = True
    except Impossible as refused:
        accepted = False
        told = refused.reason
    if wrong is not None:
        assert not accepted
        assert told.endswith(f": character {wrong + 1} is U+{ord(text[wrong]):04X}")
    elif not accepted:
        assert told == "must not be blank"
        assert all(one == " " or is_unseen(one) for one in text)
    for shown in (visible(text), printable(text), identifier(text)):
        assert not [
            one for one in shown if is_never(ord(one)) or one in "\n\r\u2028\u2029\u200e\u200f\u061c\u200b\u3164"
        ]


@given(st.text(CODE_POINTS, min_size=1, max_size=30))
def test_an_id_that_is_accepted_is_shown_as_it_is(text: str) -> None:
    if why_refused(text, NOT_IN_ID) is None:
        assert not any(is_unseen(one) for one in text)
        assert why_refused(text, NOT_IN_LINE) is None


def test_half_a_character_is_named_in_every_field_that_takes_text() -> None:
    with pytest.raises(Impossible, match=r"^order_id: must not contain lone surrogates: character 1 is U\+DC00$"):
        parse_command({"command": "request_cancellation", "order_id": "\udc00", "channel": "email"})


# ---- instants --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_text", "stored"),
    [
        ("2026-03-02T15:00:00.123456789Z", "2026-03-02T15:00:00.123456Z"),
        ("2024-12-13T09:55:23.0431234Z", "2024-12-13T09:55:23.043123Z"),
        ("2026-03-02T15:00:00.9999999Z", "2026-03-02T15:00:00.999999Z"),
        ("2026-03-02t15:00:00z", "2026-03-02T15:00:00Z"),
        ("2026-03-02 15:00:00.5z", "2026-03-02T15:00:00.500000Z"),
        ("2026-03-02T15:00:00-00:00", "2026-03-02T15:00:00Z"),
        ("2026-03-02T15:00:00." + "0" * 500 + "Z", "2026-03-02T15:00:00Z"),
        ("2026-03-02T15:00:00+23:59", "2026-03-01T15:01:00Z"),
        ("1990-12-31T23:59:60Z", "1990-12-31T23:59:59.999999Z"),
        ("1990-12-31T15:59:60-08:00", "1990-12-31T23:59:59.999999Z"),
        ("2015-07-01T08:59:60.25+09:00", "2015-06-30T23:59:59.999999Z"),
    ],
)
def test_every_form_of_rfc_3339_is_an_instant(given_text: str, stored: str) -> None:
    assert to_text(parse_instant(given_text)) == stored


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02T24:00:00Z", "2026-03-02T15:00:60Z", "2026-03-02T23:59:60Z", "2015-06-30T23:59:60+01:00",
        "2026-03-02T15:00:61Z", "2026-03-02T15:60:00Z", "2026-03-02T15:00:00,5Z", "2026-03-02T15:00:00.Z",
        "2026-03-02T15:00:00+00", "2026-03-02T15:00:00+0000", "2026-03-02T15:00:00+05:60", "2026-03-02T15:00:00 Z",
        "2026-03-02T15:00Z", "2026-03-02T15Z", "2026-03-02T15:00:00", "2026-02-29T15:00:00Z", "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:60Z", "9999-12-31T23:59:59-23:59", "2026-03-02T15:00:00.١Z",
        "2026-W10-1T15:00:00Z", "20260302T150000Z", "2026-03-02_15:00:00Z", "+2026-03-02T15:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_instant_of_rfc_3339_or_of_our_years_is_refused(text: str) -> None:
    with pytest.raises(Impossible) as refused:
        parse_command(order(confirmed_at=text))
    assert refused.value.field == "confirmed_at"


@given(
    st.datetimes(datetime(1991, 1, 1), datetime(2098, 1, 1)),
    st.integers(-1439, 1439),
    st.text("0123456789", max_size=30),
    st.sampled_from("Tt "),
)
def test_an_instant_is_cut_at_the_microsecond_whatever_its_offset(
    local: datetime, offset: int, fraction: str, between: str
) -> None:
    local = local.replace(microsecond=0)
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    digits = f".{fraction}" if fraction else ""

    read = parse_instant(f"{local:%Y-%m-%d}{between}{local:%H:%M:%S}{digits}{sign}{hours:02}:{minutes:02}")

    micro = int(fraction[:6].ljust(6, "0"))
    assert read == (local + timedelta(microseconds=micro, minutes=-offset)).replace(tzinfo=UTC)


# ---- amounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("60.0000", "USD", 6000),
        ("60.0", "USD", 6000),
        ("3299.00", "JPY", 3299),
        ("1500.000", "ISK", 1500),
        ("1.5000000", "BHD", 1500),
        ("-0.00", "USD", 0),
        ("-0", "JPY", 0),
        ("0." + "0" * 38, "EUR", 0),
        ("999999999999.990000", "EUR", 99999999999999),
    ],
)
def test_zeros_beyond_the_digits_of_the_currency_are_no_precision(text: str, currency: str, minor: int) -> None:
    assert to_minor(text, currency) == minor


@given(st.integers(0, 10**11), st.sampled_from(sorted(MINOR_UNIT_DIGITS)), st.integers(1, 20), st.integers(1, 9))
def test_more_zeros_change_no_amount_and_another_digit_is_refused(
    minor: int, currency: str, zeros: int, digit: int
) -> None:
    text = to_major(minor, currency)
    text += ("" if "." in text else ".") + "0" * zeros

    assert to_minor(text, currency) == minor
    with pytest.raises(MoneyInvalid, match="decimal places of"):
        to_minor(f"{text}{digit}", currency)


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ("1" * 41, "must be a decimal amount of at most 40 characters"),
        ("0." + "0" * 39, "must be a decimal amount of at most 40 characters"),
        ("-5.00", "must not be negative"),
        ("1000000000000.00", "must be a decimal amount of less than a trillion"),
        (Decimal(10) / 3, "'3.333333333333333333333333333' has more than the 2 decimal places of USD"),
        (Decimal("-0.01"), "must not be negative"),
        ("1e3", "must be a non-negative decimal string"),
        ("１２.00", "must be a non-negative decimal string"),
        ("1,234.50", "must be a non-negative decimal string"),
        ("NaN", "must be a non-negative decimal string"),
        (Decimal("NaN"), "must be a finite decimal amount of at most 40 characters"),
        (Decimal("1E-50"), "must be a finite decimal amount of at most 40 characters"),
        (5, "never a number"),
        (5.0, "never a number"),
    ],
)
def test_the_limit_that_an_amount_breaks_is_said_in_words(amount: Any, told: str) -> None:
    with pytest.raises(Impossible) as refused:
        parse_command(order(unit_price=amount))

    assert refused.value.field == "lines[0].unit_price"
    assert told in refused.value.reason


@pytest.mark.parametrize(
    "amount", [Decimal("60.0000"), Decimal("6E+1"), Decimal("60"), Decimal("60.000000000000000000000")]
)
def test_a_decimal_means_its_value(amount: Decimal) -> None:
    command: Any = parse_command(order(unit_price=amount))

    assert to_minor(command.lines[0].unit_price, "USD") == 6000


@pytest.mark.parametrize("amount", [Decimal("-0.00"), Decimal("0E-30"), Decimal("0E+30"), Decimal("-0E+30")])
def test_a_zero_is_zero(amount: Decimal) -> None:
    command: Any = parse_command(order(unit_price=amount, amount=amount))

    assert to_minor(command.lines[0].unit_price, "USD") == 0


def test_a_limit_of_a_text_a_list_or_a_number_is_said_in_words() -> None:
    for changes, told in [
        ({"name": "x" * 2001}, "customer.name: must have at most 2,000 characters"),
        ({"sku": "x" * 129}, "lines[0].sku: must have at most 128 characters"),
        ({"order_id": ""}, "order_id: must have at least 1 character"),
        ({"lines": []}, "lines: must have at least 1 element"),
        ({"lines": [{}] * 1001}, "lines"),
    ]:
        with pytest.raises(Impossible) as refused:
            parse_command(order(**changes))
        assert refused.value.message.startswith(told)
    with pytest.raises(Impossible, match=r"lines\[0\]\.quantity: must be at most 1,000,000"):
        parse_command(order() | {"lines": [order()["lines"][0] | {"quantity": 10**7}]})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"order_id": 7}, "order_id: must be a string"),
        ({"lines": {"1": 2}}, "lines: must be a list"),
        ({"lines": ["1"]}, "lines[0]: must be an object"),
        ({"lines": [{"line_id": "1", "quantity": "1"}]}, "lines[0].quantity: must be a whole number"),
        ({"resolution": "money"}, "resolution: must be 'refund' or 'exchange'"),
        ({"coupon": "X"}, "coupon: is not a known field"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_in_plain_words(wrong: dict[str, Any], says: str) -> None:
    right = {"return_id": "R", "order_id": "A", "lines": [{"line_id": "1", "quantity": 1}], "channel": "portal"}
    assert parse_command({"command": "request_return", **right})

    with pytest.raises(Impossible) as refused:
        parse_command({"command": "request_return", **right, **wrong})

    assert str(refused.value) == says
