"""Amounts of money: whole minor units of an ISO 4217 currency, never a float.

An amount travels as a decimal string in major units (``"479.99"``) and is an ``int`` of minor units (``47999``)
everywhere inside. The currency belongs to the order, so that the two are never mixed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import cache

_ZERO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
_FOUR_DECIMALS = "CLF UYW"
_TWO_DECIMALS = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF "
    "CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF "
    "IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN "
    "MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS "
    "SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)

MINOR_UNIT_DIGITS: dict[str, int] = {
    code: digits
    for digits, codes in ((0, _ZERO_DECIMALS), (2, _TWO_DECIMALS), (3, _THREE_DECIMALS), (4, _FOUR_DECIMALS))
    for code in codes.split()
}
"""ISO 4217 currency code → digits after the decimal point."""

LONGEST_AMOUNT = 40
"""The most characters of an amount."""

AMOUNT_PATTERN = r"^(-?0(\.0+)?|(0|[1-9][0-9]{0,11})(\.[0-9]+)?)$"
"""One amount that somebody gives: not negative, in major units, below a trillion. A sum of amounts may exceed it."""

_AMOUNT = re.compile(AMOUNT_PATTERN)

_SIGNS = {
    "$": "USD ARS AUD BBD BMD BND BRL BSD BZD CAD CLP COP CVE DOP FJD GYD HKD JMD KYD LRD MXN NAD NIO NZD SBD SGD SRD TOP "
    "TTD TWD UYU WST XCD",
    "€": "EUR",
    "£": "GBP EGP FKP GIP LBP SDG SHP SSP SYP",
    "¥": "JPY CNY",
    "¢": "GHS",
    "֏": "AMD",
    "؋": "AFN",
    "৳": "BDT",
    "฿": "THB",
    "៛": "KHR",
    "₡": "CRC",
    "₦": "NGN",
    "₨": "INR LKR MUR NPR PKR SCR",
    "₩": "KRW KPW",
    "₪": "ILS",
    "₫": "VND",
    "₭": "LAK",
    "₮": "MNT",
    "₱": "PHP CUP",
    "₲": "PYG",
    "₴": "UAH",
    "₵": "GHS",
    "₸": "KZT",
    "₹": "INR",
    "₺": "TRY",
    "₼": "AZN",
    "₽": "RUB",
    "₾": "GEL",
    "\u20c0": "KGS",
    "\u20c1": "SAR",
    "﷼": "IRR OMR QAR SAR YER",
}
CURRENCY_SIGNS = {sign: frozenset(codes.split()) for sign, codes in _SIGNS.items()}
CURRENCY_SIGNS |= {wide: CURRENCY_SIGNS[sign] for wide, sign in zip("＄﹩￠￡￥￦", "$$¢£¥₩", strict=True)}
"""Sign → the ISO 4217 codes of the currencies that are written with it, from the Unicode CLDR 46 and the names in Unicode."""


class MoneyInvalid(ValueError):
    """The text is not an amount of the currency, or the currency is not one."""


@cache
def minor_unit_digits(currency: str) -> int:
    """Digits after the decimal point of an ISO 4217 currency.

    >>> minor_unit_digits("USD"), minor_unit_digits("JPY")
    (2, 0)
    """
    try:
        return MINOR_UNIT_DIGITS[currency]
    except KeyError:
        raise MoneyInvalid(f"{currency!r} is not an ISO 4217 currency code") from None


def plain_amount(amount: str) -> str:
    """The amount that somebody gives, with no sign on a zero; raises :class:`MoneyInvalid` where it is not an amount.

    >>> plain_amount("60.0000"), plain_amount("-0.00")
    ('60.0000', '0.00')
    """
    if len(amount) > LONGEST_AMOUNT:
        raise MoneyInvalid(f"must be a decimal amount of at most {LONGEST_AMOUNT} characters")
    if not _AMOUNT.fullmatch(amount):
        if re.fullmatch(r"-[0-9]+(\.[0-9]+)?", amount):
            raise MoneyInvalid("must not be negative")
        if re.fullmatch(r"[1-9][0-9]{12,}(\.[0-9]+)?", amount):
            raise MoneyInvalid("must be a decimal amount of less than a trillion")
        raise MoneyInvalid('must be a non-negative decimal string such as "750.00"')
    return amount.removeprefix("-")


def to_minor(amount: str, currency: str) -> int:
    """Minor units of a decimal amount in major units; more digits than the currency has are refused, unless they are zeros.

    >>> to_minor("479.99", "USD"), to_minor("5.0000", "USD"), to_minor("1200.00", "JPY")
    (47999, 500, 1200)
    >>> to_minor("0.005", "USD")
    Traceback (most recent call last):
        ...
    returnable.domain.money.MoneyInvalid: '0.005' has more than the 2 decimal places of USD
    """
    return sum_to_minor(plain_amount(amount), currency)


def sum_to_minor(total: str, currency: str) -> int:
    """Minor units of what :func:`to_major` wrote. A sum of amounts has no largest value, and may be negative.

    >>> sum_to_minor("1000000000000.00", "USD"), sum_to_minor("-0.05", "USD")
    (100000000000000, -5)
    """
    digits = minor_unit_digits(currency)
    whole, _, fraction = total.partition(".")
    if fraction[digits:].strip("0"):
        raise MoneyInvalid(f"{total!r} has more than the {digits} decimal places of {currency}")
    return int(whole + fraction[:digits].ljust(digits, "0"))


def to_major(minor: int, currency: str) -> str:
    """The decimal string of an amount of minor units, with all the digits the currency has.

    >>> to_major(47999, "USD"), to_major(-5, "USD"), to_major(1200, "JPY")
    ('479.99', '-0.05', '1200')
    """
    digits = minor_unit_digits(currency)
    if not digits:
        return str(minor)
    sign = "-" if minor < 0 else ""
    text = str(abs(minor)).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}"


def decimal_to_minor(amount: Decimal, currency: str) -> int:
    """Minor units of an exact ``Decimal`` in a policy file, whose author knows how many digits the currency has."""
    text = format(amount, "f")
    if amount.is_signed() or len(text.partition(".")[2]) > minor_unit_digits(currency):
        raise MoneyInvalid(f"{text[:40]!r} is negative, or has more digits than {currency}")
    return to_minor(text, currency)


def split(total: int, weights: Sequence[int]) -> list[int]:
    """Split ``total`` minor units in proportion to ``weights``, exact to the unit, by largest remainder.

    Ties go to the earlier share; no share exceeds its weight while ``total`` does not exceed the sum of the weights.

    >>> split(100, [1, 1, 1])
    [34, 33, 33]
    >>> split(47999, [30000, 19999])
    [28800, 19199]
    """
    whole = sum(weights)
    if total < 0 or any(weight < 0 for weight in weights):
        raise ValueError("only non-negative amounts are split")
    if whole == 0:
        if total:
            raise ValueError("nothing to split over")
        return [0] * len(weights)
    shares = [total * weight // whole for weight in weights]
    remainders = [total * weight % whole for weight in weights]
    left = total - sum(shares)
    for index in sorted(range(len(weights)), key=lambda i: (-remainders[i], i))[:left]:
        shares[index] += 1
    return shares
