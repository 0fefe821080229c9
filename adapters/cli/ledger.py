"""``returnable ledger``: the money of every payment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import click

from returnable.adapters.cli.lists import answering, list_options, print_rows
from returnable.domain.case import unknown
from returnable.projections.lists import Values

_MONEY_COLUMNS = ("captured", "refunded", "pending", "remaining")
_LEDGER_COLUMNS = ("order_id", "payment_id", "method", "currency", *_MONEY_COLUMNS)


@click.command()
@click.argument("order_id", required=False)
@list_options
def ledger(order_id: str | None, as_json: bool, **source: Any) -> None:
    """The money of every payment: captured, refunded, remaining. With an ORDER_ID, only the payments of that order.

    remaining = captured - refunded - pending. Pending is money whose refund was requested and has no answer yet.

    \b
    returnable ledger
    returnable ledger A-1 --as-of 2026-03-17T00:00:00-04:00
    """
    totals: dict[str, dict[str, Decimal]] = {}

    def added(values: Iterable[Values]) -> Iterator[Values]:
        for one in values:
            total = totals.setdefault(one["currency"], dict.fromkeys(_MONEY_COLUMNS, Decimal(0)))
            for name in _MONEY_COLUMNS:
                total[name] += Decimal(one[name])
            yield one
        if order_id is None and not as_json:
            for currency, total in sorted(totals.items()):
                sums = {name: str(total[name]) for name in _MONEY_COLUMNS}
                yield {"order_id": "TOTAL", "payment_id": None, "method": None, "currency": currency} | sums

    with answering("ledger", **source) as (stored, questions, as_of, known_at):
        if order_id is not None and not any(questions.store.load_until_damage(order_id)):
            raise unknown("order", order_id)
        found = stored.ledger(order_id) if stored is not None else questions.ledger(order_id, as_of, known_at)
        print_rows(_LEDGER_COLUMNS, added(found), as_json, right=_MONEY_COLUMNS)
